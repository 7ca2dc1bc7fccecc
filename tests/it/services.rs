//! Services beside storage, with real peers: storage commitment, performed procedure steps, the
//! query of an archive, and what makes a study complete.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;
use std::time::Instant;

use serde_json::Value;

use crate::node::Background;
use crate::node::Node;
use crate::node::free_port;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::peer::http;

pub const CT: &str = "1.2.840.10008.5.1.4.1.1.2";
const MR: &str = "1.2.840.10008.5.1.4.1.1.4";
pub const CT_SMALL: &str = "1.3.6.1.4.1.5962.1.1.1.1.1.20040119072730.12322";
pub const CT_SMALL_STUDY: &str = "1.3.6.1.4.1.5962.1.2.1.20040119072730.12322";

pub fn peer(script: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(root().join("tests/peers").join(script));
    command
}

pub fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What `commitment.py` says.
fn commitment(node: &Node, transaction: &str, references: &[&str], more: &[&str]) -> Vec<Value> {
    let mut command = peer("commitment.py");
    command.args([&node.dicom.port().to_string(), transaction]).args(references).args(more);
    lines(&run(&mut command).stdout)
}

pub fn reference(class: &str, instance: &str) -> String {
    format!("{class}:{instance}")
}

pub fn history(study: &Value) -> String {
    let rows = study["history"].as_array().unwrap();
    let text = |row: &Value| format!("{}: {}\n", row["what"], row["detail"]);
    rows.iter().map(text).collect()
}

#[test]
fn a_commitment_is_reported_on_the_requesters_association_if_it_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(folder.path(), &[]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    let kept = reference(CT, CT_SMALL);
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--stay", "10"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    assert_eq!(said[1]["event"], 1, "{said:?}");
    assert_eq!(said[1]["same_association"], true);
    assert_eq!(said[1]["kept"][0], CT_SMALL);

    // Not there, and of another class: why, in the words of PS3.3 C.14.
    let (other, gone) = (reference(MR, CT_SMALL), reference(CT, "1.2.3.4"));
    let said = commitment(&node, "1.2.9.2", &[&kept, &other, &gone], &["--stay", "10"]);
    assert_eq!(said[1]["event"], 2, "{said:?}");
    assert_eq!(said[1]["kept"][0], CT_SMALL);
    assert_eq!(said[1]["failed"], serde_json::json!([[CT_SMALL, "0119"], ["1.2.3.4", "0112"]]));

    // A transaction UID that was used for something else; the same request again is no such thing.
    let said = commitment(&node, "1.2.9.1", &[&gone], &["--stay", "10"]);
    assert_eq!(said[1]["failed"][0][1], "0131", "{said:?}");
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--stay", "10"]);
    assert_eq!(said[1]["kept"][0], CT_SMALL, "{said:?}");

    // The file is gone: the receipt alone commits nothing.
    let shown = study(&node.data, CT_SMALL_STUDY).unwrap();
    assert!(history(&shown).contains("commitment reported"), "{}", history(&shown));
    for file in crate::peer::objects(&node) {
        std::fs::remove_file(file).unwrap();
    }
    let said = commitment(&node, "1.2.9.3", &[&kept], &["--stay", "10"]);
    assert_eq!(said[1]["failed"][0][1], "0110", "{said:?}");

    // Nothing is referenced, and an instance that is no UID: refused at once.
    let said = commitment(&node, "1.2.9.4", &[], &[]);
    assert_eq!(said[0]["status"], "0115", "{said:?}");
    assert_eq!(node.terminate(), Some(0));
}

/// Settings under which CT1 is called at `port`.
pub fn ct1_at(port: u16) -> [String; 2] {
    [
        "commitment.peers.ct1.ae_title=\"CT1\"".to_owned(),
        format!("commitment.peers.ct1.address=\"127.0.0.1:{port}\""),
    ]
}

