//! The list of faults against the whole program, each row by its id: what a bad peer does, what it
//! may hear, and that afterwards a good peer is served, nothing was stored that should not be, and
//! memory, files and threads are where they were.
//!
//! `cargo test --test it -- --nocapture faults` prints the table. Rows of other chapters
//! stand where their subject is: `disk` (S1 to S3, S10), `kill` (S4), `crash` (S5), `power_cut`
//! (S6), `net` (S12), `store` (S7, S8, S11), `dicom::scp_session` (the same protocol rows over an
//! in-memory stream, with paused time).

use std::io::Write as _;
use std::net::Shutdown;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::load;
use crate::node::Node;
use crate::node::wait_for;
use crate::peer::Bad;
use crate::peer::CT;
use crate::peer::data;
use crate::peer::data_set;
use crate::peer::item;
use crate::peer::objects;
use crate::peer::pdu;
use crate::peer::process;
use crate::peer::store_command;

/// What the node is started with: limits that can be reached within seconds.
const SETTINGS: &[&str] = &[
    "assemble.quiet_period_s=600",
    "dicom.artim_s=2",
    "dicom.idle_s=4",
    "dicom.object_bytes_max=83886080",
    "dicom.associations_per_peer_max=20",
    "dicom.connections_max=150",
    "worker.processes=1",
];
const EXPLICIT: &str = "1.2.840.10008.1.2.1";
const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const OURS: &str = "1.2.826.0.1.3680043.8.498.900";

/// Id, what is done, what may be heard, whether an instance may be kept after it, the deed.
struct Row {
    id: &'static str,
    what: &'static str,
    allowed: &'static [&'static str],
    keeps: usize,
    run: Box<dyn Fn(&Rig) -> String>,
}

struct Rig {
    node: Node,
    dicom: SocketAddr,
}

/// An A-ASSOCIATE-RQ, of which a row changes what it likes.
#[derive(Clone)]
struct Rq {
    called: &'static [u8],
    calling: &'static [u8],
    version: u16,
    application: &'static str,
    contexts: Vec<(u8, &'static str, Vec<&'static str>)>,
    user: Option<Vec<u8>>,
}

fn rq() -> Rq {
    Rq {
        called: b"PRELIM",
        calling: b"BAD",
        version: 1,
        application: "1.2.840.10008.3.1.1.1",
        contexts: vec![
            (1, CT, vec![EXPLICIT]),
            (3, "1.2.840.10008.1.1", vec![EXPLICIT]),
            // A query: refused.
            (5, "1.2.840.10008.5.1.4.1.2.2.1", vec![EXPLICIT]),
        ],
        user: Some(item(0x51, &16384_u32.to_be_bytes())),
    }
}

impl Rq {
    fn bytes(&self) -> Vec<u8> {
        let title = |text: &[u8]| {
            let mut title = text.to_vec();
            title.resize(16, b' ');
            title
        };
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([0, 0]);
        body.extend(title(self.called));
        body.extend(title(self.calling));
        body.extend([0; 32]);
        body.extend(item(0x10, self.application.as_bytes()));
        for (id, class, syntaxes) in &self.contexts {
            let mut context = vec![*id, 0, 0, 0];
            context.extend(item(0x30, class.as_bytes()));
            syntaxes.iter().for_each(|uid| context.extend(item(0x40, uid.as_bytes())));
            body.extend(item(0x20, &context));
        }
        if let Some(user) = &self.user {
            body.extend(item(0x50, user));
        }
        pdu(1, &body)
    }
}

/// The next word of the node, for the table.
fn heard(peer: &mut Bad) -> String {
    match peer.hear_all() {
        None => "closed".to_owned(),
        Some((2, body)) => {
            let mut results = Vec::new();
            let mut items = &body[68..];
            while let [kind, _, high, low, rest @ ..] = items {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                if *kind == 0x21 {
                    results.push(rest[2].to_string());
                }
                items = &rest[length..];
            }
            format!("accepted: {}", results.join(","))
        }
        Some((3, body)) => format!("rejected {},{},{}", body[1], body[2], body[3]),
        Some((4, body)) => {
            // The command of a response: its status.
            let status = body.windows(8).find(|w| w[..6] == [0, 0, 0, 9, 2, 0]);
            let at = status.map(|w| w.as_ptr() as usize - body.as_ptr() as usize);
            at.map_or("data".to_owned(), |at| format!("{:02X}{:02X}", body[at + 9], body[at + 8]))
        }
        Some((6, _)) => "released".to_owned(),
        Some((7, body)) => format!("A-ABORT {},{}", body[2], body[3]),
        Some((kind, _)) => format!("PDU {kind}"),
    }
}

impl Rig {
    fn connect(&self) -> Bad {
        Bad::connect(self.dicom)
    }

    fn associated(&self) -> Bad {
        let mut peer = self.connect();
        peer.say(&rq().bytes());
        assert_eq!(heard(&mut peer), "accepted: 0,0,3");
        peer
    }

    /// Says it instead of a request.
    fn first(&self, bytes: &[u8]) -> String {
        let mut peer = self.connect();
        peer.say(bytes);
        heard(&mut peer)
    }

    /// Says it in an association.
    fn within(&self, bytes: &[u8]) -> String {
        let mut peer = self.associated();
        peer.say(bytes);
        heard(&mut peer)
    }

    /// A C-STORE of this data set under this UID.
    fn store(&self, uid: &str, set: &[u8]) -> String {
        self.within(&whole(uid, set))
    }

