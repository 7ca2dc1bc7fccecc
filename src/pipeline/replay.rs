//! A study that was read, for another reading of it: what there is, and what differs then.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::finding::Finding;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::record;
use crate::pipeline::record::Request;
use crate::pipeline::record::Run;
use crate::store::Store;
use crate::store::StoreError;

/// A study as it is kept: its files and its newest reading.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    pub study_uid: StudyUid,
    /// The objects that were read.
    pub files: Vec<PathBuf>,
    pub request: Request,
    pub reading: Reading,
}

/// One reading of a study, as far as readings are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// `read`, `not_covered`, `needs_review`; empty without an assessment.
    pub outcome: String,
    pub profile: String,
    pub urgency: Option<Urgency>,
    /// Present findings with their sides, e.g. `Pneumothorax, left`.
    pub findings: BTreeSet<String>,
    /// Whether it raised an alert.
    pub is_alert: bool,
    /// Millionths of the currency, failed calls included.
    pub cost_micro: u64,
    /// Calls without a price.
    pub unpriced: usize,
}

impl Reading {
    pub fn new(assessment: Option<&Assessment>, runs: &[Run], is_alert: bool) -> Reading {
        let calls = || runs.iter().flat_map(|run| &run.calls);
        let mut reading = Reading {
            is_alert,
            cost_micro: calls().filter_map(|call| call.cost_micro).sum(),
            unpriced: calls().filter(|call| call.cost_micro.is_none()).count(),
            ..Reading::default()
        };
        if let Some(assessment) = assessment {
            reading.outcome = assessment.outcome.as_str().to_owned();
            reading.profile = assessment.profile.clone();
            reading.urgency = assessment.urgency;
            reading.findings = assessment.present().map(Finding::title).collect();
        }
        reading
    }
}

/// What differs between two readings of one study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub study_uid: StudyUid,
    pub before: Reading,
    pub now: Reading,
    pub only_before: Vec<String>,
    pub only_now: Vec<String>,
}

impl Difference {
    pub fn between(study_uid: StudyUid, before: Reading, now: Reading) -> Difference {
        let only = |a: &Reading, b: &Reading| a.findings.difference(&b.findings).cloned().collect();
        Difference {
            only_before: only(&before, &now),
            only_now: only(&now, &before),
            study_uid,
            before,
            now,
        }
    }

    /// Whether a doctor would be told something else.
    pub fn is_different(&self) -> bool {
        let said = |reading: &Reading| (reading.outcome.clone(), reading.urgency, reading.is_alert);
        !self.only_before.is_empty()
            || !self.only_now.is_empty()
            || said(&self.before) != said(&self.now)
    }
}

/// What is kept of a study; none when there is none, or its objects are gone.
///
/// # Errors
/// The index or an object cannot be read. A result that cannot be read counts as none.
pub fn kept(store: &Store, uid: &StudyUid) -> Result<Option<Kept>, StoreError> {
    let Some(row) = store.study(uid)?.filter(|row| row.objects_removed_at.is_none()) else {
        return Ok(None);
    };
    let revision = row.assessed_revision.unwrap_or(row.revision);
    store.file(uid)?;
    let instances = store.instances(uid)?.into_iter().filter(|one| one.revision <= revision);
    let files = instances.map(|one| store.data().join(&one.receipt.object)).collect();
    let assessment: Option<Assessment> = file(store, uid, revision, record::ASSESSMENT);
    let runs = runs(store, uid, revision)?;
    let is_alert = store.alerts(uid)?.iter().any(|alert| alert.revision == revision);
    Ok(Some(Kept {
        study_uid: uid.clone(),
        files,
        request: file(store, uid, revision, record::REQUEST).unwrap_or_default(),
        reading: Reading::new(assessment.as_ref(), &runs, is_alert),
    }))
}

/// Everybody who was asked about a revision, shadows included.
///
/// # Errors
/// The index cannot be read. A file that cannot be read is passed over.
pub fn runs(store: &Store, uid: &StudyUid, revision: u32) -> Result<Vec<Run>, StoreError> {
    let mut runs: Vec<Run> = file(store, uid, revision, record::RUNS).unwrap_or_default();
    let artefacts = store.artefacts(uid, revision)?;
    for shadow in artefacts.iter().filter(|one| record::is_shadow(&one.file)) {
        runs.extend(file::<Vec<Run>>(store, uid, revision, &shadow.file).unwrap_or_default());
    }
    Ok(runs)
}

/// A result file, if it is there and can be read.
pub fn file<T: serde::de::DeserializeOwned>(
    store: &Store,
    uid: &StudyUid,
    revision: u32,
    name: &str,
) -> Option<T> {
    let bytes = store.read_result(uid, revision, name).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(outcome: &str, findings: &[&str], is_alert: bool) -> Reading {
        Reading {
            outcome: outcome.into(),
            findings: findings.iter().map(|&name| name.to_owned()).collect(),
            is_alert,
            ..Reading::default()
        }
    }

    #[test]
    fn what_a_doctor_would_be_told_makes_the_difference() {
        let uid = || StudyUid::parse("1.2").unwrap();
        let old = reading("read", &["Mass", "Pneumothorax, left"], true);
        for (now, before_only, now_only, differs) in [
            (reading("read", &["Mass", "Pneumothorax, left"], true), 0, 0, false),
            (reading("read", &["Mass", "Pneumothorax, right"], true), 1, 1, true),
            (reading("read", &["Mass"], true), 1, 0, true),
            (reading("read", &["Mass", "Pneumothorax, left"], false), 0, 0, true),
            (reading("needs_review", &[], true), 2, 0, true),
        ] {
            let found = Difference::between(uid(), old.clone(), now);
            let counts = (found.only_before.len(), found.only_now.len());
            assert_eq!(counts, (before_only, now_only), "{found:?}");
            assert_eq!(found.is_different(), differs, "{found:?}");
        }
        let dearer = Reading { cost_micro: 7, ..old.clone() };
        assert!(
            !Difference::between(uid(), old, dearer).is_different(),
            "cost alone is no reading"
        );
    }
}
