//! The accounts page: who may come in, for whoever runs the node. What `prelim user` and `prelim token`
//! do in the same file.

use std::collections::BTreeMap;

use axum::Extension;
use axum::Form;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::IntoResponse as _;
use axum::response::Response;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

use crate::store::AuditQuery;
use crate::web::Shared;
use crate::web::Web;
use crate::web::access;
use crate::web::access::Viewer;
use crate::web::access::accounts;
use crate::web::access::accounts::Accounts;
use crate::web::access::accounts::Change;
use crate::web::access::accounts::PASSWORD_CHARS_MIN;
use crate::web::access::rights::Right;
use crate::web::access::rights::Role;
use crate::web::page;
use crate::web::page::Frame;
use crate::web::page::Moment;
use crate::web::problem::Failure;
use crate::web::words::Phrase;

/// How far back a login is looked for.
const LOGIN_DAYS: i64 = 90;

#[derive(Serialize)]
struct Page {
    frame: Frame,
    /// Everyone on this machine may all: nobody has an account.
    is_open: bool,
    /// Those of a new account: of the first, the administrator alone.
    roles: Vec<&'static str>,
    rights: Vec<&'static str>,
    chars_min: usize,
    login_days: i64,
    users: Vec<UserRow>,
    tokens: Vec<TokenRow>,
    /// The access token of the settings lets in as well.
    by_token: bool,
    provider: Option<ProviderPart>,
    outcome: Outcome,
}

/// What became of a form.
#[derive(Default, Serialize)]
struct Outcome {
    done: Option<Phrase>,
    /// Shown this once: a password or a token, and what to do with it.
    secret: String,
    advice: Option<Phrase>,
    problem: Option<Phrase>,
}

#[derive(Serialize)]
struct UserRow {
    name: String,
    role: &'static str,
    /// What else it could be.
    roles: Vec<&'static str>,
    since: Moment,
    seen: Option<Moment>,
    is_own: bool,
}

#[derive(Serialize)]
struct TokenRow {
    name: String,
    rights: Vec<&'static str>,
    since: Moment,
    ends: Option<Moment>,
    has_ended: bool,
}

