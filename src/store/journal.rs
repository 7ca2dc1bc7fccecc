//! The journal: one sync for all that a group of commits brings.
//!
//! A small instance costs two syncs of its own when its file is made durable by itself, and its
//! receipt a third. Here the record of the ledger and the Part 10 bytes of the instances it speaks
//! of are one write, aligned and synced, into a file that was there before. The ledger is written at
//! the same time, without a sync; `settle` makes the files of the objects in the background and
//! syncs them with the ledger, and then the journal file is used again. After a kill or a power cut
//! [`recover`](crate::store::recover) gives the ledger and the objects what they lack.
//!
//! ```text
//! <number>.jnl = head, records, each padded to 4096 bytes
//! head         = "PRJRNL01", state u32 (1: live), 0 u32, segment u64, offset u64, number u64,
//!                hash [32], CRC-32 u32: the end of the ledger before the first record; of a file
//!                at rest, up to where the ledger was synced then
//! record       = mark [4], CRC-32 u32, length u64, number u64, hash [32], payload length u32,
//!                objects u32, payload, for each object: path length u32, head length u32,
//!                data length u64, path, head; padding; then the data of each object, padded
//! CRC-32       = of the rest of the record's head, payload and objects, and of all data
//! length       = up to the first padding
//! ```
//! All numbers are little-endian. A record continues the one before it by number and hash, as in
//! the ledger: what an earlier use of the file left behind does not.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::IoSlice;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
#[cfg(test)]
use crate::store::ledger::Fault;
use crate::store::ledger::Hash;
use crate::store::ledger::Position;
use crate::store::settle::Full;
use crate::store::settle::Settler;

const MAGIC: &[u8; 8] = b"PRJRNL01";
const MARK: [u8; 4] = [0xA7, b'J', b'R', b'N'];
pub use crate::domain::aligned::BLOCK;
use crate::domain::aligned::Pool;
const HEAD: usize = 84;
const RECORD_HEAD: usize = 64;
const OBJECT_HEAD: usize = 16;
/// Files that are used in turn. When all wait to be settled, commits wait too.
pub const SEGMENTS_MAX: u64 = 32;
/// The largest Part 10 bytes of an instance that finds a place.
pub const OBJECT_BYTES_MAX: usize = 1 << 20;
/// Pieces of memory that Linux writes by one call (IOV_MAX).
const PARTS_MAX: usize = 1024;

/// The Part 10 bytes of one instance on their way into the journal.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Relative to the data folder.
    pub path: &'a str,
    /// Bytes that come before `data`: none, but in journals of earlier versions.
    pub head: &'a [u8],
    /// Aligned to [`BLOCK`] they are written as they are, else copied.
    pub data: &'a [u8],
}

/// How a group is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// On the disk when [`Journal::append`] returns.
    Now,
    /// On the disk after the next [`Journal::sync`].
    Later,
}

/// The journal, open for writing. Only one thread writes.
pub struct Journal {
    folder: PathBuf,
    segment_bytes: u64,
    segments_max: u64,
    sync: Sync,
    active: Option<Active>,
    /// Files that there are, numbered from 1.
    made: u64,
    staging: Staging,
    settler: Settler,
    #[cfg(test)]
    pub fault: Arc<std::sync::Mutex<Option<Fault>>>,
}

struct Active {
    number: u64,
    file: Arc<File>,
    /// Where the next record begins.
    at: u64,
    unsynced: bool,
    /// A write failed: the folder may have been away, and with it what the descriptor stands for.
    stale: bool,
    /// Objects whose files have to be synced before this one is used again.
    unsettled: Vec<Arc<str>>,
}

/// Where the data of the objects of a record stand.
pub struct Placed {
    pub file: Arc<File>,
    /// For each object.
    pub at: Vec<u64>,
}