    /// A good peer is served: C-ECHO and C-STORE.
    fn serves(&self, number: u64) {
        let mut peer = self.associated();
        peer.say(&data_on(3, 3, &command(0x0030, 7, false, &[])));
        assert_eq!(heard(&mut peer), "0000", "C-ECHO");
        peer.say(&load::message(&load::uid(800, number, 700)));
        assert_eq!(heard(&mut peer), "0000", "C-STORE");
        peer.say(&pdu(5, &[0; 4]));
        assert_eq!(heard(&mut peer), "released");
    }

    fn stored(&self) -> usize {
        objects(&self.node).len()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", process(&self.node))).unwrap()
    }

    fn status_number(&self, key: &str) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", process(&self.node))).unwrap().count()
    }

    /// The next highest memory is counted from now on.
    fn reset_peak(&self) {
        let path = format!("/proc/{}/clear_refs", process(&self.node));
        std::fs::write(path, "5").unwrap();
    }
}

/// One value in a P-DATA-TF of its own, on another context than 1.
fn data_on(context: u8, control: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len() + 2).unwrap().to_be_bytes();
    pdu(4, &[&length[..], &[context, control], bytes].concat())
}

fn whole(uid: &str, set: &[u8]) -> Vec<u8> {
    let mut bytes = store_command(uid);
    let mut chunks = set.chunks(16_000).peekable();
    if set.is_empty() {
        bytes.extend(data(2, &[]));
    }
    while let Some(chunk) = chunks.next() {
        bytes.extend(data(if chunks.peek().is_none() { 2 } else { 0 }, chunk));
    }
    bytes
}

/// A command set of these elements beside field, message id and whether a data set follows.
fn command(field: u16, message: u16, with_data: bool, more: &[(u16, &[u8])]) -> Vec<u8> {
    let element = |number: u16, value: &[u8]| {
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        [&[0, 0], &number.to_le_bytes()[..], &length[..], value].concat()
    };
    let kind: u16 = if with_data { 0 } else { 0x0101 };
    let mut all: Vec<(u16, Vec<u8>)> = vec![
        (0x0100, field.to_le_bytes().to_vec()),
        (0x0110, message.to_le_bytes().to_vec()),
        (0x0800, kind.to_le_bytes().to_vec()),
    ];
    all.extend(more.iter().map(|(number, value)| (*number, value.to_vec())));
    all.sort();
    all.iter().flat_map(|(number, value)| element(*number, value)).collect()
}

fn even(text: &str) -> Vec<u8> {
    let mut value = text.as_bytes().to_vec();
    value.resize(value.len() + value.len() % 2, 0);
    value
}

fn store_on(context: u8, class: &str, uid: &str) -> Vec<u8> {
    let (class, uid) = (even(class), even(uid));
    data_on(context, 3, &command(1, 1, true, &[(2, &class), (0x700, &[0, 0]), (0x1000, &uid)]))
}

/// An element: explicit VR, little endian.
fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut bytes = [group.to_le_bytes(), number.to_le_bytes()].concat();
    bytes.extend(vr);
    let mut value = value.to_vec();
    if value.len() % 2 == 1 {
        value.push(if matches!(vr, b"UI" | b"OB" | b"OW") { 0 } else { b' ' });
    }
    match vr {
        b"OB" | b"OW" | b"SQ" | b"UN" | b"UT" => {
            bytes.extend([0, 0]);
            bytes.extend(u32::try_from(value.len()).unwrap().to_le_bytes());
        }
        _ => bytes.extend(u16::try_from(value.len()).unwrap().to_le_bytes()),
    }
    bytes.extend(value);
    bytes
}

/// A data set of this instance: identity, then `more`.
fn set(uid: &str, more: &[Vec<u8>]) -> Vec<u8> {
    identified(CT, uid, &format!("{OURS}.1"), &format!("{OURS}.1.1"), more)
}

fn identified(class: &str, uid: &str, study: &str, series: &str, more: &[Vec<u8>]) -> Vec<u8> {
    let mut elements: Vec<Vec<u8>> = Vec::new();
    for (group, number, value) in
        [(8, 0x16, class), (8, 0x18, uid), (0x20, 0x0D, study), (0x20, 0x0E, series)]
    {
        if !value.is_empty() {
            elements.push(element(group, number, b"UI", value.as_bytes()));
        }
    }
    elements.extend(more.iter().cloned());
    // By tag, as a data set is.
    elements.sort_by_key(|e| (u16::from_le_bytes([e[0], e[1]]), u16::from_le_bytes([e[2], e[3]])));
    elements.concat()
}

fn ours(number: u32) -> String {
    format!("{OURS}.2.{number}")
}

/// The same random bytes each time.
fn noise(length: u32) -> Vec<u8> {
    (0..length).map(|i| (i.wrapping_mul(2_654_435_761) >> 11) as u8).collect()
}

/// A sequence in a sequence, so deep, without ends.
fn nested(depth: usize) -> Vec<u8> {
    [8, 0, 0x40, 0x11, b'S', b'Q', 0, 0, 255, 255, 255, 255, 254, 255, 0, 224, 255, 255, 255, 255]
        .repeat(depth)
}

fn row(
    id: &'static str,
    what: &'static str,
    allowed: &'static [&'static str],
    run: impl Fn(&Rig) -> String + 'static,
) -> Row {
    Row { id, what, allowed, keeps: 0, run: Box::new(run) }
}

/// A row after which so many more instances are there.
fn keeps(
    instances: usize,
    id: &'static str,
    what: &'static str,
    run: impl Fn(&Rig) -> String + 'static,
) -> Row {
    Row { id, what, allowed: &["0000"], keeps: instances, run: Box::new(run) }
}

