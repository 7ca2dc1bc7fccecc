//! Looks for every gap between what was received, what is written down and what is on disk.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;

use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::digest::Hasher;
use crate::domain::text;
use crate::domain::uid::SopInstanceUid;
use crate::store::Store;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Start;
use crate::store::open;
use crate::store::packed;
use crate::store::rebuild;
use crate::store::rows::ArtefactRow;
use crate::store::rows::InstanceRow;
use crate::store::view::View;
use crate::store::view::guarded;

/// Gaps listed one by one; more are only counted.
const GAPS_MAX: usize = 10_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifyMode {
    /// Names and sizes of the instances.
    Quick,
    /// Also the SHA-256 of each.
    Full,
}

/// How far a long walk is; `total` where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub step: &'static str,
    pub done: u64,
    pub total: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "gap")]
pub enum Gap {
    /// The worst: something that was acknowledged is not there.
    ReceiptWithoutObject {
        sop_instance_uid: String,
        object: String,
    },
    ObjectWithoutReceipt {
        object: String,
    },
    ObjectSize {
        object: String,
        expected_bytes: u64,
        found_bytes: u64,
    },
    ObjectDigest {
        object: String,
    },
    ObjectUnreadable {
        object: String,
        cause: String,
    },
    LedgerDamage {
        what: String,
    },
    /// Its last record is incomplete; the next start cuts it off.
    LedgerTorn {
        segment: u64,
        offset: u64,
        bytes: u64,
    },
    IndexUnusable {
        cause: String,
    },
    IndexRow {
        key: String,
        what: String,
    },
    ArtefactMissing {
        file: String,
    },
    ArtefactChanged {
        file: String,
    },
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::ReceiptWithoutObject { sop_instance_uid, object } => {
                write!(f, "instance {sop_instance_uid} was acknowledged and {object} is missing")
            }
            Gap::ObjectWithoutReceipt { object } => write!(f, "{object} has no receipt"),
            Gap::ObjectSize { object, expected_bytes, found_bytes } => {
                write!(f, "{object} has {found_bytes} bytes, {expected_bytes} were received")
            }
            Gap::ObjectDigest { object } => write!(f, "{object} is not what was received"),
            Gap::ObjectUnreadable { object, cause } => write!(f, "{object}: {cause}"),
            Gap::LedgerDamage { what } => f.write_str(what),
            Gap::LedgerTorn { segment, offset, bytes } => {
                write!(f, "ledger file {segment:08}.log: {bytes} bytes at {offset} are incomplete")
            }
            Gap::IndexUnusable { cause } => f.write_str(cause),
            Gap::IndexRow { key, what } => write!(f, "index row {key}: {what}"),
            Gap::ArtefactMissing { file } => write!(f, "{file} was written and is missing"),
            Gap::ArtefactChanged { file } => write!(f, "{file} is not what was written"),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    pub records: u64,
    pub receipts: u64,
    pub objects: u64,
    pub rows: u64,
    pub artefacts: u64,
    pub gaps: Vec<Gap>,
    /// All, also those that are not listed.
    pub gaps_total: u64,
}

impl VerifyReport {
    pub fn is_complete(&self) -> bool {
        self.gaps_total == 0
    }

    fn add(&mut self, gap: Gap) {
        self.gaps_total += 1;
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(gap);
        }
    }
}

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
    let mut report = VerifyReport::default();
    let outcome = verify_into(&mut report, data, &check, mode, progress);
    remove().doing("removing", &check)?;
    outcome.map(|()| report)
}

