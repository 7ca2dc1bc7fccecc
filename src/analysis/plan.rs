//! Which profile reads a study, and which studies are not read at all. Pure: the same headers
//! give the same plan.

pub mod explain;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::Config;
use crate::analysis::config::Gateway;
use crate::analysis::profile;
use crate::analysis::strategy::Strategy;
use crate::analysis::words;
use crate::domain::profile::Profile;
use crate::domain::profile::ProfileMatch;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;

/// What is to be done with a study.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "plan")]
pub enum Plan {
    Read {
        /// Its `pictures.modalities` hold the modalities that this study uses for the profile.
        profile: Box<Profile>,
        route: Route,
        /// What a reader should know about the choice, as sentences without identifiers.
        notes: Vec<String>,
    },
    /// By rule: nothing to read. Visible, with its reason.
    Hold { reason: String },
    /// A person must look: what there is could not be parsed.
    Review { reason: String },
}

/// Who is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "route")]
pub enum Route {
    /// The embedded default: measurements, and the local model where its gate opens.
    Local,
    /// A gateway of the configuration.
    ///
    /// - `then`: those that are asked in turn when it gives no reading.
    /// - `strategy`: who looks before it, beside it and after it.
    Gateway {
        name: String,
        #[serde(default)]
        then: Vec<String>,
        #[serde(default, alias = "tiers")]
        strategy: Box<Strategy>,
    },
    /// Nobody: measurements only, and the result says why.
    Nobody { reason: String },
}

/// Modalities that are not images to be read (PS3.3 C.7.3.1.1.1).
const NOT_IMAGES: [(&str, &str); 24] = [
    ("SR", "structured report"),
    ("PR", "presentation state"),
    ("KO", "key object selection"),
    ("SEG", "segmentation"),
    ("RTSTRUCT", "radiotherapy structure set"),
    ("RTPLAN", "radiotherapy plan"),
    ("RTDOSE", "radiotherapy dose"),
    ("RTRECORD", "radiotherapy treatment record"),
    ("RTIMAGE", "radiotherapy image"),
    ("PLAN", "plan"),
    ("REG", "registration"),
    ("FID", "fiducials"),
    ("DOC", "document"),
    ("RWV", "real world value map"),
    ("SMR", "stereometric relationship"),
    ("TEXTUREMAP", "texture map"),
    ("M3D", "model for 3D manufacturing"),
    ("ECG", "electrocardiogram"),
    ("EPS", "electrophysiology"),
    ("HD", "haemodynamic waveform"),
    ("AU", "audio"),
    ("ANN", "annotation"),
    ("ASMT", "content assessment"),
    ("STAIN", "staining"),
];

const QA: [&str; 17] = [
    "phantom",
    "quality assurance",
    "quality control",
    "qa",
    "qc",
    "daily check",
    "acr phantom",
    "test object",
    "flat field",
    "constancy",
    "팬텀",
    "정도관리",
    "体模",
    "模体",
    "質控",
    "质控",
    "phantoom",
];
/// A phantom that is none: pain in a lost limb, fluid in a fissure.
const NOT_QA: [&str; 6] = [
    "phantom limb",
    "phantom pain",
    "phantom tumor",
    "phantom tumour",
    "phantom tooth",
    "phantom breast",
];
const LOCALIZER: [&str; 12] = [
    "localizer",
    "localiser",
    "scout",
    "topogram",
    "surview",
    "scanogram",
    "loc",
    "3 plane loc",
    "pilot",
    "survey",
    "plan scan",
    "定位像",
];
const DOSE: [&str; 14] = [
    "dose report",
    "dose info",
    "dose record",
    "dose summary",
    "dose page",
    "patient protocol",
    "exam summary",
    "screen save",
    "screen saves",
    "screensave",
    "screen capture",
    "smart prep",
    "선량",
    "剂量报告",
];
const XRAY: [&str; 16] = [
    "xr",
    "x ray",
    "xray",
    "cxr",
    "radiograph",
    "radiography",
    "röntgen",
    "roentgen",
    "rx",
    "x quang",
    "엑스선",
    "엑스레이",
    "x선",
    "x光",
    "胸片",
    "平片",
];
const FUNDUS: [&str; 12] = [
    "fundus",
    "fundoscopy",
    "funduscopy",
    "retina",
    "retinal",
    "retinography",
    "optic disc",
    "안저",
    "망막",
    "眼底",
    "đáy mắt",
    "võng mạc",
];
const BREAST: [&str; 12] = [
    "mammo",
    "mammogram",
    "mammography",
    "mammographic",
    "breast",
    "micro calcifications",
    "microcalcifications",
    "유방",
    "乳腺",
    "乳房",
    "nhũ ảnh",
    "vú",
];
const CROSS_SECTION: [&str; 8] = ["ct", "mr", "mri", "us", "ultrasound", "pet", "angio", "echo"];

