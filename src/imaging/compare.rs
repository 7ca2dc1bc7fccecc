//! Our decoded values against pydicom's, over pydicom's own files, pydicom-data and the
//! sample data beside the repository where it is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::domain::picture::Masked;
use crate::domain::picture::Masks;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::Window;
use crate::domain::study::Study;
use crate::imaging::decode::Frame;
use crate::imaging::decode::Image;
use crate::imaging::decode::Values;
use crate::imaging::inspect::inspect;
use crate::imaging::measure::measure;
use crate::imaging::picture::pictures;
use crate::imaging::picture::resize;
use crate::imaging::survey;
use crate::imaging::window;

#[derive(Deserialize)]
struct Reference {
    path: PathBuf,
    answers: Vec<Theirs>,
    errors: Vec<String>,
}

#[derive(Deserialize)]
struct Theirs {
    plugin: String,
    frames: Vec<u32>,
    rows: usize,
    columns: usize,
    samples: usize,
    float: bool,
    file: PathBuf,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
enum Verdict {
    Identical,
    WithinTolerance,
    Refused,
    OnlyOurs,
    NeitherDecodes,
    Wrong,
}

/// Lossy JPEG and JPEG 2000 decoders round differently, and smooth colour differently between
/// its subsampled positions: the mean says whether it is the same picture.
const MAX_DIFFERENCE: f64 = 2.0;
const MEAN_DIFFERENCE: f64 = 1.0;

#[test]
fn decoded_values_are_pydicoms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join(".venv/bin/python");
    assert!(python.exists(), "no .venv/bin/python: scripts/test makes it");
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(python);
    command.arg(root.join("tests/peers/decode_reference.py")).arg(out.path());
    command.args(shared_data());
    let run = command.stderr(std::process::Stdio::null()).output().unwrap();
    assert!(run.status.success(), "the reference script failed: {}", run.status);
    let text = String::from_utf8(run.stdout).unwrap();
    let references: Vec<Reference> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(references.len() > 100, "{} files with pixels", references.len());
    let mut table: BTreeMap<Verdict, Vec<String>> = BTreeMap::new();
    for reference in &references {
        let (verdict, why) = judge(reference);
        let name: Vec<_> = reference.path.iter().rev().take(2).collect();
        let name = format!("{}/{}", name[1].display(), name[0].display());
        table.entry(verdict).or_default().push(format!("{name}: {why}"));
    }
    for (verdict, files) in &table {
        println!("{verdict:?}: {}", files.len());
        if *verdict != Verdict::Identical {
            files.iter().for_each(|file| println!("    {file}"));
        }
    }
    assert_eq!(table.get(&Verdict::Wrong), None);
}

fn judge(reference: &Reference) -> (Verdict, String) {
    let opened = Image::open(&reference.path);
    let mut image = match (opened, reference.answers.is_empty()) {
        (Ok(image), _) => image,
        (Err(error), true) => return (Verdict::NeitherDecodes, error.to_string()),
        (Err(error), false) => return (Verdict::Refused, error.to_string()),
    };
    let Some(first) = reference.answers.first() else {
        return match image.frame(0) {
            Ok(_) => (Verdict::OnlyOurs, reference.errors.join("; ")),
            Err(error) => (Verdict::NeitherDecodes, error.to_string()),
        };
    };
    let mut ours = Vec::new();
    for number in &first.frames {
        match image.frame(*number) {
            Ok(frame) => ours.push(frame),
            Err(error) => return (Verdict::Refused, error.to_string()),
        }
    }
    let mut nearest = (Verdict::Wrong, "no answer of the same shape".to_owned(), f64::INFINITY);
    for theirs in &reference.answers {
        let shape = (theirs.rows, theirs.columns, theirs.samples, theirs.frames.len());
        if shape != (ours[0].rows, ours[0].columns, ours[0].samples(), ours.len()) {
            continue;
        }
        let values = theirs.values();
        let mut values = values.iter();
        let (mut max, mut sum, mut count) = (0f64, 0f64, 0f64);
        for frame in &ours {
            for at in 0..frame.values.len() {
                let difference = (frame.values.get(at) - values.next().unwrap()).abs();
                max = max.max(difference);
                sum += difference;
                count += 1.0;
            }
        }
        let mean = sum / count;
        let verdict = match max {
            0.0 => Verdict::Identical,
            max if max <= MAX_DIFFERENCE => Verdict::WithinTolerance,
            _ if mean <= MEAN_DIFFERENCE && is_lossy(&image) => Verdict::WithinTolerance,
            _ => Verdict::Wrong,
        };
        if (verdict, mean) < (nearest.0, nearest.2) {
            let syntax = image.data.transfer_syntax.as_str();
            let why = format!("{} max {max} mean {mean:.4} {syntax}", theirs.plugin);
            nearest = (verdict, why, mean);
        }
    }
    (nearest.0, nearest.1)
}

