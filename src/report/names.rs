//! Names of findings, sites and measured things in the languages of the reports.
//!
//! Codes and English meanings come from the finding. Where the table has no word (an empty field),
//! the report shows the English one and says so.

use crate::domain::code::Code;
use crate::domain::names;
use crate::domain::names::FINDINGS;
use crate::report::words::Language;

type Row = names::Name;

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
    ("72481006", "middle lobe of right lung", "우폐 중엽", "thùy giữa phổi phải", "右肺中叶"),
    ("45653009", "upper lobe of lung", "폐 상엽", "thùy trên phổi", "肺上叶"),
    ("90572001", "lower lobe of lung", "폐 하엽", "thùy dưới phổi", "肺下叶"),
    ("86598002", "apex of lung", "폐첨", "đỉnh phổi", "肺尖"),
    ("76365002", "upper outer quadrant of breast", "유방 상외측 사분면", "góc phần tư trên ngoài của vú", "乳腺外上象限"),
    ("77831004", "upper inner quadrant of breast", "유방 상내측 사분면", "góc phần tư trên trong của vú", "乳腺内上象限"),
    ("33564002", "lower outer quadrant of breast", "유방 하외측 사분면", "góc phần tư dưới ngoài của vú", "乳腺外下象限"),
    ("19100000", "lower inner quadrant of breast", "유방 하내측 사분면", "góc phần tư dưới trong của vú", "乳腺内下象限"),
    ("83251001", "frontal lobe", "전두엽", "thùy trán", "额叶"),
    ("16630005", "parietal lobe", "두정엽", "thùy đỉnh", "顶叶"),
    ("78277001", "temporal lobe", "측두엽", "thùy thái dương", "颞叶"),
    ("31065004", "occipital lobe", "후두엽", "thùy chẩm", "枕叶"),
    ("113305005", "cerebellum", "소뇌", "tiểu não", "小脑"),
    ("42695009", "thalamus", "시상", "đồi thị", "丘脑"),
    ("50519007", "right upper quadrant of abdomen", "우상복부", "góc phần tư trên phải của bụng", "右上腹"),
    ("86367003", "left upper quadrant of abdomen", "좌상복부", "góc phần tư trên trái của bụng", "左上腹"),
    ("48544008", "right lower quadrant of abdomen", "우하복부", "góc phần tư dưới phải của bụng", "右下腹"),
    ("68505006", "left lower quadrant of abdomen", "좌하복부", "góc phần tư dưới trái của bụng", "左下腹"),
    ("86117002", "internal carotid artery", "속목동맥", "động mạch cảnh trong", "颈内动脉"),
    ("32062004", "common carotid artery", "온목동맥", "động mạch cảnh chung", "颈总动脉"),
    ("17232002", "middle cerebral artery", "중대뇌동맥", "động mạch não giữa", "大脑中动脉"),
    ("60176003", "anterior cerebral artery", "전대뇌동맥", "động mạch não trước", "大脑前动脉"),
    ("70382005", "posterior cerebral artery", "후대뇌동맥", "động mạch não sau", "大脑后动脉"),
    ("59011009", "basilar artery", "뇌바닥동맥", "động mạch thân nền", "基底动脉"),
    ("85234005", "vertebral artery", "척추동맥", "động mạch đốt sống", "椎动脉"),
    ("3227004", "left main coronary artery", "좌주간부 관상동맥", "thân chung động mạch vành trái", "左冠状动脉主干"),
    ("59438005", "left anterior descending coronary artery", "좌전하행 관상동맥", "động mạch liên thất trước", "左前降支"),
    ("57396003", "circumflex coronary artery", "좌회선 관상동맥", "động mạch mũ", "左回旋支"),
    ("13647002", "right coronary artery", "우관상동맥", "động mạch vành phải", "右冠状动脉"),
    ("36765005", "subclavian artery", "쇄골하동맥", "động mạch dưới đòn", "锁骨下动脉"),
    ("2841007", "renal artery", "신동맥", "động mạch thận", "肾动脉"),
    ("42258001", "superior mesenteric artery", "상장간막동맥", "động mạch mạc treo tràng trên", "肠系膜上动脉"),
    ("73634005", "common iliac artery", "총장골동맥", "động mạch chậu chung", "髂总动脉"),
    ("181347005", "common femoral artery", "총대퇴동맥", "động mạch đùi chung", "股总动脉"),
    ("181349008", "superficial femoral artery", "표재대퇴동맥", "động mạch đùi nông", "股浅动脉"),
    ("43899006", "popliteal artery", "슬와동맥", "động mạch khoeo", "腘动脉"),
    ("244411005", "iliac vein", "장골정맥", "tĩnh mạch chậu", "髂静脉"),
    ("83419000", "femoral vein", "대퇴정맥", "tĩnh mạch đùi", "股静脉"),
    ("56849005", "popliteal vein", "슬와정맥", "tĩnh mạch khoeo", "腘静脉"),
    ("29565003", "right lobe of thyroid", "갑상선 우엽", "thùy phải tuyến giáp", "甲状腺右叶"),
    ("79163004", "left lobe of thyroid", "갑상선 좌엽", "thùy trái tuyến giáp", "甲状腺左叶"),
    ("40867004", "thyroid isthmus", "갑상선 협부", "eo tuyến giáp", "甲状腺峡部"),
    ("87878005", "left ventricle", "좌심실", "thất trái", "左心室"),
    ("53085002", "right ventricle", "우심실", "thất phải", "右心室"),
    ("589001", "interventricular septum", "심실중격", "vách liên thất", "室间隔"),
    ("71341001", "femur", "대퇴골", "xương đùi", "股骨"),
    ("85050009", "humerus", "상완골", "xương cánh tay", "肱骨"),
    ("62413002", "radius", "요골", "xương quay", "桡骨"),
    ("23416004", "ulna", "척골", "xương trụ", "尺骨"),
    ("12611008", "tibia", "경골", "xương chày", "胫骨"),
    ("87342007", "fibula", "비골", "xương mác", "腓骨"),
    ("51299004", "clavicle", "쇄골", "xương đòn", "锁骨"),
    ("79601000", "scapula", "견갑골", "xương bả vai", "肩胛骨"),
    ("30518006", "scaphoid", "주상골", "xương thuyền", "舟骨"),
    ("64234005", "patella", "슬개골", "xương bánh chè", "髌骨"),
    ("54735007", "sacrum", "천골", "xương cùng", "骶骨"),
    ("56873002", "sternum", "흉골", "xương ức", "胸骨"),
    ("59441001", "lymph node", "림프절", "hạch bạch huyết", "淋巴结"),
    ("51114001", "artery", "동맥", "động mạch", "动脉"),
    ("38199008", "tooth", "치아", "răng", "牙"),
    ("661005", "jaw region", "턱", "vùng hàm", "颌部"),
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
