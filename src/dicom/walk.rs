//! The walk over the data elements of a data set (PS3.5 7): lengths, undefined lengths, delimiters,
//! sequences, and UN as Implicit VR Little Endian of any length (PS3.5 6.2.2).
//!
//! One walk for the scan of what is received, for the small data sets of services and for the
//! reader of images, so that what one of them takes the others take. No recursion, no allocation by
//! a length. Damage is bounded by what it stands in: where an enclosing sequence or item says its
//! length, the walk goes on behind it and notes the first such place ([`Walk::odd`]).

use std::io;

use dicom_core::DataDictionary as _;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::dictionary::DataDictionaryEntry as _;
use dicom_dictionary_std::StandardDataDictionary;
use dicom_dictionary_std::tags;

pub const UNDEFINED: u32 = u32::MAX;
pub const ITEM: Tag = Tag(0xFFFE, 0xE000);
pub const ITEM_END: Tag = Tag(0xFFFE, 0xE00D);
pub const SEQUENCE_END: Tag = Tag(0xFFFE, 0xE0DD);
/// How far behind damage the walk looks for a place to go on.
const AHEAD_BYTES_MAX: u64 = 1 << 20;

/// How elements are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding {
    pub implicit: bool,
    pub big: bool,
}

pub const EXPLICIT: Encoding = Encoding { implicit: false, big: false };
pub const IMPLICIT: Encoding = Encoding { implicit: true, big: false };

