//! DICOM over TLS as requestor (PS3.15 B.9): the `tls` table of who is called, and what to do when
//! it fails.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use jiff::Timestamp;
use rustls::AlertDescription;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::sign::CertifiedKey;
use rustls::sign::SingleCertAndKey;
use serde::Deserialize;
use serde::Serialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::dicom::certificate;
use crate::dicom::pdu::Transport;
use crate::dicom::socket::Socket;
use crate::dicom::tls;
use crate::dicom::tls::TlsError;
use crate::dicom::tls::Version;
use crate::dicom::tls_named::Named;

/// The `tls` table of a peer that we call: with it, it is called over TLS and never without.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PEM file with the roots that sign the peer's certificate, or that certificate itself.
    pub ca_file: PathBuf,
    /// PEM file with our certificate and those between it and the root, for a peer that wants one.
    pub certificate_file: Option<PathBuf>,
    /// PEM file with its private key.
    pub key_file: Option<PathBuf>,
    /// Name that the peer's certificate has to hold; none: the host that is called.
    pub server_name: Option<String>,
    #[serde(default = "default_version_min")]
    pub version_min: Version,
}

fn default_version_min() -> Version {
    Version::Tls12
}

/// Settings that name files with which TLS cannot be spoken now. They may be there later:
/// certificates are renewed.
#[derive(Debug, thiserror::Error)]
#[error("tls.{key} cannot be used: {source}")]
pub struct FileError {
    /// The key within the `tls` table.
    pub key: &'static str,
    pub source: TlsError,
}

impl Config {
    /// Adds one line to `problems` for each value that cannot work.
    ///
    /// - `address`: `host:port` that is called.
    pub fn check(&self, at: &str, address: &str, problems: &mut Vec<String>) {
        if let Err(error) = tls::roots(&self.ca_file) {
            problems.push(format!("{at}.ca_file: {error}; the peer could not be known"));
        }
        match self.own() {
            Ok(_) => {}
            Err(FileError { key, source: TlsError::NotSet { .. } }) => problems.push(format!(
                "{at}.{key} is needed: {at}.certificate_file and {at}.key_file are of use only together"
            )),
            Err(FileError { key, source }) => problems.push(format!(
                "{at}.{key}: {source}; a peer that wants our certificate would refuse us"
            )),
        }
        let name = self.server_name.as_deref().unwrap_or_else(|| host(address));
        if ServerName::try_from(name).is_err() {
            problems.push(format!(
                "{at}.server_name: {name:?} is no name that a certificate could hold; use the host name or IP address that stands in the peer's, e.g. \"pacs.hospital.example\""
            ));
        }
    }

    /// Reads the files as they are now.
    pub fn client(&self) -> Result<Client, FileError> {
        let of = |key| move |source| FileError { key, source };
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(self.version_min.and_later())
            .map_err(TlsError::from)
            .map_err(of("version_min"))?
            .dangerous()
            .with_custom_certificate_verifier(Named::of(&self.ca_file).map_err(of("ca_file"))?);
        let config = match self.own()? {
            Some(own) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))),
            None => builder.with_no_client_auth(),
        };
        Ok(Client::of(Arc::new(config), self.server_name.clone()))
    }

    /// What we show to a peer that wants a certificate.
    fn own(&self) -> Result<Option<CertifiedKey>, FileError> {
        let not_set = |key| FileError { key, source: TlsError::NotSet { key } };
        let of = |key| move |source| FileError { key, source };
        let (certificate_file, key_file) = match (&self.certificate_file, &self.key_file) {
            (None, None) => return Ok(None),
            (Some(_), None) => return Err(not_set("key_file")),
            (None, Some(_)) => return Err(not_set("certificate_file")),
            (Some(certificate_file), Some(key_file)) => (certificate_file, key_file),
        };
        tls::certificates(certificate_file).map_err(of("certificate_file"))?;
        tls::own(certificate_file, key_file).map(Some).map_err(of("key_file"))
    }
}

/// The client of a `tls` table, none where there is none. For each connection anew: what was renewed
/// is used without a restart.
pub async fn read(config: Option<&Config>) -> Result<Option<Client>, FileError> {
    let Some(config) = config else { return Ok(None) };
    let (owned, file) = (config.clone(), config.ca_file.display().to_string());
    let read = tokio::task::spawn_blocking(move || owned.client()).await;
    let client = read.unwrap_or_else(|stopped| {
        let source = TlsError::Read { file, source: io::Error::other(stopped) };
        Err(FileError { key: "ca_file", source })
    });
    client.map(Some)
}

/// The requestor's side. Two are equal when they are the same one.
#[derive(Clone)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// Whom the certificate has to name; none: the host that is called.
    server_name: Option<String>,
}

impl PartialEq for Client {
    fn eq(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.config, &other.config) && self.server_name == other.server_name
    }
}

impl Eq for Client {}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.server_name)
    }
}

