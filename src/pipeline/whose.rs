//! Whose a study is, where its images name more than one patient: nothing goes out until a person
//! has said so.

use jiff::Timestamp;

use crate::domain::identities;
use crate::domain::identities::Identity;
use crate::domain::identities::Settled;
use crate::domain::study::Patient;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::closing;
use crate::pipeline::job::StepError;
use crate::pipeline::origins;
use crate::pipeline::record;
use crate::pipeline::steps::unworked;
use crate::pipeline::telling;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store::InstanceRow;
use crate::store::OriginRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::StudyState;
use crate::worker::Object;

/// Whose the images of a study are.
pub enum Whose {
    One,
    /// A person has said so.
    Settled {
        patient: Patient,
        by: String,
    },
    /// A person has to say so.
    Unknown(Vec<Identity>),
}

impl Whose {
    /// For the reader of a report.
    pub fn note(&self) -> Option<String> {
        match self {
            Whose::Settled { by, .. } => Some(format!(
                "The images name more than one patient; {by} has said whose they are."
            )),
            Whose::One | Whose::Unknown(_) => None,
        }
    }
}

/// - `patients`: what each image says, with its digest, in the order of arrival. What came again under
///   the same UID with other bytes is looked at here.
pub async fn of_images(way: &Way<'_>, patients: &[(Patient, String)]) -> Result<Whose, StepError> {
    let again = versions(way.kit, way.study_uid).await?;
    let all = patients.iter().chain(&again);
    let found = identities::distinct(all.map(|(patient, digest)| (patient, digest.as_str())));
    if found.len() < 2 {
        return Ok(Whose::One);
    }
    let row = way.kit.store.study(way.study_uid).map_err(StepError::passing)?;
    let settled = row.and_then(|row| row.whose).and_then(|whose| whose.settled);
    Ok(match settled.as_ref().and_then(|settled| settled.of(&found).zip(Some(settled))) {
        Some((identity, settled)) => {
            Whose::Settled { patient: identity.patient.clone(), by: settled.by.clone() }
        }
        None => Whose::Unknown(found),
    })
}

/// What the other versions of the images of a study say.
async fn versions(kit: &Kit, study_uid: &StudyUid) -> Result<Vec<(Patient, String)>, StepError> {
    let store = &kit.store;
    let origins = origins::of_study(store, study_uid).map_err(StepError::passing)?;
    let rows = store.instances(study_uid).map_err(StepError::passing)?;
    let is_image = |sop: &SopInstanceUid| origins.get(sop).is_none_or(OriginRow::is_taken);
    let receipts: Vec<_> = rows
        .into_iter()
        .filter(|row| is_image(&row.receipt.sop_instance_uid))
        .flat_map(|row: InstanceRow| row.versions)
        .collect();
    let mut said = Vec::new();
    if receipts.is_empty() {
        return Ok(said);
    }
    store.filed(study_uid).await.map_err(StepError::passing)?;
    let objects = receipts.iter().map(|receipt| Object {
        object: receipt.object.clone(),
        sop_instance_uid: receipt.sop_instance_uid.clone(),
    });
    let inspected = kit.pool.inspect(store.data(), objects.collect()).await;
    let (parsed, _) = inspected.map_err(unworked)?;
    for receipt in receipts {
        let of = parsed.iter().find(|one| one.instance.object == receipt.object);
        said.extend(of.map(|one| (one.patient.clone(), receipt.digest)));
    }
    Ok(said)
}

/// Puts a study before a person, with what differs and no value of it.
pub fn unknown(way: &Way<'_>, found: &[Identity]) -> Result<Vec<Event>, StepError> {
    way.save(record::IDENTITIES, &found)?;
    let elements = identities::elements(found);
    let reason = identities::reason(&elements);
    let mut events = vec![Event::IdentityDiffers {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        elements,
        at: way.kit.clock.now(),
    }];
    events.extend(telling::needs_review(way, &reason));
    Ok(events)
}

