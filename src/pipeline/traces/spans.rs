//! Events of the ledger as spans.
//!
//! The trace of a study has its Study Instance UID as its mark, so that it is found from either side.
//! The way of the first revision is the root span, that of a later one a span below it; below each
//! stand its associations, the wait for further images, the steps of its way with the calls to models,
//! and for each alert the time until a person answered. An association is as long as its images of this
//! study: from the request that brings the first until the last is stored. One that is kept open for
//! hours before would say nothing of the study.

use std::collections::BTreeMap;

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::traces::span::Association;
use crate::pipeline::traces::span::Of;
use crate::pipeline::traces::span::Revision;
use crate::pipeline::traces::span::earlier;
use crate::pipeline::traces::span::failed;
use crate::pipeline::traces::span::job_mark;
use crate::pipeline::traces::span::job_span;
use crate::pipeline::traces::span::number;
use crate::pipeline::traces::span::text;
use crate::pipeline::traces::span::without_person;
use crate::store::event::Event;
use crate::store::event::Receipt;

/// Studies that are on their way, jobs that run, alerts that wait: of what is beyond, spans are left
/// out.
const OPEN_MAX: usize = 5_000;
/// Of one revision; what comes by more counts to the last of them.
const ASSOCIATIONS_MAX: usize = 32;
const STATES_MAX: usize = 32;

/// What has begun and not ended.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Open {
    studies: BTreeMap<String, BTreeMap<u32, Revision>>,
    /// When they were started, by their ids.
    jobs: BTreeMap<String, Timestamp>,
    /// By study and alert.
    alerts: BTreeMap<String, Raised>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Raised {
    at: Timestamp,
    urgency: Urgency,
}

impl Open {
    /// The spans that end with the events of one record.
    pub fn spans_of(&mut self, events: &[Event]) -> Vec<Span> {
        let mut spans = Vec::new();
        for (nth, event) in events.iter().enumerate() {
            match event {
                Event::RevisionOpened { study_uid, revision, .. }
                    if self.studies.len() < OPEN_MAX =>
                {
                    let study = self.studies.entry(study_uid.to_string()).or_default();
                    study.entry(*revision).or_default();
                }
                Event::InstanceStored { receipt } => self.arrived(receipt),
                Event::RevisionClosed { study_uid, revision, reason, at, .. } => {
                    let Some(known) = self.revision(study_uid, *revision) else { continue };
                    let of = Of::new(study_uid, *revision);
                    let arrived = std::mem::take(&mut known.associations);
                    spans.extend(arrived.iter().map(|one| of.association(one)));
                    let since = known.last_at.unwrap_or(*at);
                    spans.push(of.span(
                        "assemble",
                        "",
                        since,
                        *at,
                        SpanKind::Internal,
                        vec![
                            number("dicom.instances", known.instances.into()),
                            text("prelim.reason", without_person(reason)),
                        ],
                    ));
                }
                Event::StudyDescribed { study_uid, revision, modality, .. } => {
                    if let Some(known) = self.revision(study_uid, *revision) {
                        known.modality.clone_from(modality);
                    }
                }
                Event::Assessed { study_uid, revision, outcome, urgency, .. } => {
                    if let Some(known) = self.revision(study_uid, *revision) {
                        known.outcome.clone_from(outcome);
                        known.urgency = *urgency;
                    }
                }
                Event::StateChanged { study_uid, revision, to, at, .. } => {
                    let Some(known) = self.revision(study_uid, *revision) else { continue };
                    if known.states.len() < STATES_MAX {
                        known.states.push((*to, *at));
                    }
                    if to.is_at_rest() {
                        let of = Of::new(study_uid, *revision);
                        spans.push(of.whole(known, *to, *at));
                        self.forget(study_uid, *revision);
                    }
                }
                Event::JobStarted { id, at } if self.jobs.len() < OPEN_MAX => {
                    self.jobs.insert(id.clone(), *at);
                }
                Event::JobEnded { id, outcome, at } => {
                    let started = self.jobs.remove(id);
                    spans.extend(started.and_then(|since| job_span(id, since, *at, outcome)));
                }
                Event::ModelAsked { study_uid, revision, tier, call, at, .. } => {
                    // Those of one reading stand together: the last ended now, each before the next.
                    let after = events[nth + 1..].iter().map_while(|event| match event {
                        Event::ModelAsked { call, .. } => Some(call.latency_ms),
                        _ => None,
                    });
                    let end = earlier(*at, after.sum());
                    let step = match tier.as_str() {
                        "shadow" => format!("{study_uid}/{revision}/shadow/{}", call.gateway),
                        _ => format!("{study_uid}/{revision}/analyse"),
                    };
                    let mut span = Of::new(study_uid, *revision).call(tier, call, nth, end);
                    if let Some(since) = self.jobs.get(&step) {
                        span.parent_span_id = job_mark(&step, *since);
                    }
                    spans.push(span);
                }
                Event::AlertRaised { study_uid, alert, urgency, at, .. }
                    if self.alerts.len() < OPEN_MAX =>
                {
                    let raised = Raised { at: *at, urgency: *urgency };
                    self.alerts.entry(format!("{study_uid}/{alert}")).or_insert(raised);
                }
                Event::AlertAcknowledged { study_uid, revision, alert, answer } => {
                    spans.extend(self.answered(study_uid, *revision, alert, TAKEN, answer.at));
                }
                Event::AlertClosed { study_uid, revision, alert, answer } => {
                    spans.extend(self.answered(study_uid, *revision, alert, CLOSED, answer.at));
                }
                Event::AlertExhausted { study_uid, revision, alert, at, .. } => {
                    spans.extend(self.answered(study_uid, *revision, alert, NOBODY, *at));
                }
                Event::AlertWithdrawn { study_uid, revision, alert, at, .. } => {
                    spans.extend(self.answered(study_uid, *revision, alert, WITHDRAWN, *at));
                }
                _ => {}
            }
        }
        spans
    }

