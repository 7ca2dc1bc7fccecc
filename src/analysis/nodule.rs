//! What the Fleischner Society recommends for a nodule that was found in passing on CT (MacMahon et
//! al., Radiology 2017;284:228-243): by rule from size and density, never from a model's word. A
//! table for the doctor who decides; risk, history and earlier images are not known here.

use crate::analysis::size;
use crate::analysis::size::Size;
use crate::domain::assessment::Assessment;
use crate::domain::code::Code;
use crate::domain::finding::Density;
use crate::domain::finding::Finding;
use crate::domain::finding::Measurement;
use crate::domain::finding::Presence;
use crate::domain::finding::Region;
use crate::domain::study::Instance;

/// Keys of the findings that are nodules of the lung.
const KEYS: [&str; 3] = ["nodule", "pulmonary_nodule_disorder", "solitary_lung_nodule"];
const AGE_MIN_YEARS: f64 = 35.0;
/// The guideline's thin section: on a thicker slice size and density are not known well enough.
const THICKNESS_MAX_MM: f64 = 1.5;
/// Above it is a mass.
const DIAMETER_MAX_MM: f64 = 30.0;
/// Shares of solid tissue from which a nodule is part-solid and solid. Ours, not the guideline's,
/// which leaves it to the eye.
const PART_SOLID_MIN: f64 = 0.05;
const SOLID_MIN: f64 = 0.8;
/// Boxes on slices no farther apart than this may be of one nodule.
const SAME_NODULE_MM: f64 = 10.0;

pub fn is_nodule(key: &str) -> bool {
    KEYS.contains(&key)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    GroundGlass,
    Solid,
    PartSolid,
}

impl Kind {
    fn of(density: &Density) -> Kind {
        match density.solid_share {
            share if share >= SOLID_MIN => Kind::Solid,
            share if share >= PART_SOLID_MIN => Kind::PartSolid,
            _ => Kind::GroundGlass,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::GroundGlass => "ground glass",
            Kind::Solid => "solid",
            Kind::PartSolid => "part-solid",
        }
    }
}

/// By the mean of long and short axis in whole mm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    Below6,
    From6To8,
    Above8,
}

impl Class {
    fn of(diameter_mm: f64) -> Class {
        match diameter_mm {
            mm if mm < 6.0 => Class::Below6,
            mm if mm <= 8.0 => Class::From6To8,
            _ => Class::Above8,
        }
    }
}

/// The guideline's table.
fn follow_up(kind: Kind, several: bool, class: Class) -> &'static str {
    match (kind, several, class) {
        (Kind::Solid, _, Class::Below6) => {
            "low risk: no routine follow-up; high risk: CT at 12 months is optional"
        }
        (Kind::Solid, false, Class::From6To8) => {
            "low risk: CT at 6 to 12 months, then consider CT at 18 to 24 months; high risk: CT at 6 to 12 months, then CT at 18 to 24 months"
        }
        (Kind::Solid, false, Class::Above8) => {
            "low and high risk: consider CT at 3 months, PET/CT, or tissue sampling"
        }
        (Kind::Solid, true, Class::From6To8 | Class::Above8) => {
            "low risk: CT at 3 to 6 months, then consider CT at 18 to 24 months; high risk: CT at 3 to 6 months, then CT at 18 to 24 months"
        }
        (Kind::GroundGlass | Kind::PartSolid, false, Class::Below6) => "no routine follow-up",
        (Kind::GroundGlass, false, Class::From6To8 | Class::Above8) => {
            "CT at 6 to 12 months to confirm that it persists, then CT every 2 years until 5 years"
        }
        (Kind::PartSolid, false, Class::From6To8 | Class::Above8) => {
            "CT at 3 to 6 months to confirm that it persists; if unchanged and its solid part remains below 6 mm, CT every year for 5 years"
        }
        (Kind::GroundGlass | Kind::PartSolid, true, Class::Below6) => {
            "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years"
        }
        (Kind::GroundGlass | Kind::PartSolid, true, Class::From6To8 | Class::Above8) => {
            "CT at 3 to 6 months; then by the most suspicious nodule"
        }
    }
}

/// A nodule with a box on a CT slice, where it is largest.
struct Nodule<'a> {
    /// Place of its finding in the assessment.
    finding: usize,
    region: &'a Region,
    instance: &'a Instance,
    size: Size,
}

