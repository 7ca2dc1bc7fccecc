use jiff::tz::TimeZone;

use super::*;
use crate::alert::config::Recipients;
use crate::domain::alert::Answer;
use crate::domain::message::Message;
use crate::domain::sample;
use crate::domain::study::PersonName;

fn config() -> Config {
    let list = |email: &str, minimum, review| Recipients {
        emails: vec![email.into()],
        webhooks: vec![],
        minimum,
        review,
        technical: false,
    };
    Config {
        recipients: [
            ("on_call".to_owned(), list("oncall@h.example", Urgency::Urgent, true)),
            ("chief".to_owned(), list("chief@h.example", Urgency::Critical, false)),
        ]
        .into(),
        base_url: "https://prelim.h.example/".into(),
        ..Config::default()
    }
}

fn composed(a: &Assessment, config: &Config) -> Message {
    composed_at(a, config, 0, "")
}

fn composed_at(a: &Assessment, config: &Config, level: u32, why: &str) -> Message {
    let alert = decide(a, Urgency::Urgent).unwrap();
    let png = sample::picture_png(64, 64);
    let found = alert.found_at;
    let later = |s| found.checked_add(jiff::SignedDuration::from_secs(s)).unwrap();
    let telling = Telling {
        alert: &alert,
        assessment: a,
        channel: "on_call/oncall@h.example",
        level,
        why,
        doubt: None,
        picture: Some((&a.pictures[0], &png[..])),
        answer_url: Some("https://prelim.h.example/alert/TOKEN".into()),
        last_image_at: Some(later(-150)),
        now: later(4),
        config,
        zone: &TimeZone::get("Asia/Seoul").unwrap(),
    };
    compose(&telling).unwrap()
}

#[test]
fn only_what_cannot_wait_raises_an_alert() {
    let chest = sample::positive_chest();
    let alert = decide(&chest, Urgency::Urgent).unwrap();
    assert_eq!((alert.kind, alert.urgency), (Kind::Finding, Urgency::Critical));
    assert_eq!(alert.findings, ["F1"]);
    assert_eq!(alert.titles, ["Pneumothorax, left"]);
    assert_eq!((alert.told[0].key.as_str(), alert.probability), ("pneumothorax", Some(0.93)));

    let all = decide(&chest, Urgency::Significant).unwrap();
    assert_eq!(all.findings, ["F1", "F2"], "the most urgent first");

    let mut absent = chest.clone();
    absent.urgency = Some(Urgency::Routine);
    for finding in &mut absent.findings {
        finding.presence = Presence::Absent;
    }
    assert_eq!(decide(&absent, Urgency::Urgent), None);
    absent.findings[0].presence = Presence::Undetermined;
    assert_eq!(decide(&absent, Urgency::Urgent), None);
    assert_eq!(decide(&sample::not_covered_ct(), Urgency::Urgent), None);
}

/// A rule may make the study more urgent than each of its findings.
#[test]
fn a_study_raised_by_rule_raises_an_alert() {
    let mut a = sample::positive_chest();
    a.findings.iter_mut().for_each(|finding| finding.urgency = Urgency::Significant);
    let alert = decide(&a, Urgency::Urgent).unwrap();
    assert_eq!((alert.urgency, alert.findings.len()), (Urgency::Critical, 2));
    a.urgency = Some(Urgency::Significant);
    assert_eq!(decide(&a, Urgency::Urgent), None);
}

/// Every failure ends in front of a person, also when nobody is configured to be told.
#[test]
fn a_reading_that_failed_is_reviewed_by_someone() {
    let a = sample::needs_review();
    let alert = decide(&a, Urgency::Critical).unwrap();
    assert_eq!(alert.kind, Kind::Review);
    let message = composed(&a, &config());
    assert!(message.subject.contains("needs review"), "{}", message.subject);
    assert!(message.text.contains("could not be read"), "{}", message.text);
    assert!(!message.text.to_lowercase().contains("normal"));
}

