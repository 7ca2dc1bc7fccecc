//! Settings that are read again while the node works.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::wait_for;
use crate::peer::echo;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::Peers;

fn reload(node: &Node) -> (Value, Option<i32>) {
    let mut command = Command::new(PRELIM);
    let output = command.args(["reload", "--json", "--data"]).arg(&node.data).output().unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), output.status.code())
}

fn hang_up(node: &Node) {
    let file = std::fs::read(node.data.join("node.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    run(Command::new("kill").args(["-HUP", &file["pid"].to_string()]));
}

fn write(file: &Path, settings: &[&[String]]) {
    let lines: Vec<String> = settings.iter().flat_map(|lines| lines.iter().cloned()).collect();
    std::fs::write(file, lines.join("\n")).unwrap();
}

/// Another gateway and another recipient are asked and told from then on, by an association that
/// was open all the time; a file that cannot be used changes nothing and is told of.
#[test]
fn settings_that_are_read_again_take_effect_and_broken_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let peers = Peers::start(at);
    let (first, second) =
        (Gateway::start(&at.join("1"), "read"), Gateway::start(&at.join("2"), "read"));
    let base: Vec<String> =
        peers.set.iter().filter(|one| !one.starts_with("alert.")).cloned().collect();
    let told =
        |who: &str| vec![format!("alert.recipients.{who}.emails=[\"{who}@hospital.example\"]")];
    let config = at.join("prelim.toml");
    write(&config, &[&base, &first.set, &told("kim")]);
    let script = format!("exec \"$0\" \"$@\" --config {}", config.display());
    let node = Node::start_with(&["sh", "-c", &script], &at.join("data"), &[]);

    let (one, two, go) = (at.join("one.dcm"), at.join("two.dcm"), at.join("go"));
    let uids = [
        chest_xray(POSITIVE, &one, &["PatientAge=051Y"]),
        chest_xray(POSITIVE, &two, &["PatientAge=052Y"]),
    ];
    let mut scanner = Command::new(python());
    scanner.arg(root().join("tests/peers/hold_association.py")).arg(node.dicom.port().to_string());
    let mut scanner = Background(scanner.args([&one, &two, &go]).spawn().unwrap());
    node.study_in(&uids[0], "delivered");

    write(&config, &[&base, &second.set, &told("lee")]);
    hang_up(&node);
    wait_for("settings in force", || node.log().contains("settings were read again").then_some(()));
    assert!(node.log().contains("changed: analysis.gateways.main.url"), "{}", node.log());
    std::fs::write(&go, "").unwrap();
    assert!(scanner.0.wait().unwrap().success(), "the association was lost");
    node.study_in(&uids[1], "delivered");
    assert_eq!((first.requests().len(), second.requests().len()), (1, 1));
    wait_for("a mail to lee", || {
        peers.mails().into_iter().find(|mail| mail["to"][0] == "lee@hospital.example")
    });

    let broken = ["http.requests_max=0".to_owned(), "pipeline.tries_max=0".to_owned()];
    write(&config, &[&base, &second.set, &broken]);
    let (refused, code) = reload(&node);
    assert_eq!((refused["taken"].as_bool(), code), (Some(false), Some(1)), "{refused:#}");
    let lines = refused["lines"].to_string();
    assert!(lines.contains("requests_max") && lines.contains("tries_max"), "{lines}");
    let notes = wait_for("a note", || {
        Some(http(&node, "/readyz")).filter(|notes| notes.contains("stay in force"))
    });
    assert!(notes.contains("\"ready\":true"), "{notes}");

    let waits = ["hl7.listen=\"127.0.0.1:2575\"".to_owned()];
    write(&config, &[&base, &second.set, &told("lee"), &waits]);
    let (taken, code) = reload(&node);
    assert_eq!((taken["taken"].as_bool(), code), (Some(true), Some(0)), "{taken:#}");
    assert_eq!(taken["lines"], serde_json::json!(["needs a restart: hl7.listen"]));
    wait_for("no note", || (!http(&node, "/readyz").contains("stay in force")).then_some(()));
}

/// Who may send, who may look, how much space is kept, what log lines look like: each is another at
/// once, and back again; who is logged in stays.
#[test]
fn doors_and_limits_change_while_the_node_works() {
    let folder = tempfile::tempdir().unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("prelim.toml"));
    let token = folder.path().join("token");
    std::fs::write(&token, "only-for-this-test").unwrap();
    write(&config, &[]);
    let script = format!("exec \"$0\" \"$@\" --config {}", config.display());
    let node = Node::start_with(&["sh", "-c", &script], &data, &[]);
    let url = format!("http://{}/queue", node.http);
    let status = |words: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]).args(words).arg(&url);
        String::from_utf8(run(&mut curl).stdout).unwrap()
    };
    assert_eq!(status(&[]), "200");
    echo(node.dicom);

    let other = [
        "dicom.calling_aes=[\"CT1\"]".to_owned(),
        format!("http.token_file={token:?}"),
        "http.session_hours=1".to_owned(),
        "http.dicomweb.enabled=false".to_owned(),
        "store.free_bytes_min=1000000000000000".to_owned(),
        "store.free_bytes_warn=1000000000000000".to_owned(),
        "worker.processes=1".to_owned(),
        "telemetry.format=\"json\"".to_owned(),
    ];
    write(&config, &[&other]);
    let (taken, _) = reload(&node);
    assert_eq!(taken["lines"].as_array().map(Vec::len), Some(other.len()), "{taken:#}");
    assert!(!taken["lines"].to_string().contains("restart"), "{taken:#}");
    assert_eq!(status(&[]), "401");
    let by_token = ["-H", "Authorization: Bearer only-for-this-test"];
    assert_eq!(status(&by_token), "200");
    let refused = Command::new("echoscu")
        .args(["-aec", "PRELIM", "127.0.0.1", &node.dicom.port().to_string()])
        .output();
    assert!(!refused.unwrap().status.success(), "anyone may still call");
    wait_for("a node that refuses", || {
        http(&node, "/readyz").contains("no instance is accepted").then_some(())
    });
    let last = node.log().lines().last().unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&last).is_ok(), "{last}");

    let jar = folder.path().join("cookies");
    let jar = jar.to_str().unwrap();
    let login = format!("http://{}/login", node.http);
    let mut curl = Command::new("curl");
    curl.args(["-s", "-c", jar, "-d", "token=only-for-this-test"]);
    run(curl.args(["-H", &format!("Origin: http://{}", node.http)]).arg(&login));
    assert_eq!(status(&["-b", jar]), "200");
    write(&config, &[&other[1..4]]);
    let (taken, _) = reload(&node);
    assert_eq!(taken["lines"].as_array().map(Vec::len), Some(5), "{taken:#}");
    assert_eq!((status(&["-b", jar]), status(&[])), ("200".to_owned(), "401".to_owned()));
    std::fs::write(&token, "another-one-for-this").unwrap();
    reload(&node);
    assert_eq!(status(&["-b", jar]), "401", "who came by the token from before has to come again");
    echo(node.dicom);
    let file = folder.path().join("study.dcm");
    let uid = chest_xray("normal_IM-0016-0001.jpeg", &file, &[]);
    node.send(&[file]);
    node.study_in(&uid, "delivered");
}
