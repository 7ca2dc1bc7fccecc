//! Login by the identity provider of the site: OpenID Connect Core 1.0, authorization code flow with
//! PKCE (RFC 7636), state and nonce. Who comes in has the role that their groups have here; nobody
//! has one by default.

mod person;
mod token;

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
use jiff::Timestamp;
use openidconnect::JsonWebKeySet;
use openidconnect::core::CoreJsonWebKey;
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
use crate::outgoing::route::Route;
use crate::web::Web;
use crate::web::access::login;
use crate::web::access::oidc::person::Nobody;
use crate::web::access::oidc::person::Person;
pub use crate::web::access::oidc::person::role_of;
use crate::web::access::oidc::token::Expected;
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
/// An unknown key may be a new one; it is asked for again, and not for each of many logins at once.
const KEYS_AGE_MIN: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Section `http.oidc`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// As the provider's own documents name it; empty: no login by it.
    pub issuer: String,
    pub client_id: String,
    /// None for a public client. Read at each login.
    pub client_secret_file: Option<PathBuf>,
    pub client_auth: ClientAuth,
    /// Address of this node as browsers know it; the provider has to know it with
    /// `/login/oidc/back` behind.
    pub base_url: String,
    /// What stands on the button.
    pub name: String,
    pub scopes: Vec<String>,
    /// Claim of the ID token, else of the UserInfo endpoint, that names a person in the ledger.
    pub name_claim: String,
    /// Claim with groups or roles: a text or a list of them; through objects with dots between their
    /// names (`realm_access.roles`).
    pub roles_claim: String,
    /// Role of each group; the one that may most counts.
    pub roles: BTreeMap<String, Role>,
    #[serde(flatten)]
    pub route: Route,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            issuer: String::new(),
            client_id: String::new(),
            client_secret_file: None,
            client_auth: ClientAuth::Auto,
            base_url: String::new(),
            name: "Hospital account".into(),
            scopes: vec!["openid".into(), "profile".into()],
            name_claim: "preferred_username".into(),
            roles_claim: "groups".into(),
            roles: BTreeMap::new(),
            route: Route::default(),
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
            if let Err(why) = outgoing::endpoint(url, self.route.allow_plain || key == "base_url") {
                problems.push(format!("{at}.{key} = {url:?}: {why}; nobody could log in by it"));
            }
        }
        self.route.check(at, problems);
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
    keys: JsonWebKeySet<CoreJsonWebKey>,
    at: Instant,
}

/// OpenID Connect Discovery 1.0, 3.
#[derive(Clone, Deserialize)]
struct About {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    userinfo_endpoint: Option<String>,
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Tokens {
    id_token: String,
    access_token: Option<String>,
}

/// How this node shows its secret (OpenID Connect Core 1.0, 9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// As the provider says that it takes it, by Basic where it says nothing.
    #[default]
    Auto,
    /// `client_secret_basic`
    Basic,
    /// `client_secret_post`
    Post,
}

impl ClientAuth {
    /// In which order it is tried: what the provider names, else both. What it names may have changed
    /// since it was asked.
    fn ways(self, about: &About) -> Vec<ClientAuth> {
        let methods = about.token_endpoint_auth_methods_supported.as_deref().unwrap_or_default();
        let takes = |method: &str| methods.iter().any(|one| one == method);
        match self {
            ClientAuth::Auto if takes("client_secret_post") && !takes("client_secret_basic") => {
                vec![ClientAuth::Post, ClientAuth::Basic]
            }
            ClientAuth::Auto => vec![ClientAuth::Basic, ClientAuth::Post],
            set => vec![set],
        }
    }
}

