//! Where a finding can be seen: the table `finding x modality, area of the body, sex` beside the codes
//! of findings. What the images of a study cannot show is neither present nor absent on them,
//! whatever a model says: it is not assessed.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::analysis::plan;
use crate::analysis::words;
use crate::domain::context;
use crate::domain::profile::Profile;
use crate::domain::study::Instance;
use crate::domain::study::Study;

/// One row of `finding-places.csv`.
struct Place {
    key: &'static str,
    modalities: Vec<&'static str>,
    /// `any`: wherever it is looked for.
    areas: Vec<&'static str>,
    /// `M`, `F` or empty.
    sex: &'static str,
}

static PLACES: LazyLock<Vec<Place>> = LazyLock::new(|| {
    let lines = include_str!("finding-places.csv").lines().skip(1);
    let row = |line: &'static str| {
        let mut fields = line.split(',');
        let mut list = || fields.next().unwrap_or_default();
        let (key, modalities, areas, sex) = (list(), list(), list(), list());
        let words = |text: &'static str| text.split_whitespace().collect();
        Place { key, modalities: words(modalities), areas: words(areas), sex }
    };
    lines.map(row).collect()
});

/// What the images of a study show.
pub struct Shown {
    modalities: BTreeSet<&'static str>,
    /// `None`: not known, so nothing can be said.
    areas: Option<BTreeSet<&'static str>>,
    sex: String,
}

impl Shown {
    /// By Body Part Examined, else the descriptions, else the areas of the profile.
    pub fn of(study: &Study, profile: &Profile) -> Shown {
        let pictured = || study.instances.iter().filter(|instance| instance.has_pixels);
        let modalities = pictured().filter_map(|i| modality(&plan::effective_modality(i, study)));
        let known: Vec<Option<BTreeSet<&str>>> = pictured().map(|i| areas_of(i, study)).collect();
        let areas = match known.iter().all(Option::is_some) && !known.is_empty() {
            true => Some(known.into_iter().flatten().flatten().collect()),
            false if profile.areas.is_empty() => None,
            false => {
                let own = profile.areas.iter().filter_map(|own| area(own));
                Some(own.chain(known.into_iter().flatten().flatten()).collect())
            }
        };
        Shown { modalities: modalities.collect(), areas, sex: study.patient.sex.trim().to_owned() }
    }

    /// Whether a finding of this key can be seen on them. What the table does not know can be.
    pub fn can_have(&self, key: &str) -> bool {
        let Some(place) = place(key) else { return true };
        let in_area = place.areas.contains(&"any")
            || self
                .areas
                .as_ref()
                .is_none_or(|areas| place.areas.iter().any(|a| areas.contains(a)));
        in_area && self.is_of_kind(key)
    }

    /// Whether it can be seen on such images of such a patient, wherever it is.
    pub fn is_of_kind(&self, key: &str) -> bool {
        let Some(place) = place(key) else { return true };
        let by_modality = self.modalities.is_empty()
            || place.modalities.iter().any(|one| self.modalities.contains(one));
        by_modality && !matches!((place.sex, self.sex.as_str()), ("M", "F") | ("F", "M"))
    }
}

fn place(key: &str) -> Option<&'static Place> {
    PLACES.iter().find(|place| place.key == key)
}

/// The group of a modality (0008,0060) in the table; `None`: of a kind that it does not know.
fn modality(code: &str) -> Option<&'static str> {
    Some(match code {
        "CR" | "DX" | "RG" | "RF" | "IO" | "PX" => "XR",
        "XA" => "XA",
        "CT" => "CT",
        "MR" => "MR",
        "US" | "IVUS" => "US",
        "MG" => "MG",
        "NM" => "NM",
        "PT" => "PT",
        "OP" | "OPT" => "OP",
        _ => return None,
    })
}

