//! The index is made anew while the node works.
//!
//! Instances are taken meanwhile: file and receipt are durable, what they are (new, the same again,
//! other bytes) is decided when the index is there. Everything else that needs the index is told
//! how far it is. A thread replays the ledger; the committer applies the rest and takes over.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::commit::Waiting;
use crate::store::commit::ask;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::facts;
use crate::store::folder;
use crate::store::ledger::Damage;
use crate::store::ledger::Start;
use crate::store::open;
use crate::store::open::Replayed;
use crate::store::rebuild;
use crate::store::rows::JobRow;
use crate::store::view::View;

/// Records that the committer may still have to apply by itself.
const REST: u64 = 256;
/// Between two tries, when the disk does not let it be made.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two log lines about how far it is.
const TOLD: Duration = Duration::from_secs(10);

/// An index that is not there yet.
#[derive(Debug, Default)]
pub struct Making {
    /// Why it is made anew.
    pub why: String,
    /// Records of the ledger.
    done: AtomicU64,
    total: AtomicU64,
    stop: AtomicBool,
    trouble: Mutex<Option<String>>,
    /// What of the old index the ledger may have lost.
    pub salvage: bool,
    /// The index that is there is good as far as it goes.
    goes_on: AtomicBool,
    started: Timestamp,
    pub set_aside: Option<PathBuf>,
    /// Tests hold it back.
    #[cfg(test)]
    pub held: AtomicBool,
}

impl Making {
    pub fn new(
        why: String,
        set_aside: Option<PathBuf>,
        salvage: bool,
        started: Timestamp,
    ) -> Making {
        Making { why, set_aside, salvage, started, ..Making::default() }
    }

    /// Of an index that is good as far as it goes.
    pub fn going_on(why: String, started: Timestamp) -> Making {
        Making { why, goes_on: true.into(), started, ..Making::default() }
    }

    pub fn error(&self) -> StoreError {
        StoreError::Remaking {
            done: self.done.load(Ordering::Relaxed),
            total: self.total.load(Ordering::Relaxed),
        }
    }

