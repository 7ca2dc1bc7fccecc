//! Settling: what the journal holds gets files of its own, in a thread with less priority than
//! receiving. When every object of a journal file has its own, they are synced with the ledger, and
//! the journal file that stood for them is free again.

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
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::journal;
use crate::store::ledger::Position;
use crate::store::objects::Objects;

/// Between two tries on a broken disk.
const RETRY: Duration = Duration::from_secs(1);
/// A commit waits this long for a journal file before it fails.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Objects without a file; with more, commits wait. Their names are held in memory.
const UNFILED_MAX: usize = 16_384;
/// Of the thread, so that receiving and answering go first.
const NICE: i32 = 10;

/// A journal file in which nothing more is written.
pub struct Full {
    pub segment: u64,
    pub path: PathBuf,
    /// All that stand in it.
    pub objects: Vec<Arc<str>>,
    /// Of the ledger, with its last record.
    pub end: Position,
    /// The file that this record stands in.
    pub ledger: Arc<File>,
}

/// What is done one after the other.
enum Step {
    File(Arc<str>),
    Free(Full),
    /// A journal file before it is needed.
    Make {
        folder: PathBuf,
        number: u64,
        bytes: u64,
    },
}

#[derive(Default)]
struct State {
    steps: VecDeque<Step>,
    /// Numbers of journal files that may be written to, the one that has rested longest first.
    free: VecDeque<u64>,
    /// A step is being done.
    busy: bool,
    /// A journal file is being made, or will be next.
    making: bool,
    stop: bool,
    trouble: Option<StoreError>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    objects: Arc<Objects>,
    data: PathBuf,
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
    pub fn start(data: &Path, objects: Arc<Objects>) -> io::Result<Settler> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            objects,
            data: data.to_owned(),
        });
        let worker = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("settle".to_owned()).spawn(move || run(&worker))?;
        Ok(Settler { shared, thread: Some(thread) })
    }

    pub fn give_back(&self, segment: u64) {
        self.shared.state().free.push_back(segment);
    }

    /// Has files made of objects. To be told before the journal file they stand in is full.
    pub fn file(&self, objects: Vec<Arc<str>>) {
        self.shared.state().steps.extend(objects.into_iter().map(Step::File));
        self.shared.changed.notify_all();
    }

    /// Has a journal file settled, so that it is free again.
    pub fn settle(&self, full: Full) {
        self.shared.state().steps.push_back(Step::Free(full));
        self.shared.changed.notify_all();
    }

    /// Waits until there is room for more objects without a file.
    ///
    /// # Errors
    /// What keeps their files from being made.
    pub fn make_room(&self) -> Result<(), StoreError> {
        let has_room =
            |_: &mut State| (self.shared.objects.unfiled.len() < UNFILED_MAX).then_some(());
        self.wait_for(has_room)
    }

    /// Has a journal file made in the background, unless there is one that is free. Whether it is.
    pub fn make_ahead(&self, folder: &Path, number: u64, bytes: u64) -> bool {
        let mut state = self.shared.state();
        if state.making || !state.free.is_empty() {
            return false;
        }
        state.making = true;
        state.steps.push_front(Step::Make { folder: folder.to_owned(), number, bytes });
        drop(state);
        self.shared.changed.notify_all();
        true
    }

    /// A journal file that may be written to; `None` when there is none now.
    ///
    /// - `wait`: for one that is being settled, not only for one that is being made.
    ///
    /// # Errors
    /// What keeps them from being settled.
    pub fn take(&self, wait: bool) -> Result<Option<u64>, StoreError> {
        self.wait_for(|state| match state.free.pop_front() {
            None if wait || state.making => None,
            free => Some(free),
        })
    }

    fn wait_for<T>(&self, ask: impl Fn(&mut State) -> Option<T>) -> Result<T, StoreError> {
        let mut state = self.shared.state();
        let until = Instant::now() + WAIT_MAX;
        loop {
            if let Some(answer) = ask(&mut state) {
                return Ok(answer);
            }
            if let Some(trouble) = &state.trouble {
                return Err(trouble.clone());
            }
            let left = until.saturating_duration_since(Instant::now());
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
        while state.busy || !state.steps.is_empty() {
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
    // Receiving goes first. Who waits for this leaves it the time.
    // Linux: of the calling thread alone.
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "settling at the priority of everything else");
    }
    let mut state = shared.state();
    loop {
        if state.stop {
            return;
        }
        let Some(step) = state.steps.pop_front() else {
            state.busy = false;
            shared.changed.notify_all();
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        state.busy = true;
        drop(state);
        let done = match &step {
            Step::File(object) => shared.objects.file(object),
            Step::Free(full) => settle(shared, full),
            Step::Make { folder, number, bytes } => {
                let made = journal::make_segment(folder, *number, *bytes, true);
                state = shared.state();
                state.making = false;
                match made {
                    Ok(()) => state.free.push_back(*number),
                    // One that is used now serves too.
                    Err(error) => tracing::warn!(%error, "no more journal files can be made now"),
                }
                shared.changed.notify_all();
                continue;
            }
        };
        state = shared.state();
        match (done, step) {
            (Ok(()), step) => {
                state.trouble = None;
                if let Step::Free(full) = step {
                    state.free.push_back(full.segment);
                }
            }
            (Err(error), step) => {
                if state.trouble.is_none() {
                    tracing::error!(%error, "objects in the journal cannot be settled yet");
                }
                state.trouble = Some(error);
                state.steps.push_front(step);
                shared.changed.notify_all();
                let waited = shared.changed.wait_timeout(state, RETRY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        shared.changed.notify_all();
    }
}

/// Syncs every object of a journal file, the folders with their names, and the ledger; then the
/// file says that it is at rest.
fn settle(shared: &Shared, full: &Full) -> Result<(), StoreError> {
    sync(&shared.data, &shared.objects, &mut full.objects.iter().map(|object| &**object))?;
    full.ledger.sync_data().doing("syncing", &shared.data.join(folder::LEDGER))?;
    journal::put_to_rest(&full.path, &full.end)
}

/// Syncs files of objects, and the folders with their names.
pub fn sync(
    data: &Path,
    objects: &Objects,
    which: &mut dyn Iterator<Item = &str>,
) -> Result<(), StoreError> {
    match sync_file_system(data) {
        true => Ok(()),
        false => sync_one_by_one(data, objects, which),
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

fn sync_one_by_one(
    data: &Path,
    objects: &Objects,
    which: &mut dyn Iterator<Item = &str>,
) -> Result<(), StoreError> {
    let mut folders = BTreeSet::new();
    for object in which {
        let path = data.join(object);
        match File::open(&path).and_then(|file| file.sync_data()) {
            Ok(()) => {}
            // Removed since: by retention, or by hand.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(StoreError::io("syncing", &path, error)),
        }
        if let Some((folder, _)) = object.rsplit_once('/') {
            folders.insert(folder);
        }
    }
    folders.into_iter().try_for_each(|folder| objects.sync_names(folder))
}
