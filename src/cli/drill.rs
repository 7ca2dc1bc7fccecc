//! `prelim drill`: a test of the whole loop, with its times.

use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli;
use crate::cli::node::Node;
use crate::domain::alert::Standing;
use crate::store::AlertRow;
use crate::store::DeliveryState;
use crate::web::local::DrillWord;

const LOOK: Duration = Duration::from_millis(200);

/// Sends a marked test through the whole alert loop and reports the times
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Whoever is on call gets a message that says that it is a drill, and answers it as in earnest. Nobody
answers: the next are told, as the service says.

Examples:
  prelim drill                      the lists that hear where no rule holds
  prelim drill stroke --wait 900

Exit code: 0 when somebody has answered, 1 when nobody did in time or no message could be delivered.")]
pub struct Args {
    /// The service of [alert.services] that is tested
    service: Option<String>,
    /// Seconds to wait for an answer; 0: only until the first message is delivered
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    wait: u64,
    /// Who asks for it
    #[arg(long, default_value = "command line")]
    by: String,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"alert", "delivered_s", "answered_s", "answered_by", "levels", "record"}
    #[arg(long)]
    json: bool,
}

/// What came of it.
#[derive(Serialize)]
struct Outcome {
    alert: String,
    /// From the call to the first message that a server took.
    delivered_s: Option<f64>,
    answered_s: Option<f64>,
    answered_by: Option<String>,
    /// Levels that were told.
    levels: usize,
    record: AlertRow,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    cli::block_on(drill(args))
}

async fn drill(args: Args) -> anyhow::Result<ExitCode> {
    let node = Node::find(args.data.existing()?).await?;
    let node = node.ok_or_else(|| {
        anyhow::anyhow!("no node works on this data folder: start it, then ask again")
    })?;
    let service = args.service.clone().unwrap_or_default();
    let word = DrillWord { service, by: args.by.clone() };
    let alert: Option<String> = node.post_json("drill", &word).await?;
    let alert = alert.ok_or_else(|| anyhow::anyhow!("the node knows no drills"))?;
    if !args.json {
        println!("drill {alert}");
    }
    let (begun, patience) = (Instant::now(), Duration::from_secs(args.wait.max(30)));
    let mut told = Told::default();
    let row = loop {
        let row: Option<AlertRow> = node.get_json(&format!("alert/{alert}")).await?;
        if let Some(row) = row {
            if !args.json {
                told.changes(&row);
            }
            let is_delivered = delivered(&row).is_some();
            let is_over = match &row.standing {
                Standing::Acknowledged(_) | Standing::Withdrawn { .. } | Standing::Closed(_) => {
                    true
                }
                Standing::Exhausted { .. } => !is_delivered || args.wait == 0,
                Standing::Open => args.wait == 0 && is_delivered,
            };
            if is_over || begun.elapsed() > patience {
                break row;
            }
        } else if begun.elapsed() > Duration::from_secs(10) {
            anyhow::bail!("the node has not raised the drill: see prelim queue");
        }
        tokio::time::sleep(LOOK).await;
    };
    let outcome = outcome(alert, row);
    let is_good = outcome.answered_s.is_some() || (args.wait == 0 && outcome.delivered_s.is_some());
    match args.json {
        true => {
            cli::print_json(&outcome)?;
        }
        false => print(&outcome, args.wait),
    }
    Ok(ExitCode::from(u8::from(!is_good)))
}

/// When a server took the first message.
fn delivered(row: &AlertRow) -> Option<Timestamp> {
    let done = row.sendings.iter().filter(|sending| sending.state == DeliveryState::Done);
    done.map(|sending| sending.at).min()
}

fn outcome(alert: String, record: AlertRow) -> Outcome {
    let since = |at: Timestamp| at.duration_since(record.raised_at).as_secs_f64().max(0.0);
    let answer = match &record.standing {
        Standing::Acknowledged(answer) => Some(answer),
        Standing::Open
        | Standing::Exhausted { .. }
        | Standing::Withdrawn { .. }
        | Standing::Closed(_) => None,
    };
    Outcome {
        alert,
        delivered_s: delivered(&record).map(since),
        answered_s: answer.map(|answer| since(answer.at)),
        answered_by: answer.map(|answer| answer.by.clone()),
        levels: record.steps.len(),
        record,
    }
}

fn print(outcome: &Outcome, wait_s: u64) {
    let seconds = |s: Option<f64>| s.map_or("never".to_owned(), |s| format!("after {s:.1} s"));
    println!("first message taken by a server: {}", seconds(outcome.delivered_s));
    println!("levels told: {}", outcome.levels);
    match (&outcome.answered_by, wait_s) {
        (Some(by), _) => {
            println!("answered by {}: {}", cli::plain(by), seconds(outcome.answered_s))
        }
        (None, 0) => println!("not waited for an answer"),
        (None, _) => println!("NOT ANSWERED"),
    }
}

/// What was said so far.
#[derive(Default)]
struct Told {
    steps: usize,
    sendings: Vec<String>,
}

impl Told {
    fn changes(&mut self, row: &AlertRow) {
        for step in row.steps.iter().skip(self.steps) {
            let why = if step.why.is_empty() { String::new() } else { format!(": {}", step.why) };
            let to = cli::plain(&step.channels.join(", "));
            println!("{} level {} to {to}{}", cli::time(step.at), step.level, cli::plain(&why));
        }
        self.steps = row.steps.len();
        for sending in &row.sendings {
            let (word, at) = match sending.state {
                DeliveryState::Done => (&sending.detail, sending.at),
                DeliveryState::Dead => (&sending.cause, sending.at),
                DeliveryState::Queued | DeliveryState::Unproven | DeliveryState::Dropped => {
                    continue;
                }
            };
            let state = if sending.state == DeliveryState::Done { "took it" } else { "FAILED" };
            let key = format!("{} {} {state}", sending.channel, sending.level);
            if !self.sendings.contains(&key) {
                let (channel, word) = (cli::plain(&sending.channel), cli::plain(word));
                println!("{} {channel} {state}: {word}", cli::time(at));
                self.sendings.push(key);
            }
        }
    }
}
