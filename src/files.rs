//! Files of the data folder: whole or as they were before, whoever writes them.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::SystemTime;

/// A new file for its owner alone.
pub fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Makes names in a folder survive a power cut: an fsync of the file does not sync its name.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes beside, syncs, renames, syncs the folder: the file is complete or as it was.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = folder.join(format!(".{}-{number}.tmp", std::process::id()));
    let write = || {
        let mut file = create_new(&beside)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&beside, path)
    };
    if let Err(error) = write() {
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    sync_folder(folder)
}

/// [`write_whole`] for whoever owns the folder: what root writes there has to be read by a node that
/// runs as its own user.
pub fn write_for_owner(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole(path, bytes)?;
    let folder = path.parent().unwrap_or(Path::new(".")).metadata()?;
    match path.metadata()?.uid() == folder.uid() {
        true => Ok(()),
        false => std::os::unix::fs::chown(path, Some(folder.uid()), Some(folder.gid())),
    }
}

/// Until it is dropped no other process and no other thread has it. The folder: a file would be left
/// behind.
pub fn lock_folder(folder: &Path) -> io::Result<File> {
    let folder = File::open(folder)?;
    folder.lock()?;
    Ok(folder)
}

/// Tells whether a file is another than before.
pub type Mark = (SystemTime, u64);

pub fn mark(file: &Path) -> Option<Mark> {
    let meta = fs::metadata(file).ok()?;
    Some((meta.modified().ok()?, meta.len()))
}
