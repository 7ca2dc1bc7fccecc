//! Files: instances as received and results as sent.
//!
//! Names are made here from parsed UIDs, never taken from a peer. The file of a large
//! instance gets its place by a rename after its bytes are synced, and the folder is synced after the
//! rename: only then does the name survive a power cut. For that of a small one the journal stands
//! until `settle` has synced it.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::IoSlice;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::aligned::BLOCK;
use crate::domain::aligned::Pool;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::journal;
use crate::store::unfiled::Unfiled;

/// Versions of one instance that find a place beside each other.
const VERSIONS_MAX: u32 = 100;
/// Folders remembered as synced; beyond it all are forgotten and synced again.
const SYNCED_MAX: usize = 10_000;
/// Files kept in mind that the disk did not remove; what is beyond goes with the next start.
const UNREMOVED_MAX: usize = 10_000;
/// Bytes of one instance after which free space is looked at again.
const SPACE_STEP: u64 = 16 << 20;
/// Size from which a file is written past the page cache, which would copy it once more.
const DIRECT_BYTES_MIN: usize = 64 << 10;
/// At the beginning of a file they are written through the page cache all the same: whoever looks
/// what it is does not wait for the disk.
pub const CACHED_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub struct Objects {
    data: PathBuf,
    next: AtomicU64,
    /// Folders whose own name is known to be synced.
    synced: Mutex<HashSet<PathBuf>>,
    /// Folders that are there; the journal stands for their names until they are synced.
    made: Mutex<HashSet<PathBuf>>,
    names: Mutex<Names>,
    /// Objects that have a receipt and no file yet.
    pub unfiled: Unfiled,
    buffers: Arc<Pool>,
}

/// Files with a fate of their own, relative to the data folder. Under one lock, so that no file is
/// removed under a name that another instance gets at the same moment.
#[derive(Debug, Default)]
struct Names {
    /// Objects that get or have their place and have no receipt yet.
    on_their_way: HashSet<String>,
    /// What was not acknowledged and has to go. No other gets these names.
    unremoved: HashMap<String, Removal>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removal {
    /// By one thread: a second one could remove what got the name after the first.
    Tried,
    Failed,
}

impl Objects {
    pub fn new(data: &Path) -> Arc<Objects> {
        let (data, next) = (data.to_owned(), AtomicU64::new(1));
        Arc::new(Objects {
            data,
            next,
            synced: Mutex::default(),
            made: Mutex::default(),
            names: Mutex::default(),
            unfiled: Unfiled::default(),
            buffers: Pool::new(journal::OBJECT_BYTES_MAX, 2),
        })
    }

    /// Removes what was being received when the node ended.
    pub fn empty_incoming(&self) -> Result<u64, StoreError> {
        let folder = self.data.join(folder::INCOMING);
        let mut removed = 0;
        for entry in fs::read_dir(&folder).doing("reading", &folder)? {
            let path = entry.doing("reading", &folder)?.path();
            let done =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            done.doing("removing", &path)?;
            removed += 1;
        }
        Ok(removed)
    }

