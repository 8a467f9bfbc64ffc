//! Question: what does a value cost on its way from the text of a body into columns?
//!
//! Workload: three bodies of about 30 000 values. "home": ten devices in turn, six float fields with none to four
//! decimals, as benches/peers sends them. "mixed": the same devices with an integer, a boolean and a text beside two
//! floats, and a field that every third line leaves out. "new series": every line names a series of its own.
//!
//! Not measured: HTTP, resolving names against the catalog, encoding, the disk.
//!
//! Floor: the body read once (its line ends counted), and the numbers alone, already cut out, read by the standard
//! library.

mod columns;
mod store;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fmt::Write as _;
use std::hint::black_box;
use std::time::Duration;
use store::{FIELDS, Plant, is_test, time_of};
use wattlog_engine::WriteBatch;
use wattlog_model::Timestamp;
use wattlog_wire::line_protocol::{LineOptions, Precision, parse_into};

const DEVICES: usize = 10;
const SOURCES: [&str; 3] = ["inverter", "meter", "gateway"];

/// A body and what has to come out of it.
struct Body {
    text: String,
    points: u64,
    values: u64,
}

fn line_protocol(c: &mut Criterion) {
    let ticks = if is_test() { 20 } else { 500 };
    let plant = Plant::new(DEVICES, 1);
    let mut group = c.benchmark_group("line protocol");
    group.sample_size(50).measurement_time(Duration::from_secs(4));

    let home = home(&plant, ticks);
    for (name, body) in
        [("home", &home), ("mixed", &mixed(&plant, ticks)), ("new series", &new_series(ticks))]
    {
        group.throughput(Throughput::Elements(body.values));
        group.bench_function(name, |b| {
            b.iter(|| {
                let batch = parsed(&body.text);
                assert_eq!((batch.points(), batch.values()), (body.points, body.values), "{name}");
                batch
            });
        });
    }

    group.throughput(Throughput::Elements(home.values));
    let lines = home.text.lines().count();
    group.bench_function("floor: line ends of home", |b| {
        b.iter(|| {
            let ends = black_box(&home.text).bytes().filter(|byte| *byte == b'\n').count();
            assert_eq!(ends, lines);
        });
    });
    let numbers: Vec<&str> = home
        .text
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .flat_map(|fields| fields.split(','))
        .filter_map(|field| field.split('=').nth(1))
        .collect();
    assert_eq!(numbers.len() as u64, home.values);
    let sum: f64 = numbers.iter().map(|text| text.parse::<f64>().expect("a number")).sum();
    group.bench_function("floor: numbers of home by the standard library", |b| {
        b.iter(|| {
            let texts = black_box(&numbers).iter();
            let again: f64 = texts.map(|text| text.parse::<f64>().expect("a number")).sum();
            assert_eq!(again.to_bits(), sum.to_bits());
        });
    });
    group.finish();
}

fn parsed(body: &str) -> WriteBatch {
    let options = LineOptions {
        precision: Precision::Nanoseconds,
        receive_time: Timestamp(0),
        max_line_bytes: 1 << 20,
        max_batch_bytes: 64 << 20,
    };
    let mut batch = WriteBatch::new("bench", None);
    let errors = parse_into(&mut batch, black_box(body).as_bytes(), &options).expect("it fits");
    assert!(errors.is_empty(), "{errors:?}");
    batch
}

fn key(device: usize) -> String {
    let source = SOURCES[device % 3];
    format!("energy_data,data_source={source},device_id=dev{device:03},location=site{:02}", device / 2)
}

fn home(plant: &Plant, ticks: usize) -> Body {
    let decimals = [1, 1, 0, 0, 0, 4];
    let mut text = String::new();
    for row in 0..ticks {
        for device in 0..DEVICES {
            text += &key(device);
            for (field, (name, decimals)) in FIELDS.iter().zip(decimals).enumerate() {
                let value = plant.column(device, field)[row];
                let before = if field == 0 { ' ' } else { ',' };
                let _ = write!(text, "{before}{name}={value:.decimals$}");
            }
            let _ = writeln!(text, " {}", time_of(row).0);
        }
    }
    let points = (ticks * DEVICES) as u64;
    Body { text, points, values: points * FIELDS.len() as u64 }
}

fn mixed(plant: &Plant, ticks: usize) -> Body {
    let (mut text, mut points, mut values) = (String::new(), 0, 0);
    for row in 0..ticks {
        for device in 0..DEVICES {
            let [soc, power] = [0, 2].map(|field| plant.column(device, field)[row]);
            let (grid, mode) = (power as i64 % 7, if power > 0.0 { "eco mode" } else { "off" });
            let _ = write!(text, "{} soc={soc:.1},power={power:?},grid={grid}i,mode=\"{mode}\"", key(device));
            if row % 3 > 0 {
                let _ = write!(text, ",charging={}", power > 500.0);
                values += 1;
            }
            let _ = writeln!(text, " {}", time_of(row).0);
            (points, values) = (points + 1, values + 4);
        }
    }
    Body { text, points, values }
}

fn new_series(ticks: usize) -> Body {
    let mut text = String::new();
    let lines = ticks * DEVICES;
    for line in 0..lines {
        let _ = writeln!(
            text,
            "energy_data,device_id=dev{line:06},location=home value={line} {}",
            time_of(line).0
        );
    }
    Body { text, points: lines as u64, values: lines as u64 }
}

criterion_group!(benches, line_protocol);
criterion_main!(benches);
