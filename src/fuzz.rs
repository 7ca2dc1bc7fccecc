//! Ways in for bytes from outside, one function each: whatever they get, they return. For the
//! fuzzers in `fuzz/` (for hours, by hand) and for the test below (some seconds, each time).

use std::future::Future;
use std::io::Cursor;
use std::sync::OnceLock;

use bytes::Bytes;
use tokio::io::AsyncWriteExt as _;

use crate::analysis::answer;
use crate::analysis::final_report;
use crate::dicom::command::Command;
use crate::dicom::config::Config;
use crate::dicom::elements::Elements;
use crate::dicom::negotiation;
use crate::dicom::pdu::Pdu;
use crate::dicom::pdu::Wire;
use crate::dicom::pdu::next_pdv;
use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::scan;
use crate::dicom::scan::scan_marked;
use crate::dicom::storage_scu::Head;
use crate::domain::aligned::Pool;
use crate::domain::uid::TransferSyntaxUid;
use crate::hl7::ack;
use crate::hl7::message;
use crate::hl7::mllp;
use crate::orders;

/// A name, and what is done with the bytes.
pub type Target = (&'static str, fn(&[u8]));

/// The folders of `tests/corpus` have these names.
pub const TARGETS: &[Target] = &[
    ("pdu", pdu),
    ("association", association),
    ("command", command),
    ("data_set", data_set),
    ("meta", meta),
    ("answer", answer),
    ("hl7", hl7),
];

const SYNTAXES: [&str; 4] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    negotiation::EXPLICIT_VR_BIG_ENDIAN,
    "1.2.840.10008.1.2.1.99",
];
const PDU_BYTES_MAX: u32 = 16_384;

fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("a runtime without drivers").block_on(future)
}

/// What a peer says, PDU after PDU; the same however it is cut into reads, and wherever the values
/// of a data set are put.
pub fn pdu(bytes: &[u8]) {
    let copied = heard(bytes, bytes.len().max(1), false);
    for (piece, gather) in [(61, false), (bytes.len().max(1), true), (131, true)] {
        let other = heard(bytes, piece, gather);
        assert!(other.starts_with(&copied), "heard otherwise in pieces of {piece}, {gather}");
    }
}

/// The values in order: context, whether it is a command, each byte of it, its end.
fn heard(bytes: &[u8], piece: usize, gather: bool) -> Vec<(u8, bool, Option<u8>)> {
    let pool = Pool::new(4096, 1);
    let (mut theirs, ours) = tokio::io::duplex(piece);
    let say = async move {
        let _ = theirs.write_all(bytes).await;
        drop(theirs);
    };
    let hear = async move {
        let mut wire = Wire::new(ours, PDU_BYTES_MAX);
        wire.expect_data();
        let mut heard = Vec::new();
        loop {
            if gather && wire.gathered().is_none_or(|buffer| buffer.room() == 0) {
                wire.gather(pool.take());
            }
            match wire.read().await.expect("memory cannot fail") {
                Pdu::Data(mut body) => {
                    while let Some(value) = next_pdv(&mut body) {
                        let Some(value) = value else { return heard };
                        let (context, is_command) = (value.context, value.is_command);
                        heard.extend(value.data.iter().map(|b| (context, is_command, Some(*b))));
                        if value.is_last {
                            heard.push((context, is_command, None));
                        }
                    }
                }
                Pdu::Gathered(part) => {
                    let buffer = wire.take_gathered().expect("it was gathered there");
                    let all: &[u8] = buffer.as_ref();
                    let new = &all[all.len() - part.bytes..];
                    heard.extend(new.iter().map(|b| (part.context, false, Some(*b))));
                    if part.is_last {
                        heard.push((part.context, false, None));
                    }
                    wire.gather(buffer);
                }
                Pdu::Closed | Pdu::Invalid { .. } => return heard,
                Pdu::Request(_)
                | Pdu::Accept(_)
                | Pdu::Reject(_)
                | Pdu::ReleaseRequest
                | Pdu::ReleaseReply
                | Pdu::Abort { .. } => {}
            }
        }
    };
    wait(async { tokio::join!(say, hear).1 })
}

