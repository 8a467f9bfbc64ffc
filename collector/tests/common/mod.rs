//! What the tests share: a sink in memory, a clock, simulators on loopback.

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use wattlog_collector::config::{DeviceConfig, Interval, SystemMetricsConfig, Transport};
use wattlog_collector::modbus::{Refusal, parse_rtu_request, rtu_answer, rtu_refusal};
use wattlog_collector::simulator::{FaultSwitch, Faults, Simulator, SimulatorOptions, Source};
use wattlog_collector::{BoxFuture, Collector, CollectorConfig, Sink, SinkError, StatusHandle};
use wattlog_model::{Clock, FieldMeaning, FieldValue, Point, Timestamp};

pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

/// The machine's clock.
#[derive(Debug, Default)]
pub(crate) struct WallClock;

impl Clock for WallClock {
    fn wall(&self) -> Timestamp {
        Timestamp(i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("this century"))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.wall().0.unsigned_abs())
    }
}

/// Keeps what it is given, or answers with an error while one is set.
#[derive(Debug, Default)]
pub(crate) struct MemorySink {
    pub(crate) points: Mutex<Vec<Point>>,
    pub(crate) described: Mutex<Vec<(String, FieldMeaning)>>,
    pub(crate) error: Mutex<Option<SinkError>>,
}

impl Sink for MemorySink {
    fn store(&self, points: Vec<Point>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if let Some(error) = self.error.lock().clone() {
                return Err(error);
            }
            self.points.lock().extend(points);
            Ok(())
        })
    }

    fn describe<'a>(
        &'a self,
        measurement: &'a str,
        fields: Vec<FieldMeaning>,
    ) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.described.lock().extend(fields.into_iter().map(|field| (measurement.to_owned(), field)));
            Ok(())
        })
    }
}

/// A simulator that runs until it is dropped.
pub(crate) struct Running {
    pub(crate) tcp: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) faults: FaultSwitch,
    stop: CancellationToken,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    pub(crate) async fn start(source: Source) -> Self {
        let loopback = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let faults = Faults::default();
        let options = SimulatorOptions { tcp: loopback, udp: loopback, discovery: None, source, faults };
        Self::start_with(options).await
    }

    pub(crate) async fn start_with(options: SimulatorOptions) -> Self {
        let simulator = Simulator::bind(options).await.expect("loopback");
        let (tcp, udp) = (simulator.tcp_addr().unwrap(), simulator.udp_addr().unwrap());
        let (faults, stop) = (simulator.faults(), CancellationToken::new());
        let task = tokio::spawn(simulator.run(stop.clone()));
        Self { tcp, udp, faults, stop, task }
    }

    pub(crate) fn device(&self, transport: Transport) -> DeviceConfig {
        let address = match transport {
            Transport::Tcp => self.tcp,
            Transport::Udp => self.udp,
        };
        device(transport, address)
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// A device for tests: short time-outs, a point every second.
pub(crate) fn device(transport: Transport, address: SocketAddr) -> DeviceConfig {
    let mut config = DeviceConfig::new("roof", &address.ip().to_string());
    config.transport = transport;
    config.port = Some(address.port());
    config.interval = Interval::from_secs(1);
    config.timeout = Interval::from_secs(1);
    config.retries = 0;
    config.backoff_max = Interval::from_secs(1);
    config
}

/// A device of 20 kW: with the longest meter block, without a second battery.
pub(crate) const LARGE: u16 = 20_000;

/// Words of an identity block with this rated power.
pub(crate) fn identity(rated_w: u16) -> Vec<u16> {
    let mut words = vec![0x2020; 33];
    words[1] = rated_w;
    words
}

/// What a device of our making does with a request (its number, start, count).
pub(crate) type Answers = Box<dyn FnMut(usize, u16, u16) -> Reaction + Send>;

/// See [`Answers`].
pub(crate) enum Reaction {
    Words(Vec<u16>),
    Refuse(Refusal),
    /// Says nothing.
    Keep,
    /// Over UDP: these datagrams.
    Send(Vec<Vec<u8>>),
    /// Over UDP: the first now, and the others to whoever asked when the next request has come.
    Late(Vec<Vec<u8>>, Vec<Vec<u8>>),
}

/// Answers requests over one transport until it is dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start(
        transport: Transport,
        answers: impl FnMut(usize, u16, u16) -> Reaction + Send + 'static,
    ) -> Self {
        match transport {
            Transport::Tcp => Self::tcp(Box::new(answers)).await,
            Transport::Udp => Self::udp(Box::new(answers)).await,
        }
    }

    async fn udp(mut answers: Answers) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut buffer = [0; 64];
            let mut late: Vec<(Vec<u8>, SocketAddr)> = Vec::new();
            for number in 0.. {
                // A port that was closed meanwhile is reported here.
                let (len, peer) = loop {
                    if let Ok(received) = socket.recv_from(&mut buffer).await {
                        break received;
                    }
                };
                for (datagram, peer) in late.drain(..) {
                    let _ = socket.send_to(&datagram, peer).await;
                }
                let (_, start, count) = parse_rtu_request(&buffer[..len]).expect("only reads are asked");
                let datagrams = match answers(number, start, count) {
                    Reaction::Words(words) => vec![rtu_answer(0xF7, &words)],
                    Reaction::Refuse(refusal) => vec![rtu_refusal(0xF7, refusal)],
                    Reaction::Keep => vec![],
                    Reaction::Send(datagrams) => datagrams,
                    Reaction::Late(now, datagrams) => {
                        late.extend(datagrams.into_iter().map(|datagram| (datagram, peer)));
                        now
                    }
                };
                for datagram in datagrams {
                    let _ = socket.send_to(&datagram, peer).await;
                }
            }
        });
        Self { address, task }
    }

    async fn tcp(mut answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut number = 0;
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 12];
                while stream.read_exact(&mut request).await.is_ok() {
                    assert_eq!(request[7], 3, "only reads are asked");
                    let word = |at: usize| u16::from_be_bytes([request[at], request[at + 1]]);
                    let mut frame = vec![request[0], request[1], 0, 0, 0, 0, request[6]];
                    match answers(number, word(8), word(10)) {
                        Reaction::Words(words) => {
                            frame.extend([3, 2 * words.len() as u8]);
                            frame.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                        }
                        Reaction::Refuse(refusal) => frame.extend([0x83, refusal.0]),
                        _ => frame.clear(),
                    }
                    number += 1;
                    let _ = stream.write_all(&frame).await;
                }
            }
        });
        Self { address, task }
    }
}

