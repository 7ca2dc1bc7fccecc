//! Key images as Secondary Capture: for archives and viewers that show neither report nor graphics.
//!
//! One single-frame object for each image (1.2.840.10008.5.1.4.1.1.7): the multi-frame classes are
//! younger, and many archives refuse them or show the first frame only.

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::key_image::KeyImage;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::codes::dcm;
use crate::sr::content_item::code;
use crate::sr::content_item::sequence;
use crate::sr::header;
use crate::sr::header::LOCAL_SCHEME;
use crate::sr::text;
use crate::sr::tree;

const KIND: header::Kind = header::Kind {
    kind: "key-images",
    sop_class_uid: uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    modality: "OT",
    series_number: 9003,
    title: "AI key images",
};

/// Kinds of images in which devices do not write.
const WITHOUT_TEXT: [&str; 9] = ["CR", "DX", "MG", "CT", "MR", "PT", "NM", "IO", "PX"];

/// A key image as a Part 10 file.
///
/// - `nth`: its number in the series, from 1.
///
/// # Errors
/// [`SrError::ForeignImage`] if the study does not have the image.
pub fn key_image(
    a: &Assessment,
    node: &Equipment,
    of: &ImageRef,
    drawn: &KeyImage,
    nth: usize,
) -> Result<Vec<u8>, SrError> {
    let is_it = |one: &&Instance| one.sop_instance_uid == of.sop_instance_uid;
    let instance = a.study.instances.iter().find(is_it);
    let instance =
        instance.ok_or_else(|| SrError::ForeignImage { finding: "of the key image".into() })?;
    let mut object = header::common(a, node, &KIND);
    let pixels = blake3::hash(&drawn.pixels).to_hex();
    let frame = of.frame.unwrap_or(1);
    let uid = a.artefact_uid(&format!("{} {} {frame} {pixels}", KIND.kind, of.sop_instance_uid));
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, uid);
    object.put_str(tags::INSTANCE_NUMBER, VR::IS, nth.to_string());
    header::put_body(&mut object, a);
    put_description(&mut object, a, of, instance);
    put_pixels(&mut object, drawn, instance.pixel_aspect(drawn.aspect));
    header::put_local_scheme(&mut object);
    header::part_10(object)
}

/// General Image and SC Equipment: what it is and what it was made of.
fn put_description(
    object: &mut InMemDicomObject,
    a: &Assessment,
    of: &ImageRef,
    instance: &Instance,
) {
    object.put_str(tags::CONVERSION_TYPE, VR::CS, "WSD");
    object.put(DataElement::new(
        tags::IMAGE_TYPE,
        VR::CS,
        PrimitiveValue::Strs(["DERIVED".to_owned(), "SECONDARY".to_owned()].into_iter().collect()),
    ));
    let burned = "Frame at its own resolution with the regions of findings, their labels and a \
                  banner burned in by software. PRELIMINARY, unverified. Not for measuring.";
    object.put_str(tags::DERIVATION_DESCRIPTION, VR::ST, burned);
    let derived = Code::new("ANNOTATED", LOCAL_SCHEME, "Annotations burned in");
    object.put(sequence(tags::DERIVATION_CODE_SEQUENCE, vec![code(&derived)]));
    let mut source = tree::source(instance, of.frame).reference();
    let purpose = dcm("121322", "Source image for image processing operation");
    source.put(sequence(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code(&purpose)]));
    source.put_str(tags::SPATIAL_LOCATIONS_PRESERVED, VR::CS, "NO");
    object.put(sequence(tags::SOURCE_IMAGE_SEQUENCE, vec![source]));
    let found: Vec<String> = a.present().map(|finding| finding.title()).collect();
    let comments = format!("PRELIMINARY, unverified: {}", found.join("; "));
    object.put_str(tags::IMAGE_COMMENTS, VR::LT, text::long(&comments, 1024));
    if let Some(burned_in) = burned_in(instance) {
        object.put_str(tags::BURNED_IN_ANNOTATION, VR::CS, burned_in);
    }
    header::put_orientation(object, instance);
}

/// What is drawn names nobody; what the device wrote into its pixels may. Nothing where it is not
/// known.
fn burned_in(source: &Instance) -> Option<&'static str> {
    match source.burned_in_annotation.as_str() {
        "YES" => Some("YES"),
        "NO" => Some("NO"),
        _ => WITHOUT_TEXT.contains(&source.modality.as_str()).then_some("NO"),
    }
}

/// No spacing: the strips of text move every coordinate, and a reader would measure on it.
fn put_pixels(object: &mut InMemDicomObject, drawn: &KeyImage, aspect: Option<[f64; 2]>) {
    let mut short = |tag: Tag, value: u32| {
        let value = PrimitiveValue::from(u16::try_from(value).unwrap_or(u16::MAX));
        object.put(DataElement::new(tag, VR::US, value));
    };
    short(tags::SAMPLES_PER_PIXEL, drawn.samples);
    short(tags::ROWS, drawn.height);
    short(tags::COLUMNS, drawn.width);
    short(tags::BITS_ALLOCATED, 8);
    short(tags::BITS_STORED, 8);
    short(tags::HIGH_BIT, 7);
    short(tags::PIXEL_REPRESENTATION, 0);
    if drawn.samples == 3 {
        short(tags::PLANAR_CONFIGURATION, 0);
    }
    let photometric = if drawn.samples == 3 { "RGB" } else { "MONOCHROME2" };
    object.put_str(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, photometric);
    header::put_aspect(object, aspect);
    if let Some(lossy) = &drawn.lossy {
        object.put_str(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        let several = [
            (tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, &lossy.ratios),
            (tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, &lossy.methods),
        ];
        for (tag, vr, values) in several.into_iter().filter(|(_, _, values)| !values.is_empty()) {
            let values = values.iter().map(|value| text::sh(value, ""));
            let values = PrimitiveValue::Strs(values.collect());
            object.put(DataElement::new(tag, vr, Value::from(values)));
        }
    }
    let mut pixels = drawn.pixels.clone();
    pixels.resize(pixels.len() + pixels.len() % 2, 0);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(pixels)));
}
