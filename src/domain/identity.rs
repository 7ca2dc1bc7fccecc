//! What identifies the patient of a study, and how to find it in a text: for what leaves the
//! building (notes) and for what comes back (a model that read a name off the pixels).

use serde::Deserialize;
use serde::Serialize;

use crate::domain::study::PersonName;
use crate::domain::study::Study;

/// How much of it a message shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shown {
    #[default]
    None,
    /// Patient ID and accession number.
    Numbers,
    /// Name, birth date and sex too.
    Full,
}

/// What stands where an identifier was.
pub const MASK: &str = "[removed]";

/// The identifying values of one study, in the forms in which people write them.
#[derive(Debug, Clone, Default)]
pub struct Identity {
    /// Lower case, longest first.
    needles: Vec<Vec<char>>,
}

/// Parts of names that are also ordinary words of a report: masked only beside the rest of the name.
const ORDINARY: [&str; 58] = [
    "left",
    "right",
    "upper",
    "lower",
    "long",
    "short",
    "small",
    "large",
    "white",
    "black",
    "gray",
    "grey",
    "hand",
    "foot",
    "knee",
    "head",
    "neck",
    "chest",
    "heart",
    "lung",
    "bone",
    "back",
    "rest",
    "test",
    "male",
    "female",
    "child",
    "adult",
    "normal",
    "none",
    "not",
    "yes",
    "and",
    "the",
    "for",
    "with",
    "may",
    "day",
    "young",
    "old",
    "new",
    "good",
    "low",
    "high",
    "mild",
    "severe",
    "acute",
    "image",
    "series",
    "view",
    "patient",
    "phantom",
    "unknown",
    "anonymous",
    "baby",
    "boy",
    "girl",
    "lateral",
];

impl Identity {
    pub fn of(study: &Study) -> Identity {
        let (patient, attributes) = (&study.patient, &study.attributes);
        let mut found: Vec<String> = Vec::new();
        add_name(&mut found, &patient.name);
        add_name(&mut found, &attributes.referring_physician_name);
        if let Some(order) = study.order() {
            add_name(&mut found, &order.ordering_physician);
            let numbers = order.numbers.iter().chain(&order.patient_ids);
            found.extend(numbers.filter(|number| number.chars().count() >= 3).cloned());
        }
        add_date(&mut found, &patient.birth_date);
        add_date(&mut found, &attributes.study_date);
        for (value, chars_min) in [
            (&patient.id, 3),
            (&attributes.accession_number, 3),
            (&attributes.study_id, 5),
            (&attributes.institution_name, 5),
        ] {
            let value = value.trim();
            let ordinary = ORDINARY.contains(&value.to_lowercase().as_str());
            if value.chars().count() >= chars_min && !ordinary {
                found.push(value.to_owned());
            }
        }
        found.push(study.study_uid.as_str().to_owned());
        // Other UIDs need no list: `mask` knows them by their form.
        for instance in &study.instances {
            let station = instance.station_name.trim();
            if station.chars().count() >= 5 && !found.iter().any(|known| known == station) {
                found.push(station.to_owned());
            }
        }
        found.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        found.dedup();
        Identity { needles: found.iter().map(|value| fold(value)).collect() }
    }

    /// The text with every identifier replaced by [`MASK`], and whether there was one.
    pub fn mask(&self, text: &str) -> (String, bool) {
        let original: Vec<char> = text.chars().collect();
        let folded = fold(text);
        let mut out = String::with_capacity(text.len());
        let (mut at, mut masked) = (0, false);
        while at < original.len() {
            let uid = uid_length(&folded, at);
            if uid > 0 {
                out.push_str(MASK);
                at += uid;
                masked = true;
                continue;
            }
            match self.needles.iter().find(|needle| stands_at(&folded, at, needle)) {
                Some(needle) => {
                    out.push_str(MASK);
                    at += needle.len();
                    masked = true;
                }
                None => {
                    out.push(original[at]);
                    at += 1;
                }
            }
        }
        (out, masked)
    }
}

/// Length of a UID at `at`: digits and at least four dots, 14 characters or more. No measurement
/// looks like that.
fn uid_length(text: &[char], at: usize) -> usize {
    let part_of_uid = |c: &char| c.is_ascii_digit() || *c == '.';
    if !text[at].is_ascii_digit() || at.checked_sub(1).is_some_and(|i| part_of_uid(&text[i])) {
        return 0;
    }
    let mut length = text[at..].iter().take_while(|c| part_of_uid(c)).count();
    while length > 0 && text[at + length - 1] == '.' {
        length -= 1;
    }
    let dots = text[at..at + length].iter().filter(|c| **c == '.').count();
    if dots >= 4 && length >= 14 { length } else { 0 }
}

/// One lower-case character for each character, so that positions stay.
fn fold(text: &str) -> Vec<char> {
    text.chars().map(|c| c.to_lowercase().next().unwrap_or(c)).collect()
}

