//! The store's settings.

use serde::Deserialize;
use serde::Serialize;

use crate::store::folder::Space;
use crate::store::retention;

/// When an instance is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// After it is synced.
    Durable,
    /// When it is written: synced within 50 ms, and before the end of the association or the
    /// answer to a storage commitment. A power cut may take what was acknowledged last, and its
    /// sender was not told.
    Relaxed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub durability: Durability,
    /// Size of a file of the journal, through which small instances and all events become durable
    /// by one sync; their files are made in the background. Up to 32 are used in turn, fewer
    /// where space is short.
    pub journal_segment_bytes: u64,
    /// Free space in the data folder below which no instance is taken (status A700). What is
    /// kept free lets the ledger, the index and the results of accepted studies be written.
    pub free_bytes_min: u64,
    /// The same as a part of the disk; the larger of the two counts.
    pub free_percent_min: f64,
    /// Free space below which a warning stands on the page, in the log and in the health, while
    /// everything works.
    pub free_bytes_warn: u64,
    /// The same as a part of the disk; the larger of the two counts.
    pub free_percent_warn: f64,
    /// Size at which the ledger goes on in the next file.
    pub ledger_segment_bytes: u64,
    /// Memory that sled may use for its pages.
    pub index_cache_bytes: u64,
    /// Hours between two comparisons of the whole index with its sum, the first soon after the
    /// start: finds what sled lost silently. 0: never.
    pub index_check_hours: u64,
    /// Hours between two looks at the whole ledger and every object, in the background, in a
    /// twentieth of the time of a processor. 0: never.
    pub data_check_hours: u64,
    /// Size of the ledger up to which a lost index is made anew before the node listens; with a
    /// larger one the node works meanwhile.
    pub index_at_once_bytes: u64,
    /// What is removed when it is delivered and old.
    pub retention: retention::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            durability: Durability::Durable,
            journal_segment_bytes: 32 << 20,
            free_bytes_min: 512 << 20,
            free_percent_min: 0.0,
            free_bytes_warn: 2 << 30,
            free_percent_warn: 5.0,
            ledger_segment_bytes: 64 << 20,
            index_cache_bytes: 24 << 20,
            index_check_hours: 24,
            data_check_hours: 168,
            index_at_once_bytes: 16 << 20,
            retention: retention::Config::default(),
        }
    }
}

impl Config {
    /// The settings with the low-water marks of this disk in bytes.
    pub fn for_disk(&self, space: &Space) -> Config {
        let part = |percent: f64| (space.total as f64 * percent / 100.0) as u64;
        Config {
            free_bytes_min: self.free_bytes_min.max(part(self.free_percent_min)),
            free_bytes_warn: self.free_bytes_warn.max(part(self.free_percent_warn)),
            ..self.clone()
        }
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let mut range = |key: &str, found: u64, from: u64, to: u64, default: u64, why: &str| {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {default}); {why}"
                ));
            }
        };
        let default = Config::default();
        let why = "with less the results of accepted studies may find no space, with more \
                   nothing would ever be accepted";
        let (found, usual) = (self.free_bytes_min, default.free_bytes_min);
        range("free_bytes_min", found, 16 << 20, 1 << 50, usual, why);
        let why = "smaller ones are synced all the time, larger ones make the start after a power cut slow";
        let (found, usual) = (self.journal_segment_bytes, default.journal_segment_bytes);
        range("journal_segment_bytes", found, 8 << 20, 256 << 20, usual, why);
        let warn = self.free_bytes_warn;
        let usual = default.free_bytes_warn;
        let why = "a warning that comes with the refusal is none";
        range("free_bytes_warn", warn, self.free_bytes_min, 1 << 50, usual, why);
        let why = "a folder is compared once in a while, not all the time";
        range("index_check_hours", self.index_check_hours, 0, 8760, default.index_check_hours, why);
        range("data_check_hours", self.data_check_hours, 0, 8760, default.data_check_hours, why);
        let why = "making a larger index takes minutes in which nothing is taken";
        let (found, usual) = (self.index_at_once_bytes, default.index_at_once_bytes);
        range("index_at_once_bytes", found, 0, 1 << 30, usual, why);
        let why = "a file is read as a whole at start";
        let (found, usual) = (self.ledger_segment_bytes, default.ledger_segment_bytes);
        range("ledger_segment_bytes", found, 1 << 20, 1 << 30, usual, why);
        let why = "less makes every look-up slow, more takes it from decoding";
        let (found, usual) = (self.index_cache_bytes, default.index_cache_bytes);
        range("index_cache_bytes", found, 8 << 20, 16 << 30, usual, why);
        self.retention.check(&format!("{at}.retention"), problems);
        for (key, percent, default) in [
            ("free_percent_min", self.free_percent_min, default.free_percent_min),
            ("free_percent_warn", self.free_percent_warn, default.free_percent_warn),
        ] {
            if !(0.0..=90.0).contains(&percent) {
                problems.push(format!(
                    "{at}.{key} = {percent}: use 0 to 90 (default {default}); with more nothing \
                     would ever be accepted"
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_cannot_work_are_named() {
        let mut problems = Vec::new();
        Config::default().check("store", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let bad = Config {
            free_bytes_min: 0,
            ledger_segment_bytes: 1,
            index_cache_bytes: 1,
            ..Config::default()
        };
        bad.check("store", &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("store.free_bytes_min = 0: use 16777216 to"));
    }
}
