//! The web page, the API and the local API of the command line.

mod below;
pub mod dicomweb;
pub mod inspect;
pub mod local;

mod access;
mod actions;
mod analysis;
mod answer;
mod api;
mod audit;
mod config;
mod evidence;
mod files;
mod live;
mod page;
mod problem;
mod query;
mod queue;
mod reading;
mod rules;
mod server;
mod settings;
mod sources;
mod status;
mod study;
mod trail;
mod viewer;
mod words;
mod worklist;

#[cfg(test)]
mod http_test;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::get;
use axum::routing::post;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::web::access::accounts;
pub use crate::web::access::rights;
pub use crate::web::api::intake::Accepted;
pub use crate::web::api::intake::FileKind;
pub use crate::web::api::intake::Intake;
pub use crate::web::api::intake::IntakeError;
pub use crate::web::api::intake::Priority;
pub use crate::web::api::intake::Upload;
pub use crate::web::api::intake::file_kind;
pub use crate::web::config::Config;
pub use crate::web::config::Login;
pub use crate::web::rules::Trials;
pub use crate::web::server::Doors;
pub use crate::web::server::Site;
pub use crate::web::settings::Setting;

use crate::alert::Signer;
use crate::analysis::provider::GatewayView;
use crate::dicom::access::Access;
use crate::dicom::sources::Sources;
use crate::domain::clock::Clock;
use crate::domain::secret::Secret;
use crate::domain::uid::StudyUid;
use crate::pipeline::canary::CanaryView;
use crate::store::Store;
use crate::store::StoreError;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

/// None where a study has no alert.
pub type AlertRecord = Arc<dyn Fn(&StudyUid) -> Result<Option<Vec<u8>>, String> + Send + Sync>;

/// What the pages stand on.
#[derive(Clone)]
pub struct WebState {
    pub store: Store,
    /// Takes uploads.
    pub intake: Arc<dyn Intake>,
    pub config: Arc<Config>,
    /// [`Config::token`], which may everything.
    pub token: Option<Secret>,
    /// People and programs that may come in.
    pub accounts: Arc<accounts::Live>,
    /// [`local::NodeFile`]'s token, for the command line alone.
    pub local_token: Secret,
    pub metrics: PrometheusHandle,
    /// Why the node is not ready, e.g. "the DICOM port does not listen yet"; empty when it is.
    pub not_ready: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// What an operator should know although it is ready: sources that are missed, a certificate
    /// that ends soon.
    pub notes: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Who sends, and who was refused.
    pub sources: Arc<Sources>,
    /// Who may send.
    pub access: Arc<Access>,
    /// AE titles of those that are silent for longer than is expected of them.
    pub missed: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    pub clock: Arc<dyn Clock>,
    /// Reads the links by which people answer alerts.
    pub links: Signer,
    /// The record of a study's alerts, as a DICOM object.
    pub alert_record: AlertRecord,
    /// Names of the services that hear of alerts.
    pub services: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Reads the settings again.
    pub reload: Arc<dyn Fn() -> local::Reloaded + Send + Sync>,
    pub dicomweb: dicomweb::Parts,
    pub gateways: Arc<dyn Fn() -> Vec<GatewayView> + Send + Sync>,
    pub canaries: Arc<dyn Fn() -> Result<Vec<CanaryView>, StoreError> + Send + Sync>,
    /// What calls to models are paid in.
    pub currency: String,
    /// Tries files without keeping them.
    pub trials: Arc<dyn Trials>,
    /// What the node was started with.
    pub settings: Arc<dyn Fn() -> Vec<Setting> + Send + Sync>,
}

/// [`WebState`] and what the room keeps for itself.
struct Shared {
    node: WebState,
    access: access::Access,
    audit: Arc<audit::Audit>,
    pages: Arc<page::Pages>,
    callers: Arc<api::Callers>,
    people: Arc<worklist::People>,
    health: Arc<status::HealthCache>,
    requests: Arc<Semaphore>,
    watchers: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    stop: CancellationToken,
    dicomweb: dicomweb::DicomWeb,
}

type Web = Arc<Shared>;

impl Shared {
    /// - `before`: by the settings from before: who is logged in, what was counted and what is known go
    ///   on.
    fn open(
        node: WebState,
        before: Option<&Shared>,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> Web {
        let config = Arc::clone(&node.config);
        let dicomweb = before.map(|before| &before.dicomweb);
        Arc::new(Shared {
            access: access::Access::new(&node, before.map(|before| &before.access)),
            audit: match before {
                Some(before) => Arc::clone(&before.audit),
                None => {
                    let (store, clock) = (node.store.clone(), Arc::clone(&node.clock));
                    Arc::new(audit::Audit::new(store, clock, tasks.clone()))
                }
            },
            pages: before
                .map_or_else(|| Arc::new(page::Pages::new()), |before| Arc::clone(&before.pages)),
            callers: before.map_or_else(Arc::default, |before| Arc::clone(&before.callers)),
            people: before.map_or_else(Arc::default, |before| Arc::clone(&before.people)),
            health: before.map_or_else(Arc::default, |before| Arc::clone(&before.health)),
            requests: Arc::new(Semaphore::new(config.requests_max)),
            watchers: Arc::new(Semaphore::new(config.watchers_max)),
            uploads: Arc::new(Semaphore::new(config.uploads_max)),
            dicomweb: dicomweb::DicomWeb::start(&node, dicomweb, stop, tasks),
            stop: stop.clone(),
            node,
        })
    }

    /// Runs `work`, which reads files and the index, where blocking is allowed.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Shared) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (web, asked) = (Arc::clone(self), words::asked());
        match tokio::task::spawn_blocking(move || asked.within(|| work(&web))).await {
            Ok(result) => result,
            Err(_) => Err(Failure::internal("a page could not be made")),
        }
    }
}

