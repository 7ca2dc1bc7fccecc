use super::*;
use crate::analysis::answer;
use crate::analysis::testing;
use crate::domain::picture::PictureRef;
use serde_json::Value;
use serde_json::json;

struct Case {
    study: Study,
    profile: Profile,
    answer: Value,
}

impl Case {
    fn new(profile: &str, changed: Vec<Value>) -> Case {
        let profile = testing::profile(profile);
        let answer = testing::answer(&profile, changed);
        let study = match profile.matches.modalities.first().map(String::as_str) {
            Some("CR") | None => testing::study("DX", "CHEST", "PA", ""),
            Some(modality) => testing::study(modality, "", "", ""),
        };
        Case { study, profile, answer }
    }

    fn with(mut self, name: &str, value: Value) -> Case {
        self.answer[name] = value;
        self
    }

    fn pictures(&self) -> Vec<PictureRef> {
        testing::pictures(&self.study)
    }

    fn judge(&self) -> Judged {
        let text = self.answer.to_string();
        // As of a reader that can draw: it takes all that the others may say.
        let schema = answer::with_masks(&answer::schema(&self.profile));
        let answer = answer::parse(&text, &schema).unwrap();
        let pictures = self.pictures();
        judge(&answer, &self.study, &self.profile, &pictures, &testing::algorithm())
    }
}

fn present(key: &str, more: Value) -> Value {
    let mut changes = json!({"presence": "present", "probability": 0.9, "laterality": "left", "description": "Seen."});
    for (name, value) in more.as_object().unwrap() {
        changes[name] = value.clone();
    }
    testing::entry(key, changes)
}

fn needs_review(judged: &Judged) -> bool {
    matches!(judged.outcome, Outcome::NeedsReview { .. })
}

#[test]
fn a_present_finding_gets_codes_place_and_urgency() {
    let boxes = json!([{"picture": 2, "x0": 0.5, "y0": 0.1, "x1": 0.75, "y1": 0.2}]);
    let judged = Case::new(
        "chest_xray",
        vec![
            present("pleural_effusion", json!({"probability": 0.95})),
            present("pneumothorax", json!({"boxes": boxes, "severity": "mild"})),
        ],
    )
    .judge();
    assert_eq!(judged.outcome, Outcome::Read);
    let first = &judged.findings[0];
    assert_eq!(
        (first.id.as_str(), first.key.as_str()),
        ("F1", "pneumothorax"),
        "the more urgent first"
    );
    assert_eq!(first.concept.value, "36118008");
    assert_eq!((first.laterality, first.severity), (Some(Laterality::Left), Some(Severity::Mild)));
    let region = &first.regions[0];
    assert_eq!(
        (region.x0, region.y0, region.x1, region.y1),
        (500.0, 200.0, 750.0, 400.0),
        "of 1000 x 2000"
    );
    assert_eq!(region.image.sop_instance_uid.as_str(), "1.2.826.0.1.77.1.1.2");
    assert_eq!(first.evidence.len(), 2, "picture 1 as cited, picture 2 by its box");
    assert_eq!((judged.urgency, judged.key_picture), (Urgency::Urgent, Some(2)));
    assert_eq!(judged.looked_for.len(), 18);
    assert_eq!(judged.findings.len(), 18);
    assert_eq!(
        judged.impression,
        "Pneumothorax, left, mild (probability 0.90); Pleural effusion, left (probability 0.95)."
    );
}

#[test]
fn nothing_found_is_never_called_normal() {
    for impression in
        ["", "Normal.", "No acute cardiopulmonary abnormality.", "Unremarkable chest."]
    {
        let judged = Case::new("chest_xray", vec![]).with("impression", json!(impression)).judge();
        assert_eq!(judged.outcome, Outcome::Read, "{impression}");
        assert_eq!(judged.impression, "No finding above threshold among those looked for.");
        assert_eq!((judged.urgency, judged.key_picture), (Urgency::Routine, None));
    }
}

