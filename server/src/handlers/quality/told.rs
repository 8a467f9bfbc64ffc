//! A report as JSON or CSV. Each number stands beside the query that shows it.

use super::Asked;
use super::faults::{problems, score};
use crate::asked::csv_line;
use crate::link::QueryLink;
use serde_json::{Map, Value, json};
use std::ops::Range;
use wattlog_analytics::quality::{Findings, Limits, Sign, SignVerdict, Sourced, Stretch};
use wattlog_derived::energy::DEVICE;
use wattlog_derived::quality::{
    BALANCE, BALANCE_WITHOUT_BATTERY, FieldQuality, IntervalFrom, Part, SeriesQuality,
};
use wattlog_model::Timestamp;

/// Most faults that an answer lists, of all series together; counts are of all.
const MOST_LISTED: usize = 10_000;

pub(super) fn json(found: &[SeriesQuality], asked: &Asked) -> Vec<u8> {
    let mut teller = Teller { asked, room: MOST_LISTED };
    let series: Vec<Value> = found.iter().map(|series| teller.series(series)).collect();
    let request = &asked.request;
    let body = json!({
        "measurement": request.selection.measurement,
        "start": asked.time(request.range.start), "end": asked.time(request.range.end),
        "tz": asked.zone.name(), "series": series,
    });
    body.to_string().into_bytes()
}

struct Teller<'a> {
    asked: &'a Asked,
    room: usize,
}