impl Journal {
    /// Takes the files in `folder` into use; what stands in them has been recovered before.
    pub fn open(
        folder: &Path,
        segment_bytes: u64,
        segments_max: u64,
        sync: Sync,
        settler: Settler,
    ) -> Result<Journal, StoreError> {
        let mut made = 0;
        for number in segments(folder)? {
            let path = segment_path(folder, number);
            let length = fs::metadata(&path).doing("reading", &path)?.len();
            // Another size was configured before, or the disk was full when it was made.
            if length == segment_bytes && number == made + 1 && made < segments_max {
                settler.give_back(number);
                made = number;
            } else {
                fs::remove_file(&path).doing("removing", &path)?;
            }
        }
        if made == 0 {
            make_segment(folder, 1, segment_bytes, false)?;
            made = 1;
            settler.give_back(made);
        }
        Ok(Journal {
            folder: folder.to_owned(),
            segment_bytes,
            segments_max,
            sync,
            active: None,
            made,
            staging: Staging::default(),
            settler,
            #[cfg(test)]
            fault: Default::default(),
        })
    }

    /// The largest instance that finds a place.
    pub fn object_bytes_max(segment_bytes: u64) -> u64 {
        (segment_bytes / 8).min(OBJECT_BYTES_MAX as u64)
    }

