//! How the store is: tried, not assumed.

use std::fs;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;

use jiff::Timestamp;
use serde::Serialize;

use crate::store::commit::Shared;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::rows::JobCounts;

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
    pub jobs: JobCounts,
    /// How long the job that waits for longest has been claimable.
    pub oldest_due_age_s: Option<u64>,
    pub at: Timestamp,
}

pub fn health(shared: &Shared) -> Health {
    let mut reasons = Vec::new();
    let mut state = HealthState::Ok;
    let free_bytes = folder::free_bytes(&shared.data);
    let kept = shared.config.free_bytes_min;
    match &free_bytes {
        Ok(free) if *free < kept => {
            state = HealthState::Failing;
            reasons.push(StoreError::Space { free: *free, kept }.to_string());
        }
        Ok(free) if *free < kept.saturating_mul(2) => {
            state = HealthState::Degraded;
            reasons.push(format!("{free} bytes are free; below {kept} nothing is accepted"));
        }
        Ok(_) => {}
        Err(error) => {
            state = HealthState::Failing;
            reasons.push(error.to_string());
        }
    }
    let records = shared.read(|view| {
        view.studies(1)?;
        Ok(view.position().number)
    });
    let trouble = shared.trouble().as_ref().map(ToString::to_string);
    let tried = try_disk(shared).err().map(|error| error.to_string());
    let unreadable = records.as_ref().err().map(ToString::to_string);
    let last = trouble.map(|error| format!("the last commit failed: {error}"));
    for reason in [tried, unreadable, last].into_iter().flatten() {
        state = HealthState::Failing;
        reasons.push(reason);
    }
    let at = shared.clock.now();
    let jobs = shared.queue().counts();
    let age = jobs.oldest_due.map(|due| at.duration_since(due).as_secs().max(0).unsigned_abs());
    Health {
        state,
        reasons,
        free_bytes: free_bytes.ok(),
        records: records.ok(),
        jobs,
        oldest_due_age_s: age,
        at,
    }
}

/// Writes, syncs, reads back and removes a file.
fn try_disk(shared: &Shared) -> Result<(), StoreError> {
    let path = shared.data.join(folder::INCOMING).join(".health");
    let told = b"prelim health";
    let attempt = || {
        let _ = fs::remove_file(&path);
        let mut file = folder::create_new(&path)?;
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
