//! What an object is: our own results that come back, results of other software, a doctor's word.

use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::gateway::Gateway;
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
use crate::way::Peers;
use crate::way::files;

const ROUNDS: u64 = 20;

fn set(all: &[String]) -> Vec<&str> {
    all.iter().map(String::as_str).collect()
}

/// `(origin, instances)` of what a study holds, by `prelim study --json`.
fn origins(study: &Value) -> Vec<(String, u64)> {
    let mut found: Vec<(String, u64)> = Vec::new();
    for one in study["objects"].as_array().unwrap() {
        let origin = one["origin"].as_str().unwrap_or("undecided").to_owned();
        let instances = one["instances"].as_u64().unwrap();
        match found.iter_mut().find(|(known, _)| *known == origin) {
            Some((_, count)) => *count += instances,
            None => found.push((origin, instances)),
        }
    }
    found.sort();
    found
}

/// Waits until it is known of all objects of the study what they are.
fn decided(node: &Node, uid: &str, count: u64) -> Value {
    wait_for("origins", || {
        let study = study(&node.data, uid)?;
        let all = origins(&study);
        let known = all.iter().filter(|(origin, _)| origin != "undecided");
        (known.map(|(_, n)| n).sum::<u64>() == count).then_some(study)
    })
}

/// An archive that sends all it has back to the node, round after round, with the node's own results
/// among it.
fn forwarded(images: &[PathBuf], uid: &str, mode: &str, more: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), mode);
    let archive = folder.path().join("archive");
    std::fs::create_dir_all(&archive).unwrap();
    let port = free_port();
    let mut all = gateway.set.clone();
    all.extend(more.iter().map(|one| (*one).to_owned()));
    all.push("deliver.pacs.main.ae_title=\"ARCHIVE\"".into());
    all.push(format!("deliver.pacs.main.address=\"127.0.0.1:{port}\""));
    all.push(
        "deliver.pacs.main.artefacts=[\"sr\", \"pdf\", \"key-images\", \"gsps\", \"kos\"]".into(),
    );
    let node = Node::start(&folder.path().join("data"), &set(&all));
    let mut forwarder = Command::new(python());
    forwarder.arg(root().join("tests/peers/forwarder.py")).arg(port.to_string()).arg(&archive);
    forwarder.arg(node.dicom.port().to_string());
    let _forwarder = Background(forwarder.spawn().unwrap());
    wait_until_listening(port);

    // The scanner sends to the archive.
    let scanner = port.to_string();
    run(Command::new("storescu").args(["-aec", "ARCHIVE", "127.0.0.1", &scanner]).args(images));
    node.study_in(uid, "delivered");
    wait_for("the rounds", || {
        let text = std::fs::read_to_string(archive.join("rounds.txt")).ok()?;
        (text.parse::<u64>().ok()? >= ROUNDS).then_some(())
    });
    let held = files(&archive).len() as u64 - 1;
    let pictures = images.len() as u64;
    assert!(held > pictures + 2, "{held} objects, with ours");
    let shown = decided(&node, uid, held);
    let ours = held - pictures;
    assert_eq!(origins(&shown), [("image".into(), pictures), ("ours".into(), ours)]);
    assert_eq!((&shown["state"], &shown["revision"]), (&"delivered".into(), &1.into()));
    assert_eq!(shown["revisions"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!(gateway.requests().len(), 1, "one reading");
    let names = |one: &Value| one["why"]["file"].as_str().map(str::to_owned);
    let filed: Vec<String> =
        shown["objects"].as_array().unwrap().iter().filter_map(names).collect();
    assert!(filed.contains(&"sr.dcm".to_owned()), "filed beside the result: {filed:?}");

    // The same after a kill, from an index that is made anew from the ledger.
    let data = node.data.clone();
    node.kill();
    std::fs::remove_dir_all(data.join("state")).unwrap();
    let node = Node::start(&data, &set(&all));
    let again = decided(&node, uid, held);
    assert_eq!((origins(&again), &again["revision"]), (origins(&shown), &1.into()));
}

#[test]
fn an_archive_that_forwards_a_radiograph_with_our_results_20_times_gets_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("adult.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    forwarded(&[file], &uid, "read", &[]);
}

#[test]
fn an_archive_that_forwards_a_ct_with_our_results_20_times_gets_one_reading() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    let script = root().join("tests/peers/make_chest_ct.py");
    let made = run(Command::new(python()).arg(script).arg(&images));
    let uid = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    forwarded(&files(&images), &uid, "nodule", &["analysis.gateways.main.pictures_max=6"]);
}

/// What another software makes of an image, in files of these names.
fn results(image: &Path, folder: &Path, what: &[&str]) {
    let script = root().join("tests/peers/make_results.py");
    run(Command::new(python()).arg(script).arg(image).arg(folder).args(what));
}

