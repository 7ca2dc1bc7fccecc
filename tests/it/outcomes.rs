//! One truth about the outcome, as people and programs are shown it: pages in four languages, the API,
//! the commands, the metrics.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::Peers;
use crate::way::files;

const LANGUAGES: [&str; 4] = ["en", "ko", "vi", "zh"];

/// What says that a study was looked at and nothing is wrong with it.
fn calm(language: &str) -> Vec<String> {
    let file = root().join(format!("templates/web/words/{language}.json"));
    let words: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let keys = ["level.routine", "note.nothing", "presence.absent", "study.absent"];
    let own = keys.map(|key| words[key].as_str().unwrap_or_else(|| panic!("{key}")).to_lowercase());
    let english = ["routine", "usual reading order", "unremarkable", "absent", "without findings"];
    own.into_iter().chain(english.map(str::to_owned)).collect()
}

/// The words of a page, as they are read.
fn words(page: &str) -> String {
    let mut text = String::new();
    for part in page.split('<').skip(1) {
        let (tag, words) = part.split_once('>').unwrap_or((part, ""));
        if !tag.starts_with("script") && !tag.starts_with("style") {
            text.push_str(words);
            text.push('\n');
        }
    }
    text.to_lowercase()
}

fn page(node: &Node, path: &str, language: &str) -> String {
    let url = format!("http://{}{path}", node.http);
    let cookie = format!("prelim_language={language}");
    let shown = run(Command::new("curl").args(["-s", "-m", "20", "-b", &cookie, &url]));
    String::from_utf8(shown.stdout).unwrap()
}

/// Everything that shows this study but its files: what it is, its language, its words.
fn shown(node: &Node, uid: &str) -> Vec<(String, &'static str, String)> {
    let mut all = Vec::new();
    for language in LANGUAGES {
        let study = page(node, &format!("/studies/{uid}"), language);
        all.push((format!("page in {language}"), language, words(&study)));
        let list = page(node, "/", language);
        let row = list.split("<tr").find(|row| row.contains(uid)).expect("it is on the list");
        all.push((format!("worklist in {language}"), language, words(&format!("<tr{row}"))));
    }
    let command = |args: &[&str]| {
        // What lists open alerts ends with 1.
        let mut command = Command::new(PRELIM);
        let output = command.args(args).arg("--data").arg(&node.data).output().unwrap();
        String::from_utf8(output.stdout).unwrap().to_lowercase()
    };
    all.push(("prelim study".into(), "en", command(&["study", uid])));
    all.push(("prelim study --json".into(), "en", command(&["study", uid, "--json"])));
    all.push(("prelim alerts".into(), "en", command(&["alerts", "--study", uid])));
    all.push(("prelim alerts --json".into(), "en", command(&["alerts", "--study", uid, "--json"])));
    for path in [format!("/api/v1/studies/{uid}"), "/api/v1/alerts".into()] {
        let text = http(node, &path).to_lowercase();
        all.push((path, "en", text));
    }
    let metrics = http(node, "/metrics");
    let of_studies = metrics.lines().filter(|line| !line.starts_with('#') && !line.ends_with(" 0"));
    all.push(("metrics".into(), "en", of_studies.collect::<Vec<_>>().join("\n")));
    all
}

fn nothing_is_calm(node: &Node, uid: &str, outcome: &str) {
    let mut calm_words = Vec::new();
    for (what, language, text) in shown(node, uid) {
        // How soon it is wanted says nothing of what was found.
        let text = ["\"priority\": \"routine\"", "\"priority\":\"routine\""]
            .iter()
            .fold(text, |text, said| text.replace(said, ""));
        for word in calm(language) {
            let at = text.find(&word);
            let around = at.map(|at| {
                let from = (0..=at.saturating_sub(80)).rev().find(|at| text.is_char_boundary(*at));
                text[from.unwrap_or(0)..].chars().take(200).collect::<String>()
            });
            calm_words.extend(around.map(|around| format!("{what} says {word:?}: {around}")));
        }
    }
    assert!(calm_words.is_empty(), "{outcome}: {calm_words:#?}");
}

fn started(folder: &Path, name: &str, set: &[String]) -> Node {
    let set: Vec<&str> = set.iter().map(String::as_str).collect();
    Node::start(&folder.join(name), &set)
}

fn adult(folder: &Path, node: &Node) -> String {
    let file = folder.join("adult.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y"]);
    node.storescu(&[file]);
    uid
}

