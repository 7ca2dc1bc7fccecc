//! `prelim sources`: who sends, and who was refused.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use crate::cli;
use crate::cli::node::Node;
use crate::dicom::sources;
use crate::dicom::sources::Source;
use crate::dicom::sources::Sources;
use crate::domain::clock::SystemClock;

/// Shows who sent how much, and who was refused and why
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print all that is known of each source
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = cli::block_on(list(args.data.existing()?))?;
    if args.json {
        return cli::print_json(&sources);
    }
    let header =
        ["Calls itself", "Address", "Last seen", "Associations", "Stored", "Bytes", "Not stored"];
    let mut table = cli::table(header);
    for source in sources.iter().filter(|source| !source.is_stranger()) {
        let lost = source.refused + source.failed;
        table.add_row([
            cli::plain(&source.calling_ae),
            source.address.to_string(),
            cli::time(source.last_seen),
            source.associations.to_string(),
            source.stored.to_string(),
            source.stored_bytes.to_string(),
            if lost > 0 { lost.to_string() } else { String::new() },
        ]);
    }
    println!("{table}");
    print_strangers(&sources);
    Ok(ExitCode::SUCCESS)
}

/// Those that were never let in.
pub fn print_strangers(sources: &[Source]) {
    let mut table = cli::table(["Refused", "Address", "Last seen", "Times", "Why"]);
    for source in sources.iter().filter(|source| source.is_stranger()) {
        let why: Vec<&str> = source.rejections.keys().map(String::as_str).collect();
        table.add_row([
            cli::plain(&source.calling_ae),
            source.address.to_string(),
            cli::time(source.last_seen),
            source.rejections.values().sum::<u64>().to_string(),
            why.join(", "),
        ]);
    }
    if table.row_iter().next().is_some() {
        println!("\n{table}");
    }
}

/// From the node, or what it left when it ended.
pub async fn list(data: &Path) -> anyhow::Result<Vec<Source>> {
    if let Some(node) = Node::find(data).await? {
        return Ok(node.get_json("sources").await?.unwrap_or_default());
    }
    let file = data.join(sources::SOURCES_FILE);
    Ok(Sources::open(Some(file), Arc::new(SystemClock)).list())
}
