//! Text as DICOM's value representations allow it (PS3.5 6.2).

/// LO: one line, no backslash (it separates values), 64 characters; we keep to 64 bytes, as archives
/// and dciodvfy count. `fallback` where nothing is left: most attributes that take it are Type 1.
pub fn lo(text: &str, fallback: &str) -> String {
    line(text, 64, fallback)
}

/// SH: 16, else as LO.
pub fn sh(text: &str, fallback: &str) -> String {
    line(text, 16, fallback)
}

/// UT and ST: several lines; of the control characters only line ends stay.
pub fn long(text: &str, bytes_max: usize) -> String {
    let plain = |c: char| match c {
        '\t' => ' ',
        c => c,
    };
    let cleaned: String =
        text.chars().map(plain).filter(|&c| c == '\n' || !is_unwanted(c)).collect();
    cut(cleaned.trim(), bytes_max)
}

/// A value that identifies: byte for byte what the source says, without what no value may hold.
pub fn identity(text: &str) -> String {
    text.chars().filter(|&c| !c.is_control()).collect()
}

/// DS (16 characters): the shortest decimal that says the same, else as many digits as fit.
pub fn decimal(value: f64) -> String {
    let exact = format!("{value}");
    if exact.len() <= 16 {
        return exact;
    }
    let rounded = (0..=14).rev().map(|digits| format!("{value:.digits$}"));
    rounded.into_iter().find(|text| text.len() <= 16).unwrap_or_else(|| format!("{value:.8e}"))
}

fn line(text: &str, bytes_max: usize, fallback: &str) -> String {
    let one_line = |c: char| match c {
        '\\' => '/',
        '\n' | '\r' | '\t' => ' ',
        c => c,
    };
    let cleaned: String = text.chars().map(one_line).filter(|&c| !is_unwanted(c)).collect();
    match cut(cleaned.trim(), bytes_max) {
        short if short.is_empty() => fallback.to_owned(),
        short => short,
    }
}

/// At most so many bytes of UTF-8, whole characters.
pub fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    // Three dots, not one character: an ASCII text stays one, and its data set needs no character set.
    let dots = if bytes_max > 16 { "..." } else { "" };
    let end = text.floor_char_boundary(bytes_max - dots.len());
    format!("{}{dots}", text[..end].trim_end())
}

/// Control characters, and the marks that turn the direction of writing: with them a text can
/// look like another one.
fn is_unwanted(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_fits_its_value_representation() {
        assert_eq!(lo("a\\b\u{1b}[31m\nc", "-"), "a/b[31m c");
        assert_eq!(lo(" \0 ", "unknown"), "unknown");
        assert_eq!(lo(&"한".repeat(80), "-"), format!("{}...", "한".repeat(20)));
        assert_eq!(sh("1234567890123456", "-"), "1234567890123456");
        assert_eq!(sh("12345678901234567", "-").chars().count(), 16);
        assert_eq!(long("one\ttwo\r\nthree\u{202e}", 100), "one two\nthree");
        assert_eq!(identity("Hong^Gildong=洪^吉洞 \0"), "Hong^Gildong=洪^吉洞 ");
    }

    #[test]
    fn a_decimal_string_has_at_most_16_characters() {
        for value in [0.0, 91.0, -12.4, 1.0 / 3.0, 1e-9 / 3.0, -123_456_789.123_456_79, 1e300] {
            let text = decimal(value);
            assert!(text.len() <= 16, "{text}");
            let back: f64 = text.parse().unwrap();
            assert!((back - value).abs() <= value.abs() * 1e-6 + 1e-13, "{value} became {text}");
        }
        assert_eq!(decimal(91.0), "91");
    }
}
