//! Writers whose values follow from time, so that all that was acknowledged can be compared, and figures of the process.

use super::{Server, request};
use serde_json::Value;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// 2026-06-01.
pub const START_NS: u64 = 1_780_272_000_000_000_000;
/// Rows of a body: one a millisecond, so that a body is one bucket of five seconds.
pub const ROWS: u64 = 5000;
const STEP_NS: u64 = 1_000_000;
const BODY_NS: u64 = ROWS * STEP_NS;

/// Values of a row: its number, and what follows from writer and number.
fn values(writer: u64, row: u64) -> (u64, u64) {
    (row, (row ^ (writer << 40)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48)
}

pub fn body(writer: u64, number: u64) -> String {
    let rows = (number * ROWS..(number + 1) * ROWS).map(|row| {
        let (n, h) = values(writer, row);
        format!("load,writer=w{writer} n={n}i,h={h}i {}\n", START_NS + row * STEP_NS)
    });
    rows.collect()
}

/// What one writer did: its bodies `0..acknowledged` must be there.
#[derive(Debug, Default)]
pub struct Written {
    pub acknowledged: u64,
    pub refused: u64,
    /// Time of each acknowledged body, in microseconds.
    pub took_us: Vec<u64>,
}

/// Writes body after body until it is `over`; a refused one, or one without an answer, is sent again. `pause` lies between
/// two bodies.
pub fn write_until(over: &AtomicBool, address: &str, writer: u64, pause: Duration) -> Written {
    let mut written = Written::default();
    let mut text = body(writer, 0);
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        match request(address, "POST", "/write?db=load", text.as_bytes()) {
            Ok((204, _)) => {
                written.took_us.push(begun.elapsed().as_micros() as u64);
                written.acknowledged += 1;
                text = body(writer, written.acknowledged);
            }
            Ok((503, _)) => {
                written.refused += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok((status, answer)) => panic!("writer {writer}: {status}: {answer}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        std::thread::sleep(pause);
    }
    written
}

/// Compares every acknowledged body of a writer: number of its rows and sums of both fields, to the last digit.
pub fn compare(server: &Server, writer: u64, bodies: u64) {
    const BODIES_AT_ONCE: u64 = 2000;
    for first in (0..bodies).step_by(BODIES_AT_ONCE as usize) {
        let end = (first + BODIES_AT_ONCE).min(bodies);
        let (from, to) = (START_NS + first * BODY_NS, START_NS + end * BODY_NS);
        let target = format!(
            "/api/v1/query?db=load&measurement=load&fields=n,h&fn=count,sum&every=5s&start={from}ns&end={to}ns\
             &tag.writer=w{writer}&time_format=ns"
        );
        let answer = server.get(&target);
        assert_eq!(answer["partial"], false, "{answer}");
        let column = |name: &str| {
            let names = answer["series"][0]["columns"].as_array().expect("columns");
            let place =
                names.iter().position(|column| column == name).expect("the column that was asked for");
            answer["series"][0]["values"][place].as_array().expect("values").clone()
        };
        let exact = |value: &Value| value.as_u64().or_else(|| value.as_f64().map(|v| v as u64));
        let columns = ["n_count", "n_sum", "h_count", "h_sum"].map(column);
        let times = column("time");
        for (at, number) in (first..end).enumerate() {
            let (mut n_sum, mut h_sum) = (0, 0);
            for row in number * ROWS..(number + 1) * ROWS {
                let (n, h) = values(writer, row);
                n_sum += n;
                h_sum += h;
            }
            let time = (START_NS + number * BODY_NS).to_string();
            assert_eq!(
                times.get(at).and_then(Value::as_str),
                Some(&*time),
                "body {number} of writer {writer}"
            );
            let found = columns.each_ref().map(|column| exact(&column[at]));
            let expected = [ROWS, n_sum, ROWS, h_sum].map(Some);
            assert_eq!(found, expected, "body {number} of writer {writer} was acknowledged and is not whole");
        }
    }
}

/// Memory of a process in KiB: all, anonymous, of files.
#[derive(Debug, Default, Clone, Copy)]
pub struct Resident {
    pub all: u64,
    pub anonymous: u64,
    pub files: u64,
}

impl Resident {
    pub fn of(pid: u32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let kib = |name: &str| -> Option<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().trim_end_matches("kB").trim().parse().ok()
        };
        Some(Self { all: kib("VmRSS:")?, anonymous: kib("RssAnon:")?, files: kib("RssFile:")? })
    }

    pub fn most(self, other: Self) -> Self {
        Self {
            all: self.all.max(other.all),
            anonymous: self.anonymous.max(other.anonymous),
            files: self.files.max(other.files),
        }
    }
}

/// Sum of a counter of `/metrics` over all of its labels.
pub fn counter(metrics: &str, name: &str) -> u64 {
    let of = |line: &str| {
        let rest = line.strip_prefix(name)?;
        if !rest.starts_with(['{', ' ']) {
            return None;
        }
        rest.rsplit(' ').next()?.parse::<f64>().ok()
    };
    metrics.lines().filter_map(of).sum::<f64>() as u64
}

/// Greatest of a number of durations, told by several threads.
#[derive(Debug, Default)]
pub struct Longest(AtomicU64);

impl Longest {
    pub fn note(&self, took: Duration) {
        self.0.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
    }

    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}