/// Decides on a study that was sent for one profile by its name, whatever else would take it.
pub fn plan_as(study: &Study, name: &str, profiles: &[Profile], config: &Config) -> Plan {
    let Ok(named) = profile::find(profiles, name) else {
        let reason = "the profile that it was sent for is not in the configuration any more";
        return Plan::Review { reason: reason.into() };
    };
    let matches = ProfileMatch::default();
    plan_by(study, &[&Profile { matches, ..named.clone() }], config)
}

/// Decides on a study.
pub fn plan(study: &Study, profiles: &[Profile], config: &Config) -> Plan {
    let readers: Vec<&Profile> = profiles.iter().filter(|profile| !profile.is_free()).collect();
    plan_by(study, &readers, config)
}

fn plan_by(study: &Study, profiles: &[&Profile], config: &Config) -> Plan {
    if let Some(reason) = held(study) {
        return Plan::Hold { reason };
    }
    if !study.instances.iter().any(is_image) {
        let reason = match study.unreadable.len() {
            0 => "the study has no instances".to_owned(),
            n => format!("no image could be read; {n} instances could not be parsed"),
        };
        return Plan::Review { reason };
    }
    let Some((profile, notes)) = choose(study, profiles) else {
        return Plan::Review { reason: "no profile takes this study".into() };
    };
    let route = route(&profile, study, config);
    Plan::Read { profile: Box::new(profile), route, notes }
}

/// The study without what is not read (localizers, dose screens, reports), and what was left out.
pub fn readable(study: &Study) -> (Study, Vec<Excluded>) {
    let mut kept = study.clone();
    let mut excluded = Vec::new();
    kept.instances.retain(|instance| match why_not_read(instance) {
        Some(reason) => {
            excluded.push(Excluded { sop_instance_uid: instance.sop_instance_uid.clone(), reason });
            false
        }
        None => true,
    });
    (kept, excluded)
}

/// What an instance is to a profile: its modality, put right where the sender was vague.
pub fn effective_modality(instance: &Instance, study: &Study) -> String {
    let text = all_text(instance, study);
    let raw = instance.modality.trim().to_uppercase();
    let modality = match raw.as_str() {
        "MRI" => "MR",
        "XR" | "XRAY" | "X-RAY" => "DX",
        "MAMMO" => "MG",
        other => other,
    };
    let part = instance.body_part_examined.trim().to_uppercase();
    let is_breast = part == "BREAST" || (part.is_empty() && words::has_any(&text, &BREAST));
    let is_capture = is_secondary_capture(instance);
    let effective = match modality {
        "CR" | "DX" | "RG" if is_breast => "MG",
        // A saved slice is a film or a screen; a projection (XA, NM) stays what it is.
        "CT" | "MR" | "PT" if is_capture => "OT",
        "OT" | "SC" | "XC" | "" => vague(instance, &text, is_breast, is_capture),
        other => other,
    };
    effective.to_owned()
}

