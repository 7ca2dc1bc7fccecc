//! Manifests, the studies that they cover, and the answers that scores become.

use super::*;
use crate::analysis::answer::Answer;
use crate::analysis::provider::onnx::manifest::FILE;
use crate::analysis::provider::onnx::testing::fixture;
use crate::analysis::testing as of_analysis;
use crate::domain::finding::Presence;
use crate::domain::picture::Picture;
use crate::domain::study::Study;

/// The tiny model's folder with something else in its manifest.
fn opened(change: impl FnOnce(&mut Value)) -> Result<Manifest, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let from = fixture("rgb-squash");
    std::fs::copy(from.join("model.onnx"), folder.path().join("model.onnx")).unwrap();
    let text = std::fs::read(from.join(FILE)).unwrap();
    let mut manifest: Value = serde_json::from_slice(&text).unwrap();
    change(&mut manifest);
    std::fs::write(folder.path().join(FILE), manifest.to_string()).unwrap();
    Manifest::open(folder.path())
}

#[test]
fn each_mistake_in_a_manifest_is_named_by_its_key() {
    assert!(opened(|_| ()).is_ok());
    let rows: [(&str, Value, &str); 27] = [
        ("/name", json!(" "), "name is empty"),
        ("/version", json!("x".repeat(65)), "version: at most 64"),
        ("/licence", json!(""), "licence is empty"),
        ("/training_data", json!(""), "training_data is empty"),
        ("/graph/file", json!("../model.onnx"), "graph.file = \"../model.onnx\""),
        ("/graph/file", json!("other.onnx"), "other.onnx: No such file"),
        ("/graph/sha256", json!("12"), "graph.sha256 = \"12\""),
        ("/graph/sha256", json!("0".repeat(64)), "what was measured was another graph"),
        ("/input/tensor", json!(""), "input.tensor is empty"),
        ("/input/width", json!(4000), "input.width = 4000"),
        ("/input/channels", json!(2), "input.channels = 2"),
        ("/input/layout", json!("chw"), "unknown variant `chw`"),
        ("/input/resize", json!("stretch"), "unknown variant `stretch`"),
        ("/input/values/fixed/mean", json!([0.5]), "fixed.mean: one number for each"),
        ("/input/values/fixed/std", json!([1.0, 0.0, 1.0]), "fixed.std: more than 0"),
        ("/input/values/fixed/range", json!([1.0, 1.0]), "fixed.range"),
        ("/input/values", json!({"of_picture": {"epsilon": 0.0}}), "of_picture.epsilon = 0"),
        ("/input/values", json!({"of_picture": {"epsilon": 1, "mean": 2}}), "unknown field `mean`"),
        ("/outputs/0/numbers", json!(2), "index 2 stands twice or is not below 2"),
        ("/outputs/0/no_finding", json!(0), "index 0 stands twice"),
        ("/outputs/0/labels/0/finding", json!("cold"), "no key of the table of finding codes"),
        ("/outputs/0/labels/0/threshold", json!(1.5), "threshold = 1.5"),
        ("/outputs/0/labels/1/undetermined_from", json!(0.6), "below the threshold"),
        ("/outputs/0/labels/1/finding", json!("pneumonia"), "stands twice"),
        ("/intended_use/modalities", json!([]), "intended_use.modalities is empty"),
        ("/operating_points/0/n", json!(0), "operating_points[0]: say on which set"),
        ("/operating_points/0/sensitivity/low", json!(0.9), "operating_points[0].sensitivity"),
    ];
    for (at, value, part) in rows {
        let change = |manifest: &mut Value| {
            let (above, key) = at.rsplit_once('/').unwrap();
            let above = manifest.pointer_mut(above).unwrap();
            match key.parse::<usize>() {
                Ok(nth) => above[nth] = value.clone(),
                Err(_) => above[key] = value.clone(),
            }
        };
        let lines = opened(change).unwrap_err().join("\n");
        assert!(lines.contains(part), "{at}: {lines}");
    }
    let lines = opened(|m| m["outputs"][0]["threshold"] = json!(1)).unwrap_err().join("\n");
    assert!(lines.contains("unknown field `threshold`"), "{lines}");
    let lines = opened(|m| drop(m.as_object_mut().unwrap().remove("operating_points")));
    assert!(lines.unwrap_err()[0].contains("missing field `operating_points`"));
    let lines = opened(|m| drop(m["operating_points"].as_array_mut().unwrap().pop()));
    assert!(lines.unwrap_err()[0].contains("none for \"pneumonia\""));
    assert!(Manifest::open(std::path::Path::new("/no/such")).unwrap_err()[0].contains("/no/such"));
}

