//! Settling: objects and ledger, written before without a sync, are synced here, in a thread of
//! its own; then the journal file that stood for them is free again.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::journal;
use crate::store::objects::Objects;

/// Between two looks at a file that is still being written, and two tries on a broken disk.
const PAUSE: Duration = Duration::from_millis(10);
const RETRY: Duration = Duration::from_secs(1);
/// A commit waits this long for a journal file before it fails.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How far the file of an object has come, known to whoever writes it and to whoever settles it.
#[derive(Debug, Default)]
pub struct Progress(AtomicU8);

impl Progress {
    const WRITING: u8 = 0;
    const WRITTEN: u8 = 1;
    const FAILED: u8 = 2;

    pub fn written(&self) {
        self.0.store(Progress::WRITTEN, Ordering::Release);
    }

    pub fn failed_unless_written(&self) {
        let (from, to) = (Progress::WRITING, Progress::FAILED);
        let _ = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
    }

    fn is_failed(&self) -> bool {
        loop {
            match self.0.load(Ordering::Acquire) {
                Progress::WRITING => std::thread::sleep(PAUSE),
                state => return state == Progress::FAILED,
            }
        }
    }
}

/// An object that is in the journal and not yet synced in its own file.
#[derive(Debug)]
pub struct Unsettled {
    /// Relative to the data folder.
    pub object: String,
    pub progress: Arc<Progress>,
}

struct Full {
    segment: u64,
    unsettled: Vec<Unsettled>,
    ledger: Arc<File>,
}

#[derive(Default)]
struct State {
    full: VecDeque<Full>,
    /// Numbers of journal files that may be written to.
    free: Vec<u64>,
    /// One is being settled.
    busy: bool,
    stop: bool,
    trouble: Option<StoreError>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    objects: Arc<Objects>,
    data: PathBuf,
    journal: PathBuf,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that settles, and the list of journal files that are free.
pub struct Settler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Settler {
    pub fn start(data: &Path, journal: &Path, objects: Arc<Objects>) -> io::Result<Settler> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            objects,
            data: data.to_owned(),
            journal: journal.to_owned(),
        });
        let worker = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("settle".to_owned()).spawn(move || run(&worker))?;
        Ok(Settler { shared, thread: Some(thread) })
    }

    pub fn give_back(&self, segment: u64) {
        self.shared.state().free.push(segment);
    }

    pub fn settle(&self, segment: u64, unsettled: Vec<Unsettled>, ledger: Arc<File>) {
        self.shared.state().full.push_back(Full { segment, unsettled, ledger });
        self.shared.changed.notify_all();
    }

    /// A journal file that may be written to; `None` when there is none now.
    ///
    /// - `wait`: for one that is being settled.
    ///
    /// # Errors
    /// What keeps them from being settled.
    pub fn take(&self, wait: bool) -> Result<Option<u64>, StoreError> {
        let mut state = self.shared.state();
        let until = std::time::Instant::now() + WAIT_MAX;
        loop {
            if let Some(segment) = state.free.pop() {
                return Ok(Some(segment));
            }
            if !wait {
                return Ok(None);
            }
            if let Some(trouble) = &state.trouble {
                return Err(trouble.clone());
            }
            let left = until.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Err(StoreError::Busy);
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until everything handed over is settled.
    pub fn finish(&self) -> Result<(), StoreError> {
        let mut state = self.shared.state();
        while state.busy || !state.full.is_empty() {
            if let Some(trouble) = &state.trouble {
                return Err(trouble.clone());
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }
}

impl Drop for Settler {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared) {
    let mut state = shared.state();
    loop {
        if state.stop {
            return;
        }
        let Some(full) = state.full.pop_front() else {
            state.busy = false;
            shared.changed.notify_all();
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.busy = true;
        drop(state);
        let settled = settle(shared, &full);
        state = shared.state();
        match settled {
            Ok(()) => {
                state.trouble = None;
                state.free.push(full.segment);
            }
            Err(error) => {
                if state.trouble.is_none() {
                    tracing::error!(%error, "objects in the journal cannot be settled yet");
                }
                state.trouble = Some(error);
                state.full.push_front(full);
                shared.changed.notify_all();
                let waited = shared.changed.wait_timeout(state, RETRY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        shared.changed.notify_all();
    }
}

/// Syncs every object of a journal file, the folders with their names, and the ledger.
fn settle(shared: &Shared, full: &Full) -> Result<(), StoreError> {
    for unsettled in full.unsettled.iter().filter(|unsettled| unsettled.progress.is_failed()) {
        write_anew(shared, full.segment, &unsettled.object)?;
        unsettled.progress.written();
    }
    match sync_file_system(&shared.data) {
        true => Ok(()),
        false => sync_one_by_one(shared, full),
    }
}

/// Syncs the whole file system where that is known to be reliable (errors of writing back are told
/// since Linux 5.8): one commit of its journal instead of one for each object.
fn sync_file_system(data: &Path) -> bool {
    const EXT4: u64 = 0xEF53;
    const XFS: u64 = 0x5846_5342;
    const BTRFS: u64 = 0x9123_683E;
    let sync = || {
        let folder = File::open(data)?;
        let kind = rustix::fs::fstatfs(&folder)?.f_type;
        if ![EXT4, XFS, BTRFS].iter().any(|known| i128::from(*known) == i128::from(kind)) {
            return Ok(false);
        }
        rustix::fs::syncfs(&folder)?;
        io::Result::Ok(true)
    };
    sync().unwrap_or(false)
}

fn sync_one_by_one(shared: &Shared, full: &Full) -> Result<(), StoreError> {
    let mut folders = BTreeSet::new();
    for unsettled in &full.unsettled {
        let path = shared.data.join(&unsettled.object);
        match File::open(&path).and_then(|file| file.sync_data()) {
            Ok(()) => {}
            // Removed since: by retention, or by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("syncing", &path, error)),
        }
        if let Some((folder, _)) = unsettled.object.rsplit_once('/') {
            folders.insert(folder);
        }
    }
    for folder in folders {
        shared.objects.sync_names(folder)?;
    }
    full.ledger.sync_data().doing("syncing", &shared.data.join(crate::store::folder::LEDGER))
}

/// Writes an object from the journal whose own file could not be written.
fn write_anew(shared: &Shared, segment: u64, object: &str) -> Result<(), StoreError> {
    let path = journal::segment_path(&shared.journal, segment);
    let bytes = std::fs::read(&path).doing("reading", &path)?;
    let mut at = journal::BLOCK;
    while let Some(record) = bytes.get(at..).and_then(journal::parse_record) {
        if let Some(found) = record.objects.iter().find(|found| found.path == object) {
            let part10 = [found.head, found.data].concat();
            return shared.objects.restore(object, &part10).map(drop);
        }
        at += record.length;
    }
    Err(StoreError::index(format!("the journal does not hold {object}")))
}
