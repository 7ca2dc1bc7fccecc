//! multipart/related in both directions (RFC 2046 5.1, RFC 2387), as a stream: a part of any size
//! never stands in memory.

use std::time::Duration;

use bytes::Buf as _;
use bytes::Bytes;
use bytes::BytesMut;
use futures_util::Stream;
use futures_util::StreamExt as _;
use memchr::memmem::Finder;

/// Headers of one part.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// What may stand before the first boundary.
const PREAMBLE_BYTES_MAX: usize = 64 << 10;
/// Blanks between a boundary and the end of its line.
const BLANKS_MAX: usize = 128;
/// Between two pieces of a body.
const SILENCE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MultipartError {
    #[error("the multipart body is not well formed: {0}")]
    Malformed(&'static str),
    #[error("the multipart body ended before its closing boundary")]
    Incomplete,
    #[error("nothing came for {} s", SILENCE_MAX.as_secs())]
    Silent,
}

/// Headers of a part that count here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHead {
    /// As written; empty when there is none.
    pub content_type: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    /// In the body of a part.
    Body,
    /// After the boundary that ends a part.
    Between,
    End,
}

/// Reads one part after the other.
pub struct Reader<S> {
    stream: S,
    buffer: BytesMut,
    finder: Finder<'static>,
    /// Length of a line feed and the boundary with its dashes.
    delimiter: usize,
    state: State,
    /// Whether the stream has ended.
    dry: bool,
}

/// What stands in the buffer.
enum Found {
    /// So many bytes belong to the body for certain; perhaps none.
    Plain(usize),
    /// The body ends at `at`, what follows the boundary's line begins at `next`.
    Delimiter { at: usize, next: usize, last: bool },
}

