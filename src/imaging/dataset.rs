//! Reads a Part 10 file from outside without trusting it: flat, bounded, lazily.
//!
//! Only the part before Pixel Data is held in memory, at most [`HEADER_MAX_BYTES`]; no length
//! is believed before the bytes are there, nothing recurses, and a sequence is only looked into
//! when somebody asks for its items. Nesting is limited to [`DEPTH_MAX`].

use std::fs::File;
use std::io::BufRead;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::charset;
pub use crate::dicom::walk::Encoding;
use crate::dicom::walk::Event;
use crate::dicom::walk::IMPLICIT;
use crate::dicom::walk::InFile;
use crate::dicom::walk::Place;
use crate::dicom::walk::Walk;
use crate::dicom::walk::WalkError;
use crate::domain::uid::TransferSyntaxUid;

/// Everything before Pixel Data; ten thousand frames of functional groups need about 20 MB.
const HEADER_MAX_BYTES: u64 = 128 << 20;
/// A single value longer than this is stepped over (encapsulated documents, private blobs).
const VALUE_MAX_BYTES: u64 = 4 << 20;
/// Inflated size of a deflated data set; above the second, not more than so many times what it was:
/// images are a tenth or a hundredth, what is made to fill the memory a thousandth.
const INFLATED_MAX_BYTES: u64 = 512 << 20;
const INFLATED_UNASKED_BYTES: u64 = 64 << 20;
const INFLATED_RATIO_MAX: u64 = 150;
/// Sequences in sequences.
const DEPTH_MAX: usize = 64;
/// Elements in one data set or item.
const ELEMENTS_MAX: usize = 200_000;
/// Explicit VR Big Endian: retired, still in archives.
pub const BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";
/// GE's private syntax: implicit little endian with big endian pixels.
pub const GE_PRIVATE: &str = "1.2.840.113619.5.2";

