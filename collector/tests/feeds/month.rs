//! Months that pass in seconds: simulated services over real sockets, a clock that is set, a store in memory.

use crate::store::{Series, Store};
use jiff::ToSpan;
use jiff::civil::{Date, date};
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_collector::Feeds;
use wattlog_collector::config::{FeedsConfig, Interval, PseProduct};
use wattlog_collector::simulator::feeds::{FeedControl, FeedFault, FeedServer, Market, TOKEN, midnight};
use wattlog_model::{Clock, FieldValue, ManualClock, Timestamp};

const HOUR_NS: i64 = 3_600_000_000_000;
const QUARTER_NS: i64 = HOUR_NS / 4;

/// Services, a clock and a store.
struct World {
    market: Market,
    clock: Arc<ManualClock>,
    control: FeedControl,
    store: Arc<Store>,
    config: FeedsConfig,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    /// At six in the morning of a day.
    async fn begin(first: Date, seed: u64) -> Self {
        let market = Market::new(seed, TimeZone::get("Europe/Warsaw").unwrap());
        let clock = Arc::new(ManualClock::new(Timestamp(midnight(first, &market).0 + 6 * HOUR_NS)));
        let address = ([127, 0, 0, 1], 0).into();
        let server = FeedServer::bind(address, market.clone(), Arc::clone(&clock) as _).await.unwrap();
        let (control, stop) = (server.control(), CancellationToken::new());
        tokio::spawn(server.run(stop.clone()));
        let mut config = control.config();
        config.backfill_days = 5;
        config.timeout = Interval::from_millis(200);
        Self { market, clock, control, store: Arc::default(), config, stop }
    }

    fn feeds(&self, seed: u64) -> Feeds {
        let (sink, known) = (Arc::clone(&self.store) as _, Arc::clone(&self.store) as _);
        Feeds::new(&self.config, sink, known, Arc::clone(&self.clock) as _, seed).unwrap()
    }

    /// Lets time pass until an hour (local, of a day that is so many after the first one).
    async fn pass_until(&self, feeds: &mut Feeds, end: Timestamp) {
        while self.clock.wall() < end {
            let due = feeds.step().await.expect("feeds");
            let now = self.clock.wall();
            let next = due.max(Timestamp(now.0 + 1_000_000)).min(end);
            self.clock.advance(Duration::from_nanos((next.0 - now.0).unsigned_abs()));
        }
    }

    fn prices(&self, source: &str, product: &str, area: &str) -> Series {
        self.store.series(&format!("prices,area={area},product={product},source={source}"))
    }

    /// Periods of days: their start and the day they belong to.
    fn periods(&self, days: &[Date], length_ns: i64) -> Vec<(i64, Date)> {
        let of = |day: &Date| {
            let starts = self.market.periods(*day, length_ns);
            starts.into_iter().map(|start| (start.0, *day)).collect::<Vec<_>>()
        };
        days.iter().flat_map(of).collect()
    }
}

fn days(first: Date, last: Date) -> Vec<Date> {
    let mut days = vec![first];
    while *days.last().unwrap() < last {
        days.push(days.last().unwrap().tomorrow().unwrap());
    }
    days
}

fn per_kwh(per_mwh: f64) -> f64 {
    // The decimal with the point moved, as text has it.
    let digits = format!("{:.0}", per_mwh * 1e6);
    format!("{digits}e-9").parse::<f64>().unwrap() + 0.0
}

/// One field of a series against the truth: the same times, none missing, none beside them, the same values.
fn check(what: &str, series: &Series, field: &str, truth: &BTreeMap<i64, f64>) {
    let stored: BTreeMap<i64, f64> = series
        .iter()
        .filter_map(|(time, fields)| match fields.get(field)? {
            FieldValue::Float(value) => Some((*time, *value)),
            FieldValue::Integer(value) => Some((*time, *value as f64)),
            other => panic!("{what}: {other:?}"),
        })
        .collect();
    let missing: Vec<_> = truth.keys().filter(|time| !stored.contains_key(time)).collect();
    let beside: Vec<_> = stored.keys().filter(|time| !truth.contains_key(time)).collect();
    assert!(
        missing.is_empty() && beside.is_empty(),
        "{what}: {} missing, {} beside",
        missing.len(),
        beside.len()
    );
    for (time, value) in truth {
        assert_eq!(stored[time].to_bits(), value.to_bits(), "{what} at {time}: {} for {value}", stored[time]);
    }
}

