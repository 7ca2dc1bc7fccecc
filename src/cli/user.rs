//! `prelim user`: the accounts of people.

use std::io::BufRead as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use rustix::termios;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::web::accounts;
use crate::web::accounts::ACCOUNTS_FILE;
use crate::web::rights::Role;

/// Show who may log in on the pages, let one in, change the role or the password, or put one out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim user
  prelim user add kim --role radiologist
  prelim user password kim < password.txt
  prelim user role kim administrator
  prelim user remove kim

The password is asked for, or read from standard input. With the first account everyone has to log
in, also on this machine. A running node takes a change within a second.
Exit code: 0; 1 when it cannot be done.")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Print {"NAME": {"role", "since"}}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Make an account
    Add {
        name: String,
        /// What this person is here
        #[arg(long, value_enum)]
        role: Role,
        #[command(flatten)]
        data: cli::DataArgs,
    },
    /// Give an account a new password
    Password {
        name: String,
        #[command(flatten)]
        data: cli::DataArgs,
    },
    /// Give an account another role
    Role {
        name: String,
        #[arg(value_enum)]
        role: Role,
        #[command(flatten)]
        data: cli::DataArgs,
    },
    /// Remove an account; its sessions end
    Remove {
        name: String,
        #[command(flatten)]
        data: cli::DataArgs,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        None => show(args.data.existing()?, args.json),
        Some(What::Add { name, role, data }) => {
            let password = new_password(&name)?;
            accounts::change(data.existing()?, |accounts| {
                accounts.add_user(&name, role, &password, Timestamp::now())
            })?;
            println!("{name} may log in as {}", role.word());
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Password { name, data }) => {
            let password = new_password(&name)?;
            accounts::change(data.existing()?, |accounts| accounts.set_password(&name, &password))?;
            println!("{name} has a new password");
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Role { name, role, data }) => {
            accounts::change(data.existing()?, |accounts| accounts.set_role(&name, role))?;
            println!("{name} is now {}", role.word());
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Remove { name, data }) => {
            accounts::change(data.existing()?, |accounts| accounts.remove_user(&name))?;
            println!("{name} may not log in any more");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn show(data: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let accounts = accounts::read(&data.join(ACCOUNTS_FILE))?;
    if json {
        let users = accounts.users.iter().map(|(name, user)| {
            (name, serde_json::json!({ "role": user.role, "since": user.since }))
        });
        return cli::print_json(&users.collect::<std::collections::BTreeMap<_, _>>());
    }
    let mut table = cli::table(["Name", "Role", "Since"]);
    for (name, user) in &accounts.users {
        table.add_row([name.clone(), user.role.word().to_owned(), cli::time(user.since)]);
    }
    match accounts.users.is_empty() {
        true => println!("No accounts. Make one: prelim user add NAME --role administrator"),
        false => println!("{table}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Typed twice on a terminal, which does not show it; else one line of standard input.
fn new_password(name: &str) -> anyhow::Result<String> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return line();
    }
    let before = termios::tcgetattr(&stdin)?;
    let mut silent = before.clone();
    silent.local_modes.remove(termios::LocalModes::ECHO);
    termios::tcsetattr(&stdin, termios::OptionalActions::Now, &silent)?;
    let typed = twice(name);
    termios::tcsetattr(&stdin, termios::OptionalActions::Now, &before)?;
    typed
}

fn twice(name: &str) -> anyhow::Result<String> {
    eprint!("Password of {}: ", cli::plain(name));
    let first = line();
    eprint!("\nAgain: ");
    let second = line();
    eprintln!();
    let (first, second) = (first?, second?);
    match first == second {
        true => Ok(first),
        false => Err(CouldNotStart("it was not the same twice; nothing was changed".into()).into()),
    }
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    match password.is_empty() {
        true => Err(CouldNotStart("there is no password on standard input".into()).into()),
        false => Ok(password.to_owned()),
    }
}
