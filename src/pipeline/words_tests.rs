//! What a model says in its own words, in the four languages of people: as our finding with its code,
//! side and place in every artefact that a machine or a person reads.

use serde_json::Value;
use serde_json::json;

use crate::alert;
use crate::analysis::answer;
use crate::analysis::codes;
use crate::analysis::judge;
use crate::analysis::testing;
use crate::domain::assessment::Assessment;
use crate::domain::assessment::Outcome;
use crate::domain::code::Code;
use crate::domain::finding::Laterality;
use crate::domain::sample;
use crate::domain::urgency::Urgency;
use crate::pipeline::outcome_tests;
use crate::report;
use crate::report::Language;
use crate::report::ReportInput;
use crate::report::fhir;
use crate::sr;
use crate::sr::Equipment;
use crate::sr::SrOptions;

const LEFT: Option<Laterality> = Some(Laterality::Left);
const RIGHT: Option<Laterality> = Some(Laterality::Right);
const BOTH: Option<Laterality> = Some(Laterality::Bilateral);

/// Profile, modality and body part; name and site as a model gives them; key, side, code of the site.
type Row = ((&'static str, &'static str, &'static str), (&'static str, &'static str), Meant);
type Meant = (&'static str, Option<Laterality>, &'static str);

const CHEST: (&str, &str, &str) = ("chest_xray", "DX", "CHEST");
const CT_CHEST: (&str, &str, &str) = ("ct_chest", "CT", "CHEST");
const HEAD: (&str, &str, &str) = ("ct_head", "CT", "HEAD");
const ABDOMEN: (&str, &str, &str) = ("ct_abdomen", "CT", "ABDOMEN");
const BREAST: (&str, &str, &str) = ("mammography", "MG", "BREAST");
const LEG: (&str, &str, &str) = ("us_vascular", "US", "LEG");
const NECK: (&str, &str, &str) = ("us_thyroid", "US", "THYROID");
const BONE: (&str, &str, &str) = ("bone_xray", "DX", "EXTREMITY");
const VESSELS: (&str, &str, &str) = ("angiography", "XA", "");
const HEART: (&str, &str, &str) = ("mr_heart", "MR", "HEART");
const JAW: (&str, &str, &str) = ("dental", "PX", "JAW");

#[rustfmt::skip]
const ROWS: &[Row] = &[
    // Lobes.
    (CHEST, ("Lobar pneumonia", "right lower lobe"), ("pneumonia", RIGHT, "90572001")),
    (CHEST, ("폐렴", "우하엽"), ("pneumonia", RIGHT, "90572001")),
    (CHEST, ("Viêm phổi", "thùy dưới phổi phải"), ("pneumonia", RIGHT, "90572001")),
    (CHEST, ("肺炎", "右肺下叶"), ("pneumonia", RIGHT, "90572001")),
    (CHEST, ("Airspace consolidation", "RML"), ("consolidation", RIGHT, "72481006")),
    (CHEST, ("폐 경화", "우중엽"), ("consolidation", RIGHT, "72481006")),
    (CHEST, ("Đông đặc phổi", "thùy trên trái"), ("consolidation", LEFT, "45653009")),
    (CHEST, ("肺实变", "左上叶"), ("consolidation", LEFT, "45653009")),
    // The place in the name.
    (CHEST, ("Right lower lobe pneumonia", ""), ("pneumonia", RIGHT, "90572001")),
    (CHEST, ("좌하엽 폐렴", ""), ("pneumonia", LEFT, "90572001")),
    (CHEST, ("Viêm phổi thùy dưới trái", ""), ("pneumonia", LEFT, "90572001")),
    (CHEST, ("左下叶肺炎", ""), ("pneumonia", LEFT, "90572001")),
    // Sides.
    (CHEST, ("Tension pneumothorax", "left hemithorax"), ("pneumothorax", LEFT, "3120008")),
    (CHEST, ("긴장성 기흉", "왼쪽"), ("pneumothorax", LEFT, "3120008")),
    (CHEST, ("Tràn khí màng phổi áp lực", "bên trái"), ("pneumothorax", LEFT, "3120008")),
    (CHEST, ("张力性气胸", "左侧"), ("pneumothorax", LEFT, "3120008")),
    (CT_CHEST, ("Saddle embolus", "both main pulmonary arteries"), ("pulmonary_embolism", BOTH, "81040000")),
    (CT_CHEST, ("폐혈전색전증", "양측 폐동맥"), ("pulmonary_embolism", BOTH, "81040000")),
    (CT_CHEST, ("Thuyên tắc động mạch phổi", "hai bên"), ("pulmonary_embolism", BOTH, "81040000")),
    (CT_CHEST, ("肺动脉栓塞", "双侧"), ("pulmonary_embolism", BOTH, "81040000")),
    // Lobes of the brain.
    (HEAD, ("Intraparenchymal haemorrhage", "left frontal"), ("cerebral_hemorrhage", LEFT, "83251001")),
    (HEAD, ("뇌내출혈", "우측 시상"), ("cerebral_hemorrhage", RIGHT, "42695009")),
    (HEAD, ("Xuất huyết nhu mô não", "thùy thái dương trái"), ("cerebral_hemorrhage", LEFT, "78277001")),
    (HEAD, ("脑实质出血", "左侧小脑"), ("cerebral_hemorrhage", LEFT, "113305005")),
    (HEAD, ("Subdural haematoma, right", ""), ("subdural_hemorrhage", RIGHT, "69536005")),
    // Quadrants.
    (ABDOMEN, ("Free air", "right upper quadrant"), ("pneumoperitoneum", None, "50519007")),
    (ABDOMEN, ("유리 공기", "우상복부"), ("pneumoperitoneum", None, "50519007")),
    (ABDOMEN, ("Liềm hơi dưới cơ hoành", ""), ("pneumoperitoneum", None, "15425007")),
    (ABDOMEN, ("消化道穿孔", "右上腹"), ("pneumoperitoneum", None, "50519007")),
    (BREAST, ("Breast mass", "left upper outer quadrant"), ("breast_mass", LEFT, "76365002")),
    (BREAST, ("유방 종괴", "좌측 상외측"), ("breast_mass", LEFT, "76365002")),
    (BREAST, ("Khối ở vú", "1/4 trên ngoài vú trái"), ("breast_mass", LEFT, "76365002")),
    (BREAST, ("乳腺肿块", "左乳外上象限"), ("breast_mass", LEFT, "76365002")),
    (NECK, ("Thyroid nodule", "right lobe"), ("thyroid_nodule", RIGHT, "29565003")),
    (NECK, ("갑상선 결절", "우엽"), ("thyroid_nodule", RIGHT, "29565003")),
    (NECK, ("Nhân tuyến giáp", "thùy phải"), ("thyroid_nodule", RIGHT, "29565003")),
    (NECK, ("甲状腺结节", "右叶"), ("thyroid_nodule", RIGHT, "29565003")),
    // Vessels and their territories.
    (LEG, ("DVT", "right popliteal vein"), ("dvt", RIGHT, "56849005")),
    (LEG, ("심부정맥혈전증", "우측 슬와정맥"), ("dvt", RIGHT, "56849005")),
    (LEG, ("Huyết khối tĩnh mạch sâu", "tĩnh mạch khoeo phải"), ("dvt", RIGHT, "56849005")),
    (LEG, ("深静脉血栓", "右侧腘静脉"), ("dvt", RIGHT, "56849005")),
    (VESSELS, ("Renal artery stenosis", "left renal artery"), ("arterial_stenosis", LEFT, "2841007")),
    (VESSELS, ("동맥 협착", "좌측 신동맥"), ("arterial_stenosis", LEFT, "2841007")),
    (VESSELS, ("Hẹp động mạch", "động mạch thận trái"), ("arterial_stenosis", LEFT, "2841007")),
    (VESSELS, ("动脉狭窄", "左肾动脉"), ("arterial_stenosis", LEFT, "2841007")),
    (VESSELS, ("False aneurysm", "right common femoral artery"), ("pseudoaneurysm", RIGHT, "181347005")),
    (VESSELS, ("Contrast extravasation", "superior mesenteric artery"), ("bleeding", None, "42258001")),
    (HEART, ("심근경색", "심실중격"), ("myocardial_infarction", None, "589001")),
    (HEART, ("Nhồi máu cơ tim", "vách liên thất"), ("myocardial_infarction", None, "589001")),
    // Bones and teeth.
    (BONE, ("Fractured radius", "left distal radius"), ("fracture", LEFT, "62413002")),
    (BONE, ("요골 골절", "좌측 요골"), ("fracture", LEFT, "62413002")),
    (BONE, ("Gãy xương quay trái", ""), ("fracture", LEFT, "62413002")),
    (BONE, ("左桡骨骨折", ""), ("fracture", LEFT, "62413002")),
    (JAW, ("Caries", "tooth 36, left"), ("dental_caries", LEFT, "38199008")),
    (JAW, ("龋病", "左下第一磨牙"), ("dental_caries", LEFT, "38199008")),
];

fn read(((profile, modality, part), (name, site), _): &Row) -> Assessment {
    let profile = testing::profile(profile);
    let mut study = testing::study(modality, part, "", "");
    study.patient.birth_date = "19600101".into();
    study.patient.age = "064Y".into();
    let told = json!({"presence": "present", "probability": 0.9, "name": name, "site": site, "urgency": "urgent"});
    let text = testing::answer(&profile, vec![testing::entry("other", told)]).to_string();
    let answer = answer::parse(&text, &answer::schema(&profile)).unwrap();
    let (pictures, algorithm) = (testing::pictures(&study), testing::algorithm());
    let judged = judge::judge(&answer, &study, &profile, &pictures, &algorithm);
    Assessment {
        study,
        outcome: Outcome::Read,
        findings: judged.findings,
        looked_for: judged.looked_for,
        urgency: Some(judged.urgency),
        impression: judged.impression,
        pictures,
        key_picture: judged.key_picture,
        algorithm,
        compared: Vec::new(),
        measurements: Vec::new(),
        looked_at: Vec::new(),
        ..sample::positive_chest()
    }
}

/// The observation of this concept, as FHIR.
fn observation<'a>(bundle: &'a Value, concept: &Code) -> &'a Value {
    let entries = bundle["entry"].as_array().unwrap().iter().map(|entry| &entry["resource"]);
    let coded = |value: &Value| {
        let codings = value["coding"].as_array();
        codings.is_some_and(|all| all.iter().any(|one| one["code"] == *concept.value))
    };
    let mut of = entries.filter(|one| {
        one["resourceType"] == "Observation"
            && (coded(&one["code"]) || coded(&one["valueCodeableConcept"]))
    });
    of.next().unwrap_or_else(|| panic!("no observation of {concept:?} in {bundle}"))
}

