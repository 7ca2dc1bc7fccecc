//! What searches look at: attributes of studies, series and instances, in a database of their own.
//!
//! Identities of patients stand neither in the ledger nor in the store's index, so they stand
//! here: `<data>/dicomweb/`, a cache. It is made from the objects by worker processes when a search
//! needs it or the node has nothing else to do, and may be removed at any time; one that is damaged
//! or does not fit the store is thrown away and made anew. A study is looked at again when its
//! instances changed; of a series one header is read, of the instances all once someone asks for
//! instances.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use dicom_core::Tag;
use dicom_dictionary_std::tags;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::uid::StudyUid;
use crate::store::InstanceRow;
use crate::store::Store;
use crate::store::StudyRow;
use crate::web::problem::Failure;
use crate::worker;
use crate::worker::HeaderPart;
use crate::worker::Object;
use crate::worker::Pool;

/// Attributes by their names in DICOM JSON.
pub type Attributes = Map<String, Value>;

const FOLDER: &str = "dicomweb";
/// Of the rows; another one is thrown away.
const FORMAT: u32 = 1;
/// Memory for pages.
const CACHE_BYTES: u64 = 8 << 20;
/// Studies brought up to date in one step.
const STEP: usize = 64;
/// The node has to be quiet for so long before it makes the index without being asked.
const QUIET: Duration = Duration::from_secs(5);

/// Of the study, from its first instance.
pub const STUDY: &[Tag] = &[
    tags::STUDY_DATE,
    tags::STUDY_TIME,
    tags::ACCESSION_NUMBER,
    tags::INSTITUTION_NAME,
    tags::REFERRING_PHYSICIAN_NAME,
    tags::TIMEZONE_OFFSET_FROM_UTC,
    tags::STUDY_DESCRIPTION,
    tags::PATIENT_NAME,
    tags::PATIENT_ID,
    tags::ISSUER_OF_PATIENT_ID,
    tags::PATIENT_BIRTH_DATE,
    tags::PATIENT_SEX,
    tags::PATIENT_AGE,
    tags::STUDY_INSTANCE_UID,
    tags::STUDY_ID,
];

/// Of a series, from its first instance.
pub const SERIES: &[Tag] = &[
    tags::SERIES_DATE,
    tags::SERIES_TIME,
    tags::MODALITY,
    tags::MANUFACTURER,
    tags::STATION_NAME,
    tags::SERIES_DESCRIPTION,
    tags::MANUFACTURER_MODEL_NAME,
    tags::BODY_PART_EXAMINED,
    tags::PROTOCOL_NAME,
    tags::SERIES_INSTANCE_UID,
    tags::SERIES_NUMBER,
    tags::LATERALITY,
    tags::PERFORMED_PROCEDURE_STEP_START_DATE,
    tags::PERFORMED_PROCEDURE_STEP_START_TIME,
    tags::REQUEST_ATTRIBUTES_SEQUENCE,
];

