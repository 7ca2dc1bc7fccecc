//! What can go wrong with the data folder.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

/// Cloned to all who wait for one group of commits.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    #[error("the data folder {folder} is in use by process {process}")]
    InUse { folder: PathBuf, process: String },
    #[error(
        "the data folder {folder} has format {found}, and this program knows formats up to \
         {known}: start the newer program that wrote it; nothing was changed"
    )]
    Newer { folder: PathBuf, found: u64, known: u64 },
    #[error(
        "the data folder {folder} was last written by prelim {found}, and this is {known}, which may \
         not understand all of it: start the newer program, or restore a backup from before; nothing \
         was changed"
    )]
    NewerProgram { folder: PathBuf, found: String, known: &'static str },
    /// `mend`: what to do, with what leads to it; empty where the error says enough.
    #[error("{doing} {path}: {error}{mend}")]
    Io { doing: &'static str, path: PathBuf, error: Arc<io::Error>, mend: String },
    #[error("{free} bytes are free in the data folder, {kept} are kept for what was accepted")]
    Space { free: u64, kept: u64 },
    #[error("the index cannot be used: {cause}")]
    Index { cause: String },
    #[error("the index is being made anew, {done} of {total}")]
    Remaking { done: u64, total: u64 },
    #[error("a commit of {size} bytes is over the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("'{name}' cannot be the name of a result file")]
    Name { name: String },
    #[error("an instance with this name is there {times} times")]
    TooManyVersions { times: u32 },
    /// The ledger may or may not hold the commit: the next start tells.
    #[error("it is not known whether the commit holds: {cause}")]
    Unsettled { cause: String },
    #[error("more commits wait than the store takes in")]
    Busy,
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> StoreError {
        let mend = match source.kind() {
            io::ErrorKind::PermissionDenied => whose(path).unwrap_or_default(),
            _ => String::new(),
        };
        StoreError::Io { doing, path: path.to_owned(), error: Arc::new(source), mend }
    }

    pub fn index(cause: impl std::fmt::Display) -> StoreError {
        StoreError::Index { cause: cause.to_string() }
    }

    /// Whether the disk (or quota, or file size limit) is full: status A700, and space helps.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            StoreError::Space { .. } => true,
            StoreError::Io { error, .. } => matches!(
                error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            ),
            StoreError::InUse { .. }
            | StoreError::Newer { .. }
            | StoreError::NewerProgram { .. }
            | StoreError::Index { .. }
            | StoreError::Remaking { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Name { .. }
            | StoreError::TooManyVersions { .. }
            | StoreError::Unsettled { .. }
            | StoreError::Busy
            | StoreError::Closed => false,
        }
    }

    /// Whether a commit that failed with this may hold all the same: then what it speaks of (an
    /// instance's file) must stay. After every other error it does not hold.
    pub fn may_hold(&self) -> bool {
        match self {
            StoreError::Unsettled { .. } | StoreError::Closed => true,
            StoreError::InUse { .. }
            | StoreError::Newer { .. }
            | StoreError::NewerProgram { .. }
            | StoreError::Io { .. }
            | StoreError::Space { .. }
            | StoreError::Index { .. }
            | StoreError::Remaking { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Name { .. }
            | StoreError::TooManyVersions { .. }
            | StoreError::Busy => false,
        }
    }
}

/// Whose the nearest file or folder of this path is, and how it becomes ours. `None`: it cannot be
/// looked at, or it is ours and only its mode is in the way.
fn whose(path: &Path) -> Option<String> {
    let (ours, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let (at, about) = path.ancestors().find_map(|at| Some((at, at.metadata().ok()?)))?;
    let (owner, mode) = (about.uid(), about.mode() & 0o777);
    let (at, ours, group) = (at.display(), ours.as_raw(), group.as_raw());
    (owner != ours).then(|| {
        format!(
            "; {at} belongs to user {owner} (mode {mode:o}) and this runs as user {ours}: chown -R \
             {ours}:{group} {at}, or give the volume to that user"
        )
    })
}

/// Names what was done to which path when it fails.
pub trait Doing<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, io::Error> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::io(doing, path, source))
    }
}
