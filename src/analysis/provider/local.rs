//! The local model: the pneumonia pattern on frontal chest X-rays of children, nothing else.
//!
//! `models/chest-xray-pneumonia-paediatric` holds the graph, its training, its figures and its
//! limits. Preparation is the same operation as in `preprocess.py` there, step by step; the test
//! below holds both against each other. Whether a study may be shown to it is the gate's
//! decision, see [`crate::analysis::gate`].

use std::sync::OnceLock;

use rten::Model;
use rten::RunOptions;
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;
use serde::Deserialize;
use serde::Serialize;

use crate::analysis::provider::resample;
use crate::analysis::provider::resample::Resampling;
use crate::analysis::provider::resample::resample;
use crate::domain::assessment::Algorithm;
use crate::domain::uid;

static GRAPH: &[u8] = include_bytes!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/chest-xray-pneumonia-paediatric/model.onnx"
));
static MANIFEST: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/models/chest-xray-pneumonia-paediatric/manifest.json"
));

/// Edge of the prepared picture.
const SIDE: usize = 32;
/// Added to the standard deviation, in grey levels.
const EPSILON: f64 = 1.0;

#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    #[error("the local model cannot be used: {0}")]
    Model(String),
    #[error("the picture has {found} values for {columns} x {rows}")]
    Picture { found: usize, columns: usize, rows: usize },
    #[error("the local model gave no number")]
    NoNumber,
}

/// What the node has to know of the model; the rest of the manifest is for people.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    /// SHA-256 of the graph, hexadecimal.
    pub sha256: String,
    /// Probability at and above which the pattern is reported as present.
    pub threshold: f64,
    pub plausibility: Plausibility,
}

/// When a picture is taken for a frontal chest X-ray.
#[derive(Debug, Clone, Deserialize)]
pub struct Plausibility {
    pub frontal_min: f64,
    pub distance_max: f64,
}

/// The manifest that ships with the model.
pub fn manifest() -> &'static Manifest {
    static PARSED: OnceLock<Manifest> = OnceLock::new();
    PARSED.get_or_init(|| {
        serde_json::from_str(MANIFEST).expect("it ships with the program and is tested")
    })
}

/// The model as the reader of a study.
pub fn algorithm() -> Algorithm {
    let (name, version, manufacturer) =
        (manifest().name.as_str(), manifest().version.as_str(), "Prelim");
    Algorithm {
        name: name.into(),
        version: version.into(),
        manufacturer: manufacturer.into(),
        device_uid: uid::derived(&["device", name, version, manufacturer]),
        parameters: vec![
            format!("input={SIDE}x{SIDE}"),
            format!("model=sha256:{}", manifest().sha256.split_at_checked(16).map_or("", |p| p.0)),
        ],
        provider: "local".into(),
        measures_only: false,
    }
}

/// What the model says of one picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LocalReading {
    /// Calibrated probability of the pneumonia pattern, 0 to 1.
    pub probability: f64,
    /// The same of each network of the ensemble: their spread shows how far they disagree.
    pub members: Vec<f64>,
    /// How much the picture looks like a frontal chest X-ray to a small network, 0 to 1.
    pub frontal: f64,
    /// How far it is from frontal chest X-rays, about 1 is usual.
    pub distance: f64,
}

impl LocalReading {
    /// Why the picture is not taken for a frontal chest X-ray, when it is not.
    pub fn implausible(&self) -> Option<String> {
        let Plausibility { frontal_min, distance_max } = &manifest().plausibility;
        if self.frontal < *frontal_min {
            return Some(format!("its likeness is {:.2}, below {frontal_min:.2}", self.frontal));
        }
        let far = self.distance > *distance_max;
        far.then(|| format!("its distance is {:.2}, above {distance_max:.2}", self.distance))
    }
}

/// Reads one grey picture.
///
/// - `grey`: 8-bit, bright is dense (MONOCHROME2), row by row, `columns * rows` long.
pub fn read(grey: &[u8], columns: usize, rows: usize) -> Result<LocalReading, LocalError> {
    if columns == 0 || rows == 0 || grey.len() != columns * rows {
        return Err(LocalError::Picture { found: grey.len(), columns, rows });
    }
    let model = model()?;
    let broken = |error: &dyn std::fmt::Display| LocalError::Model(error.to_string());
    let input = NdTensor::from_data([1, 1, SIDE, SIDE], prepare(grey, columns, rows));
    let node = |name: &str| model.node_id(name).map_err(|e| broken(&e));
    let outputs = [node("pneumonia")?, node("members")?, node("frontal")?, node("distance")?];
    let results = model
        .run_n(vec![(node("picture")?, input.view().into())], outputs, Some(RunOptions::default()))
        .map_err(|e| broken(&e))?;
    let mut numbers = Vec::new();
    for value in results {
        let tensor: rten_tensor::Tensor<f32> =
            value.try_into().map_err(|_| LocalError::NoNumber)?;
        let values: Vec<f64> = tensor.iter().map(|v| f64::from(*v)).collect();
        if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
            return Err(LocalError::NoNumber);
        }
        numbers.push(values);
    }
    let [pneumonia, members, frontal, distance] = numbers.as_slice() else {
        return Err(LocalError::NoNumber);
    };
    Ok(LocalReading {
        probability: pneumonia[0].clamp(0.0, 1.0),
        members: members.clone(),
        frontal: frontal[0],
        distance: distance[0],
    })
}

