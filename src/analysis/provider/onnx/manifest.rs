//! `manifest.json` of a model folder: what the graph takes and gives, and for whom it is made.

use std::io;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::analysis::codes;
use crate::analysis::gate;
use crate::analysis::plan;
use crate::analysis::provider;
use crate::analysis::provider::resample::Resampling;
use crate::analysis::words;
use crate::domain::picture::Picture;
use crate::domain::picture::PictureRef;
use crate::domain::study::Instance;
use crate::domain::study::Study;

pub const FILE: &str = "manifest.json";
const BYTES_MAX: u64 = 1 << 20;
/// Edge of what a graph takes.
const EDGE_MAX: usize = 2048;
const LABELS_MAX: usize = 60;

/// Every key; `docs/model-manifest.md` tells people of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub name: String,
    pub version: String,
    pub manufacturer: String,
    /// Under which the graph may be used.
    pub licence: String,
    /// What it was trained on: set, number, ages, where it comes from.
    pub training_data: String,
    pub graph: Graph,
    pub input: Input,
    pub outputs: Vec<Output>,
    pub intended_use: IntendedUse,
    /// At least one for each finding, at its threshold.
    pub operating_points: Vec<OperatingPoint>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// In the folder of the manifest.
    pub file: String,
    /// Hexadecimal.
    pub sha256: String,
}

/// How a picture becomes the graph's input, in this order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub tensor: String,
    pub layout: Layout,
    pub width: usize,
    pub height: usize,
    /// 1: grey; of a colour picture its luma (ITU-R BT.601, as Pillow). 3: red, green, blue, or the grey three times.
    pub channels: usize,
    /// What is bright in the grey that it starts from, 0 to 255.
    pub grey: Grey,
    pub resize: Resize,
    #[serde(default)]
    pub resampling: Resampling,
    /// The grey around a picture that is fitted.
    #[serde(default)]
    pub padding: u8,
    #[serde(default)]
    pub channel_order: ChannelOrder,
    pub values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    Nchw,
    Nhwc,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grey {
    /// As pictures are shown (MONOCHROME2).
    BrightIsDense,
    DarkIsDense,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resize {
    /// To the size, whatever the aspect ratio.
    Squash,
    /// Whole, in the middle of `padding`.
    Fit,
    /// The middle of it, as large as it can be.
    Crop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelOrder {
    #[default]
    Rgb,
    Bgr,
}

/// What becomes of grey levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Values {
    /// Black and white become the ends of `range`; then minus `mean`, over `std`, by channel.
    Fixed { range: [f64; 2], mean: Vec<f64>, std: Vec<f64> },
    /// (grey - mean) / (standard deviation + epsilon), both of the prepared picture, in grey levels.
    OfPicture { epsilon: f64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    pub tensor: String,
    pub activation: Activation,
    /// How many numbers the tensor has for one picture.
    pub numbers: usize,
    pub labels: Vec<Label>,
    /// Index of the number that stands for none of the labels. No claim follows from it.
    #[serde(default)]
    pub no_finding: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// The numbers are from 0 to 1 already.
    None,
    Sigmoid,
    /// Over all numbers of the tensor.
    Softmax,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    pub index: usize,
    /// Key of the table of finding codes.
    pub finding: String,
    /// From here on present.
    pub threshold: f64,
    /// From here on undetermined; below it absent. None: there is no such zone.
    #[serde(default)]
    pub undetermined_from: Option<f64>,
}

/// What it was made for. A study of which this is not known is outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntendedUse {
    /// For people.
    pub text: String,
    pub modalities: Vec<String>,
    /// Values of Body Part Examined. Empty: any.
    #[serde(default)]
    pub body_parts: Vec<String>,
    /// Words of View Position, e.g. `PA`. Empty: any.
    #[serde(default)]
    pub views: Vec<String>,
    /// Windows of the profile in which it sees pictures. Empty: any.
    #[serde(default)]
    pub windows: Vec<String>,
    /// Completed years, both ends included.
    #[serde(default)]
    pub age_years_min: Option<u32>,
    #[serde(default)]
    pub age_years_max: Option<u32>,
}

/// What was measured, at the label's threshold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatingPoint {
    pub finding: String,
    /// On which set.
    pub set: String,
    pub n: u32,
    pub sensitivity: Measured,
    pub specificity: Measured,
}

