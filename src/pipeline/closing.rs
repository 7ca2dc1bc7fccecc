//! Closes studies whose last image is there: what is expected of each, from whom, and the end of
//! the wait.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::assemble;
use crate::assemble::Arrivals;
use crate::assemble::Expected;
use crate::assemble::Missing;
use crate::assemble::Verdict;
use crate::assemble::required;
use crate::assemble::required::Series;
use crate::domain::uid::StudyUid;
use crate::pipeline::job;
use crate::pipeline::telling;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store::OpenRevision;
use crate::store::StepRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::Shortfall;
use crate::store::event::StudyState;
use crate::worker::Object;

/// Longest pause between two looks at the open studies.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Commits that come close together are one reason to look.
const TOGETHER: Duration = Duration::from_millis(50);
/// The pause after a commit is at least so many times as long as a look takes: with many open
/// studies, looks stay a small part of what the node does.
const PAUSE_FOR_LOOK: u32 = 20;

/// Events of one commit.
const EVENTS_AT_ONCE: usize = 300;

/// Closes studies until the node stops.
pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let mut changed = kit.store.changed();
    let mut known = Known::default();
    while !stop.is_cancelled() {
        let began = Instant::now();
        let wait = match close_complete_studies(&kit, &mut known).await {
            Ok(next) => next.map_or(LOOK_AGAIN, |at| until(kit.clock.now(), at)).min(LOOK_AGAIN),
            Err(StoreError::Remaking { .. }) => LOOK_AGAIN * 2,
            Err(error) => {
                tracing::error!(%error, "studies cannot be closed now");
                LOOK_AGAIN * 4
            }
        };
        let together = (began.elapsed() * PAUSE_FOR_LOOK).clamp(TOGETHER, LOOK_AGAIN);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait.max(Duration::from_millis(20))) => (),
            gone = changed.changed() => {
                if gone.is_err() {
                    return;
                }
                let _ = tokio::time::timeout(together, stop.cancelled()).await;
            }
        }
    }
}

fn until(now: Timestamp, at: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default()
}

/// What was found out about open revisions, so that it is not found out at each look.
#[derive(Default)]
struct Known(HashMap<StudyUid, Found>);

#[derive(Default)]
struct Found {
    /// Of the study, when this was found out.
    instances: u32,
    /// Last change of its procedure steps.
    steps_at: Option<Timestamp>,
    listed: Option<Listed>,
    unmet: Option<Option<Missing>>,
}

/// Of the instances that procedure steps list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Listed {
    /// Here, in another study of the step.
    others: u32,
    /// Not here; of a step over several studies nobody says whose they are.
    missing: u32,
    /// Whether any came with the open revision.
    with_this: bool,
}

impl Known {
    /// Empty again once something has come.
    fn of(&mut self, open: &OpenRevision, steps_at: Option<Timestamp>) -> &mut Found {
        let found = self.0.entry(open.study_uid.clone()).or_default();
        if (found.instances, found.steps_at) != (open.instances, steps_at) {
            *found = Found { instances: open.instances, steps_at, ..Found::default() };
        }
        found
    }
}

