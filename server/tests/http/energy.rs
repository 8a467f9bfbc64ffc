//! Energy over HTTP: from points that were pushed, with tariffs of the ledger.

use crate::support::{NOW, Running, Setup};
use serde_json::{Value, json};
use std::sync::Arc;
use wattlog_derived::energy::{EnergyKeeper, EnergyOptions};
use wattlog_ledger::{Backend, Ledger, LedgerOptions};

const MINUTE: i64 = 60_000_000_000;

async fn home() -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    let running = setup.start().await;
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    assert!(running.state.set_ledger(Ledger::new(options, running.clock.clone()).unwrap()));
    let options = EnergyOptions::new("wattlog");
    let keeper = EnergyKeeper::start(running.engine.clone(), options, running.clock.clone()).unwrap();
    assert!(running.state.set_energy(Arc::new(keeper)));
    (running, folder)
}

/// 3 kW from the roof, 1 kW used, 2 kW sold until an hour before now; then 0.5 kW bought.
fn day() -> String {
    let points = (-600..=0).map(|minute| {
        let (pv, grid, house) = if minute <= -60 { (3000, 2000, 1000) } else { (0, -500, 500) };
        let time = NOW.0 + minute * MINUTE;
        format!("energy_data,device_id=roof pv_power={pv},grid_power={grid},consumption={house} {time}\n")
    });
    points.collect()
}

