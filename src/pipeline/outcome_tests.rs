//! One truth about the outcome: every artefact of every outcome in every language, read back.

use jiff::tz::TimeZone;
use serde_json::Value;

use crate::alert;
use crate::analysis::codes;
use crate::domain::agreement;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Disputed;
use crate::domain::assessment::Opinion;
use crate::domain::assessment::Outcome;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::message::Message;
use crate::domain::sample;
use crate::domain::urgency::Urgency;
use crate::report;
use crate::report::Language;
use crate::report::ReportInput;
use crate::report::fhir;
use crate::report::notice;
use crate::report::words::Words;
use crate::sr;
use crate::sr::Equipment;
use crate::sr::SrClass;
use crate::sr::SrOptions;

/// Two models that differ on what cannot wait, after a reading that calls everything else absent.
pub fn disputed() -> Assessment {
    let mut a = sr::samples::negative();
    let said = |who: &str, presence, probability| Opinion {
        who: who.into(),
        presence,
        probability: Some(probability),
    };
    let of = Disputed {
        key: "pneumothorax".into(),
        name: "Pneumothorax".into(),
        laterality: Some(Laterality::Left),
        urgency: Urgency::Urgent,
        said: vec![
            said("model-a 1", Presence::Present, 0.92),
            said("model-b 2", Presence::Absent, 0.04),
        ],
    };
    a.review("two models do not agree on Pneumothorax", vec![of]);
    a
}

/// A reading whose findings stand, and that a person must look at for another reason.
fn doubted() -> Assessment {
    let mut a = sample::positive_chest();
    a.review("1 of 3 instances are broken and were not read", Vec::new());
    a
}

/// A film that only a model of one finding has seen: it is not there.
fn limited() -> Assessment {
    let mut a = sr::samples::negative();
    a.looked_for = vec!["Pneumothorax".into()];
    a.unasked = vec!["Pleural effusion".into(), "Fracture".into()];
    a.settle();
    a
}

fn with(outcome: Outcome) -> Assessment {
    Assessment { outcome, ..sample::not_covered_ct() }
}

/// Everything that nobody is sure of.
fn unsure() -> Vec<Assessment> {
    vec![
        sample::needs_review(),
        disputed(),
        doubted(),
        sample::not_covered_ct(),
        with(Outcome::MeasuredOnly { reason: "the gateway is not allowed for CT".into() }),
        with(Outcome::Held { reason: "a phantom".into() }),
    ]
}

/// What shows where something is: key objects, key images, presentation states, segmentations.
const MARKS: &str = "marks";

/// Name and text of each artefact, without white space and in lower case: lines break anywhere.
fn artefacts(a: &Assessment, language: Language) -> Vec<(String, String)> {
    let (site, pictures) = (report::sample::site(), report::sample::pictures(a));
    let communications = &[];
    let input =
        ReportInput { assessment: a, language, pictures: &pictures, communications, site: &site };
    let html = report::html(&input).unwrap();
    let (before, rest) = html.split_once("<style>").unwrap();
    let html = format!("{before}{}", rest.split_once("</style>").unwrap().1);
    let message = notice::notice(&input, &notice::Options::default());
    let mut all = vec![
        ("html".to_owned(), html.replace("&#x27;", "'")),
        ("text".to_owned(), report::text(&input).unwrap()),
        ("pdf".to_owned(), pdf_text(&report::pdf(&input).unwrap())),
        ("hl7".to_owned(), report::oru(&input, None, None, "P")),
        ("fhir".to_owned(), fhir::fhir(&input, &fhir::Options::default()).to_string()),
        ("mail".to_owned(), format!("{}\n{}", message.subject, message.text)),
        ("event".to_owned(), message.json),
    ];
    for class in SrClass::ALL {
        let options = SrOptions { class, ..SrOptions::default() };
        let object = sr::structured_report(a, &Equipment::default(), &options).unwrap();
        all.push((format!("sr {class:?}"), String::from_utf8_lossy(&object).into_owned()));
    }
    let node = Equipment::default();
    let mut marks: Vec<Vec<u8>> = sr::key_objects(a, &node).unwrap().into_iter().collect();
    let drawn = sr::samples::drawn(a);
    for (image, nth) in sr::samples::marked(a).iter().zip(1..) {
        marks.push(sr::key_image(a, &node, image, &drawn, nth).unwrap());
    }
    marks.extend(sr::presentation_states(a, &node, &sr::samples::shown(a)).unwrap());
    marks.extend(sr::segmentations(a, &node).unwrap());
    let words = |object: Vec<u8>| (MARKS.to_owned(), String::from_utf8_lossy(&object).into_owned());
    all.extend(marks.into_iter().map(words));
    if let Some(raised) = alert::decide(a, Urgency::Urgent) {
        let message = told(a, &raised);
        let text = format!("{}\n{}\n{}", message.subject, message.text, message.json);
        all.push(("alert".to_owned(), text));
    }
    all.into_iter().map(|(name, text)| (name, bare(&text))).collect()
}

