//! Who did what: read back from the ledger, and proven by its hash chain.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;

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
