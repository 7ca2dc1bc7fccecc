//! Names of findings, sites and measured things in the languages of the reports.
//!
//! Codes and English meanings come from the finding; here are only other words for the same
//! key. Where this table has no word (an empty field), the report shows the English one and says
//! so. Source: the terms of the radiological societies' glossaries as commonly printed.

use crate::domain::code::Code;
use crate::report::words::Language;

/// Key of `finding-codes.csv`; English; Korean; Vietnamese; Chinese (simplified).
type Row = (&'static str, &'static str, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const FINDINGS: &[Row] = &[
    ("pneumothorax", "Pneumothorax", "기흉", "Tràn khí màng phổi", "气胸"),
    ("pleural_effusion", "Pleural effusion", "흉수", "Tràn dịch màng phổi", "胸腔积液"),
    ("pneumonia", "Pneumonia", "폐렴", "Viêm phổi", "肺炎"),
    ("consolidation", "Consolidation of lung", "폐경화", "Đông đặc phổi", "肺实变"),
    ("atelectasis", "Atelectasis", "무기폐", "Xẹp phổi", "肺不张"),
    ("platelike_atelectasis", "Plate-like atelectasis", "판상 무기폐", "Xẹp phổi dạng đĩa", "盘状肺不张"),
    ("pulmonary_edema", "Pulmonary edema", "폐부종", "Phù phổi", "肺水肿"),
    ("cardiomegaly", "Cardiomegaly", "심비대", "Tim to", "心脏增大"),
    ("nodule", "Nodule", "결절", "Nốt", "结节"),
    ("pulmonary_nodule_disorder", "Pulmonary nodule (disorder)", "폐결절", "Nốt phổi", "肺结节"),
    ("solitary_lung_nodule", "Solitary nodule of lung", "고립성 폐결절", "Nốt phổi đơn độc", "孤立性肺结节"),
    ("mass", "Mass", "종괴", "Khối", "肿块"),
    ("hilar_mass", "Hilar mass", "폐문부 종괴", "Khối rốn phổi", "肺门肿块"),
    ("lung_cancer", "Lung cancer", "폐암", "Ung thư phổi", "肺癌"),
    ("pulmonary_metastasis", "Pulmonary metastasis", "폐전이", "Di căn phổi", "肺转移"),
    ("opacity", "Opacity", "음영 증가", "Đám mờ", "密度增高影"),
    ("infiltrate", "Infiltrate", "침윤", "Thâm nhiễm", "浸润"),
    ("ground_glass_opacity", "Ground glass opacity", "간유리음영", "Tổn thương kính mờ", "磨玻璃影"),
    ("tree_in_bud", "Tree-in-bud sign", "", "", "树芽征"),
    ("honeycomb", "Honeycomb pattern", "벌집 모양", "Hình ảnh tổ ong", "蜂窝影"),
    ("cavity_air_fluid_level", "Air-fluid level", "공기액체층", "Mức khí dịch", "气液平面"),
    ("miliary_pattern", "Miliary pattern", "속립성 양상", "Tổn thương dạng kê", "粟粒样改变"),
    ("air_trapping", "Air-trapping", "", "Bẫy khí", "空气潴留"),
    ("emphysema", "Pulmonary emphysema", "폐기종", "Khí phế thũng", "肺气肿"),
    ("interstitial_lung_disease", "Interstitial lung disease", "간질성 폐질환", "Bệnh phổi kẽ", "间质性肺疾病"),
    ("pulmonary_fibrosis", "Pulmonary fibrosis", "폐섬유증", "Xơ phổi", "肺纤维化"),
    ("bronchiectasis", "Bronchiectasis", "기관지확장증", "Giãn phế quản", "支气管扩张"),
    ("tuberculosis", "Pulmonary tuberculosis", "폐결핵", "Lao phổi", "肺结核"),
    ("pneumomediastinum", "Pneumomediastinum", "종격동 기종", "Tràn khí trung thất", "纵隔气肿"),
    ("pulmonary_embolism", "Pulmonary embolism", "폐색전증", "Thuyên tắc phổi", "肺栓塞"),
    ("aortic_dissection", "Aortic dissection", "대동맥박리", "Bóc tách động mạch chủ", "主动脉夹层"),
    ("aortic_aneurysm", "Aortic aneurysm", "대동맥류", "Phình động mạch chủ", "主动脉瘤"),
    ("pericardial_effusion", "Pericardial effusion", "심낭삼출", "Tràn dịch màng ngoài tim", "心包积液"),
    ("rib_fracture", "Fracture of rib", "늑골 골절", "Gãy xương sườn", "肋骨骨折"),
    ("fracture", "Fracture of bone", "골절", "Gãy xương", "骨折"),
    ("bone_metastasis", "Bony metastasis", "골전이", "Di căn xương", "骨转移"),
    ("ett", "Endotracheal tube", "기관내관", "Ống nội khí quản", "气管导管"),
    ("central_line", "Central line", "중심정맥관", "Ống thông tĩnh mạch trung tâm", "中心静脉导管"),
    ("chest_tube", "Chest tube", "흉관", "Ống dẫn lưu màng phổi", "胸腔引流管"),
    ("feeding_tube", "Feeding tube", "영양관", "Ống nuôi ăn", "喂养管"),
    ("pacemaker", "Cardiac pacemaker", "심장박동조율기", "Máy tạo nhịp tim", "心脏起搏器"),
    ("intracranial_hemorrhage", "Intracranial hemorrhage", "두개내출혈", "Xuất huyết nội sọ", "颅内出血"),
    ("subdural_hemorrhage", "Subdural hemorrhage", "경막하출혈", "Xuất huyết dưới màng cứng", "硬膜下出血"),
    ("subarachnoid_hemorrhage", "Subarachnoid hemorrhage", "지주막하출혈", "Xuất huyết dưới nhện", "蛛网膜下腔出血"),
    ("cerebral_hemorrhage", "Cerebral hemorrhage", "뇌출혈", "Xuất huyết não", "脑出血"),
    ("stroke", "Cerebrovascular accident", "뇌졸중", "Đột quỵ", "脑卒中"),
    ("cerebral_infarction", "Cerebral infarction", "뇌경색", "Nhồi máu não", "脑梗死"),
    ("hydrocephalus", "Hydrocephalus", "수두증", "Não úng thủy", "脑积水"),
    ("midline_shift", "Midline shift", "중심선 편위", "Đẩy lệch đường giữa", "中线移位"),
    ("brain_neoplasm", "Neoplasm", "신생물", "U tân sinh", "肿瘤"),
    ("glioblastoma", "Glioblastoma", "교모세포종", "U nguyên bào thần kinh đệm", "胶质母细胞瘤"),
    ("metastasis", "Metastasis", "전이", "Di căn", "转移"),
    ("edema", "Edema", "부종", "Phù", "水肿"),
    ("arterial_aneurysm", "Arterial aneurysm", "동맥류", "Phình động mạch", "动脉瘤"),
    ("multiple_sclerosis", "Multiple sclerosis", "다발성 경화증", "Bệnh đa xơ cứng", "多发性硬化"),
    ("skull_fracture", "Fracture of skull", "두개골 골절", "Vỡ xương sọ", "颅骨骨折"),
    ("appendicitis", "Appendicitis", "충수염", "Viêm ruột thừa", "阑尾炎"),
    ("kidney_stone", "Kidney stone", "신결석", "Sỏi thận", "肾结石"),
    ("hydronephrosis", "Hydronephrosis", "수신증", "Thận ứ nước", "肾积水"),
    ("gallstone", "Gallstone", "담석", "Sỏi túi mật", "胆结石"),
    ("cholecystitis", "Cholecystitis", "담낭염", "Viêm túi mật", "胆囊炎"),
    ("intestinal_obstruction", "Intestinal obstruction", "장폐색", "Tắc ruột", "肠梗阻"),
    ("pancreatitis", "Pancreatitis", "췌장염", "Viêm tụy", "胰腺炎"),
    ("cirrhosis", "Cirrhosis of liver", "간경변증", "Xơ gan", "肝硬化"),
    ("steatosis", "Steatosis of liver", "지방간", "Gan nhiễm mỡ", "脂肪肝"),
    ("ascites", "Ascites", "복수", "Cổ trướng", "腹水"),
    ("aaa", "Abdominal aortic aneurysm", "복부대동맥류", "Phình động mạch chủ bụng", "腹主动脉瘤"),
    ("pneumoperitoneum", "Pneumoperitoneum", "기복증", "Tràn khí phúc mạc", "气腹"),
    ("dvt", "Deep venous thrombosis", "심부정맥혈전증", "Huyết khối tĩnh mạch sâu", "深静脉血栓形成"),
    ("thyroid_nodule", "Thyroid nodule", "갑상선 결절", "Nhân tuyến giáp", "甲状腺结节"),
    ("testicular_torsion", "Torsion of testis", "고환 염전", "Xoắn tinh hoàn", "睾丸扭转"),
    ("ectopic_pregnancy", "Ectopic pregnancy", "자궁외임신", "Thai ngoài tử cung", "异位妊娠"),
    ("breast_cyst", "Cyst of breast", "유방 낭종", "Nang vú", "乳腺囊肿"),
    ("breast_mass", "Mammographic breast mass", "유방 종괴", "Khối ở vú", "乳腺肿块"),
    ("calcification_cluster", "Calcification cluster", "군집성 석회화", "Cụm vôi hóa", "成簇钙化"),
    ("architectural_distortion", "Architectural distortion of breast", "유방 구조 왜곡", "Xáo trộn cấu trúc vú", "乳腺结构扭曲"),
    ("breast_asymmetry", "Asymmetric breast tissue", "유방 비대칭", "Bất đối xứng mô vú", "乳腺不对称"),
    ("focal_asymmetry", "Focal asymmetric breast tissue", "국소 유방 비대칭", "Bất đối xứng khu trú ở vú", "乳腺局灶性不对称"),
    ("axillary_adenopathy", "Axillary adenopathy", "액와 림프절 비대", "Hạch nách to", "腋窝淋巴结肿大"),
    ("birads_0", "Mammography assessment (Category 0)", "유방촬영 평가(범주 0)", "Đánh giá nhũ ảnh (loại 0)", "乳腺 X 线评估（0 类）"),
    ("birads_1", "Mammography assessment (Category 1)", "유방촬영 평가(범주 1)", "Đánh giá nhũ ảnh (loại 1)", "乳腺 X 线评估（1 类）"),
    ("birads_2", "Mammography assessment (Category 2)", "유방촬영 평가(범주 2)", "Đánh giá nhũ ảnh (loại 2)", "乳腺 X 线评估（2 类）"),
    ("birads_3", "Mammography assessment (Category 3)", "유방촬영 평가(범주 3)", "Đánh giá nhũ ảnh (loại 3)", "乳腺 X 线评估（3 类）"),
    ("birads_4", "Mammography assessment (Category 4)", "유방촬영 평가(범주 4)", "Đánh giá nhũ ảnh (loại 4)", "乳腺 X 线评估（4 类）"),
    ("birads_5", "Mammography assessment (Category 5)", "유방촬영 평가(범주 5)", "Đánh giá nhũ ảnh (loại 5)", "乳腺 X 线评估（5 类）"),
    ("diabetic_retinopathy", "Diabetic retinopathy", "당뇨망막병증", "Bệnh võng mạc đái tháo đường", "糖尿病视网膜病变"),
    ("proliferative_dr", "Proliferative diabetic retinopathy", "증식당뇨망막병증", "Bệnh võng mạc đái tháo đường tăng sinh", "增殖性糖尿病视网膜病变"),
    ("diabetic_macular_edema", "Diabetic macular edema", "당뇨황반부종", "Phù hoàng điểm do đái tháo đường", "糖尿病性黄斑水肿"),
    ("retinal_detachment", "Retinal detachment", "망막박리", "Bong võng mạc", "视网膜脱离"),
    ("mild_npdr", "Mild nonproliferative diabetic retinopathy", "경도 비증식당뇨망막병증", "Bệnh võng mạc đái tháo đường không tăng sinh nhẹ", "轻度非增殖性糖尿病视网膜病变"),
];

/// SNOMED CT code of a site; English; Korean; Vietnamese; Chinese (simplified).
#[rustfmt::skip]
const SITES: &[Row] = &[
    ("3120008", "pleura", "흉막", "màng phổi", "胸膜"),
    ("39607008", "lung", "폐", "phổi", "肺"),
    ("80891009", "heart", "심장", "tim", "心脏"),
    ("46750007", "hilum of lung", "폐문", "rốn phổi", "肺门"),
    ("955009", "bronchus", "기관지", "phế quản", "支气管"),
    ("72410000", "mediastinum", "종격동", "trung thất", "纵隔"),
    ("81040000", "pulmonary artery", "폐동맥", "động mạch phổi", "肺动脉"),
    ("15825003", "aorta", "대동맥", "động mạch chủ", "主动脉"),
    ("76848001", "pericardium", "심낭", "màng ngoài tim", "心包"),
    ("113197003", "rib", "늑골", "xương sườn", "肋骨"),
    ("272673000", "bone", "뼈", "xương", "骨"),
    ("44567001", "trachea", "기관", "khí quản", "气管"),
    ("816094009", "chest", "흉부", "ngực", "胸部"),
    ("32849002", "esophagus", "식도", "thực quản", "食管"),
    ("12738006", "brain", "뇌", "não", "脑"),
    ("69536005", "head", "머리", "đầu", "头部"),
    ("66754008", "appendix", "충수", "ruột thừa", "阑尾"),
    ("64033007", "kidney", "신장", "thận", "肾"),
    ("28231008", "gallbladder", "담낭", "túi mật", "胆囊"),
    ("15776009", "pancreas", "췌장", "tụy", "胰腺"),
    ("10200004", "liver", "간", "gan", "肝"),
    ("15425007", "peritoneum", "복막", "phúc mạc", "腹膜"),
    ("7832008", "abdominal aorta", "복부대동맥", "động mạch chủ bụng", "腹主动脉"),
    ("69748006", "thyroid", "갑상선", "tuyến giáp", "甲状腺"),
    ("40689003", "testis", "고환", "tinh hoàn", "睾丸"),
    ("35039007", "uterus", "자궁", "tử cung", "子宫"),
    ("76752008", "breast", "유방", "vú", "乳腺"),
    ("91470000", "axilla", "액와", "nách", "腋窝"),
    ("5665001", "retina", "망막", "võng mạc", "视网膜"),
];

/// What something is called in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// In the language of the report, or in English.
    pub text: String,
    /// The English name, when `text` is in another language.
    pub english: Option<String>,
    /// False when the report is not in English and no word of its language is known.
    pub translated: bool,
}

