//! Which job is next: what may be claimed, what waits for its time, who holds what.
//!
//! Lives in memory and is made from the rows of the jobs. A lease does not outlive the process:
//! after a restart nobody works on anything. Waits are measured by the wall clock of the caller or
//! by the monotonic clock, whichever is over first: a clock that is set back holds no job.
//!
//! Each kind of work has a lane, in which the studies have their turns by priority and age. Deliveries
//! stand in lines besides: to one destination, what belongs to one study goes in the order in which
//! it was enqueued. Each destination and each gateway has a lane of its own, so that one that does
//! not answer delays no other, nor what needs none.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::domain::alert;
use crate::domain::priority::Rank;
use crate::store::event::JobKind;
use crate::store::rows::JobCounts;
use crate::store::rows::JobRow;
use crate::store::rows::JobState;
use crate::turns;
use crate::turns::Line;

#[derive(Debug, Default)]
pub struct Queue {
    jobs: HashMap<String, Entry>,
    /// What is due: of equal studies the later step first, so that one that is nearly done does not
    /// wait for those that just came, then the older.
    ready: BTreeMap<Lane, Line<(u8, u64, String)>>,
    /// Deliveries of one study to one destination that wait or run, by age.
    lines: HashMap<String, BTreeSet<(u64, String)>>,
    /// Those that are not the first of their line.
    behind: usize,
    /// Of those that are not due: no work, but a time at which somebody should have answered.
    clocks: usize,
    /// Not due yet: by time, and by the clock that is never set.
    later: BTreeSet<(Timestamp, String)>,
    timers: BTreeSet<(Instant, String)>,
    leases: BTreeSet<(Instant, String)>,
    dead: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    lane: Lane,
    turn: turns::Place,
    step: u8,
    order: u64,
    due: Timestamp,
    attempts: u32,
    /// Whether it only waits for an answer.
    is_clock: bool,
    place: Place,
}

impl Entry {
    fn of(row: &JobRow, place: Place) -> Entry {
        let lane = Lane::of(&row.job.kind);
        let turn = match (&lane, &row.job.kind) {
            // After all that has an effect.
            (_, JobKind::Shadow { .. }) => turns::Place::Last(row.rank.since),
            // What is told is urgent by what was found, not by who asked for it.
            (Lane::Clocks | Lane::Messages(_), _) => {
                turns::Place::At(Rank { since: row.job.due, ..Rank::default() })
            }
            _ => turns::Place::At(row.rank),
        };
        Entry {
            lane,
            turn,
            step: row.job.priority,
            order: row.order,
            due: row.due,
            attempts: row.attempts,
            is_clock: matches!(row.job.kind, JobKind::Escalate { .. }),
            place,
        }
    }
}

/// Work that has runners of its own: a mail server, an archive, a gateway or a scanner that does not
/// answer delays no other, and none delays an alert.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// What passes by time alone: the next levels of alerts.
    Clocks,
    /// Messages to people by this server, see [`alert::By::server`].
    Messages(String),
    /// The steps that wait for nobody outside.
    Reading,
    /// Readings by this gateway.
    Gateway(String),
    /// To this destination, and proofs from there.
    Destination(String),
    /// What scanners wait for.
    Commitments,
}

impl Lane {
    pub fn of(kind: &JobKind) -> Lane {
        if let Some(gateway) = kind.gateway() {
            return Lane::Gateway(gateway.to_owned());
        }
        if let Some(destination) = kind.destination() {
            return Lane::Destination(destination.to_owned());
        }
        if let Some(channel) = kind.channel() {
            return Lane::Messages(alert::by(channel).server());
        }
        match kind {
            JobKind::Commit { .. } => Lane::Commitments,
            kind if kind.is_reading() => Lane::Reading,
            _ => Lane::Clocks,
        }
    }
}

/// What a caller takes.
#[derive(Debug, Clone)]
pub enum Wanted {
    Of(Lane),
    /// Gateways, destinations and servers that are none of these: they are not in the configuration
    /// any more.
    OtherThan(Vec<Lane>),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Ready,
    /// Another of its line comes first.
    Behind,
    Later {
        timer: Instant,
    },
    Leased {
        until: Instant,
        /// Its start is not in the rows yet.
        starting: bool,
    },
    Dead,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub id: String,
    pub attempt: u32,
}

/// Longer leases and waits are cut to this.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

