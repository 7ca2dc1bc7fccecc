//! A site's own ONNX model: a folder with a graph and a manifest that says what it takes, what it
//! answers and for whom it is made. The graph runs in a worker process.

pub mod infer;
pub mod manifest;
#[cfg(test)]
pub mod testing;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use serde_json::json;

use crate::analysis::AnalyzeError;
use crate::analysis::answer;
use crate::analysis::codes;
use crate::analysis::config::Gateway;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::call_here;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::onnx::manifest::Label;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::analysis::provider::onnx::manifest::Measured;
use crate::domain::assessment::Algorithm;
use crate::domain::call::Tokens;
use crate::domain::text;
use crate::domain::uid;

/// For a look whether it works at all.
const CHECK: Duration = Duration::from_secs(60);

/// Where graphs run: a process of its own, within limits.
#[async_trait]
pub trait Runs: Send + Sync {
    /// As [`infer::scores`].
    async fn scores(
        &self,
        folder: &Path,
        manifest: &Manifest,
        pictures: Vec<Vec<u8>>,
    ) -> Result<Vec<Vec<f64>>, NotRun>;
}

/// Why there are no scores.
#[derive(Debug)]
pub enum NotRun {
    /// The model, or what it was shown: trying again gives the same.
    Failed(String),
    TimedOut(Duration),
    /// Nothing was tried.
    NotNow(String),
}

pub struct Onnx {
    name: String,
    /// Name and version.
    model: String,
    folder: PathBuf,
    /// 0: as the profile says.
    timeout_s: u64,
    manifest: Manifest,
    runs: Arc<dyn Runs>,
}

impl Onnx {
    /// # Errors
    /// [`AnalyzeError::Misconfigured`] with all that is wrong in the folder.
    pub fn new(name: &str, gateway: &Gateway, runs: Arc<dyn Runs>) -> Result<Onnx, AnalyzeError> {
        let manifest = Manifest::open(&gateway.folder).map_err(|problems| {
            let why = problems.join("; ");
            AnalyzeError::Misconfigured { provider: name.to_owned(), why }
        })?;
        Ok(Onnx {
            name: name.to_owned(),
            model: format!("{} {}", manifest.name, manifest.version),
            folder: gateway.folder.clone(),
            timeout_s: gateway.timeout_s,
            manifest,
            runs,
        })
    }

    async fn scores(
        &self,
        pictures: Vec<Vec<u8>>,
        limit: Duration,
    ) -> Result<Vec<Vec<f64>>, AnalyzeError> {
        let running = self.runs.scores(&self.folder, &self.manifest, pictures);
        let ended = tokio::time::timeout(limit, running).await;
        let provider = self.name.clone();
        ended.unwrap_or(Err(NotRun::TimedOut(limit))).map_err(|error| match error {
            NotRun::Failed(why) => AnalyzeError::Failed { provider, why },
            NotRun::TimedOut(waited) => AnalyzeError::TimedOut { provider, waited },
            NotRun::NotNow(why) => AnalyzeError::Unreachable { provider, why },
        })
    }

    async fn said(&self, question: &Question<'_>) -> Result<RawAnswer, AnalyzeError> {
        let asked = keys(question.schema).ok_or_else(|| AnalyzeError::Misconfigured {
            provider: self.name.clone(),
            why: "a model of kind \"onnx\" answers with findings and with nothing else".to_owned(),
        })?;
        let limit = match self.timeout_s {
            0 => question.timeout,
            seconds => Duration::from_secs(seconds),
        };
        let pictures = question.pictures.iter().map(|picture| picture.bytes.clone()).collect();
        let scores = self.scores(pictures, limit).await?;
        let numbers: Vec<u32> = question.pictures.iter().map(|p| p.reference.number).collect();
        let answer = answered(&self.manifest, &asked, &numbers, &scores);
        Ok(RawAnswer {
            text: answer.to_string(),
            model: self.manifest.version.clone(),
            tokens: Tokens::default(),
        })
    }
}

/// The keys of findings that a schema knows; none of a schema that asks for something else.
fn keys(schema: &Value) -> Option<Vec<&str>> {
    let key = schema.pointer("/properties/findings/items/properties/key/enum")?;
    Some(key.as_array()?.iter().filter_map(Value::as_str).collect())
}

