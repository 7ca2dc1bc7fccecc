//! Pictures to findings: profiles, prompts, providers, answers, and what is believed of them.
//!
//! `plan` chooses, `prompt` asks, `provider` carries, `answer` reads, `strategy` weighs several,
//! `judge` decides, `record` writes it down. Only `provider` has side effects.

pub mod agreement;
pub mod answer;
pub mod calibration;
pub mod canary;
pub mod codes;
pub mod config;
pub mod cost;
pub mod final_report;
pub mod gate;
pub mod judge;
pub mod nodule;
pub mod plan;
pub mod pool;
pub mod profile;
pub mod prompt;
pub mod provider;
pub mod record;
mod size;
pub mod strategy;
mod terms;
mod tiles;
pub mod visible;
mod words;

#[cfg(test)]
pub mod testing;

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use config::Config;

use crate::analysis::answer::Answer;
use crate::analysis::answer::Written;
use crate::analysis::calibration::Calibration;
use crate::analysis::calibration::calibrated;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::cache;
use crate::analysis::provider::cache::Cache;
use crate::analysis::provider::onnx::manifest::Manifest;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::text;

/// What a model said, and how it came to it. Kept as it is beside the assessment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Said<T> {
    pub answer: T,
    pub algorithm: Algorithm,
    pub log: RunLog,
    /// What was changed in the answer before it was judged, for a reader.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A model's answer about a study.
pub type Reading = Said<Answer>;

/// What a later question "why did it say that?" needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunLog {
    pub provider: String,
    /// As the gateway reported it.
    pub model: String,
    pub prompt_version: String,
    pub prompt_digest: String,
    /// SHA-256 of each picture shown, in order.
    pub pictures: Vec<String>,
    /// SHA-256 of the answer's text.
    pub answer_digest: String,
    pub tokens: Tokens,
    pub latency_ms: u64,
    /// True when the first answer could not be used and a second was asked for.
    pub repaired: bool,
    /// True when the answer was kept from an earlier time: nothing was sent.
    #[serde(default)]
    pub cached: bool,
}

/// Why there is no reading. Holds neither keys nor what the model said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnalyzeError {
    #[error("{provider} gave no answer within {waited:?}")]
    TimedOut { provider: String, waited: Duration },
    #[error("{provider} cannot be reached: {why}")]
    Unreachable { provider: String, why: String },
    #[error("{provider} is not trusted: {why}")]
    Untrusted { provider: String, why: String },
    /// `words`: the gateway's own, cleaned; may be empty.
    #[error("{provider} is busy (status {status}){}", behind(words))]
    Busy { provider: String, status: u16, retry_after: Option<Duration>, words: String },
    /// `why`: what it said last, or that its calls are used up.
    #[error("{provider} is not asked for {} s: {why}", wait.as_secs())]
    Resting { provider: String, wait: Duration, why: String },
    #[error("{provider} refused the request (status {status}){}", behind(words))]
    Refused { provider: String, status: u16, words: String },
    #[error("the pictures are too large for {provider}")]
    TooLarge { provider: String },
    #[error("{provider} answered without a reading: {why}")]
    BadAnswer { provider: String, why: BadAnswer },
    #[error("{provider} answered twice without a usable reading: {}", problems.join("; "))]
    Unreadable { provider: String, problems: Vec<String> },
    #[error("{provider} gave no usable result: {why}")]
    Failed { provider: String, why: String },
    #[error("{provider} does not read this study: {why}")]
    NotCovered { provider: String, why: String },
    #[error("{provider} cannot be used as configured: {why}")]
    Misconfigured { provider: String, why: String },
}

/// A peer's words behind ours.
fn behind(words: &str) -> String {
    if words.is_empty() { String::new() } else { format!(": {words}") }
}

