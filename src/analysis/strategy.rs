//! Strategies: how many models see a study, and which of their answers counts. Pure decisions; the
//! asking is `pipeline::reading`.

pub mod consensus;
pub mod verify;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::Usable;
use crate::analysis::codes;
use crate::domain::finding::Presence;
use crate::domain::text;
use crate::domain::urgency::Urgency;

/// Which models see a study, by names of gateways. Each station may be missing; without any the
/// study is read by one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strategy {
    /// A cheap model that looks first. Empty: nobody.
    pub screen: String,
    /// Empty: who the profile or `analysis.provider` names.
    pub read: String,
    /// Models that read beside the reader; what most of them say counts.
    pub panel: Vec<String>,
    /// Asked where the reader is unsure. Empty: nobody; then a person looks.
    pub third: String,
    /// Tries to refute what was found before anyone is told. Empty: nobody.
    pub verify: String,
    /// Models that see the same pictures afterwards, without effect on the patient.
    pub shadow: Vec<String>,
    /// From this confidence on, a screening that found nothing ends the reading.
    pub confident: f64,
    /// Below this confidence the third is asked.
    pub unsure: f64,
}

impl Default for Strategy {
    fn default() -> Strategy {
        let none = String::new;
        Strategy {
            screen: none(),
            read: none(),
            panel: Vec::new(),
            third: none(),
            verify: none(),
            shadow: Vec::new(),
            confident: 0.7,
            unsure: 0.5,
        }
    }
}

impl Strategy {
    /// The stations beside the reader, with the name of their key.
    pub fn others(&self) -> Vec<(&'static str, &str)> {
        let one = [("screen", &self.screen), ("third", &self.third), ("verify", &self.verify)];
        let several = self.panel.iter().map(|name| ("panel", name));
        let several = several.chain(self.shadow.iter().map(|name| ("shadow", name)));
        let all = one.into_iter().filter(|(_, name)| !name.is_empty()).chain(several);
        all.map(|(key, name)| (key, name.as_str())).collect()
    }

    /// With the gateways that stand for its names, without those that may not be asked.
    pub fn resolve(&mut self, stands_for: impl Fn(&str) -> Option<String>) {
        for one in [&mut self.screen, &mut self.third, &mut self.verify] {
            *one = stands_for(one).unwrap_or_default();
        }
        for several in [&mut self.panel, &mut self.shadow] {
            *several = several.iter().filter_map(|name| stands_for(name)).collect();
        }
    }

    /// Whether somebody judges how sure the reader is.
    pub fn is_weighed(&self) -> bool {
        !(self.screen.is_empty() && self.third.is_empty() && self.panel.is_empty())
    }
}

/// Which model of a strategy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    Screen,
    Read,
    Third,
    Verify,
    Shadow,
}

impl Tier {
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Screen => "screen",
            Tier::Read => "read",
            Tier::Third => "third",
            Tier::Verify => "verify",
            Tier::Shadow => "shadow",
        }
    }
}

/// Whether a screening ends the reading: only when it is sure that there is nothing of all that it
/// was asked about.
///
/// - `asked`: keys of findings.
///
/// # Errors
/// Why the reader is asked.
pub fn after_screen(answer: &Answer, asked: &[String], confident: f64) -> Result<String, String> {
    let suspect = |f: &&AnsweredFinding| f.presence != Presence::Absent || f.probability >= 0.5;
    if let Some(finding) = answer.findings.iter().find(suspect) {
        return Err(format!("the screening does not exclude {}", name(finding)));
    }
    let is_silent = |key: &&String| !answer.findings.iter().any(|finding| finding.key == **key);
    if let Some(key) = asked.iter().find(is_silent) {
        let name = codes::find(key).map_or(key.as_str(), |row| row.concept.meaning.as_str());
        return Err(format!("the screening does not say whether there is {name}"));
    }
    if answer.urgency != Urgency::Routine {
        return Err(format!("the screening calls the study {}", answer.urgency.as_str()));
    }
    if answer.image_quality.usable != Usable::Good {
        return Err("the screening finds fault with the pictures".to_owned());
    }
    let sure = text::percent(answer.confidence);
    match answer.confidence >= confident {
        true => Ok(format!("the screening found nothing, with a confidence of {sure}")),
        false => Err(format!("the screening is not sure enough ({sure})")),
    }
}

/// Why a third model, or a person, has to look after the reader; `None` when nobody has to.
pub fn after_read(answer: &Answer, unsure: f64) -> Option<String> {
    if answer.image_quality.usable == Usable::NotDiagnostic {
        return Some(NOT_DIAGNOSTIC.to_owned());
    }
    let open = |f: &&AnsweredFinding| {
        f.presence == Presence::Undetermined && urgency(f) >= Urgency::Urgent
    };
    let open: BTreeSet<String> = answer.findings.iter().filter(open).map(name).collect();
    if !open.is_empty() {
        return Some(leaves_open(&open.iter().map(String::as_str).collect::<Vec<_>>()));
    }
    (answer.confidence < unsure).then(|| is_unsure(answer.confidence))
}

/// In the words in which judging says it too, so that it is said once.
pub const NOT_DIAGNOSTIC: &str = "the model calls the pictures not diagnostic";

/// The same of findings that cannot wait, by their names.
pub fn leaves_open(names: &[&str]) -> String {
    format!("the model leaves open what cannot wait: {}", names.join(", "))
}

/// The same of a model that says that it does not know.
pub fn is_unsure(confidence: f64) -> String {
    format!("the model is not sure of its own answer ({})", text::percent(confidence))
}

