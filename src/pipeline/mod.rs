//! The whole way of a study: who runs the steps, and what each step is.

pub mod alerting;
pub mod asking;
pub mod audit;
mod budget;
mod calling;
pub mod canary;
pub mod closing;
pub mod commitment;
pub mod compare;
pub mod comparing;
mod composing;
pub mod delivering;
mod disputes;
pub mod earlier;
pub mod escalating;
pub mod following;
pub mod health;
pub mod hearing;
pub mod job;
pub mod key_file;
mod key_images;
mod leaving;
mod meeting;
mod messages;
mod ordering;
pub mod origins;
#[cfg(test)]
mod outcome_tests;
pub mod proving;
mod reading;
pub mod record;
pub mod replay;
pub mod runner;
pub mod services;
pub mod statistics;
pub mod steps;
pub mod telling;
pub mod traces;
pub mod trying;
pub mod turns;
pub mod watch;
pub mod way;
pub mod whose;
pub mod word;
#[cfg(test)]
mod words_tests;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::priority::Priority;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Steps of reading that run at the same time. Decoding and inference are bounded by
    /// `worker.processes`; what waits for a gateway holds one of its `limits.calls_at_once` instead.
    pub steps_at_once: usize,
    /// Deliveries to one destination, and alerts, at the same time: runners of their own, so that an
    /// archive that does not answer delays no reading, no alert and no other destination.
    pub deliveries_at_once: usize,
    pub alerts_at_once: usize,
    /// Tries of a step that fails for a passing reason (worker killed) before a person must look.
    /// Deliveries, alerts and what waits for a gateway (`analysis.waits`) have their own, longer
    /// schedule.
    pub tries_max: u32,
    /// How soon the studies of a source are wanted, by its calling AE title: `stat`, `urgent` or
    /// `routine`. Sooner where upload, order, image or profile say so.
    pub sources: BTreeMap<String, Priority>,
    /// For crash tests only: the program ends without warning in the named step, as
    /// `<step>:before` or `<step>:after` its commit. Empty in real use.
    pub crash_at: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            steps_at_once: 8,
            deliveries_at_once: 4,
            alerts_at_once: 4,
            tries_max: 5,
            sources: BTreeMap::new(),
            crash_at: String::new(),
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let d = Config::default();
        for (key, n, usual) in [
            ("steps_at_once", self.steps_at_once, d.steps_at_once),
            ("deliveries_at_once", self.deliveries_at_once, d.deliveries_at_once),
            ("alerts_at_once", self.alerts_at_once, d.alerts_at_once),
        ] {
            if !(1..=256).contains(&n) {
                let why = "none would stop every study, too many starve the receiver";
                problems.push(format!("{at}.{key} = {n}: use 1 to 256 (default {usual}); {why}"));
            }
        }
        let n = self.tries_max;
        if !(1..=50).contains(&n) {
            let why = "a study must end in front of a person";
            problems.push(format!("{at}.tries_max = {n}: use 1 to 50 (default 5); {why}"));
        }
        let crash = self.crash_at.split_once(':');
        let known = |step: &str| job::STEP_NAMES.contains(&step);
        if !self.crash_at.is_empty()
            && !crash.is_some_and(|(step, when)| known(step) && ["before", "after"].contains(&when))
        {
            let steps = job::STEP_NAMES.join(", ");
            problems.push(format!(
                "{at}.crash_at = '{}': leave it empty; tests use <step>:before or <step>:after with one of {steps}",
                self.crash_at.escape_default()
            ));
        }
    }
}
