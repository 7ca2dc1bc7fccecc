//! What an event does to the rows: one function, the same when it happens and when it is replayed.

use std::collections::HashSet;

use jiff::Timestamp;

use crate::domain::agreement::Comparison;
use crate::domain::agreement::Origin;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Presence;
use crate::domain::identities;
use crate::domain::priority::Priority;
use crate::domain::priority::Rank;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::store::alerts;
use crate::store::deliveries;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Job;
use crate::store::event::JobKind;
use crate::store::event::JobOutcome;
use crate::store::event::Receipt;
use crate::store::event::StudyState;
use crate::store::gone;
use crate::store::key;
use crate::store::origins;
use crate::store::rows::ArtefactRow;
use crate::store::rows::CanaryRow;
use crate::store::rows::ComparisonRow;
use crate::store::rows::CountRow;
use crate::store::rows::DamageRow;
use crate::store::rows::DeferredRow;
use crate::store::rows::DeliveryState;
use crate::store::rows::HistoryRow;
use crate::store::rows::InstanceRow;
use crate::store::rows::JobRow;
use crate::store::rows::JobState;
use crate::store::rows::OpenRevision;
use crate::store::rows::RevisionRow;
use crate::store::rows::StudyRow;
use crate::store::rows::Whose;
use crate::store::services;
use crate::store::txn::Txn;
use crate::store::usage;

/// Place of an event in the order of all: number of its record, then its place in the record.
pub fn order(record: u64, event: usize) -> u64 {
    record << 20 | (event as u64 & 0xf_ffff)
}

