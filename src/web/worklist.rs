//! The first page: which study a person should look at first.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;

use axum::Extension;
use axum::extract::Query;
use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::alert::Standing;
use crate::domain::study::Study;
use crate::domain::uid::StudyUid;
use crate::pipeline::record;
use crate::pipeline::replay;
use crate::store::StudyRow;
use crate::store::event::JobKind;
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
use crate::web::query;
use crate::web::query::Choice;

/// Who the patient is, from the assessment: the ledger and the index do not know it. One entry
/// for each assessment that a list has shown.
#[derive(Default)]
pub struct People(Mutex<HashMap<(StudyUid, u32), Person>>);

const PEOPLE_MAX: usize = 20_000;
/// Studies whose patients are looked up for one search.
const SEARCHED_MAX: usize = 5000;
/// Studies that are counted by their groups, the latest changes: of ten days where 500 come in a day.
const COUNTED_MAX: usize = 5000;
const SEARCH_CHARS_MAX: usize = 100;

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
    pub fn of(&self, web: &Shared, row: &StudyRow) -> Option<Person> {
        let (store, uid) = (&web.node.store, &row.study_uid);
        // Before the first reading, as far as its images have said.
        let revision = row.assessed_revision.unwrap_or_default();
        let key = (uid.clone(), revision);
        let lock = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(person) = lock().get(&key) {
            return Some(person.clone());
        }
        let study = match revision {
            0 => (1..=row.revision).rev().find_map(|revision| {
                let file = |name| replay::file::<Study>(store, uid, revision, name);
                file(record::STUDY).or_else(|| file(record::MET))
            })?,
            revision => inspect::assessment_of(store, uid, revision).ok()??.study,
        };
        let found = person(&study);
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
    /// How soon it is wanted; empty for routine.
    priority: &'static str,
    state: StudyState,
    reason: String,
    person: Person,
    modality: String,
    examination: String,
    /// What was found.
    findings: Vec<String>,
    /// Key of why nothing can be said, or empty.
    note: &'static str,
    instances: u32,
    missing: String,
    revision: u32,
    received: Moment,
    from: String,
    alert: Option<OpenAlert>,
}

/// An alert that nobody has answered.
#[derive(Debug, Clone, Serialize)]
struct OpenAlert {
    #[serde(skip)]
    level: Level,
    /// When the next are told; none once everyone was.
    until: Option<Moment>,
    /// `mm:ss`, with hours where there are, at the time of the page.
    left: String,
}

#[derive(Serialize)]
struct Tile {
    key: &'static str,
    count: usize,
    /// There are older studies, which are not counted.
    is_more: bool,
    href: String,
    chosen: bool,
}

#[derive(Serialize)]
struct Page {
    frame: Frame,
    tiles: Vec<Tile>,
    rows: Vec<Row>,
    wanted: Wanted,
    modalities: Vec<Choice>,
    states: Vec<Choice>,
    sources: Vec<Choice>,
    is_filtered: bool,
    page: usize,
    newer: Option<String>,
    older: Option<String>,
    /// Above zero: only the patients of so many studies were searched.
    searched: usize,
}

/// The filters, as they stand in the query.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Wanted {
    show: String,
    modality: String,
    state: String,
    source: String,
    from: String,
    to: String,
    q: String,
    page: String,
}

impl Wanted {
    fn href(&self, show: &str, page: usize) -> String {
        let page = if page > 1 { page.to_string() } else { String::new() };
        let show = if show == "all" { "" } else { show };
        query::href(
            "/",
            &[
                ("show", show),
                ("modality", &self.modality),
                ("state", &self.state),
                ("source", &self.source),
                ("from", &self.from),
                ("to", &self.to),
                ("q", &self.q),
                ("page", &page),
            ],
        )
    }

    fn is_narrow(&self) -> bool {
        [&self.modality, &self.state, &self.source, &self.from, &self.to, &self.q]
            .iter()
            .any(|field| !field.is_empty())
    }

    /// All but the search, which needs the patient.
    fn takes(&self, row: &StudyRow, zone: &TimeZone) -> bool {
        let day = row.first_received_at.to_zoned(zone.clone()).date();
        let since = self.from.parse::<Date>().is_ok_and(|from| day < from);
        let until = self.to.parse::<Date>().is_ok_and(|to| day > to);
        (self.modality.is_empty() || self.modality == row.modality)
            && (self.state.is_empty() || self.state == query::word(&row.state))
            && (self.source.is_empty() || self.source == row.calling_ae)
            && !since
            && !until
    }
}

/// Whether `words`, each of them, stand in what is known of the study.
fn is_found(words: &[String], row: &StudyRow, person: Option<&Person>) -> bool {
    let mut text = format!("{} {} {}", row.study_uid, row.examination, row.findings.join(" "));
    if let Some(person) = person {
        for part in [&person.name, &person.id, &person.accession_number, &person.description] {
            text.push(' ');
            text.push_str(part);
        }
    }
    let text = text.to_lowercase();
    words.iter().all(|word| text.contains(word.as_str()))
}

