//! What a structured report says of the study as a whole: how the reading ended, what it comes to,
//! what is absent, what limits it.

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::looked::Compared;
use crate::domain::looked::Named;
use crate::domain::urgency::Urgency;
use crate::sr::codes::comment;
use crate::sr::codes::dcm;
use crate::sr::codes::percent;
use crate::sr::codes::side;
use crate::sr::content_item::Item;
use crate::sr::header::LOCAL_SCHEME;
use crate::sr::text;

/// The report-level Qualitative Evaluations: how the reading ended, what it comes to, what is
/// absent, what limits it. CODE and TEXT only.
pub fn evaluations(a: &Assessment) -> Vec<Item> {
    let summary = a.summary().into_iter();
    let mut items: Vec<Item> = summary.map(|(name, value)| Item::code(name, value)).collect();
    if let Some(category) = a.urgency.and_then(Urgency::category) {
        items.push(Item::code(dcm("111005", "Assessment Category"), category));
    }
    let mut say = |name: Code, text: String| {
        if !text.trim().is_empty() {
            items.push(Item::text(name, text));
        }
    };
    say(comment(), not_read(a).unwrap_or_default());
    say(comment(), no_finding(a).unwrap_or_default());
    say(dcm("121073", "Impression"), a.impression.clone());
    say(dcm("121075", "Recommendation"), a.recommendation.clone());
    items.extend(a.present().filter_map(in_words));
    match a.outcome.is_read() {
        true => {
            items.extend(if a.rules_out() { negatives(a) } else { undetermined(a).collect() });
            if !a.looked_for.is_empty() {
                let text = format!("Looked for: {}. Nothing else.", a.looked_for.join(", "));
                items.push(Item::text(comment(), text));
            }
        }
        // What was not read is never absent.
        false => items.extend(undetermined(a)),
    }
    items.extend(limits(a));
    items.extend(a.measurements.iter().map(measurement));
    items.push(Item::text(comment(), notice(a)));
    items
}

/// Why there is no reading; `None` when there is one.
pub fn not_read(a: &Assessment) -> Option<String> {
    match &a.outcome {
        Outcome::Read => None,
        Outcome::NotCovered { reason } => Some(format!(
            "Not read: no model of this node covers this study ({reason}). No finding was looked \
             for, so nothing is said about whether there is one."
        )),
        Outcome::MeasuredOnly { reason } => Some(format!(
            "Not read: this site lets no model read this study ({reason}). No finding was looked \
             for, so nothing is said about whether there is one."
        )),
        Outcome::Held { reason } => Some(format!("Not read, by rule: {reason}.")),
        // The impression says why.
        Outcome::NeedsReview { .. } => {
            Some("Needs review by a person: nothing that is missing here is ruled out.".to_owned())
        }
    }
}

/// What was looked for and not found, in words: never "normal".
pub fn no_finding(a: &Assessment) -> Option<String> {
    if !a.outcome.is_read() {
        return None;
    }
    // A name without a side would deny what is present on one.
    let denies = |finding: &Finding| {
        finding.laterality.is_none() && a.present().any(|other| other.concept == finding.concept)
    };
    let mut names: Vec<String> = Vec::new();
    for finding in a.findings.iter().filter(|f| f.presence == Presence::Absent) {
        let name = finding.title();
        if !names.contains(&name) && !denies(finding) {
            names.push(name);
        }
    }
    let on = if a.rules_out() { "" } else { " on the images that were looked at" };
    (!names.is_empty())
        .then(|| format!("No finding by this software{on} for: {}.", names.join("; ")))
}

/// A negative is (finding) = Absent: a reader that shows the first item of a group must not show
/// a pneumothorax that is not there.
fn negatives(a: &Assessment) -> Vec<Item> {
    let present: Vec<&Code> = a.present().map(|finding| &finding.concept).collect();
    let mut said: Vec<(&Code, Presence)> = Vec::new();
    let mut items = Vec::new();
    for finding in &a.findings {
        if finding.presence == Presence::Present {
            continue;
        }
        let value = finding.presence.code();
        let pair = (&finding.concept, finding.presence);
        // The same thing on the other side is present: a code without a side would deny that.
        let is_denial = present.contains(&&finding.concept);
        if !is_denial && !said.contains(&pair) {
            said.push(pair);
            items.push(Item::code(finding.concept.clone(), value.clone()));
        }
        if is_denial || finding.presence == Presence::Undetermined {
            let side = side(finding);
            let sure = percent(finding.probability).map(|p| format!(", probability {p} %"));
            let sure = sure.filter(|_| finding.presence == Presence::Undetermined);
            let text = format!(
                "{}{side}: {}{}. {}",
                finding.concept.meaning,
                value.meaning.to_lowercase(),
                sure.unwrap_or_default(),
                finding.description
            );
            items.push(Item::text(comment(), text));
        }
    }
    items
}

