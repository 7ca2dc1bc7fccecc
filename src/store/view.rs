//! sled as a view: rows under prefixed keys in one tree, changed by one batch for each record of
//! the ledger, together with the position that the batch stands for.
//!
//! sled can lose rows silently (a flipped bit ends its recovery early). So each batch also keeps
//! the sum of the fingerprints of all rows; at start every row is read and the sum compared.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sled::IVec;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::ledger::Position;
use crate::store::rows::InstanceRow;
use crate::store::rows::JobRow;
use crate::store::rows::StepRow;
use crate::store::rows::StudyRow;

/// Keys of the rows: a letter, then parts with a NUL between them. UIDs hold digits and dots only.
pub mod key {
    use crate::domain::uid::SopInstanceUid;
    use crate::domain::uid::StudyUid;
    use crate::domain::uid::TransactionUid;

    pub const MARK: &[u8] = b"!mark";
    pub const STUDIES_BY_CHANGE: &[u8] = b"c";
    pub const INSTANCES: &[u8] = b"i";
    pub const OPEN_JOBS: &[u8] = b"o";
    pub const OPEN_REVISIONS: &[u8] = b"p";
    pub const ARTEFACTS: &[u8] = b"a";
    pub const SOURCES: &[u8] = b"q";

    fn of(letter: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut key = vec![letter];
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                key.push(0);
            }
            key.extend(*part);
        }
        key
    }

    /// As a prefix of keys that go on with another part.
    fn all(mut key: Vec<u8>) -> Vec<u8> {
        key.push(0);
        key
    }

    pub fn study(study: &StudyUid) -> Vec<u8> {
        of(b's', &[study.as_str().as_bytes()])
    }

    pub fn by_change(order: u64) -> Vec<u8> {
        of(b'c', &[&order.to_be_bytes()])
    }

    pub fn revisions(study: &StudyUid) -> Vec<u8> {
        all(of(b'r', &[study.as_str().as_bytes()]))
    }

    pub fn revision(study: &StudyUid, revision: u32) -> Vec<u8> {
        of(b'r', &[study.as_str().as_bytes(), &revision.to_be_bytes()])
    }

    pub fn open_revision(study: &StudyUid) -> Vec<u8> {
        of(b'p', &[study.as_str().as_bytes()])
    }

    pub fn instances(study: &StudyUid) -> Vec<u8> {
        all(of(b'i', &[study.as_str().as_bytes()]))
    }

    pub fn instance(study: &StudyUid, sop: &SopInstanceUid) -> Vec<u8> {
        of(b'i', &[study.as_str().as_bytes(), sop.as_str().as_bytes()])
    }

    /// Names the study of an instance.
    pub fn study_of(sop: &SopInstanceUid) -> Vec<u8> {
        of(b'n', &[sop.as_str().as_bytes()])
    }

    pub fn histories(study: &StudyUid) -> Vec<u8> {
        all(of(b'h', &[study.as_str().as_bytes()]))
    }

    pub fn history(study: &StudyUid, order: u64) -> Vec<u8> {
        of(b'h', &[study.as_str().as_bytes(), &order.to_be_bytes()])
    }

    pub fn artefacts(study: &StudyUid, revision: u32) -> Vec<u8> {
        all(of(b'a', &[study.as_str().as_bytes(), &revision.to_be_bytes()]))
    }

    pub fn artefact(study: &StudyUid, revision: u32, file: &str) -> Vec<u8> {
        of(b'a', &[study.as_str().as_bytes(), &revision.to_be_bytes(), file.as_bytes()])
    }

    pub fn deliveries(study: &StudyUid) -> Vec<u8> {
        all(of(b'd', &[study.as_str().as_bytes()]))
    }

    pub fn delivery(study: &StudyUid, revision: u32, artefact: &str, to: &str) -> Vec<u8> {
        let revision = revision.to_be_bytes();
        of(b'd', &[study.as_str().as_bytes(), &revision, artefact.as_bytes(), to.as_bytes()])
    }

    pub fn alerts(study: &StudyUid) -> Vec<u8> {
        all(of(b'l', &[study.as_str().as_bytes()]))
    }

    pub fn alert(study: &StudyUid, revision: u32, alert: &str) -> Vec<u8> {
        of(b'l', &[study.as_str().as_bytes(), &revision.to_be_bytes(), alert.as_bytes()])
    }

    pub fn source(calling_ae: &str) -> Vec<u8> {
        of(b'q', &[calling_ae.as_bytes()])
    }

    pub fn commitments(transaction: &TransactionUid) -> Vec<u8> {
        all(of(b't', &[transaction.as_str().as_bytes()]))
    }

    pub fn commitment(transaction: &TransactionUid, request: &str) -> Vec<u8> {
        of(b't', &[transaction.as_str().as_bytes(), request.as_bytes()])
    }

    /// A performed procedure step.
    pub fn step(step: &SopInstanceUid) -> Vec<u8> {
        of(b'm', &[step.as_str().as_bytes()])
    }

    /// The instances that it has made.
    pub fn step_instances(step: &SopInstanceUid) -> Vec<u8> {
        of(b'm', &[step.as_str().as_bytes(), b"instances"])
    }

    /// Names the steps of a study.
    pub fn steps_of(study: &StudyUid) -> Vec<u8> {
        all(of(b'e', &[study.as_str().as_bytes()]))
    }

    pub fn step_of(study: &StudyUid, step: &SopInstanceUid) -> Vec<u8> {
        of(b'e', &[study.as_str().as_bytes(), step.as_str().as_bytes()])
    }

    /// An archive's count of a study's instances.
    pub fn count(study: &StudyUid) -> Vec<u8> {
        of(b'x', &[study.as_str().as_bytes()])
    }

    pub fn job(id: &str) -> Vec<u8> {
        of(b'j', &[id.as_bytes()])
    }

    /// Marks a job that waits, runs or is dead.
    pub fn open_job(id: &str) -> Vec<u8> {
        of(b'o', &[id.as_bytes()])
    }

    pub fn revision_jobs(study: &StudyUid, revision: u32) -> Vec<u8> {
        all(of(b'k', &[study.as_str().as_bytes(), &revision.to_be_bytes()]))
    }

    /// Marks the same job under its revision.
    pub fn revision_job(study: &StudyUid, revision: u32, id: &str) -> Vec<u8> {
        of(b'k', &[study.as_str().as_bytes(), &revision.to_be_bytes(), id.as_bytes()])
    }
}

