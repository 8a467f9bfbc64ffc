//! Crashes: the same events as without them, each told at least once and never after its acknowledgement was kept.

use crate::delivering::config;
use crate::support::http::{Act, Server};
use crate::support::{Home, LeapClock, SECOND, at, broker, smtp, soc_below};
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use wattlog_alerts::{Alerts, AlertsConfig};
use wattlog_ledger::schema::{AlertEvent, DeliveryStatus, EventState};
use wattlog_model::{Clock as _, ManualClock};

/// What happens to the process at one moment of the evaluation.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Goes,
    /// It is gone, and a new one begins.
    Restarts,
    /// It is gone in the middle of an evaluation, so many microseconds after it began.
    Dies(u64),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![3 => Just(Fate::Goes), 1 => Just(Fate::Restarts), 2 => (0_u64..4000).prop_map(Fate::Dies)];
    proptest::collection::vec(fate, 30)
}

/// Key, state, instant, value, text of each event and the channels that are told, after evaluations every 20 s.
async fn events(
    values: &[(i64, f64)],
    fates: &[Fate],
) -> BTreeSet<(String, String, i64, String, String, Vec<String>)> {
    let clock = Arc::new(ManualClock::new(at(0)));
    let home = Home::new(clock.clone()).await;
    let field = json!({"field": {"measurement": "energy_data", "field": "battery_soc"}});
    home.rule("low", soc_below(45), &["phone"]).await;
    home.rule("at once", soc_below(0), &["phone", "mail"]).await;
    home.rule("silent", json!({"input": field, "condition": {"absent": {"longer_than_ns": 50 * SECOND}}, "hold_ns": 20 * SECOND}), &["mail"]).await;
    let rising = json!({"rising": {"fire": 500.0, "clear": 100.0, "over_ns": 90 * SECOND}});
    home.rule("rising", json!({"input": field, "condition": rising, "stale_after_ns": 60 * SECOND}), &[])
        .await;
    home.plant.put("battery_soc", -1, 50.0);
    for (second, value) in values {
        home.plant.put("battery_soc", *second, *value);
    }
    let config = AlertsConfig::default();
    let mut alerts = home.alerts(&config);
    let restarted = || -> Alerts { home.alerts_on(&config, home.reopened()) };
    for fate in [Fate::Goes].iter().chain(fates).chain(&[Fate::Goes]) {
        clock.advance(Duration::from_secs(20));
        match fate {
            Fate::Goes => {}
            Fate::Restarts => alerts = restarted(),
            Fate::Dies(after_us) => {
                let _died =
                    tokio::time::timeout(Duration::from_micros(*after_us), alerts.evaluate_once()).await;
                alerts = restarted();
                continue;
            }
        }
        alerts.evaluate_once().await.unwrap();
    }
    let deliveries = home.all::<wattlog_ledger::schema::AlertDelivery>().await;
    let channels = |id: i64| {
        deliveries
            .iter()
            .filter(|one| one.record.event_id == id)
            .map(|one| one.record.channel.clone())
            .collect()
    };
    let row = |stored: wattlog_ledger::Stored<AlertEvent>| {
        let event = stored.record;
        let state = event.state.as_str().to_owned();
        (event.event_key, state, event.at.0, format!("{:?}", event.value), event.message, channels(stored.id))
    };
    let events = home.all::<AlertEvent>().await;
    let count = events.len();
    let rows: BTreeSet<_> = events.into_iter().map(row).collect();
    assert_eq!(rows.len(), count);
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn restarts_at_any_point_give_the_same_events(
        steps in proptest::collection::vec((1_i64..50, 0.0_f64..30.0), 5..60),
        fates in fates(),
    ) {
        let mut second = 0;
        let values: Vec<(i64, f64)> = steps.iter().map(|(step, value)| { second += step; (second, *value) }).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let whole = runtime.block_on(events(&values, &vec![Fate::Goes; fates.len()]));
        let broken = runtime.block_on(events(&values, &fates));
        prop_assert_eq!(broken, whole);
    }
}

/// A process of its own as far as a test can have one: a runtime that is dropped with all its tasks, at any point, without a word.
struct Process(Option<tokio::runtime::Runtime>);

