//! One study: what was found, and what became of it.

use axum::Extension;
use axum::extract::Path;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use crate::analysis::codes;
use crate::domain::identities::Identity;
use crate::domain::origin;
use crate::domain::origin::Origin;
use crate::domain::origin::Why;
use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::pipeline::record;
use crate::pipeline::replay;
use crate::pipeline::whose;
use crate::store::AlertRow;
use crate::store::DeliveryRow;
use crate::store::DeliveryState;
use crate::store::JobRow;
use crate::store::JobState;
use crate::store::Store;
use crate::store::event::JobKind;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::answer;
use crate::web::evidence;
use crate::web::evidence::OpinionPart;
use crate::web::evidence::RunPart;
use crate::web::inspect;
use crate::web::inspect::StudyView;
use crate::web::live;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Level;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::query::Choice;
use crate::web::reading;
use crate::web::reading::ReadingPart;
use crate::web::viewer;
use crate::web::words::Phrase;
use crate::web::worklist;
use crate::web::worklist::Person;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    uid: StudyUid,
    level: Level,
    /// How soon it is wanted; empty for routine.
    priority: &'static str,
    state: StudyState,
    reason: String,
    revision: u32,
    instances: u32,
    conflicts: u32,
    /// What of the study did not come; empty when nothing is known to be missing.
    missing: String,
    /// Whom its reading waits for.
    waits: Option<WaitPart>,
    modality: String,
    examination: String,
    from: String,
    received: Moment,
    /// None until the headers have been read.
    person: Option<Person>,
    reading: Option<ReadingPart>,
    history: Vec<HistoryPart>,
    /// Who looked at it.
    looks: Vec<HistoryPart>,
    deliveries: Vec<DeliveryPart>,
    alerts: Vec<AlertPart>,
    artefacts: Vec<ArtefactPart>,
    /// Where its images name more than one patient.
    whose: Option<WhosePart>,
    objects: Vec<ObjectsPart>,
    /// [`viewer::Stack`] as JSON; empty where there is nothing to scroll through.
    stack: String,
    runs: Vec<RunPart>,
    cost: String,
    opinions: Vec<OpinionPart>,
    /// Findings that a doctor can name as missed.
    known: Vec<Choice>,
    can_complete: bool,
    can_read_again: bool,
    can_hold: bool,
    by: String,
}

#[derive(Serialize)]
struct WaitPart {
    gateway: String,
    /// Why the last try failed.
    cause: String,
    next: Moment,
}

#[derive(Serialize)]
struct HistoryPart {
    at: Moment,
    revision: Option<u32>,
    what: String,
    detail: String,
}

#[derive(Serialize)]
struct DeliveryPart {
    artefact: String,
    destination: String,
    state: DeliveryState,
    key: &'static str,
    detail: String,
    attempts: u32,
    at: Moment,
}

#[derive(Serialize)]
struct AlertPart {
    key: String,
    level: Level,
    findings: String,
    service: String,
    raised: Moment,
    standing: Phrase,
    /// Set where a later reading does not show it.
    doubt: Option<Phrase>,
    /// When everyone was told again from the beginning.
    begun_again: Vec<Moment>,
    is_open: bool,
    steps: Vec<StepPart>,
    declined: Vec<String>,
    sendings: Vec<DeliveryPart>,
}

#[derive(Serialize)]
struct StepPart {
    why: String,
    to: String,
    at: Moment,
}

#[derive(Serialize)]
struct ArtefactPart {
    file: String,
    href: String,
    revision: u32,
    media_type: String,
    size: String,
    at: Moment,
}

#[derive(Serialize)]
struct WhosePart {
    differs: Vec<Phrase>,
    patients: Vec<PatientPart>,
    /// Who has said whose it is; empty: nobody yet.
    settled: String,
}

/// One of the patients, with the values.
#[derive(Serialize)]
struct PatientPart {
    number: usize,
    name: String,
    id: String,
    issuer: String,
    birth_date: String,
    sex: String,
    objects: u32,
    holds: bool,
}

/// Objects of one series, and what they are.
#[derive(Serialize)]
struct ObjectsPart {
    series: String,
    instances: u32,
    /// `undecided`, else the origin.
    origin: &'static str,
    why: Phrase,
    by: String,
    /// Where one of them is shown; empty where it has no picture, or none is served.
    href: String,
    /// What a person can make of them.
    choices: Vec<&'static str>,
}

pub async fn show(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let unknown = || Failure::not_found(Phrase::new("problem.study"));
    let uid = StudyUid::parse(&uid).map_err(|_| unknown())?;
    let of = uid.clone();
    let by = viewer.person.clone().unwrap_or_default();
    let page = web.read(move |web| page_of(web, &of, by)).await?.ok_or_else(unknown)?;
    web.audit.look(Some(&uid), "study page", &viewer).await;
    web.pages.render("study", &page)
}

