//! Whether a destination can be reached as the settings say. Nothing is stored or sent.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::deliver::Config;
use crate::deliver::DeliverError;
use crate::deliver::email;
use crate::deliver::fhir;
use crate::deliver::folder;
use crate::deliver::mllp;
use crate::deliver::pacs;
use crate::deliver::peer_words;
use crate::deliver::stow;
use crate::outgoing;

/// Tries one destination, named as in the outbox (`pacs.main`).
///
/// # Errors
/// As a delivery would end.
pub async fn reach(config: &Config, destination: &str) -> Result<String, DeliverError> {
    let gone = || DeliverError::Settings { what: format!("there is no {destination}") };
    let (kind, name) = destination.split_once('.').ok_or_else(gone)?;
    match kind {
        "pacs" => archive(config.pacs.get(name).ok_or_else(gone)?).await,
        "stow" => stow::reach(config.stow.get(name).ok_or_else(gone)?).await,
        "fhir" => fhir::reach(config.fhir.get(name).ok_or_else(gone)?).await,
        "mllp" => mllp::reach(config.mllp.get(name).ok_or_else(gone)?).await,
        "folder" => folder::reach(config.folder.get(name).ok_or_else(gone)?).await,
        "mailbox" => email::reach(&config.email).await,
        "webhook" => {
            let hook = config.webhook.get(name).ok_or_else(gone)?;
            address(&hook.url, hook.route.allow_plain, hook.timeout_s).await
        }
        _ => Err(gone()),
    }
}

/// Which of the kinds that it is to get an archive takes.
async fn archive(config: &pacs::Config) -> Result<String, DeliverError> {
    let offer = pacs::probe(config).await?;
    let takes = |wanted: &&pacs::Artefact| offer.artefacts.iter().any(|(kind, _)| kind == *wanted);
    let (taken, refused): (Vec<_>, Vec<_>) = config.artefacts.iter().partition(takes);
    let names = |kinds: &[&pacs::Artefact]| {
        kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    };
    match (taken.is_empty(), refused.is_empty()) {
        (true, _) => {
            let answer = format!("it takes none of {}", names(&refused));
            Err(DeliverError::NotTaken { answer })
        }
        (false, true) => Ok(format!("takes {}", names(&taken))),
        (false, false) => Ok(format!("takes {}, but not {}", names(&taken), names(&refused))),
    }
}

/// Whether anything listens where a URL leads.
async fn address(url: &str, allow_plain: bool, timeout_s: u64) -> Result<String, DeliverError> {
    let url = outgoing::endpoint(url, allow_plain);
    let url = url.map_err(|what| DeliverError::Settings { what })?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(443);
    let waited = Duration::from_secs(timeout_s);
    let connected = tokio::time::timeout(waited, TcpStream::connect((host.as_str(), port))).await;
    let connected = connected.map_err(|_| DeliverError::TimedOut { waited })?;
    connected.map_err(|e| DeliverError::Unreachable { cause: peer_words(&e.to_string()) })?;
    Ok(format!("something listens on {host}:{port}; no message was sent"))
}
