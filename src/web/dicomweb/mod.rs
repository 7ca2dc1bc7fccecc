//! DICOMweb (PS3.18) at `/dicom-web`: STOW-RS, QIDO-RS, WADO-RS.
//!
//! What is stored takes the way of C-STORE. What is stored is never parsed here: headers, frames
//! and pictures come from worker processes, and bytes that go out as they are stored are read from
//! the file piece by piece.

mod config;
mod index;
mod media;
mod multipart;
mod native;
mod qido;
mod retrieve;
mod send;
mod show;
mod stow;
mod values;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use axum::http::uri::Authority;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::web::dicomweb::config::Config;
pub use crate::web::dicomweb::qido::matched;

use crate::dicom::storage_scp::StorageHandler;
use crate::domain::text;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::InstanceRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::web::Shared;
use crate::web::Web;
use crate::web::WebState;
use crate::web::dicomweb::media::Accept;
use crate::web::problem::Failure;
use crate::web::server::is_encrypted;
use crate::web::words::Phrase;
use crate::worker::Pool;
use crate::worker::WorkerError;

/// Where all of it lies.
pub const ROOT: &str = "/dicom-web";
const DICOM_JSON: &str = "application/dicom+json";
/// Rows of instances that an answer holds at one time: about 2 MB.
const PAGE: usize = 2048;

/// What DICOMweb stands on, beside the store.
#[derive(Clone)]
pub struct Parts {
    /// Takes instances the way of C-STORE.
    pub receiver: Arc<dyn StorageHandler>,
    /// For viewers alone: they do not wait behind studies that are being read.
    pub pool: Pool,
    pub ae_title: String,
    /// Largest data set taken.
    pub object_bytes_max: u64,
    /// Where the page and all this listens.
    pub listening: SocketAddr,
}

/// What the room keeps for DICOMweb.
pub struct DicomWeb {
    parts: Parts,
    pool: Pool,
    index: Arc<index::Index>,
    turns: Semaphore,
    answers: send::Places,
    stores: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Somebody keeps the index up to date.
    is_followed: bool,
}

impl DicomWeb {
    /// - `before`: whose index goes on.
    pub fn start(
        node: &WebState,
        before: Option<&DicomWeb>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> DicomWeb {
        let config = &node.config.dicomweb;
        let index = before.map(|before| Arc::clone(&before.index));
        let index = index.unwrap_or_else(|| Arc::new(index::Index::new(&node.store)));
        let pool = node.dicomweb.pool.clone();
        let was_followed = before.is_some_and(|before| before.is_followed);
        if config.enabled && !was_followed {
            let follow = Arc::clone(&index).follow(node.store.clone(), pool.clone(), stop.clone());
            tasks.spawn(follow);
        }
        DicomWeb {
            parts: node.dicomweb.clone(),
            pool,
            index,
            turns: Semaphore::new(config.answers_max),
            answers: send::Places::new(config.answers_max, config.answers_per_peer_max),
            stores: Arc::new(Semaphore::new(config.stores_max)),
            tasks: tasks.clone(),
            is_followed: config.enabled || was_followed,
        }
    }
}

/// Every route.
pub(in crate::web) fn router(web: &Web) -> Router<Web> {
    if !web.node.config.dicomweb.enabled {
        return Router::new();
    }
    let at = |path: &str| format!("{ROOT}{path}");
    let limit = || {
        tower_http::timeout::TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(web.node.config.request_timeout_s),
        )
    };
    let (study, series) = ("/studies/{study}", "/studies/{study}/series/{series}");
    let instance = "/studies/{study}/series/{series}/instances/{instance}";
    let searches = Router::new()
        .route(&at("/studies"), get(qido::studies))
        .route(&at("/series"), get(qido::all_series))
        .route(&at("/instances"), get(qido::all_instances))
        .route(&at("/studies/{study}/series"), get(qido::series))
        .route(&at("/studies/{study}/instances"), get(qido::study_instances))
        .route(&at("/studies/{study}/series/{series}/instances"), get(qido::series_instances))
        .layer(limit())
        .layer(middleware::from_fn_with_state(Arc::clone(web), send::turn));
    let mut answers = Router::new()
        .route(
            &at("/studies/{study}/series/{series}/instances/{instance}/bulkdata/{place}"),
            get(values::bulk),
        )
        .route(
            &at("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}"),
            get(values::frames),
        )
        .route(
            &at("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/rendered"),
            get(show::frames),
        )
        .route(
            &at("/studies/{study}/series/{series}/instances/{instance}/frames/{frames}/thumbnail"),
            get(show::frame_thumbnail),
        );
    for below in [study, series, instance] {
        answers = answers
            .route(&at(below), get(retrieve::objects))
            .route(&at(&format!("{below}/metadata")), get(retrieve::metadata))
            .route(&at(&format!("{below}/rendered")), get(show::rendered))
            .route(&at(&format!("{below}/thumbnail")), get(show::thumbnail));
    }
    let answers =
        answers.layer(limit()).layer(middleware::from_fn_with_state(Arc::clone(web), send::place));
    // As long as it takes, within its own limits.
    let store = Router::new()
        .route(&at("/studies"), post(stow::any))
        .route(&at("/studies/{study}"), post(stow::one));
    searches.merge(answers).layer(DefaultBodyLimit::max(64 << 10)).merge(store)
}

