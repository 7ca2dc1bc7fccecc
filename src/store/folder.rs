//! The data folder itself: who may use it, which format it has, what is free in it.

use std::fs;
use std::fs::DirBuilder;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::path::PathBuf;

use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;

/// Version of the layout on disk. A program refuses a newer one and changes nothing in it.
/// 2: small objects stand in the journal first, and digests may be BLAKE3.
pub const FORMAT: u64 = 2;
/// The program that writes, beside the format. Events and rows may gain kinds and fields with every
/// minor version, which an earlier one would take for damage.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

pub const LEDGER: &str = "ledger";
pub const STATE: &str = "state";
pub const OBJECTS: &str = "objects";
pub const RESULTS: &str = "results";
pub const INCOMING: &str = "incoming";
pub const JOURNAL: &str = "journal";

/// A folder that another process holds for longer is in use.
const LOCK_WAIT: std::time::Duration = std::time::Duration::from_millis(300);

/// The folder, held for this process until dropped.
#[derive(Debug)]
pub struct Held {
    _locks: Vec<File>,
}

/// Makes the folder where needed, takes it for this process, checks its format.
pub fn hold(data: &Path) -> Result<Held, StoreError> {
    let existed = data.is_dir();
    make_folders(data)?;
    // The lock is a file that a person can take away; these are what a node has open all the time.
    let (there, missing): (Vec<&str>, Vec<&str>) =
        [LEDGER, JOURNAL].into_iter().partition(|part| data.join(part).is_dir());
    let mut locks = lock_parts(data, &there)?;
    locks.push(lock(data)?);
    let format = data.join("format");
    let ours = format.exists();
    let ours_now = format!("prelim data {FORMAT}\nby {PROGRAM}\n");
    let up_to_date = check_format(data, &format)?.is_some_and(|text| text == ours_now);
    // A folder that is the user's own (empty or made by us) is closed to others. Another one may
    // hold more than our data: only what we make in it is ours to close.
    let nothing_else = || fs::read_dir(data).is_ok_and(|entries| entries.count() <= 1);
    if !existed || ours || nothing_else() {
        fs::set_permissions(data, fs::Permissions::from_mode(0o700))
            .doing("closing to other users", data)?;
    }
    for part in [LEDGER, STATE, OBJECTS, RESULTS, INCOMING, JOURNAL] {
        let path = data.join(part);
        if part != STATE && !path.is_dir() {
            make_folder(&path).doing("making the folder", &path)?;
        }
    }
    locks.extend(lock_parts(data, &missing)?);
    if !up_to_date {
        files::write_whole(&format, ours_now.as_bytes()).doing("writing", &format)?;
    }
    files::sync_folder(data).doing("syncing", data)?;
    Ok(Held { _locks: locks })
}

/// Takes folders that a node works in.
fn lock_parts(data: &Path, parts: &[&str]) -> Result<Vec<File>, StoreError> {
    let mut locks = Vec::new();
    for &part in parts {
        let path = data.join(part);
        let folder = File::open(&path).doing("opening", &path)?;
        match take(&folder) {
            Ok(true) => locks.push(folder),
            Ok(false) => return Err(in_use(data)),
            // A file system that locks no folders: the lock file has to do.
            Err(error) => tracing::debug!(%error, part, "the folder cannot be locked"),
        }
    }
    Ok(locks)
}

/// Takes the lock of a file or folder. False: another process has it.
fn take(file: &File) -> io::Result<bool> {
    // A process that was just started holds what its parent held, until it is its own program.
    let until = std::time::Instant::now() + LOCK_WAIT;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) if std::time::Instant::now() < until => {
                std::thread::sleep(LOCK_WAIT / 20);
            }
            Err(TryLockError::WouldBlock) => return Ok(false),
            Err(TryLockError::Error(source)) => return Err(source),
        }
    }
}

