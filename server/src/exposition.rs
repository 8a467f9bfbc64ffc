//! What `/metrics` says beyond the server's own counters: the process, the devices, the store.

use crate::state::ServerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;

/// One value: labels and number.
type Sample<T> = (Vec<(&'static str, String)>, T);

/// A group of values with one name, taken at the time of the scrape.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    name: &'static str,
    help: &'static str,
    values: GroupValues,
}

#[derive(Debug, Clone)]
enum GroupValues {
    Counters(Vec<Sample<u64>>),
    Gauges(Vec<Sample<f64>>),
    Seconds(Vec<Sample<f64>>),
    /// Sum, then upper bound and count of each bucket.
    Histogram(f64, Vec<(f64, u64)>),
}

impl Group {
    pub(crate) fn counter(name: &'static str, help: &'static str, value: u64) -> Self {
        Self::counters(name, help, vec![(Vec::new(), value)])
    }

    pub(crate) fn counters(name: &'static str, help: &'static str, values: Vec<Sample<u64>>) -> Self {
        Self { name, help, values: GroupValues::Counters(values) }
    }

    pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Self {
        Self::gauges(name, help, vec![(Vec::new(), value)])
    }

    pub(crate) fn gauges(name: &'static str, help: &'static str, values: Vec<Sample<f64>>) -> Self {
        Self { name, help, values: GroupValues::Gauges(values) }
    }

    /// Counts per bucket, each with its upper bound; the last bound is infinite.
    pub(crate) fn histogram(
        name: &'static str,
        help: &'static str,
        sum: f64,
        buckets: Vec<(f64, u64)>,
    ) -> Self {
        Self { name, help, values: GroupValues::Histogram(sum, buckets) }
    }

    /// A counter that is a time and no whole number.
    pub(crate) fn seconds(name: &'static str, help: &'static str, value: f64) -> Self {
        Self { name, help, values: GroupValues::Seconds(vec![(Vec::new(), value)]) }
    }
}

#[derive(Debug)]
struct Groups(Vec<Group>);

impl Collector for Groups {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for group in &self.0 {
            match &group.values {
                GroupValues::Counters(values) => {
                    let of = |n: &u64| ConstCounter::new(*n);
                    encode_group(&mut encoder, group, values, of)?;
                }
                GroupValues::Gauges(values) => {
                    let of = |n: &f64| ConstGauge::new(*n);
                    encode_group(&mut encoder, group, values, of)?;
                }
                GroupValues::Seconds(values) => {
                    let of = |n: &f64| ConstCounter::new(*n);
                    encode_group(&mut encoder, group, values, of)?;
                }
                GroupValues::Histogram(sum, buckets) => {
                    let count = buckets.iter().map(|(_, count)| count).sum();
                    let mut metric =
                        encoder.encode_descriptor(group.name, group.help, None, MetricType::Histogram)?;
                    metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_group<T, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    group: &Group,
    values: &[Sample<T>],
    metric: impl Fn(&T) -> M,
) -> fmt::Result {
    let Some((_, first)) = values.first() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(group.name, group.help, None, metric(first).metric_type())?;
    for (labels, value) in values {
        if labels.is_empty() {
            return metric(value).encode(family);
        }
        metric(value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

/// Appends everything; what cannot be read is left out.
pub(crate) async fn encode(state: &ServerState, out: &mut String) {
    let build = &state.shared.build;
    let build = vec![("version", build.version.clone()), ("commit", build.commit.clone())];
    let mut own = vec![Group::gauges("build_info", "Which build is running", vec![(build, 1.0)])];
    own.extend(device_groups(state));
    own.extend(state.feed_groups());
    own.extend(state.alert_groups().await);
    own.extend(state.keeper_groups());
    own.extend(state.store_groups().await);
    append(out, Registry::with_prefix("wattlog"), own);
    append(out, Registry::default(), process_groups(state).await);
}

fn append(out: &mut String, mut registry: Registry, groups: Vec<Group>) {
    registry.register_collector(Box::new(Arc::new(Groups(groups))));
    // Writing to a string cannot fail.
    let _ = encode_text(out, &registry);
    if out.ends_with("# EOF\n") {
        out.truncate(out.len() - "# EOF\n".len());
    }
}

fn device_groups(state: &ServerState) -> Vec<Group> {
    let devices = state.devices();
    let of = |id: &str| vec![("device", id.to_owned())];
    let seconds = |ns: i64| ns as f64 / 1e9;
    let last = devices.iter().filter_map(|d| Some((of(&d.id), seconds(d.last_success?.0)))).collect();
    let polls = devices.iter().map(|d| (of(&d.id), d.polls_ok)).collect();
    let sentinels = devices.iter().map(|d| (of(&d.id), d.sentinels)).collect();
    let dropped = devices.iter().map(|d| (of(&d.id), d.dropped_points)).collect();
    let errors = devices
        .iter()
        .flat_map(|d| {
            d.errors.iter().map(|(kind, n)| (vec![("device", d.id.clone()), ("kind", kind.clone())], *n))
        })
        .collect();
    vec![
        Group::gauges(
            "collector_last_success_timestamp_seconds",
            "When points of the device were last handed over",
            last,
        ),
        Group::counters("collector_polls", "Polls that gave points", polls),
        Group::counters("collector_errors", "Failed reads, by kind", errors),
        Group::counters(
            "collector_sentinels",
            "Values left out because the device said there is none",
            sentinels,
        ),
        Group::counters("collector_dropped_points", "Points dropped while the store refused them", dropped),
    ]
}

/// Figures of the process, under the names every Prometheus client uses. Linux only; elsewhere there are none.
async fn process_groups(state: &ServerState) -> Vec<Group> {
    let start_seconds = state.shared.started.0 as f64 / 1e9;
    let mut groups =
        vec![Group::gauge("process_start_time_seconds", "When the process started", start_seconds)];
    if let Ok(stat) = tokio::fs::read_to_string("/proc/self/stat").await
        && let Some(stat) = ProcessStat::parse(&stat)
    {
        groups.push(Group::seconds(
            "process_cpu_seconds",
            "Processor time, user and system",
            stat.cpu_seconds,
        ));
        groups.push(Group::gauge("process_virtual_memory_bytes", "Mapped memory", stat.virtual_bytes));
        groups.push(Group::gauge("process_threads", "Threads", stat.threads));
    }
    if let Some(resident) = resident_bytes().await {
        groups.push(Group::gauge("process_resident_memory_bytes", "Resident memory", resident));
    }
    if let Ok(mut descriptors) = tokio::fs::read_dir("/proc/self/fd").await {
        let mut open = 0_u32;
        while let Ok(Some(_)) = descriptors.next_entry().await {
            open += 1;
        }
        groups.push(Group::gauge("process_open_fds", "Open file descriptors", f64::from(open)));
    }
    groups
}

/// Memory of the process that lies in RAM; none where the system does not tell.
pub(crate) async fn resident_bytes() -> Option<f64> {
    resident_of(&tokio::fs::read_to_string("/proc/self/status").await.ok()?)
}

/// `VmRSS` of proc(5) `status`, which says its unit; `stat` counts in pages, and those are of 16 KiB on some machines.
fn resident_of(status: &str) -> Option<f64> {
    let told = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib = told.trim().strip_suffix("kB")?.trim_end();
    Some(kib.parse::<f64>().ok()? * 1024.0)
}

#[derive(Debug, PartialEq)]
struct ProcessStat {
    cpu_seconds: f64,
    threads: f64,
    virtual_bytes: f64,
}

impl ProcessStat {
    /// Reads proc(5) `stat`: fields after the command name, which stands in brackets and may hold blanks.
    fn parse(text: &str) -> Option<Self> {
        /// USER_HZ, fixed by the kernel's interface.
        const TICKS_PER_SECOND: f64 = 100.0;
        let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
            threads: field(20)?,
            virtual_bytes: field(23)?,
        })
    }
}

/// The same text in the older form: counters are named with their suffix in the comments too, units have no line.
pub(crate) fn classic(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 256);
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_figures_are_read_behind_any_command_name() {
        let text = "123 (a b) c) S 1 1 1 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 7 0 100 8192000 300 18446744073709551615";
        let stat = ProcessStat::parse(text).unwrap();
        assert_eq!(stat, ProcessStat { cpu_seconds: 3.0, threads: 7.0, virtual_bytes: 8_192_000.0 });
        assert_eq!(ProcessStat::parse("123 (cut"), None);
    }

    #[test]
    fn resident_memory_is_told_without_knowing_the_size_of_a_page() {
        let text = "Name:\tVmRSS: 9 kB\nVmHWM:\t   40 kB\nVmRSS:\t   48656 kB\nThreads:\t7\n";
        assert_eq!(resident_of(text), Some(49_823_744.0));
        for text in ["", "VmRSS:\t kB", "VmRSS:\t 5 pages", "Name:\tx\n"] {
            assert_eq!(resident_of(text), None, "{text}");
        }
    }

    #[test]
    fn counters_keep_their_suffix_in_the_older_form() {
        let mut text = String::new();
        let groups = vec![
            Group::counters("errors", "Failed", vec![(vec![("kind", "a\"b".to_owned())], 3)]),
            Group::gauge("size_bytes", "Size", 2.5),
        ];
        append(&mut text, Registry::with_prefix("wattlog"), groups);
        let classic = classic(&text);
        assert_eq!(
            classic,
            "# HELP wattlog_errors_total Failed\n# TYPE wattlog_errors_total counter\n\
             wattlog_errors_total{kind=\"a\\\"b\"} 3\n\
             # HELP wattlog_size_bytes Size\n# TYPE wattlog_size_bytes gauge\nwattlog_size_bytes 2.5\n"
        );
    }
}
