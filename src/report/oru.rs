//! The report as HL7 v2.5.1 ORU^R01: codes and numbers for programs, the words of the report in the
//! site's language for people. Always preliminary (OBX-11, OBR-25 P). A revision keeps the order
//! numbers of the report before it, by which a receiver puts it in its place; it is P again, as C
//! (table 0085) would say that a final result is corrected.

mod observations;

use jiff::tz::TimeZone;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::study::PersonName;
use crate::hl7::write;
use crate::hl7::write::composite;
use crate::report::ReportInput;
use crate::report::oru::observations::Observations;
use crate::report::plain;

/// Receivers key on it: 22 characters is what OBR-3 had in the versions that many still speak.
const FILLER_CHARS_MAX: usize = 22;
/// Of a code (IS, ID, and an identifier within a coded value).
const CODE_CHARS_MAX: usize = 20;

/// The message with its carriage returns.
///
/// - `procedure`: what was looked at; `None`: "… unspecified body region" of the modality.
/// - `pdf`: the report as a document, which stands last.
/// - `prefix`: of the filler order number, see [`filler_number`].
pub fn oru(
    input: &ReportInput<'_>,
    procedure: Option<&Code>,
    pdf: Option<&[u8]>,
    prefix: &str,
) -> String {
    let zone = input.site.zone().unwrap_or(TimeZone::UTC);
    let observations = Observations::of(input, &zone, pdf);
    let a = input.assessment;
    let filler = write::text(&filler_number(a, prefix));
    let body = [pid(a), pv1(a), orc(a, &filler), obr(a, &filler, procedure, &zone)].concat()
        + &observations;
    // The same content is the same message: a receiver that has it knows it again.
    let digest = blake3::hash(body.as_bytes()).to_hex();
    let header = write::segment(
        "MSH",
        &[
            (3, "PRELIM".into()),
            (7, write::moment(a.finished_at, &zone)),
            (9, "ORU^R01^ORU_R01".into()),
            (10, digest[..20].to_ascii_uppercase()),
            (11, "P".into()),
            (12, write::VERSION.into()),
            (15, "AL".into()),
            (18, write::CHARSET.into()),
        ],
    );
    header + &body
}

/// Our own number of the report of this study, never the bare accession number: receivers put away
/// whatever has the same one, the radiologist's report too.
///
/// - `prefix`: what tells it from the numbers of others, at most 8 characters.
pub fn filler_number(a: &Assessment, prefix: &str) -> String {
    let accession = a.study.accession_number();
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    let number = format!("{prefix}{accession}");
    match !accession.is_empty() && accession.bytes().all(plain) && number.len() <= FILLER_CHARS_MAX
    {
        true => number,
        false => {
            let of = [a.study.study_uid.as_str(), accession].join("\0");
            let rest = FILLER_CHARS_MAX.saturating_sub(prefix.len());
            format!("{prefix}{}", &blake3::hash(of.as_bytes()).to_hex()[..rest])
        }
    }
}

fn pid(a: &Assessment) -> String {
    let patient = &a.study.patient;
    let groups = [
        (&patient.name.alphabetic, "A"),
        (&patient.name.ideographic, "I"),
        (&patient.name.phonetic, "P"),
    ];
    let names: Vec<String> = groups.iter().filter_map(|(name, kind)| xpn(name, kind)).collect();
    let id = match plain::line(&patient.id) {
        id if id.is_empty() => String::new(),
        id => composite(&[&id, "", "", &short(&patient.issuer_of_id), "MR"]),
    };
    let sex = match patient.sex.trim() {
        sex @ ("M" | "F" | "O") => sex,
        _ => "U",
    };
    // PID-5 is required; U in its seventh component: unspecified.
    let name = if names.is_empty() { "^^^^^^U".to_owned() } else { names.join("~") };
    let fields =
        [(1, "1".into()), (3, id), (5, name), (7, digits(&patient.birth_date, 8)), (8, sex.into())];
    write::segment("PID", &fields)
}

