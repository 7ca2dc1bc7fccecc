//! `prelim peers`: who may send, and who called and was refused.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr as _;

use serde::Serialize;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::config;
use crate::config::Sources;
use crate::dicom::access::Peer;
use crate::dicom::peers_file;
use crate::dicom::peers_file::Caller;

/// Show who may send, and who called and was refused; let one in, or put it out
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim peers
  prelim peers add CT1@10.0.0.5
  prelim peers add '*@10.0.7.0/24' --name ward
  prelim peers remove ct1

A running node takes the change within a second; what the settings file names is changed there.
Exit code: 0; with remove 1 when there is no such peer.")]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    data: cli::DataArgs,
    /// Also show the peers of this settings file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print {"peers", "refused"}
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Let one in: its AE title (* for any) and its address or range
    Add {
        #[arg(value_name = "TITLE@ADDRESS", value_parser = Caller::from_str)]
        who: Caller,
        /// Name in lists and settings; without: the title in lower case
        #[arg(long)]
        name: Option<String>,
        /// The node's data folder
        #[arg(long, value_name = "DIR", default_value = cli::DATA)]
        data: PathBuf,
    },
    /// Put one out, by its name
    Remove {
        name: String,
        /// The node's data folder
        #[arg(long, value_name = "DIR", default_value = cli::DATA)]
        data: PathBuf,
    },
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        None => show(&args),
        Some(What::Add { who, name, data }) => {
            let done = peers_file::change(existing(&data)?, |peers| {
                let name = name.unwrap_or_else(|| peers_file::free_name(peers, &who));
                peers_file::let_in(peers, &name, &who);
                let peer = peers[&name].clone();
                (name, peer)
            });
            let (name, peer) = done.map_err(CouldNotStart)?;
            println!("{name}: {} may send from {}", title(&peer), addresses(&peer));
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Remove { name, data }) => {
            let data = existing(&data)?;
            let gone = peers_file::change(data, |peers| match peers.remove(&name) {
                Some(_) => Ok(()),
                None => Err(peers.keys().cloned().collect::<Vec<String>>()),
            });
            if let Err(known) = gone.map_err(CouldNotStart)? {
                eprintln!(
                    "error: no peer is called '{}' in {}; there are: {}",
                    cli::plain(&name),
                    data.join(peers_file::NAME).display(),
                    known.join(", ")
                );
                return Ok(ExitCode::from(1));
            }
            println!("{name} may not send any more");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn existing(data: &Path) -> Result<&Path, CouldNotStart> {
    match data.is_dir() {
        true => Ok(data),
        false => Err(CouldNotStart(format!(
            "there is no data folder {}; name the node's own with --data DIR",
            data.display()
        ))),
    }
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// `settings` or `peers file`.
    from: &'static str,
    #[serde(flatten)]
    peer: Peer,
}

fn show(args: &Args) -> anyhow::Result<ExitCode> {
    let data = args.data.existing()?;
    let mut rows = Vec::new();
    if let Some(file) = &args.config {
        let sources = Sources { file: Some(file), environment: true, set: &[] };
        let peers = config::load(&sources)?.dicom.peers;
        rows.extend(peers.into_iter().map(|(name, peer)| Row { name, from: "settings", peer }));
    }
    let added = peers_file::read(&data.join(peers_file::NAME)).map_err(CouldNotStart)?;
    for (name, peer) in added {
        // Under the name by which it can be removed; as the node has it, beside one of the settings
        // that does not let in the same.
        if !rows.iter().any(|row| row.name == name && row.peer.covers(&peer)) {
            rows.push(Row { name, from: "peers file", peer });
        }
    }
    let callers = cli::block_on(super::sources::list(data))?;
    if args.json {
        let refused: Vec<_> = callers.iter().filter(|caller| caller.is_stranger()).collect();
        return cli::print_json(&serde_json::json!({ "peers": rows, "refused": refused }));
    }
    match rows.is_empty() {
        true => println!("No peer is known here: only this machine may send."),
        false => {
            let mut table = cli::table(["Peer", "Calls itself", "From", "Known by"]);
            for Row { name, from, peer } in &rows {
                table.add_row([name.clone(), title(peer), addresses(peer), (*from).to_owned()]);
            }
            println!("{table}");
        }
    }
    super::sources::print_strangers(&callers);
    Ok(ExitCode::SUCCESS)
}

fn title(peer: &Peer) -> String {
    peer.ae_title.as_ref().map_or("any title".to_owned(), ToString::to_string)
}

fn addresses(peer: &Peer) -> String {
    let all: Vec<String> = peer.addresses.iter().map(ToString::to_string).collect();
    if all.is_empty() { "any address".to_owned() } else { all.join(", ") }
}
