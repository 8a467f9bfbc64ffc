//! Messages through a real broker that drops, repeats and falls silent.

use crate::store::{Store, WallClock};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::{MqttConfig, SystemMetricsConfig};
use wattlog_collector::simulator::broker::{Broker, BrokerControl, BrokerFaults};
use wattlog_collector::{Collector, CollectorConfig, StatusHandle};
use wattlog_model::FieldValue;

struct Hall {
    broker: BrokerControl,
    config: MqttConfig,
    store: Arc<Store>,
    stop: CancellationToken,
}

impl Drop for Hall {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A collector that runs.
struct Running {
    status: StatusHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

impl Hall {
    async fn open() -> Self {
        let broker = Broker::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let (address, control, stop) = (broker.addr().unwrap(), broker.control(), CancellationToken::new());
        tokio::spawn(broker.run(stop.clone()));
        let config = serde_json::from_str(&format!(
            r#"{{"url":"mqtt://{address}","keep_alive":"5s","backoff_max":"1s","max_payload_bytes":200,"topics":[
                {{"topic":"plug/+/power","measurement":"plugs","tags":{{"device_id":"{{1}}"}},
                  "fields":[{{"field":"power","path":"p","unit":"W"}},{{"field":"on","path":"s","type":"boolean"}}]}},
                {{"topic":"meter/\u0023","measurement":"meter","fields":[{{"field":"value","type":"integer"}}]}}]}}"#
        ))
        .unwrap();
        Self { broker: control, config, store: Arc::default(), stop }
    }

    fn collect(&self) -> Running {
        let config = CollectorConfig {
            mqtt: Some(self.config.clone()),
            system_metrics: SystemMetricsConfig { enabled: false, ..SystemMetricsConfig::default() },
            ..CollectorConfig::default()
        };
        let collector = Collector::new(config).unwrap();
        let (status, stop) = (collector.status(), CancellationToken::new());
        let task =
            tokio::spawn(collector.run(Arc::clone(&self.store) as _, Arc::new(WallClock), stop.clone()));
        Running { status, stop, task }
    }

    async fn subscribed(&self) {
        eventually("a subscription", || self.broker.subscribers() == 1).await;
    }

    fn values(&self) -> Vec<i64> {
        // What the series holds: of several points of one time the last.
        self.store.of("meter").values().map(integer).collect()
    }
}

fn integer(fields: &BTreeMap<String, FieldValue>) -> i64 {
    let FieldValue::Integer(value) = fields["value"] else { panic!("{fields:?}") };
    value
}