#[test]
fn the_manifest_of_the_description_has_every_key_and_no_mistake() {
    let page = include_str!("../../../../docs/model-manifest.md");
    let (_, rest) = page.split_once("```json\n").unwrap();
    let (json, _) = rest.split_once("```").unwrap();
    let shown: Value = serde_json::from_str(json).unwrap();
    let manifest: Manifest = serde_json::from_value(shown.clone()).unwrap();
    let mut problems = Vec::new();
    manifest.check(&mut problems);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(serde_json::to_value(&manifest).unwrap(), shown, "a key is missing");
}

#[test]
fn a_folder_that_anybody_can_change_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for name in [FILE, "model.onnx"] {
        std::fs::copy(fixture("rgb-squash").join(name), folder.path().join(name)).unwrap();
    }
    assert!(Manifest::open(folder.path()).is_ok());
    for name in ["", FILE, "model.onnx"] {
        let path = folder.path().join(name);
        let usual = std::fs::metadata(&path).unwrap().permissions().mode();
        mode(&path, usual | 0o002);
        let lines = Manifest::open(folder.path()).unwrap_err();
        assert!(lines[0].contains("anybody may change it"), "{name}: {lines:?}");
        mode(&path, usual);
    }
}

fn shown(study: &Study) -> Vec<Picture> {
    let picture =
        |reference| Picture { reference, media_type: "image/png", bytes: sample().unwrap() };
    of_analysis::pictures(study).into_iter().map(picture).collect()
}

#[test]
fn a_model_covers_what_it_is_made_for_and_what_is_known() {
    let manifest = opened(|manifest| {
        manifest["intended_use"] = json!({"text": "t", "modalities": ["CR", "DX"],
            "body_parts": ["CHEST"], "views": ["PA", "AP"], "windows": ["default"],
            "age_years_min": 1, "age_years_max": 17});
    });
    let manifest = manifest.unwrap();
    // modality, body part, view, series description, age, window; what the reason says
    for (modality, part, view, series, age, window, expected) in [
        ("CR", "CHEST", "PA", "", "004Y", "default", None),
        ("DX", "chest", "AP SUPINE", "", "017Y", "default", None),
        ("XR", "CHEST", "PA", "", "012M", "default", None),
        ("CT", "CHEST", "PA", "", "004Y", "default", Some("it is for CR, DX only")),
        ("CR", "ABDOMEN", "AP", "", "004Y", "default", Some("it is for CHEST only")),
        ("CR", "", "PA", "", "004Y", "default", Some("the body part is not known")),
        ("CR", "CHEST", "LL", "", "004Y", "default", Some("no view is known to be PA or AP")),
        ("CR", "CHEST", "", "", "004Y", "default", Some("no view is known to be PA or AP")),
        ("CR", "CHEST", "AP", "Thorax LAT", "004Y", "default", Some("no view is known")),
        ("CR", "CHEST", "PA", "", "011M", "default", Some("it is for patients of 1 to 17 years")),
        ("CR", "CHEST", "PA", "", "018Y", "default", Some("it is for patients of 1 to 17 years")),
        ("CR", "CHEST", "PA", "", "", "default", Some("the patient's age is not known")),
        ("CR", "CHEST", "PA", "", "004Y", "bone", Some("no picture in the window default")),
    ] {
        let mut study = of_analysis::study(modality, part, view, "");
        study.patient.age = age.into();
        study.patient.birth_date = String::new();
        study.instances.iter_mut().for_each(|i| i.series_description = series.into());
        let mut pictures = shown(&study);
        pictures.iter_mut().for_each(|p| p.reference.window = window.into());
        let row = format!("{modality} {part} {view} {series} {age} {window}");
        match (manifest.covered(&study, pictures), expected) {
            (Ok(covered), None) => assert_eq!(covered.len(), 2, "{row}"),
            (Err(why), Some(expected)) => assert!(why.contains(expected), "{row}: {why}"),
            (found, _) => panic!("{row}: {found:?}"),
        }
    }
    // Of a frontal and a lateral view it sees the frontal one.
    let mut study = of_analysis::study("CR", "CHEST", "PA", "");
    study.instances[0].view_position = "LL".into();
    let covered = manifest.covered(&study, shown(&study)).unwrap();
    assert_eq!(covered.iter().map(|p| p.reference.number).collect::<Vec<_>>(), [2]);
    study.inconsistencies.push("the instances differ in Patient's Age".into());
    assert!(manifest.covered(&study, shown(&study)).unwrap_err().contains("headers differ"));
}