    pub fn begin(self: &Arc<Objects>, free_bytes_min: u64) -> Result<IncomingObject, StoreError> {
        self.check_space(free_bytes_min)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}/{number:08}.part", folder::INCOMING);
        let path = self.data.join(&name);
        let file = files::create_new(&path).doing("making", &path)?;
        let direct = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&path).ok();
        let (objects, size_bytes, synced) = (Arc::clone(self), 0, true);
        Ok(IncomingObject { objects, file, direct, path, name, size_bytes, synced, free_bytes_min })
    }

    /// Whether there is space left after what is taken already has its files.
    pub fn check_space(&self, kept: u64) -> Result<(), StoreError> {
        let free = folder::free_bytes(&self.data)?.saturating_sub(self.unfiled.bytes());
        if free < kept {
            return Err(StoreError::Space { free, kept });
        }
        Ok(())
    }

    /// Makes each folder of `parts` below the data folder, every name synced.
    fn make_folders(&self, parts: &[&str]) -> Result<PathBuf, StoreError> {
        let mut path = self.data.clone();
        for part in parts {
            let parent = path.clone();
            path.push(part);
            let lock = || self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            if lock().contains(&path) {
                continue;
            }
            folder::make_folder(&path).doing("making the folder", &path)?;
            // Also when another thread has made it: it may not have synced it yet.
            files::sync_folder(&parent).doing("syncing", &parent)?;
            let mut synced = lock();
            if synced.len() >= SYNCED_MAX {
                synced.clear();
            }
            synced.insert(path.clone());
        }
        Ok(path)
    }

    fn forget_folders(&self) {
        self.synced.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Makes a folder below the data folder, and those above it, without a sync.
    fn make_unsynced(&self, folder: &str) -> Result<(), StoreError> {
        let path = self.data.join(folder);
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if lock().contains(&path) {
            return Ok(());
        }
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700).create(&path).doing("making the folder", &path)?;
        let mut made = lock();
        if made.len() >= SYNCED_MAX {
            made.clear();
        }
        made.insert(path);
        Ok(())
    }

    /// A name that no object has, for an instance that gets its file later. A name that is taken
    /// stays as it is; this one becomes `<sop>.v2.dcm`.
    pub fn reserve(
        &self,
        study: &StudyUid,
        series: &SeriesUid,
        sop: &SopInstanceUid,
    ) -> Result<String, StoreError> {
        let folder = format!("{}/{series}", folder_of(study));
        for version in 1..=VERSIONS_MAX {
            let object = format!("{folder}/{}", version_name(sop, version));
            let path = self.data.join(&object);
            let is_free = || match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(error) => Err(error),
                Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            };
            match self.claim(&object, is_free) {
                Ok(()) => return Ok(object),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io("looking for", &path, error)),
            }
        }
        Err(StoreError::TooManyVersions { times: VERSIONS_MAX })
    }

    /// Makes the file of an object that has none yet, without a sync. Blocking.
    pub fn file(&self, object: &str) -> Result<(), StoreError> {
        self.unfiled.file(object, |kept| {
            let path = self.data.join(object);
            let bytes = kept.read(&self.buffers).doing("reading from the journal for", &path)?;
            self.write_object(object, &bytes)
        })
    }

    /// The same for every object in a folder.
    pub fn file_below(&self, folder: &str) -> Result<(), StoreError> {
        self.unfiled.below(folder).iter().try_for_each(|object| self.file(object))
    }

    /// Whether it has a file, or will have one.
    pub fn is_there(&self, object: &str) -> bool {
        let comes = self.is_on_its_way(object) || self.unfiled.holds(object);
        comes || self.data.join(object).is_file()
    }

    /// Writes a whole object without a sync. The journal stands for it: what an earlier try left
    /// is overwritten.
    fn write_object(&self, object: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.data.join(object);
        let (folder, _) = object.rsplit_once('/').unwrap_or(("", object));
        self.make_unsynced(folder)?;
        let written = match write_file(&path, bytes) {
            // Somebody removed a folder that was there: make it again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_folders();
                self.make_unsynced(folder)?;
                write_file(&path, bytes)
            }
            written => written,
        };
        written.doing("writing", &path)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes an object that is on its way from then on.
    fn claim<T>(&self, object: &str, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        {
            let mut names = self.names();
            let taken = names.unremoved.contains_key(object) || self.unfiled.holds(object);
            if taken || !names.on_their_way.insert(object.to_owned()) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
        }
        make().inspect_err(|_| self.has_arrived(object))
    }

    /// Whether nobody else may touch it: it has no receipt yet, or will go.
    pub fn is_on_its_way(&self, object: &str) -> bool {
        let names = self.names();
        names.on_their_way.contains(object) || names.unremoved.contains_key(object)
    }

    /// It is decided what becomes of an object.
    pub fn has_arrived(&self, object: &str) {
        self.names().on_their_way.remove(object);
    }

    /// Removes the file of an instance that was not acknowledged. A disk that fails may not let it:
    /// then it is tried again by [`Objects::remove_again`], and nobody gets the name before.
    ///
    /// - `file`: relative to the data folder.
    pub fn discard(&self, file: &str) {
        let mut names = self.names();
        if names.unremoved.contains_key(file) {
            return;
        }
        // Beyond the limit it is not kept in mind; it is ours all the same.
        if names.unremoved.len() < UNREMOVED_MAX {
            names.unremoved.insert(file.to_owned(), Removal::Tried);
        }
        drop(names);
        self.remove(file);
    }

    /// As [`Objects::discard`], for files that nobody asks for any more, but for those that are on
    /// their way. Returns how many are gone.
    ///
    /// - `spare`: takes out what has to stay; nobody gets one of the names meanwhile.
    pub fn discard_strays(
        &self,
        files: Vec<String>,
        spare: impl FnOnce(&mut HashSet<String>),
    ) -> usize {
        let mut held = HashSet::new();
        let mut names = self.names();
        for file in files {
            let spoken_for =
                names.on_their_way.contains(&file) || names.unremoved.contains_key(&file);
            if !spoken_for && names.unremoved.len() < UNREMOVED_MAX {
                names.unremoved.insert(file.clone(), Removal::Tried);
                held.insert(file);
            }
        }
        drop(names);
        let mut going = held.clone();
        spare(&mut going);
        let mut names = self.names();
        for file in held.difference(&going) {
            names.unremoved.remove(file);
        }
        drop(names);
        held.intersection(&going).filter(|file| self.remove(file)).count()
    }

    /// Removes what could not be removed before.
    pub fn remove_again(&self) {
        let mut failed = Vec::new();
        for (file, removal) in &mut self.names().unremoved {
            if *removal == Removal::Failed {
                *removal = Removal::Tried;
                failed.push(file.clone());
            }
        }
        let removed = failed.iter().filter(|file| self.remove(file)).count();
        if removed > 0 {
            tracing::info!(removed, "what a failing disk kept of refused instances is removed");
        }
    }

    fn remove(&self, file: &str) -> bool {
        self.unfiled.forget(file);
        let removed = match fs::remove_file(self.data.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        let mut names = self.names();
        if let Err(error) = &removed
            && let Some(removal) = names.unremoved.get_mut(file)
        {
            *removal = Removal::Failed;
            tracing::debug!(%error, file, "what is refused cannot be removed now");
            return false;
        }
        names.unremoved.remove(file);
        names.on_their_way.remove(file);
        removed.is_ok()
    }

    /// Renames, but never over a file that is there.
    fn rename_new(&self, from: &Path, object: &str) -> io::Result<()> {
        use rustix::fs::CWD;
        use rustix::fs::RenameFlags;
        use rustix::io::Errno;
        let to = &self.data.join(object);
        match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            // A file system (NFS) or kernel without it: take the name first, then rename over it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                drop(files::create_new(to)?);
                fs::rename(from, to).inspect_err(|_| self.discard(object))
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// Syncs the names in a folder of objects, and the names of the folders above it.
    pub fn sync_names(&self, folder: &str) -> Result<(), StoreError> {
        let parts: Vec<&str> = folder.split('/').collect();
        let path = self.make_folders(&parts)?;
        files::sync_folder(&path).doing("syncing", &path)
    }

    /// Gives an object the bytes that the journal has of it, without a sync. Whether it had others.
    pub fn restore(&self, object: &str, bytes: &[u8]) -> Result<bool, StoreError> {
        let path = self.data.join(object);
        match fs::read(&path) {
            Ok(found) if found == bytes => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io("reading", &path, error)),
        }
        self.write_object(object, bytes)?;
        Ok(true)
    }

    pub fn result_path(
        &self,
        study: &StudyUid,
        revision: u32,
        file: &str,
    ) -> Result<PathBuf, StoreError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        let fits = (1..=128).contains(&file.len()) && !file.starts_with('.');
        if !fits || !file.bytes().all(plain) {
            return Err(StoreError::Name { name: file.escape_default().take(80).collect() });
        }
        let results = self.data.join(folder::RESULTS);
        Ok(results.join(study.as_str()).join(revision.to_string()).join(file))
    }

    pub fn write_result(
        &self,
        study: &StudyUid,
        revision: u32,
        file: &str,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.result_path(study, revision, file)?;
        let parts = [folder::RESULTS, study.as_str(), &revision.to_string()];
        self.make_folders(&parts)?;
        match files::write_whole(&path, bytes) {
            // Somebody removed a folder that was there: make it again.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget_folders();
                self.make_folders(&parts)?;
                files::write_whole(&path, bytes).doing("writing", &path)
            }
            other => other.doing("writing", &path),
        }
    }

    pub fn read_result(
        &self,
        study: &StudyUid,
        revision: u32,
        file: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.result_path(study, revision, file)?;
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("reading", &path, error)),
        }
    }
}

