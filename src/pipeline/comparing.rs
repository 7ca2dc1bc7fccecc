//! Our readings beside what doctors say of them: feedback on one finding, and final reports.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis;
use crate::analysis::codes;
use crate::analysis::final_report::Message;
use crate::domain::agreement;
use crate::domain::agreement::Compared;
use crate::domain::agreement::Comparison;
use crate::domain::agreement::How;
use crate::domain::agreement::Origin;
use crate::domain::agreement::ReadBy;
use crate::domain::agreement::ReportKind;
use crate::domain::agreement::Verdict;
use crate::domain::assessment::Assessment;
use crate::domain::final_report::FinalReport;
use crate::domain::finding::Presence;
use crate::domain::identity::Identity;
use crate::domain::origin;
use crate::domain::text;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::alerting;
use crate::pipeline::job::StepError;
use crate::pipeline::origins;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::way::Way;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::event::Event;

/// Of a report.
const TEXT_CHARS_MAX: usize = 50_000;
const COMMENT_CHARS_MAX: usize = 500;
const NAME_CHARS_MAX: usize = 100;

/// A doctor's word on one finding of a reading, or on one that it lacks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Opinion {
    /// Else of the newest reading.
    pub revision: Option<u32>,
    /// `F1`, …: one of the reading.
    pub finding: String,
    /// For [`Opinion::finding`]: `agree` or `disagree`.
    pub verdict: Option<Verdict>,
    /// Key of a finding that is there and that the reading does not have.
    pub missed: String,
    pub comment: String,
    pub by: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("there is no reading of this study")]
    NoReading,
    #[error("the message names another patient than the images (PID-3)")]
    OtherPatient,
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Notes an opinion.
///
/// # Errors
/// [`CompareError::Wrong`] says what does not fit the reading.
pub async fn feedback(
    store: &Store,
    study_uid: &StudyUid,
    opinion: &Opinion,
    at: Timestamp,
) -> Result<Comparison, CompareError> {
    let assessment = assessment(store, study_uid, opinion.revision)?;
    let comparison = judge(&assessment, &asked(store, &assessment)?, opinion)?;
    keep(store, &assessment, &comparison, at).await?;
    Ok(comparison)
}

/// A comparison, and the alerts that it closes.
async fn keep(
    store: &Store,
    assessment: &Assessment,
    comparison: &Comparison,
    at: Timestamp,
) -> Result<(), StoreError> {
    let mut events = vec![event(assessment, comparison, at)];
    events.extend(alerting::corrected(store, assessment, comparison, at)?);
    store.commit(events).await
}

/// Compares the newest reading with a final report in words, or with an HL7 ORU message.
///
/// # Errors
/// [`CompareError::Wrong`]: it is no final report, of another patient, or nothing in it can be
/// compared.
pub async fn final_text(
    store: &Store,
    study_uid: &StudyUid,
    text: &str,
    by: &str,
    at: Timestamp,
) -> Result<Comparison, CompareError> {
    if let Some(message) = Message::parse(text) {
        return final_message(store, study_uid, message, by, at).await;
    }
    let assessment = assessment(store, study_uid, None)?;
    let digest = blake3::hash(text.as_bytes()).to_hex()[..16].to_owned();
    let text = text.chars().take(TEXT_CHARS_MAX).collect();
    let report = FinalReport { text, ..FinalReport::default() };
    final_report(store, &assessment, &report, (ReportKind::Text, &digest), by, at).await
}

/// The same with an HL7 ORU message.
pub async fn final_message(
    store: &Store,
    study_uid: &StudyUid,
    message: Message,
    by: &str,
    at: Timestamp,
) -> Result<Comparison, CompareError> {
    let assessment = assessment(store, study_uid, None)?;
    let patient = assessment.study.patient.id.trim();
    if !patient.is_empty() && !message.patient_ids.iter().any(|id| id.trim() == patient) {
        return Err(CompareError::OtherPatient);
    }
    let id = text::clean(&message.control_id, 64);
    final_report(store, &assessment, &message.report, (ReportKind::Hl7, &id), by, at).await
}

