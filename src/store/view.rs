//! sled as a view: rows under prefixed keys in one tree, with the position of the ledger that they
//! stand for.
//!
//! Changes are visible at once and written to sled a little later, many in one batch, by a thread
//! of its own: what a kill takes away is applied again from the ledger. sled can lose rows silently
//! (a flipped bit ends its recovery early), so each batch also keeps the sum of the fingerprints
//! of all rows; it is compared in the background while the node works.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::fs::DirBuilder;
use std::ops::ControlFlow;
use std::os::unix::fs::DirBuilderExt as _;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use serde::Deserialize;
use serde::Serialize;
use sled::IVec;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::key;
use crate::store::ledger::Position;
use crate::store::packed;
use crate::store::packed::Packing;
use crate::store::recent::Change;
use crate::store::recent::Known;
use crate::store::recent::Layer;
use crate::store::recent::Row;
use crate::store::recent::parse;
use crate::store::rows::InstanceRow;
use crate::store::rows::JobRow;
use crate::store::rows::StepRow;
use crate::store::rows::StudyRow;
use crate::store::txn;
use crate::store::txn::Changes;
use crate::store::txn::Txn;

/// How rows are written; an index of another layout is made anew.
const LAYOUT: u32 = 4;
/// Why an index is made anew that nothing is wrong with.
pub const EARLIER: &str = "it is of an earlier version of this program";
/// Changes that are written in one batch.
const BATCH: usize = 4096;
/// Changes in memory above which a commit waits for the writer.
const WAITING_MAX: usize = 4 * BATCH;
/// Changes wait no longer than this.
const WRITE_AFTER: Duration = Duration::from_secs(2);
/// Blocks kept decoded for readers.
const DECODED_MAX: usize = 16;
/// Rows that a check reads before it lets the writer pass.
const CHECK_ROWS: usize = 256;

/// Changes of one study while it is read.
const CHANGES_MAX: usize = 100;

/// What stands for the whole: written in each batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// The last record of the ledger that is in sled.
    pub position: Position,
    pub rows: u64,
    /// Sum of the fingerprints of all rows but this one, wrapping.
    pub sum: u64,
    #[serde(default)]
    layout: u32,
}

/// The index of the data folder. Dropped, it writes what is left and closes sled.
pub struct View {
    core: Arc<Core>,
    writer: Option<JoinHandle<()>>,
    /// It was made by this opening.
    pub is_new: bool,
}

struct Core {
    db: sled::Db,
    layers: RwLock<Layers>,
    mark: Mutex<Mark>,
    /// Held while sled changes.
    writing: Mutex<Option<Check>>,
    decoded: Mutex<Decoded>,
    signal: Mutex<Signal>,
    wake: Condvar,
}

/// The newest changes, and those that are being written.
#[derive(Default)]
struct Layers {
    active: Layer,
    frozen: Option<Arc<Layer>>,
    /// What was handed to the writer stands for this.
    handed: Position,
}

#[derive(Default)]
struct Signal {
    stop: bool,
    write: bool,
    /// Why writing failed: sled has to be opened anew.
    broken: Option<String>,
}

/// How far a check of the sum has come. Rows up to `upto` are in.
struct Check {
    upto: Vec<u8>,
    rows: u64,
    sum: u64,
}

/// The rows of one block, by its key.
type Block = (Vec<u8>, Arc<Vec<Arc<InstanceRow>>>);

