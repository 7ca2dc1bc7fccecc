//! PDUs (PS3.8 9.3) and command sets (PS3.7 6.3) as bytes: as much of them as the rig needs.

use std::io;
use std::io::Read;
use std::net::TcpStream;
use std::os::linux::net::TcpStreamExt as _;

/// Longest P-DATA-TF body that a null server announces: what Prelim announces.
pub const PDU_BYTES: usize = 131_072;

pub fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// A socket whose PDUs are read into one buffer that is used again and again.
pub struct Wire {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer is read and not yet used.
    from: usize,
    to: usize,
}

impl Wire {
    pub fn new(stream: TcpStream) -> io::Result<Wire> {
        stream.set_nodelay(true)?;
        Ok(Wire { stream, buffer: vec![0; 2 * (PDU_BYTES + 6)], from: 0, to: 0 })
    }

    /// The next PDU: its type and where its body stands; None at the end.
    pub fn pdu(&mut self) -> io::Result<Option<(u8, &[u8])>> {
        if !self.fill(6)? {
            return Ok(None);
        }
        let header = &self.buffer[self.from..self.from + 6];
        let (kind, length) = (header[0], u32_be(&header[2..]) as usize);
        if length > PDU_BYTES {
            return Err(broken("a PDU longer than announced"));
        }
        if !self.fill(6 + length)? {
            return Ok(None);
        }
        let body = self.from + 6..self.from + 6 + length;
        self.from = body.end;
        Ok(Some((kind, &self.buffer[body])))
    }

    fn fill(&mut self, bytes: usize) -> io::Result<bool> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        }
        if self.from + bytes > self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        while self.to - self.from < bytes {
            let read = self.stream.read(&mut self.buffer[self.to..])?;
            if read == 0 {
                return Ok(false);
            }
            self.to += read;
            // Linux forgets it after some segments; a sender that writes a message in pieces, with
            // Nagle's algorithm, then waits 40 ms for our acknowledgement of each.
            self.stream.set_quickack(true)?;
        }
        Ok(true)
    }
}

pub fn u32_be(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

pub fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short");
    [&[kind, 0], &length.to_be_bytes()[..], body].concat()
}

pub fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("short");
    [&[kind, 0], &length.to_be_bytes()[..], body].concat()
}

/// Type and body of each item.
pub fn items(mut bytes: &[u8]) -> Vec<(u8, &[u8])> {
    let mut found = Vec::new();
    while let [kind, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        found.push((*kind, &rest[..length]));
        bytes = &rest[length..];
    }
    found
}

fn user_information(pdu_bytes: u32) -> Vec<u8> {
    let items = [item(0x51, &pdu_bytes.to_be_bytes()), item(0x52, b"1.2.826.0.1.3680043.8.498.9")];
    item(0x50, &items.concat())
}

/// An A-ASSOCIATE-RQ with one context for each pair of abstract and transfer syntax: 1, 3, 5, …
pub fn request(called: &str, contexts: &[(String, String)]) -> Vec<u8> {
    let mut body = vec![0, 1, 0, 0];
    body.extend_from_slice(format!("{called:<16}{:<16}", "RIG").as_bytes());
    body.extend_from_slice(&[0; 32]);
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for (number, (class, syntax)) in contexts.iter().enumerate() {
        let id = u8::try_from(number * 2 + 1).expect("few contexts");
        let syntaxes = [item(0x30, class.as_bytes()), item(0x40, syntax.as_bytes())].concat();
        body.extend(item(0x20, &[&[id, 0, 0, 0], &syntaxes[..]].concat()));
    }
    body.extend(user_information(PDU_BYTES as u32));
    pdu(1, &body)
}

/// The answer to `request`: every context accepted with its first transfer syntax.
pub fn accept(request: &[u8]) -> io::Result<Vec<u8>> {
    let head = request.get(..68).ok_or_else(|| broken("a short request"))?;
    let mut body = head.to_vec();
    body.extend(item(0x10, b"1.2.840.10008.3.1.1.1"));
    for (kind, context) in items(&request[68..]) {
        let Some((id, rest)) = context.split_at_checked(4) else { continue };
        if kind == 0x20 {
            let syntaxes = items(rest);
            let syntax = syntaxes.iter().find(|(kind, _)| *kind == 0x40);
            let (_, syntax) = syntax.ok_or_else(|| broken("no transfer syntax"))?;
            body.extend(item(0x21, &[&[id[0], 0, 0, 0], &item(0x40, syntax)[..]].concat()));
        }
    }
    body.extend(user_information(PDU_BYTES as u32));
    Ok(pdu(2, &body))
}

