//! `prelim reload`: has the node read its settings again.

use std::process::ExitCode;

use crate::cli;
use crate::cli::node::Node;
use crate::web::local::Reloaded;

/// Has the running node read its settings again, and says what came of it
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The same as SIGHUP. Work that was begun ends with the settings it began with.\n\n\
    Exit code: 0 they are in force, 1 they cannot be used and those from before stay in force."
)]
pub struct Args {
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"taken", "lines"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let reloaded = cli::block_on(ask(&args))?;
    let code = ExitCode::from(u8::from(!reloaded.taken));
    if args.json {
        cli::print_json(&reloaded)?;
        return Ok(code);
    }
    for line in &reloaded.lines {
        println!("{}", cli::plain(line));
    }
    match (reloaded.taken, reloaded.lines.is_empty()) {
        (true, true) => println!("Nothing has changed."),
        (true, false) => println!("The settings are in force."),
        (false, _) => println!("The settings cannot be used; those from before stay in force."),
    }
    Ok(code)
}

async fn ask(args: &Args) -> anyhow::Result<Reloaded> {
    let node = Node::find(args.data.existing()?).await?;
    let node = node.ok_or_else(|| {
        anyhow::anyhow!("no node works on this data folder: its settings are read when it starts")
    })?;
    let reloaded = node.post_json("reload", &()).await?;
    reloaded.ok_or_else(|| anyhow::anyhow!("the node cannot do it: it is an older one"))
}
