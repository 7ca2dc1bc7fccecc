//! The first look at a study: who it is of and how soon it is wanted are known from its first image
//! on, however long its reading has to wait.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use tokio_util::sync::CancellationToken;

use crate::domain::order::Sought;
use crate::domain::priority::Priority;
use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::orders;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::steps;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Way;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::StudyRow;
use crate::store::event::Event;
use crate::worker::Object;

/// Longest pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Changes that come close together are looked at together.
const TOGETHER: Duration = Duration::from_millis(50);
/// Studies that are taken up at a time.
const STUDIES_MAX: usize = 200;

/// Studies that are looked at at the same time: most of a look waits for the disk.
const LOOKS_AT_ONCE: usize = 16;

/// Looks at each study once, in the order of their coming, until the node stops.
pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let mut changed = kit.store.changed();
    let mut seen = None;
    loop {
        let met = tokio::select! {
            () = stop.cancelled() => return,
            met = meet(&kit, &mut seen) => met,
        };
        let is_more = match met {
            Ok(is_more) => is_more,
            Err(StoreError::Remaking { .. }) => false,
            Err(error) => {
                tracing::error!(%error, "studies that come cannot be looked up");
                false
            }
        };
        if is_more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_AGAIN) => (),
            gone = changed.changed() => {
                if gone.is_err() {
                    return;
                }
                tokio::time::sleep(TOGETHER).await;
            }
        }
    }
}

/// Looks at those that changed since; whether there may be more.
///
/// - `seen`: the last change that was taken up. None: begins with what is open.
async fn meet(kit: &Kit, seen: &mut Option<u64>) -> Result<bool, StoreError> {
    let rows = match *seen {
        Some(order) => kit.store.studies_after(order, STUDIES_MAX)?,
        None => left_open(&kit.store)?,
    };
    let newest = rows.iter().map(|row| row.order).max();
    let is_more = rows.len() >= STUDIES_MAX;
    let new = stream::iter(rows.into_iter().filter(is_new));
    new.for_each_concurrent(LOOKS_AT_ONCE, |row| first_look(kit, row)).await;
    *seen = newest.max(*seen).or(Some(0));
    Ok(is_more)
}

async fn first_look(kit: &Kit, row: StudyRow) {
    let way = Way { kit, study_uid: &row.study_uid, revision: row.revision };
    if let Err(StepError { cause, .. }) = look(&way, &row).await {
        // Its plan will meet the same and say so.
        tracing::debug!(study_uid = %row.study_uid, cause, "no first look");
    }
}

/// Those that came before this node began, the oldest change first.
fn left_open(store: &Store) -> Result<Vec<StudyRow>, StoreError> {
    let mut rows = store.studies(STUDIES_MAX)?;
    rows.reverse();
    Ok(rows)
}

/// Whether nothing is known of it yet.
fn is_new(row: &StudyRow) -> bool {
    row.instances > 0 && row.modality.is_empty() && !row.state.is_at_rest()
}

async fn look(way: &Way<'_>, row: &StudyRow) -> Result<(), StepError> {
    let Some(study) = first_image(way).await? else { return Ok(()) };
    way.save(record::MET, &study)?;
    let (priority, by) = wanted(way.kit, &study, &row.calling_ae);
    let mut events = vec![Event::StudyDescribed {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        modality: study.modalities().join("+"),
        // Its plan says it; the words of a scanner may name somebody.
        examination: String::new(),
        at: way.kit.clock.now(),
    }];
    if priority < row.priority {
        let (study_uid, at) = (way.study_uid.clone(), way.kit.clock.now());
        events.push(Event::PrioritySet { study_uid, priority, by: by.to_owned(), at });
    }
    way.kit.store.commit(events).await.map_err(StepError::passing)
}

/// The study as far as the first of its images that can be parsed says.
async fn first_image(way: &Way<'_>) -> Result<Option<Study>, StepError> {
    let instances = way.kit.store.instances(way.study_uid).map_err(StepError::passing)?;
    let first = instances.into_iter().find(|row| row.receipt.unreadable.is_none());
    let Some(row) = first else { return Ok(None) };
    way.kit.store.filed(way.study_uid).await.map_err(StepError::passing)?;
    let sop_instance_uid = row.receipt.sop_instance_uid;
    let objects = vec![Object { object: row.receipt.object, sop_instance_uid }];
    let inspected = way.kit.pool.inspect(way.kit.store.data(), objects).await;
    let (parsed, _) = inspected.map_err(steps::unworked)?;
    let is_parsed = !parsed.is_empty();
    let mut study = Study::gather(StudyUid::clone(way.study_uid), parsed, Vec::new());
    let accession = study.attributes.accession_number.trim();
    let kept = way.kit.orders.of([study.study_uid.as_str(), accession]);
    study.order = orders::choose(kept, &study);
    Ok(is_parsed.then_some(study))
}

/// How soon a study is wanted, and who says so: the most urgent word counts.
///
/// - `source`: calling AE title.
pub fn wanted(kit: &Kit, study: &Study, source: &str) -> (Priority, &'static str) {
    let source = kit.pipeline.sources.get(source).copied().unwrap_or_default();
    let order = match &study.order {
        Sought::Found { order } => Priority::of_words(&order.priority),
        Sought::Nowhere | Sought::NotFound | Sought::OtherPatient => Priority::default(),
    };
    let said = [
        (Priority::of_words(&study.attributes.requested_priority), "the images"),
        (order, "the order"),
        (source, "its source"),
    ];
    said.into_iter().min_by_key(|(priority, _)| *priority).unwrap_or_default()
}
