//! What is asked: ranges, newest values, schema, state.

use super::support::{Running, Setup};
use serde_json::{Value, json};

async fn filled() -> Running {
    let server = Setup::default().start().await;
    let lines = "m,device_id=a v=1.5,n=9007199254740993i,mode=\"x,y\" 1000000001\nm,device_id=a v=2.5,n=1i 2000000000\n\
                 m,device_id=b v=10 1500000000";
    server.store(lines).await;
    server
}

#[tokio::test]
async fn an_answer_in_json_is_column_by_column_and_loses_no_digit() {
    let server = filled().await;
    let answer = server.get("/api/v1/query?measurement=m&start=0s&end=10s&time_format=ns").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let json = answer.json();
    assert_eq!(
        (&json["measurement"], &json["start"], &json["end"]),
        (&json!("m"), &json!("0"), &json!("10000000000"))
    );
    let series = &json["series"][0];
    assert_eq!(series["tags"], json!({ "device_id": "a" }));
    let column = |name: &str| {
        let at = series["columns"].as_array().unwrap().iter().position(|c| c == name).unwrap();
        series["values"][at].clone()
    };
    assert_eq!(column("time"), json!(["1000000001", "2000000000"]));
    assert_eq!(column("n"), json!(["9007199254740993", 1]));
    assert_eq!(column("mode"), json!(["x,y", null]));
    assert_eq!(json["partial"], false);
    assert_eq!(answer.header("x-wattlog-partial"), "false");
    assert_eq!(json["stats"]["as_of"], answer.header("x-wattlog-as-of"));
    for name in ["points_scanned", "blocks_decoded", "blocks_from_statistics", "elapsed_us"] {
        assert!(json["stats"][name].is_u64(), "{name}");
    }
    let answer = server.get("/api/v1/query?measurement=m&start=0s&end=10s").await.json();
    assert_eq!(answer["series"][0]["values"][0], json!([1000, 2000]));
}

#[tokio::test]
async fn tables_and_lines_hold_the_same_rows() {
    let server = filled().await;
    let query = "/api/v1/query?measurement=m&start=0s&end=10s&fields=v,n&time_format=rfc3339";
    let answer = server.get(&format!("{query}&format=csv")).await;
    assert_eq!(answer.header("content-type"), "text/csv; charset=utf-8");
    let mut lines: Vec<_> = answer.text().lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), "time,device_id,v,n");
    assert_eq!(
        lines,
        [
            "1970-01-01T00:00:01.000000001Z,a,1.5,9007199254740993",
            "1970-01-01T00:00:02Z,a,2.5,1",
            "1970-01-01T00:00:01.5Z,b,10,"
        ]
    );
    let answer = server.get(&format!("{query}&format=ndjson")).await;
    let rows: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        rows[0],
        json!({"time": "1970-01-01T00:00:01.000000001Z", "tags": {"device_id": "a"}, "fields": {"v": 1.5, "n": "9007199254740993"}})
    );
}

#[tokio::test]
async fn buckets_filters_and_groups() {
    let server = filled().await;
    let query = "/api/v1/query?measurement=m&start=0s&end=4s&fields=v&fn=mean,count";
    let json = server.get(&format!("{query}&every=2s")).await.json();
    assert_eq!(json["series"][0]["columns"], json!(["time", "v_mean", "v_count"]));
    assert_eq!(json["series"][0]["values"][1][0], 5.75);
    let json = server.get(&format!("{query}&group_by=device_id")).await.json();
    assert_eq!(json["series"].as_array().unwrap().len(), 2);
    let json = server.get(&format!("{query}&tag.device_id=!a")).await.json();
    assert_eq!(json["series"][0]["values"][1], json!([10]));
    let json = server
        .get("/api/v1/query?measurement=m&start=0s&end=4s&order=desc&limit=1&tag.device_id=a")
        .await
        .json();
    assert_eq!(json["series"][0]["values"][0], json!([2000]));
}