/// Why a file cannot be read. Holds no value from the file.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("the file cannot be opened or read: {0}")]
    Io(#[from] std::io::Error),
    #[error("the file is not DICOM Part 10: {0}")]
    NotDicom(&'static str),
    #[error("the data set is malformed: {what} at byte {at}")]
    Malformed { what: &'static str, at: u64 },
    #[error("the data set is larger than this software reads: {0}")]
    TooLarge(&'static str),
    #[error("the data set has no usable {0}")]
    Missing(&'static str),
}

/// Where Pixel Data lies in the source.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelElement {
    pub tag: Tag,
    pub vr: VR,
    /// First byte of the value.
    pub offset: u64,
    /// `None` for undefined length: encapsulated.
    pub length: Option<u64>,
}

/// A value that stays in the source: its first byte and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub offset: u64,
    pub length: u64,
}

trait ReadSeek: BufRead + Seek + Send {}
impl<T: BufRead + Seek + Send> ReadSeek for T {}

/// An opened file: its header in memory, its pixels where they are.
pub struct DataSet {
    buffer: Vec<u8>,
    index: Vec<Entry>,
    encoding: Encoding,
    pub transfer_syntax: TransferSyntaxUid,
    pub pixels: Option<PixelElement>,
    /// Specific Character Set (0008,0005), its values.
    character_set: Arc<[String]>,
    source: Box<dyn ReadSeek>,
    source_bytes: u64,
    /// Whether positions of the source are those of the file: it was not inflated.
    pub in_file: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    tag: Tag,
    vr: VR,
    range: Range<usize>,
    encoding: Encoding,
    outside: Option<Span>,
}

impl DataSet {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`Unreadable`] when it is no DICOM, breaks off, or breaks a limit.
    pub fn open(path: &Path) -> Result<DataSet, Unreadable> {
        let file = File::open(path)?;
        let bytes = file.metadata()?.len();
        DataSet::read(Box::new(std::io::BufReader::with_capacity(64 << 10, file)), bytes)
    }

    /// The same for bytes in memory.
    #[cfg(test)]
    pub fn of(bytes: Vec<u8>) -> Result<DataSet, Unreadable> {
        let length = bytes.len() as u64;
        DataSet::read(Box::new(Cursor::new(bytes)), length)
    }

    fn read(mut source: Box<dyn ReadSeek>, source_bytes: u64) -> Result<DataSet, Unreadable> {
        let start = Start::find(&mut *source)?;
        let syntax = start.transfer_syntax.as_str();
        let deflated = matches!(
            syntax,
            uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
                | uids::JPIP_REFERENCED_DEFLATE
                | uids::JPIPHTJ2K_REFERENCED_DEFLATE
        );
        let (mut source, source_bytes, at) = match deflated {
            true => {
                source.seek(SeekFrom::Start(start.data_set_at))?;
                let inflated = inflate(&mut *source)?;
                let bytes = inflated.len() as u64;
                (Box::new(Cursor::new(inflated)) as Box<dyn ReadSeek>, bytes, 0)
            }
            false => (source, source_bytes, start.data_set_at),
        };
        let encoding = start.encoding;
        source.seek(SeekFrom::Start(at))?;
        let source = InFile::new(source, at, source_bytes);
        let mut walk = Walk::new(source, at, encoding, DEPTH_MAX).ending_at_pixels();
        let (places, pixels) = index(&mut walk)?;
        let mut opened = DataSet {
            buffer: Vec::new(),
            index: Vec::new(),
            encoding,
            transfer_syntax: start.transfer_syntax,
            pixels,
            character_set: Arc::default(),
            source: walk.source.into_inner(),
            source_bytes,
            in_file: !deflated,
        };
        opened.load(&places)?;
        let set = opened.fields().plain_strings(tags::SPECIFIC_CHARACTER_SET);
        opened.character_set = set.into();
        Ok(opened)
    }

    /// Reads what stands before the pixels; long values stay where they are.
    fn load(&mut self, places: &[Place]) -> Result<(), Unreadable> {
        let mut position = self.source.stream_position()?;
        for place in places {
            let Place { tag, vr, at, encoding, .. } = *place;
            let length = place.length.unwrap_or_default();
            let begin = self.buffer.len();
            let is_long = length > VALUE_MAX_BYTES && vr != VR::SQ;
            let outside = is_long.then_some(Span { offset: at, length });
            if !is_long {
                if begin as u64 + length > HEADER_MAX_BYTES {
                    return Err(Unreadable::TooLarge("its header"));
                }
                // Positions lie in a file: they fit.
                self.source.seek_relative(at as i64 - position as i64)?;
                let read = (&mut self.source).take(length).read_to_end(&mut self.buffer)?;
                position = at + read as u64;
                if (read as u64) < length {
                    return Err(Unreadable::Malformed { what: "an element breaks off", at });
                }
            }
            let range = begin..self.buffer.len();
            self.index.push(Entry { tag, vr, range, encoding, outside });
        }
        Ok(())
    }

    /// The top level.
    pub fn fields(&self) -> Fields<'_> {
        let elements = self.index.iter().map(|entry| Element {
            tag: entry.tag,
            vr: entry.vr,
            bytes: &self.buffer[entry.range.clone()],
            encoding: entry.encoding,
            outside: entry.outside,
        });
        Fields { elements: elements.collect(), character_set: Arc::clone(&self.character_set) }
    }

    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes of the source from `offset`, never more than it has.
    ///
    /// # Errors
    /// When fewer than `length` bytes follow, before anything is allocated.
    pub fn bytes(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, Unreadable> {
        let end = offset.checked_add(length).filter(|end| *end <= self.source_bytes);
        if end.is_none() {
            return Err(Unreadable::Malformed { what: "value beyond the end", at: offset });
        }
        let length = usize::try_from(length).map_err(|_| Unreadable::TooLarge("a value"))?;
        let mut out = vec![0; length];
        self.source.seek(SeekFrom::Start(offset))?;
        self.source.read_exact(&mut out)?;
        Ok(out)
    }

    /// Bytes that the source has from `offset`.
    pub fn available(&self, offset: u64) -> u64 {
        self.source_bytes.saturating_sub(offset)
    }
}

/// Where the data set begins and how it is written.
struct Start {
    data_set_at: u64,
    encoding: Encoding,
    transfer_syntax: TransferSyntaxUid,
}

impl Start {
    /// Preamble and File Meta Information; both may be missing, then the encoding is guessed
    /// from the first element.
    fn find(source: &mut dyn ReadSeek) -> Result<Start, Unreadable> {
        let mut head = Vec::new();
        source.take(64 << 10).read_to_end(&mut head)?;
        let with_preamble = head.get(128..132) == Some(b"DICM");
        let mut at = if with_preamble { 132 } else { 0 };
        let explicit = Encoding { implicit: false, big: false };
        let mut transfer_syntax = None;
        while head.get(at..at + 2) == Some(&[2, 0]) {
            let element = Walk::new(&head[..], at as u64, explicit, DEPTH_MAX).next();
            let Ok(Some(Event::Value(Place { tag, at: value, length: Some(length), .. }))) =
                element
            else {
                return Err(Unreadable::NotDicom("its file meta information breaks off"));
            };
            let end = (value + length) as usize;
            if tag == tags::TRANSFER_SYNTAX_UID {
                let text = String::from_utf8_lossy(&head[value as usize..end]);
                transfer_syntax = TransferSyntaxUid::parse(&text).ok();
            }
            at = end;
        }
        let first = head.get(at..at + 2).map_or([0; 2], |b| [b[0], b[1]]);
        let group = u16::from_le_bytes(first).min(u16::from_be_bytes(first));
        if at == 0 && !(1..=0x20).contains(&group) {
            return Err(Unreadable::NotDicom("it has no preamble and begins like no data set"));
        }
        let guessed = guess(head.get(at..).unwrap_or_default());
        let Some(guessed) = guessed else {
            return Err(Unreadable::NotDicom("no data set follows its head"));
        };
        let uid = transfer_syntax.as_ref().map(|uid| uid.as_str().to_owned());
        let encoding = match uid.as_deref() {
            Some(uids::IMPLICIT_VR_LITTLE_ENDIAN) => IMPLICIT,
            Some(BIG_ENDIAN) => Encoding { implicit: false, big: true },
            Some(GE_PRIVATE) => IMPLICIT,
            Some(_) => explicit,
            None => guessed,
        };
        let name = match (encoding.implicit, encoding.big) {
            (true, _) => uids::IMPLICIT_VR_LITTLE_ENDIAN,
            (false, true) => BIG_ENDIAN,
            (false, false) => uids::EXPLICIT_VR_LITTLE_ENDIAN,
        };
        let transfer_syntax = match transfer_syntax {
            Some(uid) => uid,
            None => TransferSyntaxUid::parse(name).expect("a UID of the standard"),
        };
        // Some devices write implicit VR under an explicit syntax, and the reverse.
        let deflated = transfer_syntax.as_str() == uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN;
        let encoding = match deflated {
            true => explicit,
            false if !encoding.big && !guessed.big => guessed,
            false => encoding,
        };
        Ok(Start { data_set_at: at as u64, encoding, transfer_syntax })
    }
}

/// How the first element seems to be written: its VR says explicit, its group says the order.
fn guess(first: &[u8]) -> Option<Encoding> {
    let head = first.get(..8)?;
    let known = |vr: &[u8]| <[u8; 2]>::try_from(vr).ok().and_then(VR::from_binary).is_some();
    let big = head[0] == 0 && head[1] != 0 && head[1] < 0x60;
    Some(Encoding { implicit: !known(&head[4..6]), big: big && known(&head[4..6]) })
}

fn inflate(source: &mut dyn ReadSeek) -> Result<Vec<u8>, Unreadable> {
    let broken = |_| Unreadable::Malformed { what: "broken deflate stream", at: 0 };
    let begin = source.stream_position().map_err(broken)?;
    let end = source.seek(SeekFrom::End(0)).map_err(broken)?;
    source.seek(SeekFrom::Start(begin)).map_err(broken)?;
    let by_ratio = end.saturating_sub(begin).saturating_mul(INFLATED_RATIO_MAX);
    let bytes_max = by_ratio.clamp(INFLATED_UNASKED_BYTES, INFLATED_MAX_BYTES);
    let mut out = Vec::new();
    let mut limited = flate2::read::DeflateDecoder::new(source).take(bytes_max + 1);
    let ended = limited.read_to_end(&mut out);
    match ended {
        Ok(_) if out.len() as u64 > bytes_max => {
            Err(Unreadable::TooLarge("it inflates beyond the limit"))
        }
        Ok(_) => Ok(out),
        Err(_) => Err(Unreadable::Malformed { what: "broken deflate stream", at: 0 }),
    }
}

/// Walks the top level up to Pixel Data.
fn index(walk: &mut Walk<InFile<Box<dyn ReadSeek>>>) -> Result<Index, Unreadable> {
    let mut places: Vec<Place> = Vec::new();
    loop {
        if places.len() > ELEMENTS_MAX {
            return Err(Unreadable::TooLarge("more elements than the limit"));
        }
        let event = walk.next().map_err(|error| malformed(error, walk.at()))?;
        match event {
            None => return Ok((places, None)),
            Some(Event::Pixels(place)) => {
                let is_pixels = matches!(
                    place.tag,
                    tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA
                );
                let Place { tag, vr, at: offset, length, .. } = place;
                let pixels = PixelElement { tag, vr, offset, length };
                return Ok((places, is_pixels.then_some(pixels)));
            }
            Some(Event::Value(place)) if walk.depth() == 0 => places.push(place),
            Some(Event::Open(place)) if walk.depth() == 1 => {
                places.push(place);
                walk.step_over();
            }
            Some(Event::Close { end }) if walk.depth() == 0 => close(places.last_mut(), end),
            Some(_) => {}
        }
    }
}

type Index = (Vec<Place>, Option<PixelElement>);

/// Where a sequence ends that did not say so.
fn close(open: Option<&mut Place>, end: u64) {
    if let Some(place) = open {
        place.length.get_or_insert(end.saturating_sub(place.at));
    }
}

fn malformed(error: WalkError, at: u64) -> Unreadable {
    let what = match error {
        WalkError::Io(error) => return Unreadable::Io(error),
        WalkError::Truncated { .. } => "an element breaks off",
        WalkError::TooLong { .. } => "value beyond the end",
        WalkError::UndefinedLength { .. } => "a value without length",
        WalkError::BadVr { .. } => "no VR where one must be",
        WalkError::Misplaced { .. } => "a delimiter out of place",
        WalkError::TooDeep { .. } => "sequences nested too deeply",
        WalkError::Unclosed => "a sequence without end",
    };
    Unreadable::Malformed { what, at }
}

/// One element, its value as it stands in the file.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    pub tag: Tag,
    pub vr: VR,
    pub bytes: &'a [u8],
    pub encoding: Encoding,
    /// Where a value is that was stepped over; `bytes` is empty then.
    pub outside: Option<Span>,
}

