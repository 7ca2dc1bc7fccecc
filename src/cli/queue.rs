//! `prelim queue`: work that is not done.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::store::JobState;
use crate::store::event::Event;
use crate::web::inspect;
use crate::web::inspect::QueueView;
use crate::web::local::Retry;

/// Shows what waits, what runs, and what was given up and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  prelim queue\n  prelim queue --retry '1.2.3/1/deliver/sr.dcm/pacs'\n\n\
    Exit code: 0; with --retry 1 when there is no dead letter with that id."
)]
pub struct Args {
    /// Puts a job that was given up back into the queue, due now
    #[arg(long, value_name = "ID")]
    retry: Option<String>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"counts", "jobs"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(id) = &args.retry {
        let retried = cli::block_on(retry(&args, id))?;
        if !retried {
            eprintln!(
                "error: no dead letter has the id '{}'; prelim queue lists them",
                cli::plain(id)
            );
        }
        return Ok(ExitCode::from(u8::from(!retried)));
    }
    let view = cli::block_on(view(&args))?;
    if args.json {
        return cli::print_json(&view);
    }
    let counts = view.counts;
    println!("{} given up, {} running, {} waiting", counts.dead, counts.running, counts.waiting);
    if !view.jobs.is_empty() {
        let mut table = cli::table(["Job", "State", "Tries", "Due", "Why"]);
        for row in view.jobs {
            let state = match row.state {
                JobState::Waiting => "waiting",
                JobState::Running => "running",
                JobState::Done => "done",
                JobState::Dead => "dead",
                JobState::Dropped => "dropped",
            };
            let (tries, due) = (row.attempts.to_string(), cli::time(row.due));
            table.add_row([row.job.id, state.into(), tries, due, cli::plain(&row.cause)]);
        }
        println!("{table}");
    }
    Ok(ExitCode::SUCCESS)
}

async fn view(args: &Args) -> anyhow::Result<QueueView> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => {
            let view = node.get_json("queue").await?;
            view.ok_or_else(|| anyhow::anyhow!("the node has no queue"))
        }
        Folder::Own(store) => Ok(inspect::queue(&store)?),
    }
}

async fn retry(args: &Args, id: &str) -> anyhow::Result<bool> {
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => node.post("queue/retry", &Retry { id: id.to_owned() }).await,
        Folder::Own(store) => {
            if !store.job(id)?.is_some_and(|row| row.state == JobState::Dead) {
                return Ok(false);
            }
            let at = SystemClock.now();
            store.commit(vec![Event::JobRetried { id: id.to_owned(), at }]).await?;
            Ok(true)
        }
    }
}