/// A collector that runs until it is stopped.
pub(crate) struct Collecting {
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) status: StatusHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Collecting {
    pub(crate) fn start(config: CollectorConfig, clock: Arc<dyn Clock>) -> Self {
        let collector = Collector::new(config).unwrap();
        let (sink, status) = (Arc::new(MemorySink::default()), collector.status());
        let stop = CancellationToken::new();
        let (to, until) = (Arc::clone(&sink), stop.clone());
        let task = tokio::spawn(collector.run(to, clock, until));
        Self { sink, status, stop, task }
    }

    /// Waits until the sink has so many points, for at most some seconds.
    pub(crate) async fn points(&self, count: usize) -> Vec<Point> {
        self.until(&format!("{count} points"), || self.sink.points.lock().len() >= count).await;
        self.sink.points.lock().clone()
    }

    pub(crate) async fn until(&self, what: &str, done: impl Fn() -> bool) {
        for _ in 0..1_000 {
            if done() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no {what} within 10 s: {:#?}", self.status.snapshot());
    }

    pub(crate) async fn stop(self) -> Arc<MemorySink> {
        self.stop.cancel();
        self.task.await.unwrap();
        self.sink
    }
}

/// One device, no system metrics.
pub(crate) fn collecting(device: DeviceConfig) -> CollectorConfig {
    CollectorConfig {
        devices: vec![device],
        system_metrics: SystemMetricsConfig { enabled: false, ..SystemMetricsConfig::default() },
        ..CollectorConfig::default()
    }
}

pub(crate) fn value<'a>(point: &'a Point, field: &str) -> Option<&'a FieldValue> {
    point.fields.iter().find(|(name, _)| name == field).map(|(_, value)| value)
}

/// The real captures beside the project, if they are there.
pub(crate) fn shared_captures() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared = std::env::var_os("WATTLOG_SHARED").map_or_else(|| root.join("../shared"), PathBuf::from);
    let folder = shared.join("fixtures/goodwe");
    folder.join("expected.json").exists().then_some(folder)
}

/// The captures that the project carries.
pub(crate) fn own_captures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("captures")
}
