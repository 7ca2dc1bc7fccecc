use jiff::tz::TimeZone;

use super::*;
use crate::domain::finding::Presence;
use crate::domain::message::Message;
use crate::domain::sample;
use crate::domain::study::PersonName;

fn config() -> Config {
    let list = |email: &str, minimum, review| Recipients {
        emails: vec![email.into()],
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
    let alert = decide(a, Urgency::Urgent, config).unwrap();
    let png = sample::picture_png(64, 64);
    let picture = Some((&a.pictures[0], &png[..]));
    let to = vec!["oncall@h.example".to_owned()];
    compose(&alert, a, &to, picture, config, &TimeZone::get("Asia/Seoul").unwrap()).unwrap()
}

#[test]
fn only_what_cannot_wait_raises_an_alert() {
    let chest = sample::positive_chest();
    let alert = decide(&chest, Urgency::Urgent, &config()).unwrap();
    assert_eq!((alert.kind, alert.urgency), (Kind::Finding, Urgency::Critical));
    assert_eq!(alert.findings, ["F1"]);
    assert_eq!(alert.titles, ["Pneumothorax, left"]);
    assert_eq!(alert.recipients, ["chief", "on_call"]);

    let all = decide(&chest, Urgency::Significant, &config()).unwrap();
    assert_eq!(all.findings, ["F1", "F2"], "the most urgent first");

    let mut absent = chest.clone();
    absent.urgency = Urgency::Routine;
    for finding in &mut absent.findings {
        finding.presence = Presence::Absent;
    }
    assert_eq!(decide(&absent, Urgency::Urgent, &config()), None);
    absent.findings[0].presence = Presence::Undetermined;
    assert_eq!(decide(&absent, Urgency::Urgent, &config()), None);
    assert_eq!(decide(&sample::not_covered_ct(), Urgency::Urgent, &config()), None);
}

/// A rule may make the study more urgent than each of its findings.
#[test]
fn a_study_raised_by_rule_raises_an_alert() {
    let mut a = sample::positive_chest();
    a.findings.iter_mut().for_each(|finding| finding.urgency = Urgency::Significant);
    let alert = decide(&a, Urgency::Urgent, &config()).unwrap();
    assert_eq!((alert.urgency, alert.findings.len()), (Urgency::Critical, 2));
    a.urgency = Urgency::Significant;
    assert_eq!(decide(&a, Urgency::Urgent, &config()), None);
}

/// Every failure ends in front of a person, also when nobody is configured to be told.
#[test]
fn a_reading_that_failed_is_reviewed_by_someone() {
    let a = sample::needs_review();
    let alert = decide(&a, Urgency::Critical, &config()).unwrap();
    assert_eq!((alert.kind, &alert.recipients[..]), (Kind::Review, &["on_call".to_owned()][..]));
    assert!(decide(&a, Urgency::Critical, &Config::default()).unwrap().recipients.is_empty());
    let message = composed(&a, &config());
    assert!(message.subject.contains("needs review"), "{}", message.subject);
    assert!(message.text.contains("could not be read"), "{}", message.text);
    assert!(!message.text.to_lowercase().contains("normal"));
}

#[test]
fn the_same_findings_are_one_alert() {
    let a = sample::positive_chest();
    let first = decide(&a, Urgency::Urgent, &config()).unwrap();
    assert_eq!(first, decide(&a, Urgency::Urgent, &config()).unwrap());
    let mut surer = a.clone();
    surer.findings[0].probability = Some(0.99);
    assert_eq!(decide(&surer, Urgency::Urgent, &config()).unwrap().id, first.id);
    let later = Assessment { revision: 2, ..a.clone() };
    let later = decide(&later, Urgency::Urgent, &config()).unwrap();
    assert_ne!(later.id, first.id);
    assert_eq!(later.key, first.key, "joins the first");
    let mut other = a;
    other.findings[0].laterality = Some(crate::domain::finding::Laterality::Right);
    assert_ne!(decide(&other, Urgency::Urgent, &config()).unwrap().key, first.key);
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
            "Consolidation of lung, right",
        ] {
            assert!(body.contains(said), "{said:?} is missing in {body}");
        }
    }
    let picture = message.picture.unwrap();
    assert_eq!(picture.media_type, "image/png");
    assert!(message.html.contains(&format!("cid:{}", picture.content_id)));
    assert!(message.urgent);
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
    let everything = |m: &Message| format!("{} {} {}", m.subject, m.text, m.html).to_lowercase();
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