/// Thirty days through every fault, a restart, an outage, late and repeated publications, a store that refuses.
async fn month(first: Date, seed: u64) {
    let world = World::begin(first, seed).await;
    let day = |n: i32| first.checked_add(n.days()).unwrap();
    let at = |n: i32, hour: i64| Timestamp(midnight(day(n), &world.market).0 + hour * HOUR_NS);
    let mut feeds = world.feeds(1);
    world.pass_until(&mut feeds, at(1, 9)).await;
    world.control.set_faults(&FeedFault::ALL, 17);
    world.control.publish_late(day(3), 20);
    world.control.publish_late(day(5), 30);
    world.pass_until(&mut feeds, at(6, 10)).await;
    world.control.set_out(true);
    world.pass_until(&mut feeds, at(9, 11)).await;
    world.control.set_out(false);
    world.pass_until(&mut feeds, at(12, 20)).await;
    world.control.republish(day(12));
    world.control.republish(day(13));
    world.pass_until(&mut feeds, at(13, 15)).await;
    world.control.republish(day(13));
    // A restart in the middle of the afternoon, with the services away for half a day.
    world.pass_until(&mut feeds, at(15, 13)).await;
    drop(feeds);
    world.store.begin_new_life();
    world.clock.advance(Duration::from_secs(12 * 3_600));
    let mut feeds = world.feeds(2);
    world.pass_until(&mut feeds, at(20, 12)).await;
    world.store.set_refusing(true);
    world.pass_until(&mut feeds, at(21, 3)).await;
    world.store.set_refusing(false);
    world.pass_until(&mut feeds, at(28, 12)).await;
    world.control.set_faults(&[], 0);
    world.pass_until(&mut feeds, at(30, 23)).await;

    let (requests, faulty) = world.control.requests();
    eprintln!("{requests} requests, {faulty} of them with a fault");
    assert!(faulty > 100, "{faulty}");
    let status = feeds.status();
    assert!(status.iter().all(|feed| feed.last_error.is_none()), "{status:#?}");
    assert!(!format!("{status:?}").contains(TOKEN));
    assert_eq!(world.store.doubles(), 0, "points written again that said nothing new");
    check_prices(&world, &days(day(-5), day(31)));
    check_euros(&world, &days(day(-5), day(31)));
    check_weather(&world, at(-5, 0), at(30, 23));
}

fn check_prices(world: &World, all: &[Date]) {
    for product in [PseProduct::CsdacPln, PseProduct::RcePln, PseProduct::EnergyPrices] {
        let price = |(start, day): (i64, Date)| {
            let revision = world.control.revision(day);
            (start, per_kwh(world.market.pln_per_mwh(product, Timestamp(start), revision)))
        };
        let truth: BTreeMap<i64, f64> = world.periods(all, QUARTER_NS).into_iter().map(price).collect();
        let stored = world.prices("pse", product.name(), "PL");
        check(product.name(), &stored, "market_price", &truth);
        if product == PseProduct::EnergyPrices {
            // Settled after a day and a half: those that were still looked at when they were.
            let settled = |start: i64| world.clock.wall().0 - start > 3 * 24 * HOUR_NS;
            let told = truth.keys().filter(|start| settled(**start));
            let missing = told.filter(|start| !stored[start].contains_key("cen_cost")).count();
            assert_eq!(missing, 0, "settled prices that were never fetched");
        }
    }
    let usage = |(start, day): (i64, Date)| {
        let revision = i64::from(world.control.revision(day));
        (start, ((world.market.usage(Timestamp(start)) + revision) % 4) as f64)
    };
    let truth = world.periods(all, HOUR_NS).into_iter().map(usage).collect();
    check("pdgsz", &world.prices("pse", "pdgsz", "PL"), "usage_forecast", &truth);
}

