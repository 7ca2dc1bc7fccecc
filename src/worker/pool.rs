//! The node's side: a few worker processes, started when needed, replaced when they die.

use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::AsyncBufReadExt as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio_util::task::TaskTracker;

use crate::analysis::provider::local::LocalReading;
use crate::analysis::provider::onnx::NotRun;
use crate::analysis::provider::onnx::Runs;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::final_report::FinalReport;
use crate::domain::finding::Density;
use crate::domain::finding::Region;
use crate::domain::in_force::InForce;
use crate::domain::key_image::Drawing;
use crate::domain::key_image::KeyImage;
use crate::domain::picture::Masks;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureFormat;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Inspected;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::imaging::dataset::Span;
use crate::imaging::frames::Piece;
use crate::imaging::frames::PixelFacts;
use crate::imaging::show::Shown;
use crate::imaging::show::View;
use crate::imaging::show::Which;
use crate::imaging::wrap::WrapFields;
use crate::report::Communication;
use crate::report::Language;
use crate::turns::Slots;
use crate::worker::Answer;
use crate::worker::Config;
use crate::worker::HeaderPart;
use crate::worker::Object;
use crate::worker::Task;
use crate::worker::Values;
use crate::worker::WorkerError;
use crate::worker::joined;
use crate::worker::limits::Settings;
use crate::worker::memory;
use crate::worker::protocol;
use crate::worker::protocol::ProtocolError;

/// A child must greet within this time.
const START_TIME_MAX: Duration = Duration::from_secs(20);
/// All that stands in a child's environment: its allocator keeps large buffers for the next picture,
/// where it would give each back to the kernel at once.
const ALLOCATOR: (&str, &str) = ("_RJEM_MALLOC_CONF", "oversize_threshold:0");
/// Objects inspected in one task.
pub const BATCH: usize = 64;
/// Lines of a child's standard error that go to the log, for each child.
const LOG_LINES_MAX: usize = 200;
const LOG_LINE_MAX_BYTES: usize = 300;

/// The worker processes. Clones share them.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    config: InForce<Config>,
    program: PathBuf,
    arguments: Vec<String>,
    tasks: TaskTracker,
    slots: Arc<Slots>,
    idle: Mutex<Vec<Worker>>,
    /// Why no process could be started, the last time that one was needed.
    trouble: Mutex<Option<String>>,
}

/// One process. Dropped: killed.
struct Worker {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    said: Arc<Mutex<Said>>,
    /// It was started by.
    config: Arc<Config>,
    done: u32,
}

/// As many as cores where the settings say nothing.
pub fn processes(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from).max(2);
    match config.processes {
        0 => cores,
        processes => processes as usize,
    }
}

/// What a child's standard error gave away about its end.
#[derive(Default)]
struct Said {
    out_of_memory: bool,
}

impl Pool {
    /// Starts no process yet: the first tasks do. `program` is this program.
    pub fn start(config: &Config, program: PathBuf, tasks: TaskTracker) -> Pool {
        Pool::with_arguments(config, program, vec!["worker".into()], tasks)
    }

    fn with_arguments(
        config: &Config,
        program: PathBuf,
        arguments: Vec<String>,
        tasks: TaskTracker,
    ) -> Pool {
        let shared = Shared {
            config: InForce::new(memory::fitting(config)),
            program,
            arguments,
            tasks,
            slots: Slots::new(processes(&memory::fitting(config))),
            idle: Mutex::new(Vec::new()),
            trouble: Mutex::new(None),
        };
        Pool { shared: Arc::new(shared) }
    }

