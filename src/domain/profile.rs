//! Profiles: which studies are read how.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::picture::PicturePlan;
use crate::domain::urgency::Urgency;

/// What a study must be for a profile to take it. Empty lists match everything; all that are
/// given must match. Text is compared without case; `descriptions` are found inside study
/// description, series description, protocol name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProfileMatch {
    pub modalities: Vec<String>,
    pub body_parts: Vec<String>,
    pub descriptions: Vec<String>,
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
