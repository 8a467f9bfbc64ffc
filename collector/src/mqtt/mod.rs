//! Messages of an MQTT broker: acknowledged when they are stored, and not before.
//!
//! The broker keeps the session of a client that is away (`clean_session` false), so a message of quality of service 1
//! that was published meanwhile, or was not stored when the connection broke, comes again. One that comes again
//! although it was stored is recognised by packet number and content, and only acknowledged. That memory ends with the
//! program: one that is killed between storing and acknowledging stores those messages again, and a message that does
//! not tell its own time is then a second point.
//!
//! Invariants
//! 1. A message is acknowledged after the sink stored its point, or when it is certain that it never will have one.
//! 2. Acknowledgements go to the connection that delivered the message; after a new one the broker delivers again.
//! 3. At most `BACKLOG_MESSAGES` messages of at most `BACKLOG_BYTES` wait; beyond it the connection is not read.
//! 4. No two messages have the same time of arrival: none takes another's place in the store.
//! 5. Only a message that is marked as repeated is taken for one that was stored, and only within one session of the
//!    broker and until its packet number is given to another.
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
use parking_lot::Mutex;
use rumqttc::{
    AsyncClient, Event, EventLoop, MqttOptions, Outgoing, Packet, Publish, QoS, SubscribeFilter,
    SubscribeReasonCode, Transport,
};
use std::collections::{HashMap, HashSet, VecDeque};
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
    /// Held while an acknowledgement is queued.
    live: Arc<Mutex<Live>>,
    /// Of the first connection of the broker's session.
    session_began: u64,
    last_arrival: Timestamp,
    stored: Remembered,
    doubts: Doubts,
}

/// Connections by number: the first one is 1, and each has its own as long as the receiver lives.
#[derive(Default)]
struct Live {
    /// [`NO_CONNECTION`] while there is none.
    now: u64,
    made: u64,
}

/// A message on its way to the store.
struct Arrived {
    publish: Publish,
    connection: u64,
    at: Timestamp,
}

