//! Protocol data units (PS3.8 9.3) on a byte stream: framed here, decoded by dicom-ul.
//!
//! The framing is ours because a declared length must be judged before a byte of it is buffered.
//! P-DATA-TF is taken apart here too: its values are slices of the frame, not copies.

use std::future::poll_fn;
use std::io;
use std::io::IoSliceMut;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use bytes::Buf as _;
use bytes::BufMut as _;
use bytes::Bytes;
use bytes::BytesMut;
use dicom_ul::pdu::AssociationAC;
use dicom_ul::pdu::AssociationRJ;
use dicom_ul::pdu::AssociationRQ;
use dicom_ul::pdu::Pdu as Codec;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::dicom::user_information::UserInformation;
use crate::domain::aligned::Aligned;

/// Longest A-ASSOCIATE-RQ or -AC body. 128 contexts with 60 transfer syntaxes each have 250 KiB.
pub const ASSOCIATE_BYTES_MAX: u32 = 1 << 20;
/// Read at once while messages are exchanged.
const READ_AHEAD_BYTES: usize = 16 * 1024;
/// The same where the last data set was large: a command and little of what follows it, because
/// what is read ahead is copied.
const READ_AHEAD_LARGE_BYTES: usize = 1024;
/// A value from which on a data set is large.
const LARGE_BYTES: usize = 64 * 1024;
/// How many PDUs after the one under way are read with it.
const FORESEEN: usize = 16;
/// Headers of a PDU and of its only value.
const HEADERS_BYTES: usize = HEADER_BYTES + PDV_HEADER_BYTES;
/// Header of a PDU: type, reserved, length.
pub const HEADER_BYTES: usize = 6;
/// Length, context id and control header of a presentation data value.
pub const PDV_HEADER_BYTES: usize = 6;

/// Why a provider aborts (PS3.8 9.3.8), the reason of source 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortReason {
    NotSpecified = 0,
    UnrecognizedPdu = 1,
    UnexpectedPdu = 2,
    UnexpectedParameter = 5,
    InvalidParameter = 6,
}

/// A stream that DICOM is spoken over.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send {
    /// Reads into `parts`, one after the other as far as the bytes go, and says how many came.
    /// Those that cannot do it in one call read into the first.
    fn poll_read_parts(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = parts.iter_mut().find(|part| !part.is_empty());
        let mut into = ReadBuf::new(first.map_or(&mut [], |part| &mut part[..]));
        ready!(self.poll_read(context, &mut into))?;
        Poll::Ready(Ok(into.filled().len()))
    }
}

impl Transport for tokio::io::DuplexStream {}

/// What came over the wire.
#[derive(Debug)]
pub enum Pdu {
    Request(Box<Request>),
    Accept(Box<AssociationAC>),
    Reject(AssociationRJ),
    /// The body of a P-DATA-TF, see [`next_pdv`].
    Data(Bytes),
    /// Bytes of a data set that were put where [`Wire::gather`] said.
    Gathered(Gathered),
    ReleaseRequest,
    ReleaseReply,
    Abort {
        source: u8,
        reason: u8,
    },
    /// Unrecognized or invalid. Nothing can be read after it.
    Invalid {
        reason: AbortReason,
        what: &'static str,
    },
    /// The peer closed the connection.
    Closed,
}

/// An A-ASSOCIATE-RQ. Its answer repeats the 64 bytes of titles and reserved fields as sent.
#[derive(Debug)]
pub struct Request {
    /// Without its user variables.
    pub body: AssociationRQ,
    pub user: UserInformation,
    pub titles: [u8; 64],
}

/// Bytes of one presentation data value of a data set, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gathered {
    pub context: u8,
    pub bytes: usize,
    /// The data set ends with them.
    pub is_last: bool,
}

/// A value that comes in a PDU of its own and goes where it is gathered.
#[derive(Debug, Clone, Copy)]
struct Value {
    context: u8,
    is_last: bool,
    bytes: usize,
    /// Of them, those that have not come yet.
    left: usize,
}

