//! The accounts of people and the tokens of programs: a file of the data folder that `prelim user`
//! and `prelim token` write and a running node reads again by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;

use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest as _;
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::domain::password;
use crate::domain::text;
use crate::files;
use crate::files::Mark;
use crate::files::mark;
use crate::web::access::random_token;
use crate::web::access::rights::Right;
use crate::web::access::rights::Role;
use crate::web::words::Phrase;

pub const ACCOUNTS_FILE: &str = "accounts.toml";
/// Characters below which a password can be guessed (NIST SP 800-63B asks for 15 where nothing
/// else is asked for, and for 8 at least).
pub const PASSWORD_CHARS_MIN: usize = 12;
const PASSWORD_BYTES_MAX: usize = 512;
const NAME_CHARS_MAX: usize = 64;
const USERS_MAX: usize = 10_000;
/// How every token begins, so that scanners for lost secrets know one.
const TOKEN_MARK: &str = "prelim_";

/// Everyone who may come in by a name or a token of their own.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Accounts {
    pub users: BTreeMap<String, User>,
    pub tokens: BTreeMap<String, Token>,
}

/// A person. No `Debug`: a hash is for no log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    pub role: Role,
    /// Argon2, in PHC form.
    pub password_hash: String,
    pub since: Timestamp,
}

/// A program.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    pub rights: Vec<Right>,
    /// SHA-256 of the secret half, hexadecimal: 256 random bits need no slow hash.
    pub digest: String,
    pub since: Timestamp,
    /// None: until it is removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ends: Option<Timestamp>,
}

/// What cannot be done.
#[derive(Debug)]
pub enum AccountError {
    Name,
    TokenName,
    PasswordLength,
    PasswordGuessed,
    /// No hash could be made.
    PasswordHash,
    TooMany,
    /// `what`: user or token.
    Unknown {
        what: &'static str,
        name: String,
        known: String,
    },
    Taken {
        what: &'static str,
        name: String,
    },
    LastAdministrator {
        name: String,
    },
    File {
        file: String,
        why: String,
    },
}

impl std::error::Error for AccountError {}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.phrase().in_english())
    }
}

impl AccountError {
    /// For who asked.
    pub fn phrase(&self) -> Phrase {
        let say = |key: &str| Phrase::new(format!("wrong.{key}"));
        match self {
            AccountError::Name => say("name").with("max", NAME_CHARS_MAX),
            AccountError::TokenName => say("token_name"),
            AccountError::PasswordLength => {
                say("password").with("min", PASSWORD_CHARS_MIN).with("max", PASSWORD_BYTES_MAX)
            }
            AccountError::PasswordGuessed => say("guessed"),
            AccountError::PasswordHash => say("hash"),
            AccountError::TooMany => say("too_many").with("max", USERS_MAX),
            AccountError::Unknown { what, name, known } => {
                say(&format!("no_{what}")).with("name", name).with("known", known)
            }
            AccountError::Taken { what, name } => say(&format!("same_{what}")).with("name", name),
            AccountError::LastAdministrator { name } => say("last").with("name", name),
            AccountError::File { file, why } => Phrase::plain(format!("{file}: {why}")),
        }
    }
}

/// A name that fits a page, a log line and a file.
fn checked_name(name: &str) -> Result<&str, AccountError> {
    let allowed = |c: char| c.is_alphanumeric() || "._-@".contains(c);
    let length = name.chars().count();
    match (1..=NAME_CHARS_MAX).contains(&length) && name.chars().all(allowed) {
        true => Ok(name),
        false => Err(AccountError::Name),
    }
}

/// The hash of a password that cannot be guessed.
fn checked_hash(name: &str, password: &str) -> Result<String, AccountError> {
    check_password(name, password)?;
    password::hash(password.as_bytes()).map_err(|_| AccountError::PasswordHash)
}

fn check_password(name: &str, password: &str) -> Result<(), AccountError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(AccountError::PasswordLength);
    }
    let lower = password.to_lowercase();
    let mut letters: Vec<char> = lower.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    let named = lower.contains(&name.to_lowercase());
    match letters.len() < 5 || named || is_repeated(&lower) || left_of_habits(&lower) < 4 {
        true => Err(AccountError::PasswordGuessed),
        false => Ok(()),
    }
}

