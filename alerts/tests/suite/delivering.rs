//! From an event to the channels, each of which fails in its own way.

use crate::support::http::{Act, Server};
use crate::support::{Home, LeapClock, actor, broker, smtp, soc_below, until};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_alerts::{AlertsConfig, Status};
use wattlog_ledger::Expected;
use wattlog_ledger::schema::{AlertDelivery, AlertEvent, DeliveryStatus};
use wattlog_model::{Clock as _, Timestamp};

/// Channels that are tried again after some milliseconds.
pub fn config(channels: Value, attempts: u32) -> AlertsConfig {
    let mut channels = channels;
    for channel in channels.as_object_mut().unwrap().values_mut() {
        channel["timeout"] = json!("500ms");
    }
    let tree = json!({"interval": "1s", "channels": channels, "retry": {"first": "20ms", "longest": "80ms", "attempts": attempts}});
    serde_json::from_value(tree).unwrap()
}

fn mail(server: &smtp::Server) -> Value {
    json!({"email": {"host": "127.0.0.1", "port": server.address.port(), "tls": "none", "from": "wattlog@home.example", "to": ["anna@home.example"]}})
}

fn mqtt(broker: &broker::Broker) -> Value {
    json!({"mqtt": {"host": "127.0.0.1", "port": broker.address.port()}})
}

fn webhook(server: &Server) -> Value {
    json!({"webhook": {"url": server.url()}})
}

struct Running {
    over: CancellationToken,
    task: JoinHandle<()>,
    status: Arc<Status>,
}

impl Running {
    fn start(home: &Home, config: &AlertsConfig) -> Self {
        let alerts = home.alerts(config);
        let (over, status) = (CancellationToken::new(), alerts.status());
        Self { task: tokio::spawn(alerts.run(over.clone())), over, status }
    }

    async fn stop(self) {
        self.over.cancel();
        self.task.await.unwrap();
    }
}

/// A home with a rule, and a value that makes it fire.
async fn firing_home(channels: &[&str]) -> (Home, Timestamp) {
    let clock = Arc::new(LeapClock::default());
    let now = clock.wall();
    let home = Home::new(clock).await;
    home.rule("battery low", soc_below(0), channels).await;
    home.plant.put_at("battery_soc", now, 9.0);
    (home, now)
}

