//! What takes a node down, or its data folder away: it goes on with the rest.

use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::load;
use crate::load::Comparison;
use crate::load::Told;
use crate::node::Node;
use crate::node::PATIENCE;
use crate::node::chest_xray;
use crate::node::pydicom_file;
use crate::node::python;
use crate::node::root;
use crate::node::run;
use crate::node::study;
use crate::node::wait_for;
use crate::volatile::Disk;
use crate::volatile::Survivors;
use crate::way::POSITIVE;

/// R2. The process dies in the middle of the same step at each start; the next starts show that it
/// is not tried for ever.
#[test]
fn a_study_that_takes_the_node_down_is_left_alone_after_some_starts_and_others_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let file = folder.path().join("child.dcm");
    let uid = chest_xray(POSITIVE, &file, &[]);
    let dies = ["pipeline.crash_at=\"picture:before\""];
    let node = Node::start(&data, &dies);
    node.storescu(std::slice::from_ref(&file));
    node.wait();
    for _ in 0..2 {
        assert!(!Node::spawn(&data, &dies).0.wait().unwrap().success());
    }
    // Without the bound it would be tried again now, and read.
    let node = Node::start(&data, &[]);
    let shown = node.study_in(&uid, "needs_review");
    assert!(shown.to_string().contains("the node ended 3 times"), "{shown:#}");
    let other = chest_xray(POSITIVE, &file, &[]);
    node.storescu(std::slice::from_ref(&file));
    assert_eq!(node.study_in(&other, "delivered")["outcome"], "read");
    assert_eq!(node.terminate(), Some(0));
}

/// Most memory that the node's processes had: the node itself, and the largest of its workers.
fn peaks(pid: u32) -> (u64, u64) {
    let status = |of: &Path| std::fs::read_to_string(of.join("status")).unwrap_or_default();
    let kilobytes = |text: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    };
    let parent = format!("PPid:\t{pid}\n");
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let children = processes.map(|path| status(&path)).filter(|text| text.contains(&parent));
    let node = status(&PathBuf::from(format!("/proc/{pid}")));
    (kilobytes(&node) >> 10, children.map(|text| kilobytes(&text) >> 10).max().unwrap_or(0))
}

/// R3.
#[test]
fn a_deflated_object_that_unpacks_to_gigabytes_is_refused_and_takes_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bomb = folder.path().join("bomb.dcm");
    let script = root().join("tests/peers/make_bomb.py");
    let said = run(Command::new(python()).arg(script).arg(&bomb));
    let uid = String::from_utf8(said.stdout).unwrap().trim().to_owned();
    let size = std::fs::metadata(&bomb).unwrap().len();
    assert!((1 << 20..3 << 20).contains(&size), "{size}");
    let node = Node::start(&folder.path().join("data"), &[]);
    node.send(std::slice::from_ref(&bomb));
    let (mut of_node, mut of_workers) = (0, 0);
    let shown = wait_for("an end of the reading", || {
        let (node, workers) = peaks(node.pid());
        (of_node, of_workers) = (of_node.max(node), of_workers.max(workers));
        let shown = study(&folder.path().join("data"), &uid)?;
        let state = shown["state"].as_str()?;
        (!["receiving", "ready", "analysing", "judged"].contains(&state)).then_some(shown)
    });
    println!("the node {of_node} MiB, a worker {of_workers} MiB");
    assert_eq!(shown["state"], "needs_review", "{shown:#}");
    assert!(shown["reason"].as_str().unwrap().starts_with("no image could be read"), "{shown:#}");
    assert!(of_node < 200 && of_workers < 600, "{of_node} MiB, {of_workers} MiB");
    let ct = pydicom_file("CT_small.dcm");
    node.send(std::slice::from_ref(&ct));
    node.study_in("1.3.6.1.4.1.5962.1.2.1.20040119072730.12322", "delivered");
    assert_eq!(node.terminate(), Some(0));
}

/// The words of /readyz.
fn readiness(node: &Node) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(node.http) {
        let _ = stream
            .write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut answer);
    }
    answer
}

/// R5. It takes instances again by itself, or says that it has to be started again and shows no
/// sign of life to the service manager, which does that.
#[test]
fn a_data_folder_that_was_away_for_three_seconds_keeps_nobody_waiting_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let data = at.join("data");
    let disk = Disk::new(1 << 30);
    let Some(mounted) = disk.mount(&at) else { return };
    // The folder itself is kept; what is in it is the node's to sync.
    std::fs::create_dir(&data).unwrap();
    std::fs::File::open(&at).unwrap().sync_all().unwrap();
    let manager = folder.path().join("manager");
    let signs = UnixDatagram::bind(&manager).unwrap();
    let signs_from = format!("NOTIFY_SOCKET={}", manager.display());
    let set = ["assemble.quiet_period_s=600"];
    let node = Node::start_with(&["env", &signs_from], &data, &set);
    let mut kept = Comparison::new(&data);
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    let (came_back, mounted) = std::thread::scope(|scope| {
        let _stop = load::Stop(&stop);
        load::senders(scope, node.dicom, 2, 1, &[9_000], &stop, &told);
        load::wait_for_told(&told, "instances before", |told| told.stored.len() >= 10);
        // What is open fails from now on, as after a remount; what was synced comes back.
        let back = disk.cut(Survivors::None);
        drop(mounted);
        std::thread::sleep(Duration::from_secs(3));
        let mounted = back.mount(&at).unwrap();
        let then = told.lock().unwrap().stored.len();
        let came_back = wait_for("service, or the word to start again", || {
            let is_back = told.lock().unwrap().stored.len() > then + 10;
            let says = readiness(&node).contains("start again");
            (is_back || says).then_some(is_back)
        });
        stop.store(true, Ordering::Relaxed);
        (came_back, mounted)
    });
    if !came_back {
        // A sign of life may be on its way; then there is none for longer than the usual pause.
        signs.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut last = [0; 256];
        while signs.recv(&mut last).is_ok() {
            assert!(Instant::now() < deadline, "the watchdog is told that all is well");
        }
    }
    println!("came back by itself: {came_back}");
    node.kill();
    let node = Node::start(&data, &set);
    kept.add(told.into_inner().unwrap().stored);
    kept.again();
    kept.assert_nothing_lost();
    node.kill();
    drop(mounted);
}
