//! When to try again.

use jiff::SignedDuration;
use jiff::Timestamp;

/// Doubling waits up to a cap, for a limited time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub first: SignedDuration,
    pub cap: SignedDuration,
    pub give_up_after: SignedDuration,
}

impl Schedule {
    /// Alerts: someone waits for it. Greylisting servers let the try after 5 minutes pass.
    pub const ALERT: Schedule = Schedule {
        first: SignedDuration::from_secs(3),
        cap: SignedDuration::from_mins(5),
        give_up_after: SignedDuration::from_hours(72),
    };

    /// The time of the next try after `attempt` (from 1) failed at `now`, `None` when the waits
    /// so far use up the limit: the entry is then dead and shown to a person.
    ///
    /// - `rand01`: 0 to 1; spreads the wait by 20 % each way, so that a thousand entries that
    ///   failed together do not come back together.
    pub fn next_try(self, attempt: u32, now: Timestamp, rand01: f64) -> Option<Timestamp> {
        let wait_s = |n: u32| {
            let doubled = self.first.as_secs().saturating_mul(1i64 << n.saturating_sub(1).min(30));
            doubled.min(self.cap.as_secs())
        };
        let attempt = attempt.max(1);
        // The cap is reached after at most 31 waits; the rest is a product, not a loop.
        let doubling = attempt.min(31);
        let waited_s: i64 = (1..=doubling).map(wait_s).sum();
        let capped = i64::from(attempt - doubling).saturating_mul(self.cap.as_secs());
        if waited_s.saturating_add(capped) > self.give_up_after.as_secs() {
            return None;
        }
        let spread = 0.8 + 0.4 * rand01.clamp(0.0, 1.0);
        let wait_ms = (wait_s(attempt) as f64 * 1000.0 * spread) as i64;
        now.checked_add(SignedDuration::from_millis(wait_ms)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits_s(schedule: Schedule, rand01: f64) -> Vec<i64> {
        let start = Timestamp::UNIX_EPOCH;
        let wait = |n| Some(schedule.next_try(n, start, rand01)?.duration_since(start).as_secs());
        (1..1000).map_while(wait).collect()
    }

    #[test]
    fn tries_come_less_and_less_often_for_three_days() {
        let delivery = crate::deliver::Config::default().schedule();
        let waits = waits_s(delivery, 0.5);
        assert_eq!(waits[..9], [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        let hours = waits.iter().sum::<i64>() as f64 / 3600.0;
        assert!((71.0..=72.0).contains(&hours), "{} tries in {hours} h", waits.len());
        assert_eq!(waits.len(), 77);
        for attempt in [78, u32::MAX] {
            assert_eq!(delivery.next_try(attempt, Timestamp::UNIX_EPOCH, 0.5), None);
        }

        let alerts = waits_s(Schedule::ALERT, 0.5);
        assert_eq!(alerts[..9], [3, 6, 12, 24, 48, 96, 192, 300, 300]);
    }

    #[test]
    fn the_spread_is_a_fifth_each_way() {
        let delivery = crate::deliver::Config::default().schedule();
        for (rand01, waits) in [(0.0, [24, 48]), (1.0, [36, 72]), (7.0, [36, 72])] {
            assert_eq!(waits_s(delivery, rand01)[..2], waits);
        }
    }
}
