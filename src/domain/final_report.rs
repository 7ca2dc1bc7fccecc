//! Final reports of others, as far as a comparison needs them.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;

/// What a report says in codes and in words.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FinalReport {
    pub stated: Vec<Stated>,
    /// Without the sections on why it was asked for and what was known before.
    pub text: String,
    /// Why it is no final report of a doctor.
    pub not_final: Option<String>,
}

/// A coded finding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stated {
    pub code: Code,
    pub present: bool,
}

/// Titles of sections that say nothing about what the images show.
const ASIDE: [&str; 15] = [
    "history",
    "clinical history",
    "clinical information",
    "clinical data",
    "indication",
    "indications",
    "indications for procedure",
    "reason for exam",
    "reason for study",
    "reason for request",
    "reason for procedure",
    "request",
    "comparison",
    "technique",
    "procedure",
];

/// Whether a section of this title is about something else than the images.
pub fn is_aside(title: &str) -> bool {
    let title = title.trim().trim_end_matches(':').to_lowercase();
    ASIDE.contains(&title.as_str())
}