/// One component group of a DICOM name as XPN: prefix and suffix change places.
fn xpn(group: &str, kind: &str) -> Option<String> {
    let parts: Vec<String> = group.split('^').map(plain::line).collect();
    let part = |n: usize| parts.get(n).map(String::as_str).unwrap_or_default();
    let said = parts.iter().any(|part| !part.is_empty());
    said.then(|| composite(&[part(0), part(1), part(2), part(4), part(3), "", "", kind]))
}

/// The same as XCN, without an identifier.
fn xcn(name: &PersonName) -> String {
    let parts: Vec<String> = name.alphabetic.split('^').map(plain::line).collect();
    let part = |n: usize| parts.get(n).map(String::as_str).unwrap_or_default();
    composite(&["", part(0), part(1), part(2), part(4), part(3)])
}

fn pv1(a: &Assessment) -> String {
    let order = a.study.order();
    let class = order.map(|order| plain::line(&order.patient_class)).unwrap_or_default();
    let class = if class.len() == 1 { class } else { "U".into() };
    let location = order.map(|order| write::text(&short(&order.location)));
    write::segment("PV1", &[(1, "1".into()), (2, class), (3, location.unwrap_or_default())])
}

fn placer(a: &Assessment) -> String {
    a.study.order().map(|order| write::text(&plain::line(&order.placer_number))).unwrap_or_default()
}

fn orc(a: &Assessment, filler: &str) -> String {
    let fields =
        [(1, "RE".into()), (2, placer(a)), (3, filler.into()), (12, xcn(a.study.requester()))];
    write::segment("ORC", &fields)
}

fn obr(a: &Assessment, filler: &str, procedure: Option<&Code>, zone: &TimeZone) -> String {
    let study = &a.study.attributes;
    let asked = a.study.order().and_then(|order| order.procedure.as_ref());
    let procedure = procedure.or(asked).cloned().unwrap_or_else(|| a.study.unspecified_procedure());
    let reason = a.study.order().map(|order| plain::line(&order.reason)).unwrap_or_default();
    let reason = composite(&["", &reason]);
    write::segment(
        "OBR",
        &[
            (1, "1".into()),
            (2, placer(a)),
            (3, filler.into()),
            (4, coded(&procedure, None)),
            (7, at(&study.study_date, &study.study_time)),
            (16, xcn(a.study.requester())),
            (18, write::text(&plain::line(a.study.accession_number()))),
            (22, write::moment(a.finished_at, zone)),
            (24, "RAD".into()),
            (25, "P".into()),
            (31, if reason == "^" { String::new() } else { reason }),
        ],
    )
}

/// Identifier, text, system; and the same in the words of the site, by our own key.
fn coded(code: &Code, local: Option<(&str, &str)>) -> String {
    let (value, meaning, scheme) = (short(&code.value), name(&code.meaning), short(&code.scheme));
    let mut parts = vec![value.as_str(), &meaning, &scheme];
    let local = local.map(|(key, local)| (short(key), name(local)));
    if let Some((key, name)) = &local {
        parts.extend([key.as_str(), name, Code::LOCAL]);
    }
    composite(&parts)
}

/// A name as long as DICOM lets one be (LO); HL7 gives it 199 characters, escapes included.
fn name(text: &str) -> String {
    plain::line(text).chars().take(64).collect()
}

fn short(text: &str) -> String {
    plain::line(text).chars().take(CODE_CHARS_MAX).collect()
}

/// Local date and time of the images (DA, TM), as far as they are one.
fn at(date: &str, time: &str) -> String {
    match (digits(date, 8), digits(time, 6)) {
        (date, _) if date.is_empty() => String::new(),
        (date, time) => date + &time,
    }
}