#[derive(Default)]
struct Decoded {
    blocks: VecDeque<Block>,
    /// Counts what was written: what was read before is not kept after.
    writes: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl View {
    /// Opens (or makes) it. A panic of sled on damaged files becomes an error.
    pub fn open(path: &Path, cache_bytes: u64) -> Result<View, StoreError> {
        let db = open_sled(path, cache_bytes)?;
        let mut is_new = false;
        let mark = guarded(|| match db.get(key::MARK).map_err(StoreError::index)? {
            Some(mark) => parse::<Mark>(&mark),
            None if db.first().map_err(StoreError::index)?.is_some() => {
                Err(StoreError::index("it has rows and no mark"))
            }
            None => {
                // Told from one that was lost, also after a kill.
                is_new = true;
                let mark = Mark { layout: LAYOUT, ..Mark::default() };
                let value = serde_json::to_vec(&mark).map_err(StoreError::index)?;
                db.insert(key::MARK, value).map_err(StoreError::index)?;
                db.flush().map_err(StoreError::index)?;
                Ok(mark)
            }
        })?;
        match mark.layout.cmp(&LAYOUT) {
            Ordering::Equal => (),
            Ordering::Less => return Err(StoreError::index(EARLIER)),
            Ordering::Greater => {
                return Err(StoreError::index("it is of a later version of this program"));
            }
        }
        let mut layers = Layers::default();
        layers.active.position = mark.position;
        layers.handed = mark.position;
        let core = Arc::new(Core {
            db,
            layers: RwLock::new(layers),
            mark: Mutex::new(mark),
            writing: Mutex::default(),
            decoded: Mutex::default(),
            signal: Mutex::default(),
            wake: Condvar::new(),
        });
        let of = Arc::clone(&core);
        let writer = std::thread::Builder::new()
            .name("index".to_owned())
            .spawn(move || of.write_until_stopped())
            .map_err(|error| StoreError::io("starting the thread that writes", path, error))?;
        Ok(View { core, writer: Some(writer), is_new })
    }

    /// The last record of the ledger that is applied.
    pub fn position(&self) -> Position {
        self.core.layers().active.position
    }

    /// What sled stands for.
    pub fn mark(&self) -> Mark {
        *lock(&self.core.mark)
    }

    /// Why it cannot be used any more, if it cannot.
    pub fn broken(&self) -> Option<String> {
        lock(&self.core.signal).broken.clone()
    }

    #[cfg(test)]
    pub fn break_for_a_test(&self) {
        lock(&self.core.signal).broken = Some("broken by a test".to_owned());
    }

    #[cfg(test)]
    pub fn lose_for_a_test(&self, key: &[u8]) {
        self.core.db.remove(key).unwrap().unwrap();
    }

    /// Reads the next few hundred rows, and compares number and sum with the mark after the last.
    /// Others may read and write meanwhile. Returns how many were read so far, `None` at the end.
    pub fn check_more(&self) -> Result<Option<u64>, StoreError> {
        let core = &self.core;
        let mut writing = lock(&core.writing);
        let check = writing.get_or_insert_with(|| Check { upto: Vec::new(), rows: 0, sum: 0 });
        let ended = guarded(|| core.check_some(check));
        let (rows, sum) = (check.rows, check.sum);
        if let Ok(false) = ended {
            return Ok(Some(rows));
        }
        *writing = None;
        ended?;
        let mark = self.mark();
        match (rows, sum) == (mark.rows, mark.sum) {
            true => Ok(None),
            false => Err(StoreError::index(format!(
                "{rows} rows were found where {} were written, or some differ",
                mark.rows
            ))),
        }
    }

    /// Reads every row and compares number and sum with the mark.
    pub fn check_sum(&self) -> Result<(), StoreError> {
        while self.check_more()?.is_some() {}
        Ok(())
    }

    /// Every row in sled but the mark, in the order of the keys. What is not yet written is
    /// written first.
    pub fn rows(
        &self,
    ) -> Result<impl Iterator<Item = Result<(IVec, IVec), StoreError>> + use<>, StoreError> {
        self.write()?;
        let rows = self.core.db.iter().map(|row| row.map_err(StoreError::index));
        Ok(rows.filter(|row| row.as_ref().map_or(true, |(key, _)| key.as_ref() != key::MARK)))
    }

    pub fn get<T: Row>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.core.recent(key) {
            Some(change) => change.get(),
            None => self.core.raw(key)?.map(|value| parse(&value)).transpose(),
        }
    }

    pub fn has(&self, key: &[u8]) -> Result<bool, StoreError> {
        match self.core.recent(key) {
            Some(change) => Ok(change.is_there()),
            None => self.core.db.contains_key(key).map_err(StoreError::index),
        }
    }

    pub fn scan<T: Row>(&self, prefix: &[u8]) -> Result<Vec<T>, StoreError> {
        // The changes first: what is written meanwhile is then seen twice, and not never.
        let recent = self.core.recent_range(prefix);
        let mut rows: BTreeMap<Vec<u8>, T> = BTreeMap::new();
        for row in self.core.db.scan_prefix(prefix) {
            let (key, value) = row.map_err(StoreError::index)?;
            if !recent.contains_key(key.as_ref()) {
                rows.insert(key.to_vec(), parse(&value)?);
            }
        }
        for (key, change) in recent {
            rows.extend(change.get()?.map(|row| (key, row)));
        }
        Ok(rows.into_values().collect())
    }