fn is_lossy(image: &Image) -> bool {
    let syntax = image.data.transfer_syntax.as_str();
    let lossy = ["4.50", "4.51", "4.91", "4.203", "4.81"];
    lossy.iter().any(|end| syntax.ends_with(end))
}

impl Theirs {
    fn values(&self) -> Vec<f64> {
        let bytes = std::fs::read(&self.file).unwrap();
        match self.float {
            true => {
                let words = bytes.chunks_exact(8);
                words.map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
            }
            false => {
                let words = bytes.chunks_exact(4);
                words.map(|b| i32::from_le_bytes(b.try_into().unwrap()).into()).collect()
            }
        }
    }
}

/// The sample data beside the repository, where it is there.
fn shared_data() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let places = ["../shared/data"].map(|at| root.join(at));
    places.into_iter().find(|folder| folder.is_dir())
}

fn study_in(root: &Path, folder: &str) -> Study {
    let mut paths = vec![root.join(folder)];
    if paths[0].is_dir() {
        paths = std::fs::read_dir(&paths[0]).unwrap().map(|e| e.unwrap().path()).collect();
    }
    let object = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    let all = paths.iter().filter_map(|path| inspect(path, &object(path)).ok());
    let all: Vec<_> = all.collect();
    Study::gather(all[0].study_uid.clone(), all, Vec::new())
}

/// A CT head of 28 slices: 14 of 4 mm, then 14 of 7 mm, gantry tilted by 18.5 degrees.
#[test]
fn a_real_head_series_is_measured_and_pictured() {
    let Some(root) = shared_data() else {
        println!("no sample data beside the repository: nothing checked");
        return;
    };
    let study = study_in(&root, "ct-head-series");
    let (measurements, flags, excluded) = measure(&root, &study);
    let value = |name: &str| {
        let found = measurements.iter().find(|m| m.name == name);
        found.map_or("missing", |m| m.value.as_str())
    };
    measurements.iter().for_each(|m| println!("{m:?}"));
    println!("{flags:?}");
    assert_eq!(excluded, []);
    assert_eq!(value("Instances with pixels"), "28");
    assert_eq!(value("Slice thickness"), "4 to 7");
    assert_eq!(value("Gantry tilt"), "18.5");
    assert_eq!(value("Gaps in the stack"), "0");
    assert_eq!(value("Slices at a position of another"), "0");
    let keys: Vec<&str> = flags.iter().map(|flag| flag.key.as_str()).collect();
    assert_eq!(keys, ["variable_spacing"]);
    let window = |name: &str, center, width| Window { name: name.into(), center, width };
    let windows = vec![window("brain", 40.0, 80.0), window("bone", 600.0, 2800.0)];
    let plan = PicturePlan { slices_max: 4, windows, ..PicturePlan::default() };
    let (made, excluded) =
        pictures(&root, &study, &plan, &Masks::default(), &|_, _| Ok(Masked::default()));
    assert_eq!((made.len(), excluded.len()), (8, 0));
    assert!(made.iter().all(|p| p.bytes.len() as u64 <= plan.bytes_max));
    let numbers: Vec<u32> = made.iter().map(|p| p.reference.number).collect();
    assert_eq!(numbers, (1..=8).collect::<Vec<u32>>());
}

/// The same head with a disc of 65 HU and 14 mm put into each slice, 30 mm to the left of its middle:
/// the rule sees it wherever the skull is closed, and rarely anything without it.
#[test]
fn a_bleeding_in_a_real_head_is_pointed_at() {
    let Some(root) = shared_data() else {
        println!("no sample data beside the repository: nothing checked");
        return;
    };
    let study = study_in(&root, "ct-head-series");
    let (mut clean, mut bled) = (0, 0);
    for instance in &study.instances {
        let mut image = Image::open(&root.join(&instance.object)).unwrap();
        let mut frame = image.frame(0).unwrap();
        let spacing = instance.pixel_spacing_mm;
        clean += usize::from(survey::look(&image, &frame, 0, spacing).spot_mm2 > 0.0);
        let mm = spacing.unwrap()[0];
        let columns = frame.columns;
        let Values::I32(values) = &mut frame.values else { panic!("a CT of 16 bits") };
        // Stored values of this series are Hounsfield units.
        let body: Vec<usize> = (0..values.len()).filter(|at| values[*at] > -300).collect();
        let middle = |of: &dyn Fn(usize) -> usize| {
            body.iter().map(|at| of(*at)).sum::<usize>() as f64 / body.len() as f64
        };
        let (x, y) = (middle(&|at| at % columns) + 30.0 / mm, middle(&|at| at / columns));
        for (at, value) in values.iter_mut().enumerate() {
            let away = ((at % columns) as f64 - x).hypot((at / columns) as f64 - y) * mm;
            if away < 7.0 {
                // With the noise of a scanner.
                *value = 60 + (at * 7919 % 11) as i32;
            }
        }
        bled += usize::from(survey::look(&image, &frame, 0, spacing).spot_mm2 >= 100.0);
    }
    println!("a spot on {clean} of 28 slices as they are, on {bled} with a bleeding");
    assert!(clean <= 4 && bled >= 16, "{clean} {bled}");
}

