//! A file system whose power can be cut: it lives in this process, is mounted with FUSE, and keeps
//! only what was asked to be kept.
//!
//! Stricter than any disk: data and size of a file survive after fsync or fdatasync of that file
//! (or a write through O_DSYNC), an entry of a folder after fsync of that folder, and neither
//! brings the other along. Between two syncs a disk may write what it likes in any order, so the
//! rest survives by chance, page by page and name by name: [`Disk::cut`].

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::ffi::OsString;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;
use std::time::SystemTime;

use fuser::FileAttr;
use fuser::FileType;
use fuser::Filesystem;
use fuser::KernelConfig;
use fuser::MountOption;
use fuser::ReplyAttr;
use fuser::ReplyCreate;
use fuser::ReplyData;
use fuser::ReplyDirectory;
use fuser::ReplyEmpty;
use fuser::ReplyEntry;
use fuser::ReplyOpen;
use fuser::ReplyStatfs;
use fuser::ReplyWrite;
use fuser::Request;
use fuser::TimeOrNow;
use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const PAGE: usize = 4096;
const ROOT: u64 = 1;
/// Only the kernel's own calls change anything: it may remember what it was told.
const REMEMBERED: Duration = Duration::from_secs(3600);

type Page = Arc<[u8; PAGE]>;
type Done<T> = Result<T, i32>;

/// What of that which was never synced is there after a power cut.
#[derive(Debug, Clone, Copy)]
pub enum Survivors {
    /// Nothing.
    None,
    /// Each page and each name by the toss of a coin, pages also torn; the seed makes it repeatable.
    Some(u64),
}

/// What fails, and how. None: works.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// The error number of each write, creation, renaming and removal.
    pub write: Option<i32>,
    /// The error number of each sync.
    pub sync: Option<i32>,
}

#[derive(Clone)]
pub struct Disk(Arc<Mutex<State>>);

struct State {
    nodes: HashMap<u64, Node>,
    next: u64,
    handles: HashMap<u64, Vec<(u64, FileType, OsString)>>,
    pages: u64,
    pages_max: u64,
    faults: Faults,
    without_power: bool,
}

enum Node {
    File(FileNode),
    Folder(FolderNode),
}

#[derive(Default)]
struct FileNode {
    size: u64,
    pages: HashMap<u64, Page>,
    synced_size: u64,
    synced: HashMap<u64, Page>,
    /// Pages that differ from what is synced.
    dirty: HashSet<u64>,
    links: u32,
}

#[derive(Default)]
struct FolderNode {
    names: BTreeMap<OsString, u64>,
    synced: BTreeMap<OsString, u64>,
}

/// Unmounts when dropped.
pub struct Mounted {
    folder: PathBuf,
    session: Option<fuser::BackgroundSession>,
}

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a worker of a killed node may hold a file for another moment.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).output();
        drop(self.session.take());
    }
}

impl Disk {
    pub fn new(bytes_max: u64) -> Disk {
        let root = Node::Folder(FolderNode::default());
        Disk(Arc::new(Mutex::new(State {
            nodes: HashMap::from([(ROOT, root)]),
            next: ROOT + 1,
            handles: HashMap::new(),
            pages: 0,
            pages_max: bytes_max / PAGE as u64,
            faults: Faults::default(),
            without_power: false,
        })))
    }

    /// None, with a line that says so, where FUSE cannot be used.
    pub fn mount(&self, folder: &Path) -> Option<Mounted> {
        if !Path::new("/dev/fuse").exists() {
            eprintln!("passed over: there is no /dev/fuse here");
            return None;
        }
        std::fs::create_dir_all(folder).unwrap();
        let options = [MountOption::FSName("volatile".to_owned()), MountOption::NoAtime];
        match fuser::spawn_mount2(self.clone(), folder, &options) {
            Ok(session) => Some(Mounted { folder: folder.to_owned(), session: Some(session) }),
            Err(error) => {
                eprintln!("passed over: no FUSE mount without root or fusermount3: {error}");
                None
            }
        }
    }

