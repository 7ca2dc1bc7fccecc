//! The worker's side: a picture through a graph. Nothing of it runs in the node.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use rten::Model;
use rten_tensor::NdTensor;
use rten_tensor::Tensor;
use rten_tensor::prelude::*;
use sha2::Digest as _;
use sha2::Sha256;

use crate::analysis::provider::onnx::manifest::Activation;
use crate::analysis::provider::onnx::manifest::ChannelOrder;
use crate::analysis::provider::onnx::manifest::Grey;
use crate::analysis::provider::onnx::manifest::Input;
use crate::analysis::provider::onnx::manifest::Layout;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::analysis::provider::onnx::manifest::Output;
use crate::analysis::provider::onnx::manifest::Resize;
use crate::analysis::provider::onnx::manifest::Values;
use crate::analysis::provider::resample;
use crate::analysis::provider::resample::resample;
use crate::domain::text;

/// The score of each label, in the manifest's order, for each picture (JPEG or PNG).
///
/// # Errors
/// What does not fit, in words: a graph that is another or cannot be run, a tensor that is missing
/// or of another shape, what is no number.
pub fn scores(
    folder: &Path,
    manifest: &Manifest,
    pictures: &[Vec<u8>],
) -> Result<Vec<Vec<f64>>, String> {
    let model = loaded(folder, manifest)?;
    let of_picture = |bytes: &Vec<u8>| {
        let picture = image::load_from_memory(bytes).map_err(|error| error.to_string())?;
        run(&model, manifest, prepare(&picture, &manifest.input))
    };
    pictures.iter().map(of_picture).collect()
}

/// The graph, kept for the next picture: a worker holds one at a time.
fn loaded(folder: &Path, manifest: &Manifest) -> Result<Arc<Model>, String> {
    static LOADED: Mutex<Option<(String, Arc<Model>)>> = Mutex::new(None);
    let graph = &manifest.graph;
    let mut kept = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((digest, model)) = kept.as_ref()
        && *digest == graph.sha256
    {
        return Ok(Arc::clone(model));
    }
    *kept = None;
    let bytes = std::fs::read(folder.join(&graph.file));
    let bytes = bytes.map_err(|error| format!("{}: {error}", graph.file))?;
    if !text::hex(&Sha256::digest(&bytes)).eq_ignore_ascii_case(&graph.sha256) {
        return Err(format!("{} is another graph than the manifest's", graph.file));
    }
    let model = Model::load(bytes).map_err(|error| format!("{}: {error}", graph.file))?;
    let model = Arc::new(model);
    *kept = Some((graph.sha256.clone(), Arc::clone(&model)));
    Ok(model)
}

fn run(model: &Model, manifest: &Manifest, values: Vec<f32>) -> Result<Vec<f64>, String> {
    let Input { tensor, layout, width, height, channels, .. } = &manifest.input;
    let shape = match layout {
        Layout::Nchw => [1, *channels, *height, *width],
        Layout::Nhwc => [1, *height, *width, *channels],
    };
    let node =
        |name: &str| model.node_id(name).map_err(|_| format!("the graph has no tensor {name:?}"));
    let from = node(tensor)?;
    let to = manifest.outputs.iter().map(|output| node(&output.tensor));
    let to = to.collect::<Result<Vec<_>, String>>()?;
    let input = NdTensor::from_data(shape, values);
    let results = model.run(vec![(from, input.view().into())], &to, None);
    let results = results.map_err(|error| format!("the graph cannot be run: {error}"))?;
    let mut scores = Vec::new();
    for (output, result) in manifest.outputs.iter().zip(results) {
        let name = &output.tensor;
        let found: Tensor<f32> =
            result.try_into().map_err(|_| format!("{name:?} gives no decimal numbers"))?;
        scores.extend(of_output(output, &found.iter().copied().collect::<Vec<f32>>())?);
    }
    Ok(scores)
}

