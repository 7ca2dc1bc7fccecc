//! What the removal of a study does to the rows.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::error::StoreError;
use crate::store::event::Receipt;
use crate::store::index::history;
use crate::store::key;
use crate::store::origins;
use crate::store::rows::AlertRow;
use crate::store::rows::ArtefactRow;
use crate::store::rows::GoingRow;
use crate::store::rows::JobRow;
use crate::store::rows::JobState;
use crate::store::rows::OpenRevision;
use crate::store::rows::RemovedRow;
use crate::store::rows::StepRow;
use crate::store::rows::StudyRow;
use crate::store::txn::Txn;

/// Digits of an instance in [`RemovedRow::known`]: half of its UID, half of its digest.
const KNOWN: usize = 32;

/// Whether the study is as it was when it was decided that it may go.
fn may_go(txn: &mut Txn<'_>, row: &StudyRow, instances: u32) -> Result<bool, StoreError> {
    let study = &row.study_uid;
    Ok(row.instances == instances
        && !txn.has(&key::open_revision(study))?
        && txn.keys(&key::study_jobs(study))?.is_empty())
}

/// The objects of a study go. Its list entry, results and history stay.
pub fn instances_removed(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    instances: u32,
    why: &str,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let Some(mut row) = txn.get::<StudyRow>(&key::study(study))? else { return Ok(()) };
    if instances == 0 || !may_go(txn, &row, instances)? {
        return Ok(());
    }
    let known = remove_instances(txn, study)?;
    let before = txn.get::<RemovedRow>(&key::removed(study))?;
    let known = before.map_or(String::new(), |before| before.known) + &known;
    txn.put(key::removed(study), RemovedRow { at, known });
    txn.put(key::going(study), GoingRow { study_uid: study.clone(), at, results: false });
    for key in txn.keys(&key::jobs_of(study))? {
        let job = txn.get::<JobRow>(&key)?;
        let ended = |job: &JobRow| matches!(job.state, JobState::Done | JobState::Dropped);
        if job.as_ref().is_some_and(ended) {
            txn.remove(key);
        }
    }
    // Its age goes on: results go by the time since the last change, which this is not.
    row.instances = 0;
    row.objects_removed_at = Some(at);
    txn.put(key::study(study), row);
    let detail = format!("{instances} instances: {why}");
    history(txn, study, order, at, None, "removed", detail)
}

/// All that is known of a study goes; the ledger keeps what happened.
pub fn study_forgotten(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    instances: u32,
    at: Timestamp,
) -> Result<(), StoreError> {
    let Some(row) = txn.get::<StudyRow>(&key::study(study))? else { return Ok(()) };
    if !may_go(txn, &row, instances)? {
        return Ok(());
    }
    remove_instances(txn, study)?;
    for key in txn.keys(&key::steps_of(study))? {
        let step = txn.get::<SopInstanceUid>(&key)?;
        if let Some(step) = step {
            let row = txn.get::<StepRow>(&key::step(&step))?;
            if row.is_none_or(|row| row.studies == [study.clone()]) {
                txn.remove(key::step(&step));
                txn.remove(key::step_instances(&step));
            }
        }
        txn.remove(key);
    }
    let of_study = [
        key::revisions(study),
        key::histories(study),
        key::artefacts_of(study),
        key::deliveries(study),
        key::alerts(study),
        key::jobs_of(study),
        key::comparisons(study),
    ];
    for alert in txn.keys(&key::alerts(study))? {
        if let Some(row) = txn.get::<AlertRow>(&alert)? {
            txn.remove(key::alert_place(&row.alert));
            txn.remove(key::unanswered(study, row.revision, &row.alert));
        }
    }
    for artefact in txn.keys(&key::artefacts_of(study))? {
        let row = txn.get::<ArtefactRow>(&artefact)?;
        if let Some(sop) = row.and_then(|row| row.sop_instance_uid) {
            txn.remove(key::own(&sop));
        }
    }
    for prefix in of_study {
        for key in txn.keys(&prefix)? {
            txn.remove(key);
        }
    }
    if let Some(patient) = txn.get::<String>(&key::patient_of(study))? {
        txn.remove(key::patient_study(&patient, study));
        txn.remove(key::patient_of(study));
    }
    for key in
        [key::study(study), key::by_change(row.order), key::count(study), key::removed(study)]
    {
        if txn.has(&key)? {
            txn.remove(key);
        }
    }
    txn.put(key::going(study), GoingRow { study_uid: study.clone(), at, results: true });
    Ok(())
}

/// Returns what is kept in mind of them.
fn remove_instances(txn: &mut Txn<'_>, study: &StudyUid) -> Result<String, StoreError> {
    let mut known = String::new();
    for row in txn.instances(study)? {
        known.push_str(&mark(&row.receipt));
        origins::looked_at(txn, study, &row.receipt.sop_instance_uid)?;
        txn.remove_instance(&row.receipt.sop_instance_uid);
    }
    for key in txn.keys(&key::origins(study))? {
        txn.remove(key);
    }
    Ok(known)
}

fn mark(receipt: &Receipt) -> String {
    let half = |text: &str| blake3::hash(text.as_bytes()).as_bytes()[..8].to_vec();
    let mut mark = String::with_capacity(KNOWN);
    for byte in [half(receipt.sop_instance_uid.as_str()), half(&receipt.digest)].concat() {
        let _ = write!(mark, "{byte:02x}");
    }
    mark
}

/// Notes that an instance came again after its removal: for the first of a revision.
pub fn came_again(
    txn: &mut Txn<'_>,
    receipt: &Receipt,
    open: &OpenRevision,
    order: u64,
) -> Result<(), StoreError> {
    if open.new_instances != 1 {
        return Ok(());
    }
    let study = &receipt.study_uid;
    let Some(removed) = txn.get::<RemovedRow>(&key::removed(study))? else { return Ok(()) };
    let mark = mark(receipt);
    let known = |mark: &str, digits: usize| {
        let marks = removed.known.as_bytes().chunks_exact(KNOWN);
        marks.filter(|known| known.starts_with(&mark.as_bytes()[..digits])).count() > 0
    };
    let bytes = match (known(&mark, KNOWN), known(&mark, KNOWN / 2)) {
        (true, _) => "the same bytes",
        (false, true) => "other bytes",
        (false, false) => return Ok(()),
    };
    let sop = &receipt.sop_instance_uid;
    let detail = format!("{sop} was removed and came again, with {bytes}");
    let (at, revision) = (receipt.received_at, Some(open.revision));
    history(txn, study, order, at, revision, "came again", detail)
}