#[test]
fn a_requester_that_left_is_called_where_the_settings_say() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = ct1_at(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    let (kept, listen) = (reference(CT, CT_SMALL), port.to_string());
    let begun = Instant::now();
    let said = commitment(&node, "1.2.9.1", &[&kept], &["--listen", &listen]);
    assert_eq!(said[1]["status"], "0000", "{said:?}");
    assert_eq!((&said[2]["event"], &said[2]["same_association"]), (&1.into(), &false.into()));
    assert_eq!(said[2]["calling"], "PRELIM");
    assert!(begun.elapsed() < Duration::from_secs(12), "at once: {:?}", begun.elapsed());

    // Nobody is called who is not in the settings: a dead letter with its reason.
    let said = commitment(&node, "1.2.9.2", &[&kept], &["--title", "CT2"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    let shown = wait_for("a dead letter", || {
        let shown = study(&node.data, CT_SMALL_STUDY).unwrap();
        let dead = shown["jobs"].as_array().unwrap().iter().any(|job| job["state"] == "dead");
        dead.then_some(shown)
    });
    let cause = shown["jobs"][0]["cause"].as_str().unwrap();
    assert!(cause.contains("CT2") && cause.contains("[commitment.peers]"), "{cause}");
}

/// Killed between the request and its report: the next start reports.
#[test]
fn a_commitment_survives_a_kill_before_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = ct1_at(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    node.send(&[pydicom_file("CT_small.dcm")]);
    // Nobody listens: the report waits.
    let said = commitment(&node, "1.2.9.1", &[&reference(CT, CT_SMALL)], &[]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    node.kill();
    let mut scanner = peer("commitment.py");
    scanner.args(["1", "1.2.9.1", "--no-action", "--listen", &port.to_string()]);
    scanner.args(["--seconds", "60"]).stdout(Stdio::piped());
    let scanner = Background(scanner.spawn().unwrap());
    wait_until_listening(port);
    let node = Node::start(folder.path(), &[&set[0], &set[1]]);
    let shown = wait_for("a report", || {
        let shown = study(&node.data, CT_SMALL_STUDY)?;
        history(&shown).contains("commitment reported").then_some(shown)
    });
    assert!(history(&shown).contains("1 kept, 0 not, to CT1"), "{}", history(&shown));
    assert_eq!(shown["jobs"], serde_json::json!([]));
    drop(scanner);
}

/// A study of `count` CT images; its UID and its files.
pub fn series(folder: &Path, study: &str, count: usize, more: &[&str]) -> Vec<PathBuf> {
    let into = folder.join(study);
    let mut make = peer("make_series.py");
    run(make.arg(&into).args([study, &count.to_string()]).args(more));
    let number = more.iter().find_map(|pair| pair.strip_prefix("SeriesNumber=")).unwrap_or("1");
    (1..=count).map(|n| into.join(format!("{number}-{n}.dcm"))).collect()
}

fn mpps(node: &Node, step: &str, study: &str, actions: &[&str]) -> Vec<Value> {
    let mut command = peer("mpps.py");
    command.args([&node.dicom.port().to_string(), step, study]).args(actions);
    lines(&run(&mut command).stdout)
}

pub fn closed_because(shown: &Value) -> String {
    let rows = shown["history"].as_array().unwrap();
    let closed = rows.iter().rev().find(|row| row["what"] == "closed");
    closed.map(|row| row["detail"].as_str().unwrap().to_owned()).unwrap_or_default()
}

/// Long enough that only something else than the quiet period closes a study.
pub const PATIENT: [&str; 3] =
    ["assemble.quiet_period_s=600", "assemble.cap_s=1200", "assemble.adapt=false"];

#[test]
fn a_study_with_all_that_its_procedure_step_lists_is_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &PATIENT);
    let files = series(folder.path(), "1.2.77.1", 3, &[]);
    let listed = "1.2.77.1.1.1,1.2.77.1.1.2,1.2.77.1.1.3";
    let said = mpps(&node, "1.2.77.9", "1.2.77.1", &["create"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    node.send(&files[..2]);
    let all = format!("complete:{listed}");
    let said = mpps(&node, "1.2.77.9", "1.2.77.1", &["progress", &all]);
    assert_eq!(said[1]["status"], "0000", "{said:?}");
    std::thread::sleep(Duration::from_secs(2));
    let shown = study(&node.data, "1.2.77.1").unwrap();
    assert_eq!(shown["state"], "receiving", "two of three: {shown:#}");
    let begun = Instant::now();
    node.send(&files[2..]);
    let shown = node.study_in("1.2.77.1", "delivered");
    assert!(begun.elapsed() < Duration::from_secs(30));
    assert_eq!(closed_because(&shown), "3 instances, all 3 images came (MPPS)");

    // What the standard says of a step that is there, over, or unknown (PS3.4 F.7.2).
    let said = mpps(&node, "1.2.77.9", "1.2.77.1", &["create", "progress"]);
    assert_eq!(said[0]["status"], "0111", "{said:?}");
    assert_eq!((&said[1]["status"], &said[1]["error_id"]), (&"0110".into(), &"A710".into()));
    let said = mpps(&node, "1.2.77.8", "1.2.77.1", &["complete"]);
    assert_eq!(said[0]["status"], "0112", "{said:?}");
    // A step whose UID is ours to give.
    let said = mpps(&node, "", "1.2.77.5", &["create"]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    // The steps are in the ledger.
    node.kill();
    let node = Node::start(&folder.path().join("data"), &PATIENT);
    let said = mpps(&node, "1.2.77.9", "1.2.77.1", &["progress"]);
    assert_eq!(said[0]["status"], "0110", "{said:?}");
}

/// A pause of the sender is no end while its modality says that it goes on; and an image of one study
/// is no image that another lacks.
#[test]
fn a_procedure_step_in_progress_keeps_a_study_open_and_one_over_two_studies_counts_each() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["assemble.quiet_period_s=1", "assemble.incomplete_wait_s=600"];
    let node = Node::start(&folder.path().join("data"), &set);
    let one = series(folder.path(), "1.2.77.6", 2, &[]);
    let other = series(folder.path(), "1.2.77.7", 1, &[]);
    let both = "1.2.77.6,1.2.77.7";
    mpps(&node, "1.2.77.19", both, &["create"]);
    node.send(&one[..1]);
    node.send(&other);
    // What has no step is quiet and done long before.
    let bystander = series(folder.path(), "1.2.77.8", 1, &[]);
    node.send(&bystander);
    node.study_in("1.2.77.8", "delivered");
    for uid in ["1.2.77.6", "1.2.77.7"] {
        assert_eq!(study(&node.data, uid).unwrap()["state"], "receiving", "{uid}");
    }
    let all = "complete:1.2.77.6.1.1,1.2.77.6.1.2,1.2.77.7.1.1";
    let said = mpps(&node, "1.2.77.19", both, &[all]);
    assert_eq!(said[0]["status"], "0000", "{said:?}");
    node.send(&one[1..]);
    for (uid, images) in [("1.2.77.6", 2), ("1.2.77.7", 1)] {
        let shown = node.study_in(uid, "delivered");
        assert_eq!(shown["shortfall"], Value::Null, "{shown:#}");
        let because =
            format!("{images} instances, all {images} images came (MPPS over several studies)");
        assert_eq!(closed_because(&shown), because);
    }
}

/// Fewer instances than expected: read without them, with a word to the technical staff.
#[test]
fn a_gap_is_an_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let peers = crate::way::Peers::start(folder.path());
    let mut set = peers.set();
    set.extend([
        "assemble.incomplete_wait_s=3",
        "alert.recipients.it.emails=[\"it@hospital.example\"]",
        "alert.recipients.it.review=false",
        "alert.recipients.it.technical=true",
    ]);
    let node = Node::start(&folder.path().join("data"), &set);
    let files = series(folder.path(), "1.2.77.2", 3, &[]);
    let all = "complete:1.2.77.2.1.1,1.2.77.2.1.2,1.2.77.2.1.3";
    mpps(&node, "1.2.77.9", "1.2.77.2", &["create", all]);
    node.send(&files[..2]);
    let shown = node.study_in("1.2.77.2", "delivered");
    assert_eq!(shown["shortfall"]["what"], "2 of 3 images came (MPPS)", "{shown:#}");
    assert!(closed_because(&shown).contains("2 of 3 images came (MPPS); no instance for 3 s"));
    assert!(history(&shown).contains("images missing"), "{}", history(&shown));
    let report = node.data.join("results/1.2.77.2/1/report.txt");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("not complete"), "{report}");
    let mail = wait_for("a mail", || {
        peers.mails().into_iter().find(|m| m["to"][0] == "it@hospital.example")
    });
    let subject = mail["headers"]["subject"].as_str().unwrap();
    assert!(subject.contains("images missing: 2 of 3 images came (MPPS)"), "{subject}");
    let page = http(&node, "/studies/1.2.77.2");
    assert!(page.contains("Images of this study are missing."), "{page}");
    assert!(http(&node, "/metrics").contains("prelim_studies_incomplete_total 1"));

    // The rest comes: the next revision is whole, and nothing is missing any more.
    node.send(&files[2..]);
    let shown = wait_for("revision 2", || {
        study(&node.data, "1.2.77.2").filter(|s| s["revision"] == 2 && s["state"] == "delivered")
    });
    assert_eq!(shown["shortfall"], Value::Null, "{shown:#}");
    assert_eq!(closed_because(&shown), "3 instances, all 3 images came (MPPS)");
}

#[test]
fn a_rule_waits_for_the_series_that_it_requires() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(
        &folder.path().join("data"),
        &[
            "assemble.incomplete_wait_s=5",
            "assemble.required.ct.modality=\"CT\"",
            "assemble.required.ct.study_description=\"head\"",
            "assemble.required.ct.series=2",
        ],
    );
    let head = "StudyDescription=CT Head";
    let one = series(folder.path(), "1.2.77.3", 1, &[head]);
    let two = series(folder.path(), "1.2.77.3", 1, &[head, "SeriesNumber=2"]);
    node.send(&one);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(study(&node.data, "1.2.77.3").unwrap()["state"], "receiving");
    node.send(&two);
    let shown = node.study_in("1.2.77.3", "delivered");
    assert_eq!(closed_because(&shown), "2 instances, no instance for 1 s");
    // Alone it is read after the wait, and says so; without the rule's words at once.
    node.send(&series(folder.path(), "1.2.77.4", 1, &[head]));
    let shown = node.study_in("1.2.77.4", "delivered");
    assert_eq!(shown["shortfall"]["what"], "1 of 2 CT series came (required by ct)", "{shown:#}");
    node.send(&series(folder.path(), "1.2.77.5", 1, &["StudyDescription=CT Chest"]));
    let shown = node.study_in("1.2.77.5", "delivered");
    assert_eq!(closed_because(&shown), "1 instances, no instance for 1 s");
}

