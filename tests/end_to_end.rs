//! From registers to answers: a simulated inverter on a real socket, the real binary, and what it answers over HTTP.
//!
//! The plant's clock is ours and stands still within a phase, so every value that comes back can be compared with what was served.
//! Between phases the binary is killed, stopped or made to seal, so the answers come from the log alone, from
//! segments alone, and from both.

mod support;

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{PATIENCE, Server};
use tokio_util::sync::CancellationToken;
use wattlog_collector::simulator::{Faults, Place, Plant, Simulator, SimulatorOptions, Source, plant_point};
use wattlog_model::{FieldValue, ManualClock, Timestamp};

const DEVICE: &str = "roof";
const LOCATION: &str = "home";
/// 2026-06-15T09:00:00Z: daylight, so that no field is zero by accident.
const NOON: Timestamp = Timestamp(1_781_514_000_000_000_000);

/// Fields of one point by name.
type Row = BTreeMap<String, Value>;

struct Inverter {
    plant: Plant,
    clock: Arc<ManualClock>,
    address: SocketAddr,
    over: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Inverter {
    fn start() -> Self {
        let plant = Plant::new(7, Place::default()).commissioned(NOON);
        let clock = Arc::new(ManualClock::new(NOON));
        let over = CancellationToken::new();
        let (sender, receiver) = std::sync::mpsc::channel();
        let options = SimulatorOptions {
            tcp: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            udp: None,
            discovery: None,
            source: Source::Live { plant: plant.clone(), clock: clock.clone() },
            faults: Faults::default(),
        };
        let until = over.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let simulator = Simulator::bind(options).await.unwrap();
                sender.send(simulator.tcp_addr().unwrap()).unwrap();
                simulator.run(until).await.unwrap();
            });
        });
        Self { plant, clock, address: receiver.recv().unwrap(), over, thread: Some(thread) }
    }

    /// What a poll at that moment of the plant's clock must give.
    fn expected(&self, moment: Timestamp) -> Row {
        let point = plant_point(DEVICE, LOCATION, &self.plant.at(moment));
        point.fields.into_iter().map(|(name, value)| (name, json(&value))).collect()
    }

    fn config(&self) -> String {
        format!(
            "collector:\n  system_metrics: {{ enabled: false }}\n  devices:\n    - {{ id: {DEVICE}, location: {LOCATION}, \
             host: 127.0.0.1, port: {}, interval: 1s }}\n",
            self.address.port()
        )
    }
}

impl Drop for Inverter {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn json(value: &FieldValue) -> Value {
    plain(serde_json::to_value(value).unwrap())
}

/// A number as a double: JSON knows one kind of number, and a whole one is written without its `.0`.
fn plain(value: Value) -> Value {
    value.as_f64().map_or(value, Value::from)
}

/// All rows of the device, oldest first, fields that are not null.
fn rows(server: &Server) -> Vec<Row> {
    let (status, answer) = server
        .try_get(&format!(
            "/api/v1/query?measurement=energy_data&start=2020-01-01T00:00:00Z&end=2200-01-01T00:00:00Z&tag.device_id={DEVICE}"
        ))
        .expect("an answer");
    if status == 404 {
        // The first point makes the database.
        return Vec::new();
    }
    assert_eq!(status, 200, "{answer}");
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["partial"], false);
    let Some(series) = answer["series"].get(0) else { return Vec::new() };
    assert_eq!(series["tags"]["location"], LOCATION);
    assert_eq!(series["tags"]["data_source"], "goodwe");
    let columns = series["columns"].as_array().unwrap();
    let values = series["values"].as_array().unwrap();
    let count = values[0].as_array().unwrap().len();
    (0..count)
        .map(|row| {
            let cells = columns.iter().zip(values).skip(1).map(|(name, values)| (name, &values[row]));
            cells
                .filter(|(_, value)| !value.is_null())
                .map(|(n, v)| (n.as_str().unwrap().into(), plain(v.clone())))
                .collect()
        })
        .collect()
}

