//! The page behind the link in an alert: what was found, and who takes it. Looking changes nothing,
//! so that a mail scanner that follows links answers nothing: only a POST does.

use axum::Extension;
use axum::Form;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::alert;
use crate::domain::alert::Answer;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::uid::StudyUid;
use crate::pipeline::alerting;
use crate::store::AlertRow;
use crate::store::DeliveryState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Level;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::server::Peer;
use crate::web::words::Phrase;

/// Below this path no one logs in: the link itself says who may.
pub const BELOW: &str = "/alert/";
const NAME_MAX: usize = 80;
const NOTE_MAX: usize = 500;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    token: String,
    level: Level,
    is_drill: bool,
    findings: Vec<String>,
    examination: String,
    raised: Moment,
    who: String,
    /// Whether it still can be taken.
    is_open: bool,
    /// Whether there is anyone to hand it over to.
    can_decline: bool,
    standing: Phrase,
    /// Set where a later reading does not show it.
    doubt: Option<Phrase>,
    told: Vec<ToldPart>,
    study: String,
}

#[derive(Serialize)]
struct ToldPart {
    to: String,
    at: Moment,
}

/// Who holds a link: the alert and the address it was sent to.
struct Holder {
    row: AlertRow,
    who: String,
}

/// What a link leads to. The same words for one that is forged, too old or of an alert that is gone.
fn holder(web: &Shared, token: &str) -> Result<Holder, Failure> {
    let no = || {
        Failure::new(
            StatusCode::NOT_FOUND,
            "This link does not hold, or not any more. Answer on the page of the study, or call \
             whoever runs this node.",
        )
    };
    let link = web.node.links.read(token, web.node.clock.now()).ok_or_else(no)?;
    let row = web.node.store.alert(&link.alert)?.ok_or_else(no)?;
    let channel = row.sendings.iter().map(|sending| &sending.channel).find(|c| link.is_for(c));
    let who = alert::address(channel.ok_or_else(no)?).to_owned();
    Ok(Holder { row, who })
}

pub async fn show(
    State(web): State<Web>,
    Extension(Peer(peer)): Extension<Peer>,
    Path(token): Path<String>,
) -> Result<Response, Failure> {
    let of = token.clone();
    let held = web.read(move |web| holder(web, &of)).await?;
    let viewer = Viewer::new(format!("{} by the link ({})", held.who, peer.ip()), &[]);
    note_look(&web, &held.row, &viewer).await;
    let page = web.read(move |web| page_of(web, token, held)).await?;
    let page = web.pages.render("answer", &page)?;
    // The link goes to no other site (`server::dress`), and its form says where it comes from: a
    // browser posts the form of a page without a referrer as that of a foreign page.
    Ok(([(header::CACHE_CONTROL, "no-store")], page).into_response())
}

/// Notes that `viewer` sees what an alert says.
async fn note_look(web: &Shared, row: &AlertRow, viewer: &Viewer) {
    if row.kind != Kind::Drill {
        web.audit.look(Some(&row.study_uid), "alert", viewer).await;
    }
}

/// An alert by its key, seen by `viewer`.
pub async fn alert_for(web: &Web, key: String, viewer: &Viewer) -> Result<AlertRow, Failure> {
    let row = web.read(move |web| find(web, &key)).await?;
    note_look(web, &row, viewer).await;
    Ok(row)
}

/// All alerts of a study, else those of all that nobody has answered, seen by `viewer`.
pub async fn alerts_for(
    web: &Web,
    study: Option<StudyUid>,
    viewer: &Viewer,
) -> Result<Vec<AlertRow>, Failure> {
    let of = study.clone();
    let rows = web.read(move |web| {
        let store = &web.node.store;
        Ok(match of {
            None => alerting::unanswered(store)?,
            Some(uid) => store.alerts(&uid)?,
        })
    });
    let rows = rows.await?;
    if !rows.is_empty() {
        let what = if study.is_some() { "alerts" } else { "alerts that wait" };
        web.audit.look(study.as_ref(), what, viewer).await;
    }
    Ok(rows)
}

fn page_of(web: &Shared, token: String, held: Holder) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let Holder { row, who } = held;
    let study = web.node.store.study(&row.study_uid)?;
    let told = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
    let told = told.map(|sending| ToldPart {
        to: alert::address(&sending.channel).to_owned(),
        at: page::moment(sending.at, now),
    });
    Ok(Page {
        frame: Frame::bare("alert"),
        level: page::alert_level(row.urgency),
        is_drill: row.kind == Kind::Drill,
        findings: row.findings.clone(),
        examination: study.map(|study| study.examination).unwrap_or_default(),
        raised: page::moment(row.raised_at, now),
        is_open: row.standing.is_unanswered(),
        can_decline: row.standing == Standing::Open,
        standing: standing(&row, now),
        doubt: doubt(&row, now),
        told: told.collect(),
        study: match row.kind {
            Kind::Drill => String::new(),
            Kind::Finding | Kind::Review => format!("/studies/{}", row.study_uid),
        },
        token,
        who,
    })
}

/// What a later reading says of an alert, where it differs.
pub fn doubt(row: &AlertRow, now: Timestamp) -> Option<Phrase> {
    row.doubt.as_ref().map(|doubt| {
        Phrase::new("alert.doubted")
            .with("at", page::moment(doubt.at, now).text)
            .with("why", &doubt.why)
    })
}