/// Where the objects of a study are, relative to the data folder.
pub fn folder_of(study: &StudyUid) -> String {
    format!("{}/{}/{study}", folder::OBJECTS, prefix(study))
}

/// The first two hexadecimal digits of the SHA-256 of a study's UID: keeps folders small.
fn prefix(study: &StudyUid) -> String {
    format!("{:02x}", Sha256::digest(study.as_str().as_bytes())[0])
}

fn version_name(sop: &SopInstanceUid, version: u32) -> String {
    match version {
        1 => format!("{sop}.dcm"),
        n => format!("{sop}.v{n}.dcm"),
    }
}

/// An instance on its way in. Dropped before it has its place, it leaves nothing behind.
#[derive(Debug)]
pub struct IncomingObject {
    objects: Arc<Objects>,
    file: File,
    /// The same past the page cache, which would copy what is big; none where that does not work.
    direct: Option<File>,
    path: PathBuf,
    /// Relative to the data folder; empty once the file has its place.
    name: String,
    size_bytes: u64,
    synced: bool,
    free_bytes_min: u64,
}

impl IncomingObject {
    /// Appends; hand on big pieces, which are not copied when they begin at a multiple of [`BLOCK`]
    /// in memory and in the file.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let before = self.size_bytes;
        let after = before + bytes.len() as u64;
        if before / SPACE_STEP != after / SPACE_STEP {
            self.objects.check_space(self.free_bytes_min)?;
        }
        self.synced = false;
        let begin = CACHED_BYTES.saturating_sub(before.try_into().unwrap_or(usize::MAX));
        let (begin, rest) = bytes.split_at(begin.min(bytes.len()));
        self.write_at(begin, before)?;
        let at = before + begin.len() as u64;
        let direct = self.write_past_the_cache(rest, at).doing("writing", &self.path)?;
        self.write_at(&rest[direct..], at + direct as u64)?;
        self.size_bytes = after;
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> Result<(), StoreError> {
        self.file.write_all_at(bytes, at).doing("writing", &self.path)
    }

