//! A copy of the data folder while the node works on it.
//!
//! The copy has the layout of a data folder without what can be made anew (index, journal, caches).
//! `backup.json` says up to which record of the ledger it goes, and is written last: what the ledger
//! holds up to there has its files, whatever came or went meanwhile. Files that are there stay, so
//! that the next backup into the same folder copies what is new. Nothing asks the node: the ledger
//! is read as it stands, and an instance that it speaks of and that has no file yet gets one soon.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::gaps::Progress;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Position;
use crate::store::ledger::Start;
use crate::store::objects;
use crate::store::open;
use crate::store::part10;
use crate::store::rebuild;
use crate::store::rows::ArtefactRow;
use crate::store::rows::DeferredRow;
use crate::store::verify;
use crate::store::view::View;

pub const MANIFEST: &str = "backup.json";
/// Version of what a backup looks like.
const LAYOUT: u64 = 1;
/// The index of the copy, for as long as it takes.
const INDEX: &str = ".index";
const CACHE_BYTES: u64 = 32 << 20;
/// How often the ledger is read again when something that it speaks of is not there: it was removed
/// since.
const ROUNDS: u32 = 3;
/// How often it is looked for before: it is on its way from the journal, in the order of the ledger.
/// Read at each look, a ledger that grows would never be caught up with.
const LOOKS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// What a backup holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub layout: u64,
    /// Of the data folder.
    pub format: u64,
    /// Version of the program that made it.
    pub program: String,
    pub made_at: Timestamp,
    /// The last record of the ledger, with its hash.
    pub ledger: Position,
    pub instances: u64,
    pub bytes: u64,
    pub results: u64,
}

