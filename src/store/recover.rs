//! What a power cut took from the ledger and the objects comes back from the journal.
//!
//! A commit is durable in the journal first; the ledger and the objects follow without a sync.
//! So at start: holes of the ledger are filled with what the journal has of them, an end that is
//! not whole is cut off, the journal's records are appended where the ledger lacks them, and, once
//! the index is there, objects that differ are written anew. What stands behind a hole stays.

use std::collections::BTreeMap;
use std::collections::HashMap;
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
use crate::store::journal::Head;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Hash;
use crate::store::ledger::Ledger;
use crate::store::ledger::Piece;
use crate::store::ledger::Position;
use crate::store::ledger::Start;
use crate::store::ledger::Walked;
use crate::store::objects::Objects;
use crate::store::settle;

/// A journal that the node left in use.
pub struct Live {
    folder: PathBuf,
    /// Numbers of its files with the end of the ledger before each, the oldest first; `None` where
    /// the head of the file cannot be read.
    segments: Vec<(u64, Option<Position>)>,
    /// The end of the ledger before its first record.
    pub begin: Position,
    /// The records of the ledger from there on: by them what follows a bad record is known.
    in_ledger: HashMap<u64, Hash>,
    /// Number of its last record.
    pub last: u64,
}

/// What the heads of the journal say.
#[derive(Default)]
pub struct Journals {
    /// `Some` when it was in use when the node ended.
    pub live: Option<Live>,
    /// Up to where the ledger was synced when the last file was put to rest.
    pub rested: Option<Position>,
}

/// Looks at the heads of the journal, and at what stands behind them where it was in use.
pub fn find(data: &Path) -> Result<Journals, StoreError> {
    let folder = data.join(folder::JOURNAL);
    let (mut segments, mut rested) = (Vec::new(), None::<Position>);
    for number in journal::segments(&folder)? {
        let path = journal::segment_path(&folder, number);
        let bytes = read_head(&path).doing("reading", &path)?;
        match journal::parse_head(&bytes) {
            Some(Head::Live(before)) => segments.push((number, Some(before))),
            Some(Head::AtRest(end)) => {
                rested = rested.into_iter().chain([end]).max_by_key(|end| end.number);
            }
            // Never used.
            None if bytes.iter().all(|byte| *byte == 0) => {}
            None => segments.push((number, None)),
        }
    }
    let ledger = data.join(folder::LEDGER);
    let begins = segments.iter().filter_map(|(_, before)| *before);
    let Some(begin) = begins.min_by_key(|before| before.number).or_else(|| last_file(&ledger))
    else {
        return Ok(Journals { live: None, rested });
    };
    if segments.is_empty() {
        return Ok(Journals { live: None, rested });
    }
    let mut in_ledger = HashMap::new();
    // One that cannot be read says nothing of what the journal holds.
    let _ = ledger::walk(&ledger, &Start::After(begin), &mut |found| {
        if let Found::Record(record) = found {
            in_ledger.insert(record.position.number, record.position.hash);
        }
        Ok(())
    });
    segments.sort_by_key(|(_, before)| before.map_or(u64::MAX, |before| before.number));
    let mut live = Live { folder, segments, begin, in_ledger, last: begin.number };
    let mut last = begin.number;
    live.walk(&mut |record| {
        last = last.max(record.number);
        Ok(())
    })?;
    live.last = last;
    Ok(Journals { live: Some(live), rested })
}

/// The end of the ledger before its last file.
fn last_file(ledger: &Path) -> Option<Position> {
    let last = ledger::segments(ledger).ok()?.last().copied()?;
    Some(ledger::read_head(&ledger::segment_path(ledger, last))?.1)
}

