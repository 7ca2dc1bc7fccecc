//! `prelim peers`: who may send, and who called and was refused.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::config;
use crate::config::Sources;
use crate::dicom::access;
use crate::dicom::access::Addresses;
use crate::dicom::access::Peer;
use crate::dicom::access::Peers;
use crate::domain::ae_title::AeTitle;

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
        #[arg(value_name = "TITLE@ADDRESS", value_parser = caller)]
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

#[derive(Debug, Clone)]
struct Caller {
    ae_title: Option<AeTitle>,
    addresses: Addresses,
}

fn caller(text: &str) -> Result<Caller, String> {
    let form = "use TITLE@ADDRESS, e.g. CT1@10.0.0.5 or '*@10.0.7.0/24'";
    let (title, addresses) = text.rsplit_once('@').ok_or(form)?;
    let ae_title = match title {
        "*" => None,
        title => Some(AeTitle::parse(title).map_err(|error| error.to_string())?),
    };
    Ok(Caller { ae_title, addresses: addresses.parse()? })
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.what {
        None => show(&args),
        Some(What::Add { who, name, data }) => {
            let file = peers_file(&data)?;
            let mut peers = access::read(&file).map_err(CouldNotStart)?;
            let name = name.unwrap_or_else(|| default_name(&who));
            add(&mut peers, &name, who);
            access::write(&file, &peers)?;
            let peer = &peers[&name];
            println!("{name}: {} may send from {}", title(peer), addresses(peer));
            Ok(ExitCode::SUCCESS)
        }
        Some(What::Remove { name, data }) => {
            let file = peers_file(&data)?;
            let mut peers = access::read(&file).map_err(CouldNotStart)?;
            if peers.remove(&name).is_none() {
                let known: Vec<&str> = peers.keys().map(String::as_str).collect();
                eprintln!(
                    "error: no peer is called '{}' in {}; there are: {}",
                    cli::plain(&name),
                    file.display(),
                    known.join(", ")
                );
                return Ok(ExitCode::from(1));
            }
            access::write(&file, &peers)?;
            println!("{name} may not send any more");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn peers_file(data: &Path) -> Result<PathBuf, CouldNotStart> {
    match data.is_dir() {
        true => Ok(data.join(access::PEERS_FILE)),
        false => Err(CouldNotStart(format!(
            "there is no data folder {}; name the node's own with --data DIR",
            data.display()
        ))),
    }
}

fn default_name(who: &Caller) -> String {
    let text = match &who.ae_title {
        Some(title) => title.to_string(),
        None => who.addresses.to_string(),
    };
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(plain).collect()
}

/// A peer of the same name gets one more address when its title is the same, else it is replaced.
fn add(peers: &mut Peers, name: &str, who: Caller) {
    let peer = peers.entry(name.to_owned()).or_default();
    if peer.ae_title != who.ae_title || peer.addresses.is_empty() {
        *peer = Peer { ae_title: who.ae_title, ..Peer::default() };
    }
    if !peer.addresses.contains(&who.addresses) {
        peer.addresses.push(who.addresses);
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
    let added = access::read(&data.join(access::PEERS_FILE)).map_err(CouldNotStart)?;
    for (name, peer) in added {
        if !rows.iter().any(|row| row.name == name) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_a_title_and_an_address() {
        let parse = |text| caller(text).map(|c| (default_name(&c), c.addresses.to_string()));
        assert_eq!(parse("CT 1@10.0.0.5"), Ok(("ct_1".into(), "10.0.0.5".into())));
        assert_eq!(parse("*@10.0.7.9/24"), Ok(("10_0_7_0_24".into(), "10.0.7.0/24".into())));
        assert_eq!(parse("A@B@fd00::1"), Ok(("a_b".into(), "fd00::1".into())));
        for bad in ["CT1", "CT1@", "@10.0.0.5", "CT1@everywhere", "CT1@10.0.0.5/99"] {
            assert!(caller(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_second_address_is_added_and_another_title_replaces() {
        let mut peers = Peers::new();
        for who in ["CT@10.0.0.5", "CT@10.0.0.6", "CT@10.0.0.6"] {
            add(&mut peers, "ct", caller(who).unwrap());
        }
        assert_eq!(addresses(&peers["ct"]), "10.0.0.5, 10.0.0.6");
        add(&mut peers, "ct", caller("MR@10.0.0.7").unwrap());
        assert_eq!(
            (title(&peers["ct"]), addresses(&peers["ct"])),
            ("MR".into(), "10.0.0.7".into())
        );
    }
}