/// Whether a request shows `pictures` and no more.
fn pictures(request: &[u8]) -> usize {
    String::from_utf8_lossy(request)
        .matches("\"image_url\": {")
        .count()
        .max(String::from_utf8_lossy(request).matches("\"image_url\":{").count())
}

#[test]
fn results_of_another_ai_are_shown_and_no_picture_of_ours_and_no_doctors_word() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let all: Vec<String> = peers.set.iter().chain(&gateway.set).cloned().collect();
    let node = Node::start(&folder.path().join("data"), &set(&all));

    // After our reading.
    let file = folder.path().join("after.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    node.storescu(std::slice::from_ref(&file));
    node.study_in(&uid, "delivered");
    for (name, what) in [("own", vec![]), ("copied", vec!["Manufacturer=Fixture"])] {
        let made = folder.path().join(name);
        results(&file, &made, &what);
        let mut objects = files(&made);
        // With the scanner's header, boxes in its own SOP class are as its own.
        objects.retain(|path| name == "own" || !path.ends_with("boxes.dcm"));
        node.storescu(&objects);
    }
    let shown = decided(&node, &uid, 1 + 5 + 4);
    assert_eq!(origins(&shown), [("derived".into(), 9), ("image".into(), 1)]);
    assert_eq!((&shown["state"], &shown["revision"]), (&"delivered".into(), &1.into()));
    assert_eq!(shown["comparisons"].as_array().unwrap().len(), 0, "{shown:#}");
    assert_eq!(gateway.requests().len(), 1);
    assert!(http(&node, "/metrics").contains("prelim_origins_total{origin=\"derived\"}"));

    // With the images, before our reading.
    let file = folder.path().join("with.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    let made = folder.path().join("with");
    results(&file, &made, &[]);
    let mut objects = files(&made);
    objects.push(file);
    node.storescu(&objects);
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(origins(&shown), [("derived".into(), 5), ("image".into(), 1)]);
    let requests = gateway.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(pictures(&requests[0]), pictures(&requests[1]), "the same pictures: the film alone");
    assert_eq!(shown["comparisons"].as_array().unwrap().len(), 0, "{shown:#}");
    let page = http(&node, &format!("/studies/{uid}"));
    assert!(page.contains("made by other equipment than the images"), "{page}");

    // Nothing of it counts as a doctor's word.
    let mut agreement = Command::new(PRELIM);
    let said = run(agreement.args(["agreement", "--json", "--data"]).arg(&node.data));
    let agreement: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(agreement["lines"].as_array().unwrap().len(), 0, "{agreement:#}");
}

#[test]
fn a_person_says_what_an_object_is_and_an_image_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = Gateway::start(folder.path(), "read");
    // What is drawn on the film looks like text, and is what is asked about here.
    let mut all = gateway.set.clone();
    all.push("deid.burned_in_text.radiograph=\"send\"".into());
    let node = Node::start(&folder.path().join("data"), &set(&all));
    let file = folder.path().join("film.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    node.storescu(std::slice::from_ref(&file));
    node.study_in(&uid, "delivered");
    let made = folder.path().join("made");
    results(&file, &made, &[]);
    node.storescu(&[made.join("boxes.dcm"), made.join("sr.dcm")]);
    let shown = decided(&node, &uid, 3);
    let of = |class: &str| -> String {
        let all = shown["objects"].as_array().unwrap();
        let one = all.iter().find(|one| {
            one["origin"] == "derived" && one["sop_class_uid"].as_str().unwrap().ends_with(class)
        });
        one.unwrap()["series_uid"].as_str().unwrap().to_owned()
    };
    let (boxes, report) = (of("1.1"), of("88.11"));

    // On the command line: it is an image of ours after all.
    let mut change = Command::new(PRELIM);
    change.args(["study", "origin", &uid, &boxes, "image", "--by", "kim", "--reason", "ours"]);
    run(change.arg("--data").arg(&node.data));
    let read = wait_for("a second reading", || {
        let study = study(&node.data, &uid)?;
        (study["revision"] == 2 && study["state"] == "delivered").then_some(study)
    });
    assert_eq!(origins(&read), [("derived".into(), 1), ("image".into(), 2)]);
    assert_eq!(gateway.requests().len(), 2);
    assert!(pictures(&gateway.requests()[1]) > pictures(&gateway.requests()[0]));

    // By the API: the text is a doctor's. It is compared, and the study not read again.
    let url = format!("http://{}/api/v1/studies/{uid}/origin", node.http);
    let body = format!(r#"{{"of": "{report}", "origin": "report", "by": "J. Kim"}}"#);
    let json = "Content-Type: application/json";
    run(Command::new("curl").args(["-sSf", "-m", "20", "-H", json, "-d", &body, &url]));
    wait_for("a comparison", || {
        let study = study(&node.data, &uid)?;
        (study["comparisons"].as_array()?.len() == 1).then_some(())
    });
    // On the page: it is none. What was counted goes.
    let url = format!("http://{}/studies/{uid}/origin", node.http);
    let form = format!("of={report}&origin=derived&reason=a+machine+wrote+it");
    run(Command::new("curl").args(["-sSf", "-m", "20", "-d", &form, &url]));
    let shown = study(&node.data, &uid).unwrap();
    assert_eq!(shown["comparisons"].as_array().unwrap().len(), 0, "{shown:#}");
    assert_eq!((&shown["revision"], &shown["state"]), (&2.into(), &"delivered".into()));
    let history = shown["history"].to_string();
    assert!(history.contains("a person says so: a machine wrote it"), "{history}");

    // Without the picture again: the next reading.
    let form = format!("of={boxes}&origin=derived&reason=");
    run(Command::new("curl").args(["-sSf", "-m", "20", "-d", &form, &url]));
    wait_for("a third reading", || {
        let study = study(&node.data, &uid)?;
        (study["revision"] == 3 && study["state"] == "delivered").then_some(())
    });
    let made = |revision: u32| {
        let file = node.data.join(format!("results/{uid}/{revision}/pictures.json"));
        let made: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        made["pictures"].as_array().unwrap().len()
    };
    assert!(made(2) > made(1));
    assert_eq!(made(3), made(1));
    for wrong in [["1.2.3", "image"], [boxes.as_str(), "answer"]] {
        let mut change = Command::new(PRELIM);
        change.args(["study", "origin", &uid]).args(wrong).arg("--data").arg(&node.data);
        let output = change.output().unwrap();
        assert!(!output.status.success(), "{}", said(&output));
    }
}

/// The case of two patients in one study, as objects that a scanner and a corrected PACS send.
#[test]
fn a_study_of_two_patients_goes_nowhere_until_a_person_says_whose_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let all: Vec<String> = peers.set.iter().chain(&gateway.set).cloned().collect();
    let node = Node::start(&folder.path().join("data"), &set(&all));
    let first = folder.path().join("first.dcm");
    let adult = ["PatientAge=051Y", "PatientBirthDate=19741201"];
    let uid = chest_xray(POSITIVE, &first, &adult);
    let second = folder.path().join("second.dcm");
    let of_study = format!("StudyInstanceUID={uid}");
    let other = [
        "PatientID=PID-5",
        "PatientName=Qwert^Anna",
        "PatientBirthDate=19500101",
        "PatientAge=",
        &of_study,
    ];
    chest_xray(POSITIVE, &second, &other);
    node.storescu(&[first, second]);

    let shown = node.study_in(&uid, "needs_review");
    let reason = "the images differ in Patient ID, Patient's Birth Date: a person has to say whose study it is";
    assert_eq!(shown["reason"], reason, "{shown:#}");
    assert_eq!((gateway.requests().len(), files(&peers.pacs_folder).len()), (0, 0));
    wait_for("word to a person", || (!peers.mails().is_empty()).then_some(()));
    // Who they are shows the page, and nothing else.
    let page = http(&node, &format!("/studies/{uid}"));
    for value in ["PID-998877", "PID-5", "Qwert", "1950"] {
        assert!(page.contains(value), "{value}: {page}");
        assert!(!shown.to_string().contains(value) && !node.log().contains(value), "{value}");
        assert!(!peers.mails()[0].to_string().contains(value), "{value}");
    }
    let mut ledger = Vec::new();
    crate::way::holding(&node.data.join("ledger"), &["PID-998877", "PID-5", "Qwert"], &mut ledger);
    assert!(ledger.is_empty(), "{ledger:?}");

    let settle = |number: &str| {
        let mut settle = Command::new(PRELIM);
        settle.args([
            "study",
            "identity",
            &uid,
            number,
            "--by",
            "kim",
            "--reason",
            "asked the ward",
        ]);
        settle.arg("--data").arg(&node.data).output().unwrap()
    };
    assert!(!settle("3").status.success(), "{}", said(&settle("3")));
    // It goes on under whom a person says, after a kill too.
    assert!(settle("2").status.success());
    let shown = node.study_in(&uid, "delivered");
    assert_eq!((&shown["revision"], &shown["outcome"]), (&2.into(), &"read".into()), "{shown:#}");
    assert!(shown["history"].to_string().contains("settled by kim: asked the ward"));
    let sent = files(&peers.pacs_folder);
    assert_eq!(sent.len(), 3);
    for object in &sent {
        let dump = said(&run(Command::new("dcmdump").args(["+P", "0010,0020"]).arg(object)));
        assert!(dump.contains("PID-5") && !dump.contains("PID-998877"), "{dump}");
    }

    // Another patient comes into it: the word was not about that one.
    let third = folder.path().join("third.dcm");
    chest_xray(POSITIVE, &third, &["PatientID=PID-6", &of_study]);
    node.storescu(&[third]);
    let shown = node.study_in(&uid, "needs_review");
    assert_eq!(shown["revision"], 3);
    assert_eq!(gateway.requests().len(), 1);
    assert_eq!(files(&peers.pacs_folder).len(), 3);
}

#[test]
fn a_study_that_comes_again_under_a_corrected_patient_is_put_before_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let (peers, gateway) = (Peers::start(folder.path()), Gateway::start(folder.path(), "read"));
    let all: Vec<String> = peers.set.iter().chain(&gateway.set).cloned().collect();
    let node = Node::start(&folder.path().join("data"), &set(&all));
    let file = folder.path().join("film.dcm");
    let uid = chest_xray(POSITIVE, &file, &["PatientAge=051Y", "PatientBirthDate=19741201"]);
    node.storescu(std::slice::from_ref(&file));
    node.study_in(&uid, "delivered");
    let again = folder.path().join("again.dcm");
    let changed = |what: &[&str]| {
        std::fs::copy(&file, &again).unwrap();
        run(Command::new("dcmodify").args(["-nb"]).args(what).arg(&again));
        node.storescu(std::slice::from_ref(&again));
    };
    // Other words of the description, a name written otherwise: the same patient.
    changed(&["-m", "0008,1030=Chest", "-m", "0010,0010=ZYXWV^QUENTIN"]);
    wait_for("the other version", || (study(&node.data, &uid)?["conflicts"] == 1).then_some(()));
    changed(&["-m", "0010,0020=PID-7"]);
    let shown = node.study_in(&uid, "needs_review");
    assert!(shown["reason"].as_str().unwrap().starts_with("the images differ in Patient ID:"));
    assert_eq!((&shown["revision"], &shown["outcome"]), (&1.into(), &"read".into()));

    // On the page: the corrected patient holds. The report goes out again, under that one.
    let before = files(&peers.pacs_folder).len();
    let url = format!("http://{}/studies/{uid}/identity", node.http);
    run(Command::new("curl").args(["-sSf", "-m", "20", "-d", "number=2&reason=corrected", &url]));
    let shown = node.study_in(&uid, "delivered");
    assert_eq!(shown["revision"], 2);
    let sr = node.data.join("results").join(&uid).join("2/sr.dcm");
    let dump = said(&run(Command::new("dcmdump").args(["+P", "0010,0020"]).arg(&sr)));
    assert!(dump.contains("PID-7"), "{dump}");
    wait_for("the report again", || (files(&peers.pacs_folder).len() > before).then_some(()));
}

