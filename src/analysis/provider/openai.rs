//! Any OpenAI-compatible `/chat/completions`: text and pictures out, one text back.

use std::sync::Once;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;

use crate::analysis::AnalyzeError;
use crate::analysis::BadAnswer;
use crate::analysis::answer;
use crate::analysis::config::Gateway;
use crate::analysis::config::ResponseFormat;
use crate::analysis::cost;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::address::Guarded;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::text;
use crate::domain::uid;

/// Body of a response. An answer has at most 1 MiB of text; escaping can double it twice.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest wait that a gateway can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// One gateway of the configuration.
pub struct OpenAi {
    name: String,
    gateway: Gateway,
    url: reqwest::Url,
    client: reqwest::Client,
}

impl OpenAi {
    /// Reads the key file once.
    ///
    /// # Errors
    /// [`AnalyzeError::Misconfigured`], never with the key.
    pub fn new(name: &str, gateway: &Gateway) -> Result<OpenAi, AnalyzeError> {
        let wrong = |why: String| AnalyzeError::Misconfigured { provider: name.to_owned(), why };
        let url = gateway.endpoint().map_err(|why| wrong(format!("url: {why}")))?;
        install_crypto();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(key) = key(gateway).map_err(|error| wrong(format!("api_key_file: {error}")))? {
            let mut value = HeaderValue::from_str(&format!("Bearer {key}"))
                .map_err(|_| wrong("the key has characters that no header can hold".into()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let only_inside = url.scheme() == "http" && !gateway.allow_plain;
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("prelim/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .https_only(url.scheme() == "https")
            .connect_timeout(Duration::from_secs(gateway.connect_timeout_s))
            .pool_idle_timeout(Duration::from_secs(30))
            .no_proxy();
        builder = match gateway.proxy.is_empty() {
            // A proxy resolves for itself.
            true => builder.dns_resolver(std::sync::Arc::new(Guarded { only_inside })),
            false => {
                let proxy = reqwest::Proxy::all(&gateway.proxy)
                    .map_err(|_| wrong("proxy: not a URL".into()))?;
                builder.proxy(proxy)
            }
        };
        let client = builder.build().map_err(|error| wrong(cause(&error)))?;
        Ok(OpenAi { name: name.to_owned(), gateway: gateway.clone(), url, client })
    }

    fn body(&self, question: &Question<'_>) -> Value {
        let Question { prompt, pictures, schema, .. } = question;
        let mut user = prompt.user.clone();
        let wire = answer::wire_schema(schema);
        let format = match self.gateway.response_format {
            ResponseFormat::JsonSchema => Some(json!({
                "type": "json_schema",
                "json_schema": {"name": "reading", "strict": true, "schema": wire},
            })),
            ResponseFormat::JsonObject => Some(json!({"type": "json_object"})),
            ResponseFormat::None => None,
        };
        if self.gateway.response_format != ResponseFormat::JsonSchema {
            user.push_str(&format!("\nJSON Schema of the answer:\n{wire}\n"));
        }
        let mut parts = vec![json!({"type": "text", "text": user})];
        for picture in *pictures {
            let label = picture.reference.label();
            parts.push(json!({"type": "text", "text": format!("{label}:")}));
            let data = base64::engine::general_purpose::STANDARD.encode(&picture.bytes);
            let url = format!("data:{};base64,{data}", picture.media_type);
            parts.push(json!({"type": "image_url", "image_url": {"url": url, "detail": "high"}}));
        }
        let mut body = json!({
            "model": self.gateway.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": parts},
            ],
            "max_tokens": self.gateway.max_tokens,
            "temperature": 0,
            "n": 1,
            "stream": false,
        });
        if let Some(format) = format {
            body["response_format"] = format;
        }
        body
    }

    async fn call(&self, body: Vec<u8>) -> Result<Completion, AnalyzeError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refused(status, response.headers()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(&error))? {
            if bytes.len() + chunk.len() > RESPONSE_BYTES_MAX {
                return Err(self.bad(BadAnswer::TooLarge));
            }
            bytes.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.bad(BadAnswer::NotACompletion))
    }

    /// The text of the one choice.
    fn text(&self, completion: &Completion) -> Result<String, AnalyzeError> {
        let [choice] = completion.choices.as_slice() else {
            return Err(self.bad(match completion.choices.len() {
                0 => BadAnswer::NoChoices,
                _ => BadAnswer::SeveralChoices,
            }));
        };
        let message = choice.message.as_ref().ok_or_else(|| self.bad(BadAnswer::Empty))?;
        let finish = choice.finish_reason.as_deref().unwrap_or_default();
        let calls = |value: &Option<Value>| match value {
            Some(Value::Array(calls)) => !calls.is_empty(),
            Some(Value::Null) | None => false,
            Some(_) => true,
        };
        let asks_for_tool = calls(&message.tool_calls)
            || calls(&message.function_call)
            || matches!(finish, "tool_calls" | "function_call");
        if asks_for_tool {
            return Err(self.bad(BadAnswer::ToolCall));
        }
        if finish == "content_filter" {
            return Err(self.bad(BadAnswer::Filtered));
        }
        if message.refusal.as_ref().is_some_and(|text| !text.trim().is_empty()) {
            return Err(self.bad(BadAnswer::Refusal));
        }
        if matches!(finish, "length" | "max_tokens") {
            return Err(self.bad(BadAnswer::Cut));
        }
        let text = match &message.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => {
                if parts.iter().any(|part| part.refusal.is_some()) {
                    return Err(self.bad(BadAnswer::Refusal));
                }
                parts.iter().filter_map(|part| part.text.as_deref()).collect()
            }
            None => String::new(),
        };
        match text.trim().is_empty() {
            true => Err(self.bad(BadAnswer::Empty)),
            false => Ok(text),
        }
    }

    fn bad(&self, why: BadAnswer) -> AnalyzeError {
        AnalyzeError::BadAnswer { provider: self.name.clone(), why }
    }

    /// What a status means. The body of an error is not read: it may repeat the request.
    fn refused(&self, status: StatusCode, headers: &HeaderMap) -> AnalyzeError {
        let provider = self.name.clone();
        let code = status.as_u16();
        match code {
            413 => AnalyzeError::TooLarge { provider },
            408 | 409 | 425 | 429 | 500..=599 => {
                let header = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                let retry_after = header.and_then(|value| retry_after(value, now()));
                AnalyzeError::Busy { provider, status: code, retry_after }
            }
            _ => AnalyzeError::Refused { provider, status: code },
        }
    }

    fn transport(&self, error: &reqwest::Error) -> AnalyzeError {
        let provider = self.name.clone();
        let why = cause(error);
        match is_tls(error) {
            true => AnalyzeError::Untrusted { provider, why },
            false => AnalyzeError::Unreachable { provider, why },
        }
    }
}

#[async_trait]
impl Provider for OpenAi {
    fn name(&self) -> &str {
        &self.name
    }