/// What stood in place of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum BadAnswer {
    #[error("the body is no chat completion")]
    NotACompletion,
    #[error("the body is too large")]
    TooLarge,
    #[error("there are no choices")]
    NoChoices,
    #[error("there is more than one choice")]
    SeveralChoices,
    #[error("the text is empty")]
    Empty,
    #[error("the answer was cut at the token limit")]
    Cut,
    #[error("the model refused")]
    Refusal,
    #[error("a content filter stopped it")]
    Filtered,
    #[error("the model asked for a tool; none is ever run")]
    ToolCall,
}

impl AnalyzeError {
    /// Whether it is of the gateway and may pass: the study waits for it. What is not is for a
    /// person: see [`Self::is_for_review`].
    pub fn is_transient(&self) -> bool {
        match self {
            AnalyzeError::TimedOut { .. }
            | AnalyzeError::Unreachable { .. }
            | AnalyzeError::Untrusted { .. }
            | AnalyzeError::Busy { .. }
            | AnalyzeError::Resting { .. } => true,
            AnalyzeError::Refused { status, .. } => !is_of_the_request(*status),
            AnalyzeError::BadAnswer { why, .. } => why.is_of_the_gateway(),
            AnalyzeError::TooLarge { .. }
            | AnalyzeError::Unreadable { .. }
            | AnalyzeError::Failed { .. }
            | AnalyzeError::NotCovered { .. }
            | AnalyzeError::Misconfigured { .. } => false,
        }
    }

    /// Whether the study itself needs a person (the model could not read it), rather than the
    /// gateway an operator.
    pub fn is_for_review(&self) -> bool {
        match self {
            AnalyzeError::BadAnswer { why, .. } => !why.is_of_the_gateway(),
            AnalyzeError::Unreadable { .. }
            | AnalyzeError::Failed { .. }
            | AnalyzeError::TooLarge { .. } => true,
            AnalyzeError::TimedOut { .. }
            | AnalyzeError::Unreachable { .. }
            | AnalyzeError::Busy { .. }
            | AnalyzeError::Resting { .. }
            | AnalyzeError::Untrusted { .. }
            | AnalyzeError::Refused { .. }
            | AnalyzeError::NotCovered { .. }
            | AnalyzeError::Misconfigured { .. } => false,
        }
    }

    /// Its kind, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            AnalyzeError::TimedOut { .. } => "timed_out",
            AnalyzeError::Unreachable { .. } => "unreachable",
            AnalyzeError::Untrusted { .. } => "untrusted",
            AnalyzeError::Busy { .. } => "busy",
            AnalyzeError::Resting { .. } => "resting",
            AnalyzeError::Refused { .. } => "refused",
            AnalyzeError::TooLarge { .. } => "too_large",
            AnalyzeError::BadAnswer { .. } => "bad_answer",
            AnalyzeError::Unreadable { .. } => "unreadable",
            AnalyzeError::Failed { .. } => "failed",
            AnalyzeError::NotCovered { .. } => "not_covered",
            AnalyzeError::Misconfigured { .. } => "misconfigured",
        }
    }

    /// How long it wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            AnalyzeError::Busy { retry_after, .. } => *retry_after,
            AnalyzeError::Resting { wait, .. } => Some(*wait),
            AnalyzeError::TimedOut { .. }
            | AnalyzeError::Unreachable { .. }
            | AnalyzeError::Untrusted { .. }
            | AnalyzeError::Refused { .. }
            | AnalyzeError::TooLarge { .. }
            | AnalyzeError::BadAnswer { .. }
            | AnalyzeError::Unreadable { .. }
            | AnalyzeError::Failed { .. }
            | AnalyzeError::NotCovered { .. }
            | AnalyzeError::Misconfigured { .. } => None,
        }
    }
}

/// Whether this status is a word on the request, which comes again when the same is asked again
/// (RFC 9110 15.5); else on who asks, on what there is, or on the gateway.
fn is_of_the_request(status: u16) -> bool {
    matches!(status, 400 | 405 | 406 | 411 | 412 | 414 | 415 | 417 | 422 | 431)
}