    /// How many bytes at the start of `bytes` are written.
    fn write_past_the_cache(&mut self, bytes: &[u8], at: u64) -> io::Result<usize> {
        let is_aligned = at.is_multiple_of(BLOCK as u64)
            && bytes.as_ptr().align_offset(BLOCK) == 0
            && bytes.len() >= DIRECT_BYTES_MIN;
        let Some(file) = self.direct.as_ref().filter(|_| is_aligned) else { return Ok(0) };
        let whole = bytes.len() - bytes.len() % BLOCK;
        match file.write_all_at(&bytes[..whole], at) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                self.direct = None;
                Ok(0)
            }
            written => written.map(|()| whole),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Where it is while it comes in, for a scan before it gets its place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits until the bytes are on the disk.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if !self.synced {
            self.file.sync_data().doing("syncing", &self.path)?;
            self.synced = true;
        }
        Ok(())
    }

    /// Gives the file its place, synced, and returns it relative to the data folder. A place that
    /// is taken stays as it is; this one becomes `<sop>.v2.dcm`.
    pub fn place(
        mut self,
        study: &StudyUid,
        series: &SeriesUid,
        sop: &SopInstanceUid,
    ) -> Result<String, StoreError> {
        self.sync()?;
        let prefix = prefix(study);
        let parts = [folder::OBJECTS, &prefix, study.as_str(), series.as_str()];
        let mut folder = self.objects.make_folders(&parts)?;
        let mut remade = false;
        let mut version = 1;
        while version <= VERSIONS_MAX {
            let name = version_name(sop, version);
            let to = folder.join(&name);
            let object = format!("{}/{name}", parts.join("/"));
            match self.objects.claim(&object, || self.objects.rename_new(&self.path, &object)) {
                Ok(()) => {
                    self.name.clear();
                    if let Err(error) = files::sync_folder(&folder) {
                        self.objects.discard(&object);
                        return Err(StoreError::io("syncing", &folder, error));
                    }
                    return Ok(object);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => version += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !remade => {
                    self.objects.forget_folders();
                    folder = self.objects.make_folders(&parts)?;
                    remade = true;
                }
                Err(error) => return Err(StoreError::io("placing", &to, error)),
            }
        }
        Err(StoreError::TooManyVersions { times: VERSIONS_MAX })
    }
}

