//! What may go: the objects of studies that are done, later all that is known of them.
//!
//! Nothing goes that is not delivered. What goes is an event first, so that a check of the folder
//! knows; then the files, slowly. What a kill leaves of them is removed by the next start.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::alert::Standing;
use crate::domain::uid::StudyUid;
use crate::store::commit::Shared;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::StudyState;
use crate::store::folder;
use crate::store::key;
use crate::store::objects;
use crate::store::open;
use crate::store::open::Enter;
use crate::store::rows::AlertRow;
use crate::store::rows::AlertSending;
use crate::store::rows::DeferredRow;
use crate::store::rows::DeliveryRow;
use crate::store::rows::DeliveryState;
use crate::store::rows::GoingRow;
use crate::store::rows::StudyRow;
use crate::store::view::View;

/// Studies that stay, listed one by one; more are only counted.
const KEPT_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Days after the last change of a study that is done after which its objects go. 0: never.
    pub keep_days: u64,
    /// Bytes that all objects may take; above, the studies that are done for longest go. 0: any.
    pub objects_bytes_max: u64,
    /// The same as a part of the disk. 0: any; the smaller of the two counts.
    pub objects_percent_max: f64,
    /// States of the newest revision in which a study counts as done.
    pub states: Vec<StudyState>,
    /// Days after the last change after which results, history and the entry in the list go too;
    /// the ledger keeps what happened. 0: never.
    pub results_keep_days: u64,
    /// Files removed in a second.
    pub files_per_second: u64,
    /// Minutes between two looks.
    pub every_minutes: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            keep_days: 0,
            objects_bytes_max: 0,
            objects_percent_max: 0.0,
            states: vec![StudyState::Delivered],
            results_keep_days: 0,
            files_per_second: 100,
            every_minutes: 60,
        }
    }
}

impl Config {
    pub fn is_on(&self) -> bool {
        self.keep_days > 0
            || self.objects_bytes_max > 0
            || self.objects_percent_max > 0.0
            || self.results_keep_days > 0
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let mut range = |key: &str, found: u64, from: u64, to: u64, usual: u64, why: &str| {
            if !(from..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {usual}); {why}"
                ));
            }
        };
        let usual = Config::default();
        let why = "no archive keeps longer";
        range("keep_days", self.keep_days, 0, 36_500, usual.keep_days, why);
        let (found, least) = (self.results_keep_days, self.keep_days);
        let why = "results go after the objects that they are about";
        if found != 0 {
            range("results_keep_days", found, least.max(1), 36_500, usual.results_keep_days, why);
        }
        let why = "more slows down what is received, less never ends";
        range("files_per_second", self.files_per_second, 1, 100_000, usual.files_per_second, why);
        let why = "every look reads the whole index";
        range("every_minutes", self.every_minutes, 1, 10_080, usual.every_minutes, why);
        if !(0.0..=95.0).contains(&self.objects_percent_max) {
            problems.push(format!(
                "{at}.objects_percent_max = {}: use 0 to 95 (default 0); the rest of the disk is \
                 for results, ledger and index",
                self.objects_percent_max
            ));
        }
        let unfinished = [
            StudyState::Receiving,
            StudyState::Ready,
            StudyState::Analysing,
            StudyState::Judged,
            StudyState::Composed,
            StudyState::Superseded,
        ];
        for state in self.states.iter().filter(|state| unfinished.contains(state)) {
            problems.push(format!(
                "{at}.states holds '{}': use delivered, held, needs_review, failed (default \
                 delivered); a study in another state is not done",
                state.as_str()
            ));
        }
    }
}