/// The message of an alert, as the first person gets it.
pub fn told(a: &Assessment, raised: &alert::Alert) -> Message {
    alert::compose(&alert::Telling {
        alert: raised,
        assessment: a,
        channel: "on_call/oncall@h.example",
        level: 0,
        why: "",
        doubt: None,
        picture: None,
        answer_url: None,
        last_image_at: None,
        now: raised.found_at,
        config: &alert::Config::default(),
        zone: &TimeZone::UTC,
    })
    .unwrap()
}

fn pdf_text(pdf: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pdf).unwrap();
    let mut command = std::process::Command::new("pdftotext");
    let output = command.arg("-raw").arg(file.path()).arg("-").output();
    String::from_utf8(output.expect("install poppler-utils").stdout).unwrap()
}

fn bare(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).flat_map(char::to_lowercase).collect()
}

#[test]
fn no_artefact_calls_routine_normal_or_absent_what_nobody_is_sure_of() {
    for language in Language::ALL {
        let w = Words::of(language);
        let mut never = vec![
            "routine",
            "usual reading order",
            "as usual",
            "normal",
            "unremarkable",
            "without findings",
            "all algorithms succeeded",
            "no finding above threshold",
            "absent",
            "정상",
            "bình thường",
            "正常",
        ];
        never.extend([w.routine_line, w.no_finding, w.read_title, w.absent]);
        for a in unsure() {
            for (name, text) in artefacts(&a, language) {
                for word in &never {
                    // FHIR names the reason for which a value is not there.
                    let text =
                        text.replace("dataabsentreason", "").replace("data-absent-reason", "");
                    let at = text.find(&bare(word));
                    let around = at.map(|at| {
                        text[at.saturating_sub(60)..].chars().take(160).collect::<String>()
                    });
                    assert_eq!(around, None, "{name}, {language:?}, {:?}: {word}", a.outcome);
                }
            }
        }
    }
}

