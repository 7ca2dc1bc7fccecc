//! What the API says, in its own words: a row of the store can change without the API.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::alert::Answer;
use crate::domain::alert::Kind;
use crate::domain::alert::Standing;
use crate::domain::code;
use crate::domain::finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::origin::Origin;
use crate::domain::urgency::Urgency;
use crate::store::AlertRow;
use crate::store::ArtefactRow;
use crate::store::DeliveryRow;
use crate::store::DeliveryState;
use crate::store::HistoryRow;
use crate::store::JobRow;
use crate::store::JobState;
use crate::store::StudyRow;
use crate::store::event::StudyState;
use crate::web::inspect;

/// Problem details (RFC 9457), as application/problem+json.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    r#type: String,
    title: String,
    status: u16,
    /// What is wrong and what to do, without patient data.
    detail: String,
}

/// Study Instance UID (0020,000D), PS3.5 9.1.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = r"^[0-9]+(\.[0-9]+)*$", max_length = 64, example = "1.2.840.113619.2.1")]
#[expect(dead_code, reason = "describes what `study_uid` reads")]
pub struct StudyInstanceUid(String);

/// CS (PS3.5 6.2), e.g. CR; small letters are made capital.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[A-Za-z0-9_ ]{0,16}$")]
#[expect(dead_code, reason = "describes a field of a form")]
pub struct CodeString(String);

/// Years, or a number with D, W, M or Y (AS, PS3.5 6.2).
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^([0-9]{1,3}[DWMYdwmy]?)?$", example = "018M")]
#[expect(dead_code, reason = "describes a field of a form")]
pub struct Age(String);

/// Patient's Sex (0010,0040).
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes a field of a form")]
pub enum Sex {
    M,
    F,
    O,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "describes a field of a form")]
pub enum Priority {
    Routine,
    Urgent,
    Stat,
}

/// What the referring doctor asks and knows. Goes to gateways as the settings say.
#[derive(ToSchema)]
#[schema(value_type = String, max_length = 4096)]
#[expect(dead_code, reason = "describes a field of a form")]
pub struct Note(String);

/// By which it is read; else as the headers say.
#[derive(ToSchema)]
#[schema(value_type = String, pattern = "^[a-z0-9_]{0,64}$")]
#[expect(dead_code, reason = "describes a field of a form")]
pub struct ProfileName(String);

/// How a reading ended.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A model that covers the study answered: see the findings, present or absent.
    Read,
    /// No model covers this study: only measurements. Never normal, never a lower priority.
    NotCovered,
    /// The site lets nobody read it: only measurements.
    MeasuredOnly,
    /// A person must look.
    NeedsReview,
    /// By rule: nothing that would be read.
    Held,
}

/// A study, without who the patient is.
#[derive(Serialize, ToSchema)]
pub struct Study {
    pub study_uid: String,
    /// The newest; `state` and `reason` are its.
    pub revision: u32,
    pub state: StudyState,
    pub reason: String,
    pub modality: String,
    pub examination: String,
    /// None before a reading.
    #[schema(value_type = Option<Outcome>)]
    pub outcome: Option<String>,
    /// None before a reading. Not assessed is not routine.
    pub urgency: Option<Urgency>,
    /// What is present, in words.
    pub findings: Vec<String>,
    pub instances: u32,
    /// Who sent the first instance.
    pub calling_ae: String,
    pub first_received_at: Timestamp,
    pub last_received_at: Timestamp,
    pub changed_at: Timestamp,
}

impl From<&StudyRow> for Study {
    fn from(row: &StudyRow) -> Study {
        Study {
            study_uid: row.study_uid.to_string(),
            revision: row.revision,
            state: row.state,
            reason: row.reason.clone(),
            modality: row.modality.clone(),
            examination: row.examination.clone(),
            outcome: row.outcome.clone(),
            urgency: row.urgency,
            findings: row.findings.clone(),
            instances: row.instances,
            calling_ae: row.calling_ae.clone(),
            first_received_at: row.first_received_at,
            last_received_at: row.last_received_at,
            changed_at: row.changed_at,
        }
    }
}

/// A study with all that is known of it but who the patient is.
#[derive(Serialize, ToSchema)]
pub struct StudyDetail {
    #[serde(flatten)]
    pub study: Study,
    /// The newest reading as `assessment.json` has it, without the patient.
    #[schema(value_type = Option<Object>)]
    pub reading: Option<Value>,
    pub findings_of_reading: Vec<Finding>,
    pub history: Vec<Step>,
    pub artefacts: Vec<Artefact>,
    /// What its objects are, by series.
    pub objects: Vec<Objects>,
    pub deliveries: Vec<Delivery>,
    pub alerts: Vec<Alert>,
    pub jobs: Vec<Job>,
    pub notice: String,
}

