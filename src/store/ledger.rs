//! The ledger: append-only, checksummed, hash-chained files. The truth.
//!
//! ```text
//! <number>.log    = head, records
//! head (64 bytes) = "PRLEDG01", number u64, number of the last record before u64,
//!                   hash of that record [32], 0 u32, CRC-32 of these 60 bytes u32
//! record          = mark [4], length u32, CRC-32 u32, number u64, hash [32], payload [length]
//! hash            = SHA-256(hash of the record before, number, payload)
//! CRC-32          = of number, hash and payload
//! ```
//! All numbers are little-endian. One record is one group of commits, written and synced before
//! the next is begun. So a bad record that nothing good follows was being written when the power
//! went, nobody was told of it, and it is cut off; a bad record with a good one behind it is damage.
//!
//! Damage stays where it is: what follows is kept, and the chain shows the gap for ever. Where the
//! end is missing (the index or the journal know of later records), the ledger goes on in a new file
//! whose head names the last record that is known.

use std::fmt;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::text;
use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;

const MAGIC: &[u8; 8] = b"PRLEDG01";
const MARK: [u8; 4] = [0xA7, b'P', b'L', b'R'];
const FILE_HEAD: usize = 64;
const RECORD_HEAD: usize = 52;
/// No record is longer: a length above it is damage.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// A ledger of so many bytes is read from its beginning at every start.
const READ_AT_START: u64 = 16 << 20;

/// SHA-256, as hexadecimal in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash([u8; 32]);

impl Hash {
    pub fn from_bytes(bytes: [u8; 32]) -> Hash {
        Hash(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        text::hex(&hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;
    fn try_from(hex: String) -> Result<Hash, &'static str> {
        let digit = |i: usize| u8::from_str_radix(hex.get(2 * i..2 * i + 2)?, 16).ok();
        let mut bytes = [0; 32];
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = digit(i).ok_or("a hash has 64 hexadecimal digits")?;
        }
        Ok(Hash(bytes))
    }
}

/// The end of a record: what the ledger holds up to it is settled by the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Position {
    /// Number of the file, from 1.
    pub segment: u64,
    pub offset: u64,
    /// Number of the record, from 1; 0 before the first.
    pub number: u64,
    pub hash: Hash,
}

impl Position {
    fn same_record(&self, other: &Position) -> bool {
        self.number == other.number && self.hash == other.hash
    }
}

/// Bytes of the ledger that cannot be read or do not continue what stands before them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    pub segment: u64,
    pub offset: u64,
    pub bytes: u64,
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, bytes, what } = self;
        write!(f, "ledger file {segment:08}.log, {bytes} bytes at {offset}: {what}")
    }
}

/// One record as read.
pub struct Record<'a> {
    /// Its end.
    pub position: Position,
    pub payload: &'a [u8],
}

impl Record<'_> {
    /// Its length in the file.
    pub fn bytes(&self) -> u64 {
        (RECORD_HEAD + self.payload.len()) as u64
    }
}

pub enum Found<'a> {
    Record(Record<'a>),
    Damage(Damage),
}

/// A record that was not completely written, at the very end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    pub segment: u64,
    pub offset: u64,
    pub bytes: u64,
}

/// What a walk over the ledger ended with.
#[derive(Debug, Clone)]
pub struct Walked {
    pub end: Position,
    pub torn: Option<Torn>,
}

/// The ledger, open for writing. Only one thread writes.
pub struct Ledger {
    folder: PathBuf,
    file: Arc<File>,
    end: Position,
    segment_bytes: u64,
    /// The file may hold more than `end`: an append failed and could not be taken back.
    overhang: bool,
    #[cfg(test)]
    pub fault: std::sync::Arc<std::sync::Mutex<Option<Fault>>>,
}

/// A broken disk for tests.
#[cfg(test)]
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// Writes take this many bytes, then ENOSPC.
    Full(usize),
    /// Writes pass, the sync answers EIO.
    Sync,
}

/// What opening found.
pub struct Opened {
    pub ledger: Ledger,
    /// Said to people: an incomplete last record was cut off.
    pub cut: Option<String>,
    /// What the heads of all files and the records of the last one show.
    pub damage: Vec<Damage>,
}

