//! C-STORE to an object on disk, a receipt in the ledger, a DIMSE status.
//!
//! The order, and why: space is looked at first, so that a full disk refuses and takes nothing
//! half; the data set is scanned and compared with the command before it gets a name; a small one is
//! durable in the journal together with its receipt and gets its file later; the bytes of a large
//! one are synced, then renamed, then the folder is synced (all in `store`), so that the name never
//! stands for less than the whole, and its receipt is committed to the ledger; only then is 0000
//! answered.

use std::fs::File;
use std::io::BufReader;
use std::io::Seek as _;
use std::io::SeekFrom;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dicom_core::Tag;
use dicom_dictionary_std::tags;
use jiff::Timestamp;
use tokio::task::JoinError;
use tokio::task::JoinHandle;

use crate::dicom::negotiation;
use crate::dicom::scan::Facts;
use crate::dicom::scan::ScanError;
use crate::dicom::scan::ScanLimits;
use crate::dicom::scan::scan_bytes_marked;
use crate::dicom::scan::scan_marked;
use crate::dicom::service::ServiceHandler;
use crate::dicom::status::Status;
use crate::dicom::storage_scp::InstanceSink;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::StorageHandler;
use crate::dicom::storage_scp::StoreRequest;
use crate::dicom::walk::WalkError;
use crate::domain::ae_title::AeTitle;
use crate::domain::clock::Clock;
use crate::domain::digest::Hasher;
use crate::domain::origin;
use crate::domain::priority::Priority;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::store::CACHED_BYTES;
use crate::store::IncomingObject;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Stored;
use crate::store::event::Receipt;
use crate::store::event::Source;

/// Takes instances into the store.
pub struct Receiver {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: ScanLimits,
    services: Option<Arc<dyn ServiceHandler>>,
}

impl Receiver {
    /// - `services`: who answers what comes on the same port and is no instance.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        services: Option<Arc<dyn ServiceHandler>>,
    ) -> Receiver {
        Receiver { store, clock, limits: ScanLimits::default(), services }
    }
}

#[async_trait]
impl StorageHandler for Receiver {
    async fn begin(&self, request: StoreRequest) -> Result<Box<dyn InstanceSink>, Refusal> {
        let named = Named::parse(&request)?;
        let head = head(&request, &named);
        Ok(Box::new(Reception {
            store: self.store.clone(),
            clock: Arc::clone(&self.clock),
            limits: self.limits.clone(),
            named,
            request,
            head,
            study: None,
            held: None,
            hash: None,
            draft: None,
            begun_at: self.clock.now(),
            said_by_image: Priority::default(),
        }))
    }

    async fn releasing(&self) {
        if let Err(error) = self.store.settled().await {
            tracing::error!(%error, "instances that were acknowledged cannot be synced");
        }
    }

    fn services(&self) -> Option<Arc<dyn ServiceHandler>> {
        self.services.clone()
    }
}

/// What the command and the presentation context say of the instance that comes.
#[derive(Debug, Clone)]
struct Named {
    sop_class_uid: SopClassUid,
    sop_instance_uid: SopInstanceUid,
    transfer_syntax_uid: TransferSyntaxUid,
}

impl Named {
    fn parse(request: &StoreRequest) -> Result<Named, Refusal> {
        let bad = |what| Refusal::new(Status::CANNOT_UNDERSTAND, format!("command: bad {what}"));
        Ok(Named {
            sop_class_uid: SopClassUid::parse(&request.sop_class_uid)
                .map_err(|_| bad("SOP Class UID"))?,
            sop_instance_uid: SopInstanceUid::parse(&request.sop_instance_uid)
                .map_err(|_| bad("SOP Instance UID"))?,
            transfer_syntax_uid: TransferSyntaxUid::parse(&request.transfer_syntax_uid)
                .map_err(|_| bad("transfer syntax"))?,
        })
    }
}

