//! Small data sets of services that are not storage: read within limits, written.
//!
//! Read here and not by a general parser, for the reason that `command` gives: nothing is allocated
//! by a length, nothing is deeper than [`DEPTH_MAX`]. Values are slices of what was received.

use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::uids;

use crate::dicom::charset;
use crate::dicom::walk::Encoding;
use crate::dicom::walk::Event;
use crate::dicom::walk::Walk;
use crate::dicom::walk::WalkError;
use crate::dicom::walk::has_short_length;

/// Transfer syntaxes of these data sets, the preferred first.
pub const SYNTAXES: [&str; 2] = [uids::EXPLICIT_VR_LITTLE_ENDIAN, uids::IMPLICIT_VR_LITTLE_ENDIAN];
/// Sequences inside each other. A performed procedure step has 3.
const DEPTH_MAX: usize = 8;
/// Elements and items: some 40,000 references.
const ELEMENTS_MAX: usize = 150_000;
/// Of a text that is decoded.
const VALUE_BYTES_MAX: usize = 16 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementsError {
    #[error("data set ends inside an element")]
    Truncated,
    #[error("{tag} stands where it must not")]
    Misplaced { tag: Tag },
    #[error("{tag} has no valid VR or length")]
    Bad { tag: Tag },
    #[error("sequences are nested deeper than {DEPTH_MAX}")]
    TooDeep,
    #[error("more than {ELEMENTS_MAX} elements")]
    TooMany,
}

/// A data set, or an item of a sequence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Elements<'a>(Vec<(Tag, Value<'a>)>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Items(Vec<Elements<'a>>),
}

impl<'a> Elements<'a> {
    /// Reads a whole data set in one of [`SYNTAXES`].
    pub fn read(bytes: &'a [u8], transfer_syntax: &str) -> Result<Elements<'a>, ElementsError> {
        let implicit = transfer_syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN;
        read(bytes, Encoding { implicit, big: false })
    }

    fn value(&self, tag: Tag) -> Option<&Value<'a>> {
        self.0.iter().find(|(other, _)| *other == tag).map(|(_, value)| value)
    }

    pub fn has(&self, tag: Tag) -> bool {
        self.value(tag).is_some()
    }

    /// A value of ASCII text without padding; empty when there is none.
    pub fn text(&self, tag: Tag) -> String {
        let Some(Value::Bytes(bytes)) = self.value(tag) else { return String::new() };
        let text: String = bytes.iter().take(1024).map(|&b| char::from(b)).collect();
        text.trim_matches(['\0', ' ']).to_owned()
    }

    /// A value in the character sets that the data set names; of several the first.
    pub fn decoded(&self, tag: Tag, vr: VR, sets: &[&str]) -> String {
        let Some(Value::Bytes(bytes)) = self.value(tag) else { return String::new() };
        let bytes = &bytes[..bytes.len().min(VALUE_BYTES_MAX)];
        charset::decode_values(bytes, sets, vr).into_iter().next().unwrap_or_default()
    }

    /// A value of two bytes.
    pub fn number(&self, tag: Tag) -> Option<u16> {
        match self.value(tag) {
            Some(Value::Bytes([low, high])) => Some(u16::from_le_bytes([*low, *high])),
            _ => None,
        }
    }

    /// The items of a sequence; none when there is no such sequence.
    pub fn items(&self, tag: Tag) -> &[Elements<'a>] {
        match self.value(tag) {
            Some(Value::Items(items)) => items,
            Some(Value::Bytes(_)) | None => &[],
        }
    }
}

