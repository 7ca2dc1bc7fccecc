//! Loading profiles: ours are embedded, a site's folder replaces or adds to them.

use std::collections::BTreeMap;
use std::path::Path;

use rust_embed::RustEmbed;

use crate::analysis::answer;
use crate::analysis::codes;
use crate::analysis::prompt;
use crate::analysis::visible;
use crate::domain::profile::Profile;
use crate::domain::profile::ProfileMatch;

#[derive(RustEmbed)]
#[folder = "config/profiles/"]
struct Embedded;

/// Every problem at once: file, key, what was found, what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("profiles cannot be used:\n{}", problems.join("\n"))]
pub struct ProfileError {
    pub problems: Vec<String>,
}

const KEYS: [&str; 23] = [
    "name",
    "version",
    "title",
    "procedure_code",
    "procedure_meaning",
    "matches",
    "priority",
    "provider",
    "strategy",
    "areas",
    "findings",
    "schema",
    "pictures",
    "timeout_s",
    "study_priority",
    "gateway_wait_s",
    "alert_at",
    "probability_min",
    "present_min",
    "confidence_min",
    "thresholds",
    "raises",
    "prompt",
];

/// The profile of what no other takes: the one that is tried last. `None`: all are for answers by a
/// schema of their own.
pub fn general(profiles: &[Profile]) -> Option<&Profile> {
    profiles.iter().filter(|profile| !profile.is_free()).min_by_key(|profile| profile.priority)
}

/// The embedded profiles, those of `site` over them: `site/chest_xray.toml` replaces ours.
///
/// # Errors
/// [`ProfileError`] with a line for each problem of each file.
pub fn load(site: Option<&Path>) -> Result<Vec<Profile>, ProfileError> {
    let mut files: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut problems = Vec::new();
    for name in Embedded::iter() {
        if let Some(file) = Embedded::get(&name) {
            let text = String::from_utf8_lossy(&file.data).into_owned();
            files.insert(stem(&name), (format!("{name} (built in)"), text));
        }
    }
    if let Some(folder) = site {
        match read_folder(folder) {
            Ok(found) => files.extend(found),
            Err(error) => problems.push(format!("{}: {error}", folder.display())),
        }
    }
    let mut profiles = Vec::new();
    for (stem, (file, text)) in &files {
        match parse(stem, text) {
            Ok(profile) => profiles.push(profile),
            Err(found) => problems.extend(found.iter().map(|line| format!("{file}: {line}"))),
        }
    }
    match problems.is_empty() {
        true => Ok(profiles),
        false => Err(ProfileError { problems }),
    }
}

/// The profile of this name.
///
/// # Errors
/// Which there are, in words.
pub fn find<'p>(profiles: &'p [Profile], name: &str) -> Result<&'p Profile, String> {
    profiles.iter().find(|profile| profile.name == name).ok_or_else(|| {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        format!("there is no profile {name:?}; there are {}", names.join(", "))
    })
}

fn stem(name: &str) -> String {
    name.trim_end_matches(".toml").to_owned()
}

fn read_folder(folder: &Path) -> std::io::Result<Vec<(String, (String, String))>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let text = std::fs::read_to_string(&path)?;
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            found.push((stem(&name), (path.display().to_string(), text)));
        }
    }
    Ok(found)
}

fn parse(stem: &str, text: &str) -> Result<Profile, Vec<String>> {
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| vec![error.to_string().trim().replace('\n', " ")])?;
    let mut problems = Vec::new();
    table.retain(|key, _| {
        let known = KEYS.contains(&key);
        if !known {
            problems.push(format!("{key}: unknown; known are {}", KEYS.join(", ")));
        }
        known
    });
    match toml::Value::Table(table).try_into::<Profile>() {
        Ok(profile) => {
            check(stem, &profile, &mut problems);
            if problems.is_empty() { Ok(profile) } else { Err(problems) }
        }
        Err(error) => {
            problems.push(error.to_string().trim().replace('\n', " "));
            Err(problems)
        }
    }
}