impl Manifest {
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::NewerProgram`].
    pub fn read(folder: &Path) -> Result<Option<Manifest>, StoreError> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::io("reading", &path, error)),
        };
        let read: Manifest =
            serde_json::from_slice(&bytes).map_err(io::Error::from).doing("reading", &path)?;
        for (found, known) in [(read.layout, LAYOUT), (read.format, folder::FORMAT)] {
            if found > known {
                return Err(StoreError::Newer { folder: folder.to_owned(), found, known });
            }
        }
        folder::check_program(folder, &read.program)?;
        Ok(Some(read))
    }
}

/// What was done.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackupReport {
    pub manifest: Manifest,
    /// Files that the backup did not have yet.
    pub copied: u64,
    pub copied_bytes: u64,
    /// What the ledger speaks of and the data folder does not have, or not as it was.
    pub missing: Vec<String>,
    /// What of the ledger cannot be read.
    pub damage: Vec<String>,
}

/// Copies `data` to `to`, which is empty or holds an earlier backup of the same node. Blocking.
///
/// # Errors
/// [`StoreError::Io`], also when `to` is something else. An earlier backup then still holds.
pub fn backup(
    data: &Path,
    to: &Path,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<BackupReport, StoreError> {
    let before = Manifest::read(to)?;
    let unknown = |what: &str| StoreError::io("backing up to", to, io::Error::other(what));
    let is_used = || fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some());
    // A backup that was broken off leaves its lock, and a data folder has a format.
    let is_ours = || to.join("lock").exists() && !to.join("format").exists();
    if before.is_none() && is_used() && !is_ours() {
        return Err(unknown("it is not empty, and holds no backup"));
    }
    folder::make_folders(to)?;
    let _held = folder::lock(to)?;
    if let Some(before) = &before
        && !has(&data.join(folder::LEDGER), &before.ledger)?
    {
        return Err(unknown(
            "it holds the backup of another node, or of a later state of this one",
        ));
    }
    let index = to.join(INDEX);
    let _ = fs::remove_dir_all(&index);
    let view = View::open(&index, CACHE_BYTES)?;
    let mut copy = Copy { data, to, progress, report: BackupReport::default() };
    let mut start = Start::Beginning;
    let mut end = Position::default();
    for _ in 0..ROUNDS {
        end = copy.ledger()?;
        let ledger = to.join(folder::LEDGER);
        let replayed = open::replay(&view, &ledger, &start, end.number, copy.progress)?;
        copy.report.damage.extend(replayed.damage.iter().map(ToString::to_string));
        start = Start::After(replayed.end);
        copy.files_once_there(&view)?;
        if copy.report.missing.is_empty() {
            break;
        }
    }
    copy.others()?;
    let synced = File::open(to).and_then(|to| Ok(rustix::fs::syncfs(to)?));
    synced.doing("syncing", to)?;
    let mut report = copy.report;
    let manifest = &mut report.manifest;
    (manifest.layout, manifest.format) = (LAYOUT, folder::FORMAT);
    (manifest.made_at, manifest.ledger) = (now, end);
    manifest.program = folder::PROGRAM.to_owned();
    let path = to.join(MANIFEST);
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::from);
    text.and_then(|text| files::write_whole(&path, &text)).doing("writing", &path)?;
    prune(data, to, &view)?;
    drop(view);
    fs::remove_dir_all(&index).doing("removing", &index)?;
    Ok(report)
}

/// Whether a ledger holds this record.
fn has(ledger: &Path, wanted: &Position) -> Result<bool, StoreError> {
    let mut found = wanted.number == 0;
    ledger::walk(ledger, &Start::Segment(wanted.segment.max(1)), &mut |record| {
        if let Found::Record(record) = record
            && record.position.number == wanted.number
        {
            found = record.position.hash == wanted.hash;
        }
        Ok(())
    })?;
    Ok(found)
}

struct Copy<'a> {
    data: &'a Path,
    to: &'a Path,
    progress: &'a mut dyn FnMut(Progress),
    report: BackupReport,
}

impl Copy<'_> {
    /// The ledger up to its last whole record, which is where the copy ends.
    fn ledger(&mut self) -> Result<Position, StoreError> {
        let (from, to) = (self.data.join(folder::LEDGER), self.to.join(folder::LEDGER));
        folder::make_folder(&to).doing("making the folder", &to)?;
        let last = ledger::segments(&from)?.last().copied().unwrap_or(1);
        // The file before the last one, should that hold no record yet.
        let end = ledger::walk(&from, &Start::Segment(last.max(2) - 1), &mut |_| Ok(()))?.end;
        for segment in ledger::segments(&from)? {
            let path = ledger::segment_path(&from, segment);
            let length = match segment {
                before if before < end.segment => {
                    fs::metadata(&path).doing("reading", &path)?.len()
                }
                this if this == end.segment => end.offset,
                _ => break,
            };
            let copied = ledger::segment_path(&to, segment);
            let is_there = fs::metadata(&copied).is_ok_and(|copied| copied.len() == length);
            if !is_there || segment == end.segment {
                copy_start(&path, &copied, length).doing("copying to", &copied)?;
            }
        }
        Ok(end)
    }

    /// [`Copy::files`] as often as it takes, up to [`LOOKS`].
    fn files_once_there(&mut self, view: &View) -> Result<(), StoreError> {
        for _ in 1..LOOKS {
            self.files(view)?;
            if self.report.missing.is_empty() {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.files(view)
    }

    /// What the ledger speaks of. Counts anew.
    fn files(&mut self, view: &View) -> Result<(), StoreError> {
        self.report.missing.clear();
        self.report.manifest = Manifest::default();
        let mut studies = Vec::new();
        let mut total = 0;
        view.each_study(&mut |row| {
            total += u64::from(row.instances);
            studies.push(row.study_uid);
            Ok(true)
        })?;
        for study in &studies {
            for row in view.instances(study)? {
                for receipt in [&row.receipt].into_iter().chain(&row.versions) {
                    self.object(receipt, total)?;
                }
            }
            self.results(study.as_str(), &view.scan(&key::artefacts_of(study))?)?;
        }
        for row in view.scan::<DeferredRow>(key::DEFERRED)? {
            self.object(&row.receipt, total)?;
        }
        Ok(())
    }

    fn object(&mut self, receipt: &Receipt, total: u64) -> Result<(), StoreError> {
        let manifest = &mut self.report.manifest;
        manifest.instances += 1;
        manifest.bytes += receipt.size_bytes;
        let (step, done) = ("copying instances", manifest.instances);
        (self.progress)(Progress { step: step.into(), done, total: Some(total.max(done)) });
        let to = self.to.join(&receipt.object);
        if fs::metadata(&to).is_ok_and(|there| there.len() == receipt.size_bytes) {
            return Ok(());
        }
        // A file that is being made from the journal is not whole yet: its digest says so.
        let as_received = |part: &Path| {
            part10::data_set_digest(part, &receipt.digest)
                .is_ok_and(|found| found == receipt.digest)
        };
        match copy_whole(self.data, self.to, &receipt.object, &as_received) {
            Ok(true) => self.copied(receipt.size_bytes),
            Ok(false) => self.report.missing.push(receipt.object.clone()),
            Err(error) => return Err(StoreError::io("copying to", &to, error)),
        }
        Ok(())
    }

    /// The results of a study: artefacts as the ledger has them, and what stands beside them.
    fn results(&mut self, study: &str, artefacts: &[ArtefactRow]) -> Result<(), StoreError> {
        let of_study = format!("{}/{study}", folder::RESULTS);
        let mut found = Vec::new();
        if self.data.join(&of_study).is_dir() {
            objects::walk_files(self.data, &of_study, &mut |file, _| {
                found.push(file.to_owned());
                Ok(())
            })?;
        }
        for file in found {
            let row = artefacts
                .iter()
                .find(|row| file == format!("{of_study}/{}/{}", row.revision, row.file));
            self.result(&file, row)?;
        }
        for row in artefacts {
            self.report.manifest.results += 1;
            let file = format!("{of_study}/{}/{}", row.revision, row.file);
            if !self.to.join(&file).is_file() && !self.report.missing.contains(&file) {
                self.report.missing.push(file);
            }
        }
        Ok(())
    }

    fn result(&mut self, file: &str, row: Option<&ArtefactRow>) -> Result<(), StoreError> {
        let (from, to) = (self.data.join(file), self.to.join(file));
        let stamp =
            |path: &Path| fs::metadata(path).and_then(|m| Ok((m.len(), m.modified()?))).ok();
        if stamp(&to).is_some_and(|there| Some(there) == stamp(&from)) {
            return Ok(());
        }
        let as_sent = |part: &Path| match (row, fs::read(part)) {
            (Some(row), Ok(bytes)) => verify::hex(&bytes) == row.digest,
            (None, Ok(_)) => true,
            (_, Err(_)) => false,
        };
        match copy_whole(self.data, self.to, file, &as_sent) {
            Ok(true) => self.copied(fs::metadata(&to).map_or(0, |copied| copied.len())),
            Ok(false) if row.is_some() => self.report.missing.push(file.to_owned()),
            Ok(false) => {}
            Err(error) => return Err(StoreError::io("copying to", &to, error)),
        }
        Ok(())
    }

    /// Keys, peers, accounts: files beside the folders, but for those of a running node.
    fn others(&mut self) -> Result<(), StoreError> {
        for name in others(self.data)? {
            let to = self.to.join(&name);
            copy_whole(self.data, self.to, &name, &|_| true).doing("copying to", &to)?;
        }
        Ok(())
    }

    fn copied(&mut self, bytes: u64) {
        self.report.copied += 1;
        self.report.copied_bytes += bytes;
    }
}

/// Names of the files in a data folder that are worth keeping.
pub fn others(data: &Path) -> Result<Vec<String>, StoreError> {
    const OF_A_RUNNING_NODE: [&str; 3] = ["lock", "node.json", "format"];
    let mut names = Vec::new();
    for entry in fs::read_dir(data).doing("reading", data)? {
        let entry = entry.doing("reading", data)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let passing = OF_A_RUNNING_NODE.contains(&name.as_str()) || name.ends_with(".tmp");
        if entry.path().is_file() && !passing && name != MANIFEST {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes from the backup what the node has removed since the last one.
fn prune(data: &Path, to: &Path, view: &View) -> Result<(), StoreError> {
    let mut gone = Vec::new();
    let deferred = view.scan::<DeferredRow>(key::DEFERRED)?;
    let deferred: HashSet<String> = deferred.into_iter().map(|row| row.receipt.object).collect();
    if to.join(folder::OBJECTS).is_dir() {
        rebuild::each_study(to, &mut |study, objects| {
            gone.extend(rebuild::without_receipt(view, study, objects)?);
            Ok(())
        })?;
    }
    gone.retain(|object| !deferred.contains(object));
    if to.join(folder::RESULTS).is_dir() {
        objects::walk_files(to, folder::RESULTS, &mut |file, _| {
            if !data.join(file).exists() {
                gone.push(file.to_owned());
            }
            Ok(())
        })?;
    }
    for file in gone {
        let path = to.join(file);
        fs::remove_file(&path).doing("removing", &path)?;
    }
    Ok(())
}

/// Copies a file of one data folder to another: under another name, then looked at, and then at its
/// place, with its time. `false`: it is not there, or not as it should be; nothing is changed then.
pub fn copy_whole(
    data: &Path,
    to: &Path,
    file: &str,
    is_good: &dyn Fn(&Path) -> bool,
) -> io::Result<bool> {
    let mut source = match File::open(data.join(file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        source => source?,
    };
    let part = to.join(".part.tmp");
    let _ = fs::remove_file(&part);
    let mut copy = files::create_new(&part)?;
    io::copy(&mut source, &mut copy)?;
    if !is_good(&part) {
        fs::remove_file(&part)?;
        return Ok(false);
    }
    copy.set_modified(source.metadata()?.modified()?)?;
    let place = to.join(file);
    make_all(place.parent().unwrap_or(to))?;
    fs::rename(&part, place)?;
    Ok(true)
}

fn make_all(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The first bytes of a file, under its name at once.
pub fn copy_start(from: &Path, to: &Path, length: u64) -> io::Result<()> {
    let part = to.with_extension("tmp");
    let _ = fs::remove_file(&part);
    let mut copy = files::create_new(&part)?;
    let copied = io::copy(&mut File::open(from)?.take(length), &mut copy)?;
    if copied != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    copy.sync_data()?;
    fs::rename(&part, to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::testing;

    /// A file that is on its way is waited for; what comes meanwhile is of the next backup, or there
    /// would be no end of it.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_while_a_file_is_waited_for_is_not_waited_for_too() {
        let folder = tempfile::tempdir().unwrap();
        let [data, to] = ["data", "backup"].map(|name| folder.path().join(name));
        let (store, _) = testing::open(&data);
        testing::store_instance(&store, 1, 1, "first").await;
        let row = store.instance(&testing::sop(1, 1)).unwrap().unwrap();
        let [there, away] = [data.join(&row.receipt.object), folder.path().join("away")];
        fs::rename(&there, &away).unwrap();

        let (from, copy) = (data.clone(), to.clone());
        let making = tokio::task::spawn_blocking(move || {
            Store::backup(&from, &copy, testing::at(0), &mut |_| ()).unwrap()
        });
        let ledger = ledger::segment_path(&to.join(folder::LEDGER), 1);
        while !ledger.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(2 * PAUSE).await;
        testing::store_instance(&store, 2, 1, "second").await;
        tokio::time::sleep(2 * PAUSE).await;
        fs::rename(&away, &there).unwrap();
        let report = making.await.unwrap();
        assert_eq!((report.manifest.instances, report.missing.len()), (1, 0));
        assert!(to.join(&row.receipt.object).is_file());

        let next = Store::backup(&data, &to, testing::at(0), &mut |_| ()).unwrap();
        assert_eq!((next.manifest.instances, next.copied), (2, 1));
    }
}
