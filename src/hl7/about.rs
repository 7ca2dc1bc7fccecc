//! What a message is about: the patient, and by which numbers it names a study.

use crate::hl7::message::Message;
use crate::hl7::message::Segment;

/// One identifier of PID-3, with who gave it (its namespace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatientId {
    pub id: String,
    pub issuer: String,
}

/// PID-3; older senders use PID-2.
pub fn patient_ids(message: &Message) -> Vec<PatientId> {
    let Some(pid) = message.first("PID") else { return Vec::new() };
    let number = if pid.field(3).is_empty() { 2 } else { 3 };
    let of = |field: crate::hl7::message::Field| PatientId {
        id: field.component(1).trim().to_owned(),
        issuer: field.part(4, 1).trim().to_owned(),
    };
    let all = pid.field(number).repetitions().map(of);
    all.filter(|one| !one.id.is_empty()).collect()
}

/// Birth date of PID-7 as DICOM writes it, or empty.
pub fn birth_date(message: &Message) -> String {
    let said = message.first("PID").map(|pid| pid.field(7).component(1)).unwrap_or_default();
    let day: String = said.chars().take(8).collect();
    let is_day = day.len() == 8 && day.bytes().all(|b| b.is_ascii_digit());
    if is_day { day } else { String::new() }
}

/// Accession numbers of these segments, the surest first: IPC-1, OBR-18, then the filler's and the
/// placer's own numbers, which many sites use as one.
pub fn accession_numbers(segments: &[Segment<'_>]) -> Vec<String> {
    let places = [("IPC", 1), ("OBR", 18), ("OBR", 3), ("ORC", 3), ("OBR", 2), ("ORC", 2)];
    values(segments, &places)
}

/// Study Instance UIDs: IPC-3, ZDS-1 (IHE), and an observation of that name.
pub fn study_uids(segments: &[Segment<'_>]) -> Vec<String> {
    let mut found = values(segments, &[("IPC", 3), ("ZDS", 1)]);
    let observed = |code: &str| matches!(code, "110180" | "113014");
    for obx in segments.iter().filter(|s| s.name() == "OBX") {
        if observed(&obx.field(3).component(1)) {
            let value = [1, 2].map(|n| obx.field(5).component(n));
            found.extend(value.into_iter().filter(|uid| uid.contains('.')));
        }
    }
    found
}

fn values(segments: &[Segment<'_>], places: &[(&str, usize)]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (name, number) in places {
        for segment in segments.iter().filter(|segment| segment.name() == *name) {
            let value = segment.field(*number).component(1).trim().to_owned();
            if !value.is_empty() && !found.contains(&value) {
                found.push(value);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_patient_and_its_study() {
        let text = "MSH|^~\\&|A\rPID|1|old|P1^^^HOSP&1.2&ISO^MR~ ^^^X~P2||Doe||19800102030405\r\
                    ORC|NW|PL1|FI1\rOBR|1|PL1|FI1|||||||||||||||ACC9\r\
                    IPC|ACC9^RIS|RP1|1.2.3^RIS\rZDS|1.2.4^PACS^Application^DICOM\r\
                    OBX|1|HD|113014^DICOM Study^DCM||^1.2.5^ISO\rOBX|2|ST|1^x||9.9";
        let message = Message::parse(text).unwrap();
        let ids = patient_ids(&message);
        assert_eq!(ids.len(), 2);
        assert_eq!((ids[0].id.as_str(), ids[0].issuer.as_str()), ("P1", "HOSP"));
        assert_eq!(birth_date(&message), "19800102");
        let segments: Vec<_> = message.segments().collect();
        assert_eq!(accession_numbers(&segments), ["ACC9", "FI1", "PL1"]);
        assert_eq!(study_uids(&segments), ["1.2.3", "1.2.4", "1.2.5"]);
        let old = Message::parse("MSH|^~\\&|A\rPID|1|old^^^X|||||1980").unwrap();
        assert_eq!((patient_ids(&old)[0].id.as_str(), birth_date(&old).as_str()), ("old", ""));
    }
}
