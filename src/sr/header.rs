//! What every object that we make carries: whose study it is, which node wrote it, which
//! algorithm it comes from.

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_core::value::Value;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;
use dicom_object::InMemDicomObject;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::domain::assessment::Algorithm;
use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::study::Instance;
use crate::domain::uid;
use crate::sr::Equipment;
use crate::sr::SrError;
use crate::sr::content_item::code;
use crate::sr::content_item::sequence;
use crate::sr::text;

/// Scheme of the codes that are ours.
pub const LOCAL_SCHEME: &str = "99PRELIM";

/// What tells one kind of object from another.
pub struct Kind {
    /// As in [`Assessment::artefact_uid`].
    pub kind: &'static str,
    pub sop_class_uid: &'static str,
    pub modality: &'static str,
    pub series_number: u32,
    /// Before the algorithm's name in Series Description.
    pub title: &'static str,
}

/// The algorithm's identity, cleaned once, so that it is the same value wherever it stands (IHE
/// AIR 6.5.3.1): Contributing Equipment, device observer, each group.
pub struct Identity {
    pub name: String,
    pub version: String,
    pub manufacturer: String,
    pub device_uid: String,
    pub parameters: Vec<String>,
    pub measures_only: bool,
}

impl Identity {
    pub fn of(algorithm: &Algorithm) -> Identity {
        let parameters = algorithm.parameters.iter().map(|p| text::long(p, 1024));
        Identity {
            name: text::lo(&algorithm.name, "unknown"),
            version: text::lo(&algorithm.version, "unknown"),
            manufacturer: text::lo(&algorithm.manufacturer, "unknown"),
            device_uid: algorithm.device_uid.clone(),
            parameters: parameters.filter(|p| !p.is_empty()).collect(),
            measures_only: algorithm.measures_only,
        }
    }
}

pub fn series_uid(a: &Assessment, kind: &str) -> String {
    a.artefact_uid(&format!("{kind}/series"))
}

/// SOP Common, Patient, General Study, Series, General Equipment and Contributing Equipment.
pub fn common(a: &Assessment, node: &Equipment, kind: &Kind) -> InMemDicomObject {
    let mut object = InMemDicomObject::new_empty();
    put_patient_and_study(&mut object, a);

    let instance_uid = a.artefact_uid(kind.kind);
    object.put_str(tags::SOP_CLASS_UID, VR::UI, kind.sop_class_uid);
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, instance_uid);
    let (date, time) = date_and_time(a.finished_at, &node.time_zone);
    object.put_str(tags::INSTANCE_CREATION_DATE, VR::DA, date);
    object.put_str(tags::INSTANCE_CREATION_TIME, VR::TM, time);
    // Content Date and Time are the start of the analysis (IHE AIR).
    let (date, time) = date_and_time(a.started_at, &node.time_zone);
    object.put_str(tags::CONTENT_DATE, VR::DA, date.as_str());
    object.put_str(tags::CONTENT_TIME, VR::TM, time.as_str());

    let identity = Identity::of(&a.algorithm);
    object.put_str(tags::MODALITY, VR::CS, kind.modality);
    object.put_str(tags::SERIES_INSTANCE_UID, VR::UI, series_uid(a, kind.kind));
    object.put_str(tags::SERIES_NUMBER, VR::IS, kind.series_number.to_string());
    object.put_str(tags::SERIES_DATE, VR::DA, date);
    object.put_str(tags::SERIES_TIME, VR::TM, time);
    object.put_str(tags::SERIES_DESCRIPTION, VR::LO, series_description(kind, &identity));
    object.put_str(tags::INSTANCE_NUMBER, VR::IS, a.revision.to_string());

    put_equipment(&mut object, a, node);
    let contributing = contributing_equipment(a, node, &identity);
    object.put(sequence(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, vec![contributing]));
    object
}

