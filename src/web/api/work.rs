//! What is not done yet: jobs, and alerts that a person has to answer.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::store::JobState;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::answer;
use crate::web::answer::plain;
use crate::web::api::Body;
use crate::web::api::Page;
use crate::web::api::Path;
use crate::web::api::Query;
use crate::web::api::cursor;
use crate::web::api::judging::signed;
use crate::web::api::page_size;
use crate::web::api::shapes;
use crate::web::api::shapes::Alert;
use crate::web::api::shapes::Job;
use crate::web::api::shapes::Word;
use crate::web::api::study_uid;
use crate::web::inspect;
use crate::web::local;
use crate::web::problem::Failure;

/// How much work waits, and which.
#[derive(Serialize, ToSchema)]
pub struct Queue {
    waiting: usize,
    running: usize,
    /// Given up, until a person says otherwise.
    dead: usize,
    /// When the job could run that could for longest.
    oldest_due: Option<Timestamp>,
    /// The dead first, then those that run, then those that wait.
    items: Vec<Job>,
    /// Cursor of the next page; none at the end.
    next: Option<String>,
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Jobs {
    state: Option<JobState>,
    /// At most so many in a page: 1 to 1000, else 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    #[param(pattern = "^[0-9]{1,19}$")]
    cursor: Option<String>,
}

/// Work that is not done.
#[utoipa::path(
    get, path = "/api/v1/queue", tag = "queue", params(Jobs),
    responses((status = 200, body = Queue)),
)]
pub async fn queue(
    State(web): State<Web>,
    Query(wanted): Query<Jobs>,
) -> Result<Json<Queue>, Failure> {
    let limit = page_size(wanted.limit)?;
    let from = cursor(wanted.cursor.as_deref())?.map_or(0, |from| from as usize);
    web.read(move |web| {
        let view = inspect::queue(&web.node.store)?;
        let jobs = view.jobs.iter().map(Job::from);
        let fits = |job: &Job| wanted.state.is_none_or(|state| state == job.state);
        let mut items: Vec<Job> =
            jobs.filter(fits).skip(from).take(limit.saturating_add(1)).collect();
        let more = items.len() > limit;
        items.truncate(limit);
        let counts = view.counts;
        Ok(Json(Queue {
            waiting: counts.waiting,
            running: counts.running,
            dead: counts.dead,
            oldest_due: counts.oldest_due,
            items,
            next: more.then(|| from.saturating_add(limit).to_string()),
        }))
    })
    .await
}

/// Which job.
#[derive(Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Moved {
    /// Of the queue; to retry also the name of a destination (`pacs.main`) or a gateway
    /// (`gateway:main`), for all of it that was given up or waits.
    id: String,
}

/// Has a job done now that waits or was given up.
#[utoipa::path(
    post, path = "/api/v1/queue/retry", tag = "queue", request_body = Moved,
    responses((status = 200, body = Moved)),
)]
pub async fn retry(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Body(moved): Body<Moved>,
) -> Result<Json<Moved>, Failure> {
    local::retry_job(&web, &moved.id, &viewer.name).await?;
    Ok(Json(moved))
}

/// Takes a delivery out of the queue. A reading cannot be cancelled, and an alert is answered or closed.
#[utoipa::path(
    post, path = "/api/v1/queue/cancel", tag = "queue", request_body = Moved,
    responses((status = 200, body = Moved)),
)]
pub async fn cancel(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Body(moved): Body<Moved>,
) -> Result<Json<Moved>, Failure> {
    local::cancel_job(&web, &moved.id, &viewer.name).await?;
    Ok(Json(moved))
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Alerts {
    /// All alerts of this study; without, those of all that nobody has answered.
    #[param(value_type = Option<shapes::StudyInstanceUid>)]
    study_uid: Option<String>,
}

/// Alerts, the most urgent first.
#[utoipa::path(
    get, path = "/api/v1/alerts", tag = "alerts", params(Alerts),
    responses((status = 200, body = Page<Alert>)),
)]
pub async fn alerts(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Alerts>,
) -> Result<Json<Page<Alert>>, Failure> {
    let study = wanted.study_uid.as_deref().map(study_uid).transpose()?;
    let rows = answer::alerts_for(&web, study, &viewer).await?;
    Ok(Json(Page::all(rows.iter().map(Alert::from).collect())))
}

/// One alert, with who was told and who answered.
#[utoipa::path(
    get, path = "/api/v1/alerts/{alert}", tag = "alerts",
    params(("alert" = String, Path, description = "Its key")),
    responses((status = 200, body = Alert)),
)]
pub async fn alert(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
) -> Result<Json<Alert>, Failure> {
    Ok(Json(Alert::from(&answer::alert_for(&web, key, &viewer).await?)))
}

/// Somebody looks after it: the escalation ends.
#[utoipa::path(
    post, path = "/api/v1/alerts/{alert}/acknowledge", tag = "alerts", request_body = Word,
    params(("alert" = String, Path, description = "Its key")),
    responses((status = 200, body = Alert)),
)]
pub async fn acknowledge(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
    Body(word): Body<Word>,
) -> Result<Json<Alert>, Failure> {
    say(web, viewer, key, word, "take").await
}

/// Not me: the next is told at once.
#[utoipa::path(
    post, path = "/api/v1/alerts/{alert}/decline", tag = "alerts", request_body = Word,
    params(("alert" = String, Path, description = "Its key")),
    responses((status = 200, body = Alert)),
)]
pub async fn decline(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
    Body(word): Body<Word>,
) -> Result<Json<Alert>, Failure> {
    say(web, viewer, key, word, "decline").await
}

/// Nobody has to look after it: the escalation ends, and those who were told hear of it. The note says
/// why, and is needed.
#[utoipa::path(
    post, path = "/api/v1/alerts/{alert}/close", tag = "alerts", request_body = Word,
    params(("alert" = String, Path, description = "Its key")),
    responses((status = 200, body = Alert)),
)]
pub async fn close(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(key): Path<String>,
    Body(word): Body<Word>,
) -> Result<Json<Alert>, Failure> {
    say(web, viewer, key, word, "close").await
}

async fn say(
    web: Web,
    viewer: Viewer,
    key: String,
    word: Word,
    what: &str,
) -> Result<Json<Alert>, Failure> {
    let of = key.clone();
    let row = web.read(move |web| answer::find(web, &of)).await?;
    let by = signed(&plain(&word.by, 80), &viewer);
    answer::answer(&web, &row, what, by, "api", &word.note).await?;
    web.read(move |web| Ok(Json(Alert::from(&answer::find(web, &key)?)))).await
}