/// What counts of two readings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Else the reader's.
    pub third_counts: bool,
    /// Why a person has to look all the same.
    pub review: Option<String>,
}

/// What is urgent to one of them is not overruled by the other; else the surer one counts. Where
/// they differ in what is there, a person looks.
pub fn settle(read: &Answer, third: &Answer) -> Settled {
    let most = |answer: &Answer| present(answer).map(urgency).fold(answer.urgency, Ord::max);
    let third_counts = match most(third).cmp(&most(read)) {
        std::cmp::Ordering::Greater => true,
        std::cmp::Ordering::Less => false,
        std::cmp::Ordering::Equal => third.confidence >= read.confidence,
    };
    let differ = differences(read, third);
    let review =
        (!differ.is_empty()).then(|| format!("two models do not agree on {}", differ.join(", ")));
    Settled { third_counts, review }
}

/// What of two answers differs: names of findings that only one of them calls present.
pub fn differences(one: &Answer, other: &Answer) -> Vec<String> {
    let names = |answer| present(answer).map(name).collect::<BTreeSet<String>>();
    names(one).symmetric_difference(&names(other)).cloned().collect()
}

pub fn present(answer: &Answer) -> impl Iterator<Item = &AnsweredFinding> {
    answer.findings.iter().filter(|finding| finding.presence == Presence::Present)
}

/// The table's, or the model's where it is higher.
pub fn urgency(finding: &AnsweredFinding) -> Urgency {
    let of_row = finding.row().map(|row| row.urgency).unwrap_or_default();
    of_row.max(finding.urgency).max(finding.urgency_of_words())
}

/// The table's name of it. What the table lacks has only the model's own, which is not repeated here.
pub fn name(finding: &AnsweredFinding) -> String {
    match finding.row() {
        Some(row) => row.concept.meaning.clone(),
        None => "a finding outside the table".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;
    use serde_json::json;

    fn answer(findings: &[(&str, &str, f64)], urgency: &str, confidence: f64) -> Answer {
        let finding = |(key, presence, probability): &(&str, &str, f64)| {
            testing::entry(key, json!({"presence": presence, "probability": probability}))
        };
        let mut whole = testing::answer(&testing::profile("chest_xray"), Vec::new());
        whole["findings"] = findings.iter().map(finding).collect();
        whole["urgency"] = urgency.into();
        whole["confidence"] = confidence.into();
        serde_json::from_value(whole).unwrap()
    }

    fn usable(mut answer: Answer, usable: Usable) -> Answer {
        answer.image_quality.usable = usable;
        answer
    }

    #[test]
    fn a_screening_ends_the_reading_only_when_it_is_sure_that_nothing_is_there() {
        let none: &[(&str, &str, f64)] = &[("pneumothorax", "absent", 0.02)];
        for (answer, stops) in [
            (answer(none, "routine", 0.7), true),
            (answer(&[], "routine", 0.95), false),
            (answer(&[("nodule", "absent", 0.01)], "routine", 0.95), false),
            (answer(none, "routine", 0.69), false),
            (answer(none, "urgent", 0.99), false),
            (answer(&[none[0], ("nodule", "present", 0.9)], "routine", 0.99), false),
            (answer(&[none[0], ("nodule", "undetermined", 0.4)], "routine", 0.99), false),
            (answer(&[none[0], ("nodule", "absent", 0.6)], "routine", 0.99), false),
            (usable(answer(none, "routine", 0.9), Usable::Limited), false),
        ] {
            let after = after_screen(&answer, &["pneumothorax".to_owned()], 0.7);
            assert_eq!(after.is_ok(), stops, "{after:?} {answer:?}");
        }
    }

    #[test]
    fn a_reader_who_is_unsure_or_leaves_the_urgent_open_is_not_the_last() {
        for (answer, why) in [
            (answer(&[("pneumothorax", "present", 0.9)], "urgent", 0.5), None),
            (answer(&[("nodule", "undetermined", 0.4)], "routine", 0.9), None),
            (answer(&[], "routine", 0.49), Some("the model is not sure of its own answer (49%)")),
            (
                answer(&[("pneumothorax", "undetermined", 0.4)], "routine", 0.9),
                Some("the model leaves open what cannot wait: Pneumothorax"),
            ),
            (usable(answer(&[], "routine", 0.9), Usable::NotDiagnostic), Some(NOT_DIAGNOSTIC)),
        ] {
            assert_eq!(after_read(&answer, 0.5).as_deref(), why);
        }
    }

    #[test]
    fn what_is_urgent_to_one_is_not_overruled_and_a_difference_is_for_a_person() {
        let clear = |confidence| answer(&[], "routine", confidence);
        let pneumothorax =
            |confidence| answer(&[("pneumothorax", "present", 0.9)], "routine", confidence);
        for (read, third, third_counts, differ) in [
            (clear(0.4), clear(0.9), true, false),
            (clear(0.45), clear(0.4), false, false),
            (pneumothorax(0.4), clear(0.99), false, true),
            (clear(0.49), pneumothorax(0.3), true, true),
            (pneumothorax(0.4), pneumothorax(0.6), true, false),
        ] {
            let settled = settle(&read, &third);
            assert_eq!(settled.third_counts, third_counts, "{settled:?}");
            assert_eq!(settled.review.is_some(), differ, "{settled:?}");
        }
        let settled = settle(&pneumothorax(0.4), &clear(0.9));
        assert_eq!(settled.review.unwrap(), "two models do not agree on Pneumothorax");
    }
}
