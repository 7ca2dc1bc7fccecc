//! Who somebody is by the claims of their provider, and which of their groups have a role here.

use serde_json::Value;

use crate::domain::text;
use crate::web::access::oidc::Config;
use crate::web::access::rights::Role;

/// Somebody with a role here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    pub name: String,
    /// Those that have a role.
    pub groups: Vec<String>,
}

/// Why nobody comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nobody {
    /// Neither a name nor a subject.
    Nameless,
    /// The claim with groups is not there.
    NoGroups,
    /// In its place the provider says that there are too many (Entra's overage).
    TooManyGroups,
    /// None of the groups has a role.
    NoRole,
}

/// What members of `groups` are here: the role that may most.
pub fn role_of(config: &Config, groups: &[String]) -> Option<Role> {
    let roles = groups.iter().filter_map(|group| config.roles.get(group).copied());
    roles.max_by_key(|role| role.rights().len())
}

/// Who it is, by the first of the `claims` that says so.
///
/// - `claims`: those of the ID token, then those of the UserInfo endpoint.
///
/// # Errors
/// [`Nobody`].
pub fn person(config: &Config, claims: &[&Value]) -> Result<Person, Nobody> {
    let named = |claim: &str| {
        let said = claims.iter().filter_map(|all| find(all, claim)?.as_str());
        said.map(|name| text::clean(name, 64)).find(|name| !name.is_empty())
    };
    let name = named(&config.name_claim).or_else(|| named("sub")).ok_or(Nobody::Nameless)?;
    let said: Vec<Vec<&str>> = claims.iter().filter_map(|all| groups(config, all)).collect();
    if said.is_empty() {
        let are_too_many = claims.iter().any(|all| are_too_many(config, all));
        return Err(if are_too_many { Nobody::TooManyGroups } else { Nobody::NoGroups });
    }
    let mut groups: Vec<String> = Vec::new();
    for group in said.into_iter().flatten() {
        // Keycloak writes a group as a path.
        let known = [group, group.trim_start_matches('/')]
            .into_iter()
            .find(|name| config.roles.contains_key(*name));
        if let Some(known) = known.filter(|known| groups.iter().all(|group| group != known)) {
            groups.push(known.to_owned());
        }
    }
    match groups.is_empty() {
        true => Err(Nobody::NoRole),
        false => Ok(Person { name, groups }),
    }
}

/// The groups of the claim: a list of texts, or one text, perhaps of several with spaces or commas
/// between them.
fn groups<'a>(config: &Config, claims: &'a Value) -> Option<Vec<&'a str>> {
    match find(claims, &config.roles_claim)? {
        Value::String(all) => {
            let parts = all.split([' ', ',']).filter(|part| !part.is_empty() && part != all);
            Some(std::iter::once(all.as_str()).chain(parts).collect())
        }
        Value::Array(groups) => Some(groups.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// A claim by its name; where there is none, through objects: `realm_access.roles`. Names may hold
/// dots themselves.
fn find<'a>(claims: &'a Value, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let dots = name.match_indices('.').map(|(at, _)| at);
    dots.filter_map(|at| find(claims.get(&name[..at])?, &name[at + 1..])).next()
}

fn are_too_many(config: &Config, claims: &Value) -> bool {
    let elsewhere = &claims["_claim_names"];
    elsewhere.get(&config.roles_claim).is_some() || claims["hasgroups"] == Value::Bool(true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn groups_give_the_role_that_may_most_and_without_one_nobody_comes_in() {
        let config = |claim: &str| {
            let roles = [("radiology", Role::Radiologist), ("staff", Role::Viewer)];
            let roles = roles.map(|(group, role)| (group.to_owned(), role)).into();
            Config { roles, roles_claim: claim.into(), ..Config::default() }
        };
        let one = |claims: Value| vec![claims];
        for (claim, claims, expected) in [
            (
                "groups",
                one(
                    json!({"sub": "1", "preferred_username": "kim", "groups": ["staff", "radiology"]}),
                ),
                Ok(("kim", Role::Radiologist)),
            ),
            ("groups", one(json!({"sub": "u1", "groups": "staff"})), Ok(("u1", Role::Viewer))),
            ("groups", one(json!({"sub": "u1", "groups": "x, staff"})), Ok(("u1", Role::Viewer))),
            ("groups", one(json!({"sub": "u1", "groups": ["/staff"]})), Ok(("u1", Role::Viewer))),
            ("groups", one(json!({"sub": "u1", "groups": ["kitchen"]})), Err(Nobody::NoRole)),
            ("groups", one(json!({"sub": "u1", "groups": []})), Err(Nobody::NoRole)),
            ("groups", one(json!({"sub": "u1"})), Err(Nobody::NoGroups)),
            (
                "groups",
                one(json!({"sub": "u1", "groups": {"radiology": true}})),
                Err(Nobody::NoGroups),
            ),
            ("groups", one(json!({"groups": ["radiology"]})), Err(Nobody::Nameless)),
            ("groups", one(json!({"sub": "\n", "groups": ["radiology"]})), Err(Nobody::Nameless)),
            // Roles that lie deeper, and claims whose names hold dots.
            (
                "realm_access.roles",
                one(json!({"sub": "u1", "realm_access": {"roles": ["staff"]}})),
                Ok(("u1", Role::Viewer)),
            ),
            (
                "resource_access.prelim.node.roles",
                one(json!({"sub": "u1", "resource_access": {"prelim.node": {"roles": ["staff"]}}})),
                Ok(("u1", Role::Viewer)),
            ),
            (
                "https://h.example/roles",
                one(json!({"sub": "u1", "https://h.example/roles": ["staff"]})),
                Ok(("u1", Role::Viewer)),
            ),
            (
                "groups",
                one(json!({"sub": "u1", "_claim_names": {"groups": "src1"}})),
                Err(Nobody::TooManyGroups),
            ),
            ("groups", one(json!({"sub": "u1", "hasgroups": true})), Err(Nobody::TooManyGroups)),
            // What the token lacks, the UserInfo endpoint says.
            (
                "groups",
                vec![
                    json!({"sub": "u1"}),
                    json!({"sub": "u1", "preferred_username": "kim", "groups": ["radiology"]}),
                ],
                Ok(("kim", Role::Radiologist)),
            ),
            (
                "groups",
                vec![
                    json!({"sub": "u1", "preferred_username": "kim"}),
                    json!({"sub": "u1", "preferred_username": "lee", "groups": ["radiology"]}),
                ],
                Ok(("kim", Role::Radiologist)),
            ),
        ] {
            let config = config(claim);
            let found = person(&config, &claims.iter().collect::<Vec<_>>());
            let found = found.as_ref().map_err(|nobody| *nobody).map(|found| {
                (found.name.as_str(), role_of(&config, &found.groups).expect("a group has a role"))
            });
            assert_eq!(found, expected, "{claims:?}");
        }
    }
}