/// A socket and what was read from it but not yet used.
pub struct Wire<S> {
    pub stream: S,
    buffer: BytesMut,
    gathered: Option<Aligned>,
    value: Option<Value>,
    /// Bytes that were gathered since the last indication.
    came: usize,
    /// Headers that were read with the value before them.
    foreseen: [[u8; HEADERS_BYTES]; FORESEEN],
    /// Longest P-DATA-TF body taken: what we announced.
    data_bytes_max: u32,
    /// How much is read at once. Small until an association is open: silent peers cost little.
    /// Never more than holds a command set and a small data set: what is read ahead is copied.
    read_ahead_bytes: usize,
}

impl<S: Transport> Wire<S> {
    pub fn new(stream: S, data_bytes_max: u32) -> Wire<S> {
        Wire {
            stream,
            buffer: BytesMut::new(),
            gathered: None,
            value: None,
            came: 0,
            foreseen: [[0; HEADERS_BYTES]; FORESEEN],
            data_bytes_max,
            read_ahead_bytes: 4096,
        }
    }

    /// Values of the data set that comes are put into the buffer, until it is taken.
    pub fn gather(&mut self, buffer: Aligned) {
        self.gathered = Some(buffer);
    }

    pub fn gathered(&mut self) -> Option<&mut Aligned> {
        self.gathered.as_mut()
    }

    pub fn take_gathered(&mut self) -> Option<Aligned> {
        self.gathered.take()
    }

    /// From now on reads are larger.
    pub fn expect_data(&mut self) {
        self.read_ahead_bytes = READ_AHEAD_BYTES;
    }

    /// The next PDU. Safe to cancel: what was read stays in the buffer.
    pub async fn read(&mut self) -> io::Result<Pdu> {
        if self.value.is_some() {
            return self.read_value().await;
        }
        if !self.fill(HEADER_BYTES).await? {
            return Ok(Pdu::Closed);
        }
        let kind = self.buffer[0];
        let length =
            u32::from_be_bytes([self.buffer[2], self.buffer[3], self.buffer[4], self.buffer[5]]);
        // Judged before the buffer grows: 0xFFFFFFFF costs nothing (P03, P04, P26, P27).
        let length_max = match kind {
            0x01 | 0x02 => ASSOCIATE_BYTES_MAX,
            0x03 | 0x05 | 0x06 | 0x07 => 4,
            0x04 => self.data_bytes_max,
            _ => return Ok(invalid(AbortReason::UnrecognizedPdu, "unknown PDU type")),
        };
        if length > length_max {
            return Ok(invalid(AbortReason::InvalidParameter, "PDU longer than allowed"));
        }
        let is_here = self.buffer.len() >= HEADER_BYTES + length as usize;
        if kind == 0x04 && self.gathered.is_some() && !is_here && length as usize > PDV_HEADER_BYTES
        {
            if !self.fill(HEADERS_BYTES).await? {
                return Ok(Pdu::Closed);
            }
            self.value = only_value(&self.buffer, self.data_bytes_max);
            if let Some(value) = &self.value {
                self.read_ahead_bytes = match value.bytes {
                    LARGE_BYTES.. => READ_AHEAD_LARGE_BYTES,
                    _ => READ_AHEAD_BYTES,
                };
                self.buffer.advance(HEADERS_BYTES);
                return self.read_value().await;
            }
        }
        if !self.fill(HEADER_BYTES + length as usize).await? {
            return Ok(Pdu::Closed);
        }
        let mut frame = self.buffer.split_to(HEADER_BYTES + length as usize).freeze();
        if kind == 0x04 {
            frame.advance(HEADER_BYTES);
            return Ok(match frame.is_empty() {
                true => invalid(AbortReason::InvalidParameter, "P-DATA without a value"),
                false => Pdu::Data(frame),
            });
        }
        Ok(decode(&frame))
    }

