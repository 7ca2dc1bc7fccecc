//! How far a new gateway has taken over from another.

use serde::Deserialize;
use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "phase")]
pub enum Phase {
    /// It reads the share of this stage.
    ///
    /// - `number`: from 0.
    Stage { number: usize },
    /// It reads all.
    Promoted,
    /// It reads nothing.
    RolledBack,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Phase::Stage { number } => write!(f, "stage {}", number + 1),
            Phase::Promoted => f.write_str("promoted"),
            Phase::RolledBack => f.write_str("rolled back"),
        }
    }
}
