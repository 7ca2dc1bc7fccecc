//! Word to the technical staff: images of a study did not come.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::alert::Config;
use crate::alert::compose::local;
use crate::domain::message::Message;
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
}
