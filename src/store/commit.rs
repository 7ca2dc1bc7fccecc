//! The committer: one thread through which every change goes.
//!
//! It takes what waits as one group, decides what the events are, appends them to the ledger as
//! one record, syncs, publishes them to the views, and only then answers.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::domain::clock::Clock;
use crate::domain::digest;
use crate::domain::in_force::InForce;
use crate::domain::origin::Origin;
use crate::domain::origin::Why;
use crate::domain::uid::StudyUid;
use crate::store::config::Config;
use crate::store::config::Durability;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::JobOutcome;
use crate::store::event::Receipt;
use crate::store::event::StudyState;
use crate::store::folder::Held;
use crate::store::index;
use crate::store::journal::Journal;
use crate::store::journal::Object;
use crate::store::keeper::Keeper;
use crate::store::key;
use crate::store::ledger::Ledger;
use crate::store::ledger::Position;
use crate::store::objects;
use crate::store::objects::Objects;
use crate::store::open;
use crate::store::part10;
use crate::store::queue::Queue;
use crate::store::remake;
use crate::store::remake::Made;
use crate::store::remake::Maker;
use crate::store::remake::Making;
use crate::store::rows::DeferredRow;
use crate::store::rows::JobRow;
use crate::store::rows::OpenRevision;
use crate::store::rows::OriginRow;
use crate::store::rows::OwnRow;
use crate::store::rows::StudyRow;
use crate::store::txn::Changes;
use crate::store::txn::Txn;
use crate::store::unfiled::Kept;
use crate::store::view::View;
use crate::store::view::guarded;

/// Commits that may wait; more callers wait outside.
const WAITING_MAX: usize = 1024;
/// Commits that share one sync.
const GROUP_MAX: usize = 256;
/// With relaxed durability, what was acknowledged is on the disk after this.
const RELAXED: Duration = Duration::from_millis(40);
/// Size from which a group takes no further commit, and the limit of one commit.
const GROUP_BYTES: usize = 4 << 20;
/// Between tries to repair an index that cannot be repaired (the disk is full).
const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// Commits that fail for so long although the folder takes a write do not come back by themselves.
const STUCK: Duration = Duration::from_secs(20);
/// Alarms that are kept in mind.
const ALARMS_MAX: usize = 20;

/// What became of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    New {
        revision: u32,
    },
    /// It was there already. The file that came with it is removed.
    SameBytes,
    /// One with this UID was there, and differs. Both are kept, the first is the one that is read,
    /// and an operator is told.
    OtherBytes,
    /// One with this UID was there, in another study or series: whoever looks for this one would find
    /// that. It is not kept.
    Elsewhere,
    /// It is kept; what it is gets decided when the index is made.
    Deferred,
}

#[derive(Debug)]
pub enum Request {
    Events(Vec<Event>),
    /// With its Part 10 bytes when they are made durable together with the receipt: then the
    /// committer names the object.
    Instance(Box<Receipt>, Option<Bytes>),
    /// What became of an instance that was taken while the index was being made.
    Decide(Box<DeferredRow>),
    /// Everything before it is on the disk when it is answered.
    Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Done,
    Stored(Stored),
}

pub struct Waiting {
    request: Request,
    size_bytes: usize,
    ack: Option<oneshot::Sender<Result<Answer, StoreError>>>,
}

/// The payload of a record of the ledger.
#[derive(Debug, Serialize, Deserialize)]
pub struct Body {
    pub at: Timestamp,
    /// Each commit of the group.
    pub commits: Vec<Vec<Event>>,
}

/// What the committer and the readers share.
pub struct Shared {
    pub data: PathBuf,
    pub config: InForce<Config>,
    pub clock: Arc<dyn Clock>,
    pub objects: Arc<Objects>,
    /// Part 10 bytes up to which an instance goes through the journal; 0 without one.
    pub small_bytes_max: AtomicU64,
    pub changed: watch::Sender<u64>,
    /// Ticks when the queue may have something to claim.
    pub queued: watch::Sender<u64>,
    /// `None` while it is being repaired or made anew.
    pub view: RwLock<Option<View>>,
    pub making: RwLock<Option<Arc<Making>>>,
    /// An index that the committer has to take over.
    pub made: Mutex<Option<Made>>,
    /// The end of what is committed: the ledger may hold more that will be taken back.
    pub committed: Mutex<Position>,
    pub closed: AtomicBool,
    /// A read has failed: look at the index before the next commit.
    pub suspect: AtomicBool,
    /// Why opening the index again is not enough.
    pub doubt: Mutex<Option<String>>,
    /// Number of the last record at the start, if the process before did not end in order and what
    /// it left is to be removed: see `sweep`.
    pub unclean: Mutex<Option<u64>>,
    /// Held while studies are removed.
    pub removing: Mutex<()>,
    /// What was found and repaired while the node runs, for an operator.
    pub alarms: Mutex<VecDeque<Alarm>>,
    pub queue: Mutex<Queue>,
    /// Why the last commit failed; `None` when it did not.
    pub trouble: Mutex<Option<StoreError>>,
    /// What the last look at ledger and objects found.
    pub gaps: Mutex<Gaps>,
    /// Since when commits fail while the folder takes a write: see [`Shared::is_stuck`].
    pub stuck_since: Mutex<Option<Instant>>,
    /// Last: the folder is given up after sled is closed.
    pub _held: Held,
}

/// What is missing or changed.
#[derive(Debug, Clone, Default)]
pub struct Gaps {
    pub total: u64,
    /// The first of them, for people.
    pub first: Vec<String>,
}

/// Something that an operator has to hear of, although it is over.
#[derive(Debug, Clone)]
pub struct Alarm {
    pub at: Timestamp,
    pub what: String,
}

