//! Columns of the answer, from rows, newest values or buckets.

use super::bucket::Buckets;
use super::error::QueryError;
use super::fill::{self, all_buckets};
use super::fold::{Accumulators, bucket_keys};
use super::last::Newest;
use super::plan::{Group, Plan, PlannedField, is_defined, tags_bytes};
use super::raw::{Rows, empty, has_value};
use super::request::{Aggregate, Fill, Function, Order, OutputUnit, QueryRequest};
use super::result::{ResultColumn, ResultSeries, ResultValues};
use super::scan::Scan;
use wattlog_model::{FieldValue, Unit};

/// Memory of a series of the answer beside its values: its tags, and a column for each field.
pub(super) fn frame_bytes(plan: &Plan, group: &Group) -> u64 {
    tags_bytes(&group.tags) + COLUMN_BYTES * (plan.fields.len() + 1) as u64
}

/// A series of points; none if it has no row.
pub(super) fn points(plan: &Plan, group: &Group, rows: Rows) -> Option<ResultSeries> {
    if rows.len() == 0 {
        return None;
    }
    let Rows { times, columns: by_slot } = rows;
    let mut by_slot: Vec<Option<ResultValues>> = by_slot.into_iter().map(Some).collect();
    let mut columns = vec![time_column(times.into_iter().map(Some).collect())];
    for field in &plan.fields {
        let Some(values) = by_slot[field.slot].take() else { continue };
        if plan.named || has_value(&values) {
            columns.push(column(field, values));
        }
    }
    Some(ResultSeries { tags: group.tags.clone(), columns })
}

/// A series of one row with the newest values; none if there is no value.
pub(super) fn newest(plan: &Plan, group: &Group, newest: Newest) -> Option<ResultSeries> {
    let row_time = newest.iter().flatten().map(|(time, _)| *time).max()?;
    let mut columns = vec![time_column(vec![Some(row_time)])];
    for field in &plan.fields {
        match &newest[field.slot] {
            Some((time, value)) => {
                columns.push(column(field, single(value)));
                if *time < row_time {
                    let name = format!("{}_time", field.def.name);
                    let values = ResultValues::Time(vec![Some(*time)]);
                    columns.push(ResultColumn {
                        name,
                        field: Some(field.def.name.to_string()),
                        unit: None,
                        values,
                    });
                }
            }
            None if plan.named => {
                let mut values = empty(field.def.field_type);
                push_none(&mut values);
                columns.push(column(field, values));
            }
            None => {}
        }
    }
    Some(ResultSeries { tags: group.tags.clone(), columns })
}

/// Series of buckets; those without a value are left out.
pub(super) fn buckets(
    scan: Scan<'_>,
    request: &QueryRequest,
    aggregate: &Aggregate,
    buckets: &Buckets,
    groups: Vec<Accumulators>,
) -> Result<Vec<ResultSeries>, QueryError> {
    let (plan, fill) = (scan.plan, aggregate.fill);
    let all = match fill {
        Fill::None => None,
        _ => Some(all_buckets(buckets, &plan.asked, scan.budget)?),
    };
    let mut out = Vec::new();
    for (group, Accumulators { mut fields, .. }) in plan.groups.iter().zip(groups) {
        scan.budget.check()?;
        fields.iter_mut().for_each(|field| field.cells.finish());
        let with_value = bucket_keys(&fields);
        if with_value.is_empty() {
            continue;
        }
        let keys = all.as_ref().unwrap_or(&with_value);
        scan.budget.answer_buckets(keys.len() as u64)?;
        let limit = request.limit.map_or(keys.len(), |limit| limit.min(keys.len()));
        let kept = match request.order {
            Order::Ascending => 0..limit,
            Order::Descending => keys.len() - limit..keys.len(),
        };
        scan.budget.hold_bytes(tags_bytes(&group.tags) + COLUMN_BYTES + CELL_BYTES * limit as u64)?;
        let mut columns = vec![time_column(keys[kept.clone()].iter().copied().map(Some).collect())];
        for field in &plan.fields {
            let own = &fields[field.slot];
            if !plan.named && own.is_empty() {
                continue;
            }
            let defined = |function: &&Function| is_defined(**function, &field.def);
            for function in aggregate.functions.iter().filter(defined) {
                scan.budget.hold_bytes(COLUMN_BYTES + CELL_BYTES * limit as u64)?;
                let output = match function {
                    Function::Cost => {
                        Output::of_cost(field, scan.prices.and_then(|prices| prices.unit.as_ref()))?
                    }
                    _ => Output::of(*function, aggregate.unit, field)?,
                };
                let values_for = |keys: &[i64]| match &own.curve {
                    Some(curve) if function.needs_neighbours() => {
                        let value =
                            |key: &i64| curve.value(*function, *key, buckets, &plan.asked, output.unit_ns);
                        ResultValues::Float(keys.iter().map(value).collect())
                    }
                    _ => own.cells.column(*function, keys),
                };
                let values = if fill == Fill::None {
                    values_for(&keys[kept.clone()])
                } else if function.knows_nothing() {
                    values_for(keys).slice(kept.clone())
                } else {
                    // What stands before a row may be what fills it.
                    fill::fill(fill, keys, values_for(keys)).slice(kept.clone())
                };
                let name = format!("{}_{function}", field.def.name);
                let of_field = Some(field.def.name.to_string());
                columns.push(ResultColumn { name, field: of_field, unit: output.unit, values });
            }
        }
        if request.order == Order::Descending {
            columns.iter_mut().for_each(|column| column.values.reverse());
        }
        out.push(ResultSeries { tags: group.tags.clone(), columns });
    }
    Ok(out)
}

