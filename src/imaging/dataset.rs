//! Reads a Part 10 file from outside without trusting it: flat, bounded, lazily.
//!
//! Only the part before Pixel Data is held in memory, at most [`HEADER_MAX_BYTES`]; no length
//! is believed before the bytes are there, nothing recurses, and a sequence is only looked into
//! when somebody asks for its items. Nesting is limited to [`DEPTH_MAX`].

use std::fs::File;
use std::io::Cursor;
use std::io::Read;
use std::io::Seek;
use std::io::SeekFrom;
use std::ops::Range;
use std::path::Path;

use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::charset;
use crate::dicom::scan;
use crate::domain::uid::TransferSyntaxUid;

/// Everything before Pixel Data; ten thousand frames of functional groups need about 20 MB.
const HEADER_MAX_BYTES: usize = 128 << 20;
/// A single value longer than this is stepped over (encapsulated documents, private blobs).
const VALUE_MAX_BYTES: u32 = 4 << 20;
/// Inflated size of a deflated data set; above the second, not more than so many times what it was:
/// images are a tenth or a hundredth, what is made to fill the memory a thousandth.
const INFLATED_MAX_BYTES: u64 = 512 << 20;
const INFLATED_UNASKED_BYTES: u64 = 64 << 20;
const INFLATED_RATIO_MAX: u64 = 150;
/// Sequences in sequences.
const DEPTH_MAX: usize = 64;
/// Elements in one data set or item.
const ELEMENTS_MAX: usize = 200_000;
const UNDEFINED: u32 = u32::MAX;

const ITEM: Tag = Tag(0xfffe, 0xe000);
const ITEM_DELIMITATION_ITEM: Tag = Tag(0xfffe, 0xe00d);
const SEQUENCE_DELIMITATION_ITEM: Tag = Tag(0xfffe, 0xe0dd);
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

/// How elements are written: by transfer syntax, or implicit inside UN of undefined length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    pub implicit: bool,
    pub big: bool,
}

const IMPLICIT: Encoding = Encoding { implicit: true, big: false };

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

trait ReadSeek: Read + Seek + Send {}
impl<T: Read + Seek + Send> ReadSeek for T {}

