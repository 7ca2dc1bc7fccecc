//! C-FIND in the Modality Worklist Information Model (PS3.4 K) as requestor: orders by one key.

use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use jiff::Timestamp;

use crate::dicom::elements::Elements;
use crate::dicom::elements::Encoder;
use crate::dicom::find_scu::Finder;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::domain::code::Code;
use crate::domain::order::Order;
use crate::domain::study::PersonName;
use crate::domain::text;
use crate::domain::uid;

const FIND: &str = uids::MODALITY_WORKLIST_INFORMATION_MODEL_FIND;
/// One match.
const MATCH_BYTES_MAX: usize = 256 << 10;

/// By what is asked.
pub enum Key<'a> {
    StudyUid(&'a str),
    AccessionNumber(&'a str),
    PatientId(&'a str),
}

impl Key<'_> {
    fn value(&self) -> &str {
        match self {
            Key::StudyUid(value) | Key::AccessionNumber(value) | Key::PatientId(value) => value,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.value().is_empty()
    }

    fn of(&self, tag: Tag) -> &str {
        let own = match self {
            Key::StudyUid(_) => tags::STUDY_INSTANCE_UID,
            Key::AccessionNumber(_) => tags::ACCESSION_NUMBER,
            Key::PatientId(_) => tags::PATIENT_ID,
        };
        if own == tag { self.value() } else { "" }
    }
}

/// An association on which questions are asked one after the other.
pub struct Query(Finder);

impl Query {
    pub async fn open(target: &Target, timeouts: &Timeouts) -> Result<Query, ScuError> {
        Finder::open(target, timeouts, FIND).await.map(Query)
    }

    pub async fn release(self) {
        self.0.release().await;
    }

    pub async fn orders(
        &mut self,
        key: &Key<'_>,
        source: &str,
        at: Timestamp,
    ) -> Result<Vec<Order>, ScuError> {
        let scheduled = self.scheduled(key, source, at).await?;
        Ok(scheduled.into_iter().map(|(order, _)| order).collect())
    }

    /// Each with the modality that it is scheduled for. A worklist that refuses the question has none.
    pub async fn scheduled(
        &mut self,
        key: &Key<'_>,
        source: &str,
        at: Timestamp,
    ) -> Result<Vec<(Order, String)>, ScuError> {
        let mut found = Vec::new();
        let is_answered = self.0.ask(
            |syntax| identifier(syntax, key),
            MATCH_BYTES_MAX,
            |one| {
                let (order, modality) = order(one, source, at);
                let is_asked = match key {
                    Key::StudyUid(uid) => order.study_uid == *uid,
                    Key::AccessionNumber(number) => order.accession_number == *number,
                    Key::PatientId(id) => order.patient_ids.iter().any(|own| own == id),
                };
                if is_asked {
                    found.push((order, modality));
                }
            },
        );
        Ok(if is_answered.await? { found } else { Vec::new() })
    }
}

/// Texts at the top of a request, by tag.
const ASKED: [(Tag, VR); 16] = [
    (tags::SPECIFIC_CHARACTER_SET, VR::CS),
    (tags::ACCESSION_NUMBER, VR::SH),
    (tags::REFERRING_PHYSICIAN_NAME, VR::PN),
    (tags::PATIENT_NAME, VR::PN),
    (tags::PATIENT_ID, VR::LO),
    (tags::PATIENT_BIRTH_DATE, VR::DA),
    (tags::STUDY_INSTANCE_UID, VR::UI),
    (tags::REQUESTING_PHYSICIAN, VR::PN),
    (tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO),
    (tags::CURRENT_PATIENT_LOCATION, VR::LO),
    (tags::REQUESTED_PROCEDURE_ID, VR::SH),
    (tags::REASON_FOR_THE_REQUESTED_PROCEDURE, VR::LO),
    (tags::REQUESTED_PROCEDURE_PRIORITY, VR::SH),
    (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
    (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO),
    (tags::REQUESTED_PROCEDURE_COMMENTS, VR::LT),
];

fn identifier(transfer_syntax: &str, key: &Key<'_>) -> Vec<u8> {
    let mut data = Encoder::new(transfer_syntax);
    let mut fields: Vec<(Tag, Option<VR>)> =
        ASKED.iter().map(|(tag, vr)| (*tag, Some(*vr))).collect();
    let sequences =
        [tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE];
    fields.extend(sequences.map(|tag| (tag, None)));
    fields.sort_by_key(|(tag, _)| *tag);
    for (tag, vr) in fields {
        match vr {
            Some(vr) if tag == tags::SPECIFIC_CHARACTER_SET => {
                let set = if key.value().is_ascii() { "" } else { "ISO_IR 192" };
                data.text(tag, vr, set);
            }
            Some(vr) => {
                data.text(tag, vr, key.of(tag));
            }
            None if tag == tags::REQUESTED_PROCEDURE_CODE_SEQUENCE => {
                data.sequence(tag, &[()], |item, ()| {
                    item.text(tags::CODE_VALUE, VR::SH, "");
                    item.text(tags::CODING_SCHEME_DESIGNATOR, VR::SH, "");
                    item.text(tags::CODE_MEANING, VR::LO, "");
                });
            }
            None => {
                data.sequence(tag, &[()], |item, ()| {
                    item.text(tags::MODALITY, VR::CS, "");
                    item.text(tags::SCHEDULED_PROCEDURE_STEP_DESCRIPTION, VR::LO, "");
                });
            }
        }
    }
    data.finish()
}

/// What a match says, and the modality that it is scheduled for.
fn order(found: &Elements<'_>, source: &str, at: Timestamp) -> (Order, String) {
    let sets = found.text(tags::SPECIFIC_CHARACTER_SET);
    let sets: Vec<&str> = sets.split('\\').map(str::trim).collect();
    let of = |tag: Tag, vr: VR, max: usize| text::clean(&found.decoded(tag, vr, &sets), max);
    let line = |tag: Tag| of(tag, VR::LO, 200);
    let person = |tag: Tag| PersonName::parse(&found.decoded(tag, VR::PN, &sets));
    let accession = of(tags::ACCESSION_NUMBER, VR::SH, 64);
    let patient = of(tags::PATIENT_ID, VR::LO, 64);
    let study_uid = found.text(tags::STUDY_INSTANCE_UID);
    let requesting = person(tags::REQUESTING_PHYSICIAN);
    let reasons = [
        line(tags::REASON_FOR_THE_REQUESTED_PROCEDURE),
        of(tags::REQUESTED_PROCEDURE_COMMENTS, VR::LT, 500),
    ];
    let mut reason: Vec<String> = reasons.into_iter().filter(|words| !words.is_empty()).collect();
    reason.dedup();
    let code = found.items(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE).first().map(|item| {
        let meaning = text::clean(&item.decoded(tags::CODE_MEANING, VR::LO, &sets), 64);
        Code::new(
            &item.text(tags::CODE_VALUE),
            &item.text(tags::CODING_SCHEME_DESIGNATOR),
            &meaning,
        )
    });
    let step = found.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).first();
    let priority = found.text(tags::REQUESTED_PROCEDURE_PRIORITY).to_lowercase();
    let order = Order {
        placer_number: of(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
        filler_number: of(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, 64),
        numbers: (!accession.is_empty()).then(|| accession.clone()).into_iter().collect(),
        accession_number: accession,
        study_uid: if uid::is_uid(&study_uid) { study_uid } else { String::new() },
        requested_procedure_id: of(tags::REQUESTED_PROCEDURE_ID, VR::SH, 64),
        procedure: code.filter(|code| !code.value.is_empty() && !code.scheme.is_empty()),
        procedure_description: line(tags::REQUESTED_PROCEDURE_DESCRIPTION),
        reason: reason.join("; "),
        ordering_physician: match requesting.is_empty() {
            true => person(tags::REFERRING_PHYSICIAN_NAME),
            false => requesting,
        },
        patient_ids: (!patient.is_empty()).then_some(patient).into_iter().collect(),
        birth_date: found.text(tags::PATIENT_BIRTH_DATE),
        location: line(tags::CURRENT_PATIENT_LOCATION),
        priority: if priority == "high" { "asap".into() } else { priority },
        ..Order::empty(source, at)
    };
    (order, step.map(|step| step.text(tags::MODALITY)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dicom::elements::SYNTAXES;

    #[test]
    fn a_question_asks_for_one_key_and_can_be_read() {
        for syntax in SYNTAXES {
            let data = identifier(syntax, &Key::AccessionNumber("ACC-1"));
            let read = Elements::read(&data, syntax).unwrap();
            assert_eq!(read.text(tags::ACCESSION_NUMBER), "ACC-1");
            assert_eq!(read.text(tags::STUDY_INSTANCE_UID), "");
            assert!(read.has(tags::REASON_FOR_THE_REQUESTED_PROCEDURE));
            assert_eq!(read.items(tags::SCHEDULED_PROCEDURE_STEP_SEQUENCE).len(), 1);
        }
        let data = identifier(SYNTAXES[0], &Key::PatientId("환자"));
        let read = Elements::read(&data, SYNTAXES[0]).unwrap();
        assert_eq!(read.text(tags::SPECIFIC_CHARACTER_SET), "ISO_IR 192");
        assert_eq!(read.decoded(tags::PATIENT_ID, VR::LO, &["ISO_IR 192"]), "환자");
    }
}