impl<S, E> Reader<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    /// - `boundary`: as in the Content-Type, without quotes.
    ///
    /// # Errors
    /// A boundary that RFC 2046 does not allow.
    pub fn new(stream: S, boundary: &str) -> Result<Reader<S>, MultipartError> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&b);
        let fits = (1..=70).contains(&boundary.len()) && boundary.bytes().all(allowed);
        if !fits || boundary.ends_with(' ') {
            return Err(MultipartError::Malformed("its boundary is none"));
        }
        let needle = format!("\n--{boundary}");
        Ok(Reader {
            stream,
            // The first boundary may stand at the very beginning.
            buffer: BytesMut::from(&b"\r\n"[..]),
            finder: Finder::new(&needle).into_owned(),
            delimiter: needle.len(),
            state: State::Preamble,
            dry: false,
        })
    }

    /// Goes on to the next part; what is left of the one before is skipped.
    pub async fn next_part(&mut self) -> Result<Option<PartHead>, MultipartError> {
        let mut preamble = 0;
        loop {
            match self.state {
                State::End => return Ok(None),
                State::Between => return self.head().await.map(Some),
                State::Body => {
                    self.chunk().await?;
                }
                State::Preamble => {
                    preamble += self.piece().await?.map_or(0, |piece| piece.len());
                    if preamble > PREAMBLE_BYTES_MAX {
                        return Err(MultipartError::Malformed("no boundary at its beginning"));
                    }
                }
            }
        }
    }

    /// The next bytes of the part; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        match self.state {
            State::Body => self.piece().await,
            State::Preamble | State::Between | State::End => Ok(None),
        }
    }

    async fn piece(&mut self) -> Result<Option<Bytes>, MultipartError> {
        loop {
            match self.look()? {
                Found::Plain(0) => self.more().await?,
                Found::Plain(length) => return Ok(Some(self.buffer.split_to(length).freeze())),
                Found::Delimiter { at, next, last } => {
                    let body = self.buffer.split_to(at).freeze();
                    self.buffer.advance(next - at);
                    self.state = if last { State::End } else { State::Between };
                    return Ok((!body.is_empty()).then_some(body));
                }
            }
        }
    }

    fn look(&self) -> Result<Found, MultipartError> {
        let mut from = 0;
        while let Some(place) = self.finder.find(&self.buffer[from..]) {
            let feed = from + place;
            // The line break before a boundary belongs to it (RFC 2046 5.1.1), CR or not.
            let at = if feed > 0 && self.buffer[feed - 1] == b'\r' { feed - 1 } else { feed };
            let after = feed + self.delimiter;
            match line_end(&self.buffer[after..]) {
                Some(Line::Ends { length, last }) => {
                    return Ok(Found::Delimiter { at, next: after + length, last });
                }
                Some(Line::Other) => from = after,
                // What follows decides. All before it is body.
                None if !self.dry => return Ok(Found::Plain(at)),
                None => return Err(MultipartError::Incomplete),
            }
        }
        // A boundary, and the CR before it, may have begun at the end.
        let kept = self.delimiter;
        Ok(Found::Plain(self.buffer.len().saturating_sub(kept)))
    }

    /// Headers up to their empty line.
    async fn head(&mut self) -> Result<PartHead, MultipartError> {
        let mut head = PartHead::default();
        let mut used = 0;
        let mut is_type = false;
        loop {
            let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
                if used + self.buffer.len() > HEAD_BYTES_MAX {
                    return Err(MultipartError::Malformed("the headers of a part are too long"));
                }
                self.more().await?;
                continue;
            };
            let line = self.buffer.split_to(end + 1);
            used += line.len();
            if used > HEAD_BYTES_MAX {
                return Err(MultipartError::Malformed("the headers of a part are too long"));
            }
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                self.state = State::Body;
                // An empty body: the boundary's line break is the one that was just read.
                let mut with_break = BytesMut::from(&b"\r\n"[..]);
                if self.begins_with_boundary().await? {
                    with_break.extend_from_slice(&self.buffer);
                    self.buffer = with_break;
                }
                return Ok(head);
            }
            if line.starts_with([' ', '\t']) {
                // A folded line goes on with the one before.
                if is_type {
                    head.content_type.push_str(line.trim());
                }
                continue;
            }
            let Some((name, value)) = line.split_once(':') else {
                return Err(MultipartError::Malformed("a header of a part is none"));
            };
            is_type = name.trim().eq_ignore_ascii_case("content-type");
            if is_type {
                head.content_type = value.trim().to_owned();
            }
        }
    }

    async fn begins_with_boundary(&mut self) -> Result<bool, MultipartError> {
        let boundary = self.finder.needle()[1..].to_vec();
        while self.buffer.len() < boundary.len() && boundary.starts_with(&self.buffer) && !self.dry
        {
            self.more().await?;
        }
        if !self.buffer.starts_with(&boundary) {
            return Ok(false);
        }
        loop {
            match line_end(&self.buffer[boundary.len()..]) {
                Some(Line::Ends { .. }) => return Ok(true),
                Some(Line::Other) => return Ok(false),
                None => self.more().await?,
            }
        }
    }

    async fn more(&mut self) -> Result<(), MultipartError> {
        if self.dry {
            return Err(MultipartError::Incomplete);
        }
        match tokio::time::timeout(SILENCE_MAX, self.stream.next()).await {
            Err(_) => Err(MultipartError::Silent),
            Ok(Some(Ok(bytes))) => {
                self.buffer.extend_from_slice(&bytes);
                Ok(())
            }
            // The connection broke: as if it had ended.
            Ok(Some(Err(_))) => Err(MultipartError::Incomplete),
            Ok(None) => {
                self.dry = true;
                // The closing boundary may stand without a line break behind it.
                self.buffer.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

enum Line {
    /// The boundary's line is over after `length` bytes.
    Ends { length: usize, last: bool },
    /// What looked like the boundary is another word.
    Other,
}

/// What follows a boundary: `--`, blanks, a line break. `None`: not yet certain.
fn line_end(after: &[u8]) -> Option<Line> {
    match after {
        [b'-', b'-', ..] => return Some(Line::Ends { length: 2, last: true }),
        [] | [b'-'] => return None,
        _ => {}
    }
    let blanks = after.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
    match after.get(blanks) {
        Some(b'\n') => Some(Line::Ends { length: blanks + 1, last: false }),
        None if blanks <= BLANKS_MAX => None,
        Some(_) | None => Some(Line::Other),
    }
}

/// The parts of an answer.
pub struct Writer {
    boundary: String,
    first: bool,
}

impl Writer {
    pub fn new() -> Writer {
        let boundary = crate::domain::text::hex(&rand::random::<[u8; 16]>());
        Writer { boundary, first: true }
    }

    /// The Content-Type of the whole.
    pub fn content_type(&self, of: &str) -> String {
        format!("multipart/related; type=\"{of}\"; boundary={}", self.boundary)
    }

    /// What stands before a part.
    pub fn head(&mut self, content_type: &str, length: Option<u64>, location: &str) -> Bytes {
        let before = if std::mem::take(&mut self.first) { "" } else { "\r\n" };
        let mut head = format!("{before}--{}\r\nContent-Type: {content_type}\r\n", self.boundary);
        if let Some(length) = length {
            head.push_str(&format!("Content-Length: {length}\r\n"));
        }
        if !location.is_empty() {
            head.push_str(&format!("Content-Location: {location}\r\n"));
        }
        head.push_str("\r\n");
        head.into()
    }

    pub fn end(&self) -> Bytes {
        format!("\r\n--{}--\r\n", self.boundary).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Parts = Vec<(String, Vec<u8>)>;

    async fn read(body: &[u8], step: usize) -> Result<Parts, MultipartError> {
        let pieces: Vec<Result<Bytes, ()>> =
            body.chunks(step).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let mut reader = Reader::new(futures_util::stream::iter(pieces), "b/1")?;
        let mut parts = Vec::new();
        while let Some(head) = reader.next_part().await? {
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.chunk().await? {
                bytes.extend_from_slice(&chunk);
            }
            parts.push((head.content_type, bytes));
        }
        Ok(parts)
    }

    /// In every division into pieces.
    async fn all(body: &[u8]) -> Result<Parts, MultipartError> {
        let whole = read(body, body.len().max(1)).await;
        for step in [1, 2, 3, 5, 7, 16] {
            assert_eq!(read(body, step).await, whole, "pieces of {step}");
        }
        whole
    }

    fn part(content_type: &str, bytes: &[u8]) -> (String, Vec<u8>) {
        (content_type.to_owned(), bytes.to_vec())
    }

    #[tokio::test]
    async fn parts_come_out_as_they_went_in() {
        let body = b"--b/1\r\nContent-Type: application/dicom\r\nContent-Length: 9999\r\n\r\n\
                     one\r\n--b/10\r\n\r\n--b/1 \t\r\ncontent-type:a/b;\r\n c=d\r\nX: y\r\n\r\n\
                     \r\n\n--b/1\r\n\r\n\r\n--b/1\r\n\r\n--b/1--\r\nepilogue";
        let parts = all(body).await.unwrap();
        assert_eq!(
            parts,
            [
                part("application/dicom", b"one\r\n--b/10\r\n"),
                part("a/b;c=d", b"\r\n"),
                part("", b""),
                part("", b""),
            ]
        );
    }

    #[tokio::test]
    async fn a_preamble_is_skipped_and_line_feeds_will_do() {
        let body = b"This is a message.\n--b/1\nContent-Type: x/y\n\nbody\nwith lines\n--b/1--";
        assert_eq!(all(body).await.unwrap(), [part("x/y", b"body\nwith lines")]);
        assert_eq!(all(b"--b/1--").await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_has_no_end_is_incomplete() {
        for body in [
            &b""[..],
            b"--b/1",
            b"--b/1\r\n",
            b"--b/1\r\nContent-Type: x/y\r\n",
            b"--b/1\r\n\r\nbody",
            b"--b/1\r\n\r\nbody\r\n",
            b"--b/1\r\n\r\nbody\r\n--b/1",
            b"--b/1\r\n\r\nbody\r\n--b/1-",
        ] {
            let found = all(body).await;
            assert_eq!(found, Err(MultipartError::Incomplete), "{:?}", body.escape_ascii());
        }
    }

    #[tokio::test]
    async fn heads_and_preambles_are_bounded() {
        let long = format!("--b/1\r\nX: {}\r\n\r\nbody\r\n--b/1--", "x".repeat(HEAD_BYTES_MAX));
        assert!(matches!(read(long.as_bytes(), 1000).await, Err(MultipartError::Malformed(_))));
        let many = format!("--b/1\r\n{}\r\n\r\nbody\r\n--b/1--", "X: y\r\n".repeat(10_000));
        assert!(matches!(read(many.as_bytes(), 1000).await, Err(MultipartError::Malformed(_))));
        let preamble = vec![b'x'; 1 << 20];
        assert!(matches!(read(&preamble, 1000).await, Err(MultipartError::Malformed(_))));
        let no_header = b"--b/1\r\nno colon\r\n\r\nbody\r\n--b/1--";
        assert!(matches!(all(no_header).await, Err(MultipartError::Malformed(_))));
    }

    #[test]
    fn a_boundary_is_of_certain_characters() {
        let stream = || futures_util::stream::iter(Vec::<Result<Bytes, ()>>::new());
        for good in ["x", "a b", "0aZ'()+_,-./:=?"] {
            assert!(Reader::new(stream(), good).is_ok(), "{good}");
        }
        for bad in ["", "a ", "a\r\n", "ä", "\"", &"x".repeat(71)] {
            assert!(Reader::new(stream(), bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_written_can_be_read() {
        let mut writer = Writer::new();
        let mut body = Vec::new();
        for bytes in [&b"one"[..], b"", b"\r\n--"] {
            body.extend_from_slice(&writer.head("a/b", Some(bytes.len() as u64), ""));
            body.extend_from_slice(bytes);
        }
        body.extend_from_slice(&writer.end());
        let pieces = vec![Ok::<_, ()>(Bytes::from(body))];
        let mut reader = Reader::new(futures_util::stream::iter(pieces), &writer.boundary).unwrap();
        let mut lengths = Vec::new();
        while reader.next_part().await.unwrap().is_some() {
            let mut length = 0;
            while let Some(chunk) = reader.chunk().await.unwrap() {
                length += chunk.len();
            }
            lengths.push(length);
        }
        assert_eq!(lengths, [3, 0, 4]);
    }
}
