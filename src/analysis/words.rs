//! Words of descriptions, compared word by word: "ap" is in "CHEST AP" and not in "APPENDIX".

use crate::domain::identity::is_cjk;

#[derive(PartialEq, Clone, Copy)]
enum Kind {
    Digit,
    Letter,
    Cjk,
    Other,
}

fn kind(c: char) -> Kind {
    match c {
        _ if is_cjk(c) => Kind::Cjk,
        _ if c.is_numeric() => Kind::Digit,
        // Combining marks belong to the letter before them: Vietnamese in decomposed form.
        _ if c.is_alphabetic() || ('\u{300}'..='\u{36f}').contains(&c) => Kind::Letter,
        _ => Kind::Other,
    }
}

/// Runs of letters, digits or CJK characters, in lower case: `CHEST2V` is `chest`, `2`, `v`.
pub fn tokens(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut last = Kind::Other;
    for c in text.chars() {
        let now = kind(c);
        if now != Kind::Other {
            if now != last {
                all.push(String::new());
            }
            if let Some(token) = all.last_mut() {
                token.extend(c.to_lowercase());
            }
        }
        last = now;
    }
    all
}

/// Whether the words of `phrase` stand in `text` one after the other. A phrase with CJK
/// characters is found anywhere: these scripts put no spaces between words.
pub fn has(text: &str, phrase: &str) -> bool {
    if phrase.chars().any(is_cjk) {
        return text.to_lowercase().contains(&phrase.to_lowercase());
    }
    let (text, phrase) = (tokens(text), tokens(phrase));
    !phrase.is_empty() && text.windows(phrase.len()).any(|part| part == phrase)
}

pub fn has_any<S: AsRef<str>>(text: &str, phrases: &[S]) -> bool {
    phrases.iter().any(|phrase| has(text, phrase.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_are_found_and_parts_of_words_are_not() {
        for (text, phrase) in [
            ("XR CHEST 2V", "chest"),
            ("CHEST_AP", "ap"),
            ("Chest^Routine", "CHEST"),
            ("X-Ray hand", "x ray"),
            ("CR2CHEST", "chest"),
            ("흉부 X선 촬영", "흉부"),
            ("흉부CT", "ct"),
            ("X quang ngực thẳng", "ngực"),
            ("胸部CT平扫", "胸部"),
        ] {
            assert!(has(text, phrase), "{text}: {phrase}");
        }
        for (text, phrase) in
            [("APPENDIX", "ap"), ("orchestra", "chest"), ("chest", ""), ("x hand ray", "x ray")]
        {
            assert!(!has(text, phrase), "{text}: {phrase}");
        }
    }
}
