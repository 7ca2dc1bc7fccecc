//! What survives a power cut.
//!
//! The ledger is the truth: every change is an event, appended and synced before anyone is told
//! that it happened. The index and the queue (sled) are views of it, made by one function
//! (`index::apply`) in one thread (`commit::Committer`), and made anew whenever they are in doubt.
//! Instances and results are files beside it. [`Store`] is the only way in.

pub mod event;

mod alerts;
mod audit;
mod backup;
mod chain;
mod check;
mod commit;
mod config;
mod deliveries;
mod error;
mod facts;
mod folder;
mod follow;
mod gaps;
mod gone;
mod health;
mod index;
mod journal;
mod keeper;
mod key;
mod ledger;
mod objects;
mod open;
mod orders;
mod origins;
mod packed;
mod part10;
mod queue;
mod rebuild;
mod recent;
mod recover;
mod remake;
mod restore;
mod retention;
mod rows;
mod services;
mod settle;
mod sweep;
mod txn;
mod unfiled;
mod usage;
mod verify;
mod view;

#[cfg(test)]
mod bench_test;
#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod harm_test;
#[cfg(test)]
pub mod testing;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use tokio::sync::watch;

use crate::files;
pub use crate::store::audit::AuditPage;
pub use crate::store::audit::AuditQuery;
pub use crate::store::audit::AuditRow;
pub use crate::store::backup::BackupReport;
pub use crate::store::backup::Manifest;
pub use crate::store::chain::ChainReport;
pub use crate::store::chain::Hash;
pub use crate::store::commit::Stored;
pub use crate::store::config::Config;
pub use crate::store::config::Durability;
pub use crate::store::error::StoreError;
pub use crate::store::facts::facts_of_file;
pub use crate::store::folder::space;
pub use crate::store::follow::Written;
pub use crate::store::gaps::Pace;
pub use crate::store::gaps::Progress;
pub use crate::store::gaps::VerifyMode;
pub use crate::store::gaps::VerifyReport;
pub use crate::store::health::Health;
pub use crate::store::health::HealthState;
pub use crate::store::ledger::Position as FollowPlace;
pub use crate::store::objects::CACHED_BYTES;
pub use crate::store::objects::IncomingObject;
pub use crate::store::open::OpenReport;
pub use crate::store::orders::Orders;
pub use crate::store::queue::Lane;
pub use crate::store::queue::Wanted;
pub use crate::store::rebuild::Facts;
pub use crate::store::rebuild::RebuildReport;
pub use crate::store::retention::RetentionReport;
pub use crate::store::retention::Verdict;
pub use crate::store::rows::AlertRow;
pub use crate::store::rows::AlertSending;
pub use crate::store::rows::AlertStep;
pub use crate::store::rows::ArtefactRow;
pub use crate::store::rows::CanaryRow;
pub use crate::store::rows::ChannelRow;
pub use crate::store::rows::ClaimedJob;
pub use crate::store::rows::CommitmentRow;
pub use crate::store::rows::ComparisonRow;
pub use crate::store::rows::CountRow;
pub use crate::store::rows::DeliveryRow;
pub use crate::store::rows::DeliveryState;
pub use crate::store::rows::HeldAlert;
pub use crate::store::rows::HistoryRow;
pub use crate::store::rows::InstanceRow;
pub use crate::store::rows::JobCounts;
pub use crate::store::rows::JobRow;
pub use crate::store::rows::JobState;
pub use crate::store::rows::OpenRevision;
pub use crate::store::rows::OriginRow;
pub use crate::store::rows::OwnRow;
pub use crate::store::rows::ProofRow;
pub use crate::store::rows::RefusalRow;
pub use crate::store::rows::RevisionRow;
pub use crate::store::rows::SourceRow;
pub use crate::store::rows::StepRow;
pub use crate::store::rows::StudyRow;
pub use crate::store::rows::UsageRow;
pub use crate::store::rows::WaitingRow;

