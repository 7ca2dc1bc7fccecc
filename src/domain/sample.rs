//! Made-up assessments for the tests of every room: one of each outcome, nothing about a real
//! person. Only in test builds.

use jiff::Timestamp;

use crate::domain::assessment::Algorithm;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::code::Code;
use crate::domain::finding::Finding;
use crate::domain::finding::Laterality;
use crate::domain::finding::Measurement;
use crate::domain::finding::Presence;
use crate::domain::finding::Region;
use crate::domain::finding::Severity;
use crate::domain::finding::Support;
use crate::domain::order::Order;
use crate::domain::order::Sought;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Patient;
use crate::domain::study::PersonName;
use crate::domain::study::Study;
use crate::domain::study::StudyAttributes;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopClassUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::domain::uid::TransferSyntaxUid;
use crate::domain::urgency::Urgency;

const CR: &str = "1.2.840.10008.5.1.4.1.1.1";
const CT: &str = "1.2.840.10008.5.1.4.1.1.2";

/// A chest X-ray of a child with a Korean name: a pneumothorax on the left and a consolidation
/// on the right, each with a region, and no pleural effusion. Two instances, one excluded.
pub fn positive_chest() -> Assessment {
    let frontal = instance("1.2.826.0.1.3680043.8.498.10", CR, "CR", 1, 1, 2048, 2500);
    let lateral = instance("1.2.826.0.1.3680043.8.498.11", CR, "CR", 2, 1, 2048, 2500);
    let lateral = Instance { view_position: "LL".into(), ..lateral };
    let image = image_of(&frontal);
    let region = |x0, y0, x1, y1| Region { image: image.clone(), x0, y0, x1, y1 };
    let study = study(vec![frontal.clone(), lateral.clone()]);
    let algorithm = Algorithm {
        name: "chest-xray-pneumonia-paediatric".into(),
        version: "1.0.0".into(),
        manufacturer: "Prelim project".into(),
        device_uid: crate::domain::uid::derived(&["device", "chest", "1.0.0"]),
        parameters: vec!["threshold=0.50".into(), "prompt=chest_xray/1 sha256:9f2c".into()],
        provider: "local".into(),
        measures_only: false,
    };
    let pneumothorax = Finding {
        laterality: Some(Laterality::Left),
        severity: Some(Severity::Severe),
        probability: Some(0.93),
        description: "Large left pneumothorax with displacement of the mediastinum.".into(),
        measurements: vec![Measurement {
            concept: Code::new("81827009", "SCT", "Diameter"),
            value: 41.3,
            unit: "mm".into(),
        }],
        regions: vec![region(1240.0, 380.0, 1760.0, 1180.0)],
        evidence: vec![image.clone()],
        differential: vec!["Bulla".into(), "Skin fold".into()],
        recommendation: "Immediate clinical assessment.".into(),
        urgency: Urgency::Critical,
        ..finding(
            "F1",
            "pneumothorax",
            Code::new("36118008", "SCT", "Pneumothorax"),
            Code::new("3120008", "SCT", "Pleural structure"),
        )
    };
    let consolidation = Finding {
        laterality: Some(Laterality::Right),
        severity: Some(Severity::Mild),
        probability: Some(0.71),
        description: "Patchy consolidation in the right lower zone.".into(),
        regions: vec![region(420.0, 1320.0, 860.0, 1780.0)],
        evidence: vec![image.clone()],
        differential: vec!["Pneumonia".into(), "Aspiration".into()],
        recommendation: "Follow-up radiograph after treatment.".into(),
        urgency: Urgency::Significant,
        ..finding(
            "F2",
            "consolidation",
            Code::new("95436008", "SCT", "Consolidation of lung"),
            Code::new("39607008", "SCT", "Lung structure"),
        )
    };
    let effusion = Finding {
        presence: Presence::Absent,
        probability: Some(0.04),
        ..finding(
            "F3",
            "pleural_effusion",
            Code::new("60046008", "SCT", "Pleural effusion"),
            Code::new("3120008", "SCT", "Pleural structure"),
        )
    };
    Assessment {
        revision: 1,
        profile: "chest_xray".into(),
        profile_version: 1,
        examination: "Chest X-ray".into(),
        outcome: Outcome::Read,
        algorithm,
        findings: vec![pneumothorax, consolidation, effusion],
        looked_for: vec![
            "Pneumothorax".into(),
            "Consolidation of lung".into(),
            "Pleural effusion".into(),
        ],
        unasked: vec![],
        measurements: vec![
            measurement("technique", "Tube voltage", "85", "kV", "series 1, instance 1"),
            measurement("geometry", "Pixel spacing", "0.143", "mm", "series 1, instance 1"),
            measurement("intensity", "Saturated pixels", "2.1", "%", "series 1, instance 1"),
        ],
        quality: vec![QualityFlag {
            key: "rotated".into(),
            text: "The patient is rotated; side comparison is limited.".into(),
        }],
        pictures: vec![picture(1, &frontal), picture(2, &lateral)],
        looked_at: vec![],
        compared: vec![],
        key_picture: Some(1),
        excluded: vec![Excluded {
            sop_instance_uid: lateral.sop_instance_uid.clone(),
            reason: "lateral view: the model was trained on frontal views only".into(),
        }],
        impression: "Large left pneumothorax. Consolidation in the right lower zone.".into(),
        recommendation: "Immediate clinical assessment of the pneumothorax.".into(),
        urgency: Some(Urgency::Critical),
        warnings: vec!["The side marker could not be read.".into()],
        clinical_information: "Fever and cough for 3 days, sudden chest pain.".into(),
        started_at: at("2026-03-02T10:15:30Z"),
        finished_at: at("2026-03-02T10:15:42Z"),
        study,
    }
}

