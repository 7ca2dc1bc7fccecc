//! Providers: who is asked.

pub mod cache;
pub mod command;
mod envelope;
pub mod keeper;
pub mod keys;
pub mod local;
pub mod onnx;
pub mod openai;
mod refusal;
mod resample;
pub mod shape;

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;

use crate::analysis::AnalyzeError;
use crate::analysis::config::Gateway;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::picture::Picture;
use crate::domain::text;
use crate::domain::uid;

/// A model that looks at de-identified pictures and says what it sees. One call is one attempt:
/// retries, budgets and fallbacks are the caller's.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in logs, metrics and reports: lowercase, stable over releases.
    fn name(&self) -> &str;

    /// The model as it is asked for.
    fn model(&self) -> &str;

    /// Who is to be named as the reader when `model` answered.
    fn algorithm(&self, model: &str) -> Algorithm;

    /// Whether it can be asked now.
    ///
    /// # Errors
    /// Why it would say no before anything is sent.
    fn admits(&self) -> Result<(), AnalyzeError> {
        Ok(())
    }

    async fn ask(&self, question: &Question<'_>) -> Asked;

    /// Whether it answers at all; costs nothing.
    async fn check(&self) -> Result<(), AnalyzeError>;

    fn key_views(&self) -> Vec<KeyView>;

    /// Whether it may give masks.
    fn draws(&self) -> bool;

    /// What is known of a model that has one: for whom it is made, from which score it calls
    /// something present.
    fn manifest(&self) -> Option<&Manifest> {
        None
    }
}

/// A gateway as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayView {
    pub name: String,
    pub model: String,
    /// Why it is not asked now.
    pub rests: Option<String>,
    /// When it was looked at last without a question.
    pub checked_at: Option<Timestamp>,
    /// What was wrong when it was asked last, or else looked at.
    pub problem: Option<String>,
    /// Of the last question.
    #[serde(default)]
    pub latency_ms: Option<u64>,
    pub keys: Vec<KeyView>,
}

/// The reader as General Equipment: what a gateway or a program of the settings says of itself.
///
/// - `kind`: what it is, where no manufacturer is named.
fn algorithm_of(
    (kind, name): (&str, &str),
    gateway: &Gateway,
    version: String,
    parameters: Vec<String>,
) -> Algorithm {
    let provider = name.to_owned();
    let name = text::clean(&gateway.model, 64);
    let manufacturer = match text::clean(&gateway.manufacturer, 64) {
        given if given.is_empty() => format!("{kind} {provider}"),
        given => given,
    };
    Algorithm {
        device_uid: uid::derived(&["device", &name, &version, &manufacturer]),
        parameters,
        provider,
        measures_only: false,
        name,
        version,
        manufacturer,
    }
}

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    pub prompt: &'a Prompt,
    pub pictures: &'a [Picture],
    /// JSON Schema of the answer; checked by the caller, passed on for the model.
    pub schema: &'a Value,
    /// For the whole call.
    pub timeout: Duration,
}

/// One attempt.
#[derive(Debug)]
pub struct Asked {
    pub said: Result<RawAnswer, AnalyzeError>,
    /// What was sent: nothing, or once for each key that was tried.
    pub calls: Vec<Call>,
}

impl Asked {
    pub fn not(error: AnalyzeError) -> Asked {
        Asked { said: Err(error), calls: Vec::new() }
    }
}

/// What a provider said, unchecked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RawAnswer {
    pub text: String,
    /// Model as reported, cleaned.
    pub model: String,
    pub tokens: Tokens,
}

/// One call to a reader on this machine, which costs nothing.
fn call_here(
    provider: &dyn Provider,
    question: &Question<'_>,
    latency: Duration,
    said: &Result<RawAnswer, AnalyzeError>,
) -> Call {
    Call {
        gateway: provider.name().to_owned(),
        key: String::new(),
        model: provider.model().to_owned(),
        tokens: Tokens::default(),
        is_estimate: false,
        pictures: u32::try_from(question.pictures.len()).unwrap_or(u32::MAX),
        latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        outcome: said.as_ref().map_or_else(AnalyzeError::label, |_| call::ANSWERED).to_owned(),
        cost_micro: Some(0),
    }
}

/// SHA-256, hexadecimal.
fn file_digest(path: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut file = io::BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    loop {
        let bytes = io::BufRead::fill_buf(&mut file)?;
        let read = bytes.len();
        if read == 0 {
            return Ok(text::hex(&hash.finalize()));
        }
        hash.update(bytes);
        io::BufRead::consume(&mut file, read);
    }
}

/// What is there, when not just anybody may put something else in its place.
///
/// # Errors
/// In words, with the path.
pub fn unchangeable(path: &Path) -> Result<Metadata, String> {
    let found = std::fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match found.permissions().mode() & 0o002 == 0 {
        true => Ok(found),
        false => Err(format!("{}: anybody may change it; chmod o-w", path.display())),
    }
}
