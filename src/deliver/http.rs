//! What destinations over HTTP have in common: where they are, who we are there, what a status means.

use std::time::Duration;

use crate::deliver::DeliverError;
use crate::deliver::peer_words;
use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::outgoing;
use crate::outgoing::hints;
use crate::outgoing::server::Server;

/// Of an answer; what is beyond is not read.
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// The part of a destination's settings that says how it is reached.
pub struct Endpoint<'a> {
    pub url: &'a str,
    pub server: Server<'a>,
    pub timeout_s: u64,
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
    /// How long it wants to be left alone.
    pub wait: Option<Duration>,
    /// Whether who we are may be renewed meanwhile: a 401 passes then.
    pub may_be_renewed: bool,
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
        if let Err(why) = self.server.url(self.url, "") {
            problems.push(format!("{at}.url: {why}"));
        }
        self.server.check(at, problems);
        let s = self.timeout_s;
        if !(1..=600).contains(&s) {
            let why = "a shorter wait fails on a busy server, a longer one blocks what waits";
            problems.push(format!("{at}.timeout_s = {s}: use 1 to 600 (default 60); {why}"));
        }
    }

    /// The answer to one POST.
    ///
    /// # Errors
    /// Settings and files that cannot be used, no connection, no answer in time.
    pub async fn post(&self, request: Request<'_>) -> Result<Answer, DeliverError> {
        let (client, url) = self.client(request.path)?;
        self.answer(&|| {
            let post = client
                .post(url.clone())
                .header("content-type", request.content_type)
                .header("accept", request.accept)
                .body(request.body.clone());
            request.headers.iter().fold(post, |post, (name, value)| post.header(*name, value))
        })
        .await
    }

    /// The same to one GET.
    ///
    /// - `path`: as in [`Request`].
    pub async fn get(&self, path: &str, accept: &str) -> Result<Answer, DeliverError> {
        let (client, url) = self.client(path)?;
        self.answer(&|| client.get(url.clone()).header("accept", accept)).await
    }

    fn client(&self, path: &str) -> Result<(reqwest::Client, reqwest::Url), DeliverError> {
        let settings = |what: String| DeliverError::Settings { what };
        let url = self.server.url(self.url, path).map_err(settings)?;
        let client = self.server.route.client(&url, self.waited());
        let client = client.map_err(|cause| DeliverError::Unreachable { cause })?.build();
        let client = client.map_err(|error| settings(peer_words(&error.to_string())))?;
        Ok((client, self.server.route.called(&url)))
    }

    fn waited(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// A token that is not taken is fetched again, once.
    async fn answer(
        &self,
        request: &(dyn Fn() -> reqwest::RequestBuilder + Sync),
    ) -> Result<Answer, DeliverError> {
        let first = self.once(request(), false).await?;
        match first.status {
            401 if self.server.who.oauth2.is_some() => self.once(request(), true).await,
            _ => Ok(first),
        }
    }

    async fn once(
        &self,
        request: reqwest::RequestBuilder,
        fresh: bool,
    ) -> Result<Answer, DeliverError> {
        let waited = self.waited();
        let exchange = async {
            let unreadable = |cause: String| DeliverError::Unreachable { cause };
            let request = self.server.signed(request, self.url, fresh).await.map_err(unreadable)?;
            let failed = |error: reqwest::Error| failed(&error, waited);
            let mut answer = request.send().await.map_err(failed)?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await.map_err(failed)? {
                let room = ANSWER_BYTES_MAX - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if body.len() == ANSWER_BYTES_MAX {
                    break;
                }
            }
            let status = answer.status().as_u16();
            let wait = match status {
                408 | 425 | 429 | 503 => {
                    let words = String::from_utf8_lossy(&body);
                    hints::wait(answer.headers(), &words, SystemClock.now())
                }
                _ => None,
            };
            Ok(Answer { status, body, wait, may_be_renewed: self.server.may_be_renewed() })
        };
        let answered = tokio::time::timeout(waited, exchange).await;
        answered.map_err(|_| DeliverError::TimedOut { waited })?
    }
}

impl Answer {
    /// What it means as no success, with the server's words.
    pub fn refused(&self, words: &str) -> DeliverError {
        match refused(self.status, words) {
            DeliverError::Deferred { answer, .. } => {
                DeliverError::Deferred { answer, wait: self.wait }
            }
            DeliverError::Refused { answer } if self.status == 401 && self.may_be_renewed => {
                DeliverError::Deferred { answer, wait: None }
            }
            other => other,
        }
    }
}

fn failed(error: &reqwest::Error, waited: Duration) -> DeliverError {
    if error.is_timeout() {
        return DeliverError::TimedOut { waited };
    }
    DeliverError::Unreachable { cause: peer_words(&outgoing::why(error)) }
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
        408 | 425 | 429 | 500.. => DeliverError::Deferred { answer, wait: None },
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
