//! Studies read by what a site brings itself: an ONNX model, a program.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use serde_json::json;

use crate::gateway::Gateway;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::way::POSITIVE;

const NORMAL: &str = "normal_IM-0103-0001.jpeg";

/// The model that ships, as a site would bring its own: graph and manifest in a folder.
fn model_folder(folder: &Path, change: impl FnOnce(&mut Value)) -> PathBuf {
    let shipped = root().join("models/chest-xray-pneumonia-paediatric");
    let of_it = std::fs::read(shipped.join("manifest.json")).unwrap();
    let of_it: Value = serde_json::from_slice(&of_it).unwrap();
    let measured = |value, low, high| json!({"value": value, "low": low, "high": high});
    let mut manifest = json!({
        "name": "chest-children", "version": "1.0.0", "manufacturer": "The site",
        "licence": "CC BY 4.0", "training_data": "4,672 pictures of children of 1 to 5 years.",
        "graph": {"file": "model.onnx", "sha256": of_it["sha256"]},
        "input": {"tensor": "picture", "layout": "nchw", "width": 32, "height": 32, "channels": 1,
            "grey": "bright_is_dense", "resize": "squash", "resampling": "area",
            "values": {"of_picture": {"epsilon": 1.0}}},
        "outputs": [{"tensor": "pneumonia", "activation": "none", "numbers": 1,
            "labels": [{"index": 0, "finding": "pneumonia", "threshold": 0.5}]}],
        "intended_use": {"text": "Frontal chest X-rays of children.", "modalities": ["CR", "DX"],
            "body_parts": ["CHEST"], "views": ["PA", "AP"], "age_years_max": 17},
        "operating_points": [{"finding": "pneumonia", "set": "official test", "n": 624,
            "sensitivity": measured(0.95, 0.92, 0.97), "specificity": measured(0.91, 0.87, 0.94)}],
    });
    change(&mut manifest);
    let made = folder.join("model");
    std::fs::create_dir_all(&made).unwrap();
    std::fs::copy(shipped.join("model.onnx"), made.join("model.onnx")).unwrap();
    std::fs::write(made.join("manifest.json"), manifest.to_string()).unwrap();
    made
}

fn onnx(name: &str, folder: &Path) -> Vec<String> {
    let at = format!("analysis.gateways.{name}");
    vec![format!("{at}.kind=\"onnx\""), format!("{at}.folder=\"{}\"", folder.display())]
}

fn command(name: &str, mode: &str, folder: &Path) -> Vec<String> {
    let at = format!("analysis.gateways.{name}");
    let script = root().join("tests/peers/reader.py");
    vec![
        format!("{at}.kind=\"command\""),
        format!("{at}.program=\"{}\"", python().display()),
        format!("{at}.arguments=[\"{}\",\"{mode}\",\"{}\"]", script.display(), folder.display()),
        format!("{at}.model=\"reader\""),
    ]
}

struct Read {
    folder: tempfile::TempDir,
    node: Node,
}

impl Read {
    fn by(folder: tempfile::TempDir, provider: &str, set: &[String]) -> Read {
        let provider = format!("analysis.provider=\"{provider}\"");
        let set: Vec<&str> = set.iter().map(String::as_str).chain([provider.as_str()]).collect();
        let node = Node::start(&folder.path().join("data"), &set);
        Read { folder, node }
    }