/// With its 95 % interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

impl Manifest {
    /// Reads a model folder, and whether graph and manifest belong together.
    ///
    /// # Errors
    /// One line for each problem, with the file or the key that it is about.
    pub fn open(folder: &Path) -> Result<Manifest, Vec<String>> {
        let one = |problem: String| vec![problem];
        provider::unchangeable(folder).map_err(one)?;
        let path = folder.join(FILE);
        let size = provider::unchangeable(&path).map_err(one)?.len();
        if size > BYTES_MAX {
            return Err(vec![format!("{FILE}: larger than {BYTES_MAX} bytes")]);
        }
        let text = std::fs::read(path).map_err(|error| vec![format!("{FILE}: {error}")])?;
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| vec![format!("{FILE}: {error}")])?;
        let mut problems = Vec::new();
        manifest.check(&mut problems);
        if problems.is_empty() {
            let graph = provider::unchangeable(&folder.join(&manifest.graph.file));
            problems.extend(graph.and_then(|_| manifest.is_of_graph(folder)).err());
        }
        match problems.is_empty() {
            true => Ok(manifest),
            false => Err(problems),
        }
    }

    /// # Errors
    /// The graph cannot be read, or it is another than the manifest's.
    pub fn is_of_graph(&self, folder: &Path) -> Result<(), String> {
        let Graph { file, sha256 } = &self.graph;
        let found = provider::file_digest(&folder.join(file));
        match found.map_err(|error: io::Error| format!("{file}: {error}"))? {
            found if found.eq_ignore_ascii_case(sha256) => Ok(()),
            found => Err(format!(
                "graph.sha256 = {sha256:?}: {file} has {found}; what was measured was another graph"
            )),
        }
    }

    /// Of all outputs, in the order in which their scores are given.
    pub fn labels(&self) -> impl Iterator<Item = &Label> {
        self.outputs.iter().flat_map(|output| &output.labels)
    }

    pub fn label(&self, finding: &str) -> Option<&Label> {
        self.labels().find(|label| label.finding == finding)
    }

    /// Adds one line for each key that cannot work.
    pub fn check(&self, problems: &mut Vec<String>) {
        for (key, text) in [
            ("name", &self.name),
            ("version", &self.version),
            ("manufacturer", &self.manufacturer),
            ("licence", &self.licence),
            ("training_data", &self.training_data),
            ("intended_use.text", &self.intended_use.text),
            ("input.tensor", &self.input.tensor),
        ] {
            if text.trim().is_empty() {
                problems.push(format!("{key} is empty: readers have to know it"));
            }
        }
        for (key, text) in [("name", &self.name), ("version", &self.version)] {
            if text.chars().count() > 64 {
                problems
                    .push(format!("{key}: at most 64 characters, as a structured report holds"));
            }
        }
        let Graph { file, sha256 } = &self.graph;
        if Path::new(file).file_name().is_none_or(|name| name != file.as_str()) {
            problems.push(format!("graph.file = {file:?}: a file of this folder, without a path"));
        }
        if sha256.len() != 64 || !sha256.bytes().all(|b| b.is_ascii_hexdigit()) {
            problems.push(format!("graph.sha256 = {sha256:?}: 64 hexadecimal digits (sha256sum)"));
        }
        self.input.check(problems);
        self.check_outputs(problems);
        self.intended_use.check(problems);
        self.check_measured(problems);
    }

    fn check_outputs(&self, problems: &mut Vec<String>) {
        if !(1..=LABELS_MAX).contains(&self.labels().count()) {
            problems.push(format!("outputs: use 1 to {LABELS_MAX} labels in all"));
        }
        for (nth, output) in self.outputs.iter().enumerate() {
            output.check(&format!("outputs[{nth}]"), problems);
        }
        let all: Vec<&Label> = self.labels().collect();
        for (nth, label) in all.iter().enumerate() {
            if all[..nth].iter().any(|other| other.finding == label.finding) {
                problems.push(format!(
                    "outputs: the finding {:?} stands twice; which of the two would count?",
                    label.finding
                ));
            }
        }
    }

    fn check_measured(&self, problems: &mut Vec<String>) {
        for label in self.labels() {
            if !self.operating_points.iter().any(|point| point.finding == label.finding) {
                problems.push(format!(
                    "operating_points: none for {:?}; a model that was not measured is not asked",
                    label.finding
                ));
            }
        }
        for (nth, point) in self.operating_points.iter().enumerate() {
            let at = format!("operating_points[{nth}]");
            if self.label(&point.finding).is_none() {
                problems.push(format!("{at}.finding = {:?}: no label has it", point.finding));
            }
            if point.set.trim().is_empty() || point.n == 0 {
                problems.push(format!("{at}: say on which set, and on how many"));
            }
            for (key, Measured { value, low, high }) in
                [("sensitivity", point.sensitivity), ("specificity", point.specificity)]
            {
                if !(0.0 <= low && low <= value && value <= high && high <= 1.0) {
                    problems.push(format!(
                        "{at}.{key}: use a value from 0 to 1 and the ends of its interval around it"
                    ));
                }
            }
        }
    }

    /// Those of the pictures that it may be shown.
    ///
    /// # Errors
    /// Why none, for people.
    pub fn covered(&self, study: &Study, pictures: Vec<Picture>) -> Result<Vec<Picture>, String> {
        let mut why = "there is no picture".to_owned();
        let mut covered = Vec::new();
        for picture in pictures {
            match self.covers(study, &picture.reference) {
                Ok(()) => covered.push(picture),
                Err(reason) => why = reason,
            }
        }
        if covered.is_empty() { Err(why) } else { Ok(covered) }
    }

    fn covers(&self, study: &Study, picture: &PictureRef) -> Result<(), String> {
        let IntendedUse { modalities, body_parts, views, windows, .. } = &self.intended_use;
        let uid = &picture.image.sop_instance_uid;
        let instance = study.instances.iter().find(|one| one.sop_instance_uid == *uid);
        let instance = instance.ok_or("a picture belongs to no image")?;
        let only = |list: &[String]| format!("it is for {} only", list.join(", "));
        let listed = |list: &[String], value: &str| {
            list.is_empty() || list.iter().any(|one| one.eq_ignore_ascii_case(value.trim()))
        };
        if !listed(modalities, &plan::effective_modality(instance, study)) {
            return Err(only(modalities));
        }
        if !listed(body_parts, &instance.body_part_examined) {
            return Err(match instance.body_part_examined.trim().is_empty() {
                true => format!("the body part is not known, and {}", only(body_parts)),
                false => only(body_parts),
            });
        }
        if !views.is_empty() && !is_of_view(views, instance, study) {
            return Err(format!("no view is known to be {}", views.join(" or ")));
        }
        if !listed(windows, &picture.window) {
            return Err(format!("there is no picture in the window {}", windows.join(" or ")));
        }
        self.intended_use.covers_age(study)
    }
}