impl Drop for IncomingObject {
    fn drop(&mut self) {
        if !self.name.is_empty() {
            self.objects.discard(&self.name);
        }
    }
}

/// Writes a file of an object, over one that is there.
fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if bytes.len() >= DIRECT_BYTES_MIN && bytes.as_ptr().align_offset(BLOCK) == 0 {
        match write_past_the_cache(path, bytes) {
            // A file system that does not know it, or wants other blocks.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            written => return written,
        }
    }
    open_over(path, 0)?.write_all(bytes)
}

fn open_over(path: &Path, flags: i32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(flags).open(path)
}

/// Whole blocks are written, so the length is set after it.
fn write_past_the_cache(path: &Path, bytes: &[u8]) -> io::Result<()> {
    #[repr(align(4096))]
    struct Last([u8; BLOCK]);
    let file = open_over(path, libc::O_DIRECT)?;
    let (whole, rest) = bytes.split_at(bytes.len() - bytes.len() % BLOCK);
    let mut last = Last([0; BLOCK]);
    last.0[..rest.len()].copy_from_slice(rest);
    let mut parts = [IoSlice::new(whole), IoSlice::new(&last.0)];
    journal::write_all_vectored(&file, &mut parts, 0)?;
    file.set_len(bytes.len() as u64)
}

/// The names that other files of the same instance have when there are any: all lower versions
/// and the next one.
pub fn beside(object: &str) -> Vec<String> {
    let Some(stem) = object.strip_suffix(".dcm") else { return Vec::new() };
    let folder = stem.rfind('/').map_or(0, |slash| slash + 1);
    let (first, own) = match stem[folder..].find(".v") {
        Some(at) => (&stem[..folder + at], stem[folder + at + 2..].parse().unwrap_or(1)),
        None => (stem, 1_u32),
    };
    let versions = (1..=own.min(VERSIONS_MAX) + 1).filter(|version| *version != own);
    versions
        .map(|version| match version {
            1 => format!("{first}.dcm"),
            n => format!("{first}.v{n}.dcm"),
        })
        .collect()
}

