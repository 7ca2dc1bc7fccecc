//! What doctors say of readings: feedback, final reports by DICOM and HL7, and the statistics.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::study;
use crate::node::wait_for;
use crate::way::POSITIVE;

struct Site {
    folder: tempfile::TempDir,
    gateway: Gateway,
    node: Node,
}

impl Site {
    /// A node whose gateway finds a left pneumothorax in everything.
    fn start() -> Site {
        let folder = tempfile::tempdir().unwrap();
        let gateway = Gateway::start(folder.path(), "read");
        let set: Vec<&str> = gateway.set.iter().map(String::as_str).collect();
        let node = Node::start(&folder.path().join("data"), &set);
        Site { folder, gateway, node }
    }

    /// Sends a study and waits until it is read.
    fn read(&self, name: &str) -> String {
        let file = self.folder.path().join(format!("{name}.dcm"));
        let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "ManufacturerModelName=M1"]);
        self.node.storescu(std::slice::from_ref(&file));
        self.node.study_in(&uid, "delivered");
        uid
    }

    /// Sends a final report of that study; gives its SOP Instance UID.
    fn report(&self, name: &str, what: &[&str]) -> String {
        let (out, sop) = self.written(name, what);
        self.node.storescu(&[out]);
        sop
    }

    fn written(&self, name: &str, what: &[&str]) -> (PathBuf, String) {
        let image = self.folder.path().join(format!("{name}.dcm"));
        let out = self.folder.path().join(format!("{name}-{}-sr.dcm", what[0]));
        let script = root().join("tests/peers/final_sr.py");
        let made = run(Command::new(python()).arg(script).arg(image).arg(&out).args(what));
        (out, String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }

    fn prelim(&self, args: &[&str]) -> Output {
        prelim(&self.node.data, args)
    }

    /// Waits until the study has so many comparisons.
    fn compared(&self, uid: &str, count: usize) -> Vec<Value> {
        wait_for("comparisons", || {
            let study = study(&self.node.data, uid)?;
            let all = study["comparisons"].as_array().unwrap().clone();
            assert!(all.len() <= count, "{all:#?}");
            (all.len() == count).then_some(all)
        })
    }
}

fn prelim(data: &Path, args: &[&str]) -> Output {
    Command::new(PRELIM).args(args).arg("--data").arg(data).output().unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output)))
}

/// `curl` with a body; status and answer.
fn post(node: &Node, path: &str, kind: &str, body: &str) -> (String, String) {
    let url = format!("http://{}{path}", node.http);
    let header = format!("Content-Type: {kind}");
    let args =
        ["-s", "-m", "20", "-w", "\n%{http_code}", "-H", &header, "--data-binary", body, &url];
    let output = String::from_utf8(run(Command::new("curl").args(args)).stdout).unwrap();
    let (answer, status) = output.rsplit_once('\n').unwrap();
    (status.to_owned(), answer.to_owned())
}

/// It says that there is none, of somebody else.
#[test]
fn a_final_report_that_names_another_patient_says_nothing_of_this_one() {
    let site = Site::start();
    let uid = site.read("a");
    let (report, _) = site.written("a", &["coded"]);
    run(Command::new("dcmodify").args(["-nb", "-m", "PatientID=SOMEBODY-ELSE"]).arg(&report));
    site.node.storescu(&[report]);
    let shown = wait_for("word of what it is", || {
        let shown = study(&site.node.data, &uid)?;
        let objects = shown["objects"].as_array()?.clone();
        objects.into_iter().find(|one| one["origin"] == "derived")
    });
    assert!(shown.to_string().contains("names another patient"), "{shown:#}");
    assert!(site.compared(&uid, 0).is_empty());
}

