//! Quality over HTTP: a week of a plant with planted faults. All are found, a clean week names nothing, and every number
//! can be asked for again.

use crate::support::{Answer, NOW, Running, Setup};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use wattlog_server::{DeviceStatus, DeviceStatusProvider};

const MINUTE: i64 = 60_000_000_000;
/// Minutes of a week, which ends at [`NOW`], 11:00 in Warsaw.
const WEEK: usize = 7 * 1440;

/// Numbers that look random and are the same on every run.
struct Dice(u64);

impl Dice {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1_u32 << 31)
    }
}

#[derive(Debug, Clone, Copy)]
struct Minute {
    pv: f64,
    house: f64,
    battery: f64,
    grid: f64,
    soc: f64,
}

impl Minute {
    /// What the house and the battery do not take goes to the grid.
    fn balanced(self) -> Self {
        Self { grid: self.pv + self.battery - self.house, ..self }
    }
}

/// A healthy plant in February: clouds, a kettle, a battery of 10 kWh whose charge is told in whole percents.
fn plant(seed: u64) -> Vec<Minute> {
    let mut dice = Dice(seed);
    let (mut cloud, mut kettle, mut soc) = (0.8_f64, 0, 60.0_f64);
    let minute = |at: usize| {
        let of_day = ((660 + at) % 1440) as f64;
        let sun = if (420.0..1020.0).contains(&of_day) {
            ((of_day - 420.0) / 600.0 * std::f64::consts::PI).sin()
        } else {
            0.0
        };
        cloud = (cloud + (dice.unit() - 0.5) * 0.12).clamp(0.15, 1.0);
        let pv = (5000.0 * sun * cloud).round();
        kettle = if dice.unit() < 0.004 { 5 } else { (kettle - 1).max(0) };
        let house = (300.0 + if kettle > 0 { 1900.0 } else { 0.0 } + dice.unit() * 40.0).round();
        let wish = (house - pv).clamp(-3000.0, 3000.0);
        let battery = if (wish < 0.0 && soc >= 100.0) || (wish > 0.0 && soc <= 10.0) { 0.0 } else { wish };
        soc = (soc - battery / 60.0 / 10_000.0 * 100.0).clamp(10.0, 100.0);
        let grid = (pv + battery - house + (dice.unit() - 0.5) * 30.0).round();
        Minute { pv, house, battery, grid, soc: soc.round() }
    };
    (0..WEEK).map(minute).collect()
}

fn time(minute: usize) -> i64 {
    NOW.0 - (WEEK - minute) as i64 * MINUTE
}

/// As the answer tells it: minutes of the week are those of Warsaw in winter.
fn told(minute: usize) -> String {
    let ns = i128::from(time(minute)) + 3_600_000_000_000;
    let local = jiff::Timestamp::from_nanosecond(ns).unwrap().to_string();
    local.replace('Z', "+01:00")
}

async fn server() -> Running {
    let mut setup = Setup::default();
    setup.server.home_zone = "Europe/Warsaw".to_owned();
    setup.start().await
}

async fn store(running: &Running, device: &str, minutes: &[Minute], missing: &BTreeSet<usize>) {
    for (part, chunk) in minutes.chunks(2000).enumerate() {
        let mut lines = String::new();
        for (at, minute) in chunk.iter().enumerate() {
            let at = part * 2000 + at;
            if missing.contains(&at) {
                continue;
            }
            let Minute { pv, house, battery, grid, soc } = minute;
            // The clock of the device is two seconds ahead, and shows local time.
            let clock = time(at) / 1_000_000_000 + 3600 + 2;
            lines += &format!(
                "energy_data,device_id={device},data_source=test pv_power={pv},battery_power={battery},grid_power={grid},\
                 consumption={house},battery_soc={soc},inverter_clock={clock} {}\n",
                time(at)
            );
        }
        running.store(&lines).await;
    }
}

async fn ask(running: &Running, target: &str) -> Value {
    let answer = running.get(target).await;
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json()
}

