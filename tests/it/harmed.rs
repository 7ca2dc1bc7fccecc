//! A data folder that a disk or a hand has harmed, under a real node: nothing that was told, sent or
//! paid for is told, sent or paid for again, and everybody who asks is told of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::said;
use crate::node::wait_for;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::Peers;

fn prelim(words: &[&str], data: &Path) -> (Option<i32>, String) {
    let output = Command::new(PRELIM).args(words).arg("--data").arg(data).output().unwrap();
    (output.status.code(), said(&output))
}

/// Where the record stands in the ledger that says of this study's results that they were delivered.
fn flip_the_record_of(data: &Path, uid: &str) {
    let file = data.join("ledger/00000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    let word = format!("{{\"event\":\"delivered\",\"study_uid\":\"{uid}\"");
    let at = bytes.windows(word.len()).position(|part| part == word.as_bytes()).unwrap();
    bytes[at + 3] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

/// R1: films with an urgent finding, told and answered; then more; then one bit flips.
#[test]
fn one_flipped_bit_in_the_ledger_tells_sends_and_asks_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let data = folder.path().join("data");
    let set: Vec<&str> = peers.set.iter().chain(&gateway.set).map(String::as_str).collect();
    let mut node = Node::start(&data, &set);
    let film = |node: &Node, name: &str| {
        let file = folder.path().join(name);
        let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
        node.storescu(&[file]);
        node.study_in(&uid, "delivered");
        uid
    };
    let uids: Vec<String> = (0..3).map(|n| film(&node, &format!("{n}.dcm"))).collect();
    wait_for("the alerts", || (peers.mails().len() >= 3).then_some(()));
    for uid in &uids {
        let mut alerts = Command::new(PRELIM);
        alerts.args(["alerts", "--json", "--study", uid, "--data"]).arg(&data);
        let rows = alerts.output().unwrap().stdout;
        let rows: serde_json::Value = serde_json::from_slice(&rows).unwrap();
        let alert = rows[0]["alert"].as_str().unwrap();
        let form = "name=Dr%20Kim";
        let at = format!("http://{}/alerts/{alert}", node.http);
        let answered = Command::new("curl").args(["-s", "-X", "POST", "-d", form, &at]).status();
        assert!(answered.unwrap().success());
    }
    let quiet = |node: &Node| {
        wait_for("a node at rest", || {
            let metrics = http(node, "/metrics");
            metrics.contains("prelim_jobs{state=\"running\"} 0\n").then_some(())
        });
    };
    quiet(&node);
    let done = || (peers.mails().len(), gateway.requests().len());
    let before = done();
    // After every stop in order nothing is left open.
    assert_eq!(node.terminate(), Some(0));
    let (code, said) = prelim(&["verify", "--full"], &data);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("did not end in order"), "{said}");
    assert_eq!(prelim(&["audit", "verify"], &data).0, Some(0));

    flip_the_record_of(&data, &uids[1]);
    for index in ["kept", "gone"] {
        if index == "gone" {
            std::fs::remove_dir_all(data.join("state")).unwrap();
        }
        node = Node::start(&data, &set);
        quiet(&node);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(done(), before, "index {index}: mails and requests");
        let (ready, metrics) = (http(&node, "/readyz"), http(&node, "/metrics"));
        assert!(ready.contains("a part of the ledger is lost"), "index {index}: {ready}");
        assert!(metrics.contains("prelim_ledger_damage 1\n"), "index {index}");
        assert!(http(&node, "/queue").contains("a part of the ledger is lost"));
        assert_eq!(node.terminate(), Some(0));
        let (code, said) = prelim(&["audit", "verify"], &data);
        assert_eq!(code, Some(1), "index {index}: {said}");
    }
    let cut = std::fs::read_dir(data.join("ledger")).unwrap().flatten();
    let cut = cut.filter(|entry| entry.file_name().to_string_lossy().starts_with("cut-"));
    assert_eq!(cut.count(), 0, "nothing behind the record was cut off");
}

/// R6: a person removes the lock.
#[test]
fn without_its_lock_file_a_data_folder_in_use_takes_no_second_node() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    std::fs::remove_file(data.join("lock")).unwrap();
    let mut second = Command::new(PRELIM);
    second.args(["serve", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]).arg(&data);
    let second = second.output().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", said(&second));
    assert!(said(&second).contains("is in use by process"), "{}", said(&second));
    let state = std::fs::read_dir(&data).unwrap().flatten();
    let aside = state.filter(|entry| entry.file_name().to_string_lossy().starts_with("state."));
    assert_eq!(aside.count(), 0, "the index was set aside");
    // A signal that asks for nothing ends nothing.
    let id = crate::peer::process(&node).to_string();
    assert!(Command::new("kill").args(["-USR1", &id]).status().unwrap().success());
    assert!(http(&node, "/healthz").contains("alive"));
}

/// R13: whatever the filter, no name in the log.
#[test]
fn at_the_finest_level_the_log_names_no_patient() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let data = folder.path().join("data");
    let mut set: Vec<&str> = peers.set.iter().chain(&gateway.set).map(String::as_str).collect();
    set.push("telemetry.filter=\"trace\"");
    let node = Node::start(&data, &set);
    let file = folder.path().join("a.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    node.storescu(&[file]);
    node.study_in(&uid, "delivered");
    wait_for("the alert", || (!peers.mails().is_empty()).then_some(()));
    for page in ["/", "/queue", "/metrics", &format!("/studies/{uid}")] {
        http(&node, page);
    }
    let log = node.log();
    assert!(log.contains("TRACE") || log.contains("DEBUG"), "the filter is in force");
    for identity in ["Zyxwv", "ZYXWV", "Quentin", "PID-998877", "ACC-774411", "20210630"] {
        let line = log.lines().find(|line| line.contains(identity));
        assert_eq!(line, None, "{identity} is in the log");
    }
}
