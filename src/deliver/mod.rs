//! One try at one destination. What is tried, how often and what came of it is the outbox's, a
//! queue in the store; [`backoff`] says when the next try is.

pub mod backoff;
pub mod email;
pub mod fhir;
pub mod folder;
pub mod http;
pub mod mailbox;
pub mod mllp;
mod object;
pub mod pacs;
pub mod reach;
mod smtp_login;
pub mod stow;
pub mod webhook;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::backoff::Schedule;

/// Destinations by name: `[deliver.pacs.main]`, `[deliver.folder.archive]`, and the mail server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Archives that take DICOM objects by C-STORE.
    pub pacs: BTreeMap<String, pacs::Config>,
    /// Folders that get a copy of the results.
    pub folder: BTreeMap<String, folder::Config>,
    /// Receivers of the report as an HL7 v2 message.
    pub mllp: BTreeMap<String, mllp::Config>,
    /// Archives that take DICOM objects by STOW-RS.
    pub stow: BTreeMap<String, stow::Config>,
    /// FHIR servers.
    pub fhir: BTreeMap<String, fhir::Config>,
    /// Who gives the numbers that stand in messages, and how ours begin.
    pub identifiers: Identifiers,
    /// Where alerts, and reports where it says so, are posted as JSON.
    pub webhook: BTreeMap<String, webhook::Config>,
    /// Who gets reports by e-mail.
    pub mailbox: BTreeMap<String, mailbox::Config>,
    /// The mail server that alerts and reports go through.
    pub email: email::Config,
    /// Destinations, e.g. "pacs.main", whose entries wait until a person releases them.
    pub release_by_hand: Vec<String>,
    /// Seconds after which a delivery that failed is tried again; each wait is twice the one before.
    pub retry_first_s: u64,
    /// Seconds of the longest wait.
    pub retry_longest_s: u64,
    /// Hours after which it is given up and shown to a person.
    pub retry_hours: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            pacs: BTreeMap::new(),
            folder: BTreeMap::new(),
            mllp: BTreeMap::new(),
            stow: BTreeMap::new(),
            fhir: BTreeMap::new(),
            identifiers: Identifiers::default(),
            webhook: BTreeMap::new(),
            mailbox: BTreeMap::new(),
            email: email::Config::default(),
            release_by_hand: Vec::new(),
            retry_first_s: 30,
            retry_longest_s: 3600,
            // A PACS may be down over a weekend.
            retry_hours: 72,
        }
    }
}

/// URIs, e.g. `urn:oid:2.16.840.1.113883.3.42`; may be empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Identifiers {
    pub patient: String,
    pub accession: String,
    /// Begins the number of a report (ORC-3, OBR-3; the identifier of a DiagnosticReport), before the
    /// accession number.
    pub filler_prefix: String,
}

impl Default for Identifiers {
    fn default() -> Identifiers {
        Identifiers {
            patient: String::new(),
            accession: String::new(),
            filler_prefix: "AI1-".into(),
        }
    }
}

impl Config {
    /// Names of all that artefacts go to, as in the outbox.
    pub fn destinations(&self) -> Vec<String> {
        let named = |kind: &str, name: &String| format!("{kind}.{name}");
        let pacs = self.pacs.keys().map(|name| named("pacs", name));
        let stow = self.stow.keys().map(|name| named("stow", name));
        let fhir = self.fhir.keys().map(|name| named("fhir", name));
        let mllp = self.mllp.keys().map(|name| named("mllp", name));
        let folder = self.folder.keys().map(|name| named("folder", name));
        let mailbox = self.mailbox.keys().map(|name| named("mailbox", name));
        let hooks = self.webhook.iter().filter(|(_, hook)| hook.reports);
        let hooks = hooks.map(|(name, _)| named("webhook", name));
        let archives = pacs.chain(stow).chain(fhir).chain(mllp).chain(folder);
        archives.chain(mailbox).chain(hooks).collect()
    }

