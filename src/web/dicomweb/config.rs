//! Section `http.dicomweb`.

use serde::Deserialize;
use serde::Serialize;

/// DICOMweb (PS3.18) at `/dicom-web`, for those who may see the page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub enabled: bool,
    /// Its address for clients, where a proxy in front changes it; empty: as a request's Host says.
    pub url: String,
    /// Origins whose pages may ask, e.g. `https://viewer.hospital.example`; empty: only our own.
    pub origins: Vec<String>,
    /// Results of a search that sets no limit, and at most.
    pub results_default: usize,
    pub results_max: usize,
    /// Stores (STOW-RS) at one time.
    pub stores_max: usize,
    /// Seconds for one store, whatever its size.
    pub store_timeout_s: u64,
    /// Searches worked on, and answers of images and headers being made and sent, at one time; more
    /// wait for their turn.
    pub answers_max: usize,
    /// Of them for one peer: who reads slowly waits alone.
    pub answers_per_peer_max: usize,
    /// Worker processes for viewers, beside those that read.
    pub workers: u32,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            enabled: true,
            url: String::new(),
            origins: Vec::new(),
            results_default: 1000,
            results_max: 10_000,
            stores_max: 8,
            store_timeout_s: 3600,
            answers_max: 32,
            answers_per_peer_max: 12,
            workers: 2,
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let standard = Config::default();
        let few = "with none nobody is served, with too many the machine runs out of memory";
        for (key, found, high, default) in [
            (
                "results_default",
                self.results_default as u64,
                10_000,
                standard.results_default as u64,
            ),
            ("results_max", self.results_max as u64, 100_000, standard.results_max as u64),
            ("stores_max", self.stores_max as u64, 256, standard.stores_max as u64),
            ("store_timeout_s", self.store_timeout_s, 86_400, standard.store_timeout_s),
            ("answers_max", self.answers_max as u64, 1024, standard.answers_max as u64),
            (
                "answers_per_peer_max",
                self.answers_per_peer_max as u64,
                1024,
                standard.answers_per_peer_max as u64,
            ),
            ("workers", self.workers.into(), 64, standard.workers.into()),
        ] {
            if !(1..=high).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use 1 to {high} (default {default}); {few}"
                ));
            }
        }
        let url = self.url.as_str();
        let absolute = url.starts_with("https://") || url.starts_with("http://");
        if !url.is_empty() && (!absolute || !url.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))
        {
            problems.push(format!(
                "{at}.url = '{}': use an address such as https://pacs.hospital.example/dicom-web; \
                 clients fetch images by it",
                url.escape_default()
            ));
        }
        for origin in &self.origins {
            let rest = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
            let good = |host: &str| {
                !host.is_empty()
                    && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/' && b != b'*')
            };
            if !rest.is_some_and(good) {
                problems.push(format!(
                    "{at}.origins has '{}': use scheme and host as a browser says them, e.g. \
                     https://viewer.hospital.example; a star would open patients to every page",
                    origin.escape_default()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_scheme_and_host() {
        let check = |origin: &str| {
            let mut problems = Vec::new();
            let config = Config { origins: vec![origin.into()], ..Config::default() };
            config.check("http.dicomweb", &mut problems);
            problems.len()
        };
        for good in ["https://viewer.hospital.example", "http://localhost:3000"] {
            assert_eq!(check(good), 0, "{good}");
        }
        for bad in ["*", "viewer", "https://", "https://*", "https://a/b", "ftp://a"] {
            assert_eq!(check(bad), 1, "{bad}");
        }
    }
}
