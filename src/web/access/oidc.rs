//! Login by the identity provider of the site: OpenID Connect Core 1.0, authorization code flow with
//! PKCE (RFC 7636), state and nonce. Who comes in has the role that their groups have here; nobody
//! has one by default.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::Extension;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::DecodingKey;
use jsonwebtoken::Validation;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::jwk::JwkSet;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Digest as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::domain::secret::Secret;
use crate::domain::text;
use crate::outgoing;
use crate::web::Web;
use crate::web::access::login;
use crate::web::access::random_token;
use crate::web::access::rights::Role;
use crate::web::access::sessions;
use crate::web::access::sessions::Subject;
use crate::web::problem::Failure;
use crate::web::server::Peer;
use crate::web::server::is_encrypted;
use crate::web::words::Phrase;

/// Where the provider sends people back to, after the address of this node.
pub const BACK: &str = "/login/oidc/back";
const COOKIE: &str = "prelim_login";
/// In a browser whose last person logged out.
const LEFT: &str = "prelim_left";
const LEFT_TIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// From the first click to the way back.
const LOGIN_TIME: Duration = Duration::from_secs(600);
const LOGINS_MAX: usize = 1024;
/// How long addresses and keys of the provider are kept.
const KNOWN_TIME: Duration = Duration::from_secs(3600);
/// An unknown key may be a new one; a forged one must not have us ask each time.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// What asymmetric signatures there are; a shared secret signs nothing here.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Section `http.oidc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// As the provider's own documents name it; empty: no login by it.
    pub issuer: String,
    pub client_id: String,
    /// None for a public client.
    pub client_secret_file: Option<PathBuf>,
    /// Address of this node as browsers know it; the provider has to know it with
    /// `/login/oidc/back` behind.
    pub base_url: String,
    /// What stands on the button.
    pub name: String,
    pub scopes: Vec<String>,
    /// Claim of the ID token that names a person in the ledger.
    pub name_claim: String,
    /// Claim with groups or roles: a text or a list of them.
    pub roles_claim: String,
    /// Role of each group; the one that may most counts.
    pub roles: BTreeMap<String, Role>,
    /// PEM file with the roots to trust instead of the machine's.
    pub ca_file: Option<PathBuf>,
    /// http:// to addresses that are not private.
    pub allow_plain: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            base_url: String::new(),
            name: "Hospital account".into(),
            scopes: vec!["openid".into(), "profile".into()],
            name_claim: "preferred_username".into(),
            roles_claim: "groups".into(),
            roles: BTreeMap::new(),
            ca_file: None,
            allow_plain: false,
        }
    }
}

impl Config {
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if !self.is_on() {
            return;
        }
        for (key, url) in [("issuer", &self.issuer), ("base_url", &self.base_url)] {
            if let Err(why) = outgoing::endpoint(url, self.allow_plain || key == "base_url") {
                problems.push(format!("{at}.{key} = {url:?}: {why}; nobody could log in by it"));
            }
        }
        if self.client_id.is_empty() {
            problems
                .push(format!("{at}.client_id is needed: the provider knows no program without"));
        }
        if !self.scopes.iter().any(|scope| scope == "openid") {
            problems.push(format!("{at}.scopes lacks \"openid\": the provider would say nothing"));
        }
        if self.roles.is_empty() {
            problems.push(format!(
                "{at}.roles is empty: nobody would have a role; e.g. radiology = \"radiologist\""
            ));
        }
    }
}

/// The provider and the logins that are on their way.
pub struct Oidc {
    pub config: Config,
    client: reqwest::Client,
    secret: Option<Secret>,
    logins: Mutex<HashMap<String, Pending>>,
    provider: tokio::sync::Mutex<Option<Provider>>,
}

struct Pending {
    since: Instant,
    nonce: String,
    verifier: String,
    next: String,
}

#[derive(Clone)]
struct Provider {
    about: About,
    keys: JwkSet,
    at: Instant,
}

/// OpenID Connect Discovery 1.0, 3.
#[derive(Clone, Deserialize)]
struct About {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
}