    pub fn keys(&self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let recent = self.core.recent_range(prefix);
        let mut keys = Vec::new();
        for key in self.core.db.scan_prefix(prefix).keys() {
            let key = key.map_err(StoreError::index)?;
            if !recent.contains_key(key.as_ref()) {
                keys.push(key.to_vec());
            }
        }
        let changed = recent.into_iter().filter(|(_, change)| change.is_there());
        keys.extend(changed.map(|(key, _)| key));
        keys.sort();
        Ok(keys)
    }

    /// The newest change first.
    pub fn studies(&self, limit: usize) -> Result<Vec<StudyRow>, StoreError> {
        let mut rows = Vec::new();
        self.each_study(&mut |row| {
            rows.push(row);
            Ok(rows.len() < limit)
        })?;
        rows.truncate(limit);
        Ok(rows)
    }

    /// The newest change first, until `visit` says `false`.
    pub fn each_study(
        &self,
        visit: &mut dyn FnMut(StudyRow) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let prefix = key::STUDIES_BY_CHANGE;
        let recent = self.core.recent_range(prefix);
        let mut newer = recent.iter().rev().filter(|(_, change)| change.is_there()).peekable();
        let mut below = self
            .core
            .db
            .scan_prefix(prefix)
            .rev()
            .filter(|row| !row.as_ref().is_ok_and(|(key, _)| recent.contains_key(key.as_ref())))
            .peekable();
        loop {
            let stored = match below.peek() {
                Some(Err(error)) => return Err(StoreError::index(error)),
                Some(Ok((key, _))) => Some(key.as_ref()),
                None => None,
            };
            let first = newer.peek().map(|(key, _)| key.as_slice());
            let study: Option<StudyUid> = match (first, stored) {
                (None, None) => return Ok(()),
                (Some(new), stored) if stored.is_none_or(|stored| new > stored) => {
                    newer.next().map(|(_, change)| change.get()).transpose()?.flatten()
                }
                (Some(_) | None, _) => match below.next() {
                    Some(Ok((_, value))) => Some(parse(&value)?),
                    Some(Err(_)) | None => None,
                },
            };
            // A row that changed between the two reads has moved to the front of the list.
            let row = study.map(|study| self.get::<StudyRow>(&key::study(&study))).transpose()?;
            if let Some(row) = row.flatten()
                && !visit(row)?
            {
                return Ok(());
            }
        }
    }

    /// Studies whose last change came after `order`, the oldest change first. None: there are none.
    pub fn studies_after(&self, order: u64, limit: usize) -> Result<Vec<StudyRow>, StoreError> {
        // A study that changes between the two reads stands further on. Where no other is left, an
        // answer without it would say that there is none.
        let mut rows = Vec::new();
        for _ in 0..CHANGES_MAX {
            let changed;
            (rows, changed) = self.changed_after(order, limit)?;
            if !rows.is_empty() || !changed {
                break;
            }
        }
        Ok(rows)
    }

    /// As [`View::studies_after`], and whether some changed meanwhile.
    fn changed_after(&self, order: u64, limit: usize) -> Result<(Vec<StudyRow>, bool), StoreError> {
        let from = key::by_change(order.saturating_add(1));
        let recent = self.core.recent_range(key::STUDIES_BY_CHANGE);
        let mut places: BTreeMap<Vec<u8>, StudyUid> = BTreeMap::new();
        for row in self.core.db.range(from.clone()..=key::by_change(u64::MAX)) {
            let (key, value) = row.map_err(StoreError::index)?;
            if !recent.contains_key(key.as_ref()) {
                places.insert(key.to_vec(), parse(&value)?);
            }
            if places.len() >= limit {
                break;
            }
        }
        for (key, change) in recent.iter().filter(|(key, _)| **key >= from) {
            places.extend(change.get()?.map(|study| (key.clone(), study)));
        }
        let (mut rows, mut changed) = (Vec::new(), false);
        for (key, study) in places.into_iter().take(limit) {
            let row = self.get::<StudyRow>(&key::study(&study))?;
            let row = row.filter(|row| key::by_change(row.order) == key);
            changed |= row.is_none();
            rows.extend(row);
        }
        Ok((rows, changed))
    }

