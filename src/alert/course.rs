//! When those who come next are told of an alert: by time alone. What a server refuses is tried again
//! beside it and uses up nobody's time.

use jiff::SignedDuration;
use jiff::Timestamp;

/// How far an alert is with those of the level that was told last.
#[derive(Debug, Clone)]
pub struct Course {
    /// When they were told: when their messages were put on their way.
    pub told_at: Timestamp,
    /// For an answer, from when a server has taken a message to one of them.
    pub wait: SignedDuration,
    /// For a server to take one.
    pub undelivered: SignedDuration,
    /// What became of the messages of this level.
    pub own: Vec<Sent>,
    /// Of the levels before it in the same round.
    pub before: Vec<Sent>,
    /// Whether the next have not been told in this round yet.
    pub is_round_open: bool,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    Taken(Timestamp),
    /// No server has taken it yet.
    Trying,
    /// It will not arrive: its address is refused, or a later message says the same.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Look again at this time.
    Wait(Timestamp),
    /// The next are told.
    Tell(Why),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Nobody has answered since a server took the first message.
    Unanswered { since: Timestamp },
    /// No server has taken a message of this level in its time.
    Undelivered,
}

/// How often is looked whether a server that was away has taken a message.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// What an open alert needs at `now`.
///
/// - A message of the level was taken: the time for an answer runs from then.
/// - None was taken in the time for it: the next of the round are told. Past its last the round does
///   not go on while messages are on their way and none was taken: a mail server that is away uses up
///   nobody's silence. When one was taken of those before, they have their time.
pub fn then(course: &Course, now: Timestamp) -> Then {
    let after = |from: Timestamp, wait: SignedDuration, why: Why| {
        let until = from.saturating_add(wait).unwrap_or(Timestamp::MAX);
        if now >= until { Then::Tell(why) } else { Then::Wait(until) }
    };
    let taken = |sent: &[Sent]| -> Vec<Timestamp> {
        let taken = sent.iter().filter_map(|one| match one {
            Sent::Taken(at) => Some(*at),
            Sent::Trying | Sent::Over => None,
        });
        taken.collect()
    };
    if let Some(since) = taken(&course.own).into_iter().min() {
        return after(since, course.wait, Why::Unanswered { since });
    }
    let bound = after(course.told_at, course.undelivered.min(course.wait), Why::Undelivered);
    if matches!(bound, Then::Wait(_)) || course.is_round_open {
        return bound;
    }
    if let Some(since) = taken(&course.before).into_iter().max() {
        return after(since, course.wait, Why::Unanswered { since });
    }
    match course.own.iter().chain(&course.before).any(|one| *one == Sent::Trying) {
        true => {
            // Not later than a wait that could have begun since.
            let pause = LOOK_AGAIN.min(course.wait);
            Then::Wait(now.saturating_add(pause).unwrap_or(Timestamp::MAX))
        }
        false => Then::Tell(Why::Undelivered),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + s).unwrap()
    }

    /// 900 s for an answer, 60 s for a server.
    fn course(own: &[Sent], before: &[Sent], is_round_open: bool) -> Course {
        Course {
            told_at: at(0),
            wait: SignedDuration::from_secs(900),
            undelivered: SignedDuration::from_secs(60),
            own: own.to_vec(),
            before: before.to_vec(),
            is_round_open,
        }
    }

    #[test]
    fn the_next_are_told_by_time_alone() {
        use Sent::Over;
        use Sent::Taken;
        use Sent::Trying;
        let wait = |s| Then::Wait(at(s));
        let unanswered = |s| Then::Tell(Why::Unanswered { since: at(s) });
        let undelivered = Then::Tell(Why::Undelivered);
        /// The messages of this level, those before, whether the round is open, now, what then.
        type Row<'a> = (&'a [Sent], &'a [Sent], bool, i64, Then);
        let rows: &[Row<'_>] = &[
            // Taken: their time runs from then, whatever becomes of the others.
            (&[Taken(at(2))], &[], true, 1, wait(902)),
            (&[Taken(at(2)), Over, Trying], &[], true, 901, wait(902)),
            (&[Taken(at(200)), Taken(at(2))], &[], false, 902, unanswered(2)),
            // A server that came back after 200 s: not a second less for an answer.
            (&[Taken(at(200))], &[], false, 901, wait(1100)),
            (&[Taken(at(200))], &[], false, 1100, unanswered(200)),
            // On the way, or refused for good: never before the time for a server.
            (&[Trying], &[], true, 0, wait(60)),
            (&[Over], &[], true, 59, wait(60)),
            (&[], &[], true, 59, wait(60)),
            (&[Trying], &[], true, 60, undelivered),
            (&[Over, Over], &[], true, 60, undelivered),
            // The last of the round: nobody's silence is used up while nothing was taken.
            (&[Trying], &[Trying], false, 60, wait(360)),
            (&[Over], &[Trying], false, 7200, wait(7500)),
            // All of it refused for good: it goes on.
            (&[Over], &[Over], false, 60, undelivered),
            (&[], &[], false, 60, undelivered),
            // One before has it: they have their time.
            (&[Over], &[Taken(at(-900))], false, 59, wait(60)),
            (&[Over], &[Taken(at(-900))], false, 60, unanswered(-900)),
            (&[Trying], &[Taken(at(-900)), Taken(at(200))], false, 300, wait(1100)),
            (&[Trying], &[Taken(at(200))], false, 1100, unanswered(200)),
        ];
        for (own, before, open, now, expected) in rows {
            let found = then(&course(own, before, *open), at(*now));
            assert_eq!(found, *expected, "{own:?} {before:?} {open} at {now}");
        }
    }

    /// A look while a server is away never comes after the time of a message that it took since.
    #[test]
    fn who_is_told_late_has_their_time_and_no_more() {
        let short =
            Course { wait: SignedDuration::from_secs(3), ..course(&[Sent::Trying], &[], false) };
        assert_eq!(then(&short, at(10)), Then::Wait(at(13)));
        let taken = Course { own: vec![Sent::Taken(at(10))], ..short };
        assert_eq!(then(&taken, at(13)), Then::Tell(Why::Unanswered { since: at(10) }));
    }
}
