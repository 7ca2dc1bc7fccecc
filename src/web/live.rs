//! Tells an open page that what it shows has changed (server-sent events).

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderName;
use axum::response::IntoResponse as _;
use axum::response::Response;
use axum::response::sse;
use axum::response::sse::Sse;
use serde::Deserialize;
use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::text;
use crate::domain::uid::StudyUid;
use crate::web::Shared;
use crate::web::Web;
use crate::web::inspect;
use crate::web::problem::Failure;

/// Changes within this time are told as one.
const PAUSE: Duration = Duration::from_secs(1);

/// nginx, and what takes after it, would otherwise gather events until a buffer is full.
const UNBUFFERED: (HeaderName, &str) = (HeaderName::from_static("x-accel-buffering"), "no");

#[derive(Deserialize)]
pub struct Watched {
    /// One study, else the lists.
    study: Option<String>,
}

pub async fn events(
    State(web): State<Web>,
    Query(watched): Query<Watched>,
) -> Result<Response, Failure> {
    let study = match watched.study.as_deref().map(StudyUid::parse).transpose() {
        Ok(study) => study,
        Err(_) => return Err(Failure::bad_request("That is no Study Instance UID.")),
    };
    let Ok(place) = std::sync::Arc::clone(&web.watchers).try_acquire_owned() else {
        return Err(Failure::busy("Too many pages watch for changes.", 60));
    };
    let ticks = web.node.store.changed();
    let start = (web, study, ticks, String::new(), place);
    let stream = futures_util::stream::unfold(start, |state| async {
        let (web, study, mut ticks, last, place) = state;
        loop {
            ticks.mark_unchanged();
            let of = study.clone();
            let version = web.read(move |web| version(web, of.as_ref())).await.ok()?;
            if version != last {
                let event = sse::Event::default().event("version").data(&version);
                return Some((Ok::<_, Infallible>(event), (web, study, ticks, version, place)));
            }
            tokio::select! {
                changed = ticks.changed() => changed.ok()?,
                () = web.stop.cancelled() => return None,
            }
            tokio::time::sleep(PAUSE).await;
        }
    });
    let told = Sse::new(stream).keep_alive(sse::KeepAlive::default());
    Ok(([UNBUFFERED], told).into_response())
}

/// A value that differs when the page does. Not every commit changes a page: that someone looked
/// at it does not.
pub fn version(web: &Shared, study: Option<&StudyUid>) -> Result<String, Failure> {
    let store = &web.node.store;
    let json = match study {
        Some(uid) => {
            let parts = (
                store.study(uid)?.map(|row| (row.revision, row.state, row.instances, row.outcome)),
                store.revisions(uid)?,
                store.deliveries(uid)?,
                store.alerts(uid)?,
            );
            serde_json::to_vec(&parts)
        }
        None => {
            let mut rows = store.studies(web.node.config.worklist_max)?;
            rows.iter_mut().for_each(|row| row.order = 0);
            rows.sort_by(|a, b| a.study_uid.cmp(&b.study_uid));
            let jobs = inspect::queue(store)?.jobs;
            let jobs: Vec<_> = jobs.into_iter().map(|row| (row.job.id, row.state)).collect();
            serde_json::to_vec(&(rows, jobs))
        }
    };
    let json = json.map_err(|_| Failure::internal("the version of a page"))?;
    let digest = Sha256::digest(json);
    Ok(text::hex(&digest[..8]))
}