#[test]
fn feedback_and_final_reports_become_sensitivity_and_ppv() {
    let site = Site::start();
    let [a, b, c] = ["a", "b", "c"].map(|name| site.read(name));

    // A: a doctor disagrees, on the command line, and names what was missed, over the API.
    let given = ["feedback", &a, "--finding", "F1", "--disagree", "--comment", "Zyxwv has none"];
    let output = site.prelim(&given);
    assert!(output.status.success(), "{}", said(&output));
    let path = format!("/api/v1/studies/{a}/feedback");
    let json_type = "application/json";
    let (status, answer) =
        post(&site.node, &path, json_type, r#"{"missed": "rib_fracture", "by": "J. Kim"}"#);
    assert_eq!(status, "200", "{answer}");
    let all = site.compared(&a, 2);
    assert_eq!(
        (&all[0]["verdict"], &all[0]["findings"][0]["truth"]),
        (&"disagree".into(), &false.into())
    );
    assert_eq!(all[0]["comment"], "[removed] has none");
    assert_eq!(all[0]["read_by"]["prompt"], "chest_xray/2");
    assert_eq!(all[0]["read_by"]["scanner"], "Fixture M1");
    assert_eq!(all[1]["findings"][0]["ours"], "undetermined", "asked, and not answered");
    assert!(all[1]["by"].as_str().unwrap().starts_with("J. Kim ("), "{all:#?}");
    let shown = String::from_utf8(site.prelim(&["study", &a]).stdout).unwrap();
    assert!(shown.contains("What doctors say") && shown.contains("[removed] has none"), "{shown}");
    // What does not fit is refused, with its reason.
    for (body, status) in [
        (r#"{"finding": "F99", "verdict": "agree"}"#, "422"),
        (r#"{"finding": "F1"}"#, "422"),
        (r#"{"finding": "F1", "verdict": "perhaps"}"#, "422"),
        ("{", "400"),
    ] {
        assert_eq!(post(&site.node, &path, json_type, body).0, status, "{body}");
    }
    let unknown = post(&site.node, "/api/v1/studies/1.2.3/feedback", json_type, "{}");
    assert_eq!(unknown.0, "404", "{}", unknown.1);
    assert!(!site.prelim(&["feedback", &a, "--finding", "F99", "--agree"]).status.success());

    // B: a coded SR says that there is none. The study is not read again.
    let asked = site.gateway.requests().len();
    let sop = site.report("b", &["coded"]);
    let compared = &site.compared(&b, 1)[0];
    assert_eq!(
        (&compared["origin"], &compared["kind"], &compared["id"]),
        (&"final".into(), &"sr".into(), &sop.into())
    );
    let finding = &compared["findings"][0];
    assert_eq!(finding["key"], "pneumothorax");
    assert_eq!((&finding["truth"], &finding["how"]), (&false.into(), &"code".into()));
    let stands = site.node.study_in(&b, "delivered");
    assert_eq!((&stands["outcome"], &stands["urgency"]), (&"read".into(), &"urgent".into()));
    assert_eq!(stands["revision"], 1);

    // C: words, after an indication that says nothing of the images; a preliminary report and our
    // own that comes back from the archive are not compared.
    site.report("c", &["preliminary", "No pneumothorax."]);
    // Another software's text, which nobody has verified and in which no person is named, is none.
    site.report("c", &["unverified", "Large right pneumothorax."]);
    site.report("c", &["text", "Small left pneumothorax. No pleural effusion."]);
    let compared = &site.compared(&c, 1)[0];
    assert_eq!(
        (&compared["findings"][0]["truth"], &compared["findings"][0]["how"]),
        (&true.into(), &"text".into())
    );
    let ours = site.node.data.join("results").join(&c).join("1/sr.dcm");
    site.node.storescu(&[ours]);
    let shown = wait_for("our own report", || {
        let shown = study(&site.node.data, &c)?;
        let objects = shown["objects"].as_array()?.clone();
        objects.iter().any(|one| one["origin"] == "ours").then_some(shown)
    });
    assert_eq!((&shown["revision"], &shown["state"]), (&1.into(), &"delivered".into()));
    let count = |origin: &str| {
        let all = shown["objects"].as_array().unwrap();
        all.iter().filter(|one| one["origin"] == origin).count()
    };
    assert_eq!([count("image"), count("derived"), count("report")], [1, 2, 1], "{shown:#}");
    site.compared(&c, 1);
    assert_eq!(site.gateway.requests().len(), asked, "nothing was read again");

    // The same as an HL7 message: of this patient alone.
    let file = site.folder.path().join("oru.hl7");
    let oru = |id: &str| {
        format!(
            "MSH|^~\\&|RIS|H|P|H|2026||ORU^R01^ORU_R01|M1|P|2.5.1\rPID|1||{id}^^^H^MR\rOBX|1|TX|59776-5^Findings^LN||Large left pneumothorax.||||||F\r"
        )
    };
    for (id, compared) in [("OTHER", false), ("PID-998877", true)] {
        std::fs::write(&file, oru(id)).unwrap();
        let output = site.prelim(&["final", &c, file.to_str().unwrap(), "--json"]);
        assert_eq!(output.status.success(), compared, "{}", said(&output));
    }
    site.compared(&c, 2);
    let words = format!("/api/v1/studies/{c}/final?by=RIS");
    let (status, answer) =
        post(&site.node, &words, "text/plain", "IMPRESSION: Pneumothorax on the left.");
    assert_eq!(status, "200", "{answer}");
    assert!(answer.contains("RIS ("), "{answer}");

    // One of three was right: a word, a code, and words.
    let check = |found: Value| {
        let lines = found["lines"].as_array().unwrap();
        let line = |key: &str| lines.iter().find(|line| line["group"][0] == key).unwrap();
        let [line, missed] = ["pneumothorax", "rib_fracture"].map(line);
        assert_eq!(missed["false_negative"], 1, "{missed:#}");
        let counts = ["observations", "estimated", "true_positive", "false_positive"];
        assert_eq!(counts.map(|key| line[key].as_u64().unwrap()), [3, 1, 1, 2], "{line:#}");
        let ppv = &line["ppv"];
        assert!((ppv["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-6, "{ppv}");
        assert!((ppv["low"].as_f64().unwrap() - 0.0614).abs() < 1e-3, "{ppv}");
        assert_eq!(found["weeks"][0]["studies"], 3, "{found:#}");
        let alerts = &found["alert_precision"];
        assert_eq!(alerts["of"], 3, "each was alerted and judged: {found:#}");
        assert!((alerts["value"].as_f64().unwrap() - 1.0 / 3.0).abs() < 1e-6, "{alerts}");
    };
    let agreement = ["agreement", "--by", "finding,model,prompt,scanner", "--json"];
    check(json(&site.prelim(&agreement)));
    let table = String::from_utf8(site.prelim(&["agreement"]).stdout).unwrap();
    assert!(table.contains("33% (6 to 79)") && table.contains("estimate"), "{table}");
    let group = json(&site.prelim(&agreement))["lines"][0]["group"].clone();
    assert_eq!((&group[2], &group[3]), (&"chest_xray/2".into(), &"Fixture M1".into()), "{group}");

    // It is all in the ledger: also without the node, and out of an index made anew.
    let Site { folder, gateway: _gateway, node } = site;
    let data = node.data.clone();
    node.kill();
    let rebuilt = prelim(&data, &["rebuild"]);
    assert!(rebuilt.status.success(), "{}", said(&rebuilt));
    check(json(&prelim(&data, &agreement)));
    drop(folder);
}
