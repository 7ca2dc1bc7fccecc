//! What comes after an alert: word that it holds no more, and several told together.

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

/// Word to one of those who were told that an alert holds no more.
pub struct Withdrawal<'a> {
    pub alert: &'a Alert,
    pub why: &'a str,
    pub raised_at: Timestamp,
    pub at: Timestamp,
    pub channel: &'a str,
    pub study_url: Option<String>,
    pub zone: &'a TimeZone,
}

pub fn withdrawn(w: &Withdrawal<'_>) -> Message {
    let what = what(&w.alert.titles);
    let raised = local(w.raised_at, w.zone);
    let why = one_line(w.why);
    let place = w.study_url.as_ref().map(|url| format!("Study: {url}\n\n")).unwrap_or_default();
    let text = format!(
        "WITHDRAWN: {what}\n\nYou were told of this at {raised}. It is withdrawn: {why}.\n\n{place}\
         The software has changed its reading; no person has checked either. If you have seen \
         the images, what you saw counts. If you have passed the alert on, pass this on too.\n"
    );
    Message {
        to: vec![address(w.channel).to_owned()],
        subject: format!("[Prelim PRELIMINARY] withdrawn: {what}"),
        html: message::html(&text, "en"),
        json: serde_json::json!({
            "type": "alert.withdrawn",
            "timestamp": w.at,
            "data": {
                "alert": w.alert.key,
                "findings": w.alert.titles,
                "why": why,
                "raised_at": w.raised_at,
                "study_url": w.study_url,
            },
        })
        .to_string(),
        text,
        picture: None,
        attachments: Vec::new(),
        id: format!("{}-withdrawn", first_id(w.alert)),
        thread: Some(first_id(w.alert)),
        date: w.at,
        urgent: false,
    }
}

/// Alerts that came faster than one person can take them, told in one message.
pub struct Digest<'a> {
    pub channel: &'a str,
    /// The most urgent first.
    pub alerts: Vec<Entry>,
    pub now: Timestamp,
}

pub struct Entry {
    pub key: String,
    pub urgency: Urgency,
    pub titles: Vec<String>,
    pub raised_at: Timestamp,
    pub answer_url: Option<String>,
    pub study_url: Option<String>,
}

/// Its id is fixed by the alerts that are in it.
pub fn digest(d: &Digest<'_>) -> Message {
    let most = d.alerts.iter().map(|entry| entry.urgency).max().unwrap_or_default();
    let count = d.alerts.len();
    let mut text = format!(
        "{count} alerts, told together because many came within an hour. Each waits for an \
         answer. Preliminary and unverified: software output, not a diagnosis.\n"
    );
    for (n, entry) in d.alerts.iter().enumerate() {
        let what = what(&entry.titles);
        let (urgency, ago) = (entry.urgency.as_str(), span(entry.raised_at, d.now));
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
        subject: format!("[Prelim PRELIMINARY] {count} alerts, the first {}", most.as_str()),
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
        id: id(&d.alerts),
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

fn id(alerts: &[Entry]) -> String {
    let mut keys: Vec<&str> = alerts.iter().map(|entry| entry.key.as_str()).collect();
    keys.sort_unstable();
    let mut hash = Sha256::new();
    keys.iter().for_each(|key| hash.update(key.as_bytes()));
    format!("alerts-{}", text::hex(&hash.finalize()[..16]))
}