/// The same word again and again.
fn is_repeated(text: &str) -> bool {
    let letters: Vec<char> = text.chars().collect();
    (1..=letters.len() / 2).any(|unit| {
        letters.iter().enumerate().all(|(place, letter)| *letter == letters[place % unit])
    })
}

/// What everybody tries first, in any order and number.
const HABITS: [&str; 22] = [
    "password",
    "passwort",
    "passw0rd",
    "administrator",
    "admin",
    "prelim",
    "radiology",
    "hospital",
    "doctor",
    "welcome",
    "letmein",
    "secret",
    "changeme",
    "login",
    "qwertyuiop",
    "qwerty",
    "asdfghjkl",
    "asdf",
    "iloveyou",
    "abcdefghijklmnop",
    "abcdef",
    "zxcvbnm",
];

/// Letters that are left without words and rows of keys that everybody tries, digits and signs.
fn left_of_habits(text: &str) -> usize {
    let mut left = text.to_owned();
    for habit in HABITS {
        left = left.replace(habit, "");
    }
    if left.len() == text.len() && text.chars().any(char::is_alphabetic) {
        return text.chars().count();
    }
    left.chars().filter(|c| c.is_alphabetic()).count()
}

/// 20 letters and digits that are not mistaken for one another: a password to begin with.
pub fn initial_password(name: &str) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    // A name of one letter may stand in it: then another one.
    let random = || -> String {
        let bytes = rand::random::<[u8; 20]>();
        bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
    };
    let mut made = std::iter::repeat_with(random).take(1000);
    made.find(|password| check_password(name, password).is_ok()).unwrap_or_else(random)
}

