//! A tree as the optimiser leaves it, made from a seed, with what a reader must find in every file.
//!
//! All eras, every damaged form that was seen, and a store whose last rows live in its write-ahead log alone. Instants and
//! values of all readings are known, so a test can ask for exactly them.

use super::truth::{Seed, State, line, local, pretty};
use super::{DEVICE, utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use wattlog_migrate::{Kind, Rule};

/// What one file must give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    pub read: BTreeMap<Kind, u64>,
    pub kept: BTreeMap<Kind, u64>,
    /// Places that are no record.
    pub unread: u64,
    pub repairs: BTreeMap<Rule, u64>,
}

impl Expected {
    fn of(kind: Kind, read: u64, kept: u64) -> Self {
        Self { read: [(kind, read)].into(), kept: [(kind, kept)].into(), ..Self::default() }
    }

    fn and(mut self, kind: Kind, read: u64, kept: u64) -> Self {
        self.read.insert(kind, read);
        self.kept.insert(kind, kept);
        self
    }

    fn unread(mut self, unread: u64) -> Self {
        self.unread = unread;
        self
    }

    fn repair(mut self, rule: Rule, count: u64) -> Self {
        self.repairs.insert(rule, count);
        self
    }
}

/// The tree on disk, and the truth about it.
pub struct Made {
    pub files: BTreeMap<String, Expected>,
    /// Readings that must come out: key and PV power.
    pub readings: BTreeMap<String, i64>,
    /// Keys of decisions that must come out.
    pub decisions: BTreeSet<String>,
}

struct Maker<'a> {
    folder: &'a Path,
    seed: Seed,
    made: Made,
}

const SECOND_US: i64 = 1_000_000;
const MINUTE_US: i64 = 60 * SECOND_US;
/// How long before the first market price the total prices of a first start begin.
const BOOTSTRAP_US: i64 = 40 * MINUTE_US + 123_457;

/// Writes the tree.
pub fn make(folder: &Path, seed: u64) -> Made {
    let made = Made { files: BTreeMap::new(), readings: BTreeMap::new(), decisions: BTreeSet::new() };
    let mut maker = Maker { folder, seed: Seed(seed), made };
    maker.era_a();
    maker.era_b();
    maker.era_c();
    maker.era_d();
    maker.damaged();
    maker.clock_change();
    maker.store();
    maker.made
}