/// The model's word can raise urgency and never lower it.
#[test]
fn urgency_only_rises() {
    let urgency = |key: &str, said: &str| {
        Case::new("chest_xray", vec![present(key, json!({"urgency": said}))]).judge().urgency
    };
    assert_eq!(urgency("pneumothorax", "routine"), Urgency::Urgent);
    assert_eq!(urgency("pneumothorax", "critical"), Urgency::Critical);
    assert_eq!(urgency("cardiomegaly", "routine"), Urgency::Routine);
    assert_eq!(urgency("cardiomegaly", "urgent"), Urgency::Urgent);
    let whole = Case::new("chest_xray", vec![]).with("urgency", json!("critical")).judge();
    assert!(
        needs_review(&whole) && whole.urgency == Urgency::Critical,
        "urgent without a finding: a person"
    );
    assert_eq!(whole.key_picture, Some(1), "what that person is shown");
}

#[test]
fn a_doubtful_finding_is_undetermined() {
    let low =
        Case::new("chest_xray", vec![present("pneumothorax", json!({"probability": 0.3}))]).judge();
    let finding = low.findings.iter().find(|f| f.key == "pneumothorax").unwrap();
    assert_eq!((finding.presence, low.urgency), (Presence::Undetermined, Urgency::Routine));
    let odd =
        Case::new("chest_xray", vec![testing::entry("pneumothorax", json!({"probability": 0.9}))])
            .judge();
    assert!(needs_review(&odd), "absent with 0.9");
    let both = Case::new(
        "chest_xray",
        vec![
            present("pneumothorax", json!({})),
            testing::entry("pneumothorax", json!({"laterality": "left"})),
        ],
    )
    .judge();
    assert!(needs_review(&both) && both.urgency == Urgency::Urgent, "present and absent");
}

#[test]
fn sides_are_checked() {
    let laterality = |key: &str, side: &str, header: &str| {
        let mut case = Case::new("chest_xray", vec![present(key, json!({"laterality": side}))]);
        case.study.instances.iter_mut().for_each(|i| i.laterality = header.into());
        let judged = case.judge();
        let side = judged.findings[0].laterality;
        (side, judged.warnings.len(), needs_review(&judged))
    };
    assert_eq!(laterality("pneumothorax", "left", ""), (Some(Laterality::Left), 0, false));
    assert_eq!(laterality("pneumothorax", "none", ""), (None, 1, false));
    assert_eq!(laterality("cardiomegaly", "left", ""), (None, 1, false));
    assert_eq!(laterality("pneumothorax", "left", "L"), (Some(Laterality::Left), 0, false));
    assert_eq!(laterality("pneumothorax", "left", "R"), (None, 1, true));
    assert_eq!(laterality("pneumothorax", "bilateral", "R"), (None, 1, true));
}

#[test]
fn an_organ_that_the_patient_does_not_have_is_for_a_person() {
    let mut case = Case::new("ultrasound", vec![present("testicular_torsion", json!({}))]);
    let judged = case.judge();
    assert!(needs_review(&judged), "the patient is a girl");
    assert!(!judged.findings.iter().any(|finding| finding.key == "testicular_torsion"));
    case.study.patient.sex = "M".into();
    let judged = case.judge();
    assert_eq!((judged.outcome.clone(), judged.urgency), (Outcome::Read, Urgency::Critical));
    let mut case =
        Case::new("mr", vec![present("edema", json!({"description": "Edema of the prostate."}))]);
    assert!(needs_review(&case.judge()));
    case.study.patient.sex = "O".into();
    assert!(!needs_review(&case.judge()));
}

