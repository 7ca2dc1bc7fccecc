//! A site's own templates and logo: found in its folder, and tried out before a study needs them.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::picture::PictureRef;
use crate::report;
use crate::report::Communication;
use crate::report::Config;
use crate::report::Language;
use crate::report::ReportInput;
use crate::report::content::media_type;

/// A made-up assessment that fills every list of a report.
const TRIAL: &str = include_str!("../../templates/report/trial.json");

const LOGOS: [&str; 2] = ["logo.png", "logo.jpg"];
const LOGO_BYTES_MAX: usize = 1 << 20;

/// The logo as it is in the file; `None` without one, or with one that is no picture.
pub fn logo(site: &Config) -> Option<Vec<u8>> {
    let bytes = std::fs::read(logo_file(site)?).ok()?;
    is_usable(&bytes).then_some(bytes)
}

fn logo_file(site: &Config) -> Option<PathBuf> {
    let folder = &site.templates_dir;
    let files = LOGOS.map(|name| folder.join(name));
    files.into_iter().find(|file| !folder.as_os_str().is_empty() && file.is_file())
}

fn is_usable(bytes: &[u8]) -> bool {
    bytes.len() <= LOGO_BYTES_MAX
        && media_type(bytes).is_some()
        && image::load_from_memory(bytes).is_ok()
}

/// Adds one line for each template that does not work, for each that nobody would use, and for a
/// logo that is none.
pub fn check(site: &Config, at: &str, problems: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(&site.templates_dir) else { return };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut unused: Vec<String> = names
        .filter(|name| name.ends_with(".hbs"))
        .filter(|name| !report::templates::NAMES.contains(&name.as_str()))
        .collect();
    unused.sort();
    for name in unused {
        let known = report::templates::NAMES.join(" or ");
        let name = name.escape_debug();
        problems.push(format!("{at}.templates_dir: nothing uses {name}; name it {known}"));
    }
    if let Some(file) = logo_file(site)
        && logo(site).is_none()
    {
        let file = file.display();
        problems.push(format!(
            "{at}.templates_dir: {file} is no logo; use a PNG or JPEG of at most 1 MB"
        ));
    }
    for error in trials(site) {
        let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
        problems.push(format!("{at}.templates_dir: {error}"));
    }
}

/// Renders made-up readings of every outcome; what went wrong, each once.
fn trials(site: &Config) -> Vec<String> {
    let Ok(read) = serde_json::from_str::<Assessment>(TRIAL) else {
        return vec!["the trial report is broken".into()];
    };
    let reason = "a trial".to_owned();
    let not_covered = Outcome::NotCovered { reason: reason.clone() };
    let outcomes = [read.outcome.clone(), not_covered, Outcome::needs_review(&reason)];
    let picture = |reference: &PictureRef| (reference.clone(), b"\x89PNG".to_vec());
    let pictures: Vec<_> = read.pictures.iter().map(picture).collect();
    let told = Communication {
        at: Timestamp::UNIX_EPOCH,
        what: "x".into(),
        to: "x".into(),
        by: "x".into(),
        how: "x".into(),
        acknowledged_at: None,
        acknowledged_by: String::new(),
    };
    let mut wrong: Vec<String> = Vec::new();
    for outcome in outcomes {
        let assessment = Assessment { outcome, ..read.clone() };
        let input = ReportInput {
            assessment: &assessment,
            language: Language::En,
            pictures: &pictures,
            communications: std::slice::from_ref(&told),
            site,
        };
        let said = [report::html(&input).err(), report::text(&input).err()];
        for error in said.into_iter().flatten().map(|error| error.to_string()) {
            if !wrong.contains(&error) {
                wrong.push(error);
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::finding::Presence;
    use crate::domain::sample;

    /// What the trial is made of. A build with PRELIM_WRITE_TRIAL=1 writes it anew.
    #[test]
    fn the_trial_fills_every_list() {
        let mut a = sample::positive_chest();
        let mut open = a.findings[2].clone();
        (open.id, open.presence) = ("F4".into(), Presence::Undetermined);
        a.findings.push(open);
        a.revision = 2;
        let text = serde_json::to_string_pretty(&a).unwrap() + "\n";
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = file.join("templates/report/trial.json");
        if option_env!("PRELIM_WRITE_TRIAL").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        let kept: Assessment = serde_json::from_str(TRIAL).unwrap();
        assert_eq!(kept, a, "{}", file.display());
        let site = report::sample::site();
        let pictures = report::sample::pictures(&a);
        let input = ReportInput {
            assessment: &a,
            language: Language::En,
            pictures: &pictures,
            communications: &[],
            site: &site,
        };
        let content = serde_json::to_value(report::content::content(&input)).unwrap();
        for list in ["findings", "undetermined", "absent", "left_out", "pictures", "limitations"] {
            assert!(!content[list].as_array().unwrap().is_empty(), "{list}");
        }
    }

    #[test]
    fn each_mistake_in_a_sites_folder_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let site = Config { templates_dir: folder.path().into(), ..report::sample::site() };
        let problems = || {
            let mut problems = Vec::new();
            site.check("report", &mut problems);
            problems
        };
        let write = |name: &str, text: &[u8]| std::fs::write(folder.path().join(name), text);
        assert_eq!(problems(), [""; 0], "an empty folder");
        for (template, built_in) in
            [("html", report::templates::HTML), ("txt", report::templates::TEXT)]
        {
            write(&format!("report.{template}.hbs"), built_in.built_in().as_bytes()).unwrap();
        }
        write("logo.png", &sample::picture_png(40, 20)).unwrap();
        assert_eq!(problems(), [""; 0], "copies of our own");
        let cases: [(&str, &[u8], &str); 6] = [
            ("report.html.hbs", b"{{w.preliminary}} {{#each findings}}{{nmae}}{{/each}}", "nmae"),
            ("report.html.hbs", b"{{w.preliminary}} {{#each findings}}", "report.html.hbs"),
            ("report.txt.hbs", b"{{wrap 0 w.preliminary}}\n{{heading w.finding_s}}", "finding_s"),
            ("report.txt.hbs", b"Normal chest.", "PRELIMINARY"),
            ("report.htm.hbs", b"{{w.preliminary}}", "report.htm.hbs"),
            ("logo.png", b"GIF89a", "logo.png"),
        ];
        for (name, text, said) in cases {
            let before = std::fs::read(folder.path().join(name)).ok();
            write(name, text).unwrap();
            let found = problems();
            assert_eq!(found.len(), 1, "{name}: {found:#?}");
            assert!(found[0].starts_with("report.templates_dir: "), "{found:?}");
            assert!(found[0].contains(said) && !found[0].contains('\n'), "{found:?}");
            match before {
                Some(bytes) => write(name, &bytes).unwrap(),
                None => std::fs::remove_file(folder.path().join(name)).unwrap(),
            }
        }
    }
}
