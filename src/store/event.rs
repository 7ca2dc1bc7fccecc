//! Events: what the ledger holds and everything else is a view of.
//!
//! One commit is one record: its events are applied together or not at all. Identities of
//! patients do not stand here, only UIDs, AE titles and addresses.

use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::agreement::Comparison;
use crate::domain::alert::Answer;
use crate::domain::alert::Kind;
use crate::domain::alert::Told;
use crate::domain::alert::Unless;
use crate::domain::call::Call;
use crate::domain::canary::Phase;
use crate::domain::identities::Element;
use crate::domain::identities::Settled;
use crate::domain::origin;
use crate::domain::origin::Why;
use crate::domain::priority::Priority;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransactionUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::domain::urgency::Urgency;

/// One accepted instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    pub study_uid: StudyUid,
    pub series_uid: SeriesUid,
    pub sop_instance_uid: SopInstanceUid,
    pub sop_class_uid: SopClassUid,
    pub transfer_syntax_uid: TransferSyntaxUid,
    /// Path of the Part 10 file, relative to the data folder.
    pub object: String,
    /// Size of the Part 10 file.
    pub size_bytes: u64,
    /// Of the data set as received (without preamble and file meta), see [`crate::domain::digest`].
    pub digest: String,
    pub from: Source,
    /// When it was whole.
    pub received_at: Timestamp,
    /// When it began to come, where that is more than a tenth of a second before. The ledger alone
    /// has it, not the index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun_at: Option<Timestamp>,
    /// Why no parser may see it: it is kept as it came and a person has to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Whether it is an image by its SOP class and Image Type alone, see
    /// [`is_original`](crate::domain::origin::is_original). The ledger alone has it, not the index.
    /// None: of ledgers before origins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_original: Option<bool>,
}

impl Receipt {
    /// Whether it needs no look at its header and its study to be taken for an image: by the
    /// receiver's word, and what no parser may see, for a person has to look.
    pub fn is_image_at_once(&self) -> bool {
        let class = self.sop_class_uid.as_str();
        self.unreadable.is_some()
            || self.is_original.unwrap_or_else(|| origin::is_acquisition_class(class))
    }
}

/// Who sent something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    pub calling_ae: String,
    pub called_ae: String,
    /// Address and port of the peer, or `http` for an upload.
    pub address: String,
    /// Number of the association in this node's life, as in the log.
    pub association: String,
}

/// States of a study revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StudyState {
    Receiving,
    Ready,
    Analysing,
    Judged,
    Composed,
    Delivered,
    /// By rule: nothing to read (dose report, presentation state, localizer only).
    Held,
    /// A person must look.
    NeedsReview,
    /// Permanent, with its cause.
    Failed,
    /// A later revision stands in its place.
    Superseded,
}

impl StudyState {
    /// Whether nothing more happens in it by itself.
    pub fn is_at_rest(self) -> bool {
        match self {
            StudyState::Receiving
            | StudyState::Ready
            | StudyState::Analysing
            | StudyState::Judged
            | StudyState::Composed => false,
            StudyState::Delivered
            | StudyState::Held
            | StudyState::NeedsReview
            | StudyState::Failed
            | StudyState::Superseded => true,
        }
    }

    /// Lowercase English word, as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            StudyState::Receiving => "receiving",
            StudyState::Ready => "ready",
            StudyState::Analysing => "analysing",
            StudyState::Judged => "judged",
            StudyState::Composed => "composed",
            StudyState::Delivered => "delivered",
            StudyState::Held => "held",
            StudyState::NeedsReview => "needs_review",
            StudyState::Failed => "failed",
            StudyState::Superseded => "superseded",
        }
    }
}