    /// Sends a picture as the chest X-ray of somebody of this age.
    fn send(&self, picture: &str, age: &str) -> String {
        let file = self.folder.path().join(format!("{age}-{picture}.dcm"));
        // Born so long before the study of January 2026: headers that differ are nobody's.
        let years: u32 = age[..3].parse().unwrap();
        let born = format!("PatientBirthDate={}0630", 2025 - years);
        let uid = chest_xray(picture, &file, &[&format!("PatientAge={age}"), &born]);
        self.node.storescu(std::slice::from_ref(&file));
        uid
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn file(&self, uid: &str, name: &str) -> String {
        std::fs::read_to_string(self.data().join("results").join(uid).join("1").join(name)).unwrap()
    }

    fn json(&self, uid: &str, name: &str) -> Value {
        serde_json::from_str(&self.file(uid, name)).unwrap()
    }

    /// Waits until the report and what follows it are written.
    fn composed(&self, uid: &str) {
        let is_whole = |shown: &Value| shown.to_string().contains("sr.dcm");
        wait_for("the results", || study(&self.data(), uid).filter(is_whole));
    }

    /// The report on one line.
    fn report(&self, uid: &str) -> String {
        self.file(uid, "report.txt").split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// What is left of the folders that programs work in.
    fn left(&self, reader: &str) -> usize {
        std::fs::read_dir(self.data().join("readers").join(reader)).unwrap().count()
    }
}

#[test]
fn a_model_of_the_site_reads_what_it_is_made_for_and_says_why_not_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_folder(folder.path(), |_| ());
    let read = Read::by(folder, "children", &onnx("children", &model));
    let child = read.send(POSITIVE, "004Y");
    let shown = read.node.study_in(&child, "delivered");
    assert_eq!((&shown["outcome"], &shown["findings"][0]), (&"read".into(), &"Pneumonia".into()));
    let assessment = read.json(&child, "assessment.json");
    let algorithm = &assessment["algorithm"];
    assert_eq!(
        (&algorithm["provider"], &algorithm["name"], &algorithm["version"]),
        (&"children".into(), &"chest-children".into(), &"1.0.0".into())
    );
    let parameters = algorithm["parameters"].to_string();
    assert!(parameters.contains("sha256:9f65a1feae548f2a"), "{parameters}");
    assert!(
        parameters.contains("pneumonia 0.500") && !parameters.contains("prompt"),
        "{parameters}"
    );
    let finding = &assessment["findings"][0];
    // 0.997022 by PyTorch on the picture itself; here it has been a JPEG once more.
    assert!((finding["probability"].as_f64().unwrap() - 0.997).abs() < 0.01, "{finding:#}");
    assert_eq!(finding["evidence"].as_array().unwrap().len(), 1, "{finding:#}");
    let report = read.report(&child);
    assert!(report.contains("chest-children") && report.contains("1.0.0"), "{report}");
    let asked = "What was looked for: Pneumonia. Nothing else was looked for.";
    assert!(report.contains(asked), "{report}");
    assert!(report.contains("sensitivity 95% (92% to 97%), specificity 91%"), "{report}");
    let sr = read.data().join("results").join(&child).join("1/sr.dcm");
    let dump = String::from_utf8(run(Command::new("dsrdump").arg(sr)).stdout).unwrap();
    assert!(dump.contains("Pneumonia") && dump.contains("chest-children"), "{dump}");
    // It cost nothing and stayed here.
    let runs = read.json(&child, "runs.json");
    let call = &runs[0]["calls"][0];
    assert_eq!(
        (&call["outcome"], &call["cost_micro"]),
        (&"answered".into(), &0.into()),
        "{runs:#}"
    );
    let sent = shown.to_string();
    assert!(sent.contains("this machine"), "{shown:#}");

    let normal = read.send(NORMAL, "003Y");
    let shown = read.node.study_in(&normal, "delivered");
    assert_eq!(shown["outcome"], "read");
    let report = read.report(&normal);
    assert!(!report.to_lowercase().contains("normal study"), "{report}");
    // It was asked one of 18 questions: the film has no place in the usual order.
    assert!(shown["urgency"].is_null(), "{shown:#}");
    assert!(report.contains(asked) && report.contains("Not assessed"), "{report}");
    assert!(!report.contains("Routine") && !report.contains("Usual reading order"), "{report}");
    let absent = &read.json(&normal, "assessment.json")["findings"];
    assert_eq!(absent.as_array().unwrap().len(), 1, "{absent:#}");
    assert_eq!(absent[0]["presence"], "absent");

    let adult = read.send(POSITIVE, "051Y");
    let shown = read.node.study_in(&adult, "delivered");
    assert_eq!(shown["outcome"], "not_covered", "{shown:#}");
    let report = read.report(&adult);
    assert!(report.contains("it is for patients of at most 17 years"), "{report}");
    assert_eq!(read.json(&adult, "runs.json")[0]["calls"], json!([]), "nothing was tried");
    let compare = run(Command::new(PRELIM).args(["compare", "--json", "--data"]).arg(read.data()));
    let compare: Value = serde_json::from_slice(&compare.stdout).unwrap();
    let row = &compare["rows"][0];
    assert_eq!((&row["asked"], &row["success_rate"]), (&2.into(), &1.0.into()), "{compare:#}");
    let keys = run(Command::new(PRELIM).args(["keys", "--data"]).arg(read.data()));
    let keys = String::from_utf8(keys.stdout).unwrap();
    assert!(keys.contains("chest-children 1.0.0"), "{keys}");
}

#[test]
fn a_model_before_a_gateway_spares_it_what_is_clear() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::named(folder.path(), "strong", "clear");
    let model = model_folder(folder.path(), |_| ());
    let profiles = folder.path().join("profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    // A profile that asks about what the model covers.
    let profile = std::fs::read_to_string(root().join("config/profiles/chest_xray.toml")).unwrap();
    let (before, rest) = profile.split_once("findings = [").unwrap();
    let (_, after) = rest.split_once("\n]\n").unwrap();
    let (_, after) = after.split_once("raises = [").unwrap();
    let (_, after) = after.split_once("\n]\n").unwrap();
    let asked = "findings = [\"pneumonia\"]\n";
    std::fs::write(profiles.join("chest_xray.toml"), [before, asked, after].concat()).unwrap();
    let mut set = [gateway.set.clone(), onnx("children", &model)].concat();
    set.push(format!("analysis.profiles=\"{}\"", profiles.display()));
    set.push("analysis.strategies.careful.screen=\"children\"".to_owned());
    set.push("analysis.strategy=\"careful\"".to_owned());
    let read = Read::by(folder, "strong", &set);
    let clear = read.send(NORMAL, "004Y");
    assert_eq!(read.node.study_in(&clear, "delivered")["outcome"], "read");
    let report = read.report(&clear);
    assert!(report.contains("Screened only by children"), "{report}");
    assert_eq!(gateway.requests().len(), 0);
    let suspect = read.send(POSITIVE, "004Y");
    read.composed(&suspect);
    assert_eq!(gateway.requests().len(), 1);
    // Who is not among those that the model is made for is read by the gateway, and it is said.
    let adult = read.send(NORMAL, "051Y");
    read.composed(&adult);
    assert_eq!(gateway.requests().len(), 2);
    let report = read.report(&adult);
    assert!(
        report.contains("Not screened, because children does not read this study: it is for"),
        "{report}"
    );
}

#[test]
fn a_model_that_gives_no_number_needs_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let model = root().join("tests/fixtures/onnx/broken-nan");
    let read = Read::by(folder, "broken", &onnx("broken", &model));
    // Where the model of the house stands in, too, a person looks.
    for age in ["004Y", "051Y"] {
        let uid = read.send(NORMAL, age);
        read.composed(&uid);
        let shown = read.node.study_in(&uid, "needs_review");
        assert_ne!(shown["outcome"], "read", "{shown:#}");
        let report = read.report(&uid);
        assert!(report.contains("gives what is no number"), "{report}");
    }
}

