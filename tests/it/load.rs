//! Senders on several associations that remember what they were told, and the comparison of that
//! with what a node keeps.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use crate::node::PRELIM;
use crate::node::wait_for;
use crate::peer::Bad;
use crate::peer::CT;
use crate::peer::data;
use crate::peer::data_set;
use crate::peer::files_below;
use crate::peer::request;
use crate::peer::store_command;

const OURS: &str = "1.2.826.0.1.3680043.8.498";

/// The SOP Instance UID of a made instance; all its bytes follow from it.
///
/// - `run`: the study; one for each sender and run.
pub fn uid(run: u64, number: u64, size: usize) -> String {
    format!("{OURS}.{run}.{number}.{size}")
}

/// Explicit VR, little endian: what a node needs to know, and `size` bytes of pixels.
pub fn made(uid: &str) -> Vec<u8> {
    let numbers: Vec<u64> = uid[OURS.len() + 1..].split('.').map(|n| n.parse().unwrap()).collect();
    let [run, number, size] = numbers[..] else { panic!("{uid}") };
    let element = |tag: [u8; 4], vr: &[u8; 2], value: String| {
        let mut value = value.into_bytes();
        if value.len() % 2 == 1 {
            value.push(if vr == b"UI" { 0 } else { b' ' });
        }
        let length = u16::try_from(value.len()).unwrap().to_le_bytes();
        [&tag[..], vr, &length, &value].concat()
    };
    let mut bytes = [
        element([8, 0, 0x16, 0], b"UI", CT.to_owned()),
        element([8, 0, 0x18, 0], b"UI", uid.to_owned()),
        element([8, 0, 0x60, 0], b"CS", "CT".to_owned()),
        element([0x10, 0, 0x20, 0], b"LO", format!("LOAD-{run}")),
        element([0x20, 0, 0x0D, 0], b"UI", format!("{OURS}.{run}")),
        element([0x20, 0, 0x0E, 0], b"UI", format!("{OURS}.{run}.1")),
        vec![0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0],
    ]
    .concat();
    let size = size & !1;
    bytes.extend(u32::try_from(size).unwrap().to_le_bytes());
    let mut state = (run << 32 | number).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for _ in 0..size / 2 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes()[..2]);
    }
    bytes
}

/// A whole C-STORE-RQ.
pub fn message(uid: &str) -> Vec<u8> {
    let set = made(uid);
    let mut bytes = store_command(uid);
    let mut chunks = set.chunks(16_000).peekable();
    while let Some(chunk) = chunks.next() {
        bytes.extend(data(if chunks.peek().is_none() { 2 } else { 0 }, chunk));
    }
    bytes
}

/// What senders were told.
#[derive(Debug, Default)]
pub struct Told {
    /// Answered with 0000.
    pub stored: Vec<String>,
    /// Answered with another status, and its comment.
    pub refused: Vec<(u16, String)>,
    /// Times that a connection ended without the answer that was due.
    pub unanswered: usize,
}

/// Ends the senders also when the test fails meanwhile.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// `senders` threads that send until `stop`, each to a study of its own; they come back after a
/// connection ended.
///
/// - `run`: makes UIDs that no other call makes.
/// - `sizes`: bytes of pixels, in turn.
pub fn senders<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    dicom: SocketAddr,
    senders: u64,
    run: u64,
    sizes: &'scope [usize],
    stop: &'scope AtomicBool,
    told: &'scope Mutex<Told>,
) -> Vec<ScopedJoinHandle<'scope, ()>> {
    let one = move |sender: u64| {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            let Some(mut peer) = associate(dicom) else {
                std::thread::sleep(Duration::from_millis(20));
                continue;
            };
            while !stop.load(Ordering::Relaxed) {
                let size = sizes[(number + sender) as usize % sizes.len()];
                let uid = uid(run * 100 + sender, number, size);
                number += 1;
                peer.say(&message(&uid));
                let answer = peer.status();
                let mut told = told.lock().unwrap();
                match answer {
                    Some((0, _)) => told.stored.push(uid),
                    Some(refused) => told.refused.push(refused),
                    None => {
                        told.unanswered += 1;
                        break;
                    }
                }
            }
        }
    };
    (0..senders).map(|sender| scope.spawn(move || one(sender))).collect()
}