/// What a job does. The order of the steps of a study's way is the order here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum JobKind {
    Plan,
    Picture,
    /// Asks who the plan says.
    Analyse {
        /// Who is waited for. Empty: nobody outside this program.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        gateway: String,
    },
    /// The same question once more, of a study that no gateway has read: whether they answer again.
    ReadAgain {
        gateway: String,
    },
    /// The same pictures to a model whose answer has no effect.
    Shadow {
        gateway: String,
    },
    Judge,
    Compose,
    /// One artefact (file name in the result folder) to one destination (name in the configuration).
    Deliver {
        artefact: String,
        destination: String,
    },
    /// Whether the destination has what it took for good.
    Prove {
        artefact: String,
        destination: String,
    },
    /// One alert by one channel.
    Alert {
        alert: String,
        channel: String,
        /// 0: to those who hear first.
        #[serde(default)]
        level: u32,
    },
    /// Tells those who come after this level of an alert, unless something has come about.
    Escalate {
        alert: String,
        level: u32,
        unless: Unless,
    },
    /// Word by one channel that an alert holds no more, or that a later reading does not show it.
    Withdraw {
        alert: String,
        channel: String,
        /// The revision that does not show it, where the alert goes on all the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        doubt: Option<u32>,
    },
    /// Alerts of one channel that are told together.
    Digest {
        channel: String,
        until: Timestamp,
    },
    /// Raises a test of the whole loop.
    Drill {
        service: String,
        by: String,
    },
    /// Word to the staff that images of the study are missing, to one address.
    Notice {
        channel: String,
    },
    /// Word to the technical staff that a destination does not get its results, to one address.
    Undelivered {
        destination: String,
        channel: String,
    },
    /// The result of a storage commitment, to its requester.
    Commit {
        transaction_uid: TransactionUid,
        request: String,
    },
}

impl JobKind {
    /// Where it sends results.
    pub fn destination(&self) -> Option<&str> {
        match self {
            JobKind::Deliver { destination, .. } | JobKind::Prove { destination, .. } => {
                Some(destination)
            }
            _ => None,
        }
    }

    /// By which it tells somebody.
    pub fn channel(&self) -> Option<&str> {
        match self {
            JobKind::Alert { channel, .. }
            | JobKind::Withdraw { channel, .. }
            | JobKind::Digest { channel, .. }
            | JobKind::Notice { channel }
            | JobKind::Undelivered { channel, .. } => Some(channel),
            _ => None,
        }
    }

    /// Whether it tells people of an alert, or waits for their answer: what an alert needs until a
    /// person answers it or closes it with a reason.
    pub fn is_of_alert(&self) -> bool {
        match self {
            JobKind::Alert { .. }
            | JobKind::Escalate { .. }
            | JobKind::Withdraw { .. }
            | JobKind::Digest { .. }
            | JobKind::Drill { .. } => true,
            JobKind::Plan
            | JobKind::Picture
            | JobKind::Analyse { .. }
            | JobKind::ReadAgain { .. }
            | JobKind::Shadow { .. }
            | JobKind::Judge
            | JobKind::Compose
            | JobKind::Deliver { .. }
            | JobKind::Prove { .. }
            | JobKind::Notice { .. }
            | JobKind::Undelivered { .. }
            | JobKind::Commit { .. } => false,
        }
    }

    /// The gateway that it waits for.
    pub fn gateway(&self) -> Option<&str> {
        match self {
            JobKind::Analyse { gateway } => Some(gateway.as_str()).filter(|name| !name.is_empty()),
            JobKind::ReadAgain { gateway } | JobKind::Shadow { gateway } => Some(gateway),
            JobKind::Plan
            | JobKind::Picture
            | JobKind::Judge
            | JobKind::Compose
            | JobKind::Deliver { .. }
            | JobKind::Prove { .. }
            | JobKind::Alert { .. }
            | JobKind::Escalate { .. }
            | JobKind::Withdraw { .. }
            | JobKind::Digest { .. }
            | JobKind::Drill { .. }
            | JobKind::Notice { .. }
            | JobKind::Undelivered { .. }
            | JobKind::Commit { .. } => None,
        }
    }

    /// Whether the job makes a revision's result, as against telling someone of it.
    pub fn is_reading(&self) -> bool {
        match self {
            JobKind::Plan
            | JobKind::Picture
            | JobKind::Analyse { .. }
            | JobKind::ReadAgain { .. }
            | JobKind::Judge
            | JobKind::Compose => true,
            JobKind::Shadow { .. }
            | JobKind::Deliver { .. }
            | JobKind::Prove { .. }
            | JobKind::Alert { .. }
            | JobKind::Escalate { .. }
            | JobKind::Withdraw { .. }
            | JobKind::Digest { .. }
            | JobKind::Drill { .. }
            | JobKind::Notice { .. }
            | JobKind::Undelivered { .. }
            | JobKind::Commit { .. } => false,
        }
    }
}

/// How far a performed procedure step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    InProgress,
    Completed,
    Discontinued,
}

impl StepState {
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::InProgress => "in progress",
            StepState::Completed => "completed",
            StepState::Discontinued => "discontinued",
        }
    }

    /// Whether the modality says nothing more of it.
    pub fn is_over(self) -> bool {
        match self {
            StepState::InProgress => false,
            StepState::Completed | StepState::Discontinued => true,
        }
    }
}