fn read(bytes: &[u8], encoding: Encoding) -> Result<Elements<'_>, ElementsError> {
    let mut walk = Walk::new(bytes, 0, encoding, DEPTH_MAX);
    let mut count = 0;
    // The data set and the items that are open, each with the sequences that are open in it.
    let mut open: Vec<Elements<'_>> = vec![Elements::default()];
    let mut is_item = Vec::new();
    while let Some(event) = walk.next()? {
        count += usize::from(!matches!(event, Event::Close { .. }));
        if count > ELEMENTS_MAX {
            return Err(ElementsError::TooMany);
        }
        let inner = open.last_mut().expect("the data set stays open");
        match event {
            Event::Value(place) => {
                let (at, length) = (place.at as usize, place.length.unwrap_or_default() as usize);
                let value = bytes.get(at..at + length).ok_or(ElementsError::Truncated)?;
                inner.0.push((place.tag, Value::Bytes(value)));
            }
            Event::Open(place) => {
                inner.0.push((place.tag, Value::Items(Vec::new())));
                is_item.push(false);
            }
            Event::Item { .. } => {
                open.push(Elements::default());
                is_item.push(true);
            }
            Event::Close { .. } if is_item.pop() == Some(true) => {
                let item = open.pop().unwrap_or_default();
                let around = open.last_mut().and_then(|elements| elements.0.last_mut());
                if let Some((_, Value::Items(items))) = around {
                    items.push(item);
                }
            }
            Event::Close { .. } | Event::Fragment | Event::Pixels(_) => {}
        }
    }
    Ok(open.swap_remove(0))
}

impl From<WalkError> for ElementsError {
    fn from(error: WalkError) -> ElementsError {
        match error {
            WalkError::Truncated { .. }
            | WalkError::TooLong { .. }
            | WalkError::Unclosed
            | WalkError::Io(_) => ElementsError::Truncated,
            WalkError::BadVr { tag } | WalkError::UndefinedLength { tag } => {
                ElementsError::Bad { tag }
            }
            WalkError::Misplaced { tag } => ElementsError::Misplaced { tag },
            WalkError::TooDeep { .. } => ElementsError::TooDeep,
        }
    }
}

/// Writes a data set: elements in the order in which they are given, which must ascend.
#[derive(Debug, Clone)]
pub struct Encoder {
    bytes: Vec<u8>,
    implicit: bool,
}

impl Encoder {
    pub fn new(transfer_syntax: &str) -> Encoder {
        let implicit = transfer_syntax == uids::IMPLICIT_VR_LITTLE_ENDIAN;
        Encoder { bytes: Vec::new(), implicit }
    }

    fn header(&mut self, tag: Tag, vr: VR, length: usize) {
        let length = u32::try_from(length).expect("what is written here is small");
        self.bytes.extend_from_slice(&tag.0.to_le_bytes());
        self.bytes.extend_from_slice(&tag.1.to_le_bytes());
        if self.implicit {
            self.bytes.extend_from_slice(&length.to_le_bytes());
            return;
        }
        self.bytes.extend_from_slice(vr.to_string().as_bytes());
        if has_short_length(vr) {
            let short = u16::try_from(length).expect("values with a short length are short");
            self.bytes.extend_from_slice(&short.to_le_bytes());
        } else {
            self.bytes.extend_from_slice(&[0, 0]);
            self.bytes.extend_from_slice(&length.to_le_bytes());
        }
    }

    pub fn text(&mut self, tag: Tag, vr: VR, value: &str) -> &mut Encoder {
        let odd = value.len() % 2;
        self.header(tag, vr, value.len() + odd);
        self.bytes.extend_from_slice(value.as_bytes());
        let padding = if vr == VR::UI { 0 } else { b' ' };
        self.bytes.extend(std::iter::repeat_n(padding, odd));
        self
    }

    pub fn uid(&mut self, tag: Tag, value: &str) -> &mut Encoder {
        self.text(tag, VR::UI, value)
    }

