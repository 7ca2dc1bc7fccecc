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
    assert_eq!(files(&peers.pacs_folder).len(), 6, "two studies, three objects each");
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