/// The elements of a data set or of an item, in their order.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    elements: Vec<Element<'a>>,
    /// Specific Character Set, its values.
    character_set: Arc<[String]>,
}

impl<'a> Fields<'a> {
    /// Elements of an item; those after damage that nothing bounds are left out.
    fn of(bytes: &'a [u8], encoding: Encoding, character_set: Arc<[String]>) -> Fields<'a> {
        let mut places: Vec<Place> = Vec::new();
        let mut walk = Walk::new(bytes, 0, encoding, DEPTH_MAX);
        while let Ok(Some(event)) = walk.next()
            && places.len() <= ELEMENTS_MAX
        {
            match (event, walk.depth()) {
                (Event::Value(place), 0) => places.push(place),
                (Event::Open(place), 1) => {
                    places.push(place);
                    walk.step_over();
                }
                (Event::Close { end }, 0) => close(places.last_mut(), end),
                _ => {}
            }
        }
        let elements = places.into_iter().filter_map(|place| {
            let (at, length) = (place.at as usize, place.length? as usize);
            let value = bytes.get(at..at.checked_add(length)?)?;
            let Place { tag, vr, encoding, .. } = place;
            Some(Element { tag, vr, bytes: value, encoding, outside: None })
        });
        let mut fields = Fields { elements: elements.collect(), character_set };
        // An item may have its own (PS3.3 C.12.1.1.2).
        let own = fields.plain_strings(tags::SPECIFIC_CHARACTER_SET);
        if !own.is_empty() {
            fields.character_set = own.into();
        }
        fields
    }

    /// The first element with this tag that has a value.
    pub fn get(&self, tag: Tag) -> Option<Element<'a>> {
        self.elements.iter().find(|e| e.tag == tag && !e.bytes.is_empty()).copied()
    }

