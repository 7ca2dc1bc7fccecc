//! HL7 v2 ORU as text: what a report says in its OBX segments.

use crate::domain::code::Code;
use crate::domain::final_report::FinalReport;
use crate::domain::final_report::Stated;
use crate::domain::final_report::is_aside;

const SEGMENTS_MAX: usize = 2_000;

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
        let text = text.trim_matches(['\u{b}', '\u{1c}', '\r', '\n', ' ']);
        let mut delimiters = text.strip_prefix("MSH")?.chars();
        let field = delimiters.next()?;
        let mut delimiter = || delimiters.next().filter(|c| *c != field);
        let (component, repetition) = (delimiter().unwrap_or('^'), delimiter().unwrap_or('~'));
        let (escape, sub) = (delimiter().unwrap_or('\\'), delimiter().unwrap_or('&'));
        let plain = |raw: &str| {
            unescaped(
                raw,
                escape,
                [('F', field), ('S', component), ('R', repetition), ('T', sub), ('E', escape)],
            )
        };
        let (mut report, mut control_id, mut patient_ids) =
            (FinalReport::default(), String::new(), Vec::new());
        for segment in text.split(['\r', '\n']).take(SEGMENTS_MAX) {
            let fields: Vec<&str> = segment.split(field).collect();
            let get = |at: usize| fields.get(at).copied().unwrap_or_default();
            match get(0) {
                // The separator itself is the first field of MSH.
                "MSH" => control_id = plain(get(9)),
                "PID" => {
                    let ids = get(3).split(repetition);
                    let ids = ids.filter_map(|id| id.split(component).next());
                    patient_ids = ids.filter(|id| !id.is_empty()).map(&plain).collect();
                }
                "OBR" if matches!(get(25), "P" | "R" | "I" | "S" | "X") => {
                    report.not_final = Some(format!("its result status is {}", get(25)));
                }
                "OBX" if get(11) != "D" && get(11) != "X" => {
                    let title = get(3).split(component).nth(1).unwrap_or_default();
                    if is_aside(title) {
                        continue;
                    }
                    for value in get(5).split(repetition) {
                        if matches!(get(2), "CE" | "CWE") {
                            let mut parts = value.split(component).map(&plain);
                            let mut part = || parts.next().unwrap_or_default();
                            let (value, meaning, scheme) = (part(), part(), part());
                            let code = Code::new(&value, &scheme, &meaning);
                            report.stated.push(Stated { code, present: true });
                        } else if matches!(get(2), "TX" | "FT" | "ST") {
                            report.text.push_str(&plain(value));
                            report.text.push('\n');
                        }
                    }
                }
                _ => {}
            }
        }
        Some(Message { report, control_id, patient_ids })
    }
}

/// Escape sequences (HL7 v2.5.1 2.7): the delimiters and line breaks; others are left out.
fn unescaped(raw: &str, escape: char, delimiters: [(char, char); 5]) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once(escape) {
        out.push_str(before);
        let Some((sequence, after)) = after.split_once(escape) else {
            return out + after;
        };
        match delimiters.iter().find(|(name, _)| sequence.len() == 1 && sequence.starts_with(*name))
        {
            Some((_, c)) => out.push(*c),
            None if sequence.starts_with(".br") || sequence.starts_with(".sp") => out.push('\n'),
            None => {}
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORU: &str = "MSH|^~\\&|RIS|HOSP|PRELIM|HOSP|20260105||ORU^R01^ORU_R01|MSG00042|P|2.5.1\r\
        PID|1||PID-998877^^^HOSP^MR~77^^^X||Zyxwv^Quentin\r\
        OBR|1|A|B|30745-4^XR Chest^LN|||||||||||||||||||||F\r\
        OBX|1|TX|11329-0^History^LN||pneumothorax?||||||F\r\
        OBX|2|FT|59776-5^Findings^LN||No effusion.\\.br\\Small left pneumothorax \\T\\ atelectasis.||||||F\r\
        OBX|3|CWE|19005-8^Impression^LN||36118008^Pneumothorax^SCT||||||F\r";

    #[test]
    fn an_oru_gives_its_text_and_codes() {
        let message = Message::parse(&format!("\u{b}{ORU}\u{1c}\r")).unwrap();
        assert_eq!(message.control_id, "MSG00042");
        assert_eq!(message.patient_ids, ["PID-998877", "77"]);
        let report = message.report;
        assert_eq!(report.text, "No effusion.\nSmall left pneumothorax & atelectasis.\n");
        assert_eq!(report.stated.len(), 1);
        assert_eq!(report.stated[0].code, Code::new("36118008", "SCT", "Pneumothorax"));
        assert_eq!(report.not_final, None);
        let preliminary = ORU.replace("|||F\rOBX|1", "|||P\rOBX|1");
        assert!(Message::parse(&preliminary).unwrap().report.not_final.is_some());
    }

    #[test]
    fn odd_messages_are_read_without_harm() {
        for text in
            ["", "MSH", "MSH|", "MSH|||||\rOBX", "MSHMSH", "MSH|^~\\&|\rOBX|1|FT|||a\\b", "MSH|é"]
        {
            let _ = Message::parse(text);
        }
        assert_eq!(Message::parse("FINDINGS: clear"), None);
    }
}
