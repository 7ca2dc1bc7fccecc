//! Opening the data folder: what is found, what is repaired, what is told.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::clock::Clock;
use crate::domain::in_force::InForce;
use crate::domain::uid::SopInstanceUid;
use crate::store::commit::Body;
use crate::store::commit::Committer;
use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::config::Config;
use crate::store::config::Durability;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::folder;
use crate::store::gaps::Progress;
use crate::store::index;
use crate::store::journal;
use crate::store::journal::Journal;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Damage;
use crate::store::ledger::Found;
use crate::store::ledger::Ledger;
use crate::store::ledger::Position;
use crate::store::ledger::Start;
use crate::store::objects::Objects;
use crate::store::part10;
use crate::store::queue::Queue;
use crate::store::rebuild;
use crate::store::rebuild::Adopted;
use crate::store::rebuild::Facts;
use crate::store::recover;
use crate::store::recover::Journals;
use crate::store::remake::Making;
use crate::store::rows::DamageRow;
use crate::store::rows::DeferredRow;
use crate::store::rows::JobRow;
use crate::store::settle::Settler;
use crate::store::view::View;
use crate::store::view::guarded;

/// Events whose changes are published as one batch while replaying.
const REPLAY_BATCH: usize = 1000;
/// Of a journal file where space is short.
const SMALL_SEGMENT_BYTES: u64 = 8 << 20;

/// What opening found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OpenReport {
    /// Records in the ledger, by the number of the last one.
    pub records: u64,
    /// Records that the index did not have yet.
    pub replayed: u64,
    /// Why the index was made anew from the ledger.
    pub rebuilt: Option<String>,
    /// Why the index is being made anew while the node works already.
    pub remaking: Option<String>,
    /// Where the old index is.
    pub set_aside: Option<PathBuf>,
    /// The incomplete last record that was cut off: normal after a power cut.
    pub cut: Option<String>,
    /// Records that the ledger had lost and the journal had: normal after a power cut.
    pub recovered: u64,
    /// Objects that the journal had whole and their own files had not.
    pub restored: u64,
    /// What of the ledger cannot be read, found by this start or written down by an earlier one.
    pub damage: Vec<String>,
    /// Steps that may have been done, by what the ledger has lost: a person decides.
    pub held: u64,
    /// Receipts that the ledger had lost and that were taken over from the old index.
    pub salvaged: u64,
    /// Objects that had no receipt and were entered from what stands in them. Looked for only when
    /// the index was made anew or the ledger is damaged.
    pub adopted: u64,
    /// Instances that were being received when the node ended.
    pub incoming_removed: u64,
    pub jobs_waiting: usize,
    pub took_ms: u64,
}

impl OpenReport {
    /// What an operator has to hear of: nothing after a normal start, or after a power cut.
    pub fn alarms(&self) -> Vec<String> {
        let mut alarms = self.damage.clone();
        if self.held > 0 {
            alarms.push(held(self.held));
        }
        if let Some(why) = &self.rebuilt {
            alarms.push(format!("the index was made anew from the ledger: {why}"));
        }
        if let Some(why) = &self.remaking {
            alarms.push(format!("the index is being made anew from the ledger: {why}"));
        }
        if self.salvaged > 0 {
            alarms.push(format!(
                "{} receipts were missing in the ledger and were taken from the old index",
                self.salvaged
            ));
        }
        if self.adopted > 0 {
            alarms.push(format!("{} objects had no receipt and were entered anew", self.adopted));
        }
        alarms
    }
}

/// Of steps that may have been done.
pub fn held(steps: u64) -> String {
    format!(
        "{steps} steps are held, because a lost part of the ledger may say that they were done: \
         look at them with `prelim queue`, and try again what was not"
    )
}

/// What to do with objects that have no receipt.
pub struct Adopting<'a> {
    pub facts: Facts<'a>,
    /// Also when nothing is wrong with ledger and index.
    pub always: bool,
    /// As in [`How`].
    pub at_once_bytes: Option<u64>,
}

