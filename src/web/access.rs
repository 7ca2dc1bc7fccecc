//! Who may see what.
//!
//! On loopback without a token: everyone on this machine, as long as the browser asks this
//! machine by its own name (a foreign Host is a rebinding attack) and from a page of ours (a
//! foreign Origin is a forged request). Else: a bearer token, or a session that a person got for
//! it. What `X-Forwarded-For` and its kin claim counts nowhere.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use axum::Form;
use axum::extract::Query;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use serde::Deserialize;
use sha2::Digest as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::domain::secret::Secret;
use crate::domain::text;
use crate::web::Web;
use crate::web::WebState;
use crate::web::answer;
use crate::web::dicomweb;
use crate::web::problem::Failure;
use crate::web::server::Peer;
use crate::web::server::wants_html;

const UPLOAD: &str = "/api/v1/analyze";
const COOKIE: &str = "prelim_session";
const SESSIONS_MAX: usize = 1024;
/// Wrong tokens from one address within [`WINDOW`] after which it has to wait.
const WRONG_MAX: u32 = 10;
const WINDOW: Duration = Duration::from_secs(300);
/// Addresses remembered; those beyond share one count.
const ADDRESSES_MAX: usize = 4096;

/// Who looks, as the ledger names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer(pub String);

pub struct Access {
    token: Option<Secret>,
    local_token: Secret,
    hosts_allowed: Vec<String>,
    /// Whether a Host of another name is refused.
    loopback: bool,
    secure_cookie: bool,
    session_time: Duration,
    /// By the SHA-256 of the cookie's value. Times are monotonic: a clock set back extends none.
    sessions: Mutex<HashMap<[u8; 32], Session>>,
    wrong: Mutex<HashMap<Option<IpAddr>, Wrong>>,
}

struct Session {
    /// First characters of the digest, for the ledger.
    name: String,
    until: Instant,
}

struct Wrong {
    count: u32,
    since: Instant,
}

impl Access {
    pub fn new(node: &WebState) -> Access {
        let config = &node.config;
        Access {
            token: node.token.clone(),
            local_token: node.local_token.clone(),
            hosts_allowed: config.hosts_allowed.iter().map(|h| h.to_ascii_lowercase()).collect(),
            loopback: config.listen.ip().is_loopback(),
            secure_cookie: config.secure_cookie,
            session_time: Duration::from_secs(config.session_hours * 3600),
            sessions: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Whether people log in here.
    pub fn has_login(&self) -> bool {
        self.token.is_some()
    }

    /// Whether `host` (with or without a port) is a name of this node.
    fn knows_host(&self, host: &str) -> bool {
        let name = host_name(host).to_ascii_lowercase();
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let own = bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        match (self.loopback, self.hosts_allowed.is_empty()) {
            (true, _) => own || self.hosts_allowed.contains(&name),
            (false, true) => true,
            // The command line of this machine asks by its loopback address.
            (false, false) => own || self.hosts_allowed.contains(&name),
        }
    }

    /// Compares in a time that does not depend on where the two differ.
    fn is_token(&self, given: &str) -> bool {
        let right = |token: &Secret| same(token, given);
        self.token.as_ref().is_some_and(right)
    }

    fn session(&self, headers: &HeaderMap) -> Option<String> {
        let key = digest(cookie(headers)?);
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&key)?;
        if session.until <= Instant::now() {
            sessions.remove(&key);
            return None;
        }
        Some(session.name.clone())
    }

    fn open_session(&self) -> String {
        let value = random_token();
        let key = digest(&value);
        let now = Instant::now();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS_MAX {
            let oldest = sessions.iter().min_by_key(|(_, session)| session.until).map(|(k, _)| *k);
            oldest.map(|key| sessions.remove(&key));
        }
        let name = text::hex(&key[..4]);
        sessions.insert(key, Session { name, until: now + self.session_time });
        value
    }

    fn close_session(&self, headers: &HeaderMap) {
        if let Some(value) = cookie(headers) {
            let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions.remove(&digest(value));
        }
    }

    fn cookie_for(&self, value: &str, age_s: u64) -> HeaderValue {
        let secure = if self.secure_cookie { "; Secure" } else { "" };
        let text =
            format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age_s}{secure}");
        HeaderValue::from_str(&text).expect("hexadecimal digits and our own words")
    }

    /// How long an address that guessed has to wait.
    fn must_wait(&self, from: IpAddr) -> Option<Duration> {
        let wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if wrong.contains_key(&Some(group(from))) { Some(group(from)) } else { None };
        let entry = wrong.get(&key)?;
        let over = WINDOW.checked_sub(entry.since.elapsed())?;
        (entry.count >= WRONG_MAX).then_some(over)
    }

    fn note_wrong(&self, from: IpAddr) {
        metrics::counter!("prelim_http_wrong_tokens_total").increment(1);
        tracing::warn!(%from, "a wrong access token");
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        if wrong.len() >= ADDRESSES_MAX {
            wrong.retain(|_, entry| entry.since.elapsed() < WINDOW);
        }
        let known = wrong.len() < ADDRESSES_MAX || wrong.contains_key(&Some(group(from)));
        let key = known.then(|| group(from));
        let now = Instant::now();
        let entry = wrong.entry(key).or_insert(Wrong { count: 0, since: now });
        if entry.since.elapsed() >= WINDOW {
            *entry = Wrong { count: 0, since: now };
        }
        entry.count = entry.count.saturating_add(1);
    }
}

