//! Who looked at which study, and who came in: every look is an event in the ledger, there before
//! the look is answered.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::OnceCell;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use crate::domain::clock::Clock;
use crate::domain::uid::StudyUid;
use crate::store::Store;
use crate::store::event::Event;
use crate::web::access::Viewer;

/// A page that refreshes itself is one look. Also what keeps the note of a look, which is a
/// change like any other, from refreshing the page that caused it.
const ONE_LOOK: Duration = Duration::from_secs(600);
const LOOKS_MAX: usize = 8192;
const WAITING_MAX: usize = 1024;
/// A report is not kept from a doctor because the disk that notes it is slow.
const WAIT: Duration = Duration::from_secs(2);

/// Which study, what of it, and who looked.
type Key = (Option<StudyUid>, String, String);

/// One who looks again meanwhile waits for the same note.
struct Look {
    at: Instant,
    noted: Arc<OnceCell<()>>,
}

pub struct Audit {
    store: Store,
    looks: Mutex<HashMap<Key, Look>>,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    clock: Arc<dyn Clock>,
}

impl Audit {
    pub fn new(store: Store, clock: Arc<dyn Clock>, tasks: TaskTracker) -> Audit {
        let places = Arc::new(Semaphore::new(WAITING_MAX));
        Audit { store, looks: Mutex::default(), places, tasks, clock }
    }

    /// Notes that `viewer` looked at `what` of a study.
    pub async fn look(&self, study_uid: Option<&StudyUid>, what: &str, viewer: &Viewer) {
        let noted = self.look_of((study_uid.cloned(), what.to_owned(), viewer.name.clone()));
        let note = || async {
            self.in_ledger(study_uid, what, &viewer.name).await.then_some(()).ok_or(())
        };
        // Whoever waits behind others does not wait longer; what failed is tried at the next look.
        let _ = tokio::time::timeout(WAIT, noted.get_or_try_init(note)).await;
    }

    /// Notes what somebody did, each time.
    pub async fn note(&self, study_uid: Option<&StudyUid>, what: &str, by: &str) {
        self.in_ledger(study_uid, what, by).await;
    }

    /// Whether it stands in the ledger. It will also where the one who asked has gone, or waited
    /// long enough.
    async fn in_ledger(&self, study_uid: Option<&StudyUid>, what: &str, by: &str) -> bool {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            lost("too much waits for the ledger");
            return false;
        };
        let (study_uid, what, by) = (study_uid.cloned(), what.to_owned(), by.to_owned());
        let event = Event::Accessed { study_uid, what, by, at: self.clock.now() };
        let store = self.store.clone();
        let noting = self.tasks.spawn(async move {
            let noted = store.commit(vec![event]).await;
            drop(place);
            noted.inspect_err(|error| lost(&error.to_string())).is_ok()
        });
        match tokio::time::timeout(WAIT, noting).await {
            Ok(noted) => noted.unwrap_or(false),
            Err(_) => {
                tracing::warn!("the ledger is slow: somebody looks before it is noted");
                false
            }
        }
    }

    fn look_of(&self, key: Key) -> Arc<OnceCell<()>> {
        let now = Instant::now();
        let is_same = |look: &Look| now.duration_since(look.at) < ONE_LOOK;
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = looks.get(&key).filter(|look| is_same(look)) {
            return Arc::clone(&look.noted);
        }
        if looks.len() >= LOOKS_MAX {
            looks.retain(|_, look| is_same(look));
            if looks.len() >= LOOKS_MAX {
                looks.clear();
            }
        }
        let noted = Arc::default();
        looks.insert(key, Look { at: now, noted: Arc::clone(&noted) });
        noted
    }
}

fn lost(why: &str) {
    tracing::error!(why, "a look at patient data could not be noted in the ledger");
    metrics::counter!("prelim_audit_lost_total").increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemClock;
    use crate::store::AuditQuery;
    use crate::store::testing;

    fn rows(store: &Store) -> usize {
        store.audit(&AuditQuery { limit: 100, ..AuditQuery::default() }).unwrap().rows.len()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_look_stands_in_the_ledger_before_it_is_answered() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        let audit = Audit::new(store.clone(), Arc::new(SystemClock), TaskTracker::new());
        let (uid, viewer) = (testing::study(1), Viewer::new("a radiologist".to_owned(), &[]));
        for number in 1..=20 {
            audit.look(Some(&uid), &format!("page {number}"), &viewer).await;
            assert_eq!(rows(&store), number);
        }
        let images = || audit.look(Some(&uid), "images", &viewer);
        tokio::join!(images(), images(), images());
        assert_eq!(rows(&store), 21, "who looks at the same at the same time looks once");
        audit.note(None, "login", "a radiologist").await;
        audit.note(None, "login", "a radiologist").await;
        assert_eq!(rows(&store), 23);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_done_by_one_who_goes_at_once_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        let tasks = TaskTracker::new();
        let audit = Audit::new(store.clone(), Arc::new(SystemClock), tasks.clone());
        let gone = tokio::time::timeout(Duration::ZERO, audit.note(None, "login refused", "x"));
        let _ = gone.await;
        tasks.close();
        tasks.wait().await;
        assert_eq!(rows(&store), 1);
    }
}
