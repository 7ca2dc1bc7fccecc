//! One trace for each study, from its first image to its last delivery, as spans of OpenTelemetry
//! to a collector (OTLP over HTTP).
//!
//! The spans are made from the ledger: they hold what was done, over restarts too, and say no more of
//! the patient than it does. See `spans`.

mod span;
mod spans;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::ScopeSpans;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::http;
use crate::deliver::http::Endpoint;
use crate::deliver::http::Request;
use crate::outgoing::route::Route;
use crate::outgoing::server::Server;
use crate::outgoing::server::Who;
use crate::pipeline::following::Listener;
use crate::pipeline::following::Metrics;
use crate::pipeline::traces::span::text;
use crate::pipeline::traces::spans::Open;
use crate::pipeline::way::Kit;
use crate::store::Written;

const PROTOBUF: &str = "application/x-protobuf";

/// Section `traces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of the collector, with its path; empty: no traces.
    pub url: String,
    #[serde(flatten)]
    pub route: Route,
    #[serde(flatten)]
    pub who: Who,
    /// Seconds for one answer.
    pub timeout_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { url: String::new(), route: Route::default(), who: Who::default(), timeout_s: 10 }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if !self.url.is_empty() {
            self.endpoint().check(at, problems);
            self.server().check_token_url(at, problems);
        }
    }

    pub fn server(&self) -> Server<'_> {
        Server { route: &self.route, who: &self.who }
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint { url: &self.url, server: self.server(), timeout_s: self.timeout_s }
    }
}

/// Who takes the traces.
pub struct Collector;

impl Listener for Collector {
    const NAME: &'static str = "traces";
    const SENT: &'static str = "trace spans";
    const METRICS: Metrics = Metrics {
        sent: "prelim_traces_spans_total",
        failures: "prelim_traces_failures_total",
        behind: "prelim_traces_behind_records",
        behind_s: "prelim_traces_behind_seconds",
    };
    type State = Open;

    fn server(kit: &Kit) -> Option<&str> {
        Some(kit.traces.url.as_str()).filter(|url| !url.is_empty())
    }

    fn take(&mut self, before: &Kit, now: &Kit) -> bool {
        before.traces != now.traces
    }

    async fn tell(
        &mut self,
        kit: &Kit,
        records: &[Written],
        open: &mut Open,
    ) -> Result<u64, String> {
        let spans: Vec<Span> =
            records.iter().flat_map(|record| open.spans_of(&record.events)).collect();
        if spans.is_empty() {
            return Ok(0);
        }
        let sent = spans.len() as u64;
        let message = request(spans, kit.ae_title.as_str());
        let (status, answer) = post(&kit.traces, message).await?;
        let lost = match status {
            200..=299 => {
                let answer = ExportTraceServiceResponse::decode(&*answer).unwrap_or_default();
                let rejected = answer.partial_success.map_or(0, |part| part.rejected_spans);
                u64::try_from(rejected).unwrap_or(0).min(sent)
            }
            // Of these spans, not of the way there: they would be refused again.
            400 | 413 | 422 => sent,
            _ => return Err(http::refused(status, "").to_string()),
        };
        if lost > 0 {
            tracing::warn!(status, lost, sent, "the collector of traces does not take some spans");
            metrics::counter!("prelim_traces_lost_total").increment(lost);
        }
        Ok(sent - lost)
    }
}

/// Whether the collector takes what we send: asked with a request that holds no span.
///
/// # Errors
/// In words: no answer, or what it does not take.
pub async fn reach(config: &Config) -> Result<(), String> {
    match post(config, request(Vec::new(), "")).await? {
        (200..=299, _) => Ok(()),
        (status, _) => Err(http::refused(status, "").to_string()),
    }
}

async fn post(
    config: &Config,
    message: ExportTraceServiceRequest,
) -> Result<(u16, Vec<u8>), String> {
    let request = Request {
        path: "",
        content_type: PROTOBUF,
        accept: PROTOBUF,
        headers: Vec::new(),
        body: message.encode_to_vec(),
    };
    let answer = config.endpoint().post(request).await.map_err(|error| error.to_string())?;
    Ok((answer.status, answer.body))
}

/// - `ae_title`: of this node.
fn request(spans: Vec<Span>, ae_title: &str) -> ExportTraceServiceRequest {
    let (name, version) = ("prelim", env!("CARGO_PKG_VERSION"));
    let attributes = vec![
        text("service.name", name),
        text("service.version", version),
        text("service.instance.id", ae_title),
    ];
    let scope = InstrumentationScope {
        name: name.to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    let resource_spans = vec![ResourceSpans { resource, scope_spans, schema_url: String::new() }];
    ExportTraceServiceRequest { resource_spans }
}
