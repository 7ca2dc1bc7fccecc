//! Who guesses has to wait: per address (of IPv6 per network), sooner where many guess at one name.
//! The same wrong word again is no guess: a program with a token that has ended keeps no colleague
//! at its address out. Nobody is kept out by what others do elsewhere: a right token is taken in any
//! case, and a name that is guessed at is open to an address that does not guess.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::hash::Hash;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::http::StatusCode;

use crate::web::problem::Failure;
use crate::web::words::Phrase;

/// Wrong tries of one key within [`WINDOW`] after which it has to wait.
pub const WRONG_MAX: u32 = 10;
/// Wrong tries of one name, from wherever, after which each address has fewer.
const WRONG_OF_NAME_MAX: u32 = 50;
/// Wrong tries of an address at such a name: a person who mistypes has one more.
const WRONG_AT_SUCH_MAX: u32 = 2;
const WINDOW: Duration = Duration::from_secs(300);
/// Keys remembered; those with the fewest wrong tries make room.
const KEYS_MAX: usize = 4096;

#[derive(Default)]
pub struct Throttle {
    addresses: Counts<IpAddr>,
    names: Counts<String>,
    hasher: RandomState,
}

impl Throttle {
    /// Refuses an address that guessed too often. Of a token only once it is known to be wrong.
    ///
    /// - `name`: whose password is tried.
    pub fn check(&self, from: IpAddr, name: Option<&str>) -> Result<(), Failure> {
        let guessed_at = name.is_some_and(|name| {
            self.names.must_wait(&name.to_owned(), WRONG_OF_NAME_MAX).is_some()
        });
        let max = if guessed_at { WRONG_AT_SUCH_MAX } else { WRONG_MAX };
        let Some(wait) = self.addresses.must_wait(&group(from), max) else { return Ok(()) };
        Err(Failure {
            status: StatusCode::TOO_MANY_REQUESTS,
            detail: Phrase::new("login.wait"),
            retry_after_s: Some(wait.as_secs() + 1),
        })
    }

    /// - `guess`: the password or token, of which a hash is kept.
    pub fn note_wrong(&self, from: IpAddr, name: Option<&str>, guess: &str) {
        metrics::counter!("prelim_http_wrong_tokens_total").increment(1);
        tracing::warn!(%from, "a wrong password or access token");
        let guess = self.hasher.hash_one(guess);
        self.addresses.note(group(from), guess);
        if let Some(name) = name {
            self.names.note(name.to_owned(), guess);
        }
    }
}

struct Counts<K>(Mutex<HashMap<K, Wrong>>);

struct Wrong {
    count: u32,
    since: Instant,
    last: u64,
}

impl<K> Default for Counts<K> {
    fn default() -> Counts<K> {
        Counts(Mutex::default())
    }
}

impl<K: Hash + Eq + Clone> Counts<K> {
    /// How long a key that was wrong too often has to wait.
    fn must_wait(&self, key: &K, max: u32) -> Option<Duration> {
        let wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = wrong.get(key)?;
        let over = WINDOW.checked_sub(entry.since.elapsed())?;
        (entry.count >= max).then_some(over)
    }

    fn note(&self, key: K, guess: u64) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= KEYS_MAX && !wrong.contains_key(&key) {
            wrong.retain(|_, entry| entry.since.elapsed() < WINDOW);
            let least = wrong.iter().min_by_key(|(_, entry)| (entry.count, entry.since));
            let least = least.filter(|_| wrong.len() >= KEYS_MAX).map(|(key, _)| key.clone());
            if let Some(least) = least {
                wrong.remove(&least);
            }
        }
        let now = Instant::now();
        let none = || Wrong { count: 0, since: now, last: 0 };
        let entry = wrong.entry(key).or_insert_with(none);
        if entry.since.elapsed() >= WINDOW {
            *entry = none();
        }
        if entry.count == 0 || entry.last != guess {
            entry.count = entry.count.saturating_add(1);
        }
        entry.last = guess;
    }
}

/// IPv6 networks give one host 2^64 addresses.
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_wrong_tries_close_the_door_for_that_address_alone() {
        let throttle = Throttle::default();
        let guesser: IpAddr = "2001:db8::1".parse().unwrap();
        let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
        let other: IpAddr = "10.0.0.2".parse().unwrap();
        for n in 0..WRONG_MAX {
            assert!(throttle.check(guesser, Some("kim")).is_ok());
            throttle.note_wrong(guesser, Some("kim"), &n.to_string());
        }
        let failure = throttle.check(neighbour, None).unwrap_err();
        assert_eq!(failure.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(failure.retry_after_s.is_some_and(|wait| wait > 200));
        assert!(throttle.check(other, Some("kim")).is_ok(), "the colleague is not kept out");
    }

    #[test]
    fn the_same_wrong_word_again_is_no_guess() {
        let throttle = Throttle::default();
        let scraper: IpAddr = "10.0.0.3".parse().unwrap();
        for _ in 0..100 {
            throttle.note_wrong(scraper, None, "a token that has ended");
        }
        assert!(throttle.check(scraper, Some("kim")).is_ok());
    }

    #[test]
    fn guesses_from_elsewhere_keep_nobody_out() {
        let throttle = Throttle::default();
        let from = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
        for n in 0..20_000 {
            throttle.note_wrong(from(n), Some("kim"), &n.to_string());
        }
        let kim = "192.0.2.7".parse().unwrap();
        assert!(throttle.check(kim, Some("kim")).is_ok(), "from where nobody guesses");
        throttle.note_wrong(kim, Some("kim"), "mistyped");
        assert!(throttle.check(kim, Some("kim")).is_ok());
        throttle.note_wrong(kim, Some("kim"), "mistyped too");
        assert!(throttle.check(kim, Some("kim")).is_err(), "who guesses at such a name waits");
        assert!(throttle.check(kim, Some("lee")).is_ok());
        assert!(throttle.addresses.0.lock().unwrap().len() <= KEYS_MAX);
    }

    #[test]
    fn who_guessed_most_is_remembered_when_many_come_after() {
        let throttle = Throttle::default();
        let guesser: IpAddr = "192.0.2.7".parse().unwrap();
        for n in 0..WRONG_MAX {
            throttle.note_wrong(guesser, None, &n.to_string());
        }
        for n in 0..5_000_u32 {
            let from = IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n));
            throttle.note_wrong(from, None, "guess");
        }
        assert!(throttle.check(guesser, None).is_err());
    }
}
