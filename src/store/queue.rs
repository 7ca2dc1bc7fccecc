//! Which job is next: what may be claimed, what waits for its time, who holds what.
//!
//! Lives in memory and is made from the rows of the jobs. A lease does not outlive the process:
//! after a restart nobody works on anything. Waits are measured by the wall clock of the caller or
//! by the monotonic clock, whichever is over first: a clock that is set back holds no job.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::store::rows::JobCounts;
use crate::store::rows::JobRow;
use crate::store::rows::JobState;

#[derive(Debug, Default)]
pub struct Queue {
    jobs: HashMap<String, Entry>,
    /// Due: by priority, then age.
    ready: BTreeSet<(u8, u64, String)>,
    /// Not due yet: by time, and by the clock that is never set.
    later: BTreeSet<(Timestamp, String)>,
    timers: BTreeSet<(Instant, String)>,
    leases: BTreeSet<(Instant, String)>,
    dead: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    priority: u8,
    order: u64,
    due: Timestamp,
    attempts: u32,
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Ready,
    Later {
        timer: Instant,
    },
    Leased {
        until: Instant,
        /// Its start is not in the rows yet.
        starting: bool,
    },
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub id: String,
    pub attempt: u32,
}

/// Longer leases and waits are cut to this.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST)
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

impl Queue {
    /// Takes over what the rows say of one job.
    pub fn set(&mut self, id: &str, row: Option<&JobRow>, now: Timestamp) {
        let held = self.jobs.get(id).map(|entry| entry.place);
        let Some(row) = row else {
            self.forget(id);
            return;
        };
        let place = match (row.state, held) {
            (JobState::Done | JobState::Dropped, _) => {
                self.forget(id);
                return;
            }
            (JobState::Dead, _) => Place::Dead,
            (JobState::Running, Some(Place::Leased { until, .. })) => {
                Place::Leased { until, starting: false }
            }
            (JobState::Waiting, Some(Place::Leased { until, starting: true })) => {
                Place::Leased { until, starting: true }
            }
            (JobState::Running, _) => Place::Ready,
            (JobState::Waiting, _) if row.due <= now => Place::Ready,
            (JobState::Waiting, _) => Place::Later { timer: after(until(now, row.due)) },
        };
        self.forget(id);
        let entry = Entry {
            priority: row.job.priority,
            order: row.order,
            due: row.due,
            attempts: row.attempts,
            place,
        };
        self.put(id, entry);
    }

    /// All jobs anew, for an index that was made anew: what is held stays held.
    pub fn reload(&mut self, rows: &[JobRow], now: Timestamp) {
        let known: BTreeSet<&str> = rows.iter().map(|row| row.job.id.as_str()).collect();
        let gone: Vec<String> =
            self.jobs.keys().filter(|id| !known.contains(id.as_str())).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        for row in rows {
            self.set(&row.job.id, Some(row), now);
        }
    }

    pub fn claim(&mut self, now: Timestamp, lease: Duration) -> Option<Taken> {
        self.wake(now);
        let (_, _, id) = self.ready.first()?.clone();
        let mut entry = self.jobs.get(&id)?.clone();
        self.forget(&id);
        entry.place = Place::Leased { until: after(lease), starting: true };
        let attempt = entry.attempts + 1;
        self.put(&id, entry);
        Some(Taken { id, attempt })
    }

    /// Gives a claimed job back at once.
    pub fn release(&mut self, id: &str) {
        if let Some(mut entry) = self.jobs.get(id).cloned() {
            self.forget(id);
            entry.place = Place::Ready;
            self.put(id, entry);
        }
    }

    pub fn renew(&mut self, id: &str, lease: Duration) -> bool {
        let Some(mut entry) = self.jobs.get(id).cloned() else { return false };
        let Place::Leased { starting, .. } = entry.place else { return false };
        self.forget(id);
        entry.place = Place::Leased { until: after(lease), starting };
        self.put(id, entry);
        true
    }

    /// How long until a claim may succeed; `None` when nothing waits and nothing is held.
    pub fn next_claim_in(&mut self, now: Timestamp) -> Option<Duration> {
        self.wake(now);
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let clock = Instant::now();
        let due = self.later.first().map(|(due, _)| until(now, *due));
        let timer = self.timers.first().map(|(at, _)| at.saturating_duration_since(clock));
        let lease = self.leases.first().map(|(at, _)| at.saturating_duration_since(clock));
        [due, timer, lease].into_iter().flatten().min()
    }

    pub fn counts(&self) -> JobCounts {
        let ready = self.ready.iter().filter_map(|(_, _, id)| self.jobs.get(id));
        JobCounts {
            waiting: self.ready.len() + self.later.len(),
            running: self.leases.len(),
            dead: self.dead,
            oldest_due: ready.map(|entry| entry.due).min(),
        }
    }

    /// Moves what has become claimable.
    fn wake(&mut self, now: Timestamp) {
        let clock = Instant::now();
        loop {
            let due = self.later.first().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone());
            let rung = || self.timers.first().filter(|(at, _)| *at <= clock).map(|(_, id)| id);
            let over = || self.leases.first().filter(|(at, _)| *at <= clock).map(|(_, id)| id);
            let Some(id) = due.or_else(|| rung().or_else(over).cloned()) else { return };
            self.release(&id);
        }
    }

    fn put(&mut self, id: &str, entry: Entry) {
        match entry.place {
            Place::Ready => {
                self.ready.insert((entry.priority, entry.order, id.to_owned()));
            }
            Place::Later { timer } => {
                self.later.insert((entry.due, id.to_owned()));
                self.timers.insert((timer, id.to_owned()));
            }
            Place::Leased { until, .. } => {
                self.leases.insert((until, id.to_owned()));
            }
            Place::Dead => self.dead += 1,
        }
        self.jobs.insert(id.to_owned(), entry);
    }

    /// Takes a job out of every list.
    pub fn forget(&mut self, id: &str) {
        let Some(entry) = self.jobs.remove(id) else { return };
        let id = id.to_owned();
        match entry.place {
            Place::Ready => {
                self.ready.remove(&(entry.priority, entry.order, id));
            }
            Place::Later { timer } => {
                self.later.remove(&(entry.due, id.clone()));
                self.timers.remove(&(timer, id));
            }
            Place::Leased { until, .. } => {
                self.leases.remove(&(until, id));
            }
            Place::Dead => self.dead -= 1,
        }
    }
}
