//! Claims jobs and runs them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::domain::alert::By;
use crate::domain::alert::MAIL_SERVER;
use crate::pipeline::asking;
use crate::pipeline::closing;
use crate::pipeline::delivering;
use crate::pipeline::escalating;
use crate::pipeline::health;
use crate::pipeline::job;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::pipeline::meeting;
use crate::pipeline::origins;
use crate::pipeline::statistics;
use crate::pipeline::steps;
use crate::pipeline::watch;
use crate::pipeline::way::Kit;
use crate::store::ClaimedJob;
use crate::store::Lane;
use crate::store::StudyRow;
use crate::store::Wanted;
use crate::store::event::Event;
use crate::store::event::JobOutcome;
use crate::store::event::StudyState;
use crate::turns;

/// Longest pause between two looks at the queue.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Levels of alerts that pass at the same time: none of them waits for anybody.
const CLOCKS_AT_ONCE: usize = 2;
/// Requesters of storage commitments that are called at the same time.
const COMMITMENTS_AT_ONCE: usize = 2;
/// A claim is given up by a node that died; a living one ends its steps well before.
const LEASE: Duration = Duration::from_secs(3600);
/// Tries in a row in which the node died, after which a step is left alone: it may be what kills it.
const CUT_OFF_MAX: u32 = 3;

