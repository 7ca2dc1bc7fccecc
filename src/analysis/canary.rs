//! Canaries: a new gateway takes over from another in stages, on a growing share of the studies,
//! and goes back by itself when it fails or is slow.

use std::collections::VecDeque;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::pool;
use crate::domain::canary::Phase;
use crate::domain::uid::StudyUid;

/// Calls from which on a candidate can be rolled back: fewer say nothing of a rate.
const CALLS_TO_JUDGE: usize = 20;
/// Calls, and comparisons, that are remembered.
const WINDOW_MAX: usize = 1000;

/// `[analysis.canaries.NAME]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Canary {
    /// The gateway whose studies it takes.
    pub of: String,
    pub candidate: String,
    /// Per cent of the studies in each stage.
    pub stages: Vec<f64>,
    /// How long a stage takes at least.
    pub stage_hours: u32,
    /// Calls of the candidate that a stage takes at least.
    pub calls_min: usize,
    /// Share of failed calls above which it is rolled back.
    pub error_rate_max: f64,
    /// 99th percentile of its calls above which it is rolled back.
    pub p99_ms_max: u64,
    /// Shows it the other studies too, without effect.
    pub mirror: bool,
    /// Share of the mirrored studies that it reads differently above which there is an alarm.
    pub difference_max: f64,
}

impl Default for Canary {
    fn default() -> Canary {
        Canary {
            of: String::new(),
            candidate: String::new(),
            stages: vec![5.0, 20.0, 50.0, 100.0],
            stage_hours: 24,
            calls_min: 50,
            error_rate_max: 0.02,
            p99_ms_max: 60_000,
            mirror: false,
            difference_max: 0.2,
        }
    }
}

impl Canary {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let grows = self.stages.windows(2).all(|pair| pair[0] < pair[1]);
        let in_range = self.stages.iter().all(|share| *share > 0.0 && *share <= 100.0);
        if self.stages.is_empty() || !grows || !in_range {
            problems.push(format!(
                "{at}.stages = {:?}: growing shares above 0 and up to 100 (default 5, 20, 50, 100)",
                self.stages
            ));
        }
        for (key, found) in
            [("error_rate_max", self.error_rate_max), ("difference_max", self.difference_max)]
        {
            if !(0.0..=1.0).contains(&found) {
                problems.push(format!("{at}.{key} = {found}: use 0 to 1"));
            }
        }
        if self.of == self.candidate {
            problems.push(format!("{at}: of and candidate are the same gateway"));
        }
    }

    /// Whether the candidate reads this study. Who was in a smaller stage stays in the larger.
    pub fn takes(&self, name: &str, study: &StudyUid, phase: &Phase) -> bool {
        let percent = match phase {
            Phase::Stage { number } => self.stages.get(*number).copied().unwrap_or(0.0),
            Phase::Promoted => 100.0,
            Phase::RolledBack => 0.0,
        };
        pool::share(name, study) * 100.0 < percent
    }

    /// Where it goes from here, and why; `None`: it stays.
    ///
    /// - `since`: the beginning of the phase.
    pub fn next(
        &self,
        phase: &Phase,
        since: Timestamp,
        window: &Window,
        now: Timestamp,
    ) -> Option<(Phase, String)> {
        let number = match phase {
            Phase::Stage { number } => *number,
            // Only an operator's word moves it then; failing sends it back also after promotion.
            Phase::Promoted => self.stages.len(),
            Phase::RolledBack => return None,
        };
        let (calls, failed) = (window.calls.len(), window.failed());
        if calls >= CALLS_TO_JUDGE {
            let rate = failed as f64 / calls as f64;
            if rate > self.error_rate_max {
                let why = format!("{failed} of {calls} calls failed");
                return Some((Phase::RolledBack, why));
            }
            let p99 = window.p99_ms();
            if p99 > self.p99_ms_max {
                let why = format!("the 99th percentile of {calls} calls is {p99} ms");
                return Some((Phase::RolledBack, why));
            }
        }
        let hours = SignedDuration::from_hours(i64::from(self.stage_hours));
        let is_due = now.duration_since(since) >= hours && calls >= self.calls_min;
        if !is_due || *phase == Phase::Promoted {
            return None;
        }
        let why =
            format!("{failed} of {calls} calls failed, 99th percentile {} ms", window.p99_ms());
        match number + 1 < self.stages.len() {
            true => Some((Phase::Stage { number: number + 1 }, why)),
            false => Some((Phase::Promoted, why)),
        }
    }
}

