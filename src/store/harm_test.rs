//! What a failing disk, or a hand, does to one file of the data folder: nothing that was done is done
//! again, and who asks is told.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::domain::alert::Answer;
use crate::domain::digest::Hasher;
use crate::domain::urgency::Urgency;
use crate::store::Config;
use crate::store::Lane;
use crate::store::OpenReport;
use crate::store::Store;
use crate::store::VerifyMode;
use crate::store::Wanted;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::JobOutcome;
use crate::store::event::StudyState;
use crate::store::folder;
use crate::store::gaps::Gap;
use crate::store::journal;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Start;
use crate::store::objects;
use crate::store::testing;
use crate::store::testing::at;
use crate::store::testing::job;
use crate::store::testing::receipt;
use crate::store::testing::sop;
use crate::store::testing::study;
use crate::store::verify;

/// Small files, so that there are several of each kind.
fn open(data: &Path) -> (Store, OpenReport) {
    try_open(data).unwrap()
}

fn try_open(data: &Path) -> Result<(Store, OpenReport), crate::store::StoreError> {
    let config = Config {
        ledger_segment_bytes: 8 << 10,
        journal_segment_bytes: 64 << 10,
        ..testing::config()
    };
    Store::open(data, &config, Arc::new(testing::StoppedClock))
}

async fn receive(store: &Store, n: u32, instance: u32) {
    let mut receipt = receipt(n, instance, "");
    let mut hash = Hasher::new();
    hash.update(b"pixels");
    receipt.digest = hash.finish();
    let part10 = [&[0; 128][..], b"DICM\x02\0\0\0UL\x04\0\0\0\0\0", b"pixels"].concat();
    receipt.size_bytes = part10.len() as u64;
    store.commit_small(receipt, Bytes::from(part10)).await.unwrap();
}

/// One study from its first image to the answer of its alert. Each step is one record.
async fn read_and_tell(store: &Store, n: u32) {
    receive(store, n, 1).await;
    receive(store, n, 2).await;
    let (study_uid, revision) = (study(n), 1);
    let commit = |events| async move { store.commit(events).await.unwrap() };
    let plan = job(n, 1, JobKind::Plan, 0, 5);
    let closed = Event::RevisionClosed {
        study_uid: study_uid.clone(),
        revision,
        instances: 2,
        reason: "quiet".into(),
        at: at(3),
    };
    commit(vec![closed, Event::JobEnqueued { job: plan.clone() }]).await;
    let deliver = JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() };
    let alert = || format!("{}/a", study(n));
    let tell = JobKind::Alert { alert: alert(), channel: "mail:x".into(), level: 0 };
    let (analyse, deliver, tell) = (
        job(n, 1, JobKind::Analyse { gateway: String::new() }, 0, 5),
        job(n, 1, deliver, 0, 3),
        job(n, 1, tell, 0, 1),
    );
    let done =
        |id: &str| Event::JobEnded { id: id.to_owned(), outcome: JobOutcome::Done, at: at(4) };
    let started = |id: &str| Event::JobStarted { id: id.to_owned(), at: at(4) };
    commit(vec![started(&plan.id)]).await;
    commit(vec![done(&plan.id), Event::JobEnqueued { job: analyse.clone() }]).await;
    commit(vec![started(&analyse.id)]).await;
    let raised = Event::AlertRaised {
        study_uid: study_uid.clone(),
        revision,
        alert: alert(),
        urgency: Urgency::Critical,
        findings: vec!["pneumothorax".into()],
        recipients: vec![],
        kind: Default::default(),
        service: String::new(),
        told: vec![],
        at: at(5),
    };
    let mut written = Vec::new();
    for file in ["assessment.json", "sr.dcm"] {
        let bytes = vec![7; 300];
        store.write_result(&study_uid, revision, file, &bytes).unwrap();
        written.push(Event::ArtefactWritten {
            study_uid: study_uid.clone(),
            revision,
            file: file.into(),
            media_type: "application/octet-stream".into(),
            size_bytes: bytes.len() as u64,
            digest: verify::hex(&bytes),
            sop_instance_uid: None,
            at: at(5),
        });
    }
    commit(written).await;
    let deliver_too = Event::JobEnqueued { job: deliver.clone() };
    let tell_too = Event::JobEnqueued { job: tell.clone() };
    commit(vec![done(&analyse.id), raised, deliver_too, tell_too]).await;
    commit(vec![started(&deliver.id)]).await;
    commit(vec![started(&tell.id)]).await;
    let delivered = Event::Delivered {
        study_uid: study_uid.clone(),
        revision,
        artefact: "sr.dcm".into(),
        destination: "pacs".into(),
        detail: "0000".into(),
        unproven: false,
        at: at(6),
    };
    commit(vec![delivered, done(&deliver.id)]).await;
    let sent = Event::AlertSent {
        study_uid: study_uid.clone(),
        revision,
        alert: alert(),
        channel: "mail:x".into(),
        level: 0,
        detail: "250".into(),
        at: at(6),
    };
    commit(vec![sent, done(&tell.id)]).await;
    let to = StudyState::Delivered;
    let (reason, uid) = (String::new(), study_uid.clone());
    commit(vec![Event::StateChanged { study_uid: uid, revision, to, reason, at: at(6) }]).await;
    let answer = Answer { by: "kim".into(), how: "page".into(), note: String::new(), at: at(7) };
    commit(vec![Event::AlertAcknowledged { study_uid, revision, alert: alert(), answer }]).await;
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.unwrap().success());
}

