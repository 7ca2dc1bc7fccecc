//! Studies and answers for this room's tests.

use serde_json::Value;
use serde_json::json;

use crate::analysis::prompt::Prompt;
use crate::domain::assessment::Algorithm;
use crate::domain::picture::ImageRef;
use crate::domain::picture::PictureRef;
use crate::domain::profile::Profile;
use crate::domain::study::Inspected;
use crate::domain::study::Study;

/// Two instances of one series, of a patient with a name, a number and a birth date.
pub fn study(modality: &str, part: &str, view: &str, description: &str) -> Study {
    let inspected = |number: u32| -> Inspected {
        serde_json::from_value(json!({
            "study_uid": "1.2.826.0.1.77.1",
            "patient": {"id": "PID-4711", "name": {"alphabetic": "Kowalski^Agnieszka"},
                "birth_date": "20190307", "sex": "F", "age": "004Y"},
            "attributes": {"study_id": "STUDY-9", "study_date": "20240102", "study_time": "101112",
                "accession_number": "ACC-0815", "referring_physician_name": {"alphabetic": "Brandt^Otto"},
                "study_description": description, "institution_name": "Saint Example Hospital"},
            "instance": {
                "sop_instance_uid": format!("1.2.826.0.1.77.1.1.{number}"),
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1", "series_uid": "1.2.826.0.1.77.1.1",
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "object": "o", "modality": modality,
                "series_number": 1, "series_description": "", "protocol_name": "",
                "body_part_examined": part, "view_position": view, "laterality": "",
                "patient_orientation": [], "instance_number": number, "image_type": ["ORIGINAL", "PRIMARY"],
                "conversion_type": "", "burned_in_annotation": "", "manufacturer": "Maker",
                "manufacturer_model_name": "M1", "station_name": "ROOM-3-XR", "acquired_date": "20240102",
                "acquired_time": "101112", "rows": 2000, "columns": 1000, "number_of_frames": 1,
                "samples_per_pixel": 1, "bits_allocated": 16, "bits_stored": 12, "pixel_representation": 0,
                "photometric_interpretation": "MONOCHROME2", "has_pixels": true,
                "pixel_spacing_mm": [0.2, 0.1], "window_center": [], "window_width": [],
                "frame_of_reference_uid": "", "lossy_image_compression": "", "ultrasound_regions": [],
            },
        }))
        .unwrap()
    };
    let all = vec![inspected(1), inspected(2)];
    Study::gather(all[0].study_uid.clone(), all, Vec::new())
}

/// One picture of each instance.
pub fn pictures(study: &Study) -> Vec<PictureRef> {
    let numbered = (1..).zip(&study.instances);
    numbered
        .map(|(number, instance)| PictureRef {
            number,
            image: ImageRef {
                sop_class_uid: instance.sop_class_uid.clone(),
                sop_instance_uid: instance.sop_instance_uid.clone(),
                series_uid: instance.series_uid.clone(),
                frame: None,
            },
            window: "default".into(),
            width_px: 512,
            height_px: 1024,
            source_columns: instance.columns,
            source_rows: instance.rows,
            file: format!("picture-{number:02}.jpg"),
            digest: format!("{number:064x}"),
            tiles: Vec::new(),
            masked: None,
            unsure: 0,
            unread: 0,
            speaks: false,
        })
        .collect()
}

pub fn profile(name: &str) -> Profile {
    let all = crate::analysis::profile::load(None).unwrap();
    all.into_iter().find(|profile| profile.name == name).unwrap()
}

pub fn prompt() -> Prompt {
    let (system, user) = (String::new(), String::new());
    Prompt { system, user, version: String::new(), digest: String::new() }
}

pub fn algorithm() -> Algorithm {
    Algorithm {
        name: "model".into(),
        version: "1".into(),
        manufacturer: "maker".into(),
        device_uid: "2.25.1".into(),
        parameters: Vec::new(),
        provider: "gateway".into(),
        measures_only: false,
    }
}

/// An entry of an answer: absent, unless `changes` says otherwise.
pub fn entry(key: &str, changes: Value) -> Value {
    let mut entry = json!({"key": key, "name": "", "presence": "absent", "probability": 0.05,
        "laterality": "none", "severity": "none", "site": "", "description": "", "pictures": [1],
        "boxes": [], "measurements": [], "differential": [], "recommendation": "", "urgency": "routine"});
    for (name, value) in changes.as_object().into_iter().flatten() {
        entry[name] = value.clone();
    }
    entry
}

/// A whole answer to `profile`: every key absent, except for `changed` entries.
pub fn answer(profile: &Profile, changed: Vec<Value>) -> Value {
    let is_changed = |key: &String| changed.iter().any(|entry| entry["key"] == **key);
    let silent =
        profile.findings.iter().filter(|key| !is_changed(key)).map(|key| entry(key, json!({})));
    let findings: Vec<Value> = changed.iter().cloned().chain(silent).collect();
    json!({"findings": findings, "impression": "", "recommendation": "",
        "image_quality": {"usable": "good", "remarks": ""}, "urgency": "routine", "confidence": 0.8})
}