/// What can be compared while the node works: every instance and every result that the index
/// knows with its file, and the ledger's own chain. What the index should be, and files that
/// nothing knows, are for a folder at rest. Takes no lock for longer than one study.
pub fn verify_running(
    store: &Store,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<VerifyReport, StoreError> {
    let mut report = VerifyReport::default();
    let data = store.data();
    let mut damage = Vec::new();
    let ledger = data.join(folder::LEDGER);
    // An incomplete last record is one that is being written.
    let walked = ledger::walk(&ledger, &Start::Beginning, &mut |found| {
        if let ledger::Found::Damage(what) = found {
            damage.push(what.to_string());
        }
        Ok(())
    })?;
    report.records = walked.records;
    for what in damage {
        report.add(Gap::LedgerDamage { what });
    }
    for study in store.studies(usize::MAX)? {
        report.rows += 1;
        for row in store.instances(&study.study_uid)? {
            check_receipt(&mut report, data, row.receipt, mode, progress);
        }
        for revision in store.revisions(&study.study_uid)? {
            for row in store.artefacts(&study.study_uid, revision.revision)? {
                check_artefact(&mut report, data, study.study_uid.as_str(), &row, progress);
            }
        }
    }
    Ok(report)
}

fn verify_into(
    report: &mut VerifyReport,
    data: &Path,
    check: &Path,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    let cache = 64 << 20;
    // What the index should be, made from the ledger alone.
    let fresh = View::open(check, cache)?;
    let ledger = data.join(folder::LEDGER);
    let replayed =
        open::replay(&fresh, &ledger, &Start::Beginning, last_record(&ledger)?, progress)?;
    report.records = replayed.records;
    for damage in &replayed.damage {
        report.add(Gap::LedgerDamage { what: damage.to_string() });
    }
    let walked =
        ledger::walk(&ledger, &Start::Segment(replayed.end.segment.max(1)), &mut |_| Ok(()))?;
    if let Some(torn) = walked.torn {
        let ledger::Torn { segment, offset, bytes } = torn;
        report.add(Gap::LedgerTorn { segment, offset, bytes });
    }
    compare_index(report, data, &fresh, progress)?;
    check_receipts(report, data, &fresh, mode, progress)?;
    check_objects(report, data, &fresh, progress)?;
    check_results(report, data, &fresh, progress)
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
    let opened = View::open(&state, 64 << 20).and_then(|view| {
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
                progress(Progress { step: "comparing the index", done: report.rows, total: None });
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

fn check_receipts(
    report: &mut VerifyReport,
    data: &Path,
    fresh: &View,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    fresh.each_block(&mut |rows| {
        for row in rows {
            for receipt in [row.receipt].into_iter().chain(row.versions) {
                check_receipt(report, data, receipt, mode, progress);
            }
        }
        Ok(())
    })
}

fn check_receipt(
    report: &mut VerifyReport,
    data: &Path,
    receipt: Receipt,
    mode: VerifyMode,
    progress: &mut dyn FnMut(Progress),
) {
    report.receipts += 1;
    if report.receipts.is_multiple_of(100) {
        let step = "looking for each instance";
        progress(Progress { step, done: report.receipts, total: None });
    }
    let path = data.join(&receipt.object);
    let Ok(meta) = fs::metadata(&path) else {
        let sop_instance_uid = receipt.sop_instance_uid.to_string();
        report.add(Gap::ReceiptWithoutObject { sop_instance_uid, object: receipt.object });
        return;
    };
    if meta.len() != receipt.size_bytes {
        report.add(Gap::ObjectSize {
            object: receipt.object,
            expected_bytes: receipt.size_bytes,
            found_bytes: meta.len(),
        });
        return;
    }
    if mode == VerifyMode::Full {
        match data_set_digest(&path, &receipt.digest) {
            Ok(digest) if digest == receipt.digest => {}
            Ok(_) => report.add(Gap::ObjectDigest { object: receipt.object }),
            Err(error) => {
                let cause = error.to_string();
                report.add(Gap::ObjectUnreadable { object: receipt.object, cause });
            }
        }
    }
}

fn check_objects(
    report: &mut VerifyReport,
    data: &Path,
    fresh: &View,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    rebuild::each_study(data, &mut |study, objects| {
        report.objects += objects.len() as u64;
        let step = "looking at each object";
        progress(Progress { step, done: report.objects, total: Some(report.receipts) });
        // What a removal has left goes with the next start.
        if study.map_or(Ok(false), |study| fresh.has(&key::going(study)))? {
            return Ok(());
        }
        for object in rebuild::without_receipt(fresh, study, objects)? {
            report.add(Gap::ObjectWithoutReceipt { object });
        }
        Ok(())
    })
}

/// Whether a receipt names this file: its name is `<sop>.dcm` or `<sop>.v2.dcm`.
pub fn has_receipt(view: &View, object: &str) -> Result<bool, StoreError> {
    let name = object.rsplit('/').next().unwrap_or("");
    let Some(stem) = name.strip_suffix(".dcm") else { return Ok(false) };
    let sop = stem.split_once(".v").map_or(stem, |(sop, _)| sop);
    let Ok(sop) = SopInstanceUid::parse(sop) else { return Ok(false) };
    let row = view.instance(&sop)?;
    Ok(row.is_some_and(|row| row.files().any(|file| file == object)))
}

fn check_results(
    report: &mut VerifyReport,
    data: &Path,
    fresh: &View,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), StoreError> {
    for row in fresh.rows()? {
        let (key, value) = row?;
        if !key.starts_with(key::ARTEFACTS) {
            continue;
        }
        let row: ArtefactRow = serde_json::from_slice(&value).map_err(StoreError::index)?;
        let study: Vec<u8> = key[1..].iter().copied().take_while(|b| *b != 0).collect();
        check_artefact(report, data, &String::from_utf8_lossy(&study), &row, progress);
    }
    Ok(())
}

fn check_artefact(
    report: &mut VerifyReport,
    data: &Path,
    study: &str,
    row: &ArtefactRow,
    progress: &mut dyn FnMut(Progress),
) {
    let file = format!("{}/{study}/{}/{}", folder::RESULTS, row.revision, row.file);
    report.artefacts += 1;
    progress(Progress { step: "looking at each result", done: report.artefacts, total: None });
    match fs::read(data.join(&file)) {
        Ok(bytes) => {
            let same = bytes.len() as u64 == row.size_bytes && hex(&bytes) == row.digest;
            if !same {
                report.add(Gap::ArtefactChanged { file });
            }
        }
        Err(_) => report.add(Gap::ArtefactMissing { file }),
    }
}

/// SHA-256 in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    text::hex(&Sha256::digest(bytes))
}

/// Length of the file meta group behind its first element; the file then stands there.
pub fn meta_length(file: &mut File) -> io::Result<u64> {
    let mut start = [0; 144];
    file.read_exact(&mut start)?;
    if &start[128..132] != b"DICM" || start[132..140] != *b"\x02\0\0\0UL\x04\0" {
        let what = "not a Part 10 file as written here";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(start[140..144].iter().rev().fold(0_u64, |sum, b| sum << 8 | u64::from(*b)))
}

/// Digest of the data set of a Part 10 file, of the kind that `like` is: what follows the file meta information, whose
/// length stands in its first element, (0002,0000) (PS3.10 7.1).
pub fn data_set_digest(path: &Path, like: &str) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = meta_length(&mut file)?;
    if io::copy(&mut (&mut file).take(length), &mut io::sink())? != length {
        let what = "shorter than its file meta information";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut hash = Hasher::like(like);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finish()),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::Clock;
    use crate::domain::clock::SystemClock;
    use crate::store::Config;
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
        assert_eq!(full.len(), 6);
        assert!(full.iter().any(|gap| gap.ends_with("is not what was received")), "{full:#?}");
        fs::remove_file(data.join("results/1.2.1/1/report.txt")).unwrap();
        assert!(gaps(data, VerifyMode::Quick).iter().any(|gap| gap.contains("is missing")));
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
        let config = Config { free_bytes_min: 0, ..Config::default() };
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
        assert!(opened.alarms().is_empty(), "{opened:?}");
        assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 3);
    }
}
