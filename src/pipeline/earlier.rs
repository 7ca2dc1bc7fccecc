//! Earlier readings of the same patient, for the context of a new one.

use std::path::Path;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::context::Earlier;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Severity;
use crate::domain::looked::Change;
use crate::domain::looked::Compared;
use crate::domain::looked::Named;
use crate::domain::study::Patient;
use crate::domain::study::Study;
use crate::pipeline::job::StepError;
use crate::pipeline::key_file;
use crate::pipeline::record;
use crate::pipeline::way::Way;

const FILE: &str = "patients.key";
/// Studies of one patient that are looked at.
const STUDIES_MAX: usize = 50;

/// Makes the marks by which the ledger knows studies of one patient. Without this node's key
/// nobody can try out whose they are.
pub struct Marks([u8; 32]);

impl Marks {
    /// Reads the key of the data folder, or makes one. A key that is lost costs the memory of
    /// whose the studies before were, nothing else.
    pub fn open(data: &Path) -> std::io::Result<Marks> {
        key_file::open(data, FILE, "readings before are not found").map(Marks)
    }

    /// `None` for a patient without an ID: nobody knows who it is.
    pub fn of(&self, patient: &Patient) -> Option<String> {
        let id = patient.id.trim();
        let whole = [id, patient.issuer_of_id.trim(), patient.birth_date.trim()].join("\0");
        (!id.is_empty())
            .then(|| blake3::keyed_hash(&self.0, whole.as_bytes()).to_hex()[..32].to_owned())
    }
}

/// What this software read of the same patient before this study, the newest first.
pub fn readings(way: &Way<'_>, study: &Study) -> Result<Vec<Earlier>, StepError> {
    let found = read_before(way, study)?;
    Ok(found.iter().map(|(days_ago, read)| words(*days_ago, read)).collect())
}

/// Sets a reading beside the earlier ones of the same patient: what is new, what was seen before,
/// what is gone.
pub fn compare(way: &Way<'_>, now: &mut Assessment) -> Result<(), StepError> {
    let found = read_before(way, &now.study)?;
    now.compared = found.iter().map(|(_, then)| compared(then, now)).collect();
    Ok(())
}

fn compared(then: &Assessment, now: &Assessment) -> Compared {
    let named = |f: &Finding| Named { key: f.key.clone(), title: f.title() };
    let is_alike = then.profile == now.profile && now.outcome.is_read();
    Compared {
        date: then.study.attributes.study_date.trim().to_owned(),
        examination: then.examination.clone(),
        findings: then.present().map(named).collect(),
        change: is_alike.then(|| Change::between(&then.findings, &now.findings, now.rules_out())),
    }
}

fn read_before(way: &Way<'_>, study: &Study) -> Result<Vec<(u32, Assessment)>, StepError> {
    let config = &way.kit.analysis.context;
    let Some(mark) = way.kit.marks.of(&study.patient).filter(|_| config.earlier_max > 0) else {
        return Ok(Vec::new());
    };
    let studies = way.kit.store.studies_of_patient(&mark).map_err(StepError::passing)?;
    let mut found = Vec::new();
    for uid in studies.iter().filter(|uid| *uid != way.study_uid).take(STUDIES_MAX) {
        let row = way.kit.store.study(uid).map_err(StepError::passing)?;
        let Some(revision) = row.and_then(|row| row.assessed_revision) else { continue };
        let of = Way { kit: way.kit, study_uid: uid, revision };
        // What cannot be read any more is no reason not to read this one.
        let read: Option<Assessment> = of.load_if_there(record::ASSESSMENT).unwrap_or_default();
        let days = |read: &Assessment| days_before(read, study, config.earlier_days_max);
        found.extend(read.and_then(|read| Some((days(&read)?, read))));
    }
    found.sort_by_key(|(days_ago, _)| *days_ago);
    found.truncate(config.earlier_max);
    Ok(found)
}