/// From 0 to 1, one for each label.
fn of_output(output: &Output, found: &[f32]) -> Result<Vec<f64>, String> {
    let Output { tensor, activation, numbers, labels, .. } = output;
    if found.len() != *numbers {
        return Err(format!("{tensor:?} gives {} numbers, not {numbers}", found.len()));
    }
    if found.iter().any(|value| !value.is_finite()) {
        return Err(format!("{tensor:?} gives what is no number"));
    }
    let found = found.iter().map(|value| f64::from(*value));
    let all: Vec<f64> = match activation {
        Activation::None => found.collect(),
        Activation::Sigmoid => found.map(|value| 1.0 / (1.0 + (-value).exp())).collect(),
        Activation::Softmax => {
            let most = found.clone().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = found.map(|value| (value - most).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|power| power / sum).collect()
        }
    };
    /// What single precision adds to 1.
    const SLACK: f64 = 1e-5;
    match all.iter().all(|score| (-SLACK..=1.0 + SLACK).contains(score)) {
        true => Ok(labels.iter().map(|label| all[label.index].clamp(0.0, 1.0)).collect()),
        false => {
            Err(format!("{tensor:?} gives numbers outside of 0 to 1: is an activation missing?"))
        }
    }
}

/// The graph's input: grey or colour, resized, normalised, in its layout.
fn prepare(picture: &image::DynamicImage, input: &Input) -> Vec<f32> {
    let (columns, rows) = (picture.width() as usize, picture.height() as usize);
    let mut planes: Vec<Vec<u8>> = match input.channels {
        1 => vec![grey(picture)],
        _ => {
            let colours = picture.to_rgb8().into_raw();
            let plane = |channel| colours.iter().skip(channel).step_by(3).copied().collect();
            (0..3).map(plane).collect()
        }
    };
    if input.channel_order == ChannelOrder::Bgr {
        planes.reverse();
    }
    if input.grey == Grey::DarkIsDense {
        planes.iter_mut().flatten().for_each(|value| *value = 255 - *value);
    }
    let planes: Vec<f64> =
        planes.iter().flat_map(|plane| resized(plane, (columns, rows), input)).collect();
    let area = input.width * input.height;
    let values: Vec<f64> = match &input.values {
        Values::Fixed { range: [black, white], mean, std } => {
            let of = |(at, value): (usize, &f64)| {
                let ranged = black + value / 255.0 * (white - black);
                (ranged - mean[at / area]) / std[at / area]
            };
            planes.iter().enumerate().map(of).collect()
        }
        Values::OfPicture { epsilon } => resample::standardised(&planes, *epsilon).collect(),
    };
    match input.layout {
        Layout::Nchw => values.iter().map(|value| *value as f32).collect(),
        Layout::Nhwc => {
            let pixel = |at: usize| (0..input.channels).map(move |channel| channel * area + at);
            (0..area).flat_map(pixel).map(|at| values[at] as f32).collect()
        }
    }
}

/// Of a colour picture its luma as Pillow's `convert("L")` has it (ITU-R BT.601), as most networks
/// were trained.
fn grey(picture: &image::DynamicImage) -> Vec<u8> {
    let luma = |rgb: &image::Rgb<u8>| {
        let [red, green, blue] = rgb.0.map(u32::from);
        ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16) as u8
    };
    match picture.as_luma8() {
        Some(grey) => grey.as_raw().clone(),
        None => picture.to_rgb8().pixels().map(luma).collect(),
    }
}

/// One plane at the input's size.
fn resized(plane: &[u8], (columns, rows): (usize, usize), input: &Input) -> Vec<f64> {
    let Input { width, height, resampling, padding, .. } = *input;
    let (across, down) = (width as f64 / columns as f64, height as f64 / rows as f64);
    let scale = match input.resize {
        Resize::Squash => {
            return resample(plane, (columns, rows), (width, height), resampling);
        }
        Resize::Fit => across.min(down),
        Resize::Crop => across.max(down),
    };
    let edge = |length: usize, of_input: usize| {
        let scaled = (length as f64 * scale).round().max(1.0) as usize;
        match input.resize {
            Resize::Crop => scaled.max(of_input),
            Resize::Squash | Resize::Fit => scaled.min(of_input),
        }
    };
    let (w, h) = (edge(columns, width), edge(rows, height));
    let scaled = resample(plane, (columns, rows), (w, h), resampling);
    // Where the input's first pixel lies in what was scaled; what is outside of it is padding.
    let start = |scaled: usize, of_input: usize| (scaled as i64 - of_input as i64) / 2;
    let (left, top) = (start(w, width), start(h, height));
    let inside = |at: i64, end: usize| usize::try_from(at).ok().filter(|at| *at < end);
    let value = |x: usize, y: usize| {
        let place = inside(left + x as i64, w).zip(inside(top + y as i64, h));
        place.map_or(f64::from(padding), |(x, y)| scaled[y * w + x])
    };
    (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).map(|(x, y)| value(x, y)).collect()
}

#[cfg(test)]
#[path = "infer_tests.rs"]
mod tests;
