//! Text of a data set to Unicode: Specific Character Set (0008,0005) with code extensions
//! (PS3.5 6.1.2.4, 6.1.2.5, PS3.3 C.12.1.1.2; examples in PS3.5 Annexes H to K).
//!
//! Nothing here fails: what cannot be decoded becomes U+FFFD. Sequence items without their own
//! Specific Character Set inherit the one of the data set around them; that is the caller's part.

use dicom_core::VR;
use encoding_rs::Encoding;

/// Decodes one element's value. Trailing padding (space, NUL) is cut off; backslashes between
/// values stay, see [`decode_values`].
///
/// - `bytes`: the value as it stands in the data set.
/// - `specific_character_set`: the values of (0008,0005); empty when there is none. An empty or
///   missing value 1 is the default repertoire (ISO IR 6).
/// - `vr`: decides which delimiters take the decoder back to value 1: `\` for SH, LO, UC and
///   PN, `^` and `=` for PN, the control characters TAB LF FF CR for all.
///
/// Devices differ from the standard; these are taken as they mean it: names in other spellings
/// (`ISO-IR 100`, `ISO_IR 149`), an escape sequence to a set that was not declared, a Korean or
/// Chinese set that is not designated again after a delimiter, bytes above 127 with nothing
/// declared (UTF-8 where valid, else single accented letters as Latin-1 like DCMTK's and
/// Orthanc's defaults; anything else is U+FFFD rather than a guess at a name).
pub fn decode(bytes: &[u8], specific_character_set: &[&str], vr: VR) -> String {
    let declared: Vec<Set> =
        specific_character_set.iter().map(|name| Set::from_defined_term(name)).collect();
    let text = match declared.iter().find_map(|set| set.whole_value()) {
        Some(encoding) => encoding.decode_without_bom_handling(bytes).0.into_owned(),
        None => Decoder::new(bytes, &declared, vr).run(),
    };
    text.trim_end_matches([' ', '\0']).to_owned()
}

/// Decodes a value and splits it at its backslashes; each value without leading and trailing
/// padding. For ST, LT, UT and UR, which have one value, the whole is one.
///
/// Splitting comes after decoding, because 05/12 is also the second byte of characters in
/// GB18030, GBK and JIS X 0208.
pub fn decode_values(bytes: &[u8], specific_character_set: &[&str], vr: VR) -> Vec<String> {
    let text = decode(bytes, specific_character_set, vr);
    match is_single_valued(vr) {
        true => vec![text],
        false if text.is_empty() => Vec::new(),
        false => text.split('\\').map(|value| value.trim_matches([' ', '\0']).into()).collect(),
    }
}

fn is_single_valued(vr: VR) -> bool {
    matches!(vr, VR::ST | VR::LT | VR::UT | VR::UR)
}

/// Defined terms that are decoded, and what they hold.
pub const SUPPORTED: &[(&str, &str)] = &[
    ("ISO_IR 6, ISO 2022 IR 6", "Default repertoire"),
    ("ISO_IR 100, ISO 2022 IR 100", "Latin alphabet No. 1"),
    ("ISO_IR 101, ISO 2022 IR 101", "Latin alphabet No. 2"),
    ("ISO_IR 109, ISO 2022 IR 109", "Latin alphabet No. 3"),
    ("ISO_IR 110, ISO 2022 IR 110", "Latin alphabet No. 4"),
    ("ISO_IR 203, ISO 2022 IR 203", "Latin alphabet No. 9"),
    ("ISO_IR 144, ISO 2022 IR 144", "Cyrillic"),
    ("ISO_IR 127, ISO 2022 IR 127", "Arabic"),
    ("ISO_IR 126, ISO 2022 IR 126", "Greek"),
    ("ISO_IR 138, ISO 2022 IR 138", "Hebrew"),
    ("ISO_IR 148, ISO 2022 IR 148", "Latin alphabet No. 5, Turkish"),
    ("ISO_IR 166, ISO 2022 IR 166", "Thai"),
    ("ISO_IR 13, ISO 2022 IR 13", "Japanese, JIS X 0201"),
    ("ISO 2022 IR 87", "Japanese, JIS X 0208"),
    ("ISO 2022 IR 159", "Japanese, JIS X 0212"),
    ("ISO 2022 IR 149", "Korean, KS X 1001"),
    ("ISO 2022 IR 58", "Simplified Chinese, GB 2312"),
    ("ISO_IR 192", "Unicode in UTF-8"),
    ("GB18030", "Chinese, GB18030"),
    ("GBK", "Chinese, GBK"),
];