    /// All of them, as they stand.
    pub fn elements(&self) -> &[Element<'a>] {
        &self.elements
    }

    /// Items of a sequence, at most `max`.
    pub fn items(&self, tag: Tag, max: usize) -> Vec<Fields<'a>> {
        let Some(sequence) = self.get(tag) else { return Vec::new() };
        self.items_of(sequence, max)
    }

    /// The same of an element of these fields.
    pub fn items_of(&self, sequence: Element<'a>, max: usize) -> Vec<Fields<'a>> {
        let bytes = sequence.bytes;
        let mut walk = Walk::items(bytes, sequence.encoding, DEPTH_MAX);
        let (mut items, mut open) = (Vec::new(), None);
        while items.len() < max
            && let Ok(Some(event)) = walk.next()
        {
            match (event, walk.depth()) {
                (Event::Item { at, encoding }, 2) => {
                    open = Some((at as usize, encoding));
                    walk.step_over();
                }
                (Event::Close { end }, 1) => {
                    let Some((at, encoding)) = open.take() else { continue };
                    let Some(content) = bytes.get(at..end as usize) else { break };
                    let set = Arc::clone(&self.character_set);
                    items.push(Fields::of(content, encoding, set));
                }
                _ => {}
            }
        }
        items
    }

    /// The first item of a sequence.
    pub fn item(&self, tag: Tag) -> Option<Fields<'a>> {
        self.items(tag, 1).into_iter().next()
    }

    /// Text values, decoded by the data set's character sets, trimmed, free of control
    /// characters. Absent and empty are the same.
    pub fn strings(&self, tag: Tag) -> Vec<String> {
        let Some(element) = self.get(tag) else { return Vec::new() };
        let bytes = &element.bytes[..element.bytes.len().min(TEXT_MAX_BYTES)];
        let sets: Vec<&str> = self.character_set.iter().map(String::as_str).collect();
        let vr = match StandardDataDictionary.by_tag(tag) {
            Some(entry) => entry.vr.relaxed(),
            None => element.vr,
        };
        let values = charset::decode_values(bytes, &sets, vr);
        values.iter().map(|text| clean(text)).collect()
    }

    /// Text values of an element, decoded by the data set's character sets where `vr` knows them,
    /// without padding and else as they stand.
    pub fn texts(&self, element: Element<'a>, vr: VR) -> Vec<String> {
        let sets: Vec<&str> = match vr {
            VR::LO | VR::LT | VR::PN | VR::SH | VR::ST | VR::UC | VR::UT => {
                self.character_set.iter().map(String::as_str).collect()
            }
            _ => Vec::new(),
        };
        charset::decode_values(element.bytes, &sets, vr)
    }

    /// Values of a VR that knows no character sets (CS, UI, DS, IS …).
    pub fn plain_strings(&self, tag: Tag) -> Vec<String> {
        let Some(element) = self.get(tag) else { return Vec::new() };
        let bytes = &element.bytes[..element.bytes.len().min(TEXT_MAX_BYTES)];
        let text: String =
            bytes.iter().map(|b| if b.is_ascii() { *b as char } else { '?' }).collect();
        clean(&text).split('\\').map(|part| part.trim().to_owned()).collect()
    }

    pub fn plain(&self, tag: Tag) -> String {
        self.plain_strings(tag).into_iter().next().unwrap_or_default()
    }

    /// Numbers, whatever the VR that the file uses: text (DS, IS) or binary.
    pub fn numbers(&self, tag: Tag) -> Vec<f64> {
        let Some(element) = self.get(tag) else { return Vec::new() };
        let known = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr.relaxed());
        let vr = match element.vr {
            VR::UN => known.unwrap_or(VR::UN),
            vr => vr,
        };
        let numbers: Vec<f64> = match vr {
            VR::US | VR::OW => self.words(element).map(f64::from).collect(),
            VR::SS => self.words(element).map(|w| f64::from(w as i16)).collect(),
            VR::UL => four(element).map(f64::from).collect(),
            VR::SL => four(element).map(|w| f64::from(w as i32)).collect(),
            VR::FL | VR::OF => four(element).map(|w| f64::from(f32::from_bits(w))).collect(),
            VR::FD | VR::OD => eight(element).map(f64::from_bits).collect(),
            _ => self
                .plain_strings(tag)
                .iter()
                .map(|text| text.replace(',', ".").parse().unwrap_or(f64::NAN))
                .collect(),
        };
        numbers.into_iter().filter(|number| number.is_finite()).take(NUMBERS_MAX).collect()
    }

    pub fn number(&self, tag: Tag) -> Option<f64> {
        self.numbers(tag).first().copied()
    }

    /// A count: not negative, whole.
    pub fn count(&self, tag: Tag) -> Option<u32> {
        let number = self.number(tag)?;
        (number >= 0.0 && number <= f64::from(u32::MAX)).then_some(number as u32)
    }

    /// 16-bit words of a value, e.g. of a look-up table; 8-bit values are not widened.
    pub fn words(&self, element: Element<'a>) -> impl Iterator<Item = u16> + use<'a> {
        let big = element.encoding.big;
        element.bytes.chunks_exact(2).map(move |b| match big {
            true => u16::from_be_bytes([b[0], b[1]]),
            false => u16::from_le_bytes([b[0], b[1]]),
        })
    }
}

