//! What the headers say against an answer: the patient's sex and age, the region that an image
//! shows, its view and its side.

use crate::analysis::answer::Answer;
use crate::analysis::answer::AnsweredFinding;
use crate::analysis::answer::Side;
use crate::analysis::answer::Written as _;
use crate::analysis::codes::Row;
use crate::analysis::judge::Judge;
use crate::analysis::judge::wording;
use crate::analysis::plan;
use crate::analysis::words;
use crate::domain::assessment::Disputed;
use crate::domain::assessment::Opinion;
use crate::domain::context;
use crate::domain::finding::Laterality;
use crate::domain::finding::Presence;
use crate::domain::picture::ImageRef;
use crate::domain::study::Instance;

/// Coarse regions of the body, as bits.
const HEAD: u8 = 1;
const NECK: u8 = 2;
const CHEST: u8 = 4;
/// Abdomen and pelvis.
const BELLY: u8 = 8;
const ARM: u8 = 16;
const LEG: u8 = 32;

/// What an image of a Body Part Examined can show, with what lies beside it: the lung bases are on
/// an abdomen. `None`: not known, so nothing can be said.
fn shown_on(part: &str) -> Option<u8> {
    let areas = match context::body_part(part)? {
        "BRAIN" | "EAR" | "EYE" | "FACE" | "HEAD" | "IAC" | "JAW" | "MANDIBLE" | "ORBIT"
        | "RETINA" | "SINUS" | "SKULL" => HEAD | NECK,
        "CAROTID" | "CSPINE" | "HEADNECK" | "NECK" | "THYROID" => HEAD | NECK | CHEST,
        "BREAST" | "BRONCHUS" | "CHEST" | "ESOPHAGUS" | "HEART" | "LUNG" | "RIB" | "STERNUM"
        | "THORAX" => NECK | CHEST | BELLY,
        "AXILLA" | "CLAVICLE" | "SHOULDER" => NECK | CHEST | ARM,
        "AORTA" | "BACK" | "CHESTABDOMEN" | "CHESTABDPELVIS" | "SPINE" | "TSPINE" => {
            NECK | CHEST | BELLY
        }
        "ABDOMEN" | "ABDOMENPELVIS" | "COLON" | "FETUS" | "GALLBLADDER" | "KIDNEY" | "LIVER"
        | "LSPINE" | "PANCREAS" | "SPLEEN" => CHEST | BELLY,
        "BLADDER" | "CERVIX" | "COCCYX" | "HIP" | "OVARY" | "PELVIS" | "PROSTATE" | "SCROTUM"
        | "SSPINE" | "TESTIS" | "UTERUS" => BELLY | LEG,
        "ARM" | "ELBOW" | "FINGER" | "HAND" | "HUMERUS" | "WRIST" => ARM,
        "ANKLE" | "CALCANEUS" | "CALF" | "FEMUR" | "FOOT" | "KNEE" | "LEG" | "THIGH" => LEG,
        "EXTREMITY" => ARM | LEG,
        _ => return None,
    };
    Some(areas)
}

/// Where a finding of the table sits. `None`: it can be anywhere.
fn sits_in(row: &Row) -> Option<u8> {
    let areas = match row.site_name.as_str() {
        "brain" | "head" | "retina" | "tooth" | "jaw region" => HEAD,
        "thyroid" => NECK,
        "pleura" | "lung" | "hilum of lung" | "heart" | "mediastinum" | "pulmonary artery"
        | "pericardium" | "chest" | "bronchus" | "breast" => CHEST,
        "trachea" | "esophagus" => NECK | CHEST | BELLY,
        "rib" | "aorta" => CHEST | BELLY,
        "axilla" => CHEST | ARM,
        "appendix" | "kidney" | "gallbladder" | "intestine" | "pancreas" | "liver"
        | "peritoneum" | "abdominal aorta" | "uterus" | "testis" => BELLY,
        "leg vein" => BELLY | LEG,
        _ => return None,
    };
    Some(areas)
}

/// Codes that name a form and no organ: elsewhere in the body they are as possible, and only the
/// table's site is wrong.
const FORMS: [&str; 7] =
    ["nodule", "mass", "opacity", "metastasis", "edema", "brain_neoplasm", "arterial_aneurysm"];

fn is_form(row: &Row) -> bool {
    FORMS.contains(&row.key.as_str())
}

/// As [`shown_on`], of an area of `finding-places.csv`.
fn shown_of(area: &str) -> u8 {
    match area {
        "head" | "eye" | "face" => HEAD | NECK,
        "neck" | "thyroid" => HEAD | NECK | CHEST,
        "chest" | "heart" | "breast" | "axilla" => NECK | CHEST | BELLY,
        "aorta" | "liver" | "upper" | "kidney" | "bowel" | "peritoneum" => CHEST | BELLY,
        "uterus" | "prostate" | "scrotum" => BELLY | LEG,
        "arm" => ARM,
        "leg" => LEG,
        _ => u8::MAX,
    }
}

