//! What a power cut took from the ledger and the objects comes back from the journal.
//!
//! A commit is durable in the journal first; the ledger and the objects follow without a sync.
//! So at start: the ledger is cut back to what of it is whole, the journal's records are appended
//! where it lacks them, and, once the index is there, objects that differ are written anew.

use std::collections::HashSet;
use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::store::commit::Body;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::folder;
use crate::store::journal;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Ledger;
use crate::store::ledger::Position;
use crate::store::ledger::Start;
use crate::store::ledger::Walked;
use crate::store::objects::Objects;
use crate::store::settle;

/// A journal that the node left in use.
pub struct Live {
    folder: PathBuf,
    /// Numbers of its files, the oldest first.
    segments: Vec<u64>,
    /// The end of the ledger before its first record.
    begin: Position,
    /// Number of its last record.
    pub last: u64,
}

/// Finds a journal that was in use when the node ended.
pub fn find(data: &Path) -> Result<Option<Live>, StoreError> {
    let folder = data.join(folder::JOURNAL);
    let mut heads = Vec::new();
    for number in journal::segments(&folder)? {
        let path = journal::segment_path(&folder, number);
        let bytes = read_head(&path).doing("reading", &path)?;
        heads.extend(journal::parse_head(&bytes).map(|before| (before, number)));
    }
    heads.sort_by_key(|(before, _)| before.number);
    let Some(&(begin, _)) = heads.first() else { return Ok(None) };
    let segments = heads.iter().map(|(_, number)| *number).collect();
    let mut live = Live { folder, segments, begin, last: begin.number };
    let mut last = begin.number;
    live.walk(&mut |record| {
        last = last.max(record.number);
        Ok(())
    })?;
    live.last = last;
    Ok(Some(live))
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(journal::BLOCK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl Live {
    /// Every record that continues the one before it, in order.
    fn walk(
        &self,
        visit: &mut dyn FnMut(journal::Record<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for &segment in &self.segments {
            let path = journal::segment_path(&self.folder, segment);
            let bytes = fs::read(&path).doing("reading", &path)?;
            let Some(before) = journal::parse_head(&bytes) else { continue };
            let (mut end, mut at) = (before, journal::BLOCK);
            while let Some(record) = bytes.get(at..).and_then(journal::parse_record) {
                let hash = ledger::chain(&end.hash, record.number, record.payload);
                if record.number != end.number + 1 || record.hash != hash {
                    break;
                }
                (end.number, end.hash) = (record.number, record.hash);
                at += record.length;
                visit(record)?;
            }
        }
        Ok(())
    }

    /// Cuts the ledger back to what is whole of what the journal holds too. Done before it is
    /// opened. Returns what was cut, for people.
    ///
    /// - `is_whole`: whether what a record speaks of is there. Asked of the one record that may
    ///   stand in the ledger and not in the journal: it was being committed, nobody was told.
    pub fn cut(
        &self,
        ledger: &Path,
        is_whole: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, StoreError> {
        let mut good = None;
        let mut beyond = 0_u64;
        let mut damaged = false;
        let walked = ledger::walk(ledger, &Start::After(self.begin), &mut |found| {
            match found {
                Found::Record(record) if !damaged && record.position.number <= self.last => {
                    good = Some(record.position);
                }
                Found::Record(record) if !damaged => {
                    beyond += 1;
                    if beyond > 1 || is_whole(record.payload) {
                        good = Some(record.position);
                    }
                }
                Found::Record(_) => {}
                Found::Damage(_) => damaged = true,
            }
            Ok(())
        });
        let Ok(Walked { end, torn, .. }) = walked else { return Ok(None) };
        // A ledger that lacks even what was synced before the journal began is not ours to mend.
        let good = match good {
            Some(good) => good,
            None if self.reaches_begin(ledger)? => self.begin,
            None => return Ok(None),
        };
        if !damaged && torn.is_none() && end.number == good.number {
            return Ok(None);
        }
        ledger::cut_back(ledger, &good).map(Some)
    }

    fn reaches_begin(&self, ledger: &Path) -> Result<bool, StoreError> {
        let path = ledger::segment_path(ledger, self.begin.segment.max(1));
        match fs::metadata(&path) {
            Ok(meta) => Ok(meta.len() >= self.begin.offset),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io("reading", &path, error)),
        }
    }

    /// Appends to the ledger what it lacks, and syncs it. Returns how many records.
    pub fn complete(&self, ledger: &mut Ledger) -> Result<u64, StoreError> {
        let mut appended = 0;
        self.walk(&mut |record| {
            let end = ledger.end();
            let follows = record.number == end.number + 1
                && record.hash == ledger::chain(&end.hash, record.number, record.payload);
            if follows {
                ledger.write(record.payload)?;
                appended += 1;
            }
            Ok(())
        })?;
        ledger.sync()?;
        Ok(appended)
    }

    /// The objects whose bytes its records hold.
    pub fn objects(&self) -> Result<HashSet<String>, StoreError> {
        let mut objects = HashSet::new();
        self.walk(&mut |record| {
            objects.extend(record.objects.iter().map(|object| object.path.to_owned()));
            Ok(())
        })?;
        Ok(objects)
    }

    /// The objects that its records take in.
    pub fn receipts(&self) -> Result<HashSet<String>, StoreError> {
        let mut objects = HashSet::new();
        self.walk(&mut |record| {
            if let Ok(body) = serde_json::from_slice::<Body>(record.payload) {
                let receipts = body.commits.iter().flatten().filter_map(Event::receipt);
                objects.extend(receipts.map(|receipt| receipt.object.clone()));
            }
            Ok(())
        })?;
        Ok(objects)
    }

    /// Writes objects anew that are not as the journal has them, syncs the others, and takes the
    /// journal out of use. Returns how many were written.
    ///
    /// An object that no row speaks of (removed since, or never acknowledged) stays as it is.
    ///
    /// - `known`: whether a receipt speaks of this object.
    pub fn restore(
        &self,
        data: &Path,
        known: &dyn Fn(&str) -> Result<bool, StoreError>,
        objects: &Objects,
    ) -> Result<u64, StoreError> {
        let (mut restored, mut found) = (0, Vec::new());
        self.walk(&mut |record| {
            for object in &record.objects {
                if known(object.path)? {
                    let part10 = [object.head, object.data].concat();
                    restored += u64::from(objects.restore(object.path, &part10)?);
                    found.push(object.path.to_owned());
                }
            }
            Ok(())
        })?;
        settle::sync(data, objects, &mut found.iter().map(String::as_str))?;
        journal::at_rest(&self.folder)?;
        Ok(restored)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::digest::Hasher;
    use crate::store::Store;
    use crate::store::Stored;
    use crate::store::VerifyMode;
    use crate::store::event::JobKind;
    use crate::store::gaps::Gap;
    use crate::store::testing;
    use crate::store::testing::dump;
    use crate::store::testing::job;
    use crate::store::testing::receipt;
    use crate::store::testing::sop;

    const HEAD: &[u8] = b"DICM\x02\0\0\0UL\x04\0\0\0\0\0";

    async fn store_small(store: &Store, instance: u32, bytes: &'static [u8]) -> Stored {
        let mut receipt = receipt(1, instance, "");
        let mut hash = Hasher::new();
        hash.update(bytes);
        receipt.digest = hash.finish();
        let head = [&[0; 128], HEAD].concat();
        receipt.size_bytes = (head.len() + bytes.len()) as u64;
        let part10 = Bytes::from([&head, bytes].concat());
        store.commit_small(receipt, part10).await.unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        let _ = fs::remove_dir_all(to);
        let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
        assert!(status.unwrap().success());
    }

    fn is_intact(data: &Path) {
        let report = Store::verify(data, VerifyMode::Full, &mut |_| {}).unwrap();
        // The jobs of these tests stand for themselves.
        let of_files = report.gaps.iter().filter(|gap| !matches!(gap, Gap::JobWithoutStudy { .. }));
        assert_eq!(of_files.count(), 0, "{:?}", report.gaps);
    }

    /// S6: whatever the power cut took of what was not synced, the journal gives it back.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_only_the_journal_has_after_a_power_cut_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (data, live) = (dir.path().join("data"), dir.path().join("live"));
        let rows = {
            let (store, _) = testing::open(&data);
            for instance in 1..=5 {
                let stored = store_small(&store, instance, b"pixels").await;
                assert_eq!(stored, Stored::New { revision: 1 });
                let job = job(instance, 1, JobKind::Plan, 0, 5);
                store.commit(vec![Event::JobEnqueued { job }]).await.unwrap();
            }
            assert_eq!(store_small(&store, 3, b"pixels").await, Stored::SameBytes);
            assert_eq!(store_small(&store, 3, b"others").await, Stored::OtherBytes);
            copy(&data, &live);
            dump(&store)
        };
        is_intact(&data);
        assert!(find(&data).unwrap().is_none(), "a node that stopped leaves no live journal");
        let ledger = Path::new("ledger/00000001.log");
        let whole = fs::read(live.join(ledger)).unwrap();
        type Harm<'a> = Box<dyn Fn(&Path) + 'a>;
        let mut harms: Vec<Harm<'_>> = vec![
            Box::new(|_| {}),
            Box::new(|data| fs::remove_dir_all(data.join("state")).unwrap()),
            Box::new(|data| fs::remove_dir_all(data.join("objects/12")).unwrap_or(())),
        ];
        for length in (0..whole.len()).step_by(whole.len() / 17) {
            let whole = &whole;
            harms.push(Box::new(move |data| {
                // Pages that were not written back: short, or zeros with something behind them.
                fs::write(data.join(ledger), &whole[..length]).unwrap();
                let mut holed = whole.clone();
                holed[length..(length + 300).min(whole.len())].fill(0);
                if length % 2 == 1 && length > 64 {
                    fs::write(data.join(ledger), holed).unwrap();
                }
                let mut objects = Vec::new();
                crate::store::objects::walk_files(data, "objects", &mut |name, _| {
                    objects.push(data.join(name));
                    Ok(())
                })
                .unwrap();
                for (n, object) in objects.iter().enumerate() {
                    match n % 3 {
                        0 => fs::remove_file(object).unwrap(),
                        1 => fs::write(object, b"").unwrap(),
                        _ => fs::write(object, vec![0; 155]).unwrap(),
                    }
                }
            }));
        }
        for (n, harm) in harms.iter().enumerate() {
            copy(&live, &data);
            harm(&data);
            let (store, report) = testing::open(&data);
            assert!(report.damage.is_empty(), "harm {n}: {report:?}");
            assert_eq!(dump(&store), rows, "harm {n}: {report:?}");
            assert_eq!(store.instance(&sop(1, 3)).unwrap().unwrap().versions.len(), 1);
            drop(store);
            is_intact(&data);
        }
    }

    /// A journal that is broken itself takes nothing from a ledger that is whole.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_journal_takes_nothing_away() {
        let dir = tempfile::tempdir().unwrap();
        let (data, live) = (dir.path().join("data"), dir.path().join("live"));
        let rows = {
            let (store, _) = testing::open(&data);
            for instance in 1..=4 {
                store_small(&store, instance, b"pixels").await;
            }
            store.filed(&testing::study(1)).await.unwrap();
            copy(&data, &live);
            dump(&store)
        };
        let journal = Path::new("journal/00000001.jnl");
        let whole = fs::read(live.join(journal)).unwrap();
        for block in 0..6 {
            copy(&live, &data);
            let mut harmed = whole.clone();
            harmed[block * journal::BLOCK + 20] ^= 1;
            fs::write(data.join(journal), harmed).unwrap();
            let (store, _) = testing::open(&data);
            assert_eq!(dump(&store), rows, "block {block}");
            drop(store);
            is_intact(&data);
        }
        for length in [0, 100, 5000] {
            copy(&live, &data);
            fs::write(data.join(journal), &whole[..length]).unwrap();
            let (store, _) = testing::open(&data);
            assert_eq!(dump(&store), rows, "{length} bytes");
        }
    }

    /// Many turns of the journal's files, while settling goes on beside.
    #[tokio::test(flavor = "multi_thread")]
    async fn files_of_the_journal_are_used_again_and_again() {
        let dir = tempfile::tempdir().unwrap();
        static PIXELS: [u8; 400_000] = [7; 400_000];
        let config = crate::store::Config { journal_segment_bytes: 8 << 20, ..testing::config() };
        let clock = std::sync::Arc::new(testing::StoppedClock);
        let (store, _) = Store::open(dir.path(), &config, clock).unwrap();
        for instance in 1..=150 {
            store_small(&store, instance, &PIXELS).await;
        }
        let files = journal::segments(&dir.path().join("journal")).unwrap();
        assert!(files.len() <= 8, "{files:?}");
        drop(store);
        is_intact(dir.path());
    }
}
