//! Section `http`.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde::Deserialize;
use serde::Serialize;

use crate::dicom::access::Addresses;
use crate::dicom::tls;
use crate::domain::secret::Secret;
use crate::web::access::oidc;
use crate::web::below;
use crate::web::dicomweb;

/// The web page, the API and who may see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port. On loopback everyone on this machine may look; elsewhere a token is needed.
    pub listen: SocketAddr,
    /// HTTPS, on an address of its own.
    pub tls: tls::Config,
    /// Who has to log in.
    pub login: Login,
    /// File with the access token of whoever runs the node: one line of at least 16 characters.
    pub token_file: Option<PathBuf>,
    /// Login by the identity provider of the site.
    pub oidc: oidc::Config,
    /// Names under which a proxy in front is called, e.g. `prelim.hospital.example`.
    pub hosts_allowed: Vec<String>,
    /// Path of a portal below which a proxy shows the pages, e.g. `/prelim`. Empty: as its
    /// X-Forwarded-Prefix says, else none.
    pub base_path: String,
    /// Addresses of proxies in front, whose `X-Forwarded-For` says who asks.
    pub trusted_proxies: Vec<Addresses>,
    /// True when a proxy in front speaks HTTPS: browsers then send the session only there.
    pub secure_cookie: bool,
    /// Hours after which a person has to log in again.
    pub session_hours: u64,
    /// Connections at one time.
    pub connections_max: usize,
    /// Requests at one time; more are answered 503.
    pub requests_max: usize,
    /// Pages that watch for changes at one time.
    pub watchers_max: usize,
    /// Uploads at one time.
    pub uploads_max: usize,
    /// Size of one uploaded file.
    pub upload_bytes_max: u64,
    /// Size of all files of one request to `batch-analyze`.
    pub batch_bytes_max: u64,
    /// Requests of one caller to the API in a minute; 0: any number.
    pub requests_per_minute_max: u32,
    /// Seconds for the head of a request, and for an idle connection.
    pub header_timeout_s: u64,
    /// Seconds for a request that is no upload.
    pub request_timeout_s: u64,
    /// Seconds for an upload.
    pub upload_timeout_s: u64,
    /// Studies on the worklist page.
    pub worklist_max: usize,
    /// DICOMweb at `/dicom-web`.
    pub dicomweb: dicomweb::Config,
}

/// Who has to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// Everyone, once somebody has an account or a token. Before, everyone on this machine may all.
    Auto,
    /// Everyone, also while nobody can.
    Required,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
            tls: tls::Config {
                client_certificates: tls::ClientCertificates::None,
                ..tls::Config::default()
            },
            login: Login::Auto,
            token_file: None,
            oidc: oidc::Config::default(),
            hosts_allowed: Vec::new(),
            base_path: String::new(),
            trusted_proxies: Vec::new(),
            secure_cookie: false,
            session_hours: 12,
            connections_max: 256,
            requests_max: 64,
            watchers_max: 64,
            uploads_max: 4,
            upload_bytes_max: 512 << 20,
            batch_bytes_max: 2 << 30,
            requests_per_minute_max: 1200,
            header_timeout_s: 15,
            request_timeout_s: 30,
            upload_timeout_s: 900,
            worklist_max: 200,
            dicomweb: dicomweb::Config::default(),
        }
    }
}

