//! `prelim verify`: whether everything that was acknowledged is there.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node::Node;
use crate::store::Pace;
use crate::store::Store;
use crate::store::VerifyMode;
use crate::web::local::Verified;
use crate::web::local::VerifyLine;

/// Compares instances, ledger, index, results and deliveries, and names every gap
#[derive(Debug, clap::Args)]
#[command(
    after_help = "While a node runs on the folder, the node does it, and leaves out what comes meanwhile.\n\n\
    Examples:\n  prelim verify --full\n  prelim verify --full --gentle --json > gaps.json\n\n\
    Exit code: 0 nothing is missing, 1 there is a gap."
)]
pub struct Args {
    /// Also the digest of each instance: reads everything
    #[arg(long)]
    full: bool,
    /// Rest twice as long as it works, so that a node that receives keeps its speed
    #[arg(long)]
    gentle: bool,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"complete", "node_was_running", "report", "gaps"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let verified = cli::block_on(verify(&args))?;
    if args.json {
        cli::print_json(&verified)?;
    } else {
        for gap in &verified.gaps {
            println!("{}", cli::plain(gap));
        }
        let count = |key: &str| verified.report[key].as_u64().unwrap_or_default();
        println!(
            "{} records in the ledger, {} instances, {} results, {} deliveries, {} open jobs: {}",
            count("records"),
            count("receipts"),
            count("artefacts"),
            count("deliveries"),
            count("jobs"),
            match count("gaps_total") {
                0 => "nothing is missing".to_owned(),
                1 => "1 gap".to_owned(),
                gaps => format!("{gaps} gaps"),
            }
        );
        if verified.node_was_running {
            println!("A node is running: what came meanwhile is left out.");
        }
        if verified.report["journal_in_use"] == true {
            println!(
                "The node did not end in order: what stands in its journal is whole, and gets its \
                 place when the node starts."
            );
        }
    }
    Ok(ExitCode::from(u8::from(!verified.complete)))
}

async fn verify(args: &Args) -> anyhow::Result<Verified> {
    let data = args.data.existing()?;
    let mut progress = cli::progress();
    if let Some(node) = Node::find(data).await? {
        let path = format!("verify?full={}&gentle={}", args.full, args.gentle);
        let mut found = None;
        node.get_lines(&path, &mut |line| {
            match line {
                VerifyLine::Progress(at) => progress(at),
                VerifyLine::Verified(verified) => found = Some(verified),
                VerifyLine::Problem(problem) => anyhow::bail!("{}", cli::plain(&problem)),
            }
            Ok(())
        })
        .await?;
        return found.ok_or_else(|| anyhow::anyhow!("the node ended before it was done"));
    }
    let mode = if args.full { VerifyMode::Full } else { VerifyMode::Quick };
    let mut pace = Pace::new(args.gentle);
    let report = Store::verify(data, mode, &mut |at| {
        pace.rest();
        progress(at);
    })?;
    Ok(Verified::new(&report, false))
}
