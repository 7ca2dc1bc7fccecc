//! `/api/v1` as other programs meet it: by its own description, by curl, and by a fuzzer.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::node::Node;
use crate::node::PRELIM;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;

const CT: &str = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";

/// Head and body of an answer.
struct Answer {
    status: u16,
    head: String,
    body: Value,
}

fn ask(node: &Node, path: &str, args: &[&str]) -> Answer {
    let url = format!("http://{}/api/v1{path}", node.http);
    let output = run(Command::new("curl").args(["-s", "-i", "-H", "Expect:"]).args(args).arg(url));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let body = serde_json::from_str(body).unwrap_or_default();
    Answer { status, head: head.to_lowercase(), body }
}

fn file(path: &Path) -> String {
    format!("file=@{}", path.display())
}

/// What a page says, and all pages after it.
fn all(node: &Node, path: &str) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = ask(node, &format!("{path}{cursor}"), &[]);
        assert_eq!(answer.status, 200, "{path}{cursor}: {}", answer.body);
        items.extend(answer.body["items"].as_array().unwrap().clone());
        match answer.body["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

#[test]
fn a_batch_has_an_outcome_for_each_file_and_lists_come_in_pages() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[]);
    let junk = folder.path().join("junk");
    std::fs::write(&junk, "no picture").unwrap();
    let files: Vec<PathBuf> = ["CT_small.dcm", "MR_small.dcm", "rtplan.dcm"]
        .into_iter()
        .map(pydicom_file)
        .chain([junk])
        .collect();
    let forms: Vec<String> = files.iter().map(|path| file(path)).collect();
    let args: Vec<&str> = forms.iter().flat_map(|form| ["-F", form.as_str()]).collect();
    let answer = ask(&node, "/batch-analyze", &args);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let items = answer.body["items"].as_array().unwrap();
    let statuses: Vec<u64> = items.iter().map(|item| item["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 202, 202, 415]);
    assert!(items[3]["problem"].as_str().unwrap().contains("no DICOM"), "{}", items[3]);
    let too_many: Vec<&str> = std::iter::repeat_n(["-F", &forms[3]], 101).flatten().collect();
    assert_eq!(ask(&node, "/batch-analyze", &too_many).status, 400);

    node.study_in(CT, "delivered");
    // A study that changes meanwhile goes to the front of the list.
    wait_for("studies at rest", || {
        let rest = |item: &Value| item["state"] == "delivered" || item["state"] == "held";
        let studies = all(&node, "/studies?limit=1000");
        (studies.len() == 3 && studies.iter().all(rest)).then_some(())
    });
    let [one_by_one, whole] = [all(&node, "/studies?limit=1"), all(&node, "/studies?limit=1000")];
    let uids = |items: &[Value]| -> Vec<String> {
        let mut uids: Vec<_> = items.iter().map(|item| item["study_uid"].to_string()).collect();
        uids.sort();
        uids
    };
    assert_eq!((whole.len(), uids(&one_by_one)), (3, uids(&whole)));
    assert_eq!(all(&node, "/studies?modality=CT").len(), 1);
    assert_eq!(all(&node, "/analyses?state=delivered&modality=CT").len(), 1);
    assert_eq!(all(&node, "/studies?since=2999-01-01T00:00:00Z").len(), 0);

    let detail = ask(&node, &format!("/studies/{CT}"), &[]).body;
    assert_eq!(detail["outcome"], "not_covered");
    let text = detail.to_string();
    assert!(!text.contains("CompressedSamples"), "who the patient is, is not said: {text}");
    assert!(detail["artefacts"].as_array().unwrap().iter().any(|a| a["file"] == "report.pdf"));
    let health = ask(&node, "/health", &[]);
    assert_eq!((health.status, &health.body["ready"]), (200, &Value::Bool(true)));
    for (path, why) in [
        ("/studies?limit=0", "limit: use 1 to 1000"),
        ("/studies?limit=many", "limit"),
        ("/studies?colour=red", "colour"),
        ("/studies?cursor=x", "next"),
        ("/studies/1.2..3", "UID"),
    ] {
        let answer = ask(&node, path, &[]);
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.head.contains("application/problem+json"), "{path}: {}", answer.head);
        assert!(answer.body["detail"].as_str().unwrap().contains(why), "{path}: {}", answer.body);
    }
}