async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(tokio::time::Instant::now() < end, "no {what} within 30 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn messages_become_points_with_units_and_those_without_a_value_are_counted() {
    let hall = Hall::open().await;
    hall.broker.retain("plug/old/power", br#"{"p":1}"#);
    let running = hall.collect();
    hall.subscribed().await;
    hall.broker.publish("plug/k1/power", br#"{"p":"12.5","s":"ON"}"#);
    hall.broker.publish("plug/k1/power", br#"{"x":1}"#);
    hall.broker.publish("plug/k1/power", &[b' '; 300]);
    hall.broker.publish("other/k1", b"1");
    eventually("acknowledgement", || hall.broker.acknowledged().len() == 4).await;
    let points = hall.store.points();
    assert_eq!(points.len(), 1);
    let fields =
        [("power".to_owned(), FieldValue::Float(12.5)), ("on".to_owned(), FieldValue::Boolean(true))];
    assert_eq!((points[0].fields.as_slice(), points[0].tags.value("device_id")), (&fields[..], Some("k1")));
    assert_eq!(hall.store.unit("plugs", "power").as_deref(), Some("W"));
    eventually("status", || running.status.snapshot().mqtt.unwrap().acknowledged == 4).await;
    let told = running.status.snapshot().mqtt.unwrap();
    assert_eq!((told.retained, told.unusable, told.too_long, told.stored), (1, 1, 1, 1));
    assert!(told.is_connected && told.last_unusable.unwrap().starts_with("plug/k1/power: "));
    running.stop().await;
}

#[tokio::test]
async fn through_drops_and_repetitions_each_message_is_stored_once_and_then_acknowledged() {
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    hall.broker.set_faults(BrokerFaults { drop_after: 130, twice: true, ..BrokerFaults::default() });
    for n in 0..600 {
        hall.broker.publish("meter/total", n.to_string().as_bytes());
        if n % 100 == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    eventually("empty queue", || hall.broker.open() == 0).await;
    let mut stored = hall.values();
    stored.sort_unstable();
    assert_eq!(stored, (0..600).collect::<Vec<i64>>());
    let acknowledged: BTreeSet<i64> = hall
        .broker
        .acknowledged()
        .iter()
        .map(|(_, payload)| String::from_utf8_lossy(payload).parse().unwrap())
        .collect();
    assert_eq!(acknowledged.len(), 600);
    assert!(hall.broker.connections() >= 4, "{}", hall.broker.connections());
    assert!(running.status.snapshot().mqtt.unwrap().repeated > 0);
    running.stop().await;
}

#[tokio::test]
async fn nothing_is_acknowledged_before_it_is_stored_and_what_waits_outlives_the_program() {
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    hall.store.set_refusing(true);
    for n in 0..20 {
        hall.broker.publish("meter/total", n.to_string().as_bytes());
    }
    eventually("refusal", || running.status.snapshot().buffer.refusals > 1).await;
    assert_eq!((hall.broker.acknowledged().len(), hall.broker.open()), (0, 20));
    // Away, and messages come meanwhile.
    running.stop().await;
    hall.broker.publish("meter/total", b"20");
    hall.store.set_refusing(false);
    let running = hall.collect();
    eventually("empty queue", || hall.broker.open() == 0).await;
    let mut stored = hall.values();
    stored.sort_unstable();
    assert_eq!(stored, (0..21).collect::<Vec<i64>>());
    running.stop().await;
}

#[tokio::test]
async fn a_broker_that_forgets_acknowledgements_makes_no_doubles() {
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    hall.broker.set_faults(BrokerFaults { deaf_to_acks: true, ..BrokerFaults::default() });
    for n in 0..50 {
        hall.broker.publish("meter/total", n.to_string().as_bytes());
    }
    let told = || running.status.snapshot().mqtt.unwrap();
    eventually("acknowledgements", || told().acknowledged == 50).await;
    assert_eq!((hall.values().len(), hall.broker.open()), (50, 50));
    hall.broker.set_faults(BrokerFaults::default());
    hall.broker.drop_connections();
    eventually("empty queue", || hall.broker.open() == 0).await;
    assert_eq!(hall.values().len(), 50);
    // An acknowledgement that was still on its way when the broker began to listen again is not forgotten.
    assert!((1..=50).contains(&told().repeated), "{}", told().repeated);
    running.stop().await;
}

#[tokio::test]
async fn messages_of_one_moment_are_all_kept() {
    // They had the same time of arrival: the last took the place of the others, and all were acknowledged.
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    for n in 0..500 {
        hall.broker.publish("meter/total", n.to_string().as_bytes());
    }
    eventually("empty queue", || hall.broker.open() == 0).await;
    assert_eq!(hall.values(), (0..500).collect::<Vec<i64>>());
    running.stop().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_storing_makes_no_doubles() {
    // Each stop and each reload stored the last messages a second time.
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    hall.store.answer_after(Duration::from_millis(300));
    for n in 0..20 {
        hall.broker.publish("meter/total", n.to_string().as_bytes());
    }
    eventually("point", || !hall.values().is_empty()).await;
    let stored = hall.values();
    assert_eq!(hall.broker.acknowledged().len(), 0);
    running.stop().await;
    eventually("acknowledgement", || hall.broker.acknowledged().len() >= stored.len()).await;
    hall.store.answer_after(Duration::ZERO);
    let running = hall.collect();
    eventually("empty queue", || hall.broker.open() == 0).await;
    assert_eq!(hall.values(), (0..20).collect::<Vec<i64>>());
    running.stop().await;
}

#[tokio::test]
async fn a_number_that_is_given_again_makes_a_new_message_no_repetition() {
    // A message had the number and the content of one that was stored, under another session: when it was delivered
    // again before it was stored, it was only acknowledged.
    let hall = Hall::open().await;
    let running = hall.collect();
    hall.subscribed().await;
    let told = || running.status.snapshot().mqtt.unwrap();
    let publish = |n: i64| hall.broker.publish("meter/total", n.to_string().as_bytes());
    publish(1);
    publish(5);
    eventually("acknowledgement", || hall.broker.acknowledged().len() == 2).await;
    hall.broker.forget_sessions();
    hall.subscribed().await;
    hall.store.set_refusing(true);
    publish(1);
    eventually("refusal", || running.status.snapshot().buffer.refusals > 0).await;
    publish(5);
    eventually("message", || told().messages == 4).await;
    hall.broker.drop_connections();
    eventually("repetition", || told().messages >= 6).await;
    hall.store.set_refusing(false);
    eventually("empty queue", || hall.broker.open() == 0).await;
    assert_eq!(hall.values(), [1, 5, 1, 5]);
    running.stop().await;
}

#[tokio::test]
async fn a_silent_broker_and_a_refused_login_are_told_and_tried_again() {
    let mut hall = Hall::open().await;
    let login = Some(("house".to_owned(), "pass-77".to_owned()));
    hall.broker.set_faults(BrokerFaults { login: login.clone(), ..BrokerFaults::default() });
    let running = hall.collect();
    let has_error = |running: &Running| running.status.snapshot().mqtt.unwrap().last_error.is_some();
    eventually("refused login", || has_error(&running)).await;
    assert_eq!(hall.broker.connections(), 0);
    running.stop().await;
    hall.config.user = Some("house".to_owned());
    hall.config.password = Some(wattlog_collector::config::Secret::new("pass-77"));
    hall.broker.set_faults(BrokerFaults { login: login.clone(), silent: true, ..BrokerFaults::default() });
    let running = hall.collect();
    eventually("silence", || has_error(&running)).await;
    hall.broker.set_faults(BrokerFaults { login, ..BrokerFaults::default() });
    hall.subscribed().await;
    hall.broker.publish("meter/total", b"5");
    eventually("point", || hall.values() == [5]).await;
    assert!(!format!("{:?}", running.status.snapshot()).contains("pass-77"));
    running.stop().await;
}
