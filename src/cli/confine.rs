//! `prelim confine`: takes limits and becomes another program. Started by the node.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::worker::confine;
use crate::worker::confine::Limits;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address space, and each file that it writes
    #[arg(long)]
    memory_mb: u64,
    /// Processor time, over all its threads
    #[arg(long)]
    processor_s: u64,
    program: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { memory_mb, processor_s, program, arguments } = args;
    let why = confine::become_program(&program, &arguments, Limits { memory_mb, processor_s });
    eprintln!("{why}");
    Ok(ExitCode::from(126))
}
