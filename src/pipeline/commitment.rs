//! Storage commitment: what is kept for good, and the report of it on an association of our own.

use jiff::SignedDuration;

use crate::deliver::backoff::Schedule;
use crate::dicom::status::Status;
use crate::dicom::storage_commitment;
use crate::dicom::storage_commitment::Config;
use crate::dicom::storage_commitment::FailureReason;
use crate::dicom::storage_commitment::Outcome;
use crate::dicom::storage_scu::Target;
use crate::dicom::tls_client;
use crate::domain::uid::TransactionUid;
use crate::pipeline::job::StepError;
use crate::pipeline::way::Kit;
use crate::store::CommitmentRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;

/// How often a requester is called that cannot be reached.
pub fn schedule(config: &Config) -> Schedule {
    Schedule {
        first: SignedDuration::from_secs(10),
        cap: SignedDuration::from_mins(10),
        give_up_after: SignedDuration::from_hours(config.give_up_hours.min(720) as i64),
    }
}

/// Looks each instance up: its receipt is in the ledger, of this class, and its bytes are kept.
/// Blocking: reads as many rows and file sizes as instances were asked for.
pub fn outcome(store: &Store, row: &CommitmentRow) -> Result<Outcome, StoreError> {
    let (mut committed, mut failed) = (Vec::new(), Vec::new());
    for reference in &row.references {
        let (class, instance) = reference;
        let reason = match store.instance(instance)? {
            _ if row.is_duplicate => Some(FailureReason::DuplicateTransaction),
            None => Some(FailureReason::NoSuchInstance),
            Some(found) if found.receipt.sop_class_uid != *class => {
                Some(FailureReason::ClassInstanceConflict)
            }
            Some(found) if !store.is_kept(&found) => Some(FailureReason::ProcessingFailure),
            Some(_) => None,
        };
        match reason {
            Some(reason) => failed.push((reference.clone(), reason)),
            None => committed.push(reference.clone()),
        }
    }
    Ok(Outcome { transaction_uid: row.transaction_uid.clone(), committed, failed })
}

/// [`outcome`], where blocking is allowed.
pub async fn look_up(store: &Store, row: CommitmentRow) -> Result<Outcome, StoreError> {
    // With relaxed durability some of it may not be synced yet.
    store.settled().await?;
    let store = store.clone();
    let looked = tokio::task::spawn_blocking(move || outcome(&store, &row)).await;
    looked.unwrap_or(Err(StoreError::Closed))
}

/// What the ledger keeps of a report that was taken.
pub fn reported(kit: &Kit, row: &CommitmentRow, counts: (u32, u32), detail: String) -> Event {
    let (committed, failed) = counts;
    let label = if failed == 0 { "kept" } else { "failed" };
    metrics::counter!("prelim_commitments_total", "outcome" => label).increment(1);
    tracing::info!(
        requester = row.from.calling_ae,
        transaction = %row.transaction_uid,
        committed,
        failed,
        detail,
        "storage commitment reported"
    );
    Event::CommitmentReported {
        transaction_uid: row.transaction_uid.clone(),
        request: row.request.clone(),
        study_uid: row.study_uid.clone(),
        committed,
        failed,
        detail,
        at: kit.clock.now(),
    }
}

pub fn counts(outcome: &Outcome) -> (u32, u32) {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    (count(outcome.committed.len()), count(outcome.failed.len()))
}

/// Calls the requester and reports. A second run reports the same again, which requesters take:
/// the transaction is known to them or over.
pub async fn report(
    kit: &Kit,
    transaction_uid: &TransactionUid,
    request: &str,
) -> Result<Vec<Event>, StepError> {
    let row = kit.store.commitment(transaction_uid, request).map_err(StepError::passing)?;
    let Some(row) = row.filter(|row| row.reported_at.is_none()) else { return Ok(Vec::new()) };
    let Some(peer) = kit.commitment.address_of(&row.from.calling_ae) else {
        let ae = &row.from.calling_ae;
        return Err(StepError::lasting(format!(
            "no address of the requester {ae} is configured: add it to [commitment.peers]"
        )));
    };
    let outcome = look_up(&kit.store, row.clone()).await.map_err(StepError::passing)?;
    let target = Target {
        ae_title: peer.ae_title.clone(),
        calling_ae: kit.ae_title.clone(),
        address: peer.address.clone(),
        tls: tls_client::read(peer.tls.as_ref()).await.map_err(StepError::passing)?,
    };
    let timeouts = kit.commitment.timeouts();
    let status = storage_commitment::report(&target, &outcome, &timeouts).await;
    // Whatever it is, the requester's people may put it right meanwhile.
    match status.map_err(StepError::passing)? {
        Status::SUCCESS => {
            let detail = format!("called at {}", peer.address);
            Ok(vec![reported(kit, &row, counts(&outcome), detail)])
        }
        status => Err(StepError::passing(format!("the requester answered {status}"))),
    }
}
