//! What the steps keep in a study's result folder between each other.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::analysis::Reading;
use crate::analysis::Said;
use crate::analysis::plan::Route;
use crate::analysis::provider::local::LocalReading;
use crate::analysis::strategy::Tier;
use crate::analysis::strategy::verify::Verdicts;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::call::Call;
use crate::domain::picture::PictureRef;
use crate::domain::profile::Profile;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::uid::SopInstanceUid;

/// Headers of the study, as [`crate::domain::study::Study`].
pub const STUDY: &str = "study.json";
/// Who the patients of the study are, where its images name more than one: a list of
/// [`Identity`](crate::domain::identities::Identity).
pub const IDENTITIES: &str = "identities.json";
/// The same as far as the first image said when it came.
pub const MET: &str = "met.json";
pub const PLAN: &str = "plan.json";
pub const PICTURES: &str = "pictures.json";
pub const ANSWER: &str = "answer.json";
/// Every model that was asked, as a list of [`Run`].
pub const RUNS: &str = "runs.json";
/// What models said that have no effect, as a list of [`Run`].
pub fn shadow(gateway: &str) -> String {
    format!("shadow.{gateway}.json")
}

/// Whether a result file holds the runs of a shadow.
pub fn is_shadow(file: &str) -> bool {
    file.starts_with("shadow.") && file.ends_with(".json")
}
pub const ASSESSMENT: &str = "assessment.json";
/// In the place of an assessment: what a model answered by the schema of the profile.
pub const OBJECT: &str = "object.json";
/// What an operator said with an upload.
pub const REQUEST: &str = "request.json";

/// Clinical words and priority of an upload.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    pub clinical_notes: String,
    pub priority: String,
    /// Name of the profile that it was sent for. Empty: as the headers say.
    pub profile: String,
}

/// How the study is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanRecord {
    pub profile: Profile,
    pub route: Route,
    /// What a reader should know about the choice.
    pub notes: Vec<String>,
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
    /// What a reader should know about them, as sentences.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Whether they were made to be shown outside the building.
    #[serde(default)]
    pub for_outside: bool,
    /// Why they may not be shown there after all.
    #[serde(default)]
    pub held: Option<String>,
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
    #[serde(default)]
    pub pictures: Vec<Shown>,
    /// Also those that failed.
    #[serde(default)]
    pub calls: Vec<Call>,
    /// With answer, tokens, latency, prompt and digests of the pictures.
    pub reading: Option<Reading>,
    /// Of a verifier, in place of a reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdicts: Option<Said<Verdicts>>,
    /// Of a profile with a schema of its own, in place of a reading.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Said<Value>>,
    /// Why there is no answer.
    pub failed: Option<String>,
    /// Not asked: the study is not among those that its model is made for.
    #[serde(default)]
    pub is_outside: bool,
    /// Why it ended here or went on.
    pub then: String,
}

impl Run {
    pub fn is_answered(&self) -> bool {
        self.reading.is_some() || self.verdicts.is_some() || self.object.is_some()
    }
}

/// A picture as it was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub number: u32,
    pub sop_instance_uid: SopInstanceUid,
    /// From 1 when the instance has several frames.
    pub frame: Option<u32>,
    pub window: String,
    /// SHA-256 of the encoded picture.
    pub digest: String,
}

impl Shown {
    pub fn of(picture: &PictureRef) -> Shown {
        Shown {
            number: picture.number,
            sop_instance_uid: picture.image.sop_instance_uid.clone(),
            frame: picture.image.frame,
            window: picture.window.clone(),
            digest: picture.digest.clone(),
        }
    }
}

/// What the provider said, or why none was asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum AnswerRecord {
    Gateway {
        reading: Box<Reading>,
    },
    /// By the schema of the profile.
    Object {
        said: Box<Said<Value>>,
    },
    Local {
        instance: Box<Instance>,
        reading: LocalReading,
    },
    NotCovered {
        reason: String,
    },
    /// By rule nothing of it is to be read.
    Held {
        reason: String,
    },
    /// The site lets nobody read it.
    MeasuredOnly {
        reason: String,
    },
    NeedsReview {
        reason: String,
    },
}
