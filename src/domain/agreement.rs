//! What doctors say of our readings: one finding at a time, or in their final report.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::finding::Presence;
use crate::domain::text;

/// A reading beside what a doctor says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Comparison {
    #[serde(flatten)]
    pub origin: Origin,
    /// Who said it, as far as it is known.
    pub by: String,
    pub read_by: ReadBy,
    pub findings: Vec<Compared>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "origin")]
pub enum Origin {
    /// A doctor's word on one finding.
    Feedback {
        /// `F1`, … of the assessment; empty for what was missed.
        finding: String,
        verdict: Verdict,
        comment: String,
    },
    /// A final report.
    Final {
        kind: ReportKind,
        /// SOP Instance UID, message control id, or a digest of the text.
        id: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Agree,
    Disagree,
    /// It is there, and the reading does not have it.
    Missed,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Agree => "agree",
            Verdict::Disagree => "disagree",
            Verdict::Missed => "missed",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReportKind {
    /// A DICOM structured report.
    Sr,
    /// HL7 ORU.
    Hl7,
    Text,
}

impl ReportKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ReportKind::Sr => "SR",
            ReportKind::Hl7 => "HL7",
            ReportKind::Text => "text",
        }
    }
}

/// One finding of a reading, and whether it is there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Compared {
    pub key: String,
    /// What the reading said. `None`: it was not asked.
    pub ours: Option<Presence>,
    /// Whether it is there. `None`: that is not said, or left open.
    pub truth: Option<bool>,
    pub how: How,
}

/// How it is known whether a finding is there.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The report does not speak of it, and so does not have it: the weakest.
    Silence,
    /// Matched in the words of a report: an estimate.
    Text,
    /// A code of the report.
    Code,
    /// A doctor's word on this finding.
    Doctor,
}

/// By whom and on whose images: what agreement is counted by. No identity of the patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ReadBy {
    /// Name and version.
    pub model: String,
    /// Prompt and its version; empty where none was used.
    pub prompt: String,
    /// Manufacturer and model of the device that made the images.
    pub scanner: String,
}

impl ReadBy {
    pub fn of(assessment: &Assessment) -> ReadBy {
        let algorithm = &assessment.algorithm;
        let mut prompt = algorithm.parameters.iter().filter_map(|p| p.strip_prefix("prompt="));
        let prompt = prompt.next().and_then(|text| text.split(' ').next()).unwrap_or_default();
        let instances = &assessment.study.instances;
        let device = instances.iter().find(|i| i.has_pixels).or(instances.first());
        let scanner = device
            .map(|i| format!("{} {}", i.manufacturer.trim(), i.manufacturer_model_name.trim()));
        ReadBy {
            model: text::clean(&format!("{} {}", algorithm.name, algorithm.version), 128),
            prompt: text::clean(prompt, 64),
            scanner: text::clean(&scanner.unwrap_or_default(), 128),
        }
    }
}

/// What the reading says of `key`: present where it is at one place at least, open where it was
/// asked and did not answer. `None`: it was not asked. Of a study that is left to a person only what
/// was called counts: nothing was ruled out, and nothing was left open by a reading that stands.
pub fn ours(assessment: &Assessment, asked: &[String], key: &str) -> Option<Presence> {
    let stands = assessment.outcome.is_read();
    let said = || assessment.findings.iter().filter(|f| f.key == key).map(|f| f.presence);
    [Presence::Present, Presence::Undetermined, Presence::Absent]
        .into_iter()
        .find(|presence| said().any(|said| said == *presence))
        .or_else(|| asked.iter().any(|one| one == key).then_some(Presence::Undetermined))
        .filter(|presence| stands || *presence == Presence::Present)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    #[test]
    fn a_reading_is_known_by_model_prompt_and_scanner() {
        let assessment = sample::positive_chest();
        let by = ReadBy::of(&assessment);
        assert_eq!(by.prompt, "chest_xray/1");
        assert!(by.model.contains(&assessment.algorithm.version), "{by:?}");
        assert!(by.scanner.len() > 3, "{by:?}");
        let key = &assessment.findings[0].key;
        assert_eq!(ours(&assessment, &[], key), Some(Presence::Present));
        assert_eq!(ours(&assessment, &[], "aaa"), None);
        assert_eq!(ours(&assessment, &["aaa".into()], "aaa"), Some(Presence::Undetermined));
    }
}
