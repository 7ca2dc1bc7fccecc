//! How long a finding can wait.

use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;

/// Urgency of a finding or a study, after the ACR Actionable Reporting categories (PS3.16 CID 7035).
/// Ordered: a later one is more urgent.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// Nothing that needs anyone before the usual reading.
    #[default]
    Routine,
    /// Category 3: communicate within days.
    Significant,
    /// Category 2: communicate within hours.
    Urgent,
    /// Category 1: communicate within minutes.
    Critical,
}

impl Urgency {
    pub const ALL: [Urgency; 4] =
        [Urgency::Routine, Urgency::Significant, Urgency::Urgent, Urgency::Critical];

    /// Lowercase English word, as in JSON and configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Urgency::Routine => "routine",
            Urgency::Significant => "significant",
            Urgency::Urgent => "urgent",
            Urgency::Critical => "critical",
        }
    }

    /// The Actionable Finding Classification code (PS3.16 CID 7035), none for routine.
    pub fn category(self) -> Option<Code> {
        let code =
            |value, n| Code::new(value, "RADLEX", &format!("ACR Category {n} Actionable Finding"));
        match self {
            Urgency::Routine => None,
            Urgency::Significant => Some(code("RID49482", 3)),
            Urgency::Urgent => Some(code("RID49481", 2)),
            Urgency::Critical => Some(code("RID49480", 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urgency_is_ordered_and_named_as_in_json() {
        assert!(Urgency::Critical > Urgency::Urgent && Urgency::Significant > Urgency::Routine);
        for urgency in Urgency::ALL {
            let json = serde_json::to_string(&urgency).unwrap();
            assert_eq!(json, format!("\"{}\"", urgency.as_str()));
        }
    }
}
