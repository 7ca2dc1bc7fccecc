//! The content tree of TID 2000 "Basic Diagnostic Imaging Report": sections of text, with the images
//! that a finding rests on. No numbers, no regions.

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::sr::SrError;
use crate::sr::codes::comment;
use crate::sr::codes::dcm;
use crate::sr::codes::percent;
use crate::sr::content_item::Item;
use crate::sr::content_item::Relationship::InferredFrom;
use crate::sr::evaluations;
use crate::sr::header::Identity;
use crate::sr::tree;
use crate::sr::tree::Images;

/// The whole tree; `procedure` as for [`tree::report`].
///
/// # Errors
/// [`SrError::ForeignImage`] if a finding names an image that the study does not have.
pub fn report(a: &Assessment, procedure: Option<&Code>) -> Result<Item, SrError> {
    let images = Images::of(&a.study);
    let identity = Identity::of(&a.algorithm);
    let root = Item::template(section("18748-4", "Diagnostic Imaging Report"), "2000");
    let root = tree::about(root, a, &identity, procedure);
    let by = match identity.measures_only {
        true => "Measured, not read, by",
        false => "Analysed by",
    };
    let parameters = match identity.parameters.is_empty() {
        true => String::new(),
        false => format!(" ({})", identity.parameters.join("; ")),
    };
    let done =
        format!("{}. {by} {} {}{parameters}.", a.examination, identity.name, identity.version);
    let mut found = Vec::new();
    for finding in a.present() {
        found.push(described(finding, a, &images)?);
    }
    found.extend(remarks(evaluations::not_read(a)));
    found.extend(remarks(evaluations::no_finding(a)));
    found.extend(evaluations::undetermined(a));
    let recommendation = Item::text(dcm("121075", "Recommendation"), a.recommendation.trim());
    let notice = Item::text(section("55112-7", "Summary"), evaluations::notice(a));
    let sections = [
        (
            section("55111-9", "Current Procedure Descriptions"),
            vec![Item::text(dcm("121065", "Procedure Description"), done)],
        ),
        (section("59776-5", "Findings"), found),
        (
            section("19005-8", "Impressions"),
            remarks(Some(a.impression.trim().to_owned()))
                .map(|item| Item { name: Some(dcm("121073", "Impression")), ..item })
                .collect(),
        ),
        (
            section("18783-1", "Recommendations"),
            if a.recommendation.trim().is_empty() { vec![] } else { vec![recommendation] },
        ),
        (
            section("55112-7", "Summary"),
            evaluations::limits(a).into_iter().chain([notice]).collect(),
        ),
    ];
    let filled = sections.into_iter().filter(|(_, items)| !items.is_empty());
    Ok(root.contains_all(filled.map(|(name, items)| Item::container(name).contains_all(items))))
}

/// A finding in one text: what a reader sees who has nothing else.
fn described(finding: &Finding, a: &Assessment, images: &Images) -> Result<Item, SrError> {
    let site = finding.site.as_ref().map(|site| format!(" ({})", site.meaning));
    let mut text = format!("{}. {}{}.", finding.id, finding.title(), site.unwrap_or_default());
    if let Some(percent) = percent(finding.probability) {
        text += &format!(" Certainty {percent} %.");
    }
    for measured in finding.measurements.iter().filter(|m| m.value.is_finite()) {
        text += &format!(" {} {} {}.", measured.concept.meaning, measured.value, measured.unit);
    }
    if let Some(category) = finding.urgency.category() {
        text += &format!(" {}.", category.meaning);
    }
    for said in evaluations::said(finding) {
        text += &format!(" {said}");
    }
    let shown = tree::sources(finding, a, images)?
        .into_iter()
        .map(|image| Item::image(dcm("121080", "Best illustration of finding"), image));
    let item = Item::text(dcm("121071", "Finding"), text);
    Ok(shown.fold(item, |item, image| item.with(InferredFrom, image)))
}

fn remarks(text: Option<String>) -> impl Iterator<Item = Item> {
    text.into_iter().filter(|text| !text.is_empty()).map(|text| Item::text(comment(), text))
}

fn section(value: &str, meaning: &str) -> Code {
    Code::new(value, "LN", meaning)
}
