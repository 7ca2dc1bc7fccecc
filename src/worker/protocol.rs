//! Messages between the node and a worker over pipes: a JSON head and binary blobs, each with
//! its length first and a limit on both sides.

use std::io::Read;
use std::io::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::worker::Answer;
use crate::worker::Task;
use crate::worker::limits::Settings;

/// First bytes of a child: what stands before them (a library's greeting) is skipped.
pub const HELLO: &[u8; 16] = b"\x00prelim-worker-1";
const MAGIC: [u8; 4] = *b"PLM1";
/// What is said of each instance of a study travels beside it, in pieces.
const HEAD_MAX_BYTES: usize = 64 << 20;
/// Instances in one piece: about 2 MB of JSON.
const PIECE_INSTANCES: usize = 1024;
const BLOBS_MAX: usize = 1024;
const BLOBS_MAX_BYTES: u64 = 512 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    #[error("the pipe closed: {0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Malformed(&'static str),
}

/// Something that goes over the pipe. The blobs travel beside the JSON.
pub trait Message: Serialize + DeserializeOwned {
    fn take_blobs(&mut self) -> Vec<Vec<u8>>;
    /// Puts blobs back where they belong; false when they do not fit the message.
    fn give_blobs(&mut self, blobs: Vec<Vec<u8>>) -> bool;
}

impl Message for Task {
    fn take_blobs(&mut self) -> Vec<Vec<u8>> {
        match self {
            Task::Wrap { picture, .. } => vec![std::mem::take(picture)],
            Task::Render { pictures, assessment, .. } => {
                let mut blobs = std::mem::take(pictures);
                blobs.extend(take_instances(&mut assessment.study));
                blobs
            }
            Task::Sheets { pictures, .. } | Task::Scores { pictures, .. } => {
                std::mem::take(pictures)
            }
            Task::Picture { study, .. } | Task::Measure { study, .. } => take_instances(study),
            Task::Inspect { .. }
            | Task::Densities { .. }
            | Task::LocalRead { .. }
            | Task::Document { .. }
            | Task::Headers { .. }
            | Task::Values { .. }
            | Task::Show { .. }
            | Task::Draw { .. }
            | Task::Transcode { .. } => Vec::new(),
            #[cfg(test)]
            Task::Misbehave { .. } => Vec::new(),
        }
    }

    fn give_blobs(&mut self, mut blobs: Vec<Vec<u8>>) -> bool {
        match self {
            Task::Wrap { picture, .. } => match (blobs.pop(), blobs.is_empty()) {
                (Some(blob), true) => {
                    *picture = blob;
                    true
                }
                _ => false,
            },
            Task::Render { pictures, references, assessment, .. } => {
                let pieces = blobs.split_off(references.len().min(blobs.len()));
                let fits = blobs.len() == references.len();
                *pictures = blobs;
                fits && give_instances(&mut assessment.study, pieces)
            }
            Task::Sheets { pictures, references, .. } => {
                let fits = blobs.len() == references.len();
                *pictures = blobs;
                fits
            }
            Task::Scores { pictures, .. } => {
                *pictures = blobs;
                true
            }
            Task::Picture { study, .. } | Task::Measure { study, .. } => {
                give_instances(study, blobs)
            }
            Task::Inspect { .. }
            | Task::Densities { .. }
            | Task::LocalRead { .. }
            | Task::Document { .. }
            | Task::Headers { .. }
            | Task::Values { .. }
            | Task::Show { .. }
            | Task::Draw { .. }
            | Task::Transcode { .. } => blobs.is_empty(),
            #[cfg(test)]
            Task::Misbehave { .. } => blobs.is_empty(),
        }
    }
}

impl Message for Answer {
    fn take_blobs(&mut self) -> Vec<Vec<u8>> {
        match self {
            Answer::Pictures { bytes, .. } => std::mem::take(bytes),
            Answer::Wrapped { file } | Answer::Made { file } | Answer::Shown { file, .. } => {
                vec![std::mem::take(file)]
            }
            Answer::Drawn { image } => vec![std::mem::take(&mut image.pixels)],
            Answer::Rendered { files } => std::mem::take(files),
            Answer::Headers { objects } => std::mem::take(objects),
            Answer::Values { bytes, .. } => std::mem::take(bytes),
            Answer::Inspected { .. }
            | Answer::Measured { .. }
            | Answer::Densities { .. }
            | Answer::LocalRead { .. }
            | Answer::Scores { .. }
            | Answer::Document { .. }
            | Answer::Refused { .. } => Vec::new(),
        }
    }

