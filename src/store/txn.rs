//! A transaction: changes in the making, seen only by whoever makes them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::error::StoreError;
use crate::store::key;
use crate::store::recent::Known;
use crate::store::recent::Layer;
use crate::store::recent::Row;
use crate::store::rows::InstanceRow;
use crate::store::rows::JobRow;
use crate::store::view::View;

/// What the queue has to hear of a job.
#[derive(Debug, Clone)]
pub struct JobChange {
    pub row: JobRow,
    /// A try of it came to an end: whoever held it holds it no more.
    pub ended: bool,
}

/// The outcome of a transaction, not yet visible.
pub struct Changes {
    pub layer: Layer,
    pub jobs: Vec<JobChange>,
}

/// Reads see the changes made so far, the view does not.
pub struct Txn<'a> {
    view: &'a View,
    layer: Layer,
    /// What was found below for instances that were asked for.
    asked: HashMap<SopInstanceUid, Option<Arc<InstanceRow>>>,
    /// Jobs whose rows changed, and whether a try ended.
    jobs: BTreeMap<String, bool>,
}

impl<'a> Txn<'a> {
    pub fn new(view: &'a View) -> Txn<'a> {
        let (layer, asked, jobs) = Default::default();
        Txn { view, layer, asked, jobs }
    }

    pub fn get<T: Row>(&mut self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.layer.rows.get(key) {
            Some(change) => change.get(),
            None => self.view.get(key),
        }
    }

    pub fn has(&mut self, key: &[u8]) -> Result<bool, StoreError> {
        match self.layer.rows.get(key) {
            Some(change) => Ok(change.is_there()),
            None => self.view.has(key),
        }
    }

    pub fn put<T: Row>(&mut self, key: Vec<u8>, row: T) {
        self.layer.put(key, Arc::new(row), false);
    }

    /// Puts a row whose key is known to be free.
    pub fn put_new<T: Row>(&mut self, key: Vec<u8>, row: T) {
        self.layer.put(key, Arc::new(row), true);
    }

    pub fn remove(&mut self, key: Vec<u8>) {
        self.layer.remove(key);
    }

    /// Keys that begin with `prefix`, in order.
    pub fn keys(&mut self, prefix: &[u8]) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys: BTreeSet<Vec<u8>> = self.view.keys(prefix)?.into_iter().collect();
        for (key, change) in self.layer.range(prefix) {
            match change.is_there() {
                true => keys.insert(key.clone()),
                false => keys.remove(key),
            };
        }
        Ok(keys.into_iter().collect())
    }

    pub fn instance(
        &mut self,
        sop: &SopInstanceUid,
    ) -> Result<Option<Arc<InstanceRow>>, StoreError> {
        match self.layer.instance(sop) {
            Known::Row(row) => return Ok(Some(row)),
            Known::Removed => return Ok(None),
            Known::Nothing => {}
        }
        if let Some(row) = self.asked.get(sop) {
            return Ok(row.clone());
        }
        let row = self.view.instance(sop)?;
        self.asked.insert(sop.clone(), row.clone());
        Ok(row)
    }

    pub fn put_instance(&mut self, row: InstanceRow) {
        self.layer.put_instance(Arc::new(row));
    }

    pub fn remove_instance(&mut self, sop: &SopInstanceUid) {
        self.layer.remove_instance(sop);
    }

    /// In the order of arrival.
    pub fn instances(&mut self, study: &StudyUid) -> Result<Vec<Arc<InstanceRow>>, StoreError> {
        let mut changed = changed([Some(&self.layer)], study);
        let below = self.view.instances(study)?;
        let mut rows: Vec<_> = below
            .into_iter()
            .filter_map(|row| changed.remove(&row.receipt.sop_instance_uid).unwrap_or(Some(row)))
            .collect();
        rows.extend(changed.into_values().flatten());
        rows.sort_by_key(|row| row.order);
        Ok(rows)
    }

    /// Writes the row of a job; the queue hears of it when the changes are published.
    pub fn put_job(&mut self, row: &JobRow) {
        self.jobs.entry(row.job.id.clone()).or_insert(false);
        self.put(key::job(&row.job.id), row.clone());
    }

    pub fn job_ended(&mut self, id: &str) {
        self.jobs.insert(id.to_owned(), true);
    }

    pub fn finish(mut self) -> Result<Changes, StoreError> {
        let ids = std::mem::take(&mut self.jobs);
        let mut jobs = Vec::new();
        for (id, ended) in ids {
            let row = self.get::<JobRow>(&key::job(&id))?;
            jobs.extend(row.map(|row| JobChange { row, ended }));
        }
        Ok(Changes { layer: self.layer, jobs })
    }
}

/// What `layers` (the older first) change of the instances of a study; none: removed.
pub fn changed<'l>(
    layers: impl IntoIterator<Item = Option<&'l Layer>>,
    study: &StudyUid,
) -> HashMap<SopInstanceUid, Option<Arc<InstanceRow>>> {
    let mut changed = HashMap::new();
    for layer in layers.into_iter().flatten() {
        changed.extend(layer.removed.iter().map(|sop| (sop.clone(), None)));
        let rows = layer.instances.iter().filter(|(_, row)| row.receipt.study_uid == *study);
        changed.extend(rows.map(|(sop, row)| (sop.clone(), Some(Arc::clone(row)))));
    }
    changed
}
