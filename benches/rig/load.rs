//! A sender whose messages are encoded before the clock runs: one write a message, TCP_NODELAY,
//! PDUs as large as the receiver takes. Every instance has a SOP Instance UID of its own, every
//! association a study of its own, every status is checked.

use std::io;
use std::io::BufRead as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::wire;
use crate::wire::Wire;
use crate::wire::broken;

pub struct Peer {
    pub port: u16,
    pub ae: String,
}

const VERIFICATION: (&str, &str) = ("1.2.840.10008.1.1", "1.2.840.10008.1.2");

/// An open association.
struct Association {
    wire: Wire,
    out: TcpStream,
    /// How many bytes of a data set fit into one PDU.
    room: usize,
    /// From the connection's begin to the answer.
    took: Duration,
}

impl Association {
    fn open(peer: &Peer, contexts: &[(String, String)]) -> io::Result<Association> {
        let begun = Instant::now();
        let stream = TcpStream::connect(("127.0.0.1", peer.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        let mut out = stream.try_clone()?;
        let mut wire = Wire::new(stream)?;
        out.write_all(&wire::request(&peer.ae, contexts))?;
        let body = match wire.pdu()? {
            Some((2, body)) => body,
            Some((3, body)) => return Err(broken(&format!("refused: {:?}", &body[1..4]))),
            other => return Err(broken(&format!("no answer: {:?}", other.map(|pdu| pdu.0)))),
        };
        let took = begun.elapsed();
        let mut maximum = wire::PDU_BYTES;
        for (kind, item) in wire::items(body.get(68..).unwrap_or(&[])) {
            match kind {
                0x21 if item.get(2) != Some(&0) => return Err(broken("a context is refused")),
                0x50 => {
                    let sub = wire::items(item).into_iter().find(|sub| sub.0 == 0x51);
                    if let Some(length @ 1..) = sub.map(|sub| wire::u32_be(sub.1) as usize) {
                        maximum = maximum.min(length);
                    }
                }
                _ => {}
            }
        }
        Ok(Association { wire, out, room: (maximum - 6) & !1, took })
    }

    /// The status of the next response, and to which message it is.
    fn answer(&mut self) -> io::Result<(u16, u16)> {
        let mut command = Vec::new();
        loop {
            let Some((4, body)) = self.wire.pdu()? else { return Err(broken("no response")) };
            for (_, control, bytes) in wire::values(body)? {
                command.extend_from_slice(bytes);
                if control == 3 {
                    let said = wire::read_command(&command)?;
                    let status = said.status.ok_or_else(|| broken("no status"))?;
                    return Ok((status, said.message));
                }
            }
        }
    }

    fn echo(&mut self, context: u8) -> io::Result<()> {
        let command = wire::echo_request(1);
        let header = wire::data_header(context, true, command.len(), true);
        self.out.write_all(&[&header[..], &command].concat())?;
        match self.answer()? {
            (0, 1) => Ok(()),
            other => Err(broken(&format!("C-ECHO: {other:?}"))),
        }
    }

    fn release(mut self) -> io::Result<()> {
        self.out.write_all(&wire::pdu(5, &[0; 4]))?;
        match self.wire.pdu()? {
            Some((6, _)) => Ok(()),
            other => Err(broken(&format!("no release: {:?}", other.map(|pdu| pdu.0)))),
        }
    }
}

/// A Part 10 file apart: class, instance, syntax, data set.
struct Object {
    class: String,
    instance: String,
    syntax: String,
    data: Vec<u8>,
}

impl Object {
    fn read(path: &str) -> io::Result<Object> {
        let bytes = std::fs::read(path)?;
        let mut uids = [const { String::new() }; 3];
        let mut at = 132;
        // The meta group is explicit VR, little endian.
        while bytes.get(at..at + 2) == Some(&[2, 0]) {
            let number = bytes[at + 2];
            let (head, length) = match &bytes[at + 4..at + 6] {
                b"OB" => (12, wire_u32_le(&bytes[at + 8..])),
                _ => (8, usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]))),
            };
            let value = &bytes[at + head..at + head + length];
            if let Some(place) = [2, 3, 0x10].iter().position(|wanted| *wanted == number) {
                let text = String::from_utf8_lossy(value);
                uids[place] = text.trim_end_matches(['\0', ' ']).to_owned();
            }
            at += head + length;
        }
        let [class, instance, syntax] = uids;
        match class.is_empty() || syntax.is_empty() || instance.len() < 40 {
            true => Err(broken("not a Part 10 file with a SOP Instance UID of 40 characters")),
            false => Ok(Object { class, instance, syntax, data: bytes[at..].to_vec() }),
        }
    }

    /// The value of the first element `group,number` of VR UI, explicit VR.
    fn uid_at(&self, tag: [u8; 4]) -> io::Result<(usize, usize)> {
        let head = [&tag[..], b"UI"].concat();
        let at = self.data.windows(6).position(|window| window == head);
        let at = at.ok_or_else(|| broken("a UID is missing"))?;
        let length = u16::from_le_bytes([self.data[at + 6], self.data[at + 7]]);
        Ok((at + 8, usize::from(length)))
    }
}