/// Every route. The order of the layers, from outside: keep (links below a path), dress (security headers, error pages,
/// metrics), guard (form of the request, host, origin, who may), places, time limit.
fn router(web: &Web) -> Router {
    let config = &web.node.config;
    let quick = |routes: Router<Web>| {
        routes
            .layer(DefaultBodyLimit::max(64 << 10))
            .layer(tower_http::timeout::TimeoutLayer::with_status_code(
                axum::http::StatusCode::SERVICE_UNAVAILABLE,
                Duration::from_secs(config.request_timeout_s),
            ))
            .layer(middleware::from_fn_with_state(Arc::clone(web), server::places))
    };
    let watch = Router::new().route("/events", get(live::events));
    let pages = Router::new()
        .route("/", get(worklist::show))
        .route("/studies/{uid}", get(study::show))
        .route("/studies/{uid}/complete", post(actions::complete))
        .route("/studies/{uid}/again", post(actions::again))
        .route("/studies/{uid}/hold", post(actions::hold))
        .route("/studies/{uid}/feedback", post(actions::feedback))
        .route("/studies/{uid}/origin", post(actions::origin))
        .route("/studies/{uid}/identity", post(actions::identity))
        .route("/alert/{token}", get(answer::show).post(answer::take))
        .route("/alerts/{alert}", post(answer::take_on_page))
        .route("/alerts/{alert}/close", post(answer::close_on_page))
        .route("/queue", get(queue::show))
        .route("/queue/retry", post(queue::retry))
        .route("/queue/cancel", post(queue::cancel))
        .route("/sources", get(sources::show))
        .route("/sources/let-in", post(sources::let_in))
        .route("/analysis", get(analysis::show))
        .route("/audit", get(trail::show))
        .route("/settings", get(settings::show))
        .route("/results/{uid}/{revision}/{file}", get(files::result))
        .route("/assets/{file}", get(files::asset))
        .route("/language", post(words::set))
        .route("/login", get(access::login::show).post(access::login::take))
        .route("/login/oidc", get(access::oidc::begin))
        .route(access::oidc::BACK, get(access::oidc::back))
        .route("/logout", post(access::login::leave))
        .route("/account", get(access::login::account))
        .route("/accounts", get(access::admin::show).post(access::admin::take))
        .route("/account/password", post(access::login::change_password))
        .route("/healthz", get(status::alive))
        .route("/readyz", get(status::ready))
        .route("/metrics", get(status::metrics))
        .route("/local/v1/study/{uid}/feedback", post(api::judging::feedback))
        .route("/local/v1/study/{uid}/final", post(api::judging::final_report))
        .route("/local/v1/agreement", get(api::judging::agreement))
        .route("/local/v1/studies", get(local::studies))
        .route("/local/v1/study/{uid}", get(local::study))
        .route("/local/v1/study/{uid}/complete", post(local::complete))
        .route("/local/v1/study/{uid}/origin", post(local::origin))
        .route("/local/v1/study/{uid}/identity", post(local::identity))
        .route("/local/v1/study/{uid}/kept", get(local::kept))
        .route("/local/v1/object/{sop}", get(local::object))
        .route("/local/v1/queue", get(local::queue))
        .route("/local/v1/sources", get(local::sources))
        .route("/local/v1/usage", get(local::usage))
        .route("/local/v1/alerts", get(local::alerts))
        .route("/local/v1/alert/{alert}", get(local::alert).post(local::answer_alert))
        .route("/local/v1/drill", post(local::drill))
        .route("/studies/{uid}/alerts.dcm", get(answer::record))
        .route("/local/v1/study/{uid}/alerts.dcm", get(answer::record))
        .route("/local/v1/gateways", get(local::gateways))
        .route("/local/v1/comparison", get(local::comparison))
        .route("/local/v1/canaries", get(local::canaries).post(local::move_canary))
        .route("/local/v1/queue/retry", post(local::retry))
        .route("/local/v1/queue/cancel", post(local::cancel));
    let bytes_max = usize::try_from(config.upload_bytes_max).unwrap_or(usize::MAX);
    let rules = Router::new()
        .route("/rules", get(rules::show).post(rules::take))
        .layer(DefaultBodyLimit::max(bytes_max.saturating_add(1 << 20)));
    // Reads every object: as long as it takes.
    let slow = Router::new()
        .route("/local/v1/verify", get(local::verify))
        .route("/local/v1/audit", post(local::audit))
        .route("/local/v1/reload", post(local::reload))
        .route("/local/v1/audit/verify", get(local::verify_chain))
        .route("/local/v1/retention", get(local::retention).post(local::retain));
    Router::new()
        .merge(quick(pages))
        .merge(api::router(web, quick))
        .merge(rules)
        .merge(watch)
        .merge(slow)
        .merge(dicomweb::router(web))
        .fallback(|| async { Failure::not_found(Phrase::new("problem.page")) })
        .method_not_allowed_fallback(|| async { Failure::method() })
        .layer(middleware::from_fn_with_state(Arc::clone(web), dicomweb::share))
        .layer(middleware::from_fn_with_state(Arc::clone(web), access::guard))
        .layer(middleware::from_fn_with_state(Arc::clone(web), server::dress))
        .layer(middleware::from_fn_with_state(Arc::clone(web), below::keep))
        .layer(middleware::from_fn(words::choose))
        .with_state(Arc::clone(web))
}
