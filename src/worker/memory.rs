//! How much memory the workers may have: in proportion to what the machine, or the container, has.

use std::path::Path;

use crate::worker::Config;
use crate::worker::pool;

/// Share of the memory that all workers together may take, in percent: the node and the page cache
/// need the rest.
const SHARE_PERCENT: u64 = 60;
/// With less a large radiograph cannot be decoded: fewer processes are started instead.
const PROCESS_BYTES_MIN: u64 = 512 << 20;

/// The settings, with as many processes and as much memory for each as fit into this machine.
pub fn fitting(config: &Config) -> Config {
    let Some(memory) = bytes(Path::new("/")) else { return config.clone() };
    let fits = fit(config, memory);
    let had = pool::processes(config);
    if (fits.processes as usize, fits.memory_max_bytes) != (had, config.memory_max_bytes) {
        tracing::warn!(
            memory_mib = memory >> 20,
            processes = fits.processes,
            each_mib = fits.memory_max_bytes >> 20,
            "fewer or smaller worker processes than the settings say fit into the memory"
        );
    }
    fits
}

fn fit(config: &Config, memory: u64) -> Config {
    let share = memory / 100 * SHARE_PERCENT;
    let processes = u64::try_from(pool::processes(config)).unwrap_or(u64::MAX);
    let processes = processes.min(share / PROCESS_BYTES_MIN).max(1);
    let each = (share / processes).max(PROCESS_BYTES_MIN);
    Config {
        processes: u32::try_from(processes).unwrap_or(u32::MAX),
        memory_max_bytes: config.memory_max_bytes.min(each),
        ..config.clone()
    }
}

/// Of the machine, or of the control group that this process is in, when that has less.
///
/// - `root`: where `proc` and `sys` are.
fn bytes(root: &Path) -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let total = read("proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    });
    let groups = read("proc/self/cgroup").unwrap_or_default();
    let limits = groups.lines().flat_map(|line| {
        // `0::/path` (version 2), `4:memory:/path` (version 1). A container may see its own group at
        // the root, so each above counts too.
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next(), parts.next(), parts.next());
        let (folder, file) = match controllers {
            Some("") => ("sys/fs/cgroup", "memory.max"),
            Some(names) if names.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            Some(_) | None => return Vec::new(),
        };
        let path = Path::new(path.unwrap_or("/").trim_start_matches('/'));
        let limit = |of: &Path| {
            let text = read(&format!("{folder}/{}", of.join(file).display()))?;
            // `max`: none.
            text.trim().parse::<u64>().ok()
        };
        path.ancestors().filter_map(limit).collect()
    });
    total.map(|kilobytes| kilobytes * 1024).into_iter().chain(limits).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn workers_fit_into_the_machine_or_container_that_they_are_in() {
        let wanted = Config { processes: 4, memory_max_bytes: 2 * GIB, ..Config::default() };
        for (memory, processes, each) in [
            (64 * GIB, 4, 2 * GIB),
            (8 * GIB, 4, 8 * GIB / 100 * 60 / 4),
            (GIB, 1, GIB / 100 * 60),
            // With less nothing could be read at all: one at a time, and as small as may be.
            (GIB / 4, 1, PROCESS_BYTES_MIN),
        ] {
            let fits = fit(&wanted, memory);
            assert_eq!((fits.processes, fits.memory_max_bytes), (processes, each), "{memory}");
        }
    }

    #[test]
    fn the_smallest_limit_of_machine_and_groups_counts() {
        let machine = "MemTotal:       16000000 kB\nMemFree: 1 kB\n";
        for (groups, files, expected) in [
            ("", vec![], 16_000_000 * 1024),
            ("0::/\n", vec![("sys/fs/cgroup/memory.max", "1073741824\n")], GIB),
            ("0::/a/b\n", vec![("sys/fs/cgroup/a/memory.max", "2147483648\n")], 2 * GIB),
            ("0::/a\n", vec![("sys/fs/cgroup/a/memory.max", "max\n")], 16_000_000 * 1024),
            (
                "5:cpu:/x\n4:memory:/d\n",
                vec![("sys/fs/cgroup/memory/d/memory.limit_in_bytes", "536870912\n")],
                GIB / 2,
            ),
            (
                "4:memory:/d\n",
                vec![("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")],
                16_000_000 * 1024,
            ),
        ] {
            let root = tempfile::tempdir().unwrap();
            let write = |path: &str, text: &str| {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write("proc/meminfo", machine);
            write("proc/self/cgroup", groups);
            files.iter().for_each(|(path, text)| write(path, text));
            assert_eq!(bytes(root.path()), Some(expected), "{groups}");
        }
    }
}
