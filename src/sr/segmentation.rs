//! The masks of findings as Segmentation (PS3.3 A.51): one segment for each finding, one frame for
//! each image that it is drawn on, in the pixels of that image.

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::mask::Mask;
use crate::domain::study::Instance;
use crate::domain::uid;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::codes::dcm;
use crate::sr::content_item::code;
use crate::sr::content_item::reference;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::Identity;
use crate::sr::text;
use crate::sr::tree;

const KIND: header::Kind = header::Kind {
    kind: "seg",
    sop_class_uid: uids::SEGMENTATION_STORAGE,
    modality: "SEG",
    series_number: 9009,
    title: "AI segments",
};

/// Frames of all objects of one study.
const FRAMES_MAX: usize = 512;

/// One frame: whose segment, on which image.
struct Frame<'a> {
    finding: &'a Finding,
    mask: &'a Mask,
    instance: &'a Instance,
}

/// The masks of present findings; nothing where there is none. Frames of one object have one size
/// and one orientation, so there is one object for each.
///
/// # Errors
/// [`SrError::ForeignImage`] if the study does not have an image.
pub fn segmentations(a: &Assessment, node: &Equipment) -> Result<Vec<Vec<u8>>, SrError> {
    let images = tree::Images::of(&a.study);
    let mut groups: Vec<Vec<Frame<'_>>> = Vec::new();
    let masks =
        a.present().flat_map(|finding| finding.masks.iter().map(move |mask| (finding, mask)));
    for (finding, mask) in masks.take(FRAMES_MAX) {
        let instance = images.get(&mask.image, finding)?;
        let frame = Frame { finding, mask, instance };
        match groups.iter_mut().find(|group| are_alike(group[0].instance, instance)) {
            Some(group) => group.push(frame),
            None => groups.push(vec![frame]),
        }
    }
    let made = groups
        .iter()
        .enumerate()
        .map(|(nth, frames)| header::part_10(segmentation(a, node, frames, nth + 1)));
    made.collect()
}

fn are_alike(a: &Instance, b: &Instance) -> bool {
    let plane = |of: &Instance| geometry(of).map(|plane| (plane.orientation, plane.spacing));
    a.series_uid == b.series_uid
        && (a.rows, a.columns) == (b.rows, b.columns)
        && a.frame_of_reference_uid == b.frame_of_reference_uid
        && plane(a) == plane(b)
        && (plane(a).is_some() || a.pixel_aspect(None) == b.pixel_aspect(None))
}

/// Where a single-frame image lies in its patient.
struct Plane {
    position: [f64; 3],
    orientation: [f64; 6],
    spacing: [f64; 2],
}

fn geometry(of: &Instance) -> Option<Plane> {
    let has_frame = !of.frame_of_reference_uid.is_empty() && of.number_of_frames <= 1;
    let (position, orientation) = (of.image_position_mm?, of.image_orientation?);
    let spacing = of.pixel_spacing_mm?;
    has_frame.then_some(Plane { position, orientation, spacing })
}

fn segmentation(
    a: &Assessment,
    node: &Equipment,
    frames: &[Frame<'_>],
    nth: usize,
) -> InMemDicomObject {
    let first = frames[0].instance;
    let pixels = packed(frames);
    let mut object = header::common(a, node, &KIND);
    let digest = blake3::hash(&pixels).to_hex();
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, a.artefact_uid(&format!("seg {nth} {digest}")));
    object.put_str(tags::INSTANCE_NUMBER, VR::IS, nth.to_string());
    header::put_body(&mut object, a);
    // Of an enhanced image the side is a matter of its anatomy.
    object.remove_element(tags::LATERALITY);
    if geometry(first).is_none() {
        header::put_orientation(&mut object, first);
        header::put_aspect(&mut object, first.pixel_aspect(None));
    } else {
        object.put_str(tags::FRAME_OF_REFERENCE_UID, VR::UI, first.frame_of_reference_uid.as_str());
        object.put_str(tags::POSITION_REFERENCE_INDICATOR, VR::LO, "");
    }
    let kind = ["DERIVED".to_owned(), "PRIMARY".to_owned()];
    put(&mut object, tags::IMAGE_TYPE, VR::CS, PrimitiveValue::Strs(kind.into_iter().collect()));
    let identity = Identity::of(&a.algorithm);
    object.put_str(tags::CONTENT_LABEL, VR::CS, "AI_PRELIMINARY");
    let what = format!("Segments of {} {}, unverified", identity.name, identity.version);
    object.put_str(tags::CONTENT_DESCRIPTION, VR::LO, text::lo(&what, "Segments"));
    object.put_str(tags::CONTENT_CREATOR_NAME, VR::PN, "");
    object.put_str(tags::SEGMENTATION_TYPE, VR::CS, "BINARY");
    object.put_str(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, lossy(frames));
    put_pixel_module(&mut object, first);

    let findings = findings(frames);
    let segments = findings.iter().enumerate().map(|(nth, one)| segment(nth + 1, one, &identity));
    object.put(sequence(tags::SEGMENT_SEQUENCE, segments.collect()));
    let mut instances: Vec<&Instance> = Vec::new();
    for frame in frames {
        if instances.iter().all(|known| known.sop_instance_uid != frame.instance.sop_instance_uid) {
            instances.push(frame.instance);
        }
    }
    // Common Instance Reference (PS3.3 C.12.2): images of one series.
    let named = instances
        .iter()
        .map(|one| reference(one.sop_class_uid.as_str(), one.sop_instance_uid.as_str()));
    let mut series = InMemDicomObject::new_empty();
    series.put_str(tags::SERIES_INSTANCE_UID, VR::UI, first.series_uid.as_str());
    series.put(sequence(tags::REFERENCED_INSTANCE_SEQUENCE, named.collect()));
    object.put(sequence(tags::REFERENCED_SERIES_SEQUENCE, vec![series]));
    if findings.iter().any(|finding| finding.concept.scheme == header::LOCAL_SCHEME) {
        header::put_local_scheme(&mut object);
    }
    put_dimensions(&mut object, a, nth);
    object.put_str(tags::NUMBER_OF_FRAMES, VR::IS, frames.len().to_string());
    object.put(sequence(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE, vec![shared(first)]));
    let each = frames.iter().enumerate().map(|(nth, frame)| {
        let segment = findings.iter().position(|one| one.id == frame.finding.id).unwrap_or(0);
        of_frame(frame, segment + 1, nth + 1)
    });
    object.put(sequence(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE, each.collect()));
    put(&mut object, tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels));
    object
}