use crate::domain::clock::Clock;
use crate::domain::priority::Priority;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;
use crate::store::commit::Answer;
use crate::store::commit::Handle;
use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::view::View;

fn stored(answer: Answer) -> Result<Stored, StoreError> {
    match answer {
        Answer::Stored(stored) => Ok(stored),
        Answer::Done => Err(StoreError::Closed),
    }
}

/// The data folder, opened. Clones share it; the last one that is dropped closes it, see
/// [`Store::close`].
#[derive(Clone)]
pub struct Store {
    handle: Arc<Handle>,
    shared: Arc<Shared>,
}

impl Store {
    /// Opens `data`, which is made when it is not there. Blocks: reads the end of the ledger, and
    /// makes an index that is in doubt anew when the ledger is small; with a large one that goes on
    /// after this returned, see [`StoreError::Remaking`].
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Newer`], or the folder cannot be written. A damaged
    /// index or a damaged ledger is no error: see [`OpenReport`].
    pub fn open(
        data: &Path,
        config: &Config,
        clock: Arc<dyn Clock>,
    ) -> Result<(Store, OpenReport), StoreError> {
        let at_once_bytes = Some(config.index_at_once_bytes);
        let adopting =
            open::Adopting { facts: &facts::facts_of_file, always: false, at_once_bytes };
        let (committer, shared, report, _) =
            open::open(data, config, clock, adopting, &mut |_| {})?;
        let handle = Handle::start(committer)?;
        Ok((Store { handle: Arc::new(handle), shared }, report))
    }

    /// Takes nothing more, waits for the commits on their way, settles the journal and closes sled:
    /// whoever still holds the store is told that it is closed. Blocking.
    pub fn close(&self) {
        self.handle.close();
    }

    /// Appends the events as one record, all or nothing. When it returns they are synced and
    /// every view shows them. An error means that none of them holds, with one exception: when
    /// the index broke after the ledger was synced, they hold once it is repaired.
    pub async fn commit(&self, events: Vec<Event>) -> Result<(), StoreError> {
        match self.handle.ask(Request::Events(events)).await? {
            Answer::Done | Answer::Stored(_) => Ok(()),
        }
    }

    /// Commits the receipt of an instance whose file has been placed. Decides, one request after
    /// the other, whether it is new and which revision it joins; opens the revision where needed.
    /// A file that is not kept (same instance again) is removed, and so it is after an error, unless
    /// the receipt may hold: a rebuild takes in a file without a receipt, but nothing brings back a
    /// file.
    pub async fn commit_instance(&self, receipt: Receipt) -> Result<Stored, StoreError> {
        stored(self.handle.ask(Request::Instance(Box::new(receipt), None)).await?)
    }

    /// After this everything acknowledged is on the disk: so it is anyway, but for instances with
    /// relaxed durability.
    pub async fn settled(&self) -> Result<(), StoreError> {
        match self.shared.config.now().durability {
            Durability::Durable => Ok(()),
            Durability::Relaxed => self.handle.ask(Request::Sync).await.map(drop),
        }
    }

    /// Part 10 bytes up to which an instance is small, see [`Store::commit_small`].
    pub fn small_bytes_max(&self) -> u64 {
        self.shared.small_bytes_max.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Takes a small instance: its bytes and its receipt become durable by one sync. Its file is
    /// made soon after, see [`Store::filed`]. Else as [`Store::commit_instance`]; after an error
    /// nothing of it is left, unless it may hold.
    ///
    /// - `receipt`: `object` is set here.
    /// - `part10`: preamble, file meta information and data set. Aligned it is not copied.
    ///
    /// # Errors
    /// [`StoreError::Space`] below the low-water mark.
    pub async fn commit_small(
        &self,
        receipt: Receipt,
        part10: Bytes,
    ) -> Result<Stored, StoreError> {
        stored(self.handle.ask(Request::Instance(Box::new(receipt), Some(part10))).await?)
    }

    /// After this every instance of a study has its file that was stored before. Instances get
    /// them soon after they are acknowledged: ask for it between rows and files.
    pub async fn filed(&self, study: &StudyUid) -> Result<(), StoreError> {
        if self.shared.objects.unfiled.below(&objects::folder_of(study)).is_empty() {
            return Ok(());
        }
        let (store, study) = (self.clone(), study.clone());
        let filed = tokio::task::spawn_blocking(move || store.file(&study));
        filed.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Instances that stand in the journal and have no file of their own yet.
    pub fn unfiled(&self) -> usize {
        self.shared.objects.unfiled.len()
    }

    /// [`Store::filed`], blocking.
    pub fn file(&self, study: &StudyUid) -> Result<(), StoreError> {
        self.shared.objects.file_below(&objects::folder_of(study))
    }

    pub fn data(&self) -> &Path {
        &self.shared.data
    }

    /// A file for an instance that is being received. Blocking, as are its methods.
    ///
    /// # Errors
    /// [`StoreError::Space`] below the low-water mark: refuse the instance before it is sent.
    pub fn begin_object(&self) -> Result<IncomingObject, StoreError> {
        self.shared.objects.begin(self.shared.config.now().free_bytes_min)
    }

    pub fn free_bytes(&self) -> Result<u64, StoreError> {
        folder::free_bytes(&self.shared.data)
    }

    pub fn study(&self, study: &StudyUid) -> Result<Option<StudyRow>, StoreError> {
        self.read(|view| view.get(&key::study(study)))
    }

    /// The newest change first.
    pub fn studies(&self, limit: usize) -> Result<Vec<StudyRow>, StoreError> {
        self.read(|view| view.studies(limit))
    }

    /// Studies whose last change has a number above `order` ([`StudyRow::order`]), the oldest
    /// change first: for a view that follows.
    pub fn studies_after(&self, order: u64, limit: usize) -> Result<Vec<StudyRow>, StoreError> {
        self.read(|view| view.studies_after(order, limit))
    }

    /// Each, the newest change first, until `visit` says `false`.
    pub fn each_study(
        &self,
        visit: &mut dyn FnMut(StudyRow) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.read(|view| view.each_study(visit))
    }

    /// Those that `wanted` says yes to, the newest change first.
    pub fn studies_that(
        &self,
        wanted: impl Fn(&StudyRow) -> bool,
    ) -> Result<Vec<StudyRow>, StoreError> {
        let mut rows = Vec::new();
        self.each_study(&mut |row| {
            rows.extend(Some(row).filter(&wanted));
            Ok(true)
        })?;
        Ok(rows)
    }

    pub fn revisions(&self, study: &StudyUid) -> Result<Vec<RevisionRow>, StoreError> {
        self.read(|view| view.scan(&key::revisions(study)))
    }

    pub fn open_revisions(&self) -> Result<Vec<OpenRevision>, StoreError> {
        self.read(|view| view.scan(key::OPEN_REVISIONS))
    }

    /// What the instances of a study are that the receiver could not tell at once.
    pub fn origins(&self, study: &StudyUid) -> Result<Vec<OriginRow>, StoreError> {
        self.read(|view| view.scan(&key::origins(study)))
    }

    /// Instances that came to a study that takes none now, and wait for a decision.
    pub fn waiting(&self) -> Result<Vec<WaitingRow>, StoreError> {
        self.read(|view| view.scan(key::WAITING))
    }

    /// The artefact of ours that has this SOP Instance UID.
    pub fn own(&self, sop: &SopInstanceUid) -> Result<Option<OwnRow>, StoreError> {
        self.read(|view| view.get(&key::own(sop)))
    }

    /// In the order of arrival.
    pub fn instances(&self, study: &StudyUid) -> Result<Vec<InstanceRow>, StoreError> {
        let rows = self.read(|view| view.instances(study))?;
        Ok(rows.iter().map(|row| InstanceRow::clone(row)).collect())
    }

    /// The same one by one, until `visit` has enough: a study may have any number of them. Nothing
    /// is stored while `visit` waits.
    pub fn each_instance(
        &self,
        study: &StudyUid,
        visit: &mut dyn FnMut(&InstanceRow) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.read(|view| view.each_instance(study, &mut |row| visit(&row)))
    }

    pub fn instance(&self, sop: &SopInstanceUid) -> Result<Option<InstanceRow>, StoreError> {
        Ok(self.read(|view| view.instance(sop))?.map(Arc::unwrap_or_clone))
    }

    /// The oldest first.
    pub fn history(&self, study: &StudyUid) -> Result<Vec<HistoryRow>, StoreError> {
        self.read(|view| view.scan(&key::histories(study)))
    }

    pub fn artefacts(
        &self,
        study: &StudyUid,
        revision: u32,
    ) -> Result<Vec<ArtefactRow>, StoreError> {
        self.read(|view| view.scan(&key::artefacts(study, revision)))
    }

    pub fn deliveries(&self, study: &StudyUid) -> Result<Vec<DeliveryRow>, StoreError> {
        self.read(|view| view.scan(&key::deliveries(study)))
    }

    /// What doctors said of the readings of a study, in the order in which it came.
    pub fn comparisons(&self, study: &StudyUid) -> Result<Vec<ComparisonRow>, StoreError> {
        self.read(|view| view.scan(&key::comparisons(study)))
    }

    /// Of all studies; of each in the order in which it came.
    pub fn all_comparisons(&self) -> Result<Vec<ComparisonRow>, StoreError> {
        self.read(|view| view.scan(key::COMPARISONS))
    }

    /// Studies of one patient that were assessed, by the mark of their event.
    pub fn studies_of_patient(&self, patient: &str) -> Result<Vec<StudyUid>, StoreError> {
        self.read(|view| view.scan(&key::patient_studies(patient)))
    }

    pub fn alerts(&self, study: &StudyUid) -> Result<Vec<AlertRow>, StoreError> {
        self.read(|view| view.scan(&key::alerts(study)))
    }

    /// Kinds of artefacts that a destination takes none of.
    pub fn refusals(&self, destination: &str) -> Result<Vec<RefusalRow>, StoreError> {
        self.read(|view| view.scan(&key::refusals(destination)))
    }

    /// What we have asked an archive, by its transaction.
    pub fn proof(&self, transaction: &TransactionUid) -> Result<Option<ProofRow>, StoreError> {
        self.read(|view| view.get(&key::proof(transaction)))
    }

    /// The newest alert of this key.
    pub fn alert(&self, alert: &str) -> Result<Option<AlertRow>, StoreError> {
        self.read(|view| {
            let place = view.get::<(StudyUid, u32)>(&key::alert_place(alert))?;
            let Some((study, revision)) = place else { return Ok(None) };
            view.get(&key::alert(&study, revision, alert))
        })
    }

    /// Alerts that nobody has answered, in no order.
    pub fn unanswered(&self) -> Result<Vec<AlertRow>, StoreError> {
        self.read(|view| {
            let mut rows = Vec::new();
            for mut key in view.keys(key::UNANSWERED)? {
                key[0] = b'l';
                rows.extend(view.get::<AlertRow>(&key)?);
            }
            Ok(rows)
        })
    }

    /// What an address was sent lately, and what waits to be told together.
    pub fn channel(&self, address: &str) -> Result<ChannelRow, StoreError> {
        Ok(self.read(|view| view.get(&key::channel(address)))?.unwrap_or_default())
    }

    pub fn canary(&self, name: &str) -> Result<Option<CanaryRow>, StoreError> {
        self.read(|view| view.get(&key::canary(name)))
    }

    /// What was asked of models on these days, first and last included, in their order.
    pub fn usage(&self, first: Date, last: Date) -> Result<Vec<UsageRow>, StoreError> {
        let days = first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last);
        self.read(|view| {
            let mut rows = Vec::new();
            for day in days {
                rows.extend(view.scan::<UsageRow>(&key::usages(day))?);
            }
            Ok(rows)
        })
    }

    /// Who has sent something.
    pub fn sources(&self) -> Result<Vec<SourceRow>, StoreError> {
        self.read(|view| view.scan(key::SOURCES))
    }

    pub fn source(&self, calling_ae: &str) -> Result<Option<SourceRow>, StoreError> {
        self.read(|view| view.get(&key::source(calling_ae)))
    }

    pub fn commitment(
        &self,
        transaction: &TransactionUid,
        request: &str,
    ) -> Result<Option<CommitmentRow>, StoreError> {
        self.read(|view| view.get(&key::commitment(transaction, request)))
    }

    pub fn step(&self, step: &SopInstanceUid) -> Result<Option<StepRow>, StoreError> {
        self.read(|view| view.get(&key::step(step)))
    }

    /// The performed procedure steps of a study.
    pub fn steps(&self, study: &StudyUid) -> Result<Vec<StepRow>, StoreError> {
        self.read(|view| view.steps(study))
    }

    /// The instances that a step has made, as its modality says.
    pub fn step_instances(&self, step: &SopInstanceUid) -> Result<Vec<SopInstanceUid>, StoreError> {
        Ok(self.read(|view| view.get(&key::step_instances(step)))?.unwrap_or_default())
    }

    /// What an archive says of the number of the study's instances.
    pub fn count(&self, study: &StudyUid) -> Result<Option<CountRow>, StoreError> {
        self.read(|view| view.get(&key::count(study)))
    }

    /// Whether an instance is here for good: its receipt, and its bytes in the
    /// journal or a file as long as that says.
    pub fn is_kept(&self, row: &InstanceRow) -> bool {
        let object = &row.receipt.object;
        let file = || std::fs::metadata(self.data().join(object));
        self.shared.objects.unfiled.holds(object)
            || file().is_ok_and(|file| file.is_file() && file.len() == row.receipt.size_bytes)
    }

    /// Takes the next job that is due, of the study whose turn it is. It is
    /// kept from others until it ends or `lease` is over. Its start is on the way to the ledger
    /// when this returns, and is there before anything the job itself commits.
    ///
    pub fn claim(
        &self,
        now: Timestamp,
        lease: Duration,
        wanted: &Wanted,
    ) -> Result<Option<ClaimedJob>, StoreError> {
        while let Some(taken) = self.shared.queue().claim(now, lease, wanted) {
            let row = self.read(|view| view.get::<JobRow>(&key::job(&taken.id)));
            let row = match row {
                Ok(Some(row)) if row.state.is_open() => row,
                Ok(_) => {
                    self.shared.queue().forget(&taken.id);
                    continue;
                }
                Err(error) => {
                    self.shared.queue().release(&taken.id);
                    return Err(error);
                }
            };
            let started = Event::JobStarted { id: taken.id.clone(), at: now };
            if let Err(error) = self.handle.tell(Request::Events(vec![started])) {
                self.shared.queue().release(&taken.id);
                return Err(error);
            }
            let JobRow { job, rank, cut_off, begun_anew, .. } = row;
            let (attempt, since) = (taken.attempt, begun_anew.unwrap_or(job.due));
            return Ok(Some(ClaimedJob { job, attempt, since, rank, cut_off }));
        }
        Ok(None)
    }

    pub fn job(&self, id: &str) -> Result<Option<JobRow>, StoreError> {
        self.read(|view| view.get(&key::job(id)))
    }

    /// All that wait, run or are dead, in the order in which they were enqueued.
    pub fn jobs(&self) -> Result<Vec<JobRow>, StoreError> {
        let mut rows = self.read(View::open_jobs)?;
        rows.sort_by_key(|row| row.order);
        Ok(rows)
    }

    /// How soon a study is wanted. Says so once: what holds already is not written again.
    ///
    /// - `by`: who wants it, in words.
    pub async fn prioritise(
        &self,
        study: &StudyUid,
        priority: Priority,
        by: &str,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let row = self.study(study)?;
        if row.is_none_or(|row| row.priority <= priority) {
            return Ok(());
        }
        let (study_uid, by) = (study.clone(), by.to_owned());
        self.commit(vec![Event::PrioritySet { study_uid, priority, by, at }]).await
    }

    /// Deliveries to a destination that were given up, in the order in which they were enqueued.
    pub fn given_up(&self, destination: &str) -> Result<Vec<JobRow>, StoreError> {
        let mut rows = self.jobs()?;
        rows.retain(|row| {
            row.state == JobState::Dead && row.job.kind.destination() == Some(destination)
        });
        Ok(rows)
    }

    /// Readings that wait for a gateway, and those that were given up there.
    pub fn held_up(&self, gateway: &str) -> Result<Vec<JobRow>, StoreError> {
        let mut rows = self.jobs()?;
        rows.retain(|row| row.state.may_be_moved() && row.job.kind.gateway() == Some(gateway));
        Ok(rows)
    }

    /// What a person's word to try again means: this job, all that were given up of a
    /// destination, or, as `gateway:NAME`, all that waits for a gateway.
    pub fn to_retry(&self, id_or_destination: &str) -> Result<Vec<String>, StoreError> {
        if let Some(row) = self.job(id_or_destination)? {
            return Ok(row.state.may_be_moved().then_some(row.job.id).into_iter().collect());
        }
        let rows = match id_or_destination.strip_prefix("gateway:") {
            Some(gateway) => self.held_up(gateway)?,
            None => self.given_up(id_or_destination)?,
        };
        Ok(rows.into_iter().map(|row| row.job.id).collect())
    }

    /// Gateways that readings wait for after a failed try: how many, and when the next is tried.
    pub fn held_up_counts(&self) -> BTreeMap<String, (usize, Timestamp)> {
        self.shared.queue().held_up()
    }

    /// What waits for its time in a lane is tried now.
    pub fn hurry(&self, lane: &Lane) {
        self.shared.queue().hurry(lane);
        self.shared.queued.send_modify(|ticks| *ticks += 1);
    }

    pub fn job_counts(&self) -> JobCounts {
        self.shared.queue().counts()
    }

    /// Ticks when there may be something to claim.
    pub fn queued(&self) -> watch::Receiver<u64> {
        self.shared.queued.subscribe()
    }

    /// Ticks after each commit.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    /// Writes a file of the result folder: complete or not at all, synced. Blocking.
    pub fn write_result(
        &self,
        study: &StudyUid,
        revision: u32,
        file: &str,
        bytes: &[u8],
    ) -> Result<(), StoreError> {
        self.shared.objects.write_result(study, revision, file, bytes)
    }

    pub fn read_result(
        &self,
        study: &StudyUid,
        revision: u32,
        file: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.objects.read_result(study, revision, file)
    }

    /// Where a result file is or would be. `None` when `file` cannot be the name of one.
    pub fn result_path(&self, study: &StudyUid, revision: u32, file: &str) -> Option<PathBuf> {
        self.shared.objects.result_path(study, revision, file).ok()
    }

    /// Compares objects, ledger, index and results, and names every gap. Changes nothing but
    /// what opening sled changes. For a folder that no node works on.
    pub fn verify(
        data: &Path,
        mode: VerifyMode,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, StoreError> {
        verify::verify(data, mode, progress)
    }

    /// The same while the node works, against the index that it has. Blocking.
    pub fn verify_running(
        &self,
        mode: VerifyMode,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<VerifyReport, StoreError> {
        verify::verify_running(&self.shared, mode, progress)
    }

    /// Checks the hash chain of the ledger from its first record to its last. For a folder that no
    /// node works on.
    ///
    /// - `earlier`: a head that was written down before, which has to be part of the chain.
    pub fn verify_chain(data: &Path, earlier: Option<Hash>) -> Result<ChainReport, StoreError> {
        chain::verify(data, earlier)
    }

    /// The same while the node works, up to the last record that was acknowledged. Blocking.
    pub fn verify_chain_running(&self, earlier: Option<Hash>) -> Result<ChainReport, StoreError> {
        chain::verify_running(&self.shared, earlier)
    }

    /// Who looked at, changed, sent or answered what: the newest first, a page at a time. Blocking:
    /// reads the ledger.
    pub fn audit(&self, query: &AuditQuery) -> Result<AuditPage, StoreError> {
        audit::page(&self.shared, query)
    }

    /// Takes other settings. The size of the index's cache stays as it was opened with.
    ///
    /// # Errors
    /// The disk does not say how large it is.
    pub fn configure(&self, config: &Config) -> Result<(), StoreError> {
        let space = folder::space(&self.shared.data)?;
        self.shared.config.replace(config.for_disk(&space));
        Ok(())
    }

    /// The end of the ledger, for one who follows it from here.
    pub fn followed_to(&self) -> FollowPlace {
        self.shared.committed()
    }

    /// What was written behind a place, in order. Blocking.
    pub fn follow(
        &self,
        after: &FollowPlace,
        records_max: usize,
    ) -> Result<Vec<Written>, StoreError> {
        follow::after(&self.shared, after, records_max)
    }

    /// Writes a small file of the node's own into the data folder: complete or not at all, synced.
    pub fn keep_beside(&self, file: &str, bytes: &[u8]) -> std::io::Result<()> {
        files::write_whole(&self.shared.data.join(file), bytes)
    }

    /// Copies a data folder, whether a node works on it or not, see [`BackupReport`]. Blocking.
    pub fn backup(
        data: &Path,
        to: &Path,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<BackupReport, StoreError> {
        backup::backup(data, to, now, progress)
    }

    /// Makes a data folder from such a copy; the index is made when it is opened. Blocking.
    pub fn restore(
        from: &Path,
        data: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Manifest, StoreError> {
        restore::restore(from, data, progress)
    }

    /// Makes the index anew from ledger and objects. For a folder that no node works on.
    pub fn rebuild(
        data: &Path,
        config: &Config,
        clock: Arc<dyn Clock>,
        facts: Facts<'_>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<RebuildReport, StoreError> {
        rebuild::rebuild(data, config, clock, facts, progress)
    }

    /// What the rules for keeping would remove now. Blocking: looks at every study.
    pub fn retention_plan(&self) -> Result<RetentionReport, StoreError> {
        retention::plan(&self.shared, self.shared.clock.now())
    }

    /// Removes it. Blocking, for as long as it takes.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when it goes on already.
    pub fn retention_now(&self) -> Result<RetentionReport, StoreError> {
        let mut commit = |event| self.handle.begin(Request::Events(vec![event]))?.wait().map(drop);
        keeper::retain(&self.shared, &mut commit, &|| true)
    }

    /// A real write and read in the data folder, and what else an operator should know. Blocking.
    pub fn health(&self) -> Health {
        health::health(&self.shared)
    }

    /// How much was missing or changed when ledger and objects were last looked at.
    pub fn gaps(&self) -> u64 {
        self.shared.gaps().total
    }

    /// Whether only a start helps, as far as the last [`Store::health`] saw.
    pub fn is_stuck(&self) -> bool {
        self.shared.is_stuck()
    }

    /// How many parts of the ledger are lost.
    pub fn ledger_damage(&self) -> usize {
        open::known_damage(&self.shared).map_or(0, |damage| damage.len())
    }

    /// How far the index is while it is made anew: records of the ledger, and how many there are.
    pub fn remaking(&self) -> Option<(u64, u64)> {
        match self.shared.making()?.error() {
            StoreError::Remaking { done, total } => Some((done, total.max(1))),
            _ => None,
        }
    }

    fn read<T>(&self, f: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let result = self.shared.read(f);
        if let Err(StoreError::Index { .. }) = &result {
            // A commit of nothing, so that the committer looks at the index.
            let _ = self.handle.tell(Request::Events(Vec::new()));
        }
        result
    }
}
