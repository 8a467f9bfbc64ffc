//! A broker that is not there: MQTT 3.1.1 over a real socket, with sessions that outlive connections, retained messages
//! and faults to order. For tests and demonstrations on loopback; one process, nothing on disk.
//!
//! Invariant: a message of a session is in its queue or in flight until it is acknowledged; after a new connection
//! everything in flight is delivered again, marked as repeated.

use parking_lot::Mutex;
use rumqttc::{ConnAck, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, SubscribeReasonCode};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::{Decoder, Encoder};
use tokio_util::sync::CancellationToken;

/// What is wrong with the broker; the default is nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerFaults {
    /// The connection is dropped after so many deliveries; 0: never.
    pub drop_after: u64,
    /// Every message is delivered twice.
    pub twice: bool,
    /// It answers nothing at all, connections included.
    pub silent: bool,
    /// It takes no notice of acknowledgements: everything comes again after a new connection.
    pub deaf_to_acks: bool,
    /// A login that is demanded.
    pub login: Option<(String, String)>,
}

/// A broker with an open socket that does not answer yet.
#[derive(Debug)]
pub struct Broker {
    listener: TcpListener,
    control: BrokerControl,
}

/// Publishes and looks, while it runs; clone freely.
#[derive(Debug, Clone)]
pub struct BrokerControl {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Debug, Default)]
struct State {
    sessions: HashMap<String, Session>,
    retained: BTreeMap<String, Vec<u8>>,
    faults: BrokerFaults,
    acknowledged: Vec<(String, Vec<u8>)>,
    connections: u64,
    deliveries: u64,
    /// Everyone is thrown out when it rises.
    thrown_out: u64,
}

#[derive(Debug, Default)]
struct Session {
    filters: Vec<String>,
    queue: VecDeque<Publish>,
    in_flight: BTreeMap<u16, Publish>,
    last_number: u16,
}

impl Session {
    /// The next message, numbered; it is in flight from now on.
    fn next(&mut self) -> Option<Publish> {
        if self.in_flight.len() >= MOST_IN_FLIGHT {
            return None;
        }
        let mut message = self.queue.pop_front()?;
        while self.last_number == 0 || self.in_flight.contains_key(&self.last_number) {
            self.last_number = self.last_number.wrapping_add(1);
        }
        message.pkid = self.last_number;
        self.last_number = self.last_number.wrapping_add(1);
        self.in_flight.insert(message.pkid, message.clone());
        Some(message)
    }
}

impl Broker {
    /// Opens the socket; port 0 takes a free one.
    ///
    /// # Errors
    /// As the operating system says when the address cannot be had.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let control = BrokerControl { state: Arc::default(), changed: Arc::default() };
        Ok(Self { listener: TcpListener::bind(address).await?, control })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// As the operating system says.
    pub fn addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// What changes it while it runs.
    pub fn control(&self) -> BrokerControl {
        self.control.clone()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// If the socket fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let Some(accepted) = shutdown.run_until_cancelled(self.listener.accept()).await else {
                return Ok(());
            };
            let (stream, _) = accepted?;
            while connections.try_join_next().is_some() {}
            let control = self.control.clone();
            connections.spawn(async move {
                // A client that goes away or talks nonsense costs its own connection.
                let _gone = Connection::new(stream, control).serve().await;
            });
        }
    }
}

impl BrokerControl {
    /// Publishes with quality of service 1 to all sessions that subscribed.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        self.state.lock().route(topic, payload);
        self.changed.notify_waiters();
    }

    /// Keeps a message for those that subscribe later.
    pub fn retain(&self, topic: &str, payload: &[u8]) {
        self.state.lock().retained.insert(topic.to_owned(), payload.to_vec());
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: BrokerFaults) {
        self.state.lock().faults = faults;
    }

    /// Drops every connection; sessions stay.
    pub fn drop_connections(&self) {
        self.state.lock().thrown_out += 1;
        self.changed.notify_waiters();
    }

    /// Drops every connection and all sessions, as a broker that loses its memory.
    pub fn forget_sessions(&self) {
        self.state.lock().sessions.clear();
        self.drop_connections();
    }

    /// Topics and payloads in the order in which they were acknowledged.
    pub fn acknowledged(&self) -> Vec<(String, Vec<u8>)> {
        self.state.lock().acknowledged.clone()
    }

    /// Messages that some session has not acknowledged.
    pub fn open(&self) -> usize {
        let state = self.state.lock();
        state.sessions.values().map(|session| session.queue.len() + session.in_flight.len()).sum()
    }

    /// Connections that logged in until now.
    pub fn connections(&self) -> u64 {
        self.state.lock().connections
    }

    /// Sessions that have subscribed to something.
    pub fn subscribers(&self) -> usize {
        self.state.lock().sessions.values().filter(|session| !session.filters.is_empty()).count()
    }
}

impl State {
    fn route(&mut self, topic: &str, payload: &[u8]) {
        for session in self.sessions.values_mut() {
            let fits = session.filters.iter().any(|filter| rumqttc::matches(topic, filter));
            if fits && session.queue.len() < MOST_WAITING {
                session.queue.push_back(Publish::new(topic, QoS::AtLeastOnce, payload));
            }
        }
    }
}

/// One client.
struct Connection {
    stream: TcpStream,
    control: BrokerControl,
    incoming: BytesMut,
    client: Option<String>,
    thrown_out: u64,
}

