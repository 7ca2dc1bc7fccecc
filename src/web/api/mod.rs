//! `/api/v1`: what other programs ask of the node. The document that describes it (OpenAPI 3.1) is
//! made from the same lines that make the routes.

pub mod intake;
pub mod judging;

mod analyses;
mod caller;
mod running;
mod shapes;
mod studies;
mod work;

use axum::Extension;
use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::extract::FromRequest;
use axum::extract::FromRequestParts;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::extract::rejection::PathRejection;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::request::Parts;
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::Modify;
use utoipa::OpenApi as _;
use utoipa::openapi::Content;
use utoipa::openapi::OpenApi;
use utoipa::openapi::Ref;
use utoipa::openapi::RefOr;
use utoipa::openapi::Response;
use utoipa::openapi::security::Http;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::SecurityRequirement;
use utoipa::openapi::security::SecurityScheme;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::domain::uid::StudyUid;
use crate::web::Web;
use crate::web::problem::Failure;

pub use crate::web::api::caller::Callers;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Prelim",
        description = "Preliminary readings of DICOM studies by software. What comes out is \
            preliminary and unverified; a doctor has to read the images. Errors are problem details \
            (RFC 9457). Lists come in pages: ask again with the cursor in `next` until there is none. \
            A request that changes something may carry an `Idempotency-Key`; the same key and body \
            within a day, while the node runs, give the first answer again."
    ),
    modifiers(&Bearer),
    security(("token" = [])),
    components(schemas(shapes::Problem, shapes::StudyInstanceUid, studies::Stated)),
)]
struct Document;

/// Tokens of programs.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("token", scheme);
    }
}

/// Every route, within `quick` limits but for uploads.
///
/// - `quick`: what requests without a file stand behind.
pub(in crate::web) fn router(web: &Web, quick: impl Fn(Router<Web>) -> Router<Web>) -> Router<Web> {
    let (uploads, of_uploads) = OpenApiRouter::new()
        .routes(routes!(intake::analyze))
        .routes(routes!(intake::batch_analyze))
        .split_for_parts();
    let (asked, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(analyses::list))
        .routes(routes!(analyses::one))
        .routes(routes!(studies::list))
        .routes(routes!(studies::one))
        .routes(routes!(studies::complete))
        .routes(routes!(studies::origin))
        .routes(routes!(studies::identity))
        .routes(routes!(studies::findings))
        .routes(routes!(judging::feedback))
        .routes(routes!(judging::final_report))
        .routes(routes!(judging::agreement))
        .routes(routes!(work::queue))
        .routes(routes!(work::retry))
        .routes(routes!(work::cancel))
        .routes(routes!(work::alerts))
        .routes(routes!(work::alert))
        .routes(routes!(work::acknowledge))
        .routes(routes!(work::decline))
        .routes(routes!(work::close))
        .routes(routes!(running::cost))
        .routes(routes!(running::keys))
        .routes(routes!(running::canary))
        .routes(routes!(running::move_canary))
        .routes(routes!(running::health))
        .split_for_parts();
    document.merge(of_uploads);
    describe_the_rest(&mut document);
    // A multipart body has boundaries and text fields around the files.
    let body_max = usize::try_from(web.node.config.batch_bytes_max).unwrap_or(usize::MAX);
    let uploads = uploads.layer(DefaultBodyLimit::max(body_max.saturating_add(1 << 20)));
    let asked = asked.route("/api/v1/openapi.json", get(describe));
    let documents = Documents::new(document);
    quick(asked.layer(Extension(documents)))
        .merge(uploads)
        .layer(middleware::from_fn_with_state(Web::clone(web), caller::once))
        .layer(middleware::from_fn_with_state(Web::clone(web), caller::limit))
}

/// The description of the API: of a node with a login, and of one that is open to everyone on its
/// machine, where a request needs no token.
#[derive(Clone)]
struct Documents {
    closed: Bytes,
    open: Bytes,
}

impl Documents {
    fn new(mut document: OpenApi) -> Documents {
        let json = |document: &OpenApi| Bytes::from(document.to_json().unwrap_or_default());
        let closed = json(&document);
        document.security.get_or_insert_default().push(SecurityRequirement::default());
        Documents { closed, open: json(&document) }
    }
}

async fn describe(
    State(web): State<Web>,
    Extension(documents): Extension<Documents>,
) -> impl IntoResponse {
    let Documents { closed, open } = documents;
    let document = if web.access.has_login() { closed } else { open };
    ([(header::CONTENT_TYPE, "application/json")], document)
}

