//! What is believed of an answer. Codes come from our table; sides, organs, pictures and places
//! are checked against the headers; urgency can only rise; what contradicts itself goes to a
//! person. Pure: the same answer gives the same findings.

mod header;
mod location;
mod place;
mod wording;

use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::Grade;
use crate::analysis::answer::OTHER;
use crate::analysis::answer::Side;
use crate::analysis::answer::Usable;
use crate::analysis::answer::Written;
use crate::analysis::codes;
use crate::analysis::codes::Row;
use crate::analysis::strategy;
use crate::analysis::terms;
use crate::analysis::visible::Shown;
use crate::domain::assessment::Algorithm;
use crate::domain::assessment::Outcome;
use crate::domain::assessment::QualityFlag;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Severity;
use crate::domain::identity::Identity;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::profile::Profile;
use crate::domain::study::Study;
use crate::domain::text;
use crate::domain::uid;
use crate::domain::urgency::Urgency;

/// The parts of an assessment that come from an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub outcome: Outcome,
    /// Present ones first, by urgency, then probability.
    pub findings: Vec<Finding>,
    /// Names of what was asked and answered.
    pub looked_for: Vec<String>,
    /// Names of what was to be asked and the model has no word for.
    pub unasked: Vec<String>,
    pub key_picture: Option<u32>,
    pub impression: String,
    pub recommendation: String,
    pub urgency: Urgency,
    pub quality: Vec<QualityFlag>,
    pub warnings: Vec<String>,
}

/// Turns an answer into findings.
///
/// - `pictures`: those that were shown, with their numbers.
/// - `algorithm`: who answered; part of the tracking UIDs.
pub fn judge(
    answer: &Answer,
    study: &Study,
    profile: &Profile,
    pictures: &[PictureRef],
    algorithm: &Algorithm,
) -> Judged {
    let mut judge = Judge {
        study,
        profile,
        pictures,
        algorithm,
        identity: Identity::of(study),
        shown: Shown::of(study, profile),
        warnings: Vec::new(),
        review: Vec::new(),
    };
    judge.name_unseen();
    // What these images cannot show is neither absent on them nor open, nor present. Of what lies
    // beside their region they may show a part, and what a model names in its own words it was not
    // asked: those are claims, and checked as such.
    let can_be = |answered: &&AnsweredFinding| {
        answered.row().is_none_or(|row| {
            let is_claim = answered.presence == Presence::Present;
            judge.shown.can_have(&row.key)
                || (is_claim && (answered.key == OTHER || judge.may_show(row)))
        })
    };
    let (said, unseen): (Vec<&AnsweredFinding>, Vec<&AnsweredFinding>) =
        answer.findings.iter().partition(can_be);
    let disputed = judge.impossible(&unseen);
    let mut findings: Vec<Finding> =
        said.into_iter().map(|answered| judge.finding(answered)).collect();
    judge.check_doubles(&findings);
    judge.check_open(answer, &findings);
    judge.raise(&mut findings);
    findings.sort_by(|a, b| order(a).partial_cmp(&order(b)).unwrap_or(std::cmp::Ordering::Equal));
    judge.name(&mut findings);
    let (looked_for, unasked) = judge.looked_for(answer, &findings);
    judge.check_quality(answer);
    judge.check_confidence(answer);
    judge.check_texts(answer);
    let urgency = judge.urgency(answer, &findings);
    let impression = judge.impression(answer, &findings);
    let recommendation = judge.text(&answer.recommendation, 1000);
    judge.check_named(&answer.impression, "impression", &findings);
    judge.check_named(&answer.recommendation, "recommendation", &findings);
    let remarks = judge.text(&answer.image_quality.remarks, 400);
    let quality = match answer.image_quality.usable {
        Usable::Good => None,
        Usable::Limited => Some(("image_quality_limited", "limited")),
        Usable::NotDiagnostic => Some(("image_quality_not_diagnostic", "not diagnostic")),
    };
    let quality = quality.map(|(key, word): (&str, &str)| QualityFlag {
        key: key.into(),
        text: format!("the model calls the pictures {word}: {remarks}")
            .trim_end_matches(": ")
            .into(),
    });
    let Judge { warnings, mut review, .. } = judge;
    // The most urgent first.
    review.sort_by_key(|(urgency, _)| std::cmp::Reverse(*urgency));
    let review: Vec<&str> = review.iter().map(|(_, line)| line.as_str()).collect();
    let outcome = match review.is_empty() {
        true => Outcome::Read,
        false => Outcome::NeedsReview { reason: text::each_once(&review), disputed },
    };
    Judged {
        key_picture: key_picture(&outcome, &findings, pictures),
        outcome,
        findings,
        looked_for,
        unasked,
        impression,
        recommendation,
        urgency,
        quality: quality.into_iter().collect(),
        warnings,
    }
}

