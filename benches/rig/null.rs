//! Null servers: a storage SCP that answers 0000 after the named I/O, and checks, indexes and
//! remembers nothing. They are the ceiling on a machine: who does more cannot be faster.
//!
//! - `discard`: no I/O.
//! - `rename`: streamed to a temporary file, renamed into place.
//! - `durable`: the same, with fdatasync before the rename and a sync of the folder after it.
//! - `group`: written into preallocated segments that are used again; one fdatasync for all that
//!   wait. It never makes files of what it took.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::wire;
use crate::wire::Wire;
use crate::wire::broken;

pub fn serve(port: u16, folder: &Path, kind: &str) -> io::Result<()> {
    let kind = match kind {
        "discard" => Kind::Discard,
        "rename" => Kind::Files(Files::new(folder, false)?),
        "durable" => Kind::Files(Files::new(folder, true)?),
        "group" => Kind::Group(Group::new(folder)?),
        _ => return Err(broken("discard, rename, durable or group")),
    };
    let kind = Arc::new(kind);
    for stream in TcpListener::bind(("127.0.0.1", port))?.incoming() {
        let (stream, kind) = (stream?, Arc::clone(&kind));
        std::thread::spawn(move || {
            if let Err(error) = session(stream, &kind) {
                eprintln!("rig: {error}");
            }
        });
    }
    Ok(())
}

/// What becomes of the data sets.
enum Kind {
    Discard,
    Files(Files),
    Group(Group),
}

/// One data set being received.
enum Taking<'a> {
    Discard,
    File(&'a Files, File, PathBuf),
    Group(&'a Group, Vec<u8>),
}

impl Kind {
    fn begin(&self, buffer: Vec<u8>) -> io::Result<Taking<'_>> {
        Ok(match self {
            Kind::Discard => Taking::Discard,
            Kind::Files(files) => {
                let path =
                    files.incoming.join(files.count.fetch_add(1, Ordering::Relaxed).to_string());
                Taking::File(files, File::create_new(&path)?, path)
            }
            Kind::Group(group) => Taking::Group(group, buffer),
        })
    }
}

impl Taking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Taking::Discard => Ok(()),
            Taking::File(_, file, _) => file.write_all(bytes),
            Taking::Group(group, buffer) => {
                if buffer.len() + bytes.len() > CHUNK {
                    group.write(buffer)?;
                    buffer.clear();
                }
                buffer.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Done as promised when it returns. Gives the buffer back.
    fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Taking::Discard => Ok(Vec::new()),
            Taking::File(files, file, path) => {
                if files.synced {
                    file.sync_data()?;
                }
                let name = path.file_name().expect("a number");
                fs::rename(&path, files.objects.join(name))?;
                if files.synced {
                    files.folder.sync_all()?;
                }
                Ok(Vec::new())
            }
            Taking::Group(group, mut buffer) => {
                group.write(&buffer)?;
                group.wait()?;
                buffer.clear();
                Ok(buffer)
            }
        }
    }
}

struct Files {
    incoming: PathBuf,
    objects: PathBuf,
    folder: File,
    count: AtomicU64,
    synced: bool,
}

impl Files {
    fn new(folder: &Path, synced: bool) -> io::Result<Files> {
        let (incoming, objects) = (folder.join("incoming"), folder.join("objects"));
        fs::create_dir_all(&incoming)?;
        fs::create_dir_all(&objects)?;
        let folder = File::open(&objects)?;
        Ok(Files { incoming, objects, folder, count: AtomicU64::new(0), synced })
    }
}

/// Largest piece written at once.
const CHUNK: usize = 1 << 20;
const SEGMENT_BYTES: u64 = 256 << 20;
const SEGMENTS: usize = 4;

struct Group {
    segments: Vec<File>,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Default)]
struct State {
    segment: usize,
    at: u64,
    /// Segments with something that is not synced.
    dirty: [bool; SEGMENTS],
    /// How many have asked for a sync, and how many of them have it.
    asked: u64,
    done: u64,
    syncing: bool,
}