/// Closes what is complete; returns when the next one will be.
async fn close_complete_studies(
    kit: &Kit,
    known: &mut Known,
) -> Result<Option<Timestamp>, StoreError> {
    let mut next: Option<Timestamp> = None;
    let open_now = kit.store.open_revisions()?;
    let mut quiet: HashMap<&str, u64> = HashMap::new();
    let mut events = Vec::new();
    for open in &open_now {
        let quiet_s = match quiet.get(open.calling_ae.as_str()) {
            Some(quiet_s) => *quiet_s,
            None => {
                let source = kit.store.source(&open.calling_ae)?;
                let pauses = source.map(|source| source.pauses_ms).unwrap_or_default();
                let quiet_s = assemble::quiet_period_s(&pauses, &kit.assemble);
                quiet.insert(&open.calling_ae, quiet_s);
                quiet_s
            }
        };
        let now = kit.clock.now();
        let steps = kit.store.steps(&open.study_uid)?;
        let goes_on = goes_on(&steps, kit.assemble.cap_s, now);
        let mut arrivals = Arrivals {
            first_at: open.first_received_at,
            last_at: open.last_received_at,
            expected: expected(kit, open, &steps, known)?,
            unmet: None,
            goes_on,
        };
        let mut verdict = assemble::judge(&arrivals, quiet_s, &kit.assemble, now);
        if matches!(verdict, Verdict::Complete { missing: None, .. }) {
            arrivals.unmet = unmet(kit, open, known).await?;
            verdict = assemble::judge(&arrivals, quiet_s, &kit.assemble, now);
        }
        match verdict {
            Verdict::Wait { until } => next = Some(next.map_or(until, |n| n.min(until))),
            Verdict::Complete { reason, missing } => {
                events.extend(close_with(kit, open, reason, missing));
            }
        }
        // After a burst many are due at once: one sync for all of them, not one for each.
        if events.len() >= EVENTS_AT_ONCE {
            kit.store.commit(std::mem::take(&mut events)).await?;
        }
    }
    if !events.is_empty() {
        kit.store.commit(events).await?;
    }
    let is_open = |study: &StudyUid| open_now.iter().any(|open| open.study_uid == *study);
    if known.0.len() > open_now.len() {
        known.0.retain(|study, _| is_open(study));
    }
    Ok(next)
}

/// Whether a modality is still at it. A step that nobody has heard of for as long as a study may take is
/// one that nobody ended.
fn goes_on(steps: &[StepRow], cap_s: u64, now: Timestamp) -> bool {
    let cap = SignedDuration::from_secs(i64::try_from(cap_s).unwrap_or(i64::MAX));
    let is_heard = |step: &StepRow| now.duration_since(step.changed_at).abs() < cap;
    steps.iter().any(|step| !step.state.is_over() && is_heard(step))
}

/// What a modality says the study has, else what an archive counts. None where nobody says
/// anything, and where it was fulfilled before this revision: what comes on top is waited for as
/// any other instance.
fn expected(
    kit: &Kit,
    open: &OpenRevision,
    steps: &[StepRow],
    known: &mut Known,
) -> Result<Option<Expected>, StoreError> {
    let store = &kit.store;
    let instances: u32 = steps.iter().map(|step| step.instances).sum();
    if !steps.is_empty() && instances > 0 && steps.iter().all(|step| step.state.is_over()) {
        // What a step lists over several studies is not all of this one.
        let is_shared = steps.iter().any(|step| step.studies.len() > 1);
        let by = if is_shared { "MPPS over several studies" } else { "MPPS" }.to_owned();
        if !is_shared && open.instances < instances {
            // They cannot all be here; which ones are, is not asked at each arrival.
            return Ok(Some(Expected { instances, missing: instances - open.instances, by }));
        }
        let steps_at = steps.iter().map(|step| step.changed_at).max();
        let found = known.of(open, steps_at);
        // What comes to one of several studies counts for all of them.
        let listed = match found.listed.filter(|_| !is_shared) {
            Some(listed) => listed,
            None => *found.listed.insert(listed(store, open, steps)?),
        };
        let Listed { others, missing, with_this } = listed;
        let instances = instances.saturating_sub(others);
        return Ok((missing > 0 || with_this).then_some(Expected { instances, missing, by }));
    }
    let Some(count) = store.count(&open.study_uid)? else { return Ok(None) };
    let before = open.instances.saturating_sub(open.new_instances);
    // An archive that holds fewer than came is still receiving; one that holds no more than came
    // before this revision says nothing about it.
    let says = count.instances >= open.instances && count.instances > before;
    Ok(says.then(|| Expected {
        instances: count.instances,
        missing: count.instances - open.instances,
        by: count.by,
    }))
}

/// Which of the instances that the steps list are here.
fn listed(store: &Store, open: &OpenRevision, steps: &[StepRow]) -> Result<Listed, StoreError> {
    let mut listed = Listed::default();
    for step in steps {
        for sop in store.step_instances(&step.step_uid)? {
            match store.instance(&sop)? {
                Some(row) if row.receipt.study_uid == open.study_uid => {
                    listed.with_this |= row.revision == open.revision;
                }
                Some(_) => listed.others += 1,
                None => listed.missing += 1,
            }
        }
    }
    Ok(listed)
}

