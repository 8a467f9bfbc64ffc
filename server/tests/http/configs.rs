//! Configurations and devices as listings, and who changed a configuration.

use super::records::home;
use crate::support::Setup;
use serde_json::{Value, json};
use std::sync::Arc;
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

const CONFIG: &str = "/api/v1/configs/optimiser";

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_configuration_can_be_saved_again() {
    let home = home().await;
    let saved = home.put(CONFIG, None, json!({"data": {"soc": 10}, "label": "1.0", "note": "first"})).await;
    assert_eq!(saved.status, 200, "{}", saved.text());
    let mut told = home.get(CONFIG).await.1;
    let same = home.put(CONFIG, Some("\"1\""), told.clone()).await;
    assert_eq!((same.status, same.json()), (200, told.clone()), "{}", same.text());

    told["data"]["soc"] = json!(20);
    let changed = home.put(CONFIG, Some("\"1\""), told.clone()).await;
    assert_eq!((changed.status, changed.header("etag")), (200, "\"2\""), "{}", changed.text());
    let changed = changed.json();
    for (name, value) in [
        ("data", json!({"soc": 20})),
        ("label", json!("1.0")),
        ("note", json!("first")),
        ("active", json!(true)),
    ] {
        assert_eq!(changed[name], value, "{name}: {changed}");
    }
    // Another note of the same data was dropped without a word.
    let noted = home
        .put(CONFIG, Some("\"2\""), json!({"data": {"soc": 20}, "label": "1.0", "note": "for winter"}))
        .await;
    assert_eq!((noted.header("etag"), &noted.json()["note"]), ("\"2\"", &json!("for winter")));
    assert_eq!(home.get(CONFIG).await.1["note"], json!("for winter"));

    let with = |name: &str, value: Value| {
        let mut told = changed.clone();
        told[name] = value;
        told
    };
    for (body, words) in [
        (with("name", json!("other")), "name: "),
        (with("revision", json!(1)), "revision: the body has 1, If-Match says 2"),
        (with("colour", json!(1)), "colour"),
    ] {
        let refused = home.put(CONFIG, Some("\"2\""), body).await;
        assert_eq!(refused.status, 400, "{words}: {}", refused.text());
        assert!(refused.refusal().1.contains(words), "{words}: {}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configurations_and_revisions_go_by_pages_with_filters_as_json_and_csv() {
    let home = home().await;
    for (name, revisions) in [("collector", 1), ("optimiser", 3)] {
        for number in 0..revisions {
            let saved =
                home.put(&format!("/api/v1/configs/{name}"), None, json!({"data": {"n": number}})).await;
            assert_eq!(saved.status, 200, "{}", saved.text());
        }
    }
    home.post(&format!("{CONFIG}/activate"), json!({"revision": 2})).await;
    let found = async |target: &str| -> Vec<(String, i64)> {
        let (status, told) = home.get(target).await;
        assert_eq!(status, 200, "{target}: {told}");
        let each = told["records"].as_array().unwrap().iter();
        each.map(|one| (one["name"].as_str().unwrap().to_owned(), one["revision"].as_i64().unwrap()))
            .collect()
    };
    let of =
        |name: &str, revisions: &[i64]| revisions.iter().map(|n| (name.to_owned(), *n)).collect::<Vec<_>>();
    let both = [of("collector", &[1]), of("optimiser", &[2])].concat();
    assert_eq!(found("/api/v1/configs?order=asc").await, both);
    assert_eq!(found("/api/v1/configs?name=optimiser").await, of("optimiser", &[2]));
    assert_eq!(found("/api/v1/configs?revision=1").await, of("collector", &[1]));
    assert_eq!(found("/api/v1/configs?start=2026-03-01T10:00:01Z").await, []);
    let all = format!("{CONFIG}/revisions");
    assert_eq!(found(&all).await, of("optimiser", &[3, 2, 1]));
    assert_eq!(found(&format!("{all}?active=false&order=asc")).await, of("optimiser", &[1, 3]));
    assert_eq!(found(&format!("{all}?revision=9")).await, [], "there are others");
    assert_eq!(home.get("/api/v1/configs/other/revisions?revision=9").await.0, 404);
    let (_, first) = home.get(&format!("{all}?limit=2")).await;
    let next = first["next"].as_str().unwrap();
    assert_eq!(found(&format!("{all}?limit=2&after={next}")).await, of("optimiser", &[1]));

    for target in [
        "/api/v1/configs?order=asc&limit=1&format=csv".to_owned(),
        format!("{all}?order=asc&limit=1&format=csv"),
    ] {
        let csv = home.running.get(&target).await;
        assert_eq!((csv.status, csv.header("content-type")), (200, "text/csv; charset=utf-8"), "{target}");
        assert!(!csv.header("x-wattlog-next").is_empty(), "{target}");
        let text = csv.text();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert!(lines[0].ends_with(",name,revision,label,data,active,note"), "{text}");
        assert!(lines[1].contains(",1,,\"{\"\"n\"\":0}\","), "{text}");
        assert_eq!(lines.len(), 3, "{text}");
    }
    for wrong in ["colour=red", "active=true", "limit=0", "format=xml", "limit=1&limit=1"] {
        assert_eq!(home.get(&format!("/api/v1/configs?{wrong}")).await.0, 400, "{wrong}");
    }
    for wrong in ["colour=red", "name=optimiser", "active=perhaps"] {
        assert_eq!(home.get(&format!("{all}?{wrong}")).await.0, 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_put_which_configuration_in_force_is_told() {
    let home = home().await;
    home.put("/api/v1/configs/other", None, json!({"data": 0})).await;
    home.put(CONFIG, None, json!({"data": 1})).await;
    home.put(CONFIG, None, json!({"data": 2})).await;
    home.post(&format!("{CONFIG}/activate"), json!({"revision": 1})).await;
    let (status, told) = home.get(&format!("{CONFIG}/history")).await;
    assert_eq!((status, &told["next"]), (200, &Value::Null), "{told}");
    let told: Vec<_> = told["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| {
            (
                c["action"].as_str().unwrap(),
                c["record"]["revision"].as_i64().unwrap(),
                c["record"]["active"] == true,
            )
        })
        .collect();
    let expected = [
        ("created", 1, true),
        ("changed", 1, false),
        ("created", 2, true),
        ("changed", 2, false),
        ("changed", 1, true),
    ];
    assert_eq!(told, expected);
    let (_, all) = home.get(&format!("{CONFIG}/history")).await;
    assert_eq!(
        (&all["changes"][4]["by"], &all["changes"][4]["at"]),
        (&json!("http:127.0.0.1"), &json!("2026-03-01T10:00:00Z"))
    );
    assert_eq!(home.get("/api/v1/configs/third/history").await.0, 404);
    assert_eq!(home.get(&format!("{CONFIG}/history?limit=1")).await.0, 400);
    assert_eq!(home.get(&format!("{CONFIG}/history?after=99")).await.1["changes"], json!([]));
}

#[derive(Debug)]
struct Polled(Vec<DeviceStatus>);

impl DeviceStatusProvider for Polled {
    fn devices(&self) -> Vec<DeviceStatus> {
        self.0.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_device_is_asked_for_and_what_cannot_be_asked_is_refused() {
    let home = home().await;
    let polled = ["roof", "shed"].map(|id| DeviceStatus {
        id: id.to_owned(),
        vendor: "goodwe".to_owned(),
        transport: "tcp".to_owned(),
        address: "127.0.0.1:502".to_owned(),
        interval_ms: 10_000,
        last_attempt: None,
        last_success: None,
        last_error: None,
        polls_ok: 0,
        errors: Vec::new(),
        sentinels: 0,
        dropped_points: 0,
        rated_power_w: None,
    });
    home.running.state.set_devices(Arc::new(Polled(polled.to_vec())));
    for id in ["roof", "shed", "attic"] {
        assert_eq!(home.post("/api/v1/devices", json!({"device_id": id, "kind": "inverter"})).await.0, 201);
    }
    let ids = |list: &Value, name: &str| -> Vec<String> {
        list.as_array().unwrap().iter().map(|one| one[name].as_str().unwrap().to_owned()).collect()
    };
    let (_, one) = home.get("/api/v1/devices?device_id=roof").await;
    assert_eq!(
        (ids(&one["devices"], "id"), ids(&one["records"], "device_id")),
        (vec!["roof".to_owned()], vec!["roof".to_owned()])
    );
    let (_, page) = home.get("/api/v1/devices?limit=2&order=asc").await;
    assert_eq!(
        (ids(&page["devices"], "id").len(), ids(&page["records"], "device_id")),
        (2, vec!["roof".to_owned(), "shed".to_owned()])
    );
    let next = page["next"].as_str().expect("a next page is told");
    let (_, rest) = home.get(&format!("/api/v1/devices?limit=2&order=asc&after={next}")).await;
    assert_eq!((ids(&rest["records"], "device_id"), &rest["next"]), (vec!["attic".to_owned()], &Value::Null));
    assert_eq!(home.get("/api/v1/devices?colour=red").await.0, 400);
    // Without a ledger there is nothing to put in a table.
    let running = Setup::default().start().await;
    assert_eq!(running.get("/api/v1/devices?format=csv").await.status, 503);
    let alone = running.get("/api/v1/devices").await.json();
    assert_eq!(alone, json!({"devices": [], "next": null, "records": null}));
}
