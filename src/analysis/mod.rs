//! Pictures to findings: profiles, prompts, providers, answers, and what is believed of them.
//!
//! `plan` chooses, `prompt` asks, `provider` carries, `answer` reads, `judge` decides, `record`
//! writes it down. Only `provider` has side effects.

pub mod answer;
pub mod codes;
mod config;
pub mod gate;
pub mod judge;
pub mod nodule;
pub mod plan;
pub mod profile;
pub mod prompt;
pub mod provider;
pub mod record;
mod size;
pub mod strategy;
mod tiles;
mod words;

#[cfg(test)]
mod testing;

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

pub use config::Config;

use crate::analysis::answer::Answer;
use crate::analysis::prompt::Prompt;
use crate::analysis::provider::Provider;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::Tokens;
use crate::domain::assessment::Algorithm;
use crate::domain::picture::Picture;
use crate::domain::picture::PicturePlan;
use crate::domain::picture::PictureRef;
use crate::domain::profile::Profile;
use crate::domain::text;

/// What came back from one study's reading, and how. Kept as it is beside the assessment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub answer: Answer,
    pub algorithm: Algorithm,
    pub log: RunLog,
    /// What was changed in the answer before it was judged, for a reader.
    #[serde(default)]
    pub notes: Vec<String>,
}

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
    #[error("{provider} is busy (status {status})")]
    Busy { provider: String, status: u16, retry_after: Option<Duration> },
    #[error("{provider} is not asked for {} s: it failed before, or its calls are used up", wait.as_secs())]
    Resting { provider: String, wait: Duration },
    #[error("{provider} refused the request (status {status})")]
    Refused { provider: String, status: u16 },
    #[error("the pictures are too large for {provider}")]
    TooLarge { provider: String },
    #[error("{provider} answered without a reading: {why}")]
    BadAnswer { provider: String, why: BadAnswer },
    #[error("{provider} answered twice without a usable reading: {}", problems.join("; "))]
    Unreadable { provider: String, problems: Vec<String> },
    #[error("{provider} cannot be used as configured: {why}")]
    Misconfigured { provider: String, why: String },
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
    /// Whether the queue tries again. What is not transient is for a person: see [`Self::is_for_review`].
    pub fn is_transient(&self) -> bool {
        match self {
            AnalyzeError::TimedOut { .. }
            | AnalyzeError::Unreachable { .. }
            | AnalyzeError::Busy { .. }
            | AnalyzeError::Resting { .. } => true,
            AnalyzeError::Untrusted { .. }
            | AnalyzeError::Refused { .. }
            | AnalyzeError::TooLarge { .. }
            | AnalyzeError::BadAnswer { .. }
            | AnalyzeError::Unreadable { .. }
            | AnalyzeError::Misconfigured { .. } => false,
        }
    }

    /// Whether the study itself needs a person (the model could not read it), rather than the
    /// gateway an operator.
    pub fn is_for_review(&self) -> bool {
        match self {
            AnalyzeError::BadAnswer { .. }
            | AnalyzeError::Unreadable { .. }
            | AnalyzeError::TooLarge { .. } => true,
            AnalyzeError::TimedOut { .. }
            | AnalyzeError::Unreachable { .. }
            | AnalyzeError::Busy { .. }
            | AnalyzeError::Resting { .. }
            | AnalyzeError::Untrusted { .. }
            | AnalyzeError::Refused { .. }
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
            AnalyzeError::Misconfigured { .. } => "misconfigured",
        }
    }

    /// How long to wait, at most an hour.
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
            | AnalyzeError::Misconfigured { .. } => None,
        }
    }
}