/// What becomes of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "what")]
pub enum Verdict {
    /// Its objects go.
    Remove {
        why: String,
    },
    /// Results and rows go, and what objects there are.
    Forget {
        why: String,
    },
    Keep {
        why: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    pub study_uid: StudyUid,
    pub state: StudyState,
    pub instances: u32,
    /// Of its objects.
    pub bytes: u64,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// What would go now, and what not and why.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionReport {
    /// Whether any rule is switched on.
    pub on: bool,
    pub studies: u64,
    pub objects_bytes: u64,
    /// Above it studies go by space.
    pub objects_bytes_max: Option<u64>,
    pub remove: u64,
    pub forget: u64,
    pub keep: u64,
    pub bytes_to_go: u64,
    /// Those that go, and of those that stay the first.
    pub decisions: Vec<Decision>,
    /// Studies whose files were removed, when it was not a dry run.
    pub done: Option<u64>,
}

/// Looks at every study.
pub fn plan(shared: &Shared, now: Timestamp) -> Result<RetentionReport, StoreError> {
    let config = shared.config.now();
    let config = &config.retention;
    let total = folder::space(&shared.data)?.total;
    let percent = (total as f64 * config.objects_percent_max / 100.0) as u64;
    let limits = [config.objects_bytes_max, percent];
    let objects_bytes_max = limits.into_iter().filter(|limit| *limit > 0).min();
    let mut report =
        RetentionReport { on: config.is_on(), objects_bytes_max, ..RetentionReport::default() };
    // Done, young enough to stay, and the candidates when space is short.
    let mut by_age: Vec<(Timestamp, Decision)> = Vec::new();
    shared.read(|view| {
        view.each_study(&mut |row| {
            let decision = decide(view, config, &row, now)?;
            report.studies += 1;
            report.objects_bytes += decision.bytes;
            match &decision.verdict {
                Verdict::Remove { .. } | Verdict::Forget { .. } => report.add(decision),
                Verdict::Keep { why } if why.is_empty() => by_age.push((row.changed_at, decision)),
                Verdict::Keep { .. } => report.add(decision),
            }
            Ok(true)
        })
    })?;
    by_age.sort_by_key(|(changed_at, _)| *changed_at);
    for (changed_at, mut decision) in by_age {
        let left = report.objects_bytes - report.bytes_to_go;
        let days = now.duration_since(changed_at).as_hours() / 24;
        decision.verdict = match objects_bytes_max {
            Some(limit) if left > limit && decision.bytes > 0 => {
                Verdict::Remove { why: format!("objects take {left} bytes of {limit}") }
            }
            _ if decision.instances == 0 => {
                Verdict::Keep { why: "its objects are gone already".to_owned() }
            }
            _ => Verdict::Keep { why: format!("done, {days} days old") },
        };
        report.add(decision);
    }
    Ok(report)
}

impl RetentionReport {
    fn add(&mut self, decision: Decision) {
        match &decision.verdict {
            Verdict::Remove { .. } => self.remove += 1,
            Verdict::Forget { .. } => self.forget += 1,
            Verdict::Keep { .. } => self.keep += 1,
        }
        let goes = !matches!(decision.verdict, Verdict::Keep { .. });
        if goes {
            self.bytes_to_go += decision.bytes;
        }
        if goes || self.keep <= KEPT_MAX as u64 {
            self.decisions.push(decision);
        }
    }
}

/// One study by its state and age. Kept for no reason: it may go when space is short.
fn decide(
    view: &View,
    config: &Config,
    row: &StudyRow,
    now: Timestamp,
) -> Result<Decision, StoreError> {
    let instances = view.instances(&row.study_uid)?;
    let versions = instances.iter().flat_map(|row| [&row.receipt].into_iter().chain(&row.versions));
    let bytes = versions.map(|receipt| receipt.size_bytes).sum();
    let verdict = match why_not(view, config, row)? {
        Some(why) => Verdict::Keep { why },
        None => {
            let age = now.duration_since(row.changed_at);
            let is_over =
                |days: u64| days > 0 && age >= SignedDuration::from_hours(24 * days as i64);
            if is_over(config.results_keep_days) {
                Verdict::Forget { why: format!("done for {} days", config.results_keep_days) }
            } else if is_over(config.keep_days) && !instances.is_empty() {
                Verdict::Remove { why: format!("done for {} days", config.keep_days) }
            } else {
                Verdict::Keep { why: String::new() }
            }
        }
    };
    let (study_uid, state, instances) = (row.study_uid.clone(), row.state, row.instances);
    Ok(Decision { study_uid, state, instances, bytes, verdict })
}

/// Why nothing of a study may go, whatever its age.
fn why_not(view: &View, config: &Config, row: &StudyRow) -> Result<Option<String>, StoreError> {
    let study = &row.study_uid;
    if view.has(&key::open_revision(study))? {
        return Ok(Some("it is being received".to_owned()));
    }
    if !config.states.contains(&row.state) {
        return Ok(Some(format!("it is {}", row.state.as_str())));
    }
    let jobs = view.keys(&key::study_jobs(study))?.len();
    if jobs > 0 {
        return Ok(Some(format!("{jobs} of its jobs wait, run or were given up")));
    }
    let deliveries: Vec<DeliveryRow> = view.scan(&key::deliveries(study))?;
    let newest = deliveries.iter().filter(|delivery| delivery.revision == row.revision);
    let open = newest.filter(|delivery| match delivery.state {
        DeliveryState::Queued | DeliveryState::Unproven | DeliveryState::Dead => true,
        DeliveryState::Done | DeliveryState::Dropped => false,
    });
    let open = open.count();
    if open > 0 {
        return Ok(Some(format!("{open} of its results are not delivered")));
    }
    let alerts: Vec<AlertRow> = view.scan(&key::alerts(study))?;
    let is_open = |alert: &AlertRow| {
        let on_its_way = |sending: &AlertSending| match sending.state {
            DeliveryState::Queued | DeliveryState::Unproven | DeliveryState::Dead => true,
            DeliveryState::Done | DeliveryState::Dropped => false,
        };
        // What everyone of the service was told of is told again as long as the study is there.
        let is_new = alert.begun_again.is_empty() && !alert.steps.is_empty();
        alert.standing == Standing::Open && is_new || alert.sendings.iter().any(on_its_way)
    };
    if alerts.iter().any(is_open) {
        return Ok(Some("an alert about it is open".to_owned()));
    }
    Ok(None)
}

/// Does what `plan` says. Returns how many studies went.
///
/// - `go_on`: asked before each file; `false` ends it.
pub fn carry_out(
    shared: &Shared,
    plan: &RetentionReport,
    commit: Enter<'_>,
    go_on: &dyn Fn() -> bool,
) -> Result<u64, StoreError> {
    let mut done = 0;
    for decision in &plan.decisions {
        if !go_on() {
            break;
        }
        let study_uid = decision.study_uid.clone();
        let (instances, bytes, at) = (decision.instances, decision.bytes, shared.clock.now());
        // Only these files: another that comes for the study now has its own name.
        let rows = shared.read(|view| view.instances(&study_uid))?;
        let files: Vec<String> =
            rows.iter().flat_map(|row| row.files()).map(str::to_owned).collect();
        let (event, results) = match &decision.verdict {
            Verdict::Keep { .. } => continue,
            Verdict::Remove { why } => {
                let (study_uid, reason) = (study_uid.clone(), why.clone());
                (Event::InstancesRemoved { study_uid, instances, bytes, reason, at }, false)
            }
            Verdict::Forget { why } => {
                let (study_uid, reason) = (study_uid.clone(), why.clone());
                (Event::StudyForgotten { study_uid, instances, reason, at }, true)
            }
        };
        commit(event)?;
        let going = shared.read(|view| view.get::<GoingRow>(&key::going(&study_uid)))?;
        if going.is_none_or(|going| going.at != at) {
            tracing::info!(study = %study_uid, "something came for it: it stays");
            continue;
        }
        for file in &files {
            let path = shared.data.join(file);
            if !came_back(shared, &path)? {
                shared.objects.unfiled.forget(file);
                remove_slowly(shared, &path, go_on)?;
            }
        }
        if results {
            remove_results(shared, &study_uid, at, go_on)?;
        }
        remove_empty_folders(&shared.data, &study_uid);
        commit(Event::FilesRemoved { study_uid: study_uid.clone(), at: shared.clock.now() })?;
        tracing::info!(study = %study_uid, instances, bytes, results, "removed by the rules for keeping");
        metrics::counter!("prelim_studies_removed_total").increment(1);
        done += 1;
    }
    Ok(done)
}

/// Whether an object is one that is received now, or was since its study went. It may have the name
/// of one that is lost, and a file's time shows nothing after the clock was set back.
fn came_back(shared: &Shared, file: &Path) -> Result<bool, StoreError> {
    let Some(object) = file.strip_prefix(&shared.data).ok().and_then(Path::to_str) else {
        return Ok(true);
    };
    // In this order: what has arrived has its receipt.
    if shared.objects.is_on_its_way(object) {
        return Ok(true);
    }
    shared.read(|view| {
        let deferred: Vec<DeferredRow> = view.scan(key::DEFERRED)?;
        let is_deferred = deferred.iter().any(|row| row.receipt.object == object);
        Ok(is_deferred || open::has_receipt(view, object)?)
    })
}

fn remove_slowly(shared: &Shared, path: &Path, go_on: &dyn Fn() -> bool) -> Result<(), StoreError> {
    if !go_on() {
        return Err(StoreError::Closed);
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        removed => removed.doing("removing", path)?,
    }
    let per_second =
        u32::try_from(shared.config.now().retention.files_per_second).unwrap_or(u32::MAX);
    std::thread::sleep(Duration::from_secs(1) / per_second.max(1));
    Ok(())
}

/// Results that were written before `at`.
fn remove_results(
    shared: &Shared,
    study: &StudyUid,
    at: Timestamp,
    go_on: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    for file in files_below(&shared.data, &results_of(study))? {
        if is_older(&file, at) {
            remove_slowly(shared, &file, go_on)?;
        }
    }
    Ok(())
}

fn results_of(study: &StudyUid) -> String {
    format!("{}/{study}", folder::RESULTS)
}

fn files_below(data: &Path, folder: &str) -> Result<Vec<PathBuf>, StoreError> {
    let mut files = Vec::new();
    if data.join(folder).is_dir() {
        objects::walk_files(data, folder, &mut |file, _| {
            files.push(data.join(file));
            Ok(())
        })?;
    }
    Ok(files)
}

pub fn is_older(path: &Path, than: Timestamp) -> bool {
    let modified = fs::metadata(path).and_then(|meta| meta.modified());
    modified.ok().and_then(|time| Timestamp::try_from(time).ok()).is_some_and(|time| time < than)
}

/// Folders that hold something stay.
fn remove_empty_folders(data: &Path, study: &StudyUid) {
    for folder in [objects::folder_of(study), results_of(study)] {
        let folder = data.join(folder);
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&folder);
    }
}

