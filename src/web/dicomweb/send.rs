//! Answers that are sent while they are made: pieces of files, pieces of JSON. What waits for a
//! slow reader is bounded, and a reader that takes nothing loses its place.

use std::collections::HashMap;
use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::net::IpAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::Extension;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::imaging::dataset::Span;
use crate::web::Web;
use crate::web::problem::Failure;
use crate::web::server::Peer;

/// Pieces of a file in memory: as many as wait, and one more on each end.
const PIECE_BYTES: usize = 256 << 10;
const WAITING_MAX: usize = 2;
/// How long a reader may take nothing; what it takes makes up for time that was waited, by this
/// rate.
const STALLED_MAX: Duration = Duration::from_secs(60);
const BYTES_PER_S_MIN: f64 = 8192.0;
/// How long a request waits until it is worked on.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Why an answer breaks off. The client sees a body without its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the reader is gone or takes nothing")]
    Reader,
    #[error("{0}")]
    Source(String),
}

/// The way to the client.
pub struct Out {
    to: mpsc::Sender<Result<Bytes, io::Error>>,
    /// How much longer the reader may take nothing.
    patience: Duration,
}

/// What is left of `patience` after a wait in which these bytes were taken.
fn left(patience: Duration, waited: Duration, taken: usize) -> Duration {
    let earned = Duration::from_secs_f64(taken as f64 / BYTES_PER_S_MIN);
    (patience.saturating_sub(waited) + earned).min(STALLED_MAX)
}

impl Out {
    pub async fn bytes(&mut self, mut bytes: Bytes) -> Result<(), Broken> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let (begun, length) = (Instant::now(), piece.len());
            let sent = self.to.send_timeout(Ok(piece), self.patience).await;
            sent.map_err(|_| Broken::Reader)?;
            self.patience = left(self.patience, begun.elapsed(), length);
        }
        Ok(())
    }

    /// Parts of a file, one after the other.
    pub async fn spans(&mut self, path: &Path, spans: &[Span]) -> Result<(), Broken> {
        let mut file = Some(open(path.to_owned()).await?);
        for span in spans {
            let (mut at, end) = (span.offset, span.offset.saturating_add(span.length));
            while at < end {
                let length = (end - at).min(PIECE_BYTES as u64) as usize;
                let Some(held) = file.take() else { return Err(broken("the file was lost")) };
                let (held, bytes) = piece(held, at, length).await?;
                file = Some(held);
                at += length as u64;
                self.bytes(bytes).await?;
            }
        }
        Ok(())
    }
}

fn broken(why: impl Into<String>) -> Broken {
    Broken::Source(why.into())
}

async fn open(path: PathBuf) -> Result<std::fs::File, Broken> {
    let opened = tokio::task::spawn_blocking(move || std::fs::File::open(path)).await;
    match opened {
        Ok(Ok(file)) => Ok(file),
        Ok(Err(error)) => Err(broken(format!("an object cannot be opened: {error}"))),
        Err(_) => Err(broken("an object cannot be opened")),
    }
}

async fn piece(
    mut file: std::fs::File,
    at: u64,
    length: usize,
) -> Result<(std::fs::File, Bytes), Broken> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(&mut bytes)?;
        Ok::<_, io::Error>((file, Bytes::from(bytes)))
    });
    match read.await {
        Ok(Ok(read)) => Ok(read),
        Ok(Err(error)) => Err(broken(format!("an object cannot be read: {error}"))),
        Err(_) => Err(broken("an object cannot be read")),
    }
}

/// Places for answers, so many in all and so many for each peer: who reads slowly keeps the own
/// places and no other's.
pub struct Places {
    all: Arc<Semaphore>,
    each: usize,
    peers: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

/// A place, given back when the last clone is gone.
#[derive(Clone)]
pub struct Place {
    _permits: Arc<[OwnedSemaphorePermit; 2]>,
}

impl Places {
    pub fn new(all: usize, each: usize) -> Places {
        Places { all: Arc::new(Semaphore::new(all)), each, peers: Mutex::default() }
    }

