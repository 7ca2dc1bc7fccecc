//! Watches who sends: a source that usually sends by now and does not is told in log, metric and
//! page until it sends again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::analysis::provider::Provider as _;
use crate::assemble::silence;
use crate::assemble::silence::Seen;
use crate::pipeline::alerting;
use crate::pipeline::way::Kit;
use crate::store::Lane;
use crate::store::StoreError;

const LOOK: Duration = Duration::from_secs(5);
/// What comes over HTTP comes when a person wants it.
const NOT_WATCHED: [&str; 2] = ["UPLOAD", "STOW"];

/// What an operator should know now, for the head of the pages.
#[derive(Debug, Default)]
pub struct Attention {
    /// By AE title.
    sources: Mutex<BTreeMap<String, String>>,
    /// Of alerts that nobody answers.
    alerts: Mutex<Option<String>>,
    /// By who says it.
    others: Mutex<BTreeMap<&'static str, Vec<String>>>,
}

impl Attention {
    pub fn lines(&self) -> Vec<String> {
        let alerts = self.alerts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let others = others.values().flatten().cloned();
        alerts.into_iter().chain(sources.values().cloned()).chain(others).collect()
    }

    /// Sources that are silent for longer than is expected of them, by AE title.
    pub fn missed(&self) -> Vec<String> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }

    /// What `who` has to say from now on, in place of what it said before.
    pub fn say(&self, who: &'static str, lines: Vec<String>) {
        self.others.lock().unwrap_or_else(PoisonError::into_inner).insert(who, lines);
    }
}

pub async fn run_until_stopped(kit: Arc<Kit>, stop: CancellationToken) {
    let started_at = kit.clock.now();
    loop {
        match look(&kit, started_at) {
            Ok(()) | Err(StoreError::Remaking { .. }) => {}
            Err(error) => tracing::error!(%error, "the sources cannot be watched now"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => (),
        }
    }
}

fn look(kit: &Kit, started_at: Timestamp) -> Result<(), StoreError> {
    let config = &kit.assemble.silence;
    let open = kit.store.open_revisions()?;
    let mut found = BTreeMap::new();
    let mut judge = |ae: &str, seen: Seen<'_>| {
        let newest = open.iter().filter(|open| open.calling_ae == ae);
        let last_at = newest.map(|open| open.last_received_at).fold(seen.last_at, Timestamp::max);
        let seen = Seen { last_at, ..seen };
        let zone = &kit.equipment.time_zone;
        if let Some(told) = silence::silent(ae, seen, kit.clock.now(), zone, config) {
            found.insert(ae.to_owned(), told);
        }
    };
    let sources = kit.store.sources()?;
    for source in &sources {
        if !NOT_WATCHED.contains(&source.calling_ae.as_str()) {
            let (first_at, last_at) = (source.first_at, source.last_at);
            let seen = Seen { active_hours: &source.active_hours, first_at, last_at };
            judge(&source.calling_ae, seen);
        }
    }
    // Named in the settings and never heard of: silent since the start.
    for named in config.sources.values().map(|source| source.ae_title.as_str()) {
        if !sources.iter().any(|source| source.calling_ae == named) {
            let (first_at, last_at) = (started_at, started_at);
            judge(named, Seen { active_hours: &[], first_at, last_at });
        }
    }
    tell(kit, found);
    watch_gateways(kit);
    watch_alerts(kit)
}

/// Which gateways hold up readings, and why. What waits for one that answers again is tried now.
fn watch_gateways(kit: &Kit) {
    let held_up = kit.store.held_up_counts();
    let line = |(name, (count, next)): (&String, &(usize, Timestamp))| {
        let gateway = kit.providers.get(name)?;
        if gateway.answers() {
            kit.store.hurry(&Lane::Gateway(name.clone()));
            return None;
        }
        let why = gateway.view().problem.unwrap_or_else(|| format!("{name} has not answered yet"));
        let next = next.to_zoned(kit.equipment.time_zone.clone()).strftime("%H:%M:%S");
        let readings = if *count == 1 { "reading waits" } else { "readings wait" };
        Some(format!("{count} {readings} for the gateway {name}: {why}; next try at {next}"))
    };
    let mut lines: Vec<String> = held_up.iter().filter_map(line).collect();
    let idle = kit.providers.values().filter(|gateway| !held_up.contains_key(gateway.name()));
    lines.extend(idle.filter_map(|gateway| {
        let view = gateway.view();
        let after = view.latency_ms.map(|ms| format!(" (last asked: after {ms} ms)"));
        let why = view.problem.or(view.rests)?;
        Some(format!("the gateway {}: {why}{}", view.name, after.unwrap_or_default()))
    }));
    for name in kit.providers.keys() {
        let count = held_up.get(name).map_or(0, |(count, _)| *count);
        metrics::gauge!("prelim_readings_held_up", "gateway" => name.clone()).set(count as f64);
    }
    kit.attention.say("gateways", lines);
}

/// How many alerts wait for an answer, and since when.
fn watch_alerts(kit: &Kit) -> Result<(), StoreError> {
    let (rows, now) = (alerting::unanswered(&kit.store)?, kit.clock.now());
    let oldest = rows.iter().map(|row| row.raised_at).min();
    let age_s = oldest.map_or(0.0, |raised| now.duration_since(raised).as_secs_f64().max(0.0));
    metrics::gauge!("prelim_alerts_unanswered").set(rows.len() as f64);
    metrics::gauge!("prelim_alert_oldest_seconds").set(age_s);
    let found = alerting::attention(&rows, now);
    *kit.attention.alerts.lock().unwrap_or_else(PoisonError::into_inner) = found;
    Ok(())
}

fn tell(kit: &Kit, found: BTreeMap<String, String>) {
    let mut known = kit.attention.sources.lock().unwrap_or_else(PoisonError::into_inner);
    for (ae, told) in found.iter().filter(|(ae, _)| !known.contains_key(*ae)) {
        tracing::warn!(source = ae, "{told}");
        metrics::gauge!("prelim_source_silent", "source" => ae.clone()).set(1.0);
        metrics::counter!("prelim_source_silences_total").increment(1);
    }
    for ae in known.keys().filter(|ae| !found.contains_key(*ae)) {
        tracing::info!(source = ae, "sends again, or is not expected to now");
        metrics::gauge!("prelim_source_silent", "source" => ae.clone()).set(0.0);
    }
    *known = found;
}