/// A request, decided and answered; our own answer can be read.
pub fn association(bytes: &[u8]) {
    let config = Config::default();
    let first = |bytes: Bytes| {
        let (mut theirs, ours) = tokio::io::duplex(bytes.len().max(1));
        wait(async move {
            let _ = theirs.write_all(&bytes).await;
            drop(theirs);
            Wire::new(ours, PDU_BYTES_MAX).read().await.expect("memory cannot fail")
        })
    };
    let Pdu::Request(request) = first(Bytes::copy_from_slice(bytes)) else { return };
    if let Some(rejection) = negotiation::reject(&request) {
        rejection.encode();
        return;
    }
    let policy = config.policy();
    let proposed = &request.body.presentation_contexts;
    let (results, accepted) = negotiation::contexts(proposed, &request.user.roles, &policy);
    assert!(accepted.len() <= results.len() && results.len() <= proposed.len());
    let answer = negotiation::encode_accept(&request, results, &policy, PDU_BYTES_MAX);
    let heard = first(answer.into());
    assert!(matches!(heard, Pdu::Accept(_)), "our own A-ASSOCIATE-AC is unreadable: {heard:?}");
}

/// A command set, and our answer to it.
pub fn command(bytes: &[u8]) {
    let Ok(command) = Command::parse(bytes) else { return };
    let what = crate::dicom::command::Answer {
        status: crate::dicom::status::Status::OUT_OF_RESOURCES,
        error_comment: &command.error_comment,
        error_id: None,
        sop_instance_uid: None,
    };
    let answer = command.answer(&what);
    assert!(answer.len() < 512, "{} bytes", answer.len());
    assert!(Command::parse(&answer).is_ok(), "our own answer is unreadable");
}

/// A data set; its first byte chooses the transfer syntax.
pub fn data_set(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let syntax = SYNTAXES[usize::from(*choice) % SYNTAXES.len()];
    let uid = TransferSyntaxUid::parse(syntax).expect("a UID");
    let limits = ScanLimits { inflated_bytes_max: 1 << 20, ..ScanLimits::default() };
    let strict = scan(Cursor::new(bytes), bytes.len() as u64, &uid, &limits);
    let lenient = scan_marked(Cursor::new(bytes), bytes.len() as u64, &uid, &limits);
    if let Ok(strict) = strict {
        let lenient = lenient.expect("what is whole is fit to be marked");
        assert_eq!(strict, lenient, "what is whole is marked broken");
    }
    let _ = Elements::read(bytes, syntax);
}

/// A Part 10 file.
pub fn meta(bytes: &[u8]) {
    let _ = Head::of_bytes(bytes);
}

/// What a model answers.
pub fn answer(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(value) = answer::extract(&text) {
        assert!(value.is_object());
    }
    static SCHEMA: OnceLock<serde_json::Value> = OnceLock::new();
    let schema = SCHEMA.get_or_init(|| {
        let profiles = crate::analysis::profile::load(None).expect("the profiles that ship");
        answer::schema(profiles.first().expect("there are some"))
    });
    let _ = answer::parse::<answer::Answer>(&text, schema);
}

