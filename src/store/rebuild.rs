//! Makes the index anew from the ledger, and the ledger's missing receipts from the objects.

use std::collections::HashSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::clock::Clock;
use crate::domain::uid::StudyUid;
use crate::store::commit::Shared;
use crate::store::config::Config;
use crate::store::error::Doing as _;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::gaps::Progress;
use crate::store::key;
use crate::store::objects;
use crate::store::open;
use crate::store::open::Adopting;
use crate::store::open::Enter;
use crate::store::retention;
use crate::store::view::View;

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
    let adopting = Adopting { facts, always: true, at_once_bytes: None };
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

/// Enters a receipt for each object that has none. Nothing is read for that.
///
/// - `until`: objects written since then are left alone: they may be on their way.
pub fn adopt(
    shared: &Shared,
    facts: Facts<'_>,
    until: Option<Timestamp>,
    commit: Enter<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Adopted, StoreError> {
    let mut report = Adopted::default();
    let mut orphans = Vec::new();
    each_study(&shared.data, &mut |study, objects| {
        report.objects += objects.len() as u64;
        progress(Progress {
            step: "looking at each object".into(),
            done: report.objects,
            total: None,
        });
        orphans.clear();
        // What a removal has left goes with the next start.
        let going = |view: &View| study.map_or(Ok(false), |study| view.has(&key::going(study)));
        if !shared.read(going)? {
            orphans.extend(shared.read(|view| without_receipt(view, study, objects))?);
        }
        if let Some(until) = until {
            orphans.retain(|object| {
                retention::is_older(&shared.data.join(object), until)
                    && !shared.objects.is_on_its_way(object)
            });
        }
        for object in orphans.drain(..) {
            let Some(mut receipt) = facts(&shared.data.join(&object)) else {
                report.unreadable.push(object);
                continue;
            };
            if shared.read(|view| view.instance(&receipt.sop_instance_uid))?.is_some() {
                report.duplicates.push(object);
                continue;
            }
            receipt.object = object;
            commit(Event::InstanceAdopted { receipt })?;
            report.adopted += 1;
        }
        Ok(())
    })?;
    Ok(report)
}

type VisitStudy<'a> = dyn FnMut(Option<&StudyUid>, &[String]) -> Result<(), StoreError> + 'a;

/// Walks the objects of one study after the other; `None` for files that stand where no study does.
pub fn each_study(data: &Path, visit: &mut VisitStudy<'_>) -> Result<(), StoreError> {
    let mut at: Option<StudyUid> = None;
    let mut objects: Vec<String> = Vec::new();
    let mut hand_on = |study: &Option<StudyUid>, objects: &mut Vec<String>| {
        if !objects.is_empty() {
            visit(study.as_ref(), objects)?;
            objects.clear();
        }
        Ok::<(), StoreError>(())
    };
    objects::walk_files(data, folder::OBJECTS, &mut |object, _| {
        // objects/<prefix>/<study>/<series>/<file>
        let study = object.split('/').nth(2).and_then(|part| StudyUid::parse(part).ok());
        if study != at {
            hand_on(&at, &mut objects)?;
            at = study;
        }
        objects.push(object.to_owned());
        Ok(())
    })?;
    hand_on(&at, &mut objects)
}

/// Those of a study's objects that no receipt speaks of.
pub fn without_receipt(
    view: &View,
    study: Option<&StudyUid>,
    objects: &[String],
) -> Result<Vec<String>, StoreError> {
    let rows = match study {
        Some(study) => view.instances(study)?,
        None => Vec::new(),
    };
    let known: HashSet<&str> = rows.iter().flat_map(|row| row.files()).collect();
    Ok(objects.iter().filter(|object| !known.contains(object.as_str())).cloned().collect())
}