impl BadAnswer {
    /// Whether no model has spoken: a page of a proxy, a body of another protocol.
    fn is_of_the_gateway(self) -> bool {
        match self {
            BadAnswer::NotACompletion | BadAnswer::NoChoices => true,
            BadAnswer::TooLarge
            | BadAnswer::SeveralChoices
            | BadAnswer::Empty
            | BadAnswer::Cut
            | BadAnswer::Refusal
            | BadAnswer::Filtered
            | BadAnswer::ToolCall => false,
        }
    }

    /// Whether asking the same once more can help. What a filter stopped, it stops again.
    fn is_worth_another_try(self) -> bool {
        match self {
            BadAnswer::NotACompletion
            | BadAnswer::NoChoices
            | BadAnswer::SeveralChoices
            | BadAnswer::Empty
            | BadAnswer::Cut
            | BadAnswer::Refusal => true,
            BadAnswer::TooLarge | BadAnswer::Filtered | BadAnswer::ToolCall => false,
        }
    }
}

/// The plan with pictures of half the edge and a quarter of the bytes, for one more try after
/// [`AnalyzeError::TooLarge`]. `None` when they would be too small to read.
pub fn smaller(plan: &PicturePlan) -> Option<PicturePlan> {
    let edge_max_px = plan.edge_max_px / 2;
    (edge_max_px >= 256).then(|| PicturePlan {
        edge_max_px,
        bytes_max: (plan.bytes_max / 4).max(50_000),
        ..plan.clone()
    })
}

/// Asks `provider`; asks once more, with the problems named, when the answer cannot be used. What
/// was answered before is not asked again.
///
/// - `cache`: of answers that were paid for; none where asking again costs nothing.
/// - `calls`: takes down each call, also of those that failed.
///
/// # Errors
/// [`AnalyzeError::Unreadable`] after two unusable answers: the study needs a person, it is not
/// normal. Everything else as the provider says.
pub async fn ask<T: DeserializeOwned + Written>(
    provider: &dyn Provider,
    cache: Option<&Cache>,
    question: Question<'_>,
    now: Timestamp,
    calls: &mut Vec<Call>,
) -> Result<Said<T>, AnalyzeError> {
    let widened = provider.draws().then(|| answer::with_masks(question.schema));
    let question = match &widened {
        Some(schema) => Question { schema, ..question },
        None => question,
    };
    let key = cache::key(provider, &question);
    if let Some(cache) = cache
        && let Some(raw) = cache.get(&key, now).await
        && let Ok(answer) = answer::parse(&raw.text, question.schema)
    {
        calls.push(from_cache(provider, &question, &raw));
        return Ok(said(provider, &question, &raw, answer, calls, false));
    }
    let mut problems_last = Vec::new();
    // What stands in another language is not lost when there is nothing better: judging gives it
    // to a person, with what it found.
    let mut foreign = None;
    // Of the last try, what stood in place of an answer.
    let mut silent = None;
    let mut prompt = question.prompt.clone();
    for repaired in [false, true] {
        silent = None;
        let asked = provider.ask(&Question { prompt: &prompt, ..question }).await;
        calls.extend(asked.calls);
        let problems = match asked.said {
            Ok(raw) => match answer::parse(&raw.text, question.schema) {
                Ok(answer) if judge::is_in_english(&answer) => {
                    if let Some(cache) = cache {
                        cache.put(&key, &raw, now).await;
                    }
                    return Ok(said(provider, &question, &raw, answer, calls, repaired));
                }
                Ok(answer) => {
                    foreign = Some((raw, answer));
                    vec!["its texts are not in English".to_owned()]
                }
                Err(answer::AnswerError::Schema(problems)) => problems,
                Err(error) => vec![error.to_string()],
            },
            Err(AnalyzeError::BadAnswer { why, provider }) if why.is_worth_another_try() => {
                silent = Some(AnalyzeError::BadAnswer { why, provider });
                vec![why.to_string()]
            }
            Err(error) if foreign.is_none() => return Err(error),
            Err(error) => vec![error.to_string()],
        };
        prompt.user = format!(
            "{}\nYour previous answer could not be used:\n- {}\nAnswer again: one JSON object that follows the schema, nothing else.\n",
            question.prompt.user,
            problems.join("\n- ")
        );
        problems_last = problems;
    }
    if let Some((raw, answer)) = foreign {
        return Ok(said(provider, &question, &raw, answer, calls, true));
    }
    if let Some(error) = silent.filter(AnalyzeError::is_transient) {
        return Err(error);
    }
    Err(AnalyzeError::Unreadable { provider: provider.name().to_owned(), problems: problems_last })
}

