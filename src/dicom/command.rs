//! Command sets (PS3.7 6.3, E): Implicit VR Little Endian, group 0000, small and bounded.
//!
//! Read here and not by a general parser: those allocate what a length declares before they
//! look at what is there (`0xFFFFFFF0` in a command took another node to 4 GiB).

use crate::dicom::status::Status;
use crate::dicom::status::comment;
use crate::domain::uid::is_uid;

/// Longest command set taken from a peer. The longest regular one has about 400 bytes.
pub const COMMAND_BYTES_MAX: usize = 64 * 1024;

/// Command Data Set Type (0000,0800) of a message without a data set.
pub const NO_DATA_SET: u16 = 0x0101;

/// Command fields (0000,0100) that this node sends or tells apart.
pub mod field {
    pub const C_STORE_RQ: u16 = 0x0001;
    pub const C_STORE_RSP: u16 = 0x8001;
    pub const C_ECHO_RQ: u16 = 0x0030;
    pub const C_ECHO_RSP: u16 = 0x8030;
    pub const C_FIND_RQ: u16 = 0x0020;
    pub const C_FIND_RSP: u16 = 0x8020;
    pub const C_CANCEL_RQ: u16 = 0x0FFF;
    pub const N_EVENT_REPORT_RQ: u16 = 0x0100;
    pub const N_EVENT_REPORT_RSP: u16 = 0x8100;
    pub const N_SET_RQ: u16 = 0x0120;
    pub const N_ACTION_RQ: u16 = 0x0130;
    pub const N_ACTION_RSP: u16 = 0x8130;
    pub const N_CREATE_RQ: u16 = 0x0140;
    /// Set in every response.
    pub const RESPONSE: u16 = 0x8000;
}

/// The elements of a command set that matter here. UIDs are as sent, without padding, and not
/// checked: they become paths or answers only after they are parsed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Command {
    pub field: u16,
    pub message_id: u16,
    pub responded_to: u16,
    pub data_set_type: u16,
    pub status: Option<u16>,
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub error_comment: String,
    /// Priority (0000,0700) of a C-STORE; 0, MEDIUM, where it is none.
    pub priority: u16,
    /// Action Type ID (0000,1008) of an N-ACTION.
    pub action_type: Option<u16>,
    /// Event Type ID (0000,1002) of an N-EVENT-REPORT.
    pub event_type: Option<u16>,
}

/// What a response says beside its request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    pub status: Status,
    pub error_comment: &'a str,
    /// Error ID (0000,0903): why an N-SET is refused (PS3.4 F.7.2.2).
    pub error_id: Option<u16>,
    /// SOP Instance UID (0000,1000) where the request left it to us.
    pub sop_instance_uid: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    #[error("command set ends inside element ({group:04X},{element:04X})")]
    Truncated { group: u16, element: u16 },
    #[error("command set holds an element of group {group:04X}")]
    ForeignGroup { group: u16 },
    #[error("command set holds (0000,{element:04X}) twice")]
    Repeated { element: u16 },
    #[error("(0000,{element:04X}) has {length} bytes")]
    BadLength { element: u16, length: usize },
    #[error("command set has no (0000,{element:04X})")]
    Missing { element: u16 },
}

impl Command {
    pub fn has_data_set(&self) -> bool {
        self.data_set_type != NO_DATA_SET
    }

    pub fn is_response(&self) -> bool {
        self.field & field::RESPONSE != 0
    }

    /// Reads a whole command set. A wrong group length is ignored, as DCMTK does: the end is
    /// known from the last fragment.
    pub fn parse(bytes: &[u8]) -> Result<Command, CommandError> {
        let mut command = Command::default();
        let (mut rest, mut last) = (bytes, None);
        let (mut has_field, mut has_type) = (false, false);
        while !rest.is_empty() {
            let (element, value, after) = split(rest)?;
            // Ascending order is also what makes each element stand once.
            if last.is_some_and(|before| element <= before) {
                return Err(CommandError::Repeated { element });
            }
            (rest, last) = (after, Some(element));
            match element {
                0x0002 | 0x0003 => command.sop_class_uid = text(value, 64),
                0x1000 | 0x1001 => command.sop_instance_uid = text(value, 64),
                0x0902 => command.error_comment = text(value, 256),
                0x0100 => (command.field, has_field) = (number(element, value)?, true),
                0x0110 => command.message_id = number(element, value)?,
                0x0120 => command.responded_to = number(element, value)?,
                // A bad one is no reason to refuse what it stands before.
                0x0700 => command.priority = number(element, value).unwrap_or_default(),
                0x0800 => (command.data_set_type, has_type) = (number(element, value)?, true),
                0x0900 => command.status = Some(number(element, value)?),
                0x1002 => command.event_type = Some(number(element, value)?),
                0x1008 => command.action_type = Some(number(element, value)?),
                _ => {}
            }
        }
        match (has_field, has_type) {
            (false, _) => Err(CommandError::Missing { element: 0x0100 }),
            (_, false) => Err(CommandError::Missing { element: 0x0800 }),
            (true, true) => Ok(command),
        }
    }

