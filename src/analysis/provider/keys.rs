//! The keys of one gateway: one is used for a turn, then the next, as their weights, quotas and
//! ends allow; one that is refused or asked to wait rests.

use std::path::PathBuf;
use std::time::Duration;

use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::secret::Secret;

/// After 401 or 403: who looks after keys may be down for a moment. Twice as long each time.
const REFUSED: SignedDuration = SignedDuration::from_secs(10);
const REFUSED_MAX: SignedDuration = SignedDuration::from_mins(1);
/// After 429 without Retry-After.
const BUSY: SignedDuration = SignedDuration::from_secs(60);
/// Share of a quota at which the log warns, and days before a key's end.
const WARN_AT: f64 = 0.8;
const WARN_DAYS: i32 = 14;

/// `[[analysis.gateways.NAME.keys]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Key {
    /// In logs, sums and `prelim keys`.
    pub name: String,
    /// File that holds the key and nothing else.
    pub file: PathBuf,
    /// Its share of the calls, against the others'.
    pub weight: u32,
    /// Calls in a calendar month. 0: no quota.
    pub calls_max: u64,
    /// The last day on which it is used.
    pub expires: Option<Date>,
}

impl Default for Key {
    fn default() -> Key {
        let (name, file) = (String::new(), PathBuf::new());
        Key { name, file, weight: 1, calls_max: 0, expires: None }
    }
}

impl Key {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            problems.push(format!("{at}.name: 1 to 32 letters, digits, _, - and ."));
        }
        if let Err(error) = std::fs::metadata(&self.file) {
            let file = self.file.display();
            problems.push(format!("{at}.file = {file}: {error}; every call would be refused"));
        }
        if !(1..=1000).contains(&self.weight) {
            problems.push(format!("{at}.weight = {}: use 1 to 1000 (default 1)", self.weight));
        }
    }
}

/// How long one key is used before the next has its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rotation {
    pub hours: u32,
    pub calls: u64,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { hours: 12, calls: 5000 }
    }
}

/// What a call says of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    Taken,
    /// 401, 403.
    Refused,
    /// 429.
    Busy(Option<Duration>),
}

#[derive(Debug)]
struct Held {
    key: Key,
    secret: Option<Secret>,
    /// In the month of `Ring::month`.
    calls: u64,
    rests_until: Option<Timestamp>,
    /// How often in a row.
    refused: u32,
    warned: bool,
}

#[derive(Debug, Clone, Copy)]
struct Turn {
    at: usize,
    since: Timestamp,
    calls: u64,
}

/// The keys of one gateway, and which has its turn.
#[derive(Debug)]
pub struct Ring {
    held: Vec<Held>,
    rotation: Rotation,
    month: Date,
    turn: Option<Turn>,
}

/// One key as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyView {
    pub name: String,
    /// `in use`, `usable`, `used up`, `expired`, `refused`, `resting`.
    pub state: String,
    pub rests_until: Option<Timestamp>,
    pub calls: u64,
    pub calls_max: u64,
    pub expires: Option<Date>,
    pub weight: u32,
}

impl Ring {
    /// - `keys`: with what their files hold; none stands for a gateway without a key.
    /// - `used`: calls of this month so far, by name.
    pub fn new(
        keys: Vec<(Key, Option<Secret>)>,
        rotation: Rotation,
        today: Date,
        used: impl Fn(&str) -> u64,
    ) -> Ring {
        let held = keys.into_iter().map(|(key, secret)| Held {
            calls: used(&key.name),
            key,
            secret,
            rests_until: None,
            refused: 0,
            warned: false,
        });
        Ring { held: held.collect(), rotation, month: today.first_of_month(), turn: None }
    }

    /// Takes what the file of key `at` holds now; whether that is another.
    pub fn renew(&mut self, at: usize, secret: Option<Secret>) -> bool {
        let Some(held) = self.held.get_mut(at).filter(|held| held.secret != secret) else {
            return false;
        };
        held.secret = secret;
        (held.rests_until, held.refused) = (None, 0);
        true
    }

    pub fn secret(&self, at: usize) -> Option<&Secret> {
        self.held.get(at).and_then(|held| held.secret.as_ref())
    }

    pub fn name(&self, at: usize) -> &str {
        self.held.get(at).map_or("", |held| held.key.name.as_str())
    }

    /// The key for the next call, which is counted.
    ///
    /// # Errors
    /// None can be used: whether all were refused, and when one may be used again.
    pub fn pick(
        &mut self,
        now: Timestamp,
        today: Date,
    ) -> Result<usize, (bool, Option<Timestamp>)> {
        self.begin_month(today);
        let at = self.choose(now, today).ok_or_else(|| {
            // Those for which waiting helps.
            let left = || self.held.iter().filter(|held| held.spent(today).is_none());
            let refused = left().next().is_some() && left().all(|held| held.refused > 0);
            (refused, left().filter_map(|held| held.rests_until).min())
        })?;
        match &mut self.turn {
            Some(turn) if turn.at == at && !is_over(turn, self.rotation, now) => turn.calls += 1,
            turn => *turn = Some(Turn { at, since: now, calls: 1 }),
        }
        let held = &mut self.held[at];
        held.calls += 1;
        Ok(at)
    }