/// Memory of a value of a column, in bytes; texts are shared with the accumulators.
const CELL_BYTES: u64 = 16;

/// Memory of a column without its values: its name, that of its field, and what the allocator adds to each.
const COLUMN_BYTES: u64 = 256;

pub(super) fn time_column(times: Vec<Option<i64>>) -> ResultColumn {
    ResultColumn { name: "time".to_owned(), field: None, unit: None, values: ResultValues::Time(times) }
}

pub(super) fn column(field: &PlannedField, values: ResultValues) -> ResultColumn {
    let name = field.def.name.to_string();
    ResultColumn { field: Some(name.clone()), name, unit: field.def.unit.clone(), values }
}

/// What the values of a function are counted in.
struct Output {
    unit: Option<Unit>,
    /// Nanoseconds of the time that integrals and rates speak of; for energies, scaled.
    unit_ns: f64,
}

impl Output {
    /// Of a power times a price per energy: the currency.
    fn of_cost(field: &PlannedField, price: Option<&Unit>) -> Result<Self, QueryError> {
        let place = |names: [&str; 3], text: &str| names.iter().position(|name| *name == text);
        let power = field.def.unit.as_ref().and_then(|unit| place(["W", "kW", "MW"], unit.as_str()));
        let parts = price.and_then(|unit| unit.as_str().rsplit_once('/'));
        let energy = parts.and_then(|(_, energy)| place(["Wh", "kWh", "MWh"], energy));
        match (power, parts, energy) {
            (Some(power), Some((currency, _)), Some(energy)) => {
                let unit_ns = 3600e9 * 1000_f64.powi(energy as i32 - power as i32);
                Ok(Self { unit: Unit::new(currency), unit_ns })
            }
            _ => Err(QueryError::NoCost {
                field: field.def.name.to_string(),
                unit: field.def.unit.clone(),
                price: price.cloned(),
            }),
        }
    }

    fn of(function: Function, asked: OutputUnit, field: &PlannedField) -> Result<Self, QueryError> {
        let own = field.def.unit.clone();
        let text = own.as_ref().map(Unit::as_str);
        let (mark, seconds, kilo) = match asked {
            OutputUnit::Second => ("s", 1.0, None),
            OutputUnit::Minute => ("min", 60.0, None),
            OutputUnit::Hour => ("h", 3600.0, None),
            OutputUnit::Day => ("d", 86_400.0, None),
            OutputUnit::WattHour => ("h", 3600.0, Some(0)),
            OutputUnit::KilowattHour => ("h", 3600.0, Some(1)),
            OutputUnit::MegawattHour => ("h", 3600.0, Some(2)),
        };
        let unit_ns = seconds * 1e9;
        Ok(match (function, kilo) {
            (Function::Count | Function::Distinct | Function::Coverage | Function::Priced, _) => {
                Self { unit: None, unit_ns }
            }
            (Function::Integral, Some(kilo)) => {
                let power = text.and_then(|text| ["W", "kW", "MW"].iter().position(|power| *power == text));
                let Some(power) = power else {
                    return Err(QueryError::NoPower { field: field.def.name.to_string(), unit: own });
                };
                let unit = Unit::new(["Wh", "kWh", "MWh"][kilo]);
                Self { unit, unit_ns: unit_ns * 1000_f64.powi(kilo as i32 - power as i32) }
            }
            (Function::Integral, None) => {
                // Watts and amperes over hours have a name of their own; all else is a product.
                let joined = mark == "h" && text.is_some_and(|text| text.ends_with(['W', 'A']));
                let product = |text: &str| format!("{text}{}{mark}", if joined { "" } else { " " });
                Self { unit: Unit::new(&text.map_or_else(|| mark.to_owned(), product)), unit_ns }
            }
            (Function::Rate, _) => Self { unit: per(text, mark), unit_ns },
            _ => Self { unit: own, unit_ns },
        })
    }
}

/// A unit over a time: `kWh` per `h` is `kW`.
pub(super) fn per(text: Option<&str>, mark: &str) -> Option<Unit> {
    let over = |text: &str| match text.strip_suffix('h').filter(|_| mark == "h") {
        Some(power) if power.ends_with(['W', 'A']) => power.to_owned(),
        _ => format!("{text}/{mark}"),
    };
    Unit::new(&text.map_or_else(|| format!("1/{mark}"), over))
}

fn single(value: &FieldValue) -> ResultValues {
    match value {
        FieldValue::Float(v) => ResultValues::Float(vec![Some(*v)]),
        FieldValue::Integer(v) => ResultValues::Integer(vec![Some(*v)]),
        FieldValue::Unsigned(v) => ResultValues::Unsigned(vec![Some(*v)]),
        FieldValue::Boolean(v) => ResultValues::Boolean(vec![Some(*v)]),
        FieldValue::String(v) => ResultValues::String(vec![Some(v.clone())]),
    }
}

fn push_none(values: &mut ResultValues) {
    match values {
        ResultValues::Time(v) | ResultValues::Integer(v) => v.push(None),
        ResultValues::Float(v) => v.push(None),
        ResultValues::Unsigned(v) => v.push(None),
        ResultValues::Boolean(v) => v.push(None),
        ResultValues::String(v) => v.push(None),
    }
}