async fn settled(home: &Home, count: usize) -> Vec<AlertDelivery> {
    until("every delivery is settled", || async {
        let all = home.deliveries().await;
        all.len() == count && all.iter().all(|one| one.status != DeliveryStatus::Pending)
    })
    .await;
    home.deliveries().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_channel_is_told_until_it_acknowledges_and_not_once_more() {
    let hook = Server::start(vec![
        Act::Answer(500, None),
        Act::Drop,
        Act::Hang,
        Act::Answer(429, Some("0")),
        Act::Answer(503, None),
    ])
    .await;
    let mails =
        smtp::Server::start(vec![smtp::Act::Say("451 later"), smtp::Act::Drop, smtp::Act::Hang]).await;
    let broker =
        broker::Broker::start(vec![broker::Act::LoseAck, broker::Act::RefuseLogin, broker::Act::Hang]).await;
    let config = config(json!({"hook": webhook(&hook), "mail": mail(&mails), "broker": mqtt(&broker)}), 30);
    let (home, fired) = firing_home(&["hook", "mail", "broker"]).await;
    let running = Running::start(&home, &config);
    let all = settled(&home, 3).await;
    assert!(
        all.iter().all(|one| one.status == DeliveryStatus::Delivered && one.last_error.is_none()),
        "{all:?}"
    );
    let attempts: BTreeMap<&str, i64> = all.iter().map(|one| (one.channel.as_str(), one.attempts)).collect();
    assert_eq!(attempts, BTreeMap::from([("hook", 6), ("mail", 4), ("broker", 4)]));
    let ended = Timestamp(fired.0 + 1);
    home.plant.put_at("battery_soc", ended, 50.0);
    settled(&home, 6).await;
    // Another start, and time: nothing is sent again.
    running.stop().await;
    let running = Running::start(&home, &config);
    tokio::time::sleep(Duration::from_millis(700)).await;
    let events = home.all::<AlertEvent>().await;
    let keys: Vec<String> = events.iter().map(|event| event.record.event_key.clone()).collect();
    for heard in [hook.keys(), mails.keys(), broker.keys()] {
        let acknowledged: Vec<String> =
            heard.iter().filter(|(_, yes)| *yes).map(|(key, _)| key.clone()).collect();
        assert_eq!(acknowledged, keys, "{heard:?}");
        // After its acknowledgement no message came again.
        let first = heard.iter().position(|(_, yes)| *yes).unwrap();
        assert!(heard[first + 1..].iter().all(|(key, _)| *key == keys[1]), "{heard:?}");
    }
    let counts = &running.status.report().channels;
    assert!(counts.is_empty(), "{counts:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_hangs_delays_no_other() {
    let slow = Server::start(vec![Act::Hang; 100]).await;
    let quick = Server::start(vec![]).await;
    let mut config = config(json!({"slow": webhook(&slow), "quick": webhook(&quick)}), 30);
    config.channels.get_mut("slow").unwrap().timeout = "60s".parse().unwrap();
    let (home, _) = firing_home(&["slow", "quick"]).await;
    for number in 0..20 {
        home.rule(&format!("more {number}"), soc_below(0), &["slow", "quick"]).await;
    }
    let begun = Instant::now();
    let running = Running::start(&home, &config);
    until("the quick channel has heard all", || async { quick.taken().len() == 21 }).await;
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert_eq!(slow.taken().len(), 1);
    // A stop does not wait for it for ever either, and what was on its way is not lost.
    let begun = Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let left =
        home.deliveries().await.into_iter().filter(|one| one.status == DeliveryStatus::Pending).count();
    assert_eq!(left, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_or_tried_too_often_is_dead_with_its_reason() {
    let gone = Server::start(vec![Act::Answer(410, None)]).await;
    let failing = Server::start(vec![Act::Answer(500, None); 100]).await;
    let mails = smtp::Server::start(vec![smtp::Act::SayToRecipient("550 no such user here")]).await;
    let config =
        config(json!({"gone": webhook(&gone), "failing": webhook(&failing), "mail": mail(&mails)}), 4);
    let (home, _) = firing_home(&["gone", "failing", "mail", "nowhere"]).await;
    let running = Running::start(&home, &config);
    let all = settled(&home, 4).await;
    let told = |channel: &str| {
        let one = all.iter().find(|one| one.channel == channel).unwrap();
        assert_eq!(one.status, DeliveryStatus::Dead);
        (one.attempts, one.last_error.clone().unwrap())
    };
    assert_eq!(told("gone"), (1, "refused: the answer is 410 Gone".to_owned()));
    assert_eq!(
        told("failing"),
        (4, "given up after 4 attempts: the answer is 500 Internal Server Error".to_owned())
    );
    assert!(
        told("mail").1.contains("550") && told("mail").1.contains("no such user here"),
        "{:?}",
        told("mail")
    );
    assert_eq!(
        told("nowhere"),
        (
            4,
            "given up after 4 attempts: no channel \"nowhere\" is configured: name one of alerts.channels"
                .to_owned()
        )
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((gone.taken().len(), failing.taken().len()), (1, 4));
    let counts = running.status.report().channels;
    assert_eq!((counts["failing"].retried, counts["failing"].dead, counts["failing"].delivered), (3, 1, 0));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_a_clock_ahead_put_off_is_sent() {
    let hook = Server::start(vec![Act::Answer(500, None)]).await;
    let config = config(json!({"hook": webhook(&hook)}), 30);
    let clock = Arc::new(LeapClock::default());
    let home = Home::new(clock.clone()).await;
    home.rule("battery low", soc_below(0), &["hook"]).await;
    clock.leap(86_400 * 400);
    home.plant.put_at("battery_soc", clock.wall(), 9.0);
    let mut alerts = home.alerts(&config);
    assert_eq!(alerts.evaluate_once().await.unwrap(), 1);
    // Its first attempt lies a year ahead now.
    clock.leap(-86_400 * 400);
    let running = Running::start(&home, &config);
    until("it is delivered", || async {
        home.deliveries().await.first().is_some_and(|one| one.status == DeliveryStatus::Delivered)
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_on_one_ledger_tell_each_event_once() {
    // Slow enough for the other process to look meanwhile.
    let hook = Server::start(vec![Act::Late; 20]).await;
    let config = config(json!({"hook": webhook(&hook)}), 30);
    let (home, fired) = firing_home(&["hook"]).await;
    for number in 0..15 {
        home.rule(&format!("more {number}"), soc_below(0), &["hook"]).await;
    }
    let other = Home {
        ledger: home.reopened(),
        folder: tempfile::tempdir().unwrap(),
        plant: home.plant.clone(),
        clock: home.clock.clone(),
    };
    let both = [Running::start(&home, &config), Running::start(&other, &config)];
    settled(&home, 16).await;
    home.plant.put_at("battery_soc", Timestamp(fired.0 + 1), 50.0);
    let all = settled(&home, 32).await;
    assert!(all.iter().all(|one| one.status == DeliveryStatus::Delivered && one.attempts == 1), "{all:?}");
    let mut keys: Vec<String> = hook.keys().into_iter().map(|heard| heard.0).collect();
    assert_eq!(keys.len(), 32);
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 32);
    for running in both {
        running.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_that_is_sent_again_has_its_key_and_new_attempts() {
    let hook = Server::start(vec![Act::Answer(410, None), Act::Answer(500, None)]).await;
    let config = config(json!({"hook": webhook(&hook)}), 2);
    let (home, _) = firing_home(&["hook"]).await;
    let alerts = home.alerts(&config);
    let (handle, over) = (alerts.handle(), CancellationToken::new());
    let task = tokio::spawn(alerts.run(over.clone()));
    let dead = settled(&home, 1).await.remove(0);
    assert_eq!((dead.status, dead.attempts), (DeliveryStatus::Dead, 1));
    let stored = home.all::<AlertDelivery>().await.remove(0);
    let again = stored.record.again(home.clock.wall()).unwrap();
    home.ledger.update(stored.id, Expected::Version(stored.version), again, &actor()).await.unwrap();
    // Workers look by themselves every half minute; they are told.
    let told = Instant::now();
    handle.wake();
    let delivered = settled(&home, 1).await.remove(0);
    assert!(told.elapsed() < Duration::from_secs(15), "{:?}", told.elapsed());
    assert_eq!((delivered.status, delivered.attempts), (DeliveryStatus::Delivered, 2));
    assert!(delivered.again(home.clock.wall()).is_none(), "what was delivered is not sent again");
    let keys: Vec<(String, bool)> = hook.keys();
    assert_eq!(keys.iter().map(|(_, yes)| *yes).collect::<Vec<_>>(), [false, false, true]);
    assert!(keys.iter().all(|(key, _)| *key == keys[0].0), "{keys:?}");
    let counts = handle.report().channels["hook"];
    assert_eq!((counts.dead, counts.retried, counts.delivered), (1, 1, 1));
    over.cancel();
    task.await.unwrap();
}