pub const INSTANCE: &[Tag] = &[
    tags::IMAGE_TYPE,
    tags::SOP_CLASS_UID,
    tags::SOP_INSTANCE_UID,
    tags::ACQUISITION_DATE,
    tags::CONTENT_DATE,
    tags::ACQUISITION_TIME,
    tags::CONTENT_TIME,
    tags::ACQUISITION_NUMBER,
    tags::INSTANCE_NUMBER,
    tags::NUMBER_OF_FRAMES,
    tags::ROWS,
    tags::COLUMNS,
    tags::BITS_ALLOCATED,
    tags::CONCEPT_NAME_CODE_SEQUENCE,
    tags::COMPLETION_FLAG,
    tags::VERIFICATION_FLAG,
    tags::DOCUMENT_TITLE,
];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StudyEntry {
    pub study_uid: StudyUid,
    /// As the store counted when this was made.
    instances: u32,
    conflicts: u32,
    /// Place in the list by date.
    date: String,
    pub attributes: Attributes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SeriesEntry {
    pub attributes: Attributes,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstanceEntry {
    pub series_uid: String,
    pub attributes: Attributes,
}

/// How far the index is: the last change of a study that it has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Mark {
    format: u32,
    order: u64,
    study_uid: Option<StudyUid>,
    studies: u64,
}

pub struct Index {
    folder: PathBuf,
    db: Mutex<Option<sled::Db>>,
    /// One at a time makes it.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("{0}")]
    Sled(#[from] sled::Error),
    #[error("a row: {0}")]
    Row(#[from] serde_json::Error),
    #[error("its folder: {0}")]
    Folder(#[from] std::io::Error),
}

mod key {
    pub const MARK: &[u8] = b"m";
    pub const STUDIES: &[u8] = b"s";

    fn of(kind: u8, parts: &[&str]) -> Vec<u8> {
        let mut key = vec![kind];
        key.extend_from_slice(parts.join("\0").as_bytes());
        key
    }

    pub fn study(study: &str) -> Vec<u8> {
        of(b's', &[study])
    }

    pub fn by_date(date: &str, study: &str) -> Vec<u8> {
        of(b'd', &[date, study])
    }

    pub fn by_patient(patient: &str, study: &str) -> Vec<u8> {
        of(b'p', &[patient, study])
    }

    pub fn by_accession(accession: &str, study: &str) -> Vec<u8> {
        of(b'a', &[accession, study])
    }

    pub fn series(study: &str, series: &str) -> Vec<u8> {
        of(b'e', &[study, series])
    }

    pub fn instance(study: &str, instance: &str) -> Vec<u8> {
        of(b'i', &[study, instance])
    }
}

/// Where a search begins, so that it does not look at every study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Studies(Vec<String>),
    Patient(String),
    Accession(String),
    /// First and last date, both included; newest first.
    Dates(String, String),
}

impl Index {
    pub fn new(store: &Store) -> Index {
        Index { folder: store.data().join(FOLDER), db: Mutex::default(), turn: Default::default() }
    }

    /// Runs `work` on the database where blocking is allowed. One that fails is thrown away.
    pub async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Rows) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, Failure> {
        let index = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&Rows(index.open()?))).await;
        match done {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.reset(&error.to_string())),
            // sled panics on damaged files.
            Err(_) => Err(self.reset("it stumbled")),
        }
    }

    fn open(&self) -> Result<sled::Db, IndexError> {
        let mut held = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = &*held {
            return Ok(db.clone());
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let config = sled::Config::new().path(&self.folder).cache_capacity(CACHE_BYTES);
        let rows = Rows(config.open()?);
        let mark = rows.mark()?;
        let studies = rows.0.scan_prefix(key::STUDIES).keys().count() as u64;
        if mark.format != FORMAT || mark.studies != studies {
            rows.0.clear()?;
            rows.set_mark(Mark { format: FORMAT, ..Mark::default() })?;
        }
        *held = Some(rows.0.clone());
        Ok(rows.0)
    }

    fn reset(&self, why: &str) -> Failure {
        tracing::warn!(%why, "the index for searches is thrown away and made anew");
        let mut held = self.db.lock().unwrap_or_else(PoisonError::into_inner);
        *held = None;
        let _ = std::fs::remove_dir_all(&self.folder);
        Failure::busy("The index for searches is being made anew.", 5)
    }

    /// Brings the index up to the store, as far as it comes until `until`.
    ///
    /// - Returns whether it is complete.
    pub async fn refresh(
        self: &Arc<Self>,
        store: &Store,
        pool: &Pool,
        until: Instant,
    ) -> Result<bool, Failure> {
        let Ok(_turn) = tokio::time::timeout_at(until, self.turn.lock()).await else {
            return Ok(false);
        };
        let mut mark = self.with(Rows::mark).await?;
        if let Some(study) = mark.study_uid.clone() {
            let row = read(store, move |store| store.study(&study)).await?;
            // Its changes are numbered as the ledger goes: less means another ledger, or one that
            // lost its end.
            if row.is_none_or(|row| row.order < mark.order) {
                mark = Mark { format: FORMAT, ..Mark::default() };
                let begun = mark.clone();
                self.with(move |rows| {
                    rows.0.clear()?;
                    rows.set_mark(begun)
                })
                .await?;
            }
        }
        loop {
            let after = mark.order;
            let rows = read(store, move |store| store.studies_after(after, STEP)).await?;
            if rows.is_empty() {
                return Ok(true);
            }
            for row in rows {
                if Instant::now() >= until {
                    return Ok(false);
                }
                let entry = self.describe(store, pool, &row).await?;
                (mark.order, mark.study_uid) = (row.order, Some(row.study_uid));
                mark = self.with(move |rows| rows.put(entry, mark)).await?;
            }
        }
    }

    /// What has to be written of a study; nothing where nothing changed.
    async fn describe(
        self: &Arc<Self>,
        store: &Store,
        pool: &Pool,
        row: &StudyRow,
    ) -> Result<Option<Described>, Failure> {
        let study = row.study_uid.as_str().to_owned();
        let (known, series) = self
            .with(move |rows| {
                let known: Option<StudyEntry> = rows.get(&key::study(&study))?;
                let series = match known {
                    Some(_) => rows.series(&study)?,
                    None => BTreeMap::new(),
                };
                Ok((known, series))
            })
            .await?;
        let counts = (row.instances, row.conflicts);
        if known.as_ref().is_some_and(|k| (k.instances, k.conflicts) == counts) {
            return Ok(None);
        }
        let same_bytes = known.as_ref().is_some_and(|known| known.conflicts == row.conflicts);
        let study_uid = row.study_uid.clone();
        let instances = read(store, move |store| filed(store, &study_uid)).await?;
        let mut first: BTreeMap<String, (Object, u32, String)> = BTreeMap::new();
        let (mut classes, mut order) = (BTreeSet::new(), Vec::new());
        for InstanceRow { receipt, .. } in &instances {
            classes.insert(receipt.sop_class_uid.to_string());
            let series = receipt.series_uid.to_string();
            let of_series = first.entry(series.clone()).or_insert_with(|| {
                order.push(series);
                let (object, sop_instance_uid) =
                    (receipt.object.clone(), receipt.sop_instance_uid.clone());
                (Object { object, sop_instance_uid }, 0, receipt.transfer_syntax_uid.to_string())
            });
            of_series.1 += 1;
        }
        // The series that came first speaks for the study; headers already known are not read.
        let known_attributes = known.map(|known| known.attributes).filter(|_| same_bytes);
        let asked: Vec<&String> = order
            .iter()
            .enumerate()
            .filter(|(place, uid)| {
                !(same_bytes && series.contains_key(*uid))
                    || (*place == 0 && known_attributes.is_none())
            })
            .map(|(_, uid)| uid)
            .collect();
        let objects: Vec<Object> = asked.iter().map(|uid| first[*uid].0.clone()).collect();
        let read = headers(store, pool, &objects, &[STUDY, SERIES].concat()).await?;
        let mut read: BTreeMap<&String, Attributes> = asked.into_iter().zip(read).collect();
        let of_study = known_attributes.unwrap_or_else(|| {
            order.first().and_then(|uid| read.get(uid)).cloned().unwrap_or_default()
        });
        let mut entries = BTreeMap::new();
        let mut modalities = BTreeSet::new();
        for (uid, (_, count, _)) in &first {
            let attributes = match (read.remove(uid), series.get(uid)) {
                (Some(read), _) => read,
                (None, Some(known)) => known.attributes.clone(),
                (None, None) => Attributes::new(),
            };
            let mut attributes = only(attributes, SERIES);
            put(&mut attributes, tags::SERIES_INSTANCE_UID, "UI", json!([uid]));
            put(&mut attributes, tags::NUMBER_OF_SERIES_RELATED_INSTANCES, "IS", json!([count]));
            modalities.extend(text(&attributes, tags::MODALITY));
            entries.insert(uid.clone(), SeriesEntry { attributes });
        }
        let mut attributes = only(of_study, STUDY);
        put(&mut attributes, tags::STUDY_INSTANCE_UID, "UI", json!([row.study_uid]));
        put(&mut attributes, tags::MODALITIES_IN_STUDY, "CS", json!(modalities));
        put(&mut attributes, tags::SOP_CLASSES_IN_STUDY, "UI", json!(classes));
        let (series, instances) = (first.len(), instances.len());
        put(&mut attributes, tags::NUMBER_OF_STUDY_RELATED_SERIES, "IS", json!([series]));
        put(&mut attributes, tags::NUMBER_OF_STUDY_RELATED_INSTANCES, "IS", json!([instances]));
        let date = text(&attributes, tags::STUDY_DATE).unwrap_or_default()
            + &text(&attributes, tags::STUDY_TIME).unwrap_or_default();
        let date: String = date.chars().filter(|c| c.is_ascii_digit() || *c == '.').collect();
        let study = StudyEntry {
            study_uid: row.study_uid.clone(),
            instances: row.instances,
            conflicts: row.conflicts,
            date,
            attributes,
        };
        Ok(Some(Described { study, series: entries, keeps_instances: same_bytes }))
    }

    /// Attributes of a study's instances, read where they are not known yet.
    pub async fn instances(
        self: &Arc<Self>,
        store: &Store,
        pool: &Pool,
        study: &StudyUid,
    ) -> Result<Vec<(InstanceRow, InstanceEntry)>, Failure> {
        let of = study.clone();
        let rows = read(store, move |store| filed(store, &of)).await?;
        let uid = study.to_string();
        let mut known = self.with(move |rows| rows.instances(&uid)).await?;
        let missing =
            |row: &&InstanceRow| !known.contains_key(row.receipt.sop_instance_uid.as_str());
        let missing: Vec<&InstanceRow> = rows.iter().filter(missing).collect();
        for batch in missing.chunks(worker::BATCH) {
            let object = |row: &&InstanceRow| Object {
                object: row.receipt.object.clone(),
                sop_instance_uid: row.receipt.sop_instance_uid.clone(),
            };
            let objects: Vec<Object> = batch.iter().map(object).collect();
            let read = headers(store, pool, &objects, INSTANCE).await?;
            let mut found = Vec::new();
            for (row, attributes) in batch.iter().zip(read) {
                let receipt = &row.receipt;
                let mut attributes = attributes;
                put(&mut attributes, tags::SOP_CLASS_UID, "UI", json!([receipt.sop_class_uid]));
                put(
                    &mut attributes,
                    tags::SOP_INSTANCE_UID,
                    "UI",
                    json!([receipt.sop_instance_uid]),
                );
                let series_uid = receipt.series_uid.to_string();
                let entry = InstanceEntry { series_uid, attributes };
                found.push((receipt.sop_instance_uid.to_string(), entry));
            }
            known.extend(found.iter().cloned());
            let uid = study.to_string();
            self.with(move |rows| rows.put_instances(&uid, &found)).await?;
        }
        let entry = |row: InstanceRow| {
            let entry = known.remove(row.receipt.sop_instance_uid.as_str())?;
            Some((row, entry))
        };
        Ok(rows.into_iter().filter_map(entry).collect())
    }

    /// Makes the index while the node has nothing else to do.
    pub async fn follow(self: Arc<Self>, store: Store, pool: Pool, stop: CancellationToken) {
        let mut changed = store.changed();
        let mut quiet = async || loop {
            if changed.changed().await.is_err() {
                return;
            }
            // Asleep, so that commits wake nobody.
            loop {
                changed.mark_unchanged();
                tokio::time::sleep(QUIET).await;
                match changed.has_changed() {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => return,
                }
            }
            let until = Instant::now() + Duration::from_secs(600);
            if let Err(failure) = self.refresh(&store, &pool, until).await {
                tracing::debug!(why = failure.said(), "the index for searches waits");
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = quiet() => {}
        }
    }
}

struct Described {
    study: StudyEntry,
    series: BTreeMap<String, SeriesEntry>,
    /// Whether what is known of its instances is still right.
    keeps_instances: bool,
}

/// A study's instances, each with its file.
fn filed(store: &Store, study: &StudyUid) -> Result<Vec<InstanceRow>, crate::store::StoreError> {
    let rows = store.instances(study)?;
    store.file(study)?;
    Ok(rows)
}

/// Reads of the store block.
async fn read<T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(&Store) -> Result<T, crate::store::StoreError> + Send + 'static,
) -> Result<T, Failure> {
    let store = store.clone();
    match tokio::task::spawn_blocking(move || work(&store)).await {
        Ok(found) => Ok(found?),
        Err(_) => Err(Failure::internal("the store could not be read")),
    }
}

