//! A flat look at a data set before anything parses it (PS3.5 7): lengths, nesting, and the UIDs
//! that a receiver needs.
//!
//! The parser that reads it later recurses into sequences and allocates what a length declares:
//! 30 KB of nested sequences overflow its stack, a 326-byte file takes 3 GiB. What passes here has
//! neither. No recursion, no allocation by a length, a small buffer over the bytes; large values
//! are skipped by a seek.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Seek;

use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::dictionary::DataDictionaryEntry as _;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use flate2::bufread::DeflateDecoder;

use crate::dicom::command::unpadded;
use crate::dicom::negotiation::EXPLICIT_VR_BIG_ENDIAN;
use crate::domain::uid::TransferSyntaxUid;

/// Study Priority ID, retired: old modalities still write it.
pub const STUDY_PRIORITY_ID: Tag = Tag(0x0032, 0x000C);

/// What a receiver needs of a data set. UIDs are without padding and not checked; empty when
/// there is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    pub study_uid: String,
    pub series_uid: String,
    pub sop_class_uid: String,
    pub sop_instance_uid: String,
    pub patient_id_present: bool,
    /// Image Type (0008,0008), cut to the length of a UID; empty where it stands twice and differs.
    pub image_type: String,
    /// Requested Procedure Priority (0040,1003), else the retired Study Priority ID (0032,000C).
    pub requested_priority: String,
    /// Where the data set is broken behind its UIDs, see [`scan_marked`]: no parser may see it.
    pub broken: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanLimits {
    /// Sequences inside each other. DCMTK has the same limit.
    pub depth_max: usize,
    /// Elements and items. Large structure sets have about a million.
    pub elements_max: u64,
    /// How much of a deflated data set is inflated here. It is looked at up to the pixels.
    pub inflated_bytes_max: u64,
}

impl Default for ScanLimits {
    fn default() -> ScanLimits {
        ScanLimits { depth_max: 64, elements_max: 4_000_000, inflated_bytes_max: 64 << 20 }
    }
}

/// What is wrong with a data set. Tags and numbers only: no value is shown.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error("data set is empty")]
    Empty,
    #[error("data set ends inside an element at byte {at}")]
    Truncated { at: u64 },
    #[error("{tag} has {length} bytes, {left} are left")]
    TooLong { tag: Tag, length: u64, left: u64 },
    #[error("{tag} has an undefined length, which its VR does not allow")]
    UndefinedLength { tag: Tag },
    #[error("{tag} has no valid VR")]
    BadVr { tag: Tag },
    #[error("{tag} stands where it must not")]
    Misplaced { tag: Tag },
    #[error("{tag} stands twice, with two values")]
    Repeated { tag: Tag },
    #[error("{tag} is longer than a UID can be")]
    UidTooLong { tag: Tag },
    #[error("sequences are nested deeper than {depth_max}")]
    TooDeep { depth_max: usize },
    #[error("a sequence or item has no end")]
    Unclosed,
    #[error("more than {elements_max} elements")]
    TooManyElements { elements_max: u64 },
    #[error("no UIDs in the first {bytes_max} inflated bytes")]
    TooMuchInflated { bytes_max: u64 },
    #[error("data set cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl ScanError {
    /// Whether devices are about that break their data sets so, and mean the rest.
    ///
    /// - `outside`: of every sequence, where a few bytes too many stand behind the last element.
    fn is_habit(&self, outside: bool) -> bool {
        match self {
            ScanError::BadVr { .. }
            | ScanError::Misplaced { .. }
            | ScanError::UndefinedLength { .. } => true,
            ScanError::Truncated { .. } => outside,
            ScanError::Empty
            | ScanError::TooLong { .. }
            | ScanError::Repeated { .. }
            | ScanError::UidTooLong { .. }
            | ScanError::TooDeep { .. }
            | ScanError::Unclosed
            | ScanError::TooManyElements { .. }
            | ScanError::TooMuchInflated { .. }
            | ScanError::Io(_) => false,
        }
    }

    /// Whether the machine failed, not the data set.
    pub fn is_io(&self) -> bool {
        match self {
            // What is no deflate stream is told as an I/O error by the inflater.
            ScanError::Io(error) => !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
            ),
            ScanError::Empty
            | ScanError::Truncated { .. }
            | ScanError::TooLong { .. }
            | ScanError::UndefinedLength { .. }
            | ScanError::BadVr { .. }
            | ScanError::Misplaced { .. }
            | ScanError::Repeated { .. }
            | ScanError::UidTooLong { .. }
            | ScanError::TooDeep { .. }
            | ScanError::Unclosed
            | ScanError::TooManyElements { .. }
            | ScanError::TooMuchInflated { .. } => false,
        }
    }
}

