//! Alerts of the real binary: over `kill -9` each event reaches its channel, and none after the mark that it was acknowledged;
//! rules of every kind look at what was really written.

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use support::{Dice, Server, knob, wattlog};

/// Key of each message that was taken whole, and whether it was acknowledged.
type Heard = Arc<Mutex<Vec<(String, bool)>>>;

/// A receiver that fails twice of five times: once with 500, once by ending the connection after it took the body.
fn receiver() -> (SocketAddr, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Heard::default();
    let told = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            // One that was killed while it sent is no message.
            let _broken = take(stream, &told);
        }
    });
    (address, heard)
}

/// The idempotency key of a request, if it has one, and its body.
fn message(stream: &TcpStream) -> std::io::Result<(String, Value)> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reading = BufReader::new(stream.try_clone()?);
    let (mut key, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reading.read_line(&mut line)?;
        let line = line.trim().to_owned();
        match line.split_once(": ") {
            None if line.is_empty() => break,
            None => {}
            Some((name, value)) => match name.to_ascii_lowercase().as_str() {
                "idempotency-key" => key = value.to_owned(),
                "content-length" => length = value.parse().unwrap(),
                _ => {}
            },
        }
    }
    let mut body = vec![0; length];
    reading.read_exact(&mut body)?;
    Ok((key, serde_json::from_slice(&body)?))
}

fn take(mut stream: TcpStream, heard: &Heard) -> std::io::Result<()> {
    let (key, body) = message(&stream)?;
    assert_eq!(body["key"], key);
    let mut heard = heard.lock().unwrap();
    let turn = heard.len() % 5;
    heard.push((key, !matches!(turn, 1 | 3)));
    drop(heard);
    match turn {
        1 => Ok(()),
        3 => stream.write_all(
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        ),
        _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
    }
}

fn write_soc(server: &Server, percent: u32) {
    let line = format!("energy_data,device_id=roof battery_soc={percent}\n");
    let (status, body) = server.post("/write?db=wattlog", line.as_bytes());
    assert_eq!(status, 204, "{body}");
}