fn check_euros(world: &World, all: &[Date]) {
    let rate_before = |day: Date| {
        let mut day = day;
        loop {
            day = day.yesterday().unwrap();
            if let Some(rate) = world.market.rate(day) {
                return rate;
            }
        }
    };
    let eur = |start: i64| per_kwh(world.market.eur_per_mwh(Timestamp(start)));
    let truth: BTreeMap<i64, f64> =
        world.periods(all, QUARTER_NS).into_iter().map(|(start, _)| (start, eur(start))).collect();
    let converted: BTreeMap<i64, f64> = world
        .periods(all, QUARTER_NS)
        .into_iter()
        .map(|(start, day)| (start, (eur(start) * rate_before(day) * 1e9).round() / 1e9))
        .collect();
    for (source, area) in [("entsoe", "10YPL-AREA-----S"), ("energy-charts", "PL")] {
        let stored = world.prices(source, "day-ahead", area);
        check(source, &stored, "market_price_eur", &truth);
        check(source, &stored, "market_price", &converted);
    }
    let rates = world.store.series("exchange_rates,pair=EURPLN,source=nbp");
    for day in &all[..all.len() - 1] {
        let stored = rates.get(&midnight(*day, &world.market).0).map(|fields| fields["rate"].clone());
        assert_eq!(stored, world.market.rate(*day).map(FieldValue::Float), "{day}");
    }
}

fn check_weather(world: &World, first: Timestamp, end: Timestamp) {
    let forecast = world.store.series("weather_data,kind=forecast,location=home,source=open-meteo");
    let mut hours = 0;
    for hour in (first.0..end.0).step_by(HOUR_NS as usize) {
        let sky = world.market.weather(Timestamp(hour));
        let stored = forecast.get(&hour).unwrap_or_else(|| panic!("no weather at {hour}"));
        let expected = [
            ("temperature", sky.temperature_c),
            ("humidity", sky.humidity_pct),
            ("cloud_cover", sky.cloud_cover_pct),
            ("wind_speed", sky.wind_m_s),
            ("precipitation", sky.precipitation_mm),
            ("irradiance", sky.irradiance_w_m2),
        ];
        for (field, value) in expected {
            assert_eq!(stored[field], FieldValue::Float(value), "{field} at {hour}");
        }
        hours += 1;
    }
    let observed = world.store.series("weather_data,kind=observation,location=home,source=imgw");
    for (hour, fields) in &observed {
        let sky = world.market.weather(Timestamp(*hour));
        assert_eq!((hour % HOUR_NS, &fields["temperature"]), (0, &FieldValue::Float(sky.temperature_c)));
        assert!(!fields.contains_key("pressure"), "null is missing");
    }
    // The service tells the last hour only: the outage of three days and half a day's rest are lost, little else.
    assert!(observed.len() > hours * 7 / 10, "{} of {hours} hours observed", observed.len());
}

#[tokio::test]
async fn a_month_with_the_clock_put_forward_is_stored_whole_through_all_faults() {
    month(date(2026, 3, 10), 7).await;
}

#[tokio::test]
async fn a_month_with_the_clock_put_back_is_stored_whole_through_all_faults() {
    month(date(2026, 10, 10), 8).await;
}