/// Applies one event. Depends on the rows and the event alone, never on the time or the disk:
/// replaying the ledger gives the same rows. What contradicts the rows (a job that is unknown, a
/// revision that is closed already) changes nothing and is no error.
pub fn apply(txn: &mut Txn<'_>, event: &Event, order: u64) -> Result<(), StoreError> {
    match event {
        Event::InstanceStored { receipt } => instance_stored(txn, receipt, order),
        Event::InstanceRepeated { sop_instance_uid, same_bytes, from, at, .. } => {
            if *same_bytes {
                return Ok(());
            }
            let Some(row) = txn.instance(sop_instance_uid)? else { return Ok(()) };
            let study_uid = &row.receipt.study_uid;
            let detail = format!(
                "{} sent {sop_instance_uid} again with other bytes; the first is kept",
                from.calling_ae
            );
            history(txn, study_uid, order, *at, None, "conflict", detail)?;
            change_study(txn, study_uid, order, *at, |study| study.conflicts += 1)
        }
        Event::InstanceSetAside { receipt } => origins::set_aside(txn, receipt, order),
        Event::IdentityDiffers { study_uid, revision, elements, at } => {
            change_study(txn, study_uid, order, *at, |study| {
                let (elements, revision) = (elements.clone(), *revision);
                study.whose = Some(Whose { elements, revision, settled: None });
            })?;
            let detail = identities::reason(elements);
            history(txn, study_uid, order, *at, Some(*revision), "identity", detail)
        }
        Event::IdentitySettled { study_uid, settled, reason, at } => {
            change_study(txn, study_uid, order, *at, |study| {
                if let Some(whose) = &mut study.whose {
                    whose.settled = Some(settled.clone());
                }
            })?;
            let colon = if reason.is_empty() { "" } else { ": " };
            let detail = format!("settled by {}{colon}{reason}", settled.by);
            history(txn, study_uid, order, *at, None, "identity", detail)
        }
        Event::InstancesLookedAt { study_uid, instances, .. } => {
            instances.iter().try_for_each(|sop| origins::looked_at(txn, study_uid, sop))
        }
        Event::OriginDecided { .. } => origins::decided(txn, event, order),
        Event::InstanceAdopted { receipt } => instance_adopted(txn, receipt, order),
        Event::VersionStored { receipt } => version_stored(txn, receipt, order),
        Event::InstanceDeferred { receipt } => {
            let row = DeferredRow { order, receipt: receipt.clone() };
            txn.put_new(key::deferred(order), row);
            Ok(())
        }
        Event::InstancesRemoved { study_uid, instances, reason, at, .. } => {
            gone::instances_removed(txn, study_uid, *instances, reason, *at, order)
        }
        Event::StudyForgotten { study_uid, instances, at, .. } => {
            gone::study_forgotten(txn, study_uid, *instances, *at)
        }
        Event::FilesRemoved { study_uid, .. } => {
            txn.remove(key::going(study_uid));
            Ok(())
        }
        Event::DeferredDecided { order } => {
            txn.remove(key::deferred(*order));
            Ok(())
        }
        Event::RevisionOpened { study_uid, revision, at } => {
            open_revision(txn, study_uid, *revision, *at, order)
        }
        Event::RevisionClosed { study_uid, revision, reason, at, .. } => {
            close_revision(txn, study_uid, *revision, reason, *at, order)
        }
        Event::StateChanged { study_uid, revision, to, reason, at } => {
            change_state(txn, study_uid, *revision, *to, reason, *at, order)
        }
        Event::StudyDescribed { study_uid, revision, modality, examination, at } => {
            change_revision(txn, study_uid, *revision, *at, |row| {
                row.modality.clone_from(modality);
                row.examination.clone_from(examination);
            })?;
            change_study(txn, study_uid, order, *at, |study| {
                if study.revision == *revision {
                    study.modality.clone_from(modality);
                    study.examination.clone_from(examination);
                }
            })
        }
        Event::Assessed {
            study_uid,
            revision,
            outcome,
            urgency,
            findings,
            patient,
            models_differ,
            at,
        } => {
            // Earlier versions wrote "routine" where nothing was assessed.
            let is_said = |urgency: &Urgency| outcome == "read" || *urgency > Urgency::Routine;
            let urgency = urgency.filter(is_said);
            change_revision(txn, study_uid, *revision, *at, |row| {
                row.outcome = Some(outcome.clone());
                row.urgency = urgency;
                row.findings.clone_from(findings);
            })?;
            change_study(txn, study_uid, order, *at, |study| {
                if outcome == Outcome::HELD {
                    // No reading: what was read before still stands.
                    study.outcome.get_or_insert_with(|| outcome.clone());
                } else if study.assessed_revision.is_none_or(|assessed| assessed <= *revision) {
                    study.assessed_revision = Some(*revision);
                    study.outcome = Some(outcome.clone());
                    study.urgency = urgency;
                    study.findings.clone_from(findings);
                    study.models_differ = *models_differ;
                }
            })?;
            if let Some(patient) = patient
                && txn.has(&key::study(study_uid))?
            {
                txn.put(key::patient_study(patient, study_uid), study_uid.clone());
                txn.put(key::patient_of(study_uid), patient.clone());
            }
            let detail = format!("{outcome}, {}", urgency.map_or("not assessed", Urgency::as_str));
            history(txn, study_uid, order, *at, Some(*revision), "assessed", detail)
        }
        Event::JobEnqueued { job } => job_enqueued(txn, job, order),
        Event::JobStarted { id, .. } => {
            let Some(mut row) = txn.get::<JobRow>(&key::job(id))? else { return Ok(()) };
            if row.state.is_open() {
                row.state = JobState::Running;
                row.attempts += 1;
                row.cut_off += 1;
                put_job(txn, &row);
                sending(txn, &row, None)?;
            }
            Ok(())
        }
        Event::JobEnded { id, outcome, at } => job_ended(txn, id, outcome, *at, order),
        Event::JobLeft { id, at } => {
            let Some(mut row) = txn.get::<JobRow>(&key::job(id))? else { return Ok(()) };
            if row.state == JobState::Running {
                row.state = JobState::Waiting;
                row.due = *at;
                row.attempts = row.attempts.saturating_sub(1);
                row.cut_off = 0;
                put_job(txn, &row);
                txn.job_ended(id);
                sending(txn, &row, None)?;
            }
            Ok(())
        }
        Event::PrioritySet { study_uid, priority, by, at } => {
            priority_set(txn, study_uid, *priority, by, *at, order)
        }
        Event::JobRetried { id, at, .. } => job_retried(txn, id, *at, order),
        Event::JobCancelled { id, by, at } => {
            let cause = format!("cancelled by {by}");
            job_ended(txn, id, &JobOutcome::Dropped { cause }, *at, order)
        }
        Event::ArtefactWritten {
            study_uid,
            revision,
            file,
            media_type,
            size_bytes,
            digest,
            sop_instance_uid,
            at,
        } => {
            if let Some(sop) = sop_instance_uid {
                origins::ours(txn, study_uid, *revision, file, sop);
            }
            let row = ArtefactRow {
                revision: *revision,
                file: file.clone(),
                media_type: media_type.clone(),
                size_bytes: *size_bytes,
                digest: digest.clone(),
                sop_instance_uid: sop_instance_uid.clone(),
                at: *at,
            };
            txn.put(key::artefact(study_uid, *revision, file), row);
            history(txn, study_uid, order, *at, Some(*revision), "artefact", file.clone())
        }
        Event::Delivered { .. }
        | Event::DeliveryProven { .. }
        | Event::DeliveryReplaced { .. }
        | Event::KindRefused { .. }
        | Event::ProofAsked { .. }
        | Event::ProofAnswered { .. } => deliveries::apply(txn, event, order),
        Event::AlertRaised { .. }
        | Event::AlertEscalated { .. }
        | Event::AlertHeld { .. }
        | Event::AlertSent { .. }
        | Event::AlertJoined { .. }
        | Event::AlertAcknowledged { .. }
        | Event::AlertDeclined { .. }
        | Event::AlertExhausted { .. }
        | Event::AlertBegunAgain { .. }
        | Event::AlertDoubted { .. }
        | Event::AlertClosed { .. }
        | Event::AlertWithdrawn { .. } => alerts::apply(txn, event, order),
        Event::SentOut { study_uid, revision, at, .. } => {
            history(txn, study_uid, order, *at, Some(*revision), "sent out", sent_out(event))
        }
        Event::CommitmentRequested { .. } => services::commitment_requested(txn, event, order),
        Event::CommitmentReported { .. } => services::commitment_reported(txn, event, order),
        Event::StepCreated { .. } => services::step_created(txn, event, order),
        Event::StepChanged { step_uid, state, instances, at } => {
            services::step_changed(txn, step_uid, *state, instances.as_deref(), *at, order)
        }
        Event::InstancesCounted { study_uid, instances, by, at } => {
            let row = CountRow { instances: *instances, by: by.clone(), at: *at };
            txn.put(key::count(study_uid), row);
            let detail = format!("{by} holds {instances} instances");
            history(txn, study_uid, order, *at, None, "counted", detail)
        }
        Event::InstancesMissing { study_uid, revision, shortfall, at } => {
            change_study(txn, study_uid, order, *at, |study| {
                if study.revision == *revision {
                    study.shortfall = Some(shortfall.clone());
                }
            })?;
            let detail = shortfall.what.clone();
            history(txn, study_uid, order, *at, Some(*revision), "images missing", detail)
        }
        Event::CanaryMoved { canary, candidate, phase, why, by, at } => {
            let row = CanaryRow {
                candidate: candidate.clone(),
                phase: phase.clone(),
                since: *at,
                why: why.clone(),
                by: by.clone(),
            };
            txn.put(key::canary(canary), row);
            Ok(())
        }
        Event::ModelAsked { tier, modality, source, call, day, at, .. } => {
            usage::asked(txn, call, &usage::For { tier, modality, source }, *day, *at)
        }
        Event::ReadingCompared { study_uid, revision, comparison, at } => {
            if !txn.has(&key::study(study_uid))? {
                return Ok(());
            }
            let row = ComparisonRow {
                study_uid: study_uid.clone(),
                revision: *revision,
                comparison: comparison.clone(),
                at: *at,
            };
            txn.put_new(key::comparison(study_uid, order), row);
            origins::compared(txn, study_uid, comparison)?;
            let (what, detail) = said(comparison);
            history(txn, study_uid, order, *at, Some(*revision), what, detail)
        }
        Event::LedgerDamaged { what, jobs, alerts, at } => {
            for (place, what) in what.iter().enumerate() {
                let row = DamageRow { what: what.clone(), at: *at };
                txn.put_new(key::damage(order, place), row);
            }
            close_what_is_over(txn, jobs, alerts, *at, order)
        }
        Event::Accessed { study_uid, what, by, at } => match study_uid {
            Some(study) => {
                history(txn, study, order, *at, None, "access", format!("{what} by {by}"))
            }
            None => Ok(()),
        },
    }
}

