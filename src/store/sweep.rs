//! Files of instances that were never acknowledged, left by a node that did not end in order.
//!
//! The sender was told nothing or a failure and sends again. The ledger is the witness, not the
//! index: what any record of it names stays. And where it may not be the ledger of these objects
//! (it lacks what the journal has, a part of it cannot be read, files are younger than its end or
//! too many, as after a restore from a backup), nothing goes and an operator is told.

use std::collections::HashSet;
use std::fs;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use crate::store::commit::Body;
use crate::store::commit::Shared;
use crate::store::config::Durability;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::folder;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Start;
use crate::store::rebuild;
use crate::store::rows::DeferredRow;

/// A kill leaves at most what was on its way: not more than a few files for each association.
const STRAYS_MAX: usize = 1000;
/// And nothing that was written this long after the last record.
const AFTER_MAX: Duration = Duration::from_secs(10);

/// Removes them, once after a start that found a journal in use; later callers wait for the first.
/// Returns how many there were.
pub fn sweep(shared: &Shared, go_on: &dyn Fn() -> bool) -> Result<usize, StoreError> {
    let mut unclean = shared.unclean.lock().unwrap_or_else(PoisonError::into_inner);
    // With relaxed durability a power cut may have taken receipts that were acknowledged.
    let durable = shared.config.now().durability == Durability::Durable;
    let Some(last) = unclean.filter(|_| durable) else { return Ok(0) };
    let removed = remove_strays(shared, last, go_on)?;
    *unclean = None;
    Ok(removed)
}

/// - `last`: number of the last record at the start.
fn remove_strays(
    shared: &Shared,
    last: u64,
    go_on: &dyn Fn() -> bool,
) -> Result<usize, StoreError> {
    let strays = candidates(shared, go_on)?;
    let found = strays.len();
    let mut doubtful = found.min(STRAYS_MAX + 1);
    let mut removed = 0;
    if (1..=STRAYS_MAX).contains(&found) {
        let mut outcome = Ok(());
        removed = shared.objects.discard_strays(strays, |held| {
            let before = held.len();
            outcome = spare(shared, last, held, &mut doubtful);
            if outcome.is_err() {
                held.clear();
            }
            tracing::debug!(before, strays = held.len(), "files without a row in the index");
        });
        outcome?;
    }
    if doubtful > 0 {
        let many = if found > STRAYS_MAX { "more than " } else { "" };
        let doubtful = doubtful.min(STRAYS_MAX);
        shared.alarm(format!(
            "{many}{doubtful} objects have no receipt and are kept: `prelim verify` names them, \
             `prelim rebuild` enters them"
        ));
    }
    if removed > 0 {
        tracing::info!(files = removed, "files that were never acknowledged are removed");
    }
    Ok(removed)
}

/// Files that the index does not speak of. Those that come meanwhile may be among them.
fn candidates(shared: &Shared, go_on: &dyn Fn() -> bool) -> Result<Vec<String>, StoreError> {
    let deferred = shared.read(|view| view.scan::<DeferredRow>(key::DEFERRED))?;
    let deferred: HashSet<String> = deferred.into_iter().map(|row| row.receipt.object).collect();
    let mut strays = Vec::new();
    rebuild::each_study(&shared.data, &mut |study, objects| {
        if !go_on() {
            return Err(StoreError::Closed);
        }
        let found = shared.read(|view| {
            // A removal that was interrupted is finished elsewhere.
            match study.map_or(Ok(false), |study| view.has(&key::going(study)))? {
                true => Ok(Vec::new()),
                false => rebuild::without_receipt(view, study, objects),
            }
        })?;
        let left = (STRAYS_MAX + 1).saturating_sub(strays.len());
        let found = found.into_iter().filter(|object| !deferred.contains(object));
        strays.extend(found.take(left));
        Ok(())
    })?;
    Ok(strays)
}