const TEXT_MAX_BYTES: usize = 64 << 10;
const NUMBERS_MAX: usize = 100_000;

fn four(element: Element<'_>) -> impl Iterator<Item = u32> + use<'_> {
    let big = element.encoding.big;
    element.bytes.chunks_exact(4).map(move |b| match big {
        true => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
        false => u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
    })
}

fn eight(element: Element<'_>) -> impl Iterator<Item = u64> + use<'_> {
    let big = element.encoding.big;
    element.bytes.chunks_exact(8).map(move |b| {
        let b: [u8; 8] = b.try_into().expect("chunks of eight");
        if big { u64::from_be_bytes(b) } else { u64::from_le_bytes(b) }
    })
}

/// Without padding and control characters; line breaks become spaces.
fn clean(text: &str) -> String {
    let spaced = text.trim_end_matches(['\0', ' ']).trim_start();
    spaced
        .chars()
        .filter_map(|c| match c {
            '\n' | '\r' | '\t' | '\u{c}' => Some(' '),
            c if c.is_control() || is_invisible(c) => None,
            c => Some(c),
        })
        .collect()
}

/// Characters that reorder or hide text (bidirectional overrides, zero-width, tags).
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A Part 10 file around a data set.
    pub fn part10(transfer_syntax: &str, data_set: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 128];
        file.extend(b"DICM");
        let mut uid = transfer_syntax.as_bytes().to_vec();
        uid.resize(uid.len().next_multiple_of(2), 0);
        file.extend([2, 0, 0x10, 0, b'U', b'I']);
        file.extend((uid.len() as u16).to_le_bytes());
        file.extend(uid);
        file.extend(data_set);
        file
    }

    /// An explicit little endian element of a VR with a 4-byte length.
    pub fn long(tag: Tag, vr: &[u8; 2], length: u32, value: &[u8]) -> Vec<u8> {
        let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        out.extend(vr);
        out.extend([0, 0]);
        out.extend(length.to_le_bytes());
        out.extend(value);
        out
    }

    pub fn short(tag: Tag, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
        let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        out.extend(vr);
        out.extend((value.len() as u16).to_le_bytes());
        out.extend(value);
        out
    }

    fn item(length: u32) -> Vec<u8> {
        let mut out = vec![0xfe, 0xff, 0x00, 0xe0];
        out.extend(length.to_le_bytes());
        out
    }

    /// `depth` sequences in each other, of undefined or of defined length.
    pub fn nested(depth: usize, undefined: bool) -> Vec<u8> {
        let mut inner = short(tags::MODALITY, b"CS", b"CT");
        for _ in 0..depth {
            let (length, end) = match undefined {
                true => (u32::MAX, [0xfe, 0xff, 0x0d, 0xe0, 0, 0, 0, 0].to_vec()),
                false => (inner.len() as u32, Vec::new()),
            };
            let content = [item(length), inner, end].concat();
            let (length, end) = match undefined {
                true => (u32::MAX, [0xfe, 0xff, 0xdd, 0xe0, 0, 0, 0, 0].to_vec()),
                false => (content.len() as u32, Vec::new()),
            };
            let head = long(tags::REFERENCED_STUDY_SEQUENCE, b"SQ", length, &content);
            inner = [head, end].concat();
        }
        part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &inner)
    }

    #[test]
    fn nesting_is_bounded_and_takes_no_stack() {
        assert!(DataSet::of(nested(60, true)).is_ok());
        let started = std::time::Instant::now();
        for depth in [70, 2_000, 100_000] {
            let opened = DataSet::of(nested(depth.min(3_000), true));
            assert!(matches!(opened, Err(Unreadable::Malformed { .. })), "{depth}");
        }
        // Of defined length: one value, looked into one level at a time.
        let opened = DataSet::of(nested(2_000, false)).unwrap();
        assert_eq!(opened.fields().items(tags::REFERENCED_STUDY_SEQUENCE, 9).len(), 1);
        assert!(started.elapsed().as_secs() < 5);
    }

    #[test]
    fn no_length_is_believed() {
        for length in [0xffff_fff0, 0x7fff_ffff, 9] {
            for vr in [b"OB", b"UT", b"UN", b"SQ"] {
                let element = long(Tag(0x0009, 0x1001), vr, length, b"12345678");
                let opened = DataSet::of(part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &element));
                assert!(opened.is_err(), "{vr:?} {length}");
            }
        }
        let endless = long(tags::REFERENCED_STUDY_SEQUENCE, b"SQ", u32::MAX, &item(u32::MAX));
        assert!(DataSet::of(part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &endless)).is_err());
        for rubbish in [&b""[..], b"DICM", &[0; 500], &[0xff; 500]] {
            assert!(DataSet::of(rubbish.to_vec()).is_err());
        }
    }

    /// A private element that is broken, before the UIDs or behind them, is as if it were not there.
    #[test]
    fn an_odd_element_costs_itself_and_not_the_image() {
        let modality = short(tags::MODALITY, b"CS", b"CT");
        let pixels = long(tags::PIXEL_DATA, b"OW", 4, b"abcd");
        let inside = [item(9), b"not a set".to_vec()].concat();
        let odd = [
            long(Tag(0x0009, 0x1001), b"??", 4, b"abcd"),
            long(Tag(0x0009, 0x1002), b"SQ", inside.len() as u32, &inside),
        ];
        for odd in odd {
            let id = short(tags::PATIENT_ID, b"LO", b"P1");
            let data_set = [modality.clone(), odd, id, pixels.clone()].concat();
            let opened = DataSet::of(part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &data_set)).unwrap();
            assert_eq!(opened.fields().plain(tags::PATIENT_ID), "P1");
            assert_eq!(opened.pixels.as_ref().map(|pixels| pixels.length), Some(Some(4)));
        }
    }

    /// PS3.5 6.2.2, as routers pass on what they do not know.
    #[test]
    fn the_items_of_a_sequence_are_read_also_as_un_of_defined_length() {
        let inside = b"\x28\0\x02\x30\x02\0\0\0\x08\0".to_vec();
        let content = [item(inside.len() as u32), inside].concat();
        let table = long(tags::VOILUT_SEQUENCE, b"UN", content.len() as u32, &content);
        let opened = DataSet::of(part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &table)).unwrap();
        let fields = opened.fields();
        let items = fields.items(tags::VOILUT_SEQUENCE, 9);
        assert_eq!(items[0].count(tags::LUT_DESCRIPTOR), Some(8));
    }

    /// PS3.3 C.12.1.1.2: worklist text in the image of an old device.
    #[test]
    fn an_item_may_have_a_character_set_of_its_own() {
        let text =
            |value: &str| short(tags::REASON_FOR_THE_REQUESTED_PROCEDURE, b"LO", value.as_bytes());
        let own =
            [short(tags::SPECIFIC_CHARACTER_SET, b"CS", b"ISO_IR 192"), text("흉통")].concat();
        let inherited = short(tags::REASON_FOR_THE_REQUESTED_PROCEDURE, b"LO", b"M\xfcll");
        let items = [item(own.len() as u32), own, item(inherited.len() as u32), inherited].concat();
        let length = items.len() as u32;
        let data_set = [
            short(tags::SPECIFIC_CHARACTER_SET, b"CS", b"ISO_IR 100"),
            long(tags::REQUEST_ATTRIBUTES_SEQUENCE, b"SQ", length, &items),
        ];
        let file = part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &data_set.concat());
        let opened = DataSet::of(file).unwrap();
        let read = |item: &Fields<'_>| item.strings(tags::REASON_FOR_THE_REQUESTED_PROCEDURE);
        let items = opened.fields().items(tags::REQUEST_ATTRIBUTES_SEQUENCE, 9);
        assert_eq!(items.iter().map(read).collect::<Vec<_>>(), [["흉통"], ["Müll"]]);
    }

    #[test]
    fn a_value_that_nobody_needs_is_stepped_over() {
        let document = long(tags::ENCAPSULATED_DOCUMENT, b"OB", 6 << 20, &vec![7; 6 << 20]);
        let after = short(Tag(0x0042, 0x0012), b"LO", b"application/pdf ");
        let file = part10(uids::EXPLICIT_VR_LITTLE_ENDIAN, &[document, after].concat());
        let opened = DataSet::of(file).unwrap();
        assert!(opened.buffer.len() < 1 << 20);
        assert_eq!(opened.fields().plain(Tag(0x0042, 0x0012)), "application/pdf");
    }

    #[test]
    fn a_deflate_bomb_ends_at_the_limit() {
        use std::io::Write as _;
        let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        let zeros = vec![0; 1 << 20];
        (0..520).for_each(|_| bomb.write_all(&zeros).unwrap());
        let bomb = bomb.finish().unwrap();
        let opened = DataSet::of(part10(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, &bomb));
        assert!(matches!(opened, Err(Unreadable::TooLarge(_))), "{:?}", opened.err());
    }
}