fn page_of(web: &Shared, uid: &StudyUid, by: String) -> Result<Option<Page>, Failure> {
    let now = web.node.clock.now();
    let store = &web.node.store;
    // Before the rest, so that a change meanwhile is told.
    let version = live::version(web, Some(uid))?;
    let Some(view) = inspect::study(store, uid)? else { return Ok(None) };
    let assessment = inspect::assessment(store, uid, &view.revisions)?;
    let mut frame = Frame::new(web, "study", "");
    frame.events = format!("/events?study={uid}");
    frame.version = version;
    let study = match &assessment {
        Some(assessment) => Some(assessment.study.clone()),
        None => replay::file::<Study>(store, uid, view.study.revision, record::STUDY),
    };
    let shows = web.node.config.dicomweb.enabled && view.study.objects_removed_at.is_none();
    let stack = study.filter(|_| shows).map(|study| viewer::stack(&study, assessment.as_ref()));
    let stack = stack.filter(|stack| !stack.series.is_empty());
    let stack = stack.and_then(|stack| serde_json::to_string(&stack).ok()).unwrap_or_default();
    let runs = replay::runs(store, uid, view.study.assessed_revision.unwrap_or(1))?;
    let currency = &web.node.currency;
    let receives = view.study.state == StudyState::Receiving;
    let goes_on =
        |job: &JobRow| job.job.kind.is_reading() || matches!(job.job.kind, JobKind::Deliver { .. });
    let person = match &assessment {
        Some(assessment) => Some(worklist::person(&assessment.study)),
        None => web.people.of(web, &view.study),
    };
    let waits = view.jobs.iter().find_map(|row| waits(row, now));
    let reading = assessment.map(|assessment| reading::part(&view, assessment, now));
    let (looks, history) = history(&view, now).into_iter().partition(|row| row.what == "access");
    Ok(Some(Page {
        frame,
        uid: uid.clone(),
        level: page::level_with(
            page::level(view.study.state, view.study.outcome.as_deref(), view.study.urgency),
            view.alerts.iter().filter(|row| row.standing.is_unanswered()),
        ),
        priority: page::sooner(view.study.priority),
        state: view.study.state,
        person,
        waits,
        reading,
        history,
        looks,
        deliveries: view.deliveries.iter().map(|row| delivery(row, now)).collect(),
        alerts: view.alerts.iter().map(|row| alert(row, now)).collect(),
        artefacts: artefacts(&view, now),
        whose: whose_part(store, &view)?,
        objects: view.objects.iter().map(|one| objects(uid, one, shows)).collect(),
        stack,
        runs: evidence::runs(&runs, currency, now),
        cost: evidence::cost(&runs, currency),
        opinions: evidence::opinions(&view.comparisons, now),
        known: known_findings(),
        can_complete: receives,
        can_read_again: !receives && view.study.objects_removed_at.is_none(),
        can_hold: !receives && view.jobs.iter().any(goes_on),
        by,
        received: page::moment(view.study.last_received_at, now),
        reason: view.study.reason,
        revision: view.study.revision,
        instances: view.study.instances,
        conflicts: view.study.conflicts,
        missing: view.study.shortfall.map(|missing| missing.what).unwrap_or_default(),
        modality: view.study.modality,
        examination: view.study.examination,
        from: view.study.calling_ae,
    }))
}

/// A reading that a gateway holds up after a try that failed.
fn waits(row: &JobRow, now: Timestamp) -> Option<WaitPart> {
    let gateway = match &row.job.kind {
        JobKind::Shadow { .. } => None,
        kind => kind.gateway(),
    };
    let is_held_up = row.state == JobState::Waiting && !row.cause.is_empty();
    gateway.filter(|_| is_held_up).map(|gateway| WaitPart {
        gateway: gateway.to_owned(),
        cause: row.cause.clone(),
        next: page::moment(row.due, now),
    })
}

fn known_findings() -> Vec<Choice> {
    let rows = codes::rows().iter();
    rows.map(|row| Choice {
        value: row.key.clone(),
        text: Phrase::plain(&row.concept.meaning),
        chosen: false,
    })
    .collect()
}

/// The newest first.
fn history(view: &StudyView, now: Timestamp) -> Vec<HistoryPart> {
    let part = |row: &crate::store::HistoryRow| HistoryPart {
        at: page::moment(row.at, now),
        revision: row.revision,
        what: row.what.clone(),
        detail: row.detail.clone(),
    };
    view.history.iter().rev().map(part).collect()
}

