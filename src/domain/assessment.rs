//! The one record of a reading, from which every artefact is made.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;
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

impl Algorithm {
    /// Name and version, for people; once where a gateway has no other version than its name.
    pub fn label(&self) -> String {
        match self.version == self.name || self.version.is_empty() {
            true => self.name.clone(),
            false => format!("{} {}", self.name, self.version),
        }
    }
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
    /// Number of the picture for report and alert: of a finding that is present; of a study that
    /// nobody read, the first. None: read, and nothing is present.
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
    /// How the reading ended, as coded observations: "no finding", "not looked for" and "failed" are
    /// never the same (PS3.16 CID 6047, CID 6042).
    pub fn summary(&self) -> Vec<(Code, Code)> {
        let dcm = |value: &str, meaning: &str| Code::new(value, "DCM", meaning);
        let processing = dcm("111017", "CAD Processing and Findings Summary");
        let of_all = dcm("111065", "Summary of Analyses");
        let found = self.present().next().is_some();
        let open = self.findings.iter().any(|f| f.presence == Presence::Undetermined);
        let partly = open || !self.study.unreadable.is_empty();
        let ended = match (partly, found) {
            (false, true) => dcm("111242", "All algorithms succeeded; with findings"),
            (false, false) => dcm("111241", "All algorithms succeeded; without findings"),
            (true, true) => dcm("111244", "Not all algorithms succeeded; with findings"),
            (true, false) => dcm("111243", "Not all algorithms succeeded; without findings"),
        };
        match &self.outcome {
            Outcome::Read => vec![(processing, ended)],
            // All of CID 6047 says "with" or "without findings": neither is true of what nobody read.
            Outcome::NotCovered { .. } => vec![(of_all, dcm("111225", "Not Attempted"))],
            Outcome::NeedsReview { .. } => {
                let ended = match found {
                    true => dcm("111244", "Not all algorithms succeeded; with findings"),
                    false => dcm("111245", "No algorithms succeeded; without findings"),
                };
                vec![(processing, ended), (of_all, dcm("111224", "Failed"))]
            }
        }
    }

    pub fn present(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.presence == Presence::Present)
    }

    /// SOP Instance UID of an artefact of this reading. Study, revision, algorithm, content and
    /// kind decide it: a second run writes the same object, and another answer never takes its name.
    pub fn artefact_uid(&self, kind: &str) -> String {
        let revision = self.revision.to_string();
        let study = self.study.study_uid.as_str();
        let content = self.content_digest();
        let algorithm = &self.algorithm.device_uid;
        crate::domain::uid::derived(&["artefact", study, &revision, algorithm, &content, kind])
    }

    /// Of all that an object says or rests on, without the times: the same answer given again is
    /// the same content.
    fn content_digest(&self) -> String {
        let study = &self.study;
        let instances: Vec<_> = study.instances.iter().map(|one| &one.sop_instance_uid).collect();
        let of_study = (
            (&study.patient, &study.attributes, instances),
            (&study.unreadable, &study.inconsistencies, &self.clinical_information),
        );
        let asked = (&self.profile, self.profile_version, &self.examination, &self.algorithm);
        let shown = (&self.pictures, self.key_picture, &self.excluded, &self.looked_for);
        let found = (&self.outcome, &self.findings, &self.measurements, &self.quality);
        let said = (&self.impression, &self.recommendation, self.urgency, &self.warnings);
        let mut hash = blake3::Hasher::new();
        serde_json::to_writer(&mut hash, &(of_study, asked, shown, found, said))
            .expect("plain data into a hash");
        hash.finalize().to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample;

    #[test]
    fn an_artefact_has_one_name_for_one_content() {
        let a = sample::positive_chest();
        let uid = |a: &Assessment| a.artefact_uid("sr");
        let later = jiff::Timestamp::from_second(1_900_000_000).unwrap();
        let again = Assessment { started_at: later, finished_at: later, ..a.clone() };
        assert_eq!(uid(&a), uid(&again), "the same answer, another day");
        let kept: Assessment =
            serde_json::from_slice(&serde_json::to_vec_pretty(&a).unwrap()).unwrap();
        assert_eq!(uid(&a), uid(&kept));
        let changes: [fn(&mut Assessment); 8] = [
            |a| a.findings[0].probability = Some(0.94),
            |a| a.findings[0].regions[0].x1 += 1.0,
            |a| a.impression.push('.'),
            |a| a.revision = 2,
            |a| a.study.patient.id.push('7'),
            |a| a.algorithm.parameters.push("prompt=2".into()),
            |a| a.pictures[0].digest.push('0'),
            |a| a.warnings.clear(),
        ];
        for (number, change) in changes.iter().enumerate() {
            let mut other = a.clone();
            change(&mut other);
            assert_ne!(uid(&a), uid(&other), "change {number}");
        }
        assert_ne!(uid(&a), a.artefact_uid("pdf"));
    }
}
