//! A message to people, before any way of sending it.

use jiff::Timestamp;

/// What is sent to one person. Who composes it knows no server, who sends it knows no finding.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Addresses, one person or list each.
    pub to: Vec<String>,
    /// One line, without control characters.
    pub subject: String,
    pub text: String,
    pub html: String,
    /// A picture that the HTML part names as `cid:<content_id>`.
    pub picture: Option<InlinePicture>,
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

#[derive(Debug, Clone, PartialEq)]
pub struct InlinePicture {
    pub content_id: String,
    pub media_type: String,
    pub bytes: Vec<u8>,
}