/// The rule that the study does not fulfil. Asked only when it would be closed otherwise: one
/// instance of each series is parsed, in a worker.
async fn unmet(
    kit: &Kit,
    open: &OpenRevision,
    known: &mut Known,
) -> Result<Option<Missing>, StoreError> {
    if kit.assemble.required.is_empty() {
        return Ok(None);
    }
    let steps_at = kit.store.steps(&open.study_uid)?.iter().map(|step| step.changed_at).max();
    let found = known.of(open, steps_at);
    if let Some(unmet) = &found.unmet {
        return Ok(unmet.clone());
    }
    let mut objects = HashMap::new();
    let rows = kit.store.instances(&open.study_uid)?;
    kit.store.filed(&open.study_uid).await?;
    for row in rows {
        let receipt = row.receipt;
        let sop_instance_uid = receipt.sop_instance_uid;
        let object = Object { object: receipt.object, sop_instance_uid };
        objects.entry(receipt.series_uid).or_insert(object);
    }
    let objects = objects.into_values().collect();
    let series: Vec<Series> = match kit.pool.inspect(kit.store.data(), objects).await {
        Ok((parsed, _)) => parsed
            .into_iter()
            .map(|one| Series {
                modality: one.instance.modality,
                study_description: one.attributes.study_description,
                series_description: one.instance.series_description,
            })
            .collect(),
        // The plan will meet the same and say so; no study waits for it here.
        Err(error) => {
            tracing::warn!(%error, "required series cannot be looked at");
            Vec::new()
        }
    };
    let unmet = required::unmet(&kit.assemble.required, &open.calling_ae, &series);
    found.unmet = Some(unmet.clone());
    Ok(unmet)
}

fn close_with(
    kit: &Kit,
    open: &OpenRevision,
    reason: String,
    missing: Option<Missing>,
) -> Vec<Event> {
    let (study_uid, revision, at) = (open.study_uid.clone(), open.revision, kit.clock.now());
    tracing::info!(%study_uid, revision, instances = open.instances, reason, "study complete");
    let mut events = closing(&study_uid, revision, open.instances, reason, at);
    if let Some(Missing { what, expected, received }) = missing {
        tracing::warn!(%study_uid, revision, expected, received, "images are missing: {what}");
        metrics::counter!("prelim_studies_incomplete_total").increment(1);
        let shortfall = Shortfall { what, expected, received };
        let study_uid = study_uid.clone();
        events.push(Event::InstancesMissing { study_uid, revision, shortfall, at });
        let way = Way { kit, study_uid: &open.study_uid, revision };
        events.extend(telling::raise_missing(&way));
    }
    events
}

/// Takes no more instances for this revision and begins its reading. Doing it twice is
/// harmless: the job's id is the same.
pub fn closing(
    study_uid: &StudyUid,
    revision: u32,
    instances: u32,
    reason: String,
    at: Timestamp,
) -> Vec<Event> {
    let study = || study_uid.clone();
    let to = StudyState::Ready;
    vec![
        Event::RevisionClosed {
            study_uid: study(),
            revision,
            instances,
            reason: reason.clone(),
            at,
        },
        Event::StateChanged { study_uid: study(), revision, to, reason, at },
        Event::JobEnqueued { job: job::job(JobKind::Plan, study_uid, revision, at) },
    ]
}

/// Closes a study at a person's word. None: no revision of it takes instances now.
pub async fn close_by_word(
    store: &Store,
    study_uid: &StudyUid,
    reason: String,
    at: Timestamp,
) -> Result<Option<u32>, StoreError> {
    let open = store.open_revisions()?.into_iter().find(|open| open.study_uid == *study_uid);
    let Some(open) = open else { return Ok(None) };
    tracing::info!(%study_uid, revision = open.revision, "study closed by a person");
    store.commit(closing(study_uid, open.revision, open.instances, reason, at)).await?;
    Ok(Some(open.revision))
}
