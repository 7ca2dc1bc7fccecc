//! Which instances and frames of a study are shown: by geometry, not by file order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashSet;

use dicom_dictionary_std::uids;

use crate::domain::picture::PicturePlan;
use crate::domain::picture::Slices;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::imaging::survey::Look;
use crate::imaging::window;

/// Frames of one series that are looked at before some are chosen; evenly taken of more.
const LOOKED_MAX: usize = 160;
/// Share of the body of a full slice below which one shows air and the table.
const BODY_SHARE_MIN: f64 = 0.15;
/// Spots on slices nearer to each other than this are one.
const SPOT_APART_MM: f64 = 10.0;
/// Series shown of an MR study, whose sequences say different things.
const MR_SERIES_MAX: usize = 4;
/// Extents that differ by less are alike.
const EXTENT_STEP_MM: f64 = 40.0;
/// Positions closer than this are the same slice.
pub const SAME_POSITION_MM: f64 = 0.01;

/// One frame (from 0) of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen<'a> {
    pub instance: &'a Instance,
    pub frame: u32,
}

/// Looks at the pixels of a frame; `None` when it cannot be decoded.
pub type Looking<'l, 'a> = dyn FnMut(&Chosen<'a>) -> Option<Look> + 'l;

/// Chooses what to show within the plan's budget, most telling series first, slices in the
/// order of their positions. Also says which instances are left out by their kind.
///
/// - `look`: only called where the plan chooses by more than headers.
pub fn choose<'a>(
    study: &'a Study,
    plan: &PicturePlan,
    look: &mut Looking<'_, 'a>,
) -> (Vec<Chosen<'a>>, Vec<Excluded>) {
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
        candidates.retain(shown);
        let back: HashSet<&SopInstanceUid> =
            candidates.iter().map(|i| &i.sop_instance_uid).collect();
        excluded.retain(|e| !back.contains(&e.sop_instance_uid));
    }
    let windows = plan.windows.len().max(1);
    let budget = (plan.pictures_max as usize / windows).max(1);
    let chosen = spread_over_series(candidates, plan, budget, look);
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
    rank: (bool, bool, bool, Reverse<u64>, Reverse<u64>, i32),
}

fn spread_over_series<'a>(
    candidates: Vec<&'a Instance>,
    plan: &PicturePlan,
    budget: usize,
    look: &mut Looking<'_, 'a>,
) -> Vec<Chosen<'a>> {
    let slices_max = plan.slices_max.max(1) as usize;
    let mut series: BTreeMap<(&SeriesUid, usize), Vec<&Instance>> = BTreeMap::new();
    let (volumes, projections): (Vec<&Instance>, Vec<&Instance>) =
        candidates.into_iter().partition(|i| is_slice(i));
    for instance in volumes {
        series.entry((&instance.series_uid, direction(instance))).or_default().push(instance);
    }
    let mut stacks: Vec<Stack<'_>> = series.into_values().map(stack).collect();
    stacks.sort_by_key(|stack| stack.rank);
    let is_mr = stacks.first().is_some_and(|stack| stack.slices[0].modality == "MR");
    let shared = if is_mr { stacks.len().clamp(1, MR_SERIES_MAX) } else { 1 };
    let each = slices_max.min((budget / shared).max(1));
    let mut chosen = Vec::new();
    for stack in &stacks {
        let left = budget.saturating_sub(chosen.len()).min(each);
        chosen.extend(of_stack(&stack.slices, left, plan.slices, look));
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

/// The axis that a slice looks along (3: not known), so that a three-plane series falls apart
/// and one with a varying gantry tilt does not.
fn direction(instance: &Instance) -> usize {
    let Some(normal) = instance.image_orientation.map(normal_of) else { return 3 };
    let longest = (0..3).max_by(|a, b| normal[*a].abs().total_cmp(&normal[*b].abs()));
    longest.unwrap_or(3)
}

/// The normal of a slice: row direction times column direction.
pub fn normal_of(o: [f64; 6]) -> [f64; 3] {
    [o[1] * o[5] - o[2] * o[4], o[2] * o[3] - o[0] * o[5], o[0] * o[4] - o[1] * o[3]]
}

/// Where slices lie along the normal of the first, in mm. `None` when one has no position.
pub fn positions_of(slices: &[&Instance]) -> Option<Vec<f64>> {
    let normal = normal_of(slices.first()?.image_orientation?);
    let along = |i: &&Instance| {
        let at = i.image_position_mm?;
        Some(normal.iter().zip(at).map(|(n, p)| n * p).sum())
    };
    slices.iter().map(along).collect()
}

/// Slices by their position, those without one by instance number; repeats of a position
/// (time points, echoes) after the first are left out.
pub fn in_order<'a>(instances: &[&'a Instance]) -> Vec<&'a Instance> {
    let mut slices = instances.to_vec();
    slices.sort_by_key(|i| (i.instance_number, i.sop_instance_uid.clone()));
    let Some(positions) = positions_of(&slices) else { return slices };
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
    // A slab of many thin slices (a perfusion, the base alone) tells less than the whole head.
    let extent = positions_of(&slices).map_or(0, |at| {
        let length = at.first().zip(at.last()).map_or(0.0, |(first, last)| last - first);
        (length / EXTENT_STEP_MM).round() as u64
    });
    let number = one.series_number.unwrap_or(i32::MAX);
    let rank = (capture, !axial, !original, Reverse(extent), Reverse(count), number);
    Stack { slices, rank }
}

