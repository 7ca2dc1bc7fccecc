//! Deliveries as the events leave them: on the way, taken, proven, given up.

use jiff::Timestamp;

use crate::domain::uid::StudyUid;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::index::history;
use crate::store::key;
use crate::store::rows::DeliveryRow;
use crate::store::rows::DeliveryState;
use crate::store::rows::JobRow;
use crate::store::rows::ProofRow;
use crate::store::rows::RefusalRow;
use crate::store::txn::Txn;

/// Applies an event about a delivery; the others are not for this room.
pub fn apply(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    match event {
        Event::Delivered { study_uid, revision, artefact, destination, detail, unproven, at } => {
            let of = Of { study_uid, revision: *revision, artefact, destination };
            change(txn, of, *at, |row| {
                row.state = if *unproven { DeliveryState::Unproven } else { DeliveryState::Done };
                row.detail.clone_from(detail);
                row.cause.clear();
                row.at = *at;
            })?;
            said(txn, of, order, *at, "delivered", detail)
        }
        Event::DeliveryProven { study_uid, revision, artefact, destination, detail, at } => {
            let of = Of { study_uid, revision: *revision, artefact, destination };
            change(txn, of, *at, |row| {
                row.state = DeliveryState::Done;
                row.detail = format!("{}, {detail}", row.detail);
                row.cause.clear();
                row.at = *at;
            })?;
            said(txn, of, order, *at, "delivery proven", detail)
        }
        Event::DeliveryReplaced { study_uid, revision, artefact, destination, by, cause, at } => {
            let of = Of { study_uid, revision: *revision, artefact, destination };
            change(txn, of, *at, |row| {
                row.state = DeliveryState::Dropped;
                row.detail = format!("{by} goes in its place");
                row.cause.clone_from(cause);
                row.at = *at;
            })?;
            said(txn, of, order, *at, "delivery replaced", &format!("by {by}: {cause}"))
        }
        Event::KindRefused { destination, kind, why, at } => {
            let (destination, kind) = (destination.clone(), kind.clone());
            let key = key::refusal(&destination, &kind);
            txn.put(key, RefusalRow { destination, kind, why: why.clone(), at: *at });
            Ok(())
        }
        Event::ProofAsked { transaction_uid, job, at } => {
            let (job, asked_at) = (job.clone(), *at);
            let row = ProofRow { job, asked_at, is_kept: None, detail: String::new() };
            txn.put(key::proof(transaction_uid), row);
            Ok(())
        }
        Event::ProofAnswered { transaction_uid, is_kept, detail, .. } => {
            let key = key::proof(transaction_uid);
            let Some(mut row) = txn.get::<ProofRow>(&key)? else { return Ok(()) };
            row.is_kept = Some(*is_kept);
            row.detail.clone_from(detail);
            txn.put(key, row);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[derive(Clone, Copy)]
struct Of<'a> {
    study_uid: &'a StudyUid,
    revision: u32,
    artefact: &'a str,
    destination: &'a str,
}

fn change(
    txn: &mut Txn<'_>,
    of: Of<'_>,
    at: Timestamp,
    with: impl FnOnce(&mut DeliveryRow),
) -> Result<(), StoreError> {
    let key = key::delivery(of.study_uid, of.revision, of.artefact, of.destination);
    let mut row = txn.get::<DeliveryRow>(&key)?.unwrap_or_else(|| DeliveryRow {
        revision: of.revision,
        artefact: of.artefact.to_owned(),
        destination: of.destination.to_owned(),
        state: DeliveryState::Queued,
        detail: String::new(),
        attempts: 0,
        cause: String::new(),
        at,
    });
    with(&mut row);
    txn.put(key, row);
    Ok(())
}

fn said(
    txn: &mut Txn<'_>,
    of: Of<'_>,
    order: u64,
    at: Timestamp,
    what: &str,
    detail: &str,
) -> Result<(), StoreError> {
    let detail = format!("{} to {}: {detail}", of.artefact, of.destination);
    history(txn, of.study_uid, order, at, Some(of.revision), what, detail)
}

/// Keeps the row in step with the jobs that carry it out. What a finished job has come to, its
/// events say.
pub fn job(
    txn: &mut Txn<'_>,
    row: &JobRow,
    state: DeliveryState,
    at: Option<Timestamp>,
) -> Result<(), StoreError> {
    let (artefact, destination, proves) = match &row.job.kind {
        JobKind::Deliver { artefact, destination } => (artefact, destination, false),
        JobKind::Prove { artefact, destination } => (artefact, destination, true),
        _ => return Ok(()),
    };
    let (study_uid, revision) = (&row.job.study_uid, row.job.revision);
    let of = Of { study_uid, revision, artefact, destination };
    change(txn, of, at.unwrap_or(row.due), |delivery| {
        match (state, proves) {
            (DeliveryState::Done, false) if delivery.state == DeliveryState::Queued => {
                delivery.state = DeliveryState::Done;
            }
            (DeliveryState::Done, _) => {}
            (DeliveryState::Queued, true) => delivery.state = DeliveryState::Unproven,
            // Nobody waits for the proof any more.
            (DeliveryState::Dropped, true) => delivery.state = DeliveryState::Done,
            (state, _) if delivery.state != DeliveryState::Dropped => delivery.state = state,
            _ => {}
        }
        if !proves {
            delivery.attempts = row.attempts;
        }
        if state != DeliveryState::Done {
            delivery.cause.clone_from(&row.cause);
        }
        delivery.at = at.unwrap_or(delivery.at);
    })
}