#[test]
fn a_finding_in_words_of_any_language_reaches_sr_fhir_and_alert_with_its_code_side_and_place() {
    for row in ROWS {
        let (_, (_, words), (key, side, site)) = row;
        let a = read(row);
        let found = a.present().next().unwrap_or_else(|| panic!("{row:?}: nothing is present"));
        assert_eq!(found.key, *key, "{row:?}");
        assert_eq!(found.concept, codes::find(key).unwrap().concept, "{row:?}");
        assert_eq!(found.laterality, *side, "{row:?}");
        let place = found.site.as_ref().unwrap_or_else(|| panic!("{row:?}: no site"));
        assert_eq!(place.value, *site, "{row:?}");

        let object =
            sr::structured_report(&a, &Equipment::default(), &SrOptions::default()).unwrap();
        let object = String::from_utf8_lossy(&object);
        for part in [&found.concept.value, &place.value, &place.meaning, &found.location] {
            assert!(object.contains(part.as_str()), "{row:?}: no {part} in the SR");
        }

        let (site_of, pictures) = (report::sample::site(), report::sample::pictures(&a));
        let input = ReportInput {
            assessment: &a,
            language: Language::En,
            pictures: &pictures,
            communications: &[],
            site: &site_of,
        };
        let bundle = fhir::fhir(&input, &fhir::Options::default());
        let body = &observation(&bundle, &found.concept)["bodySite"];
        assert_eq!(body["coding"][0]["code"], *place.value, "{row:?}: {body}");
        assert!(body["text"].as_str().unwrap().contains(words), "{row:?}: {body}");

        let raised = alert::decide(&a, Urgency::Routine).unwrap();
        let message = outcome_tests::told(&a, &raised);
        let text = message.text;
        for part in [&found.concept.meaning, &place.meaning, &found.location] {
            assert!(text.contains(part.as_str()), "{row:?}: no {part} in {text}");
        }
    }
}
