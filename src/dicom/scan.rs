//! A flat look at a data set before anything parses it (PS3.5 7): lengths, nesting, and the UIDs
//! that a receiver needs.
//!
//! The parser that reads it later recurses into sequences and allocates what a length declares:
//! 30 KB of nested sequences overflow its stack, a 326-byte file takes 3 GiB. What passes here has
//! neither: the walk over it ([`walk`]) has no recursion and allocates nothing by a length; large
//! values are skipped by a seek. The scan protects and finds the UIDs; what is odd is told beside
//! them, and whether it can be read is for the reader to find out.

use std::io;
use std::io::BufRead;
use std::io::Read as _;
use std::io::Seek;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use flate2::bufread::DeflateDecoder;

use crate::dicom::command::unpadded;
use crate::dicom::negotiation::EXPLICIT_VR_BIG_ENDIAN;
use crate::dicom::walk;
use crate::dicom::walk::Encoding;
use crate::dicom::walk::Event;
use crate::dicom::walk::InFile;
use crate::dicom::walk::Place;
use crate::dicom::walk::Source;
use crate::dicom::walk::Walk;
use crate::dicom::walk::WalkError;
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
    /// Where the data set is not as it should be, see [`scan_marked`].
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
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("{tag} stands twice, with two values")]
    Repeated { tag: Tag },
    #[error("{tag} is longer than a UID can be")]
    UidTooLong { tag: Tag },
    #[error("more than {elements_max} elements")]
    TooManyElements { elements_max: u64 },
    #[error("no UIDs in the first {bytes_max} inflated bytes")]
    TooMuchInflated { bytes_max: u64 },
}

impl ScanError {
    /// Whether the machine failed, not the data set.
    pub fn is_io(&self) -> bool {
        match self {
            // What is no deflate stream is told as an I/O error by the inflater.
            ScanError::Walk(WalkError::Io(error)) => !matches!(
                error.kind(),
                io::ErrorKind::InvalidInput
                    | io::ErrorKind::InvalidData
                    | io::ErrorKind::UnexpectedEof
            ),
            ScanError::Empty
            | ScanError::Walk(_)
            | ScanError::Repeated { .. }
            | ScanError::UidTooLong { .. }
            | ScanError::TooManyElements { .. }
            | ScanError::TooMuchInflated { .. } => false,
        }
    }
}

