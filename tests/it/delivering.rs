//! What goes out with an archive that answers questions, refuses kinds, hangs, or reports later.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::access::Certificates;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::free_port;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::said;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::http;
use crate::way::POSITIVE;
use crate::way::files;

pub struct Archive {
    _process: Background,
    folder: PathBuf,
    address: String,
}

impl Archive {
    pub fn start(folder: &Path, name: &str, options: &[&str]) -> Archive {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let port = free_port();
        let mut archive = Command::new(python());
        archive.arg(root().join("tests/peers/archive.py")).arg(port.to_string()).arg(&folder);
        let log = std::fs::File::create(folder.join("said.txt")).unwrap();
        let archive = archive.args(options).stdout(log).spawn().unwrap();
        wait_until_listening(port);
        Archive { _process: Background(archive), folder, address: format!("127.0.0.1:{port}") }
    }

    pub fn set(&self, name: &str) -> Vec<String> {
        vec![
            format!("deliver.pacs.{name}.ae_title=\"ARCHIVE\""),
            format!("deliver.pacs.{name}.address=\"{}\"", self.address),
        ]
    }

    /// SOP Instance UIDs in the order in which they came.
    pub fn kept(&self) -> Vec<String> {
        let all = files(&self.folder);
        let names = all.iter().filter_map(|file| file.file_name()?.to_str());
        names.filter_map(|name| name.strip_suffix(".dcm")?.get(4..).map(str::to_owned)).collect()
    }
}

fn start(folder: &Path, set: &[String]) -> Node {
    Node::start(&folder.join("data"), &set.iter().map(String::as_str).collect::<Vec<_>>())
}

fn send(node: &Node, folder: &Path) -> String {
    let file = folder.join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    node.storescu(&[file]);
    uid
}

fn deliveries(shown: &Value) -> Vec<(String, String, String)> {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let rows = shown["deliveries"].as_array().unwrap();
    let row = |row: &Value| (word(row, "artefact"), word(row, "state"), word(row, "detail"));
    rows.iter().map(row).collect()
}

fn queue(node: &Node, options: &[&str]) -> std::process::Output {
    Command::new(PRELIM).arg("queue").args(options).arg("--data").arg(&node.data).output().unwrap()
}

#[test]
fn a_study_is_delivered_when_the_archive_shows_each_object() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, how) in [
        ("find", &["--find", "yes"][..], "found by C-FIND"),
        ("same", &["--commitment", "same"], "storage commitment"),
        ("none", &[], "by its status alone"),
    ] {
        let archive = Archive::start(folder.path(), name, options);
        let node = start(&folder.path().join(format!("{name}-node")), &archive.set("main"));
        let uid = send(&node, folder.path());
        let shown = node.study_in(&uid, "delivered");
        let rows = deliveries(&shown);
        assert!(rows.len() >= 3, "{rows:?}");
        for (artefact, state, detail) in &rows {
            assert!(state == "done" && detail.contains(how), "{name}: {artefact} {state} {detail}");
        }
        assert_eq!(archive.kept().len(), rows.len());
    }
}

#[test]
fn a_report_of_storage_commitment_on_an_association_of_its_own_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let call = folder.path().join("call");
    let options = ["--commitment", "later", "--call", call.to_str().unwrap()];
    let archive = Archive::start(folder.path(), "later", &options);
    let node = start(folder.path(), &archive.set("main"));
    std::fs::write(&call, format!("PRELIM 127.0.0.1 {}", node.dicom.port())).unwrap();
    let uid = send(&node, folder.path());
    let shown = node.study_in(&uid, "delivered");
    for (artefact, state, detail) in deliveries(&shown) {
        assert!(state == "done" && detail.contains("storage commitment"), "{artefact}: {detail}");
    }
    let said = std::fs::read_to_string(archive.folder.join("said.txt")).unwrap();
    assert!(said.contains("reported: 0000") && !said.contains("refused"), "{said}");
}

