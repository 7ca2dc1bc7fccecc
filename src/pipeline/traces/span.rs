//! How each thing that took its time is written as a span.
//!
//! Attributes hold UIDs, AE titles, addresses, counts, states, causes of our own wording. No names of
//! patients, and none of those who answer.

use jiff::SignedDuration;
use jiff::Timestamp;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::Status;
use opentelemetry_proto::tonic::trace::v1::span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::call::Call;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::store::event::JobOutcome;
use crate::store::event::StudyState;

/// Bytes of a cause.
const CAUSE_MAX: usize = 300;
/// Sampled (W3C Trace Context).
const FLAGS: u32 = 1;

/// What is known of a revision on its way.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    pub instances: u32,
    pub associations: Vec<Association>,
    pub states: Vec<(StudyState, Timestamp)>,
    pub modality: String,
    pub outcome: String,
    pub urgency: Option<Urgency>,
}

/// The instances that came by one association.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Association {
    pub number: String,
    pub calling_ae: String,
    pub called_ae: String,
    pub address: String,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub instances: u32,
    pub bytes: u64,
}

/// Whose span it is.
pub struct Of<'a> {
    study_uid: &'a str,
    revision: u32,
}

impl<'a> Of<'a> {
    pub fn new(study_uid: &'a StudyUid, revision: u32) -> Of<'a> {
        Of { study_uid: study_uid.as_str(), revision }
    }

    /// What the spans of the revision stand below.
    fn mark(&self) -> Vec<u8> {
        mark(&[self.study_uid, "revision", &self.revision.to_string()])
    }

    /// One below that of the revision.
    ///
    /// - `which`: tells it from others of its name and start.
    pub fn span(
        &self,
        name: &str,
        which: &str,
        since: Timestamp,
        until: Timestamp,
        kind: SpanKind,
        mut attributes: Vec<KeyValue>,
    ) -> Span {
        attributes.push(text("dicom.study_instance_uid", self.study_uid));
        attributes.push(number("prelim.revision", self.revision.into()));
        let begin = nanoseconds(since);
        let of = [self.study_uid, &self.revision.to_string(), name, which, &begin.to_string()];
        Span {
            trace_id: trace_id(self.study_uid),
            span_id: mark(&of),
            parent_span_id: self.mark(),
            flags: FLAGS,
            name: name.to_owned(),
            kind: kind.into(),
            start_time_unix_nano: begin,
            end_time_unix_nano: nanoseconds(until).max(begin),
            attributes,
            ..Span::default()
        }
    }

    pub fn association(&self, one: &Association) -> Span {
        let (since, until) = (one.first_at, one.last_at);
        self.span(
            "association",
            &one.number,
            since,
            until,
            SpanKind::Server,
            vec![
                text("dicom.calling_ae_title", &one.calling_ae),
                text("dicom.called_ae_title", &one.called_ae),
                text("network.peer.address", &one.address),
                text("prelim.association", &one.number),
                number("dicom.instances", one.instances.into()),
                number("dicom.bytes", i64::try_from(one.bytes).unwrap_or(i64::MAX)),
            ],
        )
    }

    /// The whole way of a revision, which has come to rest.
    pub fn whole(&self, known: &Revision, state: StudyState, at: Timestamp) -> Span {
        let begun = known.states.first().map_or(at, |(_, first)| *first);
        let since = known.first_at.unwrap_or(begun).min(at);
        let mut attributes = vec![
            text("prelim.state", state.as_str()),
            number("dicom.instances", known.instances.into()),
        ];
        let urgency = known.urgency.map_or("", Urgency::as_str);
        let more = [
            ("dicom.modality", known.modality.as_str()),
            ("prelim.outcome", &known.outcome),
            ("prelim.urgency", urgency),
        ];
        let more = more.iter().filter(|(_, value)| !value.is_empty());
        attributes.extend(more.map(|(key, value)| text(key, value)));
        let name = if self.revision == 1 { "study" } else { "revision" };
        let mut span = self.span(name, "", since, at, SpanKind::Internal, attributes);
        span.span_id = self.mark();
        span.parent_span_id = match self.revision {
            1 => Vec::new(),
            _ => Of { revision: 1, ..*self }.mark(),
        };
        let events = known.states.iter().map(|(state, at)| span::Event {
            time_unix_nano: nanoseconds(*at),
            name: state.as_str().to_owned(),
            ..span::Event::default()
        });
        span.events = events.collect();
        if state == StudyState::Failed {
            span.status = failed("the study could not be read");
        }
        span
    }

    /// A call to a model, named after the conventions for generative models.
    ///
    /// - `nth`: among the events of its record.
    pub fn call(&self, tier: &str, call: &Call, nth: usize, end: Timestamp) -> Span {
        let since = earlier(end, call.latency_ms);
        let count = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let mut attributes = vec![
            text("gen_ai.operation.name", "chat"),
            text("gen_ai.provider.name", &call.gateway),
            text("gen_ai.request.model", &call.model),
            number("gen_ai.usage.input_tokens", count(call.tokens.prompt)),
            number("gen_ai.usage.output_tokens", count(call.tokens.completion)),
            text("prelim.tier", tier),
            number("prelim.pictures", call.pictures.into()),
            text("prelim.call.outcome", &call.outcome),
        ];
        if let Some(cost) = call.cost_micro {
            attributes.push(number("prelim.call.cost_micro", count(cost)));
        }
        let (which, kind) = (format!("{tier} {nth}"), SpanKind::Client);
        let mut span = self.span("chat", &which, since, end, kind, attributes);
        if call.is_failed() {
            span.status = failed(&call.outcome);
        }
        span
    }
}

/// One try of a job. None for one that belongs to no study's way.
pub fn job_span(
    id: &str,
    since: Timestamp,
    until: Timestamp,
    outcome: &JobOutcome,
) -> Option<Span> {
    let mut parts = id.splitn(4, '/');
    let study_uid = parts.next()?;
    let revision = parts.next()?.parse().ok()?;
    let (step, rest) = (parts.next()?, parts.next().unwrap_or_default());
    let kind = match step {
        "drill" | "digest" => return None,
        "plan" | "picture" | "analyse" | "shadow" | "judge" | "compose" | "escalate" => {
            SpanKind::Internal
        }
        _ => SpanKind::Client,
    };
    let (word, cause) = match outcome {
        JobOutcome::Done => ("done", None),
        JobOutcome::Retry { cause, .. } => ("retry", Some(cause)),
        JobOutcome::Dead { cause } => ("dead", Some(cause)),
        JobOutcome::Dropped { .. } => ("dropped", None),
    };
    let mut attributes = vec![text("prelim.job.outcome", word)];
    if let ("deliver" | "prove", Some((artefact, destination))) = (step, rest.rsplit_once('/')) {
        attributes.push(text("prelim.artefact", artefact));
        attributes.push(text("prelim.destination", destination));
    }
    let of = Of { study_uid, revision };
    let mut span = of.span(step, "", since, until, kind, attributes);
    span.span_id = job_mark(id, since);
    span.status = cause.and_then(|cause| failed(cause));
    Some(span)
}

pub fn job_mark(id: &str, since: Timestamp) -> Vec<u8> {
    mark(&[id, &nanoseconds(since).to_string()])
}

/// Of 16 bytes: those that the SHA-256 of the Study Instance UID begins with.
pub fn trace_id(study_uid: &str) -> Vec<u8> {
    Sha256::digest(study_uid)[..16].to_vec()
}

/// The span ID of what is named by `parts`: the same each time that it is told.
fn mark(parts: &[&str]) -> Vec<u8> {
    Sha256::digest(parts.join("\n"))[..8].to_vec()
}

pub fn earlier(at: Timestamp, ms: u64) -> Timestamp {
    at.checked_sub(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX))).unwrap_or(at)
}

/// Since 1970.
fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or_default()
}

/// "complete by word of NAME: …" without what follows the deed.
pub fn without_person(reason: &str) -> &str {
    reason.split(" by ").next().unwrap_or_default()
}

pub fn failed(why: &str) -> Option<Status> {
    let mut end = why.len().min(CAUSE_MAX);
    while !why.is_char_boundary(end) {
        end -= 1;
    }
    Some(Status { message: why[..end].to_owned(), code: StatusCode::Error.into() })
}

pub fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

pub fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    let value = Some(AnyValue { value: Some(value) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
