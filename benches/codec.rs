//! Question: what does a column cost to encode, to decode and to keep, codec by codec?
//!
//! Workload: the columns of a home every 10 s (`columns`), in blocks of 1024 values, one pass over all blocks a
//! sample; timestamps regular and with jitter; one column of means, which are no decimals. Before the timing every
//! block is checked: what is decoded has the bits of what was encoded. A table of sizes is printed first.
//!
//! Not measured: the disk, checksums (the container has them), cold caches: blocks are a few hundred kilobytes.
//!
//! Floor: `raw copy` writes eight bytes a value and reads them back. Baseline: `tsz-compress` over the integers that our
//! codec finds in a decimal column (it takes no floats; ADR 0002).
//! Beside each column, `pack` and `decode-packed`: the same blocks as compaction writes them for days long past (ADR 0012).

mod columns;

use columns::{Home, home, means, times};
use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use std::hint::black_box;
use wattlog_engine::codec::{
    Dispatch, FloatHint, Stretch, Wanted, decode_floats, decode_times, dispatch, encode_floats, encode_times,
    fold_floats, repack_floats,
};
use wattlog_model::ExactSum;

extern crate alloc;

mod tsz_row {
    // What the derive macros of the baseline write is not held to our lints.
    #![allow(warnings, clippy::all, clippy::pedantic)]
    use tsz_compress::prelude::*;

    #[derive(Debug, Copy, Clone, CompressV2, DecompressV2)]
    pub struct Row {
        pub value: i64,
    }

    pub use compress::RowCompressorImpl;
    pub use decompress::RowDecompressorImpl;
}

const BLOCK_LEN: usize = 1024;

/// A column, and its blocks with the number of values in each.
struct Encoded<T> {
    values: Vec<T>,
    blocks: Vec<(Vec<u8>, usize)>,
    codecs: String,
}

impl<T> Encoded<T> {
    fn new(values: Vec<T>, mut encode: impl FnMut(&[T], &mut Vec<u8>) -> String) -> Self {
        let mut codecs = std::collections::BTreeMap::<String, usize>::new();
        let blocks = values
            .chunks(BLOCK_LEN)
            .map(|chunk| {
                let mut block = Vec::new();
                *codecs.entry(encode(chunk, &mut block)).or_default() += 1;
                (block, chunk.len())
            })
            .collect();
        let codecs = codecs.iter().map(|(name, n)| format!("{n} {name}")).collect::<Vec<_>>().join(", ");
        Self { values, blocks, codecs }
    }

    fn bits_per_value(&self) -> f64 {
        let bytes: usize = self.blocks.iter().map(|(block, _)| block.len()).sum();
        bytes as f64 * 8.0 / self.values.len() as f64
    }
}

fn float_blocks(values: Vec<f64>) -> Encoded<f64> {
    let mut hint = FloatHint::default();
    let blocks = Encoded::new(values, |chunk, out| encode_floats(chunk, &mut hint, out).tag.to_string());
    let mut back = Vec::new();
    let mut sum = ExactSum::default();
    for (block, len) in &blocks.blocks {
        decode_floats(block, *len, &mut back).expect("what was encoded can be decoded");
        sum.merge(&total(block, *len, &mut Vec::new()));
    }
    assert!(back.iter().map(|v| v.to_bits()).eq(blocks.values.iter().map(|v| v.to_bits())));
    let mut expected = ExactSum::default();
    for value in &blocks.values {
        expected.add_float(*value);
    }
    assert!((sum.value() - expected.value()).abs() <= expected.value().abs() * f64::EPSILON);
    blocks
}

/// The blocks of a column as compaction writes them once they are old.
fn pack(column: &Encoded<f64>) -> Encoded<f64> {
    let mut blocks = column.blocks.iter();
    let packed = Encoded::new(column.values.clone(), |chunk, out| {
        let (fast, _) = blocks.next().expect("a block for each chunk");
        out.extend_from_slice(fast);
        let tag = repack_floats(out, 0, chunk.len()).expect("a good block");
        tag.map_or("as before".to_owned(), |tag| tag.to_string())
    });
    let mut back = Vec::new();
    for (block, len) in &packed.blocks {
        decode_floats(block, *len, &mut back).expect("what was packed can be decoded");
    }
    assert!(back.iter().map(|v| v.to_bits()).eq(packed.values.iter().map(|v| v.to_bits())));
    packed
}