/// What the provider did not say.
struct Unsaid {
    why: String,
    /// It does not take how this node shows who it is.
    is_of_client: bool,
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
        let issuer = outgoing::endpoint(&config.issuer, config.route.allow_plain)?;
        let client = config.route.client(&issuer, TIMEOUT)?;
        let client = client.timeout(TIMEOUT).build().map_err(|error| error.to_string())?;
        if let Some(file) = &config.client_secret_file {
            std::fs::metadata(file)
                .map_err(|error| format!("client_secret_file {}: {error}", file.display()))?;
        }
        let (logins, provider) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Some(Oidc { config: config.clone(), client, logins, provider }))
    }

    /// Read for each login: it may have been renewed.
    async fn secret(&self) -> Result<Option<Secret>, Failure> {
        let Some(file) = &self.config.client_secret_file else { return Ok(None) };
        let text = tokio::fs::read_to_string(file)
            .await
            .map_err(|error| away(&format!("client_secret_file {}: {error}", file.display())))?;
        Ok(Some(Secret::new(text.trim_start_matches('\u{feff}').trim())))
    }

    fn redirect_uri(&self) -> String {
        format!("{}{BACK}", self.config.base_url.trim_end_matches('/'))
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Result<T, Failure> {
        let url = self.config.route.called(&self.allowed(url)?);
        self.answer(self.client.get(url)).await
    }

    /// An address of the provider's own documents: as little trusted as any.
    fn allowed(&self, url: &str) -> Result<reqwest::Url, Failure> {
        outgoing::endpoint(url, self.config.route.allow_plain).map_err(|why| away(&why))
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Failure> {
        self.ask(request).await.map_err(|unsaid| away(&unsaid.why))
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, Unsaid> {
        let unsaid = |why: String| Unsaid { why, is_of_client: false };
        let failed = |error: reqwest::Error| unsaid(outgoing::why(&error));
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(unsaid("it says too much".into()));
            }
            bytes.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&bytes)
                .map_err(|_| unsaid("it says what is no JSON of this kind".into()));
        }
        let said: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        // RFC 6749 5.2.
        let words = ["error", "error_description"]
            .map(|key| text::clean(said[key].as_str().unwrap_or_default(), 200));
        let is_of_client = status == StatusCode::UNAUTHORIZED || words[0] == "invalid_client";
        let words = words.into_iter().filter(|word| !word.is_empty());
        let words: String = words.map(|word| format!(": {word}")).collect();
        Err(Unsaid { why: format!("it answered {status}{words}"), is_of_client })
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
        let keys = self.get(&about.jwks_uri).await?;
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
        let prove = |provider: &Provider| {
            let (issuer, client_id) =
                (provider.about.issuer.as_str(), self.config.client_id.as_str());
            let now = Timestamp::now();
            token::claims(token, &provider.keys, &Expected { issuer, client_id, nonce, now })
        };
        let proven = match prove(&self.provider(false).await?) {
            Err(unproven) if unproven.by_newer_keys => prove(&self.provider(true).await?),
            proven => proven,
        };
        proven
            .map_err(|unproven| refused(StatusCode::UNAUTHORIZED, "login.unproven", &unproven.why))
    }

    /// The tokens for a code (RFC 6749 4.1.3).
    async fn exchange(
        &self,
        provider: &Provider,
        code: &str,
        verifier: &str,
    ) -> Result<Tokens, Failure> {
        let url = self.config.route.called(&self.allowed(&provider.about.token_endpoint)?);
        let (uri, secret) = (self.redirect_uri(), self.secret().await?);
        let mut last = None;
        for by in self.config.client_auth.ways(&provider.about) {
            let mut form = vec![
                ("grant_type", "authorization_code"),
                ("code", code),
                ("redirect_uri", &uri),
                ("client_id", &self.config.client_id),
                ("code_verifier", verifier),
            ];
            let kind = "application/x-www-form-urlencoded";
            let mut request = self.client.post(url.clone()).header(header::CONTENT_TYPE, kind);
            match (&secret, by) {
                (None, _) => {}
                (Some(secret), ClientAuth::Post) => form.push(("client_secret", secret.expose())),
                // Both are coded as in a form before they are joined (RFC 6749 2.3.1).
                (Some(secret), ClientAuth::Auto | ClientAuth::Basic) => {
                    let both = [&self.config.client_id, secret.expose()];
                    let [id, secret] = both.map(login::query_escape);
                    request = request.basic_auth(id, Some(secret));
                }
            }
            let form =
                form.iter().map(|(name, value)| format!("{name}={}", login::query_escape(value)));
            let form = form.collect::<Vec<_>>().join("&");
            match self.ask(request.header(header::ACCEPT, "application/json").body(form)).await {
                Ok(tokens) => return Ok(tokens),
                Err(unsaid) if unsaid.is_of_client && secret.is_some() => last = Some(unsaid.why),
                Err(unsaid) => return Err(away(&unsaid.why)),
            }
        }
        Err(away(&last.unwrap_or_default()))
    }

    /// What the UserInfo endpoint says of the person whom the token names (OpenID Connect Core 5.3).
    async fn user_info(
        &self,
        provider: &Provider,
        tokens: &Tokens,
        claims: &Value,
    ) -> Option<Value> {
        let (url, token) =
            (provider.about.userinfo_endpoint.as_ref()?, tokens.access_token.as_ref()?);
        let url = self.config.route.called(&self.allowed(url).ok()?);
        let request = self.client.get(url).bearer_auth(token);
        let said: Value =
            self.answer(request.header(header::ACCEPT, "application/json")).await.ok()?;
        match said["sub"].as_str() {
            Some(sub) if claims["sub"].as_str() == Some(sub) => Some(said),
            _ => {
                tracing::warn!("the UserInfo endpoint speaks of another person than the ID token");
                None
            }
        }
    }

    /// Who it is: by the token, and what it lacks by the UserInfo endpoint.
    async fn person(
        &self,
        provider: &Provider,
        tokens: &Tokens,
        claims: &Value,
    ) -> Result<Person, Failure> {
        let by_token = person::person(&self.config, &[claims]);
        let lacks_name = claims[&self.config.name_claim].as_str().is_none();
        let found = match by_token {
            Ok(person) if !lacks_name => Ok(person),
            Err(Nobody::NoRole) => by_token,
            _ => match self.user_info(provider, tokens, claims).await {
                Some(said) => person::person(&self.config, &[claims, &said]),
                None => by_token,
            },
        };
        found.map_err(|nobody| {
            let claim = &self.config.roles_claim;
            let (phrase, why) = match nobody {
                Nobody::Nameless => ("login.nameless", "the claims name nobody".to_owned()),
                Nobody::NoGroups => (
                    "login.no_groups",
                    format!(
                        "neither ID token nor UserInfo has the claim {claim} (http.oidc.roles_claim); \
                         the token has {}",
                        names(claims)
                    ),
                ),
                Nobody::TooManyGroups => (
                    "login.too_many_groups",
                    format!(
                        "the provider leaves {claim} out because there are too many groups \
                         (_claim_names): let it send those of this application alone, or its roles"
                    ),
                ),
                Nobody::NoRole => (
                    "login.no_role",
                    format!("none of the groups in {claim} stands under http.oidc.roles"),
                ),
            };
            refused(StatusCode::FORBIDDEN, phrase, &why)
        })
    }
}

