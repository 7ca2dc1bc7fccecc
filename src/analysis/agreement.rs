//! How well readings agree with doctors, and whether what they find drifts. Pure: from comparisons
//! and counts to tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::agreement::Comparison;
use crate::domain::agreement::How;
use crate::domain::alert::Told;
use crate::domain::finding::Presence;
use crate::domain::uid::StudyUid;

/// What the lines of a table are of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    Finding,
    Model,
    Prompt,
    Scanner,
    Week,
}

impl By {
    pub const WORDS: [&str; 5] = ["finding", "model", "prompt", "scanner", "week"];
    const ALL: [By; 5] = [By::Finding, By::Model, By::Prompt, By::Scanner, By::Week];

    pub fn parse(word: &str) -> Option<By> {
        By::ALL.into_iter().find(|by| by.as_str() == word.trim())
    }

    pub fn as_str(self) -> &'static str {
        match self {
            By::Finding => "finding",
            By::Model => "model",
            By::Prompt => "prompt",
            By::Scanner => "scanner",
            By::Week => "week",
        }
    }
}

/// One finding of one study, as read and as it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation<'a> {
    pub study: &'a str,
    pub at: Timestamp,
    pub key: &'a str,
    pub called: bool,
    pub is_there: bool,
    pub how: How,
    pub model: &'a str,
    pub prompt: &'a str,
    pub scanner: &'a str,
}

/// Of each study and finding what is known best: a doctor's word before codes, codes before words,
/// of two alike the later. What was not asked, or is left open, is no observation; a finding that
/// the reading left open was not called.
pub fn observations<'a>(
    comparisons: impl IntoIterator<Item = (&'a StudyUid, Timestamp, &'a Comparison)>,
) -> Vec<Observation<'a>> {
    let mut best: BTreeMap<(&str, &str), Observation<'a>> = BTreeMap::new();
    for (study, at, comparison) in comparisons {
        for compared in &comparison.findings {
            let (Some(ours), Some(is_there)) = (compared.ours, compared.truth) else { continue };
            let observation = Observation {
                study: study.as_str(),
                at,
                key: &compared.key,
                called: ours == Presence::Present,
                is_there,
                how: compared.how,
                model: &comparison.read_by.model,
                prompt: &comparison.read_by.prompt,
                scanner: &comparison.read_by.scanner,
            };
            let place = (study.as_str(), compared.key.as_str());
            let rank = |one: &Observation<'_>| (one.how, one.at);
            if best.get(&place).is_none_or(|known| rank(known) <= rank(&observation)) {
                best.insert(place, observation);
            }
        }
    }
    best.into_values().collect()
}

/// A share with its 95 % interval (Wilson's score, which holds for few and for none).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Share {
    pub of: u32,
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// `None` of none.
pub fn share(hits: u32, of: u32) -> Option<Share> {
    const Z: f64 = 1.959_963_984_540_054;
    if of == 0 {
        return None;
    }
    let (n, p) = (f64::from(of), f64::from(hits) / f64::from(of));
    let z2 = Z * Z;
    let center = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let (low, high) = ((center - half).max(0.0), (center + half).min(1.0));
    Some(Share { of, value: p, low, high })
}

/// One line of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Line {
    /// One value for each of the keys that the table is by.
    pub group: Vec<String>,
    pub observations: u32,
    /// Of these only words of a report, or its silence, are known: estimates.
    pub estimated: u32,
    pub true_positive: u32,
    pub false_positive: u32,
    pub false_negative: u32,
    pub true_negative: u32,
    pub sensitivity: Option<Share>,
    pub specificity: Option<Share>,
    /// Positive predictive value.
    pub ppv: Option<Share>,
    pub agreement: Option<Share>,
}