#[test]
fn a_film_that_was_asked_one_question_has_no_place_in_the_usual_order() {
    let a = limited();
    assert_eq!((a.outcome.as_str(), a.urgency), ("read", None));
    for language in Language::ALL {
        let w = Words::of(language);
        for (name, text) in artefacts(&a, language) {
            for word in ["routine", "usual reading order", "as usual", w.routine_line] {
                assert!(!text.contains(&bare(word)), "{name}, {language:?}: {word} in {text}");
            }
            if ["html", "text", "pdf", "mail"].contains(&name.as_str()) {
                for said in [w.looked_for_only, w.not_assessed] {
                    assert!(
                        text.contains(&bare(said)),
                        "{name}, {language:?} lacks {said}: {text}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_limits_a_reading_is_said_once() {
    let mut a = sample::positive_chest();
    let ages = "Patient's Age and Patient's Birth Date do not agree".to_owned();
    a.study.inconsistencies = vec![ages.clone()];
    a.warnings = vec![ages.clone(), "the model is unsure".into()];
    let key = crate::domain::assessment::QualityFlag::OF_HEADERS.into();
    a.quality.push(crate::domain::assessment::QualityFlag { key, text: ages.clone() });
    a.review("the model is unsure; the model is unsure", Vec::new());
    assert_eq!(a.outcome.reason(), Some("the model is unsure"));
    for (name, text) in artefacts(&a, Language::En) {
        let times = text.matches(&bare(&ages)).count();
        let has =
            ["html", "text", "pdf", "hl7"].contains(&name.as_str()) || name.starts_with("sr ");
        assert!(times == usize::from(has) || (times == 0 && !has), "{name}: {times} times");
    }
}

#[test]
fn every_artefact_of_a_doubt_says_that_a_person_must_look_and_why() {
    for language in Language::ALL {
        for a in unsure().into_iter().filter(|a| a.outcome.is_review()) {
            let reason = bare(a.outcome.reason().unwrap());
            let person = bare(Words::of(language).needs_review_because.split('{').next().unwrap());
            for (name, text) in artefacts(&a, language) {
                if name == MARKS {
                    continue;
                }
                let in_english = name.starts_with("sr ") || name == "alert";
                let head = if in_english { bare("A person must look") } else { person.clone() };
                assert!(text.contains(&head) || name == "event", "{name}, {language:?}: {text}");
                assert!(text.contains(&reason), "{name}, {language:?}: {text}");
                for one in a.outcome.disputed() {
                    for opinion in &one.said {
                        let who = bare(&opinion.who);
                        assert!(text.contains(&who), "{name}, {language:?} lacks {who}: {text}");
                    }
                }
            }
        }
    }
}

#[test]
fn what_was_not_assessed_has_no_urgency_and_what_one_reader_fears_keeps_it() {
    for (a, urgency, status) in [
        (sample::needs_review(), None, "partial"),
        (disputed(), Some("urgent"), "partial"),
        (doubted(), Some("critical"), "partial"),
        (sample::not_covered_ct(), None, "registered"),
        (sr::samples::negative(), Some("routine"), "preliminary"),
    ] {
        assert_eq!(a.urgency.map(Urgency::as_str), urgency);
        let json = serde_json::to_value(&a).unwrap();
        assert_eq!(json["urgency"], urgency.map_or(Value::Null, Value::from));
        let site = report::sample::site();
        let input = ReportInput {
            assessment: &a,
            language: Language::En,
            pictures: &[],
            communications: &[],
            site: &site,
        };
        let event: Value =
            serde_json::from_str(&notice::notice(&input, &Default::default()).json).unwrap();
        assert_eq!(event["data"]["urgency"], json["urgency"], "{:?}", a.outcome);
        let bundle = fhir::fhir(&input, &fhir::Options::default());
        let mut entries = bundle["entry"].as_array().unwrap().iter();
        let report = entries.find(|e| e["resource"]["resourceType"] == "DiagnosticReport").unwrap();
        assert_eq!(report["resource"]["status"], status, "{:?}", a.outcome);
    }
}

/// A doctor's report that has none of it is no proof that such a reading was right.
#[test]
fn agreement_counts_nothing_as_ruled_out_that_nobody_is_sure_of() {
    for a in unsure() {
        let asked: Vec<String> = codes::rows().iter().map(|row| row.key.clone()).collect();
        for key in &asked {
            let is_called =
                a.findings.iter().any(|f| f.key == *key && f.presence == Presence::Present);
            let counted = is_called.then_some(Presence::Present);
            assert_eq!(agreement::ours(&a, &asked, key), counted, "{:?}: {key}", a.outcome);
        }
    }
    let read = sr::samples::negative();
    let absent = read.findings.iter().find(|f| f.presence == Presence::Absent).unwrap();
    assert_eq!(agreement::ours(&read, &[], &absent.key), Some(Presence::Absent));
}

/// What earlier versions kept: "routine" for what nobody read, absent findings beside a doubt.
#[test]
fn a_record_of_an_earlier_version_is_settled_as_it_is_read() {
    let mut old = serde_json::to_value(sample::positive_chest()).unwrap();
    old["outcome"] = serde_json::json!({"outcome": "needs_review", "reason": "x"});
    old["urgency"] = "routine".into();
    for key in ["looked_at", "compared"] {
        old.as_object_mut().unwrap().remove(key);
    }
    let read: Assessment = serde_json::from_value(old).unwrap();
    assert_eq!(read.urgency, None);
    assert!(read.findings.iter().all(|finding| finding.presence != Presence::Absent));
}