impl Shared {
    pub fn committed(&self) -> Position {
        *self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn gaps(&self) -> MutexGuard<'_, Gaps> {
        self.gaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn making(&self) -> Option<Arc<Making>> {
        self.making.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn alarm(&self, what: String) {
        tracing::error!("{what}");
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.push_back(Alarm { at: self.clock.now(), what });
        while alarms.len() > ALARMS_MAX {
            alarms.pop_front();
        }
    }

    pub fn read<T>(&self, f: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let Some(view) = view.as_ref() else {
            if self.closed.load(Ordering::SeqCst) {
                return Err(StoreError::Closed);
            }
            if let Some(making) = self.making() {
                return Err(making.error());
            }
            return Err(StoreError::index("it is being repaired"));
        };
        let result = guarded(|| f(view));
        if let Err(StoreError::Index { cause }) = &result {
            tracing::error!(%cause, "reading the index failed");
            self.suspect.store(true, Ordering::SeqCst);
        }
        result
    }

    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether commits fail although the folder is there and takes a write: it was away, and what is
    /// open still stands for what was. A start opens it anew, and gives back what the journal has.
    pub fn is_stuck(&self) -> bool {
        let since = *self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= STUCK)
    }

    /// - `takes_writes`: whether the folder does.
    pub fn look_whether_stuck(&self, takes_writes: bool) {
        let failing = self.trouble().as_ref().is_some_and(|error| match error {
            StoreError::Io { .. } | StoreError::Unsettled { .. } | StoreError::Busy => {
                !error.is_out_of_space()
            }
            StoreError::InUse { .. }
            | StoreError::Newer { .. }
            | StoreError::NewerProgram { .. }
            | StoreError::Space { .. }
            | StoreError::Index { .. }
            | StoreError::Remaking { .. }
            | StoreError::TooLarge { .. }
            | StoreError::Name { .. }
            | StoreError::TooManyVersions { .. }
            | StoreError::Closed => false,
        });
        let mut since = self.stuck_since.lock().unwrap_or_else(PoisonError::into_inner);
        match failing && takes_writes {
            true => _ = since.get_or_insert_with(Instant::now),
            false => *since = None,
        }
    }

    pub fn trouble(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A commit on its way.
pub struct Pending(oneshot::Receiver<Result<Answer, StoreError>>);

impl Pending {
    pub async fn answer(self) -> Result<Answer, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }

    /// For a thread that may block.
    pub fn wait(self) -> Result<Answer, StoreError> {
        self.0.blocking_recv().unwrap_or(Err(StoreError::Closed))
    }
}

/// The way to the committer's thread. Dropping it waits until everything sent is done.
pub struct Handle {
    /// `None` once it is closed.
    sender: RwLock<Option<mpsc::Sender<Waiting>>>,
    threads: Mutex<Option<(JoinHandle<()>, Keeper)>>,
}

impl Handle {
    pub fn start(committer: Committer) -> Result<Handle, StoreError> {
        let (sender, inbox) = mpsc::channel(WAITING_MAX);
        let data = committer.shared.data.clone();
        let keeper = Keeper::start(&committer.shared, sender.downgrade())?;
        let poke = sender.downgrade();
        let thread = std::thread::Builder::new()
            .name("ledger".to_owned())
            .spawn(move || committer.run(inbox, poke))
            .map_err(|error| StoreError::io("starting the thread that writes", &data, error))?;
        Ok(Handle {
            sender: RwLock::new(Some(sender)),
            threads: Mutex::new(Some((thread, keeper))),
        })
    }

    #[cfg(test)]
    pub fn weak(&self) -> mpsc::WeakSender<Waiting> {
        self.sender().unwrap().downgrade()
    }

    fn sender(&self) -> Result<mpsc::Sender<Waiting>, StoreError> {
        let sender = self.sender.read().unwrap_or_else(PoisonError::into_inner);
        sender.clone().ok_or(StoreError::Closed)
    }

    /// Takes nothing more, and waits until everything sent is done and at rest. Blocking.
    pub fn close(&self) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((thread, keeper)) = threads.take() else { return };
        drop(keeper);
        drop(self.sender.write().unwrap_or_else(PoisonError::into_inner).take());
        let _ = thread.join();
    }

    /// Sends a request and waits for its answer.
    pub async fn ask(&self, request: Request) -> Result<Answer, StoreError> {
        let (ack, answer) = oneshot::channel();
        let waiting = waiting(request, Some(ack))?;
        let sender = self.sender()?;
        sender.send(waiting).await.map_err(|_| StoreError::Closed)?;
        Pending(answer).answer().await
    }

    /// Sends a request from a thread that may block. The answer comes through what it returns.
    pub fn begin(&self, request: Request) -> Result<Pending, StoreError> {
        let (ack, answer) = oneshot::channel();
        let waiting = waiting(request, Some(ack))?;
        let sender = self.sender()?;
        sender.blocking_send(waiting).map_err(|_| StoreError::Closed)?;
        Ok(Pending(answer))
    }

    /// Sends a request whose answer nobody waits for.
    pub fn tell(&self, request: Request) -> Result<(), StoreError> {
        let sender = self.sender()?;
        sender.try_send(waiting(request, None)?).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

pub fn waiting(
    request: Request,
    ack: Option<oneshot::Sender<Result<Answer, StoreError>>>,
) -> Result<Waiting, StoreError> {
    let size_bytes = match &request {
        Request::Events(events) => serde_json::to_vec(events).map_err(StoreError::index)?.len(),
        Request::Instance(_, small) => 1024 + small.as_ref().map_or(0, Bytes::len),
        Request::Decide(_) => 1024,
        Request::Sync => 0,
    };
    if size_bytes > GROUP_BYTES {
        return Err(StoreError::TooLarge { size: size_bytes, limit: GROUP_BYTES });
    }
    Ok(Waiting { request, size_bytes, ack })
}

/// Commits from a thread that may block and that does not keep the store open.
pub fn ask(committer: &mpsc::WeakSender<Waiting>, request: Request) -> Result<(), StoreError> {
    let (ack, answer) = oneshot::channel();
    let sender = committer.upgrade().ok_or(StoreError::Closed)?;
    sender.blocking_send(waiting(request, Some(ack))?).map_err(|_| StoreError::Closed)?;
    drop(sender);
    Pending(answer).wait().map(drop)
}

/// Owns the ledger; the only one who changes the views.
pub struct Committer {
    pub shared: Arc<Shared>,
    pub ledger: Ledger,
    /// Without it (there was no space for it) every record is synced in the ledger itself, and
    /// every instance comes with its own synced file.
    pub journal: Option<Journal>,
    repair_after: Option<Instant>,
    maker: Option<Maker>,
    /// Instances wait for a decision.
    undecided: bool,
    /// Jobs that an index which was opened again shows as open, and that may be done.
    doubtful: Vec<JobRow>,
    poke: Option<mpsc::WeakSender<Waiting>>,
}

/// What a group comes to before anything is written.
struct Prepared {
    commits: Vec<Vec<Event>>,
    answers: Vec<Answer>,
    changes: Changes,
    /// Files of this group that are not kept, relative to the data folder.
    losers: Vec<String>,
    /// Files that a kill may have left beside those of this group.
    strays: Vec<String>,
}

impl Committer {
    pub fn new(shared: Arc<Shared>, ledger: Ledger) -> Committer {
        Committer {
            shared,
            ledger,
            journal: None,
            repair_after: None,
            maker: None,
            undecided: true,
            doubtful: Vec::new(),
            poke: None,
        }
    }

    fn run(mut self, mut inbox: mpsc::Receiver<Waiting>, poke: mpsc::WeakSender<Waiting>) {
        self.poke = Some(poke);
        self.start_making();
        let relaxed = relaxed_sync(&self.shared);
        while let Some(first) = inbox.blocking_recv() {
            let mut size_bytes = first.size_bytes;
            let (mut requests, mut acks) = (vec![first.request], vec![first.ack]);
            while requests.len() < GROUP_MAX && size_bytes < GROUP_BYTES {
                let Ok(next) = inbox.try_recv() else { break };
                size_bytes += next.size_bytes;
                requests.push(next.request);
                acks.push(next.ack);
            }
            let answers = self.commit(&mut requests);
            if let Some(file) = self.journal.as_ref().and_then(Journal::unsynced) {
                // One that waits already syncs the same file, after this write.
                let _ = relaxed.try_send(file);
            }
            for (ack, answer) in acks.into_iter().zip(answers) {
                if let Some(ack) = ack {
                    let _ = ack.send(answer);
                }
            }
        }
        drop(self.maker.take());
        let _ = self.shared.read(View::flush);
        if let Some(journal) = self.journal.take()
            && let Err(error) = journal.close(&self.ledger.end(), self.ledger.file())
        {
            tracing::error!(%error, "the journal could not be settled; the next start does it");
        }
        // sled is closed: what reads after this is told that the store is closed.
        self.shared.closed.store(true, Ordering::SeqCst);
        drop(self.shared.view.write().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Commits a group: all of it or nothing, but for what needs an index that is not there, and
    /// instances for which there is no space or name.
    pub fn commit(&mut self, requests: &mut [Request]) -> Vec<Result<Answer, StoreError>> {
        let unnamed = self.name(requests);
        let mut answers = self.commit_named(requests);
        for (place, error) in unnamed {
            answers[place] = Err(error);
        }
        let objects = &self.shared.objects;
        for request in requests {
            if let Request::Instance(receipt, _) = request {
                objects.has_arrived(&receipt.object);
            }
        }
        answers
    }

    /// Gives each small instance a name. Those that find none ask for nothing any more.
    fn name(&self, requests: &mut [Request]) -> Vec<(usize, StoreError)> {
        let objects = &self.shared.objects;
        let mut space = None;
        let mut unnamed = Vec::new();
        for (place, request) in requests.iter_mut().enumerate() {
            let Request::Instance(receipt, Some(_)) = request else { continue };
            let kept = self.shared.config.now().free_bytes_min;
            let named = space.get_or_insert_with(|| objects.check_space(kept)).clone();
            let named = named.and_then(|()| {
                let Receipt { study_uid, series_uid, sop_instance_uid, .. } = &**receipt;
                objects.reserve(study_uid, series_uid, sop_instance_uid)
            });
            match named {
                Ok(object) => receipt.object = object,
                Err(error) => {
                    unnamed.push((place, error));
                    *request = Request::Sync;
                }
            }
        }
        unnamed
    }

    fn commit_named(&mut self, requests: &[Request]) -> Vec<Result<Answer, StoreError>> {
        let outcome = self.take_over().and_then(|()| match self.shared.making() {
            Some(_) => self.defer(requests),
            None => match self.try_commit(requests) {
                // Found out before anything was written.
                Err(StoreError::Remaking { .. }) => self.defer(requests),
                outcome => Ok(outcome?.into_iter().map(Ok).collect()),
            },
        });
        let mut trouble = self.shared.trouble();
        match outcome {
            Ok(answers) => {
                if trouble.take().is_some() {
                    tracing::info!("commits work again");
                }
                answers
            }
            Err(error) => {
                if trouble.is_none() {
                    tracing::error!(%error, commits = requests.len(), "a commit failed");
                }
                *trouble = Some(error.clone());
                drop(trouble);
                if !error.may_hold() {
                    self.discard(requests);
                }
                requests.iter().map(|_| Err(error.clone())).collect()
            }
        }
    }

    /// Removes the files of instances that are refused. One that is not on its way was committed
    /// before: it stays.
    fn discard(&self, requests: &[Request]) {
        let objects = &self.shared.objects;
        for request in requests {
            if let Request::Instance(receipt, _) = request
                && objects.is_on_its_way(&receipt.object)
            {
                objects.discard(&receipt.object);
            }
        }
    }

    fn try_commit(&mut self, requests: &[Request]) -> Result<Vec<Answer>, StoreError> {
        let broken = || Ok(self.shared.read(|view| Ok(view.broken()))?.is_some());
        if self.shared.suspect.load(Ordering::SeqCst) || broken()? {
            self.repair()?;
        }
        let number = self.ledger.next_number();
        let Prepared { commits, answers, changes, losers, strays } =
            self.shared.read(|view| prepare(view, &self.shared, number, requests))?;
        if !commits.is_empty() {
            let body = Body { at: self.shared.clock.now(), commits };
            let payload = serde_json::to_vec(&body).map_err(StoreError::index)?;
            let position = self.make_durable(&payload, requests, &losers)?;
            *self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner) = position;
            self.publish(changes, position)?;
        }
        // With relaxed durability only instances are acknowledged before they are synced.
        let strict = |request: &Request| match request {
            Request::Events(_) | Request::Decide(_) | Request::Sync => true,
            Request::Instance(..) => false,
        };
        if let Some(journal) = self.journal.as_mut().filter(|_| requests.iter().any(strict)) {
            journal.sync().map_err(unsettled)?;
        }
        let objects = &self.shared.objects;
        losers.iter().for_each(|file| objects.discard(file));
        if !strays.is_empty() {
            objects.discard_strays(strays, |_| {});
        }
        if number != self.ledger.next_number() {
            self.shared.changed.send_modify(|ticks| *ticks += 1);
        }
        Ok(answers)
    }

    /// Makes a record durable, with the small instances that it takes in.
    fn make_durable(
        &mut self,
        payload: &[u8],
        requests: &[Request],
        losers: &[String],
    ) -> Result<Position, StoreError> {
        let Some(journal) = &mut self.journal else { return self.ledger.append(payload) };
        let kept = || {
            requests.iter().filter_map(|request| match request {
                Request::Instance(receipt, Some(part10)) if !losers.contains(&receipt.object) => {
                    Some((&receipt.object, part10))
                }
                Request::Instance(..) | Request::Events(_) | Request::Decide(_) | Request::Sync => {
                    None
                }
            })
        };
        let objects: Vec<Object<'_>> =
            kept().map(|(path, data)| Object { path, head: &[], data }).collect();
        if !objects.is_empty() {
            journal.make_room()?;
        }
        self.ledger.next_file()?;
        let before = self.ledger.end();
        let after = self.ledger.write(payload)?;
        let placed = match journal.append(&before, &after, payload, &objects, self.ledger.file()) {
            Ok(placed) => placed,
            Err(error) => return Err(self.ledger.undo(before, error)),
        };
        let mut names = Vec::new();
        for ((object, part10), at) in kept().zip(placed.at) {
            let name: Arc<str> = object.as_str().into();
            let journal = Arc::clone(&placed.file);
            let memory = Some(part10.clone());
            let kept = Kept { journal, at, bytes: part10.len(), memory };
            self.shared.objects.unfiled.add(Arc::clone(&name), kept);
            names.push(name);
        }
        journal.settle_later(names);
        Ok(after)
    }

    fn publish(&mut self, changes: Changes, position: Position) -> Result<(), StoreError> {
        // From here on it is so, whatever becomes of the view.
        let jobs = changes.jobs.clone();
        let published = self.shared.read(|view| view.publish(changes, position));
        match published {
            Ok(()) => {
                let now = self.shared.clock.now();
                let mut queue = self.shared.queue();
                for job in &jobs {
                    queue.set(&job.row, job.ended, now);
                }
                drop(queue);
                if !jobs.is_empty() {
                    self.shared.queued.send_modify(|ticks| *ticks += 1);
                }
            }
            Err(_) => {
                match self.repair() {
                    // Made anew from the ledger, it will show this too.
                    Ok(()) | Err(StoreError::Remaking { .. }) => {}
                    Err(error) => return Err(unsettled(error)),
                }
            }
        }
        Ok(())
    }

    /// Takes instances while there is no index. What needs one is told so.
    fn defer(
        &mut self,
        requests: &[Request],
    ) -> Result<Vec<Result<Answer, StoreError>>, StoreError> {
        let wait = || self.shared.making().map_or(StoreError::Busy, |making| making.error());
        let is_access = |event: &Event| matches!(event, Event::Accessed { .. });
        let (mut commits, mut answers) = (Vec::new(), Vec::new());
        for request in requests {
            answers.push(match request {
                Request::Instance(receipt, _) => {
                    commits.push(vec![Event::InstanceDeferred { receipt: *receipt.clone() }]);
                    Ok(Answer::Stored(Stored::Deferred))
                }
                Request::Events(events) if events.iter().all(is_access) => {
                    commits.push(events.clone());
                    Ok(Answer::Done)
                }
                Request::Sync => Ok(Answer::Done),
                Request::Events(_) | Request::Decide(_) => Err(wait()),
            });
        }
        commits.retain(|events| !events.is_empty());
        if !commits.is_empty() {
            let body = Body { at: self.shared.clock.now(), commits };
            let payload = serde_json::to_vec(&body).map_err(StoreError::index)?;
            let position = self.make_durable(&payload, requests, &[])?;
            *self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner) = position;
            self.undecided = true;
        }
        let is_instance = |request: &Request| matches!(request, Request::Instance(..));
        if let Some(journal) = self.journal.as_mut().filter(|_| !requests.iter().all(is_instance)) {
            journal.sync().map_err(unsettled)?;
        }
        Ok(answers)
    }

    fn start_making(&mut self) {
        let (Some(making), Some(poke)) = (self.shared.making(), &self.poke) else { return };
        match Maker::start(&self.shared, making, poke.clone()) {
            Ok(maker) => self.maker = Some(maker),
            Err(error) => tracing::error!(%error, "the index cannot be made anew"),
        }
    }

    /// Takes over an index that was made, and decides what was taken meanwhile.
    fn take_over(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        let made = shared.made.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Made { view, damage, mut doubtful }) = made {
            let caught_up = remake::catch_up(&shared, &view).inspect_err(|error| {
                tracing::error!(%error, "the index that was made cannot be used");
                // From the beginning, by a thread of its own.
                self.start_making();
            })?;
            *shared.view.write().unwrap_or_else(PoisonError::into_inner) = Some(view);
            let making = shared.making.write().unwrap_or_else(PoisonError::into_inner).take();
            doubtful.extend(caught_up.doubtful);
            if !damage.is_empty() {
                self.hold(&doubtful)?;
            }
            let rows = shared.read(View::open_jobs)?;
            shared.queue().reload(&rows, shared.clock.now());
            shared.queued.send_modify(|ticks| *ticks += 1);
            shared.suspect.store(false, Ordering::SeqCst);
            if let Some(making) = making {
                shared.alarm(format!("the index was made anew from the ledger: {}", making.why));
            }
            shared.changed.send_modify(|ticks| *ticks += 1);
        }
        if !self.doubtful.is_empty() && shared.making().is_none() {
            let doubtful = std::mem::take(&mut self.doubtful);
            self.hold(&doubtful).inspect_err(|_| self.doubtful = doubtful)?;
        }
        if self.undecided && shared.making().is_none() {
            self.decide()?;
        }
        Ok(())
    }

    /// Holds what a lost part of the ledger may say is done, until a person decides: these jobs, and
    /// studies that stand still without one. Returns how many.
    ///
    /// - `doubtful`: of an index that was brought up over damage.
    pub fn hold(&mut self, doubtful: &[JobRow]) -> Result<u64, StoreError> {
        const WHY: &str = "the ledger has lost a part, which may say that this was done";
        let at = self.shared.clock.now();
        let dead = |row: &JobRow| Event::JobEnded {
            id: row.job.id.clone(),
            outcome: JobOutcome::Dead { cause: WHY.to_owned() },
            at,
        };
        let held: Vec<Event> = doubtful.iter().map(dead).collect();
        let mut events = held.clone();
        let (mut standing, shared) = (0, Arc::clone(&self.shared));
        shared.read(|view| {
            view.each_study(&mut |row| {
                let study = &row.study_uid;
                let is_moving = match row.state {
                    StudyState::Ready | StudyState::Analysing | StudyState::Judged => true,
                    StudyState::Receiving
                    | StudyState::Composed
                    | StudyState::Delivered
                    | StudyState::Held
                    | StudyState::NeedsReview
                    | StudyState::Failed
                    | StudyState::Superseded => false,
                };
                let is_held = |row: &JobRow| row.job.study_uid == *study;
                let open = view.keys(&key::study_jobs(study))?.len();
                let doubtful = doubtful.iter().filter(|row| is_held(row)).count();
                if is_moving && open == doubtful && !view.has(&key::open_revision(study))? {
                    standing += u64::from(open == 0);
                    events.push(Event::StateChanged {
                        study_uid: study.clone(),
                        revision: row.revision,
                        to: StudyState::NeedsReview,
                        reason: WHY.to_owned(),
                        at,
                    });
                }
                Ok(true)
            })
        })?;
        for some in events.chunks(GROUP_MAX) {
            self.try_commit(&[Request::Events(some.to_vec())])?;
        }
        Ok(held.len() as u64 + standing)
    }

    /// Writes down what of the ledger is lost, once: what was found stays known, whatever becomes of
    /// the bytes.
    pub fn note_damage(&mut self, damage: &[String]) -> Result<(), StoreError> {
        let known = open::known_damage(&self.shared)?;
        let what: Vec<String> =
            damage.iter().filter(|what| !known.contains(what)).cloned().collect();
        if !what.is_empty() {
            self.try_commit(&[Request::Events(vec![Event::ledger_damaged(
                what,
                self.shared.clock.now(),
            )])])?;
        }
        Ok(())
    }

    /// Decides what the instances are that were taken without an index.
    pub fn decide(&mut self) -> Result<(), StoreError> {
        let rows = self.shared.read(|view| view.scan::<DeferredRow>(key::DEFERRED))?;
        let many = rows.len();
        let requests: Vec<Request> =
            rows.into_iter().map(|row| Request::Decide(Box::new(row))).collect();
        for group in requests.chunks(GROUP_MAX) {
            self.try_commit(group)?;
        }
        self.undecided = false;
        if many > 0 {
            tracing::info!(instances = many, "what was taken without an index is in it now");
        }
        Ok(())
    }

    /// Opens the index again; makes it anew from the ledger where that does not help.
    fn repair(&mut self) -> Result<(), StoreError> {
        let shared = Arc::clone(&self.shared);
        if self.repair_after.is_some_and(|after| Instant::now() < after) {
            return Err(StoreError::index("it waits to be repaired"));
        }
        tracing::warn!("the index is opened anew");
        shared.suspect.store(true, Ordering::SeqCst);
        let mut view = shared.view.write().unwrap_or_else(PoisonError::into_inner);
        drop(view.take());
        let now = shared.clock.now();
        let doubt = shared.doubt.lock().unwrap_or_else(PoisonError::into_inner).take();
        let limit = Some(shared.config.now().index_at_once_bytes);
        let how = open::How { doubt: doubt.clone(), at_once_bytes: limit };
        let opened = open::open_view(
            &shared.data,
            &shared.config.now(),
            &mut self.ledger,
            now,
            how,
            &mut |_| {},
        );
        let opened = match opened {
            Ok(open::Index::Opened(opened)) => Ok(opened),
            Ok(open::Index::Lost(making)) => {
                let error = making.error();
                *shared.making.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(Arc::new(making));
                drop(view);
                self.start_making();
                return Err(error);
            }
            Err(error) => {
                *shared.doubt.lock().unwrap_or_else(PoisonError::into_inner) = doubt;
                Err(error)
            }
        };
        let jobs = opened.and_then(|opened| {
            let mut rows = guarded(|| opened.view.open_jobs())?;
            rows.retain(|row| !opened.doubtful.contains(row));
            Ok((opened, rows))
        });
        let (opened, rows) = jobs.inspect_err(|error| {
            tracing::error!(%error, "the index cannot be repaired now");
            self.repair_after = Some(Instant::now() + REPAIR_PAUSE);
        })?;
        if let Some(why) = opened.rebuilt {
            shared.alarm(format!("the index was made anew from the ledger: {why}"));
        }
        self.doubtful.extend(opened.doubtful);
        *view = Some(opened.view);
        drop(view);
        shared.queue().reload(&rows, now);
        shared.queued.send_modify(|ticks| *ticks += 1);
        shared.suspect.store(false, Ordering::SeqCst);
        self.repair_after = None;
        Ok(())
    }
}

/// What was written is published, and perhaps on the disk: the files it speaks of have to stay.
fn unsettled(error: StoreError) -> StoreError {
    StoreError::Unsettled { cause: error.to_string() }
}

/// Syncs the journal a moment after it was written to. It ends when the sender is dropped.
fn relaxed_sync(shared: &Arc<Shared>) -> std::sync::mpsc::SyncSender<Arc<std::fs::File>> {
    let (sender, written) = std::sync::mpsc::sync_channel::<Arc<std::fs::File>>(1);
    if shared.config.now().durability == Durability::Relaxed {
        let shared = Arc::clone(shared);
        let run = move || {
            for file in written {
                std::thread::sleep(RELAXED);
                if let Err(error) = file.sync_data() {
                    tracing::error!(%error, "instances were acknowledged and cannot be synced");
                    let error = StoreError::io("syncing the journal in", &shared.data, error);
                    *shared.trouble() = Some(error);
                }
            }
        };
        // Without the thread every commit of events still syncs, and so does every release.
        if let Err(error) = std::thread::Builder::new().name("relaxed".to_owned()).spawn(run) {
            tracing::error!(%error, "the thread for relaxed durability cannot be started");
        }
    }
    sender
}

fn prepare(
    view: &View,
    shared: &Shared,
    number: u64,
    requests: &[Request],
) -> Result<Prepared, StoreError> {
    let mut txn = view.begin();
    let (mut commits, mut answers) = (Vec::new(), Vec::new());
    let (mut losers, mut strays) = (Vec::new(), Vec::new());
    let mut place = 0;
    for request in requests {
        let mut events = Vec::new();
        let mut add = |txn: &mut Txn<'_>, event: Event| {
            index::apply(txn, &event, index::order(number, place))?;
            place += 1;
            events.push(event);
            Ok::<(), StoreError>(())
        };
        match request {
            Request::Events(wanted) => {
                for event in wanted {
                    add_event(&mut txn, event, &mut add)?;
                }
                answers.push(Answer::Done);
            }
            Request::Instance(receipt, small) => {
                let (stored, is_kept) = add_instance(&mut txn, shared, receipt, false, &mut add)?;
                answers.push(Answer::Stored(stored));
                match stored {
                    // A small one is named after what is there.
                    Stored::New { .. } if small.is_none() => {
                        strays.extend(objects::beside(&receipt.object));
                    }
                    Stored::New { .. } => {}
                    _ if is_kept => {}
                    _ => losers.push(receipt.object.clone()),
                }
            }
            Request::Decide(row) => {
                // Files beside it may be of others that wait for their decision: none is a stray.
                let (stored, is_kept) =
                    add_instance(&mut txn, shared, &row.receipt, true, &mut add)?;
                add(&mut txn, Event::DeferredDecided { order: row.order })?;
                answers.push(Answer::Stored(stored));
                losers.extend((!is_kept).then(|| row.receipt.object.clone()));
            }
            Request::Sync => answers.push(Answer::Done),
        }
        if !events.is_empty() {
            commits.push(events);
        }
    }
    Ok(Prepared { commits, answers, changes: txn.finish()?, losers, strays })
}

type Add<'a> = dyn FnMut(&mut Txn<'_>, Event) -> Result<(), StoreError> + 'a;

