//! A server of the test's own, and a client that sees every byte: it can be slow, rude or malformed on purpose.

use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::{Engine, Options};
use wattlog_model::{Clock, ManualClock, Timestamp};
use wattlog_server::{BuildInfo, DrainReport, Limits, ServerOptions, ServerState, run};

/// 2026-03-01T10:00:00Z.
pub const NOW: Timestamp = Timestamp(1_772_359_200_000_000_000);
/// Longest wait for anything that should come at once; a loaded machine gets its time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a test wants otherwise than by default.
pub struct Setup {
    pub server: ServerOptions,
    pub engine: Options,
    pub disk: SimDisk,
    pub engine_clock: Arc<dyn Clock>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            server: ServerOptions::default(),
            engine: Options::default(),
            disk: SimDisk::new(1),
            engine_clock: Arc::new(ManualClock::new(NOW)),
        }
    }
}

impl Setup {
    pub fn limits(change: impl FnOnce(&mut Limits)) -> Self {
        let mut setup = Self::default();
        change(&mut setup.server.limits);
        setup
    }

    /// A server whose store is not open yet.
    pub async fn start_closed(self) -> Running {
        let clock = Arc::new(ManualClock::new(NOW));
        let build = BuildInfo { version: "9.9.9".to_owned(), commit: "abc".to_owned() };
        let state = ServerState::new(self.server, build, clock.clone()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async {
            let _ = stopped.await;
        };
        let task = tokio::spawn(run(listener, state.clone(), stopped));
        let engine =
            Engine::open(Arc::new(self.disk.clone()), self.engine, self.engine_clock, [7; 16]).unwrap();
        Running { address, state, engine, disk: self.disk, clock, stop: Some(stop), task }
    }

    /// A server that is ready.
    pub async fn start(self) -> Running {
        let running = self.start_closed().await;
        running.open_store();
        running
    }
}

/// A server under test; it stops when the test ends.
pub struct Running {
    pub address: SocketAddr,
    pub state: ServerState,
    pub engine: Engine,
    pub disk: SimDisk,
    pub clock: Arc<ManualClock>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<DrainReport>>,
}

impl Running {
    pub fn open_store(&self) {
        assert!(self.state.set_engine(self.engine.clone()));
    }

    pub async fn connect(&self) -> Client {
        Client { socket: TcpStream::connect(self.address).await.unwrap(), unread: Vec::new() }
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target, &[], b"").await
    }

    pub async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Answer {
        self.ask("POST", target, &[], body).await
    }

    /// One request on a connection of its own.
    pub async fn ask(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut client = self.connect().await;
        client.send(request(method, target, headers, body.as_ref())).await;
        client.answer_to(method).await
    }

    /// Stores line protocol with nanosecond times.
    pub async fn store(&self, lines: &str) {
        let answer = self.post("/write?db=wattlog", lines).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }

    /// Value of a sample of `/metrics`, zero if it is not there.
    pub async fn metric(&self, sample: &str) -> f64 {
        let text = self.get("/metrics").await.text();
        let line =
            text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ').map(str::to_owned));
        line.map_or(0.0, |number| number.parse().unwrap())
    }

    pub async fn limit_reached(&self, limit: &str) -> f64 {
        self.metric(&format!("wattlog_http_limit_reached_total{{limit=\"{limit}\"}}")).await
    }

    /// Waits until a condition that another task brings about holds.
    pub async fn until(&self, what: &str, mut holds: impl AsyncFnMut(&Self) -> bool) {
        let waiting = async {
            while !holds(self).await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "waited in vain for: {what}");
    }

    /// Tells the server to stop, without waiting.
    pub fn begin_stop(&mut self) {
        self.stop.take().expect("stopped once").send(()).unwrap();
    }

    /// Waits for the end of a server that was told to stop.
    pub async fn stopped(self) -> DrainReport {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server stops").unwrap().unwrap()
    }
}

/// A request as bytes.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if matches!(method, "POST" | "PUT") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    [head.as_bytes(), b"\r\n", body].concat()
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// That the answer is one of our own error bodies; gives code and message.
    pub fn refusal(&self) -> (String, String) {
        let body = self.json();
        assert_eq!(self.header("content-type"), "application/json", "{body}");
        let id = body["request_id"].as_str().expect("a request id");
        assert_eq!(id, self.header("x-request-id"));
        (body["code"].as_str().unwrap().to_owned(), body["message"].as_str().unwrap().to_owned())
    }
}

/// One connection.
pub struct Client {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Client {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        tokio::time::timeout(PATIENCE, self.socket.write_all(bytes.as_ref()))
            .await
            .expect("is taken")
            .unwrap();
    }