fn wire_u32_le(bytes: &[u8]) -> usize {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
}

/// A whole C-STORE-RQ with its data set as PDUs, and where its numbers stand.
struct Message {
    bytes: Vec<u8>,
    /// Places of the last 16 characters of the SOP Instance UID.
    instance: Vec<usize>,
    message_id: usize,
    data_bytes: usize,
}

/// How many characters of a UID are ours to count in.
const DIGITS: usize = 16;

impl Message {
    fn new(object: &Object, context: u8, room: usize, association: u64) -> io::Result<Message> {
        let mut data = object.data.clone();
        // Study and series: one each for this association.
        for tag in [[0x20, 0, 0x0D, 0], [0x20, 0, 0x0E, 0]] {
            let (at, length) = object.uid_at(tag)?;
            put_digits(&mut data[at..at + length], &format!("{association:016}"));
        }
        let (uid, length) = object.uid_at([8, 0, 0x18, 0])?;
        let digits = places_of_digits(&data[uid..uid + length]);
        let command = wire::store_request(&object.class, &object.instance, 1);
        let mut bytes = wire::data_header(context, true, command.len(), true).to_vec();
        let in_command = bytes.len() + command.len() - object.instance.len().div_ceil(2) * 2;
        let mut instance: Vec<usize> = digits.clone().map(|place| in_command + place).collect();
        // Group length 12, class 8 and its value, command field 10, then the message id's head.
        let message_id = bytes.len() + 12 + 8 + object.class.len().div_ceil(2) * 2 + 10 + 8;
        bytes.extend(command);
        let mut chunks = data.chunks(room).enumerate().peekable();
        while let Some((number, chunk)) = chunks.next() {
            bytes.extend(wire::data_header(context, false, chunk.len(), chunks.peek().is_none()));
            let from = number * room;
            let here = digits
                .clone()
                .map(|place| uid + place)
                .filter(|place| (from..from + chunk.len()).contains(place));
            instance.extend(here.map(|place| bytes.len() + place - from));
            bytes.extend_from_slice(chunk);
        }
        Ok(Message { bytes, instance, message_id, data_bytes: data.len() })
    }

    fn number(&mut self, number: u64, message: u16) {
        let text = format!("{number:016}");
        for (place, digit) in self.instance.iter().zip(text.bytes().cycle()) {
            self.bytes[*place] = digit;
        }
        self.bytes[self.message_id..self.message_id + 2].copy_from_slice(&message.to_le_bytes());
    }
}

/// The last 16 characters of a UID value, before its padding.
fn places_of_digits(value: &[u8]) -> std::ops::Range<usize> {
    let length = value.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    length - DIGITS..length
}

fn put_digits(value: &mut [u8], digits: &str) {
    let places = places_of_digits(value);
    value[places].copy_from_slice(digits.as_bytes());
}

