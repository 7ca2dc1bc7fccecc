//! Tokens by client credentials (RFC 6749 4.4): fetched when they are needed, kept until shortly before
//! they end, fetched again when they are not taken.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use reqwest::header;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

use crate::domain::secret::Secret;
use crate::domain::text;
use crate::outgoing;
use crate::outgoing::route::Route;
use crate::outgoing::server;
use crate::outgoing::server::Server;

/// A token is not used in its last seconds: the request may take them.
const BEFORE_END: Duration = Duration::from_secs(30);
/// Of one that does not say when it ends.
const LIFE: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_BYTES_MAX: usize = 1 << 20;

/// `oauth2` of a server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where tokens are given. Empty: a FHIR server says it itself (SMART App Launch 2.2, 3.2:
    /// `.well-known/smart-configuration`).
    pub token_url: String,
    pub client_id: String,
    /// None: the server knows us by our certificate (RFC 8705).
    pub client_secret_file: Option<PathBuf>,
    /// Separated by spaces.
    pub scope: String,
    /// Some servers want to be told for whom it is.
    pub audience: String,
    pub client_auth: ClientAuth,
}

/// How the secret is shown (RFC 6749 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    #[default]
    Basic,
    /// In the form.
    Post,
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, allow_plain: bool, problems: &mut Vec<String>) {
        if self.client_id.is_empty() {
            problems.push(format!("{at}.client_id is needed: no token is given without"));
        }
        if let (false, Err(why)) =
            (self.token_url.is_empty(), outgoing::endpoint(&self.token_url, allow_plain))
        {
            problems.push(format!("{at}.token_url: {why}"));
        }
        if let Some(Err(error)) = self.client_secret_file.as_deref().map(std::fs::File::open) {
            problems.push(format!("{at}.client_secret_file: {error}; no token would be given"));
        }
    }

    fn key(&self) -> String {
        [&self.token_url, &self.client_id, &self.scope, &self.audience]
            .map(String::as_str)
            .join("\n")
    }
}

struct Held {
    token: Secret,
    until: Instant,
}

/// By whom and for what they were given.
static TOKENS: LazyLock<Mutex<HashMap<String, Held>>> = LazyLock::new(Mutex::default);

#[derive(Deserialize)]
struct Given {
    access_token: String,
    /// Seconds; some say it as a text.
    #[serde(default)]
    expires_in: Value,
}

/// A token that holds now.
///
/// - `fresh`: the one that is kept was not taken.
///
/// # Errors
/// In words, without a secret: the server does not answer, or gives none and says why.
pub async fn token(
    server: Server<'_>,
    config: &Config,
    base: &str,
    fresh: bool,
) -> Result<Secret, String> {
    let key = format!("{base}\n{}", config.key());
    if fresh {
        held().remove(&key);
    } else if let Some(token) = held().get(&key).filter(|one| one.until > Instant::now()) {
        return Ok(token.token.clone());
    }
    let (token, life) =
        fetch(server, config, base).await.map_err(|why| format!("oauth2: {why}"))?;
    let until = Instant::now() + life.saturating_sub(BEFORE_END);
    held().insert(key, Held { token: token.clone(), until });
    Ok(token)
}

fn held() -> std::sync::MutexGuard<'static, HashMap<String, Held>> {
    TOKENS.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch(
    server: Server<'_>,
    config: &Config,
    base: &str,
) -> Result<(Secret, Duration), String> {
    let token_url = match config.token_url.as_str() {
        "" => discovered(server, base).await?,
        url => url.to_owned(),
    };
    let url = outgoing::endpoint(&token_url, server.route.allow_plain)
        .map_err(|why| format!("token_url: {why}"))?;
    // Certificates, roots and proxy are ours; the name in the certificate is of the other server.
    let by = Route { server_name: String::new(), ..server.route.clone() };
    let client = by.client(&url, TIMEOUT)?.timeout(TIMEOUT).build();
    let client = client.map_err(|error| outgoing::why(&error))?;
    let mut form = vec![("grant_type", "client_credentials"), ("client_id", &config.client_id)];
    for (name, value) in [("scope", &config.scope), ("audience", &config.audience)] {
        if !value.is_empty() {
            form.push((name, value));
        }
    }
    let secret = config.client_secret_file.as_deref().map(server::line).transpose();
    let secret = secret.map_err(|why| format!("client_secret_file: {why}"))?;
    let kind = "application/x-www-form-urlencoded";
    let mut request = client
        .post(url)
        .header(header::CONTENT_TYPE, kind)
        .header(header::ACCEPT, "application/json");
    if let Some(secret) = &secret {
        match config.client_auth {
            ClientAuth::Post => form.push(("client_secret", secret.expose())),
            // Both are coded as in a form before they are joined.
            ClientAuth::Basic => {
                let [id, secret] = [config.client_id.as_str(), secret.expose()].map(coded);
                request = request.basic_auth(id, Some(secret));
            }
        }
    }
    let form: Vec<String> =
        form.iter().map(|(name, value)| format!("{name}={}", coded(value))).collect();
    let (status, bytes) = said(request.body(form.join("&"))).await?;
    if !status.is_success() {
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let words =
            ["error", "error_description"].map(|key| said[key].as_str().unwrap_or_default());
        let words = text::clean(&words.join(" "), 200);
        return Err(format!("no token was given: {status} {words}").trim_end().to_owned());
    }
    let given: Given =
        serde_json::from_slice(&bytes).map_err(|_| "the answer holds no access_token")?;
    let seconds = match &given.expires_in {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let life = seconds.and_then(|s| Duration::try_from_secs_f64(s).ok()).unwrap_or(LIFE);
    Ok((Secret::new(given.access_token), life))
}

async fn said(request: reqwest::RequestBuilder) -> Result<(reqwest::StatusCode, Vec<u8>), String> {
    let mut answer = request.send().await.map_err(|error| outgoing::why(&error))?;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| outgoing::why(&error))? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err("the answer is too long".into());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok((answer.status(), bytes))
}

/// Where a FHIR server says that its tokens are given.
async fn discovered(server: Server<'_>, base: &str) -> Result<String, String> {
    let url = server.url(base, "/.well-known/smart-configuration")?;
    let client = server.route.client(&url, TIMEOUT)?.timeout(TIMEOUT).build();
    let client = client.map_err(|error| outgoing::why(&error))?;
    let request = client.get(server.route.called(&url)).header(header::ACCEPT, "application/json");
    let (_, bytes) = said(request).await?;
    let about: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let found = about["token_endpoint"].as_str().map(str::to_owned);
    found.ok_or_else(|| "the server does not say where tokens are given: set token_url".to_owned())
}

/// As a form has it.
fn coded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    let byte = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(byte).collect()
}
