//! `prelim verify`: whether everything that was acknowledged is there.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node::Node;
use crate::store::Store;
use crate::store::VerifyMode;
use crate::web::local::Verified;

/// Compares instances, ledger, index and results, and names every gap
#[derive(Debug, clap::Args)]
#[command(after_help = "While a node runs on the folder, the node compares what can be compared \
    at work:\nthe ledger's chain, and each instance and result with its file.\n\n\
    Example:\n  prelim verify --full\n\n\
    Exit code: 0 nothing is missing, 1 there is a gap.")]
pub struct Args {
    /// Also the SHA-256 of each instance: reads everything
    #[arg(long)]
    full: bool,
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
            "{} records in the ledger, {} instances, {} results: {}",
            count("records"),
            count("receipts"),
            count("artefacts"),
            match count("gaps_total") {
                0 => "nothing is missing".to_owned(),
                1 => "1 gap".to_owned(),
                gaps => format!("{gaps} gaps"),
            }
        );
        if verified.node_was_running {
            println!("A node is running: index and stray files are compared when it is stopped.");
        }
    }
    Ok(ExitCode::from(u8::from(!verified.complete)))
}

async fn verify(args: &Args) -> anyhow::Result<Verified> {
    let data = args.data.existing()?;
    if let Some(node) = Node::find(data).await? {
        let answer = node.get_json(&format!("verify?full={}", args.full)).await?;
        return answer.ok_or_else(|| anyhow::anyhow!("the node cannot verify"));
    }
    let mode = if args.full { VerifyMode::Full } else { VerifyMode::Quick };
    let progress = cli::progress();
    let report = Store::verify(data, mode, &mut |at| progress(at))?;
    Ok(Verified::new(&report, false))
}
