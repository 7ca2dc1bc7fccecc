//! Compares each study's rows with its files, for a folder at rest and for a node at work.

use std::collections::HashMap;
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::commit::Body;
use crate::store::commit::Shared;
use crate::store::error::StoreError;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::gaps::Gap;
use crate::store::gaps::Progress;
use crate::store::gaps::VerifyMode;
use crate::store::gaps::VerifyReport;
use crate::store::key;
use crate::store::ledger;
use crate::store::ledger::Found;
use crate::store::ledger::Start;
use crate::store::objects;
use crate::store::open;
use crate::store::packed;
use crate::store::part10;
use crate::store::rebuild;
use crate::store::retention;
use crate::store::rows::ArtefactRow;
use crate::store::rows::DeferredRow;
use crate::store::rows::DeliveryRow;
use crate::store::rows::DeliveryState;
use crate::store::verify;
use crate::store::view::View;

/// Where rows are read.
pub enum Source<'a> {
    View(&'a View),
    Node(&'a Shared),
}

impl Source<'_> {
    fn read<T>(&self, f: impl FnOnce(&View) -> Result<T, StoreError>) -> Result<T, StoreError> {
        match self {
            Source::View(view) => f(view),
            Source::Node(shared) => shared.read(f),
        }
    }
}

/// Instances that have a receipt in the ledger, by hash, up to a record.
pub struct Receipts {
    hashes: HashSet<u64>,
    last: u64,
}

fn hash(sop: &SopInstanceUid) -> u64 {
    u64::from_le_bytes(packed::hash_of_instance(sop).1)
}

/// Reads the whole ledger while the node writes it, and looks for the row of each receipt.
pub fn check_ledger(
    report: &mut VerifyReport,
    shared: &Shared,
    folder: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Receipts, StoreError> {
    let last = shared.committed().number;
    let mut receipts = HashSet::new();
    let mut missing: HashMap<StudyUid, Vec<SopInstanceUid>> = HashMap::new();
    let mut damage = Vec::new();
    ledger::walk(folder, &Start::Beginning, &mut |found| {
        let record = match found {
            Found::Damage(what) => {
                damage.push(what.to_string());
                return Ok(());
            }
            // Being written, or written since.
            Found::Record(record) if record.position.number > last => return Ok(()),
            Found::Record(record) => record,
        };
        report.records += 1;
        let step = "reading the ledger";
        progress(Progress { step: step.into(), done: record.position.number, total: Some(last) });
        let Ok(body) = serde_json::from_slice::<Body>(record.payload) else {
            damage.push(format!("record {} cannot be understood", record.position.number));
            return Ok(());
        };
        for event in body.commits.iter().flatten() {
            match event {
                Event::InstanceStored { receipt }
                | Event::InstanceSetAside { receipt }
                | Event::InstanceAdopted { receipt } => {
                    let sop = &receipt.sop_instance_uid;
                    receipts.insert(hash(sop));
                    if shared.read(|view| view.instance(sop))?.is_none() {
                        missing.entry(receipt.study_uid.clone()).or_default().push(sop.clone());
                    }
                }
                Event::InstancesRemoved { study_uid, .. }
                | Event::StudyForgotten { study_uid, .. } => {
                    missing.remove(study_uid);
                }
                _ => {}
            }
        }
        Ok(())
    })?;
    let known = open::known_damage(shared)?;
    damage.extend(known.into_iter().filter(|what| !damage.contains(what)).collect::<Vec<_>>());
    for what in damage {
        report.add(Gap::LedgerDamage { what });
    }
    for sop in missing.into_values().flatten() {
        // Removed since it was read, or not.
        if shared.read(|view| view.instance(&sop))?.is_none() {
            report.add(Gap::ReceiptWithoutRow { sop_instance_uid: sop.to_string() });
        }
    }
    Ok(Receipts { hashes: receipts, last })
}

pub struct Check<'a> {
    pub report: &'a mut VerifyReport,
    pub data: &'a Path,
    pub mode: VerifyMode,
    /// Files that were written since are on their way.
    pub until: Option<Timestamp>,
    /// Objects whose bytes stand in the journal: the next start makes their files.
    pub in_journal: &'a HashSet<String>,
    pub progress: &'a mut dyn FnMut(Progress),
}

