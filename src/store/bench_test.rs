//! Figures, on request: `cargo test --release --lib store::bench -- --ignored --nocapture`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::domain::uid::SeriesUid;
use crate::domain::uid::SopInstanceUid;
use crate::domain::uid::StudyUid;
use crate::store::commit::Body;
use crate::store::event::Event;
use crate::store::event::Receipt;
use crate::store::folder;
use crate::store::ledger::Ledger;
use crate::store::testing;
use crate::store::testing::receipt;
use crate::store::testing::store_instance;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn durable_commits_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = testing::open(dir.path());
    let next = Arc::new(AtomicU32::new(0));
    for whole in [false, true] {
        for callers in [1, 8, 32] {
            let (begun, before) = (Instant::now(), next.load(Ordering::Relaxed));
            let tasks = tokio_util::task::TaskTracker::new();
            for caller in 0..callers {
                let (store, next) = (store.clone(), Arc::clone(&next));
                tasks.spawn(async move {
                    while begun.elapsed() < Duration::from_secs(4) {
                        let n = next.fetch_add(1, Ordering::Relaxed);
                        if whole {
                            store_instance(&store, caller, n, "pixels").await;
                        } else {
                            store.commit_instance(receipt(caller, n, "x")).await.unwrap();
                        }
                    }
                });
            }
            tasks.close();
            tasks.wait().await;
            let done = f64::from(next.load(Ordering::Relaxed) - before);
            let what = if whole { "file and commit" } else { "commit" };
            println!("{what}, {callers} callers: {:.0}/s", done / begun.elapsed().as_secs_f64());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn opening_with_100_000_events() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = testing::open(dir.path());
    let begun = Instant::now();
    let tasks = tokio_util::task::TaskTracker::new();
    for caller in 0..200_u32 {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..500 {
                store.commit_instance(receipt(caller, n, "x")).await.unwrap();
            }
        });
    }
    tasks.close();
    tasks.wait().await;
    println!("200 callers, 100,000 commits: {:?}", begun.elapsed());
    let begun = Instant::now();
    drop(store);
    println!("closed in {:?}", begun.elapsed());
    for round in 0..3 {
        if round == 2 {
            std::fs::remove_dir_all(dir.path().join("state")).unwrap();
        }
        let begun = Instant::now();
        let (store, report) = testing::open(dir.path());
        println!("opened in {:?}, {} replayed", begun.elapsed(), report.replayed);
        let begun = Instant::now();
        println!("{} studies listed in {:?}", store.studies(100).unwrap().len(), begun.elapsed());
    }
    let size = |what: &str| {
        let out = std::process::Command::new("du").arg("-sm").arg(dir.path().join(what)).output();
        String::from_utf8_lossy(&out.unwrap().stdout).split('\t').next().unwrap().to_owned()
    };
    println!("ledger {} MB, state {} MB", size("ledger"), size("state"));
}

#[tokio::test]
#[ignore = "measures"]
async fn where_a_replay_spends_its_time() {
    use crate::store::index;
    use crate::store::ledger::Position;
    use crate::store::view::View;
    let dir = tempfile::tempdir().unwrap();
    let view = View::open(&dir.path().join("state"), 64 << 20).unwrap();
    let (mut applying, mut publishing) = (Duration::ZERO, Duration::ZERO);
    for batch in 0..20_u32 {
        let begun = Instant::now();
        let mut txn = view.begin();
        for n in 0..1000 {
            let receipt = receipt(n % 200, batch * 1000 + n, "x");
            let order = index::order(u64::from(batch) + 1, n as usize);
            index::apply(&mut txn, &Event::InstanceStored { receipt }, order).unwrap();
        }
        let changes = txn.finish().unwrap();
        applying += begun.elapsed();
        let begun = Instant::now();
        let number = u64::from(batch) + 1;
        view.publish(changes, Position { number, ..Position::default() }).unwrap();
        publishing += begun.elapsed();
    }
    println!("20,000 events: applied in {applying:?}, published in {publishing:?}");
}

