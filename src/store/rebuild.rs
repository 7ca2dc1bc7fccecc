//! Makes the index anew from the ledger, and the ledger's missing receipts from the objects.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::domain::clock::Clock;
use crate::store::commit::Committer;
use crate::store::commit::Request;
use crate::store::config::Config;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::objects;
use crate::store::open;
use crate::store::open::Adopting;
use crate::store::verify;
use crate::store::verify::Progress;

/// Reads from a Part 10 file what its receipt would have said (`object` is filled in here).
/// `None`: it cannot be read. Scans, never parses: the file may be damaged.
pub type Facts<'a> = &'a dyn Fn(&Path) -> Option<Receipt>;

#[derive(Debug, Clone, Default, Serialize)]
pub struct RebuildReport {
    /// Records of the ledger that were replayed.
    pub records: u64,
    /// Where the old index is.
    pub set_aside: Option<PathBuf>,
    /// What of the ledger cannot be read.
    pub damage: Vec<String>,
    pub objects: u64,
    /// Objects that had no receipt and have one now.
    pub adopted: u64,
    /// Objects whose instance has its receipt for another file.
    pub duplicates: Vec<String>,
    /// Objects that have no receipt and cannot be read.
    pub unreadable: Vec<String>,
}

pub fn rebuild(
    data: &Path,
    config: &Config,
    clock: Arc<dyn Clock>,
    facts: Facts<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<RebuildReport, StoreError> {
    let format = data.join("format");
    std::fs::metadata(&format).doing("looking for a data folder at", &format)?;
    let state = data.join(folder::STATE);
    let mut set_aside = None;
    {
        let _held = folder::hold(data)?;
        if state.exists() {
            set_aside = Some(folder::set_aside(&state, "old", clock.now())?);
        }
    }
    progress(Progress { step: "replaying the ledger", done: 0, total: None });
    let adopting = Adopting { facts, always: true };
    let (_, _, opened, adopted) = open::open(data, config, clock, adopting, progress)?;
    let Adopted { objects, adopted, duplicates, unreadable } = adopted;
    let (records, damage) = (opened.replayed, opened.damage);
    Ok(RebuildReport { records, set_aside, damage, objects, adopted, duplicates, unreadable })
}

#[derive(Debug, Clone, Default)]
pub struct Adopted {
    pub objects: u64,
    pub adopted: u64,
    pub duplicates: Vec<String>,
    pub unreadable: Vec<String>,
}

/// Enters a receipt for each object that has none.
pub fn adopt(
    committer: &mut Committer,
    data: &Path,
    facts: Facts<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Adopted, StoreError> {
    let shared = Arc::clone(&committer.shared);
    let mut report = Adopted::default();
    let mut orphans = Vec::new();
    objects::walk_files(data, folder::OBJECTS, &mut |object, _| {
        report.objects += 1;
        if report.objects.is_multiple_of(100) {
            let step = "looking at each object";
            progress(Progress { step, done: report.objects, total: None });
        }
        if !shared.read(|view| verify::has_receipt(view, object))? {
            orphans.push(object.to_owned());
        }
        Ok(())
    })?;
    let total = orphans.len() as u64;
    for (i, object) in orphans.into_iter().enumerate() {
        progress(Progress { step: "adopting objects", done: i as u64, total: Some(total) });
        let Some(mut receipt) = facts(&data.join(&object)) else {
            report.unreadable.push(object);
            continue;
        };
        if shared.read(|view| view.instance(&receipt.sop_instance_uid))?.is_some() {
            report.duplicates.push(object);
            continue;
        }
        receipt.object = object;
        let event = Event::InstanceStored { receipt };
        for answer in committer.commit(&[Request::Events(vec![event])]) {
            answer?;
        }
        report.adopted += 1;
    }
    Ok(report)
}
