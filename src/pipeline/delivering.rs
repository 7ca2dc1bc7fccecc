//! The outbox: which artefact goes where, one try of it, and when a study counts as delivered.

use std::path::Path;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::deliver;
use crate::deliver::DeliverError;
use crate::deliver::pacs::Artefact;
use crate::domain::message::Message;
use crate::domain::uid::StudyUid;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::messages;
use crate::pipeline::way::Way;
use crate::store::DeliveryState;
use crate::store::JobState;
use crate::store::RefusalRow;
use crate::store::RevisionRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// Which file goes where: one outbox entry for each.
pub fn outbox(config: &crate::deliver::Config, files: &[&str]) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    for (name, pacs) in &config.pacs {
        for artefact in &pacs.artefacts {
            let own = files.iter().filter(|file| Artefact::of_file(file) == Some(*artefact));
            entries.extend(own.map(|file| ((*file).to_owned(), format!("pacs.{name}"))));
        }
    }
    for (name, stow) in &config.stow {
        for artefact in &stow.artefacts {
            let own = files.iter().filter(|file| Artefact::of_file(file) == Some(*artefact));
            entries.extend(own.map(|file| ((*file).to_owned(), format!("stow.{name}"))));
        }
    }
    for (name, fhir) in &config.fhir {
        entries.push((fhir.patient.file().to_owned(), format!("fhir.{name}")));
    }
    for name in config.mllp.keys() {
        entries.push((deliver::mllp::FILE.to_owned(), format!("mllp.{name}")));
    }
    let mailboxes = config.mailbox.keys().map(|name| format!("mailbox.{name}"));
    let hooks = config.webhook.iter().filter(|(_, hook)| hook.reports);
    for destination in mailboxes.chain(hooks.map(|(name, _)| format!("webhook.{name}"))) {
        entries.push((deliver::message_file(&destination), destination));
    }
    for (name, folder) in &config.folder {
        let taken = files.iter().filter(|file| folder.takes(file));
        entries.extend(taken.map(|file| ((*file).to_owned(), format!("folder.{name}"))));
    }
    entries
}

/// What of earlier revisions waits for its next try is tried now: this revision stands behind it.
pub fn hurry(way: &Way<'_>) -> Result<Vec<Event>, StepError> {
    let (store, at) = (&way.kit.store, way.kit.clock.now());
    let mut events = Vec::new();
    for row in store.deliveries(way.study_uid).map_err(StepError::passing)? {
        if row.revision >= way.revision || row.state != DeliveryState::Queued {
            continue;
        }
        let (artefact, destination) = (row.artefact, row.destination);
        let kind = JobKind::Deliver { artefact, destination };
        let id = job::job(kind, way.study_uid, row.revision, at).id;
        let job = store.job(&id).map_err(StepError::passing)?;
        // One that no try was made of waits for a person's word, or is on its way.
        if job.is_some_and(|job| job.state == JobState::Waiting && job.attempts > 0) {
            events.push(Event::JobRetried { id, by: String::new(), at });
        }
    }
    Ok(events)
}

