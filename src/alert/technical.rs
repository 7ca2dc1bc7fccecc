//! Word to the technical staff: images of a study did not come, results do not arrive.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::alert::Config;
use crate::alert::compose::local;
use crate::domain::message::Message;
use crate::domain::text;
use crate::domain::uid::StudyUid;

/// What did not come, and who hears of it. No identity of the patient.
pub struct Missing<'a> {
    pub study_uid: &'a StudyUid,
    pub revision: u32,
    /// Who sent the study.
    pub from: &'a str,
    pub what: &'a str,
    /// When the last image came.
    pub at: Timestamp,
    pub to: &'a str,
    pub config: &'a Config,
    pub zone: &'a TimeZone,
}

/// The message; made anew it is the same.
pub fn missing(m: &Missing<'_>) -> Message {
    let plain = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).collect() };
    let (from, what) = (plain(m.from), plain(m.what));
    let base = m.config.base_url.trim_end_matches('/');
    let place = match base.is_empty() {
        true => format!("Study {}", m.study_uid),
        false => format!("{base}/studies/{}", m.study_uid),
    };
    let last = local(m.at, m.zone);
    let text = format!(
        "{what}\n\nSent by {from}, last image at {last}.\n{place}\n\n\
         The study is read without them; if they come later it is read again.\n\
         Please look at the sender, the network and the archive.\n"
    );
    let escaped = handlebars::html_escape(&text);
    Message {
        to: vec![m.to.to_owned()],
        subject: format!("[Prelim] images missing: {what}"),
        html: format!("<!DOCTYPE html><html lang=\"en\"><body><pre>{escaped}</pre></body></html>"),
        text,
        picture: None,
        attachments: Vec::new(),
        json: serde_json::json!({
            "type": "study.images_missing",
            "timestamp": m.at,
            "data": {"study_uid": m.study_uid, "revision": m.revision, "from": from, "what": what},
        })
        .to_string(),
        id: format!("missing-{}-{}", m.study_uid, m.revision),
        thread: None,
        date: m.at,
        urgent: false,
    }
}

/// Results that were given up on their way to a destination, and who hears of it.
pub struct Undelivered<'a> {
    /// The same for each try of one message.
    pub id: &'a str,
    pub destination: &'a str,
    /// How many wait for a person now.
    pub count: usize,
    /// Why the last was given up.
    pub cause: &'a str,
    pub at: Timestamp,
    pub to: &'a str,
    pub config: &'a Config,
}

pub fn undelivered(u: &Undelivered<'_>) -> Message {
    let (count, destination) = (u.count, u.destination);
    let cause = text::clean(u.cause, 500);
    let place = match u.config.base_url.trim_end_matches('/') {
        "" => "prelim queue".to_owned(),
        base => format!("{base}/queue"),
    };
    let text = format!(
        "{destination} does not get its results: {count} were given up and wait for a person.\n\n\
         The last one: {cause}\nAll of them: {place}\n\n\
         When it is mended: prelim queue --retry {destination}\n"
    );
    let escaped = handlebars::html_escape(&text);
    Message {
        to: vec![u.to.to_owned()],
        subject: format!("[Prelim] {count} results not delivered to {destination}"),
        html: format!("<!DOCTYPE html><html lang=\"en\"><body><pre>{escaped}</pre></body></html>"),
        text,
        picture: None,
        attachments: Vec::new(),
        json: serde_json::json!({
            "type": "results.undelivered",
            "timestamp": u.at,
            "data": {"destination": destination, "count": count, "cause": cause},
        })
        .to_string(),
        id: format!("undelivered-{}", u.id),
        thread: None,
        date: u.at,
        urgent: false,
    }
}

/// Alerts that no server takes by one way, and who hears of it.
pub struct Untold<'a> {
    /// The same for each try of one message.
    pub id: &'a str,
    /// "e-mail", "webhook pager".
    pub way: &'a str,
    /// How many people or receivers were not told.
    pub count: usize,
    /// What the server said last.
    pub cause: &'a str,
    pub at: Timestamp,
    pub to: &'a str,
    pub config: &'a Config,
}

pub fn untold(u: &Untold<'_>) -> Message {
    let (count, way) = (u.count, u.way);
    let cause = text::clean(u.cause, 500);
    let place = match u.config.base_url.trim_end_matches('/') {
        "" => "prelim queue, prelim alerts".to_owned(),
        base => format!("{base}/queue"),
    };
    let text = format!(
        "Alerts do not go out by {way}: {count} messages were not taken.\n\n\
         The last one: {cause}\nAll of them: {place}\n\n\
         They are tried again by themselves, and those who come next are told meanwhile. Please \
         look at the server and the settings; prelim doctor names what is wrong. You hear of this once.\n"
    );
    let escaped = handlebars::html_escape(&text);
    Message {
        to: vec![u.to.to_owned()],
        subject: format!("[Prelim] alerts do not go out by {way}"),
        html: format!("<!DOCTYPE html><html lang=\"en\"><body><pre>{escaped}</pre></body></html>"),
        text,
        picture: None,
        attachments: Vec::new(),
        json: serde_json::json!({
            "type": "alerts.undelivered",
            "timestamp": u.at,
            "data": {"way": way, "count": count, "cause": cause},
        })
        .to_string(),
        id: format!("untold-{}", u.id),
        thread: None,
        date: u.at,
        urgent: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_is_missing_and_where_and_nothing_of_the_patient() {
        let study_uid = StudyUid::parse("1.2.3").unwrap();
        let config = Config { base_url: "https://prelim.example/".into(), ..Config::default() };
        let message = missing(&Missing {
            study_uid: &study_uid,
            revision: 1,
            from: "CT<1>\r\nBcc: x",
            what: "118 of 120 images came (MPPS)",
            at: Timestamp::UNIX_EPOCH,
            to: "it@hospital.example",
            config: &config,
            zone: &TimeZone::UTC,
        });
        assert_eq!(message.subject, "[Prelim] images missing: 118 of 120 images came (MPPS)");
        assert!(message.text.contains("https://prelim.example/studies/1.2.3"));
        assert!(message.html.contains("CT&lt;1&gt;Bcc: x"), "{}", message.html);
        assert_eq!(message.id, "missing-1.2.3-1");
    }

    #[test]
    fn the_message_says_where_results_do_not_arrive_why_and_what_to_do() {
        let config = Config::default();
        let message = undelivered(&Undelivered {
            id: "1.2",
            destination: "pacs.main",
            count: 12,
            cause: "refused <C000>\r\nBcc: x",
            at: Timestamp::UNIX_EPOCH,
            to: "it@hospital.example",
            config: &config,
        });
        assert_eq!(message.subject, "[Prelim] 12 results not delivered to pacs.main");
        assert!(message.text.contains("prelim queue --retry pacs.main"), "{}", message.text);
        assert!(message.html.contains("refused &lt;C000&gt; Bcc: x"), "{}", message.html);
    }
}