/// Whether `needle` stands at `at` as a word of its own. Scripts without spaces between words
/// need no boundary.
fn stands_at(text: &[char], at: usize, needle: &[char]) -> bool {
    let (Some(first), Some(last)) = (needle.first(), needle.last()) else { return false };
    let Some(here) = text.get(at..at + needle.len()) else { return false };
    if here != needle {
        return false;
    }
    let joins =
        |a: char, b: char| a.is_alphanumeric() && b.is_alphanumeric() && !is_cjk(a) && !is_cjk(b);
    let before = at.checked_sub(1).map(|i| text[i]);
    let after = text.get(at + needle.len()).copied();
    !before.is_some_and(|c| joins(c, *first)) && !after.is_some_and(|c| joins(*last, c))
}

/// Han, Kana, Hangul.
pub fn is_cjk(c: char) -> bool {
    matches!(u32::from(c), 0x1100..=0x11ff | 0x2e80..=0x9fff | 0xa960..=0xa97f | 0xac00..=0xd7ff
        | 0xf900..=0xfaff | 0x20000..=0x3ffff)
}

fn add_name(found: &mut Vec<String>, name: &PersonName) {
    for group in [&name.alphabetic, &name.ideographic, &name.phonetic] {
        let parts: Vec<&str> =
            group.split(['^', ' ', ',']).map(str::trim).filter(|part| !part.is_empty()).collect();
        for part in &parts {
            let (chars, cjk) = (part.chars().count(), part.chars().any(is_cjk));
            let ordinary = ORDINARY.contains(&part.to_lowercase().as_str());
            if (chars >= 3 || (cjk && chars >= 2)) && !ordinary {
                found.push((*part).to_owned());
            }
        }
        for pair in parts.windows(2) {
            for (a, b) in [(pair[0], pair[1]), (pair[1], pair[0])] {
                for between in ["", " ", ", ", ",", "^", "_", "-"] {
                    let whole = format!("{a}{between}{b}");
                    if whole.chars().count() >= 3 || whole.chars().any(is_cjk) {
                        found.push(whole);
                    }
                }
            }
        }
    }
}

fn add_date(found: &mut Vec<String>, date: &str) {
    let date = date.trim();
    if date.len() != 8 || !date.bytes().all(|b| b.is_ascii_digit()) {
        return;
    }
    let (y, m, d) = (&date[..4], &date[4..6], &date[6..]);
    let short = |part: &str| part.trim_start_matches('0').to_owned();
    found.push(date.to_owned());
    for s in ["-", "/", ".", " "] {
        for (m, d) in [(m.to_owned(), d.to_owned()), (short(m), short(d))] {
            found.extend([
                format!("{y}{s}{m}{s}{d}"),
                format!("{d}{s}{m}{s}{y}"),
                format!("{m}{s}{d}{s}{y}"),
            ]);
        }
    }
    for year in ["년", "年"] {
        let (month, day) = if year == "년" { ("월", "일") } else { ("月", "日") };
        for gap in ["", " "] {
            found.push(format!("{y}{year}{gap}{}{month}{gap}{}{day}", short(m), short(d)));
        }
    }
    let months = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    if let Some(name) = m.parse::<usize>().ok().and_then(|m| months.get(m.wrapping_sub(1))) {
        let d = short(d);
        for name in [*name, &name[..3]] {
            found.extend([
                format!("{d} {name} {y}"),
                format!("{name} {d}, {y}"),
                format!("{name} {d} {y}"),
                format!("{d}-{name}-{y}"),
            ]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::uid::StudyUid;

    fn study() -> Study {
        let uid = StudyUid::parse("1.2.3.4.567").unwrap();
        let mut study = Study::gather(uid, Vec::new(), Vec::new());
        study.patient.name = PersonName::parse("Nguyen^Long=洪^吉洞=홍^길동");
        study.patient.id = "MRN-0042".into();
        study.patient.birth_date = "20190307".into();
        study.attributes.accession_number = "A77123".into();
        study.attributes.referring_physician_name = PersonName::parse("Weiss^Eva");
        study
    }

    #[test]
    fn who_ordered_it_and_its_numbers_are_masked_too() {
        let study = crate::domain::sample::ordered().study;
        let (text, masked) = Identity::of(&study).mask("fever, call Park Jiwoo, ORDER-ACC");
        assert!(masked && text.starts_with("fever, call ["), "{text}");
        assert!(!text.contains("Jiwoo") && !text.contains("ORDER"), "{text}");
    }

    #[test]
    fn every_form_of_an_identifier_is_masked() {
        let identity = Identity::of(&study());
        for text in [
            "NGUYEN",
            "Long Nguyen",
            "nguyen, long",
            "NGUYEN^LONG",
            "洪吉洞",
            "홍 길동",
            "홍길동",
            "mrn-0042",
            "born 2019-03-07",
            "7.3.2019",
            "07/03/2019",
            "March 7, 2019",
            "7 Mar 2019",
            "2019년 3월 7일",
            "20190307",
            "a77123",
            "Dr Weiss",
            "study 1.2.3.4.567",
            "on 1.2.840.113619.2.55.3.604.",
        ] {
            let (masked, found) = identity.mask(text);
            assert!(found && masked.contains(MASK), "{text}: {masked}");
        }
    }

    #[test]
    fn ordinary_words_stay() {
        let identity = Identity::of(&study());
        for text in ["a long line", "evaluation of the left lung", "Evaluated", "11.2.3.4.5678"] {
            assert_eq!(identity.mask(text), (text.to_owned(), false));
        }
    }
}