/// A device that gives one SOP Instance UID twice: whoever was told of success would look for the
/// second in vain.
#[test]
fn an_instance_that_is_known_in_another_study_is_refused_with_the_reason_and_the_first_stays() {
    let folder = tempfile::tempdir().unwrap();
    let node = Node::start(&folder.path().join("data"), &[]);
    let (first, second) = (folder.path().join("1.dcm"), folder.path().join("2.dcm"));
    let same = "SOPInstanceUID=1.2.826.0.1.3680043.9.77.1";
    let known = chest_xray(POSITIVE, &first, &[same]);
    let other = chest_xray(POSITIVE, &second, &[same, "PatientID=P9", "PatientName=Other"]);
    node.storescu(&[first]);
    let read = node.study_in(&known, "delivered");
    let mut send = Command::new(PRELIM);
    send.arg("send").arg(format!("PRELIM@{}", node.dicom)).arg(&second);
    let output = send.output().unwrap();
    let said = said(&output);
    assert!(!output.status.success() && said.contains("known in another study"), "{said}");
    let mut stow = Command::new("curl");
    stow.args(["-s", "-H", "Content-Type: application/dicom", "--data-binary"]);
    stow.arg(format!("@{}", second.display()));
    stow.arg(format!("http://{}/dicom-web/studies", node.http));
    let answer = String::from_utf8(run(&mut stow).stdout).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["00081198"]["Value"][0]["00081197"]["Value"][0], 0xC000, "{answer:#}");
    assert_eq!(study(&node.data, &other), None);
    let again = study(&node.data, &known).unwrap();
    assert_eq!((&again["revision"], &again["conflicts"]), (&read["revision"], &read["conflicts"]));
    assert!(
        node.log().contains("is that of an instance of another study or series"),
        "{}",
        node.log()
    );
}
