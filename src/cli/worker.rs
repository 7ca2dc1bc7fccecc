//! `prelim worker`: the child process in which bytes from outside are parsed. Started by the node.

use std::process::ExitCode;

#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args) -> anyhow::Result<ExitCode> {
    Ok(crate::worker::child_main())
}