#[test]
fn the_same_findings_are_one_alert() {
    let a = sample::positive_chest();
    let first = decide(&a, Urgency::Urgent).unwrap();
    assert_eq!(first, decide(&a, Urgency::Urgent).unwrap());
    let mut surer = a.clone();
    surer.findings[0].probability = Some(0.99);
    assert_eq!(decide(&surer, Urgency::Urgent).unwrap().id, first.id);
    let later = Assessment { revision: 2, ..a.clone() };
    let later = decide(&later, Urgency::Urgent).unwrap();
    assert_ne!(later.id, first.id);
    assert_eq!(later.key, first.key, "joins the first");
    let mut other = a;
    other.findings[0].laterality = Some(crate::domain::finding::Laterality::Right);
    assert_ne!(decide(&other, Urgency::Urgent).unwrap().key, first.key);
}

#[test]
fn an_alert_says_what_where_how_sure_on_which_image_and_that_nobody_checked() {
    let message = composed(&sample::positive_chest(), &config());
    assert_eq!(message.subject, "[Prelim PRELIMINARY] critical: pneumothorax, left — chest X-ray");
    for body in [&message.text, &message.html] {
        for said in [
            "Pneumothorax, left",
            "93%",
            "Pleural structure",
            "severe",
            "series 1, image 1 (PA)",
            "2026-03-02 19:15:42 UTC+09:00",
            "https://prelim.h.example/studies/1.2.826.0.1.3680043.8.498.1",
            "chest-xray-pneumonia-paediatric 1.0.0",
            "PRELIMINARY",
            "UNVERIFIED",
            "does not replace the call",
            "4 s ago, 2 min after the last image",
            "https://prelim.h.example/alert/TOKEN",
            "Consolidation of lung, right",
        ] {
            assert!(body.contains(said), "{said:?} is missing in {body}");
        }
    }
    let picture = message.picture.unwrap();
    assert_eq!(picture.media_type, "image/png");
    assert!(message.html.contains(&format!("cid:{}", picture.content_id)));
    assert!(message.urgent);
    let json: serde_json::Value = serde_json::from_str(&message.json).unwrap();
    assert_eq!(json["type"], "alert.raised");
    assert_eq!(json["data"]["findings"][0]["name"], "Pneumothorax, left");
    assert_eq!(json["data"]["answer_url"], "https://prelim.h.example/alert/TOKEN");
    assert!(json["data"]["patient"].is_null());
}

#[test]
fn who_hears_later_is_told_why_in_the_same_thread() {
    let chest = sample::positive_chest();
    let first = composed(&chest, &config());
    let second = composed_at(&chest, &config(), 1, "nobody has answered since 19:15");
    assert_ne!(second.id, first.id);
    assert_eq!((first.thread, second.thread.as_deref()), (None, Some(first.id.as_str())));
    assert!(second.subject.contains("not answered yet"), "{}", second.subject);
    assert!(second.text.contains("because nobody has answered since 19:15"), "{}", second.text);
}

fn known<'a>(alert: &'a Alert, standing: &'a Standing) -> Known<'a> {
    Known { key: &alert.key, kind: alert.kind, urgency: alert.urgency, told: &alert.told, standing }
}

fn answer() -> Answer {
    let (by, how, note) = ("kim".to_owned(), "link".to_owned(), String::new());
    Answer { by, how, note, at: Timestamp::UNIX_EPOCH }
}

fn answered() -> Standing {
    Standing::Acknowledged(answer())
}

