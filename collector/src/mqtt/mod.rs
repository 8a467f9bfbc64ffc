//! Messages of an MQTT broker: acknowledged when they are stored, and not before.
//!
//! The broker keeps the session of a client that is away (`clean_session` false), so a message of quality of service 1
//! that was published meanwhile, or was not stored when the connection broke, comes again. One that comes again
//! although it was stored is recognised by packet number and content, and only acknowledged.
//!
//! Invariants
//! 1. A message is acknowledged after the sink stored its point, or when it is certain that it never will have one.
//! 2. Acknowledgements go to the connection that delivered the message; after a new one the broker delivers again.
//! 3. At most [`BACKLOG_MESSAGES`] messages of at most [`BACKLOG_BYTES`] wait; beyond it the connection is not read.
//!
//! Not here: what a message means ([`Mapping`]).

mod mapping;

pub use mapping::{Mapping, Message, Unusable};

use crate::config::MqttConfig;
use crate::outbox::Outbox;
use crate::poll::Backoff;
use crate::seed;
use crate::sink::BoxFuture;
use crate::status::{MqttStatus, StatusHandle};
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
    Transport,
};
use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wattlog_model::{Clock, Point, Timestamp};

/// Receives the messages of one broker.
pub(crate) struct Receiver {
    config: MqttConfig,
    mapping: Mapping,
    seed: u64,
    outbox: Arc<Outbox>,
    clock: Arc<dyn Clock>,
    status: StatusHandle,
    backlog: VecDeque<Arrived>,
    backlog_bytes: usize,
    /// Number of the connection.
    connection: u64,
    stored: Remembered,
}

/// A message on its way to the store.
struct Arrived {
    publish: Publish,
    connection: u64,
    at: Timestamp,
}

/// What the polling task tells.
enum News {
    Connected { has_session: bool },
    Message(Publish),
    Lost(String),
}

/// A call to the store and the messages in it.
struct Storing {
    outcome: BoxFuture<'static, Option<u64>>,
    messages: Vec<Arrived>,
    points: u64,
}