/// One value of Specific Character Set.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Set {
    /// Empty or ISO IR 6.
    Default,
    /// A single-byte set whose upper half is in G1.
    Single(&'static Encoding),
    /// JIS X 0201: Katakana in G1, Romaji in G0.
    Jis0201,
    /// JIS X 0208 and JIS X 0212: in G0, only after an escape sequence.
    JisDouble,
    /// KS X 1001 in G1.
    Korean,
    /// GB 2312 in G1.
    Chinese,
    /// Without code extensions: UTF-8, GB18030, GBK.
    Whole(&'static Encoding),
    Unknown,
}

impl Set {
    fn from_defined_term(term: &str) -> Set {
        let plain: String =
            term.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        let number = ["ISO2022IR", "ISO2022", "ISOIR", "IR"]
            .iter()
            .find_map(|prefix| plain.strip_prefix(prefix))
            .unwrap_or(&plain);
        match number {
            "" | "6" => Set::Default,
            "13" | "14" => Set::Jis0201,
            "58" => Set::Chinese,
            "87" | "159" => Set::JisDouble,
            "149" => Set::Korean,
            "192" | "UTF8" => Set::Whole(encoding_rs::UTF_8),
            "GB18030" => Set::Whole(encoding_rs::GB18030),
            "GBK" => Set::Whole(encoding_rs::GBK),
            "ASCII" | "USASCII" => Set::Default,
            other => match single_byte(other) {
                Some(encoding) => Set::Single(encoding),
                None => labelled(term, &plain).map_or(Set::Unknown, Set::Whole),
            },
        }
    }

    fn whole_value(&self) -> Option<&'static Encoding> {
        match self {
            Set::Whole(encoding) => Some(encoding),
            Set::Default | Set::Single(_) | Set::Jis0201 | Set::JisDouble => None,
            Set::Korean | Set::Chinese | Set::Unknown => None,
        }
    }

    /// What G1 holds when this set is active from the start.
    fn g1(&self) -> G1 {
        match self {
            Set::Single(encoding) => G1::Single(encoding),
            Set::Jis0201 => G1::Katakana,
            Set::Korean => G1::Korean,
            Set::Chinese => G1::Chinese,
            Set::Default | Set::JisDouble | Set::Whole(_) | Set::Unknown => G1::Nothing,
        }
    }
}

/// A set by a name of other worlds, as devices and gateways write it: `GB2312`, `GB_2312-80`,
/// `EUC-KR`, `KS_C_5601-1987`, `Shift_JIS`, `ISO8859-1`, `windows-1251`, `CP936`, `Big5`.
fn labelled(term: &str, plain: &str) -> Option<&'static Encoding> {
    let windows = plain.strip_prefix("CP").or_else(|| plain.strip_prefix("MS"));
    let found = match windows.unwrap_or(plain) {
        "936" | "EUCCN" | "GB231280" => Some(encoding_rs::GBK),
        "949" | "KSC5601" | "KSX1001" => Some(encoding_rs::EUC_KR),
        "950" => Some(encoding_rs::BIG5),
        "932" => Some(encoding_rs::SHIFT_JIS),
        number if windows.is_some() => Encoding::for_label(format!("windows-{number}").as_bytes()),
        "GB180302000" | "GB180302005" | "GB180302022" => Some(encoding_rs::GB18030),
        _ => Encoding::for_label(term.as_bytes()).or(Encoding::for_label(plain.as_bytes())),
    };
    // Sets of two bytes a letter have no place in DICOM.
    let is_ascii = |encoding: &&'static Encoding| encoding.is_ascii_compatible();
    found.filter(is_ascii).filter(|encoding| *encoding != encoding_rs::REPLACEMENT)
}

