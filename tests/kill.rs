//! `kill -9` of the real binary under load: what was acknowledged is there after the restart, and nothing else but
//! whole bodies that were on their way.
//!
//! Four writers send bodies of many rows, some of them for the first time, some over older rows with new values. A killed process leaves
//! the page cache alive, so this proves the protocol and the recovery, not the syncs: those are proved on the simulated disk.
//!
//! `WATTLOG_KILLS` sets how many, `WATTLOG_SEED` which.

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Dice, Server, knob, request};

const WRITERS: u64 = 4;
const ROWS: u64 = 120;
const START_NS: u64 = 1_780_272_000_000_000_000;
const CONFIG: &str =
    "collector: { system_metrics: { enabled: false } }\nengine: { memtable: 1MiB, wal: 1MiB }\n";

/// What a writer knows of one of its bodies.
#[derive(Debug, Clone, Copy, Default)]
struct Known {
    /// Newest generation that was acknowledged; 0 is none.
    acked: u64,
    /// Newest generation that was sent.
    sent: u64,
}

type Ledger = Arc<Mutex<BTreeMap<(u64, u64), Known>>>;

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let kills = knob("WATTLOG_KILLS", 10);
    let seed = knob("WATTLOG_SEED", 1);
    println!("kill: {kills} kills, seed {seed}");
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ledger = Ledger::default();
    let mut dice = Dice(seed);
    let mut server = Server::start(&data, CONFIG);
    for round in 0..kills {
        let over = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (address, ledger, over) = (server.address.clone(), ledger.clone(), over.clone());
                let dice = Dice(seed ^ (round << 8) ^ (writer << 32));
                std::thread::spawn(move || write_until(&over, &address, writer, &ledger, dice))
            })
            .collect();
        // A quarter of the kills fall into the first moments, where files are made; a third right after a seal began.
        let pause = if dice.roll(4) == 0 { dice.roll(20) } else { 50 + dice.roll(400) };
        std::thread::sleep(Duration::from_millis(pause));
        if dice.roll(3) == 0 {
            let address = server.address.clone();
            std::thread::spawn(move || request(&address, "POST", "/api/v1/admin/seal", b""));
            std::thread::sleep(Duration::from_millis(dice.roll(15)));
        }
        server.kill();
        over.store(true, Ordering::Relaxed);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        server = Server::start(&data, CONFIG);
        compare(&server, &ledger, round);
    }
    let known = ledger.lock().unwrap();
    let acked = known.values().filter(|body| body.acked > 0).count();
    assert!(acked as u64 > kills, "only {acked} bodies were acknowledged: this run proves nothing");
    println!("kill: {acked} bodies of {ROWS} rows acknowledged, all there after {kills} kills");
    assert!(server.stop().success());
}

#[test]
fn a_cursor_of_changes_goes_on_after_kill_9() {
    const HOUR_S: u64 = 3600;
    /// 2020-01-01: in the past by any clock.
    const FIRST_S: u64 = 1_577_836_800;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = "collector: { system_metrics: { enabled: false } }\n";
    let write = |server: &Server, second: u64| {
        let line = format!("load v={second} {}\n", FIRST_S + second);
        let (status, body) = server.post("/write?db=kill&precision=s", line.as_bytes());
        assert_eq!(status, 204, "{body}");
    };
    let ask = |server: &Server, more: &str| {
        let answer = server.get(&format!("/api/v1/changes?measurement=load&every=1h&tz=UTC{more}"));
        let cursor = answer["cursor"].as_str().unwrap().to_owned();
        let told = answer["events"].as_array().unwrap().iter().map(|event| {
            let hour = |name: &str| event[name].as_u64().unwrap() / 1000 - FIRST_S;
            assert_eq!(hour("end"), hour("start") + HOUR_S, "{event}");
            format!("{} {}", event["event"].as_str().unwrap(), hour("start") / HOUR_S)
        });
        (told.collect::<Vec<_>>(), cursor)
    };
    let server = Server::start(&data, config);
    write(&server, 0);
    let (told, cursor) = ask(&server, "&wait=0s");
    assert_eq!(told, [""; 0]);
    write(&server, 2 * HOUR_S);
    let (told, cursor) = ask(&server, &format!("&wait=30s&after={cursor}"));
    assert_eq!(told, ["finished 0", "finished 1"]);
    write(&server, HOUR_S / 2);
    write(&server, 3 * HOUR_S);
    server.kill();
    let server = Server::start(&data, config);
    write(&server, HOUR_S + 1);
    let (told, cursor) = ask(&server, &format!("&wait=30s&after={cursor}"));
    assert_eq!(told, ["revised 0", "finished 2", "revised 1"]);
    assert_eq!(ask(&server, &format!("&wait=0s&after={cursor}")).0, [""; 0]);
    assert!(server.stop().success());
}

