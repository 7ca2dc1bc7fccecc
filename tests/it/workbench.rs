//! Reading by hand: files, folders and kept studies, without a node or beside it; and answers by a
//! schema that a profile brings.

use std::path::Path;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use serde_json::json;

use crate::gateway::Gateway;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;
use crate::way::POSITIVE;

fn prelim(args: &[&str], set: &[String]) -> Command {
    let mut command = Command::new(PRELIM);
    command.args(args).stdin(Stdio::null());
    set.iter().for_each(|one| {
        command.args(["--set", one]);
    });
    command
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(output)))
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn files_are_read_without_a_node() {
    let folder = tempfile::tempdir().unwrap();
    let (file, out) = (folder.path().join("child.dcm"), folder.path().join("out"));
    let uid = chest_xray(POSITIVE, &file, &[]);
    let read = prelim(&["analyze", path(&file), "--out", path(&out), "--json"], &[]);
    let read = run(&mut { read });
    let shown = &json_of(&read)[0];
    assert_eq!(
        (&shown["study_uid"], &shown["outcome"]),
        (&json!(uid), &json!("read")),
        "{shown:#}"
    );
    assert_eq!((&shown["findings"][0], &shown["alert"]), (&json!("Pneumonia"), &json!(true)));
    assert!(shown["report"].as_str().unwrap().contains("PRELIMINARY"));
    for name in ["report.pdf", "report.html", "sr.dcm", "assessment.json", "picture-01.jpg"] {
        assert!(out.join(&uid).join(name).is_file(), "{name}");
    }
    // A bare picture needs its modality, and what is no picture is told.
    let bare = root().join("tests/fixtures/cxr").join(POSITIVE);
    let text = folder.path().join("words.txt");
    std::fs::write(&text, "no picture").unwrap();
    let refused = prelim(&["analyze", path(&bare), path(&text)], &[]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("--modality") && why.contains("not a DICOM Part 10 file"), "{why}");
    let said_of = ["--modality", "CR", "--body-part", "CHEST", "--view", "AP", "--age", "004Y"];
    let bare = prelim(&[&["analyze", path(&bare), "--json"], &said_of[..]].concat(), &[]);
    let shown = json_of(&run(&mut { bare }));
    assert_eq!(shown[0]["findings"][0], "Pneumonia", "{shown:#}");
    assert!(shown[0]["first_file"].as_str().unwrap().ends_with(POSITIVE), "{shown:#}");
    let unknown = prelim(&["analyze", path(&file), "--provider", "nobody"], &[]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
}

#[test]
fn a_batch_goes_on_where_it_was_killed_and_says_before_what_it_costs() {
    let folder = tempfile::tempdir().unwrap();
    let (studies, out) = (folder.path().join("studies"), folder.path().join("out"));
    std::fs::create_dir_all(studies.join("below")).unwrap();
    for number in 0..4 {
        let file = studies.join(format!("below/{number}.dcm"));
        chest_xray(POSITIVE, &file, &["PatientAge=051Y", &format!("PatientID=PID-{number}")]);
    }
    let broken = studies.join("cut.dcm");
    let whole = std::fs::read(studies.join("below/0.dcm")).unwrap();
    std::fs::write(&broken, &whole[..200]).unwrap();
    std::fs::write(studies.join("notes.txt"), "words").unwrap();
    let gateway = Gateway::start(folder.path(), "slow");
    let mut set = gateway.set.clone();
    set.push("analysis.prices.fixture-vision-1={ picture = 0.5 }".into());
    // Four times the same picture is one question.
    set.push("analysis.cache.size_max_mb=0".into());
    let batch = |more: &[&str]| {
        let args = ["batch", path(&studies), "--out", path(&out), "--at-once", "1"];
        prelim(&[&args[..], more].concat(), &set)
    };
    let unasked = batch(&[]).output().unwrap();
    assert_eq!(unasked.status.code(), Some(2), "{}", said(&unasked));
    let estimate = String::from_utf8_lossy(&unasked.stderr).into_owned();
    assert!(estimate.contains("4 studies go to main: at most 4 calls"), "{estimate}");
    assert!(estimate.contains(" 2.0000 USD"), "{estimate}");
    assert_eq!(gateway.requests().len(), 0);

    let quiet = || Stdio::null();
    let running = batch(&["--yes"]).stdout(quiet()).stderr(quiet()).spawn().unwrap();
    let running = Background(running);
    let lines = || {
        let text = std::fs::read_to_string(out.join("batch.jsonl")).unwrap_or_default();
        text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count()
    };
    wait_for("a study that is done", || (lines() >= 1).then_some(()));
    drop(running);
    let before = lines();
    assert!((1..4).contains(&before), "{before} done before the kill");
    let asked_before = gateway.requests().len();
    let rest = batch(&["--yes", "--json"]).output().unwrap();
    assert_eq!(rest.status.code(), Some(1), "a broken file is no success: {}", said(&rest));
    let shown = json_of(&rest);
    let counts = (&shown["studies"], &shown["done_before"], &shown["left_out"]);
    assert_eq!(counts, (&json!(4), &json!(before), &json!(1)), "{shown:#}");
    assert_eq!(shown["outcomes"], json!({"read": 4}), "{shown:#}");
    assert_eq!((&shown["alerts"], &shown["cost_micro"]), (&json!(4), &json!(2_000_000)));
    assert_eq!(gateway.requests().len() - asked_before, 4 - before, "nothing is read twice");
    assert!(String::from_utf8_lossy(&rest.stderr).contains("cut.dcm"), "{}", said(&rest));
    let table = std::fs::read_to_string(out.join("summary.csv")).unwrap();
    assert_eq!(table.lines().filter(|line| line.contains("\"Pneumothorax, left\"")).count(), 4);
    assert!(table.contains("studies/below/3.dcm\""), "{table}");
    let again = batch(&["--json"]).output().unwrap();
    assert_eq!(json_of(&again)["done_before"], 4, "{}", said(&again));
}

#[test]
fn a_replay_says_what_another_model_would_change_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let first = Gateway::start(folder.path(), "read");
    let other = Gateway::named(folder.path(), "candidate", "clear");
    let mut set = [&first.set[..], &other.set[..]].concat();
    set.push("analysis.prices.fixture-vision-1={ picture = 0.5 }".into());
    let data = folder.path().join("data");
    let node = Node::start(&data, &set.iter().map(String::as_str).collect::<Vec<_>>());
    let file = folder.path().join("adult.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    node.storescu(std::slice::from_ref(&file));
    let kept = node.study_in(&uid, "delivered");
    let replay = |more: &[&str]| {
        let args = ["replay", &uid, "--data", path(&data), "--yes", "--json"];
        prelim(&[&args[..], more].concat(), &set).output().unwrap()
    };
    let same = replay(&[]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    let changed = replay(&["--provider", "candidate"]);
    assert_eq!(changed.status.code(), Some(1), "{}", said(&changed));
    let shown = json_of(&changed);
    let found = &shown["differences"][0];
    assert_eq!(found["only_before"], json!(["Pneumothorax, left"]), "{shown:#}");
    assert_eq!(found["only_now"], json!([]), "{shown:#}");
    assert_eq!(shown["alerts"], json!({"before": 1, "now": 0}), "{shown:#}");
    assert_eq!(shown["cost_micro"], json!({"before": 500_000, "now": 500_000}), "{shown:#}");
    let words =
        prelim(&["replay", &uid, "--data", path(&data), "--yes", "--provider", "candidate"], &set);
    let words = { words }.output().unwrap();
    let words = String::from_utf8_lossy(&words.stdout).into_owned();
    assert!(
        words.contains("- Pneumothorax, left") && words.contains("no alert any more"),
        "{words}"
    );
    let after = node.study_in(&uid, "delivered");
    assert_eq!((&kept["revision"], &kept["order"]), (&after["revision"], &after["order"]));
    // Also without a node, and a day at a time.
    let day = after["last_received_at"].as_str().unwrap()[..10].to_owned();
    assert_eq!(node.terminate(), Some(0));
    let args = ["replay", "--day", &day, "--data", path(&data), "--yes", "--json"];
    let by_day = json_of(&prelim(&args, &set).output().unwrap());
    assert_eq!((&by_day["studies"], &by_day["different"]), (&json!(1), &json!(0)), "{by_day:#}");
}

const WOUND: &str = r#"
name = "wound"
version = 1
title = "Wound photograph"
schema = '''{"type": "object", "additionalProperties": false,
  "required": ["category", "colours", "area_cm2", "note"],
  "properties": {"category": {"enum": ["ulcer", "burn", "other"]}, "colours": {"type": "array",
    "items": {"type": "string"}}, "area_cm2": {"type": "number", "minimum": 0}, "note": {"type": "string"}}}'''
prompt = """
Describe the wound on these photographs.

{{> context}}

{{> pictures}}
"""
"#;

#[test]
fn a_profile_with_a_schema_of_its_own_gives_its_object_and_no_report() {
    let folder = tempfile::tempdir().unwrap();
    let profiles = folder.path().join("profiles");
    std::fs::create_dir(&profiles).unwrap();
    std::fs::write(profiles.join("wound.toml"), WOUND).unwrap();
    let gateway = Gateway::start(folder.path(), "wound");
    let mut set = gateway.set.clone();
    set.push(format!("analysis.profiles=\"{}\"", profiles.display()));
    set.push("analysis.prices.fixture-vision-1={ picture = 0.5 }".into());
    let data = folder.path().join("data");
    let node = Node::start(&data, &set.iter().map(String::as_str).collect::<Vec<_>>());
    let photo = root().join("tests/fixtures/cxr").join(POSITIVE);
    let upload = |profile: &str| {
        let url = format!("http://{}/api/v1/analyze", node.http);
        let (file, profile) = (format!("file=@{}", photo.display()), format!("profile={profile}"));
        let mut curl = Command::new("curl");
        curl.args(["-sS", "-F", "modality=XC", "-F", &profile, "-F", &file, &url]);
        json_of(&run(&mut curl))
    };
    let unknown = upload("burns");
    assert_eq!(unknown["status"], 422, "{unknown:#}");
    assert!(unknown["detail"].as_str().unwrap().contains("wound"), "{unknown:#}");
    let id = upload("wound")["id"].as_str().unwrap().to_owned();
    let done = wait_for("the object", || {
        let url = format!("http://{}/api/v1/analyses/{id}", node.http);
        let got = json_of(&run(Command::new("curl").args(["-sS", &url])));
        (got["state"] == "delivered").then_some(got)
    });
    let object =
        json!({"category": "ulcer", "colours": ["red"], "area_cm2": 4.5, "note": "vết thương"});
    assert_eq!(done["object"], object, "{done:#}");
    assert_eq!((&done["reading"], &done["urgency"]), (&Value::Null, &Value::Null), "{done:#}");
    let files: Vec<&str> = done["artefacts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["file"].as_str().unwrap())
        .collect();
    assert!(files.contains(&"object.json") && files.contains(&"runs.json"), "{files:?}");
    assert!(
        !files.iter().any(|file| file.starts_with("report") || file.ends_with(".dcm")),
        "{files:?}"
    );
    // The first answer did not follow the schema: it was repaired, and both were paid for.
    let runs = data.join("results").join(id.rsplit_once('-').unwrap().0).join("1/runs.json");
    let runs: Value = serde_json::from_slice(&std::fs::read(runs).unwrap()).unwrap();
    let costs: Vec<&Value> =
        runs[0]["calls"].as_array().unwrap().iter().map(|call| &call["cost_micro"]).collect();
    assert_eq!(costs, [&json!(500_000), &json!(500_000)], "{runs:#}");
    // Nothing is read by it that was not sent for it.
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "Modality=XC", "BodyPartExamined="]);
    node.storescu(std::slice::from_ref(&file));
    std::thread::sleep(Duration::from_millis(10));
    let shown = node.study_in(&uid, "needs_review");
    assert_ne!(shown["examination"], "Wound photograph", "{shown:#}");
}
