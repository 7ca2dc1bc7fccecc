//! DIMSE status codes (PS3.7 C, PS3.4 B.2.3).

use std::fmt;

/// The Status (0000,0900) of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Status(pub u16);

/// What a requestor makes of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusKind {
    /// 0000.
    Success,
    /// Stored, with a remark (B000, B006, B007, 0001, 0107, 0116).
    Warning,
    /// FF00, FF01: not for C-STORE.
    Pending,
    /// FE00.
    Cancelled,
    /// Not stored.
    Failure,
}

impl Status {
    pub const SUCCESS: Status = Status(0x0000);
    /// Refused: out of resources. The sender may try again later.
    pub const OUT_OF_RESOURCES: Status = Status(0xA700);
    /// The data set does not match the SOP class, or not the command.
    pub const MISMATCH: Status = Status(0xA900);
    /// The data set cannot be understood.
    pub const CANNOT_UNDERSTAND: Status = Status(0xC000);
    pub const PROCESSING_FAILURE: Status = Status(0x0110);
    pub const DUPLICATE_SOP_INSTANCE: Status = Status(0x0111);
    pub const NO_SUCH_SOP_INSTANCE: Status = Status(0x0112);
    pub const INVALID_ATTRIBUTE: Status = Status(0x0106);
    pub const INVALID_ARGUMENT: Status = Status(0x0115);
    pub const MISSING_ATTRIBUTE: Status = Status(0x0120);
    pub const NO_SUCH_ACTION: Status = Status(0x0123);
    pub const RESOURCE_LIMITATION: Status = Status(0x0213);
    pub const SOP_CLASS_NOT_SUPPORTED: Status = Status(0x0122);
    pub const UNRECOGNIZED_OPERATION: Status = Status(0x0211);

    pub fn kind(self) -> StatusKind {
        match self.0 {
            0x0000 => StatusKind::Success,
            0x0001 | 0x0107 | 0x0116 | 0xB000..=0xBFFF => StatusKind::Warning,
            0xFF00 | 0xFF01 => StatusKind::Pending,
            0xFE00 => StatusKind::Cancelled,
            _ => StatusKind::Failure,
        }
    }

    /// Whether the same request may succeed later: A7xx (out of resources), 0110 (processing
    /// failure) and 0213 (resource limitation). The rest says that this object is not wanted.
    pub fn is_transient(self) -> bool {
        matches!(self.0, 0xA700..=0xA7FF | 0x0110 | 0x0213)
    }
}

/// Four hexadecimal digits, as the standard writes it.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04X}", self.0)
    }
}

/// Longest Error Comment (0000,0902): VR LO. A longer one cost another toolkit the whole response.
pub const COMMENT_MAX: usize = 64;

/// An Error Comment that every peer can read: printable ASCII without backslash, at most 64.
pub fn comment(text: &str) -> String {
    let safe = |c: char| if matches!(c, ' '..='~') && c != '\\' { c } else { '?' };
    text.chars().map(safe).take(COMMENT_MAX).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_of_one_kind_and_says_whether_to_try_again() {
        for (code, kind, again) in [
            (0x0000, StatusKind::Success, false),
            (0xB007, StatusKind::Warning, false),
            (0xFF00, StatusKind::Pending, false),
            (0xFE00, StatusKind::Cancelled, false),
            (0xA700, StatusKind::Failure, true),
            (0xA7FF, StatusKind::Failure, true),
            (0x0110, StatusKind::Failure, true),
            (0xA900, StatusKind::Failure, false),
            (0xC123, StatusKind::Failure, false),
            (0x0122, StatusKind::Failure, false),
        ] {
            assert_eq!(
                (Status(code).kind(), Status(code).is_transient()),
                (kind, again),
                "{code:04X}"
            );
        }
        assert_eq!(Status(0xA700).to_string(), "A700");
    }

    #[test]
    fn a_comment_fits_its_vr() {
        assert_eq!(comment("disk\\full\n\u{1b}[31m"), "disk?full??[31m");
        assert_eq!(comment(&"ä".repeat(100)).len(), COMMENT_MAX);
    }
}