/// Check, field and count of each problem.
fn problems(series: &Value) -> BTreeSet<(String, String, u64)> {
    let problem = |problem: &Value| {
        let text = |name: &str| problem[name].as_str().unwrap().to_owned();
        assert!(!text("advice").is_empty());
        (text("check"), text("field"), problem["count"].as_u64().unwrap())
    };
    series["problems"].as_array().unwrap().iter().map(problem).collect()
}

fn field<'v>(series: &'v Value, name: &str) -> &'v Value {
    let fields = series["parts"][0]["fields"].as_array().unwrap();
    fields.iter().find(|field| field["field"] == name).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_week_names_nothing() {
    let running = server().await;
    for seed in 1..=4_u64 {
        store(&running, &format!("plant{seed}"), &plant(seed), &BTreeSet::new()).await;
    }
    let answer = ask(&running, "/api/v1/quality").await;
    assert_eq!(answer["series"].as_array().unwrap().len(), 4);
    for series in answer["series"].as_array().unwrap() {
        assert_eq!(series["problems"], json!([]), "{}", series["tags"]);
        assert_eq!(
            (&series["score"], &series["absent"], &series["unread"]),
            (&json!(1.0), &json!([]), &json!([]))
        );
        let plant = &series["parts"][0]["plant"];
        for verdict in ["battery_by_soc", "battery_by_balance", "grid_by_balance"] {
            assert_eq!(plant[verdict]["sign"], "right", "{verdict}: {plant}");
        }
        assert_eq!(plant["clock"]["offset_s"], json!(2.0));
        let pv = field(series, "pv_power");
        assert_eq!((&pv["interval_s"], &pv["interval_from"]), (&json!(60.0), &json!("points")));
        assert_eq!(pv["completeness"]["expected"], json!(WEEK));
        assert_eq!((&pv["gaps"]["count"], &pv["completeness"]["missing"]), (&json!(0), &json!(0)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn planted_faults_are_found_and_every_link_shows_the_same() {
    let running = server().await;
    let mut minutes = plant(7);
    // The register of the roof hangs from 11:00 to 13:30 of the fourth day; the balance is that of what it says.
    for minute in &mut minutes[4320..4470] {
        *minute = Minute { pv: 1234.5, ..*minute }.balanced();
    }
    minutes[6000].soc = 6553.5;
    minutes[7000].house = 40_000.0;
    // A load that no meter of the house sees.
    for minute in &mut minutes[9000..9030] {
        *minute = minute.balanced();
        minute.grid -= 1500.0;
    }
    let missing: BTreeSet<usize> = (1500..1520).collect();
    store(&running, "roof", &minutes, &missing).await;
    let answer = ask(&running, "/api/v1/quality?device_id=roof").await;
    let series = &answer["series"][0];
    let mut expected: BTreeSet<(String, String, u64)> = [
        ("stuck", "pv_power"),
        ("out_of_range", "battery_soc"),
        ("spikes", "battery_soc"),
        ("spikes", "consumption"),
        ("balance", "pv_power, battery_power, grid_power, consumption"),
    ]
    .map(|(check, field)| (check.to_owned(), field.to_owned(), 1))
    .into();
    let fields = ["pv_power", "battery_power", "grid_power", "consumption", "battery_soc"];
    expected.extend(fields.map(|field| ("gaps".to_owned(), field.to_owned(), 1)));
    assert_eq!(problems(series), expected);

    let pv = field(series, "pv_power");
    let stuck = &pv["stuck"]["list"][0];
    assert_eq!((&stuck["first"], &stuck["last"]), (&json!(told(4320)), &json!(told(4469))));
    assert_eq!((&stuck["points"], &stuck["worst"]), (&json!(150), &json!(1234.5)));
    let gap = &pv["gaps"]["list"][0];
    assert_eq!((&gap["start"], &gap["end"]), (&json!(told(1499)), &json!(told(1520))));
    let points = (WEEK - 20) as f64;
    assert_eq!((&pv["points"]["count"], &pv["completeness"]["missing"]), (&json!(WEEK - 20), &json!(20)));
    assert_eq!(pv["accuracy"]["share"], json!(1.0 - 150.0 / points));
    let score = pv["score"]["share"].as_f64().unwrap();
    assert!((score - (1.0 - 20.0 / WEEK as f64) * (1.0 - 150.0 / points)).abs() < 1e-12, "{score}");
    let soc = field(series, "battery_soc");
    let outside = &soc["out_of_range"]["list"][0];
    assert_eq!((&outside["first"], &outside["worst"]), (&json!(told(6000)), &json!(6553.5)));
    assert_eq!(soc["accuracy"]["share"], json!(1.0 - 1.0 / points), "a point counts once");
    let spike = &field(series, "consumption")["spikes"]["list"][0];
    assert_eq!((&spike["first"], &spike["worst"]), (&json!(told(7000)), &json!(40_000.0)));
    let balance = &series["parts"][0]["plant"]["balance"];
    assert_eq!((&balance["list"][0]["first"], &balance["points"]), (&json!(told(9000)), &json!(30)));
    assert_eq!(balance["list"][0]["worst"], json!(1500.0));

    let mut followed = Followed::default();
    follow(&running, &answer, &mut followed).await;
    // Of five fields eight numbers and a gap; five stretches; of the plant the balance, three verdicts and the clock.
    let Followed { links, counts, stretches, gaps } = followed;
    assert_eq!((links, counts, stretches, gaps), (5 * 9 + 5 + 5, 10, 5, 5));
    // Plants of another rated power have other limits: 40 kW are beyond those of 6 kW.
    let small = ask(&running, "/api/v1/quality?rated_w=6000").await;
    let house = field(&small["series"][0], "consumption");
    assert_eq!(
        (&house["out_of_range"]["high"], &house["out_of_range"]["points"]),
        (&json!(9000.0), &json!(1))
    );

    let csv = running.get("/api/v1/quality?format=csv").await;
    assert_eq!(csv.header("content-type"), "text/csv; charset=utf-8");
    let text = csv.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "series,start,end,check,fields,value,count,points,query");
    // Seven checks of five fields, and five of the plant.
    assert_eq!(lines.len(), 1 + 7 * 5 + 5, "{text}");
    let head = format!("device_id=roof,{},{},stuck,pv_power,,1,150,/api/v1/query?", told(0), told(WEEK));
    assert!(lines.iter().any(|line| line.starts_with(&head)), "{head}\n{text}");
}

#[derive(Debug, Default)]
struct Followed {
    links: usize,
    counts: usize,
    stretches: usize,
    gaps: usize,
}

/// Asks every query that an answer names, and compares what it counts.
async fn follow(running: &Running, value: &Value, followed: &mut Followed) {
    let mut waiting = vec![value];
    while let Some(value) = waiting.pop() {
        match value {
            Value::Array(list) => waiting.extend(list),
            Value::Object(members) => {
                waiting.extend(members.values());
                let Some(link) = value["query"].as_str() else { continue };
                let answer = ask(running, link).await;
                followed.links += 1;
                let column = |wanted: &str| {
                    let columns = answer["series"][0]["columns"].as_array()?;
                    let at = columns.iter().position(|name| name.as_str().unwrap().ends_with(wanted))?;
                    Some(answer["series"][0]["values"][at][0].clone())
                };
                if value["expected"].is_null()
                    && value["count"].is_u64()
                    && value["list"].is_null()
                    && value["sign"].is_null()
                    && value["offset_s"].is_null()
                {
                    assert_eq!(Some(value["count"].clone()), column("_count"), "{link}");
                    followed.counts += 1;
                }
                if value["start"].is_string() {
                    assert!(column("_count").is_none_or(|count| count == 0), "{link}: nothing is in a gap");
                    followed.gaps += 1;
                }
                if let Some(expected) = value["expected"].as_u64() {
                    let missing = value["missing"].as_u64().unwrap();
                    assert_eq!(Some(json!(expected - missing)), column("_count"), "{link}");
                    followed.counts += 1;
                }
                if value["low"].is_number() {
                    let points = value["points"].as_u64().unwrap();
                    assert_eq!(column("_count").unwrap_or(json!(0)), json!(points), "{link}");
                }
                if value["worst"].is_number() {
                    assert_eq!(Some(value["points"].clone()), column("_count"), "{link}");
                    let ends = [column("_min").unwrap(), column("_max").unwrap()];
                    let worst = value["worst"].as_f64().unwrap();
                    assert!(ends.iter().any(|end| end.as_f64() == Some(worst)), "{link}: {worst} {ends:?}");
                    followed.stretches += 1;
                }
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_that_counts_the_wrong_way_round_is_named() {
    let running = server().await;
    let turned = |change: fn(&mut Minute)| {
        let mut minutes = plant(3);
        minutes.iter_mut().for_each(change);
        minutes
    };
    store(&running, "grid", &turned(|minute| minute.grid = -minute.grid), &BTreeSet::new()).await;
    store(&running, "battery", &turned(|minute| minute.battery = -minute.battery), &BTreeSet::new()).await;
    let answer = ask(&running, "/api/v1/quality").await;
    for (place, device) in ["battery", "grid"].into_iter().enumerate() {
        let series = &answer["series"][place];
        assert_eq!(series["tags"], json!({ "device_id": device }));
        let signs: Vec<_> = problems(series).into_iter().filter(|(check, _, _)| check == "sign").collect();
        assert_eq!(signs, [("sign".to_owned(), format!("{device}_power"), 1)], "{series}");
    }
    let battery = &answer["series"][0]["parts"][0]["plant"]["battery_by_soc"];
    assert_eq!((&battery["sign"], battery["strength"].as_f64().unwrap() < -0.9), (&json!("reversed"), true));
}

struct Polled;

impl DeviceStatusProvider for Polled {
    fn devices(&self) -> Vec<DeviceStatus> {
        let device = |id: &str, vendor: &str| DeviceStatus {
            id: id.to_owned(),
            vendor: vendor.to_owned(),
            transport: "tcp".to_owned(),
            address: "192.0.2.1:502".to_owned(),
            interval_ms: 30_000,
            rated_power_w: None,
            last_attempt: None,
            last_success: None,
            last_error: None,
            polls_ok: 0,
            errors: Vec::new(),
            sentinels: 0,
            dropped_points: 0,
        };
        vec![device("barn", "goodwe"), device("roof", "goodwe")]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_polled_is_held_against_its_interval_and_told_though_it_is_silent() {
    let running = server().await;
    running.state.set_devices(Arc::new(Polled));
    store(&running, "roof", &plant(1), &BTreeSet::new()).await;
    let answer = ask(&running, "/api/v1/quality?start=-1d").await;
    let series = answer["series"].as_array().unwrap();
    let names: Vec<&str> = series.iter().map(|one| one["tags"]["device_id"].as_str().unwrap()).collect();
    assert_eq!(names, ["barn", "roof"]);
    let silent = field(&series[0], "grid_power");
    assert_eq!((&silent["completeness"]["share"], &silent["gaps"]["count"]), (&json!(0.0), &json!(1)));
    assert_eq!((&silent["accuracy"], &series[0]["score"]), (&Value::Null, &json!(0.0)));
    // A point a minute is half of what is polled.
    let pv = field(&series[1], "pv_power");
    assert_eq!((&pv["interval_s"], &pv["interval_from"]), (&json!(30.0), &json!("device")));
    assert_eq!(
        (&pv["completeness"]["expected"], &pv["completeness"]["missing"]),
        (&json!(2880), &json!(1440))
    );
    let asked = ask(&running, "/api/v1/quality?start=-1d&device_id=roof&interval=1m").await;
    let pv = field(&asked["series"][0], "pv_power");
    assert_eq!((&pv["interval_from"], &pv["completeness"]["share"]), (&json!("request"), &json!(1.0)));
    assert_eq!(asked["series"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_measurement_is_judged_field_by_field() {
    let running = server().await;
    let mut lines = String::new();
    for hour in 0..168_i64 {
        let time = NOW.0 - (168 - hour) * 60 * MINUTE;
        let warmth = if hour == 100 { 80.0 } else { 5.0 + (hour % 24) as f64 / 4.0 };
        // Two hours are missing; a text and a counter are not measured.
        if !(50..52).contains(&hour) {
            lines += &format!(
                "weather_data,source=imgw,kind=measured temperature={warmth},note=\"x\",count=3i {time}\n"
            );
        }
    }
    running.store(&lines).await;
    let answer = ask(&running, "/api/v1/quality?measurement=weather_data").await;
    let series = &answer["series"][0];
    assert_eq!(series["tags"], json!({ "kind": "measured", "source": "imgw" }));
    let names: Vec<&Value> =
        series["parts"][0]["fields"].as_array().unwrap().iter().map(|field| &field["field"]).collect();
    assert_eq!(names, [&json!("temperature"), &json!("count")]);
    let expected = [("spikes", "temperature")].map(|(check, field)| (check.to_owned(), field.to_owned(), 1));
    assert_eq!(
        problems(series),
        expected.into(),
        "two hours are no gap of five intervals, counters may stand still"
    );
    let warmth = field(series, "temperature");
    assert_eq!((&warmth["interval_s"], &warmth["completeness"]["missing"]), (&json!(3600.0), &json!(2)));
    assert_eq!(series["parts"][0]["plant"], Value::Null);
    assert!(field(series, "count")["stuck"].is_null());
    let mut followed = Followed::default();
    follow(&running, &answer, &mut followed).await;
    assert!(followed.counts >= 4, "{followed:?}");
    let one = ask(&running, "/api/v1/quality?measurement=weather_data&fields=temperature").await;
    assert_eq!(one["series"][0]["parts"][0]["fields"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_judged_is_refused_by_name() {
    let running = server().await;
    let refusal = |answer: Answer| answer.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(ask(&running, "/api/v1/quality").await["series"], json!([]), "an empty store has no plant");
    running.store("m,t=a v=1,s=\"x\" 1772359100000000000\n").await;
    for (query, status, wanted) in [
        ("start=now", 400, "start"),
        ("start=-4000d", 422, "3660"),
        ("interval=soon", 400, "interval"),
        ("rated_w=-1", 400, "rated_w"),
        ("tz=Warsaw", 400, "tz"),
        ("format=xml", 400, "format"),
        ("fields=a,,b", 400, "fields"),
        ("measurement=m&fields=x", 400, "no field"),
        ("measurement=m&fields=s", 400, "no numbers"),
        ("measurement=none", 404, "none"),
        ("colour=red", 400, "colour"),
    ] {
        let answer = running.get(&format!("/api/v1/quality?{query}")).await;
        assert_eq!(answer.status, status, "{query}: {}", answer.text());
        let message = refusal(answer);
        assert!(message.contains(wanted), "{query}: {message}");
    }
    // A single point tells no interval; that is said, and no number is made up.
    let single = ask(&running, "/api/v1/quality?measurement=m").await;
    let series = &single["series"][0];
    assert_eq!((&series["score"], &series["parts"][0]["fields"]), (&Value::Null, &json!([])));
    assert!(series["unread"][0]["reason"].as_str().unwrap().contains("interval"), "{series}");
    // The ends of time, an interval beyond any range, names that need care: answered, with links that answer.
    let strange = "odd\\ name,t\\ k==\\ ~x v\\ 1=1,v\\ 1b=2 1772359000000000000\nodd\\ name,t\\ k==\\ ~x v\\ 1=2 1772359100000000000\n";
    running.store(strange).await;
    for query in [
        "start=1677-09-22T00:00:00Z&end=1677-10-01T00:00:00Z&interval=1d",
        "start=1677-09-22T00:00:00Z&end=1677-10-01T00:00:00Z&measurement=m&interval=1ns",
        "measurement=m&interval=5000w",
        "measurement=odd%20name&interval=1m",
    ] {
        let answer = ask(&running, &format!("/api/v1/quality?{query}")).await;
        follow(&running, &answer, &mut Followed::default()).await;
    }
    let odd = ask(&running, "/api/v1/quality?measurement=odd%20name&interval=1m").await;
    assert_eq!(odd["series"][0]["tags"], json!({ "t k": "= ~x" }));
    assert_eq!(field(&odd["series"][0], "v 1")["points"]["count"], json!(2));
    // More series than are judged together.
    let many: String = (0..51).map(|n| format!("wide,t=t{n} v=1 1772359100000000000\n")).collect();
    running.store(&many).await;
    let answer = running.get("/api/v1/quality?measurement=wide").await;
    assert_eq!(answer.status, 422);
    assert!(refusal(answer).contains("at most 50"));
}