/// One instance on its way in.
struct Reception {
    store: Store,
    clock: Arc<dyn Clock>,
    limits: ScanLimits,
    named: Named,
    request: StoreRequest,
    /// Preamble and file meta group, which the first chunk begins with.
    head: Vec<u8>,
    /// The study that it has to be of.
    study: Option<StudyUid>,
    /// The first chunk. Most instances have no other: they meet the disk once, when they are whole
    /// and found good.
    held: Option<Bytes>,
    /// Of the data set, as far as it is on its way to the file.
    hash: Option<Hasher>,
    /// The file of an instance with more chunks. The last is being written while the next comes.
    draft: Option<Writing>,
    begun_at: Timestamp,
    /// How soon its study is wanted by the image's own word, known before its turn to be parsed comes.
    said_by_image: Priority,
}

type Writing = JoinHandle<Result<IncomingObject, Refusal>>;

#[async_trait]
impl InstanceSink for Reception {
    fn expect_study(&mut self, study: &StudyUid) {
        self.study = Some(study.clone());
    }

    fn head(&self) -> &[u8] {
        &self.head
    }

    async fn write(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        let (held, draft) = (self.held.take(), self.draft.take());
        if held.is_none() && draft.is_none() {
            self.held = Some(chunk);
            return Ok(());
        }
        let draft = written(draft).await?;
        let chunks = [held, Some(chunk)].map(Option::unwrap_or_default);
        let (store, to_write) = (self.store.clone(), chunks.clone());
        self.draft = Some(tokio::task::spawn_blocking(move || {
            let mut draft = draft.map_or_else(|| begin(&store), Ok)?;
            to_write.iter().try_for_each(|chunk| write(&mut draft, chunk))?;
            Ok(draft)
        }));
        // While the disk is at it.
        let [first, chunk] = &chunks;
        let hash = self.hash.get_or_insert_with(Hasher::new);
        hash.update(first.get(self.head.len()..).unwrap_or_default());
        hash.update(chunk);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), Refusal> {
        let now = self.clock.now();
        let instance = self.named.sop_instance_uid.clone();
        let is_small = |held: &Bytes| held.len() as u64 <= self.store.small_bytes_max();
        let (broken, study, stored) = match self.held.clone() {
            Some(held) if is_small(&held) => {
                // Not handed to another thread: that takes as long as the work.
                let receipt = self.look(&held, now)?;
                let (broken, study) = (receipt.unreadable.clone(), receipt.study_uid.clone());
                (broken, study, self.store.commit_small(receipt, held).await)
            }
            None if self.draft.is_none() => {
                return Err(Refusal::new(Status::CANNOT_UNDERSTAND, "the data set is empty"));
            }
            _ => {
                let draft = written(self.draft.take()).await?;
                let (back, receipt) = off_thread(move || {
                    let receipt = self.place(draft, now)?;
                    Ok((self, receipt))
                })
                .await?;
                self = back;
                let (broken, study) = (receipt.unreadable.clone(), receipt.study_uid.clone());
                (broken, study, self.store.commit_instance(receipt).await)
            }
        };
        let stored = stored.map_err(|error| refused(&error))?;
        if self.request.priority.min(self.said_by_image) < Priority::default() {
            self.prioritise(&study, now).await;
        }
        match stored {
            Stored::New { .. } | Stored::Deferred if broken.is_some() => {
                let why = broken.unwrap_or_default();
                tracing::warn!(%instance, why, "kept as it came: its data set is not as it should be");
                metrics::counter!("prelim_instances_unreadable_total").increment(1);
            }
            Stored::New { .. } | Stored::SameBytes | Stored::Deferred => {}
            Stored::Elsewhere => {
                tracing::warn!(
                    %instance,
                    "refused: its SOP Instance UID is that of an instance of another study or series"
                );
                metrics::counter!("prelim_instances_clashing_total").increment(1);
                let why = "its SOP Instance UID is known in another study or series";
                return Err(Refusal::new(Status::CANNOT_UNDERSTAND, why));
            }
            Stored::OtherBytes => {
                tracing::warn!(%instance, "came again with other bytes: kept as another version");
            }
        }
        Ok(())
    }
}

