//! A message as it came (HL7 v2.5.1 chapter 2): the delimiters are those that its MSH names, the
//! text is decoded, and of control characters nothing passes but line ends.

use encoding_rs::Encoding;

/// What is beyond is not read: a report has some hundreds.
const SEGMENTS_MAX: usize = 5_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    text: String,
    delimiters: Delimiters,
    encoding: &'static Encoding,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Delimiters {
    field: char,
    component: char,
    repetition: char,
    escape: char,
    sub: char,
}

impl Message {
    /// Bytes as a frame held them, in the character set that MSH-18 names. `None`: no HL7 message.
    ///
    /// - `usual`: the set of senders that name none and do not write UTF-8.
    pub fn read(bytes: &[u8], usual: Option<&'static Encoding>) -> Option<Message> {
        // MSH itself is ASCII in every set that is used.
        let first: String = bytes.iter().take(1024).map(|b| char::from(*b)).collect();
        let header = Message::of_text(&first, encoding_rs::UTF_8)?;
        let named = header.first("MSH").map(|msh| {
            let all: Vec<String> = msh.field(18).repetitions().map(|one| one.text()).collect();
            all
        });
        let encoding = encoding(&named.unwrap_or_default(), bytes, usual);
        let (text, _, _) = encoding.decode(bytes);
        Message::of_text(&text, encoding)
    }

    /// Text that is decoded already. `None`: no HL7 message.
    pub fn parse(text: &str) -> Option<Message> {
        Message::of_text(text, encoding_rs::UTF_8)
    }

    fn of_text(text: &str, encoding: &'static Encoding) -> Option<Message> {
        let text = text.trim_matches(['\u{b}', '\u{1c}', '\u{feff}', '\r', '\n', ' ']);
        let mut named = text.strip_prefix("MSH")?.chars();
        let usable = |c: &char| !c.is_alphanumeric() && !c.is_control() && *c != ' ';
        let field = named.next().filter(usable)?;
        let mut next = |usual| named.next().filter(|c| *c != field && usable(c)).unwrap_or(usual);
        let (component, repetition) = (next('^'), next('~'));
        let (escape, sub) = (next('\\'), next('&'));
        let delimiters = Delimiters { field, component, repetition, escape, sub };
        Some(Message { text: text.to_owned(), delimiters, encoding })
    }

    /// A line that begins as no segment does goes on with the field before it: a line end in free text
    /// that its sender did not escape.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        let mut rest = self.text.as_str();
        let next = move || {
            rest = rest.trim_start_matches(['\r', '\n']);
            if rest.is_empty() {
                return None;
            }
            let mut end = 0;
            loop {
                end += rest[end..].find(['\r', '\n']).unwrap_or(rest.len() - end);
                let after = rest[end..].trim_start_matches(['\r', '\n']);
                if after.is_empty() || self.begins_segment(after) {
                    break;
                }
                end = rest.len() - after.len();
            }
            let (segment, after) = rest.split_at(end);
            rest = after;
            Some(segment)
        };
        std::iter::from_fn(next)
            .take(SEGMENTS_MAX)
            .filter(|line| !line.trim().is_empty())
            .map(|line| Segment { fields: line.split(self.delimiters.field).collect(), of: self })
    }

    /// Three letters or digits, the first a letter, and the delimiter or the line's end.
    fn begins_segment(&self, line: &str) -> bool {
        let Some((name, rest)) = line.split_at_checked(3) else { return false };
        let is_name = name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let is_alone = rest.is_empty() || rest.starts_with(['\r', '\n']);
        is_name && (is_alone || rest.starts_with(self.delimiters.field))
    }

    pub fn first(&self, name: &str) -> Option<Segment<'_>> {
        self.segments().find(|segment| segment.name() == name)
    }

    /// A field of MSH as text; empty when it is not there.
    pub fn header(&self, field: usize) -> String {
        self.first("MSH").map(|msh| msh.field(field).text()).unwrap_or_default()
    }

    /// MSH-9 as `ORU^R01`, whatever stands behind.
    pub fn kind(&self) -> String {
        let Some(msh) = self.first("MSH") else { return String::new() };
        let kind = msh.field(9);
        format!("{}^{}", kind.component(1), kind.component(2))
    }

    /// MSH-10.
    pub fn control_id(&self) -> String {
        self.header(10)
    }
}

