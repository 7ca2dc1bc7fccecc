//! Decides what the objects of a study are, from their headers and the rest of the study.
//!
//! What comes while a study takes instances is decided when it is planned; what comes after that
//! waits beside the study, opens nothing, and is decided here.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::assessment::Assessment;
use crate::domain::identities;
use crate::domain::origin;
use crate::domain::origin::Made;
use crate::domain::origin::Maker;
use crate::domain::origin::Origin;
use crate::domain::origin::Why;
use crate::domain::study::Patient;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::closing;
use crate::pipeline::comparing;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::steps::unworked;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::pipeline::whose;
use crate::store::InstanceRow;
use crate::store::OriginRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::event::StudyState;
use crate::worker::Object;

/// What comes close together is decided together.
const TOGETHER: Duration = Duration::from_millis(100);
/// After a look that failed, and at the latest.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Studies that are looked at at the same time: one whose objects take long delays few others.
const STUDIES_AT_ONCE: usize = 4;

/// Decides on what waits until the node stops.
pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let mut changed = kit.store.changed();
    let tasks = TaskTracker::new();
    let busy = Arc::new(std::sync::Mutex::new(HashSet::new()));
    while !stop.is_cancelled() {
        changed.mark_unchanged();
        match waiting_studies(&kit.store) {
            Ok(studies) => {
                for study in studies {
                    let free = {
                        let mut busy = lock(&busy);
                        busy.len() < STUDIES_AT_ONCE && busy.insert(study.clone())
                    };
                    if !free {
                        continue;
                    }
                    let (kit, busy) = (Arc::clone(&kit), Arc::clone(&busy));
                    tasks.spawn(async move {
                        if let Err(error) = decide_waiting(&kit, &study).await {
                            let cause = error.cause;
                            tracing::warn!(%study, cause, "what came late is not decided yet");
                            tokio::time::sleep(LOOK_AGAIN).await;
                        }
                        lock(&busy).remove(&study);
                    });
                }
            }
            Err(StoreError::Remaking { .. }) => {}
            Err(error) => tracing::error!(%error, "what came late cannot be looked at"),
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            gone = changed.changed() => {
                if gone.is_err() {
                    break;
                }
                let _ = tokio::time::timeout(TOGETHER, stop.cancelled()).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

fn lock(
    busy: &std::sync::Mutex<HashSet<StudyUid>>,
) -> std::sync::MutexGuard<'_, HashSet<StudyUid>> {
    busy.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn waiting_studies(store: &Store) -> Result<BTreeSet<StudyUid>, StoreError> {
    Ok(store.waiting()?.into_iter().map(|row| row.study_uid).collect())
}

/// Decides on what waits of one study. A report is compared in the same commit: killed before it,
/// the node does both again.
async fn decide_waiting(kit: &Kit, study_uid: &StudyUid) -> Result<(), StepError> {
    let store = &kit.store;
    let waiting = store.waiting().map_err(StepError::passing)?.into_iter();
    let waiting: Vec<SopInstanceUid> =
        waiting.filter(|row| row.study_uid == *study_uid).map(|row| row.sop_instance_uid).collect();
    let mut events = undecided(kit, study_uid).await?;
    let is_no_report = |sop: &SopInstanceUid| {
        events.iter().any(|event| match event {
            Event::OriginDecided { instances, origin, .. } => {
                *origin != Origin::Report && instances.contains(sop)
            }
            _ => false,
        })
    };
    let reports = waiting.iter().filter(|sop| !is_no_report(sop)).cloned().collect();
    events.extend(compared(kit, study_uid, &reports).await?);
    events.extend(whose::came_again(kit, study_uid, &waiting).await?);
    let (study_uid, at) = (study_uid.clone(), kit.clock.now());
    events.push(Event::InstancesLookedAt { study_uid, instances: waiting, at });
    store.commit(events).await.map_err(StepError::passing)
}

/// The newest reading beside these, as far as they are reports. A study that was not read yet is
/// compared when it is.
async fn compared(
    kit: &Kit,
    study_uid: &StudyUid,
    reports: &HashSet<SopInstanceUid>,
) -> Result<Vec<Event>, StepError> {
    let row = kit.store.study(study_uid).map_err(StepError::passing)?;
    let read = row.and_then(|row| row.assessed_revision);
    let (Some(revision), false) = (read, reports.is_empty()) else { return Ok(Vec::new()) };
    let way = Way { kit, study_uid, revision };
    let assessment: Option<Assessment> = way.load_if_there(record::ASSESSMENT)?;
    match assessment {
        Some(assessment) => comparing::with_reports(&way, &assessment, reports).await,
        None => Ok(Vec::new()),
    }
}

/// What the objects of a study are of which it is not decided: one event for each answer. Doing it
/// twice decides the same.
pub async fn undecided(kit: &Kit, study_uid: &StudyUid) -> Result<Vec<Event>, StepError> {
    let store = &kit.store;
    let origins = of_study(store, study_uid).map_err(StepError::passing)?;
    let is_open = |row: &InstanceRow| is_open(&row.receipt, &origins);
    let rows = store.instances(study_uid).map_err(StepError::passing)?;
    if !rows.iter().any(is_open) {
        return Ok(Vec::new());
    }
    store.filed(study_uid).await.map_err(StepError::passing)?;
    // One image of each series says what equipment acquired it.
    let mut series = HashSet::new();
    let mut shown: Vec<Object> = Vec::new();
    for row in &rows {
        let sop = &row.receipt.sop_instance_uid;
        let is_image = origins.get(sop).is_none_or(OriginRow::is_taken);
        if is_open(row) || (is_image && series.insert(&row.receipt.series_uid)) {
            shown.push(object(row));
        }
    }
    let inspected = kit.pool.inspect(store.data(), shown).await;
    let (parsed, _) = inspected.map_err(unworked)?;
    let found: HashMap<SopInstanceUid, (Made, Patient)> = parsed
        .into_iter()
        .map(|one| (one.instance.sop_instance_uid, (one.made, one.patient)))
        .collect();
    let acquired_by = origin::acquired_by(found.values().map(|(made, _)| made));
    let imaged = found.values().filter(|(made, _)| made.is_picture());
    let imaged: Vec<&Patient> = imaged.map(|(_, patient)| patient).collect();
    let algorithms = algorithms(kit, study_uid)?;
    let equipment = &kit.equipment;
    let device = Maker {
        manufacturer: equipment.manufacturer.clone(),
        model_name: equipment.model_name.clone(),
        serial_number: equipment.serial_number.clone(),
        device_uid: String::new(),
    };
    let mut answers: BTreeMap<(Origin, Why), Vec<SopInstanceUid>> = BTreeMap::new();
    for row in &rows {
        let sop = &row.receipt.sop_instance_uid;
        if !is_open(row) {
            continue;
        }
        let own = store.own(sop).map_err(StepError::passing)?;
        let reporting = &kit.assemble.reporting_systems;
        let known = origin::Known {
            artefact: own.as_ref().map(|own| (own.revision, own.file.as_str())),
            device: device.clone(),
            algorithms: &algorithms,
            is_of_reporting_system: reporting.contains(&row.receipt.from.calling_ae),
            is_of_other_patient: is_other(found.get(sop), &imaged),
            acquired_by: &acquired_by,
        };
        let answer = match found.get(sop) {
            Some((made, _)) => origin::decide(made, &known),
            None => (Origin::Image, Why::NotParsed),
        };
        answers.entry(answer).or_default().push(sop.clone());
    }
    let at = kit.clock.now();
    let event = |((origin, why), instances)| {
        let count = metrics::counter!("prelim_origins_total", "origin" => Origin::as_str(origin));
        count.increment(Vec::len(&instances) as u64);
        let study_uid = study_uid.clone();
        Event::OriginDecided { study_uid, instances, origin, why, by: String::new(), at }
    };
    Ok(answers.into_iter().map(event).collect())
}

/// Whether an object contradicts what every image says of its patient.
fn is_other(object: Option<&(Made, Patient)>, imaged: &[&Patient]) -> bool {
    let Some((_, patient)) = object else { return false };
    let differs = |other: &&Patient| !identities::differing(patient, other).is_empty();
    !imaged.is_empty() && imaged.iter().all(differs)
}

/// Whether it is not decided what an instance is. In folders of before origins nothing is noted of
/// any.
pub fn is_open(receipt: &Receipt, origins: &HashMap<SopInstanceUid, OriginRow>) -> bool {
    match origins.get(&receipt.sop_instance_uid) {
        Some(row) => row.decided.is_none(),
        None => !origin::is_acquisition_class(receipt.sop_class_uid.as_str()),
    }
}

pub fn object(row: &InstanceRow) -> Object {
    Object {
        object: row.receipt.object.clone(),
        sop_instance_uid: row.receipt.sop_instance_uid.clone(),
    }
}

/// What is noted of the instances of a study.
pub fn of_study(
    store: &Store,
    study_uid: &StudyUid,
) -> Result<HashMap<SopInstanceUid, OriginRow>, StoreError> {
    let rows = store.origins(study_uid)?.into_iter();
    Ok(rows.map(|row| (row.sop_instance_uid.clone(), row)).collect())
}

/// Device UIDs of the algorithms that read the study.
fn algorithms(kit: &Kit, study_uid: &StudyUid) -> Result<Vec<String>, StepError> {
    let revisions = kit.store.revisions(study_uid).map_err(StepError::passing)?;
    let mut found = Vec::new();
    for row in revisions.iter().filter(|row| row.outcome.is_some()) {
        let way = Way { kit, study_uid, revision: row.revision };
        let assessment: Option<Assessment> = way.load_if_there(record::ASSESSMENT)?;
        found.extend(assessment.map(|assessment| assessment.algorithm.device_uid));
    }
    Ok(found)
}

/// Why a person's word on an object cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("The node has no such study.")]
    Unknown,
    #[error("The study has no series and no object with this UID.")]
    NoObject,
    #[error("Its images were removed by the rules for keeping.")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A person says what an object is, or all of a series. Images that come in or go out make a next
/// revision: it is read with them, or without.
///
/// - `target`: a Series or SOP Instance UID of the study.
/// - Returns how many objects it is about.
pub async fn change(
    store: &Store,
    study_uid: &StudyUid,
    target: &str,
    origin: Origin,
    word: &Word,
    at: Timestamp,
) -> Result<usize, ChangeError> {
    let study = store.study(study_uid)?.ok_or(ChangeError::Unknown)?;
    if study.objects_removed_at.is_some() {
        return Err(ChangeError::Gone);
    }
    let is_target = |row: &InstanceRow| {
        let receipt = &row.receipt;
        [receipt.series_uid.as_str(), receipt.sop_instance_uid.as_str()].contains(&target)
    };
    let rows = store.instances(study_uid)?;
    let instances: Vec<SopInstanceUid> = rows
        .iter()
        .filter(|row| is_target(row))
        .map(|row| row.receipt.sop_instance_uid.clone())
        .collect();
    if instances.is_empty() {
        return Err(ChangeError::NoObject);
    }
    let origins = of_study(store, study_uid)?;
    let was_image = |sop: &SopInstanceUid| origins.get(sop).is_none_or(OriginRow::is_taken);
    let goes_out = origin != Origin::Image && instances.iter().any(was_image);
    let count = instances.len();
    let mut events = vec![Event::OriginDecided {
        study_uid: study_uid.clone(),
        instances,
        origin,
        why: Why::Person { reason: word.reason.clone() },
        by: word.by.clone(),
        at,
    }];
    if goes_out && study.state != StudyState::Receiving {
        let revision = study.revision + 1;
        let reason = format!("{count} objects are {} by word of {}", origin.as_str(), word.by);
        events.push(Event::RevisionOpened { study_uid: study_uid.clone(), revision, at });
        events.extend(closing::closing(study_uid, revision, study.instances, reason, at));
    }
    store.commit(events).await?;
    Ok(count)
}

/// Who says something, and why.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Word {
    pub by: String,
    pub reason: String,
}
