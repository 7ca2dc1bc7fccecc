//! kill -9 at random moments under load: what the senders were told is what is there.

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
use crate::node::Node;
use crate::node::PRELIM;
use crate::node::run;

/// Small and large, below and above what a journal takes.
const SIZES: &[usize] = &[700, 9_000, 60_000, 530_000, 9_000, 1_400_000];
const SENDERS: u64 = 6;

/// Kills a node so many times on one folder, and compares after each start.
fn killed(kills: u64, seed: u64) -> String {
    let mut chance = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let set = ["assemble.quiet_period_s=600"];
    let (mut kept, mut cut_off) = (Comparison::new(&data), 0);
    for round in 0..kills {
        if round % 4 == 3 {
            // Also while it starts, when it recovers from the last kill.
            let starting = Node::spawn(&data, &set);
            std::thread::sleep(Duration::from_millis(chance.random_range(0..250)));
            drop(starting);
        }
        if round % 5 == 4 {
            // And without an index: the ledger alone says what was taken.
            std::fs::remove_dir_all(data.join("state")).unwrap();
        }
        let node = Node::start(&data, &set);
        kept.assert_nothing_lost();
        let (stop, told) = (AtomicBool::new(false), Mutex::new(Told::default()));
        std::thread::scope(|scope| {
            let _stop = load::Stop(&stop);
            let run = seed % 1000 * 1000 + round;
            load::senders(scope, node.dicom, SENDERS, run, SIZES, &stop, &told);
            std::thread::sleep(Duration::from_millis(chance.random_range(50..900)));
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
        let told = told.into_inner().unwrap();
        assert_eq!(told.refused, [], "round {round}");
        kept.add(told.stored);
        cut_off += told.unanswered;
    }
    let node = Node::start(&data, &set);
    kept.again();
    kept.assert_nothing_lost();
    // Receipts, index and digests agree with the files.
    run(Command::new(PRELIM).args(["verify", "--full", "--data"]).arg(&data));
    let got = run(Command::new(PRELIM).args(["get", kept.one(), "--data"]).arg(&data));
    assert!(got.stdout.ends_with(&load::made(kept.one())));
    assert_eq!(node.terminate(), Some(0));
    assert!(cut_off as u64 > kills, "the kills met no sender: {cut_off}");
    assert!(kept.stored() as u64 > 10 * kills, "too few for a test: {}", kept.stored());
    let (stored, remains) = (kept.stored(), kept.remains.len());
    format!(
        "{kills} kills: {stored} acknowledged, 0 lost, 0 torn; {cut_off} cut off, of which \
         {remains} left a part that the node does not know"
    )
}

/// S4.
#[test]
fn ten_kills_under_load_lose_nothing() {
    println!("{}", killed(10, 1));
}

/// S4 for long: `scripts/soak`.
#[test]
#[ignore = "some minutes: scripts/soak"]
fn soak_over_200_kills_under_load_lose_nothing() {
    // On a new folder now and then: what was taken fills the disk.
    for seed in 0..14 {
        println!("{} of 14 times {}", seed + 1, killed(15, 100 + seed));
    }
}
