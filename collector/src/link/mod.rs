//! One way to a device: ask for words, get words or a reason. One request in flight, ever.

mod lenient;
mod tcp;
mod udp;

use crate::config::{DeviceConfig, Transport};
use crate::modbus::ReadError;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a device is and how long it may think.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    host: String,
    port: u16,
    unit: u8,
    timeout: Duration,
    wake: bool,
}

impl Target {
    pub(crate) fn new(config: &DeviceConfig) -> Self {
        Self {
            host: config.host.clone(),
            port: config.port(),
            unit: config.unit(),
            timeout: config.timeout.0,
            wake: config.wake,
        }
    }

    /// Looks the host up anew each time: dongles get new addresses.
    async fn resolve(&self) -> Result<SocketAddr, ReadError> {
        let mut found =
            tokio::net::lookup_host((self.host.as_str(), self.port)).await.map_err(ReadError::Connect)?;
        found.next().ok_or_else(|| ReadError::Connect(std::io::ErrorKind::NotFound.into()))
    }
}

/// An open way to a device.
#[derive(Debug)]
pub(crate) enum Link {
    Tcp(tcp::TcpLink),
    Udp(udp::UdpLink),
}

impl Link {
    /// Opens the way. `after_silence` tells that the device did not answer lately and may need to be woken.
    pub(crate) async fn open(
        transport: Transport,
        target: &Target,
        after_silence: bool,
    ) -> Result<Self, ReadError> {
        match transport {
            Transport::Tcp => tcp::TcpLink::open(target).await.map(Self::Tcp),
            Transport::Udp => udp::UdpLink::open(target, after_silence).await.map(Self::Udp),
        }
    }

    /// Asks for `count` words from `start`. After an error other than a refusal a TCP link is to be dropped.
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