/// All areas of the table, and those that hold none of its findings.
const AREAS: [&str; 20] = [
    "head",
    "eye",
    "face",
    "neck",
    "thyroid",
    "chest",
    "heart",
    "aorta",
    "breast",
    "axilla",
    "liver",
    "upper",
    "kidney",
    "bowel",
    "peritoneum",
    "uterus",
    "prostate",
    "scrotum",
    "arm",
    "leg",
];

fn area(name: &str) -> Option<&'static str> {
    AREAS.into_iter().find(|area| *area == name)
}

/// Whether a profile may name it.
pub fn is_area(name: &str) -> bool {
    area(name).is_some()
}

fn areas_of(instance: &Instance, study: &Study) -> Option<BTreeSet<&'static str>> {
    let modality = plan::effective_modality(instance, study);
    if ["IO", "PX"].contains(&modality.as_str()) {
        return Some(BTreeSet::from(["face"]));
    }
    let is_us = modality == "US";
    let own = context::body_part(&instance.body_part_examined);
    if let Some(areas) = own.and_then(|part| shown_on(part, is_us)) {
        return Some(areas.iter().copied().collect());
    }
    let text = plan::all_text(instance, study);
    let parts = words::tokens(&text)
        .into_iter()
        .filter_map(|word| shown_on(context::body_part(&word.to_uppercase())?, is_us));
    let found: BTreeSet<&str> = parts.flatten().copied().collect();
    (!found.is_empty()).then_some(found)
}

