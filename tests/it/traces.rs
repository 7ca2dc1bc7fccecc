//! One trace for each study, as a collector gets it.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use sha2::Digest as _;

use crate::gateway::Gateway;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::way::POSITIVE;
use crate::way::Peers;

const TOKEN: &str = "only-for-this-test";

fn collector(port: u16, out: &Path) -> Background {
    let mut peer = Command::new(python());
    peer.arg(root().join("tests/peers/collector.py")).arg(port.to_string()).arg(out).arg(TOKEN);
    let process = Background(peer.spawn().unwrap());
    wait_until_listening(port);
    process
}

fn spans(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn wait_for_span(out: &Path, name: &str) -> Value {
    wait_for(name, || spans(out).into_iter().find(|span| span["name"] == name))
}

/// From the association to the last delivery and the answer to the alert, over a collector that was
/// away and a node that was killed; nothing in it names the patient or who answered.
#[test]
fn a_study_is_one_trace_from_its_association_to_its_delivery() {
    let dir = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(dir.path()), Gateway::start(dir.path(), "read"));
    let (port, data, out) = (free_port(), dir.path().join("data"), dir.path().join("spans"));
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let own = [
        format!("traces.url=http://127.0.0.1:{port}/v1/traces"),
        format!("traces.token_file={}", token.display()),
    ];
    let set: Vec<&str> =
        peers.set.iter().chain(&gateway.set).chain(&own).map(String::as_str).collect();
    let node = Node::start(&data, &set);
    let file = dir.path().join("study.dcm");
    let who = ["PatientID=HIDDEN-7", "PatientName=Hidden^Person", "PatientAge=051Y"];
    let uid = chest_xray(POSITIVE, &file, &who);
    node.send(&[file]);
    node.study_in(&uid, "delivered");
    wait_for("a warning", || node.log().contains("spans do not arrive").then_some(()));
    node.kill();

    let _collector = collector(port, &out);
    let node = Node::start(&data, &set);
    let mut doctor = Command::new(PRELIM);
    doctor.args(["doctor", "--json", "--data"]).arg(&data);
    own.iter().for_each(|one| {
        doctor.args(["--set", one]);
    });
    let said: Value = serde_json::from_slice(&doctor.output().unwrap().stdout).unwrap();
    let found = said["checks"].as_array().unwrap().iter().find(|check| check["what"] == "traces");
    assert_eq!(found.map(|check| &check["state"]), Some(&"ok".into()), "{said:#}");
    let root = wait_for_span(&out, "study");
    let id = wait_for("an alert", || alerts(&data).first().map(|row| row["alert"].clone()));
    let ack = ["alerts", "--take", id.as_str().unwrap(), "--by", "Dr Concealed", "--data"];
    run(Command::new(PRELIM).args(ack).arg(&data));
    let waited = wait_for_span(&out, "await acknowledgement");
    assert_eq!(waited["attributes"]["prelim.alert.outcome"], "acknowledged");
    assert_eq!(node.terminate(), Some(0));

    let all = spans(&out);
    let names: BTreeSet<&str> = all.iter().filter_map(|span| span["name"].as_str()).collect();
    let way = ["association", "assemble", "plan", "picture", "analyse", "chat", "judge", "compose"];
    for name in way.iter().chain(&["deliver", "alert", "study"]) {
        assert!(names.contains(name), "no {name} in {names:?}");
    }
    let hash: String =
        sha2::Sha256::digest(&uid)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let ids: BTreeSet<&str> = all.iter().filter_map(|span| span["id"].as_str()).collect();
    assert_eq!(ids.len(), all.len(), "a span came twice");
    for span in &all {
        assert_eq!(span["trace"], hash.as_str());
        assert_eq!(span["attributes"]["dicom.study_instance_uid"], uid.as_str());
        assert!(span["start"].as_u64() <= span["end"].as_u64(), "{span:#}");
        assert!(span["start"].as_u64() >= root["start"].as_u64(), "{span:#}");
        let parent = span["parent"].as_str().unwrap();
        assert_eq!(parent.is_empty(), span["name"] == "study", "{span:#}");
        assert!(parent.is_empty() || ids.contains(parent), "{span:#}");
    }
    let named = |name: &str| all.iter().find(|span| span["name"] == name).unwrap();
    assert_eq!(named("chat")["parent"], named("analyse")["id"]);
    assert_eq!(named("chat")["kind"], "SPAN_KIND_CLIENT");
    assert_eq!(named("association")["attributes"]["dicom.calling_ae_title"], "PRELIM");
    let states = ["receiving", "ready", "analysing", "judged", "composed", "delivered"];
    let told: Vec<&str> =
        root["events"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(states[1..].iter().all(|state| told.contains(state)), "{told:?}");
    assert_eq!(root["resource"]["service.name"], "prelim");
    let text = std::fs::read_to_string(&out).unwrap();
    for hidden in ["HIDDEN", "Hidden", "Concealed", "on-call@", TOKEN] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
}

/// An image that takes a second to come is a second of its association.
#[test]
fn an_association_begins_with_the_request_and_not_with_what_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    let (port, out) = (free_port(), dir.path().join("spans"));
    let token = dir.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    let _collector = collector(port, &out);
    let own = [
        format!("traces.url=http://127.0.0.1:{port}/v1/traces"),
        format!("traces.token_file={}", token.display()),
    ];
    let node = Node::start(&dir.path().join("data"), &own.each_ref().map(String::as_str));
    let image = std::fs::read(pydicom_file("RG1_UNCR.dcm")).unwrap();
    let mut scanner = TcpStream::connect(node.http).unwrap();
    write!(
        scanner,
        "POST /dicom-web/studies HTTP/1.1\r\nHost: {}\r\nContent-Type: application/dicom\r\n\
         Accept: application/dicom+json\r\nContent-Length: {}\r\n\r\n",
        node.http,
        image.len()
    )
    .unwrap();
    let (first, rest) = image.split_at(image.len() / 2);
    scanner.write_all(first).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    scanner.write_all(rest).unwrap();
    let mut answer = [0; 12];
    scanner.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let span = wait_for_span(&out, "association");
    let took = span["end"].as_u64().unwrap() - span["start"].as_u64().unwrap();
    assert!((900_000_000..30_000_000_000).contains(&took), "{took} ns: {span:#}");
}

fn alerts(data: &Path) -> Vec<Value> {
    let output = Command::new(PRELIM).args(["alerts", "--json", "--data"]).arg(data).output();
    let value: Value = serde_json::from_slice(&output.unwrap().stdout).unwrap_or_default();
    value.as_array().cloned().unwrap_or_default()
}