/// One artefact to one destination. A second run sends the same SOP Instance UID.
pub async fn deliver(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
) -> Result<Vec<Event>, StepError> {
    let file = way.kit.store.result_path(way.study_uid, way.revision, artefact);
    let file = file.ok_or_else(|| StepError::lasting(format!("{artefact} is no result file")))?;
    let gone = || StepError::lasting(format!("{destination} is not in the configuration any more"));
    if let Some(newer) = newer(way, artefact, destination)? {
        let detail = format!("not sent: revision {newer} takes its place");
        return Ok(vec![delivered(way, artefact, destination, detail, false)]);
    }
    let sent = match destination.split_once('.') {
        Some(("pacs", name)) => {
            let pacs = way.kit.deliver.pacs.get(name).ok_or_else(gone)?;
            // Where nothing says the same it is tried again: a refusal may have ended.
            if let Some(kind) = Artefact::of_file(artefact).filter(|_| pacs.fallback)
                && is_refused(way, pacs, kind, destination)?
                && let why = "it took none of this kind lately"
                && let Some(events) = in_its_place(way, artefact, kind, destination, why)?
            {
                return Ok(events);
            }
            deliver::pacs::deliver(pacs, &file).await
        }
        Some(("folder", name)) => {
            let folder = way.kit.deliver.folder.get(name).ok_or_else(gone)?;
            let within = format!("{}/{}", way.study_uid, way.revision);
            deliver::folder::deliver(folder, Path::new(&within), &file).await
        }
        Some(("mllp", name)) => {
            let mllp = way.kit.deliver.mllp.get(name).ok_or_else(gone)?;
            deliver::mllp::deliver(mllp, &file).await
        }
        Some(("stow", name)) => {
            let stow = way.kit.deliver.stow.get(name).ok_or_else(gone)?;
            deliver::stow::deliver(stow, &file).await
        }
        Some(("fhir", name)) => {
            let fhir = way.kit.deliver.fhir.get(name).ok_or_else(gone)?;
            deliver::fhir::deliver(fhir, &file).await
        }
        Some(("mailbox", name)) => {
            let mailbox = way.kit.deliver.mailbox.get(name).ok_or_else(gone)?;
            // To where it goes now: an address may have been put right since.
            let message = Message { to: mailbox.to.clone(), ..messages::ready(way, artefact)? };
            deliver::email::send(&way.kit.deliver.email, &message).await
        }
        Some(("webhook", name)) => {
            let hook = way.kit.deliver.webhook.get(name).ok_or_else(gone)?;
            let message = messages::ready(way, artefact)?;
            deliver::webhook::send(hook, &message, way.kit.clock.now()).await
        }
        _ => return Err(gone()),
    };
    let sent = match sent {
        Err(DeliverError::NotTaken { answer }) => {
            return not_taken(way, artefact, destination, &answer).await;
        }
        sent => sent.map_err(undelivered)?,
    };
    metrics::counter!("prelim_deliveries_total", "destination" => destination.to_owned())
        .increment(1);
    let unproven = way.kit.deliver.asks_for_proof(destination);
    let mut events = vec![delivered(way, artefact, destination, sent.detail, unproven)];
    if unproven {
        let (artefact, destination) = (artefact.to_owned(), destination.to_owned());
        events.push(way.next(JobKind::Prove { artefact, destination }));
    }
    Ok(events)
}

/// The destination takes none of this kind: remembered for a while, and what says the same goes in
/// its place.
///
/// # Errors
/// Lasting when nothing does.
async fn not_taken(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
    why: &str,
) -> Result<Vec<Event>, StepError> {
    let refused = || StepError::lasting(format!("refused: {why}"));
    let kind = Artefact::of_file(artefact).ok_or_else(refused)?;
    metrics::counter!("prelim_kinds_refused_total", "destination" => destination.to_owned())
        .increment(1);
    tracing::warn!(destination, kind = kind.as_str(), why, "the destination takes none of a kind");
    let remembered = Event::KindRefused {
        destination: destination.to_owned(),
        kind: kind.as_str().to_owned(),
        why: why.to_owned(),
        at: way.kit.clock.now(),
    };
    match in_its_place(way, artefact, kind, destination, why)? {
        Some(events) => Ok([vec![remembered], events].concat()),
        None => {
            // A step that fails leaves no events: the next that looks for a place has to know.
            way.kit.store.commit(vec![remembered]).await.map_err(StepError::passing)?;
            Err(StepError::lasting(format!("refused: {why}; nothing else says the same")))
        }
    }
}

/// The next kind that the destination is not known to refuse, with a job for each of its files;
/// `None` when there is none.
fn in_its_place(
    way: &Way<'_>,
    artefact: &str,
    kind: Artefact,
    destination: &str,
    why: &str,
) -> Result<Option<Vec<Event>>, StepError> {
    let name = destination.strip_prefix("pacs.").unwrap_or_default();
    let pacs = way.kit.deliver.pacs.get(name).filter(|pacs| pacs.fallback);
    let Some(pacs) = pacs else { return Ok(None) };
    let kept = way.kit.store.artefacts(way.study_uid, way.revision).map_err(StepError::passing)?;
    let mut next = kind.fallback();
    while let Some(other) = next {
        let own = kept.iter().filter(|row| Artefact::of_file(&row.file) == Some(other));
        let files: Vec<String> = own.map(|row| row.file.clone()).collect();
        if files.is_empty() || is_refused(way, pacs, other, destination)? {
            next = other.fallback();
            continue;
        }
        let (study_uid, revision, at) = (way.study_uid.clone(), way.revision, way.kit.clock.now());
        let mut events = vec![Event::DeliveryReplaced {
            study_uid,
            revision,
            artefact: artefact.to_owned(),
            destination: destination.to_owned(),
            by: files.join(", "),
            cause: why.to_owned(),
            at,
        }];
        // One that goes there anyway has its job already.
        for artefact in files {
            let destination = destination.to_owned();
            events.push(way.next(JobKind::Deliver { artefact, destination }));
        }
        return Ok(Some(events));
    }
    Ok(None)
}

