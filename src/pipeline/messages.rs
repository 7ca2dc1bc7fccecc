//! The report as messages for other systems and for people, in the site's own language.

use crate::alert;
use crate::deliver;
use crate::deliver::fhir::Patient;
use crate::domain::assessment::Assessment;
use crate::domain::identity::Shown;
use crate::domain::message::Attachment;
use crate::domain::message::Message;
use crate::domain::text;
use crate::pipeline::job::StepError;
use crate::pipeline::record;
use crate::pipeline::record::PlanRecord;
use crate::pipeline::telling;
use crate::pipeline::way::Way;
use crate::report;
use crate::report::ReportInput;
use crate::report::fhir;
use crate::report::notice;
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
    let prefix = &way.kit.deliver.identifiers.filler_prefix;
    let oru = report::oru(&input, procedure.as_ref(), pdf, prefix);
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
            filler_prefix: &config.identifiers.filler_prefix,
            critical_wait_s: way.kit.alert.wait_critical_s,
        };
        let bundle = fhir::fhir(&input, &options).to_string();
        files.push((patient.file().into(), "application/fhir+json", bundle.into_bytes()));
    }
    for (name, mailbox) in &config.mailbox {
        let (shown, link) = (mailbox.identity, mailbox.link);
        let to = Told { destination: format!("mailbox.{name}"), shown, link, files: &[] };
        let mut message = told(way, &input, &to)?;
        message.attachments = attached(&mailbox.attach, reports);
        files.push(kept(&to, &message)?);
    }
    for (name, hook) in config.webhook.iter().filter(|(_, hook)| hook.reports) {
        let (shown, files_of) = (hook.identity, &hook.files);
        let to =
            Told { destination: format!("webhook.{name}"), shown, link: true, files: files_of };
        files.push(kept(&to, &told(way, &input, &to)?)?);
    }
    Ok(files)
}

/// A destination that gets the report as a message.
struct Told<'a> {
    destination: String,
    shown: Shown,
    link: bool,
    /// Files of the result that it is given the URLs of.
    files: &'a [String],
}

fn told(way: &Way<'_>, input: &ReportInput<'_>, to: &Told<'_>) -> Result<Message, StepError> {
    let study_url = alert::study_url(&way.kit.alert, way.study_uid).filter(|_| to.link);
    let base = way.kit.alert.base_url.trim_end_matches('/');
    let (study, revision) = (way.study_uid, way.revision);
    let url = |file: &String| (file.clone(), format!("{base}/results/{study}/{revision}/{file}"));
    let rows = way.kit.store.deliveries(way.study_uid).map_err(StepError::passing)?;
    let earlier = rows.iter().filter(|row| row.destination == to.destination);
    // The one that began the thread is the first that was meant to go there.
    let first = earlier.map(|row| row.revision).filter(|before| *before < revision).min();
    Ok(notice::notice(
        input,
        &notice::Options {
            shown: to.shown,
            files: study_url.iter().flat_map(|_| to.files.iter().map(url)).collect(),
            study_url,
            id: message_id(way, revision, &to.destination),
            thread: first.map(|first| message_id(way, first, &to.destination)),
        },
    ))
}

/// Decided by study, revision and destination: a repeat is known by it.
fn message_id(way: &Way<'_>, revision: u32, destination: &str) -> String {
    let of = [way.study_uid.as_str(), &revision.to_string(), destination].join("\0");
    format!("report-{}", text::hex(&blake3::hash(of.as_bytes()).as_bytes()[..16]))
}

/// Those of the wanted files that there are; their bytes are read when they go out.
fn attached(wanted: &[String], reports: &[File]) -> Vec<Attachment> {
    let of = |file: &&File| wanted.contains(&file.0);
    let attachment = |(file, media_type, _): &File| Attachment {
        file: file.clone(),
        media_type: (*media_type).to_owned(),
        bytes: Vec::new(),
    };
    reports.iter().filter(of).map(attachment).collect()
}

fn kept(to: &Told<'_>, message: &Message) -> Result<File, StepError> {
    let bytes = serde_json::to_vec_pretty(message).map_err(StepError::lasting)?;
    Ok((deliver::message_file(&to.destination), "application/json", bytes))
}

/// A message as it was composed, with its files.
pub fn ready(way: &Way<'_>, artefact: &str) -> Result<Message, StepError> {
    let mut message: Message = way.load(artefact)?;
    for one in &mut message.attachments {
        let gone = || StepError::lasting(format!("{} is gone", one.file));
        one.bytes = way.load_bytes(&one.file)?.ok_or_else(gone)?;
    }
    Ok(message)
}

/// Of all revisions before this one that were read.
fn readings_before(way: &Way<'_>) -> Result<Vec<Assessment>, StepError> {
    let mut found = Vec::new();
    for revision in (1..way.revision).rev() {
        found.extend(Way { revision, ..*way }.load_if_there(record::ASSESSMENT)?);
    }
    Ok(found)
}
