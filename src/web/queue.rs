//! Work that is not done: what was given up stands first, until a person decides.

use std::collections::BTreeSet;

use axum::Form;
use axum::extract::Query;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;

use crate::domain::uid::StudyUid;
use crate::store::JobRow;
use crate::store::JobState;
use crate::store::event::JobKind;
use crate::web::Shared;
use crate::web::Web;
use crate::web::inspect;
use crate::web::live;
use crate::web::local;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::query;
use crate::web::query::Choice;
use crate::web::words::Phrase;

/// Jobs on a page.
const JOBS_MAX: usize = 100;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    waiting: usize,
    running: usize,
    dead: usize,
    rows: Vec<Row>,
    wanted: Wanted,
    states: Vec<Choice>,
    destinations: Vec<Choice>,
    /// Set where one destination is chosen that has given-up work: all of it can be tried again.
    retry_all: Option<String>,
    /// The same for a gateway that readings wait for.
    retry_gateway: Option<String>,
    page: usize,
    newer: Option<String>,
    older: Option<String>,
}

/// The filters, as they stand in the query.
#[derive(Debug, Clone, Default, serde::Deserialize, Serialize)]
#[serde(default)]
pub struct Wanted {
    state: String,
    to: String,
    page: String,
}

impl Wanted {
    fn takes(&self, row: &JobRow) -> bool {
        (self.state.is_empty() || self.state == query::word(&row.state))
            && (self.to.is_empty() || Some(self.to.as_str()) == destination(&row.job.kind))
    }

    fn href(&self, page: usize) -> String {
        let page = if page > 1 { page.to_string() } else { String::new() };
        query::href("/queue", &[("state", &self.state), ("to", &self.to), ("page", &page)])
    }
}

/// The destination or the channel that a job is for.
fn destination(kind: &JobKind) -> Option<&str> {
    match kind {
        JobKind::Deliver { destination, .. }
        | JobKind::Prove { destination, .. }
        | JobKind::Undelivered { destination, .. } => Some(destination),
        JobKind::Alert { channel, .. }
        | JobKind::Withdraw { channel, .. }
        | JobKind::Digest { channel, .. }
        | JobKind::Notice { channel } => Some(channel),
        JobKind::Analyse { gateway }
        | JobKind::ReadAgain { gateway }
        | JobKind::Shadow { gateway } => Some(gateway.as_str()).filter(|name| !name.is_empty()),
        JobKind::Plan
        | JobKind::Picture
        | JobKind::Judge
        | JobKind::Compose
        | JobKind::Commit { .. }
        | JobKind::Escalate { .. }
        | JobKind::Drill { .. } => None,
    }
}

#[derive(Serialize)]
struct Row {
    id: String,
    what: Phrase,
    uid: StudyUid,
    revision: u32,
    /// How soon its study is wanted; empty for routine.
    priority: &'static str,
    state: JobState,
    key: &'static str,
    is_dead: bool,
    /// Whether a person can have it done now, or be done without.
    can_retry: bool,
    can_cancel: bool,
    attempts: u32,
    cause: String,
    due: Moment,
}

pub async fn show(
    State(web): State<Web>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Failure> {
    let page = web.read(move |web| page_of(web, wanted)).await?;
    web.pages.render("queue", &page)
}

fn page_of(web: &Shared, wanted: Wanted) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let mut frame = Frame::new(web, "queue", "queue");
    frame.events = "/events".into();
    frame.version = live::version(web, None)?;
    let view = inspect::queue(&web.node.store)?;
    let all = view.jobs.iter().filter_map(|row| destination(&row.job.kind)).map(str::to_owned);
    let destinations = query::choices(all.collect::<BTreeSet<String>>(), &wanted.to);
    let states = [JobState::Dead, JobState::Running, JobState::Waiting];
    let states = query::words("jobstate", states.iter().map(query::word), &wanted.state);
    let number = wanted.page.parse::<usize>().unwrap_or(1).max(1);
    let jobs: Vec<JobRow> = view.jobs.into_iter().filter(|row| wanted.takes(row)).collect();
    let has_dead = jobs.iter().any(|row| row.state == JobState::Dead);
    let waits = |row: &&JobRow| row.job.kind.gateway().is_some() && row.state.may_be_moved();
    let gateway = jobs.iter().find(waits).filter(|_| !wanted.to.is_empty());
    let retry_gateway = gateway.map(|_| wanted.to.clone());
    let is_more = jobs.len() > number.saturating_mul(JOBS_MAX);
    let rows = jobs.into_iter().skip(JOBS_MAX.saturating_mul(number - 1)).take(JOBS_MAX);
    Ok(Page {
        frame,
        waiting: view.counts.waiting,
        running: view.counts.running,
        dead: view.counts.dead,
        rows: rows.map(|job| row(job, now)).collect(),
        states,
        destinations,
        retry_all: (has_dead && !wanted.to.is_empty() && retry_gateway.is_none())
            .then(|| wanted.to.clone()),
        retry_gateway,
        page: number,
        newer: (number > 1).then(|| wanted.href(number - 1)),
        older: is_more.then(|| wanted.href(number + 1)),
        wanted,
    })
}

