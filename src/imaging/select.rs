//! Which instances and frames of a study are shown: by geometry, not by file order.

use std::collections::BTreeMap;

use dicom_dictionary_std::uids;

use crate::domain::picture::PicturePlan;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::uid::SeriesUid;

/// Series shown of an MR study, whose sequences say different things.
const MR_SERIES_MAX: usize = 4;
/// Positions closer than this are the same slice.
pub const SAME_POSITION_MM: f64 = 0.01;

/// One frame (from 0) of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen<'a> {
    pub instance: &'a Instance,
    pub frame: u32,
}

/// Chooses what to show within the plan's budget, most telling series first, slices in the
/// order of their positions. Also says which instances are left out by their kind.
pub fn choose<'a>(study: &'a Study, plan: &PicturePlan) -> (Vec<Chosen<'a>>, Vec<Excluded>) {
    let mut excluded = Vec::new();
    let mut candidates: Vec<&Instance> = Vec::new();
    let wanted = |i: &&Instance| plan.modalities.is_empty() || fits(&i.modality, &plan.modalities);
    let with_pixels = study.instances.iter().filter(|i| i.has_pixels);
    for instance in with_pixels.filter(wanted) {
        match left_out(instance) {
            Some(reason) => excluded.push(Excluded {
                sop_instance_uid: instance.sop_instance_uid.clone(),
                reason: reason.to_owned(),
            }),
            None => candidates.push(instance),
        }
    }
    // A study of nothing but captures or localizers is shown as it is.
    if candidates.is_empty() {
        let shown = |i: &&Instance| !is_not_an_image(i);
        candidates = study.instances.iter().filter(|i| i.has_pixels).filter(wanted).collect();
        candidates.retain(|i| shown(&i));
        excluded.retain(|e| candidates.iter().all(|i| i.sop_instance_uid != e.sop_instance_uid));
    }
    let windows = plan.windows.len().max(1);
    let budget = (plan.pictures_max as usize / windows).max(1);
    let chosen = spread_over_series(candidates, plan.slices_max.max(1) as usize, budget);
    (chosen, excluded)
}

fn fits(modality: &str, wanted: &[String]) -> bool {
    wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(modality))
}

/// Objects with Pixel Data that are no pictures of a patient.
fn is_not_an_image(instance: &Instance) -> bool {
    matches!(
        instance.sop_class_uid.as_str(),
        uids::SEGMENTATION_STORAGE
            | uids::RT_DOSE_STORAGE
            | uids::PARAMETRIC_MAP_STORAGE
            | uids::OPHTHALMIC_OPTICAL_COHERENCE_TOMOGRAPHY_BSCAN_VOLUME_ANALYSIS_STORAGE
    )
}

/// Why an instance with pixels is not shown beside better ones.
fn left_out(instance: &Instance) -> Option<&'static str> {
    if is_not_an_image(instance) {
        return Some("not an image: segmentation, dose or parametric map");
    }
    if is_localizer(instance) {
        return Some("localizer");
    }
    let volume = matches!(instance.modality.as_str(), "CT" | "MR" | "PT");
    let capture = instance.sop_class_uid.as_str().starts_with(SECONDARY_CAPTURE);
    let derived = instance.image_type.first().is_some_and(|kind| kind == "DERIVED");
    let screen =
        instance.image_type.iter().any(|kind| kind == "SCREEN SAVE" || kind == "DOSE_INFO");
    (screen || (volume && capture && derived)).then_some("secondary capture")
}

const SECONDARY_CAPTURE: &str = "1.2.840.10008.5.1.4.1.1.7";

/// Image Type value 3 (PS3.3 C.8.2.1.1.1), or what vendors write into the description.
pub fn is_localizer(instance: &Instance) -> bool {
    let typed = instance.image_type.iter().any(|kind| kind == "LOCALIZER" || kind == "SCOUT");
    let described = instance.series_description.to_ascii_lowercase();
    let words = ["localizer", "localiser", "scout", "topogram", "surview", "scanogram"];
    let volume = matches!(instance.modality.as_str(), "CT" | "MR" | "PT");
    typed || (volume && words.iter().any(|word| described.contains(word)))
}

/// One series, its slices in order.
struct Stack<'a> {
    slices: Vec<&'a Instance>,
    /// Lower is better.
    rank: (bool, bool, bool, std::cmp::Reverse<u64>, i32),
}