fn of_stack<'a>(
    slices: &[&'a Instance],
    count: usize,
    how: Slices,
    look: &mut Looking<'_, 'a>,
) -> Vec<Chosen<'a>> {
    let single = slices.iter().all(|instance| instance.number_of_frames <= 1);
    let placed: Vec<(f64, Chosen<'_>)> = match positions_of(slices).filter(|_| single) {
        Some(positions) => {
            let frames = slices.iter().map(|instance| Chosen { instance, frame: 0 });
            positions.into_iter().zip(frames).collect()
        }
        None if how == Slices::Even => return frames_of(slices, count),
        None => {
            // Frames without a position of their own: as far apart as the header says.
            let one = slices[0];
            let apart = one.spacing_between_slices_mm.or(one.slice_thickness_mm).unwrap_or(1.0);
            let all: u64 = slices.iter().map(|i| u64::from(i.number_of_frames.max(1))).sum();
            let frames = frames_of(slices, LOOKED_MAX);
            let step = apart * all as f64 / frames.len().max(1) as f64;
            frames.into_iter().enumerate().map(|(at, frame)| (at as f64 * step, frame)).collect()
        }
    };
    if placed.len() <= count {
        return placed.into_iter().map(|(_, chosen)| chosen).collect();
    }
    match how {
        Slices::Even => {
            let even = spread_over(&placed, |(at, _)| *at, count);
            even.into_iter().map(|(_, chosen)| chosen).collect()
        }
        Slices::Coverage | Slices::Candidates => {
            let some = spread(&placed, LOOKED_MAX).into_iter();
            let seen: Vec<Seen<'_>> = some
                .filter_map(|(at, chosen)| look(&chosen).map(|look| Seen { chosen, at, look }))
                .collect();
            let taken = by_look(&seen, count, how == Slices::Candidates);
            taken.into_iter().map(|seen| seen.chosen).collect()
        }
    }
}

/// A frame at its position in mm, with what it shows.
#[derive(Clone, Copy)]
struct Seen<'a> {
    chosen: Chosen<'a>,
    at: f64,
    look: Look,
}