#[tokio::test]
async fn the_newest_values_and_how_old_they_are() {
    let server = filled().await;
    let json = server.get("/api/v1/last?measurement=m&tag.device_id=a").await.json();
    let series = &json["series"][0];
    let columns: Vec<_> = series["columns"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let value = |name: &str| {
        let at = columns.iter().position(|c| *c == name).unwrap_or_else(|| panic!("{name} in {columns:?}"));
        series["values"][at][0].clone()
    };
    assert_eq!((value("time"), value("v"), value("n")), (json!(2000), json!(2.5), json!(1)));
    assert_eq!((value("mode"), value("mode_time")), (json!("x,y"), json!(1000)));
}

#[tokio::test]
async fn what_there_is_can_be_listed() {
    let server = filled().await;
    let json = server.get("/api/v1/databases").await.json();
    assert_eq!(
        (&json["databases"][0]["name"], &json["databases"][0]["series"]),
        (&json!("wattlog"), &json!(2))
    );
    assert_eq!(server.get("/api/v1/measurements").await.json()["measurements"], json!(["m"]));
    let json = server.get("/api/v1/measurements/m").await.json();
    assert_eq!((&json["tag_keys"], &json["series"]), (&json!(["device_id"]), &json!(2)));
    assert_eq!(json["first"], "1970-01-01T00:00:01.000000001Z");
    let fields = json["fields"].as_array().unwrap();
    let n = fields.iter().find(|field| field["name"] == "n").unwrap();
    assert_eq!(n["type"], "integer");
    let json = server.get("/api/v1/measurements/m/tags/device_id").await.json();
    assert_eq!(json["values"], json!(["a", "b"]));
    let json = server.get("/api/v1/storage").await.json();
    assert_eq!((&json["series"], &json["points"], &json["values"]), (&json!(2), &json!(3), &json!(6)));
    assert!(json["bytes"]["total"].as_u64().unwrap() > 0);
    assert_eq!(
        server.get("/api/v1/devices").await.json(),
        json!({ "devices": [], "next": null, "records": null })
    );
}

#[tokio::test]
async fn a_seal_is_a_task_that_counts_what_it_did() {
    let server = filled().await;
    for route in ["seal", "compact"] {
        server.store("m v=3 3").await;
        let json = server.post(&format!("/api/v1/admin/{route}"), "").await.json();
        let task = &json["task"];
        assert_eq!((&task["kind"], &task["state"]), (&json!(route), &json!("done")));
        let did =
            if route == "seal" { &json["sealed"]["values"] } else { &json["compacted"]["bytes_before"] };
        assert!(did.as_u64().unwrap() > 0, "{json}");
        assert_eq!(&task["done"], did);
        assert_eq!(task["total"], task["done"]);
        let again = server.get(&format!("/api/v1/tasks/{}", task["id"])).await.json();
        assert_eq!(&again, task);
    }
    assert_eq!(server.get("/api/v1/tasks/999").await.refusal().0, "not found");
    let json = server.get("/api/v1/query?measurement=m&start=0s&end=10s&fn=count&fields=v").await.json();
    assert_eq!(json["series"][0]["values"][1], json!([4]));
}

#[tokio::test]
async fn every_refusal_of_our_own_routes_has_code_message_and_id() {
    let server = filled().await;
    for (target, status, code, text) in [
        ("/api/v1/query?measurement=m", 400, "invalid", "start"),
        ("/api/v1/query?measurement=m&start=-1h&colour=red", 400, "invalid", "unknown parameter \"colour\""),
        ("/api/v1/query?measurement=%FF&start=-1h", 400, "invalid", "no UTF-8"),
        ("/api/v1/query?measurement=m&start=-1h&db=nope", 404, "not found", "nope"),
        ("/api/v1/measurements?db=%FF", 400, "invalid", "no UTF-8"),
        ("/api/v1/measurements?colour=red", 400, "invalid", "this route takes db"),
        ("/api/v1/measurements/%FF", 400, "invalid", "UTF-8"),
        ("/api/v1/measurements/m/tags/%FF", 400, "invalid", "UTF-8"),
        ("/api/v1/measurements/nope", 404, "not found", "nope"),
        ("/api/v1/tasks/%FF", 400, "invalid", "UTF-8"),
        ("/api/energy-data?start_time=soon&end_time=now", 400, "invalid", "start_time"),
        ("/api/v1/live", 404, "not found", "reserved"),
        ("/nowhere", 404, "not found", "/openapi.json"),
    ] {
        let answer = server.get(target).await;
        let (told, message) = answer.refusal();
        assert_eq!((answer.status, &*told), (status, code), "{target}");
        assert!(message.contains(text), "{target}: {message}");
    }
    let answer = server.post("/api/v1/storage", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "GET,HEAD"));
    assert_eq!(answer.refusal().0, "method not allowed");
    let answer = server.ask("GET", "/nowhere", &[("x-request-id", "mine-7")], b"").await;
    assert_eq!(answer.header("x-request-id"), "mine-7");
}

#[tokio::test]
async fn a_query_beyond_a_limit_of_the_store_names_it_and_is_counted() {
    let mut setup = Setup::default();
    setup.engine.query.max_points = 2;
    let server = setup.start().await;
    server.store("m v=1 1\nm v=1 2\nm v=1 3").await;
    let answer = server.get("/api/v1/query?measurement=m&start=0s").await;
    assert_eq!((answer.status, answer.refusal().0), (422, "limit exceeded".to_owned()));
    assert_eq!(server.limit_reached("query_points").await, 1.0);
    let count = "wattlog_query_duration_seconds_count{endpoint=\"query\"}";
    assert_eq!(server.metric(count).await, 1.0, "failed queries are observed too");
}
