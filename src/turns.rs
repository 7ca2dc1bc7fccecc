//! Whose turn it is, where more want to go than may: one order for the queue, for worker processes
//! and for the calls of a gateway.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use jiff::SignedDuration;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::domain::clock::Clock as _;
use crate::domain::clock::SystemClock;
use crate::domain::priority::Priority;
use crate::domain::priority::Rank;

/// Each so manieth turn goes to who has waited longest, when that is longer by [`AGED`] than who
/// would be next: nothing starves behind what is more urgent, and that waits for one more at most.
const FOR_THE_OLDEST: u32 = 8;
const AGED: SignedDuration = SignedDuration::from_mins(30);

/// Those who wait. `K` tells them apart, and says who is first among equals.
#[derive(Debug)]
pub struct Line<K> {
    /// By priority, and last what has no effect.
    classes: [BTreeSet<(Timestamp, K)>; 4],
    turns: u32,
}

/// The place in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    At(Rank),
    /// After all others, the older first.
    Last(Timestamp),
}

impl Place {
    fn key(self) -> (usize, Timestamp) {
        match self {
            Place::At(Rank { priority: Priority::Stat, since }) => (0, since),
            Place::At(Rank { priority: Priority::Urgent, since }) => (1, since),
            Place::At(Rank { priority: Priority::Routine, since }) => (2, since),
            Place::Last(since) => (3, since),
        }
    }
}

impl<K> Default for Line<K> {
    fn default() -> Line<K> {
        Line { classes: Default::default(), turns: 0 }
    }
}

impl<K: Ord + Clone> Line<K> {
    pub fn add(&mut self, place: Place, who: K) {
        let (class, since) = place.key();
        self.classes[class].insert((since, who));
    }

    pub fn remove(&mut self, place: Place, who: &K) {
        let (class, since) = place.key();
        self.classes[class].remove(&(since, who.clone()));
    }

    pub fn is_empty(&self) -> bool {
        self.classes.iter().all(BTreeSet::is_empty)
    }

    pub fn len(&self) -> usize {
        self.classes.iter().map(BTreeSet::len).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = &K> {
        self.classes.iter().flatten().map(|(_, who)| who)
    }

    /// Who is next. It stays in the line until it is removed; the turn counts.
    pub fn next(&mut self) -> Option<K> {
        let firsts = || self.classes.iter().filter_map(BTreeSet::first);
        let first = firsts().next()?;
        // What has no effect does not grow old.
        let effective = self.classes[..3].iter().filter_map(BTreeSet::first);
        let eldest = effective.min_by_key(|(since, _)| *since).unwrap_or(first);
        let is_aged = first.0.duration_since(eldest.0) > AGED;
        let next = match is_aged && self.turns % FOR_THE_OLDEST == FOR_THE_OLDEST - 1 {
            true => eldest.1.clone(),
            false => first.1.clone(),
        };
        self.turns = self.turns.wrapping_add(1);
        Some(next)
    }
}

tokio::task_local! {
    static RANK: Rank;
}

/// Does some work for a study: what it waits for on its way, it waits for at this rank.
pub async fn at<T>(rank: Rank, work: impl Future<Output = T>) -> T {
    RANK.scope(rank, work).await
}

/// Of the study that is worked for. Whoever works for none is a person who waits in front of a page.
fn rank() -> Rank {
    let person = || Rank { priority: Priority::Urgent, since: SystemClock.now() };
    RANK.try_with(|rank| *rank).unwrap_or_else(|_| person())
}

/// So many may go at the same time; the others wait for their turn.
#[derive(Debug)]
pub struct Slots(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Below zero: more go than may since their number was made smaller.
    free: isize,
    tickets: u64,
    line: Line<u64>,
    waiting: HashMap<u64, (Place, oneshot::Sender<Slot>)>,
}

/// Held while something goes.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

/// One that is not waited for any more leaves the line.
struct Ticket<'a>(&'a Slots, u64);

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        if let Some((place, _)) = state.waiting.remove(&self.1) {
            state.line.remove(place, &self.1);
        }
    }
}

