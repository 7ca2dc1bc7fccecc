//! The way of a study with nothing around it, for work by hand: nothing listens, nothing is
//! delivered, nobody is told. What it keeps is gone with it.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::NamedTempFile;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::alert;
use crate::app::intake::Uploads;
use crate::app::parts;
use crate::config::Settings;
use crate::deliver;
use crate::domain::assessment::Assessment;
use crate::domain::clock::SystemClock;
use crate::domain::uid::StudyUid;
use crate::pipeline::closing;
use crate::pipeline::record;
use crate::pipeline::record::Request;
use crate::pipeline::record::Run;
use crate::pipeline::replay;
use crate::pipeline::runner;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Kits;
use crate::pipeline::way::Way;
use crate::receive::Receiver;
use crate::store::JobState;
use crate::store::Store;
use crate::store::StudyRow;
use crate::web::IntakeError;
use crate::web::Upload;

/// Between two looks whether a study is done.
const LOOK: Duration = Duration::from_millis(50);
/// How long what was begun may take to come to rest at the end.
const REST: Duration = Duration::from_secs(5);

pub struct Workbench {
    pub kit: Arc<Kit>,
    uploads: Uploads,
    stop: CancellationToken,
    tasks: TaskTracker,
    _folder: TempDir,
}

/// The files of one study, and what is said with them.
#[derive(Debug, Clone)]
pub struct Item {
    pub study_uid: StudyUid,
    pub files: Vec<PathBuf>,
    pub request: Request,
}

/// What came of one study.
#[derive(Debug)]
pub struct Read {
    pub study: StudyRow,
    pub assessment: Option<Assessment>,
    /// Whether somebody would have been told of it.
    pub is_alert: bool,
    /// Files that were not taken, and why.
    pub refused: Vec<(PathBuf, String)>,
    pub runs: Vec<Run>,
    /// Its results: file name and where it is as long as the workbench is.
    pub results: Vec<(String, PathBuf)>,
}

/// These settings for a workbench: who reads and how stays, what reaches others does not.
/// Longest wait for a gateway that cannot be asked.
const WAIT_S_MAX: u64 = 45;

fn alone(settings: &Settings) -> Settings {
    let mut alone = settings.clone();
    alone.deliver = deliver::Config::default();
    alone.alert = alert::Config::default();
    alone.hl7 = Default::default();
    alone.orders = Default::default();
    alone.assemble = crate::assemble::Config {
        // Closed by word, once all files are there.
        quiet_period_s: 3600,
        ..crate::assemble::Config::default()
    };
    alone.analysis.canaries.clear();
    alone.analysis.health_interval_s = 0;
    // Somebody waits for it, and tries again by hand.
    alone.analysis.waits.routine_s = alone.analysis.waits.routine_s.min(WAIT_S_MAX);
    alone.analysis.waits.urgent_s = alone.analysis.waits.urgent_s.min(WAIT_S_MAX);
    alone.analysis.waits.read_again_s = 0;
    alone
}

fn read_by(kit: &mut Kit, provider: &str) -> anyhow::Result<()> {
    let gateways = kit.analysis.gateways.keys().chain(kit.analysis.pools.keys());
    let known: Vec<&str> = ["local"].into_iter().chain(gateways.map(String::as_str)).collect();
    anyhow::ensure!(
        known.contains(&provider),
        "there is no provider {provider:?}; the settings have {}",
        known.join(", ")
    );
    provider.clone_into(&mut kit.analysis.provider);
    "single".clone_into(&mut kit.analysis.strategy);
    for profile in &mut kit.profiles {
        "default".clone_into(&mut profile.provider);
        "default".clone_into(&mut profile.strategy);
    }
    Ok(())
}

