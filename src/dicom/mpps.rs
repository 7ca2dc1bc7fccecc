//! Modality Performed Procedure Step (PS3.4 F.7): what a modality says of its work, checked.

use dicom_dictionary_std::tags;

use crate::dicom::elements::Elements;
use crate::dicom::status::Status;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;

/// Error ID of an N-SET on a step that is over (PS3.4 F.7.2.2.2).
pub const MAY_NO_LONGER_BE_UPDATED: u16 = 0xA710;

/// Performed Procedure Step Status (0040,0252).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepStatus {
    InProgress,
    Completed,
    Discontinued,
}

impl StepStatus {
    fn parse(text: &str) -> Option<StepStatus> {
        match text {
            "IN PROGRESS" => Some(StepStatus::InProgress),
            "COMPLETED" => Some(StepStatus::Completed),
            "DISCONTINUED" => Some(StepStatus::Discontinued),
            _ => None,
        }
    }
}

/// An N-CREATE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Of the Scheduled Step Attributes Sequence (0040,0270), each once.
    pub studies: Vec<StudyUid>,
    /// Modality (0008,0060), a code or empty.
    pub modality: String,
    pub instances: Vec<SopInstanceUid>,
}

/// An N-SET.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// None: as before.
    pub status: Option<StepStatus>,
    /// Every instance of the Performed Series Sequence (0040,0340), images or not; None: as before.
    pub instances: Option<Vec<SopInstanceUid>>,
}

impl Created {
    pub fn read(bytes: &[u8], transfer_syntax: &str) -> Result<Created, (Status, String)> {
        let data = read(bytes, transfer_syntax)?;
        let status = data.text(tags::PERFORMED_PROCEDURE_STEP_STATUS);
        match StepStatus::parse(&status) {
            Some(StepStatus::InProgress) => {}
            _ if status.is_empty() => {
                let why = "Performed Procedure Step Status missing".to_owned();
                return Err((Status::MISSING_ATTRIBUTE, why));
            }
            _ => {
                let why = "a step begins IN PROGRESS".to_owned();
                return Err((Status::INVALID_ATTRIBUTE, why));
            }
        }
        let mut studies = Vec::new();
        for item in data.items(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE) {
            let uid = StudyUid::parse(&item.text(tags::STUDY_INSTANCE_UID)).map_err(|_| {
                (Status::INVALID_ATTRIBUTE, "Study Instance UID missing or bad".to_owned())
            })?;
            if !studies.contains(&uid) {
                studies.push(uid);
            }
        }
        if studies.is_empty() {
            let why = "Scheduled Step Attributes Sequence missing".to_owned();
            return Err((Status::MISSING_ATTRIBUTE, why));
        }
        let code = |c: &char| c.is_ascii_uppercase() || c.is_ascii_digit();
        let modality = data.text(tags::MODALITY).chars().filter(code).take(16).collect();
        Ok(Created { studies, modality, instances: instances(&data)?.unwrap_or_default() })
    }
}

impl Changed {
    pub fn read(bytes: &[u8], transfer_syntax: &str) -> Result<Changed, (Status, String)> {
        let data = read(bytes, transfer_syntax)?;
        let text = data.text(tags::PERFORMED_PROCEDURE_STEP_STATUS);
        let status = StepStatus::parse(&text);
        if status.is_none() && !text.is_empty() {
            let why = "unknown Performed Procedure Step Status".to_owned();
            return Err((Status::INVALID_ATTRIBUTE, why));
        }
        Ok(Changed { status, instances: instances(&data)? })
    }
}

fn read<'a>(bytes: &'a [u8], transfer_syntax: &str) -> Result<Elements<'a>, (Status, String)> {
    Elements::read(bytes, transfer_syntax)
        .map_err(|error| (Status::PROCESSING_FAILURE, error.to_string()))
}

/// The instances of the performed series, each once; None without a Performed Series Sequence.
fn instances(data: &Elements<'_>) -> Result<Option<Vec<SopInstanceUid>>, (Status, String)> {
    if !data.has(tags::PERFORMED_SERIES_SEQUENCE) {
        return Ok(None);
    }
    let mut found = std::collections::BTreeSet::new();
    for series in data.items(tags::PERFORMED_SERIES_SEQUENCE) {
        let images = series.items(tags::REFERENCED_IMAGE_SEQUENCE);
        let others = series.items(tags::REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE);
        for item in images.iter().chain(others) {
            let uid = SopInstanceUid::parse(&item.text(tags::REFERENCED_SOP_INSTANCE_UID));
            found.insert(uid.map_err(|_| {
                (Status::INVALID_ATTRIBUTE, "Referenced SOP Instance UID bad".to_owned())
            })?);
        }
    }
    Ok(Some(found.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use dicom_core::VR;

    use super::*;
    use crate::dicom::elements::Encoder;
    use crate::dicom::elements::SYNTAXES;

    fn create(status: &str, studies: &[&str]) -> Result<Created, (Status, String)> {
        let mut data = Encoder::new(SYNTAXES[0]);
        data.text(tags::MODALITY, VR::CS, "CT");
        data.text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, status);
        data.sequence(tags::SCHEDULED_STEP_ATTRIBUTES_SEQUENCE, studies, |item, uid| {
            item.uid(tags::STUDY_INSTANCE_UID, uid);
        });
        Created::read(&data.finish(), SYNTAXES[0])
    }

    #[test]
    fn a_step_begins_in_progress_and_names_its_study() {
        let created = create("IN PROGRESS", &["1.2", "1.2", "1.3"]).unwrap();
        assert_eq!((created.studies.len(), created.modality.as_str()), (2, "CT"));
        for (status, studies, refused) in [
            ("COMPLETED", &["1.2"][..], Status::INVALID_ATTRIBUTE),
            ("", &["1.2"], Status::MISSING_ATTRIBUTE),
            ("IN PROGRESS", &[], Status::MISSING_ATTRIBUTE),
            ("IN PROGRESS", &["../x"], Status::INVALID_ATTRIBUTE),
        ] {
            assert_eq!(create(status, studies).unwrap_err().0, refused, "{status} {studies:?}");
        }
    }

    #[test]
    fn the_instances_of_all_series_are_counted_once() {
        for syntax in SYNTAXES {
            let mut data = Encoder::new(syntax);
            data.text(tags::PERFORMED_PROCEDURE_STEP_STATUS, VR::CS, "COMPLETED");
            data.sequence(tags::PERFORMED_SERIES_SEQUENCE, &[1, 2], |series, n| {
                series.uid(tags::SERIES_INSTANCE_UID, &format!("1.2.{n}"));
                let images = [format!("1.2.{n}.1"), format!("1.2.{n}.2"), "1.2.9".to_owned()];
                series.sequence(tags::REFERENCED_IMAGE_SEQUENCE, &images, |item, uid| {
                    item.uid(tags::REFERENCED_SOP_INSTANCE_UID, uid);
                });
                let reports = tags::REFERENCED_NON_IMAGE_COMPOSITE_SOP_INSTANCE_SEQUENCE;
                series.sequence(reports, &[format!("1.2.{n}.3")], |item, uid| {
                    item.uid(tags::REFERENCED_SOP_INSTANCE_UID, uid);
                });
            });
            let changed = Changed::read(&data.finish(), syntax).unwrap();
            assert_eq!(changed.status, Some(StepStatus::Completed));
            assert_eq!(changed.instances.unwrap().len(), 7);
        }
        let nothing = Changed::read(&[], SYNTAXES[0]).unwrap();
        assert_eq!(nothing, Changed { status: None, instances: None });
    }
}
