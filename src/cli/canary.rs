//! `prelim canary`: new gateways that take over in stages.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node::Node;
use crate::pipeline::canary::CanaryView;
use crate::web::local::CanaryWord;

/// Shows how far new gateways have taken over, and moves them by hand
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  prelim canary\n  prelim canary --rollback new-model\n\n\
    A candidate goes on by itself after its time and its calls, and back when it fails or is slow.\n\
    Exit code: 0; 1 when there is no canary of that name.")]
pub struct Args {
    /// Lets the candidate read all
    #[arg(long, value_name = "NAME", group = "word")]
    promote: Option<String>,
    /// Lets it read nothing
    #[arg(long, value_name = "NAME", group = "word")]
    rollback: Option<String>,
    /// Begins with the first stage again
    #[arg(long, value_name = "NAME", group = "word")]
    restart: Option<String>,
    /// Who says so, for the record
    #[arg(long, default_value = "operator")]
    by: String,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print all that is known of each canary
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let words =
        [("promote", &args.promote), ("rollback", &args.rollback), ("restart", &args.restart)];
    let word = words.into_iter().find_map(|(to, name)| Some((to, name.as_ref()?)));
    if let Some((to, name)) = word {
        let word = CanaryWord { canary: name.clone(), to: to.to_owned(), by: args.by.clone() };
        let known = cli::block_on(async { node(&args).await?.post("canaries", &word).await })?;
        if !known {
            eprintln!("error: there is no canary '{}'; prelim canary lists them", cli::plain(name));
        }
        return Ok(ExitCode::from(u8::from(!known)));
    }
    let views: Vec<CanaryView> = cli::block_on(async {
        Ok(node(&args).await?.get_json("canaries").await?.unwrap_or_default())
    })?;
    if args.json {
        return cli::print_json(&views);
    }
    let header = [
        "Canary",
        "Of",
        "Candidate",
        "Phase",
        "Since",
        "Why",
        "Calls",
        "Failed",
        "p99 ms",
        "Differs",
    ];
    let mut table = cli::table(header);
    for view in views {
        let differs = match view.compared {
            0 => String::new(),
            n => format!("{:.0} % of {n}", view.difference * 100.0),
        };
        table.add_row([
            cli::plain(&view.name),
            cli::plain(&view.of),
            cli::plain(&view.candidate),
            view.phase.to_string(),
            cli::time(view.since),
            cli::plain(&view.why),
            view.calls.to_string(),
            view.failed.to_string(),
            view.p99_ms.to_string(),
            differs,
        ]);
    }
    println!("{table}");
    Ok(ExitCode::SUCCESS)
}

async fn node(args: &Args) -> anyhow::Result<Node> {
    let node = Node::find(args.data.existing()?).await?;
    node.ok_or_else(|| {
        anyhow::anyhow!("no node works on this data folder: start it, then ask again")
    })
}
