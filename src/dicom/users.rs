//! User identity (PS3.7 D.3.3.7): who asks for an association, and whether it is known here.
//!
//! Names and passcodes are checked against configured users; tickets, assertions and tokens
//! (types 3 to 5) are refused, because nothing here could check them. Without configured users a
//! name or a passcode is passed over: access is then decided by AE titles and addresses.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::dicom::user_information::Identity;
use crate::dicom::user_information::IdentityKind;
use crate::domain::password;
use crate::domain::secret::Secret;

/// One who may open associations.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct User {
    /// Argon2 hash of the passcode, as `prelim hash-password` prints it. Empty: the name is enough.
    pub password_hash: Secret,
}

impl User {
    /// What cannot work about the hash.
    pub fn problem(&self) -> Option<String> {
        if self.password_hash.is_empty() {
            return None;
        }
        password::problem(self.password_hash.expose()).map(str::to_owned)
    }
}

/// What an identity comes to before a passcode is looked at.
#[derive(Debug, PartialEq, Eq)]
enum Judgement<'a> {
    Nobody,
    Known(&'a str),
    /// Whose passcode has to be compared; None: nobody's, but it must take as long.
    Compare(Option<&'a str>),
    Refused,
}

fn judge<'a>(users: &'a BTreeMap<String, User>, identity: Option<&Identity>) -> Judgement<'a> {
    let Some(identity) = identity else { return Judgement::Nobody };
    let named = std::str::from_utf8(&identity.primary).ok().map(|name| name.trim_end_matches('\0'));
    let named = named.and_then(|name| users.get_key_value(name));
    match (identity.kind, users.is_empty()) {
        (IdentityKind::Kerberos | IdentityKind::Saml | IdentityKind::JsonWebToken, _) => {
            Judgement::Refused
        }
        (_, true) => Judgement::Nobody,
        (IdentityKind::Other, false) => Judgement::Refused,
        (IdentityKind::UserName, false) => match named {
            Some((name, user)) if user.password_hash.is_empty() => Judgement::Known(name),
            Some(_) | None => Judgement::Refused,
        },
        (IdentityKind::UserNameAndPasscode, false) => match named {
            Some((name, user)) if user.password_hash.is_empty() => Judgement::Known(name),
            Some((name, _)) => Judgement::Compare(Some(name)),
            None => Judgement::Compare(None),
        },
    }
}

/// The configured users.
pub struct Users {
    users: BTreeMap<String, User>,
    /// A comparison takes a core for 20 ms and 19 MiB: one at a time.
    turn: Semaphore,
    /// The passcode that was right last time, hashed quickly with a key of this run: a sender that
    /// opens an association for each instance costs one comparison.
    right: Mutex<HashMap<String, blake3::Hash>>,
    key: [u8; 32],
    /// What takes as long as a comparison for a name that nobody has.
    nobody: Option<String>,
    wrong: Mutex<HashMap<IpAddr, (u32, Instant)>>,
}

/// Wrong passcodes from one address within [`WRONG_WINDOW`] after which it has to wait.
const WRONG_MAX: u32 = 10;
const WRONG_WINDOW: Duration = Duration::from_secs(300);
const ADDRESSES_MAX: usize = 1024;

/// The identity was not accepted.
#[derive(Debug, PartialEq, Eq)]
pub struct NotKnown;

impl Users {
    pub fn new(users: BTreeMap<String, User>) -> Users {
        let compares = users.values().any(|user| !user.password_hash.is_empty());
        Users {
            users,
            turn: Semaphore::new(1),
            right: Mutex::default(),
            key: rand::random(),
            nobody: compares.then(|| password::hash(&rand::random::<[u8; 16]>()).ok()).flatten(),
            wrong: Mutex::default(),
        }
    }

    /// The name of a configured user; None where no identity was given or none is asked for.
    ///
    /// # Errors
    /// [`NotKnown`] for a wrong name or passcode, for types that cannot be checked, and for an
    /// address that has guessed too often.
    pub async fn check(
        &self,
        identity: Option<&Identity>,
        from: IpAddr,
    ) -> Result<Option<String>, NotKnown> {
        let name = match judge(&self.users, identity) {
            Judgement::Nobody => return Ok(None),
            Judgement::Known(name) => return Ok(Some(name.to_owned())),
            Judgement::Refused => return Err(NotKnown),
            Judgement::Compare(name) => name,
        };
        let passcode = identity.map(|i| i.secondary.clone()).unwrap_or_default();
        let quick = blake3::keyed_hash(&self.key, &passcode);
        if let Some(name) = name
            && lock(&self.right).get(name) == Some(&quick)
        {
            return Ok(Some(name.to_owned()));
        }
        if self.has_guessed(from) {
            return Err(NotKnown);
        }
        let hash = match name {
            Some(name) => self.users[name].password_hash.expose().to_owned(),
            None => self.nobody.clone().unwrap_or_default(),
        };
        let compare = move || password::is_right(&passcode, &hash);
        let turn = self.turn.acquire().await;
        let same = tokio::task::spawn_blocking(compare).await.is_ok_and(|right| right);
        drop(turn);
        match name.filter(|_| same) {
            Some(name) => {
                lock(&self.right).insert(name.to_owned(), quick);
                Ok(Some(name.to_owned()))
            }
            None => {
                self.note_wrong(from);
                Err(NotKnown)
            }
        }
    }

