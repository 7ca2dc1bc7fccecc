//! What a reading found, with the pictures that it rests on, as the page of a study shows it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Disputed;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::text;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::web::inspect::StudyView;
use crate::web::page;
use crate::web::page::Level;
use crate::web::page::Moment;
use crate::web::words::Phrase;

#[derive(Serialize)]
pub struct ReadingPart {
    revision: u32,
    is_old: bool,
    /// Why there are no findings, when a model did not read it.
    unread: Option<String>,
    needs_review: bool,
    disputed: Vec<DisputedPart>,
    impression: String,
    recommendation: String,
    clinical_information: String,
    algorithm: String,
    provider: String,
    profile: String,
    parameters: Vec<String>,
    finished: Moment,
    seen: Vec<FindingPart>,
    unseen: Vec<FindingPart>,
    looked_for: Vec<String>,
    warnings: Vec<String>,
    measurements: Vec<StudyMeasurement>,
    pictures: Vec<PicturePart>,
    excluded: Vec<ExcludedPart>,
    report: Option<String>,
}

/// What the readers do not agree on.
#[derive(Serialize)]
struct DisputedPart {
    name: String,
    /// None where nobody can say.
    level: Option<Level>,
    said: Vec<OpinionPart>,
}

#[derive(Serialize)]
struct OpinionPart {
    who: String,
    presence: Presence,
    probability: String,
}

#[derive(Serialize)]
struct FindingPart {
    id: String,
    name: String,
    code: String,
    presence: Presence,
    is_present: bool,
    /// None where nobody can say.
    level: Option<Level>,
    /// Side, site, severity.
    details: Vec<Phrase>,
    probability: String,
    description: String,
    measurements: Vec<String>,
    /// Numbers of pictures it rests on.
    pictures: Vec<u32>,
    /// Instances that it rests on and that have no picture.
    others: usize,
    differential: String,
    recommendation: String,
}

#[derive(Serialize)]
struct PicturePart {
    number: u32,
    href: String,
    is_key: bool,
    width: u32,
    height: u32,
    window: String,
    frame: Option<u32>,
    instance: String,
    boxes: Vec<BoxPart>,
    /// Of lines and letters, in pixels of this picture.
    stroke: f64,
    letters: f64,
}

/// A region in pixels of the picture.
#[derive(Debug, PartialEq, Serialize)]
struct BoxPart {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
    label: String,
    label_x: f64,
    label_y: f64,
    /// Where in the label `label_x` is: labels grow towards the middle of the picture.
    anchor: &'static str,
    name: String,
    key: &'static str,
}

#[derive(Serialize)]
struct ExcludedPart {
    instance: String,
    reason: String,
}

fn disputed_part(disputed: &Disputed) -> DisputedPart {
    let opinion = |one: &crate::domain::assessment::Opinion| OpinionPart {
        who: one.who.clone(),
        presence: one.presence,
        probability: one.probability.map(text::percent).unwrap_or_default(),
    };
    DisputedPart {
        name: disputed.title(),
        level: Some(disputed.urgency).filter(|u| *u > Urgency::Routine).map(page::urgency_level),
        said: disputed.said.iter().map(opinion).collect(),
    }
}

/// What a reading said, for its place on the page.
pub fn part(view: &StudyView, assessment: Assessment, now: Timestamp) -> ReadingPart {
    let uid = &view.study.study_uid;
    let revision = assessment.revision;
    let mut pictures: Vec<PicturePart> =
        assessment.pictures.iter().map(|shown| picture(uid, &assessment, shown)).collect();
    pictures.sort_by_key(|picture| (!picture.is_key, picture.number));
    let (unseen, mut seen): (Vec<&Finding>, Vec<&Finding>) =
        assessment.findings.iter().partition(|finding| finding.presence == Presence::Absent);
    seen.sort_by_key(|f| (f.presence != Presence::Present, std::cmp::Reverse(f.urgency)));
    let finding = |found: &Finding| finding_part(found, &assessment.pictures);
    let warnings = assessment.limitations().into_iter().map(str::to_owned).collect();
    let outcome = &assessment.outcome;
    let (unread, needs_review) = (outcome.reason().map(str::to_owned), outcome.is_review());
    let disputed = outcome.disputed().iter().map(disputed_part).collect();
    let report = view.artefacts.iter().filter(|artefact| artefact.row.revision == revision);
    let report = report.map(|artefact| &artefact.row.file).find(|file| file.ends_with(".html"));
    ReadingPart {
        revision,
        is_old: revision != view.study.revision,
        unread,
        needs_review,
        disputed,
        seen: seen.into_iter().map(finding).collect(),
        unseen: unseen.into_iter().map(finding).collect(),
        pictures,
        algorithm: assessment.algorithm.label(),
        provider: assessment.algorithm.provider.clone(),
        parameters: assessment.algorithm.parameters.clone(),
        profile: format!("{} {}", assessment.profile, assessment.profile_version),
        finished: page::moment(assessment.finished_at, now),
        looked_for: assessment.looked_for,
        warnings,
        excluded: assessment
            .excluded
            .into_iter()
            .map(|excluded| ExcludedPart {
                instance: excluded.sop_instance_uid.to_string(),
                reason: excluded.reason,
            })
            .collect(),
        measurements: assessment.measurements,
        impression: assessment.impression,
        recommendation: assessment.recommendation,
        clinical_information: assessment.clinical_information,
        report: report.map(|file| format!("/results/{uid}/{revision}/{file}")),
    }
}

