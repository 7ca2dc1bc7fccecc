//! Looks for every gap between what was received, what is written down and what is on disk.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::text;
use crate::domain::uid::SopInstanceUid;
use crate::store::check::Check;
use crate::store::check::Source;
use crate::store::check::check_ledger;
use crate::store::commit::Shared;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::gaps::Gap;
use crate::store::gaps::Progress;
use crate::store::gaps::VerifyMode;
use crate::store::gaps::VerifyReport;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Start;
use crate::store::open;
use crate::store::packed;
use crate::store::recover;
use crate::store::recover::Live;
use crate::store::rows::DamageRow;
use crate::store::rows::InstanceRow;
use crate::store::sweep;
use crate::store::view;
use crate::store::view::View;
use crate::store::view::guarded;

/// Memory for the pages of each of the two indexes.
const CACHE_BYTES: u64 = 32 << 20;

pub fn verify(
    data: &Path,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, StoreError> {
    let format = data.join("format");
    fs::metadata(&format).doing("looking for a data folder at", &format)?;
    let _held = folder::hold(data)?;
    let check = data.join("state.check");
    let remove = || match fs::remove_dir_all(&check) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    remove().doing("removing", &check)?;
    let live = recover::find(data)?.live;
    let in_journal = live.as_ref().map_or(Ok(HashSet::new()), Live::objects)?;
    let mut report = VerifyReport { journal_in_use: live.is_some(), ..VerifyReport::default() };
    let outcome = verify_into(&mut report, data, &in_journal, &check, mode, progress);
    remove().doing("removing", &check)?;
    outcome.map(|()| report)
}

/// The same while the node works, against the index that it has: each receipt of the ledger with
/// its row, each row with its receipt, each file with both. What comes meanwhile is left out. Takes
/// no lock for longer than it takes to read the rows of one study.
pub fn verify_running(
    shared: &Shared,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, StoreError> {
    sweep::sweep(shared, &|| true)?;
    let mut report = VerifyReport::default();
    let ledger = shared.data.join(folder::LEDGER);
    let receipts = check_ledger(&mut report, shared, &ledger, progress)?;
    let until = Some(shared.clock.now());
    let in_journal = &HashSet::new();
    let mut check =
        Check { report: &mut report, data: &shared.data, mode, until, in_journal, progress };
    check.all(&Source::Node(shared), Some(&receipts))?;
    Ok(report)
}

fn verify_into(
    report: &mut VerifyReport,
    data: &Path,
    in_journal: &HashSet<String>,
    check: &Path,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    // What the index should be, made from the ledger alone.
    let fresh = View::open(check, CACHE_BYTES)?;
    let ledger = data.join(folder::LEDGER);
    let replayed =
        open::replay(&fresh, &ledger, &Start::Beginning, last_record(&ledger)?, progress)?;
    report.records = replayed.records;
    let mut damage: Vec<String> = replayed.damage.iter().map(ToString::to_string).collect();
    for row in fresh.scan::<DamageRow>(key::DAMAGE)? {
        if !damage.contains(&row.what) {
            damage.push(row.what);
        }
    }
    for what in damage {
        report.add(Gap::LedgerDamage { what });
    }
    let walked =
        ledger::walk(&ledger, &Start::Segment(replayed.end.segment.max(1)), &mut |_| Ok(()))?;
    if let Some(torn) = walked.torn {
        let ledger::Torn { segment, offset, bytes } = torn;
        report.add(Gap::LedgerTorn { segment, offset, bytes });
    }
    compare_index(report, data, &fresh, progress)?;
    Check { report, data, mode, until: None, in_journal, progress }.all(&Source::View(&fresh), None)
}

/// Number of the last record of the ledger.
fn last_record(ledger: &Path) -> Result<u64, StoreError> {
    let last = ledger::segments(ledger)?.last().copied().unwrap_or(1);
    Ok(ledger::walk(ledger, &Start::Segment(last), &mut |_| Ok(()))?.end.number)
}

/// Compares the index with a fresh one, row by row. An index that lags behind the ledger (the node
/// was killed) is brought up to it first, as the next start would do.
fn compare_index(
    report: &mut VerifyReport,
    data: &Path,
    fresh: &View,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    let state = data.join(folder::STATE);
    if !state.exists() {
        if report.records > 0 {
            report.add(Gap::IndexUnusable { cause: "the index is missing".to_owned() });
        }
        return Ok(());
    }
    let opened = View::open(&state, CACHE_BYTES).and_then(|view| {
        view.check_sum()?;
        let mark = view.position();
        if mark.number < fresh.position().number {
            let (ledger, end) = (data.join(folder::LEDGER), fresh.position().number);
            open::replay(&view, &ledger, &Start::After(mark), end, progress)?;
        }
        Ok(view)
    });
    let view = match opened {
        Ok(view) => view,
        // The next start makes it anew: nothing is lost.
        Err(StoreError::Index { cause }) if cause == view::EARLIER => return Ok(()),
        Err(error) => {
            report.add(Gap::IndexUnusable { cause: error.to_string() });
            return Ok(());
        }
    };
    let compared = guarded(|| {
        let (mut expected, mut found) = (fresh.rows()?, view.rows()?);
        let (mut left, mut right) = (expected.next().transpose()?, found.next().transpose()?);
        loop {
            let order = match (&left, &right) {
                (None, None) => return Ok(()),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(left), Some(right)) => left.0.cmp(&right.0),
            };
            let (expected_row, found_row) =
                (left.as_ref().filter(|_| order.is_le()), right.as_ref().filter(|_| order.is_ge()));
            if expected_row != found_row {
                name_difference(report, expected_row, found_row)?;
            }
            if order.is_le() {
                left = expected.next().transpose()?;
                report.rows += 1;
            }
            if order.is_ge() {
                right = found.next().transpose()?;
            }
            if report.rows.is_multiple_of(10_000) {
                progress(Progress {
                    step: "comparing the index".into(),
                    done: report.rows,
                    total: None,
                });
            }
        }
    });
    if let Err(error) = compared {
        report.add(Gap::IndexUnusable { cause: error.to_string() });
    }
    Ok(())
}

type RawRow = (sled::IVec, sled::IVec);

/// Says what of a row is not as it should be: for a block, of which instances.
fn name_difference(
    report: &mut VerifyReport,
    expected: Option<&RawRow>,
    found: Option<&RawRow>,
) -> Result<(), StoreError> {
    let Some((key, _)) = expected.or(found) else { return Ok(()) };
    if key.starts_with(key::INSTANCES) {
        let rows =
            |row: Option<&RawRow>| -> Result<BTreeMap<SopInstanceUid, InstanceRow>, StoreError> {
                let rows = row.map_or(Ok(Vec::new()), |(_, block)| packed::decode(block))?;
                Ok(rows
                    .into_iter()
                    .map(|row| (row.receipt.sop_instance_uid.clone(), row))
                    .collect())
            };
        let (expected, mut found) = (rows(expected)?, rows(found)?);
        for (sop, row) in expected {
            let what = match found.remove(&sop) {
                None => "is missing",
                Some(other) if other != row => "differs",
                Some(_) => continue,
            };
            report.add(Gap::IndexRow { key: format!("of {sop}"), what: what.to_owned() });
        }
        for sop in found.into_keys() {
            let what = "is not of the ledger".to_owned();
            report.add(Gap::IndexRow { key: format!("of {sop}"), what });
        }
        return Ok(());
    }
    let what = match (expected, found) {
        (Some(_), None) => "is missing",
        (None, _) => "is not of the ledger",
        (Some(_), Some(_)) => "differs",
    };
    report.add(Gap::IndexRow { key: key.escape_ascii().to_string(), what: what.to_owned() });
    Ok(())
}

/// SHA-256 in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    text::hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Clock;
    use crate::domain::clock::SystemClock;
    use crate::store::Store;
    use crate::store::event::Event;
    use crate::store::event::Receipt;
    use crate::store::objects;
    use crate::store::testing;
    use crate::store::testing::at;
    use crate::store::testing::dump;
    use crate::store::testing::sop;
    use crate::store::testing::store_instance;
    use crate::store::testing::study;
    use std::sync::Arc;

    async fn filled(data: &Path) {
        let (store, _) = testing::open(data);
        for instance in 1..=4 {
            store_instance(&store, 1, instance, "pixels").await;
        }
        store.write_result(&study(1), 1, "report.txt", b"text").unwrap();
        let written = Event::ArtefactWritten {
            study_uid: study(1),
            revision: 1,
            file: "report.txt".into(),
            media_type: "text/plain".into(),
            size_bytes: 4,
            digest: hex(b"text"),
            sop_instance_uid: None,
            at: at(9),
        };
        store.commit(vec![written]).await.unwrap();
    }

    fn gaps(data: &Path, mode: VerifyMode) -> Vec<String> {
        let report = Store::verify(data, mode, &mut |_| {}).unwrap();
        assert_eq!(report.gaps_total, report.gaps.len() as u64);
        report.gaps.iter().map(Gap::to_string).collect()
    }

    fn object(data: &Path, instance: u32) -> std::path::PathBuf {
        let mut found = None;
        objects::walk_files(data, "objects", &mut |name, _| {
            if name.ends_with(&format!("/{}.dcm", sop(1, instance))) {
                found = Some(data.join(name));
            }
            Ok(())
        })
        .unwrap();
        found.unwrap()
    }

    fn append(path: &Path, bytes: &[u8]) {
        let mut whole = fs::read(path).unwrap();
        whole.extend(bytes);
        fs::write(path, whole).unwrap();
    }

    #[tokio::test]
    async fn a_whole_folder_has_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let report = Store::verify(dir.path(), VerifyMode::Full, &mut |_| {}).unwrap();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!((report.receipts, report.objects, report.artefacts), (4, 4, 1));
        assert!(!dir.path().join("state.check").exists());
    }

    #[tokio::test]
    async fn every_gap_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        fs::remove_file(object(data, 1)).unwrap();
        append(&object(data, 2), b"more");
        let third = object(data, 3);
        let mut bytes = fs::read(&third).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&third, bytes).unwrap();
        fs::copy(object(data, 4), object(data, 4).with_extension("v2.dcm")).unwrap();
        fs::write(data.join("results/1.2.1/1/report.txt"), "other").unwrap();
        append(&data.join("ledger/00000001.log"), b"torn");
        let quick = gaps(data, VerifyMode::Quick);
        let expected = [
            "4 bytes at",
            "was acknowledged and",
            "bytes, 150 were received",
            ".v2.dcm has no receipt",
            "report.txt is not what was written",
        ];
        assert_eq!(quick.len(), expected.len(), "{quick:#?}");
        for part in expected {
            assert!(quick.iter().any(|gap| gap.contains(part)), "{part}: {quick:#?}");
        }
        let full = gaps(data, VerifyMode::Full);
        assert_eq!(full.len(), 6, "{full:#?}");
        assert!(full.iter().any(|gap| gap.ends_with("is not what was received")), "{full:#?}");
        fs::remove_file(data.join("results/1.2.1/1/report.txt")).unwrap();
        assert!(gaps(data, VerifyMode::Quick).iter().any(|gap| gap.contains("is missing")));
    }

    /// What the rows say of each other.
    async fn tell_tales(store: &Store) {
        let delivered = Event::Delivered {
            study_uid: study(1),
            revision: 1,
            artefact: "sr.dcm".into(),
            destination: "pacs".into(),
            detail: "0000".into(),
            unproven: false,
            at: at(9),
        };
        let job = testing::job(7, 1, crate::store::event::JobKind::Plan, 0, 5);
        store.commit(vec![delivered, Event::JobEnqueued { job }]).await.unwrap();
    }

    #[tokio::test]
    async fn deliveries_of_nothing_and_jobs_of_nobody_are_named() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path()).await;
        let (store, _) = testing::open(dir.path());
        tell_tales(&store).await;
        let running = store.verify_running(VerifyMode::Quick, &mut |_| {}).unwrap();
        drop(store);
        let expected = [
            "results/1.2.1/1/sr.dcm counts as delivered to pacs and was never written",
            "job 1.2.7/1/plan is of a study that is not known",
        ];
        assert_eq!(gaps(dir.path(), VerifyMode::Quick), expected);
        let running: Vec<String> = running.gaps.iter().map(Gap::to_string).collect();
        assert_eq!(running, expected, "and while the node works");
    }

    /// Against the ledger, not against the index alone.
    #[tokio::test]
    async fn a_node_at_work_finds_what_its_index_has_lost_and_what_nobody_sent() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        let (store, _) = testing::open(data);
        let whole = store.verify_running(VerifyMode::Full, &mut |_| {}).unwrap();
        assert!(whole.is_complete(), "{whole:?}");
        assert_eq!((whole.receipts, whole.objects, whole.artefacts), (4, 4, 1));
        store
            .read(|view| {
                let mut txn = view.begin();
                txn.remove_instance(&sop(1, 1));
                let mut row = InstanceRow::clone(&txn.instance(&sop(1, 2))?.unwrap());
                row.receipt.sop_instance_uid = sop(1, 9);
                txn.put_instance(row);
                view.publish(txn.finish()?, view.position())
            })
            .unwrap();
        fs::remove_file(object(data, 3)).unwrap();
        let report = store.verify_running(VerifyMode::Quick, &mut |_| {}).unwrap();
        let found: Vec<String> = report.gaps.iter().map(Gap::to_string).collect();
        let expected = [
            "1.2.1.1.1 was acknowledged and is not in the index",
            "1.2.1.1.3 was acknowledged and objects/",
            "1.2.1.1.9 is in the index and has no receipt",
        ];
        for part in expected {
            assert!(found.iter().any(|gap| gap.contains(part)), "{part}: {found:#?}");
        }
    }

    #[tokio::test]
    async fn an_index_that_is_missing_or_differs_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        {
            // A row changed behind our back, with a sum that fits.
            let view = View::open(&data.join("state"), 8 << 20).unwrap();
            let mut txn = view.begin();
            let key = key::study(&study(1));
            let mut row: crate::store::StudyRow = txn.get(&key).unwrap().unwrap();
            row.instances = 3;
            txn.put(key, row);
            txn.remove_instance(&sop(1, 1));
            let later = ledger::Position { offset: 1, ..view.position() };
            view.publish(txn.finish().unwrap(), later).unwrap();
        }
        let found = gaps(data, VerifyMode::Quick);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().any(|gap| gap.contains("of 1.2.1.1.1: is missing")), "{found:?}");
        assert!(found.iter().any(|gap| gap.contains("s1.2.1: differs")), "{found:?}");
        fs::remove_dir_all(data.join("state")).unwrap();
        assert_eq!(gaps(data, VerifyMode::Quick), ["the index is missing"]);
    }

    /// Index and ledger gone: instances come back from their files, when these can be read.
    #[tokio::test]
    async fn a_rebuild_makes_the_same_index_and_adopts_objects_without_receipt() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = crate::store::testing::config();
        let rebuild = |facts: crate::store::Facts<'_>| {
            Store::rebuild(data, &config, Arc::clone(&clock), facts, &mut |_| {}).unwrap()
        };
        let rows = dump(&testing::open(data).0);
        let report = rebuild(&|_| None);
        assert_eq!((report.objects, report.adopted), (4, 0));
        assert!(report.set_aside.is_some() && report.damage.is_empty());
        assert_eq!(dump(&testing::open(data).0), rows);

        fs::remove_dir_all(data.join("ledger")).unwrap();
        fs::copy(object(data, 4), object(data, 4).with_extension("v2.dcm")).unwrap();
        let facts = |path: &Path| -> Option<Receipt> {
            let name = path.file_name()?.to_str()?;
            let number: u32 = name.strip_prefix("1.2.1.1.")?.split('.').next()?.parse().ok()?;
            (number != 3).then(|| testing::receipt(1, number, "x"))
        };
        let report = rebuild(&facts);
        assert_eq!((report.objects, report.adopted), (5, 3), "{report:?}");
        assert!(report.unreadable[0].ends_with("1.2.1.1.3.dcm"), "{report:?}");
        assert!(report.duplicates[0].ends_with("1.2.1.1.4.v2.dcm"), "{report:?}");
        let (store, opened) = testing::open(data);
        assert_eq!(opened.damage.len(), 1, "what the ledger lost is told: {opened:?}");
        assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 3);
    }
}
