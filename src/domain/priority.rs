//! How soon a study is wanted.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// The first comes first.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    Stat,
    Urgent,
    #[default]
    Routine,
}

impl Priority {
    pub fn as_str(self) -> &'static str {
        match self {
            Priority::Stat => "stat",
            Priority::Urgent => "urgent",
            Priority::Routine => "routine",
        }
    }

    /// What an order or an image says of itself: Requested Procedure Priority (0040,1003), the
    /// retired Study Priority ID (0032,000C), the words of HL7 table 0485. What is none of them is
    /// routine.
    pub fn of_words(words: &str) -> Priority {
        match words.trim().to_ascii_lowercase().as_str() {
            "s" | "stat" | "emergency" => Priority::Stat,
            "a" | "asap" | "high" | "urgent" => Priority::Urgent,
            _ => Priority::Routine,
        }
    }

    /// Priority (0000,0700) of a C-STORE (PS3.7 9.3.1.1): LOW is no word against a study.
    pub fn of_dimse(code: u16) -> Priority {
        match code {
            1 => Priority::Urgent,
            _ => Priority::Routine,
        }
    }
}

/// The place of a study's work among that of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rank {
    pub priority: Priority,
    /// When the study began to come; the older first.
    pub since: Timestamp,
}

impl Default for Rank {
    fn default() -> Rank {
        Rank { priority: Priority::default(), since: Timestamp::UNIX_EPOCH }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_images_say_in_many_words_how_soon() {
        for (words, priority) in [
            ("STAT", Priority::Stat),
            ("s", Priority::Stat),
            (" HIGH ", Priority::Urgent),
            ("asap", Priority::Urgent),
            ("MEDIUM", Priority::Routine),
            ("", Priority::Routine),
            ("soon", Priority::Routine),
        ] {
            assert_eq!(Priority::of_words(words), priority, "{words}");
        }
        assert!(Priority::Stat < Priority::Urgent && Priority::Urgent < Priority::Routine);
        assert_eq!([0, 1, 2].map(Priority::of_dimse)[1], Priority::Urgent);
    }
}