/// After a part of the ledger was lost: what was not open any more when that was found.
///
/// - `jobs`, `alerts`: what was.
fn close_what_is_over(
    txn: &mut Txn<'_>,
    jobs: &[String],
    alerts: &[String],
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    const WHY: &str = "it was over; the ledger has lost the record of it";
    let (jobs, alerts): (HashSet<&String>, HashSet<&String>) =
        (jobs.iter().collect(), alerts.iter().collect());
    for key in txn.keys(key::OPEN_JOBS)? {
        let mut place = key.clone();
        place[0] = b'j';
        let is_open = jobs.contains(&key::text(&key[key::OPEN_JOBS.len()..]));
        if !is_open && let Some(row) = txn.get::<JobRow>(&place)? {
            let outcome = JobOutcome::Dropped { cause: WHY.to_owned() };
            job_ended(txn, &row.job.id, &outcome, at, order)?;
        }
    }
    for key in txn.keys(key::UNANSWERED)? {
        if !alerts.contains(&key::text(&key[key::UNANSWERED.len()..])) {
            alerts::is_over(txn, key, WHY, at)?;
        }
    }
    Ok(())
}

/// A comparison as the history shows it.
fn said(comparison: &Comparison) -> (&'static str, String) {
    let by = &comparison.by;
    match &comparison.origin {
        Origin::Feedback { verdict, .. } => {
            let keys: Vec<&str> = comparison.findings.iter().map(|f| f.key.as_str()).collect();
            ("feedback", format!("{}: {}, by {by}", keys.join(", "), verdict.as_str()))
        }
        Origin::Final { kind, id } => {
            let known = comparison.findings.iter().filter(|f| f.truth.is_some());
            let (mut all, mut differ) = (0, 0);
            for finding in known {
                all += 1;
                let called = finding.ours == Some(Presence::Present);
                differ += u32::from(finding.ours.is_some() && finding.truth != Some(called));
            }
            let detail =
                format!("{} {id} by {by}: {differ} of {all} findings differ", kind.as_str());
            ("final report", detail)
        }
    }
}

/// One line: what of a study went where, by the beginnings of its digests.
fn sent_out(event: &Event) -> String {
    let Event::SentOut { gateway, host, region, inside, pictures, prompt, bytes, .. } = event
    else {
        return String::new();
    };
    let begin = |digest: &String| digest.chars().take(12).collect::<String>();
    let place = match (*inside, region.as_str()) {
        (true, _) => "inside the building".to_owned(),
        (false, "") => "outside, no region stated".to_owned(),
        (false, region) => format!("outside, region {region}"),
    };
    let shown: Vec<String> = pictures.iter().map(begin).collect();
    format!(
        "pictures and a prompt, {bytes} bytes, to {gateway} at {host} ({place}); SHA-256 of the prompt {}, of the pictures {}",
        begin(prompt),
        shown.join(" ")
    )
}

pub(in crate::store) fn history(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    order: u64,
    at: Timestamp,
    revision: Option<u32>,
    what: &str,
    detail: String,
) -> Result<(), StoreError> {
    // One event may leave several lines: the next free place after its own.
    let mut place = order << 4;
    while txn.has(&key::history(study, place))? {
        place += 1;
    }
    let row = HistoryRow { at, revision, what: what.to_owned(), detail };
    txn.put_new(key::history(study, place), row);
    Ok(())
}

/// Changes a study's row and moves it to the front of the list. Does nothing for an unknown study.
pub(in crate::store) fn change_study(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    order: u64,
    at: Timestamp,
    change: impl FnOnce(&mut StudyRow),
) -> Result<(), StoreError> {
    let Some(mut row) = txn.get::<StudyRow>(&key::study(study))? else { return Ok(()) };
    txn.remove(key::by_change(row.order));
    change(&mut row);
    row.order = order;
    row.changed_at = at;
    txn.put_new(key::by_change(order), study.clone());
    txn.put(key::study(study), row);
    Ok(())
}

