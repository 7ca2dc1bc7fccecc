//! Receipts, jobs and stores for the tests of this room.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use rand::Rng as _;
use rand::SeedableRng as _;

use crate::domain::agreement::Compared;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::How;
use crate::domain::agreement::Origin;
use crate::domain::agreement::ReadBy;
use crate::domain::agreement::Verdict;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::clock::Clock;
use crate::domain::finding::Presence;
use crate::domain::origin::Origin as OriginOf;
use crate::domain::origin::Why;
use crate::domain::priority::Priority;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::domain::urgency::Urgency;
use crate::store::Config;
use crate::store::OpenReport;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::event::Event;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::JobOutcome;
use crate::store::event::Receipt;
use crate::store::event::Shortfall;
use crate::store::event::Source;
use crate::store::event::StepState;
use crate::store::event::StudyState;
use crate::store::verify::hex;
use crate::store::view::View;

/// Time stands still at `at(0)`.
pub struct StoppedClock;

impl Clock for StoppedClock {
    fn now(&self) -> Timestamp {
        at(0)
    }
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub fn study(n: u32) -> StudyUid {
    StudyUid::parse(&format!("1.2.{n}")).unwrap()
}

pub fn sop(n: u32, instance: u32) -> SopInstanceUid {
    SopInstanceUid::parse(&format!("1.2.{n}.1.{instance}")).unwrap()
}

pub fn receipt(n: u32, instance: u32, digest: &str) -> Receipt {
    Receipt {
        study_uid: study(n),
        series_uid: SeriesUid::parse(&format!("1.2.{n}.1")).unwrap(),
        sop_instance_uid: sop(n, instance),
        sop_class_uid: SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").unwrap(),
        transfer_syntax_uid: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        object: format!("objects/00/1.2.{n}/1.2.{n}.1/1.2.{n}.1.{instance}.dcm"),
        size_bytes: digest.len() as u64,
        digest: digest.to_owned(),
        from: Source {
            calling_ae: "CT1".into(),
            called_ae: "PRELIM".into(),
            address: "127.0.0.1:1".into(),
            association: "1".into(),
        },
        received_at: at(i64::from(instance)),
        begun_at: None,
        unreadable: None,
        is_original: None,
    }
}

pub fn job(n: u32, revision: u32, kind: JobKind, due: i64, priority: u8) -> Job {
    let step = match &kind {
        JobKind::Plan => "plan".to_owned(),
        JobKind::Picture => "picture".to_owned(),
        JobKind::Analyse { .. } => "analyse".to_owned(),
        JobKind::ReadAgain { gateway } => format!("read again/{gateway}"),
        JobKind::Shadow { gateway } => format!("shadow/{gateway}"),
        JobKind::Judge => "judge".to_owned(),
        JobKind::Compose => "compose".to_owned(),
        JobKind::Deliver { artefact, destination } => format!("deliver/{artefact}/{destination}"),
        JobKind::Prove { artefact, destination } => format!("prove/{artefact}/{destination}"),
        JobKind::Alert { alert, channel, level } => format!("alert/{alert}/{channel}/{level}"),
        JobKind::Escalate { alert, level, .. } => format!("escalate/{alert}/{level}"),
        JobKind::Withdraw { alert, channel, .. } => format!("withdraw/{alert}/{channel}"),
        JobKind::Digest { channel, .. } => format!("digest/{channel}"),
        JobKind::Drill { service, .. } => format!("drill/{service}"),
        JobKind::Notice { channel } => format!("notice/{channel}"),
        JobKind::Undelivered { destination, channel } => {
            format!("undelivered/{destination}/{channel}")
        }
        JobKind::Commit { transaction_uid, request } => {
            format!("commit/{transaction_uid}/{request}")
        }
    };
    let id = format!("{}/{revision}/{step}", study(n));
    Job { id, kind, study_uid: study(n), revision, due: at(due), priority }
}

/// The defaults, but that the space left on the machine that tests is no matter.
pub fn config() -> Config {
    Config { free_bytes_min: 0, free_bytes_warn: 0, free_percent_warn: 0.0, ..Config::default() }
}

pub fn open(data: &Path) -> (Store, OpenReport) {
    Store::open(data, &config(), Arc::new(StoppedClock)).unwrap()
}

/// Every row of the index, for comparison.
pub fn dump(store: &Store) -> Vec<(String, String)> {
    store.read(rows_of).unwrap()
}

pub fn rows_of(view: &View) -> Result<Vec<(String, String)>, StoreError> {
    let text = |bytes: sled::IVec| bytes.escape_ascii().to_string();
    view.rows()?.map(|row| row.map(|(key, value)| (text(key), text(value)))).collect()
}

/// Places a small Part 10 file and commits its receipt.
pub async fn store_instance(store: &Store, n: u32, instance: u32, bytes: &str) -> Stored {
    let mut receipt = receipt(n, instance, "");
    receipt.digest = hex(bytes.as_bytes());
    let mut object = store.begin_object().unwrap();
    object.write(&[0; 128]).unwrap();
    object.write(b"DICM\x02\0\0\0UL\x04\0\0\0\0\0").unwrap();
    object.write(bytes.as_bytes()).unwrap();
    receipt.size_bytes = object.size_bytes();
    let (study, series) = (&receipt.study_uid, &receipt.series_uid);
    receipt.object = object.place(study, series, &receipt.sop_instance_uid).unwrap();
    store.commit_instance(receipt).await.unwrap()
}

/// A life of a node: some studies, each with what can happen to it, in random order.
pub fn random_events(seed: u64, count: usize) -> Vec<Vec<Event>> {
    let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
    (0..count)
        .map(|i| {
            let mut now = i as i64;
            let commits = rng.random_range(1..4);
            let mut event = || {
                now += 1;
                random_event(&mut rng, now)
            };
            (0..commits).map(|_| event()).collect()
        })
        .collect()
}

/// An answered call.
pub fn call(gateway: &str) -> Call {
    Call {
        gateway: gateway.to_owned(),
        key: String::new(),
        model: "m".into(),
        tokens: Tokens { prompt: 900, completion: 200 },
        is_estimate: false,
        pictures: 2,
        latency_ms: 40,
        outcome: call::ANSWERED.into(),
        cost_micro: Some(1300),
    }
}

fn random_event(rng: &mut rand::rngs::StdRng, now: i64) -> Event {
    let n = rng.random_range(1..5);
    let (study_uid, at) = (study(n), at(now));
    let revision = rng.random_range(1..4);
    let artefact = || "sr.dcm".to_owned();
    let to = || "pacs".to_owned();
    let kind = match rng.random_range(0..7) {
        0 => JobKind::Plan,
        1 => JobKind::Picture,
        2 => JobKind::Analyse { gateway: String::new() },
        3 => JobKind::Judge,
        4 => JobKind::Compose,
        5 => JobKind::Deliver { artefact: artefact(), destination: to() },
        _ => JobKind::Alert { alert: "a".into(), channel: "mail".into(), level: 0 },
    };
    let job = job(n, revision, kind, now, rng.random_range(0..3));
    let id = job.id.clone();
    let reason = "for a test".to_owned();
    let words = || vec!["pneumonia".to_owned()];
    match rng.random_range(0..42) {
        0..=3 => {
            let instance = rng.random_range(0..30);
            Event::InstanceStored { receipt: receipt(n, instance, "a") }
        }
        4 => Event::InstanceRepeated {
            sop_instance_uid: sop(n, rng.random_range(0..30)),
            digest: "b".into(),
            same_bytes: rng.random(),
            from: receipt(n, 1, "").from,
            at,
        },
        5 => Event::RevisionOpened { study_uid, revision, at },
        6 | 7 => Event::RevisionClosed { study_uid, revision, instances: 7, reason, at },
        8 => {
            let states = [StudyState::Analysing, StudyState::Held, StudyState::Delivered];
            let to = states[rng.random_range(0..3)];
            Event::StateChanged { study_uid, revision, to, reason, at }
        }
        9 => Event::StudyDescribed {
            study_uid,
            revision,
            modality: "CT".into(),
            examination: "CT head".into(),
            at,
        },
        10 => Event::Assessed {
            study_uid,
            revision,
            outcome: "read".into(),
            urgency: Some(Urgency::ALL[rng.random_range(0..4)]),
            findings: words(),
            models_differ: None,
            patient: rng.random::<bool>().then(|| "p".to_owned()),
            at,
        },
        11 | 12 => Event::JobEnqueued { job },
        13 => Event::JobStarted { id, at },
        14 => Event::JobEnded { id, outcome: JobOutcome::Done, at },
        15 => {
            let outcome = JobOutcome::Retry { due: at, cause: "busy".into() };
            Event::JobEnded { id, outcome, at }
        }
        16 => Event::JobEnded { id, outcome: JobOutcome::Dead { cause: "refused".into() }, at },
        17 => Event::JobRetried { id, by: "kim".into(), at },
        18 => Event::Delivered {
            study_uid,
            revision,
            artefact: artefact(),
            destination: to(),
            detail: "0000".into(),
            unproven: false,
            at,
        },
        19 => Event::AlertRaised {
            study_uid,
            revision,
            alert: "a".into(),
            urgency: Urgency::Critical,
            findings: words(),
            recipients: vec!["on-call".into()],
            kind: Default::default(),
            service: String::new(),
            told: vec![],
            at,
        },
        20 => Event::AlertSent {
            study_uid,
            revision,
            alert: "a".into(),
            channel: "mail".into(),
            level: 0,
            detail: "250".into(),
            at,
        },
        21 => Event::CommitmentRequested {
            transaction_uid: TransactionUid::parse("1.2.9").unwrap(),
            request: format!("r{}", rng.random_range(0..2)),
            study_uid,
            from: receipt(n, 1, "").from,
            references: vec![(receipt(n, 1, "").sop_class_uid, sop(n, 1))],
            at,
        },
        22 => Event::CommitmentReported {
            transaction_uid: TransactionUid::parse("1.2.9").unwrap(),
            request: "r0".into(),
            study_uid,
            committed: 1,
            failed: 0,
            detail: "0000".into(),
            at,
        },
        23 => Event::StepCreated {
            step_uid: sop(n, 99),
            studies: vec![study_uid],
            modality: "CT".into(),
            instances: vec![],
            from: receipt(n, 1, "").from,
            at,
        },
        24 => Event::StepChanged {
            step_uid: sop(n, 99),
            state: [StepState::InProgress, StepState::Completed][rng.random_range(0..2)],
            instances: Some(vec![sop(n, 1), sop(n, 2)]),
            at,
        },
        25 => Event::InstancesMissing {
            study_uid,
            revision,
            shortfall: Shortfall { what: "1 of 2".into(), expected: 2, received: 1 },
            at,
        },
        // Most are not as the study is, and change nothing.
        26..=29 => {
            let (instances, bytes) = (rng.random_range(1..4), 9);
            Event::InstancesRemoved { study_uid, instances, bytes, reason, at }
        }
        30 => {
            let instances = rng.random_range(0..3);
            Event::StudyForgotten { study_uid, instances, reason, at }
        }
        31 => Event::FilesRemoved { study_uid, at },
        32 => {
            let (tier, modality, source) = ("read".to_owned(), "CT".to_owned(), "CT1".to_owned());
            let call = call(&format!("g{}", rng.random_range(0..2)));
            let day = jiff::civil::date(2026, 1, rng.random_range(1..4));
            Event::ModelAsked { study_uid, revision, tier, modality, source, call, day, at }
        }
        38 => Event::JobLeft { id, at },
        39 => {
            let priority = [Priority::Stat, Priority::Urgent][rng.random_range(0..2)];
            Event::PrioritySet { study_uid, priority, by: reason, at }
        }
        33 => Event::ReadingCompared {
            study_uid,
            revision,
            comparison: Comparison {
                origin: Origin::Feedback {
                    finding: "F1".into(),
                    verdict: Verdict::Disagree,
                    comment: "".into(),
                },
                by: "x".into(),
                read_by: ReadBy { model: "m".into(), prompt: "p/1".into(), scanner: "s".into() },
                findings: vec![Compared {
                    key: "nodule".into(),
                    ours: Some(Presence::Present),
                    truth: Some(false),
                    how: How::Doctor,
                }],
            },
            at,
        },
        35 => {
            let mut receipt = receipt(n, rng.random_range(30..40), "s");
            receipt.is_original = Some(false);
            Event::InstanceSetAside { receipt }
        }
        36 | 37 => Event::OriginDecided {
            study_uid,
            instances: vec![sop(n, rng.random_range(20..40)), sop(n, 31)],
            origin: OriginOf::BY_PERSON[rng.random_range(0..4)],
            why: Why::OtherEquipment,
            by: if rng.random() { "kim".to_owned() } else { String::new() },
            at,
        },
        34 => Event::SentOut {
            study_uid,
            revision,
            gateway: "main".into(),
            host: "gateway.example".into(),
            region: "eu".into(),
            inside: false,
            pictures: words(),
            prompt: "ab".repeat(32),
            bytes: 9,
            at,
        },
        _ => {
            Event::Accessed { study_uid: Some(study_uid), what: "page".into(), by: "x".into(), at }
        }
    }
}
