//! What comes after an alert: word of what became of it, and several told together.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::Digest as _;
use sha2::Sha256;

use crate::alert::Alert;
use crate::alert::address;
use crate::alert::compose::first_id;
use crate::alert::compose::local;
use crate::alert::compose::one_line;
use crate::alert::compose::span;
use crate::domain::message;
use crate::domain::message::Message;
use crate::domain::text;
use crate::domain::urgency::Urgency;

/// Word to one of those who were told of what became of an alert without them.
pub struct Ended<'a> {
    pub alert: &'a Alert,
    pub how: Closure<'a>,
    /// Whether somebody looks after it.
    pub is_answered: bool,
    pub raised_at: Timestamp,
    pub at: Timestamp,
    pub channel: &'a str,
    pub study_url: Option<String>,
    pub zone: &'a TimeZone,
}

/// What became of it, and why.
#[derive(Debug, Clone, Copy)]
pub enum Closure<'a> {
    /// A later reading resolved it.
    Withdrawn { why: &'a str },
    /// A person did.
    Closed { by: &'a str, why: &'a str },
    /// It goes on, with a mark: the revision that does not show it.
    Doubted { by_revision: u32, why: &'a str },
}

pub fn ended(e: &Ended<'_>) -> Message {
    let what = what(&e.alert.titles);
    let raised = local(e.raised_at, e.zone);
    let (kind, word, why, id) = match e.how {
        Closure::Withdrawn { why } => ("alert.withdrawn", "withdrawn", why, "withdrawn".to_owned()),
        Closure::Closed { why, .. } => ("alert.closed", "closed", why, "closed".to_owned()),
        Closure::Doubted { by_revision, why } => {
            let word = "a later reading does not show it";
            ("alert.doubted", word, why, format!("doubted-{by_revision}"))
        }
    };
    let why = one_line(why);
    let by = match e.how {
        Closure::Closed { by, .. } => one_line(by),
        Closure::Withdrawn { .. } | Closure::Doubted { .. } => String::new(),
    };
    let said = match e.how {
        Closure::Withdrawn { .. } => format!(
            "It is withdrawn: {why}.\n\n{{place}}The software has changed its reading; no person has \
             checked either. If you have seen the images, what you saw counts. If you have passed \
             the alert on, pass this on too.\n"
        ),
        Closure::Closed { .. } => format!(
            "{by} has closed it: {why}.\n\n{{place}}Nobody else is told of it. If you have passed \
             the alert on, pass this on too.\n"
        ),
        Closure::Doubted { .. } => {
            let goes_on = match e.is_answered {
                true => "",
                false => "The alert goes on until a person answers it. ",
            };
            format!(
                "A later reading differs: {why}.\n\n{{place}}{goes_on}Two readings by software differ, \
                 and no person has checked either: look at the images.\n"
            )
        }
    };
    let place = e.study_url.as_ref().map(|url| format!("Study: {url}\n\n")).unwrap_or_default();
    let said = said.replacen("{place}", &place, 1);
    let text =
        format!("{}: {what}\n\nYou were told of this at {raised}. {said}", word.to_uppercase());
    Message {
        to: vec![address(e.channel).to_owned()],
        subject: format!("[Prelim PRELIMINARY] {word}: {what}"),
        html: message::html(&text, "en"),
        json: serde_json::json!({
            "type": kind,
            "timestamp": e.at,
            "data": {
                "alert": e.alert.key,
                "findings": e.alert.titles,
                "why": why,
                "by": by,
                "raised_at": e.raised_at,
                "study_url": e.study_url,
            },
        })
        .to_string(),
        text,
        picture: None,
        attachments: Vec::new(),
        id: format!("{}-{id}", first_id(e.alert)),
        thread: Some(first_id(e.alert)),
        date: e.at,
        urgent: matches!(e.how, Closure::Doubted { .. }),
    }
}

/// Alerts that came faster than one person can take them, told in one message.
pub struct Digest<'a> {
    pub channel: &'a str,
    /// All that were gathered for it, and their levels, also those that were answered since.
    pub gathered: Vec<(&'a str, u32)>,
    /// The most urgent first.
    pub alerts: Vec<Entry>,
    pub now: Timestamp,
}

pub struct Entry {
    pub key: String,
    /// None where nothing was assessed.
    pub urgency: Option<Urgency>,
    pub titles: Vec<String>,
    pub raised_at: Timestamp,
    pub answer_url: Option<String>,
    pub study_url: Option<String>,
}

fn word(urgency: Option<Urgency>) -> &'static str {
    urgency.map_or("not assessed", Urgency::as_str)
}

/// Its id is fixed by the alerts that were gathered, and their levels: a second try is the same
/// message, also when one of them was answered since, and who is told again is told by another.
pub fn digest(d: &Digest<'_>) -> Message {
    let most = d.alerts.iter().map(|entry| entry.urgency).max().unwrap_or_default();
    let count = d.alerts.len();
    let mut text = format!(
        "{count} alerts, told together because many came within an hour. Each waits for an \
         answer. Preliminary and unverified: software output, not a diagnosis.\n"
    );
    for (n, entry) in d.alerts.iter().enumerate() {
        let what = what(&entry.titles);
        let (urgency, ago) = (word(entry.urgency), span(entry.raised_at, d.now));
        text += &format!("\n{}. {urgency}: {what} ({ago} ago)\n", n + 1);
        for (word, url) in [("Answer", &entry.answer_url), ("Study", &entry.study_url)] {
            text += &url.as_ref().map(|url| format!("   {word}: {url}\n")).unwrap_or_default();
        }
    }
    let data: Vec<serde_json::Value> = d
        .alerts
        .iter()
        .map(|entry| {
            serde_json::json!({
                "alert": entry.key,
                "urgency": entry.urgency,
                "findings": entry.titles,
                "raised_at": entry.raised_at,
                "answer_url": entry.answer_url,
                "study_url": entry.study_url,
            })
        })
        .collect();
    Message {
        to: vec![address(d.channel).to_owned()],
        subject: format!("[Prelim PRELIMINARY] {count} alerts, the first {}", word(most)),
        html: message::html(&text, "en"),
        json: serde_json::json!({
            "type": "alerts.grouped",
            "timestamp": d.now,
            "data": {"alerts": data},
        })
        .to_string(),
        text,
        picture: None,
        attachments: Vec::new(),
        id: id(&d.gathered),
        thread: None,
        date: d.now,
        urgent: true,
    }
}

fn what(titles: &[String]) -> String {
    match titles.is_empty() {
        true => "needs review".to_owned(),
        false => one_line(&titles.join("; ")),
    }
}

fn id(gathered: &[(&str, u32)]) -> String {
    let mut keys: Vec<String> =
        gathered.iter().map(|(key, level)| format!("{key} {level}")).collect();
    keys.sort_unstable();
    let mut hash = Sha256::new();
    keys.iter().for_each(|key| hash.update(key.as_bytes()));
    format!("alerts-{}", text::hex(&hash.finalize()[..16]))
}
