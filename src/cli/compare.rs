//! `prelim compare`: models side by side, from what they said of the same studies.

use std::process::ExitCode;

use jiff::Timestamp;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::pipeline::compare;
use crate::pipeline::compare::Comparison;

/// Compares the models that read the studies of the last days
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Every model counts that was asked to read: screening, reader, panel, third and shadow.\n\
    Agreement is with the other models that saw the same study, not with the truth; for that see\n\
    prelim agreement."
)]
pub struct Args {
    /// Studies that changed in so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"studies", "rows", "fastest", "cheapest", "most_complete", "most_reliable"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let hours = jiff::SignedDuration::from_hours(24 * i64::from(args.days));
    let found = cli::block_on(comparison(&args, SystemClock.now() - hours))?;
    if args.json {
        return cli::print_json(&found);
    }
    let header = [
        "Gateway",
        "Model",
        "Asked",
        "Answered",
        "ms p50",
        "ms p99",
        "Tokens in",
        "Tokens out",
        "Cost",
        "Complete",
        "Agrees",
        "Of",
    ];
    let mut table = cli::table(header);
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    for row in &found.rows {
        table.add_row([
            cli::plain(&row.gateway),
            cli::plain(&row.model),
            row.asked.to_string(),
            percent(row.success_rate),
            row.latency_ms_p50.to_string(),
            row.latency_ms_p99.to_string(),
            row.tokens_in.to_string(),
            row.tokens_out.to_string(),
            row.cost_micro.map_or_else(String::new, |micro| format!("{:.4}", micro as f64 / 1e6)),
            percent(row.completeness),
            row.agreement.map(percent).unwrap_or_default(),
            row.compared.to_string(),
        ]);
    }
    println!("{} studies that a model was asked about", found.studies);
    println!("{table}");
    for (what, who) in [
        ("fastest", &found.fastest),
        ("cheapest", &found.cheapest),
        ("most complete", &found.most_complete),
        ("most reliable", &found.most_reliable),
    ] {
        if let Some(who) = who {
            println!("{what}: {}", cli::plain(who));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn comparison(args: &Args, since: Timestamp) -> anyhow::Result<Comparison> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => {
            Ok(node.get_json(&format!("comparison?since={since}")).await?.unwrap_or_default())
        }
        Folder::Own(store) => Ok(compare::compare(&compare::gather(&store, since)?)),
    }
}
