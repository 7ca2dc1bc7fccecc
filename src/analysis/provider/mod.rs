//! Providers: who is asked.

pub mod address;
pub mod cache;
pub mod keeper;
pub mod keys;
pub mod local;
pub mod openai;
mod resample;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::analysis::AnalyzeError;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::keys::KeyView;
use crate::domain::assessment::Algorithm;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::picture::Picture;

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
}

/// A gateway as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GatewayView {
    pub name: String,
    pub model: String,
    /// Why it is not asked now.
    pub rests: Option<String>,
    /// Of the last look whether it answers: when, and what was wrong.
    pub checked_at: Option<Timestamp>,
    pub problem: Option<String>,
    pub keys: Vec<KeyView>,
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
