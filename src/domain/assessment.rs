//! The one record of a reading, from which every artefact is made.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;
use crate::domain::finding;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::looked::Compared;
use crate::domain::looked::LookedAt;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Study;
use crate::domain::text;
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

impl QualityFlag {
    /// Key of the one that sums up [`Study::inconsistencies`].
    pub const OF_HEADERS: &str = "inconsistent_headers";
}

/// How a reading ended. "No finding", "not looked for" and "failed" are never the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Outcome {
    /// A model that covers the study answered: see the findings, present or absent.
    Read,
    /// No model covers this study: only measurements. Never normal, never a lower priority.
    NotCovered { reason: String },
    /// The site lets nobody read such a study: only measurements.
    MeasuredOnly { reason: String },
    /// A person must look: unreadable answer, failed guard, readers that differ, nothing that could
    /// be shown. Nothing is absent then.
    NeedsReview {
        reason: String,
        /// What the readers do not agree on, the most urgent first.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        disputed: Vec<Disputed>,
    },
    /// By rule: a phantom, a dose report, nothing but a localizer. Nobody was asked.
    Held { reason: String },
}

/// A finding that not all readers see.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Disputed {
    /// As of a finding.
    pub key: String,
    /// As the table names it.
    pub name: String,
    pub laterality: Option<Laterality>,
    /// What the most alarmed reader makes of it.
    pub urgency: Urgency,
    pub said: Vec<Opinion>,
}

/// What one reader said of a disputed finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Opinion {
    /// Name and version of the model.
    pub who: String,
    pub presence: Presence,
    pub probability: Option<f64>,
}

impl Outcome {
    /// As [`Outcome::as_str`] says of what was held.
    pub const HELD: &str = "held";

    /// Lowercase English word, as in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Outcome::Read => "read",
            Outcome::NotCovered { .. } => "not_covered",
            Outcome::MeasuredOnly { .. } => "measured_only",
            Outcome::NeedsReview { .. } => "needs_review",
            Outcome::Held { .. } => Outcome::HELD,
        }
    }

    pub fn needs_review(reason: &str) -> Outcome {
        Outcome::NeedsReview { reason: reason.to_owned(), disputed: Vec::new() }
    }

    /// Whether a model answered and nothing speaks against its answer: only then is anything absent.
    pub fn is_read(&self) -> bool {
        match self {
            Outcome::Read => true,
            Outcome::NotCovered { .. }
            | Outcome::MeasuredOnly { .. }
            | Outcome::NeedsReview { .. }
            | Outcome::Held { .. } => false,
        }
    }

    pub fn is_review(&self) -> bool {
        matches!(self, Outcome::NeedsReview { .. })
    }

    /// Why it was not read, or a person must look.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Outcome::Read => None,
            Outcome::NotCovered { reason }
            | Outcome::MeasuredOnly { reason }
            | Outcome::NeedsReview { reason, .. }
            | Outcome::Held { reason } => Some(reason),
        }
    }

    pub fn disputed(&self) -> &[Disputed] {
        match self {
            Outcome::NeedsReview { disputed, .. } => disputed,
            Outcome::Read
            | Outcome::NotCovered { .. }
            | Outcome::MeasuredOnly { .. }
            | Outcome::Held { .. } => &[],
        }
    }
}

impl Disputed {
    /// "Pneumothorax, left".
    pub fn title(&self) -> String {
        format!("{}{}", self.name, finding::behind(self.laterality))
    }

    /// "Pneumothorax, left (urgent): model-a sees it (92%), model-b does not see it".
    pub fn in_words(&self) -> String {
        let said = self.said.iter().map(|one| {
            let sure = one.probability.map(|p| format!(" ({})", text::percent(p)));
            match one.presence {
                Presence::Present => format!("{} sees it{}", one.who, sure.unwrap_or_default()),
                Presence::Absent => format!("{} does not see it", one.who),
                Presence::Undetermined => format!("{} cannot tell", one.who),
            }
        });
        let said = said.collect::<Vec<_>>().join(", ");
        match self.urgency {
            Urgency::Routine => format!("{}: {said}", self.title()),
            urgency => format!("{} ({}): {said}", self.title(), urgency.as_str()),
        }
    }
}

/// What one analysis of one study revision found, and on what it rests.
///
/// Its outcome, and the urgency that goes with it, is the only source for every artefact, message,
/// page and number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
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
    /// Names of what such an examination is looked through for and nobody has looked for: its reader
    /// knows less. Empty: all of it was.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unasked: Vec<String>,
    pub measurements: Vec<StudyMeasurement>,
    pub quality: Vec<QualityFlag>,
    /// Pictures that were shown to the model, else made for the report.
    pub pictures: Vec<PictureRef>,
    /// How much of each series that was; empty where no model looked.
    #[serde(default)]
    pub looked_at: Vec<LookedAt>,
    /// The earlier readings of the same patient, the newest first.
    #[serde(default)]
    pub compared: Vec<Compared>,
    /// Number of the picture for report and alert: of a finding that is present; of a study that
    /// nobody read, the first. None: read, and nothing is present.
    pub key_picture: Option<u32>,
    /// Instances that are in the study and were not looked at, and why.
    pub excluded: Vec<Excluded>,
    /// One or two sentences. Made by rule from the findings when the model gives none.
    pub impression: String,
    pub recommendation: String,
    /// None where nothing was assessed: that is no low urgency. See [`Assessment::settle`].
    pub urgency: Option<Urgency>,
    /// What the guards noticed and a reader should know, as sentences.
    pub warnings: Vec<String>,
    /// Clinical information as known, or empty.
    pub clinical_information: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

