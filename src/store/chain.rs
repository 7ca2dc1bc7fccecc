//! Whether the ledger is what was written: its hash chain, from the first record to the last.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::store::commit::Body;
use crate::store::commit::Shared;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::folder;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Start;
use crate::store::recover;

pub use crate::store::ledger::Hash;

/// Listed; beyond that they are counted.
const PROBLEMS_MAX: usize = 1000;

/// What a check of the chain found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChainReport {
    pub records: u64,
    pub events: u64,
    /// When the first and the last record were written.
    pub first_at: Option<Timestamp>,
    pub last_at: Option<Timestamp>,
    /// Of the last record: settles everything before it.
    pub head: Hash,
    /// One line for each place where the chain is broken: file, record, what is wrong.
    pub problems: Vec<String>,
    /// All, also those that are not listed.
    pub problems_total: u64,
    /// Of the head that was written down before: number of its record.
    pub earlier: Option<u64>,
    /// Bytes at the end of a node that did not end in order; the next start completes or cuts them.
    pub unfinished_bytes: u64,
}

impl ChainReport {
    pub fn is_whole(&self) -> bool {
        self.problems_total == 0
    }

    fn problem(&mut self, what: String) {
        self.problems_total += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }
}

pub fn verify(data: &Path, earlier: Option<Hash>) -> Result<ChainReport, StoreError> {
    let format = data.join("format");
    fs::metadata(&format).doing("looking for a data folder at", &format)?;
    let _held = folder::hold(data)?;
    let in_journal = recover::find(data)?.live.is_some();
    let (mut report, torn) = walk(data, earlier, u64::MAX)?;
    match torn {
        Some(torn) if in_journal => report.unfinished_bytes = torn.bytes,
        Some(ledger::Torn { segment, offset, bytes }) => report.problem(format!(
            "ledger file {segment:08}.log, {bytes} bytes at {offset}: the last record is incomplete"
        )),
        None => {}
    }
    Ok(report)
}

pub fn verify_running(shared: &Shared, earlier: Option<Hash>) -> Result<ChainReport, StoreError> {
    let committed = shared.committed();
    let (mut report, _) = walk(&shared.data, earlier, committed.number)?;
    if committed.number > 0 && report.head != committed.hash {
        report.problem(format!(
            "record {} is not the one that was acknowledged last: the end is missing or was replaced",
            committed.number
        ));
    }
    Ok(report)
}

/// - `last`: number of the last record to look at; what follows is being written.
fn walk(
    data: &Path,
    earlier: Option<Hash>,
    last: u64,
) -> Result<(ChainReport, Option<ledger::Torn>), StoreError> {
    let mut report = ChainReport::default();
    let mut noted = Vec::new();
    let walked = ledger::walk(&data.join(folder::LEDGER), &Start::Beginning, &mut |found| {
        let record = match found {
            Found::Damage(damage) => {
                report.problem(damage.to_string());
                return Ok(());
            }
            Found::Record(record) if record.position.number > last => return Ok(()),
            Found::Record(record) => record,
        };
        let at = record.position;
        report.records += 1;
        report.head = at.hash;
        if earlier == Some(at.hash) {
            report.earlier = Some(at.number);
        }
        match serde_json::from_slice::<Body>(record.payload) {
            Ok(body) => {
                report.events += body.commits.iter().map(|events| events.len() as u64).sum::<u64>();
                report.first_at.get_or_insert(body.at);
                report.last_at = Some(body.at);
                for event in body.commits.into_iter().flatten() {
                    if let Event::LedgerDamaged { what, at, .. } = event {
                        noted.extend(what.into_iter().map(|what| (what, at)));
                    }
                }
            }
            Err(_) => report.problem(format!(
                "ledger file {:08}.log, record {}: it cannot be understood",
                at.segment, at.number
            )),
        }
        Ok(())
    })?;
    // Once found, it is not whole again, whatever became of the bytes.
    for (what, at) in noted {
        if !report.problems.contains(&what) {
            report.problem(format!("{what} (found on {at})"));
        }
    }
    if let Some(hash) = earlier.filter(|_| report.earlier.is_none()) {
        report.problem(format!(
            "no record has the hash {}: the ledger was cut off, or written anew",
            String::from(hash)
        ));
    }
    Ok((report, walked.torn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;
    use crate::store::testing;

    async fn filled(data: &Path) {
        let (store, _) = testing::open(data);
        for instance in 1..=6 {
            testing::store_instance(&store, 1, instance, "pixels").await;
        }
    }

    #[tokio::test]
    async fn an_earlier_head_is_part_of_the_chain_until_the_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        let before = Store::verify_chain(data, None).unwrap();
        assert!(before.is_whole() && before.events >= 6 && before.first_at.is_some(), "{before:?}");
        let path = ledger::segment_path(&data.join(folder::LEDGER), 1);
        let kept = fs::read(&path).unwrap();
        {
            let (store, _) = testing::open(data);
            testing::store_instance(&store, 2, 1, "pixels").await;
            let running = store.verify_chain_running(Some(before.head)).unwrap();
            assert!(running.is_whole() && running.records > before.records, "{running:?}");
            assert_eq!(running.earlier, Some(before.records));
        }
        let after = Store::verify_chain(data, Some(before.head)).unwrap();
        assert!(after.is_whole(), "{after:?}");

        // The end cut off between two records: the chain alone does not show it.
        fs::write(&path, kept).unwrap();
        assert!(Store::verify_chain(data, None).unwrap().is_whole());
        let cut = Store::verify_chain(data, Some(after.head)).unwrap();
        assert!(cut.problems[0].contains("no record has the hash"), "{cut:?}");
    }

    #[tokio::test]
    async fn a_changed_record_is_named_by_file_and_number() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path();
        filled(data).await;
        let path = ledger::segment_path(&data.join(folder::LEDGER), 1);
        let mut bytes = fs::read(&path).unwrap();
        // Within the first record: 64 bytes of the file's head, 52 of the record's.
        bytes[64 + 52 + 20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let report = Store::verify_chain(data, None).unwrap();
        assert!(!report.is_whole());
        assert!(report.problems[0].contains("00000001.log"), "{report:?}");
    }
}
