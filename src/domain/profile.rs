//! Profiles: which studies are read how.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::finding::Finding;
use crate::domain::finding::Severity;
use crate::domain::picture::PicturePlan;
use crate::domain::priority::Priority;
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
    #[serde(default)]
    pub procedure_code: String,
    #[serde(default)]
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
    /// What its images show where neither Body Part Examined nor the descriptions say it: areas of
    /// `finding-places.csv`. A finding of elsewhere is not assessed. Empty: not known.
    #[serde(default)]
    pub areas: Vec<String>,
    /// Keys of `finding-codes.csv` that the model is asked about.
    #[serde(default)]
    pub findings: Vec<String>,
    /// JSON Schema (draft 2020-12) of an answer that is no reading, as text. A profile that has one
    /// takes only what is uploaded for it, and no report is made. Empty: an answer is a reading.
    #[serde(default)]
    pub schema: String,
    #[serde(default)]
    pub pictures: PicturePlan,
    /// Seconds for one call.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
    /// How soon studies of this kind are wanted, where nobody says sooner.
    #[serde(default)]
    pub study_priority: Priority,
    /// Seconds that a study waits for a gateway that cannot be asked before a person hears of it.
    /// None: as `[analysis.waits]` says.
    #[serde(default)]
    pub gateway_wait_s: Option<u64>,
    /// Findings at or above this urgency raise an alert.
    #[serde(default = "default_alert_at")]
    pub alert_at: Urgency,
    /// Findings below this probability are reported as undetermined and raise no alert.
    #[serde(default = "default_probability_min")]
    pub probability_min: f64,
    /// A finding that is called present below this probability contradicts itself: a person looks.
    #[serde(default = "default_present_min")]
    pub present_min: f64,
    /// A model less sure of its whole answer than this is not believed: a person looks.
    #[serde(default = "default_confidence_min")]
    pub confidence_min: f64,
    /// In the place of `probability_min`, by key of the finding.
    #[serde(default)]
    pub thresholds: BTreeMap<String, f64>,
    /// What makes a finding more urgent than the table of findings does. No rule lowers anything.
    #[serde(default)]
    pub raises: Vec<Raise>,
    /// Handlebars template of the prompt.
    pub prompt: String,
}

impl Profile {
    /// Whether its answers are objects of its own schema, not readings.
    pub fn is_free(&self) -> bool {
        !self.schema.is_empty()
    }
}

/// A rule over coded findings: all that it names must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raise {
    pub finding: String,
    pub to: Urgency,
    /// At least so severe.
    pub severity: Option<Severity>,
    /// At least so large, by what was measured here and never by a model's word.
    pub size_mm: Option<f64>,
    pub younger_than_years: Option<f64>,
    /// Another finding that is present.
    pub with: Option<String>,
}

impl Raise {
    /// - `present`: keys of all findings that are present.
    pub fn holds(&self, finding: &Finding, age_years: Option<f64>, present: &[String]) -> bool {
        let sizes = finding.measurements.iter().filter(|size| size.unit == "mm");
        let largest_mm = sizes.map(|size| size.value).reduce(f64::max);
        self.severity.is_none_or(|least| finding.severity.is_some_and(|found| found >= least))
            && self.size_mm.is_none_or(|least| largest_mm.is_some_and(|found| found >= least))
            && self.younger_than_years.is_none_or(|end| age_years.is_some_and(|age| age < end))
            && self.with.as_ref().is_none_or(|other| present.contains(other))
    }
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

fn default_present_min() -> f64 {
    0.2
}

fn default_confidence_min() -> f64 {
    0.3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_holds_when_all_that_it_names_does() {
        let finding: Finding = serde_json::from_value(serde_json::json!({"id": "F1",
            "tracking_uid": "2.25.1", "key": "aaa", "presence": "present", "site": null,
            "concept": {"value": "1", "scheme": "SCT", "meaning": "x"}, "laterality": null,
            "severity": "moderate", "probability": 0.9, "description": "", "regions": [],
            "measurements": [{"concept": {"value": "1", "scheme": "SCT", "meaning": "Diameter"},
                "value": 55.0, "unit": "mm"}],
            "evidence": [], "differential": [], "recommendation": "", "urgency": "significant"}))
        .unwrap();
        let present = ["aaa".to_owned(), "ascites".to_owned()];
        for (rule, holds) in [
            ("", true),
            ("severity = \"moderate\"", true),
            ("severity = \"severe\"", false),
            ("size_mm = 55", true),
            ("size_mm = 55.1", false),
            ("younger_than_years = 1", false),
            ("younger_than_years = 80", true),
            ("with = \"ascites\"", true),
            ("with = \"mass\"", false),
            ("severity = \"mild\"\nsize_mm = 70", false),
        ] {
            let text = format!("finding = \"aaa\"\nto = \"urgent\"\n{rule}");
            let rule: Raise = toml::from_str(&text).unwrap();
            assert_eq!(rule.holds(&finding, Some(40.0), &present), holds, "{text}");
        }
        let young: Raise =
            toml::from_str("finding = \"aaa\"\nto = \"urgent\"\nyounger_than_years = 80").unwrap();
        assert!(!young.holds(&finding, None, &present), "an unknown age is no young one");
    }
}