impl Receiver {
    pub(crate) fn new(
        config: &MqttConfig,
        seed: u64,
        status: StatusHandle,
        outbox: Arc<Outbox>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            mapping: Mapping::new(config),
            config: config.clone(),
            seed,
            outbox,
            clock,
            status,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            connection: 0,
            stored: Remembered::default(),
        }
    }

    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        // What is not acknowledged by then stays with the broker.
        let receive = async {
            loop {
                self.receive_for_ever().await;
                tokio::time::sleep(BEGUN_ANEW).await;
            }
        };
        shutdown.run_until_cancelled(receive).await;
        self.note(|status| status.is_connected = false);
    }

    async fn receive_for_ever(&mut self) {
        let options = loop {
            match self.options() {
                Ok(options) => break options,
                Err(reason) => self.lost(&reason),
            }
            tokio::time::sleep(CERTIFICATES_AGAIN).await;
        };
        let (client, events) = AsyncClient::new(options, REQUESTS);
        let (sender, mut news) = mpsc::channel(NEWS);
        let backoff =
            Backoff::new(self.config.backoff_max.0, self.seed ^ seed::of_text(&self.config.client_id));
        let filters: Vec<String> = self.config.topics.iter().map(|entry| entry.topic.clone()).collect();
        // A set of one, because it ends its task when it is dropped. The loop is never dropped in the middle of a poll.
        let mut polling = JoinSet::new();
        polling.spawn(poll_for_ever(events, client.clone(), filters, sender, backoff));
        let mut storing: Option<Storing> = None;
        loop {
            if storing.is_none() {
                storing = self.next_call(&client);
            }
            let has_room = self.backlog.len() < BACKLOG_MESSAGES && self.backlog_bytes < BACKLOG_BYTES;
            tokio::select! {
                outcome = outcome_of(&mut storing), if storing.is_some() => {
                    let Some(done) = storing.take() else { continue };
                    match outcome {
                        Some(rejected) => self.settled(&client, done, rejected),
                        None => self.take_back(done),
                    }
                }
                told = news.recv(), if has_room => match told {
                    Some(told) => self.heard(told),
                    None => {
                        self.lost("the connection's task ended by itself");
                        return;
                    }
                },
            }
        }
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Connected { has_session } => {
                self.connection += 1;
                if has_session {
                    // They come again.
                    self.backlog.retain(|arrived| arrived.publish.qos == QoS::AtMostOnce);
                    self.backlog_bytes =
                        self.backlog.iter().map(|arrived| arrived.publish.payload.len()).sum();
                }
                let address = &self.config.url;
                tracing::info!(address, has_session, "connected to the broker");
                self.note(|status| {
                    status.is_connected = true;
                    status.connections += 1;
                    status.last_error = None;
                });
            }
            News::Message(publish) => {
                let at = self.clock.wall().truncated_to_millis();
                self.note(|status| {
                    status.messages += 1;
                    status.last_message = Some(at);
                });
                self.backlog_bytes += publish.payload.len();
                self.backlog.push_back(Arrived { publish, connection: self.connection, at });
            }
            News::Lost(reason) => self.lost(&reason),
        }
    }

    fn lost(&self, reason: &str) {
        let was_connected = self.status.snapshot().mqtt.is_some_and(|mqtt| mqtt.is_connected);
        if was_connected {
            tracing::warn!(address = self.config.url, reason, "the broker is lost, tried again for ever");
        }
        self.note(|status| {
            status.is_connected = false;
            status.last_error = Some(reason.to_owned());
        });
    }

    /// Puts what waits into one call to the store; acknowledges at once what will never have a point.
    fn next_call(&mut self, client: &AsyncClient) -> Option<Storing> {
        let (mut messages, mut points, mut keys) = (Vec::new(), Vec::<Point>::new(), HashSet::new());
        while points.len() < CALL_POINTS
            && let Some(arrived) = self.backlog.pop_front()
        {
            self.backlog_bytes -= arrived.publish.payload.len();
            let key = key(&arrived.publish);
            if arrived.publish.dup && self.stored.holds(key) {
                self.note(|status| status.repeated += 1);
                self.acknowledge(client, &arrived);
                continue;
            }
            if arrived.publish.dup && keys.contains(&key) {
                self.note(|status| status.repeated += 1);
                messages.push(arrived);
                continue;
            }
            let message = Message {
                topic: &arrived.publish.topic,
                payload: &arrived.publish.payload,
                is_retained: arrived.publish.retain,
                arrived: arrived.at,
            };
            match self.mapping.point(message) {
                Ok(point) => {
                    points.push(point);
                    keys.insert(key);
                    messages.push(arrived);
                }
                Err(reason) => {
                    self.unusable(&arrived.publish.topic, &reason);
                    self.acknowledge(client, &arrived);
                }
            }
        }
        let count = points.len() as u64;
        let outcome =
            (count > 0).then(|| Box::pin(self.outbox.hand_over(points)) as BoxFuture<'static, _>)?;
        Some(Storing { outcome, messages, points: count })
    }

    fn unusable(&self, topic: &str, reason: &Unusable) {
        tracing::debug!(topic, %reason, "a message gives no point");
        self.note(|status| match reason {
            Unusable::Retained => status.retained += 1,
            Unusable::TooLong { .. } => status.too_long += 1,
            Unusable::NoTopic | Unusable::NoValue(_) => {
                status.unusable += 1;
                let topic: String = topic.chars().take(100).collect();
                status.last_unusable = Some(format!("{topic}: {reason}"));
            }
        });
    }

    fn settled(&mut self, client: &AsyncClient, done: Storing, rejected: u64) {
        self.note(|status| {
            status.stored += done.points.saturating_sub(rejected);
            status.rejected += rejected;
        });
        for arrived in done.messages {
            if arrived.publish.qos != QoS::AtMostOnce {
                self.stored.add(key(&arrived.publish));
            }
            self.acknowledge(client, &arrived);
        }
    }

    /// The call ended without an outcome: its messages are stored with the next one.
    fn take_back(&mut self, undone: Storing) {
        for arrived in undone.messages.into_iter().rev() {
            self.backlog_bytes += arrived.publish.payload.len();
            self.backlog.push_front(arrived);
        }
    }

    fn acknowledge(&self, client: &AsyncClient, arrived: &Arrived) {
        if arrived.publish.qos == QoS::AtMostOnce || arrived.connection != self.connection {
            return;
        }
        // There is room for every packet number at once; without a connection's task the broker delivers again.
        if client.try_ack(&arrived.publish).is_ok() {
            self.note(|status| status.acknowledged += 1);
        }
    }

    fn options(&self) -> Result<MqttOptions, String> {
        let Some(broker) = self.config.broker() else {
            return Err("collector.mqtt.url is no broker's".to_owned());
        };
        let mut options = MqttOptions::new(&self.config.client_id, broker.host, broker.port);
        options.set_clean_session(false).set_manual_acks(true).set_keep_alive(self.config.keep_alive.0);
        options.set_max_packet_size(MAX_PACKET_BYTES, MAX_PACKET_BYTES);
        if let Some(user) = &self.config.user {
            let password = self.config.password.as_ref().map_or("", |password| password.reveal());
            options.set_credentials(user, password);
        }
        if broker.tls {
            // An error says that another part of the program has installed one before.
            let _ = rustls::crypto::ring::default_provider().install_default();
            // It panics where the machine's certificates cannot be read.
            let transport = std::panic::catch_unwind(Transport::tls_with_default_config);
            let missing =
                |_| "the certificates of this machine cannot be read; install ca-certificates".to_owned();
            options.set_transport(transport.map_err(missing)?);
        }
        Ok(options)
    }

    fn note(&self, change: impl FnOnce(&mut MqttStatus)) {
        self.status.mqtt(change);
    }
}

