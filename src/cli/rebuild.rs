//! `prelim rebuild`: the index anew, from ledger and objects.

use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::cli::node::Node;
use crate::domain::clock::SystemClock;
use crate::store;
use crate::store::Config;
use crate::store::Store;

/// Makes the index anew from ledger and objects; the old one is set aside
#[derive(Debug, clap::Args)]
#[command(after_help = "Nothing is lost by it: the ledger is the truth, the index a view of it.\n\
    End the node first.\n\nExample:\n  prelim rebuild --data /var/lib/prelim\n\n\
    Exit code: 0 done, 1 done, but something could not be read, 2 a node runs on the folder.")]
pub struct Args {
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print what was done as one JSON object
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let data = args.data.existing()?;
    if let Some(node) = cli::block_on(Node::find(data))? {
        return Err(CouldNotStart(format!(
            "a node (process {}) runs on {}; end it first",
            node.pid(),
            data.display()
        ))
        .into());
    }
    let mut progress = cli::progress();
    let report = Store::rebuild(
        data,
        &Config::default(),
        Arc::new(SystemClock),
        &store::facts_of_file,
        &mut |at| progress(at),
    )?;
    let whole = report.damage.is_empty() && report.unreadable.is_empty();
    if args.json {
        cli::print_json(&report)?;
    } else {
        println!(
            "{} records and {} objects, {} of which had no receipt",
            report.records, report.objects, report.adopted
        );
        if let Some(old) = &report.set_aside {
            println!("the old index is {}; remove it when all is well", old.display());
        }
        for line in report.damage.iter().chain(&report.unreadable).chain(&report.duplicates) {
            println!("{}", cli::plain(line));
        }
    }
    Ok(ExitCode::from(u8::from(!whole)))
}
