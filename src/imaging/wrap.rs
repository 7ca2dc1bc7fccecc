//! A JPEG or PNG becomes a DICOM object: Computed Radiography or Secondary Capture, native
//! 8-bit pixels.

use std::io::Cursor;

use dicom_core::DataElement;
use dicom_core::PrimitiveValue;
use dicom_core::Tag;
use dicom_core::VR;
use dicom_dictionary_std::tags;
use dicom_dictionary_std::uids;
use dicom_object::FileMetaTableBuilder;
use dicom_object::InMemDicomObject;
use image::ImageDecoder as _;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::study::PersonName;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::imaging::ImagingError;

/// Edges and decoded bytes of a picture that is taken.
const EDGE_MAX_PX: u32 = 16_384;
const DECODED_MAX_BYTES: u64 = 512 << 20;
/// A colour picture whose samples differ no more than this is a grey one.
const GREY_TOLERANCE: u8 = 6;

/// What a picture says of itself beside its pixels. Texts in DICOM's own forms; empty is
/// unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WrapFields {
    pub study_uid: StudyUid,
    pub series_uid: SeriesUid,
    pub sop_instance_uid: SopInstanceUid,
    /// `CR` makes a Computed Radiography object of a grey picture, all else a Secondary Capture.
    pub modality: String,
    pub body_part: String,
    pub view: String,
    /// R, L or empty.
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

