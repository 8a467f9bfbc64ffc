//! What comes in: line protocol of both dialects and the plan's JSON.

use super::support::{NOW, Setup, chunks, gzip, request};
use serde_json::{Value, json};
use wattlog_engine::Options;

/// Times (ns) and values of `v` of measurement `m`.
async fn stored(server: &super::support::Running, database: &str) -> Vec<(String, Value)> {
    let target =
        format!("/api/v1/query?db={database}&measurement=m&start=0s&end=now&fields=v&time_format=ns");
    let answer = server.get(&target).await.json();
    let Some(series) = answer["series"].as_array().unwrap().first() else { return Vec::new() };
    let column = |i: usize| series["values"][i].as_array().unwrap().clone();
    column(0).into_iter().map(|time| time.as_str().unwrap().to_owned()).zip(column(1)).collect()
}

#[tokio::test]
async fn every_packing_of_a_body_stores_the_same() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    client.send(request("POST", "/write?db=plain&precision=s", &[], b"m v=1.5 1000")).await;
    assert_eq!(client.answer().await.status, 204);
    let packed = gzip(b"m v=1.5 1000");
    let headers = [("content-encoding", "gzip"), ("content-type", "text/plain")];
    client.send(request("POST", "/write?db=packed&precision=s", &headers, &packed)).await;
    assert_eq!(client.answer().await.status, 204);
    let head = "POST /api/v2/write?bucket=chunked&precision=s HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head).await;
    client.send(chunks(b"m v=1.5 1000", 5)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    for database in ["plain", "packed", "chunked"] {
        assert_eq!(stored(&server, database).await, [("1000000000000".to_owned(), json!(1.5))], "{database}");
    }
}

#[tokio::test]
async fn precision_scales_times_and_a_missing_time_is_the_receive_time_of_the_body() {
    let server = Setup::default().start().await;
    for (precision, time, ns) in [
        ("n", "7000", 7_000),
        ("u", "7", 7_000),
        ("ms", "7", 7_000_000),
        ("s", "7", 7_000_000_000),
        ("m", "7", 420_000_000_000),
        ("h", "7", 25_200_000_000_000_i64),
    ] {
        let database = format!("p{precision}");
        let target = format!("/write?db={database}&precision={precision}");
        assert_eq!(server.post(&target, format!("m v=1 {time}")).await.status, 204);
        assert_eq!(stored(&server, &database).await[0].0, ns.to_string(), "{precision}");
    }
    server.clock.advance(std::time::Duration::from_micros(1500));
    assert_eq!(server.post("/write?db=now", "m,a=1 v=1\nm,a=2 v=2").await.status, 204);
    let target = "/api/v1/query?db=now&measurement=m&start=0s&end=now&time_format=ns";
    server.clock.advance(std::time::Duration::from_secs(1));
    let answer = server.get(target).await.json();
    let expected = (NOW.0 + 1_000_000).to_string();
    for series in 0..2 {
        assert_eq!(answer["series"][series]["values"][0], json!([expected]));
    }
    let answer = server.post("/write?db=x&precision=fortnight", "m v=1").await;
    assert_eq!((answer.status, answer.header("x-influxdb-error").contains("invalid precision")), (400, true));
    let answer = server.post("/api/v2/write?bucket=x&precision=m", "m v=1").await;
    assert_eq!(
        (answer.status, answer.json()),
        (
            400,
            json!({"code": "invalid", "message": "invalid precision; valid precision units are ns, us, ms, and s"})
        )
    );
}