/// ISO-IR number to encoding. The Windows code pages are supersets: they also know what
/// devices put between 0x80 and 0x9F, where the ISO sets have only control characters.
fn single_byte(number: &str) -> Option<&'static Encoding> {
    Some(match number {
        "100" => encoding_rs::WINDOWS_1252,
        "101" => encoding_rs::ISO_8859_2,
        "109" => encoding_rs::ISO_8859_3,
        "110" => encoding_rs::ISO_8859_4,
        "126" => encoding_rs::ISO_8859_7,
        "127" => encoding_rs::ISO_8859_6,
        "138" => encoding_rs::ISO_8859_8,
        "144" => encoding_rs::ISO_8859_5,
        "148" => encoding_rs::WINDOWS_1254,
        "166" => encoding_rs::WINDOWS_874,
        "203" => encoding_rs::ISO_8859_15,
        _ => return None,
    })
}

/// What stands in G0, bytes 0x21 to 0x7E.
#[derive(Debug, Clone, Copy, PartialEq)]
enum G0 {
    /// ASCII, and JIS X 0201 Romaji: 0x5C stays the delimiter that it is in DICOM, not a yen sign.
    Ascii,
    /// JIS X 0201 Katakana shifted into G0: not DICOM, seen in ISO-2022-JP text.
    Katakana,
    Jis0208,
    Jis0212,
}

/// What stands in G1, bytes 0xA0 to 0xFF.
#[derive(Debug, Clone, Copy, PartialEq)]
enum G1 {
    Nothing,
    Single(&'static Encoding),
    Katakana,
    Korean,
    Chinese,
}

/// Escape sequences without their ESC (PS3.3 Tables C.12-3 and C.12-4). ISO 2022 has more; what
/// is not here ends up as U+FFFD.
fn designation(sequence: &[u8]) -> Option<(usize, Designated)> {
    use Designated::*;
    let sets: [(&[u8], Designated); 21] = [
        (b"(B", InG0(G0::Ascii)),
        (b"(J", InG0(G0::Ascii)),
        (b"(I", InG0(G0::Katakana)),
        (b")I", InG1(G1::Katakana)),
        (b"$B", InG0(G0::Jis0208)),
        (b"$@", InG0(G0::Jis0208)),
        (b"$(B", InG0(G0::Jis0208)),
        (b"$(D", InG0(G0::Jis0212)),
        (b"$)C", InG1(G1::Korean)),
        (b"$)A", InG1(G1::Chinese)),
        (b"-A", InG1(G1::Single(encoding_rs::WINDOWS_1252))),
        (b"-B", InG1(G1::Single(encoding_rs::ISO_8859_2))),
        (b"-C", InG1(G1::Single(encoding_rs::ISO_8859_3))),
        (b"-D", InG1(G1::Single(encoding_rs::ISO_8859_4))),
        (b"-F", InG1(G1::Single(encoding_rs::ISO_8859_7))),
        (b"-G", InG1(G1::Single(encoding_rs::ISO_8859_6))),
        (b"-H", InG1(G1::Single(encoding_rs::ISO_8859_8))),
        (b"-L", InG1(G1::Single(encoding_rs::ISO_8859_5))),
        (b"-M", InG1(G1::Single(encoding_rs::WINDOWS_1254))),
        (b"-T", InG1(G1::Single(encoding_rs::WINDOWS_874))),
        (b"-b", InG1(G1::Single(encoding_rs::ISO_8859_15))),
    ];
    let found = sets.iter().find(|(start, _)| sequence.starts_with(start));
    found.map(|(start, what)| (start.len(), *what))
}

#[derive(Debug, Clone, Copy)]
enum Designated {
    InG0(G0),
    InG1(G1),
}

struct Decoder<'a> {
    bytes: &'a [u8],
    at: usize,
    text: String,
    g0: G0,
    g1: G1,
    /// What a delimiter goes back to.
    g1_at_start: G1,
    /// For bytes above 127 while G1 holds nothing: the first declared set that has a G1.
    g1_declared: G1,
    vr: VR,
}