fn model() -> Result<&'static Model, LocalError> {
    static LOADED: OnceLock<Result<Model, String>> = OnceLock::new();
    let loaded = LOADED.get_or_init(|| Model::load_static_slice(GRAPH).map_err(|e| e.to_string()));
    loaded.as_ref().map_err(|error| LocalError::Model(error.clone()))
}

/// The tensor `picture`: area average to [`SIDE`] x [`SIDE`] (the aspect ratio is not kept), then
/// mean 0 and standard deviation near 1.
fn prepare(grey: &[u8], columns: usize, rows: usize) -> Vec<f32> {
    let small = resample(grey, (columns, rows), (SIDE, SIDE), Resampling::Area);
    resample::standardised(&small, EPSILON).map(|value| value as f32).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use sha2::Digest as _;

    use super::*;

    const REFERENCE: &str = include_str!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/chest-xray-pneumonia-paediatric/reference_outputs.csv"
    ));

    fn hex(bytes: &[u8]) -> String {
        sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Columns pneumonia, frontal, distance of each reference picture by its SHA-256.
    fn reference() -> BTreeMap<&'static str, [f64; 3]> {
        let rows = REFERENCE.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
        let number = |text: &str| text.parse::<f64>().unwrap();
        rows.map(|row| (row[1], [number(row[3]), number(row[4]), number(row[5])])).collect()
    }

    fn grey(jpeg: &[u8]) -> image::GrayImage {
        image::load_from_memory(jpeg).unwrap().to_luma8()
    }

    /// How far the Rust engine is from PyTorch on one picture: probability, frontal, distance.
    fn difference(jpeg: &[u8], expected: [f64; 3]) -> [f64; 3] {
        let picture = grey(jpeg);
        let (columns, rows) = (picture.width() as usize, picture.height() as usize);
        let found = read(picture.as_raw(), columns, rows).unwrap();
        let found = [found.probability, found.frontal, found.distance];
        std::array::from_fn(|i| (found[i] - expected[i]).abs())
    }

    #[test]
    fn the_manifest_is_of_this_graph() {
        assert_eq!(manifest().sha256, hex(GRAPH));
        assert!(GRAPH.len() <= 2_000_000, "{} bytes", GRAPH.len());
    }

    #[test]
    fn the_shipped_pictures_read_as_in_pytorch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cxr");
        let expected = reference();
        let mut compared = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            if let Some(expected) = expected.get(hex(&bytes).as_str()) {
                let apart = difference(&bytes, *expected);
                assert!(apart.iter().all(|d| *d < 1e-3), "{apart:?}");
                compared += 1;
            }
        }
        assert_eq!(compared, 6, "labelled pictures of the official test set");
    }

    /// All 624 pictures, where the data set is at hand.
    #[test]
    fn the_whole_official_test_reads_as_in_pytorch() {
        let tar =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/cxr-pneumonia/test.tar");
        let Ok(tar) = std::fs::read(tar) else {
            eprintln!("the data set is not here: only the shipped pictures were compared");
            return;
        };
        let expected = reference();
        let (mut compared, mut worst, mut at) = (0, [0f64; 3], 0);
        while at + 512 <= tar.len() {
            let size = std::str::from_utf8(&tar[at + 124..at + 135]).unwrap_or_default();
            let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
            let body = &tar[at + 512..(at + 512 + size).min(tar.len())];
            if let Some(expected) = expected.get(hex(body).as_str()) {
                let apart = difference(body, *expected);
                worst = std::array::from_fn(|i| worst[i].max(apart[i]));
                compared += 1;
            }
            at += 512 + size.div_ceil(512) * 512;
        }
        println!(
            "{compared} pictures; largest differences of probability, frontal, distance: {worst:?}"
        );
        assert_eq!(compared, 624);
        assert!(worst.iter().all(|d| *d < 1e-3), "{worst:?}");
    }

    #[test]
    fn what_is_no_chest_is_not_plausible() {
        let noise: Vec<u8> =
            (0..64 * 64u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert!(read(&noise, 64, 64).unwrap().implausible().is_some());
        assert!(read(&[7; 100], 10, 10).unwrap().implausible().is_some());
        assert!(matches!(read(&[1, 2, 3], 2, 2), Err(LocalError::Picture { .. })));
        assert!(matches!(read(&[], 0, 0), Err(LocalError::Picture { .. })));
    }
}