impl Reception {
    /// It is stored already: that it is wanted soon is no reason to refuse it.
    async fn prioritise(&self, study: &StudyUid, now: Timestamp) {
        let sender = format!("the sender {}", self.request.calling_ae);
        let said = [(self.request.priority, &*sender), (self.said_by_image, "the images")];
        let (priority, by) = if said[1].0 < said[0].0 { said[1] } else { said[0] };
        if let Err(error) = self.store.prioritise(study, priority, by, now).await {
            tracing::warn!(%error, "how soon a study is wanted cannot be kept");
        }
    }

    /// Finds out what an instance is, which came in one chunk.
    fn look(&mut self, part10: &[u8], now: Timestamp) -> Result<Receipt, Refusal> {
        let data_set = part10.get(self.head.len()..).unwrap_or_default();
        let facts = scan_bytes_marked(data_set, &self.named.transfer_syntax_uid, &self.limits);
        let facts = facts.map_err(|error| unfit(&error))?;
        self.said_by_image = Priority::of_words(&facts.requested_priority);
        let identity = Identity::of(&self.named, &facts, self.study.as_ref())?;
        let mut hash = Hasher::new();
        hash.update(data_set);
        Ok(self.receipt(identity, String::new(), part10.len() as u64, hash.finish(), now))
    }

    /// Gives an instance its file, synced.
    fn place(&mut self, draft: Option<IncomingObject>, now: Timestamp) -> Result<Receipt, Refusal> {
        let mut draft = draft.map_or_else(|| begin(&self.store), Ok)?;
        let mut hash = self.hash.take().unwrap_or_else(Hasher::new);
        if let Some(only) = self.held.take() {
            write(&mut draft, &only)?;
            hash.update(only.get(self.head.len()..).unwrap_or_default());
        }
        let facts = self.scan(&draft).map_err(|error| unfit(&error))?;
        self.said_by_image = Priority::of_words(&facts.requested_priority);
        let identity = Identity::of(&self.named, &facts, self.study.as_ref())?;
        let size_bytes = draft.size_bytes();
        let sop = &self.named.sop_instance_uid;
        let object = draft.place(&identity.study_uid, &identity.series_uid, sop);
        let object = object.map_err(|error| refused(&error))?;
        Ok(self.receipt(identity, object, size_bytes, hash.finish(), now))
    }

    fn scan(&self, draft: &IncomingObject) -> Result<Facts, ScanError> {
        let mut file = File::open(draft.path()).map_err(WalkError::Io)?;
        let head_bytes = self.head.len() as u64;
        file.seek(SeekFrom::Start(head_bytes)).map_err(WalkError::Io)?;
        let bytes = draft.size_bytes().saturating_sub(head_bytes);
        // Half of what the page cache has of it.
        let reader = BufReader::with_capacity(CACHED_BYTES / 2, file);
        scan_marked(reader, bytes, &self.named.transfer_syntax_uid, &self.limits)
    }

    fn receipt(
        &self,
        identity: Identity,
        object: String,
        size_bytes: u64,
        digest: String,
        received_at: Timestamp,
    ) -> Receipt {
        Receipt {
            study_uid: identity.study_uid,
            series_uid: identity.series_uid,
            sop_instance_uid: self.named.sop_instance_uid.clone(),
            sop_class_uid: self.named.sop_class_uid.clone(),
            transfer_syntax_uid: self.named.transfer_syntax_uid.clone(),
            object,
            size_bytes,
            digest,
            from: source(&self.request),
            received_at,
            begun_at: Some(self.begun_at).filter(|begun| took_long(*begun, received_at)),
            unreadable: identity.unreadable,
            is_original: Some(identity.is_original),
        }
    }
}

/// Whether it is worth its place in the ledger: an image comes in some milliseconds.
fn took_long(begun_at: Timestamp, received_at: Timestamp) -> bool {
    received_at.duration_since(begun_at).as_millis() > 100
}

/// Waits for the chunk that is being written.
async fn written(writing: Option<Writing>) -> Result<Option<IncomingObject>, Refusal> {
    match writing {
        Some(writing) => ended(writing.await).map(Some),
        None => Ok(None),
    }
}

/// Runs disk work where it may block.
async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    ended(tokio::task::spawn_blocking(work).await)
}