    /// Makes one record of the ledger durable, with the objects whose receipts it holds.
    ///
    /// - `before`, `after`: the ends of the ledger without and with this record.
    /// - `ledger`: the file that the record was written to, synced when the objects are.
    ///
    /// # Errors
    /// Nothing of it counts. The next record is written over it.
    pub fn append(
        &mut self,
        before: &Position,
        after: &Position,
        payload: &[u8],
        objects: &[Object<'_>],
        ledger: &Arc<File>,
    ) -> Result<Placed, StoreError> {
        let heads = objects.iter().map(|o| OBJECT_HEAD + o.path.len() + o.head.len());
        let length = RECORD_HEAD + payload.len() + heads.sum::<usize>();
        let data = objects.iter().map(|object| object.data.len().next_multiple_of(BLOCK));
        let padded = (length.next_multiple_of(BLOCK) + data.sum::<usize>()) as u64;
        if padded + BLOCK as u64 > self.segment_bytes {
            let limit = self.segment_bytes as usize;
            return Err(StoreError::TooLarge { size: length, limit });
        }
        if self.active.as_ref().is_some_and(|active| active.at + padded > self.segment_bytes) {
            self.retire(before, ledger)?;
        }
        if let Some(active) = self.active.as_mut().filter(|active| active.stale) {
            let path = segment_path(&self.folder, active.number);
            active.file = Arc::new(open_segment(&path, self.sync).doing("opening", &path)?);
            active.stale = false;
        }
        self.staging.clear();
        let (number, file, mut at) = match &self.active {
            Some(active) => (active.number, Arc::clone(&active.file), active.at),
            None => {
                let (number, file) = self.take_segment()?;
                self.staging.put(&head(before, true));
                self.staging.pad();
                (number, file, 0)
            }
        };
        let begun_at = at;
        let mark = self.staging.len();
        self.staging.put_record(mark, length, after, payload, objects);
        let path = segment_path(&self.folder, number);
        let written = self.write(&file, begun_at, objects);
        at += mark as u64;
        let mut data_at = at + length.next_multiple_of(BLOCK) as u64;
        let places = objects.iter().map(|object| {
            let place = data_at;
            data_at += object.data.len().next_multiple_of(BLOCK) as u64;
            place
        });
        let placed = Placed { file: Arc::clone(&file), at: places.collect() };
        at += padded;
        let active = self.active.get_or_insert(Active {
            number,
            file,
            at: 0,
            unsynced: false,
            stale: false,
            unsettled: Vec::new(),
        });
        if let Err(error) = written {
            active.stale = true;
            if active.at == 0 {
                // Without its head the file says nothing: it is taken again from the start.
                self.active = None;
                self.settler.give_back(number);
            }
            return Err(StoreError::io("writing", &path, error));
        }
        active.unsynced = self.sync == Sync::Later;
        active.at = at;
        if at > self.segment_bytes / 2
            && self.made < self.segments_max
            && self.settler.make_ahead(&self.folder, self.made + 1, self.segment_bytes)
        {
            self.made += 1;
        }
        Ok(placed)
    }

    /// Writes what is staged, with the data that stands aligned in memory already in its places.
    fn write(&self, file: &File, at: u64, objects: &[Object<'_>]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(Fault::Sync) = *self.fault.lock().unwrap() {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let mut staged = self.staging.bytes();
        let mut parts = Vec::with_capacity(2 * objects.len() + 1);
        for (object, &staged_before) in objects.iter().zip(&self.staging.breaks) {
            let (before, rest) =
                staged.split_at(staged_before - (self.staging.len() - staged.len()));
            parts.push(IoSlice::new(before));
            parts.push(IoSlice::new(&object.data[..whole_blocks(object.data)]));
            staged = rest;
        }
        parts.push(IoSlice::new(staged));
        write_all_vectored(file, &mut parts, at)
    }

    /// Waits until there is room for more objects that have no file of their own.
    pub fn make_room(&self) -> Result<(), StoreError> {
        self.settler.make_room()
    }

    /// Has files made of these objects of the last record.
    pub fn settle_later(&mut self, objects: Vec<Arc<str>>) {
        if let Some(active) = &mut self.active {
            active.unsettled.extend(objects.iter().cloned());
        }
        self.settler.file(objects);
    }

    /// After this everything appended is on the disk, also with [`Sync::Later`].
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if let Some(active) = self.active.as_mut().filter(|active| active.unsynced) {
            let path = segment_path(&self.folder, active.number);
            active.file.sync_data().doing("syncing", &path)?;
            active.unsynced = false;
        }
        Ok(())
    }

    /// The file that is written to now, when its last record is not synced yet.
    pub fn unsynced(&self) -> Option<Arc<File>> {
        self.active.as_ref().filter(|active| active.unsynced).map(|active| Arc::clone(&active.file))
    }

    /// Hands the full file to be settled; the next record begins another one.
    ///
    /// - `end`: of the ledger, with the last record of the file.
    fn retire(&mut self, end: &Position, ledger: &Arc<File>) -> Result<(), StoreError> {
        self.sync()?;
        if let Some(Active { number, unsettled, .. }) = self.active.take() {
            let path = segment_path(&self.folder, number);
            let (end, ledger) = (*end, Arc::clone(ledger));
            self.settler.settle(Full { segment: number, path, objects: unsettled, end, ledger });
        }
        Ok(())
    }

    /// A file to write to: one that is settled, else a new one, else the next that gets settled.
    fn take_segment(&mut self) -> Result<(u64, Arc<File>), StoreError> {
        let number = match self.settler.take(self.made >= self.segments_max)? {
            Some(number) => number,
            None => match make_segment(&self.folder, self.made + 1, self.segment_bytes, false) {
                Ok(()) => {
                    self.made += 1;
                    self.made
                }
                // No space for one more: wait for one of those that are there.
                Err(error) => self.settler.take(true)?.ok_or(error)?,
            },
        };
        let path = segment_path(&self.folder, number);
        let file = open_segment(&path, self.sync).doing("opening", &path);
        let file = file.inspect_err(|_| self.settler.give_back(number))?;
        Ok((number, Arc::new(file)))
    }

    /// Settles everything: after this the journal holds nothing that is not elsewhere, and says so.
    ///
    /// - `end`: of the ledger.
    pub fn close(mut self, end: &Position, ledger: &Arc<File>) -> Result<(), StoreError> {
        self.retire(end, ledger)?;
        self.settler.finish()?;
        ledger.sync_data().doing("syncing the ledger for", &self.folder)?;
        at_rest(&self.folder, end)
    }
}

/// Bytes at the start of `data` that can be written from where they are.
fn whole_blocks(data: &[u8]) -> usize {
    match data.as_ptr().align_offset(BLOCK) {
        0 => data.len() - data.len() % BLOCK,
        _ => 0,
    }
}

/// - `parts`: of lengths that the file can take where they are.
pub fn write_all_vectored(
    file: &File,
    mut parts: &mut [IoSlice<'_>],
    mut at: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        let few = parts.len().min(PARTS_MAX);
        match rustix::io::pwritev(file, &parts[..few], at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut parts, written);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Says in every file that it holds nothing that is not elsewhere.
///
/// - `end`: up to where the ledger is synced.
pub fn at_rest(folder: &Path, end: &Position) -> Result<(), StoreError> {
    let paths = segments(folder)?.into_iter().map(|number| segment_path(folder, number));
    paths.into_iter().try_for_each(|path| put_to_rest(&path, end))
}

/// The same in one file.
pub fn put_to_rest(path: &Path, end: &Position) -> Result<(), StoreError> {
    let write = || {
        let file = OpenOptions::new().write(true).open(path)?;
        file.write_all_at(&head(end, false), 0)?;
        file.sync_data()
    };
    write().doing("writing", path)
}

/// Makes a file of its full size, so that no later write finds the disk full.
///
/// - `written`: with zeros. A write into what was never written has to wait for the file system to
///   note that it is.
pub fn make_segment(
    folder: &Path,
    number: u64,
    bytes: u64,
    written: bool,
) -> Result<(), StoreError> {
    let path = segment_path(folder, number);
    let make = || {
        let file = files::create_new(&path)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) => {}
            // A file system that cannot say it beforehand.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes)?,
            Err(errno) => return Err(io::Error::from(errno)),
        }
        if written {
            write_zeros(&path, bytes)?;
        }
        file.sync_all()?;
        files::sync_folder(folder)
    };
    make()
        .inspect_err(|_| {
            let _ = fs::remove_file(&path);
        })
        .doing("making", &path)
}

fn write_zeros(path: &Path, bytes: u64) -> io::Result<()> {
    let mut zeros = Pool::new(1 << 20, 0).take();
    zeros.advance(1 << 20);
    let open = |flags| OpenOptions::new().write(true).custom_flags(flags).open(path);
    let file = open(libc::O_DIRECT).or_else(|_| open(0))?;
    let mut at = 0;
    while at < bytes {
        let zeros = zeros.as_ref();
        let step = zeros.len().min((bytes - at) as usize);
        file.write_all_at(&zeros[..step], at)?;
        at += step as u64;
    }
    Ok(())
}

/// Past the page cache where the file system can: the bytes are written once and not read again.
fn open_segment(path: &Path, sync: Sync) -> io::Result<File> {
    let open =
        |flags: i32| OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let synced = match sync {
        Sync::Now => libc::O_DSYNC,
        Sync::Later => 0,
    };
    match open(libc::O_DIRECT | synced) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => open(synced),
        opened => opened,
    }
}

