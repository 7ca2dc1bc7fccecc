//! The structured report: TID 1500 "Measurement Report" (PS3.16) as a Comprehensive 3D SR.
//! This file makes the document around the tree; [`crate::sr::tree`] makes the tree.

use std::collections::BTreeMap;

use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::uid;
use crate::sr::Equipment;
use crate::sr::Predecessor;
use crate::sr::SrClass;
use crate::sr::SrError;
use crate::sr::SrOptions;
use crate::sr::content_item::Item;
use crate::sr::content_item::Value;
use crate::sr::content_item::reference;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::LOCAL_SCHEME;
use crate::sr::text;
use crate::sr::tree;

impl SrClass {
    fn uid(self) -> &'static str {
        match self {
            SrClass::Comprehensive3d => uids::COMPREHENSIVE3_DSR_STORAGE,
            SrClass::Comprehensive => uids::COMPREHENSIVE_SR_STORAGE,
        }
    }
}

/// The assessment as a structured report, a Part 10 file. PRELIMINARY and UNVERIFIED, always.
///
/// # Errors
/// [`SrError::ForeignImage`] if a finding names an image that the study does not have.
pub fn measurement_report(
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
    let root = tree::report(a, options.procedure.as_ref())?;
    let mut object = header::common(a, node, &kind);
    put_document(&mut object, a);
    if let Some(predecessor) = &options.predecessor {
        let study = predecessor_study(a, predecessor, options.class);
        object.put(sequence(tags::PREDECESSOR_DOCUMENTS_SEQUENCE, vec![study]));
    }
    put_coding_schemes(&mut object, &root);
    root.put_into(&mut object);
    header::part_10(object)
}

/// SR Document General (PS3.3 C.17.2).
fn put_document(object: &mut InMemDicomObject, a: &Assessment) {
    object.put(sequence(tags::REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE, vec![]));
    object.put(sequence(tags::PERFORMED_PROCEDURE_CODE_SEQUENCE, vec![]));
    object.put_str(tags::COMPLETION_FLAG, VR::CS, "COMPLETE");
    let complete = "Software output, complete as generated; not verified by a person";
    object.put_str(tags::COMPLETION_FLAG_DESCRIPTION, VR::LO, complete);
    object.put_str(tags::VERIFICATION_FLAG, VR::CS, "UNVERIFIED");
    object.put_str(tags::PRELIMINARY_FLAG, VR::CS, "PRELIMINARY");
    if !a.study.attributes.accession_number.is_empty() {
        object.put(sequence(tags::REFERENCED_REQUEST_SEQUENCE, vec![request(a)]));
    }
    if !a.study.instances.is_empty() {
        let evidence = vec![evidence(a)];
        object.put(sequence(tags::CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE, evidence));
    }
}

/// What the order said is known only from the images: the rest of the Type 2 attributes is empty.
fn request(a: &Assessment) -> InMemDicomObject {
    let attributes = &a.study.attributes;
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::STUDY_INSTANCE_UID, VR::UI, a.study.study_uid.as_str());
    item.put(sequence(tags::REFERENCED_STUDY_SEQUENCE, vec![]));
    let accession = text::identity(&attributes.accession_number);
    item.put_str(tags::ACCESSION_NUMBER, VR::SH, accession);
    item.put_str(tags::PLACER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, "");
    item.put_str(tags::FILLER_ORDER_NUMBER_IMAGING_SERVICE_REQUEST, VR::LO, "");
    item.put_str(tags::REQUESTED_PROCEDURE_ID, VR::SH, "");
    let description = text::identity(&attributes.study_description);
    item.put_str(tags::REQUESTED_PROCEDURE_DESCRIPTION, VR::LO, description);
    item.put(sequence(tags::REQUESTED_PROCEDURE_CODE_SEQUENCE, vec![]));
    item
}

/// Every instance of the study that this node holds, by series.
fn evidence(a: &Assessment) -> InMemDicomObject {
    let mut by_series: BTreeMap<&str, Vec<InMemDicomObject>> = BTreeMap::new();
    for instance in &a.study.instances {
        let item = reference(instance.sop_class_uid.as_str(), instance.sop_instance_uid.as_str());
        by_series.entry(instance.series_uid.as_str()).or_default().push(item);
    }
    let series = by_series.into_iter().map(|(uid, instances)| series(uid, instances));
    study(a, series.collect())
}

fn predecessor_study(a: &Assessment, of: &Predecessor, class: SrClass) -> InMemDicomObject {
    let named = of.named(class);
    let instance = reference(class.uid(), &named.sop_instance_uid);
    study(a, vec![series(&named.series_uid, vec![instance])])
}

/// Hierarchical SOP Instance Reference (PS3.3 C.17.2.1).
fn study(a: &Assessment, series: Vec<InMemDicomObject>) -> InMemDicomObject {
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
        used |= value_is_local || item.name.scheme == LOCAL_SCHEME;
    });
    if !used {
        return;
    }
    let mut scheme = InMemDicomObject::new_empty();
    scheme.put_str(tags::CODING_SCHEME_DESIGNATOR, VR::SH, LOCAL_SCHEME);
    scheme.put_str(tags::CODING_SCHEME_UID, VR::UI, uid::derived(&["scheme", LOCAL_SCHEME]));
    scheme.put_str(tags::CODING_SCHEME_NAME, VR::ST, "Prelim local codes");
    scheme.put_str(tags::CODING_SCHEME_RESPONSIBLE_ORGANIZATION, VR::ST, "Prelim");
    object.put(sequence(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE, vec![scheme]));
}
