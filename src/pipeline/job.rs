//! Jobs of a study's way: their ids, their order, and what a failed try leads to.

use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::domain::uid::StudyUid;
use crate::store::event::Job;
use crate::store::event::JobKind;

/// Names of the steps, in order.
pub const STEP_NAMES: [&str; 17] = [
    "plan",
    "picture",
    "analyse",
    "read_again",
    "shadow",
    "judge",
    "compose",
    "deliver",
    "prove",
    "alert",
    "escalate",
    "withdraw",
    "digest",
    "drill",
    "notice",
    "undelivered",
    "commit",
];

pub fn step_name(kind: &JobKind) -> &'static str {
    match kind {
        JobKind::Plan => "plan",
        JobKind::Picture => "picture",
        JobKind::Analyse { .. } => "analyse",
        JobKind::ReadAgain { .. } => "read_again",
        JobKind::Shadow { .. } => "shadow",
        JobKind::Judge => "judge",
        JobKind::Compose => "compose",
        JobKind::Deliver { .. } => "deliver",
        JobKind::Prove { .. } => "prove",
        JobKind::Alert { .. } => "alert",
        JobKind::Escalate { .. } => "escalate",
        JobKind::Withdraw { .. } => "withdraw",
        JobKind::Digest { .. } => "digest",
        JobKind::Drill { .. } => "drill",
        JobKind::Notice { .. } => "notice",
        JobKind::Undelivered { .. } => "undelivered",
        JobKind::Commit { .. } => "commit",
    }
}

/// Priority of a job that belongs to no step of a reading.
const OTHER: u8 = 1;

/// A job of this kind, due now. Its id is made of what it is, so that a step that runs twice
/// enqueues the same job once. Later steps of a study go first, so that a study that is nearly done does not wait for those that just came.
pub fn job(kind: JobKind, study_uid: &StudyUid, revision: u32, now: Timestamp) -> Job {
    let step = step_name(&kind);
    let mut id = format!("{study_uid}/{revision}/{step}");
    let priority = match &kind {
        JobKind::Alert { alert, channel, level } => {
            id = format!("{id}/{alert}/{channel}");
            if *level > 0 {
                id = format!("{id}/{level}");
            }
            OTHER
        }
        JobKind::Escalate { alert, level, unless } => {
            id = format!("{id}/{alert}/{level}/{}", unless.as_str());
            OTHER
        }
        JobKind::Withdraw { alert, channel, doubt } => {
            id = format!("{id}/{alert}/{channel}");
            if let Some(revision) = doubt {
                id = format!("{id}/{revision}");
            }
            OTHER
        }
        JobKind::Digest { channel, until } => {
            id = format!("{id}/{channel}/{}", until.as_second());
            OTHER
        }
        JobKind::Drill { .. } => OTHER,
        JobKind::Deliver { artefact, destination } => {
            id = format!("{id}/{artefact}/{destination}");
            OTHER
        }
        JobKind::Prove { artefact, destination } => {
            id = format!("{id}/{artefact}/{destination}");
            OTHER
        }
        JobKind::Notice { channel } => {
            id = format!("{id}/{channel}");
            OTHER
        }
        JobKind::Undelivered { destination, channel } => {
            id = format!("{id}/{destination}/{channel}");
            OTHER
        }
        JobKind::Commit { transaction_uid, request } => {
            id = format!("{id}/{transaction_uid}/{request}");
            OTHER
        }
        JobKind::Judge => 2,
        JobKind::Compose => 3,
        JobKind::Analyse { .. } | JobKind::ReadAgain { .. } => 4,
        JobKind::Picture => 5,
        JobKind::Plan => 6,
        JobKind::Shadow { gateway } => {
            id = format!("{id}/{gateway}");
            7
        }
    };
    Job { id, kind, study_uid: study_uid.clone(), revision, due: now, priority }
}

/// Why a try of a step failed.
#[derive(Debug)]
pub struct StepError {
    /// For people and the ledger; without patient data.
    pub cause: String,
    pub verdict: Failure,
}

/// What a failed try means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// May pass: try again, not before this wait when the peer named one.
    Passing { wait: Option<Duration> },
    /// It brought a worker process down or over its limits: once more, then a person looks.
    Poison,
    /// It will not pass: a person looks.
    Lasting,
    /// There is no need for it any more.
    Needless,
    /// Nothing failed: it looks again at this time.
    NotYet { until: Timestamp },
}

impl StepError {
    pub fn passing(cause: impl std::fmt::Display) -> StepError {
        StepError { cause: cause.to_string(), verdict: Failure::Passing { wait: None } }
    }

    /// - `wait`: as long as the peer wants to be left alone.
    pub fn passing_after(wait: Option<Duration>, cause: impl std::fmt::Display) -> StepError {
        StepError { cause: cause.to_string(), verdict: Failure::Passing { wait } }
    }