/// An opened file: its header in memory, its pixels where they are.
pub struct DataSet {
    buffer: Vec<u8>,
    index: Vec<Entry>,
    encoding: Encoding,
    pub transfer_syntax: TransferSyntaxUid,
    pub pixels: Option<PixelElement>,
    /// Specific Character Set (0008,0005), its values.
    character_set: Vec<String>,
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
        let (source, source_bytes, at) = match deflated {
            true => {
                source.seek(SeekFrom::Start(start.data_set_at))?;
                let inflated = inflate(&mut *source)?;
                let bytes = inflated.len() as u64;
                (Box::new(Cursor::new(inflated)) as Box<dyn ReadSeek>, bytes, 0)
            }
            false => (source, source_bytes, start.data_set_at),
        };
        let encoding = start.encoding;
        let mut window = Window { source, at, end: source_bytes, buffer: Vec::new(), cut: at };
        window.source.seek(SeekFrom::Start(at))?;
        let (index, pixels) = scan(&mut window, encoding)?;
        let mut opened = DataSet {
            buffer: window.buffer,
            index,
            encoding,
            transfer_syntax: start.transfer_syntax,
            pixels,
            character_set: Vec::new(),
            source: window.source,
            source_bytes,
            in_file: !deflated,
        };
        let set = opened.fields().plain_strings(tags::SPECIFIC_CHARACTER_SET);
        opened.character_set = set;
        Ok(opened)
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
        Fields { elements: elements.collect(), character_set: &self.character_set }
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
            let head_of = element_head(&mut &head[..], at, explicit)?;
            let value = at + head_of.bytes;
            let end = value.saturating_add(head_of.length as usize);
            let Some(bytes) = head.get(value..end).filter(|_| head_of.length != UNDEFINED) else {
                return Err(Unreadable::NotDicom("its file meta information breaks off"));
            };
            if head_of.tag == tags::TRANSFER_SYNTAX_UID {
                let text = String::from_utf8_lossy(bytes);
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

/// Bytes that arrive when asked for: a slice, or a file read piece by piece.
trait Feed {
    fn need(&mut self, upto: usize) -> Result<(), Unreadable>;
    fn bytes(&self) -> &[u8];
    /// Whether nothing follows position `at`.
    fn ends_at(&mut self, at: usize) -> bool;
}

impl Feed for &[u8] {
    fn need(&mut self, upto: usize) -> Result<(), Unreadable> {
        match upto <= self.len() {
            true => Ok(()),
            false => Err(Unreadable::Malformed { what: "an element breaks off", at: upto as u64 }),
        }
    }

    fn bytes(&self) -> &[u8] {
        self
    }

    fn ends_at(&mut self, at: usize) -> bool {
        at >= self.len()
    }
}

/// The header of a file as it is read: values that are stepped over are cut out of `buffer`.
struct Window {
    source: Box<dyn ReadSeek>,
    /// Position of the source.
    at: u64,
    end: u64,
    buffer: Vec<u8>,
    /// Source position minus buffer position.
    cut: u64,
}

impl Window {
    const STEP: usize = 64 << 10;

    /// Steps over `length` bytes that follow buffer position `at`.
    fn skip(&mut self, at: usize, length: u64) -> Result<(), Unreadable> {
        let target = self.cut + at as u64 + length;
        if target > self.end {
            return Err(Unreadable::Malformed { what: "value beyond the end", at: self.at });
        }
        self.buffer.truncate(at);
        self.cut = target - at as u64;
        self.at = target;
        self.source.seek(SeekFrom::Start(target))?;
        Ok(())
    }
}

impl Feed for Window {
    fn need(&mut self, upto: usize) -> Result<(), Unreadable> {
        if upto <= self.buffer.len() {
            return Ok(());
        }
        let missing = (upto - self.buffer.len()) as u64;
        if self.at.checked_add(missing).is_none_or(|end| end > self.end) {
            return Err(Unreadable::Malformed { what: "an element breaks off", at: self.at });
        }
        if upto > HEADER_MAX_BYTES {
            return Err(Unreadable::TooLarge("its header"));
        }
        let step = missing.max(Window::STEP as u64).min(self.end - self.at);
        let read = (&mut self.source).take(step).read_to_end(&mut self.buffer)?;
        self.at += read as u64;
        match upto <= self.buffer.len() {
            true => Ok(()),
            false => Err(Unreadable::Malformed { what: "an element breaks off", at: self.at }),
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    fn ends_at(&mut self, at: usize) -> bool {
        self.cut + at as u64 >= self.end
    }
}

/// Tag, VR and length of one element and how many bytes they take.
#[derive(Debug, Clone, Copy)]
struct Head {
    tag: Tag,
    vr: VR,
    length: u32,
    bytes: usize,
}

fn element_head(feed: &mut impl Feed, at: usize, encoding: Encoding) -> Result<Head, Unreadable> {
    feed.need(at + 8)?;
    let u16_at = |feed: &dyn Fn(usize) -> [u8; 2], at: usize| match encoding.big {
        true => u16::from_be_bytes(feed(at)),
        false => u16::from_le_bytes(feed(at)),
    };
    let u32_of = |b: [u8; 4]| match encoding.big {
        true => u32::from_be_bytes(b),
        false => u32::from_le_bytes(b),
    };
    let (tag, code, short, long) = {
        let bytes = feed.bytes();
        let two = |at: usize| [bytes[at], bytes[at + 1]];
        let tag = Tag(u16_at(&two, at), u16_at(&two, at + 2));
        let long = u32_of([bytes[at + 4], bytes[at + 5], bytes[at + 6], bytes[at + 7]]);
        (tag, two(at + 4), u16_at(&two, at + 6), long)
    };
    if tag.0 == 0xfffe {
        return Ok(Head { tag, vr: VR::UN, length: long, bytes: 8 });
    }
    if encoding.implicit {
        return Ok(Head { tag, vr: implicit_vr(tag), length: long, bytes: 8 });
    }
    let vr = VR::from_binary(code);
    let is_short = vr.is_some_and(scan::has_short_length);
    if is_short {
        let vr = vr.unwrap_or(VR::UN);
        return Ok(Head { tag, vr, length: short.into(), bytes: 8 });
    }
    if vr.is_none() && !code.iter().all(|b| b.is_ascii_uppercase()) {
        return Err(Unreadable::Malformed { what: "no VR where one must be", at: at as u64 });
    }
    // Long form, also for VRs that are not known yet (PS3.5 7.1.2).
    feed.need(at + 12)?;
    let b = feed.bytes();
    let length = u32_of([b[at + 8], b[at + 9], b[at + 10], b[at + 11]]);
    Ok(Head { tag, vr: vr.unwrap_or(VR::UN), length, bytes: 12 })
}

fn implicit_vr(tag: Tag) -> VR {
    match StandardDataDictionary.by_tag(tag) {
        Some(entry) => entry.vr.relaxed(),
        None => VR::UN,
    }
}

/// The end of an undefined-length value that begins at `at`: where its content ends and where
/// the next element begins.
fn end_of_undefined(
    feed: &mut impl Feed,
    mut at: usize,
    encoding: Encoding,
) -> Result<(usize, usize), Unreadable> {
    /// What is open: a sequence (or UN), whose content is items, or an item.
    #[derive(Clone, Copy)]
    struct Open {
        item: bool,
        encoding: Encoding,
    }
    let malformed = |what, at: usize| Err(Unreadable::Malformed { what, at: at as u64 });
    let mut open = vec![Open { item: false, encoding }];
    while let Some(&Open { item, encoding }) = open.last() {
        if open.len() > 2 * DEPTH_MAX {
            return malformed("sequences nested too deeply", at);
        }
        let head = element_head(feed, at, encoding)?;
        let value = at + head.bytes;
        let closes = match (head.tag, item) {
            (ITEM, false) if head.length == UNDEFINED => {
                open.push(Open { item: true, encoding });
                at = value;
                continue;
            }
            (SEQUENCE_DELIMITATION_ITEM, false) => true,
            (ITEM_DELIMITATION_ITEM, true) => true,
            (ITEM, false) => false,
            (_, false) => return malformed("no item in a sequence", at),
            (tag, true) if tag.0 == 0xfffe => return malformed("a delimiter out of place", at),
            (_, true) if head.length == UNDEFINED => {
                let inner = match head.vr {
                    VR::UN if !encoding.implicit => IMPLICIT,
                    _ => encoding,
                };
                open.push(Open { item: false, encoding: inner });
                at = value;
                continue;
            }
            (_, true) => false,
        };
        if closes {
            open.pop();
            if open.is_empty() {
                return Ok((at, value));
            }
            at = value;
            continue;
        }
        let Some(end) = value.checked_add(head.length as usize) else {
            return malformed("an element breaks off", at);
        };
        feed.need(end)?;
        at = end;
    }
    malformed("a sequence without end", at)
}

/// Walks the top level up to Pixel Data.
fn scan(
    window: &mut Window,
    encoding: Encoding,
) -> Result<(Vec<Entry>, Option<PixelElement>), Unreadable> {
    let mut index = Vec::new();
    let mut at = 0;
    while !window.ends_at(at) {
        if index.len() > ELEMENTS_MAX {
            return Err(Unreadable::TooLarge("more elements than the limit"));
        }
        if padding_only(window, at)? {
            break;
        }
        let head = element_head(window, at, encoding)?;
        let value = at + head.bytes;
        if matches!(
            head.tag,
            tags::PIXEL_DATA | tags::FLOAT_PIXEL_DATA | tags::DOUBLE_FLOAT_PIXEL_DATA
        ) {
            let length = (head.length != UNDEFINED).then_some(u64::from(head.length));
            let offset = window.cut + value as u64;
            let vr = match (head.tag, encoding.implicit) {
                (tags::PIXEL_DATA, true) => VR::OW,
                _ => head.vr,
            };
            return Ok((index, Some(PixelElement { tag: head.tag, vr, offset, length })));
        }
        if head.tag.0 > 0x7fe0 {
            break;
        }
        if head.tag.0 == 0xfffe {
            return Err(Unreadable::Malformed { what: "a delimiter out of place", at: at as u64 });
        }
        let (tag, vr, range, outside) = (head.tag, head.vr, value..value, None);
        let mut entry = Entry { tag, vr, range, encoding, outside };
        if head.length == UNDEFINED {
            let un = head.vr == VR::UN && !encoding.implicit;
            entry.encoding = if un { IMPLICIT } else { encoding };
            entry.vr = VR::SQ;
            let (end, next) = end_of_undefined(window, value, entry.encoding)?;
            entry.range.end = end;
            at = next;
        } else if head.length > VALUE_MAX_BYTES && head.vr != VR::SQ {
            let length = head.length.into();
            entry.outside = Some(Span { offset: window.cut + value as u64, length });
            window.skip(value, length)?;
            at = value;
        } else {
            entry.range.end = value + head.length as usize;
            window.need(entry.range.end)?;
            at = entry.range.end;
        }
        index.push(entry);
    }
    Ok((index, None))
}

/// Whether fewer than 8 bytes are left, all zero: some writers round the file up.
fn padding_only(window: &mut Window, at: usize) -> Result<bool, Unreadable> {
    let left = window.end - (window.cut + at as u64);
    if left >= 8 {
        return Ok(false);
    }
    window.need(at + left as usize)?;
    Ok(window.buffer[at..].iter().all(|byte| *byte == 0))
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
    character_set: &'a [String],
}

impl<'a> Fields<'a> {
    /// Elements of an item; those after damage are left out.
    fn of(bytes: &'a [u8], encoding: Encoding, character_set: &'a [String]) -> Fields<'a> {
        let mut elements = Vec::new();
        let mut feed = bytes;
        let mut at = 0;
        while at < bytes.len() && elements.len() <= ELEMENTS_MAX {
            let Ok(head) = element_head(&mut feed, at, encoding) else { break };
            let value = at + head.bytes;
            let (tag, vr) = (head.tag, head.vr);
            let mut element = Element { tag, vr, bytes: &[], encoding, outside: None };
            if head.length == UNDEFINED {
                let un = head.vr == VR::UN && !encoding.implicit;
                element.encoding = if un { IMPLICIT } else { encoding };
                element.vr = VR::SQ;
                let Ok((end, next)) = end_of_undefined(&mut feed, value, element.encoding) else {
                    break;
                };
                element.bytes = &bytes[value..end];
                at = next;
            } else {
                let end = value.saturating_add(head.length as usize);
                let Some(value) = bytes.get(value..end) else { break };
                element.bytes = value;
                at = end;
            }
            elements.push(element);
        }
        Fields { elements, character_set }
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
        let encoding = sequence.encoding;
        let (bytes, mut feed) = (sequence.bytes, sequence.bytes);
        let mut items = Vec::new();
        let mut at = 0;
        while at < bytes.len() && items.len() < max {
            let Ok(head) = element_head(&mut feed, at, encoding) else { break };
            if head.tag != ITEM {
                break;
            }
            let value = at + head.bytes;
            let (end, next) = match head.length {
                UNDEFINED => match end_of_item(&mut feed, value, encoding) {
                    Ok(ends) => ends,
                    Err(_) => break,
                },
                length => (value + length as usize, value + length as usize),
            };
            let Some(content) = bytes.get(value..end) else { break };
            items.push(Fields::of(content, encoding, self.character_set));
            at = next;
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

/// The end of an undefined-length item: its content and the next item.
fn end_of_item(
    feed: &mut &[u8],
    mut at: usize,
    encoding: Encoding,
) -> Result<(usize, usize), Unreadable> {
    loop {
        let head = element_head(feed, at, encoding)?;
        let value = at + head.bytes;
        if head.tag == ITEM_DELIMITATION_ITEM {
            return Ok((at, value));
        }
        at = match head.length {
            UNDEFINED => {
                let un = head.vr == VR::UN && !encoding.implicit;
                let inner = if un { IMPLICIT } else { encoding };
                end_of_undefined(feed, value, inner)?.1
            }
            length => value.saturating_add(length as usize),
        };
        feed.need(at)?;
    }
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
