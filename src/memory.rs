//! How much memory the process may use, and limits that fit into it.
//!
//! The limits of the configuration are for a machine with room. Where there is less, those that say how much memory
//! something may hold are lowered, so that all of them together stay below what there is: better that a request is refused than
//! that the system ends the process.
//!
//! The allocator of glibc keeps what was freed in lists of each thread, and keeps more the larger the pieces were: of a process that
//! works with pieces of megabytes, more than it uses. With little memory `serve` starts itself once more with that switched off.
//!
//! Invariants
//! 1. No limit is raised, and with 16 GiB or more none is lowered that has its default.
//! 2. A fitted configuration passes the checks of the configuration.

use crate::config::Config;
use crate::files;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use wattlog_server::Size;

/// With less than this nothing useful can be done; it is taken for that much.
pub(crate) const LEAST: Size = Size::mib(64);
/// From here on the defaults fit.
#[cfg(test)]
const ROOMY_BYTES: u64 = 16 << 30;
/// What the name of a series takes in memory, its share of maps included.
const SERIES_BYTES: u64 = 384;
/// What a connection takes: buffers, and the compression of its answer.
const CONNECTION_BYTES: u64 = 32 << 10;

/// A configuration whose limits fit, and which keys were lowered for that: name and what it is now.
#[derive(Debug)]
pub(crate) struct Fitted {
    pub(crate) config: Config,
    pub(crate) memory: Size,
    pub(crate) lowered: Vec<String>,
}

/// Limits that fit into `memory` of the configuration or, where it says nothing, into what the system gives.
pub(crate) fn fit(config: &Config) -> Fitted {
    let fitted = fit_into(config, available(config));
    if !fitted.lowered.is_empty() {
        let lowered = fitted.lowered.join(", ");
        tracing::info!(memory = %fitted.memory, lowered, "limits were lowered to fit into the memory there is");
    }
    fitted
}

/// Below this much memory every large piece goes back to the system when it is freed, which costs some time.
const FRUGAL_BELOW: Size = Size::mib(1024);
/// Setting of glibc's allocator: pieces of so many bytes come from the system one by one and go back to it.
const THRESHOLD: (&str, &str) = ("MALLOC_MMAP_THRESHOLD_", "65536");

/// Where there is little memory, begins this program anew, as the same process, with an allocator that keeps none. Does not
/// come back then; otherwise nothing has changed.
pub(crate) fn begin_frugally(config: &Config) {
    let is_little = available(config) < FRUGAL_BELOW;
    if !is_little || !cfg!(target_env = "gnu") || std::env::var_os(THRESHOLD.0).is_some() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).env(THRESHOLD.0, THRESHOLD.1);
    let error = command.exec();
    tracing::warn!(%error, "the program cannot begin anew: it will hold more memory than it uses");
}

fn available(config: &Config) -> Size {
    config.memory.or_else(|| of_system(Path::new("/"))).unwrap_or(Size(u64::MAX)).max(LEAST)
}

fn fit_into(config: &Config, memory: Size) -> Fitted {
    // A quarter is left for what is not counted.
    let room = (memory.0 / 4 * 3).max(LEAST.0);
    let mut config = config.clone();
    let mut lowered = Vec::new();
    let limits = &mut config.server.limits;
    let engine = &mut config.engine;
    // A memtable is there up to twice, one filling and one being sealed, and its seal takes about as much again.
    let sizes: [(&str, &mut Size, u64); 13] = [
        ("engine.memtable", &mut engine.memtable, room / 32),
        ("engine.wal", &mut engine.wal, room / 16),
        ("engine.compaction_memory", &mut engine.compaction_memory, room / 64),
        ("server.limits.bodies_in_memory", &mut limits.bodies_in_memory, room / 8),
        ("server.limits.bodies_per_address", &mut limits.bodies_per_address, room / 32 * 3),
        ("server.limits.body", &mut limits.body, room / 32),
        ("server.limits.decompressed_body", &mut limits.decompressed_body, room / 16),
        ("server.limits.batch", &mut limits.batch, room / 16),
        ("server.limits.answers_in_memory", &mut limits.answers_in_memory, room / 8),
        ("server.limits.answers_per_address", &mut limits.answers_per_address, room / 32 * 3),
        ("server.limits.answer", &mut limits.answer, room / 64 * 3),
        // Lists grow by doubling, and rows are copied on their way: what is counted may take three times that.
        ("server.limits.queries_in_memory", &mut limits.queries_in_memory, room / 12),
        ("server.limits.query_bytes", &mut limits.query_bytes, room / 16),
    ];
    for (name, value, most) in sizes {
        // Whole KiB read better.
        let most = Size(most >> 10 << 10);
        if *value > most {
            *value = most;
            lowered.push(format!("{name}: {value}"));
        }
    }
    // What a query or a body copies on its way is not all counted: the fewer at a time, the less of it.
    let at_a_time = (room / Size::mib(96).0).max(2);
    let counts = [
        ("server.limits.concurrent_queries", &mut limits.concurrent_queries, at_a_time),
        ("server.limits.concurrent_writes", &mut limits.concurrent_writes, at_a_time),
        ("engine.max_series", &mut engine.max_series, room / 16 / SERIES_BYTES),
        ("server.limits.connections", &mut limits.connections, room / 16 / CONNECTION_BYTES),
        (
            "server.limits.connections_per_address",
            &mut limits.connections_per_address,
            room / 32 / CONNECTION_BYTES,
        ),
    ];
    for (name, value, most) in counts {
        let most = u32::try_from(most).unwrap_or(u32::MAX);
        if *value > most {
            *value = most;
            lowered.push(format!("{name}: {value}"));
        }
    }
    Fitted { config, memory, lowered }
}