/// The same identity as the source says, so that every archive files it with the images.
fn put_patient_and_study(object: &mut InMemDicomObject, a: &Assessment) {
    let (patient, study) = (&a.study.patient, &a.study.attributes);
    let mut always = |tag: Tag, vr: VR, value: &str| {
        object.put_str(tag, vr, text::identity(value));
    };
    always(tags::PATIENT_NAME, VR::PN, &patient.name.to_dicom());
    always(tags::PATIENT_ID, VR::LO, &patient.id);
    always(tags::PATIENT_BIRTH_DATE, VR::DA, &patient.birth_date);
    always(tags::PATIENT_SEX, VR::CS, &patient.sex);
    always(tags::STUDY_INSTANCE_UID, VR::UI, a.study.study_uid.as_str());
    always(tags::STUDY_DATE, VR::DA, &study.study_date);
    always(tags::STUDY_TIME, VR::TM, &study.study_time);
    always(tags::STUDY_ID, VR::SH, &study.study_id);
    always(tags::ACCESSION_NUMBER, VR::SH, &study.accession_number);
    always(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &study.referring_physician_name.to_dicom());
    let mut when_known = |tag: Tag, vr: VR, value: &str| {
        if !value.is_empty() {
            always(tag, vr, value);
        }
    };
    when_known(tags::ISSUER_OF_PATIENT_ID, VR::LO, &patient.issuer_of_id);
    when_known(tags::PATIENT_AGE, VR::AS, &patient.age);
    when_known(tags::STUDY_DESCRIPTION, VR::LO, &study.study_description);
}

fn put_equipment(object: &mut InMemDicomObject, a: &Assessment, node: &Equipment) {
    let mut put = |tag: Tag, vr: VR, value: String| {
        if !value.is_empty() {
            object.put_str(tag, vr, value);
        }
    };
    put(tags::MANUFACTURER, VR::LO, text::lo(&node.manufacturer, "Prelim"));
    put(tags::MANUFACTURER_MODEL_NAME, VR::LO, text::lo(&node.model_name, "Prelim"));
    put(tags::DEVICE_SERIAL_NUMBER, VR::LO, text::lo(&node.serial_number, "PRELIM"));
    put(tags::SOFTWARE_VERSIONS, VR::LO, text::lo(&node.software_version, "unknown"));
    put(tags::STATION_NAME, VR::SH, text::sh(&node.station_name, ""));
    let institution = match node.institution_name.is_empty() {
        true => &a.study.attributes.institution_name,
        false => &node.institution_name,
    };
    put(tags::INSTITUTION_NAME, VR::LO, text::lo(institution, ""));
}

/// IHE AIR R1: one item for the algorithm, with these five attributes.
fn contributing_equipment(a: &Assessment, node: &Equipment, of: &Identity) -> InMemDicomObject {
    let mut item = InMemDicomObject::new_empty();
    let purpose = Code::new("109102", "DCM", "Processing Equipment");
    item.put(sequence(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE, vec![code(&purpose)]));
    item.put_str(tags::MANUFACTURER, VR::LO, of.manufacturer.as_str());
    item.put_str(tags::MANUFACTURER_MODEL_NAME, VR::LO, of.name.as_str());
    item.put_str(tags::SOFTWARE_VERSIONS, VR::LO, of.version.as_str());
    item.put_str(tags::DEVICE_UID, VR::UI, of.device_uid.as_str());
    let when = a.finished_at.to_zoned(node.time_zone.clone()).strftime("%Y%m%d%H%M%S%z");
    item.put_str(tags::CONTRIBUTION_DATE_TIME, VR::DT, when.to_string());
    let what = if of.measures_only { "Measurements, no reading" } else { "AI analysis" };
    item.put_str(tags::CONTRIBUTION_DESCRIPTION, VR::ST, what);
    item
}

/// The state stays readable however long the name is.
fn series_description(kind: &Kind, of: &Identity) -> String {
    let end = " (PRELIMINARY)";
    let subject = match of.measures_only {
        true => format!("{}: measurements only, no reading", kind.title),
        false => format!("{}: {} {}", kind.title, of.name, of.version),
    };
    format!("{}{end}", text::cut(&subject, 64 - end.len()))
}

/// Body parts of which there is one (PS3.16 Annex L). For every other, also one that nobody knows, a
/// side has to be given, if only an empty one (PS3.3 C.7.3.1, Type 2C).
const UNPAIRED: [&str; 45] = [
    "ABDOMEN",
    "ABDOMENPELVIS",
    "AORTA",
    "BLADDER",
    "BRAIN",
    "CHEST",
    "CHESTABDOMEN",
    "CHESTABDPELVIS",
    "COCCYX",
    "CSPINE",
    "CTSPINE",
    "ESOPHAGUS",
    "FACE",
    "HEAD",
    "HEADNECK",
    "HEART",
    "JAW",
    "LARYNX",
    "LIVER",
    "LSPINE",
    "LSSPINE",
    "MEDIASTINUM",
    "MOUTH",
    "NECK",
    "NECKCHEST",
    "NECKCHESTABDOMEN",
    "NECKCHESTABDPELV",
    "NOSE",
    "PANCREAS",
    "PELVIS",
    "PROSTATE",
    "RECTUM",
    "SACRUM",
    "SKULL",
    "SPINE",
    "SPLEEN",
    "SSPINE",
    "STERNUM",
    "STOMACH",
    "THYMUS",
    "TLSPINE",
    "TRACHEA",
    "TSPINE",
    "UTERUS",
    "WHOLEBODY",
];