/// A receipt as a scanner's instances leave it: UIDs of usual length, 250 instances a study, every
/// other study with random UIDs (2.25).
fn usual_receipt(n: u64) -> Receipt {
    let (place, instance) = (n / 250, n % 250);
    let mix = |x: u64| {
        let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let root = "1.2.840.113619.2.55.3.604688119";
    let (study, series, sop) = match place % 2 {
        0 => (
            format!("{root}.868.{}.1", 1_700_000_000 + place),
            format!("{root}.868.{}.2.{}", 1_700_000_000 + place, instance / 125),
            format!("{root}.868.{}.3.{instance}", 1_700_000_000 + place),
        ),
        _ => (
            format!("2.25.{}{:019}", mix(place), mix(place + 7)),
            format!("2.25.{}{:019}", mix(place + 1), mix(instance / 125)),
            format!("2.25.{}{:019}", mix(n + 1), mix(n + 2)),
        ),
    };
    let digest = format!("blake3:{:016x}{:016x}{:016x}{:016x}", mix(n), mix(n + 1), mix(n + 2), n);
    Receipt {
        object: format!("objects/{:02x}/{study}/{series}/{sop}.dcm", place % 256),
        study_uid: StudyUid::parse(&study).unwrap(),
        series_uid: SeriesUid::parse(&series).unwrap(),
        sop_instance_uid: SopInstanceUid::parse(&sop).unwrap(),
        size_bytes: 526_336,
        digest,
        received_at: testing::at(n as i64 / 20),
        ..receipt(0, 0, "")
    }
}

/// Writes a ledger of `count` instances, 8 in a record, in a data folder (best on a tmpfs).
fn ledger_of(data: &Path, count: u64) {
    let _held = folder::hold(data).unwrap();
    let mut ledger = Ledger::open(&data.join(folder::LEDGER), 64 << 20).unwrap().ledger;
    let mut next = 0;
    while next < count {
        let events = (next..(next + 8).min(count))
            .map(|n| vec![Event::InstanceStored { receipt: usual_receipt(n) }]);
        let commits: Vec<_> = events.collect();
        next += commits.len() as u64;
        let body = Body { at: testing::at(next as i64 / 20), commits };
        ledger.append(&serde_json::to_vec(&body).unwrap()).unwrap();
    }
}

fn resident_mb(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// `BENCH_DATA=/dev/shm/x BENCH_COUNT=1000000`: makes the folder where it is not there, rebuilds,
/// opens it again.
#[tokio::test]
#[ignore = "measures"]
#[expect(clippy::disallowed_methods, reason = "a measurement by hand is told where and how many")]
async fn a_million_instances() {
    let count = std::env::var("BENCH_COUNT").map_or(100_000, |n| n.parse().unwrap());
    let data = std::env::var("BENCH_DATA").unwrap_or("/dev/shm/rest-bench".to_owned());
    let data = Path::new(&data);
    if !data.exists() {
        std::fs::create_dir_all(data).unwrap();
        let begun = Instant::now();
        ledger_of(data, count);
        println!("ledger of {count} instances made in {:?}", begun.elapsed());
    }
    let begun = Instant::now();
    let (store, report) = testing::open(data);
    println!(
        "opened in {:?}, {} replayed, rebuilt {:?}; resident {} MB, at most {} MB",
        begun.elapsed(),
        report.replayed,
        report.rebuilt,
        resident_mb("VmRSS"),
        resident_mb("VmHWM")
    );
    let begun = Instant::now();
    drop(store);
    println!("closed in {:?}", begun.elapsed());
    for _ in 0..2 {
        let begun = Instant::now();
        let (store, _) = testing::open(data);
        println!("opened in {:?}; resident {} MB", begun.elapsed(), resident_mb("VmRSS"));
        for round in 0..3 {
            let begun = Instant::now();
            for n in 0..1000 {
                let receipt = usual_receipt(10_000_000 + round * 1000 + n);
                store.commit_instance(receipt).await.unwrap();
            }
            println!("1000 instances one by one in {:?}", begun.elapsed());
        }
        drop(store);
    }
}