/// Names of operations, what their answers are called, and the problems that each can end in.
fn describe_the_rest(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        let name = path.trim_start_matches("/api/v1/").replace(['/', '-'], "_");
        let name = name.replace(['{', '}'], "");
        for (method, operation) in [("get", &mut item.get), ("post", &mut item.post)] {
            let Some(operation) = operation else { continue };
            operation.operation_id = Some(format!("{method}_{name}"));
            for (status, response) in &mut operation.responses.responses {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    let status =
                        status.parse().ok().and_then(|code| StatusCode::from_u16(code).ok());
                    let word = status.and_then(|status| status.canonical_reason());
                    response.description = word.unwrap_or("Answer").to_owned();
                }
            }
            let changes: &[StatusCode] = match method {
                "get" if path.contains('{') => &[StatusCode::NOT_FOUND],
                "get" => &[],
                _ => &CHANGES,
            };
            for status in ALWAYS.iter().chain(changes) {
                let word = status.canonical_reason().unwrap_or_default();
                let problem = Content::new(Some(Ref::from_schema_name("Problem")));
                let response =
                    Response::builder().description(word).content(PROBLEM_JSON, problem).build();
                let known = &mut operation.responses.responses;
                known.entry(status.as_u16().to_string()).or_insert_with(|| response.into());
            }
        }
    }
}

const PROBLEM_JSON: &str = "application/problem+json";
const ALWAYS: [StatusCode; 5] = [
    StatusCode::BAD_REQUEST,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::SERVICE_UNAVAILABLE,
];
const CHANGES: [StatusCode; 7] = [
    StatusCode::NOT_FOUND,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::CONFLICT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    StatusCode::UNPROCESSABLE_ENTITY,
    StatusCode::INSUFFICIENT_STORAGE,
];

/// A page of a list, and how to get the next one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Page<T> {
    items: Vec<T>,
    /// Cursor of the next page; none at the end.
    next: Option<String>,
}

impl<T> Page<T> {
    /// A whole list.
    fn all(items: Vec<T>) -> Page<T> {
        Page { items, next: None }
    }
}

const PAGE_DEFAULT: u32 = 100;
const PAGE_MAX: u32 = 1000;

/// At most what one page holds.
fn page_size(limit: Option<u32>) -> Result<usize, Failure> {
    match limit.unwrap_or(PAGE_DEFAULT) {
        limit @ 1..=PAGE_MAX => Ok(limit as usize),
        _ => Err(Failure::bad_request(format!("limit: use 1 to {PAGE_MAX}."))),
    }
}

/// Cursors are numbers: of studies in the order of changes, so that pages stay whole meanwhile.
fn cursor(text: Option<&str>) -> Result<Option<u64>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let number = text.parse().ok().filter(|_| text.len() < 20 && !text.starts_with('+'));
    let wrong = || Failure::bad_request("cursor: use what `next` of the page before says.");
    number.map(Some).ok_or_else(wrong)
}

/// As it stands in DICOM, without its padding.
fn study_uid(text: &str) -> Result<StudyUid, Failure> {
    let uid = StudyUid::parse(text).map_err(|error| Failure::bad_request(error.to_string()))?;
    match uid.as_str() == text {
        true => Ok(uid),
        false => Err(Failure::bad_request("A UID ends with a digit.")),
    }
}

/// [`axum::extract::Query`], whose errors are problem details.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Query<T>, Failure> {
        let query = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let said = |error: QueryRejection| Failure::bad_request(error.body_text());
        query.map(|axum::extract::Query(query)| Query(query)).map_err(said)
    }
}

/// [`axum::extract::Path`], whose errors are problem details.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Path<T>, Failure> {
        let path = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let said = |error: PathRejection| Failure::bad_request(error.body_text());
        path.map(|axum::extract::Path(path)| Path(path)).map_err(said)
    }
}

/// [`axum::Json`], whose errors are problem details.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Body<T>, Failure> {
        let said = |error: JsonRejection| {
            // What was sent is not shown back: it may name a patient.
            let detail = match &error {
                JsonRejection::MissingJsonContentType(_) => "Send application/json.",
                JsonRejection::JsonSyntaxError(_) => "The body is not JSON.",
                JsonRejection::JsonDataError(_) => {
                    "The JSON is not what this address takes; /api/v1/openapi.json says what is."
                }
                _ => "The body cannot be read.",
            };
            let status = match error.status() {
                StatusCode::INTERNAL_SERVER_ERROR => StatusCode::BAD_REQUEST,
                status => status,
            };
            Failure::new(status, detail)
        };
        Json::<T>::from_request(request, state).await.map(|Json(body)| Body(body)).map_err(said)
    }
}