/// One element of a command set: group 0000, implicit VR, little endian.
fn element(number: u16, value: &[u8]) -> Vec<u8> {
    let length = u32::try_from(value.len()).expect("short");
    [&[0, 0], &number.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
}

fn uid(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    if value.len() % 2 == 1 {
        value.push(0);
    }
    value
}

fn command(elements: &[Vec<u8>]) -> Vec<u8> {
    let elements = elements.concat();
    let length = u32::try_from(elements.len()).expect("short");
    [element(0, &length.to_le_bytes()), elements].concat()
}

pub const C_STORE_RQ: u16 = 0x0001;
pub const C_ECHO_RQ: u16 = 0x0030;
const NO_DATA_SET: u16 = 0x0101;

pub fn store_request(class: &str, instance: &str, message: u16) -> Vec<u8> {
    command(&[
        element(0x0002, &uid(class)),
        element(0x0100, &C_STORE_RQ.to_le_bytes()),
        element(0x0110, &message.to_le_bytes()),
        element(0x0700, &[0, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, &uid(instance)),
    ])
}

pub fn echo_request(message: u16) -> Vec<u8> {
    command(&[
        element(0x0002, &uid("1.2.840.10008.1.1")),
        element(0x0100, &C_ECHO_RQ.to_le_bytes()),
        element(0x0110, &message.to_le_bytes()),
        element(0x0800, &NO_DATA_SET.to_le_bytes()),
    ])
}

/// The answer with status 0000 to a request of these words.
pub fn response(asked: &Command<'_>) -> Vec<u8> {
    let mut elements = vec![
        element(0x0002, asked.class),
        element(0x0100, &(asked.field | 0x8000).to_le_bytes()),
        element(0x0120, &asked.message.to_le_bytes()),
        element(0x0800, &NO_DATA_SET.to_le_bytes()),
        element(0x0900, &[0, 0]),
    ];
    if !asked.instance.is_empty() {
        elements.push(element(0x1000, asked.instance));
    }
    command(&elements)
}

/// What the rig looks at in a command set.
#[derive(Default)]
pub struct Command<'a> {
    pub class: &'a [u8],
    pub field: u16,
    pub message: u16,
    pub status: Option<u16>,
    pub instance: &'a [u8],
}

pub fn read_command(mut bytes: &[u8]) -> io::Result<Command<'_>> {
    let mut found = Command::default();
    while let Some((head, rest)) = bytes.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        let (value, rest) =
            rest.split_at_checked(length).ok_or_else(|| broken("a command that overruns"))?;
        let short = || u16::from_le_bytes([value[0], value[1]]);
        match (u16::from_le_bytes([head[2], head[3]]), length) {
            (0x0002, _) => found.class = value,
            (0x0100, 2) => found.field = short(),
            (0x0110 | 0x0120, 2) => found.message = short(),
            (0x0900, 2) => found.status = Some(short()),
            (0x1000, _) => found.instance = value,
            _ => {}
        }
        bytes = rest;
    }
    Ok(found)
}

/// The 12 bytes before one value in a P-DATA-TF of its own.
pub fn data_header(context: u8, is_command: bool, length: usize, last: bool) -> [u8; 12] {
    let length = u32::try_from(length).expect("short");
    let (outer, inner) = ((length + 6).to_be_bytes(), (length + 2).to_be_bytes());
    let control = u8::from(is_command) | u8::from(last) << 1;
    [
        4, 0, outer[0], outer[1], outer[2], outer[3], inner[0], inner[1], inner[2], inner[3],
        context, control,
    ]
}

/// Each value of a P-DATA-TF body: context, control, bytes.
pub fn values(mut body: &[u8]) -> io::Result<Vec<(u8, u8, &[u8])>> {
    let mut found = Vec::with_capacity(1);
    while !body.is_empty() {
        let length = body.get(..4).map(|l| u32_be(l) as usize).unwrap_or(0);
        let value = body.get(4..4 + length).filter(|value| value.len() >= 2);
        let value = value.ok_or_else(|| broken("a value that overruns"))?;
        found.push((value[0], value[1], &value[2..]));
        body = &body[4 + length..];
    }
    Ok(found)
}
