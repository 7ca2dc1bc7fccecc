//! What a text of the model says, by words. Crude on purpose: it only has to notice what a
//! person should look at.

use crate::analysis::words;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::finding::Severity;

/// How a text speaks of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mention {
    None,
    Affirmed,
    Denied,
}

/// Words that deny what follows in the same clause.
const DENIALS: [&str; 13] = [
    "no",
    "not",
    "without",
    "negative for",
    "absence of",
    "absent",
    "free of",
    "denies",
    "excludes",
    "excluded",
    "none",
    "neither",
    "nor",
];
/// Words after which a denial is none: "cannot be excluded", "not only".
const DOUBTS: [&str; 11] = [
    "not excluded",
    "not be excluded",
    "not ruled out",
    "cannot",
    "can not",
    "could not",
    "may not",
    "not only",
    "difficult to exclude",
    "not possible",
    "unable to",
];

/// How `text` speaks of `name`: an affirmation anywhere counts more than a denial elsewhere.
pub fn mentions(text: &str, name: &str) -> Mention {
    let mut found = Mention::None;
    for clause in clauses(text).filter(|clause| words::has(clause, name)) {
        let is_denied = words::has_any(clause, &DENIALS) && !words::has_any(clause, &DOUBTS);
        match is_denied {
            true if found == Mention::None => found = Mention::Denied,
            true => {}
            false => found = Mention::Affirmed,
        }
    }
    found
}

/// Whether a text names it only to exclude it, to look for it, or as it was before: no claim.
pub fn is_supposed(text: &str, name: &str) -> bool {
    const SUPPOSED: [&str; 26] = [
        "exclude",
        "rule out",
        "ruled out",
        "if",
        "evaluate for",
        "assess for",
        "look for",
        "screen for",
        "monitor for",
        "to detect",
        "suspicion",
        "suspected",
        "in case",
        "history of",
        "known",
        "previous",
        "prior",
        "earlier",
        "resolved",
        "versus",
        "vs",
        "differential",
        "risk of",
        "signs of",
        "concern for",
        "question of",
    ];
    let clauses = clauses_with(text, name);
    words::has_any(&clauses, &SUPPOSED)
}

fn clauses(text: &str) -> impl Iterator<Item = &str> {
    let sentences = text.split(['.', ';', '!', '?', '\n']);
    sentences.flat_map(|sentence| sentence.split(" but ")).flat_map(|part| part.split(" however "))
}

/// What a text says of `name`, without the rest.
pub fn clauses_with(text: &str, name: &str) -> String {
    clauses(text).filter(|clause| words::has(clause, name)).collect::<Vec<_>>().join(". ")
}

/// Whether a text gives only the side that a finding does not have. A shift "to the right" is no
/// side of the finding.
pub fn other_side(text: &str, side: Option<Laterality>) -> bool {
    let tokens = words::tokens(text);
    let gives = |word: &str| {
        tokens.iter().enumerate().any(|(at, token)| {
            let before = |n: usize| at.checked_sub(n).and_then(|at| tokens.get(at));
            let is_direction = before(1).is_some_and(|one| one == "the")
                && before(2).is_some_and(|two| ["to", "toward", "towards"].contains(&two.as_str()));
            token == word && !is_direction
        })
    };
    let both = gives("bilateral") || gives("bilaterally") || gives("both");
    match side {
        Some(Laterality::Left) => !both && gives("right") && !gives("left"),
        Some(Laterality::Right) => !both && gives("left") && !gives("right"),
        Some(Laterality::Bilateral | Laterality::Unilateral) | None => false,
    }
}

/// Ages in years that a text gives a person: "a 57-year-old woman", "aged 57".
pub fn ages(text: &str) -> Vec<u32> {
    let tokens = words::tokens(text);
    let number = |at: usize| tokens.get(at)?.parse::<u32>().ok().filter(|years| *years < 130);
    let follows = |at: usize, words: &[&str]| {
        words.iter().enumerate().all(|(n, word)| tokens.get(at + n).is_some_and(|t| t == word))
    };
    let is_age = |at: &usize| {
        follows(at + 1, &["year", "old"])
            || follows(at + 1, &["years", "old"])
            || follows(at + 1, &["years", "of", "age"])
            || at.checked_sub(1).is_some_and(|before| follows(before, &["aged"]))
    };
    (0..tokens.len()).filter(is_age).filter_map(number).collect()
}

/// Whether a text speaks of a person of the other sex, and not of one of this.
pub fn speaks_of_other_sex(sex: &str, text: &str) -> bool {
    const MEN: [&str; 6] =
        ["man", "gentleman", "boy", "male patient", "year old male", "years old male"];
    const WOMEN: [&str; 6] =
        ["woman", "lady", "girl", "female patient", "year old female", "years old female"];
    match sex {
        "F" => words::has_any(text, &MEN) && !words::has_any(text, &WOMEN),
        "M" => words::has_any(text, &WOMEN) && !words::has_any(text, &MEN),
        _ => false,
    }
}

