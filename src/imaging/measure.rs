//! Measurements: numbers read off headers and pixels, and what limits any reading. Never a
//! finding.

use std::collections::BTreeMap;
use std::path::Path;

use crate::domain::assessment::QualityFlag;
use crate::domain::assessment::StudyMeasurement;
use crate::domain::study::Excluded;
use crate::domain::study::Instance;
use crate::domain::study::Study;
use crate::domain::uid::SeriesUid;
use crate::imaging::ImagingError;
use crate::imaging::decode::Colour;
use crate::imaging::decode::Image;
use crate::imaging::select;
use crate::imaging::window;
use crate::imaging::window::Raster;
use crate::imaging::window::Transform;

/// Series that are measured; the longest first.
const SERIES_MAX: usize = 8;
/// Slices decoded of one series.
const SAMPLED_MAX: usize = 9;
/// Views (radiographs) decoded of one study.
const VIEWS_MAX: usize = 8;
/// Spacings within this share of the median count as equal (rounding in headers).
const SPACING_TOLERANCE: f64 = 0.1;
/// Shares of a radiograph, inside its collimation, from which it counts as saturated.
const SATURATED_SHARE: f64 = 0.15;
/// Grey levels of 255 between the 5th and 95th percentile below which contrast is low.
const LOW_CONTRAST_LEVELS: f64 = 40.0;

/// Ranges of Hounsfield units whose share of a slice is given. Names for people; not tissue
/// that was recognised.
const HU_RANGES: [(&str, f64, f64); 5] = [
    ("air, below -900 HU", f64::NEG_INFINITY, -900.0),
    ("lung range, -900 to -500 HU", -900.0, -500.0),
    ("fat range, -150 to -30 HU", -150.0, -30.0),
    ("soft tissue range, 0 to 80 HU", 0.0, 80.0),
    ("bone range, above 300 HU", 300.0, f64::INFINITY),
];

/// Measures a study: technique, geometry, completeness, intensity; and its quality flags.
/// An instance that cannot be decoded is listed with the reason.
pub fn measure(
    data: &Path,
    study: &Study,
) -> (Vec<StudyMeasurement>, Vec<QualityFlag>, Vec<Excluded>) {
    let mut report = Report::default();
    completeness(study, &mut report);
    for series in series_of(study).into_iter().take(SERIES_MAX) {
        technique(&series, &mut report);
        match series.is_volume {
            true => {
                geometry(&series, &mut report);
                volume_intensity(data, &series, &mut report);
            }
            false => view_intensity(data, &series, &mut report),
        }
    }
    flags_of_headers(study, &mut report);
    (report.measurements, report.flags, report.excluded)
}

#[derive(Default)]
struct Report {
    measurements: Vec<StudyMeasurement>,
    flags: Vec<QualityFlag>,
    excluded: Vec<Excluded>,
    views: usize,
}

impl Report {
    fn add(&mut self, group: &str, name: &str, value: String, unit: &str, source: &str) {
        self.measurements.push(StudyMeasurement {
            group: group.into(),
            name: name.into(),
            value,
            unit: unit.into(),
            source: source.into(),
        });
    }

    /// One flag for each key: the first words stay.
    fn flag(&mut self, key: &str, text: String) {
        if self.flags.iter().all(|flag| flag.key != key) {
            self.flags.push(QualityFlag { key: key.into(), text });
        }
    }

    fn exclude(&mut self, instance: &Instance, error: &ImagingError) {
        let sop_instance_uid = instance.sop_instance_uid.clone();
        if self.excluded.iter().all(|e| e.sop_instance_uid != sop_instance_uid) {
            self.excluded.push(Excluded { sop_instance_uid, reason: error.to_string() });
        }
    }
}

/// One series with pixels.
struct Series<'a> {
    instances: Vec<&'a Instance>,
    is_volume: bool,
    /// "series 3, 28 slices".
    name: String,
}

fn series_of(study: &Study) -> Vec<Series<'_>> {
    let mut by_uid: BTreeMap<&SeriesUid, Vec<&Instance>> = BTreeMap::new();
    let shown = study.instances.iter().filter(|i| i.has_pixels && !select::is_localizer(i));
    for instance in shown {
        by_uid.entry(&instance.series_uid).or_default().push(instance);
    }
    let mut all: Vec<Series<'_>> = by_uid.into_values().map(series).collect();
    all.sort_by_key(|series| std::cmp::Reverse(series.instances.len()));
    all
}

