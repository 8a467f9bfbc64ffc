//! Question: how fast are the files of a month made one, and how many bytes does a value take then?
//!
//! Workload: ten devices, six fields, a row every 10 s, sealed every few days as a busy store does; then everything is
//! merged. Floor: each value is decoded and encoded once (benches/codec), and the file is written and synced once.
//!
//! Not measured: the pace that the background keeps to, and other work beside it.

mod columns;
mod store;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use store::{Plant, folder, is_test, open};

fn merge_a_month(c: &mut Criterion) {
    let mut group = c.benchmark_group("compaction");
    group.sample_size(10);
    let (devices, days) = if is_test() { (2, 2) } else { (10, 28) };
    let plant = Plant::new(devices, days);
    let values = (plant.rows() * devices * store::FIELDS.len()) as u64;
    let filled = || {
        let folder = folder();
        let engine = open(&folder);
        assert_eq!(plant.load(&engine), values);
        engine.seal().expect("sealed");
        (folder, engine)
    };
    let per_value = |engine: &wattlog_engine::Engine| {
        let info = engine.storage();
        assert_eq!((info.values, info.memtable_values), (values, 0), "nothing is lost, nothing twice");
        let bytes = |bytes: u64| bytes as f64 / values as f64;
        format!(
            "{} segments, {:.3} bytes a value ({:.3} data, {:.3} time, {:.3} meta)",
            info.segments,
            bytes(info.data_bytes + info.time_bytes + info.meta_bytes),
            bytes(info.data_bytes),
            bytes(info.time_bytes),
            bytes(info.meta_bytes),
        )
    };
    let (folder, engine) = filled();
    println!("sealed:  {}", per_value(&engine));
    let report = engine.compact().expect("merged");
    assert!(report.segments_after < report.segments_before, "{report:?}");
    println!("merged:  {}", per_value(&engine));
    engine.close().expect("closed");
    drop(folder);

    group.throughput(Throughput::Elements(values));
    group.bench_function(BenchmarkId::new("month", values), |b| {
        b.iter_batched(
            filled,
            |(folder, engine)| {
                let report = engine.compact().expect("merged");
                assert!(report.steps > 0);
                engine.close().expect("closed");
                folder
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, merge_a_month);
criterion_main!(benches);
