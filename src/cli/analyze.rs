//! `prelim analyze`: files in, their reading out, without a node.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use crate::app::workbench::Read;
use crate::cli;
use crate::cli::workbench;
use crate::cli::workbench::PictureArgs;
use crate::cli::workbench::Planned;
use crate::cli::workbench::ReadingArgs;
use crate::domain::finding::Finding;
use crate::domain::uid::StudyUid;
use crate::domain::urgency::Urgency;
use crate::pipeline::record;
use crate::pipeline::replay::Reading;

/// Reads the studies in some files now, and prints their reports
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim analyze image.dcm
  prelim analyze study/ --out results
  prelim analyze photo.jpg --modality CR --body-part CHEST --view PA --age 004Y
  prelim analyze photo.jpg --modality XC --profile wound --config prelim.toml --json | jq '.[0].object'

No node is needed and none is changed. Nothing is delivered and nobody is alerted; the urgency is
printed all the same. Reports and the rest are kept with --out. Earlier readings of the patient and
the budgets of a node do not count here.

Exit code: 0 each study was read or is not covered, 1 one needs a person or failed, 2 wrong usage.")]
pub struct Args {
    /// DICOM files, pictures (PNG, JPEG), and folders with all below them
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Where results are kept, in a folder for each study
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print a list with an object for each study
    #[arg(long)]
    json: bool,
}

/// What came of one study, for programs.
#[derive(Debug, Clone, PartialEq, Serialize, serde::Deserialize)]
pub struct Ended {
    pub study_uid: StudyUid,
    /// The first of its files.
    pub first_file: PathBuf,
    /// Files that were read.
    pub files: usize,
    /// By what it was read.
    pub profile: String,
    pub state: String,
    /// `read`, `not_covered`, `measured_only`, `needs_review`, `answered` by the schema of a profile, `held`, `failed`.
    pub outcome: String,
    pub reason: String,
    pub urgency: Option<Urgency>,
    /// Of present findings.
    pub findings: Vec<String>,
    /// Whether somebody would have been alerted.
    pub alert: bool,
    /// Millionths of the currency.
    pub cost_micro: u64,
    pub seconds: f64,
}

impl Ended {
    pub fn new(study: &Planned, read: &anyhow::Result<Read>, seconds: f64) -> Ended {
        let mut outcome = Ended {
            study_uid: study.item.study_uid.clone(),
            first_file: study.first_file.clone(),
            files: study.item.files.len(),
            profile: study.as_what.clone(),
            state: "failed".into(),
            outcome: "failed".into(),
            reason: String::new(),
            urgency: None,
            findings: Vec::new(),
            alert: false,
            cost_micro: 0,
            seconds,
        };
        match read {
            Err(error) => outcome.reason = format!("{error:#}"),
            Ok(read) => {
                let reading = Reading::new(read.assessment.as_ref(), &read.runs, read.is_alert);
                let has_object = read.results.iter().any(|(file, _)| file == record::OBJECT);
                outcome.state = read.study.state.as_str().to_owned();
                outcome.outcome = match (has_object, reading.outcome.as_str()) {
                    (true, _) => "answered".to_owned(),
                    (false, "") => outcome.state.clone(),
                    (false, word) => word.to_owned(),
                };
                outcome.files -= read.refused.len().min(outcome.files);
                outcome.reason = match &read.assessment {
                    Some(one) => one.outcome.reason().unwrap_or_default().to_owned(),
                    None => read.study.reason.clone(),
                };
                outcome.urgency = reading.urgency;
                outcome.findings = reading.findings.into_iter().collect();
                outcome.alert = read.is_alert;
                outcome.cost_micro = reading.cost_micro;
            }
        }
        outcome
    }

    /// Whether nobody has to look at it because of this program.
    pub fn is_good(&self) -> bool {
        matches!(
            self.outcome.as_str(),
            "read" | "not_covered" | "measured_only" | "answered" | "held"
        )
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    outcome: Ended,
    impression: String,
    all_findings: Vec<Finding>,
    /// By the schema of the profile.
    object: Option<serde_json::Value>,
    /// The report as text.
    report: Option<String>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let way = args.reading.way()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let bench = way.workbench(None).await?;
        let mut found = way.look(&bench, &args.files, &args.pictures, args.json).await?;
        bench.stop().await;
        workbench::tell_left_out(&found);
        way.confirm(&found.studies)?;
        let (left_out, studies) = (found.left_out.len(), std::mem::take(&mut found.studies));
        let bar = workbench::bar(studies.len(), "reading studies", args.json || studies.len() < 2);
        let mut shown = Vec::new();
        way.read(studies, None, &mut |study, read, took| {
            bar.inc(1);
            let outcome = Ended::new(&study, &read, took.as_secs_f64());
            if let (Some(out), Ok(read)) = (&args.out, &read) {
                keep(out, read)?;
            }
            let (report, object) = match &read {
                Ok(read) => (text(read, "report.txt"), text(read, record::OBJECT)),
                Err(_) => (None, None),
            };
            let assessment = read.ok().and_then(|read| read.assessment);
            let object = object.and_then(|text| serde_json::from_str(&text).ok());
            let (impression, all_findings) =
                assessment.map(|one| (one.impression, one.findings)).unwrap_or_default();
            shown.push(Shown { outcome, impression, all_findings, object, report });
            Ok(())
        })
        .await?;
        bar.finish_and_clear();
        shown.sort_by_key(|one| std::cmp::Reverse(one.outcome.urgency));
        let good = left_out == 0 && shown.iter().all(|one| one.outcome.is_good());
        match args.json {
            true => {
                cli::print_json(&shown)?;
            }
            false => shown.iter().for_each(|one| print(one, way.currency())),
        }
        if let Some(out) = &args.out {
            eprintln!("results: {}", out.display());
        }
        Ok(ExitCode::from(u8::from(!good)))
    })
}

fn print(shown: &Shown, currency: &str) {
    let Shown { outcome, object, report, .. } = shown;
    let urgency = outcome.urgency.map_or("not assessed", Urgency::as_str);
    println!("Study {}: {}, urgency {urgency}", outcome.study_uid, outcome.outcome);
    if !outcome.reason.is_empty() {
        println!("{}", cli::plain(&outcome.reason));
    }
    if let Some(report) = report {
        println!("\n{report}");
    }
    if let Some(object) = object {
        println!("{}", serde_json::to_string_pretty(object).unwrap_or_default());
    }
    if outcome.cost_micro > 0 {
        println!("cost: {} {currency}", workbench::money(outcome.cost_micro));
    }
}

fn text(read: &Read, name: &str) -> Option<String> {
    let (_, path) = read.results.iter().find(|(file, _)| file == name)?;
    std::fs::read_to_string(path).ok()
}

/// Puts the results of a study into a folder of its own, all or none of them.
pub fn keep(out: &Path, read: &Read) -> anyhow::Result<()> {
    let at = |path: &Path| format!("{} cannot be written", path.display());
    let folder = out.join(read.study.study_uid.as_str());
    std::fs::create_dir_all(out).with_context(|| at(out))?;
    let made = tempfile::Builder::new().prefix(".new-").tempdir_in(out);
    let made = made.with_context(|| at(out))?;
    for (name, path) in &read.results {
        let to = made.path().join(name);
        std::fs::copy(path, &to).with_context(|| at(&to))?;
    }
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| at(&folder))?;
    }
    std::fs::rename(made.keep(), &folder).with_context(|| at(&folder))
}