/// Removes files that a kill has left of what was going. At a start, before anything is received.
///
/// - `started`: of this process; what is younger is of this life.
pub fn finish_what_was_begun(
    shared: &Shared,
    started: Timestamp,
    commit: Enter<'_>,
    go_on: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    for going in shared.read(|view| view.scan::<GoingRow>(key::GOING))? {
        let GoingRow { study_uid, at, results } = going;
        let until = at.min(started);
        for file in files_below(&shared.data, &objects::folder_of(&study_uid))? {
            if is_older(&file, until) && !came_back(shared, &file)? {
                remove_slowly(shared, &file, go_on)?;
            }
        }
        if results {
            remove_results(shared, &study_uid, until, go_on)?;
        }
        remove_empty_folders(&shared.data, &study_uid);
        commit(Event::FilesRemoved { study_uid, at: shared.clock.now() })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::clock::Clock;
    use crate::store::Store;
    use crate::store::Stored;
    use crate::store::VerifyMode;
    use crate::store::event::JobKind;
    use crate::store::event::JobOutcome;
    use crate::store::testing::at;
    use crate::store::testing::dump;
    use crate::store::testing::job;
    use crate::store::testing::store_instance;
    use crate::store::testing::study;

    /// Long after [`at`], and after the files of a test were written.
    struct Later;

    impl Clock for Later {
        fn now(&self) -> Timestamp {
            "2100-01-01T00:00:00Z".parse().unwrap()
        }
    }

    fn open(data: &Path, retention: Config) -> Store {
        let config = crate::store::Config {
            retention: Config { files_per_second: 100_000, ..retention },
            ..crate::store::testing::config()
        };
        Store::open(data, &config, Arc::new(Later)).unwrap().0
    }

    fn deliver() -> JobKind {
        JobKind::Deliver { artefact: "sr.dcm".into(), destination: "pacs".into() }
    }

    /// A study with two instances, read, with one result and its delivery.
    async fn read_study(store: &Store, n: u32) {
        for instance in 1..=2 {
            store_instance(store, n, instance, &format!("pixels {n}")).await;
        }
        store.write_result(&study(n), 1, "sr.dcm", b"text").unwrap();
        let written = Event::ArtefactWritten {
            study_uid: study(n),
            revision: 1,
            file: "sr.dcm".into(),
            media_type: "application/dicom".into(),
            size_bytes: 4,
            digest: crate::store::verify::hex(b"text"),
            sop_instance_uid: None,
            at: at(9),
        };
        let state = |to| Event::StateChanged {
            study_uid: study(n),
            revision: 1,
            to,
            reason: String::new(),
            at: at(i64::from(n)),
        };
        let (study_uid, reason) = (study(n), "quiet".to_owned());
        let closed =
            Event::RevisionClosed { study_uid, revision: 1, instances: 2, reason, at: at(8) };
        let job = job(n, 1, deliver(), 0, 1);
        let enqueued = Event::JobEnqueued { job };
        let events = vec![closed, written, enqueued, state(StudyState::Delivered)];
        store.commit(events).await.unwrap();
    }

    async fn delivered(store: &Store, n: u32) {
        let id = job(n, 1, deliver(), 0, 1).id;
        let started = Event::JobStarted { id: id.clone(), at: at(10) };
        let ended = Event::JobEnded { id, outcome: JobOutcome::Done, at: at(11) };
        store.commit(vec![started, ended]).await.unwrap();
    }

    async fn remove(store: &Store) -> RetentionReport {
        let store = store.clone();
        tokio::task::spawn_blocking(move || store.retention_now().unwrap()).await.unwrap()
    }

    fn whys(report: &RetentionReport) -> Vec<String> {
        let why = |decision: &Decision| match &decision.verdict {
            Verdict::Remove { why } => format!("remove {}: {why}", decision.study_uid),
            Verdict::Forget { why } => format!("forget {}: {why}", decision.study_uid),
            Verdict::Keep { why } => format!("keep {}: {why}", decision.study_uid),
        };
        let mut lines: Vec<String> = report.decisions.iter().map(why).collect();
        lines.sort();
        lines
    }

    fn is_whole(data: &Path) {
        let report = Store::verify(data, VerifyMode::Full, &mut |_| {}).unwrap();
        assert!(report.gaps.is_empty(), "{:?}", report.gaps);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_what_is_delivered_and_old_goes_and_a_dry_run_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Config { keep_days: 30, ..Config::default() });
        for n in 1..=4 {
            read_study(&store, n).await;
        }
        delivered(&store, 1).await;
        delivered(&store, 2).await;
        // 2: a late instance. 3: its delivery waits. 4: its delivery was given up.
        store_instance(&store, 2, 3, "late").await;
        let id = job(4, 1, deliver(), 0, 1).id;
        let dead = JobOutcome::Dead { cause: "refused".into() };
        let ended = Event::JobEnded { id, outcome: dead, at: at(11) };
        store.commit(vec![ended]).await.unwrap();
        let plan = store.retention_plan().unwrap();
        let expected = [
            "keep 1.2.2: it is being received",
            "keep 1.2.3: 1 of its jobs wait, run or were given up",
            "keep 1.2.4: 1 of its jobs wait, run or were given up",
            "remove 1.2.1: done for 30 days",
        ];
        assert_eq!(whys(&plan), expected);
        assert_eq!((plan.remove, plan.keep, plan.done), (1, 3, None));
        assert_eq!(store.instances(&study(1)).unwrap().len(), 2, "a dry run removes nothing");

        assert_eq!(remove(&store).await.done, Some(1));
        assert!(store.instances(&study(1)).unwrap().is_empty());
        assert!(!dir.path().join(objects::folder_of(&study(1))).exists());
        assert_eq!(store.read_result(&study(1), 1, "sr.dcm").unwrap().unwrap(), b"text");
        let row = store.study(&study(1)).unwrap().unwrap();
        assert_eq!((row.instances, row.objects_removed_at), (0, Some(Later.now())));
        assert_eq!(row.changed_at, at(1), "its age goes on");
        assert_eq!(remove(&store).await.done, Some(0), "once is enough");
        drop(store);
        is_whole(dir.path());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_comes_again_after_its_removal_is_a_new_revision_and_is_noted() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Config { keep_days: 30, ..Config::default() });
        read_study(&store, 1).await;
        delivered(&store, 1).await;
        remove(&store).await;
        let again = store_instance(&store, 1, 2, "pixels 1").await;
        assert_eq!(again, Stored::New { revision: 2 });
        let history = store.history(&study(1)).unwrap();
        let noted = history.iter().find(|row| row.what == "came again").unwrap();
        assert!(noted.detail.ends_with("with the same bytes"), "{noted:?}");
        assert_eq!(store.instances(&study(1)).unwrap().len(), 1);
        drop(store);
        is_whole(dir.path());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn above_the_limit_those_that_are_done_for_longest_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path(), Config { objects_bytes_max: 800, ..Config::default() });
        for n in 1..=4 {
            read_study(&store, n).await;
            delivered(&store, n).await;
        }
        let report = remove(&store).await;
        let objects = report.objects_bytes;
        assert!((1100..1400).contains(&objects), "{objects} bytes");
        assert_eq!((report.remove, report.done), (2, Some(2)), "{:?}", whys(&report));
        assert!(store.instances(&study(1)).unwrap().is_empty());
        assert_eq!(store.instances(&study(3)).unwrap().len(), 2);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_study_is_forgotten_with_its_results_and_leaves_no_row() {
        let dir = tempfile::tempdir().unwrap();
        let rules = Config { keep_days: 10, results_keep_days: 30, ..Config::default() };
        let store = open(dir.path(), rules);
        store.commit(Vec::new()).await.unwrap();
        let empty = dump(&store);
        read_study(&store, 1).await;
        delivered(&store, 1).await;
        let report = remove(&store).await;
        assert_eq!((report.forget, report.done), (1, Some(1)));
        let left = dump(&store).into_iter().filter(|(key, _)| !key.starts_with('q'));
        assert_eq!(left.collect::<Vec<_>>(), empty, "only what is known of the source");
        assert!(!dir.path().join("results/1.2.1").exists());
        assert_eq!(store_instance(&store, 1, 1, "x").await, Stored::New { revision: 1 });
        drop(store);
        is_whole(dir.path());
    }

    /// Killed between the event and the files: the next start removes them, a rebuild takes none in.
    #[tokio::test(flavor = "multi_thread")]
    async fn files_that_a_kill_has_left_go_with_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let rules = Config { keep_days: 30, ..Config::default() };
        {
            let store = open(dir.path(), rules.clone());
            read_study(&store, 1).await;
            delivered(&store, 1).await;
            let (study_uid, reason) = (study(1), "done for 30 days".to_owned());
            let at = Later.now();
            let removed = Event::InstancesRemoved { study_uid, instances: 2, bytes: 1, reason, at };
            store.commit(vec![removed]).await.unwrap();
            assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 0);
        }
        is_whole(dir.path());
        let folder = dir.path().join(objects::folder_of(&study(1)));
        assert!(folder.exists());
        let store = open(dir.path(), rules);
        let shared = Arc::clone(&store.shared);
        let handle = Arc::clone(&store.handle);
        let finish = move || {
            use crate::store::commit::Request;
            let mut commit = |event| handle.begin(Request::Events(vec![event]))?.wait().map(drop);
            finish_what_was_begun(&shared, Later.now(), &mut commit, &|| true).unwrap();
        };
        tokio::task::spawn_blocking(finish).await.unwrap();
        assert!(!folder.exists());
        assert!(store.read(|view| view.keys(key::GOING)).unwrap().is_empty());
        drop(store);
        is_whole(dir.path());
    }

    #[test]
    fn rules_that_cannot_work_are_named() {
        let mut problems = Vec::new();
        Config::default().check("store.retention", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let bad = Config {
            keep_days: 30,
            results_keep_days: 10,
            states: vec![StudyState::Analysing],
            objects_percent_max: 100.0,
            ..Config::default()
        };
        bad.check("store.retention", &mut problems);
        assert_eq!(problems.len(), 3, "{problems:?}");
    }
}
