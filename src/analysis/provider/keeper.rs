//! What keeps a gateway from being asked too much, or in vain: calls at once, calls a minute, and
//! a rest after failures.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::analysis::AnalyzeError;
use crate::analysis::config::Limits;
use crate::analysis::provider::Asked;
use crate::analysis::provider::GatewayView;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::turns::Slots;

/// The longest rest that grows with each failed trial: studies wait for its end.
const REST_MAX: Duration = Duration::from_secs(120);
/// After a refused key (401, 403): who looks after keys may be down for a moment. Twice as long each
/// time.
const REST_REFUSED: Duration = Duration::from_secs(10);
const REST_REFUSED_MAX: Duration = Duration::from_secs(60);
/// After 429 without Retry-After (RFC 6585 4).
const REST_BUSY: Duration = Duration::from_secs(10);
/// The longest wait for a place among the calls of a minute.
const PLACE_MAX: Duration = Duration::from_secs(60);

/// What one call says about the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It answers, whatever the answer is worth.
    Up,
    Down,
    /// It wants to be left alone for this long.
    Rest(Duration),
    /// It does not take our key (401, 403).
    Refused(u16),
}

impl Verdict {
    fn of<T>(ended: &Result<T, AnalyzeError>) -> Verdict {
        match ended {
            Ok(_)
            | Err(
                AnalyzeError::BadAnswer { .. }
                | AnalyzeError::Unreadable { .. }
                | AnalyzeError::TooLarge { .. }
                | AnalyzeError::Failed { .. }
                | AnalyzeError::NotCovered { .. }
                | AnalyzeError::Misconfigured { .. }
                | AnalyzeError::Resting { .. },
            ) => Verdict::Up,
            Err(AnalyzeError::Busy { retry_after: Some(wait), .. }) => Verdict::Rest(*wait),
            Err(AnalyzeError::Busy { status: 429, .. }) => Verdict::Rest(REST_BUSY),
            Err(AnalyzeError::Refused { status: status @ (401 | 403), .. }) => {
                Verdict::Refused(*status)
            }
            Err(AnalyzeError::Refused { .. }) => Verdict::Up,
            Err(
                AnalyzeError::Busy { .. }
                | AnalyzeError::TimedOut { .. }
                | AnalyzeError::Unreachable { .. }
                | AnalyzeError::Untrusted { .. },
            ) => Verdict::Down,
        }
    }
}

/// Whether a gateway is asked now. After some failures in a row it rests; then one call tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Asked {
        failures: u32,
    },
    /// - `rest`: how long this rest is; the next is twice as long.
    Resting {
        until: Instant,
        rest: Duration,
    },
    /// One call is on its way; the others wait for what it says.
    Tried {
        rest: Duration,
    },
}

impl Breaker {
    /// # Errors
    /// How long it rests still.
    fn admit(self, now: Instant) -> Result<Breaker, Duration> {
        match self {
            Breaker::Asked { .. } => Ok(self),
            Breaker::Resting { until, .. } if now < until => Err(until - now),
            Breaker::Resting { rest, .. } => Ok(Breaker::Tried { rest }),
            Breaker::Tried { .. } => Err(Duration::from_secs(1)),
        }
    }

    fn ended(self, verdict: Verdict, now: Instant, limits: &Limits) -> Breaker {
        let rest = |rest: Duration| Breaker::Resting { until: now + rest, rest };
        let first = Duration::from_secs(limits.rest_s);
        match (self, verdict) {
            // A call that began before the failures and ended after them.
            (Breaker::Resting { .. }, Verdict::Up | Verdict::Down) => self,
            (_, Verdict::Up) => Breaker::Asked { failures: 0 },
            (Breaker::Tried { rest: last }, Verdict::Refused(_)) => {
                rest((last * 2).clamp(REST_REFUSED, REST_REFUSED_MAX))
            }
            (_, Verdict::Refused(_)) => rest(REST_REFUSED),
            (Breaker::Resting { until, .. }, Verdict::Rest(wait)) if until > now + wait => self,
            (_, Verdict::Rest(wait)) => Breaker::Resting { until: now + wait, rest: first },
            (Breaker::Asked { failures }, Verdict::Down) if failures + 1 < limits.failures_max => {
                Breaker::Asked { failures: failures + 1 }
            }
            (Breaker::Asked { .. }, Verdict::Down) => rest(first),
            (Breaker::Tried { rest: last }, Verdict::Down) => rest((last * 2).min(REST_MAX)),
        }
    }
}

/// Spreads calls over the minute: after a burst of a tenth of the minute's calls, one at a time.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// When the next call would be due if all came at an even pace.
    next: Instant,
}

