//! `prelim replay`: studies that were read, through another profile, prompt or model.

use std::path::PathBuf;
use std::process::ExitCode;

use jiff::civil::Date;
use serde::Serialize;

use crate::app::workbench::Item;
use crate::cli;
use crate::cli::CouldNotStart;
use crate::cli::analyze;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::cli::workbench;
use crate::cli::workbench::PictureArgs;
use crate::cli::workbench::Planned;
use crate::cli::workbench::ReadingArgs;
use crate::cli::workbench::Way;
use crate::domain::uid::StudyUid;
use crate::pipeline::replay;
use crate::pipeline::replay::Difference;
use crate::pipeline::replay::Kept;
use crate::pipeline::replay::Reading;
use crate::store::StudyRow;

/// Reads kept studies again by other settings, and says what would be different
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim replay 1.2.840.113619.2.1.1 --config prelim.toml --provider candidate
  prelim replay --day 2026-11-21 --config prelim.toml --set analysis.profiles=new-profiles
  prelim replay --day 2026-11-21 --config prelim.toml --set 'analysis.gateways.main.model=\"x-2\"' --json

Give --config as prelim serve has it, and change what is to be tried. What is kept is not changed,
nothing is delivered, nobody is alerted. Earlier readings of the patient and budgets do not count
here. Days are UTC, by the time of the last image. Studies whose images are gone are passed over.

Exit code: 0 nothing differs, 1 something does or could not be read, 2 wrong usage.")]
pub struct Args {
    /// Study Instance UIDs (0020,000D)
    #[arg(value_name = "UID", required_unless_present = "day")]
    studies: Vec<StudyUid>,
    /// All studies of a day
    #[arg(long, value_name = "DATE", conflicts_with = "studies")]
    day: Option<Date>,
    #[command(flatten)]
    data: cli::DataArgs,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Where the new results are kept, in a folder for each study
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print {"studies", "different", "failed", "alerts", "cost_micro", "differences"}
    #[arg(long)]
    json: bool,
}

/// Before and now.
#[derive(Debug, Default, Clone, Copy, Serialize)]
struct Pair<T> {
    before: T,
    now: T,
}

#[derive(Debug, Default, Serialize)]
struct Report {
    studies: usize,
    different: usize,
    failed: usize,
    alerts: Pair<usize>,
    findings: Pair<usize>,
    cost_micro: Pair<u64>,
    differences: Vec<Difference>,
}

impl Report {
    fn take(&mut self, found: Difference) {
        self.studies += 1;
        self.different += usize::from(found.is_different());
        let pair = |of: fn(&Reading) -> usize| (of(&found.before), of(&found.now));
        let (alerts, findings) =
            (pair(|one| usize::from(one.is_alert)), pair(|one| one.findings.len()));
        self.alerts.before += alerts.0;
        self.alerts.now += alerts.1;
        self.findings.before += findings.0;
        self.findings.now += findings.1;
        self.cost_micro.before += found.before.cost_micro;
        self.cost_micro.now += found.now.cost_micro;
        self.differences.push(found);
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let profile = args.reading.profile.clone();
    let way = args.reading.way()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let folder = node::open(args.data.existing()?).await?;
        let wanted = match args.day {
            Some(day) => of_day(&folder, day).await?,
            None => args.studies.clone(),
        };
        let mut kept = Vec::new();
        let mut report = Report::default();
        for uid in wanted {
            match one(&folder, &uid).await? {
                Some(one) => kept.push(one),
                None => {
                    eprintln!("{uid}: no such study in this data folder, or its images are gone");
                    report.failed += usize::from(args.day.is_none());
                }
            }
        }
        drop(folder);
        let studies = planned(&way, &kept, profile.as_deref()).await?;
        way.confirm(&studies)?;
        let bar = workbench::bar(studies.len(), "reading studies", args.json);
        way.read(studies, None, &mut |study, read, _| {
            bar.inc(1);
            let uid = study.item.study_uid;
            let read = match read {
                Ok(read) => read,
                Err(error) => {
                    report.failed += 1;
                    bar.println(format!("{uid}: {}", cli::plain(&format!("{error:#}"))));
                    return Ok(());
                }
            };
            if let Some(out) = &args.out {
                analyze::keep(out, &read)?;
            }
            let before = kept.iter().find(|one| one.study_uid == uid);
            let before = before.map(|one| one.reading.clone()).unwrap_or_default();
            let now = Reading::new(read.assessment.as_ref(), &read.runs, read.is_alert);
            report.take(Difference::between(uid, before, now));
            Ok(())
        })
        .await?;
        bar.finish_and_clear();
        report.differences.sort_by(|a, b| a.study_uid.cmp(&b.study_uid));
        match args.json {
            true => {
                cli::print_json(&report)?;
            }
            false => print(&report, way.currency()),
        }
        Ok(ExitCode::from(u8::from(report.different + report.failed > 0)))
    })
}

