use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::*;
use crate::dicom::storage_scu;
use crate::dicom::storage_scu::ScuError;
use crate::dicom::storage_scu::Target;
use crate::dicom::storage_scu::Timeouts;
use crate::dicom::tls::Server;
use crate::dicom::tls::tests::Files;
use crate::dicom::tls::tests::NOW;
use crate::domain::ae_title::AeTitle;

/// Why a C-ECHO over TLS to this peer fails; the peer says nothing after its handshake.
async fn failure(peer: Option<Server>, config: &Config) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    TaskTracker::new().spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        match peer {
            Some(server) => drop(server.acceptor().accept(socket).await),
            None => drop(socket),
        }
    });
    let ae_title = AeTitle::parse("PEER").unwrap();
    let tls = Some(config.client().unwrap());
    let target = Target { calling_ae: ae_title.clone(), ae_title, address, tls };
    let wait = Duration::from_secs(5);
    let timeouts = Timeouts { connect: wait, answer: wait, write: wait };
    let error = storage_scu::echo(&target, &timeouts).await.unwrap_err();
    assert!(matches!(error, ScuError::Tls { .. }), "{error:?}");
    assert!(error.is_transient(), "certificates are renewed: {error}");
    error.to_string()
}

#[tokio::test]
async fn a_failed_handshake_says_what_to_do() {
    let files = Files::new();
    let server = || Some(Server::new(&files.config()).unwrap());
    let config = files.client_config();
    let stranger = Files::new();

    let unknown = Config { ca_file: stranger.at("ca.crt"), ..config.clone() };
    let said = failure(server(), &unknown).await;
    assert!(said.starts_with("TLS with localhost:"), "{said}");
    assert!(
        said.contains("none of the roots that are trusted: add the root that signs it to ca_file")
    );

    let other = Config { server_name: Some("pacs.example".into()), ..config.clone() };
    let said = failure(server(), &other).await;
    assert!(said.contains("is not for pacs.example but for localhost: set server_name"), "{said}");

    // TLS 1.3: both only after our side of the handshake.
    let none = Config { certificate_file: None, key_file: None, ..config.clone() };
    let said = failure(server(), &none).await;
    assert!(
        said.contains("wants a certificate of ours: set certificate_file and key_file"),
        "{said}"
    );
    let untrusted = Config {
        certificate_file: Some(stranger.at("client.crt")),
        key_file: Some(stranger.at("client.key")),
        ..config.clone()
    };
    let said = failure(server(), &untrusted).await;
    assert!(said.contains("our certificate"), "{said}");

    // Nothing after the handshake; nothing at all.
    let said = failure(server(), &config).await;
    assert!(said.contains("after the handshake, most likely because of our certificate"), "{said}");
    let said = failure(None, &config).await;
    assert!(said.contains("it may speak no TLS on this port"), "{said}");

    for (years, expected) in [
        ((2010, 2011), "expired on 2011-01-01: it has to be renewed"),
        ((2080, 2090), "is not valid before 2080-01-01"),
    ] {
        files.renew("localhost", years);
        let said = failure(server(), &config).await;
        assert!(said.contains(expected), "{said}");
    }
    files.renew("localhost", NOW);
}

/// Each client has the files as they are when it is made.
#[tokio::test]
async fn files_that_cannot_be_used_are_named_by_their_key() {
    let files = Files::new();
    let config = files.client_config();
    assert!(read(None).await.unwrap().is_none());
    assert!(read(Some(&config)).await.unwrap().is_some());
    files.put("ca.crt", "nonsense");
    let error = ScuError::from(read(Some(&config)).await.unwrap_err());
    let said = error.to_string();
    assert!(said.starts_with("tls.ca_file cannot be used: "), "{said}");
    assert!(said.ends_with("ca.crt: no certificate in PEM form stands there"), "{said}");
    assert!(error.is_transient());
}

#[test]
fn settings_that_cannot_work_are_named() {
    let files = Files::new();
    let good = files.client_config();
    let problems = |config: Config, address: &str| {
        let mut problems = Vec::new();
        config.check("x.tls", address, &mut problems);
        problems
    };
    assert_eq!(problems(good.clone(), "pacs:104"), Vec::<String>::new());
    let least: Config = toml::from_str(&format!("ca_file = {:?}", good.ca_file)).unwrap();
    let bare = Config {
        certificate_file: None,
        key_file: None,
        server_name: None,
        version_min: Version::Tls12,
        ..good.clone()
    };
    assert_eq!(least, bare);
    for address in ["pacs:104", "10.0.0.5:104", "[::1]:104", "pacs_1.example:104"] {
        assert_eq!(problems(least.clone(), address), Vec::<String>::new(), "{address}");
    }
    let with = |name: &str| Some(files.at(name));
    let cases = [
        (
            Config { ca_file: "/nowhere".into(), ..good.clone() },
            "x.tls.ca_file: /nowhere: No such file",
        ),
        (
            Config { ca_file: files.at("client.key"), ..good.clone() },
            "no certificate in PEM form stands there; the peer",
        ),
        (Config { key_file: None, ..good.clone() }, "x.tls.key_file is needed: "),
        (Config { certificate_file: None, ..good.clone() }, "x.tls.certificate_file is needed: "),
        (
            Config { certificate_file: with("client.key"), ..good.clone() },
            "x.tls.certificate_file: ",
        ),
        (Config { key_file: with("client.crt"), ..good.clone() }, "no private key in PEM form"),
        (Config { key_file: with("own.key"), ..good.clone() }, "do not belong together; a peer"),
        (
            Config { server_name: Some("a b".into()), ..good.clone() },
            "x.tls.server_name: \"a b\" is no name",
        ),
    ];
    for (config, expected) in cases {
        let found = problems(config, "pacs:104");
        assert!(matches!(&found[..], [one] if one.contains(expected)), "{expected}: {found:?}");
    }
}

#[test]
fn the_host_of_an_address() {
    assert_eq!(host("pacs.example:104"), "pacs.example");
    assert_eq!(host("[::1]:104"), "::1");
    assert_eq!(host("10.0.0.1:2762"), "10.0.0.1");
}