#[test]
fn a_person_says_that_a_study_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let node = Node::start(&data, &PATIENT);
    node.send(&[pydicom_file("CT_small.dcm")]);
    let complete = |uid: &str| {
        let mut command = Command::new(crate::node::PRELIM);
        command.args(["study", "complete", uid, "--by", "J. Kim", "--reason", "scan aborted"]);
        command.arg("--data").arg(&data).output().unwrap()
    };
    let done = complete(CT_SMALL_STUDY);
    assert!(done.status.success(), "{}", crate::node::said(&done));
    let shown = node.study_in(CT_SMALL_STUDY, "delivered");
    let why = closed_because(&shown);
    assert_eq!(why, "1 instances, complete by word of J. Kim: scan aborted");
    let again = complete(CT_SMALL_STUDY);
    assert_eq!(again.status.code(), Some(1), "{}", crate::node::said(&again));
    assert_eq!(complete("1.2.3").status.code(), Some(1));
}

#[test]
fn a_source_that_is_missed_is_told_until_it_sends() {
    let folder = tempfile::tempdir().unwrap();
    let set = [
        "assemble.silence.sources.ct.ae_title=\"PRELIMSEND\"",
        "assemble.silence.sources.ct.longest_s=8",
    ];
    let node = Node::start(&folder.path().join("data"), &set);
    let told = || http(&node, "/readyz");
    let text = wait_for("a warning", || Some(told()).filter(|t| t.contains("has sent nothing")));
    assert!(text.contains("PRELIMSEND") && text.contains("\"ready\":true"), "{text}");
    assert!(http(&node, "/").contains("PRELIMSEND has sent nothing"));
    assert!(http(&node, "/sources").contains("PRELIMSEND is expected and has never sent here"));
    let metrics = http(&node, "/metrics");
    assert!(metrics.contains("prelim_source_silent{source=\"PRELIMSEND\"} 1"), "{metrics}");
    let mut send = Command::new(crate::node::PRELIM);
    send.args(["send", "--calling", "PRELIMSEND", &format!("PRELIM@{}", node.dicom)]);
    run(send.arg(pydicom_file("CT_small.dcm")));
    wait_for("quiet", || (!told().contains("has sent nothing")).then_some(()));
}