impl Ledger {
    /// Opens the ledger in `folder`, reads its last file (all where that is soon done) and cuts off an incomplete last record
    /// (whose bytes are kept beside, in `cut-…`).
    pub fn open(folder: &Path, segment_bytes: u64) -> Result<Opened, StoreError> {
        let segments = segments(folder)?;
        let Some(&last) = segments.last() else {
            let (file, end) = create_segment(folder, &Position::default())?;
            let ledger = Ledger::new(folder, file, end, segment_bytes);
            return Ok(Opened { ledger, cut: None, damage: Vec::new() });
        };
        let readable = |segment: &&u64| read_head(&segment_path(folder, **segment)).is_some();
        let last_readable = segments.iter().rev().find(readable).copied();
        let bytes =
            |segment: &u64| fs::metadata(segment_path(folder, *segment)).map_or(0, |m| m.len());
        let start = match segments.iter().map(bytes).sum::<u64>() <= READ_AT_START {
            true => segments[0],
            false => last_readable.unwrap_or(segments[0]),
        };
        let mut damage = of_earlier_files(folder, &segments, start);
        let walked = walk(folder, &Start::Segment(start), &mut |found| {
            if let Found::Damage(what) = found {
                damage.push(what);
            }
            Ok(())
        })?;
        let path = segment_path(folder, last);
        let mut cut = None;
        if let Some(torn) = &walked.torn {
            cut = Some(cut_off(folder, &path, torn)?);
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).doing("opening", &path)?;
        let mut end = walked.end;
        if file.metadata().doing("reading", &path)?.len() < FILE_HEAD as u64 {
            // The node ended while it began this file: nothing was in it yet.
            let before = Position { segment: last - 1, ..end };
            file.write_all_at(&head(last, &before), 0).doing("writing", &path)?;
            file.sync_all().doing("syncing", &path)?;
            end = Position { segment: last, offset: FILE_HEAD as u64, ..end };
        }
        let ledger = Ledger::new(folder, file, end, segment_bytes);
        Ok(Opened { ledger, cut, damage })
    }

    fn new(folder: &Path, file: File, end: Position, segment_bytes: u64) -> Ledger {
        Ledger {
            folder: folder.to_owned(),
            file: Arc::new(file),
            end,
            segment_bytes,
            overhang: false,
            #[cfg(test)]
            fault: Default::default(),
        }
    }

    pub fn end(&self) -> Position {
        self.end
    }

    /// The number that the next record will have.
    pub fn next_number(&self) -> u64 {
        self.end.number + 1
    }

    /// Goes on behind a record that is known from elsewhere and that its files have lost: in a new
    /// file, whose head names it. What is missing.
    pub fn go_on_after(&mut self, known: &Position) -> Result<Option<Damage>, StoreError> {
        if known.number <= self.end.number {
            return Ok(None);
        }
        self.take_back()?;
        self.sync()?;
        let before = self.end;
        let segment = before.segment.max(known.segment);
        let (file, end) = create_segment(&self.folder, &Position { segment, ..*known })?;
        (self.file, self.end) = (Arc::new(file), end);
        Ok(Some(discontinued(&before, end.segment, known)))
    }

    /// Size of what stands behind this position.
    pub fn bytes_after(&self, position: &Position) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for segment in segments(&self.folder)? {
            if segment >= position.segment {
                let path = segment_path(&self.folder, segment);
                bytes += fs::metadata(&path).doing("reading", &path)?.len();
            }
        }
        Ok(bytes.saturating_sub(position.offset))
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that the last record stands in.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Appends one record and syncs it. On any error the file is taken back to its end before, at
    /// the latest before the next append: the ledger stays usable and tries again.
    ///
    /// # Errors
    /// [`StoreError::Unsettled`] when it could not be taken back yet.
    pub fn append(&mut self, payload: &[u8]) -> Result<Position, StoreError> {
        self.next_file()?;
        let before = self.end;
        self.write(payload)?;
        let path = segment_path(&self.folder, self.end.segment);
        match self.sync_file().doing("appending to", &path) {
            Ok(()) => Ok(self.end),
            Err(error) => Err(self.undo(before, error)),
        }
    }

