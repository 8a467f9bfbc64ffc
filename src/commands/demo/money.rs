//! What the points of the demo mean: a market that publishes prices, tariffs, rules; and what the appliance makes of them.
//!
//! Nothing that is shown is put into the store by hand: prices are fetched from a simulated service by the feeds, sessions, costs
//! and quality are computed from points, and which of the two rules fires is decided by the price of the moment.

use super::{DEVICE, LOCATION, answered, print_answer};
use crate::client::{Client, target};
use crate::commands::print;
use crate::failure::{Failure, Kind};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_alerts::PriceField;
use wattlog_collector::config::{FeedsConfig, Interval, OpenMeteoConfig, PseConfig, PseProduct};
use wattlog_collector::simulator::feeds::{FeedServer, Market};
use wattlog_model::{Clock, Timestamp};

/// Days of prices, at most: the service is asked day by day.
const MOST_DAYS: i64 = 31;
const QUARTER_NS: i64 = 900_000_000_000;
/// What a kWh from the grid costs and what one to it brings: two series of the market.
const BOUGHT: &str = "csdac-pln";
const SOLD: &str = "rce-pln";
/// Longest wait for each of the things that are computed.
const PATIENCE: Duration = Duration::from_mins(2);

/// The services that the demo asks for prices and weather.
pub(super) struct Services {
    pub(super) feeds: FeedsConfig,
    pub(super) task: JoinHandle<()>,
}

impl Services {
    /// Begins to answer, until `over`.
    pub(super) async fn start(
        seed: u64,
        (first, now): (Timestamp, Timestamp),
        zone: &str,
        clock: Arc<dyn Clock>,
        over: &CancellationToken,
    ) -> Result<Self, Failure> {
        let found = jiff::tz::TimeZoneDatabase::bundled().get(zone);
        let market = Market::new(seed, found.map_err(|error| Failure::from_error(Kind::Config, &error))?);
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = FeedServer::bind(any_port, market, clock).await;
        let server = server.map_err(|error| Failure::io("start the simulated services", &error))?;
        let all = server.control().config();
        let pse =
            |pse: PseConfig| PseConfig { products: vec![PseProduct::CsdacPln, PseProduct::RcePln], ..pse };
        let weather = |weather: OpenMeteoConfig| OpenMeteoConfig {
            location: LOCATION.to_owned(),
            interval: Interval::from_secs(3_600),
            ..weather
        };
        let feeds = FeedsConfig {
            // One more: the first local day may have begun before the history.
            backfill_days: u16::try_from((now.0 - shown_from(first, now).0) / Timestamp::DAY_NS + 1)
                .unwrap_or(u16::MAX),
            zone: all.zone,
            pse: all.pse.map(pse),
            open_meteo: all.open_meteo.map(weather),
            ..FeedsConfig::default()
        };
        let until = over.clone();
        let task = tokio::spawn(async move {
            if let Err(error) = server.run(until).await {
                tracing::error!(%error, "the simulated services ended by themselves");
            }
        });
        Ok(Self { feeds, task })
    }
}

/// Where the prices begin.
fn shown_from(first: Timestamp, now: Timestamp) -> Timestamp {
    Timestamp(first.0.max(now.0 - MOST_DAYS * Timestamp::DAY_NS))
}

/// Where rules about the market price find it.
pub(super) fn price_field() -> PriceField {
    let tags =
        [("source", "pse"), ("product", BOUGHT)].map(|(key, value)| (key.to_owned(), value.to_owned()));
    PriceField { measurement: "prices".into(), field: "market_price".into(), tags: tags.into() }
}

