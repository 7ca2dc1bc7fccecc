//! `prelim retention`: what may go, and why not the rest.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::cli::node::Node;
use crate::config;
use crate::config::Sources;
use crate::domain::clock::SystemClock;
use crate::store;
use crate::store::RetentionReport;
use crate::store::Store;
use crate::store::Verdict;

/// Shows what the rules for keeping would remove, and why the rest stays
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The rules are store.retention of the settings: those of the node when one runs, else of --config,
environment and --set. Nothing is removed that is not delivered, or of which a job or an alert is
open. A running node removes by itself, every store.retention.every_minutes.

Examples:
  prelim retention --dry-run
  prelim retention --dry-run --set store.retention.keep_days=30
  prelim retention --now

Exit code: 0.")]
pub struct Args {
    /// Only show it (the default)
    #[arg(long, conflicts_with = "now")]
    dry_run: bool,
    /// Remove it now
    #[arg(long)]
    now: bool,
    /// Settings file (TOML), when no node runs
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over file and environment, when no node runs
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"on", "studies", "objects_bytes", "remove", "forget", "keep", "decisions", …}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let report = cli::block_on(report(&args))?;
    if args.json {
        return cli::print_json(&report);
    }
    if !report.on {
        println!("store.retention is off: nothing is ever removed.");
    }
    if !report.decisions.is_empty() {
        let mut table = cli::table(["Study", "State", "Instances", "MB", "What", "Why"]);
        for decision in &report.decisions {
            let (what, why) = match &decision.verdict {
                Verdict::Remove { why } => ("objects go", why),
                Verdict::Forget { why } => ("all goes", why),
                Verdict::Keep { why } => ("stays", why),
            };
            table.add_row([
                decision.study_uid.to_string(),
                decision.state.as_str().to_owned(),
                decision.instances.to_string(),
                format!("{:.1}", decision.bytes as f64 / 1e6),
                what.to_owned(),
                why.clone(),
            ]);
        }
        println!("{table}");
    }
    let RetentionReport { remove, forget, keep, bytes_to_go, .. } = report;
    let megabytes = bytes_to_go as f64 / 1e6;
    match report.done {
        Some(done) => println!("{done} of {} studies are removed.", remove + forget),
        None => println!(
            "Of {remove} studies the objects would go, of {forget} all ({megabytes:.1} MB); {keep} stay."
        ),
    }
    Ok(ExitCode::SUCCESS)
}

async fn report(args: &Args) -> anyhow::Result<RetentionReport> {
    let data = args.data.existing()?;
    if let Some(node) = Node::find(data).await? {
        if args.config.is_some() || !args.set.is_empty() {
            eprintln!("warning: a node runs: its own rules count, not --config and --set");
        }
        let answer = match args.now {
            true => node.post_json("retention", &()).await?,
            false => node.get_json("retention").await?,
        };
        return answer.ok_or_else(|| anyhow::anyhow!("the node knows no retention"));
    }
    let sources = Sources { file: args.config.as_deref(), environment: true, set: &args.set };
    let settings = config::load(&sources)?;
    let config = store::Config { index_at_once_bytes: u64::MAX, ..settings.store };
    let now = args.now;
    let (data, clock) = (data.to_owned(), Arc::new(SystemClock));
    let work = move || {
        let (store, _) = Store::open(&data, &config, clock)?;
        if now { store.retention_now() } else { store.retention_plan() }
    };
    Ok(tokio::task::spawn_blocking(work).await??)
}