/// Why a connection ends.
struct Ended;

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Connection {
    fn new(stream: TcpStream, control: BrokerControl) -> Self {
        let thrown_out = control.state.lock().thrown_out;
        Self { stream, control, incoming: BytesMut::new(), client: None, thrown_out }
    }

    async fn serve(mut self) -> Result<(), Ended> {
        let changed = Arc::clone(&self.control.changed);
        loop {
            // Registered before the look at the queue, so that no change is missed.
            let notified = changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            self.deliver().await?;
            tokio::select! {
                read = self.stream.read_buf(&mut self.incoming) => {
                    if read? == 0 {
                        return Err(Ended);
                    }
                    self.understand().await?;
                }
                () = notified => {}
            }
        }
    }

    /// Sends what is due to this client.
    async fn deliver(&mut self) -> Result<(), Ended> {
        loop {
            let message = {
                let mut state = self.control.state.lock();
                if state.thrown_out != self.thrown_out {
                    return Err(Ended);
                }
                if state.faults.silent {
                    return Ok(());
                }
                let Some(session) = self.client.as_ref().and_then(|id| state.sessions.get_mut(id)) else {
                    return Ok(());
                };
                let Some(message) = session.next() else { return Ok(()) };
                state.deliveries += 1;
                let faults = &state.faults;
                let drops = faults.drop_after > 0 && state.deliveries.is_multiple_of(faults.drop_after);
                (message, faults.twice, drops)
            };
            let (message, twice, drops) = message;
            self.send(Packet::Publish(message.clone())).await?;
            if twice {
                self.send(Packet::Publish(Publish { dup: true, ..message })).await?;
            }
            if drops {
                return Err(Ended);
            }
        }
    }

    async fn understand(&mut self) -> Result<(), Ended> {
        let mut codec = codec();
        while let Some(packet) = codec.decode(&mut self.incoming).map_err(|_| Ended)? {
            if self.control.state.lock().faults.silent {
                continue;
            }
            let answers = self.answers(packet)?;
            for answer in answers {
                self.send(answer).await?;
            }
        }
        Ok(())
    }

    fn answers(&mut self, packet: Packet) -> Result<Vec<Packet>, Ended> {
        let mut state = self.control.state.lock();
        let state = &mut *state;
        if let Packet::Connect(connect) = packet {
            let told = connect.login.map(|login| (login.username, login.password));
            if state.faults.login.is_some() && told != state.faults.login {
                return Ok(vec![Packet::ConnAck(ConnAck::new(
                    ConnectReturnCode::BadUserNamePassword,
                    false,
                ))]);
            }
            if connect.clean_session {
                state.sessions.remove(&connect.client_id);
            }
            let has_session = state.sessions.contains_key(&connect.client_id);
            let session = state.sessions.entry(connect.client_id.clone()).or_default();
            state.connections += 1;
            self.client = Some(connect.client_id);
            let mut answers = vec![Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, has_session))];
            let again = session.in_flight.values().map(|message| Publish { dup: true, ..message.clone() });
            answers.extend(again.map(Packet::Publish));
            return Ok(answers);
        }
        let session = self.client.as_ref().and_then(|id| state.sessions.get_mut(id)).ok_or(Ended)?;
        Ok(match packet {
            Packet::Subscribe(subscribe) => {
                let filters: Vec<String> = subscribe.filters.into_iter().map(|filter| filter.path).collect();
                let codes = filters.iter().map(|_| SubscribeReasonCode::Success(QoS::AtLeastOnce)).collect();
                for (topic, payload) in &state.retained {
                    if filters.iter().any(|filter| rumqttc::matches(topic, filter)) {
                        let kept = Publish::new(topic.as_str(), QoS::AtLeastOnce, payload.clone());
                        session.queue.push_back(Publish { retain: true, ..kept });
                    }
                }
                session.filters = filters;
                vec![Packet::SubAck(SubAck::new(subscribe.pkid, codes))]
            }
            Packet::Publish(publish) => {
                state.route(&publish.topic, &publish.payload);
                self.control.changed.notify_waiters();
                let wants_ack = publish.qos == QoS::AtLeastOnce;
                if wants_ack { vec![Packet::PubAck(PubAck::new(publish.pkid))] } else { Vec::new() }
            }
            Packet::PubAck(ack) => {
                if !state.faults.deaf_to_acks
                    && let Some(message) = session.in_flight.remove(&ack.pkid)
                {
                    state.acknowledged.push((message.topic, message.payload.to_vec()));
                }
                Vec::new()
            }
            Packet::PingReq => vec![Packet::PingResp],
            Packet::Disconnect => return Err(Ended),
            _ => Vec::new(),
        })
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Ended> {
        let mut bytes = BytesMut::new();
        codec().encode(packet, &mut bytes).map_err(|_| Ended)?;
        self.stream.write_all(&bytes).await?;
        Ok(())
    }
}

fn codec() -> rumqttc::Codec {
    rumqttc::Codec { max_incoming_size: MAX_PACKET_BYTES, max_outgoing_size: MAX_PACKET_BYTES }
}

const MAX_PACKET_BYTES: usize = 4 * 1024 * 1024;
/// Messages of a session, beyond which new ones are dropped, and that it has open at once.
const MOST_WAITING: usize = 100_000;
const MOST_IN_FLIGHT: usize = 100;