/// Whether the destination took none of this kind lately.
fn is_refused(
    way: &Way<'_>,
    pacs: &deliver::pacs::Config,
    kind: Artefact,
    destination: &str,
) -> Result<bool, StepError> {
    let rows = way.kit.store.refusals(destination).map_err(StepError::passing)?;
    let hours = SignedDuration::from_hours(i64::try_from(pacs.refusal_hours).unwrap_or(24));
    let now = way.kit.clock.now();
    let holds = |row: &RefusalRow| now.duration_since(row.at) < hours;
    Ok(rows.iter().any(|row| row.kind == kind.as_str() && holds(row)))
}

fn delivered(
    way: &Way<'_>,
    artefact: &str,
    destination: &str,
    detail: String,
    unproven: bool,
) -> Event {
    Event::Delivered {
        study_uid: way.study_uid.clone(),
        revision: way.revision,
        artefact: artefact.to_owned(),
        destination: destination.to_owned(),
        detail,
        unproven,
        at: way.kit.clock.now(),
    }
}

/// Destinations at which a report takes the place of the one before: it must not be overtaken.
const REPLACING: [&str; 4] = ["mllp.", "fhir.", "mailbox.", "webhook."];

/// The later revision that is on its way to the same place, for which this one is not sent any more.
/// Two are never sent at a time: they stand in one line.
fn newer(way: &Way<'_>, artefact: &str, destination: &str) -> Result<Option<u32>, StepError> {
    if !REPLACING.iter().any(|kind| destination.starts_with(kind)) {
        return Ok(None);
    }
    let rows = way.kit.store.deliveries(way.study_uid).map_err(StepError::passing)?;
    let same = rows.iter().filter(|row| row.artefact == artefact && row.destination == destination);
    Ok(same.map(|row| row.revision).filter(|revision| *revision > way.revision).max())
}

pub fn undelivered(error: DeliverError) -> StepError {
    match error.is_transient() {
        true => StepError::passing_after(error.wait(), error),
        false => StepError::lasting(error),
    }
}

/// Marks a revision as delivered once nothing of it is on its way any more.
pub async fn settle(
    store: &Store,
    study_uid: &StudyUid,
    revision: u32,
    at: Timestamp,
) -> Result<(), StoreError> {
    let revisions = store.revisions(study_uid)?;
    let composed =
        |row: &&RevisionRow| row.revision == revision && row.state == StudyState::Composed;
    if !revisions.iter().any(|row| composed(&row)) {
        return Ok(());
    }
    let deliveries = store.deliveries(study_uid)?;
    let own: Vec<_> = deliveries.iter().filter(|row| row.revision == revision).collect();
    let is_there = |state| match state {
        DeliveryState::Done => true,
        DeliveryState::Queued
        | DeliveryState::Unproven
        | DeliveryState::Dead
        | DeliveryState::Dropped => false,
    };
    let is_over = |state| is_there(state) || state == DeliveryState::Dropped;
    if !own.iter().all(|row| is_over(row.state)) || !own.iter().any(|row| is_there(row.state)) {
        return Ok(());
    }
    let there = own.iter().filter(|row| is_there(row.state));
    let destinations: std::collections::BTreeSet<&str> =
        there.map(|row| row.destination.as_str()).collect();
    let reason = format!("to {}", destinations.into_iter().collect::<Vec<_>>().join(", "));
    let to = StudyState::Delivered;
    let study_uid = study_uid.clone();
    store.commit(vec![Event::StateChanged { study_uid, revision, to, reason, at }]).await
}
