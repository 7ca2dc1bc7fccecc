//! A TCP socket that never lets its sender wait for an acknowledgement.
//!
//! DCMTK and many devices write a message in small pieces with Nagle's algorithm on: the next piece
//! leaves only when the last one is acknowledged. Linux delays a lone acknowledgement by 40 ms, so
//! that each instance would take as long. TCP_QUICKACK sends the one that is due, and does not stay
//! set: it is asked for whenever there is nothing more to read. An answer carries it by itself.

use std::io;
use std::io::IoSliceMut;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::task::ready;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::Interest;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use crate::dicom::pdu::Transport;

/// See the module. TLS is spoken above it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Something was read and neither acknowledged nor answered by us.
    owes: bool,
}

impl Socket {
    /// Also sets TCP_NODELAY: what we write is written whole.
    pub fn new(stream: TcpStream) -> Socket {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY not set");
        }
        Socket { stream, owes: false }
    }

    fn acknowledge(&mut self) {
        if std::mem::take(&mut self.owes) {
            #[cfg(target_os = "linux")]
            let _ = self.stream.set_quickack(true); // best effort: only latency depends on it
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        match read {
            Poll::Ready(_) => self.owes = true,
            Poll::Pending => self.acknowledge(),
        }
        read
    }
}

impl Transport for Socket {
    fn poll_read_parts(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let room: usize = parts.iter().map(|part| part.len()).sum();
        loop {
            match this.stream.poll_read_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    this.acknowledge();
                    return Poll::Pending;
                }
            }
            let mut came = None;
            let tried = this.stream.try_io(Interest::READABLE, || {
                let bytes = rustix::io::readv(&this.stream, parts)?;
                came = Some(bytes);
                // Less than there was room for: the socket is empty, as the next read would only
                // find out. Tokio's own reads do the same.
                let is_empty = cfg!(target_os = "linux") && 0 < bytes && bytes < room;
                if is_empty { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match (came, tried) {
                (Some(bytes), _) => {
                    this.owes = true;
                    return Poll::Ready(Ok(bytes));
                }
                (None, Err(error)) if error.kind() != io::ErrorKind::WouldBlock => {
                    return Poll::Ready(Err(error));
                }
                (None, _) => {}
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes));
        self.owes &= written.is_err();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::io::Write as _;
    use std::time::Duration;
    use std::time::Instant;

    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    /// Three pieces and an answer, many times, from a sender with Nagle's algorithm.
    #[tokio::test]
    async fn pieces_are_acknowledged_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sender = tokio::task::spawn_blocking(move || {
            let mut stream = std::net::TcpStream::connect(address).unwrap();
            let mut exchange = || {
                let began = Instant::now();
                for piece in [&[1; 12][..], &[2; 138], &[3; 850]] {
                    stream.write_all(piece).unwrap();
                }
                stream.read_exact(&mut [0; 10]).unwrap();
                began.elapsed()
            };
            // A young connection is acknowledged at once in any case.
            (0..60).map(|_| exchange()).skip(30).min().unwrap()
        });
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = Socket::new(stream);
        let mut message = [0; 1000];
        while socket.read_exact(&mut message).await.is_ok() {
            socket.write_all(&[6; 10]).await.unwrap();
        }
        let fastest = sender.await.unwrap();
        assert!(fastest < Duration::from_millis(35), "{fastest:?}");
    }
}
