//! A final report beside our reading: which of the findings that we looked for it has. Codes count
//! first; words are matched with care for what they deny, and are an estimate all the same. English
//! only.

mod hl7;

pub use hl7::Message;

use crate::analysis::codes;
use crate::analysis::judge;
use crate::analysis::words;
use crate::domain::agreement;
use crate::domain::agreement::Compared;
use crate::domain::agreement::How;
use crate::domain::assessment::Assessment;
use crate::domain::final_report::FinalReport;
use crate::domain::final_report::is_aside;

/// Other words for a finding of the table; the plural is found by itself where it ends in s.
const SYNONYMS: &[(&str, &[&str])] = &[
    ("pneumothorax", &["pneumothoraces", "ptx"]),
    ("pleural_effusion", &["effusion", "pleural fluid", "hydrothorax"]),
    ("pneumonia", &["bronchopneumonia", "pneumonitis", "airspace disease", "infiltrate"]),
    ("consolidation", &["consolidation", "consolidative opacity", "airspace opacity"]),
    ("atelectasis", &["atelectatic", "atelectases", "volume loss"]),
    (
        "pulmonary_edema",
        &["pulmonary oedema", "interstitial edema", "interstitial oedema", "vascular congestion"],
    ),
    (
        "cardiomegaly",
        &[
            "enlarged heart",
            "cardiac enlargement",
            "enlarged cardiac silhouette",
            "heart is enlarged",
        ],
    ),
    ("nodule", &["nodular opacity", "pulmonary nodule"]),
    ("mass", &["tumor", "tumour"]),
    ("hilar_mass", &["hilar enlargement", "hilar lymphadenopathy"]),
    ("tuberculosis", &["tuberculosis", "tb"]),
    ("rib_fracture", &["rib fracture", "fractured rib", "fracture of the rib"]),
    ("fracture", &["fracture", "fractured"]),
    ("ett", &["ett", "et tube", "endotracheal tube"]),
    ("central_line", &["central venous catheter", "picc", "cvc", "port a cath"]),
    ("chest_tube", &["thoracostomy tube", "pleural drain", "chest drain"]),
    ("feeding_tube", &["nasogastric tube", "ng tube", "enteric tube", "orogastric tube"]),
    ("pacemaker", &["pacemaker", "pacer", "icd"]),
    ("pulmonary_embolism", &["pulmonary embolus", "pulmonary emboli", "filling defect"]),
    ("emphysema", &["emphysema", "emphysematous"]),
    ("ground_glass_opacity", &["ground glass"]),
    ("aortic_aneurysm", &["aneurysm of the aorta", "aneurysmal aorta"]),
    ("aaa", &["aaa", "abdominal aortic aneurysm"]),
    (
        "intracranial_hemorrhage",
        &["intracranial haemorrhage", "hemorrhage", "haemorrhage", "intracranial bleed"],
    ),
    ("subdural_hemorrhage", &["subdural hematoma", "subdural haematoma", "sdh"]),
    ("subarachnoid_hemorrhage", &["subarachnoid haemorrhage", "sah", "subarachnoid blood"]),
    (
        "cerebral_hemorrhage",
        &["intraparenchymal hemorrhage", "intracerebral hemorrhage", "intracerebral haemorrhage"],
    ),
    ("cerebral_infarction", &["infarct", "infarction", "ischemia", "ischaemia"]),
    ("stroke", &["stroke", "infarct", "infarction"]),
    ("brain_neoplasm", &["neoplasm", "tumor", "tumour", "mass"]),
    ("edema", &["oedema"]),
    ("hydronephrosis", &["hydronephrosis", "pelvicalyceal dilatation"]),
    ("ascites", &["ascites", "free fluid"]),
    ("steatosis", &["fatty liver", "hepatic steatosis", "steatosis"]),
    ("cirrhosis", &["cirrhosis", "cirrhotic liver"]),
    ("dvt", &["dvt", "deep vein thrombosis"]),
    ("testicular_torsion", &["testicular torsion"]),
    ("breast_mass", &["mass"]),
    (
        "calcification_cluster",
        &["clustered calcifications", "grouped calcifications", "microcalcifications"],
    ),
    ("architectural_distortion", &["architectural distortion"]),
    ("bone_metastasis", &["bone metastasis", "bone metastases", "osseous metastases"]),
    ("metastasis", &["metastases"]),
    ("multiple_sclerosis", &["ms plaque", "demyelination", "demyelinating"]),
];

