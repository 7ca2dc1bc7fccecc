//! `prelim tls-check`: what is wrong with a certificate, ours or a peer's.

use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use serde::Serialize;
use tokio::net::TcpStream;

use crate::cli;
use crate::cli::CouldNotStart;
use crate::config;
use crate::config::Sources;
use crate::dicom::certificate;
use crate::dicom::certificate::Described;
use crate::dicom::socket::Socket;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls;
use crate::dicom::tls::ClientCertificates;
use crate::dicom::tls::Version;
use crate::dicom::tls_client;
use crate::dicom::tls_client::Client;
use crate::dicom::tls_client::ClientStream;
use crate::domain::ae_title::AeTitle;

/// TLS as a requestor.
#[derive(Debug, clap::Args)]
pub struct ClientArgs {
    /// Speak TLS
    #[arg(long, requires = "ca")]
    tls: bool,
    /// PEM file with the roots that sign the peer's certificate
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with our certificate, for peers that want one
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// PEM file with its private key
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Name that the peer's certificate has to hold, instead of the host that is called
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
}

impl ClientArgs {
    /// None: without TLS.
    pub fn client(&self) -> Result<Option<Client>, CouldNotStart> {
        let Some(ca_file) = self.ca.clone().filter(|_| self.tls) else { return Ok(None) };
        let config = tls_client::Config {
            ca_file,
            certificate_file: self.cert.clone(),
            key_file: self.key.clone(),
            server_name: self.server_name.clone(),
            version_min: Version::Tls12,
        };
        let client = config.client();
        client.map(Some).map_err(|error| CouldNotStart(error.source.to_string()))
    }
}

/// Check the certificates of this node, or call a peer and say what is wrong with its TLS
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  prelim tls-check --config /etc/prelim/prelim.toml
  prelim tls-check PACS@10.0.0.5:2762 --config /etc/prelim/prelim.toml
  prelim tls-check 10.0.0.5:2762 --ca hospital-ca.crt

A peer is called with the certificate of the settings, or with --cert and --key; with an AE title a
C-ECHO follows. Exit code: 0 nothing wrong, 1 something is, 2 it could not be checked.")]
pub struct Args {
    /// A peer, host:port or AE@host:port; without: the files of this node's own settings
    #[arg(value_name = "AE@HOST:PORT")]
    peer: Option<String>,
    /// Settings file (TOML)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A setting that replaces the file's, as `prelim serve` takes it
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
    /// PEM file with the roots that should have signed the peer's certificate
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with a certificate to show to the peer, and its key
    #[arg(long, value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Name that the peer's certificate has to hold, instead of the host that is called
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Print {"problems", "notes", "certificates", …}
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default, Serialize)]
struct Findings {
    /// What has to be repaired.
    problems: Vec<String>,
    /// What is good to know.
    notes: Vec<String>,
    /// The first is the one that is shown, the others are between it and the root.
    certificates: Vec<Described>,
}

pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let sources = Sources { file: args.config.as_deref(), environment: true, set: &args.set };
    let settings = config::load(&sources)?.dicom.tls;
    let findings = match &args.peer {
        None => own(&settings),
        Some(peer) => cli::block_on(of_peer(&args, &settings, peer))?,
    };
    if args.json {
        cli::print_json(&findings)?;
    } else {
        print(&findings);
    }
    Ok(ExitCode::from(u8::from(!findings.problems.is_empty())))
}

fn print(findings: &Findings) {
    for (i, found) in findings.certificates.iter().enumerate() {
        println!("{}", if i == 0 { "Certificate" } else { "Signed by" });
        let names = match found.names.is_empty() {
            true => "(none)".to_owned(),
            false => found.names.join(", "),
        };
        let dates = format!("{} to {}", cli::time(found.not_before), cli::time(found.not_after));
        for (what, text) in [
            ("subject", &found.subject),
            ("issuer", &found.issuer),
            ("names", &names),
            ("valid", &dates),
            ("key", &found.key),
            ("SHA-256", &found.sha256),
        ] {
            println!("  {what:<8} {}", cli::plain(text));
        }
    }
    for note in &findings.notes {
        println!("{}", cli::plain(note));
    }
    for problem in &findings.problems {
        println!("problem: {}", cli::plain(problem));
    }
    if findings.problems.is_empty() {
        println!("ok");
    }
}