/// An archive that is asked: Orthanc, which counts, and DCMTK's dcmqrscp.
#[test]
fn an_archive_says_how_many_instances_a_study_has() {
    let folder = tempfile::tempdir().unwrap();
    let archives: [fn(&Path) -> Option<Archive>; 2] = [orthanc, dcmqrscp];
    for (n, start) in archives.into_iter().enumerate() {
        let within = folder.path().join(n.to_string());
        std::fs::create_dir_all(&within).unwrap();
        let Some(archive) = start(&within) else { continue };
        let query = format!("assemble.query.archive=\"{}\"", archive.name);
        let mut set = PATIENT.to_vec();
        set.extend([query.as_str(), "assemble.query.interval_s=1"]);
        let node = Node::start(&within.join("data"), &set);
        let uid = format!("1.2.77.6{n}");
        let files = series(&within, &uid, 3, &[]);
        let mut send = Command::new(crate::node::PRELIM);
        run(send.args(["send", &archive.name]).args(&files));
        node.send(&files[..2]);
        let shown = wait_for("a count", || {
            let shown = study(&node.data, &uid)?;
            history(&shown).contains("holds 3 instances").then_some(shown)
        });
        assert_eq!(shown["state"], "receiving", "{}: {shown:#}", archive.name);
        node.send(&files[2..]);
        let shown = node.study_in(&uid, "delivered");
        let title = archive.name.split('@').next().unwrap();
        assert_eq!(closed_because(&shown), format!("3 instances, all 3 images came ({title})"));
    }
}

