//! What a report holds: sums of energy and money, shares, peaks, the battery and its sessions.

use super::Length;
use crate::energy::{
    self, DEVICE, EnergyError, EnergyOptions, EnergyRequest, EnergyStatus, QUARTER_NS, RAW, number, place,
    quarter_of, rounded,
};
use crate::tariffs::{pieces_of, priced};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_analytics::battery::BatteryPeriod;
use wattlog_engine::Engine;
use wattlog_engine::query::{
    Aggregate, Function, GroupBy, QueryControl, QueryError, QueryRequest, QueryResult, Shape, Zone,
};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::{Direction, Session, SessionKind, Tariff};
use wattlog_model::{FieldType, Timestamp};

/// What is asked of the store for one period.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) database: String,
    pub(super) options: EnergyOptions,
    pub(super) status: EnergyStatus,
    pub(super) length: Length,
    pub(super) period: Range<i64>,
    pub(super) zone: Zone,
    pub(super) tariffs: std::sync::Arc<Vec<Stored<Tariff>>>,
}

/// What the store says of a period.
#[derive(Debug)]
pub(super) struct Told {
    /// Figures by device.
    pub(super) devices: BTreeMap<String, Figures>,
    /// Energies are still to be computed.
    pub(super) is_pending: bool,
    /// Something cannot be read.
    pub(super) is_lost: bool,
    pub(super) notes: Vec<String>,
}

/// Of one device.
#[derive(Debug, Default)]
pub(super) struct Figures {
    energy: Map<String, Value>,
    charge_kwh: Option<f64>,
    discharge_kwh: Option<f64>,
    /// Least, greatest, first and last value by [`PEAKS`].
    extremes: [[Option<f64>; 4]; PEAKS.len()],
}

const PEAKS: [&str; 5] = ["pv_power", "consumption", "grid_power", "battery_power", "battery_soc"];

impl Question {
    /// Asks.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn ask(&self, engine: &Engine, control: &QueryControl) -> Result<Told, EnergyError> {
        let range = quarters_of(&self.period);
        let (mut notes, mut is_lost) = (Vec::new(), false);
        let mut of = |direction| -> Result<_, QueryError> {
            let found = priced(&self.tariffs, direction, &range, |definition, times| {
                pieces_of(definition, (engine, &self.database), times, &self.zone, control)
            });
            notes.extend(found.notes);
            is_lost |= found.is_lost;
            found.failed.map_or(Ok(found.pieces), Err)
        };
        let (import_prices, export_prices) = (of(Direction::Import)?, of(Direction::Export)?);
        let request = EnergyRequest {
            range: range.clone(),
            now: range.end,
            every: self.length.every(),
            zone: self.zone.clone(),
            device: None,
            import_prices,
            export_prices,
        };
        let answer = energy::answer(engine, &self.options, (&self.status, None), &request, control)?;
        let mut devices: BTreeMap<String, Figures> = BTreeMap::new();
        for device in &answer.devices {
            let Some(period) = device.periods.first() else { continue };
            let of = |name: &str| period.values[place(name)];
            let figures = Figures {
                energy: energy::figures(period, self.period.end),
                charge_kwh: of("charge_kwh"),
                discharge_kwh: of("discharge_kwh"),
                ..Figures::default()
            };
            devices.insert(device.device.clone(), figures);
        }
        let known = engine.measurement(&self.database, RAW)?;
        // Of texts and truth values there is no least and no greatest.
        let fields: Vec<String> = (known.iter().flat_map(|known| &known.fields))
            .filter(|field| !matches!(field.field_type, FieldType::String | FieldType::Boolean))
            .map(|field| field.name.clone())
            .filter(|name| PEAKS.contains(&name.as_str()))
            .collect();
        if !fields.is_empty() {
            let extremes = engine.query(&self.extremes(fields), control)?;
            add_extremes(&extremes, &mut devices);
            is_lost |= !extremes.partial.is_empty();
        }
        // Behind the newest point nothing is to be computed, however long its device has been silent.
        let newest = known.and_then(|known| known.last);
        let is_pending = newest.is_some_and(|last| answer.pending.iter().any(|range| range.start <= last.0));
        is_lost |= !answer.lost.is_empty();
        Ok(Told { devices, is_pending, is_lost, notes })
    }

    fn extremes(&self, fields: Vec<String>) -> QueryRequest {
        let functions = vec![Function::Min, Function::Max, Function::First, Function::Last];
        let (start, end) = (Timestamp(self.period.start), Timestamp(self.period.end));
        QueryRequest {
            fields: Some(fields),
            group_by: GroupBy::Keys(vec![DEVICE.to_owned()]),
            shape: Shape::Aggregate(Aggregate { functions, ..Aggregate::default() }),
            ..QueryRequest::raw(&self.database, RAW, start, end)
        }
    }
}

