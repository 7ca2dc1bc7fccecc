//! Assessments for the tests of this room, and the minimal source images that they name.

use dicom_core::PrimitiveValue;
use dicom_core::VR;
use dicom_core::value::DataSetSequence;
use dicom_dictionary_std::tags;
use dicom_object::FileMetaTableBuilder;
use dicom_object::InMemDicomObject;

use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Presence;
use crate::domain::finding::Region;
use crate::domain::finding::Severity;
use crate::domain::key_image::GreyPath;
use crate::domain::key_image::KeyImage;
use crate::domain::key_image::Lossy;
use crate::domain::key_image::Voi;
use crate::domain::picture::ImageRef;
use crate::domain::sample;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::PersonName;
use crate::domain::uid;
use crate::domain::urgency::Urgency;
use crate::sr::Document;
use crate::sr::Equipment;
use crate::sr::Shown;
use crate::sr::SrClass;
use crate::sr::SrOptions;
use crate::sr::structured_report;

pub struct Sample {
    pub name: &'static str,
    pub assessment: Assessment,
    pub options: SrOptions,
}

/// One of each kind that the issue names.
pub fn all() -> Vec<Sample> {
    let chest = Some(Code::new("36643-5", "LN", "XR Chest 2 Views"));
    let of = |procedure: &Option<Code>| SrOptions {
        procedure: procedure.clone(),
        ..SrOptions::default()
    };
    let first = sample::positive_chest();
    let second = Assessment { revision: 2, ..first.clone() };
    let before = |class| {
        let options = SrOptions { class, ..SrOptions::default() };
        let sr = structured_report(&first, &Equipment::default(), &options).unwrap();
        Document::read(&sr).unwrap()
    };
    let replaces = SrClass::ALL.map(before).to_vec();
    let replaces = SrOptions { procedure: chest.clone(), ..SrOptions::new(None, replaces) };
    let head = Some(Code::new("30799-1", "LN", "CT Head WO contrast"));
    let one = |name, assessment, options| Sample { name, assessment, options };
    vec![
        one("positive", first, of(&chest)),
        one("revision2", second, replaces),
        one("negative", negative(), of(&chest)),
        one("notcovered", not_covered_ct(), of(&head)),
        one("review", sample::needs_review(), of(&chest)),
        one("ultrasound", ultrasound(), of(&None)),
        one("hostile", hostile(), of(&chest)),
        one("ordered", sample::ordered(), of(&chest)),
    ]
}

/// Nothing found among what was looked for; a name in ASCII.
pub fn negative() -> Assessment {
    let mut a = sample::positive_chest();
    a.study.patient.name = PersonName::parse("Doe^Jane");
    for finding in &mut a.findings {
        *finding = Finding {
            presence: Presence::Absent,
            laterality: None,
            severity: None,
            regions: vec![],
            measurements: vec![],
            probability: Some(0.03),
            location: String::new(),
            urgency: Urgency::Routine,
            ..finding.clone()
        };
    }
    a.key_picture = None;
    a.impression = "No finding above threshold among those this algorithm looks for.".into();
    a.recommendation = String::new();
    a.urgency = Some(Urgency::Routine);
    a
}

fn not_covered_ct() -> Assessment {
    let mut a = sample::not_covered_ct();
    for (n, slice) in a.study.instances.iter_mut().enumerate() {
        slice.frame_of_reference_uid = uid::derived(&["frame of reference"]);
        slice.slice_thickness_mm = Some(5.0);
        slice.image_position_mm = Some([-112.3, -95.0, 5.0 * n as f64 - 1.0 / 3.0]);
        slice.image_orientation = Some([1.0, 0.0, 0.0, 0.0, 0.9781476, -0.2079117]);
        slice.patient_orientation = vec![];
    }
    a
}