/// Tells tariffs and rules, waits for what is computed of them, and shows it.
pub(super) async fn show(
    client: &mut Client,
    url: &str,
    (first, now): (Timestamp, Timestamp),
) -> Result<(), Failure> {
    let first = shown_from(first, now);
    let start = format!("{}ns", first.0);
    let end = format!("{}ns", now.0);
    tell_tariffs(client, first).await?;

    let quarters = (now.0 - 1).div_euclid(QUARTER_NS) - (first.0 - 1).div_euclid(QUARTER_NS);
    let prices = [
        ("measurement", "prices"),
        ("fields", "market_price"),
        ("tag.product", BOUGHT),
        ("start", &start),
        ("end", &end),
        ("fn", "count,mean,min,max"),
    ];
    let mut known = Value::Null;
    until(client, "prices of the month", "/api/v1/query", prices, |answer| {
        known = answer["series"][0]["values"].clone();
        known[1][0].as_i64().unwrap_or(0) >= quarters
    })
    .await?;
    let mean = known[2][0].as_f64().unwrap_or_default();
    print(&format!(
        "\nprices: {} quarters of an hour from the simulated exchange, mean {mean:.4} PLN/kWh ({} to {})",
        known[1][0], known[3][0], known[4][0]
    ))?;
    tell_rules(client, mean).await?;

    let month = [("period", "month"), ("start", &start), ("end", &end)];
    until(client, "costs", "/api/v1/energy", month, |answer| {
        let period = &answer["devices"][0]["periods"][0];
        answer["pending"].as_array().is_some_and(Vec::is_empty) && period["cost"]["pln"].is_number()
    })
    .await?;
    let sessions = [("origin", "detected"), ("device_id", DEVICE), ("order", "desc"), ("limit", "3")];
    until(client, "sessions", "/api/v1/sessions", sessions, |answer| {
        answer["records"].as_array().is_some_and(|records| !records.is_empty())
    })
    .await?;
    let firing = [("state", "firing")];
    until(client, "an alert", "/api/v1/alerts/events", firing, |answer| {
        answer["records"].as_array().is_some_and(|records| !records.is_empty())
    })
    .await?;
    let quality = [("start", "-7d"), ("device_id", DEVICE)];
    for (path, pairs) in [
        ("/api/v1/energy", month.as_slice()),
        ("/api/v1/sessions", &sessions),
        ("/api/v1/quality", &quality),
        ("/api/v1/alerts/events", &firing),
    ] {
        print_answer(client, url, &target(path, pairs.iter().copied())).await?;
    }
    Ok(())
}

/// What the household pays and gets: g12 on the market price, and the settlement price for what it sells.
async fn tell_tariffs(client: &mut Client, first: Timestamp) -> Result<(), Failure> {
    let series = |product: &str| json!({ "market": { "source": "pse", "product": product } });
    // From a day on that does not depend on the moment of the start.
    let day = (first.0.div_euclid(Timestamp::DAY_NS) - 1) * Timestamp::DAY_NS;
    let from = jiff::Timestamp::from_nanosecond(i128::from(day));
    let from = from.map_err(|error| Failure::from_error(Kind::General, &error))?.to_string();
    let tariffs = [
        json!({ "name": "demo g12", "direction": "import", "valid_from": from,
            "definition": { "builtin": "g12", "energy": series(BOUGHT) } }),
        json!({ "name": "demo sale", "direction": "export", "valid_from": from,
            "definition": { "sold": true, "energy": series(SOLD) } }),
    ];
    for tariff in tariffs {
        // A former demo in the same folder told it, of a day that may be another.
        let name = tariff["name"].as_str().unwrap_or_default();
        let known = answered(client, "/api/v1/tariffs", [("name", name)]).await?;
        if known["records"].as_array().is_none_or(Vec::is_empty) {
            tell(client, "/api/v1/tariffs", &tariff).await?;
        }
    }
    Ok(())
}

/// Two rules of which one is true: power is cheaper than usual, or it is not.
async fn tell_rules(client: &mut Client, mean: f64) -> Result<(), Failure> {
    let mean = (mean * 1e4).round() / 1e4;
    for (name, condition, note) in [
        (
            "cheap power",
            json!({ "below": { "fire": mean - 1e-6, "clear": mean - 1e-6 } }),
            "Run the dishwasher now.",
        ),
        (
            "dear power",
            json!({ "above": { "fire": mean, "clear": mean } }),
            "Let the battery feed the house.",
        ),
    ] {
        let rule = json!({ "name": name, "severity": "info", "enabled": true, "channels": [], "note": note,
            "definition": { "input": { "price": { "figure": "market" } }, "condition": condition } });
        tell(client, "/api/v1/alerts/rules", &rule).await?;
    }
    Ok(())
}

/// Makes a record; a former demo in the same folder may have made it already.
async fn tell(client: &mut Client, path: &str, record: &Value) -> Result<(), Failure> {
    let reply = client.post_json(path, record.to_string()).await?;
    if reply.is_success() || reply.status == 409 {
        return Ok(());
    }
    Err(Failure::new(Kind::General, format!("{path}: {}", reply.message())))
}

/// Asks until the answer is as wanted.
async fn until<const N: usize>(
    client: &mut Client,
    what: &str,
    path: &str,
    pairs: [(&str, &str); N],
    mut is_there: impl FnMut(&Value) -> bool,
) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = answered(client, path, pairs).await?;
        if is_there(&answer) {
            return Ok(());
        }
        if tokio::time::Instant::now() > deadline {
            let seconds = PATIENCE.as_secs();
            let message = format!("no {what} within {seconds} s: {path} says {answer}");
            return Err(Failure::new(Kind::General, message));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