/// The identity provider of the site.
#[derive(Serialize)]
struct ProviderPart {
    name: String,
    issuer: String,
    groups: Vec<(String, &'static str)>,
    /// Who came by it.
    people: Vec<(String, Moment)>,
}

pub async fn show(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
) -> Result<Response, Failure> {
    web.clone().read(move |_| render(&web, &viewer, Outcome::default())).await
}

fn render(web: &Shared, viewer: &Viewer, outcome: Outcome) -> Result<Response, Failure> {
    let accounts = web.access.accounts.now();
    let now = web.node.clock.now();
    let mut seen = logins(web, now)?;
    let is_open = !web.access.has_login();
    let user = |(name, user): (&String, &accounts::User)| UserRow {
        role: user.role.word(),
        roles: Role::ALL
            .iter()
            .map(|role| role.word())
            .filter(|r| *r != user.role.word())
            .collect(),
        since: page::moment(user.since, now),
        seen: seen.remove(name).map(|at| page::moment(at, now)),
        is_own: viewer.person.as_ref() == Some(name),
        name: name.clone(),
    };
    let users = accounts.users.iter().map(user).collect();
    let token = |(name, token): (&String, &accounts::Token)| TokenRow {
        name: name.clone(),
        rights: token.rights.iter().map(|right| right.word()).collect(),
        since: page::moment(token.since, now),
        ends: token.ends.map(|ends| page::moment(ends, now)),
        has_ended: token.ends.is_some_and(|ends| ends <= now),
    };
    let config = &web.node.config.oidc;
    let provider = config.is_on().then(|| ProviderPart {
        name: config.name.clone(),
        issuer: config.issuer.clone(),
        groups: config.roles.iter().map(|(group, role)| (group.clone(), role.word())).collect(),
        people: seen.into_iter().map(|(name, at)| (name, page::moment(at, now))).collect(),
    });
    let offered = |role: &&Role| !is_open || **role == Role::Administrator;
    let page = Page {
        frame: Frame::new(web, "accounts", "accounts"),
        is_open,
        roles: Role::ALL.iter().filter(offered).map(|role| role.word()).collect(),
        rights: Right::ALL.iter().map(|right| right.word()).collect(),
        chars_min: PASSWORD_CHARS_MIN,
        login_days: LOGIN_DAYS,
        users,
        tokens: accounts.tokens.iter().map(token).collect(),
        by_token: web.access.token.is_some(),
        provider,
        outcome,
    };
    web.pages.render("accounts", &page)
}

/// When each person came in last, as far as one page of the audit reaches.
fn logins(web: &Shared, now: Timestamp) -> Result<BTreeMap<String, Timestamp>, Failure> {
    let since = Some(now - SignedDuration::from_hours(24 * LOGIN_DAYS));
    let deed = serde_json::from_value(serde_json::json!("login")).ok();
    let found = web.node.store.audit(&AuditQuery { since, deed, ..AuditQuery::default() })?;
    let mut seen = BTreeMap::new();
    for row in found.rows.iter().filter(|row| row.what == "login") {
        // `kim (10.0.0.5)`; who came by the access token has no name.
        if let Some((name, _)) = row.by.split_once(" (") {
            seen.entry(name.to_owned()).or_insert(row.at);
        }
    }
    Ok(seen)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Deed {
    Add,
    Role,
    Password,
    Remove,
    AddToken,
    RemoveToken,
}

#[derive(Deserialize)]
pub struct DeedForm {
    deed: Deed,
    name: String,
    role: Option<Role>,
    /// Of a new account, or a new one: empty for one that is made here.
    #[serde(default)]
    password: String,
    /// Until a token ends; empty: until it is removed.
    #[serde(default)]
    days: String,
    /// The rights of a token, each a field of its own that a box was ticked for.
    #[serde(flatten)]
    ticked: BTreeMap<String, String>,
}

pub async fn take(
    State(web): State<Web>,
    Extension(viewer): Extension<Viewer>,
    headers: HeaderMap,
    Form(form): Form<DeedForm>,
) -> Result<Response, Failure> {
    let by = viewer.name.clone();
    // A comparison of a password takes as much: not more than two at one time.
    let turn = web.access.turns.acquire().await;
    let (asks, now) = (viewer.person.clone(), web.node.clock.now());
    let done = web.read(move |web| apply(web, asks.as_deref(), &form, now)).await;
    drop(turn);
    let (outcome, status) = match done {
        Ok((outcome, changes)) => {
            access::tell(&web, changes, &by, &headers).await;
            (outcome, axum::http::StatusCode::OK)
        }
        Err(failure) => {
            let problem = Some(failure.detail);
            (Outcome { problem, ..Outcome::default() }, failure.status)
        }
    };
    let page = web.clone().read(move |_| render(&web, &viewer, outcome)).await?;
    Ok((status, page).into_response())
}

/// Does it; what to say of it, and what is otherwise now.
fn apply(
    web: &Shared,
    asks: Option<&str>,
    form: &DeedForm,
    now: Timestamp,
) -> Result<(Outcome, Vec<Change>), Failure> {
    allow(!web.access.has_login(), asks, form)?;
    let name = form.name.trim();
    // The least that there is, where a form names none.
    let role = form.role.unwrap_or(Role::Viewer);
    let password = match form.password.as_str() {
        "" => accounts::initial_password(name),
        typed => typed.to_owned(),
    };
    // What was typed is known to who typed it.
    let shown = |made: String| if form.password.is_empty() { made } else { String::new() };
    let ends = ends(&form.days, now)?;
    let none = String::new;
    let change = |accounts: &mut Accounts| match form.deed {
        Deed::Add => accounts.add_user(name, role, &password, now).map(|()| shown(password)),
        Deed::Password => accounts.set_password(name, &password).map(|()| shown(password)),
        Deed::Role => accounts.set_role(name, role).map(|()| none()),
        Deed::Remove => {
            accounts.keep_an_administrator(name)?;
            accounts.remove_user(name).map(|()| none())
        }
        Deed::AddToken => {
            let ticked = |right: &Right| form.ticked.contains_key(right.word());
            let rights = Right::ALL.into_iter().filter(ticked).collect();
            accounts.add_token(name, rights, ends, now)
        }
        Deed::RemoveToken => accounts.remove_token(name).map(|()| none()),
    };
    let (secret, changes) = web.access.accounts.change(change)?;
    let (done, advice) = match form.deed {
        Deed::Add => ("added", "password_once"),
        Deed::Role => ("role_set", ""),
        Deed::Password => ("password_set", "password_once"),
        Deed::Remove => ("removed", ""),
        Deed::AddToken => ("token_added", "token_once"),
        Deed::RemoveToken => ("token_removed", ""),
    };
    let role = Phrase::new(format!("role.{}", role.word()));
    let done = Phrase::new(format!("accounts.{done}")).with("name", name).with("role", role);
    let advice = (!secret.is_empty()).then(|| Phrase::new(format!("accounts.{advice}")));
    Ok((Outcome { done: Some(done), secret, advice, problem: None }, changes))
}

/// What a page keeps from who would shut the door behind themselves.
///
/// - `is_open`: nobody has an account yet.
fn allow(is_open: bool, asks: Option<&str>, form: &DeedForm) -> Result<(), Failure> {
    let wrong = |key: &str| Err(Failure::bad_request(Phrase::new(key)));
    match form.deed {
        Deed::Add if is_open && form.role != Some(Role::Administrator) => wrong("accounts.first"),
        Deed::AddToken if is_open => wrong("accounts.first"),
        Deed::Role | Deed::Password | Deed::Remove if asks == Some(form.name.trim()) => {
            wrong("accounts.own")
        }
        Deed::Add | Deed::AddToken => Ok(()),
        Deed::Role | Deed::Password | Deed::Remove | Deed::RemoveToken => Ok(()),
    }
}

/// When a token of so many days ends.
fn ends(days: &str, now: Timestamp) -> Result<Option<Timestamp>, Failure> {
    if days.trim().is_empty() {
        return Ok(None);
    }
    match days.trim().parse::<u16>() {
        Ok(days @ 1..) => Ok(Some(now + SignedDuration::from_hours(24 * i64::from(days)))),
        Ok(0) | Err(_) => Err(Failure::bad_request(Phrase::new("accounts.days_wrong"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shuts_the_door_behind_themselves() {
        use Role::Administrator;
        use Role::Viewer;
        for (deed, role, is_open, asks, allowed) in [
            (Deed::Add, Administrator, true, None, true),
            (Deed::Add, Viewer, true, None, false),
            (Deed::AddToken, Viewer, true, None, false),
            (Deed::Add, Viewer, false, Some("chief"), true),
            (Deed::Remove, Viewer, false, Some("chief"), true),
            (Deed::Remove, Viewer, false, Some("kim"), false),
            (Deed::Role, Viewer, false, Some("kim"), false),
            (Deed::Password, Viewer, false, Some("kim"), false),
        ] {
            let form = DeedForm {
                deed,
                name: " kim ".into(),
                role: Some(role),
                password: String::new(),
                days: String::new(),
                ticked: BTreeMap::new(),
            };
            let found = allow(is_open, asks, &form).is_ok();
            assert_eq!(found, allowed, "{:?} {role:?} {asks:?}", form.deed);
        }
    }

    #[test]
    fn a_token_ends_after_whole_days_or_not_at_all() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(ends(" ", now).unwrap(), None);
        assert_eq!(ends("2", now).unwrap().unwrap().as_second(), 2 * 86_400);
        for wrong in ["0", "-1", "soon", "70000"] {
            assert!(ends(wrong, now).is_err(), "{wrong}");
        }
    }
}