async fn final_report(
    store: &Store,
    assessment: &Assessment,
    report: &FinalReport,
    (kind, id): (ReportKind, &str),
    by: &str,
    at: Timestamp,
) -> Result<Comparison, CompareError> {
    // What is sent again, as HL7 senders do without an answer, counts once.
    for row in store.comparisons(&assessment.study.study_uid)? {
        let known = matches!(&row.comparison.origin,
            Origin::Final { kind: other, id: own } if *other == kind && own == id);
        if known && row.revision == assessment.revision {
            return Ok(row.comparison);
        }
    }
    let asked = asked(store, assessment)?;
    let Some(comparison) = compared(assessment, &asked, report, kind, id, by)? else {
        let why = "nothing in it can be compared: it has no code of a finding that was looked for, and no text in English";
        return Err(CompareError::Wrong(why.into()));
    };
    keep(store, assessment, &comparison, at).await?;
    Ok(comparison)
}

/// `None` when there is nothing to compare.
fn compared(
    assessment: &Assessment,
    asked: &[String],
    report: &FinalReport,
    kind: ReportKind,
    id: &str,
    by: &str,
) -> Result<Option<Comparison>, CompareError> {
    if let Some(why) = &report.not_final {
        return Err(CompareError::Wrong(format!("this is no final report: {why}")));
    }
    let findings = analysis::final_report::compare(assessment, asked, report);
    Ok((!findings.is_empty()).then(|| Comparison {
        origin: Origin::Final { kind, id: id.to_owned() },
        by: text::clean(by, NAME_CHARS_MAX),
        read_by: ReadBy::of(assessment),
        findings,
    }))
}

fn event(assessment: &Assessment, comparison: &Comparison, at: Timestamp) -> Event {
    metrics::counter!("prelim_comparisons_total", "by" => verdict(comparison)).increment(1);
    Event::ReadingCompared {
        study_uid: assessment.study.study_uid.clone(),
        revision: assessment.revision,
        comparison: comparison.clone(),
        at,
    }
}

/// Structured reports that can hold a doctor's reading (PS3.4 B.5): Basic Text, Enhanced,
/// Comprehensive, Comprehensive 3D, Extensible.
const REPORTS: [&str; 5] = [
    "1.2.840.10008.5.1.4.1.1.88.11",
    "1.2.840.10008.5.1.4.1.1.88.22",
    "1.2.840.10008.5.1.4.1.1.88.33",
    "1.2.840.10008.5.1.4.1.1.88.34",
    "1.2.840.10008.5.1.4.1.1.88.35",
];

/// Compares a reading with the final structured reports that came with the study and were not
/// compared with it yet. One that cannot be read keeps nothing from going on.
///
/// - `waiting`: instances that are reports unless something else is noted of them.
pub async fn with_reports(
    way: &Way<'_>,
    assessment: &Assessment,
    waiting: &HashSet<SopInstanceUid>,
) -> Result<Vec<Event>, StepError> {
    let store = &way.kit.store;
    let instances = store.instances(way.study_uid).map_err(StepError::passing)?;
    let origins = origins::of_study(store, way.study_uid).map_err(StepError::passing)?;
    let is_report = |sop: &SopInstanceUid| {
        let decided = origins.get(sop).and_then(|row| row.decided.as_ref());
        decided.map_or(waiting.contains(sop), |decided| decided.origin == origin::Origin::Report)
    };
    let mut reports = instances
        .into_iter()
        .map(|row| row.receipt)
        .filter(|receipt| is_report(&receipt.sop_instance_uid))
        .filter(|receipt| REPORTS.contains(&receipt.sop_class_uid.as_str()))
        .peekable();
    if reports.peek().is_none() {
        return Ok(Vec::new());
    }
    let known = store.comparisons(way.study_uid).map_err(StepError::passing)?;
    let asked = asked(store, assessment).map_err(StepError::passing)?;
    let mut events = Vec::new();
    for receipt in reports {
        let id = receipt.sop_instance_uid.as_str();
        let is_known = known.iter().any(|row| {
            row.revision == assessment.revision
                && matches!(&row.comparison.origin, Origin::Final { id: other, .. } if other == id)
        });
        if is_known {
            continue;
        }
        let read = way.kit.pool.document(store.data(), &receipt.object).await;
        let by = &receipt.from.calling_ae;
        let compared = match &read {
            Ok(report) => compared(assessment, &asked, report, ReportKind::Sr, id, by),
            Err(error) => {
                tracing::warn!(%error, "a structured report cannot be read");
                continue;
            }
        };
        match compared {
            Ok(Some(comparison)) => {
                let at = way.kit.clock.now();
                events.push(event(assessment, &comparison, at));
                let closed = alerting::corrected(store, assessment, &comparison, at);
                events.extend(closed.map_err(StepError::passing)?);
            }
            Ok(None) => tracing::info!("a structured report has nothing to compare"),
            Err(error) => tracing::info!(%error, "a structured report is not compared"),
        }
    }
    Ok(events)
}