/// Those that begin in the period: they belong to it.
pub(super) fn quarters_of(period: &Range<i64>) -> Range<i64> {
    let first = |at: i64| quarter_of(at.saturating_add(QUARTER_NS - 1));
    first(period.start)..first(period.end)
}

fn add_extremes(result: &QueryResult, devices: &mut BTreeMap<String, Figures>) {
    for series in &result.series {
        let device = series.tags.first().map(|(_, value)| value.as_str()).unwrap_or_default();
        let Some(figures) = devices.get_mut(device) else { continue };
        figures.extremes = PEAKS.map(|field| {
            ["min", "max", "first", "last"].map(|function| {
                let column = series.column(&format!("{field}_{function}"))?;
                (series.rows() > 0).then(|| number(&column.values, 0)).flatten()
            })
        });
    }
}

impl Figures {
    /// The report's numbers. `sessions` are those of the device that began in the period and are over.
    pub(super) fn data(&self, sessions: &[&Session], capacity_kwh: Option<f64>) -> Map<String, Value> {
        let mut data = self.energy.clone();
        data.insert("currency".into(), json!("PLN"));
        data.insert("sessions".into(), sessions_of(sessions));
        data.insert("battery".into(), self.battery(capacity_kwh));
        data.insert("peak".into(), self.peak());
        data
    }

    fn battery(&self, capacity_kwh: Option<f64>) -> Value {
        let [.., [_, _, soc_start_percent, soc_end_percent]] = self.extremes;
        let period = self.charge_kwh.zip(self.discharge_kwh).map(|(charge_kwh, discharge_kwh)| {
            BatteryPeriod { charge_kwh, discharge_kwh, soc_start_percent, soc_end_percent }
        });
        let known = period.zip(capacity_kwh);
        let trip = known.and_then(|(period, capacity)| period.round_trip(capacity));
        json!({
            "capacity_kwh": capacity_kwh,
            "soc_start_percent": soc_start_percent.map(rounded),
            "soc_end_percent": soc_end_percent.map(rounded),
            "full_cycles": known.and_then(|(period, capacity)| period.full_cycles(capacity)).map(rounded),
            "round_trip_efficiency": trip.map(|trip| rounded(trip.efficiency)),
            "round_trip_correction": trip.map(|trip| rounded(trip.correction)),
        })
    }

    /// Signs are battery + = discharge, grid + = export.
    fn peak(&self) -> Value {
        let [pv, house, grid, battery, _] = self.extremes;
        let most = |of: [Option<f64>; 4]| of[1].map(|value| rounded(value.max(0.0)));
        let least = |of: [Option<f64>; 4]| of[0].map(|value| rounded((-value).max(0.0)));
        json!({
            "pv_w": most(pv), "consumption_w": most(house), "export_w": most(grid), "import_w": least(grid),
            "discharge_w": most(battery), "charge_w": least(battery),
        })
    }
}

fn sessions_of(sessions: &[&Session]) -> Value {
    let of = |kind: SessionKind| {
        let mine = || sessions.iter().filter(move |session| session.kind == kind);
        let sum = |value: fn(&Session) -> Option<f64>| rounded(mine().filter_map(|s| value(s)).sum::<f64>());
        let money = |value: fn(&Session) -> Option<f64>| {
            mine().any(|session| value(session).is_some()).then(|| sum(value))
        };
        let (cost, revenue) = (money(|s| s.total_cost), money(|s| s.revenue));
        let mut out = Map::new();
        out.insert("count".into(), json!(mine().count()));
        out.insert("energy_kwh".into(), json!(sum(|s| s.energy_kwh)));
        out.insert("grid_kwh".into(), json!(sum(|s| s.energy_grid_kwh)));
        match kind {
            SessionKind::Charging => {
                out.insert("cost_pln".into(), json!(cost));
                out.insert("savings_pln".into(), json!(money(|s| s.savings)));
            }
            SessionKind::Selling => {
                out.insert("revenue_pln".into(), json!(revenue));
            }
        }
        Value::Object(out)
    };
    json!({ "charging": of(SessionKind::Charging), "selling": of(SessionKind::Selling) })
}