/// The kind of an image whose modality says nothing.
fn vague(instance: &Instance, text: &str, is_breast: bool, is_capture: bool) -> &'static str {
    let part = instance.body_part_examined.trim().to_uppercase();
    let view = instance.view_position.trim().to_uppercase();
    if matches!(part.as_str(), "EYE" | "RETINA") || words::has_any(text, &FUNDUS) {
        return "OP";
    }
    if !is_capture || words::has_any(text, &CROSS_SECTION) {
        return "OT";
    }
    if is_breast && (words::has_any(text, &BREAST) || matches!(view.as_str(), "MLO" | "CC")) {
        return "MG";
    }
    let has_view =
        matches!(view.as_str(), "PA" | "AP" | "LL" | "RL" | "LAT" | "LATERAL" | "OBLIQUE");
    match has_view || words::has_any(text, &XRAY) || matches!(part.as_str(), "CHEST" | "THORAX") {
        true => "DX",
        false => "OT",
    }
}

/// The Secondary Capture SOP classes (PS3.4 B.5), single and multi-frame.
pub fn is_secondary_capture(instance: &Instance) -> bool {
    const CLASS: &str = "1.2.840.10008.5.1.4.1.1.7";
    let uid = instance.sop_class_uid.as_str();
    uid == CLASS || uid.strip_prefix(CLASS).is_some_and(|rest| rest.starts_with('.'))
}

/// Study description, series description, protocol name, joined.
pub fn all_text(instance: &Instance, study: &Study) -> String {
    let s = &study.attributes.study_description;
    format!("{s} | {} | {}", instance.series_description, instance.protocol_name)
}

fn is_image(instance: &Instance) -> bool {
    let modality = instance.modality.trim().to_uppercase();
    instance.has_pixels && !NOT_IMAGES.iter().any(|(name, _)| *name == modality)
}

fn why_not_read(instance: &Instance) -> Option<String> {
    let modality = instance.modality.trim().to_uppercase();
    if let Some((_, name)) = NOT_IMAGES.iter().find(|(code, _)| *code == modality) {
        return Some(format!("not an image to be read: {name}"));
    }
    if !instance.has_pixels {
        return Some("it has no pixels".into());
    }
    if is_dose_screen(instance) {
        return Some("dose report or saved screen".into());
    }
    is_localizer(instance).then(|| "localizer".into())
}

fn is_localizer(instance: &Instance) -> bool {
    let modality = instance.modality.trim().to_uppercase();
    let by_type = instance.image_type.iter().any(|v| v.trim().eq_ignore_ascii_case("LOCALIZER"));
    matches!(modality.as_str(), "CT" | "MR" | "MRI" | "PT")
        && (by_type || words::has_any(&instance.series_description, &LOCALIZER))
}

fn is_dose_screen(instance: &Instance) -> bool {
    let by_type = instance.image_type.iter().any(|value| {
        let value = value.trim().to_uppercase();
        matches!(value.as_str(), "SCREEN SAVE" | "DOSE_INFO" | "DOSE INFO" | "DOSE REPORT")
    });
    by_type || words::has_any(&instance.series_description, &DOSE)
}

/// Why a study is held by rule, if it is. A study with something that could not be parsed is
/// never held for what the rest is: the unreadable part may be the image.
pub fn held(study: &Study) -> Option<String> {
    let patient = &study.patient;
    let name =
        format!("{} {}", patient.name.alphabetic.replace('^', " "), patient.name.ideographic);
    let is_qa = |text: &str| words::has_any(text, &QA) && !words::has_any(text, &NOT_QA);
    // Two letters are also somebody's name: alone they count only where no person is described.
    let nobody = patient.birth_date.trim().is_empty() && patient.sex.trim().is_empty();
    let named = words::has(&name, "phantom") || words::has(&patient.id, "phantom");
    // All of it: one odd series does not make a patient a phantom.
    let groups = kinds(&study.instances);
    let described = !groups.is_empty() && groups.iter().all(|(i, _)| is_qa(&all_text(i, study)));
    if described || named || (nobody && is_qa(&name)) {
        return Some("quality assurance: a phantom, not a patient".into());
    }
    if study.instances.is_empty() || !study.unreadable.is_empty() {
        return None;
    }
    let reasons: Vec<String> = study.instances.iter().map_while(why_not_read).collect();
    if reasons.len() < study.instances.len() {
        return None;
    }
    let mut kinds: Vec<&str> = Vec::new();
    for reason in &reasons {
        if !kinds.contains(&reason.as_str()) {
            kinds.push(reason);
        }
    }
    Some(format!("nothing to read: {}", kinds.join("; ")))
}

