//! Canaries at work: who reads a study, what the candidate did, and where it goes from there.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::canary::Canary;
use crate::analysis::canary::Window;
use crate::domain::call::Call;
use crate::domain::canary::Phase;
use crate::domain::uid::StudyUid;
use crate::pipeline::way::Kit;
use crate::store::CanaryRow;
use crate::store::StoreError;
use crate::store::event::Event;

/// What the candidates did since the node has started, each with the beginning of its phase.
#[derive(Debug, Default)]
pub struct Canaries(Mutex<BTreeMap<String, (Timestamp, Window)>>);

impl Canaries {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Timestamp, Window)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened in the phase that began then; a new phase begins with nothing.
    fn window<T>(&self, name: &str, since: Timestamp, with: impl FnOnce(&mut Window) -> T) -> T {
        let mut all = self.lock();
        let entry = all.entry(name.to_owned()).or_default();
        if entry.0 != since {
            *entry = (since, Window::default());
        }
        with(&mut entry.1)
    }
}

/// A canary as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryView {
    pub name: String,
    pub of: String,
    pub candidate: String,
    pub phase: Phase,
    pub since: Timestamp,
    /// Why it is there, and by whose word.
    pub why: String,
    /// Of the candidate in this phase, since the node has started.
    pub calls: usize,
    pub failed: usize,
    pub p99_ms: u64,
    pub compared: usize,
    /// Share of the compared studies that it read differently.
    pub difference: f64,
    pub is_different: bool,
}

/// The row of a canary; none while it was not begun, or with another candidate.
fn row(kit: &Kit, name: &str, canary: &Canary) -> Result<Option<CanaryRow>, StoreError> {
    Ok(kit.store.canary(name)?.filter(|row| row.candidate == canary.candidate))
}

/// Who takes a study in place of this gateway, and who only sees it.
#[derive(Debug, Default, PartialEq)]
pub struct Turn {
    pub reads: Option<String>,
    pub mirrors: Vec<String>,
}

/// - `modality`: of the study; a candidate that may not see it takes no part.
pub async fn turn(
    kit: &Kit,
    of: &str,
    modality: &str,
    study: &StudyUid,
) -> Result<Turn, StoreError> {
    let mut turn = Turn::default();
    for (name, canary) in kit.analysis.canaries.iter().filter(|(_, canary)| canary.of == of) {
        if row(kit, name, canary)?.is_none() {
            moved(kit, name, canary, Phase::Stage { number: 0 }, "begun", "prelim").await?;
        }
        step(kit, name, canary).await?;
        let Some(row) = row(kit, name, canary)? else { continue };
        let may_see = kit.analysis.gateways.get(&canary.candidate);
        if !may_see.is_some_and(|gateway| gateway.may_see(modality)) {
            continue;
        }
        if turn.reads.is_none() && canary.takes(name, study, &row.phase) {
            turn.reads = Some(canary.candidate.clone());
        } else if canary.mirror && matches!(row.phase, Phase::Stage { .. }) {
            turn.mirrors.push(canary.candidate.clone());
        }
    }
    Ok(turn)
}

/// Takes down a call of a candidate.
pub async fn called(kit: &Kit, call: &Call) -> Result<(), StoreError> {
    let of_it = |(_, canary): &(&String, &Canary)| canary.candidate == call.gateway;
    for (name, canary) in kit.analysis.canaries.iter().filter(of_it) {
        let Some(row) = row(kit, name, canary)? else { continue };
        kit.canaries.window(name, row.since, |w| w.called(call.latency_ms, call.is_failed()));
        step(kit, name, canary).await?;
    }
    Ok(())
}

/// Takes down whether a study that only was shown to it was read differently.
pub fn compared(kit: &Kit, gateway: &str, differs: bool) -> Result<(), StoreError> {
    let of_it = |(_, canary): &(&String, &Canary)| canary.mirror && canary.candidate == gateway;
    for (name, canary) in kit.analysis.canaries.iter().filter(of_it) {
        let Some(row) = row(kit, name, canary)? else { continue };
        let (before, after, share) = kit.canaries.window(name, row.since, |window| {
            let before = window.is_different(canary);
            window.compared(differs);
            (before, window.is_different(canary), window.difference().0)
        });
        metrics::gauge!("prelim_canary_difference_ratio", "canary" => name.clone()).set(share);
        if after && !before {
            let percent = (share * 100.0) as u64;
            tracing::error!(canary = name, percent, "the candidate reads too much differently");
        }
    }
    Ok(())
}

/// Goes on or back, when it is time.
async fn step(kit: &Kit, name: &str, canary: &Canary) -> Result<(), StoreError> {
    let Some(row) = row(kit, name, canary)? else { return Ok(()) };
    let window = kit.canaries.window(name, row.since, |window| window.clone());
    match canary.next(&row.phase, row.since, &window, kit.clock.now()) {
        Some((phase, why)) => moved(kit, name, canary, phase, &why, "prelim").await,
        None => Ok(()),
    }
}

async fn moved(
    kit: &Kit,
    name: &str,
    canary: &Canary,
    phase: Phase,
    why: &str,
    by: &str,
) -> Result<(), StoreError> {
    match phase {
        Phase::RolledBack => tracing::error!(canary = name, why, "the candidate is rolled back"),
        Phase::Stage { .. } | Phase::Promoted => {
            tracing::info!(canary = name, %phase, why, "the candidate goes on");
        }
    }
    let event = Event::CanaryMoved {
        canary: name.to_owned(),
        candidate: canary.candidate.clone(),
        phase,
        why: why.to_owned(),
        by: by.to_owned(),
        at: kit.clock.now(),
    };
    kit.store.commit(vec![event]).await
}

pub fn views(kit: &Kit) -> Result<Vec<CanaryView>, StoreError> {
    let mut views = Vec::new();
    for (name, canary) in &kit.analysis.canaries {
        let row = row(kit, name, canary)?;
        let since = row.as_ref().map_or(Timestamp::UNIX_EPOCH, |row| row.since);
        let window = kit.canaries.window(name, since, |window| window.clone());
        let (difference, compared) = window.difference();
        views.push(CanaryView {
            name: name.clone(),
            of: canary.of.clone(),
            candidate: canary.candidate.clone(),
            since,
            why: row.as_ref().map_or("it begins with the first study".to_owned(), |row| {
                format!("{} ({})", row.why, row.by)
            }),
            phase: row.map_or(Phase::Stage { number: 0 }, |row| row.phase),
            calls: window.calls(),
            failed: window.failed(),
            p99_ms: window.p99_ms(),
            compared,
            difference,
            is_different: window.is_different(canary),
        });
    }
    Ok(views)
}

/// What an operator should know.
pub fn notes(kit: &Kit) -> Vec<String> {
    let views = views(kit).unwrap_or_default().into_iter();
    let note = |view: CanaryView| match view.phase {
        Phase::RolledBack => Some(format!("canary {} is rolled back: {}", view.name, view.why)),
        Phase::Stage { .. } | Phase::Promoted if view.is_different => Some(format!(
            "canary {}: {} reads {:.0} % of {} studies differently",
            view.name,
            view.candidate,
            view.difference * 100.0,
            view.compared
        )),
        Phase::Stage { .. } | Phase::Promoted => None,
    };
    views.filter_map(note).collect()
}