    fn has_guessed(&self, from: IpAddr) -> bool {
        let wrong = lock(&self.wrong);
        wrong
            .get(&from)
            .is_some_and(|(count, since)| *count >= WRONG_MAX && since.elapsed() < WRONG_WINDOW)
    }

    fn note_wrong(&self, from: IpAddr) {
        metrics::counter!("prelim_wrong_passcodes_total").increment(1);
        let mut wrong = lock(&self.wrong);
        if wrong.len() >= ADDRESSES_MAX {
            wrong.retain(|_, (_, since)| since.elapsed() < WRONG_WINDOW);
        }
        if wrong.len() < ADDRESSES_MAX || wrong.contains_key(&from) {
            let entry = wrong.entry(from).or_insert((0, Instant::now()));
            if entry.1.elapsed() >= WRONG_WINDOW {
                *entry = (0, Instant::now());
            }
            entry.0 += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(kind: IdentityKind, name: &str, passcode: &str) -> Identity {
        let (primary, secondary) = (name.as_bytes().to_vec(), passcode.as_bytes().to_vec());
        Identity { kind, response_wanted: false, primary, secondary }
    }

    fn users() -> BTreeMap<String, User> {
        let secret = User { password_hash: Secret::new(password::hash(b"right").unwrap()) };
        BTreeMap::from([("ct".to_owned(), secret), ("open".to_owned(), User::default())])
    }

    #[test]
    fn an_identity_is_judged_by_its_type_and_the_users() {
        use IdentityKind as K;
        let (some, none) = (users(), BTreeMap::new());
        for (kind, name, with_users, without) in [
            (K::UserName, "open", Judgement::Known("open"), Judgement::Nobody),
            (K::UserName, "ct", Judgement::Refused, Judgement::Nobody),
            (K::UserName, "eve", Judgement::Refused, Judgement::Nobody),
            (K::UserNameAndPasscode, "open", Judgement::Known("open"), Judgement::Nobody),
            (K::UserNameAndPasscode, "ct", Judgement::Compare(Some("ct")), Judgement::Nobody),
            (K::UserNameAndPasscode, "eve", Judgement::Compare(None), Judgement::Nobody),
            (K::Kerberos, "ct", Judgement::Refused, Judgement::Refused),
            (K::Saml, "ct", Judgement::Refused, Judgement::Refused),
            (K::JsonWebToken, "ct", Judgement::Refused, Judgement::Refused),
            (K::Other, "ct", Judgement::Refused, Judgement::Nobody),
        ] {
            let identity = identity(kind, name, "x");
            assert_eq!(judge(&some, Some(&identity)), with_users, "{kind:?} {name}");
            assert_eq!(judge(&none, Some(&identity)), without, "{kind:?} {name}, no users");
        }
        assert_eq!(judge(&some, None), Judgement::Nobody);
    }

    #[tokio::test]
    async fn a_passcode_is_compared_and_guessing_ends() {
        let users = Users::new(users());
        let (good, bad) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let with = |passcode| identity(IdentityKind::UserNameAndPasscode, "ct", passcode);
        for _ in 0..3 {
            let known = users.check(Some(&with("right")), good).await;
            assert_eq!(known, Ok(Some("ct".to_owned())));
        }
        for _ in 0..WRONG_MAX {
            assert_eq!(users.check(Some(&with("wrong")), bad).await, Err(NotKnown));
        }
        let begun = Instant::now();
        assert_eq!(users.check(Some(&with("wrong again")), bad).await, Err(NotKnown));
        assert!(begun.elapsed() < Duration::from_millis(5), "not even compared");
        assert!(users.check(Some(&with("right")), good).await.is_ok());
    }

    #[test]
    fn a_hash_that_cannot_work_is_told() {
        let problem = |hash: &str| User { password_hash: Secret::new(hash) }.problem();
        assert_eq!(problem(&password::hash(b"x").unwrap()), None);
        assert_eq!(problem(""), None);
        for bad in ["secret", "$2b$10$abc", "$argon2id$v=19$m=4000000,t=2,p=1$c2FsdHNhbHQ$aGFzaA"] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