impl Oidc {
    /// None where the settings name no provider.
    ///
    /// # Errors
    /// In words: the address or a file cannot be used.
    pub fn open(config: &Config) -> Result<Option<Oidc>, String> {
        if !config.is_on() {
            return Ok(None);
        }
        let issuer = outgoing::endpoint(&config.issuer, config.allow_plain)?;
        let (plain, ca_file) = (config.allow_plain, config.ca_file.as_deref());
        let client = outgoing::client(&issuer, plain, ca_file, TIMEOUT)?;
        let client = client.timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
        let secret = match &config.client_secret_file {
            None => None,
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("client_secret_file {}: {error}", file.display()))?;
                Some(Secret::new(text.trim()))
            }
        };
        let (logins, provider) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Some(Oidc { config: config.clone(), client, secret, logins, provider }))
    }

    fn redirect_uri(&self) -> String {
        format!("{}{BACK}", self.config.base_url.trim_end_matches('/'))
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        self.answer(self.client.get(self.allowed(url)?)).await
    }

    /// An address of the provider's own documents: as little trusted as any.
    fn allowed(&self, url: &str) -> Result<reqwest::Url, Failure> {
        outgoing::endpoint(url, self.config.allow_plain).map_err(|why| away(&why))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        let answer =
            request.send().await.map_err(|error| away(&error.without_url().to_string()))?;
        let status = answer.status();
        let mut answer = answer;
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| away(&error.to_string()))? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(away("it says too much"));
            }
            bytes.extend_from_slice(&chunk);
        }
        match status.is_success() {
            true => serde_json::from_slice(&bytes)
                .map_err(|_| away("it says what is no JSON of this kind")),
            false => Err(away(&format!("it answered {status}"))),
        }
    }

    /// - `fresh`: asked anew, unless that was just done.
    async fn provider(&self, fresh: bool) -> Result<Provider, Failure> {
        let mut known = self.provider.lock().await;
        if let Some(provider) = known.as_ref() {
            let age = provider.at.elapsed();
            if age < KEYS_AGE_MIN || (age < KNOWN_TIME && !fresh) {
                return Ok(provider.clone());
            }
        }
        let issuer = self.config.issuer.trim_end_matches('/');
        let about: About = self.get(&format!("{issuer}/.well-known/openid-configuration")).await?;
        if about.issuer.trim_end_matches('/') != issuer {
            return Err(away("it calls itself by another name than http.oidc.issuer"));
        }
        let keys: JwkSet = self.get(&about.jwks_uri).await?;
        let provider = Provider { about, keys, at: Instant::now() };
        *known = Some(provider.clone());
        Ok(provider)
    }

    fn begin(&self, next: String) -> (String, String, String) {
        let (state, nonce, verifier) = (random_token(), random_token(), random_token());
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let pending = Pending { since: Instant::now(), nonce: nonce.clone(), verifier, next };
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|_, pending| pending.since.elapsed() < LOGIN_TIME);
        if logins.len() >= LOGINS_MAX {
            logins.clear();
        }
        logins.insert(state.clone(), pending);
        (state, nonce, challenge)
    }

    fn take(&self, state: &str) -> Option<Pending> {
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.remove(state).filter(|pending| pending.since.elapsed() < LOGIN_TIME)
    }

    /// The claims of a token that the provider signed for us, for this login, and that holds now.
    async fn claims(&self, token: &str, nonce: &str) -> Result<Value, Failure> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| unproven())?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(unproven());
        }
        let mut provider = self.provider(false).await?;
        if key_of(&provider.keys, header.kid.as_deref()).is_none() {
            provider = self.provider(true).await?;
        }
        let key = key_of(&provider.keys, header.kid.as_deref()).ok_or_else(unproven)?;
        let key = DecodingKey::from_jwk(key).map_err(|_| unproven())?;
        let mut rules = Validation::new(header.alg);
        rules.set_audience(&[&self.config.client_id]);
        rules.set_issuer(&[&provider.about.issuer]);
        // Required, so that one of another type than a number counts as missing.
        rules.set_required_spec_claims(&["exp", "aud", "iss"]);
        let token = jsonwebtoken::decode::<Value>(token, &key, &rules).map_err(|error| {
            tracing::warn!(%error, "an ID token was not accepted");
            unproven()
        })?;
        let said = token.claims["nonce"].as_str().unwrap_or_default();
        match said.as_bytes().ct_eq(nonce.as_bytes()).into() {
            true => Ok(token.claims),
            false => Err(unproven()),
        }
    }
}