fn finding_part(finding: &Finding, pictures: &[PictureRef]) -> FindingPart {
    let site = finding.site.as_ref().map(|site| Phrase::plain(site.meaning.as_str()));
    let word = |group: &str, word: Value| {
        Phrase::new(format!("{group}.{}", word.as_str().unwrap_or_default()))
    };
    let laterality = finding.laterality.map(|side| word("side", json!(side)));
    let severity = finding.severity.map(|severity| word("severity", json!(severity)));
    let support = finding.support;
    let votes = (support.readers > 0).then(|| {
        Phrase::new("votes").with("present", support.present).with("readers", support.readers)
    });
    let verdict = support.verdict.map(|verdict| word("verdict", json!(verdict)));
    let details = [site, laterality, severity, votes, verdict].into_iter().flatten().collect();
    let rests_on = |shown: &&PictureRef| finding.evidence.contains(&shown.image);
    let shown = pictures.iter().filter(rests_on).map(|picture| picture.number).collect();
    let has_picture = |image: &ImageRef| pictures.iter().any(|shown| shown.image == *image);
    FindingPart {
        id: finding.id.clone(),
        name: finding.concept.meaning.clone(),
        code: format!("{} {}", finding.concept.scheme, finding.concept.value),
        presence: finding.presence,
        is_present: finding.presence == Presence::Present,
        level: finding.assessed().map(page::urgency_level),
        details,
        probability: finding.probability.map(text::percent).unwrap_or_default(),
        description: finding.description.clone(),
        measurements: finding
            .measurements
            .iter()
            .map(|m| format!("{}: {} {}", m.concept.meaning, m.value, m.unit))
            .collect(),
        others: finding.evidence.iter().filter(|image| !has_picture(image)).count(),
        pictures: shown,
        differential: finding.differential.join(", "),
        recommendation: finding.recommendation.clone(),
    }
}

fn picture(uid: &StudyUid, assessment: &Assessment, shown: &PictureRef) -> PicturePart {
    let width = f64::from(shown.width_px);
    let boxes = assessment
        .findings
        .iter()
        .filter(|finding| finding.presence != Presence::Absent)
        .flat_map(|finding| boxes(finding, shown))
        .collect();
    PicturePart {
        number: shown.number,
        href: format!("/results/{uid}/{}/{}", assessment.revision, shown.file),
        is_key: assessment.key_picture == Some(shown.number),
        width: shown.width_px,
        height: shown.height_px,
        window: shown.window.clone(),
        frame: shown.image.frame,
        instance: shown.image.sop_instance_uid.to_string(),
        boxes,
        stroke: round(width / 250.0),
        letters: round(width / 24.0),
    }
}

/// Regions stand in pixels of the frame, the picture shows the whole frame in its own size.
fn boxes(finding: &Finding, shown: &PictureRef) -> Vec<BoxPart> {
    let scale_x = f64::from(shown.width_px) / f64::from(shown.source_columns.max(1));
    let scale_y = f64::from(shown.height_px) / f64::from(shown.source_rows.max(1));
    let letters = f64::from(shown.width_px) / 24.0;
    let here = finding.regions.iter().filter(|region| region.image == shown.image);
    here.map(|region| {
        let (x0, x1) = (region.x0.min(region.x1) * scale_x, region.x0.max(region.x1) * scale_x);
        let (y0, y1) = (region.y0.min(region.y1) * scale_y, region.y0.max(region.y1) * scale_y);
        // Above the box, or inside it at the upper edge of the picture.
        let above = y0 - letters * 0.3;
        let leftwards = x0 + x1 > f64::from(shown.width_px);
        BoxPart {
            x: round(x0),
            y: round(y0),
            width: round(x1 - x0),
            height: round(y1 - y0),
            label: finding.id.clone(),
            label_x: round(if leftwards { x1 } else { x0 }),
            anchor: if leftwards { "end" } else { "start" },
            label_y: round(if above > letters { above } else { y0 + letters }),
            name: finding.concept.meaning.clone(),
            key: page::urgency_level(finding.urgency).key,
        }
    })
    .collect()
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