/// What the polling task tells.
enum News {
    Connected { connection: u64, has_session: bool },
    Message { connection: u64, publish: Publish },
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
            doubts: Doubts::new(config.topics.len()),
            config: config.clone(),
            seed,
            outbox,
            clock,
            status,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            live: Arc::default(),
            session_began: NO_CONNECTION,
            last_arrival: Timestamp::MIN,
            stored: Remembered::default(),
        }
    }

    /// Until `shutdown`; then what the store has taken is acknowledged, and the rest stays with the broker.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            self.receive(&shutdown).await;
            shutdown.run_until_cancelled(tokio::time::sleep(BEGUN_ANEW)).await;
        }
        self.note(|status| status.is_connected = false);
    }

    async fn receive(&mut self, shutdown: &CancellationToken) {
        let options = loop {
            match self.options() {
                Ok(options) => break options,
                Err(reason) => self.lost(&reason),
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(CERTIFICATES_AGAIN)).await.is_none() {
                return;
            }
        };
        self.live.lock().now = NO_CONNECTION;
        let (client, events) = AsyncClient::new(options, REQUESTS);
        let (sender, mut news) = mpsc::channel(NEWS);
        let line = Line {
            client: client.clone(),
            filters: self.config.topics.iter().map(|entry| entry.topic.clone()).collect(),
            news: sender,
            live: Arc::clone(&self.live),
        };
        let backoff =
            Backoff::new(self.config.backoff_max.0, self.seed ^ seed::of_text(&self.config.client_id));
        // A set of one, because it ends its task when it is dropped. The loop is dropped in the middle of a poll only when
        // the receiver ends.
        let mut polling = JoinSet::new();
        polling.spawn(poll_for_ever(events, line, backoff));
        let mut storing: Option<Storing> = None;
        loop {
            if storing.is_none() {
                storing = self.next_call(&client);
            }
            let has_room = self.backlog.len() < BACKLOG_MESSAGES && self.backlog_bytes < BACKLOG_BYTES;
            tokio::select! {
                () = shutdown.cancelled() => return self.take_leave(&client, storing, news).await,
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

    /// Waits for the call to the store that runs, and until the broker was told what it took; both for a short time.
    async fn take_leave(
        &mut self,
        client: &AsyncClient,
        storing: Option<Storing>,
        mut news: mpsc::Receiver<News>,
    ) {
        // The connection goes on meanwhile; the messages that it brings come again.
        let hear_out = async { while news.recv().await.is_some() {} };
        tokio::pin!(hear_out);
        let settle = async {
            if let Some(mut done) = storing
                && let Ok(Some(rejected)) = tokio::time::timeout(LAST_STORING, &mut done.outcome).await
            {
                self.settled(client, done, rejected);
            }
        };
        let has_ended = tokio::select! {
            () = settle => false,
            () = &mut hear_out => true,
        };
        // Behind the acknowledgements.
        if !has_ended && self.live.lock().now != NO_CONNECTION && client.try_disconnect().is_ok() {
            let _in_time = tokio::time::timeout(LAST_WORDS, hear_out).await;
        }
    }

    fn heard(&mut self, news: News) {
        match news {
            News::Connected { connection, has_session } => {
                if has_session {
                    // They come again.
                    self.backlog.retain(|arrived| arrived.publish.qos == QoS::AtMostOnce);
                    self.backlog_bytes =
                        self.backlog.iter().map(|arrived| arrived.publish.payload.len()).sum();
                } else {
                    self.session_began = connection;
                    self.stored = Remembered::default();
                }
                let address = &self.config.url;
                tracing::info!(address, has_session, "connected to the broker");
                self.note(|status| {
                    status.is_connected = true;
                    status.connections += 1;
                    status.last_error = None;
                });
            }
            News::Message { connection, publish } => {
                let at = arrival(self.clock.wall(), self.last_arrival);
                self.last_arrival = at;
                self.note(|status| {
                    status.messages += 1;
                    status.last_message = Some(at);
                });
                if !publish.dup {
                    self.stored.forget(publish.pkid);
                }
                self.backlog_bytes += publish.payload.len();
                self.backlog.push_back(Arrived { publish, connection, at });
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
            if arrived.publish.dup && self.stored.holds(arrived.publish.pkid, key) {
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
            let entry = self.mapping.entry(message.topic);
            match self.mapping.point(message) {
                Ok(point) => {
                    self.doubts.usable(entry);
                    points.push(point);
                    keys.insert(key);
                    messages.push(arrived);
                }
                Err(reason) => {
                    self.unusable(entry, &arrived.publish.topic, &reason);
                    self.acknowledge(client, &arrived);
                }
            }
        }
        let count = points.len() as u64;
        let outcome =
            (count > 0).then(|| Box::pin(self.outbox.hand_over(points)) as BoxFuture<'static, _>)?;
        Some(Storing { outcome, messages, points: count })
    }

    fn unusable(&mut self, entry: Option<usize>, topic: &str, reason: &Unusable) {
        tracing::debug!(topic, %reason, "a message gives no point");
        if matches!(reason, Unusable::TooLong { .. } | Unusable::NoValue(_)) && self.doubts.unusable(entry) {
            tracing::warn!(topic, %reason, "no message of this entry ever gave a point: check it in collector.mqtt.topics");
        }
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
            if arrived.publish.qos != QoS::AtMostOnce && arrived.connection >= self.session_began {
                self.stored.add(arrived.publish.pkid, key(&arrived.publish));
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
        let live = self.live.lock();
        if arrived.publish.qos == QoS::AtMostOnce || arrived.connection != live.now {
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

impl Live {
    fn connected(&mut self) -> u64 {
        self.made += 1;
        self.now = self.made;
        self.now
    }
}

/// What the polling task holds of the receiver.
struct Line {
    client: AsyncClient,
    filters: Vec<String>,
    news: mpsc::Sender<News>,
    live: Arc<Mutex<Live>>,
}

/// Drives the connection: connects, subscribes, tells what came, waits after a loss. Ends after the parting word.
async fn poll_for_ever(mut events: EventLoop, line: Line, mut backoff: Backoff) {
    let Line { client, filters, news, live } = line;
    let (mut connection, mut is_leaving) = (NO_CONNECTION, false);
    loop {
        let told = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(connack))) => {
                connection = live.lock().connected();
                let filters =
                    filters.iter().map(|filter| SubscribeFilter::new(filter.clone(), QoS::AtLeastOnce));
                let subscribed = client.try_subscribe_many(filters);
                match subscribed {
                    Ok(()) => News::Connected { connection, has_session: connack.session_present },
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
                News::Message { connection, publish }
            }
            Ok(Event::Incoming(Packet::PingResp)) => {
                backoff.reset();
                continue;
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                // The broker closes the connection when it has read all before it.
                is_leaving = true;
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                live.lock().now = NO_CONNECTION;
                // Acknowledgements that were queued between the loss and here must not go to the next connection.
                events.clean();
                if is_leaving || news.send(News::Lost(error.to_string())).await.is_err() {
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

/// When a message came, to the millisecond; later than the one before by at least [`STEP_NS`].
fn arrival(now: Timestamp, last: Timestamp) -> Timestamp {
    let now = now.truncated_to_millis();
    let next = last.0.saturating_add(STEP_NS);
    // Farther ahead is a clock that was set back.
    let was_set_back = last.0.saturating_sub(now.0) > CLOCK_SET_BACK_NS;
    Timestamp(if was_set_back { now.0 } else { now.0.max(next) })
}

/// Packet number and content of a message: what a second delivery has in common with the first.
fn key(publish: &Publish) -> u64 {
    let mut hasher = DefaultHasher::new();
    (publish.pkid, &publish.topic, &publish.payload[..]).hash(&mut hasher);
    hasher.finish()
}

/// The message stored last under each packet number.
#[derive(Default)]
struct Remembered(HashMap<u16, u64>);

impl Remembered {
    fn holds(&self, packet: u16, key: u64) -> bool {
        self.0.get(&packet) == Some(&key)
    }

    fn add(&mut self, packet: u16, key: u64) {
        self.0.insert(packet, key);
    }

    /// The packet number is another message's now.
    fn forget(&mut self, packet: u16) {
        self.0.remove(&packet);
    }
}

/// Unusable messages of each entry of the configuration, until it gave a point.
struct Doubts(Vec<Option<u32>>);

impl Doubts {
    fn new(entries: usize) -> Self {
        Self(vec![Some(0); entries])
    }

    fn usable(&mut self, entry: Option<usize>) {
        if let Some(doubt) = entry.and_then(|entry| self.0.get_mut(entry)) {
            *doubt = None;
        }
    }

    /// True once, when it is time to say that the entry gives nothing.
    fn unusable(&mut self, entry: Option<usize>) -> bool {
        let Some(Some(count)) = entry.and_then(|entry| self.0.get_mut(entry)) else { return false };
        *count = count.saturating_add(1);
        *count == DOUBTFUL
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
/// Unusable messages after which an entry that never gave a point is told of: a device may say one when it starts.
const DOUBTFUL: u32 = 3;
/// Before the first connection, and between two.
const NO_CONNECTION: u64 = 0;
/// Between two messages that come in the same millisecond: a thousand of them stay within it.
const STEP_NS: i64 = 1_000;
/// No burst is as long.
const CLOCK_SET_BACK_NS: i64 = 60_000_000_000;
/// At the end: for the call to the store that runs, and for the broker to hear what it took.
const LAST_STORING: Duration = Duration::from_secs(2);
const LAST_WORDS: Duration = Duration::from_secs(1);
/// A longer packet ends the connection: no device sends it.
const MAX_PACKET_BYTES: usize = 2 * 1024 * 1024;
/// Rest before a connection's task that ended by itself is begun anew.
const BEGUN_ANEW: Duration = Duration::from_secs(1);
const CERTIFICATES_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_arrival_rise_within_a_burst_and_follow_a_clock_that_is_set_back() {
        // Several messages of one topic in one millisecond: the store kept the last, all were acknowledged.
        let ms = |count: i64| Timestamp(count * 1_000_000);
        let first = arrival(Timestamp(5_900_000), Timestamp::MIN);
        assert_eq!(first, ms(5));
        assert_eq!(arrival(Timestamp(5_950_000), first), Timestamp(5_001_000));
        assert_eq!(arrival(ms(6), Timestamp(5_001_000)), ms(6));
        assert_eq!(arrival(ms(4), first), Timestamp(5_001_000));
        assert_eq!(arrival(ms(1_000), ms(62_000)), ms(1_000));
    }

    #[test]
    fn an_entry_that_never_gave_a_point_is_told_of_once() {
        let mut doubts = Doubts::new(2);
        doubts.usable(Some(1));
        let told: Vec<bool> = (0..6).map(|_| doubts.unusable(Some(0))).collect();
        assert_eq!(told, [false, false, true, false, false, false]);
        assert!((0..6).all(|_| !doubts.unusable(Some(1)) && !doubts.unusable(None)));
    }
}