struct Archive {
    _process: Background,
    /// `AE@host:port`.
    name: String,
}

/// Orthanc as the requester: it leaves and is called.
#[test]
fn orthanc_hears_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let set = [
        "commitment.peers.orthanc.ae_title=\"ORTHANC\"".to_owned(),
        format!("commitment.peers.orthanc.address=\"127.0.0.1:{port}\""),
    ];
    let node = Node::start(&folder.path().join("data"), &[&set[0], &set[1]]);
    let modalities = serde_json::json!({ "prelim": ["PRELIM", "127.0.0.1", node.dicom.port()] });
    let Some((_orthanc, rest)) = start_orthanc(folder.path(), port, &modalities) else { return };
    node.send(&[pydicom_file("CT_small.dcm")]);
    let post = |instance: &str| -> Value {
        let body = serde_json::json!({ "DicomInstances": [
            { "SOPClassUID": CT, "SOPInstanceUID": instance }] });
        let url = format!("http://127.0.0.1:{rest}/modalities/prelim/storage-commitment");
        let mut curl = Command::new("curl");
        let output = run(curl.args(["-s", "-X", "POST", &url, "-d", &body.to_string()]));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    for (instance, expected) in [(CT_SMALL, "Success"), ("1.2.3.4", "Failure")] {
        let asked = post(instance);
        let url = format!("http://127.0.0.1:{rest}{}", asked["Path"].as_str().unwrap());
        let heard = wait_for("a report", || {
            let output = run(Command::new("curl").args(["-s", &url]));
            let heard: Value = serde_json::from_slice(&output.stdout).unwrap();
            (heard["Status"] != "Pending").then_some(heard)
        });
        assert_eq!(heard["Status"], expected, "{heard:#}");
        let list = if expected == "Success" { "Success" } else { "Failures" };
        assert_eq!(heard[list][0]["SOPInstanceUID"], instance, "{heard:#}");
    }
}