impl Accounts {
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.tokens.is_empty()
    }

    pub fn add_user(
        &mut self,
        name: &str,
        role: Role,
        password: &str,
        now: Timestamp,
    ) -> Result<(), AccountError> {
        let name = checked_name(name)?;
        if self.users.contains_key(name) {
            return Err(AccountError::Taken { what: "user", name: name.to_owned() });
        }
        if self.users.len() >= USERS_MAX {
            return Err(AccountError::TooMany);
        }
        let user = User { role, password_hash: checked_hash(name, password)?, since: now };
        self.users.insert(name.to_owned(), user);
        Ok(())
    }

    pub fn set_password(&mut self, name: &str, password: &str) -> Result<(), AccountError> {
        let hash = checked_hash(name, password)?;
        self.user(name)?.password_hash = hash;
        Ok(())
    }

    pub fn set_role(&mut self, name: &str, role: Role) -> Result<(), AccountError> {
        if role != Role::Administrator {
            self.keep_an_administrator(name)?;
        }
        self.user(name)?.role = role;
        Ok(())
    }

    pub fn remove_user(&mut self, name: &str) -> Result<(), AccountError> {
        self.user(name)?;
        // The last of all opens the pages of this machine again, as they were before the first.
        if self.users.len() > 1 {
            self.keep_an_administrator(name)?;
        }
        self.users.remove(name);
        Ok(())
    }

    /// Refuses what would leave the node without one.
    pub fn keep_an_administrator(&self, without: &str) -> Result<(), AccountError> {
        let is_one = |user: &User| user.role == Role::Administrator;
        let others = self.users.iter().filter(|(name, _)| *name != without);
        match self.users.get(without).is_some_and(is_one)
            && !others.into_iter().any(|(_, user)| is_one(user))
        {
            true => Err(AccountError::LastAdministrator { name: without.to_owned() }),
            false => Ok(()),
        }
    }

    fn user(&mut self, name: &str) -> Result<&mut User, AccountError> {
        let known = list(self.users.keys());
        let unknown = || AccountError::Unknown { what: "user", name: name.to_owned(), known };
        self.users.get_mut(name).ok_or_else(unknown)
    }

    /// The token itself, which stands nowhere afterwards.
    pub fn add_token(
        &mut self,
        name: &str,
        rights: Vec<Right>,
        ends: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<String, AccountError> {
        let name = checked_name(name)?;
        if name.contains('@') || rights.is_empty() {
            return Err(AccountError::TokenName);
        }
        if self.tokens.contains_key(name) {
            return Err(AccountError::Taken { what: "token", name: name.to_owned() });
        }
        let secret = random_token();
        let token = Token { rights, digest: digest_of(&secret), since: now, ends };
        self.tokens.insert(name.to_owned(), token);
        Ok(format!("{TOKEN_MARK}{name}@{secret}"))
    }

    pub fn remove_token(&mut self, name: &str) -> Result<(), AccountError> {
        let known = list(self.tokens.keys());
        let unknown = || AccountError::Unknown { what: "token", name: name.to_owned(), known };
        self.tokens.remove(name).map(drop).ok_or_else(unknown)
    }

    /// Whose token it is, and what it may do.
    pub fn by_token(&self, given: &str, now: Timestamp) -> Option<(&str, &Token)> {
        let (name, secret) = given.strip_prefix(TOKEN_MARK)?.rsplit_once('@')?;
        let (name, token) = self.tokens.get_key_value(name)?;
        let is_right: bool = digest_of(secret).as_bytes().ct_eq(token.digest.as_bytes()).into();
        (is_right && token.ends.is_none_or(|ends| now < ends)).then_some((name, token))
    }

    /// What is otherwise than `before`.
    fn changes_since(&self, before: &Accounts) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut user = |name: &str, what: String| {
            let line = format!("changed accounts: {name} {what}");
            changes.push(Change { line, user: Some(name.to_owned()) });
        };
        for (name, now) in &self.users {
            match before.users.get(name) {
                None => user(name, format!("added as {}", now.role.word())),
                Some(old) if old.role != now.role => {
                    user(name, format!("is now {}", now.role.word()));
                }
                Some(old) if old.password_hash != now.password_hash => {
                    user(name, "has a new password".to_owned());
                }
                Some(_) => {}
            }
        }
        let gone = before.users.keys().filter(|name| !self.users.contains_key(*name));
        gone.for_each(|name| user(name, "removed".to_owned()));
        let mut token = |name: &str, what: String| {
            changes.push(Change { line: format!("changed tokens: {name} {what}"), user: None });
        };
        for (name, now) in &self.tokens {
            if before.tokens.get(name) != Some(now) {
                token(name, format!("made, may {}", words(&now.rights)));
            }
        }
        let gone = before.tokens.keys().filter(|name| !self.tokens.contains_key(*name));
        gone.for_each(|name| token(name, "removed".to_owned()));
        changes
    }

    fn check(&self) -> Result<(), String> {
        for (name, user) in &self.users {
            checked_name(name).map_err(|error| error.to_string())?;
            if let Some(why) = password::problem(&user.password_hash) {
                return Err(format!("users.{name}.password_hash {why}"));
            }
        }
        Ok(())
    }
}

/// One thing that is otherwise than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// For the audit.
    pub line: String,
    /// Whose sessions end.
    pub user: Option<String>,
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

pub fn words(rights: &[Right]) -> String {
    rights.iter().map(|right| right.word()).collect::<Vec<_>>().join(", ")
}

fn digest_of(secret: &str) -> String {
    text::hex(&Sha256::digest(secret.as_bytes()))
}

/// The accounts of a file; none where there is no file.
pub fn read(file: &Path) -> Result<Accounts, AccountError> {
    let problem = |why: String| AccountError::File { file: file.display().to_string(), why };
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Accounts::default());
        }
        Err(error) => return Err(problem(error.to_string())),
    };
    // What stands in the file is not shown: it holds hashes.
    let accounts: Accounts = toml::from_str(&text)
        .map_err(|error| problem(format!("it cannot be read: {}", error.message())))?;
    accounts.check().map_err(problem)?;
    Ok(accounts)
}

/// Writes the file, whole or not at all, for the owner of the data folder alone.
pub fn write(file: &Path, accounts: &Accounts) -> Result<(), AccountError> {
    let problem = |why: String| AccountError::File { file: file.display().to_string(), why };
    let text = toml::to_string_pretty(accounts).map_err(|error| problem(error.to_string()))?;
    let head = "# Who may come in. Written by prelim user and prelim token; a running node reads it again by itself.\n";
    let done = files::write_for_owner(file, format!("{head}{text}").as_bytes());
    done.map_err(|error| problem(error.to_string()))
}

