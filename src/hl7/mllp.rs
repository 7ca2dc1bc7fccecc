//! MLLP (HL7 Transport Specification: MLLP, release 1): 0x0B, a message, 0x1C 0x0D.

use std::io;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt as _;

const START: u8 = 0x0b;
const END: u8 = 0x1c;
const RETURN: u8 = 0x0d;

#[derive(Debug, thiserror::Error)]
pub enum MllpError {
    #[error("the connection ended inside a message")]
    Cut,
    #[error("what came is no MLLP frame")]
    NotFramed,
    #[error("a message has more than {bytes_max} bytes")]
    TooLarge { bytes_max: usize },
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
}

/// A connection on which messages go both ways. Has no time limits: who calls sets them.
pub struct Frames<S> {
    stream: S,
    /// Came, and belongs to the next message.
    ahead: Vec<u8>,
    bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Frames<S> {
    pub fn new(stream: S, bytes_max: usize) -> Frames<S> {
        Frames { stream, ahead: Vec::new(), bytes_max }
    }

    pub async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(message.len() + 3);
        frame.push(START);
        frame.extend_from_slice(message);
        frame.extend_from_slice(&[END, RETURN]);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    /// The next message; `None` when the peer ended between two. The byte 0x1C ends one even
    /// without its 0x0D, which some senders forget.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, MllpError> {
        let mut piece = [0; 16 * 1024];
        let mut seen = 0;
        loop {
            let idle = |b: &u8| matches!(*b, RETURN | b'\n' | b' ' | 0);
            let skip = self.ahead.iter().take_while(|b| idle(b)).count();
            if seen == 0 {
                self.ahead.drain(..skip);
            }
            match self.ahead.first() {
                Some(&START) => {}
                Some(_) => return Err(MllpError::NotFramed),
                None => {}
            }
            if let Some(at) = self.ahead.iter().skip(seen).position(|b| *b == END) {
                let end = seen + at;
                if end > self.bytes_max {
                    return Err(MllpError::TooLarge { bytes_max: self.bytes_max });
                }
                let rest = self.ahead.split_off(end + 1);
                let mut message = std::mem::replace(&mut self.ahead, rest);
                message.pop();
                message.remove(0);
                return Ok(Some(message));
            }
            seen = self.ahead.len();
            if seen > self.bytes_max {
                return Err(MllpError::TooLarge { bytes_max: self.bytes_max });
            }
            match self.stream.read(&mut piece).await? {
                0 if self.ahead.is_empty() => return Ok(None),
                0 => return Err(MllpError::Cut),
                bytes => self.ahead.extend_from_slice(&piece[..bytes]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8], piece: usize) -> Vec<Result<Vec<u8>, String>> {
        let (mut theirs, ours) = tokio::io::duplex(piece);
        let sent = bytes.to_vec();
        let send = async move {
            let _ = theirs.write_all(&sent).await;
        };
        let hear = async move {
            let mut frames = Frames::new(ours, 20);
            let mut heard = Vec::new();
            loop {
                match frames.next().await {
                    Ok(Some(message)) => heard.push(Ok(message)),
                    Ok(None) => return heard,
                    Err(error) => {
                        heard.push(Err(error.to_string()));
                        return heard;
                    }
                }
            }
        };
        tokio::join!(send, hear).1
    }

    #[tokio::test]
    async fn frames_come_however_they_are_cut() {
        let ok = |text: &str| Ok(text.as_bytes().to_vec());
        for (bytes, heard) in [
            (&b"\x0bMSH|a\x1c\r"[..], vec![ok("MSH|a")]),
            (b"\x0bone\x1c\r\x0btwo\x1c\r\n", vec![ok("one"), ok("two")]),
            (b"\r\n\x0bone\x1c\x0btwo\x1c", vec![ok("one"), ok("two")]),
            (b"\x0b\x1c\r", vec![ok("")]),
            (b"", vec![]),
            (b"\x0bcut", vec![Err("the connection ended inside a message".to_owned())]),
            (b"GET / HTTP/1.1\r\n", vec![Err("what came is no MLLP frame".to_owned())]),
            (b"\x0b0123456789012345678\x1c\r", vec![ok("0123456789012345678")]),
            (
                b"\x0b01234567890123456789\x1c\r",
                vec![Err("a message has more than 20 bytes".to_owned())],
            ),
            (
                b"\x0b0123456789012345678901234",
                vec![Err("a message has more than 20 bytes".to_owned())],
            ),
        ] {
            for piece in [1, 3, 4096] {
                assert_eq!(read(bytes, piece).await, heard, "{bytes:?} in pieces of {piece}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_sent_is_one_frame() {
        let (mut theirs, ours) = tokio::io::duplex(100);
        Frames::new(ours, 10).send(b"MSH|").await.unwrap();
        let mut came = Vec::new();
        theirs.read_to_end(&mut came).await.unwrap();
        assert_eq!(came, b"\x0bMSH|\x1c\r");
    }
}
