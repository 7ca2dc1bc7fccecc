//! The first page: which study a person should look at first.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Extension;
use axum::extract::Query;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::store::StudyRow;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::inspect;
use crate::web::live;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Level;
use crate::web::page::Moment;
use crate::web::problem::Failure;

/// Who the patient is, from the assessment: the ledger and the index do not know it. One entry
/// for each assessment that a list has shown.
#[derive(Default)]
pub struct People(Mutex<HashMap<(StudyUid, u32), Person>>);

const PEOPLE_MAX: usize = 4096;

#[derive(Debug, Clone, Default, Serialize)]
pub struct Person {
    pub name: String,
    pub id: String,
    /// Sex and age, e.g. `F, 4 y`.
    pub details: String,
    pub birth_date: String,
    pub study_date: String,
    pub accession_number: String,
    pub description: String,
}

pub fn person(study: &Study) -> Person {
    let patient = &study.patient;
    let age = study.age_years().map(|years| match years {
        years if years < 2.0 => format!("{} mo", (years * 12.0).floor()),
        years => format!("{} y", years.floor()),
    });
    let parts = [Some(patient.sex.clone()).filter(|sex| !sex.is_empty()), age];
    let attributes = &study.attributes;
    let time = attributes.study_time.get(..4).filter(|hm| hm.bytes().all(|b| b.is_ascii_digit()));
    let time = time.map(|hm| format!(" {}:{}", &hm[..2], &hm[2..])).unwrap_or_default();
    Person {
        name: patient.name.display(),
        id: patient.id.clone(),
        details: parts.into_iter().flatten().collect::<Vec<_>>().join(", "),
        birth_date: page::date(&patient.birth_date),
        study_date: page::date(&attributes.study_date) + &time,
        accession_number: attributes.accession_number.clone(),
        description: attributes.study_description.clone(),
    }
}

impl People {
    fn of(&self, web: &Shared, row: &StudyRow) -> Option<Person> {
        let key = (row.study_uid.clone(), row.assessed_revision?);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(person) = lock().get(&key) {
            return Some(person.clone());
        }
        let assessment = inspect::assessment_of(&web.node.store, &key.0, key.1).ok()??;
        let found = person(&assessment.study);
        let mut people = lock();
        if people.len() >= PEOPLE_MAX {
            people.clear();
        }
        people.insert(key, found.clone());
        Some(found)
    }
}

#[derive(Serialize)]
struct Row {
    uid: StudyUid,
    level: Level,
    state: &'static str,
    reason: String,
    person: Person,
    modality: String,
    examination: String,
    /// What was found, or why nothing can be said.
    findings: Vec<String>,
    note: &'static str,
    instances: u32,
    missing: String,
    revision: u32,
    received: Moment,
    from: String,
}

#[derive(Serialize)]
struct Tile {
    key: &'static str,
    word: &'static str,
    count: usize,
    href: String,
    chosen: bool,
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    tiles: Vec<Tile>,
    rows: Vec<Row>,
    /// Studies behind the page's limit are not shown: say so.
    limit: usize,
    is_cut: bool,
    is_filtered: bool,
}

#[derive(Deserialize)]
pub struct Wanted {
    show: Option<String>,
}

pub async fn show(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    web.audit.look(None, "worklist", &viewer).await;
    let page = web.read(move |web| page_of(web, wanted.show.as_deref().unwrap_or("all"))).await?;
    web.pages.render("worklist", &page)
}

/// Groups by which the list can be cut down: key, word, levels.
const GROUPS: [(&str, &str, &[&str]); 5] = [
    ("critical", "Critical", &["critical"]),
    ("urgent", "Urgent", &["urgent"]),
    ("review", "Needs a person", &["review", "failed"]),
    ("pending", "In progress", &["pending"]),
    ("all", "All", &[]),
];

fn page_of(web: &Shared, show: &str) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let limit = web.node.config.worklist_max;
    let mut frame = Frame::new(web, "Worklist", "worklist");
    frame.events = "/events".into();
    frame.version = live::version(web, None)?;
    let mut studies = web.node.store.studies(limit)?;
    let is_cut = studies.len() >= limit;
    let level = |row: &StudyRow| page::level(row.state, row.outcome.as_deref(), row.urgency);
    // The most urgent first; then the newest.
    studies.sort_by(|a, b| {
        let newest = || b.last_received_at.cmp(&a.last_received_at);
        level(a).rank.cmp(&level(b).rank).then_with(newest)
    });
    let group = GROUPS.iter().find(|group| group.0 == show).unwrap_or(&GROUPS[4]);
    let tiles = GROUPS.map(|(key, word, levels)| Tile {
        key,
        word,
        count: studies.iter().filter(|row| belongs(levels, level(row))).count(),
        href: if key == "all" { "/".into() } else { format!("/?show={key}") },
        chosen: key == group.0,
    });
    studies.retain(|row| belongs(group.2, level(row)));
    let rows = studies.into_iter().map(|study| row(web, study, now)).collect();
    Ok(Page { frame, tiles: tiles.into(), rows, limit, is_cut, is_filtered: group.0 != "all" })
}

fn belongs(levels: &[&str], level: Level) -> bool {
    levels.is_empty() || levels.contains(&level.key)
}

fn row(web: &Shared, study: StudyRow, now: Timestamp) -> Row {
    let note = match (study.outcome.as_deref(), study.state) {
        (Some("not_covered"), _) => "No model covers this study: measurements only",
        (Some("needs_review"), _) | (_, StudyState::NeedsReview) => "A person must look",
        (Some("read"), _) if study.findings.is_empty() => "Nothing seen of what was looked for",
        (_, StudyState::Failed) => "Could not be read",
        (_, StudyState::Held) => "Not for reading",
        _ => "",
    };
    Row {
        level: page::level(study.state, study.outcome.as_deref(), study.urgency),
        state: page::state_word(study.state),
        person: web.people.of(web, &study).unwrap_or_default(),
        note,
        received: page::moment(study.last_received_at, now),
        uid: study.study_uid,
        reason: study.reason,
        modality: study.modality,
        examination: study.examination,
        findings: study.findings,
        instances: study.instances,
        missing: study.shortfall.map(|missing| missing.what).unwrap_or_default(),
        revision: study.revision,
        from: study.calling_ae,
    }
}