impl Teller<'_> {
    fn series(&mut self, series: &SeriesQuality) -> Value {
        let tags: Map<String, Value> =
            series.tags.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let request = &self.asked.request;
        let device = series.tags.iter().find(|(key, _)| key == DEVICE);
        let own_w = device.and_then(|(_, name)| request.inverters_w.get(name).copied());
        let rated_w = request.rated_w.or(own_w);
        let parts: Vec<Value> = series.parts.iter().map(|part| self.part(series, part)).collect();
        let problems: Vec<Value> = problems(series)
            .into_iter()
            .map(|problem| {
                json!({
                    "check": problem.check, "field": problem.field, "count": problem.count,
                    "advice": problem.advice,
                })
            })
            .collect();
        let unread: Vec<Value> = series
            .unread
            .iter()
            .map(|unread| {
                let mut told = self.times(&unread.range);
                told["field"] = json!(unread.field);
                told["reason"] = unread.reason.as_str().into();
                told
            })
            .collect();
        json!({
            "tags": tags, "score": score(series), "problems": problems, "absent": series.absent,
            "rated_w": rated_w, "sleeps": series.sleeps, "parts": parts, "unread": unread,
        })
    }

    fn part(&mut self, series: &SeriesQuality, part: &Part) -> Value {
        let links = Links::new(self.asked, series, part);
        let fields: Vec<Value> = part.fields.iter().map(|field| self.field(&links, field)).collect();
        let mut told = self.times(&part.range);
        told["fields"] = fields.into();
        told["asleep"] = self.asleep(&links, part);
        told["plant"] = self.plant(&links, part);
        told
    }

    /// Where nothing was expected of a device that lives off its PV, and that nothing is there.
    fn asleep(&mut self, links: &Links<'_>, part: &Part) -> Value {
        let count = links.count("pv_power");
        let list: Vec<Value> = self
            .some(&part.asleep)
            .iter()
            .map(|night| {
                let range = night.start.0..night.end.0;
                let mut told = self.times(&range);
                told["query"] = count.over(range).to_string().into();
                told
            })
            .collect();
        json!({ "count": part.asleep.len(), "list": list })
    }

    fn field(&mut self, links: &Links<'_>, field: &FieldQuality) -> Value {
        let report = &field.report;
        let count = links.count(&field.field);
        let completeness = report.completeness.value;
        let gaps: Vec<Value> = self
            .some(&report.gaps.value)
            .iter()
            .map(|gap| {
                let mut told = self.times(&(gap.start.0..gap.end.0));
                // The point at which it begins is none of it.
                told["query"] = count.over(gap.start.0.saturating_add(1)..gap.end.0).to_string().into();
                told
            })
            .collect();
        let from = match field.interval_from {
            IntervalFrom::Request => "request",
            IntervalFrom::Device => "device",
            IntervalFrom::Points => "points",
        };
        let mut told = json!({
            "field": field.field,
            "interval_s": seconds(field.interval_ns), "interval_from": from,
            "points": { "count": field.points, "query": count.to_string() },
            "completeness": {
                "expected": completeness.expected, "missing": completeness.missing,
                "share": completeness.share, "query": count.to_string(),
            },
            "gaps": {
                "longer_than_s": seconds(field.longest_gap_ns), "count": report.gap_count, "list": gaps,
                "query": links.coverage(field).to_string(),
            },
            "accuracy": report.accuracy.as_ref().map(|share| {
                json!({ "share": share.value, "query": count.to_string() })
            }),
            "score": { "share": report.score.value, "query": count.to_string() },
        });
        let span = links.span(&field.field);
        let lists = [
            ("out_of_range", &report.out_of_range, links.outside(field)),
            ("stuck", &report.stuck, span.clone()),
            ("spikes", &report.spikes, span.clone()),
        ];
        for (name, list, whole) in lists {
            if let Some(list) = list {
                told[name] = self.findings(&list.value, &whole, &span);
            }
        }
        if let (Some(Limits { low, high }), true) = (field.limits, report.out_of_range.is_some()) {
            told["out_of_range"]["low"] = json!(low);
            told["out_of_range"]["high"] = json!(high);
        }
        told
    }

    /// `whole` shows all of them, `each` the points of one over its own times.
    fn findings(&mut self, found: &Findings, whole: &QueryLink, each: &QueryLink) -> Value {
        let list: Vec<Value> = self
            .some(&found.stretches)
            .iter()
            .map(|stretch| {
                json!({
                    "first": self.asked.time(stretch.first.0), "last": self.asked.time(stretch.last.0),
                    "points": stretch.points, "worst": stretch.worst,
                    "query": each.over(times_of(stretch)).to_string(),
                })
            })
            .collect();
        json!({ "count": found.count, "points": found.points, "list": list, "query": whole.to_string() })
    }

    fn plant(&mut self, links: &Links<'_>, part: &Part) -> Value {
        let Some(plant) = &part.plant else { return Value::Null };
        let balance = links.balance();
        let verdict = |verdict: &Sourced<SignVerdict>, link: &QueryLink| {
            let SignVerdict { sign, strength, count } = verdict.value;
            json!({ "sign": word(sign), "strength": strength, "count": count, "query": link.to_string() })
        };
        let soc = links.fields(&plant.battery_by_soc.source.fields).with("fn", "mean,first,last");
        let soc = soc.with("every", "1d");
        let clock = plant.clock.as_ref().map(|clock| {
            let link = links.fields(&clock.source.fields).with("fn", "count,first,last");
            let steps: Vec<Value> = self
                .some(&clock.value.steps)
                .iter()
                .map(|step| {
                    let times = step.received.0..step.received.0.saturating_add(1);
                    json!({
                        "received": self.asked.time(step.received.0), "by_s": seconds(step.by_ns),
                        "query": link.over(times).to_string(),
                    })
                })
                .collect();
            json!({
                "offset_s": clock.value.offset_s, "drift_s_per_day": clock.value.drift_s_per_day,
                "steps": steps, "step_count": clock.value.step_count, "count": clock.value.count, "query": link.to_string(),
            })
        });
        json!({
            "balance": self.findings(&plant.balance.value, &balance, &balance),
            "battery_by_soc": verdict(&plant.battery_by_soc, &soc),
            "battery_by_balance": verdict(&plant.battery_by_balance, &balance),
            "grid_by_balance": verdict(&plant.grid_by_balance, &balance),
            "clock": clock,
        })
    }

    /// As many of a list as there is room for.
    fn some<'l, T>(&mut self, list: &'l [T]) -> &'l [T] {
        let shown = list.len().min(self.room);
        self.room -= shown;
        &list[..shown]
    }

    fn times(&self, range: &Range<i64>) -> Value {
        json!({ "start": self.asked.time(range.start), "end": self.asked.time(range.end) })
    }
}

fn word(sign: Sign) -> &'static str {
    match sign {
        Sign::Right => "right",
        Sign::Reversed => "reversed",
        Sign::Undetermined => "undetermined",
    }
}

fn seconds(ns: i64) -> f64 {
    ns as f64 / 1e9
}

/// From the first point of a stretch to just after its last.
fn times_of(stretch: &Stretch) -> Range<i64> {
    let Timestamp(last) = stretch.last;
    stretch.first.0..last.saturating_add(1)
}

/// Queries of one part.
struct Links<'a> {
    base: QueryLink,
    part: &'a Part,
}

impl<'a> Links<'a> {
    fn new(asked: &Asked, series: &SeriesQuality, part: &'a Part) -> Self {
        let measurement = &asked.request.selection.measurement;
        Self { base: QueryLink::new(measurement, &series.tags, &part.range), part }
    }

    fn fields(&self, fields: &[String]) -> QueryLink {
        self.base.with("fields", &fields.join(","))
    }

    fn one(&self, field: &str) -> QueryLink {
        self.base.with("fields", field)
    }

    fn count(&self, field: &str) -> QueryLink {
        self.one(field).with("fn", "count")
    }

    /// How many, and between which values.
    fn span(&self, field: &str) -> QueryLink {
        self.one(field).with("fn", "count,min,max")
    }

