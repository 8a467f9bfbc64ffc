//! Records of the ledger over HTTP.

use crate::support::{Answer, Running, Setup};
use serde_json::{Value, json};
use wattlog_ledger::schema::Annotation;
use wattlog_ledger::{Actor, Backend, Ledger, LedgerOptions};

/// A server with a ledger in a folder of its own.
pub(super) struct Home {
    pub(super) running: Running,
    pub(super) ledger: Ledger,
    _folder: tempfile::TempDir,
}

pub(super) async fn home() -> Home {
    home_with(Setup::default()).await
}

pub(super) async fn home_with(mut setup: Setup) -> Home {
    let folder = tempfile::tempdir().unwrap();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    let running = setup.start().await;
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    let ledger = Ledger::new(options, running.clock.clone()).unwrap();
    assert!(running.state.set_ledger(ledger.clone()));
    Home { running, ledger, _folder: folder }
}

impl Home {
    pub(super) async fn get(&self, target: &str) -> (u16, Value) {
        let answer = self.running.get(target).await;
        (answer.status, answer.json())
    }

    pub(super) async fn post(&self, target: &str, body: Value) -> (u16, Value) {
        let answer = self.running.post(target, body.to_string()).await;
        (answer.status, answer.json())
    }

    pub(super) async fn put(&self, target: &str, seen: Option<&str>, body: Value) -> Answer {
        let headers: Vec<_> = seen.map(|seen| ("If-Match", seen)).into_iter().collect();
        self.running.ask("PUT", target, &headers, body.to_string()).await
    }
}