pub(in crate::store) fn change_revision(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    revision: u32,
    at: Timestamp,
    change: impl FnOnce(&mut RevisionRow),
) -> Result<(), StoreError> {
    let key = key::revision(study, revision);
    let Some(mut row) = txn.get::<RevisionRow>(&key)? else { return Ok(()) };
    change(&mut row);
    row.changed_at = at;
    txn.put(key, row);
    Ok(())
}

fn is_superseded(txn: &mut Txn<'_>, study: &StudyUid, revision: u32) -> Result<bool, StoreError> {
    let row = txn.get::<RevisionRow>(&key::revision(study, revision))?;
    Ok(row.is_some_and(|row| row.state == StudyState::Superseded))
}

fn instance_stored(txn: &mut Txn<'_>, receipt: &Receipt, order: u64) -> Result<(), StoreError> {
    let Receipt { study_uid, sop_instance_uid, received_at: at, .. } = receipt;
    if let Some(row) = txn.instance(sop_instance_uid)? {
        // The file was lost and came again: the same instance at another place.
        if row.receipt.study_uid == *study_uid {
            let detail = format!("{sop_instance_uid} was missing on disk and came again");
            history(txn, study_uid, order, *at, None, "restored", detail)?;
            let mut row = InstanceRow::clone(&row);
            row.receipt = receipt.clone();
            txn.put_instance(row);
        }
        return Ok(());
    }
    let open_key = key::open_revision(study_uid);
    if !txn.has(&open_key)? {
        let next = txn.get::<StudyRow>(&key::study(study_uid))?.map_or(1, |row| row.revision + 1);
        open_revision(txn, study_uid, next, *at, order)?;
    }
    let Some(mut open) = txn.get::<OpenRevision>(&open_key)? else { return Ok(()) };
    let before = match open.new_instances {
        0 => txn.get::<StudyRow>(&key::study(study_uid))?.filter(|study| study.instances > 0),
        _ => None,
    };
    let pause_ms = |since: Timestamp| at.duration_since(since).as_millis().max(0) as u64;
    if open.new_instances == 0 {
        open.pause_before_ms = before.map(|study| pause_ms(study.last_received_at));
        open.first_received_at = *at;
        open.calling_ae.clone_from(&receipt.from.calling_ae);
    } else {
        open.longest_pause_ms = open.longest_pause_ms.max(pause_ms(open.last_received_at));
    }
    open.last_received_at = *at;
    open.instances += 1;
    open.new_instances += 1;
    let OpenRevision { revision, instances, new_instances, .. } = open;
    gone::came_again(txn, receipt, &open, order)?;
    txn.put(open_key, open);
    change_revision(txn, study_uid, revision, *at, |row| {
        row.instances = instances;
        row.new_instances = new_instances;
    })?;
    change_study(txn, study_uid, order, *at, |study| {
        if study.instances == 0 {
            study.first_received_at = *at;
            study.calling_ae.clone_from(&receipt.from.calling_ae);
        }
        study.instances += 1;
        study.last_received_at = *at;
    })?;
    let row = InstanceRow { receipt: receipt.clone(), revision, order, versions: Vec::new() };
    txn.put_instance(row);
    origins::stored(txn, receipt);
    Ok(())
}

/// Joins the revision that is open, else the last one, which stays as it is. A study of which nothing
/// is known is for a person.
fn instance_adopted(txn: &mut Txn<'_>, receipt: &Receipt, order: u64) -> Result<(), StoreError> {
    let Receipt { study_uid, sop_instance_uid, received_at: at, .. } = receipt;
    if txn.instance(sop_instance_uid)?.is_some() {
        return Ok(());
    }
    let open = key::open_revision(study_uid);
    if txn.has(&open)? {
        return instance_stored(txn, receipt, order);
    }
    let study = txn.get::<StudyRow>(&key::study(study_uid))?;
    let revision = study.as_ref().map_or(1, |study| study.revision);
    if study.is_none() {
        open_revision(txn, study_uid, revision, *at, order)?;
        txn.remove(open);
        change_revision(txn, study_uid, revision, *at, |row| row.closed_at = Some(*at))?;
        let why = "entered from its files: the ledger does not say what was done with it";
        change_state(txn, study_uid, revision, StudyState::NeedsReview, why, *at, order)?;
    }
    change_revision(txn, study_uid, revision, *at, |row| {
        row.instances += 1;
        row.new_instances += 1;
    })?;
    change_study(txn, study_uid, order, *at, |study| {
        if study.instances == 0 {
            study.first_received_at = *at;
            study.calling_ae.clone_from(&receipt.from.calling_ae);
        }
        study.instances += 1;
        study.last_received_at = study.last_received_at.max(*at);
    })?;
    txn.put_instance(InstanceRow {
        receipt: receipt.clone(),
        revision,
        order,
        versions: Vec::new(),
    });
    let detail = format!("{sop_instance_uid} had no receipt and was entered from its file");
    history(txn, study_uid, order, *at, Some(revision), "entered", detail)
}

fn version_stored(txn: &mut Txn<'_>, receipt: &Receipt, order: u64) -> Result<(), StoreError> {
    let Receipt { sop_instance_uid, received_at: at, .. } = receipt;
    let Some(row) = txn.instance(sop_instance_uid)? else { return Ok(()) };
    if row.files().any(|file| file == receipt.object) {
        return Ok(());
    }
    origins::version(txn, &row.receipt.study_uid, receipt);
    let mut row = InstanceRow::clone(&row);
    row.versions.push(receipt.clone());
    let study_uid = row.receipt.study_uid.clone();
    let detail = format!(
        "{} sent {sop_instance_uid} again with other bytes: kept as version {}, the first is read",
        receipt.from.calling_ae,
        row.versions.len() + 1
    );
    txn.put_instance(row);
    history(txn, &study_uid, order, *at, None, "conflict", detail)?;
    change_study(txn, &study_uid, order, *at, |study| study.conflicts += 1)
}

