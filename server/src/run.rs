//! Serving: accept, bound, hand to the routes, drain.
//!
//! Promise: no client holds more than its connection's buffers and one request; a slow, silent or greedy one is cut
//! off by a limit that has a name; after `shutdown` no new connection is taken, requests under way are answered, and
//! `run` returns after at most `drain_time`.
//!
//! hyper speaks HTTP/1.1 and nothing else. The caller passes the listener, so tests use port 0.

use crate::activity::{Activity, Phase};
use crate::budget::Peer;
use crate::error::ApiError;
use crate::options::Limits;
use crate::service::Service;
use crate::state::ServerState;
use crate::watched::Watched;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
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
    let lingering = Arc::new(Semaphore::new(LINGERING_REFUSALS));
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
            refuse(socket, &state, "connections", &lingering);
            continue;
        }
        let Some(address) = per_address.clone().enter(peer.ip(), limits.connections_per_address) else {
            refuse(socket, &state, "connections_per_address", &lingering);
            continue;
        };
        let connection =
            serve_connection(socket, Peer(peer.ip()), service.clone(), state.clone(), draining.clone());
        tracker.spawn(async move {
            connection.await;
            drop(address);
        });
    }
    drop(listener);
    state.shared.stopping.store(true, Ordering::Relaxed);
    tracker.close();
    // Receivers exist as long as this function runs.
    let _ = drain.send(true);
    let over = tokio::time::timeout(limits.drain_time.0, tracker.wait()).await;
    let cut = if over.is_ok() { 0 } else { tracker.len() };
    if cut > 0 {
        state.shared.metrics.limit_reached("drain_time");
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
    peer: Peer,
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
    let io = TokioIo::new(Watched::new(socket, activity.clone(), state.clone()));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        // Measured from the first byte by `Activity`; hyper's own clock would also cut idle connections.
        .header_read_timeout(None)
        .max_headers(limits.header_count as usize)
        .max_header_size(limits.header.in_memory())
        .max_buf_size(READ_BUFFER_BYTES.max(limits.header.in_memory()));
    let mut connection = builder.serve_connection(io, service.for_connection(activity.clone(), peer));
    let mut tick = tokio::time::interval(tick(&limits));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
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
            }
        }
        if stopping {
            Pin::new(&mut connection).graceful_shutdown();
            if activity.phase() == Phase::Idle {
                return;
            }
        }
    }
    linger(connection.into_parts().io.into_inner().into_socket()).await;
}

/// Longest time a connection is read on after its last answer.
const LINGER_TIME: Duration = Duration::from_secs(2);
/// Most bytes read then.
const LINGER_BYTES: usize = 64 << 20;

/// Reads on for a while after the last answer was sent and the sending side shut: closing a socket while bytes of the
/// client are unread resets it, and a reset takes the answer away from a client that has not read it yet.
async fn linger(mut socket: TcpStream) {
    let discard = async {
        // Most ways here have shut it already.
        let _ = socket.shutdown().await;
        let mut chunk = vec![0; 16 * 1024];
        let mut total = 0;
        while let Ok(read @ 1..) = socket.read(&mut chunk).await {
            total += read;
            if total > LINGER_BYTES {
                break;
            }
        }
    };
    // Whoever still sends after that has had time to hear the answer.
    let _ = tokio::time::timeout(LINGER_TIME, discard).await;
}

/// How often a connection looks at its limits: often enough for the shortest of them.
fn tick(limits: &Limits) -> Duration {
    let shortest = limits.header_time.min(limits.keep_alive_time).min(limits.body_idle_time).0;
    (shortest / 4).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// Refused connections that are read on at a time.
const LINGERING_REFUSALS: usize = 64;

/// Tells a client that there are too many, without waiting for it.
fn refuse(socket: TcpStream, state: &ServerState, limit: &'static str, lingering: &Arc<Semaphore>) {
    let message = format!("server.limits.{limit} is reached, try again");
    let error = ApiError::unavailable(message, Duration::from_secs(1)).at_limit(limit);
    // Whether the client gets the words or only sees the connection end is the same to us.
    let _ = socket.try_write(&state.raw_refusal(&error));
    if let Ok(permit) = lingering.clone().try_acquire_owned() {
        tokio::spawn(async move {
            linger(socket).await;
            drop(permit);
        });
    }
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
