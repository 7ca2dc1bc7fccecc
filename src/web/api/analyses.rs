//! Analyses: one revision of a study, on its way or read.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse as _;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::record;
use crate::store::RevisionRow;
use crate::store::event::StudyState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::api::Page;
use crate::web::api::Path;
use crate::web::api::Query;
use crate::web::api::shapes::Artefact;
use crate::web::api::shapes::Outcome;
use crate::web::api::studies::Wanted;
use crate::web::inspect;
use crate::web::problem::Failure;

/// An analysis in a list.
#[derive(Serialize, ToSchema)]
pub struct Summary {
    /// Study Instance UID and revision, with a hyphen between them.
    id: String,
    study_uid: String,
    revision: u32,
    state: StudyState,
    #[schema(value_type = Option<Outcome>)]
    outcome: Option<String>,
    urgency: Option<Urgency>,
    changed_at: Timestamp,
    status_url: String,
}

/// The newest analysis of each study, the newest change first.
#[utoipa::path(
    get, path = "/api/v1/analyses", tag = "analyses", params(Wanted),
    responses((status = 200, body = Page<Summary>)),
)]
pub async fn list(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Page<Summary>>, Failure> {
    web.audit.look(None, "list of analyses", &viewer).await;
    web.read(move |web| {
        let page = wanted.page(web, |_, study| {
            let id = format!("{}-{}", study.study_uid, study.revision);
            Ok(vec![Summary {
                status_url: format!("/api/v1/analyses/{id}"),
                id,
                revision: study.revision,
                state: study.state,
                outcome: study.outcome,
                urgency: study.urgency,
                changed_at: study.changed_at,
                study_uid: study.study_uid,
            }])
        })?;
        Ok(Json(page))
    })
    .await
}

/// How far an analysis is and what it found.
#[derive(Serialize, ToSchema)]
pub struct Analysis {
    id: String,
    study_uid: String,
    revision: u32,
    state: StudyState,
    reason: String,
    #[schema(value_type = Option<Outcome>)]
    outcome: Option<String>,
    urgency: Option<Urgency>,
    /// What was looked for or seen, as `reading.findings`; none before a reading.
    #[schema(value_type = Option<Vec<Object>>)]
    findings: Option<Value>,
    /// As `assessment.json` has it, without the patient.
    #[schema(value_type = Option<Object>)]
    reading: Option<Value>,
    /// The result as one object of JSON (`result.json`).
    #[schema(value_type = Option<Object>)]
    object: Option<Value>,
    artefacts: Vec<Artefact>,
    /// Its page.
    url: String,
    notice: String,
}

/// One analysis.
#[utoipa::path(
    get, path = "/api/v1/analyses/{id}", tag = "analyses",
    params(("id" = String, Path, pattern = r"^[0-9]+(\.[0-9]+)*-[1-9][0-9]{0,8}$",
        description = "Study Instance UID and revision, with a hyphen between")),
    responses((status = 200, body = Analysis)),
)]
pub async fn one(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let unknown = || Failure::not_found("There is no such analysis.");
    let (uid, revision) = id.rsplit_once('-').ok_or_else(unknown)?;
    let uid = StudyUid::parse(uid).map_err(|_| unknown())?;
    let revision: u32 = revision.parse().map_err(|_| unknown())?;
    let of = uid.clone();
    let found = web.read(move |web| find(web, &of, revision)).await?;
    let Some(analysis) = found else { return Err(unknown()) };
    web.audit.look(Some(&uid), &format!("analysis of revision {revision}"), &viewer).await;
    Ok(Json(analysis).into_response())
}

fn find(web: &Shared, uid: &StudyUid, revision: u32) -> Result<Option<Analysis>, Failure> {
    let store = &web.node.store;
    let Some(study) = store.study(uid)? else { return Ok(None) };
    let rows = store.revisions(uid)?;
    let row: Option<RevisionRow> = rows.into_iter().find(|row| row.revision == revision);
    let Some(row) = row else { return Ok(None) };
    let json = |value| serde_json::to_value(value).unwrap_or_default();
    let reading = inspect::assessment_of(store, uid, revision)?
        .map(|assessment| inspect::reading(assessment, study.revision));
    let object = store.read_result(uid, revision, record::OBJECT)?;
    let text = uid.to_string();
    let artefacts = store.artefacts(uid, revision)?;
    Ok(Some(Analysis {
        id: format!("{uid}-{revision}"),
        revision,
        state: row.state,
        reason: row.reason,
        outcome: row.outcome,
        urgency: row.urgency,
        findings: reading
            .as_ref()
            .map(|reading| serde_json::to_value(&reading.findings).unwrap_or_default()),
        reading: reading.as_ref().map(json),
        object: object.and_then(|bytes| serde_json::from_slice(&bytes).ok()),
        artefacts: artefacts.iter().map(|row| Artefact::new(&text, row)).collect(),
        url: format!("/studies/{uid}"),
        notice: inspect::NOTICE.to_owned(),
        study_uid: text,
    }))
}
