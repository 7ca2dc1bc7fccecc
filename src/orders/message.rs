//! HL7 v2 orders: ORM^O01, OMI^O23 and OMG^O19 (v2.2 to v2.5.1), one order for each of their requests.

use jiff::Timestamp;

use crate::domain::code::Code;
use crate::domain::order::Order;
use crate::domain::study::PersonName;
use crate::domain::text;
use crate::domain::uid;
use crate::hl7::about;
use crate::hl7::message::Field;
use crate::hl7::message::Message;
use crate::hl7::message::Segment;

const REASON_CHARS_MAX: usize = 1000;
const LINE_CHARS_MAX: usize = 200;
const NUMBER_CHARS_MAX: usize = 64;
/// Requests of one message.
const REQUESTS_MAX: usize = 50;

/// Order control codes (ORC-1, table 0119) after which nothing is to be done any more.
const CANCELLED: [&str; 6] = ["CA", "CR", "OC", "DC", "DR", "OD"];

/// The requests of a message.
///
/// # Errors
/// What it lacks, in words for its sender.
pub fn orders(message: &Message, at: Timestamp) -> Result<Vec<Order>, String> {
    let patient_ids: Vec<String> =
        about::patient_ids(message).into_iter().map(|one| cut(&one.id, NUMBER_CHARS_MAX)).collect();
    if patient_ids.is_empty() {
        return Err("PID-3 holds no patient identifier".into());
    }
    let segments: Vec<Segment> = message.segments().collect();
    // A request begins with its ORC, or with an OBR where there is none.
    let mut starts: Vec<usize> = Vec::new();
    for (n, segment) in segments.iter().enumerate() {
        let follows = n > 0 && segments[n - 1].name() == "ORC";
        let alone = segment.name() == "OBR" && !segments[..n].iter().any(|s| s.name() == "ORC");
        if segment.name() == "ORC" || (alone && !follows) {
            starts.push(n);
        }
    }
    let ends = starts.iter().skip(1).copied().chain([segments.len()]);
    let sender = cut(&message.header(3), 40);
    let source = format!("HL7 {} of {sender}", message.kind());
    let blank = Order {
        patient_ids,
        birth_date: about::birth_date(message),
        ..Order::empty(source.trim_end_matches(" of "), at)
    };
    let blank = visited(blank, message);
    let requests = starts.iter().zip(ends).take(REQUESTS_MAX);
    let found: Vec<Order> =
        requests.map(|(from, to)| request(blank.clone(), &segments[*from..to])).collect();
    match found.iter().any(|order| order.numbers.is_empty() && order.study_uid.is_empty()) {
        _ if found.is_empty() => Err("there is neither ORC nor OBR in it".into()),
        true => Err("a request has no number: none of IPC-1, OBR-18, OBR-3, OBR-2, ORC-3, ORC-2 and no Study Instance UID".into()),
        false => Ok(found),
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    text::clean(text, chars_max)
}

/// Where the patient is (PV1).
fn visited(mut order: Order, message: &Message) -> Order {
    let Some(pv1) = message.first("PV1") else { return order };
    let place = pv1.field(3);
    let parts = [1, 2, 3, 4].map(|n| place.component(n));
    order.location = cut(&parts.join(" "), LINE_CHARS_MAX);
    order.patient_class = cut(&pv1.field(2).component(1), 4);
    order
}

fn request(mut order: Order, segments: &[Segment<'_>]) -> Order {
    let first = |name: &str| segments.iter().find(|segment| segment.name() == name);
    let (orc, obr) = (first("ORC"), first("OBR"));
    let either = |places: [(Option<&Segment<'_>>, usize, usize); 2]| {
        let mut all = places.into_iter().filter_map(|(segment, field, component)| {
            let said = segment?.field(field).component(component);
            (!said.trim().is_empty()).then_some(said)
        });
        cut(&all.next().unwrap_or_default(), NUMBER_CHARS_MAX)
    };
    order.is_cancelled = CANCELLED.contains(&either([(orc, 1, 1), (None, 0, 0)]).as_str());
    order.placer_number = either([(orc, 2, 1), (obr, 2, 1)]);
    order.filler_number = either([(orc, 3, 1), (obr, 3, 1)]);
    let numbers = about::accession_numbers(segments).into_iter();
    order.numbers = numbers.map(|number| cut(&number, NUMBER_CHARS_MAX)).collect();
    order.accession_number = accession(&order);
    let uids = about::study_uids(segments);
    order.study_uid = uids.into_iter().find(|uid| uid::is_uid(uid)).unwrap_or_default();
    order.requested_procedure_id = either([(first("IPC"), 2, 1), (obr, 19, 1)]);
    order.priority = priority(
        &either([(first("TQ1"), 9, 1), (obr, 27, 6)]),
        &either([(orc, 7, 6), (obr, 5, 1)]),
    );
    order.ordering_physician = [(obr, 16), (orc, 12)]
        .into_iter()
        .find_map(|(s, n)| person(s?.field(n)))
        .unwrap_or_default();
    if let Some(obr) = obr {
        let [value, meaning, scheme] = [1, 2, 3].map(|n| cut(&obr.field(4).component(n), 64));
        order.procedure_description =
            if meaning.is_empty() { value.clone() } else { meaning.clone() };
        let is_coded = !value.is_empty() && !meaning.is_empty() && !scheme.is_empty();
        order.procedure = is_coded.then(|| Code::new(&value, &scheme, &meaning));
    }
    order.reason = reason(segments);
    order
}

/// The surest of its numbers; the placer's own is none, unless nothing else is there.
fn accession(order: &Order) -> String {
    let own = order.numbers.iter().find(|number| **number != order.placer_number);
    own.or(order.numbers.first()).cloned().unwrap_or_default()
}

/// Why it is asked for: OBR-31, OBR-13, notes (NTE-3), diagnoses (DG1-3, DG1-4).
fn reason(segments: &[Segment<'_>]) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut say = |words: String| {
        let words = cut(&words, REASON_CHARS_MAX);
        if !words.is_empty() && !said.contains(&words) {
            said.push(words);
        }
    };
    let coded = |field: Field<'_>| match field.component(2) {
        words if words.trim().is_empty() => field.component(1),
        words => words,
    };
    for segment in segments {
        match segment.name() {
            "OBR" => {
                segment.field(31).repetitions().for_each(|one| say(coded(one)));
                say(segment.text(13));
            }
            "NTE" => say(segment.text(3)),
            "DG1" => {
                say(coded(segment.field(3)));
                say(segment.text(4));
            }
            _ => {}
        }
    }
    cut(&said.join("; "), REASON_CHARS_MAX)
}

/// XCN as a name: suffix and prefix change places.
fn person(field: Field<'_>) -> Option<PersonName> {
    let part = |n: usize| cut(&field.component(n), LINE_CHARS_MAX).replace(['^', '='], " ");
    let parts = [part(2), part(3), part(4), part(6), part(5)];
    let alphabetic = parts.join("^").trim_end_matches('^').to_owned();
    (!alphabetic.is_empty()).then(|| PersonName { alphabetic, ..PersonName::default() })
}

fn priority(first: &str, second: &str) -> String {
    let said = if first.is_empty() { second } else { first };
    match said.to_ascii_uppercase().as_str() {
        "S" | "STAT" => "stat".into(),
        "A" | "ASAP" => "asap".into(),
        "R" | "ROUTINE" => "routine".into(),
        _ => said.to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OMI: &str = "MSH|^~\\&|RIS|HOSP|PRELIM|HOSP|20260302||OMI^O23^OMI_O23|M1|P|2.5.1\r\
        PID|1||PID-9^^^HOSP^MR~77^^^X||Zyxwv^Quentin||20210630|M\r\
        PV1|1|E|ER^2^B^HOSP\r\
        ORC|NW|PL1|FI1|||||||||9^Park^Jiwoo^^^Dr.\r\
        TQ1|1||||||||S\r\
        OBR|1|PL1|FI1|36643-5^XR Chest 2 Views^LN|||||||||cough \\T\\ fever||||||||||||||||||^fever^\r\
        NTE|1||since Monday\u{7}\r\
        IPC|ACC-1|RP1|1.2.3.4|SPS1|DX\r";
    const ORM: &str = "MSH|^~\\&|OLD||||2026||ORM^O01|M2|P|2.3\rPID|1|44||||\r\
        ORC|NW|A1\rOBR|1|A1||CT1|S|||||||||||||ACC-A\rORC|CA|A2\rOBR|2|A2||^CT Head^|||||||||||||||\r";

    fn at() -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    #[test]
    fn an_omi_gives_what_the_report_wants_to_know() {
        let found = orders(&Message::parse(OMI).unwrap(), at()).unwrap();
        let [order] = &found[..] else { panic!("one request: {found:?}") };
        assert_eq!(order.patient_ids, ["PID-9", "77"]);
        assert_eq!(order.birth_date, "20210630");
        assert_eq!((order.placer_number.as_str(), order.filler_number.as_str()), ("PL1", "FI1"));
        assert_eq!(order.accession_number, "ACC-1");
        assert_eq!(order.numbers, ["ACC-1", "FI1", "PL1"]);
        assert_eq!(
            (order.study_uid.as_str(), order.requested_procedure_id.as_str()),
            ("1.2.3.4", "RP1")
        );
        assert_eq!(order.procedure, Some(Code::new("36643-5", "LN", "XR Chest 2 Views")));
        assert_eq!(order.reason, "fever; cough & fever; since Monday");
        assert_eq!(order.ordering_physician.alphabetic, "Park^Jiwoo^^Dr.");
        assert_eq!((order.location.as_str(), order.patient_class.as_str()), ("ER 2 B HOSP", "E"));
        assert_eq!((order.priority.as_str(), order.is_cancelled), ("stat", false));
        assert_eq!(order.source, "HL7 OMI^O23 of RIS");
    }

    #[test]
    fn an_orm_holds_several_requests() {
        let found = orders(&Message::parse(ORM).unwrap(), at()).unwrap();
        let [one, two] = &found[..] else { panic!("two: {found:?}") };
        assert_eq!((one.accession_number.as_str(), one.is_cancelled), ("ACC-A", false));
        assert_eq!((one.procedure_description.as_str(), one.procedure.as_ref()), ("CT1", None));
        assert_eq!(one.priority, "stat");
        assert_eq!((two.accession_number.as_str(), two.is_cancelled), ("A2", true));
        assert_eq!(two.procedure_description, "CT Head");
        assert_eq!(one.patient_ids, ["44"]);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        for (from, to, why) in [
            ("PID-9^^^HOSP^MR~77^^^X", "", "PID-3"),
            ("ORC|NW|PL1|FI1", "ORX|", ""),
            ("OBR|1|PL1|FI1", "OBX|", ""),
        ] {
            let text = OMI.replace(from, to);
            let said = orders(&Message::parse(&text).unwrap(), at());
            match why {
                "" => assert!(said.is_ok(), "{from}: {said:?}"),
                why => assert!(said.unwrap_err().contains(why), "{from}"),
            }
        }
        let bare = "MSH|^~\\&|R|||||| ORM^O01|1|P|2.3\rPID|1||7\r";
        assert!(orders(&Message::parse(bare).unwrap(), at()).unwrap_err().contains("neither"));
        let unnumbered = format!("{bare}ORC|NW\rOBR|1\r");
        let said = orders(&Message::parse(&unnumbered).unwrap(), at());
        assert!(said.unwrap_err().contains("no number"));
    }
}
