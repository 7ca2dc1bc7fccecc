//! Our decoded values against pydicom's, over pydicom's own files, pydicom-data and the
//! sample data beside the repository where it is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;

use crate::imaging::decode::Image;
use crate::imaging::decode::Values;

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
    let shared = ["../shared/data", "/work/shared/data"].map(|at| root.join(at));
    command.args(shared.into_iter().find(|folder| folder.is_dir()));
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

/// How long a picture takes, from the file to the encoded JPEG.
#[test]
#[ignore = "a measurement, for people"]
fn milliseconds_for_a_picture() {
    let root = Path::new("/work/shared/data");
    for file in ["ct-head-series/01.dcm", "dx", "cr-chest/RG1_j2k-lossless.dcm", "mg-mammogram"] {
        let mut path = root.join(file);
        if path.is_dir() {
            path = std::fs::read_dir(&path).unwrap().next().unwrap().unwrap().path();
        }
        let object = path.strip_prefix(root).unwrap().display().to_string();
        let inspected = crate::imaging::inspect::inspect(&path, &object).unwrap();
        let uid = inspected.study_uid.clone();
        let study = crate::domain::study::Study::gather(uid, vec![inspected], Vec::new());
        let plan = crate::domain::picture::PicturePlan::default();
        let keep = crate::domain::picture::PixelRule::Keep;
        let mut best = f64::INFINITY;
        let mut bytes = 0;
        for _ in 0..3 {
            let start = std::time::Instant::now();
            let (made, excluded) = crate::imaging::picture::pictures(root, &study, &plan, keep);
            assert!(excluded.is_empty() && made.len() == 1, "{excluded:?}");
            bytes = made[0].bytes.len();
            best = best.min(start.elapsed().as_secs_f64() * 1e3);
        }
        println!("{object}: {best:.1} ms, {bytes} bytes");
    }
}

#[test]
fn values_of_each_kind_are_read_alike() {
    for values in [Values::U8(vec![7]), Values::I32(vec![7]), Values::F64(vec![7.0])] {
        assert_eq!(values.get(0), 7.0);
    }
}