/// IPv6 networks give one host 2^64 addresses.
fn group(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let mut segments = v6.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

fn same(token: &Secret, given: &str) -> bool {
    // Of equal length for the comparison, whatever was given.
    digest(token.expose()).ct_eq(&digest(given)).into()
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// 256 random bits, hexadecimal.
pub fn random_token() -> String {
    text::hex(&rand::random::<[u8; 32]>())
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|line| line.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Without the port.
fn host_name(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host[at..].contains(']') => &host[..at],
        _ => host,
    }
}

/// The one place through which every request goes.
pub async fn guard(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    match admit(&web, &request) {
        Ok(viewer) => {
            request.extensions_mut().insert(viewer);
            next.run(request).await
        }
        Err(failure)
            if failure.status == StatusCode::UNAUTHORIZED
                && request.method() == Method::GET
                && wants_html(request.headers()) =>
        {
            let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
            Redirect::to(&format!("/login?next={}", query_escape(next))).into_response()
        }
        Err(failure) => failure.into_response(),
    }
}

fn admit(web: &Web, request: &Request) -> Result<Viewer, Failure> {
    let access = &web.access;
    let headers = request.headers();
    well_formed(request)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if !access.knows_host(host) {
        return Err(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This node is not called by that name (http.hosts_allowed).",
        ));
    }
    let dicomweb = dicomweb::is_below(request.uri().path());
    let shared = dicomweb && is_of_shared_page(web, headers);
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !shared {
        from_our_page(headers, host)?;
    }
    let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let Some(from) = from else { return Err(Failure::internal("a connection without a peer")) };

    let path = request.uri().path();
    let given = bearer(headers);
    if path.starts_with("/local/") {
        return match given {
            Some(token) if same(&access.local_token, token) => {
                Ok(Viewer("command line".to_owned()))
            }
            Some(_) | None => Err(unauthorised("The command line's token is needed here.")),
        };
    }
    // A browser asks before it sends what it was told to, and has no token then (Fetch, CORS).
    let asks = shared && *request.method() == Method::OPTIONS;
    let open = matches!(path, "/healthz" | "/readyz" | "/login") || path.starts_with("/assets/");
    // Who has the link of an alert may answer it.
    let open = open || path.starts_with(answer::BELOW);
    let open = open || asks;
    if open || !access.has_login() {
        return Ok(Viewer(from.to_string()));
    }
    if let Some(session) = access.session(headers) {
        return Ok(Viewer(format!("{from} session {session}")));
    }
    let Some(token) = given else {
        return Err(unauthorised("An access token is needed (Authorization: Bearer …)."));
    };
    check_token(access, token, from)?;
    Ok(Viewer(format!("{from} token")))
}

/// Whether a page asks whose origin the settings name for DICOMweb.
fn is_of_shared_page(web: &Web, headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| dicomweb::allows(&web.node.config.dicomweb, origin))
}

fn check_token(access: &Access, token: &str, from: IpAddr) -> Result<(), Failure> {
    if let Some(wait) = access.must_wait(from) {
        let detail = "Too many wrong tokens from this address.";
        let retry_after_s = Some(wait.as_secs() + 1);
        let status = StatusCode::TOO_MANY_REQUESTS;
        return Err(Failure { status, detail: detail.into(), retry_after_s });
    }
    if access.is_token(token) {
        return Ok(());
    }
    access.note_wrong(from);
    Err(unauthorised("That is not the access token."))
}

fn unauthorised(detail: &str) -> Failure {
    Failure::new(StatusCode::UNAUTHORIZED, detail)
}

/// One host, a plain path, and a length where we need none to come in pieces: what two programs
/// could understand differently is refused. (hyper drops Content-Length beside
/// Transfer-Encoding, so the two together are not seen here; `server::dress` closes the
/// connection after each request that came in pieces.)
fn well_formed(request: &Request) -> Result<(), Failure> {
    let headers = request.headers();
    if headers.get_all(header::HOST).iter().count() != 1 {
        return Err(Failure::bad_request("A request names one host."));
    }
    if request.uri().scheme().is_some() || !request.uri().path().starts_with('/') {
        return Err(Failure::bad_request("This is no proxy."));
    }
    let path = request.uri().path();
    let takes_pieces = path == UPLOAD || dicomweb::is_below(path);
    if headers.contains_key(header::TRANSFER_ENCODING) && !takes_pieces {
        let detail = "Only an upload may come without its length.";
        return Err(Failure::new(StatusCode::LENGTH_REQUIRED, detail));
    }
    Ok(())
}