/// Attributes of objects; none of what cannot be read.
async fn headers(
    store: &Store,
    pool: &Pool,
    objects: &[Object],
    wanted: &[Tag],
) -> Result<Vec<Attributes>, Failure> {
    let wanted = HeaderPart::Index(wanted.iter().map(|tag| (tag.0, tag.1)).collect());
    let mut all = Vec::new();
    for batch in objects.chunks(worker::BATCH) {
        let found = pool.headers(store.data(), batch, &wanted).await.map_err(|error| {
            tracing::warn!(%error, "headers could not be read for a search");
            Failure::busy("Headers cannot be read at the moment.", 5)
        })?;
        all.extend(found.iter().map(|json| serde_json::from_slice(json).unwrap_or_default()));
    }
    Ok(all)
}

pub fn name(tag: Tag) -> String {
    format!("{:04X}{:04X}", tag.0, tag.1)
}

pub fn put(attributes: &mut Attributes, tag: Tag, vr: &str, value: Value) {
    attributes.insert(name(tag), json!({"vr": vr, "Value": value}));
}

/// The first value as text.
pub fn text(attributes: &Attributes, tag: Tag) -> Option<String> {
    let value = attributes.get(&name(tag))?.get("Value")?.get(0)?;
    value.as_str().map(str::to_owned)
}