impl Check<'_> {
    pub fn all(
        &mut self,
        source: &Source<'_>,
        receipts: Option<&Receipts>,
    ) -> Result<(), StoreError> {
        let mut studies: Vec<(StudyUid, u32)> = Vec::new();
        source.read(|view| {
            view.each_study(&mut |row| {
                studies.push((row.study_uid, row.instances));
                Ok(true)
            })
        })?;
        let total = studies.iter().map(|(_, instances)| u64::from(*instances)).sum();
        for (study, _) in &studies {
            self.instances(source, study, receipts, total)?;
            self.results(source, study)?;
        }
        for row in source.read(|view| view.scan::<DeferredRow>(key::DEFERRED))? {
            if let Source::Node(shared) = source {
                shared.objects.file(&row.receipt.object)?;
            }
            self.receipt(&row.receipt, total);
        }
        self.strays(source)?;
        let known: HashSet<StudyUid> = studies.into_iter().map(|(study, _)| study).collect();
        for job in source.read(View::open_jobs)? {
            self.report.jobs += 1;
            if !known.contains(&job.job.study_uid)
                && !source.read(|view| view.has(&key::study(&job.job.study_uid)))?
            {
                self.report.add(Gap::JobWithoutStudy { id: job.job.id });
            }
        }
        Ok(())
    }

    fn instances(
        &mut self,
        source: &Source<'_>,
        study: &StudyUid,
        receipts: Option<&Receipts>,
        total: u64,
    ) -> Result<(), StoreError> {
        let rows = source.read(|view| view.instances(study))?;
        if let Source::Node(shared) = source {
            shared.objects.file_below(&objects::folder_of(study))?;
        }
        for row in rows {
            let sop = &row.receipt.sop_instance_uid;
            if let Some(receipts) = receipts
                && row.order >> 20 <= receipts.last
                && !receipts.hashes.contains(&hash(sop))
            {
                self.report.add(Gap::RowWithoutReceipt { sop_instance_uid: sop.to_string() });
            }
            for receipt in [&row.receipt].into_iter().chain(&row.versions) {
                self.receipt(receipt, total);
            }
        }
        Ok(())
    }

    fn receipt(&mut self, receipt: &Receipt, total: u64) {
        self.report.receipts += 1;
        let (step, done) = ("looking for each instance", self.report.receipts);
        (self.progress)(Progress { step: step.into(), done, total: Some(total.max(done)) });
        if self.in_journal.contains(&receipt.object) {
            return;
        }
        let path = self.data.join(&receipt.object);
        let object = receipt.object.clone();
        let Ok(meta) = fs::metadata(&path) else {
            let sop_instance_uid = receipt.sop_instance_uid.to_string();
            self.report.add(Gap::ReceiptWithoutObject { sop_instance_uid, object });
            return;
        };
        let (expected_bytes, found_bytes) = (receipt.size_bytes, meta.len());
        if expected_bytes != found_bytes {
            self.report.add(Gap::ObjectSize { object, expected_bytes, found_bytes });
            return;
        }
        if self.mode == VerifyMode::Full {
            match part10::data_set_digest(&path, &receipt.digest) {
                Ok(digest) if digest == receipt.digest => {}
                Ok(_) => self.report.add(Gap::ObjectDigest { object }),
                Err(error) => {
                    self.report.add(Gap::ObjectUnreadable { object, cause: error.to_string() });
                }
            }
        }
    }

    /// Artefacts with their files, deliveries with their artefacts.
    fn results(&mut self, source: &Source<'_>, study: &StudyUid) -> Result<(), StoreError> {
        let (artefacts, deliveries) = source.read(|view| {
            let artefacts: Vec<ArtefactRow> = view.scan(&key::artefacts_of(study))?;
            let deliveries: Vec<DeliveryRow> = view.scan(&key::deliveries(study))?;
            Ok((artefacts, deliveries))
        })?;
        let file =
            |revision: u32, name: &str| format!("{}/{study}/{revision}/{name}", folder::RESULTS);
        for row in &artefacts {
            let file = file(row.revision, &row.file);
            self.report.artefacts += 1;
            let (step, done) = ("looking at each result", self.report.artefacts);
            (self.progress)(Progress { step: step.into(), done, total: None });
            match fs::read(self.data.join(&file)) {
                Ok(bytes) => {
                    let same =
                        bytes.len() as u64 == row.size_bytes && verify::hex(&bytes) == row.digest;
                    if !same {
                        self.report.add(Gap::ArtefactChanged { file });
                    }
                }
                Err(_) => self.report.add(Gap::ArtefactMissing { file }),
            }
        }
        for row in deliveries {
            self.report.deliveries += 1;
            let is_of = |artefact: &ArtefactRow| {
                artefact.revision == row.revision && artefact.file == row.artefact
            };
            if row.state == DeliveryState::Done && !artefacts.iter().any(is_of) {
                let file = file(row.revision, &row.artefact);
                let destination = row.destination;
                self.report.add(Gap::DeliveryWithoutArtefact { file, destination });
            }
        }
        Ok(())
    }

    /// Objects that no receipt speaks of.
    fn strays(&mut self, source: &Source<'_>) -> Result<(), StoreError> {
        let deferred = source.read(|view| view.scan::<DeferredRow>(key::DEFERRED))?;
        let deferred: HashSet<String> =
            deferred.into_iter().map(|row| row.receipt.object).collect();
        let mut strays = Vec::new();
        rebuild::each_study(self.data, &mut |study, objects| {
            self.report.objects += objects.len() as u64;
            let (step, done) = ("looking at each object", self.report.objects);
            (self.progress)(Progress {
                step: step.into(),
                done,
                total: Some(self.report.receipts.max(done)),
            });
            // What a removal has left goes with the next start.
            if source.read(|view| study.map_or(Ok(false), |s| view.has(&key::going(s))))? {
                return Ok(());
            }
            for object in source.read(|view| rebuild::without_receipt(view, study, objects))? {
                let path = self.data.join(&object);
                let is_new = self.until.is_some_and(|until| !retention::is_older(&path, until));
                if !is_new && !deferred.contains(&object) {
                    strays.push(object);
                }
            }
            Ok(())
        })?;
        for object in strays {
            // What was on its way has arrived, or is still.
            let came = match source {
                Source::View(_) => false,
                Source::Node(shared) => {
                    shared.objects.is_on_its_way(&object)
                        || !self.data.join(&object).exists()
                        || shared.read(|view| open::has_receipt(view, &object))?
                }
            };
            if !came {
                self.report.add(Gap::ObjectWithoutReceipt { object });
            }
        }
        Ok(())
    }
}