    /// Goes on in the next file when this one is full. [`Ledger::end`] is where it goes on.
    pub fn next_file(&mut self) -> Result<(), StoreError> {
        self.take_back()?;
        if self.end.offset >= self.segment_bytes {
            self.sync()?;
            let (file, end) = create_segment(&self.folder, &self.end)?;
            (self.file, self.end) = (Arc::new(file), end);
        }
        Ok(())
    }

    /// Appends one record without a sync: durable is what the journal holds too.
    pub fn write(&mut self, payload: &[u8]) -> Result<Position, StoreError> {
        if payload.len() > RECORD_BYTES_MAX {
            return Err(StoreError::TooLarge { size: payload.len(), limit: RECORD_BYTES_MAX });
        }
        self.next_file()?;
        let before = self.end;
        let number = self.next_number();
        let hash = chain(&self.end.hash, number, payload);
        let record = record(number, &hash, payload);
        let path = segment_path(&self.folder, self.end.segment);
        self.overhang = true;
        if let Err(error) = self.write_record(&record).doing("appending to", &path) {
            return Err(self.undo(before, error));
        }
        self.overhang = false;
        let offset = self.end.offset + record.len() as u64;
        self.end = Position { segment: self.end.segment, offset, number, hash };
        Ok(self.end)
    }