/// Scans a data set of `len` bytes (without preamble and file meta) in `transfer_syntax`.
///
/// A deflated one is inflated as far as its pixels or [`ScanLimits::inflated_bytes_max`]; the rest
/// is for the worker, which has limits of its own.
///
/// # Errors
/// [`ScanError`] names what makes the data set unfit for a parser.
pub fn scan(
    reader: impl BufRead + Seek,
    len: u64,
    transfer_syntax: &TransferSyntaxUid,
    limits: &ScanLimits,
) -> Result<Facts, ScanError> {
    let (facts, broken) = look(reader, len, transfer_syntax, limits)?;
    broken.map_or(Ok(facts), Err)
}

/// As [`scan`], but a data set that says what it is and is then broken in a way that some devices
/// break theirs (a VR that is none, an element where it must not stand, bytes behind the last one)
/// is no error: [`Facts::broken`] says where. What a parser could be harmed by stays one: nesting
/// without end, values longer than the data set.
pub fn scan_marked(
    reader: impl BufRead + Seek,
    len: u64,
    transfer_syntax: &TransferSyntaxUid,
    limits: &ScanLimits,
) -> Result<Facts, ScanError> {
    let (facts, broken) = look(reader, len, transfer_syntax, limits)?;
    Ok(Facts { broken: broken.map(|error| error.to_string()), ..facts })
}

/// [`scan_marked`] over a data set in memory.
pub fn scan_bytes_marked(
    bytes: &[u8],
    transfer_syntax: &TransferSyntaxUid,
    limits: &ScanLimits,
) -> Result<Facts, ScanError> {
    let (facts, broken) = look_at_bytes(bytes, transfer_syntax, limits)?;
    Ok(Facts { broken: broken.map(|error| error.to_string()), ..facts })
}

/// As [`look`], several times as fast.
fn look_at_bytes(
    bytes: &[u8],
    transfer_syntax: &TransferSyntaxUid,
    limits: &ScanLimits,
) -> Result<(Facts, Option<ScanError>), ScanError> {
    match plain(transfer_syntax) {
        _ if bytes.is_empty() => Err(ScanError::Empty),
        Some(encoding) => walk(Bytes { bytes, at: 0 }, encoding, limits),
        None => look(io::Cursor::new(bytes), bytes.len() as u64, transfer_syntax, limits),
    }
}

/// What was found, and where it is broken in the way of [`scan_marked`].
fn look(
    reader: impl BufRead + Seek,
    len: u64,
    transfer_syntax: &TransferSyntaxUid,
    limits: &ScanLimits,
) -> Result<(Facts, Option<ScanError>), ScanError> {
    match plain(transfer_syntax) {
        _ if len == 0 => Err(ScanError::Empty),
        Some(encoding) => walk(Plain { reader, at: 0, len }, encoding, limits),
        None => {
            let reader = BufReader::new(DeflateDecoder::new(reader));
            let input = Inflated { reader, at: 0, bytes_max: limits.inflated_bytes_max };
            walk(input, EXPLICIT, limits)
        }
    }
}

const EXPLICIT: Encoding = Encoding { implicit: false, big_endian: false };

/// How the data set is encoded; None: deflated.
fn plain(transfer_syntax: &TransferSyntaxUid) -> Option<Encoding> {
    match transfer_syntax.as_str() {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Some(Encoding { implicit: true, ..EXPLICIT }),
        EXPLICIT_VR_BIG_ENDIAN => Some(Encoding { big_endian: true, ..EXPLICIT }),
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        | uids::JPIP_REFERENCED_DEFLATE
        | uids::JPIPHTJ2K_REFERENCED_DEFLATE => None,
        // All others, named or not, are Explicit VR Little Endian around what they compress.
        _ => Some(EXPLICIT),
    }
}

#[derive(Debug, Clone, Copy)]
struct Encoding {
    implicit: bool,
    big_endian: bool,
}

