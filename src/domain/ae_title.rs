//! Application entity titles (PS3.5 6.2, VR AE).

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;

/// An application entity title: 1 to 16 printable ASCII characters without backslash,
/// leading and trailing spaces not significant.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct AeTitle(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not an AE title: 1 to 16 printable ASCII characters without backslash")]
pub struct AeTitleError {
    pub found: String,
}

impl AeTitle {
    pub fn parse(raw: &str) -> Result<AeTitle, AeTitleError> {
        let title = raw.trim_matches([' ', '\0']);
        let printable = |b: u8| (0x20..0x7f).contains(&b) && b != b'\\';
        match (1..=16).contains(&title.len()) && title.bytes().all(printable) {
            true => Ok(AeTitle(title.to_owned())),
            false => Err(AeTitleError { found: raw.escape_default().take(80).collect() }),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AeTitle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AeTitle {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<AeTitle, D::Error> {
        let raw = String::deserialize(from)?;
        AeTitle::parse(&raw).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ae_title_is_1_to_16_printable_characters() {
        for good in ["PRELIM", " PACS ", "CT SCANNER 01", "a"] {
            assert!(AeTitle::parse(good).is_ok(), "{good:?}");
        }
        for bad in ["", "   ", "SEVENTEEN_LETTERS", "A\\B", "A\nB", "é"] {
            assert!(AeTitle::parse(bad).is_err(), "{bad:?}");
        }
    }
}