/// Says which process the lock names.
pub fn in_use(data: &Path) -> StoreError {
    let mut process = String::new();
    let read =
        |process: &mut String| File::open(data.join("lock"))?.take(20).read_to_string(process);
    let told = read(&mut process).is_ok();
    let number = told.then(|| process.trim().parse::<u32>().ok()).flatten();
    let process = number.map_or("(unknown)".to_owned(), |n| n.to_string());
    StoreError::InUse { folder: data.to_owned(), process }
}

/// Takes a folder for this process.
pub fn lock(data: &Path) -> Result<File, StoreError> {
    let path = data.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .doing("opening", &path)?;
    if !take(&file).doing("locking", &path)? {
        return Err(in_use(data));
    }
    let write = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    // A full disk must not keep the node from starting: the number is only a hint for people.
    let _ = write(&mut file);
    Ok(file)
}

/// Stands in the place of the format until a restore is done.
const RESTORING: &str = "prelim restore, not finished\n";

/// From now on no program takes the folder for one of ours.
pub fn begin_restore(data: &Path) -> Result<(), StoreError> {
    let format = data.join("format");
    files::write_whole(&format, RESTORING.as_bytes()).doing("writing", &format)
}

/// The folder is whole.
pub fn end_restore(data: &Path, found: u64) -> Result<(), StoreError> {
    let format = data.join("format");
    files::write_whole(&format, format!("prelim data {found}\n").as_bytes())
        .doing("writing", &format)
}

/// What a folder that is ours already says of its format.
fn check_format(data: &Path, format: &Path) -> Result<Option<String>, StoreError> {
    let text = match fs::read_to_string(format) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io("reading", format, error)),
    };
    if text == RESTORING {
        let what = "a restore to this folder did not come to its end: empty it and restore again";
        return Err(StoreError::io("reading", format, io::Error::other(what)));
    }
    let mut lines = text.lines();
    let number = lines.next().and_then(|line| line.strip_prefix("prelim data "));
    match number.and_then(|number| number.trim().parse::<u64>().ok()) {
        Some(found) if found > FORMAT => {
            Err(StoreError::Newer { folder: data.to_owned(), found, known: FORMAT })
        }
        Some(_) => {
            let program = lines.next().and_then(|line| line.strip_prefix("by "));
            check_program(data, program.unwrap_or_default())?;
            Ok(Some(text))
        }
        None => {
            let what = io::Error::new(io::ErrorKind::InvalidData, "not a format of ours");
            Err(StoreError::io("reading", format, what))
        }
    }
}

/// Refuses what a later series of this program wrote: major and minor version count.
///
/// - `found`: its version; empty of the first ones, which did not say.
pub fn check_program(folder: &Path, found: &str) -> Result<(), StoreError> {
    let series = |version: &str| -> Vec<u64> {
        version.split('.').take(2).map(|part| part.parse().unwrap_or(0)).collect()
    };
    match series(found) > series(PROGRAM) {
        false => Ok(()),
        true => Err(StoreError::NewerProgram {
            folder: folder.to_owned(),
            found: found.chars().filter(|c| !c.is_control()).take(32).collect(),
            known: PROGRAM,
        }),
    }
}