#[test]
fn a_request_that_is_sent_twice_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &["assemble.quiet_period_s=1800"]);
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    let path = format!("/studies/{CT}/complete");
    let say = |key: &str, note: &str| {
        let (key, body) = (format!("Idempotency-Key: {key}"), format!("{{\"note\":\"{note}\"}}"));
        ask(&node, &path, &["-H", &key, "--json", &body])
    };
    let first = say("a", "whole");
    assert_eq!((first.status, &first.body["revision"]), (200, &Value::from(1)));
    let again = say("a", "whole");
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert!(again.head.contains("idempotency-replayed: true"), "{}", again.head);
    assert_eq!(say("a", "something else").status, 422);
    assert_eq!(say("b", "whole").status, 404, "it takes no instances any more");
}

#[test]
fn one_who_asks_too_often_is_told_when_to_ask_again() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["http.requests_per_minute_max=30"];
    let node = Node::start(&folder.path().join("data"), &set);
    let last = wait_for("an answer of 429", || {
        let answer = ask(&node, "/health", &[]);
        (answer.status == 429).then_some(answer)
    });
    assert!(last.head.contains("retry-after: 2"), "{}", last.head);
    assert!(last.body["detail"].as_str().unwrap().contains("requests_per_minute_max"));
}

#[test]
fn the_description_is_valid_openapi() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[]);
    let described = ask(&node, "/openapi.json", &[]).body;
    assert_eq!(described["openapi"], "3.1.0");
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, described.to_string()).unwrap();
    run(Command::new(python()).args(["-m", "openapi_spec_validator"]).arg(&file));
}

/// What the description cannot say: a picture without its modality is well formed (422), a file may
/// be of no kind that is read (415), and of several files each has its own outcome.
const FUZZING: &str = "\
[checks]
positive_data_acceptance.expected-statuses = [\"2xx\", \"401\", \"403\", \"404\", \"409\", \"415\", \"422\", \"429\"]
[[operations]]
include-path = \"/api/v1/batch-analyze\"
checks.negative_data_rejection.enabled = false
";

/// The fuzzer reads the description and sends what fits it and what does not, with and without what
/// lets it in; all its checks count, but that ten wrong tokens make it wait. One thread: with more, Python's own parser fails now and then.
#[test]
fn no_request_makes_the_node_fail_and_every_answer_is_as_described() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &["http.requests_per_minute_max=0"]);
    node.storescu(&[pydicom_file("CT_small.dcm")]);
    node.study_in(CT, "delivered");
    let fuzz = |node: &Node, known: &str, args: &[&str]| {
        std::fs::write(folder.path().join("schemathesis.toml"), format!("{FUZZING}{known}"))
            .unwrap();
        let described = format!("http://{}/api/v1/openapi.json", node.http);
        let mut schemathesis = Command::new(python().with_file_name("schemathesis"));
        schemathesis.current_dir(folder.path()).args(["run", "--seed=1", "--workers=1"]);
        schemathesis.args(["--no-color"]).args(args).arg(&described);
        let output = schemathesis.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    fuzz(&node, "", &["--max-examples=12"]);
    // And what is asked of a study that is here.
    let known = format!("[parameters]\n\"path.uid\" = \"{CT}\"\n");
    let of_study = ["--phases=fuzzing", "--max-examples=25", "--include-path-regex=/studies/"];
    fuzz(&node, &known, &of_study);
    assert!(!node.log().contains("panicked"), "{}", node.log());

    let data = folder.path().join("guarded");
    std::fs::create_dir(&data).unwrap();
    let may = "view,answer,judge,send,operate,watch";
    let mut token = Command::new(PRELIM);
    let token = run(token.args(["token", "add", "fuzz", "--may", may, "--data"]).arg(&data));
    let token = String::from_utf8(token.stdout).unwrap();
    let bearer = format!("Authorization: Bearer {}", token.lines().next().unwrap());
    let set = ["http.requests_per_minute_max=0", "http.login=required"];
    let node = Node::start(&data, &set);
    fuzz(&node, "", &["--max-examples=5", "--exclude-checks=ignored_auth", "-H", &bearer]);
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