pub async fn show(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    web.audit.look(None, "worklist", &viewer).await;
    let page = web.read(move |web| page_of(web, wanted)).await?;
    web.pages.render("worklist", &page)
}

/// Groups by which the list can be cut down: key and levels. `alerts`: those that wait for an answer.
const GROUPS: [(&str, &[&str]); 6] = [
    ("critical", &["critical"]),
    ("urgent", &["urgent"]),
    ("alerts", &[]),
    ("review", &["review", "failed"]),
    ("pending", &["pending"]),
    ("all", &[]),
];

fn level(row: &StudyRow, alert: Option<&OpenAlert>) -> Level {
    let own = page::level(row.state, row.outcome.as_deref(), row.urgency);
    alert.map_or(own, |alert| page::first(own, alert.level))
}

fn page_of(web: &Shared, mut wanted: Wanted) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let size = web.node.config.worklist_max;
    let mut frame = Frame::new(web, "worklist", "worklist");
    frame.events = "/events".into();
    frame.version = live::version(web, None)?;
    wanted.q = wanted.q.trim().chars().take(SEARCH_CHARS_MAX).collect();
    let group = GROUPS.iter().find(|group| group.0 == wanted.show).unwrap_or(&GROUPS[5]);
    wanted.show = group.0.to_owned();
    let alerts = open_alerts(web, now)?;
    let belongs = |key: &str, levels: &[&str], row: &StudyRow| match key {
        "alerts" => alerts.contains_key(&row.study_uid),
        _ => levels.is_empty() || levels.contains(&level(row, alerts.get(&row.study_uid)).key),
    };
    // The latest changes, and whatever still waits for an answer.
    let mut latest = web.node.store.studies(size)?;
    for uid in alerts.keys() {
        if !latest.iter().any(|row| row.study_uid == *uid) {
            latest.extend(web.node.store.study(uid)?);
        }
    }
    let mut counts = [0; GROUPS.len()];
    let mut counted = 0;
    web.node.store.each_study(&mut |row| {
        for (count, (key, levels)) in counts.iter_mut().zip(GROUPS) {
            *count += usize::from(belongs(key, levels, &row));
        }
        counted += 1;
        Ok(counted < COUNTED_MAX)
    })?;
    let tiles = GROUPS.iter().zip(counts).map(|((key, _), count)| {
        let (count, is_more) = match *key {
            "alerts" => (alerts.len(), false),
            _ => (count, counted == COUNTED_MAX),
        };
        Tile { key, count, is_more, href: wanted.href(key, 1), chosen: *key == group.0 }
    });
    let distinct = |of: fn(&StudyRow) -> &str| -> BTreeSet<String> {
        latest.iter().map(|row| of(row).to_owned()).filter(|text| !text.is_empty()).collect()
    };
    let modalities = query::choices(distinct(|row| &row.modality), &wanted.modality);
    let sources = query::choices(distinct(|row| &row.calling_ae), &wanted.source);
    let states = query::words("state", STATES.iter().map(query::word), &wanted.state);

    let number = wanted.page.parse::<usize>().unwrap_or(1).max(1);
    let is_filtered = group.0 != "all" || wanted.is_narrow();
    let mut searched = 0;
    let (mut rows, is_more) = if number == 1 && !is_filtered {
        let is_more = latest.len() >= size;
        (latest, is_more)
    } else {
        let zone = TimeZone::system();
        let takes = |row: &StudyRow| wanted.takes(row, &zone) && belongs(group.0, group.1, row);
        let mut rows = web.node.store.studies_that(takes)?;
        if !wanted.q.is_empty() {
            if rows.len() > SEARCHED_MAX {
                rows.truncate(SEARCHED_MAX);
                searched = SEARCHED_MAX;
            }
            let words: Vec<String> =
                wanted.q.to_lowercase().split_whitespace().map(str::to_owned).collect();
            rows.retain(|row| {
                is_found(&words, row, None)
                    || is_found(&words, row, web.people.of(web, row).as_ref())
            });
        }
        let mut rest = rows.into_iter().skip(size.saturating_mul(number - 1));
        let rows: Vec<StudyRow> = rest.by_ref().take(size).collect();
        (rows, rest.next().is_some())
    };
    // The most urgent first; then the newest.
    rows.sort_by(|a, b| {
        let newest = || b.last_received_at.cmp(&a.last_received_at);
        let waits = |row: &StudyRow| !alerts.contains_key(&row.study_uid);
        let level = |row: &StudyRow| level(row, alerts.get(&row.study_uid));
        let rank = |row: &StudyRow| (level(row).rank, waits(row), row.priority);
        rank(a).cmp(&rank(b)).then_with(newest)
    });
    let rows = rows
        .into_iter()
        .map(|study| {
            let alert = alerts.get(&study.study_uid).cloned();
            row(web, study, alert, now)
        })
        .collect();
    Ok(Page {
        frame,
        tiles: tiles.collect(),
        rows,
        modalities,
        states,
        sources,
        is_filtered,
        page: number,
        newer: (number > 1).then(|| wanted.href(group.0, number - 1)),
        older: is_more.then(|| wanted.href(group.0, number + 1)),
        searched,
        wanted,
    })
}