#[test]
fn a_program_gets_a_folder_of_its_own_and_its_finding_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let set = command("house", "read", folder.path());
    let seen = folder.path().join("seen.json");
    let read = Read::by(folder, "house", &set);
    let uid = read.send(POSITIVE, "051Y");
    let shown = read.node.study_in(&uid, "delivered");
    assert_eq!(
        (&shown["outcome"], &shown["findings"][0]),
        (&"read".into(), &"Pneumothorax".into())
    );
    let assessment = read.json(&uid, "assessment.json");
    let region = &assessment["findings"][0]["regions"][0];
    assert!((region["x0"].as_f64().unwrap() - 112.0).abs() < 0.01, "{assessment:#}");
    let algorithm = &assessment["algorithm"];
    assert_eq!((&algorithm["name"], &algorithm["provider"]), (&"reader".into(), &"house".into()));
    assert!(algorithm["version"].as_str().unwrap().starts_with("sha256:"), "{algorithm:#}");

    let text = std::fs::read_to_string(seen).unwrap();
    let seen: Value = serde_json::from_str(&text).unwrap();
    let mut names: Vec<&String> = seen["environment"].as_object().unwrap().keys().collect();
    names.retain(|name| *name != "LC_CTYPE"); // Python's own (PEP 538).
    names.sort();
    assert_eq!(names, ["HOME", "PATH", "TMPDIR"]);
    assert_eq!((&seen["environment"]["HOME"], &seen["mode"]), (&seen["folder"], &"0o40700".into()));
    assert_eq!((&seen["leads"], &seen["stdin"]), (&true.into(), &"".into()));
    let limit = |name: &str| seen["limits"][name][1].as_u64().unwrap();
    assert_eq!((limit("AS"), limit("FSIZE"), limit("CORE")), (4 << 30, 4 << 30, 0));
    assert!(limit("CPU") > 0 && limit("CPU") < 100_000);
    let files: Vec<&String> = seen["files"].as_object().unwrap().keys().collect();
    assert_eq!(files.len(), 2, "{files:?}");
    assert!(seen["files"]["picture-01.jpeg"].as_u64().unwrap() > 1000, "{files:?}");
    let request = &seen["request"];
    assert!(request["user"].as_str().unwrap().contains("Examination: Chest X-ray"));
    assert_eq!(request["pictures"][0]["file"], "picture-01.jpeg");
    for identity in ["Zyxwv", "Quentin", "PID-998877", "ACC-774411", "20260105", &uid] {
        assert!(!text.contains(identity), "{identity} was told");
    }
    assert_eq!(read.left("house"), 0, "its folder is gone");
    let cost = run(Command::new(PRELIM).args(["cost", "--json", "--data"]).arg(read.data()));
    let cost = String::from_utf8(cost.stdout).unwrap();
    assert!(cost.contains("\"unpriced\": 0"), "{cost}");
}

