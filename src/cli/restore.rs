//! `prelim restore`: a data folder from a backup.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::store::Config;
use crate::store::JobState;
use crate::store::Manifest;
use crate::store::Store;
use crate::store::VerifyMode;
use crate::store::event::Event;
use crate::store::event::JobOutcome;

/// Makes a data folder from a backup and checks all of it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every digest is checked and the index made anew. Run it as the node's user.

Deliveries, alerts and other messages that were open at the time of the backup may have gone out
since, by the node that was backed up. They are given up, with that reason, and nothing sends them
but a person: prelim queue --retry ID or DESTINATION. With --take-over, for a node whose old place
is gone, they go out when the node starts. What was delivered, told or answered before the backup
is not done again either way; studies whose reading was open are read.

Examples:
  sudo -u prelim prelim restore /srv/backup/prelim --data /var/lib/prelim
  prelim restore /srv/backup/prelim --data /srv/trial

Exit code: 0 everything is there, 1 there is a gap, or the folder is not empty."
)]
pub struct Args {
    /// The folder of the backup
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data folder to make: a new or an empty one
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The old node is gone: send what was open
    #[arg(long)]
    take_over: bool,
    /// Print {"manifest", "held", "gaps"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut progress = cli::progress();
    let manifest = Store::restore(&args.from, &args.data, &mut |at| progress(at))?;
    let held = cli::block_on(hold(&args, &manifest))?;
    let report = Store::verify(&args.data, VerifyMode::Full, &mut |at| progress(at))?;
    let gaps: Vec<String> = report.gaps.iter().map(ToString::to_string).collect();
    if args.json {
        cli::print_json(&serde_json::json!({
            "manifest": manifest, "held": held, "gaps": gaps,
        }))?;
    } else {
        for gap in &gaps {
            println!("{}", cli::plain(gap));
        }
        println!(
            "{} instances and {} results of {}: {}",
            report.receipts,
            report.artefacts,
            cli::time(manifest.made_at),
            if gaps.is_empty() { "nothing is missing" } else { "not all is there" }
        );
        if !held.is_empty() {
            println!("{} messages were open and are held; prelim queue lists them", held.len());
        }
    }
    Ok(ExitCode::from(u8::from(!gaps.is_empty())))
}

/// Makes the index, and gives up what would be sent, unless that is wanted. Ids of what is held.
async fn hold(args: &Args, manifest: &Manifest) -> anyhow::Result<Vec<String>> {
    let config = Config { index_at_once_bytes: u64::MAX, ..Config::default() };
    let (store, _) = Store::open(&args.data, &config, Arc::new(SystemClock))?;
    if args.take_over {
        return Ok(Vec::new());
    }
    let of_backup = cli::time(manifest.made_at);
    let cause = format!("it was open in the backup of {of_backup}, and may have gone out since");
    let sends = store
        .jobs()?
        .into_iter()
        .filter(|row| !row.job.kind.is_reading() && row.state != JobState::Dead);
    let held: Vec<String> = sends.map(|row| row.job.id).collect();
    let given_up = held.iter().map(|id| Event::JobEnded {
        id: id.clone(),
        outcome: JobOutcome::Dead { cause: cause.clone() },
        at: SystemClock.now(),
    });
    store.commit(given_up.collect()).await?;
    Ok(held)
}
