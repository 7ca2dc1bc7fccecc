//! DICOM over TLS (PS3.15 B.9 to B.13, BCP 195) as acceptor, and what both sides need: TLS 1.2 and
//! 1.3 with the suites of rustls, which has no others. Certificates are read again without a restart.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use jiff::Timestamp;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::SupportedProtocolVersion;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use serde::Deserialize;
use serde::Serialize;

use crate::dicom::certificate;
use crate::dicom::certificate::Described;
use crate::dicom::pdu::Transport;
use crate::dicom::socket::Socket;
use crate::domain::in_force::InForce;
use crate::files::Mark;
use crate::files::mark;

/// Whether peers show a certificate of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    Required,
    /// Checked when there is one.
    Optional,
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
pub enum Version {
    #[serde(rename = "1.2")]
    Tls12,
    #[serde(rename = "1.3")]
    Tls13,
}

impl Version {
    /// This one and later ones.
    pub fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] =
            [&rustls::version::TLS13, &rustls::version::TLS12];
        match self {
            Version::Tls12 => &ALL,
            Version::Tls13 => &ALL[..1],
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Version::Tls12 => "1.2",
            Version::Tls13 => "1.3",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; empty: no TLS.
    pub listen: String,
    /// PEM file with our certificate and those between it and the root.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// PEM file with the roots that sign the certificates of peers.
    pub client_ca_file: Option<PathBuf>,
    pub client_certificates: ClientCertificates,
    pub version_min: Version,
    /// Seconds from the connection to the end of the handshake.
    pub handshake_s: u64,
    /// Seconds between two looks whether a file has changed.
    pub reload_s: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: String::new(),
            certificate_file: None,
            key_file: None,
            client_ca_file: None,
            client_certificates: ClientCertificates::Required,
            version_min: Version::Tls12,
            handshake_s: 10,
            reload_s: 5,
        }
    }
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    pub fn check(&self, at: &str, problems: &mut Vec<String>) {
        for (key, found, to) in
            [("handshake_s", self.handshake_s, 600), ("reload_s", self.reload_s, 86_400)]
        {
            if !(1..=to).contains(&found) {
                problems.push(format!(
                    "{at}.{key} = {found}: use 1 to {to}; peers would be cut off, or files not seen"
                ));
            }
        }
        if !self.is_on() {
            return;
        }
        if self.listen.parse::<SocketAddr>().is_err() {
            problems.push(format!(
                "{at}.listen = \"{}\": use address:port, e.g. \"0.0.0.0:2762\"; nothing could be received",
                self.listen
            ));
        }
        let ca = match self.client_certificates {
            ClientCertificates::Required | ClientCertificates::Optional => Some((
                "client_ca_file",
                &self.client_ca_file,
                "no peer could be told from another; or set client_certificates = \"none\"",
            )),
            ClientCertificates::None => None,
        };
        let own = [
            ("certificate_file", &self.certificate_file, "there would be nothing to show to peers"),
            ("key_file", &self.key_file, "the certificate could not be used"),
        ];
        for (key, file, why) in own.into_iter().chain(ca) {
            if file.is_none() {
                problems.push(format!("{at}.{key} is needed with {at}.listen: {why}"));
            }
        }
    }

    pub fn is_on(&self) -> bool {
        !self.listen.is_empty()
    }

    fn files(&self) -> [Option<&Path>; 3] {
        [&self.certificate_file, &self.key_file, &self.client_ca_file].map(Option::as_deref)
    }
}

/// Why TLS cannot be spoken with these files.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{key} is not set")]
    NotSet { key: &'static str },
    #[error("{file}: {source}")]
    Read { file: String, source: io::Error },
    #[error("{file}: no {what} in PEM form stands there")]
    Nothing { file: String, what: &'static str },
    #[error("{file}: {why}")]
    Unusable { file: String, why: String },
    #[error("{cert} and {key} do not belong together")]
    Mismatch { cert: String, key: String },
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// The cipher suites and algorithms, without a provider of the whole process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(file: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(file).map_err(|source| TlsError::Read { file: file.display().to_string(), source })
}

/// The certificates of a PEM file, at least one.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(file)?;
    let name = file.display().to_string();
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(TlsError::Nothing { file: name, what: "certificate" }),
        Ok(found) => Ok(found),
        Err(error) => Err(TlsError::Unusable { file: name, why: error.to_string() }),
    }
}

/// Certificate chain and key, which belong together.
pub fn own(certificate_file: &Path, key_file: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(certificate_file)?;
    let (cert, key) = (certificate_file.display().to_string(), key_file.display().to_string());
    let secret = PrivateKeyDer::from_pem_slice(&read(key_file)?)
        .map_err(|_| TlsError::Nothing { file: key.clone(), what: "private key" })?;
    match CertifiedKey::from_der(chain, secret, &provider()) {
        Ok(pair) => Ok(pair),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Mismatch { cert, key }),
        Err(error) => Err(TlsError::Unusable { file: key, why: error.to_string() }),
    }
}

/// The roots of a PEM file.
pub fn roots(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(file)? {
        roots.add(certificate).map_err(|error| TlsError::Unusable {
            file: file.display().to_string(),
            why: error.to_string(),
        })?;
    }
    Ok(roots)
}

/// What the acceptor speaks.
struct Loaded {
    config: Arc<ServerConfig>,
    own: Option<Described>,
}

