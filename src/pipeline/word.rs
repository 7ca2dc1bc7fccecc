//! An operator's word on a study: read it again, or do not go on with it.

use jiff::Timestamp;

use crate::domain::uid::StudyUid;
use crate::pipeline::closing;
use crate::store::JobState;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::StudyRow;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// Why a word cannot be followed now.
#[derive(Debug, thiserror::Error)]
pub enum WordError {
    #[error("The node has no such study.")]
    Unknown,
    #[error("The study still takes images: complete it first.")]
    Receiving,
    #[error("Its images were removed by the rules for keeping.")]
    Gone,
    #[error("A step of this study runs at this moment: try again in a few seconds.")]
    Running,
    #[error("There is nothing to hold: all that was to be done is done.")]
    Nothing,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the same images again, as the next revision: its results take the place of the last ones as
/// those of late images do. Also what lets a study go on that was held.
pub async fn read_again(
    store: &Store,
    study_uid: &StudyUid,
    reason: String,
    at: Timestamp,
) -> Result<u32, WordError> {
    let row = store.study(study_uid)?.ok_or(WordError::Unknown)?;
    if row.state == StudyState::Receiving {
        return Err(WordError::Receiving);
    }
    if row.objects_removed_at.is_some() {
        return Err(WordError::Gone);
    }
    let revision = row.revision + 1;
    tracing::info!(%study_uid, revision, "study read again by word of a person");
    store.commit(reading_again(&row, reason, at)).await?;
    Ok(revision)
}

/// What has a job done now that waits or was given up, or all that were given up of a destination or
/// that wait for a gateway. A reading that was given up has left results that say so: the study is read
/// again, as its next revision.
///
/// - `wanted`: see [`Store::to_retry`].
/// - Returns nothing where there is no such job.
pub fn trying_again(
    store: &Store,
    wanted: &str,
    by: &str,
    at: Timestamp,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    for id in store.to_retry(wanted)? {
        let job = store.job(&id)?.filter(|row| row.state == JobState::Dead).map(|row| row.job);
        let has_results =
            |kind: &JobKind| matches!(kind, JobKind::Picture | JobKind::Analyse { .. });
        let job = job.filter(|job| has_results(&job.kind));
        let study = job.as_ref().map(|job| store.study(&job.study_uid)).transpose()?.flatten();
        match study.zip(job) {
            Some((row, job)) if row.revision == job.revision => {
                events.push(Event::JobCancelled { id, by: by.to_owned(), at });
                events.extend(reading_again(&row, format!("read again by word of {by}"), at));
            }
            _ => events.push(Event::JobRetried { id, by: by.to_owned(), at }),
        }
    }
    Ok(events)
}

/// The next revision of a study, of the same images.
pub fn reading_again(row: &StudyRow, reason: String, at: Timestamp) -> Vec<Event> {
    let (study_uid, revision) = (&row.study_uid, row.revision + 1);
    let opened = Event::RevisionOpened { study_uid: study_uid.clone(), revision, at };
    let mut events = vec![opened];
    events.extend(closing::closing(study_uid, revision, row.instances, reason, at));
    events
}

/// Takes out of the queue what waits of reading and delivering the study. Alerts go on: what is known
/// to be urgent is not silenced.
pub async fn hold(
    store: &Store,
    study_uid: &StudyUid,
    by: &str,
    reason: String,
    at: Timestamp,
) -> Result<(), WordError> {
    let row = store.study(study_uid)?.ok_or(WordError::Unknown)?;
    if row.state == StudyState::Receiving {
        return Err(WordError::Receiving);
    }
    let mut jobs = store.jobs()?;
    let is_held = |kind: &JobKind| kind.is_reading() || matches!(kind, JobKind::Deliver { .. });
    jobs.retain(|job| job.job.study_uid == *study_uid && is_held(&job.job.kind));
    if jobs.iter().any(|job| job.state == JobState::Running) {
        return Err(WordError::Running);
    }
    if jobs.is_empty() {
        return Err(WordError::Nothing);
    }
    let mut events: Vec<Event> = jobs
        .into_iter()
        .map(|job| Event::JobCancelled { id: job.job.id, by: by.to_owned(), at })
        .collect();
    events.push(Event::StateChanged {
        study_uid: study_uid.clone(),
        revision: row.revision,
        to: StudyState::Held,
        reason,
        at,
    });
    tracing::info!(%study_uid, revision = row.revision, "study held by word of a person");
    Ok(store.commit(events).await?)
}