/// A cine loop: findings on frames, one without a site, one undetermined, one on the other side.
pub fn ultrasound() -> Assessment {
    let class = "1.2.840.10008.5.1.4.1.1.3.1";
    let clip = Instance {
        number_of_frames: 40,
        body_part_examined: "ABDOMEN".into(),
        view_position: String::new(),
        patient_orientation: vec![],
        burned_in_annotation: String::new(),
        pixel_spacing_mm: None,
        imager_pixel_spacing_mm: None,
        ..sample::instance("1.2.826.0.1.3680043.8.498.40", class, "US", 1, 1, 640, 480)
    };
    let on = |frame| ImageRef { frame: Some(frame), ..sample::image_of(&clip) };
    let region = |frame, x0| Region { image: on(frame), x0, y0: 100.5, x1: x0 + 80.25, y1: 190.0 };
    let kidney = Code::new("64033007", "SCT", "Kidney");
    let dilated = Finding {
        severity: Some(Severity::Moderate),
        laterality: Some(crate::domain::finding::Laterality::Right),
        probability: Some(0.666_66),
        regions: vec![region(12, 200.0), region(30, 230.0)],
        evidence: vec![on(12), on(30)],
        urgency: Urgency::Urgent,
        ..sample::finding(
            "F1",
            "hydronephrosis",
            Code::new("43064006", "SCT", "Hydronephrosis"),
            kidney.clone(),
        )
    };
    let other_side = Finding {
        id: "F2".into(),
        presence: Presence::Absent,
        laterality: Some(crate::domain::finding::Laterality::Left),
        regions: vec![],
        ..dilated.clone()
    };
    let ascites = Finding {
        presence: Presence::Undetermined,
        probability: Some(0.42),
        description: "A thin dark band, perhaps fluid.".into(),
        evidence: vec![on(5)],
        ..sample::finding(
            "F3",
            "ascites",
            Code::new("389026000", "SCT", "Ascites"),
            Code::new("15425007", "SCT", "Peritoneum"),
        )
    };
    let text_finding = Finding {
        site: None,
        laterality: Some(crate::domain::finding::Laterality::Left),
        evidence: vec![on(7)],
        description: "Something that no row of the table has.".into(),
        ..sample::finding(
            "F4",
            "renal_cortical_thinning",
            Code::new("renal_cortical_thinning", "99PRELIM", "Renal cortical thinning"),
            kidney,
        )
    };
    let mut a = sample::positive_chest();
    a.pictures = vec![sample::picture(1, &clip)];
    a.pictures[0].image = on(12);
    a.study = sample::study(vec![clip]);
    a.study.attributes.accession_number = String::new();
    a.study.patient.birth_date = String::new();
    a.findings = vec![dilated, other_side, ascites, text_finding];
    a.looked_for = vec!["Hydronephrosis".into(), "Ascites".into()];
    a.excluded = vec![];
    a.examination = "Ultrasound".into();
    a.impression = "Hydronephrosis on the right.".into();
    a.urgency = Some(Urgency::Urgent);
    a
}

/// Everything that a model or a device may say and no object may hold.
pub fn hostile() -> Assessment {
    let mut a = sample::positive_chest();
    let long = "한글\\n\u{0}\u{1b}[31m".repeat(40);
    a.algorithm.name = format!("model\\{long}");
    a.algorithm.version = "1.0\\2.0\r\n".into();
    a.algorithm.manufacturer = String::new();
    a.algorithm.parameters = vec!["\u{7}".into(), long.repeat(30)];
    a.impression = format!("{long}\u{202e}");
    a.warnings = vec![String::new(), "\u{0}".into(), long.clone()];
    a.study.patient.id = "MRN\u{0}-7".into();
    a.study.unreadable = vec![Excluded {
        sop_instance_uid: a.study.instances[1].sop_instance_uid.clone(),
        reason: "cannot be decoded\u{0}".into(),
    }];
    let f = &mut a.findings[0];
    f.probability = Some(9.7);
    f.concept.meaning = long.clone();
    f.concept.scheme = "99PRELIM".into();
    f.concept.value = "x".repeat(90);
    f.description = long;
    f.measurements[0].value = f64::NAN;
    let image = f.regions[0].image.clone();
    let region = |x0, y0, x1, y1| Region { image: image.clone(), x0, y0, x1, y1 };
    f.regions = vec![
        region(-50.0, -1.0, 99999.0, 2500.4),
        region(1760.0, 1180.0, 1240.0, 380.0),
        region(f64::NAN, 0.0, 1.0, 1.0),
        region(3000.0, 10.0, 3100.0, 20.0),
        region(f64::INFINITY, 0.0, 1.0, 1.0),
    ];
    a.findings[1].probability = Some(f64::NAN);
    a.findings[1].evidence = vec![];
    a.findings[1].regions = vec![];
    a
}

/// Reading ended, but only in part.
pub fn partly_read() -> Assessment {
    let mut a = negative();
    a.findings[0].presence = Presence::Undetermined;
    a.outcome = Outcome::Read;
    a
}