#[test]
fn each_event_reaches_its_channel_over_kill_9_and_none_after_its_mark() {
    let kills = knob("WATTLOG_KILLS", 6);
    let mut dice = Dice(knob("WATTLOG_SEED", 1));
    let (address, heard) = receiver();
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = format!(
        "collector: {{ system_metrics: {{ enabled: false }} }}\n\
         alerts:\n  interval: 1s\n  retry: {{ first: 100ms, longest: 1s, attempts: 100 }}\n  \
         channels: {{ hook: {{ webhook: {{ url: \"http://{address}/s3cret\" }}, timeout: 1s }} }}\n"
    );
    let mut server = Server::start(&data, &config);
    write_soc(&server, 50);
    let rule = json!({"name": "battery low", "severity": "warning", "enabled": true, "channels": ["hook"],
        "definition": {"input": {"field": {"measurement": "energy_data", "field": "battery_soc"}}, "condition": {"below": {"fire": 10, "clear": 20}}}});
    let (status, body) = server.post("/api/v1/alerts/rules", rule.to_string().as_bytes());
    assert_eq!(status, 201, "{body}");
    // What a rule begins with is the newest value: after it none is left out.
    std::thread::sleep(Duration::from_millis(1500));
    for round in 0..kills {
        write_soc(&server, if round % 2 == 0 { 5 } else { 60 });
        std::thread::sleep(Duration::from_millis(dice.roll(1800)));
        server.kill();
        server = Server::start(&data, &config);
    }
    let keys = wait_until_delivered(&server, kills as usize);
    let mut acknowledged: BTreeMap<String, u64> = BTreeMap::new();
    for (key, _) in heard.lock().unwrap().iter().filter(|(_, yes)| *yes) {
        *acknowledged.entry(key.clone()).or_default() += 1;
    }
    assert_eq!(acknowledged.keys().cloned().collect::<BTreeSet<_>>(), keys);
    // One that was acknowledged twice has a kill between its acknowledgement and its mark.
    let again: u64 = acknowledged.values().map(|times| times - 1).sum();
    println!(
        "{} events, {} messages, {again} acknowledged twice after {kills} kills",
        keys.len(),
        heard.lock().unwrap().len()
    );
    assert!(again <= kills);
    let before = heard.lock().unwrap().len();
    assert!(server.stop().success());
    let server = Server::start(&data, &config);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(heard.lock().unwrap().len(), before);

    // The channel can be tried by hand, and is shown without its address.
    let file = folder.path().join("wattlog.yaml");
    let run = |words: &[&str]| {
        let output = wattlog(folder.path()).args(words).arg("--config").arg(&file).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let tested: Vec<_> = (0..5).map(|_| run(&["alert", "test", "hook"])).collect();
    assert_eq!(
        tested.iter().filter(|(code, text)| *code == Some(0) && text == "hook: acknowledged\n").count(),
        3,
        "{tested:?}"
    );
    assert_eq!(tested.iter().filter(|(code, _)| *code == Some(69)).count(), 2, "{tested:?}");
    assert_eq!(run(&["alert", "test", "nowhere"]).0, Some(78));
    let (code, shown) = run(&["config", "print"]);
    assert!(code == Some(0) && shown.contains("hook") && !shown.contains("s3cret"), "{shown}");
    assert!(server.stop().success());
}

/// A server that takes every message and remembers its JSON.
fn listener() -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let (_, body) = message(&stream).unwrap();
            told.lock().unwrap().push(body);
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\nconnection: close\r\n\r\n{\"id\":\"m1\"}";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    (address, heard)
}

#[test]
fn a_rule_of_every_kind_fires_by_what_was_written() {
    let (address, heard) = listener();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "collector: {{ system_metrics: {{ enabled: false }} }}\n\
         alerts:\n  interval: 1s\n  channels: {{ phone: {{ ntfy: {{ url: \"http://{address}\", topic: home }} }} }}\n"
    );
    let server = Server::start(&folder.path().join("data"), &config);
    let tariff = json!({"name": "sale", "direction": "export", "valid_from": "2020-01-01T00:00:00Z", "currency": "PLN",
        "definition": {"sold": true, "energy": {"fixed_pln_kwh": 0.1}}});
    let (status, body) = server.post("/api/v1/tariffs", tariff.to_string().as_bytes());
    assert_eq!(status, 201, "{body}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut lines = format!("energy_data,device_id=gone battery_soc=50 {}\n", now - 30);
    for (ago, pv) in [(60, 0), (40, 0), (1, 1000)] {
        lines += &format!("energy_data,device_id=roof pv_power={pv} {}\n", now - ago);
    }
    // Half of what is expected of it.
    for ago in (0..900).step_by(20) {
        lines += &format!("energy_data,device_id=slow grid_power=1 {}\n", now - ago);
    }
    let (status, body) = server.post("/write?db=wattlog&precision=s", lines.as_bytes());
    assert_eq!(status, 204, "{body}");
    let second = 1_000_000_000_u64;
    let field = |device: &str, field: &str| json!({"field": {"measurement": "energy_data", "tags": {"device_id": device}, "field": field}});
    let rules = [
        (
            "absence",
            field("gone", "battery_soc"),
            json!({"absent": {"longer_than_ns": 20 * second}}),
            json!({}),
        ),
        (
            "rate",
            field("roof", "pv_power"),
            json!({"rising": {"fire": 1000, "clear": 100, "over_ns": 100 * second}}),
            json!({}),
        ),
        (
            "quality",
            json!({"quality": {"measurement": "energy_data", "tags": {"device_id": "slow"}, "field": "grid_power", "figure": "completeness"}}),
            json!({"below": {"fire": 0.7, "clear": 0.9}}),
            json!({"window_ns": 300 * second, "interval_ns": 10 * second}),
        ),
        (
            "storage",
            json!({"storage": {"figure": "free_bytes"}}),
            json!({"below": {"fire": 1e18, "clear": 2e18}}),
            json!({}),
        ),
        (
            "price",
            json!({"price": {"figure": "export"}}),
            json!({"below": {"fire": 0.2, "clear": 0.3}}),
            json!({}),
        ),
    ];
    for (name, input, condition, quality) in &rules {
        let mut definition = json!({ "input": input, "condition": condition });
        if *name == "quality" {
            definition["quality"] = quality.clone();
        }
        let rule = json!({"name": name, "severity": "warning", "enabled": true, "channels": ["phone"], "definition": definition});
        let (status, body) = server.post("/api/v1/alerts/rules", rule.to_string().as_bytes());
        assert_eq!(status, 201, "{body}");
    }
    let wanted: BTreeSet<String> = rules.iter().map(|(name, ..)| format!("{name}: firing")).collect();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let messages = heard.lock().unwrap().clone();
        let titles: BTreeSet<String> =
            messages.iter().map(|message| message["title"].as_str().unwrap().to_owned()).collect();
        if titles == wanted {
            assert_eq!(messages.len(), wanted.len(), "each once: {messages:?}");
            break;
        }
        assert!(Instant::now() < deadline, "{titles:?}: {}", server.get("/api/v1/alerts/status"));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(server.stop().success());
}

/// Waits for so many events and their deliveries; gives the keys. A claim of a killed process holds for half a minute.
fn wait_until_delivered(server: &Server, count: usize) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(90);
    loop {
        let events = server.get("/api/v1/alerts/events?order=asc");
        let deliveries = server.get("/api/v1/alerts/deliveries");
        let (events, deliveries) =
            (events["records"].as_array().unwrap(), deliveries["records"].as_array().unwrap());
        assert!(events.len() <= count, "{events:?}");
        let is_done = deliveries.iter().all(|one| one["status"] == "delivered");
        if events.len() == count && deliveries.len() == count && is_done {
            let states: Vec<&str> = events.iter().map(|event| event["state"].as_str().unwrap()).collect();
            let turns = (0..count).map(|place| if place % 2 == 0 { "firing" } else { "resolved" });
            assert_eq!(states, turns.collect::<Vec<_>>());
            return events.iter().map(|event| event["event_key"].as_str().unwrap().to_owned()).collect();
        }
        assert!(Instant::now() < deadline, "{events:?} {deliveries:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