/// What images of a body part show whole enough to say that something is not there.
fn shown_on(part: &str, is_us: bool) -> Option<&'static [&'static str]> {
    const ABDOMEN: &[&str] =
        &["liver", "upper", "kidney", "aorta", "bowel", "peritoneum", "uterus"];
    let in_abdomen = |organ: &'static [&'static str]| if is_us { organ } else { ABDOMEN };
    Some(match part {
        "BRAIN" | "HEAD" | "SKULL" => &["head"],
        "EYE" | "ORBIT" | "RETINA" => &["eye"],
        "EAR" | "FACE" | "IAC" | "JAW" | "MANDIBLE" | "SINUS" => &["face"],
        "HEADNECK" => &["head", "neck", "thyroid"],
        "CAROTID" | "NECK" | "THYROID" => &["neck", "thyroid"],
        "CSPINE" => &["neck"],
        "BRONCHUS" | "CHEST" | "ESOPHAGUS" | "LUNG" | "RIB" | "STERNUM" | "THORAX" => {
            &["chest", "heart", "aorta", "axilla"]
        }
        "HEART" => &["heart"],
        "BREAST" => &["breast", "axilla"],
        "AXILLA" => &["axilla"],
        "CHESTABDOMEN" | "CHESTABDPELVIS" => &[
            "chest",
            "heart",
            "aorta",
            "axilla",
            "liver",
            "upper",
            "kidney",
            "bowel",
            "peritoneum",
            "uterus",
        ],
        "ABDOMEN" => in_abdomen(&["liver", "upper", "kidney", "aorta", "peritoneum"]),
        "ABDOMENPELVIS" => ABDOMEN,
        "AORTA" => &["aorta"],
        "COLON" => in_abdomen(&["bowel", "peritoneum"]),
        "GALLBLADDER" | "LIVER" => in_abdomen(&["liver"]),
        "KIDNEY" => in_abdomen(&["kidney"]),
        "PANCREAS" | "SPLEEN" => in_abdomen(&["upper"]),
        "CERVIX" | "FETUS" | "OVARY" | "PELVIS" | "UTERUS" => &["uterus"],
        "BLADDER" | "PROSTATE" => &["prostate"],
        "SCROTUM" | "TESTIS" => &["scrotum"],
        "BACK" | "COCCYX" | "LSPINE" | "SPINE" | "SSPINE" | "TSPINE" => &[],
        "ARM" | "CLAVICLE" | "ELBOW" | "FINGER" | "HAND" | "HUMERUS" | "SHOULDER" | "WRIST" => {
            &["arm"]
        }
        "ANKLE" | "CALCANEUS" | "CALF" | "FEMUR" | "FOOT" | "HIP" | "KNEE" | "LEG" | "THIGH" => {
            &["leg"]
        }
        "EXTREMITY" => &["arm", "leg"],
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::codes;
    use crate::analysis::profile;
    use crate::analysis::testing;

    fn shown(modality: &str, part: &str, description: &str, sex: &str) -> Shown {
        let mut study = testing::study(modality, part, "", description);
        study.patient.sex = sex.into();
        Shown::of(&study, &testing::profile("general"))
    }

    #[test]
    fn a_finding_is_neither_present_nor_absent_where_the_images_cannot_show_it() {
        for (modality, part, description, sex, key, can) in [
            ("MR", "PROSTATE", "", "M", "intracranial_hemorrhage", false),
            ("MR", "", "MR Prostate with contrast", "M", "intracranial_hemorrhage", false),
            ("MR", "BRAIN", "", "F", "intracranial_hemorrhage", true),
            ("MR", "KNEE", "", "F", "fracture", true),
            ("MR", "LSPINE", "", "F", "hydrocephalus", false),
            ("US", "KIDNEY", "", "M", "ectopic_pregnancy", false),
            ("US", "KIDNEY", "", "F", "testicular_torsion", false),
            ("US", "KIDNEY", "", "M", "hydronephrosis", true),
            ("US", "KIDNEY", "", "M", "cholecystitis", false),
            ("US", "UTERUS", "", "F", "ectopic_pregnancy", true),
            ("US", "THYROID", "", "F", "dvt", false),
            ("DX", "CHEST", "", "F", "pneumothorax", true),
            ("DX", "CHEST", "", "F", "pulmonary_embolism", false),
            ("CT", "HEAD", "", "F", "pneumothorax", false),
            ("NM", "", "", "F", "pneumothorax", false),
            ("NM", "WHOLEBODY", "", "F", "bone_metastasis", true),
            ("MR", "BREAST", "", "F", "pericardial_effusion", false),
            ("MR", "HEART", "", "F", "pericardial_effusion", true),
            ("PT", "", "PET whole body", "M", "hydronephrosis", false),
            ("XA", "", "", "M", "arterial_stenosis", true),
            ("RF", "", "", "M", "arterial_stenosis", false),
            ("PX", "JAW", "", "M", "dental_caries", true),
            ("IO", "", "", "M", "cardiomegaly", false),
            // What no one knows cannot be said.
            ("MR", "", "", "F", "intracranial_hemorrhage", true),
        ] {
            let shown = shown(modality, part, description, sex);
            assert_eq!(
                shown.can_have(key),
                can,
                "{key} on {modality} {part}{description} of {sex}"
            );
        }
    }

    #[test]
    fn every_finding_has_its_place_and_every_area_is_known() {
        for row in codes::rows() {
            let place = PLACES.iter().find(|place| place.key == row.key);
            let place = place.unwrap_or_else(|| panic!("{} has no place", row.key));
            assert!(!place.modalities.is_empty() && !place.areas.is_empty(), "{}", row.key);
            for one in &place.areas {
                assert!(*one == "any" || is_area(one), "{}: {one}", row.key);
            }
        }
        assert_eq!(PLACES.len(), codes::rows().len());
    }

    /// No shipped profile asks for what none of the images that it takes can show.
    #[test]
    fn every_shipped_profile_asks_for_what_its_images_can_show() {
        for profile in profile::load(None).unwrap() {
            let modalities: BTreeSet<&str> =
                profile.matches.modalities.iter().filter_map(|one| modality(one)).collect();
            let own: BTreeSet<&str> = profile.areas.iter().filter_map(|one| area(one)).collect();
            assert_eq!(own.len(), profile.areas.len(), "{}: an unknown area", profile.name);
            let areas = (!own.is_empty()).then_some(own);
            let shown = Shown { modalities, areas, sex: String::new() };
            for key in &profile.findings {
                assert!(shown.can_have(key), "{} asks for {key}", profile.name);
            }
        }
    }
}