#[test]
fn scores_become_an_answer_on_exactly_what_the_model_covers() {
    let manifest = opened(|_| ()).unwrap();
    let asked = |keys: &[&'static str]| keys.to_vec();
    let said = |keys: &[&'static str], scores: &[Vec<f64>]| -> Answer {
        let numbers: Vec<u32> = (3..).take(scores.len()).collect();
        let text = answered(&manifest, &asked(keys), &numbers, scores).to_string();
        serde_json::from_str(&text).unwrap()
    };
    let all = ["pneumothorax", "nodule", "pneumonia", "mass"];
    let answer = said(&all, &[vec![0.1, 0.45, 0.2], vec![0.7, 0.3, 0.2]]);
    let of = |answer: &Answer| -> Vec<(String, Presence, f64, Vec<u32>)> {
        let one = |f: &answer::AnsweredFinding| {
            (f.key.clone(), f.presence, f.probability, f.pictures.clone())
        };
        answer.findings.iter().map(one).collect()
    };
    assert_eq!(
        of(&answer),
        [
            ("pneumothorax".to_owned(), Presence::Present, 0.7, vec![4]),
            ("nodule".to_owned(), Presence::Undetermined, 0.45, vec![3]),
            ("pneumonia".to_owned(), Presence::Absent, 0.2, vec![]),
        ],
        "nothing is said of a mass"
    );
    assert_eq!((answer.confidence, answer.impression.as_str()), (0.55, ""));
    assert_eq!(
        answer.findings[0].description,
        "Score 70%, present from 50% on. Measured there: sensitivity 50% (40% to 60%), specificity \
         50% (40% to 60%), n 1, made up."
    );
    // At the threshold it is present; what the profile does not ask about is told when it is there.
    let answer = said(&["pneumonia"], &[vec![0.1, 0.6, 0.25]]);
    assert_eq!(
        of(&answer),
        [
            (answer::OTHER.to_owned(), Presence::Present, 0.6, vec![3]),
            ("pneumonia".to_owned(), Presence::Present, 0.25, vec![3]),
        ]
    );
    assert_eq!(answer.findings[0].name, "Nodule");
    let schema = answer::schema(&of_analysis::profile("chest_xray"));
    assert!(keys(&schema).unwrap().contains(&"pneumothorax"));
    assert_eq!(keys(&crate::analysis::strategy::verify::schema(1)), None, "it cannot weigh");
    let text = answered(&manifest, &keys(&schema).unwrap(), &[1], &[vec![0.1, 0.6, 0.3]]);
    assert!(answer::parse::<Answer>(&text.to_string(), &schema).is_ok());
}

/// A threshold of the manifest is what counts in the report, not the profile's usual 0.5.
#[test]
fn a_score_above_a_low_threshold_stays_present() {
    let manifest = opened(|_| ()).unwrap();
    let profile = of_analysis::profile("chest_xray");
    let study = of_analysis::study("CR", "CHEST", "PA", "");
    let asked: Vec<&str> = profile.findings.iter().map(String::as_str).collect();
    let text = answered(&manifest, &asked, &[1], &[vec![0.1, 0.55, 0.3]]).to_string();
    let answer: Answer = serde_json::from_str(&text).unwrap();
    let reading: crate::analysis::Reading = serde_json::from_value(json!({"answer": answer,
        "algorithm": of_analysis::algorithm(), "log": {"provider": "", "model": "",
            "prompt_version": "", "prompt_digest": "", "pictures": [], "answer_digest": "",
            "tokens": {"prompt": 0, "completion": 0}, "latency_ms": 0, "repaired": false}}))
    .unwrap();
    let judged = |reading: &crate::analysis::Reading| {
        let pictures = of_analysis::pictures(&study);
        let judged = crate::analysis::judge::judge(
            &reading.answer,
            &study,
            &profile,
            &pictures,
            &reading.algorithm,
        );
        let presence = |key: &str| {
            let found = judged.findings.iter().find(|finding| finding.key == key);
            found.map(|finding| finding.presence).unwrap()
        };
        (presence("pneumonia"), presence("nodule"), format!("{:?}", judged.outcome))
    };
    let (pneumonia, ..) = judged(&reading);
    assert_eq!(pneumonia, Presence::Undetermined, "without its threshold");
    let measured = reading.clone().with_thresholds(&manifest);
    let (pneumonia, nodule, outcome) = judged(&measured);
    assert_eq!((pneumonia, nodule), (Presence::Present, Presence::Undetermined));
    assert_eq!(outcome, "Read");
    // A calibration moves both.
    let table = [("pneumonia".to_owned(), vec![[0.0, 0.0], [1.0, 0.5]])].into();
    let calibrated = measured.calibrated(&table);
    assert_eq!(judged(&calibrated).0, Presence::Present);
    assert_eq!(calibrated.answer.findings[2].threshold, Some(0.125));
}
