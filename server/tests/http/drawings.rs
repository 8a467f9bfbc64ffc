//! Pictures and grids: what they hold, and tags that change when the data does.

use super::support::{Answer, Running, Setup};
use serde_json::{Value, json};

/// Two hours from 1970-01-02, every ten seconds, one peak.
async fn filled() -> Running {
    let server = Setup::default().start().await;
    let line = |i: u64| {
        let (value, time) = (if i == 400 { 5000 } else { i % 7 }, (86_400 + i * 10) * 1_000_000_000);
        format!("energy,device_id=a power={value} {time}\n")
    };
    server.store(&(0..720).map(line).collect::<String>()).await;
    server
}

fn column(answer: &Value, name: &str) -> Vec<Value> {
    let series = &answer["series"][0];
    let names = series["columns"].as_array().unwrap();
    let at = names.iter().position(|column| column == name).unwrap_or_else(|| panic!("{name} in {names:?}"));
    series["values"][at].as_array().unwrap().clone()
}

async fn ask_again(server: &Running, target: &str, tag: &str) -> Answer {
    server.ask("GET", target, &[("if-none-match", tag)], b"").await
}

const GRID: &str = "/api/v1/query?measurement=energy&start=86405s&end=93595s&shape=grid&buckets=50&tz=UTC";
const PICTURE: &str = "/api/v1/query?measurement=energy&start=86400s&end=93600s&pixels=10";

#[tokio::test]
async fn a_picture_keeps_the_peak_and_few_points() {
    let server = filled().await;
    let answer = server.get(PICTURE).await.json();
    let values = column(&answer, "power");
    assert!(values.len() <= 40 && values.contains(&json!(5000)), "{values:?}");
    assert_eq!(answer["series"][0]["tags"], json!({ "device_id": "a" }));
}

#[tokio::test]
async fn a_grid_has_round_borders_and_no_more_rows_than_asked_for() {
    let server = filled().await;
    let answer = server.get(GRID).await.json();
    // Five minutes: 24 buckets, and the borders lie outside what was asked for.
    assert_eq!((&answer["start"], &answer["end"]), (&json!(86_400_000), &json!(93_600_000)));
    let times = column(&answer, "time");
    assert_eq!((times.len(), &times[1]), (24, &json!(86_700_000)));
    assert_eq!(column(&answer, "power_max")[13], json!(5000));
    assert_eq!(column(&answer, "power_first")[0], json!(0));
    assert_eq!(
        (column(&answer, "power_min")[0].clone(), column(&answer, "power_last")[0].clone()),
        (json!(0), json!(1))
    );
}

#[tokio::test]
async fn a_tag_changes_when_the_data_of_the_range_does_and_only_then() {
    let server = filled().await;
    for target in [GRID, PICTURE] {
        let first = server.get(target).await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with("W/\"") && first.header("cache-control") == "no-cache", "{tag:?}");
        for known in [tag.clone(), format!("\"other\", {}", tag.trim_start_matches("W/")), "*".to_owned()] {
            let again = ask_again(&server, target, &known).await;
            assert_eq!((again.status, again.header("etag")), (304, &*tag), "{known}");
        }
        assert_eq!(ask_again(&server, target, "\"other\"").await.status, 200);
        // What is written elsewhere does not count, and neither does where the rows lie.
        server.store("energy,device_id=a power=1 200000000000000").await;
        assert_eq!(ask_again(&server, target, &tag).await.status, 304);
        assert_eq!(server.post("/api/v1/admin/compact", "").await.status / 100, 2);
        assert_eq!(ask_again(&server, target, &tag).await.status, 304);
        // The same value again changes nothing; another one does; and back.
        server.store("energy,device_id=a power=5000 90400000000000").await;
        assert_eq!(ask_again(&server, target, &tag).await.status, 304);
        server.store("energy,device_id=a power=4000 90400000000000").await;
        let changed = ask_again(&server, target, &tag).await;
        assert_eq!(changed.status, 200);
        assert_ne!(changed.header("etag"), tag);
        server.store("energy,device_id=a power=5000 90400000000000").await;
        assert_eq!(ask_again(&server, target, &tag).await.status, 304);
        assert_eq!(
            server.post("/api/v1/delete?measurement=energy&start=90400s&end=90401s", "").await.status / 100,
            2
        );
        assert_eq!(ask_again(&server, target, &tag).await.status, 200);
        server.store("energy,device_id=a power=5000 90400000000000").await;
    }
    assert_eq!(server.get("/api/v1/query?measurement=energy&start=0s").await.header("etag"), "");
}
