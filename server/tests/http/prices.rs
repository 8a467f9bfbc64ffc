//! Prices over HTTP: the tariff g12 in the weeks in which clocks are set, reckoned by hand.

use crate::support::{Running, Setup};
use serde_json::{Value, json};
use wattlog_ledger::{Backend, Ledger, LedgerOptions};
use wattlog_server::Size;

const HOUR: i64 = 3_600_000_000_000;
/// 2026-03-28T23:00:00Z and 2026-10-24T22:00:00Z: midnight of the days with 23 and 25 hours in Warsaw.
const SHORT: i64 = 1_774_738_800_000_000_000;
const LONG: i64 = 1_792_879_200_000_000_000;

async fn home() -> (Running, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    let running = setup.start().await;
    let options = LedgerOptions::new(Backend::Sqlite(folder.path().join("ledger.db")));
    assert!(running.state.set_ledger(Ledger::new(options, running.clock.clone()).unwrap()));
    (running, folder)
}

async fn ask(running: &Running, target: &str) -> Value {
    let answer = running.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json()
}

async fn tariff(running: &Running, direction: &str, from: &str, until: Option<&str>, definition: Value) {
    let mut tariff =
        json!({ "name": "g12", "direction": direction, "valid_from": from, "definition": definition });
    if let Some(until) = until {
        tariff["valid_until"] = until.into();
    }
    let made = running.post("/api/v1/tariffs", tariff.to_string()).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

/// Market prices of so many hours from `start` on: 0.40, 0.41 .. PLN/kWh.
fn market(start: i64, hours: i64) -> String {
    let line = |hour: i64| {
        let (price, time) = (0.4 + hour as f64 / 100.0, start + hour * HOUR);
        format!("prices,source=pse,product=csdac-pln market_price={price:.2} {time}\n")
    };
    (0..hours).map(line).collect()
}

fn near(value: &Value, wanted: f64) {
    let found = value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    assert!((found - wanted).abs() < 1e-9, "{found} {wanted}");
}

const MARKET: &str = r#"{"market":{"source":"pse","product":"csdac-pln"}}"#;

/// What g12 asks for an hour of the clock: 0.3566 from 7 to 13 and from 15 to 22, otherwise 0.0749.
fn g12(hour: i64) -> (&'static str, f64) {
    if (7..13).contains(&hour) || (15..22).contains(&hour) { ("peak", 0.3566) } else { ("off", 0.0749) }
}

#[tokio::test(flavor = "multi_thread")]
async fn g12_on_the_days_with_23_and_25_hours() {
    let (running, _folder) = home().await;
    running.store(&market(SHORT, 23)).await;
    running.store(&market(LONG, 25)).await;
    let energy: Value = serde_json::from_str(MARKET).unwrap();
    tariff(
        &running,
        "import",
        "2026-01-01T00:00:00+01:00",
        None,
        json!({ "builtin": "g12", "energy": energy.clone() }),
    )
    .await;
    tariff(&running, "export", "2026-01-01T00:00:00+01:00", None, json!({ "sold": true, "energy": energy }))
        .await;
    let short: Vec<i64> = (0..24).filter(|hour| *hour != 2).collect();
    let long: Vec<i64> = [0, 1, 2].into_iter().chain(2..24).collect();
    for (day, hours, first, second) in [
        (
            "start=2026-03-29T00:00:00%2B01:00&end=2026-03-30T00:00:00%2B02:00",
            short,
            "2026-03-29T00:00:00+01:00",
            "2026-03-29T03:00:00+02:00",
        ),
        (
            "start=2026-10-25T00:00:00%2B02:00&end=2026-10-26T00:00:00%2B01:00",
            long,
            "2026-10-25T00:00:00+02:00",
            "2026-10-25T02:00:00+02:00",
        ),
    ] {
        let answer = ask(&running, &format!("/api/v1/prices?tariff=g12&{day}")).await;
        let head =
            ["tariff", "direction", "unit", "includes_vat", "every", "notes"].map(|name| &answer[name]);
        let expected =
            [json!("g12"), json!("import"), json!("PLN/kWh"), json!(false), json!("1h"), json!([])];
        assert_eq!(head, expected.each_ref());
        let steps = answer["steps"].as_array().unwrap();
        assert_eq!(steps.len(), hours.len());
        assert_eq!((&steps[0]["start"], &steps[2]["start"]), (&json!(first), &json!(second)));
        let mut total = 0.0;
        for (place, (step, hour)) in steps.iter().zip(&hours).enumerate() {
            let (zone, way) = g12(*hour);
            let price = 0.4 + place as f64 / 100.0;
            assert_eq!(step["zone"], zone, "{step}");
            near(&step["market"], price);
            near(&step["energy"], price);
            near(&step["fixed"], 0.0892);
            near(&step["distribution"], way);
            near(&step["total"], price + 0.0892 + way);
            total += price + 0.0892 + way;
        }
        let mean = answer["summary"]["mean"].as_f64().unwrap();
        assert!((mean - total / hours.len() as f64).abs() < 1e-6, "{mean}");
        near(&answer["summary"]["cheapest"]["price"], 0.4 + 0.0892 + 0.0749);
        assert_eq!(answer["summary"]["cheapest"]["start"], first);
        // The dearest is the last hour of the peak, 21:00: two hours before the end of the day.
        let last = hours.len() - 3;
        near(&answer["summary"]["dearest"]["price"], 0.4 + last as f64 / 100.0 + 0.0892 + 0.3566);
        // What is sold brings the market's price alone.
        let sold = ask(&running, &format!("/api/v1/prices?tariff=g12&direction=export&{day}")).await;
        let step = &sold["steps"][8];
        near(&step["total"], 0.48);
        assert_eq!(
            (&step["distribution"], &step["fixed"], &step["zone"]),
            (&Value::Null, &Value::Null, &Value::Null)
        );
        let quarters = ask(&running, &format!("/api/v1/prices?tariff=g12&every=15m&{day}")).await;
        assert_eq!(quarters["steps"].as_array().unwrap().len(), 4 * hours.len());
        assert_eq!(quarters["steps"][4]["total"], steps[1]["total"]);
        let csv = running.get(&format!("/api/v1/prices?tariff=g12&format=csv&{day}")).await;
        let text = csv.text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 1 + hours.len());
        assert_eq!(lines[0], "start,end,market,energy,fixed,distribution,total,zone");
        assert!(lines[1].ends_with(",0.4,0.4,0.0892,0.0749,0.5641,off"), "{}", lines[1]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quarters_of_the_market_missing_prices_and_a_tariff_that_changes() {
    let (running, _folder) = home().await;
    let price = |minute: i64, price: &str| {
        format!("prices,source=pse,product=csdac-pln market_price={price} {}\n", LONG + minute * HOUR / 60)
    };
    // An hour by quarters; then an hour of which half is not told, and is none of the next.
    let quarters = price(0, "0.4") + &price(15, "0.5") + &price(30, "0.6") + &price(45, "0.75");
    running.store(&(quarters + &price(60, "0.65") + &price(75, "0.85") + &price(120, "0.1"))).await;
    let energy: Value = serde_json::from_str(MARKET).unwrap();
    let from = "2026-10-25T01:30:00+02:00";
    tariff(
        &running,
        "import",
        "2026-01-01T00:00:00+01:00",
        Some(from),
        json!({ "builtin": "g12", "energy": energy }),
    )
    .await;
    tariff(&running, "import", from, None, json!({ "builtin": "g11", "energy": { "fixed_pln_kwh": 0.62 } }))
        .await;
    let range = "start=2026-10-25T00:00:00%2B02:00&end=2026-10-25T02:00:00%2B02:00";
    let hours = ask(&running, &format!("/api/v1/prices?tariff=g12&{range}")).await;
    near(&hours["steps"][0]["market"], (0.4 + 0.5 + 0.6 + 0.75) / 4.0);
    // A price holds for its own quarter, so the last one's does until half past, when the tariff changes.
    let second = &hours["steps"][1];
    assert_eq!((&second["market"], &second["zone"]), (&Value::Null, &Value::Null), "{second}");
    near(&second["total"], ((0.75 + 0.0892 + 0.0749) + (0.62 + 0.0892 + 0.3125)) / 2.0);
    let quarters = ask(&running, &format!("/api/v1/prices?tariff=g12&every=15m&{range}")).await;
    let steps = quarters["steps"].as_array().unwrap();
    near(&steps[5]["market"], 0.85);
    assert_eq!((&steps[6]["market"], &steps[6]["zone"]), (&Value::Null, &json!("all")));
    near(&steps[6]["energy"], 0.62);
    // All that hold, whatever their names: what sessions are priced by.
    let named = ask(&running, &format!("/api/v1/prices?tariff=g12&every=15m&{range}")).await;
    let any = ask(&running, &format!("/api/v1/prices?direction=import&every=15m&{range}")).await;
    assert_eq!((&any["steps"], &any["direction"]), (&named["steps"], &json!("import")));
    assert_eq!((&any["tariff"], any["steps"].as_array().unwrap().len()), (&Value::Null, 8));
    // Before the tariff's prices are known there is no total, and that is said.
    let early = ask(
        &running,
        "/api/v1/prices?tariff=g12&start=2026-10-24T23:00:00%2B02:00&end=2026-10-25T01:00:00%2B02:00",
    )
    .await;
    assert_eq!((&early["steps"][0]["total"], &early["steps"][0]["zone"]), (&Value::Null, &json!("off")));
    assert!(early["notes"][0].as_str().unwrap().starts_with("1 of 2 steps"), "{early}");

    // Without a tariff: the market alone, each source by itself.
    running.store(&format!("prices,source=optimiser market_price=0.9 {LONG}\n")).await;
    let market = ask(&running, &format!("/api/v1/prices?{range}")).await;
    let sources: Vec<&Value> =
        market["series"].as_array().unwrap().iter().map(|series| &series["tags"]["source"]).collect();
    assert_eq!(sources, ["pse", "optimiser"]);
    near(&market["series"][1]["steps"][0]["market"], 0.9);
    assert_eq!(market["series"][1]["steps"][1]["market"], Value::Null);
    near(&market["series"][0]["summary"]["mean"], 0.5625);
    let one =
        running.get(&format!("/api/v1/prices?tag.source=pse&every=15m&format=csv&{range}")).await.text();
    let lines: Vec<&str> = one.lines().collect();
    assert_eq!((lines.len(), lines[0]), (9, "series,start,end,market"));
    assert!(lines[4].ends_with("T00:45:00+02:00,2026-10-25T01:00:00+02:00,0.75"), "{}", lines[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tariff_that_goes_by_the_code_of_the_hour_is_known_where_the_code_is() {
    let (running, _folder) = home().await;
    let code = |hour: i64, code: i64| {
        format!("prices,source=pse,product=pdgsz usage_forecast={code} {}\n", LONG + hour * HOUR)
    };
    running.store(&(code(0, 2) + &code(1, 0) + &code(3, 9))).await;
    let definition = json!({ "builtin": "g14dynamic", "energy": { "fixed_pln_kwh": 0.5 } });
    tariff(&running, "import", "2026-01-01T00:00:00+01:00", None, definition).await;
    let range = "start=2026-10-25T00:00:00%2B02:00&end=2026-10-25T03:00:00%2B01:00";
    let answer = ask(&running, &format!("/api/v1/prices?tariff=g12&{range}")).await;
    let steps = answer["steps"].as_array().unwrap();
    assert_eq!(
        (&steps[0]["zone"], &steps[1]["zone"]),
        (&json!("recommended_saving"), &json!("recommended_use"))
    );
    near(&steps[0]["total"], 0.5 + 0.0892 + 0.4339);
    near(&steps[1]["total"], 0.5 + 0.0892 + 0.0145);
    // No code, and one that is none: a price for an unknown hour would be made up.
    for step in &steps[2..] {
        let told = ["distribution", "total", "zone"].map(|name| &step[name]);
        assert_eq!(told, [&Value::Null; 3], "{step}");
        near(&step["energy"], 0.5);
    }
    assert_eq!(steps.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_refused_by_name() {
    let (running, _folder) = home().await;
    // Today and tomorrow, before anything is known.
    let empty = ask(&running, "/api/v1/prices").await;
    assert_eq!((&empty["series"], &empty["tz"]), (&json!([]), &json!("Europe/Warsaw")));
    for (query, status, wanted) in [
        ("tariff=g99", 404, "g99"),
        ("tariff=g12&direction=up", 400, "direction"),
        ("direction=import", 404, "no tariff with direction import"),
        ("direction=import&tag.source=pse", 400, "tag"),
        ("tariff=g12&tag.source=pse", 400, "tag"),
        ("every=5m", 400, "every"),
        ("start=now&end=-1d", 400, "start"),
        ("start=2020-01-01T00:00:00Z&end=2026-01-01T00:00:00Z", 400, "35136"),
        ("tz=Warsaw", 400, "tz"),
        ("format=xml", 400, "format"),
        ("colour=red", 400, "colour"),
    ] {
        let answer = running.get(&format!("/api/v1/prices?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(wanted), "{query}: {message}");
    }
    tariff(&running, "import", "2026-01-01T00:00:00+01:00", None, json!({ "builtin": "g12" })).await;
    for range in [
        "start=1677-09-22T00:00:00Z&end=1677-09-23T00:00:00Z",
        "start=2262-04-10T00:00:00Z&end=2262-04-11T23:00:00Z",
        "start=2262-04-11T00:00:00Z",
    ] {
        let far = ask(&running, &format!("/api/v1/prices?tariff=g12&{range}")).await;
        assert!(far["steps"].as_array().unwrap().iter().all(|step| step["total"].is_null()), "{range}");
    }
    running.store("prices,source=a market_price=1 1772359200000000000\nprices,source=b market_price=1 1772359200000000000\n").await;
    let answer = running.get("/api/v1/prices?tariff=g12").await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("name source and product"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_too_long_is_refused() {
    let running = Setup::limits(|limits| limits.answer = Size::mib(1)).start().await;
    let series = |names: std::ops::Range<usize>| -> String {
        names.map(|name| format!("prices,source=s{name:02} market_price=0.5 {SHORT}\n")).collect()
    };
    running.store(&series(0..2)).await;
    let year = "every=15m&start=2026-01-01T00:00:00Z&end=2027-01-01T00:00:00Z";
    // A year of quarters, each of 70 bytes and more, of two series: as many steps as there may be, and 4 MiB of text.
    for format in ["json", "csv"] {
        let answer = running.get(&format!("/api/v1/prices?{year}&format={format}")).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert!(answer.text().contains("1MiB"), "{}", answer.text());
    }
    assert_eq!(running.limit_reached("answer").await, 2.0);
    let shorter = "every=15m&start=2026-03-29T00:00:00Z&end=2026-04-02T00:00:00Z";
    let answer = ask(&running, &format!("/api/v1/prices?{shorter}")).await;
    let steps = answer["series"].as_array().unwrap().iter().map(|one| one["steps"].as_array().unwrap().len());
    assert_eq!(steps.collect::<Vec<_>>(), [384, 384]);
    running.store(&series(2..3)).await;
    let answer = running.get(&format!("/api/v1/prices?{year}")).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("105120, at most 70272") && text.contains("tag.source"), "{text}");
    running.store(&series(3..21)).await;
    let answer = running.get(&format!("/api/v1/prices?{shorter}")).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    let text = answer.text();
    assert!(text.contains("series of market prices: 21, at most 20"), "{text}");
    assert!(!text.contains("TagFilter") && !text.contains("energy.market"), "{text}");
    // One of them can be asked for.
    let one = ask(&running, &format!("/api/v1/prices?{shorter}&tag.source=s20")).await;
    assert_eq!(one["series"].as_array().unwrap().len(), 1);
}
