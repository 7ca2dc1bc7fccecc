//! The store at rest: an index that is lost, a check while the node works, what goes.

use std::path::Path;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::pydicom_file;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;

fn prelim(args: &[&str], data: &Path) -> Output {
    Command::new(PRELIM).args(args).arg("--data").arg(data).output().unwrap()
}

fn json(args: &[&str], data: &Path) -> Value {
    let output = prelim(args, data);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
}

/// Instances that the node knows and has, by its own check.
fn checked(data: &Path) -> Value {
    let checked = json(&["verify", "--full", "--json"], data);
    assert_eq!(checked["complete"], true, "{checked:#}");
    checked["report"].clone()
}

/// S7: garbage in place of the index. The node answers at once, takes instances, and shows the old
/// and the new when its index is made.
#[test]
fn a_garbled_index_keeps_nobody_from_sending() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    node.kill();
    let db = data.join("state/db");
    let garbage = vec![0xa5; std::fs::metadata(&db).unwrap().len() as usize];
    std::fs::write(&db, garbage).unwrap();
    let node = Node::start(&data, &["store.index_at_once_bytes=0"]);
    node.storescu(&[pydicom_file("MR_small.dcm")]);
    // The same again, sent while the index may not be there.
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    let report = wait_for("an index", || {
        let output = prelim(&["verify", "--full", "--json"], &data);
        let checked: Value = serde_json::from_slice(&output.stdout).ok()?;
        (checked["report"]["receipts"] == 2).then_some(checked)
    });
    assert_eq!(report["complete"], true, "{report:#}");
    assert!(node.log().contains("the index is made anew"), "{}", node.log());
    assert_eq!(node.terminate(), Some(0));
    assert_eq!(checked(&data)["objects"], 2);
}

#[test]
fn a_lost_object_is_named_while_the_node_works_and_the_exit_code_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    node.storescu(&[pydicom_file("CT_small.dcm"), pydicom_file("MR_small.dcm")]);
    assert_eq!(checked(&data)["receipts"], 2);
    let mut found = Command::new("find");
    let found = run(found.arg(data.join("objects")).args(["-name", "*.dcm"]));
    let first = String::from_utf8(found.stdout).unwrap().lines().next().unwrap().to_owned();
    std::fs::remove_file(&first).unwrap();
    let output = prelim(&["verify", "--gentle"], &data);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("was acknowledged and objects/"), "{text}");
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn what_is_done_goes_by_the_rules_and_a_dry_run_says_so_first() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let rules =
        ["store.retention.objects_bytes_max=1", r#"store.retention.states=["delivered","held"]"#];
    let node = Node::start(&data, &rules);
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    let plan = wait_for("a study that is done", || {
        let plan = json(&["retention", "--dry-run", "--json"], &data);
        (plan["remove"] == 1).then_some(plan)
    });
    let uid = plan["decisions"][0]["study_uid"].as_str().unwrap().to_owned();
    assert_eq!(checked(&data)["objects"], 1, "a dry run");
    assert_eq!(json(&["retention", "--now", "--json"], &data)["done"], 1);
    let report = checked(&data);
    assert_eq!((&report["objects"], &report["receipts"]), (&0.into(), &0.into()));
    let study = crate::node::study(&data, &uid).unwrap();
    assert!(study.to_string().contains("removed"), "{study:#}");
    // The same again: a new revision of it.
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    wait_for("revision 2", || (crate::node::study(&data, &uid)?["revision"] == 2).then_some(()));
    assert_eq!(node.terminate(), Some(0));
    checked(&data);
}