    /// Reads the value under way, and those of its data set that come with it, until one is whole
    /// or their buffer is full.
    async fn read_value(&mut self) -> io::Result<Pdu> {
        let mut more_began = false;
        loop {
            let (Some(value), Some(gathered)) = (&mut self.value, &mut self.gathered) else {
                // Whoever took the buffer in the middle of a value lost the thread.
                return Ok(invalid(AbortReason::NotSpecified, "internal failure"));
            };
            if value.left == 0 || gathered.room() == 0 || more_began {
                let is_whole = value.left == 0;
                let gathered = Gathered {
                    context: value.context,
                    bytes: std::mem::take(&mut self.came),
                    is_last: is_whole && value.is_last,
                };
                if is_whole {
                    self.value = None;
                }
                return Ok(Pdu::Gathered(gathered));
            }
            if !self.buffer.is_empty() {
                let here = self.buffer.len().min(value.left);
                let taken = gathered.push(&self.buffer[..here]);
                self.buffer.advance(taken);
                value.left -= taken;
                self.came += taken;
                continue;
            }
            match poll_fn(|context| self.poll_values(context)).await? {
                0 => return Ok(Pdu::Closed),
                bytes => more_began = self.take_in(bytes),
            }
        }
    }

    /// One read for the rest of the value under way and for the PDUs that will follow it if they
    /// are as long: each header beside, each value where it belongs.
    fn poll_values(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (Some(value), Some(gathered)) = (&mut self.value, &mut self.gathered) else {
            return Poll::Ready(Ok(0));
        };
        let now = value.left.min(gathered.room());
        let (now, mut room) = gathered.spare(usize::MAX).split_at_mut(now);
        let mut parts: [_; 1 + 2 * FORESEEN] = std::array::from_fn(|_| IoSliceMut::new(&mut []));
        let mut used = 1;
        parts[0] = IoSliceMut::new(now);
        for header in &mut self.foreseen {
            if value.is_last || room.is_empty() {
                break;
            }
            let (slot, after) = room.split_at_mut(value.bytes.min(room.len()));
            parts[used] = IoSliceMut::new(header);
            parts[used + 1] = IoSliceMut::new(slot);
            (used, room) = (used + 2, after);
        }
        Pin::new(&mut self.stream).poll_read_parts(context, &mut parts[..used])
    }

    /// Makes of `came` bytes what they are. What is not as foreseen goes to the buffer, as if it
    /// had been read ahead. True: the value under way is another than before.
    fn take_in(&mut self, came: usize) -> bool {
        let (Some(value), Some(gathered)) = (&mut self.value, &mut self.gathered) else {
            return false;
        };
        let (slot_bytes, now) = (value.bytes, came.min(value.left.min(gathered.room())));
        gathered.advance(now);
        value.left -= now;
        self.came += now;
        let (mut more, mut more_began) = (came - now, false);
        // Where the next slot begins, seen from the end of what is gathered.
        let mut at = 0;
        for header in &self.foreseen {
            if more == 0 {
                break;
            }
            let slot = slot_bytes.min(gathered.room() - at);
            let head = more.min(HEADERS_BYTES);
            let body = (more - head).min(slot);
            more -= head + body;
            // In its place only where all before it is.
            let is_in_place =
                value.left == 0 && !value.is_last && at == 0 && self.buffer.is_empty();
            let next = only_value(&header[..head], self.data_bytes_max)
                .filter(|next| is_in_place && next.context == value.context);
            let taken = match next {
                Some(next) => {
                    let taken = body.min(next.bytes);
                    *value = Value { left: next.bytes - taken, ..next };
                    gathered.advance(taken);
                    self.came += taken;
                    more_began = true;
                    taken
                }
                None => {
                    self.buffer.extend_from_slice(&header[..head]);
                    0
                }
            };
            self.buffer.extend_from_slice(&gathered.spare(usize::MAX)[at..at + body - taken]);
            at += slot - taken;
        }
        more_began
    }

