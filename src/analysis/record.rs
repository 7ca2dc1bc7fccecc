//! The record of a reading, for each way it can end. The one place where an assessment is put
//! together, so that "read", "not covered" and "needs review" differ where they must and nowhere else.

use jiff::Timestamp;

use crate::analysis::Reading;
use crate::analysis::codes;
use crate::analysis::judge;
use crate::domain::assessment::Algorithm;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::finding::Support;
use crate::domain::looked::LookedAt;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::profile::Profile;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::text;
use crate::domain::uid;
use crate::domain::urgency::Urgency;

/// What is known of a study before anyone has read it.
#[derive(Debug, Clone, PartialEq)]
pub struct Basis {
    pub study: Study,
    pub revision: u32,
    pub profile: Profile,
    /// Pictures that were shown to the model, else made for the report.
    pub pictures: Vec<PictureRef>,
    pub measurements: Vec<StudyMeasurement>,
    pub quality: Vec<QualityFlag>,
    pub excluded: Vec<Excluded>,
    /// Notes of the plan and of the steps before.
    pub notes: Vec<String>,
    pub clinical_information: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// What the local chest model gave.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalResult {
    /// Calibrated, 0 to 1.
    pub probability: f64,
    /// At or above: present.
    pub threshold: f64,
    /// Below the threshold and at or above this: undetermined. Equal to `threshold`: no such zone.
    pub threshold_low: f64,
    pub algorithm: Algorithm,
    /// Why the picture does not look like a chest X-ray, when it does not.
    pub implausible: Option<String>,
}

/// What a study is called of which nothing is to be read.
pub const NOT_FOR_READING: &str = "Not for reading";

/// The software that measures and reads nothing.
pub fn measuring() -> Algorithm {
    let (name, version, manufacturer) =
        ("prelim-measurements", env!("CARGO_PKG_VERSION"), "Prelim");
    Algorithm {
        name: name.into(),
        version: version.into(),
        manufacturer: manufacturer.into(),
        device_uid: uid::derived(&["device", name, version, manufacturer]),
        parameters: Vec::new(),
        provider: "local".into(),
        measures_only: true,
    }
}

/// A gateway's reading, judged.
pub fn read(basis: Basis, reading: &Reading) -> Assessment {
    let judged = judge::judge(
        &reading.answer,
        &basis.study,
        &basis.profile,
        &basis.pictures,
        &reading.algorithm,
    );
    let mut record = blank(basis, judged.outcome, reading.algorithm.clone());
    record.looked_at = LookedAt::of(&record.study, &record.pictures);
    record.findings = judged.findings;
    record.looked_for = judged.looked_for;
    record.unasked = judged.unasked;
    record.key_picture = judged.key_picture;
    record.impression = judged.impression;
    record.recommendation = judged.recommendation;
    record.urgency = Some(judged.urgency);
    record.quality.extend(judged.quality);
    record.warnings.extend(reading.notes.iter().cloned());
    record.warnings.extend(judged.warnings);
    if let Some(reason) = record.outcome.reason().map(str::to_owned) {
        record.review(&reason, Vec::new());
    }
    record.settle();
    record
}

/// No model covers the study: measurements only. Says nothing about what is or is not there.
pub fn not_covered(basis: Basis, reason: &str) -> Assessment {
    let outcome = Outcome::NotCovered { reason: reason.to_owned() };
    let mut record = blank(basis, outcome, measuring());
    record.impression = "Not read: no model covers this study. Measurements only.".into();
    record
}

/// The site lets nobody read it: measurements only.
pub fn measured_only(basis: Basis, reason: &str) -> Assessment {
    let outcome = Outcome::MeasuredOnly { reason: reason.to_owned() };
    let mut record = blank(basis, outcome, measuring());
    record.impression = "Not read: this site lets no model read it. Measurements only.".into();
    record
}

/// By rule there is nothing to read, so nobody was asked and nothing was measured.
pub fn held(basis: Basis, reason: &str) -> Assessment {
    let outcome = Outcome::Held { reason: reason.to_owned() };
    let mut record = blank(basis, outcome, measuring());
    record.examination = NOT_FOR_READING.into();
    record.impression = format!("Not read: {reason}.");
    record
}