pub fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:08}.jnl"))
}

/// Numbers of the files.
pub fn segments(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(numbers),
        entries => entries.doing("reading", folder)?,
    };
    for entry in entries {
        let name = entry.doing("reading", folder)?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".jnl")).map(str::parse::<u64>);
        if let Some(Ok(number)) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn head(before: &Position, live: bool) -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8] = u8::from(live);
    head[16..24].copy_from_slice(&before.segment.to_le_bytes());
    head[24..32].copy_from_slice(&before.offset.to_le_bytes());
    head[32..40].copy_from_slice(&before.number.to_le_bytes());
    head[40..72].copy_from_slice(before.hash.as_bytes());
    let crc = crc32fast::hash(&head[..80]);
    head[80..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// What a file says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// The end of the ledger before its first record.
    Live(Position),
    /// It holds nothing that is not elsewhere; the ledger was synced up to here.
    AtRest(Position),
}

/// `None` when it cannot be read.
pub fn parse_head(bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(..HEAD)?;
    let fits = head[..8] == *MAGIC && u32_at(head, 80)? == crc32fast::hash(&head[..80]);
    if !fits {
        return None;
    }
    let end = Position {
        segment: u64_at(head, 16)?,
        offset: u64_at(head, 24)?,
        number: u64_at(head, 32)?,
        hash: Hash::from_bytes(head[40..72].try_into().ok()?),
    };
    Some(if head[8] == 1 { Head::Live(end) } else { Head::AtRest(end) })
}

/// A record as read back.
pub struct Record<'a> {
    pub number: u64,
    pub hash: Hash,
    pub payload: &'a [u8],
    pub objects: Vec<Object<'a>>,
    /// With padding.
    pub length: usize,
}