    pub fn number(&mut self, tag: Tag, value: u16) -> &mut Encoder {
        self.header(tag, VR::US, 2);
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A sequence of one item for each of `of`, filled by `item`.
    pub fn sequence<T>(
        &mut self,
        tag: Tag,
        of: &[T],
        mut item: impl FnMut(&mut Encoder, &T),
    ) -> &mut Encoder {
        let mut content = Encoder { bytes: Vec::new(), implicit: self.implicit };
        for one in of {
            let mut inner = Encoder { bytes: Vec::new(), implicit: self.implicit };
            item(&mut inner, one);
            content.bytes.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
            let length = u32::try_from(inner.bytes.len()).expect("an item is small");
            content.bytes.extend_from_slice(&length.to_le_bytes());
            content.bytes.extend_from_slice(&inner.bytes);
        }
        self.header(tag, VR::SQ, content.bytes.len());
        self.bytes.extend_from_slice(&content.bytes);
        self
    }

    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use dicom_dictionary_std::tags;

    use super::*;

    fn example(syntax: &str) -> Vec<u8> {
        let mut data = Encoder::new(syntax);
        data.number(tags::FAILURE_REASON, 0x0112);
        data.uid(tags::TRANSACTION_UID, "1.2.3");
        data.sequence(tags::REFERENCED_SOP_SEQUENCE, &["1.2.5", "1.2.60"], |item, uid| {
            item.uid(tags::REFERENCED_SOP_CLASS_UID, "1.2.840.10008.5.1.4.1.1.2");
            item.uid(tags::REFERENCED_SOP_INSTANCE_UID, uid);
        });
        data.finish()
    }

    #[test]
    fn what_is_written_is_read_back_in_both_syntaxes() {
        for syntax in SYNTAXES {
            let bytes = example(syntax);
            let read = Elements::read(&bytes, syntax).unwrap();
            assert_eq!(read.text(tags::TRANSACTION_UID), "1.2.3");
            assert_eq!(read.number(tags::FAILURE_REASON), Some(0x0112));
            let items = read.items(tags::REFERENCED_SOP_SEQUENCE);
            let uids: Vec<String> =
                items.iter().map(|i| i.text(tags::REFERENCED_SOP_INSTANCE_UID)).collect();
            assert_eq!(uids, ["1.2.5", "1.2.60"]);
            assert!(!read.has(tags::PATIENT_NAME) && read.items(tags::PATIENT_NAME).is_empty());
        }
    }

    #[test]
    fn undefined_lengths_are_read() {
        let open: Vec<u8> = [
            &[0x08, 0, 0x99, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255][..],
            &[0xFE, 0xFF, 0, 0xE0, 255, 255, 255, 255],
            &[0x08, 0, 0x55, 0x11, b'U', b'I', 4, 0, b'1', b'.', b'2', 0],
            &[0xFE, 0xFF, 0x0D, 0xE0, 0, 0, 0, 0],
            &[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0],
        ]
        .concat();
        let read = Elements::read(&open, uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
        let items = read.items(tags::REFERENCED_SOP_SEQUENCE);
        assert_eq!(items[0].text(tags::REFERENCED_SOP_INSTANCE_UID), "1.2");
    }

    /// P81 to P87: an error, at once, whatever is cut or changed.
    #[test]
    fn a_hostile_data_set_is_an_error_and_nothing_else() {
        for syntax in SYNTAXES {
            let good = example(syntax);
            for cut in 1..good.len() {
                let _ = Elements::read(&good[..cut], syntax);
            }
            for at in 0..good.len() {
                for value in [0, 1, 0x7F, 0xFF] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let _ = Elements::read(&bad, syntax);
                }
            }
        }
        let nested = [
            8, 0, 0x99, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255, 0xFE, 0xFF, 0, 0xE0, 255, 255,
            255, 255,
        ]
        .repeat(100_000);
        let explicit = uids::EXPLICIT_VR_LITTLE_ENDIAN;
        assert_eq!(Elements::read(&nested, explicit), Err(ElementsError::TooDeep));
        let many = [8, 0, 0x50, 0, b'S', b'H', 0, 0].repeat(ELEMENTS_MAX + 1);
        assert_eq!(Elements::read(&many, explicit), Err(ElementsError::TooMany));
        let long = [8, 0, 0x99, 0x11, b'O', b'B', 0, 0, 0xF0, 255, 255, 255];
        assert_eq!(Elements::read(&long, explicit), Err(ElementsError::Truncated));
        assert_eq!(Elements::read(&[], explicit), Ok(Elements::default()));
    }
}
