//! Alerts as they are kept: of what, how far, and who answered.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::finding::Laterality;
use crate::domain::urgency::Urgency;

/// Why someone must hear.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something that cannot wait was marked.
    #[default]
    Finding,
    /// The software could not read the study: it may hold anything.
    Review,
    /// A test of the whole loop, of no patient.
    Drill,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Finding => "finding",
            Kind::Review => "review",
            Kind::Drill => "drill",
        }
    }

    /// The urgency of an alert for people. None of a reading that failed: the lowest of its scale
    /// says there that nothing was assessed.
    pub fn assessed(self, urgency: Urgency) -> Option<Urgency> {
        match self {
            Kind::Finding | Kind::Drill => Some(urgency),
            Kind::Review => Some(urgency).filter(|urgency| *urgency > Urgency::Routine),
        }
    }
}

/// A finding as far as it decides whether people know of it already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub key: String,
    pub laterality: Option<Laterality>,
    pub urgency: Urgency,
}

impl Told {
    /// Whether who heard of `self` has heard of `other`: the same at the same place, no more urgent.
    pub fn covers(&self, other: &Told) -> bool {
        self.key == other.key
            && self.laterality == other.laterality
            && self.urgency >= other.urgency
    }
}

/// Where an alert stands.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Standing {
    /// Nobody has answered yet.
    #[default]
    Open,
    /// A person has taken it over.
    Acknowledged(Answer),
    /// It holds no more: a later revision of the study does not bear it out.
    Withdrawn { why: String, at: Timestamp },
    /// Everyone of its service was told and nobody answered: after a pause they are told again.
    Exhausted { at: Timestamp },
    /// A person has said why nobody has to look after it; the note is the reason.
    Closed(Answer),
}

impl Standing {
    pub fn as_str(&self) -> &'static str {
        match self {
            Standing::Open => "open",
            Standing::Acknowledged(_) => "acknowledged",
            Standing::Withdrawn { .. } => "withdrawn",
            Standing::Exhausted { .. } => "unanswered",
            Standing::Closed(_) => "closed",
        }
    }

    /// Whether a person still has to answer.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Standing::Open | Standing::Exhausted { .. } => true,
            Standing::Acknowledged(_) | Standing::Withdrawn { .. } | Standing::Closed(_) => false,
        }
    }
}

/// Who has taken an alert over, when, and by which way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub by: String,
    /// `link`, `page`, `command line`, `api`; of one that closes an alert also `feedback`, `final report`.
    pub how: String,
    /// What was read back or noted; may be empty. Of one that closes an alert: why.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    pub at: Timestamp,
}

/// A later reading does not show what an unanswered alert is about. It goes on until a person answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Doubt {
    /// Of the study: the reading that does not show it.
    pub by_revision: u32,
    /// In words, for people.
    pub why: String,
    pub at: Timestamp,
}

/// The address that a channel ends in, whoever is told by it; `webhook:` and a name for a webhook.
pub fn address(channel: &str) -> &str {
    channel.split_once('/').map_or(channel, |(_, address)| address)
}

/// What a channel says before the name of a webhook.
pub const WEBHOOK: &str = "webhook:";

/// By which way a channel tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By<'a> {
    /// To this address.
    Email(&'a str),
    /// Of `[deliver.webhook]`, by its name.
    Webhook(&'a str),
}

impl By<'_> {
    pub fn as_str(self) -> &'static str {
        match self {
            By::Email(_) => "e-mail",
            By::Webhook(_) => "webhook",
        }
    }

    /// The server behind it, whoever a message is for: one that does not answer is slow for all.
    pub fn server(self) -> String {
        match self {
            By::Email(_) => MAIL_SERVER.to_owned(),
            By::Webhook(name) => format!("webhook {name}"),
        }
    }
}

/// Of [`By::server`]: there is one.
pub const MAIL_SERVER: &str = "e-mail";

pub fn by(channel: &str) -> By<'_> {
    let address = address(channel);
    address.strip_prefix(WEBHOOK).map_or(By::Email(address), By::Webhook)
}

/// What must have come about for a level of an alert to be left at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unless {
    /// One of its messages was taken by a server. Of ledgers in which each level had two times.
    Delivered,
    Acknowledged,
    /// Nothing: who was told has handed it over.
    Never,
    /// As [`Unless::Acknowledged`], after a pause: everyone was told, and they are told again.
    Again,
}

impl Unless {
    pub fn as_str(self) -> &'static str {
        match self {
            Unless::Delivered => "delivered",
            Unless::Acknowledged => "acknowledged",
            Unless::Never => "never",
            Unless::Again => "again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_heard_of_less_has_not_heard_of_more() {
        let told = |key: &str, laterality, urgency| Told { key: key.into(), laterality, urgency };
        let left = Some(Laterality::Left);
        let known = told("pneumothorax", left, Urgency::Urgent);
        assert!(known.covers(&told("pneumothorax", left, Urgency::Urgent)));
        assert!(known.covers(&told("pneumothorax", left, Urgency::Significant)));
        for other in [
            told("pneumothorax", left, Urgency::Critical),
            told("pneumothorax", Some(Laterality::Right), Urgency::Urgent),
            told("pneumothorax", None, Urgency::Urgent),
            told("mass", left, Urgency::Urgent),
        ] {
            assert!(!known.covers(&other), "{other:?}");
        }
    }
}