fn after(wait: Duration) -> Instant {
    Instant::now() + wait.min(LONGEST)
}

fn until(now: Timestamp, due: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
}

impl Queue {
    /// Takes over what the row of a job says. `ended`: with it, a try came to its end.
    pub fn set(&mut self, row: &JobRow, ended: bool, now: Timestamp) {
        let id = &row.job.id;
        let held = self.jobs.get(id).map(|entry| entry.place);
        let place = match (row.state, held) {
            (JobState::Done | JobState::Dropped, _) => {
                self.forget(id);
                self.leave_line(row, now);
                return;
            }
            (JobState::Dead, _) => Place::Dead,
            (JobState::Running, Some(Place::Leased { until, .. })) => {
                Place::Leased { until, starting: false }
            }
            (JobState::Waiting, Some(Place::Leased { until, starting: true })) if !ended => {
                Place::Leased { until, starting: true }
            }
            (JobState::Running, _) => Place::Ready,
            (JobState::Waiting, _) if row.due <= now => Place::Ready,
            (JobState::Waiting, _) => Place::Later { timer: after(until(now, row.due)) },
        };
        self.forget(id);
        if place == Place::Dead {
            self.leave_line(row, now);
        }
        let place = match place {
            Place::Ready | Place::Later { .. } if !self.is_first(row) => Place::Behind,
            place => place,
        };
        self.put(id, Entry::of(row, place));
    }

    /// Puts a delivery into its line. Whether it is the first there; other jobs always are.
    fn is_first(&mut self, row: &JobRow) -> bool {
        let Some(name) = line(row) else { return true };
        let line = self.lines.entry(name).or_default();
        let before = line.first().map(|(_, id)| id.clone());
        line.insert((row.order, row.job.id.clone()));
        let is_first = line.first().is_some_and(|(_, id)| *id == row.job.id);
        // Rows of one record come in no order: one that is older steps in front.
        let other = before.filter(|id| is_first && *id != row.job.id);
        if let Some(id) = other
            && let Some(mut entry) = self.jobs.get(&id).cloned()
            && matches!(entry.place, Place::Ready | Place::Later { .. })
        {
            self.forget(&id);
            entry.place = Place::Behind;
            self.put(&id, entry);
        }
        is_first
    }

    /// The next of the line can go.
    fn leave_line(&mut self, row: &JobRow, now: Timestamp) {
        let Some(name) = line(row) else { return };
        let Some(line) = self.lines.get_mut(&name) else { return };
        line.remove(&(row.order, row.job.id.clone()));
        let next = line.first().map(|(_, id)| id.clone());
        if line.is_empty() {
            self.lines.remove(&name);
        }
        let Some(next) = next else { return };
        let Some(mut entry) = self.jobs.get(&next).cloned() else { return };
        if entry.place == Place::Behind {
            self.forget(&next);
            entry.place = match entry.due <= now {
                true => Place::Ready,
                false => Place::Later { timer: after(until(now, entry.due)) },
            };
            self.put(&next, entry);
        }
    }

    /// All jobs anew, for an index that was made anew: what is held stays held.
    pub fn reload(&mut self, rows: &[JobRow], now: Timestamp) {
        let known: BTreeSet<&str> = rows.iter().map(|row| row.job.id.as_str()).collect();
        let gone: Vec<String> =
            self.jobs.keys().filter(|id| !known.contains(id.as_str())).cloned().collect();
        for id in gone {
            self.forget(&id);
        }
        for row in rows {
            self.set(row, false, now);
        }
    }

    pub fn claim(&mut self, now: Timestamp, lease: Duration, wanted: &Wanted) -> Option<Taken> {
        self.wake(now);
        let line = match wanted {
            Wanted::Of(lane) => self.ready.get_mut(lane)?,
            Wanted::OtherThan(lanes) => {
                let is_other = |lane: &Lane| match lane {
                    Lane::Gateway(_) | Lane::Destination(_) | Lane::Messages(_) => {
                        !lanes.contains(lane)
                    }
                    Lane::Clocks | Lane::Reading | Lane::Commitments => false,
                };
                let others = self.ready.iter_mut().filter(|(lane, _)| is_other(lane));
                others.map(|(_, line)| line).find(|line| !line.is_empty())?
            }
        };
        let (_, _, id) = line.next()?;
        let mut entry = self.jobs.get(&id)?.clone();
        self.forget(&id);
        entry.place = Place::Leased { until: after(lease), starting: true };
        let attempt = entry.attempts + 1;
        self.put(&id, entry);
        Some(Taken { id, attempt })
    }