    /// Takes more from the socket; false at its end.
    pub async fn take(&mut self) -> bool {
        let mut chunk = vec![0; 64 * 1024];
        let read = self.socket.read(&mut chunk);
        let read = tokio::time::timeout(PATIENCE, read).await.expect("something comes").unwrap();
        self.unread.extend_from_slice(&chunk[..read]);
        read > 0
    }

    /// The next answer, to a request that is no HEAD.
    pub async fn answer(&mut self) -> Answer {
        self.answer_to("GET").await
    }

    async fn answer_to(&mut self, method: &str) -> Answer {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            assert!(self.take().await, "the connection ended in an answer's head: {:?}", self.unread);
        };
        let head = String::from_utf8(self.unread.drain(..head_end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
            .collect();
        let body = if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            Vec::new()
        } else if headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked") {
            self.chunked().await
        } else {
            let length = headers.get("content-length").expect("a length").parse().unwrap();
            self.bytes(length).await
        };
        Answer { status, headers, body }
    }

    async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.take().await, "the connection ended after {} of {length} bytes", self.unread.len());
        }
        self.unread.drain(..length).collect()
    }

    async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                if let Some(at) = self.unread.windows(2).position(|two| two == b"\r\n") {
                    break at;
                }
                assert!(self.take().await, "the connection ended in a chunk");
            };
            let line = self.bytes(line_end + 2).await;
            let length = usize::from_str_radix(std::str::from_utf8(&line).unwrap().trim(), 16).unwrap();
            body.extend_from_slice(&self.bytes(length).await);
            self.bytes(2).await;
            if length == 0 {
                return body;
            }
        }
    }

    /// All that comes until the server ends the connection, however it does.
    pub async fn rest(&mut self) -> String {
        let end = async { while matches!(self.socket.read_buf(&mut self.unread).await, Ok(1..)) {} };
        assert!(tokio::time::timeout(PATIENCE, end).await.is_ok(), "the server does not end the connection");
        String::from_utf8(std::mem::take(&mut self.unread)).unwrap()
    }

    /// Waits until the server ends the connection, however it does.
    pub async fn ended(&mut self) {
        let end = async {
            let mut chunk = vec![0; 64 * 1024];
            while matches!(self.socket.read(&mut chunk).await, Ok(1..)) {}
        };
        assert!(tokio::time::timeout(PATIENCE, end).await.is_ok(), "the server does not end the connection");
    }
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A body in chunks of at most `size` bytes.
pub fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in body.chunks(size) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// A clock that lets nobody pass while it is shut: what the store does next waits.
#[derive(Debug, Default)]
pub struct GatedClock {
    inner: ManualClock,
    shut: parking_lot::Mutex<bool>,
    opened: parking_lot::Condvar,
}

impl GatedClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { inner: ManualClock::new(NOW), ..Self::default() })
    }

    pub fn shut(&self) {
        *self.shut.lock() = true;
    }

    pub fn open(&self) {
        *self.shut.lock() = false;
        self.opened.notify_all();
    }

    fn pass(&self) {
        let mut shut = self.shut.lock();
        while *shut {
            self.opened.wait(&mut shut);
        }
    }
}

impl Clock for GatedClock {
    fn wall(&self) -> Timestamp {
        self.pass();
        self.inner.wall()
    }

    fn monotonic(&self) -> Duration {
        self.pass();
        self.inner.monotonic()
    }
}

/// Rows of measurement `big`, and the bytes of the text in each.
const BIG_ROWS: usize = 400;
const BIG_TEXT_BYTES: usize = 60_000;
/// A query whose answer is longer than what two sockets hold between them.
pub const BIG: &str = "/api/v1/query?measurement=big&start=0s";

impl Running {
    /// Stores what [`BIG`] asks for.
    pub async fn store_big(&self) {
        for part in 0..10 {
            let rows = BIG_ROWS / 10;
            let line = |n: usize| format!("big s=\"{n:0BIG_TEXT_BYTES$}\" {n}\n");
            let lines: String = (part * rows..(part + 1) * rows).map(line).collect();
            self.store(&lines).await;
        }
    }

    /// True once nobody can connect any more.
    pub async fn refuses_connections(&self) -> bool {
        TcpStream::connect(self.address).await.is_err()
    }
}

/// That this is the whole answer to [`BIG`].
pub fn assert_big(answer: &Answer) {
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() > BIG_ROWS * BIG_TEXT_BYTES);
    assert!(answer.body.ends_with(b"}\n"));
}

impl Client {
    /// Takes more, whether the connection still stands or not.
    pub async fn take_if_there(&mut self) {
        let mut chunk = [0; 16 * 1024];
        let _ = tokio::time::timeout(Duration::from_millis(1), self.socket.read(&mut chunk)).await;
    }
}
