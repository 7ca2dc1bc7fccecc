//! Who sends, who called and was refused: numbers by AE title and address, kept over restarts.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::dicom::negotiation::Rejection;
use crate::dicom::status::Status;
use crate::dicom::status::StatusKind;
use crate::dicom::storage_scp::Tally;
use crate::domain::clock::Clock;

/// Sources remembered; the one unseen for longest gives way.
const SOURCES_MAX: usize = 1000;
/// Of these, callers that were never let in, in all and from one address: who calls under ever
/// new titles crowds out only itself.
const STRANGERS_MAX: usize = 200;
const STRANGERS_PER_ADDRESS_MAX: usize = 8;
/// How often changes are written down.
const WRITE_EVERY: Duration = Duration::from_secs(5);
/// What is counted together, and for how long it is known.
const SLOT_S: i64 = 600;
const SLOTS: i64 = 24 * 3600 / SLOT_S;
/// The file in the data folder.
pub const SOURCES_FILE: &str = "sources.json";

/// What is known of one AE title at one address. Titles are printable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Source {
    pub calling_ae: String,
    pub address: IpAddr,
    /// What it called us last.
    pub called_ae: String,
    /// The configured peer that it is, the user it named, the subject of its certificate.
    pub peer: String,
    pub user: String,
    pub certificate: String,
    pub implementation: String,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    /// When it stored something last.
    pub last_stored: Option<Timestamp>,
    /// Associations let in; open now.
    pub associations: u64,
    #[serde(default, skip_deserializing)]
    pub open: u64,
    /// Instances offered; stored, of these with a warning; refused; never answered.
    pub offered: u64,
    pub stored: u64,
    pub warned: u64,
    pub refused: u64,
    pub failed: u64,
    pub stored_bytes: u64,
    /// Of the last association that stored something.
    pub bytes_per_second: u64,
    /// Instances refused, by status.
    pub statuses: BTreeMap<String, u64>,
    /// Associations refused, by reason.
    pub rejections: BTreeMap<String, u64>,
    pub last_rejected: Option<Timestamp>,
    /// Instances stored in each ten minutes of the last day in which there were any: the number of
    /// the ten minutes since 1970 (UTC), and how many.
    #[serde(default)]
    pub recent: Vec<(i64, u64)>,
}

impl Source {
    fn new(calling_ae: &str, address: IpAddr, now: Timestamp) -> Source {
        Source {
            calling_ae: calling_ae.to_owned(),
            address,
            called_ae: String::new(),
            peer: String::new(),
            user: String::new(),
            certificate: String::new(),
            implementation: String::new(),
            first_seen: now,
            last_seen: now,
            last_stored: None,
            associations: 0,
            open: 0,
            offered: 0,
            stored: 0,
            warned: 0,
            refused: 0,
            failed: 0,
            stored_bytes: 0,
            bytes_per_second: 0,
            statuses: BTreeMap::new(),
            rejections: BTreeMap::new(),
            last_rejected: None,
            recent: Vec::new(),
        }
    }

    /// Instances stored in the last `hours` (24 at most), the ten minutes of now begun and all.
    pub fn stored_within(&self, hours: i64, now: Timestamp) -> u64 {
        let this = slot(now);
        let begin = this - hours * 3600 / SLOT_S;
        self.recent.iter().filter(|(at, _)| (begin + 1..=this).contains(at)).map(|(_, n)| n).sum()
    }

    fn count_stored(&mut self, now: Timestamp) {
        let this = slot(now);
        match self.recent.iter_mut().find(|(at, _)| *at == this) {
            Some((_, n)) => *n += 1,
            None => {
                self.recent.retain(|(at, _)| (this - SLOTS + 1..this).contains(at));
                self.recent.push((this, 1));
            }
        }
    }

    /// Whether it was refused whenever it called.
    pub fn is_stranger(&self) -> bool {
        self.associations == 0
    }

    fn meet(&mut self, tally: &Tally, now: Timestamp) {
        self.last_seen = now;
        self.called_ae.clone_from(&tally.called_ae);
        self.peer.clone_from(&tally.peer_name);
        self.user.clone_from(&tally.user);
        self.certificate.clone_from(&tally.certificate);
        self.implementation.clone_from(&tally.implementation);
    }
}

fn slot(at: Timestamp) -> i64 {
    at.as_second().div_euclid(SLOT_S)
}

type Key = (String, IpAddr);

/// All sources.
pub struct Sources {
    all: Mutex<HashMap<Key, Arc<Mutex<Source>>>>,
    file: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    changed: AtomicBool,
}