    /// After this everything written is on the disk.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.sync_file().doing("syncing", &segment_path(&self.folder, self.end.segment))
    }

    /// Takes the last record back, which failed with `error` or whose journal did. What to tell.
    pub fn undo(&mut self, before: Position, error: StoreError) -> StoreError {
        (self.end, self.overhang) = (before, true);
        match self.take_back() {
            Ok(()) => error,
            Err(_) => StoreError::Unsettled { cause: error.to_string() },
        }
    }

    /// After a failed append: opens the file anew (an error of a sync is told only once for each
    /// descriptor) and cuts it to what is known to be good.
    fn take_back(&mut self) -> Result<(), StoreError> {
        if !self.overhang {
            return Ok(());
        }
        let path = segment_path(&self.folder, self.end.segment);
        let open = || {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            file.set_len(self.end.offset)?;
            file.sync_data()?;
            Ok(file)
        };
        self.file = Arc::new(open().doing("taking back a failed append to", &path)?);
        self.overhang = false;
        Ok(())
    }

    #[cfg(not(test))]
    fn write_record(&self, record: &[u8]) -> io::Result<()> {
        self.file.write_all_at(record, self.end.offset)
    }

    #[cfg(not(test))]
    fn sync_file(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    #[cfg(test)]
    fn write_record(&self, record: &[u8]) -> io::Result<()> {
        let fault = *self.fault.lock().unwrap();
        if let Some(Fault::Full(fits)) = fault {
            let fits = fits.min(record.len());
            self.file.write_all_at(&record[..fits], self.end.offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(record, self.end.offset)
    }

    #[cfg(test)]
    fn sync_file(&self) -> io::Result<()> {
        if let Some(Fault::Sync) = *self.fault.lock().unwrap() {
            return Err(io::Error::from_raw_os_error(5));
        }
        self.file.sync_data()
    }
}

/// Where a walk begins.
pub enum Start {
    /// With the first record of the first file.
    Beginning,
    /// Behind a record that was read before.
    After(Position),
    /// With the first record of this file.
    Segment(u64),
}

/// Reads every record from `start` to the end, in order. What cannot be read is handed on as
/// damage, and the walk goes on with the next good record.
pub fn walk(
    folder: &Path,
    start: &Start,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), StoreError>,
) -> Result<Walked, StoreError> {
    let all = segments(folder)?;
    let (first, mut walk) = match start {
        Start::Beginning => (1, Walk::new(Position::default(), true)),
        Start::After(position) => (position.segment.max(1), Walk::new(*position, true)),
        Start::Segment(segment) => (*segment, Walk::new(Position::default(), *segment == 1)),
    };
    let mut expected = first;
    let mut torn = None;
    for (i, &segment) in all.iter().enumerate().filter(|(_, segment)| **segment >= first) {
        if segment > expected {
            visit(Found::Damage(missing_files(expected, segment)))?;
        }
        expected = segment + 1;
        let from = match start {
            Start::After(position) if position.segment == segment && position.number > 0 => {
                position.offset
            }
            Start::After(_) | Start::Beginning | Start::Segment(_) => 0,
        };
        torn = walk.segment(folder, segment, from, i + 1 == all.len(), visit)?;
    }
    Ok(Walked { end: walk.end, torn })
}

/// Reads every record of one file, in order; damage is handed on as [`walk`] does.
///
/// - `last`: whether no file follows it, so that a torn end may still be being written.
pub fn walk_file(
    folder: &Path,
    segment: u64,
    last: bool,
    visit: &mut dyn FnMut(Found<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut walk = Walk::new(Position::default(), segment == 1);
    walk.segment(folder, segment, 0, last, visit).map(drop)
}

struct Walk {
    end: Position,
    /// False right after damage: what comes next cannot be compared with what stood before.
    known: bool,
}

impl Walk {
    fn new(end: Position, known: bool) -> Walk {
        Walk { end, known }
    }

    fn segment(
        &mut self,
        folder: &Path,
        segment: u64,
        from: u64,
        last: bool,
        visit: &mut dyn FnMut(Found<'_>) -> Result<(), StoreError>,
    ) -> Result<Option<Torn>, StoreError> {
        let path = segment_path(folder, segment);
        let mut bytes = Vec::new();
        let mut file = File::open(&path).doing("opening", &path)?;
        file.seek(SeekFrom::Start(from)).doing("reading", &path)?;
        file.read_to_end(&mut bytes).doing("reading", &path)?;
        let damage = |offset: usize, bytes: usize, what: String| {
            Found::Damage(Damage {
                segment,
                offset: from + offset as u64,
                bytes: bytes as u64,
                what,
            })
        };
        let mut at = 0;
        if from == 0 {
            at = FILE_HEAD.min(bytes.len());
            match parse_head(&bytes) {
                Some((number, before)) if number == segment => {
                    if self.known && !before.same_record(&self.end) {
                        visit(Found::Damage(discontinued(&self.end, segment, &before)))?;
                    }
                    (self.end, self.known) = (before, true);
                }
                Some(_) | None if last && bytes.len() < FILE_HEAD => {
                    let torn = Torn { segment, offset: 0, bytes: bytes.len() as u64 };
                    self.end = Position { segment, offset: 0, ..self.end };
                    return Ok(Some(torn).filter(|torn| torn.bytes > 0));
                }
                Some(_) | None => {
                    visit(damage(0, at, "the head of the file cannot be read".to_owned()))?;
                    self.known = false;
                }
            }
        }
        self.end = Position { segment, offset: from + at as u64, ..self.end };
        while at < bytes.len() {
            if let Some((number, hash, payload)) = parse_record(&bytes[at..]) {
                let length = RECORD_HEAD + payload.len();
                let missing = number.saturating_sub(self.end.number + 1);
                let follows =
                    number == self.end.number + 1 && hash == chain(&self.end.hash, number, payload);
                if self.known && !follows {
                    let what = match missing {
                        0 => format!("record {number} does not continue the one before"),
                        n => format!("{n} records before record {number} are missing"),
                    };
                    visit(damage(at, length, what))?;
                }
                at += length;
                self.end = Position { segment, offset: from + at as u64, number, hash };
                self.known = true;
                visit(Found::Record(Record { position: self.end, payload }))?;
                continue;
            }
            match next_good(&bytes, at + 1) {
                Some(next) => {
                    let number = self.end.number + 1;
                    let what = format!("record {number} (or what follows it) cannot be read");
                    visit(damage(at, next - at, what))?;
                    (at, self.known) = (next, false);
                }
                None if last => {
                    let bytes = (bytes.len() - at) as u64;
                    return Ok(Some(Torn { segment, offset: from + at as u64, bytes }));
                }
                None => {
                    let what = "the end of the file cannot be read".to_owned();
                    visit(damage(at, bytes.len() - at, what))?;
                    (at, self.known) = (bytes.len(), false);
                }
            }
        }
        Ok(None)
    }
}

/// Files `from..to` that are not there.
fn missing_files(from: u64, to: u64) -> Damage {
    let what = match to - from {
        1 => "the file is missing".to_owned(),
        n => format!("the file and {} after it are missing", n - 1),
    };
    Damage { segment: from, offset: 0, bytes: 0, what }
}

/// - `before`: the end of what stands before the file `segment`, whose head names `named`.
fn discontinued(before: &Position, segment: u64, named: &Position) -> Damage {
    let what = match named.number.saturating_sub(before.number) {
        0 => "it does not continue the file before".to_owned(),
        n => format!("the {n} records before it are missing"),
    };
    Damage { segment, offset: 0, bytes: FILE_HEAD as u64, what }
}

/// What the names and heads of the files before `start` show.
fn of_earlier_files(folder: &Path, segments: &[u64], start: u64) -> Vec<Damage> {
    let mut damage = Vec::new();
    let mut expected = 1;
    for &segment in segments.iter().filter(|segment| **segment <= start) {
        if segment > expected {
            damage.push(missing_files(expected, segment));
        }
        expected = segment + 1;
        if segment < start && read_head(&segment_path(folder, segment)).is_none() {
            damage.push(bad_head(folder, segment));
        }
    }
    damage
}

fn bad_head(folder: &Path, segment: u64) -> Damage {
    let bytes = fs::metadata(segment_path(folder, segment)).map_or(0, |meta| meta.len());
    let what = "the head of the file cannot be read".to_owned();
    Damage { segment, offset: 0, bytes: bytes.min(FILE_HEAD as u64), what }
}

/// Whether what stands behind a record is of another ledger than this record: the next one has the
/// number that follows, or an earlier one, and does not continue it.
pub fn is_of_another(folder: &Path, known: &Position) -> Result<bool, StoreError> {
    let mut other = false;
    let walked = walk(folder, &Start::After(*known), &mut |found| {
        let Found::Record(Record { position, payload }) = found else { return Ok(()) };
        let follows = position.hash == chain(&known.hash, position.number, payload);
        other =
            position.number <= known.number || (position.number == known.number + 1 && !follows);
        Err(StoreError::Closed)
    });
    match walked {
        // Closed: by ourselves.
        Ok(_) | Err(StoreError::Closed) => Ok(other),
        Err(error) => Err(error),
    }
}

/// Bytes that records had, to be put back where they stood.
pub struct Piece {
    pub segment: u64,
    pub offset: u64,
    pub bytes: Vec<u8>,
}

impl Piece {
    /// # Errors
    /// The file cannot be written; what was there before is damage still.
    pub fn put_back(&self, folder: &Path) -> Result<(), StoreError> {
        let path = segment_path(folder, self.segment);
        let write = || {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(&self.bytes, self.offset)?;
            file.sync_data()
        };
        write().doing("putting records back into", &path)
    }
}

/// The hash of a record, from that of the one before it.
pub fn chain(before: &Hash, number: u64, payload: &[u8]) -> Hash {
    let mut hash = Sha256::new();
    hash.update(before.0);
    hash.update(number.to_le_bytes());
    hash.update(payload);
    Hash(hash.finalize().into())
}

/// A record as it stands in a file.
pub fn record(number: u64, hash: &Hash, payload: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEAD + payload.len());
    record.extend(MARK);
    record.extend((payload.len() as u32).to_le_bytes());
    record.extend([0; 4]);
    record.extend(number.to_le_bytes());
    record.extend(hash.0);
    record.extend(payload);
    let crc = crc32fast::hash(&record[12..]);
    record[8..12].copy_from_slice(&crc.to_le_bytes());
    record
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn hash_at(bytes: &[u8], at: usize) -> Option<Hash> {
    Some(Hash(bytes.get(at..at + 32)?.try_into().ok()?))
}

/// The record at the start of `bytes`, when it is complete and its checksum fits.
fn parse_record(bytes: &[u8]) -> Option<(u64, Hash, &[u8])> {
    if bytes.get(..4)? != MARK {
        return None;
    }
    let length = u32_at(bytes, 4)? as usize;
    if length > RECORD_BYTES_MAX {
        return None;
    }
    let summed = bytes.get(12..RECORD_HEAD + length)?;
    if crc32fast::hash(summed) != u32_at(bytes, 8)? {
        return None;
    }
    Some((u64_at(bytes, 12)?, hash_at(bytes, 20)?, &bytes[RECORD_HEAD..RECORD_HEAD + length]))
}

/// Where the next good record begins, from `at` on.
fn next_good(bytes: &[u8], at: usize) -> Option<usize> {
    let marks = (at..bytes.len().saturating_sub(3)).filter(|&i| bytes[i..i + 4] == MARK);
    marks.into_iter().find(|&i| parse_record(&bytes[i..]).is_some())
}

fn head(segment: u64, before: &Position) -> [u8; FILE_HEAD] {
    let mut head = [0; FILE_HEAD];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&segment.to_le_bytes());
    head[16..24].copy_from_slice(&before.number.to_le_bytes());
    head[24..56].copy_from_slice(&before.hash.0);
    let crc = crc32fast::hash(&head[..60]);
    head[60..].copy_from_slice(&crc.to_le_bytes());
    head
}

/// Number of the file, and the record before it.
fn parse_head(bytes: &[u8]) -> Option<(u64, Position)> {
    let head = bytes.get(..FILE_HEAD)?;
    if &head[..8] != MAGIC || u32_at(head, 60)? != crc32fast::hash(&head[..60]) {
        return None;
    }
    let (segment, number) = (u64_at(head, 8)?, u64_at(head, 16)?);
    let offset = FILE_HEAD as u64;
    Some((segment, Position { segment, offset, number, hash: hash_at(head, 24)? }))
}

/// Number of a file, and the record before its first.
pub fn read_head(path: &Path) -> Option<(u64, Position)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(FILE_HEAD as u64).read_to_end(&mut bytes).ok()?;
    parse_head(&bytes)
}

pub fn segment_path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("{segment:08}.log"))
}