fn open_revision(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    revision: u32,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let key = key::revision(study_uid, revision);
    if txn.has(&key)? || txn.has(&key::open_revision(study_uid))? {
        return Ok(());
    }
    let study = txn.get::<StudyRow>(&key::study(study_uid))?;
    let instances = study.as_ref().map_or(0, |study| study.instances);
    let row = RevisionRow {
        revision,
        state: StudyState::Receiving,
        reason: String::new(),
        opened_at: at,
        closed_at: None,
        instances,
        new_instances: 0,
        modality: study.as_ref().map_or(String::new(), |study| study.modality.clone()),
        examination: study.as_ref().map_or(String::new(), |study| study.examination.clone()),
        outcome: None,
        urgency: None,
        findings: Vec::new(),
        changed_at: at,
    };
    txn.put(key, row);
    let open = OpenRevision {
        study_uid: study_uid.clone(),
        revision,
        opened_at: at,
        first_received_at: at,
        last_received_at: at,
        instances,
        new_instances: 0,
        calling_ae: String::new(),
        longest_pause_ms: 0,
        pause_before_ms: None,
    };
    txn.put(key::open_revision(study_uid), open);
    match study {
        Some(_) => change_study(txn, study_uid, order, at, |study| {
            study.revision = study.revision.max(revision);
            study.state = StudyState::Receiving;
            study.reason.clear();
        })?,
        None => {
            let row = StudyRow {
                study_uid: study_uid.clone(),
                revision,
                state: StudyState::Receiving,
                reason: String::new(),
                modality: String::new(),
                examination: String::new(),
                outcome: None,
                urgency: None,
                findings: Vec::new(),
                models_differ: None,
                assessed_revision: None,
                instances: 0,
                conflicts: 0,
                first_received_at: at,
                last_received_at: at,
                changed_at: at,
                calling_ae: String::new(),
                order,
                priority: Priority::default(),
                priority_by: String::new(),
                shortfall: None,
                whose: None,
                objects_removed_at: None,
            };
            txn.put(key::study(study_uid), row);
            txn.put_new(key::by_change(order), study_uid.clone());
        }
    }
    history(txn, study_uid, order, at, Some(revision), "opened", String::new())
}

/// Closes a revision. From here on it stands in the place of those before: they are superseded
/// and what still waits of their analysis is dropped; what was to be delivered is still delivered.
fn close_revision(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    revision: u32,
    reason: &str,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let open = txn.get::<OpenRevision>(&key::open_revision(study_uid))?;
    if open.as_ref().is_none_or(|open| open.revision != revision) {
        return Ok(());
    }
    let Some(open) = open else { return Ok(()) };
    services::source_sent(txn, &open, at)?;
    let instances = open.instances;
    txn.remove(key::open_revision(study_uid));
    change_study(txn, study_uid, order, at, |study| study.shortfall = None)?;
    change_revision(txn, study_uid, revision, at, |row| row.closed_at = Some(at))?;
    let detail = format!("{instances} instances, {reason}");
    history(txn, study_uid, order, at, Some(revision), "closed", detail)?;
    change_state(txn, study_uid, revision, StudyState::Ready, reason, at, order)?;
    for older in 1..revision {
        let row = txn.get::<RevisionRow>(&key::revision(study_uid, older))?;
        if row.is_none_or(|row| row.state == StudyState::Superseded) {
            continue;
        }
        let why = format!("revision {revision}");
        change_state(txn, study_uid, older, StudyState::Superseded, &why, at, order)?;
        drop_analysis(txn, study_uid, older, &why, at, order)?;
    }
    Ok(())
}

fn change_state(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    revision: u32,
    to: StudyState,
    reason: &str,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let Some(row) = txn.get::<RevisionRow>(&key::revision(study_uid, revision))? else {
        return Ok(());
    };
    if row.state == to && row.reason == reason {
        return Ok(());
    }
    let colon = if reason.is_empty() { "" } else { ": " };
    if row.state == StudyState::Superseded && to != StudyState::Superseded {
        let detail = format!("{}{colon}{reason} (superseded before)", to.as_str());
        return history(txn, study_uid, order, at, Some(revision), "state", detail);
    }
    change_revision(txn, study_uid, revision, at, |row| {
        row.state = to;
        row.reason = reason.to_owned();
    })?;
    change_study(txn, study_uid, order, at, |study| {
        if study.revision == revision {
            study.state = to;
            study.reason = reason.to_owned();
        }
    })?;
    let detail = format!("{}{colon}{reason}", to.as_str());
    history(txn, study_uid, order, at, Some(revision), "state", detail)
}

fn drop_analysis(
    txn: &mut Txn<'_>,
    study: &StudyUid,
    revision: u32,
    why: &str,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let prefix = key::revision_jobs(study, revision);
    for key in txn.keys(&prefix)? {
        let id = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        let Some(mut row) = txn.get::<JobRow>(&key::job(&id))? else { continue };
        if row.job.kind.is_reading() {
            row.state = JobState::Dropped;
            row.cause = why.to_owned();
            put_job(txn, &row);
            let detail = format!("{id}: {why}");
            history(txn, study, order, at, Some(revision), "job dropped", detail)?;
        }
    }
    Ok(())
}