/// Makes a Part 10 file (Explicit VR Little Endian).
///
/// - `picture`: JPEG or PNG; turned upright by its EXIF orientation, alpha dropped.
///
/// # Errors
/// [`ImagingError::Picture`] when it is neither, broken, or above the limits.
pub fn wrap(picture: &[u8], fields: &WrapFields) -> Result<Vec<u8>, ImagingError> {
    let pixels = Pixels::decode(picture)?;
    let radiograph = fields.modality == "CR" && pixels.samples == 1;
    let class = match radiograph {
        true => uids::COMPUTED_RADIOGRAPHY_IMAGE_STORAGE,
        false => uids::SECONDARY_CAPTURE_IMAGE_STORAGE,
    };
    let mut object = InMemDicomObject::new_empty();
    let mut text = |tag: Tag, vr: VR, value: &str| {
        object.put(DataElement::new(tag, vr, PrimitiveValue::from(value)));
    };
    text(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    text(tags::SOP_CLASS_UID, VR::UI, class);
    text(tags::SOP_INSTANCE_UID, VR::UI, fields.sop_instance_uid.as_str());
    text(
        tags::IMAGE_TYPE,
        VR::CS,
        if radiograph { "DERIVED\\PRIMARY" } else { "DERIVED\\SECONDARY" },
    );
    patient(&mut text, fields);
    study(&mut text, fields);
    series(&mut text, fields, radiograph);
    if pixels.lossy {
        text(tags::LOSSY_IMAGE_COMPRESSION, VR::CS, "01");
        text(tags::LOSSY_IMAGE_COMPRESSION_METHOD, VR::CS, "ISO_10918_1");
        let ratio = pixels.bytes.len() as f64 / picture.len().max(1) as f64;
        text(tags::LOSSY_IMAGE_COMPRESSION_RATIO, VR::DS, &format!("{ratio:.2}"));
    }
    let grey = pixels.samples == 1;
    text(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, if grey { "MONOCHROME2" } else { "RGB" });
    if grey {
        text(tags::WINDOW_CENTER, VR::DS, "128");
        text(tags::WINDOW_WIDTH, VR::DS, "256");
    }
    image_pixels(&mut object, pixels);
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(class)
        .media_storage_sop_instance_uid(fields.sop_instance_uid.as_str())
        .transfer_syntax(uids::EXPLICIT_VR_LITTLE_ENDIAN);
    let failed = |e: &dyn std::fmt::Display| ImagingError::Picture(format!("writing: {e}"));
    let file = object.with_meta(meta).map_err(|e| failed(&e))?;
    let mut out = Vec::new();
    file.write_all(&mut out).map_err(|e| failed(&e))?;
    Ok(out)
}

type Text<'a> = dyn FnMut(Tag, VR, &str) + 'a;

/// Attributes of type 2 are there without a value when unknown.
fn patient(text: &mut Text<'_>, fields: &WrapFields) {
    text(tags::PATIENT_NAME, VR::PN, &fields.patient_name.to_dicom());
    text(tags::PATIENT_ID, VR::LO, &fields.patient_id);
    text(tags::PATIENT_BIRTH_DATE, VR::DA, &fields.birth_date);
    text(tags::PATIENT_SEX, VR::CS, &fields.sex);
    if !fields.age.is_empty() {
        text(tags::PATIENT_AGE, VR::AS, &fields.age);
    }
}

fn study(text: &mut Text<'_>, fields: &WrapFields) {
    text(tags::STUDY_INSTANCE_UID, VR::UI, fields.study_uid.as_str());
    text(tags::STUDY_DATE, VR::DA, &fields.date);
    text(tags::STUDY_TIME, VR::TM, &fields.time);
    text(tags::REFERRING_PHYSICIAN_NAME, VR::PN, "");
    text(tags::STUDY_ID, VR::SH, &fields.study_id);
    text(tags::ACCESSION_NUMBER, VR::SH, &fields.accession_number);
    if !fields.study_description.is_empty() {
        text(tags::STUDY_DESCRIPTION, VR::LO, &fields.study_description);
    }
}

fn series(text: &mut Text<'_>, fields: &WrapFields, radiograph: bool) {
    let modality = if fields.modality.is_empty() { "OT" } else { &fields.modality };
    text(tags::MODALITY, VR::CS, modality);
    text(tags::SERIES_INSTANCE_UID, VR::UI, fields.series_uid.as_str());
    text(tags::SERIES_NUMBER, VR::IS, "1");
    text(tags::INSTANCE_NUMBER, VR::IS, "1");
    text(tags::MANUFACTURER, VR::LO, "");
    text(tags::SERIES_DATE, VR::DA, &fields.date);
    text(tags::SERIES_TIME, VR::TM, &fields.time);
    text(tags::CONTENT_DATE, VR::DA, &fields.date);
    text(tags::CONTENT_TIME, VR::TM, &fields.time);
    if !fields.series_description.is_empty() {
        text(tags::SERIES_DESCRIPTION, VR::LO, &fields.series_description);
    }
    if radiograph || !fields.body_part.is_empty() {
        text(tags::BODY_PART_EXAMINED, VR::CS, &fields.body_part);
    }
    if radiograph || !fields.view.is_empty() {
        text(tags::VIEW_POSITION, VR::CS, &fields.view);
    }
    if radiograph {
        text(tags::ACQUISITION_DATE, VR::DA, &fields.date);
        text(tags::ACQUISITION_TIME, VR::TM, &fields.time);
    } else {
        // Workstation: the picture came as a file.
        text(tags::CONVERSION_TYPE, VR::CS, "WSD");
    }
    text(tags::PATIENT_ORIENTATION, VR::CS, "");
    if matches!(fields.laterality.as_str(), "R" | "L") {
        text(tags::LATERALITY, VR::CS, &fields.laterality);
    }
}

fn image_pixels(object: &mut InMemDicomObject, pixels: Pixels) {
    let mut number = |tag: Tag, value: u16| {
        object.put(DataElement::new(tag, VR::US, PrimitiveValue::from(value)));
    };
    number(tags::SAMPLES_PER_PIXEL, pixels.samples);
    if pixels.samples == 3 {
        number(tags::PLANAR_CONFIGURATION, 0);
    }
    number(tags::ROWS, pixels.height);
    number(tags::COLUMNS, pixels.width);
    number(tags::BITS_ALLOCATED, 8);
    number(tags::BITS_STORED, 8);
    number(tags::HIGH_BIT, 7);
    number(tags::PIXEL_REPRESENTATION, 0);
    let mut bytes = pixels.bytes;
    if bytes.len() % 2 == 1 {
        bytes.push(0);
    }
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, PrimitiveValue::from(bytes)));
}

struct Pixels {
    width: u16,
    height: u16,
    samples: u16,
    bytes: Vec<u8>,
    lossy: bool,
}