/// Days from `read` to `study`. `None`: it is of another patient, of the same time or later, too
/// old, or no reading.
fn days_before(read: &Assessment, study: &Study, days_max: u32) -> Option<u32> {
    let (then, now) = (&read.study.patient, &study.patient);
    let is_same = |a: &str, b: &str| a.trim() == b.trim();
    let is_hers = is_same(&then.id, &now.id)
        && is_same(&then.issuer_of_id, &now.issuer_of_id)
        && is_same(&then.birth_date, &now.birth_date);
    let date = |study: &Study| {
        jiff::civil::Date::strptime("%Y%m%d", study.attributes.study_date.trim()).ok()
    };
    let days = (date(study)? - date(&read.study)?).get_days();
    let days_ago = u32::try_from(days).ok().filter(|days| *days <= days_max)?;
    (is_hers && read.outcome.is_read()).then_some(days_ago)
}

fn words(days_ago: u32, read: &Assessment) -> Earlier {
    Earlier {
        days_ago,
        examination: read.examination.clone(),
        // Of the table alone: other names are a model's own words.
        findings: read.present().filter(|f| f.concept.scheme != Code::LOCAL).map(named).collect(),
        impression: read.impression.clone(),
    }
}

fn named(finding: &Finding) -> String {
    let side = match finding.laterality {
        Some(Laterality::Right) => ", right",
        Some(Laterality::Left) => ", left",
        Some(Laterality::Bilateral) => ", both sides",
        Some(Laterality::Unilateral) => ", one side",
        None => "",
    };
    let severity = match finding.severity {
        Some(Severity::Mild) => ", mild",
        Some(Severity::Moderate) => ", moderate",
        Some(Severity::Severe) => ", severe",
        None => "",
    };
    format!("{}{side}{severity}", finding.concept.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::assessment::Outcome;
    use crate::domain::sample;

    #[test]
    fn a_mark_is_of_one_patient_and_of_one_node() {
        let folder = tempfile::tempdir().unwrap();
        let marks = Marks::open(folder.path()).unwrap();
        let again = Marks::open(folder.path()).unwrap();
        let patient = sample::positive_chest().study.patient;
        let mark = marks.of(&patient).unwrap();
        assert_eq!(again.of(&patient).unwrap(), mark);
        assert_eq!(mark.len(), 32);
        for other in [
            Patient { id: "MRN-0043".into(), ..patient.clone() },
            Patient { issuer_of_id: "OTHER".into(), ..patient.clone() },
            Patient { birth_date: "20200115".into(), ..patient.clone() },
        ] {
            assert_ne!(marks.of(&other), Some(mark.clone()));
        }
        assert_eq!(marks.of(&Patient { id: " ".into(), ..patient.clone() }), None);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(Marks::open(elsewhere.path()).unwrap().of(&patient), Some(mark));
        std::fs::write(folder.path().join(FILE), b"short").unwrap();
        assert!(Marks::open(folder.path()).unwrap().of(&patient).is_some());
    }

    #[test]
    fn an_earlier_reading_is_of_the_same_patient_and_not_too_old() {
        let mut read = sample::positive_chest();
        read.study.attributes.study_date = "20260202".into();
        read.outcome = Outcome::Read;
        let study = sample::positive_chest().study;
        assert_eq!(study.attributes.study_date, "20260302");
        let told = words(days_before(&read, &study, 100).unwrap(), &read);
        assert_eq!((told.days_ago, told.examination.as_str()), (28, read.examination.as_str()));
        assert_eq!(told.findings.len(), read.present().count());
        let kept = serde_json::to_string(&told).unwrap();
        for identifier in ["Hong", "MRN", "2026", "20200114", "1.2.826"] {
            assert!(!kept.contains(identifier), "{identifier} in {kept}");
        }
        assert_eq!(days_before(&read, &study, 27), None, "too old");
        assert_eq!(days_before(&sample::positive_chest(), &read.study, 100), None, "a later one");
        let mut other = read.clone();
        other.study.patient.birth_date = "19990101".into();
        assert_eq!(days_before(&other, &study, 100), None);
        let mut unread = read;
        unread.outcome = Outcome::needs_review("");
        assert_eq!(days_before(&unread, &study, 100), None);
    }
}
