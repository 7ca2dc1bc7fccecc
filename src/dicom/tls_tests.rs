use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::IsCa;
use rcgen::Issuer;
use rcgen::KeyPair;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::*;
use crate::dicom::tls_client;
use crate::dicom::tls_client::Client;
use crate::dicom::tls_client::ClientStream;

/// A root and what it signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Root");
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for `name`, valid from `years.0` to `years.1`.
    fn sign(&self, name: &str, years: (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key.serialize_pem())
    }
}

pub const NOW: (i32, i32) = (2020, 2090);

pub struct Files {
    folder: tempfile::TempDir,
    root: Authority,
}

impl Files {
    pub fn new() -> Files {
        let (folder, root) = (tempfile::tempdir().unwrap(), Authority::new());
        let files = Files { folder, root };
        files.put("ca.crt", &files.root.pem);
        files.renew("localhost", NOW);
        let (cert, key) = files.root.sign("ct1", NOW);
        files.put("client.crt", &cert);
        files.put("client.key", &key);
        files
    }

    pub fn renew(&self, name: &str, years: (i32, i32)) {
        let (cert, key) = self.root.sign(name, years);
        self.put("own.crt", &cert);
        self.put("own.key", &key);
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn put(&self, name: &str, text: &str) {
        fs::write(self.at(name), text).unwrap();
    }

    pub fn config(&self) -> Config {
        Config {
            listen: "127.0.0.1:0".to_owned(),
            certificate_file: Some(self.at("own.crt")),
            key_file: Some(self.at("own.key")),
            client_ca_file: Some(self.at("ca.crt")),
            ..Config::default()
        }
    }

    fn client(&self, with_certificate: bool) -> Client {
        let mut config = self.client_config();
        if !with_certificate {
            (config.certificate_file, config.key_file) = (None, None);
        }
        config.client().unwrap()
    }

    /// With a certificate.
    pub fn client_config(&self) -> tls_client::Config {
        tls_client::Config {
            ca_file: self.at("ca.crt"),
            certificate_file: Some(self.at("client.crt")),
            key_file: Some(self.at("client.key")),
            server_name: Some("localhost".to_owned()),
            version_min: Version::Tls12,
        }
    }
}

/// Whether a client can say a word; what both sides know of each other.
async fn meet(server: &Server, client: &Client) -> Result<(String, String), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = server.acceptor();
    let served = TaskTracker::new().spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let mut stream = acceptor.accept(socket).await.map_err(|e| e.to_string())?;
        let (tls, certificate) = agreed(stream.get_ref().1);
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.map_err(|e| e.to_string())?;
        stream.write_all(&word).await.map_err(|e| e.to_string())?;
        stream.flush().await.map_err(|e| e.to_string())?;
        Ok::<_, String>((tls, certificate.map(|c| c.subject).unwrap_or_default()))
    });
    let socket = Socket::new(TcpStream::connect(&address).await.unwrap());
    let mut stream = client.connect(&address, socket).await.map_err(|e| e.to_string())?;
    let spoken = async {
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        stream.read_exact(&mut [0; 5]).await
    };
    let heard = spoken.await.map_err(|e| e.to_string());
    let known = served.await.unwrap()?;
    heard.map(|_| known)
}

#[tokio::test]
async fn certificates_are_mutual_and_read_again() {
    let files = Files::new();
    let server = Server::new(&files.config()).unwrap();
    assert_eq!(server.problem(), None);
    let (tls, subject) = meet(&server, &files.client(true)).await.unwrap();
    assert!(tls.starts_with("TLS 1.3 TLS13_"), "{tls}");
    assert!(subject.contains("CN=ct1"), "{subject}");
    let refused = meet(&server, &files.client(false)).await.unwrap_err();
    assert!(refused.contains("ertificate"), "{refused}");

    // A client of another root.
    let stranger = Files::new();
    fs::copy(files.at("ca.crt"), stranger.at("ca.crt")).unwrap();
    assert!(meet(&server, &stranger.client(true)).await.is_err());

    // Bad new ones are refused and the old one stays.
    let before = serial_of(&server, &files).await;
    files.put("own.key", "nonsense");
    server.reload(false);
    assert!(server.problem().unwrap().contains("private key"), "{:?}", server.problem());
    files.put("own.key", &KeyPair::generate().unwrap().serialize_pem());
    server.reload(false);
    assert!(server.problem().unwrap().contains("do not belong together"));
    files.renew("localhost", (2010, 2011));
    server.reload(false);
    assert!(server.problem().unwrap().contains("expired on 2011-01-01"));
    assert_eq!(serial_of(&server, &files).await, before);
    // A good one is taken.
    files.renew("localhost", (2021, 2091));
    server.reload(false);
    assert_eq!(server.problem(), None);
    assert_ne!(serial_of(&server, &files).await, before);
}

/// Serial number of the certificate that the server shows.
async fn serial_of(server: &Server, files: &Files) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = server.acceptor();
    TaskTracker::new().spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let _ = acceptor.accept(socket).await;
    });
    let socket = Socket::new(TcpStream::connect(&address).await.unwrap());
    match files.client(true).connect(&address, socket).await.unwrap() {
        ClientStream::Tls(stream) => agreed(stream.get_ref().1).1.unwrap().serial,
        ClientStream::Plain(_) => panic!("no TLS"),
    }
}

#[tokio::test]
async fn the_settings_say_who_needs_a_certificate_and_which_version() {
    let files = Files::new();
    for (client_certificates, without, with) in [
        (ClientCertificates::Required, false, true),
        (ClientCertificates::Optional, true, true),
        (ClientCertificates::None, true, true),
    ] {
        let config = Config { client_certificates, ..files.config() };
        let server = Server::new(&config).unwrap();
        let found = (
            meet(&server, &files.client(false)).await.is_ok(),
            meet(&server, &files.client(true)).await.is_ok(),
        );
        assert_eq!(found, (without, with), "{client_certificates:?}");
    }
}

#[test]
fn what_is_wrong_with_the_files_is_told() {
    let files = Files::new();
    let error = |config: &Config| Server::new(config).err().unwrap().to_string();
    let with = |name: &str| Some(files.at(name));
    let config = files.config();
    let missing = error(&Config { key_file: with("nowhere"), ..config.clone() });
    assert!(missing.contains("nowhere: No such file"), "{missing}");
    let swapped = error(&Config { certificate_file: with("own.key"), ..config.clone() });
    assert!(swapped.contains("no certificate in PEM form"), "{swapped}");
    let other = error(&Config { key_file: with("client.key"), ..config.clone() });
    assert!(other.contains("do not belong together"), "{other}");
    assert!(error(&Config { client_ca_file: None, ..config }).contains("client_ca_file"));
    let mut problems = Vec::new();
    Config { listen: "0.0.0.0:2762".into(), ..Config::default() }.check("dicom.tls", &mut problems);
    assert_eq!(problems.len(), 3, "{problems:?}");
}
