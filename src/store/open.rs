//! Opening the data folder: what is found, what is repaired, what is told.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::clock::Clock;
use crate::store::commit::Body;
use crate::store::commit::Committer;
use crate::store::commit::Request;
use crate::store::commit::Shared;
use crate::store::config::Config;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::index;
use crate::store::ledger;
use crate::store::ledger::Damage;
use crate::store::ledger::Found;
use crate::store::ledger::Ledger;
use crate::store::ledger::Position;
use crate::store::ledger::Start;
use crate::store::objects::Objects;
use crate::store::queue::Queue;
use crate::store::rows::InstanceRow;
use crate::store::verify::Progress;
use crate::store::view::View;
use crate::store::view::guarded;
use crate::store::view::key;

/// Records whose changes are published as one batch while replaying.
const REPLAY_BATCH: usize = 128;

/// What opening found and did.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OpenReport {
    /// Records in the ledger, by the number of the last one.
    pub records: u64,
    /// Records that the index did not have yet.
    pub replayed: u64,
    /// Why the index was made anew from the ledger.
    pub rebuilt: Option<String>,
    /// Where the old index is.
    pub set_aside: Option<PathBuf>,
    /// The incomplete last record that was cut off: normal after a power cut.
    pub cut: Option<String>,
    /// What of the ledger cannot be read.
    pub damage: Vec<String>,
    /// Receipts that the ledger had lost and that were taken over from the old index.
    pub salvaged: u64,
    /// Instances that were being received when the node ended.
    pub incoming_removed: u64,
    pub jobs_waiting: usize,
    pub took_ms: u64,
}

impl OpenReport {
    /// What an operator has to hear of: nothing after a normal start, or after a power cut.
    pub fn alarms(&self) -> Vec<String> {
        let mut alarms = self.damage.clone();
        if let Some(why) = &self.rebuilt {
            alarms.push(format!("the index was made anew from the ledger: {why}"));
        }
        if self.salvaged > 0 {
            alarms.push(format!(
                "{} receipts were missing in the ledger and were taken from the old index",
                self.salvaged
            ));
        }
        alarms
    }
}

/// Opens everything but the committer's thread.
pub fn open(
    data: &Path,
    config: &Config,
    clock: Arc<dyn Clock>,
) -> Result<(Committer, Arc<Shared>, OpenReport), StoreError> {
    let begun = Instant::now();
    let held = folder::hold(data)?;
    let objects = Objects::new(data);
    let incoming_removed = objects.empty_incoming()?;
    let opened = Ledger::open(&data.join(folder::LEDGER), config.ledger_segment_bytes)?;
    let now = clock.now();
    let view = open_view(data, config, &opened.ledger, now, &mut |_| {})?;
    let jobs = guarded(|| view.view.open_jobs())?;
    let mut queue = Queue::default();
    queue.reload(&jobs, now);
    let shared = Arc::new(Shared {
        data: data.to_owned(),
        config: config.clone(),
        clock,
        objects,
        changed: tokio::sync::watch::Sender::new(0),
        view: std::sync::RwLock::new(Some(view.view)),
        suspect: false.into(),
        queue: queue.into(),
        trouble: None.into(),
        held,
    });
    let mut damage: Vec<String> = Vec::new();
    for found in opened.damage.iter().chain(&view.damage).map(Damage::to_string) {
        if !damage.contains(&found) {
            damage.push(found);
        }
    }
    let mut committer = Committer::new(Arc::clone(&shared), opened.ledger);
    let salvaged = salvage(&mut committer, view.salvage)?;
    let report = OpenReport {
        records: committer.ledger.end().number,
        replayed: view.replayed,
        rebuilt: view.rebuilt,
        set_aside: view.set_aside,
        cut: opened.cut,
        damage,
        salvaged,
        incoming_removed,
        jobs_waiting: jobs.len(),
        took_ms: begun.elapsed().as_millis() as u64,
    };
    Ok((committer, shared, report))
}

/// Enters receipts anew that the ledger has lost, when their files are there.
fn salvage(committer: &mut Committer, receipts: Vec<Receipt>) -> Result<u64, StoreError> {
    let data = committer.shared.data.clone();
    let mut salvaged = 0;
    for receipt in receipts {
        let known = committer.shared.read(|view| view.instance(&receipt.sop_instance_uid))?;
        if known.is_some() || !data.join(&receipt.object).is_file() {
            continue;
        }
        let event = Event::InstanceStored { receipt };
        for answer in committer.commit(&[Request::Events(vec![event])]) {
            answer?;
        }
        salvaged += 1;
    }
    Ok(salvaged)
}

