//! What the views show: owned rows, as they stand in the index.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::agreement::Comparison;
use crate::domain::alert::Answer;
use crate::domain::alert::Doubt;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::alert::Told;
use crate::domain::call::Tokens;
use crate::domain::canary::Phase;
use crate::domain::identities::Element;
use crate::domain::identities::Settled;
use crate::domain::origin::Origin;
use crate::domain::origin::Why;
use crate::domain::priority::Priority;
use crate::domain::priority::Rank;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;
use crate::domain::urgency::Urgency;
use crate::store::event::Job;
use crate::store::event::Receipt;
use crate::store::event::Shortfall;
use crate::store::event::Source;
use crate::store::event::StepState;
use crate::store::event::StudyState;

/// A study as a list shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudyRow {
    pub study_uid: StudyUid,
    /// The newest revision; `state` and `reason` are its.
    pub revision: u32,
    pub state: StudyState,
    pub reason: String,
    pub modality: String,
    pub examination: String,
    /// Outcome, urgency and findings of the newest revision that was assessed: a late instance
    /// does not hide what the revision before has found.
    pub outcome: Option<String>,
    pub urgency: Option<Urgency>,
    pub findings: Vec<String>,
    /// Whether the models that read it differ in what is there; only one did: `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub models_differ: Option<bool>,
    /// The revision that `outcome` is of.
    pub assessed_revision: Option<u32>,
    pub instances: u32,
    /// Instances that came again with other bytes; the first was kept.
    pub conflicts: u32,
    pub first_received_at: Timestamp,
    pub last_received_at: Timestamp,
    pub changed_at: Timestamp,
    /// Who sent the first instance.
    pub calling_ae: String,
    /// Number of the last event that changed it: newer changes have higher ones.
    pub order: u64,
    /// How soon it is wanted, and who says so.
    #[serde(default)]
    pub priority: Priority,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub priority_by: String,
    /// What of the newest closed revision did not come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortfall: Option<Shortfall>,
    /// Where its images name more than one patient.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whose: Option<Whose>,
    /// When its objects went, by the rules for keeping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objects_removed_at: Option<Timestamp>,
}

/// A study of more than one patient, by its images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whose {
    pub elements: Vec<Element>,
    /// Of the record of who they are.
    pub revision: u32,
    /// None: a person has to say whose it is.
    pub settled: Option<Settled>,
}

impl StudyRow {
    /// Whether nothing may go out until a person has said whose it is.
    pub fn is_of_whom_unknown(&self) -> bool {
        self.whose.as_ref().is_some_and(|whose| whose.settled.is_none())
    }
}

/// What went of a study, so that it is known when it comes again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemovedRow {
    pub at: Timestamp,
    /// Hashes of SOP Instance UIDs and digests, see `gone`.
    pub known: String,
}

/// A part of the ledger that was found to be lost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DamageRow {
    /// For people: file, bytes, what is wrong.
    pub what: String,
    pub at: Timestamp,
}

/// A study whose files are being removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoingRow {
    pub study_uid: StudyUid,
    pub at: Timestamp,
    /// Its results too.
    pub results: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevisionRow {
    pub revision: u32,
    pub state: StudyState,
    pub reason: String,
    pub opened_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Instances of the study up to and with this revision.
    pub instances: u32,
    /// Instances that came with this revision.
    pub new_instances: u32,
    pub modality: String,
    pub examination: String,
    pub outcome: Option<String>,
    pub urgency: Option<Urgency>,
    pub findings: Vec<String>,
    pub changed_at: Timestamp,
}

/// A revision that still takes instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenRevision {
    pub study_uid: StudyUid,
    pub revision: u32,
    pub opened_at: Timestamp,
    /// First and last instance of this revision.
    pub first_received_at: Timestamp,
    pub last_received_at: Timestamp,
    /// Instances of the study so far, with those of the revisions before.
    pub instances: u32,
    pub new_instances: u32,
    pub calling_ae: String,
    /// Longest time between two instances of this revision.
    #[serde(default)]
    pub longest_pause_ms: u64,
    /// Time between the last instance of the revision before and the first of this one.
    #[serde(default)]
    pub pause_before_ms: Option<u64>,
}

/// What is known of who sends: how long it pauses within a study, and when it sends at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRow {
    pub calling_ae: String,
    /// Longest pause within each of its last studies, the oldest first.
    pub pauses_ms: Vec<u64>,
    /// Hours since 1970 (UTC) in which something came, of the last weeks, ascending.
    pub active_hours: Vec<u32>,
    pub first_at: Timestamp,
    pub last_at: Timestamp,
    pub studies: u64,
}