fn only(mut attributes: Attributes, tags: &[Tag]) -> Attributes {
    let names: BTreeSet<String> = tags.iter().map(|tag| name(*tag)).collect();
    attributes.retain(|name, _| names.contains(name));
    attributes
}

/// The database, opened.
pub struct Rows(sled::Db);

impl Rows {
    fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, IndexError> {
        let value = self.0.get(key)?;
        Ok(value.map(|value| serde_json::from_slice(&value)).transpose()?)
    }

    fn mark(&self) -> Result<Mark, IndexError> {
        Ok(self.get(key::MARK)?.unwrap_or_default())
    }

    fn set_mark(&self, mark: Mark) -> Result<(), IndexError> {
        self.0.insert(key::MARK, serde_json::to_vec(&mark)?)?;
        Ok(())
    }

    pub fn study(&self, study: &str) -> Result<Option<StudyEntry>, IndexError> {
        self.get(&key::study(study))
    }

    pub fn series(&self, study: &str) -> Result<BTreeMap<String, SeriesEntry>, IndexError> {
        self.below(&key::series(study, ""))
    }

    fn instances(&self, study: &str) -> Result<BTreeMap<String, InstanceEntry>, IndexError> {
        self.below(&key::instance(study, ""))
    }

    /// Rows by the last part of their key.
    fn below<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<BTreeMap<String, T>, IndexError> {
        let mut found = BTreeMap::new();
        for row in self.0.scan_prefix(prefix) {
            let (key, value) = row?;
            let uid = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            found.insert(uid, serde_json::from_slice(&value)?);
        }
        Ok(found)
    }

