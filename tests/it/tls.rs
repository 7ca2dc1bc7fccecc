//! DICOM over TLS to whom the node calls: an archive, an archive that is asked, a requester of
//! storage commitment.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::access::Certificates;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::run;
use crate::node::said;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::services::CT;
use crate::services::CT_SMALL;
use crate::services::PATIENT;
use crate::services::closed_because;
use crate::services::ct1_at;
use crate::services::history;
use crate::services::lines;
use crate::services::peer;
use crate::services::reference;
use crate::services::series;
use crate::way::files;

/// Settings of a `tls` table with the certificate of ct1.
fn table(at: &str, made: &Certificates, ca_file: &str) -> Vec<String> {
    vec![
        format!("{at}.tls.ca_file={ca_file}"),
        format!("{at}.tls.certificate_file={}", made.at("ct1.crt")),
        format!("{at}.tls.key_file={}", made.at("ct1.key")),
    ]
}

fn words(settings: &[String]) -> Vec<&str> {
    settings.iter().map(String::as_str).collect()
}

/// Why the delivery of a study to a destination waits, as `prelim queue` says it.
fn waits_because(node: &Node, study: &str, destination: &str) -> String {
    let id = format!("{study}/1/deliver/sr.dcm/pacs.{destination}");
    wait_for("a failed try", || {
        let mut queue = Command::new(PRELIM);
        let shown = run(queue.args(["queue", "--json", "--data"]).arg(&node.data));
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let rows = shown["jobs"].as_array().unwrap();
        let row = rows.iter().find(|row| row["job"]["id"] == id)?;
        let cause = row["cause"].as_str().unwrap();
        assert_ne!(row["state"], "dead", "{row:#}");
        (!cause.is_empty()).then(|| cause.to_owned())
    })
}

/// DCMTK's storescp wants a certificate that the hospital's root signed.
fn storescp(made: &Certificates, folder: &Path) -> (Background, u16) {
    std::fs::create_dir_all(folder).unwrap();
    let port = free_port();
    let mut storescp = Command::new("storescp");
    storescp.args(["--fork", "-od"]).arg(folder).arg("+tls");
    storescp.args([made.at("node.key"), made.at("node.crt")]);
    storescp.args(["+cf", &made.at("ca.crt"), &port.to_string()]);
    let process = Background(storescp.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    wait_until_listening(port);
    (process, port)
}

/// Five destinations, which are one archive: what fits is delivered, what does not waits and says
/// what to do. The files are read for each connection.
#[test]
fn results_go_to_an_archive_over_tls_and_wait_where_it_cannot_be_known() {
    let folder = tempfile::tempdir().unwrap();
    let (made, other) = (Certificates::new(), Certificates::new());
    let pacs_folder = folder.path().join("pacs");
    let (_pacs, port) = storescp(&made, &pacs_folder);
    let ca_file = folder.path().join("ca.pem");
    std::fs::copy(made.at("ca.crt"), &ca_file).unwrap();
    let mut set = Vec::new();
    for name in ["good", "stranger", "misnamed", "nameless", "plain"] {
        let at = format!("deliver.pacs.{name}");
        set.push(format!("{at}={{ae_title=\"PACS\", address=\"127.0.0.1:{port}\", timeout_s=5, artefacts=[\"sr\"]}}"));
        match name {
            "good" => set.extend(table(&at, &made, &ca_file.display().to_string())),
            "stranger" => set.extend(table(&at, &made, &other.at("ca.crt"))),
            "misnamed" => {
                set.extend(table(&at, &made, &made.at("ca.crt")));
                set.push(format!("{at}.tls.server_name=pacs.example"));
            }
            "nameless" => set.push(format!("{at}.tls.ca_file={}", made.at("ca.crt"))),
            _ => {}
        }
    }
    let node = Node::start(&folder.path().join("data"), &words(&set));
    node.send(&series(folder.path(), "1.2.77.1", 1, &[]));
    let arrived = |count: usize| {
        wait_for("a result", || Some(files(&pacs_folder)).filter(|files| files.len() == count))
    };
    let dump = run(Command::new("dcmdump").args(["+P", "0020,000D"]).arg(&arrived(1)[0]));
    assert!(said(&dump).contains("[1.2.77.1]"), "{}", said(&dump));
    for (destination, why) in [
        (
            "stranger",
            "its certificate is signed by none of the roots that are trusted: add the root that signs it to ca_file",
        ),
        (
            "misnamed",
            "its certificate is not for pacs.example but for localhost, 127.0.0.1: set server_name",
        ),
        ("nameless", "it wants a certificate of ours"),
        ("plain", "no connection"),
    ] {
        let cause = waits_because(&node, "1.2.77.1", destination);
        assert!(cause.contains(why), "{destination}: {cause}");
    }
    let queue = run(Command::new(PRELIM).args(["queue", "--data"]).arg(&node.data));
    assert!(said(&queue).contains("pacs.stranger"), "{}", said(&queue));

    // A root that is replaced counts at once, for better or worse.
    std::fs::copy(other.at("ca.crt"), &ca_file).unwrap();
    node.send(&series(folder.path(), "1.2.77.2", 1, &[]));
    let cause = waits_because(&node, "1.2.77.2", "good");
    assert!(cause.contains("none of the roots that are trusted"), "{cause}");
    std::fs::write(&ca_file, "nonsense").unwrap();
    node.send(&series(folder.path(), "1.2.77.3", 1, &[]));
    let cause = waits_because(&node, "1.2.77.3", "good");
    assert!(cause.contains("tls.ca_file cannot be used") && cause.contains("ca.pem"), "{cause}");
    std::fs::copy(made.at("ca.crt"), &ca_file).unwrap();
    node.send(&series(folder.path(), "1.2.77.4", 1, &[]));
    arrived(2);
}

#[test]
fn an_archive_is_asked_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (made, port) = (Certificates::new(), free_port());
    let mut archive = peer("find_scp.py");
    archive.args([port.to_string(), "2".to_owned(), made.at("node.crt"), made.at("node.key")]);
    let _archive = Background(archive.arg(made.at("ca.crt")).spawn().unwrap());
    wait_until_listening(port);
    let mut set = table("assemble.query", &made, &made.at("ca.crt"));
    set.push(format!("assemble.query.archive=ARCHIVE@localhost:{port}"));
    set.push("assemble.query.interval_s=1".to_owned());
    set.extend(PATIENT.map(str::to_owned));
    let node = Node::start(&folder.path().join("data"), &words(&set));
    let files = series(folder.path(), "1.2.77.1", 2, &[]);
    node.send(&files[..1]);
    wait_for("a count", || {
        let shown = study(&node.data, "1.2.77.1")?;
        history(&shown).contains("holds 2 instances").then_some(())
    });
    node.send(&files[1..]);
    let shown = node.study_in("1.2.77.1", "delivered");
    assert_eq!(closed_because(&shown), "2 instances, all 2 images came (ARCHIVE)");
}