    fn model(&self) -> &str {
        &self.gateway.model
    }

    fn algorithm(&self, model: &str) -> Algorithm {
        let name = text::clean(&self.gateway.model, 64);
        let version = match model {
            "" => "not reported".to_owned(),
            model => text::clean(model, 64),
        };
        let manufacturer = match text::clean(&self.gateway.manufacturer, 64) {
            given if given.is_empty() => format!("gateway {}", self.name),
            given => given,
        };
        Algorithm {
            device_uid: uid::derived(&["device", &name, &version, &manufacturer]),
            parameters: vec!["temperature=0".into()],
            provider: self.name.clone(),
            measures_only: false,
            name,
            version,
            manufacturer,
        }
    }

    async fn ask(&self, question: &Question<'_>) -> Asked {
        let body = self.body(question).to_string().into_bytes();
        if body.len() > self.gateway.request_bytes_max {
            return Asked::not(AnalyzeError::TooLarge { provider: self.name.clone() });
        }
        let timeout = match self.gateway.timeout_s {
            0 => question.timeout,
            seconds => Duration::from_secs(seconds),
        };
        let started = tokio::time::Instant::now();
        // One limit over connecting, waiting and reading: a byte a second does not extend it.
        let ended = tokio::time::timeout(timeout, self.call(body)).await;
        let ended = ended.unwrap_or_else(|_| {
            Err(AnalyzeError::TimedOut { provider: self.name.clone(), waited: timeout })
        });
        let counted = ended.as_ref().ok().and_then(|completion| completion.usage);
        let said = ended.and_then(|completion| {
            let model = text::clean(completion.model.as_deref().unwrap_or_default(), 64);
            Ok((self.text(&completion)?, model))
        });
        let tokens = match counted {
            Some(usage) => {
                Tokens { prompt: usage.prompt_tokens, completion: usage.completion_tokens }
            }
            None => cost::tokens_taken(question, said.as_ref().map(|(text, _)| text.as_str())),
        };
        let call = Call {
            gateway: self.name.clone(),
            key: String::new(),
            model: self.gateway.model.clone(),
            tokens,
            is_estimate: counted.is_none(),
            pictures: u32::try_from(question.pictures.len()).unwrap_or(u32::MAX),
            latency_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: said.as_ref().map_or_else(AnalyzeError::label, |_| call::ANSWERED).to_owned(),
            cost_micro: None,
        };
        let said = said.map(|(text, model)| RawAnswer { text, model, tokens });
        Asked { said, call: Some(call) }
    }
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Option<Message>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<Content>,
    refusal: Option<String>,
    tool_calls: Option<Value>,
    function_call: Option<Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
struct Part {
    text: Option<String>,
    refusal: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(default)]
struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
}

fn key(gateway: &Gateway) -> Result<Option<String>, std::io::Error> {
    let key = match gateway.api_key_file.as_os_str().is_empty() {
        true => gateway.api_key.expose().trim().to_owned(),
        false => std::fs::read_to_string(&gateway.api_key_file)?.trim().to_owned(),
    };
    Ok((!key.is_empty()).then_some(key))
}

/// rustls wants one provider for the process; who comes first installs it.
fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error says that another room was first: the same provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// Retry-After (RFC 9110 10.2.3): seconds or a date, at most an hour.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than a number has are more than an hour.
        let seconds = value.parse().unwrap_or(u64::MAX);
        return Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    let seconds = u64::try_from(at.as_second() - now.as_second()).unwrap_or(0);
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn now() -> Timestamp {
    use crate::domain::clock::Clock as _;
    crate::domain::clock::SystemClock.now()
}

/// Why a call failed, without the URL (a key may stand in a proxy's).
fn cause(error: &reqwest::Error) -> String {
    use std::error::Error as _;
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let what = match error {
        e if e.is_connect() => "cannot connect",
        e if e.is_timeout() => "timed out",
        e if e.is_body() || e.is_decode() => "the response broke off",
        _ => "the request failed",
    };
    let deepest: &dyn std::fmt::Display = match error.source() {
        Some(_) => deepest,
        None => return what.to_owned(),
    };
    format!("{what}: {}", text::clean(&deepest.to_string(), 200))
}

/// Whether TLS itself said no: a certificate that is not trusted, a version that is too old.
fn is_tls(error: &reqwest::Error) -> bool {
    use std::error::Error as _;
    let mut next = error.source();
    while let Some(source) = next {
        let inner = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if source.is::<rustls::Error>() || inner.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = source.source();
    }
    false
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
