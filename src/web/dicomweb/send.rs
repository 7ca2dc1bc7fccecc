//! Answers that are sent while they are made: pieces of files, pieces of JSON. What waits for a
//! slow reader is bounded, and a reader that takes nothing loses its place.

use std::io;
use std::io::Read as _;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc;

use crate::imaging::dataset::Span;
use crate::web::Web;
use crate::web::problem::Failure;

/// Pieces of a file in memory: as many as wait, and one more on each end.
const PIECE_BYTES: usize = 256 << 10;
const WAITING_MAX: usize = 2;
/// How long a reader may take nothing.
const STALLED_MAX: Duration = Duration::from_secs(60);
/// How long a request waits until it is worked on, and an answer until it is sent.
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
}

impl Out {
    pub async fn bytes(&self, bytes: Bytes) -> Result<(), Broken> {
        match self.to.send_timeout(Ok(bytes), STALLED_MAX).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Broken::Reader),
        }
    }

    /// Parts of a file, one after the other.
    pub async fn spans(&self, path: &Path, spans: &[Span]) -> Result<(), Broken> {
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

/// A place among the answers being sent; who finds none free waits for one.
pub async fn place(web: &Web) -> Result<OwnedSemaphorePermit, Failure> {
    let places = std::sync::Arc::clone(&web.dicomweb.answers);
    match tokio::time::timeout(WAIT_MAX, places.acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => Err(Failure::busy("Too many answers are being sent.", 1)),
    }
}

/// Bounds the requests that are worked on at one time. A viewer behind a proxy that speaks HTTP/2
/// asks for some hundred frames at once and tries none again: each waits for its turn. How many
/// wait is bounded by the connections.
pub async fn turn(State(web): State<Web>, request: Request, next: Next) -> Response {
    match tokio::time::timeout(WAIT_MAX, web.dicomweb.turns.acquire()).await {
        Ok(Ok(_turn)) => next.run(request).await,
        _ => Failure::busy("Too many requests at one time.", 1).into_response(),
    }
}

/// A body that `work` writes, with its place until it is through.
pub fn body<F>(web: &Web, place: OwnedSemaphorePermit, work: impl FnOnce(Out) -> F) -> Body
where
    F: Future<Output = Result<(), Broken>> + Send + 'static,
{
    let (to, from) = mpsc::channel(WAITING_MAX);
    let writing = work(Out { to: to.clone() });
    let stop = web.stop.clone();
    web.dicomweb.tasks.spawn(async move {
        let _place = place;
        let ended = tokio::select! {
            ended = writing => ended,
            () = stop.cancelled() => Err(broken("the node is stopping")),
        };
        if let Err(error) = ended {
            if let Broken::Source(why) = &error {
                tracing::warn!(%why, "a DICOMweb answer broke off");
            }
            let _ = to.try_send(Err(io::Error::other("broken off")));
        }
    });
    Body::from_stream(futures_util::stream::unfold(from, |mut from| async move {
        from.recv().await.map(|piece| (piece, from))
    }))
}