/// Whether a request is for DICOMweb.
pub fn is_below(path: &str) -> bool {
    path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a page of this origin may ask.
pub fn allows(config: &Config, origin: &str) -> bool {
    config.enabled && config.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
}

/// The origin that may read the answer, and the one whose page may show it. They differ where a
/// page shows a document within itself: that is asked for without an Origin.
fn asker(config: &Config, headers: &HeaderMap) -> (Option<String>, Option<String>) {
    let said = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let page = |address: &str| {
        let (scheme, rest) = address.split_once("://")?;
        let origin = format!("{scheme}://{}", rest.split('/').next()?);
        allows(config, &origin).then_some(origin)
    };
    match said(header::ORIGIN) {
        Some(origin) => {
            let origin = allows(config, origin).then(|| origin.to_owned());
            (origin.clone(), origin)
        }
        None => (None, said(header::REFERER).and_then(page)),
    }
}

/// Answers OPTIONS, and tells browsers which other origins may read the answers (Fetch, CORS) and
/// show them.
pub(in crate::web) async fn share(
    State(web): State<Web>,
    request: Request,
    next: Next,
) -> Response {
    if !web.node.config.dicomweb.enabled || !is_below(request.uri().path()) {
        return next.run(request).await;
    }
    let config = &web.node.config.dicomweb;
    let (origin, page) = asker(config, request.headers());
    let is_options = request.method() == Method::OPTIONS;
    let mut response = match is_options {
        true => {
            let methods = "GET, HEAD, POST, OPTIONS";
            let mut response = (StatusCode::NO_CONTENT, [(header::ALLOW, methods)]).into_response();
            if origin.is_some() {
                let headers = response.headers_mut();
                let mut put = |name: HeaderName, value: &'static str| {
                    headers.insert(name, HeaderValue::from_static(value));
                };
                put(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
                put(
                    header::ACCESS_CONTROL_ALLOW_HEADERS,
                    "authorization, accept, content-type, if-none-match",
                );
                put(header::ACCESS_CONTROL_MAX_AGE, "600");
            }
            response
        }
        false => next.run(request).await,
    };
    if !config.origins.is_empty() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("origin, referer"));
    }
    if let Some(page) = page {
        let headers = response.headers_mut();
        let policy = format!("default-src 'none'; frame-ancestors 'self' {page}");
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        for (name, value) in [
            ("cross-origin-resource-policy", "cross-origin"),
            // Pages with shared memory show only what says this too.
            ("cross-origin-embedder-policy", "require-corp"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
    }
    if let Some(origin) = origin.and_then(|origin| HeaderValue::from_str(&origin).ok()) {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = "content-type, content-length, warning, etag, retry-after";
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(exposed));
    }
    response
}

