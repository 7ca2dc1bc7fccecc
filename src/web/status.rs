//! For the machine that watches the machine.

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

#[derive(Default)]
pub struct HealthCache(Mutex<Option<(Instant, Ready)>>);

#[derive(Clone, Serialize)]
pub struct Ready {
    ready: bool,
    /// Why not, or what an operator should know although it is.
    reasons: Vec<String>,
}

pub async fn alive() -> &'static str {
    "alive\n"
}

pub async fn ready(State(web): State<Web>) -> Result<Response, Failure> {
    let ready = web.read(|web| Ok(look(web))).await?;
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(ready)).into_response())
}

/// A real write and read in the data folder, and the word of the rest of the node.
pub fn look(web: &Shared) -> Ready {
    // Held while it writes: those who ask meanwhile wait for the one answer.
    let mut cache = web.health.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((at, ready)) = cache.as_ref()
        && at.elapsed() < HEALTH_AGE_MAX
    {
        return ready.clone();
    }
    let health = web.node.store.health();
    let mut reasons = (web.node.not_ready)();
    let failing = match health.state {
        HealthState::Ok | HealthState::Degraded => false,
        HealthState::Failing => true,
    };
    let ready = reasons.is_empty() && !failing;
    reasons.extend(health.reasons);
    reasons.extend((web.node.notes)());
    let ready = Ready { ready, reasons };
    *cache = Some((Instant::now(), ready.clone()));
    ready
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