fn orthanc(folder: &Path) -> Option<Archive> {
    let dicom = free_port();
    let (process, _) = start_orthanc(folder, dicom, &serde_json::json!({}))?;
    Some(Archive { _process: process, name: format!("ORTHANC@127.0.0.1:{dicom}") })
}

/// Where it is installed: the process and its REST port.
fn start_orthanc(folder: &Path, dicom: u16, modalities: &Value) -> Option<(Background, u16)> {
    let orthanc = ["/usr/sbin/Orthanc", "/usr/bin/Orthanc"].iter().find(|p| Path::new(p).exists());
    let orthanc = orthanc?;
    let http = free_port();
    let settings = serde_json::json!({
        "DicomModalities": modalities,
        "StorageDirectory": folder.join("store"), "IndexDirectory": folder.join("store"),
        "DicomPort": dicom, "HttpPort": http, "DicomAet": "ORTHANC",
        "DicomAlwaysAllowFind": true, "AuthenticationEnabled": false,
    });
    let path = folder.join("orthanc.json");
    std::fs::write(&path, settings.to_string()).unwrap();
    let log = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(orthanc);
    command.arg(path).stdout(log.try_clone().unwrap()).stderr(log);
    let process = Background(command.spawn().unwrap());
    wait_until_listening(dicom);
    wait_until_listening(http);
    Some((process, http))
}

fn dcmqrscp(folder: &Path) -> Option<Archive> {
    let (store, port) = (folder.join("qr"), free_port());
    std::fs::create_dir_all(&store).unwrap();
    let config = format!(
        "NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n\
         HostTable BEGIN\nHostTable END\nVendorTable BEGIN\nVendorTable END\n\
         AETable BEGIN\nDCMQR {} RW (200, 1024mb) ANY\nAETable END\n",
        store.display()
    );
    let path = folder.join("dcmqrscp.cfg");
    std::fs::write(&path, config).unwrap();
    let process = Command::new("dcmqrscp").arg("-c").arg(path).spawn().unwrap();
    let process = Background(process);
    wait_until_listening(port);
    Some(Archive { _process: process, name: format!("DCMQR@127.0.0.1:{port}") })
}

/// Files that are odd and still say what they are: sent, kept as they came; what is broken cannot
/// be read is told, and a person has to look.
#[test]
fn what_odd_senders_send_is_kept_and_read_as_far_as_it_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[]);
    let odd = |kind: &str| {
        let file = folder.path().join(format!("{kind}.dcm"));
        run(peer("make_odd.py").arg(&file).arg(kind));
        file
    };
    node.send(&[odd("stray_item")]);
    let shown = node.study_in("1.2.77.8", "needs_review");
    assert!(shown["reason"].as_str().unwrap().contains("could not be parsed"), "{shown:#}");
    node.send(&[odd("bad_vr"), odd("no_meta"), odd("no_preamble")]);
    let shown = wait_for("revision 2", || {
        study(&node.data, "1.2.77.8")
            .filter(|s| s["revision"] == 2 && s["outcome"] == "needs_review")
    });
    let shown = match shown["state"].as_str() {
        Some("needs_review") => shown,
        _ => node.study_in("1.2.77.8", "needs_review"),
    };
    let reason = shown["reason"].as_str().unwrap();
    assert_eq!(reason, "1 of 4 instances are broken and were not read", "{shown:#}");
    // The state stands before the report is written.
    let report = node.data.join("results/1.2.77.8/2/report.txt");
    let report = wait_for("a report", || std::fs::read_to_string(&report).ok());
    assert!(report.contains("1 of 4 instances are broken"), "{report}");
    let page = http(&node, "/studies/1.2.77.8");
    assert!(page.contains("its data set is broken, kept as it came: (FFFE,E000)"), "{page}");
    // Bytes behind the end, too; and a rebuild knows what it was.
    node.send(&[odd("trailing")]);
    assert_eq!(node.terminate(), Some(0));
    let mut verify = Command::new(crate::node::PRELIM);
    run(verify.args(["verify", "--full", "--data"]).arg(folder.path().join("data")));
}