/// Stored and found over TLS, both sides known; without our certificate nothing is sent.
#[test]
fn an_archive_over_tls_shows_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let made = Certificates::new();
    let [key, certificate, root] = ["node.key", "node.crt", "ca.crt"].map(|name| made.at(name));
    let options = ["--find", "yes", "--tls", &key, &certificate, &root];
    let archive = Archive::start(folder.path(), "tls", &options);
    let mut set = [archive.set("main"), archive.set("nobody"), archive.set("plain")].concat();
    for name in ["main", "nobody"] {
        set.push(format!("deliver.pacs.{name}.tls.ca_file=\"{root}\""));
    }
    for (key, file) in [("certificate_file", "ct1.crt"), ("key_file", "ct1.key")] {
        set.push(format!("deliver.pacs.main.tls.{key}=\"{}\"", made.at(file)));
    }
    set.push("deliver.pacs.plain.timeout_s=5".to_owned());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path());
    let rows = |destination: &str| {
        let shown = study(&node.data, &uid)?;
        let rows = shown["deliveries"].as_array()?.clone();
        Some(rows.into_iter().filter(|r| r["destination"] == destination).collect::<Vec<_>>())
    };
    let done = wait_for("all there", || {
        rows("pacs.main").filter(|all| all.len() >= 3 && all.iter().all(|r| r["state"] == "done"))
    });
    for row in &done {
        assert!(row["detail"].as_str().unwrap().contains("found by C-FIND"), "{row:#}");
    }
    for name in ["pacs.nobody", "pacs.plain"] {
        wait_for("a failed try", || {
            rows(name).filter(|all| all.iter().any(|row| row["cause"] != ""))
        });
        assert!(rows(name).unwrap().iter().all(|row| row["state"] == "queued"), "{name}");
    }
    assert_eq!(archive.kept().len(), done.len());
}

#[test]
fn what_an_archive_took_and_does_not_have_is_not_delivered() {
    let folder = tempfile::tempdir().unwrap();
    for (name, options, how) in [
        ("no", &["--find", "no"][..], "C-FIND"),
        ("fail", &["--commitment", "fail"], "storage commitment"),
    ] {
        let archive = Archive::start(folder.path(), name, options);
        let node = start(&folder.path().join(format!("{name}-node")), &archive.set("main"));
        let uid = send(&node, folder.path());
        let shown = wait_for("an object that is not there", || {
            let is = |row: &Value| row["cause"].as_str().unwrap().contains("does not have it");
            study(&node.data, &uid)
                .filter(|shown| shown["deliveries"].as_array().unwrap().iter().any(is))
        });
        assert_eq!(shown["state"], "composed", "{name}: {shown:#}");
        let rows = shown["deliveries"].as_array().unwrap();
        let row = rows.iter().find(|row| row["cause"] != "").unwrap();
        assert!(row["cause"].as_str().unwrap().contains(how), "{row}");
        assert_eq!(row["state"], "unproven");
    }
}

/// D2: SR to its other classes, to PDF, to key images; remembered.
#[test]
fn what_an_archive_takes_none_of_is_replaced_by_what_says_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let sr = "1.2.840.10008.5.1.4.1.1.88.";
    let all: Vec<String> = ["34", "33", "22", "11"].iter().map(|n| format!("{sr}{n}")).collect();
    let no_pdf = format!("{},1.2.840.10008.5.1.4.1.1.104.1", all.join(","));
    for (name, refuse, goes) in [
        ("three", all[..1].join(","), "sr-comprehensive.dcm"),
        ("two", all[..3].join(","), "sr-text.dcm"),
        ("one", all.join(","), "report.pdf.dcm"),
        ("pictures", no_pdf, "key-image-01.dcm"),
    ] {
        let archive = Archive::start(folder.path(), name, &["--refuse", &refuse]);
        let node = start(&folder.path().join(format!("{name}-node")), &archive.set("main"));
        let uid = send(&node, folder.path());
        let shown = node.study_in(&uid, "delivered");
        let rows = deliveries(&shown);
        let of = |file: &str| rows.iter().find(|row| row.0 == file).map(|row| row.1.as_str());
        assert_eq!(of("sr.dcm"), Some("dropped"), "{name}: {rows:?}");
        assert_eq!(of(goes), Some("done"), "{name}: {rows:?}");
        // The next study knows.
        let again = send(&node, folder.path());
        let shown = node.study_in(&again, "delivered");
        let cause = shown["deliveries"].as_array().unwrap().iter();
        let cause = cause.filter(|row| row["artefact"] == "sr.dcm").map(|row| &row["cause"]);
        let cause: Vec<&Value> = cause.collect();
        assert!(cause[0].as_str().unwrap().contains("lately"), "{name}: {cause:?}");
    }
}

/// What is refused with nothing to take its place is remembered too: of the next study nothing is
/// promised in the place of anything, and each is a dead letter that says why.
#[test]
fn an_archive_that_takes_nothing_is_seen_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let sr = ["34", "33", "22", "11"].map(|n| format!("1.2.840.10008.5.1.4.1.1.88.{n}"));
    let others = ["1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.7"];
    let refuse = format!("{},{}", sr.join(","), others.join(","));
    let archive = Archive::start(folder.path(), "nothing", &["--refuse", &refuse]);
    let node = start(folder.path(), &archive.set("main"));
    let states = |uid: &str| {
        wait_for("the end of all", || {
            let rows = deliveries(&study(&node.data, uid)?);
            let over = |row: &(String, String, String)| ["dead", "dropped"].contains(&&*row.1);
            let states: Vec<String> = rows.iter().map(|row| row.1.clone()).collect();
            (rows.len() >= 3 && rows.iter().all(over)).then_some(states)
        })
    };
    let first = states(&send(&node, folder.path()));
    assert!(first.contains(&"dropped".to_owned()), "one after the other was tried: {first:?}");
    let second = states(&send(&node, folder.path()));
    assert_eq!(second, ["dead", "dead", "dead"]);
}

