//! What stands before a real peer and goes wrong: at the first connection, mostly.

use std::io::Read as _;
use std::io::Write as _;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::node::free_port;
use crate::node::wait_for;

/// What a connection meets before the peer; all but `Always` only the first one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    /// Nobody listens, until the test says so.
    Refused,
    /// What is said is read and never answered.
    Hang,
    /// It ends in the middle of what is sent.
    Cut,
    /// The peer has it, its answer is lost.
    Lost,
    /// The answer of another service.
    Garbage,
    /// This answer, once.
    Once(&'static str),
    Always(&'static str),
}

/// Stands before a peer and goes wrong.
pub struct Front {
    pub port: u16,
    pub opened: Arc<AtomicBool>,
}

impl Front {
    /// - `middle`: bytes after which a transfer is in its middle.
    pub fn start(fault: Fault, middle: usize, to: u16) -> Front {
        let port = free_port();
        let opened = Arc::new(AtomicBool::new(fault != Fault::Refused));
        let may_open = Arc::clone(&opened);
        std::thread::spawn(move || {
            while !may_open.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            for (nth, client) in listener.incoming().enumerate() {
                let meets = nth == 0 || matches!(fault, Fault::Always(_));
                let fault = Some(fault).filter(|fault| meets && *fault != Fault::Refused);
                std::thread::spawn(move || meet(fault, client.unwrap(), middle, to));
            }
        });
        if fault != Fault::Refused {
            // Without a connection: the first one is the node's.
            wait_for("a port that is taken", || TcpListener::bind(("127.0.0.1", port)).err());
        }
        Front { port, opened }
    }
}

fn meet(fault: Option<Fault>, mut client: TcpStream, middle: usize, to: u16) {
    let mut piece = [0; 65_536];
    match fault {
        Some(Fault::Hang) => while client.read(&mut piece).is_ok_and(|bytes| bytes > 0) {},
        Some(Fault::Garbage) => {
            let _ = client.read(&mut piece);
            let _ = client.write_all(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n");
        }
        Some(Fault::Once(answer) | Fault::Always(answer)) => {
            let mut heard = Vec::new();
            // Its head and as much of its body as it says.
            while !is_whole(&heard) {
                match client.read(&mut piece) {
                    Ok(bytes) if bytes > 0 => heard.extend_from_slice(&piece[..bytes]),
                    _ => return,
                }
            }
            let _ = client.write_all(answer.as_bytes());
        }
        Some(Fault::Cut | Fault::Lost | Fault::Refused) | None => pass(fault, client, middle, to),
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    request.len() >= head.len() + 4 + length.map_or(0, |length| length.parse().unwrap())
}

/// To the peer and back, as far as the fault lets it.
fn pass(fault: Option<Fault>, client: TcpStream, middle: usize, to: u16) {
    let peer = TcpStream::connect(("127.0.0.1", to)).unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let back = (peer.try_clone().unwrap(), client.try_clone().unwrap());
    let counted = Arc::clone(&sent);
    let answers = std::thread::spawn(move || {
        let lost = || fault == Some(Fault::Lost) && counted.load(Ordering::SeqCst) > middle;
        pump(back.0, back.1, |bytes| if lost() { 0 } else { bytes });
    });
    pump(client, peer, |bytes| {
        let before = sent.fetch_add(bytes, Ordering::SeqCst);
        match fault {
            Some(Fault::Cut) => bytes.min(middle.saturating_sub(before)),
            _ => bytes,
        }
    });
    let _ = answers.join();
}

/// - `may`: how many of so many bytes go on; fewer end both ways.
fn pump(mut from: TcpStream, mut to: TcpStream, mut may: impl FnMut(usize) -> usize) {
    let mut piece = [0; 65_536];
    while let Ok(bytes) = from.read(&mut piece) {
        let goes_on = may(bytes);
        let _ = to.write_all(&piece[..goes_on]);
        if bytes == 0 || goes_on < bytes {
            break;
        }
    }
    for side in [from, to] {
        let _ = side.shutdown(Shutdown::Both);
    }
}