#[test]
fn what_people_know_of_raises_no_second_alert_and_what_is_worse_does() {
    let chest = sample::positive_chest();
    let both = decide(&chest, Urgency::Significant).unwrap();
    let one = decide(&chest, Urgency::Urgent).unwrap();
    let mut other = chest.clone();
    other.findings[0].laterality = Some(crate::domain::finding::Laterality::Right);
    let other = decide(&other, Urgency::Urgent).unwrap();
    let mut milder = chest.clone();
    milder.urgency = Some(Urgency::Urgent);
    milder.findings[0].urgency = Urgency::Urgent;
    let milder = decide(&milder, Urgency::Urgent).unwrap();
    let withdrawn = Standing::Withdrawn { why: String::new(), at: Timestamp::UNIX_EPOCH };
    let (open, answered) = (Standing::Open, answered());
    let exhausted = Standing::Exhausted { at: Timestamp::UNIX_EPOCH };
    let closed = Standing::Closed(answer());
    for (name, new, out, standing, joined) in [
        ("the same", &one, &one, &open, true),
        ("part of it", &one, &both, &open, true),
        ("more than it", &both, &one, &open, false),
        ("the other side", &other, &one, &open, false),
        ("less urgent", &milder, &one, &open, true),
        ("more urgent", &one, &milder, &open, false),
        ("answered", &one, &one, &answered, true),
        ("told again soon", &one, &one, &exhausted, true),
        ("withdrawn", &one, &one, &withdrawn, false),
        ("closed", &one, &one, &closed, false),
    ] {
        assert_eq!(joins(new, &[known(out, standing)]).is_some(), joined, "{name}");
    }
    let drill = drill(&chest.study.study_uid, Timestamp::UNIX_EPOCH);
    assert!(joins(&drill, &[known(&drill, &open)]).is_none(), "each drill is another");
}

#[test]
fn a_later_reading_takes_nothing_urgent_back_it_marks_it() {
    let chest = sample::positive_chest();
    let alert = decide(&chest, Urgency::Urgent).unwrap();
    let open = Standing::Open;
    let later = |a: &Assessment| superseded(&known(&alert, &open), a);
    let doubted = |later: Option<Later>| match later {
        Some(Later::Doubted(why)) => why.contains("revision 2"),
        Some(Later::Resolved(_)) | None => false,
    };
    assert_eq!(later(&chest), None, "it is still there");
    let mut gone = Assessment { revision: 2, ..chest.clone() };
    gone.findings[0].presence = Presence::Absent;
    assert!(doubted(later(&gone)));
    gone.findings[0].presence = Presence::Undetermined;
    assert_eq!(later(&gone), None, "perhaps it is");
    gone.findings.clear();
    for standing in [Standing::Open, Standing::Exhausted { at: Timestamp::UNIX_EPOCH }, answered()]
    {
        assert!(doubted(superseded(&known(&alert, &standing), &gone)), "{standing:?}");
    }
    gone.outcome = Outcome::needs_review("x");
    assert_eq!(later(&gone), None);
    gone.outcome = Outcome::NotCovered { reason: "x".into() };
    assert_eq!(later(&gone), None);
    let closed = Standing::Closed(answer());
    let before = Standing::Withdrawn { why: String::new(), at: Timestamp::UNIX_EPOCH };
    for standing in [&before, &closed] {
        assert_eq!(superseded(&known(&alert, standing), &gone), None);
    }
    // Of what nobody had read nothing urgent was known; of what models differ in it was.
    let read = Assessment { revision: 2, findings: Vec::new(), ..chest.clone() };
    let unread = decide(&sample::needs_review(), Urgency::Urgent).unwrap();
    for (told, urgency, expected) in [
        (vec![], Urgency::Routine, "resolved"),
        (vec![], Urgency::Urgent, "doubted"),
        (alert.told.clone(), Urgency::Critical, "doubted"),
    ] {
        let review = Known { told: &told, urgency, ..known(&unread, &open) };
        let found = match superseded(&review, &read) {
            Some(Later::Resolved(_)) => "resolved",
            Some(Later::Doubted(_)) => "doubted",
            None => "none",
        };
        assert_eq!(found, expected, "{urgency:?}");
    }
}