/// What was asked of one model with one key, for one kind of study, on one day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UsageRow {
    pub day: Date,
    pub gateway: String,
    pub key: String,
    pub model: String,
    pub tier: String,
    pub modality: String,
    pub source: String,
    pub calls: u64,
    /// Of them, those without an answer.
    pub failed: u64,
    /// Of them, those that an answer kept from before served.
    pub cached: u64,
    pub tokens: Tokens,
    pub pictures: u64,
    /// Millionths of the site's currency.
    pub cost_micro: u64,
    /// Calls whose model had no price.
    pub unpriced: u64,
    /// All together.
    pub latency_ms: u64,
    pub last_at: Timestamp,
}

/// How far a new gateway has taken over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CanaryRow {
    pub candidate: String,
    pub phase: Phase,
    pub since: Timestamp,
    pub why: String,
    pub by: String,
}

/// A request for storage commitment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CommitmentRow {
    pub transaction_uid: TransactionUid,
    pub request: String,
    pub study_uid: StudyUid,
    pub from: Source,
    /// Empty once the result was reported.
    pub references: Vec<(SopClassUid, SopInstanceUid)>,
    /// How often it was asked.
    pub requests: u32,
    pub requested_at: Timestamp,
    pub reported_at: Option<Timestamp>,
    pub committed: u32,
    pub failed: u32,
    pub detail: String,
    /// The transaction UID had been used for another request before.
    pub is_duplicate: bool,
}

/// A performed procedure step of a modality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    pub step_uid: SopInstanceUid,
    pub studies: Vec<StudyUid>,
    pub modality: String,
    pub state: StepState,
    /// How many instances it has made; which, stands in a row of its own.
    pub instances: u32,
    pub calling_ae: String,
    pub created_at: Timestamp,
    pub changed_at: Timestamp,
}

/// How many instances an archive says that a study has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountRow {
    pub instances: u32,
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceRow {
    pub receipt: Receipt,
    /// The revision that it came in.
    pub revision: u32,
    pub order: u64,
    /// Others with this SOP Instance UID and other bytes, in the order of arrival. The first is
    /// the one that is read; these are kept for whoever has to find out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub versions: Vec<Receipt>,
}

impl InstanceRow {
    /// Where the first and the other versions are, relative to the data folder.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        [&self.receipt].into_iter().chain(&self.versions).map(|receipt| receipt.object.as_str())
    }
}

/// What an instance is. Without such a row it is an image, as the receiver saw.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OriginRow {
    pub sop_instance_uid: SopInstanceUid,
    /// None: not decided yet.
    pub decided: Option<Decided>,
    /// It came when its study took no instances, and is of no revision.
    #[serde(default)]
    pub is_aside: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decided {
    pub origin: Origin,
    #[serde(flatten)]
    pub why: Why,
    /// Empty: the node, by its rules.
    pub by: String,
    pub at: Timestamp,
}

impl OriginRow {
    /// Whether its revision took it as an image, or will unless something else is decided.
    pub fn is_taken(&self) -> bool {
        !self.is_aside && self.decided.as_ref().is_none_or(|one| one.origin == Origin::Image)
    }
}

/// The artefact that has a SOP Instance UID.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnRow {
    pub study_uid: StudyUid,
    pub revision: u32,
    pub file: String,
}

/// An instance that waits for a decision: what it is, or whose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingRow {
    pub study_uid: StudyUid,
    pub sop_instance_uid: SopInstanceUid,
    pub since: Timestamp,
}

/// An instance that was taken while the index was made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeferredRow {
    pub order: u64,
    pub receipt: Receipt,
}

/// A reading beside what a doctor says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComparisonRow {
    pub study_uid: StudyUid,
    pub revision: u32,
    #[serde(flatten)]
    pub comparison: Comparison,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryRow {
    pub at: Timestamp,
    pub revision: Option<u32>,
    /// A stable word: `opened`, `closed`, `state`, `job dead`, …
    pub what: String,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArtefactRow {
    pub revision: u32,
    pub file: String,
    pub media_type: String,
    pub size_bytes: u64,
    pub digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sop_instance_uid: Option<SopInstanceUid>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    Queued,
    /// The destination took it; that it keeps it is not shown yet.
    Unproven,
    Done,
    Dead,
    /// Not sent, because it was not needed any more.
    Dropped,
}

/// A kind of artefact that a destination takes none of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusalRow {
    pub destination: String,
    pub kind: String,
    pub why: String,
    pub at: Timestamp,
}

