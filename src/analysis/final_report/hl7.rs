//! HL7 v2 ORU: what a report says in its OBX segments.

use crate::domain::code::Code;
use crate::domain::final_report::FinalReport;
use crate::domain::final_report::Stated;
use crate::domain::final_report::is_aside;
use crate::hl7;

/// Absent, Not present, and the like (PS3.16 CID 240): an answer to the question that OBX-3 asks.
const NO: [&str; 4] = ["2667000", "272519000", "373067005", "410516002"];

/// An ORU message.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    pub report: FinalReport,
    /// MSH-10.
    pub control_id: String,
    /// Identifiers of PID-3, without who issued them.
    pub patient_ids: Vec<String>,
}

impl Message {
    /// `None`: no HL7 message.
    pub fn parse(text: &str) -> Option<Message> {
        hl7::message::Message::parse(text).map(|message| Message::of(&message))
    }

    pub fn of(message: &hl7::message::Message) -> Message {
        let mut report = FinalReport::default();
        for segment in message.segments() {
            match segment.name() {
                "OBR" if matches!(segment.text(25).as_str(), "P" | "R" | "I" | "S" | "X") => {
                    report.not_final = Some(format!("its result status is {}", segment.text(25)));
                }
                "OBX" if !matches!(segment.text(11).as_str(), "D" | "X" | "W") => {
                    observation(&segment, &mut report);
                }
                _ => {}
            }
        }
        let patient_ids = hl7::about::patient_ids(message).into_iter().map(|one| one.id);
        Message { report, control_id: message.control_id(), patient_ids: patient_ids.collect() }
    }
}

fn observation(obx: &hl7::message::Segment<'_>, report: &mut FinalReport) {
    let asked = obx.field(3);
    if is_aside(&asked.component(2)) {
        return;
    }
    for value in obx.field(5).repetitions() {
        match obx.text(2).as_str() {
            "CE" | "CWE" => {
                let said = value.component(1);
                let denied = NO.contains(&said.as_str());
                let of = if denied { asked } else { value };
                let code = Code::new(&of.component(1), &of.component(3), &of.component(2));
                report.stated.push(Stated { code, present: !denied });
            }
            "TX" | "FT" | "ST" => {
                report.text.push_str(&value.text());
                report.text.push('\n');
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORU: &str = "MSH|^~\\&|RIS|HOSP|PRELIM|HOSP|20260105||ORU^R01^ORU_R01|MSG00042|P|2.5.1\r\
        PID|1||PID-998877^^^HOSP^MR~77^^^X||Zyxwv^Quentin\r\
        OBR|1|A|B|30745-4^XR Chest^LN|||||||||||||||||||||F\r\
        OBX|1|TX|11329-0^History^LN||pneumothorax?||||||F\r\
        OBX|2|FT|59776-5^Findings^LN||No effusion.\\.br\\Small left pneumothorax \\T\\ atelectasis.||||||F\r\
        OBX|3|CWE|19005-8^Impression^LN||36118008^Pneumothorax^SCT||||||F\r\
        OBX|4|CE|60046008^Pleural effusion^SCT||2667000^Absent^SCT|||N|||F\r\
        OBX|5|CE|19005-8^Impression^LN||233604007^Pneumonia^SCT||||||W\r";

    #[test]
    fn an_oru_gives_its_text_and_codes() {
        let message = Message::parse(&format!("\u{b}{ORU}\u{1c}\r")).unwrap();
        assert_eq!(message.control_id, "MSG00042");
        assert_eq!(message.patient_ids, ["PID-998877", "77"]);
        let report = message.report;
        assert_eq!(report.text, "No effusion.\nSmall left pneumothorax & atelectasis.\n");
        let stated: Vec<(&str, bool)> =
            report.stated.iter().map(|one| (one.code.value.as_str(), one.present)).collect();
        assert_eq!(stated, [("36118008", true), ("60046008", false)]);
        assert_eq!(report.stated[0].code, Code::new("36118008", "SCT", "Pneumothorax"));
        assert_eq!(report.not_final, None);
        let preliminary = ORU.replace("|||F\rOBX|1", "|||P\rOBX|1");
        assert!(Message::parse(&preliminary).unwrap().report.not_final.is_some());
        assert_eq!(Message::parse("FINDINGS: clear"), None);
    }
}
