//! Series that a kind of study must have before it is read: pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::assemble::Missing;

/// `[assemble.required.NAME]`: a study with a series of this modality whose description matches
/// needs so many of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Modality (0008,0060) of the series.
    pub modality: String,
    /// Part of Study Description (0008,1030), in any case. Empty: any.
    #[serde(default)]
    pub study_description: String,
    /// Part of Series Description (0008,103E) of the series that count, in any case. Empty: any.
    #[serde(default)]
    pub series_description: String,
    /// AE title of the sender. Empty: any.
    #[serde(default)]
    pub calling_ae: String,
    /// How many series.
    pub series: u32,
}

impl Rule {
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let is_code = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        if self.modality.is_empty() || !self.modality.bytes().all(is_code) {
            problems.push(format!(
                "{at}.modality = {:?}: use a code such as \"CT\"; the rule would match nothing",
                self.modality
            ));
        }
        if !(1..=1000).contains(&self.series) {
            let why = "fewer ask for nothing, more never come";
            problems.push(format!("{at}.series = {}: use 1 to 1000; {why}", self.series));
        }
    }
}

/// One series as its first instance describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    pub modality: String,
    pub study_description: String,
    pub series_description: String,
}

/// The first rule that the study does not fulfil. No rule is about a study without a series of its
/// modality.
pub fn unmet(
    rules: &BTreeMap<String, Rule>,
    calling_ae: &str,
    series: &[Series],
) -> Option<Missing> {
    let has = |text: &str, part: &str| text.to_lowercase().contains(&part.to_lowercase());
    rules.iter().find_map(|(name, rule)| {
        let of_study: Vec<&Series> = series
            .iter()
            .filter(|one| one.modality == rule.modality)
            .filter(|one| has(&one.study_description, &rule.study_description))
            .collect();
        let about =
            !of_study.is_empty() && (rule.calling_ae.is_empty() || rule.calling_ae == calling_ae);
        let counted =
            of_study.iter().filter(|one| has(&one.series_description, &rule.series_description));
        let received = u32::try_from(counted.count()).unwrap_or(u32::MAX);
        (about && received < rule.series).then(|| Missing {
            what: format!(
                "{received} of {} {} series came (required by {name})",
                rule.series, rule.modality
            ),
            expected: rule.series,
            received,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_study_that_a_rule_is_about_needs_its_series() {
        let rule = Rule {
            modality: "CT".into(),
            study_description: "head".into(),
            series_description: "bone".into(),
            calling_ae: "CT1".into(),
            series: 1,
        };
        let rules = BTreeMap::from([("ct_head".to_owned(), rule)]);
        let series = |modality: &str, study: &str, series: &str| Series {
            modality: modality.into(),
            study_description: study.into(),
            series_description: series.into(),
        };
        let soft = || series("CT", "CT HEAD W/O", "Soft 5.0");
        let what = "0 of 1 CT series came (required by ct_head)";
        for (name, ae, series, expected) in [
            ("the bone series has not come", "CT1", vec![soft()], Some(what)),
            ("it has", "CT1", vec![soft(), series("CT", "CT Head", "BONE 1.0")], None),
            ("another scanner", "CT2", vec![soft()], None),
            ("another examination", "CT1", vec![series("CT", "CT chest", "Lung")], None),
            ("another modality", "CT1", vec![series("MR", "MR head", "T1")], None),
            ("nothing", "CT1", vec![], None),
        ] {
            let found = unmet(&rules, ae, &series).map(|missing| missing.what);
            assert_eq!(found.as_deref(), expected, "{name}");
        }
        let mut problems = Vec::new();
        let mut bad = rules["ct_head"].clone();
        (bad.modality, bad.series) = (String::new(), 0);
        bad.check("assemble.required.x", &mut problems);
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
