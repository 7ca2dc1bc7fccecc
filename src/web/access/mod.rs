//! Who may see and do what: the one place through which every request goes.
//!
//! On loopback, as long as nobody has an account or a token: everyone on this machine, if the
//! browser asks this machine by its own name (a foreign Host is a rebinding attack) and from a page
//! of ours (a foreign Origin is a forged request). Else: a token of a program, the access token of
//! the settings, or a session that a person got for a password or from the site's identity
//! provider. What `X-Forwarded-For` claims counts where a proxy says it that the settings name.

pub mod accounts;
pub mod admin;
pub mod login;
pub mod oidc;
pub mod rights;

pub mod sessions;
mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::MatchedPath;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use sha2::Digest as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use crate::domain::secret::Secret;
use crate::domain::text;
use crate::web::Web;
use crate::web::WebState;
use crate::web::access::accounts::Accounts;
use crate::web::access::accounts::Change;
use crate::web::access::accounts::Live;
use crate::web::access::oidc::Oidc;
use crate::web::access::rights::Right;
use crate::web::access::rights::right_for;
use crate::web::access::sessions::Sessions;
use crate::web::access::sessions::Subject;
use crate::web::access::throttle::Throttle;
use crate::web::answer;
use crate::web::api::intake;
use crate::web::config::Login;
use crate::web::dicomweb;
use crate::web::problem::Failure;
use crate::web::server::Peer;
use crate::web::server::wants_html;
use crate::web::words;
use crate::web::words::Phrase;

/// Who asks, and what they may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// As the ledger names it: `kim (10.0.0.5)`.
    pub name: String,
    /// Of a person who logged in by name.
    pub person: Option<String>,
    rights: Vec<Right>,
}

impl Viewer {
    pub(super) fn new(name: impl Into<String>, rights: &[Right]) -> Viewer {
        Viewer { name: name.into(), person: None, rights: rights.to_vec() }
    }

    fn person(person: &str, from: IpAddr, rights: &[Right]) -> Viewer {
        let name = format!("{person} ({from})");
        Viewer { name, person: Some(person.to_owned()), rights: rights.to_vec() }
    }

    pub fn may(&self, right: Right) -> bool {
        self.rights.contains(&right)
    }
}

pub struct Access {
    token: Option<Secret>,
    local_token: Secret,
    accounts: Arc<Live>,
    oidc: Option<Oidc>,
    /// Also when it cannot be used: that opens nothing.
    provider: oidc::Config,
    login: Login,
    hosts_allowed: Vec<String>,
    /// Whether a Host of another name is refused.
    loopback: bool,
    sessions: Arc<Sessions>,
    throttle: Arc<Throttle>,
    /// A comparison of a password takes a core for 20 ms and 19 MiB.
    turns: Semaphore,
}

impl Access {
    /// - `before`: whose sessions go on, and who was wrong there waits on.
    pub fn new(node: &WebState, before: Option<&Access>) -> Access {
        let config = &node.config;
        let session_time = Duration::from_secs(config.session_hours * 3600);
        let sessions = match before {
            Some(before) => Arc::clone(&before.sessions),
            None => Arc::new(Sessions::new(session_time, config.secure_cookie)),
        };
        sessions.configure(session_time, config.secure_cookie);
        Access {
            token: node.token.clone(),
            local_token: node.local_token.clone(),
            accounts: Arc::clone(&node.accounts),
            provider: config.oidc.clone(),
            oidc: Oidc::open(&config.oidc).unwrap_or_else(|why| {
                tracing::error!(why, "the identity provider cannot be used (http.oidc)");
                None
            }),
            login: config.login,
            hosts_allowed: config.hosts_allowed.iter().map(|h| h.to_ascii_lowercase()).collect(),
            loopback: config.is_loopback(),
            sessions,
            throttle: before.map_or_else(Arc::default, |before| Arc::clone(&before.throttle)),
            turns: Semaphore::new(2),
        }
    }

    /// Whether people log in here.
    pub fn has_login(&self) -> bool {
        self.needs_login(&self.accounts.now())
    }

