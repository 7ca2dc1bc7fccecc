//! The ledger as those read it who follow it: what stands behind a place that they remember.

use jiff::Timestamp;

use crate::store::commit::Body;
use crate::store::commit::Shared;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::folder;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Position;
use crate::store::ledger::Start;

/// One record.
#[derive(Debug, Clone)]
pub struct Written {
    /// Its end: what stands behind it is read next.
    pub end: Position,
    pub at: Timestamp,
    pub events: Vec<Event>,
}

/// Records behind `after` that are acknowledged, in order. What cannot be read is left out.
pub fn after(
    shared: &Shared,
    after: &Position,
    records_max: usize,
) -> Result<Vec<Written>, StoreError> {
    let last = shared.committed().number;
    let mut records = Vec::new();
    if after.number >= last {
        return Ok(records);
    }
    let walked =
        ledger::walk(&shared.data.join(folder::LEDGER), &Start::After(*after), &mut |found| {
            let Found::Record(record) = found else { return Ok(()) };
            if record.position.number > last || records.len() >= records_max {
                return Err(StoreError::Closed);
            }
            let Ok(body) = serde_json::from_slice::<Body>(record.payload) else { return Ok(()) };
            let events = body.commits.into_iter().flatten().collect();
            records.push(Written { end: record.position, at: body.at, events });
            Ok(())
        });
    match walked {
        // Closed: by ourselves.
        Ok(_) | Err(StoreError::Closed) => Ok(records),
        Err(error) => Err(error),
    }
}