impl Process {
    fn start(home: &Home, config: &AlertsConfig) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let inside = runtime.enter();
        let alerts = home.alerts_on(config, home.reopened());
        runtime.spawn(alerts.run(CancellationToken::new()));
        drop(inside);
        Self(Some(runtime))
    }

    fn kill(mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

#[test]
fn killed_at_random_points_each_event_reaches_each_channel_and_none_after_its_mark() {
    let world = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    println!("seed {seed}");
    let mut random = u64::from(seed) | 1;
    let mut below = move |limit: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % limit
    };
    let clock = Arc::new(LeapClock::default());
    let (home, hook, mails, broker) = world.block_on(async {
        let home = Home::new(clock.clone()).await;
        home.rule("battery low", soc_below(0), &["hook", "mail", "broker"]).await;
        let acts = (0..30).map(|n| match n % 5 {
            0 => Act::Answer(500, None),
            1 => Act::Drop,
            2 => Act::Answer(429, Some("0")),
            _ => Act::Answer(200, None),
        });
        let mails = (0..30).map(|n| match n % 4 {
            0 => smtp::Act::Say("451 later"),
            1 => smtp::Act::Drop,
            _ => smtp::Act::Say("250 ok"),
        });
        let messages = (0..30).map(|n| match n % 4 {
            0 => broker::Act::LoseAck,
            1 => broker::Act::RefuseLogin,
            _ => broker::Act::Acknowledge,
        });
        (
            home,
            Server::start(acts.collect()).await,
            smtp::Server::start(mails.collect()).await,
            broker::Broker::start(messages.collect()).await,
        )
    });
    let port = |address: std::net::SocketAddr| address.port();
    let config = config(
        json!({
            "hook": {"webhook": {"url": hook.url()}},
            "mail": {"email": {"host": "127.0.0.1", "port": port(mails.address), "tls": "none", "from": "w@home.example", "to": ["a@home.example"]}},
            "broker": {"mqtt": {"host": "127.0.0.1", "port": port(broker.address)}},
        }),
        1000,
    );
    const KILLS: usize = 25;
    home.plant.put_at("battery_soc", clock.wall(), 50.0);
    let mut last = clock.wall();
    for kill in 0..KILLS {
        let process = Process::start(&home, &config);
        last = clock.wall();
        home.plant.put_at("battery_soc", last, if kill % 2 == 0 { 5.0 } else { 60.0 });
        std::thread::sleep(Duration::from_millis(below(if kill % 3 == 0 { 1500 } else { 250 })));
        process.kill();
        // Claims of the killed one are over.
        clock.leap(60);
    }
    let process = Process::start(&home, &config);
    world.block_on(async {
        crate::support::until("everything is delivered", || async {
            let all = home.deliveries().await;
            let events = home.all::<AlertEvent>().await;
            let is_complete = events.iter().any(|event| event.record.at == last);
            is_complete
                && all.len() == 3 * events.len()
                && all.iter().all(|one| one.status == DeliveryStatus::Delivered)
        })
        .await;
    });
    let keys: BTreeSet<String> =
        world.block_on(home.all::<AlertEvent>()).into_iter().map(|event| event.record.event_key).collect();
    // Fired and resolved in turn, each once.
    let events = world.block_on(home.all::<AlertEvent>());
    assert!(events.len() >= KILLS - 1, "{}", events.len());
    for (place, event) in events.iter().enumerate() {
        let expected = if place % 2 == 0 { EventState::Firing } else { EventState::Resolved };
        assert_eq!(event.record.state, expected, "{events:?}");
    }
    let heard = || [hook.keys(), mails.keys(), broker.keys()];
    for (channel, heard) in ["hook", "mail", "broker"].iter().zip(heard()) {
        let mut acknowledged: BTreeMap<&String, usize> = BTreeMap::new();
        for (key, _) in heard.iter().filter(|(_, yes)| *yes) {
            *acknowledged.entry(key).or_default() += 1;
        }
        assert_eq!(acknowledged.keys().copied().cloned().collect::<BTreeSet<_>>(), keys, "{channel}");
        // A second acknowledgement has a kill between the first and its mark, so there are no more of them than kills.
        let again: usize = acknowledged.values().map(|times| times - 1).sum();
        println!("{channel}: {} events, {} messages, {again} acknowledged twice", keys.len(), heard.len());
        assert!(again <= KILLS, "{channel}");
    }
    // All marks are there: nothing is sent any more, by this process or the next.
    let before = heard().map(|heard| heard.len());
    std::thread::sleep(Duration::from_millis(300));
    process.kill();
    clock.leap(3600);
    let process = Process::start(&home, &config);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(heard().map(|heard| heard.len()), before);
    process.kill();
}
