//! A message to people, before any way of sending it.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// What is sent to one person or list. Who composes it knows no server, who sends it knows no finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Addresses, one person or list each.
    pub to: Vec<String>,
    /// One line, without control characters.
    pub subject: String,
    pub text: String,
    pub html: String,
    /// A picture that the HTML part names as `cid:<content_id>`.
    pub picture: Option<InlinePicture>,
    /// Files that go with it.
    pub attachments: Vec<Attachment>,
    /// Left part of the Message-ID: letters, digits, `-` and `.`. Fixed by what the message
    /// is about, so that a second try is the same message.
    pub id: String,
    /// The Date header: when it was composed, the same at each try.
    pub date: Timestamp,
    /// The [`id`](Message::id) of the message that began the matter, when this one goes on with it.
    pub thread: Option<String>,
    /// Asks mail programs to show it first.
    pub urgent: bool,
    /// The same for programs, as JSON.
    pub json: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InlinePicture {
    pub content_id: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// A file beside the text. Kept by its name alone: its bytes are a file of their own already.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    pub file: String,
    pub media_type: String,
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

/// A text as HTML: as it stands, and what looks like one of our links can be followed.
///
/// - `lang`: of the text (BCP 47).
pub fn html(text: &str, lang: &str) -> String {
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.split_once(": http") {
            Some((word, rest)) => {
                let url = handlebars::html_escape(&format!("http{rest}"));
                format!("{}: <a href=\"{url}\">{url}</a>", handlebars::html_escape(word))
            }
            None => handlebars::html_escape(line),
        })
        .collect();
    let body = lines.join("\n");
    format!(
        "<!DOCTYPE html><html lang=\"{lang}\"><body style=\"font-family:Helvetica,Arial,sans-serif\">\
         <pre style=\"font-family:inherit;white-space:pre-wrap\">{body}</pre></body></html>"
    )
}