fn time_blocks(values: Vec<i64>) -> Encoded<i64> {
    let blocks = Encoded::new(values, |chunk, out| encode_times(chunk, out).to_string());
    let mut back = Vec::new();
    for (block, len) in &blocks.blocks {
        decode_times(block, *len, &mut back).expect("what was encoded can be decoded");
    }
    assert_eq!(back, blocks.values);
    blocks
}

/// A day under `cargo test --benches`, two weeks otherwise.
fn days() -> usize {
    if std::env::args().any(|arg| arg == "--bench") { 14 } else { 1 }
}

fn float_columns() -> Vec<(&'static str, Encoded<f64>)> {
    let Home { soc, temperature, pv, grid, load, price, voltage, counter } = home(days(), 1);
    let averaged = means(&load);
    [
        ("soc", soc),
        ("temperature", temperature),
        ("pv", pv),
        ("grid", grid),
        ("consumption", load),
        ("price", price),
        ("voltage", voltage),
        ("counter", counter),
        ("means", averaged),
    ]
    .map(|(name, values)| (name, float_blocks(values)))
    .into()
}

fn time_columns() -> Vec<(&'static str, Encoded<i64>)> {
    let len = days() * 8640;
    let jittered = times(len, 50, 1);
    let missing = jittered.iter().enumerate().filter(|(i, _)| i * 7919 % 100 != 3).map(|(_, t)| *t).collect();
    vec![
        ("times-regular", time_blocks(times(len, 0, 1))),
        ("times-jitter-50ms", time_blocks(jittered)),
        ("times-jitter-missing", time_blocks(missing)),
    ]
}

fn group<'a>(c: &'a mut Criterion, name: &str, values: usize) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(name.to_owned());
    group.throughput(Throughput::Elements(values as u64)).sample_size(20);
    group
}

fn floats(c: &mut Criterion) {
    let columns = float_columns();
    println!("kernels: {:?}; blocks of {BLOCK_LEN}", dispatch(None));
    for (name, column) in &columns {
        println!("{name:22} {:7.3} bits/value  {}", column.bits_per_value(), column.codecs);
    }
    for (name, column) in &columns {
        let packed = pack(column);
        println!("{name:22} {:7.3} bits/value  {}, packed", packed.bits_per_value(), packed.codecs);
        let len = column.values.len();
        group(c, "pack", len).bench_function(*name, |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for (block, len) in &column.blocks {
                    out.clear();
                    out.extend_from_slice(block);
                    black_box(repack_floats(&mut out, 0, *len).expect("checked before"));
                }
            });
        });
        group(c, "decode-packed", len).bench_function(*name, |b| {
            let mut values = Vec::with_capacity(BLOCK_LEN);
            b.iter(|| {
                for (block, len) in &packed.blocks {
                    values.clear();
                    decode_floats(block, *len, &mut values).expect("checked before");
                    black_box(&values);
                }
            });
        });
    }
    for (name, column) in &columns {
        let len = column.values.len();
        let mut out = Vec::with_capacity(9 * len);
        group(c, "encode", len).bench_function(*name, |b| {
            b.iter(|| {
                out.clear();
                let mut hint = FloatHint::default();
                for chunk in column.values.chunks(BLOCK_LEN) {
                    encode_floats(chunk, &mut hint, &mut out);
                }
                out.len()
            });
        });
        let mut values = Vec::with_capacity(BLOCK_LEN);
        let mut decode = || {
            for (block, len) in &column.blocks {
                values.clear();
                decode_floats(block, *len, &mut values).expect("checked before");
                black_box(&values);
            }
        };
        group(c, "decode", len).bench_function(*name, |b| b.iter(&mut decode));
        dispatch(Some(Dispatch::Scalar));
        group(c, "decode-scalar", len).bench_function(*name, |b| b.iter(&mut decode));
        dispatch(Some(Dispatch::Avx2));
        group(c, "sum", len).bench_function(*name, |b| {
            let mut stretches = Vec::new();
            b.iter(|| {
                let mut sum = ExactSum::default();
                for (block, len) in &column.blocks {
                    sum.merge(&total(block, *len, &mut stretches));
                }
                sum.value()
            });
        });
    }
}

