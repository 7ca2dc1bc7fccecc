//! The gate of the local model: frontal chest X-rays of children, and nothing else. It fails on
//! adults (`models/…`), so what is not known to be inside is outside.

use crate::analysis::plan;
use crate::analysis::words;
use crate::domain::study::Instance;
use crate::domain::study::Study;

/// Why the local model is not asked, for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct NotCovered {
    pub reason: String,
}

/// Years below which a patient is a child here. The training pictures are of 1 to 5 years.
const AGE_BELOW: f64 = 18.0;

/// The instance that the local model may read: the first postero-anterior one, else the first
/// antero-posterior one.
pub fn gate(study: &Study) -> Result<&Instance, NotCovered> {
    const NONE: &str = "no local model covers this study";
    let no = |why: &str| Err(NotCovered { reason: format!("{NONE}: {why}") });
    let pictured: Vec<&Instance> = study.instances.iter().filter(|i| i.has_pixels).collect();
    if pictured.is_empty() {
        return no("it has no images");
    }
    let xray =
        kept(&pictured, |i| matches!(plan::effective_modality(i, study).as_str(), "CR" | "DX"));
    if xray.is_empty() {
        return no("it is not a digital X-ray");
    }
    let chest = kept(&xray, |i| is_chest(i, study));
    if chest.is_empty() {
        return no("it is not known to show the chest");
    }
    let frontal = kept(&chest, |i| is_frontal(i, study));
    if frontal.is_empty() {
        return no("no view is known to be frontal (PA or AP)");
    }
    if let Some(line) = study.inconsistencies.iter().find(|line| line.contains("Patient")) {
        return no(&format!("{line}, so the age is not certain"));
    }
    match study.age_years() {
        None => return no("the patient's age is not known"),
        Some(age) if age >= AGE_BELOW => return no("the patient is not a child"),
        Some(_) => {}
    }
    let still = kept(&frontal, |i| i.number_of_frames <= 1);
    let pa = still.iter().find(|i| i.view_position.trim().eq_ignore_ascii_case("PA"));
    match pa.or(still.first()) {
        Some(instance) => Ok(instance),
        None => no("it has several frames"),
    }
}

fn kept<'a>(from: &[&'a Instance], wanted: impl Fn(&Instance) -> bool) -> Vec<&'a Instance> {
    from.iter().copied().filter(|instance| wanted(instance)).collect()
}

/// By Body Part Examined; by the descriptions only where this is empty.
fn is_chest(instance: &Instance, study: &Study) -> bool {
    const CHEST: [&str; 8] = ["chest", "cxr", "thorax", "흉부", "ngực", "胸部", "胸片", "tim phổi"];
    match instance.body_part_examined.trim().to_uppercase().as_str() {
        "CHEST" | "THORAX" | "LUNG" => true,
        "" => {
            let text = plan::all_text(instance, study);
            words::has_any(&text, &CHEST)
                && !words::has_any(&text, &["rib", "ribs", "spine", "abdomen"])
        }
        _ => false,
    }
}