    fn give_blobs(&mut self, mut blobs: Vec<Vec<u8>>) -> bool {
        match self {
            Answer::Pictures { bytes, references, .. } => {
                let fits = blobs.len() == references.len();
                *bytes = blobs;
                fits
            }
            Answer::Headers { objects } => {
                *objects = blobs;
                true
            }
            Answer::Values { places, bytes, .. } => {
                let fits = blobs.len() == places.iter().filter(|place| place.is_none()).count();
                *bytes = blobs;
                fits
            }
            Answer::Drawn { image } => {
                let size = u64::from(image.width) * u64::from(image.height);
                image.pixels = blobs.pop().unwrap_or_default();
                let fits = size.checked_mul(image.samples.into());
                blobs.is_empty() && fits == Some(image.pixels.len() as u64)
            }
            Answer::Wrapped { file } | Answer::Made { file } | Answer::Shown { file, .. } => {
                match (blobs.pop(), blobs.is_empty()) {
                    (Some(blob), true) => {
                        *file = blob;
                        true
                    }
                    _ => false,
                }
            }
            Answer::Rendered { files } => {
                *files = blobs;
                files.len() == 3
            }
            Answer::Inspected { .. }
            | Answer::Measured { .. }
            | Answer::Densities { .. }
            | Answer::LocalRead { .. }
            | Answer::Scores { .. }
            | Answer::Document { .. }
            | Answer::Refused { .. } => blobs.is_empty(),
        }
    }
}

impl Message for Settings {
    fn take_blobs(&mut self) -> Vec<Vec<u8>> {
        Vec::new()
    }

    fn give_blobs(&mut self, blobs: Vec<Vec<u8>>) -> bool {
        blobs.is_empty()
    }
}

/// The instances of a study, piece by piece: those that are written are let go.
fn take_instances(study: &mut Study) -> Vec<Vec<u8>> {
    let mut rest = std::mem::take(&mut study.instances).into_iter();
    let mut pieces = Vec::new();
    loop {
        let piece: Vec<Instance> = rest.by_ref().take(PIECE_INSTANCES).collect();
        if piece.is_empty() {
            return pieces;
        }
        pieces.push(serde_json::to_vec(&piece).expect("texts and numbers are JSON"));
    }
}

fn give_instances(study: &mut Study, pieces: Vec<Vec<u8>>) -> bool {
    for piece in pieces {
        let Ok(instances) = serde_json::from_slice::<Vec<Instance>>(&piece) else { return false };
        study.instances.extend(instances);
    }
    true
}

/// Everything before the blobs, and the blobs.
fn parts<M: Message>(mut message: M) -> Result<(Vec<u8>, Vec<Vec<u8>>), ProtocolError> {
    let blobs = message.take_blobs();
    let json = serde_json::to_vec(&message)
        .map_err(|_| ProtocolError::Malformed("a message that is no JSON"))?;
    let bytes: u64 = blobs.iter().map(|blob| blob.len() as u64).sum();
    if json.len() > HEAD_MAX_BYTES || blobs.len() > BLOBS_MAX || bytes > BLOBS_MAX_BYTES {
        return Err(ProtocolError::Malformed("a message above the limit"));
    }
    let mut head = MAGIC.to_vec();
    head.extend((json.len() as u32).to_le_bytes());
    head.extend((blobs.len() as u32).to_le_bytes());
    blobs.iter().for_each(|blob| head.extend((blob.len() as u64).to_le_bytes()));
    head.extend(json);
    Ok((head, blobs))
}

/// JSON length and number of blobs from the first 12 bytes.
fn prefix(bytes: [u8; 12]) -> Result<(usize, usize), ProtocolError> {
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| bytes[at + i])) as usize;
    let (json, blobs) = (word(4), word(8));
    match bytes[..4] == MAGIC && json <= HEAD_MAX_BYTES && blobs <= BLOBS_MAX {
        true => Ok((json, blobs)),
        false => Err(ProtocolError::Malformed("a message head that is none")),
    }
}

fn lengths(bytes: &[u8]) -> Result<Vec<usize>, ProtocolError> {
    let length = |b: &[u8]| u64::from_le_bytes(b.try_into().expect("chunks of eight"));
    let lengths: Vec<u64> = bytes.chunks_exact(8).map(length).collect();
    let sum = lengths.iter().try_fold(0u64, |sum, length| sum.checked_add(*length));
    match sum {
        Some(sum) if sum <= BLOBS_MAX_BYTES => Ok(lengths.iter().map(|l| *l as usize).collect()),
        _ => Err(ProtocolError::Malformed("blobs above the limit")),
    }
}