pub struct Segment<'a> {
    fields: Vec<&'a str>,
    of: &'a Message,
}

impl<'a> Segment<'a> {
    pub fn name(&self) -> &'a str {
        self.fields.first().copied().unwrap_or_default().trim()
    }

    /// Field `number` as the standard counts: of MSH the separator itself is the first.
    pub fn field(&self, number: usize) -> Field<'a> {
        let at = if self.name() == "MSH" { number.saturating_sub(1) } else { number };
        let raw = if at == 0 { "" } else { self.fields.get(at).copied().unwrap_or_default() };
        Field { raw, of: self.of }
    }

    /// Shorthand for the whole text of a field.
    pub fn text(&self, number: usize) -> String {
        self.field(number).text()
    }
}

/// A field, or one of its repetitions.
#[derive(Clone, Copy)]
pub struct Field<'a> {
    raw: &'a str,
    of: &'a Message,
}

impl<'a> Field<'a> {
    /// Those that hold something.
    pub fn repetitions(self) -> impl Iterator<Item = Field<'a>> {
        let all = self.raw.split(self.of.delimiters.repetition);
        all.filter(|raw| !raw.is_empty()).map(move |raw| Field { raw, of: self.of })
    }

    /// Component `number`, from 1, of the first repetition, without its subcomponents' delimiters.
    pub fn component(self, number: usize) -> String {
        self.part(number, 1)
    }

    /// Subcomponent `sub` of component `number`, both from 1.
    pub fn part(self, number: usize, sub: usize) -> String {
        let d = self.of.delimiters;
        let first = self.raw.split(d.repetition).next().unwrap_or_default();
        let nth = |text: &'a str, delimiter, n: usize| {
            text.split(delimiter).nth(n.saturating_sub(1)).unwrap_or_default()
        };
        self.of.plain(nth(nth(first, d.component, number), d.sub, sub))
    }

    /// All of it as one text: of a field that has no components.
    pub fn text(self) -> String {
        self.of.plain(self.raw)
    }

    /// HL7's explicit nothing, `""`, is nothing too.
    pub fn is_empty(self) -> bool {
        self.raw.is_empty() || self.raw == "\"\""
    }
}

impl Message {
    /// Without escape sequences (2.7) and control characters. A sequence that is none stays: a bare
    /// backslash is a sender's slip, and what follows is text.
    fn plain(&self, raw: &str) -> String {
        if raw == "\"\"" {
            return String::new();
        }
        let d = self.delimiters;
        let mut out = String::with_capacity(raw.len());
        let mut rest = raw;
        while let Some((before, after)) = rest.split_once(d.escape) {
            out.push_str(before);
            let sequence = after.split_once(d.escape);
            match sequence.and_then(|(name, rest)| Some((self.meant(name)?, rest))) {
                Some((meant, after)) => {
                    out.push_str(&meant);
                    rest = after;
                }
                None => {
                    out.push(d.escape);
                    rest = after;
                }
            }
        }
        out.push_str(rest);
        let shown = |c: char| match c {
            '\t' => Some(' '),
            '\n' => Some(c),
            c => (!c.is_control()).then_some(c),
        };
        out.replace("\r\n", "\n").replace('\r', "\n").chars().filter_map(shown).collect::<String>()
    }