    /// Takes other settings: for processes and tasks from now on.
    pub fn configure(&self, config: &Config) {
        let shared = &self.shared;
        let (before, config) = (shared.config.now(), &memory::fitting(config));
        if *before == *config {
            return;
        }
        shared.config.replace(config.clone());
        let count = |config| isize::try_from(processes(config)).unwrap_or(isize::MAX);
        shared.slots.change(count(config) - count(&before));
        // They were started with the limits from before.
        shared.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Has one task done. Waits for a free process, in the order of the studies; the time limit
    /// counts from then.
    ///
    /// A second run of the same task is harmless: workers read only.
    ///
    /// # Errors
    /// [`WorkerError`]; the process that failed is gone and the next task gets a fresh one.
    pub async fn run(&self, task: Task) -> Result<Answer, WorkerError> {
        let shared = &self.shared;
        let _slot = shared.slots.take().await;
        let rested = shared.idle.lock().map(|mut idle| idle.pop()).unwrap_or_default();
        let mut worker = match rested.and_then(Worker::if_alive) {
            Some(worker) => worker,
            None => {
                let started = Worker::start(shared).await;
                let trouble = started.as_ref().err().map(ToString::to_string);
                *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
                started?
            }
        };
        // From here on the worker is ours: when this future is dropped, it dies with it.
        let limit = Duration::from_secs(worker.config.task_time_max_s);
        let answer = match tokio::time::timeout(limit, worker.ask(task)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(worker.autopsy(error).await),
            Err(_) => return Err(WorkerError::TimedOut(limit.as_secs())),
        };
        worker.done += 1;
        let fresh_enough = worker.done < worker.config.tasks_max
            && worker.resident_bytes() < worker.config.memory_max_bytes / 4
            && Arc::ptr_eq(&worker.config, &shared.config.now());
        if fresh_enough && let Ok(mut idle) = shared.idle.lock() {
            idle.push(worker);
        }
        match answer {
            Answer::Refused { reason } => Err(WorkerError::Refused(reason)),
            answer => Ok(answer),
        }
    }

    /// Why nothing can be read now: processes do not start.
    pub fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Parses headers, in batches. A batch that kills a worker is done again one object at a
    /// time, so that only the object that does it is left out.
    ///
    /// # Errors
    /// When workers cannot be had at all.
    pub async fn inspect(
        &self,
        data: &Path,
        objects: Vec<Object>,
    ) -> Result<(Vec<Inspected>, Vec<Excluded>), WorkerError> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for batch in objects.chunks(BATCH) {
            let task = |objects: &[Object]| Task::Inspect {
                data: data.to_owned(),
                objects: objects.to_vec(),
            };
            match self.inspect_once(task(batch)).await {
                Ok((parsed, unreadable)) => {
                    all.extend(parsed);
                    out.extend(unreadable);
                }
                Err(error) if error.is_poison() => {
                    for one in batch.chunks(1) {
                        match self.inspect_once(task(one)).await {
                            Ok((parsed, unreadable)) => {
                                all.extend(parsed);
                                out.extend(unreadable);
                            }
                            Err(error) if error.is_poison() => out.push(Excluded {
                                sop_instance_uid: one[0].sop_instance_uid.clone(),
                                reason: format!("its header cannot be parsed: {error}"),
                            }),
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok((all, out))
    }

    async fn inspect_once(
        &self,
        task: Task,
    ) -> Result<(Vec<Inspected>, Vec<Excluded>), WorkerError> {
        match self.run(task).await? {
            Answer::Inspected { parsed, unreadable } => Ok((parsed, unreadable)),
            _ => Err(ANOTHER),
        }
    }

    /// Makes a study's pictures.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn pictures(
        &self,
        data: &Path,
        study: Study,
        plan: &PicturePlan,
        masks: &Masks,
    ) -> Result<(Vec<Picture>, Vec<Excluded>), WorkerError> {
        let study = Box::new(study);
        let (plan, masks) = (plan.clone(), masks.clone());
        // What is left of the task's time is for the rest of its pictures.
        let text_s_max = self.shared.config.now().task_time_max_s / 2;
        let task = Task::Picture { data: data.to_owned(), study, plan, masks, text_s_max };
        match self.run(task).await? {
            Answer::Pictures { references, bytes, format, excluded } => {
                Ok((joined(references, bytes, format), excluded))
            }
            _ => Err(ANOTHER),
        }
    }

    /// Puts pictures on sheets where more of them are than a gateway takes in a request.
    ///
    /// - `sheets_max`: 0 for as many as there are.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn sheets(
        &self,
        pictures: Vec<Picture>,
        sheets_max: u32,
    ) -> Result<Vec<Picture>, WorkerError> {
        if sheets_max == 0 || pictures.len() <= sheets_max as usize {
            return Ok(pictures);
        }
        let format = match pictures.iter().all(|picture| picture.media_type == "image/png") {
            true => PictureFormat::Png,
            false => PictureFormat::Jpeg,
        };
        let (references, pictures) = pictures.into_iter().map(|p| (p.reference, p.bytes)).unzip();
        match self.run(Task::Sheets { references, pictures, format, sheets_max }).await? {
            Answer::Pictures { references, bytes, format, .. } => {
                Ok(joined(references, bytes, format))
            }
            _ => Err(ANOTHER),
        }
    }

    /// Takes a study's measurements.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn measure(
        &self,
        data: &Path,
        study: &Study,
    ) -> Result<(Vec<StudyMeasurement>, Vec<QualityFlag>, Vec<Excluded>), WorkerError> {
        let task = Task::Measure { data: data.to_owned(), study: Box::new(study.clone()) };
        match self.run(task).await? {
            Answer::Measured { measurements, quality, excluded } => {
                Ok((measurements, quality, excluded))
            }
            _ => Err(ANOTHER),
        }
    }

    /// Measures the density of regions, each on its instance.
    ///
    /// # Errors
    /// [`WorkerError`].
    pub async fn densities(
        &self,
        data: &Path,
        regions: Vec<(Instance, Region)>,
    ) -> Result<Vec<Result<Density, String>>, WorkerError> {
        match self.run(Task::Densities { data: data.to_owned(), regions }).await? {
            Answer::Densities { found } => Ok(found),
            _ => Err(ANOTHER),
        }
    }

    /// Shows an instance to the local model.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] when it cannot be decoded, and the others.
    pub async fn local_read(
        &self,
        data: &Path,
        instance: &Instance,
    ) -> Result<LocalReading, WorkerError> {
        let instance = Box::new(instance.clone());
        match self.run(Task::LocalRead { data: data.to_owned(), instance }).await? {
            Answer::LocalRead { reading } => Ok(reading),
            _ => Err(ANOTHER),
        }
    }

    /// Reads a structured report.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] when it cannot be parsed, and the others.
    pub async fn document(&self, data: &Path, object: &str) -> Result<FinalReport, WorkerError> {
        let object = object.to_owned();
        match self.run(Task::Document { data: data.to_owned(), object }).await? {
            Answer::Document { report } => Ok(report),
            _ => Err(ANOTHER),
        }
    }

    /// Writes the report: HTML, text, PDF.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] when a font or a template cannot be used, and the others.
    pub async fn render(
        &self,
        assessment: &Assessment,
        language: Language,
        pictures: &[(PictureRef, Vec<u8>)],
        communications: &[Communication],
        site: &crate::report::Config,
    ) -> Result<[Vec<u8>; 3], WorkerError> {
        let (references, pictures) = pictures.iter().cloned().unzip();
        let task = Task::Render {
            assessment: Box::new(assessment.clone()),
            language,
            references,
            pictures,
            communications: communications.to_vec(),
            site: Box::new(site.clone()),
        };
        match self.run(task).await? {
            Answer::Rendered { files } => files.try_into().map_err(|_| ANOTHER),
            _ => Err(ANOTHER),
        }
    }

    /// Headers as DICOM JSON, at most [`BATCH`] objects; empty for what cannot be read. Objects
    /// that kill a worker together are read one at a time.
    ///
    /// # Errors
    /// When workers cannot be had at all.
    pub async fn headers(
        &self,
        data: &Path,
        objects: &[Object],
        wanted: &HeaderPart,
    ) -> Result<Vec<Vec<u8>>, WorkerError> {
        let task = |objects: &[Object], wanted| Task::Headers {
            data: data.to_owned(),
            objects: objects.to_vec(),
            wanted,
        };
        match self.headers_once(task(objects, wanted.clone()), objects.len()).await {
            Err(error) if error.is_poison() => {}
            answer => return answer,
        }
        let mut all = Vec::new();
        for (number, one) in objects.chunks(1).enumerate() {
            let wanted = match wanted {
                HeaderPart::Index(_) => wanted.clone(),
                HeaderPart::Whole(uris) => {
                    HeaderPart::Whole(uris.get(number).cloned().into_iter().collect())
                }
            };
            match self.headers_once(task(one, wanted), 1).await {
                Ok(found) => all.extend(found),
                Err(error) if error.is_poison() => all.push(Vec::new()),
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    async fn headers_once(&self, task: Task, count: usize) -> Result<Vec<Vec<u8>>, WorkerError> {
        match self.run(task).await? {
            Answer::Headers { objects } if objects.len() == count => Ok(objects),
            _ => Err(ANOTHER),
        }
    }

    /// Frames or bulk data of one instance.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] with the reason when there is none, and the others.
    pub async fn values(
        &self,
        data: &Path,
        object: &str,
        wanted: Values,
    ) -> Result<(Option<PixelFacts>, Vec<Piece>), WorkerError> {
        let object = object.to_owned();
        match self.run(Task::Values { data: data.to_owned(), object, wanted }).await? {
            Answer::Values { facts, places, bytes } => {
                let mut bytes = bytes.into_iter();
                let piece = |place: Option<Vec<Span>>| match place {
                    Some(spans) => Piece::InFile(spans),
                    None => Piece::Bytes(bytes.next().unwrap_or_default()),
                };
                Ok((facts, places.into_iter().map(piece).collect()))
            }
            _ => Err(ANOTHER),
        }
    }

    /// One frame as a picture.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] with the reason when it cannot be shown, and the others.
    pub async fn show(
        &self,
        data: &Path,
        object: &str,
        which: Which,
        view: View,
    ) -> Result<Shown, WorkerError> {
        let object = object.to_owned();
        match self.run(Task::Show { data: data.to_owned(), object, which, view }).await? {
            Answer::Shown { file, window } => Ok(Shown { file, window }),
            _ => Err(ANOTHER),
        }
    }

    /// One frame with regions and text drawn in.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] with the reason when it cannot be shown, and the others.
    pub async fn draw(
        &self,
        data: &Path,
        object: &str,
        drawing: Drawing,
    ) -> Result<KeyImage, WorkerError> {
        let (data, object) = (data.to_owned(), object.to_owned());
        match self.run(Task::Draw { data, object, drawing: Box::new(drawing) }).await? {
            Answer::Drawn { image } => Ok(*image),
            _ => Err(ANOTHER),
        }
    }

    /// A whole file in Explicit VR Little Endian.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] with the reason when that cannot be made, and the others.
    pub async fn transcode(
        &self,
        data: &Path,
        object: &str,
        bytes_max: u64,
    ) -> Result<Vec<u8>, WorkerError> {
        let object = object.to_owned();
        match self.run(Task::Transcode { data: data.to_owned(), object, bytes_max }).await? {
            Answer::Made { file } => Ok(file),
            _ => Err(ANOTHER),
        }
    }

    /// Makes a DICOM file of a JPEG or PNG.
    ///
    /// # Errors
    /// [`WorkerError::Refused`] when it is no picture, and the others.
    pub async fn wrap(&self, picture: Vec<u8>, fields: WrapFields) -> Result<Vec<u8>, WorkerError> {
        match self.run(Task::Wrap { picture, fields: Box::new(fields) }).await? {
            Answer::Wrapped { file } => Ok(file),
            _ => Err(ANOTHER),
        }
    }
}

#[async_trait]
impl Runs for Pool {
    async fn scores(
        &self,
        folder: &Path,
        manifest: &Manifest,
        pictures: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<f64>>, NotRun> {
        let (folder, manifest, count) =
            (folder.to_owned(), Box::new(manifest.clone()), pictures.len());
        match self.run(Task::Scores { folder, manifest, pictures }).await {
            Ok(Answer::Scores { scores }) if scores.len() == count => Ok(scores),
            Ok(_) => Err(NotRun::Failed(ANOTHER.to_string())),
            Err(WorkerError::TimedOut(s)) => Err(NotRun::TimedOut(Duration::from_secs(s))),
            Err(error) if error.is_poison() => Err(NotRun::Failed(error.to_string())),
            Err(WorkerError::Refused(why)) => Err(NotRun::Failed(why)),
            Err(error) => Err(NotRun::NotNow(error.to_string())),
        }
    }
}

const ANOTHER: WorkerError = WorkerError::Protocol("an answer to another task");

impl Worker {
    async fn start(shared: &Shared) -> Result<Worker, WorkerError> {
        let mut process = Command::new(&shared.program)
            .args(&shared.arguments)
            .env_clear()
            .env(ALLOCATOR.0, ALLOCATOR.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(WorkerError::Start)?;
        let pipes = (process.stdin.take(), process.stdout.take(), process.stderr.take());
        let (Some(input), Some(output), Some(errors)) = pipes else {
            return Err(WorkerError::Protocol("no pipes"));
        };
        let said = Arc::new(Mutex::new(Said::default()));
        let listening = listen(errors, process.id().unwrap_or(0), said.clone());
        let tasks = shared.tasks.clone();
        shared.tasks.spawn(async move {
            // A resting child must not hold up the node's stop.
            let stopping = async {
                while !tasks.is_closed() {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            };
            tokio::select! {
                () = listening => {}
                () = stopping => {}
            }
        });
        let config = shared.config.now();
        let mut worker = Worker { process, input, output, said, config, done: 0 };
        let settings = Settings { memory_max_bytes: worker.config.memory_max_bytes };
        let greeting = async {
            protocol::hello(&mut worker.output).await?;
            protocol::write_async(&mut worker.input, settings).await
        };
        match tokio::time::timeout(START_TIME_MAX, greeting).await {
            Ok(Ok(())) => Ok(worker),
            Ok(Err(ProtocolError::Io(e))) => Err(WorkerError::Start(e)),
            Ok(Err(ProtocolError::Malformed(what))) => Err(WorkerError::Protocol(what)),
            Err(_) => Err(WorkerError::Protocol("no greeting in time")),
        }
    }

    /// Itself, unless it died while it rested: that is nobody's fault.
    fn if_alive(mut self) -> Option<Worker> {
        matches!(self.process.try_wait(), Ok(None)).then_some(self)
    }

    async fn ask(&mut self, task: Task) -> Result<Answer, ProtocolError> {
        protocol::write_async(&mut self.input, task).await?;
        protocol::read_async(&mut self.output).await
    }

    /// Why the child did not answer.
    async fn autopsy(mut self, error: ProtocolError) -> WorkerError {
        if let ProtocolError::Malformed(what) = error {
            return WorkerError::Protocol(what);
        }
        let ended = tokio::time::timeout(Duration::from_secs(2), self.process.wait()).await;
        // Its last words may still be on their way through the pipe.
        for _ in 0..20 {
            if self.said.lock().is_ok_and(|said| said.out_of_memory) {
                return WorkerError::Memory;
            }
            if Arc::strong_count(&self.said) == 1 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        match ended {
            Ok(Ok(status)) => WorkerError::Died(status.to_string()),
            Ok(Err(_)) | Err(_) => WorkerError::Died("its pipe closed".into()),
        }
    }

    /// Memory that the process holds now; 0 when the system does not say.
    fn resident_bytes(&self) -> u64 {
        let Some(id) = self.process.id() else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
        kilobytes.unwrap_or(0u64) * 1024
    }
}

/// A child's standard error to the log, bounded in lines and length; always read to its end,
/// or the child would hang on a full pipe.
async fn listen(errors: tokio::process::ChildStderr, id: u32, said: Arc<Mutex<Said>>) {
    let mut reader = tokio::io::BufReader::new(errors);
    let mut lines = 0;
    loop {
        let mut line = Vec::new();
        let mut bounded = (&mut reader).take(LOG_LINE_MAX_BYTES as u64);
        match bounded.read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text: String =
            String::from_utf8_lossy(&line).chars().filter(|c| !c.is_control()).collect();
        if text.contains("memory allocation of")
            && let Ok(mut said) = said.lock()
        {
            said.out_of_memory = true;
        }
        lines += 1;
        if lines <= LOG_LINES_MAX {
            tracing::debug!(process = id, "worker: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(config: Config) -> Pool {
        let program = std::env::current_exe().unwrap();
        let arguments = ["--ignored", "--exact", "worker::child::tests::child", "--nocapture"];
        let arguments = arguments.map(str::to_owned).to_vec();
        Pool::with_arguments(&config, program, arguments, TaskTracker::new())
    }

    async fn misbehave(pool: &Pool, how: &str) -> Result<String, WorkerError> {
        match pool.run(Task::Misbehave { how: how.into() }).await {
            Err(WorkerError::Refused(said)) => Ok(said),
            Err(error) => Err(error),
            Ok(answer) => panic!("{answer:?}"),
        }
    }

    #[tokio::test]
    async fn a_worker_that_dies_is_named_and_replaced() {
        let pool = pool(Config { processes: 1, ..Config::default() });
        assert_eq!(misbehave(&pool, "hello").await.unwrap(), "hello");
        let panicked = misbehave(&pool, "panic").await.unwrap();
        assert!(panicked.contains("panic") && !panicked.contains("Doe"), "{panicked}");
        for how in ["overflow", "abort", "exit"] {
            let error = misbehave(&pool, how).await.unwrap_err();
            assert!(matches!(error, WorkerError::Died(_)), "{how}: {error}");
            assert!(error.is_poison());
            assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive", "after {how}");
        }
        let error = misbehave(&pool, "memory").await.unwrap_err();
        assert!(matches!(error, WorkerError::Memory), "{error}");
        assert_eq!(misbehave(&pool, "noise").await.unwrap(), "done");
    }

    #[tokio::test]
    async fn a_worker_has_no_network_no_programs_no_files_to_write_no_environment() {
        let pool = pool(Config { processes: 1, ..Config::default() });
        for how in ["socket", "exec", "write"] {
            let said = misbehave(&pool, how).await.unwrap();
            assert_eq!(said, "Some(PermissionDenied)", "{how}");
        }
        assert_eq!(misbehave(&pool, "thread").await.unwrap(), "Some(5)");
        assert_eq!(misbehave(&pool, "environment").await.unwrap(), ALLOCATOR.0);
    }

    #[tokio::test]
    async fn a_task_without_end_is_stopped_and_the_next_one_done() {
        let pool = pool(Config { processes: 1, task_time_max_s: 1, ..Config::default() });
        let error = misbehave(&pool, "for ever").await.unwrap_err();
        assert!(matches!(error, WorkerError::TimedOut(1)), "{error}");
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
    }

    /// A model of the site costs its task and nothing else.
    #[tokio::test]
    async fn a_model_that_eats_memory_or_time_is_stopped_and_the_next_one_runs() {
        use crate::analysis::provider::onnx::testing::fixture;
        let config = Config { processes: 1, task_time_max_s: 2, ..Config::default() };
        let pool = pool(config);
        let picture = std::fs::read(fixture("grey.png")).unwrap();
        let run = async |name: &str| {
            let folder = fixture(name);
            let manifest = Manifest::open(&folder).unwrap();
            pool.scores(&folder, &manifest, vec![picture.clone()]).await
        };
        assert_eq!(run("rgb-squash").await.unwrap()[0].len(), 3);
        let found = run("broken-memory").await;
        assert!(matches!(found, Err(NotRun::Failed(_))), "{found:?}");
        println!("{found:?}");
        let found = run("broken-slow").await;
        assert!(matches!(found, Err(NotRun::TimedOut(_))), "{found:?}");
        let found = run("broken-nan").await;
        assert!(
            matches!(&found, Err(NotRun::Failed(why)) if why.contains("no number")),
            "{found:?}"
        );
        assert_eq!(run("rgb-squash").await.unwrap()[0].len(), 3);
    }

    #[tokio::test]
    async fn processes_that_do_not_start_are_told_of_until_one_does() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("gone");
        let real = pool(Config::default());
        let arguments = real.shared.arguments.clone();
        let pool = Pool::with_arguments(
            &Config::default(),
            program.clone(),
            arguments,
            TaskTracker::new(),
        );
        assert_eq!(pool.trouble(), None);
        assert!(misbehave(&pool, "alive").await.is_err());
        assert!(pool.trouble().unwrap().contains("cannot be started"), "{:?}", pool.trouble());
        std::os::unix::fs::symlink(&real.shared.program, &program).unwrap();
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
        assert_eq!(pool.trouble(), None);
    }

    #[tokio::test]
    async fn other_settings_take_effect_with_the_next_task() {
        let pool = pool(Config { processes: 3, ..Config::default() });
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
        let slots = || pool.shared.slots.free();
        assert_eq!((slots(), pool.shared.idle.lock().unwrap().len()), (3, 1));
        pool.configure(&Config { processes: 1, task_time_max_s: 2, ..Config::default() });
        assert_eq!(pool.shared.idle.lock().unwrap().len(), 0, "started by the old limits");
        while slots() > 1 {
            tokio::task::yield_now().await;
        }
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
        pool.configure(&Config { processes: 4, ..Config::default() });
        assert_eq!(slots(), 4);
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_resting_children() {
        let pool = pool(Config::default());
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
        pool.shared.tasks.close();
        let stopped = tokio::time::timeout(Duration::from_secs(5), pool.shared.tasks.wait()).await;
        assert!(stopped.is_ok());
    }

    fn object(name: &str, number: usize) -> Object {
        let uid = format!("1.2.3.{number}");
        let sop_instance_uid = crate::domain::uid::SopInstanceUid::parse(&uid).unwrap();
        Object { object: name.to_owned(), sop_instance_uid }
    }

    fn resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Files that are made to break a parser: all are answered, the good one among them is read.
    #[tokio::test]
    async fn hostile_files_are_excluded_and_the_others_read() {
        use crate::imaging::dataset::tests::nested;
        use crate::imaging::decode::tests::image;
        use crate::imaging::decode::tests::j2k_header;
        use dicom_dictionary_std::uids;
        let folder = tempfile::tempdir().unwrap();
        let native = uids::EXPLICIT_VR_LITTLE_ENDIAN;
        let j2k = uids::JPEG2000_LOSSLESS;
        let files = [
            ("good", image(native, 4, 4, "1", &[9; 32])),
            ("nested", nested(2_000, true)),
            ("nested, defined", nested(2_000, false)),
            ("huge", image(native, 65_535, 65_535, "2147483647", &[0; 4])),
            ("j2k", image(j2k, 10_000, 10_000, "1", &j2k_header(10_000, 10_000))),
            ("rubbish", vec![0xff; 4096]),
        ];
        let mut objects = Vec::new();
        for (number, (name, bytes)) in files.into_iter().enumerate() {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            objects.push(object(name, number));
        }
        let pool = pool(Config { processes: 1, ..Config::default() });
        let before = resident_bytes();
        let (parsed, unreadable) = pool.inspect(folder.path(), objects).await.unwrap();
        assert_eq!((parsed.len(), unreadable.len()), (3, 3), "{unreadable:?}");
        let uid = parsed[0].study_uid.clone();
        for one in parsed {
            let good = one.instance.object == "good";
            let study = Study::gather(uid.clone(), vec![one], Vec::new());
            let plan = PicturePlan::default();
            let (made, excluded) = pool
                .pictures(folder.path(), study.clone(), &plan, &Masks::default())
                .await
                .unwrap();
            assert_eq!((made.len(), excluded.len()), if good { (1, 0) } else { (0, 1) });
        }
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "the parent grew by {grown} bytes");
    }

    /// Real files with bytes changed at random: whatever a child does, the node has an answer
    /// and the next task is done.
    #[tokio::test]
    async fn mutated_files_never_stop_the_node() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let site = std::fs::read_dir(root.join(".venv/lib")).expect("scripts/test makes .venv");
        let site = site.flatten().next().unwrap().path().join("site-packages");
        let files = site.join("pydicom/data/test_files");
        let names = [
            "MR_small_jp2klossless.dcm",
            "MR_small_jpeg_ls_lossless.dcm",
            "MR_small_RLE.dcm",
            "SC_rgb_jpeg_dcmtk.dcm",
            "SC_rgb_small_odd_jpeg.dcm",
            "image_dfl.dcm",
            "JPGExtended.dcm",
            "J2K_pixelrep_mismatch.dcm",
            "MR_small_bigendian.dcm",
            "examples_palette.dcm",
        ];
        let folder = tempfile::tempdir().unwrap();
        let mut seed = 42u64;
        let mut random = move |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let mut objects = Vec::new();
        for name in names {
            let whole = std::fs::read(files.join(name)).unwrap();
            for number in 0..MUTANTS {
                let mut bytes = whole.clone();
                // Half of the changes in the last part, where the code stream is.
                for _ in 0..=random(8) {
                    let from = if random(2) == 0 { 132 } else { bytes.len() / 2 };
                    let at = from + random(bytes.len() - from);
                    bytes[at] = random(256) as u8;
                }
                if random(4) == 0 {
                    bytes.truncate(132 + random(bytes.len() - 132));
                }
                let name = format!("{number}-{name}");
                std::fs::write(folder.path().join(&name), bytes).unwrap();
                objects.push(object(&name, objects.len()));
            }
        }
        let config = Config { task_time_max_s: 20, ..Config::default() };
        let pool = pool(config);
        let count = objects.len();
        let (parsed, unreadable) = pool.inspect(folder.path(), objects).await.unwrap();
        assert_eq!(parsed.len() + unreadable.len(), count);
        let (mut made, mut refused, mut died) = (0, 0, 0);
        for one in parsed {
            let study = Study::gather(one.study_uid.clone(), vec![one], Vec::new());
            let plan = PicturePlan { pictures_max: 2, ..PicturePlan::default() };
            match pool.pictures(folder.path(), study.clone(), &plan, &Masks::default()).await {
                Ok((pictures, _)) if pictures.is_empty() => refused += 1,
                Ok(_) => made += 1,
                Err(WorkerError::Refused(_)) => refused += 1,
                Err(error) if error.is_poison() => died += 1,
                Err(error) => panic!("{error}"),
            }
        }
        println!(
            "{count} mutants: {} unreadable, {refused} refused, {made} pictured, {died} killed a worker",
            unreadable.len()
        );
        assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
    }

    const MUTANTS: usize = 25;

    #[tokio::test]
    async fn a_process_is_replaced_after_its_tasks() {
        let pool = pool(Config { processes: 1, tasks_max: 2, ..Config::default() });
        for _ in 0..5 {
            assert_eq!(misbehave(&pool, "alive").await.unwrap(), "alive");
        }
        assert_eq!(pool.shared.idle.lock().unwrap()[0].done, 1);
    }
}