/// What would be done if the node went on now.
fn would_be_done(store: &Store) -> BTreeSet<String> {
    let (now, lease) = (at(10_000), Duration::from_secs(60));
    let all = [Lane::Clocks, Lane::Reading, Lane::Commitments].map(Wanted::Of);
    let mut ids = BTreeSet::new();
    for wanted in all.into_iter().chain([Wanted::OtherThan(Vec::new())]) {
        while let Some(claimed) = store.claim(now, lease, &wanted).unwrap() {
            ids.insert(claimed.job.id);
        }
    }
    ids
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    Flipped,
    Cut,
    Emptied,
    Removed,
}

/// Places of the records of each file: where they begin, relative to the data folder.
fn places(data: &Path) -> Vec<(PathBuf, Vec<u64>)> {
    let mut all = Vec::new();
    let folder = data.join(folder::LEDGER);
    for segment in ledger::segments(&folder).unwrap() {
        let mut begins = vec![0];
        ledger::walk_file(&folder, segment, true, &mut |found| {
            if let Found::Record(record) = found {
                begins.push(record.position.offset - record.bytes());
            }
            Ok(())
        })
        .unwrap();
        all.push((ledger::segment_path(&folder, segment), begins));
    }
    let folder = data.join(folder::JOURNAL);
    for segment in journal::segments(&folder).unwrap() {
        let blocks = (0..4).map(|block| block * journal::BLOCK as u64).collect();
        all.push((journal::segment_path(&folder, segment), blocks));
    }
    for part in [folder::OBJECTS, folder::RESULTS, folder::STATE] {
        let mut files = Vec::new();
        objects::walk_files(data, part, &mut |name, _| {
            files.push((data.join(name), vec![0, 100]));
            Ok(())
        })
        .unwrap();
        all.extend(files.into_iter().take(4));
    }
    all.push((data.join("format"), vec![0]));
    all.push((data.join("lock"), vec![0]));
    let relative =
        |(path, begins): (PathBuf, Vec<u64>)| (path.strip_prefix(data).unwrap().to_owned(), begins);
    all.into_iter().map(relative).collect()
}

fn harm(path: &Path, how: How, begins: u64) {
    let mut bytes = fs::read(path).unwrap();
    match how {
        How::Flipped => match bytes.get_mut(begins as usize + 30) {
            Some(byte) => *byte ^= 4,
            None => return,
        },
        How::Cut => bytes.truncate(begins as usize + 10),
        How::Emptied => bytes.clear(),
        How::Removed => {
            fs::remove_file(path).unwrap();
            return;
        }
    }
    fs::write(path, bytes).unwrap();
}

fn records(data: &Path) -> u64 {
    let mut records = 0;
    ledger::walk(&data.join(folder::LEDGER), &Start::Beginning, &mut |found| {
        records += u64::from(matches!(found, Found::Record(_)));
        Ok(())
    })
    .unwrap();
    records
}