    /// [`Command::answer`] with a status alone.
    #[cfg(test)]
    pub fn response(&self, status: Status, error_comment: &str) -> Vec<u8> {
        self.answer(&Answer { status, error_comment, error_id: None, sop_instance_uid: None })
    }

    /// The answer to `self`. UIDs are repeated only if they are UIDs.
    pub fn answer(&self, what: &Answer<'_>) -> Vec<u8> {
        let mut answer = Encoder::default();
        if is_uid(&self.sop_class_uid) {
            answer.uid(0x0002, &self.sop_class_uid);
        }
        answer.number(0x0100, self.field | field::RESPONSE);
        answer.number(0x0120, self.message_id);
        answer.number(0x0800, NO_DATA_SET);
        answer.number(0x0900, what.status.0);
        let error_comment = comment(what.error_comment);
        if !error_comment.is_empty() {
            answer.text(0x0902, &error_comment);
        }
        if let Some(id) = what.error_id {
            answer.number(0x0903, id);
        }
        let instance = what.sop_instance_uid.unwrap_or(&self.sop_instance_uid);
        if is_uid(instance) {
            answer.uid(0x1000, instance);
        }
        answer.finish()
    }

    pub fn echo_request(message_id: u16) -> Vec<u8> {
        let mut request = Encoder::default();
        request.uid(0x0002, dicom_dictionary_std::uids::VERIFICATION);
        request.number(0x0100, field::C_ECHO_RQ);
        request.number(0x0110, message_id);
        request.number(0x0800, NO_DATA_SET);
        request.finish()
    }

    /// N-EVENT-REPORT-RQ with a data set (PS3.7 10.3.1).
    pub fn event_report_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        event_type: u16,
    ) -> Vec<u8> {
        let mut request = Encoder::default();
        request.uid(0x0002, sop_class_uid);
        request.number(0x0100, field::N_EVENT_REPORT_RQ);
        request.number(0x0110, message_id);
        request.number(0x0800, 0x0000);
        request.uid(0x1000, sop_instance_uid);
        request.number(0x1002, event_type);
        request.finish()
    }

    /// N-ACTION-RQ with a data set (PS3.7 10.3.5).
    pub fn action_request(
        message_id: u16,
        sop_class_uid: &str,
        sop_instance_uid: &str,
        action_type: u16,
    ) -> Vec<u8> {
        let mut request = Encoder::default();
        request.uid(0x0003, sop_class_uid);
        request.number(0x0100, field::N_ACTION_RQ);
        request.number(0x0110, message_id);
        request.number(0x0800, 0x0000);
        request.uid(0x1001, sop_instance_uid);
        request.number(0x1008, action_type);
        request.finish()
    }

    /// C-FIND-RQ; its identifier follows (PS3.7 9.3.2).
    pub fn find_request(message_id: u16, sop_class_uid: &str) -> Vec<u8> {
        let mut request = Encoder::default();
        request.uid(0x0002, sop_class_uid);
        request.number(0x0100, field::C_FIND_RQ);
        request.number(0x0110, message_id);
        request.number(0x0700, 0x0000); // Priority: medium
        request.number(0x0800, 0x0000);
        request.finish()
    }

    pub fn store_request(message_id: u16, sop_class_uid: &str, sop_instance_uid: &str) -> Vec<u8> {
        let mut request = Encoder::default();
        request.uid(0x0002, sop_class_uid);
        request.number(0x0100, field::C_STORE_RQ);
        request.number(0x0110, message_id);
        request.number(0x0700, 0x0000); // Priority: medium
        request.number(0x0800, 0x0000); // a data set follows
        request.uid(0x1000, sop_instance_uid);
        request.finish()
    }
}

/// The first element: number, value, what follows.
fn split(bytes: &[u8]) -> Result<(u16, &[u8], &[u8]), CommandError> {
    let word = |at: usize| bytes.get(at..at + 2).map(|b| u16::from_le_bytes([b[0], b[1]]));
    let (group, element) = (word(0).unwrap_or(0), word(2).unwrap_or(0));
    let truncated = CommandError::Truncated { group, element };
    let Some(length) = bytes.get(4..8) else { return Err(truncated) };
    if group != 0 {
        return Err(CommandError::ForeignGroup { group });
    }
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]);
    let body = &bytes[8..];
    match usize::try_from(length).ok().and_then(|length| body.split_at_checked(length)) {
        Some((value, after)) => Ok((element, value, after)),
        None => Err(truncated),
    }
}