/// The address of all this as the client knows it.
fn base(web: &Web, headers: &HeaderMap) -> String {
    let config = &web.node.config;
    if !config.dicomweb.url.is_empty() {
        return config.dicomweb.url.trim_end_matches('/').to_owned();
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let encrypted = is_encrypted(headers);
    let scheme = if config.secure_cookie || encrypted { "https" } else { "http" };
    match (host, authority) {
        (Some(host), Some(authority)) if !host.contains(['"', '\\', '@']) => {
            let name = authority.host().trim_matches(['[', ']']);
            let own =
                name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
            // Some clients leave the port out; on this machine itself no proxy stands in between.
            match authority.port() {
                None if own && !encrypted => {
                    format!("{scheme}://{host}:{}{ROOT}", web.dicomweb.parts.listening.port())
                }
                _ => format!("{scheme}://{host}{ROOT}"),
            }
        }
        _ => ROOT.to_owned(),
    }
}

fn json_is_accepted(accept: &Accept) -> Result<(), Failure> {
    match accept.takes(&[DICOM_JSON, "application/json"]) {
        Some(_) => Ok(()),
        None => Err(not_acceptable("Only application/dicom+json is given here.")),
    }
}

fn not_acceptable(detail: impl Into<Phrase>) -> Failure {
    Failure::new(StatusCode::NOT_ACCEPTABLE, detail)
}

/// A study, a series or an instance, as the path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    study: StudyUid,
    series: Option<SeriesUid>,
    instance: Option<SopInstanceUid>,
}

/// The named parts of a path.
#[derive(Debug, Clone, serde::Deserialize)]
struct Named {
    study: String,
    series: Option<String>,
    instance: Option<String>,
}

impl Target {
    fn parse(named: &Named) -> Result<Target, Failure> {
        let bad = |error: crate::domain::uid::UidError| Failure::bad_request(error.to_string());
        let series = named.series.as_deref().map(SeriesUid::parse).transpose().map_err(bad)?;
        let instance = named.instance.as_deref();
        let instance = instance.map(SopInstanceUid::parse).transpose().map_err(bad)?;
        Ok(Target { study: StudyUid::parse(&named.study).map_err(bad)?, series, instance })
    }

    fn word(&self) -> &'static str {
        match (&self.series, &self.instance) {
            (_, Some(_)) => "instance",
            (Some(_), None) => "series",
            (None, None) => "study",
        }
    }

    fn has(&self, row: &InstanceRow) -> bool {
        let receipt = &row.receipt;
        receipt.study_uid == self.study
            && self.series.as_ref().is_none_or(|series| receipt.series_uid == *series)
            && self.instance.as_ref().is_none_or(|sop| receipt.sop_instance_uid == *sop)
    }

    /// Shows `visit` its instances in the order of arrival, each with its file, until it has enough.
    fn each(
        &self,
        store: &Store,
        visit: &mut dyn FnMut(&InstanceRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut mine = |row: &InstanceRow| match self.has(row) {
            true => visit(row),
            false => ControlFlow::Continue(()),
        };
        match &self.instance {
            Some(sop) => {
                let _ = store.instance(sop)?.iter().try_for_each(mine);
            }
            None => store.each_instance(&self.study, &mut mine)?,
        }
        store.file(&self.study)
    }

    fn not_there(&self) -> Failure {
        Failure::not_found(format!("The node has no such {}.", self.word()))
    }

    /// Its instances, at least one.
    async fn rows(&self, web: &Web) -> Result<Vec<InstanceRow>, Failure> {
        let target = self.clone();
        let rows = web.read(move |web: &Shared| {
            let mut rows = Vec::new();
            target.each(&web.node.store, &mut |row| {
                rows.push(row.clone());
                ControlFlow::Continue(())
            })?;
            Ok(rows)
        });
        Some(rows.await?).filter(|rows| !rows.is_empty()).ok_or_else(|| self.not_there())
    }

    /// All of them at a glance; there is at least one.
    async fn glance(&self, web: &Web) -> Result<Glance, Failure> {
        let target = self.clone();
        let glance = web.read(move |web: &Shared| {
            let mut glance = Glance::of([]);
            target.each(&web.node.store, &mut |row| {
                glance.add(row);
                ControlFlow::Continue(())
            })?;
            Ok(glance)
        });
        Some(glance.await?).filter(|glance| glance.count > 0).ok_or_else(|| self.not_there())
    }

    /// The first [`PAGE`] of those that came after this one.
    async fn page(&self, web: &Web, after: Option<u64>) -> Result<Vec<InstanceRow>, Failure> {
        let target = self.clone();
        web.read(move |web: &Shared| {
            let mut rows = Vec::new();
            target.each(&web.node.store, &mut |row| {
                if after.is_none_or(|after| row.order > after) {
                    rows.push(row.clone());
                }
                match rows.len() < PAGE {
                    true => ControlFlow::Continue(()),
                    false => ControlFlow::Break(()),
                }
            })?;
            Ok(rows)
        })
        .await
    }
}