    fn coverage(&self, field: &FieldQuality) -> QueryLink {
        let gap = format!("{}ns", field.longest_gap_ns);
        self.one(&field.field).with("fn", "count,coverage").with("gap", &gap)
    }

    /// The points outside the limits alone.
    fn outside(&self, field: &FieldQuality) -> QueryLink {
        let span = self.span(&field.field);
        match field.limits {
            Some(Limits { low, high }) if !field.field.contains('`') => {
                let name = &field.field;
                span.with("where", &format!("`{name}`<{low} or `{name}`>{high}"))
            }
            _ => span,
        }
    }

    /// The error of the balance.
    fn balance(&self) -> QueryLink {
        let error = if self.part.has_battery { BALANCE } else { BALANCE_WITHOUT_BATTERY };
        self.base.with("expr", error).with("as", "error_w").with("fn", "count,min,max,mean")
    }
}

/// One line per series, part, check and field.
pub(super) fn csv(found: &[SeriesQuality], asked: &Asked) -> Vec<u8> {
    let mut out = Vec::new();
    let head = ["series", "start", "end", "check", "fields", "value", "count", "points", "query"];
    csv_line(&mut out, head.map(str::to_owned));
    for series in found {
        let tags: Vec<String> = series.tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        for part in &series.parts {
            let head = [tags.join(";"), asked.time(part.range.start), asked.time(part.range.end)];
            for row in rows(&Links::new(asked, series, part), part) {
                let [value, count, points] = row.numbers;
                let cells = [row.check.to_owned(), row.fields, value, count, points, row.link.to_string()];
                csv_line(&mut out, head.iter().cloned().chain(cells));
            }
        }
        for unread in &series.unread {
            let head = [tags.join(";"), asked.time(unread.range.start), asked.time(unread.range.end)];
            let field = unread.field.clone().unwrap_or_default();
            let cells = ["unread".to_owned(), field, unread.reason.clone()];
            csv_line(&mut out, head.into_iter().chain(cells).chain([const { String::new() }; 3]));
        }
    }
    out
}

struct Row {
    check: &'static str,
    fields: String,
    /// Value, count and points, as far as there are.
    numbers: [String; 3],
    link: QueryLink,
}

fn rows(links: &Links<'_>, part: &Part) -> Vec<Row> {
    let mut rows = Vec::new();
    let none = String::new;
    for field in &part.fields {
        let report = &field.report;
        let mut push = |check, numbers, link| {
            rows.push(Row { check, fields: field.field.clone(), numbers, link });
        };
        let count = links.count(&field.field);
        let complete = report.completeness.value;
        let numbers = [complete.share.to_string(), complete.missing.to_string(), field.points.to_string()];
        push("completeness", numbers, count.clone());
        push("gaps", [none(), report.gap_count.to_string(), none()], links.coverage(field));
        let span = links.span(&field.field);
        let lists = [
            ("out_of_range", &report.out_of_range, links.outside(field)),
            ("stuck", &report.stuck, span.clone()),
            ("spikes", &report.spikes, span),
        ];
        for (check, list, link) in lists {
            if let Some(list) = list {
                push(check, [none(), list.value.count.to_string(), list.value.points.to_string()], link);
            }
        }
        if let Some(share) = &report.accuracy {
            push("accuracy", [share.value.to_string(), none(), field.points.to_string()], count.clone());
        }
        push("score", [report.score.value.to_string(), none(), field.points.to_string()], count);
    }
    let Some(plant) = &part.plant else { return rows };
    let balance = links.balance();
    let powers = plant.balance.source.fields.join(",");
    let of = plant.balance.value.points.to_string();
    let numbers = [none(), plant.balance.value.count.to_string(), of];
    rows.push(Row { check: "balance", fields: powers, numbers, link: balance.clone() });
    let verdicts = [
        ("battery_by_soc", &plant.battery_by_soc),
        ("battery_by_balance", &plant.battery_by_balance),
        ("grid_by_balance", &plant.grid_by_balance),
    ];
    for (check, verdict) in verdicts {
        let numbers = [word(verdict.value.sign).to_owned(), none(), verdict.value.count.to_string()];
        let fields = verdict.source.fields.join(",");
        let link = links.fields(&verdict.source.fields).with("fn", "count,mean");
        rows.push(Row { check, fields, numbers, link });
    }
    if let Some(clock) = &plant.clock {
        let value = &clock.value;
        let numbers = [value.offset_s.to_string(), value.step_count.to_string(), value.count.to_string()];
        let fields = clock.source.fields.join(",");
        let link = links.fields(&clock.source.fields).with("fn", "count,first,last");
        rows.push(Row { check: "clock", fields, numbers, link });
    }
    rows
}
