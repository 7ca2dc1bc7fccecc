//! `prelim queue`: work that is not done.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node;
use crate::cli::node::Folder;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::pipeline::word;
use crate::store::JobState;

use crate::store::event::Event;
use crate::web::inspect;
use crate::web::inspect::QueueView;
use crate::web::local::Cancel;
use crate::web::local::Retry;

/// Shows what waits, what runs, and what was given up and why
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  prelim queue\n  prelim queue --retry '1.2.3/1/deliver/sr.dcm/pacs.main'\n  \
    prelim queue --retry pacs.main\n  prelim queue --retry gateway:main\n  \
    prelim queue --cancel '1.2.3/1/deliver/sr.dcm/pacs.main' --by 'Kim'\n\n\
    Exit code: 0; with --retry, --release and --cancel 1 when there is no such job."
)]
pub struct Args {
    /// Does a job that was given up, or that waits, now; of a destination all that was given up, of a
    /// gateway all that waits for it
    #[arg(long, value_name = "ID|DESTINATION|gateway:NAME", conflicts_with = "cancel")]
    retry: Option<String>,
    /// Sends what waits for a person's word (deliver.release_by_hand)
    #[arg(long, value_name = "ID", conflicts_with_all = ["retry", "cancel"])]
    release: Option<String>,
    /// Takes a delivery that was given up, or that waits, out of the queue; an alert is answered or
    /// closed instead (prelim alerts)
    #[arg(long, value_name = "ID")]
    cancel: Option<String>,
    /// Who cancels
    #[arg(long, value_name = "NAME", default_value = "command line")]
    by: String,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"counts", "jobs"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let again = args.retry.as_ref().or(args.release.as_ref());
    let done = match (again, &args.cancel) {
        (Some(id), _) => Some((id, cli::block_on(retry(&args, id))?)),
        (None, Some(id)) => Some((id, cli::block_on(cancel(&args, id))?)),
        (None, None) => None,
    };
    if let Some((id, is_done)) = done {
        if !is_done {
            let id = cli::plain(id);
            eprintln!("error: no such job waits or was given up: '{id}'; prelim queue lists them");
        }
        return Ok(ExitCode::from(u8::from(!is_done)));
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
            let due = match row.due == jiff::Timestamp::MAX {
                true => "when released".to_owned(),
                false => cli::time(row.due),
            };
            let tries = row.attempts.to_string();
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
        Folder::Node(node) => {
            node.post("queue/retry", &Retry { id: id.to_owned(), by: args.by.clone() }).await
        }
        Folder::Own(store) => {
            let events = word::trying_again(&store, id, &args.by, SystemClock.now())?;
            let is_any = !events.is_empty();
            store.commit(events).await?;
            Ok(is_any)
        }
    }
}

async fn cancel(args: &Args, id: &str) -> anyhow::Result<bool> {
    let word = Cancel { id: id.to_owned(), by: args.by.clone() };
    match node::open(args.data.existing()?).await? {
        Folder::Node(node) => node.post("queue/cancel", &word).await,
        Folder::Own(store) => {
            let row = store.job(id)?;
            if row.as_ref().is_some_and(|row| row.job.kind.is_of_alert()) {
                anyhow::bail!(
                    "this belongs to an alert, which ends when somebody answers it or closes it \
                     with a reason: prelim alerts --take or --close ALERT, while the node runs"
                );
            }
            if !row.is_some_and(|row| row.may_be_cancelled()) {
                return Ok(false);
            }
            let at = SystemClock.now();
            store.commit(vec![Event::JobCancelled { id: word.id, by: word.by, at }]).await?;
            Ok(true)
        }
    }
}