/// Writes a job's row and keeps the marks of open jobs in step with it.
fn put_job(txn: &mut Txn<'_>, row: &JobRow) {
    let Job { id, study_uid, revision, .. } = &row.job;
    let marks = [key::open_job(id), key::revision_job(study_uid, *revision, id)];
    for mark in marks {
        match row.state {
            JobState::Waiting | JobState::Running | JobState::Dead => txn.put(mark, ()),
            JobState::Done | JobState::Dropped => txn.remove(mark),
        }
    }
    txn.put_job(row);
}

/// That of its study, from when this revision began to come.
fn rank(txn: &mut Txn<'_>, job: &Job) -> Result<Rank, StoreError> {
    let study = txn.get::<StudyRow>(&key::study(&job.study_uid))?;
    let revision = txn.get::<RevisionRow>(&key::revision(&job.study_uid, job.revision))?;
    Ok(Rank {
        priority: study.map(|study| study.priority).unwrap_or_default(),
        since: revision.map_or(job.due, |revision| revision.opened_at),
    })
}

fn priority_set(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    priority: Priority,
    by: &str,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let study = txn.get::<StudyRow>(&key::study(study_uid))?;
    let Some(study) = study.filter(|study| priority < study.priority) else { return Ok(()) };
    change_study(txn, study_uid, order, at, |study| {
        study.priority = priority;
        by.clone_into(&mut study.priority_by);
    })?;
    for revision in 1..=study.revision {
        let prefix = key::revision_jobs(study_uid, revision);
        for key in txn.keys(&prefix)? {
            let id = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            let Some(mut row) = txn.get::<JobRow>(&key::job(&id))? else { continue };
            row.rank.priority = priority;
            put_job(txn, &row);
        }
    }
    let detail = format!("{} by {by}", priority.as_str());
    history(txn, study_uid, order, at, None, "priority", detail)
}

fn job_enqueued(txn: &mut Txn<'_>, job: &Job, order: u64) -> Result<(), StoreError> {
    if txn.has(&key::job(&job.id))? {
        return Ok(());
    }
    let mut row = JobRow {
        job: job.clone(),
        state: JobState::Waiting,
        attempts: 0,
        cause: String::new(),
        due: job.due,
        order,
        rank: rank(txn, job)?,
        cut_off: 0,
        begun_anew: None,
    };
    if job.kind.is_reading() && is_superseded(txn, &job.study_uid, job.revision)? {
        row.state = JobState::Dropped;
        row.cause = "superseded".to_owned();
        let detail = format!("{}: superseded", job.id);
        let (study, revision) = (&job.study_uid, Some(job.revision));
        history(txn, study, order, job.due, revision, "job dropped", detail)?;
    }
    put_job(txn, &row);
    sending(txn, &row, Some(job.due))
}

fn job_ended(
    txn: &mut Txn<'_>,
    id: &str,
    outcome: &JobOutcome,
    at: Timestamp,
    order: u64,
) -> Result<(), StoreError> {
    let Some(mut row) = txn.get::<JobRow>(&key::job(id))? else { return Ok(()) };
    // A dead letter can still be cancelled.
    let is_cancelled = matches!(outcome, JobOutcome::Dropped { .. }) && row.state == JobState::Dead;
    if !row.state.is_open() && !is_cancelled {
        return Ok(());
    }
    row.cut_off = 0;
    let what = match outcome {
        JobOutcome::Done => {
            row.state = JobState::Done;
            row.cause.clear();
            None
        }
        JobOutcome::Retry { due, cause } => {
            row.state = JobState::Waiting;
            row.due = *due;
            row.cause.clone_from(cause);
            // One that only looks again at a time has not failed.
            (!cause.is_empty()).then_some("job waits")
        }
        JobOutcome::Dead { cause } => {
            row.state = JobState::Dead;
            row.cause.clone_from(cause);
            Some("job dead")
        }
        JobOutcome::Dropped { cause } => {
            row.state = JobState::Dropped;
            row.cause.clone_from(cause);
            Some("job dropped")
        }
    };
    put_job(txn, &row);
    txn.job_ended(id);
    sending(txn, &row, Some(at))?;
    if let Some(what) = what {
        let detail = format!("{id}, try {}: {}", row.attempts, row.cause);
        history(txn, &row.job.study_uid, order, at, Some(row.job.revision), what, detail)?;
    }
    Ok(())
}

fn job_retried(txn: &mut Txn<'_>, id: &str, at: Timestamp, order: u64) -> Result<(), StoreError> {
    let Some(mut row) = txn.get::<JobRow>(&key::job(id))? else { return Ok(()) };
    match row.state {
        // The count begins again: a dead letter has used up its tries.
        JobState::Dead => {
            row.state = JobState::Waiting;
            row.attempts = 0;
            row.cut_off = 0;
            row.begun_anew = Some(at);
        }
        JobState::Waiting => {}
        JobState::Running | JobState::Done | JobState::Dropped => return Ok(()),
    }
    row.due = at;
    put_job(txn, &row);
    sending(txn, &row, Some(at))?;
    let study = &row.job.study_uid;
    history(txn, study, order, at, Some(row.job.revision), "job retried", id.to_owned())
}

