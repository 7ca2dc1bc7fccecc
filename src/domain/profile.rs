//! Profiles: which studies are read how.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::picture::PicturePlan;
use crate::domain::urgency::Urgency;

/// What a study must be for a profile to take it. Text is compared without case. Of `body_parts`
/// and `descriptions` one is enough: a header often lacks the first, and a description the second.
/// Where several profiles fit, Body Part Examined tells more than the study description, this more
/// than series description and protocol name; then `priority` decides.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileMatch {
    /// What the images are: `DX` also stands for an X-ray sent as Secondary Capture, `MG` for
    /// a mammogram sent as film digitised, `OP` for a fundus photograph sent as OT. Empty: all.
    pub modalities: Vec<String>,
    /// Values of Body Part Examined.
    pub body_parts: Vec<String>,
    /// Words or phrases of the descriptions; whole words, except in scripts without spaces.
    pub descriptions: Vec<String>,
    /// A study whose descriptions have one of these is not taken.
    pub not_descriptions: Vec<String>,
}

/// One row of `config/profiles/*.toml`: what to look at, what to ask whom, when to alert.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Lowercase, stable: the file's stem.
    pub name: String,
    pub version: u32,
    /// For people, e.g. "Chest X-ray".
    pub title: String,
    /// LOINC code and meaning of the procedure reported (PS3.16 CID 100).
    pub procedure_code: String,
    pub procedure_meaning: String,
    #[serde(default)]
    pub matches: ProfileMatch,
    /// Higher wins when several match.
    #[serde(default)]
    pub priority: i32,
    /// `default`, `local`, or the name of a gateway.
    #[serde(default = "default_provider")]
    pub provider: String,
    /// `default`, `single`, or the name of a strategy.
    #[serde(default = "default_provider")]
    pub strategy: String,
    /// Keys of `finding-codes.csv` that the model is asked about.
    pub findings: Vec<String>,
    #[serde(default)]
    pub pictures: PicturePlan,
    /// Seconds for one call.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// Findings at or above this urgency raise an alert.
    #[serde(default = "default_alert_at")]
    pub alert_at: Urgency,
    /// Findings below this probability are reported as undetermined and raise no alert.
    #[serde(default = "default_probability_min")]
    pub probability_min: f64,
    /// Handlebars template of the prompt.
    pub prompt: String,
}

fn default_provider() -> String {
    "default".into()
}

fn default_timeout_s() -> u64 {
    120
}

fn default_alert_at() -> Urgency {
    Urgency::Urgent
}

fn default_probability_min() -> f64 {
    0.5
}