fn series(instances: Vec<&Instance>) -> Series<'_> {
    let one = instances[0];
    let is_volume = matches!(one.modality.as_str(), "CT" | "MR" | "PT");
    let number = one.series_number.map_or("series".into(), |n| format!("series {n}"));
    let count: u64 = instances.iter().map(|i| u64::from(i.number_of_frames)).sum();
    let what = match (is_volume, count) {
        (true, 1) => "slice",
        (true, _) => "slices",
        (false, 1) => "image",
        (false, _) => "images",
    };
    Series { name: format!("{number}, {count} {what}"), instances, is_volume }
}

/// At most two decimals, without idle zeros.
fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".into() } else { text.to_owned() }
}

/// "5" or "5 to 7".
fn range(numbers: impl Iterator<Item = f64>) -> Option<String> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let (first, last) = (short(*numbers.first()?), short(*numbers.last()?));
    Some(if first == last { first } else { format!("{first} to {last}") })
}

fn completeness(study: &Study, report: &mut Report) {
    let with_pixels = study.instances.iter().filter(|i| i.has_pixels).count();
    let all = format!("{} instances", study.instances.len() + study.unreadable.len());
    report.add("completeness", "Instances with pixels", with_pixels.to_string(), "1", &all);
    let mut series: Vec<&SeriesUid> = study.instances.iter().map(|i| &i.series_uid).collect();
    series.sort();
    series.dedup();
    report.add("completeness", "Series", series.len().to_string(), "1", &all);
    if !study.unreadable.is_empty() {
        let count = study.unreadable.len();
        report.add("completeness", "Unreadable instances", count.to_string(), "1", &all);
        report.flag("unreadable_instances", format!("{count} instances could not be parsed"));
    }
}

fn technique(series: &Series<'_>, report: &mut Report) {
    let all = || series.instances.iter();
    let rows: [(&str, Option<String>, &str); 5] = [
        ("Tube voltage", range(all().filter_map(|i| i.kvp)), "kV"),
        ("Exposure", range(all().filter_map(|i| i.exposure_mas)), "mA.s"),
        ("Exposure index", range(all().filter_map(|i| i.exposure_index)), "1"),
        ("Slice thickness", range(all().filter_map(|i| i.slice_thickness_mm)), "mm"),
        ("Gantry tilt", range(all().filter_map(|i| i.gantry_tilt_degrees)), "deg"),
    ];
    for (name, value, unit) in rows {
        if let Some(value) = value {
            report.add("technique", name, value, unit, &series.name);
        }
    }
    let one = series.instances[0];
    let same = all().all(|i| (i.columns, i.rows) == (one.columns, one.rows));
    if same {
        let matrix = format!("{} x {}", one.columns, one.rows);
        report.add("geometry", "Matrix, columns x rows", matrix, "1", &series.name);
    }
    let spacing = |i: &&&Instance| i.pixel_spacing_mm.or(i.imager_pixel_spacing_mm);
    let name = match one.pixel_spacing_mm {
        Some(_) => "Pixel spacing",
        None => "Pixel spacing at the detector",
    };
    if let Some(value) = range(all().filter_map(|i| spacing(&i)).flatten()) {
        report.add("geometry", name, value, "mm", &series.name);
    }
}