/// What stands for the whole: written in each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The last record of the ledger that is applied.
    pub position: Position,
    pub rows: u64,
    /// Sum of the fingerprints of all rows but this one, wrapping.
    pub sum: u64,
}

/// The sled database of the data folder.
pub struct View {
    db: sled::Db,
    mark: std::sync::Mutex<Mark>,
    /// A broken sled for tests: the next publish fails.
    #[cfg(test)]
    pub fail_publish: std::sync::atomic::AtomicBool,
}

impl View {
    /// Opens (or makes) it. A panic of sled on damaged files becomes an error.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<View, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .doing("making the folder", path)?;
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes);
        let until = Instant::now() + Duration::from_secs(3);
        let db = loop {
            let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
            match opened {
                Ok(Ok(db)) => break db,
                // sled gives its lock back a little after it was dropped.
                Ok(Err(sled::Error::Io(error)))
                    if error.to_string().contains("lock") && Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(Err(sled::Error::Io(error))) => {
                    return Err(StoreError::io("opening the index", path, error));
                }
                Ok(Err(error)) => return Err(StoreError::index(error)),
                Err(_) => return Err(StoreError::index("sled panicked at open")),
            }
        };
        let view = View {
            db,
            mark: Default::default(),
            #[cfg(test)]
            fail_publish: Default::default(),
        };
        let mark = guarded(|| view.get::<Mark>(key::MARK))?;
        if mark.is_none() && guarded(|| Ok(view.db.first().map_err(StoreError::index)?.is_some()))?
        {
            return Err(StoreError::index("it has rows and no mark"));
        }
        *view.lock_mark() = mark.unwrap_or_default();
        Ok(view)
    }

    fn lock_mark(&self) -> std::sync::MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn mark(&self) -> Mark {
        *self.lock_mark()
    }

    /// Reads every row and compares number and sum with the mark.
    pub fn check_sum(&self) -> Result<(), StoreError> {
        let (mut rows, mut sum) = (0_u64, 0_u64);
        guarded(|| {
            for row in self.db.iter() {
                let (key, value) = row.map_err(StoreError::index)?;
                if key.as_ref() != key::MARK {
                    rows += 1;
                    sum = sum.wrapping_add(fingerprint(&key, &value));
                }
            }
            Ok(())
        })?;
        let mark = self.mark();
        match (rows, sum) == (mark.rows, mark.sum) {
            true => Ok(()),
            false => Err(StoreError::index(format!(
                "{rows} rows were found where {} were written, or some differ",
                mark.rows
            ))),
        }
    }

    /// Every row but the mark, in the order of the keys.
    pub fn rows(&self) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> {
        let rows = self.db.iter().map(|row| row.map_err(StoreError::index));
        rows.filter(|row| row.as_ref().map_or(true, |(key, _)| key.as_ref() != key::MARK))
    }

    pub fn raw(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(StoreError::index)
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.raw(key)?.map(|value| parse(&value)).transpose()
    }

    pub fn scan<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        let values = self.db.scan_prefix(prefix).values();
        values.map(|value| parse(&value.map_err(StoreError::index)?)).collect()
    }

    pub fn studies(&self, limit: usize) -> Result<Vec<StudyRow>, StoreError> {
        let mut rows = Vec::new();
        for study in self.db.scan_prefix(key::STUDIES_BY_CHANGE).values().rev().take(limit) {
            let study = parse(&study.map_err(StoreError::index)?)?;
            // A row that changed between the two reads has moved to the front of the list.
            rows.extend(self.get::<StudyRow>(&key::study(&study))?);
        }
        Ok(rows)
    }

    pub fn instance(&self, sop: &SopInstanceUid) -> Result<Option<InstanceRow>, StoreError> {
        match self.get(&key::study_of(sop))? {
            Some(study) => self.get(&key::instance(&study, sop)),
            None => Ok(None),
        }
    }

    /// The performed procedure steps of a study.
    pub fn steps(&self, study: &StudyUid) -> Result<Vec<StepRow>, StoreError> {
        let mut rows = Vec::new();
        for step in self.scan::<SopInstanceUid>(&key::steps_of(study))? {
            rows.extend(self.get::<StepRow>(&key::step(&step))?);
        }
        Ok(rows)
    }

    pub fn open_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let mut rows = Vec::new();
        for open in self.db.scan_prefix(key::OPEN_JOBS).keys() {
            let mut key = open.map_err(StoreError::index)?.to_vec();
            key[0] = b'j';
            rows.extend(self.get::<JobRow>(&key)?);
        }
        Ok(rows)
    }

    pub fn begin(&self) -> Txn<'_> {
        Txn { view: self, before: HashMap::new(), changes: BTreeMap::new(), jobs: BTreeMap::new() }
    }

    /// Makes the changes of a transaction visible, as one batch with their position.
    pub fn publish(&self, changes: Changes, position: Position) -> Result<(), StoreError> {
        #[cfg(test)]
        if self.fail_publish.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return Err(StoreError::index("broken by a test"));
        }
        let mut batch = sled::Batch::default();
        let mut mark = self.mark();
        mark.position = position;
        for Change { key, before, after } in changes.changes {
            if let Some(value) = before {
                mark.rows = mark.rows.wrapping_sub(1);
                mark.sum = mark.sum.wrapping_sub(fingerprint(&key, &value));
            }
            match after {
                Some(value) => {
                    mark.rows = mark.rows.wrapping_add(1);
                    mark.sum = mark.sum.wrapping_add(fingerprint(&key, &value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        let value = serde_json::to_vec(&mark).map_err(StoreError::index)?;
        batch.insert(key::MARK, value);
        guarded(|| self.db.apply_batch(batch).map_err(StoreError::index))?;
        *self.lock_mark() = mark;
        Ok(())
    }

    /// Writes what sled still holds in memory (no fsync: the ledger does not need it).
    pub fn flush(&self) -> Result<(), StoreError> {
        guarded(|| self.db.flush().map(|_| ()).map_err(StoreError::index))
    }
}

/// Runs a read or write of sled; a panic in it becomes an error.
pub fn guarded<T>(f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(StoreError::index("sled panicked")))
}

fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::index(format!("a row: {error}")))
}