fn row(row: JobRow, now: Timestamp) -> Row {
    let key = match row.state {
        JobState::Waiting => "pending",
        JobState::Running => "running",
        JobState::Done => "done",
        JobState::Dead => "failed",
        JobState::Dropped => "held",
    };
    let what = phrase(&row.job.kind);
    Row {
        can_retry: row.state.may_be_moved(),
        can_cancel: row.may_be_cancelled(),
        id: row.job.id,
        what,
        uid: row.job.study_uid,
        revision: row.job.revision,
        priority: page::sooner(row.rank.priority),
        state: row.state,
        key,
        is_dead: row.state == JobState::Dead,
        attempts: row.attempts,
        cause: row.cause,
        due: page::moment(row.due, now),
    }
}

/// A job in English words.
pub fn what(kind: &JobKind) -> String {
    phrase(kind).in_english()
}

fn phrase(kind: &JobKind) -> Phrase {
    let of = |key: &str| Phrase::new(format!("job.{key}"));
    match kind {
        JobKind::Plan => of("plan"),
        JobKind::Picture => of("picture"),
        JobKind::Analyse { gateway } if gateway.is_empty() => of("analyse"),
        JobKind::Analyse { gateway } => of("analyse_by").with("gateway", gateway),
        JobKind::ReadAgain { gateway } => of("read_again").with("gateway", gateway),
        JobKind::Shadow { gateway } => of("shadow").with("gateway", gateway),
        JobKind::Judge => of("judge"),
        JobKind::Compose => of("compose"),
        JobKind::Deliver { artefact, destination } => {
            of("deliver").with("artefact", artefact).with("destination", destination)
        }
        JobKind::Prove { artefact, destination } => {
            of("prove").with("artefact", artefact).with("destination", destination)
        }
        JobKind::Notice { channel } => of("notice").with("channel", channel),
        JobKind::Undelivered { destination, channel } => {
            of("undelivered").with("destination", destination).with("channel", channel)
        }
        JobKind::Commit { .. } => of("commit"),
        JobKind::Alert { channel, .. } => of("alert").with("channel", channel),
        JobKind::Escalate { level, .. } => of("escalate").with("level", level),
        JobKind::Withdraw { channel, .. } => of("withdraw").with("channel", channel),
        JobKind::Digest { channel, .. } => of("digest").with("channel", channel),
        JobKind::Drill { .. } => of("drill"),
    }
}

#[derive(serde::Deserialize)]
pub struct Moved {
    id: String,
}

pub async fn cancel(
    State(web): State<Web>,
    axum::Extension(viewer): axum::Extension<crate::web::access::Viewer>,
    Form(wanted): Form<Moved>,
) -> Result<Response, Failure> {
    local::cancel_job(&web, &wanted.id, &viewer.name).await?;
    Ok(Redirect::to("/queue").into_response())
}

pub async fn retry(
    State(web): State<Web>,
    axum::Extension(viewer): axum::Extension<crate::web::access::Viewer>,
    Form(wanted): Form<Moved>,
) -> Result<Response, Failure> {
    local::retry_job(&web, &wanted.id, &viewer.name).await?;
    Ok(Redirect::to("/queue").into_response())
}
