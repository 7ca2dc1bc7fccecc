//! Any OpenAI-compatible `/chat/completions`: text and pictures out, one text back.

use std::path::Path;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use reqwest::StatusCode;
use reqwest::header;
use reqwest::header::HeaderMap;
use reqwest::header::HeaderName;
use reqwest::header::HeaderValue;
use serde_json::Value;

use crate::analysis::AnalyzeError;
use crate::analysis::BadAnswer;
use crate::analysis::config::Gateway;
use crate::analysis::cost;
use crate::analysis::provider;
use crate::analysis::provider::Asked;
use crate::analysis::provider::Provider;
use crate::analysis::provider::Question;
use crate::analysis::provider::RawAnswer;
use crate::analysis::provider::envelope;
use crate::analysis::provider::envelope::Completion;
use crate::analysis::provider::envelope::Unread;
use crate::analysis::provider::keys::Key;
use crate::analysis::provider::keys::KeyView;
use crate::analysis::provider::keys::Ring;
use crate::analysis::provider::keys::Word;
use crate::analysis::provider::refusal::Refusal;
use crate::analysis::provider::shape::Shape;
use crate::domain::assessment::Algorithm;
use crate::domain::call;
use crate::domain::call::Call;
use crate::domain::call::Tokens;
use crate::domain::secret::Secret;
use crate::domain::text;
use crate::files::Mark;
use crate::files::mark;
use crate::outgoing;
use crate::outgoing::hints;
use crate::outgoing::oauth2;