fn fingerprint(key: &[u8], value: &[u8]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    let low = crc.clone().finalize();
    crc.update(value);
    let high = crc.finalize();
    // The finalizer of splitmix64: checksums add up to nothing else than the same rows.
    let mut z = (u64::from(high) << 32 | u64::from(low)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Change {
    key: Vec<u8>,
    before: Option<IVec>,
    after: Option<Vec<u8>>,
}

/// What the queue has to hear of a job.
#[derive(Debug, Clone)]
pub struct JobChange {
    pub row: JobRow,
    /// A try of it came to an end: whoever held it holds it no more.
    pub ended: bool,
}

/// The outcome of a transaction, not yet visible.
pub struct Changes {
    changes: Vec<Change>,
    pub jobs: Vec<JobChange>,
}

/// Changes in the making, seen only by whoever makes them: reads see them, the view does not.
pub struct Txn<'a> {
    view: &'a View,
    before: HashMap<Vec<u8>, Option<IVec>>,
    changes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    /// Jobs whose rows changed, and whether a try ended.
    jobs: BTreeMap<String, bool>,
}

impl Txn<'_> {
    pub fn get<T: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<T>, StoreError> {
        if let Some(changed) = self.changes.get(key) {
            return changed.as_deref().map(parse).transpose();
        }
        let value = self.before(key)?;
        value.map(|value| parse(&value)).transpose()
    }

    pub fn has(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        match self.changes.get(key) {
            Some(changed) => Ok(changed.is_some()),
            None => Ok(self.before(key)?.is_some()),
        }
    }

    pub fn put<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        self.before(&key)?;
        let value = serde_json::to_vec(row).map_err(StoreError::index)?;
        self.changes.insert(key, Some(value));
        Ok(())
    }

    pub fn remove(&mut self, key: Vec<u8>) -> Result<(), StoreError> {
        self.before(&key)?;
        self.changes.insert(key, None);
        Ok(())
    }

    /// Keys that begin with `prefix`, in order.
    pub fn keys(&mut self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = BTreeSet::new();
        for key in self.view.db.scan_prefix(prefix).keys() {
            keys.insert(key.map_err(StoreError::index)?.to_vec());
        }
        let changed = self.changes.range(prefix.to_vec()..);
        for (key, value) in changed.take_while(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    pub fn instance(&mut self, sop: &SopInstanceUid) -> Result<Option<InstanceRow>, StoreError> {
        match self.get(&key::study_of(sop))? {
            Some(study) => self.get(&key::instance(&study, sop)),
            None => Ok(None),
        }
    }

    /// Writes the row of a job; the queue hears of it when the changes are published.
    pub fn put_job(&mut self, row: &JobRow) -> Result<(), StoreError> {
        self.jobs.entry(row.job.id.clone()).or_insert(false);
        self.put(key::job(&row.job.id), row)
    }

    pub fn job_ended(&mut self, id: &str) {
        self.jobs.insert(id.to_owned(), true);
    }

    pub fn finish(mut self) -> Result<Changes, StoreError> {
        let ids = std::mem::take(&mut self.jobs);
        let mut jobs = Vec::new();
        for (id, ended) in ids {
            let row = self.get::<JobRow>(&key::job(&id))?;
            jobs.extend(row.map(|row| JobChange { row, ended }));
        }
        let mut changes = Vec::with_capacity(self.changes.len());
        for (key, after) in self.changes {
            let before = self.before.remove(&key).flatten();
            // What came and went in between, or is as it was, is no change.
            if before.as_deref() != after.as_deref() {
                changes.push(Change { key, before, after });
            }
        }
        Ok(Changes { changes, jobs })
    }

    /// The row as the view has it; what a change replaces is known for the sum.
    fn before(&mut self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        if let Some(value) = self.before.get(key) {
            return Ok(value.clone());
        }
        let value = self.view.raw(key)?;
        self.before.insert(key.to_vec(), value.clone());
        Ok(value)
    }
}
