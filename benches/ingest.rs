//! Question: how many values a second does the engine take, durable before it answers?
//!
//! Workload: bodies of 500 rows of ten devices with six fields (30 000 values), times going on, written by one caller and
//! by four; a body is built from columns as an edge builds it, encoded, written and synced. The memtable is sealed
//! in the background as it fills.
//!
//! Not measured: HTTP and the parsing of text. Floor: one sync of the disk per body with a single caller, which is
//! timed beside it.

mod columns;
mod store;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::{Plant, ROWS_PER_BODY, folder, is_test, open};

const DEVICES: usize = 10;

fn ingest(c: &mut Criterion) {
    let plant = Plant::new(DEVICES, if is_test() { 1 } else { 7 });
    let values = (DEVICES * ROWS_PER_BODY * 6) as u64;
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(values)).sample_size(20).measurement_time(Duration::from_secs(8));

    group.bench_function("body built", |b| {
        b.iter(|| black_box(plant.body(0, 0, ROWS_PER_BODY)).values());
    });

    let folder_of_store = folder();
    let engine = open(&folder_of_store);
    let written = AtomicUsize::new(0);
    let write_one = || {
        let row = written.fetch_add(1, Ordering::Relaxed) * ROWS_PER_BODY;
        let receipt = engine.write(plant.body(row, row, ROWS_PER_BODY)).expect("the disk takes it");
        assert_eq!((receipt.values, receipt.rejected.len()), (values, 0));
    };
    group.bench_function("one caller, durable", |b| b.iter(write_one));
    group.bench_function("four callers, durable", |b| {
        b.iter_custom(|bodies| {
            let left = AtomicUsize::new(bodies as usize);
            let take =
                || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
            let start = Instant::now();
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| {
                        while take() {
                            write_one();
                        }
                    });
                }
            });
            start.elapsed()
        });
    });

    let rows = written.load(Ordering::Relaxed) * ROWS_PER_BODY * DEVICES;
    assert_eq!(engine.storage().points, rows as u64, "everything written is there");

    let path = folder_of_store.path().join("floor");
    #[expect(clippy::disallowed_methods, reason = "the floor is the bare disk, without the engine")]
    let mut file = std::fs::File::create(path).expect("the folder can be written");
    let body = vec![1; 24_000];
    group.bench_function("floor: 24 KB written and synced", |b| {
        b.iter(|| {
            std::io::Write::write_all(&mut file, &body).expect("room");
            file.sync_data().expect("synced");
        });
    });
    group.finish();
    engine.close().expect("closed");
}

criterion_group!(benches, ingest);
criterion_main!(benches);