#[tokio::test]
async fn good_lines_are_stored_whatever_the_others_are_and_the_answer_says_what_was_refused() {
    let server = Setup::default().start().await;
    let answer = server.post("/write?db=a", "m v=1 1\nm v= 2\nm v=3 3").await;
    let text = "partial write: unable to parse 'm v= 2': missing field value dropped=0";
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })));
    assert_eq!(answer.header("x-influxdb-error"), text);
    assert_eq!(stored(&server, "a").await.len(), 2);

    let answer = server.post("/write?db=a", "m v=1 1\nm v=\"text\" 4").await;
    let text = "partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, \
                already exists as type float dropped=1";
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })));

    let answer = server.post("/write?db=a", "m v=\nx").await;
    let text = "unable to parse 'm v=': missing field value\nunable to parse 'x': missing fields";
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": text })));

    let answer = server.post("/api/v2/write?bucket=b", "m v=1 1\nm v= 2\nm v=3 3").await;
    let text = "partial write: unable to parse 'm v= 2': missing field value dropped=1";
    assert_eq!((answer.status, answer.json()), (400, json!({ "code": "invalid", "message": text })));
    assert_eq!(answer.header("x-platform-error-code"), "invalid");
    assert_eq!(stored(&server, "b").await.len(), 2);

    let answer = server.post("/api/v2/write?bucket=b", "m v=1 1\nm v=t 4").await;
    assert_eq!(answer.status, 422);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("failure writing points to database: partial write: field type conflict"));
    assert!(message.ends_with("dropped=1"), "{message}");

    let answer = server.post("/api/v2/write?bucket=b", "m v=").await;
    let text = "unable to parse 'm v=': missing field value dropped=1";
    assert_eq!((answer.status, answer.json()), (400, json!({ "code": "invalid", "message": text })));
}

#[tokio::test]
async fn a_probe_without_points_creates_the_database_or_hears_that_there_is_none() {
    let server = Setup::default().start().await;
    assert_eq!(server.post("/write?db=home_assistant", "\n").await.status, 204);
    assert_eq!(server.post("/api/v2/write?bucket=other%2Fautogen&org=o", "").await.status, 204);
    let names = server.get("/api/v1/databases").await.json();
    let names: Vec<_> = names["databases"].as_array().unwrap().iter().map(|d| d["name"].clone()).collect();
    assert_eq!(names, ["home_assistant", "other"]);

    let engine = Options { auto_create_databases: false, ..Options::default() };
    let server = Setup { engine, ..Setup::default() }.start().await;
    for body in ["\n", "", "m v=1", "m v="] {
        let answer = server.post("/write?db=nope", body).await;
        let text = "database not found: \"nope\"";
        assert_eq!((answer.status, answer.json()), (404, json!({ "error": text })), "{body:?}");
        let answer = server.post("/api/v2/write?bucket=nope", body).await;
        let text = "bucket \"nope\" not found";
        assert_eq!((answer.status, answer.json()), (404, json!({ "code": "not found", "message": text })));
    }
}

#[tokio::test]
async fn what_names_no_database_is_refused_and_creates_none() {
    let server = Setup::default().start().await;
    for target in ["/write", "/write?db="] {
        let answer = server.post(target, "m v=1").await;
        assert_eq!((answer.status, answer.json()), (400, json!({ "error": "database is required" })));
    }
    for target in ["/api/v2/write", "/api/v2/write?bucket=", "/api/v2/write?bucket=%2Frp"] {
        let answer = server.post(target, "m v=1").await;
        assert_eq!((answer.status, answer.json()["code"].clone()), (404, json!("not found")), "{target}");
    }
    for target in ["/write?db=%FF", "/api/v2/write?bucket=%C3", "/write?db=a&precision=%FF"] {
        let answer = server.post(target, "m v=1").await;
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.header("x-influxdb-error").contains("no UTF-8"), "{target}");
    }
    assert_eq!(server.get("/api/v1/databases").await.json(), json!({ "databases": [] }));
    server.store("m v=1").await;
    let answer = server.post("/write?db=wattlog&rp=nope", "m v=1").await;
    assert_eq!((answer.status, answer.json()), (500, json!({ "error": "retention policy not found: nope" })));
}

#[tokio::test]
async fn a_body_that_is_no_gzip_is_refused() {
    let server = Setup::default().start().await;
    let packed = gzip(b"m v=1");
    let headers = [("content-encoding", "gzip")];
    let answer = server.ask("POST", "/write?db=a", &headers, &packed[..packed.len() - 3]).await;
    assert_eq!((answer.status, answer.json()), (400, json!({ "error": "unexpected EOF" })));
    let answer = server.ask("POST", "/write?db=a", &headers, b"m v=1").await;
    assert_eq!(answer.status, 400);
    let answer = server.ask("POST", "/api/energy-data", &[("content-encoding", "br")], b"{}").await;
    assert_eq!((answer.status, answer.refusal().0), (415, "unsupported media type".to_owned()));
}

