//! `prelim backup`: a copy of the data folder, while the node works.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::store::BackupReport;
use crate::store::Pace;
use crate::store::Store;

/// Copies the data folder, also while a node works on it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "What was acknowledged before it began is in it: instances, results, ledger, keys, peers and
accounts; not the index, which prelim restore makes anew. The same folder again: what is new is
copied, what the node has removed is removed. It holds patient data and keys, as the data folder
does, and is for its owner alone. The settings file and the secrets that it names are not in it.

Examples:
  sudo -u prelim prelim backup /srv/backup/prelim --data /var/lib/prelim
  prelim backup /srv/backup/prelim --gentle --json

Exit code: 0 whole, 1 something that the ledger speaks of could not be copied; it is named."
)]
pub struct Args {
    /// Folder for the backup: a new one, or that of the last one
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// Rest twice as long as it works, so that a node that receives keeps its speed
    #[arg(long)]
    gentle: bool,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"manifest", "copied", "copied_bytes", "missing", "damage"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let data = args.data.existing()?.canonicalize()?;
    let to = std::path::absolute(&args.to)?;
    if to.starts_with(&data) || data.starts_with(&to) {
        anyhow::bail!("the backup cannot be in the data folder, nor around it");
    }
    if let Folder::Own(store) = cli::block_on(node::open(&data))? {
        // What stood in the journal of a node that was killed has its files now.
        drop(store);
    }
    let mut progress = cli::progress();
    let mut pace = Pace::new(args.gentle);
    let report = Store::backup(&data, &to, SystemClock.now(), &mut |at| {
        pace.rest();
        progress(at);
    })?;
    let BackupReport { manifest, copied, copied_bytes, missing, damage } = &report;
    if args.json {
        cli::print_json(&report)?;
    } else {
        println!(
            "{} instances ({:.1} MB) and {} results, up to record {} of the ledger; \
             {copied} files with {:.1} MB are new",
            manifest.instances,
            manifest.bytes as f64 / 1e6,
            manifest.results,
            manifest.ledger.number,
            *copied_bytes as f64 / 1e6,
        );
        for file in missing {
            println!("missing, or not as it was: {}", cli::plain(file));
        }
        for what in damage {
            println!("{}", cli::plain(what));
        }
    }
    Ok(ExitCode::from(u8::from(!missing.is_empty() || !damage.is_empty())))
}