fn associate(dicom: SocketAddr) -> Option<Bad> {
    let stream = std::net::TcpStream::connect(dicom).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.set_nodelay(true).ok()?;
    let mut peer = Bad(stream);
    peer.say(&request("LOAD"));
    (peer.hear() == Some(2)).then_some(peer)
}

/// The instances below a folder, by SOP Instance UID.
pub fn kept(folder: &Path) -> BTreeMap<String, PathBuf> {
    let uid = |path: &PathBuf| {
        let stem = path.file_stem()?.to_str()?;
        stem.starts_with(OURS).then(|| stem.to_owned())
    };
    files_below(folder).into_iter().filter_map(|path| Some((uid(&path)?, path))).collect()
}

/// What a node has kept so far, compared over its starts.
pub struct Comparison {
    data: PathBuf,
    /// What was acknowledged.
    stored: BTreeSet<String>,
    /// Found with the bytes that were sent, since the last [`Comparison::again`].
    compared: BTreeSet<String>,
    /// Not acknowledged, not in the index, and a part of it stands in a file.
    pub remains: BTreeSet<String>,
}

impl Comparison {
    pub fn new(data: &Path) -> Comparison {
        Comparison {
            data: data.to_owned(),
            stored: BTreeSet::new(),
            compared: BTreeSet::new(),
            remains: BTreeSet::new(),
        }
    }

    pub fn stored(&self) -> usize {
        self.stored.len()
    }

    pub fn one(&self) -> &str {
        self.stored.first().expect("something was acknowledged")
    }

    pub fn add(&mut self, stored: Vec<String>) {
        self.stored.extend(stored);
    }

    /// What was found right is compared again.
    pub fn again(&mut self) {
        self.compared.clear();
    }

    /// Each acknowledged instance is there with the bytes that were sent; what was not
    /// acknowledged is absent, or complete, or nothing that the node knows of.
    pub fn assert_nothing_lost(&mut self) {
        // What was acknowledged may reach its file a moment after the start.
        let patience = std::time::Instant::now() + Duration::from_secs(15);
        let (mut found, mut wrong);
        loop {
            found = kept(&self.data.join("objects"));
            wrong = Vec::new();
            for uid in self.stored.difference(&self.compared) {
                match found.get(uid) {
                    Some(path) if data_set(path) == made(uid) => {}
                    Some(_) => wrong.push(format!("{uid} is torn")),
                    None => wrong.push(format!("{uid} is lost")),
                }
            }
            let missing = self.compared.iter().filter(|uid| !found.contains_key(*uid));
            wrong.extend(missing.map(|uid| format!("{uid} is gone")));
            if wrong.is_empty() || std::time::Instant::now() > patience {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let some = &wrong[..wrong.len().min(5)];
        assert!(wrong.is_empty(), "{} of {}: {some:?} …", wrong.len(), self.stored.len());
        self.compared.extend(self.stored.iter().cloned());
        for (uid, path) in found {
            if self.compared.contains(&uid) || self.remains.contains(&uid) {
                continue;
            }
            // It may have been removed meanwhile.
            let Ok(length) = path.metadata() else { continue };
            if length.len() > 132 && data_set(&path) == made(&uid) {
                continue;
            }
            let get = Command::new(PRELIM).args(["get", &uid, "--data"]).arg(&self.data).output();
            assert!(!get.unwrap().status.success(), "{uid} is torn and in the index");
            self.remains.insert(uid);
        }
    }
}

/// Waits until so many were told.
pub fn wait_for_told(told: &Mutex<Told>, what: &str, enough: impl Fn(&Told) -> bool) {
    wait_for(what, || enough(&told.lock().unwrap()).then_some(()));
}
