//! Trends over HTTP: of values whose line, usual day and year before are known by hand.

use crate::support::{Running, Setup};
use serde_json::{Value, json};

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 1440 * MINUTE;
/// 2026-02-01T00:00:00Z and the same day of the year before.
const START: i64 = 1_769_904_000_000_000_000;
const YEAR_BEFORE: i64 = 1_738_368_000_000_000_000;
const RANGE: &str = "start=2026-02-01T00:00:00Z&end=2026-02-21T00:00:00Z&tz=UTC";

/// Twenty days of a point each ten minutes: 100 W, 2 W more each day, 10 W more each hour of it. Of the sixth day three hours.
fn days(device: &str) -> String {
    let mut lines = String::new();
    for step in 0..20 * 144_i64 {
        let (day, hour) = (step / 144, step % 144 / 6);
        if day == 5 && hour >= 3 {
            continue;
        }
        let value = 100 + 2 * day + 10 * hour;
        lines += &format!("energy_data,device_id={device} pv_power={value} {}\n", START + step * 10 * MINUTE);
    }
    lines
}

async fn ask(running: &Running, target: &str) -> Value {
    let answer = running.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json()
}

fn near(value: &Value, wanted: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((found - wanted).abs() < 1e-9 * wanted.abs().max(1.0), "{found} {wanted}");
}

