//! Agreement with doctors, drift and the disagreement of models, out of what the store knows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::analysis::agreement;
use crate::analysis::agreement::By;
use crate::analysis::agreement::Drift;
use crate::analysis::agreement::Line;
use crate::analysis::agreement::Observation;
use crate::analysis::agreement::Read;
use crate::analysis::agreement::Share;
use crate::analysis::agreement::Week;
use crate::analysis::codes;
use crate::domain::alert::Kind;
use crate::domain::uid::StudyUid;
use crate::pipeline::way::Kit;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::StudyRow;

/// Between two looks for drift.
const LOOK: Duration = Duration::from_secs(3600);
/// For which the precision of alerts is measured.
const ALERT_DAYS: u32 = 90;
const DAY_S: i64 = 86_400;
pub const NOTICE: &str = "Against what doctors said of findings, and their final reports. Where a report has no code, its \
English words are matched: an estimate. What a report does not mention counts as absent.";

/// Agreement and drift, for people and programs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Statistics {
    /// What a line's group is made of.
    pub by: Vec<By>,
    pub lines: Vec<Line>,
    /// Of the alerts about findings of which doctors or final reports say anything.
    #[serde(default)]
    pub alert_precision: Option<Share>,
    /// The last week against the eight before.
    pub drift: Vec<Drift>,
    pub weeks: Vec<Week>,
    pub notice: String,
}

/// - `days`: how far back; agreement by when it was said, weeks by when the study came.
pub fn statistics(
    store: &Store,
    by: &[By],
    days: u32,
    now: Timestamp,
) -> Result<Statistics, StoreError> {
    let since = back(now, i64::from(days));
    let comparisons = store.all_comparisons()?;
    let recent = comparisons.iter().filter(|row| row.at >= since);
    let observed =
        agreement::observations(recent.map(|row| (&row.study_uid, row.at, &row.comparison)));
    let studies =
        read_since(store, since.min(back(now, agreement::WEEK_DAYS + agreement::BEFORE_DAYS)))?;
    let reads = reads(&studies);
    let in_time: Vec<Read<'_>> = reads.iter().filter(|read| read.at >= since).cloned().collect();
    Ok(Statistics {
        by: by.to_vec(),
        lines: agreement::table(&observed, by),
        alert_precision: alert_precision(store, &observed)?,
        drift: agreement::drift(&reads, now),
        weeks: agreement::weeks(&in_time),
        notice: NOTICE.to_owned(),
    })
}

fn alert_precision(
    store: &Store,
    observed: &[Observation<'_>],
) -> Result<Option<Share>, StoreError> {
    let studies: BTreeSet<&str> = observed.iter().map(|one| one.study).collect();
    let mut alerts = Vec::new();
    for study in studies {
        let Ok(uid) = StudyUid::parse(study) else { continue };
        let rows = store.alerts(&uid)?.into_iter().filter(|row| row.kind == Kind::Finding);
        alerts.extend(rows.map(|row| (study, row.told)));
    }
    let told = alerts.iter().map(|(study, told)| (*study, told.as_slice()));
    Ok(agreement::alert_precision(told, observed))
}

fn back(now: Timestamp, days: i64) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(days * DAY_S)).unwrap_or(Timestamp::MIN)
}

/// Studies that a model has read.
fn read_since(store: &Store, since: Timestamp) -> Result<Vec<StudyRow>, StoreError> {
    let is_read = |row: &StudyRow| row.outcome.as_deref() == Some("read");
    let mut rows = store.studies_that(|row| row.first_received_at >= since && is_read(row))?;
    // Other names are a model's own words, each a name of its own.
    let known: BTreeSet<&str> =
        codes::rows().iter().map(|row| row.concept.meaning.as_str()).collect();
    rows.iter_mut().for_each(|row| row.findings.retain(|name| known.contains(name.as_str())));
    Ok(rows)
}

fn reads(rows: &[StudyRow]) -> Vec<Read<'_>> {
    let rows = rows.iter().map(|row| Read {
        at: row.first_received_at,
        examination: &row.examination,
        findings: &row.findings,
        models_differ: row.models_differ,
    });
    rows.collect()
}

/// Tells what drifts, in log and metric, until the node stops.
pub async fn watch_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let mut told = BTreeSet::new();
    loop {
        match look(&kit) {
            Ok(found) => tell(&found, &mut told),
            Err(StoreError::Remaking { .. }) => {}
            Err(error) => tracing::error!(%error, "drift cannot be looked for now"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => (),
        }
    }
}

/// What drifts. Sets how right alerts were of late.
fn look(kit: &Kit) -> Result<Vec<Drift>, StoreError> {
    let found = statistics(&kit.store, &[By::Finding], ALERT_DAYS, kit.clock.now())?;
    if let Some(precision) = found.alert_precision {
        metrics::gauge!("prelim_alert_precision").set(precision.value);
        metrics::gauge!("prelim_alerts_judged").set(f64::from(precision.of));
    }
    Ok(found.drift.into_iter().filter(|line| line.alarm).collect())
}

/// - `told`: what was told before; what has ended may be told again.
fn tell(found: &[Drift], told: &mut BTreeSet<(String, String)>) {
    metrics::gauge!("prelim_drift_alarms").set(found.len() as f64);
    let now: BTreeSet<(String, String)> =
        found.iter().map(|line| (line.examination.clone(), line.finding.clone())).collect();
    for line in found {
        if told.contains(&(line.examination.clone(), line.finding.clone())) {
            continue;
        }
        let percent = |share: Option<Share>| share.map_or(0.0, |s| s.value * 100.0).round();
        tracing::warn!(
            examination = line.examination,
            finding = line.finding,
            week_percent = percent(line.week),
            before_percent = percent(line.before),
            "it is found more or less often than in the weeks before: see prelim agreement"
        );
    }
    *told = now;
}