/// Adds one line for each value that cannot work.
fn check(stem: &str, profile: &Profile, problems: &mut Vec<String>) {
    let mut wrong = |bad: bool, line: String| {
        if bad {
            problems.push(line);
        }
    };
    let p = profile;
    let named = p.name == stem
        && p.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    wrong(
        !named,
        format!(
            "name = {:?}: must be the file's stem {stem:?}, lowercase letters, digits, _",
            p.name
        ),
    );
    wrong(p.version == 0, "version = 0: use 1 and count up with each change of the prompt".into());
    wrong(p.title.trim().is_empty(), "title is empty: it is shown to people".into());
    match p.is_free() {
        true => check_free(p, &mut wrong),
        false => check_reading(p, &mut wrong),
    }
    wrong(
        !(1..=3600).contains(&p.timeout_s),
        format!("timeout_s = {}: use 1 to 3600 (default 120)", p.timeout_s),
    );
    let pictures = &p.pictures;
    wrong(
        !(1..=64).contains(&pictures.pictures_max),
        format!("pictures.pictures_max = {}: use 1 to 64", pictures.pictures_max),
    );
    wrong(
        !(1..=64).contains(&pictures.slices_max),
        format!("pictures.slices_max = {}: use 1 to 64", pictures.slices_max),
    );
    wrong(
        !(64..=2048).contains(&pictures.edge_max_px),
        format!(
            "pictures.edge_max_px = {}: use 64 to 2048, gateways refuse more",
            pictures.edge_max_px
        ),
    );
    wrong(
        !(10_000..=5_000_000).contains(&pictures.bytes_max),
        format!(
            "pictures.bytes_max = {}: use 10000 to 5000000, gateways refuse more",
            pictures.bytes_max
        ),
    );
    for window in &pictures.windows {
        let bad = !(window.width >= 1.0 && window.width.is_finite() && window.center.is_finite());
        wrong(
            bad,
            format!(
                "pictures.windows {:?}: width must be at least 1 (PS3.3 C.11.2.1.2)",
                window.name
            ),
        );
    }
    if let Err(error) = prompt::try_template(profile) {
        wrong(true, format!("prompt: {error}"));
    }
}

/// Of a profile whose answers are objects of its own schema.
fn check_free(p: &Profile, wrong: &mut impl FnMut(bool, String)) {
    let clinical = [
        ("matches", p.matches != ProfileMatch::default()),
        ("findings", !p.findings.is_empty()),
        ("thresholds", !p.thresholds.is_empty()),
        ("raises", !p.raises.is_empty()),
        ("procedure_code", !p.procedure_code.is_empty()),
    ];
    for (key, _) in clinical.into_iter().filter(|(_, is_set)| *is_set) {
        let why = "a profile with a schema takes what is uploaded for it and makes no report";
        wrong(true, format!("{key}: leave it out; {why}"));
    }
    let own = ["default", "single"].contains(&p.strategy.as_str()) && p.provider != "local";
    wrong(
        !own,
        "strategy, provider: one gateway answers by a schema; use strategy = \"single\"".into(),
    );
    if let Err(why) = answer::free_schema(p) {
        wrong(true, format!("schema: {why}"));
    }
}

