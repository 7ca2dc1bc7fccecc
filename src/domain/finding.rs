//! Findings: what was seen, coded, with its evidence.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;
use crate::domain::mask::Mask;
use crate::domain::picture::ImageRef;
use crate::domain::text;
use crate::domain::urgency::Urgency;

/// Whether the finding is there (PS3.16 CID 240).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    Present,
    Absent,
    Undetermined,
}

/// PS3.16 CID 244.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Laterality {
    Right,
    Left,
    Bilateral,
    Unilateral,
}

impl Presence {
    pub fn code(self) -> Code {
        let (value, meaning) = match self {
            Presence::Present => ("52101004", "Present"),
            Presence::Absent => ("272519000", "Absent"),
            Presence::Undetermined => ("373068000", "Undetermined"),
        };
        Code::new(value, "SCT", meaning)
    }
}

impl Laterality {
    pub fn code(self) -> Code {
        let (value, meaning) = match self {
            Laterality::Right => ("24028007", "Right"),
            Laterality::Left => ("7771000", "Left"),
            Laterality::Bilateral => ("51440002", "Bilateral"),
            Laterality::Unilateral => ("66459002", "Unilateral"),
        };
        Code::new(value, "SCT", meaning)
    }
}

impl Severity {
    pub fn code(self) -> Code {
        let (value, meaning) = match self {
            Severity::Mild => ("255604002", "Mild"),
            Severity::Moderate => ("6736007", "Moderate"),
            Severity::Severe => ("24484000", "Severe"),
        };
        Code::new(value, "SCT", meaning)
    }
}

/// PS3.16 CID 3716.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Mild,
    Moderate,
    Severe,
}

/// ", left": the side as it stands behind a name.
pub fn behind(side: Option<Laterality>) -> &'static str {
    match side {
        None => "",
        Some(Laterality::Left) => ", left",
        Some(Laterality::Right) => ", right",
        Some(Laterality::Bilateral) => ", both sides",
        Some(Laterality::Unilateral) => ", one side",
    }
}

/// A rectangle on one frame. Pixel coordinates as in SCOORD (PS3.3 C.18.6): origin at the
/// top-left corner of the top-left pixel, x to Columns, y to Rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    pub image: ImageRef,
    pub x0: f64,
    pub y0: f64,
    pub x1: f64,
    pub y1: f64,
}

/// Hounsfield units of what is dense in a region, its rim left out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Density {
    pub pixels: u32,
    pub mean_hu: f64,
    /// 10th, 50th and 90th percentile.
    pub low_hu: f64,
    pub median_hu: f64,
    pub high_hu: f64,
    /// Share of it that is soft tissue and no ground glass, 0 to 1.
    pub solid_share: f64,
}

/// A number with its concept and unit (UCUM).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    pub concept: Code,
    pub value: f64,
    /// UCUM code, e.g. `mm`.
    pub unit: String,
}

/// What other models said of a finding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Support {
    /// Models that read the study side by side; 0: one alone.
    pub readers: u32,
    /// Those of them that call it present.
    pub present: u32,
    /// The word of a further model that was asked to refute it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

impl Support {
    pub fn is_none(&self) -> bool {
        *self == Support::default()
    }
}

/// What came of the try to refute a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Upheld,
    Refuted,
    Unclear,
}

/// Something that was looked for or seen. Codes come from our table, never from a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `F1`, `F2`, … within its assessment; the Tracking Identifier.
    pub id: String,
    /// Tracking Unique Identifier, derived from study, algorithm and finding.
    pub tracking_uid: String,
    /// Our key, a row of `finding-codes.csv`, or a text finding's own slug.
    pub key: String,
    /// The coded finding; scheme `99PRELIM` where the table has no row.
    pub concept: Code,
    pub presence: Presence,
    pub site: Option<Code>,
    pub laterality: Option<Laterality>,
    /// Where it is, in the words of the model: "left apex". Empty: not said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub location: String,
    pub severity: Option<Severity>,
    /// Probability that it is present, 0 to 1, as the model said it (after calibration).
    pub probability: Option<f64>,
    /// What the model said, one or two sentences, control characters removed.
    pub description: String,
    pub measurements: Vec<Measurement>,
    pub regions: Vec<Region>,
    /// Exact to the pixel, from models that give them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masks: Vec<Mask>,
    /// Images on which it rests; never empty for a finding that is present.
    pub evidence: Vec<ImageRef>,
    pub differential: Vec<String>,
    pub recommendation: String,
    pub urgency: Urgency,
    #[serde(default, skip_serializing_if = "Support::is_none")]
    pub support: Support,
}

impl Finding {
    /// How urgent it is, for people. None of what is not present: that is neither urgent nor routine.
    pub fn assessed(&self) -> Option<Urgency> {
        Some(self.urgency).filter(|_| self.presence == Presence::Present)
    }

    /// "Pneumothorax, left": the side is never left out and never shortened.
    pub fn title(&self) -> String {
        format!("{}{}", self.concept.meaning, behind(self.laterality))
    }

    /// "F1 Pneumothorax, left, 93%": what stands at its region.
    pub fn label(&self) -> String {
        let sure = self.probability.filter(|p| (0.0..=1.0).contains(p)).map(text::percent);
        let sure = sure.map(|percent| format!(", {percent}")).unwrap_or_default();
        format!("{} {}{sure}", self.id, self.title())
    }
}