/// What is neither present nor absent, in words.
pub fn undetermined(a: &Assessment) -> impl Iterator<Item = Item> {
    let open = a.findings.iter().filter(|f| f.presence == Presence::Undetermined);
    open.map(|finding| {
        let sure = percent(finding.probability).map(|p| format!(", probability {p} %"));
        let said = finding.description.trim();
        let text = format!("{}: undetermined{}. {said}", finding.title(), sure.unwrap_or_default());
        Item::text(comment(), text)
    })
}

/// What the model said of a finding. It stands here and not in its group, which takes codes and
/// numbers only.
fn in_words(finding: &Finding) -> Option<Item> {
    let said = said(finding);
    let title = format!("{} {}{}", finding.id, finding.concept.meaning, side(finding));
    (!said.is_empty()).then(|| Item::text(comment(), format!("{title}: {}", said.join(" "))))
}

pub fn said(finding: &Finding) -> Vec<String> {
    let mut said = Vec::new();
    if !finding.description.trim().is_empty() {
        said.push(finding.description.trim().to_owned());
    }
    if !finding.location.trim().is_empty() {
        said.push(format!("Location: {}.", finding.location.trim()));
    }
    if !finding.differential.is_empty() {
        said.push(format!("Differential: {}.", finding.differential.join("; ")));
    }
    if !finding.recommendation.trim().is_empty() {
        said.push(format!("Recommendation: {}", finding.recommendation.trim()));
    }
    said
}

/// What a reader should know about the images and the guards.
pub fn limits(a: &Assessment) -> Vec<Item> {
    let mut texts: Vec<String> = Vec::new();
    let mut say = |about: &str, what: &str| match text::long(what, 2000) {
        what if what.is_empty() => {}
        what => texts.push(format!("{about}: {what}")),
    };
    let part = a.looked_at.iter().filter(|one| one.is_part());
    part.for_each(|one| {
        let series = one.series_number.map_or_else(|| "without number".into(), |n| n.to_string());
        let (shown, of) = (one.shown, one.of);
        say("Series", &format!("{series}: {shown} of {of} images were looked at"));
    });
    a.compared.iter().for_each(|one| say("Comparison", &compared(one)));
    a.limitations().into_iter().for_each(|what| say("Note", what));
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for excluded in a.excluded.iter().chain(&a.study.unreadable) {
        match reasons.iter_mut().find(|(reason, _)| *reason == excluded.reason) {
            Some((_, instances)) => *instances += 1,
            None => reasons.push((&excluded.reason, 1)),
        }
    }
    let not_read = |(reason, n): (&str, usize)| format!("Not looked at: {n} instance(s): {reason}");
    texts.extend(reasons.into_iter().take(20).map(not_read));
    texts.into_iter().map(|text| Item::text(comment(), text)).collect()
}

/// The earlier reading and what is new, seen again, gone.
fn compared(of: &Compared) -> String {
    let names = |all: &[Named]| match all.is_empty() {
        true => "none".to_owned(),
        false => all.iter().map(|one| one.title.as_str()).collect::<Vec<_>>().join("; "),
    };
    let before = format!("{}, {}: {}", of.examination, of.date, names(&of.findings));
    match &of.change {
        None => format!("{before}; findings not compared"),
        Some(change) => format!(
            "{before}; new: {}; seen again: {}; not seen any more: {}; not known: {}",
            names(&change.new),
            names(&change.unchanged),
            names(&change.gone),
            names(&change.open)
        ),
    }
}

/// The name itself says that it is no finding.
fn measurement(of: &StudyMeasurement) -> Item {
    let group = match of.group.as_str() {
        "" => "other",
        group => group,
    };
    let meaning = format!("Measurement, not a finding: {group}");
    let unit = if of.unit.is_empty() { String::new() } else { format!(" {}", of.unit) };
    let source = if of.source.is_empty() { String::new() } else { format!(" ({})", of.source) };
    let name = Code::new(&format!("M-{}", short(group)), LOCAL_SCHEME, &meaning);
    Item::text(name, format!("{}: {}{unit}{source}", of.name, of.value))
}

/// A code value of at most 16 characters with its prefix.
fn short(word: &str) -> String {
    let kept = word.chars().filter(char::is_ascii_alphanumeric).take(14);
    kept.collect::<String>().to_ascii_uppercase()
}

pub fn notice(a: &Assessment) -> String {
    let what = match a.algorithm.measures_only {
        true => "Automatically generated by software that only measures: no finding was looked for",
        false => "Automatically generated by an AI algorithm",
    };
    format!(
        "{what}. Preliminary and unverified: not a diagnosis. Must be reviewed by a qualified \
         physician."
    )
}