fn write_until(over: &AtomicBool, address: &str, writer: u64, ledger: &Ledger, mut dice: Dice) {
    while !over.load(Ordering::Relaxed) {
        let (body, generation) = {
            let mut known = ledger.lock().unwrap();
            let next = known
                .range((writer, 0)..=(writer, u64::MAX))
                .next_back()
                .map_or(0, |((_, body), _)| body + 1);
            let body = if next > 0 && dice.roll(5) == 0 { dice.roll(next) } else { next };
            let entry = known.entry((writer, body)).or_default();
            entry.sent += 1;
            (body, entry.sent)
        };
        let mut text = String::new();
        for row in 0..ROWS {
            let time = START_NS + (body * ROWS + row) * 1_000_000_000;
            text.push_str(&format!("load,writer=w{writer} generation={generation}i,row={row} {time}\n"));
        }
        match request(address, "POST", "/write?db=kill&precision=ns", text.as_bytes()) {
            Ok((204, _)) => ledger.lock().unwrap().get_mut(&(writer, body)).unwrap().acked = generation,
            Ok((503, _)) | Err(_) => {}
            Ok((status, body)) => panic!("{status}: {body}"),
        }
    }
}

/// Every acknowledged body is there whole, in its acknowledged generation or a later one that was sent; no row is invented.
fn compare(server: &Server, ledger: &Ledger, round: u64) {
    let known = ledger.lock().unwrap();
    for writer in 0..WRITERS {
        let rows = stored(server, writer);
        let mut bodies: BTreeMap<u64, Vec<(u64, f64, u64)>> = BTreeMap::new();
        for (time, generation, row) in rows {
            let index = (time - START_NS) / 1_000_000_000;
            bodies.entry(index / ROWS).or_default().push((index % ROWS, row, generation));
        }
        for (&(_, body), known) in known.range((writer, 0)..=(writer, u64::MAX)) {
            let Some(rows) = bodies.remove(&body) else {
                assert_eq!(
                    known.acked, 0,
                    "round {round}: body {body} of writer {writer} was acknowledged and is gone"
                );
                continue;
            };
            let generation = rows[0].2;
            assert!(
                (known.acked..=known.sent).contains(&generation) && generation > 0,
                "round {round}: body {body} of writer {writer} has generation {generation}, expected {known:?}"
            );
            let whole = rows.len() as u64 == ROWS
                && rows.iter().enumerate().all(|(i, row)| *row == (i as u64, i as f64, generation));
            assert!(whole, "round {round}: body {body} of writer {writer} is not whole: {rows:?}");
        }
        assert!(bodies.is_empty(), "round {round}: rows nobody sent: {:?}", bodies.keys());
    }
}

fn stored(server: &Server, writer: u64) -> Vec<(u64, u64, f64)> {
    let target = format!(
        "/api/v1/query?db=kill&measurement=load&fields=generation,row&start={START_NS}ns&end=2100-01-01T00:00:00Z\
         &tag.writer=w{writer}&time_format=ns"
    );
    let (status, body) = server.try_get(&target).expect("an answer");
    if status == 404 {
        return Vec::new();
    }
    assert_eq!(status, 200, "{body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(answer["partial"], false, "{body}");
    let Some(series) = answer["series"].get(0) else { return Vec::new() };
    let column = |name: &str| {
        let place = series["columns"].as_array().unwrap().iter().position(|column| column == name).unwrap();
        series["values"][place].as_array().unwrap().clone()
    };
    let (times, generations, rows) = (column("time"), column("generation"), column("row"));
    times
        .iter()
        .zip(&generations)
        .zip(&rows)
        .map(|((time, generation), row)| {
            (time.as_str().unwrap().parse().unwrap(), generation.as_u64().unwrap(), row.as_f64().unwrap())
        })
        .collect()
}