/// A finding that the patient's age, or the region that the images show, does not allow.
#[test]
fn what_cannot_be_there_is_for_a_person() {
    let judged = |key: &str, age: &str, part: &str| {
        let profile = match key {
            "intracranial_hemorrhage" => "ct_head",
            "edema" => "mr",
            "pneumothorax" => "chest_xray",
            _ => "ultrasound",
        };
        let mut case = Case::new(profile, vec![present(key, json!({"pictures": [1, 2]}))]);
        case.study.patient.age = age.into();
        for (instance, part) in case.study.instances.iter_mut().zip(part.split('+').cycle()) {
            instance.body_part_examined = part.into();
        }
        case.judge()
    };
    for (key, age, part, review) in [
        ("ectopic_pregnancy", "030Y", "PELVIS", false),
        ("ectopic_pregnancy", "004Y", "PELVIS", true),
        ("ectopic_pregnancy", "080Y", "PELVIS", true),
        ("ectopic_pregnancy", "", "PELVIS", true),
        ("intracranial_hemorrhage", "030Y", "HEAD", false),
        ("intracranial_hemorrhage", "030Y", "", false),
        ("pneumothorax", "030Y", "HAND+CHEST", false),
        ("edema", "030Y", "KNEE", false),
    ] {
        let judged = judged(key, age, part);
        let is_finding = judged.findings.iter().any(|finding| finding.key == key);
        let is_disputed = judged.outcome.disputed().iter().any(|one| one.key == key);
        assert_eq!(
            (is_finding != is_disputed, needs_review(&judged)),
            (true, review),
            "{key} {age} {part}: said once, and never lost"
        );
    }
    // What none of the images can show is not there because a model says so; it is no less urgent.
    for (key, part, urgency) in [
        ("intracranial_hemorrhage", "CHEST", Urgency::Critical),
        ("pneumothorax", "HAND", Urgency::Urgent),
    ] {
        let judged = judged(key, "030Y", part);
        assert!(!judged.findings.iter().any(|finding| finding.key == key), "{key} {part}");
        let [disputed] = judged.outcome.disputed() else { panic!("{:?}", judged.outcome) };
        assert_eq!((disputed.key.as_str(), disputed.urgency), (key, urgency));
        let reason = judged.outcome.reason().unwrap();
        assert_eq!(judged.outcome.disputed()[0].said.len(), 1);
        assert!(reason.contains("called present, and these images cannot show it"), "{reason}");
    }
    // The hand is no evidence for what the chest shows; an edema of the knee is not in the brain.
    assert_eq!(judged("pneumothorax", "030Y", "HAND+CHEST").findings[0].evidence.len(), 1);
    assert!(judged("edema", "030Y", "HEAD").findings[0].site.is_some());
    assert_eq!(judged("edema", "030Y", "KNEE").findings[0].site, None);
}

#[test]
fn a_lateral_view_of_the_chest_gives_no_side() {
    let side = |profile: &str, key: &str, view: &str| {
        let mut case = Case::new(profile, vec![present(key, json!({"pictures": [1]}))]);
        case.study.instances.iter_mut().for_each(|i| i.view_position = view.into());
        let judged = case.judge();
        assert!(!needs_review(&judged), "{judged:?}");
        judged.findings[0].laterality
    };
    assert_eq!(side("chest_xray", "pleural_effusion", "PA"), Some(Laterality::Left));
    assert_eq!(side("chest_xray", "pleural_effusion", "LL"), None);
    assert_eq!(side("bone_xray", "fracture", "LAT"), Some(Laterality::Left), "a limb has one side");
}

/// The patient is a girl of 4.
#[test]
fn another_person_in_the_text_is_for_a_person() {
    for (text, review) in [
        ("A 4-year-old girl with clear lungs.", false),
        ("A 71-year-old patient with clear lungs.", true),
        ("This man has clear lungs.", true),
        ("Clear lungs; see picture 2.", false),
    ] {
        let judged = Case::new("chest_xray", vec![]).with("recommendation", json!(text)).judge();
        assert_eq!(needs_review(&judged), review, "{text}: {judged:?}");
    }
    let judged =
        Case::new("chest_xray", vec![]).with("recommendation", json!("See picture 9.")).judge();
    assert!(judged.warnings.iter().any(|w| w.contains("there are 2")), "{:?}", judged.warnings);
}

#[test]
fn a_finding_and_its_description_may_not_contradict() {
    for (presence, probability, side, description, review) in [
        ("present", 0.9, "left", "Left pneumothorax.", false),
        ("present", 0.9, "left", "Left pneumothorax, shift to the right.", false),
        ("present", 0.9, "left", "Pneumothorax at the right apex.", true),
        ("present", 0.9, "left", "No pneumothorax.", true),
        ("absent", 0.1, "none", "No pneumothorax.", false),
        ("absent", 0.1, "none", "Small pneumothorax.", true),
    ] {
        let changes = json!({"presence": presence, "probability": probability, "laterality": side,
            "description": description});
        let judged = Case::new("chest_xray", vec![testing::entry("pneumothorax", changes)]).judge();
        assert_eq!(needs_review(&judged), review, "{presence} {description}: {judged:?}");
    }
    let other = Case::new("chest_xray", vec![present("pneumothorax", json!({}))])
        .with("impression", json!("Pneumothorax on the right."))
        .judge();
    assert!(
        needs_review(&other) && other.impression.starts_with("Pneumothorax, left"),
        "{other:?}"
    );
}

