//! What every kind of record has in common: an answer can be told again, removed, listed as CSV, and its history goes on.

use super::records::{home, home_with};
use crate::support::{Setup, request};
use serde_json::{Value, json};
use wattlog_ledger::Actor;
use wattlog_ledger::schema::Annotation;
use wattlog_server::Size;

/// A kind: its route, two records, a field, its value after a change, and a parameter that finds the first record.
struct Kind {
    many: &'static str,
    records: [Value; 2],
    field: &'static str,
    changed: Value,
    filter: &'static str,
}

fn kinds() -> Vec<Kind> {
    let session = |id: &str, kind: &str| {
        json!({"session_id": id, "kind": kind, "start": "2026-02-01T10:00:00Z", "end": "2026-02-01T11:00:00Z", "source": "grid",
            "status": "completed", "energy_kwh": 4.25, "priority": 2, "details": {"a": [1, {"b": null}]}})
    };
    let decision = |key: &str, action: &str| {
        json!({"decision_key": key, "at": "2026-02-01T10:00:00.123456789Z", "kind": "charging", "action": action, "origin": "reported",
            "price_kwh": 0.4321, "cheapest_hour": 3, "repairs": [{"rule": "x"}]})
    };
    let report = |device: &str, data: Value| {
        json!({"report_type": "quality", "device_id": device, "start": "2026-02-01T00:00:00Z", "end": "2026-02-02T00:00:00Z",
            "time_zone": "Europe/Warsaw", "data": data, "origin": "imported"})
    };
    let tariff = |direction: &str, builtin: &str| {
        json!({"name": "flat", "direction": direction, "valid_from": "2026-01-01T00:00:00Z",
            "definition": {"builtin": builtin}})
    };
    let device = |id: &str, kind: &str| json!({"device_id": id, "kind": kind, "rated_power_w": 10000, "settings": {"x": 1}});
    let rule = |name: &str, severity: &str| {
        json!({"name": name, "severity": severity, "enabled": true, "channels": ["mail"],
            "definition": {"kind": "absence", "measurement": "energy_data", "field": "pv_power", "for": "10m"}})
    };
    vec![
        Kind {
            many: "/api/v1/sessions",
            records: [session("s1", "charging"), session("s2", "selling")],
            field: "battery_soc_end",
            changed: json!(81.5),
            filter: "session_id=s1",
        },
        Kind {
            many: "/api/v1/decisions",
            records: [decision("d1", "charge"), decision("d2", "wait")],
            field: "reason",
            changed: json!("it was, \"cheap\""),
            filter: "action=charge",
        },
        Kind {
            many: "/api/v1/preferences",
            records: [
                json!({"owner": "anna", "name": "theme", "value": {"dark": true}}),
                json!({"owner": "", "name": "theme", "value": null}),
            ],
            field: "value",
            changed: json!([1, 2]),
            filter: "owner=anna",
        },
        Kind {
            many: "/api/v1/reports",
            records: [report("roof", json!({"n": 1})), report("shed", json!({"n": 2}))],
            field: "data",
            changed: json!({"n": 3}),
            filter: "device_id=roof",
        },
        Kind {
            many: "/api/v1/tariffs",
            records: [tariff("import", "g11"), tariff("export", "g12")],
            field: "valid_until",
            changed: json!("2027-01-01T00:00:00Z"),
            filter: "direction=import",
        },
        Kind {
            many: "/api/v1/annotations",
            records: [
                json!({"start": "2026-02-01T10:00:00Z", "title": "one", "tags": ["pv", "a,b"]}),
                json!({"start": "2026-02-01T10:00:00Z", "title": "two"}),
            ],
            field: "end",
            changed: json!("2026-02-01T11:00:00Z"),
            filter: "title=one",
        },
        Kind {
            many: "/api/v1/devices",
            records: [device("roof", "inverter"), device("shed", "battery")],
            field: "note",
            changed: json!("on the\nroof"),
            filter: "device_id=roof",
        },
        Kind {
            many: "/api/v1/alerts/rules",
            records: [rule("quiet", "warning"), rule("loud", "critical")],
            field: "enabled",
            changed: json!(false),
            filter: "severity=warning",
        },
        Kind {
            many: "/api/v1/alerts/silences",
            records: [
                json!({"rule_name": "quiet", "start": "2026-02-01T10:00:00Z", "end": "2026-02-01T11:00:00Z", "reason": "work"}),
                json!({"start": "2026-02-01T10:00:00Z", "end": "2026-02-01T11:00:00Z", "reason": "all"}),
            ],
            field: "reason",
            changed: json!("more work"),
            filter: "rule_name=quiet",
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_can_be_told_again_for_every_kind() {
    let home = home().await;
    for Kind { many, records, field, changed, .. } in kinds() {
        let (status, made) = home.post(many, records[0].clone()).await;
        assert_eq!(status, 201, "{many}: {made}");
        let one = format!("{many}/{}", made["id"]);
        let read = home.running.get(&one).await;
        assert_eq!((read.status, read.json()), (200, made.clone()), "{many}");

        // The same again changes nothing.
        let same = home.put(&one, Some(read.header("etag")), read.json()).await;
        assert_eq!((same.status, same.header("etag")), (200, "\"1\""), "{many}: {}", same.text());
        assert_eq!(same.json(), made, "{many}");
        let mut told = read.json();
        told[field] = changed.clone();
        let put = home.put(&one, Some(read.header("etag")), told.clone()).await;
        assert_eq!((put.status, put.header("etag")), (200, "\"2\""), "{many}: {}", put.text());
        let mut expected = told.clone();
        expected["version"] = json!(2);
        let now = home.get(&one).await.1;
        expected["updated"] = now["updated"].clone();
        assert_eq!(now, expected, "{many}");

        // What it says of itself must not be another.
        let with = |name: &str, value: Value| {
            let mut told = told.clone();
            told[name] = value;
            told
        };
        for (seen, body, words) in [
            ("\"2\"", with("id", json!(77)), "id: "),
            ("\"2\"", told.clone(), "version: the body has 1, If-Match says 2"),
            ("*", with("id", json!(made["id"].to_string())), "id: "),
            ("*", with("version", json!(1.5)), "version: "),
            ("*", with("colour", json!("red")), "colour"),
        ] {
            let refused = home.put(&one, Some(seen), body).await;
            assert_eq!(refused.status, 400, "{many} {words}: {}", refused.text());
            assert!(refused.refusal().1.contains(words), "{many} {words}: {}", refused.text());
        }
        // Whoever says "whatever it is" means it.
        let any = home.put(&one, Some("*"), with(field, made[field].clone())).await;
        assert_eq!((any.status, any.header("etag")), (200, "\"3\""), "{many}: {}", any.text());
        // A field that stands twice is one too many, also in a record.
        let twice = format!("{{\"{field}\":{changed},{}", told.to_string().strip_prefix('{').unwrap());
        let refused = home.running.ask("PUT", &one, &[("If-Match", "*")], twice).await;
        assert!(refused.status == 400 && refused.refusal().1.contains(field), "{many}: {}", refused.text());

        // A copy is a record of its own; those that have a key are told that it is taken.
        let (status, copy) = home.post(many, told).await;
        match status {
            201 => assert!(copy["id"] != made["id"] && copy["version"] == json!(1), "{many}: {copy}"),
            409 => assert_eq!(copy["code"], json!("exists"), "{many}"),
            // Two tariffs of one direction at once.
            _ => assert_eq!((status, &copy["field"]), (400, &json!("valid_from")), "{many}: {copy}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_removed_and_its_history_goes_on_from_any_change() {
    let home = home().await;
    for Kind { many, records, field, changed, .. } in kinds() {
        let made = home.post(many, records[0].clone()).await.1;
        let one = format!("{many}/{}", made["id"]);
        let mut told = made.clone();
        told[field] = changed.clone();
        assert_eq!(home.put(&one, Some("\"1\""), told).await.status, 200, "{many}");
        let removal = async |seen| home.running.ask("DELETE", &one, &[("If-Match", seen)], b"").await;
        assert_eq!(removal("\"1\"").await.status, 412, "{many}");
        let removed = removal("\"2\"").await;
        assert_eq!((removed.status, &removed.json()[field]), (200, &changed), "{many}");
        assert_eq!((home.get(&one).await.0, removal("*").await.status), (404, 404), "{many}");

        let history = async |query: &str| {
            let (status, told) = home.get(&format!("{one}/history{query}")).await;
            assert_eq!((status, &told["next"]), (200, &Value::Null), "{many}{query}: {told}");
            let changes = told["changes"].as_array().unwrap().clone();
            changes.into_iter().map(|c| (c["action"].clone(), c["record"][field].clone())).collect::<Vec<_>>()
        };
        let all = [
            (json!("created"), made[field].clone()),
            (json!("changed"), changed.clone()),
            (json!("removed"), changed.clone()),
        ];
        assert_eq!(history("").await, all, "{many}");
        assert_eq!(history("?after=1").await, all[1..], "{many}");
        assert_eq!(history("?after=3").await, [], "{many}");
        for wrong in ["?after=x", "?since=1", "?after=1&after=2"] {
            assert_eq!(home.get(&format!("{one}/history{wrong}")).await.0, 400, "{many}{wrong}");
        }
    }
}

/// Cells of a text of CSV, line by line, read by the rules of RFC 4180.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut lines, mut line, mut cell) = (Vec::new(), Vec::new(), String::new());
    let mut is_quoted = false;
    let mut signs = text.chars().peekable();
    while let Some(sign) = signs.next() {
        match sign {
            '"' if is_quoted && signs.peek() == Some(&'"') => cell.push(signs.next().unwrap()),
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => line.push(std::mem::take(&mut cell)),
            '\r' if !is_quoted => {
                assert_eq!(signs.next(), Some('\n'));
                line.push(std::mem::take(&mut cell));
                lines.push(std::mem::take(&mut line));
            }
            sign => cell.push(sign),
        }
    }
    assert!(cell.is_empty() && line.is_empty(), "the last line has an end");
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_listed_by_pages_as_json_and_as_csv() {
    let home = home().await;
    for Kind { many, records, field, filter, .. } in kinds() {
        let mut made = Vec::new();
        for record in records {
            made.push(home.post(many, record).await.1);
        }
        let (_, found) = home.get(&format!("{many}?{filter}")).await;
        assert_eq!(found["records"], json!([made[0]]), "{many}?{filter}");
        let (_, first) = home.get(&format!("{many}?limit=1&order=asc")).await;
        assert_eq!(first["records"], json!([made[0]]), "{many}");
        let next = first["next"].as_str().unwrap();
        let (_, second) = home.get(&format!("{many}?limit=1&order=asc&after={next}")).await;
        assert_eq!((&second["records"], &second["next"]), (&json!([made[1]]), &Value::Null), "{many}");

        let csv = home.running.get(&format!("{many}?format=csv&order=asc&limit=1")).await;
        let kind = (csv.status, csv.header("content-type"), csv.header("x-wattlog-next"));
        assert_eq!(kind, (200, "text/csv; charset=utf-8", next), "{many}");
        let lines = cells(&csv.text());
        assert_eq!(lines.len(), 2, "{many}: {lines:?}");
        let cell = |name: &str| {
            let at = lines[0].iter().position(|column| column == name).unwrap();
            lines[1][at].clone()
        };
        let shown = match &made[0][field] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        assert_eq!(cell(field), shown, "{many}");
        assert_eq!(cell("created_by"), "http:127.0.0.1");
        // Every field of the record has its column.
        let members = made[0]
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| !["created", "updated"].contains(&name.as_str()));
        for name in members {
            assert!(lines[0].contains(name), "{many} has no column {name}");
        }
        for wrong in ["colour=red", "format=xml", "limit=0", "after=x", "order=up", "limit=1&limit=2"] {
            assert_eq!(home.get(&format!("{many}?{wrong}")).await.0, 400, "{many}?{wrong}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_records_count_until_they_are_taken() {
    let limits = Setup::limits(|limits| {
        limits.answer = Size::mib(32);
        limits.answers_per_address = Size::mib(64);
        limits.answers_in_memory = Size::mib(64);
    });
    let home = home_with(limits).await;
    // Each sign takes one byte in the ledger and six in JSON: 24 MB, more than two sockets hold between them.
    let text = "\u{1}".repeat(1_000_000);
    for title in ["a", "b", "c", "d"] {
        let record = json!({"start": "2026-02-01T10:00:00Z", "title": title, "text": text});
        let record: Annotation = serde_json::from_value(record).unwrap();
        home.ledger.insert(record, &Actor::new("test")).await.unwrap();
    }
    let target = "/api/v1/annotations";
    let (mut one, mut two) = (home.running.connect().await, home.running.connect().await);
    for client in [&mut one, &mut two] {
        client.send(request("GET", target, &[], b"")).await;
        assert!(client.take().await);
    }
    let refused = home.running.get(target).await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, "1"));
    assert!(refused.refusal().1.contains("server.limits.answers_"), "{}", refused.text());
    for client in [&mut one, &mut two] {
        let answer = client.answer().await;
        assert!(answer.status == 200 && answer.body.len() > 24_000_000);
    }
    home.running.until("the memory to be free", async |server| server.get(target).await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_records_that_is_too_long_is_422_and_a_part_of_it_is_answered() {
    let home = home_with(Setup::limits(|limits| limits.answer = Size::mib(1))).await;
    let text = "x".repeat(600_000);
    let mut told = Vec::new();
    for number in 0..2 {
        let session =
            json!({"session_id": format!("n{number}"), "start_time": "2026-02-01T10:00:00Z", "text": text});
        told.push(home.post("/api/charging-sessions", session).await.1);
        let saved = home.put("/api/v1/configs/c", None, json!({"data": [number, text]})).await;
        assert_eq!(saved.status, 200);
        let device = json!({"device_id": format!("d{number}"), "kind": "other", "note": text});
        assert_eq!(home.post("/api/v1/devices", device).await.0, 201);
    }
    told[0]["status"] = json!("failed");
    assert_eq!(home.post("/api/charging-sessions", told[0].clone()).await.0, 200);
    let whole = [
        "/api/v1/sessions",
        "/api/v1/sessions?format=csv",
        "/api/charging-sessions",
        "/api/v1/sessions/1/history",
        "/api/v1/configs/c/revisions",
        "/api/v1/configs/c/history",
        "/api/v1/devices",
    ];
    for (number, target) in whole.into_iter().enumerate() {
        let refused = home.running.get(target).await;
        assert_eq!((refused.status, &*refused.refusal().0), (422, "limit exceeded"), "{target}");
        assert_eq!(home.running.limit_reached("answer").await, (number + 1) as f64, "{target}");
    }
    for target in [
        "/api/v1/sessions?limit=1",
        "/api/v1/sessions?limit=1&format=csv",
        "/api/v1/sessions/1",
        "/api/v1/sessions/1/history?after=1",
        "/api/v1/configs/c/revisions?limit=1",
        "/api/v1/devices?limit=1",
    ] {
        assert_eq!(home.running.get(target).await.status, 200, "{target}");
    }
}
