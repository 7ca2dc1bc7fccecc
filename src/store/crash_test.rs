//! The promise itself: a node that is killed at any time, or whose files meet a limit, has lost
//! nothing that it acknowledged. The child is this test binary, started for one ignored test.

use std::collections::BTreeSet;
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Write as _;
use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use crate::store::Store;
use crate::store::StoreError;
use crate::store::VerifyMode;
use crate::store::event::Event;
use crate::store::event::JobKind;
use crate::store::testing;
use crate::store::testing::job;
use crate::store::testing::receipt;
use crate::store::testing::store_instance;
use crate::store::testing::study;

const FOLDER: &str = "PRELIM_TEST_STORE_FOLDER";
const FROM: &str = "PRELIM_TEST_STORE_FROM";

#[expect(clippy::disallowed_methods, reason = "how the parent test speaks to its child")]
fn given(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn child(test: &str, folder: &Path, from: u32, shell: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let name = format!("store::crash_test::{test}");
    Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" --exact {name} --ignored --nocapture")])
        .arg(program)
        .env(FOLDER, folder)
        .env(FROM, from.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn say(word: &str, instance: u32) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{word} {instance}").unwrap();
    out.flush().unwrap();
}

/// Four senders; each instance is said when it was acknowledged, with its job.
#[test]
#[ignore = "a child of the kill test"]
fn child_that_commits_until_it_is_killed() {
    let (Some(folder), Some(from)) = (given(FOLDER), given(FROM)) else { return };
    let from: u32 = from.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, report) = testing::open(Path::new(&folder));
        assert!(report.alarms().is_empty(), "{report:?}");
        let tasks = tokio_util::task::TaskTracker::new();
        for sender in 0..4 {
            let store = store.clone();
            tasks.spawn(async move {
                for i in 0.. {
                    let instance = from + i * 4 + sender;
                    store_instance(&store, sender + 1, instance, "pixels").await;
                    let job = job(instance, 1, JobKind::Plan, 0, 5);
                    store.commit(vec![Event::JobEnqueued { job }]).await.unwrap();
                    say("acked", instance);
                }
            });
        }
        tasks.close();
        tasks.wait().await;
    });
}

/// S4.
#[test]
fn nothing_acknowledged_is_lost_by_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked = BTreeSet::new();
    for round in 0..8_u32 {
        let from = round * 1_000_000;
        let mut child = child("child_that_commits_until_it_is_killed", dir.path(), from, "");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = 20 + round as usize * 7;
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some(instance) = line.rsplit_once("acked ") else { continue };
            acked.insert(instance.1.trim().parse::<u32>().unwrap());
            seen += 1;
            if seen == wanted {
                // What comes between this line and the kill was acknowledged too.
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= wanted, "round {round}: the child ended by itself after {seen}");
        let report = Store::verify(dir.path(), VerifyMode::Full, &mut |_| {}).unwrap();
        for gap in &report.gaps {
            // Placed, not yet committed, not acknowledged; or the record that was being written. The
            // jobs of this test stand for themselves.
            let text = gap.to_string();
            let expected = ["has no receipt", "incomplete", "of a study that is not known"];
            assert!(expected.iter().any(|part| text.contains(part)), "{text}");
        }
        let (store, opened) = testing::open(dir.path());
        assert!(opened.alarms().is_empty(), "{opened:?}");
        let mut stored = BTreeSet::new();
        for n in 1..=4 {
            for row in store.instances(&study(n)).unwrap() {
                let sop = row.receipt.sop_instance_uid.to_string();
                stored.insert(sop.rsplit('.').next().unwrap().parse::<u32>().unwrap());
            }
        }
        let jobs: BTreeSet<u32> = store
            .jobs()
            .unwrap()
            .iter()
            .map(|row| row.job.study_uid.as_str()["1.2.".len()..].parse().unwrap())
            .collect();
        assert!(acked.is_subset(&stored), "lost: {:?}", acked.difference(&stored));
        assert!(acked.is_subset(&jobs), "lost jobs: {:?}", acked.difference(&jobs));
    }
    assert!(acked.len() > 300);
}

/// Commits under a file size limit, then without it.
#[test]
#[ignore = "a child of the limit test"]
fn child_that_meets_a_file_size_limit() {
    let Some(folder) = given(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (store, _) = testing::open(Path::new(&folder));
        let mut refused = 0;
        let mut instance = 0;
        while refused < 20 {
            instance += 1;
            match store.commit_instance(receipt(1, instance, "x")).await {
                Ok(_) => say("acked", instance),
                Err(StoreError::Closed) => panic!("the committer is gone"),
                Err(_) => refused += 1,
            }
        }
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        limit.current = limit.maximum;
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
        tokio::time::sleep(Duration::from_millis(1200)).await;
        for _ in 0..20 {
            instance += 1;
            store.commit_instance(receipt(1, instance, "x")).await.unwrap();
            say("acked", instance);
        }
        say("refused", refused);
    });
}

/// S1, S2 with a real limit of the operating system, on the ledger as well as on sled.
#[test]
fn a_file_size_limit_is_survived_without_a_restart() {
    for blocks in [200, 800, 1500] {
        let dir = tempfile::tempdir().unwrap();
        let shell = format!("trap '' XFSZ; ulimit -S -f {blocks};");
        let child = child("child_that_meets_a_file_size_limit", dir.path(), 0, &shell);
        let out = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        assert!(out.status.success(), "{blocks}: {text}");
        assert!(text.contains("refused 20"), "{blocks}: {text}");
        let acked: BTreeSet<u32> = text
            .lines()
            .filter_map(|line| line.rsplit_once("acked ")?.1.trim().parse().ok())
            .collect();
        assert!(acked.len() > 20, "{blocks}: {}", acked.len());
        let (store, opened) = testing::open(dir.path());
        assert!(opened.damage.is_empty(), "{opened:?}");
        let rows = store.instances(&study(1)).unwrap();
        let stored: BTreeSet<u32> = rows
            .iter()
            .map(|row| {
                let sop = row.receipt.sop_instance_uid.as_str();
                sop.rsplit('.').next().unwrap().parse().unwrap()
            })
            .collect();
        assert!(acked.is_subset(&stored), "lost: {:?}", acked.difference(&stored));
    }
}