/// Body of a response. An answer has at most 1 MiB of text; escaping can double it twice.
const RESPONSE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// For a look whether it answers at all.
const CHECK: Duration = Duration::from_secs(20);
/// Times that one question is changed because of what the gateway does not take.
const CHANGES_MAX: u32 = 4;
/// Of an error's body.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// One gateway of the configuration.
pub struct OpenAi {
    name: String,
    gateway: Gateway,
    url: reqwest::Url,
    client: reqwest::Client,
    keys: Mutex<Ring>,
    /// Of the files of the keys, when they were read.
    marks: Mutex<Vec<Option<Mark>>>,
    /// With what the gateway said that it does not take left out.
    shape: Mutex<Shape>,
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
        let keys = keys(gateway).map_err(wrong)?;
        let is_usable = |secret: &Secret| key_value(gateway, secret).is_some();
        let bad =
            keys.iter().find(|(_, secret)| secret.as_ref().is_some_and(|one| !is_usable(one)));
        if let Some((key, _)) = bad {
            let name = &key.name;
            return Err(wrong(format!("the key {name} has characters that no header can hold")));
        }
        let connect = Duration::from_secs(gateway.connect_timeout_s);
        let client = gateway.route.client(&url, connect).map_err(wrong)?;
        let client = client.build().map_err(|error| wrong(outgoing::why(&error)))?;
        let marks = Mutex::new(marks(gateway));
        let keys = Mutex::new(Ring::new(keys, gateway.rotation, today(), used));
        let (name, gateway) = (name.to_owned(), gateway.clone());
        let shape = Mutex::new(Shape::of(&gateway));
        Ok(OpenAi { name, gateway, url, client, keys, marks, shape })
    }

    fn shape(&self) -> MutexGuard<'_, Shape> {
        self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keys whose files were written since they were read.
    ///
    /// - `all`: whatever the files look like. Returns whether any key is another now.
    async fn renew_keys(&self, all: bool) -> bool {
        let gateway = self.gateway.clone();
        let read = move || (marks(&gateway), keys(&gateway));
        let Ok((now, read)) = tokio::task::spawn_blocking(read).await else { return false };
        let is_same = {
            let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *marks, now.clone()) == now
        };
        // A file that is being replaced is there again at the next call.
        let (false, Ok(read)) = (is_same && !all, read) else { return false };
        let mut keys = self.keys();
        let mut changed = false;
        for (at, (_, secret)) in read.into_iter().enumerate() {
            changed |= keys.renew(at, secret);
        }
        if changed {
            tracing::info!(gateway = self.name, "a key was renewed");
        }
        changed
    }

    fn keys(&self) -> MutexGuard<'_, Ring> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request with this key, and with what the settings say of who we are.
    async fn signed(
        &self,
        request: reqwest::RequestBuilder,
        key: usize,
        fresh: bool,
    ) -> Result<reqwest::RequestBuilder, AnalyzeError> {
        let own = self.keys().secret(key).and_then(|secret| key_value(&self.gateway, secret));
        let request = request.header(header::ACCEPT, "application/json");
        let signed = self.gateway.server().signed(request, &self.gateway.url, fresh).await;
        let request =
            signed.map_err(|why| AnalyzeError::Unreachable { provider: self.name.clone(), why })?;
        Ok(match own {
            Some((name, value)) => request.header(name, value),
            None => request,
        })
    }

    async fn call(
        &self,
        question: &Question<'_>,
        body: Bytes,
        key: usize,
    ) -> Result<Completion, CallError> {
        let request = self
            .client
            .post(self.gateway.route.called(&self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let failed = |error: reqwest::Error| CallError::from(self.transport(&error));
        let request = self.signed(request, key, false).await?;
        let mut response = request.send().await.map_err(failed)?;
        let status = response.status();
        let headers = response.headers().clone();
        if status != StatusCode::OK {
            let body = beginning(&mut response).await;
            return Err(self.refused(question, key, status.as_u16(), &headers, &body));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > RESPONSE_BYTES_MAX {
                return Err(self.bad(BadAnswer::TooLarge).into());
            }
            bytes.extend_from_slice(&chunk);
        }
        envelope::completion(&bytes).map_err(|unread| match unread {
            Unread::Bad(why) => self.bad(why).into(),
            Unread::Error { status, body } => self.refused(question, key, status, &headers, &body),
        })
    }

    fn bad(&self, why: BadAnswer) -> AnalyzeError {
        AnalyzeError::BadAnswer { provider: self.name.clone(), why }
    }

    /// What a status means, with the gateway's own words.
    fn refused(
        &self,
        question: &Question<'_>,
        key: usize,
        status: u16,
        headers: &HeaderMap,
        body: &str,
    ) -> CallError {
        let refusal = Refusal::of(body);
        let secret = self.keys().secret(key).map(|one| one.expose().to_owned()).unwrap_or_default();
        let words = refusal.in_words(question.prompt, &secret);
        let provider = self.name.clone();
        let error = match status {
            413 => AnalyzeError::TooLarge { provider },
            408 | 409 | 425 | 429 | 500..=599 => {
                let retry_after = hints::wait(headers, body, now());
                AnalyzeError::Busy { provider, status, retry_after, words }
            }
            _ => AnalyzeError::Refused { provider, status, words },
        };
        CallError { error, refusal: Some(refusal) }
    }

    fn transport(&self, error: &reqwest::Error) -> AnalyzeError {
        let (provider, why) = (self.name.clone(), outgoing::why(error));
        match outgoing::tls_error(error) {
            Some(_) => AnalyzeError::Untrusted { provider, why },
            None => AnalyzeError::Unreachable { provider, why },
        }
    }
}

/// A call that failed, and what the gateway said of it.
struct CallError {
    error: AnalyzeError,
    refusal: Option<Refusal>,
}

impl From<AnalyzeError> for CallError {
    fn from(error: AnalyzeError) -> CallError {
        CallError { error, refusal: None }
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

    /// Tries the keys until one is taken: at most each once, and once more with one that was renewed.
    /// What the gateway says that it does not take is left out, for this and all later questions.
    async fn ask(&self, question: &Question<'_>) -> Asked {
        self.renew_keys(false).await;
        let (mut calls, mut changes, mut is_renewed) = (Vec::new(), 0, false);
        loop {
            let body = self.shape().body(&self.gateway.model, question).to_string().into_bytes();
            if body.len() > self.gateway.request_bytes_max {
                let provider = self.name.clone();
                return Asked { said: Err(AnalyzeError::TooLarge { provider }), calls };
            }
            let key = match self.keys().pick(now(), today()) {
                Ok(key) => key,
                Err((refused, until)) => {
                    return Asked { said: Err(self.no_key(refused, until)), calls };
                }
            };
            let (said, call) = self.attempt(question, Bytes::from(body), key).await;
            calls.push(call);
            let said = match said {
                Ok(said) => return self.taken(key, said, calls),
                Err(failed) => failed,
            };
            if let (AnalyzeError::Refused { status: 400 | 404 | 422, .. }, Some(refusal)) =
                (&said.error, &said.refusal)
                && changes < CHANGES_MAX
            {
                let changed = self.shape().without_what_is_refused(refusal);
                if let Some(changed) = changed {
                    tracing::warn!(
                        gateway = self.name,
                        "asked again with {changed}: it was refused"
                    );
                    changes += 1;
                    continue;
                }
            }
            let word = match &said.error {
                AnalyzeError::Refused { status: 401 | 403, .. } => Word::Refused,
                AnalyzeError::Busy { status: 429, retry_after, .. } => Word::Busy(*retry_after),
                _ => Word::Taken,
            };
            if word == Word::Refused && !is_renewed {
                is_renewed = true;
                if self.renew_keys(true).await || self.is_token_renewed().await {
                    continue;
                }
            }
            let again = self.key_ended(key, word);
            if word == Word::Taken || !again {
                return Asked { said: Err(said.error), calls };
            }
        }
    }

    async fn check(&self) -> Result<(), AnalyzeError> {
        let Ok(url) = self.gateway.models() else { return Ok(()) };
        let in_turn = self.keys().in_turn(now(), today());
        let Some(key) = in_turn else { return Ok(()) };
        let request = self.client.get(self.gateway.route.called(&url)).timeout(CHECK);
        let request = self.signed(request, key, false).await?;
        let response = request.send().await.map_err(|error| self.transport(&error))?;
        let (provider, status) = (self.name.clone(), response.status().as_u16());
        let words = String::new();
        match status {
            200..=299 | 404 | 405 | 501 => Ok(()),
            408 | 409 | 425 | 429 | 500..=599 => {
                let retry_after = hints::wait(response.headers(), "", now());
                Err(AnalyzeError::Busy { provider, status, retry_after, words })
            }
            _ => Err(AnalyzeError::Refused { provider, status, words }),
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
    /// Names of the models that it says it has; none where it says nothing.
    pub async fn models(&self) -> Vec<String> {
        let asked = async {
            let url = self.gateway.models().ok()?;
            let key = self.keys().in_turn(now(), today())?;
            let request = self.client.get(self.gateway.route.called(&url)).timeout(CHECK);
            let mut response = self.signed(request, key, false).await.ok()?.send().await.ok()?;
            let mut bytes = Vec::new();
            while let Some(chunk) = response.chunk().await.ok()? {
                bytes.extend_from_slice(&chunk);
                if bytes.len() > RESPONSE_BYTES_MAX {
                    return None;
                }
            }
            let said: Value = serde_json::from_slice(&bytes).ok()?;
            let all = said["data"].as_array().or(said["models"].as_array())?;
            let names = all.iter().filter_map(|one| one["id"].as_str().or(one["name"].as_str()));
            Some(names.map(|name| text::clean(name, 64)).collect())
        };
        asked.await.unwrap_or_default()
    }

    fn taken(&self, key: usize, said: RawAnswer, calls: Vec<Call>) -> Asked {
        self.key_ended(key, Word::Taken);
        Asked { said: Ok(said), calls }
    }

    /// Whether another token was given in the place of one that was not taken.
    async fn is_token_renewed(&self) -> bool {
        let server = self.gateway.server();
        let Some(oauth2) = &server.who.oauth2 else { return false };
        oauth2::token(server, oauth2, &self.gateway.url, true).await.is_ok()
    }

    async fn attempt(
        &self,
        question: &Question<'_>,
        body: Bytes,
        key: usize,
    ) -> (Result<RawAnswer, CallError>, Call) {
        let timeout = match self.gateway.timeout_s {
            0 => question.timeout,
            seconds => Duration::from_secs(seconds),
        };
        let started = tokio::time::Instant::now();
        // One limit over connecting, waiting and reading: a byte a second does not extend it.
        let ended = tokio::time::timeout(timeout, self.call(question, body, key)).await;
        let ended = ended.unwrap_or_else(|_| {
            Err(AnalyzeError::TimedOut { provider: self.name.clone(), waited: timeout }.into())
        });
        let counted = ended.as_ref().ok().and_then(|completion| completion.usage);
        let said = ended.and_then(|completion| {
            let model = text::clean(completion.model.as_deref().unwrap_or_default(), 64);
            Ok((completion.text().map_err(|why| self.bad(why))?, model))
        });
        let tokens = match counted {
            Some(usage) => {
                Tokens { prompt: usage.prompt_tokens, completion: usage.completion_tokens }
            }
            None => {
                let said = said.as_ref().map(|(text, _)| text.as_str());
                cost::tokens_taken(question, said.map_err(|failed| &failed.error))
            }
        };
        let call = Call {
            gateway: self.name.clone(),
            key: self.keys().name(key).to_owned(),
            model: self.gateway.model.clone(),
            tokens,
            is_estimate: counted.is_none(),
            pictures: u32::try_from(question.pictures.len()).unwrap_or(u32::MAX),
            latency_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            outcome: said
                .as_ref()
                .map_or_else(|failed| failed.error.label(), |_| call::ANSWERED)
                .to_owned(),
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
            (true, _) => AnalyzeError::Refused { provider, status: 401, words: String::new() },
            (false, Some(wait)) => {
                let why = "every key rests or is used up".to_owned();
                AnalyzeError::Resting { provider, wait, why }
            }
            (false, None) => AnalyzeError::Misconfigured {
                provider,
                why: "every key is used up or has ended".to_owned(),
            },
        }
    }
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
    let secret = |text: &str| {
        Some(text.trim_start_matches('\u{feff}').trim())
            .filter(|text| !text.is_empty())
            .map(Secret::new)
    };
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

/// The header that holds a key (RFC 6750 2.1, or one of the server's own). `None` when it has
/// characters that no header can hold.
fn key_value(gateway: &Gateway, secret: &Secret) -> Option<(HeaderName, HeaderValue)> {
    let own = Some(gateway.key_header.as_str()).filter(|name| !name.is_empty());
    let (name, text) = match own.or(gateway.preset.key_header()) {
        Some(name) => (HeaderName::from_bytes(name.as_bytes()).ok()?, secret.expose().to_owned()),
        None => (header::AUTHORIZATION, format!("Bearer {}", secret.expose())),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some((name, value))
}

/// How the files of the keys look now.
fn marks(gateway: &Gateway) -> Vec<Option<Mark>> {
    let one = Some(&gateway.api_key_file).filter(|file| !file.as_os_str().is_empty());
    one.into_iter().chain(gateway.keys.iter().map(|key| &key.file)).map(|file| mark(file)).collect()
}

/// Quotas are by the calendar of Greenwich.
fn today() -> Date {
    now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

fn now() -> Timestamp {
    use crate::domain::clock::Clock as _;
    crate::domain::clock::SystemClock.now()
}

#[cfg(test)]
#[path = "openai_tests.rs"]
mod tests;