impl Workbench {
    /// - `answers`: folder of the answers that are kept; without one they go with the workbench.
    /// - `provider`: who reads alone, whatever settings and profiles say.
    ///
    /// # Errors
    /// There is no space for it, or a profile or a gateway cannot be used.
    pub async fn start(
        settings: &Settings,
        answers: Option<&Path>,
        provider: Option<&str>,
    ) -> anyhow::Result<Workbench> {
        let program = std::env::current_exe().context("this program's own file is not found")?;
        let settings = alone(settings);
        let folder = tempfile::Builder::new().prefix("prelim-workbench-").tempdir();
        let folder = folder.context("there is no folder for what is worked on (TMPDIR)")?;
        let clock = Arc::new(SystemClock);
        let (store, _) = {
            let (data, config) = (folder.path().join("data"), settings.store.clone());
            let clock = Arc::clone(&clock);
            tokio::task::spawn_blocking(move || Store::open(&data, &config, clock)).await??
        };
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let own = folder.path().join("answers");
        let mut kit =
            parts::kit(&settings, &store, answers.unwrap_or(&own), &program, &tasks, None)?;
        if let Some(provider) = provider {
            read_by(&mut kit, provider)?;
        }
        let kits = Arc::new(Kits::new(kit));
        let kit = kits.now();
        runner::start(&kit, &stop, &stop, &tasks);
        let receiver = Arc::new(Receiver::new(store, clock, None));
        let uploads = Uploads { receiver, kits };
        Ok(Workbench { kit, uploads, stop, tasks, _folder: folder })
    }

    /// A bare picture as an instance, in `folder`; the file is there as long as it is held.
    pub async fn wrapped(
        &self,
        file: &Path,
        folder: &Path,
        said: &Upload,
    ) -> Result<NamedTempFile, IntakeError> {
        self.uploads.wrapped(file, folder, said).await
    }

    /// Reads one study, from its files to its results.
    ///
    /// # Errors
    /// None of the files was taken, or this machine fails; what a model does wrong stands in the
    /// study's state.
    pub async fn read(&self, item: &Item) -> anyhow::Result<Read> {
        let store = &self.kit.store;
        let mut refused = Vec::new();
        for file in &item.files {
            match self.uploads.receive(file).await {
                Ok(row) if row.receipt.study_uid == item.study_uid => {}
                Ok(_) => refused.push((file.clone(), "it is of another study".to_owned())),
                Err(error) => refused.push((file.clone(), error.to_string())),
            }
        }
        let uid = &item.study_uid;
        let Some(row) = store.study(uid)? else {
            let why = refused.first().map_or("it has no files", |(_, why)| why);
            anyhow::bail!("none of its {} files was taken: {why}", item.files.len());
        };
        let revision = row.revision;
        let request = serde_json::to_vec_pretty(&item.request)?;
        store.write_result(uid, revision, record::REQUEST, &request)?;
        let (reason, at) = ("all files are there".to_owned(), self.kit.clock.now());
        closing::close_by_word(store, uid, reason, at).await?;
        let study = self.at_rest(uid).await?;
        let way = Way { kit: &self.kit, study_uid: uid, revision };
        let load = |error: crate::pipeline::job::StepError| anyhow::anyhow!(error.cause);
        let mut results = Vec::new();
        for artefact in store.artefacts(uid, revision)? {
            if let Some(path) = store.result_path(uid, revision, &artefact.file) {
                results.push((artefact.file, path));
            }
        }
        Ok(Read {
            assessment: way.load_if_there(record::ASSESSMENT).map_err(load)?,
            is_alert: !store.alerts(uid)?.is_empty(),
            study,
            refused,
            runs: replay::runs(store, uid, revision)?,
            results,
        })
    }

    /// Waits until nothing more happens to a study by itself, and says what it waits for.
    async fn at_rest(&self, uid: &StudyUid) -> anyhow::Result<StudyRow> {
        let store = &self.kit.store;
        let mut told = String::new();
        loop {
            let row = store.study(uid)?.context("the study is gone")?;
            let is_open = |job: &crate::store::JobRow| {
                job.job.study_uid == *uid && job.state != JobState::Dead
            };
            if row.state.is_at_rest() && !store.jobs()?.iter().any(is_open) {
                return Ok(row);
            }
            let is_waiting = |job: &crate::store::JobRow| is_open(job) && job.attempts > 0;
            let waiting = store.jobs()?.into_iter().find(is_waiting);
            let cause = waiting.map(|job| job.cause).unwrap_or_default();
            if !cause.is_empty() && cause != told {
                tracing::warn!(cause, "tried again for at most {WAIT_S_MAX} s");
                told = cause;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(REST, self.tasks.wait()).await;
    }
}