    /// Gives a claimed job back at once.
    pub fn release(&mut self, id: &str) {
        if let Some(mut entry) = self.jobs.get(id).cloned() {
            self.forget(id);
            entry.place = Place::Ready;
            self.put(id, entry);
        }
    }

    /// Gateways that readings wait for after a failed try: how many, and when the next is tried.
    pub fn held_up(&self) -> BTreeMap<String, (usize, Timestamp)> {
        let mut all: BTreeMap<String, (usize, Timestamp)> = BTreeMap::new();
        for (due, id) in &self.later {
            if let Some(Entry { lane: Lane::Gateway(gateway), .. }) = self.jobs.get(id) {
                // In the order of time: the first is the next.
                all.entry(gateway.clone()).or_insert((0, *due)).0 += 1;
            }
        }
        all
    }

    /// What waits for its time in a lane can be claimed now.
    pub fn hurry(&mut self, lane: &Lane) {
        let of_it = |id: &&String| self.jobs.get(*id).is_some_and(|entry| entry.lane == *lane);
        let ids: Vec<String> = self.later.iter().map(|(_, id)| id).filter(of_it).cloned().collect();
        ids.iter().for_each(|id| self.release(id));
    }

    pub fn counts(&self) -> JobCounts {
        let ids = self.ready.values().flat_map(Line::iter).map(|(_, _, id)| id);
        let ready = ids.filter_map(|id| self.jobs.get(id));
        let due: usize = self.ready.values().map(Line::len).sum();
        JobCounts {
            waiting: due + self.later.len() + self.behind - self.clocks,
            running: self.leases.len(),
            dead: self.dead,
            oldest_due: ready.map(|entry| entry.due).min(),
        }
    }

    /// Moves what has become claimable.
    fn wake(&mut self, now: Timestamp) {
        let clock = Instant::now();
        loop {
            let due = self.later.first().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone());
            let rung = || self.timers.first().filter(|(at, _)| *at <= clock).map(|(_, id)| id);
            let over = || self.leases.first().filter(|(at, _)| *at <= clock).map(|(_, id)| id);
            let Some(id) = due.or_else(|| rung().or_else(over).cloned()) else { return };
            self.release(&id);
        }
    }

    fn put(&mut self, id: &str, entry: Entry) {
        match entry.place {
            Place::Ready => {
                let line = self.ready.entry(entry.lane.clone()).or_default();
                line.add(entry.turn, (entry.step, entry.order, id.to_owned()));
            }
            Place::Behind => self.behind += 1,
            Place::Later { timer } => {
                self.clocks += usize::from(entry.is_clock);
                self.later.insert((entry.due, id.to_owned()));
                self.timers.insert((timer, id.to_owned()));
            }
            Place::Leased { until, .. } => {
                self.leases.insert((until, id.to_owned()));
            }
            Place::Dead => self.dead += 1,
        }
        self.jobs.insert(id.to_owned(), entry);
    }

    /// Takes a job out of every list.
    pub fn forget(&mut self, id: &str) {
        let Some(entry) = self.jobs.remove(id) else { return };
        let id = id.to_owned();
        match entry.place {
            Place::Ready => {
                if let Some(line) = self.ready.get_mut(&entry.lane) {
                    line.remove(entry.turn, &(entry.step, entry.order, id));
                }
            }
            Place::Behind => self.behind -= 1,
            Place::Later { timer } => {
                self.clocks -= usize::from(entry.is_clock);
                self.later.remove(&(entry.due, id.clone()));
                self.timers.remove(&(timer, id));
            }
            Place::Leased { until, .. } => {
                self.leases.remove(&(until, id));
            }
            Place::Dead => self.dead -= 1,
        }
    }
}

