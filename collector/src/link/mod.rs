//! One way to a device: ask for words, get words or a reason. One request in flight, ever.

mod lenient;
mod tcp;
mod udp;

pub(crate) use udp::WAKE_TEXT;

use crate::config::{DeviceConfig, Transport};
use crate::modbus::ReadError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a device is and how long it may think.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    unit: u8,
    timeout: Duration,
}

/// Shortest time granted to a name look-up or a connection; dongles are slow to accept.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Port on which dongles listen for the discovery packet that also wakes them.
const WAKE_PORT: u16 = 48899;

impl Target {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port(),
            unit: config.unit(),
            timeout: config.timeout.0,
        }
    }

    /// Addresses of the host, looked up anew each time (dongles get new ones), IPv4 first (dongles know no other, and
    /// `localhost` has both). Never empty.
    async fn resolve(&self) -> Result<Vec<SocketAddr>, ReadError> {
        let look_up = tokio::net::lookup_host((self.host.as_str(), self.port));
        let mut found: Vec<SocketAddr> = self.within_connect_time(look_up).await?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        if found.is_empty() { Err(ReadError::Connect(io::ErrorKind::NotFound.into())) } else { Ok(found) }
    }

    async fn within_connect_time<T>(
        &self,
        step: impl Future<Output = io::Result<T>>,
    ) -> Result<T, ReadError> {
        match tokio::time::timeout(self.timeout.max(CONNECT_TIMEOUT), step).await {
            Ok(done) => done.map_err(ReadError::Connect),
            Err(_) => Err(ReadError::Connect(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// Sends the packet that wakes dongles which fell silent; as a datagram it may get lost.
pub(crate) async fn wake(target: &Target) -> Result<(), ReadError> {
    udp::wake(target, WAKE_PORT).await
}

/// An open way to a device.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(tcp::TcpLink),
    Udp(udp::UdpLink),
}

impl Link {
    /// Opens the way.
    pub(crate) async fn open(transport: Transport, target: &Target) -> Result<Self, ReadError> {
        match transport {
            Transport::Tcp => tcp::TcpLink::open(target).await.map(Self::Tcp),
            Transport::Udp => udp::UdpLink::open(target).await.map(Self::Udp),
        }
    }

    /// Asks for `count` words from `start`. After an error other than a refusal the link is to be dropped.
    pub(crate) async fn read(&mut self, start: u16, count: u16) -> Result<Vec<u16>, ReadError> {
        match self {
            Self::Tcp(link) => link.read(start, count).await,
            Self::Udp(link) => link.read(start, count).await,
        }
    }

    /// Closes the way in good order.
    pub(crate) async fn close(self) {
        match self {
            Self::Tcp(link) => link.close().await,
            Self::Udp(_) => {}
        }
    }
}