pub struct OpenedView {
    pub view: View,
    pub rebuilt: Option<String>,
    pub set_aside: Option<PathBuf>,
    pub replayed: u64,
    pub damage: Vec<Damage>,
    /// Receipts of an index that knew more than the ledger.
    pub salvage: Vec<Receipt>,
}

/// Opens the index and brings it up to the end of the ledger. One that does not open, has lost
/// rows or does not fit the ledger is set aside and made anew.
pub fn open_view(
    data: &Path,
    config: &Config,
    ledger: &Ledger,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<OpenedView, StoreError> {
    let path = data.join(folder::STATE);
    let existed = path.exists();
    let mut salvage = Vec::new();
    let tried = View::open(&path, config.index_cache_bytes).and_then(|view| {
        if config.check_index_at_start {
            view.check_sum()?;
        }
        Ok(view)
    });
    let why = match tried {
        Err(error) => error.to_string(),
        Ok(view) => {
            let (mark, end) = (view.mark().position, ledger.end());
            let misfit = if mark.number > end.number {
                let lost = mark.number - end.number;
                Some(format!("the ledger has lost its last {lost} records"))
            } else if mark.number == end.number && mark.hash != end.hash {
                Some("it is of another ledger".to_owned())
            } else {
                None
            };
            match misfit {
                Some(why) => {
                    salvage = receipts_of(&view);
                    why
                }
                None => {
                    let replay = replay(&view, ledger.folder(), &Start::After(mark), progress)?;
                    let fresh = mark.number == 0;
                    if fresh || replay.damage.is_empty() {
                        let missing = (fresh && replay.records > 0)
                            .then(|| if existed { "it was empty" } else { "it was missing" });
                        return Ok(OpenedView {
                            view,
                            rebuilt: missing.map(str::to_owned),
                            set_aside: None,
                            replayed: replay.records,
                            damage: replay.damage,
                            salvage,
                        });
                    }
                    salvage = receipts_of(&view);
                    "the ledger is damaged where it should go on".to_owned()
                }
            }
        }
    };
    let set_aside = match path.exists() {
        true => Some(folder::set_aside(&path, "bad", now)?),
        false => None,
    };
    let view = View::open(&path, config.index_cache_bytes)?;
    let replay = replay(&view, ledger.folder(), &Start::Beginning, progress)?;
    Ok(OpenedView {
        view,
        rebuilt: Some(why),
        set_aside,
        replayed: replay.records,
        damage: replay.damage,
        salvage,
    })
}

fn receipts_of(view: &View) -> Vec<Receipt> {
    let mut rows = guarded(|| view.scan::<InstanceRow>(key::INSTANCES)).unwrap_or_default();
    rows.sort_by_key(|row| row.order);
    rows.into_iter().map(|row| row.receipt).collect()
}

pub struct Replayed {
    pub records: u64,
    pub damage: Vec<Damage>,
    pub end: Position,
}

/// Applies the records of the ledger from `start` on.
pub fn replay(
    view: &View,
    folder: &Path,
    start: &Start,
    progress: &mut dyn FnMut(Progress),
) -> Result<Replayed, StoreError> {
    let (mut records, mut damage, mut waiting) = (0, Vec::new(), 0);
    let mut txn = view.begin();
    let mut last = view.mark().position;
    let walked = ledger::walk(folder, start, &mut |found| {
        let record = match found {
            Found::Damage(what) => {
                damage.push(what);
                return Ok(());
            }
            Found::Record(record) => record,
        };
        let position = record.position;
        match serde_json::from_slice::<Body>(record.payload) {
            Ok(body) => {
                for (place, event) in body.commits.iter().flatten().enumerate() {
                    index::apply(&mut txn, event, index::order(position.number, place))?;
                }
            }
            Err(error) => damage.push(Damage {
                segment: position.segment,
                offset: position.offset - record.payload.len() as u64,
                bytes: record.payload.len() as u64,
                what: format!("record {} cannot be understood: {error}", position.number),
            }),
        }
        (records, waiting, last) = (records + 1, waiting + 1, position);
        if waiting >= REPLAY_BATCH {
            let full = std::mem::replace(&mut txn, view.begin());
            view.publish(full.finish()?, position)?;
            progress(Progress { step: "replaying the ledger", done: position.number, total: None });
            waiting = 0;
        }
        Ok(())
    })?;
    if waiting > 0 {
        view.publish(txn.finish()?, last)?;
    }
    Ok(Replayed { records, damage, end: walked.end })
}
