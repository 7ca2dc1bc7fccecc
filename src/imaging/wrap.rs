//! (being written)

use serde::Deserialize;
use serde::Serialize;

use crate::domain::study::PersonName;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::imaging::ImagingError;

/// What a picture says of itself beside its pixels. Texts in DICOM's own forms; empty is
/// unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WrapFields {
    pub study_uid: StudyUid,
    pub series_uid: SeriesUid,
    pub sop_instance_uid: SopInstanceUid,
    /// `CR` makes a Computed Radiography object, all else a Secondary Capture.
    pub modality: String,
    pub body_part: String,
    pub view: String,
    pub laterality: String,
    pub patient_id: String,
    pub patient_name: PersonName,
    /// DA or empty.
    pub birth_date: String,
    /// AS such as `004Y` or empty.
    pub age: String,
    /// M, F, O or empty.
    pub sex: String,
    pub study_description: String,
    pub series_description: String,
    pub accession_number: String,
    pub study_id: String,
    /// DA `YYYYMMDD`.
    pub date: String,
    /// TM `HHMMSS`.
    pub time: String,
}

pub fn wrap(_picture: &[u8], _fields: &WrapFields) -> Result<Vec<u8>, ImagingError> {
    Err(ImagingError::Picture("not yet".into()))
}