/// A number with 10 million after it that no run before had, in all likelihood.
fn first_number() -> io::Result<u64> {
    let mut bytes = [0; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes) % 99_999_999 * 10_000_000)
}

#[derive(Default)]
struct Counted {
    instances: u64,
    bytes: u64,
    failed: u64,
    waits: Vec<Duration>,
}

/// Sends over `associations` at a time until the time is over or the number is reached.
pub fn store(
    peer: &Peer,
    associations: u64,
    seconds: f64,
    instances_max: u64,
    files: &[&str],
) -> io::Result<()> {
    let objects = files.iter().map(|file| Object::read(file)).collect::<io::Result<Vec<_>>>()?;
    let mut contexts: Vec<(String, String)> = Vec::new();
    for object in &objects {
        let pair = (object.class.clone(), object.syntax.clone());
        if !contexts.contains(&pair) {
            contexts.push(pair);
        }
    }
    let first = first_number()?;
    let next = AtomicU64::new(0);
    // Only to learn how large its PDUs may be: messages are encoded before the clock runs, and a
    // server that takes one association at a time must not find us waiting with another.
    let probe = Association::open(peer, &contexts)?;
    let room = probe.room;
    probe.release()?;
    let encoded = |association: u64| {
        let messages = objects.iter().map(|object| {
            let pair = (object.class.clone(), object.syntax.clone());
            let context = contexts.iter().position(|known| *known == pair);
            let context = context.expect("proposed") as u8 * 2 + 1;
            Message::new(object, context, room, first + association)
        });
        messages.collect::<io::Result<Vec<_>>>()
    };
    let prepared = (0..associations).map(encoded).collect::<io::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let until = begun + Duration::from_secs_f64(seconds);
    let counted: io::Result<Vec<Counted>> = std::thread::scope(|scope| {
        let (contexts, next) = (&contexts, &next);
        let send = move |mut messages: Vec<Message>| {
            let mut association = Association::open(peer, contexts)?;
            let mut counted = Counted::default();
            while Instant::now() < until {
                let mine = next.fetch_add(1, Ordering::Relaxed);
                if mine >= instances_max {
                    break;
                }
                let count = messages.len();
                let message = &mut messages[mine as usize % count];
                let id = mine as u16;
                message.number(first + mine, id);
                let begun = Instant::now();
                association.out.write_all(&message.bytes)?;
                match association.answer()? {
                    (0, answered) if answered == id => {
                        counted.instances += 1;
                        counted.bytes += message.data_bytes as u64;
                    }
                    (_, _) => counted.failed += 1,
                }
                counted.waits.push(begun.elapsed());
            }
            association.release()?;
            Ok(counted)
        };
        let senders: Vec<_> =
            prepared.into_iter().map(|messages| scope.spawn(move || send(messages))).collect();
        senders.into_iter().map(|sender| sender.join().expect("no panic")).collect()
    });
    let took = begun.elapsed();
    let mut sum = Counted::default();
    for counted in counted? {
        sum.instances += counted.instances;
        sum.bytes += counted.bytes;
        sum.failed += counted.failed;
        sum.waits.extend(counted.waits);
    }
    sum.waits.sort();
    let at = |part: f64| {
        let place = (sum.waits.len() as f64 * part) as usize;
        sum.waits.get(place).map_or(0.0, |wait| wait.as_secs_f64() * 1000.0)
    };
    let (instances, bytes, failed, seconds) =
        (sum.instances, sum.bytes, sum.failed, took.as_secs_f64());
    println!(
        "{{\"instances\": {instances}, \"bytes\": {bytes}, \"failed\": {failed}, \
         \"seconds\": {seconds:.6}, \"median_ms\": {:.3}, \"p99_ms\": {:.3}}}",
        at(0.5),
        at(0.99)
    );
    match failed {
        0 => Ok(()),
        _ => Err(broken("instances were refused")),
    }
}

