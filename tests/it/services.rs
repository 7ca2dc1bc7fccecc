//! Services beside storage, with real peers: storage commitment, performed procedure steps, the
//! query of an archive, and what makes a study complete.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::node::Background;
use crate::node::Node;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;

const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
const CT_SMALL: &str = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322";
const CT_SMALL_STUDY: &str = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";

fn peer(script: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/peers").join(script));
    command
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `commitment.py` says.
fn commitment(node: &Node, transaction: &str, references: &[&str], more: &[&str]) -> Vec<Value> {
    let mut command = peer("commitment.py");
    command.args([&node.dicom.port().to_string(), transaction]).args(references).args(more);
    lines(&run(&mut command).stdout)
}

fn reference(class: &str, instance: &str) -> String {
    format!("{class}:{instance}")
}

fn history(study: &Value) -> String {
    let rows = study["history"].as_array().unwrap();
    let text = |row: &Value| format!("{}: {}\n", row["what"], row["detail"]);
    rows.iter().map(text).collect()
}

#[test]
fn a_commitment_is_reported_on_the_requesters_association_if_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    let kept = reference(CT, CT_SMALL);
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--stay", "10"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    assert_eq!(said[1]["event"], 1, "{said:?}");
    assert_eq!(said[1]["same_association"], true);
    assert_eq!(said[1]["kept"][0], CT_SMALL);

    // Not there, and of another class: why, in the words of PS3.3 C.14.
    let (other, gone) = (reference(MR, CT_SMALL), reference(CT, "1.2.3.4"));
    let said = commitment(&node, "1.2.9.2", &[&kept, &other, &gone], &["--stay", "10"]);
    assert_eq!(said[1]["event"], 2, "{said:?}");
    assert_eq!(said[1]["kept"][0], CT_SMALL);
    assert_eq!(said[1]["failed"], serde_json::json!([[CT_SMALL, "0119"], ["1.2.3.4", "0112"]]));

    // A transaction UID that was used for something else; the same request again is no such thing.
    let said = commitment(&node, "1.2.9.1", &[&gone], &["--stay", "10"]);
    assert_eq!(said[1]["failed"][0][1], "0131", "{said:?}");
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--stay", "10"]);
    assert_eq!(said[1]["kept"][0], CT_SMALL, "{said:?}");

    // The file is gone: the receipt alone commits nothing.
    let shown = study(&node.data, CT_SMALL_STUDY).unwrap();
    assert!(history(&shown).contains("commitment reported"), "{}", history(&shown));
    for file in files_below(&node.data.join("objects")) {
        std::fs::remove_file(file).unwrap();
    }
    let said = commitment(&node, "1.2.9.3", &[&kept], &["--stay", "10"]);
    assert_eq!(said[1]["failed"][0][1], "0110", "{said:?}");

    // Nothing is referenced, and an instance that is no UID: refused at once.
    let said = commitment(&node, "1.2.9.4", &[], &[]);
    assert_eq!(said[0]["status"], "0115", "{said:?}");
    assert_eq!(node.terminate(), Some(0));
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Settings under which CT1 is called at `port`.
fn ct1_at(port: u16) -> [String; 2] {
    [
        "commitment.peers.ct1.ae_title=\"CT1\"".to_owned(),
        format!("commitment.peers.ct1.address=\"127.0.0.1:{port}\""),
    ]
}

#[test]
fn a_requester_that_left_is_called_where_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = ct1_at(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    let (kept, listen) = (reference(CT, CT_SMALL), port.to_string());
    let begun = Instant::now();
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--listen", &listen]);
    assert_eq!(said[1]["status"], "0000", "{said:?}");
    assert_eq!((&said[2]["event"], &said[2]["same_association"]), (&1.into(), &false.into()));
    assert_eq!(said[2]["calling"], "PRELIM");
    assert!(begun.elapsed() < Duration::from_secs(12), "at once: {:?}", begun.elapsed());

    // Nobody is called who is not in the settings: a dead letter with its reason.
    let said = commitment(&node, "1.2.9.2", &[&kept], &["--title", "CT2"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    let shown = wait_for("a dead letter", || {
        let shown = study(&node.data, CT_SMALL_STUDY).unwrap();
        let dead = shown["jobs"].as_array().unwrap().iter().any(|job| job["state"] == "dead");
        dead.then_some(shown)
    });
    let cause = shown["jobs"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("CT2") && cause.contains("[commitment.peers]"), "{cause}");
}

/// Killed between the request and its report: the next start reports.
#[test]
fn a_commitment_survives_a_kill_before_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = ct1_at(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    // Nobody listens: the report waits.
    let said = commitment(&node, "1.2.9.1", &[&reference(CT, CT_SMALL)], &[]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    node.kill();
    let mut scanner = peer("commitment.py");
    scanner.args(["1", "1.2.9.1", "--no-action", "--listen", &port.to_string()]);
    scanner.args(["--seconds", "60"]).stdout(Stdio::piped());
    let scanner = Background(scanner.spawn().unwrap());
    wait_until_listening(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    let shown = wait_for("a report", || {
        let shown = study(&node.data, CT_SMALL_STUDY)?;
        history(&shown).contains("commitment reported").then_some(shown)
    });
    assert!(history(&shown).contains("1 kept, 0 not, to CT1"), "{}", history(&shown));
    assert_eq!(shown["jobs"], serde_json::json!([]));
    drop(scanner);
}