    /// Reads until `bytes` are there; false when the peer closed before.
    async fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        while self.buffer.len() < bytes {
            let missing = bytes - self.buffer.len();
            let ahead = missing.max(self.read_ahead_bytes.saturating_sub(self.buffer.len()));
            self.buffer.reserve(ahead);
            if self.stream.read_buf(&mut (&mut self.buffer).limit(ahead)).await? == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The value of a data set that fills a P-DATA-TF alone, from the headers of both.
fn only_value(headers: &[u8], data_bytes_max: u32) -> Option<Value> {
    let [0x04, _, a, b, c, d, e, f, g, h, context, control, ..] = *headers else { return None };
    let (length, value) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let (is_command, is_last) = (control & 1 != 0, control & 2 != 0);
    let fits = value >= 2 && value.checked_add(4) == Some(length) && length <= data_bytes_max;
    let bytes = (fits && !is_command).then(|| value as usize - 2)?;
    Some(Value { context, is_last, bytes, left: bytes })
}

fn invalid(reason: AbortReason, what: &'static str) -> Pdu {
    Pdu::Invalid { reason, what }
}

/// Decodes one whole PDU that is no P-DATA-TF.
fn decode(frame: &[u8]) -> Pdu {
    const BROKEN: Pdu =
        Pdu::Invalid { reason: AbortReason::InvalidParameter, what: "PDU that cannot be decoded" };
    match frame[0] {
        0x01 => decode_request(frame).unwrap_or(BROKEN),
        // dicom-ul knows fewer abort sources than peers send.
        0x07 if frame.len() == HEADER_BYTES + 4 => {
            Pdu::Abort { source: frame[8], reason: frame[9] }
        }
        0x02 => decode_accept(frame).unwrap_or(BROKEN),
        _ => match dicom_ul::pdu::read_pdu(frame, ASSOCIATE_BYTES_MAX, true) {
            Ok(Some(Codec::AssociationRJ(reject))) => Pdu::Reject(reject),
            Ok(Some(Codec::ReleaseRQ)) => Pdu::ReleaseRequest,
            Ok(Some(Codec::ReleaseRP)) => Pdu::ReleaseReply,
            Ok(_) | Err(_) => BROKEN,
        },
    }
}

fn decode_request(frame: &[u8]) -> Option<Pdu> {
    let titles: [u8; 64] = frame.get(10..74)?.try_into().ok()?;
    let (tidy, user) = tidy_request(frame)?;
    match dicom_ul::pdu::read_pdu(&tidy[..], ASSOCIATE_BYTES_MAX, true) {
        Ok(Some(Codec::AssociationRQ(body))) => {
            Some(Pdu::Request(Box::new(Request { body, user, titles })))
        }
        Ok(_) | Err(_) => None,
    }
}

fn decode_accept(frame: &[u8]) -> Option<Pdu> {
    match dicom_ul::pdu::read_pdu(&tidy_accept(frame)?[..], ASSOCIATE_BYTES_MAX, true) {
        Ok(Some(Codec::AssociationAC(accept))) => Some(Pdu::Accept(Box::new(accept))),
        Ok(_) | Err(_) => None,
    }
}

/// An accept without what PS3.8 tells to ignore and dicom-ul refuses: the transfer syntax of a context
/// that was not accepted is not significant (table 9-18), and many leave it out. A context that was
/// accepted without one gets a syntax that nobody proposed.
fn tidy_accept(frame: &[u8]) -> Option<Vec<u8>> {
    const NOT_SAID: &[u8] = b"0.0";
    let mut tidy = frame.get(..74)?.to_vec();
    for item in Items(&frame[74..]) {
        let (kind, body) = item?;
        match kind {
            0x10 => put_item(&mut tidy, kind, body)?,
            0x21 => {
                let mut context = body.get(..4)?.to_vec();
                let syntax = Items(&body[4..]).flatten().find(|(kind, _)| *kind == 0x40);
                put_item(&mut context, 0x40, syntax.map_or(NOT_SAID, |(_, syntax)| syntax))?;
                put_item(&mut tidy, kind, &context)?;
            }
            0x50 => {
                let mut user = Vec::new();
                for sub in Items(body) {
                    let (kind, body) = sub?;
                    // Maximum length, implementation, window, role: what dicom-ul knows.
                    if matches!(kind, 0x51 | 0x52 | 0x54 | 0x55) {
                        put_item(&mut user, kind, body)?;
                    }
                }
                put_item(&mut tidy, kind, &user)?;
            }
            _ => {}
        }
    }
    let length = u32::try_from(tidy.len() - HEADER_BYTES).ok()?;
    tidy[2..6].copy_from_slice(&length.to_be_bytes());
    Some(tidy)
}

/// A request without what PS3.8 tells to ignore and dicom-ul refuses (unknown items, unknown
/// sub-items), and its user information, which is read here. None if an item overruns its
/// container or there is no user information (P13, P14, P21).
fn tidy_request(frame: &[u8]) -> Option<(Vec<u8>, UserInformation)> {
    let mut tidy = frame.get(..74)?.to_vec();
    let mut user = None;
    for item in Items(&frame[74..]) {
        let (kind, body) = item?;
        match kind {
            0x10 => put_item(&mut tidy, kind, body)?,
            0x20 => {
                let mut context = body.get(..4)?.to_vec();
                for sub in Items(&body[4..]) {
                    let (kind, body) = sub?;
                    if matches!(kind, 0x30 | 0x40) {
                        put_item(&mut context, kind, body)?;
                    }
                }
                put_item(&mut tidy, kind, &context)?;
            }
            0x50 => user = Some(UserInformation::parse(body)?),
            _ => {}
        }
    }
    put_item(&mut tidy, 0x50, &[])?;
    let length = u32::try_from(tidy.len() - HEADER_BYTES).ok()?;
    tidy[2..6].copy_from_slice(&length.to_be_bytes());
    Some((tidy, user?))
}

fn put_item(into: &mut Vec<u8>, kind: u8, body: &[u8]) -> Option<()> {
    into.extend_from_slice(&[kind, 0]);
    into.extend_from_slice(&u16::try_from(body.len()).ok()?.to_be_bytes());
    into.extend_from_slice(body);
    Some(())
}

/// Items of type, reserved byte, 16-bit length and body. Ends with None inside where one overruns.
pub struct Items<'a>(pub &'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Option<(u8, &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = match self.0 {
            [] => return None,
            [kind, _, high, low, rest @ ..] => ((*kind, u16::from_be_bytes([*high, *low])), rest),
            _ => {
                self.0 = &[];
                return Some(None);
            }
        };
        let (body, rest) = rest.split_at_checked(usize::from(header.1)).unzip();
        self.0 = rest.unwrap_or(&[]);
        Some(body.map(|body| (header.0, body)))
    }
}

/// A fragment of a command set or of a data set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdv {
    pub context: u8,
    pub is_command: bool,
    pub is_last: bool,
    pub data: Bytes,
}