/// One object whose Pixel Data has `bytes` bytes, made while it is sent: a long multi-frame.
pub fn large(peer: &Peer, bytes: u64, file: &str) -> io::Result<()> {
    let mut object = Object::read(file)?;
    let head = [&[0xE0, 0x7F, 0x10, 0][..], b"OW", &[0, 0]].concat();
    let at = object.data.windows(8).rposition(|window| window == head);
    object.data.truncate(at.ok_or_else(|| broken("no Pixel Data of VR OW"))? + 8);
    let length = u32::try_from(bytes).map_err(|_| broken("longer than an element can be"))? & !1;
    object.data.extend(length.to_le_bytes());
    let contexts = [(object.class.clone(), object.syntax.clone())];
    let mut association = Association::open(peer, &contexts)?;
    let number = first_number()?;
    let mut message = Message::new(&object, 1, association.room, number)?;
    message.number(number, 1);
    // More comes: the last PDU with data is no longer the last.
    let tail = (object.data.len() - 1) % association.room + 1;
    let last = message.bytes.len() - tail - 1;
    message.bytes[last] = 0;
    let begun = Instant::now();
    association.out.write_all(&message.bytes)?;
    let mut left = length as usize;
    let pattern: Vec<u8> = (0..association.room).map(|place| place as u8).collect();
    let mut sent = Vec::with_capacity(pattern.len() + 12);
    while left > 0 {
        let now = left.min(association.room);
        left -= now;
        sent.clear();
        sent.extend(wire::data_header(1, false, now, left == 0));
        sent.extend_from_slice(&pattern[..now]);
        association.out.write_all(&sent)?;
    }
    let answer = association.answer()?;
    let seconds = begun.elapsed().as_secs_f64();
    association.release()?;
    println!("{{\"bytes\": {bytes}, \"status\": {}, \"seconds\": {seconds:.3}}}", answer.0);
    match answer.0 {
        0 => Ok(()),
        _ => Err(broken("refused")),
    }
}

/// Opens, asks C-ECHO and releases, again and again.
pub fn echo(peer: &Peer, associations: u64, seconds: f64) -> io::Result<()> {
    let contexts = [(VERIFICATION.0.to_owned(), VERIFICATION.1.to_owned())];
    let until = Instant::now() + Duration::from_secs_f64(seconds);
    let begun = Instant::now();
    let took: io::Result<Vec<Vec<Duration>>> = std::thread::scope(|scope| {
        let contexts = &contexts;
        let senders: Vec<_> = (0..associations)
            .map(|_| {
                scope.spawn(move || {
                    let mut took = Vec::new();
                    while Instant::now() < until {
                        let mut association = Association::open(peer, contexts)?;
                        took.push(association.took);
                        association.echo(1)?;
                        association.release()?;
                    }
                    Ok(took)
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().expect("no panic")).collect()
    });
    let seconds = begun.elapsed().as_secs_f64();
    let mut took: Vec<Duration> = took?.into_iter().flatten().collect();
    took.sort();
    let median = took.get(took.len() / 2).map_or(0.0, |took| took.as_secs_f64() * 1000.0);
    let associations = took.len();
    println!(
        "{{\"associations\": {associations}, \"seconds\": {seconds:.6}, \"first_answer_ms\": {median:.3}}}"
    );
    Ok(())
}

/// Opens so many associations, asks C-ECHO on each while all are open, says so, and keeps them
/// until its input ends.
pub fn hold(peer: &Peer, associations: u64) -> io::Result<()> {
    let contexts = [(VERIFICATION.0.to_owned(), VERIFICATION.1.to_owned())];
    let mut open = Vec::new();
    for _ in 0..associations {
        open.push(Association::open(peer, &contexts)?);
    }
    let begun = Instant::now();
    let mut answered = 0;
    for association in &mut open {
        answered += u64::from(association.echo(1).is_ok());
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{{\"open\": {associations}, \"answered\": {answered}, \"seconds\": {seconds:.3}}}");
    let _ = io::stdin().lock().lines().next();
    Ok(())
}
