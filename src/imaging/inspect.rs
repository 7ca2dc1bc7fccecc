//! A header to the words of `domain::study`: what an instance says of itself.

use std::path::Path;

use dicom_core::Tag;
use dicom_dictionary_std::tags;

use crate::dicom::scan::STUDY_PRIORITY_ID;
use crate::domain::origin::Made;
use crate::domain::origin::Maker;
use crate::domain::study::Inspected;
use crate::domain::study::Instance;
use crate::domain::study::Patient;
use crate::domain::study::PersonName;
use crate::domain::study::StudyAttributes;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::imaging::dataset::DataSet;
use crate::imaging::dataset::Fields;
use crate::imaging::dataset::Unreadable;

/// Reason for Study: retired, and still sent.
const REASON_FOR_STUDY: Tag = Tag(0x0032, 0x1030);
/// Items of Contributing Equipment looked at, and content items among which an observer may be.
const MAKERS_MAX: usize = 32;
const OBSERVERS_MAX: usize = 200;
const UNCOMPRESSED_PREDECESSOR: &str = "121320";
const OBSERVER_TYPE: &str = "121005";
const PERSON: &str = "121006";
const DEVICE: &str = "121007";
const PERSON_OBSERVER_NAME: &str = "121008";
const DEVICE_OBSERVER_UID: &str = "121012";
/// Ultrasound regions looked at.
const REGIONS_MAX: usize = 64;

/// Reads a file's header up to Pixel Data.
///
/// - `path`: the Part 10 file. `object`: its path relative to the data folder, kept as it is.
/// - Odd and missing values become empty text and `None`; only a missing UID is an error.
///
/// # Errors
/// [`Unreadable`], which holds no value from the file.
pub fn inspect(path: &Path, object: &str) -> Result<Inspected, Unreadable> {
    let opened = DataSet::open(path)?;
    describe(&opened, object)
}

fn describe(opened: &DataSet, object: &str) -> Result<Inspected, Unreadable> {
    let top = opened.fields();
    let uid = |tag| top.plain(tag);
    let study_uid = StudyUid::parse(&uid(tags::STUDY_INSTANCE_UID))
        .map_err(|_| Unreadable::Missing("Study Instance UID"))?;
    Ok(Inspected {
        study_uid,
        patient: patient(&top),
        attributes: attributes(&top),
        instance: instance(opened, &top, object)?,
        made: made(opened, &top),
    })
}

/// How the object says that it was made.
fn made(opened: &DataSet, top: &Fields<'_>) -> Made {
    let contributing = top.items(tags::CONTRIBUTING_EQUIPMENT_SEQUENCE, MAKERS_MAX);
    let sources = top.items(tags::SOURCE_IMAGE_SEQUENCE, MAKERS_MAX);
    // An image that was compressed is still the image (PS3.16 CID 7202).
    let is_itself = |source: &Fields<'_>| {
        let purpose = source.item(tags::PURPOSE_OF_REFERENCE_CODE_SEQUENCE);
        purpose.is_some_and(|code| code.plain(tags::CODE_VALUE) == UNCOMPRESSED_PREDECESSOR)
    };
    Made {
        sop_class_uid: top.plain(tags::SOP_CLASS_UID),
        has_pixels: opened.pixels.is_some(),
        image_type: top.plain_strings(tags::IMAGE_TYPE),
        by: maker(top),
        contributing: contributing.iter().map(maker).collect(),
        is_from_others: sources.iter().any(|source| !is_itself(source)),
        is_verified: top.plain(tags::VERIFICATION_FLAG) == "VERIFIED",
        has_person_observer: has_person_observer(top),
    }
}

fn maker(fields: &Fields<'_>) -> Maker {
    Maker {
        manufacturer: first(fields, tags::MANUFACTURER),
        model_name: first(fields, tags::MANUFACTURER_MODEL_NAME),
        serial_number: first(fields, tags::DEVICE_SERIAL_NUMBER),
        device_uid: fields.plain(tags::DEVICE_UID),
    }
}