/// A person must look: no usable reading.
///
/// - `algorithm`: who was asked; `None` when nobody was.
pub fn needs_review(basis: Basis, reason: &str, algorithm: Option<Algorithm>) -> Assessment {
    let mut record =
        blank(basis, Outcome::needs_review(reason), algorithm.unwrap_or_else(measuring));
    record.review(reason, Vec::new());
    record
}

/// The local model's reading of one frontal chest X-ray of a child.
///
/// - `instance`: the one that the gate chose.
pub fn pneumonia(basis: Basis, instance: &Instance, result: &LocalResult) -> Assessment {
    if let Some(why) = &result.implausible {
        let reason = format!("the picture does not look like a frontal chest X-ray: {why}");
        return needs_review(basis, &reason, Some(result.algorithm.clone()));
    }
    if !(0.0..=1.0).contains(&result.probability) {
        return needs_review(
            basis,
            "the local model gave no probability",
            Some(result.algorithm.clone()),
        );
    }
    let presence = match result.probability {
        p if p >= result.threshold => Presence::Present,
        p if p >= result.threshold_low => Presence::Undetermined,
        _ => Presence::Absent,
    };
    let finding = pneumonia_finding(&basis.study, instance, result, presence);
    let others = basis.profile.findings.iter().filter(|key| *key != "pneumonia");
    let others = others.filter_map(|key| codes::find(key));
    let unasked = others.map(|row| row.concept.meaning.clone()).collect();
    let mut record = blank(basis, Outcome::Read, result.algorithm.clone());
    record.algorithm.parameters.push(format!("threshold={:.3}", result.threshold));
    record.urgency = Some(finding.urgency);
    record.looked_for = vec!["Pneumonia pattern".into()];
    record.unasked = unasked;
    record.impression = match presence {
        Presence::Present => {
            format!("Pattern of pneumonia (probability {}).", text::percent(result.probability))
        }
        Presence::Undetermined => {
            format!(
                "A pattern of pneumonia is neither clear nor excluded (probability {}).",
                text::percent(result.probability)
            )
        }
        Presence::Absent => {
            "No pattern of pneumonia above threshold. Nothing else was looked for.".into()
        }
    };
    record.recommendation = match presence {
        Presence::Present => "Reading by a radiologist with priority.".into(),
        Presence::Undetermined | Presence::Absent => "Reading by a radiologist.".into(),
    };
    let shown =
        record.pictures.iter().find(|p| p.image.sop_instance_uid == instance.sop_instance_uid);
    record.key_picture = match presence {
        Presence::Present => shown.map(|p| p.number).or(record.key_picture),
        Presence::Undetermined | Presence::Absent => None,
    };
    if record.study.age_years().is_some_and(|age| !(1.0..6.0).contains(&age)) {
        record.warnings.push(
            "the model was trained on children of 1 to 5 years; this patient is of another age"
                .into(),
        );
    }
    record.findings = vec![finding];
    record.settle();
    record
}

fn pneumonia_finding(
    study: &Study,
    instance: &Instance,
    result: &LocalResult,
    presence: Presence,
) -> Finding {
    let row = codes::find("pneumonia").expect("a row of our own table, tested below");
    let image = ImageRef {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        series_uid: instance.series_uid.clone(),
        frame: None,
    };
    let device = &result.algorithm.device_uid;
    Finding {
        id: "F1".into(),
        tracking_uid: uid::derived(&[
            "tracking",
            study.study_uid.as_str(),
            device,
            "pneumonia/None",
            "1",
        ]),
        key: row.key.clone(),
        concept: row.concept.clone(),
        presence,
        site: row.site.clone(),
        laterality: None,
        location: String::new(),
        severity: None,
        probability: Some(result.probability),
        description:
            "Pattern of pneumonia on the whole picture; the model gives no place and no side."
                .into(),
        measurements: Vec::new(),
        regions: Vec::new(),
        evidence: vec![image],
        differential: Vec::new(),
        recommendation: String::new(),
        urgency: match presence {
            Presence::Present => row.urgency,
            Presence::Undetermined | Presence::Absent => Urgency::Routine,
        },
        masks: Vec::new(),
        support: Support::default(),
    }
}