/// A line for each group, in the order of the names.
pub fn table(observations: &[Observation<'_>], by: &[By]) -> Vec<Line> {
    let mut groups: BTreeMap<Vec<String>, Vec<&Observation<'_>>> = BTreeMap::new();
    for observation in observations {
        let group = by.iter().map(|by| match by {
            By::Finding => observation.key.to_owned(),
            By::Model => observation.model.to_owned(),
            By::Prompt => observation.prompt.to_owned(),
            By::Scanner => observation.scanner.to_owned(),
            By::Week => week(observation.at),
        });
        groups.entry(group.collect()).or_default().push(observation);
    }
    groups.into_iter().map(|(group, all)| line(group, &all)).collect()
}

fn line(group: Vec<String>, all: &[&Observation<'_>]) -> Line {
    let count = |wanted: &dyn Fn(&Observation<'_>) -> bool| {
        all.iter().filter(|one| wanted(one)).count() as u32
    };
    let (tp, fp) = (count(&|o| o.called && o.is_there), count(&|o| o.called && !o.is_there));
    let (fneg, tn) = (count(&|o| !o.called && o.is_there), count(&|o| !o.called && !o.is_there));
    Line {
        group,
        observations: all.len() as u32,
        estimated: count(&|o| o.how <= How::Text),
        true_positive: tp,
        false_positive: fp,
        false_negative: fneg,
        true_negative: tn,
        sensitivity: share(tp, tp + fneg),
        specificity: share(tn, tn + fp),
        ppv: share(tp, tp + fp),
        agreement: share(tp + tn, all.len() as u32),
    }
}

/// The Monday of its week (UTC).
pub fn week(at: Timestamp) -> String {
    let day = at.to_zoned(TimeZone::UTC).date();
    let since_monday = i64::from(day.weekday().to_monday_zero_offset());
    day.checked_sub(since_monday.days()).unwrap_or(day).to_string()
}

/// A study that was read, for counting.
#[derive(Debug, Clone, PartialEq)]
pub struct Read<'a> {
    pub at: Timestamp,
    pub examination: &'a str,
    /// Names of what was present.
    pub findings: &'a [String],
    /// Whether the models that read it differ; `None`: only one did.
    pub models_differ: Option<bool>,
}

/// How often something was found in the last week, and in the weeks before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Drift {
    pub examination: String,
    /// [`DISAGREEMENT`], or the finding's name.
    pub finding: String,
    pub week: Option<Share>,
    pub before: Option<Share>,
    /// Of the two shares; above 0: more often now.
    pub z: f64,
    /// It is further away than chance lets one expect.
    pub alarm: bool,
}

pub const DISAGREEMENT: &str = "models differ";
/// The last days, and those before that they are compared with.
pub const WEEK_DAYS: i64 = 7;
pub const BEFORE_DAYS: i64 = 56;
/// With fewer studies there is no alarm.
const WEEK_MIN: u32 = 20;
const BEFORE_MIN: u32 = 50;
/// 1 of 370 weeks by chance; some twenty findings are looked at.
const Z_ALARM: f64 = 3.0;

/// Compares the last week with the eight before, for each examination and each finding in it.
pub fn drift(reads: &[Read<'_>], now: Timestamp) -> Vec<Drift> {
    let days_ago = |at: Timestamp| now.duration_since(at).as_hours().div_euclid(24);
    let mut counts: BTreeMap<(&str, &str), [u32; 2]> = BTreeMap::new();
    let mut studies: BTreeMap<(&str, bool), [u32; 2]> = BTreeMap::new();
    for read in reads {
        let span = match days_ago(read.at) {
            days if (0..WEEK_DAYS).contains(&days) => 0,
            days if (WEEK_DAYS..WEEK_DAYS + BEFORE_DAYS).contains(&days) => 1,
            _ => continue,
        };
        studies.entry((read.examination, false)).or_default()[span] += 1;
        let mut names: Vec<&str> = read.findings.iter().map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            counts.entry((read.examination, name)).or_default()[span] += 1;
        }
        if let Some(differ) = read.models_differ {
            studies.entry((read.examination, true)).or_default()[span] += 1;
            counts.entry((read.examination, DISAGREEMENT)).or_default()[span] += u32::from(differ);
        }
    }
    let line = |((examination, finding), [week, before]): ((&str, &str), [u32; 2])| {
        let [week_of, before_of] = studies[&(examination, finding == DISAGREEMENT)];
        let z = two_shares(week, week_of, before, before_of);
        Drift {
            examination: examination.to_owned(),
            finding: finding.to_owned(),
            week: share(week, week_of),
            before: share(before, before_of),
            z,
            alarm: week_of >= WEEK_MIN && before_of >= BEFORE_MIN && z.abs() >= Z_ALARM,
        }
    };
    counts.into_iter().map(line).collect()
}

/// Standard deviations between two shares (pooled); 0 where there is nothing to compare.
fn two_shares(a: u32, of_a: u32, b: u32, of_b: u32) -> f64 {
    let [a, of_a, b, of_b] = [a, of_a, b, of_b].map(f64::from);
    let pooled = (a + b) / (of_a + of_b);
    let deviation = (pooled * (1.0 - pooled) * (1.0 / of_a + 1.0 / of_b)).sqrt();
    let z = (a / of_a - b / of_b) / deviation;
    if z.is_finite() { z } else { 0.0 }
}

/// Readings by week: how many, in how many something was found, in how many the models differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Week {
    /// Its Monday.
    pub week: String,
    pub studies: u32,
    pub with_findings: u32,
    /// Read by two models or more.
    pub read_by_several: u32,
    pub models_differ: u32,
}

