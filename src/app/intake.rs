//! Uploads take the way of everything that is received: one receiver, one order of syncs.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use sha2::Digest as _;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncSeekExt as _;

use crate::analysis::profile;
use crate::dicom::status::Status;
use crate::dicom::storage_scp::Refusal;
use crate::dicom::storage_scp::StorageHandler as _;
use crate::dicom::storage_scp::StoreRequest;
use crate::dicom::storage_scu::Head;
use crate::domain::picture::PictureFormat;
use crate::domain::priority::Priority as Wanted;
use crate::domain::study::PersonName;
use crate::domain::text;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::imaging::wrap::WrapFields;
use crate::pipeline::closing;
use crate::pipeline::origins;
use crate::pipeline::record;
use crate::pipeline::record::Request;
use crate::pipeline::way::Kit;
use crate::pipeline::way::Kits;
use crate::receive::Receiver;
use crate::store::InstanceRow;
use crate::web::Accepted;
use crate::web::Intake;
use crate::web::IntakeError;
use crate::web::Priority;
use crate::web::Upload;

/// Bytes of a file in memory at one time.
const CHUNK_BYTES: u64 = 512 * 1024;

pub struct Uploads {
    pub receiver: Arc<Receiver>,
    pub kits: Arc<Kits>,
}

#[async_trait]
impl Intake for Uploads {
    async fn dicom(&self, file: &Path, upload: &Upload) -> Result<Accepted, IntakeError> {
        self.check(upload)?;
        let row = self.receive(file).await?;
        self.accepted(row, upload).await
    }

    async fn picture(
        &self,
        file: &Path,
        format: PictureFormat,
        upload: &Upload,
    ) -> Result<Accepted, IntakeError> {
        self.check(upload)?;
        let _ = format; // the worker looks at the bytes, not at what was said of them
        let part10 = self.wrapped(file, file.parent().unwrap_or(Path::new(".")), upload).await?;
        self.dicom(part10.path(), upload).await
    }
}

impl Uploads {
    /// Takes one file the way of everything that is received.
    pub async fn receive(&self, file: &Path) -> Result<InstanceRow, IntakeError> {
        let path = file.to_owned();
        let head = tokio::task::spawn_blocking(move || Head::read(&path))
            .await
            .map_err(failed)?
            .map_err(|error| IntakeError::Unusable(error.to_string()))?;
        let uid = SopInstanceUid::parse(&head.sop_instance_uid)
            .map_err(|error| IntakeError::Unusable(error.to_string()))?;
        let request = StoreRequest {
            sop_class_uid: head.sop_class_uid,
            sop_instance_uid: head.sop_instance_uid,
            transfer_syntax_uid: head.transfer_syntax_uid,
            calling_ae: "UPLOAD".to_owned(),
            called_ae: self.kits.now().ae_title.to_string(),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            association: "http".to_owned(),
            priority: Wanted::default(),
        };
        let mut sink = self.receiver.begin(request).await.map_err(refused)?;
        let mut from = tokio::fs::File::open(file).await.map_err(failed)?;
        from.seek(std::io::SeekFrom::Start(head.data_at)).await.map_err(failed)?;
        let mut chunk = sink.head().to_vec();
        loop {
            let before = chunk.len();
            (&mut from).take(CHUNK_BYTES).read_to_end(&mut chunk).await.map_err(failed)?;
            if chunk.len() == before {
                break;
            }
            sink.write(Bytes::from(std::mem::take(&mut chunk))).await.map_err(refused)?;
        }
        sink.finish().await.map_err(refused)?;
        let row = self.kits.now().store.instance(&uid).map_err(failed)?;
        row.ok_or_else(|| {
            IntakeError::Conflict(
                "the same SOP Instance UID with other bytes is here already".into(),
            )
        })
    }

    /// A bare picture as a file of one instance, in `folder`.
    pub async fn wrapped(
        &self,
        file: &Path,
        folder: &Path,
        upload: &Upload,
    ) -> Result<NamedTempFile, IntakeError> {
        let bytes = tokio::fs::read(file).await.map_err(failed)?;
        let fields = fields(
            upload,
            &bytes,
            &self.kits.now().equipment.time_zone,
            self.kits.now().clock.now(),
        );
        let wrapped = self.kits.now().pool.wrap(bytes, fields).await;
        let object = wrapped.map_err(|error| IntakeError::Unusable(error.to_string()))?;
        let part10 = NamedTempFile::new_in(folder).map_err(failed)?;
        tokio::fs::write(part10.path(), object).await.map_err(failed)?;
        Ok(part10)
    }
}

