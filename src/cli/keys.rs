//! `prelim keys`: gateways and their keys.

use std::process::ExitCode;

use crate::analysis::provider::GatewayView;
use crate::cli;
use crate::cli::node::Node;

/// Shows whether gateways answer, which of their keys is used, and what is left of each
#[derive(Debug, clap::Args)]
#[command(after_help = "Keys are named, never shown. Calls are those of this month (UTC).\n\n\
    Exit code: 0; 1 when a gateway or one of its keys cannot be used.")]
pub struct Args {
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print all that is known of each gateway
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let gateways = cli::block_on(list(&args))?;
    let is_well = |gateway: &GatewayView| {
        let usable = |state: &str| matches!(state, "in use" | "usable");
        gateway.rests.is_none()
            && gateway.problem.is_none()
            && gateway.keys.iter().all(|key| usable(&key.state))
    };
    let code = ExitCode::from(u8::from(!gateways.iter().all(is_well)));
    if args.json {
        cli::print_json(&gateways)?;
        return Ok(code);
    }
    let header = ["Gateway", "Model", "Answers", "Key", "State", "Calls", "Of", "Ends"];
    let mut table = cli::table(header);
    for gateway in &gateways {
        let answers = match (&gateway.rests, &gateway.problem, gateway.checked_at) {
            (Some(why), ..) | (None, Some(why), _) => why.clone(),
            (None, None, Some(at)) => format!("yes, {}", cli::time(at)),
            (None, None, None) => "not looked at yet".to_owned(),
        };
        let mut lead = [gateway.name.clone(), gateway.model.clone(), answers];
        for key in &gateway.keys {
            let state = match key.rests_until {
                Some(until) => format!("{} until {}", key.state, cli::time(until)),
                None => key.state.clone(),
            };
            let [name, model, answers] = std::mem::take(&mut lead);
            table.add_row([
                cli::plain(&name),
                cli::plain(&model),
                cli::plain(&answers),
                cli::plain(&key.name),
                state,
                key.calls.to_string(),
                if key.calls_max > 0 { key.calls_max.to_string() } else { String::new() },
                key.expires.map(|day| day.to_string()).unwrap_or_default(),
            ]);
        }
        // What reads on this machine has no key.
        if gateway.keys.is_empty() {
            table.add_row(lead.map(|text| cli::plain(&text)));
        }
    }
    println!("{table}");
    Ok(code)
}

async fn list(args: &Args) -> anyhow::Result<Vec<GatewayView>> {
    let node = Node::find(args.data.existing()?).await?;
    let node = node.ok_or_else(|| {
        anyhow::anyhow!("no node works on this data folder: start it, then ask again")
    })?;
    Ok(node.get_json("gateways").await?.unwrap_or_default())
}
