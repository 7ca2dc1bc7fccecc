//! Instances to a complete study: when is the last image there?
//!
//! A pure decision over times and counts. A revision is complete at once when everything is there
//! that a modality or an archive says there is, else after a quiet period without a new instance,
//! at the latest after a cap, or by an operator's word (which does not pass here). What comes later
//! opens the next revision.

pub mod required;
pub mod silence;

use std::collections::BTreeMap;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::tls_client;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds without a new instance after which a study counts as complete.
    pub quiet_period_s: u64,
    /// Seconds after the first instance at which it counts as complete whatever still comes.
    pub cap_s: u64,
    /// Whether the quiet period follows each source's own habits once 20 of its studies are known.
    pub adapt: bool,
    /// Within these.
    pub quiet_min_s: u64,
    pub quiet_max_s: u64,
    /// The quiet period of a study of which images are known to be missing.
    pub incomplete_wait_s: u64,
    /// Series that must be there, by name: `[assemble.required.ct_head]`.
    pub required: BTreeMap<String, required::Rule>,
    /// Calling AE titles of systems in which doctors write reports: their structured reports and PDFs
    /// are final reports though no person is named in them.
    pub reporting_systems: Vec<String>,
    /// An archive that knows how many instances a study has.
    pub query: Query,
    /// Who is missed when nothing comes.
    pub silence: silence::Config,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            quiet_period_s: 30,
            cap_s: 1800,
            adapt: true,
            quiet_min_s: 10,
            quiet_max_s: 300,
            incomplete_wait_s: 180,
            required: BTreeMap::new(),
            reporting_systems: Vec::new(),
            query: Query::default(),
            silence: silence::Config::default(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// `AE@host:port` of an archive that is asked how many instances a study has. Empty: none.
    pub archive: String,
    /// Seconds between two questions about one study.
    pub interval_s: u64,
    /// Answers in a row that must be the same; 1 where the archive sends only what it holds whole.
    pub answers_equal: u32,
    /// Questions about one revision of a study.
    pub tries_max: u32,
    /// Seconds to connect, and for each answer.
    pub timeout_s: u64,
    /// None: without TLS.
    pub tls: Option<tls_client::Config>,
}

impl Default for Query {
    fn default() -> Query {
        let archive = String::new();
        Query { archive, interval_s: 5, answers_equal: 2, tries_max: 20, timeout_s: 10, tls: None }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let quiet = self.quiet_period_s;
        if !(1..=3600).contains(&quiet) {
            let why = "a shorter pause splits one study in two, a longer one delays its alert";
            problems
                .push(format!("{at}.quiet_period_s = {quiet}: use 1 to 3600 (default 30); {why}"));
        }
        let cap = self.cap_s;
        if !(quiet..=86_400).contains(&cap) {
            let why = "a sender that never pauses would keep its study from being read";
            problems
                .push(format!("{at}.cap_s = {cap}: use {quiet} to 86400 (default 1800); {why}"));
        }
        for (key, found, usual) in
            [("quiet_min_s", self.quiet_min_s, 10), ("quiet_max_s", self.quiet_max_s, 300)]
        {
            if !(1..=3600).contains(&found) {
                let why = "a shorter pause splits one study in two, a longer one delays its alert";
                problems
                    .push(format!("{at}.{key} = {found}: use 1 to 3600 (default {usual}); {why}"));
            }
        }
        let wait = self.incomplete_wait_s;
        if wait > 86_400 {
            let why = "a study that stays incomplete must be read too";
            problems.push(format!(
                "{at}.incomplete_wait_s = {wait}: use 0 to 86400 (default 180); {why}"
            ));
        }
        for (name, rule) in &self.required {
            rule.check(&format!("{at}.required.{name}"), problems);
        }
        self.query.check(&format!("{at}.query"), problems);
        self.silence.check(&format!("{at}.silence"), problems);
    }
}

impl Query {
    fn check(&self, at: &str, problems: &mut Vec<String>) {
        if !self.archive.is_empty() && self.target().is_none() {
            problems.push(format!(
                "{at}.archive = {:?}: use AE@host:port, e.g. \"PACS@10.0.0.5:104\"; nobody could be asked",
                self.archive
            ));
        }
        if let (Some(tls), Some((_, address))) = (&self.tls, self.target()) {
            tls.check(&format!("{at}.tls"), &address, problems);
        }
        let defaults = Query::default();
        let storm = "too often is a storm for the archive, too seldom tells nothing";
        for (key, found, from, to, usual) in [
            ("interval_s", self.interval_s, 1, 3600, defaults.interval_s),
            ("answers_equal", self.answers_equal.into(), 1, 10, defaults.answers_equal.into()),
            ("tries_max", self.tries_max.into(), 1, 1000, defaults.tries_max.into()),
            ("timeout_s", self.timeout_s, 1, 120, defaults.timeout_s),
        ] {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {usual}); {storm}"
                ));
            }
        }
    }

    /// AE title and address. None: nobody is asked.
    pub fn target(&self) -> Option<(crate::domain::ae_title::AeTitle, String)> {
        let (ae_title, address) = self.archive.split_once('@')?;
        let (host, port) = address.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let ae_title = crate::domain::ae_title::AeTitle::parse(ae_title).ok()?;
        (!host.is_empty() && port > 0).then(|| (ae_title, address.to_owned()))
    }
}