/// Whether the content of a structured report names a person as its observer, and no device
/// (PS3.16 TID 1002, TID 1003).
fn has_person_observer(top: &Fields<'_>) -> bool {
    let (mut person, mut device) = (false, false);
    for item in top.items(tags::CONTENT_SEQUENCE, OBSERVERS_MAX) {
        let code = |sequence| item.item(sequence).map(|code| code.plain(tags::CODE_VALUE));
        let name = code(tags::CONCEPT_NAME_CODE_SEQUENCE).unwrap_or_default();
        match (item.plain(tags::VALUE_TYPE).as_str(), name.as_str()) {
            ("CODE", OBSERVER_TYPE) => {
                let kind = code(tags::CONCEPT_CODE_SEQUENCE).unwrap_or_default();
                person |= kind == PERSON;
                device |= kind == DEVICE;
            }
            ("PNAME", PERSON_OBSERVER_NAME) => person = true,
            ("UIDREF", DEVICE_OBSERVER_UID) => device = true,
            _ => {}
        }
    }
    person && !device
}

fn first(fields: &Fields<'_>, tag: Tag) -> String {
    fields.strings(tag).into_iter().next().unwrap_or_default()
}

fn patient(top: &Fields<'_>) -> Patient {
    Patient {
        id: first(top, tags::PATIENT_ID),
        issuer_of_id: first(top, tags::ISSUER_OF_PATIENT_ID),
        name: PersonName::parse(&first(top, tags::PATIENT_NAME)),
        birth_date: date(&top.plain(tags::PATIENT_BIRTH_DATE)),
        sex: sex(&top.plain(tags::PATIENT_SEX)),
        age: age(&top.plain(tags::PATIENT_AGE)),
    }
}

fn sex(text: &str) -> String {
    match text.to_ascii_uppercase().as_str() {
        "M" | "MALE" => "M".into(),
        "F" | "FEMALE" => "F".into(),
        "O" | "OTHER" => "O".into(),
        _ => String::new(),
    }
}

/// Patient's Age as AS; `4Y`, `34` and the like are brought into form, the rest is empty.
fn age(text: &str) -> String {
    let text = text.to_ascii_uppercase();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = &text[digits.len()..];
    match (digits.parse::<u32>(), unit) {
        (Ok(number @ 0..=999), "D" | "W" | "M" | "Y") => format!("{number:03}{unit}"),
        (Ok(number @ 1..=150), "") => format!("{number:03}Y"),
        _ => String::new(),
    }
}

/// A DA: `YYYYMMDD`; the form of ACR-NEMA (`YYYY.MM.DD`) and dashes are understood.
fn date(text: &str) -> String {
    let digits: String = text.chars().filter(|c| !matches!(c, '.' | '-' | '/')).collect();
    let whole = digits.get(..8).filter(|d| d.bytes().all(|b| b.is_ascii_digit()));
    match whole {
        Some(day) if jiff::civil::Date::strptime("%Y%m%d", day).is_ok() => day.to_owned(),
        _ => String::new(),
    }
}

/// A TM: `HHMMSS.FFFFFF`; colons are left out.
fn time(text: &str) -> String {
    let digits: String = text.chars().filter(|c| *c != ':').collect();
    let good = digits.len() <= 13 && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if good { digits } else { String::new() }
}

