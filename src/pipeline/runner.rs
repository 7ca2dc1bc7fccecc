//! Claims jobs and runs them.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::pipeline::asking;
use crate::pipeline::closing;
use crate::pipeline::delivering;
use crate::pipeline::escalating;
use crate::pipeline::health;
use crate::pipeline::job;
use crate::pipeline::job::Failure;
use crate::pipeline::job::StepError;
use crate::pipeline::origins;
use crate::pipeline::statistics;
use crate::pipeline::steps;
use crate::pipeline::watch;
use crate::pipeline::way::Kit;
use crate::store::Lane;
use crate::store::StudyRow;
use crate::store::event::Event;
use crate::store::event::JobOutcome;
use crate::store::event::StudyState;

/// Longest pause between two looks at the queue.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Requesters of storage commitments that are called at the same time.
const COMMITMENTS_AT_ONCE: usize = 2;
/// A claim is given up by a node that died; a living one ends its steps well before.
const LEASE: Duration = Duration::from_secs(3600);

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
    tasks.spawn(watch::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(health::run_until_stopped(Arc::clone(kit), retire.clone()));
    tasks.spawn(statistics::watch_until_stopped(Arc::clone(kit), retire.clone()));
    let mut lanes = vec![
        (kit.pipeline.alerts_at_once, Lane::Priorities(job::ALERTS)),
        (kit.pipeline.steps_at_once, Lane::Priorities(job::READING)),
        (COMMITMENTS_AT_ONCE, Lane::Priorities(job::COMMITMENTS)),
    ];
    // Runners of its own for each destination: one that does not answer delays no other.
    let destinations = kit.deliver.destinations();
    for name in &destinations {
        lanes.push((kit.pipeline.deliveries_at_once, Lane::Destination(name.clone())));
    }
    lanes.push((1, Lane::OtherThan(destinations)));
    for (runners, lane) in lanes {
        for _ in 0..runners {
            let (retire, stop) = (retire.clone(), stop.clone());
            tasks.spawn(run_until_stopped(Arc::clone(kit), lane.clone(), retire, stop));
        }
    }
}

async fn run_until_stopped(
    kit: Arc<Kit>,
    lane: Lane,
    retire: CancellationToken,
    stop: CancellationToken,
) {
    let mut changed = kit.store.queued();
    while !retire.is_cancelled() {
        match kit.store.claim(kit.clock.now(), LEASE, &lane) {
            Ok(Some(claimed)) => {
                let span = tracing::info_span!(
                    "study",
                    study_uid = %claimed.job.study_uid,
                    revision = claimed.job.revision,
                    step = job::step_name(&claimed.job.kind),
                    attempt = claimed.attempt,
                );
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = run_one(&kit, claimed.job, claimed.attempt).instrument(span) => (),
                }
                continue;
            }
            Ok(None) => (),
            Err(error) => tracing::error!(%error, "the queue cannot be read now"),
        }
        tokio::select! {
            () = retire.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => (),
            gone = changed.changed() => if gone.is_err() { return },
        }
    }
}

/// One try of one step, and its end in the ledger: what it found out, the next job and its own
/// outcome are one record.
pub async fn run_one(kit: &Kit, job: crate::store::event::Job, attempt: u32) {
    let step = job::step_name(&job.kind);
    let started = std::time::Instant::now();
    let ended = steps::run(kit, &job, attempt).await;
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
            let next = steps::next_try(kit, &job, attempt, &error, at);
            let cause = error.cause;
            match next {
                Some(due) => {
                    tracing::warn!(cause, %due, "step failed, will be tried again");
                    JobOutcome::Retry { due, cause }
                }
                None => {
                    tracing::error!(cause, "step failed for good: a person must look");
                    events = steps::given_up(kit, &job, &cause);
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