/// Every file below `folder`, by its path relative to `data`, with its size.
pub fn walk_files(
    data: &Path,
    folder: &str,
    visit: &mut dyn FnMut(&str, u64) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut open = vec![data.join(folder)];
    while let Some(path) = open.pop() {
        // What goes while a node works is not there.
        let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        let mut entries = Vec::new();
        let listed = match fs::read_dir(&path) {
            Err(error) if gone(&error) && path != data.join(folder) => continue,
            listed => listed.doing("reading", &path)?,
        };
        for entry in listed {
            entries.push(entry.doing("reading", &path)?.path());
        }
        entries.sort();
        for entry in entries {
            let meta = match fs::symlink_metadata(&entry) {
                Err(error) if gone(&error) => continue,
                meta => meta.doing("reading", &entry)?,
            };
            if meta.is_dir() {
                open.push(entry);
            } else {
                let name = entry.strip_prefix(data).unwrap_or(&entry);
                visit(&name.to_string_lossy(), meta.len())?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects() -> (tempfile::TempDir, Arc<Objects>) {
        let dir = tempfile::tempdir().unwrap();
        drop(folder::hold(dir.path()).unwrap());
        let objects = Objects::new(dir.path());
        (dir, objects)
    }

    fn uids() -> (StudyUid, SeriesUid, SopInstanceUid) {
        (
            StudyUid::parse("1.2").unwrap(),
            SeriesUid::parse("1.2.3").unwrap(),
            SopInstanceUid::parse("1.2.3.4").unwrap(),
        )
    }

    fn files(dir: &Path, folder: &str) -> Vec<String> {
        let mut found = Vec::new();
        walk_files(dir, folder, &mut |name, _| {
            found.push(name.to_owned());
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn an_instance_gets_its_place_and_never_that_of_another() {
        let (dir, objects) = objects();
        let (study, series, sop) = uids();
        let mut places = Vec::new();
        for bytes in ["one", "two", "three"] {
            let mut object = objects.begin(0).unwrap();
            object.write(bytes.as_bytes()).unwrap();
            places.push(object.place(&study, &series, &sop).unwrap());
        }
        assert!(places[0].ends_with("/1.2/1.2.3/1.2.3.4.dcm"), "{places:?}");
        assert!(places[2].ends_with("/1.2/1.2.3/1.2.3.4.v3.dcm"), "{places:?}");
        for (place, bytes) in places.iter().zip(["one", "two", "three"]) {
            assert_eq!(fs::read_to_string(dir.path().join(place)).unwrap(), bytes);
        }
        assert!(files(dir.path(), "incoming").is_empty());
    }

    #[test]
    fn other_versions_of_a_file_are_known_by_their_names() {
        assert_eq!(beside("objects/a/1.2/1.2.3.dcm"), ["objects/a/1.2/1.2.3.v2.dcm"]);
        let third = ["a/1.2.3.dcm", "a/1.2.3.v2.dcm", "a/1.2.3.v4.dcm"];
        assert_eq!(beside("a/1.2.3.v3.dcm"), third);
        assert!(beside("a/b").is_empty());
    }

    #[test]
    fn what_is_dropped_or_left_over_is_gone() {
        let (dir, objects) = objects();
        let mut object = objects.begin(0).unwrap();
        object.write(b"half").unwrap();
        assert_eq!(files(dir.path(), "incoming").len(), 1);
        drop(object);
        assert!(files(dir.path(), "incoming").is_empty());
        fs::write(dir.path().join("incoming/00000009.part"), "x").unwrap();
        assert_eq!(objects.empty_incoming().unwrap(), 1);
        assert!(files(dir.path(), "incoming").is_empty());
    }

    /// A folder stands in for a file that the disk does not remove.
    #[test]
    fn what_cannot_be_removed_now_is_removed_later_and_nobody_gets_its_name() {
        let (dir, objects) = objects();
        let (study, series, sop) = uids();
        let place = || {
            let object = objects.begin(0).unwrap();
            object.place(&study, &series, &sop).unwrap()
        };
        let object = place();
        let path = dir.path().join(&object);
        let part = objects.begin(0).unwrap();
        for file in [&path, part.path()] {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }
        let part_path = part.path().to_owned();
        drop(part);
        objects.discard(&object);
        objects.remove_again();
        assert!(objects.is_on_its_way(&object), "not to be adopted");
        for file in [&path, &part_path] {
            fs::remove_dir(file).unwrap();
        }
        // Somebody else has removed it: it is still no name for another, until we know.
        let second = place();
        assert!(second.ends_with(".v2.dcm"), "{second}");
        for file in [&path, &part_path] {
            fs::write(file, "half").unwrap();
        }
        objects.remove_again();
        assert_eq!(files(dir.path(), "incoming"), Vec::<String>::new());
        assert_eq!(files(dir.path(), "objects"), [second.as_str()]);
        assert!(!objects.is_on_its_way(&object));
        assert_eq!(place(), object);
    }

    #[test]
    fn a_stray_goes_unless_it_is_on_its_way() {
        let (dir, objects) = objects();
        let (study, series, sop) = uids();
        let object = objects.begin(0).unwrap().place(&study, &series, &sop).unwrap();
        let stray = || vec![object.clone()];
        assert_eq!(objects.discard_strays(stray(), |_| {}), 0);
        assert!(dir.path().join(&object).is_file());
        objects.has_arrived(&object);
        let spare = |going: &mut HashSet<String>| {
            assert!(objects.is_on_its_way(&object));
            going.clear();
        };
        assert_eq!(objects.discard_strays(stray(), spare), 0);
        assert!(!objects.is_on_its_way(&object));
        assert_eq!(objects.discard_strays(stray(), |_| {}), 1);
        assert!(!dir.path().join(&object).exists());
    }

    #[test]
    fn files_to_be_removed_are_kept_in_mind_up_to_a_limit() {
        let (dir, objects) = objects();
        for number in 0..UNREMOVED_MAX + 1 {
            let name = format!("incoming/{number}.part");
            fs::create_dir(dir.path().join(&name)).unwrap();
            objects.discard(&name);
        }
        assert_eq!(objects.names().unremoved.len(), UNREMOVED_MAX);
    }

    #[test]
    fn below_the_low_water_mark_nothing_is_taken() {
        let (_dir, objects) = objects();
        let error = objects.begin(u64::MAX).unwrap_err();
        assert!(error.is_out_of_space(), "{error}");
    }

    #[test]
    fn folders_that_vanish_are_made_again() {
        let (dir, objects) = objects();
        let (study, series, sop) = uids();
        objects.begin(0).unwrap().place(&study, &series, &sop).unwrap();
        objects.write_result(&study, 1, "a.json", b"1").unwrap();
        for folder in ["objects", "results"] {
            fs::remove_dir_all(dir.path().join(folder)).unwrap();
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let place = objects.begin(0).unwrap().place(&study, &series, &sop).unwrap();
        assert!(dir.path().join(place).is_file());
        objects.write_result(&study, 1, "a.json", b"2").unwrap();
        assert_eq!(objects.read_result(&study, 1, "a.json").unwrap().unwrap(), b"2");
    }

    #[test]
    fn a_result_has_a_plain_name() {
        let (_dir, objects) = objects();
        let (study, ..) = uids();
        assert_eq!(objects.read_result(&study, 1, "report.pdf").unwrap(), None);
        for bad in ["", ".", "..", "../x", "a/b", "/etc", ".hidden", "a\0", "a b", &"a".repeat(129)]
        {
            let error = objects.write_result(&study, 1, bad, b"x").unwrap_err();
            assert!(matches!(error, StoreError::Name { .. }), "{bad:?}");
        }
    }
}
