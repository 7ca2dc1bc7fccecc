//! The way of a study through the whole program, with real peers on both ends.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;

pub const POSITIVE: &str = "pneumonia_person100_bacteria_482.jpeg";
const NORMAL: &str = "normal_IM-0016-0001.jpeg";

/// DCMTK's storescp as the PACS, aiosmtpd as the mail server, and the settings that name them.
pub struct Peers {
    _pacs: Background,
    _mail: Background,
    pub pacs_folder: PathBuf,
    pub mail_folder: PathBuf,
    pub set: Vec<String>,
}

impl Peers {
    pub fn start(folder: &Path) -> Peers {
        Peers::faulty(folder, &[])
    }

    /// - `mail`: arguments of the mail server, for what goes wrong there.
    pub fn faulty(folder: &Path, mail: &[&str]) -> Peers {
        let faults = mail;
        let (pacs_folder, mail_folder) = (folder.join("pacs"), folder.join("mail"));
        std::fs::create_dir_all(&pacs_folder).unwrap();
        std::fs::create_dir_all(&mail_folder).unwrap();
        let (pacs_port, mail_port) = (free_port(), free_port());
        let pacs = Command::new("storescp")
            .args(["-od", pacs_folder.to_str().unwrap(), "--fork", &pacs_port.to_string()])
            .spawn();
        let mail = Command::new(python())
            .arg(root().join("tests/peers/smtp_catcher.py"))
            .args(["--port", &mail_port.to_string(), "--folder", mail_folder.to_str().unwrap()])
            .args(faults)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn();
        let (pacs, mail) = (Background(pacs.unwrap()), Background(mail.unwrap()));
        wait_until_listening(pacs_port);
        wait_until_listening(mail_port);
        let set = vec![
            "deliver.pacs.main.ae_title=\"STORESCP\"".to_owned(),
            format!("deliver.pacs.main.address=\"127.0.0.1:{pacs_port}\""),
            "deliver.email.host=\"127.0.0.1\"".to_owned(),
            format!("deliver.email.port={mail_port}"),
            "deliver.email.mode=\"none\"".to_owned(),
            "deliver.email.from=\"prelim@hospital.example\"".to_owned(),
            "alert.recipients.on_call.emails=[\"on-call@hospital.example\"]".to_owned(),
        ];
        Peers { _pacs: pacs, _mail: mail, pacs_folder, mail_folder, set }
    }

    pub fn set(&self) -> Vec<&str> {
        self.set.iter().map(String::as_str).collect()
    }

    /// What arrived, as Python's own mail parser reads it.
    pub fn mails(&self) -> Vec<Value> {
        files(&self.mail_folder)
            .iter()
            .filter(|file| file.extension().is_some_and(|end| end == "json"))
            .filter_map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).ok())
            .collect()
    }
}

pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

/// Puts what arrived beside what it was made of, as the validators want it.
pub fn to_validate(study: &Path, sources: &[PathBuf], arrived: &[PathBuf]) {
    for (folder, files) in [(study.join("sources"), sources), (study.to_owned(), arrived)] {
        std::fs::create_dir_all(&folder).unwrap();
        for file in files {
            let name = file.file_name().unwrap().to_string_lossy();
            let end = if name.ends_with(".dcm") { "" } else { ".dcm" };
            std::fs::copy(file, folder.join(format!("{name}{end}"))).unwrap();
        }
    }
}

/// Other people's validators over all studies of a folder; PixelMed over the report of one.
pub fn validate(folder: &Path, to_pixelmed: &str) {
    let mut validate = Command::new("bash");
    validate.arg(root().join("tests/peers/validate_sr.sh")).arg(folder);
    let output = run(validate.args(["--pixelmed", to_pixelmed]));
    assert!(said(&output).contains("checks passed"), "{}", said(&output));
}

