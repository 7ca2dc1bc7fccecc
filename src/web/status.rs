//! For the machine that watches the machine.

use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Response;
use serde::Serialize;

use crate::store::HealthState;
use crate::web::Shared;
use crate::web::Web;
use crate::web::problem::Failure;

/// Asked without a token, and each time it writes to the disk: at most this often.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(2);
/// A disk that has not answered by then is not ready, whoever asks.
const LOOK_MAX: Duration = Duration::from_secs(4);

/// The last look at the node, and the one that is under way.
pub struct HealthCache {
    looks: Mutex<Looks>,
    ended: Condvar,
    wait_max: Duration,
}

#[derive(Default)]
struct Looks {
    last: Option<(Instant, Ready)>,
    begun: Option<Instant>,
}

impl Default for HealthCache {
    fn default() -> HealthCache {
        HealthCache { looks: Mutex::default(), ended: Condvar::new(), wait_max: LOOK_MAX }
    }
}

impl HealthCache {
    /// What the last look found, or one that is begun now. Those who ask meanwhile wait for the same
    /// one, and none for longer than the limit: what does not answer is not ready.
    ///
    /// - `look`: blocking; has a thread of its own.
    fn ask(self: &Arc<Self>, look: impl FnOnce() -> Ready + Send + 'static) -> Ready {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, ready)) = &looks.last
            && at.elapsed() < HEALTH_AGE_MAX
        {
            return ready.clone();
        }
        let begun = *looks.begun.get_or_insert_with(|| {
            let cache = Arc::clone(self);
            std::thread::spawn(move || cache.end(look()));
            Instant::now()
        });
        let left = self.wait_max.saturating_sub(begun.elapsed());
        let under_way = |looks: &mut Looks| looks.begun == Some(begun);
        let waited = self.ended.wait_timeout_while(looks, left, under_way);
        let (looks, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        match &looks.last {
            Some((_, ready)) if !waited.timed_out() => ready.clone(),
            _ => {
                let since_s = begun.elapsed().as_secs();
                let why = format!("the data folder takes no write and read: for {since_s} s now");
                Ready { ready: false, reasons: vec![why] }
            }
        }
    }

    fn end(&self, ready: Ready) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        *looks = Looks { last: Some((Instant::now(), ready)), begun: None };
        drop(looks);
        self.ended.notify_all();
    }
}

#[derive(Clone, Serialize)]
pub struct Ready {
    ready: bool,
    /// Why not, or what an operator should know although it is.
    reasons: Vec<String>,
}

/// Dead is what only a restart helps.
pub async fn alive(State(web): State<Web>) -> (StatusCode, &'static str) {
    match web.node.store.is_stuck() {
        false => (StatusCode::OK, "alive\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "the data folder has to be opened anew\n"),
    }
}

pub async fn ready(State(web): State<Web>) -> Result<Response, Failure> {
    let ready = web.read(|web| Ok(look(web))).await?;
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(ready)).into_response())
}

/// A real write and read in the data folder, and the word of the rest of the node. Blocking, for
/// [`LOOK_MAX`] at most.
pub fn look(web: &Shared) -> Ready {
    let node = &web.node;
    let (store, not_ready, notes) =
        (node.store.clone(), Arc::clone(&node.not_ready), Arc::clone(&node.notes));
    web.health.ask(move || {
        let health = store.health();
        let mut reasons = not_ready();
        let failing = match health.state {
            HealthState::Ok | HealthState::Degraded => false,
            HealthState::Failing => true,
        };
        let ready = reasons.is_empty() && !failing;
        reasons.extend(health.reasons);
        reasons.extend(notes());
        Ready { ready, reasons }
    })
}

impl Ready {
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// For the head of the pages.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

pub async fn metrics(State(web): State<Web>) -> Result<Response, Failure> {
    let counts = web.node.store.job_counts();
    for (state, count) in
        [("waiting", counts.waiting), ("running", counts.running), ("dead", counts.dead)]
    {
        metrics::gauge!("prelim_jobs", "state" => state).set(count as f64);
    }
    let oldest = counts
        .oldest_due
        .map_or(0.0, |due| web.node.clock.now().duration_since(due).as_secs_f64().max(0.0));
    metrics::gauge!("prelim_jobs_oldest_overdue_seconds").set(oldest);
    let text = web
        .read(|web| {
            let (done, total) = web.node.store.remaking().unwrap_or((0, 0));
            metrics::gauge!("prelim_index_ready").set(if total == 0 { 1.0 } else { 0.0 });
            let (damage, gaps) = (web.node.store.ledger_damage(), web.node.store.gaps());
            metrics::gauge!("prelim_ledger_damage").set(damage as f64);
            metrics::gauge!("prelim_data_gaps").set(gaps as f64);
            metrics::gauge!("prelim_instances_unfiled").set(web.node.store.unfiled() as f64);
            metrics::gauge!("prelim_index_records_to_do").set((total - done.min(total)) as f64);
            if let Ok(free) = web.node.store.free_bytes() {
                metrics::gauge!("prelim_data_free_bytes").set(free as f64);
            }
            web.node.metrics.run_upkeep();
            Ok(web.node.metrics.render())
        })
        .await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk that hangs: everyone hears in time, one look alone waits for it, and when it answers
    /// so does the node.
    #[test]
    fn a_look_that_does_not_end_is_not_ready_and_is_not_begun_again() {
        let wait_max = Duration::from_millis(50);
        let cache = Arc::new(HealthCache { wait_max, ..HealthCache::default() });
        let (release, held) = std::sync::mpsc::channel::<()>();
        let fine = || Ready { ready: true, reasons: Vec::new() };
        let hanging = cache.ask(move || {
            held.recv().unwrap();
            fine()
        });
        assert!(!hanging.ready && hanging.reasons[0].contains("no write and read"));
        let meanwhile = cache.ask(|| panic!("a second look was begun"));
        assert!(!meanwhile.ready);
        release.send(()).unwrap();
        let begun = Instant::now();
        while !cache.ask(|| panic!("a second look was begun")).ready {
            assert!(begun.elapsed() < Duration::from_secs(10));
        }
    }
}