#[test]
fn only_a_doctor_who_denies_all_of_it_closes_an_alert() {
    let left = Some(Laterality::Left);
    let told =
        |key: &str, laterality| Told { key: key.into(), laterality, urgency: Urgency::Urgent };
    let said = |key, place, is_there| Said { key, place, is_there };
    let both = [told("mass", None), told("pneumothorax", left)];
    for (told, said, expected) in [
        (&both[..], vec![], false),
        (&both[..], vec![said("mass", None, false)], false),
        (&both[..], vec![said("mass", None, false), said("pneumothorax", Some(left), false)], true),
        (&both[1..], vec![said("pneumothorax", None, false)], true),
        (&both[1..], vec![said("pneumothorax", Some(Some(Laterality::Right)), false)], false),
        // The last word counts.
        (
            &both[1..],
            vec![said("pneumothorax", None, false), said("pneumothorax", None, true)],
            false,
        ),
        (
            &both[1..],
            vec![said("pneumothorax", None, true), said("pneumothorax", None, false)],
            true,
        ),
        (&[], vec![said("pneumothorax", None, false)], false),
    ] {
        assert_eq!(is_denied(told, &said), expected, "{told:?} {said:?}");
    }
}

#[test]
fn a_withdrawal_and_a_digest_say_what_they_are_about() {
    let alert = decide(&sample::positive_chest(), Urgency::Urgent).unwrap();
    let why = "revision 2 does not show it";
    let mut ids = std::collections::BTreeSet::new();
    for (how, subject, text) in [
        (Closure::Withdrawn { why }, "withdrawn", "It is withdrawn: revision 2"),
        (Closure::Closed { by: "Dr Kim", why }, "closed", "Dr Kim has closed it: revision 2"),
        (
            Closure::Doubted { by_revision: 2, why },
            "a later reading does not show it",
            "goes on until a person answers",
        ),
        (Closure::Doubted { by_revision: 3, why }, "a later reading does not show it", "differs"),
    ] {
        let message = ended(&Ended {
            alert: &alert,
            how,
            is_answered: false,
            raised_at: alert.found_at,
            at: alert.found_at,
            channel: "on_call/oncall@h.example",
            study_url: Some("https://prelim.h.example/studies/1.2".into()),
            zone: &TimeZone::UTC,
        });
        assert_eq!(message.thread.as_deref(), Some(format!("alert-{}", alert.id).as_str()));
        let ending = format!("{subject}: Pneumothorax, left");
        assert!(message.subject.ends_with(&ending), "{}", message.subject);
        assert!(message.text.contains(text), "{}", message.text);
        assert!(message.html.contains("href=\"https://prelim.h.example/studies/1.2\""));
        assert!(ids.insert(message.id.clone()), "each is another message: {}", message.id);
    }
    let entry = |key: &str, urgency| Entry {
        key: key.into(),
        urgency,
        titles: vec!["Mass <b>".into()],
        raised_at: alert.found_at,
        answer_url: Some("https://prelim.h.example/alert/T".into()),
        study_url: None,
    };
    let alerts = vec![entry("b", Some(Urgency::Urgent)), entry("a", Some(Urgency::Significant))];
    let gathered = vec![("b", 0), ("a", 0)];
    let of = |gathered, alerts| Digest { channel: "x/y@z", gathered, alerts, now: alert.found_at };
    let together = digest(&of(gathered, alerts));
    assert_eq!(together.subject, "[Prelim PRELIMINARY] 2 alerts, the first urgent");
    assert!(together.html.contains("Mass &lt;b&gt;") && together.text.contains("Mass <b>"));
    // The second try, when one of them was answered since.
    let alerts = vec![entry("a", Some(Urgency::Significant))];
    let again = digest(&of(vec![("a", 0), ("b", 0)], alerts));
    assert_eq!(again.id, together.id, "decided by the alerts that were gathered");
    let alerts = ["a", "b"].map(|key| entry(key, Some(Urgency::Urgent)));
    let later = digest(&of(vec![("a", 2), ("b", 2)], alerts.into()));
    assert_ne!(later.id, together.id, "told again is told by another message");
}

