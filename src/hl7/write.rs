//! Segments as they are written: the usual delimiters, everything else escaped.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::hl7::message::character_set;

/// Our messages, in UTF-8 (MSH-18).
pub const VERSION: &str = "2.5.1";
pub const CHARSET: &str = "UNICODE UTF-8";
const ENCODING: &str = "^~\\&";

/// One segment with its carriage return.
///
/// - `fields`: number as the standard counts, and the value as [`text`] or [`composite`] give it.
pub fn segment(name: &str, fields: &[(usize, String)]) -> String {
    // Of MSH the separator is the first field and stands behind the name anyway.
    let shift = usize::from(name == "MSH");
    let last = fields.iter().map(|(number, _)| *number).max().unwrap_or_default();
    let mut line = name.to_owned();
    for number in (1 + shift)..=last {
        line.push('|');
        match fields.iter().find(|(own, _)| *own == number) {
            Some((_, value)) => line.push_str(value),
            None if shift == 1 && number == 2 => line.push_str(ENCODING),
            None => {}
        }
    }
    line.truncate(line.trim_end_matches('|').len());
    line.push('\r');
    line
}

/// A text in which nothing delimits or controls; line ends are `\.br\`.
pub fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for c in raw.replace("\r\n", "\n").trim_end_matches('\n').chars() {
        match c {
            '|' => out.push_str("\\F\\"),
            '^' => out.push_str("\\S\\"),
            '&' => out.push_str("\\T\\"),
            '~' => out.push_str("\\R\\"),
            '\\' => out.push_str("\\E\\"),
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => out.push_str("\\.br\\"),
            '\t' => out.push(' '),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

/// Components, each escaped; those that are empty at the end are left out.
pub fn composite(parts: &[&str]) -> String {
    let all: Vec<String> = parts.iter().map(|part| text(part)).collect();
    all.join("^").trim_end_matches('^').to_owned()
}

/// The message with who sends it to whom (MSH-3 to MSH-6), as this receiver knows them.
pub fn addressed(message: &str, from: [&str; 2], to: [&str; 2]) -> String {
    let (header, rest) = message.split_once('\r').unwrap_or((message, ""));
    let mut fields: Vec<String> = header.split('|').map(str::to_owned).collect();
    fields.resize(fields.len().max(6), String::new());
    for (at, name) in from.into_iter().chain(to).enumerate() {
        if !name.is_empty() {
            fields[at + 2] = text(name);
        }
    }
    format!("{}\r{rest}", fields.join("|"))
}

/// The message without the documents in it (OBX-2 ED), for receivers that take none.
pub fn without_documents(message: &str) -> String {
    let is_document = |segment: &&str| {
        let mut fields = segment.split('|');
        fields.next() == Some("OBX") && fields.nth(1) == Some("ED")
    };
    message.split_inclusive('\r').filter(|segment| !is_document(segment)).collect()
}

/// The message in this version and character set (MSH-12, MSH-18), and how many of its characters the set
/// does not have: a question mark stands for each.
pub fn coded(message: &str, version: &str, charset: &str) -> (Vec<u8>, usize) {
    let (header, rest) = message.split_once('\r').unwrap_or((message, ""));
    let mut fields: Vec<String> = header.split('|').map(str::to_owned).collect();
    fields.resize(fields.len().max(18), String::new());
    (fields[11], fields[17]) = (version.to_owned(), charset.to_owned());
    let text = format!("{}\r{rest}", fields.join("|"));
    let set = character_set(charset).unwrap_or(encoding_rs::UTF_8);
    let (whole, _, is_lossy) = set.encode(&text);
    if !is_lossy {
        return (whole.into_owned(), 0);
    }
    let (mut bytes, mut lost) = (Vec::with_capacity(text.len()), 0);
    for c in text.chars() {
        let mut one = [0; 4];
        match set.encode(c.encode_utf8(&mut one)) {
            (coded, _, false) => bytes.extend_from_slice(&coded),
            (_, _, true) => {
                bytes.push(b'?');
                lost += 1;
            }
        }
    }
    (bytes, lost)
}

/// A moment with its distance to UTC (DTM).
pub fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y%m%d%H%M%S%z").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hl7::message::Message;

    #[test]
    fn what_is_written_comes_back_and_nothing_delimits() {
        let odd = "a|b^c&d~e\\f\r\ng\tĥ\u{7}\u{1b}[31m\u{b}\u{1c}홍";
        let written = segment("OBX", &[(5, text(odd)), (3, composite(&["1^2", "", "x", ""]))]);
        assert_eq!(written.matches('\r').count(), 1);
        assert!(written.bytes().all(|b| b >= 0x20 || b == b'\r'), "{written:?}");
        let message = Message::parse(&format!("{}{written}", segment("MSH", &[(3, text("A"))])));
        let message = message.unwrap();
        assert_eq!(message.header(3), "A");
        let obx = message.first("OBX").unwrap();
        assert_eq!(obx.text(5), "a|b^c&d~e\\f\ng ĥ[31m홍");
        assert_eq!(
            (obx.field(3).component(1), obx.field(3).component(3)),
            ("1^2".into(), "x".into())
        );
    }

    #[test]
    fn a_message_is_addressed_and_its_documents_can_be_left_out() {
        let message = "MSH|^~\\&|PRELIM|H|||2026\rOBX|1|TX|||a\rOBX|2|ED|||x^y\rOBX|3|ST\r";
        let sent = addressed(message, ["", "HO|SP"], ["RIS", ""]);
        assert!(sent.starts_with("MSH|^~\\&|PRELIM|HO\\F\\SP|RIS||2026\rOBX|1|"), "{sent}");
        assert_eq!(
            without_documents(message),
            "MSH|^~\\&|PRELIM|H|||2026\rOBX|1|TX|||a\rOBX|3|ST\r"
        );
    }

    #[test]
    fn a_message_is_written_in_the_version_and_set_that_its_receiver_knows() {
        let message =
            segment("MSH", &[(3, "A".into()), (12, VERSION.into())]) + "PID|1||\u{d64d}\u{e9}\r";
        for (version, charset, tail, lost) in [
            ("2.5.1", CHARSET, "\u{d64d}\u{e9}\r".as_bytes(), 0),
            ("2.3", "8859/1", &b"?\xe9\r"[..], 1),
            ("2.4", "KS X 1001", &b"\xc8\xab?\r"[..], 1),
        ] {
            let (bytes, found) = coded(&message, version, charset);
            assert!(bytes.ends_with(tail), "{charset}: {bytes:x?}");
            assert_eq!(found, lost, "{charset}");
            let read = Message::read(&bytes, None).unwrap();
            assert_eq!((read.header(12), read.header(18)), (version.into(), charset.into()));
        }
    }

    #[test]
    fn fields_stand_where_the_standard_counts_them() {
        let empty = String::new;
        assert_eq!(segment("PV1", &[(2, "U".into()), (3, empty())]), "PV1||U\r");
        let msh = segment("MSH", &[(3, "A".into()), (12, VERSION.into())]);
        assert_eq!(msh, "MSH|^~\\&|A|||||||||2.5.1\r");
        let at = Timestamp::from_second(0).unwrap();
        assert_eq!(moment(at, &TimeZone::fixed(jiff::tz::offset(9))), "19700101090000+0900");
    }
}