impl Slots {
    pub fn new(count: usize) -> Arc<Slots> {
        let (line, waiting) = (Line::default(), HashMap::new());
        let free = isize::try_from(count).unwrap_or(isize::MAX);
        Arc::new(Slots(Mutex::new(State { free, tickets: 0, line, waiting })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for its turn, in the order of the studies.
    pub async fn take(self: &Arc<Self>) -> Slot {
        let (ticket, given) = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Slot(Arc::clone(self));
            }
            let (give, given) = oneshot::channel();
            state.tickets += 1;
            let (ticket, place) = (state.tickets, Place::At(rank()));
            state.line.add(place, ticket);
            state.waiting.insert(ticket, (place, give));
            (Ticket(self, ticket), given)
        };
        let slot = given.await;
        drop(ticket);
        slot.expect("one that waits is given a slot before it is forgotten")
    }

    #[cfg(test)]
    pub fn free(&self) -> isize {
        self.state().free
    }

    /// Lets more go, or fewer.
    pub fn change(self: &Arc<Self>, by: isize) {
        self.give_back(by);
    }

    fn give_back(self: &Arc<Self>, count: isize) {
        let mut given = Vec::new();
        let mut state = self.state();
        state.free += count;
        while state.free > 0 {
            let Some(ticket) = state.line.next() else { break };
            let Some((place, give)) = state.waiting.remove(&ticket) else { break };
            state.line.remove(place, &ticket);
            state.free -= 1;
            given.push(give);
        }
        // Who does not wait any more gives it back when it is dropped: not under the lock.
        drop(state);
        for give in given {
            drop(give.send(Slot(Arc::clone(self))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn place(priority: Priority, minutes: i64) -> Place {
        Place::At(Rank { priority, since: since(minutes) })
    }

    fn take(line: &mut Line<u32>, places: &[(Place, u32)]) -> Option<u32> {
        let next = line.next()?;
        let (place, _) = places.iter().find(|(_, who)| *who == next).unwrap();
        line.remove(*place, &next);
        Some(next)
    }

    #[test]
    fn what_is_more_urgent_goes_first_and_within_it_the_older() {
        let places = [
            (place(Priority::Routine, 1), 1),
            (Place::Last(since(0)), 2),
            (place(Priority::Urgent, 9), 3),
            (place(Priority::Stat, 12), 4),
            (place(Priority::Stat, 11), 5),
            (place(Priority::Routine, 0), 6),
        ];
        let mut line = Line::default();
        places.iter().for_each(|(place, who)| line.add(*place, *who));
        let order: Vec<u32> = std::iter::from_fn(|| take(&mut line, &places)).collect();
        assert_eq!(order, [5, 4, 3, 6, 1, 2]);
        assert!(line.is_empty());
    }

    #[test]
    fn a_routine_study_behind_urgent_ones_without_end_has_its_turn() {
        let mut places: Vec<_> =
            (0..40).map(|n| (place(Priority::Stat, 100 + i64::from(n)), n)).collect();
        places.push((place(Priority::Routine, 0), 1000));
        places.push((place(Priority::Routine, 99), 1001));
        let mut line = Line::default();
        places.iter().for_each(|(place, who)| line.add(*place, *who));
        let order: Vec<u32> = std::iter::from_fn(|| take(&mut line, &places)).collect();
        let at = |who| order.iter().position(|one| *one == who).unwrap();
        assert_eq!(at(1000), 7, "each eighth turn is for who has waited longest");
        assert!(at(1001) > 20, "one that came just before waits");
    }

    #[tokio::test]
    async fn a_slot_goes_to_the_most_urgent_of_those_who_wait_and_none_is_lost() {
        let tasks = tokio_util::task::TaskTracker::new();
        let slots = Slots::new(1);
        let held = slots.take().await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let wait = |priority, minutes, who: &'static str| {
            let (slots, order) = (Arc::clone(&slots), Arc::clone(&order));
            tasks.spawn(at(Rank { priority, since: since(minutes) }, async move {
                let _slot = slots.take().await;
                order.lock().unwrap().push(who);
            }))
        };
        let waits = [
            wait(Priority::Routine, 2, "routine"),
            wait(Priority::Routine, 1, "older"),
            wait(Priority::Urgent, 0, "given up"),
            wait(Priority::Stat, 3, "stat"),
        ];
        while slots.state().waiting.len() < 4 {
            tokio::task::yield_now().await;
        }
        waits[2].abort();
        while slots.state().waiting.len() > 3 {
            tokio::task::yield_now().await;
        }
        drop(held);
        for (number, wait) in waits.into_iter().enumerate() {
            assert_eq!(wait.await.is_ok(), number != 2);
        }
        assert_eq!(*order.lock().unwrap(), ["stat", "older", "routine"]);
        assert_eq!((slots.free(), slots.state().line.len()), (1, 0));
        slots.change(-1);
        assert_eq!(slots.free(), 0);
        slots.change(2);
        drop((slots.take().await, slots.take().await));
        assert_eq!(slots.free(), 2);
    }
}