#[tokio::test]
async fn energy_data_comes_back_as_it_was_given_to_the_last_bit() {
    let server = Setup::default().start().await;
    let body = r#"[{"time":"2026-03-01T09:00:00Z","device_id":"a","data_source":"goodwe","location":"roof",
          "battery_soc":55.5,"mode":"eco","on":true,"price":null},
        {"timestamp":"2026-03-01T08:00:00Z","device_id":"b","battery_soc":2.2250738585072011e-308,"pv_power":0.1,
          "x":9007199254740991.5e-3}]"#;
    let answer = server.post("/api/energy-data", body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({ "stored": 2 })));
    let list = "/api/energy-data?start_time=2026-03-01T00:00:00Z&end_time=2026-03-02T00:00:00Z";
    let answer = server.get(list).await;
    let rows = answer.json();
    assert_eq!(rows[0]["time"], "2026-03-01T08:00:00Z");
    for (name, given) in [("battery_soc", "2.2250738585072011e-308"), ("x", "9007199254740991.5e-3")] {
        let nearest: f64 = given.parse().unwrap();
        assert_eq!(rows[0][name].as_f64().unwrap().to_bits(), nearest.to_bits(), "{given}");
    }
    assert_eq!(
        rows[1],
        json!({"time": "2026-03-01T09:00:00Z", "device_id": "a", "data_source": "goodwe", "location": "roof",
            "battery_soc": 55.5, "mode": "eco", "on": true})
    );
    let answer = server.get(&format!("{list}&device_id=b")).await;
    assert_eq!(answer.json().as_array().unwrap().len(), 1);
    let answer = server.get("/api/energy-data?start_time=2026-03-01T00:00:00Z").await;
    assert_eq!((answer.status, answer.refusal().1), (400, "parameter \"end_time\" is required".to_owned()));
}

#[tokio::test]
async fn energy_data_refuses_single_elements_and_numbers_it_would_round() {
    let server = Setup::default().start().await;
    let body = r#"[{"v":1},{"v":9007199254740993},{"v":[1]},{"device_id":"a"},{"v":2,"device_id":"x"}]"#;
    let answer = server.post("/api/energy-data", body).await;
    assert_eq!(answer.status, 400);
    let json = answer.json();
    assert_eq!((&json["stored"], &json["refused"]), (&json!(2), &json!(3)));
    assert_eq!(json["rejected"][0]["index"], 1);
    assert!(json["rejected"][0]["message"].as_str().unwrap().contains("beyond 2^53"));
    let answer = server.post("/api/energy-data", "{").await;
    assert_eq!(answer.status, 400);
    assert!(answer.refusal().1.starts_with("JSON: "));
}

#[tokio::test]
async fn a_time_without_a_zone_means_the_home_zone() {
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    let server = setup.start().await;
    let body = r#"{"time":"2026-03-01T10:30:00","pv_power":1}"#;
    assert_eq!(server.post("/api/energy-data", body).await.status, 200);
    let list = "/api/energy-data?start_time=2026-03-01T10:00:00&end_time=2026-03-01T11:00:00";
    assert_eq!(server.get(list).await.json(), json!([{"time": "2026-03-01T09:30:00Z", "pv_power": 1}]));
}

#[tokio::test]
async fn a_full_disk_is_507_and_fails_the_health_check_until_a_body_is_stored() {
    let server = Setup::default().start().await;
    server.store("m v=1 1").await;
    assert_eq!(server.get("/health").await.status, 200);
    server.disk.set_capacity_bytes(Some(server.disk.used_bytes()));
    // Logs have room laid out ahead: fill it.
    let long = format!("m s=\"{}\"", "x".repeat(60_000));
    let mut answer = server.post("/write?db=wattlog", &long).await;
    for n in 0..2000 {
        if answer.status != 204 {
            break;
        }
        answer = server.post("/write?db=wattlog", format!("{long} {n}")).await;
    }
    assert_eq!(answer.status, 507);
    let text = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(text.starts_with("the disk is full, nothing was stored"), "{text}");
    // Words on which clients throw away what they hold.
    for word in ["partial write", "unable to parse", "retention policy", "hinted handoff"] {
        assert!(!text.contains(word), "{text}");
    }
    assert!(answer.header("retry-after").parse::<u64>().unwrap() > 0);
    let health = server.get("/health").await;
    assert_eq!((health.status, health.json()["status"].clone()), (503, json!("fail")));
    assert!(health.json()["message"].as_str().unwrap().contains("disk is full"), "{}", health.text());
    server.disk.set_capacity_bytes(None);
    server
        .until("writes to resume", async |server| {
            server.post("/write?db=wattlog", "m v=2 2").await.status == 204
        })
        .await;
    assert_eq!(server.get("/health").await.json()["status"], "pass");
}