/// By its name; without one, when there is one only.
fn key_of<'a>(keys: &'a JwkSet, kid: Option<&str>) -> Option<&'a Jwk> {
    match (kid, keys.keys.as_slice()) {
        (Some(kid), _) => keys.find(kid),
        (None, [one]) => Some(one),
        (None, _) => None,
    }
}

/// What members of `groups` are here: the role that may most.
pub fn role_of(config: &Config, groups: &[String]) -> Option<Role> {
    let roles = groups.iter().filter_map(|group| config.roles.get(group).copied());
    roles.max_by_key(|role| role.rights().len())
}

/// Who it is, and the groups that have a role here.
///
/// # Errors
/// In words: no name, or no group with a role.
fn person(config: &Config, claims: &Value) -> Result<(String, Vec<String>), Phrase> {
    let text = |claim: &str| claims[claim].as_str().map(|name| text::clean(name, 64));
    let name = text(&config.name_claim).filter(|name| !name.is_empty()).or_else(|| text("sub"));
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(Phrase::new("login.nameless"));
    };
    let groups: Vec<&str> = match &claims[&config.roles_claim] {
        Value::String(group) => vec![group],
        Value::Array(groups) => groups.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let groups: Vec<String> = groups
        .into_iter()
        .filter(|group| config.roles.contains_key(*group))
        .map(str::to_owned)
        .collect();
    match groups.is_empty() {
        true => Err(Phrase::new("login.no_role")),
        false => Ok((name, groups)),
    }
}

fn away(why: &str) -> Failure {
    tracing::error!(why, "the identity provider cannot be used");
    Failure::new(StatusCode::BAD_GATEWAY, Phrase::new("login.away"))
}

fn unproven() -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, Phrase::new("login.unproven"))
}

fn provider_of(web: &Web) -> Result<&Oidc, Failure> {
    let none = || Failure::not_found(Phrase::new("login.no_provider"));
    web.access.oidc.as_ref().ok_or_else(none)
}

/// - `value`: of our own making.
fn cookie(name: &str, value: &str, age: Duration, secure: bool) -> HeaderValue {
    let (age_s, secure) = (age.as_secs(), if secure { "; Secure" } else { "" });
    let text =
        format!("{name}={value}; Path=/login; HttpOnly; SameSite=Lax; Max-Age={age_s}{secure}");
    HeaderValue::from_str(&text).expect("hexadecimal digits and our own words")
}

/// For a browser whose person logs out here. The provider may know them for hours more, and would
/// let in whoever sits there next by their name: the next login from it has to show who it is.
pub fn left(secure: bool) -> HeaderValue {
    cookie(LEFT, "1", LEFT_TIME, secure)
}

#[derive(Deserialize)]
pub struct BeginQuery {
    next: Option<String>,
}

/// Sends a person to the provider.
pub async fn begin(
    State(web): State<Web>,
    headers: HeaderMap,
    Query(query): Query<BeginQuery>,
) -> Result<Response, Failure> {
    let oidc = provider_of(&web)?;
    let provider = oidc.provider(false).await?;
    let mut url = oidc.allowed(&provider.about.authorization_endpoint)?;
    let (state, nonce, challenge) = oidc.begin(login::own_path(query.next.as_deref()));
    url.query_pairs_mut()
        .append_pair("response_type", "code")
        .append_pair("client_id", &oidc.config.client_id)
        .append_pair("redirect_uri", &oidc.redirect_uri())
        .append_pair("scope", &oidc.config.scopes.join(" "))
        .append_pair("state", &state)
        .append_pair("nonce", &nonce)
        .append_pair("code_challenge", &challenge)
        .append_pair("code_challenge_method", "S256");
    if sessions::value_of(&headers, LEFT).is_some() {
        url.query_pairs_mut().append_pair("prompt", "login");
    }
    let cookie = cookie(COOKIE, &state, LOGIN_TIME, is_encrypted(&headers));
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(url.as_str())).into_response())
}

