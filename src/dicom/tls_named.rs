//! Whom a client over TLS trusts: who is signed by a root of its file, and whoever stands in that file
//! themselves: many devices and test servers have a certificate that nobody signed but they.

use std::sync::Arc;

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::verify_server_name;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::server::ParsedCertificate;

use crate::dicom::certificate;
use crate::dicom::tls;
use crate::dicom::tls::TlsError;

/// The roots of a file, and its certificates by themselves.
#[derive(Debug)]
pub struct Named {
    roots: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl Named {
    /// - `file`: certificates in PEM form.
    ///
    /// # Errors
    /// [`TlsError`]: it cannot be read, or holds none.
    pub fn of(file: &std::path::Path) -> Result<Arc<Named>, TlsError> {
        let (named, roots) = (tls::certificates(file)?, tls::roots(file)?);
        let roots = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider());
        let roots = roots.build().map_err(|error| TlsError::Unusable {
            file: file.display().to_string(),
            why: error.to_string(),
        })?;
        Ok(Arc::new(Named { roots, named }))
    }
}

/// Whether a certificate was refused because nobody signed it, and not for what it says.
fn is_of_the_signer(error: &Error) -> bool {
    match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => true,
        // A root that is used as a server's own, in the words of the library below.
        Error::InvalidCertificate(CertificateError::Other(other)) => {
            other.0.to_string().contains("CaUsedAsEndEntity")
        }
        _ => false,
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let error = match self.roots.verify_server_cert(own, between, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        if !is_of_the_signer(&error) || !self.named.iter().any(|named| named == own) {
            return Err(error);
        }
        verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
        let bad = || Error::InvalidCertificate(CertificateError::BadEncoding);
        let about = certificate::describe(own).ok_or_else(bad)?;
        let second = i64::try_from(now.as_secs()).map_err(|_| bad())?;
        let at = Timestamp::from_second(second).map_err(|_| bad())?;
        match about.is_valid_at(at) {
            true => Ok(ServerCertVerified::assertion()),
            false if at < about.not_before => {
                Err(Error::InvalidCertificate(CertificateError::NotValidYet))
            }
            false => Err(Error::InvalidCertificate(CertificateError::Expired)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.roots.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.roots.supported_verify_schemes()
    }
}
