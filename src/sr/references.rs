//! References to other objects: evidence, predecessors (PS3.3 C.17.2.1).

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::study::Instance;
use crate::sr::content_item::reference;
use crate::sr::content_item::sequence;

/// An object of ours as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub sop_class_uid: String,
    sop_instance_uid: String,
    series_uid: String,
}

impl Document {
    /// Reads what a result file says of itself: what an older version of this program derived
    /// otherwise keeps the name that the archive knows. `None` for what cannot be read.
    pub fn read(part_10: &[u8]) -> Option<Document> {
        let object = dicom_object::from_reader(part_10).ok()?;
        let text = |tag| Some(object.get(tag)?.to_str().ok()?.trim_end_matches('\0').to_owned());
        Some(Document {
            sop_class_uid: text(tags::SOP_CLASS_UID)?,
            sop_instance_uid: text(tags::SOP_INSTANCE_UID)?,
            series_uid: text(tags::SERIES_INSTANCE_UID)?,
        })
    }

    pub fn series(&self) -> InMemDicomObject {
        series(&self.series_uid, vec![reference(&self.sop_class_uid, &self.sop_instance_uid)])
    }
}

/// These instances of the study, by series.
pub fn evidence<'a>(
    a: &Assessment,
    instances: impl Iterator<Item = &'a Instance>,
) -> InMemDicomObject {
    let mut by_series: BTreeMap<&str, Vec<InMemDicomObject>> = BTreeMap::new();
    for instance in instances {
        let item = reference(instance.sop_class_uid.as_str(), instance.sop_instance_uid.as_str());
        by_series.entry(instance.series_uid.as_str()).or_default().push(item);
    }
    study(a, by_series.into_iter().map(|(uid, instances)| series(uid, instances)).collect())
}

pub fn study(a: &Assessment, series: Vec<InMemDicomObject>) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::STUDY_INSTANCE_UID, VR::UI, a.study.study_uid.as_str());
    item.put(sequence(tags::REFERENCED_SERIES_SEQUENCE, series));
    item
}

fn series(uid: &str, instances: Vec<InMemDicomObject>) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::SERIES_INSTANCE_UID, VR::UI, uid);
    item.put(sequence(tags::REFERENCED_SOP_SEQUENCE, instances));
    item
}