#[test]
fn probe_says_what_an_archive_takes_and_offers() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = "1.2.840.10008.5.1.4.1.1.88.34,1.2.840.10008.5.1.4.1.1.88.59";
    let options = ["--refuse", refuse, "--find", "yes"];
    let archive = Archive::start(folder.path(), "probed", &options);
    let target = format!("ARCHIVE@{}", archive.address);
    let shown = run(Command::new(PRELIM).args(["probe", &target, "--json"]));
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!((&shown["query"], &shown["commitment"]), (&true.into(), &false.into()));
    let send: Vec<&str> =
        shown["send"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(send, ["sr-comprehensive", "pdf", "key-images", "gsps", "seg"]);
    assert_eq!(archive.kept().len(), 0, "nothing is stored");
    let nobody = format!("ARCHIVE@127.0.0.1:{}", free_port());
    let gone = Command::new(PRELIM).args(["probe", &nobody]).output().unwrap();
    assert!(!gone.status.success() && said(&gone).contains("no connection"), "{}", said(&gone));
}

/// D1: one destination does not answer, the others get everything meanwhile.
#[test]
fn a_destination_that_hangs_delays_no_other_and_the_order_within_a_study_stays() {
    let folder = tempfile::tempdir().unwrap();
    let dead = Archive::start(folder.path(), "dead", &["--hang"]);
    // Refused for the moment at first: what is behind it waits.
    let busy = Archive::start(folder.path(), "busy", &["--status", "A700"]);
    let copies = folder.path().join("copies");
    let mut set = [dead.set("dead"), busy.set("busy")].concat();
    set.push(format!("deliver.folder.copy.path=\"{}\"", copies.display()));
    set.push("pipeline.deliveries_at_once=2".to_owned());
    let node = start(folder.path(), &set);
    let uids: Vec<String> = (0..6).map(|_| send(&node, folder.path())).collect();
    wait_for("copies of all", || {
        uids.iter().all(|uid| copies.join(uid).join("1/sr.dcm").exists()).then_some(())
    });
    let kept = wait_for("all at the other archive", || {
        Some(busy.kept()).filter(|kept| kept.len() >= 3 * uids.len())
    });
    for uid in &uids {
        let result = |file: &str| node.data.join(format!("results/{uid}/1/{file}"));
        let place = |file: &str| {
            let dump =
                run(Command::new("dcmdump").args(["+P", "SOPInstanceUID"]).arg(result(file)));
            let dump = String::from_utf8_lossy(&dump.stdout).into_owned();
            let sop = dump.split(['[', ']']).nth(1).unwrap().to_owned();
            kept.iter().position(|one| *one == sop).unwrap_or_else(|| panic!("{file} of {uid}"))
        };
        let order = [place("sr.dcm"), place("report.pdf.dcm"), place("key-image-01.dcm")];
        assert!(order.is_sorted(), "in the order of the outbox: {order:?}");
    }
    assert!(dead.kept().is_empty());
}

#[test]
fn a_person_releases_retries_and_cancels() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::start(folder.path(), "main", &[]);
    let mut set = archive.set("main");
    set.push("deliver.release_by_hand=[\"pacs.main\"]".to_owned());
    let node = start(folder.path(), &set);
    let uid = send(&node, folder.path());
    node.study_in(&uid, "composed");
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(archive.kept().is_empty(), "nothing goes without a word");
    assert!(said(&queue(&node, &[])).contains("when released"));
    let page = http(&node, "/queue");
    assert!(page.contains("Do it now") && page.contains("Cancel"), "{page}");
    let id = |file: &str| format!("{uid}/1/deliver/{file}/pacs.main");
    assert!(queue(&node, &["--release", &id("sr.dcm")]).status.success());
    wait_for("the first", || (archive.kept().len() == 1).then_some(()));
    let shown = study(&node.data, &uid).unwrap();
    for row in shown["deliveries"].as_array().unwrap() {
        let file = row["artefact"].as_str().unwrap();
        if file != "sr.dcm" {
            assert!(queue(&node, &["--cancel", &id(file), "--by", "Kim"]).status.success());
        }
    }
    let shown = node.study_in(&uid, "delivered");
    let cancelled = shown["deliveries"].as_array().unwrap().iter();
    let cancelled = cancelled.filter(|row| row["cause"] == "cancelled by Kim").count();
    assert!(cancelled >= 2, "{shown:#}");
    assert_eq!(archive.kept().len(), 1);
    assert!(!queue(&node, &["--cancel", &id("sr.dcm")]).status.success(), "it is done");
}