/// What an HL7 sender says, in frames however they are cut, and an answer to each message that can
/// be read.
pub fn hl7(bytes: &[u8]) {
    let heard = |piece: usize| {
        let (mut theirs, ours) = tokio::io::duplex(piece);
        let say = async move {
            let _ = theirs.write_all(bytes).await;
            drop(theirs);
        };
        let hear = async move {
            let mut frames = mllp::Frames::new(ours, bytes.len());
            let mut heard = Vec::new();
            while let Ok(Some(message)) = frames.next().await {
                heard.push(message);
            }
            heard
        };
        wait(async { tokio::join!(say, hear).1 })
    };
    let whole = heard(bytes.len().max(1));
    assert_eq!(whole, heard(61), "heard otherwise in pieces");
    for message in whole.iter().map(Vec::as_slice).chain([bytes]) {
        let Some(message) = message::Message::read(message, None) else { continue };
        let at = jiff::Timestamp::UNIX_EPOCH;
        let _ = orders::message::orders(&message, at);
        let _ = final_report::Message::of(&message);
        let answer = ack::answer(Some(&message), "AE", &message.header(9), "1", at);
        let clean = |b: u8| b >= 0x20 || b == b'\r';
        assert!(answer.bytes().all(clean), "a control character in an answer");
        let read = message::Message::parse(&answer).expect("our answer is a message");
        let said = ack::Ack::of(&read).expect("and an acknowledgement");
        assert_eq!(said.code, ack::Code::Error);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::path::PathBuf;
    use std::time::Duration;
    use std::time::Instant;

    use rand::Rng as _;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");
    const BYTES_MAX: usize = 16 << 10;

    fn corpus(target: &str) -> Vec<Vec<u8>> {
        let entries = std::fs::read_dir(Path::new(CORPUS).join(target)).unwrap();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
    }

    /// Some changes of the kinds that find lengths, ends and orders.
    fn mutate(corpus: &[Vec<u8>], chance: &mut StdRng) -> Vec<u8> {
        let mut bytes = corpus[chance.random_range(0..corpus.len())].clone();
        for _ in 0..chance.random_range(1..=6) {
            let at = chance.random_range(0..=bytes.len());
            let to = chance.random_range(at..=bytes.len().min(at + 64));
            match chance.random_range(0..9) {
                0 if at < bytes.len() => bytes[at] ^= 1 << chance.random_range(0..8),
                1 if at < bytes.len() => {
                    bytes[at] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF][chance.random_range(0..6)];
                }
                2 | 3 if at + 4 <= bytes.len() => {
                    let small = chance.random_range(0..512);
                    let value = [u32::MAX, u32::MAX - 1, 1 << 31, small][chance.random_range(0..4)];
                    let new =
                        if chance.random() { value.to_be_bytes() } else { value.to_le_bytes() };
                    let length = [1, 2, 4][chance.random_range(0..3)];
                    bytes[at..at + length].copy_from_slice(&new[4 - length..]);
                }
                4 => drop(bytes.drain(at..to)),
                5 => {
                    let part = bytes[at..to].to_vec();
                    let times = chance.random_range(1..40);
                    bytes.splice(at..at, part.repeat(times));
                }
                6 => bytes.truncate(at),
                7 => {
                    let other = &corpus[chance.random_range(0..corpus.len())];
                    let from = chance.random_range(0..=other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[from..]);
                }
                _ => bytes.insert(at, chance.random()),
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }

    /// Runs one input; what fails is kept in a file for the corpus.
    fn run(target: Target, bytes: &[u8], number: u64) {
        let begun = Instant::now();
        let done = std::panic::catch_unwind(|| (target.1)(bytes));
        let took = begun.elapsed();
        if done.is_err() || took > Duration::from_secs(2) {
            let path = std::env::temp_dir().join(format!("prelim-fuzz-{}-{number}", target.0));
            std::fs::write(&path, bytes).unwrap();
            panic!("{} fails or takes {took:?} on {}", target.0, path.display());
        }
    }

    fn fuzz(target: Target, seed: u64, length: Duration) {
        let corpus = corpus(target.0);
        assert!(corpus.len() >= 3, "{}: a corpus", target.0);
        corpus.iter().for_each(|bytes| run(target, bytes, 0));
        let mut chance = StdRng::seed_from_u64(seed);
        let (begun, mut number) = (Instant::now(), 0);
        while begun.elapsed() < length {
            number += 1;
            run(target, &mutate(&corpus, &mut chance), number);
        }
        println!("{}: {number} inputs", target.0);
        assert!(number > 100, "{}: {number} inputs", target.0);
    }

    fn fuzz_all(seed: u64, length: Duration) {
        std::thread::scope(|scope| {
            for target in TARGETS {
                scope.spawn(move || fuzz(*target, seed, length));
            }
        });
    }

    #[test]
    fn no_bytes_from_outside_are_too_strange() {
        fuzz_all(7, Duration::from_millis(1500));
    }

    #[test]
    #[ignore = "ten minutes: scripts/soak"]
    fn soak_no_bytes_from_outside_are_too_strange() {
        for seed in 100..110 {
            fuzz_all(seed, Duration::from_secs(60));
        }
    }
}
