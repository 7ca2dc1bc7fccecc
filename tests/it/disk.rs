//! S1 to S3, S10: a disk that is full, broken or read-only, and too few file handles, against the
//! whole program. The sender hears A700 with a reason, nothing is half, others are served, and
//! when the fault is over the node takes instances again by itself.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use crate::load;
use crate::load::Comparison;
use crate::load::Told;
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::run;
use crate::node::wait_for;
use crate::peer::Bad;
use crate::peer::echo;
use crate::peer::files_below;
use crate::volatile::Disk;
use crate::volatile::Faults;
use crate::volatile::Survivors;

const SIZES: &[usize] = &[700, 60_000, 9_000, 1_400_000];
/// Of an instance that is half received when the fault begins.
const LARGE: usize = 6_000_000;

/// What every refusal has to be.
fn assert_refused_well(told: &Told, what: &str) {
    for (status, comment) in &told.refused {
        assert_eq!(*status, 0xA700, "{what}: {comment}");
        assert!((4..=64).contains(&comment.len()), "{what}: '{comment}'");
    }
    assert_eq!(told.unanswered, 0, "{what}: an association ended");
}

/// Senders before, during and after a fault.
///
/// - `begin`, `end`: the fault.
/// - Returns what they were told, after 10 more instances were stored than at the end of the fault.
fn through(node: &Node, run: u64, what: &str, begin: impl Fn(), end: impl Fn()) -> Told {
    let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
    std::thread::scope(|scope| {
        let _stop = load::Stop(&stop);
        let threads = load::senders(scope, node.dicom, 2, run, SIZES, &stop, &told);
        load::wait_for_told(&told, "instances before", |told| told.stored.len() >= 10);
        let large = load::uid(run * 100 + 50, 1, LARGE);
        let message = load::message(&large);
        let mut half_way = Bad::associated(node.dicom, "HALFWAY");
        half_way.say(&message[..LARGE / 2]);
        let is_large = |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.len() > 1_500_000);
        let incoming = || files_below(&node.data.join("incoming"));
        wait_for("half an instance", || incoming().iter().any(is_large).then_some(()));
        begin();
        half_way.say(&message[LARGE / 2..]);
        match half_way.status() {
            Some((0, _)) => told.lock().unwrap().stored.push(large),
            Some(refused) => told.lock().unwrap().refused.push(refused),
            None => told.lock().unwrap().unanswered += 1,
        }
        load::wait_for_told(&told, "refusals", |told| told.refused.len() >= 10);
        echo(node.dicom);
        // It looks every other second.
        wait_for("a node that says it is failing", || (ready(node) == 503).then_some(()));
        end();
        let then = told.lock().unwrap().stored.len();
        load::wait_for_told(&told, "service again", |told| told.stored.len() >= then + 10);
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    wait_for("readiness", || (ready(node) == 200).then_some(()));
    let told = told.into_inner().unwrap();
    assert_refused_well(&told, what);
    wait_for("nothing half", || files_below(&node.data.join("incoming")).is_empty().then_some(()));
    println!("{what}: {} stored, {} refused", told.stored.len(), told.refused.len());
    told
}

/// The HTTP status of /readyz.
fn ready(node: &Node) -> u16 {
    let mut stream = std::net::TcpStream::connect(node.http).unwrap();
    let head = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// S1, S2, S3: errors of the disk itself. Afterwards the power is cut: what was acknowledged around
/// the fault does not rest on pages that a failed sync left behind.
#[test]
fn a_disk_that_fails_refuses_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("disk");
    let data = at.join("data");
    let mut disk = Disk::new(4 << 30);
    let mut kept = Comparison::new(&data);
    let write = |errno| Faults { write: Some(errno), ..Faults::default() };
    let sync = |errno| Faults { sync: Some(errno), ..Faults::default() };
    let faults = [
        ("S1 ENOSPC", write(libc::ENOSPC)),
        ("S3 EROFS", Faults { write: Some(libc::EROFS), sync: Some(libc::EROFS) }),
        ("EIO on write", write(libc::EIO)),
        ("EIO on sync", sync(libc::EIO)),
        ("ENOSPC on sync", sync(libc::ENOSPC)),
    ];
    let set = ["assemble.quiet_period_s=600"];
    for (round, (what, faults)) in faults.into_iter().enumerate() {
        let Some(mounted) = disk.mount(&at) else { return };
        if round == 0 {
            fs::create_dir(&data).unwrap();
            fs::File::open(&at).unwrap().sync_all().unwrap();
        }
        let node = Node::start(&data, &set);
        kept.again();
        kept.assert_nothing_lost();
        let none = Faults::default();
        let told =
            through(&node, 10 + round as u64, what, || disk.fail(faults), || disk.fail(none));
        kept.add(told.stored);
        kept.assert_nothing_lost();
        disk = disk.cut(Survivors::None);
        node.kill();
        drop(mounted);
    }
    let _mounted = disk.mount(&at).unwrap();
    let node = Node::start(&data, &set);
    kept.again();
    kept.assert_nothing_lost();
    run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&data));
    assert_eq!(node.terminate(), Some(0));
}