/// What a program can do wrong, and what becomes of the study. Never normal.
#[test]
fn a_program_that_fails_costs_its_study_a_look_by_a_person() {
    let rows: [(&str, &[&str], &str); 7] = [
        ("crash", &[], "it ended with status 3: the weights are gone"),
        ("abort", &[], "it was stopped by signal 6"),
        ("memory", &[], "it ended with status 1: MemoryError"),
        ("flood", &[], "the body is too large"),
        ("file", &[], "the body is too large"),
        ("nothing", &[], "answered twice without a usable reading: the text is empty"),
        ("prose", &[], "answered twice without a usable reading: the answer holds no JSON object"),
    ];
    std::thread::scope(|scope| {
        for (mode, more, told) in rows {
            scope.spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let mut set = command("house", mode, folder.path());
                set.extend(more.iter().map(|one| (*one).to_owned()));
                let asked = folder.path().join("asked");
                let read = Read::by(folder, "house", &set);
                let uid = read.send(NORMAL, "051Y");
                read.composed(&uid);
                let shown = read.node.study_in(&uid, "needs_review");
                assert_ne!(shown["outcome"], "read", "{mode}: {shown:#}");
                let report = read.report(&uid);
                assert!(report.contains(told), "{mode}: {report}");
                assert!(report.to_lowercase().contains("a person must look"), "{mode}: {report}");
                wait_for("the end of its folder", || (read.left("house") == 0).then_some(()));
                if mode == "prose" {
                    assert_eq!(std::fs::read(asked).unwrap().len(), 2, "asked once more");
                }
            });
        }
    });
}