async fn of_day(folder: &Folder, day: Date) -> anyhow::Result<Vec<StudyUid>> {
    let rows: Vec<StudyRow> = match folder {
        Folder::Node(node) => node.get_json("studies?limit=100000").await?.unwrap_or_default(),
        Folder::Own(store) => {
            node::note_look(store, None, "list of studies").await?;
            store.studies(100_000)?
        }
    };
    let utc = jiff::tz::TimeZone::UTC;
    let is_of = |row: &StudyRow| row.last_received_at.to_zoned(utc.clone()).date() == day;
    let of_day: Vec<StudyUid> = rows.into_iter().filter(is_of).map(|row| row.study_uid).collect();
    match of_day.is_empty() {
        true => Err(CouldNotStart(format!("no study has its last image of {day} (UTC)")).into()),
        false => Ok(of_day),
    }
}

async fn one(folder: &Folder, uid: &StudyUid) -> anyhow::Result<Option<Kept>> {
    match folder {
        Folder::Node(node) => node.get_json(&format!("study/{uid}/kept")).await,
        Folder::Own(store) => {
            let found = replay::kept(store, uid)?;
            if found.is_some() {
                node::note_look(store, Some(uid), "study to be read again").await?;
            }
            Ok(found)
        }
    }
}

/// Who reads each of them now, and what that takes.
async fn planned(way: &Way, kept: &[Kept], profile: Option<&str>) -> anyhow::Result<Vec<Planned>> {
    let bench = way.workbench(None).await?;
    let mut all = Vec::new();
    for one in kept {
        let found = way.look(&bench, &one.files, &PictureArgs::default(), true).await?;
        workbench::tell_left_out(&found);
        for mut study in found.studies {
            let mut request = one.request.clone();
            if let Some(profile) = profile {
                profile.clone_into(&mut request.profile);
            }
            study.item = Item { request, ..study.item };
            all.push(study);
        }
    }
    bench.stop().await;
    Ok(all)
}

fn print(report: &Report, currency: &str) {
    for found in report.differences.iter().filter(|found| found.is_different()) {
        let Difference { study_uid, before, now, only_before, only_now } = found;
        println!("{study_uid}");
        if before.outcome != now.outcome {
            println!("  outcome: {} -> {}", said(&before.outcome), said(&now.outcome));
        }
        let urgency =
            |reading: &Reading| reading.urgency.map_or("not assessed", |one| one.as_str());
        if before.urgency != now.urgency {
            println!("  urgency: {} -> {}", urgency(before), urgency(now));
        }
        for (sign, names) in [("-", only_before), ("+", only_now)] {
            names.iter().for_each(|name| println!("  {sign} {}", cli::plain(name)));
        }
        match (before.is_alert, now.is_alert) {
            (true, false) => println!("  no alert any more"),
            (false, true) => println!("  an alert that was none"),
            (true, true) | (false, false) => {}
        }
    }
    let mut table = cli::table(["", "before", "now"]);
    let (alerts, findings, cost) = (report.alerts, report.findings, report.cost_micro);
    table.add_row(["findings".to_owned(), findings.before.to_string(), findings.now.to_string()]);
    table.add_row(["alerts".to_owned(), alerts.before.to_string(), alerts.now.to_string()]);
    let money = workbench::money;
    table.add_row([format!("cost, {currency}"), money(cost.before), money(cost.now)]);
    println!("{table}");
    println!(
        "{} studies read again: {} differ, {} could not be read",
        report.studies, report.different, report.failed
    );
}

fn said(outcome: &str) -> &str {
    if outcome.is_empty() { "none" } else { outcome }
}