fn ended<T>(outcome: Result<Result<T, Refusal>, JoinError>) -> Result<T, Refusal> {
    outcome.unwrap_or_else(|error| {
        tracing::error!(%error, "receiving an instance failed in this program");
        Err(Refusal::new(Status::PROCESSING_FAILURE, "internal failure"))
    })
}

fn begin(store: &Store) -> Result<IncomingObject, Refusal> {
    store.begin_object().map_err(|error| refused(&error))
}

fn write(draft: &mut IncomingObject, chunk: &[u8]) -> Result<(), Refusal> {
    draft.write(chunk).map_err(|error| refused(&error))
}

/// Where an instance belongs.
struct Identity {
    study_uid: StudyUid,
    series_uid: SeriesUid,
    /// Where its data set is not as it should be: it is kept as it came.
    unreadable: Option<String>,
    is_original: bool,
}

impl Identity {
    /// Compares the data set with its command. Study and series come from the data set alone.
    ///
    /// - `wanted`: the study that it has to be of.
    fn of(named: &Named, facts: &Facts, wanted: Option<&StudyUid>) -> Result<Identity, Refusal> {
        let mismatch = |what| Err(Refusal::new(Status::MISMATCH, what));
        if facts.sop_class_uid != named.sop_class_uid.as_str() {
            return mismatch("SOP Class UID of command and data set differ");
        }
        if facts.sop_instance_uid != named.sop_instance_uid.as_str() {
            return mismatch("SOP Instance UID of command and data set differ");
        }
        let bad = |what| Refusal::new(Status::CANNOT_UNDERSTAND, format!("{what} missing or bad"));
        let study_uid = StudyUid::parse(&facts.study_uid).map_err(|_| bad("Study Instance UID"))?;
        if wanted.is_some_and(|wanted| *wanted != study_uid) {
            return mismatch("it is of another study than the request names");
        }
        Ok(Identity {
            study_uid,
            series_uid: SeriesUid::parse(&facts.series_uid)
                .map_err(|_| bad("Series Instance UID"))?,
            unreadable: facts.broken.clone(),
            is_original: origin::is_original(&facts.sop_class_uid, &facts.image_type),
        })
    }
}

fn source(request: &StoreRequest) -> Source {
    Source {
        calling_ae: request.calling_ae.clone(),
        called_ae: request.called_ae.clone(),
        address: request.peer.to_string(),
        association: request.association.clone(),
    }
}

/// Preamble and file meta group of the Part 10 file (PS3.10 7.1), explicit VR little endian. By
/// hand: it is made for each instance, and the general writer takes twenty times as long.
fn head(request: &StoreRequest, named: &Named) -> Vec<u8> {
    let mut head = Vec::with_capacity(512);
    head.resize(128, 0);
    head.extend(b"DICM\x02\0\0\0UL\x04\0\0\0\0\0");
    let begin = head.len();
    head.extend(b"\x02\0\x01\0OB\0\0\x02\0\0\0\0\x01");
    let mut put = |element: Tag, vr: &[u8; 2], value: &str, padding: u8| {
        let padded = value.len().next_multiple_of(2);
        head.extend(element.0.to_le_bytes());
        head.extend(element.1.to_le_bytes());
        head.extend(vr);
        head.extend((padded as u16).to_le_bytes());
        head.extend(value.as_bytes());
        head.extend(&[padding][..padded - value.len()]);
    };
    put(tags::MEDIA_STORAGE_SOP_CLASS_UID, b"UI", named.sop_class_uid.as_str(), 0);
    put(tags::MEDIA_STORAGE_SOP_INSTANCE_UID, b"UI", named.sop_instance_uid.as_str(), 0);
    put(tags::TRANSFER_SYNTAX_UID, b"UI", named.transfer_syntax_uid.as_str(), 0);
    put(tags::IMPLEMENTATION_CLASS_UID, b"UI", negotiation::implementation_class_uid(), 0);
    put(tags::IMPLEMENTATION_VERSION_NAME, b"SH", negotiation::IMPLEMENTATION_VERSION, b' ');
    // Only a title that is one: a broken one stands in the receipt, escaped.
    if let Ok(calling) = AeTitle::parse(&request.calling_ae) {
        put(tags::SOURCE_APPLICATION_ENTITY_TITLE, b"AE", calling.as_str(), b' ');
    }
    let length = (head.len() - begin) as u32;
    head[begin - 4..begin].copy_from_slice(&length.to_le_bytes());
    head
}