/// A bare picture as a study of its own. Its UIDs come from the bytes and what was said of them:
/// the same upload again is the same instance.
fn fields(upload: &Upload, bytes: &[u8], zone: &TimeZone, now: Timestamp) -> WrapFields {
    let digest = text::hex(&sha2::Sha256::digest(bytes));
    let said = [&upload.modality, &upload.body_part, &upload.view, &upload.age, &upload.sex];
    let said = said.into_iter().chain((!upload.profile.is_empty()).then_some(&upload.profile));
    let said = said.map(String::as_str).collect::<Vec<_>>().join("\n");
    let local = now.to_zoned(zone.clone());
    WrapFields {
        study_uid: StudyUid::derived(&["upload", "study", &digest, &said]),
        series_uid: SeriesUid::derived(&["upload", "series", &digest, &said]),
        sop_instance_uid: SopInstanceUid::derived(&["upload", "instance", &digest, &said]),
        modality: upload.modality.clone(),
        body_part: upload.body_part.clone(),
        view: upload.view.clone(),
        laterality: String::new(),
        patient_id: format!("UPLOAD-{}", digest.split_at(12).0),
        patient_name: PersonName::default(),
        birth_date: String::new(),
        age: upload.age.clone(),
        sex: upload.sex.clone(),
        study_description: "Uploaded picture".to_owned(),
        series_description: String::new(),
        accession_number: String::new(),
        study_id: String::new(),
        date: local.strftime("%Y%m%d").to_string(),
        time: local.strftime("%H%M%S").to_string(),
    }
}

impl Uploads {
    /// Whether what it asks for is there.
    fn check(&self, upload: &Upload) -> Result<(), IntakeError> {
        match upload.profile.as_str() {
            "" => Ok(()),
            name => profile::find(&self.kits.now().profiles, name)
                .map(|_| ())
                .map_err(IntakeError::Unusable),
        }
    }

    /// Keeps what was said with the upload and closes the study: it is whole.
    async fn accepted(&self, row: InstanceRow, upload: &Upload) -> Result<Accepted, IntakeError> {
        let kit = self.kits.now();
        let store = &kit.store;
        let row = decided(&kit, row).await?;
        let (study_uid, revision) = (row.receipt.study_uid, row.revision);
        let sop_instance_uid = row.receipt.sop_instance_uid;
        let origins = origins::of_study(store, &study_uid).map_err(failed)?;
        if origins.get(&sop_instance_uid).is_some_and(|row| row.is_aside) {
            // A result that stands beside the reading.
            return Ok(Accepted { study_uid, sop_instance_uid, revision });
        }
        let request = Request {
            clinical_notes: upload.clinical_notes.clone(),
            priority: match upload.priority {
                Priority::Routine => "routine",
                Priority::Urgent => "urgent",
                Priority::Stat => "stat",
            }
            .to_owned(),
            profile: upload.profile.clone(),
        };
        let open = store.open_revisions().map_err(failed)?;
        let (wanted, now) = (Wanted::of_words(&request.priority), kit.clock.now());
        let by = format!("the upload by {}", upload.by);
        store.prioritise(&study_uid, wanted, &by, now).await.map_err(failed)?;
        let is_open =
            open.iter().any(|open| open.study_uid == study_uid && open.revision == revision);
        let before = store.read_result(&study_uid, revision, record::REQUEST).map_err(failed)?;
        let before: Request =
            before.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        if !is_open && before.profile != request.profile {
            let why = "it is here already and is read by another profile; see prelim replay";
            return Err(IntakeError::Conflict(why.into()));
        }
        let bytes = serde_json::to_vec_pretty(&request).map_err(failed)?;
        store.write_result(&study_uid, revision, record::REQUEST, &bytes).map_err(failed)?;
        if is_open {
            let (reason, at) = (format!("uploaded by {}", upload.by), self.kits.now().clock.now());
            closing::close_by_word(store, &study_uid, reason, at).await.map_err(failed)?;
        }
        Ok(Accepted { study_uid, sop_instance_uid, revision })
    }
}

/// What came to a study that takes nothing now: an image opens its next revision at once.
async fn decided(kit: &Kit, row: InstanceRow) -> Result<InstanceRow, IntakeError> {
    let (store, study_uid) = (&kit.store, &row.receipt.study_uid);
    let origins = origins::of_study(store, study_uid).map_err(failed)?;
    let known = origins.get(&row.receipt.sop_instance_uid);
    if !known.is_some_and(|row| row.is_aside && row.decided.is_none()) {
        return Ok(row);
    }
    let events = origins::undecided(kit, study_uid).await;
    let events = events.map_err(|error| failed(error.cause))?;
    store.commit(events).await.map_err(failed)?;
    let now = store.instance(&row.receipt.sop_instance_uid).map_err(failed)?;
    Ok(now.unwrap_or(row))
}

fn failed(error: impl std::fmt::Display) -> IntakeError {
    IntakeError::Failed(error.to_string())
}

fn refused(refusal: Refusal) -> IntakeError {
    match refusal.status {
        Status::OUT_OF_RESOURCES => IntakeError::NoSpace,
        _ => IntakeError::Unusable(refusal.comment),
    }
}
