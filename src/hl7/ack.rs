//! Acknowledgements (HL7 v2.5.1 2.9.2, 2.9.3): what a receiver says, and what we say as one.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::hl7::message::Message;
use crate::hl7::write;

/// MSA-1; of the enhanced mode C* means the same, as we wait for one answer alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// AA, CA.
    Accept,
    /// AE, CE: the content cannot be used.
    Error,
    /// AR, CR: not now, or not here.
    Reject,
}

impl Code {
    fn parse(text: &str) -> Option<Code> {
        match text.trim() {
            "AA" | "CA" => Some(Code::Accept),
            "AE" | "CE" => Some(Code::Error),
            "AR" | "CR" => Some(Code::Reject),
            _ => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Code::Accept => "AA",
            Code::Error => "AE",
            Code::Reject => "AR",
        }
    }

    /// The same as an accept acknowledgement of the enhanced mode.
    fn of_accept(self) -> &'static str {
        match self {
            Code::Accept => "CA",
            Code::Error => "CE",
            Code::Reject => "CR",
        }
    }
}

/// MSA-1 of each answer that the sender wants, in their order: in the original mode one, in the enhanced
/// mode (MSH-15 or MSH-16 is there) those that its conditions name (table 0155). What was not understood
/// is told to everybody who does not say NE.
pub fn wanted(message: Option<&Message>, code: Code) -> Vec<&'static str> {
    let condition = |field: usize| {
        let said = message.map(|message| message.header(field)).unwrap_or_default();
        said.trim().to_ascii_uppercase()
    };
    let (accept, application) = (condition(15), condition(16));
    if accept.is_empty() && application.is_empty() {
        return vec![code.as_str()];
    }
    let holds = |condition: &str| match condition {
        "AL" => true,
        "ER" => code != Code::Accept,
        "SU" => code == Code::Accept,
        _ => false,
    };
    let accept = holds(&accept).then(|| code.of_accept());
    let application = holds(&application).then(|| code.as_str());
    accept.into_iter().chain(application).collect()
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub code: Code,
    /// MSA-2: which message it answers.
    pub control_id: String,
    /// MSA-3 and the codes and words of ERR; never ERR-2, which may repeat a value.
    pub words: String,
}

impl Ack {
    /// `None`: it is no acknowledgement.
    pub fn of(message: &Message) -> Option<Ack> {
        let msa = message.first("MSA")?;
        let mut words = vec![msa.text(3)];
        for err in message.segments().filter(|segment| segment.name() == "ERR").take(5) {
            words.extend([err.field(3).component(1), err.field(3).component(2), err.text(8)]);
        }
        words.retain(|word| !word.trim().is_empty());
        let code = Code::parse(&msa.text(1))?;
        Some(Ack { code, control_id: msa.text(2).trim().to_owned(), words: words.join(" ") })
    }
}

/// Our answer to `message`; `None`: it was no message at all.
///
/// - `code`: MSA-1, see [`wanted`].
/// - `id`: our own MSH-10, at most 20 characters.
pub fn answer(
    message: Option<&Message>,
    code: &str,
    words: &str,
    id: &str,
    at: Timestamp,
) -> String {
    let of = |number| message.map(|m| write::text(&m.header(number))).unwrap_or_default();
    let msh = message.and_then(|m| m.first("MSH"));
    let raw = |number: usize| {
        let parts = msh.as_ref().map(|msh| [1, 2, 3].map(|n| msh.field(number).component(n)));
        parts.map(|p| write::composite(&p.each_ref().map(String::as_str))).unwrap_or_default()
    };
    let event = msh.as_ref().map(|msh| msh.field(9).component(2)).unwrap_or_default();
    let or = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
    let header = write::segment(
        "MSH",
        &[
            (3, or(raw(5), "PRELIM")),
            (4, raw(6)),
            (5, raw(3)),
            (6, raw(4)),
            (7, write::moment(at, &TimeZone::UTC)),
            (9, write::composite(&["ACK", &event, if event.is_empty() { "" } else { "ACK" }])),
            (10, write::text(id)),
            (11, or(raw(11), "P")),
            (12, or(of(12), write::VERSION)),
            (18, write::CHARSET.to_owned()),
        ],
    );
    let words = write::text(words);
    header + &write::segment("MSA", &[(1, code.into()), (2, of(10)), (3, words)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_the_enhanced_mode_gets_the_answers_that_it_asks_for() {
        for (accept, application, code, expected) in [
            ("", "", Code::Accept, &["AA"][..]),
            ("", "", Code::Error, &["AE"]),
            ("AL", "NE", Code::Accept, &["CA"]),
            ("AL", "NE", Code::Error, &["CE"]),
            ("NE", "NE", Code::Accept, &[]),
            ("NE", "NE", Code::Reject, &[]),
            ("ER", "NE", Code::Accept, &[]),
            ("ER", "NE", Code::Reject, &["CR"]),
            ("SU", "ER", Code::Accept, &["CA"]),
            ("SU", "ER", Code::Error, &["AE"]),
            ("AL", "AL", Code::Accept, &["CA", "AA"]),
            ("", "AL", Code::Accept, &["AA"]),
        ] {
            let text = format!("MSH|^~\\&|A||||||ORM^O01|1|P|2.5.1|||{accept}|{application}\r");
            let message = Message::parse(&text);
            assert_eq!(wanted(message.as_ref(), code), expected, "{accept} {application} {code:?}");
        }
    }

    #[test]
    fn an_answer_goes_back_to_the_sender_with_its_control_id() {
        let came = "MSH|^~\\&|RIS|HOSP&1.2&ISO|AI|X|2026||OMI^O23^OMI_O23|A\\T\\1|P|2.5\r";
        let came = Message::parse(came).unwrap();
        let at = Timestamp::from_second(0).unwrap();
        let said = answer(Some(&came), Code::Error.as_str(), "no PID-3 | here", "1", at);
        assert_eq!(
            said,
            "MSH|^~\\&|AI|X|RIS|HOSP|19700101000000+0000||ACK^O23^ACK|1|P|2.5||||||UNICODE UTF-8\r\
             MSA|AE|A\\T\\1|no PID-3 \\F\\ here\r"
        );
        let ack = Ack::of(&Message::parse(&said).unwrap()).unwrap();
        assert_eq!(ack.code, Code::Error);
        assert_eq!((ack.control_id.as_str(), ack.words.as_str()), ("A&1", "no PID-3 | here"));
        let none = answer(None, Code::Reject.as_str(), "no HL7 message", "2", at);
        assert!(none.starts_with("MSH|^~\\&|PRELIM|||") && none.contains("MSA|AR||no HL7"));
    }

    #[test]
    fn only_the_known_codes_are_an_answer() {
        for (msa, code) in [
            ("MSA|AA|1", Some(Code::Accept)),
            ("MSA|CA|1", Some(Code::Accept)),
            ("MSA|AE|1|x", Some(Code::Error)),
            ("MSA|CR|1", Some(Code::Reject)),
            ("MSA|OK|1", None),
            ("MSA", None),
            ("ERR|x", None),
        ] {
            let message = Message::parse(&format!(
                "MSH|^~\\&|X\r{msa}\rERR||PID^1^5^DOE|101^Required field missing|E||||no name"
            ));
            let ack = Ack::of(&message.unwrap());
            assert_eq!(ack.as_ref().map(|ack| ack.code), code, "{msa}");
            assert!(!ack.is_some_and(|ack| ack.words.contains("DOE")), "{msa}");
        }
    }
}