/// A CT of the head for which there is no local model: measurements only.
pub fn not_covered_ct() -> Assessment {
    let slices: Vec<Instance> = (1..=28)
        .map(|n| Instance {
            body_part_examined: "HEAD".into(),
            view_position: String::new(),
            ..instance(&format!("1.2.826.0.1.3680043.8.498.20.{n}"), CT, "CT", 3, n, 512, 512)
        })
        .collect();
    let picture = picture(1, &slices[13]);
    let mut study = study(slices);
    study.patient.name = PersonName::parse("Nguyễn^Thị Hồng Ánh");
    study.patient.sex = "F".into();
    study.patient.birth_date = "19530817".into();
    study.patient.age = String::new();
    study.attributes.study_description = "CT Head without contrast".into();
    Assessment {
        profile: "ct_head".into(),
        examination: "CT head".into(),
        outcome: Outcome::NotCovered {
            reason: "the local model reads frontal chest X-rays of children; this is a CT of \
                     the head"
                .into(),
        },
        algorithm: Algorithm {
            name: "prelim-measurements".into(),
            version: "0.1.0".into(),
            manufacturer: "Prelim project".into(),
            device_uid: crate::domain::uid::derived(&["device", "measurements", "0.1.0"]),
            parameters: vec![],
            provider: "local".into(),
            measures_only: true,
        },
        findings: vec![],
        looked_for: vec![],
        unasked: vec![],
        measurements: vec![
            measurement("completeness", "Slices", "28", "1", "series 3"),
            measurement("geometry", "Slice spacing", "5.0", "mm", "series 3, 28 slices"),
            measurement(
                "intensity",
                "HU, 5th percentile",
                "-998.0",
                "[hnsf'U]",
                "series 3, 28 slices",
            ),
            measurement(
                "intensity",
                "HU, 95th percentile",
                "62.5",
                "[hnsf'U]",
                "series 3, 28 slices",
            ),
        ],
        quality: vec![],
        pictures: vec![picture],
        key_picture: Some(1),
        excluded: vec![],
        impression: "No local model covers this study. Measurements only.".into(),
        recommendation: String::new(),
        urgency: None,
        warnings: vec![],
        clinical_information: String::new(),
        study,
        ..positive_chest()
    }
}