    pub fn instance(&self, sop: &SopInstanceUid) -> Result<Option<Arc<InstanceRow>>, StoreError> {
        {
            let layers = self.core.layers();
            for layer in [Some(&layers.active), layers.frozen.as_deref()].into_iter().flatten() {
                match layer.instance(sop) {
                    Known::Row(row) => return Ok(Some(row)),
                    Known::Removed => return Ok(None),
                    Known::Nothing => {}
                }
            }
        }
        let (bucket, mark) = packed::hash_of_instance(sop);
        let Some(places) = self.core.raw(&key::places(bucket))? else { return Ok(None) };
        for place in packed::candidates(&packed::decode_places(&places)?, mark) {
            let rows = self.core.block(&key::block(place.study, place.block))?;
            if let Some(row) = rows.iter().find(|row| row.receipt.sop_instance_uid == *sop) {
                return Ok(Some(Arc::clone(row)));
            }
        }
        Ok(None)
    }

    /// In the order of arrival.
    pub fn instances(&self, study: &StudyUid) -> Result<Vec<Arc<InstanceRow>>, StoreError> {
        let mut rows = Vec::new();
        self.each_instance(study, &mut |row| {
            rows.push(row);
            ControlFlow::Continue(())
        })?;
        Ok(rows)
    }

    /// The instances of a study in the order of arrival, a block of them in memory at a time, until
    /// `visit` has enough.
    pub fn each_instance(
        &self,
        study: &StudyUid,
        visit: &mut dyn FnMut(Arc<InstanceRow>) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut changed = {
            let layers = self.core.layers();
            txn::changed([layers.frozen.as_deref(), Some(&layers.active)], study)
        };
        for block in self.core.db.scan_prefix(key::instances(packed::hash_of_study(study))) {
            let (_, value) = block.map_err(StoreError::index)?;
            for row in packed::decode(&value)? {
                let row = match changed.remove(&row.receipt.sop_instance_uid) {
                    Some(change) => change,
                    None => Some(Arc::new(row)),
                };
                let row = row.filter(|row| row.receipt.study_uid == *study);
                if row.is_some_and(|row| visit(row).is_break()) {
                    return Ok(());
                }
            }
        }
        let mut rest: Vec<Arc<InstanceRow>> = changed.into_values().flatten().collect();
        rest.sort_by_key(|row| row.order);
        let _ = rest.into_iter().try_for_each(visit);
        Ok(())
    }

    /// The performed procedure steps of a study.
    pub fn steps(&self, study: &StudyUid) -> Result<Vec<StepRow>, StoreError> {
        let mut rows = Vec::new();
        for step in self.scan::<SopInstanceUid>(&key::steps_of(study))? {
            rows.extend(self.get::<StepRow>(&key::step(&step))?);
        }
        Ok(rows)
    }

    /// Every instance that is in sled, block by block.
    pub fn each_block(
        &self,
        visit: &mut dyn FnMut(Vec<InstanceRow>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.write()?;
        for block in self.core.db.scan_prefix(key::INSTANCES).values() {
            visit(packed::decode(&block.map_err(StoreError::index)?)?)?;
        }
        Ok(())
    }

    pub fn open_jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let mut rows = Vec::new();
        for mut key in self.keys(key::OPEN_JOBS)? {
            key[0] = b'j';
            rows.extend(self.get::<JobRow>(&key)?);
        }
        Ok(rows)
    }

