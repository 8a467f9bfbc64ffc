//! Serving: accept, bound, hand to the routes, drain.
//!
//! Promise: no client holds more than its connection's buffers and one request; a slow, silent or greedy one is cut
//! off by a limit that has a name; after `shutdown` no new connection is taken, requests under way are answered, and
//! `run` returns after at most `drain_time`.
//!
//! hyper speaks HTTP/1.1 and nothing else. The caller passes the listener, so tests use port 0.

use crate::activity::{Activity, Phase, Watched};
use crate::options::Limits;
use crate::service::Service;
use crate::state::ServerState;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

/// How a server stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were cut because `drain_time` was over.
    pub cut: usize,
}

/// Serves until `shutdown` completes, then drains.
///
/// # Errors
/// Only if the listener cannot be used at all; errors of single connections end those connections.
pub async fn run(
    listener: TcpListener,
    state: ServerState,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<DrainReport> {
    listener.local_addr()?;
    let limits = state.shared.options.limits;
    let service = Service::new(state.clone());
    let per_address = Arc::new(Addresses::default());
    let tracker = TaskTracker::new();
    let (drain, draining) = watch::channel(false);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or memory: the connections that are open must end before new ones can begin.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        state.shared.metrics.connections_total.inc();
        if tracker.len() >= limits.connections as usize {
            state.shared.metrics.limit_reached("connections");
            refuse(&socket);
            continue;
        }
        let Some(address) = per_address.clone().enter(peer.ip(), limits.connections_per_address) else {
            state.shared.metrics.limit_reached("connections_per_address");
            refuse(&socket);
            continue;
        };
        let connection = serve_connection(socket, service.clone(), state.clone(), draining.clone());
        tracker.spawn(async move {
            connection.await;
            drop(address);
        });
    }
    drop(listener);
    tracker.close();
    // Receivers exist as long as this function runs.
    let _ = drain.send(true);
    let over = tokio::time::timeout(limits.drain_time.0, tracker.wait()).await;
    let cut = if over.is_ok() { 0 } else { tracker.len() };
    if cut > 0 {
        tracing::warn!(connections = cut, "cut connections that did not end in time");
    }
    // Dropping the sender tells the connections that are left to end at once.
    drop(drain);
    Ok(DrainReport { cut })
}

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Read buffer of a connection: large bodies come in few reads, and a connection holds little.
const READ_BUFFER_BYTES: usize = 128 * 1024;

async fn serve_connection(
    socket: TcpStream,
    service: Service,
    state: ServerState,
    mut draining: watch::Receiver<bool>,
) {
    let limits = state.shared.options.limits;
    let _open = OpenConnection::new(&state);
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "a connection ended before it began");
        return;
    }
    let activity = Arc::new(Activity::new());
    let io = TokioIo::new(Watched::new(socket, activity.clone()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Measured from the first byte by `Activity`; hyper's own clock would also cut idle connections.
        .header_read_timeout(None)
        .max_headers(limits.header_count as usize)
        .max_header_size(limits.header.len())
        .max_buf_size(READ_BUFFER_BYTES.max(limits.header.len()))
        .pipeline_flush(true);
    let connection = builder.serve_connection(io, service.for_connection(activity.clone()));
    let mut connection = std::pin::pin!(connection);
    let mut tick = tokio::time::interval(tick(&limits));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            _ = tick.tick() => {
                if let Some(limit) = activity.expired(&limits) {
                    // Keeping an idle connection for so long and no longer is the usual end, not a limit met.
                    if limit != "keep_alive_time" {
                        state.shared.metrics.limit_reached(limit);
                    }
                    return;
                }
            }
            changed = draining.changed() => {
                if changed.is_err() {
                    return;
                }
                stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        if stopping && activity.phase() == Phase::Idle {
            return;
        }
    }
}

/// How often a connection looks at its limits: often enough for the shortest of them.
fn tick(limits: &Limits) -> Duration {
    let shortest = limits.header_time.min(limits.keep_alive_time).min(limits.body_idle_time).0;
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Tells a client that there are too many, without waiting for it.
fn refuse(socket: &TcpStream) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\n\
        Connection: close\r\nContent-Length: 20\r\n\r\n{\"error\":\"timeout\"}\n";
    // Whether the client gets the words or only sees the connection end is the same to us.
    let _ = socket.try_write(ANSWER);
}

struct OpenConnection(ServerState);

impl OpenConnection {
    fn new(state: &ServerState) -> Self {
        state.shared.metrics.connections.inc();
        Self(state.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.shared.metrics.connections.dec();
    }
}

/// Open connections by address.
#[derive(Debug, Default)]
struct Addresses(Mutex<HashMap<IpAddr, u32>>);

struct FromAddress(Arc<Addresses>, IpAddr);

impl Addresses {
    fn enter(self: Arc<Self>, address: IpAddr, limit: u32) -> Option<FromAddress> {
        let mut open = self.0.lock();
        let count = open.entry(address).or_insert(0);
        if *count >= limit {
            return None;
        }
        *count += 1;
        drop(open);
        Some(FromAddress(self, address))
    }
}

impl Drop for FromAddress {
    fn drop(&mut self) {
        let mut open = self.0.0.lock();
        if let Some(count) = open.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.1);
            }
        }
    }
}