/// Changes the accounts of a data folder, whether a node runs on it or not; nobody else does
/// meanwhile, in no process. The accounts before and after, and what `change` returns.
pub fn change<T>(
    data: &Path,
    change: impl FnOnce(&mut Accounts) -> Result<T, AccountError>,
) -> Result<(Accounts, Accounts, T), AccountError> {
    let file = data.join(ACCOUNTS_FILE);
    let _held = files::lock_folder(data).map_err(|error| AccountError::File {
        file: data.display().to_string(),
        why: format!("it cannot be locked: {error}"),
    })?;
    let before = read(&file)?;
    let mut accounts = before.clone();
    let done = change(&mut accounts)?;
    write(&file, &accounts)?;
    Ok((before, accounts, done))
}

/// The accounts of now.
pub struct Live {
    data: PathBuf,
    file: PathBuf,
    now: Mutex<Known>,
}

struct Known {
    accounts: Arc<Accounts>,
    mark: Option<Mark>,
    looked: Instant,
    problem: Option<String>,
    /// Of the file, found while something else was changed.
    untold: Vec<Change>,
}

/// Between two looks whether the file is another one.
const LOOK: Duration = Duration::from_millis(500);

impl Live {
    /// # Errors
    /// The file is there and cannot be used. Without accounts the pages could stand open, so a
    /// node must not start then.
    pub fn open(data: &Path) -> Result<Live, AccountError> {
        let file = data.join(ACCOUNTS_FILE);
        let mark = mark(&file);
        let accounts = Arc::new(read(&file)?);
        let known =
            Known { accounts, mark, looked: Instant::now(), problem: None, untold: Vec::new() };
        Ok(Live { data: data.to_owned(), file, now: Mutex::new(known) })
    }

