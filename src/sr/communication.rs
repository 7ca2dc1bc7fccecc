//! Who was told of critical results, as an addendum to the report: TID 2000 with the section
//! "Communication of Critical Results" (PS3.20 10.1.3).

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::uid;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::codes::comment;
use crate::sr::content_item::Item;
use crate::sr::header;
use crate::sr::header::Identity;
use crate::sr::structured_report::put_document;
use crate::sr::tree;

const KIND: header::Kind = header::Kind {
    kind: "communication",
    sop_class_uid: uids::BASIC_TEXT_SR_STORAGE,
    modality: "SR",
    series_number: 9008,
    title: "AI alert record",
};

/// The record as a Basic Text SR, a Part 10 file. The same lines give the same object.
///
/// - `lines`: one for each step, as people read it.
pub fn communication(
    a: &Assessment,
    node: &Equipment,
    lines: &[String],
) -> Result<Vec<u8>, SrError> {
    let identity = Identity::of(&a.algorithm);
    let section = |value, meaning| Code::new(value, "LN", meaning);
    let told = lines.iter().map(|line| Item::text(comment(), line.as_str()));
    let told =
        Item::container(section("73568-8", "Communication of Critical Results")).contains_all(told);
    let root = Item::template(section("18748-4", "Diagnostic Imaging Report"), "2000");
    let root = tree::about(root, a, &identity, None).contains(told);
    let mut object = header::common(a, node, &KIND);
    let base = a.artefact_uid(KIND.kind);
    let mut parts = vec!["communication", base.as_str()];
    parts.extend(lines.iter().map(String::as_str));
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid::derived(&parts));
    put_document(&mut object, a);
    root.put_into(&mut object);
    header::part_10(object)
}