/// Whether devices are about that break their data sets so, and mean the rest: what stands before
/// is whole. A value longer than what came, or nesting without end, is another matter.
fn is_habit(error: &WalkError) -> bool {
    match error {
        WalkError::BadVr { .. }
        | WalkError::Misplaced { .. }
        | WalkError::UndefinedLength { .. } => true,
        WalkError::Truncated { .. }
        | WalkError::TooLong { .. }
        | WalkError::TooDeep { .. }
        | WalkError::Unclosed
        | WalkError::Io(_) => false,
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

/// As [`scan`], but a data set that says what it is and is odd in a way that some devices have (a VR
/// that is none, a delimiter too many or too few, an element where it must not stand, damage inside
/// a sequence, bytes behind the last element) is no error: [`Facts::broken`] says where. What ends
/// before it should, and nesting without end, stay errors.
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
        Some(encoding) => whole(Walk::new(bytes, 0, encoding, limits.depth_max), limits),
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
    if len == 0 {
        return Err(ScanError::Empty);
    }
    if let Some(encoding) = plain(transfer_syntax) {
        let source = InFile::new(reader, 0, len);
        return whole(Walk::new(source, 0, encoding, limits.depth_max), limits);
    }
    let source = Inflated::new(reader, limits.inflated_bytes_max);
    let mut walk = Walk::new(source, 0, walk::EXPLICIT, limits.depth_max).ending_at_pixels();
    let looked = looked(&mut walk, limits);
    // What is beyond the limit was not looked at; the worker does, which has limits of its own.
    if walk.source.over {
        let bytes_max = limits.inflated_bytes_max;
        return match looked? {
            (found, _, _) if found.is_complete() => Ok((found.facts(), None)),
            _ => Err(ScanError::TooMuchInflated { bytes_max }),
        };
    }
    if walk.at() > walk.source.end() {
        return Err(WalkError::Truncated { at: walk.source.end() }.into());
    }
    judged(looked?)
}

fn whole<S: Source>(
    mut walk: Walk<S>,
    limits: &ScanLimits,
) -> Result<(Facts, Option<ScanError>), ScanError> {
    judged(looked(&mut walk, limits)?)
}

/// What says what it is, is kept; not what ends before it should, nor what may harm a reader.
fn judged((found, odd, end): Looked) -> Result<(Facts, Option<ScanError>), ScanError> {
    match (odd, end) {
        (_, Some(error)) if !is_habit(&error) || !found.is_complete() => Err(error.into()),
        (Some(odd), _) if !found.is_complete() => Err(odd.into()),
        (odd, end) => Ok((found.facts(), odd.or(end).map(ScanError::from))),
    }
}

/// How the data set is encoded; None: deflated.
fn plain(transfer_syntax: &TransferSyntaxUid) -> Option<Encoding> {
    match transfer_syntax.as_str() {
        uids::IMPLICIT_VR_LITTLE_ENDIAN => Some(walk::IMPLICIT),
        EXPLICIT_VR_BIG_ENDIAN => Some(Encoding { big: true, ..walk::EXPLICIT }),
        uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
        | uids::JPIP_REFERENCED_DEFLATE
        | uids::JPIPHTJ2K_REFERENCED_DEFLATE => None,
        // All others, named or not, are Explicit VR Little Endian around what they compress.
        _ => Some(walk::EXPLICIT),
    }
}

/// A deflated data set, inflated as far as it is looked at. Its size does not matter: what lies
/// before the walk is forgotten.
struct Inflated<R: BufRead> {
    inflater: DeflateDecoder<R>,
    buffer: Vec<u8>,
    /// Position of the first byte of `buffer`.
    from: u64,
    /// Where it ends, once that is known.
    end: Option<u64>,
    bytes_max: u64,
    /// Whether something beyond `bytes_max` was asked for.
    over: bool,
}

impl<R: BufRead> Inflated<R> {
    fn new(reader: R, bytes_max: u64) -> Inflated<R> {
        let inflater = DeflateDecoder::new(reader);
        Inflated { inflater, buffer: Vec::new(), from: 0, end: None, bytes_max, over: false }
    }

    fn ready_until(&self) -> u64 {
        self.from + self.buffer.len() as u64
    }

    fn more(&mut self) -> io::Result<()> {
        self.over |= self.ready_until() >= self.bytes_max;
        let step = self.bytes_max.saturating_sub(self.ready_until()).min(64 << 10);
        let read = self.inflater.by_ref().take(step).read_to_end(&mut self.buffer)?;
        if (read as u64) < step || step == 0 {
            self.end = Some(self.ready_until());
        }
        Ok(())
    }
}

impl<R: BufRead> Source for Inflated<R> {
    fn end(&self) -> u64 {
        self.end.unwrap_or(u64::MAX)
    }

    fn peek(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        while self.end.is_none() && self.ready_until() < at.saturating_add(into.len() as u64) {
            self.more()?;
        }
        let at = usize::try_from(at - self.from).unwrap_or(usize::MAX);
        let rest = self.buffer.get(at..).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn forget(&mut self, before: u64) -> io::Result<()> {
        while self.end.is_none() && self.ready_until() < before {
            self.from = self.ready_until();
            self.buffer.clear();
            self.more()?;
        }
        let known = before.min(self.ready_until()) - self.from;
        if known > (64 << 10) || known == self.buffer.len() as u64 {
            self.buffer.drain(..known as usize);
            self.from += known;
        }
        Ok(())
    }
}

/// A UID has 64 characters and may be padded by one.
const UID_BYTES_MAX: u64 = 65;

/// What was found, where the data set is odd, and where the walk over it had to end.
type Looked = (Found, Option<WalkError>, Option<WalkError>);

fn looked<S: Source>(walk: &mut Walk<S>, limits: &ScanLimits) -> Result<Looked, ScanError> {
    let mut found = Found::default();
    let mut elements = 0;
    loop {
        let event = match walk.next() {
            Ok(Some(Event::Pixels(_)) | None) => return Ok((found, walk.odd(), None)),
            Ok(Some(event)) => event,
            Err(error) => return Ok((found, walk.odd(), Some(error))),
        };
        elements += u64::from(!matches!(event, Event::Close { .. }));
        if elements > limits.elements_max {
            return Err(ScanError::TooManyElements { elements_max: limits.elements_max });
        }
        if let (Event::Value(place), 0) = (event, walk.depth()) {
            value(&mut walk.source, &mut found, place)?;
        }
    }
}

/// A value of the data set itself, not of an item.
fn value(source: &mut impl Source, found: &mut Found, element: Place) -> Result<(), ScanError> {
    let (tag, length) = (element.tag, element.length.unwrap_or_default());
    let Some(place) = found.place(tag) else { return Ok(()) };
    if decides(tag) && tag != tags::PATIENT_ID && length > UID_BYTES_MAX {
        return Err(ScanError::UidTooLong { tag });
    }
    let mut bytes = [0; UID_BYTES_MAX as usize];
    let wanted = length.min(UID_BYTES_MAX) as usize;
    let got = source.peek(element.at, &mut bytes[..wanted]).map_err(WalkError::Io)?;
    let text = unpadded(&bytes[..got]);
    match place {
        Some(before) if *before != text && !decides(tag) => before.clear(),
        // Which one counts would depend on the reader: one study could show as another.
        Some(before) if *before != text => return Err(ScanError::Repeated { tag }),
        place => *place = Some(text),
    }
    Ok(())
}

/// Whether the value says where a data set belongs.
fn decides(tag: Tag) -> bool {
    ![tags::IMAGE_TYPE, tags::REQUESTED_PROCEDURE_PRIORITY, STUDY_PRIORITY_ID].contains(&tag)
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