impl Encoding {
    fn u16(self, b: [u8; 2]) -> u16 {
        if self.big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    fn u32(self, b: [u8; 4]) -> u32 {
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn tag(self, b: [u8; 4]) -> Tag {
        Tag(self.u16([b[0], b[1]]), self.u16([b[2], b[3]]))
    }
}

/// Bytes to walk over.
trait Input {
    fn at(&self) -> u64;
    /// Nothing may reach beyond this.
    fn end(&self) -> u64;
    fn is_at_end(&mut self) -> Result<bool, ScanError>;
    fn exact<const N: usize>(&mut self) -> Result<[u8; N], ScanError>;
    fn skip(&mut self, bytes: u64) -> Result<(), ScanError>;
    /// The next bytes, at most `bytes_max` of a value of `length`, and past the value.
    fn text(&mut self, length: u64, bytes_max: u64) -> Result<String, ScanError> {
        let kept = length.min(bytes_max);
        let mut value = Vec::new();
        for _ in 0..kept {
            let [byte] = self.exact()?;
            value.push(byte);
        }
        self.skip(length - kept)?;
        Ok(unpadded(&value))
    }
    /// Whether the walk may end at the pixels or at the limit: the rest was not asked for.
    fn is_partial(&self) -> bool;
}

struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bytes<'_> {
    fn next(&mut self, length: u64) -> Result<&[u8], ScanError> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
            Some(next) => {
                self.at += next.len();
                Ok(next)
            }
            None => Err(ScanError::Truncated { at: self.at as u64 }),
        }
    }
}

