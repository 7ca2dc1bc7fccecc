//! A data folder from a backup.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::store::backup;
use crate::store::backup::Manifest;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;
use crate::store::gaps::Progress;
use crate::store::ledger;
use crate::store::ledger::Start;
use crate::store::objects;

/// Copies the backup in `from` to `data`, which is empty or not there yet. Until it is whole, no
/// node starts on it. Blocking.
///
/// # Errors
/// [`StoreError::Io`]: no backup, a folder that is not empty, a ledger that is not as it was.
pub fn restore(
    from: &Path,
    data: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, StoreError> {
    let cannot = |path: &Path, what: &str| {
        StoreError::io("restoring", path, io::Error::other(what.to_owned()))
    };
    let manifest = Manifest::read(from)?
        .ok_or_else(|| cannot(from, "there is no whole backup (no backup.json)"))?;
    if fs::read_dir(data).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(cannot(data, "it is not empty; restore to a new folder"));
    }
    folder::make_folders(data)?;
    let _held = folder::lock(data)?;
    folder::begin_restore(data)?;
    let (old, new) = (from.join(folder::LEDGER), data.join(folder::LEDGER));
    folder::make_folder(&new).doing("making the folder", &new)?;
    let end = manifest.ledger;
    for segment in ledger::segments(&old)?.into_iter().filter(|number| *number <= end.segment) {
        let path = ledger::segment_path(&old, segment);
        let length = match segment == end.segment {
            true => end.offset,
            false => fs::metadata(&path).doing("reading", &path)?.len(),
        };
        let copied = ledger::segment_path(&new, segment);
        backup::copy_start(&path, &copied, length).doing("copying to", &copied)?;
    }
    let walked = ledger::walk(&new, &Start::Beginning, &mut |_| Ok(()))?;
    if (walked.end.number, walked.end.hash) != (end.number, end.hash) {
        return Err(cannot(from, "its ledger does not end as backup.json says"));
    }
    let mut done = 0;
    for part in [folder::OBJECTS, folder::RESULTS] {
        if !from.join(part).is_dir() {
            continue;
        }
        objects::walk_files(from, part, &mut |file, _| {
            let to = data.join(file);
            backup::copy_whole(from, data, file, &|_| true).doing("copying to", &to)?;
            done += 1;
            let total = Some((manifest.instances + manifest.results).max(done));
            progress(Progress { step: "copying files".into(), done, total });
            Ok(())
        })?;
    }
    for name in backup::others(from)? {
        let to = data.join(&name);
        backup::copy_whole(from, data, &name, &|_| true).doing("copying to", &to)?;
    }
    File::open(data).and_then(|data| Ok(rustix::fs::syncfs(data)?)).doing("syncing", data)?;
    folder::end_restore(data, manifest.format)?;
    Ok(manifest)
}
