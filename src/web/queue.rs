//! Work that is not done: what was given up stands first, until a person decides.

use axum::Form;
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

/// Jobs on the page; what is behind them is counted.
const JOBS_MAX: usize = 500;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    waiting: usize,
    running: usize,
    dead: usize,
    rows: Vec<Row>,
    left_out: usize,
}

#[derive(Serialize)]
struct Row {
    id: String,
    what: String,
    uid: StudyUid,
    revision: u32,
    state: &'static str,
    key: &'static str,
    is_dead: bool,
    /// Whether a person can have it done now, or be done without.
    can_retry: bool,
    can_cancel: bool,
    attempts: u32,
    cause: String,
    due: Moment,
}

pub async fn show(State(web): State<Web>) -> Result<Response, Failure> {
    let page = web.read(page_of).await?;
    web.pages.render("queue", &page)
}

fn page_of(web: &Shared) -> Result<Page, Failure> {
    let now = web.node.clock.now();
    let mut frame = Frame::new(web, "Queue", "queue");
    frame.events = "/events".into();
    frame.version = live::version(web, None)?;
    let view = inspect::queue(&web.node.store)?;
    Ok(Page {
        frame,
        waiting: view.counts.waiting,
        running: view.counts.running,
        dead: view.counts.dead,
        left_out: view.jobs.len().saturating_sub(JOBS_MAX),
        rows: view.jobs.into_iter().take(JOBS_MAX).map(|job| row(job, now)).collect(),
    })
}

fn row(row: JobRow, now: Timestamp) -> Row {
    let (state, key) = match row.state {
        JobState::Waiting => ("Waiting", "pending"),
        JobState::Running => ("Running", "running"),
        JobState::Done => ("Done", "done"),
        JobState::Dead => ("Given up", "failed"),
        JobState::Dropped => ("Not needed any more", "held"),
    };
    let what = what(&row.job.kind);
    Row {
        can_retry: row.state.may_be_moved(),
        can_cancel: row.may_be_cancelled(),
        id: row.job.id,
        what,
        uid: row.job.study_uid,
        revision: row.job.revision,
        state,
        key,
        is_dead: row.state == JobState::Dead,
        attempts: row.attempts,
        cause: row.cause,
        due: page::moment(row.due, now),
    }
}

/// A job in words.
pub fn what(kind: &JobKind) -> String {
    match kind {
        JobKind::Plan => "Plan".into(),
        JobKind::Picture => "Make pictures".into(),
        JobKind::Analyse => "Read".into(),
        JobKind::Shadow { gateway } => format!("Show to {gateway}, without effect"),
        JobKind::Judge => "Judge".into(),
        JobKind::Compose => "Write reports".into(),
        JobKind::Deliver { artefact, destination } => format!("Send {artefact} to {destination}"),
        JobKind::Prove { artefact, destination } => {
            format!("Ask {destination} whether it keeps {artefact}")
        }
        JobKind::Notice { channel } => format!("Tell {channel} of missing images"),
        JobKind::Undelivered { destination, channel } => {
            format!("Tell {channel} that {destination} does not get its results")
        }
        JobKind::Commit { .. } => "Report a storage commitment".into(),
        JobKind::Alert { channel, .. } => format!("Alert by {channel}"),
        JobKind::Escalate { level, .. } => {
            format!("Wait for an answer, then go past level {level}")
        }
        JobKind::Withdraw { channel, .. } => format!("Tell {channel} that an alert is withdrawn"),
        JobKind::Digest { channel, .. } => format!("Tell {channel} of several alerts together"),
        JobKind::Drill { .. } => "Raise a drill".into(),
    }
}

#[derive(serde::Deserialize)]
pub struct Cancelled {
    id: String,
}

pub async fn cancel(
    State(web): State<Web>,
    axum::Extension(viewer): axum::Extension<crate::web::access::Viewer>,
    Form(wanted): Form<Cancelled>,
) -> Result<Response, Failure> {
    local::cancel_job(&web, &wanted.id, &viewer.name).await?;
    Ok(Redirect::to("/queue").into_response())
}

pub async fn retry(
    State(web): State<Web>,
    Form(wanted): Form<local::Retry>,
) -> Result<Response, Failure> {
    local::retry_job(&web, &wanted.id).await?;
    Ok(Redirect::to("/queue").into_response())
}
