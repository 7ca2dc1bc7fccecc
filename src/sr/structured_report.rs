//! The structured report: TID 1500 "Measurement Report" (PS3.16), and TID 2000 for archives that
//! take only text. This file makes the document around the trees of [`crate::sr::tree`] and
//! [`crate::sr::text_tree`].

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::order::Order;
use crate::sr::Equipment;
use crate::sr::SrClass;
use crate::sr::SrError;
use crate::sr::SrOptions;
use crate::sr::content_item::Item;
use crate::sr::content_item::Value;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::LOCAL_SCHEME;
use crate::sr::references;
use crate::sr::text;
use crate::sr::text_tree;
use crate::sr::tree;

/// The assessment as a structured report, a Part 10 file. PRELIMINARY and UNVERIFIED, always.
///
/// # Errors
/// [`SrError::ForeignImage`] if a finding names an image that the study does not have.
pub fn structured_report(
    a: &Assessment,
    node: &Equipment,
    options: &SrOptions,
) -> Result<Vec<u8>, SrError> {
    let kind = header::Kind {
        kind: options.class.kind(),
        sop_class_uid: options.class.uid(),
        modality: "SR",
        series_number: 9001,
        title: "AI result",
    };
    let procedure = options.procedure.as_ref();
    let root = match options.class {
        SrClass::Comprehensive3d | SrClass::Comprehensive | SrClass::Enhanced => {
            tree::report(a, procedure)?
        }
        SrClass::BasicText => text_tree::report(a, procedure)?,
    };
    let mut object = header::common(a, node, &kind);
    put_document(&mut object, a);
    let replaced = options.replaces.iter().find(|one| one.sop_class_uid == options.class.uid());
    if let Some(replaced) = replaced {
        let study = references::study(a, vec![replaced.series()]);
        object.put(sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study]));
    }
    put_coding_schemes(&mut object, &root);
    root.put_into(&mut object);
    header::part_10(object)
}

/// SR Document General (PS3.3 C.17.2).
pub fn put_document(object: &mut InMemDicomObject, a: &Assessment) {
    object.put(sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]));
    object.put(sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, vec![]));
    let (flag, description) = completion(a);
    object.put_str(tags::COMPLETION_FLAG, VR::CS, flag);
    object.put_str(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, description);
    object.put_str(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    object.put_str(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    if !a.study.accession_number().is_empty() {
        object.put(sequence(tags::REFERENCED_REQUEST_SEQUENCE, vec![request(a)]));
    }
    if !a.study.instances.is_empty() {
        let evidence = vec![references::evidence(a, a.study.instances.iter())];
        object.put(sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, evidence));
    }
}

/// Completion Flag and its description (LO, 64 characters): only a reading that came to its end is
/// complete.
fn completion(a: &Assessment) -> (&'static str, &'static str) {
    match &a.outcome {
        Outcome::Read => {
            ("COMPLETE", "Software output, complete as generated; not verified by a person")
        }
        Outcome::NeedsReview { .. } => ("PARTIAL", "In doubt: a person must look at the images"),
        Outcome::NotCovered { .. } | Outcome::MeasuredOnly { .. } | Outcome::Held { .. } => {
            ("PARTIAL", "Measurements by software; nobody has read the images")
        }
    }
}

/// What the order said is known only from the images: the rest of the Type 2 attributes is empty.
pub fn request(a: &Assessment) -> InMemDicomObject {
    let attributes = &a.study.attributes;
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::STUDY_INSTANCE_UID, VR::UI, a.study.study_uid.as_str());
    item.put(sequence(tags::REFERENCED_STUDY_SEQUENCE, vec![]));
    let order = a.study.order();
    let of_order = |value: fn(&Order) -> &String| order.map(value).cloned().unwrap_or_default();
    // A number that is cut is another number.
    let short = |number: String| if number.chars().count() > 16 { String::new() } else { number };
    let accession = match attributes.accession_number.trim() {
        "" => short(of_order(|o| &o.accession_number)),
        _ => text::identity(&attributes.accession_number),
    };
    item.put_str(tags::ACCESSION_NUMBER, VR::SH, accession);
    for (tag, number) in [
        (tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, of_order(|o| &o.placer_number)),
        (tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, of_order(|o| &o.filler_number)),
    ] {
        item.put_str(tag, VR::LO, text::lo(&number, ""));
    }
    let procedure = short(of_order(|o| &o.requested_procedure_id));
    item.put_str(tags::REQUESTED_PROCEDURE_ID, VR::SH, text::sh(&procedure, ""));
    let description = match of_order(|o| &o.procedure_description) {
        asked if asked.is_empty() => text::identity(&attributes.study_description),
        asked => text::lo(&asked, ""),
    };
    item.put_str(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, description);
    item.put(sequence(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![]));
    item
}

/// Says what our own scheme is, where a code of it is used (PS3.3 C.12.1.1.7).
fn put_coding_schemes(object: &mut InMemDicomObject, root: &Item) {
    let mut used = false;
    root.walk(&mut |item| {
        let value_is_local = match &item.value {
            Value::Code(value) => value.scheme == LOCAL_SCHEME,
            Value::Num { unit, .. } => unit.scheme == LOCAL_SCHEME,
            Value::Container { .. }
            | Value::Text(_)
            | Value::UidRef(_)
            | Value::Image(_)
            | Value::Polyline(_) => false,
        };
        let name_is_local = item.name.as_ref().is_some_and(|name| name.scheme == LOCAL_SCHEME);
        used |= value_is_local || name_is_local;
    });
    if used {
        header::put_local_scheme(object);
    }
}