/// The chest X-ray again, with an answer of the model that could not be read.
pub fn needs_review() -> Assessment {
    Assessment {
        outcome: Outcome::needs_review(
            "the answer of the model could not be read, also after asking again",
        ),
        findings: vec![],
        looked_for: vec![],
        unasked: vec![],
        impression: "A person must look, because the answer of the model could not be read, also \
                     after asking again."
            .into(),
        recommendation: String::new(),
        urgency: None,
        ..positive_chest()
    }
}

/// A grey picture of the wanted size as PNG: a gradient with two dark ovals, so that regions
/// can be seen on it.
pub fn picture_png(width: u32, height: u32) -> Vec<u8> {
    let oval = |x: f32, y: f32, cx: f32| ((x - cx) / 0.17).powi(2) + ((y - 0.5) / 0.32).powi(2);
    let pixels = image::GrayImage::from_fn(width, height, |column, row| {
        let (x, y) = (column as f32 / width as f32, row as f32 / height as f32);
        let inside = oval(x, y, 0.31) < 1.0 || oval(x, y, 0.69) < 1.0;
        let ribs = 14.0 * (y * 60.0).sin();
        let level = if inside { 52.0 + ribs } else { 150.0 + 50.0 * y };
        image::Luma([level as u8])
    });
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::DynamicImage::from(pixels).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// One instance with sensible values; change what a test is about.
pub fn instance(
    uid: &str,
    class: &str,
    modality: &str,
    series: i32,
    number: i32,
    columns: u32,
    rows: u32,
) -> Instance {
    Instance {
        sop_instance_uid: SopInstanceUid::parse(uid).unwrap(),
        sop_class_uid: SopClassUid::parse(class).unwrap(),
        series_uid: SeriesUid::parse(&format!("1.2.826.0.1.3680043.8.498.5.{series}")).unwrap(),
        transfer_syntax_uid: TransferSyntaxUid::parse("1.2.840.10008.1.2.1").unwrap(),
        object: format!("objects/00/{uid}.dcm"),
        modality: modality.into(),
        series_number: Some(series),
        series_description: String::new(),
        protocol_name: String::new(),
        body_part_examined: "CHEST".into(),
        view_position: "PA".into(),
        laterality: String::new(),
        patient_orientation: vec!["L".into(), "F".into()],
        instance_number: Some(number),
        image_type: vec!["ORIGINAL".into(), "PRIMARY".into()],
        conversion_type: String::new(),
        burned_in_annotation: "NO".into(),
        manufacturer: "Maker".into(),
        manufacturer_model_name: "Model".into(),
        station_name: String::new(),
        acquired_date: "20260302".into(),
        acquired_time: "101401".into(),
        rows,
        columns,
        number_of_frames: 1,
        samples_per_pixel: 1,
        bits_allocated: 16,
        bits_stored: 12,
        pixel_representation: 0,
        photometric_interpretation: "MONOCHROME2".into(),
        has_pixels: true,
        pixel_spacing_mm: Some([0.143, 0.143]),
        imager_pixel_spacing_mm: Some([0.143, 0.143]),
        pixel_spacing_calibration: String::new(),
        slice_thickness_mm: None,
        spacing_between_slices_mm: None,
        image_position_mm: None,
        image_orientation: None,
        gantry_tilt_degrees: None,
        frame_of_reference_uid: String::new(),
        kvp: Some(85.0),
        exposure_mas: Some(2.0),
        exposure_index: None,
        rescale_slope: Some(1.0),
        rescale_intercept: Some(0.0),
        window_center: vec![2048.0],
        window_width: vec![4096.0],
        lossy_image_compression: "00".into(),
        ultrasound_regions: vec![],
    }
}

pub fn study(instances: Vec<Instance>) -> Study {
    Study {
        study_uid: StudyUid::parse("1.2.826.0.1.3680043.8.498.1").unwrap(),
        patient: Patient {
            id: "MRN-0042".into(),
            issuer_of_id: "HOSPITAL".into(),
            name: PersonName::parse("Hong^Gildong=洪^吉洞=홍^길동"),
            birth_date: "20200114".into(),
            sex: "M".into(),
            age: "006Y".into(),
        },
        attributes: StudyAttributes {
            study_id: "S1".into(),
            study_date: "20260302".into(),
            study_time: "101400".into(),
            accession_number: "ACC-2026-0817".into(),
            referring_physician_name: PersonName::parse("Kim^Minji^^Dr."),
            study_description: "Chest PA and lateral".into(),
            institution_name: "Sample Hospital".into(),
            ..StudyAttributes::default()
        },
        instances,
        unreadable: vec![],
        inconsistencies: vec![],
        order: Default::default(),
    }
}

/// The chest X-ray with the order that it was taken for.
pub fn ordered() -> Assessment {
    let mut a = positive_chest();
    let order = Order {
        placer_number: "PL|77".into(),
        filler_number: "FI-77".into(),
        accession_number: "ORDER-ACC".into(),
        numbers: vec!["ORDER-ACC".into()],
        requested_procedure_id: "RP-1".into(),
        procedure: Some(Code::new("36643-5", "LN", "XR Chest 2 Views")),
        procedure_description: "Chest 2 views".into(),
        reason: "fever & cough^".into(),
        location: "ER 2".into(),
        patient_class: "E".into(),
        ordering_physician: PersonName::parse("Park^Jiwoo"),
        patient_ids: vec![a.study.patient.id.clone()],
        ..Order::empty("test", a.started_at)
    };
    a.study.order = Sought::Found { order: Box::new(order) };
    a
}

/// A finding that is present, without image, region or side.
pub fn finding(id: &str, key: &str, concept: Code, site: Code) -> Finding {
    Finding {
        id: id.into(),
        tracking_uid: crate::domain::uid::derived(&["tracking", key]),
        key: key.into(),
        concept,
        presence: Presence::Present,
        site: Some(site),
        laterality: None,
        severity: None,
        probability: None,
        description: String::new(),
        measurements: vec![],
        regions: vec![],
        evidence: vec![],
        differential: vec![],
        recommendation: String::new(),
        location: String::new(),
        urgency: Urgency::Routine,
        masks: Vec::new(),
        support: Support::default(),
    }
}

pub fn image_of(instance: &Instance) -> ImageRef {
    ImageRef {
        sop_class_uid: instance.sop_class_uid.clone(),
        sop_instance_uid: instance.sop_instance_uid.clone(),
        series_uid: instance.series_uid.clone(),
        frame: None,
    }
}

pub fn picture(number: u32, instance: &Instance) -> PictureRef {
    let edge = f64::from(instance.rows.max(instance.columns));
    let scale = (1024.0 / edge).min(1.0);
    PictureRef {
        number,
        image: image_of(instance),
        window: "default".into(),
        width_px: (f64::from(instance.columns) * scale).round() as u32,
        height_px: (f64::from(instance.rows) * scale).round() as u32,
        source_columns: instance.columns,
        source_rows: instance.rows,
        file: format!("picture-{number:02}.png"),
        digest: "00".repeat(32),
        tiles: Vec::new(),
        masked: None,
        unsure: 0,
        unread: 0,
        speaks: false,
    }
}

fn measurement(group: &str, name: &str, value: &str, unit: &str, source: &str) -> StudyMeasurement {
    StudyMeasurement {
        group: group.into(),
        name: name.into(),
        value: value.into(),
        unit: unit.into(),
        source: source.into(),
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}
