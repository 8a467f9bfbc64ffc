//! Cases in processes of their own: what a process holds, opens and answers first is then that of one case alone. And how
//! memory, files and answers are measured in them.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, QueryRequest, QueryResult};

/// Runs this program again with `args`; what it printed, without the space around it.
pub(crate) fn again(args: &[&str]) -> String {
    let output = Command::new(std::env::current_exe().expect("this program")).args(args).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// Anonymous memory of this process, in MB of 2^20 bytes.
pub(crate) fn anon_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok());
    kilobytes.unwrap_or(f64::NAN) / 1024.0
}

/// What `work` gives, and the most anonymous memory that was seen while it ran, looked at every 5 ms.
pub(crate) fn with_most_anon_mb<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = anon_mb();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
                most = most.max(anon_mb());
            }
            most
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, looking.join().expect("it only looks"))
    })
}

/// Files below a folder by the folder they lie in, `.` for its own: how many, and their bytes. The ballast
/// counts as a file without any: room kept for a full disk is no cost of points.
pub(crate) fn files(folder: &Path) -> BTreeMap<String, (u64, u64)> {
    let mut found = BTreeMap::new();
    gather(folder, ".", &mut found);
    found
}

fn gather(folder: &Path, name: &str, found: &mut BTreeMap<String, (u64, u64)>) {
    // What is being replaced may be gone by the time it is looked at.
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        let own = entry.file_name().to_string_lossy().into_owned();
        if meta.is_dir() {
            gather(&entry.path(), &own, found);
        } else {
            let (count, bytes) = found.entry(name.to_owned()).or_default();
            *count += 1;
            *bytes += if own == "ballast" { 0 } else { meta.len() };
        }
    }
}

/// All of [`files`] together.
pub(crate) fn all(files: &BTreeMap<String, (u64, u64)>) -> (u64, u64) {
    files.values().fold((0, 0), |(count, bytes), (more, longer)| (count + more, bytes + longer))
}

/// One answer, whole and with at least a series, and the microseconds that it took.
pub(crate) fn timed(engine: &Engine, request: &QueryRequest) -> (f64, QueryResult) {
    let begun = Instant::now();
    let answer = engine.query(request, &QueryControl::default()).expect("an answer");
    let took_us = begun.elapsed().as_secs_f64() * 1e6;
    assert!(!answer.is_partial() && !answer.series.is_empty());
    (took_us, answer)
}

/// Median time of so many answers, in microseconds, and the last of them.
pub(crate) fn median(count: usize, engine: &Engine, request: &QueryRequest) -> (f64, QueryResult) {
    let mut times: Vec<f64> = (1..count).map(|_| timed(engine, request).0).collect();
    let (last, answer) = timed(engine, request);
    times.push(last);
    times.sort_by(f64::total_cmp);
    (times[count / 2], answer)
}
