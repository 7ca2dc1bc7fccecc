//! C-STORE of result objects to an archive.

use serde::Deserialize;
use serde::Serialize;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::peer_words;
use crate::domain::ae_title::AeTitle;

/// What an archive can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Artefact {
    /// The structured report as Comprehensive 3D SR.
    Sr,
    /// The same as Comprehensive SR, for archives that refuse the other.
    SrComprehensive,
    /// The report for people as Encapsulated PDF.
    Pdf,
}

impl Artefact {
    pub const ALL: [Artefact; 3] = [Artefact::Sr, Artefact::SrComprehensive, Artefact::Pdf];

    /// Its file in the result folder.
    pub fn file(self) -> &'static str {
        match self {
            Artefact::Sr => "sr.dcm",
            Artefact::SrComprehensive => "sr-comprehensive.dcm",
            Artefact::Pdf => "report.pdf.dcm",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub ae_title: AeTitle,
    /// `host:port`.
    pub address: String,
    /// What we call ourselves there.
    #[serde(default = "default_calling_ae")]
    pub calling_ae: AeTitle,
    #[serde(default = "default_artefacts")]
    pub artefacts: Vec<Artefact>,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

fn default_calling_ae() -> AeTitle {
    AeTitle::parse("PRELIM").expect("six letters are an AE title")
}

fn default_artefacts() -> Vec<Artefact> {
    vec![Artefact::Sr, Artefact::Pdf]
}

fn default_timeout_s() -> u64 {
    60
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let parts = self.address.rsplit_once(':');
        let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
        if port.is_none() || parts.is_none_or(|(host, _)| host.is_empty()) {
            let found = &self.address;
            problems.push(format!("{at}.address = {found:?}: use host:port, e.g. \"pacs:104\""));
        }
        let s = self.timeout_s;
        if !(5..=600).contains(&s) {
            let why = "a shorter wait fails on a busy archive, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 5 to 600 (default 60); {why}"));
        }
        if self.artefacts.is_empty() {
            let why = "a destination that gets nothing is a mistake";
            problems.push(format!("{at}.artefacts = []: use \"sr\", \"pdf\" or both; {why}"));
        }
    }
}

/// What the status of a C-STORE response (PS3.4 B.2.3, PS3.7 C.4) means for the outbox.
fn outcome(status: u16, comment: &str) -> Result<Delivered, DeliverError> {
    let words = peer_words(comment);
    let answer = match words.is_empty() {
        true => format!("status {status:04X}H"),
        false => format!("status {status:04X}H: {words}"),
    };
    match status {
        // Stored; stored with a warning (elements changed or dropped); it has it already.
        0x0000 | 0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF | 0x0111 => {
            Ok(Delivered { detail: answer })
        }
        // Out of resources; processing failure; its database is busy or gone.
        0xA700..=0xA7FF | 0x0110 | 0x0213 => Err(DeliverError::Deferred { answer }),
        _ => Err(DeliverError::Refused { answer }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_done_again_or_never() {
        let transient = |status| outcome(status, "").map_err(|error| error.is_transient());
        for done in [0x0000, 0xB000, 0xB006, 0xB007, 0x0111] {
            assert!(transient(done).is_ok(), "{done:04X}");
        }
        for again in [0xA700, 0xA702, 0x0110] {
            assert_eq!(transient(again), Err(true), "{again:04X}");
        }
        for never in [0xA900, 0xC000, 0xC123, 0x0122, 0x0124, 0xFE00] {
            assert_eq!(transient(never), Err(false), "{never:04X}");
        }
        let error = outcome(0xA700, "disk\r\nfull").unwrap_err();
        assert_eq!(error.to_string(), "refused for now: status A700H: disk full");
    }

    #[test]
    fn settings_of_an_archive_need_only_title_and_address() {
        let config: Config = toml::from_str("ae_title = \"MAIN\"\naddress = \"pacs:104\"").unwrap();
        assert_eq!(config.artefacts, [Artefact::Sr, Artefact::Pdf]);
        let mut problems = Vec::new();
        config.check("deliver.pacs.main", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        for address in ["pacs", ":104", "pacs:0", "pacs:99999", ""] {
            let config = Config { address: address.into(), ..config.clone() };
            config.check("deliver.pacs.main", &mut problems);
        }
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