/// The column of the first series of what a link answers.
async fn column(running: &Running, link: &Value, name: &str) -> Vec<Value> {
    let answer = ask(running, link.as_str().unwrap()).await;
    let columns = answer["series"][0]["columns"].as_array().unwrap();
    let at = columns.iter().position(|column| column == name).unwrap();
    answer["series"][0]["values"][at].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn line_usual_day_and_year_before_of_a_known_series() {
    let running = Setup::default().start().await;
    running.store(&days("roof")).await;
    // A year before: 50 W, in the first half of the same times.
    let before: String = (0..10 * 144)
        .map(|step| format!("energy_data,device_id=roof pv_power=50 {}\n", YEAR_BEFORE + step * 10 * MINUTE))
        .collect();
    running.store(&before).await;
    let target = format!("/api/v1/trends?measurement=energy_data&field=pv_power&{RANGE}");
    let answer = ask(&running, &target).await;
    assert_eq!(
        (&answer["function"], &answer["season"], &answer["lost"]),
        (&json!("mean"), &json!("day"), &json!([]))
    );
    let series = &answer["series"][0];
    assert_eq!(series["tags"], json!({ "device_id": "roof" }));
    // Mean of a day: 100 + 2 d + 10 x 11.5. The sixth day has three hours and is left out.
    let fit = &series["line"]["fit"];
    near(&fit["slope_per_day"], 2.0);
    near(&fit["r2"], 1.0);
    assert!(fit["slope_error_per_day"].as_f64().unwrap() < 1e-6);
    // The middle of 19 days, 0 to 19 without 5: day 185/19, and half a day.
    near(&fit["level"], 215.0 + 2.0 * 185.0 / 19.0);
    let inputs = &series["line"]["inputs"];
    let counts = ["expected", "used", "left_out"].map(|name| inputs[name].as_u64().unwrap());
    assert_eq!((&inputs["every"], counts), (&json!("1d"), [20, 19, 1]));
    let means = column(&running, &inputs["query"], "pv_power_mean").await;
    assert_eq!((means.len(), &means[0], &means[5]), (20, &json!(215), &json!(120)));
    let hours = series["seasonal"]["means"].as_array().unwrap();
    assert_eq!(hours.len(), 24);
    // 0 o'clock has all twenty days, noon has not the sixth: its mean is 220 + 2 x 185 / 19.
    assert_eq!(
        (&hours[0]["hour"], &hours[0]["count"], &hours[12]["count"]),
        (&json!(0), &json!(20), &json!(19))
    );
    near(&hours[0]["mean"], 119.0);
    near(&hours[12]["mean"], 220.0 + 370.0 / 19.0);
    // Standard deviation of 0, 2 .. 38: 2 x sqrt(20 x 21 / 12).
    near(&hours[0]["deviation"], 2.0 * 35.0_f64.sqrt());
    let hourly = &series["seasonal"]["inputs"];
    let counts = ["expected", "used", "left_out"].map(|name| hourly[name].as_u64().unwrap());
    assert_eq!((&hourly["every"], counts), (&json!("1h"), [480, 459, 0]));

    let year = &series["year_before"];
    // All points alike: 19 days of 144 with mean 215 + 370/19, and 18 of the sixth day with 120.
    let this = (19.0 * 144.0 * (215.0 + 370.0 / 19.0) + 18.0 * 120.0) / (19.0 * 144.0 + 18.0);
    near(&year["this"]["value"], this);
    assert_eq!((&year["this"]["points"], &year["before"]["points"]), (&json!(19 * 144 + 18), &json!(1440)));
    near(&year["before"]["value"], 50.0);
    assert_eq!(year["before"]["start"], "2025-02-01T00:00:00Z");
    assert_eq!(year["before"]["end"], "2025-02-21T00:00:00Z");
    // Up to the last point: ten minutes are missing of ten days.
    near(&year["before"]["coverage"], (14_400.0 - 10.0) / 28_800.0);
    near(&year["comparison"]["change"], this - 50.0);
    near(&year["comparison"]["share"], (this - 50.0) / 50.0);
    assert!(year["comparison"]["this_per_hour"].is_null(), "means have no rate");
    assert_eq!(column(&running, &year["before"]["query"], "pv_power_mean").await, [json!(50)]);
    assert_eq!(column(&running, &year["this"]["query"], "pv_power_count").await, [json!(19 * 144 + 18)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn weeks_months_counters_and_nothing() {
    let running = Setup::default().start().await;
    running.store(&days("roof")).await;
    running.store(&days("barn")).await;
    let target = format!("/api/v1/trends?measurement=energy_data&field=pv_power&{RANGE}");
    let both = ask(&running, &target).await;
    let names: Vec<&Value> =
        both["series"].as_array().unwrap().iter().map(|one| &one["tags"]["device_id"]).collect();
    assert_eq!(names, ["barn", "roof"]);
    let week = ask(&running, &format!("{target}&season=week&device_id=roof")).await;
    assert_eq!(week["series"].as_array().unwrap().len(), 1);
    let days = week["series"][0]["seasonal"]["means"].as_array().unwrap();
    // 1 February 2026 is a Sunday: days 0, 7 and 14; the sixth day would be the first Friday.
    assert_eq!((&days[6]["day"], &days[6]["count"], &days[4]["count"]), (&json!(7), &json!(3), &json!(2)));
    near(&days[6]["mean"], 215.0 + 2.0 * 7.0);
    assert_eq!(week["series"][0]["year_before"]["before"]["value"], Value::Null);
    assert_eq!(week["series"][0]["year_before"]["comparison"], Value::Null);
    let year = ask(&running, &format!("{target}&season=year&tag.device_id=~ro")).await;
    let months = year["series"][0]["seasonal"]["means"].as_array().unwrap();
    assert_eq!((months.len(), &months[0]["month"], &months[0]["count"]), (1, &json!(2), &json!(19)));
    // A range that cuts a day has no whole one there.
    let cut = "/api/v1/trends?measurement=energy_data&field=pv_power&tz=UTC&device_id=roof&start=2026-02-01T00:00:01Z&end=2026-02-03T12:00:00Z";
    let cut = ask(&running, cut).await;
    let line = &cut["series"][0]["line"];
    assert_eq!((&line["inputs"]["expected"], &line["fit"]), (&json!(1), &Value::Null));

    // A counter grows by 24 a day, at all hours alike.
    let counted: String = (0..=20 * 24)
        .map(|hour| format!("meter,device_id=roof import={hour} {}\n", START + hour * 60 * MINUTE))
        .collect();
    running.store(&counted).await;
    let told =
        running.post("/api/v1/measurements/meter/fields/import", r#"{"unit":"kWh","kind":"counter"}"#).await;
    assert_eq!(told.status, 200, "{}", told.text());
    let meter = ask(&running, &format!("/api/v1/trends?measurement=meter&field=import&{RANGE}")).await;
    assert_eq!((&meter["function"], &meter["unit"]), (&json!("increase"), &json!("kWh")));
    let series = &meter["series"][0];
    near(&series["line"]["fit"]["level"], 24.0);
    near(&series["line"]["fit"]["slope_per_day"], 0.0);
    near(&series["seasonal"]["means"][3]["mean"], 1.0);
    near(&series["year_before"]["this"]["value"], 480.0);
    // A field of a measurement without points in the range has nothing.
    let none = ask(&running, "/api/v1/trends?measurement=meter&field=import&start=-2d&end=-1d").await;
    assert_eq!(none["series"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_moved_is_covered_all_the_same() {
    let running = Setup::default().start().await;
    // Twenty days of the value 7, in the cellar from the eleventh on; the year before the other way round.
    let lines: String = (0..20 * 144)
        .flat_map(|step| {
            let places = if step < 10 * 144 { ["attic", "cellar"] } else { ["cellar", "attic"] };
            [START, YEAR_BEFORE].into_iter().zip(places).map(move |(start, place)| {
                let time = start + step * 10 * MINUTE;
                format!("energy_data,device_id=roof,location={place} pv_power=7 {time}\n")
            })
        })
        .collect();
    running.store(&lines).await;
    let target = format!("/api/v1/trends?measurement=energy_data&field=pv_power&least_coverage=0.9&{RANGE}");
    let answer = ask(&running, &target).await;
    assert_eq!(answer["series"].as_array().unwrap().len(), 1);
    let series = &answer["series"][0];
    let counts = |inputs: &Value| ["expected", "used", "left_out"].map(|name| inputs[name].as_u64().unwrap());
    assert_eq!(counts(&series["line"]["inputs"]), [20, 20, 0]);
    // Two hours end before their last ten minutes do: that of the move, and the last one.
    assert_eq!(counts(&series["seasonal"]["inputs"]), [480, 478, 2]);
    for name in ["this", "before"] {
        let figure = &series["year_before"][name];
        // Of twenty days twice ten minutes are missing.
        near(&figure["coverage"], (28_800.0 - 20.0) / 28_800.0);
        assert_eq!(figure["points"], json!(2880));
    }
    // The place by itself: its ten days.
    let attic = ask(&running, &format!("{target}&tag.location=attic")).await;
    let inputs = &attic["series"][0]["line"]["inputs"];
    assert_eq!(counts(inputs), [20, 10, 0]);
    // What is shown beside it is of the same place.
    let means = column(&running, &inputs["query"], "pv_power_mean").await;
    assert_eq!(means, vec![json!(7); 10]);
    let before = &attic["series"][0]["year_before"]["before"];
    assert_eq!(column(&running, &before["query"], "pv_power_count").await, [json!(1440)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_that_the_year_before_did_not_have_are_compared_with_nothing() {
    let running = Setup::default().start().await;
    // From two to three in Warsaw on the 30th, an hour that the clock left out a year before; and a whole 28 February.
    let (hour, day) = (1_774_828_800_000_000_000_i64, 1_709_078_400_000_000_000_i64);
    running.store(&format!("m v=4 {hour}\nm v=5 {day}\nm v=2 1677542400000000000\n")).await;
    let range = "start=2026-03-30T02:00:00%2B02:00&end=2026-03-30T03:00:00%2B02:00&tz=Europe/Warsaw";
    let answer = ask(&running, &format!("/api/v1/trends?measurement=m&field=v&{range}")).await;
    let year = &answer["series"][0]["year_before"];
    assert_eq!(year["this"]["value"], json!(4.0));
    assert_eq!((&year["before"], &year["comparison"]), (&Value::Null, &Value::Null));
    let range = "start=2024-02-28T00:00:00Z&end=2024-02-29T00:00:00Z&tz=UTC";
    let answer = ask(&running, &format!("/api/v1/trends?measurement=m&field=v&{range}")).await;
    let year = &answer["series"][0]["year_before"];
    assert_eq!((&year["this"]["value"], &year["before"]["value"]), (&json!(5.0), &json!(2.0)));
    assert_eq!(year["before"]["end"], "2023-03-01T00:00:00Z");
    near(&year["comparison"]["change"], 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_refused_by_name() {
    let running = Setup::default().start().await;
    running.store(&format!("m,t=a v=1,s=\"x\" {}\n", START + DAY)).await;
    for (query, status, wanted) in [
        ("field=v", 400, "measurement"),
        ("measurement=m", 400, "field"),
        ("measurement=m&field=x", 400, "no field"),
        ("measurement=m&field=s", 400, "no numbers"),
        ("measurement=none&field=v", 404, "none"),
        ("measurement=m&field=v&season=moon", 400, "season"),
        ("measurement=m&field=v&start=now", 400, "start"),
        ("measurement=m&field=v&start=-8000d", 400, "7320"),
        ("measurement=m&field=v&start=1678-01-01T00:00:00Z&end=1678-03-01T00:00:00Z", 400, "year before"),
        ("measurement=m&field=v&gap=0s", 400, "gap"),
        ("measurement=m&field=v&least_coverage=2", 400, "least_coverage"),
        ("measurement=m&field=v&tz=Mars", 400, "tz"),
        ("measurement=m&field=v&tag.=x", 400, "tag"),
        ("measurement=m&field=v&colour=red", 400, "colour"),
    ] {
        let answer = running.get(&format!("/api/v1/trends?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(wanted), "{query}: {message}");
    }
    for range in [
        "start=2262-04-01T00:00:00Z&end=2262-04-11T00:00:00Z",
        "start=1679-01-01T00:00:00Z&end=1679-03-01T00:00:00Z&tz=Asia/Tokyo",
    ] {
        let far = ask(&running, &format!("/api/v1/trends?measurement=m&field=v&season=year&{range}")).await;
        assert_eq!(far["series"], json!([]));
    }
}