impl Pace {
    /// How long a call that comes now has to wait, and the pace after it.
    ///
    /// # Errors
    /// The wait, when it is longer than [`PLACE_MAX`].
    fn place(self, per_minute: u32, now: Instant) -> Result<(Duration, Pace), Duration> {
        if per_minute == 0 {
            return Ok((Duration::ZERO, self));
        }
        let gap = Duration::from_secs(60) / per_minute;
        let burst = gap * (per_minute / 10);
        let due = self.next.max(now);
        let wait = due.saturating_duration_since(now + burst);
        match wait > PLACE_MAX {
            true => Err(wait),
            false => Ok((wait, Pace { next: due + gap })),
        }
    }
}

struct State {
    breaker: Breaker,
    /// The status with which it refused our key last: while it rests, the others are told so too.
    refused: Option<u16>,
    pace: Pace,
    /// When it was looked at last, and what was wrong.
    checked: Option<(Timestamp, Option<String>)>,
    last: Option<LastCall>,
}

/// The last time that it was asked something.
struct LastCall {
    latency: Duration,
    /// Why there was no answer.
    problem: Option<String>,
}

impl State {
    /// # Errors
    /// How long it rests still.
    fn admit(&mut self, now: Instant) -> Result<(), Duration> {
        self.breaker = self.breaker.admit(now)?;
        Ok(())
    }
}

/// A provider that is asked within its limits.
pub struct Kept {
    provider: Arc<dyn Provider>,
    limits: Limits,
    calls: Arc<Slots>,
    state: Mutex<State>,
}

impl Kept {
    pub fn new(provider: Arc<dyn Provider>, limits: &Limits) -> Kept {
        let breaker = Breaker::Asked { failures: 0 };
        let kept = Kept {
            calls: Slots::new(limits.calls_at_once),
            limits: limits.clone(),
            state: Mutex::new(State {
                breaker,
                refused: None,
                pace: Pace { next: Instant::now() },
                checked: None,
                last: None,
            }),
            provider,
        };
        kept.show(breaker);
        kept
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// - `refused`: the status with which its last key was refused, while it rests for that.
    fn not_now(&self, state: &State, refused: Option<u16>, wait: Duration) -> AnalyzeError {
        let provider = self.name().to_owned();
        match refused {
            Some(status) => AnalyzeError::Refused { provider, status, words: String::new() },
            None => {
                let problem = state.last.as_ref().and_then(|last| last.problem.clone());
                let why = problem.unwrap_or_else(|| "its calls are used up".to_owned());
                AnalyzeError::Resting { provider, wait, why }
            }
        }
    }

    /// How long a call that comes now has to wait for its place in the minute.
    fn admit(&self) -> Result<Duration, AnalyzeError> {
        let mut state = self.state();
        let now = Instant::now();
        let placed = state.pace.place(self.limits.calls_per_minute, now);
        let refused = state.refused;
        if let Err(wait) = state.admit(now) {
            return Err(self.not_now(&state, refused, wait));
        }
        let (wait, pace) = placed.map_err(|wait| self.not_now(&state, None, wait))?;
        state.pace = pace;
        Ok(wait)
    }

    pub fn view(&self) -> GatewayView {
        let state = self.state();
        let rests = match state.breaker {
            Breaker::Resting { until, .. } if until > Instant::now() => {
                let wait = until.saturating_duration_since(Instant::now());
                Some(self.not_now(&state, state.refused, wait).to_string())
            }
            Breaker::Resting { .. } | Breaker::Asked { .. } | Breaker::Tried { .. } => None,
        };
        let (checked_at, problem) = state.checked.clone().unzip();
        let last = state.last.as_ref();
        let refused = last.and_then(|last| last.problem.clone());
        GatewayView {
            name: self.name().to_owned(),
            model: self.model().to_owned(),
            rests,
            checked_at,
            problem: refused.or(problem.flatten()),
            latency_ms: last
                .map(|last| u64::try_from(last.latency.as_millis()).unwrap_or(u64::MAX)),
            keys: self.key_views(),
        }
    }

    /// Whether it answered when it was asked last.
    pub fn answers(&self) -> bool {
        self.state().last.as_ref().is_some_and(|last| last.problem.is_none())
    }

    fn show(&self, breaker: Breaker) {
        let is_asked = matches!(breaker, Breaker::Asked { .. });
        metrics::gauge!("prelim_gateway_usable", "gateway" => self.name().to_owned())
            .set(f64::from(u8::from(is_asked)));
    }

    /// Takes down what a call said. Said once, when it changes whether the gateway is asked.
    fn ended(&self, verdict: Verdict) {
        let mut state = self.state();
        let before = state.breaker;
        let after = before.ended(verdict, Instant::now(), &self.limits);
        state.breaker = after;
        state.refused = match (verdict, after) {
            (Verdict::Refused(status), _) => Some(status),
            (_, Breaker::Resting { .. }) => state.refused,
            (_, Breaker::Asked { .. } | Breaker::Tried { .. }) => None,
        };
        drop(state);
        self.show(after);
        let gateway = self.name();
        match (before, after) {
            (Breaker::Asked { .. } | Breaker::Tried { .. }, Breaker::Resting { rest, .. }) => {
                tracing::error!(gateway, seconds = rest.as_secs(), "the gateway rests");
            }
            (Breaker::Tried { .. }, Breaker::Asked { .. }) => {
                tracing::info!(gateway, "the gateway answers again");
            }
            _ => {}
        }
    }
}

/// A call that is dropped on its way says that the gateway was down: without a word from it no
/// other would ever try.
struct OnItsWay<'a> {
    kept: &'a Kept,
    verdict: Verdict,
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.kept.ended(self.verdict);
    }
}

