//! The one record of a reading, from which every artefact is made.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Study;
use crate::domain::urgency::Urgency;

/// Who read: the values that stand alike in Contributing Equipment, the SR's observer and each
/// group's algorithm identification (IHE AIR).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Algorithm {
    /// Model name, e.g. `chest-xray-pneumonia-paediatric` or the gateway's model.
    pub name: String,
    pub version: String,
    pub manufacturer: String,
    /// Derived from name, version and manufacturer: another model, another UID.
    pub device_uid: String,
    /// `key=value`, e.g. `threshold=0.50`, `prompt=chest_xray/1 sha256:…`.
    pub parameters: Vec<String>,
    /// Provider that ran it: `local`, or the gateway's name in the configuration.
    pub provider: String,
    /// True for software that only measures: it reads nothing.
    pub measures_only: bool,
}

/// A number read off headers and pixels. Never a finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyMeasurement {
    /// `technique`, `geometry`, `completeness` or `intensity`.
    pub group: String,
    /// English, e.g. "HU, 95th percentile".
    pub name: String,
    /// The value as text for people, e.g. "-12.4".
    pub value: String,
    /// UCUM code or empty.
    pub unit: String,
    /// What it was taken from, e.g. "series 3, 28 slices".
    pub source: String,
}

/// Something about the images that limits any reading, e.g. "saturated: 12 % of pixels".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityFlag {
    /// Stable word, e.g. `slices_missing`.
    pub key: String,
    pub text: String,
}

/// How a reading ended. "No finding", "not looked for" and "failed" are never the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// A model that covers the study answered: see the findings, present or absent.
    Read,
    /// No model covers this study: only measurements. Never normal, never a lower priority.
    NotCovered { reason: String },
    /// A person must look: unreadable answer, failed guard, nothing that could be shown.
    NeedsReview { reason: String },
}

impl Outcome {
    /// Lowercase English word, as in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Read => "read",
            Outcome::NotCovered { .. } => "not_covered",
            Outcome::NeedsReview { .. } => "needs_review",
        }
    }
}

/// What one analysis of one study revision found, and on what it rests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assessment {
    pub study: Study,
    pub revision: u32,
    /// Profile name and version, e.g. `chest_xray` and 1.
    pub profile: String,
    pub profile_version: u32,
    /// The profile's title for people, e.g. "Chest X-ray".
    pub examination: String,
    pub outcome: Outcome,
    pub algorithm: Algorithm,
    /// Present ones first, by urgency, then probability.
    pub findings: Vec<Finding>,
    /// Names of what was looked for.
    pub looked_for: Vec<String>,
    pub measurements: Vec<StudyMeasurement>,
    pub quality: Vec<QualityFlag>,
    /// Pictures that were shown to the model, else made for the report.
    pub pictures: Vec<PictureRef>,
    /// Number of the picture for report and alert.
    pub key_picture: Option<u32>,
    /// Instances that are in the study and were not looked at, and why.
    pub excluded: Vec<Excluded>,
    /// One or two sentences. Made by rule from the findings when the model gives none.
    pub impression: String,
    pub recommendation: String,
    pub urgency: Urgency,
    /// What the guards noticed and a reader should know, as sentences.
    pub warnings: Vec<String>,
    /// Clinical information as known, or empty.
    pub clinical_information: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

impl Assessment {
    pub fn present(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.presence == Presence::Present)
    }

    /// SOP Instance UID of an artefact of this reading: study, revision, algorithm and kind
    /// decide it, so that a second run writes the same object.
    pub fn artefact_uid(&self, kind: &str) -> String {
        let revision = self.revision.to_string();
        let study = self.study.study_uid.as_str();
        crate::domain::uid::derived(&[
            "artefact",
            study,
            &revision,
            &self.algorithm.device_uid,
            kind,
        ])
    }
}
