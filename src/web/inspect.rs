//! What there is to say about a study and about the queue: one form for the pages, the API and
//! the command line.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::assessment::Algorithm;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::finding::Finding;
use crate::domain::looked::Compared;
use crate::domain::looked::LookedAt;
use crate::domain::origin::Origin;
use crate::domain::origin::Why;
use crate::domain::study::Excluded;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::origins;
use crate::store::AlertRow;
use crate::store::ArtefactRow;
use crate::store::ComparisonRow;
use crate::store::DeliveryRow;
use crate::store::HistoryRow;
use crate::store::JobCounts;
use crate::store::JobRow;
use crate::store::RevisionRow;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::StudyRow;
use crate::store::UsageRow;

/// The file of a result folder from which everything else is made.
pub const ASSESSMENT: &str = "assessment.json";
/// Stands with every result that leaves this node.
pub const NOTICE: &str =
    "Preliminary reading by software. Not a diagnosis: a doctor has to read the images.";

/// Everything about one study but who the patient is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyView {
    #[serde(flatten)]
    pub study: StudyRow,
    /// The newest reading. None until there is one.
    pub reading: Option<Reading>,
    pub revisions: Vec<RevisionRow>,
    /// The oldest first.
    pub history: Vec<HistoryRow>,
    pub artefacts: Vec<Artefact>,
    /// What its objects are, by series.
    #[serde(default)]
    pub objects: Vec<Objects>,
    pub deliveries: Vec<DeliveryRow>,
    pub alerts: Vec<AlertRow>,
    /// What doctors said of its readings, the oldest first.
    #[serde(default)]
    pub comparisons: Vec<ComparisonRow>,
    /// Jobs of the study that wait, run or are dead.
    pub jobs: Vec<JobRow>,
    pub notice: String,
}

/// Objects of one series that are the same to this node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Objects {
    pub series_uid: SeriesUid,
    pub sop_class_uid: SopClassUid,
    /// The first of them.
    pub sop_instance_uid: SopInstanceUid,
    pub instances: u32,
    /// None: not decided yet.
    pub origin: Option<Origin>,
    /// Why, as data and in words. None: as for `origin`.
    pub why: Option<Why>,
    pub reason: String,
    /// Who says so; empty: the node.
    pub by: String,
}

/// What an assessment says, without the study it is about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub revision: u32,
    /// False when a newer revision has not been read yet.
    pub of_newest_revision: bool,
    pub profile: String,
    pub profile_version: u32,
    #[serde(flatten)]
    pub outcome: Outcome,
    pub algorithm: Algorithm,
    pub impression: String,
    pub recommendation: String,
    pub findings: Vec<Finding>,
    pub looked_for: Vec<String>,
    /// What such an examination is looked through for and nobody has looked for.
    #[serde(default)]
    pub unasked: Vec<String>,
    /// How much of each series was shown to a model.
    #[serde(default)]
    pub looked_at: Vec<LookedAt>,
    /// The earlier readings of the same patient, and what differs.
    #[serde(default)]
    pub compared: Vec<Compared>,
    pub warnings: Vec<String>,
    pub quality: Vec<QualityFlag>,
    pub measurements: Vec<StudyMeasurement>,
    pub excluded: Vec<Excluded>,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Artefact {
    #[serde(flatten)]
    pub row: ArtefactRow,
    /// Where the file is on the node's machine.
    pub path: String,
}

/// Work that is not done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueView {
    pub counts: JobCounts,
    /// The dead first, then those that run, then those that wait.
    pub jobs: Vec<JobRow>,
}

/// All that the store knows about a study; none when it does not know it.
pub fn study(store: &Store, uid: &StudyUid) -> Result<Option<StudyView>, StoreError> {
    let Some(study) = store.study(uid)? else { return Ok(None) };
    let revisions = store.revisions(uid)?;
    let mut artefacts = Vec::new();
    for revision in &revisions {
        for row in store.artefacts(uid, revision.revision)? {
            let path = store.result_path(uid, row.revision, &row.file);
            let path = path.map(|path| path.display().to_string()).unwrap_or_default();
            artefacts.push(Artefact { row, path });
        }
    }
    let reading =
        assessment(store, uid, &revisions)?.map(|assessment| reading(assessment, study.revision));
    let mut jobs = store.jobs()?;
    jobs.retain(|row| row.job.study_uid == *uid);
    Ok(Some(StudyView {
        reading,
        history: store.history(uid)?,
        artefacts,
        objects: objects(store, uid)?,
        deliveries: store.deliveries(uid)?,
        alerts: store.alerts(uid)?,
        comparisons: store.comparisons(uid)?,
        jobs,
        revisions,
        study,
        notice: NOTICE.into(),
    }))
}