/// Body part and side of the study, for objects that show it; the side where all images have the
/// same.
pub fn put_body(object: &mut InMemDicomObject, a: &Assessment) {
    let images = || a.study.instances.iter().filter(|instance| instance.has_pixels);
    let same = |of: fn(&Instance) -> &str| {
        let first = images().next().map(of).unwrap_or_default();
        if images().all(|image| of(image) == first) { first } else { "" }
    };
    let part = text::sh(same(|image| &image.body_part_examined), "");
    let side = same(|image| &image.laterality);
    let side = if ["R", "L"].contains(&side) { side } else { "" };
    if !side.is_empty() || !UNPAIRED.contains(&part.as_str()) {
        object.put_str(tags::LATERALITY, VR::CS, side);
    }
    if !part.is_empty() {
        object.put_str(tags::BODY_PART_EXAMINED, VR::CS, part);
    }
}

/// Pixel Aspect Ratio (PS3.3 C.7.6.3.1.7), of an object without a spacing whose pixels are no squares.
///
/// - `aspect`: height and width of a pixel, in any unit.
pub fn put_aspect(object: &mut InMemDicomObject, aspect: Option<[f64; 2]>) {
    let Some(aspect) = aspect.filter(|[vertical, horizontal]| vertical != horizontal) else {
        return;
    };
    let whole = aspect.map(|edge| format!("{:.0}", edge / aspect[0].max(aspect[1]) * 10_000.0));
    let whole = PrimitiveValue::Strs(whole.into_iter().collect());
    object.put(DataElement::new(tags::PIXEL_ASPECT_RATIO, VR::IS, whole));
}

/// Where the rows and columns of the source lead, empty where it does not say.
pub fn put_orientation(object: &mut InMemDicomObject, source: &Instance) {
    let orientation = match source.patient_orientation.as_slice() {
        [row, column] => vec![row.clone(), column.clone()],
        _ => vec![],
    };
    let orientation = PrimitiveValue::Strs(orientation.into_iter().collect());
    object.put(DataElement::new(tags::PATIENT_ORIENTATION, VR::CS, orientation));
}

/// What our own coding scheme is (PS3.3 C.12.1.1.7).
pub fn put_local_scheme(object: &mut InMemDicomObject) {
    let mut scheme = InMemDicomObject::new_empty();
    scheme.put_str(tags::CODING_SCHEME_DESIGNATOR, VR::SH, LOCAL_SCHEME);
    scheme.put_str(tags::CODING_SCHEME_UID, VR::UI, uid::derived(&["scheme", LOCAL_SCHEME]));
    scheme.put_str(tags::CODING_SCHEME_NAME, VR::ST, "Prelim local codes");
    scheme.put_str(tags::CODING_SCHEME_RESPONSIBLE_ORGANIZATION, VR::ST, "Prelim");
    object.put(sequence(tags::CODING_SCHEME_IDENTIFICATION_SEQUENCE, vec![scheme]));
}

pub fn date_and_time(at: Timestamp, zone: &TimeZone) -> (String, String) {
    let local = at.to_zoned(zone.clone());
    (local.strftime("%Y%m%d").to_string(), local.strftime("%H%M%S").to_string())
}

/// The object as a Part 10 file, Explicit VR Little Endian, with a character set if it needs one.
pub fn part_10(mut object: InMemDicomObject) -> Result<Vec<u8>, SrError> {
    if !is_ascii(&object) {
        object.put_str(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    }
    let cause = |cause: String| SrError::Write { cause };
    let meta = FileMetaTableBuilder::new()
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN)
        .implementation_class_uid(uid::derived(&["implementation", "prelim"]))
        .implementation_version_name("PRELIM");
    let file = object.with_meta(meta).map_err(|e| cause(e.to_string()))?;
    let mut bytes = Vec::new();
    file.write_all(&mut bytes).map_err(|e| cause(e.to_string()))?;
    Ok(bytes)
}

fn is_ascii(object: &InMemDicomObject) -> bool {
    object.iter().all(|element| match element.value() {
        Value::Primitive(PrimitiveValue::Str(text)) => text.is_ascii(),
        Value::Primitive(PrimitiveValue::Strs(texts)) => texts.iter().all(|text| text.is_ascii()),
        Value::Primitive(_) | Value::PixelSequence(_) => true,
        Value::Sequence(items) => items.items().iter().all(is_ascii),
    })
}
