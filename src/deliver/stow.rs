//! STOW-RS (PS3.18 10.5): DICOM objects to an archive over HTTP.

use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::deliver::DeliverError;
use crate::deliver::Delivered;
use crate::deliver::http;
use crate::deliver::http::Endpoint;
use crate::deliver::pacs;
use crate::deliver::pacs::Artefact;

/// No DICOM object holds it: it is random.
const BOUNDARY: &str = "prelim-7f3c91d2a85e4b06b1c4e9d3f0a2c857";
const FAILED_SOP_SEQUENCE: &str = "00081198";
const FAILURE_REASON: &str = "00081197";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Base URL; `/studies` is added.
    pub url: String,
    /// File with the bearer token and nothing else.
    pub token_file: Option<PathBuf>,
    #[serde(default = "pacs::default_artefacts")]
    pub artefacts: Vec<Artefact>,
    /// PEM file with the root certificates to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// http:// to addresses that are not private.
    #[serde(default)]
    pub allow_plain: bool,
    /// Seconds for one answer.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

fn default_timeout_s() -> u64 {
    60
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        self.endpoint().check(at, problems);
        if self.artefacts.is_empty() {
            let why = "a destination that gets nothing is a mistake";
            problems.push(format!("{at}.artefacts = []: name at least one, e.g. \"sr\"; {why}"));
        }
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint {
            url: &self.url,
            token_file: self.token_file.as_ref(),
            ca_file: self.ca_file.as_ref(),
            allow_plain: self.allow_plain,
            timeout_s: self.timeout_s,
        }
    }
}

/// One try to store one file. A second one is harmless: the object keeps its SOP Instance UID.
///
/// # Errors
/// As the archive says of the object (Failure Reason), else of the request.
pub async fn deliver(config: &Config, file: &Path) -> Result<Delivered, DeliverError> {
    let unread = |source| DeliverError::File { what: "the result cannot be read", source };
    let object = tokio::fs::read(file).await.map_err(unread)?;
    let mut body = format!("--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n").into_bytes();
    body.extend_from_slice(&object);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let content_type =
        format!("multipart/related; type=\"application/dicom\"; boundary={BOUNDARY}");
    let request = http::Request {
        path: "/studies",
        content_type: &content_type,
        accept: "application/dicom+json",
        headers: Vec::new(),
        body,
    };
    let (status, answer) = config.endpoint().post(request).await?;
    outcome(status, serde_json::from_slice(&answer).ok().as_ref())
}

/// - `answer`: the Store Instances Response Module, where the archive sent one.
fn outcome(status: u16, answer: Option<&Value>) -> Result<Delivered, DeliverError> {
    let failed = answer.and_then(|answer| {
        // Some send a list with one data set.
        let answer = answer.get(0).unwrap_or(answer);
        answer[FAILED_SOP_SEQUENCE]["Value"].as_array()?.first()
    });
    let reason = failed.map(|item| item[FAILURE_REASON]["Value"][0].as_u64());
    match (status, reason) {
        (200 | 202 | 409, Some(Some(reason))) => {
            let reason = u16::try_from(reason).unwrap_or(0xC000);
            pacs::outcome(reason, "")
        }
        (200 | 202 | 409, Some(None)) => {
            Err(http::refused(409, "the archive says that it failed, and not why"))
        }
        (200, None) => Ok(Delivered { detail: "HTTP 200".into() }),
        // Stored with a warning, where the answer says what became of it.
        (202, None) if answer.is_some() => Ok(Delivered { detail: "HTTP 202".into() }),
        (200..=299, None) => Err(DeliverError::Deferred {
            answer: format!("HTTP {status}, but no word of what was stored"),
        }),
        (status, _) => Err(http::refused(status, "")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_archives_word_on_the_object_counts_before_that_on_the_request() {
        let stored = json!({"00081199": {"vr": "SQ", "Value": [{}]}});
        let failed = |reason: u16| json!({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}});
        let unsaid = json!({"00081198": {"vr": "SQ", "Value": [{}]}});
        let (done, again, never) = (None, Some(true), Some(false));
        for (status, answer, expected) in [
            (200, Some(stored.clone()), done),
            (200, None, done),
            (202, Some(stored.clone()), done),
            (202, Some(json!([stored])), done),
            (202, None, again),
            (204, None, again),
            (202, Some(failed(0xA700)), again),
            (409, Some(failed(0xA700)), again),
            (409, Some(failed(0x0110)), again),
            (409, Some(failed(0x0111)), done),
            (409, Some(failed(0x0122)), never),
            (200, Some(failed(0xC000)), never),
            (409, Some(unsaid), never),
            (409, None, never),
            (415, None, never),
            (401, None, never),
            (503, None, again),
        ] {
            let said = outcome(status, answer.as_ref()).map_err(|error| error.is_transient()).err();
            assert_eq!(said, expected, "{status} {answer:?}");
        }
    }
}
