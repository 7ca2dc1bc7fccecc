//! What doctors say of readings, and how far they agree.

use axum::Extension;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::analysis::agreement::By;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::Verdict;
use crate::pipeline::comparing;
use crate::pipeline::comparing::CompareError;
use crate::pipeline::comparing::Opinion;
use crate::pipeline::statistics;
use crate::pipeline::statistics::Statistics;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::api::Body;
use crate::web::api::Path;
use crate::web::api::Query;
use crate::web::api::shapes;
use crate::web::api::study_uid;
use crate::web::problem::Failure;

/// A doctor's word on one finding of a reading, or on one that it lacks.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Said {
    /// Else of the newest reading.
    revision: Option<u32>,
    /// F1, …: one of the reading.
    finding: String,
    /// For `finding`.
    verdict: Option<Judgement>,
    /// Key of a finding that is there and that the reading does not have.
    missed: String,
    comment: String,
    /// A person, where a program speaks for one; else the caller.
    by: String,
}

#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Agree,
    Disagree,
}

/// A doctor's word on a finding of a study's reading.
#[utoipa::path(
    post, path = "/api/v1/studies/{uid}/feedback", tag = "judging", request_body = Said,
    params(("uid" = shapes::StudyInstanceUid, Path)),
    responses((status = 200, description = "The reading beside what was said", body = Comparison)),
)]
pub async fn feedback(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Body(said): Body<Said>,
) -> Result<Json<Comparison>, Failure> {
    let uid = study_uid(&uid)?;
    let opinion = Opinion {
        revision: said.revision,
        finding: said.finding,
        verdict: said.verdict.map(|word| match word {
            Judgement::Agree => Verdict::Agree,
            Judgement::Disagree => Verdict::Disagree,
        }),
        missed: said.missed,
        comment: said.comment,
        by: signed(&said.by, &viewer),
    };
    let (store, at) = (&web.node.store, web.node.clock.now());
    Ok(Json(comparing::feedback(store, &uid, &opinion, at).await?))
}

const DAYS_MAX: u32 = 36_500;

#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// What a line is of, with commas between; else finding.
    #[param(
        pattern = r"^(\s*(finding|model|prompt|scanner|week)\s*(,\s*(finding|model|prompt|scanner|week)\s*)*)?$"
    )]
    by: String,
    /// How far back, at most 36500: 365 unless said.
    #[param(minimum = 1, maximum = 36500)]
    days: Option<u32>,
}

/// Agreement with doctors, alert precision, and drift.
#[utoipa::path(
    get, path = "/api/v1/agreement", tag = "judging", params(Wanted),
    responses((status = 200, body = Statistics)),
)]
pub async fn agreement(
    State(web): State<Web>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Statistics>, Failure> {
    let words = if wanted.by.is_empty() { "finding" } else { &wanted.by };
    let Some(by) = words.split(',').map(By::parse).collect::<Option<Vec<By>>>() else {
        let allowed = By::WORDS.join(", ");
        return Err(Failure::bad_request(format!("by: use {allowed}, with commas between them.")));
    };
    let (days, now) = (wanted.days.unwrap_or(365), web.node.clock.now());
    if !(1..=DAYS_MAX).contains(&days) {
        return Err(Failure::bad_request(format!("days: use 1 to {DAYS_MAX}.")));
    }
    web.read(move |web| Ok(Json(statistics::statistics(&web.node.store, &by, days, now)?))).await
}

#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Signature {
    /// Who wrote it; else the caller.
    by: String,
}

/// The final report of a study, as text or as an HL7 ORU message.
#[utoipa::path(
    post, path = "/api/v1/studies/{uid}/final", tag = "judging",
    request_body(content = String, content_type = "text/plain"),
    params(("uid" = shapes::StudyInstanceUid, Path), Signature),
    responses((status = 200, description = "The reading beside the report", body = Comparison)),
)]
pub async fn final_report(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Query(signature): Query<Signature>,
    body: Bytes,
) -> Result<Json<Comparison>, Failure> {
    let uid = study_uid(&uid)?;
    let Ok(text) = std::str::from_utf8(&body) else {
        return Err(Failure::bad_request("The report is not UTF-8."));
    };
    let by = signed(&signature.by, &viewer);
    let (store, at) = (&web.node.store, web.node.clock.now());
    Ok(Json(comparing::final_text(store, &uid, text, &by, at).await?))
}

/// Who says something: as they say, and where it came from.
pub fn signed(by: &str, viewer: &Viewer) -> String {
    match by.trim() {
        "" => viewer.name.clone(),
        by => format!("{by} ({})", viewer.name),
    }
}

impl From<CompareError> for Failure {
    fn from(error: CompareError) -> Failure {
        match error {
            CompareError::NoReading => Failure::not_found("There is no reading of this study."),
            CompareError::OtherPatient => {
                Failure::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            CompareError::Wrong(why) => Failure::new(StatusCode::UNPROCESSABLE_ENTITY, why),
            CompareError::Store(error) => error.into(),
        }
    }
}
