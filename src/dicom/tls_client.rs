//! DICOM over TLS as requestor (PS3.15 B.9).

use std::fmt;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::io::ReadBuf;

use crate::dicom::pdu::Transport;
use crate::dicom::socket::Socket;
use crate::dicom::tls;
use crate::dicom::tls::TlsError;
use crate::dicom::tls::Version;

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
    /// - `ca_file`: the roots that sign the peer's certificate.
    /// - `own`: certificate and key files to show, where the peer asks for one.
    pub fn new(
        ca_file: &Path,
        own: Option<(&Path, &Path)>,
        server_name: Option<String>,
    ) -> Result<Client, TlsError> {
        let roots = tls::roots(ca_file)?;
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_protocol_versions(Version::Tls12.and_later())?
            .with_root_certificates(roots);
        let config = match own {
            Some((certificate_file, key_file)) => {
                let pair = tls::own(certificate_file, key_file)?;
                let always = rustls::sign::SingleCertAndKey::from(pair);
                builder.with_client_cert_resolver(Arc::new(always))
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Client { config: Arc::new(config), server_name })
    }

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
