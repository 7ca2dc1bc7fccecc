//! The report as messages for other systems, in the site's own language.

use crate::deliver;
use crate::deliver::fhir::Patient;
use crate::domain::assessment::Assessment;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::telling;
use crate::pipeline::way::Way;
use crate::report;
use crate::report::ReportInput;
use crate::report::fhir;
use crate::sr::SrOptions;

/// A result file: name, media type, bytes.
type File = (String, &'static str, Vec<u8>);

/// - `reports`: those for people; the PDF goes with the messages.
pub fn messages(
    way: &Way<'_>,
    assessment: &Assessment,
    plan: &PlanRecord,
    reports: &[File],
) -> Result<Vec<File>, StepError> {
    let site = &way.kit.report;
    let communications = &telling::communications(way)?;
    let language = site.languages.first().copied().unwrap_or_default();
    let input = ReportInput { assessment, language, pictures: &[], communications, site };
    let procedure = SrOptions::new(Some(&plan.profile), Vec::new()).procedure;
    let pdf = reports.iter().find(|(name, ..)| name == "report.pdf").map(|(.., bytes)| &bytes[..]);
    let oru = report::oru(&input, procedure.as_ref(), pdf);
    let mut files: Vec<File> =
        vec![(deliver::mllp::FILE.into(), "application/hl7-v2", oru.into_bytes())];
    let config = &way.kit.deliver;
    let previous = readings_before(way)?;
    for patient in [Patient::Reference, Patient::Create] {
        if patient == Patient::Create && config.fhir.values().all(|one| one.patient != patient) {
            continue;
        }
        let options = fhir::Options {
            procedure: procedure.as_ref(),
            pdf,
            previous: &previous,
            makes_patient: patient == Patient::Create,
            patient_system: &config.identifiers.patient,
            accession_system: &config.identifiers.accession,
        };
        let bundle = fhir::fhir(&input, &options).to_string();
        files.push((patient.file().into(), "application/fhir+json", bundle.into_bytes()));
    }
    Ok(files)
}

/// Of all revisions before this one that were read.
fn readings_before(way: &Way<'_>) -> Result<Vec<Assessment>, StepError> {
    let mut found = Vec::new();
    for revision in (1..way.revision).rev() {
        found.extend(Way { revision, ..*way }.load_if_there(record::ASSESSMENT)?);
    }
    Ok(found)
}
