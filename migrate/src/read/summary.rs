//! What the optimiser summed up: statistics of a day, snapshots of days and months, drops of the battery's charge.
//!
//! Promise: sums are handed on as sums, never as readings; totals that stood under each other's name stand right.

use super::draft::{Draft, Object, Quantity, rest};
use super::reading::Found;
use crate::context::Intake;
use crate::record::{Body, DailyStats, Kind, Origin, Snapshot, SocDrop, Span};
use crate::report::{Position, Rule};
use crate::time::{Order, parse_day};
use jiff::civil::Date;
use serde_json::Value;
use std::collections::BTreeMap;

/// Pairs of totals that the wrong sign exchanged.
const SWAPPED: &[(&str, &str, &str)] = &[
    ("battery", "total_charge_kwh", "total_discharge_kwh"),
    ("grid", "total_import_kwh", "total_export_kwh"),
    ("grid", "peak_import", "peak_export"),
];

/// Takes the statistics of a day; `saved_on` is the day in the file's name.
pub(crate) fn daily_stats(
    found: Found<'_>,
    saved_on: Option<Date>,
    intake: &mut Intake<'_>,
) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let object = found.object;
    let started_on =
        match object.get("date").and_then(Value::as_str).ok_or("no date".to_owned()).and_then(parse_day) {
            Ok(date) => date,
            Err(reason) => return intake.refuse(Some(Kind::DailyStats), found.position, reason),
        };
    let group = |name: &str| object.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let mut groups: BTreeMap<&str, Object> =
        ["battery", "grid"].into_iter().map(|name| (name, group(name))).collect();
    for (name, a, b) in SWAPPED {
        let Some(members) = groups.get_mut(name) else { continue };
        let (was_a, was_b) = (members.remove(*a), members.remove(*b));
        for (key, was, is) in [(a, &was_a, &was_b), (b, &was_b, &was_a)] {
            if let Some(is) = is {
                members.insert((*key).to_owned(), is.clone());
            }
            if was != is {
                let or_null = |value: &Option<Value>| value.clone().unwrap_or(Value::Null);
                draft.repair(Rule::SwappedTotals, &format!("{name}/{key}"), or_null(was), or_null(is));
            }
        }
    }
    if let Some(grid) = groups.get_mut("grid")
        && let Some(net) = grid.get("net_consumption").and_then(Value::as_f64).filter(|net| *net != 0.0)
    {
        draft.repair(Rule::SwappedTotals, "grid/net_consumption", Value::from(net), Value::from(-net));
        grid.insert("net_consumption".to_owned(), Value::from(-net));
    }
    // What the extremes start with; no reading came.
    if let Some(battery) = groups.get_mut("battery") {
        let at = |key: &str| battery.get(key).and_then(Value::as_f64);
        if let (Some(lowest), Some(highest)) = (at("min_soc"), at("max_soc"))
            && lowest > highest
        {
            for (key, number) in [("min_soc", lowest), ("max_soc", highest)] {
                draft.repair(Rule::FalseZero, &format!("battery/{key}"), Value::from(number), Value::Null);
                battery.remove(key);
            }
        }
    }
    let body = DailyStats {
        started_on,
        saved_on,
        pv_production: group("pv_production"),
        battery: groups.remove("battery").unwrap_or_default(),
        grid: groups.remove("grid").unwrap_or_default(),
        consumption: group("house_consumption"),
    };
    let key = format!("daily_stats/{started_on}/{}", saved_on.unwrap_or(started_on));
    intake.record(key, found.position, Origin::Other, draft.repairs, Body::DailyStats(body))
}

/// Takes the snapshot of a day or a month.
pub(crate) fn snapshot(found: Found<'_>, span: Span, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    let mut draft = found.draft();
    let object = found.object;
    let first_day = match span {
        Span::Day => {
            object.get("date").and_then(Value::as_str).ok_or("no date".to_owned()).and_then(parse_day)
        }
        Span::Month => first_of_month(object, &mut draft),
    };
    let first_day = match first_day {
        Ok(day) => day,
        Err(reason) => return intake.refuse(Some(Kind::Snapshot), found.position, reason),
    };
    let zone = intake.context.options.zone.clone();
    let created_at = draft.optional_time(object, "created_at", &zone, &mut Order::default());
    let taken = ["date", "created_at", "year", "month", "month_name"];
    let others = rest(object, &taken);
    let (numbers, rest): (Object, Object) = others.into_iter().partition(|(_, value)| value.is_number());
    let totals = numbers.iter().filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect();
    let name = match span {
        Span::Day => "day",
        Span::Month => "month",
    };
    let key = format!("snapshot/{name}/{first_day}");
    let body = Body::Snapshot(Snapshot { first_day, span, created_at, totals, rest });
    intake.record(key, found.position, Origin::Other, draft.repairs, body)
}

fn first_of_month(object: &Object, draft: &mut Draft) -> Result<Date, String> {
    let number =
        |draft: &mut Draft, key| draft.count(object, key, key).and_then(|number| i16::try_from(number).ok());
    let (Some(year), Some(month)) = (number(draft, "year"), number(draft, "month")) else {
        return Err("no year and month".to_owned());
    };
    i8::try_from(month)
        .ok()
        .and_then(|month| Date::new(year, month, 1).ok())
        .ok_or_else(|| format!("{year}-{month} is no month"))
}

/// Takes the drops of several days.
pub(crate) fn soc_drops(found: Found<'_>, intake: &mut Intake<'_>) -> Result<(), crate::Error> {
    for (index, (day, _)) in found.object.iter().enumerate() {
        let position = Position { record: index as u64, ..found.position.clone() };
        let date = match parse_day(day) {
            Ok(date) => date,
            Err(reason) => {
                intake.refuse(Some(Kind::SocDrop), position, reason)?;
                continue;
            }
        };
        let mut draft = Draft::default();
        let Some(points) = draft.number(found.object, day, "points", Quantity::Percent) else {
            intake.refuse(Some(Kind::SocDrop), position, format!("no percent points on {date}"))?;
            continue;
        };
        let body = Body::SocDrop(SocDrop { date, points });
        intake.record(format!("soc_drop/{date}"), position, Origin::Other, draft.repairs, body)?;
    }
    Ok(())
}
