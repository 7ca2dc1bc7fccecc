//! One file for each command.

mod agreement;
mod alerts;
mod analyze;
mod audit;
mod backup;
mod batch;
mod canary;
mod check_config;
mod compare;
mod completions;
mod confine;
mod conformance;
mod cost;
mod demo;
mod doctor;
mod drill;
mod feedback;
mod final_report;
mod get;
mod hash_password;
mod keys;
mod man;
mod node;
mod oncall;
mod peers;
mod probe;
mod queue;
mod rebuild;
mod reload;
mod replay;
mod restore;
mod retention;
mod send;
mod serve;
mod sources;
mod study;
mod tls_check;
mod token;
mod user;
mod verify;
mod workbench;
mod worker;

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

const EXIT_CODES: &str = "\
Exit codes:
  0  done, nothing wrong
  1  the answer is no: a problem was found, something is unknown, or part of the work failed
  2  wrong usage, or it could not start";

#[derive(Debug, clap::Parser)]
#[command(name = "prelim", version, about, after_help = EXIT_CODES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Serve(serve::Args),
    Demo(demo::Args),
    CheckConfig(check_config::Args),
    Doctor(doctor::Args),
    Send(send::Args),
    Analyze(analyze::Args),
    Batch(batch::Args),
    Replay(replay::Args),
    Study(study::Args),
    Agreement(agreement::Args),
    Feedback(feedback::Args),
    Final(final_report::Args),
    Get(get::Args),
    Queue(queue::Args),
    Probe(probe::Args),
    Alerts(alerts::Args),
    Oncall(oncall::Args),
    Drill(drill::Args),
    Cost(cost::Args),
    Compare(compare::Args),
    Keys(keys::Args),
    Canary(canary::Args),
    Sources(sources::Args),
    Peers(peers::Args),
    User(user::Args),
    Token(token::Args),
    TlsCheck(tls_check::Args),
    Conformance(conformance::Args),
    Verify(verify::Args),
    Audit(audit::Args),
    Rebuild(rebuild::Args),
    Backup(backup::Args),
    Restore(restore::Args),
    Reload(reload::Args),
    Retention(retention::Args),
    HashPassword(hash_password::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Started by the node itself: parses what came from outside
    #[command(hide = true)]
    Worker(worker::Args),
    /// Started by the node itself: a program of the site, within limits
    #[command(hide = true)]
    Confine(confine::Args),
}

pub fn main() -> ExitCode {
    end_quietly_when_nobody_reads();
    let run = match Cli::parse().command {
        Command::Serve(args) => serve::run(args),
        Command::Demo(args) => demo::run(args),
        Command::CheckConfig(args) => check_config::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Send(args) => send::run(args),
        Command::Analyze(args) => analyze::run(args),
        Command::Batch(args) => batch::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Study(args) => study::run(args),
        Command::Agreement(args) => agreement::run(args),
        Command::Feedback(args) => feedback::run(args),
        Command::Final(args) => final_report::run(args),
        Command::Get(args) => get::run(args),
        Command::Queue(args) => queue::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Alerts(args) => alerts::run(args),
        Command::Oncall(args) => oncall::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Cost(args) => cost::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Keys(args) => keys::run(args),
        Command::Canary(args) => canary::run(args),
        Command::Sources(args) => sources::run(args),
        Command::Peers(args) => peers::run(args),
        Command::User(args) => user::run(args),
        Command::Token(args) => token::run(args),
        Command::TlsCheck(args) => tls_check::run(args),
        Command::Conformance(args) => conformance::run(args),
        Command::Verify(args) => verify::run(args),
        Command::Audit(args) => audit::run(args),
        Command::Rebuild(args) => rebuild::run(args),
        Command::Backup(args) => backup::run(args),
        Command::Restore(args) => restore::run(args),
        Command::Reload(args) => reload::run(args),
        Command::Retention(args) => retention::run(args),
        Command::HashPassword(args) => hash_password::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
        Command::Worker(args) => worker::run(args),
        Command::Confine(args) => confine::run(args),
    };
    run.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        let usage = error.is::<CouldNotStart>() || error.is::<crate::config::ConfigError>();
        ExitCode::from(if usage { 2 } else { 1 })
    })
}

/// A reader such as `head` that has seen enough is no failure of ours: `println!` panics then.
fn end_quietly_when_nobody_reads() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let message = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        if message.starts_with("failed printing to stdout") {
            std::process::exit(0);
        }
        usual(panic);
    }));
}

/// Ends the program with exit code 2. What is wrong and what to do about it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CouldNotStart(pub String);

/// Where a data folder is unless `--data` says so; the same for `serve` and everything that
/// looks at what it left. The systemd unit gives /var/lib/prelim.
pub const DATA: &str = "./prelim-data";

#[derive(Debug, clap::Args)]
pub struct DataArgs {
    /// The node's data folder
    #[arg(long = "data", value_name = "DIR", default_value = DATA)]
    data: PathBuf,
}

impl DataArgs {
    /// The folder, whether it is there or not.
    pub fn path(&self) -> &Path {
        &self.data
    }

    /// The folder, when it is one.
    pub fn existing(&self) -> Result<&Path, CouldNotStart> {
        match self.data.is_dir() {
            true => Ok(&self.data),
            false => Err(CouldNotStart(format!(
                "there is no data folder {}; name the node's own with --data DIR",
                self.data.display()
            ))),
        }
    }
}

/// Runs one future to its end on this thread.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

/// Prints a value for scripts.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<ExitCode> {
    use std::io::Write as _;
    let text = serde_json::to_string_pretty(value)?;
    // A reader such as `head` that has seen enough is no failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    Ok(ExitCode::SUCCESS)
}

/// Says how far a long walk is: on a terminal in one line that changes, else in a line now and then.
pub fn progress() -> impl FnMut(crate::store::Progress) {
    use std::io::IsTerminal as _;
    use std::time::Duration;
    use std::time::Instant;
    let terminal = std::io::stderr().is_terminal();
    let every = Duration::from_millis(if terminal { 100 } else { 10_000 });
    let bar = indicatif::ProgressBar::new_spinner();
    let mut told = Instant::now();
    let mut step = String::new();
    let mut begun = (Instant::now(), 0);
    move |at| {
        if step != at.step {
            step = at.step.to_string();
            begun = (Instant::now(), at.done);
        }
        if told.elapsed() < every {
            return;
        }
        told = Instant::now();
        let line = how_far(&at, begun.0.elapsed(), begun.1);
        match terminal {
            true => {
                bar.set_message(line);
                bar.tick();
            }
            false => eprintln!("{line}"),
        }
    }
}

/// - `before`: done when `elapsed` began.
fn how_far(at: &crate::store::Progress, elapsed: std::time::Duration, before: u64) -> String {
    let crate::store::Progress { step, done, total } = at;
    let rate = done.saturating_sub(before) as f64 / elapsed.as_secs_f64().max(0.001);
    match total {
        Some(total) if rate > 0.0 && total > done => {
            let left = (total - done) as f64 / rate;
            format!("{step}: {done} of {total}, {rate:.0}/s, {left:.0} s left")
        }
        Some(total) => format!("{step}: {done} of {total}"),
        None => format!("{step}: {done}, {rate:.0}/s"),
    }
}

/// A table for people, without lines between rows.
pub fn table<const N: usize>(header: [&str; N]) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING);
    table.set_content_arrangement(comfy_table::ContentArrangement::Disabled);
    table.set_header(header);
    table
}

/// A time for people, in UTC.
pub fn time(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// Text from outside, without characters that move the cursor or colour the terminal.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