/// Numbers of the files, in order.
pub fn segments(folder: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).doing("reading", folder)? {
        let name = entry.doing("reading", folder)?.file_name();
        let number = name.to_str().and_then(|n| n.strip_suffix(".log")).map(str::parse::<u64>);
        if let Some(Ok(number)) = number {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The next file, empty but for its head, its name synced.
fn create_segment(folder: &Path, before: &Position) -> Result<(File, Position), StoreError> {
    let segment = before.segment + 1;
    let path = segment_path(folder, segment);
    let create = || {
        let file = match files::create_new(&path) {
            // Left by a try that found no space: nothing was ever in it.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                OpenOptions::new().read(true).write(true).open(&path)?
            }
            other => other?,
        };
        file.set_len(0)?;
        file.write_all_at(&head(segment, before), 0)?;
        file.sync_all()?;
        files::sync_folder(folder)?;
        Ok(file)
    };
    let file = create().doing("beginning", &path)?;
    Ok((file, Position { segment, offset: FILE_HEAD as u64, ..*before }))
}

/// Cuts the incomplete last record off, after a copy of it: whether it was ever acknowledged
/// cannot be seen from here.
fn cut_off(folder: &Path, path: &Path, torn: &Torn) -> Result<String, StoreError> {
    let Torn { segment, offset, bytes } = torn;
    let file = OpenOptions::new().read(true).write(true).open(path).doing("opening", path)?;
    let mut rest = vec![0; usize::try_from(*bytes).unwrap_or(RECORD_BYTES_MAX)];
    file.read_exact_at(&mut rest, *offset).doing("reading", path)?;
    let kept = folder.join(format!("cut-{segment:08}-{offset}.bin"));
    let note = if rest.iter().all(|b| *b == 0) {
        "zeros".to_owned()
    } else {
        match files::write_whole(&kept, &rest) {
            Ok(()) => format!("kept in {}", kept.display()),
            Err(error) => format!("not kept: {error}"),
        }
    };
    file.set_len(*offset).doing("cutting", path)?;
    file.sync_all().doing("syncing", path)?;
    Ok(format!("ledger file {segment:08}.log: {bytes} bytes after {offset} were cut off ({note})"))
}

/// Cuts the ledger off behind `good`: later bytes and files are kept beside, under names that are
/// not read.
pub fn cut_back(folder: &Path, good: &Position) -> Result<String, StoreError> {
    let segment = good.segment.max(1);
    let mut told = Vec::new();
    for later in segments(folder)?.into_iter().filter(|number| *number > segment) {
        let (path, kept) = (segment_path(folder, later), format!("cut-{later:08}.bin"));
        fs::rename(&path, folder.join(&kept)).doing("setting aside", &path)?;
        told.push(format!("ledger file {later:08}.log was set aside as {kept}"));
    }
    let path = segment_path(folder, segment);
    let length = fs::metadata(&path).doing("reading", &path)?.len();
    let offset = good.offset.max(FILE_HEAD as u64);
    if length > offset {
        let torn = Torn { segment, offset, bytes: length - offset };
        told.push(cut_off(folder, &path, &torn)?);
    }
    files::sync_folder(folder).doing("syncing", folder)?;
    Ok(told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payloads(folder: &Path) -> (Vec<String>, Vec<Damage>, Walked) {
        let (mut records, mut damage) = (Vec::new(), Vec::new());
        let walked = walk(folder, &Start::Beginning, &mut |found| {
            match found {
                Found::Record(r) => records.push(String::from_utf8(r.payload.to_vec()).unwrap()),
                Found::Damage(what) => damage.push(what),
            }
            Ok(())
        });
        (records, damage, walked.unwrap())
    }

    fn filled(folder: &Path, segment_bytes: u64, count: usize) -> Vec<Position> {
        let mut ledger = Ledger::open(folder, segment_bytes).unwrap().ledger;
        (0..count).map(|i| ledger.append(format!("record {i}").as_bytes()).unwrap()).collect()
    }

    fn expected(range: impl Iterator<Item = usize>) -> Vec<String> {
        range.map(|i| format!("record {i}")).collect()
    }

    #[test]
    fn what_is_appended_is_read_back_over_several_files() {
        let dir = tempfile::tempdir().unwrap();
        let ends = filled(dir.path(), 300, 20);
        assert!(ends[19].segment > 3);
        let (records, damage, walked) = payloads(dir.path());
        assert_eq!(records, expected(0..20));
        assert!(damage.is_empty() && walked.torn.is_none(), "{damage:?}");
        assert_eq!(walked.end, ends[19]);
        let opened = Ledger::open(dir.path(), 300).unwrap();
        assert_eq!(opened.ledger.end(), ends[19]);
        assert!(opened.cut.is_none() && opened.damage.is_empty());
        let mut numbers = Vec::new();
        walk(dir.path(), &Start::After(ends[4]), &mut |found| {
            if let Found::Record(record) = found {
                numbers.push(record.position.number);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(numbers, (6..=20).collect::<Vec<u64>>());
    }

    /// S7: whatever of the last record is missing, it is cut off and the rest stays.
    #[test]
    fn a_torn_last_record_is_cut_off_wherever_it_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let ends = filled(dir.path(), 1 << 20, 5);
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for length in ends[3].offset..ends[4].offset {
            fs::write(&path, &whole[..length as usize]).unwrap();
            let opened = Ledger::open(dir.path(), 1 << 20).unwrap();
            assert_eq!(opened.ledger.end(), ends[3]);
            assert_eq!(opened.cut.is_some(), length > ends[3].offset, "{length}");
            assert!(opened.damage.is_empty());
            assert_eq!(fs::metadata(&path).unwrap().len(), ends[3].offset);
        }
        let mut ledger = Ledger::open(dir.path(), 1 << 20).unwrap().ledger;
        ledger.append(b"record 4").unwrap();
        let (records, damage, _) = payloads(dir.path());
        assert_eq!((records, damage), (expected(0..5), vec![]));
    }

    /// S7: any flipped bit in a record that another one follows is told, and only this record is
    /// not handed on.
    #[test]
    fn a_flipped_bit_in_the_middle_is_reported_and_the_rest_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let ends = filled(dir.path(), 1 << 20, 5);
        let path = segment_path(dir.path(), 1);
        let whole = fs::read(&path).unwrap();
        for at in ends[1].offset..ends[2].offset {
            for bit in [0, 7] {
                let mut flipped = whole.clone();
                flipped[at as usize] ^= 1 << bit;
                fs::write(&path, &flipped).unwrap();
                let (records, damage, walked) = payloads(dir.path());
                let rest = ["record 0", "record 1", "record 3", "record 4"];
                assert_eq!(records, rest, "{at}");
                assert_eq!(damage.len(), 1, "{at}: {damage:?}");
                assert_eq!(damage[0].offset, ends[1].offset);
                assert_eq!(walked.end, ends[4]);
                let opened = Ledger::open(dir.path(), 1 << 20).unwrap();
                assert_eq!((opened.damage, opened.cut), (damage, None));
            }
        }
    }

    #[test]
    fn a_record_that_was_replaced_breaks_the_chain() {
        let dir = tempfile::tempdir().unwrap();
        let ends = filled(dir.path(), 1 << 20, 5);
        let path = segment_path(dir.path(), 1);
        let mut whole = fs::read(&path).unwrap();
        let forged = record(3, &ends[2].hash, b"forged 2");
        whole[ends[1].offset as usize..ends[2].offset as usize].copy_from_slice(&forged);
        fs::write(&path, &whole).unwrap();
        let (_, damage, _) = payloads(dir.path());
        assert!(damage[0].what.contains("does not continue"), "{damage:?}");
        // Cut out altogether:
        let mut shorter = whole[..ends[1].offset as usize].to_vec();
        shorter.extend(&whole[ends[2].offset as usize..]);
        fs::write(&path, &shorter).unwrap();
        let (_, damage, _) = payloads(dir.path());
        assert!(damage[0].what.contains("1 records before record 4"), "{damage:?}");
    }

    #[test]
    fn a_file_cut_short_empty_or_missing_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), 200, 9);
        let path = segment_path(dir.path(), 2);
        let whole = fs::read(&path).unwrap();
        for length in [0, 10, 64, 100, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let (records, damage, _) = payloads(dir.path());
            assert!(!damage.is_empty(), "{length}");
            assert!(records.contains(&"record 8".to_owned()), "{length}");
        }
        fs::remove_file(&path).unwrap();
        let (_, damage, _) = payloads(dir.path());
        assert!(damage[0].what.contains("missing"), "{damage:?}");
    }

    /// The node ended while it began the next file.
    #[test]
    fn a_last_file_without_a_whole_head_is_begun_again() {
        let dir = tempfile::tempdir().unwrap();
        let ends = filled(dir.path(), 1 << 20, 3);
        for length in [0, 1, 63] {
            fs::write(segment_path(dir.path(), 2), vec![7; length]).unwrap();
            let mut ledger = Ledger::open(dir.path(), 1 << 20).unwrap().ledger;
            assert_eq!(ledger.end().number, 3);
            assert_eq!((ledger.end().segment, ledger.end().hash), (2, ends[2].hash));
            ledger.append(b"record 3").unwrap();
            let (records, damage, _) = payloads(dir.path());
            assert_eq!((records, damage), (expected(0..4), vec![]));
        }
    }

    /// S1, S2, S3: a disk that is full or broken leaves the ledger as it was, and usable.
    #[test]
    fn a_failed_append_is_taken_back_and_the_next_one_works() {
        let dir = tempfile::tempdir().unwrap();
        let mut ledger = Ledger::open(dir.path(), 1 << 20).unwrap().ledger;
        ledger.append(b"record 0").unwrap();
        let end = ledger.end();
        for fault in [Fault::Full(0), Fault::Full(10), Fault::Full(57), Fault::Sync] {
            *ledger.fault.lock().unwrap() = Some(fault);
            let error = ledger.append(b"lost").unwrap_err();
            let full = matches!(fault, Fault::Full(_));
            assert_eq!(error.is_out_of_space(), full, "{fault:?}: {error}");
            assert_eq!(ledger.end(), end);
            assert_eq!(fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), end.offset);
        }
        *ledger.fault.lock().unwrap() = None;
        ledger.append(b"record 1").unwrap();
        let (records, damage, walked) = payloads(dir.path());
        assert_eq!((records, damage), (expected(0..2), vec![]));
        assert!(walked.torn.is_none());
    }
}