fn attributes(top: &Fields<'_>) -> StudyAttributes {
    let order = top.item(tags::REQUEST_ATTRIBUTES_SEQUENCE);
    let ordered = |tag| {
        let in_order = order.as_ref().map(|order| first(order, tag)).unwrap_or_default();
        if in_order.is_empty() { first(top, tag) } else { in_order }
    };
    let reason = ordered(tags::REASON_FOR_THE_REQUESTED_PROCEDURE);
    StudyAttributes {
        study_id: first(top, tags::STUDY_ID),
        study_date: date(&top.plain(tags::STUDY_DATE)),
        study_time: time(&top.plain(tags::STUDY_TIME)),
        accession_number: first(top, tags::ACCESSION_NUMBER),
        referring_physician_name: PersonName::parse(&first(top, tags::REFERRING_PHYSICIAN_NAME)),
        study_description: first(top, tags::STUDY_DESCRIPTION),
        institution_name: first(top, tags::INSTITUTION_NAME),
        reason_for_request: match reason.is_empty() {
            true => first(top, REASON_FOR_STUDY),
            false => reason,
        },
        requested_procedure: ordered(tags::REQUESTED_PROCEDURE_DESCRIPTION),
        admitting_diagnoses: top.strings(tags::ADMITTING_DIAGNOSES_DESCRIPTION).join("; "),
        patient_location: first(top, tags::CURRENT_PATIENT_LOCATION),
        requested_priority: match ordered(tags::REQUESTED_PROCEDURE_PRIORITY) {
            priority if priority.is_empty() => first(top, STUDY_PRIORITY_ID),
            priority => priority,
        },
    }
}

/// Functional groups of an enhanced multi-frame instance: of its first frame, else shared.
struct Groups<'a> {
    top: &'a Fields<'a>,
    first_frame: Option<Fields<'a>>,
    shared: Option<Fields<'a>>,
}

impl<'a> Groups<'a> {
    fn of(top: &'a Fields<'a>) -> Groups<'a> {
        Groups {
            top,
            first_frame: top.item(tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE),
            shared: top.item(tags::SHARED_FUNCTIONAL_GROUPS_SEQUENCE),
        }
    }

    /// Numbers at the top level, else in a functional group.
    fn numbers(&self, group: Tag, tag: Tag) -> Vec<f64> {
        let here = self.top.numbers(tag);
        if !here.is_empty() {
            return here;
        }
        let groups = self.first_frame.iter().chain(&self.shared);
        let mut found = groups.filter_map(|groups| groups.item(group));
        found.find_map(|item| Some(item.numbers(tag)).filter(|n| !n.is_empty())).unwrap_or_default()
    }

    fn exactly<const N: usize>(&self, group: Tag, tag: Tag) -> Option<[f64; N]> {
        self.numbers(group, tag).try_into().ok()
    }

    fn positive(&self, group: Tag, tag: Tag) -> Option<f64> {
        self.numbers(group, tag).first().copied().filter(|n| *n > 0.0)
    }

    fn plain(&self, group: Tag, tag: Tag) -> String {
        let here = self.top.plain(tag);
        if !here.is_empty() {
            return here;
        }
        let groups = self.first_frame.iter().chain(&self.shared);
        let mut found = groups.filter_map(|groups| groups.item(group));
        found.find_map(|item| Some(item.plain(tag)).filter(|t| !t.is_empty())).unwrap_or_default()
    }
}

fn spacing(numbers: Option<[f64; 2]>) -> Option<[f64; 2]> {
    numbers.filter(|pair| pair.iter().all(|n| *n > 0.0))
}