#[tokio::test]
async fn three_days_away_are_caught_up_with_few_requests_and_then_it_is_quiet() {
    let first = date(2026, 10, 24);
    let mut world = World::begin(first, 9).await;
    world.config = FeedsConfig { pse: world.config.pse.clone(), ..FeedsConfig::default() };
    if let Some(pse) = &mut world.config.pse {
        pse.products = vec![PseProduct::RcePln];
    }
    let mut feeds = world.feeds(1);
    let day = |n: i32| first.checked_add(n.days()).unwrap();
    let at = |n: i32, hour: i64| Timestamp(midnight(day(n), &world.market).0 + hour * HOUR_NS);
    world.pass_until(&mut feeds, at(0, 16)).await;
    drop(feeds);
    world.store.begin_new_life();
    world.clock.advance(Duration::from_secs(3 * 86_400));
    world.control.take_targets();
    let mut feeds = world.feeds(2);
    world.pass_until(&mut feeds, Timestamp(world.clock.wall().0 + 60_000_000_000)).await;
    let truth: BTreeMap<i64, f64> = world
        .periods(&days(day(-7), day(4)), QUARTER_NS)
        .into_iter()
        .map(|(start, _)| (start, per_kwh(world.market.pln_per_mwh(PseProduct::RcePln, Timestamp(start), 0))))
        .collect();
    check("rce-pln", &world.prices("pse", "rce-pln", "PL"), "market_price", &truth);
    let targets = world.control.take_targets();
    assert!(targets.len() <= 12, "{targets:?}");
    // Tomorrow is there: until the next look at the last days nothing is asked.
    world.pass_until(&mut feeds, Timestamp(world.clock.wall().0 + 5 * HOUR_NS)).await;
    assert_eq!(world.control.take_targets(), Vec::<String>::new());
    let status = feeds.status().remove(0);
    assert_eq!((status.name.as_str(), status.failed_looks), ("pse/rce-pln", 0));
}

#[tokio::test]
async fn an_error_names_the_service_and_the_address_without_its_token() {
    let mut world = World::begin(date(2026, 3, 10), 3).await;
    world.config = FeedsConfig { entsoe: world.config.entsoe.clone(), ..FeedsConfig::default() };
    world.config.timeout = Interval::from_millis(500);
    world.control.set_out(true);
    let mut feeds = world.feeds(1);
    feeds.step().await;
    let error = feeds.status().remove(0).last_error.unwrap();
    assert!(error.contains("HTTP 503") && error.contains("securityToken=***"), "{error}");
    assert!(!error.contains(TOKEN), "{error}");
}

#[tokio::test]
async fn a_clock_that_is_set_back_delays_no_feed() {
    // A feed slept until the hour that the wrong clock had told it.
    let mut world = World::begin(date(2026, 3, 10), 3).await;
    world.config = FeedsConfig { nbp: world.config.nbp.clone(), ..FeedsConfig::default() };
    let mut feeds = world.feeds(1);
    world.pass_until(&mut feeds, Timestamp(world.clock.wall().0 + 60_000_000_000)).await;
    let earlier = Timestamp(world.clock.wall().0 - 5 * HOUR_NS);
    world.clock.set_wall(earlier);
    feeds.step().await;
    assert_eq!(feeds.status()[0].last_attempt, Some(earlier));
}

#[tokio::test]
async fn rates_that_have_not_changed_settle_the_day_too() {
    // On a day without a new table the bank says "not modified": tomorrow's prices were asked for until midnight, since
    // their rate could still change.
    let saturday = date(2026, 3, 14);
    let mut world = World::begin(saturday, 3).await;
    let (nbp, energy_charts) = (world.config.nbp.clone(), world.config.energy_charts.clone());
    world.config = FeedsConfig { nbp, energy_charts, ..FeedsConfig::default() };
    let mut feeds = world.feeds(1);
    let at = |hour: i64| Timestamp(midnight(saturday, &world.market).0 + hour * HOUR_NS);
    world.pass_until(&mut feeds, at(15)).await;
    world.control.take_targets();
    world.pass_until(&mut feeds, at(18)).await;
    let targets = world.control.take_targets();
    assert!(targets.iter().filter(|target| target.contains("bzn")).count() <= 1, "{targets:?}");
    assert!(targets.iter().any(|target| target.contains("exchangerates")), "{targets:?}");
}