/// Files of the node that hold any of these, by name.
pub fn holding(folder: &Path, words: &[&str], found: &mut Vec<String>) {
    for path in files(folder) {
        if path.is_dir() {
            holding(&path, words, found);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let has = |word: &&str| bytes.windows(word.len()).any(|part| part == word.as_bytes());
            if words.iter().any(has) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn a_positive_child_ends_as_report_structured_report_and_alert() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    let node = Node::start(&folder.path().join("data"), &peers.set());
    node.storescu(std::slice::from_ref(&file));
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(shown["outcome"], "read", "{shown:#}");
    assert_eq!(shown["findings"][0], "Pneumonia", "{shown:#}");

    // The PACS holds report, PDF and key image, under the study of the image, and the validators
    // agree.
    let sent = wait_for("three objects in the PACS", || {
        let sent = files(&peers.pacs_folder);
        (sent.len() == 3).then_some(sent)
    });
    for object in &sent {
        let dump =
            run(Command::new("dcmdump").args(["+P", "0020,000D", "+P", "0008,0016"]).arg(object));
        assert!(said(&dump).contains(&uid), "{}", said(&dump));
    }
    let set = folder.path().join("validate");
    to_validate(&set.join("child"), &[file], &sent);
    validate(&set, "child");

    // One mail, to the person on call, with what and where and no identity.
    let mail = wait_for("a mail", || peers.mails().into_iter().next());
    assert_eq!(mail["to"][0], "on-call@hospital.example", "{mail:#}");
    let subject = mail["headers"]["subject"].as_str().unwrap();
    assert!(subject.contains("PRELIMINARY") && subject.contains("neumonia"), "{subject}");
    let all = mail.to_string();
    for identity in ["Zyxwv", "PID-998877", "20210630", "ACC-774411"] {
        assert!(!all.contains(identity), "{identity} in the mail: {mail:#}");
    }
    assert_eq!(node.terminate(), Some(0));
    assert_eq!(peers.mails().len(), 1);

    // Identity stands in objects and results, nowhere else in the folder.
    let mut found = Vec::new();
    let data = folder.path().join("data");
    for part in ["ledger", "state", "log.txt"] {
        let path = data.join(part);
        match path.is_dir() {
            true => holding(&path, &["Zyxwv", "PID-998877", "ACC-774411"], &mut found),
            false => {
                let log = std::fs::read_to_string(&path).unwrap();
                assert!(!log.contains("Zyxwv") && !log.contains("PID-998877"), "{log}");
            }
        }
    }
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn what_no_model_covers_is_measured_and_never_called_normal() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &[]);
    let adult = folder.path().join("adult.dcm");
    let adult_uid = chest_xray(NORMAL, &adult, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    let ct = pydicom_file("CT_small.dcm");
    node.send(&[adult, ct, pydicom_file("reportsi.dcm")]);
    let adult = node.study_in(&adult_uid, "delivered");
    assert_eq!(adult["outcome"], "not_covered", "{adult:#}");
    let ct = node.study_in("1.3.6.1.4.1.5962.1.2.1.20040119072730.12322", "delivered");
    assert_eq!(ct["outcome"], "not_covered", "{ct:#}");
    let report = |uid: &str| {
        let path = data.join("results").join(uid).join("1/report.txt");
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    };
    for uid in [adult_uid.as_str(), "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322"] {
        let text = report(uid);
        assert!(text.contains("PRELIMINARY"), "{text}");
        assert!(!text.to_lowercase().contains("normal"), "{text}");
        assert!(text.to_lowercase().contains("measurement"), "{text}");
    }
    // A structured report is nothing to read: held, with its reason.
    let held = node.study_in(&value_of(&pydicom_file("reportsi.dcm"), "0020,000D"), "held");
    assert!(held["reason"].as_str().unwrap().contains("report"), "{held:#}");
    assert_eq!(held["outcome"], "held", "{held:#}");
}

/// The value of an element, as dcmdump reads it.
fn value_of(file: &Path, tag: &str) -> String {
    let dump = run(Command::new("dcmdump").args(["+P", tag]).arg(file));
    let text = String::from_utf8_lossy(&dump.stdout).into_owned();
    let inside = text.split('[').nth(1).and_then(|rest| rest.split(']').next());
    inside.unwrap_or_else(|| panic!("no {tag}: {text}")).to_owned()
}

#[test]
fn a_late_instance_makes_revision_2_which_supersedes() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let data = folder.path().join("data");
    let node = Node::start(&data, &peers.set());
    let (first, second) = (folder.path().join("1.dcm"), folder.path().join("2.dcm"));
    let uid = chest_xray(POSITIVE, &first, &[]);
    let same = format!("StudyInstanceUID={uid}");
    chest_xray(POSITIVE, &second, &[&same, "InstanceNumber=2", "ViewPosition=PA"]);
    node.storescu(std::slice::from_ref(&first));
    node.study_in(&uid, "delivered");
    node.storescu(&[second, first]);
    let shown = wait_for("revision 2 delivered", || {
        study(&data, &uid).filter(|s| s["revision"] == 2 && s["state"] == "delivered")
    });
    let states: Vec<&str> = shown["revisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|revision| revision["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["superseded", "delivered"], "{shown:#}");
    // The same finding again is the same alert: one mail.
    assert_eq!(peers.mails().len(), 1);
    // The new report names the one it replaces.
    let sr = data.join("results").join(&uid).join("2/sr.dcm");
    let dump = said(&run(Command::new("dcmdump").arg(&sr)));
    assert!(dump.contains("PredecessorDocumentsSequence"), "{dump}");
}

#[test]
fn a_picture_is_analysed_over_the_api() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[]);
    let picture = root().join("tests/fixtures/cxr").join(POSITIVE);
    let answer = run(Command::new("curl").args(["-sS", "--fail-with-body"]).args([
        "-F",
        &format!("file=@{}", picture.display()),
        "-F",
        "modality=CR",
        "-F",
        "body_part=CHEST",
        "-F",
        "view=AP",
        "-F",
        "age=004Y",
        "-F",
        "clinical_notes=fever and cough",
        &format!("http://{}/api/v1/analyze", node.http),
    ]));
    let answer: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let id = answer["id"].as_str().unwrap_or_else(|| panic!("{answer:#}"));
    let done = wait_for("the analysis", || {
        let url = format!("http://{}/api/v1/analyses/{id}", node.http);
        let got = run(Command::new("curl").args(["-sS", "--fail-with-body", &url]));
        let got: Value = serde_json::from_slice(&got.stdout).unwrap();
        (got["state"] == "delivered").then_some(got)
    });
    assert_eq!(done["outcome"], "read", "{done:#}");
}