/// What opening the index found.
#[derive(Default)]
struct FoundView {
    rebuilt: Option<String>,
    set_aside: Option<PathBuf>,
    replayed: u64,
    damage: Vec<Damage>,
    doubtful: Vec<JobRow>,
    /// The old index that may know more than the ledger.
    salvage: Option<PathBuf>,
}

/// Opens everything but the committer's thread.
pub fn open(
    data: &Path,
    config: &Config,
    clock: Arc<dyn Clock>,
    adopting: Adopting<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<(Committer, Arc<Shared>, OpenReport, Adopted), StoreError> {
    let begun = Instant::now();
    let held = folder::hold(data)?;
    let objects = Objects::new(data);
    let incoming_removed = objects.empty_incoming()?;
    let Journals { mut live, rested } = recover::find(data)?;
    let ledger_folder = data.join(folder::LEDGER);
    let mut cut = None;
    if let Some(live) = &live {
        cut = live.mend(&ledger_folder, &|payload| is_whole(data, payload))?;
    }
    let mut opened = Ledger::open(&ledger_folder, config.ledger_segment_bytes)?;
    // Of what these know the ledger has been synced.
    let mut known: Vec<Position> = rested.into_iter().collect();
    known.extend(live.as_ref().map(|live| live.begin));
    for known in known {
        opened.damage.extend(opened.ledger.go_on_after(&known)?);
    }
    let mut recovered = 0;
    if let Some(live) = &live {
        recovered = live.complete(&mut opened.ledger)?;
    }
    let now = clock.now();
    let how = How { doubt: None, at_once_bytes: adopting.at_once_bytes };
    let (mut opened_view, making) =
        match open_view(data, config, &mut opened.ledger, now, how, progress)? {
            Index::Opened(opened) => (Some(opened), None),
            Index::Lost(making) => (None, Some(Arc::new(making))),
        };
    let nothing_known = opened.ledger.end().number == 0 && !is_empty(data)?;
    if let Some(view) = opened_view.as_mut()
        && view.rebuilt.is_none()
        && nothing_known
    {
        view.rebuilt = Some("ledger and index are empty, and there are objects".to_owned());
    }
    let jobs = match &opened_view {
        Some(opened) => guarded(|| opened.view.open_jobs())?,
        None => Vec::new(),
    };
    let mut queue = Queue::default();
    queue.reload(&jobs, now);
    let (view, found) = match opened_view {
        Some(OpenedView { view, rebuilt, set_aside, replayed, damage, doubtful, salvage }) => {
            let salvage = set_aside.clone().filter(|_| salvage);
            (Some(view), FoundView { rebuilt, set_aside, replayed, damage, doubtful, salvage })
        }
        None => (None, FoundView::default()),
    };
    let shared = Arc::new(Shared {
        data: data.to_owned(),
        config: InForce::new(config.for_disk(&folder::space(data)?)),
        clock,
        objects: Arc::clone(&objects),
        small_bytes_max: 0.into(),
        changed: tokio::sync::watch::Sender::new(0),
        queued: tokio::sync::watch::Sender::new(0),
        view: std::sync::RwLock::new(view),
        making: std::sync::RwLock::new(making.clone()),
        made: None.into(),
        committed: opened.ledger.end().into(),
        closed: false.into(),
        suspect: false.into(),
        doubt: None.into(),
        removing: ().into(),
        unclean: None.into(),
        alarms: Default::default(),
        queue: queue.into(),
        trouble: None.into(),
        stuck_since: None.into(),
        gaps: Default::default(),
        _held: held,
    });
    let mut damage: Vec<String> = Vec::new();
    for what in opened.damage.iter().chain(&found.damage).map(Damage::to_string) {
        if !damage.contains(&what) {
            damage.push(what);
        }
    }
    // A ledger that lacks what the journal has is not the one of these objects.
    let unclean = live.as_ref().is_some_and(|live| live.last <= opened.ledger.end().number);
    let restored = match live.take() {
        Some(live) if making.is_none() => {
            let deferred = shared.read(|view| view.scan::<DeferredRow>(key::DEFERRED))?;
            let deferred: HashSet<String> =
                deferred.into_iter().map(|row| row.receipt.object).collect();
            let known = |object: &str| {
                let found = || shared.read(|view| has_receipt(view, object));
                Ok(deferred.contains(object) || found()?)
            };
            live.restore(data, &known, &objects, &opened.ledger.end())?
        }
        // Nobody knows which of them were removed since: all that were ever taken.
        Some(live) => {
            let taken = live.receipts()?;
            let known = |object: &str| Ok(taken.contains(object));
            live.restore(data, &known, &objects, &opened.ledger.end())?
        }
        None => 0,
    };
    let mut committer = Committer::new(Arc::clone(&shared), opened.ledger);
    // An index that was there already knows what the ledger has lost.
    let over_damage = found.replayed > 0 && !found.damage.is_empty();
    let held = if over_damage { committer.hold(&found.doubtful)? } else { 0 };
    if making.is_none() {
        committer.note_damage(&damage)?;
        let mut known = known_damage(&shared)?;
        known.retain(|what| !damage.contains(what));
        damage.append(&mut known);
    }
    let mut enter = |event| {
        let answers = committer.commit(&mut [Request::Events(vec![event])]);
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    };
    let salvaged = match &found.salvage {
        Some(old) => salvage(&shared, old, &mut enter)?,
        None => 0,
    };
    // A whole ledger knows all that was acknowledged, whatever became of the index.
    let look = adopting.always || found.salvage.is_some() || !damage.is_empty() || nothing_known;
    // Where objects are adopted, none is a stray.
    let salvages = making.as_ref().is_some_and(|making| making.salvage);
    if unclean && !look && !salvages {
        let last = shared.committed().number;
        *shared.unclean.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
    }
    let adopted = match look && making.is_none() {
        true => rebuild::adopt(&shared, adopting.facts, None, &mut enter, progress)?,
        false => Adopted::default(),
    };
    match open_journal(data, config, objects) {
        Ok((journal, small_bytes_max)) => {
            committer.journal = Some(journal);
            shared.small_bytes_max.store(small_bytes_max, Ordering::Relaxed);
        }
        Err(error) => {
            tracing::warn!(%error, "no journal: every instance is synced by itself, which is slow");
        }
    }
    let report = OpenReport {
        recovered,
        restored,
        records: committer.ledger.end().number,
        replayed: found.replayed,
        rebuilt: found.rebuilt,
        remaking: making.as_ref().map(|making| making.why.clone()),
        set_aside: found.set_aside.or(making.and_then(|making| making.set_aside.clone())),
        cut: cut.or(opened.cut),
        damage,
        held,
        salvaged,
        adopted: adopted.adopted,
        incoming_removed,
        jobs_waiting: jobs.len(),
        took_ms: begun.elapsed().as_millis() as u64,
    };
    Ok((committer, shared, report, adopted))
}

/// Makes the journal of files that fit the space that is there.
fn open_journal(
    data: &Path,
    config: &Config,
    objects: Arc<Objects>,
) -> Result<(Journal, u64), StoreError> {
    let folder = data.join(folder::JOURNAL);
    let free = folder::free_bytes(data)?;
    let segment_bytes = match free / 32 < config.journal_segment_bytes {
        true => SMALL_SEGMENT_BYTES.min(config.journal_segment_bytes),
        false => config.journal_segment_bytes,
    };
    let segments_max = (free / 8 / segment_bytes).clamp(4, journal::SEGMENTS_MAX);
    let sync = match config.durability {
        Durability::Durable => journal::Sync::Now,
        Durability::Relaxed => journal::Sync::Later,
    };
    let settler = Settler::start(data, objects).doing("starting to settle", &folder)?;
    let journal = Journal::open(&folder, segment_bytes, segments_max, sync, settler)?;
    Ok((journal, Journal::object_bytes_max(segment_bytes)))
}

/// Whether every instance that a record takes in is there as it was received.
fn is_whole(data: &Path, payload: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice::<Body>(payload) else { return false };
    let mut receipts = body.commits.iter().flatten().filter_map(Event::receipt);
    receipts.all(|receipt| {
        let path = data.join(&receipt.object);
        part10::data_set_digest(&path, &receipt.digest).is_ok_and(|d| d == receipt.digest)
    })
}

/// Whether a receipt names this file: its name is `<sop>.dcm` or `<sop>.v2.dcm`.
pub fn has_receipt(view: &View, object: &str) -> Result<bool, StoreError> {
    let name = object.rsplit('/').next().unwrap_or("");
    let Some(stem) = name.strip_suffix(".dcm") else { return Ok(false) };
    let sop = stem.split_once(".v").map_or(stem, |(sop, _)| sop);
    let Ok(sop) = SopInstanceUid::parse(sop) else { return Ok(false) };
    let row = view.instance(&sop)?;
    Ok(row.is_some_and(|row| row.files().any(|file| file == object)))
}

fn is_empty(data: &Path) -> Result<bool, StoreError> {
    let objects = data.join(folder::OBJECTS);
    Ok(std::fs::read_dir(&objects).doing("reading", &objects)?.next().is_none())
}

/// Enters receipts of an old index anew that the ledger has lost, when their files are there.
pub fn salvage(shared: &Shared, old: &Path, commit: Enter<'_>) -> Result<u64, StoreError> {
    let old = View::open(old, shared.config.now().index_cache_bytes)?;
    let mut salvaged = 0;
    let outcome = old.each_block(&mut |rows| {
        for row in rows {
            for receipt in [row.receipt].into_iter().chain(row.versions) {
                let known = shared.read(|view| view.instance(&receipt.sop_instance_uid))?;
                let known = known.as_deref();
                let has = known.is_some_and(|row| row.files().any(|file| file == receipt.object));
                if has || !shared.objects.is_there(&receipt.object) {
                    continue;
                }
                commit(match known {
                    None => Event::InstanceAdopted { receipt },
                    Some(_) => Event::VersionStored { receipt },
                })?;
                salvaged += 1;
            }
        }
        Ok(())
    });
    match outcome {
        // The old index is damaged too: what could be read is there.
        Err(StoreError::Index { .. }) | Ok(()) => Ok(salvaged),
        Err(error) => Err(error),
    }
}

/// Commits one event.
pub type Enter<'a> = &'a mut dyn FnMut(Event) -> Result<(), StoreError>;

/// How to open the index.
#[derive(Debug, Default)]
pub struct How {
    /// Why it cannot be used although it opens.
    pub doubt: Option<String>,
    /// Size of the ledger up to which a lost index is made at once; `None`: whatever its size.
    pub at_once_bytes: Option<u64>,
}

pub enum Index {
    Opened(OpenedView),
    /// It has to be made anew, which takes a while.
    Lost(Making),
}

pub struct OpenedView {
    pub view: View,
    pub rebuilt: Option<String>,
    pub set_aside: Option<PathBuf>,
    pub replayed: u64,
    pub damage: Vec<Damage>,
    /// See [`Replayed`].
    pub doubtful: Vec<JobRow>,
    /// What was set aside knew more than the ledger.
    pub salvage: bool,
}

/// Opens the index and brings it up to the end of the ledger; where the ledger has lost its end,
/// it goes on behind what the index shows. An index that does not open, has lost rows or is of
/// another ledger is set aside and made anew.
pub fn open_view(
    data: &Path,
    config: &Config,
    ledger: &mut Ledger,
    now: Timestamp,
    how: How,
    progress: &mut dyn FnMut(Progress),
) -> Result<Index, StoreError> {
    let path = data.join(folder::STATE);
    let existed = path.exists();
    let at_once = |ledger: &Ledger, from: &Position| match how.at_once_bytes {
        Some(bytes) => Ok::<bool, StoreError>(ledger.bytes_after(from)? <= bytes),
        None => Ok(true),
    };
    let tried = match how.doubt {
        Some(why) => Err(StoreError::Index { cause: why }),
        None => View::open(&path, config.index_cache_bytes),
    };
    let (why, salvage) = match tried {
        // It may be good, and a new one would find no space either.
        Err(error) if error.is_out_of_space() => return Err(error),
        Err(error @ StoreError::InUse { .. }) => return Err(error),
        Err(error) => (error.to_string(), false),
        Ok(view) => match bring_up(&view, ledger, existed, &at_once, progress)? {
            Ok(BroughtUp::Later(why)) => return Ok(Index::Lost(Making::going_on(why, now))),
            Ok(BroughtUp::Now(rebuilt, replay)) => {
                let Replayed { records: replayed, damage, doubtful, .. } = replay;
                let (set_aside, salvage) = (None, false);
                return Ok(Index::Opened(OpenedView {
                    view,
                    rebuilt,
                    set_aside,
                    replayed,
                    damage,
                    doubtful,
                    salvage,
                }));
            }
            Err(misfit) => misfit,
        },
    };
    let set_aside = match path.exists() {
        true => Some(folder::set_aside(&path, "bad", now)?),
        false => None,
    };
    if !at_once(ledger, &Position::default())? {
        return Ok(Index::Lost(Making::new(why, set_aside, salvage, now)));
    }
    let view = View::open(&path, config.index_cache_bytes)?;
    let total = ledger.end().number;
    let replay = replay(&view, ledger.folder(), &Start::Beginning, total, progress)?;
    let Replayed { records: replayed, damage, doubtful, .. } = replay;
    let rebuilt = Some(why);
    Ok(Index::Opened(OpenedView { view, rebuilt, set_aside, replayed, damage, doubtful, salvage }))
}

enum BroughtUp {
    Now(Option<String>, Replayed),
    /// It lacks so much that the node should not wait for it. Why.
    Later(String),
}

/// Why an index cannot be used, and whether it may know more than the ledger.
type Misfit = (String, bool);

/// Applies what the index lacks, unless that takes long. Says of one that held nothing before why.
fn bring_up(
    view: &View,
    ledger: &mut Ledger,
    existed: bool,
    at_once: &dyn Fn(&Ledger, &Position) -> Result<bool, StoreError>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Result<BroughtUp, Misfit>, StoreError> {
    let mark = view.position();
    // What the index shows was done, whatever the ledger has lost of it.
    let lost = ledger.go_on_after(&mark)?;
    let end = ledger.end();
    let is_other = || ledger::is_of_another(ledger.folder(), &mark);
    if mark.number == end.number && mark.hash != end.hash
        || mark.number > 0 && mark.number < end.number && is_other()?
    {
        return Ok(Err(("it is of another ledger".to_owned(), true)));
    }
    let fresh = view.is_new && end.number > 0;
    let missing = if existed { "it was empty" } else { "it was missing" };
    if mark.number < end.number && !at_once(ledger, &mark)? {
        let lacks = || format!("it lacks the last {} records", end.number - mark.number);
        let why = if fresh { missing.to_owned() } else { lacks() };
        return Ok(Ok(BroughtUp::Later(why)));
    }
    let start = Start::After(mark);
    let mut replay = match lost {
        None => replay(view, ledger.folder(), &start, end.number, progress)?,
        Some(_) => Replayed { end, ..Replayed::default() },
    };
    replay.damage.extend(lost);
    let has_lost = replay.records > 0 || !replay.damage.is_empty();
    let rebuilt = (fresh && has_lost).then(|| missing.to_owned());
    Ok(Ok(BroughtUp::Now(rebuilt, replay)))
}

#[derive(Default)]
pub struct Replayed {
    pub records: u64,
    pub damage: Vec<Damage>,
    /// Jobs that were open where damage is and of which nothing was heard since: what is lost may
    /// say that they were done.
    pub doubtful: Vec<JobRow>,
    pub end: Position,
}

/// The jobs that an event speaks of are as it says, whatever was lost before it.
fn settles(event: &Event) -> Option<&str> {
    match event {
        Event::JobStarted { id, .. }
        | Event::JobEnded { id, .. }
        | Event::JobRetried { id, .. }
        | Event::JobCancelled { id, .. } => Some(id),
        _ => None,
    }
}

/// What of the ledger is written down as lost.
pub fn known_damage(shared: &Shared) -> Result<Vec<String>, StoreError> {
    let rows = shared.read(|view| view.scan::<DamageRow>(key::DAMAGE))?;
    Ok(rows.into_iter().map(|row| row.what).collect())
}

/// Applies the records of the ledger from `start` on.
///
/// - `total`: number of its last record, for people.
pub fn replay(
    view: &View,
    folder: &Path,
    start: &Start,
    total: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<Replayed, StoreError> {
    replay_until(view, folder, start, u64::MAX, &mut |done| {
        progress(Progress { step: "replaying the ledger".into(), done, total: Some(total) });
        true
    })
}

/// As [`replay`], not beyond record `last`: what comes after it may be taken back.
///
/// - `on`: called every thousand events with the number of the record; `false` ends it.
pub fn replay_until(
    view: &View,
    folder: &Path,
    start: &Start,
    last: u64,
    on: &mut dyn FnMut(u64) -> bool,
) -> Result<Replayed, StoreError> {
    let (mut records, mut damage, mut waiting) = (0, Vec::new(), 0);
    let mut doubtful = HashSet::new();
    let mut txn = view.begin();
    let mut position = view.position();
    let mut ended = false;
    let walked = ledger::walk(folder, start, &mut |found| {
        let record = match found {
            _ if ended => return Err(StoreError::Closed),
            Found::Damage(what) => {
                damage.push(what);
                let full = std::mem::replace(&mut txn, view.begin());
                view.publish(full.finish()?, position)?;
                doubtful.extend(view.open_jobs()?.into_iter().map(|row| row.job.id));
                return Ok(());
            }
            Found::Record(record) => record,
        };
        if record.position.number > last {
            ended = true;
            return Err(StoreError::Closed);
        }
        position = record.position;
        match serde_json::from_slice::<Body>(record.payload) {
            Ok(body) => {
                for (place, event) in body.commits.iter().flatten().enumerate() {
                    waiting += 1;
                    if let Some(id) = settles(event) {
                        doubtful.remove(id);
                    }
                    index::apply(&mut txn, event, index::order(position.number, place))?;
                }
            }
            Err(error) => damage.push(Damage {
                segment: position.segment,
                offset: position.offset - record.payload.len() as u64,
                bytes: record.payload.len() as u64,
                what: format!("record {} cannot be understood: {error}", position.number),
            }),
        }
        records += 1;
        if waiting >= REPLAY_BATCH {
            let full = std::mem::replace(&mut txn, view.begin());
            view.publish(full.finish()?, position)?;
            ended = !on(position.number);
            waiting = 0;
        }
        Ok(())
    });
    let end = match walked {
        Ok(walked) => walked.end,
        // By ourselves.
        Err(StoreError::Closed) if ended => position,
        Err(error) => return Err(error),
    };
    if position != view.position() {
        view.publish(txn.finish()?, position)?;
    }
    let mut doubtful_rows = Vec::new();
    if !doubtful.is_empty() {
        doubtful_rows = view.open_jobs()?;
        doubtful_rows.retain(|row| doubtful.contains(&row.job.id) && row.state.is_open());
    }
    Ok(Replayed { records, damage, doubtful: doubtful_rows, end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Stored;
    use crate::store::StudyRow;
    use crate::store::event::JobKind;
    use crate::store::testing;
    use crate::store::testing::dump;
    use crate::store::testing::random_events;
    use crate::store::testing::receipt;
    use crate::store::testing::sop;
    use crate::store::testing::store_instance;
    use crate::store::testing::study;
    use std::fs;

    async fn filled(data: &Path) -> Vec<(String, String)> {
        let (store, report) = testing::open(data);
        assert!(report.alarms().is_empty());
        for events in random_events(7, 200) {
            store.commit(events).await.unwrap();
        }
        dump(&store)
    }

    fn biggest_state_file(data: &Path) -> PathBuf {
        data.join("state/db")
    }

    /// S7: whatever happens to sled's folder, the node starts and shows the same.
    #[tokio::test]
    async fn a_lost_or_broken_index_is_made_anew_and_is_equal() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let rows = filled(data).await;
        let whole = fs::read(biggest_state_file(data)).unwrap();
        type Harm = Box<dyn Fn(&Path)>;
        let harms: Vec<(&str, Harm)> = vec![
            ("deleted", Box::new(|data| fs::remove_dir_all(data.join("state")).unwrap())),
            (
                "a file in its place",
                Box::new(|data| {
                    fs::remove_dir_all(data.join("state")).unwrap();
                    fs::write(data.join("state"), "garbage").unwrap();
                }),
            ),
            (
                "garbage",
                Box::new(|data| {
                    let size = fs::metadata(biggest_state_file(data)).unwrap().len() as usize;
                    let garbage: Vec<u8> = (0..size).map(|i| (i * 7919 % 251) as u8).collect();
                    fs::write(biggest_state_file(data), garbage).unwrap();
                }),
            ),
            ("empty", Box::new(|data| fs::write(biggest_state_file(data), "").unwrap())),
        ];
        for (name, harm) in harms {
            harm(data);
            let (store, report) = testing::open(data);
            assert!(report.rebuilt.is_some(), "{name}: {report:?}");
            assert_eq!(dump(&store), rows, "{name}");
            store.commit(vec![]).await.unwrap();
        }
        // Cut short and flipped bits: found or harmless, never a row that is silently gone.
        for cut in [1, 100, 4096, whole.len() / 2] {
            fs::write(biggest_state_file(data), &whole[..whole.len() - cut]).unwrap();
            let (store, _) = testing::open(data);
            assert_eq!(dump(&store), rows, "cut {cut}");
        }
        for step in 1..30 {
            let mut flipped = whole.clone();
            let at = whole.len() * step / 30;
            flipped[at] ^= 0x10;
            fs::write(biggest_state_file(data), &flipped).unwrap();
            let (store, _) = testing::open(data);
            assert_eq!(dump(&store), rows, "bit at {at}");
        }
    }

    #[tokio::test]
    async fn an_index_that_lags_behind_is_brought_up_to_the_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        {
            let (store, _) = testing::open(data);
            store.commit_instance(receipt(1, 1, "x")).await.unwrap();
        }
        let early = dir.path().join("early");
        let copy = |from: &Path, to: &Path| {
            let _ = fs::remove_dir_all(to);
            let status = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status();
            assert!(status.unwrap().success());
        };
        copy(&data.join("state"), &early);
        let rows = {
            let (store, _) = testing::open(data);
            for events in random_events(3, 50) {
                store.commit(events).await.unwrap();
            }
            dump(&store)
        };
        copy(&early, &data.join("state"));
        let (store, report) = testing::open(data);
        assert_eq!((report.replayed, report.rebuilt), (50, None));
        assert_eq!(dump(&store), rows);
    }

    /// The end of the ledger is gone, the index knows more: it stays, and so does the gap.
    #[tokio::test]
    async fn an_index_that_knows_more_than_the_ledger_is_kept_and_the_gap_is_told_at_every_start() {
        for keep in [0, 64, 800] {
            let dir = tempfile::tempdir().unwrap();
            let data = dir.path();
            {
                let (store, _) = testing::open(data);
                for instance in 1..=5 {
                    store_instance(&store, 1, instance, "x").await;
                }
            }
            let ledger = data.join("ledger/00000001.log");
            let whole = fs::read(&ledger).unwrap();
            fs::write(&ledger, &whole[..keep]).unwrap();
            let (store, report) = testing::open(data);
            assert!(report.rebuilt.is_none() && report.set_aside.is_none(), "{report:?}");
            assert!(report.damage[0].contains("records before it are missing"), "{report:?}");
            assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 5);
            for instance in 1..=5 {
                let row = store.instance(&sop(1, instance)).unwrap().unwrap();
                assert!(data.join(row.receipt.object).is_file());
            }
            assert_eq!(store_instance(&store, 1, 6, "x").await, Stored::New { revision: 1 });
            drop(store);
            let (store, report) = testing::open(data);
            assert!(!report.damage.is_empty(), "{report:?}");
            assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 6);
        }
    }

    /// Ledger and index both gone: what stands in the files themselves is entered anew.
    #[tokio::test]
    async fn objects_alone_are_enough_to_start_again() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        {
            let (store, _) = testing::open(data);
            for instance in 1..=5 {
                store_instance(&store, 1, instance, "x").await;
            }
        }
        let clock: Arc<dyn Clock> = Arc::new(testing::StoppedClock);
        let facts = |path: &Path| {
            let name = path.file_name()?.to_str()?;
            let number = name.strip_prefix("1.2.1.1.")?.strip_suffix(".dcm")?;
            Some(receipt(1, number.parse().ok()?, "x"))
        };
        for part in [&["state"][..], &["ledger", "state"][..]] {
            for part in part {
                fs::remove_dir_all(data.join(part)).unwrap();
            }
            let adopting = Adopting { facts: &facts, always: false, at_once_bytes: None };
            let config = Config::default();
            let clock = Arc::clone(&clock);
            let (_, shared, report, _) = open(data, &config, clock, adopting, &mut |_| {}).unwrap();
            let lost = if part.len() == 2 { 5 } else { 0 };
            assert_eq!((report.adopted, report.salvaged), (lost, 0), "{report:?}");
            assert!(report.rebuilt.is_some());
            let row = shared.read(|view| view.get::<StudyRow>(&key::study(&study(1)))).unwrap();
            assert_eq!(row.unwrap().instances, 5);
        }
    }

    #[tokio::test]
    async fn a_damaged_record_is_told_at_every_start_and_the_index_keeps_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        let rows = filled(data).await;
        let ledger = data.join("ledger/00000001.log");
        let mut bytes = fs::read(&ledger).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&ledger, &bytes).unwrap();
        for _ in 0..2 {
            let (store, report) = testing::open(data);
            assert_eq!(report.damage.len(), 1, "{report:?}");
            assert!(report.rebuilt.is_none());
            let mut found = dump(&store);
            found.retain(|(key, _)| !key.starts_with("!damage"));
            assert_eq!(found, rows);
        }
    }

    #[tokio::test]
    async fn incoming_is_emptied_and_a_second_node_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        let job = testing::job(1, 1, JobKind::Plan, 0, 1);
        store.commit(vec![Event::JobEnqueued { job }]).await.unwrap();
        let config = Config::default();
        let clock: Arc<dyn Clock> = Arc::new(crate::domain::clock::SystemClock);
        let second = crate::store::Store::open(dir.path(), &config, Arc::clone(&clock));
        assert!(matches!(second, Err(StoreError::InUse { .. })));
        drop(store);
        fs::write(dir.path().join("incoming/00000001.part"), "half").unwrap();
        let (_store, report) = testing::open(dir.path());
        assert_eq!((report.incoming_removed, report.jobs_waiting), (1, 1));
    }
}