/// Those that can be measured, and how many there are in all.
fn nodules(assessment: &Assessment) -> (Vec<Nodule<'_>>, usize) {
    let (mut found, mut unplaced): (Vec<Nodule<'_>>, usize) = (Vec::new(), 0);
    let present = |f: &&Finding| is_nodule(&f.key) && f.presence == Presence::Present;
    for (at, finding) in assessment.findings.iter().enumerate().filter(|(_, f)| present(f)) {
        let mut places = 0;
        for region in &finding.regions {
            let instances = &assessment.study.instances;
            let of = |i: &&Instance| i.sop_instance_uid == region.image.sop_instance_uid;
            let Some(instance) = instances.iter().find(of).filter(|i| i.modality == "CT") else {
                continue;
            };
            let Some(size) = size::of(region, instance) else { continue };
            places += 1;
            let one = Nodule { finding: at, region, instance, size };
            match found.iter_mut().find(|other| is_same(other, &one)) {
                Some(other) if other.size.diameter_mm() < size.diameter_mm() => *other = one,
                Some(_) => {}
                None => found.push(one),
            }
        }
        unplaced += usize::from(places == 0);
    }
    let count = found.len() + unplaced;
    (found, count)
}

/// Boxes over each other, on one slice or on near ones.
fn is_same(a: &Nodule<'_>, b: &Nodule<'_>) -> bool {
    let over = a.region.x0 < b.region.x1
        && b.region.x0 < a.region.x1
        && a.region.y0 < b.region.y1
        && b.region.y0 < a.region.y1;
    let apart = match (a.instance.image_position_mm, b.instance.image_position_mm) {
        (Some(a), Some(b)) => a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt(),
        _ => 0.0,
    };
    let frames = a.region.image.frame == b.region.image.frame;
    let near = a.instance.series_uid == b.instance.series_uid;
    over && near && frames && apart <= SAME_NODULE_MM.max(a.size.long_mm).max(b.size.long_mm)
}

/// Where the density of nodules is to be measured, each on its instance.
pub fn to_measure(assessment: &Assessment) -> Vec<(Instance, Region)> {
    let (found, _) = nodules(assessment);
    found.iter().map(|one| (one.instance.clone(), one.region.clone())).collect()
}

/// Writes densities and the recommendation, or why there is none, into the assessment.
///
/// - `densities`: for each of [`to_measure`], in its order; else why there is none.
pub fn advise(assessment: &mut Assessment, densities: &[Result<Density, String>]) {
    let (found, count) = nodules(assessment);
    if count == 0 || found.is_empty() {
        return;
    }
    let mut measured = Vec::new();
    for (one, density) in found.iter().zip(densities) {
        if let Ok(density) = density {
            let concept = Code::new("112031", "DCM", "Attenuation Coefficient");
            let (value, unit) = (density.mean_hu.round(), "[hnsf'U]".into());
            measured.push((one.finding, Measurement { concept, value, unit }));
        }
    }
    let advice = advice(assessment, &found, count, densities);
    for (at, measurement) in measured {
        if let Some(finding) = assessment.findings.get_mut(at) {
            finding.measurements.push(measurement);
        }
    }
    match advice {
        Ok(advice) => {
            let before = std::mem::take(&mut assessment.recommendation);
            let parts = [before, advice];
            let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
            assessment.recommendation = parts.collect::<Vec<_>>().join(" ");
        }
        Err(why) => assessment
            .warnings
            .push(format!("no recommendation of the Fleischner Society for the nodule: {why}")),
    }
}

fn advice(
    assessment: &Assessment,
    found: &[Nodule<'_>],
    count: usize,
    densities: &[Result<Density, String>],
) -> Result<String, String> {
    match assessment.study.age_years() {
        Some(age) if age >= AGE_MIN_YEARS => {}
        Some(_) => return Err(format!("it is for adults of {AGE_MIN_YEARS} years or more")),
        None => return Err("the age is not known".into()),
    }
    if found.len() < count {
        return Err("a nodule has no box that can be measured".into());
    }
    let mut known: Vec<(Class, Kind, f64)> = Vec::new();
    for (one, density) in found.iter().zip(densities) {
        let thin = one.instance.slice_thickness_mm.filter(|mm| *mm <= THICKNESS_MAX_MM);
        if thin.is_none() {
            return Err(format!("it needs slices of {THICKNESS_MAX_MM} mm or less"));
        }
        let density = density.as_ref().map_err(|why| format!("density not measured, {why}"))?;
        let diameter = one.size.diameter_mm();
        if diameter > DIAMETER_MAX_MM {
            return Err(format!("above {DIAMETER_MAX_MM} mm it is a mass"));
        }
        known.push((Class::of(diameter), Kind::of(density), diameter));
    }
    // The most suspicious one leads: larger class, then part-solid before solid.
    let leads =
        known.into_iter().max_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then(a.2.total_cmp(&b.2)));
    let Some((class, kind, diameter)) = leads else { return Err("nothing was measured".into()) };
    let several = count > 1;
    let what = match several {
        true => format!("{count} nodules, the leading one {} of {diameter} mm", kind.name()),
        false => format!("a single {} nodule of {diameter} mm", kind.name()),
    };
    Ok(format!(
        "By rule, Fleischner Society 2017, for {what} (mean of long and short axis of the model's box; density from the pixels in it): {}. Holds for incidental nodules in adults of 35 or more, not with known cancer or immunosuppression, not in screening; earlier images and benign calcification or fat are for the radiologist.",
        follow_up(kind, several, class)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::picture::ImageRef;
    use crate::domain::sample;

    /// All rows of the guideline's table: kind, several, mm, what must stand in the words.
    #[test]
    fn every_row_of_the_guideline_is_told() {
        use Kind::*;
        let single = "low risk: CT at 6 to 12 months, then consider CT at 18 to 24 months; high risk: CT at 6 to 12 months, then CT at 18 to 24 months";
        let multiple = "low risk: CT at 3 to 6 months, then consider CT at 18 to 24 months; high risk: CT at 3 to 6 months, then CT at 18 to 24 months";
        let none = "low risk: no routine follow-up; high risk: CT at 12 months is optional";
        let table = [
            (Solid, false, 5.0, none),
            (Solid, false, 6.0, single),
            (Solid, false, 8.0, single),
            (Solid, false, 9.0, "consider CT at 3 months, PET/CT, or tissue sampling"),
            (Solid, true, 5.0, none),
            (Solid, true, 6.0, multiple),
            (Solid, true, 8.0, multiple),
            (Solid, true, 9.0, multiple),
            (GroundGlass, false, 5.0, "no routine follow-up"),
            (
                GroundGlass,
                false,
                6.0,
                "CT at 6 to 12 months to confirm that it persists, then CT every 2 years until 5 years",
            ),
            (GroundGlass, false, 20.0, "CT at 6 to 12 months to confirm"),
            (PartSolid, false, 5.0, "no routine follow-up"),
            (
                PartSolid,
                false,
                6.0,
                "CT at 3 to 6 months to confirm that it persists; if unchanged and its solid part remains below 6 mm, CT every year for 5 years",
            ),
            (PartSolid, false, 20.0, "CT every year for 5 years"),
            (
                GroundGlass,
                true,
                5.0,
                "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years",
            ),
            (PartSolid, true, 5.0, "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years"),
            (GroundGlass, true, 6.0, "CT at 3 to 6 months; then by the most suspicious nodule"),
            (PartSolid, true, 9.0, "CT at 3 to 6 months; then by the most suspicious nodule"),
        ];
        for (kind, several, mm, words) in table {
            let told = follow_up(kind, several, Class::of(mm));
            let whole = words.len() < 40 || told.len() < words.len() + 25;
            assert!(told.contains(words) && whole, "{kind:?} {several} {mm}: {told}");
        }
    }

    #[test]
    fn the_kind_comes_from_the_share_of_solid_tissue() {
        for (share, kind) in [
            (0.0, Kind::GroundGlass),
            (0.04, Kind::GroundGlass),
            (0.05, Kind::PartSolid),
            (0.79, Kind::PartSolid),
            (0.8, Kind::Solid),
            (1.0, Kind::Solid),
        ] {
            assert_eq!(Kind::of(&density(share)), kind, "{share}");
        }
    }

    fn density(solid_share: f64) -> Density {
        Density {
            pixels: 40,
            mean_hu: 12.4,
            low_hu: -100.0,
            median_hu: 20.0,
            high_hu: 60.0,
            solid_share,
        }
    }

    /// Nodules as boxes (slice, x0, edge in mm) on thin slices of 1 mm, 1 mm pixels.
    fn case(age: &str, boxes: &[(u32, f64, f64)]) -> Assessment {
        let class = "1.2.840.10008.5.1.4.1.1.2";
        let slice = |n: u32| Instance {
            pixel_spacing_mm: Some([1.0, 1.0]),
            slice_thickness_mm: Some(1.0),
            image_position_mm: Some([0.0, 0.0, f64::from(n)]),
            ..sample::instance(&format!("1.2.3.{n}"), class, "CT", 1, n as i32, 512, 512)
        };
        let mut a = sample::positive_chest();
        a.recommendation = "Reading by a radiologist.".into();
        a.warnings.clear();
        a.study.patient.age = age.into();
        a.study.instances = (1..=60).map(slice).collect();
        let one = a.findings[0].clone();
        let nodule = |(n, x0, edge): &(u32, f64, f64)| {
            let image: ImageRef = sample::image_of(&a.study.instances[*n as usize - 1]);
            let region = Region { image, x0: *x0, y0: 100.0, x1: x0 + edge, y1: 100.0 + edge };
            Finding {
                key: "nodule".into(),
                presence: Presence::Present,
                measurements: Vec::new(),
                regions: vec![region],
                ..one.clone()
            }
        };
        a.findings = boxes.iter().map(nodule).collect();
        a
    }

    #[test]
    fn a_recommendation_stands_beside_the_models_own_with_its_limits() {
        let mut a = case("060Y", &[(10, 50.0, 7.0)]);
        assert_eq!(to_measure(&a).len(), 1);
        advise(&mut a, &[Ok(density(0.95))]);
        let said = &a.recommendation;
        assert!(
            said.starts_with("Reading by a radiologist. By rule, Fleischner Society 2017"),
            "{said}"
        );
        for part in ["a single solid nodule of 7 mm", "CT at 6 to 12 months", "known cancer", "35"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
        let hu = &a.findings[0].measurements[0];
        assert_eq!(
            (hu.value, hu.unit.as_str(), hu.concept.value.as_str()),
            (12.0, "[hnsf'U]", "112031")
        );
        assert!(a.warnings.is_empty(), "{:?}", a.warnings);
    }

    #[test]
    fn one_nodule_on_two_slices_is_one_and_two_places_are_two() {
        let count = |boxes: &[(u32, f64, f64)]| to_measure(&case("060Y", boxes)).len();
        assert_eq!(count(&[(10, 50.0, 7.0), (12, 51.0, 5.0)]), 1);
        assert_eq!(count(&[(10, 50.0, 7.0), (40, 50.0, 7.0)]), 2, "30 mm apart");
        assert_eq!(count(&[(10, 50.0, 7.0), (10, 150.0, 7.0)]), 2);
        let mut a = case("060Y", &[(10, 50.0, 4.0), (10, 150.0, 9.0)]);
        advise(&mut a, &[Ok(density(1.0)), Ok(density(0.0))]);
        assert!(a.recommendation.contains("2 nodules, the leading one ground glass of 9 mm"));
        assert!(a.recommendation.contains("then by the most suspicious nodule"));
    }

    #[test]
    fn without_what_the_guideline_needs_there_is_no_recommendation() {
        let thick = |a: &mut Assessment| {
            a.study.instances.iter_mut().for_each(|i| i.slice_thickness_mm = Some(5.0));
        };
        let unboxed = |a: &mut Assessment| {
            let other = Finding { regions: Vec::new(), ..a.findings[0].clone() };
            a.findings.push(other);
        };
        type Change<'c> = &'c dyn Fn(&mut Assessment);
        let free: Result<Density, String> = Ok(density(1.0));
        type Row<'a> = (&'a str, f64, Change<'a>, &'a Result<Density, String>, &'a str);
        let table: [Row<'_>; 6] = [
            ("034Y", 7.0, &|_| (), &free, "35 years"),
            ("", 7.0, &|a| a.study.patient.birth_date.clear(), &free, "age is not known"),
            ("060Y", 7.0, &thick, &free, "1.5 mm or less"),
            ("060Y", 7.0, &unboxed, &free, "no box"),
            ("060Y", 31.0, &|_| (), &free, "a mass"),
            ("060Y", 7.0, &|_| (), &Err("it is too small".into()), "too small"),
        ];
        for (age, edge, change, density, why) in table {
            let mut a = case(age, &[(10, 50.0, edge)]);
            change(&mut a);
            advise(&mut a, std::slice::from_ref(density));
            assert_eq!(a.recommendation, "Reading by a radiologist.", "{why}");
            assert!(
                a.warnings.len() == 1 && a.warnings[0].contains(why),
                "{why}: {:?}",
                a.warnings
            );
        }
        // No nodule, or one on a projection: nothing is said.
        let mut absent = case("060Y", &[(10, 50.0, 7.0)]);
        absent.findings[0].presence = Presence::Absent;
        let mut projection = case("060Y", &[(10, 50.0, 7.0)]);
        projection.study.instances.iter_mut().for_each(|i| i.modality = "DX".into());
        for mut a in [absent, projection] {
            assert!(to_measure(&a).is_empty());
            advise(&mut a, &[]);
            assert!(a.warnings.is_empty() && !a.recommendation.contains("Fleischner"));
        }
    }
}