/// What has to be repaired in the files of this node's own settings.
pub fn problems(settings: &tls::Config) -> Vec<String> {
    own(settings).problems
}

/// The files of this node's own settings.
fn own(settings: &tls::Config) -> Findings {
    let mut found = Findings::default();
    if !settings.is_on() {
        found.notes.push("dicom.tls.listen is empty: this node speaks no TLS".to_owned());
    }
    let certificate = settings.certificate_file.as_deref();
    let roots = settings.client_ca_file.as_deref().map(tls::roots).transpose();
    match certificate.map(tls::certificates) {
        None => found.problems.push("dicom.tls.certificate_file is not set".to_owned()),
        Some(Err(error)) => found.problems.push(error.to_string()),
        Some(Ok(chain)) => judge(&chain, &mut found),
    }
    match (certificate, settings.key_file.as_deref()) {
        (Some(certificate), Some(key)) => {
            match tls::own(certificate, key) {
                Ok(_) => found.notes.push("the key belongs to the certificate".to_owned()),
                Err(error) => found.problems.push(error.to_string()),
            }
            found.problems.extend(open_to_others(key));
        }
        (_, None) => found.problems.push("dicom.tls.key_file is not set".to_owned()),
        (None, Some(_)) => {}
    }
    match (roots, settings.client_certificates) {
        (Err(error), _) => found.problems.push(error.to_string()),
        (Ok(None), ClientCertificates::Required | ClientCertificates::Optional) => {
            found.problems.push("dicom.tls.client_ca_file is not set".to_owned());
        }
        (Ok(Some(roots)), _) => {
            found.notes.push(format!("{} roots may sign the certificates of peers", roots.len()));
        }
        (Ok(None), ClientCertificates::None) => {
            found.notes.push("peers show no certificate: whoever can call can send".to_owned());
        }
    }
    if found.problems.is_empty()
        && let Err(error) = tls::Server::new(settings)
    {
        found.problems.push(error.to_string());
    }
    found.problems.dedup();
    found
}

/// A private key that more than its owner and group can read.
fn open_to_others(key: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        format!(
            "{}: everyone on this machine can use the key (mode {:o})",
            key.display(),
            mode & 0o777
        )
    })
}