#[test]
fn the_commands_answer_with_and_without_a_running_node() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(NORMAL, &file, &[]);
    let node = Node::start(&data, &[]);
    node.send(std::slice::from_ref(&file));
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(shown["instances"], 1, "{shown:#}");
    let sop = value_of(&file, "0008,0018");
    let ask = |what: &[&str]| run(Command::new(PRELIM).args(what).arg("--data").arg(&data));
    let running = (ask(&["get", &sop]).stdout, ask(&["verify", "--json"]).status.success());
    let unknown =
        Command::new(PRELIM).args(["get", "1.2.3", "--data"]).arg(&data).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1), "{}", said(&unknown));
    assert_eq!(node.terminate(), Some(0));
    let stopped = (ask(&["get", &sop]).stdout, ask(&["verify", "--json"]).status.success());
    assert_eq!(running.0, stopped.0);
    assert!(running.1 && stopped.1);
    assert_eq!(&running.0[128..132], b"DICM");
    ask(&["rebuild"]);
    assert_eq!(study(&data, &uid).unwrap()["state"], "delivered");
}

#[test]
fn a_second_node_on_the_same_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let _node = Node::start(&data, &[]);
    let mut second = Node::spawn(&data, &[]);
    let status = second.0.wait().unwrap();
    assert_eq!(status.code(), Some(2));
}

/// An archive that takes connections and never answers holds up neither readings nor alerts.
#[test]
fn a_silent_archive_delays_no_reading_and_no_alert() {
    let folder = tempfile::tempdir().unwrap();
    let peers = Peers::start(folder.path());
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("deliver.pacs.silent.address=\"{}\"", silent.local_addr().unwrap());
    let mut set = peers.set();
    set.extend(["deliver.pacs.silent.ae_title=\"SILENT\"", &address]);
    set.extend(["pipeline.deliveries_at_once=2", "pipeline.steps_at_once=2"]);
    let data = folder.path().join("data");
    let node = Node::start(&data, &set);
    let mut uids = Vec::new();
    for nth in 0..5 {
        let file = folder.path().join(format!("{nth}.dcm"));
        uids.push(chest_xray(POSITIVE, &file, &[]));
        node.storescu(&[file]);
    }
    // Each delivery waits 60 s for an answer; the last alert does not wait for any of them.
    let begun = std::time::Instant::now();
    wait_for("five mails", || (peers.mails().len() == 5).then_some(()));
    assert!(begun.elapsed().as_secs() < 50, "{:?}", begun.elapsed());
    for uid in &uids {
        assert_eq!(study(&data, uid).unwrap()["outcome"], "read");
    }
}

/// Names in the character sets of the source come out right in report and structured report.
#[test]
fn names_of_other_scripts_come_out_right() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &["report.languages=[\"ko\"]"]);
    let cases = [
        ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong (洪 吉洞, 홍 길동)"),
        ("ISO 2022 IR 6\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎", "Yamada, Tarou (山田 太郎)"),
        ("GB18030", "Wang^XiaoDong=王^小东", "Wang, XiaoDong (王 小东)"),
        ("ISO_IR 192", "Nguyễn^Văn Ánh", "Nguyễn, Văn Ánh"),
    ];
    for (nth, (set, name, shown)) in cases.iter().enumerate() {
        let file = folder.path().join(format!("{nth}.dcm"));
        let set = format!("SpecificCharacterSet={set}");
        let uid = chest_xray(NORMAL, &file, &[&set, &format!("PatientName={name}")]);
        node.storescu(&[file]);
        node.study_in(&uid, "delivered");
        let results = data.join("results").join(&uid).join("1");
        let text = std::fs::read_to_string(results.join("report.txt")).unwrap();
        assert!(text.contains(shown), "{set}: {text}");
        let pdf = run(Command::new("pdftotext").arg(results.join("report.pdf")).arg("-"));
        assert!(String::from_utf8_lossy(&pdf.stdout).contains(shown), "{set}: {}", said(&pdf));
        assert_eq!(value_of(&results.join("sr.dcm"), "0010,0010"), *name, "{set}");
    }
}