    /// What stands between two escape characters. `None`: it is no sequence.
    fn meant(&self, name: &str) -> Option<String> {
        let d = self.delimiters;
        let one = |c: char| Some(c.to_string());
        match name {
            "F" => one(d.field),
            "S" => one(d.component),
            "T" => one(d.sub),
            "R" => one(d.repetition),
            "E" => one(d.escape),
            "H" | "N" => Some(String::new()),
            _ => match name.split_at_checked(1)? {
                ("X", hex) => {
                    let digits = hex.as_bytes();
                    let pairs = digits
                        .chunks(2)
                        .map(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok());
                    let bytes: Vec<u8> = pairs.collect::<Option<_>>()?;
                    let whole = !digits.is_empty() && digits.len().is_multiple_of(2);
                    whole.then(|| self.encoding.decode(&bytes).0.into_owned())
                }
                (".", command) => {
                    let word: String = command.chars().take(2).collect();
                    match word.as_str() {
                        "br" | "sp" | "ce" => one('\n'),
                        "fi" | "nf" | "in" | "ti" | "sk" => Some(String::new()),
                        _ => None,
                    }
                }
                // Other character sets in the middle of a text, and sequences of a site's own.
                ("C" | "M" | "Z", code) => {
                    let is_code = code.bytes().all(|b| b.is_ascii_hexdigit());
                    (is_code && code.len() >= 2).then(String::new)
                }
                _ => None,
            },
        }
    }
}

/// The messages of one block: some senders put several into it, or a whole batch (2.10.3).
pub fn split(block: &[u8]) -> Vec<&[u8]> {
    let begins = |at: usize| {
        let is_line = at == 0 || matches!(block[at - 1], b'\r' | b'\n');
        is_line && block[at..].starts_with(b"MSH")
    };
    let starts: Vec<usize> = (0..block.len()).filter(|at| begins(*at)).collect();
    match starts.len() {
        0 | 1 => vec![block],
        _ => {
            let ends = starts.iter().skip(1).copied().chain([block.len()]);
            starts.iter().zip(ends).map(|(from, to)| &block[*from..to]).collect()
        }
    }
}

/// A character set by its name in table 0211, or by another name that it has.
pub fn character_set(name: &str) -> Option<&'static Encoding> {
    let name = name.trim().to_ascii_uppercase();
    Some(match name.as_str() {
        "UNICODE" | "UNICODE UTF-8" => encoding_rs::UTF_8,
        "KS X 1001" => encoding_rs::EUC_KR,
        "GB 18030-2000" => encoding_rs::GB18030,
        "BIG-5" => encoding_rs::BIG5,
        "ISO IR14" => encoding_rs::SHIFT_JIS,
        "ISO IR87" | "ISO IR159" => encoding_rs::ISO_2022_JP,
        name => {
            let label = name.replace("8859/", "ISO-8859-");
            return Encoding::for_label(label.as_bytes());
        }
    })
}

