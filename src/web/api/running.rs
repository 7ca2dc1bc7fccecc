//! What models cost, what their keys are good for, how a canary does, how the node is.

use axum::Extension;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse as _;
use axum::response::Response;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

use crate::domain::canary::Phase;
use crate::pipeline::canary::CanaryView;
use crate::store::UsageRow;
use crate::web::Web;
use crate::web::access::Viewer;
use crate::web::api::Body;
use crate::web::api::Page;
use crate::web::api::Path;
use crate::web::api::Query;
use crate::web::inspect;
use crate::web::local;
use crate::web::problem::Failure;
use crate::web::status;

#[derive(Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Days {
    /// First day (UTC); else 30 days before the last.
    #[param(value_type = Option<String>, format = Date)]
    first: Option<Date>,
    /// Last day (UTC), which is within; else today.
    #[param(value_type = Option<String>, format = Date)]
    last: Option<Date>,
}

/// What was asked of models.
#[derive(Serialize, ToSchema)]
pub struct Cost {
    currency: String,
    #[schema(value_type = String, format = Date)]
    first: Date,
    #[schema(value_type = String, format = Date)]
    last: Date,
    /// One for each day, gateway, key, model, tier, modality and source.
    items: Vec<CostLine>,
}

#[derive(Serialize, ToSchema)]
pub struct CostLine {
    #[schema(value_type = String, format = Date)]
    day: Date,
    gateway: String,
    key: String,
    model: String,
    tier: String,
    modality: String,
    source: String,
    calls: u64,
    /// Of them, those without an answer.
    failed: u64,
    /// Of them, those that an answer kept from before served.
    cached: u64,
    tokens_in: u64,
    tokens_out: u64,
    /// In the currency.
    cost: f64,
    /// Calls whose model had no price.
    unpriced: u64,
    /// Of all calls together.
    latency_ms: u64,
}

impl From<&UsageRow> for CostLine {
    fn from(row: &UsageRow) -> CostLine {
        CostLine {
            day: row.day,
            gateway: row.gateway.clone(),
            key: row.key.clone(),
            model: row.model.clone(),
            tier: row.tier.clone(),
            modality: row.modality.clone(),
            source: row.source.clone(),
            calls: row.calls,
            failed: row.failed,
            cached: row.cached,
            tokens_in: row.tokens.prompt,
            tokens_out: row.tokens.completion,
            cost: row.cost_micro as f64 / 1e6,
            unpriced: row.unpriced,
            latency_ms: row.latency_ms,
        }
    }
}

/// What was asked of models, and what it cost. At most three years.
#[utoipa::path(
    get, path = "/api/v1/cost", tag = "models", params(Days),
    responses((status = 200, body = Cost)),
)]
pub async fn cost(State(web): State<Web>, Query(days): Query<Days>) -> Result<Json<Cost>, Failure> {
    let today = web.node.clock.now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let last = days.last.unwrap_or(today);
    let first = days.first.unwrap_or_else(|| last.saturating_sub(jiff::Span::new().days(30)));
    web.read(move |web| {
        let view = inspect::usage(&web.node.store, first, last, &web.node.currency)?;
        let items = view.rows.iter().map(CostLine::from).collect();
        Ok(Json(Cost { currency: view.currency, first: view.first, last: view.last, items }))
    })
    .await
}

/// A gateway and its keys, without the secrets.
#[derive(Serialize, ToSchema)]
pub struct GatewayKeys {
    gateway: String,
    model: String,
    /// Why it is not asked now.
    rests: Option<String>,
    /// Of the last look whether it answers: when, and what was wrong.
    checked_at: Option<Timestamp>,
    problem: Option<String>,
    keys: Vec<Key>,
}

#[derive(Serialize, ToSchema)]
pub struct Key {
    name: String,
    /// in use, usable, used up, expired, refused or resting.
    state: String,
    rests_until: Option<Timestamp>,
    /// Of this month.
    calls: u64,
    /// 0: any number.
    calls_max: u64,
    #[schema(value_type = Option<String>, format = Date)]
    expires: Option<Date>,
    weight: u32,
}

