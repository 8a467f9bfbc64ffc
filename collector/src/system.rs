//! The program's own metrics, read from `/proc` by hand.
//!
//! Measurement `system_metrics`, tags `component` (always `wattlog`) and `status` (`ok`, or `degraded` while a device
//! gives nothing or the store refuses). On systems without `/proc` only the response time is stored.

use crate::outbox::Outbox;
use crate::poll::Schedule;
use crate::status::StatusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_model::{Clock, FieldKind, FieldMeaning, FieldValue, Point, TagSet, Unit};

/// Name of the measurement.
pub(crate) const MEASUREMENT: &str = "system_metrics";

const FIELDS: [(&str, &str); 5] = [
    ("cpu_usage", "%"),
    ("memory_usage", "%"),
    ("process_cpu_usage", "%"),
    ("resident_memory", "B"),
    ("response_time", "ms"),
];

/// Units of the fields: share of the machine's CPU time in use, share of its memory not available, the program's own
/// CPU time (of one core), its resident memory, mean time the store took to take points.
pub(crate) fn fields() -> Vec<FieldMeaning> {
    let meaning = |(field, unit): (&str, &str)| FieldMeaning {
        field: field.to_owned(),
        unit: Unit::new(unit),
        kind: FieldKind::Linear,
    };
    FIELDS.into_iter().map(meaning).collect()
}

#[derive(Debug)]
pub(crate) struct SystemMetrics {
    schedule: Schedule,
    status: StatusHandle,
    outbox: Arc<Outbox>,
    clock: Arc<dyn Clock>,
}

impl SystemMetrics {
    pub(crate) fn new(
        interval: Duration,
        status: StatusHandle,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { schedule: Schedule::new(interval), status, outbox, clock }
    }

    pub(crate) async fn run(self, shutdown: CancellationToken) {
        shutdown.run_until_cancelled(self.measure_for_ever()).await;
    }

    async fn measure_for_ever(&self) {
        let mut last = Sample::read().await;
        let mut time = self.clock.wall();
        loop {
            let now = self.clock.wall();
            let due = self.schedule.next(now, time);
            tokio::time::sleep(Duration::from_nanos(due.0.abs_diff(now.0))).await;
            time = Schedule::cycle_time(due, self.clock.wall());
            let sample = Sample::read().await;
            let mut values = sample.since(&last);
            last = sample;
            let response = self.outbox.take_response_time().map(|took| took.as_secs_f64() * 1_000.0);
            values.extend(response.map(|ms| ("response_time", round(ms, 1_000.0))));
            if values.is_empty() {
                continue;
            }
            let fields = values.into_iter().map(|(name, value)| (name.to_owned(), FieldValue::Float(value)));
            self.outbox.push(Point {
                measurement: MEASUREMENT.to_owned(),
                tags: TagSet::new([("component", "wattlog"), ("status", self.health())])
                    .expect("two different keys with values"),
                time: Some(time),
                fields: fields.collect(),
            });
        }
    }

    fn health(&self) -> &'static str {
        let status = self.status.snapshot();
        let failing = status.devices.iter().any(|device| device.state.is_failing());
        let refusing = status.buffer.waiting * 2 > status.buffer.capacity;
        if failing || refusing { "degraded" } else { "ok" }
    }
}

/// What the kernel told at one moment; none where it told nothing.
#[derive(Debug, Clone, Default, PartialEq)]
struct Sample {
    cpu: Option<CpuTicks>,
    process_ticks: Option<u64>,
    memory_used_percent: Option<f64>,
    resident_bytes: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct CpuTicks {
    busy: u64,
    all: u64,
    cores: u64,
}

impl Sample {
    async fn read() -> Self {
        let file = async |path: &str| tokio::fs::read_to_string(path).await.unwrap_or_default();
        Self {
            cpu: cpu_ticks(&file("/proc/stat").await),
            process_ticks: process_ticks(&file("/proc/self/stat").await),
            memory_used_percent: memory_used_percent(&file("/proc/meminfo").await),
            resident_bytes: kibibytes(&file("/proc/self/status").await, "VmRSS:").map(|kib| kib * 1_024.0),
        }
    }

    fn since(&self, last: &Self) -> Vec<(&'static str, f64)> {
        let mut values = Vec::new();
        if let (Some(now), Some(then)) = (self.cpu, last.cpu)
            && let Some(all) = now.all.checked_sub(then.all).filter(|all| *all > 0)
        {
            let share = |ticks: u64| round(100.0 * ticks as f64 / all as f64, 10.0);
            values.push(("cpu_usage", share(now.busy.saturating_sub(then.busy))));
            if let (Some(own), Some(before)) = (self.process_ticks, last.process_ticks) {
                values.push(("process_cpu_usage", share(now.cores * own.saturating_sub(before))));
            }
        }
        values.extend(self.memory_used_percent.map(|percent| ("memory_usage", round(percent, 10.0))));
        values.extend(self.resident_bytes.map(|bytes| ("resident_memory", bytes)));
        values
    }
}

/// Decimals beyond what was measured would cost bytes and say nothing.
fn round(value: f64, steps_per_unit: f64) -> f64 {
    (value * steps_per_unit).round() / steps_per_unit
}

/// `/proc/stat`: user nice system idle iowait irq softirq steal; guest time is part of user.
fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).take(8).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    let all: u64 = ticks.iter().sum();
    let cores = stat.lines().filter(|line| line.starts_with("cpu")).count().saturating_sub(1).max(1) as u64;
    Some(CpuTicks { busy: all.saturating_sub(idle), all, cores })
}

/// `/proc/self/stat`: fields 14 and 15, counted behind the command, which may hold blanks and brackets.
fn process_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut words = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some(user + system)
}

fn memory_used_percent(meminfo: &str) -> Option<f64> {
    let (total, available) = (kibibytes(meminfo, "MemTotal:")?, kibibytes(meminfo, "MemAvailable:")?);
    (total > 0.0).then(|| 100.0 * (total - available) / total)
}

fn kibibytes(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_from_the_difference_of_two_readings() {
        let stat =
            |user: u64, idle: u64| format!("cpu  {user} 0 0 {idle} 0 0 0 0 0 0\ncpu0 0\ncpu1 0\nintr 1\n");
        let sample = |user, idle, own| Sample {
            cpu: cpu_ticks(&stat(user, idle)),
            process_ticks: process_ticks(&format!("7 (a ) b) S 1 1 1 0 -1 0 0 0 0 0 {own} 2 0 0")),
            memory_used_percent: memory_used_percent("MemTotal: 1000 kB\nMemAvailable: 250 kB\n"),
            resident_bytes: kibibytes("VmPeak: 9 kB\nVmRSS:\t 12 kB\n", "VmRSS:").map(|kib| kib * 1_024.0),
        };
        let values = sample(150, 350, 40).since(&sample(100, 200, 20));
        assert_eq!(
            values,
            [
                ("cpu_usage", 25.0),
                ("process_cpu_usage", 20.0),
                ("memory_usage", 75.0),
                ("resident_memory", 12_288.0)
            ]
        );
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_missing() {
        assert_eq!(cpu_ticks("cpu  1 2"), None);
        assert_eq!(process_ticks(""), None);
        assert_eq!(memory_used_percent("MemTotal: 0 kB\nMemAvailable: 0 kB\n"), None);
        assert!(Sample::default().since(&Sample::default()).is_empty());
    }

    #[test]
    fn every_field_has_a_unit() {
        assert!(fields().iter().all(|meaning| meaning.unit.is_some()));
    }
}