    /// Why it does not go on, when it does not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// An index that was made, but for the last records.
pub struct Made {
    pub view: View,
    pub damage: Vec<Damage>,
    /// See [`Replayed`].
    pub doubtful: Vec<JobRow>,
}

/// The thread that makes it. Dropped, it is stopped and waited for.
pub struct Maker {
    making: Arc<Making>,
    thread: Option<JoinHandle<()>>,
}

impl Maker {
    pub fn start(
        shared: &Arc<Shared>,
        making: Arc<Making>,
        committer: mpsc::WeakSender<Waiting>,
    ) -> Result<Maker, StoreError> {
        let (of, shared) = (Arc::clone(&making), Arc::clone(shared));
        let data = shared.data.clone();
        let thread = std::thread::Builder::new()
            .name("remake".to_owned())
            .spawn(move || run(&shared, &of, &committer))
            .map_err(|error| StoreError::io("starting the thread that makes it", &data, error))?;
        Ok(Maker { making, thread: Some(thread) })
    }
}

impl Drop for Maker {
    fn drop(&mut self) {
        self.making.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Arc<Shared>, making: &Making, committer: &mpsc::WeakSender<Waiting>) {
    tracing::error!(why = making.why, "the index is made anew; instances are taken meanwhile");
    let begun = Instant::now();
    let made = loop {
        match make(shared, making) {
            Ok(made) => break made,
            Err(_) if making.is_stopped() => return,
            Err(error) => {
                tracing::error!(%error, "the index cannot be made now");
                let mut trouble = making.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                *trouble = Some(error.to_string());
            }
        }
        let again = Instant::now() + PAUSE;
        while Instant::now() < again {
            if making.is_stopped() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let mut damage: Vec<String> = made.damage.iter().map(Damage::to_string).collect();
    // A whole ledger knows all that was acknowledged.
    let lost = making.salvage || !damage.is_empty();
    let doubtful = made.doubtful.len() as u64;
    *shared.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    // The committer looks for it before each commit.
    if ask(committer, Request::Events(Vec::new())).is_err() {
        return;
    }
    let seconds = begun.elapsed().as_secs_f64();
    tracing::warn!(seconds, "the index is made");
    let completed = if lost { complete(shared, making, committer) } else { Ok(Vec::new()) };
    let mut found = match completed {
        Ok(found) => found,
        Err(_) if making.is_stopped() => return,
        Err(error) => vec![format!("objects could not be compared with the new index: {error}")],
    };
    if doubtful > 0 {
        found.push(open::held(doubtful));
    }
    let known = open::known_damage(shared).unwrap_or_default();
    damage.retain(|what| !known.contains(what));
    if !damage.is_empty() {
        let event = Event::ledger_damaged(damage.clone(), shared.clock.now());
        if let Err(error) = ask(committer, Request::Events(vec![event])) {
            tracing::error!(%error, "what the ledger has lost cannot be written down");
        }
    }
    found.append(&mut damage);
    for line in found {
        shared.alarm(line);
    }
}

/// Replays the ledger almost to its end, which moves meanwhile.
fn make(shared: &Shared, making: &Making) -> Result<Made, StoreError> {
    let state = shared.data.join(folder::STATE);
    let open = || View::open(&state, shared.config.now().index_cache_bytes);
    let begun = match making.goes_on.swap(false, Ordering::Relaxed) {
        true => open().ok(),
        false => None,
    };
    let view = match begun {
        Some(view) => view,
        None => {
            let _ = std::fs::remove_dir_all(&state);
            open()?
        }
    };
    let (mut damage, mut doubtful) = (Vec::new(), Vec::new());
    let mut told = Instant::now();
    loop {
        #[cfg(test)]
        while making.held.load(Ordering::Relaxed) && !making.is_stopped() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let end = shared.committed();
        making.total.store(end.number, Ordering::Relaxed);
        let start = match view.position().number {
            0 => Start::Beginning,
            _ => Start::After(view.position()),
        };
        let ledger = shared.data.join(folder::LEDGER);
        let replayed = open::replay_until(&view, &ledger, &start, end.number, &mut |done| {
            making.done.store(done, Ordering::Relaxed);
            if told.elapsed() > TOLD {
                told = Instant::now();
                tracing::info!(done, total = end.number, "the index is being made anew");
            }
            !making.is_stopped()
        })?;
        damage.extend(replayed.damage);
        doubtful.extend(replayed.doubtful);
        if making.is_stopped() {
            return Err(StoreError::Closed);
        }
        let beyond_repair = replayed.records == 0;
        if beyond_repair || view.position().number + REST >= shared.committed().number {
            view.write()?;
            return Ok(Made { view, damage, doubtful });
        }
    }
}

/// Applies what was committed since. Called by the committer, so nothing is committed meanwhile.
pub fn catch_up(shared: &Shared, view: &View) -> Result<Replayed, StoreError> {
    let start = match view.position().number {
        0 => Start::Beginning,
        _ => Start::After(view.position()),
    };
    let end = shared.committed().number;
    open::replay_until(view, &shared.data.join(folder::LEDGER), &start, end, &mut |_| true)
}

/// Enters what the ledger lost and the old index or the objects have. Says what it found.
fn complete(
    shared: &Arc<Shared>,
    making: &Making,
    committer: &mpsc::WeakSender<Waiting>,
) -> Result<Vec<String>, StoreError> {
    let mut found = Vec::new();
    // What came since then has its receipt, or will have.
    let started = making.started;
    let mut commit = |event| match making.is_stopped() {
        true => Err(StoreError::Closed),
        false => ask(committer, Request::Events(vec![event])),
    };
    if let Some(old) = making.set_aside.as_deref().filter(|_| making.salvage) {
        let salvaged = open::salvage(shared, old, &mut commit)?;
        if salvaged > 0 {
            found.push(format!(
                "{salvaged} receipts were missing in the ledger and were taken from the old index"
            ));
        }
    }
    let adopted =
        rebuild::adopt(shared, &facts::facts_of_file, Some(started), &mut commit, &mut |_| {})?;
    if adopted.adopted > 0 {
        found.push(format!("{} objects had no receipt and were entered anew", adopted.adopted));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::store::Config;
    use crate::store::HealthState;
    use crate::store::Lane;
    use crate::store::Store;
    use crate::store::Stored;
    use crate::store::VerifyMode;
    use crate::store::Wanted;
    use crate::store::commit::Handle;
    use crate::store::event::Event;
    use crate::store::event::JobKind;
    use crate::store::testing;
    use crate::store::testing::at;
    use crate::store::testing::job;
    use crate::store::testing::sop;
    use crate::store::testing::store_instance;
    use crate::store::testing::study;

    /// Opens a folder whose index is gone; the index is not made before `held` is taken away.
    fn open_held(data: &Path) -> (Store, Arc<Making>) {
        std::fs::remove_dir_all(data.join("state")).unwrap();
        let config = Config { index_at_once_bytes: 0, ..crate::store::testing::config() };
        let at_once_bytes = Some(0);
        let adopting = open::Adopting { facts: &|_| None, always: false, at_once_bytes };
        let clock = Arc::new(testing::StoppedClock);
        let (committer, shared, report, _) =
            open::open(data, &config, clock, adopting, &mut |_| {}).unwrap();
        assert_eq!(report.remaking.as_deref(), Some("it was missing"));
        let making = shared.making().unwrap();
        making.held.store(true, Ordering::Relaxed);
        (Store { handle: Arc::new(Handle::start(committer).unwrap()), shared }, making)
    }

    async fn is_made(store: &Store) {
        while store.remaking().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Five instances, then the index is lost; three come while it is made.
    async fn fill_while_it_is_made(data: &Path) -> (Store, Arc<Making>) {
        {
            let (store, _) = testing::open(data);
            for instance in 1..=5 {
                store_instance(&store, 1, instance, "x").await;
            }
            let plan = job(1, 1, JobKind::Plan, 0, 5);
            store.commit(vec![Event::JobEnqueued { job: plan }]).await.unwrap();
        }
        let (store, making) = open_held(data);
        assert!(matches!(store.study(&study(1)), Err(StoreError::Remaking { total: 0.., .. })));
        assert_eq!(
            store.claim(at(9), Duration::from_secs(9), &Wanted::Of(Lane::Reading)).unwrap(),
            None
        );
        let more = vec![Event::JobEnqueued { job: job(2, 1, JobKind::Plan, 0, 5) }];
        assert!(matches!(store.commit(more).await, Err(StoreError::Remaking { .. })));
        for (instance, bytes) in [(6, "x"), (1, "x"), (2, "other"), (6, "x")] {
            assert_eq!(store_instance(&store, 1, instance, bytes).await, Stored::Deferred);
        }
        let health = store.health();
        assert_eq!(health.state, HealthState::Degraded, "{health:?}");
        assert!(health.reasons[0].contains("is being made anew"), "{health:?}");
        (store, making)
    }

    fn is_whole(data: &Path) {
        let report = Store::verify(data, VerifyMode::Full, &mut |_| {}).unwrap();
        assert!(report.gaps.is_empty(), "{:?}", report.gaps);
        assert_eq!((report.receipts, report.objects), (7, 7), "six, and one version");
    }

    fn shows_all(store: &Store) {
        let row = store.study(&study(1)).unwrap().unwrap();
        assert_eq!((row.instances, row.revision, row.conflicts), (6, 1, 1));
        assert_eq!(store.instance(&sop(1, 2)).unwrap().unwrap().versions.len(), 1);
        assert!(store.instance(&sop(1, 6)).unwrap().is_some());
        assert_eq!(store.jobs().unwrap().len(), 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn instances_are_taken_while_the_index_is_made_and_decided_after() {
        let dir = tempfile::tempdir().unwrap();
        let (store, making) = fill_while_it_is_made(dir.path()).await;
        making.held.store(false, Ordering::Relaxed);
        is_made(&store).await;
        // Any commit comes after the decisions.
        store.commit(Vec::new()).await.unwrap();
        shows_all(&store);
        assert_eq!(
            store
                .claim(at(9), Duration::from_secs(9), &Wanted::Of(Lane::Reading))
                .unwrap()
                .unwrap()
                .attempt,
            1
        );
        assert_eq!(store.health().state, HealthState::Degraded, "the alarm stays for a day");
        drop(store);
        is_whole(dir.path());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_taken_is_decided_by_the_next_start_when_the_node_ends_before() {
        let dir = tempfile::tempdir().unwrap();
        let (store, making) = fill_while_it_is_made(dir.path()).await;
        drop(making);
        drop(store);
        let (store, _) = testing::open(dir.path());
        store.commit(Vec::new()).await.unwrap();
        shows_all(&store);
        drop(store);
        is_whole(dir.path());
    }
}