/// The instance as a Part 10 file without pixels: what tools that compare headers need.
pub fn source_image(a: &Assessment, instance: &Instance) -> Vec<u8> {
    let (patient, study) = (&a.study.patient, &a.study.attributes);
    let mut object = InMemDicomObject::new_empty();
    let mut put = |tag, vr, value: &str| {
        object.put_str(tag, vr, value.replace('\0', ""));
    };
    put(tags::SPECIFIC_CHARACTER_SET, VR::CS, "ISO_IR 192");
    put(tags::SOP_CLASS_UID, VR::UI, instance.sop_class_uid.as_str());
    put(tags::SOP_INSTANCE_UID, VR::UI, instance.sop_instance_uid.as_str());
    put(tags::STUDY_INSTANCE_UID, VR::UI, a.study.study_uid.as_str());
    put(tags::SERIES_INSTANCE_UID, VR::UI, instance.series_uid.as_str());
    put(tags::PATIENT_NAME, VR::PN, &patient.name.to_dicom());
    put(tags::PATIENT_ID, VR::LO, &patient.id);
    put(tags::ISSUER_OF_PATIENT_ID, VR::LO, &patient.issuer_of_id);
    put(tags::PATIENT_BIRTH_DATE, VR::DA, &patient.birth_date);
    put(tags::PATIENT_SEX, VR::CS, &patient.sex);
    if !patient.age.is_empty() {
        put(tags::PATIENT_AGE, VR::AS, &patient.age);
    }
    put(tags::STUDY_DATE, VR::DA, &study.study_date);
    put(tags::STUDY_TIME, VR::TM, &study.study_time);
    put(tags::STUDY_ID, VR::SH, &study.study_id);
    put(tags::ACCESSION_NUMBER, VR::SH, &study.accession_number);
    put(tags::STUDY_DESCRIPTION, VR::LO, &study.study_description);
    put(tags::REFERRING_PHYSICIAN_NAME, VR::PN, &study.referring_physician_name.to_dicom());
    put(tags::MODALITY, VR::CS, &instance.modality);
    put(tags::SERIES_NUMBER, VR::IS, &instance.series_number.unwrap_or(1).to_string());
    put(tags::INSTANCE_NUMBER, VR::IS, &instance.instance_number.unwrap_or(1).to_string());
    put(tags::MANUFACTURER, VR::LO, &instance.manufacturer);
    let sizes = [(tags::ROWS, instance.rows), (tags::COLUMNS, instance.columns)];
    for (tag, size) in sizes {
        object.put(dicom_core::DataElement::new(tag, VR::US, PrimitiveValue::from(size as u16)));
    }
    let empty: DataSetSequence<InMemDicomObject> = DataSetSequence::from(vec![]);
    object.put(dicom_core::DataElement::new(tags::REFERENCED_STUDY_SEQUENCE, VR::SQ, empty));
    let meta = FileMetaTableBuilder::new().transfer_syntax("1.2.840.10008.1.2.1");
    let mut bytes = Vec::new();
    object.with_meta(meta).unwrap().write_all(&mut bytes).unwrap();
    bytes
}

/// The images with regions of present findings, each once.
pub fn marked(a: &Assessment) -> Vec<ImageRef> {
    let mut images: Vec<ImageRef> = Vec::new();
    for region in a.present().flat_map(|finding| &finding.regions) {
        if !images.iter().any(|image| image.is_same(&region.image)) {
            images.push(region.image.clone());
        }
    }
    images
}

/// A key image as a worker would draw it, in small. The ultrasound is in colour, with loss and
/// pixels that are not square.
pub fn drawn(a: &Assessment) -> KeyImage {
    let colour = a.study.modalities() == ["US"];
    let (width, height, samples) = (33, 21, if colour { 3 } else { 1 });
    let voi = Voi::Table { first: -5, entries: (0..400).map(|n| n * 164).collect() };
    let grey = GreyPath { rescale: Some([1.0, -1024.0]), voi, is_inverse: true };
    let lossy = Lossy { ratios: vec!["12.5".into()], methods: vec!["ISO_10918_1".into()] };
    KeyImage {
        width,
        height,
        samples,
        grey: (!colour).then_some(grey),
        lossy: colour.then_some(lossy),
        aspect: colour.then_some([1.0, 1.25]),
        pixels: (0..width * height * samples).map(|n| n as u8).collect(),
    }
}

/// What the pipeline makes of them.
pub fn shown(a: &Assessment) -> Vec<Shown> {
    let of = drawn(a);
    let images = marked(a).into_iter();
    let one = |image| Some(Shown { image, grey: of.grey.clone()?, aspect: of.aspect });
    images.filter_map(one).collect()
}