impl Maker<'_> {
    fn write(&mut self, name: &str, bytes: impl AsRef<[u8]>, expected: Expected) {
        let path = self.folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the file");
        fs::write(path, bytes).expect("a file in a temporary folder");
        let before = self.made.files.insert(name.to_owned(), expected);
        assert!(before.is_none(), "{name} is written once");
    }

    fn states(&mut self, from: &str, count: i64, step_us: i64) -> Vec<State> {
        let start = utc(from).0 / 1000;
        let states: Vec<State> = (0..count)
            .map(|index| {
                let jitter = self.seed.between(1, SECOND_US - 1);
                State::random(&mut self.seed, start + index * step_us + jitter)
            })
            .collect();
        self.must_come_out(&states);
        states
    }

    fn must_come_out(&mut self, states: &[State]) {
        for state in states {
            self.made.readings.insert(state.key(DEVICE), state.pv_w);
        }
    }

    fn decision(&mut self, at: &str, about: &str, extra: Value) -> Value {
        let at_us = utc(at).0 / 1000 + self.seed.between(1, SECOND_US - 1);
        self.made.decisions.insert(format!("decision/{about}/{}", at_us * 1000));
        let mut object = json!({
            "timestamp": local(at_us), "action": "wait", "source": "grid", "duration": 0, "energy_kwh": 0,
            "estimated_cost_pln": 0, "estimated_savings_pln": 0, "confidence": 0.9, "reason": "Ładowanie nocne",
            "priority": "low", "battery_soc": 64, "pv_power": 2240, "house_consumption": 682, "current_price": 0.5391,
            "cheapest_price": 0.4421, "cheapest_hour": 3
        });
        let members = object.as_object_mut().expect("an object");
        for (key, value) in extra.as_object().expect("an object") {
            members.insert(key.clone(), value.clone());
        }
        members.retain(|_, value| value != "absent");
        object
    }

    fn era_a(&mut self) {
        let all = self.states("2025-09-17T10:15:00Z", 105, MINUTE_US);
        let dump = |states: &[State]| pretty(&states.iter().map(|state| state.nested(DEVICE)).collect());
        let readings = |read, kept| Expected::of(Kind::Reading, read, kept);
        // The dumps come first and repeat each other; the single reading repeats them.
        let single = pretty(&all[99].nested(DEVICE));
        self.write("out/energy_data/current_data_20250917_135501.json", single, readings(1, 0));
        self.write(
            "out/energy_data/historical_data_20250917_135501.json",
            dump(&all[..100]),
            readings(100, 100),
        );
        self.write("out/energy_data/historical_data_20250917_140001.json", dump(&all[5..]), readings(100, 5));

        let stats = json!({
            "date": "2025-09-17", "pv_production": {"total_kwh": 5.1},
            "battery": {"total_charge_kwh": 0.5, "total_discharge_kwh": 1.7, "min_soc": 100.0, "max_soc": 0.0},
            "grid": {"total_import_kwh": 0.4, "total_export_kwh": 0.1, "peak_import": 1.2, "peak_export": 0.3,
                     "net_consumption": 0.3},
            "house_consumption": {"total_kwh": 2.41}
        });
        let expected =
            Expected::of(Kind::DailyStats, 1, 1).repair(Rule::SwappedTotals, 7).repair(Rule::FalseZero, 2);
        self.write("out/energy_data/daily_stats_20250918.json", pretty(&stats), expected);

        let decisions = |repairs: &[(Rule, u64)]| {
            let mut expected = Expected::of(Kind::Decision, 1, 1);
            expected.repairs = repairs.iter().copied().collect();
            expected
        };
        let wait = self.decision("2025-09-17T10:22:31Z", "charging", json!({}));
        self.write("out/energy_data/charging_decision_20250917_122231.json", pretty(&wait), decisions(&[]));
        let charge = self.decision(
            "2025-09-17T10:38:09Z",
            "charging",
            json!({"action": "charge", "energy_kwh": 5.0, "current_price": 0.53632, "estimated_cost_pln": 0.00268,
                   "estimated_savings_pln": 1.99732}),
        );
        self.write(
            "out/energy_data/charging_decision_20250917_123809.json",
            pretty(&charge),
            decisions(&[(Rule::CostScale, 1), (Rule::SavingsOfWrongCost, 1)]),
        );
        let scaled = self.decision(
            "2025-11-13T22:00:00Z",
            "charging",
            json!({"current_price": 5.4541, "cheapest_price": -5.5459}),
        );
        self.write(
            "out/energy_data/charging_decision_20251113_230000.json",
            pretty(&scaled),
            decisions(&[(Rule::PriceScale, 2)]),
        );
        // The other writer of that name.
        let hybrid = self.decision(
            "2025-10-01T01:00:00Z",
            "charging",
            json!({"charging_source": "hybrid", "source": "absent", "duration": "absent", "duration_hours": 2.0,
                   "priority": "absent", "battery_soc": "Unknown", "current_price": 0, "pv_contribution_kwh": 1.5}),
        );
        self.write(
            "out/energy_data/charging_decision_20251001_030000.json",
            pretty(&hybrid),
            decisions(&[(Rule::FalseZero, 1)]),
        );
        let selling = self.decision(
            "2025-11-13T04:00:00Z",
            "selling",
            json!({"action": "battery_selling", "decision": "start_selling", "expected_revenue_pln": 4.11,
                   "selling_power_w": 5000, "reasoning": "high price", "reason": "absent", "current_price": "absent",
                   "current_price_pln": 0.856, "energy_sold_kwh": 6.0, "energy_kwh": "absent", "confidence": 95}),
        );
        self.write(
            "out/energy_data/battery_selling_decision_20251113_050000.json",
            pretty(&selling),
            decisions(&[(Rule::ConfidenceInPercent, 1)]),
        );
        let state = self.state("2025-09-17T16:15:00Z", &all[20]);
        let expected =
            Expected::of(Kind::SystemState, 1, 1).and(Kind::Reading, 1, 0).repair(Rule::Misnamed, 1);
        // The reading in it stands in a dump, which comes first.
        self.write("out/zz_state/coordinator_state_20250917_181500.json", pretty(&state), expected);
    }

    fn state(&mut self, at: &str, reading: &State) -> Value {
        json!({
            "timestamp": local(utc(at).0 / 1000 + self.seed.between(1, 999_999)), "state": "monitoring", "uptime_seconds": 21643.118,
            "current_data": reading.nested(DEVICE), "decision_count": 23,
            "performance_metrics": {"pv_efficiency": 2240, "battery_utilization": 0, "grid_dependency": 0,
                                    "last_update": "2025-09-17 18:15:00.243870"}
        })
    }

    fn era_b(&mut self) {
        let states = self.states("2025-11-18T02:00:00Z", 3, MINUTE_US);
        let mut data: Vec<Value> = states.iter().map(|state| Value::Object(state.flat())).collect();
        // One of them in UTC with its letter.
        let instant = jiff::Timestamp::from_nanosecond(i128::from(states[1].at_us) * 1000).expect("a time");
        data[1]["timestamp"] = Value::from(instant.to_string());
        let wrapped = json!({
            "file_timestamp": "20251118_030300_724320", "created_at": "2025-11-18T03:03:00.724320", "record_count": 3, "data": data
        });
        self.write(
            "out/energy_data/energy_data_20251118_030300_724320.json",
            pretty(&wrapped),
            Expected::of(Kind::Reading, 3, 3),
        );
        self.write(
            "out/energy_data/system_state_20251118_030300_000123.json",
            pretty(&json!({"timestamp": "2025-11-18 03:03:00", "anything": {"x": 1}})),
            Expected::of(Kind::SystemState, 1, 1),
        );
        let decision =
            self.decision("2025-11-18T02:04:00Z", "charging", json!({"parameters": {"decision_score": 0.5}}));
        self.write(
            "out/energy_data/decision_20251118_030400_000123.json",
            pretty(&decision),
            Expected::of(Kind::Decision, 1, 1),
        );
    }

    fn era_c(&mut self) {
        let states = self.states("2025-12-02T21:00:00Z", 15, 314 * SECOND_US);
        let list: Vec<Value> = states.iter().map(|state| Value::Object(state.flat())).collect();
        self.write(
            "out/energy_data/energy_data_2025-12-02.json",
            pretty(&list.into()),
            Expected::of(Kind::Reading, 15, 15),
        );

        let held = self.states("2025-12-02T23:30:00Z", 2, MINUTE_US);
        let mut lines = String::new();
        for (minute, reading) in [(30, held[0]), (31, held[1]), (32, held[1])] {
            let state = self.state(&format!("2025-12-02T23:{minute}:30Z"), &reading);
            lines += &format!("{}\n", line(&state));
        }
        let expected =
            Expected::of(Kind::SystemState, 3, 3).and(Kind::Reading, 3, 2).repair(Rule::Misnamed, 3);
        self.write("out/coordinator_state_20251203.json", lines, expected);

        let mut lines = String::new();
        for minute in [10, 25, 41] {
            let extra = json!({"decision_type": "charging"});
            let decision = self.decision(&format!("2025-12-03T01:{minute}:38Z"), "charging", extra);
            lines += &format!("{}\n", line(&decision));
        }
        lines += "{\"timestamp\": \"2025-12-03T02:57:00\", \"action\": \"wa\n";
        let extra = json!({"type": "selling", "action": "battery_selling", "execution_success": false,
                           "execution_error": "Inverter not connected"});
        let selling = self.decision("2025-12-03T02:12:00Z", "selling", extra);
        // Killed while it wrote; its successor appended on the same line.
        lines += "{\"timestamp\": \"2025-12-03T03:10:00\", \"action\": \"wa";
        lines += &format!("{}\n", line(&selling));
        self.write(
            "out/charging_decision_20251203.json",
            lines,
            Expected::of(Kind::Decision, 4, 4).unread(2),
        );
    }

    fn era_d(&mut self) {
        let session = |n: i64| {
            json!({
                "session_id": format!("20251212_{n}"), "start_time": "2025-12-12 01:15:00", "end_time": "2025-12-12 03:15:00",
                "duration_hours": 2.0, "target_energy_kwh": 6.0, "status": "completed", "priority": n,
                "estimated_cost_pln": 2.4966, "estimated_savings_pln": 0.61, "created_at": "2025-12-11 06:00:00",
                "started_at": null, "completed_at": null, "actual_energy_kwh": null, "actual_cost_pln": null
            })
        };
        let plan = json!({
            "date": "2025-12-12", "total_sessions": 2, "total_duration_hours": 4.0, "total_estimated_energy_kwh": 12.0,
            "sessions": [session(1), session(2)], "created_at": "2025-12-11T06:00:00", "status": "active"
        });
        let whole = pretty(&plan);
        let expected = Expected::of(Kind::DailyPlan, 1, 1).and(Kind::Session, 2, 1);
        self.write("out/multi_session_data/daily_plan_20251212.json", &whole, expected);
        // The same session alone, in a file that comes first.
        let alone = pretty(&session(1));
        self.write("out/charging_schedule_2025-12-12.json", alone, Expected::of(Kind::Session, 1, 1));

        let cut = pretty(&json!({
            "date": "2025-11-30", "total_sessions": 2, "zsessions": []
        }));
        let cut = cut.replace(
            "\"zsessions\": []\n}",
            "\"sessions\": [\n    {\n      \"session_id\": \"20251130_1\",\n      \"start_time\": ",
        );
        let expected = Expected::of(Kind::DailyPlan, 1, 1).unread(1).repair(Rule::CutOff, 1);
        self.write("out/multi_session_data/daily_plan_20251130.json", cut, expected);

        let tracker = json!({"sessions": [
            {"timestamp": "2025-11-26T19:28:26.051202+01:00", "date": "2025-11-26"},
            {"timestamp": "2025-11-26T19:44:05.572985+01:00", "date": "2025-11-26"}
        ]});
        self.write(
            "data/partial_charging_sessions.json",
            pretty(&tracker),
            Expected::of(Kind::Session, 2, 2),
        );

        let analysis = json!({
            "date": "2025-08-31", "analysis": {"min_price": 116.83, "total_periods": 96},
            "charging_windows": [{"start_time": "2025-08-31T11:15:00", "end_time": "2025-08-31T15:15:00", "avg_price": 227.22}]
        });
        self.write(
            "out/charging_schedule_2025-08-31.json",
            pretty(&analysis),
            Expected::of(Kind::PriceSchedule, 1, 1),
        );

        let midnight = utc("2025-12-01T23:15:00Z").0 / 1000;
        let pair =
            |index: i64| json!([local(midnight + index * 15 * MINUTE_US), 0.3 + index as f64 / 1000.0]);
        // Fetched twice, and one price differs the second time.
        let mut pairs: Vec<Value> = (0..96).map(pair).chain((0..96).map(pair)).collect();
        pairs[100][1] = json!(0.9);
        // A first start put total prices before them, at the instants of decisions.
        let totals = [(-BOOTSTRAP_US, 0.5391), (-BOOTSTRAP_US + 938_000_001, 0.5812), (1, 0.61)];
        let total = |(offset_us, price): (i64, f64)| json!([local(midnight + offset_us), price]);
        pairs.splice(0..0, totals.map(total));
        let expected = Expected::of(Kind::MarketPrice, 195, 96).repair(Rule::PeriodEndAsTime, 96);
        self.write("data/price_history.json", pretty(&pairs.into()), expected);

        let forecast = json!({"timestamp": "2025-09-17T12:15:00", "forecasts": [
            {"timestamp": "2025-09-17T12:00:00", "forecasted_power_kw": 3.2, "forecasted_power_w": 3200, "confidence": 0.8},
            {"timestamp": "2025-09-17T13:00:00", "forecasted_power_kw": 2.8, "confidence": 0.8}
        ]});
        let expected = Expected::of(Kind::PvForecast, 2, 2).repair(Rule::WattsFromKilowatts, 1);
        self.write("out/energy_data/pv_forecast_20250917_121500.json", pretty(&forecast), expected);
        let day = json!({"date": "2025-12-02", "total_decisions": 92, "source_breakdown": {"unknown": 11}});
        self.write(
            "out/daily_snapshots/snapshot_20251202.json",
            pretty(&day),
            Expected::of(Kind::Snapshot, 1, 1),
        );
        let month = json!({"year": 2025, "month": 12, "total_decisions": 92, "daily_summaries": [day]});
        self.write(
            "out/monthly_snapshots/monthly_snapshot_202512.json",
            pretty(&month),
            Expected::of(Kind::Snapshot, 1, 1),
        );
        let drops = json!({"2025-12-02": 18.0, "2025-12-01": 20.0, "2025-11-30": "many"});
        // The third has no number: refused.
        let expected = Expected::of(Kind::SocDrop, 3, 2);
        self.write("data/daily_soc_drops.json", pretty(&drops), expected);
        let cache = json!({"price_data": {"prices": []}, "cache_timestamp": 1764712345.678});
        self.write("data/price_cache.json", pretty(&cache), Expected::default());
        let selling = json!([{
            "session_id": "selling_20251113_050000", "start_time": "2025-11-13 05:00:00.357334", "start_soc": 97.0,
            "energy_sold_kwh": 2.85, "revenue_pln": 2.4396
        }]);
        self.write(
            "out/battery_selling_analytics/session_records.json",
            pretty(&selling),
            Expected::of(Kind::Session, 1, 1),
        );
        // Since January 2026: kilowatts under the old name, a consumption that is always 0.
        let late = self.decision(
            "2026-01-07T11:00:00Z",
            "charging",
            json!({"pv_power": 2.345, "house_consumption": 0.0, "tariff_zone": "T1"}),
        );
        let expected =
            Expected::of(Kind::Decision, 1, 1).repair(Rule::KilowattsAsWatts, 1).repair(Rule::FalseZero, 1);
        self.write("out/charging_decision_20260107.json", format!("{late}\r\n"), expected);
        let states = self.states("2026-01-07T11:00:00Z", 2, 5 * MINUTE_US);
        let list: Vec<Value> = states
            .iter()
            .map(|state| {
                let mut flat = state.flat();
                flat.insert("pv_generation_total_kwh".to_owned(), json!(25.1));
                flat.insert("tariff_zone".to_owned(), json!("T1"));
                Value::Object(flat)
            })
            .collect();
        let expected = Expected::of(Kind::Reading, 2, 2).repair(Rule::DailyCounterAsTotal, 2);
        self.write("out/energy_data/energy_data_2026-01-07.json", pretty(&list.into()), expected);
    }

    fn damaged(&mut self) {
        let list =
            |states: &[State]| -> Value { states.iter().map(|state| Value::Object(state.flat())).collect() };
        let readings = |read, kept| Expected::of(Kind::Reading, read, kept);

        let states = self.states("2025-12-05T10:00:00Z", 2, 5 * MINUTE_US);
        let text = pretty(&list(&states)).replacen("396.4", "NaN", 1).replacen("231.5", "-Infinity", 1);
        let expected = readings(2, 2).repair(Rule::NotFinite, 2);
        self.write("out/energy_data/energy_data_2025-12-05.json", text, expected);

        let states = self.states("2025-12-06T10:00:00Z", 4, 5 * MINUTE_US);
        let text = pretty(&list(&states));
        let cut = text.rfind("grid_voltage").expect("a key of the last record");
        self.made.readings.remove(&states[3].key(DEVICE));
        self.write("out/energy_data/energy_data_2025-12-06.json", &text[..cut], readings(3, 3).unread(1));

        self.write("out/energy_data/energy_data_2025-12-07.json", "", Expected::default());
        self.write("out/energy_data/empty_object.json", "{}", Expected::default().unread(1));

        let states = self.states("2025-12-08T10:00:00Z", 1, MINUTE_US);
        let text = format!("\u{FEFF}{}", pretty(&list(&states)).replace('\n', "\r\n"));
        let expected = readings(1, 1).repair(Rule::ByteOrderMark, 1);
        self.write("out/energy_data/energy_data_2025-12-08.json", text, expected);

        let states = self.states("2025-12-09T10:00:00Z", 40, MINUTE_US);
        let gz = |text: &str| {
            let mut gz = GzEncoder::new(Vec::new(), Compression::default());
            gz.write_all(text.as_bytes()).and_then(|()| gz.finish()).expect("memory")
        };
        self.write(
            "out/energy_data/energy_data_2025-12-09.json.gz",
            gz(&pretty(&list(&states))),
            readings(40, 40),
        );

        // One record twice, and one with another value behind it: the later counts.
        let mut states = self.states("2025-12-10T10:00:00Z", 3, 5 * MINUTE_US);
        let mut later = states[1];
        later.pv_w += 1;
        self.must_come_out(&[later]);
        states.extend([states[0], later]);
        self.write("out/energy_data/energy_data_2025-12-10.json", pretty(&list(&states)), readings(5, 3));

        // Two pretty objects in one file, as a reader of the log might leave them.
        let states = self.states("2025-12-11T10:00:00Z", 2, 5 * MINUTE_US);
        let text = format!("{}\n{}", pretty(&states[0].nested(DEVICE)), pretty(&states[1].nested(DEVICE)));
        self.write("out/energy_data/current_data_20251211_110000.json", text, readings(2, 2));

        // The night of the dongle: registers of all ones, words for "not known", zeros that are none.
        let states = self.states("2025-12-12T02:00:00Z", 1, MINUTE_US);
        let mut record = states[0].nested(DEVICE);
        record["battery"]["soc_percent"] = json!(65535);
        record["battery"]["current"] = json!(6553.5);
        record["battery"]["power_w"] = json!("Unknown");
        record["battery"]["power_kw"] = json!(0.0);
        record["grid"]["total_exported_kwh"] = json!(429_496_729.5);
        record["house_consumption"]["daily_total_kwh"] = json!(null);
        let expected = readings(1, 1).repair(Rule::NoData, 3).repair(Rule::FalseZero, 1);
        self.write("out/energy_data/current_data_20251212_030000.json", pretty(&record), expected);

        let strange = "[\n  3,\n  {\n    \"timestamp\": \"yesterday\",\n    \"pv_power\": 3\n  },\n  {\n    \"timestamp\": \"2025-12-13T10:00:00\"\n  }\n]";
        self.write("out/energy_data/energy_data_2025-12-13.json", strange, readings(1, 0).unread(2));
    }

    fn clock_change(&mut self) {
        // 25 hours: every local time of the hour from two on comes twice.
        let start = utc("2025-10-25T22:00:00Z").0 / 1000;
        let states: Vec<State> = (0..300)
            .map(|index| State::random(&mut self.seed, start + index * 5 * MINUTE_US + 500_000))
            .collect();
        self.must_come_out(&states);
        let list: Vec<Value> = states.iter().map(|state| Value::Object(state.flat())).collect();
        self.write(
            "out/energy_data/energy_data_2025-10-26.json",
            pretty(&list.into()),
            Expected::of(Kind::Reading, 300, 300),
        );

        // A single file of that hour: nothing tells its pass. It is written as if of the first.
        let state = State::random(&mut self.seed, utc("2025-10-26T00:32:00Z").0 / 1000 + 700_000);
        self.must_come_out(&[state]);
        let expected = Expected::of(Kind::Reading, 1, 1).repair(Rule::FirstPassAssumed, 1);
        self.write(
            "out/energy_data/current_data_20251026_023200.json",
            pretty(&state.nested(DEVICE)),
            expected,
        );

        // A dump that begins in the second pass, after one that shows which pass it is.
        let start = utc("2025-10-26T00:50:00Z").0 / 1000;
        let states: Vec<State> =
            (0..25).map(|index| State::random(&mut self.seed, start + index * MINUTE_US + 250_000)).collect();
        self.must_come_out(&states);
        let dump = |states: &[State]| pretty(&states.iter().map(|state| state.nested(DEVICE)).collect());
        let readings = |read, kept| Expected::of(Kind::Reading, read, kept);
        // Its first ten records are of the hour's first pass, and nothing before them says so.
        let first = readings(20, 20).repair(Rule::FirstPassAssumed, 10);
        self.write("out/energy_data/historical_data_20251026_021000.json", dump(&states[..20]), first);
        self.write(
            "out/energy_data/historical_data_20251026_021500.json",
            dump(&states[12..]),
            readings(13, 5),
        );

        // A time that never was.
        let state = State::random(&mut self.seed, utc("2026-03-29T01:30:00Z").0 / 1000);
        self.must_come_out(&[state]);
        let mut record = state.nested(DEVICE);
        record["timestamp"] = json!("2026-03-29T02:30:00");
        let expected = readings(1, 1).repair(Rule::MissingHour, 1);
        self.write("out/energy_data/current_data_20260329_033000.json", pretty(&record), expected);
    }

    fn store(&mut self) {
        let states = self.states("2025-12-20T10:00:00Z", 8, 314 * SECOND_US);
        // Rows of the repeated hour, whose stamps prove the pass against the order.
        let twice = State::random(&mut self.seed, utc("2025-10-26T01:20:00Z").0 / 1000 + 123_456);
        self.must_come_out(&[twice]);
        let mut rows: Vec<(Value, String)> = [twice]
            .iter()
            .chain(&states)
            .map(|state| (Value::Object(state.flat()), stamp(state.at_us)))
            .collect();
        rows[3].0["pv_power"] = json!("Unknown");
        self.made.readings.remove(&states[2].key(DEVICE));
        let decisions: Vec<(Value, String)> = (0..5)
            .map(|index| {
                let at = format!("2025-12-20T11:{:02}:00Z", 10 * index);
                let decision = self.decision(&at, if index == 4 { "selling" } else { "charging" }, json!({}));
                let parameters = if index == 4 {
                    json!({"expected_revenue_pln": 2.5, "current_price_pln": 0.9, "confidence": 0.8})
                } else {
                    // A column counts before a member of its name.
                    json!({"confidence": 0.9, "current_price": 0.5, "battery_soc": 64, "action": "no column"})
                };
                (decision, parameters.to_string())
            })
            .collect();
        let folder = self.folder.to_owned();
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(write_store(&folder.join("data"), "goodwe_energy.db", &rows, &decisions));
        let expected = Expected::of(Kind::Reading, 9, 9)
            .and(Kind::Decision, 5, 5)
            .and(Kind::SystemState, 1, 1)
            .and(Kind::Session, 2, 2)
            .and(Kind::Weather, 1, 1)
            .and(Kind::PriceForecast, 1, 1)
            .and(Kind::PvForecast, 1, 1)
            .repair(Rule::NotMeasured, 1)
            .repair(Rule::Misnamed, 1)
            .repair(Rule::DailyCounterAsTotal, 9);
        self.made.files.insert("data/goodwe_energy.db".to_owned(), expected);
    }
}