/// Adds an event as it is, but for what only this thread can know: that a revision must be opened
/// first, and how many instances a revision closes with.
fn add_event(txn: &mut Txn<'_>, event: &Event, add: &mut Add<'_>) -> Result<(), StoreError> {
    match event {
        Event::InstanceStored { receipt } => {
            if txn.instance(&receipt.sop_instance_uid)?.is_none() {
                open_revision(txn, &receipt.study_uid, receipt.received_at, add)?;
            }
            add(txn, event.clone())
        }
        Event::OriginDecided { study_uid, instances, origin: Origin::Image, at, .. } => {
            let mut opens = false;
            for sop in instances {
                let row = txn.get::<OriginRow>(&key::origin(study_uid, sop))?;
                opens |= row.is_some_and(|row| !row.is_taken());
            }
            if opens {
                open_revision(txn, study_uid, *at, add)?;
            }
            add(txn, event.clone())
        }
        Event::OriginDecided { .. } => add(txn, event.clone()),
        Event::RevisionClosed { study_uid, revision, reason, at, .. } => {
            let study = txn.get::<StudyRow>(&key::study(study_uid))?;
            add(
                txn,
                Event::RevisionClosed {
                    study_uid: study_uid.clone(),
                    revision: *revision,
                    instances: study.map_or(0, |study| study.instances),
                    reason: reason.clone(),
                    at: *at,
                },
            )
        }
        // What is open now, in the order of commits.
        Event::LedgerDamaged { what, at, .. } => {
            let mut ids = |prefix: &[u8]| -> Result<Vec<String>, StoreError> {
                let keys = txn.keys(prefix)?;
                Ok(keys.iter().map(|key| key::text(&key[prefix.len()..])).collect())
            };
            let (jobs, alerts) = (ids(key::OPEN_JOBS)?, ids(key::UNANSWERED)?);
            let (what, at) = (what.clone(), *at);
            add(txn, Event::LedgerDamaged { what, jobs, alerts, at })
        }
        Event::InstanceRepeated { .. }
        | Event::InstanceSetAside { .. }
        | Event::InstancesLookedAt { .. }
        | Event::IdentityDiffers { .. }
        | Event::IdentitySettled { .. }
        | Event::InstanceAdopted { .. }
        | Event::VersionStored { .. }
        | Event::InstanceDeferred { .. }
        | Event::DeferredDecided { .. }
        | Event::InstancesRemoved { .. }
        | Event::StudyForgotten { .. }
        | Event::FilesRemoved { .. }
        | Event::RevisionOpened { .. }
        | Event::StateChanged { .. }
        | Event::StudyDescribed { .. }
        | Event::Assessed { .. }
        | Event::PrioritySet { .. }
        | Event::JobEnqueued { .. }
        | Event::JobStarted { .. }
        | Event::JobEnded { .. }
        | Event::JobLeft { .. }
        | Event::JobRetried { .. }
        | Event::ArtefactWritten { .. }
        | Event::Delivered { .. }
        | Event::DeliveryProven { .. }
        | Event::DeliveryReplaced { .. }
        | Event::KindRefused { .. }
        | Event::ProofAsked { .. }
        | Event::ProofAnswered { .. }
        | Event::JobCancelled { .. }
        | Event::AlertRaised { .. }
        | Event::AlertEscalated { .. }
        | Event::AlertHeld { .. }
        | Event::AlertSent { .. }
        | Event::AlertJoined { .. }
        | Event::AlertAcknowledged { .. }
        | Event::AlertDeclined { .. }
        | Event::AlertExhausted { .. }
        | Event::AlertBegunAgain { .. }
        | Event::AlertDoubted { .. }
        | Event::AlertClosed { .. }
        | Event::AlertWithdrawn { .. }
        | Event::CommitmentRequested { .. }
        | Event::CommitmentReported { .. }
        | Event::StepCreated { .. }
        | Event::StepChanged { .. }
        | Event::SentOut { .. }
        | Event::InstancesCounted { .. }
        | Event::ModelAsked { .. }
        | Event::CanaryMoved { .. }
        | Event::InstancesMissing { .. }
        | Event::ReadingCompared { .. }
        | Event::Accessed { .. } => add(txn, event.clone()),
    }
}

