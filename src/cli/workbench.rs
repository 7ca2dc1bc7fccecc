//! What `analyze`, `batch` and `replay` share: files become studies, studies are planned and
//! priced, then read one beside the other with nothing around them.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use futures_util::StreamExt as _;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;

use crate::analysis::cost;
use crate::analysis::cost::Estimate;
use crate::analysis::plan;
use crate::analysis::plan::Plan;
use crate::analysis::profile;
use crate::app::workbench::Item;
use crate::app::workbench::Read;
use crate::app::workbench::Workbench;
use crate::cli;
use crate::cli::CouldNotStart;
use crate::cli::send;
use crate::config::Settings;
use crate::config::Sources;
use crate::dicom::storage_scu::Head;
use crate::domain::study::Inspected;
use crate::domain::study::Study;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::pipeline::record::Request;
use crate::pipeline::way::Kit;
use crate::telemetry;
use crate::web::FileKind;
use crate::web::Upload;
use crate::web::file_kind;
use crate::worker::Object;

/// Files that are looked at in one call.
const FILES_MAX: usize = 500_000;
/// Files between two words about how far it is.
const LOOKED_AT_ONCE: usize = 200;
/// Bytes and studies after which a workbench is cleared away for a fresh one: it holds copies.
const BYTES_MAX: u64 = 2 << 30;
const STUDIES_MAX: usize = 64;

/// Who reads, and how.
#[derive(Debug, clap::Args)]
pub struct ReadingArgs {
    /// Settings file (TOML), as of prelim serve; where it delivers and whom it alerts is left out
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, over file and environment; can be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Who reads alone: local, a gateway or a pool of the settings
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// The profile by which all is read, whatever the headers say
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Studies that are read at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    at_once: u16,
    /// Do not ask before models are asked
    #[arg(long)]
    yes: bool,
}

/// What the headers of bare pictures would say.
#[derive(Debug, Default, clap::Args)]
pub struct PictureArgs {
    /// Modality of bare pictures (PNG, JPEG), e.g. CR or XC; without it they are passed over
    #[arg(long, value_name = "CS")]
    modality: Option<String>,
    /// Body part of bare pictures, e.g. CHEST
    #[arg(long, value_name = "CS", requires = "modality", default_value = "")]
    body_part: String,
    /// View of bare pictures, e.g. PA
    #[arg(long, value_name = "CS", requires = "modality", default_value = "")]
    view: String,
    /// Age of the patient on bare pictures, e.g. 004Y
    #[arg(long, value_name = "AS", requires = "modality", default_value = "")]
    age: String,
    /// Sex of the patient on bare pictures: M, F or O
    #[arg(long, value_name = "CS", requires = "modality", default_value = "")]
    sex: String,
}

impl PictureArgs {
    fn upload(&self) -> anyhow::Result<Option<Upload>> {
        let Some(modality) = &self.modality else { return Ok(None) };
        let mut upload = Upload::default();
        let said = [
            ("modality", modality),
            ("body_part", &self.body_part),
            ("view", &self.view),
            ("age", &self.age),
            ("sex", &self.sex),
        ];
        for (name, value) in said {
            upload.say(name, value).map_err(|why| CouldNotStart(format!("--{why}")))?;
        }
        Ok(Some(upload))
    }
}

/// Settings, and how they are used.
pub struct Way {
    settings: Settings,
    provider: Option<String>,
    profile: String,
    at_once: usize,
    yes: bool,
}

impl ReadingArgs {
    pub fn way(self) -> anyhow::Result<Way> {
        // What a study's state says need not be said twice.
        let mut set = vec!["telemetry.filter=\"off\"".to_owned()];
        set.extend(self.set);
        let sources = Sources { file: self.config.as_deref(), environment: true, set: &set };
        let settings = crate::config::load(&sources)?;
        telemetry::init(&settings.telemetry);
        Ok(Way {
            settings,
            provider: self.provider,
            profile: self.profile.unwrap_or_default(),
            at_once: usize::from(self.at_once),
            yes: self.yes,
        })
    }
}

/// A study, who would read it, and what that takes.
pub struct Planned {
    pub item: Item,
    /// The first of its files, as it was found.
    pub first_file: PathBuf,
    pub bytes: u64,
    /// Title of the profile, or why nobody reads it.
    pub as_what: String,
    pub estimate: Estimate,
}

/// What was found in files.
pub struct Found {
    pub studies: Vec<Planned>,
    /// Files that are not read, and why.
    pub left_out: Vec<(PathBuf, String)>,
    /// Files in folders that are neither instances nor wanted pictures.
    pub passed_over: usize,
    /// Bare pictures as instances, as long as this is held.
    _wrapped: Vec<tempfile::NamedTempFile>,
}

pub fn bar(of: usize, what: &'static str, is_quiet: bool) -> ProgressBar {
    let bar = ProgressBar::new(of as u64).with_message(what);
    let style = "{msg} {bar:32} {pos}/{len}, {per_sec}, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("a valid template"));
    if is_quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}