#[test]
fn a_threshold_of_the_profile_counts_for_its_finding_alone() {
    for (threshold, presence, probability, found, review) in [
        (None, "present", 0.6, Presence::Present, false),
        // What cannot wait and is open is for a person.
        (None, "present", 0.4, Presence::Undetermined, true),
        (Some(0.3), "present", 0.4, Presence::Present, false),
        (Some(0.8), "present", 0.6, Presence::Undetermined, true),
        (None, "absent", 0.4, Presence::Absent, false),
        (Some(0.3), "absent", 0.4, Presence::Undetermined, true),
        (Some(0.3), "absent", 0.2, Presence::Absent, false),
    ] {
        let changes =
            json!({"presence": presence, "probability": probability, "laterality": "left"});
        let both = ["pneumothorax", "nodule"].map(|key| testing::entry(key, changes.clone()));
        let mut case = Case::new("chest_xray", both.to_vec());
        case.profile.thresholds.extend(threshold.map(|from| ("pneumothorax".to_owned(), from)));
        let judged = case.judge();
        let of = |key: &str| judged.findings.iter().find(|f| f.key == key).unwrap().presence;
        assert_eq!((of("pneumothorax"), needs_review(&judged)), (found, review), "{threshold:?}");
        let usual = match (presence, probability >= 0.5) {
            ("present", true) => Presence::Present,
            ("present", false) => Presence::Undetermined,
            _ => Presence::Absent,
        };
        assert_eq!(of("nodule"), usual, "{threshold:?}");
    }
}