/// Refuses what a browser sends for another site's page. Programs send none of these headers.
fn from_our_page(headers: &HeaderMap, host: &str) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let foreign_site = text("sec-fetch-site").is_some_and(|s| s != "same-origin" && s != "none");
    let foreign_origin = text("origin").is_some_and(|origin| {
        let authority = origin.parse::<Uri>().ok().and_then(|uri| {
            uri.authority().map(|authority| authority.as_str().to_ascii_lowercase())
        });
        authority.as_deref() != Some(host.to_ascii_lowercase().as_str())
    });
    match foreign_site || foreign_origin {
        true => Err(Failure::forbidden("This request comes from another site's page.")),
        false => Ok(()),
    }
}

#[derive(Deserialize)]
pub struct LoginQuery {
    next: Option<String>,
}

pub async fn login_page(State(web): State<Web>, Query(query): Query<LoginQuery>) -> Response {
    if !web.access.has_login() {
        return Redirect::to("/").into_response();
    }
    web.pages.login(&own_path(query.next.as_deref()), "").into_response()
}

#[derive(Deserialize)]
pub struct LoginForm {
    token: String,
    next: Option<String>,
}

pub async fn login(
    State(web): State<Web>,
    axum::Extension(Peer(peer)): axum::Extension<Peer>,
    Form(form): Form<LoginForm>,
) -> Response {
    let next = own_path(form.next.as_deref());
    if let Err(failure) = check_token(&web.access, form.token.trim(), peer.ip()) {
        let page = web.pages.login(&next, &failure.detail);
        let mut response = (failure.status, page).into_response();
        if let Some(wait) = failure.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
        }
        return response;
    }
    let session = web.access.open_session();
    let cookie = web.access.cookie_for(&session, web.access.session_time.as_secs());
    ([(header::SET_COOKIE, cookie)], Redirect::to(&next)).into_response()
}

pub async fn logout(State(web): State<Web>, headers: HeaderMap) -> Response {
    web.access.close_session(&headers);
    let gone = web.access.cookie_for("", 0);
    ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response()
}

/// A path on this node, else the worklist: `//host` and `/\host` lead elsewhere.
fn own_path(next: Option<&str>) -> String {
    let own = |path: &&str| {
        path.starts_with('/')
            && !path[1..].starts_with(['/', '\\'])
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    next.filter(own).unwrap_or("/").to_owned()
}

fn query_escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(hosts: &[&str], loopback: bool) -> Access {
        Access {
            token: Some(Secret::new("0123456789abcdef")),
            local_token: Secret::new("local"),
            hosts_allowed: hosts.iter().map(|host| (*host).to_owned()).collect(),
            loopback,
            secure_cookie: false,
            session_time: Duration::from_secs(60),
            sessions: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    #[test]
    fn a_foreign_host_is_known_only_by_its_allowed_name() {
        let here = access(&["prelim.example"], true);
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "PRELIM.example"] {
            assert!(here.knows_host(host), "{host}");
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1"] {
            assert!(!here.knows_host(host), "{host}");
        }
        assert!(access(&[], false).knows_host("10.0.0.1:8080"));
        assert!(!access(&["prelim.example"], false).knows_host("10.0.0.1:8080"));
    }

    #[test]
    fn a_page_of_another_site_cannot_post() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static(value));
            from_our_page(&headers, "localhost:8080")
        };
        assert!(from_our_page(&HeaderMap::new(), "localhost:8080").is_ok());
        assert!(with("origin", "http://localhost:8080").is_ok());
        assert!(with("sec-fetch-site", "same-origin").is_ok());
        for origin in ["http://evil.example", "null", "http://localhost:81", "http://localhost"] {
            assert!(with("origin", origin).is_err(), "{origin}");
        }
        assert!(with("sec-fetch-site", "cross-site").is_err());
        assert!(with("sec-fetch-site", "same-site").is_err());
    }

    #[test]
    fn ten_wrong_tokens_close_the_door_for_that_address_alone() {
        let access = access(&[], false);
        let (guesser, other) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        for _ in 0..WRONG_MAX {
            let failure = check_token(&access, "wrong", guesser).unwrap_err();
            assert_eq!(failure.status, StatusCode::UNAUTHORIZED);
        }
        let failure = check_token(&access, "0123456789abcdef", guesser).unwrap_err();
        assert_eq!(failure.status, StatusCode::TOO_MANY_REQUESTS);
        assert!(failure.retry_after_s.is_some_and(|wait| wait > 200));
        assert!(check_token(&access, "0123456789abcdef", other).is_ok());
    }

    #[test]
    fn a_session_ends_with_its_logout() {
        let access = access(&[], false);
        let value = access.open_session();
        let mut headers = HeaderMap::new();
        let line = format!("a=b; {COOKIE}={value}");
        headers.insert(header::COOKIE, HeaderValue::from_str(&line).unwrap());
        assert!(access.session(&headers).is_some());
        access.close_session(&headers);
        assert_eq!(access.session(&headers), None);
    }

    #[test]
    fn a_login_leads_to_a_page_of_this_node() {
        assert_eq!(own_path(Some("/studies/1.2?x=1")), "/studies/1.2?x=1");
        for elsewhere in ["//evil", "/\\evil", "http://evil", "", "/a\r\nb"] {
            assert_eq!(own_path(Some(elsewhere)), "/", "{elsewhere}");
        }
    }
}
