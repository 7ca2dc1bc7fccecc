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
    let (source, target) = (file.to_owned(), config.path.join(within).join(name));
    let copied = tokio::task::spawn_blocking(move || copy(&source, &target)).await;
    let copied = copied.map_err(|e| DeliverError::Unreachable { cause: e.to_string() })?;
    copied.map(|size| Delivered { detail: format!("{size} bytes") })
}

fn copy(source: &Path, target: &Path) -> Result<u64, DeliverError> {
    let failed = |what| move |source| DeliverError::File { what, source };
    let folder = target.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(folder).map_err(failed("the folder cannot be made"))?;
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