impl<'a> Decoder<'a> {
    fn new(bytes: &'a [u8], declared: &[Set], vr: VR) -> Decoder<'a> {
        let g1_at_start = declared.first().map_or(G1::Nothing, Set::g1);
        let with_g1 = declared.iter().map(Set::g1).find(|g1| *g1 != G1::Nothing);
        Decoder {
            bytes,
            at: 0,
            text: String::with_capacity(bytes.len()),
            g0: G0::Ascii,
            g1: g1_at_start,
            g1_at_start,
            g1_declared: with_g1.unwrap_or(G1::Nothing),
            vr,
        }
    }

    fn run(mut self) -> String {
        let plain = !self.bytes.contains(&0x1b);
        if plain && self.g1_declared == G1::Nothing {
            return undeclared(self.bytes);
        }
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                0x1b => self.escape(),
                0x00..=0x1f | 0x7f => {
                    self.reset();
                    self.push_ascii(byte);
                }
                0x20..=0x7e => self.left_half(byte),
                0x80..=0xff => self.right_half(byte),
            }
        }
        self.text
    }

    fn escape(&mut self) {
        match designation(&self.bytes[self.at + 1..]) {
            Some((length, Designated::InG0(set))) => {
                self.g0 = set;
                self.at += 1 + length;
            }
            Some((length, Designated::InG1(set))) => {
                self.g1 = set;
                self.at += 1 + length;
            }
            None => self.push_undecodable(1),
        }
    }

    fn left_half(&mut self, byte: u8) {
        match self.g0 {
            G0::Ascii => {
                if self.is_delimiter(byte) {
                    self.reset();
                }
                self.push_ascii(byte);
            }
            // A space is a space in every G0 (PS3.5 6.1.2.5.1: SPACE is not in a 94-set).
            G0::Katakana | G0::Jis0208 | G0::Jis0212 if byte == b' ' => self.push_ascii(byte),
            G0::Katakana => {
                self.push_katakana(byte | 0x80);
            }
            G0::Jis0208 | G0::Jis0212 => {
                let second = self.bytes.get(self.at + 1).copied().unwrap_or(0);
                if !(0x21..=0x7e).contains(&second) {
                    return self.push_undecodable(1);
                }
                let (one, two) = (byte | 0x80, second | 0x80);
                match self.g0 {
                    G0::Jis0212 => self.push_pair(encoding_rs::EUC_JP, &[0x8f, one, two]),
                    G0::Jis0208 | G0::Ascii | G0::Katakana => {
                        self.push_pair(encoding_rs::EUC_JP, &[one, two])
                    }
                }
            }
        }
    }

    fn right_half(&mut self, byte: u8) {
        let g1 = match self.g1 {
            G1::Nothing => self.g1_declared,
            active => active,
        };
        match g1 {
            G1::Nothing => self.push_undecodable(1),
            G1::Single(encoding) => {
                self.text.push_str(&encoding.decode_without_bom_handling(&[byte]).0);
                self.at += 1;
            }
            G1::Katakana => self.push_katakana(byte),
            G1::Korean => self.double(byte, encoding_rs::EUC_KR),
            G1::Chinese => self.double(byte, encoding_rs::GBK),
        }
    }

    /// Two bytes of a set in G1. Second bytes below 0xA0 are none of KS X 1001 or GB 2312, but
    /// Windows code page 949 has letters there, and Korean devices send them.
    fn double(&mut self, first: u8, encoding: &'static Encoding) {
        let second = self.bytes.get(self.at + 1).copied().unwrap_or(0);
        let extended = encoding == encoding_rs::EUC_KR
            && (second.is_ascii_alphabetic() || (0x81..=0xa0).contains(&second));
        match second >= 0xa1 || extended {
            true => self.push_pair(encoding, &[first, second]),
            false => self.push_undecodable(1),
        }
    }

    /// Two bytes of the input as `code`; one U+FFFD when they are no character, and then a
    /// second byte that could be a letter or a delimiter is read again.
    fn push_pair(&mut self, encoding: &'static Encoding, code: &[u8]) {
        match encoding.decode_without_bom_handling_and_without_replacement(code) {
            Some(text) => {
                self.text.push_str(&text);
                self.at += 2;
            }
            None => {
                let second_is_ascii = self.bytes[self.at + 1] < 0x80 && self.g0 == G0::Ascii;
                self.push_undecodable(if second_is_ascii { 1 } else { 2 });
            }
        }
    }

    fn push_katakana(&mut self, byte: u8) {
        let character = (0xa1..=0xdf)
            .contains(&byte)
            .then(|| char::from_u32(0xff61 + u32::from(byte) - 0xa1))
            .flatten();
        self.text.push(character.unwrap_or(char::REPLACEMENT_CHARACTER));
        self.at += 1;
    }

    fn push_ascii(&mut self, byte: u8) {
        self.text.push(char::from(byte));
        self.at += 1;
    }

    fn push_undecodable(&mut self, bytes: usize) {
        self.text.push(char::REPLACEMENT_CHARACTER);
        self.at += bytes;
    }

    fn is_delimiter(&self, byte: u8) -> bool {
        match byte {
            b'\\' => !is_single_valued(self.vr),
            b'^' | b'=' => self.vr == VR::PN,
            _ => false,
        }
    }

    fn reset(&mut self) {
        self.g0 = G0::Ascii;
        self.g1 = self.g1_at_start;
    }
}