/// Keeps the rows of deliveries and alerts in step with the jobs that carry them out.
fn sending(txn: &mut Txn<'_>, row: &JobRow, at: Option<Timestamp>) -> Result<(), StoreError> {
    let Job { study_uid, revision, .. } = &row.job;
    let state = match row.state {
        JobState::Waiting | JobState::Running => DeliveryState::Queued,
        JobState::Dead => DeliveryState::Dead,
        JobState::Done => DeliveryState::Done,
        JobState::Dropped => DeliveryState::Dropped,
    };
    match &row.job.kind {
        JobKind::Plan
        | JobKind::Picture
        | JobKind::Analyse { .. }
        | JobKind::ReadAgain { .. }
        | JobKind::Shadow { .. }
        | JobKind::Judge
        | JobKind::Compose
        | JobKind::Escalate { .. }
        | JobKind::Withdraw { .. }
        | JobKind::Digest { .. }
        | JobKind::Drill { .. }
        | JobKind::Notice { .. }
        | JobKind::Undelivered { .. }
        | JobKind::Commit { .. } => Ok(()),
        JobKind::Deliver { .. } | JobKind::Prove { .. } => deliveries::job(txn, row, state, at),
        JobKind::Alert { alert, channel, level } => {
            let at = at.unwrap_or(row.due);
            let of = (study_uid, *revision, alert.as_str());
            alerts::change_sending(txn, of, channel, *level, at, |sending| {
                // A message that is told together with others is not sent yet.
                if row.state != JobState::Done {
                    sending.state = state;
                }
                sending.attempts = row.attempts;
                sending.cause.clone_from(&row.cause);
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Stored;
    use crate::store::ledger::Start;
    use crate::store::open::replay;
    use crate::store::testing::at;
    use crate::store::testing::job;
    use crate::store::testing::open;
    use crate::store::testing::random_events;
    use crate::store::testing::receipt;
    use crate::store::testing::rows_of;
    use crate::store::testing::study;
    use crate::store::view::View;

    fn closed(n: u32, revision: u32) -> Event {
        let (study_uid, reason) = (study(n), "quiet".to_owned());
        Event::RevisionClosed { study_uid, revision, instances: 0, reason, at: at(50) }
    }

    fn state(n: u32, revision: u32, to: StudyState) -> Event {
        let reason = String::new();
        Event::StateChanged { study_uid: study(n), revision, to, reason, at: at(60) }
    }

    fn deliver() -> JobKind {
        JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() }
    }

    #[tokio::test]
    async fn a_late_instance_opens_revision_2_which_supersedes_when_it_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        for instance in 1..=2 {
            let stored = store.commit_instance(receipt(1, instance, "x")).await.unwrap();
            assert_eq!(stored, Stored::New { revision: 1 });
        }
        let open_now = store.open_revisions().unwrap();
        assert_eq!((open_now.len(), open_now[0].instances), (1, 2));
        assert_eq!((open_now[0].first_received_at, open_now[0].last_received_at), (at(1), at(2)));
        let assessed = Event::Assessed {
            study_uid: study(1),
            revision: 1,
            outcome: "read".into(),
            urgency: Some(Urgency::Critical),
            findings: vec!["pneumonia".into()],
            patient: None,
            models_differ: None,
            at: at(61),
        };
        let enqueue = |kind| Event::JobEnqueued { job: job(1, 1, kind, 0, 5) };
        let events = vec![closed(1, 1), enqueue(JobKind::Judge), enqueue(deliver()), assessed];
        store.commit(events).await.unwrap();
        let row = store.study(&study(1)).unwrap().unwrap();
        assert_eq!((row.state, row.revision, row.instances), (StudyState::Ready, 1, 2));
        assert!(store.open_revisions().unwrap().is_empty());

        let stored = store.commit_instance(receipt(1, 3, "x")).await.unwrap();
        assert_eq!(stored, Stored::New { revision: 2 });
        let row = store.study(&study(1)).unwrap().unwrap();
        assert_eq!((row.state, row.revision, row.instances), (StudyState::Receiving, 2, 3));
        assert_eq!(row.urgency, Some(Urgency::Critical), "what is urgent stays in sight");
        assert_eq!(store.revisions(&study(1)).unwrap()[0].state, StudyState::Ready);
        assert_eq!(store.jobs().unwrap().len(), 2);

        store.commit(vec![closed(1, 2)]).await.unwrap();
        let revisions = store.revisions(&study(1)).unwrap();
        assert_eq!(revisions[0].state, StudyState::Superseded);
        assert_eq!(revisions[0].reason, "revision 2");
        assert_eq!((revisions[1].instances, revisions[1].new_instances), (3, 1));
        let jobs = store.jobs().unwrap();
        assert_eq!((jobs.len(), &jobs[0].job.kind), (1, &deliver()), "deliveries stay");

        // What a runner that was in the middle of revision 1 still says changes nothing.
        let late = vec![state(1, 1, StudyState::Judged), enqueue(JobKind::Compose)];
        store.commit(late).await.unwrap();
        assert_eq!(store.revisions(&study(1)).unwrap()[0].state, StudyState::Superseded);
        assert_eq!(store.jobs().unwrap().len(), 1);
        let history = store.history(&study(1)).unwrap();
        let dropped = history.iter().filter(|row| row.what == "job dropped").count();
        assert_eq!(dropped, 2, "{history:?}");
        let instances = store.instances(&study(1)).unwrap();
        let came_in: Vec<u32> = instances.iter().map(|row| row.revision).collect();
        assert_eq!(came_in, [1, 1, 2]);
    }

    #[tokio::test]
    async fn the_list_begins_with_the_newest_change() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        for n in [1, 2, 3, 1] {
            store.commit_instance(receipt(n, n, "x")).await.unwrap();
        }
        store.commit_instance(receipt(1, 9, "x")).await.unwrap();
        let list = |limit| -> Vec<_> {
            store.studies(limit).unwrap().into_iter().map(|row| row.study_uid).collect()
        };
        assert_eq!(list(10), [study(1), study(3), study(2)]);
        assert_eq!(list(2), [study(1), study(3)]);

        // A view that follows: the oldest change first, from where it was, some at a time. The
        // second time they come from sled.
        let follow = |store: &crate::store::Store| {
            let (mut after, mut seen) = (0, Vec::new());
            while let [row] = store.studies_after(after, 1).unwrap().as_slice() {
                after = row.order;
                seen.push(row.study_uid.clone());
            }
            seen
        };
        assert_eq!(follow(&store), [study(2), study(3), study(1)]);
        drop(store);
        let (store, _) = open(dir.path());
        store.commit_instance(receipt(3, 9, "x")).await.unwrap();
        assert_eq!(follow(&store), [study(2), study(1), study(3)]);
    }

    /// What follows takes an empty answer as the end.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_study_that_changes_all_the_time_is_found_by_what_follows() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.commit_instance(receipt(1, 0, "x")).await.unwrap();
        let follower = store.clone();
        let follow = std::thread::spawn(move || {
            let rows = |_| follower.studies_after(0, 10).unwrap().len();
            (0..20_000).map(rows).filter(|found| *found == 0).count()
        });
        let mut instance = 1;
        while !follow.is_finished() {
            store.commit_instance(receipt(1, instance, "x")).await.unwrap();
            instance += 1;
        }
        assert_eq!(follow.join().unwrap(), 0, "over {instance} changes");
    }

    #[tokio::test]
    async fn deliveries_and_alerts_show_how_their_jobs_stand() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        store.commit_instance(receipt(1, 1, "x")).await.unwrap();
        let mail = JobKind::Alert { alert: "a".into(), channel: "mail".into(), level: 0 };
        let (send, tell) = (job(1, 1, deliver(), 0, 5), job(1, 1, mail, 0, 1));
        let raised = Event::AlertRaised {
            study_uid: study(1),
            revision: 1,
            alert: "a".into(),
            urgency: Urgency::Critical,
            findings: vec![],
            recipients: vec![],
            kind: Default::default(),
            service: String::new(),
            told: vec![],
            at: at(1),
        };
        let start = |id: &str| Event::JobStarted { id: id.into(), at: at(2) };
        let end = |id: &str, outcome| Event::JobEnded { id: id.into(), outcome, at: at(3) };
        let (send_id, tell_id) = (send.id.clone(), tell.id.clone());
        let retry = JobOutcome::Retry { due: at(100), cause: "connection refused".into() };
        let dead = JobOutcome::Dead { cause: "550".into() };
        let events = vec![
            raised,
            Event::JobEnqueued { job: send },
            Event::JobEnqueued { job: tell },
            start(&send_id),
            start(&tell_id),
            end(&send_id, retry),
            end(&tell_id, dead),
        ];
        store.commit(events).await.unwrap();
        let delivery = &store.deliveries(&study(1)).unwrap()[0];
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Queued, 1));
        assert_eq!(delivery.cause, "connection refused");
        let alert = &store.alerts(&study(1)).unwrap()[0];
        assert_eq!(alert.sendings[0].state, DeliveryState::Dead);
        assert_eq!(alert.sendings[0].cause, "550");
        let delivered = Event::Delivered {
            study_uid: study(1),
            revision: 1,
            artefact: "sr.dcm".into(),
            destination: "pacs".into(),
            detail: "status 0000".into(),
            unproven: false,
            at: at(4),
        };
        let again = Event::JobRetried { id: tell_id.clone(), by: "kim".into(), at: at(4) };
        let events = vec![start(&send_id), delivered, end(&send_id, JobOutcome::Done), again];
        store.commit(events).await.unwrap();
        let delivery = &store.deliveries(&study(1)).unwrap()[0];
        assert_eq!((delivery.state, delivery.attempts), (DeliveryState::Done, 2));
        assert_eq!((delivery.detail.as_str(), delivery.cause.as_str()), ("status 0000", ""));
        let alert = &store.alerts(&study(1)).unwrap()[0];
        assert_eq!(
            (alert.sendings[0].state, alert.sendings[0].attempts),
            (DeliveryState::Queued, 0)
        );
    }

    /// The view that grew event by event is the view that a replay makes, whatever happened.
    #[tokio::test]
    async fn a_replay_gives_the_same_rows() {
        for seed in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = open(dir.path());
            for (n, events) in random_events(seed, 120).into_iter().enumerate() {
                store.commit(events).await.unwrap();
                // Wherever the batches end that are written to sled.
                if n % (seed as usize + 2) == 0 {
                    store.read(View::write).unwrap();
                }
            }
            let fresh = View::open(&dir.path().join("fresh"), 8 << 20).unwrap();
            let ledger = dir.path().join("ledger");
            let replayed = replay(&fresh, &ledger, &Start::Beginning, 120, &mut |_| {}).unwrap();
            assert_eq!((replayed.records, replayed.damage), (120, vec![]));
            store
                .read(|view| {
                    assert_eq!(rows_of(view)?, rows_of(&fresh)?, "seed {seed}");
                    assert_eq!(view.mark(), fresh.mark(), "seed {seed}");
                    view.check_sum()?;
                    fresh.check_sum()
                })
                .unwrap();
            assert!(fresh.mark().rows > 50);
        }
    }
}