/// Evenly over the slices that hold enough of the body; with `spots`, up to half of them moved to
/// the largest spots.
fn by_look<'a>(seen: &[Seen<'a>], count: usize, spots: bool) -> Vec<Seen<'a>> {
    let mut bodies: Vec<f64> = seen.iter().map(|seen| seen.look.body).collect();
    bodies.sort_by(f64::total_cmp);
    let full = window::percentile(&bodies, 90.0).unwrap_or(0.0);
    let holds_body = |seen: &Seen<'_>| seen.look.body >= BODY_SHARE_MIN * full;
    let first = seen.iter().position(holds_body).unwrap_or(0);
    let last = seen.iter().rposition(holds_body).unwrap_or(seen.len().saturating_sub(1));
    let mut largest: Vec<&Seen<'_>> =
        seen.iter().filter(|seen| spots && seen.look.spot_mm2 > 0.0).collect();
    largest.sort_by(|a, b| b.look.spot_mm2.total_cmp(&a.look.spot_mm2));
    let mut pointed: Vec<Seen<'_>> = Vec::new();
    for one in largest {
        let apart = pointed.iter().all(|other| (other.at - one.at).abs() >= SPOT_APART_MM);
        if apart && pointed.len() < count / 2 {
            pointed.push(*one);
        }
    }
    // Each spot takes the place of the even slice nearest to it: what lies between stays short.
    let mut taken = spread_over(seen.get(first..=last).unwrap_or_default(), |seen| seen.at, count);
    let mut moved = Vec::new();
    for spot in pointed {
        let away = |at: &usize| (taken[*at].at - spot.at).abs();
        let same = taken.iter().position(|one| one.chosen == spot.chosen);
        let nearest = (0..taken.len()).min_by(|a, b| away(a).total_cmp(&away(b)));
        let full = taken.len() + moved.len() >= count;
        if let Some(at) = same.or(nearest.filter(|_| full)) {
            taken.swap_remove(at);
        }
        moved.push(spot);
    }
    taken.extend(moved);
    taken.sort_by(|a, b| a.at.total_cmp(&b.at));
    taken
}

/// `count` of all frames of the instances, evenly. A header may claim two thousand million
/// frames: they are counted, not listed.
pub fn frames_of<'a>(instances: &[&'a Instance], count: usize) -> Vec<Chosen<'a>> {
    let frames = |i: &Instance| u64::from(i.number_of_frames.max(1));
    let total = instances.iter().map(|i| frames(i)).sum();
    let mut chosen = Vec::new();
    for mut at in evenly(total, count) {
        for instance in instances {
            if at < frames(instance) {
                chosen.push(Chosen { instance, frame: at as u32 });
                break;
            }
            at -= frames(instance);
        }
    }
    chosen
}

/// `count` numbers below `total`, rising, evenly spread.
fn evenly(total: u64, count: usize) -> Vec<u64> {
    let count = (count as u64).min(total);
    let middle = |i: u64| u128::from(2 * i + 1) * u128::from(total) / u128::from(2 * count);
    (0..count).map(|i| middle(i) as u64).collect()
}

/// `count` of the items, evenly over the extent of their rising positions: thick slices beside
/// thin ones get their share.
fn spread_over<T: Copy>(items: &[T], position: impl Fn(&T) -> f64, count: usize) -> Vec<T> {
    let (Some(first), Some(last)) = (items.first(), items.last()) else {
        return Vec::new();
    };
    let (first, last) = (position(first), position(last));
    if items.len() <= count {
        return items.to_vec();
    }
    let mut taken: Vec<usize> = Vec::new();
    for i in 0..count {
        let wanted = first + (last - first) * (2 * i + 1) as f64 / (2 * count) as f64;
        let free = (0..items.len()).filter(|at| !taken.contains(at));
        let away = |at: &usize| (position(&items[*at]) - wanted).abs();
        taken.extend(free.min_by(|a, b| away(a).total_cmp(&away(b))));
    }
    taken.sort_unstable();
    taken.into_iter().map(|at| items[at]).collect()
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
        chosen.extend(frames_of(&[instance], each));
    }
    chosen
}