    fn begin_month(&mut self, today: Date) {
        if self.month != today.first_of_month() {
            self.month = today.first_of_month();
            for held in &mut self.held {
                (held.calls, held.warned) = (0, false);
            }
        }
    }

    /// Who has the turn keeps it until it is over; then whoever was used least for its weight.
    fn choose(&self, now: Timestamp, today: Date) -> Option<usize> {
        let usable = |at: &usize| self.held[*at].state(now, today).is_none();
        let of_turn = self.turn.filter(|turn| usable(&turn.at));
        if let Some(turn) = of_turn.filter(|turn| !is_over(turn, self.rotation, now)) {
            return Some(turn.at);
        }
        let share = |at: &usize| {
            let held = &self.held[*at];
            held.calls as f64 / f64::from(held.key.weight.max(1))
        };
        let others = (0..self.held.len()).filter(usable);
        let others = others.filter(|at| of_turn.is_none_or(|turn| turn.at != *at));
        let next = others.min_by(|a, b| share(a).total_cmp(&share(b)));
        next.or(of_turn.map(|turn| turn.at))
    }

    /// Takes down what a call with this key said.
    pub fn ended(&mut self, at: usize, word: Word, now: Timestamp) {
        let Some(held) = self.held.get_mut(at) else { return };
        held.refused = if word == Word::Refused { held.refused + 1 } else { 0 };
        held.rests_until = match word {
            Word::Taken => None,
            Word::Refused => {
                let doubled = 1 << (held.refused - 1).min(8);
                Some(now + (REFUSED * doubled).min(REFUSED_MAX))
            }
            Word::Busy(wait) => {
                let wait = wait.and_then(|wait| SignedDuration::try_from(wait).ok());
                Some(now + wait.unwrap_or(BUSY))
            }
        };
    }

    /// The key that a call now would have.
    pub fn in_turn(&self, now: Timestamp, today: Date) -> Option<usize> {
        self.choose(now, today)
    }

    /// Whether there is one that a call may be tried with.
    pub fn has_another(&self, now: Timestamp, today: Date) -> bool {
        self.in_turn(now, today).is_some()
    }

    /// What somebody should look after, each once a month.
    pub fn warnings(&mut self, today: Date) -> Vec<String> {
        let mut lines = Vec::new();
        for held in self.held.iter_mut().filter(|held| !held.warned) {
            let before = lines.len();
            let Key { name, calls_max, expires, .. } = &held.key;
            let share = held.calls as f64 / (*calls_max).max(1) as f64;
            if *calls_max > 0 && share >= WARN_AT {
                lines
                    .push(format!("key {name}: {} of {calls_max} calls of this month", held.calls));
            }
            let days = expires.and_then(|end| today.until(end).ok()).map(|span| span.get_days());
            if days.is_some_and(|days| days <= WARN_DAYS) {
                lines.push(format!("key {name} ends on {}", expires.unwrap_or_default()));
            }
            held.warned = lines.len() > before;
        }
        lines
    }

    pub fn view(&self, now: Timestamp, today: Date) -> Vec<KeyView> {
        let in_turn = self.turn.map(|turn| turn.at);
        let view = |(at, held): (usize, &Held)| KeyView {
            name: held.key.name.clone(),
            state: match held.state(now, today) {
                Some(state) => state.to_owned(),
                None if in_turn == Some(at) => "in use".to_owned(),
                None => "usable".to_owned(),
            },
            rests_until: held.rests_until.filter(|until| *until > now),
            calls: held.calls,
            calls_max: held.key.calls_max,
            expires: held.key.expires,
            weight: held.key.weight,
        };
        self.held.iter().enumerate().map(view).collect()
    }
}

impl Held {
    /// Why it cannot be used now.
    fn state(&self, now: Timestamp, today: Date) -> Option<&'static str> {
        let rests = self.rests_until.is_some_and(|until| until > now);
        let rest = if self.refused > 0 { "refused" } else { "resting" };
        self.spent(today).or(rests.then_some(rest))
    }

    /// Why it cannot be used any more, or not this month.
    fn spent(&self, today: Date) -> Option<&'static str> {
        let Key { calls_max, expires, .. } = &self.key;
        match expires.is_some_and(|end| today > end) {
            true => Some("expired"),
            false => (*calls_max > 0 && self.calls >= *calls_max).then_some("used up"),
        }
    }
}

