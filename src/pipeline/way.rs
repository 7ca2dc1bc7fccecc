//! One revision of one study on its way: its files, its events, and everything the steps work with.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::alert;
use crate::analysis;
use crate::analysis::provider::cache::Cache;
use crate::analysis::provider::keeper::Kept;
use crate::deliver;
use crate::dicom::storage_commitment;
use crate::dicom::storage_scu::Head;
use crate::domain::ae_title::AeTitle;
use crate::domain::clock::Clock;
use crate::domain::in_force::InForce;
use crate::domain::profile::Profile;
use crate::domain::text;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::orders::worklist::Worklist;
use crate::pipeline::canary::Canaries;
use crate::pipeline::composing;
use crate::pipeline::earlier::Marks;
use crate::pipeline::escalating::Started;
use crate::pipeline::hearing;
use crate::pipeline::job;
use crate::pipeline::job::StepError;
use crate::pipeline::turns::Turns;
use crate::pipeline::watch::Attention;
use crate::sr;
use crate::store::Orders;
use crate::store::Store;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::event::StudyState;
use crate::worker::Pool;

/// Everything the steps work with.
pub struct Kit {
    pub store: Store,
    pub pool: Pool,
    pub clock: Arc<dyn Clock>,
    /// Of the program, not of this kit.
    pub started: Started,
    pub profiles: Vec<Profile>,
    /// The gateways by name.
    pub providers: BTreeMap<String, Arc<Kept>>,
    /// What each gateway was made of: its settings and the files that they name.
    pub gateway_marks: BTreeMap<String, String>,
    pub canaries: Arc<Canaries>,
    /// Answers of gateways that are kept.
    pub answers: Arc<Cache>,
    /// This node, as it stands in what it writes.
    pub equipment: sr::Equipment,
    pub pipeline: crate::pipeline::Config,
    pub assemble: crate::assemble::Config,
    pub analysis: analysis::Config,
    pub deid: crate::deid::Config,
    pub report: crate::report::Config,
    pub deliver: deliver::Config,
    pub alert: alert::Config,
    pub audit: crate::pipeline::audit::Config,
    pub traces: crate::pipeline::traces::Config,
    pub commitment: storage_commitment::Config,
    pub hl7: hearing::Config,
    pub orders: Arc<Orders>,
    pub orders_keep_days: u32,
    pub worklist: Arc<Worklist>,
    /// By which we call others.
    pub ae_title: AeTitle,
    pub attention: Arc<Attention>,
    /// Who is told of several alerts together at this moment, by address.
    pub digests: Arc<Turns>,
    /// Makes the links by which people answer alerts.
    pub links: alert::Signer,
    pub marks: Marks,
}

/// The kit in force. Settings that are read again make another. Store, workers, clock and what was
/// counted are the same in all.
pub type Kits = InForce<Kit>;

/// One revision of one study, and its files.
pub struct Way<'a> {
    pub kit: &'a Kit,
    pub study_uid: &'a StudyUid,
    pub revision: u32,
}

impl Way<'_> {
    pub fn save<T: Serialize>(&self, file: &str, value: &T) -> Result<(), StepError> {
        let bytes = serde_json::to_vec_pretty(value).map_err(StepError::lasting)?;
        self.save_bytes(file, &bytes)
    }

    pub fn save_bytes(&self, file: &str, bytes: &[u8]) -> Result<(), StepError> {
        let written = self.kit.store.write_result(self.study_uid, self.revision, file, bytes);
        written.map_err(StepError::passing)
    }

    /// Writes a file that others see: page, `prelim study`, destinations, `prelim verify`.
    pub fn keep(&self, file: &str, media_type: &str, bytes: &[u8]) -> Result<Event, StepError> {
        self.save_bytes(file, bytes)?;
        let head = (media_type == composing::DICOM).then(|| Head::of_bytes(bytes)).transpose();
        let head = head.map_err(StepError::lasting)?;
        let sop = head.map(|head| SopInstanceUid::parse(&head.sop_instance_uid)).transpose();
        Ok(Event::ArtefactWritten {
            study_uid: self.study_uid.clone(),
            revision: self.revision,
            file: file.to_owned(),
            media_type: media_type.to_owned(),
            size_bytes: bytes.len() as u64,
            digest: sha256(bytes),
            sop_instance_uid: sop.map_err(StepError::lasting)?,
            at: self.kit.clock.now(),
        })
    }

    pub fn load<T: DeserializeOwned>(&self, file: &str) -> Result<T, StepError> {
        self.load_if_there(file)?
            .ok_or_else(|| StepError::lasting(format!("{file} of the step before is gone")))
    }

    pub fn load_if_there<T: DeserializeOwned>(&self, file: &str) -> Result<Option<T>, StepError> {
        self.load_bytes(file)?
            .map(|bytes| {
                serde_json::from_slice(&bytes)
                    .map_err(|_| StepError::lasting(format!("{file} cannot be read")))
            })
            .transpose()
    }

    pub fn load_bytes(&self, file: &str) -> Result<Option<Vec<u8>>, StepError> {
        let read = self.kit.store.read_result(self.study_uid, self.revision, file);
        read.map_err(StepError::passing)
    }

    pub fn state(&self, to: StudyState, reason: impl Into<String>) -> Event {
        let (study_uid, revision) = (self.study_uid.clone(), self.revision);
        Event::StateChanged {
            study_uid,
            revision,
            to,
            reason: reason.into(),
            at: self.kit.clock.now(),
        }
    }

    /// A time for people.
    pub fn local(&self, at: jiff::Timestamp) -> String {
        at.to_zoned(self.kit.equipment.time_zone.clone()).strftime("%H:%M:%S").to_string()
    }

    pub fn next(&self, kind: JobKind) -> Event {
        self.at(kind, self.kit.clock.now())
    }

    /// A job that is not done before this time.
    pub fn at(&self, kind: JobKind, due: jiff::Timestamp) -> Event {
        Event::JobEnqueued { job: job::job(kind, self.study_uid, self.revision, due) }
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    text::hex(&sha2::Sha256::digest(bytes))
}