    pub fn lasting(cause: impl std::fmt::Display) -> StepError {
        StepError { cause: cause.to_string(), verdict: Failure::Lasting }
    }

    pub fn not_yet(until: Timestamp) -> StepError {
        StepError { cause: String::new(), verdict: Failure::NotYet { until } }
    }

    pub fn needless(cause: impl std::fmt::Display) -> StepError {
        StepError { cause: cause.to_string(), verdict: Failure::Needless }
    }
}

/// When a step of the reading is tried again after its `attempt`th try (from 1) failed, `None`
/// when a person must look: 2, 8, 32, 128 s and then 5 minutes apart; a wait that the peer
/// named counts when it is longer.
pub fn next_try(
    attempt: u32,
    tries_max: u32,
    failure: Failure,
    now: Timestamp,
) -> Option<Timestamp> {
    let wait = match failure {
        Failure::Passing { wait } if attempt < tries_max => longer(wait, backoff(attempt)),
        Failure::Poison if attempt < 2 => Duration::from_secs(1),
        Failure::NotYet { until } => return Some(until),
        Failure::Passing { .. } | Failure::Poison | Failure::Lasting | Failure::Needless => {
            return None;
        }
    };
    Some(after(now, wait))
}

/// As [`next_try`], of a step that waits for somebody: as often as there is time. The last try
/// begins at `until`, whatever wait the peer named.
///
/// - `began`: when this try did.
/// - `pause_max`: between two tries.
pub fn next_try_until(
    (began, until): (Timestamp, Timestamp),
    pause_max: Duration,
    attempt: u32,
    failure: Failure,
    now: Timestamp,
) -> Option<Timestamp> {
    match failure {
        Failure::Passing { wait } if began < until => {
            Some(after(now, longer(wait, backoff(attempt).min(pause_max))).min(until).max(now))
        }
        Failure::Passing { .. } => None,
        Failure::NotYet { until } => Some(until),
        Failure::Poison | Failure::Lasting | Failure::Needless => {
            next_try(attempt, 1, failure, now)
        }
    }
}

fn backoff(attempt: u32) -> Duration {
    Duration::from_secs(
        2u64.saturating_mul(4u64.saturating_pow(attempt.min(8).saturating_sub(1))).min(300),
    )
}

fn longer(named: Option<Duration>, own: Duration) -> Duration {
    named.unwrap_or_default().max(own)
}

fn after(now: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(1));
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_try_is_repeated_by_its_kind() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let after = |s: i64| Some(Timestamp::from_second(1_000_000 + s).unwrap());
        let passing = Failure::Passing { wait: None };
        let told = Failure::Passing { wait: Some(Duration::from_secs(60)) };
        for (attempt, failure, expected) in [
            (1, passing, after(2)),
            (2, passing, after(8)),
            (4, passing, after(128)),
            (5, passing, None),
            (1, told, after(60)),
            (4, told, after(128)),
            (1, Failure::Poison, after(1)),
            (2, Failure::Poison, None),
            (1, Failure::Lasting, None),
        ] {
            assert_eq!(next_try(attempt, 5, failure, now), expected, "{attempt} {failure:?}");
        }
    }

    #[test]
    fn a_step_that_waits_for_somebody_is_tried_by_time_and_not_by_count() {
        let at = |s: i64| Timestamp::from_second(1_000_000 + s).unwrap();
        let pause = Duration::from_secs(60);
        let passing = |wait: Option<u64>| Failure::Passing { wait: wait.map(Duration::from_secs) };
        for (attempt, now, failure, expected) in [
            (1, 0, passing(None), Some(2)),
            (4, 100, passing(None), Some(160)),
            (400, 700, passing(None), Some(760)),
            (3, 100, passing(Some(400)), Some(500)),
            // Whoever asks for an hour gets what is left.
            (1, 0, passing(Some(3600)), Some(900)),
            (9, 880, passing(None), Some(900)),
            (9, 900, passing(None), None),
            (1, 0, Failure::Lasting, None),
            (1, 0, Failure::Poison, Some(1)),
            (2, 0, Failure::Poison, None),
        ] {
            let next = next_try_until((at(now), at(900)), pause, attempt, failure, at(now));
            assert_eq!(next, expected.map(at), "{attempt} {now} {failure:?}");
        }
        // A try that ends after the bound was not the last: that one says what becomes of the study.
        let late = next_try_until((at(899), at(900)), pause, 9, passing(None), at(960));
        assert_eq!(late, Some(at(960)));
    }

    #[test]
    fn the_same_step_has_the_same_id() {
        let study = StudyUid::parse("1.2.3").unwrap();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(job(JobKind::Plan, &study, 1, now).id, "1.2.3/1/plan");
        let to = JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() };
        assert_eq!(job(to, &study, 2, now).id, "1.2.3/2/deliver/sr.dcm/pacs");
    }
}
