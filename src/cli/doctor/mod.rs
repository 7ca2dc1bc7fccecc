//! `prelim doctor`: what keeps this node from its work, and how to mend it.

mod machine;
mod peers;
mod sight;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::Serialize;

use crate::cli;
use crate::config;
use crate::config::Settings;
use crate::config::Sources;

/// Checks clock, disk, ports, certificates, accounts, gateways, archives, mail and collectors, and says how to mend each
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Can be run beside the node, and before its first start; run it as the node's user. Nothing is stored
at a peer, no message is sent: archives are asked what they take (C-ECHO and presentation
contexts), gateways for their list of models, the mail server up to the login.

Examples:
  prelim doctor --config /etc/prelim/prelim.toml --data /var/lib/prelim
  prelim doctor --config prelim.toml --json | jq '.checks[] | select(.state != \"ok\")'

Exit code: 0 nothing is broken, though there may be warnings; 1 something is.")]
pub struct Args {
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that replaces the file's, as `prelim serve` takes it
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Seconds for the answer of each peer
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=600))]
    timeout: u64,
    /// Print {"ok", "checks": [{"what", "state", "found", "mend"}]}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Ok,
    /// It works, and a person should know.
    Warning,
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    what: String,
    state: State,
    found: String,
    /// What to do; empty when nothing is to be done.
    mend: String,
}

impl Check {
    fn ok(what: impl Into<String>, found: impl Into<String>) -> Check {
        Check::new(what, State::Ok, found, "")
    }

    fn warning(
        what: impl Into<String>,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        Check::new(what, State::Warning, found, mend)
    }

    fn broken(what: impl Into<String>, found: impl Into<String>, mend: impl Into<String>) -> Check {
        Check::new(what, State::Broken, found, mend)
    }

    fn new(
        what: impl Into<String>,
        state: State,
        found: impl Into<String>,
        mend: impl Into<String>,
    ) -> Check {
        Check { what: what.into(), state, found: found.into(), mend: mend.into() }
    }
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = Sources { file: args.config.as_deref(), environment: true, set: &args.set };
    let checks = match config::load(&sources) {
        Ok(settings) => cli::block_on(all(&args, &settings))?,
        Err(error) => {
            let mend = "correct it; prelim check-config FILE shows all that is wrong";
            let broken = |problem: &config::Problem| {
                shown(&args, Check::broken("settings", problem.to_string(), mend))
            };
            error.problems.iter().map(broken).collect()
        }
    };
    let count = |state| checks.iter().filter(|check| check.state == state).count();
    let (broken, warnings) = (count(State::Broken), count(State::Warning));
    match args.json {
        true => {
            cli::print_json(&serde_json::json!({ "ok": broken == 0, "checks": checks }))?;
        }
        false => println!("\n{broken} broken, {warnings} to know of, {} fine", count(State::Ok)),
    }
    Ok(ExitCode::from(u8::from(broken > 0)))
}

/// Prints a check as soon as it is made: peers may take their time.
fn shown(args: &Args, check: Check) -> Check {
    if !args.json {
        let sign = match check.state {
            State::Ok => "ok      ",
            State::Warning => "warning ",
            State::Broken => "BROKEN  ",
        };
        println!("{sign} {:<22} {}", cli::plain(&check.what), cli::plain(&check.found));
        if !check.mend.is_empty() {
            println!("{:>32}mend: {}", "", cli::plain(&check.mend));
        }
    }
    check
}

async fn all(args: &Args, settings: &Settings) -> anyhow::Result<Vec<Check>> {
    let data = args.data.path();
    let mut checks = vec![Check::ok("settings", "every value can work")];
    checks.push(machine::clock());
    checks.extend(machine::folder(data, &settings.store));
    checks.extend(machine::ports(data, settings).await);
    checks.extend(machine::certificates(settings));
    checks.push(machine::accounts(data, settings));
    checks.extend(peers::people(settings));
    let checks = checks.into_iter().map(|check| shown(args, check));
    let mut checks: Vec<Check> = checks.collect();
    // Beside each other: one that does not answer delays no other.
    let limit = Duration::from_secs(args.timeout);
    let asked = peers::all(settings, limit);
    let asked = asked.into_iter().map(async |check| shown(args, check.await));
    checks.extend(futures_util::future::join_all(asked).await);
    Ok(checks)
}