#[async_trait]
impl Provider for Kept {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn model(&self) -> &str {
        self.provider.model()
    }

    fn algorithm(&self, model: &str) -> Algorithm {
        self.provider.algorithm(model)
    }

    fn key_views(&self) -> Vec<KeyView> {
        self.provider.key_views()
    }

    fn draws(&self) -> bool {
        self.provider.draws()
    }

    fn manifest(&self) -> Option<&Manifest> {
        self.provider.manifest()
    }

    /// One that rests is left alone until its rest is over; then this look is the trial.
    async fn check(&self) -> Result<(), AnalyzeError> {
        let admitted = self.state().admit(Instant::now());
        if let Err(wait) = admitted {
            let state = self.state();
            return Err(self.not_now(&state, state.refused, wait));
        }
        let mut on_its_way = OnItsWay { kept: self, verdict: Verdict::Down };
        let ended = self.provider.check().await;
        on_its_way.verdict = Verdict::of(&ended);
        drop(on_its_way);
        let at = crate::domain::clock::Clock::now(&crate::domain::clock::SystemClock);
        self.state().checked = Some((at, ended.as_ref().err().map(ToString::to_string)));
        ended
    }

    fn admits(&self) -> Result<(), AnalyzeError> {
        let admitted = self.state().breaker.admit(Instant::now());
        match admitted {
            Ok(_) => self.provider.admits(),
            Err(wait) => {
                let state = self.state();
                Err(self.not_now(&state, state.refused, wait))
            }
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        let _place = self.calls.take().await;
        let wait = match self.admit() {
            Ok(wait) => wait,
            Err(not_now) => return Asked::not(not_now),
        };
        let mut on_its_way = OnItsWay { kept: self, verdict: Verdict::Down };
        tokio::time::sleep(wait).await;
        let began = Instant::now();
        let ended = self.provider.ask(question).await;
        on_its_way.verdict = Verdict::of(&ended.said);
        let problem = ended.said.as_ref().err().filter(|error| error.is_transient());
        let problem = problem.map(ToString::to_string);
        self.state().last = Some(LastCall { latency: began.elapsed(), problem });
        let gateway = self.name().to_owned();
        let outcome = ended.said.as_ref().map_or_else(AnalyzeError::label, |_| call::ANSWERED);
        metrics::counter!("prelim_gateway_calls_total", "gateway" => gateway.clone(), "outcome" => outcome)
            .increment(1);
        metrics::histogram!("prelim_gateway_call_seconds", "gateway" => gateway)
            .record(began.elapsed().as_secs_f64());
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { calls_at_once: 2, calls_per_minute: 0, failures_max: 3, rest_s: 30 };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_gateway_that_fails_rests_longer_each_time_and_one_call_tries_it() {
        let t0 = Instant::now();
        let resting = |until, rest| Breaker::Resting { until: t0 + s(until), rest: s(rest) };
        let asked = |failures| Breaker::Asked { failures };
        let tried = |rest| Breaker::Tried { rest: s(rest) };
        use Verdict::Down;
        use Verdict::Refused;
        use Verdict::Rest;
        use Verdict::Up;
        for (before, at, verdict, after) in [
            (asked(0), 0, Up, asked(0)),
            (asked(0), 0, Down, asked(1)),
            (asked(1), 0, Up, asked(0)),
            (asked(2), 5, Down, resting(35, 30)),
            (asked(0), 5, Rest(s(7)), resting(12, 30)),
            (asked(0), 5, Refused(401), resting(15, 10)),
            (tried(10), 15, Refused(401), resting(35, 20)),
            (tried(500), 15, Refused(403), resting(75, 60)),
            (resting(30, 30), 5, Up, resting(30, 30)),
            (resting(30, 30), 5, Down, resting(30, 30)),
            (resting(30, 30), 5, Rest(s(7)), resting(30, 30)),
            (resting(30, 30), 5, Rest(s(60)), resting(65, 30)),
            (tried(30), 31, Up, asked(0)),
            (tried(30), 31, Down, resting(91, 60)),
            (tried(500), 31, Down, resting(151, 120)),
            (tried(30), 31, Rest(s(7)), resting(38, 30)),
        ] {
            let told = format!("{before:?} {verdict:?}");
            assert_eq!(before.ended(verdict, t0 + s(at), &LIMITS), after, "{told}");
        }
        for (breaker, at, admitted) in [
            (asked(2), 0, Ok(asked(2))),
            (resting(30, 30), 10, Err(s(20))),
            (resting(30, 30), 30, Ok(tried(30))),
            (tried(30), 30, Err(s(1))),
        ] {
            assert_eq!(breaker.admit(t0 + s(at)), admitted, "{breaker:?}");
        }
    }

    #[test]
    fn calls_of_a_minute_are_spread_after_a_burst() {
        let t0 = Instant::now();
        let mut pace = Pace { next: t0 };
        let mut waits = Vec::new();
        // 60 a minute: a burst of 6, then one each second.
        for _ in 0..9 {
            let (wait, next) = pace.place(60, t0).unwrap();
            waits.push(wait.as_secs());
            pace = next;
        }
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 1, 2]);
        let (wait, _) = pace.place(60, t0 + s(100)).unwrap();
        assert_eq!(wait, Duration::ZERO, "what was not used is not saved up");
        let full = Pace { next: t0 + s(90) };
        assert_eq!(full.place(1, t0).unwrap_err(), s(90));
        assert_eq!(full.place(0, t0).unwrap().0, Duration::ZERO, "no limit");
    }