/// How strongly the headers speak for a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// It takes everything of its modalities.
    Modality,
    Series,
    Study,
    BodyPart,
}

fn choose(study: &Study, profiles: &[&Profile]) -> Option<(Profile, Vec<String>)> {
    let images = kinds(study.instances.iter().filter(|i| why_not_read(i).is_none()));
    let total: usize = images.iter().map(|(_, count)| count).sum();
    let mut fitting: Vec<(Evidence, usize, &Profile)> = profiles
        .iter()
        .filter_map(|&profile| {
            let taken: Vec<(Evidence, usize)> = images
                .iter()
                .filter_map(|(image, count)| Some((evidence(profile, image, study)?, *count)))
                .collect();
            let count = taken.iter().map(|(_, count)| count).sum();
            taken.iter().max().map(|(best, _)| (*best, count, profile))
        })
        .collect();
    // Strongest evidence first; a special profile before a general one; more images; the name.
    fitting.sort_by(|a, b| {
        let key = |(evidence, taken, profile): &(Evidence, usize, &Profile)| {
            (is_fallback(profile), std::cmp::Reverse((*evidence, profile.priority, *taken)))
        };
        key(a).cmp(&key(b)).then_with(|| a.2.name.cmp(&b.2.name))
    });
    let (best, taken, chosen) = *fitting.first()?;
    let mut notes = Vec::new();
    for (other_evidence, _, other) in &fitting[1..] {
        if best > Evidence::Modality && *other_evidence > Evidence::Series && !is_fallback(other) {
            notes.push(format!(
                "the headers also point to \"{}\"; the study was read as \"{}\"",
                other.title, chosen.title
            ));
        }
    }
    if taken < total {
        let left = total - taken;
        notes.push(format!("{left} of {total} images are of another kind and were not read"));
    }
    let mut profile = chosen.clone();
    let mut modalities: Vec<String> = Vec::new();
    for (image, _) in images.iter().filter(|(image, _)| evidence(chosen, image, study).is_some()) {
        if !image.modality.is_empty() && !modalities.contains(&image.modality) {
            modalities.push(image.modality.clone());
        }
    }
    profile.pictures.modalities = modalities;
    Some((profile, notes))
}

/// One instance of each kind that headers tell apart, and how many there are: a series of a
/// thousand slices is looked at once.
fn kinds<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> Vec<(&'a Instance, usize)> {
    let mut found: Vec<(&Instance, usize)> = Vec::new();
    let key = |i: &'a Instance| {
        (
            (&i.series_uid, &i.modality, &i.sop_class_uid, &i.body_part_examined),
            (&i.view_position, &i.series_description, &i.protocol_name),
        )
    };
    for instance in instances {
        // Instances are ordered by series: the same kind is mostly the last one.
        match found.iter_mut().rev().find(|(known, _)| key(known) == key(instance)) {
            Some((_, count)) => *count += 1,
            None => found.push((instance, 1)),
        }
    }
    found
}

fn is_fallback(profile: &Profile) -> bool {
    let m = &profile.matches;
    m.modalities.is_empty() && m.body_parts.is_empty() && m.descriptions.is_empty()
}