    /// One batch: the rows of a study and how far the index is.
    fn put(&self, described: Option<Described>, mut mark: Mark) -> Result<Mark, IndexError> {
        let mut batch = sled::Batch::default();
        if let Some(Described { study, series, keeps_instances }) = described {
            let uid = study.study_uid.as_str();
            match self.study(uid)? {
                Some(old) => sort_keys(&old).into_iter().for_each(|key| batch.remove(key)),
                None => mark.studies += 1,
            }
            for old in self.0.scan_prefix(key::series(uid, "")).keys() {
                batch.remove(old?);
            }
            if !keeps_instances {
                for old in self.0.scan_prefix(key::instance(uid, "")).keys() {
                    batch.remove(old?);
                }
            }
            for (series_uid, entry) in &series {
                batch.insert(key::series(uid, series_uid), serde_json::to_vec(entry)?);
            }
            for key in sort_keys(&study) {
                batch.insert(key, &[][..]);
            }
            batch.insert(key::study(uid), serde_json::to_vec(&study)?);
        }
        batch.insert(key::MARK, serde_json::to_vec(&mark)?);
        self.0.apply_batch(batch)?;
        Ok(mark)
    }

    fn put_instances(
        &self,
        study: &str,
        found: &[(String, InstanceEntry)],
    ) -> Result<(), IndexError> {
        let mut batch = sled::Batch::default();
        for (uid, entry) in found {
            batch.insert(key::instance(study, uid), serde_json::to_vec(entry)?);
        }
        Ok(self.0.apply_batch(batch)?)
    }