/// By View Position; a frontal one has to be as at the local model's gate (seen: a preset left at
/// AP on a lateral view).
fn is_of_view(views: &[String], instance: &Instance, study: &Study) -> bool {
    let found = words::tokens(&instance.view_position);
    let is_there = |word: &str| found.iter().any(|one| one.eq_ignore_ascii_case(word));
    views.iter().any(|view| match view.to_ascii_uppercase().as_str() {
        "PA" | "AP" => is_there(view) && gate::is_frontal(instance, study),
        _ => words::has(&instance.view_position, view),
    })
}

impl Input {
    fn check(&self, problems: &mut Vec<String>) {
        for (key, edge) in [("width", self.width), ("height", self.height)] {
            if !(8..=EDGE_MAX).contains(&edge) {
                problems.push(format!("input.{key} = {edge}: use 8 to {EDGE_MAX}"));
            }
        }
        if !matches!(self.channels, 1 | 3) {
            problems.push(format!("input.channels = {}: use 1 or 3", self.channels));
        }
        match &self.values {
            Values::Fixed { range: [black, white], mean, std } => {
                if !(black.is_finite() && white.is_finite()) || black == white {
                    problems.push("input.values.fixed.range: two different numbers".into());
                }
                for (key, list) in [("mean", mean), ("std", std)] {
                    if list.len() != self.channels || !list.iter().all(|one| one.is_finite()) {
                        problems.push(format!(
                            "input.values.fixed.{key}: one number for each of {} channels",
                            self.channels
                        ));
                    }
                }
                if std.iter().any(|one| *one <= 0.0) {
                    problems.push("input.values.fixed.std: more than 0".into());
                }
            }
            Values::OfPicture { epsilon } => {
                if !(*epsilon > 0.0 && *epsilon <= 255.0) {
                    problems.push(format!(
                        "input.values.of_picture.epsilon = {epsilon}: more than 0 (grey levels); a picture of one grey would give no number"
                    ));
                }
            }
        }
    }
}