fn whole<M: Message>(json: &[u8], blobs: Vec<Vec<u8>>) -> Result<M, ProtocolError> {
    let mut message: M = serde_json::from_slice(json)
        .map_err(|_| ProtocolError::Malformed("a message of another kind"))?;
    match message.give_blobs(blobs) {
        true => Ok(message),
        false => Err(ProtocolError::Malformed("blobs that do not fit the message")),
    }
}

pub fn write<M: Message>(to: &mut impl Write, message: M) -> Result<(), ProtocolError> {
    let (head, blobs) = parts(message)?;
    to.write_all(&head)?;
    for blob in &blobs {
        to.write_all(blob)?;
    }
    Ok(to.flush()?)
}

pub fn read<M: Message>(from: &mut impl Read) -> Result<M, ProtocolError> {
    let mut first = [0; 12];
    from.read_exact(&mut first)?;
    let (json, blobs) = prefix(first)?;
    let mut table = vec![0; blobs * 8];
    from.read_exact(&mut table)?;
    let mut head = vec![0; json];
    from.read_exact(&mut head)?;
    let mut found = Vec::new();
    for length in lengths(&table)? {
        let mut blob = vec![0; length];
        from.read_exact(&mut blob)?;
        found.push(blob);
    }
    whole(&head, found)
}

pub async fn write_async<M: Message>(
    to: &mut (impl AsyncWrite + Unpin),
    message: M,
) -> Result<(), ProtocolError> {
    let (head, blobs) = parts(message)?;
    to.write_all(&head).await?;
    for blob in &blobs {
        to.write_all(blob).await?;
    }
    Ok(to.flush().await?)
}

pub async fn read_async<M: Message>(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<M, ProtocolError> {
    let mut first = [0; 12];
    from.read_exact(&mut first).await?;
    let (json, blobs) = prefix(first)?;
    let mut table = vec![0; blobs * 8];
    from.read_exact(&mut table).await?;
    let mut head = vec![0; json];
    from.read_exact(&mut head).await?;
    let mut found = Vec::new();
    for length in lengths(&table)? {
        let mut blob = vec![0; length];
        from.read_exact(&mut blob).await?;
        found.push(blob);
    }
    whole(&head, found)
}

/// Waits for the child's greeting, skipping at most 4 KiB before it.
pub async fn hello(from: &mut (impl AsyncRead + Unpin)) -> Result<(), ProtocolError> {
    let mut last = Vec::new();
    for _ in 0..4096 {
        last.push(from.read_u8().await?);
        if last.ends_with(HELLO) {
            return Ok(());
        }
    }
    Err(ProtocolError::Malformed("no greeting"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_and_its_blobs_arrive_as_sent() {
        let sent = Answer::Wrapped { file: vec![7; 100_000] };
        let mut pipe = Vec::new();
        write(&mut pipe, sent.clone()).unwrap();
        assert_eq!(read::<Answer>(&mut pipe.as_slice()).unwrap(), sent);
    }

    /// More than the 64 MiB of a head, where every piece of it is small.
    #[test]
    fn a_study_of_70_000_instances_goes_to_a_worker() {
        let one = crate::imaging::select::tests::slice(1, 2.0);
        let study = crate::imaging::select::tests::study(vec![one; 70_000]);
        assert!(serde_json::to_vec(&study).unwrap().len() > HEAD_MAX_BYTES);
        let sent = Task::Measure { data: "/".into(), study: Box::new(study.clone()) };
        let mut pipe = Vec::new();
        write(&mut pipe, sent).unwrap();
        let Task::Measure { study: arrived, .. } = read::<Task>(&mut pipe.as_slice()).unwrap()
        else {
            panic!("another task");
        };
        assert_eq!(arrived.instances.len(), 70_000);
        assert!(*arrived == study);
    }

    #[test]
    fn lengths_are_checked_before_anything_is_allocated() {
        let mut huge = MAGIC.to_vec();
        huge.extend(u32::MAX.to_le_bytes());
        huge.extend(0u32.to_le_bytes());
        assert!(read::<Answer>(&mut huge.as_slice()).is_err());
        let mut blob = MAGIC.to_vec();
        blob.extend(2u32.to_le_bytes());
        blob.extend(1u32.to_le_bytes());
        blob.extend(u64::MAX.to_le_bytes());
        blob.extend(*b"{}");
        assert!(read::<Answer>(&mut blob.as_slice()).is_err());
    }
}
