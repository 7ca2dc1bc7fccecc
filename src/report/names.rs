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