    fn revision(&mut self, study_uid: &StudyUid, revision: u32) -> Option<&mut Revision> {
        self.studies.get_mut(study_uid.as_str())?.get_mut(&revision)
    }

    fn forget(&mut self, study_uid: &StudyUid, revision: u32) {
        if let Some(study) = self.studies.get_mut(study_uid.as_str()) {
            study.remove(&revision);
            if study.is_empty() {
                self.studies.remove(study_uid.as_str());
            }
        }
    }

    /// It belongs to the newest revision: that alone takes instances.
    fn arrived(&mut self, receipt: &Receipt) {
        let study = self.studies.get_mut(receipt.study_uid.as_str());
        let Some(mut newest) = study.and_then(BTreeMap::last_entry) else { return };
        let (known, at) = (newest.get_mut(), receipt.received_at);
        let begun = receipt.begun_at.unwrap_or(at);
        known.first_at = Some(known.first_at.map_or(begun, |first| first.min(begun)));
        known.last_at = Some(known.last_at.map_or(at, |last| last.max(at)));
        known.instances += 1;
        let from = &receipt.from;
        let is_full = known.associations.len() >= ASSOCIATIONS_MAX;
        let it = known.associations.iter().position(|one| one.number == from.association);
        let it = it.or(is_full.then_some(ASSOCIATIONS_MAX - 1));
        let nth = it.unwrap_or_else(|| {
            known.associations.push(Association {
                number: from.association.clone(),
                calling_ae: from.calling_ae.clone(),
                called_ae: from.called_ae.clone(),
                address: from.address.clone(),
                first_at: begun,
                last_at: at,
                instances: 0,
                bytes: 0,
            });
            known.associations.len() - 1
        });
        let association = &mut known.associations[nth];
        association.first_at = association.first_at.min(begun);
        association.last_at = association.last_at.max(at);
        association.instances += 1;
        association.bytes += receipt.size_bytes;
    }