#[tokio::test]
async fn points_beyond_the_retention_are_told_to_each_dialect_and_counted() {
    let server = Setup::default().start().await;
    server.store("m v=1 1772359200000000000").await;
    let set = server.post("/api/v1/retention", r#"{"keep":"30d"}"#).await;
    assert_eq!((set.status, &set.json()["keep"]), (200, &json!("30d")));
    let mixed = "m v=2 1772359201000000000\nm v=3 1\nm v=4 2";
    let answer = server.post("/write?db=wattlog", mixed).await;
    let told = json!({ "error": "partial write: points beyond retention policy dropped=2" });
    assert_eq!((answer.status, answer.json()), (400, told));
    let answer = server.post("/api/v2/write?bucket=wattlog", mixed).await;
    let text = "failure writing points to database: partial write: points beyond retention policy dropped=2";
    assert_eq!((answer.status, &answer.json()["message"]), (422, &json!(text)));
    assert_eq!(times(&server, "v").await, [0; 0]);
    let metrics = server.get("/metrics").await.text();
    let line = "wattlog_ingest_rejected_points_total{reason=\"beyond_retention\"} 4";
    assert!(metrics.contains(line), "{metrics}");

    for (target, body, status) in [
        ("/api/v1/retention?db=nope", r#"{"keep":"30d"}"#, 404),
        ("/api/v1/retention", r#"{"keep":"47h"}"#, 400),
        ("/api/v1/retention", r#"{"keep":"soon"}"#, 400),
        ("/api/v1/retention", r#"{"keep":3}"#, 400),
        ("/api/v1/retention", r#"{"kep":"30d"}"#, 400),
        ("/api/v1/retention", "{}", 400),
        ("/api/v1/retention", "[]", 400),
        ("/api/v1/retention", "", 400),
        ("/api/v1/retention?measurement=m", r#"{"keep":null}"#, 200),
    ] {
        let answer = server.post(target, body).await;
        assert_eq!(answer.status, status, "{target} {body}: {}", answer.text());
    }
}

async fn times(server: &super::support::Running, field: &str) -> Vec<u64> {
    let target =
        format!("/api/v1/query?measurement=m&start=0s&end=3600s&fields={field}&time_format=ns&group_by=*");
    let answer = server.get(&target).await.json();
    let all = answer["series"].as_array().unwrap().iter();
    let times = all.flat_map(|series| series["values"][0].as_array().unwrap().clone());
    let mut times: Vec<u64> =
        times.map(|time| time.as_str().unwrap().parse::<u64>().unwrap() / 1_000_000_000).collect();
    times.sort_unstable();
    times
}

#[tokio::test]
async fn a_delete_of_a_2x_client_hides_what_its_predicate_selects() {
    let server = Setup::default().start().await;
    server.store("m,d=a v=1,w=2 1000000000\nm,d=a v=1,w=2 2000000000\nm,d=b v=1 2000000000").await;
    let delete = |body: &'static str| server.post("/api/v2/delete?bucket=wattlog&org=home", body);
    let answer = delete(
        r#"{"start":"1970-01-01T00:00:02Z","stop":"2026-01-01T00:00:00Z","predicate":"_measurement=\"m\" AND d=\"a\""}"#,
    )
    .await;
    assert_eq!((answer.status, answer.body.len()), (204, 0), "{}", answer.text());
    assert_eq!(times(&server, "v").await, [1, 2]);
    server.store("m,d=a v=9 2000000000").await;
    assert_eq!(times(&server, "v").await, [1, 2, 2], "what is written later is there");
    for (body, message) in [
        ("{}", "the body is no delete request: missing field `start`"),
        (r#"{"start":"x","stop":"2026-01-01T00:00:00Z"}"#, "start: \"x\" is no time"),
        (r#"{"start":"2026-01-01T00:00:00Z","stop":"2026-01-01T00:00:00Z"}"#, "start"),
        (
            r#"{"start":"1970-01-01T00:00:00Z","stop":"2026-01-01T00:00:00Z","predicate":"a=1 OR b=2"}"#,
            "expected AND",
        ),
    ] {
        let answer = server.post("/api/v2/delete?bucket=wattlog", body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["message"].as_str().unwrap().contains(message), "{}", answer.text());
    }
    let gone = server.post(
        "/api/v2/delete?bucket=nope",
        r#"{"start":"1970-01-01T00:00:00Z","stop":"2026-01-01T00:00:00Z"}"#,
    );
    let gone = gone.await;
    assert_eq!((gone.status, gone.json()["code"].clone()), (404, json!("not found")));
}

#[tokio::test]
async fn the_own_delete_says_what_it_covered_and_a_compaction_takes_it_out() {
    let server = Setup::default().start().await;
    server.store("m,d=a v=1,w=2 1000000000\nm,d=a v=1,w=2 2000000000\nm,d=b v=1 2000000000").await;
    assert_eq!(server.post("/api/v1/admin/seal", "").await.status, 200);
    let target = "/api/v1/delete?measurement=m&start=0s&end=1500ms&fields=v&tag.d=a&tag.d=c";
    let answer = server.post(target, "").await;
    assert_eq!((answer.status, answer.json()["series"].clone()), (200, json!(1)), "{}", answer.text());
    assert_eq!((times(&server, "v").await, times(&server, "w").await), (vec![2, 2], vec![1, 2]));
    assert_eq!(server.get("/api/v1/storage").await.json()["tombstones"], json!(1));
    let answer = server.post("/api/v1/admin/compact", "").await.json();
    assert_eq!(answer["compacted"]["segments_after"], json!(1), "{answer}");
    assert_eq!(server.get("/api/v1/storage").await.json()["tombstones"], json!(0));
    assert_eq!((times(&server, "v").await, times(&server, "w").await), (vec![2, 2], vec![1, 2]));
    assert_eq!(
        (server.metric("wattlog_deletes_total").await, server.metric("wattlog_compactions_total").await),
        (1.0, 1.0)
    );
    for (target, message) in [
        ("/api/v1/delete?measurement=m&start=0s", "parameter \"end\" is required"),
        ("/api/v1/delete?start=0s&end=1s", "parameter \"measurement\" is required"),
        ("/api/v1/delete?measurement=m&start=0s&end=1s&fields=", "parameter \"fields\" is empty"),
        ("/api/v1/delete?measurement=m&start=0s&end=1s&every=1h", "unknown parameter \"every\""),
        ("/api/v1/delete?measurement=m&start=0s&end=1s&tag.d=~(", "tag \"d\": regex parse error"),
    ] {
        let answer = server.post(target, "").await;
        assert_eq!(answer.status, 400, "{target}");
        let told = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(told.contains(message), "{target}: {told}");
    }
}

#[tokio::test]
async fn a_field_is_given_its_unit_and_kind_and_answers_tell_them() {
    let server = Setup::default().start().await;
    server.store("m v=1,w=2 1000000000").await;
    let tell = |body: &'static str| server.post("/api/v1/measurements/m/fields/v", body);
    let told = tell(r#"{"unit":"kWh","kind":"counter"}"#).await;
    assert_eq!((told.status, told.json()), (200, json!({"name": "v", "unit": "kWh", "kind": "counter"})));
    assert_eq!(tell(r#"{"kind":"step"}"#).await.json()["unit"], json!("kWh"), "what is left out stays");
    let fields = server.get("/api/v1/measurements/m").await.json()["fields"].clone();
    assert_eq!((&fields[0]["unit"], &fields[0]["kind"]), (&json!("kWh"), &json!("step")));
    assert_eq!(tell(r#"{"unit":null}"#).await.json()["unit"], Value::Null);
    for (body, status) in
        [("[]", 400), (r#"{"unit":""}"#, 400), (r#"{"kind":"odd"}"#, 400), (r#"{"x":1}"#, 400)]
    {
        assert_eq!(tell(body).await.status, status, "{body}");
    }
    assert_eq!(server.post("/api/v1/measurements/m/fields/nope", "{}").await.status, 404);
    assert_eq!(server.post("/api/v1/measurements/nope/fields/v", "{}").await.status, 404);
}
