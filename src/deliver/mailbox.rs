//! People or lists that get each report by e-mail, through the server of `[deliver.email]`.

use lettre::Address;
use serde::Deserialize;
use serde::Serialize;

use crate::deliver::pacs::Artefact;
use crate::domain::identity::Shown;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub to: Vec<String>,
    /// Whether it links to the study's page.
    #[serde(default = "yes")]
    pub link: bool,
    /// How much of the patient's identity stands in the text. The subject never holds a name.
    #[serde(default)]
    pub identity: Shown,
    /// Files of the result that go with it, e.g. `["report.pdf"]`. Each names the patient.
    #[serde(default)]
    pub attach: Vec<String>,
}

fn yes() -> bool {
    true
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    ///
    /// - `has_server`: whether a mail server is named.
    pub fn check(&self, at: &str, has_server: bool, problems: &mut Vec<String>) {
        if self.to.is_empty() {
            let why = "a destination without an address gets nothing";
            problems.push(format!("{at}.to = []: name at least one address; {why}"));
        }
        for address in self.to.iter().filter(|to| to.parse::<Address>().is_err()) {
            problems.push(format!(
                "{at}.to: {address:?}: use an address such as \"ward@hospital.example\""
            ));
        }
        if !has_server {
            problems
                .push(format!("{at}: set deliver.email.host and from; no e-mail is sent without"));
        }
        if !self.attach.is_empty() && self.identity != Shown::Full {
            let why = "the files name the patient, and the settings do not ask for that";
            problems.push(format!("{at}.attach: set identity = \"full\" too; {why}"));
        }
        for file in self.attach.iter().filter(|file| !is_result(file)) {
            let known = "report.pdf, report.html, report.txt, the same with a language \
                         (report.ko.pdf), or a DICOM object (sr.dcm)";
            problems.push(format!("{at}.attach: {file:?} is no result; there are {known}"));
        }
    }
}

/// A file that a result folder can hold and people can open.
pub fn is_result(file: &str) -> bool {
    let parts: Vec<&str> = file.split('.').collect();
    let is_report = match parts[..] {
        ["report", end] => ["pdf", "html", "txt"].contains(&end),
        ["report", language, end] => {
            ["en", "ko", "vi", "zh"].contains(&language) && ["pdf", "html", "txt"].contains(&end)
        }
        _ => false,
    };
    is_report || Artefact::of_file(file).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_or_tell_too_much_are_named() {
        for (settings, expected) in [
            ("to = ['ward@hospital.example']", ""),
            ("to = ['a@b.example']\nidentity = 'full'\nattach = ['report.ko.pdf', 'sr.dcm']", ""),
            ("to = []", ".to = []"),
            ("to = ['nobody']", "\"nobody\""),
            ("to = ['a@b.example']\nattach = ['report.pdf']", "identity = \"full\""),
            ("to = ['a@b.example']\nidentity = 'numbers'\nattach = ['report.pdf']", "identity ="),
            ("to = ['a@b.example']\nidentity = 'full'\nattach = ['../x']", "is no result"),
        ] {
            let config: Config = toml::from_str(settings).unwrap();
            let mut problems = Vec::new();
            config.check("deliver.mailbox.ward", true, &mut problems);
            assert_eq!(problems.len(), usize::from(!expected.is_empty()), "{problems:?}");
            assert!(problems.iter().all(|line| line.contains(expected)), "{problems:?}");
        }
        let config: Config = toml::from_str("to = ['ward@hospital.example']").unwrap();
        let mut problems = Vec::new();
        config.check("deliver.mailbox.ward", false, &mut problems);
        assert!(problems[0].contains("deliver.email.host"), "{problems:?}");
    }
}