fn number(element: u16, value: &[u8]) -> Result<u16, CommandError> {
    match value {
        [low, high] => Ok(u16::from_le_bytes([*low, *high])),
        _ => Err(CommandError::BadLength { element, length: value.len() }),
    }
}

/// Text as sent, cut one character after `characters_max`, so that what is too long stays so.
fn text(value: &[u8], characters_max: usize) -> String {
    unpadded(&value[..value.len().min(characters_max + 8)])
}

/// Each byte as the character of its number, without the padding at both ends.
pub fn unpadded(value: &[u8]) -> String {
    let is_text = |byte: &u8| !matches!(byte, 0 | b' ');
    let begin = value.iter().position(is_text).unwrap_or(value.len());
    let end = value.iter().rposition(is_text).map_or(begin, |last| last + 1);
    let value = &value[begin..end];
    match std::str::from_utf8(value) {
        Ok(text) if value.is_ascii() => text.to_owned(),
        _ => value.iter().map(|byte| char::from(*byte)).collect(),
    }
}

/// Writes elements in ascending order and the group length before them.
struct Encoder(Vec<u8>);

impl Default for Encoder {
    fn default() -> Encoder {
        let mut whole = Vec::with_capacity(256);
        whole.extend_from_slice(&[0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0]);
        Encoder(whole)
    }
}

impl Encoder {
    fn element(&mut self, element: u16, value: &[u8], padding: u8) {
        let odd = value.len() % 2;
        let length = u32::try_from(value.len() + odd).expect("values are short");
        let ([a, b], [c, d, e, f]) = (element.to_le_bytes(), length.to_le_bytes());
        self.0.extend_from_slice(&[0, 0, a, b, c, d, e, f]);
        self.0.extend_from_slice(value);
        if odd == 1 {
            self.0.push(padding);
        }
    }

    fn number(&mut self, element: u16, value: u16) {
        self.element(element, &value.to_le_bytes(), 0);
    }

    fn uid(&mut self, element: u16, value: &str) {
        self.element(element, value.as_bytes(), 0);
    }

    fn text(&mut self, element: u16, value: &str) {
        self.element(element, value.as_bytes(), b' ');
    }

    fn finish(self) -> Vec<u8> {
        let mut whole = self.0;
        let length = u32::try_from(whole.len() - 12).expect("command sets are short");
        whole[8..12].copy_from_slice(&length.to_le_bytes());
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_and_its_response_are_read_back() {
        let bytes = Command::store_request(7, "1.2.840.10008.5.1.4.1.1.2", "1.2.3");
        assert_eq!(bytes.len() % 2, 0);
        let request = Command::parse(&bytes).unwrap();
        assert_eq!((request.field, request.message_id), (field::C_STORE_RQ, 7));
        assert!(request.has_data_set() && !request.is_response());
        let response =
            Command::parse(&request.response(Status::MISMATCH, &"x".repeat(100))).unwrap();
        assert_eq!((response.status, response.responded_to), (Some(0xA900), 7));
        assert_eq!(response.error_comment.len(), 64);
        assert_eq!(response.sop_instance_uid, "1.2.3");
        assert!(response.is_response() && !response.has_data_set());
    }

    #[test]
    fn a_response_repeats_no_uid_that_is_none() {
        let request = Command {
            field: field::C_STORE_RQ,
            sop_class_uid: "1.2/../etc".into(),
            sop_instance_uid: "1".repeat(65),
            ..Command::default()
        };
        let response = Command::parse(&request.response(Status::SUCCESS, "")).unwrap();
        assert_eq!((response.sop_class_uid, response.sop_instance_uid), ("".into(), "".into()));
    }

    /// P44, P45: nothing is allocated by a declared length, nothing panics.
    #[test]
    fn a_broken_command_set_is_an_error() {
        let good = Command::echo_request(1);
        for cut in 1..good.len() {
            // A cut between elements leaves a shorter command without its last elements.
            let _ = Command::parse(&good[..cut]);
        }
        let mut huge = good.clone();
        huge[16..20].copy_from_slice(&0xFFFF_FFF0_u32.to_le_bytes());
        assert!(matches!(Command::parse(&huge), Err(CommandError::Truncated { .. })));
        let mut foreign = good.clone();
        foreign[12] = 8;
        assert_eq!(Command::parse(&foreign), Err(CommandError::ForeignGroup { group: 8 }));
        let twice = [&good[12..], &good[12..]].concat();
        assert!(matches!(Command::parse(&twice), Err(CommandError::Repeated { .. })));
        assert_eq!(Command::parse(&[]), Err(CommandError::Missing { element: 0x0100 }));
    }

    #[test]
    fn a_wrong_group_length_is_ignored() {
        let mut bytes = Command::echo_request(1);
        bytes[8..12].copy_from_slice(&3_u32.to_le_bytes());
        assert_eq!(Command::parse(&bytes).unwrap().field, field::C_ECHO_RQ);
    }
}
