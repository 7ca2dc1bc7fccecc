//! Kill the node between any two steps and start it again: the study goes on from there, and
//! nothing is done twice that anyone can see.

use crate::node::Node;
use crate::node::chest_xray;
use crate::node::wait_for;
use crate::way::POSITIVE;
use crate::way::Peers;
use crate::way::files;

/// The node ends without warning before and after the commit of this step; the next start brings
/// the study to its end: one report, one object of each kind, one message.
fn killed_at(step: &str) {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let data = folder.path().join("data");
    let file = folder.path().join("child.dcm");
    for when in ["before", "after"] {
        let uid = chest_xray(POSITIVE, &file, &[]);
        let crash = format!("pipeline.crash_at=\"{step}:{when}\"");
        let mut set = peers.set();
        set.push(&crash);
        let node = Node::start(&data, &set);
        node.storescu(std::slice::from_ref(&file));
        node.wait();
        let node = Node::start(&data, &peers.set());
        let shown = node.study_in(&uid, "delivered");
        assert_eq!(shown["revision"], 1, "{shown:#}");
        assert_eq!(shown["outcome"], "read", "{shown:#}");
        wait_for("the alert", || {
            let shown = crate::node::study(&data, &uid)?;
            (shown["alerts"][0]["sendings"][0]["state"] == "done").then_some(())
        });
        node.kill();
    }
    // DCMTK names files by SOP Instance UID: a second sending of the same object is one file.
    assert_eq!(files(&peers.pacs_folder).len(), 4, "two studies, two objects each");
    let ids: std::collections::BTreeSet<String> = peers
        .mails()
        .iter()
        .map(|mail| mail["headers"]["message-id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 2, "one message for each study: {ids:?}");
}

#[test]
fn killed_at_plan_the_study_goes_on() {
    killed_at("plan");
}

#[test]
fn killed_at_picture_the_study_goes_on() {
    killed_at("picture");
}

#[test]
fn killed_at_analyse_the_study_goes_on() {
    killed_at("analyse");
}

#[test]
fn killed_at_judge_the_study_goes_on() {
    killed_at("judge");
}

#[test]
fn killed_at_compose_the_study_goes_on() {
    killed_at("compose");
}

#[test]
fn killed_at_deliver_the_study_goes_on() {
    killed_at("deliver");
}

#[test]
fn killed_at_alert_the_study_goes_on() {
    killed_at("alert");
}

fn all_files(folder: &std::path::Path, found: &mut Vec<std::path::PathBuf>) {
    for path in files(folder) {
        match path.is_dir() {
            true => all_files(&path, found),
            false => found.push(path),
        }
    }
}

/// kill -9 while instances arrive: what was answered 0000 is there after the next start.
#[test]
fn killed_while_receiving_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let script = crate::node::root().join("tests/peers/store_until_killed.py");
    let file = crate::node::pydicom_file("CT_small.dcm");
    let mut acknowledged: Vec<String> = Vec::new();
    for round in 0..4u64 {
        let node = Node::start(&data, &[]);
        let mut sender = std::process::Command::new(crate::node::python());
        sender.arg(&script).arg(node.dicom.port().to_string()).arg(&file);
        let sender = sender.stdout(std::process::Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1200 + 350 * round));
        node.kill();
        let output = sender.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        acknowledged.extend(said.lines().map(str::to_owned));
    }
    assert!(acknowledged.len() > 20, "too few for a test: {}", acknowledged.len());
    let node = Node::start(&data, &[]);
    let mut kept = Vec::new();
    all_files(&data.join("objects"), &mut kept);
    let mut lost = Vec::new();
    for sop in &acknowledged {
        let object =
            kept.iter().find(|file| file.file_stem().is_some_and(|stem| stem == sop.as_str()));
        let whole = object.is_some_and(|file| file.metadata().unwrap().len() > 30_000);
        if !whole {
            lost.push(sop);
        }
    }
    assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), acknowledged.len());
    let mut verify = std::process::Command::new(crate::node::PRELIM);
    // Object, receipt, index and digest agree for each.
    crate::node::run(verify.args(["verify", "--full", "--data"]).arg(&data));
    let mut get = std::process::Command::new(crate::node::PRELIM);
    let got = crate::node::run(get.args(["get", &acknowledged[0], "--data"]).arg(&data));
    assert_eq!(&got.stdout[128..132], b"DICM");
    assert_eq!(node.terminate(), Some(0));
}