/// Numbers of pictures that a text names: "picture 7".
pub fn pictures_named(text: &str) -> Vec<u32> {
    let tokens = words::tokens(text);
    let named = tokens.windows(2).filter(|pair| pair[0] == "picture");
    named.filter_map(|pair| pair[1].parse().ok()).collect()
}

/// Whether a text calls the whole normal.
pub fn says_normal(text: &str) -> bool {
    const NORMAL: [&str; 9] = [
        "normal study",
        "normal examination",
        "normal exam",
        "normal chest",
        "unremarkable",
        "no acute",
        "no abnormality",
        "no abnormal findings",
        "within normal limits",
    ];
    let bare = words::tokens(text);
    words::has_any(text, &NORMAL) || bare == ["normal"]
}

/// Whether a text looks like English, or is too short to tell.
pub fn is_english(text: &str) -> bool {
    // Words that other languages of Latin script do not share.
    const COMMON: [&str; 36] = [
        "the",
        "are",
        "of",
        "and",
        "with",
        "there",
        "seen",
        "to",
        "for",
        "left",
        "right",
        "by",
        "not",
        "without",
        "shows",
        "this",
        "evidence",
        "lung",
        "lungs",
        "heart",
        "clear",
        "size",
        "effusion",
        "bony",
        "acute",
        "abnormality",
        "opacity",
        "lower",
        "upper",
        "lobe",
        "within",
        "limits",
        "bones",
        "small",
        "image",
        "view",
    ];
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    let foreign = text.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).count();
    if foreign * 5 > letters {
        return letters < 4;
    }
    let tokens = words::tokens(text);
    let common = tokens.iter().filter(|token| COMMON.contains(&token.as_str())).count();
    tokens.len() < 12 || common * 12 >= tokens.len()
}

/// Whether a text labels something as a patient's name, number or birth date.
pub fn names_a_patient(text: &str) -> bool {
    const LABELS: [&str; 12] = [
        "patient name",
        "patient s name",
        "name of patient",
        "patient id",
        "mrn",
        "medical record number",
        "dob",
        "date of birth",
        "birth date",
        "accession",
        "social security",
        "ssn",
    ];
    words::has_any(text, &LABELS)
        || ["Mr. ", "Mrs. ", "Ms. "]
            .iter()
            .any(|title| text.split(title).skip(1).any(|rest| rest.starts_with(char::is_uppercase)))
}

/// The organ in a text or key that the given sex does not have.
pub fn organ_of_other_sex(sex: &str, key: &str, text: &str) -> Option<&'static str> {
    const MALE: [(&str, &[&str]); 3] = [
        ("an organ of men", &["testicular_torsion"]),
        ("prostate", &["prostate", "prostatic"]),
        ("testis", &["testis", "testicle", "testicular", "scrotum", "scrotal", "seminal vesicles"]),
    ];
    const FEMALE: [(&str, &[&str]); 3] = [
        ("an organ of women", &["ectopic_pregnancy"]),
        (
            "uterus",
            &["uterus", "uterine", "endometrium", "endometrial", "pregnancy", "intrauterine"],
        ),
        ("ovary", &["ovary", "ovaries", "ovarian", "adnexal"]),
    ];
    let organs = match sex {
        "F" => MALE,
        "M" => FEMALE,
        _ => return None,
    };
    organs
        .iter()
        .find(|(_, list)| list.contains(&key) || words::has_any(text, list))
        .map(|(organ, _)| *organ)
}

/// Lowercase letters and digits with underscores, at most 40 characters.
pub fn slug(name: &str) -> String {
    let words: Vec<String> = words::tokens(name);
    let slug: String = words
        .join("_")
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
        .take(40)
        .collect();
    match slug.is_empty() {
        true => "finding".into(),
        false => slug,
    }
}