/// The name of a finding by key, else by its English name. `english` is what the finding or the
/// list of what was looked for says; it is kept, the table only adds the other language.
pub fn finding(key: &str, english: &str, language: Language) -> Name {
    let row = FINDINGS
        .iter()
        .find(|row| row.0 == key)
        .or_else(|| FINDINGS.iter().find(|row| row.1.eq_ignore_ascii_case(english.trim())));
    named(row.map(|row| word(row, language)).unwrap_or_default(), english, language)
}

/// The name of a site by its SNOMED CT code; in English the plain word instead of "… structure".
pub fn site(code: &Code, language: Language) -> Name {
    let row = SITES.iter().find(|row| code.scheme == "SCT" && row.0 == code.value);
    match (row, language) {
        (Some(row), Language::En) => named("", row.1, language),
        (Some(row), other) => named(word(row, other), row.1, other),
        (None, other) => named("", &code.meaning, other),
    }
}

fn word(row: &Row, language: Language) -> &'static str {
    match language {
        Language::En => "",
        Language::Ko => row.2,
        Language::Vi => row.3,
        Language::Zh => row.4,
    }
}

fn named(word: &str, english: &str, language: Language) -> Name {
    let english = english.to_owned();
    match word.is_empty() {
        true => Name { text: english, english: None, translated: language == Language::En },
        false => Name { text: word.into(), english: Some(english), translated: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_code_table_has_its_names() {
        let table = include_str!("../analysis/finding-codes.csv");
        let keys: Vec<(&str, &str)> = table
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(','))
            .map(|(key, rest)| (key, rest.split(',').next().unwrap()))
            .collect();
        assert_eq!(keys.len(), FINDINGS.len());
        for (key, display) in keys {
            let row = FINDINGS.iter().find(|row| row.0 == key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(row.1, display, "{key}");
        }
        let complete =
            FINDINGS.iter().filter(|r| [r.2, r.3, r.4].iter().all(|word| !word.is_empty())).count();
        assert!(complete >= 80, "{complete} findings have a name in all four languages");
    }

    #[test]
    fn a_finding_is_named_by_key_else_by_its_english_name_else_in_english() {
        let by_key = finding("pneumothorax", "Pneumothorax", Language::Ko);
        assert_eq!(
            (by_key.text.as_str(), by_key.english.as_deref()),
            ("기흉", Some("Pneumothorax"))
        );
        assert_eq!(finding("", "pleural effusion", Language::Vi).text, "Tràn dịch màng phổi");
        let own = finding("scoliosis", "Scoliosis", Language::Zh);
        assert_eq!(own, Name { text: "Scoliosis".into(), english: None, translated: false });
        assert!(finding("pneumonia", "Pneumonia", Language::En).translated);
    }

    #[test]
    fn a_site_is_named_by_its_code() {
        let lung = Code::new("39607008", "SCT", "Lung structure");
        assert_eq!(site(&lung, Language::En).text, "lung");
        assert_eq!(site(&lung, Language::Ko).text, "폐");
        let other = Code::new("1", "99X", "Elsewhere");
        assert_eq!(site(&other, Language::Ko).text, "Elsewhere");
    }
}