/// `count` of the items, evenly.
pub fn spread<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    evenly(items.len() as u64, count).into_iter().map(|at| items[at as usize]).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An axial CT slice at `z` mm.
    pub fn slice(number: i32, z: f64) -> Instance {
        let json = r#"{
            "sop_instance_uid": "1.2.NUMBER", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
            "series_uid": "1.3", "transfer_syntax_uid": "1.2.840.10008.1.2.1", "object": "a",
            "modality": "CT", "series_number": 1, "series_description": "", "protocol_name": "",
            "body_part_examined": "", "view_position": "", "laterality": "",
            "patient_orientation": [], "instance_number": NUMBER,
            "image_type": ["ORIGINAL", "PRIMARY", "AXIAL"], "conversion_type": "",
            "burned_in_annotation": "", "manufacturer": "", "manufacturer_model_name": "",
            "station_name": "", "acquired_date": "", "acquired_time": "", "rows": 512,
            "columns": 512, "number_of_frames": 1, "samples_per_pixel": 1, "bits_allocated": 16,
            "bits_stored": 16, "pixel_representation": 1,
            "photometric_interpretation": "MONOCHROME2", "has_pixels": true,
            "pixel_spacing_mm": [0.5, 0.5], "imager_pixel_spacing_mm": null,
            "slice_thickness_mm": 5.0, "spacing_between_slices_mm": null,
            "image_position_mm": [0.0, 0.0, POSITION], "image_orientation": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0],
            "gantry_tilt_degrees": null, "frame_of_reference_uid": "", "kvp": 120.0,
            "exposure_mas": 100.0, "exposure_index": null, "rescale_slope": 1.0,
            "rescale_intercept": -1024.0, "window_center": [], "window_width": [],
            "lossy_image_compression": "", "ultrasound_regions": []
        }"#;
        let json = json.replace("NUMBER", &number.to_string());
        let json = json.replace("POSITION", &format!("{z:?}"));
        serde_json::from_str(&json).unwrap()
    }

    pub fn study(instances: Vec<Instance>) -> Study {
        Study {
            study_uid: crate::domain::uid::StudyUid::parse("1.1").unwrap(),
            patient: Default::default(),
            attributes: Default::default(),
            instances,
            unreadable: Vec::new(),
            inconsistencies: Vec::new(),
            order: Default::default(),
        }
    }

    fn unseen(_: &Chosen<'_>) -> Option<Look> {
        panic!("even slices need no look")
    }

    fn chosen_numbers(study: &Study, slices_max: u32) -> Vec<i32> {
        let plan = PicturePlan { slices_max, ..PicturePlan::default() };
        let (chosen, _) = choose(study, &plan, &mut unseen);
        chosen.iter().filter_map(|c| c.instance.instance_number).collect()
    }

    #[test]
    fn slices_are_taken_by_position_evenly_and_without_repeats() {
        // Sent in disorder, numbered against the position, one position twice.
        let mut slices: Vec<Instance> =
            (0..40).map(|i| slice(i, f64::from(39 - i) * 2.5)).collect();
        slices.push(slice(99, 50.0));
        slices.reverse();
        assert_eq!(chosen_numbers(&study(slices), 4), [34, 24, 15, 5]);
    }

    #[test]
    fn frames_of_all_instances_count_and_are_never_listed() {
        let long = |n, frames| Instance { number_of_frames: frames, ..slice(n, 0.0) };
        let instances = [long(1, 10), long(2, 10)];
        let chosen = frames_of(&instances.each_ref(), 4);
        let frames: Vec<u32> = chosen.iter().map(|c| c.frame).collect();
        assert_eq!(frames, [2, 7, 2, 7]);
        let claimed = long(1, u32::MAX);
        assert_eq!(frames_of(&[&claimed], 1)[0].frame, u32::MAX / 2);
        let plan = PicturePlan::default();
        assert_eq!(choose(&study(vec![claimed]), &plan, &mut unseen).0.len(), 8);
    }

    #[test]
    fn thick_slices_get_their_share_beside_thin_ones() {
        let thin = (0..20).map(|i| slice(i, f64::from(i)));
        let thick = (20..24).map(|i| slice(i, 20.0 + f64::from(i - 20) * 5.0));
        assert_eq!(chosen_numbers(&study(thin.chain(thick).collect()), 4), [4, 13, 20, 22]);
    }

    #[test]
    fn localizers_and_captures_are_left_out_with_their_reason() {
        let mut localizer = slice(1, 0.0);
        localizer.image_type[2] = "LOCALIZER".into();
        let mut capture = slice(2, 0.0);
        capture.sop_class_uid =
            crate::domain::uid::SopClassUid::parse("1.2.840.10008.5.1.4.1.1.7").unwrap();
        capture.image_type[0] = "DERIVED".into();
        let mixed = study(vec![localizer.clone(), capture, slice(3, 1.0), slice(4, 2.0)]);
        let (chosen, excluded) = choose(&mixed, &PicturePlan::default(), &mut unseen);
        assert_eq!(chosen.len(), 2);
        let reasons: Vec<&str> = excluded.iter().map(|e| e.reason.as_str()).collect();
        assert_eq!(reasons, ["localizer", "secondary capture"]);
        let alone = study(vec![localizer]);
        let (chosen, excluded) = choose(&alone, &PicturePlan::default(), &mut unseen);
        assert_eq!((chosen.len(), excluded.len()), (1, 0), "better than nothing");
    }

    #[test]
    fn every_view_is_shown_and_windows_count_against_the_budget() {
        let view = |n| Instance {
            modality: "CR".into(),
            image_position_mm: None,
            image_orientation: None,
            ..slice(n, 0.0)
        };
        let plan = PicturePlan { pictures_max: 3, ..PicturePlan::default() };
        assert_eq!(choose(&study((1..=3).map(view).collect()), &plan, &mut unseen).0.len(), 3);
        assert_eq!(choose(&study((1..=9).map(view).collect()), &plan, &mut unseen).0.len(), 3);
        let window = |name: &str| crate::domain::picture::Window {
            name: name.into(),
            center: 40.0,
            width: 80.0,
        };
        let plan = PicturePlan {
            pictures_max: 12,
            windows: vec![window("brain"), window("bone")],
            ..PicturePlan::default()
        };
        let study = study((0..30).map(|i| slice(i, f64::from(i))).collect());
        assert_eq!(choose(&study, &plan, &mut unseen).0.len(), 6);
    }

    /// Forty slices of 5 mm: air on five at each end, a little body on one more, the spots given.
    fn by_sight(slices: Slices, slices_max: u32, spots: &[(i32, f64)]) -> Vec<i32> {
        let study = study((0..40).map(|i| slice(i, f64::from(i) * 5.0)).collect());
        let plan = PicturePlan { slices, slices_max, ..PicturePlan::default() };
        let mut look = |chosen: &Chosen<'_>| {
            let number = chosen.instance.instance_number.unwrap();
            let body = match number {
                0..5 | 35.. => 0.03,
                5 | 34 => 0.1,
                _ => 0.45,
            };
            let spot = spots.iter().find(|(at, _)| *at == number).map_or(0.0, |(_, mm2)| *mm2);
            // One slice is broken.
            (number != 20).then_some(Look { body, spot_mm2: spot })
        };
        let (chosen, _) = choose(&study, &plan, &mut look);
        chosen.iter().filter_map(|c| c.instance.instance_number).collect()
    }

    #[test]
    fn coverage_leaves_out_air_and_the_table() {
        assert_eq!(by_sight(Slices::Coverage, 3, &[]), [10, 19, 29]);
        assert_eq!(by_sight(Slices::Even, 3, &[]), [6, 19, 32]);
        let all = by_sight(Slices::Coverage, 12, &[]);
        assert!(all.len() == 12 && all.iter().all(|n| (5..=34).contains(n)), "{all:?}");
    }

    #[test]
    fn candidates_take_at_most_half_and_never_the_same_spot_twice() {
        assert_eq!(by_sight(Slices::Candidates, 4, &[]), by_sight(Slices::Coverage, 4, &[]));
        let spots = [(12, 150.0), (13, 140.0), (25, 90.0), (30, 60.0)];
        let chosen = by_sight(Slices::Candidates, 4, &spots);
        assert_eq!(chosen.len(), 4);
        assert!(chosen.contains(&12) && chosen.contains(&25), "{chosen:?}");
        assert!(!chosen.contains(&13), "it is the spot of 12: {chosen:?}");
        let one = by_sight(Slices::Candidates, 4, &[(37, 80.0)]);
        assert!(one.contains(&37), "a spot where there is little body: {one:?}");
        assert_eq!(by_sight(Slices::Candidates, 1, &spots).len(), 1);
    }

    #[test]
    fn the_series_with_the_whole_extent_goes_first() {
        let series = |uid: &str, count: i32, step: f64| -> Vec<Instance> {
            let series_uid = SeriesUid::parse(uid).unwrap();
            let of = |i| Instance {
                series_uid: series_uid.clone(),
                sop_instance_uid: crate::domain::uid::SopInstanceUid::parse(&format!("{uid}.{i}"))
                    .unwrap(),
                ..slice(i, f64::from(i) * step)
            };
            (0..count).map(of).collect()
        };
        let both = [series("1.3.1", 60, 0.6), series("1.3.2", 30, 5.0)].concat();
        let study = study(both);
        let plan = PicturePlan { slices_max: 4, pictures_max: 4, ..PicturePlan::default() };
        let (chosen, _) = choose(&study, &plan, &mut unseen);
        assert!(chosen.iter().all(|c| c.instance.series_uid.as_str() == "1.3.2"));
    }
}
