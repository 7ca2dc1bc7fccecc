//! Figures, on request: `cargo test --release --lib store::bench -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

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
    use crate::store::event::Event;
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
