//! What the instances of a study are, as rows.

use jiff::Timestamp;

use crate::domain::agreement;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::ReportKind;
use crate::domain::origin::Origin;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::gone;
use crate::store::index;
use crate::store::key;
use crate::store::rows::ComparisonRow;
use crate::store::rows::Decided;
use crate::store::rows::InstanceRow;
use crate::store::rows::OpenRevision;
use crate::store::rows::OriginRow;
use crate::store::rows::OwnRow;
use crate::store::rows::StudyRow;
use crate::store::rows::WaitingRow;
use crate::store::txn::Txn;

/// An instance came into an open revision.
pub fn stored(txn: &mut Txn<'_>, receipt: &Receipt) {
    if !receipt.is_image_at_once() {
        put_undecided(txn, receipt, false);
    }
}

fn put_undecided(txn: &mut Txn<'_>, receipt: &Receipt, is_aside: bool) {
    let sop_instance_uid = receipt.sop_instance_uid.clone();
    let key = key::origin(&receipt.study_uid, &sop_instance_uid);
    txn.put(key, OriginRow { sop_instance_uid, decided: None, is_aside });
}

fn put_waiting(txn: &mut Txn<'_>, study_uid: &StudyUid, receipt: &Receipt) {
    let row = WaitingRow {
        study_uid: study_uid.clone(),
        sop_instance_uid: receipt.sop_instance_uid.clone(),
        since: receipt.received_at,
    };
    txn.put(key::waiting(study_uid, &receipt.sop_instance_uid), row);
}

/// Other bytes under a known UID: whose they are is looked at.
pub fn version(txn: &mut Txn<'_>, study_uid: &StudyUid, receipt: &Receipt) {
    put_waiting(txn, study_uid, receipt);
}

/// Counts an instance of no revision; the study stays as it is.
pub fn set_aside(txn: &mut Txn<'_>, receipt: &Receipt, order: u64) -> Result<(), StoreError> {
    let Receipt { study_uid, sop_instance_uid, received_at: at, .. } = receipt;
    let study = txn.get::<StudyRow>(&key::study(study_uid))?;
    let (Some(study), None) = (study, txn.instance(sop_instance_uid)?) else { return Ok(()) };
    let (receipt, revision) = (receipt.clone(), study.revision);
    put_undecided(txn, &receipt, true);
    put_waiting(txn, study_uid, &receipt);
    index::change_study(txn, study_uid, order, *at, |study| {
        study.instances += 1;
        study.last_received_at = *at;
    })?;
    if let Some(mut open) = txn.get::<OpenRevision>(&key::open_revision(study_uid))? {
        open.instances += 1;
        index::change_revision(txn, study_uid, open.revision, *at, |row| row.instances += 1)?;
        txn.put(key::open_revision(study_uid), open);
    }
    txn.put_instance(InstanceRow { receipt, revision, order, versions: Vec::new() });
    Ok(())
}

/// An artefact has this SOP Instance UID.
pub fn ours(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    revision: u32,
    file: &str,
    sop: &SopInstanceUid,
) {
    let row = OwnRow { study_uid: study_uid.clone(), revision, file: file.to_owned() };
    txn.put(key::own(sop), row);
}

/// What instances are. An image that was none before is of the open revision.
pub fn decided(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    let Event::OriginDecided { study_uid, instances, origin, why, by, at } = event else {
        return Ok(());
    };
    let mut known = 0;
    for sop in instances {
        let row = txn.instance(sop)?.filter(|row| row.receipt.study_uid == *study_uid);
        let Some(row) = row else { continue };
        known += 1;
        let key = key::origin(study_uid, sop);
        let found = txn.get::<OriginRow>(&key)?;
        let mut origin_row = found.unwrap_or_else(|| OriginRow {
            sop_instance_uid: sop.clone(),
            decided: None,
            is_aside: false,
        });
        if *origin == Origin::Image && !origin_row.is_taken() {
            origin_row.is_aside = !join(txn, &row, *at, order)?;
        }
        let decided = Decided { origin: *origin, why: why.clone(), by: by.clone(), at: *at };
        origin_row.decided = Some(decided);
        txn.put(key, origin_row);
        if *origin != Origin::Report {
            drop_comparisons(txn, study_uid, sop)?;
        }
        if *origin == Origin::Report && !by.is_empty() {
            // It is compared now.
            put_waiting(txn, study_uid, &row.receipt);
        } else if row.versions.is_empty() {
            looked_at(txn, study_uid, sop)?;
        }
    }
    if known == 0 || (*origin == Origin::Image && by.is_empty()) {
        return Ok(());
    }
    let by = if by.is_empty() { String::new() } else { format!(", by {by}") };
    let what = if known == 1 { "1 object is".to_owned() } else { format!("{known} objects are") };
    let detail = format!("{what} {}: {}{by}", origin.as_str(), why.text());
    index::history(txn, study_uid, order, *at, None, "origin", detail)?;
    index::change_study(txn, study_uid, order, *at, |_| ())
}

