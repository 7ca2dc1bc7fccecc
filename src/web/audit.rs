//! Who looked at which study, and who came in: every look is an event in the ledger.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::clock::Clock;
use crate::domain::uid::StudyUid;
use crate::store::Store;
use crate::store::event::Event;
use crate::web::WebState;
use crate::web::access::Viewer;

/// A page that refreshes itself is one look. Also what keeps the note of a look, which is a
/// change like any other, from refreshing the page that caused it.
const ONE_LOOK: Duration = Duration::from_secs(600);
const LOOKS_MAX: usize = 8192;
const WAITING_MAX: usize = 1024;
/// A report is not kept from a doctor because the disk that notes it is slow.
const WAIT: Duration = Duration::from_secs(2);

/// Which study, what of it, and who looked.
type Look = (Option<StudyUid>, String, String);

pub struct Audit {
    to_ledger: mpsc::Sender<Event>,
    looks: Mutex<HashMap<Look, Instant>>,
    clock: Arc<dyn Clock>,
}

pub fn start(node: &WebState, stop: &CancellationToken, tasks: &TaskTracker) -> Audit {
    let (to_ledger, events) = mpsc::channel(WAITING_MAX);
    tasks.spawn(write(node.store.clone(), events, stop.clone()));
    Audit { to_ledger, looks: Mutex::default(), clock: Arc::clone(&node.clock) }
}

/// Commits what waits in one record, until the node stops and nothing waits.
async fn write(store: Store, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        let taken = tokio::select! {
            biased;
            taken = events.recv_many(&mut batch, 64) => taken,
            () = stop.cancelled() => 0,
        };
        if taken == 0 {
            return;
        }
        let lost = batch.len();
        if let Err(error) = store.commit(std::mem::take(&mut batch)).await {
            tracing::error!(%error, lost, "looks at patient data could not be noted in the ledger");
            metrics::counter!("prelim_audit_lost_total").increment(lost as u64);
        }
    }
}

impl Audit {
    /// Notes that `viewer` looked at `what` of a study.
    pub async fn look(&self, study_uid: Option<&StudyUid>, what: &str, viewer: &Viewer) {
        let key = (study_uid.cloned(), what.to_owned(), viewer.name.clone());
        if self.is_known(key) {
            return;
        }
        self.note(study_uid, what, &viewer.name).await;
    }

    /// Notes what somebody did, each time.
    pub async fn note(&self, study_uid: Option<&StudyUid>, what: &str, by: &str) {
        let event = Event::Accessed {
            study_uid: study_uid.cloned(),
            what: what.to_owned(),
            by: by.to_owned(),
            at: self.clock.now(),
        };
        if self.to_ledger.send_timeout(event, WAIT).await.is_err() {
            tracing::error!(what, "this could not be noted: the ledger is too slow");
            metrics::counter!("prelim_audit_lost_total").increment(1);
        }
    }

    fn is_known(&self, key: (Option<StudyUid>, String, String)) -> bool {
        let now = Instant::now();
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.get(&key).is_some_and(|at| now.duration_since(*at) < ONE_LOOK) {
            return true;
        }
        if looks.len() >= LOOKS_MAX {
            looks.retain(|_, at| now.duration_since(*at) < ONE_LOOK);
            if looks.len() >= LOOKS_MAX {
                looks.clear();
            }
        }
        looks.insert(key, now);
        false
    }
}