    /// Whether a destination is asked for what it took.
    pub fn asks_for_proof(&self, destination: &str) -> bool {
        match destination.split_once('.') {
            Some(("pacs", name)) => {
                self.pacs.get(name).is_some_and(|one| one.proof != pacs::Proof::Status)
            }
            Some(("stow", name)) => {
                self.stow.get(name).is_some_and(|one| one.proof != stow::Proof::Status)
            }
            _ => false,
        }
    }

    /// When a delivery that failed is tried again.
    pub fn schedule(&self) -> Schedule {
        let seconds = |s: u64| SignedDuration::from_secs(i64::try_from(s).unwrap_or(3600));
        Schedule {
            first: seconds(self.retry_first_s),
            cap: seconds(self.retry_longest_s),
            give_up_after: seconds(self.retry_hours.saturating_mul(3600)),
        }
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        for (name, pacs) in &self.pacs {
            check_name(&format!("{at}.pacs"), name, problems);
            pacs.check(&format!("{at}.pacs.{name}"), problems);
        }
        for (name, folder) in &self.folder {
            check_name(&format!("{at}.folder"), name, problems);
            folder.check(&format!("{at}.folder.{name}"), problems);
        }
        for (name, mllp) in &self.mllp {
            check_name(&format!("{at}.mllp"), name, problems);
            mllp.check(&format!("{at}.mllp.{name}"), problems);
        }
        for (name, stow) in &self.stow {
            check_name(&format!("{at}.stow"), name, problems);
            stow.check(&format!("{at}.stow.{name}"), problems);
        }
        for (name, fhir) in &self.fhir {
            check_name(&format!("{at}.fhir"), name, problems);
            fhir.check(&format!("{at}.fhir.{name}"), &self.identifiers.patient, problems);
        }
        let Identifiers { patient, accession, filler_prefix } = &self.identifiers;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if !(1..=8).contains(&filler_prefix.len()) || !filler_prefix.bytes().all(allowed) {
            let why = "without one a receiver puts the radiologist's report of the same accession \
                       number away";
            problems.push(format!(
                "{at}.identifiers.filler_prefix = {filler_prefix:?}: use 1 to 8 letters, digits, '-', \
                 '_' or '.' (default \"AI1-\"); {why}"
            ));
        }
        for (key, uri) in [("patient", patient), ("accession", accession)] {
            let bad = |c: char| c.is_whitespace() || c.is_control() || c == '|';
            if !uri.is_empty() && (!uri.contains(':') || uri.contains(bad)) {
                let why = "servers refuse what is no URI";
                problems.push(format!(
                    "{at}.identifiers.{key} = {uri:?}: use e.g. urn:oid:1.2.3; {why}"
                ));
            }
        }
        for (name, webhook) in &self.webhook {
            check_name(&format!("{at}.webhook"), name, problems);
            webhook.check(&format!("{at}.webhook.{name}"), problems);
        }
        for (name, mailbox) in &self.mailbox {
            check_name(&format!("{at}.mailbox"), name, problems);
            mailbox.check(&format!("{at}.mailbox.{name}"), self.email.is_set(), problems);
        }
        self.email.check(&format!("{at}.email"), problems);
        for (key, found, allowed, usual) in [
            ("retry_first_s", self.retry_first_s, 1..=3600, 30),
            ("retry_longest_s", self.retry_longest_s, self.retry_first_s..=86_400, 3600),
            ("retry_hours", self.retry_hours, 1..=720, 72),
        ] {
            if !allowed.contains(&found) {
                let (from, to) = (allowed.start(), allowed.end());
                let why = "sooner troubles a peer that is down, later is a report that is missed";
                problems.push(format!(
                    "{at}.{key} = {found}: use {from} to {to} (default {usual}); {why}"
                ));
            }
        }
        let known = self.destinations();
        for name in self.release_by_hand.iter().filter(|name| !known.contains(name)) {
            let known = known.join(", ");
            problems.push(format!(
                "{at}.release_by_hand: {name:?} is no destination; there are: {known}"
            ));
        }
    }
}

/// The file that keeps a message to a destination, in the result folder.
pub fn message_file(destination: &str) -> String {
    format!("report.{}.json", destination.replace('.', "-"))
}

