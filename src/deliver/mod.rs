//! One try at one destination. What is tried, how often and what came of it is the outbox's, a
//! queue in the store; [`backoff`] says when the next try is.

pub mod backoff;
pub mod email;
pub mod folder;
pub mod pacs;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

/// Destinations by name: `[deliver.pacs.main]`, `[deliver.folder.archive]`, and the mail server.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Archives that take DICOM objects by C-STORE.
    pub pacs: BTreeMap<String, pacs::Config>,
    /// Folders that get a copy of the results.
    pub folder: BTreeMap<String, folder::Config>,
    /// The mail server that alerts go through.
    pub email: email::Config,
}

impl Config {
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
        self.email.check(&format!("{at}.email"), problems);
    }
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
    #[error("refused for now: {answer}")]
    Deferred { answer: String },
    #[error("refused: {answer}")]
    Refused { answer: String },
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
            DeliverError::Refused { .. } | DeliverError::Settings { .. } => false,
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