impl Pixels {
    fn decode(picture: &[u8]) -> Result<Pixels, ImagingError> {
        let failed = |e: image::ImageError| ImagingError::Picture(format!("reading: {e}"));
        let mut reader = image::ImageReader::new(Cursor::new(picture))
            .with_guessed_format()
            .map_err(|e| ImagingError::Picture(e.to_string()))?;
        let lossy = match reader.format() {
            Some(image::ImageFormat::Jpeg) => true,
            Some(image::ImageFormat::Png) => false,
            _ => return Err(ImagingError::Picture("it is neither JPEG nor PNG".into())),
        };
        let mut limits = image::Limits::default();
        limits.max_image_width = Some(EDGE_MAX_PX);
        limits.max_image_height = Some(EDGE_MAX_PX);
        limits.max_alloc = Some(DECODED_MAX_BYTES);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(failed)?;
        let upright = decoder.orientation().unwrap_or(image::metadata::Orientation::NoTransforms);
        let mut decoded = image::DynamicImage::from_decoder(decoder).map_err(failed)?;
        decoded.apply_orientation(upright);
        let (width, height) = (decoded.width() as u16, decoded.height() as u16);
        let is_colour = decoded.color().has_color();
        let rgb = if is_colour { decoded.to_rgb8().into_raw() } else { Vec::new() };
        let spread = |p: &[u8]| p[0].max(p[1]).max(p[2]) - p[0].min(p[1]).min(p[2]);
        let is_grey = !is_colour || rgb.chunks_exact(3).all(|p| spread(p) <= GREY_TOLERANCE);
        Ok(match is_grey {
            true => {
                let bytes = decoded.to_luma8().into_raw();
                Pixels { width, height, samples: 1, bytes, lossy }
            }
            false => Pixels { width, height, samples: 3, bytes: rgb, lossy },
        })
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::imaging::dataset::DataSet;
    use crate::imaging::decode::Image;
    use crate::imaging::decode::Values;

    pub fn fields() -> WrapFields {
        WrapFields {
            study_uid: StudyUid::parse("2.25.1").unwrap(),
            series_uid: SeriesUid::parse("2.25.2").unwrap(),
            sop_instance_uid: SopInstanceUid::parse("2.25.3").unwrap(),
            modality: "CR".into(),
            body_part: "CHEST".into(),
            view: "PA".into(),
            laterality: String::new(),
            patient_id: "P1".into(),
            patient_name: PersonName::parse("Hong^Gildong=洪^吉洞=홍^길동"),
            birth_date: String::new(),
            age: "004Y".into(),
            sex: "F".into(),
            study_description: "흉부".into(),
            series_description: String::new(),
            accession_number: "A1".into(),
            study_id: "1".into(),
            date: "20261122".into(),
            time: "101500".into(),
        }
    }

    fn png(width: u32, height: u32, rgb: bool) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        let drawn = match rgb {
            true => {
                image::DynamicImage::ImageRgb8(image::RgbImage::from_fn(width, height, |x, y| {
                    image::Rgb([x as u8, y as u8, 200])
                }))
            }
            false => {
                image::DynamicImage::ImageLuma8(image::GrayImage::from_fn(width, height, |x, y| {
                    image::Luma([(x + y) as u8])
                }))
            }
        };
        drawn.write_to(&mut out, image::ImageFormat::Png).unwrap();
        out.into_inner()
    }

    #[test]
    fn a_picture_becomes_an_object_that_reads_back() {
        let file = wrap(&png(7, 5, false), &fields()).unwrap();
        let mut image = Image::of(DataSet::of(file.clone()).unwrap()).unwrap();
        let frame = image.frame(0).unwrap();
        assert_eq!((frame.columns, frame.rows), (7, 5));
        assert_eq!(frame.values, Values::U8((0..35).map(|i| (i % 7 + i / 7) as u8).collect()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.dcm");
        std::fs::write(&path, file).unwrap();
        let seen = crate::imaging::inspect::inspect(&path, "a.dcm").unwrap();
        assert_eq!(seen.patient.name, fields().patient_name);
        assert_eq!(seen.attributes.study_description, "흉부");
        assert_eq!(seen.patient.age, "004Y");
        assert_eq!(seen.instance.view_position, "PA");
    }

    #[test]
    fn colour_is_a_secondary_capture_and_no_picture_is_refused() {
        let file = wrap(&png(4, 4, true), &fields()).unwrap();
        let opened = DataSet::of(file).unwrap();
        assert_eq!(
            opened.fields().plain(tags::SOP_CLASS_UID),
            uids::SECONDARY_CAPTURE_IMAGE_STORAGE
        );
        assert!(wrap(b"GIF89a", &fields()).is_err());
        assert!(wrap(&png(4, 4, true)[..60], &fields()).is_err());
    }

    /// dicom3tools' validator, where it is installed.
    #[test]
    fn the_objects_are_valid_to_dciodvfy() {
        let folder = tempfile::tempdir().unwrap();
        for (name, rgb, modality) in [("cr", false, "CR"), ("sc", true, "XC"), ("ot", false, "OT")]
        {
            let fields = WrapFields { modality: modality.into(), ..fields() };
            let path = folder.path().join(name);
            std::fs::write(&path, wrap(&png(64, 64, rgb), &fields).unwrap()).unwrap();
            let Ok(run) = std::process::Command::new("dciodvfy").arg(&path).output() else {
                println!("dciodvfy is not installed: nothing checked");
                return;
            };
            let said = String::from_utf8_lossy(&run.stderr).into_owned();
            println!("{name}:\n{said}");
            assert!(!said.contains("Error"), "{name}: {said}");
        }
    }
}