    fn of(&self, peer: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        // Of nobody who has or wants a place now.
        peers.retain(|_, places| Arc::strong_count(places) > 1);
        let own = peers.entry(peer.to_canonical());
        Arc::clone(own.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }

    /// One of the peer's own, then one of all.
    async fn take(&self, peer: IpAddr) -> Option<Place> {
        let taken = async {
            let own = self.of(peer).acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Place { _permits: Arc::new([own, of_all]) })
        };
        tokio::time::timeout(WAIT_MAX, taken).await.ok().flatten()
    }
}

/// A place for the answer, before anything is done for it. A viewer behind a proxy that speaks
/// HTTP/2 asks for some hundred frames at once and tries none again: each waits for its turn. How
/// many wait is bounded by the connections.
pub async fn place(
    State(web): State<Web>,
    Extension(Peer(peer)): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    match web.dicomweb.answers.take(peer.ip()).await {
        Some(place) => {
            request.extensions_mut().insert(place);
            next.run(request).await
        }
        None => Failure::busy("Too many answers are being sent.", 1).into_response(),
    }
}

/// Bounds the searches that are worked on at one time. They wait for no reader of an answer.
pub async fn turn(State(web): State<Web>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(WAIT_MAX, web.dicomweb.turns.acquire()).await {
        Ok(Ok(_turn)) => next.run(request).await,
        _ => Failure::busy("Too many requests at one time.", 1).into_response(),
    }
}

/// A body that `work` writes, with its place until it is through.
pub fn body<F>(web: &Web, place: Place, work: impl FnOnce(Out) -> F) -> Body
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let (to, from) = mpsc::channel(WAITING_MAX);
    let writing = work(Out { to: to.clone(), patience: STALLED_MAX });
    let stop = web.stop.clone();
    web.dicomweb.tasks.spawn(async move {
        let _place = place;
        let ended = tokio::select! {
            ended = writing => ended,
            () = stop.cancelled() => Err(broken("the node is stopping")),
        };
        if let Err(error) = ended {
            match &error {
                Broken::Source(why) => tracing::warn!(%why, "a DICOMweb answer broke off"),
                Broken::Reader => tracing::debug!("a DICOMweb answer was not read to its end"),
            }
            let _ = to.try_send(Err(io::Error::other("broken off")));
        }
    });
    Body::from_stream(futures_util::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|piece| (piece, from))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_a_little_now_and_then_runs_out_of_patience() {
        let s = Duration::from_secs;
        for (patience, waited, taken, expected) in [
            (60, 0, 262_144, 60),
            (60, 30, 0, 30),
            (60, 30, 8192 * 10, 40),
            (10, 30, 8192, 1),
            (60, 25, 262_144, 60),
        ] {
            assert_eq!(left(s(patience), s(waited), taken), s(expected), "{patience} {waited}");
        }
        // A piece every 59 s: over after some, not never.
        let mut patience = STALLED_MAX;
        let pieces = (0..100).take_while(|_| {
            let goes_on = patience > s(59);
            patience = left(patience, s(59), PIECE_BYTES);
            goes_on
        });
        assert_eq!(pieces.count(), 1);
    }

    #[tokio::test]
    async fn who_reads_slowly_keeps_the_own_places_and_no_others() {
        let places = Places::new(5, 2);
        let (slow, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let held = (places.take(slow).await.unwrap(), places.take(slow).await.unwrap());
        let at_once = |peer| tokio::time::timeout(Duration::ZERO, places.take(peer));
        assert!(at_once(slow).await.is_err());
        assert!(at_once(other).await.is_ok());
        drop(held);
        assert!(places.take(slow).await.is_some());
        assert_eq!(places.of(other).available_permits(), 2);
        assert_eq!(places.peers.lock().unwrap().len(), 1, "who has none is forgotten");
    }
}
