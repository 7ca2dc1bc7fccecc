//! Providers: who is asked.

pub mod address;
pub mod keeper;
pub mod local;
pub mod openai;

use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::analysis::AnalyzeError;
use crate::analysis::prompt::Prompt;
use crate::domain::assessment::Algorithm;
use crate::domain::picture::Picture;

/// A model that looks at de-identified pictures and says what it sees. One call is one attempt:
/// retries, budgets and fallbacks are the caller's.
#[async_trait]
pub trait Provider: Send + Sync {
    /// The name in logs, metrics and reports: lowercase, stable over releases.
    fn name(&self) -> &str;

    /// Who is to be named as the reader when `model` answered.
    fn algorithm(&self, model: &str) -> Algorithm;

    /// - `schema`: JSON Schema of the answer; checked by the caller, passed on for the model.
    /// - `timeout`: for the whole call.
    async fn ask(
        &self,
        prompt: &Prompt,
        pictures: &[Picture],
        schema: &Value,
        timeout: Duration,
    ) -> Result<RawAnswer, AnalyzeError>;
}

/// What a provider said, unchecked.
#[derive(Debug, Clone, PartialEq)]
pub struct RawAnswer {
    pub text: String,
    /// Model as reported, cleaned.
    pub model: String,
    pub tokens: Tokens,
    pub finish_reason: String,
    pub latency: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tokens {
    pub prompt: u64,
    pub completion: u64,
}