/// A question to an archive, and its answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProofRow {
    pub job: String,
    pub asked_at: Timestamp,
    pub is_kept: Option<bool>,
    pub detail: String,
}

/// One artefact on its way to one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliveryRow {
    pub revision: u32,
    pub artefact: String,
    pub destination: String,
    pub state: DeliveryState,
    /// The destination's own word.
    pub detail: String,
    pub attempts: u32,
    /// Why the last try failed.
    pub cause: String,
    pub at: Timestamp,
}

/// One message of an alert by one channel.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertSending {
    pub channel: String,
    #[serde(default)]
    pub level: u32,
    pub state: DeliveryState,
    pub detail: String,
    pub attempts: u32,
    pub cause: String,
    pub at: Timestamp,
}

/// Those of one level were told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertStep {
    pub level: u32,
    /// "nobody answered within 15 min".
    pub why: String,
    pub channels: Vec<String>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AlertRow {
    #[serde(default = "no_study")]
    pub study_uid: StudyUid,
    pub alert: String,
    pub revision: u32,
    /// None where nobody can say how urgent it is: a reading that failed.
    pub urgency: Option<Urgency>,
    pub findings: Vec<String>,
    #[serde(default)]
    pub kind: Kind,
    #[serde(default)]
    pub service: String,
    #[serde(default)]
    pub told: Vec<Told>,
    pub raised_at: Timestamp,
    #[serde(default, flatten)]
    pub standing: Standing,
    /// The level that was told last.
    #[serde(default)]
    pub level: u32,
    #[serde(default)]
    pub steps: Vec<AlertStep>,
    /// Who was told and handed it over.
    #[serde(default)]
    pub declined: Vec<Answer>,
    /// Later revisions that show the same.
    #[serde(default)]
    pub joined: Vec<u32>,
    /// The last later reading, where it does not show the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
    /// When everyone was told from the beginning, after nobody had answered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub begun_again: Vec<Timestamp>,
    /// One for each message.
    pub sendings: Vec<AlertSending>,
}

fn no_study() -> StudyUid {
    StudyUid::parse("0").expect("a number is a UID")
}

/// What one address was sent lately, and what waits to be told together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ChannelRow {
    /// Times of the messages of the last hour.
    pub sent: Vec<Timestamp>,
    pub held: Vec<HeldAlert>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldAlert {
    pub study_uid: StudyUid,
    pub revision: u32,
    pub alert: String,
    pub channel: String,
    pub level: u32,
    /// When it is told, with the others of this time. None: of versions before.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Waiting,
    Running,
    Done,
    /// Given up, until a person says otherwise.
    Dead,
    /// Not needed any more: its revision was superseded.
    Dropped,
}

impl JobState {
    /// Whether an operator's word can have it done now.
    pub fn may_be_moved(self) -> bool {
        match self {
            JobState::Waiting | JobState::Dead => true,
            JobState::Running | JobState::Done | JobState::Dropped => false,
        }
    }

    /// Whether it can still run by itself.
    pub fn is_open(self) -> bool {
        match self {
            JobState::Waiting | JobState::Running => true,
            JobState::Done | JobState::Dead | JobState::Dropped => false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRow {
    pub job: Job,
    pub state: JobState,
    /// Tries that were begun.
    pub attempts: u32,
    /// Why the last try failed.
    pub cause: String,
    /// When it may run (next).
    pub due: Timestamp,
    /// Place in the order of all events: its age.
    pub order: u64,
    /// Of its study.
    #[serde(default)]
    pub rank: Rank,
    /// Tries that were begun since one came to an end: the node died in those before.
    #[serde(default)]
    pub cut_off: u32,
    /// When a person had it begun anew after it was given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_anew: Option<Timestamp>,
}

impl JobRow {
    /// Whether it can be done without: what delivers. A reading is not given up by a word, and an
    /// alert ends by an answer, or by a person who says why.
    pub fn may_be_cancelled(&self) -> bool {
        let kind = &self.job.kind;
        self.state.may_be_moved() && !kind.is_reading() && !kind.is_of_alert()
    }
}

/// A job that this caller holds until its lease is over.
#[derive(Debug, Clone, PartialEq)]
pub struct ClaimedJob {
    pub job: Job,
    /// 1 for the first try.
    pub attempt: u32,
    /// When it was due for the first time.
    pub since: Timestamp,
    pub rank: Rank,
    /// Tries in a row, just before this one, in which the node died.
    pub cut_off: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobCounts {
    pub waiting: usize,
    pub running: usize,
    pub dead: usize,
    /// Due time of the job that has been claimable for longest.
    pub oldest_due: Option<Timestamp>,
}