fn instance(opened: &DataSet, top: &Fields<'_>, object: &str) -> Result<Instance, Unreadable> {
    let sop_instance_uid = SopInstanceUid::parse(&top.plain(tags::SOP_INSTANCE_UID))
        .map_err(|_| Unreadable::Missing("SOP Instance UID"))?;
    let sop_class_uid = SopClassUid::parse(&top.plain(tags::SOP_CLASS_UID))
        .map_err(|_| Unreadable::Missing("SOP Class UID"))?;
    let series_uid = SeriesUid::parse(&top.plain(tags::SERIES_INSTANCE_UID))
        .map_err(|_| Unreadable::Missing("Series Instance UID"))?;
    let groups = Groups::of(top);
    let measures = tags::PIXEL_MEASURES_SEQUENCE;
    let window = tags::FRAME_VOILUT_SEQUENCE;
    let transform = tags::PIXEL_VALUE_TRANSFORMATION_SEQUENCE;
    let exposure = tags::CT_EXPOSURE_SEQUENCE;
    let count = |tag| top.count(tag).unwrap_or(0);
    let (acquired_date, acquired_time) = acquired(top);
    Ok(Instance {
        sop_instance_uid,
        sop_class_uid,
        series_uid,
        transfer_syntax_uid: opened.transfer_syntax.clone(),
        object: object.to_owned(),
        modality: top.plain(tags::MODALITY).to_ascii_uppercase(),
        series_number: whole(top, tags::SERIES_NUMBER),
        series_description: first(top, tags::SERIES_DESCRIPTION),
        protocol_name: first(top, tags::PROTOCOL_NAME),
        body_part_examined: body_part(top, &groups),
        view_position: view(top),
        laterality: laterality(top, &groups),
        patient_orientation: top.plain_strings(tags::PATIENT_ORIENTATION),
        instance_number: whole(top, tags::INSTANCE_NUMBER),
        image_type: top.plain_strings(tags::IMAGE_TYPE),
        conversion_type: top.plain(tags::CONVERSION_TYPE),
        burned_in_annotation: top.plain(tags::BURNED_IN_ANNOTATION).to_ascii_uppercase(),
        manufacturer: first(top, tags::MANUFACTURER),
        manufacturer_model_name: first(top, tags::MANUFACTURER_MODEL_NAME),
        station_name: first(top, tags::STATION_NAME),
        acquired_date,
        acquired_time,
        rows: count(tags::ROWS),
        columns: count(tags::COLUMNS),
        number_of_frames: count(tags::NUMBER_OF_FRAMES).max(1),
        samples_per_pixel: count(tags::SAMPLES_PER_PIXEL),
        bits_allocated: count(tags::BITS_ALLOCATED),
        bits_stored: count(tags::BITS_STORED),
        pixel_representation: count(tags::PIXEL_REPRESENTATION),
        photometric_interpretation: top.plain(tags::PHOTOMETRIC_INTERPRETATION),
        has_pixels: opened.pixels.is_some(),
        pixel_spacing_mm: spacing(groups.exactly(measures, tags::PIXEL_SPACING)),
        imager_pixel_spacing_mm: spacing(groups.exactly(measures, tags::IMAGER_PIXEL_SPACING)),
        pixel_spacing_calibration: groups.plain(measures, tags::PIXEL_SPACING_CALIBRATION_TYPE),
        slice_thickness_mm: groups.positive(measures, tags::SLICE_THICKNESS),
        spacing_between_slices_mm: groups.positive(measures, tags::SPACING_BETWEEN_SLICES),
        image_position_mm: groups
            .exactly(tags::PLANE_POSITION_SEQUENCE, tags::IMAGE_POSITION_PATIENT),
        image_orientation: groups
            .exactly(tags::PLANE_ORIENTATION_SEQUENCE, tags::IMAGE_ORIENTATION_PATIENT),
        gantry_tilt_degrees: groups
            .numbers(tags::CT_ACQUISITION_DETAILS_SEQUENCE, tags::GANTRY_DETECTOR_TILT)
            .first()
            .copied(),
        frame_of_reference_uid: top.plain(tags::FRAME_OF_REFERENCE_UID),
        kvp: groups.positive(tags::CTX_RAY_DETAILS_SEQUENCE, tags::KVP),
        exposure_mas: groups
            .positive(exposure, tags::EXPOSURE_INM_AS)
            .or_else(|| top.number(tags::EXPOSURE).filter(|n| *n > 0.0))
            .or_else(|| top.number(tags::EXPOSURE_INU_AS).filter(|n| *n > 0.0).map(|n| n / 1e3)),
        exposure_index: top.number(tags::EXPOSURE_INDEX),
        rescale_slope: groups.numbers(transform, tags::RESCALE_SLOPE).first().copied(),
        rescale_intercept: groups.numbers(transform, tags::RESCALE_INTERCEPT).first().copied(),
        window_center: groups.numbers(window, tags::WINDOW_CENTER),
        window_width: groups.numbers(window, tags::WINDOW_WIDTH),
        lossy_image_compression: top.plain(tags::LOSSY_IMAGE_COMPRESSION),
        ultrasound_regions: ultrasound_regions(top),
    })
}

