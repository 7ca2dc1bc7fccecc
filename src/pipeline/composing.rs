//! From the assessment to its artefacts, each kept as it will be sent, and what goes where.

use jiff::Timestamp;

use crate::deliver::pacs::Artefact;
use crate::domain::assessment::Assessment;
use crate::domain::picture::PictureRef;
use crate::pipeline::delivering;
use crate::pipeline::job::StepError;
use crate::pipeline::key_images;
use crate::pipeline::messages;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::steps::unworked;
use crate::pipeline::telling;
use crate::pipeline::way::Way;
use crate::sr;
use crate::sr::Document;
use crate::sr::SrClass;
use crate::sr::SrOptions;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;

/// A result file: name, media type, bytes.
pub type File = (String, &'static str, Vec<u8>);

pub const DICOM: &str = "application/dicom";

/// Every artefact, also those that no destination takes now: one that refuses the first gets the
/// next. Then one delivery for each and destination.
pub async fn compose(way: &Way<'_>) -> Result<Vec<Event>, StepError> {
    let assessment: Assessment = way.load(record::ASSESSMENT)?;
    let plan: PlanRecord = way.load(record::PLAN)?;
    let mut files = reports(way, &assessment).await?;
    files.extend(wrapped(way, &assessment, &files)?);
    files.extend(structured(way, &assessment, &plan)?);
    files.extend(key_objects(way, &assessment)?);
    files.extend(segmentations(way, &assessment)?);
    files.extend(key_images::make(way, &assessment, &plan.profile.pictures.windows).await?);
    files.extend(messages::messages(way, &assessment, &plan, &files)?);
    let mut events = Vec::new();
    for (file, media_type, bytes) in &files {
        events.push(way.keep(file, media_type, bytes)?);
    }
    let names: Vec<&str> = files.iter().map(|(file, ..)| file.as_str()).collect();
    let entries = delivering::outbox(&way.kit.deliver, &names);
    let needs_review = assessment.outcome.is_review();
    if !needs_review {
        events.push(way.state(StudyState::Composed, format!("{} files", files.len())));
    }
    if entries.is_empty() && !needs_review {
        let reason = "no destination is configured: the results are in the data folder";
        events.push(way.state(StudyState::Delivered, reason));
    }
    events.extend(delivering::hurry(way)?);
    for (artefact, destination) in entries {
        let by_hand = way.kit.deliver.release_by_hand.contains(&destination);
        let kind = JobKind::Deliver { artefact, destination };
        events.push(match by_hand {
            // Until a person says so.
            true => way.at(kind, Timestamp::MAX),
            false => way.next(kind),
        });
    }
    Ok(events)
}

/// The report for people, in each language. The first language is the site's own: its files carry
/// no suffix.
async fn reports(way: &Way<'_>, assessment: &Assessment) -> Result<Vec<File>, StepError> {
    let mut pictures = Vec::new();
    for reference in shown_in_reports(assessment) {
        if let Some(bytes) = way.load_bytes(&reference.file)? {
            pictures.push((reference.clone(), bytes));
        }
    }
    let communications = telling::communications(way)?;
    let site = &way.kit.report;
    let mut files = Vec::new();
    for (nth, language) in site.languages.iter().enumerate() {
        let rendering =
            way.kit.pool.render(assessment, *language, &pictures, &communications, site);
        let [html, text, pdf] = rendering.await.map_err(unworked)?;
        let stem = match nth {
            0 => "report".to_owned(),
            _ => format!("report.{}", language.as_str()),
        };
        files.push((format!("{stem}.html"), "text/html; charset=utf-8", html));
        files.push((format!("{stem}.txt"), "text/plain; charset=utf-8", text));
        files.push((format!("{stem}.pdf"), "application/pdf", pdf));
    }
    Ok(files)
}

/// The key picture, and those on whose image a finding has its region.
fn shown_in_reports(assessment: &Assessment) -> impl Iterator<Item = &PictureRef> {
    let has_region = |picture: &PictureRef| {
        let mut regions = assessment.present().flat_map(|finding| &finding.regions);
        regions.any(|region| region.image.is_same(&picture.image))
    };
    assessment
        .pictures
        .iter()
        .filter(move |one| Some(one.number) == assessment.key_picture || has_region(one))
}

/// The report in the site's own language as Encapsulated PDF.
fn wrapped(
    way: &Way<'_>,
    assessment: &Assessment,
    reports: &[File],
) -> Result<Option<File>, StepError> {
    let Some((.., pdf)) = reports.iter().find(|(name, ..)| name == "report.pdf") else {
        return Ok(None);
    };
    let source = assessment.artefact_uid(SrClass::default().kind());
    let wrapped = sr::encapsulated_pdf(assessment, &way.kit.equipment, pdf, Some(&source));
    Ok(Some((Artefact::Pdf.file(1), DICOM, wrapped.map_err(StepError::lasting)?)))
}

/// The structured report in each class.
fn structured(
    way: &Way<'_>,
    assessment: &Assessment,
    plan: &PlanRecord,
) -> Result<Vec<File>, StepError> {
    let mut options = SrOptions::new(Some(&plan.profile), reports_before(way)?);
    let mut files = Vec::new();
    for (artefact, class) in CLASSES {
        options.class = class;
        let sr = sr::structured_report(assessment, &way.kit.equipment, &options);
        files.push((artefact.file(1), DICOM, sr.map_err(StepError::lasting)?));
    }
    Ok(files)
}

const CLASSES: [(Artefact, SrClass); 4] = [
    (Artefact::Sr, SrClass::Comprehensive3d),
    (Artefact::SrComprehensive, SrClass::Comprehensive),
    (Artefact::SrEnhanced, SrClass::Enhanced),
    (Artefact::SrText, SrClass::BasicText),
];

/// The structured reports of the newest revision before that was read. Not every one was: of some
/// only reports came.
fn reports_before(way: &Way<'_>) -> Result<Vec<Document>, StepError> {
    for revision in (1..way.revision).rev() {
        let before = Way { revision, ..*way };
        let mut found = Vec::new();
        for (artefact, _) in CLASSES {
            found.extend(before.load_bytes(&artefact.file(1))?.as_deref().and_then(Document::read));
        }
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

fn segmentations(way: &Way<'_>, assessment: &Assessment) -> Result<Vec<File>, StepError> {
    let made = sr::segmentations(assessment, &way.kit.equipment).map_err(StepError::lasting)?;
    let made = made.into_iter().enumerate();
    Ok(made.map(|(nth, seg)| (Artefact::Seg.file(nth + 1), DICOM, seg)).collect())
}

fn key_objects(way: &Way<'_>, assessment: &Assessment) -> Result<Option<File>, StepError> {
    let made = sr::key_objects(assessment, &way.kit.equipment).map_err(StepError::lasting)?;
    Ok(made.map(|kos| (Artefact::Kos.file(1), DICOM, kos)))
}