/// A small file system of its own in memory; unmounted when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, bytes: u64) -> Option<Tmpfs> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(at);
        match mount.output().is_ok_and(|output| output.status.success()) {
            true => Some(Tmpfs(at.to_owned())),
            false => {
                eprintln!("passed over: a tmpfs cannot be mounted without root");
                None
            }
        }
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Leaves so many bytes free, however much others write meanwhile.
    fn fill(&self, left: u64) {
        let file = fs::File::create(self.0.join("ballast")).unwrap();
        let (mut at, mut step) = (0, 64 << 20);
        while step >= 4096 {
            let more = step.min(self.free().saturating_sub(left));
            let flags = rustix::fs::FallocateFlags::empty();
            match more > 0 && rustix::fs::fallocate(&file, flags, at, more).is_ok() {
                true => at += more,
                false => step /= 2,
            }
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// S1, S2: below the low-water mark, and with nothing left at all.
#[test]
fn a_full_disk_refuses_and_comes_back_when_there_is_space() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Tmpfs::mount(&folder.path().join("disk"), 1 << 30) else { return };
    let data = disk.0.join("data");
    let set = ["assemble.quiet_period_s=600", "store.free_bytes_min=33554432"];
    let mut kept = Comparison::new(&data);
    let node = Node::start(&data, &set);
    for (run, what, left) in [(31, "S2 below the mark", 24 << 20), (32, "S1 nothing left", 0)] {
        let told = through(&node, run, what, || disk.fill(left), || disk.empty());
        kept.add(told.stored);
        kept.assert_nothing_lost();
    }
    assert_eq!(kept.remains.len(), 0, "something half is left");
    node.kill();
    let node = Node::start(&data, &set);
    kept.again();
    kept.assert_nothing_lost();
    run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&data));
    assert_eq!(node.terminate(), Some(0));
}

/// S10: with every file handle taken by callers, who is in goes on storing, and who waits is served
/// when handles are back.
#[test]
fn too_few_file_handles_are_waited_out() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let set = ["assemble.quiet_period_s=600", "dicom.associations_per_peer_max=200"];
    let node = Node::start_with(&["prlimit", "--nofile=160:160"], &data, &set);
    let mut early = Bad::associated(node.dicom, "EARLY");
    early.say(&load::message(&load::uid(40, 1, 9_000)));
    assert_eq!(early.status(), Some((0, String::new())));
    let patience = std::time::Duration::from_secs(1);
    let connect = |_| std::net::TcpStream::connect_timeout(&node.dicom, patience).ok();
    let crowd: Vec<std::net::TcpStream> = (0..400).filter_map(connect).collect();
    assert!(crowd.len() > 150, "{}", crowd.len());
    let mut stored = vec![load::uid(40, 1, 9_000)];
    for (number, size) in [(2, 700), (3, 60_000), (4, 1_400_000), (5, 9_000)] {
        let uid = load::uid(40, number, size);
        early.say(&load::message(&uid));
        assert_eq!(early.status(), Some((0, String::new())), "no handle was kept for storing");
        stored.push(uid);
    }
    drop(crowd);
    echo(node.dicom);
    let mut late = Bad::associated(node.dicom, "LATE");
    let uid = load::uid(41, 1, 60_000);
    late.say(&load::message(&uid));
    assert_eq!(late.status(), Some((0, String::new())));
    stored.push(uid);
    let mut kept = Comparison::new(&data);
    kept.add(stored);
    kept.assert_nothing_lost();
    let lines = node.log().lines().count();
    assert!(lines < 1500, "{lines} lines of log");
    drop((early, late));
    assert_eq!(node.terminate(), Some(0));
}