/// Which of the findings of `assessment` the report has, and how that is known. Those outside the
/// table are not compared.
///
/// - `asked`: keys of findings that the model was asked about, answered or not.
pub fn compare(assessment: &Assessment, asked: &[String], report: &FinalReport) -> Vec<Compared> {
    let text = without_asides(&report.text);
    let readable = judge::reads_as_english(&text) && words::tokens(&text).len() >= 3;
    let mut compared: Vec<Compared> = Vec::new();
    let answered = assessment.findings.iter().map(|finding| &finding.key);
    for key in answered.chain(asked) {
        let Some(row) = codes::find(key) else { continue };
        if compared.iter().any(|known| known.key == row.key) {
            continue;
        }
        let mut coded = report.stated.iter().filter(|stated| {
            stated.code.value == row.concept.value && stated.code.scheme == row.concept.scheme
        });
        let coded =
            coded.clone().any(|s| s.present).then_some(true).or(coded.next().map(|_| false));
        let (truth, how) = match coded {
            Some(present) => (Some(present), How::Code),
            None if !readable => continue,
            None => match stated(&text, &names(&row.key, &row.concept.meaning)) {
                Some(Said::Present) => (Some(true), How::Text),
                Some(Said::Absent) => (Some(false), How::Text),
                Some(Said::Open) => (None, How::Text),
                None => (Some(false), How::Silence),
            },
        };
        let ours = agreement::ours(assessment, asked, &row.key);
        compared.push(Compared { key: row.key.clone(), ours, truth, how });
    }
    compared
}

fn names<'a>(key: &str, meaning: &'a str) -> Vec<Vec<String>> {
    let more = SYNONYMS.iter().find(|(known, _)| *known == key).map_or(&[][..], |(_, more)| *more);
    let all: Vec<&'a str> = [meaning].into_iter().chain(more.iter().copied()).collect();
    all.into_iter().map(words::tokens).collect()
}

/// The text without what was asked, known and compared with: sections under their own titles, at
/// the beginning of a line and followed by a colon, or alone on it.
fn without_asides(text: &str) -> String {
    let mut kept = String::new();
    let mut aside = false;
    for line in text.lines() {
        let (title, rest) = line.split_once(':').unwrap_or((line, ""));
        let is_title = title.trim().chars().any(char::is_alphabetic)
            && words::tokens(title).len() <= 5
            && (line.contains(':') || title.trim().chars().all(|c| !c.is_lowercase()));
        match (is_title, is_aside(title)) {
            (true, true) => aside = true,
            (true, false) if rest.trim().is_empty() || is_section(title) => aside = false,
            (true | false, _) => {}
        }
        if !aside {
            let said = if is_title && is_section(title) { rest } else { line };
            kept.push_str(said);
            kept.push('\n');
        }
    }
    kept
}

fn is_section(title: &str) -> bool {
    const KNOWN: [&str; 8] = [
        "findings",
        "finding",
        "impression",
        "conclusion",
        "result",
        "results",
        "report",
        "opinion",
    ];
    KNOWN.contains(&title.trim().to_lowercase().as_str())
}

/// What a text says of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Said {
    Absent,
    /// Possible, not excluded, to be ruled out.
    Open,
    Present,
}

/// Words before a finding, or after it, up to the end of what they govern.
const DENY_BEFORE: [&str; 16] = [
    "no",
    "not",
    "without",
    "negative for",
    "absence of",
    "free of",
    "nor",
    "neither",
    "resolved",
    "resolution of",
    "excludes",
    "no longer",
    "never",
    "lack of",
    "rules out",
    "denies",
];
const DENY_AFTER: [&str; 14] = [
    "is not",
    "are not",
    "not seen",
    "not identified",
    "not present",
    "not visualized",
    "not demonstrated",
    "absent",
    "none",
    "is excluded",
    "has resolved",
    "have resolved",
    "resolved",
    "ruled out",
];
/// What looks like a denial and is none.
const NO_DENIAL: [&str; 10] = [
    "no change",
    "no significant change",
    "no interval change",
    "not significantly changed",
    "without change",
    "without significant change",
    "no increase",
    "not only",
    "no significant interval change",
    "not changed",
];
const OPEN_BEFORE: [&str; 18] = [
    "possible",
    "possibly",
    "questionable",
    "suspected",
    "suspicious for",
    "concerning for",
    "cannot exclude",
    "can not exclude",
    "could not exclude",
    "not exclude",
    "not rule out",
    "rule out",
    "may",
    "might",
    "could represent",
    "evaluate for",
    "differential",
    "versus",
];
const OPEN_AFTER: [&str; 8] = [
    "cannot be excluded",
    "can not be excluded",
    "not excluded",
    "not be excluded",
    "cannot be ruled out",
    "not ruled out",
    "is possible",
    "is suspected",
];
/// Earlier images, not these.
const BEFORE_NOW: [&str; 6] =
    ["history of", "prior", "previous", "previously seen", "status post", "known history"];
