//! `prelim token`: how programs come in.

use std::path::Path;
use std::process::ExitCode;

use jiff::SignedDuration;
use jiff::Timestamp;

use crate::cli;
use crate::web::accounts;
use crate::web::accounts::ACCOUNTS_FILE;
use crate::web::rights::Right;

/// Show the tokens of programs that use the API, make one, or take one back
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim token
  prelim token add ris --may send,view --days 365
  prelim token add prometheus --may watch
  prelim token remove ris

The token is printed once, and stands nowhere afterwards. A program shows it as
  Authorization: Bearer TOKEN
Exit code: 0; 1 when it cannot be done.")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"NAME": {"rights", "since", "ends"}}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make a token and print it
    Add {
        name: String,
        /// What the program may do
        #[arg(long, value_enum, value_delimiter = ',', required = true)]
        may: Vec<Right>,
        /// Days until it ends; without: until it is removed
        #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
        days: Option<u16>,
        #[command(flatten)]
        data: cli::DataArgs,
    },
    /// Take a token back
    Remove {
        name: String,
        #[command(flatten)]
        data: cli::DataArgs,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        None => show(args.data.existing()?, args.json),
        Some(What::Add { name, mut may, days, data }) => {
            may.sort_unstable();
            may.dedup();
            let now = Timestamp::now();
            let ends = days.map(|days| now + SignedDuration::from_hours(24 * i64::from(days)));
            let (.., token) = accounts::change(data.existing()?, |accounts| {
                accounts.add_token(&name, may, ends, now)
            })?;
            println!("{token}");
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Remove { name, data }) => {
            accounts::change(data.existing()?, |accounts| accounts.remove_token(&name))?;
            println!("the token {name} holds no more");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(data: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let accounts = accounts::read(&data.join(ACCOUNTS_FILE))?;
    if json {
        let tokens = accounts.tokens.iter().map(|(name, token)| {
            let about = serde_json::json!({
                "rights": token.rights, "since": token.since, "ends": token.ends,
            });
            (name, about)
        });
        return cli::print_json(&tokens.collect::<std::collections::BTreeMap<_, _>>());
    }
    let mut table = cli::table(["Name", "May", "Since", "Ends"]);
    for (name, token) in &accounts.tokens {
        let ends = token.ends.map_or_else(|| "never".to_owned(), cli::time);
        table.add_row([name.clone(), accounts::words(&token.rights), cli::time(token.since), ends]);
    }
    match accounts.tokens.is_empty() {
        true => println!("No tokens. Make one: prelim token add NAME --may send,view"),
        false => println!("{table}"),
    }
    Ok(ExitCode::SUCCESS)
}
