//! What the steps keep in a study's result folder between each other.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::Reading;
use crate::analysis::plan::Route;
use crate::analysis::provider::local::LocalReading;
use crate::analysis::strategy::Tier;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::picture::PictureRef;
use crate::domain::picture::PixelRule;
use crate::domain::profile::Profile;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;

/// Headers of the study, as [`crate::domain::study::Study`].
pub const STUDY: &str = "study.json";
pub const PLAN: &str = "plan.json";
pub const PICTURES: &str = "pictures.json";
pub const ANSWER: &str = "answer.json";
/// Every model that was asked, as a list of [`Run`].
pub const RUNS: &str = "runs.json";
pub const ASSESSMENT: &str = "assessment.json";
/// What an operator said with an upload.
pub const REQUEST: &str = "request.json";

/// Clinical words and priority of an upload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    pub clinical_notes: String,
    pub priority: String,
}

/// How the study is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub profile: Profile,
    pub route: Route,
    /// What a reader should know about the choice.
    pub notes: Vec<String>,
    pub pixels: PixelRule,
    /// Why its pictures may not leave for that gateway.
    pub pixels_held: Option<String>,
    /// Instances that are not for reading: localizers, reports, dose screens.
    pub not_read: Vec<Excluded>,
    pub started_at: Timestamp,
    /// Why a person must look whatever the reading says.
    #[serde(default)]
    pub review: Option<String>,
}

/// What was made of the pixels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PicturesRecord {
    pub pictures: Vec<PictureRef>,
    pub excluded: Vec<Excluded>,
    pub measurements: Vec<StudyMeasurement>,
    pub quality: Vec<QualityFlag>,
}

/// Who read the study, after whom.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answered {
    #[serde(flatten)]
    pub answer: AnswerRecord,
    /// How it came to this answer, as sentences for a reader.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Why a person must look whatever the answer says.
    #[serde(default)]
    pub review: Option<String>,
}

/// One model that was asked, or could not be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub tier: Tier,
    pub gateway: String,
    pub at: Timestamp,
    /// With answer, tokens, latency, prompt and digests of the pictures.
    pub reading: Option<Reading>,
    /// Why there is no reading.
    pub failed: Option<String>,
    /// Why it ended here or went on.
    pub then: String,
}

/// What the provider said, or why none was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AnswerRecord {
    Gateway { reading: Box<Reading> },
    Local { instance: Box<Instance>, reading: LocalReading },
    NotCovered { reason: String },
    NeedsReview { reason: String },
}
