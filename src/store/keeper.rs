//! What goes on beside: space is looked at, what a failing disk kept of refused instances is
//! removed, the index is compared with its sum, what may go is removed.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::commit::Waiting;
use crate::store::commit::ask;
use crate::store::commit::waiting;
use crate::store::error::StoreError;
use crate::store::health::SpaceLevel;
use crate::store::open::Enter;
use crate::store::retention;
use crate::store::retention::RetentionReport;
use crate::store::sweep;
use crate::store::view::View;

/// Between two looks at the free space.
const LOOK: Duration = Duration::from_secs(5);
/// From the start to the first comparison of the index.
const FIRST_CHECK: Duration = Duration::from_secs(20);
/// From the start to the first look at what may go.
const FIRST_REMOVAL: Duration = Duration::from_secs(60);
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
        let (of, shared) = (Arc::clone(&stop), Arc::clone(shared));
        let data = shared.data.clone();
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
    use crate::store::event::Event;
    use crate::store::event::JobKind;
    use crate::store::key;
    use crate::store::testing;
    use crate::store::testing::dump;
    use crate::store::testing::job;

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