/// SQLite's CURRENT_TIMESTAMP some seconds after the reading.
fn stamp(at_us: i64) -> String {
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at_us) * 1000 + 3_000_000_000).expect("a time");
    instant.to_string()[..19].replace('T', " ")
}

/// Writes a store and copies it while it is open, so that its last rows are in the log alone.
async fn write_store(folder: &Path, name: &str, rows: &[(Value, String)], decisions: &[(Value, String)]) {
    fs::create_dir_all(folder).expect("a folder for the store");
    let working = tempfile::tempdir().expect("a temporary folder");
    let path = working.path().join(name);
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("wal_autocheckpoint", "0")
        .disable_statement_logging();
    let mut store = SqliteConnection::connect_with(&options).await.expect("a store");
    for statement in SCHEMA {
        run(&mut store, statement, &[]).await;
    }
    let half = rows.len() / 2;
    put_readings(&mut store, &rows[..half]).await;
    run(&mut store, "PRAGMA wal_checkpoint(TRUNCATE)", &[]).await;
    put_readings(&mut store, &rows[half..]).await;
    for (decision, parameters) in decisions {
        let about = if parameters.contains("revenue") { Value::Null } else { json!("charging") };
        let values = [
            decision["timestamp"].clone(),
            about,
            decision["action"].clone(),
            json!("why"),
            json!(parameters),
        ];
        let sql = "INSERT INTO coordinator_decisions (timestamp, decision_type, action, reason, parameters) VALUES (?, ?, ?, ?, ?)";
        run(&mut store, sql, &values).await;
    }
    let metrics =
        json!({"performance_metrics": {"pv_efficiency": 100}, "decision_count": 4, "uptime_seconds": 12.5});
    run(
        &mut store,
        "INSERT INTO system_state (timestamp, state, uptime, metrics) VALUES (?, ?, ?, ?)",
        &[json!("2025-12-20T12:00:00.5"), json!("monitoring"), json!(12.5), json!(metrics.to_string())],
    )
    .await;
    for statement in ROWS {
        run(&mut store, statement, &[]).await;
    }
    let wal = PathBuf::from(format!("{}-wal", path.display()));
    assert!(fs::metadata(&wal).expect("a log").len() > 0, "rows must be in the log");
    for suffix in ["", "-wal"] {
        let from = format!("{}{suffix}", path.display());
        fs::copy(from, folder.join(format!("{name}{suffix}"))).expect("a copy of the store");
    }
    store.close().await.expect("a store that closes");
}