fn annotation(start: &str, title: &str) -> Value {
    json!({"start": start, "title": title})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_made_read_replaced_removed_and_remembered() {
    let home = home().await;
    let (status, made) =
        home.post("/api/v1/annotations", annotation("2026-03-01T09:00:00+01:00", "washed")).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!((&made["start"], &made["version"]), (&json!("2026-03-01T08:00:00Z"), &json!(1)));
    assert_eq!(made["created"], json!({"at": "2026-03-01T10:00:00Z", "by": "http:127.0.0.1"}));
    let one = format!("/api/v1/annotations/{}", made["id"]);
    let read = home.running.get(&one).await;
    assert_eq!((read.status, read.header("etag"), read.json()), (200, "\"1\"", made.clone()));

    let changed = annotation("2026-03-01T08:00:00Z", "washed twice");
    assert_eq!(home.put(&one, None, changed.clone()).await.status, 428);
    assert_eq!(home.put(&one, Some("\"7\""), changed.clone()).await.status, 412);
    assert_eq!(home.put(&one, Some("seven"), changed.clone()).await.status, 400);
    let put = home.put(&one, Some("\"1\""), changed.clone()).await;
    assert_eq!((put.status, put.header("etag")), (200, "\"2\""), "{}", put.text());
    // The one who was late is told what to do.
    let late = home.put(&one, Some("\"1\""), changed).await;
    assert_eq!(
        (late.status, &late.json()["code"], &late.json()["found"]),
        (412, &json!("conflict"), &json!(2))
    );

    assert_eq!(home.running.ask("DELETE", &one, &[], b"").await.status, 428);
    assert_eq!(home.running.ask("DELETE", &one, &[("If-Match", "\"2\"")], b"").await.status, 200);
    assert_eq!(home.get(&one).await.0, 404);
    assert_eq!(home.running.ask("DELETE", &one, &[("If-Match", "*")], b"").await.status, 404);
    let (_, history) = home.get(&format!("{one}/history")).await;
    let told: Vec<_> = history["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (&c["action"], &c["record"]["title"]))
        .collect();
    assert_eq!(
        told,
        [
            (&json!("created"), &json!("washed")),
            (&json!("changed"), &json!("washed twice")),
            (&json!("removed"), &json!("washed twice"))
        ]
    );
    assert_eq!(home.get("/api/v1/annotations/77/history").await.0, 404);
    assert_eq!(home.get("/api/v1/annotations/none").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_stored_is_told_by_its_field() {
    let home = home().await;
    for (target, body, status, words) in [
        ("/api/v1/annotations", json!({"start": "2026-03-01T10:00:00Z"}), 400, "title"),
        ("/api/v1/annotations", json!({"start": "10 o'clock", "title": "t"}), 400, "RFC 3339"),
        (
            "/api/v1/annotations",
            json!({"start": "2026-03-01T10:00:00Z", "title": "t", "colour": 1}),
            400,
            "colour",
        ),
        ("/api/v1/annotations", json!([1, 2]), 400, "expected"),
        (
            "/api/v1/annotations",
            json!({"start": "2026-03-01T10:00:00Z", "end": "2026-03-01T09:00:00Z", "title": "t"}),
            400,
            "before the start",
        ),
        (
            "/api/v1/sessions",
            json!({"session_id": "s", "kind": "charging", "start": "2026-03-01T10:00:00Z", "source": "grid",
            "status": "active", "battery_soc_start": 140}),
            400,
            "battery_soc_start",
        ),
        (
            "/api/v1/tariffs",
            json!({"name": "g", "direction": "sideways", "valid_from": "2026-03-01T10:00:00Z", "definition": {}}),
            400,
            "sideways",
        ),
    ] {
        let (code, told) = home.post(target, body).await;
        assert_eq!(code, status, "{told}");
        assert!(told["message"].as_str().unwrap().contains(words), "{words}: {told}");
    }
    let wish = json!({"name": "theme", "value": "dark"});
    assert_eq!(home.post("/api/v1/preferences", wish.clone()).await.0, 201);
    let (status, told) = home.post("/api/v1/preferences", wish).await;
    assert_eq!((status, &told["code"]), (409, &json!("exists")), "{told}");
    let cut = home.running.post("/api/v1/preferences", "{\"name\":").await;
    assert_eq!(cut.status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_go_by_pages_with_filters_as_json_and_csv() {
    let home = home().await;
    for (number, kind) in ["charging", "selling", "charging", "charging", "selling"].iter().enumerate() {
        let session = json!({"session_id": format!("s{number}"), "kind": kind, "start": format!("2026-02-0{}T10:00:00Z", number + 1),
            "source": "grid", "status": "active", "details": {"note": "a, \"b\""}});
        assert_eq!(home.post("/api/v1/sessions", session).await.0, 201);
    }
    let ids = |page: &Value| -> Vec<String> {
        page["records"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["session_id"].as_str().unwrap().to_owned())
            .collect()
    };
    let (_, first) = home.get("/api/v1/sessions?kind=charging&limit=2").await;
    assert_eq!(ids(&first), ["s3", "s2"]);
    let next = first["next"].as_str().unwrap();
    let (_, second) = home.get(&format!("/api/v1/sessions?kind=charging&limit=2&after={next}")).await;
    assert_eq!((ids(&second), &second["next"]), (vec!["s0".to_owned()], &Value::Null));
    let (_, range) =
        home.get("/api/v1/sessions?start=2026-02-02T10:00:00Z&end=2026-02-04T10:00:00Z&order=asc").await;
    assert_eq!(ids(&range), ["s1", "s2"]);

    let csv = home.running.get("/api/v1/sessions?format=csv&kind=selling&order=asc&limit=1").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    assert!(!csv.header("x-wattlog-next").is_empty());
    let text = csv.text();
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(
        lines[0].starts_with(
            "id,version,created_at,created_by,updated_at,updated_by,session_id,kind,device_id,start,end,"
        ),
        "{text}"
    );
    assert!(lines[1].starts_with("2,1,2026-03-01T10:00:00Z,http:127.0.0.1,2026-03-01T10:00:00Z,http:127.0.0.1,s1,selling,,2026-02-02T10:00:00Z,,"), "{text}");
    assert!(lines[1].ends_with(",\"{\"\"note\"\":\"\"a, \\\"\"b\\\"\"\"\"}\""), "{text}");
    assert_eq!(lines[2..], [""]);

    for wrong in [
        "kind=steal",
        "limit=0",
        "limit=10001",
        "order=up",
        "format=xml",
        "after=x",
        "start=yesterday",
        "colour=red",
        "kind=charging&kind=selling",
    ] {
        let (status, told) = home.get(&format!("/api/v1/sessions?{wrong}")).await;
        assert_eq!(status, 400, "{wrong}: {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_are_saved_compared_and_put_back() {
    let home = home().await;
    let put =
        async |seen, data: Value| home.put("/api/v1/configs/optimiser", seen, json!({"data": data})).await;
    let saved = put(None, json!({"tariff": "g11", "soc": 10})).await;
    assert_eq!((saved.status, saved.header("etag")), (200, "\"1\""), "{}", saved.text());
    let saved = put(Some("\"1\""), json!({"tariff": "g12", "soc": 10})).await;
    assert_eq!((saved.status, saved.header("etag")), (200, "\"2\""));
    assert_eq!(put(Some("\"1\""), json!({})).await.status, 412);
    let (_, difference) = home.get("/api/v1/configs/optimiser/diff?from=1&to=2").await;
    assert_eq!(difference["patch"], json!([{"op": "replace", "path": "/tariff", "value": "g12"}]));
    assert_eq!(home.get("/api/v1/configs/optimiser/diff?from=1").await.0, 400);
    assert_eq!(home.get("/api/v1/configs/optimiser/diff?from=1&to=9").await.0, 404);
    let (status, active) = home.post("/api/v1/configs/optimiser/activate", json!({"revision": 1})).await;
    assert_eq!((status, &active["data"]["tariff"]), (200, &json!("g11")));
    let now = home.running.get("/api/v1/configs/optimiser").await;
    assert_eq!((now.header("etag"), &now.json()["active"]), ("\"1\"", &json!(true)));
    assert_eq!(home.get("/api/v1/configs/optimiser?revision=2").await.1["active"], json!(false));
    let (_, all) = home.get("/api/v1/configs/optimiser/revisions").await;
    assert_eq!(all["records"].as_array().unwrap().len(), 2);
    assert_eq!(home.get("/api/v1/configs").await.1["records"][0]["name"], json!("optimiser"));
    assert_eq!(home.get("/api/v1/configs/other").await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_routes_of_the_plan_store_and_give_sessions() {
    let home = home().await;
    // As the optimiser's plan names its columns, in local time.
    let told = json!({"session_id": "20251026_1", "start_time": "2025-10-26T01:30:00", "end_time": null, "battery_soc_start": 31,
        "status": "active", "source": "hybrid", "priority": "high"});
    let (status, made) = home.post("/api/charging-sessions", told.clone()).await;
    assert_eq!((status, &made["start_time"]), (201, &json!("2025-10-25T23:30:00Z")), "{made}");
    assert_eq!(made["details"], json!({"priority": "high"}));
    // Over the hour that comes twice: the end is in the second pass.
    let mut done = told.clone();
    for (name, value) in [
        ("end_time", json!("2025-10-26T02:30:00")),
        ("status", json!("completed")),
        ("battery_soc_end", json!(80)),
        ("energy_charged_kwh", json!(9.8)),
        ("average_price_pln", json!(0.4321)),
        ("total_cost_pln", json!(4.23)),
    ] {
        done[name] = value;
    }
    let (status, changed) = home.post("/api/charging-sessions", done.clone()).await;
    assert_eq!(
        (status, &changed["end_time"], &changed["id"]),
        (200, &json!("2025-10-26T01:30:00Z"), &made["id"])
    );
    assert_eq!(home.post("/api/charging-sessions", done).await.0, 200);
    let (_, history) = home.get(&format!("/api/v1/sessions/{}/history", made["id"])).await;
    assert_eq!(history["changes"].as_array().unwrap().len(), 2, "told twice is told once");

    let list = async |query: &str| {
        home.get(&format!("/api/charging-sessions?{query}")).await.1.as_array().unwrap().len()
    };
    // The day in the home zone, both ends included.
    assert_eq!(list("start_date=2025-10-26&end_date=2025-10-26").await, 1);
    assert_eq!(list("start_date=2025-10-25&end_date=2025-10-25").await, 0);
    assert_eq!(list("start_date=2025-10-25T23:30:00Z").await, 1);
    assert_eq!(list("start_date=2025-10-25T23:30:01Z").await, 0);
    assert_eq!(list("start_date=2025-10-26&device_id=roof").await, 0);
    assert_eq!(home.get("/api/charging-sessions?start_date=soon").await.0, 400);
    assert_eq!(home.get("/api/charging-sessions?since=2025-10-26").await.0, 400);
    let (status, told) = home
        .post("/api/charging-sessions", json!({"start_time": "2025-10-26T01:30:00", "status": "paused"}))
        .await;
    assert_eq!(status, 400, "{told}");
    // Without a name the start names it.
    let (status, made) = home
        .post("/api/charging-sessions", json!({"start_time": "2025-10-27T01:30:00", "device_id": "roof"}))
        .await;
    assert_eq!(
        (status, &made["session_id"], &made["status"]),
        (201, &json!("roof 2025-10-27T00:30:00Z"), &json!("active"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_points_are_stored_and_asked_for_as_ever() {
    let running = Setup::default().start().await;
    running.store("m v=1 1772359200000000000\n").await;
    let answer = running.get("/api/v1/sessions").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "1"));
    let folder = tempfile::tempdir().unwrap();
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("later/ledger.db")));
    running.state.set_ledger(Ledger::new(options, running.clock.clone()).unwrap());
    let answer = running.get("/api/v1/sessions").await;
    assert_eq!((answer.status, &answer.json()["code"]), (503, &json!("unavailable")));
    let health = running.get("/health").await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["checks"][0]["name"], json!("ledger"));
    assert_eq!(running.get("/api/v1/devices").await.json()["records"], Value::Null);
    running.store("m v=2 1772359201000000000\n").await;
    // It comes when the folder does.
    std::fs::create_dir(folder.path().join("later")).unwrap();
    assert_eq!(running.get("/api/v1/sessions").await.status, 200);
    assert_eq!(running.get("/health").await.json()["checks"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_damaged_while_it_runs_is_told() {
    let running = Setup::default().start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ledger.db");
    let handle =
        || Ledger::new(LedgerOptions::new(Backend::Sqlite(file.clone())), running.clock.clone()).unwrap();
    let first = handle();
    let record = |number| {
        let record = json!({"start": "2026-03-01T10:00:00Z", "title": "t", "text": format!("{number:0300}")});
        serde_json::from_value::<Annotation>(record).unwrap()
    };
    first.put_all((0..2000).map(record).collect(), &Actor::new("test")).await.unwrap();
    first.close().await;
    running.state.set_ledger(handle());
    assert_eq!(running.get("/api/v1/annotations/1").await.status, 200);
    assert_eq!(running.get("/health").await.json()["checks"], json!([]));

    // Roots of the tables lie in the first half.
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..].fill(0xa5);
    std::fs::write(&file, &bytes).unwrap();
    let refused = running.get("/api/v1/annotations?limit=10000").await;
    assert_eq!((refused.status, &*refused.refusal().0), (503, "unavailable"), "{}", refused.text());
    let check = running.get("/health").await.json()["checks"][0].clone();
    assert_eq!((&check["name"], &check["status"]), (&json!("ledger"), &json!("warn")));
    assert!(check["message"].as_str().unwrap().contains("the ledger is damaged"), "{check}");
    let health = running.get("/api/v1/storage/health").await.json();
    assert_eq!(health["status"], json!("critical"), "{health}");
    assert!(health["ledger"]["damaged"].as_str().unwrap().contains("malformed"), "{health}");
    // Points are stored all the same.
    running.store("m v=1 1772359200000000000\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_tell_how_they_answer_and_what_they_are() {
    let home = home().await;
    let device = json!({"device_id": "roof", "kind": "inverter", "rated_power_w": 10000});
    let (status, made) = home.post("/api/v1/devices", device).await;
    assert_eq!(status, 201, "{made}");
    let (_, all) = home.get("/api/v1/devices").await;
    assert_eq!((&all["devices"], &all["records"][0]["device_id"]), (&json!([]), &json!("roof")));
    assert_eq!(home.get(&format!("/api/v1/devices/{}", made["id"])).await.1, made);
    home.ledger.close().await;
    assert_eq!(home.get(&format!("/api/v1/devices/{}", made["id"])).await.0, 503);
}