/// Nothing waits of an instance any more.
pub fn looked_at(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    sop: &SopInstanceUid,
) -> Result<(), StoreError> {
    let waiting = key::waiting(study_uid, sop);
    if txn.has(&waiting)? {
        txn.remove(waiting);
    }
    Ok(())
}

/// Takes an instance into the open revision. False: there is none.
fn join(
    txn: &mut Txn<'_>,
    row: &InstanceRow,
    at: Timestamp,
    order: u64,
) -> Result<bool, StoreError> {
    let study_uid = &row.receipt.study_uid;
    let open_key = key::open_revision(study_uid);
    let Some(mut open) = txn.get::<OpenRevision>(&open_key)? else { return Ok(false) };
    open.new_instances += 1;
    open.last_received_at = open.last_received_at.max(at);
    if open.calling_ae.is_empty() {
        open.calling_ae.clone_from(&row.receipt.from.calling_ae);
    }
    let (revision, new_instances) = (open.revision, open.new_instances);
    gone::came_again(txn, &row.receipt, &open, order)?;
    txn.put(open_key, open);
    index::change_revision(txn, study_uid, revision, at, |row| row.new_instances = new_instances)?;
    txn.put_instance(InstanceRow { revision, ..row.clone() });
    Ok(true)
}

/// Before there were origins, any structured report counted as a doctor's: of one that was compared
/// and never decided it is decided now, and what is none counts no more.
pub fn compared(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    comparison: &Comparison,
) -> Result<(), StoreError> {
    let agreement::Origin::Final { kind: ReportKind::Sr, id } = &comparison.origin else {
        return Ok(());
    };
    let Ok(sop) = SopInstanceUid::parse(id) else { return Ok(()) };
    let origin = txn.get::<OriginRow>(&key::origin(study_uid, &sop))?;
    let is_decided = origin.is_some_and(|row| row.decided.is_some());
    match txn.instance(&sop)? {
        Some(row) if !is_decided => put_waiting(txn, study_uid, &row.receipt),
        Some(_) | None => {}
    }
    Ok(())
}

/// What is no doctor's report says nothing of a reading.
fn drop_comparisons(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    sop: &SopInstanceUid,
) -> Result<(), StoreError> {
    for key in txn.keys(&key::comparisons(study_uid))? {
        let row = txn.get::<ComparisonRow>(&key)?;
        let is_of = |row: &ComparisonRow| {
            matches!(&row.comparison.origin,
                agreement::Origin::Final { id, .. } if id == sop.as_str())
        };
        if row.as_ref().is_some_and(is_of) {
            txn.remove(key);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agreement::ReadBy;
    use crate::domain::origin::Why;
    use crate::domain::uid::SopClassUid;
    use crate::store::testing::at;
    use crate::store::testing::open;
    use crate::store::testing::receipt;
    use crate::store::testing::sop;
    use crate::store::testing::study;

    /// The folder of a version that took every structured report for a doctor's.
    #[tokio::test]
    async fn what_once_counted_as_a_doctors_report_is_looked_at_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut report = receipt(1, 1, "a");
        report.sop_class_uid = SopClassUid::parse("1.2.840.10008.5.1.4.1.1.88.33").unwrap();
        store.commit(vec![Event::InstanceStored { receipt: report }]).await.unwrap();
        let compared = Event::ReadingCompared {
            study_uid: study(1),
            revision: 1,
            comparison: Comparison {
                origin: agreement::Origin::Final {
                    kind: ReportKind::Sr,
                    id: sop(1, 1).as_str().to_owned(),
                },
                by: "PACS".to_owned(),
                read_by: ReadBy { model: "m".into(), prompt: "p/1".into(), scanner: "s".into() },
                findings: Vec::new(),
            },
            at: at(1),
        };
        store.commit(vec![compared.clone()]).await.unwrap();
        let waiting = store.waiting().unwrap();
        assert_eq!(waiting.len(), 1, "{waiting:?}");
        assert_eq!(store.comparisons(&study(1)).unwrap().len(), 1);
        let decided = Event::OriginDecided {
            study_uid: study(1),
            instances: vec![sop(1, 1)],
            origin: Origin::Derived,
            why: Why::Result,
            by: String::new(),
            at: at(2),
        };
        store.commit(vec![decided]).await.unwrap();
        assert!(store.waiting().unwrap().is_empty());
        assert!(store.comparisons(&study(1)).unwrap().is_empty(), "it says nothing of the reading");
        store.commit(vec![compared]).await.unwrap();
        assert!(store.waiting().unwrap().is_empty(), "it was decided");
    }
}
