//! `prelim check-config`: every problem of a settings file at once.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config;
use crate::config::Problem;
use crate::config::Sources;

/// Checks a settings file and says everything that is wrong with it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  prelim check-config /etc/prelim/prelim.toml\n  \
    prelim check-config prelim.toml --set http.listen=0.0.0.0:8080 --json\n\n\
    Exit code: 0 nothing found, 1 at least one problem.")]
pub struct Args {
    /// The settings file (TOML)
    file: PathBuf,
    /// Also apply PRELIM_SECTION__KEY variables of this environment
    #[arg(long)]
    env: bool,
    /// A setting that replaces the file's, as `prelim serve` takes it
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// Print {"ok", "problems": [{"source", "key", "message"}]}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = Sources { file: Some(&args.file), environment: args.env, set: &args.set };
    let problems = match config::load(&sources) {
        Ok(settings) => match settings.http.check_token_file() {
            Ok(()) => Vec::new(),
            Err(error) => vec![Problem {
                source: args.file.display().to_string(),
                key: "http.token_file".to_owned(),
                message: error.to_string(),
            }],
        },
        Err(error) => error.problems,
    };
    if args.json {
        let answer = serde_json::json!({ "ok": problems.is_empty(), "problems": problems });
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else if problems.is_empty() {
        println!("{}: ok", args.file.display());
    } else {
        for problem in &problems {
            println!("{problem}");
        }
        let plural = if problems.len() == 1 { "problem" } else { "problems" };
        eprintln!("error: {} {plural} in {}", problems.len(), args.file.display());
    }
    Ok(ExitCode::from(u8::from(!problems.is_empty())))
}