/// Takes the next value off the body of a P-DATA-TF. Some(None): it is broken (P28).
pub fn next_pdv(body: &mut Bytes) -> Option<Option<Pdv>> {
    if body.is_empty() {
        return None;
    }
    if body.len() < PDV_HEADER_BYTES {
        body.clear();
        return Some(None);
    }
    let length = body.get_u32() as usize;
    if length < 2 || length > body.len() {
        body.clear();
        return Some(None);
    }
    let mut value = body.split_to(length);
    let (context, control) = (value.get_u8(), value.get_u8());
    let (is_command, is_last) = (control & 1 != 0, control & 2 != 0);
    Some(Some(Pdv { context, is_command, is_last, data: value }))
}

/// Appends P-DATA-TF PDUs with one value each, none longer than the peer's maximum (0: no limit).
///
/// - `last`: whether `data` ends the command set or data set.
pub fn put_data(
    out: &mut BytesMut,
    context: u8,
    is_command: bool,
    data: &[u8],
    last: bool,
    pdu_bytes_max: u32,
) {
    let room = payload_bytes(pdu_bytes_max);
    let mut chunks = data.chunks(room).peekable();
    if chunks.peek().is_none() {
        put_data_header(out, context, is_command, 0, last);
    }
    while let Some(chunk) = chunks.next() {
        put_data_header(out, context, is_command, chunk.len(), last && chunks.peek().is_none());
        out.extend_from_slice(chunk);
    }
}