impl Input for Bytes<'_> {
    fn at(&self) -> u64 {
        self.at as u64
    }

    fn end(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn is_at_end(&mut self) -> Result<bool, ScanError> {
        Ok(self.at == self.bytes.len())
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        match self.bytes[self.at..].first_chunk() {
            Some(next) => {
                self.at += N;
                Ok(*next)
            }
            None => Err(ScanError::Truncated { at: self.at as u64 }),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ScanError> {
        self.next(bytes).map(|_| ())
    }

    fn text(&mut self, length: u64, bytes_max: u64) -> Result<String, ScanError> {
        let value = self.next(length)?;
        Ok(unpadded(&value[..length.min(bytes_max) as usize]))
    }

    fn is_partial(&self) -> bool {
        false
    }
}

struct Plain<R> {
    reader: R,
    at: u64,
    len: u64,
}

impl<R: BufRead + Seek> Input for Plain<R> {
    fn at(&self) -> u64 {
        self.at
    }

    fn end(&self) -> u64 {
        self.len
    }

    fn is_at_end(&mut self) -> Result<bool, ScanError> {
        Ok(self.at >= self.len)
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let mut bytes = [0; N];
        if self.len - self.at < N as u64 {
            return Err(ScanError::Truncated { at: self.at });
        }
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ScanError> {
        let step = i64::try_from(bytes).ok().filter(|_| bytes <= self.len - self.at);
        let Some(step) = step else { return Err(ScanError::Truncated { at: self.at }) };
        self.reader.seek_relative(step)?;
        self.at += bytes;
        Ok(())
    }

    fn is_partial(&self) -> bool {
        false
    }
}

struct Inflated<R: BufRead> {
    reader: BufReader<DeflateDecoder<R>>,
    at: u64,
    bytes_max: u64,
}

impl<R: BufRead> Input for Inflated<R> {
    fn at(&self) -> u64 {
        self.at
    }

    fn end(&self) -> u64 {
        self.bytes_max
    }

    fn is_at_end(&mut self) -> Result<bool, ScanError> {
        Ok(self.reader.fill_buf()?.is_empty())
    }

    fn exact<const N: usize>(&mut self) -> Result<[u8; N], ScanError> {
        let mut bytes = [0; N];
        if self.bytes_max - self.at < N as u64 {
            return Err(ScanError::TooMuchInflated { bytes_max: self.bytes_max });
        }
        self.reader.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ScanError> {
        let skipped = io::copy(&mut self.reader.by_ref().take(bytes), &mut io::sink())?;
        self.at += skipped;
        match skipped == bytes {
            true => Ok(()),
            false => Err(ScanError::Truncated { at: self.at }),
        }
    }

    fn is_partial(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    /// Encapsulated pixel data: items of bytes.
    Fragments,
}

/// An open sequence or item.
#[derive(Debug, Clone, Copy)]
struct Scope {
    kind: Kind,
    /// Where it ends; None: at its delimiter.
    end: Option<u64>,
    /// Nothing inside may reach beyond this.
    limit: u64,
    encoding: Encoding,
}

const UNDEFINED: u32 = 0xFFFF_FFFF;
const ITEM: Tag = Tag(0xFFFE, 0xE000);
const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// A UID has 64 characters and may be padded by one.
const UID_BYTES_MAX: u64 = 65;

fn walk(
    input: impl Input,
    encoding: Encoding,
    limits: &ScanLimits,
) -> Result<(Facts, Option<ScanError>), ScanError> {
    let partial = input.is_partial();
    let mut walk =
        Walk { input, root: encoding, limits, stack: Vec::new(), found: Found::default() };
    match walk.run() {
        Err(ScanError::TooMuchInflated { .. }) if partial && walk.found.is_complete() => {}
        Err(error) if walk.found.is_complete() && error.is_habit(walk.stack.is_empty()) => {
            return Ok((walk.found.facts(), Some(error)));
        }
        Err(error) => return Err(error),
        Ok(()) => {}
    }
    Ok((walk.found.facts(), None))
}

struct Walk<'a, I> {
    input: I,
    root: Encoding,
    limits: &'a ScanLimits,
    stack: Vec<Scope>,
    found: Found,
}

impl<I: Input> Walk<'_, I> {
    fn run(&mut self) -> Result<(), ScanError> {
        let mut elements = 0;
        loop {
            while self.stack.last().is_some_and(|scope| scope.end == Some(self.input.at())) {
                self.stack.pop();
            }
            if self.input.is_at_end()? {
                // An undefined length without its delimiter (P85).
                return if self.stack.is_empty() { Ok(()) } else { Err(ScanError::Unclosed) };
            }
            elements += 1;
            if elements > self.limits.elements_max {
                return Err(ScanError::TooManyElements { elements_max: self.limits.elements_max });
            }
            let done = match self.stack.last().copied() {
                None => self.element(self.root, self.input.end(), None)?,
                Some(scope) if scope.kind == Kind::Item => {
                    self.element(scope.encoding, scope.limit, Some(scope))?
                }
                Some(scope) => {
                    self.item(scope)?;
                    false
                }
            };
            if done {
                return Ok(());
            }
        }
    }

    /// An item of a sequence or a fragment of pixel data, or the end of either.
    fn item(&mut self, scope: Scope) -> Result<(), ScanError> {
        let tag = scope.encoding.tag(self.exact(scope.limit)?);
        let length = scope.encoding.u32(self.exact(scope.limit)?);
        match (tag, scope.kind, length) {
            (ITEM, Kind::Sequence, UNDEFINED) => {
                self.stack.push(Scope { kind: Kind::Item, end: None, ..scope });
            }
            (ITEM, Kind::Sequence, length) => {
                let end = self.fits(tag, length, scope.limit)?;
                self.stack.push(Scope { kind: Kind::Item, end: Some(end), limit: end, ..scope });
            }
            (ITEM, Kind::Fragments, length) => {
                self.fits(tag, length, scope.limit)?;
                self.input.skip(u64::from(length))?;
            }
            (SEQUENCE_END, _, _) if scope.end.is_none() => {
                self.stack.pop();
            }
            (_, _, _) => return Err(ScanError::Misplaced { tag }),
        }
        Ok(())
    }

    /// An element, or the end of the item it would stand in. True: nothing more is needed.
    fn element(
        &mut self,
        encoding: Encoding,
        limit: u64,
        item: Option<Scope>,
    ) -> Result<bool, ScanError> {
        let tag = encoding.tag(self.exact(limit)?);
        if tag == ITEM_END && item.is_some_and(|item| item.end.is_none()) {
            self.exact::<4>(limit)?;
            self.stack.pop();
            return Ok(false);
        }
        // Commands, file meta and delimiters have no place in a data set (P95).
        if tag.0 < 0x0004 || tag.0 == 0xFFFE {
            return Err(ScanError::Misplaced { tag });
        }
        if self.input.is_partial() && item.is_none() && tag >= tags::FLOAT_PIXEL_DATA {
            return Ok(true);
        }
        let (vr, length) = self.header(tag, encoding, limit)?;
        if vr == VR::SQ || (length == UNDEFINED && vr == VR::UN) {
            // The content of UN is Implicit VR Little Endian (PS3.5 6.2.2).
            let inner = match vr == VR::UN {
                true => Encoding { implicit: true, big_endian: false },
                false => encoding,
            };
            return self.open(Kind::Sequence, tag, length, limit, inner).map(|()| false);
        }
        if length == UNDEFINED {
            return match vr {
                VR::OB | VR::OW => self.open(Kind::Fragments, tag, length, limit, encoding),
                _ => Err(ScanError::UndefinedLength { tag }), // dicom-core's enum, not ours
            }
            .map(|()| false);
        }
        if let Err(error) = self.fits(tag, length, limit) {
            // A long element of a deflated data set: what is beyond the limit is not looked at.
            let bytes_max = self.limits.inflated_bytes_max;
            let beyond = self.input.is_partial() && limit == self.input.end();
            return Err(if beyond { ScanError::TooMuchInflated { bytes_max } } else { error });
        }
        match item {
            None => self.value(tag, u64::from(length))?,
            Some(_) => self.input.skip(u64::from(length))?,
        }
        Ok(false)
    }

    /// VR and length after a tag. In implicit VR the dictionary says what is a sequence.
    fn header(&mut self, tag: Tag, encoding: Encoding, limit: u64) -> Result<(VR, u32), ScanError> {
        if encoding.implicit {
            let length = encoding.u32(self.exact(limit)?);
            let known = StandardDataDictionary.by_tag(tag).map(|entry| entry.vr().relaxed());
            let vr = match (known, length) {
                (Some(VR::SQ), _) => VR::SQ,
                (_, UNDEFINED) if tag == tags::PIXEL_DATA => VR::OB,
                (_, UNDEFINED) => VR::SQ,
                (_, _) => VR::UN,
            };
            return Ok((vr, length));
        }
        let code: [u8; 2] = self.exact(limit)?;
        match vr_of(code) {
            Some(vr) if has_short_length(vr) => {
                Ok((vr, u32::from(encoding.u16(self.exact(limit)?))))
            }
            // A VR of a later edition has the long header (PS3.5 6.2).
            known if code.iter().all(u8::is_ascii_uppercase) => {
                self.exact::<2>(limit)?;
                Ok((known.unwrap_or(VR::UN), encoding.u32(self.exact(limit)?)))
            }
            _ => Err(ScanError::BadVr { tag }),
        }
    }

    fn open(
        &mut self,
        kind: Kind,
        tag: Tag,
        length: u32,
        limit: u64,
        encoding: Encoding,
    ) -> Result<(), ScanError> {
        let depth = self.stack.iter().filter(|scope| scope.kind != Kind::Item).count();
        if depth >= self.limits.depth_max {
            return Err(ScanError::TooDeep { depth_max: self.limits.depth_max });
        }
        let end = match length {
            UNDEFINED => None,
            length => Some(self.fits(tag, length, limit)?),
        };
        self.stack.push(Scope { kind, end, limit: end.unwrap_or(limit), encoding });
        Ok(())
    }

    /// Where a value of `length` bytes ends, if there is room for it.
    fn fits(&self, tag: Tag, length: u32, limit: u64) -> Result<u64, ScanError> {
        let (length, left) = (u64::from(length), limit.saturating_sub(self.input.at()));
        match length <= left {
            true => Ok(self.input.at() + length),
            false => Err(ScanError::TooLong { tag, length, left }),
        }
    }

    fn exact<const N: usize>(&mut self, limit: u64) -> Result<[u8; N], ScanError> {
        if limit.saturating_sub(self.input.at()) < N as u64 && limit < self.input.end() {
            return Err(ScanError::Truncated { at: self.input.at() });
        }
        self.input.exact()
    }

    /// A value of the data set itself, not of an item.
    fn value(&mut self, tag: Tag, length: u64) -> Result<(), ScanError> {
        if self.found.place(tag).is_none() {
            return self.input.skip(length);
        }
        if decides(tag) && tag != tags::PATIENT_ID && length > UID_BYTES_MAX {
            return Err(ScanError::UidTooLong { tag });
        }
        let text = self.input.text(length, UID_BYTES_MAX)?;
        match self.found.place(tag) {
            Some(Some(before)) if *before != text && !decides(tag) => {
                before.clear();
                Ok(())
            }
            // Which one counts would depend on the reader: one study could show as another.
            Some(Some(before)) if *before != text => Err(ScanError::Repeated { tag }),
            Some(place) => {
                *place = Some(text);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Whether the value says where a data set belongs.
fn decides(tag: Tag) -> bool {
    ![tags::IMAGE_TYPE, tags::REQUESTED_PROCEDURE_PRIORITY, STUDY_PRIORITY_ID].contains(&tag)
}

/// The VR of two characters. dicom-core's own way is by text, and takes ten times as long.
fn vr_of(code: [u8; 2]) -> Option<VR> {
    Some(match &code {
        b"AE" => VR::AE,
        b"AS" => VR::AS,
        b"AT" => VR::AT,
        b"CS" => VR::CS,
        b"DA" => VR::DA,
        b"DS" => VR::DS,
        b"DT" => VR::DT,
        b"FD" => VR::FD,
        b"FL" => VR::FL,
        b"IS" => VR::IS,
        b"LO" => VR::LO,
        b"LT" => VR::LT,
        b"OB" => VR::OB,
        b"OW" => VR::OW,
        b"PN" => VR::PN,
        b"SH" => VR::SH,
        b"SL" => VR::SL,
        b"SQ" => VR::SQ,
        b"SS" => VR::SS,
        b"ST" => VR::ST,
        b"TM" => VR::TM,
        b"UI" => VR::UI,
        b"UL" => VR::UL,
        b"UN" => VR::UN,
        b"US" => VR::US,
        _ => return VR::from_binary(code),
    })
}

/// A VR with a 16-bit length (PS3.5 table 7.1-2).
pub fn has_short_length(vr: VR) -> bool {
    matches!(
        vr,
        VR::AE
            | VR::AS
            | VR::AT
            | VR::CS
            | VR::DA
            | VR::DS
            | VR::DT
            | VR::FD
            | VR::FL
            | VR::IS
            | VR::LO
            | VR::LT
            | VR::PN
            | VR::SH
            | VR::SL
            | VR::SS
            | VR::ST
            | VR::TM
            | VR::UI
            | VR::UL
            | VR::US
    )
}

#[derive(Default)]
struct Found {
    study: Option<String>,
    series: Option<String>,
    class: Option<String>,
    instance: Option<String>,
    patient: Option<String>,
    image_type: Option<String>,
    procedure_priority: Option<String>,
    study_priority: Option<String>,
}

impl Found {
    fn place(&mut self, tag: Tag) -> Option<&mut Option<String>> {
        match tag {
            tags::STUDY_INSTANCE_UID => Some(&mut self.study),
            tags::SERIES_INSTANCE_UID => Some(&mut self.series),
            tags::SOP_CLASS_UID => Some(&mut self.class),
            tags::SOP_INSTANCE_UID => Some(&mut self.instance),
            tags::PATIENT_ID => Some(&mut self.patient),
            tags::IMAGE_TYPE => Some(&mut self.image_type),
            tags::REQUESTED_PROCEDURE_PRIORITY => Some(&mut self.procedure_priority),
            STUDY_PRIORITY_ID => Some(&mut self.study_priority),
            _ => None,
        }
    }

    fn is_complete(&self) -> bool {
        [&self.study, &self.series, &self.class, &self.instance].iter().all(|uid| uid.is_some())
    }

    fn facts(self) -> Facts {
        Facts {
            study_uid: self.study.unwrap_or_default(),
            series_uid: self.series.unwrap_or_default(),
            sop_class_uid: self.class.unwrap_or_default(),
            sop_instance_uid: self.instance.unwrap_or_default(),
            patient_id_present: self.patient.is_some_and(|id| !id.is_empty()),
            image_type: self.image_type.unwrap_or_default(),
            requested_priority: [self.procedure_priority, self.study_priority]
                .into_iter()
                .flatten()
                .find(|words| !words.is_empty())
                .unwrap_or_default(),
            broken: None,
        }
    }
}

#[cfg(test)]
#[path = "scan_tests.rs"]
mod tests;