/// Where an alert stands.
pub fn standing(row: &AlertRow, now: Timestamp) -> Phrase {
    match &row.standing {
        Standing::Open => Phrase::new("standing.open"),
        Standing::Exhausted { .. } => Phrase::new("standing.exhausted"),
        Standing::Acknowledged(answer) => {
            let note = match answer.note.as_str() {
                "" => String::new(),
                note => format!(" \u{201c}{note}\u{201d}"),
            };
            Phrase::new("standing.acknowledged")
                .with("by", &answer.by)
                .with("at", page::moment(answer.at, now).text)
                .with("how", Phrase::new(format!("how.{}", answer.how)))
                .with("note", note)
        }
        Standing::Closed(answer) => Phrase::new("standing.closed")
            .with("by", &answer.by)
            .with("at", page::moment(answer.at, now).text)
            .with("how", Phrase::new(format!("how.{}", answer.how)))
            .with("why", &answer.note),
        Standing::Withdrawn { why, at } => Phrase::new("standing.withdrawn")
            .with("at", page::moment(*at, now).text)
            .with("why", why),
    }
}

#[derive(Deserialize)]
pub struct AnswerForm {
    /// `take` or `decline`.
    answer: String,
    /// Who answers, where several read one address.
    #[serde(default)]
    name: String,
    /// What was read back.
    #[serde(default)]
    note: String,
}

pub async fn take(
    State(web): State<Web>,
    Path(token): Path<String>,
    Form(form): Form<AnswerForm>,
) -> Result<Response, Failure> {
    let of = token.clone();
    let Holder { row, who } = web.read(move |web| holder(web, &of)).await?;
    let name = plain(&form.name, NAME_MAX);
    let by = if name.is_empty() { who } else { format!("{name}, {who}") };
    answer(&web, &row, &form.answer, by, "link", &form.note).await?;
    Ok(Redirect::to(&format!("{BELOW}{token}")).into_response())
}

/// Commits a person's word on an alert. Closing one takes a reason.
pub async fn answer(
    web: &Shared,
    row: &AlertRow,
    word: &str,
    by: String,
    how: &str,
    note: &str,
) -> Result<(), Failure> {
    let (store, at) = (&web.node.store, web.node.clock.now());
    let answer = Answer { by, how: how.to_owned(), note: plain(note, NOTE_MAX), at };
    match word {
        "take" => Ok(alerting::acknowledge(store, row, answer).await?),
        "decline" => Ok(alerting::decline(store, row, answer).await?),
        "close" if answer.note.is_empty() => {
            Err(Failure::bad_request(Phrase::new("problem.close_reason")))
        }
        "close" if answer.by.is_empty() => Err(Failure::bad_request("Say who closes it.")),
        "close" => Ok(alerting::close(store, row, answer).await?),
        _ => Err(Failure::bad_request("Say take, decline or close.")),
    }
}

#[derive(Deserialize)]
pub struct PageForm {
    /// Who takes it, where that is not who logged in.
    #[serde(default)]
    name: String,
    #[serde(default)]
    note: String,
}

/// From the page of a study, by whoever may see it.
pub async fn take_on_page(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
    Form(form): Form<PageForm>,
) -> Result<Response, Failure> {
    say_on_page(&web, viewer, key, form, "take").await
}

/// The same, by a person who says in the note why nobody has to look after it.
pub async fn close_on_page(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
    Form(form): Form<PageForm>,
) -> Result<Response, Failure> {
    say_on_page(&web, viewer, key, form, "close").await
}

async fn say_on_page(
    web: &Web,
    viewer: Viewer,
    key: String,
    form: PageForm,
    word: &str,
) -> Result<Response, Failure> {
    let row = web.read(move |web| find(web, &key)).await?;
    let by = match (plain(&form.name, NAME_MAX), viewer.person) {
        (name, None) if name.is_empty() => return Err(Failure::bad_request("Say who you are.")),
        (name, None) => name,
        (name, Some(person)) if name.is_empty() || name == person => person,
        (name, Some(person)) => format!("{name}, entered by {person}"),
    };
    answer(web, &row, word, by, "page", &form.note).await?;
    Ok(Redirect::to(&format!("/studies/{}", row.study_uid)).into_response())
}

/// The record of a study's alerts as a structured report.
pub async fn record(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
) -> Result<Response, Failure> {
    let none = || Failure::not_found("The study has no alert, or no reading.");
    let uid = StudyUid::parse(&uid).map_err(|_| none())?;
    let of = uid.clone();
    let made = web
        .read(move |web| {
            (web.node.alert_record)(&of).map_err(|error| {
                tracing::error!(error, "the record of alerts cannot be made");
                Failure::internal("The record cannot be made.")
            })
        })
        .await?;
    let bytes = made.ok_or_else(none)?;
    web.audit.look(Some(&uid), "record of alerts", &viewer).await;
    Ok(([(header::CONTENT_TYPE, "application/dicom")], bytes).into_response())
}

pub fn find(web: &Shared, key: &str) -> Result<AlertRow, Failure> {
    let row = web.node.store.alert(key)?;
    row.ok_or_else(|| Failure::not_found("The node has no such alert."))
}

/// One line without control characters.
pub fn plain(text: &str, chars_max: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(chars_max).collect()
}
