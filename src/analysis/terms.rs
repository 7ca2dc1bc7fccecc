//! Findings by their words: what a model calls them in its own words is looked up here, in the four
//! languages of people. The names are `domain::names`; here are only other words for the same key.

use crate::analysis::codes;
use crate::analysis::codes::Row;
use crate::analysis::words;
use crate::domain::names;
use crate::domain::urgency::Urgency;

/// A key of the table, the urgency that these words alone ask for, and the words.
type Term = (&'static str, Option<Urgency>, &'static [&'static str]);

const CRITICAL: Option<Urgency> = Some(Urgency::Critical);
const URGENT: Option<Urgency> = Some(Urgency::Urgent);

#[rustfmt::skip]
const TERMS: &[Term] = &[
    ("pneumothorax", None, &["ptx", "hydropneumothorax", "기흉증", "tràn khí khoang màng phổi"]),
    ("pneumothorax", CRITICAL, &["tension pneumothorax", "긴장성 기흉", "긴장기흉",
        "tràn khí màng phổi áp lực", "tràn khí màng phổi dưới áp lực", "张力性气胸"]),
    ("pneumoperitoneum", None, &["free air", "free gas", "free intraperitoneal air",
        "free intraperitoneal gas", "free intra abdominal air", "free abdominal air", "free peritoneal air",
        "subdiaphragmatic air", "subdiaphragmatic free air", "free subdiaphragmatic air", "air under the diaphragm",
        "gas under the diaphragm", "intraperitoneal air", "extraluminal air", "extraluminal gas",
        "perforated viscus", "perforated hollow viscus", "hollow viscus perforation", "bowel perforation",
        "gastrointestinal perforation", "intestinal perforation", "복강내 유리 가스", "복강 내 유리 가스", "유리 가스",
        "유리공기", "유리 공기", "횡격막하 공기", "장천공", "장 천공", "khí tự do", "hơi tự do", "liềm hơi",
        "hơi dưới cơ hoành", "khí dưới cơ hoành", "thủng tạng rỗng", "thủng ruột", "膈下游离气体", "游离气体",
        "腹腔积气", "消化道穿孔", "肠穿孔"]),
    ("aortic_dissection", None, &["dissection of the aorta", "dissection of aorta", "dissecting aneurysm",
        "type a dissection", "type b dissection", "intimal flap", "대동맥 박리", "lóc tách động mạch chủ",
        "bóc tách đmc", "lóc tách thành động mạch chủ", "主动脉剥离", "主动脉壁间血肿"]),
    ("aortic_aneurysm", None, &["aneurysm of the aorta", "thoracic aortic aneurysm", "대동맥 동맥류", "胸主动脉瘤"]),
    ("aortic_aneurysm", CRITICAL, &["ruptured aortic aneurysm", "aortic rupture", "rupture of the aorta",
        "대동맥 파열", "vỡ phình động mạch chủ", "vỡ động mạch chủ", "主动脉破裂", "主动脉瘤破裂"]),
    ("aaa", None, &["aneurysm of the abdominal aorta", "복부 대동맥류", "腹主动脉扩张"]),
    ("aaa", CRITICAL, &["ruptured abdominal aortic aneurysm", "ruptured aaa", "복부대동맥류 파열",
        "vỡ phình động mạch chủ bụng", "腹主动脉瘤破裂"]),
    ("pulmonary_embolism", None, &["pulmonary embolus", "pulmonary emboli", "pulmonary thromboembolism",
        "pulmonary artery thrombus", "saddle embolus", "폐 색전증", "폐동맥 색전증", "폐혈전색전증",
        "thuyên tắc động mạch phổi", "tắc mạch phổi", "nhồi máu phổi", "肺动脉栓塞", "肺栓塞症"]),
    ("pericardial_effusion", None, &["pericardial fluid", "심낭 삼출", "tràn dịch màng tim", "心包积血"]),
    ("pericardial_effusion", CRITICAL, &["cardiac tamponade", "pericardial tamponade", "tamponade", "심장눌림증",
        "심낭압전", "심장압전", "chèn ép tim", "心包填塞", "心脏压塞", "心包压塞"]),
    ("pneumomediastinum", None, &["mediastinal emphysema", "mediastinal air", "air in the mediastinum",
        "종격동기종", "tràn khí trung thất", "纵隔积气"]),
    ("pleural_effusion", None, &["pleural fluid", "hydrothorax", "흉막삼출", "흉막 삼출", "dịch màng phổi", "胸水"]),
    ("pleural_effusion", URGENT, &["hemothorax", "haemothorax", "hemopneumothorax", "haemopneumothorax", "empyema",
        "혈흉", "농흉", "tràn máu màng phổi", "mủ màng phổi", "血胸", "脓胸"]),
    ("pulmonary_edema", None, &["pulmonary oedema", "lung edema", "폐 부종", "phù phổi cấp", "急性肺水肿"]),
    ("pneumonia", None, &["bronchopneumonia", "lobar pneumonia", "viêm phế quản phổi", "支气管肺炎"]),
    ("consolidation", None, &["airspace consolidation", "lobar consolidation", "lung consolidation", "폐 경화"]),
    ("atelectasis", None, &["collapse of lung", "lobar collapse", "lung collapse", "무기 폐"]),
    ("cardiomegaly", None, &["enlarged heart", "cardiac enlargement", "enlarged cardiac silhouette", "bóng tim to", "心影增大"]),
    ("nodule", None, &["pulmonary nodule", "lung nodule", "solitary pulmonary nodule", "폐결절", "nốt phổi", "肺结节"]),
    ("mass", None, &["lung mass", "pulmonary mass", "폐종괴", "khối u phổi", "肺肿块"]),
    ("tuberculosis", None, &["tuberculosis", "결핵", "lao", "结核"]),
    ("rib_fracture", None, &["rib fracture", "rib fractures", "fractured rib", "fractured ribs"]),
    ("skull_fracture", None, &["skull fracture", "calvarial fracture", "skull base fracture", "fractured skull",
        "두개골골절", "두개저 골절", "nứt sọ", "颅底骨折"]),
    ("fracture", None, &["fracture", "fractures", "fractured", "broken bone"]),
    ("intracranial_hemorrhage", None, &["intracranial haemorrhage", "intracranial bleed", "intracranial bleeding",
        "brain bleed", "epidural hematoma", "epidural haematoma", "epidural hemorrhage", "epidural haemorrhage",
        "extradural hematoma", "extradural haematoma", "intraventricular hemorrhage", "intraventricular haemorrhage",
        "intracranial hematoma", "intracranial haematoma", "두개내 출혈", "경막외출혈", "경막외 출혈", "경막외혈종",
        "경막외 혈종", "뇌실내출혈", "tụ máu ngoài màng cứng", "tụ máu nội sọ", "xuất huyết não thất", "硬膜外血肿",
        "脑室出血", "颅内血肿"]),
    ("subdural_hemorrhage", None, &["subdural hematoma", "subdural haematoma", "subdural haemorrhage", "sdh",
        "경막하 출혈", "경막하혈종", "경막하 혈종", "tụ máu dưới màng cứng", "硬膜下血肿"]),
    ("subarachnoid_hemorrhage", None, &["subarachnoid haemorrhage", "subarachnoid blood", "sah", "지주막하 출혈",
        "거미막하출혈", "거미막하 출혈", "xuất huyết khoang dưới nhện", "蛛网膜下出血"]),
    ("cerebral_hemorrhage", None, &["cerebral haemorrhage", "intracerebral hemorrhage", "intracerebral haemorrhage",
        "intraparenchymal hemorrhage", "intraparenchymal haemorrhage", "intracerebral hematoma",
        "intracerebral haematoma", "cerebellar hemorrhage", "cerebellar haemorrhage", "뇌내출혈", "뇌내 출혈",
        "뇌실질출혈", "xuất huyết trong não", "xuất huyết nhu mô não", "脑内出血", "脑实质出血", "脑内血肿"]),
    ("cerebral_infarction", None, &["cerebral infarct", "brain infarct", "brain infarction", "acute infarct",
        "acute infarction", "ischemic stroke", "ischaemic stroke", "acute ischemia", "acute ischaemia", "급성 경색",
        "허혈성 뇌졸중", "nhồi máu não cấp", "đột quỵ thiếu máu", "脑梗塞", "缺血性脑卒中", "缺血性卒中"]),
    ("midline_shift", None, &["shift of the midline", "brain herniation", "uncal herniation", "tonsillar herniation",
        "중심선 이동", "뇌탈출", "lệch đường giữa", "thoát vị não", "中线偏移", "脑疝"]),
    ("hydrocephalus", None, &["수두 증", "giãn não thất", "脑室积水"]),
    ("appendicitis", None, &["inflamed appendix", "맹장염", "viêm ruột thừa cấp", "急性阑尾炎"]),
    ("cholecystitis", None, &["담낭염증", "viêm túi mật cấp", "急性胆囊炎"]),
    ("pancreatitis", None, &["급성 췌장염", "viêm tụy cấp", "急性胰腺炎"]),
    ("intestinal_obstruction", None, &["bowel obstruction", "small bowel obstruction", "large bowel obstruction",
        "ileus", "volvulus", "장 폐색", "장염전", "tắc ruột non", "xoắn ruột", "小肠梗阻", "肠扭转"]),
    ("hydronephrosis", None, &["수신 증", "giãn đài bể thận", "肾盂积水"]),
    ("dvt", None, &["dvt", "deep vein thrombosis", "심부 정맥 혈전증", "심부정맥 혈전증", "huyết khối tĩnh mạch", "深静脉血栓"]),
    ("testicular_torsion", None, &["torsion of the testis", "testis torsion", "torsion of the testicle",
        "torsion of the spermatic cord", "고환염전", "睾丸扭转症"]),
    ("ectopic_pregnancy", None, &["extrauterine pregnancy", "tubal pregnancy", "자궁 외 임신", "난관임신",
        "chửa ngoài tử cung", "宫外孕", "输卵管妊娠"]),
    ("myocardial_infarction", None, &["myocardial infarct", "myocardial scar", "심근 경색", "nhồi máu cơ tim cũ", "心肌梗塞"]),
    ("myocardial_ischemia", None, &["myocardial ischaemia", "ischemic myocardium", "심근 허혈"]),
    ("lymphadenopathy", None, &["adenopathy", "enlarged lymph nodes", "enlarged lymph node", "림프절 비대", "림프절 종대",
        "hạch to", "淋巴结增大"]),
    ("pseudoaneurysm", None, &["false aneurysm", "pseudo aneurysm", "거짓동맥류", "가성 동맥류", "túi giả phình"]),
    ("arterial_stenosis", None, &["arterial stenosis", "artery stenosis", "stenosis of the artery", "동맥 협착", "동맥협착", "hẹp động mạch", "动脉狭窄"]),
    ("breast_mass", None, &["breast mass", "mass of the breast", "유방종괴", "khối u vú", "khối vú", "乳房肿块"]),
    ("bleeding", None, &["active bleeding", "active extravasation", "contrast extravasation", "활동성 출혈", "chảy máu hoạt động", "活动性出血"]),
    ("dental_caries", None, &["caries", "carious lesion", "tooth decay", "충치", "龋病"]),
    ("periodontitis", None, &["periodontal bone loss", "alveolar bone loss", "치조골 흡수", "tiêu xương ổ răng", "牙槽骨吸收"]),
    ("retinal_detachment", None, &["detached retina", "망막 박리", "视网膜剥离"]),
];

/// Names of a form and no organ: a longer name that only holds one of them is another finding
/// ("liver mass"). The other words for them have the organ ("lung mass").
const FORMS: [&str; 10] = [
    "nodule",
    "mass",
    "opacity",
    "metastasis",
    "edema",
    "brain_neoplasm",
    "arterial_aneurysm",
    "infiltrate",
    "arterial_stenosis",
    "bleeding",
];

/// The row whose words `name` is, or holds, and the urgency that the words ask for. The longest
/// words win: "subdural hematoma" is no hematoma of somewhere.
pub fn find(name: &str) -> Option<(&'static Row, Option<Urgency>)> {
    let found = all().filter(|(key, _, word)| is_meant(name, key, word));
    let (key, urgency, _) = found.max_by_key(|(_, urgency, word)| (length(word), *urgency))?;
    Some((codes::find(key)?, urgency))
}

/// Whether any word for this row stands in `text`, by `says`.
pub fn any(row: &Row, says: impl Fn(&str) -> bool) -> bool {
    all().any(|(key, _, word)| key == row.key && says(word))
}

/// Each word of each key of the table.
fn all() -> impl Iterator<Item = (&'static str, Option<Urgency>, &'static str)> {
    let names = names::FINDINGS.iter().flat_map(|(key, en, ko, vi, zh)| {
        [*en, *ko, *vi, *zh].map(|word| (*key, None::<Urgency>, word))
    });
    let others = TERMS
        .iter()
        .flat_map(|(key, urgency, words)| words.iter().map(move |word| (*key, *urgency, *word)));
    names.chain(others).filter(|(.., word)| !word.is_empty())
}

fn is_meant(name: &str, key: &str, word: &str) -> bool {
    let is_name = names::FINDINGS
        .iter()
        .any(|(of, en, ko, vi, zh)| *of == key && [en, ko, vi, zh].contains(&&word));
    match is_name && FORMS.contains(&key) {
        true => words::tokens(name) == words::tokens(word),
        false => words::has(name, word),
    }
}

/// A character of Korean or Chinese says as much as a few of the others.
fn length(word: &str) -> usize {
    word.chars().map(|c| if crate::domain::identity::is_cjk(c) { 4 } else { 1 }).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_in_a_models_own_words_is_the_one_of_the_table() {
        for (name, key, urgency) in [
            ("Aortic dissection", "aortic_dissection", Urgency::Critical),
            ("free air under the diaphragm", "pneumoperitoneum", Urgency::Critical),
            ("Small left apical pneumothorax", "pneumothorax", Urgency::Urgent),
            ("Tension pneumothorax", "pneumothorax", Urgency::Critical),
            ("Subdural haematoma, right", "subdural_hemorrhage", Urgency::Critical),
            ("Fractured ribs 5 to 7", "rib_fracture", Urgency::Routine),
            ("Cardiac tamponade", "pericardial_effusion", Urgency::Critical),
            ("긴장성 기흉", "pneumothorax", Urgency::Critical),
            ("대동맥 박리", "aortic_dissection", Urgency::Critical),
            ("우측 기흉", "pneumothorax", Urgency::Urgent),
            ("Liềm hơi dưới cơ hoành", "pneumoperitoneum", Urgency::Critical),
            ("Bóc tách động mạch chủ type A", "aortic_dissection", Urgency::Critical),
            ("膈下游离气体", "pneumoperitoneum", Urgency::Critical),
            ("右侧硬膜下血肿", "subdural_hemorrhage", Urgency::Critical),
            ("肺栓塞", "pulmonary_embolism", Urgency::Critical),
        ] {
            let (row, raised) = find(name).unwrap_or_else(|| panic!("{name}"));
            let meant = raised.map_or(row.urgency, |raised| raised.max(row.urgency));
            assert_eq!((row.key.as_str(), meant), (key, urgency), "{name}");
        }
    }

    #[test]
    fn what_only_holds_a_form_is_another_finding() {
        for name in ["Liver mass", "Scoliosis", "Soft tissue edema", "Surgical clips", ""] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn every_word_is_of_a_key_of_the_table() {
        for (key, ..) in TERMS {
            assert!(codes::find(key).is_some(), "{key}");
        }
    }
}
