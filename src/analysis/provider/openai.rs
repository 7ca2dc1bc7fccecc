//! Any OpenAI-compatible `/chat/completions`: text and pictures out, one text back.

use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
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
use crate::analysis::provider;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::hints;
use crate::analysis::provider::keys::Key;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::keys::Ring;
use crate::analysis::provider::keys::Word;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::secret::Secret;
use crate::domain::text;
use crate::outgoing;

/// Body of a response. An answer has at most 1 MiB of text; escaping can double it twice.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// For a look whether it answers at all.
const CHECK: Duration = Duration::from_secs(20);
/// Of an error's body, of which a wait is read.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// One gateway of the configuration.
pub struct OpenAi {
    name: String,
    gateway: Gateway,
    url: reqwest::Url,
    client: reqwest::Client,
    keys: Mutex<Ring>,
}

impl OpenAi {
    /// Reads the files of the keys once.
    ///
    /// - `used`: calls of this month so far, by name of the key.
    ///
    /// # Errors
    /// [`AnalyzeError::Misconfigured`], never with a key.
    pub fn new(
        name: &str,
        gateway: &Gateway,
        used: impl Fn(&str) -> u64,
    ) -> Result<OpenAi, AnalyzeError> {
        let wrong = |why: String| AnalyzeError::Misconfigured { provider: name.to_owned(), why };
        let url = gateway.endpoint().map_err(|why| wrong(format!("url: {why}")))?;
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let keys = keys(gateway).map_err(wrong)?;
        if let Some((key, _)) = keys
            .iter()
            .find(|(_, secret)| secret.as_ref().is_some_and(|secret| bearer(secret).is_none()))
        {
            let name = &key.name;
            return Err(wrong(format!("the key {name} has characters that no header can hold")));
        }
        let connect = Duration::from_secs(gateway.connect_timeout_s);
        let builder = outgoing::client(&url, gateway.allow_plain, None, connect);
        let mut builder = builder.map_err(wrong)?.default_headers(headers);
        if !gateway.proxy.is_empty() {
            // A proxy resolves for itself.
            let proxy = reqwest::Proxy::all(&gateway.proxy)
                .map_err(|_| wrong("proxy: not a URL".into()))?;
            builder = builder.proxy(proxy);
        }
        let client = builder.build().map_err(|error| wrong(cause(&error)))?;
        let keys = Mutex::new(Ring::new(keys, gateway.rotation, today(), used));
        Ok(OpenAi { name: name.to_owned(), gateway: gateway.clone(), url, client, keys })
    }