/// Words at which what was said before ends to govern.
const ENDS: [&str; 8] =
    ["but", "however", "although", "though", "except", "there is", "there are", "with"];
/// After a comma these begin something new: "no effusion, small pneumothorax".
const NEW: [&str; 24] = [
    "a",
    "an",
    "small",
    "moderate",
    "large",
    "mild",
    "severe",
    "left",
    "right",
    "bilateral",
    "new",
    "stable",
    "trace",
    "minimal",
    "patchy",
    "unchanged",
    "persistent",
    "increased",
    "decreased",
    "tiny",
    "the",
    "there",
    "extensive",
    "focal",
];
/// No sentence of a report is longer.
const SENTENCE_WORDS_MAX: usize = 300;
/// Words between a finding and what follows it.
const AFTER_MAX: usize = 7;

/// The strongest that the text says of one of these names; `None` when it does not speak of any.
fn stated(text: &str, names: &[Vec<String>]) -> Option<Said> {
    let sentences = text.split(['.', ';', '!', '\n']);
    sentences.filter_map(|sentence| in_sentence(&marked(sentence), names)).max()
}

/// Words, and a comma where one stands.
fn marked(sentence: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (nth, part) in sentence.split(',').enumerate() {
        if nth > 0 {
            all.push(",".to_owned());
        }
        all.extend(words::tokens(part));
    }
    all.truncate(SENTENCE_WORDS_MAX);
    all
}

fn in_sentence(tokens: &[String], names: &[Vec<String>]) -> Option<Said> {
    let mut strongest = None;
    for name in names {
        for at in 0..tokens.len() {
            if stands_at(tokens, at, name) {
                strongest = strongest.max(said_of(tokens, at, at + name.len()));
            }
        }
    }
    strongest
}

fn stands_at(tokens: &[String], at: usize, name: &[String]) -> bool {
    let Some((last, first)) = name.split_last() else { return false };
    let (Some(here), Some(end)) = (tokens.get(at..at + first.len()), tokens.get(at + first.len()))
    else {
        return false;
    };
    here == first && (end == last || end.strip_suffix('s') == Some(last.as_str()))
}

/// - `from..to`: the name in the sentence.
fn said_of(tokens: &[String], from: usize, to: usize) -> Option<Said> {
    let begin = (0..from).rev().find(|at| ends_before(tokens, *at)).map_or(0, |at| at + 1);
    let before = &tokens[begin..from];
    let rest = &tokens[to..];
    let stop = (0..rest.len()).find(|at| rest[*at] == "," || phrase_at(rest, *at, &ENDS));
    let after = &rest[..stop.unwrap_or(rest.len()).min(AFTER_MAX)];
    let has =
        |part: &[String], phrases: &[&str]| (0..part.len()).any(|at| phrase_at(part, at, phrases));
    if has(before, &BEFORE_NOW) && !has(before, &["no"]) {
        return None;
    }
    if has(before, &OPEN_BEFORE) || has(after, &OPEN_AFTER) {
        return Some(Said::Open);
    }
    let denied = has(before, &DENY_BEFORE) && !has(before, &NO_DENIAL);
    match denied || has(after, &DENY_AFTER) {
        true => Some(Said::Absent),
        false => Some(Said::Present),
    }
}

fn phrase_at(tokens: &[String], at: usize, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| {
        let mut words = phrase.split(' ').enumerate();
        words.all(|(n, word)| tokens.get(at + n).is_some_and(|token| token == word))
    })
}

