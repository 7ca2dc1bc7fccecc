//! What the events of services beside storage do to the rows: commitments, performed procedure
//! steps, and what is known of each source.

use jiff::Timestamp;

use crate::domain::uid::SopInstanceUid;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::StepState;
use crate::store::index::history;
use crate::store::key;
use crate::store::rows::CommitmentRow;
use crate::store::rows::OpenRevision;
use crate::store::rows::SourceRow;
use crate::store::rows::StepRow;
use crate::store::txn::Txn;

/// Studies of a source whose pauses are remembered.
const PAUSES_MAX: usize = 200;
/// A longer time between two instances is no pause of a sender but a later addition.
const PAUSE_MS_MAX: u64 = 3_600_000;
/// Hours of activity that are remembered: six weeks.
const HOURS_MAX: u32 = 6 * 7 * 24;

/// A revision is closed: its sender's habits are known a little better.
pub fn source_sent(
    txn: &mut Txn<'_>,
    open: &OpenRevision,
    at: Timestamp,
) -> Result<(), StoreError> {
    if open.new_instances == 0 || open.calling_ae.is_empty() {
        return Ok(());
    }
    let key = key::source(&open.calling_ae);
    let mut row = txn.get::<SourceRow>(&key)?.unwrap_or_else(|| SourceRow {
        calling_ae: open.calling_ae.clone(),
        pauses_ms: Vec::new(),
        active_hours: Vec::new(),
        first_at: open.first_received_at,
        last_at: open.last_received_at,
        studies: 0,
    });
    let pauses = [open.pause_before_ms, Some(open.longest_pause_ms)];
    row.pauses_ms.extend(pauses.into_iter().flatten().filter(|ms| *ms <= PAUSE_MS_MAX));
    let too_many = row.pauses_ms.len().saturating_sub(PAUSES_MAX);
    row.pauses_ms.drain(..too_many);
    for time in [open.first_received_at, open.last_received_at] {
        let hour = u32::try_from(time.as_second() / 3600).unwrap_or(0);
        if let Err(place) = row.active_hours.binary_search(&hour) {
            row.active_hours.insert(place, hour);
        }
    }
    let newest = row.active_hours.last().copied().unwrap_or(0);
    row.active_hours.retain(|hour| hour + HOURS_MAX > newest);
    row.last_at = row.last_at.max(open.last_received_at).min(at.max(open.last_received_at));
    row.studies += 1;
    txn.put(key, row);
    Ok(())
}

pub fn commitment_requested(
    txn: &mut Txn<'_>,
    event: &Event,
    order: u64,
) -> Result<(), StoreError> {
    let Event::CommitmentRequested { transaction_uid, request, study_uid, from, references, at } =
        event
    else {
        return Ok(());
    };
    let key = key::commitment(transaction_uid, request);
    let before = txn.get::<CommitmentRow>(&key)?;
    let others = txn.keys(&key::commitments(transaction_uid))?;
    let is_duplicate = match &before {
        Some(before) => before.is_duplicate,
        None => !others.is_empty(),
    };
    let row = CommitmentRow {
        transaction_uid: transaction_uid.clone(),
        request: request.clone(),
        study_uid: study_uid.clone(),
        from: from.clone(),
        references: references.clone(),
        requests: before.map_or(0, |before| before.requests) + 1,
        requested_at: *at,
        reported_at: None,
        committed: 0,
        failed: 0,
        detail: String::new(),
        is_duplicate,
    };
    txn.put(key, row);
    let detail = format!("{} instances, by {}", references.len(), from.calling_ae);
    history(txn, study_uid, order, *at, None, "commitment requested", detail)
}

pub fn commitment_reported(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    let Event::CommitmentReported {
        transaction_uid,
        request,
        study_uid,
        committed,
        failed,
        detail,
        at,
    } = event
    else {
        return Ok(());
    };
    let key = key::commitment(transaction_uid, request);
    let Some(mut row) = txn.get::<CommitmentRow>(&key)? else { return Ok(()) };
    row.references.clear();
    row.reported_at = Some(*at);
    row.committed = *committed;
    row.failed = *failed;
    row.detail.clone_from(detail);
    let detail = format!("{committed} kept, {failed} not, to {}: {detail}", row.from.calling_ae);
    txn.put(key, row);
    history(txn, study_uid, order, *at, None, "commitment reported", detail)
}

pub fn step_created(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    let Event::StepCreated { step_uid, studies, modality, instances, from, at } = event else {
        return Ok(());
    };
    if txn.has(&key::step(step_uid))? {
        return Ok(());
    }
    let row = StepRow {
        step_uid: step_uid.clone(),
        studies: studies.clone(),
        modality: modality.clone(),
        state: StepState::InProgress,
        instances: instances.len() as u32,
        calling_ae: from.calling_ae.clone(),
        created_at: *at,
        changed_at: *at,
    };
    txn.put(key::step(step_uid), row);
    txn.put(key::step_instances(step_uid), instances.clone());
    for study in studies {
        txn.put(key::step_of(study, step_uid), step_uid.clone());
        let detail = format!("{modality} step begun at {}", from.calling_ae);
        history(txn, study, order, *at, None, "procedure step", detail)?;
    }
    Ok(())
}

pub fn step_changed(
    txn: &mut Txn<'_>,
    step: &SopInstanceUid,
    state: StepState,
    instances: Option<&[SopInstanceUid]>,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let Some(mut row) = txn.get::<StepRow>(&key::step(step))? else { return Ok(()) };
    if row.state.is_over() {
        return Ok(());
    }
    let ended = state.is_over();
    row.state = state;
    if let Some(instances) = instances {
        row.instances = instances.len() as u32;
        txn.put(key::step_instances(step), instances.to_vec());
    }
    row.changed_at = at;
    txn.put(key::step(step), row.clone());
    for study in row.studies.iter().filter(|_| ended) {
        let detail = format!("{}, {} instances", state.as_str(), row.instances);
        history(txn, study, order, at, None, "procedure step", detail)?;
    }
    Ok(())
}