/// By View Position, or the descriptions where this is empty; a description that says lateral
/// outweighs a View Position that says frontal (seen: a preset left at AP).
pub fn is_frontal(instance: &Instance, study: &Study) -> bool {
    let text = plan::all_text(instance, study);
    let view = instance.view_position.trim();
    let says_frontal =
        |text: &str| words::has_any(text, &["pa", "ap", "frontal", "후전", "正位", "thẳng"]);
    let says_lateral = |text: &str| {
        words::has_any(
            text,
            &["lat", "lateral", "ll", "rl", "oblique", "decubitus", "측면", "侧位", "nghiêng"],
        )
    };
    // A series of its own for each view says more than the study's name for all of them.
    let series = format!("{} | {}", instance.series_description, instance.protocol_name);
    if says_lateral(&series) && !says_frontal(&series) {
        return false;
    }
    match view.is_empty() {
        true => says_frontal(&text) && !says_lateral(&text),
        false => {
            words::tokens(view).iter().any(|word| word == "pa" || word == "ap")
                && !says_lateral(view)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::testing;

    const CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

    #[test]
    fn the_gate_opens_for_frontal_chest_x_rays_of_children_and_for_nothing_else() {
        // modality, class, part, view, age, study description, series description; what the reason says
        type Row = (
            &'static str,
            &'static str,
            &'static str,
            &'static str,
            &'static str,
            &'static str,
            &'static str,
            Result<(), &'static str>,
        );
        let dx = "1.2.840.10008.5.1.4.1.1.1.1";
        let rows: [Row; 26] = [
            ("CR", dx, "CHEST", "PA", "004Y", "", "", Ok(())),
            ("DX", dx, "CHEST", "AP", "017Y", "", "", Ok(())),
            ("DX", dx, "THORAX", "ap", "018M", "", "", Ok(())),
            ("DX", dx, "CHEST", "AP SUPINE", "010D", "", "", Ok(())),
            ("OT", CAPTURE, "CHEST", "PA", "004Y", "", "", Ok(())),
            ("SC", CAPTURE, "CHEST", "AP", "004Y", "CHEST X-RAY", "", Ok(())),
            ("CR", CAPTURE, "CHEST", "PA", "004Y", "", "", Ok(())),
            ("CR", dx, "", "PA", "004Y", "XR CHEST", "", Ok(())),
            ("CR", dx, "", "", "004Y", "Chest PA", "", Ok(())),
            ("CR", dx, "CHEST", "PA", "004Y", "Chest PA and lateral", "PA", Ok(())),
            ("CR", dx, "CHEST", "PA", "018Y", "", "", Err("not a child")),
            ("CR", dx, "CHEST", "PA", "040Y", "", "", Err("not a child")),
            ("CR", dx, "CHEST", "PA", "", "", "", Err("age is not known")),
            ("CR", dx, "CHEST", "PA", "4 years", "", "", Err("age is not known")),
            ("CR", dx, "CHEST", "LL", "004Y", "", "", Err("frontal")),
            ("CR", dx, "CHEST", "", "004Y", "", "", Err("frontal")),
            ("CR", dx, "CHEST", "", "004Y", "Chest PA and lateral", "", Err("frontal")),
            (
                "DX",
                dx,
                "CHEST",
                "AP",
                "004Y",
                "Medium Soft Tissue 20-55 lb",
                "Thorax LAT",
                Err("frontal"),
            ),
            ("CR", dx, "ABDOMEN", "AP", "004Y", "chest", "", Err("chest")),
            ("CR", dx, "", "AP", "004Y", "", "", Err("chest")),
            ("CR", dx, "", "AP", "004Y", "Chest ribs", "", Err("chest")),
            ("CR", dx, "BREAST", "AP", "004Y", "", "", Err("X-ray")),
            ("CT", dx, "CHEST", "PA", "004Y", "", "", Err("X-ray")),
            ("RG", CAPTURE, "CHEST", "PA", "004Y", "", "", Err("X-ray")),
            ("OT", CAPTURE, "CHEST", "PA", "004Y", "CT chest", "", Err("X-ray")),
            ("US", dx, "CHEST", "PA", "004Y", "", "", Err("X-ray")),
        ];
        for (modality, class, part, view, age, study_text, series_text, expected) in rows {
            let mut study = testing::study(modality, part, view, study_text);
            study.patient.age = age.into();
            study.patient.birth_date = String::new();
            study.instances.truncate(1);
            study.instances[0].sop_class_uid =
                crate::domain::uid::SopClassUid::parse(class).unwrap();
            study.instances[0].series_description = series_text.into();
            let row = format!("{modality} {part} {view} {age} {study_text} {series_text}");
            match (gate(&study), expected) {
                (Ok(_), Ok(())) => {}
                (Err(no), Err(part)) => assert!(no.reason.contains(part), "{row}: {no}"),
                (found, _) => panic!("{row}: {found:?}"),
            }
        }
    }

    #[test]
    fn the_postero_anterior_view_is_read() {
        let mut study = testing::study("CR", "CHEST", "AP", "");
        study.patient.age = "004Y".into();
        let mut second = study.instances[0].clone();
        second.view_position = "PA".into();
        study.instances = vec![study.instances[0].clone(), second];
        assert_eq!(gate(&study).unwrap().view_position, "PA");
    }

    #[test]
    fn contradicting_headers_close_the_gate() {
        let mut study = testing::study("CR", "CHEST", "PA", "");
        study.patient.age = "004Y".into();
        assert!(gate(&study).is_ok());
        study.inconsistencies.push("the instances differ in Patient's Age".into());
        assert!(gate(&study).is_err());
        study.inconsistencies.clear();
        study.instances.iter_mut().for_each(|i| i.has_pixels = false);
        assert!(gate(&study).is_err());
    }
}