impl Sources {
    /// What the file holds; a file that cannot be read is told and begun anew.
    pub fn open(file: Option<PathBuf>, clock: Arc<dyn Clock>) -> Sources {
        let mut all = HashMap::new();
        let read = file.as_deref().map(std::fs::read).transpose();
        match read.map(|bytes| bytes.map(|bytes| serde_json::from_slice::<Vec<Source>>(&bytes))) {
            Ok(Some(Ok(known))) => {
                for source in known.into_iter().take(SOURCES_MAX) {
                    let key = (source.calling_ae.clone(), source.address);
                    all.insert(key, Arc::new(Mutex::new(source)));
                }
            }
            Ok(Some(Err(error))) => {
                tracing::warn!(%error, "the list of sources cannot be read: it begins anew");
            }
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "the list of sources cannot be read"),
        }
        Sources { all: Mutex::new(all), file, clock, changed: AtomicBool::new(false) }
    }

    /// All of them, those seen last first.
    pub fn list(&self) -> Vec<Source> {
        let mut list: Vec<Source> =
            lock(&self.all).values().map(|source| lock(source).clone()).collect();
        list.sort_by(|a, b| {
            (b.last_seen, &a.calling_ae, a.address).cmp(&(a.last_seen, &b.calling_ae, b.address))
        });
        list
    }

    /// Notes that an association was let in; its counts go to what is returned.
    pub fn let_in(self: &Arc<Sources>, tally: &Tally) -> Counts {
        let source = self.source(tally, false);
        let mut row = lock(&source);
        row.meet(tally, self.clock.now());
        row.associations += 1;
        row.open += 1;
        drop(row);
        self.changed.store(true, Ordering::Relaxed);
        Counts { source, of: Arc::clone(self) }
    }

    /// Notes that an association was refused.
    pub fn turned_away(&self, tally: &Tally, rejection: Rejection) {
        let source = self.source(tally, true);
        let (mut row, now) = (lock(&source), self.clock.now());
        row.meet(tally, now);
        *row.rejections.entry(rejection.as_str().to_owned()).or_default() += 1;
        row.last_rejected = Some(now);
        self.changed.store(true, Ordering::Relaxed);
    }

    fn source(&self, tally: &Tally, refused: bool) -> Arc<Mutex<Source>> {
        let key = (tally.calling_ae.clone(), tally.peer.ip().to_canonical());
        let mut all = lock(&self.all);
        if let Some(source) = all.get(&key) {
            return Arc::clone(source);
        }
        if refused {
            let from_here = |source: &Source| source.is_stranger() && source.address == key.1;
            make_room(&mut all, STRANGERS_PER_ADDRESS_MAX, from_here);
            make_room(&mut all, STRANGERS_MAX, Source::is_stranger);
        }
        make_room(&mut all, SOURCES_MAX, |source| source.open == 0);
        let source = Arc::new(Mutex::new(Source::new(&key.0, key.1, self.clock.now())));
        all.insert(key, Arc::clone(&source));
        source
    }

    /// Writes the list down now and then until `stop`, and at last.
    pub async fn keep(self: Arc<Sources>, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(WRITE_EVERY) => false,
            };
            if self.changed.swap(false, Ordering::Relaxed) {
                let this = Arc::clone(&self);
                let written = tokio::task::spawn_blocking(move || this.write()).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(%error, "the list of sources cannot be written");
                }
            }
            if stopped {
                return;
            }
        }
    }

    fn write(&self) -> std::io::Result<()> {
        use std::io::Write as _;
        let Some(file) = &self.file else { return Ok(()) };
        let bytes = serde_json::to_vec(&self.list())?;
        let folder = file.parent().unwrap_or(std::path::Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(&bytes)?;
        new.persist(file)?;
        Ok(())
    }
}

/// Makes room for one more among those that `which` chooses: the longest unseen goes.
fn make_room(
    all: &mut HashMap<Key, Arc<Mutex<Source>>>,
    max: usize,
    which: impl Fn(&Source) -> bool,
) {
    let chosen: Vec<(Timestamp, Key)> = all
        .iter()
        .filter_map(|(key, source)| {
            let source = lock(source);
            which(&source).then(|| (source.last_seen, key.clone()))
        })
        .collect();
    if chosen.len() >= max
        && let Some((_, oldest)) = chosen.into_iter().min()
    {
        all.remove(&oldest);
    }
}

/// Where one association counts.
pub struct Counts {
    source: Arc<Mutex<Source>>,
    of: Arc<Sources>,
}

impl Counts {
    /// A C-STORE has come.
    pub fn offered(&self) {
        lock(&self.source).offered += 1;
    }

    /// Bytes of an instance that was stored.
    pub fn stored_bytes(&self, bytes: u64) {
        lock(&self.source).stored_bytes += bytes;
    }

    /// It was answered.
    pub fn answered(&self, status: Status) {
        let mut source = lock(&self.source);
        source.last_seen = self.of.clock.now();
        match status.kind() {
            kind @ (StatusKind::Success | StatusKind::Warning) => {
                source.stored += 1;
                source.warned += u64::from(kind == StatusKind::Warning);
                let now = source.last_seen;
                source.last_stored = Some(now);
                source.count_stored(now);
            }
            StatusKind::Pending | StatusKind::Cancelled | StatusKind::Failure => {
                source.refused += 1;
                *source.statuses.entry(status.to_string()).or_default() += 1;
            }
        }
        self.of.changed.store(true, Ordering::Relaxed);
    }