/// Names of claims, without what they say.
fn names(claims: &Value) -> String {
    let all = claims.as_object().into_iter().flatten();
    let names: Vec<String> = all.map(|(name, _)| text::clean(name, 32)).take(24).collect();
    names.join(", ")
}

fn away(why: &str) -> Failure {
    tracing::error!(why, "the identity provider cannot be used");
    Failure::new(StatusCode::BAD_GATEWAY, Phrase::new("login.away"))
}

/// Every refusal has its reason in the log: whoever is refused sees what to do, not why.
fn refused(status: StatusCode, phrase: &'static str, why: &str) -> Failure {
    tracing::warn!(why, "a login by the identity provider was refused");
    Failure::new(status, Phrase::new(phrase))
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
    #[serde(default)]
    error_description: String,
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
        let why = "the way back fits no login that was begun in this browser within ten minutes";
        return Err(refused(StatusCode::BAD_REQUEST, "login.stale", why));
    };
    if !query.error.is_empty() {
        let (error, more) =
            (text::clean(&query.error, 64), text::clean(&query.error_description, 200));
        let why = format!("the provider says {error}: {more}");
        return Err(refused(StatusCode::FORBIDDEN, "login.not_let_in", why.trim_end_matches(": ")));
    }
    let provider = oidc.provider(false).await?;
    let tokens = oidc.exchange(&provider, &query.code, &pending.verifier).await?;
    let claims = oidc.claims(&tokens.id_token, &pending.nonce).await?;
    let Person { name, groups } = match oidc.person(&provider, &tokens, &claims).await {
        Ok(person) => person,
        Err(failure) => {
            web.audit.note(None, "login refused: no role", &peer.ip().to_string()).await;
            return Err(failure);
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
