//! Changes that are applied and not yet in sled: rows as values, encoded when they are written.
//!
//! An instance changes the rows of its study, of its revision and the list of studies. Kept here,
//! these rows are written to sled once for hundreds of instances; the ledger has each of them.

use std::any::Any;
use std::collections::BTreeMap;
use std::collections::HashMap;
use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::domain::uid::SopInstanceUid;
use crate::store::error::StoreError;
use crate::store::ledger::Position;
use crate::store::rows::InstanceRow;

/// A row in memory.
pub trait AnyRow: Any + Debug + Send + Sync {
    fn encode(&self) -> Result<Vec<u8>, StoreError>;
    fn as_any(&self) -> &dyn Any;
}

impl<T: Serialize + Any + Debug + Send + Sync> AnyRow for T {
    fn encode(&self) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(self).map_err(StoreError::index)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// What every kind of row can do.
pub trait Row: AnyRow + Clone + DeserializeOwned {}
impl<T: AnyRow + Clone + DeserializeOwned> Row for T {}

pub fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|error| StoreError::index(format!("a row: {error}")))
}

#[derive(Debug, Clone)]
pub struct Change {
    /// `None`: removed.
    row: Option<Arc<dyn AnyRow>>,
    /// There is no such row below: its removal leaves nothing to do.
    new: bool,
}

impl Change {
    pub fn get<T: Row>(&self) -> Result<Option<T>, StoreError> {
        let Some(row) = &self.row else { return Ok(None) };
        match (**row).as_any().downcast_ref::<T>() {
            Some(row) => Ok(Some(row.clone())),
            None => Ok(Some(parse(&row.encode()?)?)),
        }
    }

    pub fn is_there(&self) -> bool {
        self.row.is_some()
    }

    pub fn encode(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.row.as_ref().map(|row| (**row).encode()).transpose()
    }
}

/// What a layer knows of an instance.
pub enum Known {
    Row(Arc<InstanceRow>),
    Removed,
    /// Ask below.
    Nothing,
}

/// A set of changes over what is below.
#[derive(Debug, Default)]
pub struct Layer {
    pub rows: BTreeMap<Vec<u8>, Change>,
    pub instances: HashMap<SopInstanceUid, Arc<InstanceRow>>,
    /// Instances that are not to be found below any more. One that came again stands in
    /// `instances` too.
    pub removed: HashSet<SopInstanceUid>,
    /// The last record of the ledger in it.
    pub position: Position,
}

impl Layer {
    pub fn len(&self) -> usize {
        self.rows.len() + self.instances.len() + self.removed.len()
    }

    pub fn put(&mut self, key: Vec<u8>, row: Arc<dyn AnyRow>, new: bool) {
        self.change(key, Change { row: Some(row), new });
    }

    pub fn remove(&mut self, key: Vec<u8>) {
        self.change(key, Change { row: None, new: false });
    }

    fn change(&mut self, key: Vec<u8>, mut change: Change) {
        match self.rows.get_mut(&key) {
            Some(before) => {
                change.new = before.new;
                match change.row.is_none() && change.new {
                    true => drop(self.rows.remove(&key)),
                    false => *before = change,
                }
            }
            None if change.row.is_none() && change.new => {}
            None => drop(self.rows.insert(key, change)),
        }
    }

    pub fn instance(&self, sop: &SopInstanceUid) -> Known {
        match self.instances.get(sop) {
            Some(row) => Known::Row(Arc::clone(row)),
            None if self.removed.contains(sop) => Known::Removed,
            None => Known::Nothing,
        }
    }

    pub fn put_instance(&mut self, row: Arc<InstanceRow>) {
        self.instances.insert(row.receipt.sop_instance_uid.clone(), row);
    }

    pub fn remove_instance(&mut self, sop: &SopInstanceUid) {
        self.instances.remove(sop);
        self.removed.insert(sop.clone());
    }

    /// Takes over the changes of a later layer.
    pub fn merge(&mut self, later: Layer) {
        for (key, change) in later.rows {
            self.change(key, change);
        }
        for sop in later.removed {
            self.remove_instance(&sop);
        }
        self.instances.extend(later.instances);
        self.position = later.position;
    }

    /// Its rows whose keys begin with `prefix`, in order.
    pub fn range<'a>(
        &'a self,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Change)> {
        self.rows.range(prefix.to_vec()..).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_leaves_nothing_and_what_was_below_is_removed() {
        let mut layer = Layer::default();
        layer.put(b"new".to_vec(), Arc::new(1_u32), true);
        layer.put(b"old".to_vec(), Arc::new(2_u32), false);
        let mut later = Layer::default();
        later.remove(b"new".to_vec());
        later.remove(b"old".to_vec());
        later.put(b"third".to_vec(), Arc::new(3_u32), true);
        later.put(b"third".to_vec(), Arc::new(4_u32), false);
        layer.merge(later);
        let keys: Vec<_> = layer.rows.iter().map(|(key, row)| (key.as_slice(), row)).collect();
        assert_eq!(keys.len(), 2, "{keys:?}");
        assert!(keys[0].0 == b"old" && !keys[0].1.is_there());
        assert_eq!(keys[1].1.get::<u32>().unwrap(), Some(4));
        // A row of another type in memory is read as what it is on disk.
        assert_eq!(keys[1].1.get::<u64>().unwrap(), Some(4));
    }
}