/// In the order of arrival of the first of each.
fn objects(store: &Store, uid: &StudyUid) -> Result<Vec<Objects>, StoreError> {
    let origins = origins::of_study(store, uid)?;
    let mut found: Vec<Objects> = Vec::new();
    for row in store.instances(uid)? {
        let receipt = row.receipt;
        let (origin, why, by) = match origins.get(&receipt.sop_instance_uid) {
            None if origins::is_open(&receipt, &origins) => (None, None, String::new()),
            None => (Some(Origin::Image), Some(Why::Acquired), String::new()),
            Some(row) => match &row.decided {
                Some(known) => (Some(known.origin), Some(known.why.clone()), known.by.clone()),
                None => (None, None, String::new()),
            },
        };
        let same = |one: &&mut Objects| {
            one.series_uid == receipt.series_uid
                && one.sop_class_uid == receipt.sop_class_uid
                && (one.origin, &one.why, &one.by) == (origin, &why, &by)
        };
        match found.iter_mut().find(same) {
            Some(known) => known.instances += 1,
            None => found.push(Objects {
                series_uid: receipt.series_uid,
                sop_class_uid: receipt.sop_class_uid,
                sop_instance_uid: receipt.sop_instance_uid,
                instances: 1,
                origin,
                reason: why.as_ref().map(Why::text).unwrap_or_default(),
                why,
                by,
            }),
        }
    }
    Ok(found)
}

/// The assessment of the newest revision that has one.
pub fn assessment(
    store: &Store,
    uid: &StudyUid,
    revisions: &[RevisionRow],
) -> Result<Option<Assessment>, StoreError> {
    let mut newest_first: Vec<u32> = revisions
        .iter()
        .filter(|revision| revision.outcome.is_some())
        .map(|revision| revision.revision)
        .collect();
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    for revision in newest_first {
        if let Some(found) = assessment_of(store, uid, revision)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

pub fn assessment_of(
    store: &Store,
    uid: &StudyUid,
    revision: u32,
) -> Result<Option<Assessment>, StoreError> {
    let Some(bytes) = store.read_result(uid, revision, ASSESSMENT)? else { return Ok(None) };
    let parsed = serde_json::from_slice(&bytes);
    if let Err(error) = &parsed {
        // Only where: a message of serde can quote what it found.
        let (line, column) = (error.line(), error.column());
        tracing::error!(study = %uid, revision, line, column, "an assessment cannot be read");
    }
    Ok(parsed.ok())
}

pub fn reading(assessment: Assessment, newest_revision: u32) -> Reading {
    Reading {
        of_newest_revision: assessment.revision == newest_revision,
        revision: assessment.revision,
        profile: assessment.profile,
        profile_version: assessment.profile_version,
        outcome: assessment.outcome,
        algorithm: assessment.algorithm,
        impression: assessment.impression,
        recommendation: assessment.recommendation,
        findings: assessment.findings,
        looked_for: assessment.looked_for,
        unasked: assessment.unasked,
        looked_at: assessment.looked_at,
        compared: assessment.compared,
        warnings: assessment.warnings,
        quality: assessment.quality,
        measurements: assessment.measurements,
        excluded: assessment.excluded,
        started_at: assessment.started_at,
        finished_at: assessment.finished_at,
    }
}

/// What was asked of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageView {
    pub currency: String,
    pub first: Date,
    pub last: Date,
    pub rows: Vec<UsageRow>,
}

/// The longest span that is summed.
const USAGE_DAYS_MAX: i64 = 3 * 366;

/// At most three years, up to and with `last`.
pub fn usage(
    store: &Store,
    first: Date,
    last: Date,
    currency: &str,
) -> Result<UsageView, StoreError> {
    let earliest = last.saturating_sub(jiff::Span::new().days(USAGE_DAYS_MAX));
    let first = first.max(earliest);
    let rows = store.usage(first, last)?;
    Ok(UsageView { currency: currency.to_owned(), first, last, rows })
}

pub fn queue(store: &Store) -> Result<QueueView, StoreError> {
    let mut jobs = store.jobs()?;
    // Stable: the order of enqueuing stays within each state.
    jobs.sort_by_key(|row| match row.state {
        crate::store::JobState::Dead => 0,
        crate::store::JobState::Running => 1,
        crate::store::JobState::Waiting => 2,
        crate::store::JobState::Done | crate::store::JobState::Dropped => 3,
    });
    Ok(QueueView { counts: store.job_counts(), jobs })
}