/// Characters below which a token can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error(
        "http.token_file {path}: {source}; put the access token there, e.g. by `openssl rand -hex 32`"
    )]
    Unreadable { path: String, source: std::io::Error },
    #[error(
        "http.token_file {path} holds {found} characters; a token needs at least {TOKEN_CHARS_MIN} that a header can carry, without spaces"
    )]
    Unusable { path: String, found: usize },
    #[error("http.token_file {path} can be read by every user of this machine: chmod o= {path}")]
    Open { path: String },
    #[error(
        "{0} can be reached from other machines, and the pages show patients: set http.login = \
             \"required\" and make accounts (prelim user add), or name a file with an access token in \
             http.token_file, or listen on 127.0.0.1"
    )]
    Missing(String),
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        if below::path(&self.base_path).is_none() {
            let found = &self.base_path;
            let why = "links would lead nowhere";
            problems.push(format!("{at}.base_path = {found:?}: use e.g. \"/prelim\"; {why}"));
        }
        let mut range = |key: &str, found: u64, low: u64, high: u64, default: u64, why: &str| {
            if !(low..=high).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use {low} to {high} (default {default}); {why}"
                ));
            }
        };
        let standard = Config::default();
        let few = "with none nobody is served, with too many the machine runs out of memory";
        for (key, found, high, default) in [
            ("connections_max", self.connections_max, 65_536, standard.connections_max),
            ("requests_max", self.requests_max, 4096, standard.requests_max),
            ("watchers_max", self.watchers_max, 4096, standard.watchers_max),
            ("uploads_max", self.uploads_max, 256, standard.uploads_max),
            ("worklist_max", self.worklist_max, 2000, standard.worklist_max),
        ] {
            range(key, found as u64, 1, high, default as u64, few);
        }
        let size = "one X-ray has 20 MB, one large multi-frame object some GB";
        let (found, default) = (self.upload_bytes_max, standard.upload_bytes_max);
        range("upload_bytes_max", found, 1 << 20, 64 << 30, default, size);
        let (found, default) = (self.batch_bytes_max, standard.batch_bytes_max);
        range(
            "batch_bytes_max",
            found,
            self.upload_bytes_max,
            1 << 40,
            default,
            "one file has to fit",
        );
        let wait = "shorter cuts off slow lines, longer lets silent ones fill the place";
        for (key, found, high, default) in [
            ("header_timeout_s", self.header_timeout_s, 600, standard.header_timeout_s),
            ("request_timeout_s", self.request_timeout_s, 3600, standard.request_timeout_s),
            ("upload_timeout_s", self.upload_timeout_s, 86_400, standard.upload_timeout_s),
            ("session_hours", self.session_hours, 168, standard.session_hours),
        ] {
            range(key, found, 1, high, default, wait);
        }
        self.dicomweb.check(&format!("{at}.dicomweb"), problems);
        self.oidc.check(&format!("{at}.oidc"), problems);
        self.tls.check(&format!("{at}.tls"), problems);
        if let Err(error @ TokenError::Missing(_)) = self.token_is_named() {
            problems.push(error.to_string());
        }
        for all in self.trusted_proxies.iter().filter(|proxies| proxies.is_everyone()) {
            problems.push(format!(
                "{at}.trusted_proxies = {all}: everyone could claim to be anyone; name the proxy alone"
            ));
        }
        if !self.hosts_allowed.is_empty() && !self.has_login() {
            problems.push(format!(
                "{at}.hosts_allowed is set and nobody has to log in: a proxy in front would show \
                 patients to everyone; set {at}.login = \"required\" or name a file in {at}.token_file"
            ));
        }
    }

    fn has_login(&self) -> bool {
        self.token_file.is_some() || self.login == Login::Required || self.oidc.is_on()
    }

    /// Whether only this machine can ask.
    pub fn is_loopback(&self) -> bool {
        let tls: Option<SocketAddr> = self.tls.listen.parse().ok();
        self.listen.ip().is_loopback() && tls.is_none_or(|tls| tls.ip().is_loopback())
    }

    fn token_is_named(&self) -> Result<(), TokenError> {
        match (self.has_login() || self.is_loopback(), self.listen.ip().is_loopback()) {
            (true, _) => Ok(()),
            (false, false) => Err(TokenError::Missing(format!("http.listen = {}", self.listen))),
            (false, true) => {
                Err(TokenError::Missing(format!("http.tls.listen = {}", self.tls.listen)))
            }
        }
    }

    /// Looks at the file itself, where it is there: whether it holds a token, and for whom.
    ///
    /// # Errors
    /// [`TokenError`], also of a token that others can read.
    pub fn check_token_file(&self) -> Result<(), TokenError> {
        let Some(file) = self.token_file.as_ref().filter(|file| file.exists()) else {
            return Ok(());
        };
        let path = file.display().to_string();
        let mode = std::fs::metadata(file).map(|meta| meta.permissions().mode());
        match mode {
            Ok(mode) if mode & 0o004 != 0 => Err(TokenError::Open { path }),
            Ok(_) => self.token().map(drop),
            Err(source) => Err(TokenError::Unreadable { path, source }),
        }
    }

    /// The access token, none when everyone on this machine may look.
    ///
    /// # Errors
    /// [`TokenError`]: then the node must not start.
    pub fn token(&self) -> Result<Option<Secret>, TokenError> {
        self.token_is_named()?;
        let Some(file) = &self.token_file else { return Ok(None) };
        let path = file.display().to_string();
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(source) => return Err(TokenError::Unreadable { path, source }),
        };
        let token = text.trim();
        match token.len() >= TOKEN_CHARS_MIN && token.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Some(Secret::new(token))),
            false => Err(TokenError::Unusable { path, found: token.chars().count() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outside_of_loopback_a_token_is_needed() {
        let mut config = Config::default();
        assert_eq!(config.token().unwrap(), None);
        config.listen = "0.0.0.0:8080".parse().unwrap();
        assert!(matches!(config.token(), Err(TokenError::Missing(_))));
        let mut problems = Vec::new();
        config.check("http", &mut problems);
        assert_eq!(problems.len(), 1, "{problems:?}");

        let file = tempfile::NamedTempFile::new().unwrap();
        config.token_file = Some(file.path().to_owned());
        std::fs::write(file.path(), "short\n").unwrap();
        assert!(matches!(config.token(), Err(TokenError::Unusable { found: 5, .. })));
        assert!(config.check_token_file().is_err());
        std::fs::write(file.path(), "0123456789abcdef\n").unwrap();
        assert!(config.check_token_file().is_ok());
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(matches!(config.check_token_file(), Err(TokenError::Open { .. })));
        assert_eq!(config.token().unwrap().unwrap().expose(), "0123456789abcdef");
        problems.clear();
        config.check("http", &mut problems);
        assert!(problems.is_empty(), "{problems:?}");
    }
}