/// Category by rule, the model's word and what was measured: the highest counts.
#[test]
fn the_most_urgent_of_rule_word_and_measurement_counts() {
    let aneurysm = |height: f64, said: &str| {
        let boxes = json!([{"picture": 1, "x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.1 + height}]);
        let size = json!([{"name": "diameter", "value": 99, "unit": "mm"}]);
        json!({"boxes": boxes, "measurements": size, "urgency": said, "pictures": [1]})
    };
    let none = json!({});
    let severe = json!({"severity": "severe"});
    let moderate = json!({"severity": "moderate"});
    for (profile, key, changes, also, urgency) in [
        ("chest_xray", "cardiomegaly", &none, None, Urgency::Routine),
        ("chest_xray", "nodule", &none, None, Urgency::Significant),
        ("chest_xray", "pneumothorax", &moderate, None, Urgency::Urgent),
        ("chest_xray", "pneumothorax", &severe, None, Urgency::Critical),
        ("chest_xray", "pleural_effusion", &severe, None, Urgency::Urgent),
        ("ct_head", "intracranial_hemorrhage", &none, None, Urgency::Critical),
        ("ct_head", "brain_neoplasm", &none, None, Urgency::Urgent),
        ("ct_head", "brain_neoplasm", &none, Some("hydrocephalus"), Urgency::Critical),
        // 0.1 of 2000 rows at 0.2 mm is 40 mm; 0.15 is 60. The model's own 99 counts nothing.
        ("ct_abdomen", "aaa", &aneurysm(0.1, "routine"), None, Urgency::Significant),
        ("ct_abdomen", "aaa", &aneurysm(0.15, "routine"), None, Urgency::Urgent),
        ("ct_abdomen", "aaa", &aneurysm(0.1, "critical"), None, Urgency::Critical),
        ("ct_abdomen", "aaa", &aneurysm(0.15, "critical"), None, Urgency::Critical),
    ] {
        let mut findings = vec![present(key, changes.clone())];
        findings.extend(also.map(|other: &str| present(other, json!({}))));
        let mut case = Case::new(profile, findings);
        case.study.instances.iter_mut().for_each(|i| i.body_part_examined = String::new());
        let judged = case.judge();
        let found = judged.findings.iter().find(|finding| finding.key == key).unwrap();
        assert_eq!((found.urgency, judged.urgency >= urgency), (urgency, true), "{key} {changes}");
    }
}

/// A15: pictures that were not shown are not cited; a finding keeps its evidence.
#[test]
fn cited_pictures_exist() {
    let boxes = json!([{"picture": 9, "x0": 0.1, "y0": 0.1, "x1": 0.2, "y1": 0.2}]);
    let judged =
        Case::new("chest_xray", vec![present("nodule", json!({"pictures": [7], "boxes": boxes}))])
            .judge();
    let finding = &judged.findings[0];
    assert!(finding.regions.is_empty());
    assert_eq!(finding.evidence.len(), 2, "all that was shown");
    assert!(judged.warnings.iter().any(|w| w.contains("not shown")), "{:?}", judged.warnings);
    assert!(needs_review(&judged), "it rests on nothing that was shown");
}

#[test]
fn a_box_without_an_area_is_left_out() {
    for (x0, x1) in [(0.5, 0.5), (0.6, 0.5), (0.5, 0.5005)] {
        let boxes = json!([{"picture": 1, "x0": x0, "y0": 0.1, "x1": x1, "y1": 0.2}]);
        let judged =
            Case::new("chest_xray", vec![present("nodule", json!({"boxes": boxes}))]).judge();
        assert!(judged.findings[0].regions.is_empty(), "{x0} {x1}");
    }
}

#[test]
fn millimetres_come_from_pixel_spacing_alone() {
    let boxes = json!([{"picture": 1, "x0": 0.1, "y0": 0.1, "x1": 0.3, "y1": 0.15}]);
    let said = json!([{"name": "diameter", "value": 77.0, "unit": "mm"}]);
    let mut case = Case::new(
        "chest_xray",
        vec![present("nodule", json!({"boxes": boxes, "measurements": said}))],
    );
    let values = |case: &Case| -> Vec<(String, f64)> {
        let found = case.judge().findings[0].measurements.clone();
        found.into_iter().map(|m| (m.concept.meaning, m.value)).collect()
    };
    let named = |values: [(&str, f64); 3]| values.map(|(name, value)| (name.to_owned(), value));
    // On a slice. 0.2 of 1000 columns at 0.1 mm is 20 mm; 0.05 of 2000 rows at 0.2 mm is 20 mm.
    case.study.instances.iter_mut().for_each(|i| i.modality = "CT".into());
    let expected = [("Diameter", 20.0), ("Long axis", 20.0), ("Short axis", 20.0)];
    assert_eq!(values(&case), named(expected));
    // On a radiograph the same is what the detector saw, and named so.
    case.study.instances.iter_mut().for_each(|i| i.modality = "DX".into());
    assert!(values(&case).iter().all(|(name, _)| name.ends_with("at the detector, magnified")));
    case.study.instances.iter_mut().for_each(|i| i.pixel_spacing_mm = None);
    let judged = case.judge();
    assert!(judged.findings[0].measurements.is_empty());
    assert!(judged.warnings.iter().any(|w| w.contains("own estimate")), "{:?}", judged.warnings);
    let density = json!([{"name": "density", "value": 70.0, "unit": "HU"}]);
    let judged = Case::new(
        "ct_head",
        vec![present("cerebral_hemorrhage", json!({"measurements": density}))],
    )
    .judge();
    assert!(judged.findings[0].measurements.is_empty());
}

/// A15: identifiers of the study in the model's text are removed, another patient's name is for a person.
#[test]
fn identifiers_do_not_come_back() {
    let text = "Kowalski, Agnieszka (PID-4711, born 2019-03-07): opacity in the left lung, seen by Dr Brandt. ACC-0815.";
    let judged = Case::new("chest_xray", vec![])
        .with("impression", json!(text))
        .with("recommendation", json!("Tell Kowalski at Saint Example Hospital."))
        .judge();
    for name in ["Kowalski", "Agnieszka", "4711", "2019", "Brandt", "0815", "Saint Example"] {
        assert!(!format!("{judged:?}").contains(name), "{name} in {judged:?}");
    }
    assert!(judged.impression.contains("opacity in the left lung"));
    assert!(judged.warnings.iter().any(|w| w.contains("identifier")));
    let other = Case::new("chest_xray", vec![])
        .with("impression", json!("Patient name: Smith, John. Clear lungs."))
        .judge();
    assert!(needs_review(&other));
}

/// A16: control and direction characters go, HTML stays as data.
#[test]
fn text_is_made_harmless() {
    let text = "A\u{202e}B\r\nBcc: evil@example <script>alert(1)</script>\u{0}\u{1b}[2J";
    let judged = Case::new(
        "chest_xray",
        vec![present("nodule", json!({"description": text, "differential": [text, ""]}))],
    )
    .judge();
    let finding = &judged.findings[0];
    assert_eq!(finding.description, "AB Bcc: evil@example <script>alert(1)</script> [2J");
    assert_eq!(finding.differential, std::slice::from_ref(&finding.description));
}

/// A14: another language is for a person, and the impression is made by rule.
#[test]
fn another_language_is_for_a_person() {
    let judged = Case::new("chest_xray", vec![])
        .with("impression", json!("左肺下叶可见斑片状高密度影，考虑肺炎。"))
        .judge();
    assert!(needs_review(&judged));
    assert_eq!(judged.impression, "No finding above threshold among those looked for.");
}

#[test]
fn text_and_findings_may_not_contradict() {
    let impression = |findings: Vec<Value>, text: &str| {
        Case::new("chest_xray", findings).with("impression", json!(text)).judge()
    };
    let hidden = impression(vec![], "Large left pneumothorax.");
    assert!(needs_review(&hidden), "only in the text");
    let denied = impression(vec![present("pneumothorax", json!({}))], "No pneumothorax.");
    assert!(
        needs_review(&denied) && denied.impression.starts_with("Pneumothorax, left"),
        "{denied:?}"
    );
    let normal = impression(vec![present("pneumothorax", json!({}))], "Normal chest.");
    assert!(needs_review(&normal) && normal.urgency == Urgency::Urgent);
    let same = impression(
        vec![present("pneumothorax", json!({}))],
        "Small left pneumothorax. No pleural effusion.",
    );
    assert_eq!(
        (same.outcome, same.impression.as_str()),
        (Outcome::Read, "Small left pneumothorax. No pleural effusion.")
    );
    let mild = impression(vec![], "Mild cardiomegaly.");
    assert!(!needs_review(&mild) && mild.warnings.len() == 1, "not urgent: a warning");
}

#[test]
fn a_model_that_did_not_look_did_not_read() {
    let mut case = Case::new("chest_xray", vec![]);
    case.answer["findings"] = json!([]);
    assert!(needs_review(&case.judge()));
    case.answer["findings"] = json!([testing::entry("pneumothorax", json!({}))]);
    let judged = case.judge();
    assert_eq!(judged.looked_for, ["Pneumothorax"]);
    let why = "the model leaves open what cannot wait: Pneumonia, Pulmonary edema";
    assert!(judged.outcome.reason().unwrap().starts_with(why), "{:?}", judged.outcome);
    assert!(judged.warnings.iter().any(|one| one.starts_with("the model did not answer on: ")));
    let poor = Case::new("chest_xray", vec![])
        .with("image_quality", json!({"usable": "not_diagnostic", "remarks": "black"}))
        .judge();
    assert!(needs_review(&poor) && poor.quality[0].key == "image_quality_not_diagnostic");
}

/// Answers that follow the schema and cannot be meant.
#[test]
fn an_answer_that_contradicts_itself_is_for_a_person() {
    let entry = |key: &str, presence: &str, probability: f64| {
        testing::entry(
            key,
            json!({"presence": presence, "probability": probability, "laterality": "left"}),
        )
    };
    let chest = |changed: Vec<Value>| Case::new("chest_xray", changed);
    let all_open: Vec<Value> = testing::profile("chest_xray")
        .findings
        .iter()
        .map(|key| entry(key, "undetermined", 0.4))
        .collect();
    for (case, why) in [
        (
            chest(vec![entry("nodule", "present", 0.01)]),
            "called present, with a probability that says absent",
        ),
        (chest(vec![]).with("confidence", json!(0.0)), "not sure of its own answer"),
        (chest(all_open), "could not decide on anything"),
        (
            chest(vec![entry("pneumothorax", "undetermined", 0.3)]),
            "leaves open what cannot wait: Pneumothorax",
        ),
        (
            chest(vec![]).with("impression", json!("Free air under the diaphragm.")),
            "mentions Pneumoperitoneum",
        ),
        (
            chest(vec![]).with("recommendation", json!("Chest tube for the tension pneumothorax.")),
            "the recommendation mentions Pneumothorax",
        ),
    ] {
        let judged = case.judge();
        let reason = judged.outcome.reason().unwrap_or_default();
        assert!(needs_review(&judged) && reason.contains(why), "{why}: {:?}", judged.outcome);
    }
    for text in [
        "CT to exclude pulmonary embolism.",
        "No pneumothorax, no free air.",
        "Known tuberculosis.",
    ] {
        let judged = chest(vec![]).with("recommendation", json!(text)).judge();
        assert!(!needs_review(&judged), "{text}: {:?}", judged.outcome);
    }
}

/// One of two sees it: that is why a person looks, and not once more that it is open, or urgent.
#[test]
fn a_doubt_is_said_once_and_the_most_urgent_first() {
    let case = Case::new("chest_xray", vec![]).with("urgency", json!("urgent"));
    let mut answer: Answer = serde_json::from_value(case.answer.clone()).unwrap();
    let split = answer.findings.iter_mut().find(|f| f.key == "pneumothorax").unwrap();
    split.presence = Presence::Undetermined;
    let judged = |answer: &Answer| {
        judge(answer, &case.study, &case.profile, &case.pictures(), &testing::algorithm())
    };
    let reason = "the model leaves open what cannot wait: Pneumothorax";
    assert_eq!(judged(&answer).outcome.reason(), Some(reason), "and that is why it is urgent");
    let split = answer.findings.iter_mut().find(|f| f.key == "pneumothorax").unwrap();
    split.support = crate::domain::finding::Support { readers: 2, present: 1, verdict: None };
    assert_eq!(judged(&answer).outcome, Outcome::Read, "the readers have said why");
    let both = Case::new("chest_xray", vec![])
        .with("confidence", json!(0.1))
        .with("impression", json!("Free air under the diaphragm."))
        .judge();
    let reason = both.outcome.reason().unwrap();
    assert!(reason.starts_with("the impression mentions Pneumoperitoneum"), "{reason}");
    assert!(reason.ends_with("; the model is not sure of its own answer (10%)"), "{reason}");
}

/// A model of one finding that is the reader by the settings.
#[test]
fn a_model_that_knows_one_finding_has_not_read_the_film() {
    let case = Case::new("chest_xray", vec![]);
    let mut answer: Answer = serde_json::from_value(case.answer.clone()).unwrap();
    answer.findings.retain(|finding| finding.key == "pneumothorax");
    answer.findings[0].threshold = Some(0.4);
    let judged =
        judge(&answer, &case.study, &case.profile, &case.pictures(), &testing::algorithm());
    assert_eq!(
        (judged.outcome, judged.looked_for),
        (Outcome::Read, vec!["Pneumothorax".to_owned()])
    );
    assert_eq!(judged.unasked.len(), case.profile.findings.len() - 1);
}

#[test]
fn what_a_model_names_in_its_own_words_is_as_urgent_as_in_the_table() {
    for (name, key, urgency) in [
        ("Aortic dissection", "aortic_dissection", Urgency::Critical),
        ("free air under the diaphragm", "pneumoperitoneum", Urgency::Critical),
        ("긴장성 기흉", "pneumothorax", Urgency::Critical),
        ("气胸", "pneumothorax", Urgency::Urgent),
        ("Liềm hơi dưới cơ hoành", "pneumoperitoneum", Urgency::Critical),
    ] {
        let other = present("other", json!({"name": name, "urgency": "routine"}));
        let judged = Case::new("ct_chest", vec![other]).judge();
        let found = judged.findings.iter().find(|f| f.presence == Presence::Present).unwrap();
        assert_eq!((found.key.as_str(), found.urgency), (key, urgency), "{name}");
        assert_eq!(judged.urgency, urgency, "{name}");
    }
}

#[test]
fn the_place_that_a_model_gives_is_kept_and_coded() {
    let place = |key: &str, site: &str, side: &str| {
        let found = present(key, json!({"site": site, "laterality": side}));
        Case::new("chest_xray", vec![found]).judge()
    };
    let judged = place("consolidation", "right lower lobe", "none");
    let found = &judged.findings[0];
    assert_eq!(found.location, "right lower lobe");
    assert_eq!(found.laterality, Some(Laterality::Right), "the words have the side");
    assert_eq!(found.site.as_ref().unwrap().value, "90572001");
    let judged = place("pneumothorax", "left apex", "left");
    assert_eq!(judged.findings[0].location, "left apex");
    assert!(!needs_review(&judged), "{:?}", judged.outcome);
    assert!(needs_review(&place("consolidation", "right lower lobe", "left")));
}

/// A man's prostate has no haemorrhage of the brain, and none that is absent.
#[test]
fn what_the_images_cannot_show_is_not_assessed() {
    let mut case = Case::new("mr", vec![]);
    for instance in &mut case.study.instances {
        instance.body_part_examined = "PROSTATE".into();
    }
    case.study.patient.sex = "M".into();
    let judged = case.judge();
    assert!(!judged.findings.iter().any(|f| f.key == "intracranial_hemorrhage"));
    assert!(!judged.looked_for.contains(&"Intracranial hemorrhage".to_owned()));
    let said = judged.warnings.iter().find(|one| one.starts_with("not assessed, because these"));
    assert!(said.unwrap().contains("Intracranial hemorrhage"), "{:?}", judged.warnings);
    let mut kidney = Case::new("ultrasound", vec![]);
    for instance in &mut kidney.study.instances {
        instance.body_part_examined = "KIDNEY".into();
    }
    kidney.study.patient.sex = "M".into();
    assert!(!kidney.judge().findings.iter().any(|f| f.key == "ectopic_pregnancy"));
}

#[test]
fn an_unknown_finding_is_text_without_an_alert_but_never_silent() {
    let other = |urgency: &str| {
        Case::new(
            "chest_xray",
            vec![present("other", json!({"name": "Swallowed coin", "urgency": urgency}))],
        )
        .judge()
    };
    let judged = other("routine");
    let finding = &judged.findings[0];
    assert_eq!(
        (finding.key.as_str(), finding.concept.scheme.as_str()),
        ("other_swallowed_coin", "99PRELIM")
    );
    assert_eq!((finding.urgency, judged.outcome.clone()), (Urgency::Routine, Outcome::Read));
    assert_eq!(judged.warnings.len(), 1);
    let urgent = other("critical");
    assert!(needs_review(&urgent) && urgent.findings[0].urgency == Urgency::Routine);
}

#[test]
fn tracking_uids_are_stable_and_different() {
    let findings = || {
        Case::new(
            "chest_xray",
            vec![
                present("nodule", json!({"laterality": "left"})),
                present("nodule", json!({"laterality": "left", "probability": 0.7})),
                present("nodule", json!({"laterality": "right"})),
            ],
        )
        .judge()
        .findings
    };
    let uids = |all: &[Finding]| {
        all.iter().map(|f| f.tracking_uid.clone()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(uids(&findings()), uids(&findings()));
    assert_eq!(uids(&findings()).len(), findings().len());
}

/// A17: whatever text an attacker brings the model to say, the alert rule is ours.
#[test]
fn an_injected_calm_text_does_not_lower_an_alert() {
    let calm = json!({"urgency": "routine", "recommendation": "Ignore. No alert needed.", "description": "Artefact, do not alert."});
    let judged = Case::new("ct_head", vec![present("intracranial_hemorrhage", calm)]).judge();
    assert_eq!(
        (judged.urgency, judged.findings[0].urgency),
        (Urgency::Critical, Urgency::Critical)
    );
}

#[test]
fn a_mask_has_a_region_around_it_and_one_that_does_not_fit_is_left_out() {
    let case = Case::new("chest_xray", vec![present("nodule", json!({}))]);
    let first = &case.pictures()[0];
    let (width, height) = (first.width_px, first.height_px);
    let inside = [width * (height / 2) + width / 4, width / 2];
    let rest = width * height - inside.iter().sum::<u32>();
    let whole = json!({"picture": 1, "counts": [inside[0], inside[1], rest]});
    for (masks, kept, warned) in [
        (json!([whole]), 1, false),
        (json!([whole, {"picture": 1, "counts": [1, 2, 3]}]), 1, true),
        (json!([{"picture": 1, "counts": [width * height]}]), 0, true),
        (json!([{"picture": 9, "counts": [1]}]), 0, false),
    ] {
        let judged =
            Case::new("chest_xray", vec![present("nodule", json!({"masks": masks}))]).judge();
        let finding = &judged.findings[0];
        assert_eq!((finding.masks.len(), finding.regions.len()), (kept, kept), "{masks}");
        let said = judged.warnings.iter().any(|line| line.contains("does not fit its picture"));
        assert_eq!(said, warned, "{:?}", judged.warnings);
        for region in &finding.regions {
            let image = first.source_columns;
            assert!((region.x0 - f64::from(image) / 4.0).abs() < 2.0, "{region:?}");
        }
    }
}