#[test]
fn a_program_that_hangs_is_stopped_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut set = command("house", "hang", folder.path());
    set.push("analysis.gateways.house.timeout_s=3".to_owned());
    set.push("analysis.waits.routine_s=0".to_owned());
    let pids = folder.path().join("pids");
    let read = Read::by(folder, "house", &set);
    let uid = read.send(NORMAL, "051Y");
    let shown = read.node.study_in(&uid, "needs_review");
    assert_ne!(shown["outcome"], "read", "{shown:#}");
    assert!(read.node.log().contains("house gave no answer within 3s"), "{}", read.node.log());
    let pids = std::fs::read_to_string(pids).unwrap();
    for pid in pids.split(' ') {
        let status = format!("/proc/{pid}/status");
        let is_gone = || match std::fs::read_to_string(&status) {
            // A zombie waits for whoever adopted it.
            Ok(status) => status.contains("State:\tZ"),
            Err(_) => true,
        };
        wait_for("the end of what it started", || is_gone().then_some(()));
    }
    // It may be asked again at this moment: its folder goes with its end.
    wait_for("the end of its folder", || (read.left("house") == 0).then_some(()));
}

#[test]
fn a_program_that_asks_for_later_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let set = command("house", "busy-once", folder.path());
    let asked = folder.path().join("asked");
    let read = Read::by(folder, "house", &set);
    let uid = read.send(NORMAL, "051Y");
    let shown = read.node.study_in(&uid, "delivered");
    assert_eq!(
        (&shown["outcome"], &shown["findings"][0]),
        (&"read".into(), &"Pneumothorax".into())
    );
    assert_eq!(std::fs::read(asked).unwrap().len(), 2);
}

#[test]
fn check_config_names_each_key_of_another_kind_and_what_is_wrong_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let model =
        model_folder(folder.path(), |manifest| manifest["outputs"][0]["numbers"] = json!(0));
    let settings = folder.path().join("prelim.toml");
    let text = format!(
        r#"
[analysis]
provider = "children"
[analysis.gateways.children]
kind = "onnx"
folder = "{}"
model = "x"
inside_the_building = false
url = "https://gateway.example/v1"
[analysis.gateways.house]
kind = "command"
program = "/no/such/program"
folder = "/etc"
memory_mb_max = 1
inside_the_building = true
[analysis.gateways.odd]
kind = "tflite"
[analysis.gateways.plain]
url = "https://gateway.example/v1"
model = "m"
program = "/bin/true"
[analysis.strategies.careful]
verify = "children"
third = "children"
read = "plain"
"#,
        model.display()
    );
    std::fs::write(&settings, text).unwrap();
    let output = Command::new(PRELIM).arg("check-config").arg(&settings).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said =
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    for part in [
        "children.model: leave it out for kind = \"onnx\", the manifest names it",
        "children.url: leave it out for kind = \"onnx\"",
        "children.folder: outputs[0].numbers = 0",
        "house.program: /no/such/program: No such file",
        "house.folder: leave it out for kind = \"command\"",
        "house.memory_mb_max = 1: use 256",
        "house.model is empty",
        "house.inside_the_building: leave it out for kind = \"command\", it is always inside",
        "'tflite' is not known; use one of openai, onnx, command",
        "plain.program: leave it out for kind = \"openai\"",
        "careful.verify = \"children\": a model of kind \"onnx\" cannot weigh",
        "careful.third = \"children\": a model of kind \"onnx\" answers on its own findings only",
    ] {
        assert!(said.contains(part), "{part} in\n{said}");
    }
}