#[test]
fn no_page_api_command_or_metric_calls_a_study_routine_that_nobody_is_sure_of() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (name, mode, more, state, outcome) in [
        ("prose", "prose", "", "needs_review", "needs_review"),
        (
            "forbidden",
            "clear",
            "analysis.gateways.main.modalities_allowed=[\"CT\"]",
            "delivered",
            "measured_only",
        ),
    ] {
        let peers = folder.join(name);
        std::fs::create_dir(&peers).unwrap();
        let gateway = Gateway::start(&peers, mode);
        let more = Some(more.to_owned()).filter(|more| !more.is_empty());
        let node =
            started(&peers, "data", &gateway.set.iter().cloned().chain(more).collect::<Vec<_>>());
        let uid = adult(folder, &node);
        node.study_in(&uid, state);
        let shown = wait_for("its outcome", || {
            Some(study(&node.data, &uid)?).filter(|study| !study["outcome"].is_null())
        });
        assert_eq!(
            (&shown["outcome"], &shown["urgency"]),
            (&outcome.into(), &Value::Null),
            "{shown:#}"
        );
        nothing_is_calm(&node, &uid, name);
    }
    let node = started(folder, "local", &[]);
    let uid = adult(folder, &node);
    assert_eq!(node.study_in(&uid, "delivered")["outcome"], "not_covered");
    nothing_is_calm(&node, &uid, "not covered");
    // Nothing but a result of others.
    let (image, report) = (folder.join("image.dcm"), folder.join("report.dcm"));
    let uid = chest_xray(POSITIVE, &image, &["PatientAge=051Y"]);
    let script = root().join("tests/peers/final_sr.py");
    run(Command::new(python()).arg(script).args([&image, &report]).arg("unverified").arg("x"));
    node.storescu(&[report]);
    let held = node.study_in(&uid, "held");
    assert_eq!((&held["outcome"], &held["urgency"]), (&"held".into(), &Value::Null), "{held:#}");
    nothing_is_calm(&node, &uid, "held");
    // It has a record that says so, and nothing goes out of it.
    let results = node.data.join("results").join(&uid).join("1");
    let assessment = std::fs::read(results.join("assessment.json")).unwrap();
    let assessment: Value = serde_json::from_slice(&assessment).unwrap();
    assert_eq!(assessment["outcome"]["outcome"], "held", "{assessment:#}");
    assert_eq!(assessment["outcome"]["reason"], held["reason"], "{assessment:#}");
    assert!(!results.join("report.txt").exists() && !results.join("sr.dcm").exists());
    assert_eq!(held["deliveries"].as_array().map_or(0, Vec::len), 0, "{held:#}");
}

/// The step that makes its pictures ends the node, each time. The fourth start leaves it alone, and
/// says to everyone that nobody has read it.
#[test]
fn a_study_that_ends_the_node_each_time_goes_out_as_one_that_nobody_has_read() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let data = folder.path().join("data");
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    let mut set = peers.set();
    set.push("pipeline.crash_at=\"picture:before\"");
    let node = Node::start(&data, &set);
    node.storescu(std::slice::from_ref(&file));
    node.wait();
    for _ in 0..2 {
        // It may end before anyone has seen it ready.
        Node::spawn(&data, &set).0.wait().unwrap();
    }
    let node = Node::start(&data, &peers.set());
    let shown = node.study_in(&uid, "needs_review");
    assert_eq!(shown["outcome"], "needs_review", "{shown:#}");
    let report = data.join("results").join(&uid).join("1/report.txt");
    let report = wait_for("its report", || std::fs::read_to_string(&report).ok());
    assert!(report.contains("the node ended 3 times"), "{report}");
    wait_for("its structured report", || (!files(&peers.pacs_folder).is_empty()).then_some(()));
    nothing_is_calm(&node, &uid, "given up");
    // A word brings it back: read again, as the next revision.
    let id = shown["jobs"].as_array().into_iter().flatten().find(|job| job["state"] == "dead");
    let id = id.map_or(format!("{uid}/1/picture"), |job| job["job"]["id"].as_str().unwrap().into());
    run(Command::new(PRELIM).args(["queue", "--retry", &id, "--data"]).arg(&data));
    let shown = node.study_in(&uid, "delivered");
    assert_eq!((&shown["outcome"], &shown["revision"]), (&"read".into(), &2.into()), "{shown:#}");
}