/// A model with a manifest has a word for its labels alone: it was asked nothing else.
fn has_manifest(answer: &Answer) -> bool {
    answer.findings.iter().any(|answered| answered.threshold.is_some())
}

/// Whether some of several readers see it and others do not.
fn is_split(finding: &Finding) -> bool {
    finding.support.present > 0 && finding.presence == Presence::Undetermined
}

/// Present first, then undetermined, then absent; the more urgent, then the more probable first.
fn order(finding: &Finding) -> (u8, std::cmp::Reverse<Urgency>, f64) {
    let presence = match finding.presence {
        Presence::Present => 0,
        Presence::Undetermined => 1,
        Presence::Absent => 2,
    };
    (presence, std::cmp::Reverse(finding.urgency), -finding.probability.unwrap_or(0.0))
}

/// The picture of the first present finding. Where nothing is present there is none: only a person
/// who has to look is shown the first.
fn key_picture(outcome: &Outcome, findings: &[Finding], pictures: &[PictureRef]) -> Option<u32> {
    let number = |image: &ImageRef| pictures.iter().find(|p| p.image == *image).map(|p| p.number);
    let first = || pictures.first().map(|p| p.number);
    match (findings.iter().find(|f| f.presence == Presence::Present), outcome) {
        (Some(finding), _) => {
            let regions = finding.regions.iter().map(|region| &region.image);
            regions.chain(&finding.evidence).find_map(number).or_else(first)
        }
        (None, outcome) => first().filter(|_| !outcome.is_read()),
    }
}

struct Judge<'a> {
    study: &'a Study,
    profile: &'a Profile,
    pictures: &'a [PictureRef],
    algorithm: &'a Algorithm,
    identity: Identity,
    /// What the images can show at all.
    shown: Shown,
    warnings: Vec<String>,
    /// Why a person must look, and how urgent what it is about may be.
    review: Vec<(Urgency, String)>,
}