/// Keys and words that belong to an age, in years.
const AGES: [(&[&str], &[&str], std::ops::Range<f64>); 4] = [
    (
        &["ectopic_pregnancy"],
        &["ectopic pregnancy", "intrauterine pregnancy", "gestational sac"],
        9.0..61.0,
    ),
    (
        &[
            "breast_mass",
            "calcification_cluster",
            "architectural_distortion",
            "breast_asymmetry",
            "focal_asymmetry",
        ],
        &[],
        12.0..200.0,
    ),
    (
        &[],
        &["salter harris", "open growth plate", "open growth plates", "physeal fracture"],
        0.0..26.0,
    ),
    (&[], &["prostatic hyperplasia", "prostatic hypertrophy"], 30.0..200.0),
];

/// Views on which both sides of the chest lie over each other.
const LATERAL: [&str; 4] = ["LL", "RL", "LAT", "LATERAL"];

impl Judge<'_> {
    /// Whether one of the images may show a part of it, though they do not show its place whole.
    pub(super) fn may_show(&self, row: &Row) -> bool {
        if is_form(row) {
            return true;
        }
        let Some(areas) = sits_in(row) else { return self.shown.is_of_kind(&row.key) };
        let mut images = self.study.instances.iter().filter(|instance| instance.has_pixels);
        self.shown.is_of_kind(&row.key)
            && images.any(|image| self.region(image).is_none_or(|shown| shown & areas != 0))
    }

    /// By Body Part Examined, else the descriptions, else the areas of the profile.
    fn region(&self, instance: &Instance) -> Option<u8> {
        let text = plan::all_text(instance, self.study);
        let words = words::tokens(&text);
        let of_words = words.iter().filter_map(|word| shown_on(&word.to_uppercase()));
        shown_on(&instance.body_part_examined)
            .or_else(|| of_words.reduce(|all, one| all | one))
            .or_else(|| self.profile.areas.iter().map(|a| shown_of(a)).reduce(|all, one| all | one))
    }

    /// What the model calls present and none of these images can show is not assessed: a person looks,
    /// as soon as if it were there. Headers are often wrong themselves.
    pub(super) fn impossible(&mut self, unseen: &[&AnsweredFinding]) -> Vec<Disputed> {
        let mut disputed = Vec::new();
        for answered in unseen.iter().filter(|one| one.presence == Presence::Present) {
            let Some(row) = answered.row() else { continue };
            let name = row.concept.meaning.clone();
            let urgency = row.urgency.max(answered.urgency).max(answered.urgency_of_words());
            let line = format!("{name}: called present, and these images cannot show it");
            self.doubt_of(urgency, line);
            let opinion = Opinion {
                who: self.algorithm.label(),
                presence: Presence::Present,
                probability: Some(answered.probability),
            };
            let (key, said) = (row.key.clone(), vec![opinion]);
            let laterality = answered.laterality.laterality().filter(|_| row.paired_site);
            disputed.push(Disputed { key, name, laterality, urgency, said });
        }
        disputed.sort_by_key(|one| std::cmp::Reverse(one.urgency));
        disputed
    }

    /// A finding that this patient or these images cannot have is a mix-up, of patients, organs or
    /// pictures: a person looks. Only the wrong sex leaves it open; ages and body parts in headers
    /// are often wrong themselves, and what is urgent stays so. Images that cannot show a finding
    /// are no evidence of it.
    pub(super) fn possible(
        &mut self,
        row: Option<&Row>,
        name: &str,
        description: &str,
        presence: Presence,
        evidence: &mut Vec<ImageRef>,
    ) -> Presence {
        if presence != Presence::Present {
            return presence;
        }
        let key = row.map_or("", |row| row.key.as_str());
        let text = format!("{name} {description}");
        let sex = self.study.patient.sex.trim();
        if let Some(organ) = wording::organ_of_other_sex(sex, key, &text) {
            self.doubt(format!("{name}: {organ}, and the header gives the other sex"));
            return Presence::Undetermined;
        }
        let age = self.study.age_years();
        let other_age = |(keys, phrases, ages): &(&[&str], &[&str], std::ops::Range<f64>)| {
            (keys.contains(&key) || words::has_any(&text, phrases))
                && age.is_some_and(|age| !ages.contains(&age))
        };
        if AGES.iter().any(other_age) {
            self.doubt(format!("{name}: not at the age that the header gives"));
        }
        if let Some((row, areas)) = row.and_then(|row| Some((row, sits_in(row)?))) {
            self.check_shown(row, areas, name, evidence);
        }
        presence
    }

    fn check_shown(&mut self, row: &Row, areas: u8, name: &str, evidence: &mut Vec<ImageRef>) {
        let can_show = |image: &ImageRef| {
            let part = self.instance(image).map_or("", |i| i.body_part_examined.as_str());
            shown_on(part).is_none_or(|shown| shown & areas != 0)
        };
        let (shows, not): (Vec<ImageRef>, Vec<ImageRef>) = evidence.drain(..).partition(can_show);
        let nothing_shows = shows.is_empty() && !not.is_empty();
        *evidence = if nothing_shows { not } else { shows };
        if nothing_shows && !is_form(row) {
            self.doubt(format!("{name}: on images of a body part that cannot show it"));
        }
    }

    /// Whether the table's site is where the images are.
    pub(super) fn site_fits(&self, row: &Row, evidence: &[ImageRef]) -> bool {
        let Some(areas) = sits_in(row) else { return true };
        let mut parts = evidence.iter().filter_map(|image| self.instance(image));
        parts.all(|i| shown_on(&i.body_part_examined).is_none_or(|shown| shown & areas != 0))
    }

    fn instance(&self, image: &ImageRef) -> Option<&Instance> {
        let same = |i: &&Instance| i.sop_instance_uid == image.sop_instance_uid;
        self.study.instances.iter().find(same)
    }

    pub(super) fn side(
        &mut self,
        said: Side,
        row: Option<&Row>,
        name: &str,
        presence: Presence,
        evidence: &[ImageRef],
    ) -> Option<Laterality> {
        let side = said.laterality();
        if row.is_some_and(|row| !row.paired_site) {
            if side.is_some() && presence == Presence::Present {
                self.warn(format!("{name}: has no side, the model gave one; it was left out"));
            }
            return None;
        }
        if presence != Presence::Present {
            return side;
        }
        if side.is_none() && row.is_some() {
            self.warn(format!("{name}: the model did not give the side"));
        }
        let shown = self.header_side(evidence);
        let contradicts = matches!(
            (side, shown),
            (Some(Laterality::Right | Laterality::Bilateral), Some(Laterality::Left))
                | (Some(Laterality::Left | Laterality::Bilateral), Some(Laterality::Right))
        );
        if contradicts {
            self.doubt(format!(
                "{name}: the model's side contradicts the image header; no side is given"
            ));
            return None;
        }
        let in_chest = row.and_then(sits_in) == Some(CHEST);
        let lateral = |image: &ImageRef| {
            self.instance(image).is_some_and(|i| LATERAL.contains(&i.view_position.trim()))
        };
        if in_chest && side.is_some() && !evidence.is_empty() && evidence.iter().all(lateral) {
            self.warn(format!("{name}: a lateral view does not show the side; none is given"));
            return None;
        }
        side
    }

    /// The side that the headers of all these images give, if they give one and the same.
    fn header_side(&self, evidence: &[ImageRef]) -> Option<Laterality> {
        let mut sides =
            evidence.iter().map(|image| match self.instance(image)?.laterality.trim() {
                "R" => Some(Laterality::Right),
                "L" => Some(Laterality::Left),
                _ => None,
            });
        let first = sides.next()??;
        sides.all(|side| side == Some(first)).then_some(first)
    }

    /// What the texts say of the patient and of the number of pictures.
    pub(super) fn check_texts(&mut self, answer: &Answer) {
        let text = answer.text();
        let years = self.study.age_years();
        let other = |said: &u32| years.is_some_and(|years| (f64::from(*said) - years).abs() > 2.0);
        if wording::ages(&text).iter().any(other) {
            self.doubt("the model's text gives the patient another age than the header".into());
        }
        if wording::speaks_of_other_sex(self.study.patient.sex.trim(), &text) {
            self.doubt("the model's text gives the patient another sex than the header".into());
        }
        let shown = self.pictures.iter().map(|picture| picture.number).max().unwrap_or(0);
        if wording::pictures_named(&text).iter().any(|number| *number > shown) {
            self.warn(format!(
                "the model's text speaks of pictures that it was not shown: there are {shown}"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::codes;

    #[test]
    fn a_body_part_shows_what_lies_in_and_beside_it() {
        for (key, part, can) in [
            ("pneumothorax", "CHEST", true),
            ("pneumothorax", "ABDOMEN", true),
            ("pneumothorax", "SHOULDER", true),
            ("pneumothorax", "KNEE", false),
            ("pneumothorax", "HEAD", false),
            ("intracranial_hemorrhage", "HEAD", true),
            ("intracranial_hemorrhage", "CSPINE", true),
            ("intracranial_hemorrhage", "CHEST", false),
            ("ascites", "CHEST", true),
            ("ascites", "HAND", false),
            ("dvt", "PELVIS", true),
            ("dvt", "ARM", false),
            ("fracture", "HAND", true),
            ("aaa", "SKULL", false),
            // What no one knows is no contradiction.
            ("aaa", "SOMETHING ELSE", true),
            ("aaa", "", true),
        ] {
            let sits = sits_in(codes::find(key).unwrap());
            let shows = shown_on(part);
            let found = sits.is_none_or(|sits| shows.is_none_or(|shows| shows & sits != 0));
            assert_eq!(found, can, "{key} on {part}");
        }
    }

    #[test]
    fn every_site_of_the_table_has_its_region_or_is_anywhere() {
        let anywhere: std::collections::BTreeSet<&str> = codes::rows()
            .iter()
            .filter(|row| sits_in(row).is_none())
            .map(|row| row.site_name.as_str())
            .collect();
        assert_eq!(anywhere.into_iter().collect::<Vec<_>>(), ["artery", "bone", "lymph node"]);
    }
}