fn evidence(profile: &Profile, instance: &Instance, study: &Study) -> Option<Evidence> {
    let matches = &profile.matches;
    let modality = effective_modality(instance, study);
    let listed =
        |list: &[String], value: &str| list.iter().any(|item| item.eq_ignore_ascii_case(value));
    if !matches.modalities.is_empty() && !listed(&matches.modalities, &modality) {
        return None;
    }
    let text = all_text(instance, study);
    if words::has_any(&text, &matches.not_descriptions) {
        return None;
    }
    if matches.body_parts.is_empty() && matches.descriptions.is_empty() {
        return Some(Evidence::Modality);
    }
    if listed(&matches.body_parts, instance.body_part_examined.trim()) {
        return Some(Evidence::BodyPart);
    }
    if words::has_any(&study.attributes.study_description, &matches.descriptions) {
        return Some(Evidence::Study);
    }
    words::has_any(&text, &matches.descriptions).then_some(Evidence::Series)
}

fn route(profile: &Profile, study: &Study, config: &Config) -> Route {
    let strategy = match profile.strategy.as_str() {
        "default" => &config.strategy,
        other => other,
    };
    let mut strategy = match profile.is_free() {
        true => Strategy::default(),
        false => config.strategies.get(strategy).cloned().unwrap_or_default(),
    };
    let reader = std::mem::take(&mut strategy.read);
    let name = match (profile.provider.as_str(), reader.as_str()) {
        ("default", "") => config.provider.as_str(),
        ("default", reader) => reader,
        (other, _) => other,
    };
    if name == "local" && profile.is_free() {
        let reason = "no gateway is configured that could answer by the profile's schema";
        return Route::Nobody { reason: reason.into() };
    }
    if name == "local" {
        return Route::Local;
    }
    let read = kinds(study.instances.iter().filter(|i| why_not_read(i).is_none()));
    let shown = |i: &&Instance| {
        let wanted = &profile.pictures.modalities;
        wanted.is_empty() || wanted.contains(&i.modality)
    };
    let modalities: Vec<String> =
        read.iter().map(|(i, _)| *i).filter(shown).map(|i| effective_modality(i, study)).collect();
    let turn = config.turn(name, &study.study_uid);
    let may_see = |other: &&String| {
        let other = config.gateways.get(*other);
        other.is_some_and(|other| {
            config.may_be_where_it_is(other) && modalities.iter().all(|one| other.may_see(one))
        })
    };
    let Some(name) = turn.iter().find(may_see) else {
        let modality = modalities.iter().filter_map(|m| crate::domain::context::modality(m)).next();
        let modality = modality.unwrap_or("unknown");
        let known = || turn.iter().filter_map(|one| config.gateways.get(one));
        let reason = match known().any(|one| config.may_be_where_it_is(one)) {
            true => format!(
                "the gateway \"{name}\" is not allowed for modality {modality} by the configuration"
            ),
            false if known().next().is_some() => {
                format!("the gateway \"{name}\" is not in a region that the configuration allows")
            }
            false => format!("the gateway \"{name}\" is not configured"),
        };
        return Route::Nobody { reason };
    };
    let Some(gateway) = config.gateways.get(name) else {
        return Route::Nobody { reason: format!("the gateway \"{name}\" is not configured") };
    };
    // What was to stay inside does not leave because of a fault.
    let may_stand_in = |other: &&String| {
        let is_further = |other: &Gateway| other.is_further_out_than(gateway);
        may_see(other) && !config.gateways.get(*other).is_some_and(is_further)
    };
    let fallback = config.fallback.iter().flat_map(|other| config.turn(other, &study.study_uid));
    let mut then: Vec<String> = Vec::new();
    for other in turn.iter().cloned().chain(fallback) {
        if other != *name && !then.contains(&other) && may_stand_in(&&other) {
            then.push(other);
        }
    }
    strategy.resolve(|station| {
        let turn = config.turn(station, &study.study_uid);
        turn.into_iter().find(|other| other != name && may_stand_in(&other))
    });
    Route::Gateway { name: name.clone(), then, strategy: Box::new(strategy) }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