/// A date of 8 or a time of 6 digits that exists, or nothing.
fn digits(value: &str, length: usize) -> String {
    let number: String = value.trim().chars().filter(|c| !matches!(c, ':' | '-')).collect();
    let number = number.get(..length).unwrap_or_default();
    let is_one = match length {
        8 => jiff::civil::Date::strptime("%Y%m%d", number).is_ok(),
        _ => jiff::civil::Time::strptime("%H%M%S", number).is_ok(),
    };
    if is_one { number.to_owned() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::path::PathBuf;
    use std::process::Command;
    use std::process::Output;

    use super::*;
    use crate::domain::finding::Presence;
    use crate::domain::sample;
    use crate::domain::urgency::Urgency;
    use crate::hl7::message::Message;
    use crate::report::sample::site;
    use crate::report::words::Language;
    use crate::sr::samples;

    const PDF: &[u8] = b"%PDF-1.4 not really";

    fn of(assessment: &Assessment, language: Language) -> String {
        let site = site();
        let input =
            ReportInput { assessment, language, pictures: &[], communications: &[], site: &site };
        oru(&input, None, Some(PDF), "AI1-")
    }

    /// Images that name neither study nor patient.
    fn ordered() -> Assessment {
        let mut a = sample::ordered();
        a.study.attributes.accession_number = String::new();
        a.study.patient.name = PersonName::default();
        a
    }

    fn check(folder: &Path, messages: &[(String, String)]) -> Output {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
        let files: Vec<PathBuf> = messages
            .iter()
            .map(|(name, text)| {
                let file = folder.join(format!("{name}.hl7"));
                std::fs::write(&file, text).unwrap();
                file
            })
            .collect();
        Command::new(repository.join(".venv/bin/python"))
            .arg(repository.join("tests/peers/check_hl7.py"))
            .args(files)
            .output()
            .unwrap()
    }

    /// hl7apy, strict, on every sample in four languages.
    #[test]
    fn a_validator_finds_no_error_in_our_messages() {
        let folder = tempfile::tempdir().unwrap();
        let mut messages = Vec::new();
        for sample in samples::all() {
            for language in Language::ALL {
                let name = format!("{}-{}", sample.name, language.as_str());
                messages.push((name, of(&sample.assessment, language)));
            }
        }
        messages.push(("ordered-bare".into(), of(&ordered(), Language::En)));
        let checked = check(folder.path(), &messages);
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
    }

    /// The check itself: each fault is seen.
    #[test]
    fn the_validator_sees_faults() {
        let folder = tempfile::tempdir().unwrap();
        let good = of(&sample::positive_chest(), Language::En);
        for (name, from, to) in [
            ("identity", "|Hong^", "||Hong^"),
            ("status", "|||P|||20260302101401", "|||F|||20260302101401"),
            ("number", "|93|%^", "|many|%^"),
            ("numbering", "OBX|3|", "OBX|4|"),
            ("filler", "AI1-ACC-2026-0817|43468", "ACC-2026-0817|43468"),
            ("version", "|P|2.5.1|", "|P|2.3|"),
            ("unknown", "PV1|1|U", "PV1|1|UNKNOWN-AND-LONG^^^"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{name}");
            let checked = check(folder.path(), &[(name.to_owned(), bad)]);
            assert!(!checked.status.success(), "{name} was not seen");
        }
    }

    #[test]
    fn a_message_carries_the_same_findings_codes_sides_and_numbers_as_the_record() {
        let a = sample::positive_chest();
        let message = Message::parse(&of(&a, Language::Ko)).unwrap();
        let obx: Vec<_> = message.segments().filter(|s| s.name() == "OBX").collect();
        let of_group = |group: &str, code: &str| {
            let is = |s: &&crate::hl7::message::Segment| {
                s.text(4) == group && s.field(3).component(1) == code
            };
            obx.iter().find(is).map(|s| (s.field(5).component(1), s.text(8)))
        };
        for (nth, finding) in a.findings.iter().enumerate() {
            let group = (nth + 1).to_string();
            if finding.presence == Presence::Absent {
                let said = of_group(&group, &finding.concept.value);
                assert_eq!(said, Some(("272519000".into(), "N".into())));
                assert_eq!(of_group(&group, "121071"), None);
                continue;
            }
            let flag = if finding.urgency == Urgency::Critical { "AA" } else { "A" };
            let said = of_group(&group, "121071");
            assert_eq!(said, Some((finding.concept.value.clone(), flag.into())));
            let side = finding.laterality.map(|side| (side.code().value, String::new()));
            assert_eq!(of_group(&group, "272741003"), side);
            let sure = of_group(&group, "111012").unwrap().0.parse::<f64>().unwrap();
            assert!((sure - finding.probability.unwrap() * 100.0).abs() < 0.05);
        }
        let first = obx.iter().find(|s| s.field(3).component(1) == "121071").unwrap();
        assert_eq!(first.field(5).component(5), "기흉", "in the words of the site, too");
        assert_eq!(obx.last().unwrap().text(2), "ED");
        let notice = obx.iter().find(|s| s.field(3).component(1) == "121106").unwrap().text(5);
        assert!(notice.contains("예비 판독"), "{notice}");
    }

    #[test]
    fn a_study_that_was_not_read_denies_nothing() {
        for a in [sample::not_covered_ct(), sample::needs_review()] {
            let text = of(&a, Language::En);
            assert!(!text.contains("272519000") && !text.contains("without findings^DCM|\r"));
            assert!(text.contains("^Summary of Analyses^DCM"), "{text}");
        }
    }

    #[test]
    fn a_revision_keeps_its_numbers_and_is_another_message() {
        let first = sample::positive_chest();
        let second = Assessment { revision: 2, ..first.clone() };
        let read = |a: &Assessment| {
            let message = Message::parse(&of(a, Language::En)).unwrap();
            let filler = message.first("ORC").unwrap().text(3);
            assert_eq!(message.first("OBR").unwrap().text(3), filler);
            // Preliminary again: C (table 0085) would correct what nobody has called final.
            assert_eq!(message.first("OBR").unwrap().text(25), "P");
            let of_results = message.segments().filter(|s| s.name() == "OBX");
            assert!(of_results.map(|obx| obx.text(11)).all(|status| status == "P"));
            (filler, message.control_id())
        };
        let (one, two) = (read(&first), read(&second));
        assert_eq!(one.0, "AI1-ACC-2026-0817");
        assert_eq!(one.0, two.0);
        assert_ne!(one.1, two.1);
        assert_eq!(read(&first), one, "the same again is the same message");
        let mut other = first.clone();
        for (accession, own) in
            [("", false), ("1234567890123456789", false), ("a b", false), ("ACC9", true)]
        {
            other.study.attributes.accession_number = accession.into();
            let filler = filler_number(&other, "AI1-");
            assert!(filler.len() <= FILLER_CHARS_MAX && filler != accession);
            assert_eq!(filler == format!("AI1-{accession}"), own, "{accession}: {filler}");
        }
    }

    #[test]
    fn an_order_gives_its_numbers_and_the_images_their_names() {
        let text = of(&ordered(), Language::En);
        let message = Message::parse(&text).unwrap();
        let [orc, obr, pv1, pid] = ["ORC", "OBR", "PV1", "PID"].map(|n| message.first(n).unwrap());
        assert_eq!((orc.text(2), obr.text(2)), ("PL|77".into(), "PL|77".into()));
        assert_eq!(obr.text(18), "ORDER-ACC");
        assert_eq!(orc.text(3), "AI1-ORDER-ACC");
        assert_eq!(obr.field(31).component(2), "fever & cough^");
        assert_eq!(obr.field(16).component(2), "Park");
        assert_eq!((pv1.text(2), pv1.field(3).component(1)), ("E".into(), "ER 2".into()));
        assert_eq!(pid.field(5).component(7), "U");
        assert_eq!(obr.text(7), "20260302101400");
        let plain = Message::parse(&of(&sample::positive_chest(), Language::En)).unwrap();
        let names: Vec<String> =
            plain.first("PID").unwrap().field(5).repetitions().map(|n| n.component(1)).collect();
        assert_eq!(names, ["Hong", "洪", "홍"]);
    }
}