fn geometry(series: &Series<'_>, report: &mut Report) {
    let name = &series.name;
    let one = series.instances[0];
    if let Some(orientation) = one.image_orientation {
        report.add("geometry", "Orientation", plane(orientation).into(), "", name);
    }
    if one.number_of_frames > 1 {
        return;
    }
    if series.instances.len() == 1 {
        let text = format!("{name}: a single slice of what is usually a stack");
        report.flag("single_frame_of_series", text);
        return;
    }
    holes_in_numbers(series, report);
    let mut slices = series.instances.clone();
    slices.sort_by_key(|i| (i.instance_number, i.sop_instance_uid.clone()));
    let Some(mut positions) = select::positions_of(&slices) else { return };
    positions.sort_by(f64::total_cmp);
    let steps: Vec<f64> = positions.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let repeats = steps.iter().filter(|step| **step < select::SAME_POSITION_MM).count();
    let mut steps: Vec<f64> =
        steps.into_iter().filter(|step| *step >= select::SAME_POSITION_MM).collect();
    let extent = positions[positions.len() - 1] - positions[0];
    report.add("geometry", "Extent along the stack", short(extent), "mm", name);
    report.add("completeness", "Slices at a position of another", repeats.to_string(), "1", name);
    // Time points and echoes repeat every position; a few repeats are something else.
    if repeats > 0 && repeats < steps.len() / 2 {
        report.flag("duplicate_slices", format!("{name}: {repeats} positions occur twice"));
    }
    steps.sort_by(f64::total_cmp);
    let Some(median) = window::percentile(&steps, 50.0) else { return };
    let spacing = range(steps.iter().copied()).unwrap_or_default();
    report.add("geometry", "Distance between slices", spacing.clone(), "mm", name);
    report.add("geometry", "Distance between slices, median", short(median), "mm", name);
    let is_usual = |step: &&f64| (**step - median).abs() <= SPACING_TOLERANCE * median;
    let unusual: Vec<f64> = steps.iter().filter(|step| !is_usual(step)).copied().collect();
    // A gap: few steps that are a multiple of the usual one. Many: the protocol changes.
    let is_multiple = |step: &&f64| {
        let times = **step / median;
        times > 1.5 && (times - times.round()).abs() < 2.0 * SPACING_TOLERANCE
    };
    let gaps: Vec<f64> = unusual.iter().filter(is_multiple).copied().collect();
    let few = gaps.len() * 10 <= steps.len() && gaps.len() == unusual.len();
    report.add(
        "completeness",
        "Gaps in the stack",
        if few { gaps.len() } else { 0 }.to_string(),
        "1",
        name,
    );
    if few && !gaps.is_empty() {
        let missing: f64 = gaps.iter().map(|gap| (gap / median).round() - 1.0).sum();
        let text = format!("{name}: {missing} slices seem to be missing by their positions");
        report.flag("slices_missing", text);
    } else if !unusual.is_empty() {
        let text = format!("{name}: distance between slices {spacing} mm");
        report.flag("variable_spacing", text);
    }
}

/// Numbers that no instance of the series has.
fn holes_in_numbers(series: &Series<'_>, report: &mut Report) {
    let mut numbers: Vec<i32> = series.instances.iter().filter_map(|i| i.instance_number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return };
    let expected = i64::from(*last) - i64::from(*first) + 1;
    let holes = expected - numbers.len() as i64;
    // Exports that number by echo or by tens say nothing.
    if numbers.len() == series.instances.len() && holes < numbers.len() as i64 {
        let name = &series.name;
        report.add("completeness", "Instance numbers left out", holes.to_string(), "1", name);
    }
}

/// The plane that a slice lies in, by its normal.
fn plane(orientation: [f64; 6]) -> &'static str {
    let normal = select::normal_of(orientation).map(f64::abs);
    match normal {
        [_, _, z] if z > 0.98 => "axial",
        [_, _, z] if z > 0.8 => "axial, oblique",
        [_, y, _] if y > 0.98 => "coronal",
        [_, y, _] if y > 0.8 => "coronal, oblique",
        [x, _, _] if x > 0.98 => "sagittal",
        [x, _, _] if x > 0.8 => "sagittal, oblique",
        _ => "oblique",
    }
}

/// Values of a few slices over the whole stack, in modality units.
fn volume_intensity(data: &Path, series: &Series<'_>, report: &mut Report) {
    let slices = select::in_order(&series.instances);
    let mut values: Vec<f64> = Vec::new();
    let mut taken = 0;
    let mut in_units = true;
    let mut open: Option<(&Instance, Image)> = None;
    for select::Chosen { instance, frame } in select::frames_of(&slices, SAMPLED_MAX) {
        if open.as_ref().is_none_or(|(opened, _)| !std::ptr::eq(*opened, instance)) {
            open = match Image::open(&data.join(&instance.object)) {
                Ok(image) => Some((instance, image)),
                Err(error) => {
                    report.exclude(instance, &error);
                    None
                }
            };
        }
        let Some((_, image)) = &mut open else { continue };
        match image.frame(frame) {
            Ok(decoded) if decoded.colour == Colour::Rgb || decoded.colour == Colour::Palette => {}
            Ok(decoded) => {
                let transform = Transform::of(image, frame);
                in_units &= transform.has_modality;
                values.extend(window::sample(&decoded.values, &transform));
                taken += 1;
            }
            Err(error) => report.exclude(instance, &error),
        }
    }
    values.sort_by(f64::total_cmp);
    let is_ct = series.instances[0].modality == "CT" && in_units;
    let (unit, what) = if is_ct { ("[hnsf'U]", "HU") } else { ("1", "Values") };
    let source = format!("{}, {taken} of them sampled", series.name);
    for percent in [5.0, 50.0, 95.0] {
        if let Some(value) = window::percentile(&values, percent) {
            let name = format!("{what}, {percent}th percentile");
            report.add("intensity", &name, short(value), unit, &source);
        }
    }
    if is_ct && !values.is_empty() {
        for (name, low, high) in HU_RANGES {
            let inside = values.iter().filter(|hu| **hu >= low && **hu <= high).count();
            let share = inside as f64 / values.len() as f64 * 100.0;
            report.add("intensity", &format!("Share of {name}"), short(share), "%", &source);
        }
    }
}