#[test]
fn a_commitment_is_reported_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (made, port) = (Certificates::new(), free_port());
    let mut set = ct1_at(port).to_vec();
    set.extend(table("commitment.peers.ct1", &made, &made.at("ca.crt")));
    set.push("commitment.peers.ct1.tls.version_min=\"1.3\"".to_owned());
    let node = Node::start(folder.path(), &words(&set));
    node.send(&[pydicom_file("CT_small.dcm")]);
    let mut scanner = peer("commitment.py");
    scanner.args([&node.dicom.port().to_string(), "1.2.9.1", &reference(CT, CT_SMALL)]);
    scanner.args(["--listen", &port.to_string(), "--tls", &made.at("node.crt")]);
    let said = lines(&run(scanner.args([made.at("node.key"), made.at("ca.crt")])).stdout);
    assert_eq!(said[1]["status"], "0000", "{said:?}");
    assert_eq!((&said[2]["event"], &said[2]["same_association"]), (&1.into(), &false.into()));
    assert_eq!(said[2]["kept"][0], CT_SMALL);
}

/// All that is wrong with the files, before anything is called.
#[test]
fn check_config_names_what_is_wrong_with_the_files() {
    let (folder, made) = (tempfile::tempdir().unwrap(), Certificates::new());
    let file = folder.path().join("prelim.toml");
    let text = format!(
        "[deliver.pacs.main]\nae_title = 'PACS'\naddress = 'pacs:104'\n\
         tls = {{ ca_file = '/nowhere/ca.crt', certificate_file = '{cert}', key_file = '{key}' }}\n\
         [deliver.pacs.other]\nae_title = 'PACS'\naddress = 'pacs:104'\ntls = {{}}\n\
         [commitment.peers.ct1]\nae_title = 'CT1'\naddress = 'ct1:104'\n\
         tls = {{ ca_file = '{key}', certificate_file = '{cert}' }}\n\
         [assemble.query]\narchive = 'PACS@pacs:104'\n\
         tls = {{ ca_file = '{ca}', server_name = 'a b', version_min = '1.1' }}\n",
        cert = made.at("ct1.crt"),
        key = made.at("node.key"),
        ca = made.at("ca.crt"),
    );
    std::fs::write(&file, text).unwrap();
    let checked = Command::new(PRELIM).arg("check-config").arg(&file).output().unwrap();
    assert_eq!(checked.status.code(), Some(1));
    let checked = said(&checked);
    for line in [
        "deliver.pacs.main.tls.ca_file: /nowhere/ca.crt: No such file or directory",
        "deliver.pacs.main.tls.key_file: ",
        "do not belong together",
        "missing field `ca_file`",
        "commitment.peers.ct1.tls.ca_file: ",
        "no certificate in PEM form stands there",
        "commitment.peers.ct1.tls.key_file is needed",
        "'1.1' is not known; use one of 1.2, 1.3",
        "assemble.query.tls.server_name: \"a b\" is no name",
    ] {
        assert!(checked.contains(line), "no '{line}' in\n{checked}");
    }
}