fn is_over(turn: &Turn, rotation: Rotation, now: Timestamp) -> bool {
    let hours = SignedDuration::from_hours(i64::from(rotation.hours));
    turn.calls >= rotation.calls || now.duration_since(turn.since) >= hours
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    const DAY: Date = date(2026, 11, 20);

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn ring(keys: &[(&str, u32, u64, Option<Date>)], rotation: Rotation) -> Ring {
        let key = |&(name, weight, calls_max, expires): &(&str, u32, u64, Option<Date>)| {
            (Key { name: name.into(), weight, calls_max, expires, ..Key::default() }, None)
        };
        Ring::new(keys.iter().map(key).collect(), rotation, DAY, |_| 0)
    }

    fn picks(ring: &mut Ring, times: impl IntoIterator<Item = i64>) -> String {
        let pick = |minute| match ring.pick(at(minute), DAY) {
            Ok(at) => ring.name(at).to_owned(),
            Err(_) => "-".to_owned(),
        };
        times.into_iter().map(pick).collect()
    }

    #[test]
    fn a_key_keeps_its_turn_for_so_many_calls_or_hours() {
        let mut by_calls =
            ring(&[("a", 1, 0, None), ("b", 1, 0, None)], Rotation { hours: 12, calls: 3 });
        assert_eq!(picks(&mut by_calls, 0..8), "aaabbbaa");
        let mut by_hours =
            ring(&[("a", 1, 0, None), ("b", 1, 0, None)], Rotation { hours: 1, calls: 99 });
        assert_eq!(picks(&mut by_hours, [0, 59, 60, 61, 119, 120]), "aabbba");
        let mut alone = ring(&[("a", 1, 0, None)], Rotation { hours: 1, calls: 2 });
        assert_eq!(picks(&mut alone, 0..5), "aaaaa");
    }

    #[test]
    fn weights_are_the_shares_of_the_calls() {
        let keys = [("a", 3, 0, None), ("b", 1, 0, None), ("c", 1, 0, None)];
        let mut longer = ring(&keys, Rotation { hours: 99, calls: 1 });
        let all = picks(&mut longer, 0..1000);
        let count = |name| all.matches(name).count();
        assert!(count('a') > 450 && count('b').abs_diff(count('c')) <= 2, "{}", count('a'));
    }

    #[test]
    fn a_key_that_is_refused_busy_used_up_or_expired_is_passed_over() {
        let rotation = Rotation { hours: 12, calls: 100 };
        let mut two = ring(&[("a", 1, 0, None), ("b", 1, 0, None)], rotation);
        assert_eq!(picks(&mut two, [0]), "a");
        two.ended(0, Word::Refused, at(0));
        assert_eq!(picks(&mut two, [0, 0]), "bb");
        two.ended(1, Word::Busy(Some(Duration::from_secs(600))), at(2));
        two.ended(0, Word::Refused, at(3));
        let twice = at(3) + REFUSED * 2;
        assert_eq!(two.pick(at(3), DAY), Err((false, Some(twice))));
        assert!(!two.has_another(at(3), DAY));
        assert_eq!(picks(&mut two, [12, 61]), "bb", "it has its turn still");
        two.ended(1, Word::Refused, at(61));
        assert_eq!(picks(&mut two, [61]), "a", "long after it is tried again");
        two.ended(0, Word::Refused, at(61));
        assert!(two.pick(at(61), DAY).unwrap_err().0, "all are refused");

        let ends = Some(DAY.yesterday().unwrap());
        let mut three =
            ring(&[("a", 1, 0, ends), ("b", 1, 2, None), ("c", 1, 0, Some(DAY))], rotation);
        assert_eq!(picks(&mut three, 0..4), "bbcc");
        let states = |ring: &Ring| {
            ring.view(at(4), DAY).into_iter().map(|key| key.state).collect::<Vec<_>>()
        };
        assert_eq!(states(&three), ["expired", "used up", "in use"]);
        let warned = three.warnings(DAY).join("; ");
        assert!(
            warned.contains("key b: 2 of 2 calls") && warned.contains("key c ends on"),
            "{warned}"
        );
        assert_eq!(three.warnings(DAY), Vec::<String>::new(), "each once");
        let next_month = date(2026, 12, 1);
        assert_eq!(
            three.pick(at(5), next_month).map(|at| three.name(at).to_owned()),
            Ok("b".into())
        );
    }

    #[test]
    fn what_was_used_before_a_restart_counts() {
        let keys = vec![(Key { name: "a".into(), calls_max: 10, ..Key::default() }, None)];
        let mut ring =
            Ring::new(keys, Rotation::default(), DAY, |name| if name == "a" { 9 } else { 0 });
        assert_eq!(picks(&mut ring, 0..2), "a-");
    }
}