/// In the order in which they come.
fn findings<'a>(frames: &[Frame<'a>]) -> Vec<&'a Finding> {
    let mut findings: Vec<&Finding> = Vec::new();
    for frame in frames {
        if findings.iter().all(|known| known.id != frame.finding.id) {
            findings.push(frame.finding);
        }
    }
    findings
}

fn lossy(frames: &[Frame<'_>]) -> &'static str {
    match frames.iter().any(|frame| frame.instance.lossy_image_compression == "01") {
        true => "01",
        false => "00",
    }
}

fn put(object: &mut InMemDicomObject, tag: Tag, vr: VR, value: PrimitiveValue) {
    object.put(DataElement::new(tag, vr, value));
}

fn short(n: usize) -> PrimitiveValue {
    PrimitiveValue::from(u16::try_from(n).unwrap_or(u16::MAX))
}

fn put_pixel_module(object: &mut InMemDicomObject, of: &Instance) {
    object.put_str(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME2");
    for (tag, value) in [
        (tags::SAMPLES_PER_PIXEL, 1),
        (tags::ROWS, of.rows as usize),
        (tags::COLUMNS, of.columns as usize),
        (tags::BITS_ALLOCATED, 1),
        (tags::BITS_STORED, 1),
        (tags::HIGH_BIT, 0),
        (tags::PIXEL_REPRESENTATION, 0),
    ] {
        put(object, tag, VR::US, short(value));
    }
}

/// One bit for each pixel, the first in the lowest bit, frame after frame without a gap
/// (PS3.5 8.1.1), to an even length.
fn packed(frames: &[Frame<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut at = 0_usize;
    for frame in frames {
        for on in frame.mask.on_frame(frame.instance.columns, frame.instance.rows) {
            if at.is_multiple_of(8) {
                bytes.push(0);
            }
            if let Some(byte) = bytes.last_mut() {
                *byte |= u8::from(on) << (at % 8);
            }
            at += 1;
        }
    }
    bytes.resize(bytes.len() + bytes.len() % 2, 0);
    bytes
}

/// Segment Description Macro (PS3.3 C.8.20.4). The tracking UID is that of the structured report.
fn segment(number: usize, finding: &Finding, identity: &Identity) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    put(&mut item, tags::SEGMENT_NUMBER, VR::US, short(number));
    let label = format!("{} {}", finding.id, finding.title());
    item.put_str(tags::SEGMENT_LABEL, VR::LO, text::lo(&label, "Finding"));
    item.put_str(tags::SEGMENT_ALGORITHM_TYPE, VR::CS, "AUTOMATIC");
    item.put_str(tags::SEGMENT_ALGORITHM_NAME, VR::LO, identity.name.as_str());
    let category = Code::new("49755003", "SCT", "Morphologically Abnormal Structure");
    item.put(sequence(tags::SEGMENTED_PROPERTY_CATEGORY_CODE_SEQUENCE, vec![code(&category)]));
    let kind = code(&finding.concept);
    item.put(sequence(tags::SEGMENTED_PROPERTY_TYPE_CODE_SEQUENCE, vec![kind]));
    if let Some(site) = &finding.site {
        let mut region = code(site);
        if let Some(side) = finding.laterality {
            let side = vec![code(&side.code())];
            region.put(sequence(tags::ANATOMIC_REGION_MODIFIER_SEQUENCE, side));
        }
        item.put(sequence(tags::ANATOMIC_REGION_SEQUENCE, vec![region]));
    }
    item.put_str(tags::TRACKING_ID, VR::UT, finding.id.as_str());
    item.put_str(tags::TRACKING_UID, VR::UI, finding.tracking_uid.as_str());
    item
}

/// By segment, then by frame (PS3.3 C.7.6.17).
fn put_dimensions(object: &mut InMemDicomObject, a: &Assessment, nth: usize) {
    let organization = uid::derived(&["dimensions", &a.artefact_uid(KIND.kind), &nth.to_string()]);
    let mut item = InMemDicomObject::new_empty();
    item.put_str(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization.as_str());
    object.put(sequence(tags::DIMENSION_ORGANIZATION_SEQUENCE, vec![item]));
    let index = |pointer: Tag, group: Tag, label: &str| {
        let mut item = InMemDicomObject::new_empty();
        item.put_str(tags::DIMENSION_ORGANIZATION_UID, VR::UI, organization.as_str());
        put(&mut item, tags::DIMENSION_INDEX_POINTER, VR::AT, PrimitiveValue::from(pointer));
        put(&mut item, tags::FUNCTIONAL_GROUP_POINTER, VR::AT, PrimitiveValue::from(group));
        item.put_str(tags::DIMENSION_DESCRIPTION_LABEL, VR::LO, label);
        item
    };
    let identification = tags::SEGMENT_IDENTIFICATION_SEQUENCE;
    let indexes = vec![
        index(tags::REFERENCED_SEGMENT_NUMBER, identification, "Segment"),
        index(tags::IN_STACK_POSITION_NUMBER, tags::FRAME_CONTENT_SEQUENCE, "Frame"),
    ];
    object.put(sequence(tags::DIMENSION_INDEX_SEQUENCE, indexes));
}

fn numbers(values: &[f64]) -> PrimitiveValue {
    PrimitiveValue::Strs(values.iter().map(|value| text::decimal(*value)).collect())
}

fn shared(of: &Instance) -> InMemDicomObject {
    let mut groups = InMemDicomObject::new_empty();
    let Some(plane) = geometry(of) else { return groups };
    let mut orientation = InMemDicomObject::new_empty();
    let cosines = numbers(&plane.orientation);
    put(&mut orientation, tags::IMAGE_ORIENTATION_PATIENT, VR::DS, cosines);
    groups.put(sequence(tags::PLANE_ORIENTATION_SEQUENCE, vec![orientation]));
    let mut measures = InMemDicomObject::new_empty();
    put(&mut measures, tags::PIXEL_SPACING, VR::DS, numbers(&plane.spacing));
    if let Some(thickness) = of.slice_thickness_mm.filter(|mm| *mm > 0.0) {
        put(&mut measures, tags::SLICE_THICKNESS, VR::DS, numbers(&[thickness]));
    }
    groups.put(sequence(tags::PIXEL_MEASURES_SEQUENCE, vec![measures]));
    groups
}

fn of_frame(frame: &Frame<'_>, segment: usize, nth: usize) -> InMemDicomObject {
    let long = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let mut content = InMemDicomObject::new_empty();
    content.put_str(tags::STACK_ID, VR::SH, "1");
    put(&mut content, tags::IN_STACK_POSITION_NUMBER, VR::UL, PrimitiveValue::from(long(nth)));
    let index = PrimitiveValue::U32([long(segment), long(nth)].into_iter().collect());
    put(&mut content, tags::DIMENSION_INDEX_VALUES, VR::UL, index);

    let mut source = tree::source(frame.instance, frame.mask.image.frame).reference();
    let purpose = dcm("121322", "Source image for image processing operation");
    source.put(sequence(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code(&purpose)]));
    source.put_str(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "YES");
    let mut derivation = InMemDicomObject::new_empty();
    derivation.put(sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]));
    let derived = code(&dcm("113076", "Segmentation"));
    derivation.put(sequence(tags::DERIVATION_CODE_SEQUENCE, vec![derived]));

    let mut number = InMemDicomObject::new_empty();
    put(&mut number, tags::REFERENCED_SEGMENT_NUMBER, VR::US, short(segment));

    let mut groups = InMemDicomObject::new_empty();
    groups.put(sequence(tags::FRAME_CONTENT_SEQUENCE, vec![content]));
    groups.put(sequence(tags::DERIVATION_IMAGE_SEQUENCE, vec![derivation]));
    groups.put(sequence(tags::SEGMENT_IDENTIFICATION_SEQUENCE, vec![number]));
    if let Some(plane) = geometry(frame.instance) {
        let mut position = InMemDicomObject::new_empty();
        let at = numbers(&plane.position);
        put(&mut position, tags::IMAGE_POSITION_PATIENT, VR::DS, at);
        groups.put(sequence(tags::PLANE_POSITION_SEQUENCE, vec![position]));
    }
    groups
}