impl Group {
    fn new(folder: &Path) -> io::Result<Group> {
        fs::create_dir_all(folder)?;
        let zeros = vec![0; CHUNK];
        let mut segments = Vec::new();
        for number in 0..SEGMENTS {
            let path = folder.join(format!("segment-{number}"));
            let mut file = File::options().write(true).create_new(true).open(path)?;
            // Written, not only allocated: the first sync of an unwritten extent changes metadata.
            for _ in 0..SEGMENT_BYTES / CHUNK as u64 {
                file.write_all(&zeros)?;
            }
            file.sync_all()?;
            segments.push(file);
        }
        Ok(Group { segments, state: Mutex::default(), synced: Condvar::new() })
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let (segment, at) = {
            let mut state = self.state.lock().expect("no panic");
            if state.at + bytes.len() as u64 > SEGMENT_BYTES {
                (state.segment, state.at) = ((state.segment + 1) % SEGMENTS, 0);
            }
            let place = (state.segment, state.at);
            state.at += bytes.len() as u64;
            place
        };
        self.segments[segment].write_all_at(bytes, at)?;
        self.state.lock().expect("no panic").dirty[segment] = true;
        Ok(())
    }

    /// Returns when everything that this thread has written is synced. The first who waits syncs
    /// for all who wait by then.
    fn wait(&self) -> io::Result<()> {
        let mut state = self.state.lock().expect("no panic");
        state.asked += 1;
        let mine = state.asked;
        while state.done < mine {
            if state.syncing {
                state = self.synced.wait(state).expect("no panic");
                continue;
            }
            state.syncing = true;
            let (upto, dirty) = (state.asked, std::mem::take(&mut state.dirty));
            drop(state);
            for (segment, _) in self.segments.iter().zip(dirty).filter(|(_, dirty)| *dirty) {
                segment.sync_data()?;
            }
            state = self.state.lock().expect("no panic");
            state.syncing = false;
            state.done = upto;
            self.synced.notify_all();
        }
        Ok(())
    }
}

fn session(stream: TcpStream, kind: &Kind) -> io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut wire = Wire::new(stream)?;
    let Some((1, request)) = wire.pdu()? else { return Err(broken("no request")) };
    let answer = wire::accept(request)?;
    out.write_all(&answer)?;
    let mut buffer = Vec::new();
    let mut command = Vec::new();
    let mut taking: Option<Taking<'_>> = None;
    loop {
        let body = match wire.pdu()? {
            Some((4, body)) => body,
            Some((5, _)) => {
                out.write_all(&wire::pdu(6, &[0; 4]))?;
                return Ok(());
            }
            None | Some((7, _)) => return Ok(()),
            Some(_) => return Err(broken("an unexpected PDU")),
        };
        for (context, control, bytes) in wire::values(body)? {
            let last = control & 2 != 0;
            if control & 1 != 0 {
                command.extend_from_slice(bytes);
                if !last {
                    continue;
                }
                match wire::read_command(&command)?.field {
                    wire::C_STORE_RQ => taking = Some(kind.begin(std::mem::take(&mut buffer))?),
                    _ => answer_to(&mut out, context, &mut command)?,
                }
                continue;
            }
            let place = taking.as_mut().ok_or_else(|| broken("data before a command"))?;
            place.write(bytes)?;
            if last && let Some(taking) = taking.take() {
                buffer = taking.finish()?;
                answer_to(&mut out, context, &mut command)?;
            }
        }
    }
}

fn answer_to(out: &mut TcpStream, context: u8, command: &mut Vec<u8>) -> io::Result<()> {
    let answer = wire::response(&wire::read_command(command)?);
    command.clear();
    let header = wire::data_header(context, true, answer.len(), true);
    out.write_all(&[&header[..], &answer].concat())
}
