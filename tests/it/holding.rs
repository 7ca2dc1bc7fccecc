//! A study that a person holds back, and lets go again.

use std::process::Command;
use std::time::Duration;

use crate::node::Background;
use crate::node::Node;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::files;

/// The gateway is down at first: the study waits to be read when it is held.
#[test]
fn a_held_study_is_not_read_says_by_whom_and_why_and_is_read_when_it_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let (port, seen) = (free_port(), folder.path().join("seen"));
    std::fs::create_dir(&seen).unwrap();
    let key = seen.join("key.txt");
    std::fs::write(&key, "sk-fixture-0123456789\n").unwrap();
    let set = [
        "analysis.provider=\"main\"".to_owned(),
        format!("analysis.gateways.main.url=\"http://127.0.0.1:{port}/v1\""),
        "analysis.gateways.main.model=\"fixture-vision-1\"".to_owned(),
        format!("analysis.gateways.main.api_key_file=\"{}\"", key.display()),
    ];
    let node = Node::start(&folder.path().join("data"), &set.each_ref().map(String::as_str));
    let file = folder.path().join("chest.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    let word = |what: &str, reason: &str| {
        let url = format!("http://{}/studies/{uid}/{what}", node.http);
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-d"]);
        let said = run(curl.arg(format!("reason={reason}")).arg(url));
        String::from_utf8(said.stdout).unwrap()
    };
    node.storescu(std::slice::from_ref(&file));
    wait_for("a first try", || {
        let shown = study(&node.data, &uid)?;
        let jobs = shown["jobs"].as_array()?.clone();
        jobs.iter().any(|job| job["attempts"].as_u64() >= Some(1)).then_some(())
    });
    // Not while a step is running.
    wait_for("to be held", || (word("hold", "wrong patient") == "303").then_some(()));
    let held = node.study_in(&uid, "held");
    assert_eq!(held["reason"], "held by word of 127.0.0.1: wrong patient", "{held:#}");
    assert_eq!(held["jobs"].as_array().unwrap().len(), 0, "{held:#}");
    let page = http(&node, &format!("/studies/{uid}"));
    for words in ["Held back", "held by word of 127.0.0.1: wrong patient", "Release: read it"] {
        assert!(page.contains(words), "no {words} in {page}");
    }
    assert!(http(&node, "/audit?deed=changed").contains("held by word of 127.0.0.1"));

    let mut server = Command::new(python());
    server.arg(root().join("tests/peers/openai_server.py")).arg(port.to_string()).arg(&seen);
    let _server = Background(server.arg("read").spawn().unwrap());
    wait_until_listening(port);
    let requests = || {
        let all = files(&seen).into_iter();
        all.filter(|file| file.extension().is_some_and(|end| end == "json")).count()
    };
    // Longer than the wait after the first try.
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((requests(), &study(&node.data, &uid).unwrap()["state"]), (0, &"held".into()));

    assert_eq!(word("again", "it was the right one"), "303");
    let read = node.study_in(&uid, "delivered");
    assert_eq!((&read["outcome"], requests()), (&"read".into(), 1), "{read:#}");
    assert_eq!(word("hold", "too late"), "409", "nothing is left to hold");
}
