//! `prelim hash-password`: the hash of a passcode for the settings file.

use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use crate::cli::CouldNotStart;
use crate::domain::password;

/// Print the hash of a passcode for dicom.users.NAME.password_hash
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Reads one line from standard input, so that the passcode stands in no list of processes:
  prelim hash-password < passcode.txt")]
pub struct Args {}

pub fn run(Args {}: Args) -> anyhow::Result<ExitCode> {
    if std::io::stdin().is_terminal() {
        eprintln!("Passcode, then Enter (it is shown as you type):");
    }
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let passcode = line.trim_end_matches(['\r', '\n']);
    if passcode.is_empty() {
        return Err(CouldNotStart("there is no passcode on standard input".to_owned()).into());
    }
    println!("{}", password::hash(passcode.as_bytes())?);
    Ok(ExitCode::SUCCESS)
}
