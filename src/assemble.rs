//! Instances to a complete study: when is the last image there?
//!
//! A pure decision over times. A revision is complete after a quiet period without a new
//! instance, at the latest after a cap, or at once by an operator's word (which does not pass
//! here). What comes later opens the next revision.

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Seconds without a new instance after which a study counts as complete.
    pub quiet_period_s: u64,
    /// Seconds after the first instance at which it counts as complete whatever still comes.
    pub cap_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { quiet_period_s: 30, cap_s: 1800 }
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
    }
}

/// What is known of a revision that still takes instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrivals {
    pub first_at: Timestamp,
    pub last_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Ask again at this time, or when an instance has come.
    Wait { until: Timestamp },
    /// No more instances for this revision; the reason is for people.
    Complete { reason: String },
}

/// Whether a revision is complete at `now`. A clock that was set back (`now` before the last
/// arrival by more than the quiet period) counts as quiet: no study waits for a clock to catch up.
pub fn judge(arrivals: Arrivals, config: &Config, now: Timestamp) -> Verdict {
    let seconds = |s: u64| SignedDuration::from_secs(s.min(86_400) as i64);
    let (quiet, cap) = (seconds(config.quiet_period_s), seconds(config.cap_s));
    let quiet_at = arrivals.last_at.saturating_add(quiet).unwrap_or(Timestamp::MAX);
    let cap_at = arrivals.first_at.saturating_add(cap).unwrap_or(Timestamp::MAX);
    let set_back = arrivals.last_at.duration_since(now) > quiet;
    if now >= quiet_at || set_back {
        let reason = format!("no instance for {} s", config.quiet_period_s);
        Verdict::Complete { reason }
    } else if now >= cap_at {
        let reason = format!("still receiving {} s after the first instance", config.cap_s);
        Verdict::Complete { reason }
    } else {
        Verdict::Wait { until: quiet_at.min(cap_at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    #[test]
    fn a_study_is_complete_after_its_quiet_period_or_its_cap() {
        let config = Config { quiet_period_s: 30, cap_s: 120 };
        let quiet = Verdict::Complete { reason: "no instance for 30 s".into() };
        let capped =
            Verdict::Complete { reason: "still receiving 120 s after the first instance".into() };
        for (first, last, now, expected) in [
            (0, 0, 0, Verdict::Wait { until: at(30) }),
            (0, 20, 49, Verdict::Wait { until: at(50) }),
            (0, 20, 50, quiet.clone()),
            (0, 119, 119, Verdict::Wait { until: at(120) }),
            (0, 119, 120, capped),
            // The clock was set back by a day: nobody waits a day.
            (0, 20, -86_400, quiet),
        ] {
            let arrivals = Arrivals { first_at: at(first), last_at: at(last) };
            assert_eq!(judge(arrivals, &config, at(now)), expected, "{first} {last} {now}");
        }
    }

    #[test]
    fn a_cap_below_the_quiet_period_is_named() {
        let mut problems = Vec::new();
        Config { quiet_period_s: 0, cap_s: 100_000 }.check("assemble", &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("assemble.quiet_period_s = 0: use 1 to 3600"));
    }
}
