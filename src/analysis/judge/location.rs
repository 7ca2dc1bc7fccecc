//! The place of a finding in the words of a model: "right lower lobe". Coded where DICOM's context
//! groups have a code (PS3.16 CID 6124, 6020, 4031, 7151, 3604, 3015); the words stand beside it.

use crate::analysis::words;
use crate::domain::code::Code;
use crate::domain::finding::Laterality;

/// Site of the table; SNOMED CT code and meaning; words in the four languages.
type Place = (&'static str, &'static str, &'static str, &'static [&'static str]);

/// The first that fits counts: "right upper quadrant" before "upper".
#[rustfmt::skip]
const PLACES: &[Place] = &[
    ("lung", "72481006", "Middle lobe of right lung", &["middle lobe", "rml", "중엽", "thùy giữa", "中叶"]),
    ("lung", "45653009", "Upper lobe of lung", &["upper lobe", "rul", "lul", "상엽", "thùy trên", "上叶"]),
    ("lung", "90572001", "Lower lobe of lung", &["lower lobe", "rll", "lll", "하엽", "thùy dưới", "下叶"]),
    ("lung", "86598002", "Apex of Lung", &["apex", "apical", "apices", "폐첨", "폐첨부", "đỉnh phổi", "肺尖"]),
    ("lung", "46750007", "Hilum of lung", &["hilum", "hilar", "perihilar", "폐문", "rốn phổi", "肺门"]),
    ("breast", "76365002", "Upper outer quadrant of breast", &["upper outer", "상외측", "trên ngoài", "外上象限"]),
    ("breast", "77831004", "Upper inner quadrant of breast", &["upper inner", "상내측", "trên trong", "内上象限"]),
    ("breast", "33564002", "Lower outer quadrant of breast", &["lower outer", "하외측", "dưới ngoài", "外下象限"]),
    ("breast", "19100000", "Lower inner quadrant of breast", &["lower inner", "하내측", "dưới trong", "内下象限"]),
    ("brain", "83251001", "Frontal lobe", &["frontal lobe", "frontal", "전두엽", "thùy trán", "额叶"]),
    ("brain", "16630005", "Parietal lobe", &["parietal lobe", "parietal", "두정엽", "thùy đỉnh", "顶叶"]),
    ("brain", "78277001", "Temporal lobe", &["temporal lobe", "temporal", "측두엽", "thùy thái dương", "颞叶"]),
    ("brain", "31065004", "Occipital lobe", &["occipital lobe", "occipital", "후두엽", "thùy chẩm", "枕叶"]),
    ("brain", "113305005", "Cerebellum", &["cerebellum", "cerebellar", "소뇌", "tiểu não", "小脑"]),
    ("brain", "42695009", "Thalamus", &["thalamus", "thalamic", "시상", "đồi thị", "丘脑"]),
    ("peritoneum", "50519007", "Right upper quadrant of abdomen", &["right upper quadrant", "ruq", "우상복부", "右上腹"]),
    ("peritoneum", "86367003", "Left upper quadrant of abdomen", &["left upper quadrant", "luq", "좌상복부", "左上腹"]),
    ("peritoneum", "48544008", "Right lower quadrant of abdomen", &["right lower quadrant", "rlq", "우하복부", "右下腹"]),
    ("peritoneum", "68505006", "Left lower quadrant of abdomen", &["left lower quadrant", "llq", "좌하복부", "左下腹"]),
    ("artery", "86117002", "Internal carotid artery", &["internal carotid", "속목동맥", "내경동맥", "cảnh trong", "颈内动脉"]),
    ("artery", "32062004", "Common carotid artery", &["common carotid", "온목동맥", "총경동맥", "cảnh chung", "颈总动脉"]),
    ("artery", "17232002", "Middle cerebral artery", &["middle cerebral", "mca", "중대뇌동맥", "não giữa", "大脑中动脉"]),
    ("artery", "60176003", "Anterior cerebral artery", &["anterior cerebral", "전대뇌동맥", "não trước", "大脑前动脉"]),
    ("artery", "70382005", "Posterior cerebral artery", &["posterior cerebral", "후대뇌동맥", "não sau", "大脑后动脉"]),
    ("artery", "59011009", "Basilar artery", &["basilar", "뇌바닥동맥", "기저동맥", "thân nền", "基底动脉"]),
    ("artery", "85234005", "Vertebral artery", &["vertebral artery", "척추동맥", "động mạch đốt sống", "椎动脉"]),
    ("artery", "3227004", "Left main coronary artery", &["left main", "좌주간부", "thân chung", "左主干"]),
    ("artery", "59438005", "Left anterior descending coronary artery", &["left anterior descending", "lad", "좌전하행", "liên thất trước", "前降支"]),
    ("artery", "57396003", "Circumflex coronary artery", &["circumflex", "lcx", "좌회선", "động mạch mũ", "回旋支"]),
    ("artery", "13647002", "Right coronary artery", &["right coronary", "rca", "우관상동맥", "vành phải", "右冠状动脉"]),
    ("artery", "36765005", "Subclavian artery", &["subclavian", "쇄골하동맥", "dưới đòn", "锁骨下动脉"]),
    ("artery", "2841007", "Renal artery", &["renal artery", "신동맥", "콩팥동맥", "động mạch thận", "肾动脉"]),
    ("artery", "42258001", "Superior mesenteric artery", &["superior mesenteric", "sma", "상장간막동맥", "mạc treo tràng trên", "肠系膜上动脉"]),
    ("artery", "73634005", "Common iliac artery", &["common iliac", "총장골동맥", "온엉덩동맥", "chậu chung", "髂总动脉"]),
    ("artery", "181347005", "Common femoral artery", &["common femoral", "총대퇴동맥", "온넙다리동맥", "đùi chung", "股总动脉"]),
    ("artery", "181349008", "Superficial femoral artery", &["superficial femoral", "sfa", "표재대퇴동맥", "đùi nông", "股浅动脉"]),
    ("artery", "43899006", "Popliteal artery", &["popliteal", "슬와동맥", "오금동맥", "động mạch khoeo", "腘动脉"]),
    ("leg vein", "244411005", "Iliac vein", &["iliac vein", "iliac veins", "장골정맥", "tĩnh mạch chậu", "髂静脉"]),
    ("leg vein", "83419000", "Femoral vein", &["femoral vein", "femoral veins", "대퇴정맥", "tĩnh mạch đùi", "股静脉"]),
    ("leg vein", "56849005", "Popliteal vein", &["popliteal", "슬와정맥", "오금정맥", "tĩnh mạch khoeo", "腘静脉"]),
    ("thyroid", "29565003", "Right lobe of thyroid", &["right lobe", "우엽", "thùy phải", "右叶"]),
    ("thyroid", "79163004", "Left lobe of thyroid", &["left lobe", "좌엽", "thùy trái", "左叶"]),
    ("thyroid", "40867004", "Thyroid isthmus", &["isthmus", "협부", "eo tuyến giáp", "峡部"]),
    ("heart", "87878005", "Left ventricle", &["left ventricle", "lv", "좌심실", "thất trái", "左心室"]),
    ("heart", "53085002", "Right ventricle", &["right ventricle", "rv", "우심실", "thất phải", "右心室"]),
    ("heart", "589001", "Interventricular septum", &["septum", "septal", "심실중격", "vách liên thất", "室间隔"]),
    ("bone", "71341001", "Femur", &["femur", "femoral", "대퇴골", "xương đùi", "股骨"]),
    ("bone", "85050009", "Humerus", &["humerus", "humeral", "상완골", "xương cánh tay", "肱骨"]),
    ("bone", "62413002", "Radius", &["radius", "distal radial", "요골", "xương quay", "桡骨"]),
    ("bone", "23416004", "Ulna", &["ulna", "ulnar", "척골", "xương trụ", "尺骨"]),
    ("bone", "12611008", "Tibia", &["tibia", "tibial", "경골", "xương chày", "胫骨"]),
    ("bone", "87342007", "Fibula", &["fibula", "fibular", "비골", "xương mác", "腓骨"]),
    ("bone", "51299004", "Clavicle", &["clavicle", "쇄골", "xương đòn", "锁骨"]),
    ("bone", "79601000", "Scapula", &["scapula", "견갑골", "xương bả vai", "肩胛骨"]),
    ("bone", "30518006", "Scaphoid", &["scaphoid", "주상골", "xương thuyền", "舟骨"]),
    ("bone", "64234005", "Patella", &["patella", "슬개골", "xương bánh chè", "髌骨"]),
    ("bone", "54735007", "Sacrum", &["sacrum", "sacral", "천골", "xương cùng", "骶骨"]),
    ("bone", "56873002", "Sternum", &["sternum", "sternal", "흉골", "xương ức", "胸骨"]),
];

/// - `site`: of the finding's row.
/// - Returns a code only where the words name one place: "right upper and lower lobe" has none.
pub fn coded(site: &str, location: &str) -> Option<Code> {
    let fits = |(of, _, _, phrases): &&Place| *of == site && words::has_any(location, phrases);
    let mut found = PLACES.iter().filter(fits);
    let (_, value, meaning, _) = found.next()?;
    found.next().is_none().then(|| Code::new(value, "SCT", meaning))
}

/// The one side that the words name, or both.
pub fn side(location: &str) -> Option<Laterality> {
    const LEFT: [&str; 13] = [
        "left",
        "lul",
        "lll",
        "왼쪽",
        "좌측",
        "좌상엽",
        "좌하엽",
        "좌엽",
        "좌폐",
        "좌전하행",
        "trái",
        "左",
        "좌회선",
    ];
    const RIGHT: [&str; 13] = [
        "right",
        "rul",
        "rml",
        "rll",
        "오른쪽",
        "우측",
        "우상엽",
        "우중엽",
        "우하엽",
        "우엽",
        "우폐",
        "phải",
        "右",
    ];
    const BOTH: [&str; 9] =
        ["bilateral", "both", "양측", "양쪽", "양폐", "hai bên", "双侧", "两侧", "双肺"];
    if words::has_any(location, &BOTH) {
        return Some(Laterality::Bilateral);
    }
    match (words::has_any(location, &LEFT), words::has_any(location, &RIGHT)) {
        (true, false) => Some(Laterality::Left),
        (false, true) => Some(Laterality::Right),
        (true, true) | (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lobe_or_a_quadrant_has_its_code_and_two_have_none() {
        for (site, location, code, expected) in [
            ("lung", "right lower lobe, posterior", Some("90572001"), Some(Laterality::Right)),
            ("lung", "left apex", Some("86598002"), Some(Laterality::Left)),
            ("lung", "RML", Some("72481006"), Some(Laterality::Right)),
            ("lung", "upper lobe and lower lobe", None, None),
            ("lung", "우측 하엽", Some("90572001"), Some(Laterality::Right)),
            ("lung", "左肺上叶", Some("45653009"), Some(Laterality::Left)),
            ("lung", "thùy dưới phổi phải", Some("90572001"), Some(Laterality::Right)),
            ("breast", "upper outer quadrant, left", Some("76365002"), Some(Laterality::Left)),
            ("brain", "frontal lobe", Some("83251001"), None),
            ("peritoneum", "RLQ", Some("48544008"), None),
            ("liver", "segment 7", None, None),
            ("lung", "", None, None),
        ] {
            let found = super::coded(site, location);
            assert_eq!(found.as_ref().map(|code| code.value.as_str()), code, "{location}");
            assert_eq!(side(location), expected, "{location}");
        }
    }
}