impl Way {
    pub async fn workbench(&self, answers: Option<&Path>) -> anyhow::Result<Workbench> {
        let started = Workbench::start(&self.settings, answers, self.provider.as_deref()).await;
        let bench = started.map_err(|error| CouldNotStart(format!("{error:#}")))?;
        if !self.profile.is_empty() {
            profile::find(&bench.kit.profiles, &self.profile).map_err(CouldNotStart)?;
        }
        Ok(bench)
    }

    /// Looks at files and at folders with all below them.
    pub async fn look(
        &self,
        bench: &Workbench,
        named: &[PathBuf],
        pictures: &PictureArgs,
        is_quiet: bool,
    ) -> anyhow::Result<Found> {
        let said = pictures.upload()?;
        // What is made of bare pictures is read after this workbench is gone.
        let folder = std::env::temp_dir();
        let is_picture = |path: &Path| matches!(file_kind(path), Some(FileKind::Picture(_)));
        let is_wanted =
            |path: &Path| send::is_instance(path) || (said.is_some() && is_picture(path));
        let found = send::find(named, &is_wanted);
        let (files, passed_over) = found.map_err(|error| CouldNotStart(format!("{error:#}")))?;
        if files.len() > FILES_MAX {
            let why = format!("{} files are too many at once; name a folder below", files.len());
            return Err(CouldNotStart(why).into());
        }
        let bar = bar(files.len(), "looking at files", is_quiet);
        let (mut wrapped, mut left_out) = (Vec::new(), Vec::new());
        let mut studies: BTreeMap<StudyUid, Headers> = BTreeMap::new();
        for some in files.chunks(LOOKED_AT_ONCE) {
            let mut objects = Vec::new();
            // Where each instance is, and the file that it was made of.
            let mut paths: BTreeMap<SopInstanceUid, (PathBuf, &PathBuf)> = BTreeMap::new();
            for file in some {
                let path = match (&said, is_picture(file)) {
                    (Some(said), true) => match bench.wrapped(file, &folder, said).await {
                        Ok(made) => {
                            wrapped.push(made);
                            wrapped.last().map(|made| made.path().to_owned()).unwrap_or_default()
                        }
                        Err(error) => {
                            left_out.push((file.clone(), error.to_string()));
                            continue;
                        }
                    },
                    (None, true) => {
                        let why = "a bare picture needs its modality: --modality CR";
                        left_out.push((file.clone(), why.to_owned()));
                        continue;
                    }
                    (_, false) => file.clone(),
                };
                match object(&path) {
                    Ok(object) if paths.contains_key(&object.sop_instance_uid) => {
                        let why = "an instance of the same SOP Instance UID was found before";
                        left_out.push((file.clone(), why.to_owned()));
                    }
                    Ok(object) => {
                        paths.insert(object.sop_instance_uid.clone(), (path, file));
                        objects.push(object);
                    }
                    Err(why) => left_out.push((file.clone(), why)),
                }
            }
            let (parsed, unreadable) = bench.kit.pool.inspect(Path::new("/"), objects).await?;
            for one in parsed {
                let sop_instance_uid = &one.instance.sop_instance_uid;
                let Some((path, file)) = paths.remove(sop_instance_uid) else { continue };
                studies.entry(one.study_uid.clone()).or_default().push(path, file, one);
            }
            for one in unreadable {
                let file = paths.remove(&one.sop_instance_uid).map(|(_, file)| file.clone());
                left_out.push((file.unwrap_or_default(), one.reason));
            }
            bar.inc(some.len() as u64);
        }
        bar.finish_and_clear();
        let studies = studies.into_iter();
        let planned = studies.map(|(uid, headers)| headers.planned(uid, &bench.kit, &self.profile));
        let studies = planned.collect();
        Ok(Found { studies, left_out, passed_over, _wrapped: wrapped })
    }

    /// Says what is about to be asked of models, and asks whether it should be.
    ///
    /// # Errors
    /// It should not, or nobody is there to say so.
    pub fn confirm(&self, studies: &[Planned]) -> anyhow::Result<()> {
        let estimate = studies.iter().fold(Estimate::default(), |mut sum, study| {
            sum.tokens += study.estimate.tokens;
            sum.cost_micro += study.estimate.cost_micro;
            sum.gateways.extend_from_slice(&study.estimate.gateways);
            sum.unpriced.extend_from_slice(&study.estimate.unpriced);
            sum
        });
        if estimate.gateways.is_empty() {
            return Ok(());
        }
        let asked = studies.iter().filter(|study| !study.estimate.gateways.is_empty()).count();
        eprintln!("{}", told(asked, &estimate, &self.settings.analysis.currency));
        if self.yes {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            let why = "models would be asked; say --yes where nobody can answer the question";
            return Err(CouldNotStart(why.into()).into());
        }
        eprint!("Go on? [y/N] ");
        std::io::stderr().flush()?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        match matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            true => Ok(()),
            false => Err(CouldNotStart("nothing was asked".into()).into()),
        }
    }

    /// Reads studies, several at a time, and hands on each as soon as it is done.
    ///
    /// - `answers`: folder of the answers that are kept.
    pub async fn read(
        &self,
        studies: Vec<Planned>,
        answers: Option<&Path>,
        on_each: &mut dyn FnMut(Planned, anyhow::Result<Read>, Duration) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut waiting = studies.into_iter().peekable();
        while waiting.peek().is_some() {
            let (mut some, mut bytes) = (Vec::new(), 0);
            while let Some(next) = waiting.next_if(|next| {
                some.is_empty() || (bytes + next.bytes <= BYTES_MAX && some.len() < STUDIES_MAX)
            }) {
                bytes += next.bytes;
                some.push(next);
            }
            let bench = self.workbench(answers).await?;
            let read = |study: Planned| async {
                let started = Instant::now();
                let read = bench.read(&study.item).await;
                (study, read, started.elapsed())
            };
            let mut done =
                futures_util::stream::iter(some).map(read).buffer_unordered(self.at_once);
            while let Some((study, read, took)) = done.next().await {
                on_each(study, read, took)?;
            }
            drop(done);
            bench.stop().await;
        }
        Ok(())
    }

    pub fn currency(&self) -> &str {
        &self.settings.analysis.currency
    }
}