impl Output {
    fn check(&self, at: &str, problems: &mut Vec<String>) {
        let least = if self.activation == Activation::Softmax { 2 } else { 1 };
        if !(least..=10_000).contains(&self.numbers) {
            problems.push(format!("{at}.numbers = {}: use {least} to 10000", self.numbers));
        }
        let indices: Vec<usize> =
            self.labels.iter().map(|label| label.index).chain(self.no_finding).collect();
        for (nth, index) in indices.iter().enumerate() {
            if *index >= self.numbers || indices[..nth].contains(index) {
                problems.push(format!(
                    "{at}: the index {index} stands twice or is not below {}",
                    self.numbers
                ));
            }
        }
        for Label { finding, threshold, undetermined_from, .. } in &self.labels {
            let at = format!("{at}.labels.{finding}");
            if codes::find(finding).is_none() {
                problems.push(format!("{at}: no key of the table of finding codes"));
            }
            if !(*threshold > 0.0 && *threshold <= 1.0) {
                problems.push(format!("{at}.threshold = {threshold}: more than 0, at most 1"));
            }
            if undetermined_from.is_some_and(|low| !(low > 0.0 && low < *threshold)) {
                problems.push(format!("{at}.undetermined_from: more than 0, below the threshold"));
            }
        }
    }
}

impl IntendedUse {
    fn check(&self, problems: &mut Vec<String>) {
        if self.modalities.is_empty() {
            problems.push("intended_use.modalities is empty: no model is for all".into());
        }
        if let (Some(min), Some(max)) = (self.age_years_min, self.age_years_max)
            && min > max
        {
            problems
                .push(format!("intended_use.age_years_min = {min}: above age_years_max = {max}"));
        }
    }

    fn covers_age(&self, study: &Study) -> Result<(), String> {
        let for_whom = match (self.age_years_min, self.age_years_max) {
            (None, None) => return Ok(()),
            (Some(min), Some(max)) => format!("it is for patients of {min} to {max} years"),
            (Some(min), None) => format!("it is for patients of at least {min} years"),
            (None, Some(max)) => format!("it is for patients of at most {max} years"),
        };
        if study.inconsistencies.iter().any(|line| line.contains("Patient")) {
            return Err(format!("the headers differ about the patient, and {for_whom}"));
        }
        let Some(age) = study.age_years() else {
            return Err(format!("the patient's age is not known, and {for_whom}"));
        };
        let years = age.floor();
        let is_old_enough = self.age_years_min.is_none_or(|min| years >= f64::from(min));
        let is_young_enough = self.age_years_max.is_none_or(|max| years <= f64::from(max));
        if is_old_enough && is_young_enough { Ok(()) } else { Err(for_whom) }
    }
}