/// Exposure, collimation and contrast of radiographs and other views, each by its first frame.
fn view_intensity(data: &Path, series: &Series<'_>, report: &mut Report) {
    for instance in &series.instances {
        if report.views >= VIEWS_MAX {
            return;
        }
        report.views += 1;
        let shown = match Image::open(&data.join(&instance.object)) {
            Ok(mut image) => image.frame(0).map(|frame| {
                let raster = window::to_grey(window::render(&image, &frame, 0, None));
                let extremes = Extremes::of(&frame, &image);
                (raster, extremes)
            }),
            Err(error) => Err(error),
        };
        let (raster, extremes) = match shown {
            Ok(shown) => shown,
            Err(error) => {
                report.exclude(instance, &error);
                continue;
            }
        };
        let number = instance.instance_number.map_or(String::new(), |n| format!(", image {n}"));
        let source = format!("{}{number}", series.name);
        let inside = collimation(&raster);
        let area = inside.area() as f64 / (raster.width * raster.height) as f64 * 100.0;
        report.add("intensity", "Area inside the collimation", short(area), "%", &source);
        let mut levels = inside.levels(&raster);
        levels.sort_unstable();
        let level = |percent: f64| -> f64 {
            let at = (percent / 100.0 * levels.len().saturating_sub(1) as f64).round() as usize;
            levels.get(at).copied().unwrap_or(0).into()
        };
        let contrast = level(95.0) - level(5.0);
        let name = "Contrast, 5th to 95th percentile of 255 grey levels";
        report.add("intensity", name, short(contrast), "1", &source);
        if contrast < LOW_CONTRAST_LEVELS {
            let text = format!("{source}: {} of 255 grey levels used", short(contrast));
            report.flag("low_contrast", text);
        }
        let radiograph =
            matches!(instance.modality.as_str(), "CR" | "DX" | "RG" | "MG" | "PX" | "IO");
        let Some(extremes) = extremes.filter(|_| radiograph) else { continue };
        for (end, share) in [("lowest", extremes.low), ("highest", extremes.high)] {
            let name = format!("Share of pixels at the {end} stored value");
            report.add("intensity", &name, short(share * 100.0), "%", &source);
        }
        // Black beyond the collimator is no overexposure.
        let outside = 1.0 - area / 100.0;
        let worst = (extremes.low.max(extremes.high) - outside).max(0.0);
        if worst > SATURATED_SHARE {
            let text = format!("{source}: saturated, {} % of pixels", short(worst * 100.0));
            report.flag("saturated", text);
        }
    }
}

/// Shares of a grey frame at the least and greatest value that Bits Stored can hold.
struct Extremes {
    low: f64,
    high: f64,
}

impl Extremes {
    fn of(frame: &crate::imaging::decode::Frame, image: &Image) -> Option<Extremes> {
        if frame.colour == Colour::Rgb || frame.colour == Colour::Palette || image.shape.float {
            return None;
        }
        let span = 2f64.powi(image.shape.bits_stored as i32);
        let least = if image.shape.signed { -span / 2.0 } else { 0.0 };
        let (mut low, mut high) = (0u64, 0u64);
        let count = frame.values.len();
        for at in 0..count {
            let value = frame.values.get(at);
            low += u64::from(value <= least);
            high += u64::from(value >= least + span - 1.0);
        }
        Some(Extremes { low: low as f64 / count as f64, high: high as f64 / count as f64 })
    }
}

/// A rectangle of a raster, the ends not included.
struct Inside {
    columns: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
}

impl Inside {
    fn area(&self) -> usize {
        self.columns.len() * self.rows.len()
    }

    fn levels(&self, raster: &Raster) -> Vec<u8> {
        let step = (self.area() / 200_000).max(1);
        let all = self.rows.clone().flat_map(|row| {
            let line = row * raster.width;
            raster.pixels[line + self.columns.start..line + self.columns.end].iter().copied()
        });
        all.step_by(step).collect()
    }
}