/// The 12 bytes before the `length` bytes of one value in a PDU of its own.
pub fn put_data_header(
    out: &mut BytesMut,
    context: u8,
    is_command: bool,
    length: usize,
    last: bool,
) {
    let length = u32::try_from(length).expect("a PDU is shorter than 4 GiB");
    out.put_u8(0x04);
    out.put_u8(0);
    out.put_u32(length + 6);
    out.put_u32(length + 2);
    out.put_u8(context);
    out.put_u8(u8::from(is_command) | u8::from(last) << 1);
}

/// Largest PDU that we send, whatever a peer allows.
const OUR_PDU_BYTES_MAX: u32 = 128 * 1024;
/// Smallest maximum of a peer that is obeyed; below, nothing useful fits (P15).
pub const PEER_PDU_BYTES_MIN: u32 = 16;

/// How many bytes of a data set fit into one PDU; even.
pub fn payload_bytes(pdu_bytes_max: u32) -> usize {
    let limit = match pdu_bytes_max {
        0 => OUR_PDU_BYTES_MAX,
        limit => limit.clamp(PEER_PDU_BYTES_MIN, OUR_PDU_BYTES_MAX),
    };
    (limit as usize - PDV_HEADER_BYTES) & !1
}

/// Encodes an association PDU.
pub fn encode(pdu: &Codec) -> Vec<u8> {
    let mut bytes = Vec::new();
    dicom_ul::pdu::write_pdu(&mut bytes, pdu).expect("our own PDUs can be encoded");
    bytes
}

