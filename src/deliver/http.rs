//! What destinations over HTTP have in common: where they are, who we are there, what a status means.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderValue;

use crate::deliver::DeliverError;
use crate::deliver::peer_words;
use crate::outgoing;

/// Of an answer; what is beyond is not read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The part of a destination's settings that says how it is reached.
pub struct Endpoint<'a> {
    pub url: &'a str,
    pub token_file: Option<&'a PathBuf>,
    pub ca_file: Option<&'a PathBuf>,
    pub allow_plain: bool,
    pub timeout_s: u64,
}

/// A request with its body.
pub struct Request<'a> {
    /// Added to the URL; empty or with its slash.
    pub path: &'a str,
    pub content_type: &'a str,
    pub accept: &'a str,
    /// Further ones.
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Endpoint<'_> {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if let Err(why) = outgoing::endpoint(self.url, self.allow_plain) {
            problems.push(format!("{at}.url: {why}"));
        }
        if let Err(why) = self.token() {
            problems.push(format!("{at}.token_file: {why}"));
        }
        if let Some(Err(error)) = self.ca_file.map(std::fs::File::open) {
            problems.push(format!("{at}.ca_file: {error}; the server could not be known"));
        }
        let s = self.timeout_s;
        if !(1..=600).contains(&s) {
            let why = "a shorter wait fails on a busy server, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 1 to 600 (default 60); {why}"));
        }
    }

    /// `Bearer …`, read for each try: tokens are renewed.
    fn token(&self) -> Result<Option<HeaderValue>, String> {
        let Some(file) = self.token_file else { return Ok(None) };
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let value = HeaderValue::from_str(&format!("Bearer {}", text.trim()));
        let mut value = value
            .ok()
            .filter(|_| !text.trim().is_empty())
            .ok_or("it should hold one line, the token alone")?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Status and body of the answer to one POST.
    ///
    /// # Errors
    /// Settings and files that cannot be used, no connection, no answer in time.
    pub async fn post(&self, request: Request<'_>) -> Result<(u16, Vec<u8>), DeliverError> {
        let (client, url) = self.client(request.path)?;
        let mut post = client
            .post(url)
            .header("content-type", request.content_type)
            .header("accept", request.accept)
            .body(request.body);
        for (name, value) in request.headers {
            post = post.header(name, value);
        }
        self.answer(post).await
    }

    /// The same to one GET.
    ///
    /// - `path`: as in [`Request`].
    pub async fn get(&self, path: &str, accept: &str) -> Result<(u16, Vec<u8>), DeliverError> {
        let (client, url) = self.client(path)?;
        self.answer(client.get(url).header("accept", accept)).await
    }

    fn client(&self, path: &str) -> Result<(reqwest::Client, reqwest::Url), DeliverError> {
        let settings = |what: String| DeliverError::Settings { what };
        let url = format!("{}{path}", self.url.trim().trim_end_matches('/'));
        let url = outgoing::endpoint(&url, self.allow_plain).map_err(settings)?;
        let (ca_file, waited) = (self.ca_file.map(PathBuf::as_path), self.waited());
        let client = outgoing::client(&url, self.allow_plain, ca_file, waited);
        let client = client.map_err(|cause| DeliverError::Unreachable { cause })?.build();
        let client = client.map_err(|error| settings(peer_words(&error.to_string())))?;
        Ok((client, url))
    }

    fn waited(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    async fn answer(
        &self,
        mut request: reqwest::RequestBuilder,
    ) -> Result<(u16, Vec<u8>), DeliverError> {
        let unreadable =
            |why: String| DeliverError::Unreachable { cause: format!("token_file: {why}") };
        if let Some(token) = self.token().map_err(unreadable)? {
            request = request.header(AUTHORIZATION, token);
        }
        let exchange = async {
            let mut answer = request.send().await?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == ANSWER_BYTES_MAX {
                    break;
                }
            }
            Ok((answer.status().as_u16(), body))
        };
        let waited = self.waited();
        let answered = tokio::time::timeout(waited, exchange).await;
        answered
            .map_err(|_| DeliverError::TimedOut { waited })?
            .map_err(|error| failed(&error, waited))
    }
}

fn failed(error: &reqwest::Error, waited: Duration) -> DeliverError {
    if error.is_timeout() {
        return DeliverError::TimedOut { waited };
    }
    // The innermost cause: what is around it repeats the URL.
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    DeliverError::Unreachable { cause: peer_words(&inner.to_string()) }
}

/// A status and a server's words, in one line.
pub fn answer(status: u16, words: &str) -> String {
    format!("HTTP {status} {}", peer_words(words)).trim_end().to_owned()
}

/// What a status that is no success means. A redirect is not followed: what we send would go where
/// nobody has said.
pub fn refused(status: u16, words: &str) -> DeliverError {
    let answer = answer(status, words);
    match status {
        408 | 425 | 429 | 500.. => DeliverError::Deferred { answer },
        300..=399 => DeliverError::Refused { answer: format!("{answer}: no redirect is followed") },
        _ => DeliverError::Refused { answer },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_says_again_or_never() {
        for again in [408, 425, 429, 500, 502, 503, 504] {
            assert!(refused(again, "").is_transient(), "{again}");
        }
        for never in [301, 307, 400, 401, 403, 404, 409, 410, 412, 413, 422] {
            assert!(!refused(never, "").is_transient(), "{never}");
        }
        assert_eq!(refused(422, "a\r\nb").to_string(), "refused: HTTP 422 a b");
    }
}