/// What is known of all instances of a target without one of them in memory.
struct Glance {
    hash: Sha256,
    count: usize,
    /// Transfer syntaxes that they are stored in.
    syntaxes: BTreeSet<String>,
}

impl Glance {
    fn of<'r>(rows: impl IntoIterator<Item = &'r InstanceRow>) -> Glance {
        let mut glance = Glance { hash: Sha256::new(), count: 0, syntaxes: BTreeSet::new() };
        rows.into_iter().for_each(|row| glance.add(row));
        glance
    }

    fn add(&mut self, row: &InstanceRow) {
        let receipt = &row.receipt;
        self.hash.update(receipt.sop_instance_uid.as_str());
        self.hash.update(receipt.digest.as_bytes());
        self.count += 1;
        if !self.syntaxes.contains(receipt.transfer_syntax_uid.as_str()) {
            self.syntaxes.insert(receipt.transfer_syntax_uid.to_string());
        }
    }

    /// Names one answer: the instances it is made of and what was made of them.
    fn etag(&self, of: &str) -> String {
        let mut hash = self.hash.clone();
        hash.update(of);
        format!("\"{}\"", text::hex(&hash.finalize()[..16]))
    }
}

/// The etag of an answer that is made of these.
fn etag(rows: &[InstanceRow], of: &str) -> String {
    Glance::of(rows).etag(of)
}

/// The instances of a target in the order of arrival, a page of them in memory.
struct Rows {
    target: Target,
    page: std::vec::IntoIter<InstanceRow>,
    /// Order of the last one that was read; none before the first.
    after: Option<u64>,
}

impl Rows {
    fn of(target: Target) -> Rows {
        Rows { target, page: Vec::new().into_iter(), after: None }
    }

    /// The next ones, `count` at most; none at the end.
    async fn next(&mut self, web: &Web, count: usize) -> Result<Vec<InstanceRow>, Failure> {
        let mut rows: Vec<InstanceRow> = self.page.by_ref().take(count).collect();
        if rows.is_empty() {
            self.page = self.target.page(web, self.after).await?.into_iter();
            rows = self.page.by_ref().take(count).collect();
        }
        self.after = rows.last().map(|row| row.order).or(self.after);
        Ok(rows)
    }
}

/// 304 when the client has it already. Pictures of patients are kept by the client's own cache
/// alone, and only shown again when we say so.
fn unchanged(headers: &HeaderMap, etag: &str) -> Option<Response> {
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|v| v.to_str().ok());
    let same = known.flat_map(|line| line.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == etag
    });
    same.then(|| cached(StatusCode::NOT_MODIFIED.into_response(), etag))
}

fn cached(mut response: Response, etag: &str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.append(header::VARY, HeaderValue::from_static("accept"));
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    response
}

/// Workers that fail: what cannot be decoded is the object's fault, the rest passes.
fn of_worker(error: WorkerError) -> Failure {
    match error {
        WorkerError::Refused(reason) => not_acceptable(format!("This cannot be given: {reason}.")),
        error => {
            tracing::warn!(%error, "a DICOMweb request could not be worked on");
            match error.is_poison() {
                true => not_acceptable("This cannot be given: a decoder failed over it."),
                false => Failure::busy("Nobody can work on it at the moment.", 2),
            }
        }
    }
}