fn delivery(row: &DeliveryRow, now: Timestamp) -> DeliveryPart {
    DeliveryPart {
        artefact: row.artefact.clone(),
        destination: row.destination.clone(),
        state: row.state,
        key: delivery_key(row.state),
        detail: if row.detail.is_empty() { row.cause.clone() } else { row.detail.clone() },
        attempts: row.attempts,
        at: page::moment(row.at, now),
    }
}

fn delivery_key(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Queued => "pending",
        DeliveryState::Unproven => "running",
        DeliveryState::Done => "done",
        DeliveryState::Dead => "failed",
        DeliveryState::Dropped => "held",
    }
}

fn alert(row: &AlertRow, now: Timestamp) -> AlertPart {
    let sending = |sending: &crate::store::AlertSending| DeliveryPart {
        artefact: row.alert.clone(),
        destination: sending.channel.clone(),
        state: sending.state,
        key: delivery_key(sending.state),
        detail: match sending.detail.is_empty() {
            true => sending.cause.clone(),
            false => sending.detail.clone(),
        },
        attempts: sending.attempts,
        at: page::moment(sending.at, now),
    };
    let escalated = row.steps.iter().filter(|step| step.level > 0);
    AlertPart {
        key: row.alert.clone(),
        level: page::alert_level(row.urgency),
        findings: row.findings.join(", "),
        service: row.service.clone(),
        raised: page::moment(row.raised_at, now),
        standing: answer::standing(row, now),
        doubt: answer::doubt(row, now),
        begun_again: row.begun_again.iter().map(|at| page::moment(*at, now)).collect(),
        is_open: row.standing.is_unanswered(),
        steps: escalated
            .map(|step| StepPart {
                why: step.why.clone(),
                to: step.channels.join(", "),
                at: page::moment(step.at, now),
            })
            .collect(),
        declined: row.declined.iter().map(|answer| answer.by.clone()).collect(),
        sendings: row.sendings.iter().map(sending).collect(),
    }
}

fn whose_part(store: &Store, view: &StudyView) -> Result<Option<WhosePart>, Failure> {
    let Some(whose) = &view.study.whose else { return Ok(None) };
    let settled = whose.settled.as_ref();
    let found = whose::patients(store, &view.study.study_uid)?;
    let part = |(nth, one): (usize, Identity)| PatientPart {
        number: nth + 1,
        name: one.patient.name.display(),
        holds: settled.is_some_and(|settled| settled.holds == one.like),
        id: one.patient.id,
        issuer: one.patient.issuer_of_id,
        birth_date: one.patient.birth_date,
        sex: one.patient.sex,
        objects: one.objects,
    };
    Ok(Some(WhosePart {
        differs: whose.elements.iter().map(|element| Phrase::new(element.key())).collect(),
        patients: found.into_iter().enumerate().map(part).collect(),
        settled: settled.map(|settled| settled.by.clone()).unwrap_or_default(),
    }))
}

fn objects(uid: &StudyUid, one: &inspect::Objects, shows: bool) -> ObjectsPart {
    let why = match &one.why {
        Some(why @ Why::OurArtefact { revision, file }) => {
            Phrase::new(why.key()).with("revision", revision).with("file", file)
        }
        Some(why @ Why::Person { reason }) => Phrase::new(why.key()).with("reason", reason),
        Some(why) => Phrase::new(why.key()),
        None => Phrase::new("why.open"),
    };
    let (series, sop) = (&one.series_uid, &one.sop_instance_uid);
    let place = format!("/dicom-web/studies/{uid}/series/{series}/instances/{sop}/rendered");
    let others = Origin::BY_PERSON.into_iter().filter(|other| Some(*other) != one.origin);
    ObjectsPart {
        series: series.to_string(),
        instances: one.instances,
        origin: one.origin.map_or("undecided", Origin::as_str),
        why,
        by: one.by.clone(),
        href: if shows && origin::may_have_pixels(one.sop_class_uid.as_str()) {
            place
        } else {
            String::new()
        },
        choices: others.map(Origin::as_str).collect(),
    }
}

/// The newest revision first.
fn artefacts(view: &StudyView, now: Timestamp) -> Vec<ArtefactPart> {
    let uid = &view.study.study_uid;
    let mut parts: Vec<ArtefactPart> = view
        .artefacts
        .iter()
        .map(|artefact| ArtefactPart {
            href: format!("/results/{uid}/{}/{}", artefact.row.revision, artefact.row.file),
            file: artefact.row.file.clone(),
            revision: artefact.row.revision,
            media_type: artefact.row.media_type.clone(),
            size: page::size(artefact.row.size_bytes),
            at: page::moment(artefact.row.at, now),
        })
        .collect();
    parts.sort_by(|a, b| b.revision.cmp(&a.revision).then_with(|| a.file.cmp(&b.file)));
    parts
}