    fn needs_login(&self, accounts: &Accounts) -> bool {
        let required = self.login == Login::Required || self.provider.is_on();
        self.token.is_some() || required || !accounts.is_empty()
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
        self.token.as_ref().is_some_and(|token| same(token, given))
    }

    /// None for an account that is gone, a token or an issuer that is another now, and groups without
    /// a role.
    fn viewer_of(&self, subject: &Subject, accounts: &Accounts, from: IpAddr) -> Option<Viewer> {
        match subject {
            // Who came by a token that was replaced since has to come again.
            Subject::Token(of) => {
                let is_ours = self.token.as_ref().is_some_and(|t| digest(t.expose()) == *of);
                is_ours.then(|| Viewer::new(format!("{from} token"), &Right::ALL))
            }
            Subject::User(name) => {
                let user = accounts.users.get(name)?;
                Some(Viewer::person(name, from, user.role.rights()))
            }
            Subject::Federated { name, issuer, groups } => {
                let role = oidc::role_of(&self.provider, groups)?;
                let is_ours = self.provider.issuer == *issuer;
                is_ours.then(|| Viewer::person(name, from, role.rights()))
            }
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

/// Notes what is otherwise with the accounts, and ends the sessions of those whom it concerns, but for
/// that of `asks`.
async fn tell(web: &Web, changes: Vec<Change>, by: &str, asks: &HeaderMap) {
    for change in changes {
        web.audit.note(None, &change.line, by).await;
        if let Some(user) = change.user {
            web.access.sessions.close_others(&user, asks);
        }
    }
}

/// The one place through which every request goes.
pub async fn guard(State(web): State<Web>, mut request: Request, next: Next) -> Response {
    let (accounts, changes) = web.access.accounts.look();
    tell(&web, changes, "accounts file", &HeaderMap::new()).await;
    let admitted = admit(&web, &accounts, &request);
    let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip().to_string());
    if let (Err(failure), Some(from)) = (&admitted, from)
        && failure.status == StatusCode::UNAUTHORIZED
        && bearer(request.headers()).is_some()
    {
        web.audit.look(None, "token refused", &Viewer::new(from, &[])).await;
    }
    match admitted {
        Ok(viewer) => {
            let asked = words::Asked { rights: viewer.rights.clone(), ..words::asked() };
            request.extensions_mut().insert(viewer);
            asked.around(next.run(request)).await
        }
        Err(failure)
            if failure.status == StatusCode::UNAUTHORIZED
                && request.method() == Method::GET
                && wants_html(request.headers()) =>
        {
            let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
            Redirect::to(&format!("/login?next={}", login::query_escape(next))).into_response()
        }
        Err(failure) => failure.into_response(),
    }
}

fn admit(web: &Web, accounts: &Accounts, request: &Request) -> Result<Viewer, Failure> {
    let access = &web.access;
    let headers = request.headers();
    well_formed(request)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    // An orchestrator's probe and a program with a token may know the address alone. A page that has
    // made its own name ours has no token, and learns nothing of patients from a probe.
    let by_address = matches!(request.uri().path(), "/healthz" | "/readyz")
        || (!access.loopback && bearer(headers).is_some());
    if !by_address && !access.knows_host(host) {
        return Err(Failure::new(
            StatusCode::MISDIRECTED_REQUEST,
            "This node is not called by that name (http.hosts_allowed).",
        ));
    }
    let dicomweb = dicomweb::is_below(request.uri().path());
    let shared = dicomweb && is_of_shared_page(web, headers);
    // What a foreign page cannot know is proof enough: whoever has the link of an alert needs no
    // browser to use it, and no mail reader's window or proxy takes the answer away.
    let has_link = request.uri().path().starts_with(answer::BELOW);
    if !matches!(*request.method(), Method::GET | Method::HEAD) && !shared && !has_link {
        from_our_page(headers, host)?;
    }
    let from = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    let Some(from) = from else { return Err(Failure::internal("a connection without a peer")) };

    let path = request.uri().path();
    let given = bearer(headers);
    if path.starts_with("/local/") {
        return match given {
            Some(token) if same(&access.local_token, token) => {
                Ok(Viewer::new("command line", &Right::ALL))
            }
            Some(_) | None => Err(unauthorised("The command line's token is needed here.")),
        };
    }
    // A browser asks before it sends what it was told to, and has no token then (Fetch, CORS).
    let asks = shared && *request.method() == Method::OPTIONS;
    let open = matches!(path, "/healthz" | "/readyz" | "/login" | "/language")
        || path.starts_with("/login/")
        || path.starts_with("/assets/");
    // Who has the link of an alert may answer it.
    if open || asks || has_link {
        return Ok(Viewer::new(from.to_string(), &[]));
    }
    let viewer = identify(access, accounts, headers, given, from)?;
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match right_for(request.method(), route) {
        Some(right) if !viewer.may(right) => Err(Failure::forbidden(
            Phrase::new("problem.right")
                .with("right", Phrase::new(format!("right.{}", right.word())))
                .with("who", viewer.person.as_deref().unwrap_or(&viewer.name)),
        )),
        Some(_) | None => Ok(viewer),
    }
}

/// By session or token.
fn identify(
    access: &Access,
    accounts: &Accounts,
    headers: &HeaderMap,
    given: Option<&str>,
    from: IpAddr,
) -> Result<Viewer, Failure> {
    if !access.needs_login(accounts) {
        return Ok(Viewer::new(from.to_string(), &Right::ALL));
    }
    let session = access.sessions.of(headers);
    let known = session.and_then(|subject| access.viewer_of(&subject, accounts, from));
    if let Some(viewer) = known {
        return Ok(viewer);
    }
    let Some(token) = given else {
        return Err(unauthorised("An access token is needed (Authorization: Bearer …)."));
    };
    // Nobody guesses one of these: a neighbour's wrong tries do not keep it out.
    if let Some((name, found)) = accounts.by_token(token, jiff::Timestamp::now()) {
        return Ok(Viewer::new(format!("token {name} ({from})"), &found.rights));
    }
    if access.is_token(token) {
        return Ok(Viewer::new(format!("{from} token"), &Right::ALL));
    }
    access.throttle.check(from, None)?;
    access.throttle.note_wrong(from, None, token);
    Err(unauthorised("That is no access token, or not any more."))
}

/// Whether a page asks whose origin the settings name for DICOMweb.
fn is_of_shared_page(web: &Web, headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    origin.is_some_and(|origin| dicomweb::allows(&web.node.config.dicomweb, origin))
}

fn unauthorised(detail: impl Into<Phrase>) -> Failure {
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
    let takes_pieces = intake::PATHS.contains(&path) || dicomweb::is_below(path);
    if headers.contains_key(header::TRANSFER_ENCODING) && !takes_pieces {
        let detail = "Only an upload may come without its length.";
        return Err(Failure::new(StatusCode::LENGTH_REQUIRED, detail));
    }
    Ok(())
}

/// Refuses what a browser sends for another site's page. Programs send none of these headers.
///
/// `Sec-Fetch-Site` decides where it is there: no page can set it, no proxy rewrites it, and it knows
/// a page of ours whose policy or sandbox makes its `Origin` "null" (W3C Fetch Metadata, 2.4). Over
/// plain HTTP browsers leave it out: there `Origin` decides.
fn from_our_page(headers: &HeaderMap, host: &str) -> Result<(), Failure> {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let is_ours = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin" || site == "none",
        (None, Some(origin)) => {
            let authority = origin.parse::<Uri>().ok().and_then(|uri| {
                uri.authority().map(|authority| authority.as_str().to_ascii_lowercase())
            });
            authority.as_deref() == Some(host.to_ascii_lowercase().as_str())
        }
        (None, None) => true,
    };
    match is_ours {
        true => Ok(()),
        false => Err(Failure::forbidden(Phrase::new("problem.site"))),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn access(hosts: &[&str], loopback: bool) -> (Access, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let access = Access {
            token: Some(Secret::new("0123456789abcdef")),
            local_token: Secret::new("local"),
            accounts: Arc::new(Live::open(folder.path()).unwrap()),
            oidc: None,
            provider: oidc::Config::default(),
            login: Login::Auto,
            hosts_allowed: hosts.iter().map(|host| (*host).to_owned()).collect(),
            loopback,
            sessions: Sessions::new(Duration::from_secs(60), false).into(),
            throttle: Arc::default(),
            turns: Semaphore::new(1),
        };
        (access, folder)
    }

    #[test]
    fn a_foreign_host_is_known_only_by_its_allowed_name() {
        let (here, _folder) = access(&["prelim.example"], true);
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "[::1]:80", "PRELIM.example"] {
            assert!(here.knows_host(host), "{host}");
        }
        for host in ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil", "10.0.0.1"] {
            assert!(!here.knows_host(host), "{host}");
        }
        assert!(access(&[], false).0.knows_host("10.0.0.1:8080"));
        assert!(!access(&["prelim.example"], false).0.knows_host("10.0.0.1:8080"));
    }