/// Nothing that names the patient, in whatever form the model repeats it.
#[test]
fn an_alert_names_no_patient_unless_the_settings_ask_for_it() {
    let mut a = sample::positive_chest();
    let told = "HONG, Gildong (홍길동, 洪 吉洞, mrn-0042, ACC-2026-0817, born 2020-01-14) has it.";
    a.findings[0].description = told.into();
    a.findings[0].recommendation = "Call Gildong Hong.".into();
    a.impression = told.into();
    let identity = [
        "hong, gildong",
        "gildong hong",
        "hong^gildong",
        "홍길동",
        "洪吉洞",
        "洪 吉洞",
        "mrn-0042",
        "acc-2026-0817",
        "20200114",
        "2020-01-14",
    ];
    let everything =
        |m: &Message| format!("{} {} {} {}", m.subject, m.text, m.html, m.json).to_lowercase();
    let message = everything(&composed(&a, &config()));
    for name in identity {
        assert!(!message.contains(name), "{name} is in {message}");
    }
    assert!(message.contains("[removed]") && message.contains("has it."));

    let asked = Config { include_patient_name: true, ..config() };
    let message = everything(&composed(&a, &asked));
    for name in ["hong, gildong (洪 吉洞)", "mrn-0042", "20200114"] {
        assert!(message.contains(name), "{name} is not in {message}");
    }
}

#[test]
fn a_picture_that_may_show_a_name_stays_here() {
    let with = |burned_in: &str, modality: &str, conversion: &str| {
        let mut a = sample::positive_chest();
        let instance = &mut a.study.instances[0];
        instance.burned_in_annotation = burned_in.into();
        instance.modality = modality.into();
        instance.conversion_type = conversion.into();
        let message = composed(&a, &config());
        assert_eq!(message.picture.is_none(), message.text.contains("burned-in"));
        assert_eq!(message.picture.is_some(), message.html.contains("cid:"));
        message.picture.is_some()
    };
    assert!(with("NO", "CR", "") && with("", "CR", "") && with("NO", "OT", "WSD"));
    assert!(!with("YES", "CR", "") && !with("", "US", "") && !with("", "CR", "SYN"));
    let silent = Config { include_picture: false, ..config() };
    assert!(composed(&sample::positive_chest(), &silent).picture.is_none());
}

/// Text from headers and models is text: no header, no markup, no second line.
#[test]
fn text_from_outside_stays_text() {
    let mut a = sample::positive_chest();
    let bad = "x\r\nBcc: a@b.example\u{0}\u{202e} <script>alert(1)</script> {{link}}";
    a.examination = bad.into();
    a.findings[0].concept.meaning = bad.into();
    a.findings[0].description = bad.into();
    a.algorithm.name = bad.into();
    a.study.patient.name = PersonName::parse("<b>^&");
    let asked = Config { include_patient_name: true, ..config() };
    let message = composed(&a, &asked);
    assert!(!message.subject.contains(['\r', '\n', '\0', '\u{202e}']));
    assert!(!message.html.contains("<script>") && !message.html.contains("<b>,"));
    assert!(message.html.contains("&lt;script&gt;") && message.html.contains("{{link}}"));
    assert!(!message.text.contains("\nBcc:"));
    assert!(message.id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'));
}

#[test]
fn each_address_is_a_channel_of_its_own() {
    let mut config = config();
    config.recipients.get_mut("chief").unwrap().emails.push("oncall@h.example".into());
    let lists = ["chief".to_owned(), "on_call".to_owned(), "unknown".to_owned()];
    let channels = config.channels(&lists);
    assert_eq!(channels, ["chief/chief@h.example", "chief/oncall@h.example"], "told once");
    assert_eq!(address(&channels[1]), "oncall@h.example");
}

#[test]
fn settings_show_every_mistake_at_once() {
    let mut config = config();
    config.base_url = "prelim.example".into();
    let emails = vec!["a@b@c".to_owned(), "x@y\r\nBcc: z@z".to_owned(), "ok@h.example".to_owned()];
    config
        .recipients
        .insert("a b".into(), Recipients { emails, ..config.recipients["chief"].clone() });
    let mut problems = Vec::new();
    config.check("alert", &mut problems);
    assert_eq!(problems.len(), 4, "{problems:#?}");
    problems.clear();
    Config::default().check("alert", &mut problems);
    assert!(problems.is_empty());
}
