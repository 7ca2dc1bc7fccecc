//! S6, the power cut: a node on a file system that forgets what was not synced.

use std::fs;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::Rng as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::load;
use crate::load::Comparison;
use crate::load::Told;
use crate::node::Background;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::free_port;
use crate::node::run;
use crate::node::wait_for;
use crate::node::wait_until_listening;
use crate::volatile::Disk;
use crate::volatile::Survivors;

const SIZES: &[usize] = &[700, 9_000, 60_000, 200_000, 9_000, 1_400_000];
const SPACE: u64 = 4 << 30;

/// The layer itself: what nobody synced is gone, each half of a sync alone is not enough.
#[test]
fn the_volatile_disk_forgets_what_was_not_synced() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(SPACE);
    let Some(mounted) = disk.mount(&folder.path().join("disk")) else { return };
    let path = mounted.path();
    fs::write(path.join("unsynced"), b"gone").unwrap();
    // Its data is synced, its name is not.
    let mut nameless = File::create(path.join("nameless")).unwrap();
    let mut whole = File::create(path.join("whole")).unwrap();
    nameless.write_all(b"gone").unwrap();
    whole.write_all(b"kept").unwrap();
    nameless.sync_data().unwrap();
    whole.sync_data().unwrap();
    fs::create_dir(path.join("folder")).unwrap();
    fs::rename(path.join("whole"), path.join("folder/renamed")).unwrap();
    fs::remove_file(path.join("nameless")).unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    File::open(path.join("folder")).unwrap().sync_all().unwrap();
    fs::write(path.join("empty"), b"gone").unwrap();
    File::open(path).unwrap().sync_all().unwrap();
    whole.write_all(b" and more").unwrap();
    fs::write(path.join("later"), b"gone").unwrap();
    fs::remove_file(path.join("folder/renamed")).unwrap();
    drop((nameless, whole));
    let left = disk.cut(Survivors::None);
    assert!(fs::write(path.join("dead"), b"").is_err(), "without power nothing answers");
    drop(mounted);
    let mounted = left.mount(&folder.path().join("disk")).unwrap();
    let names = |folder: &Path| -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    assert_eq!(names(mounted.path()), ["empty", "folder", "unsynced"]);
    assert_eq!(fs::read(mounted.path().join("empty")).unwrap(), b"");
    assert_eq!(fs::read(mounted.path().join("folder/renamed")).unwrap(), b"kept");
}

/// The layer catches a receiver that syncs nothing: DCMTK's loses what it acknowledged.
#[test]
fn a_power_cut_is_seen_at_a_receiver_that_does_not_sync() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(SPACE);
    let Some(mounted) = disk.mount(&folder.path().join("disk")) else { return };
    let port = free_port();
    let mut storescp = Command::new("storescp");
    storescp.args(["--fork", "-od"]).arg(mounted.path()).arg(port.to_string());
    let receiver = Background(storescp.env("TCP_NODELAY", "1").spawn().unwrap());
    wait_until_listening(port);
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    std::thread::scope(|scope| {
        let _stop = load::Stop(&stop);
        let dicom = ([127, 0, 0, 1], port).into();
        load::senders(scope, dicom, 2, 1, &[9_000], &stop, &told);
        load::wait_for_told(&told, "20 answers", |told| told.stored.len() >= 20);
        stop.store(true, Ordering::Relaxed);
    });
    let left = disk.cut(Survivors::None);
    drop(receiver);
    drop(mounted);
    let mounted = left.mount(&folder.path().join("disk")).unwrap();
    let acknowledged = told.into_inner().unwrap().stored.len();
    let kept = fs::read_dir(mounted.path()).unwrap().count();
    println!("storescp: {kept} of {acknowledged} acknowledged instances are left");
    assert_eq!(kept, 0, "of {acknowledged}");
}

/// Cuts the power so many times under load, each on what the last cut left.
fn power_cuts(cuts: u64, seed: u64) -> Option<String> {
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let data = at.join("data");
    let set = ["assemble.quiet_period_s=600"];
    let mut disk = Disk::new(SPACE);
    let mut kept = Comparison::new(&data);
    for round in 0..cuts {
        let mounted = disk.mount(&at)?;
        if round == 0 {
            // The administrator's, long before.
            fs::create_dir(&data).unwrap();
            File::open(&at).unwrap().sync_all().unwrap();
        }
        if round % 3 == 2 {
            // And without an index: the ledger alone says what was taken.
            let _ = fs::remove_dir_all(data.join("state"));
        }
        let node = Node::start(&data, &set);
        // What was compared before has been through another cut.
        kept.again();
        kept.assert_nothing_lost();
        let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
        std::thread::scope(|scope| {
            let _stop = load::Stop(&stop);
            load::senders(scope, node.dicom, 4, seed * 1000 + round, SIZES, &stop, &told);
            std::thread::sleep(Duration::from_millis(chance.random_range(100..900)));
            // Every second time all that was not synced is gone, else a part of it is there.
            let survivors = match round % 2 {
                0 => Survivors::None,
                _ => Survivors::Some(chance.random()),
            };
            disk = disk.cut(survivors);
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
        drop(mounted);
        kept.add(told.into_inner().unwrap().stored);
    }
    let _mounted = disk.mount(&at)?;
    let node = Node::start(&data, &set);
    kept.again();
    kept.assert_nothing_lost();
    run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&data));
    assert_eq!(node.terminate(), Some(0));
    assert!(kept.stored() as u64 > 10 * cuts, "too few for a test: {}", kept.stored());
    let (stored, remains) = (kept.stored(), kept.remains.len());
    Some(format!(
        "{cuts} power cuts: {stored} acknowledged, 0 lost, 0 torn; {remains} parts that the node \
         does not know"
    ))
}

/// S6.
#[test]
fn power_cuts_under_load_lose_nothing() {
    println!("{}", power_cuts(6, 1).unwrap_or_default());
}

/// S6 for long: `scripts/soak`.
#[test]
#[ignore = "some minutes: scripts/soak"]
fn soak_power_cuts_under_load_lose_nothing() {
    for seed in 0..6 {
        println!("{} of 6 times {}", seed + 1, power_cuts(10, 10 + seed).unwrap_or_default());
    }
}

/// A folder that the node makes itself has a name after the cut.
#[test]
fn a_new_data_folder_survives_a_power_cut() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::new(SPACE);
    let at = folder.path().join("disk");
    let Some(mounted) = disk.mount(&at) else { return };
    let data = at.join("srv/prelim");
    let mut serve = Command::new(PRELIM);
    serve.args(["serve", "--dicom", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data"]).arg(&data);
    let node = Background(serve.stderr(std::process::Stdio::null()).spawn().unwrap());
    wait_for("a node that listens", || data.join("node.json").exists().then_some(()));
    let left = disk.cut(Survivors::None);
    drop((node, mounted));
    let _mounted = left.mount(&at).unwrap();
    assert!(data.join("objects").is_dir(), "the data folder is gone");
}
