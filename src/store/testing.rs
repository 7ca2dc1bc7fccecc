//! Receipts, jobs and stores for the tests of this room.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use crate::domain::clock::SystemClock;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::store::Config;
use crate::store::OpenReport;
use crate::store::Store;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::Receipt;
use crate::store::event::Source;

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
    }
}

pub fn job(n: u32, revision: u32, kind: JobKind, due: i64, priority: u8) -> Job {
    let step = match &kind {
        JobKind::Plan => "plan".to_owned(),
        JobKind::Picture => "picture".to_owned(),
        JobKind::Analyse => "analyse".to_owned(),
        JobKind::Judge => "judge".to_owned(),
        JobKind::Compose => "compose".to_owned(),
        JobKind::Deliver { artefact, destination } => format!("deliver/{artefact}/{destination}"),
        JobKind::Alert { alert, channel } => format!("alert/{alert}/{channel}"),
    };
    let id = format!("{}/{revision}/{step}", study(n));
    Job { id, kind, study_uid: study(n), revision, due: at(due), priority }
}

pub fn open(data: &Path) -> (Store, OpenReport) {
    let config = Config { free_bytes_min: 0, ..Config::default() };
    Store::open(data, &config, Arc::new(SystemClock)).unwrap()
}