/// One or two sentences from the findings themselves.
pub fn impression(findings: &[Finding]) -> String {
    let present: Vec<String> = findings
        .iter()
        .filter(|finding| finding.presence == Presence::Present)
        .map(|finding| {
            let severity = match finding.severity {
                Some(Severity::Mild) => ", mild",
                Some(Severity::Moderate) => ", moderate",
                Some(Severity::Severe) => ", severe",
                None => "",
            };
            let side = match finding.laterality {
                Some(Laterality::Right) => ", right",
                Some(Laterality::Left) => ", left",
                Some(Laterality::Bilateral) => ", both sides",
                Some(Laterality::Unilateral) => ", one side",
                None => "",
            };
            let sure =
                finding.probability.map(|p| format!(" (probability {p:.2})")).unwrap_or_default();
            format!("{}{side}{severity}{sure}", finding.concept.meaning)
        })
        .collect();
    match present.is_empty() {
        true => "No finding above threshold among those looked for.".into(),
        false => format!("{}.", present.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mention_is_affirmed_or_denied() {
        for (text, mention) in [
            ("Left pneumothorax.", Mention::Affirmed),
            ("No pneumothorax.", Mention::Denied),
            ("No effusion. Small pneumothorax.", Mention::Affirmed),
            ("No effusion, but a small pneumothorax is seen", Mention::Affirmed),
            ("Pneumothorax cannot be excluded", Mention::Affirmed),
            ("A pneumothorax is not excluded", Mention::Affirmed),
            ("Pneumothorax: none", Mention::Denied),
            ("Negative for pneumothorax or effusion", Mention::Denied),
            ("Clear lungs", Mention::None),
            ("pneumothoraxes", Mention::None),
        ] {
            assert_eq!(mentions(text, "Pneumothorax"), mention, "{text}");
        }
    }

    #[test]
    fn a_text_that_gives_only_the_other_side_is_noticed() {
        let (left, right, both) = (Laterality::Left, Laterality::Right, Laterality::Bilateral);
        for (text, side, other) in [
            ("Opacity in the right lower lobe", Some(left), true),
            ("Opacity in the left lower lobe", Some(right), true),
            ("Opacity in the left lower lobe", Some(left), false),
            ("Left pneumothorax with a shift to the right", Some(left), false),
            ("Pneumothorax with a shift to the right", Some(left), false),
            ("On both sides, more on the right", Some(left), false),
            ("Right pleural effusion", Some(both), false),
            ("Right pleural effusion", None, false),
            ("Upright view", Some(left), false),
        ] {
            assert_eq!(other_side(text, side), other, "{text} {side:?}");
        }
    }

    #[test]
    fn what_a_text_says_of_the_person_is_found() {
        assert_eq!(
            ages("A 57-year-old woman, 4 years old scan; aged 3. 12 of 40 slices"),
            [57, 4, 3]
        );
        assert!(ages("slice 12, 5 mm, 2 year follow-up").is_empty());
        for (sex, text, other) in [
            ("F", "A 57-year-old man", true),
            ("F", "A male patient", true),
            ("F", "This woman, as any man", false),
            ("M", "The lady has a nodule", true),
            ("M", "Female catheter", false),
            ("", "A man", false),
            ("F", "humans, management, manubrium", false),
        ] {
            assert_eq!(speaks_of_other_sex(sex, text), other, "{sex} {text}");
        }
        assert_eq!(pictures_named("Seen on picture 3 and picture 12; pictured"), [3, 12]);
    }

    #[test]
    fn another_language_is_noticed() {
        for text in [
            "",
            "Normal.",
            "No pneumothorax. No pleural effusion. Heart size normal. Lungs clear. No acute bony abnormality.",
            "No pneumothorax",
            "There is a small opacity in the left lower lobe with an effusion.",
            "Consolidation, right lower lobe; pleural effusion, small; heart size normal; bones intact, no fracture",
        ] {
            assert!(is_english(text), "{text}");
        }
        for text in [
            "좌측 폐하엽에 경화가 관찰됩니다.",
            "左肺下叶实变。",
            "Không thấy tràn dịch màng phổi, bóng tim không to, trung thất không rộng",
            "No se observa derrame pleural ni neumotorax a nivel de ambos campos pulmonares",
            "Kein Nachweis eines Pneumothorax, Herz normal groß, keine Infiltrate, kein Erguss, Skelett unauffällig",
            "Норма",
        ] {
            assert!(!is_english(text), "{text}");
        }
    }

    #[test]
    fn a_text_that_names_a_patient_is_noticed() {
        for text in ["Patient name: John Doe", "MRN 12345", "Mrs. Miller has a nodule", "DOB 1970"]
        {
            assert!(names_a_patient(text), "{text}");
        }
        for text in ["The patient is rotated", "1.2 mm nodule", "Ms. unclear"] {
            assert!(!names_a_patient(text), "{text}");
        }
    }

    #[test]
    fn organs_and_sex_are_compared() {
        assert_eq!(organ_of_other_sex("F", "", "enlarged prostate"), Some("prostate"));
        assert_eq!(organ_of_other_sex("M", "ectopic_pregnancy", ""), Some("an organ of women"));
        assert_eq!(organ_of_other_sex("M", "", "enlarged prostate"), None);
        assert_eq!(organ_of_other_sex("", "", "uterus and prostate"), None);
    }
}