/// The answer in the profile's schema: a finding for each label that it asks about. What the profile
/// does not ask about is told where it is not absent.
///
/// - `numbers`, `scores`: of each picture; at least one.
fn answered(manifest: &Manifest, asked: &[&str], numbers: &[u32], scores: &[Vec<f64>]) -> Value {
    let (mut findings, mut confidence) = (Vec::new(), 1.0_f64);
    for (at, label) in manifest.labels().enumerate() {
        let of_pictures = numbers.iter().zip(scores).map(|(number, all)| (*number, all[at]));
        let highest = of_pictures.max_by(|a, b| a.1.total_cmp(&b.1));
        let Some((number, score)) = highest else { continue };
        confidence = confidence.min(score.max(1.0 - score));
        let presence = presence(label, score);
        let (key, name) = match (asked.contains(&label.finding.as_str()), presence) {
            (true, _) => (label.finding.as_str(), ""),
            (false, "absent") => continue,
            (false, _) => {
                let row = codes::find(&label.finding);
                (answer::OTHER, row.map_or("", |row| row.concept.meaning.as_str()))
            }
        };
        let is_absent = presence == "absent";
        let description = match is_absent {
            true => String::new(),
            false => described(manifest, label, score),
        };
        let pictures = if is_absent { Vec::new() } else { vec![number] };
        findings.push(json!({"key": key, "name": name, "presence": presence, "probability": score,
            "laterality": "none", "severity": "none", "site": "", "description": description,
            "pictures": pictures, "boxes": [], "measurements": [], "differential": [],
            "recommendation": "", "urgency": "routine"}));
    }
    json!({"findings": findings, "impression": "", "recommendation": "",
        "image_quality": {"usable": "good", "remarks": ""}, "urgency": "routine",
        "confidence": confidence})
}

/// The score, from which one on it counts, and what that was measured to be worth.
fn described(manifest: &Manifest, label: &Label, score: f64) -> String {
    let percent = text::percent;
    let counts = format!("Score {}, present from {} on.", percent(score), percent(label.threshold));
    let mut points = manifest.operating_points.iter();
    let Some(point) = points.find(|point| point.finding == label.finding) else { return counts };
    let of = |Measured { value, low, high }: Measured| {
        format!("{} ({} to {})", percent(value), percent(low), percent(high))
    };
    format!(
        "{counts} Measured there: sensitivity {}, specificity {}, n {}, {}.",
        of(point.sensitivity),
        of(point.specificity),
        point.n,
        text::clean(&point.set, 200)
    )
}

fn presence(label: &Label, score: f64) -> &'static str {
    match label.undetermined_from {
        _ if score >= label.threshold => "present",
        Some(low) if score >= low => "undetermined",
        _ => "absent",
    }
}

/// A small picture for a trial, dark to bright.
fn sample() -> Result<Vec<u8>, String> {
    let picture = image::GrayImage::from_fn(64, 64, |x, y| image::Luma([(2 * (x + y)) as u8]));
    let mut png = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png).map_err(|error| error.to_string())?;
    Ok(png.into_inner())
}

#[async_trait]
impl Provider for Onnx {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> &str {
        &self.model
    }

    fn algorithm(&self, _: &str) -> Algorithm {
        let Manifest { name, version, manufacturer, graph, .. } = &self.manifest;
        let of = |raw: &str| text::clean(raw, 64);
        let (name, version, manufacturer) = (of(name), of(version), of(manufacturer));
        let thresholds =
            self.manifest.labels().map(|one| format!("{} {:.3}", one.finding, one.threshold));
        Algorithm {
            device_uid: uid::derived(&["device", &name, &version, &manufacturer, &graph.sha256]),
            parameters: vec![
                format!("model=sha256:{}", graph.sha256.split_at_checked(16).map_or("", |p| p.0)),
                format!("thresholds={}", thresholds.collect::<Vec<_>>().join(", ")),
            ],
            provider: self.name.clone(),
            measures_only: false,
            name,
            version,
            manufacturer,
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        let started = tokio::time::Instant::now();
        let said = self.said(question).await;
        let call = call_here(self, question, started.elapsed(), &said);
        Asked { said, calls: vec![call] }
    }

    /// Whether the graph is still the manifest's, and gives what the manifest says.
    async fn check(&self) -> Result<(), AnalyzeError> {
        let wrong = |why| AnalyzeError::Misconfigured { provider: self.name.clone(), why };
        let (manifest, folder) = (self.manifest.clone(), self.folder.clone());
        let same = tokio::task::spawn_blocking(move || manifest.is_of_graph(&folder)).await;
        same.unwrap_or_else(|error| Err(error.to_string())).map_err(wrong)?;
        self.scores(vec![sample().map_err(wrong)?], CHECK).await.map(|_| ())
    }

    fn draws(&self) -> bool {
        false
    }

    fn key_views(&self) -> Vec<KeyView> {
        Vec::new()
    }

    fn manifest(&self) -> Option<&Manifest> {
        Some(&self.manifest)
    }
}

#[cfg(test)]
#[path = "onnx/tests.rs"]
mod tests;
