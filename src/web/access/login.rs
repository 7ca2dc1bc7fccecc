//! Logging in and out, and one's own account.

use std::net::IpAddr;

use axum::Extension;
use axum::Form;
use axum::extract::Query;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse as _;
use axum::response::Redirect;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;

use crate::domain::password;
use crate::web::Web;
use crate::web::access;
use crate::web::access::Viewer;
use crate::web::access::accounts::AccountError;
use crate::web::access::accounts::Change;
use crate::web::access::accounts::PASSWORD_CHARS_MIN;
use crate::web::access::oidc;
use crate::web::access::sessions::Subject;
use crate::web::access::unauthorised;
use crate::web::page::Frame;
use crate::web::problem::Failure;
use crate::web::server::Peer;
use crate::web::server::is_encrypted;
use crate::web::words::Phrase;

#[derive(Deserialize)]
pub struct LoginQuery {
    next: Option<String>,
}

#[derive(Serialize)]
struct LoginPage {
    frame: Frame,
    next: String,
    problem: Option<Phrase>,
    /// What can be logged in with.
    by_name: bool,
    by_token: bool,
    by_form: bool,
    /// What stands on the button of the identity provider; empty where there is none.
    by_provider: String,
    provider_href: String,
}

fn login_page(web: &Web, next: &str, problem: Option<Phrase>) -> Result<Response, Failure> {
    let accounts = web.access.accounts.now();
    let by_token = web.access.token.is_some();
    let provider = web.access.oidc.as_ref();
    let by_name = !accounts.users.is_empty() || !(by_token || provider.is_some());
    let page = LoginPage {
        frame: Frame::bare("login"),
        next: next.to_owned(),
        problem,
        by_name,
        by_token,
        by_form: by_name || by_token,
        by_provider: provider.map(|oidc| oidc.config.name.clone()).unwrap_or_default(),
        provider_href: format!("/login/oidc?next={}", query_escape(next)),
    };
    web.pages.render("login", &page)
}

pub async fn show(
    State(web): State<Web>,
    Query(query): Query<LoginQuery>,
) -> Result<Response, Failure> {
    if !web.access.has_login() {
        return Ok(Redirect::to("/").into_response());
    }
    let nobody = web.access.token.is_none()
        && web.access.oidc.is_none()
        && web.access.accounts.now().users.is_empty();
    let problem = nobody.then(|| Phrase::new("login.nobody"));
    login_page(&web, &own_path(query.next.as_deref()), problem)
}

#[derive(Deserialize)]
pub struct LoginForm {
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    token: String,
    next: Option<String>,
}

pub async fn take(
    State(web): State<Web>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Form(form): Form<LoginForm>,
) -> Result<Response, Failure> {
    let next = own_path(form.next.as_deref());
    let from = peer.ip();
    let subject = match form.token.trim() {
        "" => by_password(&web, form.name.trim(), form.password, from).await,
        token => by_token(&web, token, from),
    };
    match subject {
        Ok(subject) => enter(&web, subject, from, is_encrypted(&headers), &next).await,
        Err(failure) => {
            web.audit.note(None, "login refused", &from.to_string()).await;
            let page = login_page(&web, &next, Some(failure.detail))?;
            let mut response = (failure.status, page).into_response();
            if let Some(wait) = failure.retry_after_s {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wait));
            }
            Ok(response)
        }
    }
}