/// Opens the study's next revision unless one is open. Returns the open one.
fn open_revision(
    txn: &mut Txn<'_>,
    study_uid: &StudyUid,
    at: Timestamp,
    add: &mut Add<'_>,
) -> Result<u32, StoreError> {
    if let Some(open) = txn.get::<OpenRevision>(&key::open_revision(study_uid))? {
        return Ok(open.revision);
    }
    let study = txn.get::<StudyRow>(&key::study(study_uid))?;
    let revision = study.map_or(1, |study| study.revision + 1);
    let study_uid = study_uid.clone();
    add(txn, Event::RevisionOpened { study_uid, revision, at })?;
    Ok(revision)
}

/// Decides what an instance is. Also says whether its file is kept.
///
/// - `is_acknowledged`: its sender was told that it is kept.
fn add_instance(
    txn: &mut Txn<'_>,
    shared: &Shared,
    receipt: &Receipt,
    is_acknowledged: bool,
    add: &mut Add<'_>,
) -> Result<(Stored, bool), StoreError> {
    let stored = Event::InstanceStored { receipt: receipt.clone() };
    let Some(row) = txn.instance(&receipt.sop_instance_uid)? else {
        let revision = match waits_in(txn, receipt)? {
            Some(revision) => {
                set_aside(txn, receipt, add)?;
                revision
            }
            None => {
                let at = receipt.received_at;
                let revision = open_revision(txn, &receipt.study_uid, at, add)?;
                add(txn, stored)?;
                revision
            }
        };
        return Ok((Stored::New { revision }, true));
    };
    let first = &row.receipt;
    let place = |of: &Receipt| (of.study_uid.clone(), of.series_uid.clone());
    if place(first) != place(receipt) && !is_acknowledged {
        return Ok((Stored::Elsewhere, false));
    }
    let same_place = first.object == receipt.object;
    if is_same(shared, first, receipt) {
        let repeated = Event::InstanceRepeated {
            sop_instance_uid: receipt.sop_instance_uid.clone(),
            digest: receipt.digest.clone(),
            same_bytes: true,
            from: receipt.from.clone(),
            at: receipt.received_at,
        };
        let lost = || !shared.objects.is_there(&first.object);
        if !same_place && lost() {
            // The file of the first is gone: this one takes its place.
            add(txn, stored)?;
            return Ok((Stored::SameBytes, true));
        }
        add(txn, repeated)?;
        return Ok((Stored::SameBytes, same_place));
    }
    if same_place {
        // The file of the first was gone and this one stands there now: let the row say so.
        add(txn, stored)?;
        return Ok((Stored::OtherBytes, true));
    }
    if let Some(known) = row.versions.iter().find(|known| is_same(shared, known, receipt)) {
        return Ok((Stored::OtherBytes, known.object == receipt.object));
    }
    add(txn, Event::VersionStored { receipt: receipt.clone() })?;
    Ok((Stored::OtherBytes, true))
}

