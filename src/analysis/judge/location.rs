//! The place of a finding in the words of a model: "right lower lobe". Coded where DICOM's context
//! groups have a code (PS3.16 CID 6124, 6020, 4031, 7151); the words stand beside it.

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
    ("brain", "42695009", "Thalamus", &["thalamus", "thalamic", "đồi thị", "丘脑"]),
    ("peritoneum", "50519007", "Right upper quadrant of abdomen", &["right upper quadrant", "ruq", "우상복부", "右上腹"]),
    ("peritoneum", "86367003", "Left upper quadrant of abdomen", &["left upper quadrant", "luq", "좌상복부", "左上腹"]),
    ("peritoneum", "48544008", "Right lower quadrant of abdomen", &["right lower quadrant", "rlq", "우하복부", "右下腹"]),
    ("peritoneum", "68505006", "Left lower quadrant of abdomen", &["left lower quadrant", "llq", "좌하복부", "左下腹"]),
];

/// - `site`: of the finding's row.
/// - Returns a code only where the words name one place: "right upper and lower lobe" has none.
pub fn coded(site: &str, location: &str) -> Option<Code> {
    let fits = |(of, _, _, phrases): &&Place| *of == site && words::has_any(location, phrases);
    let mut found = PLACES.iter().filter(fits);
    let (_, value, meaning, _) = found.next()?;
    found.next().is_none().then(|| Code::new(value, "SCT", meaning))
}

/// The one side that the words name.
pub fn side(location: &str) -> Option<Laterality> {
    const LEFT: [&str; 7] = ["left", "lul", "lll", "왼쪽", "좌측", "trái", "左"];
    const RIGHT: [&str; 8] = ["right", "rul", "rml", "rll", "오른쪽", "우측", "phải", "右"];
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