impl Encoding {
    fn u16(self, b: [u8; 2]) -> u16 {
        if self.big { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
    }

    fn u32(self, b: [u8; 4]) -> u32 {
        if self.big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    /// The tag and the four bytes behind it.
    fn tag(self, head: &[u8; 12]) -> Tag {
        Tag(self.u16([head[0], head[1]]), self.u16([head[2], head[3]]))
    }

    fn length(self, head: &[u8; 12]) -> u32 {
        self.u32([head[4], head[5], head[6], head[7]])
    }
}

/// What is wrong with a data set. Tags and numbers only: no value is shown.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
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
    #[error("sequences are nested deeper than {depth_max}")]
    TooDeep { depth_max: usize },
    #[error("a sequence or item has no end")]
    Unclosed,
    #[error("data set cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Bytes to walk over, by position.
pub trait Source {
    /// Nothing may reach beyond this; `u64::MAX` while it is not known.
    fn end(&self) -> u64;
    /// Fills `into` from `at`. Returns how many bytes there were; fewer only at the end.
    fn peek(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize>;
    /// What lies before `at` is not asked for again.
    fn forget(&mut self, _before: u64) -> io::Result<()> {
        Ok(())
    }
}

impl Source for &[u8] {
    fn end(&self) -> u64 {
        self.len() as u64
    }

    fn peek(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// A part of a file, or the whole.
pub struct InFile<R> {
    reader: R,
    position: u64,
    end: u64,
}

impl<R: io::BufRead + io::Seek> InFile<R> {
    /// - `position`: where `reader` stands. `end`: where the data set ends, from the same point.
    pub fn new(reader: R, position: u64, end: u64) -> InFile<R> {
        InFile { reader, position, end }
    }

    pub fn into_inner(self) -> R {
        self.reader
    }
}

impl<R: io::BufRead + io::Seek> Source for InFile<R> {
    fn end(&self) -> u64 {
        self.end
    }

    fn peek(&mut self, at: u64, into: &mut [u8]) -> io::Result<usize> {
        let left = self.end.saturating_sub(at);
        let wanted = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        // Positions lie in a file: they fit.
        self.reader.seek_relative(at as i64 - self.position as i64)?;
        self.position = at;
        let mut count = 0;
        while count < wanted {
            match self.reader.read(&mut into[count..wanted]) {
                Ok(0) => break,
                Ok(read) => count += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            self.position = at + count as u64;
        }
        Ok(count)
    }
}

/// An element and where its value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub tag: Tag,
    /// SQ for all that holds items, also where the data set says UN.
    pub vr: VR,
    /// First byte of the value.
    pub at: u64,
    /// None: undefined.
    pub length: Option<u64>,
    /// How the value is written.
    pub encoding: Encoding,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Value(Place),
    /// A sequence, or pixel data in fragments.
    Open(Place),
    /// An item; its content begins at `at`.
    Item {
        at: u64,
        encoding: Encoding,
    },
    Fragment,
    /// The last item, sequence or fragments have ended; their content ends before `end`.
    Close {
        end: u64,
    },
    /// Pixel data or what stands behind it, where the walk was to end there: not looked at.
    Pixels(Place),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sequence,
    Item,
    Fragments,
}

/// An open sequence or item.
#[derive(Debug, Clone, Copy)]
struct Scope {
    kind: Kind,
    tag: Tag,
    /// Where it ends; None: at its delimiter.
    end: Option<u64>,
    /// Nothing inside may reach beyond this.
    limit: u64,
    encoding: Encoding,
    /// Whether something stood in it.
    filled: bool,
}

enum Step {
    Event(Event),
    Again,
    End,
}

pub struct Walk<S> {
    pub source: S,
    at: u64,
    root: Encoding,
    depth_max: usize,
    /// Whether the walk ends at (7FE0,0008) and what is behind it.
    ends_at_pixels: bool,
    stack: Vec<Scope>,
    /// Scopes above this many end now, and the walk goes on at this place.
    closing: Option<(usize, u64)>,
    odd: Option<WalkError>,
}

impl<S: Source> Walk<S> {
    /// - `at`: the first byte of the data set.
    /// - `depth_max`: sequences inside each other.
    pub fn new(source: S, at: u64, encoding: Encoding, depth_max: usize) -> Walk<S> {
        Walk {
            source,
            at,
            root: encoding,
            depth_max,
            ends_at_pixels: false,
            stack: Vec::new(),
            closing: None,
            odd: None,
        }
    }

    /// The same over the items of a sequence.
    pub fn items(source: S, encoding: Encoding, depth_max: usize) -> Walk<S> {
        let mut walk = Walk::new(source, 0, encoding, depth_max);
        let end = walk.source.end();
        walk.stack.push(Scope {
            kind: Kind::Sequence,
            tag: ITEM,
            end: Some(end),
            limit: end,
            encoding,
            filled: true,
        });
        walk
    }

    pub fn ending_at_pixels(mut self) -> Walk<S> {
        self.ends_at_pixels = true;
        self
    }

    /// Sequences, fragments and items that are open.
    pub fn depth(&self) -> usize {
        self.stack.len()
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    /// The first place where the data set is not as it should be and the walk went on.
    pub fn odd(&mut self) -> Option<WalkError> {
        self.odd.take()
    }

    /// Goes on behind what was just opened, if its length is known: [`Event::Close`] comes next.
    pub fn step_over(&mut self) {
        if let Some(end) = self.stack.last().and_then(|scope| scope.end) {
            self.closing = Some((self.stack.len() - 1, end));
        }
    }

    /// The next event; None at the end.
    ///
    /// # Errors
    /// [`WalkError`]: damage that nothing bounds. The walk is over.
    pub fn next(&mut self) -> Result<Option<Event>, WalkError> {
        loop {
            match self.step() {
                Ok(Step::Event(event)) => return Ok(Some(event)),
                Ok(Step::Again) => {}
                Ok(Step::End) => return Ok(None),
                Err(error) => self.bound(error)?,
            }
        }
    }

    fn note(&mut self, error: WalkError) {
        self.odd.get_or_insert(error);
    }

    fn close(&mut self, end: u64) -> Result<Step, WalkError> {
        self.stack.pop();
        Ok(Step::Event(Event::Close { end }))
    }

    fn step(&mut self) -> Result<Step, WalkError> {
        if let Some((depth, at)) = self.closing {
            if self.stack.len() > depth {
                return self.close(at);
            }
            (self.at, self.closing) = (at, None);
        }
        self.source.forget(self.at)?;
        let scope = self.stack.last().copied();
        if scope.is_some_and(|scope| scope.end == Some(self.at)) {
            return self.close(self.at);
        }
        let mut head = [0; 12];
        let limit = scope.map_or(u64::MAX, |scope| scope.limit);
        let room = limit.saturating_sub(self.at).min(12) as usize;
        let got = self.source.peek(self.at, &mut head[..room])?;
        if got == 0 {
            return self.ended();
        }
        if let Some(scope) = self.stack.last_mut() {
            scope.filled = true;
        }
        match scope {
            Some(scope) if scope.kind != Kind::Item => self.item(scope, &head, got),
            scope => self.element(scope, &head, got),
        }
    }

    /// All bytes are read. What is still open has lost its delimiter; where nothing stands in it,
    /// it breaks off.
    fn ended(&mut self) -> Result<Step, WalkError> {
        match self.stack.last() {
            None => Ok(Step::End),
            Some(scope) if !scope.filled => Err(WalkError::Unclosed),
            Some(_) => {
                self.note(WalkError::Unclosed);
                self.closing = Some((0, self.at));
                Ok(Step::Again)
            }
        }
    }

    /// Goes on behind the innermost sequence or item that says where it ends, else behind the
    /// delimiter of the outermost.
    fn bound(&mut self, error: WalkError) -> Result<(), WalkError> {
        if matches!(error, WalkError::TooDeep { .. } | WalkError::Unclosed | WalkError::Io(_)) {
            return Err(error);
        }
        let known = self.stack.iter().enumerate().rev();
        let known = known.filter_map(|(depth, scope)| Some((depth, scope.end?))).next();
        let behind = match known {
            Some(behind) => Some(behind),
            None => self.behind_delimiter()?.map(|at| (0, at)),
        };
        let Some(behind) = behind else { return Err(error) };
        self.note(error);
        self.closing = Some(behind);
        Ok(())
    }

    /// Where the outermost sequence, of undefined length, seems to have ended.
    fn behind_delimiter(&mut self) -> Result<Option<u64>, WalkError> {
        let Some(Scope { kind: Kind::Sequence, tag, .. }) = self.stack.first().copied() else {
            return Ok(None);
        };
        let delimiter: [u8; 8] = match self.root.big {
            true => [0xFF, 0xFE, 0xE0, 0xDD, 0, 0, 0, 0],
            false => [0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0],
        };
        let mut bytes = vec![0; AHEAD_BYTES_MAX as usize];
        let got = self.source.peek(self.at, &mut bytes)?;
        for (at, _) in bytes[..got].windows(8).enumerate().filter(|(_, eight)| *eight == delimiter)
        {
            let next = self.at + at as u64 + 8;
            if self.follows(next, self.source.end(), tag, self.root)? {
                return Ok(Some(next));
            }
        }
        Ok(None)
    }

    /// An item of a sequence or a fragment of pixel data, or the end of either.
    fn item(&mut self, scope: Scope, head: &[u8; 12], got: usize) -> Result<Step, WalkError> {
        let at = self.at;
        if got < 8 {
            return Err(WalkError::Truncated { at });
        }
        let (tag, length) = (scope.encoding.tag(head), scope.encoding.length(head));
        match (tag, scope.kind) {
            (ITEM, Kind::Sequence) => {
                let end = match length {
                    UNDEFINED => None,
                    length => Some(self.fits(tag, length, at + 8, scope.limit)?),
                };
                let limit = end.unwrap_or(scope.limit);
                let encoding = self.encoding_of_item(at + 8, limit, scope.encoding)?;
                self.at = at + 8;
                self.stack.push(Scope {
                    kind: Kind::Item,
                    end,
                    limit,
                    encoding,
                    filled: false,
                    ..scope
                });
                Ok(Step::Event(Event::Item { at: self.at, encoding }))
            }
            (ITEM, _) => {
                self.at = self.fits(tag, length, at + 8, scope.limit)?;
                Ok(Step::Event(Event::Fragment))
            }
            (SEQUENCE_END, _) => {
                if scope.end.is_some() {
                    self.note(WalkError::Misplaced { tag });
                }
                self.at = scope.end.unwrap_or(at + 8);
                self.close(at)
            }
            (ITEM_END, Kind::Sequence) => {
                self.note(WalkError::Misplaced { tag });
                self.at = at + 8;
                Ok(Step::Again)
            }
            (_, Kind::Sequence) if scope.end.is_none() && self.is_behind(scope)? => {
                self.note(WalkError::Unclosed);
                self.close(at)
            }
            _ => Err(WalkError::Misplaced { tag }),
        }
    }

    /// Whether what stands here goes on behind `scope`, whose delimiter is missing.
    fn is_behind(&mut self, scope: Scope) -> Result<bool, WalkError> {
        let around = self.stack.len().checked_sub(2).map(|at| self.stack[at].encoding);
        self.follows(self.at, scope.limit, scope.tag, around.unwrap_or(self.root))
    }

    /// How an item is written: some devices write the items of private sequences in Implicit VR
    /// inside an Explicit VR data set, and the reverse inside UN.
    fn encoding_of_item(
        &mut self,
        at: u64,
        limit: u64,
        said: Encoding,
    ) -> Result<Encoding, WalkError> {
        let mut head = [0; 12];
        let got = self.source.peek(at, &mut head[..8])?;
        let tag = said.tag(&head);
        if got < 8 || said.big || tag.0 == 0xFFFE {
            return Ok(said);
        }
        let length = said.length(&head);
        let fits = length == UNDEFINED || u64::from(length) <= limit.saturating_sub(at + 8);
        let has_vr = vr_of([head[4], head[5]]).is_some();
        let is_vr = has_vr || head[4..6].iter().all(u8::is_ascii_uppercase);
        Ok(match said.implicit {
            false if !is_vr && fits && !head[4..6].iter().all(u8::is_ascii_graphic) => {
                self.note(WalkError::BadVr { tag });
                IMPLICIT
            }
            true if has_vr && !fits => EXPLICIT,
            _ => said,
        })
    }

    /// An element, or the end of the item it would stand in.
    fn element(
        &mut self,
        item: Option<Scope>,
        head: &[u8; 12],
        got: usize,
    ) -> Result<Step, WalkError> {
        let at = self.at;
        let limit = item.map_or(self.source.end(), |item| item.limit);
        let encoding = item.map_or(self.root, |item| item.encoding);
        if got < 8 {
            if item.is_some() {
                return Err(WalkError::Truncated { at });
            }
            // A few bytes too many behind the last element.
            if head[..got] != [0; 12][..got] || !self.ends_at_pixels {
                self.note(WalkError::Truncated { at });
            }
            return Ok(Step::End);
        }
        let tag = encoding.tag(head);
        if tag.0 == 0xFFFE {
            return self.delimiter(tag, item);
        }
        // Commands and file meta have no place in a data set (P95).
        if tag.0 < 0x0004 {
            self.note(WalkError::Misplaced { tag });
        }
        let (vr, length, bytes) = match self.header(tag, encoding, head, got) {
            Ok(header) => header,
            Err(error) => self.guess(tag, encoding, limit, head, got)?.ok_or(error)?,
        };
        let value = at + bytes;
        let known = (length != UNDEFINED).then_some(u64::from(length));
        let un = vr == VR::UN && !encoding.implicit;
        let encoding = if un { IMPLICIT } else { encoding };
        let place = Place { tag, vr, at: value, length: known, encoding };
        if self.ends_at_pixels && item.is_none() && tag >= tags::FLOAT_PIXEL_DATA {
            return Ok(Step::Event(Event::Pixels(place)));
        }
        let kind = match (vr, known) {
            (VR::SQ, _) | (VR::UN, None) => Kind::Sequence,
            (VR::UN, Some(_)) if un && dictionary_vr(tag) == VR::SQ => Kind::Sequence,
            (VR::OB | VR::OW, None) => Kind::Fragments,
            (_, None) => {
                let mut next = [0; 12];
                self.source.peek(value, &mut next)?;
                if encoding.tag(&next) != ITEM {
                    return Err(WalkError::UndefinedLength { tag });
                }
                self.note(WalkError::UndefinedLength { tag });
                Kind::Sequence
            }
            (_, Some(_)) => {
                self.at = self.fits(tag, length, value, limit)?;
                return Ok(Step::Event(Event::Value(place)));
            }
        };
        let depth = self.stack.iter().filter(|scope| scope.kind != Kind::Item).count();
        if depth >= self.depth_max {
            return Err(WalkError::TooDeep { depth_max: self.depth_max });
        }
        let end = match length {
            UNDEFINED => None,
            length => Some(self.fits(tag, length, value, limit)?),
        };
        let limit = end.unwrap_or(limit);
        self.at = value;
        self.stack.push(Scope { kind, tag, end, limit, encoding, filled: false });
        let vr = if kind == Kind::Sequence { VR::SQ } else { vr };
        Ok(Step::Event(Event::Open(Place { vr, ..place })))
    }

    /// A delimiter where an element could stand.
    fn delimiter(&mut self, tag: Tag, item: Option<Scope>) -> Result<Step, WalkError> {
        let at = self.at;
        let is_open = item.is_some_and(|item| item.end.is_none());
        match tag {
            ITEM_END if is_open => {
                self.at = at + 8;
                self.close(at)
            }
            // The end of the item is missing: its sequence goes on or ends.
            ITEM | SEQUENCE_END if is_open => {
                self.note(WalkError::Misplaced { tag });
                self.close(at)
            }
            // One too many.
            ITEM_END | SEQUENCE_END => {
                self.note(WalkError::Misplaced { tag });
                self.at = at + 8;
                Ok(Step::Again)
            }
            _ => Err(WalkError::Misplaced { tag }),
        }
    }

    /// VR, length and how many bytes tag, VR and length take.
    fn header(
        &self,
        tag: Tag,
        encoding: Encoding,
        head: &[u8; 12],
        got: usize,
    ) -> Result<(VR, u32, u64), WalkError> {
        if encoding.implicit {
            let length = encoding.length(head);
            // The dictionary says what is a sequence.
            let vr = match (dictionary_vr(tag), length) {
                (VR::SQ, _) => VR::SQ,
                (_, UNDEFINED) if tag == tags::PIXEL_DATA => VR::OB,
                (_, UNDEFINED) => VR::SQ,
                (_, _) if tag == tags::PIXEL_DATA => VR::OW,
                (vr, _) => vr,
            };
            return Ok((vr, length, 8));
        }
        let code = [head[4], head[5]];
        match vr_of(code) {
            Some(vr) if has_short_length(vr) => {
                Ok((vr, u32::from(encoding.u16([head[6], head[7]])), 8))
            }
            // A VR of a later edition has the long header (PS3.5 6.2).
            known if code.iter().all(u8::is_ascii_uppercase) => match got {
                12 => {
                    let length = encoding.u32([head[8], head[9], head[10], head[11]]);
                    Ok((known.unwrap_or(VR::UN), length, 12))
                }
                _ => Err(WalkError::Truncated { at: self.at }),
            },
            _ => Err(WalkError::BadVr { tag }),
        }
    }

    /// The header of an element whose VR is none: of the long, the short and the implicit form the
    /// first behind whose value something stands that can follow.
    fn guess(
        &mut self,
        tag: Tag,
        encoding: Encoding,
        limit: u64,
        head: &[u8; 12],
        got: usize,
    ) -> Result<Option<(VR, u32, u64)>, WalkError> {
        let long = (got == 12 && head[6..8] == [0, 0])
            .then(|| (encoding.u32([head[8], head[9], head[10], head[11]]), 12));
        let short = (u32::from(encoding.u16([head[6], head[7]])), 8);
        let forms = [long, Some(short), Some((encoding.length(head), 8))];
        for (length, bytes) in forms.into_iter().flatten() {
            let next = self.at + bytes + u64::from(length);
            let is_near = u64::from(length) <= AHEAD_BYTES_MAX && next <= limit;
            if is_near && (next == limit || self.follows(next, limit, tag, encoding)?) {
                self.note(WalkError::BadVr { tag });
                return Ok(Some((VR::UN, length, bytes)));
            }
        }
        Ok(None)
    }

    /// Whether an element that can stand behind `after` stands at `at`.
    fn follows(
        &mut self,
        at: u64,
        limit: u64,
        after: Tag,
        encoding: Encoding,
    ) -> Result<bool, WalkError> {
        let mut head = [0; 12];
        let got = self.source.peek(at, &mut head[..8])?;
        if got < 8 {
            return Ok(got == 0 && at == self.source.end());
        }
        let tag = encoding.tag(&head);
        if tag.0 == 0xFFFE {
            return Ok(tag != ITEM && !self.stack.is_empty() && encoding.length(&head) == 0);
        }
        let fits = |length: u64| at + 8 + length <= limit;
        let is_element = match encoding.implicit {
            true => {
                StandardDataDictionary.by_tag(tag).is_some()
                    && fits(u64::from(encoding.length(&head)))
            }
            false => vr_of([head[4], head[5]]).is_some_and(|vr| {
                !has_short_length(vr) || fits(u64::from(encoding.u16([head[6], head[7]])))
            }),
        };
        Ok(tag > after && is_element)
    }

    /// Where a value of `length` bytes ends, if there is room for it.
    fn fits(&self, tag: Tag, length: u32, at: u64, limit: u64) -> Result<u64, WalkError> {
        let (length, left) = (u64::from(length), limit.saturating_sub(at));
        match length <= left {
            true => Ok(at + length),
            false => Err(WalkError::TooLong { tag, length, left }),
        }
    }
}

/// The VR that the dictionary has; UN when it has none.
pub fn dictionary_vr(tag: Tag) -> VR {
    StandardDataDictionary.by_tag(tag).map_or(VR::UN, |entry| entry.vr().relaxed())
}

/// The VR of two characters. dicom-core's own way is by text, and takes ten times as long.
pub fn vr_of(code: [u8; 2]) -> Option<VR> {
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

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
