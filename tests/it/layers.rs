//! The direction of the house: a module names the groups after its own, never its neighbours
//! or those before.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Groups from the top down. Modules of one group are neighbours.
const GROUPS: [&[&str]; 11] = [
    &["main"],
    &["cli"],
    &["app", "fuzz"],
    &["config"],
    &["web", "telemetry"],
    &["pipeline", "receive"],
    &["worker"],
    &[
        "assemble", "imaging", "deid", "analysis", "report", "sr", "deliver", "alert", "orders",
        "store",
    ],
    &["outgoing"],
    &["dicom", "hl7", "turns"],
    &["domain", "files"],
];

/// Of the stages, only these need the protocol's words.
const STAGES_WITH_DICOM: [&str; 7] =
    ["assemble", "imaging", "deid", "sr", "deliver", "orders", "store"];

/// And only these those of HL7 v2.
const STAGES_WITH_HL7: [&str; 4] = ["analysis", "report", "deliver", "orders"];

fn group_of(module: &str) -> Option<usize> {
    GROUPS.iter().position(|group| group.contains(&module))
}

pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The module that a file belongs to: the first part of its path below `src`.
fn module_of(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_name_only_those_below_them() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 30, "src was not found whole: {} files", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let within = file.strip_prefix(&src).unwrap();
        let module = module_of(within);
        if module == "lib" || module == "main" {
            continue;
        }
        let own = group_of(&module).unwrap_or_else(|| panic!("{module} stands in no group"));
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            for named in line.split("crate::").skip(1) {
                let word = |c: char| c.is_alphanumeric() || c == '_';
                let named: String = named.chars().take_while(|c| word(*c)).collect();
                let place =
                    || format!("{}:{}: {module} names {named}", within.display(), number + 1);
                if named == module {
                    continue;
                }
                match group_of(&named) {
                    None => wrong.push(format!("{}: no such module", place())),
                    Some(other) if other <= own => wrong.push(place()),
                    Some(_) => (),
                }
                let stage = group_of("store") == Some(own);
                let may = match named.as_str() {
                    "dicom" => STAGES_WITH_DICOM.contains(&module.as_str()),
                    "hl7" => STAGES_WITH_HL7.contains(&module.as_str()),
                    _ => true,
                };
                if stage && !may {
                    wrong.push(place());
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