/// Gateways and how their keys are.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "models",
    responses((status = 200, body = Page<GatewayKeys>)),
)]
pub async fn keys(State(web): State<Web>) -> Json<Page<GatewayKeys>> {
    let gateways = (web.node.gateways)().into_iter().map(|view| GatewayKeys {
        gateway: view.name,
        model: view.model,
        rests: view.rests,
        checked_at: view.checked_at,
        problem: view.problem,
        keys: view
            .keys
            .into_iter()
            .map(|key| Key {
                name: key.name,
                state: key.state,
                rests_until: key.rests_until,
                calls: key.calls,
                calls_max: key.calls_max,
                expires: key.expires,
                weight: key.weight,
            })
            .collect(),
    });
    Json(Page::all(gateways.collect()))
}

/// A new gateway beside the one that it may take over from.
#[derive(Serialize, ToSchema)]
pub struct Canary {
    name: String,
    of: String,
    candidate: String,
    /// In words: stage 1, promoted, rolled back.
    phase: String,
    since: Timestamp,
    why: String,
    /// Of the candidate in this phase, since the node has started.
    calls: usize,
    failed: usize,
    p99_ms: u64,
    compared: usize,
    /// Share of the compared studies that it read differently, 0 to 1.
    difference: f64,
    is_different: bool,
}

impl From<CanaryView> for Canary {
    fn from(view: CanaryView) -> Canary {
        Canary {
            phase: match view.phase {
                Phase::Stage { number } => format!("stage {}", number + 1),
                Phase::Promoted => "promoted".to_owned(),
                Phase::RolledBack => "rolled back".to_owned(),
            },
            name: view.name,
            of: view.of,
            candidate: view.candidate,
            since: view.since,
            why: view.why,
            calls: view.calls,
            failed: view.failed,
            p99_ms: view.p99_ms,
            compared: view.compared,
            difference: view.difference,
            is_different: view.is_different,
        }
    }
}

/// The canaries of the settings.
#[utoipa::path(
    get, path = "/api/v1/canary", tag = "models",
    responses((status = 200, body = Page<Canary>)),
)]
pub async fn canary(State(web): State<Web>) -> Result<Json<Page<Canary>>, Failure> {
    web.read(|web| {
        let views = (web.node.canaries)()?;
        Ok(Json(Page::all(views.into_iter().map(Canary::from).collect())))
    })
    .await
}

/// An operator's word on a canary.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Move {
    to: To,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Promote,
    Rollback,
    Restart,
}

/// Promotes a canary, rolls it back, or begins it anew.
#[utoipa::path(
    post, path = "/api/v1/canary/{name}", tag = "models", request_body = Move,
    params(("name" = String, Path, description = "Its name in the settings")),
    responses((status = 200, body = Page<Canary>)),
)]
pub async fn move_canary(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Path(name): Path<String>,
    Body(word): Body<Move>,
) -> Result<Json<Page<Canary>>, Failure> {
    let to = match word.to {
        To::Promote => "promote",
        To::Rollback => "rollback",
        To::Restart => "restart",
    };
    let word = local::CanaryWord { canary: name, to: to.to_owned(), by: viewer.name };
    local::set_canary(&web, word).await?;
    canary(State(web)).await
}

/// Whether the node is ready for work.
#[derive(Serialize, ToSchema)]
pub struct Health {
    ready: bool,
    /// Why not, or what an operator should know although it is.
    reasons: Vec<String>,
    version: String,
    gateways: Vec<GatewayHealth>,
}

/// What a gateway did when it was asked last.
#[derive(Serialize, ToSchema)]
pub struct GatewayHealth {
    name: String,
    /// Why there was no answer, or why it is not asked now.
    problem: Option<String>,
    /// Of the last question, answered or not.
    latency_ms: Option<u64>,
}

/// A real write and read in the data folder, and the word of the rest of the node.
#[utoipa::path(
    get, path = "/api/v1/health", tag = "node",
    responses((status = 200, body = Health), (status = 503, body = Health)),
)]
pub async fn health(State(web): State<Web>) -> Result<Response, Failure> {
    let ready = web.read(|web| Ok(status::look(web))).await?;
    let code = if ready.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let health = Health {
        ready: ready.is_ready(),
        reasons: ready.reasons().to_vec(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        gateways: (web.node.gateways)()
            .into_iter()
            .map(|gateway| GatewayHealth {
                problem: gateway.problem.or(gateway.rests),
                latency_ms: gateway.latency_ms,
                name: gateway.name,
            })
            .collect(),
    };
    Ok((code, Json(health)).into_response())
}