/// Begins the session of somebody who showed who they are.
pub async fn enter(
    web: &Web,
    subject: Subject,
    from: IpAddr,
    encrypted: bool,
    next: &str,
) -> Result<Response, Failure> {
    let accounts = web.access.accounts.now();
    let gone = || unauthorised(Phrase::new("login.gone"));
    let viewer = web.access.viewer_of(&subject, &accounts, from).ok_or_else(gone)?;
    web.audit.note(None, "login", &viewer.name).await;
    let cookie = web.access.sessions.open(subject, encrypted);
    Ok(([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response())
}

fn by_token(web: &Web, token: &str, from: IpAddr) -> Result<Subject, Failure> {
    if web.access.is_token(token) {
        return Ok(Subject::Token(access::digest(token)));
    }
    web.access.throttle.check(from, None)?;
    web.access.throttle.note_wrong(from, None, token);
    Err(unauthorised(Phrase::new("login.wrong_token")))
}

/// As long for a name that nobody has as for a wrong password.
async fn by_password(
    web: &Web,
    name: &str,
    password: String,
    from: IpAddr,
) -> Result<Subject, Failure> {
    web.access.throttle.check(from, Some(name))?;
    let user = web.access.accounts.now().users.get(name).cloned();
    let is_known = user.is_some();
    let hash = user.map_or_else(|| NOBODY.clone(), |user| user.password_hash);
    let _turn = web.access.turns.acquire().await;
    let said = password.clone();
    let is_right = move || password::is_right(said.as_bytes(), &hash);
    let is_right = tokio::task::spawn_blocking(is_right).await.is_ok_and(|right| right);
    if is_known && is_right {
        return Ok(Subject::User(name.to_owned()));
    }
    web.access.throttle.note_wrong(from, Some(name), &password);
    Err(unauthorised(Phrase::new("login.wrong")))
}

/// The hash of a password that nobody has.
static NOBODY: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| password::hash(&rand::random::<[u8; 16]>()).unwrap_or_default());

pub async fn leave(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
) -> Response {
    let encrypted = is_encrypted(&headers);
    let (closed, gone) = web.access.sessions.close(&headers, encrypted);
    if closed.is_some() {
        web.audit.note(None, "logout", &viewer.name).await;
    }
    let mut response = ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response();
    if let Some(Subject::Federated { .. }) = closed {
        response.headers_mut().append(header::SET_COOKIE, oidc::left(encrypted));
    }
    response
}

#[derive(Serialize)]
struct AccountPage {
    frame: Frame,
    person: String,
    rights: Vec<&'static str>,
    /// Whether there is a password to change.
    has_password: bool,
    chars_min: usize,
    done: bool,
    problem: Option<Phrase>,
}

fn account_page(
    web: &Web,
    viewer: &Viewer,
    done: bool,
    problem: Option<Phrase>,
) -> Result<Response, Failure> {
    let accounts = web.access.accounts.now();
    let person = viewer.person.clone().unwrap_or_else(|| viewer.name.clone());
    let page = AccountPage {
        frame: Frame::new(web, "account", ""),
        rights: viewer.rights.iter().map(|right| right.word()).collect(),
        has_password: viewer.person.as_ref().is_some_and(|name| accounts.users.contains_key(name)),
        chars_min: PASSWORD_CHARS_MIN,
        done,
        problem,
        person,
    };
    web.pages.render("account", &page)
}

pub async fn account(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
) -> Result<Response, Failure> {
    web.clone().read(move |_| account_page(&web, &viewer, false, None)).await
}

#[derive(Deserialize)]
pub struct PasswordForm {
    old: String,
    new: String,
    again: String,
}

/// Whoever logged in by a password may change it; other sessions of theirs end.
pub async fn change_password(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    Form(form): Form<PasswordForm>,
) -> Result<Response, Failure> {
    let Some(name) = viewer.person.clone() else {
        return Err(Failure::forbidden(Phrase::new("account.none")));
    };
    let changed = match form.new == form.again {
        true => replace_password(&web, &name, form, peer.ip()).await,
        false => Err(Failure::bad_request(Phrase::new("account.twice"))),
    };
    let problem = match changed {
        Ok(changes) => {
            access::tell(&web, changes, &viewer.name, &headers).await;
            None
        }
        Err(failure) => Some(failure.detail),
    };
    web.clone().read(move |_| account_page(&web, &viewer, problem.is_none(), problem)).await
}

async fn replace_password(
    web: &Web,
    name: &str,
    form: PasswordForm,
    from: IpAddr,
) -> Result<Vec<Change>, Failure> {
    by_password(web, name, form.old, from).await?;
    let (name, new) = (name.to_owned(), form.new);
    web.read(move |web| {
        let accounts = &web.access.accounts;
        Ok(accounts.change(|accounts| accounts.set_password(&name, &new))?.1)
    })
    .await
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Failure {
        match &error {
            AccountError::Unknown { .. } => Failure::not_found(error.phrase()),
            AccountError::File { .. } => {
                tracing::error!(%error, "the accounts cannot be changed");
                Failure::internal(Phrase::new("wrong.file"))
            }
            AccountError::Name
            | AccountError::TokenName
            | AccountError::PasswordLength
            | AccountError::PasswordGuessed
            | AccountError::PasswordHash
            | AccountError::TooMany
            | AccountError::Taken { .. }
            | AccountError::LastAdministrator { .. } => Failure::bad_request(error.phrase()),
        }
    }
}

/// A path on this node, else the worklist: `//host` and `/\host` lead elsewhere.
pub fn own_path(next: Option<&str>) -> String {
    let own = |path: &&str| {
        path.starts_with('/')
            && !path[1..].starts_with(['/', '\\'])
            && path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    };
    next.filter(own).unwrap_or("/").to_owned()
}

/// As a value in a query.
pub fn query_escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    text.bytes()
        .map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_this_node() {
        assert_eq!(own_path(Some("/studies/1.2?x=1")), "/studies/1.2?x=1");
        for elsewhere in ["//evil", "/\\evil", "http://evil", "", "/a\r\nb"] {
            assert_eq!(own_path(Some(elsewhere)), "/", "{elsewhere}");
        }
    }
}
