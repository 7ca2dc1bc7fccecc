//! Who did what: read back from the ledger, and proven by its hash chain.

use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::access::Certificates;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::wait_for;
use crate::node::wait_until_listening;

fn audit(data: &Path, words: &[&str]) -> (Value, Option<i32>) {
    let mut command = Command::new(PRELIM);
    let output = command.arg("audit").args(words).args(["--json", "--data"]).arg(data).output();
    let output = output.unwrap();
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    let value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said()));
    (value, output.status.code())
}

/// On a node at work and on one that has ended: the same rows, the same chain, and what is changed
/// behind its back is named.
#[test]
fn the_ledger_says_who_did_what_and_proves_that_nobody_changed_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let node = Node::start(&data, &[]);
    let file = dir.path().join("study.dcm");
    let uid = chest_xray("normal_IM-0016-0001.jpeg", &file, &[]);
    node.send(&[file]);
    node.study_in(&uid, "delivered");

    let (page, code) = audit(&data, &["list", "--study", &uid]);
    let row = &page["rows"][0];
    assert_eq!((row["deed"].as_str(), row["by"].as_str()), (Some("looked"), Some("command line")));
    assert_eq!(code, Some(0), "{page:#}");
    let (nobody, code) = audit(&data, &["list", "--who", "nobody of this name"]);
    assert_eq!((nobody["rows"].as_array().map(Vec::len), code), (Some(0), Some(1)));
    let (running, code) = audit(&data, &["verify"]);
    assert_eq!((running["whole"].as_bool(), code), (Some(true), Some(0)), "{running:#}");
    let head = running["report"]["head"].as_str().unwrap().to_owned();
    assert_eq!(node.terminate(), Some(0));

    let (later, _) = audit(&data, &["list", "--study", &uid]);
    assert_eq!(later["rows"].as_array().unwrap().last(), page["rows"].as_array().unwrap().last());
    let (ended, code) = audit(&data, &["verify", "--head", &head]);
    assert_eq!((ended["node_was_running"].as_bool(), code), (Some(false), Some(0)), "{ended:#}");
    assert!(ended["report"]["earlier"].as_u64() > Some(0), "{ended:#}");
    let (other, code) = audit(&data, &["verify", "--head", &"0".repeat(64)]);
    assert_eq!(code, Some(1), "{other:#}");

    let ledger = data.join("ledger/00000001.log");
    let mut bytes = std::fs::read(&ledger).unwrap();
    let at = bytes.windows(12).position(|part| part == b"command line").unwrap();
    bytes[at..at + 12].copy_from_slice(b"nobody at al");
    std::fs::write(&ledger, bytes).unwrap();
    let (changed, code) = audit(&data, &["verify"]);
    let problem = changed["report"]["problems"][0].as_str().unwrap();
    assert!(code == Some(1) && problem.contains("00000001.log"), "{changed:#}");
    assert!(problem.contains("record"), "{problem}");
}

/// An audit record repository of its own kind, over TLS, which wants our certificate.
fn repository(made: &Certificates, port: u16, out: &Path) -> Background {
    let mut peer = Command::new(python());
    peer.arg(root().join("tests/peers/audit_peer.py")).arg(port.to_string()).arg(out);
    peer.args([made.at("node.crt"), made.at("node.key"), made.at("ca.crt")]);
    let process = Background(peer.stderr(Stdio::null()).spawn().unwrap());
    wait_until_listening(port);
    process
}

/// The messages that came, each as the repository understood it; none may be wrong.
fn messages(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    let all: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(all.iter().all(|message| message["wrong"].is_null()), "{all:#?}");
    all
}

fn wait_for_message(out: &Path, event: &str, part: &str) -> Value {
    wait_for(&format!("{event} {part}"), || {
        let fits =
            |message: &Value| message["event"] == event && message.to_string().contains(part);
        messages(out).into_iter().find(fits)
    })
}

/// What a study goes through arrives as DICOM audit messages, over a server that was away and over
/// a restart of the node; no message names the patient.
#[test]
fn audit_messages_reach_the_hospitals_repository_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (made, port) = (Certificates::new(), free_port());
    let (data, out) = (dir.path().join("data"), dir.path().join("messages"));
    let reports = dir.path().join("reports");
    let set = [
        format!("audit.syslog.address=127.0.0.1:{port}"),
        format!("audit.syslog.tls.ca_file={}", made.at("ca.crt")),
        format!("audit.syslog.tls.certificate_file={}", made.at("ct1.crt")),
        format!("audit.syslog.tls.key_file={}", made.at("ct1.key")),
        format!("deliver.folder.share.path={}", reports.display()),
    ];
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    let server = repository(&made, port, &out);
    let node = Node::start(&data, &set);
    wait_for_message(&out, "110100", "110120");

    let file = dir.path().join("study.dcm");
    let uid = chest_xray(
        "normal_IM-0016-0001.jpeg",
        &file,
        &["PatientID=HIDDEN-7", "PatientName=Hidden^Person"],
    );
    node.send(&[file]);
    node.study_in(&uid, "delivered");
    let received = wait_for_message(&out, "110104", &uid);
    assert!(received["raw"].as_str().unwrap().contains("NumberOfInstances=\"1\""), "{received:#}");
    wait_for_message(&out, "110106", "folder.share");
    wait_for_message(&out, "110103", &uid);

    // Nobody listens: what is done meanwhile waits, over a kill too.
    drop(server);
    audit(&data, &["list"]);
    node.kill();
    let node = Node::start(&data, &set);
    wait_for("a warning", || node.log().contains("audit messages do not arrive").then_some(()));
    let _server = repository(&made, port, &out);
    wait_for_message(&out, "110101", "/audit");
    assert_eq!(node.terminate(), Some(0));
    wait_for_message(&out, "110100", "110121");
    let all = std::fs::read_to_string(&out).unwrap();
    assert!(!all.contains("HIDDEN") && !all.contains("Hidden"), "{all}");
}

/// Without TLS, as syslog servers on the same machine have it.
#[test]
fn audit_messages_go_by_tcp_and_by_datagrams_too() {
    let dir = tempfile::tempdir().unwrap();
    for transport in ["tcp", "udp"] {
        let (port, out) = (free_port(), dir.path().join(transport));
        let mut peer = Command::new(python());
        peer.arg(root().join("tests/peers/audit_peer.py")).arg(port.to_string()).arg(&out);
        let peer = match transport {
            "udp" => peer.arg("udp"),
            _ => &mut peer,
        };
        let _peer = Background(peer.stderr(Stdio::null()).spawn().unwrap());
        wait_for("a peer that listens", || is_open(transport, port).then_some(()));
        let set = [
            format!("audit.syslog.address=127.0.0.1:{port}"),
            format!("audit.syslog.transport={transport}"),
        ];
        let node = Node::start(&dir.path().join(format!("data-{transport}")), &[&set[0], &set[1]]);
        wait_for_message(&out, "110100", "110120");
        assert_eq!(node.terminate(), Some(0));
        wait_for_message(&out, "110100", "110121");
    }
}

/// As the kernel's table says: a datagram to nobody is not answered.
fn is_open(transport: &str, port: u16) -> bool {
    let table = std::fs::read_to_string(format!("/proc/net/{transport}")).unwrap();
    table.contains(&format!("0100007F:{port:04X} 00000000:0000"))
}