/// The least of what the machine has, control groups allow and the limits of the process allow; none if nothing of it can be
/// read. `root` is `/`.
fn of_system(root: &Path) -> Option<Size> {
    let read = |path: &Path| files::read_text(path).ok();
    let machine = read(&root.join("proc/meminfo")).and_then(|text| {
        let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    });
    let groups = read(&root.join("proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().flat_map(|line| limit_files(root, line));
    // A group without a limit says `max`, or a number that no machine has.
    let groups = groups.filter_map(|file| read(&file)?.trim().parse::<u64>().ok());
    // Here everything asked for counts, touched or not: stacks of threads, room in lists. A quarter is for what we count.
    let own = read(&root.join("proc/self/limits")).unwrap_or_default();
    let own = own.lines().filter_map(|line| {
        let rest = line.strip_prefix("Max data size").or_else(|| line.strip_prefix("Max address space"))?;
        Some(rest.split_whitespace().next()?.parse::<u64>().ok()? / 4)
    });
    machine.into_iter().chain(groups).chain(own).min().map(Size)
}

/// Files with the limits of a group and of all groups around it, from its line in `/proc/self/cgroup`.
fn limit_files(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (home, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    // In a container the path may be that of the host: its own group is then the home itself.
    let path = Path::new(path.trim_start_matches('/'));
    path.ancestors().map(|group| root.join(home).join(group).join(file)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_were_lowered_pass_the_checks_and_fit() {
        let roomy = fit_into(&Config::default(), Size(ROOMY_BYTES));
        assert_eq!((roomy.config, roomy.lowered), (Config::default(), Vec::new()));
        let mut before = u64::MAX;
        for mib in [64, 100, 256, 333, 512, 1024, 2048, 4096] {
            let Fitted { config, lowered, .. } = fit_into(&Config::default(), Size::mib(mib));
            config.check().unwrap_or_else(|error| panic!("{mib} MiB: {error}"));
            let limits = config.server.limits;
            let held = 2 * config.engine.memtable.0
                + 3 * config.engine.compaction_memory.0
                + limits.bodies_in_memory.0
                + limits.answers_in_memory.0
                + 3 * limits.queries_in_memory.0
                + u64::from(config.engine.max_series) * SERIES_BYTES
                + u64::from(limits.connections) * CONNECTION_BYTES;
            assert!(held <= mib << 20, "{mib} MiB: {held}");
            assert!((lowered.len() as u64) <= before, "{mib} MiB: {lowered:?}");
            before = lowered.len() as u64;
        }
        let little = fit_into(&Config::default(), Size::mib(256));
        assert!(little.lowered.contains(&"server.limits.body: 6MiB".to_owned()), "{:?}", little.lowered);
    }

    #[test]
    fn what_is_set_lower_stays_and_a_word_of_the_owner_counts() {
        let mut config = Config { memory: Some(Size::mib(1)), ..Config::default() };
        config.engine.memtable = Size::mib(1);
        let fitted = fit(&config);
        assert_eq!((fitted.memory, fitted.config.engine.memtable), (LEAST, Size::mib(1)));
        config.memory = Some(Size(1 << 40));
        assert_eq!(fit(&config).config, config);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a tree of files as the kernel shows it")]
    fn the_tightest_limit_of_the_system_counts() {
        let root = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(of_system(root.path()), None);
        put("proc/meminfo", "MemTotal:        4000000 kB\nMemFree: 1 kB\n");
        assert_eq!(of_system(root.path()), Some(Size(4_096_000_000)));
        put("proc/self/limits", "Limit Soft Hard Units\nMax data size unlimited unlimited bytes\n");
        put("proc/self/cgroup", "8:pids:/a\n4:memory:/a/b\n0::/user/x\n");
        put("sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
        put("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "2000000000\n");
        assert_eq!(of_system(root.path()), Some(Size(2_000_000_000)));
        put("sys/fs/cgroup/user/memory.max", "1000000000\n");
        put("sys/fs/cgroup/user/x/memory.max", "max\n");
        assert_eq!(of_system(root.path()), Some(Size(1_000_000_000)));
        put(
            "proc/self/limits",
            "Max data size             268435456            268435456            bytes\n",
        );
        assert_eq!(of_system(root.path()), Some(Size::mib(64)));
    }
}