async fn put_readings(store: &mut SqliteConnection, rows: &[(Value, String)]) {
    for (row, created_at) in rows {
        let columns =
            ["timestamp", "battery_soc", "pv_power", "grid_power", "house_consumption", "battery_power"];
        let mut values: Vec<Value> = columns.iter().map(|column| row[*column].clone()).collect();
        values.push(json!(created_at));
        let sql = "INSERT OR REPLACE INTO energy_data (timestamp, battery_soc, pv_power, grid_power, house_consumption, \
                   battery_power, pv_generation_total_kwh, created_at) VALUES (?, ?, ?, ?, ?, ?, 12.5, ?)";
        run(store, sql, &values).await;
    }
}

async fn run(store: &mut SqliteConnection, sql: &'static str, values: &[Value]) {
    let mut query = sqlx::query(sql);
    for value in values {
        query = match value {
            Value::Null => query.bind(None::<String>),
            Value::Number(number) if number.is_i64() => query.bind(number.as_i64()),
            Value::Number(number) => query.bind(number.as_f64()),
            other => query.bind(other.as_str().map(str::to_owned)),
        };
    }
    query.execute(store).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// The optimiser's schema, version 4, as far as the columns matter.
const SCHEMA: &[&str] = &[
    "CREATE TABLE schema_version (version INTEGER PRIMARY KEY, applied_at TEXT, description TEXT)",
    "INSERT INTO schema_version (version, description) VALUES (3, 'before'), (4, 'last')",
    "CREATE TABLE energy_data (timestamp TEXT PRIMARY KEY, battery_soc REAL, pv_power INTEGER, grid_power INTEGER, \
     house_consumption INTEGER, battery_power INTEGER, grid_voltage REAL, grid_frequency REAL, battery_voltage REAL, \
     battery_current REAL, battery_temperature REAL, price_pln REAL, grid_import_total_kwh REAL, \
     grid_export_total_kwh REAL, house_consumption_total_kwh REAL, pv_generation_total_kwh REAL, tariff_zone TEXT, \
     created_at TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE system_state (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, state TEXT, uptime REAL, \
     active_modules TEXT, last_error TEXT, metrics TEXT, created_at TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE coordinator_decisions (id INTEGER PRIMARY KEY AUTOINCREMENT, timestamp TEXT NOT NULL, \
     decision_type TEXT, action TEXT, reason TEXT, parameters TEXT, source_module TEXT, \
     created_at TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE charging_sessions (session_id TEXT PRIMARY KEY, start_time TEXT NOT NULL, end_time TEXT, \
     target_soc INTEGER, energy_kwh REAL, cost_pln REAL, status TEXT, avg_price REAL, created_at TEXT)",
    "CREATE TABLE battery_selling_sessions (session_id TEXT PRIMARY KEY, start_time TEXT NOT NULL, end_time TEXT, \
     energy_sold_kwh REAL, revenue_pln REAL, avg_price REAL, status TEXT, created_at TEXT)",
    "CREATE TABLE weather_data (timestamp TEXT NOT NULL PRIMARY KEY, source TEXT, temperature REAL, humidity REAL, \
     pressure REAL, wind_speed REAL, wind_direction REAL, cloud_cover REAL, solar_irradiance REAL, precipitation REAL)",
    "CREATE TABLE price_forecasts (timestamp TEXT NOT NULL, forecast_date TEXT NOT NULL, hour INTEGER, price_pln REAL, \
     source TEXT, confidence REAL, PRIMARY KEY (forecast_date, hour, source))",
    "CREATE TABLE pv_forecasts (timestamp TEXT NOT NULL, forecast_date TEXT NOT NULL, hour INTEGER, \
     predicted_power_w REAL, source TEXT, confidence REAL, weather_conditions TEXT, \
     PRIMARY KEY (forecast_date, hour, source))",
];

const ROWS: &[&str] = &[
    "INSERT INTO charging_sessions (session_id, start_time, end_time, status) \
     VALUES ('20251220_1', '2025-12-20T02:00:00', '2025-12-20T04:00:00', 'completed')",
    "INSERT INTO battery_selling_sessions (session_id, start_time, energy_sold_kwh, revenue_pln) \
     VALUES ('selling_1', '2025-12-20 17:00:00', 2.0, 1.8)",
    "INSERT INTO weather_data (timestamp, source, temperature, cloud_cover) VALUES ('2025-12-20T12:00:00', 'IMGW', -3.5, 80)",
    "INSERT INTO price_forecasts VALUES ('2025-12-20T06:00:00', '2025-12-21', 17, 0.81, 'pse', 0.9)",
    "INSERT INTO pv_forecasts VALUES ('2025-12-20T06:00:00', '2025-12-21', 12, 4200.0, 'pattern', 0.7, 'clear')",
];