    fn answered(
        &mut self,
        study_uid: &StudyUid,
        revision: u32,
        alert: &str,
        outcome: &str,
        at: Timestamp,
    ) -> Option<Span> {
        let raised = self.alerts.remove(&format!("{study_uid}/{alert}"))?;
        let of = Of::new(study_uid, revision);
        let attributes = vec![
            text("prelim.alert.urgency", raised.urgency.as_str()),
            text("prelim.alert.outcome", outcome),
        ];
        let name = "await acknowledgement";
        let mut span = of.span(name, alert, raised.at, at, SpanKind::Internal, attributes);
        if outcome == NOBODY {
            span.status = failed("everyone was told, nobody has answered");
        }
        Some(span)
    }
}

const TAKEN: &str = "acknowledged";
const NOBODY: &str = "exhausted";
const WITHDRAWN: &str = "withdrawn";
const CLOSED: &str = "closed";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::alert::Answer;
    use crate::domain::call::Call;
    use crate::domain::call::Tokens;
    use crate::pipeline::traces::span::trace_id;
    use crate::store::event::JobOutcome;
    use crate::store::event::StudyState;
    use crate::store::testing::at;
    use crate::store::testing::receipt;
    use crate::store::testing::study;

    fn opened(revision: u32) -> Event {
        Event::RevisionOpened { study_uid: study(1), revision, at: at(0) }
    }

    fn changed(revision: u32, to: StudyState, second: i64) -> Event {
        let (study_uid, reason) = (study(1), String::new());
        Event::StateChanged { study_uid, revision, to, reason, at: at(second) }
    }

    fn stored(instance: u32, association: &str) -> Event {
        let mut receipt = receipt(1, instance, "four");
        receipt.from.association = association.to_owned();
        Event::InstanceStored { receipt }
    }

    fn started(id: &str, second: i64) -> Event {
        Event::JobStarted { id: id.to_owned(), at: at(second) }
    }

    fn ended(id: &str, outcome: JobOutcome, second: i64) -> Event {
        Event::JobEnded { id: id.to_owned(), outcome, at: at(second) }
    }

    fn asked(latency_ms: u64, outcome: &str, second: i64) -> Event {
        Event::ModelAsked {
            study_uid: study(1),
            revision: 1,
            tier: "read".into(),
            modality: "CT".into(),
            source: "CT1".into(),
            call: Call {
                gateway: "main".into(),
                key: String::new(),
                model: "m".into(),
                tokens: Tokens::default(),
                is_estimate: false,
                pictures: 1,
                latency_ms,
                outcome: outcome.into(),
                cost_micro: None,
            },
            day: "2023-11-14".parse().unwrap(),
            at: at(second),
        }
    }

    fn alert(event: fn(StudyUid, Timestamp) -> Event, second: i64) -> Event {
        event(study(1), at(second))
    }

    /// Each event in a record of its own, with a restart after each.
    fn told(events: &[Event]) -> Vec<Span> {
        let mut open = Open::default();
        let mut spans = Vec::new();
        for event in events {
            spans.extend(open.spans_of(std::slice::from_ref(event)));
            let kept = serde_json::to_string(&open).unwrap();
            open = serde_json::from_str(&kept).unwrap();
        }
        assert_eq!(open, Open::default(), "all that began has ended");
        spans
    }

    /// Name, second of its beginning and of its end, name of what it stands below.
    fn lines(spans: &[Span]) -> Vec<String> {
        let second = |at: u64| (at / 1_000_000) as f64 / 1e3 - 1_700_000_000.0;
        let line = |span: &Span| {
            let above = spans.iter().find(|one| one.span_id == span.parent_span_id);
            let above = above.map_or("-", |one| one.name.as_str());
            let (begin, end) = (second(span.start_time_unix_nano), second(span.end_time_unix_nano));
            let error = span.status.as_ref().map_or("", |status| status.message.as_str());
            format!("{} {begin}..{end} in {above} {error}", span.name).trim_end().to_owned()
        };
        spans.iter().map(line).collect()
    }

    #[test]
    fn each_step_of_a_study_is_a_span_below_its_revision() {
        let by = "complete by word of Dr Kim: all here";
        let again = || JobOutcome::Retry { due: at(40), cause: "HTTP 503".into() };
        let mut slow = receipt(1, 1, "four");
        (slow.begun_at, slow.from.association) = (Some(at(-30)), "7".into());
        let events = [
            opened(1),
            changed(1, StudyState::Receiving, 0),
            Event::InstanceStored { receipt: slow },
            stored(2, "8"),
            stored(4, "7"),
            Event::RevisionClosed {
                study_uid: study(1),
                revision: 1,
                instances: 3,
                reason: by.into(),
                at: at(9),
            },
            started("1.2.1/1/analyse", 10),
            asked(2000, "answered", 18),
            ended("1.2.1/1/analyse", JobOutcome::Done, 19),
            alert(
                |study_uid, at| Event::AlertRaised {
                    study_uid,
                    revision: 1,
                    alert: "a".into(),
                    urgency: Urgency::Critical,
                    findings: Vec::new(),
                    recipients: Vec::new(),
                    kind: crate::domain::alert::Kind::default(),
                    service: String::new(),
                    told: Vec::new(),
                    at,
                },
                20,
            ),
            started("1.2.1/1/deliver/key/1.dcm/pacs.main", 21),
            ended("1.2.1/1/deliver/key/1.dcm/pacs.main", again(), 22),
            started("1.2.1/1/deliver/key/1.dcm/pacs.main", 40),
            ended("1.2.1/1/deliver/key/1.dcm/pacs.main", JobOutcome::Done, 41),
            changed(1, StudyState::Delivered, 42),
            opened(2),
            stored(50, "9"),
            changed(2, StudyState::Held, 55),
            alert(
                |study_uid, at| Event::AlertAcknowledged {
                    study_uid,
                    revision: 1,
                    alert: "a".into(),
                    answer: Answer {
                        by: "Dr Lee".into(),
                        how: "page".into(),
                        note: String::new(),
                        at,
                    },
                },
                60,
            ),
        ];
        let spans = told(&events);
        assert_eq!(
            lines(&spans),
            [
                "association -30..4 in study",
                "association 2..2 in study",
                "assemble 4..9 in study",
                "chat 16..18 in analyse",
                "analyse 10..19 in study",
                "deliver 21..22 in study HTTP 503",
                "deliver 40..41 in study",
                "study -30..42 in -",
                "revision 50..55 in study",
                "await acknowledgement 20..60 in study",
            ]
        );
        assert!(spans.iter().all(|span| span.trace_id == trace_id("1.2.1")));
        let text = format!("{spans:?}");
        assert!(!text.contains("Kim") && !text.contains("Lee"), "{text}");
        assert!(text.contains("key/1.dcm") && text.contains("complete"), "{text}");
    }

    #[test]
    fn calls_of_one_reading_stand_one_after_the_other() {
        let events = [asked(1000, "timed_out", 10), asked(2500, "answered", 10)];
        let spans = Open::default().spans_of(&events);
        assert_eq!(lines(&spans), ["chat 6.5..7.5 in - timed_out", "chat 7.5..10 in -"]);
        assert_ne!(spans[0].span_id, spans[1].span_id);
    }

    #[test]
    fn what_was_begun_before_the_traces_has_no_span_and_the_rest_is_bounded() {
        let mut open = Open::default();
        let events =
            [changed(1, StudyState::Delivered, 1), ended("1.2.1/1/plan", JobOutcome::Done, 2)];
        assert_eq!(open.spans_of(&events), []);
        let many: Vec<Event> =
            (0..=OPEN_MAX).map(|n| started(&format!("1.2.{n}/1/plan"), 1)).collect();
        open.spans_of(&many);
        assert_eq!(open.jobs.len(), OPEN_MAX);
        open.spans_of(&[opened(1)]);
        let many: Vec<Event> = (0..100).map(|n| stored(n, &n.to_string())).collect();
        open.spans_of(&many);
        let known = &open.studies["1.2.1"][&1];
        assert_eq!((known.associations.len(), known.instances), (ASSOCIATIONS_MAX, 100));
    }
}