/// Starts the assembler and the runners of a kit. They end soon after `stop`, in the middle of
/// nothing: a step that was cut off is claimed again by the next start.
///
/// - `retire`: ends with `stop` at the latest; before, when another kit takes over: what was begun
///   is brought to its end with this one.
pub fn start(
    kit: &Arc<Kit>,
    retire: &CancellationToken,
    stop: &CancellationToken,
    tasks: &TaskTracker,
) {
    tasks.spawn(alerts_go_on(Arc::clone(kit), retire.clone()));
    tasks.spawn(closing::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(origins::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(asking::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(meeting::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(watch::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(health::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(statistics::watch_until_stopped(Arc::clone(kit), retire.clone()));
    let mut lanes = vec![
        (CLOCKS_AT_ONCE, Lane::Clocks),
        (kit.pipeline.steps_at_once, Lane::Reading),
        (COMMITMENTS_AT_ONCE, Lane::Commitments),
    ];
    // Whoever is waited for has a lane of its own: one that does not answer delays no other. In that
    // of a gateway no more readings are begun than it is asked at once; the others wait in the queue,
    // without their pictures.
    for name in kit.providers.keys() {
        let limits = kit.analysis.gateways.get(name).map(|gateway| gateway.limits.calls_at_once);
        lanes.push((limits.unwrap_or(1), Lane::Gateway(name.clone())));
    }
    for name in kit.deliver.destinations() {
        lanes.push((kit.pipeline.deliveries_at_once, Lane::Destination(name)));
    }
    let webhooks = kit.deliver.webhook.keys().map(|name| By::Webhook(name).server());
    for server in webhooks.chain([MAIL_SERVER.to_owned()]) {
        lanes.push((kit.pipeline.alerts_at_once, Lane::Messages(server)));
    }
    let others = Wanted::OtherThan(lanes.iter().map(|(_, lane)| lane.clone()).collect());
    let lanes = lanes.into_iter().map(|(at_once, lane)| (at_once, Wanted::Of(lane)));
    for (at_once, wanted) in lanes.chain([(1, others)]) {
        let runner =
            Runner { kit: Arc::clone(kit), wanted, stop: stop.clone(), tasks: tasks.clone() };
        tasks.spawn(runner.run_until(at_once, retire.clone()));
    }
}

/// Of one lane.
struct Runner {
    kit: Arc<Kit>,
    wanted: Wanted,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Runner {
    /// Claims a job only when it can be begun: what comes meanwhile and is more urgent is the next.
    async fn run_until(self, at_once: usize, retire: CancellationToken) {
        let places = Arc::new(Semaphore::new(at_once));
        let mut changed = self.kit.store.queued();
        loop {
            let place = tokio::select! {
                () = retire.cancelled() => return,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let Ok(place) = place else { return };
            match self.kit.store.claim(self.kit.clock.now(), LEASE, &self.wanted) {
                Ok(Some(claimed)) => {
                    let (kit, stop) = (Arc::clone(&self.kit), self.stop.clone());
                    self.tasks.spawn(async move {
                        run(&kit, claimed, &stop).await;
                        drop(place);
                    });
                    continue;
                }
                Ok(None) => (),
                Err(error) => tracing::error!(%error, "the queue cannot be read now"),
            }
            drop(place);
            tokio::select! {
                () = retire.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => (),
                gone = changed.changed() => if gone.is_err() { return },
            }
        }
    }
}

/// One try, unless the node stops in it.
async fn run(kit: &Kit, claimed: ClaimedJob, stop: &CancellationToken) {
    let span = tracing::info_span!(
        "study",
        study_uid = %claimed.job.study_uid,
        revision = claimed.job.revision,
        step = job::step_name(&claimed.job.kind),
        attempt = claimed.attempt,
    );
    let rank = claimed.rank;
    tokio::select! {
        () = stop.cancelled() => {
            // Told from a node that died in it. What cannot be said now counts as such.
            let left = Event::JobLeft { id: claimed.job.id.clone(), at: kit.clock.now() };
            if let Err(error) = kit.store.commit(vec![left]).await {
                tracing::debug!(%error, "that a step was left cannot be kept");
            }
        }
        () = turns::at(rank, run_one(kit, &claimed)).instrument(span) => (),
    }
}

/// One try of one step, and its end in the ledger: what it found out, the next job and its own
/// outcome are one record.
pub async fn run_one(kit: &Kit, claimed: &ClaimedJob) {
    let job = &claimed.job;
    let step = job::step_name(&job.kind);
    let (started, began) = (std::time::Instant::now(), kit.clock.now());
    let ended = match claimed.cut_off >= CUT_OFF_MAX {
        // Not to be tried again, whatever it is: the next try might be the end of the node.
        true => Err(StepError::lasting(format!(
            "the node ended {} times in the middle of this step",
            claimed.cut_off
        ))),
        false => steps::run(kit, claimed, began).await,
    };
    let at = kit.clock.now();
    let mut events = Vec::new();
    let outcome = match ended {
        Ok(found) => {
            events = found;
            JobOutcome::Done
        }
        Err(StepError { cause, verdict: Failure::Needless }) => {
            tracing::info!(cause, "step left out");
            JobOutcome::Dropped { cause }
        }
        Err(StepError { cause, verdict: Failure::NotYet { until } }) => {
            JobOutcome::Retry { due: until, cause }
        }
        Err(error) => {
            let next = steps::next_try(kit, claimed, began, &error, at);
            let cause = error.cause;
            match next {
                Some(due) => {
                    tracing::warn!(cause, %due, "step failed, will be tried again");
                    JobOutcome::Retry { due, cause }
                }
                None => {
                    tracing::error!(cause, "step failed for good: a person must look");
                    events = steps::given_up(kit, job, &cause);
                    JobOutcome::Dead { cause }
                }
            }
        }
    };
    let label = match &outcome {
        JobOutcome::Done => "done",
        JobOutcome::Retry { .. } => "retry",
        JobOutcome::Dead { .. } => "dead",
        JobOutcome::Dropped { .. } => "dropped",
    };
    if matches!(outcome, JobOutcome::Done) {
        tracing::info!(ms = started.elapsed().as_millis() as u64, "step done");
    }
    metrics::histogram!("prelim_step_seconds", "step" => step)
        .record(started.elapsed().as_secs_f64());
    metrics::counter!("prelim_steps_total", "step" => step, "outcome" => label).increment(1);
    events.push(Event::JobEnded { id: job.id.clone(), outcome, at });
    crash(kit, step, "before");
    // The end of a step must reach the ledger: a full disk is waited out, nothing is done twice.
    while let Err(error) = kit.store.commit(events.clone()).await {
        tracing::error!(%error, "the end of a step cannot be kept yet");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    crash(kit, step, "after");
    if let Err(error) = delivering::settle(&kit.store, &job.study_uid, job.revision, at).await {
        tracing::warn!(%error, "the study's last state cannot be kept yet; the next start does it");
    }
}

/// Alerts that wait for an answer go on where they were, by the settings of now.
async fn alerts_go_on(kit: Arc<Kit>, stop: CancellationToken) {
    while let Err(error) = escalating::resume(&kit).await {
        tracing::warn!(%error, "alerts cannot be looked through yet");
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN * 4) => (),
        }
    }
}

/// Studies whose last delivery was done by a node that ended before it could say so.
pub async fn settle_what_was_left(kit: Arc<Kit>) {
    let rows = loop {
        let store = kit.store.clone();
        let composed = |row: &StudyRow| row.state == StudyState::Composed;
        match tokio::task::spawn_blocking(move || store.studies_that(composed)).await {
            Ok(Ok(rows)) => break rows,
            // The index is being made, or repaired.
            Ok(Err(_)) => tokio::time::sleep(LOOK_AGAIN * 4).await,
            Err(_) => return,
        }
    };
    for row in rows {
        if let Err(error) =
            delivering::settle(&kit.store, &row.study_uid, row.revision, kit.clock.now()).await
        {
            tracing::warn!(%error, "a study's last state cannot be kept now");
        }
    }
}

/// For crash tests: ends the program without warning where the configuration says so.
fn crash(kit: &Kit, step: &str, when: &str) {
    if kit.pipeline.crash_at.split_once(':') == Some((step, when)) {
        std::process::abort();
    }
}