impl Client {
    /// A requestor with a configuration of its own making.
    pub fn of(config: Arc<ClientConfig>, server_name: Option<String>) -> Client {
        Client { config, server_name }
    }

    /// - `address`: `host:port`, as it was called.
    pub async fn connect(&self, address: &str, stream: Socket) -> io::Result<ClientStream> {
        let host = self.server_name.as_deref().unwrap_or_else(|| host(address)).to_owned();
        let name = ServerName::try_from(host)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.config));
        Ok(ClientStream::Tls(Box::new(connector.connect(name, stream).await?)))
    }
}

/// Why a handshake failed, and what to do about it.
pub fn handshake_failed(error: &io::Error) -> String {
    match tls_error(error) {
        Some(error) => explain(error),
        None if error.kind() == io::ErrorKind::InvalidInput => error.to_string(),
        None => format!("it ended the connection ({error}); it may speak no TLS on this port"),
    }
}

/// The same of a connection that ended before the answer to the association request: in TLS 1.3 a
/// peer looks at our certificate only when our side of the handshake is done.
pub fn ended_after_handshake(error: Option<&io::Error>) -> String {
    match error.and_then(tls_error) {
        Some(error) => explain(error),
        None => "it ended the connection after the handshake, most likely because of our \
                 certificate: it wants one, or does not trust its root"
            .to_owned(),
    }
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// What went wrong in a handshake, and what to do about it.
pub fn explain(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(error) => of_certificate(error),
        rustls::Error::AlertReceived(alert) => of_alert(*alert),
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            "it does not answer in TLS: it may be its port without".to_owned()
        }
        rustls::Error::PeerIncompatible(_) => {
            format!("no TLS version or cipher suite in common ({error})")
        }
        // rustls's enum, not ours.
        _ => error.to_string(),
    }
}

/// What is wrong with the peer's certificate.
fn of_certificate(error: &CertificateError) -> String {
    let day = |at: &UnixTime| {
        let at = i64::try_from(at.as_secs()).ok().and_then(|s| Timestamp::from_second(s).ok());
        at.map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
    };
    match error {
        // A bad signature: a root of the same name with another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "its certificate is signed by none of the roots that are \
             trusted: add the root that signs it to ca_file; of a self-signed one, the certificate \
             itself"
                .to_owned()
        }
        CertificateError::ExpiredContext { not_after, .. } => format!(
            "its certificate expired on {}: it has to be renewed there, or the clock here is wrong",
            day(not_after)
        ),
        CertificateError::NotValidYetContext { not_before, .. } => format!(
            "its certificate is not valid before {}: compare the clocks of both",
            day(not_before)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names: Vec<String> = presented.iter().take(5).map(|name| bare(name)).collect();
            let names = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            format!(
                "its certificate is not for {} but for {names}: set server_name to the right one, \
                 or have it issued for this name",
                expected.to_str()
            )
        }
        CertificateError::Expired => {
            "its certificate has expired: it has to be renewed there".to_owned()
        }
        CertificateError::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity") => {
            "its certificate is self-signed: name it in ca_file to trust it".to_owned()
        }
        // rustls's enum, not ours.
        _ => format!("its certificate cannot be trusted ({error})"),
    }
}

/// The name in `DnsName("pacs.example")`.
fn bare(presented: &str) -> String {
    let inside = presented.split_once('(').map_or(presented, |(_, inside)| inside);
    certificate::printable(inside.trim_end_matches(')').trim_matches('"'))
}

/// What the peer says of us.
fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => {
            "it wants a certificate of ours: set certificate_file and key_file".to_owned()
        }
        AlertDescription::UnknownCA => {
            "it does not trust our certificate: the root that signs it has to be added there"
                .to_owned()
        }
        AlertDescription::CertificateExpired => {
            "our certificate has expired: renew certificate_file and key_file".to_owned()
        }
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied
        | AlertDescription::DecryptError => {
            format!("it refuses our certificate ({alert:?}): compare it with what it wants")
        }
        AlertDescription::HandshakeFailure => {
            "it refused the handshake: it wants a certificate of ours, or no cipher suite is in \
             common"
                .to_owned()
        }
        AlertDescription::ProtocolVersion => {
            "it speaks no TLS version that is allowed here (version_min)".to_owned()
        }
        // rustls's enum, not ours.
        _ => format!("it ended the handshake with the alert {alert:?}"),
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// A requestor's connection.
pub enum ClientStream {
    Plain(Socket),
    Tls(Box<tokio_rustls::client::TlsStream<Socket>>),
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_read(context, into),
            ClientStream::Tls(stream) => Pin::new(stream).poll_read(context, into),
        }
    }
}

impl Transport for ClientStream {}

impl AsyncWrite for ClientStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            ClientStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            ClientStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            ClientStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            ClientStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
#[path = "tls_client_tests.rs"]
mod tests;
