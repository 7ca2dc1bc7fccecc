//! Whose turn it is when many studies wait for one gateway, and what becomes of those that wait.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::peer::http;
use crate::way::POSITIVE;

fn adult(folder: &Path, name: &str, what: &[&str]) -> (String, std::path::PathBuf) {
    let file = folder.join(format!("{name}.dcm"));
    let what: Vec<&str> = ["PatientAge=051Y"].into_iter().chain(what.iter().copied()).collect();
    (chest_xray(POSITIVE, &file, &what), file)
}

fn started(folder: &Path, set: &[String]) -> Node {
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    Node::start(&folder.join("data"), &set)
}

/// S13: fourteen routine films are in the queue of a gateway that reads one a second.
#[test]
fn a_stat_film_behind_fourteen_routine_ones_is_the_next_that_is_asked() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "slow");
    let mut set = gateway.set.clone();
    set.push("analysis.gateways.main.limits.calls_at_once=1".into());
    set.push("analysis.cache.size_max_mb=0".into());
    let node = started(folder.path(), &set);
    let films: Vec<_> = (0..14).map(|n| adult(folder.path(), &n.to_string(), &[]).1).collect();
    node.storescu(&films);
    wait_for("the first question", || (!gateway.requests().is_empty()).then_some(()));
    let what = ["PatientAge=033Y", "RequestedProcedurePriority=STAT"];
    let (uid, film) = adult(folder.path(), "stat", &what);
    node.storescu(std::slice::from_ref(&film));
    // From here on it waits for a gateway; before, for its images.
    let data = folder.path().join("data");
    let waits = |shown: &Value| shown.to_string().contains("picture-01");
    wait_for("its pictures", || study(&data, &uid).filter(waits));
    let before = gateway.requests().len();
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(shown["priority"], "stat", "{shown:#}");
    let is_stat = |request: &Vec<u8>| {
        let text = String::from_utf8_lossy(request);
        text.contains("age in years: 33")
    };
    let at = gateway.requests().iter().position(is_stat).expect("it was asked about");
    assert!(at <= before + 1, "asked {at}th, after {before} were asked when it was ready");
    assert!(before < 13, "there was a queue: {before}");
}

/// S14: a gateway that does not answer for a minute holds up those that need it, and no other.
#[test]
fn a_study_that_needs_no_gateway_passes_those_that_wait_for_one() {
    let folder = tempfile::tempdir().unwrap();
    // Takes the question and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", silent.local_addr().unwrap());
    let profiles = folder.path().join("profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let chest = std::fs::read_to_string(root().join("config/profiles/chest_xray.toml")).unwrap();
    let (head, tail) = chest.split_once('\n').unwrap();
    let local = format!("{head}\nprovider = \"local\"\n{tail}");
    std::fs::write(profiles.join("chest_xray.toml"), local).unwrap();
    let set = [
        "analysis.provider=\"main\"".to_owned(),
        format!("analysis.gateways.main.url=\"{url}\""),
        "analysis.gateways.main.model=\"m\"".to_owned(),
        "analysis.gateways.main.timeout_s=60".to_owned(),
        format!("analysis.profiles=\"{}\"", profiles.display()),
        "pipeline.steps_at_once=2".to_owned(),
    ];
    let node = started(folder.path(), &set);
    let foot = ["BodyPartExamined=FOOT", "StudyDescription=Foot", "ViewPosition=LL"];
    let feet: Vec<_> =
        (0..12).map(|n| adult(folder.path(), &format!("foot-{n}"), &foot).1).collect();
    node.storescu(&feet);
    let _asked: Vec<_> = (0..4).map(|_| silent.accept().unwrap()).collect();
    let child = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &child, &["PatientAge=004Y"]);
    let begun = std::time::Instant::now();
    node.storescu(std::slice::from_ref(&child));
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(shown["outcome"], "read", "{shown:#}");
    assert!(begun.elapsed().as_secs() < 45, "it did not wait for the gateway's minute");
}

/// S22: nobody listens where the gateway should be; then somebody does.
#[test]
fn a_study_waits_for_its_gateway_by_name_and_is_read_by_a_word_when_it_is_back() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = [
        "analysis.provider=\"main\"".to_owned(),
        format!("analysis.gateways.main.url=\"http://127.0.0.1:{port}/v1\""),
        "analysis.gateways.main.model=\"m\"".to_owned(),
        "analysis.gateways.main.limits.rest_s=1".to_owned(),
    ];
    let node = started(folder.path(), &set);
    let (uid, film) = adult(folder.path(), "film", &[]);
    node.storescu(std::slice::from_ref(&film));
    let page = wait_for("a page that says why", || {
        let page = http(&node, &format!("/studies/{uid}"));
        page.contains("The reading waits for main.").then_some(page)
    });
    assert!(page.contains("cannot be reached") && page.contains("Zyxwv"), "{page}");
    let list = http(&node, "/");
    assert!(list.contains("Zyxwv") && !list.contains("Patient not known yet"), "{list}");
    let health = wait_for("a node that says why", || {
        let health = http(&node, "/api/v1/health");
        health.contains("waits for the gateway main").then_some(health)
    });
    assert!(health.contains("latency_ms") && health.contains("\"ready\":true"), "{health}");
    let _gateway = Gateway::at(folder.path(), "main", "read", port);
    let mut retry = Command::new(PRELIM);
    retry.args(["queue", "--retry", "gateway:main", "--data"]).arg(folder.path().join("data"));
    run(&mut retry);
    assert_eq!(node.study_in(&uid, "delivered")["outcome"], "read");
}

/// S22: the bound is over and a person heard; the gateway is back, and the study is read by itself.
#[test]
fn a_study_that_needed_review_is_read_once_more_when_its_gateway_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = [
        "analysis.provider=\"main\"".to_owned(),
        format!("analysis.gateways.main.url=\"http://127.0.0.1:{port}/v1\""),
        "analysis.gateways.main.model=\"m\"".to_owned(),
        "analysis.gateways.main.limits.rest_s=1".to_owned(),
        "analysis.waits.routine_s=1".to_owned(),
    ];
    let node = started(folder.path(), &set);
    let (uid, film) = adult(folder.path(), "film", &[]);
    node.storescu(std::slice::from_ref(&film));
    let shown = node.study_in(&uid, "needs_review");
    assert_eq!(shown["revision"], 1, "{shown:#}");
    let report = folder.path().join("data/results").join(&uid).join("1/report.txt");
    let report = wait_for("its report", || std::fs::read_to_string(&report).ok());
    assert!(report.contains("cannot be reached"), "{report}");
    let gateway = Gateway::at(folder.path(), "main", "read", port);
    let shown = node.study_in(&uid, "delivered");
    assert_eq!((&shown["outcome"], &shown["revision"]), (&"read".into(), &2.into()), "{shown:#}");
    assert_eq!(gateway.requests().len(), 1, "asked once, and read by that answer");
}