fn load(config: &Config) -> Result<Loaded, TlsError> {
    let need = |file: &Option<PathBuf>, key| file.clone().ok_or(TlsError::NotSet { key });
    let certificate_file = need(&config.certificate_file, "certificate_file")?;
    let pair = own(&certificate_file, &need(&config.key_file, "key_file")?)?;
    let described = pair.cert.first().and_then(certificate::describe);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(config.version_min.and_later())?;
    let builder = match config.client_certificates {
        ClientCertificates::None => builder.with_no_client_auth(),
        ClientCertificates::Required | ClientCertificates::Optional => {
            let ca_file = need(&config.client_ca_file, "client_ca_file")?;
            let roots = Arc::new(roots(&ca_file)?);
            let mut verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            if config.client_certificates == ClientCertificates::Optional {
                verifier = verifier.allow_unauthenticated();
            }
            let verifier = verifier.build().map_err(|error| TlsError::Unusable {
                file: ca_file.display().to_string(),
                why: error.to_string(),
            })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let always = rustls::sign::SingleCertAndKey::from(pair);
    Ok(Loaded { config: Arc::new(builder.with_cert_resolver(Arc::new(always))), own: described })
}

/// The acceptor's side: the certificate of now.
pub struct Server {
    config: InForce<Config>,
    now: Mutex<Current>,
}

struct Current {
    loaded: Loaded,
    marks: [Option<Mark>; 3],
    problem: Option<String>,
}

impl Server {
    /// # Errors
    /// The files cannot be used. A certificate that is not valid now is told, and used.
    pub fn new(config: &Config) -> Result<Server, TlsError> {
        let (marks, loaded) = (marks(config), load(config)?);
        let problem = loaded.own.as_ref().and_then(|own| own.time_problem(Timestamp::now()));
        if let Some(problem) = &problem {
            tracing::warn!(problem, "the TLS certificate of this node");
        }
        tell_expiry(&loaded);
        let now = Mutex::new(Current { loaded, marks, problem });
        Ok(Server { config: InForce::new(config.clone()), now })
    }

    /// Takes other settings, for handshakes from now on.
    ///
    /// # Errors
    /// The files cannot be used: nothing has changed.
    pub fn configure(&self, config: &Config) -> Result<(), TlsError> {
        if *self.config.now() != *config {
            let made = Server::new(config)?;
            let made = made.now.into_inner().unwrap_or_else(PoisonError::into_inner);
            *self.lock() = made;
            self.config.replace(config.clone());
        }
        Ok(())
    }

    pub fn acceptor(&self) -> tokio_rustls::TlsAcceptor {
        Arc::clone(&self.lock().loaded.config).into()
    }

    pub fn handshake_limit(&self) -> Duration {
        Duration::from_secs(self.config.now().handshake_s)
    }

    pub fn reload_pause(&self) -> Duration {
        Duration::from_secs(self.config.now().reload_s)
    }

    /// What an operator should know.
    pub fn problem(&self) -> Option<String> {
        self.lock().problem.clone()
    }

    /// Reads the files if one has changed, or whether or not (`force`). What cannot be used, or is
    /// not valid now while the old certificate is, is told, and the old one stays.
    pub fn reload(&self, force: bool) {
        let (marks, now) = (marks(&self.config.now()), Timestamp::now());
        if !force && self.lock().marks == marks {
            return;
        }
        let loaded = load(&self.config.now());
        let mut current = self.lock();
        current.marks = marks;
        let is_good = |loaded: &Loaded| {
            loaded.own.as_ref().is_none_or(|certificate| certificate.is_valid_at(now))
        };
        let problem = match loaded {
            Ok(new) if is_good(&new) || !is_good(&current.loaded) => {
                let subject = new.own.as_ref().map(|own| own.subject.clone()).unwrap_or_default();
                tracing::info!(subject, "the TLS certificate was read again");
                current.problem = new.own.as_ref().and_then(|own| own.time_problem(now));
                tell_expiry(&new);
                current.loaded = new;
                return;
            }
            Ok(new) => new.own.and_then(|own| own.time_problem(now)).unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        tracing::error!(problem, "the new TLS certificate cannot be used; the old one stays");
        metrics::counter!("prelim_tls_reload_failures_total").increment(1);
        current.problem =
            Some(format!("the new TLS certificate cannot be used, the old one stays: {problem}"));
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn marks(config: &Config) -> [Option<Mark>; 3] {
    config.files().map(|file| file.and_then(mark))
}

fn tell_expiry(loaded: &Loaded) {
    if let Some(own) = &loaded.own {
        let expires = own.not_after.as_second() as f64;
        metrics::gauge!("prelim_tls_certificate_expires_timestamp_seconds").set(expires);
    }
}

/// What a handshake agreed on, in one line: version, suite, the peer's certificate.
pub fn agreed(connection: &rustls::CommonState) -> (String, Option<Described>) {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
        other => format!("{other:?}"),
    };
    let suite = connection.negotiated_cipher_suite();
    let suite = suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default();
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    (format!("{version} {suite}"), certificate.and_then(certificate::describe))
}

impl Transport for tokio_rustls::server::TlsStream<Socket> {}

#[cfg(test)]
#[path = "tls_tests.rs"]
pub mod tests;