/// Of a profile whose answers are readings.
fn check_reading(p: &Profile, wrong: &mut impl FnMut(bool, String)) {
    let code = p.procedure_code.as_bytes();
    let loinc = code.len() >= 3
        && code[code.len() - 2] == b'-'
        && code.iter().all(|b| b.is_ascii_digit() || *b == b'-');
    wrong(!loinc, format!("procedure_code = {:?}: a LOINC code such as 30745-4", p.procedure_code));
    wrong(
        p.procedure_meaning.is_empty() || p.procedure_meaning.len() > 64,
        "procedure_meaning: 1 to 64 characters, the code's name".into(),
    );
    wrong(
        p.findings.is_empty() || p.findings.len() > 40,
        format!("findings: 1 to 40 keys, found {}", p.findings.len()),
    );
    for key in &p.findings {
        wrong(
            codes::find(key).is_none(),
            format!("findings: {key:?} is no key of the table of finding codes"),
        );
        wrong(
            p.findings.iter().filter(|other| *other == key).count() > 1,
            format!("findings: {key:?} stands twice"),
        );
    }
    wrong(
        !(0.0..=1.0).contains(&p.probability_min),
        format!("probability_min = {}: use 0 to 1 (default 0.5)", p.probability_min),
    );
    for (name, value, default) in
        [("present_min", p.present_min, 0.2), ("confidence_min", p.confidence_min, 0.3)]
    {
        wrong(
            !(0.0..=1.0).contains(&value),
            format!("{name} = {value}: use 0 to 1 (default {default})"),
        );
    }
    for area in p.areas.iter().filter(|area| !visible::is_area(area)) {
        wrong(true, format!("areas: {area:?} is no area of the table of places of findings"));
    }
    let unasked = |key: &String| !p.findings.contains(key);
    for (key, threshold) in &p.thresholds {
        wrong(unasked(key), format!("thresholds: {key:?} is not among the findings"));
        wrong(
            !(0.0..=1.0).contains(threshold),
            format!("thresholds.{key} = {threshold}: use 0 to 1"),
        );
    }
    for rule in &p.raises {
        for key in [&rule.finding].into_iter().chain(&rule.with) {
            wrong(unasked(key), format!("raises: {key:?} is not among the findings"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_profiles_load() {
        let names: Vec<String> =
            load(None).unwrap().into_iter().map(|profile| profile.name).collect();
        let all = [
            "angiography",
            "bone_xray",
            "chest_xray",
            "ct_abdomen",
            "ct_chest",
            "ct_head",
            "dental",
            "fluoroscopy",
            "fundus",
            "general",
            "mammography",
            "mr",
            "mr_abdomen",
            "mr_breast",
            "mr_head",
            "mr_heart",
            "mr_joint",
            "mr_pelvis",
            "mr_spine",
            "pet",
            "pet_ct",
            "scintigraphy",
            "ultrasound",
            "us_abdomen",
            "us_breast",
            "us_heart",
            "us_pelvis",
            "us_scrotum",
            "us_thyroid",
            "us_vascular",
        ];
        assert_eq!(names, all);
    }

    #[test]
    fn a_site_folder_replaces_and_adds() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Embedded::get("chest_xray.toml").unwrap();
        let text = String::from_utf8(ours.data.into_owned()).unwrap();
        let changed = text.replacen("title = \"Chest X-ray\"", "title = \"Thorax\"", 1);
        std::fs::write(folder.path().join("chest_xray.toml"), &changed).unwrap();
        let added = changed.replacen("name = \"chest_xray\"", "name = \"thorax_icu\"", 1);
        std::fs::write(folder.path().join("thorax_icu.toml"), added).unwrap();
        let profiles = load(Some(folder.path())).unwrap();
        assert_eq!(profiles.len(), load(None).unwrap().len() + 1);
        assert_eq!(profiles.iter().filter(|profile| profile.title == "Thorax").count(), 2);
    }

    #[test]
    fn all_problems_of_all_files_are_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let ours = Embedded::get("ct_head.toml").unwrap();
        let text = String::from_utf8(ours.data.into_owned()).unwrap();
        let bad = text
            .replacen("version = 2", "version = 0\ncolour = \"red\"", 1)
            .replacen("timeout_s = 180", "timeout_s = 0", 1)
            .replacen("\"stroke\"", "\"strike\"", 1)
            .replacen("{{> context}}", "{{patient_name}}", 1);
        std::fs::write(folder.path().join("ct_head.toml"), bad).unwrap();
        std::fs::write(folder.path().join("other.toml"), "name = ").unwrap();
        let problems = load(Some(folder.path())).unwrap_err().problems.join("\n");
        for part in [
            "colour: unknown",
            "version = 0",
            "timeout_s = 0",
            "\"strike\" is no key",
            "patient_name",
            "other.toml",
        ] {
            assert!(problems.contains(part), "{part} in\n{problems}");
        }
    }

    #[test]
    fn a_profile_with_a_schema_is_told_what_it_cannot_have() {
        let folder = tempfile::tempdir().unwrap();
        let good = r#"name = "wound"
version = 1
title = "Wound"
schema = '{"type": "object"}'
prompt = "{{> context}}{{> pictures}}"
"#;
        let load = |text: &str| {
            std::fs::write(folder.path().join("wound.toml"), text).unwrap();
            load(Some(folder.path())).map_err(|error| error.problems.join("\n"))
        };
        assert!(load(good).unwrap().iter().any(|profile| profile.is_free()));
        for (change, part) in [
            ("findings = [\"mass\"]", "findings: leave it out"),
            ("matches = { modalities = [\"XC\"] }", "matches: leave it out"),
            ("provider = \"local\"", "one gateway answers by a schema"),
            ("strategy = \"tiered\"", "one gateway answers by a schema"),
        ] {
            let problems = load(&format!("{change}\n{good}")).unwrap_err();
            assert!(problems.contains(part), "{change}: {problems}");
        }
        for (schema, part) in [
            ("{", "no JSON"),
            (r#"{"type": "array"}"#, "one JSON object"),
            (r#"{"type": "object", "required": 3}"#, "no JSON Schema"),
        ] {
            let problems = load(&good.replace(r#"{"type": "object"}"#, schema)).unwrap_err();
            assert!(problems.contains(part), "{schema}: {problems}");
        }
    }
}
