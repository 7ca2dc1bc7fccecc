//! The report for people: HTML, text and PDF of one assessment, in four languages.
//!
//! All three are made from one [`content::Content`], so they carry the same findings, numbers
//! and words; `content` also keeps the rules on what a preliminary report must and must not say.

mod content;
pub mod fhir;
mod html;
mod names;
pub mod notice;
mod oru;
mod pdf;
mod plain;
mod site;
mod templates;
mod text;
pub mod words;

use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::assessment::Assessment;
use crate::domain::picture::PictureRef;

pub use html::html;
pub use oru::oru;
pub use pdf::pdf;
pub use text::text;
pub use words::Language;
pub use words::fill;

/// What a finding is called in `language`; its English name where no word is known.
pub fn finding_name(english: &str, language: Language) -> String {
    names::finding("", english, language).text
}

/// What the site says about its reports.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the hospital at the top of each page. Empty: Institution Name of the images.
    pub facility: String,
    /// Languages in which reports are made: `en`, `ko`, `vi`, `zh`.
    pub languages: Vec<Language>,
    /// Regulatory state, printed in every report as it stands here. Empty: "Research use only.
    /// Not a medical device." in the language of the report.
    pub regulatory_notice: String,
    /// IANA name, e.g. `Asia/Seoul`, for the time of the analysis. Empty: the machine's.
    pub time_zone: String,
    /// Font of the PDF, regular and bold. Empty: Noto Sans CJK where distributions put it
    /// (Debian: package fonts-noto-cjk).
    pub font_regular: PathBuf,
    pub font_bold: PathBuf,
    /// Further fonts for characters that the first two lack, e.g. Arabic or Thai names.
    pub fonts_more: Vec<PathBuf>,
    /// Folder with a site's own `report.html.hbs` or `report.txt.hbs`, and its `logo.png` or
    /// `logo.jpg` for HTML and PDF. Empty: the built-in ones, no logo.
    pub templates_dir: PathBuf,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            facility: String::new(),
            languages: vec![Language::En],
            regulatory_notice: String::new(),
            time_zone: String::new(),
            font_regular: PathBuf::new(),
            font_bold: PathBuf::new(),
            fonts_more: Vec::new(),
            templates_dir: PathBuf::new(),
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if self.languages.is_empty() {
            let why = "without one there is no report";
            problems.push(format!("{at}.languages = []: name one of en, ko, vi, zh; {why}"));
        }
        if self.zone().is_none() {
            let found = &self.time_zone;
            let use_this = "use an IANA name such as Asia/Seoul, or leave it empty";
            let why = "reports could not say when they were made";
            problems.push(format!("{at}.time_zone = '{found}': {use_this}; {why}"));
        }
        for (key, found) in
            [("facility", &self.facility), ("regulatory_notice", &self.regulatory_notice)]
        {
            if found.chars().count() > 500 {
                let why = "it stands in every report";
                problems.push(format!("{at}.{key}: at most 500 characters; {why}"));
            }
        }
        let fonts = [("font_regular", &self.font_regular), ("font_bold", &self.font_bold)];
        let more = self.fonts_more.iter().map(|file| ("fonts_more", file));
        for (key, file) in fonts.into_iter().chain(more) {
            if !file.as_os_str().is_empty() && !file.is_file() {
                let found = file.display();
                let why = "no PDF report can be made without it";
                problems.push(format!("{at}.{key} = '{found}': there is no such file; {why}"));
            }
        }
        let folder = &self.templates_dir;
        if !folder.as_os_str().is_empty() && !folder.is_dir() {
            let why = "the site's templates would be missed";
            let found = folder.display();
            problems
                .push(format!("{at}.templates_dir = '{found}': there is no such folder; {why}"));
        }
        site::check(self, at, problems);
    }

    /// The zone of the people who read; `None` when its name is no zone.
    pub fn zone(&self) -> Option<TimeZone> {
        match self.time_zone.as_str() {
            "" => Some(TimeZone::system()),
            name => TimeZone::get(name).ok(),
        }
    }
}

/// One step of telling someone about a critical result, as the alert's record has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Communication {
    pub at: Timestamp,
    /// The finding, in words.
    pub what: String,
    /// Who was told, by whom, by which way.
    pub to: String,
    pub by: String,
    pub how: String,
    pub acknowledged_at: Option<Timestamp>,
    pub acknowledged_by: String,
}

/// Everything a report is made from. The same input gives the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct ReportInput<'a> {
    pub assessment: &'a Assessment,
    pub language: Language,
    /// The study's pictures with their encoded bytes (JPEG or PNG); only the key picture and
    /// those with regions are used. One that is missing or broken is left out.
    pub pictures: &'a [(PictureRef, Vec<u8>)],
    pub communications: &'a [Communication],
    pub site: &'a Config,
}

#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error(
        "no font for PDF reports: install the package fonts-noto-cjk (Debian, Ubuntu) or set \
         report.font_regular and report.font_bold; looked at {looked_at}"
    )]
    FontMissing { looked_at: String },
    #[error("the font {file} cannot be read")]
    FontUnreadable { file: String, source: std::io::Error },
    #[error("{file} is no font that can be used")]
    FontUnusable { file: String },
    #[error("the template {file} cannot be read")]
    TemplateUnreadable { file: String, source: std::io::Error },
    #[error("the template {name} does not work: {reason}")]
    Template { name: &'static str, reason: String },
    #[error("the PDF could not be written: {reason}")]
    Pdf { reason: String },
}

#[cfg(test)]
pub(crate) mod sample {
    //! Inputs for the tests of this room.

    use super::*;
    use crate::domain::sample::picture_png;

    /// English, UTC, no pictures.
    pub fn site() -> Config {
        Config {
            facility: "Sample University Hospital".into(),
            time_zone: "UTC".into(),
            ..Config::default()
        }
    }

    /// The pictures of an assessment with made-up pixels.
    pub fn pictures(assessment: &Assessment) -> Vec<(PictureRef, Vec<u8>)> {
        let bytes = |picture: &PictureRef| picture_png(picture.width_px, picture.height_px);
        assessment.pictures.iter().map(|picture| (picture.clone(), bytes(picture))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_that_cannot_work_is_named_with_its_key() {
        let mut problems = Vec::new();
        Config::default().check("report", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
        let wrong = Config {
            facility: "x".repeat(501),
            languages: vec![],
            time_zone: "Mars/Base".into(),
            font_bold: "/no/such.ttc".into(),
            fonts_more: vec!["/no/more.ttf".into()],
            templates_dir: "/no/folder".into(),
            ..Config::default()
        };
        wrong.check("report", &mut problems);
        let keys =
            ["languages", "time_zone", "facility", "font_bold", "fonts_more", "templates_dir"];
        assert_eq!(problems.len(), keys.len(), "{problems:#?}");
        for (problem, key) in problems.iter().zip(keys) {
            assert!(problem.starts_with(&format!("report.{key}")), "{problem}");
        }
    }
}
