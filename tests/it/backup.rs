//! `prelim backup` while a node receives, and `prelim restore`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use serde_json::Value;

use crate::load;
use crate::load::Told;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::chest_xray;
use crate::node::run;
use crate::node::said;
use crate::node::wait_for;
use crate::way;
use crate::way::POSITIVE;
use crate::way::Peers;

fn backup(data: &Path, to: &Path) -> Value {
    let mut backup = Command::new(PRELIM);
    let output = run(backup.args(["backup", "--json", "--data"]).arg(data).arg(to));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn restore(from: &Path, data: &Path, more: &[&str]) -> Value {
    let mut restore = Command::new(PRELIM);
    let output = run(restore.args(["restore", "--json", "--data"]).arg(data).arg(from).args(more));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn held(restored: &Value) -> BTreeSet<&str> {
    restored["held"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect()
}

/// Each of these is in the folder with the bytes that were sent.
fn assert_whole(data: &Path, sent: &[String]) {
    let kept = load::kept(&data.join("objects"));
    for uid in sent {
        let file = kept.get(uid).unwrap_or_else(|| panic!("{uid} is lost"));
        assert!(crate::peer::data_set(file) == load::made(uid), "{uid} is torn");
    }
}

#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_and_sends_nothing_again() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let peers = Peers::start(folder.path());
    let silent = "deliver.pacs.second.address=\"127.0.0.1:1\"";
    let working =
        peers.set.iter().find(|set| set.starts_with("deliver.pacs.main.address")).unwrap();
    let working = working.replace("main", "second");
    let set = |second| {
        let of_all = ["assemble.quiet_period_s=600", "deliver.pacs.second.ae_title=\"STORESCP\""];
        [&peers.set()[..], &of_all, &[second]].concat()
    };
    let node = Node::start(&at("data"), &set(silent));
    let uid = chest_xray(POSITIVE, &at("child.dcm"), &[]);
    node.storescu(&[at("child.dcm")]);
    run(Command::new(PRELIM).args(["study", "complete", &uid, "--data"]).arg(&node.data));
    wait_for("one archive that has all", || {
        let study = crate::node::study(&node.data, &uid)?;
        let of_main = study["deliveries"].as_array()?.iter();
        let mut of_main = of_main.filter(|delivery| delivery["destination"] == "pacs.main");
        (way::files(&peers.pacs_folder).len() == 3
            && of_main.all(|delivery| delivery["state"] == "done")
            && peers.mails().len() == 1)
            .then_some(())
    });

    let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    // Mostly small: the senders do not pause, and what they send is on the disk three times.
    let sizes = [9_000, 60_000, 9_000, 9_000, 530_000, 9_000, 60_000, 9_000, 1_400_000, 9_000];
    let (before, first) = std::thread::scope(|scope| {
        let _stop = load::Stop(&stop);
        load::senders(scope, node.dicom, 3, 7, &sizes, &stop, &told);
        load::wait_for_told(&told, "instances", |told| told.stored.len() > 60);
        let before = told.lock().unwrap().stored.clone();
        let first = backup(&node.data, &at("backup"));
        restore(&at("backup"), &at("early"), &[]);
        assert_whole(&at("early"), &before);
        load::wait_for_told(&told, "more", |told| told.stored.len() > before.len() + 30);
        (before, first)
    });
    assert!(first["manifest"]["instances"].as_u64().unwrap() > before.len() as u64, "{first:#}");

    // A second one into the same folder copies what came since; nothing else came at rest.
    let all = told.into_inner().unwrap().stored;
    let second = backup(&node.data, &at("backup"));
    assert_eq!(second["manifest"]["instances"], all.len() as u64 + 1);
    let (copied, instances) = (&second["copied"], &second["manifest"]["instances"]);
    assert!(copied.as_u64() < instances.as_u64(), "{first:#}{second:#}");
    assert_eq!(backup(&node.data, &at("backup"))["copied"], 0);
    node.kill();

    let restored = restore(&at("backup"), &at("restored"), &[]);
    assert_eq!(restored["gaps"].as_array().unwrap().len(), 0, "{restored:#}");
    assert_whole(&at("restored"), &all);
    let open = held(&restored);
    assert!(open.iter().all(|id| !id.contains("pacs.main")), "{open:?}");
    assert!(open.iter().any(|id| id.contains("pacs.second")), "{open:?}");

    // The node that was restored sends nothing by itself, though it could, until a person says so.
    let node = Node::start(&at("restored"), &set(&working));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!((peers.mails().len(), way::files(&peers.pacs_folder).len()), (1, 3));
    let study = node.study_in(&uid, "composed");
    assert_eq!(study["findings"][0], "Pneumonia", "{study:#}");
    let mut retry = Command::new(PRELIM);
    run(retry.args(["queue", "--retry", "pacs.second", "--data"]).arg(&node.data));
    node.study_in(&uid, "delivered");
    assert_eq!(peers.mails().len(), 1, "the alert was told before the backup");
    assert_eq!(way::files(&peers.pacs_folder).len(), 3, "the same objects, under the same UIDs");
    run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&node.data));
    drop(node);

    // Where the old node is gone, the new one goes on with what was open.
    let taken_over = restore(&at("backup"), &at("taken-over"), &["--take-over"]);
    assert!(held(&taken_over).is_empty());
    let node = Node::start(&at("taken-over"), &set(&working));
    node.study_in(&uid, "delivered");
}

#[test]
fn a_backup_and_a_restore_take_no_folder_that_holds_something_else() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["one", "two"] {
        let node = Node::start(&at(name), &[]);
        chest_xray(POSITIVE, &at("child.dcm"), &[]);
        node.storescu(&[at("child.dcm")]);
        assert_eq!(node.terminate(), Some(0));
    }
    let refused = |words: &[&str], why: &str| {
        let path = |word: &&str| match word.starts_with('@') {
            true => at(&word[1..]).into_os_string(),
            false => word.into(),
        };
        let output = Command::new(PRELIM).args(words.iter().map(path)).output().unwrap();
        assert!(!output.status.success() && said(&output).contains(why), "{}", said(&output));
    };
    refused(&["backup", "@one/inside", "--data", "@one"], "cannot be in the data folder");
    refused(&["backup", "@two", "--data", "@one"], "holds no backup");
    backup(&at("one"), &at("backup"));
    refused(&["backup", "@backup", "--data", "@two"], "the backup of another node");
    refused(&["restore", "@two", "--data", "@new"], "no whole backup");
    refused(&["restore", "@backup", "--data", "@two"], "not empty");

    // One byte of an image is not as it was.
    let object = load_one(&at("backup/objects"));
    let mut bytes = std::fs::read(&object).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    refused(&["restore", "@backup", "--data", "@new"], "not all is there");

    // A restore that did not come to its end is no data folder.
    std::fs::write(at("new/format"), "prelim restore, not finished\n").unwrap();
    refused(&["serve", "--data", "@new"], "did not come to its end");
}

fn load_one(folder: &Path) -> std::path::PathBuf {
    crate::peer::files_below(folder).into_iter().next().expect("an object")
}
