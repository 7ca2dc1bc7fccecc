//! Whether a destination keeps what it took: asked until it says so.

use jiff::Timestamp;

use crate::deliver;
use crate::deliver::pacs::Proven;
use crate::dicom::storage_commitment::Outcome;
use crate::domain::uid::TransactionUid;
use crate::pipeline::delivering::undelivered;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::way::Way;
use crate::store::event::Event;
use crate::store::event::JobKind;

/// Tries after which an archive that took an object and does not show it is shown to a person: some
/// hours.
const TRIES_MAX: u32 = 12;

/// One try to have it shown that the destination keeps an artefact. A second run asks again.
///
/// - `attempt`: which one, from 1; each question has a transaction of its own.
pub async fn prove(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
    attempt: u32,
) -> Result<Vec<Event>, StepError> {
    let gone = || StepError::lasting(format!("{destination} is not in the configuration any more"));
    for earlier in 1..attempt {
        if let Some(end) = heard(way, artefact, destination, earlier)? {
            return end.map_err(|how| not_kept(&how, attempt));
        }
    }
    let file = way.kit.store.result_path(way.study_uid, way.revision, artefact);
    let file = file.ok_or_else(|| StepError::lasting(format!("{artefact} is no result file")))?;
    let said = match destination.split_once('.') {
        Some(("pacs", name)) => {
            let pacs = way.kit.deliver.pacs.get(name).ok_or_else(gone)?;
            let transaction = transaction(way, artefact, destination, attempt);
            asked(way, artefact, destination, &transaction).await?;
            deliver::pacs::prove(pacs, &file, &transaction).await
        }
        Some(("stow", name)) => {
            let stow = way.kit.deliver.stow.get(name).ok_or_else(gone)?;
            deliver::stow::prove(stow, &file).await
        }
        _ => return Err(gone()),
    };
    match said.map_err(undelivered)? {
        Proven::Yes { how } => Ok(vec![proven(way, artefact, destination, how)]),
        Proven::No { how } => Err(not_kept(how, attempt)),
        // It may have called while we waited on the association.
        Proven::Asked => match heard(way, artefact, destination, attempt)? {
            Some(end) => end.map_err(|how| not_kept(&how, attempt)),
            None => Err(StepError::passing("the archive was asked and has not answered yet")),
        },
        Proven::NotOffered => {
            let detail = "by its status alone: the archive offers no proof";
            Ok(vec![proven(way, artefact, destination, detail)])
        }
    }
}

/// In the ledger before the archive can call.
async fn asked(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
    transaction: &TransactionUid,
) -> Result<(), StepError> {
    let (artefact, destination) = (artefact.to_owned(), destination.to_owned());
    let at = way.kit.clock.now();
    let job =
        job::job(JobKind::Prove { artefact, destination }, way.study_uid, way.revision, at).id;
    let asked = Event::ProofAsked { transaction_uid: transaction.clone(), job, at };
    way.kit.store.commit(vec![asked]).await.map_err(StepError::passing)
}

/// What the archive has reported on the question of a try: that it has it, or why not.
fn heard(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
    attempt: u32,
) -> Result<Option<Result<Vec<Event>, String>>, StepError> {
    let transaction = transaction(way, artefact, destination, attempt);
    let row = way.kit.store.proof(&transaction).map_err(StepError::passing)?;
    Ok(row.and_then(|row| {
        Some(match row.is_kept? {
            true => Ok(vec![proven(way, artefact, destination, &row.detail)]),
            false => Err(row.detail),
        })
    }))
}

fn not_kept(how: &str, attempt: u32) -> StepError {
    let cause = format!("the archive took it and does not have it ({how})");
    match attempt < TRIES_MAX {
        true => StepError::passing(cause),
        false => StepError::lasting(cause),
    }
}

fn transaction(way: &Way<'_>, artefact: &str, destination: &str, attempt: u32) -> TransactionUid {
    let (study, revision) = (way.study_uid.as_str(), way.revision.to_string());
    let attempt = attempt.to_string();
    TransactionUid::derived(&["proof", study, &revision, artefact, destination, &attempt])
}

fn proven(way: &Way<'_>, artefact: &str, destination: &str, detail: &str) -> Event {
    Event::DeliveryProven {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        artefact: artefact.to_owned(),
        destination: destination.to_owned(),
        detail: detail.to_owned(),
        at: way.kit.clock.now(),
    }
}

/// What an archive reports of the one object that it was asked about.
pub fn answered(outcome: &Outcome, at: Timestamp) -> Event {
    let is_kept = outcome.failed.is_empty() && !outcome.committed.is_empty();
    let detail = match outcome.failed.first() {
        Some((_, reason)) => format!("storage commitment: failure reason {:04X}H", *reason as u16),
        None => "storage commitment".to_owned(),
    };
    Event::ProofAnswered { transaction_uid: outcome.transaction_uid.clone(), is_kept, detail, at }
}
