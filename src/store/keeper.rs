//! What goes on beside: space is looked at, what a failing disk kept of refused instances is
//! removed, the index is compared with its sum, what may go is removed.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::Weak;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::store::commit::Gaps;
use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::commit::Waiting;
use crate::store::commit::ask;
use crate::store::commit::waiting;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::gaps::Gap;
use crate::store::gaps::Pace;
use crate::store::gaps::Progress;
use crate::store::gaps::VerifyMode;
use crate::store::health::SpaceLevel;
use crate::store::open;
use crate::store::open::Enter;
use crate::store::retention;
use crate::store::retention::RetentionReport;
use crate::store::sweep;
use crate::store::verify;
use crate::store::view::View;

/// Between two looks at the free space.
const LOOK: Duration = Duration::from_secs(5);
/// From the start to the first comparison of the index.
const FIRST_CHECK: Duration = Duration::from_secs(20);
/// From the start to the first look at what may go.
const FIRST_REMOVAL: Duration = Duration::from_secs(60);
/// From the start to the first look at ledger and objects.
const FIRST_LOOK_AT_ALL: Duration = Duration::from_secs(600);
/// Gaps that are named one by one.
const GAPS_SHOWN: usize = 5;
/// A comparison rests this many times as long as it works, so that others are not slowed down.
const REST: u32 = 10;

/// The thread. Dropped, it is stopped and waited for.
pub struct Keeper {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    stopped: Mutex<bool>,
    wake: Condvar,
}

