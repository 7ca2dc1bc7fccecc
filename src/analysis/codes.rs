//! The table of findings: our keys, their codes, and what a site may change about urgency.
//! Rows of `finding-codes.csv` whose code is verified (A: in PS3.16; B: two sources agree).

use std::sync::LazyLock;

use sha2::Digest as _;
use sha2::Sha256;

use crate::domain::code::Code;
use crate::domain::urgency::Urgency;

/// One finding that we know by key.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub key: String,
    pub concept: Code,
    /// Where it sits; `None` when the table has no verified code for the site.
    pub site: Option<Code>,
    /// The site's name for people, also without a code.
    pub site_name: String,
    /// Whether it has a side.
    pub paired_site: bool,
    pub severity_applies: bool,
    /// Urgency when present, before a model's word. Routine where the table gives no category.
    pub urgency: Urgency,
    /// True unless a published source names this finding for its category: the site confirms.
    pub urgency_is_assumed: bool,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let table = include_str!("finding-codes.csv");
    let mut lines = table.lines();
    let header = fields(lines.next().unwrap_or_default());
    lines.filter_map(|line| row(&header, &fields(line))).collect()
});

/// All rows, in the order of the table.
pub fn rows() -> &'static [Row] {
    &ROWS
}

pub fn find(key: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.key == key)
}

/// A concept for a finding that the table does not know: local scheme, a value of at most 16
/// characters (VR SH) that depends on the name alone, a meaning of at most 64 (VR LO).
pub fn local_concept(name: &str) -> Code {
    let digest = Sha256::digest(name.to_lowercase().as_bytes());
    let value: String = digest[..5].iter().map(|byte| format!("{byte:02X}")).collect();
    let meaning: String = name.chars().filter(|c| *c != '\\').take(64).collect();
    Code::new(&format!("T{value}"), Code::LOCAL, &meaning)
}

fn row(header: &[String], values: &[String]) -> Option<Row> {
    let value = |name: &str| {
        let at = header.iter().position(|column| column == name)?;
        values.get(at).map(String::as_str)
    };
    let is_verified = matches!(value("verified")?, "A" | "B") && !value("code")?.is_empty();
    let display = value("display")?;
    let site_is_verified = matches!(value("site_verified")?, "A" | "B");
    let site_code = value("site_code")?;
    let (urgency, urgency_is_assumed) =
        urgency_of(value("key")?, value("acr_category")?, value("acr_category_source")?);
    Some(Row {
        key: value("key")?.to_owned(),
        // A code that nobody has verified is not given out: the finding has a local one.
        concept: match is_verified {
            true => Code::new(value("code")?, value("scheme")?, display),
            false => local_concept(display),
        },
        site: (site_is_verified && !site_code.is_empty()).then(|| {
            Code::new(
                site_code,
                value("site_scheme").unwrap_or(""),
                &sentence(value("site_display").unwrap_or("")),
            )
        }),
        site_name: value("site_display")?.to_owned(),
        paired_site: value("paired_site")? == "yes",
        severity_applies: value("severity_applies")? == "yes",
        urgency,
        urgency_is_assumed,
    })
}

/// The category as urgency, and whether it is only assumed.
fn urgency_of(key: &str, category: &str, source: &str) -> (Urgency, bool) {
    match (key, category) {
        // Marked "assumed" without a number. A new pneumonia is treated within hours.
        ("pneumonia", "") => (Urgency::Urgent, true),
        // Category 1 only in an encoding example of PS3.20, which is no clinical guidance: as `mass`.
        ("hilar_mass", _) => (Urgency::Significant, true),
        (_, "1") => (Urgency::Critical, !source.starts_with("ACR work group")),
        (_, "2") => (Urgency::Urgent, !source.starts_with("ACR work group")),
        (_, "3") => (Urgency::Significant, !source.starts_with("ACR work group")),
        _ => (Urgency::Routine, true),
    }
}

/// Code meanings of sites begin with a capital letter, as in PS3.16.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// One line of RFC 4180: commas, double quotes, doubled double quotes. No line breaks in fields.
fn fields(line: &str) -> Vec<String> {
    let (mut all, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    all.push(field);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn only_the_a_and_b_rows_of_the_table_have_a_standard_code() {
        let coded = rows().iter().filter(|row| row.concept.scheme != Code::LOCAL);
        assert_eq!(coded.clone().count(), 88, "60 A and 28 B rows");
        let keys: BTreeSet<&str> = rows().iter().map(|row| row.key.as_str()).collect();
        assert_eq!(keys.len(), rows().len(), "no key twice");
        for absent in [
            "retinal_detachment",
            "midline_shift",
            "skull_fracture",
            "pneumoperitoneum",
            "mild_npdr",
        ] {
            assert_eq!(find(absent).unwrap().concept.scheme, Code::LOCAL, "{absent} is C or U");
        }
        for row in coded {
            let code = &row.concept;
            assert!(code.value.len() <= 16 && code.meaning.len() <= 64, "{code:?}");
            assert!(code.value.bytes().all(|b| b.is_ascii_digit()), "{code:?}");
            assert!(matches!(code.scheme.as_str(), "SCT" | "DCM"), "{code:?}");
        }
    }

    #[test]
    fn a_row_gives_codes_site_and_urgency() {
        let row = find("pneumothorax").unwrap();
        assert_eq!(row.concept, Code::new("36118008", "SCT", "Pneumothorax"));
        assert_eq!(row.site, Some(Code::new("3120008", "SCT", "Pleura")));
        assert!(row.paired_site && row.severity_applies && row.urgency_is_assumed);
        assert_eq!(row.urgency, Urgency::Urgent);
        assert_eq!(find("dvt").unwrap().site, None, "its site has no verified code");
        assert_eq!(find("opacity").unwrap().concept.scheme, "DCM");
        assert_eq!(find("cardiomegaly").unwrap().urgency, Urgency::Routine);
    }

    #[test]
    fn only_two_urgencies_rest_on_a_source() {
        let sourced: Vec<&str> = rows()
            .iter()
            .filter(|row| !row.urgency_is_assumed)
            .map(|row| row.key.as_str())
            .collect();
        assert_eq!(sourced, ["intracranial_hemorrhage", "testicular_torsion"]);
        for key in sourced {
            assert_eq!(find(key).unwrap().urgency, Urgency::Critical);
        }
    }

    #[test]
    fn quoted_fields_keep_their_commas() {
        assert_eq!(fields(r#"a,"b, ""c""",,d"#), ["a", "b, \"c\"", "", "d"]);
    }

    #[test]
    fn an_unknown_finding_has_a_stable_local_code() {
        let code = local_concept("Foreign body");
        assert_eq!((code.scheme.as_str(), code.value.len()), ("99PRELIM", 11));
        assert_eq!(code.value, local_concept("foreign BODY").value);
        assert_ne!(code.value, local_concept("foreign bodies").value);
    }
}