impl Judge<'_> {
    fn warn(&mut self, line: String) {
        if !self.warnings.contains(&line) {
            self.warnings.push(line);
        }
    }

    /// A warning that also asks for a person.
    fn doubt(&mut self, line: String) {
        self.doubt_of(Urgency::Routine, line);
    }

    fn doubt_of(&mut self, urgency: Urgency, line: String) {
        self.review.push((urgency, line.clone()));
        self.warn(line);
    }

    /// Text of the model, without control characters and identifiers.
    fn text(&mut self, raw: &str, chars_max: usize) -> String {
        let (masked, found) = self.identity.mask(&text::clean(raw, chars_max));
        if found {
            self.warn("the model's text held an identifier of the study; it was removed".into());
        }
        if wording::names_a_patient(&masked) {
            self.doubt("the model's text seems to name a patient".into());
        }
        text::clean(&masked, chars_max)
    }

    fn finding(&mut self, answered: &AnsweredFinding) -> Finding {
        let row = answered.row();
        let own_name = self.text(&answered.name, 80);
        let name = match (row, own_name.as_str()) {
            (Some(row), _) => row.concept.meaning.clone(),
            (None, "") => "Finding without a name".to_owned(),
            (None, given) => given.to_owned(),
        };
        match row {
            None => {
                self.warn(format!("\"{name}\" is not in the table of findings: no code, no alert"))
            }
            Some(_) if answered.key == OTHER => {
                self.warn(format!("the model's \"{own_name}\" was taken for {name}"))
            }
            Some(_) => {}
        }
        let presence = self.presence(answered, &name);
        let description = self.text(&answered.description, 1000);
        let (regions, masks, mut evidence) = self.place(answered, &name, presence);
        let presence = self.possible(row, &name, &description, presence, &mut evidence);
        let mut location = self.text(&answered.site, 120);
        // A name of its own often says the place: "right lower lobe pneumonia".
        let says_place = |row: &Row| {
            location::side(&own_name).is_some()
                || location::coded(&row.site_name, &own_name).is_some()
        };
        if location.is_empty() && answered.key == OTHER && row.is_some_and(says_place) {
            location = own_name.clone();
        }
        let said = match (answered.laterality, location::side(&location)) {
            (Side::None, Some(Laterality::Left)) => Side::Left,
            (Side::None, Some(Laterality::Right)) => Side::Right,
            (Side::None, Some(Laterality::Bilateral)) => Side::Bilateral,
            (said, _) => said,
        };
        let laterality = self.side(said, row, &name, presence, &evidence);
        if presence == Presence::Present && wording::other_side(&location, laterality) {
            self.doubt(format!("{name}: its location is on the other side"));
        }
        self.check_description(row, &name, &description, presence, laterality);
        self.check_cited(answered, &name, presence);
        let measurements = self.measurements(answered, &name, &regions);
        if row.is_none() && presence == Presence::Present && answered.urgency >= Urgency::Urgent {
            let line = format!(
                "the model calls \"{name}\" {}, and it is not in the table of findings",
                answered.urgency.as_str()
            );
            self.doubt_of(answered.urgency, line);
        }
        Finding {
            id: String::new(),
            tracking_uid: String::new(),
            key: row
                .map_or_else(|| format!("other_{}", wording::slug(&name)), |row| row.key.clone()),
            concept: row.map_or_else(|| codes::local_concept(&name), |row| row.concept.clone()),
            presence,
            site: row
                .filter(|row| self.site_fits(row, &evidence))
                .and_then(|row| location::coded(&row.site_name, &location).or(row.site.clone())),
            laterality,
            location,
            severity: match answered.severity {
                _ if presence != Presence::Present
                    || row.is_some_and(|row| !row.severity_applies) =>
                {
                    None
                }
                Grade::Mild => Some(Severity::Mild),
                Grade::Moderate => Some(Severity::Moderate),
                Grade::Severe => Some(Severity::Severe),
                Grade::None => None,
            },
            probability: Some(answered.probability),
            description,
            measurements,
            regions,
            masks,
            evidence,
            differential: answered
                .differential
                .iter()
                .map(|item| self.text(item, 160))
                .filter(|item| !item.is_empty())
                .collect(),
            recommendation: self.text(&answered.recommendation, 600),
            urgency: match (presence, row) {
                (Presence::Present, Some(row)) => {
                    row.urgency.max(answered.urgency).max(answered.urgency_of_words())
                }
                (Presence::Present, None) | (Presence::Absent | Presence::Undetermined, _) => {
                    Urgency::Routine
                }
            },
            support: answered.support,
        }
    }

    /// The model's word, unless its own probability speaks against it.
    fn presence(&mut self, answered: &AnsweredFinding, name: &str) -> Presence {
        // A threshold that a site has set for this finding, or its model was measured at, is meant,
        // also when it is low.
        let meant = self.profile.thresholds.get(&answered.key).copied().or(answered.threshold);
        let threshold = meant.unwrap_or(self.profile.probability_min);
        let too_likely = meant.unwrap_or(threshold.max(0.5));
        match answered.presence {
            Presence::Present if answered.probability < self.profile.present_min.min(threshold) => {
                self.doubt(format!("{name}: called present, with a probability that says absent"));
                Presence::Undetermined
            }
            Presence::Present if answered.probability < threshold => Presence::Undetermined,
            Presence::Absent if answered.probability >= too_likely => {
                self.doubt(format!("{name}: called absent, with a probability that says present"));
                Presence::Undetermined
            }
            given => given,
        }
    }

    /// A description that says something else than its finding.
    fn check_description(
        &mut self,
        row: Option<&Row>,
        name: &str,
        description: &str,
        presence: Presence,
        side: Option<Laterality>,
    ) {
        let urgency = row.map_or(Urgency::Routine, |row| row.urgency);
        match (presence, wording::mentions(description, name)) {
            (Presence::Present, wording::Mention::Denied) => {
                self.doubt(format!("{name}: called present, and its description denies it"));
            }
            (Presence::Absent, wording::Mention::Affirmed) => {
                let line = format!("{name}: called absent, and its description has it");
                match urgency >= self.profile.alert_at {
                    true => self.doubt_of(urgency, line),
                    false => self.warn(line),
                }
            }
            (Presence::Present | Presence::Absent | Presence::Undetermined, _) => {}
        }
        if presence == Presence::Present && wording::other_side(description, side) {
            self.doubt(format!("{name}: its description gives the other side"));
        }
    }

    /// A finding that rests on nothing that was shown.
    fn check_cited(&mut self, answered: &AnsweredFinding, name: &str, presence: Presence) {
        let mut cited = answered.pictures.iter().copied();
        let unknown = |number: u32| !self.pictures.iter().any(|p| p.number == number);
        let nothing_shown = !answered.pictures.is_empty() && cited.all(unknown);
        if nothing_shown && presence == Presence::Present {
            self.doubt(format!("{name}: only on pictures that were not shown"));
        }
    }

    /// The profile's rules: severity, size, age and company of a finding make it more urgent.
    fn raise(&mut self, findings: &mut [Finding]) {
        let present: Vec<String> = findings
            .iter()
            .filter(|finding| finding.presence == Presence::Present)
            .map(|finding| finding.key.clone())
            .collect();
        for finding in findings.iter_mut().filter(|f| f.presence == Presence::Present) {
            let rules = self.profile.raises.iter().filter(|rule| {
                rule.finding == finding.key && rule.holds(finding, self.study.age_years(), &present)
            });
            if let Some(to) = rules.map(|rule| rule.to).max().filter(|to| *to > finding.urgency) {
                finding.urgency = to;
            }
        }
    }

    /// One key, on one side, both present and absent.
    fn check_doubles(&mut self, findings: &[Finding]) {
        for (at, one) in findings.iter().enumerate() {
            let other = findings[..at].iter().find(|other| {
                other.key == one.key
                    && (other.laterality == one.laterality
                        || other.laterality.is_none()
                        || one.laterality.is_none())
                    && other.presence != one.presence
                    && other.presence != Presence::Undetermined
                    && one.presence != Presence::Undetermined
            });
            if other.is_some() {
                self.doubt(format!("{}: called both present and absent", one.concept.meaning));
            }
        }
    }

    /// Numbers and tracking UIDs, once the order stands.
    fn name(&self, findings: &mut [Finding]) {
        let mut seen: Vec<(String, u32)> = Vec::new();
        for (at, finding) in findings.iter_mut().enumerate() {
            finding.id = format!("F{}", at + 1);
            let what = format!("{}/{:?}", finding.key, finding.laterality);
            let nth = match seen.iter_mut().find(|(earlier, _)| *earlier == what) {
                Some((_, count)) => {
                    *count += 1;
                    *count
                }
                None => {
                    seen.push((what.clone(), 1));
                    1
                }
            };
            let study = self.study.study_uid.as_str();
            finding.tracking_uid = uid::derived(&[
                "tracking",
                study,
                &self.algorithm.device_uid,
                &what,
                &nth.to_string(),
            ]);
        }
    }

    /// Names of the asked findings that were answered, and of those that its model has no word for;
    /// the others are told.
    fn looked_for(&mut self, answer: &Answer, findings: &[Finding]) -> (Vec<String>, Vec<String>) {
        let (answered, silent): (Vec<&Row>, Vec<&Row>) =
            self.asked().partition(|row| findings.iter().any(|finding| finding.key == row.key));
        let names =
            |rows: &[&Row]| rows.iter().map(|row| row.concept.meaning.clone()).collect::<Vec<_>>();
        if answered.is_empty() {
            self.doubt("the model answered on none of the findings it was asked about".into());
        }
        if has_manifest(answer) {
            return (names(&answered), names(&silent));
        }
        if !silent.is_empty() {
            self.warn(format!("the model did not answer on: {}", names(&silent).join(", ")));
        }
        (names(&answered), Vec::new())
    }

    /// The keys of the profile that these images can show.
    fn asked(&self) -> impl Iterator<Item = &'static Row> {
        let rows = self.profile.findings.iter().filter_map(|key| codes::find(key));
        rows.filter(|row| self.shown.can_have(&row.key))
    }

    /// Names what was asked and cannot be seen on these images.
    fn name_unseen(&mut self) {
        let rows = self.profile.findings.iter().filter_map(|key| codes::find(key));
        let unseen = rows.filter(|row| !self.shown.can_have(&row.key));
        let names: Vec<&str> = unseen.map(|row| row.concept.meaning.as_str()).collect();
        if !names.is_empty() {
            let names = names.join(", ");
            self.warn(format!("not assessed, because these images cannot show it: {names}"));
        }
    }

    /// What cannot wait and was left open, or was not answered at all, is a person's; and so is an
    /// answer that decides on nothing.
    fn check_open(&mut self, answer: &Answer, findings: &[Finding]) {
        let has_manifest = has_manifest(answer);
        let (mut open, mut most) = (Vec::new(), Urgency::Routine);
        for row in self.asked().filter(|row| row.urgency >= self.profile.alert_at) {
            let mut said = findings.iter().filter(|finding| finding.key == row.key).peekable();
            if has_manifest && said.peek().is_none() {
                continue;
            }
            // On what several readers see differently, they have decided.
            let decided =
                |finding: &Finding| finding.presence != Presence::Undetermined || is_split(finding);
            if !said.any(decided) {
                open.push(row.concept.meaning.as_str());
                most = most.max(row.urgency);
            }
        }
        let decides = findings.iter().any(|f| f.presence != Presence::Undetermined);
        if !decides && !findings.is_empty() {
            return self.doubt("the model could not decide on anything it was asked about".into());
        }
        if !open.is_empty() && !findings.is_empty() {
            self.doubt_of(most, strategy::leaves_open(&open));
        }
    }

    /// A model that says that it does not know.
    fn check_confidence(&mut self, answer: &Answer) {
        if answer.confidence < self.profile.confidence_min {
            self.doubt(strategy::is_unsure(answer.confidence));
        }
    }

    /// A text that names what cannot wait and no finding has: in any words of the table.
    ///
    /// - `of`: which text, for people.
    fn check_named(&mut self, text: &str, of: &str, findings: &[Finding]) {
        for row in codes::rows().iter().filter(|row| row.urgency >= self.profile.alert_at) {
            let has = findings
                .iter()
                .any(|finding| finding.key == row.key && finding.presence == Presence::Present);
            // The other parts of a hemorrhage and the like are said by the finding that is there.
            let is_said = findings.iter().any(|finding| {
                let meaning = finding.concept.meaning.to_lowercase();
                finding.presence == Presence::Present
                    && row.concept.meaning.to_lowercase().contains(&meaning)
            });
            let affirms = |word: &str| {
                wording::mentions(text, word) == wording::Mention::Affirmed
                    && !wording::is_supposed(text, word)
            };
            if !has && !is_said && terms::any(row, affirms) {
                let name = &row.concept.meaning;
                self.doubt_of(
                    row.urgency,
                    format!("the {of} mentions {name}, the findings do not"),
                );
            }
        }
    }

    fn check_quality(&mut self, answer: &Answer) {
        match answer.image_quality.usable {
            Usable::Good | Usable::Limited => {}
            Usable::NotDiagnostic => self.doubt(strategy::NOT_DIAGNOSTIC.into()),
        }
        if !is_in_english(answer) {
            self.doubt("the model answered in another language than English".into());
        }
    }

    /// The most urgent of what is present; the model's word for the whole can raise it.
    fn urgency(&mut self, answer: &Answer, findings: &[Finding]) -> Urgency {
        let found = findings
            .iter()
            .filter(|finding| finding.presence == Presence::Present)
            .map(|finding| finding.urgency)
            .max()
            .unwrap_or_default();
        // What it leaves open, or not all readers see, may be what it means.
        let is_open = |row: &Row| {
            let mut open = findings.iter().filter(|f| f.presence == Presence::Undetermined);
            open.any(|finding| finding.key == row.key)
        };
        let may_be = self.asked().any(|row| row.urgency >= answer.urgency && is_open(row));
        if answer.urgency > found && answer.urgency >= Urgency::Urgent && !may_be {
            let line = format!(
                "the model calls the study {}, and none of its findings is",
                answer.urgency.as_str()
            );
            self.doubt_of(answer.urgency, line);
        }
        found.max(answer.urgency)
    }

    /// The model's impression, unless it says something else than the findings.
    fn impression(&mut self, answer: &Answer, findings: &[Finding]) -> String {
        let given = self.text(&answer.impression, 2000);
        let present: Vec<&Finding> =
            findings.iter().filter(|finding| finding.presence == Presence::Present).collect();
        let mut by_rule = given.is_empty() || !wording::is_english(&given);
        for row in self.profile.findings.iter().filter_map(|key| codes::find(key)) {
            let is_present = present.iter().any(|finding| finding.key == row.key);
            match wording::mentions(&given, &row.concept.meaning) {
                wording::Mention::Affirmed if !is_present => {
                    let line = format!(
                        "the impression mentions {}, the findings do not",
                        row.concept.meaning
                    );
                    match row.urgency >= self.profile.alert_at {
                        true => self.doubt_of(row.urgency, line),
                        false => self.warn(line),
                    }
                }
                wording::Mention::Denied if is_present => {
                    let name = &row.concept.meaning;
                    let line = format!("the impression denies {name}, the findings have it");
                    self.doubt_of(row.urgency, line);
                    by_rule = true;
                }
                wording::Mention::Affirmed | wording::Mention::Denied | wording::Mention::None => {}
            }
            let mut same = present.iter().filter(|finding| finding.key == row.key).peekable();
            let clauses = wording::clauses_with(&given, &row.concept.meaning);
            if same.peek().is_some()
                && same.all(|finding| wording::other_side(&clauses, finding.laterality))
            {
                self.doubt(format!(
                    "the impression gives {} another side than the findings",
                    row.concept.meaning
                ));
                by_rule = true;
            }
        }
        if wording::says_normal(&given) {
            if !present.is_empty() {
                self.doubt("the impression says normal, the findings do not".into());
            }
            // "Normal" is not ours to say: no finding among those looked for is.
            by_rule = true;
        }
        match by_rule {
            true => wording::impression(findings),
            false => given,
        }
    }
}

/// The same of any text, e.g. a report.
pub fn reads_as_english(text: &str) -> bool {
    wording::is_english(text)
}

/// Whether what the model wrote can be read by the checks, and by those who read the report.
pub fn is_in_english(answer: &impl Written) -> bool {
    wording::is_english(&answer.text())
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