/// Harms each file of `base` at each of its places; whatever was done there stays done.
fn harm_everything(base: &Path, scratch: &Path, open_jobs: &BTreeSet<String>, is_live: bool) {
    let whole = records(base);
    for (file, begins) in places(base) {
        for how in [How::Flipped, How::Cut, How::Emptied, How::Removed] {
            let all = match how {
                How::Flipped | How::Cut => begins.clone(),
                How::Emptied | How::Removed => vec![0],
            };
            for begins in all {
                let case = format!("{} {how:?} at {begins}, live: {is_live}", file.display());
                copy(base, scratch);
                harm(&scratch.join(&file), how, begins);
                let is_ledger = file.starts_with(folder::LEDGER);
                let before = records(scratch);
                let Ok((store, report)) = try_open(scratch) else {
                    assert_eq!(file, Path::new("format"), "{case}: it does not open");
                    continue;
                };
                let done = would_be_done(&store);
                assert!(done.is_subset(open_jobs), "{case}: {done:?} again, {report:?}");
                assert!(store.unanswered().unwrap().is_empty(), "{case}: alerts are open again");
                let lost = before < whole && report.recovered == 0 && records(scratch) < whole;
                if is_ledger && !is_live {
                    assert!(!report.damage.is_empty(), "{case}: {report:?}");
                    let reasons = store.health().reasons.join("\n");
                    assert!(reasons.contains("ledger"), "{case}: {reasons}");
                    assert!(store.ledger_damage() > 0, "{case}");
                    let kept = records(scratch);
                    let at_most = if how == How::Flipped { 1 } else { whole };
                    assert!(kept + at_most >= whole, "{case}: {kept} of {whole} records are left");
                } else if is_ledger {
                    assert!(!lost || !report.damage.is_empty(), "{case}: {report:?}");
                }
                let is_damaged = !report.damage.is_empty();
                drop(store);
                if file.starts_with(folder::RESULTS) {
                    let found = Store::verify(scratch, VerifyMode::Full, &mut |_| {}).unwrap();
                    let is_named = |gap: &Gap| {
                        matches!(gap, Gap::ArtefactMissing { .. } | Gap::ArtefactChanged { .. })
                    };
                    assert!(found.gaps.iter().any(is_named), "{case}: {found:?}");
                }
                for again in ["again", "without an index"] {
                    if again == "without an index" {
                        let _ = fs::remove_dir_all(scratch.join(folder::STATE));
                    }
                    let (store, report) = open(scratch);
                    let done = would_be_done(&store);
                    assert!(done.is_subset(open_jobs), "{case}, {again}: {done:?}, {report:?}");
                    let open = store.unanswered().unwrap();
                    assert!(open.is_empty(), "{case}, {again}: {open:?}");
                    assert_eq!(!report.damage.is_empty(), is_damaged, "{case}, {again}");
                    drop(store);
                    let chain = Store::verify_chain(scratch, None).unwrap();
                    assert_eq!(!chain.is_whole(), is_damaged, "{case}, {again}: {chain:?}");
                }
                if is_damaged {
                    let found = Store::verify(scratch, VerifyMode::Quick, &mut |_| {}).unwrap();
                    let is_named = |gap: &Gap| matches!(gap, Gap::LedgerDamage { .. });
                    assert!(found.gaps.iter().any(is_named), "{case}: {found:?}");
                }
            }
        }
    }
}

/// R1: a study that was read, delivered, told and answered is not read, delivered or told again,
/// whichever file of a node that stopped or was killed is harmed, and wherever.
#[tokio::test(flavor = "multi_thread")]
async fn a_harmed_file_has_nothing_delivered_told_or_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (data, live, scratch) =
        (dir.path().join("data"), dir.path().join("live"), dir.path().join("scratch"));
    {
        let (store, _) = open(&data);
        read_and_tell(&store, 1).await;
    }
    let waiting = job(9, 1, JobKind::Plan, 0, 5);
    {
        let (store, _) = open(&data);
        receive(&store, 9, 1).await;
        store.commit(vec![Event::JobEnqueued { job: waiting.clone() }]).await.unwrap();
        read_and_tell(&store, 2).await;
        store.filed(&study(2)).await.unwrap();
        copy(&data, &live);
    }
    let open_jobs = BTreeSet::from([waiting.id]);
    harm_everything(&data, &scratch, &open_jobs, false);
    harm_everything(&live, &scratch, &open_jobs, true);
}

/// After a burst, with many files of the journal used in turn, one bit of an old record costs that
/// record, and what came after it stays.
#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_after_a_burst_costs_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (data, killed) = (dir.path().join("data"), dir.path().join("killed"));
    let (store, _) = open(&data);
    for instance in 1..=200 {
        receive(&store, 8, instance).await;
    }
    read_and_tell(&store, 1).await;
    for instance in 201..=300 {
        receive(&store, 8, instance).await;
    }
    store.filed(&study(8)).await.unwrap();
    copy(&data, &killed);
    drop(store);
    for data in [&data, &killed] {
        let before = records(data);
        let (file, begins) = places(data).into_iter().find(|(_, begins)| begins.len() > 5).unwrap();
        harm(&data.join(file), How::Flipped, begins[3]);
        let (store, report) = open(data);
        assert!(report.cut.is_none(), "{report:?}");
        assert_eq!(would_be_done(&store), BTreeSet::new());
        // Of an index that was behind, what the record said is lost too.
        assert!(store.instances(&study(8)).unwrap().len() >= 299);
        assert!(store.instance(&sop(8, 300)).unwrap().is_some());
        assert!(report.damage.len() == 1 || report.damage.is_empty(), "{report:?}");
        drop(store);
        assert!(records(data) >= before - 1);
    }
}

/// A file of the journal that is at rest says so, and the one that has rested longest is used next.
#[tokio::test(flavor = "multi_thread")]
async fn after_an_orderly_stop_no_file_of_the_journal_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(dir.path());
    for instance in 1..=120 {
        receive(&store, 1, instance).await;
    }
    let other = store.clone();
    store.close();
    assert!(matches!(other.studies(1), Err(crate::store::StoreError::Closed)));
    let folder = dir.path().join(folder::JOURNAL);
    for number in journal::segments(&folder).unwrap() {
        let bytes = fs::read(journal::segment_path(&folder, number)).unwrap();
        let head = journal::parse_head(&bytes);
        assert!(!matches!(head, Some(journal::Head::Live(_))), "{number}: {head:?}");
    }
    drop((store, other));
    let report = Store::verify(dir.path(), VerifyMode::Full, &mut |_| {}).unwrap();
    assert!(report.is_complete() && !report.journal_in_use, "{report:?}");
}