#[derive(Deserialize)]
pub struct BackQuery {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    error: String,
}

/// Takes a person back from the provider, in the browser that was sent there.
pub async fn back(
    State(web): State<Web>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Query(query): Query<BackQuery>,
) -> Result<Response, Failure> {
    let oidc = provider_of(&web)?;
    let own = sessions::value_of(&headers, COOKIE).unwrap_or_default();
    let is_own: bool = own.as_bytes().ct_eq(query.state.as_bytes()).into();
    let pending = oidc.take(&query.state).filter(|_| is_own);
    let Some(pending) = pending else {
        return Err(Failure::bad_request(Phrase::new("login.stale")));
    };
    if !query.error.is_empty() {
        return Err(Failure::forbidden(Phrase::new("login.not_let_in")));
    }
    let provider = oidc.provider(false).await?;
    let request = oidc.client.post(oidc.allowed(&provider.about.token_endpoint)?);
    let request = match &oidc.secret {
        Some(secret) => request.basic_auth(&oidc.config.client_id, Some(secret.expose())),
        None => request,
    };
    let uri = oidc.redirect_uri();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", &query.code),
        ("redirect_uri", &uri),
        ("client_id", &oidc.config.client_id),
        ("code_verifier", &pending.verifier),
    ];
    let form: Vec<String> =
        form.iter().map(|(name, value)| format!("{name}={}", login::query_escape(value))).collect();
    let kind = "application/x-www-form-urlencoded";
    let request = request.header(header::CONTENT_TYPE, kind).body(form.join("&"));
    let tokens: Tokens = oidc.answer(request).await?;
    let claims = oidc.claims(&tokens.id_token, &pending.nonce).await?;
    let (name, groups) = match person(&oidc.config, &claims) {
        Ok(person) => person,
        Err(why) => {
            web.audit.note(None, "login refused: no role", &peer.ip().to_string()).await;
            return Err(Failure::forbidden(why));
        }
    };
    let subject = Subject::Federated { name, issuer: oidc.config.issuer.clone(), groups };
    let encrypted = is_encrypted(&headers);
    let mut response = login::enter(&web, subject, peer.ip(), encrypted, &pending.next).await?;
    for name in [COOKIE, LEFT] {
        let none = cookie(name, "", Duration::ZERO, encrypted);
        response.headers_mut().append(header::SET_COOKIE, none);
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_give_the_role_that_may_most_and_without_one_nobody_comes_in() {
        let roles = [("radiology", Role::Radiologist), ("staff", Role::Viewer)];
        let roles = roles.map(|(group, role)| (group.to_owned(), role)).into();
        let config = Config { roles, ..Config::default() };
        for (claims, expected) in [
            (
                json!({"sub": "1", "preferred_username": "kim", "groups": ["staff", "radiology"]}),
                Some(("kim", Role::Radiologist)),
            ),
            (json!({"sub": "u1", "groups": "staff"}), Some(("u1", Role::Viewer))),
            (json!({"sub": "u1", "groups": ["kitchen"]}), None),
            (json!({"sub": "u1"}), None),
            (json!({"sub": "u1", "groups": {"radiology": true}}), None),
            (json!({"groups": ["radiology"]}), None),
            (json!({"sub": "\n", "groups": ["radiology"]}), None),
        ] {
            let found = person(&config, &claims).ok();
            let found = found.as_ref().map(|(name, groups)| {
                (name.as_str(), role_of(&config, groups).expect("a group has a role"))
            });
            assert_eq!(found, expected, "{claims}");
        }
    }
}