/// Sum of a block: folded, or of its values where it cannot be.
fn total(block: &[u8], len: usize, stretches: &mut Vec<Stretch>) -> ExactSum {
    let mut sum = ExactSum::default();
    match fold_floats(block, len, &[len as u32], Wanted::Totals, stretches).expect("a good block") {
        Ok(exponent) => sum.add_decimal(stretches[0].total, exponent),
        Err(_) => {
            let mut values = Vec::new();
            decode_floats(block, len, &mut values).expect("a good block");
            values.into_iter().for_each(|value| sum.add_float(value));
        }
    }
    sum
}

fn timestamps(c: &mut Criterion) {
    let columns = time_columns();
    for (name, column) in &columns {
        println!("{name:22} {:7.3} bits/value  {}", column.bits_per_value(), column.codecs);
    }
    for (name, column) in &columns {
        let len = column.values.len();
        let mut out = Vec::with_capacity(9 * len);
        group(c, "encode", len).bench_function(*name, |b| {
            b.iter(|| {
                out.clear();
                for chunk in column.values.chunks(BLOCK_LEN) {
                    encode_times(chunk, &mut out);
                }
                out.len()
            });
        });
        let mut values = Vec::with_capacity(BLOCK_LEN);
        group(c, "decode", len).bench_function(*name, |b| {
            b.iter(|| {
                for (block, len) in &column.blocks {
                    values.clear();
                    decode_times(block, *len, &mut values).expect("checked before");
                    black_box(&values);
                }
            });
        });
    }
}

fn raw_copy(c: &mut Criterion) {
    let values = home(days(), 1).voltage;
    let encode = |bytes: &mut Vec<u8>| {
        bytes.clear();
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    };
    let decode = |bytes: &[u8], back: &mut Vec<f64>| {
        back.clear();
        back.extend(bytes.as_chunks::<8>().0.iter().map(|word| f64::from_le_bytes(*word)));
    };
    // Before the timing, and whatever a filter leaves of it.
    let (mut bytes, mut back) = (Vec::new(), Vec::new());
    encode(&mut bytes);
    decode(&bytes, &mut back);
    assert_eq!(back, values);
    group(c, "encode", values.len()).bench_function("raw copy", |b| {
        b.iter(|| {
            encode(&mut bytes);
            black_box(&bytes).len()
        });
    });
    group(c, "decode", values.len()).bench_function("raw copy", |b| {
        b.iter(|| {
            decode(&bytes, &mut back);
            black_box(&back).len()
        });
    });
}

/// The integers under each column, as a user of that crate would have to prepare them.
fn tsz(c: &mut Criterion) {
    use tsz_compress::prelude::*;
    let Home { soc, grid, price, voltage, counter, .. } = home(days(), 1);
    let scaled = |values: Vec<f64>, power: f64| values.iter().map(|v| (v * power).round() as i64).collect();
    let columns: [(&str, Vec<i64>); 6] = [
        ("soc", scaled(soc, 10.0)),
        ("grid", scaled(grid, 1.0)),
        ("price", scaled(price, 1e4)),
        ("voltage", scaled(voltage, 10.0)),
        ("counter", scaled(counter, 10.0)),
        ("times-regular", times(days() * 8640, 0, 1).iter().map(|t| t / 1_000_000).collect()),
    ];
    for (name, values) in &columns {
        let encode = || -> Vec<Vec<u8>> {
            let block = |chunk: &[i64]| {
                let mut compressor = tsz_row::RowCompressorImpl::new(BLOCK_LEN);
                for value in chunk {
                    compressor.compress(tsz_row::Row { value: *value });
                }
                compressor.finish()
            };
            values.chunks(BLOCK_LEN).map(block).collect()
        };
        let blocks = encode();
        let decode = |check: bool| {
            for (block, chunk) in blocks.iter().zip(values.chunks(BLOCK_LEN)) {
                let mut decompressor = tsz_row::RowDecompressorImpl::new();
                decompressor.decompress(block).expect("what was encoded can be decoded");
                if check {
                    assert_eq!(decompressor.col_value(), chunk);
                }
                black_box(decompressor.col_value());
            }
        };
        decode(true);
        let bits = blocks.iter().map(Vec::len).sum::<usize>() as f64 * 8.0 / values.len() as f64;
        println!("tsz-compress {name:9} {bits:7.3} bits/value");
        group(c, "encode-tsz", values.len()).bench_function(*name, |b| b.iter(|| black_box(encode())));
        group(c, "decode-tsz", values.len()).bench_function(*name, |b| b.iter(|| decode(false)));
    }
}

criterion_group!(benches, floats, timestamps, raw_copy, tsz);
criterion_main!(benches);