/// An A-ABORT. Source 0: the user; 2: the provider, with its reason.
pub fn encode_abort(source: u8, reason: AbortReason) -> [u8; 10] {
    let reason = if source == 0 { 0 } else { reason as u8 };
    [0x07, 0, 0, 0, 0, 4, 0, 0, source, reason]
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;

    use rand::Rng as _;
    use rand::SeedableRng as _;

    use super::*;
    use crate::domain::aligned::Pool;

    /// A request as bytes: items in full, so that tests can break any of them.
    pub fn request(called: &str, calling: &str, items: &[u8]) -> Vec<u8> {
        let mut body = vec![0, 1, 0, 0];
        body.extend_from_slice(format!("{called:<16}{calling:<16}").as_bytes());
        body.extend_from_slice(&[0; 32]);
        body.extend_from_slice(items);
        frame(1, &body)
    }

    pub fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut frame = vec![kind, 0];
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(body);
        frame
    }

    pub fn item(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut item = Vec::new();
        put_item(&mut item, kind, body).unwrap();
        item
    }

    pub fn application() -> Vec<u8> {
        item(0x10, b"1.2.840.10008.3.1.1.1")
    }

    pub fn context(id: u8, class: &str, syntaxes: &[&str]) -> Vec<u8> {
        let mut body = vec![id, 0, 0, 0];
        body.extend(item(0x30, class.as_bytes()));
        for syntax in syntaxes {
            body.extend(item(0x40, syntax.as_bytes()));
        }
        item(0x20, &body)
    }

    pub fn user_information() -> Vec<u8> {
        item(0x50, &[item(0x51, &16384_u32.to_be_bytes()), item(0x52, b"1.2.3")].concat())
    }

    #[test]
    fn unknown_items_of_a_request_are_ignored() {
        let user = [
            item(0x51, &0_u32.to_be_bytes()),
            item(0x53, &[0, 1, 0, 1]),
            item(0x57, b"?"),
            item(0x7f, &[1, 2, 3]),
            item(0x54, &[0, 200, 1]), // overruns itself
        ]
        .concat();
        let mut strange = vec![1, 0, 0, 0];
        strange.extend(item(0x30, b"1.2.840.10008.1.1"));
        strange.extend(item(0x44, b"what"));
        strange.extend(item(0x40, b"1.2.840.10008.1.2"));
        let items =
            [application(), item(0x99, b"??"), item(0x20, &strange), item(0x50, &user)].concat();
        let Pdu::Request(request) = decode(&request("A", "B", &items)) else { panic!() };
        assert_eq!(request.body.presentation_contexts[0].transfer_syntaxes, ["1.2.840.10008.1.2"]);
        assert_eq!((request.body.user_variables.len(), request.user.roles.len()), (0, 0));
    }

    /// P08, P09, P13, P14, P21.
    #[test]
    fn a_request_that_overruns_itself_is_invalid() {
        let good = [application(), context(1, "1.2.3", &["1.2.840.10008.1.2"]), user_information()];
        let whole = request("A", "B", &good.concat());
        assert!(matches!(decode(&whole), Pdu::Request(_)));
        for cut in HEADER_BYTES..whole.len() {
            let short = frame(1, &whole[HEADER_BYTES..cut]);
            assert!(matches!(decode(&short), Pdu::Invalid { .. }), "cut at {cut}");
        }
        let without_user = request("A", "B", &good[..2].concat());
        assert!(matches!(decode(&without_user), Pdu::Invalid { .. }));
        let mut overrun = whole.clone();
        overrun[74 + 3] = 200;
        assert!(matches!(decode(&overrun), Pdu::Invalid { .. }));
    }

    /// P28: length 0, 1 and too long.
    #[test]
    fn a_broken_data_value_is_seen() {
        for length in [0_u32, 1, 5, 0xFFFF_FFFF] {
            let mut body = BytesMut::new();
            body.put_u32(length);
            body.put_slice(&[1, 3, 0xAA, 0xBB]);
            let mut body = body.freeze();
            assert_eq!(next_pdv(&mut body), Some(None), "{length}");
            assert_eq!(next_pdv(&mut body), None, "nothing is read after a broken one");
        }
    }

    #[test]
    fn data_is_cut_to_the_maximum_of_the_peer() {
        for max in [0, 1, 16, 17, 100, 16384] {
            let mut out = BytesMut::new();
            put_data(&mut out, 3, true, &[7; 1000], true, max);
            let (mut bytes, mut found, mut lasts) = (out.freeze(), 0, 0);
            while !bytes.is_empty() {
                bytes.advance(2);
                let length = bytes.get_u32();
                assert!(max == 0 || length <= max.max(PEER_PDU_BYTES_MIN), "{length} > {max}");
                let mut body = bytes.split_to(length as usize);
                let pdv = next_pdv(&mut body).unwrap().unwrap();
                (found, lasts) = (found + pdv.data.len(), lasts + usize::from(pdv.is_last));
                assert!(body.is_empty() && pdv.is_command && pdv.context == 3);
            }
            assert_eq!((found, lasts), (1000, 1), "maximum {max}");
        }
    }

    /// A peer whose bytes come in pieces of any size.
    struct Pieces {
        bytes: Vec<u8>,
        at: usize,
        random: rand::rngs::StdRng,
        scattered: bool,
        /// Calls that got bytes.
        reads: usize,
        piece_max: usize,
    }

    impl Pieces {
        fn next(&mut self, room: usize) -> &[u8] {
            let left = self.bytes.len() - self.at;
            let piece = self.random.random_range(1..=self.piece_max).min(room).min(left);
            self.reads += 1;
            self.at += piece;
            &self.bytes[self.at - piece..self.at]
        }
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            into: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let room = into.remaining();
            into.put_slice(self.get_mut().next(room));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Transport for Pieces {
        fn poll_read_parts(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            parts: &mut [IoSliceMut<'_>],
        ) -> Poll<io::Result<usize>> {
            let this = self.get_mut();
            let parts = if this.scattered { parts } else { &mut parts[..1] };
            let mut piece = this.next(parts.iter().map(|part| part.len()).sum());
            let came = piece.len();
            for part in parts {
                let (here, after) = piece.split_at(piece.len().min(part.len()));
                part[..here.len()].copy_from_slice(here);
                piece = after;
            }
            Poll::Ready(Ok(came))
        }
    }

    /// Data sets of `sent`, read as a session does: data, gathered or not, in order.
    async fn read_all(wire: &mut Wire<Pieces>, pool: &Arc<Pool>) -> Vec<Vec<u8>> {
        let (mut sets, mut set) = (Vec::new(), Vec::new());
        wire.gather(pool.take());
        loop {
            let is_last = match wire.read().await.unwrap() {
                Pdu::Data(mut body) => {
                    let mut is_last = false;
                    while let Some(pdv) = next_pdv(&mut body) {
                        let pdv = pdv.unwrap();
                        set.extend_from_slice(wire.take_gathered().unwrap().as_ref());
                        wire.gather(pool.take());
                        set.extend_from_slice(&pdv.data);
                        is_last = pdv.is_last;
                    }
                    is_last
                }
                Pdu::Gathered(gathered) => {
                    let is_full = wire.gathered().unwrap().room() == 0;
                    if gathered.is_last || is_full {
                        set.extend_from_slice(wire.take_gathered().unwrap().as_ref());
                        wire.gather(pool.take());
                    }
                    gathered.is_last
                }
                Pdu::Closed => return sets,
                other => panic!("{other:?}"),
            };
            if is_last {
                sets.push(std::mem::take(&mut set));
            }
        }
    }

    /// However PDUs are cut and however their bytes arrive, data sets come out as they were sent.
    #[tokio::test]
    async fn what_is_foreseen_wrongly_is_put_right() {
        let mut random = rand::rngs::StdRng::seed_from_u64(7);
        let pool = Pool::new(3000, 4);
        for round in 0..3000 {
            let (mut bytes, mut sets) = (BytesMut::new(), Vec::new());
            let usual = random.random_range(1..1500);
            for _ in 0..random.random_range(1..4) {
                let mut set = Vec::new();
                for left in (0..random.random_range(1..12)).rev() {
                    let size = match random.random_range(0..4) {
                        0 => random.random_range(0..1500),
                        _ => usual,
                    };
                    let from = set.len();
                    set.extend((0..size).map(|_| random.random::<u8>()));
                    // At times two values in one PDU: the second is empty.
                    match random.random_range(0..9) {
                        0 => {
                            let begin = bytes.len();
                            put_data_header(&mut bytes, 1, false, size, false);
                            bytes.extend_from_slice(&set[from..]);
                            bytes.extend_from_slice(&[
                                0,
                                0,
                                0,
                                2,
                                1,
                                if left == 0 { 2 } else { 0 },
                            ]);
                            let length = (bytes.len() - begin - HEADER_BYTES) as u32;
                            bytes[begin + 2..begin + 6].copy_from_slice(&length.to_be_bytes());
                        }
                        _ => {
                            put_data_header(&mut bytes, 1, false, size, left == 0);
                            bytes.extend_from_slice(&set[from..]);
                        }
                    }
                }
                sets.push(set);
            }
            let scattered = round % 4 > 0;
            let piece_max = [50, 2000, 20_000][round % 3];
            let seed = random.random();
            let peer = Pieces {
                bytes: bytes.to_vec(),
                at: 0,
                random: rand::rngs::StdRng::seed_from_u64(seed),
                scattered,
                reads: 0,
                piece_max,
            };
            let mut wire = Wire::new(peer, 16_384);
            wire.read_ahead_bytes = [13, 100, 4096][round / 3 % 3];
            assert!(read_all(&mut wire, &pool).await == sets, "round {round}");
        }
    }

    /// A data set that is there takes two reads: its begin, and the rest.
    #[tokio::test]
    async fn a_large_data_set_takes_few_reads() {
        let mut bytes = BytesMut::new();
        put_data(&mut bytes, 1, false, &[7; 500_000], true, 131_072);
        let random = rand::rngs::StdRng::seed_from_u64(1);
        let bytes = bytes.to_vec();
        let piece_max = usize::MAX;
        let peer = Pieces { bytes, at: 0, random, scattered: true, reads: 0, piece_max };
        let mut wire = Wire::new(peer, 131_072);
        let sets = read_all(&mut wire, &Pool::new(1 << 20, 4)).await;
        assert_eq!(sets, [vec![7; 500_000]]);
        assert_eq!(wire.stream.reads, 3, "and one that finds the end");
    }
}