/// What the candidate did in this phase, since this node has started.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Window {
    /// Milliseconds, and whether it failed.
    calls: VecDeque<(u64, bool)>,
    /// Whether a mirrored study was read differently.
    compared: VecDeque<bool>,
}

impl Window {
    pub fn called(&mut self, latency_ms: u64, failed: bool) {
        self.calls.push_back((latency_ms, failed));
        if self.calls.len() > WINDOW_MAX {
            self.calls.pop_front();
        }
    }

    pub fn compared(&mut self, differs: bool) {
        self.compared.push_back(differs);
        if self.compared.len() > WINDOW_MAX {
            self.compared.pop_front();
        }
    }

    pub fn calls(&self) -> usize {
        self.calls.len()
    }

    pub fn failed(&self) -> usize {
        self.calls.iter().filter(|(_, failed)| *failed).count()
    }

    /// 0 without calls.
    pub fn p99_ms(&self) -> u64 {
        let mut sorted: Vec<u64> = self.calls.iter().map(|(ms, _)| *ms).collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
        sorted.get(rank).copied().unwrap_or(0)
    }

    /// Share of the mirrored studies that it read differently, and how many there were.
    pub fn difference(&self) -> (f64, usize) {
        let differ = self.compared.iter().filter(|differs| **differs).count();
        (differ as f64 / self.compared.len().max(1) as f64, self.compared.len())
    }

    /// Whether the alarm is on.
    pub fn is_different(&self, canary: &Canary) -> bool {
        let (share, compared) = self.difference();
        compared >= CALLS_TO_JUDGE && share > canary.difference_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(calls: usize, failed: usize, ms: u64) -> Window {
        let mut window = Window::default();
        for nth in 0..calls {
            window.called(ms, nth < failed);
        }
        window
    }

    #[test]
    fn a_candidate_goes_on_goes_back_or_stays_by_time_calls_failures_and_speed() {
        let canary = Canary { p99_ms_max: 1000, ..Canary::default() };
        let stage = |number| Phase::Stage { number };
        use Phase::Promoted;
        use Phase::RolledBack;
        for (phase, hours, window, next) in [
            (stage(0), 24, window(50, 1, 10), Some(stage(1))),
            (stage(0), 23, window(50, 1, 10), None),
            (stage(0), 24, window(49, 0, 10), None),
            (stage(0), 0, window(20, 1, 10), Some(RolledBack)),
            (stage(0), 0, window(19, 19, 10), None),
            (stage(2), 1, window(20, 0, 1001), Some(RolledBack)),
            (stage(2), 24, window(50, 0, 1000), Some(stage(3))),
            (stage(3), 24, window(50, 0, 10), Some(Promoted)),
            (Promoted, 99, window(50, 0, 10), None),
            (Promoted, 99, window(100, 3, 10), Some(RolledBack)),
            (RolledBack, 99, window(100, 0, 10), None),
        ] {
            let now = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
            let found = canary.next(&phase, Timestamp::UNIX_EPOCH, &window, now);
            let told = format!("{phase:?} {hours} {found:?}");
            assert_eq!(found.map(|(phase, _)| phase), next, "{told}");
        }
    }

    #[test]
    fn a_stage_takes_its_share_and_keeps_those_it_had() {
        let canary = Canary::default();
        let takes = |n: u32, number| {
            let study = StudyUid::parse(&format!("1.2.{n}")).unwrap();
            canary.takes("new", &study, &Phase::Stage { number })
        };
        for (number, expected) in [(0, 250), (1, 1000), (2, 2500), (3, 5000)] {
            let taken = (0..5000).filter(|n| takes(*n, number)).count();
            assert!(taken.abs_diff(expected) < 120, "stage {number}: {taken}");
        }
        assert!((0..5000).filter(|n| takes(*n, 0)).all(|n| takes(n, 1) && takes(n, 2)));
    }

    #[test]
    fn one_slow_call_in_a_hundred_is_no_slow_candidate_and_differences_are_a_share() {
        let mut many = window(99, 0, 10);
        many.called(9000, false);
        assert_eq!(many.p99_ms(), 10);
        many.called(9000, false);
        assert_eq!((many.p99_ms(), Window::default().p99_ms()), (9000, 0));
        let canary = Canary::default();
        for n in 0..20 {
            assert!(!many.is_different(&canary), "{n} are too few");
            many.compared(n % 4 == 0);
        }
        assert!(many.is_different(&canary));
        assert_eq!(many.difference(), (0.25, 20));
    }
}