fn ends_before(tokens: &[String], at: usize) -> bool {
    let new = tokens.get(at + 1).is_some_and(|next| NEW.contains(&next.as_str()));
    (tokens[at] == "," && new) || phrase_at(tokens, at, &ENDS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code::Code;
    use crate::domain::final_report::Stated;
    use crate::domain::finding::Presence;
    use crate::domain::sample;

    fn of(text: &str, key: &str) -> Option<Said> {
        let row = codes::find(key).unwrap();
        stated(&without_asides(text), &names(key, &row.concept.meaning))
    }

    #[test]
    fn what_a_text_denies_affirms_and_leaves_open() {
        let (present, absent, open) = (Some(Said::Present), Some(Said::Absent), Some(Said::Open));
        for (text, pneumothorax, effusion) in [
            ("Small left pneumothorax.", present, None),
            ("No pneumothorax.", absent, None),
            ("No pneumothorax or pleural effusion.", absent, absent),
            ("No focal consolidation, pneumothorax, or pleural effusion.", absent, absent),
            ("No pneumothorax, small left pleural effusion.", absent, present),
            ("No pleural effusion, but a small pneumothorax is seen", present, absent),
            ("Pneumothorax is not seen. There is no effusion.", absent, absent),
            ("There is no pneumothorax with small effusions on both sides", absent, present),
            ("No change in the small left pneumothorax", present, None),
            ("The right pneumothorax has resolved.", absent, None),
            ("A pneumothorax cannot be excluded.", open, None),
            ("Possible small pneumothorax", open, None),
            ("Cannot exclude pneumothorax; effusion present", open, present),
            ("No pneumothoraces. Bilateral pleural effusions.", absent, present),
            ("Pneumothorax: none. Effusion: small on the left", absent, present),
            ("History of pneumothorax. Lungs are clear.", None, None),
            ("INDICATION: rule out pneumothorax\nFINDINGS: clear lungs, no effusion", None, absent),
            ("HISTORY\nfall, pneumothorax?\nIMPRESSION\nPleural effusion.", None, present),
            (
                "IMPRESSION: Small pneumothorax.\nCOMPARISON: effusion on the film before",
                present,
                None,
            ),
            ("No pneumothorax. Later: small pneumothorax.", present, None),
            ("", None, None),
        ] {
            assert_eq!(of(text, "pneumothorax"), pneumothorax, "pneumothorax in {text:?}");
            assert_eq!(of(text, "pleural_effusion"), effusion, "effusion in {text:?}");
        }
        assert_eq!(of("The heart is enlarged.", "cardiomegaly"), Some(Said::Present));
        assert_eq!(of("Fractured left seventh rib, NG tube in place", "feeding_tube"), present);
    }

    #[test]
    fn every_key_of_the_synonyms_is_in_the_table() {
        for (key, _) in SYNONYMS {
            assert!(codes::find(key).is_some(), "{key}");
        }
    }

    #[test]
    fn codes_count_before_words_and_silence_is_told_apart() {
        let mut assessment = sample::positive_chest();
        let mut finding = assessment.findings[0].clone();
        assessment.findings.clear();
        for (key, presence) in [
            ("pneumothorax", Presence::Present),
            ("pleural_effusion", Presence::Absent),
            ("nodule", Presence::Undetermined),
            ("mass", Presence::Absent),
            ("other_thing", Presence::Present),
        ] {
            (finding.key, finding.presence) = (key.to_owned(), presence);
            assessment.findings.push(finding.clone());
        }
        let stated = |key: &str, present| Stated {
            code: codes::find(key).unwrap().concept.clone(),
            present,
        };
        let report = FinalReport {
            stated: vec![
                stated("pneumothorax", false),
                Stated { code: Code::new("1", "SCT", "x"), present: true },
            ],
            text: "Pneumothorax on the left. Possible nodule. Pleural effusion.".into(),
            ..FinalReport::default()
        };
        let found: Vec<(String, Option<bool>, How)> =
            compare(&assessment, &["mass".into(), "aaa".into()], &report)
                .into_iter()
                .map(|c| (c.key, c.truth, c.how))
                .collect();
        assert_eq!(
            found,
            [
                ("pneumothorax".to_owned(), Some(false), How::Code),
                ("pleural_effusion".to_owned(), Some(true), How::Text),
                ("nodule".to_owned(), None, How::Text),
                ("mass".to_owned(), Some(false), How::Silence),
                ("aaa".to_owned(), Some(false), How::Silence),
            ]
        );
        // Another language is not guessed at: the codes alone.
        let foreign = FinalReport {
            text: "좌측 기흉이 관찰됩니다. 흉수는 없습니다.".into(),
            ..report
        };
        assert_eq!(compare(&assessment, &[], &foreign).len(), 1);
    }
}