fn blank(basis: Basis, outcome: Outcome, algorithm: Algorithm) -> Assessment {
    let mut warnings = basis.notes;
    warnings.extend(basis.study.inconsistencies.iter().cloned());
    Assessment {
        revision: basis.revision,
        profile: basis.profile.name,
        profile_version: basis.profile.version,
        examination: basis.profile.title,
        outcome,
        algorithm,
        findings: Vec::new(),
        looked_for: Vec::new(),
        unasked: Vec::new(),
        measurements: basis.measurements,
        quality: basis.quality,
        looked_at: Vec::new(),
        compared: Vec::new(),
        key_picture: basis.pictures.first().map(|picture| picture.number),
        pictures: basis.pictures,
        excluded: basis.excluded,
        impression: String::new(),
        recommendation: String::new(),
        urgency: None,
        warnings,
        clinical_information: basis.clinical_information,
        started_at: basis.started_at,
        finished_at: basis.finished_at,
        study: basis.study,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::profile;
    use crate::analysis::testing;

    fn basis() -> Basis {
        let study = testing::study("CR", "CHEST", "PA", "");
        let chest =
            profile::load(None).unwrap().into_iter().find(|p| p.name == "chest_xray").unwrap();
        Basis {
            pictures: testing::pictures(&study),
            study,
            revision: 1,
            profile: chest,
            measurements: Vec::new(),
            quality: Vec::new(),
            excluded: Vec::new(),
            notes: Vec::new(),
            clinical_information: String::new(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn result(probability: f64) -> LocalResult {
        let algorithm = Algorithm { name: "chest".into(), measures_only: false, ..measuring() };
        LocalResult {
            probability,
            threshold: 0.6,
            threshold_low: 0.3,
            algorithm,
            implausible: None,
        }
    }

    #[test]
    fn a_positive_child_raises_an_alert_and_a_negative_one_is_not_normal() {
        let basis = basis();
        let instance = basis.study.instances[0].clone();
        for (probability, presence, urgency) in [
            (0.9, Presence::Present, Some(Urgency::Urgent)),
            (0.6, Presence::Present, Some(Urgency::Urgent)),
            // Of 18 findings that such a film is looked through for, it knows one.
            (0.4, Presence::Undetermined, None),
            (0.1, Presence::Absent, None),
        ] {
            let record = pneumonia(basis.clone(), &instance, &result(probability));
            assert_eq!((record.outcome.clone(), record.urgency), (Outcome::Read, urgency));
            assert_eq!(record.unasked.len(), basis.profile.findings.len() - 1);
            assert_eq!(record.findings[0].presence, presence, "{probability}");
            assert_eq!(record.findings[0].evidence.len(), 1);
            assert!(!record.impression.to_lowercase().contains("normal"));
            assert_eq!(
                record.key_picture.is_some(),
                presence == Presence::Present,
                "{probability}"
            );
            assert_eq!(
                record.urgency >= Some(basis.profile.alert_at),
                presence == Presence::Present
            );
        }
    }

    #[test]
    fn what_is_not_covered_or_not_readable_never_looks_read() {
        let basis = basis();
        let instance = basis.study.instances[0].clone();
        let not = not_covered(basis.clone(), "no local model covers this study: it is a CT");
        assert!(
            not.algorithm.measures_only && not.findings.is_empty() && not.looked_for.is_empty()
        );
        assert!(matches!(not.outcome, Outcome::NotCovered { .. }));
        let held = held(basis.clone(), "it is a phantom");
        assert_eq!((held.outcome.as_str(), held.urgency), (Outcome::HELD, None));
        assert!(held.findings.is_empty() && held.looked_for.is_empty());
        assert_eq!(held.impression, "Not read: it is a phantom.");
        let odd = LocalResult { implausible: Some("no lungs".into()), ..result(0.1) };
        for record in [
            needs_review(basis.clone(), "unreadable", None),
            pneumonia(basis.clone(), &instance, &odd),
            pneumonia(basis.clone(), &instance, &result(f64::NAN)),
        ] {
            assert!(matches!(record.outcome, Outcome::NeedsReview { .. }), "{record:?}");
            assert!(record.findings.is_empty() && !record.impression.contains("No finding"));
        }
    }

    #[test]
    fn a_reading_keeps_its_tracking_uid() {
        let basis = basis();
        let instance = basis.study.instances[0].clone();
        let uid =
            |p| pneumonia(basis.clone(), &instance, &result(p)).findings[0].tracking_uid.clone();
        assert_eq!(uid(0.9), uid(0.2));
    }
}