/// Text with nothing declared that could say what its bytes above 127 are.
fn undeclared(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.to_owned();
    }
    let single_letters = bytes
        .split(u8::is_ascii)
        .all(|run| run.len() <= 1 && run.iter().all(|&b| b >= 0xc0 && b != 0xd7 && b != 0xf7));
    let decode = |&byte: &u8| match byte.is_ascii() || single_letters {
        true => char::from(byte),
        false => char::REPLACEMENT_CHARACTER,
    };
    bytes.iter().map(decode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names as devices and gateways spell their sets.
    #[test]
    fn a_set_is_known_by_the_names_that_occur() {
        let chinese = b"\xd5\xc5\xce\xb0";
        for name in ["GB2312", "GB_2312-80", "gb2312", "CP936", "EUC-CN", "ISO 2022 GBK", "GBK"] {
            assert_eq!(decode(chinese, &[name], VR::PN), "张伟", "{name}");
        }
        for name in ["EUC-KR", "KS_C_5601-1987", "CP949", "ISO_IR 149", "ISO IR 149", "IR 149"] {
            assert_eq!(decode(b"\xc8\xab", &[name], VR::PN), "홍", "{name}");
        }
        for name in ["ISO8859-1", "ISO_8859-1", "latin1", "windows-1252", "CP1252", "ISO_IR100"] {
            assert_eq!(decode(b"M\xfcller", &[name], VR::PN), "Müller", "{name}");
        }
        for name in ["UTF-8", "utf8", "ISO_IR 192", "ISO IR 192"] {
            assert_eq!(decode("흉통".as_bytes(), &[name], VR::LO), "흉통", "{name}");
        }
        assert_eq!(decode(b"\x93\x63", &["SHIFT_JIS"], VR::PN), "田", "Japanese");
        assert_eq!(decode(b"\xc8\xe2\xe0\xed", &["windows-1251"], VR::PN), "Иван");
        // What nobody knows, and what is none of DICOM, is no guess.
        for name in ["ISO_IR 999", "UTF-16", "iso-2022-kr"] {
            assert!(decode(chinese, &[name], VR::PN).contains('\u{fffd}'), "{name}");
        }
    }

    #[test]
    fn the_sets_that_are_listed_are_decoded() {
        for term in SUPPORTED.iter().flat_map(|(terms, _)| terms.split(", ")) {
            assert_ne!(Set::from_defined_term(term), Set::Unknown, "{term}");
        }
    }

    /// Name, bytes, Specific Character Set, VR, text.
    type Example = (&'static str, &'static [u8], &'static [&'static str], VR, &'static str);

    /// The patients' names of pydicom's character set files and the published examples of PS3.5
    /// (H.3.1, H.3.2, I.2, I.3, J.1, J.2, K.2, K.3), and what pydicom 3.0.2 reads in them.
    #[rustfmt::skip]
    const EXAMPLES: &[Example] = &[
        ("Arabic", b"\xe2\xc8\xc7\xe6\xea^\xe4\xe6\xd2\xc7\xd1 ", &["ISO_IR 127"], VR::PN, "قباني^لنزار"),
        ("French", b"Buc^J\xe9r\xf4me", &["ISO_IR 100"], VR::PN, "Buc^Jérôme"),
        ("French, two values", b"Buc^J\xe9r\xf4me\\Buc^J\xe9r\xf4me ", &["ISO_IR 100"], VR::PN, "Buc^Jérôme\\Buc^Jérôme"),
        ("German", b"\xc4neas^R\xfcdiger ", &["ISO_IR 100"], VR::PN, "Äneas^Rüdiger"),
        ("Greek", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2 ", &["ISO_IR 126"], VR::PN, "Διονυσιος"),
        ("Hebrew", b"\xf9\xf8\xe5\xef^\xe3\xe1\xe5\xf8\xe4", &["ISO_IR 138"], VR::PN, "שרון^דבורה"),
        ("Russian", b"\xbb\xee\xdace\xdc\xd1yp\xd3", &["ISO_IR 144"], VR::PN, "Люкceмбypг"),
        ("H.3.1", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", &["", "ISO 2022 IR 87"], VR::PN, "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        ("H.3.2", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J", &["ISO 2022 IR 13", "ISO 2022 IR 87"], VR::PN, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("H.3.2 with ESC ( B", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B", &["ISO 2022 IR 13", "ISO 2022 IR 87"], VR::PN, "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
        ("Japanese, explicit IR 6", b"\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B ", &["ISO 2022 IR 6", "ISO 2022 IR 87"], VR::PN, "やまだ^たろう"),
        ("Japanese, two values", b"\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B\\\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B ", &["", "ISO 2022 IR 87"], VR::PN, "やまだ^たろう\\やまだ^たろう"),
        ("Japanese history", b"\x1b$B$?$m$&\x1b(B", &["", "ISO 2022 IR 87"], VR::LT, "たろう"),
        ("JIS X 0212", b"\x1b$(D0)\x1b(B", &["", "ISO 2022 IR 159"], VR::LO, "丨"),
        ("I.2", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf", &["", "ISO 2022 IR 149"], VR::PN, "Hong^Gildong=洪^吉洞=홍^길동"),
        ("I.3", b"\x1b$)CThe first line includes \xb1\xe6\xb5\xbf.\r\n\x1b$)CThe second line includes \xb1\xe6\xb5\xbf, too.\r\nThe third line.\r\n", &["", "ISO 2022 IR 149"], VR::ST, "The first line includes 길동.\r\nThe second line includes 길동, too.\r\nThe third line.\r\n"),
        ("Korean, two values", b"\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf\x1b(B\\\x1b$)C\xb1\xe8\xc8\xf1\xc1\xdf\x1b(B ", &["", "ISO 2022 IR 149"], VR::PN, "김희중\\김희중"),
        ("J.1", b"Wang^XiaoDong=\xe7\x8e\x8b^\xe5\xb0\x8f\xe6\x9d\xb1= ", &["ISO_IR 192"], VR::PN, "Wang^XiaoDong=王^小東="),
        ("J.2", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", &["GB18030"], VR::PN, "Wang^XiaoDong=王^小东="),
        ("J.2 as GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", &["GBK"], VR::PN, "Wang^XiaoDong=王^小东="),
        ("K.2", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", &["", "ISO 2022 IR 58"], VR::PN, "Zhang^XiaoDong=张^小东="),
        ("K.3", b"1. \x1b$)A\xb5\xda\xd2\xbb\xd0\xd0\xce\xc4\xd7\xd6\xa1\xa3\r\n2. \x1b$)A\xb5\xda\xb6\xfe\xd0\xd0\xce\xc4\xd7\xd6\xa1\xa3\r\n", &["", "ISO 2022 IR 58"], VR::LT, "1. 第一行文字。\r\n2. 第二行文字。\r\n"),
    ];

    #[test]
    fn the_examples_of_the_standard_come_out_as_pydicom_reads_them() {
        for (name, bytes, set, vr, expected) in EXAMPLES {
            assert_eq!(decode(bytes, set, *vr), *expected, "{name}");
        }
    }

    /// `tests/fixtures/charsets.txt`, made by `tests/peers/make_charsets.py`: what Python's codecs
    /// and pydicom read in every single-byte set, in samples of the double-byte ones, and in values
    /// with several sets.
    #[test]
    fn golden_values_come_out_as_python_reads_them() {
        let golden = include_str!("../../tests/fixtures/charsets.txt");
        let mut lines = 0;
        for line in golden.lines().filter(|line| !line.starts_with('#')) {
            let parts: Vec<&str> = line.split('\t').collect();
            let [sets, vr, hex, expected] = parts[..] else { panic!("{line}") };
            let sets: Vec<&str> = sets.split('\\').collect();
            let vr = vr.parse().unwrap();
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap())
                .collect();
            let found = decode(&bytes, &sets, vr);
            let wrong: Vec<(char, char)> =
                found.chars().zip(expected.chars()).filter(|(a, b)| a != b).collect();
            assert_eq!(wrong, [], "{sets:?}");
            // pydicom leaves out empty groups at the end of a name.
            let trimmed = |text: &str| text.trim_end_matches(['=', ' ']).to_owned();
            assert_eq!(trimmed(&found), trimmed(expected), "{sets:?}");
            lines += 1;
        }
        assert!(lines > 40, "{lines}");
    }

    /// One letter each that only this part of ISO 8859 has at this place.
    #[test]
    fn each_single_byte_set_is_known_alone_and_as_an_extension() {
        let sets = [
            ("100", b'A', 0xe9, "é"),
            ("101", b'B', 0xb3, "ł"),
            ("109", b'C', 0xa1, "Ħ"),
            ("110", b'D', 0xbf, "ŋ"),
            ("126", b'F', 0xe1, "α"),
            ("127", b'G', 0xe2, "ق"),
            ("138", b'H', 0xe0, "א"),
            ("144", b'L', 0xd0, "а"),
            ("148", b'M', 0xfd, "ı"),
            ("166", b'T', 0xa1, "ก"),
            ("203", b'b', 0xa4, "€"),
        ];
        for (number, last, byte, letter) in sets {
            let alone = format!("ISO_IR {number}");
            assert_eq!(decode(&[byte], &[&alone], VR::LO), letter, "{alone}");
            let extension = format!("ISO 2022 IR {number}");
            let escaped = [b'a', 0x1b, b'-', last, byte, b'z'];
            let text = decode(&escaped, &["ISO 2022 IR 6", &extension], VR::LO);
            assert_eq!(text, format!("a{letter}z"), "{extension}");
        }
    }

    #[test]
    fn a_delimiter_goes_back_to_the_first_set() {
        // Cyrillic is designated; after the delimiter the same byte is Latin-1 again.
        let set = ["ISO 2022 IR 100", "ISO 2022 IR 144"];
        for (vr, delimiter, expected) in [
            (VR::PN, "^", "а^Ð"),
            (VR::PN, "=", "а=Ð"),
            (VR::PN, "\\", "а\\Ð"),
            (VR::LO, "\\", "а\\Ð"),
            (VR::LO, "^", "а^а"),
            (VR::LT, "\\", "а\\а"),
            (VR::LT, "\r\n", "а\r\nÐ"),
            (VR::UT, "\t", "а\tÐ"),
            (VR::ST, "\u{c}", "а\u{c}Ð"),
        ] {
            let bytes = [b"\x1b-L\xd0", delimiter.as_bytes(), b"\xd0"].concat();
            assert_eq!(decode(&bytes, &set, vr), expected, "{vr:?} {delimiter:?}");
        }
    }

    #[test]
    fn a_backslash_inside_a_character_does_not_split_a_value() {
        // 0x815C is one character in GBK, 0x5C the second byte of many in JIS X 0208.
        let gbk = decode_values(b"\x81\x5c\\b ", &["GBK"], VR::LO);
        assert_eq!(gbk, ["乗", "b"]);
        let jis = decode_values(b"\x1b$B0\x5c\x1b(B\\b", &["", "ISO 2022 IR 87"], VR::LO);
        assert_eq!(jis, ["移", "b"]);
        assert_eq!(decode_values(b" a \\ b\0", &[], VR::LO), ["a", "b"]);
        assert_eq!(decode_values(b"a\\b ", &[], VR::LT), ["a\\b"]);
        assert!(decode_values(b"", &[], VR::LO).is_empty());
    }

    #[test]
    fn what_devices_do_against_the_standard_is_read_as_they_mean_it() {
        let korean: &[&str] = &["", "ISO 2022 IR 149"];
        let cases: [(&[u8], &[&str], &str); 9] = [
            (b"\x1b$)C\xc8\xab^\xb1\xe6\xb5\xbf", korean, "홍^길동"),
            (b"\xc8\xab^\xb1\xe6\xb5\xbf", korean, "홍^길동"),
            (b"\xc8\xab\xb1\xe6\xb5\xbf", &["ISO_IR 149"], "홍길동"),
            (b"\x1b$)C\x8cc", korean, "똠"),
            (b"\x1b$)C\xc8\xab", &[], "홍"),
            (b"J\xe9r\xf4me", &["iso-ir-100"], "Jérôme"),
            ("홍길동".as_bytes(), &[], "홍길동"),
            (b"J\xe9r\xf4me", &[], "Jérôme"),
            ("홍길동".as_bytes(), &["", "ISO_IR 192"], "홍길동"),
        ];
        for (bytes, set, expected) in cases {
            assert_eq!(decode(bytes, set, VR::PN), expected, "{set:?}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_u_fffd_and_never_a_panic() {
        let cases: [(&[u8], &[&str], &str); 7] = [
            (b"\xc8\xab\xb1\xe6", &[], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"a\xff\xfeb", &["ISO_IR 192"], "a\u{fffd}\u{fffd}b"),
            (b"\x1b$B;", &["", "ISO 2022 IR 87"], "\u{fffd}"),
            (b"\x1b$)C\xc8", &["", "ISO 2022 IR 149"], "\u{fffd}"),
            (b"\x1b$)C\xc8^A", &["", "ISO 2022 IR 149"], "\u{fffd}^A"),
            (b"a\x1bzb", &["", "ISO 2022 IR 87"], "a\u{fffd}zb"),
            (b"\xb0\xb0", &["ISO_IR 999"], "\u{fffd}\u{fffd}"),
        ];
        for (bytes, set, expected) in cases {
            assert_eq!(decode(bytes, set, VR::PN), expected, "{bytes:?} {set:?}");
        }
        let sets: [&[&str]; 9] = [
            &[],
            &["", "ISO 2022 IR 149"],
            &["", "ISO 2022 IR 87", "ISO 2022 IR 159"],
            &["ISO 2022 IR 13", "ISO 2022 IR 87"],
            &["", "ISO 2022 IR 58"],
            &["ISO_IR 192"],
            &["GB18030"],
            &["ISO_IR 166"],
            &["\u{1b}", "ISO"],
        ];
        let pieces: [&[u8]; 10] = [
            b"\x1b$B", b"\x1b$)C", b"\x1b$(D", b"\x1b", b"\xff", b"\x8e", b"^", b"\\", b"A", b"\n",
        ];
        for set in sets {
            for n in 0..pieces.len().pow(4) {
                let bytes: Vec<u8> =
                    (0..4).flat_map(|i| pieces[n / pieces.len().pow(i) % 10].to_vec()).collect();
                decode(&bytes, set, VR::PN);
            }
        }
    }
}