    /// The accounts in force, as the last look found them.
    pub fn now(&self) -> Arc<Accounts> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner).accounts)
    }

    /// The accounts, and what changed since the last look: for the guard, which sees each request and
    /// notes the changes. A file that cannot be used changes nothing.
    pub fn look(&self) -> (Arc<Accounts>, Vec<Change>) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = std::mem::take(&mut now.untold);
        if now.looked.elapsed() < LOOK {
            return (Arc::clone(&now.accounts), untold);
        }
        now.looked = Instant::now();
        let mark = mark(&self.file);
        if mark == now.mark {
            return (Arc::clone(&now.accounts), untold);
        }
        now.mark = mark;
        // A file that went is no sign that everyone may come in.
        let read = match mark {
            Some(_) => read(&self.file),
            None => {
                let why = "it is gone".to_owned();
                Err(AccountError::File { file: ACCOUNTS_FILE.to_owned(), why })
            }
        };
        let mut changes = untold;
        match read {
            Ok(accounts) => {
                changes.extend(accounts.changes_since(&now.accounts));
                (now.accounts, now.problem) = (Arc::new(accounts), None);
            }
            Err(error) => {
                tracing::error!(%error, "the accounts cannot be used; the old ones stay");
                now.problem = Some(format!("accounts: {error}; the old ones stay"));
            }
        }
        (Arc::clone(&now.accounts), changes)
    }

    /// What an operator should know.
    pub fn problem(&self) -> Option<String> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).problem.clone()
    }

    /// Changes the accounts in force and in the file: what `by` returns, and what is otherwise now.
    pub fn change<T>(
        &self,
        by: impl FnOnce(&mut Accounts) -> Result<T, AccountError>,
    ) -> Result<(T, Vec<Change>), AccountError> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, accounts, done) = change(&self.data, by)?;
        let untold = before.changes_since(&now.accounts);
        now.untold.extend(untold);
        now.mark = mark(&self.file);
        let changes = accounts.changes_since(&before);
        now.accounts = Arc::new(accounts);
        Ok((done, changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "correct horse battery";

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn a_name_and_a_password_have_to_be_fit_for_use() {
        let mut accounts = Accounts::default();
        for (name, password, why) in [
            ("", GOOD, "a name has"),
            ("a b", GOOD, "a name has"),
            ("a\n", GOOD, "a name has"),
            ("kim", "short", "at least 12"),
            ("kim", "aaaaaaaaaaaaaaa", "easily guessed"),
            ("kim", "kimkimkim2026!", "easily guessed"),
        ] {
            let error = accounts.add_user(name, Role::Viewer, password, now()).unwrap_err();
            assert!(error.to_string().contains(why), "{name:?}: {error}");
        }
        accounts.add_user("김민수", Role::Viewer, GOOD, now()).unwrap();
        let error = accounts.add_user("김민수", Role::Viewer, GOOD, now()).unwrap_err();
        assert!(matches!(error, AccountError::Taken { .. }));
        assert!(password::is_right(GOOD.as_bytes(), &accounts.users["김민수"].password_hash));
    }

    #[test]
    fn one_administrator_is_left_as_long_as_there_is_anyone() {
        let mut accounts = Accounts::default();
        accounts.add_user("root", Role::Administrator, GOOD, now()).unwrap();
        accounts.add_user("kim", Role::Viewer, GOOD, now()).unwrap();
        let last = |error| matches!(error, AccountError::LastAdministrator { .. });
        assert!(last(accounts.remove_user("root").unwrap_err()));
        assert!(last(accounts.set_role("root", Role::Viewer).unwrap_err()));
        accounts.set_role("kim", Role::Administrator).unwrap();
        accounts.remove_user("root").unwrap();
        accounts.remove_user("kim").unwrap();
        assert!(accounts.is_empty());
    }

    /// As the node and the command line do at the same time.
    #[test]
    fn changes_of_two_hands_are_all_kept() {
        let folder = tempfile::tempdir().unwrap();
        let add = |hand: usize| {
            for n in 0..20 {
                let ends = None;
                let name = format!("token-{hand}-{n}");
                change(folder.path(), |all| all.add_token(&name, vec![Right::View], ends, now()))
                    .unwrap();
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|hand| drop(scope.spawn(move || add(hand)))));
        assert_eq!(read(&folder.path().join(ACCOUNTS_FILE)).unwrap().tokens.len(), 80);
    }

    #[test]
    fn a_token_holds_until_it_ends() {
        let mut accounts = Accounts::default();
        let ends = now() + jiff::SignedDuration::from_hours(24);
        let token = accounts.add_token("ris", vec![Right::Send], Some(ends), now()).unwrap();
        assert_eq!(accounts.by_token(&token, now()).unwrap().0, "ris");
        assert!(accounts.by_token(&token, ends).is_none(), "ended");
        for wrong in
            ["", "ris", "prelim_ris@", &token[..token.len() - 1], &token.replace("ris", "x")]
        {
            assert!(accounts.by_token(wrong, now()).is_none(), "{wrong}");
        }
        let text = toml::to_string(&accounts).unwrap();
        let (_, secret) = token.rsplit_once('@').unwrap();
        assert!(!text.contains(secret), "only its digest is kept");
        accounts.remove_token("ris").unwrap();
        assert!(accounts.by_token(&token, now()).is_none(), "removed");
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(ACCOUNTS_FILE);
        let live = Live::open(folder.path()).unwrap();
        let later = || std::thread::sleep(LOOK + Duration::from_millis(20));
        assert!(live.look().0.is_empty());
        let mut accounts = Accounts::default();
        accounts.add_user("root", Role::Administrator, GOOD, now()).unwrap();
        write(&file, &accounts).unwrap();
        later();
        let (known, changes) = live.look();
        assert!(known.users.contains_key("root"));
        let line = "changed accounts: root added as administrator".to_owned();
        assert_eq!(changes, [Change { line, user: Some("root".into()) }]);
        for bad in ["users = 3", "[users.root]\nrole = \"king\"\n"] {
            std::fs::write(&file, bad).unwrap();
            later();
            assert!(live.look().0.users.contains_key("root"), "{bad}");
            assert!(live.problem().is_some(), "{bad}");
            assert!(Live::open(folder.path()).is_err(), "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        later();
        assert!(live.look().0.users.contains_key("root"), "a lost file opens nothing");
    }
}
