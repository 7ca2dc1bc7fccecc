//! Unique identifiers (PS3.5 9.1), one type for each thing they name.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;

/// A UID that is none: what was found instead, cut to 80 characters and free of control characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{found}' is not a UID: digits and dots, at most 64 characters (PS3.5 9.1)")]
pub struct UidError {
    pub found: String,
}

/// Numbers with a dot between them, at most 64 characters. Lenient on leading zeros.
pub fn is_uid(text: &str) -> bool {
    // Before the first digit of a number.
    let mut before = true;
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => before = false,
            b'.' if !before => before = true,
            _ => return false,
        }
    }
    !before && text.len() <= 64
}

/// Trims the padding that devices leave, checks the grammar.
fn parse(raw: &str) -> Result<String, UidError> {
    if is_uid(raw) {
        return Ok(raw.to_owned());
    }
    let uid = raw.trim_matches(['\0', ' ']);
    match is_uid(uid) {
        true => Ok(uid.to_owned()),
        false => Err(UidError { found: raw.escape_default().take(80).collect() }),
    }
}

/// A UID made from content: the same parts give the same UID, other parts another one.
/// `2.25.` and the decimal form of a UUID (PS3.5 B.2), the UUID being version 8 over SHA-256.
pub fn derived(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let mut bytes: [u8; 16] = digest[..16].try_into().expect("SHA-256 has 32 bytes");
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    format!("2.25.{}", u128::from_be_bytes(bytes))
}

macro_rules! uid_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        pub struct $name(String);

        impl $name {
            pub fn parse(raw: &str) -> Result<$name, UidError> {
                parse(raw).map($name)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = UidError;
            fn from_str(raw: &str) -> Result<$name, UidError> {
                $name::parse(raw)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<$name, D::Error> {
                let raw = String::deserialize(from)?;
                $name::parse(&raw).map_err(serde::de::Error::custom)
            }
        }
    };
}

uid_type!(
    /// A Study Instance UID (0020,000D), safe as a file name.
    StudyUid
);
uid_type!(
    /// A Series Instance UID (0020,000E), safe as a file name.
    SeriesUid
);
uid_type!(
    /// A SOP Instance UID (0008,0018), safe as a file name.
    SopInstanceUid
);
uid_type!(
    /// A SOP Class UID (0008,0016).
    SopClassUid
);
uid_type!(
    /// A Transfer Syntax UID (0002,0010).
    TransferSyntaxUid
);

uid_type!(
    /// A Transaction UID (0008,1195) of a storage commitment.
    TransactionUid
);

macro_rules! derivable {
    ($($name:ident),*) => {$(
        impl $name {
            /// A UID of this kind made from content, see [`derived`].
            pub fn derived(parts: &[&str]) -> $name {
                $name(derived(parts))
            }
        }
    )*};
}

derivable!(StudyUid, SeriesUid, SopInstanceUid, TransactionUid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_digits_and_dots_of_at_most_64_characters() {
        for good in ["1.2.840", "1.02.3", "1.2.3\0", " 1.2 ", &"1".repeat(64)] {
            assert!(StudyUid::parse(good).is_ok(), "{good:?}");
        }
        for bad in
            ["", ".", "..", "1..2", "1.2/3", "../1", "1.2.", "-rf", &"1".repeat(65), "1.2\n3"]
        {
            assert!(StudyUid::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_derived_uid_is_a_uid_and_depends_on_each_part() {
        let one = derived(&["study", "model", "1"]);
        assert_eq!(one, derived(&["study", "model", "1"]));
        assert_ne!(one, derived(&["studymodel", "", "1"]));
        assert!(SopInstanceUid::parse(&one).is_ok());
    }
}