/// What is known of a revision that still takes instances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrivals {
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    /// What a modality or an archive says of the study; None where nobody does, and where what it
    /// says was fulfilled before this revision.
    pub expected: Option<Expected>,
    /// The rule that the study does not fulfil.
    pub unmet: Option<Missing>,
    /// A modality says that it is still at it (MPPS IN PROGRESS, PS3.4 F.7.2.1): quiet means nothing.
    pub goes_on: bool,
}

/// How many instances a study has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    pub instances: u32,
    /// How many of them are not here.
    pub missing: u32,
    /// Who says so: "MPPS".
    pub by: String,
}

/// What did not come, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    pub what: String,
    pub expected: u32,
    pub received: u32,
}

impl Expected {
    fn shortfall(&self) -> Option<Missing> {
        let received = self.instances.saturating_sub(self.missing);
        (self.missing > 0).then(|| Missing {
            what: format!("{received} of {} images came ({})", self.instances, self.by),
            expected: self.instances,
            received,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again at this time, or when an instance has come.
    Wait { until: Timestamp },
    /// No more instances for this revision; the reason is for people, and what is missing is an
    /// alarm.
    Complete { reason: String, missing: Option<Missing> },
}

/// Whether a revision is complete at `now`. A clock that was set back (`now` before the last
/// arrival by more than the quiet period) counts as quiet: no study waits for a clock to catch up.
///
/// - `quiet_s`: the quiet period of its source, see [`quiet_period_s`].
pub fn judge(arrivals: &Arrivals, quiet_s: u64, config: &Config, now: Timestamp) -> Verdict {
    let shortfall = arrivals.expected.as_ref().and_then(Expected::shortfall);
    let missing = shortfall.or_else(|| arrivals.unmet.clone());
    if let (Some(expected), None, false) = (&arrivals.expected, &missing, arrivals.goes_on) {
        let reason = format!("all {} images came ({})", expected.instances, expected.by);
        return Verdict::Complete { reason, missing: None };
    }
    let quiet_s = match missing {
        Some(_) => quiet_s.max(config.incomplete_wait_s),
        None => quiet_s,
    };
    let seconds = |s: u64| SignedDuration::from_secs(s.min(86_400) as i64);
    let (quiet, cap) = (seconds(quiet_s), seconds(config.cap_s));
    let cap_at = arrivals.first_at.saturating_add(cap).unwrap_or(Timestamp::MAX);
    let quiet_at = match arrivals.goes_on {
        true => Timestamp::MAX,
        false => arrivals.last_at.saturating_add(quiet).unwrap_or(Timestamp::MAX),
    };
    let set_back = arrivals.last_at.duration_since(now) > quiet;
    let why = missing.as_ref().map(|missing| format!("{}; ", missing.what)).unwrap_or_default();
    if now >= quiet_at || set_back {
        Verdict::Complete { reason: format!("{why}no instance for {quiet_s} s"), missing }
    } else if now >= cap_at {
        let cap_s = config.cap_s;
        let still = match missing {
            _ if arrivals.goes_on => "still in progress (MPPS)",
            Some(_) => "waited",
            None => "still receiving",
        };
        let reason = format!("{why}{still} {cap_s} s after the first instance");
        Verdict::Complete { reason, missing }
    } else {
        Verdict::Wait { until: quiet_at.min(cap_at) }
    }
}

/// Studies of a source from which on its own habits count.
const PAUSES_MIN: usize = 20;
/// A quiet period is this many times the pause that 98 of 100 studies of the source stay below.
const PAUSE_FACTOR: u64 = 3;

/// The quiet period of a source.
///
/// - `pauses_ms`: the longest pause within each of its last studies.
pub fn quiet_period_s(pauses_ms: &[u64], config: &Config) -> u64 {
    if !config.adapt || pauses_ms.len() < PAUSES_MIN {
        return config.quiet_period_s;
    }
    let mut sorted = pauses_ms.to_vec();
    sorted.sort_unstable();
    // The smallest pause that at least 98 % do not exceed.
    let rank = (sorted.len() * 98).div_ceil(100).clamp(1, sorted.len());
    let wanted = (sorted[rank - 1] * PAUSE_FACTOR).div_ceil(1000);
    let least = config.quiet_min_s.min(config.quiet_period_s);
    let most = config.quiet_max_s.max(config.quiet_period_s).max(least);
    wanted.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn config() -> Config {
        Config { quiet_period_s: 30, cap_s: 120, incomplete_wait_s: 60, ..Config::default() }
    }

    fn complete(reason: &str, missing: Option<Missing>) -> Verdict {
        Verdict::Complete { reason: reason.into(), missing }
    }

    #[test]
    fn a_study_is_complete_after_its_quiet_period_or_its_cap() {
        let quiet = complete("no instance for 30 s", None);
        let capped = complete("still receiving 120 s after the first instance", None);
        for (first, last, now, expected) in [
            (0, 0, 0, Verdict::Wait { until: at(30) }),
            (0, 20, 49, Verdict::Wait { until: at(50) }),
            (0, 20, 50, quiet.clone()),
            (0, 119, 119, Verdict::Wait { until: at(120) }),
            (0, 119, 120, capped),
            // The clock was set back by a day: nobody waits a day.
            (0, 20, -86_400, quiet),
        ] {
            let (first_at, last_at) = (at(first), at(last));
            let arrivals =
                Arrivals { first_at, last_at, expected: None, unmet: None, goes_on: false };
            assert_eq!(judge(&arrivals, 30, &config(), at(now)), expected, "{first} {last} {now}");
        }
    }

    /// Between two series a patient is turned round: minutes in which nothing comes.
    #[test]
    fn while_a_modality_says_that_it_goes_on_a_study_waits_to_the_cap() {
        let all = Some(Expected { instances: 3, missing: 0, by: "an archive".to_owned() });
        let capped = "still in progress (MPPS) 120 s after the first instance";
        for (expected, now, verdict) in [
            (None, 30, Verdict::Wait { until: at(120) }),
            (None, 119, Verdict::Wait { until: at(120) }),
            (None, 120, complete(capped, None)),
            (all, 30, Verdict::Wait { until: at(120) }),
            (None, -86_400, complete("no instance for 30 s", None)),
        ] {
            let (first_at, last_at) = (at(0), at(0));
            let arrivals = Arrivals { first_at, last_at, expected, unmet: None, goes_on: true };
            assert_eq!(judge(&arrivals, 30, &config(), at(now)), verdict, "{arrivals:?} {now}");
        }
    }

    /// Everything that was announced is there: at once. Something is not: it is waited for, then
    /// read without it, and never silently.
    #[test]
    fn what_is_expected_decides() {
        let by_mpps = |missing| Some(Expected { instances: 120, missing, by: "MPPS".to_owned() });
        let rule = Missing { what: "1 of 2 CT series came".into(), expected: 2, received: 1 };
        let short =
            Missing { what: "118 of 120 images came (MPPS)".into(), expected: 120, received: 118 };
        for (expected, unmet, last, now, verdict) in [
            (by_mpps(0), None, 0, 0, complete("all 120 images came (MPPS)", None)),
            (by_mpps(2), None, 0, 59, Verdict::Wait { until: at(60) }),
            (
                by_mpps(2),
                None,
                0,
                60,
                complete(
                    "118 of 120 images came (MPPS); no instance for 60 s",
                    Some(short.clone()),
                ),
            ),
            (
                by_mpps(2),
                None,
                100,
                120,
                complete(
                    "118 of 120 images came (MPPS); waited 120 s after the first instance",
                    Some(short),
                ),
            ),
            (by_mpps(0), Some(rule.clone()), 0, 30, Verdict::Wait { until: at(60) }),
            (
                None,
                Some(rule.clone()),
                0,
                60,
                complete("1 of 2 CT series came; no instance for 60 s", Some(rule)),
            ),
        ] {
            let (first_at, last_at) = (at(0), at(last));
            let arrivals = Arrivals { first_at, last_at, expected, unmet, goes_on: false };
            assert_eq!(judge(&arrivals, 30, &config(), at(now)), verdict, "{arrivals:?} {now}");
        }
    }

    #[test]
    fn the_quiet_period_follows_the_pauses_of_its_source() {
        let same = |ms: u64, n: usize| vec![ms; n];
        let mostly_fast = [same(200, 99), same(60_000, 1)].concat();
        let sometimes_slow = [same(200, 95), same(60_000, 5)].concat();
        for (name, pauses, expected) in [
            ("nothing is known", vec![], 30),
            ("too little is known", same(100, 19), 30),
            ("a fast sender", same(100, 20), 10),
            ("as fast as it can be", same(0, 200), 10),
            ("4 s between series", same(4_100, 50), 13),
            ("one study in a hundred is not a habit", mostly_fast, 10),
            ("one in twenty is", sometimes_slow, 180),
            ("slow beyond the limit", same(400_000, 50), 300),
        ] {
            assert_eq!(quiet_period_s(&pauses, &Config::default()), expected, "{name}");
        }
        let fixed = Config { adapt: false, ..Config::default() };
        assert_eq!(quiet_period_s(&same(100, 200), &fixed), 30);
        // A site that set it outside of the limits means it.
        let short = Config { quiet_period_s: 1, ..Config::default() };
        assert_eq!(quiet_period_s(&same(0, 200), &short), 1);
    }

    #[test]
    fn values_that_cannot_work_are_named() {
        let mut problems = Vec::new();
        Config { quiet_period_s: 0, cap_s: 100_000, ..Config::default() }
            .check("assemble", &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("assemble.quiet_period_s = 0: use 1 to 3600"));
        problems.clear();
        let query = Query { archive: "PACS".into(), interval_s: 0, ..Query::default() };
        Config { query, ..Config::default() }.check("assemble", &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("assemble.query.archive = \"PACS\": use AE@host:port"));
    }
}