const UNKNOWN: &[&str] = &["A-ABORT 2,1", "closed"];
const UNEXPECTED: &[&str] = &["A-ABORT 2,2", "closed"];
const INVALID: &[&str] = &["A-ABORT 2,6", "closed"];
const NOT_UNDERSTOOD: &[&str] = &["C000", "A900"];
/// Stored as it came and marked, or refused.
const EITHER: &[&str] = &["0000", "C000", "A900"];

/// P01 to P36: before and around an association.
fn association_rows() -> Vec<Row> {
    let endless = [&[1, 0][..], &[0xFF; 4]].concat();
    let stream = endless.clone();
    let overrun = {
        let mut bytes = rq().bytes();
        // The length of the first context item.
        let at = 6 + 68 + 4 + rq().application.len() + 2;
        bytes[at..at + 2].copy_from_slice(&[0xFF, 0xFF]);
        bytes
    };
    let with = |change: fn(&mut Rq)| {
        move |rig: &Rig| {
            let mut request = rq();
            change(&mut request);
            rig.first(&request.bytes())
        }
    };
    let random = noise(4000);
    vec![
        row("P01", "unknown PDU type first", UNKNOWN, |rig| rig.first(&pdu(0x55, &[0; 4]))),
        row("P02", "PDU type 0 first", UNKNOWN, |rig| rig.first(&pdu(0, &[0; 4]))),
        row("P03", "request of length FFFFFFFF, then silence", INVALID, move |rig| {
            rig.first(&endless)
        }),
        row("P04", "request of length FFFFFFFF, 64 MiB follow", INVALID, move |rig| {
            let mut peer = rig.connect();
            peer.say(&stream);
            let piece = vec![0; 1 << 20];
            for _ in 0..64 {
                if peer.0.write_all(&piece).is_err() {
                    return "closed".to_owned();
                }
            }
            heard(&mut peer)
        }),
        row("P05", "P-DATA first", UNEXPECTED, |rig| rig.first(&data(3, b"x"))),
        row("P06", "A-RELEASE-RQ first", UNEXPECTED, |rig| rig.first(&pdu(5, &[0; 4]))),
        row("P07", "A-ABORT first", &["closed"], |rig| rig.first(&pdu(7, &[0; 4]))),
        row("P08", "request cut in the middle", INVALID, |rig| {
            let mut peer = rig.connect();
            peer.say(&rq().bytes()[..100]);
            let _ = peer.0.shutdown(Shutdown::Write);
            heard(&mut peer)
        }),
        row("P09", "request of length 0", INVALID, |rig| rig.first(&pdu(1, &[]))),
        row("P10", "no presentation context", &["rejected 1,1,1"], with(|rq| rq.contexts.clear())),
        row("P11", "128 contexts", &["128 accepted"], |rig| {
            let mut request = rq();
            request.contexts = (0..128).map(|n| (n * 2 + 1, CT, vec![EXPLICIT])).collect();
            let answer = rig.first(&request.bytes());
            format!("{} accepted", answer.split([' ', ',']).filter(|part| *part == "0").count())
        }),
        row(
            "P12",
            "an even id, and one twice",
            &[
                "accepted: 2,2",
                "accepted: 2,0",
                "accepted: 2,2,2",
                "accepted: 2,0,2",
                "A-ABORT 2,6",
                "rejected 1,1,1",
            ],
            with(|rq| {
                rq.contexts =
                    vec![(2, CT, vec![EXPLICIT]), (1, CT, vec![EXPLICIT]), (1, MR, vec![EXPLICIT])];
            }),
        ),
        row("P13", "context item longer than the request", INVALID, move |rig| rig.first(&overrun)),
        row(
            "P14",
            "user sub-item longer than its item",
            INVALID,
            with(|rq| rq.user = Some([&[0x51, 0, 0xFF, 0xFF][..], &[0; 4]].concat())),
        ),
        row(
            "P15",
            "maximum length 1",
            &["rejected 1,1,1"],
            with(|rq| rq.user = Some(item(0x51, &1_u32.to_be_bytes()))),
        ),
        row(
            "P16",
            "maximum length 0: no limit",
            &["accepted: 0,0,3"],
            with(|rq| rq.user = Some(item(0x51, &[0; 4]))),
        ),
        row("P17", "protocol version 2", &["rejected 1,2,2"], with(|rq| rq.version = 2)),
        row(
            "P18",
            "another application context",
            &["rejected 1,1,2"],
            with(|rq| rq.application = "1.2.3"),
        ),
        row("P19", "called AE title wrong", &["rejected 1,1,7"], with(|rq| rq.called = b"OTHER")),
        row(
            "P20",
            "calling AE title of control bytes",
            &["rejected 1,1,3", "accepted: 0,0,3"],
            |rig| {
                let mut request = rq();
                request.calling = b"\x1b[31m\r\nroot\0";
                let answer = rig.first(&request.bytes());
                let log = rig.node.log();
                assert!(!log.contains('\x1b') && !log.contains("\nroot"), "a log line was made up");
                answer
            },
        ),
        row("P21", "no user information", INVALID, with(|rq| rq.user = None)),
        row("P22", "user identity of type 1", &["accepted: 0,0,3"], |rig| {
            let mut request = rq();
            let identity = item(0x58, b"\x01\x00\x00\x03joe\x00\x00");
            request.user = Some([item(0x51, &16384_u32.to_be_bytes()), identity].concat());
            rig.first(&request.bytes())
        }),
        row("P23", "second request", UNEXPECTED, |rig| rig.within(&rq().bytes())),
        row("P24", "A-ASSOCIATE-AC from the caller", UNEXPECTED, |rig| {
            let mut accept = rq();
            (accept.contexts, accept.user) = (Vec::new(), None);
            let mut accept = accept.bytes();
            accept[0] = 2;
            rig.within(&accept)
        }),
        row("P25", "unknown PDU type while open", UNKNOWN, |rig| rig.within(&pdu(0x42, &[1]))),
        row("P26", "P-DATA of length FFFFFFFF", INVALID, |rig| {
            rig.within(&[&[4, 0][..], &[0xFF; 4], &[1; 50_000]].concat())
        }),
        row("P27", "P-DATA of 4 times the maximum", INVALID, |rig| {
            rig.within(&data(0, &vec![0; 4 * 131_072]))
        }),
        row("P28", "value of length 0, 1, too long", INVALID, |rig| {
            for value in [[0, 0, 0, 0, 1, 3], [0, 0, 0, 1, 1, 3]] {
                assert_eq!(rig.within(&pdu(4, &value)), "A-ABORT 2,6");
            }
            rig.within(&pdu(4, &[0, 0, 1, 0, 1, 3]))
        }),
        row("P29", "P-DATA without a value", INVALID, |rig| rig.within(&pdu(4, &[]))),
        row("P30", "context never proposed", INVALID, |rig| {
            rig.within(&data_on(77, 3, &command(0x30, 1, false, &[])))
        }),
        row("P31", "context that was refused", INVALID, |rig| {
            rig.within(&data_on(5, 3, &command(0x20, 1, true, &[])))
        }),
        row("P32", "P-DATA after A-RELEASE-RQ", &["released, closed"], |rig| {
            let mut peer = rig.associated();
            peer.say(&[pdu(5, &[0; 4]), data(3, b"late")].concat());
            let first = heard(&mut peer);
            format!("{first}, {}", heard(&mut peer))
        }),
        row("P33", "A-RELEASE-RP unasked", UNEXPECTED, |rig| rig.within(&pdu(6, &[0; 4]))),
        row("P34", "a TLS hello", UNKNOWN, |rig| {
            rig.first(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        }),
        row("P35", "HTTP", UNKNOWN, |rig| rig.first(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")),
        row("P36", "random bytes", UNKNOWN, move |rig| rig.first(&random)),
    ]
}

/// P37 to P57: messages.
fn message_rows() -> Vec<Row> {
    vec![
        row("P37", "command fragments without end", INVALID, |rig| {
            let mut peer = rig.associated();
            let before = rig.node.log().len();
            for _ in 0..200 {
                if peer.0.write_all(&data(1, &[0; 16_000])).is_err() {
                    break;
                }
            }
            let heard = heard(&mut peer);
            assert!(rig.node.log().len() < before + 4000, "the log grew");
            heard
        }),
        row("P38", "C-STORE-RQ, then nothing", &["A-ABORT 2,0", "closed"], |rig| {
            rig.within(&store_command("1.2.3"))
        }),
        row("P39", "data set before a command", &["A-ABORT 2,5", "closed"], |rig| {
            rig.within(&data(2, b"pixels"))
        }),
        row("P40", "C-STORE-RQ that declares no data set", &["C000", "A-ABORT 2,5"], |rig| {
            rig.within(&data(3, &command(1, 1, false, &[(2, CT.as_bytes()), (0x1000, b"1.2.3\0")])))
        }),
        row("P41", "release in the middle of an instance", &["released", "A-ABORT 2,2"], |rig| {
            rig.within(&[store_command("1.2.3"), data(0, &[0; 16_000]), pdu(5, &[0; 4])].concat())
        }),
        row("P42", "reset in the middle of an instance", &["closed"], |rig| {
            let mut peer = rig.associated();
            // An answer that is not read makes the close a reset.
            peer.say(&data_on(3, 3, &command(0x30, 1, false, &[])));
            std::thread::sleep(Duration::from_millis(100));
            peer.say(&[store_command("1.2.3"), data(0, &[0; 16_000])].concat());
            drop(peer);
            "closed".to_owned()
        }),
        row("P43", "A-ABORT in the middle of an instance", &["closed"], |rig| {
            rig.within(&[store_command("1.2.3"), data(0, &[0; 16_000]), pdu(7, &[0; 4])].concat())
        }),
        row("P44", "random bytes as a command", &["A-ABORT 0,0", "A-ABORT 2,6", "closed"], |rig| {
            let random = noise(600);
            rig.within(&data(3, &random))
        }),
        row(
            "P45",
            "command cut, element of 4 GiB",
            &["A-ABORT 0,0", "A-ABORT 2,6", "closed"],
            |rig| {
                let whole = command(0x30, 1, false, &[]);
                rig.within(&data_on(3, 3, &whole[..whole.len() - 3]));
                let long = [&[0, 0, 2, 0][..], &0xFFFF_FFF0_u32.to_le_bytes(), b"1.2"].concat();
                rig.within(&data(3, &long))
            },
        ),
        row("P46", "unknown command", &["0211"], |rig| {
            rig.within(&data(3, &command(0x7777, 1, false, &[])))
        }),
        row("P47", "C-FIND on a storage context", &["0122", "0211", "A-ABORT 0,0"], |rig| {
            let find = command(0x20, 1, true, &[(2, CT.as_bytes()), (0x700, &[0, 0])]);
            rig.within(&[data(3, &find), data(2, &element(8, 0x52, b"CS", b"STUDY"))].concat())
        }),
        row("P48", "a response, N-ACTION, C-CANCEL", &["A-ABORT 0,0", "closed"], |rig| {
            let action = rig.within(&data(3, &command(0x0130, 1, false, &[])));
            assert!(["0122", "0211", "A-ABORT 0,0"].contains(&&*action), "{action}");
            rig.within(&data(3, &command(0x0FFF, 1, false, &[])));
            rig.within(&data(3, &command(0x8001, 1, false, &[])))
        }),
        row("P49", "SOP class of command and context differ", &["0122"], |rig| {
            let uid = ours(49);
            rig.within(&[store_on(1, MR, &uid), data(2, &set(&uid, &[]))].concat())
        }),
        row("P50", "instance of command and data set differ", &["A900"], |rig| {
            rig.store(&ours(50), &set(&ours(51), &[]))
        }),
        row("P51", "class of command and data set differ", &["A900"], |rig| {
            let uid = ours(52);
            rig.store(&uid, &identified(MR, &uid, "1.2", "1.2.1", &[]))
        }),
        keeps(1, "P52", "message id 0, priority 99", |rig| {
            let uid = ours(53);
            let (class, named) = (even(CT), even(&uid));
            let store = command(1, 0, true, &[(2, &class), (0x700, &[99, 0]), (0x1000, &named)]);
            rig.within(&[data(3, &store), data(2, &set(&uid, &[]))].concat())
        }),
        keeps(3, "P53", "three requests at once", |rig| {
            let mut peer = rig.associated();
            let three = (54..57).flat_map(|n| whole(&ours(n), &set(&ours(n), &[])));
            peer.say(&three.collect::<Vec<u8>>());
            assert_eq!((heard(&mut peer), heard(&mut peer)), ("0000".into(), "0000".into()));
            heard(&mut peer)
        }),
        row("P54", "two messages interleaved", &["A-ABORT 2,5", "A-ABORT 2,0"], |rig| {
            rig.within(&[store_command("1.2.3"), data_on(3, 0, b"x")].concat())
        }),
        keeps(1, "P55", "byte after byte", |rig| {
            let mut peer = rig.connect();
            peer.0.set_nodelay(true).unwrap();
            for byte in rq().bytes() {
                peer.say(&[byte]);
            }
            assert_eq!(heard(&mut peer), "accepted: 0,0,3");
            for byte in whole(&ours(58), &set(&ours(58), &[])) {
                peer.say(&[byte]);
            }
            heard(&mut peer)
        }),
        keeps(1, "P56", "values of 64 bytes", |rig| {
            let mut bytes = store_command(&ours(59));
            let set = set(&ours(59), &[element(0x7FE0, 0x10, b"OW", &[7; 5000])]);
            let mut chunks = set.chunks(64).peekable();
            while let Some(chunk) = chunks.next() {
                bytes.extend(data(if chunks.peek().is_none() { 2 } else { 0 }, chunk));
            }
            rig.within(&bytes)
        }),
        keeps(1, "P57", "half-close after the request", |rig| {
            let mut peer = rig.associated();
            peer.say(&whole(&ours(60), &set(&ours(60), &[])));
            peer.0.shutdown(Shutdown::Write).unwrap();
            heard(&mut peer)
        }),
    ]
}

/// P60 to P74: identity.
fn identity_rows() -> Vec<Row> {
    let named = |uid: &'static str| move |rig: &Rig| rig.store(uid, &set(uid, &[]));
    let without = |place: usize| {
        move |rig: &Rig| {
            let uid = ours(68);
            let mut parts = [CT, &*uid, "1.2.3.4", "1.2.3.4.1"];
            parts[place] = "";
            rig.store(&uid, &identified(parts[0], parts[1], parts[2], parts[3], &[]))
        }
    };
    let long = |length: usize| {
        move |rig: &Rig| {
            let uid = "1".repeat(length);
            rig.store(&uid, &set(&uid, &[]))
        }
    };
    vec![
        row("P60", "../ as an instance, a study, a series", NOT_UNDERSTOOD, move |rig| {
            for (study, series) in [("../../x", "1.2"), ("1.2", "../x")] {
                let answer = rig.store(&ours(61), &identified(CT, &ours(61), study, series, &[]));
                assert!(NOT_UNDERSTOOD.contains(&&*answer), "{answer}");
            }
            named("../../../etc/passwd")(rig)
        }),
        row("P61", "an absolute path", NOT_UNDERSTOOD, named("/etc/passwd")),
        row("P62", "..", NOT_UNDERSTOOD, named("..")),
        row("P63", "NUL inside", NOT_UNDERSTOOD, named("1.2\0.3")),
        row("P64", "65, 1000, 60000 characters", NOT_UNDERSTOOD, move |rig| {
            for length in [65, 1000] {
                let answer = long(length)(rig);
                assert!(NOT_UNDERSTOOD.contains(&&*answer), "{length}: {answer}");
            }
            long(60_000)(rig)
        }),
        row("P65", "empty", NOT_UNDERSTOOD, named("")),
        row("P66", "shell characters", NOT_UNDERSTOOD, named("$(reboot);1.2|3")),
        row("P67", "CR LF and ANSI", NOT_UNDERSTOOD, move |rig| {
            let answer = named("1.2\r\n\x1b[2J.3")(rig);
            assert!(!rig.node.log().contains('\x1b'), "the log is not escaped");
            answer
        }),
        row("P68", "class, instance, study or series missing", NOT_UNDERSTOOD, move |rig| {
            for place in 0..3 {
                let answer = without(place)(rig);
                assert!(NOT_UNDERSTOOD.contains(&&*answer), "{place}: {answer}");
            }
            without(3)(rig)
        }),
        keeps(1, "P69", "the same instance twice", |rig| {
            let set = set(&ours(69), &[]);
            assert_eq!(rig.store(&ours(69), &set), "0000");
            rig.store(&ours(69), &set)
        }),
        keeps(2, "P70", "the same UID, other bytes", |rig| {
            assert_eq!(rig.store(&ours(70), &set(&ours(70), &[])), "0000");
            let other = set(&ours(70), &[element(0x10, 0x10, b"PN", b"Other^Name")]);
            let answer = rig.store(&ours(70), &other);
            // Both are there: the first is the one that counts.
            let kept: Vec<Vec<u8>> = objects(&rig.node).iter().map(|file| data_set(file)).collect();
            assert!(kept.contains(&other) && kept.contains(&set(&ours(70), &[])));
            answer
        }),
        keeps(1, "P71", "one new instance on 8 associations", |rig| {
            let bytes =
                whole(&ours(71), &set(&ours(71), &[element(0x7FE0, 0x10, b"OW", &[1; 60_000])]));
            std::thread::scope(|scope| {
                let one = || rig.within(&bytes);
                let all: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
                let answers: Vec<String> = all.into_iter().map(|t| t.join().unwrap()).collect();
                assert!(answers.iter().all(|answer| answer == "0000"), "{answers:?}");
            });
            "0000".to_owned()
        }),
        row("P72", "a private SOP class", &["accepted: 3"], |rig| {
            let mut request = rq();
            request.contexts = vec![(1, "1.2.826.0.1.3680043.9.1.1", vec![EXPLICIT])];
            rig.first(&request.bytes())
        }),
        row("P73", "an unknown transfer syntax", &["accepted: 4"], |rig| {
            let mut request = rq();
            request.contexts = vec![(1, CT, vec!["1.2.3.4.5"])];
            rig.first(&request.bytes())
        }),
        row("P74", ". and -rf", NOT_UNDERSTOOD, move |rig| {
            assert!(NOT_UNDERSTOOD.contains(&&*named(".")(rig)));
            named("-rf")(rig)
        }),
    ]
}

/// P80 to P99: data sets.
fn data_set_rows() -> Vec<Row> {
    let kept = |number: u32, more: fn() -> Vec<Vec<u8>>| {
        move |rig: &Rig| rig.store(&ours(number), &set(&ours(number), &more()))
    };
    let refused = |number: u32, more: fn() -> Vec<u8>| {
        move |rig: &Rig| {
            let begun = Instant::now();
            let bytes = [set(&ours(number), &[]), more()].concat();
            let answer = rig.store(&ours(number), &bytes);
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
            answer
        }
    };
    vec![
        row("P80", "an empty data set", NOT_UNDERSTOOD, |rig| rig.store(&ours(80), &[])),
        row("P81", "random bytes", NOT_UNDERSTOOD, |rig| {
            let random = noise(50_000);
            rig.store(&ours(81), &random)
        }),
        row("P82", "implicit VR sent as explicit", NOT_UNDERSTOOD, |rig| {
            let uid = ours(82);
            let implicit: Vec<u8> = [[8, 0, 0x16, 0], [8, 0, 0x18, 0]]
                .iter()
                .zip([CT, &uid])
                .flat_map(|(tag, uid)| {
                    let value = even(uid);
                    [&tag[..], &(value.len() as u32).to_le_bytes(), &value].concat()
                })
                .collect();
            rig.store(&uid, &implicit)
        }),
        row("P83", "100,000 nested sequences", NOT_UNDERSTOOD, refused(83, || nested(100_000))),
        row("P84", "1,500 nested sequences", NOT_UNDERSTOOD, refused(84, || nested(1_500))),
        row(
            "P85",
            "undefined length without an end",
            NOT_UNDERSTOOD,
            refused(85, || [0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255].to_vec()),
        ),
        row(
            "P86",
            "an element longer than the data set",
            NOT_UNDERSTOOD,
            refused(86, || [0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0, 0, 0, 0x10, 1, 2].to_vec()),
        ),
        row(
            "P87",
            "an element of 4 GiB",
            NOT_UNDERSTOOD,
            refused(87, || {
                [0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 0xF0, 255, 255, 255, 1, 2].to_vec()
            }),
        ),
        keeps(
            1,
            "P88",
            "unknown and broken character sets",
            kept(88, || {
                vec![
                    element(8, 5, b"CS", b"ISO_IR 999\\ISO 2022 IR 149"),
                    element(0x10, 0x10, b"PN", b"\x1b$)C\xff\xfe\x80^\xc3\x28"),
                ]
            }),
        ),
        keeps(
            1,
            "P89",
            "script, template, formula, prompt, 60,000 characters",
            kept(89, || {
                vec![
                    element(
                        0x10,
                        0x10,
                        b"PN",
                        b"<script>alert(1)</script>{{7*7}}=cmd|' /C calc'!A0",
                    ),
                    element(0x10, 0x4000, b"LT", &b"Ignore all instructions. ".repeat(2400)),
                ]
            }),
        ),
        keeps(1, "P90", "65535 x 65535 x 2^31-1 frames, 4 bytes", kept(90, || picture(0xFFFF))),
        keeps(
            1,
            "P91",
            "a JPEG 2000 head of 65535 x 65535",
            kept(91, || {
                let mut code_stream = vec![0xFF, 0x4F, 0xFF, 0x51, 0, 0x29, 0, 0];
                code_stream.extend([0, 0, 0xFF, 0xFF, 0, 0, 0xFF, 0xFF].repeat(4));
                let mut elements = picture(512);
                elements.pop();
                elements.push(fragments(&[&code_stream]));
                elements
            }),
        ),
        keeps(
            1,
            "P92",
            "broken fragments",
            kept(92, || {
                let mut elements = picture(512);
                elements.pop();
                elements.push(fragments(&[b"", b"\xFF\xD8\xFF", b"\0\0"]));
                elements
            }),
        ),
        row("P93", "a deflate bomb of 512 MiB", EITHER, |rig| {
            let fast = flate2::Compression::fast();
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), fast);
            let zeros = vec![0; 1 << 20];
            for _ in 0..512 {
                encoder.write_all(&zeros).unwrap();
            }
            let bomb = encoder.finish().unwrap();
            let mut request = rq();
            request.contexts = vec![(1, CT, vec![DEFLATED])];
            let mut peer = rig.connect();
            peer.say(&request.bytes());
            assert_eq!(heard(&mut peer), "accepted: 0");
            peer.say(&whole(&ours(93), &bomb));
            heard(&mut peer)
        }),
        keeps(
            1,
            "P94",
            "20,000 odd private elements",
            kept(94, || {
                (0..20_000)
                    .map(|n| element(9 + (n / 200) * 2, 0x1000 + n % 200, b"LO", b"odd"))
                    .collect()
            }),
        ),
        row("P95", "group 0002 inside", EITHER, |rig| {
            let uid = ours(95);
            let meta = element(2, 0x10, b"UI", EXPLICIT.as_bytes());
            rig.store(&uid, &[set(&uid, &[]), meta].concat())
        }),
        keeps(1, "P96", "elements in disorder", |rig| {
            let uid = ours(96);
            let late = element(8, 0x60, b"CS", b"CT");
            rig.store(&uid, &[set(&uid, &[]), late].concat())
        }),
        row(
            "P97",
            "a VR of control bytes",
            EITHER,
            refused(97, || [0x28, 0, 0x10, 0, 1, 2, 2, 0, 0, 2].to_vec()),
        ),
        keeps(1, "P98", "64 MiB", |rig| {
            let uid = ours(98);
            let pixels = element(0x7FE0, 0x10, b"OW", &vec![5; 64 << 20]);
            rig.store(&uid, &set(&uid, &[pixels]))
        }),
        row("P99", "a data set over the limit, endless", &["A700", "closed"], |rig| {
            let mut peer = rig.associated();
            peer.say(&store_command(&ours(99)));
            let piece = data(0, &vec![0; 120_000]);
            for _ in 0..4000 {
                if peer.0.write_all(&piece).is_err() {
                    break;
                }
            }
            heard(&mut peer)
        }),
    ]
}

/// Pixels that are not what they are said to be.
fn picture(edge: u16) -> Vec<Vec<u8>> {
    let short = |number, value: u16| element(0x28, number, b"US", &value.to_le_bytes());
    vec![
        element(8, 0x60, b"CS", b"CT"),
        short(2, 1),
        element(0x28, 4, b"CS", b"MONOCHROME2"),
        element(0x28, 8, b"IS", b"2147483647"),
        short(0x10, edge),
        short(0x11, edge),
        short(0x100, 16),
        short(0x101, 16),
        short(0x102, 15),
        short(0x103, 0),
        element(0x7FE0, 0x10, b"OW", &[1, 2, 3, 4]),
    ]
}

fn fragments(all: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![0xE0, 0x7F, 0x10, 0, b'O', b'B', 0, 0, 255, 255, 255, 255];
    for fragment in all {
        bytes.extend([0xFE, 0xFF, 0, 0xE0]);
        let length = fragment.len().next_multiple_of(2);
        bytes.extend((length as u32).to_le_bytes());
        bytes.extend_from_slice(fragment);
        bytes.resize(bytes.len() + length - fragment.len(), 0);
    }
    bytes.extend([0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
    bytes
}

/// P100 to P107 and idle: many, and slow.
fn crowd_rows() -> Vec<Row> {
    vec![
        row("P100", "one silent connection", &["closed", "A-ABORT 2,0"], |rig| {
            let mut peer = rig.connect();
            rig.serves(100_000);
            heard(&mut peer)
        }),
        row("P101", "200 silent connections", &["others are served"], |rig| {
            let crowd: Vec<TcpStream> =
                (0..200).map(|_| TcpStream::connect(rig.dicom).unwrap()).collect();
            let begun = Instant::now();
            rig.serves(101_000);
            assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
            drop(crowd);
            "others are served".to_owned()
        }),
        row("P102", "a request byte by byte, for ever", &["closed", "A-ABORT 2,0"], |rig| {
            let mut peer = rig.connect();
            let begun = Instant::now();
            for byte in rq().bytes() {
                if peer.0.write_all(&[byte]).is_err() || begun.elapsed() > Duration::from_secs(4) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            let heard = heard(&mut peer);
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            heard
        }),
        row(
            "P103",
            "more associations than a peer may have",
            &["rejected 2,3,1", "rejected 2,3,2"],
            |rig| {
                let crowd: Vec<Bad> =
                    (0..20).map(|_| Bad::associated(rig.dicom, "CROWD")).collect();
                let mut request = rq();
                request.calling = b"CROWD";
                let answer = rig.first(&request.bytes());
                rig.serves(103_000);
                drop(crowd);
                answer
            },
        ),
        row("P104", "2,000 connections", &["closed"], |rig| {
            for _ in 0..2000 {
                drop(TcpStream::connect(rig.dicom).unwrap());
            }
            "closed".to_owned()
        }),
        row("P105", "1,000 associations", &["released"], |rig| {
            for _ in 0..1000 {
                assert_eq!(rig.within(&pdu(5, &[0; 4])), "released");
            }
            "released".to_owned()
        }),
        row("P106", "300 aborts", &["closed"], |rig| {
            for n in 0..300 {
                let half = [store_command("1.2.3"), data(0, &[0; 9_000])].concat();
                let before = if n % 2 == 0 { half } else { Vec::new() };
                assert_eq!(rig.within(&[before, pdu(7, &[0; 4])].concat()), "closed");
            }
            "closed".to_owned()
        }),
        keeps(16 * 20, "P107", "16 senders", |rig| {
            std::thread::scope(|scope| {
                for sender in 0..16 {
                    scope.spawn(move || {
                        let mut peer = rig.associated();
                        for number in 0..20 {
                            peer.say(&load::message(&load::uid(700 + sender, number, 9_000)));
                            assert_eq!(heard(&mut peer), "0000");
                        }
                    });
                }
            });
            "0000".to_owned()
        }),
        row("idle", "silent in each state", &["5 closed in time"], |rig| {
            let half_request = rq().bytes()[..60].to_vec();
            let half_set = [store_command("1.2.3"), data(0, &[0; 9_000])].concat();
            let states: Vec<(bool, Vec<u8>)> = vec![
                (false, Vec::new()),
                (false, half_request),
                (true, Vec::new()),
                (true, store_command("1.2.3")),
                (true, half_set),
            ];
            let begun = Instant::now();
            let closed = std::thread::scope(|scope| {
                let all: Vec<_> = states
                    .into_iter()
                    .map(|(associate, bytes)| {
                        scope.spawn(move || {
                            let mut peer = if associate { rig.associated() } else { rig.connect() };
                            peer.say(&bytes);
                            heard(&mut peer)
                        })
                    })
                    .collect();
                let heard = all.into_iter().map(|thread| thread.join().unwrap());
                heard.filter(|said| said == "closed" || said.starts_with("A-ABORT")).count()
            });
            assert!(begun.elapsed() < Duration::from_secs(7), "{:?}", begun.elapsed());
            format!("{closed} closed in time")
        }),
    ]
}

/// Every row; then a good peer, and memory, files, threads and folders as before.
#[test]
fn every_row_of_the_list_of_faults_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), SETTINGS);
    let rig = Rig { dicom: node.dicom, node };
    // The buffers of a good day.
    let warm = |run: u64| {
        std::thread::scope(|scope| {
            for sender in 0..16 {
                let rig = &rig;
                scope.spawn(move || {
                    let mut peer = rig.associated();
                    for number in 0..4 {
                        peer.say(&load::message(&load::uid(run + sender, number, 1_400_000)));
                        assert_eq!(heard(&mut peer), "0000");
                    }
                });
            }
        });
    };
    warm(600);
    rig.serves(1);
    let (memory, threads) = (rig.status_number("VmRSS"), rig.status_number("Threads"));
    let files = rig.files();
    let rows: Vec<Row> =
        [association_rows(), message_rows(), identity_rows(), data_set_rows(), crowd_rows()]
            .into_iter()
            .flatten()
            .collect();
    let mut table =
        vec![format!("{:5} {:52} {:22} {:>6} {:>6}", "id", "fault", "answer", "ms", "MiB")];
    let mut wrong = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        let stored = rig.stored();
        rig.reset_peak();
        let begun = Instant::now();
        let run = std::panic::AssertUnwindSafe(|| (row.run)(&rig));
        let answer = std::panic::catch_unwind(run).unwrap_or_else(|_| "panicked, see above".into());
        let took = begun.elapsed();
        let grown = rig.status_number("VmHWM").saturating_sub(memory) / 1024;
        table.push(format!(
            "{:5} {:52} {answer:22} {:>6} {grown:>6}",
            row.id,
            row.what,
            took.as_millis()
        ));
        if !row.allowed.contains(&&*answer) {
            wrong.push(format!("{} {}: {answer}, not {:?}", row.id, row.what, row.allowed));
        }
        // 16 senders of 2 MB; one instance of 64 MiB may not show.
        if grown > 40 {
            wrong.push(format!("{} {}: {grown} MiB of memory", row.id, row.what));
        }
        rig.serves(10 + number as u64);
        let served = if row.id.starts_with("P10") && row.id.len() == 4 { 2 } else { 1 };
        let more = rig.stored() - stored;
        let kept = row.keeps.max(usize::from(answer == "0000"));
        if !(kept + 1..=kept + served).contains(&more) {
            wrong.push(format!("{} {}: {more} files more, not {}", row.id, row.what, kept + 1));
        }
    }
    println!("{}", table.join("\n"));
    assert!(wrong.is_empty(), "{wrong:#?}");
    let incoming = || crate::peer::files_below(&rig.node.data.join("incoming"));
    wait_for("nothing left behind", || {
        let quiet = incoming() == Vec::<PathBuf>::new() && rig.files() <= files + 8;
        (quiet && rig.status_number("Threads") <= threads + 8).then_some(())
    });
    let now = rig.status_number("VmRSS");
    println!("memory {} -> {} MiB, {} -> {} files", memory / 1024, now / 1024, files, rig.files());
    assert!(now < memory + (40 << 10), "{memory} -> {now} KiB after all rows");
    // Nothing stands outside the folder, and nothing has a name of a peer's choice.
    for file in objects(&rig.node) {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{name}");
    }
    assert!(!folder.path().join("../etc").exists());
    assert_eq!(rig.node.terminate(), Some(0));
}
