//! How the store is: tried, not assumed.

use std::fs;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::sync::PoisonError;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Serialize;

use crate::files;
use crate::store::commit::Shared;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::open;
use crate::store::rows::JobCounts;

/// How long something that is over is shown.
const ALARM_SHOWN: SignedDuration = SignedDuration::from_hours(24);
/// Lost parts of the ledger that are named one by one.
const DAMAGE_SHOWN: usize = 5;
/// Work that waits longer for someone to take it up: nobody does, or there is too much of it.
const DUE_MAX_S: u64 = 15 * 60;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    Ok,
    /// It works, and will not for long (space is low).
    Degraded,
    /// Nothing can be accepted.
    Failing,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Health {
    pub state: HealthState,
    /// For people, one sentence each.
    pub reasons: Vec<String>,
    pub free_bytes: Option<u64>,
    /// Records in the ledger that the index shows.
    pub records: Option<u64>,
    /// Lost parts of the ledger.
    pub ledger_damage: usize,
    pub jobs: JobCounts,
    /// How long the job that waits for longest has been claimable.
    pub oldest_due_age_s: Option<u64>,
    pub at: Timestamp,
}

/// How much space there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpaceLevel {
    Enough,
    /// It works, and an operator is warned.
    Low,
    /// No instance is taken.
    Refused,
}

impl SpaceLevel {
    /// The level, and the free bytes.
    pub fn of(shared: &Shared) -> Result<(SpaceLevel, u64), StoreError> {
        let free = folder::free_bytes(&shared.data)?;
        let level = match free {
            free if free < shared.config.now().free_bytes_min => SpaceLevel::Refused,
            free if free < shared.config.now().free_bytes_warn => SpaceLevel::Low,
            _ => SpaceLevel::Enough,
        };
        Ok((level, free))
    }
}

pub fn health(shared: &Shared) -> Health {
    let mut seen = Seen { state: HealthState::Ok, reasons: Vec::new() };
    let space = SpaceLevel::of(shared);
    let kept = shared.config.now().free_bytes_min;
    match &space {
        Ok((SpaceLevel::Enough, _)) => {}
        Ok((SpaceLevel::Low, free)) => {
            let (free, kept) = (size(*free), size(kept));
            seen.degraded(format!("{free} are free; below {kept} nothing is accepted"));
        }
        Ok((SpaceLevel::Refused, free)) => {
            let (free, kept) = (size(*free), size(kept));
            seen.failing(format!("{free} are free, {kept} are kept: no instance is accepted"));
        }
        Err(error) => seen.failing(error.to_string()),
    }
    let tried = try_disk(shared);
    shared.look_whether_stuck(tried.is_ok());
    if let Err(error) = tried {
        seen.failing(error.to_string());
    }
    if shared.is_stuck() {
        seen.failing("the data folder was away and has to be opened anew: start again".to_owned());
    }
    let records = match shared.making() {
        Some(making) => {
            seen.degraded(format!(
                "{}: instances are taken, reading and delivery wait",
                making.error()
            ));
            if let Some(trouble) = making.trouble() {
                seen.failing(format!("the index cannot be made now: {trouble}"));
            }
            None
        }
        None => {
            let read = shared.read(|view| {
                view.studies(1)?;
                Ok(view.position().number)
            });
            read.inspect_err(|error| seen.failing(error.to_string())).ok()
        }
    };
    let damage = open::known_damage(shared).unwrap_or_default();
    let more = damage.len().saturating_sub(DAMAGE_SHOWN);
    for what in damage.iter().take(DAMAGE_SHOWN) {
        seen.degraded(format!("a part of the ledger is lost: {what}"));
    }
    if more > 0 {
        seen.degraded(format!("{more} more parts of the ledger are lost (prelim audit verify)"));
    }
    let gaps = shared.gaps().clone();
    for what in &gaps.first {
        seen.degraded(format!("what was received or written is not as it was: {what}"));
    }
    if gaps.total > gaps.first.len() as u64 {
        seen.degraded(format!("{} gaps in all (prelim verify --full)", gaps.total));
    }
    if let Some(error) = shared.trouble().as_ref() {
        seen.failing(format!("the last commit failed: {error}"));
    }
    let at = shared.clock.now();
    for alarm in shared.alarms.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        if at.duration_since(alarm.at) < ALARM_SHOWN {
            seen.degraded(format!("{} ({})", alarm.what, alarm.at.strftime("%H:%M UTC")));
        }
    }
    let jobs = shared.queue().counts();
    let age = jobs.oldest_due.map(|due| at.duration_since(due).as_secs().max(0).unsigned_abs());
    if let Some(minutes) = age.filter(|&age| age > DUE_MAX_S).map(|age| age / 60) {
        let waiting = jobs.waiting;
        seen.degraded(format!("steps that are due wait for {minutes} minutes ({waiting} in all)"));
    }
    let free_bytes = space.ok().map(|(_, free)| free);
    let (ledger_damage, Seen { state, reasons }) = (damage.len(), seen);
    Health { state, reasons, free_bytes, records, ledger_damage, jobs, oldest_due_age_s: age, at }
}

struct Seen {
    state: HealthState,
    reasons: Vec<String>,
}

impl Seen {
    fn degraded(&mut self, reason: String) {
        if self.state == HealthState::Ok {
            self.state = HealthState::Degraded;
        }
        self.reasons.push(reason);
    }

    fn failing(&mut self, reason: String) {
        self.state = HealthState::Failing;
        self.reasons.push(reason);
    }
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Writes, syncs, reads back and removes a file.
fn try_disk(shared: &Shared) -> Result<(), StoreError> {
    let path = shared.data.join(folder::INCOMING).join(".health");
    let told = b"prelim health";
    let attempt = || {
        let _ = fs::remove_file(&path);
        let mut file = files::create_new(&path)?;
        file.write_all(told)?;
        file.sync_data()?;
        file.rewind()?;
        let mut read = Vec::new();
        file.read_to_end(&mut read)?;
        match read == told {
            true => Ok(()),
            false => Err(std::io::Error::other("what was read is not what was written")),
        }
    };
    let outcome = attempt();
    let _ = fs::remove_file(&path);
    outcome.doing("trying to write and read", &path)
}
