//! What a browser holds after a login. In memory: a restart of the node asks for the login again.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use sha2::Digest as _;
use sha2::Sha256;

use crate::web::access::random_token;

const COOKIE: &str = "prelim_session";
const SESSIONS_MAX: usize = 1024;

/// Who logged in. What they may do is looked up at each request, by the accounts and settings of then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By the access token of the settings, of which this is the SHA-256.
    Token([u8; 32]),
    /// A user of the accounts.
    User(String),
    /// Somebody the identity provider of the site vouched for, and the groups that had a role here.
    Federated { name: String, issuer: String, groups: Vec<String> },
}

pub struct Sessions {
    /// By the SHA-256 of the cookie's value. Times are monotonic: a clock set back extends none.
    open: Mutex<HashMap<[u8; 32], Session>>,
    rules: Mutex<Rules>,
}

#[derive(Clone, Copy)]
struct Rules {
    time: Duration,
    always_secure: bool,
}

struct Session {
    of: Subject,
    until: Instant,
}

impl Sessions {
    /// - `always_secure`: whether browsers send the cookie over HTTPS alone, also when it was given
    ///   without (a proxy speaks HTTPS).
    pub fn new(time: Duration, always_secure: bool) -> Sessions {
        Sessions { open: Mutex::default(), rules: Mutex::new(Rules { time, always_secure }) }
    }

    /// For those who log in from now on, as in [`Sessions::new`].
    pub fn configure(&self, time: Duration, always_secure: bool) {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Rules { time, always_secure };
    }

    fn rules(&self) -> Rules {
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn of(&self, headers: &HeaderMap) -> Option<Subject> {
        let key = digest(cookie(headers)?);
        let mut sessions = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&key)?;
        if session.until <= Instant::now() {
            sessions.remove(&key);
            return None;
        }
        Some(session.of.clone())
    }

    /// The cookie of a new session.
    pub fn open(&self, of: Subject, secure: bool) -> HeaderValue {
        let (value, time) = (random_token(), self.rules().time);
        let now = Instant::now();
        let mut sessions = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(k, _)| *k);
            oldest.map(|key| sessions.remove(&key));
        }
        sessions.insert(digest(&value), Session { of, until: now + time });
        self.cookie_for(&value, time.as_secs(), secure)
    }

    /// Ends the session of a browser: whose it was, and the cookie that takes it away.
    pub fn close(&self, headers: &HeaderMap, secure: bool) -> (Option<Subject>, HeaderValue) {
        let closed = cookie(headers).and_then(|value| {
            let mut sessions = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.remove(&digest(value)).map(|session| session.of)
        });
        (closed, self.cookie_for("", 0, secure))
    }

    /// Ends all sessions of a user, but for the one of these headers.
    pub fn close_others(&self, user: &str, headers: &HeaderMap) {
        let own = cookie(headers).map(digest);
        let mut sessions = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|key, session| {
            Some(*key) == own || session.of != Subject::User(user.to_owned())
        });
    }

    /// Lax: the link in an alert's mail leads a person who is logged in to the study. What changes
    /// something is refused from another site's page (`from_our_page`).
    fn cookie_for(&self, value: &str, age_s: u64, secure: bool) -> HeaderValue {
        let secure = if secure || self.rules().always_secure { "; Secure" } else { "" };
        let text =
            format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}");
        HeaderValue::from_str(&text).expect("hexadecimal digits and our own words")
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    value_of(headers, COOKIE)
}

/// The value of a cookie.
pub fn value_of<'a>(headers: &'a HeaderMap, wanted: &str) -> Option<&'a str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        let line = format!("a=b; {pair}");
        HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&line).unwrap())])
    }

    #[test]
    fn a_session_ends_with_its_logout() {
        let sessions = Sessions::new(Duration::from_secs(60), false);
        let cookie = sessions.open(Subject::Token([7; 32]), true);
        assert!(cookie.to_str().unwrap().contains("HttpOnly; SameSite=Lax; Max-Age=60; Secure"));
        assert_eq!(sessions.of(&headers(&cookie)), Some(Subject::Token([7; 32])));
        assert_eq!(sessions.close(&headers(&cookie), false).0, Some(Subject::Token([7; 32])));
        assert_eq!(sessions.of(&headers(&cookie)), None);
    }

    #[test]
    fn a_new_password_ends_the_other_sessions_of_that_user() {
        let sessions = Sessions::new(Duration::from_secs(60), false);
        let open = |name: &str| headers(&sessions.open(Subject::User(name.to_owned()), false));
        let (own, other, colleague) = (open("kim"), open("kim"), open("lee"));
        sessions.close_others("kim", &own);
        let is_open = [&own, &other, &colleague].map(|headers| sessions.of(headers).is_some());
        assert_eq!(is_open, [true, false, true]);
    }
}
