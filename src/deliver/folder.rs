//! Copies of results in a folder, for programs that pick files up.

use std::io::Write as _;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the copies go: `<path>/<Study Instance UID>/<revision>/<file>`.
    pub path: PathBuf,
    /// Which files of the result folder, e.g. `["report.pdf", "sr.dcm"]`. Empty: all.
    #[serde(default)]
    pub files: Vec<String>,
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if !self.path.is_absolute() {
            problems.push(format!(
                "{at}.path = {:?}: use an absolute path; the node's own folder is not yours",
                self.path
            ));
        }
    }

    pub fn takes(&self, file: &str) -> bool {
        self.files.is_empty() || self.files.iter().any(|name| name == file)
    }
}

/// Whether a file can be written there.
pub async fn reach(config: &Config) -> Result<String, DeliverError> {
    let folder = config.path.clone();
    let written = tokio::task::spawn_blocking(move || {
        let failed =
            |source| DeliverError::File { what: "the folder cannot be written to", source };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        tempfile::NamedTempFile::with_prefix_in(".prelim-", &folder).map(drop).map_err(failed)
    });
    written.await.map_err(|e| DeliverError::Unreachable { cause: e.to_string() })??;
    Ok("files can be written there".to_owned())
}

/// Copies `file` into `within` (relative, below the folder) under its own name. A reader sees the
/// whole file or none: it is written beside its place, synced, then renamed. A second copy
/// replaces the first.
pub async fn deliver(
    config: &Config,
    within: &Path,
    file: &Path,
) -> Result<Delivered, DeliverError> {
    let is_plain = |part: Component| matches!(part, Component::Normal(_));
    let name = file.file_name().filter(|_| within.components().all(is_plain));
    let Some(name) = name else {
        return Err(DeliverError::Settings { what: "the copy would leave its folder".into() });
    };
    let (source, root) = (file.to_owned(), config.path.clone());
    let (within, name) = (within.to_owned(), name.to_owned());
    let copied = tokio::task::spawn_blocking(move || {
        let folder = make_below(&root, &within)?;
        copy(&source, &folder.join(name))
    });
    let copied = copied.await;
    let copied = copied.map_err(|e| DeliverError::Unreachable { cause: e.to_string() })?;
    copied.map(|size| Delivered { detail: format!("{size} bytes") })
}

/// Makes the folders `within` below `root`. A link among them would lead elsewhere.
fn make_below(root: &Path, within: &Path) -> Result<PathBuf, DeliverError> {
    let failed = |source| DeliverError::File { what: "the folder cannot be made", source };
    std::fs::create_dir_all(root).map_err(failed)?;
    let mut folder = root.to_owned();
    for part in within.components() {
        folder.push(part);
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
        if !std::fs::symlink_metadata(&folder).map_err(failed)?.is_dir() {
            let what = "there is a link or a file in the place of a folder of results";
            return Err(DeliverError::Settings { what: what.into() });
        }
    }
    Ok(folder)
}

fn copy(source: &Path, target: &Path) -> Result<u64, DeliverError> {
    let failed = |what| move |source| DeliverError::File { what, source };
    let folder = target.parent().unwrap_or(Path::new("/"));
    let bytes = std::fs::read(source).map_err(failed("the result cannot be read"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".prelim-")
        .tempfile_in(folder)
        .map_err(failed("the folder cannot be written"))?;
    file.write_all(&bytes).map_err(failed("the copy cannot be written"))?;
    // Temporary files are for the owner alone; a copy is for those who may read the folder.
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o640);
    file.as_file().set_permissions(readable).map_err(failed("the copy cannot be written"))?;
    file.as_file().sync_data().map_err(failed("the copy cannot be synced"))?;
    file.persist(target)
        .map_err(|e| DeliverError::File { what: "the copy cannot be named", source: e.error })?;
    let folder = std::fs::File::open(folder).map_err(failed("the folder cannot be synced"))?;
    folder.sync_all().map_err(failed("the folder cannot be synced"))?;
    Ok(bytes.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_copy_is_whole_and_stays_below_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().join("sr.dcm");
        std::fs::write(&source, b"object").unwrap();
        let config = Config { path: dir.path().join("out"), files: vec![] };
        for _twice in 0..2 {
            let done = deliver(&config, Path::new("1.2.3/1"), &source).await.unwrap();
            assert_eq!(done.detail, "6 bytes");
        }
        assert_eq!(std::fs::read(config.path.join("1.2.3/1/sr.dcm")).unwrap(), b"object");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, config.path.join("1.2.4")).unwrap();
        let refused = deliver(&config, Path::new("1.2.4/1"), &source).await;
        assert!(matches!(refused, Err(DeliverError::Settings { .. })), "a planted link");
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
        let entries = std::fs::read_dir(config.path.join("1.2.3/1")).unwrap().count();
        assert_eq!(entries, 1, "nothing temporary is left");
        for bad in ["../x", "/etc", "a/../../x", ".."] {
            let error = deliver(&config, Path::new(bad), &source).await.unwrap_err();
            assert!(!error.is_transient(), "{bad}");
        }
        let gone = deliver(&config, Path::new("x"), &dir.path().join("none")).await.unwrap_err();
        assert!(gone.is_transient());
    }
}
