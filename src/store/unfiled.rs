//! Small instances that are acknowledged and durable in the journal, and have no file of their own
//! yet: `settle` makes it when there is time, or whoever needs it before that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::domain::aligned::Aligned;
use crate::domain::aligned::Pool;

/// Instances whose bytes are also kept in memory, so that they are not read again.
const IN_MEMORY_MAX: usize = 8;

/// Where the Part 10 bytes of an instance are.
#[derive(Debug)]
pub struct Kept {
    /// A file of the journal, which is not used again before this has its own file.
    pub journal: Arc<File>,
    /// A multiple of the block size.
    pub at: u64,
    pub bytes: usize,
    pub memory: Option<Bytes>,
}

impl Kept {
    /// The Part 10 bytes, aligned.
    pub fn read(&self, pool: &Arc<Pool>) -> io::Result<Bytes> {
        if let Some(memory) = &self.memory {
            return Ok(memory.clone());
        }
        let mut buffer: Aligned = pool.take();
        while buffer.as_ref().len() < self.bytes {
            let done = buffer.as_ref().len();
            let left = (self.bytes - done).next_multiple_of(crate::domain::aligned::BLOCK);
            match self.journal.read_at(buffer.spare(left), self.at + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => buffer.advance(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(buffer.freeze().slice(..self.bytes))
    }
}

#[derive(Debug)]
enum Entry {
    Waiting(Kept),
    /// Somebody makes its file.
    BeingFiled,
}

#[derive(Debug, Default)]
struct State {
    /// By the object's path relative to the data folder, so that those of a study stand together.
    entries: BTreeMap<Arc<str>, Entry>,
    bytes: u64,
    in_memory: usize,
}

/// All of them.
#[derive(Debug, Default)]
pub struct Unfiled {
    state: Mutex<State>,
    changed: Condvar,
}

impl Unfiled {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, object: Arc<str>, mut kept: Kept) {
        let mut state = self.state();
        match kept.memory.is_some() && state.in_memory < IN_MEMORY_MAX {
            true => state.in_memory += 1,
            false => kept.memory = None,
        }
        state.bytes += kept.bytes as u64;
        state.entries.insert(object, Entry::Waiting(kept));
    }

    pub fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Space that their files will take.
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    pub fn holds(&self, object: &str) -> bool {
        self.state().entries.contains_key(object)
    }

    /// Those below a folder.
    pub fn below(&self, folder: &str) -> Vec<Arc<str>> {
        let state = self.state();
        let from = (Bound::Excluded(folder), Bound::Unbounded);
        let objects = state.entries.range::<str, _>(from).map(|(object, _)| object);
        let inside = |object: &&Arc<str>| {
            object.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
        };
        objects.take_while(|object| object.starts_with(folder)).filter(inside).cloned().collect()
    }

    /// Waits while somebody makes the file of an object.
    fn undisturbed(&self, object: &str) -> MutexGuard<'_, State> {
        let being_filed =
            |state: &mut State| matches!(state.entries.get(object), Some(Entry::BeingFiled));
        self.changed.wait_while(self.state(), being_filed).unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file of an object by `make`, unless it has one.
    ///
    /// # Errors
    /// Those of `make`; the object still waits for its file then.
    pub fn file<E>(
        &self,
        object: &str,
        make: impl FnOnce(&Kept) -> Result<(), E>,
    ) -> Result<(), E> {
        let kept = {
            let mut state = self.undisturbed(object);
            let Some(entry) = state.entries.get_mut(object) else { return Ok(()) };
            match std::mem::replace(entry, Entry::BeingFiled) {
                Entry::Waiting(kept) => kept,
                Entry::BeingFiled => return Ok(()),
            }
        };
        let made = make(&kept);
        let mut state = self.state();
        match &made {
            Ok(()) => {
                state.entries.remove(object);
                state.bytes -= kept.bytes as u64;
                state.in_memory -= usize::from(kept.memory.is_some());
            }
            Err(_) => {
                if let Some(entry) = state.entries.get_mut(object) {
                    *entry = Entry::Waiting(kept);
                }
            }
        }
        drop(state);
        self.changed.notify_all();
        made
    }

    /// No file is made of it any more.
    pub fn forget(&self, object: &str) {
        let mut state = self.undisturbed(object);
        if let Some(Entry::Waiting(kept)) = state.entries.remove(object) {
            state.bytes -= kept.bytes as u64;
            state.in_memory -= usize::from(kept.memory.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: &'static [u8]) -> Kept {
        let journal = Arc::new(tempfile::tempfile().unwrap());
        Kept { journal, at: 0, bytes: bytes.len(), memory: Some(Bytes::from_static(bytes)) }
    }

    #[test]
    fn an_object_is_filed_once_and_those_of_a_study_are_found() {
        let unfiled = Unfiled::default();
        for object in ["o/1.2/a", "o/1.2/b", "o/1.2.3/c", "o/1", "o/2/d"] {
            unfiled.add(object.into(), kept(b"12345"));
        }
        let below = unfiled.below("o/1.2");
        assert_eq!(below.iter().map(|o| &**o).collect::<Vec<_>>(), ["o/1.2/a", "o/1.2/b"]);
        assert_eq!((unfiled.len(), unfiled.bytes()), (5, 25));
        let mut made = 0;
        assert_eq!(unfiled.file("o/1.2/a", |_| Err(7)), Err(7));
        for _ in 0..2 {
            let make = |kept: &Kept| {
                made += kept.bytes;
                Ok::<(), ()>(())
            };
            unfiled.file("o/1.2/a", make).unwrap();
        }
        assert_eq!((made, unfiled.holds("o/1.2/a"), unfiled.bytes()), (5, false, 20));
        unfiled.forget("o/2/d");
        unfiled.file("o/2/d", |_| Err(7)).unwrap();
        assert_eq!((unfiled.len(), unfiled.bytes()), (3, 15));
    }

    #[test]
    fn who_needs_a_file_waits_for_the_one_who_makes_it() {
        let unfiled = Unfiled::default();
        unfiled.add("o/1".into(), kept(b"1"));
        let (begun, begins) = std::sync::mpsc::channel();
        let is_made = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                unfiled.file("o/1", |_| {
                    begun.send(()).unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    is_made.store(true, std::sync::atomic::Ordering::SeqCst);
                    Ok::<(), ()>(())
                })
            });
            begins.recv().unwrap();
            unfiled.file("o/1", |_| Err(7)).unwrap();
            assert!(is_made.load(std::sync::atomic::Ordering::SeqCst));
        });
    }

    #[test]
    fn what_is_not_in_memory_is_read_from_the_journal() {
        let journal = Arc::new(tempfile::tempfile().unwrap());
        let bytes: Vec<u8> = (0..9000_u32).map(|n| n as u8).collect();
        journal.write_at(&bytes, 4096).unwrap();
        let pool = Pool::new(10_000, 1);
        let kept = Kept { journal, at: 4096, bytes: 8999, memory: None };
        assert_eq!(kept.read(&pool).unwrap(), &bytes[..8999]);
        let short = Kept { bytes: 9500, ..kept };
        assert!(short.read(&pool).is_err());
    }
}