/// A destination's name stands in job ids and on the page.
fn check_name(at: &str, name: &str, problems: &mut Vec<String>) {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if name.is_empty() || name.len() > 40 || !name.bytes().all(allowed) {
        problems.push(format!(
            "{at}.{}: name it with 1 to 40 letters, digits, '-' or '_'; the name stands in job ids",
            name.escape_default()
        ));
    }
}

/// - `example`: what one looks like.
fn check_address(key: &str, address: &str, example: &str, problems: &mut Vec<String>) {
    let parts = address.rsplit_once(':');
    let port = parts.and_then(|(_, port)| port.parse::<u16>().ok()).filter(|&port| port > 0);
    if port.is_none() || parts.is_none_or(|(host, _)| host.is_empty()) {
        problems.push(format!("{key} = {address:?}: use host:port, e.g. {example:?}"));
    }
}

/// A destination has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivered {
    /// The destination's own word: a status, a queue id. No patient data.
    pub detail: String,
}

/// Why a try failed. Texts hold the peer's code and words, never what was sent.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error("no connection: {cause}")]
    Unreachable { cause: String },
    #[error("no answer within {waited:?}")]
    TimedOut { waited: Duration },
    /// `wait`: how long it wants to be left alone, where it says so.
    #[error("refused for now: {answer}")]
    Deferred { answer: String, wait: Option<Duration> },
    #[error("refused: {answer}")]
    Refused { answer: String },
    /// The address is none that the server knows; another may be.
    #[error("refused: {answer}")]
    NoSuchAddress { answer: String },
    /// The server has seen all of it and does not want it: too large, or by what stands in it.
    #[error("refused: {answer}")]
    ContentRefused { answer: String },
    /// Of this kind nothing is taken; another kind may be.
    #[error("refused, as all of its kind: {answer}")]
    NotTaken { answer: String },
    /// Some addresses got it. Sent again to all when the refusals may pass: same Message-ID.
    #[error("{accepted} of {addresses} addresses got it; refused: {answer}")]
    PartlyRefused { accepted: usize, addresses: usize, answer: String, may_pass: bool },
    #[error("the server offers no encryption (STARTTLS): nothing was sent")]
    NotEncrypted,
    #[error("the settings do not allow it: {what}")]
    Settings { what: String },
    #[error("{what}: {source}")]
    File { what: &'static str, source: std::io::Error },
}

impl DeliverError {
    pub fn deferred(answer: impl Into<String>) -> DeliverError {
        DeliverError::Deferred { answer: answer.into(), wait: None }
    }

    /// How long the destination wants to be left alone.
    pub fn wait(&self) -> Option<Duration> {
        match self {
            DeliverError::Deferred { wait, .. } => *wait,
            DeliverError::Unreachable { .. }
            | DeliverError::TimedOut { .. }
            | DeliverError::Refused { .. }
            | DeliverError::NoSuchAddress { .. }
            | DeliverError::ContentRefused { .. }
            | DeliverError::NotTaken { .. }
            | DeliverError::PartlyRefused { .. }
            | DeliverError::NotEncrypted
            | DeliverError::Settings { .. }
            | DeliverError::File { .. } => None,
        }
    }

    /// Whether the outbox tries again. No `_` arm: a new case has to decide.
    pub fn is_transient(&self) -> bool {
        match self {
            DeliverError::Unreachable { .. }
            | DeliverError::TimedOut { .. }
            | DeliverError::Deferred { .. }
            // The server may offer it again tomorrow; a person sees the cause meanwhile.
            | DeliverError::NotEncrypted
            | DeliverError::File { .. } => true,
            DeliverError::PartlyRefused { may_pass, .. } => *may_pass,
            DeliverError::Refused { .. }
            | DeliverError::NoSuchAddress { .. }
            | DeliverError::ContentRefused { .. }
            | DeliverError::NotTaken { .. }
            | DeliverError::Settings { .. } => false,
        }
    }
}

/// One line of a peer's words, short and without control characters.
fn peer_words(text: &str) -> String {
    let one_line = |c: char| if c.is_control() { ' ' } else { c };
    let words: String = text.chars().take(400).map(one_line).collect();
    words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect()
}

#[cfg(test)]
mod tests;