/// Waits until two more rows equal to `expected` are there.
fn wait_for_rows(server: &Server, expected: &Row) {
    let begin = equal_rows(&rows(server), expected);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let rows = rows(server);
        if equal_rows(&rows, expected) >= begin + 2 {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "no two polls of this phase; the last: {}",
            difference(&rows, expected)
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// How the newest row differs from what was served.
fn difference(rows: &[Row], expected: &Row) -> String {
    let Some(row) = rows.last() else { return "nothing was stored".to_owned() };
    let names: BTreeSet<&String> = row.keys().chain(expected.keys()).collect();
    let differing = names.into_iter().filter(|name| row.get(*name) != expected.get(*name));
    differing.map(|name| format!("{name}: {:?}, served {:?}; ", row.get(name), expected.get(name))).collect()
}

fn equal_rows(rows: &[Row], expected: &Row) -> usize {
    rows.iter().filter(|row| *row == expected).count()
}

/// Every row is what the plant served in some phase; at the seam of two phases a row may hold values of both.
fn compare(server: &Server, phases: &[Row], what: &str) -> usize {
    let rows = rows(server);
    let mut phase = 0;
    for (number, row) in rows.iter().enumerate() {
        while row != &phases[phase] && phase + 1 < phases.len() && !is_seam(row, phases, phase) {
            phase += 1;
        }
        let fits = row == &phases[phase] || is_seam(row, phases, phase);
        assert!(fits, "{what}: row {number} is {row:?}, served was {:?}", phases[phase]);
    }
    for (number, phase) in phases.iter().enumerate() {
        assert!(equal_rows(&rows, phase) >= 2, "{what}: phase {number} has no two rows");
    }
    rows.len()
}

fn is_seam(row: &Row, phases: &[Row], phase: usize) -> bool {
    let Some(next) = phases.get(phase + 1) else { return false };
    let here = &phases[phase];
    row != next
        && row.iter().all(|(name, value)| here.get(name) == Some(value) || next.get(name) == Some(value))
}

#[test]
fn what_the_inverter_served_is_what_is_answered_across_kills_and_restarts() {
    let inverter = Inverter::start();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut phases = vec![inverter.expected(NOON)];
    assert!(phases[0].len() > 20, "a point of a hybrid inverter has many fields: {:?}", phases[0]);

    // The log alone: nothing was sealed yet.
    let server = Server::start(&data, &inverter.config());
    wait_for_rows(&server, &phases[0]);
    assert_eq!(segments(&server), 0);
    let before = compare(&server, &phases, "log alone");
    server.kill();
    let server = Server::start(&data, &inverter.config());
    assert!(compare(&server, &phases, "log alone, after kill -9") >= before);

    // Segments alone, in the running process and after a clean restart.
    next_phase(&inverter, &mut phases);
    wait_for_rows(&server, phases.last().unwrap());
    assert_eq!(server.post("/api/v1/admin/seal", b"").0, 200);
    assert!(segments(&server) > 0);
    let before = compare(&server, &phases, "segments");
    assert!(server.stop().success());
    let server = Server::start(&data, "collector: { system_metrics: { enabled: false } }");
    assert_eq!(server.post("/api/v1/admin/seal", b"").0, 200);
    assert!(compare(&server, &phases, "segments alone, after a clean restart") >= before);
    let before = rows(&server);
    server.kill();

    // Both: sealed history and a log that is not.
    let server = Server::start(&data, &inverter.config());
    assert!(rows(&server).starts_with(&before), "segments alone, after kill -9");
    next_phase(&inverter, &mut phases);
    wait_for_rows(&server, phases.last().unwrap());
    assert!(segments(&server) > 0);
    let before = compare(&server, &phases, "segments and log");
    server.kill();
    let server = Server::start(&data, &inverter.config());
    assert!(compare(&server, &phases, "segments and log, after kill -9") >= before);
    assert!(server.stop().success());
    let server = Server::start(&data, "collector: { system_metrics: { enabled: false } }");
    assert!(compare(&server, &phases, "segments and log, after a clean restart") >= before);

    // Units came with the points, and the newest value is the newest row's.
    let measurement = server.get("/api/v1/measurements/energy_data");
    let fields = measurement["fields"].as_array().unwrap();
    let pv = fields.iter().find(|field| field["name"] == "pv_power").expect("pv_power is known");
    assert_eq!(pv["unit"], "W");
    let last = server.get("/api/v1/last?measurement=energy_data&fields=pv_power");
    assert_eq!(plain(last["series"][0]["values"][1][0].clone()), phases.last().unwrap()["pv_power"]);
    assert!(server.stop().success());
}

/// Moves the plant's clock by an hour: powers, counters and temperatures change.
fn next_phase(inverter: &Inverter, phases: &mut Vec<Row>) {
    inverter.clock.advance(Duration::from_secs(3600));
    let moment = Timestamp(NOON.0 + phases.len() as i64 * 3_600_000_000_000);
    let row = inverter.expected(moment);
    assert_ne!(&row, phases.last().unwrap());
    phases.push(row);
}

fn segments(server: &Server) -> u64 {
    server.get("/api/v1/storage")["segments"].as_u64().expect("a number of segments")
}