impl BadAnswer {
    /// Whether asking the same once more can help. A refusal is an answer.
    fn is_worth_another_try(self) -> bool {
        match self {
            BadAnswer::NotACompletion
            | BadAnswer::NoChoices
            | BadAnswer::SeveralChoices
            | BadAnswer::Empty
            | BadAnswer::Cut => true,
            BadAnswer::TooLarge
            | BadAnswer::Refusal
            | BadAnswer::Filtered
            | BadAnswer::ToolCall => false,
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

/// Asks `provider` about the pictures of one study; asks once more, with the problems named, when
/// the answer cannot be used. Stores nothing: a second run asks again.
///
/// # Errors
/// [`AnalyzeError::Unreadable`] after two unusable answers: the study needs a person, it is not
/// normal. Everything else as the provider says.
pub async fn analyze(
    provider: &dyn Provider,
    prompt: &Prompt,
    pictures: &[Picture],
    profile: &Profile,
) -> Result<Reading, AnalyzeError> {
    let schema = answer::schema(profile);
    let timeout = Duration::from_secs(profile.timeout_s);
    let mut total = RunTotal::default();
    let first = attempt(provider, prompt, pictures, &schema, timeout, &mut total).await?;
    let (problems, repaired) = match first {
        Ok((raw, read)) => {
            return Ok(reading(provider, prompt, pictures, raw, read, &total, false));
        }
        Err(problems) => (problems, true),
    };
    let again = Prompt {
        user: format!(
            "{}\nYour previous answer could not be used:\n- {}\nAnswer again: one JSON object that follows the schema, nothing else.\n",
            prompt.user,
            problems.join("\n- ")
        ),
        ..prompt.clone()
    };
    match attempt(provider, &again, pictures, &schema, timeout, &mut total).await? {
        Ok((raw, read)) => Ok(reading(provider, prompt, pictures, raw, read, &total, repaired)),
        Err(problems) => {
            Err(AnalyzeError::Unreadable { provider: provider.name().to_owned(), problems })
        }
    }
}

#[derive(Default)]
struct RunTotal {
    tokens: Tokens,
    latency: Duration,
}

/// One call: an answer, or the problems with it; errors that another call cannot mend go out.
async fn attempt(
    provider: &dyn Provider,
    prompt: &Prompt,
    pictures: &[Picture],
    schema: &serde_json::Value,
    timeout: Duration,
    total: &mut RunTotal,
) -> Result<Result<(RawAnswer, Answer), Vec<String>>, AnalyzeError> {
    let raw = match provider.ask(prompt, pictures, schema, timeout).await {
        Ok(raw) => raw,
        Err(AnalyzeError::BadAnswer { why, .. }) if why.is_worth_another_try() => {
            return Ok(Err(vec![why.to_string()]));
        }
        Err(error) => return Err(error),
    };
    total.tokens.prompt += raw.tokens.prompt;
    total.tokens.completion += raw.tokens.completion;
    total.latency += raw.latency;
    Ok(match answer::parse(&raw.text, schema) {
        Ok(read) => Ok((raw, read)),
        Err(answer::AnswerError::Schema(problems)) => Err(problems),
        Err(error) => Err(vec![error.to_string()]),
    })
}

fn reading(
    provider: &dyn Provider,
    prompt: &Prompt,
    pictures: &[Picture],
    raw: RawAnswer,
    mut answer: Answer,
    total: &RunTotal,
    repaired: bool,
) -> Reading {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(raw.text.as_bytes());
    let mut algorithm = provider.algorithm(&raw.model);
    algorithm.parameters.push(format!("prompt={} sha256:{}", prompt.version, prompt.digest));
    algorithm.parameters.push(format!("repaired={repaired}"));
    let sent: Vec<PictureRef> = pictures.iter().map(|picture| picture.reference.clone()).collect();
    let notes = tiles::to_pictures(&mut answer, &sent);
    Reading {
        answer,
        algorithm,
        notes,
        log: RunLog {
            provider: provider.name().to_owned(),
            model: raw.model,
            prompt_version: prompt.version.clone(),
            prompt_digest: prompt.digest.clone(),
            pictures: pictures.iter().map(|picture| picture.reference.digest.clone()).collect(),
            answer_digest: text::hex(&digest),
            tokens: total.tokens,
            latency_ms: u64::try_from(total.latency.as_millis()).unwrap_or(u64::MAX),
            repaired,
        },
    }
}

#[cfg(test)]
mod tests;