/// A radiograph in JPEG 2000 (1955 x 1841) shown at 480 px: decoded at a quarter of its edges, it is
/// the picture that the whole frame gives, and its place on the instance is still the whole frame's.
#[test]
fn a_halved_frame_is_the_same_picture() {
    let Some(root) = shared_data() else {
        println!("no sample data beside the repository: nothing checked");
        return;
    };
    let path = root.join("cr-chest/RG1_j2k-lossless.dcm");
    let mut image = Image::open(&path).unwrap();
    let shown = |image: &Image, frame: &Frame| {
        let raster = window::render(image, frame, 0, None);
        resize(&raster, 452, 480).unwrap()
    };
    let whole = image.frame(0).unwrap();
    let halved = image.frame_for(0, 480).unwrap();
    assert_eq!((halved.columns, halved.rows), (whole.columns.div_ceil(4), whole.rows.div_ceil(4)));
    let (whole, halved) = (shown(&image, &whole), shown(&image, &halved));
    let off: u64 = whole.iter().zip(&halved).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    let mean = off as f64 / whole.len() as f64;
    println!("{mean:.2} grey levels apart on average");
    assert!(mean < 1.5, "{mean}");
    // As large as it is, it is decoded in full; so is what is not JPEG 2000.
    let full = image.frame_for(0, 2048).unwrap();
    assert_eq!((full.columns, full.rows), (image.shape.columns, image.shape.rows));
    let study = study_in(&root, "cr-chest/RG1_j2k-lossless.dcm");
    let plan = PicturePlan { edge_max_px: 480, ..PicturePlan::default() };
    let made = pictures(&root, &study, &plan, &Masks::default(), &|_, _| Ok(Masked::default())).0;
    let reference = &made[0].reference;
    let source = (reference.source_columns as usize, reference.source_rows as usize);
    assert_eq!(source, (image.shape.columns, image.shape.rows));
}

/// How long pictures take, from the file to the encoded JPEG; kept in the temporary folder.
#[test]
#[ignore = "a measurement, for people"]
fn milliseconds_for_a_picture() {
    let root = shared_data().unwrap();
    let out = std::env::temp_dir().join("prelim-pictures");
    std::fs::create_dir_all(&out).unwrap();
    let folders = [
        "ct-head-series/01.dcm",
        "dx",
        "cr-chest/RG1_j2k-lossless.dcm",
        "mg-mammogram",
        "fundus",
        "us",
        "vl-endoscopy",
        "xa-nm-sc",
        "enhanced-multiframe",
        "mr-brain-t1-series",
        "mr-prostate-adc-series",
        "ct-head-series",
    ];
    for folder in folders {
        let study = study_in(&root, folder);
        let plan = PicturePlan::default();
        let mut best = f64::INFINITY;
        let mut last = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let start = std::time::Instant::now();
            last = pictures(&root, &study, &plan, &Masks::default(), &|_, _| Ok(Masked::default()));
            best = best.min(start.elapsed().as_secs_f64() * 1e3 / last.0.len().max(1) as f64);
        }
        let bytes: usize = last.0.iter().map(|p| p.bytes.len()).sum();
        let count = last.0.len();
        println!(
            "{folder}: {count} pictures, {best:.1} ms and {} bytes each",
            bytes / count.max(1)
        );
        last.1.iter().for_each(|e| println!("    left out: {}", e.reason));
        for picture in last.0 {
            let name = format!("{}-{}", folder.replace('/', "-"), picture.reference.file);
            std::fs::write(out.join(name), picture.bytes).unwrap();
        }
        let start = std::time::Instant::now();
        let (measurements, flags, _) = measure(&root, &study);
        println!("    {} measurements in {:?}", measurements.len(), start.elapsed());
        flags.iter().for_each(|flag| println!("    {}: {}", flag.key, flag.text));
    }
}

#[test]
fn values_of_each_kind_are_read_alike() {
    for values in [Values::U8(vec![7]), Values::I32(vec![7]), Values::F64(vec![7.0])] {
        assert_eq!(values.get(0), 7.0);
    }
}
