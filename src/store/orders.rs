//! Orders that were sent to us, until their images come. They name patients, so they stand in files
//! of their own and not in the ledger: `orders/<hash>/<hash>.json`, by each number they may be found.

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use jiff::Timestamp;

use crate::domain::order::Order;
use crate::files;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::folder;

const ORDERS: &str = "orders";
/// Under one number: procedures of one request, and patients of one number.
const PER_NUMBER_MAX: usize = 16;

pub struct Orders {
    folder: PathBuf,
    writing: Mutex<()>,
}

impl Orders {
    pub fn open(data: &Path) -> io::Result<Orders> {
        let folder = data.join(ORDERS);
        folder::make_folder(&folder)?;
        Ok(Orders { folder, writing: Mutex::new(()) })
    }

    /// Keeps an order under each of its numbers; it survives a power cut when this returns. The same
    /// one of the same patient again takes the place of the first.
    pub fn keep(&self, order: &Order) -> Result<(), StoreError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for number in order.numbers.iter().chain([&order.study_uid]) {
            if number.is_empty() {
                continue;
            }
            let path = self.path(number);
            let (before, mut known): (Vec<Order>, Vec<Order>) =
                read(&path).into_iter().partition(|other| is_same(other, order));
            let now = before.last().map_or_else(|| order.clone(), |it| order.completed_by(it));
            known.push(now);
            let from = known.len().saturating_sub(PER_NUMBER_MAX);
            let bytes = serde_json::to_vec(&known[from..]).unwrap_or_default();
            let parent = path.parent().unwrap_or(&self.folder);
            if !parent.is_dir() {
                folder::make_folder(parent).doing("making the folder", parent)?;
                files::sync_folder(&self.folder).doing("syncing", &self.folder)?;
            }
            files::write_whole(&path, &bytes).doing("writing", &path)?;
        }
        Ok(())
    }

    /// All that are kept under any of these numbers.
    pub fn of<'a>(&self, numbers: impl IntoIterator<Item = &'a str>) -> Vec<Order> {
        let mut found: Vec<Order> = Vec::new();
        for number in numbers.into_iter().filter(|number| !number.is_empty()) {
            for order in read(&self.path(number)) {
                if !found.contains(&order) {
                    found.push(order);
                }
            }
        }
        found
    }

    /// Removes what was written before `at`; how many files went.
    pub fn forget_before(&self, at: Timestamp) -> usize {
        let entries = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries(&self.folder).flat_map(|part| entries(&part.path()));
        let is_old = |entry: &fs::DirEntry| {
            let written = entry.metadata().and_then(|meta| meta.modified()).ok();
            written.and_then(|time| Timestamp::try_from(time).ok()).is_some_and(|time| time < at)
        };
        files.filter(is_old).filter(|entry| fs::remove_file(entry.path()).is_ok()).count()
    }

    fn path(&self, number: &str) -> PathBuf {
        let hash = blake3::hash(number.trim().as_bytes()).to_hex();
        self.folder.join(&hash[..2]).join(format!("{}.json", &hash[..40]))
    }
}

/// Whether they are two words on one request of one patient.
fn is_same(one: &Order, other: &Order) -> bool {
    one.placer_number == other.placer_number
        && one.filler_number == other.filler_number
        && one.requested_procedure_id == other.requested_procedure_id
        && one.patient_ids == other.patient_ids
}

/// What cannot be read is no order: images are read without it.
fn read(path: &Path) -> Vec<Order> {
    let Ok(bytes) = fs::read(path) else { return Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "a file of orders cannot be read");
        Vec::new()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(placer: &str, patient: &str, reason: &str) -> Order {
        Order {
            placer_number: placer.into(),
            numbers: vec!["ACC1".into(), placer.into()],
            study_uid: "1.2.3".into(),
            patient_ids: vec![patient.into()],
            reason: reason.into(),
            ..Order::empty("test", Timestamp::UNIX_EPOCH)
        }
    }

    #[test]
    fn an_order_is_found_by_each_of_its_numbers_until_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let orders = Orders::open(dir.path()).unwrap();
        orders.keep(&order("P1", "A", "first")).unwrap();
        orders.keep(&order("P1", "A", "changed")).unwrap();
        // Its state has changed, and that is all that it says.
        orders.keep(&Order { study_uid: "1.2.3".into(), ..order("P1", "A", "") }).unwrap();
        orders.keep(&order("P2", "A", "second procedure")).unwrap();
        orders.keep(&order("P1", "B", "another patient")).unwrap();
        drop(orders);
        let orders = Orders::open(dir.path()).unwrap();
        let reasons = |number: &str| {
            let found = orders.of([number, number, ""]);
            found.into_iter().map(|order| order.reason).collect::<Vec<_>>()
        };
        assert_eq!(reasons("ACC1"), ["changed", "second procedure", "another patient"]);
        assert_eq!(reasons("P2"), ["second procedure"]);
        assert_eq!(reasons("1.2.3").len(), 3);
        assert_eq!(reasons("../../x"), [""; 0]);
        for nth in 0..40 {
            orders.keep(&order(&format!("X{nth}"), "A", "many")).unwrap();
        }
        assert_eq!(orders.of(["ACC1"]).len(), PER_NUMBER_MAX);
        assert_eq!(orders.forget_before(Timestamp::UNIX_EPOCH), 0);
        assert!(orders.forget_before(Timestamp::MAX) > 40);
        assert_eq!(orders.of(["ACC1"]), []);
    }
}