    /// After a reload too: what was taken away is gone.
    #[test]
    fn a_session_may_what_the_settings_of_now_say() {
        let (mut here, _folder) = access(&[], true);
        let (accounts, from) = (Accounts::default(), IpAddr::from([10, 0, 0, 5]));
        let token = Subject::Token(digest("0123456789abcdef"));
        assert!(here.viewer_of(&token, &accounts, from).is_some());
        here.token = Some(Secret::new("another one"));
        assert_eq!(here.viewer_of(&token, &accounts, from), None);

        let issuer = "https://login.example".to_owned();
        let groups = vec!["radiology".to_owned()];
        let kim = Subject::Federated { name: "kim".to_owned(), issuer: issuer.clone(), groups };
        assert_eq!(here.viewer_of(&kim, &accounts, from), None, "no provider");
        here.provider.issuer = issuer;
        here.provider.roles.insert("radiology".to_owned(), rights::Role::Radiologist);
        let may =
            |here: &Access| here.viewer_of(&kim, &accounts, from).map(|v| v.may(Right::Judge));
        assert_eq!(may(&here), Some(true));
        here.provider.roles.insert("radiology".to_owned(), rights::Role::Viewer);
        assert_eq!(may(&here), Some(false));
        here.provider.roles.clear();
        assert_eq!(may(&here), None);
    }