/// A data set that no parser should see.
fn unfit(error: &ScanError) -> Refusal {
    match error.is_io() {
        true => Refusal::new(Status::OUT_OF_RESOURCES, "the data set cannot be read back"),
        false => Refusal::new(Status::CANNOT_UNDERSTAND, error.to_string()),
    }
}

/// The store's errors to DIMSE statuses. All say "later": the instance itself is good.
fn refused(error: &StoreError) -> Refusal {
    match error.is_out_of_space() {
        true => Refusal::new(Status::OUT_OF_RESOURCES, "no space left to store it"),
        false => {
            tracing::error!(%error, "an instance could not be stored");
            Refusal::new(Status::OUT_OF_RESOURCES, "it cannot be stored now")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use dicom_dictionary_std::uids;

    use super::*;
    use crate::domain::clock::SystemClock;
    use crate::store::Config;

    const CT: &str = uids::CT_IMAGE_STORAGE;

    fn receiver(data: &Path, config: &Config) -> Receiver {
        let (store, _) = Store::open(data, config, Arc::new(SystemClock)).unwrap();
        Receiver::new(store, Arc::new(SystemClock), None)
    }

    fn request(class: &str, instance: &str) -> StoreRequest {
        StoreRequest {
            sop_class_uid: class.into(),
            sop_instance_uid: instance.into(),
            transfer_syntax_uid: uids::EXPLICIT_VR_LITTLE_ENDIAN.into(),
            calling_ae: "CT 1".into(),
            called_ae: "PRELIM".into(),
            peer: "127.0.0.1:104".parse().unwrap(),
            association: "7".into(),
            priority: Priority::default(),
        }
    }

    fn element(tag: dicom_core::Tag, vr: &str, value: &str) -> Vec<u8> {
        let value =
            if value.len().is_multiple_of(2) { value.to_owned() } else { format!("{value}\0") };
        let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
        out.extend_from_slice(vr.as_bytes());
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
        out.extend_from_slice(value.as_bytes());
        out
    }

    fn data_set(class: &str, instance: &str, study: &str, series: &str, pixels: u8) -> Vec<u8> {
        let mut bytes = [
            element(tags::SOP_CLASS_UID, "UI", class),
            element(tags::SOP_INSTANCE_UID, "UI", instance),
            element(tags::STUDY_INSTANCE_UID, "UI", study),
            element(tags::SERIES_INSTANCE_UID, "UI", series),
            [0xE0, 0x7F, 0x10, 0, b'O', b'W', 0, 0].to_vec(),
        ]
        .concat();
        bytes.extend_from_slice(&1000_u32.to_le_bytes());
        bytes.extend_from_slice(&[pixels; 1000]);
        bytes
    }

    async fn store(
        receiver: &Receiver,
        request: StoreRequest,
        bytes: &[u8],
        chunk: usize,
    ) -> Result<(), u16> {
        let uid = SopInstanceUid::parse(&request.sop_instance_uid);
        let mut sink = receiver.begin(request).await.map_err(|refusal| refusal.status.0)?;
        let mut head = sink.head().to_vec();
        for chunk in bytes.chunks(chunk) {
            let chunk = [&std::mem::take(&mut head), chunk].concat();
            sink.write(chunk.into()).await.map_err(|refusal| refusal.status.0)?;
        }
        sink.finish().await.map_err(|refusal| refusal.status.0)?;
        let row = receiver.store.instance(&uid.unwrap()).unwrap().expect("a receipt");
        receiver.store.filed(&row.receipt.study_uid).await.unwrap();
        Ok(())
    }

    fn files(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).map(|d| d.map(|e| e.unwrap().path()).collect());
        let entries: Vec<_> = entries.unwrap_or_default();
        entries.iter().map(|path| if path.is_dir() { files(path) } else { 1 }).sum()
    }

    #[tokio::test]
    async fn an_instance_is_a_part_10_file_with_a_receipt() {
        let data = tempfile::tempdir().unwrap();
        let receiver = receiver(data.path(), &Config::default());
        // In one chunk, and in many.
        for (instance, chunk) in [("1.2.3.1", 1 << 20), ("1.2.3.2", 100)] {
            let bytes = data_set(CT, instance, "1.2", "1.2.1", 7);
            store(&receiver, request(CT, instance), &bytes, chunk).await.unwrap();
            let uid = SopInstanceUid::parse(instance).unwrap();
            let row = receiver.store.instance(&uid).unwrap().expect("a receipt");
            let path = data.path().join(&row.receipt.object);
            let file = std::fs::read(&path).unwrap();
            assert!(file.ends_with(&bytes), "bytes as received");
            assert_eq!(file.len() as u64, row.receipt.size_bytes);
            let mut digest = Hasher::new();
            digest.update(&bytes);
            assert_eq!(row.receipt.digest, digest.finish());
            let object = dicom_object::open_file(&path).unwrap();
            assert_eq!(object.meta().source_application_entity_title(), Some("CT 1"));
            assert_eq!(
                object.meta().media_storage_sop_instance_uid().trim_end_matches('\0'),
                instance
            );
        }
        assert_eq!(files(&data.path().join("incoming")), 0);
    }

    /// P49 to P51, P60 to P68, P80: refused with the right status, and nothing remains.
    #[tokio::test]
    async fn what_cannot_be_taken_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let receiver = receiver(data.path(), &Config::default());
        let good = || data_set(CT, "1.2.3", "1.2", "1.2.1", 7);
        let long = "1".repeat(65);
        let cases: Vec<(&str, StoreRequest, Vec<u8>, u16)> = vec![
            ("P50 other instance", request(CT, "1.2.4"), good(), 0xA900),
            ("P51 other class", request(uids::MR_IMAGE_STORAGE, "1.2.3"), good(), 0xA900),
            ("P60 path", request(CT, "../../etc/passwd"), good(), 0xC000),
            ("P61 path", request(CT, "/etc/passwd"), good(), 0xC000),
            ("P62 dots", request(CT, ".."), good(), 0xC000),
            ("P64 long", request(CT, &long), good(), 0xC000),
            ("P65 empty", request(CT, ""), good(), 0xC000),
            (
                "P60 study is a path",
                request(CT, "1.2.3"),
                data_set(CT, "1.2.3", "../x", "1", 7),
                0xC000,
            ),
            (
                "P61 series is a path",
                request(CT, "1.2.3"),
                data_set(CT, "1.2.3", "1.2", "/x", 7),
                0xC000,
            ),
            ("P68 no study", request(CT, "1.2.3"), data_set(CT, "1.2.3", "", "1.2.1", 7), 0xC000),
            ("P68 no instance", request(CT, "1.2.3"), data_set(CT, "", "1.2", "1.2.1", 7), 0xA900),
            ("P80 empty", request(CT, "1.2.3"), vec![], 0xC000),
            ("P81 random", request(CT, "1.2.3"), vec![0x5A; 5000], 0xC000),
            ("cut", request(CT, "1.2.3"), good()[..good().len() - 1].to_vec(), 0xC000),
        ];
        for (name, request, bytes, status) in cases {
            for chunk in [1 << 20, 64] {
                let found = store(&receiver, request.clone(), &bytes, chunk).await;
                assert_eq!(found, Err(status), "{name}");
                assert_eq!(files(&data.path().join("incoming")), 0, "{name}");
                assert_eq!(files(&data.path().join("objects")), 0, "{name}");
            }
        }
        assert_eq!(receiver.store.studies(10).unwrap().len(), 0);
    }

    /// P94 to P97 and habits of devices: what says what it is, is kept; what is odd is
    /// marked.
    #[tokio::test]
    async fn odd_data_sets_are_kept_as_they_came() {
        let data = tempfile::tempdir().unwrap();
        let receiver = receiver(data.path(), &Config::default());
        let uids = |study: &str| {
            [
                element(tags::SOP_CLASS_UID, "UI", CT),
                element(tags::SOP_INSTANCE_UID, "UI", "1.2.3"),
                element(tags::STUDY_INSTANCE_UID, "UI", study),
                element(tags::SERIES_INSTANCE_UID, "UI", "1.2.1"),
            ]
            .concat()
        };
        let odd = |tag: dicom_core::Tag, value: &str| {
            let mut out = [tag.0.to_le_bytes(), tag.1.to_le_bytes()].concat();
            out.extend_from_slice(b"UI");
            out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_le_bytes());
            out.extend_from_slice(value.as_bytes());
            out
        };
        let private = dicom_core::Tag(0x0029, 0x1010);
        let bad_vr = [private.0.to_le_bytes(), private.1.to_le_bytes()].concat();
        let bad_vr = [bad_vr, b"\x01\x02\x04\0abcd".to_vec()].concat();
        let group_length = |group: u16| {
            let tag = [group.to_le_bytes(), [0, 0]].concat();
            [tag, b"UL\x04\0\x10\0\0\0".to_vec()].concat()
        };
        let cases: Vec<(&str, Vec<u8>, bool)> = vec![
            ("group lengths", [group_length(8), uids("1.2"), group_length(0x7FE0)].concat(), false),
            ("padding of NUL and space", uids("1.2\0 \0"), false),
            ("leading zeros", uids("1.02"), false),
            (
                "an odd length",
                [
                    odd(tags::SOP_CLASS_UID, CT),
                    odd(tags::SOP_INSTANCE_UID, "1.2.3"),
                    odd(tags::STUDY_INSTANCE_UID, "1.2"),
                    odd(tags::SERIES_INSTANCE_UID, "1.2.1"),
                ]
                .concat(),
                false,
            ),
            ("a VR that is none", [uids("1.2"), bad_vr].concat(), true),
            (
                "a VR that is none, before the UIDs",
                [b"\x08\0\x05\0\x01\x02\x02\0ab".to_vec(), uids("1.2")].concat(),
                true,
            ),
            ("P95 file meta inside", [uids("1.2"), group_length(2)].concat(), true),
            ("bytes behind the end", [uids("1.2"), vec![0, 0, 0]].concat(), true),
        ];
        for (name, bytes, marked) in cases {
            let folder = tempfile::tempdir().unwrap();
            let receiver = self::receiver(folder.path(), &Config::default());
            for chunk in [1 << 20, 16] {
                let found = store(&receiver, request(CT, "1.2.3"), &bytes, chunk).await;
                assert_eq!(found, Ok(()), "{name}");
            }
            let uid = SopInstanceUid::parse("1.2.3").unwrap();
            let row = receiver.store.instance(&uid).unwrap().unwrap();
            assert_eq!(row.receipt.unreadable.is_some(), marked, "{name}: {row:?}");
            receiver.store.settled().await.unwrap();
        }
        // Broken before it says what it is, or in a way that harms: refused as before.
        let deep = [8, 0, 0x32, 0x10, b'S', b'Q', 0, 0, 255, 255, 255, 255].to_vec();
        for (name, bytes) in [
            ("P85 no end", [uids("1.2"), deep].concat()),
            (
                "P86 too long",
                [uids("1.2"), element(private, "LO", "abcdef")[..12].to_vec()].concat(),
            ),
        ] {
            let found = store(&receiver, request(CT, "1.2.3"), &bytes, 1 << 20).await;
            assert_eq!(found, Err(0xC000), "{name}");
        }
    }

    #[tokio::test]
    async fn an_abandoned_instance_leaves_nothing() {
        let data = tempfile::tempdir().unwrap();
        let receiver = receiver(data.path(), &Config::default());
        let mut sink = receiver.begin(request(CT, "1.2.3")).await.unwrap();
        for _ in 0..3 {
            sink.write(Bytes::from(vec![0; 300_000])).await.unwrap();
        }
        let incoming = || files(&data.path().join("incoming"));
        assert_eq!(incoming(), 1);
        drop(sink);
        for _ in 0..1000 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            if incoming() == 0 {
                break;
            }
        }
        assert_eq!(incoming(), 0);
    }

    /// P69, P70, P71.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_repeated_instance_is_one() {
        let data = tempfile::tempdir().unwrap();
        let receiver = Arc::new(receiver(data.path(), &Config::default()));
        let tasks = tokio_util::task::TaskTracker::new();
        let sends: Vec<_> = (0..8)
            .map(|_| {
                let receiver = Arc::clone(&receiver);
                tasks.spawn(async move {
                    let bytes = data_set(CT, "1.2.3", "1.2", "1.2.1", 7);
                    store(&receiver, request(CT, "1.2.3"), &bytes, 1 << 20).await
                })
            })
            .collect();
        for send in sends {
            assert_eq!(send.await.unwrap(), Ok(()));
        }
        let other = data_set(CT, "1.2.3", "1.2", "1.2.1", 8);
        // P70, twice: the first is the one that is read, the other is kept once.
        for _ in 0..2 {
            assert_eq!(store(&receiver, request(CT, "1.2.3"), &other, 1 << 20).await, Ok(()));
        }
        assert_eq!(files(&data.path().join("objects")), 2);
        let uid = SopInstanceUid::parse("1.2.3").unwrap();
        let row = receiver.store.instance(&uid).unwrap().unwrap();
        let last = |file: &str| *std::fs::read(data.path().join(file)).unwrap().last().unwrap();
        assert_eq!(row.files().map(last).collect::<Vec<_>>(), [7, 8], "the first, the other");
    }

    /// What is answered with success can be found: a SOP Instance UID that is known elsewhere is
    /// refused with the reason, whatever its size, and the first stays as it is.
    #[tokio::test]
    async fn a_known_instance_of_another_study_or_series_is_refused_and_said_why() {
        let data = tempfile::tempdir().unwrap();
        let receiver = receiver(data.path(), &Config::default());
        let first = data_set(CT, "1.2.3", "1.2", "1.2.1", 7);
        store(&receiver, request(CT, "1.2.3"), &first, 64).await.unwrap();
        for (study, series) in [("1.3", "1.3.1"), ("1.2", "1.2.2")] {
            let other = data_set(CT, "1.2.3", study, series, 9);
            for chunk in [1 << 20, 64] {
                let mut sink = receiver.begin(request(CT, "1.2.3")).await.unwrap();
                let mut head = sink.head().to_vec();
                for chunk in other.chunks(chunk) {
                    let chunk = [&std::mem::take(&mut head), chunk].concat();
                    sink.write(chunk.into()).await.unwrap();
                }
                let refusal = sink.finish().await.unwrap_err();
                assert_eq!(refusal.status.0, 0xC000);
                assert!(refusal.comment.contains("known in another"), "{}", refusal.comment);
                assert!(refusal.comment.len() <= 64, "fits into Error Comment");
            }
        }
        assert_eq!(files(&data.path().join("incoming")), 0);
        assert_eq!(receiver.store.studies(10).unwrap().len(), 1);
        let uid = SopInstanceUid::parse("1.2.3").unwrap();
        let row = receiver.store.instance(&uid).unwrap().unwrap();
        assert_eq!(row.versions.len(), 0);
        // The same again is no clash.
        store(&receiver, request(CT, "1.2.3"), &first, 1 << 20).await.unwrap();
    }

    /// S1, S2: below the low-water mark A700, and taken again when there is room.
    #[tokio::test]
    async fn a_full_disk_refuses_and_takes_nothing_half() {
        let data = tempfile::tempdir().unwrap();
        let full = Config { free_bytes_min: u64::MAX, ..Config::default() };
        let bytes = data_set(CT, "1.2.3", "1.2", "1.2.1", 7);
        let refusing = receiver(data.path(), &full);
        for chunk in [1 << 20, 64] {
            assert_eq!(store(&refusing, request(CT, "1.2.3"), &bytes, chunk).await, Err(0xA700));
        }
        assert_eq!(files(&data.path().join("incoming")), 0);
        drop(refusing);
        let receiver = receiver(data.path(), &Config::default());
        assert_eq!(store(&receiver, request(CT, "1.2.3"), &bytes, 64).await, Ok(()));
    }
}
