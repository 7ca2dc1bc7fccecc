//! A peer made of bytes: what it says is up to the test. And what a test asks of a node's process
//! and folder.

use std::io::Read as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::node::Node;
use crate::node::run;
use crate::node::wait_for;

/// A peer that says what it likes.
pub struct Bad(pub TcpStream);

impl Bad {
    pub fn connect(dicom: SocketAddr) -> Bad {
        let stream = TcpStream::connect(dicom).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Bad(stream)
    }

    pub fn associated(dicom: SocketAddr, calling: &str) -> Bad {
        let mut peer = Bad::connect(dicom);
        peer.say(&request(calling));
        assert_eq!(peer.hear(), Some(2), "an association");
        peer
    }

    pub fn say(&mut self, bytes: &[u8]) {
        // A peer that has closed shows in what is heard.
        let _ = self.0.write_all(bytes);
    }

    /// The type of the next PDU; None when the connection ends.
    pub fn hear(&mut self) -> Option<u8> {
        Some(self.hear_all()?.0)
    }

    /// The type and the body of the next PDU.
    pub fn hear_all(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut header = [0; 6];
        self.0.read_exact(&mut header).ok()?;
        let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
        let mut body = vec![0; length as usize];
        self.0.read_exact(&mut body).ok()?;
        Some((header[0], body))
    }

    /// Status and Error Comment of the next response; None when something else comes.
    pub fn status(&mut self) -> Option<(u16, String)> {
        let (4, body) = self.hear_all()? else { return None };
        let (mut status, mut comment) = (None, String::new());
        // Length, context and control of one value, then elements of an implicit VR.
        let mut rest = body.get(6..)?;
        while let Some((head, tail)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize;
            let (value, tail) = tail.split_at_checked(length)?;
            match head[..4] {
                [0, 0, 0, 9] => status = Some(u16::from_le_bytes(value.try_into().unwrap())),
                [0, 0, 2, 9] => comment = String::from_utf8_lossy(value).trim_end().to_owned(),
                _ => {}
            }
            rest = tail;
        }
        Some((status?, comment))
    }
}

pub fn item(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], body].concat()
}

pub fn pdu(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 0], &length[..], body].concat()
}

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

pub fn request(calling: &str) -> Vec<u8> {
    let context =
        [vec![1, 0, 0, 0], item(0x30, CT.as_bytes()), item(0x40, b"1.2.840.10008.1.2.1")].concat();
    let user = item(0x51, &16384_u32.to_be_bytes());
    let body = [
        vec![0, 1, 0, 0],
        format!("{:<16}{calling:<16}", "PRELIM").into_bytes(),
        vec![0; 32],
        item(0x10, b"1.2.840.10008.3.1.1.1"),
        item(0x20, &context),
        item(0x50, &user),
    ];
    pdu(1, &body.concat())
}

pub fn data(control: u8, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 2).unwrap().to_be_bytes();
    pdu(4, &[&length[..], &[1, control], data].concat())
}

pub fn store_command(uid: &str) -> Vec<u8> {
    let even = |text: &str| match text.len() % 2 {
        0 => text.as_bytes().to_vec(),
        _ => format!("{text}\0").into_bytes(),
    };
    let element = |number: u16, value: &[u8]| {
        let length = u32::try_from(value.len()).unwrap().to_le_bytes();
        [&[0, 0], &number.to_le_bytes()[..], &length[..], value].concat()
    };
    let command = [
        element(0x0002, &even(CT)),
        element(0x0100, &[1, 0]),
        element(0x0110, &[1, 0]),
        element(0x0700, &[0, 0]),
        element(0x0800, &[0, 0]),
        element(0x1000, &even(uid)),
    ];
    data(3, &command.concat())
}

/// Peak memory of a process, MiB.
pub fn peak_mib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

pub fn process(node: &Node) -> u32 {
    let file = std::fs::read(node.data.join("node.json")).unwrap();
    let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
    u32::try_from(file["pid"].as_u64().unwrap()).unwrap()
}

pub fn open_sockets(process: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

/// The data set of a Part 10 file, without its head.
pub fn data_set(path: &Path) -> Vec<u8> {
    let bytes = std::fs::read(path).unwrap();
    let mut at = 132;
    while bytes.get(at..at + 2) == Some(&[2, 0]) {
        at += match &bytes[at + 4..at + 6] {
            b"OB" => 12 + u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize,
            _ => 8 + usize::from(u16::from_le_bytes([bytes[at + 6], bytes[at + 7]])),
        };
    }
    bytes[at..].to_vec()
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// The files of all instances that were acknowledged, once they are made.
pub fn objects(node: &Node) -> Vec<PathBuf> {
    wait_for("files of instances", || {
        let metrics = http(node, "/metrics");
        metrics.contains("prelim_instances_unfiled 0\n").then_some(())
    });
    files_below(&node.data.join("objects"))
}

/// The body of an answer of the node's page.
pub fn http(node: &Node, path: &str) -> String {
    let url = format!("http://{}{path}", node.http);
    String::from_utf8(run(Command::new("curl").args(["-s", "-m", "20", &url])).stdout).unwrap()
}

pub fn echo(dicom: SocketAddr) {
    let port = dicom.port().to_string();
    run(Command::new("echoscu").args(["-to", "10", "-aec", "PRELIM", "127.0.0.1", &port]));
}