fn spread_over_series<'a>(
    candidates: Vec<&'a Instance>,
    slices_max: usize,
    budget: usize,
) -> Vec<Chosen<'a>> {
    let mut series: BTreeMap<(&SeriesUid, [i8; 3]), Vec<&Instance>> = BTreeMap::new();
    let (volumes, projections): (Vec<&Instance>, Vec<&Instance>) =
        candidates.into_iter().partition(|i| is_slice(i));
    for instance in volumes {
        series.entry((&instance.series_uid, direction(instance))).or_default().push(instance);
    }
    let mut stacks: Vec<Stack<'_>> = series.into_values().map(stack).collect();
    stacks.sort_by(|a, b| a.rank.cmp(&b.rank));
    let is_mr = stacks.first().is_some_and(|stack| stack.slices[0].modality == "MR");
    let shared = if is_mr { stacks.len().clamp(1, MR_SERIES_MAX) } else { 1 };
    let each = slices_max.min((budget / shared).max(1));
    let mut chosen = Vec::new();
    for stack in &stacks {
        let left = budget.saturating_sub(chosen.len()).min(each);
        chosen.extend(of_stack(&stack.slices, left));
        if chosen.len() >= budget {
            break;
        }
    }
    let left = budget.saturating_sub(chosen.len());
    chosen.extend(of_projections(&projections, slices_max, left));
    chosen
}

/// A slice of a volume, as against a view.
fn is_slice(instance: &Instance) -> bool {
    let volume = matches!(instance.modality.as_str(), "CT" | "MR" | "PT");
    volume || (instance.image_position_mm.is_some() && instance.image_orientation.is_some())
}

/// The axis that a slice looks along, rounded, so that a three-plane series falls apart.
fn direction(instance: &Instance) -> [i8; 3] {
    let normal = instance.image_orientation.map(normal_of);
    normal.map_or([0; 3], |normal| normal.map(|part| (part * 4.0).round() as i8))
}

/// The normal of a slice: row direction times column direction.
pub fn normal_of(o: [f64; 6]) -> [f64; 3] {
    [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]]
}

/// Where a slice lies along its normal, in mm. `None` without position or orientation.
pub fn position_of(instance: &Instance) -> Option<f64> {
    let (normal, at) = (normal_of(instance.image_orientation?), instance.image_position_mm?);
    Some(normal.iter().zip(at).map(|(n, p)| n * p).sum())
}

/// Slices by their position, those without one by instance number; repeats of a position
/// (time points, echoes) after the first are left out.
pub fn in_order<'a>(instances: &[&'a Instance]) -> Vec<&'a Instance> {
    let mut slices = instances.to_vec();
    let key = |i: &Instance| (i.instance_number, i.sop_instance_uid.clone());
    slices.sort_by_key(|i| key(i));
    let positions: Option<Vec<f64>> = slices.iter().map(|i| position_of(i)).collect();
    let Some(positions) = positions else { return slices };
    let mut placed: Vec<(f64, &Instance)> = positions.into_iter().zip(slices).collect();
    placed.sort_by(|a, b| a.0.total_cmp(&b.0));
    placed.dedup_by(|later, first| (later.0 - first.0).abs() < SAME_POSITION_MM);
    placed.into_iter().map(|(_, instance)| instance).collect()
}

fn stack(instances: Vec<&Instance>) -> Stack<'_> {
    let slices = in_order(&instances);
    let one = slices[0];
    let axial = one.image_orientation.map(normal_of).is_some_and(|normal| normal[2].abs() > 0.8);
    let original = one.image_type.first().is_some_and(|kind| kind == "ORIGINAL");
    let capture = one.sop_class_uid.as_str().starts_with(SECONDARY_CAPTURE);
    let count = slices.iter().map(|i| u64::from(i.number_of_frames)).sum();
    let number = one.series_number.unwrap_or(i32::MAX);
    let rank = (capture, !axial, !original, std::cmp::Reverse(count), number);
    Stack { slices, rank }
}

fn of_stack<'a>(slices: &[&'a Instance], count: usize) -> Vec<Chosen<'a>> {
    let frames: Vec<Chosen<'a>> = match slices {
        // An enhanced object holds the whole stack.
        [one] => (0..one.number_of_frames).map(|frame| Chosen { instance: one, frame }).collect(),
        many => many.iter().map(|instance| Chosen { instance, frame: 0 }).collect(),
    };
    spread(&frames, count)
}

/// Views: every instance once, then more frames of the long ones.
fn of_projections<'a>(views: &[&'a Instance], frames_max: usize, budget: usize) -> Vec<Chosen<'a>> {
    if views.is_empty() || budget == 0 {
        return Vec::new();
    }
    let shown = spread(views, budget);
    let each = (budget / shown.len()).clamp(1, frames_max);
    let mut chosen = Vec::new();
    for instance in shown {
        let frames: Vec<Chosen<'a>> =
            (0..instance.number_of_frames.max(1)).map(|frame| Chosen { instance, frame }).collect();
        chosen.extend(spread(&frames, each));
    }
    chosen
}

/// `count` of the items, evenly over their whole extent.
pub fn spread<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    if items.len() <= count {
        return items.to_vec();
    }
    (0..count).map(|i| items[(2 * i + 1) * items.len() / (2 * count)]).collect()
}