    /// Studies from `start` on, until `each` has enough.
    pub fn walk(
        &self,
        start: &Start,
        each: &mut dyn FnMut(StudyEntry) -> Result<bool, IndexError>,
    ) -> Result<(), IndexError> {
        if let Start::Studies(uids) = start {
            for uid in uids {
                if let Some(entry) = self.study(uid)?
                    && !each(entry)?
                {
                    return Ok(());
                }
            }
            return Ok(());
        }
        let range = match start {
            Start::Patient(patient) => {
                key::by_patient(patient, "")..key::by_patient(&format!("{patient}\0\u{7f}"), "")
            }
            Start::Accession(number) => {
                key::by_accession(number, "")..key::by_accession(&format!("{number}\0\u{7f}"), "")
            }
            Start::Dates(first, last) => {
                let end = format!("{last}\u{7f}");
                key::by_date(first, "")..key::by_date(&end, "")
            }
            Start::Studies(_) => return Ok(()),
        };
        for row in self.0.range(range).keys().rev() {
            let key = row?;
            let place = key.iter().rposition(|byte| *byte == 0).map_or(1, |at| at + 1);
            let uid = String::from_utf8_lossy(&key[place..]);
            if let Some(entry) = self.study(&uid)?
                && !each(entry)?
            {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Keys that lead to a study.
fn sort_keys(entry: &StudyEntry) -> Vec<Vec<u8>> {
    let uid = entry.study_uid.as_str();
    let mut keys = vec![key::by_date(&entry.date, uid)];
    // What holds the separator cannot be looked up by it, and is found by the list by date.
    let plain = |text: &String| !text.contains('\0');
    let patient = text(&entry.attributes, tags::PATIENT_ID).filter(plain);
    keys.extend(patient.map(|patient| key::by_patient(&patient, uid)));
    let number = text(&entry.attributes, tags::ACCESSION_NUMBER).filter(plain);
    keys.extend(number.map(|number| key::by_accession(&number, uid)));
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(number: u32) -> Described {
        let study_uid = StudyUid::parse(&format!("1.2.{number}")).unwrap();
        let mut attributes = Attributes::new();
        let date = format!("{:08}", 20_000_101 + (number % 20) * 10_000 + number % 28);
        put(&mut attributes, tags::STUDY_DATE, "DA", json!([date]));
        put(&mut attributes, tags::PATIENT_ID, "LO", json!([format!("P{}", number / 3)]));
        put(&mut attributes, tags::ACCESSION_NUMBER, "SH", json!([format!("A{number}")]));
        let name = json!([{"Alphabetic": format!("Name{number}^Given")}]);
        put(&mut attributes, tags::PATIENT_NAME, "PN", name);
        put(&mut attributes, tags::STUDY_DESCRIPTION, "LO", json!(["CT of the chest"]));
        put(&mut attributes, tags::MODALITIES_IN_STUDY, "CS", json!(["CT", "SR"]));
        let study = StudyEntry { study_uid, instances: 1, conflicts: 0, date, attributes };
        Described { study, series: BTreeMap::new(), keeps_instances: true }
    }

    fn found(rows: &Rows, start: &Start) -> Vec<String> {
        let mut found = Vec::new();
        rows.walk(start, &mut |entry| {
            found.push(entry.study_uid.to_string());
            Ok(true)
        })
        .unwrap();
        found
    }

    fn rows(folder: &std::path::Path, studies: u32) -> Rows {
        let rows = Rows(sled::Config::new().path(folder).open().unwrap());
        let mut mark = Mark { format: FORMAT, ..Mark::default() };
        for number in 0..studies {
            mark = rows.put(Some(entry(number)), mark).unwrap();
        }
        rows
    }

    #[test]
    fn a_search_finds_its_studies_by_date_patient_and_number() {
        let folder = tempfile::tempdir().unwrap();
        let rows = rows(folder.path(), 200);
        let all = found(&rows, &Start::Dates(String::new(), "9".into()));
        assert_eq!(all.len(), 200);
        let date = |uid: &String| rows.study(uid).unwrap().unwrap().date;
        assert!(all.windows(2).all(|pair| date(&pair[0]) >= date(&pair[1])), "newest first");
        assert_eq!(found(&rows, &Start::Patient("P5".into())), ["1.2.17", "1.2.16", "1.2.15"]);
        assert_eq!(found(&rows, &Start::Accession("A7".into())), ["1.2.7"]);
        let day = date(&"1.2.7".to_owned());
        let of_day = found(&rows, &Start::Dates(day.clone(), day.clone()));
        assert!(of_day.contains(&"1.2.7".to_owned()) && of_day.iter().all(|uid| date(uid) == day));
        let named = Start::Studies(vec!["1.2.7".into(), "1.2.999".into()]);
        assert_eq!(found(&rows, &named), ["1.2.7"]);
        // Again, with another date: what led to it before leads there no more.
        let mut again = entry(7);
        again.study.date = "20300101".into();
        put(&mut again.study.attributes, tags::PATIENT_ID, "LO", json!(["P5"]));
        rows.put(Some(again), rows.mark().unwrap()).unwrap();
        assert_eq!(found(&rows, &Start::Dates("20300101".into(), "9".into())), ["1.2.7"]);
        assert_eq!(found(&rows, &Start::Patient("P5".into())).len(), 4);
        assert_eq!(found(&rows, &Start::Patient("P2".into())).len(), 2);
        assert_eq!(rows.mark().unwrap().studies, 200);
    }

    /// How long searches take over many studies; printed.
    #[test]
    #[ignore = "measures; run by hand"]
    fn a_hundred_thousand_studies() {
        let folder = tempfile::tempdir().unwrap();
        let begun = std::time::Instant::now();
        let rows = rows(folder.path(), 100_000);
        println!("made in {:?}", begun.elapsed());
        for (name, start) in [
            ("patient", Start::Patient("P500".into())),
            ("accession number", Start::Accession("A500".into())),
            ("one day", Start::Dates("20050105".into(), "20050105".into())),
            ("all", Start::Dates(String::new(), "9".into())),
        ] {
            let begun = std::time::Instant::now();
            println!("{name}: {} in {:?}", found(&rows, &start).len(), begun.elapsed());
        }
    }
}