impl Stop {
    fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits; true when it is to end.
    fn wait(&self, pause: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.wake.wait_timeout_while(stopped, pause, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Keeper {
    pub fn start(
        shared: &Arc<Shared>,
        committer: mpsc::WeakSender<Waiting>,
    ) -> Result<Keeper, StoreError> {
        let stop = Arc::new(Stop::default());
        let data = shared.data.clone();
        let (of, looked_at, to) = (Arc::clone(&stop), Arc::downgrade(shared), committer.clone());
        // Not waited for at the end: the store that is closed tells it.
        std::thread::Builder::new()
            .name("check".to_owned())
            .spawn(move || look_at_all(&looked_at, &of, &to))
            .map_err(|error| StoreError::io("starting a thread for", &data, error))?;
        let (of, shared) = (Arc::clone(&stop), Arc::clone(shared));
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || run(&shared, &of, &committer))
            .map_err(|error| StoreError::io("starting a thread for", &data, error))?;
        Ok(Keeper { stop, thread: Some(thread) })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        *self.stop.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stop.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(shared: &Shared, stop: &Stop, committer: &mpsc::WeakSender<Waiting>) {
    // What the last run left undecided.
    poke(committer);
    let every = Duration::from_secs(shared.config.now().index_check_hours * 3600);
    let mut check_at = (!every.is_zero()).then(|| Instant::now() + FIRST_CHECK);
    let mut look_at = Instant::now();
    let mut level = SpaceLevel::Enough;
    let started = shared.clock.now();
    let (mut finished, mut swept) = (false, false);
    let mut removal_at = Instant::now() + FIRST_REMOVAL;
    loop {
        let now = Instant::now();
        if now >= look_at {
            let before = level;
            level = look_at_space(shared, level);
            look_at = now + LOOK;
            shared.objects.remove_again();
            try_again(shared, committer);
            if level != before && level != SpaceLevel::Enough {
                removal_at = now;
            }
            if !finished && shared.making().is_none() {
                finished = finish_removal(shared, started, committer, stop);
            }
            if !swept && shared.making().is_none() {
                swept = sweep_up(shared, stop);
            }
        }
        if now >= removal_at && finished {
            remove_by_the_rules(shared, committer, stop);
            removal_at =
                now + Duration::from_secs(60 * shared.config.now().retention.every_minutes);
        }
        let mut pause = look_at.saturating_duration_since(now);
        if let Some(at) = check_at {
            if now >= at {
                pause = check(shared, committer, &mut check_at, every);
            } else {
                pause = pause.min(at - now);
            }
        }
        if stop.wait(pause) {
            return;
        }
    }
}

/// Removes what the rules say. One at a time.
pub fn retain(
    shared: &Shared,
    commit: Enter<'_>,
    go_on: &dyn Fn() -> bool,
) -> Result<RetentionReport, StoreError> {
    let Ok(_one) = shared.removing.try_lock() else { return Err(StoreError::Busy) };
    let mut report = retention::plan(shared, shared.clock.now())?;
    report.done = Some(retention::carry_out(shared, &report, commit, go_on)?);
    Ok(report)
}

fn remove_by_the_rules(shared: &Shared, committer: &mpsc::WeakSender<Waiting>, stop: &Stop) {
    if !shared.config.now().retention.is_on() {
        return;
    }
    let mut commit = |event| ask(committer, Request::Events(vec![event]));
    match retain(shared, &mut commit, &|| !stop.is_stopped()) {
        Ok(report) => {
            let RetentionReport { studies, objects_bytes, keep, done, .. } = report;
            tracing::info!(studies, objects_bytes, keep, done, "looked at what may go");
        }
        Err(StoreError::Closed | StoreError::Remaking { .. } | StoreError::Busy) => {}
        Err(error) => tracing::error!(%error, "what may go cannot be removed now"),
    }
}

/// What a kill has left of a removal.
fn finish_removal(
    shared: &Shared,
    started: Timestamp,
    committer: &mpsc::WeakSender<Waiting>,
    stop: &Stop,
) -> bool {
    let mut commit = |event| ask(committer, Request::Events(vec![event]));
    let go_on = || !stop.is_stopped();
    let finished = retention::finish_what_was_begun(shared, started, &mut commit, &go_on);
    if let Err(error) = &finished
        && go_on()
    {
        tracing::error!(%error, "files of what went cannot be removed now");
    }
    finished.is_ok()
}

/// What a kill has left of instances on their way.
fn sweep_up(shared: &Shared, stop: &Stop) -> bool {
    let go_on = || !stop.is_stopped();
    let swept = sweep::sweep(shared, &go_on);
    if let Err(error) = &swept
        && go_on()
    {
        tracing::warn!(%error, "what was never acknowledged cannot be removed now");
    }
    swept.is_ok()
}

/// Compares a part of the index; returns how long to rest.
fn check(
    shared: &Shared,
    committer: &mpsc::WeakSender<Waiting>,
    check_at: &mut Option<Instant>,
    every: Duration,
) -> Duration {
    let begun = Instant::now();
    let view = shared.view.read().unwrap_or_else(PoisonError::into_inner);
    let outcome = view.as_ref().map(View::check_more);
    drop(view);
    match outcome {
        Some(Ok(Some(_))) => return begun.elapsed() * REST,
        Some(Ok(None)) => tracing::debug!("the index is as it was written"),
        Some(Err(error)) => {
            shared.alarm(format!("{error}; it is made anew"));
            let mut doubt = shared.doubt.lock().unwrap_or_else(PoisonError::into_inner);
            *doubt = Some(error.to_string());
            drop(doubt);
            shared.suspect.store(true, std::sync::atomic::Ordering::SeqCst);
            poke(committer);
        }
        // It is being made: look again later.
        None => {
            *check_at = Some(Instant::now() + FIRST_CHECK);
            return Duration::ZERO;
        }
    }
    *check_at = Some(Instant::now() + every);
    Duration::ZERO
}

/// Looks at the ledger and every object once in a while, slowly.
fn look_at_all(shared: &Weak<Shared>, stop: &Stop, committer: &mpsc::WeakSender<Waiting>) {
    let mut pause = FIRST_LOOK_AT_ALL;
    while !stop.wait(pause) {
        let Some(shared) = shared.upgrade() else { return };
        let hours = shared.config.now().data_check_hours;
        pause = Duration::from_secs(3600 * hours.max(1));
        if hours == 0 {
            continue;
        }
        let mut pace = Pace::slow();
        let mut rest = |_| {
            if !stop.is_stopped() {
                pace.rest();
            }
        };
        match look(&shared, committer, &mut rest) {
            Ok(0) => tracing::info!("ledger and objects are as they were written"),
            Ok(gaps) => tracing::error!(gaps, "ledger or objects are not as they were written"),
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "ledger and objects could not be looked at");
                pause = FIRST_LOOK_AT_ALL;
            }
        }
    }
}

/// Keeps what it finds for people, and writes down what of the ledger is lost. Returns how much.
pub fn look(
    shared: &Shared,
    committer: &mpsc::WeakSender<Waiting>,
    progress: &mut dyn FnMut(Progress),
) -> Result<u64, StoreError> {
    let report = verify::verify_running(shared, VerifyMode::Full, progress)?;
    let (mut damage, mut gaps) = (Vec::new(), Gaps::default());
    for gap in report.gaps {
        if let Gap::LedgerDamage { what } = gap {
            damage.push(what);
        } else if gaps.first.len() < GAPS_SHOWN {
            gaps.first.push(gap.to_string());
        }
    }
    gaps.total = report.gaps_total - damage.len() as u64;
    *shared.gaps() = gaps;
    let known = open::known_damage(shared)?;
    damage.retain(|what| !known.contains(what));
    if !damage.is_empty() {
        let event = Event::ledger_damaged(damage, shared.clock.now());
        ask(committer, Request::Events(vec![event]))?;
    }
    Ok(report.gaps_total)
}

/// After a commit that failed, one that shows whether the next would too: nobody else may ask.
fn try_again(shared: &Shared, committer: &mpsc::WeakSender<Waiting>) {
    if shared.trouble().is_none() || shared.making().is_some() {
        return;
    }
    let (what, by) = ("commits tried again".to_owned(), "node".to_owned());
    let event = Event::Accessed { study_uid: None, what, by, at: shared.clock.now() };
    if let Some(sender) = committer.upgrade()
        && let Ok(trial) = waiting(Request::Events(vec![event]), None)
    {
        let _ = sender.try_send(trial);
    }
}

/// A commit of nothing, so that the committer looks at what waits for it.
fn poke(committer: &mpsc::WeakSender<Waiting>) {
    if let Some(sender) = committer.upgrade()
        && let Ok(nothing) = waiting(Request::Events(Vec::new()), None)
    {
        let _ = sender.try_send(nothing);
    }
}

/// Says once when space gets short and when it is back.
fn look_at_space(shared: &Shared, before: SpaceLevel) -> SpaceLevel {
    let Ok((level, free)) = SpaceLevel::of(shared) else { return before };
    if level != before {
        match level {
            SpaceLevel::Enough => tracing::info!(free, "there is enough free space again"),
            SpaceLevel::Low => tracing::warn!(
                free,
                refused_below = shared.config.now().free_bytes_min,
                "free space in the data folder is low"
            ),
            SpaceLevel::Refused => {
                tracing::error!(free, "no instance is taken: too little free space");
            }
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::event::JobKind;
    use crate::store::key;
    use crate::store::testing;
    use crate::store::testing::dump;
    use crate::store::testing::job;

    /// R11: what only `verify` knew is told.
    #[tokio::test(flavor = "multi_thread")]
    async fn objects_and_parts_of_the_ledger_that_went_are_told_to_people() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        testing::store_instance(&store, 1, 1, "a").await;
        testing::store_instance(&store, 1, 2, "b").await;
        let object = store.instance(&testing::sop(1, 2)).unwrap().unwrap().receipt.object;
        let handle = std::sync::Arc::clone(&store.handle);
        let look = || look(&store.shared, &handle.weak(), &mut |_| {});
        let found = tokio::task::block_in_place(look);
        assert_eq!(found.unwrap(), 0);
        std::fs::remove_file(dir.path().join(object)).unwrap();
        let file = dir.path().join("ledger/00000001.log");
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[150] ^= 1;
        std::fs::write(file, bytes).unwrap();
        assert!(tokio::task::block_in_place(look).unwrap() >= 2);
        let reasons = store.health().reasons.join("\n");
        assert!(reasons.contains("was acknowledged and") && reasons.contains("lost"), "{reasons}");
        assert_eq!((store.ledger_damage(), store.gaps() > 0), (1, true));
    }

    /// S7: sled lost a row and says nothing.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_that_sled_lost_is_found_while_the_node_works_and_the_index_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        for n in 1..400 {
            let job = job(n, 1, JobKind::Plan, 0, 5);
            store.commit(vec![Event::JobEnqueued { job }]).await.unwrap();
        }
        let before = dump(&store);
        let (sender, mut inbox) = mpsc::channel(4);
        let every = Duration::from_secs(3600);
        let check_all = || {
            let mut due = Some(Instant::now());
            while due.is_some_and(|due| due <= Instant::now()) {
                check(&store.shared, &sender.downgrade(), &mut due, every);
            }
        };
        check_all();
        assert!(inbox.try_recv().is_err(), "nothing to tell");
        let lost = key::job(&job(7, 1, JobKind::Plan, 0, 5).id);
        let lose = |view: &View| {
            view.lose_for_a_test(&lost);
            Ok(())
        };
        store.read(lose).unwrap();
        check_all();
        assert!(inbox.try_recv().is_ok(), "the committer is told");
        assert_ne!(dump(&store), before);
        store.commit(Vec::new()).await.unwrap();
        assert_eq!(dump(&store), before);
        let reasons = store.health().reasons;
        assert!(reasons.iter().any(|why| why.contains("was made anew")), "{reasons:?}");
    }
}