    pub fn begin(&self) -> Txn<'_> {
        Txn::new(self)
    }

    /// Makes the changes of a transaction visible, with their position.
    pub fn publish(&self, changes: Changes, position: Position) -> Result<(), StoreError> {
        let mut layer = changes.layer;
        layer.position = position;
        let waiting = {
            let mut layers = self.core.layers.write().unwrap_or_else(PoisonError::into_inner);
            layers.active.merge(layer);
            if layers.active.len() >= BATCH {
                layers.freeze();
            }
            layers.active.len()
        };
        match waiting {
            0 => self.core.wake_writer(),
            few if few < WAITING_MAX => {}
            // sled is slower than what comes in.
            _ => self.write()?,
        }
        self.broken().map_or(Ok(()), |cause| Err(StoreError::index(cause)))
    }

    /// Writes all that is applied to sled.
    pub fn write(&self) -> Result<(), StoreError> {
        for _ in 0..2 {
            self.core.write_frozen()?;
            self.core.layers.write().unwrap_or_else(PoisonError::into_inner).freeze();
        }
        self.core.write_frozen()
    }

    /// Writes all, also what sled still holds in memory (no fsync: the ledger does not need it).
    pub fn flush(&self) -> Result<(), StoreError> {
        self.write()?;
        guarded(|| self.core.db.flush().map(|_| ()).map_err(StoreError::index))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        lock(&self.core.signal).stop = true;
        self.core.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

impl Layers {
    /// Hands the newest changes to the writer, unless it still has others.
    fn freeze(&mut self) {
        let position = self.active.position;
        if self.frozen.is_none() && position != self.handed {
            self.handed = position;
            let full = std::mem::replace(&mut self.active, Layer { position, ..Layer::default() });
            self.frozen = Some(Arc::new(full));
        }
    }
}

impl packed::Read for Core {
    fn read(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.raw(key)
    }

    fn last(&self, prefix: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.scan_prefix(prefix).keys().next_back().transpose().map_err(StoreError::index)
    }
}

impl Core {
    fn layers(&self) -> std::sync::RwLockReadGuard<'_, Layers> {
        self.layers.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn raw(&self, key: &[u8]) -> Result<Option<IVec>, StoreError> {
        self.db.get(key).map_err(StoreError::index)
    }

    fn recent(&self, key: &[u8]) -> Option<Change> {
        let layers = self.layers();
        let frozen = || layers.frozen.as_ref().and_then(|layer| layer.rows.get(key));
        layers.active.rows.get(key).or_else(frozen).cloned()
    }

    fn recent_range(&self, prefix: &[u8]) -> BTreeMap<Vec<u8>, Change> {
        let layers = self.layers();
        let mut changes = BTreeMap::new();
        for layer in [layers.frozen.as_deref(), Some(&layers.active)].into_iter().flatten() {
            changes.extend(layer.range(prefix).map(|(key, change)| (key.clone(), change.clone())));
        }
        changes
    }

    fn block(&self, key: &[u8]) -> Result<Arc<Vec<Arc<InstanceRow>>>, StoreError> {
        let writes = {
            let mut decoded = lock(&self.decoded);
            if let Some(at) = decoded.blocks.iter().position(|(known, _)| known == key)
                && let Some(found) = decoded.blocks.remove(at)
            {
                let rows = Arc::clone(&found.1);
                decoded.blocks.push_front(found);
                return Ok(rows);
            }
            decoded.writes
        };
        let rows = match self.raw(key)? {
            Some(bytes) => packed::decode(&bytes)?,
            None => Vec::new(),
        };
        let rows = Arc::new(rows.into_iter().map(Arc::new).collect::<Vec<_>>());
        let mut decoded = lock(&self.decoded);
        if decoded.writes == writes {
            decoded.blocks.push_front((key.to_vec(), Arc::clone(&rows)));
            decoded.blocks.truncate(DECODED_MAX);
        }
        Ok(rows)
    }

    fn wake_writer(&self) {
        lock(&self.signal).write = true;
        self.wake.notify_all();
    }

    fn write_until_stopped(&self) {
        loop {
            let (stop, full) = {
                let signal = lock(&self.signal);
                let waits = |signal: &mut Signal| !signal.stop && !signal.write;
                let woken = self.wake.wait_timeout_while(signal, WRITE_AFTER, waits);
                let (mut signal, _) = woken.unwrap_or_else(PoisonError::into_inner);
                (signal.stop, std::mem::take(&mut signal.write))
            };
            let mut written = self.write_frozen();
            if !full || stop {
                self.layers.write().unwrap_or_else(PoisonError::into_inner).freeze();
                written = written.and_then(|()| self.write_frozen());
            }
            if let Err(error) = &written {
                tracing::error!(%error, "the index cannot be written");
            }
            if stop {
                if written.is_ok() {
                    let _ = guarded(|| self.db.flush().map_err(StoreError::index));
                }
                return;
            }
        }
    }

    /// Writes the frozen layer as one batch. After a failure sled has to be opened anew.
    fn write_frozen(&self) -> Result<(), StoreError> {
        let mut writing = lock(&self.writing);
        if let Some(cause) = &lock(&self.signal).broken {
            return Err(StoreError::index(cause));
        }
        let Some(layer) = self.layers().frozen.clone() else { return Ok(()) };
        let written = guarded(|| self.write_layer(&layer, writing.as_mut()));
        if let Err(error) = written {
            lock(&self.signal).broken = Some(error.to_string());
            return Err(error);
        }
        let mut decoded = lock(&self.decoded);
        decoded.writes += 1;
        decoded.blocks.clear();
        drop(decoded);
        self.layers.write().unwrap_or_else(PoisonError::into_inner).frozen = None;
        Ok(())
    }

    fn write_layer(&self, layer: &Layer, mut check: Option<&mut Check>) -> Result<(), StoreError> {
        let mut rows = Vec::with_capacity(layer.len());
        for (key, change) in &layer.rows {
            rows.push((key.clone(), change.encode()?));
        }
        let mut packing = Packing::new(self);
        for sop in &layer.removed {
            packing.remove(sop)?;
        }
        let mut instances: Vec<&Arc<InstanceRow>> = layer.instances.values().collect();
        instances.sort_by_key(|row| row.order);
        for row in instances {
            packing.put(row)?;
        }
        rows.extend(packing.finish());

        let mut batch = sled::Batch::default();
        let mut mark = *lock(&self.mark);
        mark.position = layer.position;
        for (key, after) in rows {
            let before = self.raw(&key)?;
            if before.as_deref() == after.as_deref() {
                continue;
            }
            let change = |sum: &mut u64, rows: &mut u64| {
                if let Some(value) = &before {
                    *rows = rows.wrapping_sub(1);
                    *sum = sum.wrapping_sub(fingerprint(&key, value));
                }
                if let Some(value) = &after {
                    *rows = rows.wrapping_add(1);
                    *sum = sum.wrapping_add(fingerprint(&key, value));
                }
            };
            change(&mut mark.sum, &mut mark.rows);
            if let Some(check) = check.as_mut().filter(|check| key <= check.upto) {
                change(&mut check.sum, &mut check.rows);
            }
            match after {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch.insert(key::MARK, serde_json::to_vec(&mark).map_err(StoreError::index)?);
        self.db.apply_batch(batch).map_err(StoreError::index)?;
        *lock(&self.mark) = mark;
        Ok(())
    }

    /// Adds the next rows to a check; true when there are no more.
    fn check_some(&self, check: &mut Check) -> Result<bool, StoreError> {
        let from = (std::ops::Bound::Excluded(check.upto.clone()), std::ops::Bound::Unbounded);
        let mut some = 0;
        for row in self.db.range::<Vec<u8>, _>(from).take(CHECK_ROWS) {
            let (key, value) = row.map_err(StoreError::index)?;
            if key.as_ref() != key::MARK {
                check.rows += 1;
                check.sum = check.sum.wrapping_add(fingerprint(&key, &value));
            }
            check.upto = key.to_vec();
            some += 1;
        }
        Ok(some < CHECK_ROWS)
    }
}

fn open_sled(path: &Path, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).doing("making the folder", path)?;
    let config = sled::Config::new().path(path).cache_capacity(cache_bytes);
    let until = Instant::now() + Duration::from_secs(3);
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            // sled gives its lock back a little after it was dropped.
            Ok(Err(sled::Error::Io(error)))
                if error.to_string().contains("lock") && Instant::now() < until =>
            {
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("lock") => {
                return Err(folder::in_use(path.parent().unwrap_or(path)));
            }
            Ok(Err(sled::Error::Io(error))) => {
                return Err(StoreError::io("opening the index", path, error));
            }
            Ok(Err(error)) => return Err(StoreError::index(error)),
            Err(_) => return Err(StoreError::index("sled panicked at open")),
        }
    }
}

/// Runs a read or write of sled; a panic in it becomes an error.
pub fn guarded<T>(f: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|_| Err(StoreError::index("sled panicked")))
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