/// The revision of its study beside which a new instance waits for what it is; None: it is of the
/// open revision, or opens one.
fn waits_in(txn: &mut Txn<'_>, receipt: &Receipt) -> Result<Option<u32>, StoreError> {
    let study_uid = &receipt.study_uid;
    let Some(study) = txn.get::<StudyRow>(&key::study(study_uid))? else { return Ok(None) };
    let is_own = txn.has(&key::own(&receipt.sop_instance_uid))?;
    let is_open = txn.has(&key::open_revision(study_uid))?;
    let waits = is_own || (!is_open && !receipt.is_image_at_once());
    Ok(waits.then_some(study.revision))
}

/// Takes an instance that opens nothing. What the ledger knows as ours is so at once.
fn set_aside(txn: &mut Txn<'_>, receipt: &Receipt, add: &mut Add<'_>) -> Result<(), StoreError> {
    add(txn, Event::InstanceSetAside { receipt: receipt.clone() })?;
    let sop = &receipt.sop_instance_uid;
    let Some(own) = txn.get::<OwnRow>(&key::own(sop))? else { return Ok(()) };
    let ours = Event::OriginDecided {
        study_uid: receipt.study_uid.clone(),
        instances: vec![sop.clone()],
        origin: Origin::Ours,
        why: Why::OurArtefact { revision: own.revision, file: own.file },
        by: String::new(),
        at: receipt.received_at,
    };
    add(txn, ours)
}

