//! `prelim probe`: what an archive takes of what we make.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli;
use crate::deliver::pacs;
use crate::deliver::pacs::Artefact;
use crate::deliver::pacs::Offer;

/// Asks an archive which of our results it takes, and says which to send it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
One association is asked for and released; nothing is stored.

Examples:
  prelim probe MAIN@pacs.hospital.example:104
  prelim probe MAIN@pacs:104 --calling PRELIM_TEST --json

Exit code: 0 when it takes at least one kind of results, 1 when none or it cannot be reached.")]
pub struct Args {
    /// The archive, as AE@host:port
    target: String,
    /// What we call ourselves there
    #[arg(long, default_value = "PRELIM")]
    calling: String,
    /// Over TLS, with the roots of this PEM file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Seconds for its answer
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(5..=600))]
    timeout: u64,
    /// Print {"artefacts", "query", "commitment", "verification", "send"}
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Some((ae_title, address)) = args.target.split_once('@') else {
        anyhow::bail!("name the archive as AE@host:port, e.g. MAIN@pacs:104");
    };
    let mut settings = toml::Table::new();
    let mut set = |key: &str, value: toml::Value| {
        settings.insert(key.to_owned(), value);
    };
    set("ae_title", ae_title.into());
    set("address", address.into());
    set("calling_ae", args.calling.clone().into());
    set("timeout_s", i64::try_from(args.timeout)?.into());
    if let Some(file) = &args.ca_file {
        let tls =
            toml::Table::from_iter([("ca_file".to_owned(), file.display().to_string().into())]);
        set("tls", tls.into());
    }
    let config: pacs::Config = settings.try_into()?;
    let mut problems = Vec::new();
    config.check("the archive", &mut problems);
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("; "));
    let offer = cli::block_on(async { Ok(pacs::probe(&config).await?) })?;
    let best = best(&offer);
    if args.json {
        let mut answer = serde_json::to_value(&offer)?;
        answer["send"] = best.iter().map(|artefact| artefact.as_str()).collect();
        cli::print_json(&answer)?;
    } else {
        print(&offer, &best);
    }
    Ok(ExitCode::from(u8::from(best.is_empty())))
}

/// The best report that it takes, the document for people, and pictures.
fn best(offer: &Offer) -> Vec<Artefact> {
    let takes = |wanted: &Artefact| offer.artefacts.iter().any(|(artefact, _)| artefact == wanted);
    let report = [Artefact::Sr, Artefact::SrComprehensive, Artefact::SrEnhanced, Artefact::SrText];
    let report = report.into_iter().find(takes);
    let others = [Artefact::Pdf, Artefact::KeyImages, Artefact::Gsps, Artefact::Kos, Artefact::Seg];
    report.into_iter().chain(others.into_iter().filter(takes)).collect()
}

fn print(offer: &Offer, best: &[Artefact]) {
    let mut table = cli::table(["Kind", "Taken", "Transfer syntaxes"]);
    for kind in Artefact::ALL {
        let found = offer.artefacts.iter().find(|(artefact, _)| *artefact == kind);
        let syntaxes = found.map(|(_, syntaxes)| syntaxes.join(", ")).unwrap_or_default();
        let taken = if found.is_some() { "yes" } else { "no" };
        table.add_row([kind.as_str().to_owned(), taken.to_owned(), syntaxes]);
    }
    println!("{table}");
    let yes = |is: bool| if is { "yes" } else { "no" };
    println!(
        "C-ECHO {}, C-FIND {}, storage commitment {}",
        yes(offer.verification),
        yes(offer.query),
        yes(offer.commitment)
    );
    match best.is_empty() {
        true => println!("It takes none of our results."),
        false => {
            let names: Vec<String> =
                best.iter().map(|artefact| format!("\"{}\"", artefact.as_str())).collect();
            println!("artefacts = [{}]", names.join(", "));
        }
    }
}