/// What lies inside even borders: rows and columns from each side that are black or white
/// throughout are left out, at most 40 % from each side. An estimate.
fn collimation(raster: &Raster) -> Inside {
    let (width, height) = (raster.width, raster.height);
    let even = |levels: &mut dyn Iterator<Item = u8>| {
        let (mut dark, mut light, mut count) = (0usize, 0usize, 0usize);
        for level in levels {
            dark += usize::from(level < 16);
            light += usize::from(level > 247);
            count += 1;
        }
        dark.max(light) * 100 >= count * 97
    };
    let row = |y: usize| even(&mut raster.pixels[y * width..(y + 1) * width].iter().copied());
    let column = |x: usize| even(&mut (0..height).map(|y| raster.pixels[y * width + x]));
    let border = |length: usize, is_even: &dyn Fn(usize) -> bool| {
        let most = length * 2 / 5;
        let first = (0..most).take_while(|at| is_even(*at)).count();
        let last = (0..most).take_while(|at| is_even(length - 1 - at)).count();
        first..length - last
    };
    Inside { columns: border(width, &column), rows: border(height, &row) }
}

fn flags_of_headers(study: &Study, report: &mut Report) {
    let shown: Vec<&Instance> = study.instances.iter().filter(|i| i.has_pixels).collect();
    let lossy = |i: &&&Instance| i.lossy_image_compression == "01" || is_lossy_syntax(i);
    let count = shown.iter().filter(lossy).count();
    if count > 0 {
        let text = format!("{count} of {} images were compressed with loss", shown.len());
        report.flag("lossy_compression", text);
    }
    let burned = shown.iter().filter(|i| burned_in_possible(i)).count();
    if burned > 0 {
        let text = format!("{burned} of {} images may have text in their pixels", shown.len());
        report.flag("burned_in_possible", text);
    }
    if !study.inconsistencies.is_empty() {
        report.flag(QualityFlag::OF_HEADERS, study.inconsistencies.join("; "));
    }
}

/// Transfer syntaxes that always lose something.
fn is_lossy_syntax(instance: &Instance) -> bool {
    use dicom_dictionary_std::uids;
    matches!(
        instance.transfer_syntax_uid.as_str(),
        uids::JPEG_BASELINE8_BIT | uids::JPEG_EXTENDED12_BIT | uids::JPEGLS_NEAR_LOSSLESS
    )
}

/// Said so, or of a kind that often has it and does not say no.
fn burned_in_possible(instance: &Instance) -> bool {
    let kinds = ["US", "XA", "RF", "ES", "OT", "SC", "XC"];
    match instance.burned_in_annotation.as_str() {
        "YES" => true,
        "NO" => false,
        _ => {
            let capture = !instance.conversion_type.is_empty();
            capture || kinds.contains(&instance.modality.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::select::tests::slice;
    use crate::imaging::select::tests::study;

    fn flags(instances: Vec<Instance>) -> Vec<String> {
        let (_, flags, _) = measure(Path::new("/nowhere"), &study(instances));
        flags.into_iter().map(|flag| flag.key).collect()
    }

    #[test]
    fn a_gap_a_repeat_and_a_change_of_spacing_are_told_apart() {
        let stack = |leave_out: &[i32]| -> Vec<Instance> {
            let numbers = (0..40).filter(|n| !leave_out.contains(n));
            numbers.map(|n| slice(n, f64::from(n) * 5.0)).collect()
        };
        assert_eq!(flags(stack(&[])), [""; 0]);
        assert_eq!(flags(stack(&[7, 20, 21])), ["slices_missing"]);
        let mut twice = stack(&[]);
        twice.push(slice(40, 50.0));
        assert_eq!(flags(twice), ["duplicate_slices"]);
        let mut change = stack(&[]);
        change.extend((40..60).map(|n| slice(n, 200.0 + f64::from(n - 40) * 10.0)));
        assert_eq!(flags(change), ["variable_spacing"]);
        assert_eq!(flags(vec![slice(1, 0.0)]), ["single_frame_of_series"]);
    }

    #[test]
    fn the_border_of_a_radiograph_is_found() {
        let (width, height) = (200, 100);
        let level = |at: usize| match (at % width, at / width) {
            (0..20, _) | (190.., _) | (_, 0..10) => 0,
            (x, y) => 60 + ((x * 7 + y * 13) % 120) as u8,
        };
        let pixels = (0..width * height).map(level).collect();
        let inside = collimation(&Raster { width, height, samples: 1, pixels });
        assert_eq!((inside.columns, inside.rows), (20..190, 10..100));
    }
}