/// Whether two receipts stand for the same bytes in the same study.
fn is_same(shared: &Shared, known: &Receipt, new: &Receipt) -> bool {
    if known.study_uid != new.study_uid || known.size_bytes != new.size_bytes {
        return false;
    }
    if digest::comparable(&known.digest, &new.digest) {
        return known.digest == new.digest;
    }
    // Received by a version of this program with another kind of digest.
    let path = shared.data.join(&known.object);
    shared.objects.file(&known.object).is_ok()
        && part10::data_set_digest(&path, &new.digest).is_ok_and(|digest| digest == new.digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::clock::SystemClock;
    use crate::store::HealthState;
    use crate::store::Lane;
    use crate::store::Store;
    use crate::store::Wanted;
    use crate::store::event::JobKind;
    use crate::store::ledger::Fault;
    use crate::store::testing::at;
    use crate::store::testing::dump;
    use crate::store::testing::job;
    use crate::store::testing::receipt;
    use crate::store::testing::sop;
    use crate::store::testing::store_instance;
    use crate::store::testing::study;
    use std::path::Path;

    type Broken = Arc<Mutex<Option<Fault>>>;

    fn open_with_fault(data: &Path) -> (Store, Broken) {
        let config = crate::store::testing::config();
        let adopting = open::Adopting { facts: &|_| None, always: false, at_once_bytes: None };
        let (committer, shared, ..) =
            open::open(data, &config, Arc::new(SystemClock), adopting, &mut |_| {}).unwrap();
        let fault = Arc::clone(&committer.ledger.fault);
        let mut committer = committer;
        committer.journal.as_mut().unwrap().fault = Arc::clone(&fault);
        let handle = Arc::new(Handle::start(committer).unwrap());
        (Store { handle, shared }, fault)
    }

    fn place(store: &Store, receipt: &Receipt) -> String {
        let Receipt { study_uid, series_uid, sop_instance_uid, .. } = receipt;
        store.begin_object().unwrap().place(study_uid, series_uid, sop_instance_uid).unwrap()
    }

    fn objects(data: &Path) -> Vec<String> {
        let mut found = Vec::new();
        crate::store::objects::walk_files(data, "objects", &mut |name, _| {
            found.push(name.to_owned());
            Ok(())
        })
        .unwrap();
        found
    }

    /// P71: the same new instance on 8 associations at once.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn an_instance_that_comes_8_times_at_once_is_one_copy_in_one_revision() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        for instance in 1..=20 {
            let tasks = tokio_util::task::TaskTracker::new();
            let answers: Vec<_> = (0..8)
                .map(|_| {
                    let store = store.clone();
                    tasks.spawn(async move { store_instance(&store, 1, instance, "same").await })
                })
                .collect();
            let mut new = 0;
            for answer in answers {
                match answer.await.unwrap() {
                    Stored::New { revision } => new += revision,
                    Stored::SameBytes => {}
                    Stored::OtherBytes | Stored::Elsewhere | Stored::Deferred => {
                        panic!("the bytes are the same")
                    }
                }
            }
            assert_eq!(new, 1, "one new instance, revision 1");
        }
        let row = store.study(&study(1)).unwrap().unwrap();
        assert_eq!((row.instances, row.revision, row.conflicts), (20, 1, 0));
        assert_eq!(objects(dir.path()).len(), 20);
        for row in store.instances(&study(1)).unwrap() {
            assert!(dir.path().join(&row.receipt.object).is_file());
        }
    }

    /// P69, P70.
    #[tokio::test]
    async fn the_first_of_two_is_kept_and_a_difference_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        assert_eq!(store_instance(&store, 1, 1, "a").await, Stored::New { revision: 1 });
        let before = dump(&store);
        assert_eq!(store_instance(&store, 1, 1, "a").await, Stored::SameBytes);
        assert_eq!(dump(&store), before, "nothing to see");
        assert_eq!(store_instance(&store, 1, 1, "b").await, Stored::OtherBytes);
        assert_eq!(objects(dir.path()).len(), 2);
        let row = store.instance(&sop(1, 1)).unwrap().unwrap();
        assert_eq!(row.versions.len(), 1);
        assert_eq!(store_instance(&store, 1, 1, "b").await, Stored::OtherBytes);
        assert_eq!(objects(dir.path()).len(), 2, "a version that is known comes once");
        let kept = row.receipt;
        let bytes = std::fs::read(dir.path().join(&kept.object)).unwrap();
        assert_eq!(bytes.last(), Some(&b'a'));
        assert_eq!(store.study(&study(1)).unwrap().unwrap().conflicts, 1);
        let history = store.history(&study(1)).unwrap();
        assert!(history.iter().any(|row| row.what == "conflict"), "{history:?}");
        // Sent again by whoever got no answer: its own file is no loser.
        assert_eq!(store.commit_instance(kept.clone()).await.unwrap(), Stored::SameBytes);
        assert!(dir.path().join(&kept.object).is_file());
    }

    /// S4: killed between the file and its receipt; the sender got no answer and sends again.
    #[tokio::test]
    async fn a_file_that_never_got_its_receipt_goes_when_its_instance_comes_again() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        for _ in 0..2 {
            let receipt = receipt(1, 1, "a");
            place(&store, &receipt);
        }
        assert_eq!(objects(dir.path()).len(), 2);
        drop(store);
        let (store, _) = open_with_fault(dir.path());
        assert_eq!(store_instance(&store, 1, 1, "a").await, Stored::New { revision: 1 });
        let kept = store.instance(&sop(1, 1)).unwrap().unwrap().receipt.object;
        assert!(kept.ends_with(".v3.dcm"));
        assert_eq!(objects(dir.path()), [kept]);
    }

    #[tokio::test]
    async fn an_instance_whose_file_is_lost_is_restored_by_the_next_sending() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        store_instance(&store, 1, 1, "a").await;
        let kept = store.instance(&sop(1, 1)).unwrap().unwrap().receipt;
        std::fs::remove_file(dir.path().join(&kept.object)).unwrap();
        assert_eq!(store_instance(&store, 1, 1, "a").await, Stored::SameBytes);
        let now = store.instance(&sop(1, 1)).unwrap().unwrap().receipt;
        assert!(dir.path().join(&now.object).is_file());
        assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 1);
    }

    /// S1, S2, S3: an error before the answer, nothing half, and it works again by itself.
    #[tokio::test]
    async fn a_full_or_failing_disk_answers_every_waiter_and_is_survived() {
        let dir = tempfile::tempdir().unwrap();
        let (store, fault) = open_with_fault(dir.path());
        store_instance(&store, 1, 1, "x").await;
        let kept = store.instance(&sop(1, 1)).unwrap().unwrap().receipt;
        let before = dump(&store);
        assert_eq!(store.health().state, HealthState::Ok);
        for broken in [Fault::Full(0), Fault::Full(100), Fault::Sync] {
            *fault.lock().unwrap() = Some(broken);
            let tasks = tokio_util::task::TaskTracker::new();
            let answers: Vec<_> = (2..10)
                .map(|instance| {
                    let store = store.clone();
                    let mut receipt = receipt(1, instance, "x");
                    receipt.object = place(&store, &receipt);
                    tasks.spawn(async move { store.commit_instance(receipt).await })
                })
                .collect();
            for answer in answers {
                let error = answer.await.unwrap().unwrap_err();
                assert_eq!(error.is_out_of_space(), matches!(broken, Fault::Full(_)));
            }
            // Committed again, it is still the file of the first.
            store.commit_instance(kept.clone()).await.unwrap_err();
            assert_eq!(objects(dir.path()), [kept.object.as_str()], "nothing of the refused");
            assert_eq!(dump(&store), before);
            let health = store.health();
            assert_eq!(health.state, HealthState::Failing);
            assert!(health.reasons[0].contains("the last commit failed"), "{health:?}");
        }
        *fault.lock().unwrap() = None;
        store.commit_instance(receipt(1, 2, "x")).await.unwrap();
        assert_eq!(store.health().state, HealthState::Ok);
        drop(store);
        let (store, _) = open_with_fault(dir.path());
        assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 2);
    }

    /// sled breaks after the ledger was synced: it is opened anew, the commit holds.
    #[tokio::test]
    async fn an_index_that_breaks_is_repaired_in_flight() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        store
            .commit(vec![Event::JobEnqueued { job: job(1, 1, JobKind::Plan, 0, 5) }])
            .await
            .unwrap();
        store.claim(at(1), Duration::from_secs(60), &Wanted::Of(Lane::Reading)).unwrap().unwrap();
        for instance in 1..=3 {
            let harm = |view: &View| {
                view.break_for_a_test();
                Ok(())
            };
            store.read(harm).unwrap();
            let stored = store.commit_instance(receipt(1, instance, "x")).await.unwrap();
            assert_eq!(stored, Stored::New { revision: 1 });
        }
        assert_eq!(store.study(&study(1)).unwrap().unwrap().instances, 3);
        let held = store.claim(at(1), Duration::from_secs(60), &Wanted::Of(Lane::Reading)).unwrap();
        assert_eq!(held, None, "a lease outlives the repair");
        store.read(View::check_sum).unwrap();
    }

    #[tokio::test]
    async fn a_commit_over_the_limit_is_refused_and_harms_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        let what = "x".repeat(GROUP_BYTES + 1);
        let event = Event::Accessed { study_uid: None, what, by: String::new(), at: at(0) };
        let error = store.commit(vec![event]).await.unwrap_err();
        assert!(matches!(error, StoreError::TooLarge { .. }), "{error}");
        store.commit(vec![]).await.unwrap();
        store.commit_instance(receipt(1, 1, "x")).await.unwrap();
    }

    #[tokio::test]
    async fn a_revision_closes_with_the_number_of_instances_it_really_has() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = open_with_fault(dir.path());
        for instance in 1..=3 {
            store.commit_instance(receipt(1, instance, "x")).await.unwrap();
        }
        let (study_uid, reason) = (study(1), "quiet".to_owned());
        let event =
            Event::RevisionClosed { study_uid, revision: 1, instances: 2, reason, at: at(9) };
        let mut changed = store.changed();
        changed.mark_unchanged();
        store.commit(vec![event]).await.unwrap();
        assert!(changed.has_changed().unwrap());
        let closed = store.history(&study(1)).unwrap();
        assert!(closed.iter().any(|row| row.detail == "3 instances, quiet"), "{closed:?}");
    }
}