pub fn weeks(reads: &[Read<'_>]) -> Vec<Week> {
    let mut all: BTreeMap<String, Week> = BTreeMap::new();
    for read in reads {
        let name = week(read.at);
        let of = all.entry(name.clone()).or_insert_with(|| Week {
            week: name,
            studies: 0,
            with_findings: 0,
            read_by_several: 0,
            models_differ: 0,
        });
        of.studies += 1;
        of.with_findings += u32::from(!read.findings.is_empty());
        of.read_by_several += u32::from(read.models_differ.is_some());
        of.models_differ += u32::from(read.models_differ == Some(true));
    }
    all.into_values().collect()
}

/// Share of alerts with a finding that is there, of those of whose findings anything is said.
///
/// - `alerts`: of each its study and what people were told.
pub fn alert_precision<'a>(
    alerts: impl IntoIterator<Item = (&'a str, &'a [Told])>,
    observations: &[Observation<'a>],
) -> Option<Share> {
    let known: BTreeMap<(&str, &str), bool> =
        observations.iter().map(|one| ((one.study, one.key), one.is_there)).collect();
    let (mut right, mut judged) = (0, 0);
    for (study, told) in alerts {
        let said = told.iter().filter_map(|told| known.get(&(study, told.key.as_str())).copied());
        let said: Vec<bool> = said.collect();
        judged += u32::from(!said.is_empty());
        right += u32::from(said.contains(&true));
    }
    share(right, judged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agreement::Compared;
    use crate::domain::agreement::Origin;
    use crate::domain::agreement::ReadBy;
    use crate::domain::agreement::ReportKind;
    use crate::domain::urgency::Urgency;

    /// Against scipy 1.17 (binomtest, proportion_ci, method "wilson").
    #[test]
    fn a_share_has_wilsons_interval() {
        for (hits, of, low, high) in [
            (0, 10, 0.0, 0.2775328),
            (10, 10, 0.7224672, 1.0),
            (5, 10, 0.2365931, 0.7634069),
            (81, 263, 0.2552885, 0.3662096),
            (1, 1, 0.2065493, 1.0),
        ] {
            let share = share(hits, of).unwrap();
            assert!((share.low - low).abs() < 1e-6, "{hits}/{of}: {share:?}");
            assert!((share.high - high).abs() < 1e-6, "{hits}/{of}: {share:?}");
        }
        assert_eq!(share(0, 0), None);
    }

    fn comparison(
        model: &str,
        key: &str,
        ours: Presence,
        truth: Option<bool>,
        how: How,
    ) -> Comparison {
        Comparison {
            origin: Origin::Final { kind: ReportKind::Text, id: "x".into() },
            by: "x".into(),
            read_by: ReadBy { model: model.into(), prompt: "p/1".into(), scanner: "S".into() },
            findings: vec![Compared { key: key.into(), ours: Some(ours), truth, how }],
        }
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + day * 86_400).unwrap()
    }

    #[test]
    fn a_table_counts_what_was_called_against_what_is_there() {
        use Presence::{Absent, Present, Undetermined};
        let studies: Vec<StudyUid> =
            (1..=8).map(|n| StudyUid::parse(&format!("1.2.{n}")).unwrap()).collect();
        let said = [
            ("a", "nodule", Present, Some(true), How::Code),
            ("a", "nodule", Present, Some(false), How::Text),
            ("a", "nodule", Absent, Some(true), How::Doctor),
            ("a", "nodule", Absent, Some(false), How::Silence),
            ("b", "nodule", Undetermined, Some(true), How::Code),
            ("b", "mass", Present, Some(true), How::Code),
            ("b", "mass", Present, None, How::Text),
        ];
        let all: Vec<Comparison> = said
            .into_iter()
            .map(|(model, key, ours, truth, how)| comparison(model, key, ours, truth, how))
            .collect();
        let rows = || studies.iter().zip(&all).map(|(study, c)| (study, at(0), c));
        let observed = observations(rows());
        assert_eq!(observed.len(), 6, "what is left open is no observation");
        let lines = table(&observed, &[By::Finding]);
        let counts = |line: &Line| {
            [line.true_positive, line.false_positive, line.false_negative, line.true_negative]
        };
        assert_eq!(lines[0].group, ["mass"]);
        assert_eq!(counts(&lines[0]), [1, 0, 0, 0]);
        assert_eq!((lines[0].specificity, lines[0].ppv.unwrap().value), (None, 1.0));
        assert_eq!((counts(&lines[1]), lines[1].estimated), ([1, 1, 2, 1], 2));
        assert!((lines[1].sensitivity.unwrap().value - 1.0 / 3.0).abs() < 1e-9);
        assert!((lines[1].agreement.unwrap().value - 0.4).abs() < 1e-9);
        let both = table(&observed, &[By::Model, By::Finding]);
        let groups: Vec<&[String]> = both.iter().map(|line| line.group.as_slice()).collect();
        assert_eq!(groups, [["a", "nodule"], ["b", "mass"], ["b", "nodule"]]);
        for by in [By::Prompt, By::Scanner, By::Week] {
            assert_eq!(table(&observed, &[by]).len(), 1, "{by:?}");
        }

        // A doctor's word outlives a later estimate, and gives way to a later word.
        let study = &studies[0];
        let text = comparison("a", "nodule", Present, Some(false), How::Text);
        let word = comparison("a", "nodule", Present, Some(true), How::Doctor);
        let later = comparison("a", "nodule", Present, Some(false), How::Doctor);
        let of = |rows: &[(i64, &Comparison)]| {
            let rows = rows.iter().map(|(day, c)| (study, at(*day), *c));
            let observed = observations(rows);
            (observed.len(), observed[0].is_there)
        };
        assert_eq!(of(&[(1, &word), (2, &text)]), (1, true));
        assert_eq!(of(&[(1, &word), (2, &text), (3, &later)]), (1, false));
    }

    /// One of two findings makes an alert right; what nobody spoke of is not counted.
    #[test]
    fn an_alert_is_right_when_one_of_its_findings_is_there() {
        let studies: Vec<StudyUid> =
            (1..=4).map(|n| StudyUid::parse(&format!("1.2.{n}")).unwrap()).collect();
        let said = [
            (0, "mass", Some(false)),
            (0, "nodule", Some(true)),
            (1, "mass", Some(false)),
            (2, "mass", None),
        ];
        let said = said.map(|(study, key, truth)| {
            (study, comparison("a", key, Presence::Present, truth, How::Doctor))
        });
        let observed = observations(said.iter().map(|(n, c)| (&studies[*n], at(0), c)));
        let told = |key: &str| Told { key: key.into(), laterality: None, urgency: Urgency::Urgent };
        let [mass, nodule] = ["mass", "nodule"].map(|key| vec![told(key)]);
        let both = [&mass[..], &nodule].concat();
        let alerts = [(0, &both), (1, &mass), (1, &nodule), (2, &mass), (3, &mass)];
        let alerts = alerts.map(|(n, told)| (studies[n].as_str(), told.as_slice()));
        let precision = alert_precision(alerts, &observed).unwrap();
        assert_eq!((precision.of, precision.value), (2, 0.5));
        assert_eq!(alert_precision(alerts[3..].iter().copied(), &observed), None);
    }

    #[test]
    fn every_word_is_its_own() {
        for word in By::WORDS {
            assert_eq!(By::parse(word).map(By::as_str), Some(word));
        }
        assert_eq!(By::parse("colour"), None);
    }

    #[test]
    fn a_week_begins_on_monday() {
        for (day, monday) in
            [(0, "2025-12-29"), (3, "2025-12-29"), (4, "2026-01-05"), (10, "2026-01-05")]
        {
            assert_eq!(week(at(day)), monday, "{}", at(day));
        }
    }

    /// 10 of 100 before: what is a change now, and what is chance or too few.
    #[test]
    fn a_share_that_moves_further_than_chance_is_an_alarm() {
        let nodule = vec!["Nodule".to_owned()];
        let reads = |week: u32, of: u32, before: u32, of_before: u32| {
            let read = |day: i64, found: bool| Read {
                at: at(day),
                examination: "Chest X-ray",
                findings: if found { nodule.as_slice() } else { &[] },
                models_differ: Some(found),
            };
            let mut all = vec![read(-90, true), read(1, true)];
            all.extend((0..of).map(|n| read(-1, n < week)));
            all.extend((0..of_before).map(|n| read(-8, n < before)));
            all
        };
        for (week, of, before, of_before, alarm) in [
            (10, 100, 10, 100, false),
            (18, 100, 10, 100, false),
            (40, 100, 10, 100, true),
            (0, 100, 100, 400, true),
            (19, 19, 10, 100, false),
            (20, 20, 10, 49, false),
            (20, 20, 10, 50, true),
            (0, 0, 10, 100, false),
            (0, 100, 0, 100, false),
        ] {
            let all = reads(week, of, before, of_before);
            let lines = drift(&all, at(0));
            assert_eq!(lines.iter().any(|line| line.alarm), alarm, "{week}/{of}: {lines:?}");
            for line in lines.iter().filter(|line| line.alarm) {
                assert_eq!(line.z > 0.0, week > 0, "{line:?}");
            }
            let shares: Vec<_> = lines.iter().map(|line| (line.week, line.before)).collect();
            assert!(shares.windows(2).all(|pair| pair[0] == pair[1]), "finding and disagreement");
        }
        let weeks = weeks(&reads(4, 10, 5, 20));
        let of_all: u32 = weeks.iter().map(|week| week.studies).sum();
        assert_eq!(of_all, 32);
        assert!(weeks.iter().all(|week| week.models_differ == week.with_findings));
    }
}
