//! Question: how many durable answers does one sync of the disk carry, as more callers write at once?
//!
//! Workload: 1 to 256 threads, each of which writes one row of thirty fields (a home's commit), hears that it is on the
//! disk and writes the next. Throughput is answers a second; beside it stand the answers that shared a sync, and the
//! floor just before: a disk that others use too changes its mind.
//!
//! Not measured: HTTP, parsing, large bodies (`ingest`).
//!
//! Floor: a file that exists already, 4 KiB written and synced (`fdatasync`) again and again by one thread. One caller
//! cannot be faster than one sync an answer; many may.

mod columns;
mod store;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use store::{DATABASE, MEASUREMENT, folder, is_test, open, time_of};
use wattlog_engine::{Engine, WriteBatch};
use wattlog_model::TagSet;

/// Length of the file that the floor writes to.
const FLOOR_BYTES: u64 = 4 << 20;
const FIELDS_PER_ROW: usize = 30;
const CALLERS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

fn group_commit(c: &mut Criterion) {
    let names: Vec<String> = (0..FIELDS_PER_ROW).map(|field| format!("field_{field:02}")).collect();
    let folder = folder();
    let engine = open(&folder);
    let (rows, next_row) = (AtomicU64::new(0), AtomicI64::new(0));
    let write_one = |caller: usize| {
        let row = next_row.fetch_add(1, Ordering::Relaxed);
        let receipt = engine.write(commit(caller, row, &names)).expect("the disk takes it");
        assert_eq!((receipt.points, receipt.values, receipt.rejected.len()), (1, FIELDS_PER_ROW as u64, 0));
        rows.fetch_add(1, Ordering::Relaxed);
    };
    // Names and the first log are not part of it.
    (0..256).for_each(write_one);

    let mut group = c.benchmark_group("group commit");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).throughput(Throughput::Elements(1));
    let path = folder.path().join("floor");
    let page = vec![1; 4096];
    #[expect(clippy::disallowed_methods, reason = "the floor is the bare disk, without the engine")]
    let mut file = std::fs::File::create(path).expect("the folder can be written");
    std::io::Write::write_all(&mut file, &vec![0; FLOOR_BYTES as usize]).expect("room");
    file.sync_all().expect("synced");
    let write_page = |at: u64| {
        std::os::unix::fs::FileExt::write_all_at(&file, &page, at % FLOOR_BYTES).expect("room");
        file.sync_data().expect("synced");
    };

    let callers: &[usize] = if is_test() { &CALLERS[..3] } else { &CALLERS };
    for callers in callers {
        let floor_ms = median_ms(|i| write_page(i * page.len() as u64));
        let (before, first) = (syncs(&engine), rows.load(Ordering::Relaxed));
        group.bench_function(BenchmarkId::new("answers", callers), |b| {
            b.iter_custom(|answers| {
                let left = AtomicU64::new(answers);
                let take =
                    || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
                let start = Instant::now();
                std::thread::scope(|scope| {
                    for caller in 0..*callers {
                        let (take, write_one) = (&take, &write_one);
                        scope.spawn(move || {
                            while take() {
                                write_one(caller);
                            }
                        });
                    }
                });
                start.elapsed()
            });
        });
        let syncs = syncs(&engine) - before;
        let answers = rows.load(Ordering::Relaxed) - first;
        assert!(syncs > 0 && answers >= syncs, "{syncs} syncs for {answers} answers: one is enough for each");
        let shared = answers as f64 / syncs as f64;
        eprintln!("{callers} callers: {shared:.1} answers a sync; floor before it {floor_ms:.3} ms");
    }

    group.bench_function("floor: 4 KiB written and synced", |b| {
        let mut at = 0;
        b.iter(|| {
            write_page(at);
            at += page.len() as u64;
        });
    });
    group.finish();
    assert_eq!(engine.storage().points, rows.load(Ordering::Relaxed), "everything answered is there");
    engine.close().expect("closed");
}

fn commit(caller: usize, row: i64, names: &[String]) -> WriteBatch {
    let mut batch = WriteBatch::new(DATABASE, None);
    let tags = TagSet::new([("device_id", format!("dev{caller:03}"))]).expect("valid tags");
    let slot = batch.series(MEASUREMENT, &tags);
    let mut fields = batch.row(slot, time_of(row as usize), 0);
    for (number, name) in names.iter().enumerate() {
        fields.float(name, ((row + number as i64) % 500) as f64 / 10.0);
    }
    drop(fields);
    batch
}

/// Syncs of the log so far.
fn syncs(engine: &Engine) -> u64 {
    engine.metrics().wal_sync.buckets.iter().sum()
}

/// Of a few calls, each with its number.
fn median_ms(call: impl Fn(u64)) -> f64 {
    let mut times: Vec<Duration> = (0..51)
        .map(|number| {
            let start = Instant::now();
            call(number);
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

criterion_group!(benches, group_commit);
criterion_main!(benches);