/// One sentence on what models will be asked.
fn told(studies: usize, estimate: &Estimate, currency: &str) -> String {
    let mut names: Vec<&str> = estimate.gateways.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    let mut unpriced: Vec<&str> = estimate.unpriced.iter().map(String::as_str).collect();
    unpriced.sort_unstable();
    unpriced.dedup();
    let without = match unpriced.is_empty() {
        true => String::new(),
        false => format!(", and what {} takes, which has no price", unpriced.join(", ")),
    };
    format!(
        "{studies} studies go to {}: at most {} calls, about {} tokens, {} {currency}{without}; repairs and retries come on top.",
        names.join(", "),
        estimate.gateways.len(),
        estimate.tokens,
        money(estimate.cost_micro),
    )
}

pub fn money(micro: u64) -> String {
    format!("{:.4}", micro as f64 / 1e6)
}

fn object(path: &Path) -> Result<Object, String> {
    let head = Head::read(path).map_err(|error| error.to_string())?;
    let sop_instance_uid =
        SopInstanceUid::parse(&head.sop_instance_uid).map_err(|error| error.to_string())?;
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    let path = path.to_str().ok_or("its name is not UTF-8")?;
    Ok(Object { object: path.to_owned(), sop_instance_uid })
}

/// Files of one study with their headers.
#[derive(Default)]
struct Headers {
    first: PathBuf,
    files: Vec<PathBuf>,
    parsed: Vec<Inspected>,
}

impl Headers {
    fn push(&mut self, path: PathBuf, file: &Path, parsed: Inspected) {
        if self.files.is_empty() {
            self.first = file.to_owned();
        }
        self.files.push(path);
        self.parsed.push(parsed);
    }

    fn planned(self, study_uid: StudyUid, kit: &Kit, profile: &str) -> Planned {
        let study = Study::gather(study_uid.clone(), self.parsed, Vec::new());
        let request = Request { profile: profile.to_owned(), ..Request::default() };
        let (as_what, estimate) = priced(&study, kit, profile);
        let bytes = self.files.iter().filter_map(|file| file.metadata().ok());
        let bytes = bytes.map(|meta| meta.len()).sum();
        let item = Item { study_uid, files: self.files, request };
        Planned { item, first_file: self.first, bytes, as_what, estimate }
    }
}

/// By what it is read, and what that takes.
fn priced(study: &Study, kit: &Kit, profile: &str) -> (String, Estimate) {
    let planned = match profile {
        "" => plan::plan(study, &kit.profiles, &kit.analysis),
        name => plan::plan_as(study, name, &kit.profiles, &kit.analysis),
    };
    match planned {
        Plan::Read { profile, route, .. } => {
            let (shown, _) = plan::readable(study);
            let wanted = &profile.pictures.modalities;
            let is_shown = |modality: &String| wanted.is_empty() || wanted.contains(modality);
            let images = shown.instances.iter().filter(|one| is_shown(&one.modality));
            let images = images.map(|one| u64::from(one.number_of_frames.max(1))).sum();
            let estimate = cost::at_most(&profile, &route, images, &kit.analysis);
            (profile.title.clone(), estimate)
        }
        Plan::Hold { reason } | Plan::Review { reason } => (reason, Estimate::default()),
    }
}

/// Says what was not read of what was named.
pub fn tell_left_out(found: &Found) {
    const SHOWN: usize = 20;
    for (file, why) in found.left_out.iter().take(SHOWN) {
        eprintln!("not read: {}: {}", cli::plain(&file.display().to_string()), cli::plain(why));
    }
    if found.left_out.len() > SHOWN {
        eprintln!("not read: {} files more", found.left_out.len() - SHOWN);
    }
    if found.passed_over > 0 {
        let passed_over = found.passed_over;
        eprintln!("passed over in folders, because they are no DICOM files: {passed_over}");
    }
}