/// Describes a chain, and what is wrong with it by itself.
fn judge(chain: &[CertificateDer<'_>], found: &mut Findings) {
    let now = Timestamp::now();
    for (i, der) in chain.iter().enumerate() {
        let Some(described) = certificate::describe(der) else {
            found.problems.push(format!("certificate {} cannot be read", i + 1));
            continue;
        };
        let named = |what: String| match i {
            0 => what,
            _ => format!("{} (of {})", what, described.subject),
        };
        found.problems.extend(described.time_problem(now).map(named));
        found.problems.extend(described.key_problem().map(named));
        if i == 0 && described.names.is_empty() {
            found.problems.push(
                "it holds no name (Subject Alternative Name): peers that compare names refuse it"
                    .to_owned(),
            );
        }
        if i == 0 && described.is_ca {
            let why = "it may sign others (CA:TRUE): peers with rustls refuse it as an end";
            found.problems.push(why.to_owned());
        }
        if let Some(before) = found.certificates.last()
            && before.issuer != described.subject
        {
            found.problems.push(format!("it is not followed by its issuer {}", before.issuer));
        }
        found.certificates.push(described);
    }
}

/// Calls a peer.
async fn of_peer(args: &Args, settings: &tls::Config, peer: &str) -> anyhow::Result<Findings> {
    let (title, address) = match peer.split_once('@') {
        Some((title, address)) => (Some(AeTitle::parse(title)?), address),
        None => (None, peer),
    };
    let mut found = Findings::default();
    let could_not = |error: tls::TlsError| CouldNotStart(error.to_string());
    let ca = args.ca.as_deref().or(settings.client_ca_file.as_deref());
    let roots = ca.map(tls::roots).transpose().map_err(could_not)?;
    let own = args.cert.as_deref().zip(args.key.as_deref());
    let own = own.or(settings.certificate_file.as_deref().zip(settings.key_file.as_deref()));
    let own = own.map(|(cert, key)| tls::own(cert, key)).transpose().map_err(could_not)?;
    let shows_own = own.is_some();

    let builder = ClientConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Looker));
    let config = match own {
        Some(pair) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)))
        }
        None => builder.with_no_client_auth(),
    };
    let client = Client::of(Arc::new(config), args.server_name.clone());
    let timeouts = Timeouts { connect: Duration::from_secs(10), ..Timeouts::default() };
    let connect = async {
        let stream = TcpStream::connect(address).await?;
        client.connect(address, Socket::new(stream)).await
    };
    let stream = match tokio::time::timeout(timeouts.connect, connect).await {
        Err(_) => return Err(CouldNotStart(format!("{address}: nothing came in time")).into()),
        Ok(Err(error)) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
            found.problems.push(format!("the handshake failed: {error}"));
            return Ok(found);
        }
        Ok(Err(error)) => return Err(CouldNotStart(format!("{address}: {error}")).into()),
        Ok(Ok(stream)) => stream,
    };
    let ClientStream::Tls(mut stream) = stream else { return Ok(found) };
    let connection = stream.get_ref().1;
    found.notes.push(tls::agreed(connection).0);
    let chain = connection.peer_certificates().unwrap_or_default().to_vec();
    let host = args.server_name.as_deref().unwrap_or_else(|| tls_client::host(address));
    judge(&chain, &mut found);
    found.problems.extend(untrusted(&chain, roots, host));
    // In TLS 1.3 a server refuses our certificate only after its own part is done.
    if let Some(alert) = alert(&mut stream).await {
        let hint = if shows_own { "" } else { "; show it one with --cert and --key" };
        found.problems.push(format!("the peer ended the connection: {alert}{hint}"));
    } else if let Some(ae_title) = title {
        drop(stream);
        let target = Target {
            ae_title,
            calling_ae: AeTitle::parse("PRELIM")?,
            address: address.to_owned(),
            tls: Some(client),
        };
        match storage_scu::echo(&target, &timeouts).await {
            Ok(()) => found.notes.push("it answers a C-ECHO".to_owned()),
            Err(error) => found.problems.push(format!("no C-ECHO: {error}")),
        }
    }
    Ok(found)
}

/// What the peer says within a moment without being asked, if it is an end.
async fn alert(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Option<String> {
    use tokio::io::AsyncReadExt as _;
    let heard = tokio::time::timeout(Duration::from_millis(500), stream.read(&mut [0; 1])).await;
    match heard {
        Err(_) | Ok(Ok(1..)) => None,
        Ok(Ok(_)) => Some("closed".to_owned()),
        Ok(Err(error)) => Some(error.to_string()),
    }
}

/// Why a strict client would not trust this chain.
fn untrusted(
    chain: &[CertificateDer<'_>],
    roots: Option<RootCertStore>,
    host: &str,
) -> Vec<String> {
    let Some((end, between)) = chain.split_first() else {
        return vec!["it showed no certificate".to_owned()];
    };
    let Some(roots) = roots else {
        let why = "not compared with a root: name the peer's with --ca or dicom.tls.client_ca_file";
        return vec![why.to_owned()];
    };
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), tls::provider());
    let (Ok(verifier), Ok(name)) = (verifier.build(), ServerName::try_from(host.to_owned())) else {
        return vec![format!("'{host}' is no name that a certificate could hold")];
    };
    match verifier.verify_server_cert(end, between, &name, &[], UnixTime::now()) {
        Ok(_) => Vec::new(),
        Err(error) => vec![format!("a strict client refuses it as {host}: {error}")],
    }
}

/// Takes every certificate: it is looked at afterwards. Signatures are checked, so the peer has
/// the key of what it shows.
#[derive(Debug)]
struct Looker;

impl ServerCertVerifier for Looker {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        tls::provider().signature_verification_algorithms.supported_schemes()
    }
}