/// Value, scheme and meaning (PS3.3 8.8).
#[derive(Serialize, ToSchema)]
pub struct Code {
    pub value: String,
    pub scheme: String,
    pub meaning: String,
}

impl From<&code::Code> for Code {
    fn from(code: &code::Code) -> Code {
        let (value, scheme) = (code.value.clone(), code.scheme.clone());
        Code { value, scheme, meaning: code.meaning.clone() }
    }
}

/// Something that was looked for or seen.
#[derive(Serialize, ToSchema)]
pub struct Finding {
    pub study_uid: String,
    pub revision: u32,
    /// F1, F2, … within the reading.
    pub id: String,
    pub tracking_uid: String,
    pub key: String,
    pub concept: Code,
    pub presence: Presence,
    pub site: Option<Code>,
    pub laterality: Option<Laterality>,
    /// Where it is, in the words of the model; empty: not said.
    pub location: String,
    /// Probability that it is present, 0 to 1.
    pub probability: Option<f64>,
    /// Null of what is not present.
    pub urgency: Option<Urgency>,
    pub description: String,
    pub recommendation: String,
    /// SOP Instance UIDs of the images on which it rests.
    pub evidence: Vec<String>,
    /// Who said it: model and version.
    pub algorithm: String,
}

impl Finding {
    pub fn new(
        study_uid: &str,
        revision: u32,
        algorithm: &str,
        finding: &finding::Finding,
    ) -> Finding {
        let evidence = finding.evidence.iter().map(|image| image.sop_instance_uid.to_string());
        Finding {
            study_uid: study_uid.to_owned(),
            revision,
            id: finding.id.clone(),
            tracking_uid: finding.tracking_uid.clone(),
            key: finding.key.clone(),
            concept: (&finding.concept).into(),
            presence: finding.presence,
            site: finding.site.as_ref().map(Code::from),
            laterality: finding.laterality,
            location: finding.location.clone(),
            probability: finding.probability,
            urgency: finding.assessed(),
            description: finding.description.clone(),
            recommendation: finding.recommendation.clone(),
            evidence: evidence.collect(),
            algorithm: algorithm.to_owned(),
        }
    }
}

/// An entry of the history.
#[derive(Serialize, ToSchema)]
pub struct Step {
    pub at: Timestamp,
    pub revision: Option<u32>,
    pub what: String,
    pub detail: String,
}

impl From<&HistoryRow> for Step {
    fn from(row: &HistoryRow) -> Step {
        let (what, detail) = (row.what.clone(), row.detail.clone());
        Step { at: row.at, revision: row.revision, what, detail }
    }
}

/// Objects of one series that are the same to this node.
#[derive(Serialize, ToSchema)]
pub struct Objects {
    pub series_uid: String,
    pub sop_class_uid: String,
    /// SOP Instance UID of the first.
    pub first: String,
    pub instances: u32,
    /// None: not decided yet.
    pub origin: Option<Origin>,
    /// Why, in words.
    pub reason: String,
    /// Who says so; empty: the node.
    pub by: String,
}