    fn body(&self, question: &Question<'_>) -> Value {
        let Question { prompt, pictures, schema, .. } = question;
        let mut user = prompt.user.clone();
        let wire = answer::wire_schema(schema);
        let format = match self.gateway.response_format {
            ResponseFormat::JsonSchema => Some(json!({
                "type": "json_schema",
                "json_schema": {"name": "reading", "strict": answer::is_closed(&wire), "schema": wire},
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

    fn keys(&self) -> MutexGuard<'_, Ring> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request with this key.
    fn signed(&self, request: reqwest::RequestBuilder, key: usize) -> reqwest::RequestBuilder {
        match self.keys().secret(key).and_then(bearer) {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        }
    }

    async fn call(&self, body: Bytes, key: usize) -> Result<Completion, AnalyzeError> {
        let request = self
            .client
            .post(self.url.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let request = self.signed(request, key);
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status();
        if status != StatusCode::OK {
            let body = beginning(&mut response).await;
            return Err(self.refused(status, response.headers(), &body));
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

    /// What a status means. Of the body of an error only a wait is read: it may repeat the request.
    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &str) -> AnalyzeError {
        let provider = self.name.clone();
        let code = status.as_u16();
        match code {
            413 => AnalyzeError::TooLarge { provider },
            408 | 409 | 425 | 429 | 500..=599 => {
                let retry_after = hints::wait(headers, body, now());
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
        let version = match model {
            "" => "not reported".to_owned(),
            model => text::clean(model, 64),
        };
        let who = ("gateway", self.name.as_str());
        provider::algorithm_of(who, &self.gateway, version, vec!["temperature=0".into()])
    }

    /// Tries the keys until one is taken: at most each once.
    async fn ask(&self, question: &Question<'_>) -> Asked {
        let body = self.body(question).to_string().into_bytes();
        if body.len() > self.gateway.request_bytes_max {
            return Asked::not(AnalyzeError::TooLarge { provider: self.name.clone() });
        }
        let body = Bytes::from(body);
        let mut calls = Vec::new();
        loop {
            let key = match self.keys().pick(now(), today()) {
                Ok(key) => key,
                Err((refused, until)) => {
                    return Asked { said: Err(self.no_key(refused, until)), calls };
                }
            };
            let (said, call) = self.attempt(question, body.clone(), key).await;
            calls.push(call);
            let word = match &said {
                Err(AnalyzeError::Refused { status: 401 | 403, .. }) => Word::Refused,
                Err(AnalyzeError::Busy { status: 429, retry_after, .. }) => {
                    Word::Busy(*retry_after)
                }
                Ok(_) | Err(_) => Word::Taken,
            };
            let again = self.key_ended(key, word);
            if word == Word::Taken || !again {
                return Asked { said, calls };
            }
        }
    }

    async fn check(&self) -> Result<(), AnalyzeError> {
        let Ok(url) = self.gateway.models() else { return Ok(()) };
        let in_turn = self.keys().in_turn(now(), today());
        let Some(key) = in_turn else { return Ok(()) };
        let request = self.signed(self.client.get(url), key).timeout(CHECK);
        let response = request.send().await.map_err(|error| self.transport(&error))?;
        match response.status().as_u16() {
            200..=299 | 404 | 405 | 501 => Ok(()),
            _ => Err(self.refused(response.status(), response.headers(), "")),
        }
    }

    fn draws(&self) -> bool {
        false
    }

    fn key_views(&self) -> Vec<KeyView> {
        self.keys().view(now(), today())
    }
}

impl OpenAi {
    async fn attempt(
        &self,
        question: &Question<'_>,
        body: Bytes,
        key: usize,
    ) -> (Result<RawAnswer, AnalyzeError>, Call) {
        let timeout = match self.gateway.timeout_s {
            0 => question.timeout,
            seconds => Duration::from_secs(seconds),
        };
        let started = tokio::time::Instant::now();
        // One limit over connecting, waiting and reading: a byte a second does not extend it.
        let ended = tokio::time::timeout(timeout, self.call(body, key)).await;
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
            key: self.keys().name(key).to_owned(),
            model: self.gateway.model.clone(),
            tokens,
            is_estimate: counted.is_none(),
            pictures: u32::try_from(question.pictures.len()).unwrap_or(u32::MAX),
            latency_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: said.as_ref().map_or_else(AnalyzeError::label, |_| call::ANSWERED).to_owned(),
            cost_micro: None,
        };
        (said.map(|(text, model)| RawAnswer { text, model, tokens }), call)
    }

    /// Takes down what became of a call with this key; whether another may be tried.
    fn key_ended(&self, key: usize, word: Word) -> bool {
        let (now, today) = (now(), today());
        let mut keys = self.keys();
        keys.ended(key, word, now);
        let (name, gateway) = (keys.name(key).to_owned(), &self.name);
        let (again, warnings) = (keys.has_another(now, today), keys.warnings(today));
        for line in warnings {
            tracing::warn!(gateway, "{line}");
        }
        for view in keys.view(now, today).into_iter().filter(|view| view.calls_max > 0) {
            let labels = [("gateway", gateway.clone()), ("key", view.name)];
            metrics::gauge!("prelim_key_used_ratio", &labels)
                .set(view.calls as f64 / view.calls_max as f64);
        }
        drop(keys);
        if word != Word::Taken && again {
            tracing::warn!(gateway, key = name, "the key was not taken; the next has its turn");
        }
        again
    }

    fn no_key(&self, refused: bool, until: Option<Timestamp>) -> AnalyzeError {
        let provider = self.name.clone();
        let wait = until.map(|until| until.duration_since(now()));
        let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
        match (refused, wait) {
            (true, _) => AnalyzeError::Refused { provider, status: 401 },
            (false, Some(wait)) => AnalyzeError::Resting { provider, wait },
            (false, None) => AnalyzeError::Misconfigured {
                provider,
                why: "every key is used up or has ended".to_owned(),
            },
        }
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

/// What an error's body begins with, as far as it comes.
async fn beginning(response: &mut reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ERROR_BYTES_MAX - bytes.len();
        bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            break;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Each key with what its file holds; one without a name where there is no list of them.
fn keys(gateway: &Gateway) -> Result<Vec<(Key, Option<Secret>)>, String> {
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file);
        text.map_err(|error| format!("key file {}: {error}", file.display()))
    };
    let secret = |text: &str| Some(text.trim()).filter(|text| !text.is_empty()).map(Secret::new);
    if !gateway.keys.is_empty() {
        let each = gateway.keys.iter().map(|key| Ok((key.clone(), secret(&read(&key.file)?))));
        return each.collect();
    }
    let text = match gateway.api_key_file.as_os_str().is_empty() {
        true => gateway.api_key.expose().to_owned(),
        false => read(&gateway.api_key_file)?,
    };
    Ok(vec![(Key::default(), secret(&text))])
}

/// RFC 6750 2.1. `None` when it has characters that no header can hold.
fn bearer(secret: &Secret) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Quotas are by the calendar of Greenwich.
fn today() -> Date {
    now().to_zoned(jiff::tz::TimeZone::UTC).date()
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
        if source.is::<rustls::Error>() {
            return true;
        }
        // The source of an I/O error is not what it holds but what that comes from.
        let held = source.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        next = match held {
            Some(held) => Some(held as &(dyn std::error::Error + 'static)),
            None => source.source(),
        };
    }
    false
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