const STATES: [StudyState; 9] = [
    StudyState::Receiving,
    StudyState::Ready,
    StudyState::Analysing,
    StudyState::Judged,
    StudyState::Composed,
    StudyState::Delivered,
    StudyState::Held,
    StudyState::NeedsReview,
    StudyState::Failed,
];

/// Studies with an alert that nobody has answered, and how long until the next are told.
fn open_alerts(web: &Shared, now: Timestamp) -> Result<HashMap<StudyUid, OpenAlert>, Failure> {
    let unanswered = web.node.store.unanswered()?;
    let mut due = HashMap::new();
    if !unanswered.is_empty() {
        for row in web.node.store.jobs()?.into_iter().filter(|row| row.state.is_open()) {
            if let JobKind::Escalate { alert, .. } = row.job.kind {
                due.insert(alert, row.due);
            }
        }
    }
    let mut open: HashMap<StudyUid, OpenAlert> = HashMap::new();
    for row in unanswered {
        let until = due.get(&row.alert).filter(|_| row.standing == Standing::Open);
        let left = until.map_or(0, |until| until.duration_since(now).as_secs().max(0));
        let alert = OpenAlert {
            until: until.map(|until| page::moment(*until, now)),
            left: clock(left),
            level: page::alert_level(row.urgency),
        };
        let known = open.entry(row.study_uid).or_insert_with(|| alert.clone());
        known.level = page::first(known.level, alert.level);
        // Of several, the one that is due first.
        let at = |alert: &OpenAlert| alert.until.as_ref().map(|until| until.iso.clone());
        if at(&alert) < at(known) {
            (known.until, known.left) = (alert.until, alert.left);
        }
    }
    Ok(open)
}

fn clock(seconds: i64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, minutes, seconds) => format!("{minutes:02}:{seconds:02}"),
        (hours, minutes, seconds) => format!("{hours}:{minutes:02}:{seconds:02}"),
    }
}

fn row(web: &Shared, study: StudyRow, alert: Option<OpenAlert>, now: Timestamp) -> Row {
    let note = match (study.outcome.as_deref(), study.state) {
        (Some("not_covered"), _) => "not_covered",
        (Some("measured_only"), _) => "measured_only",
        (Some("needs_review"), _) | (_, StudyState::NeedsReview) => "needs_review",
        (Some("read"), _) if study.findings.is_empty() => "nothing",
        (_, StudyState::Failed) => "failed",
        (_, StudyState::Held) => "held",
        _ => "",
    };
    Row {
        level: level(&study, alert.as_ref()),
        priority: page::sooner(study.priority),
        state: study.state,
        person: web.people.of(web, &study).unwrap_or_default(),
        note,
        alert,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_finds_each_word_in_what_is_known_of_study_and_patient() {
        let uid = StudyUid::parse("1.2.3").unwrap();
        let row: StudyRow = serde_json::from_value(serde_json::json!({
            "study_uid": uid, "revision": 1, "state": "delivered", "reason": "", "modality": "CR",
            "examination": "CR CHEST", "outcome": "read", "urgency": "routine",
            "findings": ["Pneumonia"], "assessed_revision": 1, "instances": 1, "conflicts": 0,
            "first_received_at": "2026-01-02T10:00:00Z", "last_received_at": "2026-01-02T10:00:00Z",
            "changed_at": "2026-01-02T10:00:00Z", "calling_ae": "CR_1", "order": 1,
        }))
        .unwrap();
        let person =
            Person { name: "Hong Gildong".into(), id: "MRN-7".into(), ..Person::default() };
        let found = |q: &str| {
            let words: Vec<String> =
                q.to_lowercase().split_whitespace().map(str::to_owned).collect();
            is_found(&words, &row, Some(&person))
        };
        for (q, expected) in [
            ("gild mrn-7", true),
            ("PNEUMONIA chest", true),
            ("1.2.3", true),
            ("hong mrn-8", false),
        ] {
            assert_eq!(found(q), expected, "{q}");
        }
        let takes = |field: &str, value: &str| {
            let wanted = serde_json::json!({ field: value });
            serde_json::from_value::<Wanted>(wanted).unwrap().takes(&row, &TimeZone::UTC)
        };
        for (field, yes, no) in [
            ("modality", "CR", "CT"),
            ("state", "delivered", "held"),
            ("source", "CR_1", "CT_1"),
            ("from", "2026-01-02", "2026-01-03"),
            ("to", "2026-01-02", "2026-01-01"),
        ] {
            assert!(takes(field, yes) && !takes(field, no), "{field}");
        }
    }
}
