//! Who guesses has to wait: per address, and per name over all addresses. The same wrong word again
//! is no guess: a program with a token that has ended keeps no colleague at its address out.

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
/// Of one name, from wherever: more, so that nobody can keep a colleague out by ten tries.
const WRONG_OF_NAME_MAX: u32 = 50;
const WINDOW: Duration = Duration::from_secs(300);
/// Keys remembered; those beyond share one count.
const KEYS_MAX: usize = 4096;

#[derive(Default)]
pub struct Throttle {
    addresses: Counts<IpAddr>,
    names: Counts<String>,
    hasher: RandomState,
}

impl Throttle {
    /// Refuses an address that guessed too often, and a name that too many guessed at.
    pub fn check(&self, from: IpAddr, name: Option<&str>) -> Result<(), Failure> {
        let by_address = self.addresses.must_wait(&group(from), WRONG_MAX);
        let by_name = name.and_then(|n| self.names.must_wait(&n.to_owned(), WRONG_OF_NAME_MAX));
        let Some(wait) = by_address.max(by_name) else { return Ok(()) };
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

struct Counts<K>(Mutex<HashMap<Option<K>, Wrong>>);

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
        let own = Some(key.clone());
        let entry = wrong.get(&own).or_else(|| wrong.get(&None))?;
        let over = WINDOW.checked_sub(entry.since.elapsed())?;
        (entry.count >= max).then_some(over)
    }

    fn note(&self, key: K, guess: u64) {
        let mut wrong = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= KEYS_MAX {
            wrong.retain(|_, entry| entry.since.elapsed() < WINDOW);
        }
        let key = Some(key);
        let known = wrong.len() < KEYS_MAX || wrong.contains_key(&key);
        let now = Instant::now();
        let entry = wrong.entry(if known { key } else { None });
        let none = || Wrong { count: 0, since: now, last: 0 };
        let entry = entry.or_insert_with(none);
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
    fn a_name_that_many_guess_at_waits_wherever_it_comes_from() {
        let throttle = Throttle::default();
        for n in 0..WRONG_OF_NAME_MAX {
            let from = IpAddr::from([10, 0, (n / 250) as u8, (n % 250) as u8]);
            throttle.note_wrong(from, Some("kim"), &n.to_string());
        }
        let other = "10.9.9.9".parse().unwrap();
        assert!(throttle.check(other, Some("kim")).is_err());
        assert!(throttle.check(other, Some("lee")).is_ok());
    }
}