fn verdict(comparison: &Comparison) -> &'static str {
    match &comparison.origin {
        Origin::Feedback { verdict, .. } => verdict.as_str(),
        Origin::Final { .. } => "final",
    }
}

fn assessment(
    store: &Store,
    study_uid: &StudyUid,
    revision: Option<u32>,
) -> Result<Assessment, CompareError> {
    let newest = store.study(study_uid)?.and_then(|row| row.assessed_revision);
    let revision = revision.or(newest).ok_or(CompareError::NoReading)?;
    let bytes = store.read_result(study_uid, revision, record::ASSESSMENT)?;
    let bytes = bytes.ok_or(CompareError::NoReading)?;
    serde_json::from_slice(&bytes)
        .map_err(|_| CompareError::Wrong("the assessment of this revision cannot be read".into()))
}

/// Keys of what a model was asked about beside what it answered. The local model is asked nothing
/// by the profile.
fn asked(store: &Store, assessment: &Assessment) -> Result<Vec<String>, StoreError> {
    let is_local = assessment.algorithm.provider == "local";
    let study_uid = &assessment.study.study_uid;
    let plan = match is_local {
        true => None,
        false => store.read_result(study_uid, assessment.revision, record::PLAN)?,
    };
    let plan = plan.and_then(|bytes| serde_json::from_slice::<PlanRecord>(&bytes).ok());
    Ok(plan.map(|plan| plan.profile.findings).unwrap_or_default())
}