fn whole(top: &Fields<'_>, tag: Tag) -> Option<i32> {
    let number = top.number(tag)?;
    (number.abs() <= f64::from(i32::MAX)).then_some(number as i32)
}

/// Body Part Examined (0018,0015), else the meaning of the Anatomic Region Sequence's code.
fn body_part(top: &Fields<'_>, groups: &Groups<'_>) -> String {
    let named = top.plain(tags::BODY_PART_EXAMINED).to_ascii_uppercase();
    if !named.is_empty() {
        return named;
    }
    let region = top.item(tags::ANATOMIC_REGION_SEQUENCE);
    let in_frame = || {
        let groups = groups.first_frame.iter().chain(&groups.shared);
        let mut anatomy = groups.filter_map(|groups| groups.item(tags::FRAME_ANATOMY_SEQUENCE));
        anatomy.find_map(|item| item.item(tags::ANATOMIC_REGION_SEQUENCE))
    };
    let meaning = region.or_else(in_frame).map(|item| first(&item, tags::CODE_MEANING));
    meaning.unwrap_or_default().to_uppercase()
}

/// View Position (0018,5101), else the meaning of the View Code Sequence's code.
fn view(top: &Fields<'_>) -> String {
    let named = top.plain(tags::VIEW_POSITION).to_ascii_uppercase();
    match top.item(tags::VIEW_CODE_SEQUENCE) {
        Some(code) if named.is_empty() => first(&code, tags::CODE_MEANING),
        Some(_) | None => named,
    }
}

fn laterality(top: &Fields<'_>, groups: &Groups<'_>) -> String {
    let frame = || groups.plain(tags::FRAME_ANATOMY_SEQUENCE, tags::FRAME_LATERALITY);
    let sides = [top.plain(tags::IMAGE_LATERALITY), top.plain(tags::LATERALITY), frame()];
    let known = |side: &String| matches!(side.as_str(), "R" | "L" | "B" | "U");
    sides.into_iter().find(known).unwrap_or_default()
}

/// Acquisition, else Content, else Series date and time; a date and its time stay together.
fn acquired(top: &Fields<'_>) -> (String, String) {
    let whole = top.plain(tags::ACQUISITION_DATE_TIME);
    let from_whole = (date(&whole), time(whole.get(8..).unwrap_or_default()));
    let pair = |day, clock| (date(&top.plain(day)), time(&top.plain(clock)));
    let pairs = [
        pair(tags::ACQUISITION_DATE, tags::ACQUISITION_TIME),
        from_whole,
        pair(tags::CONTENT_DATE, tags::CONTENT_TIME),
        pair(tags::SERIES_DATE, tags::SERIES_TIME),
    ];
    pairs.into_iter().find(|(day, _)| !day.is_empty()).unwrap_or_default()
}

fn ultrasound_regions(top: &Fields<'_>) -> Vec<[u32; 4]> {
    let items = top.items(tags::SEQUENCE_OF_ULTRASOUND_REGIONS, REGIONS_MAX);
    let corners = [
        tags::REGION_LOCATION_MIN_X0,
        tags::REGION_LOCATION_MIN_Y0,
        tags::REGION_LOCATION_MAX_X1,
        tags::REGION_LOCATION_MAX_Y1,
    ];
    let region = |item: &Fields<'_>| {
        let found: Vec<u32> = corners.iter().filter_map(|tag| item.count(*tag)).collect();
        let region: [u32; 4] = found.try_into().ok()?;
        (region[0] <= region[2] && region[1] <= region[3]).then_some(region)
    };
    items.iter().filter_map(region).collect()
}
