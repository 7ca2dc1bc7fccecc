//! Jobs of a study's way: their ids, their order, and what a failed try leads to.

use std::ops::RangeInclusive;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::domain::uid::StudyUid;
use crate::store::event::Job;
use crate::store::event::JobKind;

/// Names of the steps, in order.
pub const STEP_NAMES: [&str; 16] = [
    "plan",
    "picture",
    "analyse",
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
        JobKind::Analyse => "analyse",
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

/// Priorities of what is urgent, of what goes out (in lanes by destination), of the reading, of what scanners wait for: each
/// has runners of its own, so that a mail server, an archive or a scanner that does not answer
/// delays no reading, and none delays an alert.
pub const ALERTS: RangeInclusive<u8> = 0..=0;
pub const DELIVERIES: u8 = 1;
pub const READING: RangeInclusive<u8> = 2..=199;
pub const COMMITMENTS: RangeInclusive<u8> = 200..=200;

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
            *ALERTS.start()
        }
        JobKind::Escalate { alert, level, unless } => {
            id = format!("{id}/{alert}/{level}/{}", unless.as_str());
            *ALERTS.start()
        }
        JobKind::Withdraw { alert, channel, doubt } => {
            id = format!("{id}/{alert}/{channel}");
            if let Some(revision) = doubt {
                id = format!("{id}/{revision}");
            }
            *ALERTS.start()
        }
        JobKind::Digest { channel, until } => {
            id = format!("{id}/{channel}/{}", until.as_second());
            *ALERTS.start()
        }
        JobKind::Drill { .. } => *ALERTS.start(),
        JobKind::Deliver { artefact, destination } => {
            id = format!("{id}/{artefact}/{destination}");
            DELIVERIES
        }
        JobKind::Prove { artefact, destination } => {
            id = format!("{id}/{artefact}/{destination}");
            DELIVERIES
        }
        JobKind::Notice { channel } => {
            id = format!("{id}/{channel}");
            *ALERTS.start()
        }
        JobKind::Undelivered { destination, channel } => {
            id = format!("{id}/{destination}/{channel}");
            *ALERTS.start()
        }
        JobKind::Commit { transaction_uid, request } => {
            id = format!("{id}/{transaction_uid}/{request}");
            *COMMITMENTS.start()
        }
        JobKind::Judge => 2,
        JobKind::Compose => 3,
        JobKind::Analyse => 4,
        JobKind::Picture => 5,
        JobKind::Plan => 6,
        // After all that has an effect.
        JobKind::Shadow { gateway } => {
            id = format!("{id}/{gateway}");
            *READING.end()
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
    let backoff = Duration::from_secs(
        2u64.saturating_mul(4u64.saturating_pow(attempt.min(8).saturating_sub(1))).min(300),
    );
    let wait = match failure {
        Failure::Passing { wait } if attempt < tries_max => wait.unwrap_or_default().max(backoff),
        Failure::Poison if attempt < 2 => Duration::from_secs(1),
        Failure::NotYet { until } => return Some(until),
        Failure::Passing { .. } | Failure::Poison | Failure::Lasting | Failure::Needless => {
            return None;
        }
    };
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::from_hours(1));
    Some(now.saturating_add(wait).unwrap_or(Timestamp::MAX))
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
    fn the_same_step_has_the_same_id() {
        let study = StudyUid::parse("1.2.3").unwrap();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(job(JobKind::Plan, &study, 1, now).id, "1.2.3/1/plan");
        let to = JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() };
        assert_eq!(job(to, &study, 2, now).id, "1.2.3/2/deliver/sr.dcm/pacs");
    }
}
