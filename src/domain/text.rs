//! Text from outside (a header, a model, an operator), made harmless: what it says stays, what it
//! could do to a terminal, a mail header or a reader's eye does not.

/// Removes control characters, direction marks and invisible characters, joins white space to
/// single spaces and cuts at `chars_max` characters (with an ellipsis). Mark-up stays as it is:
/// every renderer escapes for itself.
pub fn clean(text: &str, chars_max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(chars_max * 4));
    let mut space = false;
    let mut count = 0;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = !out.is_empty();
        } else if !is_invisible(c) {
            if count + usize::from(space) >= chars_max {
                out.pop();
                out.push('…');
                return out;
            }
            if std::mem::take(&mut space) {
                out.push(' ');
                count += 1;
            }
            out.push(c);
            count += 1;
        }
    }
    out
}

/// Zero-width characters, bidirectional controls, tags, private use and other characters that
/// show nothing or change what others show.
fn is_invisible(c: char) -> bool {
    matches!(u32::from(c),
        0xad | 0x61c | 0x115f..=0x1160 | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
        | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0 | 0xfff0..=0xfffb
        | 0xe000..=0xf8ff | 0xfdd0..=0xfdef | 0xe0000..=0x10ffff)
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Two lowercase hexadecimal digits for each byte.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from_digit(u32::from(half), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The clauses of several reasons, each said once, in the order in which they are given.
pub fn each_once(reasons: &[&str]) -> String {
    let mut all: Vec<&str> = Vec::new();
    for clause in reasons.iter().flat_map(|reason| clauses(reason)) {
        if !all.contains(&clause) {
            all.push(clause);
        }
    }
    all.join("; ")
}

/// What [`each_once`] puts together.
pub fn clauses(reason: &str) -> impl Iterator<Item = &str> {
    reason.split("; ").filter(|clause| !clause.is_empty())
}

/// A probability in per cent, whole numbers, without a space (as in clinical writing, and so
/// that text taken out of a PDF keeps it together); never 0 % or 100 %, which would claim certainty.
pub fn percent(probability: f64) -> String {
    match probability {
        p if !(0.0..=1.0).contains(&p) => "?".into(),
        p if p < 0.01 => "<1%".into(),
        p if p > 0.99 => ">99%".into(),
        p => format!("{:.0}%", p * 100.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_probability_is_shown_as_certain() {
        let shown = [0.93, 0.004, 0.999, 1.0, 1.2, f64::NAN].map(percent);
        assert_eq!(shown, ["93%", "<1%", ">99%", ">99%", "?", "?"]);
    }

    #[test]
    fn control_and_direction_characters_go_and_mark_up_stays() {
        for (raw, clean_text) in [
            ("a\r\nBcc: x@y", "a Bcc: x@y"),
            ("left\u{202e}thgir\u{202c}", "leftthgir"),
            ("<b>x</b>\u{0}", "<b>x</b>"),
            ("  a \u{200b} b\t", "a b"),
            ("\u{e0041}\u{feff}흉부 X선", "흉부 X선"),
            ("\u{1b}[31mred", "[31mred"),
        ] {
            assert_eq!(clean(raw, 100), clean_text, "{raw:?}");
        }
    }

    #[test]
    fn text_is_cut_at_its_limit() {
        assert_eq!(clean("abcdef", 6), "abcdef");
        assert_eq!(clean("abcdefg", 6), "abcde…");
        assert_eq!(clean("흉부흉부", 3), "흉부…");
        assert!(clean("a b c d e f", 4).chars().count() <= 4);
    }
}
