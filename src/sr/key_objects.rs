//! Which images a reader should look at: a key object selection (PS3.3 A.35.4, TID 2010).

use std::collections::BTreeSet;

use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::domain::assessment::Assessment;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::codes::dcm;
use crate::sr::content_item::Item;
use crate::sr::content_item::SourceImage;
use crate::sr::content_item::Value;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::Identity;
use crate::sr::references;
use crate::sr::structured_report::request;
use crate::sr::tree;
use crate::sr::tree::Images;

const KIND: header::Kind = header::Kind {
    kind: "kos",
    sop_class_uid: uids::KEY_OBJECT_SELECTION_DOCUMENT_STORAGE,
    modality: "KO",
    series_number: 9005,
    title: "AI key objects",
};

/// A selection of more is none.
const IMAGES_MAX: usize = 100;

/// The images on which the findings rest that are present, the most urgent first; `None` when
/// there is no such finding.
///
/// # Errors
/// [`SrError::ForeignImage`] if a finding names an image that the study does not have.
pub fn key_objects(a: &Assessment, node: &Equipment) -> Result<Option<Vec<u8>>, SrError> {
    let images = Images::of(&a.study);
    let mut selected: Vec<SourceImage> = Vec::new();
    for finding in a.present() {
        for source in tree::sources(finding, a, &images)? {
            if !selected.contains(&source) {
                selected.push(source);
            }
        }
    }
    selected.truncate(IMAGES_MAX);
    if selected.is_empty() {
        return Ok(None);
    }
    let named: BTreeSet<&str> = selected.iter().map(|image| &image.sop_instance_uid[..]).collect();
    let referenced =
        a.study.instances.iter().filter(|one| named.contains(one.sop_instance_uid.as_str()));
    let mut object = header::common(a, node, &KIND);
    object.put(sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]));
    if !a.study.accession_number().is_empty() {
        object.put(sequence(tags::REFERENCED_REQUEST_SEQUENCE, vec![request(a)]));
    }
    let evidence = vec![references::evidence(a, referenced)];
    object.put(sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, evidence));

    let identity = Identity::of(&a.algorithm);
    let titles: Vec<String> = a.present().map(|finding| finding.title()).collect();
    let description = format!(
        "PRELIMINARY, unverified. Selected by {} {}: {}.",
        identity.name,
        identity.version,
        titles.join("; ")
    );
    let title = Item::template(dcm("113000", "Of Interest"), "2010");
    tree::observed(title, &identity)
        .contains(Item::text(dcm("113012", "Key Object Description"), description))
        .contains_all(selected.into_iter().map(|image| Item::new(None, Value::Image(image))))
        .put_into(&mut object);
    header::part_10(object).map(Some)
}