    /// What browsers send with a form, and what may pass: Chromium and Firefox, over TLS and plain,
    /// with a page whose policy hides where it is, behind a proxy that renames the host.
    #[test]
    fn a_page_of_another_site_cannot_post_and_every_page_of_ours_can() {
        let ours = "http://localhost:8080";
        for (site, origin, may) in [
            (None, None, true),
            (None, Some(ours), true),
            (None, Some("HTTP://LOCALHOST:8080"), true),
            (Some("same-origin"), None, true),
            (Some("same-origin"), Some(ours), true),
            (Some("same-origin"), Some("null"), true),
            (Some("same-origin"), Some("https://prelim.hospital.example"), true),
            (Some("none"), None, true),
            (Some("none"), Some("null"), true),
            (None, Some("null"), false),
            (None, Some("http://evil.example"), false),
            (None, Some("http://localhost:81"), false),
            (None, Some("http://localhost"), false),
            (Some("cross-site"), None, false),
            (Some("cross-site"), Some(ours), false),
            (Some("cross-site"), Some("null"), false),
            (Some("same-site"), Some(ours), false),
            (Some(""), Some(ours), false),
            (Some("same-origin, none"), Some(ours), false),
        ] {
            let mut headers = HeaderMap::new();
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                if let Some(value) = value {
                    headers.insert(name, HeaderValue::from_static(value));
                }
            }
            let passes = from_our_page(&headers, "localhost:8080").is_ok();
            assert_eq!(passes, may, "Sec-Fetch-Site {site:?}, Origin {origin:?}");
        }
    }
}