impl Reading {
    /// Puts what was said of sheets where their pictures are.
    ///
    /// - `sent`: the pictures as they were shown.
    pub fn on_pictures(mut self, sent: &[PictureRef]) -> Reading {
        self.notes.extend(tiles::to_pictures(&mut self.answer, sent));
        self
    }

    /// With the probabilities from which a model with a manifest calls its findings present.
    pub fn with_thresholds(mut self, manifest: &Manifest) -> Reading {
        for finding in &mut self.answer.findings {
            finding.threshold = manifest.label(&finding.key).map(|label| label.threshold);
        }
        self
    }

    /// With what its probabilities mean, in the place of what they say.
    pub fn calibrated(mut self, calibration: &Calibration) -> Reading {
        for finding in &mut self.answer.findings {
            let meant = |said| calibrated(calibration, &finding.key, said);
            (finding.probability, finding.threshold) =
                (meant(finding.probability), finding.threshold.map(meant));
        }
        if !calibration.is_empty() {
            let keys: Vec<&str> = calibration.keys().map(String::as_str).collect();
            self.algorithm.parameters.push(format!("calibrated={}", keys.join(",")));
        }
        self
    }
}

fn from_cache(provider: &dyn Provider, question: &Question<'_>, raw: &RawAnswer) -> Call {
    Call {
        gateway: provider.name().to_owned(),
        key: String::new(),
        model: provider.model().to_owned(),
        tokens: raw.tokens,
        is_estimate: false,
        pictures: u32::try_from(question.pictures.len()).unwrap_or(u32::MAX),
        latency_ms: 0,
        outcome: call::CACHED.to_owned(),
        cost_micro: Some(0),
    }
}

fn said<T>(
    provider: &dyn Provider,
    question: &Question<'_>,
    raw: &RawAnswer,
    answer: T,
    calls: &[Call],
    repaired: bool,
) -> Said<T> {
    use sha2::Digest as _;
    let (prompt, digest) = (question.prompt, sha2::Sha256::digest(raw.text.as_bytes()));
    let mut algorithm = provider.algorithm(&raw.model);
    // A model with a manifest sees pictures alone.
    if provider.manifest().is_none() {
        algorithm.parameters.push(format!("prompt={} sha256:{}", prompt.version, prompt.digest));
        algorithm.parameters.push(format!("repaired={repaired}"));
    }
    let tokens = |of: fn(&Tokens) -> u64| calls.iter().map(|call| of(&call.tokens)).sum();
    Said {
        answer,
        algorithm,
        notes: Vec::new(),
        log: RunLog {
            provider: provider.name().to_owned(),
            model: raw.model.clone(),
            prompt_version: prompt.version.clone(),
            prompt_digest: prompt.digest.clone(),
            pictures: question.pictures.iter().map(|p| p.reference.digest.clone()).collect(),
            answer_digest: text::hex(&digest),
            tokens: Tokens { prompt: tokens(|t| t.prompt), completion: tokens(|t| t.completion) },
            latency_ms: calls.iter().map(|call| call.latency_ms).sum(),
            repaired,
            cached: calls.iter().all(Call::is_cached),
        },
    }
}

#[cfg(test)]
mod tests;