/// A durable unit of work. Its id says what it is: enqueuing the same id twice is one job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// `<study>/<revision>/<step>[/<artefact>/<destination>]`.
    pub id: String,
    pub kind: JobKind,
    pub study_uid: StudyUid,
    pub revision: u32,
    /// Not before this time.
    pub due: Timestamp,
    /// Of the step: lower first among the jobs of equal studies.
    pub priority: u8,
}

/// How a try of a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum JobOutcome {
    Done,
    /// Try again at `due`; the cause holds no patient data.
    Retry {
        due: Timestamp,
        cause: String,
    },
    /// Given up: a dead letter, shown until a person retries or dismisses it.
    Dead {
        cause: String,
    },
    /// Not needed any more: nothing was sent.
    Dropped {
        cause: String,
    },
}

/// What of a study did not come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shortfall {
    /// In words, for people: "118 of 120 images came (MPPS)".
    pub what: String,
    pub expected: u32,
    pub received: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Event {
    /// A new instance, or one whose file was lost and that came again.
    InstanceStored {
        receipt: Receipt,
    },
    /// A new instance of a study that takes none now, and of which it is not decided yet what it is:
    /// it opens no revision.
    InstanceSetAside {
        receipt: Receipt,
    },
    /// What these instances of a study are. One that becomes an image and was none before is of the
    /// study's next revision.
    OriginDecided {
        study_uid: StudyUid,
        instances: Vec<SopInstanceUid>,
        origin: origin::Origin,
        why: Why,
        /// Empty: the node, by its rules.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        by: String,
        at: Timestamp,
    },
    /// What waited of these instances was done.
    InstancesLookedAt {
        study_uid: StudyUid,
        instances: Vec<SopInstanceUid>,
        at: Timestamp,
    },
    /// The images of the study name more than one patient, in these elements: nothing goes out until
    /// a person has said whose it is.
    IdentityDiffers {
        study_uid: StudyUid,
        revision: u32,
        elements: Vec<Element>,
        at: Timestamp,
    },
    /// A person said whose the study is.
    IdentitySettled {
        study_uid: StudyUid,
        settled: Settled,
        reason: String,
        at: Timestamp,
    },
    /// Other bytes under the SOP Instance UID of an instance that is there: kept beside it, and an
    /// operator is told. The first stays the one that is read.
    VersionStored {
        receipt: Receipt,
    },
    /// Entered from its file: the ledger has no receipt of it. It opens nothing: whether its study
    /// was read is not known.
    InstanceAdopted {
        receipt: Receipt,
    },
    /// Taken while the index was being made anew: what it is was decided later.
    InstanceDeferred {
        receipt: Receipt,
    },
    /// What the instance of that event is stands in the events before this one.
    DeferredDecided {
        order: u64,
    },
    /// An instance that was there already. `same_bytes` false (in ledgers of format 1): it had
    /// other bytes and was not kept.
    InstanceRepeated {
        sop_instance_uid: SopInstanceUid,
        digest: String,
        same_bytes: bool,
        from: Source,
        at: Timestamp,
    },
    /// The study takes instances for this revision from now on.
    RevisionOpened {
        study_uid: StudyUid,
        revision: u32,
        at: Timestamp,
    },
    /// `instances` of the study belong to this revision and those before; no more are taken for it.
    RevisionClosed {
        study_uid: StudyUid,
        revision: u32,
        instances: u32,
        reason: String,
        at: Timestamp,
    },
    StateChanged {
        study_uid: StudyUid,
        revision: u32,
        to: StudyState,
        reason: String,
        at: Timestamp,
    },
    /// What the study is, once its headers are parsed: for lists. No identity of the patient.
    StudyDescribed {
        study_uid: StudyUid,
        revision: u32,
        modality: String,
        examination: String,
        at: Timestamp,
    },
    /// The reading is done.
    Assessed {
        study_uid: StudyUid,
        revision: u32,
        outcome: String,
        /// None where nothing was assessed. Earlier versions said routine then.
        urgency: Option<Urgency>,
        findings: Vec<String>,
        /// Of whom, as a mark that only this node can make.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patient: Option<String>,
        /// Whether the models that read it differ in what is there; only one did: `None`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        models_differ: Option<bool>,
        at: Timestamp,
    },
    /// Somebody wants the study sooner: it holds for all that is done for it from now on. What is
    /// less than what was said before changes nothing.
    PrioritySet {
        study_uid: StudyUid,
        priority: Priority,
        /// Who says so, in words.
        by: String,
        at: Timestamp,
    },
    JobEnqueued {
        job: Job,
    },
    /// A worker took it; counts as a try, also when the node dies in it.
    JobStarted {
        id: String,
        at: Timestamp,
    },
    JobEnded {
        id: String,
        outcome: JobOutcome,
        at: Timestamp,
    },
    /// The node stopped in it: that was no try.
    JobLeft {
        id: String,
        at: Timestamp,
    },
    /// Word on a dead letter, or on what waits: try now.
    JobRetried {
        id: String,
        /// Who says so; empty: the node itself.
        #[serde(default = "an_operator")]
        by: String,
        at: Timestamp,
    },
    /// An operator's word: it is not needed.
    JobCancelled {
        id: String,
        by: String,
        at: Timestamp,
    },
    /// A file in the result folder.
    ArtefactWritten {
        study_uid: StudyUid,
        revision: u32,
        file: String,
        media_type: String,
        size_bytes: u64,
        digest: String,
        /// Of a DICOM object. None in ledgers before origins.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sop_instance_uid: Option<SopInstanceUid>,
        at: Timestamp,
    },
    /// A destination took it; `detail` is its own word (status, queue id).
    Delivered {
        study_uid: StudyUid,
        revision: u32,
        artefact: String,
        destination: String,
        detail: String,
        /// Whether it has yet to be shown that the destination keeps it.
        #[serde(default)]
        unproven: bool,
        at: Timestamp,
    },
    /// The destination says that it has it for good.
    DeliveryProven {
        study_uid: StudyUid,
        revision: u32,
        artefact: String,
        destination: String,
        detail: String,
        at: Timestamp,
    },
    /// Another artefact goes to the destination, which takes none of this kind.
    DeliveryReplaced {
        study_uid: StudyUid,
        revision: u32,
        artefact: String,
        destination: String,
        by: String,
        cause: String,
        at: Timestamp,
    },
    /// A destination takes no objects of this kind, for now.
    KindRefused {
        destination: String,
        /// As in the configuration.
        kind: String,
        why: String,
        at: Timestamp,
    },
    /// We have asked an archive whether it keeps an object (storage commitment as SCU).
    ProofAsked {
        transaction_uid: TransactionUid,
        /// Of the job that waits for the answer.
        job: String,
        at: Timestamp,
    },
    ProofAnswered {
        transaction_uid: TransactionUid,
        is_kept: bool,
        detail: String,
        at: Timestamp,
    },
    /// A model was asked about the study, or an answer kept from before served.
    ModelAsked {
        study_uid: StudyUid,
        revision: u32,
        /// Its part in the strategy.
        tier: String,
        modality: String,
        /// Calling AE title of who sent the study.
        source: String,
        call: Call,
        /// The day on which it counts, in the time zone of the site.
        day: Date,
        at: Timestamp,
    },
    /// A new gateway takes over more, or goes back.
    CanaryMoved {
        canary: String,
        candidate: String,
        phase: Phase,
        why: String,
        by: String,
        at: Timestamp,
    },
    /// Someone has to hear of this. `alert` makes it one alert for study and finding.
    AlertRaised {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        urgency: Urgency,
        findings: Vec<String>,
        /// Of ledgers before services: who was told.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        recipients: Vec<String>,
        #[serde(default)]
        kind: Kind,
        /// Who hears, by the configuration; empty: the lists that ask for it.
        #[serde(default)]
        service: String,
        #[serde(default)]
        told: Vec<Told>,
        at: Timestamp,
    },
    /// Those of this level are told.
    AlertEscalated {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        level: u32,
        why: String,
        channels: Vec<String>,
        at: Timestamp,
    },
    /// One channel has had so many messages that this one is told together with others.
    AlertHeld {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        channel: String,
        level: u32,
        until: Timestamp,
        at: Timestamp,
    },
    AlertSent {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        channel: String,
        #[serde(default)]
        level: u32,
        detail: String,
        at: Timestamp,
    },
    /// The same was found again, in a later revision.
    AlertJoined {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        by_revision: u32,
        at: Timestamp,
    },
    /// A person has taken it over.
    AlertAcknowledged {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        answer: Answer,
    },
    /// A person who was told hands it over to the next.
    AlertDeclined {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        answer: Answer,
    },
    /// Everyone was told, nobody has answered.
    AlertExhausted {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        why: String,
        at: Timestamp,
    },
    /// The pause after that is over: they are told again.
    AlertBegunAgain {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        at: Timestamp,
    },
    /// A later reading does not show it; it goes on until a person answers.
    AlertDoubted {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        by_revision: u32,
        why: String,
        at: Timestamp,
    },
    /// A person has said why nobody has to look after it: the note of the answer.
    AlertClosed {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        answer: Answer,
    },
    /// A later revision does not bear it out.
    AlertWithdrawn {
        study_uid: StudyUid,
        revision: u32,
        alert: String,
        why: String,
        at: Timestamp,
    },
    /// A peer asks whether these instances are kept for good. `request` tells requests of one
    /// transaction apart: made of who asks for what.
    CommitmentRequested {
        transaction_uid: TransactionUid,
        request: String,
        /// Of the first instance that is known, for the history.
        study_uid: StudyUid,
        from: Source,
        references: Vec<(SopClassUid, SopInstanceUid)>,
        at: Timestamp,
    },
    /// The requester has the result.
    CommitmentReported {
        transaction_uid: TransactionUid,
        request: String,
        study_uid: StudyUid,
        committed: u32,
        failed: u32,
        detail: String,
        at: Timestamp,
    },
    /// A modality has begun a performed procedure step.
    StepCreated {
        step_uid: SopInstanceUid,
        studies: Vec<StudyUid>,
        modality: String,
        instances: Vec<SopInstanceUid>,
        from: Source,
        at: Timestamp,
    },
    /// `instances`: all that it has made; None: as before.
    StepChanged {
        step_uid: SopInstanceUid,
        state: StepState,
        instances: Option<Vec<SopInstanceUid>>,
        at: Timestamp,
    },
    /// A request is about to go to a gateway. No content: digests, SHA-256, hexadecimal.
    SentOut {
        study_uid: StudyUid,
        revision: u32,
        gateway: String,
        host: String,
        /// Where the gateway is, as the configuration says; may be empty.
        region: String,
        /// True when the gateway is inside the building.
        inside: bool,
        /// Of each encoded picture, in order; after a sheet, of the pictures on it.
        pictures: Vec<String>,
        /// Of the prompt's texts.
        prompt: String,
        /// Size of pictures and texts, before they are encoded for the way.
        bytes: u64,
        at: Timestamp,
    },
    /// An archive says how many instances it holds of the study.
    InstancesCounted {
        study_uid: StudyUid,
        instances: u32,
        by: String,
        at: Timestamp,
    },
    /// The revision was closed with fewer images than expected.
    InstancesMissing {
        study_uid: StudyUid,
        revision: u32,
        shortfall: Shortfall,
        at: Timestamp,
    },
    /// The objects of a study that is done went, by the rules for keeping. It holds when the study
    /// still had so many instances and nothing was open.
    InstancesRemoved {
        study_uid: StudyUid,
        instances: u32,
        /// Of its objects.
        bytes: u64,
        reason: String,
        at: Timestamp,
    },
    /// All that was known of a study went, with its results. As above.
    StudyForgotten {
        study_uid: StudyUid,
        instances: u32,
        reason: String,
        at: Timestamp,
    },
    /// The files of what went are gone.
    FilesRemoved {
        study_uid: StudyUid,
        at: Timestamp,
    },
    /// A doctor's word on a reading: on one finding, or by a final report.
    ReadingCompared {
        study_uid: StudyUid,
        revision: u32,
        comparison: Comparison,
        at: Timestamp,
    },
    /// A part of the ledger was found to be unreadable or missing. What is listed was open then:
    /// all else was over, whatever the lost part says.
    LedgerDamaged {
        /// For people: file, bytes, what is wrong.
        what: Vec<String>,
        /// Ids of jobs.
        jobs: Vec<String>,
        /// Keys of alerts that nobody had answered.
        alerts: Vec<String>,
        at: Timestamp,
    },
    /// A person or program looked at patient data.
    Accessed {
        study_uid: Option<StudyUid>,
        what: String,
        by: String,
        at: Timestamp,
    },
}

impl Event {
    /// What is open is filled in where the event is committed.
    pub fn ledger_damaged(what: Vec<String>, at: Timestamp) -> Event {
        Event::LedgerDamaged { what, jobs: Vec::new(), alerts: Vec::new(), at }
    }

    /// Of an instance whose file this event says is there.
    pub fn receipt(&self) -> Option<&Receipt> {
        match self {
            Event::InstanceStored { receipt }
            | Event::InstanceSetAside { receipt }
            | Event::InstanceAdopted { receipt }
            | Event::VersionStored { receipt }
            | Event::InstanceDeferred { receipt } => Some(receipt),
            _ => None,
        }
    }
}

/// Before it was noted who.
fn an_operator() -> String {
    "operator".to_owned()
}