/// An opinion beside the reading that it is about.
fn judge(
    assessment: &Assessment,
    asked: &[String],
    opinion: &Opinion,
) -> Result<Comparison, CompareError> {
    let wrong = |why: String| Err(CompareError::Wrong(why));
    let (compared, verdict) = match (opinion.finding.as_str(), opinion.missed.as_str()) {
        ("", "") => {
            return wrong("name a finding of the reading (F1, …) or one that was missed".into());
        }
        (id, "") => {
            let Some(finding) = assessment.findings.iter().find(|finding| finding.id == id) else {
                let known: Vec<&str> = assessment.findings.iter().map(|f| f.id.as_str()).collect();
                let known = match known.as_slice() {
                    [] => "it has none".to_owned(),
                    known => format!("it has {}", known.join(", ")),
                };
                return wrong(format!("the reading has no such finding; {known}"));
            };
            let agrees = match opinion.verdict {
                Some(Verdict::Agree) => true,
                Some(Verdict::Disagree) => false,
                Some(Verdict::Missed) | None => {
                    return wrong("verdict: use agree or disagree".into());
                }
            };
            let truth = match finding.presence {
                Presence::Present => Some(agrees),
                Presence::Absent => Some(!agrees),
                // What was left open is neither right nor wrong.
                Presence::Undetermined => None,
            };
            let ours = Some(finding.presence);
            let compared = Compared { key: finding.key.clone(), ours, truth, how: How::Doctor };
            (compared, if agrees { Verdict::Agree } else { Verdict::Disagree })
        }
        ("", key) => {
            if codes::find(key).is_none() {
                return wrong("missed: no key of the table of findings, e.g. pneumothorax".into());
            }
            let ours = agreement::ours(assessment, asked, key);
            if ours == Some(Presence::Present) {
                return wrong("missed: the reading has it as present".into());
            }
            let key = key.to_owned();
            (Compared { key, ours, truth: Some(true), how: How::Doctor }, Verdict::Missed)
        }
        (_, _) => return wrong("either a finding or one that was missed".into()),
    };
    // The ledger holds no identities.
    let comment = text::clean(&opinion.comment, COMMENT_CHARS_MAX);
    let comment = Identity::of(&assessment.study).mask(&comment).0;
    Ok(Comparison {
        origin: Origin::Feedback { finding: opinion.finding.clone(), verdict, comment },
        by: text::clean(&opinion.by, NAME_CHARS_MAX),
        read_by: ReadBy::of(assessment),
        findings: vec![compared],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    fn opinion(finding: &str, verdict: Option<Verdict>, missed: &str) -> Opinion {
        let (finding, missed) = (finding.to_owned(), missed.to_owned());
        Opinion { finding, verdict, missed, ..Opinion::default() }
    }

    /// A word on a finding says whether it is there.
    #[test]
    fn an_opinion_gives_the_truth_of_its_finding() {
        let (agree, disagree) = (Some(Verdict::Agree), Some(Verdict::Disagree));
        for (presence, verdict, truth) in [
            (Presence::Present, agree, Some(true)),
            (Presence::Present, disagree, Some(false)),
            (Presence::Absent, agree, Some(false)),
            (Presence::Absent, disagree, Some(true)),
            (Presence::Undetermined, agree, None),
            (Presence::Undetermined, disagree, None),
        ] {
            let mut assessment = sample::positive_chest();
            assessment.findings[0].presence = presence;
            let id = assessment.findings[0].id.clone();
            let comparison = judge(&assessment, &[], &opinion(&id, verdict, "")).unwrap();
            let compared = &comparison.findings[0];
            assert_eq!((compared.ours, compared.truth), (Some(presence), truth), "{verdict:?}");
        }
        // Missed is what was asked; of the rest the reading says nothing.
        for (asked, ours) in
            [(vec![], None), (vec!["aaa".to_owned()], Some(Presence::Undetermined))]
        {
            let opinion = opinion("", None, "aaa");
            let missed = judge(&sample::positive_chest(), &asked, &opinion).unwrap();
            assert_eq!((missed.findings[0].ours, missed.findings[0].truth), (ours, Some(true)));
        }
    }

    #[test]
    fn what_does_not_fit_the_reading_is_refused_and_a_comment_names_nobody() {
        let assessment = sample::positive_chest();
        let finding = &assessment.findings[0];
        for wrong in [
            opinion("", None, ""),
            opinion("F99", Some(Verdict::Agree), ""),
            opinion(&finding.id, None, ""),
            opinion(&finding.id, Some(Verdict::Missed), ""),
            opinion(&finding.id, Some(Verdict::Agree), "aaa"),
            opinion("", None, "unicorn"),
            opinion("", None, &finding.key),
        ] {
            let refused = judge(&assessment, &[], &wrong);
            assert!(matches!(refused, Err(CompareError::Wrong(_))), "{wrong:?}");
        }
        let comment = format!("Hong Gildong MRN-0042 has none\u{202e} {}", "x".repeat(600));
        let given = Opinion { comment, ..opinion(&finding.id, Some(Verdict::Disagree), "") };
        let Origin::Feedback { comment, .. } = judge(&assessment, &[], &given).unwrap().origin
        else {
            unreachable!("feedback");
        };
        assert!(!comment.contains("Hong") && !comment.contains("0042"), "{comment}");
        assert!(comment.chars().count() <= COMMENT_CHARS_MAX + 20);
    }
}