/// Takes from `held` what the ledger speaks of or cannot vouch for. Whatever got its receipt before
/// it was held is in the ledger that is read here.
///
/// - `last`: number of the last record at the start.
/// - `doubtful`: how many no record speaks of, and stay.
fn spare(
    shared: &Shared,
    last: u64,
    held: &mut HashSet<String>,
    doubtful: &mut usize,
) -> Result<(), StoreError> {
    let mut understood = true;
    let mut end_at = None;
    ledger::walk(&shared.data.join(folder::LEDGER), &Start::Beginning, &mut |found| {
        let body = match &found {
            Found::Damage(_) => None,
            Found::Record(record) => serde_json::from_slice::<Body>(record.payload).ok(),
        };
        let Some(body) = body else {
            understood = false;
            return Ok(());
        };
        if matches!(found, Found::Record(record) if record.position.number == last) {
            end_at = Some(SystemTime::from(body.at));
        }
        for receipt in body.commits.iter().flatten().filter_map(Event::receipt) {
            held.remove(&receipt.object);
        }
        Ok(())
    })?;
    let spoken_of = held.len();
    // What cannot be read may speak of any of them.
    let end_at = end_at.filter(|_| understood);
    held.retain(|object| {
        let written = fs::metadata(shared.data.join(object)).and_then(|file| file.modified());
        let Some((written, end_at)) = written.ok().zip(end_at) else { return false };
        written <= end_at + AFTER_MAX
    });
    *doubtful = spoken_of - held.len();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::VerifyMode;
    use crate::store::testing;
    use crate::store::testing::at;
    use crate::store::testing::receipt;
    use crate::store::testing::sop;
    use crate::store::testing::store_instance;

    /// As after a kill. Time stands still at `at(0)`.
    fn sweep_now(store: &Store) -> usize {
        remove_strays(&store.shared, store.shared.committed().number, &|| true).unwrap()
    }

    /// Placed, and killed before its receipt.
    fn half(store: &Store, n: u32, instance: u32, written: i64) -> String {
        let half = receipt(n, instance, "a");
        let object = store.begin_object().unwrap();
        let object =
            object.place(&half.study_uid, &half.series_uid, &half.sop_instance_uid).unwrap();
        let file = fs::File::options().write(true).open(store.data().join(&object)).unwrap();
        file.set_modified(at(written).into()).unwrap();
        object
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_never_acknowledged_goes_and_what_the_index_lost_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        store_instance(&store, 1, 1, "a").await;
        store_instance(&store, 1, 2, "b").await;
        let gone = half(&store, 2, 1, 5);
        let late = half(&store, 2, 2, 60);
        drop(store);
        let (store, _) = testing::open(dir.path());
        // On its way again, while it is looked for what the kill left.
        let coming = half(&store, 3, 1, 0);
        let lost = store.instance(&sop(1, 2)).unwrap().unwrap().receipt.object;
        store
            .read(|view| {
                let mut txn = view.begin();
                txn.remove_instance(&sop(1, 2));
                view.publish(txn.finish()?, view.position())
            })
            .unwrap();
        assert_eq!(sweep_now(&store), 1);
        assert!(!dir.path().join(gone).exists());
        assert!(dir.path().join(lost).is_file(), "the ledger speaks of it");
        assert!(dir.path().join(coming).is_file());
        assert!(dir.path().join(late).is_file(), "the ledger ends before it was written");
        let reasons = store.health().reasons;
        assert!(
            reasons.iter().any(|why| why.starts_with("1 objects have no receipt")),
            "{reasons:?}"
        );
        let report = store.verify_running(VerifyMode::Full, &mut |_| {}).unwrap();
        assert_eq!(report.gaps.len(), 1, "a receipt without its row: {report:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_goes_by_a_ledger_that_cannot_be_read_or_too_much_would() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = testing::open(dir.path());
        for instance in 1..=40 {
            store_instance(&store, 1, instance, "a").await;
        }
        let stray = half(&store, 2, 1, 0);
        drop(store);
        let (store, _) = testing::open(dir.path());
        let ledger = ledger::segment_path(&dir.path().join(folder::LEDGER), 1);
        let whole = fs::read(&ledger).unwrap();
        let mut bytes = whole.clone();
        bytes[whole.len() / 2] ^= 1;
        fs::write(&ledger, bytes).unwrap();
        assert_eq!(sweep_now(&store), 0);
        assert!(dir.path().join(&stray).is_file());
        fs::write(&ledger, whole).unwrap();
        let folder = dir.path().join(&stray).parent().unwrap().to_owned();
        for n in 0..STRAYS_MAX {
            fs::write(folder.join(format!("1.2.{n}.dcm")), "x").unwrap();
        }
        assert_eq!(sweep_now(&store), 0);
        fs::remove_file(folder.join("1.2.0.dcm")).unwrap();
        assert_eq!(sweep_now(&store), 1, "the others are too young");
        assert!(!dir.path().join(&stray).exists());
    }
}