    /// The association is over.
    pub fn ended(&self, tally: &Tally, took: Duration) {
        let mut source = lock(&self.source);
        source.failed += tally.failed();
        if tally.stored_bytes > 0 {
            let rate = tally.stored_bytes as f64 / took.as_secs_f64().max(0.001);
            source.bytes_per_second = rate as u64;
        }
        source.last_seen = self.of.clock.now();
        self.of.changed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Counts {
    fn drop(&mut self) {
        let mut source = lock(&self.source);
        source.open = source.open.saturating_sub(1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemClock;

    fn tally(calling: &str, address: &str) -> Tally {
        let mut tally = Tally::new(1, format!("{address}:104").parse().unwrap());
        tally.calling_ae = calling.to_owned();
        tally
    }

    #[test]
    fn a_source_counts_what_it_sent_and_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(SOURCES_FILE);
        let sources = Arc::new(Sources::open(Some(file.clone()), Arc::new(SystemClock)));
        let mut ct = tally("CT", "10.0.0.5");
        sources.turned_away(&ct, Rejection::Stranger);
        assert!(sources.list()[0].is_stranger());
        let counts = sources.let_in(&ct);
        for status in [Status::SUCCESS, Status(0xB000), Status::OUT_OF_RESOURCES] {
            counts.offered();
            counts.answered(status);
        }
        counts.stored_bytes(2000);
        counts.offered();
        (ct.offered, ct.stored, ct.refused_instances, ct.stored_bytes) = (4, 2, 1, 2000);
        counts.ended(&ct, Duration::from_secs(2));
        let found = sources.list().remove(0);
        assert_eq!((found.offered, found.stored, found.warned), (4, 2, 1));
        assert_eq!((found.refused, found.failed, found.open), (1, 1, 1));
        assert_eq!((found.stored_bytes, found.bytes_per_second), (2000, 1000));
        assert_eq!(found.statuses["A700"], 1);
        assert_eq!(found.rejections[Rejection::Stranger.as_str()], 1);
        drop(counts);
        sources.write().unwrap();
        let again = Sources::open(Some(file.clone()), Arc::new(SystemClock)).list();
        assert_eq!(again, sources.list());
        std::fs::write(&file, "{ broken").unwrap();
        assert!(Sources::open(Some(file), Arc::new(SystemClock)).list().is_empty());
    }

    #[test]
    fn what_came_within_an_hour_and_a_day_is_known_to_ten_minutes() {
        let at = |minutes: i64| Timestamp::from_second(1_767_571_200 + minutes * 60).unwrap();
        let mut source = Source::new("CT", "10.0.0.5".parse().unwrap(), at(0));
        for minutes in [0, 5, 59, 61, 70, 1430] {
            source.count_stored(at(minutes));
        }
        for (minutes, hour, day) in
            [(59, 3, 3), (71, 3, 5), (1430, 1, 6), (1441, 1, 4), (3000, 0, 0)]
        {
            let found =
                (source.stored_within(1, at(minutes)), source.stored_within(24, at(minutes)));
            assert_eq!(found, (hour, day), "after {minutes} minutes");
        }
        for minutes in 0..10_000 {
            source.count_stored(at(minutes));
        }
        assert!(source.recent.len() <= 144, "{}", source.recent.len());
    }

    #[test]
    fn who_calls_under_many_names_crowds_out_only_itself() {
        let sources = Arc::new(Sources::open(None, Arc::new(SystemClock)));
        let open = sources.let_in(&tally("CT", "10.0.0.5"));
        sources.turned_away(&tally("NEIGHBOUR", "10.0.0.6"), Rejection::Stranger);
        for i in 0..1000 {
            sources.turned_away(&tally(&format!("GUESS {i}"), "10.0.0.7"), Rejection::Stranger);
        }
        assert_eq!(sources.list().len(), 2 + STRANGERS_PER_ADDRESS_MAX);
        for i in 0..1000 {
            let address = format!("10.1.{}.{}", i / 250, i % 250);
            sources.turned_away(&tally("MANY", &address), Rejection::Stranger);
        }
        assert_eq!(sources.list().len(), 1 + STRANGERS_MAX);
        for i in 0..SOURCES_MAX + 10 {
            let address = format!("10.2.{}.{}", i / 250, i % 250);
            drop(sources.let_in(&tally("GOOD", &address)));
        }
        let list = sources.list();
        assert_eq!(list.len(), SOURCES_MAX + 1, "and the one that is open");
        assert!(list.iter().any(|source| source.calling_ae == "CT"));
        drop(open);
    }
}
