//! Question: how long until a store answers again, with N values in the log, and with N in segments?
//!
//! Workload: ten devices, six fields, a row every 10 s; the store is opened, asked how many values it
//! has, and closed. With values in the log only, opening replays them; sealed history should not matter.
//!
//! Not measured: a cold page cache; `kill -9` before the start (tests/kill does that).

mod columns;
mod store;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use store::{Plant, folder, is_test, open};

fn open_after(c: &mut Criterion) {
    let mut group = c.benchmark_group("open");
    group.sample_size(10);
    let cases: &[(&str, usize)] = if is_test() {
        &[("log", 1), ("sealed", 1)]
    } else {
        &[("log", 1), ("log", 2), ("sealed", 7), ("sealed", 60)]
    };
    for (state, days) in cases {
        let plant = Plant::new(10, *days);
        let folder = folder();
        let engine = open(&folder);
        let values = plant.load(&engine);
        if *state == "sealed" {
            engine.seal().expect("sealed");
        }
        engine.close().expect("closed");

        group.throughput(Throughput::Elements(values));
        group.bench_function(BenchmarkId::new(*state, values), |b| {
            b.iter(|| {
                let engine = open(&folder);
                assert_eq!(engine.storage().values, values, "everything is there again");
                engine.close().expect("closed");
            });
        });
    }
    group.finish();
}

criterion_group!(benches, open_after);
criterion_main!(benches);