/// The data folder and those above it that are missing, each with a name that survives a power cut.
pub fn make_folders(data: &Path) -> Result<(), StoreError> {
    let missing: Vec<&Path> = data.ancestors().take_while(|folder| !folder.exists()).collect();
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(data).doing("making the folder", data)?;
    for made in missing {
        let above = match made.parent() {
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
            None => continue,
        };
        // A folder that may not be read by us cannot be synced, and its owner made it long ago.
        match files::sync_folder(above) {
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => {
                return Err(StoreError::io("syncing", above, error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// One folder for its owner alone; that it is there already is no error.
pub fn make_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Bytes of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// That this user may still write.
    pub free: u64,
    pub total: u64,
}

pub fn space(data: &Path) -> Result<Space, StoreError> {
    let stat = rustix::fs::statvfs(data)
        .map_err(|error| StoreError::io("asking for free space in", data, error.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
    Ok(Space { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) })
}

/// Bytes that this user may still write in the folder's file system.
pub fn free_bytes(data: &Path) -> Result<u64, StoreError> {
    Ok(space(data)?.free)
}

/// Renames `path` to `<name>.<label>-<time>` in the same folder and removes all but the newest
/// few that were set aside so before.
pub fn set_aside(path: &Path, label: &str, now: jiff::Timestamp) -> Result<PathBuf, StoreError> {
    const KEPT: usize = 3;
    let name = path.file_name().map_or("", |name| name.to_str().unwrap_or(""));
    let prefix = format!("{name}.{label}-");
    let folder = path.parent().unwrap_or(Path::new("."));
    let time = now.strftime("%Y%m%dT%H%M%SZ");
    let free = (0..1000)
        .map(|n| match n {
            0 => folder.join(format!("{prefix}{time}")),
            n => folder.join(format!("{prefix}{time}-{n}")),
        })
        .find(|to| !to.exists())
        .unwrap_or_else(|| folder.join(format!("{prefix}{time}-last")));
    fs::rename(path, &free).doing("setting aside", path)?;
    files::sync_folder(folder).doing("syncing", folder)?;
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut older: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(|n| n.starts_with(&prefix)))
        .map(|entry| entry.path())
        .collect();
    older.sort();
    for old in older.iter().rev().skip(KEPT) {
        let _ = fs::remove_dir_all(old);
    }
    Ok(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_for_one_process_and_closed_to_other_users() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let held = hold(&data).unwrap();
        let error = hold(&data).unwrap_err().to_string();
        let expected = format!("is in use by process {}", std::process::id());
        assert!(error.contains(&expected), "{error}");
        for path in ["", "ledger", "objects", "results", "incoming"] {
            let mode = fs::metadata(data.join(path)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{path}");
        }
        let mode = fs::metadata(data.join("format")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // A person who takes the lock away lets no second one in.
        fs::remove_file(data.join("lock")).unwrap();
        let error = hold(&data).unwrap_err();
        assert!(matches!(error, StoreError::InUse { .. }), "{error}");
        assert!(!data.join("lock").exists(), "nothing was changed");
        drop(held);
        hold(&data).unwrap();
    }

    #[test]
    fn a_newer_format_is_refused_without_change() {
        let dir = tempfile::tempdir().unwrap();
        drop(hold(dir.path()).unwrap());
        fs::write(dir.path().join("format"), "prelim data 3\n").unwrap();
        let error = hold(dir.path()).unwrap_err();
        assert!(matches!(error, StoreError::Newer { found: 3, known: 2, .. }), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("format")).unwrap(), "prelim data 3\n");
    }

    #[test]
    fn what_a_later_minor_version_wrote_is_refused_and_a_later_patch_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let ours: Vec<u64> = PROGRAM.split('.').map(|part| part.parse().unwrap()).collect();
        let [major, minor, patch] = ours[..] else { panic!("{PROGRAM}") };
        for (program, taken) in [
            (String::new(), true),
            (format!("by {major}.{minor}.{}\n", patch + 1), true),
            (format!("by {major}.{}.0\n", minor + 1), false),
            (format!("by {}.0.0\n", major + 1), false),
        ] {
            let text = format!("prelim data {FORMAT}\n{program}");
            fs::write(dir.path().join("format"), &text).unwrap();
            match hold(dir.path()) {
                Ok(_) => assert!(taken, "{program}"),
                Err(StoreError::NewerProgram { .. }) => {
                    assert!(!taken, "{program}");
                    assert_eq!(fs::read_to_string(dir.path().join("format")).unwrap(), text);
                }
                Err(other) => panic!("{program}: {other}"),
            }
        }
    }

    #[test]
    fn what_is_set_aside_does_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        for second in 0..6 {
            let state = dir.path().join("state");
            fs::create_dir(&state).unwrap();
            set_aside(&state, "bad", jiff::Timestamp::from_second(second / 2).unwrap()).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