    pub fn fail(&self, faults: Faults) {
        self.state().faults = faults;
    }

    /// From now on every call fails, and the new disk holds what is left.
    pub fn cut(&self, survivors: Survivors) -> Disk {
        let mut state = self.state();
        state.without_power = true;
        let mut chance = match survivors {
            Survivors::None => None,
            Survivors::Some(seed) => Some(StdRng::seed_from_u64(seed)),
        };
        let disk = Disk::new(state.pages_max * PAGE as u64);
        let mut left = disk.state();
        let mut waiting = vec![ROOT];
        while let Some(number) = waiting.pop() {
            if number != ROOT && left.nodes.contains_key(&number) {
                continue;
            }
            let node = match &state.nodes[&number] {
                Node::File(file) => Node::File(file.after_cut(&mut chance)),
                Node::Folder(folder) => {
                    let names = folder.after_cut(&mut chance);
                    waiting.extend(names.values());
                    Node::Folder(FolderNode { synced: names.clone(), names })
                }
            };
            left.nodes.insert(number, node);
        }
        left.next = state.next;
        let mut links: HashMap<u64, u32> = HashMap::new();
        for node in left.nodes.values() {
            if let Node::Folder(folder) = node {
                folder.names.values().for_each(|number| *links.entry(*number).or_default() += 1);
            }
        }
        let mut pages = 0;
        for (number, node) in &mut left.nodes {
            if let Node::File(file) = node {
                file.links = links[number];
                pages += file.pages.len() as u64;
            }
        }
        left.pages = pages;
        drop(left);
        disk
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl FileNode {
    fn sync(&mut self) {
        for number in self.dirty.drain() {
            match self.pages.get(&number) {
                Some(page) => self.synced.insert(number, Arc::clone(page)),
                None => self.synced.remove(&number),
            };
        }
        self.synced_size = self.size;
    }

    fn after_cut(&self, chance: &mut Option<StdRng>) -> FileNode {
        let (mut pages, mut size) = (self.synced.clone(), self.synced_size);
        if let Some(chance) = chance {
            let mut dirty: Vec<u64> = self.dirty.iter().copied().collect();
            dirty.sort_unstable();
            dirty.retain(|_| chance.random_bool(0.5));
            for number in dirty {
                match self.pages.get(&number) {
                    Some(new) => {
                        let mut page = **new;
                        if chance.random_bool(0.1) {
                            // Torn at a sector: the rest is what stood there before.
                            let at = chance.random_range(1..8) * 512;
                            let old = pages.get(&number).map_or([0; PAGE], |old| **old);
                            page[at..].copy_from_slice(&old[at..]);
                        }
                        pages.insert(number, Arc::new(page));
                    }
                    None => drop(pages.remove(&number)),
                }
            }
            if chance.random_bool(0.5) {
                size = self.size;
            }
        }
        let end = size.div_ceil(PAGE as u64);
        pages.retain(|number, _| *number < end);
        if let (Some(page), rest @ 1..) =
            (pages.get_mut(&(size / PAGE as u64)), size as usize % PAGE)
        {
            Arc::make_mut(page)[rest..].fill(0);
        }
        let synced = pages.clone();
        FileNode { size, pages, synced_size: size, synced, ..FileNode::default() }
    }
}

impl FolderNode {
    fn after_cut(&self, chance: &mut Option<StdRng>) -> BTreeMap<OsString, u64> {
        let mut names = self.synced.clone();
        let Some(chance) = chance else { return names };
        let both: std::collections::BTreeSet<&OsString> =
            self.names.keys().chain(self.synced.keys()).collect();
        for name in both {
            let (now, before) = (self.names.get(name), self.synced.get(name));
            if now != before && chance.random_bool(0.5) {
                match now {
                    Some(number) => names.insert(name.clone(), *number),
                    None => names.remove(name),
                };
            }
        }
        names
    }
}

impl State {
    fn folder(&mut self, number: u64) -> Done<&mut FolderNode> {
        match self.nodes.get_mut(&number) {
            Some(Node::Folder(folder)) => Ok(folder),
            Some(Node::File(_)) => Err(libc::ENOTDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn file(&mut self, number: u64) -> Done<&mut FileNode> {
        match self.nodes.get_mut(&number) {
            Some(Node::File(file)) => Ok(file),
            Some(Node::Folder(_)) => Err(libc::EISDIR),
            None => Err(libc::ENOENT),
        }
    }

    fn powered(&self) -> Done<()> {
        match self.without_power {
            true => Err(libc::EIO),
            false => Ok(()),
        }
    }

    /// Whether something may be changed now.
    fn writable(&self) -> Done<()> {
        self.powered()?;
        self.faults.write.map_or(Ok(()), Err)
    }

    fn syncable(&self) -> Done<()> {
        self.powered()?;
        self.faults.sync.map_or(Ok(()), Err)
    }

    fn look_up(&mut self, parent: u64, name: &OsStr) -> Done<u64> {
        self.powered()?;
        self.folder(parent)?.names.get(name).copied().ok_or(libc::ENOENT)
    }

    fn attributes(&self, number: u64) -> Done<FileAttr> {
        self.powered()?;
        let (kind, perm, size, nlink) = match self.nodes.get(&number).ok_or(libc::ENOENT)? {
            Node::File(file) => (FileType::RegularFile, 0o644, file.size, file.links),
            Node::Folder(_) => (FileType::Directory, 0o755, 0, 2),
        };
        let never = SystemTime::UNIX_EPOCH;
        Ok(FileAttr {
            ino: number,
            size,
            blocks: size.div_ceil(512),
            atime: never,
            mtime: never,
            ctime: never,
            crtime: never,
            kind,
            perm,
            nlink,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            rdev: 0,
            blksize: PAGE as u32,
            flags: 0,
        })
    }

    fn create(&mut self, parent: u64, name: &OsStr, node: Node) -> Done<FileAttr> {
        self.writable()?;
        if self.folder(parent)?.names.contains_key(name) {
            return Err(libc::EEXIST);
        }
        // A name needs room too: a full disk makes no files.
        if self.pages >= self.pages_max {
            return Err(libc::ENOSPC);
        }
        let number = self.next;
        self.next += 1;
        self.nodes.insert(number, node);
        self.folder(parent)?.names.insert(name.to_owned(), number);
        self.attributes(number)
    }

    /// One name fewer for a file; its pages are free when none is left.
    fn unlinked(&mut self, number: u64) {
        let mut freed = 0;
        if let Some(Node::File(file)) = self.nodes.get_mut(&number) {
            file.links -= 1;
            if file.links == 0 {
                freed = file.pages.len() as u64;
            }
        }
        self.pages = self.pages.saturating_sub(freed);
    }

    fn unlink(&mut self, parent: u64, name: &OsStr) -> Done<()> {
        self.writable()?;
        let number = self.look_up(parent, name)?;
        self.file(number)?;
        self.folder(parent)?.names.remove(name);
        self.unlinked(number);
        Ok(())
    }

    fn rmdir(&mut self, parent: u64, name: &OsStr) -> Done<()> {
        self.writable()?;
        let number = self.look_up(parent, name)?;
        if !self.folder(number)?.names.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.folder(parent)?.names.remove(name);
        Ok(())
    }

    fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr), flags: u32) -> Done<()> {
        self.writable()?;
        let number = self.look_up(from.0, from.1)?;
        let there = self.folder(to.0)?.names.get(to.1).copied();
        match (there, flags) {
            (None, 0 | libc::RENAME_NOREPLACE) => {}
            (Some(_), libc::RENAME_NOREPLACE) => return Err(libc::EEXIST),
            (Some(there), 0) => self.unlinked(there),
            (_, _) => return Err(libc::EINVAL),
        }
        self.folder(from.0)?.names.remove(from.1);
        self.folder(to.0)?.names.insert(to.1.to_owned(), number);
        Ok(())
    }

    fn link(&mut self, number: u64, parent: u64, name: &OsStr) -> Done<FileAttr> {
        self.writable()?;
        if self.folder(parent)?.names.contains_key(name) {
            return Err(libc::EEXIST);
        }
        self.file(number)?.links += 1;
        self.folder(parent)?.names.insert(name.to_owned(), number);
        self.attributes(number)
    }

    fn read(&mut self, number: u64, offset: u64, size: usize) -> Done<Vec<u8>> {
        self.powered()?;
        let file = self.file(number)?;
        let end = file.size.min(offset + size as u64);
        let mut bytes = Vec::with_capacity(size);
        let mut at = offset;
        while at < end {
            let (page, from) = (at / PAGE as u64, at as usize % PAGE);
            let length = (PAGE - from).min((end - at) as usize);
            match file.pages.get(&page) {
                Some(page) => bytes.extend_from_slice(&page[from..from + length]),
                None => bytes.resize(bytes.len() + length, 0),
            }
            at += length as u64;
        }
        Ok(bytes)
    }

    fn write(&mut self, number: u64, offset: u64, data: &[u8], synced: bool) -> Done<()> {
        self.writable()?;
        let room = self.pages_max.saturating_sub(self.pages);
        let file = self.file(number)?;
        let pages = offset / PAGE as u64..(offset + data.len() as u64).div_ceil(PAGE as u64);
        let new = pages.filter(|page| !file.pages.contains_key(page)).count() as u64;
        if new > room {
            return Err(libc::ENOSPC);
        }
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let (number, from) = (at / PAGE as u64, at as usize % PAGE);
            let length = (PAGE - from).min(data.len() - done);
            let page = file.pages.entry(number).or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[from..from + length].copy_from_slice(&data[done..done + length]);
            file.dirty.insert(number);
            done += length;
        }
        file.size = file.size.max(offset + data.len() as u64);
        self.pages += new;
        match synced {
            true => self.sync(number),
            false => Ok(()),
        }
    }

    fn sync(&mut self, number: u64) -> Done<()> {
        if let Err(errno) = self.syncable() {
            // As Linux does: the pages count as clean, a later sync says nothing of them.
            self.file(number)?.dirty.clear();
            return Err(errno);
        }
        self.file(number)?.sync();
        Ok(())
    }

    fn sync_folder(&mut self, number: u64) -> Done<()> {
        self.syncable()?;
        let folder = self.folder(number)?;
        folder.synced = folder.names.clone();
        Ok(())
    }

    fn truncate(&mut self, number: u64, size: u64) -> Done<()> {
        self.writable()?;
        let file = self.file(number)?;
        let end = size.div_ceil(PAGE as u64);
        let gone: Vec<u64> = file.pages.keys().copied().filter(|page| *page >= end).collect();
        for page in &gone {
            file.pages.remove(page);
            file.dirty.insert(*page);
        }
        let (last, rest) = (size / PAGE as u64, size as usize % PAGE);
        if let (Some(page), 1..) = (file.pages.get_mut(&last), rest) {
            Arc::make_mut(page)[rest..].fill(0);
            file.dirty.insert(last);
        }
        file.size = size;
        self.pages -= gone.len() as u64;
        Ok(())
    }

    fn allocate(&mut self, number: u64, end: u64) -> Done<()> {
        self.writable()?;
        let room = self.pages_max.saturating_sub(self.pages);
        let file = self.file(number)?;
        let missing = |page: &u64| !file.pages.contains_key(page);
        let new: Vec<u64> = (0..end.div_ceil(PAGE as u64)).filter(missing).collect();
        if new.len() as u64 > room {
            return Err(libc::ENOSPC);
        }
        let zeros: Page = Arc::new([0; PAGE]);
        for page in &new {
            file.pages.insert(*page, Arc::clone(&zeros));
            file.dirty.insert(*page);
        }
        file.size = file.size.max(end);
        self.pages += new.len() as u64;
        Ok(())
    }
}

fn answer(done: Done<()>, reply: ReplyEmpty) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn answer_entry(done: Done<FileAttr>, reply: ReplyEntry) {
    match done {
        Ok(attributes) => reply.entry(&REMEMBERED, &attributes, 0),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Disk {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), i32> {
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        let mut state = self.state();
        let found = state.look_up(parent, name).and_then(|number| state.attributes(number));
        answer_entry(found, reply);
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, _: Option<u64>, reply: ReplyAttr) {
        match self.state().attributes(number) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<u64>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        let done = size.map_or(Ok(()), |size| state.truncate(number, size));
        match done.and_then(|()| state.attributes(number)) {
            Ok(attributes) => reply.attr(&REMEMBERED, &attributes),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let folder = Node::Folder(FolderNode::default());
        answer_entry(self.state().create(parent, name, folder), reply);
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state().unlink(parent, name), reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        answer(self.state().rmdir(parent, name), reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        new_parent: u64,
        new_name: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        answer(self.state().rename((parent, name), (new_parent, new_name), flags), reply);
    }

    fn link(&mut self, _: &Request<'_>, number: u64, parent: u64, name: &OsStr, reply: ReplyEntry) {
        answer_entry(self.state().link(number, parent, name), reply);
    }

    fn create(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        _mode: u32,
        _umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let file = Node::File(FileNode { links: 1, ..FileNode::default() });
        match self.state().create(parent, name, file) {
            Ok(attributes) => reply.created(&REMEMBERED, &attributes, 0, 0, 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _handle: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyData,
    ) {
        match self.state().read(number, offset.unsigned_abs(), size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _handle: u64,
        offset: i64,
        data: &[u8],
        _write_flags: u32,
        flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        // O_SYNC has the bit of O_DSYNC.
        let synced = flags & libc::O_DSYNC != 0;
        match self.state().write(number, offset.unsigned_abs(), data, synced) {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&mut self, _: &Request<'_>, _: u64, _handle: u64, _lock: u64, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&mut self, _: &Request<'_>, number: u64, _: u64, _data: bool, reply: ReplyEmpty) {
        answer(self.state().sync(number), reply);
    }

    fn opendir(&mut self, _: &Request<'_>, number: u64, _flags: i32, reply: ReplyOpen) {
        let mut state = self.state();
        let names =
            match state.powered().and_then(|()| state.folder(number).map(|f| f.names.clone())) {
                Ok(names) => names,
                Err(errno) => return reply.error(errno),
            };
        let kind = |number: &u64| match state.nodes[number] {
            Node::File(_) => FileType::RegularFile,
            Node::Folder(_) => FileType::Directory,
        };
        let entries =
            names.into_iter().map(|(name, number)| (number, kind(&number), name)).collect();
        let handle = state.next;
        state.next += 1;
        state.handles.insert(handle, entries);
        reply.opened(handle, 0);
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        _number: u64,
        handle: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        let state = self.state();
        let entries = state.handles.get(&handle).map_or(&[][..], Vec::as_slice);
        for (place, (number, kind, name)) in entries.iter().enumerate().skip(offset as usize) {
            if reply.add(*number, place as i64 + 1, *kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(&mut self, _: &Request<'_>, _: u64, handle: u64, _: i32, reply: ReplyEmpty) {
        self.state().handles.remove(&handle);
        reply.ok();
    }

    fn fsyncdir(&mut self, _: &Request<'_>, number: u64, _: u64, _data: bool, reply: ReplyEmpty) {
        answer(self.state().sync_folder(number), reply);
    }

    fn statfs(&mut self, _: &Request<'_>, _: u64, reply: ReplyStatfs) {
        let state = self.state();
        let free = state.pages_max.saturating_sub(state.pages);
        let page = PAGE as u32;
        reply.statfs(state.pages_max, free, free, 1 << 20, 1 << 20, page, 255, page);
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _handle: u64,
        offset: i64,
        length: i64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let end = offset.unsigned_abs() + length.unsigned_abs();
        let done = match mode {
            0 => self.state().allocate(number, end),
            _ => Err(libc::EOPNOTSUPP),
        };
        answer(done, reply);
    }
}