/// The record at the start of `bytes`, when it is complete and its checksum fits.
pub fn parse_record(bytes: &[u8]) -> Option<Record<'_>> {
    if bytes.get(..4)? != MARK {
        return None;
    }
    let length = usize::try_from(u64_at(bytes, 8)?).ok()?;
    let record = bytes.get(..length).filter(|record| record.len() >= RECORD_HEAD)?;
    let payload_bytes = u32_at(record, 56)? as usize;
    let count = u32_at(record, 60)?;
    let (payload, mut rest) = record[RECORD_HEAD..].split_at_checked(payload_bytes)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&record[8..]);
    let mut at = length.next_multiple_of(BLOCK);
    let mut objects = Vec::new();
    for _ in 0..count {
        let (path_bytes, head_bytes) = (u32_at(rest, 0)? as usize, u32_at(rest, 4)? as usize);
        let data_bytes = usize::try_from(u64_at(rest, 8)?).ok()?;
        let (path, after) = rest.get(OBJECT_HEAD..)?.split_at_checked(path_bytes)?;
        let (head, after) = after.split_at_checked(head_bytes)?;
        let data = bytes.get(at..at.checked_add(data_bytes)?)?;
        crc.update(data);
        objects.push(Object { path: std::str::from_utf8(path).ok()?, head, data });
        at += data_bytes.next_multiple_of(BLOCK);
        rest = after;
    }
    if crc.finalize() != u32_at(record, 4)? {
        return None;
    }
    let hash = Hash::from_bytes(record[24..56].try_into().ok()?);
    Some(Record { number: u64_at(record, 16)?, hash, payload, objects, length: at })
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Memory that begins at a multiple of [`BLOCK`], used again for every write.
#[derive(Default)]
struct Staging {
    memory: Vec<u8>,
    /// Where in `memory` the first block begins.
    from: usize,
    used: usize,
    /// Where the aligned data of each object belongs, in bytes staged before it.
    breaks: Vec<usize>,
}

impl Staging {
    fn clear(&mut self) {
        self.used = 0;
        self.breaks.clear();
    }

    fn len(&self) -> usize {
        self.used
    }

    fn bytes(&self) -> &[u8] {
        &self.memory[self.from..self.from + self.used]
    }

    /// Room for `bytes` more.
    fn reserve(&mut self, bytes: usize) {
        let wanted = self.used + bytes;
        if self.memory.len() < self.from + wanted {
            let mut memory = vec![0; wanted.next_power_of_two() + BLOCK];
            let from = memory.as_ptr().align_offset(BLOCK);
            memory[from..from + self.used].copy_from_slice(self.bytes());
            (self.memory, self.from) = (memory, from);
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let at = self.from + self.used;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// Zeros up to the next block.
    fn pad(&mut self) {
        let padding = self.used.next_multiple_of(BLOCK) - self.used;
        self.put(&[0; BLOCK][..padding]);
    }

    fn put_record(
        &mut self,
        mark: usize,
        length: usize,
        after: &Position,
        payload: &[u8],
        objects: &[Object<'_>],
    ) {
        let ends = |object: &Object<'_>| (object.data.len() - whole_blocks(object.data)) + BLOCK;
        self.reserve(length + BLOCK + objects.iter().map(ends).sum::<usize>());
        self.put(&MARK);
        self.put(&[0; 4]);
        self.put(&(length as u64).to_le_bytes());
        self.put(&after.number.to_le_bytes());
        self.put(after.hash.as_bytes());
        self.put(&(payload.len() as u32).to_le_bytes());
        self.put(&(objects.len() as u32).to_le_bytes());
        self.put(payload);
        for object in objects {
            self.put(&(object.path.len() as u32).to_le_bytes());
            self.put(&(object.head.len() as u32).to_le_bytes());
            self.put(&(object.data.len() as u64).to_le_bytes());
            self.put(object.path.as_bytes());
            self.put(object.head);
        }
        let mut crc = crc32fast::Hasher::new();
        crc.update(&self.bytes()[mark + 8..]);
        objects.iter().for_each(|object| crc.update(object.data));
        let at = self.from + mark + 4;
        self.memory[at..at + 4].copy_from_slice(&crc.finalize().to_le_bytes());
        self.pad();
        for object in objects {
            self.breaks.push(self.used);
            self.put(&object.data[whole_blocks(object.data)..]);
            self.pad();
        }
    }
}
