//! Coded concepts (PS3.3 8.8, PS3.16).

use serde::Deserialize;
use serde::Serialize;

/// A Code Sequence item: value (0008,0100), scheme (0008,0102), meaning (0008,0104).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Code {
    pub value: String,
    pub scheme: String,
    pub meaning: String,
}

impl Code {
    /// Scheme of what our table does not know.
    pub const LOCAL: &str = "99PRELIM";

    pub fn new(value: &str, scheme: &str, meaning: &str) -> Code {
        Code { value: value.into(), scheme: scheme.into(), meaning: meaning.into() }
    }
}