impl Serialize for Assessment {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        Assessment::serialize(self, to)
    }
}

/// What earlier versions kept is settled as it is read: there, what nobody read was "routine".
impl<'de> Deserialize<'de> for Assessment {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Assessment, D::Error> {
        let mut kept = Assessment::deserialize(from)?;
        kept.settle();
        Ok(kept)
    }
}

impl Assessment {
    /// Holds what is said to how the reading ended: only what was read is absent, and only what was
    /// looked through for all of it is of routine urgency.
    pub fn settle(&mut self) {
        let is_routine = |urgency: &Urgency| *urgency == Urgency::Routine;
        if self.outcome.is_read() {
            self.urgency = match self.unasked.is_empty() {
                true => self.urgency.or(Some(Urgency::Routine)),
                false => self.urgency.filter(|urgency| !is_routine(urgency)),
            };
            return;
        }
        let of_disputed = self.outcome.disputed().iter().map(|one| one.urgency).max();
        let urgency = self.urgency.max(of_disputed);
        self.urgency = urgency.filter(|urgency| !is_routine(urgency));
        self.findings.retain(|finding| finding.presence != Presence::Absent);
        self.looked_for.clear();
    }

    /// Whether what was looked for and not seen is absent: not where images were left out.
    pub fn rules_out(&self) -> bool {
        self.outcome.is_read() && !self.looked_at.iter().any(LookedAt::is_part)
    }

    /// Makes it one that a person must look at, whatever was read.
    ///
    /// - `disputed`: what the readers do not agree on.
    pub fn review(&mut self, why: &str, disputed: Vec<Disputed>) {
        let differ = !disputed.is_empty();
        let mut all = self.outcome.disputed().to_vec();
        all.extend(disputed);
        all.sort_by_key(|one| std::cmp::Reverse(one.urgency));
        let before = match self.outcome.is_review() {
            true => self.outcome.reason().unwrap_or_default(),
            false => "",
        };
        // That readers differ says more than what one of them leaves open.
        let [first, then] = if differ { [why, before] } else { [before, why] };
        let reason = text::each_once(&[first, then]);
        self.outcome = Outcome::NeedsReview { reason, disputed: all };
        self.settle();
        self.impression = self.review_in_words();
        self.recommendation.clear();
        self.key_picture = self.key_picture.or(self.pictures.first().map(|picture| picture.number));
    }

    /// Headline, what stands, and who said what, in place of a model's own impression.
    fn review_in_words(&self) -> String {
        let reason = self.outcome.reason().unwrap_or_default();
        let mut lines = vec![format!("A person must look, because {reason}.")];
        let called: Vec<String> = self.present().map(Finding::title).collect();
        if !called.is_empty() {
            lines.push(format!("Called present by software: {}.", called.join("; ")));
        }
        let disputed = self.outcome.disputed().iter();
        lines.extend(disputed.map(|one| format!("Disputed: {}.", one.in_words())));
        lines.join(" ")
    }

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
            Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
                vec![(of_all, dcm("111225", "Not Attempted"))]
            }
            // "Without findings" would be read as an answer.
            Outcome::NeedsReview { .. } => {
                match found || open || !self.outcome.disputed().is_empty() {
                    true => vec![(of_all, dcm("111223", "Partially Succeeded"))],
                    false => vec![(of_all, dcm("111224", "Failed"))],
                }
            }
        }
    }

    /// What limits the reading, for people: each said once, and not again what the outcome says.
    pub fn limitations(&self) -> Vec<&str> {
        let reason = self.outcome.reason().unwrap_or_default();
        // What the headers differ in is said one by one.
        let quality = self.quality.iter().filter(|flag| flag.key != QualityFlag::OF_HEADERS);
        let own = self.warnings.iter().chain(quality.map(|flag| &flag.text));
        let own = own.chain(&self.study.inconsistencies);
        let mut lines: Vec<&str> = Vec::new();
        for line in own.map(String::as_str) {
            if !lines.contains(&line) && !text::clauses(reason).any(|clause| clause == line) {
                lines.push(line);
            }
        }
        lines
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
        let shown = (
            (&self.pictures, self.key_picture, &self.excluded, &self.looked_for),
            (&self.looked_at, &self.compared, &self.unasked),
        );
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
