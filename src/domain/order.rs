//! The order of a study: who asked for it, and why. From an HL7 message or a modality worklist.

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::code::Code;
use crate::domain::study::PersonName;

/// What became of the search for a study's order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "outcome")]
pub enum Sought {
    /// No place is configured in which one could be.
    #[default]
    Nowhere,
    NotFound,
    /// There is one of this number, for another patient: nothing of it is used.
    OtherPatient,
    Found {
        order: Box<Order>,
    },
}

/// One requested procedure. Values as decoded text in DICOM's own forms; what is not known is empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// ORC-2; Placer Order Number / Imaging Service Request (0040,2016).
    pub placer_number: String,
    /// ORC-3; Filler Order Number / Imaging Service Request (0040,2017).
    pub filler_number: String,
    pub accession_number: String,
    /// All by which images may name it as their accession number.
    pub numbers: Vec<String>,
    pub study_uid: String,
    pub requested_procedure_id: String,
    pub procedure: Option<Code>,
    pub procedure_description: String,
    /// Why: OBR-31, else OBR-13; Reason for the Requested Procedure (0040,1002).
    pub reason: String,
    /// OBR-16, ORC-12; Requesting Physician (0032,1032).
    pub ordering_physician: PersonName,
    pub patient_ids: Vec<String>,
    /// DA or empty.
    pub birth_date: String,
    /// PV1-3, its parts separated by spaces; Current Patient Location (0038,0300).
    pub location: String,
    /// PV1-2: `E`, `I`, `O`, …
    pub patient_class: String,
    /// `stat`, `asap`, `routine` or as it came.
    pub priority: String,
    pub is_cancelled: bool,
    /// For people: `HL7 OMI^O23 of RIS`, `worklist RIS`.
    pub source: String,
    pub received_at: Timestamp,
}

impl Order {
    /// With what an earlier word on the same order said and this one does not: a message that its
    /// state has changed often says nothing else.
    pub fn completed_by(&self, before: &Order) -> Order {
        let text = |own: &String, other: &String| {
            if own.is_empty() { other.clone() } else { own.clone() }
        };
        let physicians = (&self.ordering_physician, &before.ordering_physician);
        Order {
            accession_number: text(&self.accession_number, &before.accession_number),
            study_uid: text(&self.study_uid, &before.study_uid),
            procedure: self.procedure.clone().or_else(|| before.procedure.clone()),
            procedure_description: text(&self.procedure_description, &before.procedure_description),
            reason: text(&self.reason, &before.reason),
            ordering_physician: match physicians {
                (own, other) if own.is_empty() => other.clone(),
                (own, _) => own.clone(),
            },
            birth_date: text(&self.birth_date, &before.birth_date),
            location: text(&self.location, &before.location),
            patient_class: text(&self.patient_class, &before.patient_class),
            priority: text(&self.priority, &before.priority),
            ..self.clone()
        }
    }

    pub fn empty(source: &str, received_at: Timestamp) -> Order {
        Order {
            placer_number: String::new(),
            filler_number: String::new(),
            accession_number: String::new(),
            numbers: Vec::new(),
            study_uid: String::new(),
            requested_procedure_id: String::new(),
            procedure: None,
            procedure_description: String::new(),
            reason: String::new(),
            ordering_physician: PersonName::default(),
            patient_ids: Vec::new(),
            birth_date: String::new(),
            location: String::new(),
            patient_class: String::new(),
            priority: String::new(),
            is_cancelled: false,
            source: source.to_owned(),
            received_at,
        }
    }
}