impl From<&inspect::Objects> for Objects {
    fn from(row: &inspect::Objects) -> Objects {
        Objects {
            series_uid: row.series_uid.to_string(),
            sop_class_uid: row.sop_class_uid.to_string(),
            first: row.sop_instance_uid.to_string(),
            instances: row.instances,
            origin: row.origin,
            reason: row.reason.clone(),
            by: row.by.clone(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Artefact {
    pub revision: u32,
    pub file: String,
    pub media_type: String,
    pub size_bytes: u64,
    /// SHA-256, hexadecimal.
    pub digest: String,
    /// Where this node gives it.
    pub url: String,
    pub at: Timestamp,
}

impl Artefact {
    pub fn new(study_uid: &str, row: &ArtefactRow) -> Artefact {
        Artefact {
            revision: row.revision,
            url: format!("/results/{study_uid}/{}/{}", row.revision, row.file),
            file: row.file.clone(),
            media_type: row.media_type.clone(),
            size_bytes: row.size_bytes,
            digest: row.digest.clone(),
            at: row.at,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Delivery {
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

impl From<&DeliveryRow> for Delivery {
    fn from(row: &DeliveryRow) -> Delivery {
        Delivery {
            revision: row.revision,
            artefact: row.artefact.clone(),
            destination: row.destination.clone(),
            state: row.state,
            detail: row.detail.clone(),
            attempts: row.attempts,
            cause: row.cause.clone(),
            at: row.at,
        }
    }
}

/// A person's word on an alert.
#[derive(Serialize, ToSchema)]
pub struct AlertAnswer {
    pub by: String,
    /// link, page, api or command line.
    pub how: String,
    pub note: String,
    pub at: Timestamp,
}

impl From<&Answer> for AlertAnswer {
    fn from(answer: &Answer) -> AlertAnswer {
        let (by, how, note) = (answer.by.clone(), answer.how.clone(), answer.note.clone());
        AlertAnswer { by, how, note, at: answer.at }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Alert {
    pub alert: String,
    pub study_uid: String,
    pub revision: u32,
    pub kind: Kind,
    /// Null where nothing was assessed: the software could not read the study.
    pub urgency: Option<Urgency>,
    pub findings: Vec<String>,
    pub service: String,
    pub raised_at: Timestamp,
    /// Unanswered: everyone was told and nobody answered.
    #[schema(pattern = "^(open|acknowledged|withdrawn|unanswered|closed)$")]
    pub standing: String,
    pub acknowledged: Option<AlertAnswer>,
    /// By whom, and in the note why.
    pub closed: Option<AlertAnswer>,
    /// Why a later reading does not bear it out; it goes on all the same.
    pub doubt: Option<String>,
    /// When everyone was told again from the beginning, after nobody had answered.
    pub begun_again: Vec<Timestamp>,
    pub declined: Vec<AlertAnswer>,
    /// The level that was told last, from 0.
    pub level: u32,
    pub sendings: Vec<AlertSending>,
}

#[derive(Serialize, ToSchema)]
pub struct AlertSending {
    pub channel: String,
    pub level: u32,
    pub state: DeliveryState,
    pub attempts: u32,
    pub cause: String,
    pub at: Timestamp,
}

impl From<&AlertRow> for Alert {
    fn from(row: &AlertRow) -> Alert {
        let sendings = row.sendings.iter().map(|sending| AlertSending {
            channel: sending.channel.clone(),
            level: sending.level,
            state: sending.state,
            attempts: sending.attempts,
            cause: sending.cause.clone(),
            at: sending.at,
        });
        Alert {
            alert: row.alert.clone(),
            study_uid: row.study_uid.to_string(),
            revision: row.revision,
            kind: row.kind,
            urgency: row.urgency,
            findings: row.findings.clone(),
            service: row.service.clone(),
            raised_at: row.raised_at,
            standing: row.standing.as_str().to_owned(),
            acknowledged: match &row.standing {
                Standing::Acknowledged(answer) => Some(answer.into()),
                Standing::Open
                | Standing::Withdrawn { .. }
                | Standing::Exhausted { .. }
                | Standing::Closed(_) => None,
            },
            closed: match &row.standing {
                Standing::Closed(answer) => Some(answer.into()),
                Standing::Open
                | Standing::Withdrawn { .. }
                | Standing::Exhausted { .. }
                | Standing::Acknowledged(_) => None,
            },
            doubt: row.doubt.as_ref().map(|doubt| doubt.why.clone()),
            begun_again: row.begun_again.clone(),
            declined: row.declined.iter().map(AlertAnswer::from).collect(),
            level: row.level,
            sendings: sendings.collect(),
        }
    }
}

/// A step of the work that is not done.
#[derive(Serialize, ToSchema)]
pub struct Job {
    pub id: String,
    /// In words: "Send sr.dcm to pacs.main".
    pub what: String,
    pub study_uid: String,
    pub revision: u32,
    pub state: JobState,
    pub attempts: u32,
    /// Why the last try failed.
    pub cause: String,
    /// When it may run.
    pub due: Timestamp,
    pub may_be_cancelled: bool,
}

impl From<&JobRow> for Job {
    fn from(row: &JobRow) -> Job {
        Job {
            id: row.job.id.clone(),
            what: crate::web::queue::what(&row.job.kind),
            study_uid: row.job.study_uid.to_string(),
            revision: row.job.revision,
            state: row.state,
            attempts: row.attempts,
            cause: row.cause.clone(),
            due: row.due,
            may_be_cancelled: row.may_be_cancelled(),
        }
    }
}

/// Who says something, and why.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Word {
    /// A person, where a program speaks for one; else the caller.
    #[schema(max_length = 80)]
    pub by: String,
    /// A reason, a note, what was read back.
    #[schema(max_length = 500)]
    pub note: String,
}