async fn ask(running: &Running, target: &str) -> Value {
    let answer = running.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread")]
async fn days_and_months_with_money_where_there_is_a_tariff() {
    let (running, _folder) = home().await;
    running.store(&day()).await;
    let tariff = |direction: &str, definition: Value| json!({ "name": direction, "direction": direction, "valid_from": "2026-01-01T00:00:00Z", "definition": definition });
    let refused =
        running.post("/api/v1/tariffs", tariff("import", json!({ "builtin": "g99" })).to_string()).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("definition"), "{}", refused.text());
    // Prices in euros were counted as PLN.
    let mut euros = tariff("import", json!({ "builtin": "g11", "energy": { "fixed_pln_kwh": 0.5 } }));
    euros["currency"] = json!("EUR");
    let refused = running.post("/api/v1/tariffs", euros.to_string()).await;
    assert!(refused.status == 400 && refused.text().contains("currency"), "{}", refused.text());
    let today = "/api/v1/energy?start=2026-03-01T00:00:00%2B01:00";
    // The last quarters are computed from their points, so the answer is whole at once or as soon as the rest is kept.
    let whole = |answer: &Value| {
        let period = answer["devices"][0]["periods"][0].clone();
        answer["pending"] == json!([])
            && period["covered_s"].is_null()
            && period["export_kwh"] == json!(18.013333)
    };
    running.until("the day to be computed", async |running| whole(&ask(running, today).await)).await;
    let bare = ask(&running, today).await;
    let period = &bare["devices"][0]["periods"][0];
    assert_eq!(period["cost"], Value::Null);
    assert!(bare["notes"][0].as_str().unwrap().contains("POST /api/v1/tariffs"), "{bare}");

    let bought = json!({ "builtin": "g12", "energy": { "fixed_pln_kwh": 0.5 } });
    let sold = json!({ "sold": true, "energy": { "fixed_pln_kwh": 0.3 } });
    for tariff in [tariff("import", bought), tariff("export", sold)] {
        let made = running.post("/api/v1/tariffs", tariff.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let told = ask(&running, today).await;
    let device = &told["devices"][0];
    assert_eq!(
        (&told["period"], &told["tz"], &device["device_id"]),
        (&json!("day"), &json!("Europe/Warsaw"), &json!("roof"))
    );
    let period = &device["periods"][0];
    assert_eq!(period["start"], "2026-03-01T00:00:00+01:00");
    assert_eq!(period["end"], "2026-03-01T11:00:00+01:00");
    // 10 of 11 hours have points.
    assert_eq!(period["coverage"], json!(0.909091));
    // In the minute in which it turns, power passes zero after four fifths: 2 kW fall to 0, then half a kW rises.
    assert_eq!(period["revenue"]["priced_kwh"], period["export_kwh"]);
    let near = |value: &Value, wanted: f64| (value.as_f64().unwrap() - wanted).abs() < 2e-6;
    assert!(near(&period["revenue"]["pln"], 18.013333 * 0.3), "{period}");
    let price = period["cost"]["pln"].as_f64().unwrap() / period["import_kwh"].as_f64().unwrap();
    assert!(price > 0.5 + 0.0892, "energy, fixed part and distribution: {price}");
    assert_eq!((&period["charge_kwh"], &period["pv_to_battery_kwh"]), (&json!(0.0), &json!(0.0)));
    assert!(
        near(&period["pv_to_grid_kwh"], 18.008333) || near(&period["pv_to_grid_kwh"], 18.013333),
        "{period}"
    );

    // By the days of another zone, the hours of the tariff are those of the home all the same.
    let far = ask(&running, &format!("{today}&tz=Asia/Tokyo")).await;
    let periods = far["devices"][0]["periods"].as_array().unwrap();
    let cost: f64 = periods.iter().filter_map(|period| period["cost"]["pln"].as_f64()).sum();
    assert!(near(&period["cost"]["pln"], cost), "{far}");
    // A quarter that is not over has a price too.
    let cut = ask(&running, &format!("{today}&end=2026-03-01T09:52:00Z")).await;
    let cut = &cut["devices"][0]["periods"][0];
    assert_eq!(cut["cost"]["priced_kwh"], cut["import_kwh"]);
    assert_eq!(cut["end"], "2026-03-01T11:00:00+01:00", "to the end of the quarter");

    let month = ask(&running, "/api/v1/energy?period=month&device_id=roof").await;
    let last = month["devices"][0]["periods"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(last["start"], "2026-03-01T00:00:00+01:00");
    assert_eq!(last["export_kwh"], period["export_kwh"]);
    assert_eq!(ask(&running, "/api/v1/energy?device_id=none").await["devices"], json!([]));

    let csv = running.get(&format!("{today}&format=csv")).await.text();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 2, "{csv}");
    assert!(
        lines[0].starts_with("device_id,start,end,coverage,pv_kwh,")
            && lines[0].ends_with(",cost_pln,revenue_pln,cost_priced_kwh,revenue_priced_kwh")
    );
    assert_eq!(lines[0].split(',').count(), lines[1].split(',').count());
}

/// As soon as any tariff gave a price of any hour, all energy without one cost 0.00 PLN.
#[tokio::test(flavor = "multi_thread")]
async fn money_that_is_not_known_is_no_zero() {
    let (running, _folder) = home().await;
    // Half a kilowatt bought for 26 hours by a house whose battery tells its charge alone.
    let points = (-26 * 60..=0).map(|minute| {
        let time = NOW.0 + minute * MINUTE;
        format!(
            "energy_data,device_id=roof pv_power=0,grid_power=-500,consumption=500,battery_soc=50 {time}\n"
        )
    });
    running.store(&points.collect::<String>()).await;
    let bought = json!({ "builtin": "g11", "energy": { "fixed_pln_kwh": 0.5 } });
    // From midnight of the second day on.
    let tariff = json!({ "name": "g11", "direction": "import", "valid_from": "2026-02-28T23:00:00Z", "definition": bought });
    assert_eq!(running.post("/api/v1/tariffs", tariff.to_string()).await.status, 201);
    let days = "/api/v1/energy?start=2026-02-28T00:00:00%2B01:00";
    let is_whole = async |running: &Running| {
        let answer = running.get(days).await;
        answer.header("x-wattlog-partial") == "false"
            && answer.json()["devices"][0]["periods"][0]["import_kwh"] == json!(7.5)
    };
    running.until("the days to be computed", is_whole).await;
    let told = ask(&running, days).await;
    let periods = told["devices"][0]["periods"].as_array().unwrap();
    assert_eq!((periods.len(), &periods[0]["cost"]), (2, &Value::Null), "{told}");
    let cost = &periods[1]["cost"];
    let kwh = periods[1]["import_kwh"].as_f64().unwrap();
    assert!((cost["pln"].as_f64().unwrap() - kwh * (0.5 + 0.0892 + 0.3125)).abs() < 2e-6, "{cost}");
    // Nobody knows what of it went into the battery.
    assert_eq!((&cost["house_pln"], &cost["battery_pln"]), (&Value::Null, &Value::Null));
    assert_eq!((&periods[1]["charge_kwh"], &periods[1]["revenue"]), (&Value::Null, &Value::Null));
    assert_eq!(
        told["notes"],
        json!(["no revenue: the ledger has no tariff for that time (POST /api/v1/tariffs)"])
    );
    let csv = running.get(&format!("{days}&format=csv")).await;
    assert_eq!(csv.header("x-wattlog-partial"), "false");
    let text = csv.text();
    let cells = |line: &str| line.split(',').map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = text.lines().map(cells).collect();
    let tail = |at: usize| lines[at][lines[at].len() - 4..].to_vec();
    assert_eq!(tail(0), ["cost_pln", "revenue_pln", "cost_priced_kwh", "revenue_priced_kwh"]);
    assert_eq!(tail(1), ["", "", "", ""]);
    assert_eq!(
        tail(2),
        [cost["pln"].to_string().as_str(), "", periods[1]["import_kwh"].to_string().as_str(), ""]
    );

    // Tariffs without a price and one that cannot be reckoned with hold all the same.
    let unpriced = json!({
        "name": "sold before", "direction": "export", "valid_from": "2026-01-01T00:00:00Z",
        "valid_until": "2026-02-28T12:00:00Z", "definition": { "sold": true, "energy": { "market": { "source": "none" } } },
    });
    assert_eq!(running.post("/api/v1/tariffs", unpriced.to_string()).await.status, 201);
    let notes = ask(&running, days).await["notes"].clone();
    let wanted =
        "no revenue: no price is known at any time of it (/api/v1/prices?direction=export tells each hour)";
    assert_eq!(notes, json!([wanted]));
    let prices = "prices,source=a market_price=1 1772359200000000000\nprices,source=b market_price=1 1772359200000000000\n";
    running.store(prices).await;
    let unclear = json!({ "name": "sold", "direction": "export", "valid_from": "2026-02-28T12:00:00Z", "definition": { "sold": true } });
    assert_eq!(running.post("/api/v1/tariffs", unclear.to_string()).await.status, 201);
    let notes = ask(&running, days).await["notes"].to_string();
    assert!(notes.contains("name source and product") && !notes.contains("no tariff"), "{notes}");

    // Rows that cannot be read are told in both forms.
    running.engine.seal().unwrap();
    let snapshot = running.engine.snapshot();
    let damaged = snapshot.segments().iter().map(|segment| segment.entry().id).max().unwrap();
    drop(snapshot);
    running.engine.quarantine(damaged).unwrap();
    for format in ["json", "csv"] {
        let answer = running.get(&format!("{days}&format={format}")).await;
        assert_eq!((answer.status, answer.header("x-wattlog-partial")), (200, "true"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_refused_by_name() {
    let (running, _folder) = home().await;
    for (query, wanted) in [
        ("period=week", "period"),
        ("tz=Warsaw", "tz"),
        ("start=now&end=-1d", "start"),
        ("start=soon", "start"),
        ("start=1700-01-01T00:00:00Z&end=2200-01-01T00:00:00Z", "start"),
        ("format=xml", "format"),
        ("colour=red", "colour"),
    ] {
        let answer = running.get(&format!("/api/v1/energy?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(wanted), "{query}: {message}");
    }
    // Before anything was stored there is no database, and no energy.
    let answer = running.get("/api/v1/energy").await;
    assert!(matches!(answer.status, 200 | 404), "{}", answer.text());
}
