//! What a person does on the page of a study. Each is a form of its own, noted in the ledger with who
//! and why.

use axum::Extension;
use axum::Form;
use axum::extract::Path;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use serde::Deserialize;

use crate::domain::agreement::Verdict;
use crate::domain::uid::StudyUid;
use crate::pipeline::closing;
use crate::pipeline::comparing;
use crate::pipeline::comparing::Opinion;
use crate::pipeline::origins::ChangeError;
use crate::pipeline::whose::SettleError;
use crate::pipeline::word;
use crate::pipeline::word::WordError;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::answer;
use crate::web::local;
use crate::web::local::Holds;
use crate::web::local::Said;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

const REASON_MAX: usize = 200;

#[derive(Deserialize)]
pub struct Why {
    #[serde(default)]
    reason: String,
}

/// `read again by word of kim: new prompt`.
fn words(what: &str, viewer: &Viewer, why: &Why) -> String {
    let by = answer::plain(&viewer.name, REASON_MAX);
    match answer::plain(&why.reason, REASON_MAX).as_str() {
        "" => format!("{what} by word of {by}"),
        reason => format!("{what} by word of {by}: {reason}"),
    }
}

fn study(uid: &str) -> Result<StudyUid, Failure> {
    StudyUid::parse(uid).map_err(|_| Failure::not_found(Phrase::new("problem.study")))
}

fn back(uid: &StudyUid, to: &str) -> Response {
    Redirect::to(&format!("/studies/{uid}{to}")).into_response()
}

fn conflict(key: &str) -> Failure {
    Failure::new(StatusCode::CONFLICT, Phrase::new(key))
}

impl From<WordError> for Failure {
    fn from(error: WordError) -> Failure {
        match error {
            WordError::Unknown => Failure::not_found(Phrase::new("problem.study")),
            WordError::Receiving => conflict("problem.receiving"),
            WordError::Gone => conflict("problem.gone"),
            WordError::Running => conflict("problem.running"),
            WordError::Nothing => conflict("problem.nothing"),
            WordError::Store(error) => error.into(),
        }
    }
}

pub async fn complete(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(why): Form<Why>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let reason = words("complete", &viewer, &why);
    let (store, at) = (&web.node.store, web.node.clock.now());
    match closing::close_by_word(store, &uid, reason, at).await? {
        Some(_) => Ok(back(&uid, "")),
        None => Err(conflict("problem.closed")),
    }
}

pub async fn again(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(why): Form<Why>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let reason = words("read again", &viewer, &why);
    word::read_again(&web.node.store, &uid, reason, web.node.clock.now()).await?;
    Ok(back(&uid, ""))
}

pub async fn hold(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(why): Form<Why>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let reason = words("held", &viewer, &why);
    let by = answer::plain(&viewer.name, REASON_MAX);
    word::hold(&web.node.store, &uid, &by, reason, web.node.clock.now()).await?;
    Ok(back(&uid, ""))
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Failure {
        match error {
            ChangeError::Unknown => Failure::not_found(Phrase::new("problem.study")),
            ChangeError::NoObject => Failure::not_found(Phrase::new("problem.object")),
            ChangeError::Gone => conflict("problem.gone"),
            ChangeError::Store(error) => error.into(),
        }
    }
}

impl From<SettleError> for Failure {
    fn from(error: SettleError) -> Failure {
        match error {
            SettleError::Unknown => Failure::not_found(Phrase::new("problem.study")),
            SettleError::One => conflict("problem.one_patient"),
            SettleError::NoIdentity => conflict("problem.identity"),
            SettleError::Store(error) => error.into(),
        }
    }
}

#[derive(Deserialize)]
pub struct IdentityForm {
    number: usize,
    #[serde(default)]
    reason: String,
}

/// Whose the study is.
pub async fn identity(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(form): Form<IdentityForm>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let holds = Holds { number: form.number, by: viewer.name, reason: form.reason };
    local::settle(&web, &uid, &holds).await?;
    Ok(back(&uid, ""))
}

#[derive(Deserialize)]
pub struct OriginForm {
    of: String,
    origin: String,
    #[serde(default)]
    reason: String,
}

/// What the objects of a series are.
pub async fn origin(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(form): Form<OriginForm>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let origin = form.origin.parse().map_err(Failure::bad_request)?;
    let said = Said { of: form.of, origin, by: viewer.name, reason: form.reason };
    local::say(&web, &uid, &said).await?;
    Ok(back(&uid, "#objects"))
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
pub struct OpinionForm {
    finding: String,
    /// `agree` or `disagree`.
    verdict: String,
    /// Key of a finding that the reading lacks.
    missed: String,
    comment: String,
    revision: Option<u32>,
}

/// A doctor's word on a finding, or on one that is missing.
pub async fn feedback(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(uid): Path<String>,
    Form(form): Form<OpinionForm>,
) -> Result<Response, Failure> {
    let uid = study(&uid)?;
    let verdict = match form.verdict.as_str() {
        "agree" => Some(Verdict::Agree),
        "disagree" => Some(Verdict::Disagree),
        _ => None,
    };
    let anchor = match form.finding.is_empty() {
        true => "#missed".to_owned(),
        false => format!("#finding-{}", form.finding),
    };
    let opinion = Opinion {
        revision: form.revision,
        finding: form.finding,
        verdict,
        missed: form.missed,
        comment: form.comment,
        by: viewer.name,
    };
    comparing::feedback(&web.node.store, &uid, &opinion, web.node.clock.now()).await?;
    let anchor: String =
        anchor.chars().filter(|c| c.is_ascii_alphanumeric() || "#-".contains(*c)).collect();
    Ok(back(&uid, &anchor))
}