/// Name of the line that a delivery stands in.
fn line(row: &JobRow) -> Option<String> {
    match &row.job.kind {
        JobKind::Deliver { destination, .. } => {
            Some(format!("{}\0{destination}", row.job.study_uid))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::priority::Priority;
    use crate::store::Store;
    use crate::store::event::Event;
    use crate::store::event::Job;
    use crate::store::event::JobOutcome;
    use crate::store::testing::at;
    use crate::store::testing::job;
    use crate::store::testing::open;

    const LONG: Duration = Duration::from_secs(600);
    const ALL: Wanted = Wanted::Of(Lane::Reading);

    fn row(job: Job, due: Timestamp, order: u64) -> JobRow {
        JobRow {
            job,
            state: JobState::Waiting,
            attempts: 0,
            cause: String::new(),
            due,
            order,
            rank: Rank::default(),
            cut_off: 0,
            begun_anew: None,
        }
    }

    async fn enqueue(store: &Store, n: u32, due: i64, priority: u8) -> String {
        let job = job(n, 1, JobKind::Plan, due, priority);
        let id = job.id.clone();
        store.commit(vec![Event::JobEnqueued { job }]).await.unwrap();
        id
    }

    async fn end(store: &Store, id: &str, outcome: JobOutcome) {
        let event = Event::JobEnded { id: id.to_owned(), outcome, at: at(0) };
        store.commit(vec![event]).await.unwrap();
    }

    /// Commits are in order: when this one is answered, those told before are applied.
    async fn settle(store: &Store) {
        let (study_uid, what, by) = (None, String::new(), String::new());
        store.commit(vec![Event::Accessed { study_uid, what, by, at: at(0) }]).await.unwrap();
    }

    fn claim(store: &Store, now: i64) -> Option<(String, u32)> {
        let claimed = store.claim(at(now), LONG, &ALL).unwrap();
        claimed.map(|claimed| (claimed.job.id, claimed.attempt))
    }

    #[tokio::test]
    async fn jobs_come_by_due_time_then_by_study_then_step_then_age() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let mut ids = Vec::new();
        for (n, due, priority) in [(1, 0, 5), (2, 0, 5), (3, 0, 1), (4, 100, 0)] {
            ids.push(enqueue(&store, n, due, priority).await);
        }
        let order: Vec<_> = std::iter::from_fn(|| claim(&store, 50)).collect();
        let expected = [&ids[2], &ids[0], &ids[1]].map(|id| (id.clone(), 1));
        assert_eq!(order, expected, "the fourth is not due");
        assert_eq!(claim(&store, 100), Some((ids[3].clone(), 1)));
        settle(&store).await;
        assert_eq!(store.job_counts().running, 4);
        assert!(store.jobs().unwrap().iter().all(|row| row.state == JobState::Running));
    }

    #[tokio::test]
    async fn a_job_that_exists_is_not_enqueued_again_in_any_state() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let id = enqueue(&store, 1, 0, 5).await;
        enqueue(&store, 1, 0, 5).await;
        assert_eq!(claim(&store, 1), Some((id.clone(), 1)));
        enqueue(&store, 1, 0, 5).await;
        assert_eq!(claim(&store, 1), None);
        end(&store, &id, JobOutcome::Done).await;
        enqueue(&store, 1, 0, 5).await;
        assert_eq!(claim(&store, 1), None);
        assert_eq!(store.job(&id).unwrap().unwrap().state, JobState::Done);
        assert!(store.jobs().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_failed_try_waits_and_a_dead_letter_waits_for_a_person() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let id = enqueue(&store, 1, 0, 5).await;
        assert_eq!(claim(&store, 1), Some((id.clone(), 1)));
        end(&store, &id, JobOutcome::Retry { due: at(60), cause: "busy".into() }).await;
        assert_eq!(claim(&store, 59), None);
        assert_eq!(claim(&store, 60), Some((id.clone(), 2)));
        end(&store, &id, JobOutcome::Dead { cause: "refused".into() }).await;
        assert_eq!(claim(&store, 9999), None);
        let row = &store.jobs().unwrap()[0];
        assert_eq!((row.state, row.attempts, row.cause.as_str()), (JobState::Dead, 2, "refused"));
        assert_eq!(store.job_counts(), JobCounts { dead: 1, ..JobCounts::default() });
        // A stray end of an earlier try does not wake it.
        end(&store, &id, JobOutcome::Done).await;
        assert_eq!(store.job_counts().dead, 1);
        store
            .commit(vec![Event::JobRetried { id: id.clone(), by: "kim".into(), at: at(70) }])
            .await
            .unwrap();
        assert_eq!(claim(&store, 70), Some((id.clone(), 1)));
        end(&store, &id, JobOutcome::Done).await;
        assert_eq!(store.job_counts(), JobCounts::default());
    }

    #[tokio::test]
    async fn a_lease_that_is_over_frees_its_job() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open(dir.path());
        let id = enqueue(&store, 1, 0, 5).await;
        let short = Duration::from_millis(200);
        store.claim(at(1), short, &ALL).unwrap().unwrap();
        assert_eq!(claim(&store, 1), None);
        settle(&store).await;
        assert_eq!(claim(&store, 1), None);
        tokio::time::sleep(short * 2).await;
        assert_eq!(claim(&store, 1), Some((id, 2)));
        assert_eq!(claim(&store, 1), None);
    }

    /// S4: nobody holds anything after a restart, and tries are still counted.
    #[tokio::test]
    async fn what_ran_when_the_node_ended_is_claimable_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let id = {
            let (store, _) = open(dir.path());
            let id = enqueue(&store, 1, 0, 5).await;
            assert_eq!(claim(&store, 1), Some((id.clone(), 1)));
            id
        };
        let (store, report) = open(dir.path());
        assert_eq!(report.jobs_waiting, 1);
        assert_eq!(claim(&store, 1), Some((id, 2)));
    }

    /// An operator's word in the moment between a claim and its start does not free the job.
    #[tokio::test]
    async fn a_job_is_held_from_the_claim_on() {
        let mut queue = Queue::default();
        let waiting = row(job(1, 1, JobKind::Plan, 0, 5), at(0), 1);
        queue.set(&waiting, false, at(1));
        assert!(queue.claim(at(1), LONG, &ALL).is_some());
        queue.set(&waiting, false, at(1));
        assert_eq!(queue.claim(at(1), LONG, &ALL), None);
        let running = JobRow { state: JobState::Running, attempts: 1, ..waiting.clone() };
        queue.set(&running, false, at(1));
        assert_eq!(queue.claim(at(1), LONG, &ALL), None);
        queue.set(&waiting, false, at(1));
        assert!(queue.claim(at(1), LONG, &ALL).is_some());
    }

    /// S9: a wait is over by the monotonic clock too.
    #[tokio::test]
    async fn a_clock_that_is_set_back_holds_no_job() {
        let mut queue = Queue::default();
        let row = row(job(1, 1, JobKind::Plan, 0, 5), at(100), 1);
        let just_before = at(100) - jiff::SignedDuration::from_millis(30);
        queue.set(&row, false, just_before);
        let yesterday = at(-86_400);
        assert_eq!(queue.claim(yesterday, LONG, &ALL), None);
        tokio::time::sleep(Duration::from_millis(60)).await;
        assert!(queue.claim(yesterday, LONG, &ALL).is_some());
    }

    #[test]
    fn a_caller_gets_only_jobs_of_its_lane() {
        let mut queue = Queue::default();
        let gateway = || "main".to_owned();
        let kinds = [
            JobKind::Notice { channel: "mail".into() },
            JobKind::Plan,
            JobKind::Analyse { gateway: String::new() },
            JobKind::Analyse { gateway: gateway() },
            JobKind::Shadow { gateway: gateway() },
        ];
        for (n, kind) in (1..).zip(kinds) {
            queue.set(&row(job(n, 1, kind, 0, 5), at(0), u64::from(n)), false, at(0));
        }
        let mut claimed = |lane| {
            let wanted = Wanted::Of(lane);
            std::iter::from_fn(|| queue.claim(at(1), LONG, &wanted)).count()
        };
        assert_eq!(claimed(Lane::Messages("e-mail".into())), 1);
        assert_eq!(claimed(Lane::Reading), 2, "what waits for no gateway");
        assert_eq!(claimed(Lane::Gateway("other".into())), 0);
        assert_eq!(claimed(Lane::Gateway(gateway())), 2);
        assert_eq!(queue.counts().waiting, 0);
    }

    /// R10: what is urgent does not wait for those that came before it, however many they are.
    #[tokio::test]
    async fn a_stat_study_behind_ten_thousand_is_the_next_at_every_step() {
        let mut queue = Queue::default();
        let ranked = |n: u32, kind: JobKind, priority| {
            let rank = Rank { priority, since: at(i64::from(n)) };
            JobRow { rank, ..row(job(n, 1, kind, 0, 6), at(0), u64::from(n)) }
        };
        let gateway = || JobKind::Analyse { gateway: "main".into() };
        for n in 0..10_000 {
            for kind in [JobKind::Plan, gateway(), delivery(n, "sr.dcm", "pacs.a", 0).job.kind] {
                queue.set(&ranked(n, kind, Priority::Routine), false, at(1));
            }
        }
        let begun = std::time::Instant::now();
        for (kind, lane) in [
            (JobKind::Plan, Lane::Reading),
            (gateway(), Lane::Gateway("main".into())),
            (delivery(0, "sr.dcm", "pacs.a", 0).job.kind, Lane::Destination("pacs.a".into())),
        ] {
            // It is said only when the study waits already.
            let before = ranked(20_000, kind.clone(), Priority::Routine);
            queue.set(&before, false, at(1));
            let stat = ranked(20_000, kind, Priority::Stat);
            queue.set(&stat, false, at(1));
            let taken = queue.claim(at(2), LONG, &Wanted::Of(lane)).unwrap();
            assert_eq!(taken.id, stat.job.id);
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }

    fn delivery(study: u32, artefact: &str, destination: &str, order: u64) -> JobRow {
        let kind = JobKind::Deliver { artefact: artefact.into(), destination: destination.into() };
        row(job(study, 1, kind, 0, 1), at(0), order)
    }

    #[test]
    fn one_study_goes_to_one_destination_in_order_and_no_destination_waits_for_another() {
        let mut queue = Queue::default();
        let rows = [
            delivery(1, "sr.dcm", "pacs.a", 1),
            delivery(1, "pdf.dcm", "pacs.a", 2),
            delivery(2, "sr.dcm", "pacs.a", 3),
            delivery(1, "sr.dcm", "pacs.b", 4),
            delivery(3, "sr.dcm", "pacs.gone", 5),
        ];
        rows.iter().rev().for_each(|row| queue.set(row, false, at(0)));
        assert_eq!((queue.counts().waiting, queue.behind), (5, 1));
        let lane = |name: &str| Lane::Destination(name.to_owned());
        let to = |name: &str| Wanted::Of(lane(name));
        let configured = Wanted::OtherThan(vec![lane("pacs.a"), lane("pacs.b")]);
        fn claimed(queue: &mut Queue, lane: &Wanted) -> Option<String> {
            queue.claim(at(1), LONG, lane).map(|taken| taken.id)
        }
        assert_eq!(claimed(&mut queue, &ALL), None, "deliveries have lanes of their own");
        assert_eq!(claimed(&mut queue, &to("pacs.a")), Some(rows[0].job.id.clone()));
        // The second of study 1 waits for the first; study 2 does not.
        assert_eq!(claimed(&mut queue, &to("pacs.a")), Some(rows[2].job.id.clone()));
        assert_eq!(claimed(&mut queue, &to("pacs.a")), None);
        assert_eq!(claimed(&mut queue, &to("pacs.b")), Some(rows[3].job.id.clone()));
        assert_eq!(claimed(&mut queue, &configured), Some(rows[4].job.id.clone()));
        // The first has to wait: so does what is behind it.
        let later = JobRow { due: at(60), attempts: 1, ..rows[0].clone() };
        queue.set(&later, true, at(1));
        assert_eq!(claimed(&mut queue, &to("pacs.a")), None);
        // Given up, or done: the next goes.
        queue.set(&JobRow { state: JobState::Dead, ..later }, true, at(2));
        assert_eq!(claimed(&mut queue, &to("pacs.a")), Some(rows[1].job.id.clone()));
        queue.set(&JobRow { state: JobState::Done, ..rows[1].clone() }, true, at(3));
        assert_eq!((queue.counts().waiting, queue.behind, queue.lines.len()), (0, 0, 3));
    }

    #[test]
    fn a_hundred_thousand_jobs_are_claimed_in_order_and_in_time() {
        let mut queue = Queue::default();
        let begun = std::time::Instant::now();
        for n in 0..100_000_u32 {
            let row = row(
                job(n, 1, JobKind::Plan, 0, (n % 3) as u8),
                at(i64::from(n % 1000)),
                u64::from(n),
            );
            queue.set(&row, false, at(0));
        }
        let mut last = (0, 0);
        for _ in 0..100_000 {
            let id = queue.claim(at(1000), LONG, &ALL).unwrap().id;
            let entry = &queue.jobs[&id];
            assert!((entry.step, entry.order) >= last);
            last = (entry.step, entry.order);
        }
        assert_eq!(queue.counts().running, 100_000);
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