    /// Answers after a moment; counts how many it answers at once.
    #[derive(Default)]
    struct Slow {
        now: std::sync::atomic::AtomicUsize,
        most: std::sync::atomic::AtomicUsize,
        asked: std::sync::atomic::AtomicUsize,
        fails: bool,
    }

    #[async_trait]
    impl Provider for Slow {
        fn name(&self) -> &str {
            "slow"
        }

        fn algorithm(&self, _: &str) -> Algorithm {
            crate::analysis::record::measuring()
        }

        fn model(&self) -> &str {
            "m"
        }

        async fn check(&self) -> Result<(), AnalyzeError> {
            Ok(())
        }

        fn draws(&self) -> bool {
            false
        }

        fn key_views(&self) -> Vec<KeyView> {
            Vec::new()
        }

        async fn ask(&self, _: &Question<'_>) -> Asked {
            use std::sync::atomic::Ordering::SeqCst;
            self.asked.fetch_add(1, SeqCst);
            self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.now.fetch_sub(1, SeqCst);
            let (provider, status) = ("slow".to_owned(), 500);
            Asked::not(match self.fails {
                true => {
                    AnalyzeError::Busy { provider, status, retry_after: None, words: String::new() }
                }
                false => AnalyzeError::TooLarge { provider },
            })
        }
    }

    /// Asks something.
    async fn ask(kept: &Kept) -> AnalyzeError {
        let text = String::new;
        let prompt = crate::analysis::prompt::Prompt {
            system: text(),
            user: text(),
            version: text(),
            digest: text(),
        };
        let (schema, timeout) = (serde_json::Value::Null, s(9));
        let question = Question { prompt: &prompt, pictures: &[], schema: &schema, timeout };
        kept.ask(&question).await.said.unwrap_err()
    }

    #[tokio::test]
    async fn no_more_calls_than_allowed_are_on_their_way() {
        let slow = Arc::new(Slow::default());
        let kept = Kept::new(Arc::clone(&slow) as Arc<dyn Provider>, &LIMITS);
        let calls = (0..6).map(|_| ask(&kept));
        futures_util::future::join_all(calls).await;
        assert_eq!(slow.most.load(std::sync::atomic::Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_resting_gateway_is_not_asked_and_a_dropped_trial_is_a_failure() {
        let slow = Arc::new(Slow { fails: true, ..Slow::default() });
        let kept =
            Kept::new(Arc::clone(&slow) as Arc<dyn Provider>, &Limits { rest_s: 1, ..LIMITS });
        let asked = || slow.asked.load(std::sync::atomic::Ordering::SeqCst);
        for _ in 0..5 {
            let _ = ask(&kept).await;
        }
        assert_eq!(asked(), 3, "then it rests");
        let error = ask(&kept).await;
        assert!(matches!(error, AnalyzeError::Resting { wait, .. } if wait <= s(1)), "{error}");
        assert!(error.is_transient() && error.retry_after().is_some());
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let trial = ask(&kept);
        assert!(tokio::time::timeout(Duration::from_millis(5), trial).await.is_err());
        assert_eq!(asked(), 4);
        let _ = ask(&kept).await;
        assert_eq!(asked(), 4, "it rests again, twice as long");
    }
}