fn read_head(path: &Path) -> io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(journal::BLOCK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A part of the ledger that cannot be read, between two records that can.
struct Hole {
    at: Piece,
    /// The record before it.
    before: Position,
    /// Number of the record behind it.
    next: u64,
}

impl Live {
    /// Every record that continues the one before it, in order. Behind one that cannot be read: those
    /// that the ledger has too, so that nothing a sender wrote is taken for one.
    fn walk(
        &self,
        visit: &mut dyn FnMut(journal::Record<'_>) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for &(segment, mut end) in &self.segments {
            let path = journal::segment_path(&self.folder, segment);
            let bytes = fs::read(&path).doing("reading", &path)?;
            let mut at = journal::BLOCK;
            while at < bytes.len() {
                let record = journal::parse_record(&bytes[at..]);
                let Some(record) = record.filter(|record| self.continues(end.as_ref(), record))
                else {
                    at += journal::BLOCK;
                    continue;
                };
                let (number, hash) = (record.number, record.hash);
                end = Some(Position { number, hash, ..self.begin });
                at += record.length;
                visit(record)?;
            }
        }
        Ok(())
    }

    fn continues(&self, end: Option<&Position>, record: &journal::Record<'_>) -> bool {
        let follows = end.is_some_and(|end| {
            record.number == end.number + 1
                && record.hash == ledger::chain(&end.hash, record.number, record.payload)
        });
        let is_later = end.is_none_or(|end| record.number > end.number);
        follows || (is_later && self.in_ledger.get(&record.number) == Some(&record.hash))
    }

    /// Fills the holes of the ledger that the journal knows of, and cuts off an end that is not whole.
    /// Done before it is opened. Returns what was cut, for people.
    ///
    /// - `is_whole`: whether what a record speaks of is there. Asked of the one record that may
    ///   stand in the ledger and not in the journal: it was being committed, nobody was told.
    pub fn mend(
        &self,
        ledger: &Path,
        is_whole: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Option<String>, StoreError> {
        let (mut good, mut holes) = (self.begin, Vec::<Hole>::new());
        let (mut seen, mut beyond, mut half) = (false, 0, None);
        let mut hole = None;
        let walked = ledger::walk(ledger, &Start::After(self.begin), &mut |found| {
            match found {
                Found::Damage(damage) => {
                    let ledger::Damage { segment, offset, bytes, .. } = damage;
                    let bytes = vec![0; usize::try_from(bytes).unwrap_or(0)];
                    hole = Some(Piece { segment, offset, bytes });
                }
                Found::Record(record) => {
                    let begins_at = record.position.offset - record.bytes();
                    if let Some(at) = hole.take()
                        && at.segment == record.position.segment
                        && at.offset + at.bytes.len() as u64 == begins_at
                    {
                        holes.push(Hole { at, before: good, next: record.position.number });
                    }
                    seen = true;
                    beyond += u64::from(record.position.number > self.last);
                    // With a record behind it, it was acknowledged.
                    half = (beyond == 1 && !is_whole(record.payload)).then_some(good);
                    good = record.position;
                }
            }
            Ok(())
        });
        let Ok(Walked { torn, .. }) = walked else { return Ok(None) };
        self.fill(ledger, holes)?;
        // A ledger that lacks even what was synced before the journal began is not ours to cut.
        let is_ours = seen || self.reaches_begin(ledger)?;
        match half.is_some() || torn.is_some() {
            true if is_ours => ledger::cut_back(ledger, &half.unwrap_or(good)).map(Some),
            true | false => Ok(None),
        }
    }

    /// Puts back what the journal has of the holes.
    fn fill(&self, ledger: &Path, holes: Vec<Hole>) -> Result<(), StoreError> {
        if holes.is_empty() {
            return Ok(());
        }
        let is_missing = |number| holes.iter().any(|h| h.before.number < number && number < h.next);
        let mut records = BTreeMap::new();
        self.walk(&mut |record| {
            if is_missing(record.number) {
                let bytes = ledger::record(record.number, &record.hash, record.payload);
                records.insert(record.number, (record.hash, bytes));
            }
            Ok(())
        })?;
        for Hole { mut at, before, next } in holes {
            let missing = before.number + 1..next;
            let found: Option<Vec<&(Hash, Vec<u8>)>> =
                missing.map(|number| records.get(&number)).collect();
            let Some(found) = found else { continue };
            let bytes: Vec<u8> = found.iter().flat_map(|(_, bytes)| bytes).copied().collect();
            if !bytes.is_empty() && bytes.len() == at.bytes.len() {
                at.bytes = bytes;
                at.put_back(ledger)?;
            }
        }
        Ok(())
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
    /// - `end`: of the ledger, synced.
    pub fn restore(
        &self,
        data: &Path,
        known: &dyn Fn(&str) -> Result<bool, StoreError>,
        objects: &Objects,
        end: &Position,
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
        journal::at_rest(&self.folder, end)?;
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
        assert!(find(&data).unwrap().live.is_none(), "a node that stopped leaves no live journal");
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