async fn outcome_of(storing: &mut Option<Storing>) -> Option<u64> {
    match storing {
        Some(storing) => (&mut storing.outcome).await,
        None => std::future::pending().await,
    }
}

/// Drives the connection: connects, subscribes, tells what came, waits after a loss.
async fn poll_for_ever(
    mut events: EventLoop,
    client: AsyncClient,
    filters: Vec<String>,
    news: mpsc::Sender<News>,
    mut backoff: Backoff,
) {
    loop {
        let told = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                let filters =
                    filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                let subscribed = client.try_subscribe_many(filters);
                match subscribed {
                    Ok(()) => News::Connected { has_session: connack.session_present },
                    Err(error) => News::Lost(format!("the subscription was not sent: {error}")),
                }
            }
            Ok(Event::Incoming(Packet::SubAck(suback))) => {
                let refused =
                    suback.return_codes.iter().position(|code| *code == SubscribeReasonCode::Failure);
                let Some(filter) = refused.and_then(|place| filters.get(place)) else { continue };
                News::Lost(format!(
                    "the broker refuses the subscription to {filter:?}: check its access rules"
                ))
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                backoff.reset();
                News::Message(publish)
            }
            Ok(Event::Incoming(Packet::PingResp)) => {
                backoff.reset();
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                if news.send(News::Lost(error.to_string())).await.is_err() {
                    return;
                }
                tokio::time::sleep(backoff.after_failure()).await;
                continue;
            }
        };
        if news.send(told).await.is_err() {
            return;
        }
    }
}

/// Packet number and content of a message: what a second delivery has in common with the first.
fn key(publish: &Publish) -> u64 {
    let mut hasher = DefaultHasher::new();
    (publish.pkid, &publish.topic, &publish.payload[..]).hash(&mut hasher);
    hasher.finish()
}

/// The messages stored last.
#[derive(Default)]
struct Remembered {
    keys: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Remembered {
    fn holds(&self, key: u64) -> bool {
        self.keys.contains(&key)
    }

    fn add(&mut self, key: u64) {
        if !self.keys.insert(key) {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

/// Messages and bytes that wait for the store.
const BACKLOG_MESSAGES: usize = 2_000;
const BACKLOG_BYTES: usize = 8 * 1024 * 1024;
/// Most points of one call.
const CALL_POINTS: usize = 500;
/// Between the connection's task and the one that stores.
const NEWS: usize = 64;
/// Room for an acknowledgement of every packet number, and subscriptions.
const REQUESTS: usize = 65_536 + 64;
/// Messages that are recognised when they come again: those of a broker that lets many be open at once.
const REMEMBERED: usize = 65_536;
/// A longer packet ends the connection: no device sends it.
const MAX_PACKET_BYTES: usize = 2 * 1024 * 1024;
/// Rest before a connection's task that ended by itself is begun anew.
const BEGUN_ANEW: Duration = Duration::from_secs(1);
const CERTIFICATES_AGAIN: Duration = Duration::from_secs(60);