/// The set of MSH-18 (table 0211 and what is written in its place). Without one: UTF-8 where it can
/// be, else Latin-1, as devices do.
fn encoding(named: &[String], bytes: &[u8], usual: Option<&'static Encoding>) -> &'static Encoding {
    let undeclared = || match std::str::from_utf8(bytes) {
        Ok(_) => encoding_rs::UTF_8,
        Err(_) => usual.unwrap_or(encoding_rs::WINDOWS_1252),
    };
    // Japanese is named in the second place, behind what it is switched to from.
    if named.iter().any(|name| matches!(name.as_str(), "ISO IR87" | "ISO IR159")) {
        return encoding_rs::ISO_2022_JP;
    }
    let name = named.first().map(|name| name.trim().to_ascii_uppercase()).unwrap_or_default();
    match name.as_str() {
        "" | "ASCII" | "US-ASCII" | "ISO IR6" => undeclared(),
        name => character_set(name).unwrap_or_else(undeclared),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(segment: &str) -> Message {
        Message::parse(&format!("MSH|^~\\&|A\r{segment}\r")).unwrap()
    }

    #[test]
    fn fields_repetitions_components_and_subcomponents_are_counted_as_in_the_standard() {
        let message =
            of("PID|1||P1^^^HOSP&1.2.3&ISO^MR~P2^^^X||Doe&van^Jane\nOBX|1|TX|||a^b~c^d|\"\"");
        assert_eq!(message.header(1), "");
        assert_eq!(message.header(3), "A");
        let pid = message.first("PID").unwrap();
        let ids: Vec<String> = pid.field(3).repetitions().map(|id| id.component(1)).collect();
        assert_eq!(ids, ["P1", "P2"]);
        assert_eq!(pid.field(3).part(4, 1), "HOSP");
        assert_eq!(pid.field(3).part(4, 2), "1.2.3");
        assert_eq!(
            (pid.field(5).component(1), pid.field(5).component(2)),
            ("Doe".into(), "Jane".into())
        );
        let obx = message.first("OBX").unwrap();
        assert_eq!(obx.text(5), "a^b~c^d");
        assert!(obx.field(6).is_empty() && obx.text(6).is_empty() && obx.field(99).is_empty());
    }

    #[test]
    fn escapes_are_read_and_control_characters_never_pass() {
        for (raw, text) in [
            (r"a\F\b\S\c\T\d\R\e\E\f", r"a|b^c&d~e\f"),
            (r"one\.br\two\.sp\three\.in+4\\.ce\x", "one\ntwo\nthree\nx"),
            (r"\H\bold\N\ \X48656c6C6f\", "bold Hello"),
            (r"\X1B5B\\X00\x\X0D0A\y", "[x\ny"),
            (r"\XC3A9\", "é"),
            (r"\X4\ \Xzz\ \X\", r"\X4\ \Xzz\ \X\"),
            (r"C:\dir\file \Z01\", r"C:\dir\file "),
            (r"AP\LAT", r"AP\LAT"),
            ("tab\there\u{7}\u{85}", "tab here"),
            (r"\", r"\"),
            ("\"\"", ""),
        ] {
            assert_eq!(of(&format!("OBX|{raw}")).first("OBX").unwrap().text(1), text, "{raw}");
        }
    }

    #[test]
    fn a_line_end_in_a_text_is_of_the_text_and_several_messages_of_a_block_are_several() {
        let message = of("OBR|1|PLX9||||screening\rsecond line\nA-B|||ACC1\rOBX|1\rZX1\r\rNTE|x");
        let names: Vec<&str> = message.segments().map(|segment| segment.name()).collect();
        assert_eq!(names, ["MSH", "OBR", "OBX", "ZX1", "NTE"]);
        let obr = message.first("OBR").unwrap();
        assert_eq!(
            (obr.text(6), obr.text(9)),
            ("screening\nsecond line\nA-B".into(), "ACC1".into())
        );
        for (block, count) in [
            ("MSH|^~\\&|A\rPID|1\r", 1),
            ("MSH|^~\\&|A\rPID|1\rMSH|^~\\&|B\rPID|2\r", 2),
            ("FHS|^~\\&\rBHS|^~\\&\rMSH|^~\\&|A\r\nMSH|^~\\&|B\rBTS|2\rFTS|1\r", 2),
            ("no message", 1),
        ] {
            let parts = split(block.as_bytes());
            assert_eq!(parts.len(), count, "{block}");
            assert!(count == 1 || parts.iter().all(|part| part.starts_with(b"MSH")), "{block}");
        }
    }

    #[test]
    fn a_sender_that_names_no_set_has_the_one_that_the_settings_name() {
        for (label, bytes, text) in [
            ("EUC-KR", &b"\xb0\xa1\xbd\xbf"[..], "\u{ac00}\u{c2b4}"),
            ("KS X 1001", &b"\xb0\xa1\xbd\xbf"[..], "\u{ac00}\u{c2b4}"),
            ("gbk", &b"\xd0\xd8\xcd\xb4"[..], "\u{80f8}\u{75db}"),
            ("windows-1251", &b"\xe1\xee\xeb\xfc"[..], "\u{431}\u{43e}\u{43b}\u{44c}"),
        ] {
            let usual = character_set(label);
            let raw = [b"MSH|^~\\&|A\rOBX|", bytes].concat();
            let message = Message::read(&raw, usual).unwrap();
            assert_eq!(message.first("OBX").unwrap().text(1), text, "{label}");
            // What is UTF-8 is that, and what names its set has that.
            let utf8 = Message::read("MSH|^~\\&|A\rOBX|\u{e9}".as_bytes(), usual).unwrap();
            assert_eq!(utf8.first("OBX").unwrap().text(1), "\u{e9}", "{label}");
        }
        assert!(character_set("no such set").is_none());
    }

    #[test]
    fn delimiters_are_those_of_the_message() {
        let message = Message::parse("MSH#:*!%#APP\rOBX#a:b%c*d!F!e").unwrap();
        let field = message.first("OBX").unwrap().field(1);
        assert_eq!(field.part(2, 2), "c");
        assert_eq!(field.repetitions().nth(1).unwrap().text(), "d#e");
        // Fewer than four are completed with the usual ones.
        assert_eq!(
            Message::parse("MSH|^|X\rPID|a~b")
                .unwrap()
                .first("PID")
                .unwrap()
                .field(1)
                .repetitions()
                .count(),
            2
        );
    }

    #[test]
    fn the_set_of_msh_18_is_read() {
        let with = |set: &str, name: &[u8]| {
            let mut bytes =
                format!("MSH|^~\\&|A||||||ORU^R01|1|P|2.3.1||||||{set}\rPID|1||1||").into_bytes();
            bytes.extend_from_slice(name);
            let read = Message::read(&bytes, None).unwrap();
            read.first("PID").unwrap().field(5).component(1)
        };
        for (set, bytes, text) in [
            ("UNICODE UTF-8", "Nguyễn 홍".as_bytes(), "Nguyễn 홍"),
            ("8859/1", b"Gr\xfc\xdfe", "Grüße"),
            ("8859/2", b"\xa3\xf3d\xbc", "Łódź"),
            ("8859/5", b"\xb8\xd2\xd0\xdd", "Иван"),
            ("KS X 1001", b"\xc8\xab", "홍"),
            ("EUC-KR", b"\xc8\xab", "홍"),
            ("GB 18030-2000", b"\xcd\xf5", "王"),
            // The second byte of this character is a backslash.
            ("BIG-5", b"\xb3\x5c", "許"),
            ("ASCII~ISO IR87", b"\x1b$B;3\x1b(B", "山"),
            ("", "é".as_bytes(), "é"),
            ("", b"\xe9", "é"),
            ("ASCII", b"\xe9", "é"),
            ("nonsense", b"\xe9", "é"),
            ("UNICODE UTF-8", b"a\xff", "a\u{fffd}"),
        ] {
            assert_eq!(with(set, bytes), text, "{set}");
        }
    }

    #[test]
    fn odd_messages_are_read_without_harm() {
        for text in ["MSH|", "MSH|||||\rOBX", "MSH|^~\\&|\rOBX|1|FT|||a\\b", "MSH|é"] {
            let message = Message::parse(text).unwrap();
            message.segments().for_each(|segment| drop(segment.text(5)));
            let _ = (message.kind(), message.control_id());
        }
        for text in ["", "MSH", "MSHMSH", "FINDINGS: clear", "FHS|^~\\&|", "MSH\r|"] {
            assert_eq!(Message::parse(text), None, "{text:?}");
        }
        let many = format!("MSH|^~\\&|{}", "\rOBX|1".repeat(SEGMENTS_MAX * 2));
        assert_eq!(Message::parse(&many).unwrap().segments().count(), SEGMENTS_MAX);
    }
}