/// Looks at images that came again with other bytes: under another patient, a person has to look. A
/// study that still takes images is looked at when it is planned.
pub async fn came_again(
    kit: &Kit,
    study_uid: &StudyUid,
    instances: &[SopInstanceUid],
) -> Result<Vec<Event>, StepError> {
    let store = &kit.store;
    let rows = store.instances(study_uid).map_err(StepError::passing)?;
    let is_again = |row: &InstanceRow| {
        !row.versions.is_empty() && instances.contains(&row.receipt.sop_instance_uid)
    };
    if !rows.iter().any(is_again) {
        return Ok(Vec::new());
    }
    let row = store.study(study_uid).map_err(StepError::passing)?;
    let Some(row) = row.filter(|row| row.state != StudyState::Receiving) else {
        return Ok(Vec::new());
    };
    let origins = origins::of_study(store, study_uid).map_err(StepError::passing)?;
    let images: Vec<&InstanceRow> = rows
        .iter()
        .filter(|row| origins.get(&row.receipt.sop_instance_uid).is_none_or(OriginRow::is_taken))
        .collect();
    store.filed(study_uid).await.map_err(StepError::passing)?;
    let objects = images.iter().map(|row| origins::object(row)).collect();
    let inspected = kit.pool.inspect(store.data(), objects).await;
    let (parsed, _) = inspected.map_err(unworked)?;
    let said = |row: &&InstanceRow| {
        let of = parsed.iter().find(|one| one.instance.object == row.receipt.object)?;
        Some((of.patient.clone(), row.receipt.digest.clone()))
    };
    let patients: Vec<(Patient, String)> = images.iter().filter_map(said).collect();
    let way = Way { kit, study_uid, revision: row.revision };
    match of_images(&way, &patients).await? {
        Whose::Unknown(found) => {
            let is_known = row.whose.as_ref().is_some_and(|whose| {
                whose.settled.is_none() && whose.elements == identities::elements(&found)
            });
            match is_known && row.state == StudyState::NeedsReview {
                // The record names all of them.
                true => way.save(record::IDENTITIES, &found).map(|()| Vec::new()),
                false => unknown(&way, &found),
            }
        }
        Whose::One | Whose::Settled { .. } => Ok(Vec::new()),
    }
}

/// Why a person's word cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("The node has no such study.")]
    Unknown,
    #[error("The images of the study name one patient.")]
    One,
    #[error("There is no identity of this number: see the page of the study.")]
    NoIdentity,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The patients that the images of a study name. Empty: one.
pub fn patients(store: &Store, study_uid: &StudyUid) -> Result<Vec<Identity>, StoreError> {
    let Some(row) = store.study(study_uid)? else { return Ok(Vec::new()) };
    let Some(whose) = row.whose else { return Ok(Vec::new()) };
    let bytes = store.read_result(study_uid, whose.revision, record::IDENTITIES)?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
}

/// A person says whose a study is; it goes on under that patient, as its next revision.
///
/// - `number`: of [`patients`], from 1.
pub async fn settle(
    store: &Store,
    study_uid: &StudyUid,
    number: usize,
    word: &origins::Word,
    at: Timestamp,
) -> Result<(), SettleError> {
    let row = store.study(study_uid)?.ok_or(SettleError::Unknown)?;
    let found = patients(store, study_uid)?;
    if found.is_empty() {
        return Err(SettleError::One);
    }
    let holds = number.checked_sub(1).and_then(|place| found.get(place));
    let holds = holds.ok_or(SettleError::NoIdentity)?.like.clone();
    let among = found.into_iter().map(|one| one.like).collect();
    let settled = Settled { holds, among, by: word.by.clone() };
    let reason = word.reason.clone();
    let mut events =
        vec![Event::IdentitySettled { study_uid: study_uid.clone(), settled, reason, at }];
    if row.state != StudyState::Receiving {
        let revision = row.revision + 1;
        let reason = format!("its patient was settled by {}", word.by);
        events.push(Event::RevisionOpened { study_uid: study_uid.clone(), revision, at });
        events.extend(closing::closing(study_uid, revision, row.instances, reason, at));
    }
    Ok(store.commit(events).await?)
}
