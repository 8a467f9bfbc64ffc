//! Inverters that are not there: a real Modbus TCP server and a real UDP responder over registers of our choice. Beside
//! them the services of [`feeds`] and a [`broker`] for messages.
//!
//! Two sources: recorded answers of a folder, or a live plant. [`Faults`] can be switched while it runs. Nothing here
//! is a shortcut for the collector: it talks to these servers through the operating system's sockets.

pub mod broker;
mod captures;
mod discovery;
mod faults;
pub mod feeds;
mod image;
pub mod plant;
mod tcp;
mod udp;

pub use captures::{CaptureError, Captures};
pub use faults::{FaultSwitch, Faults, UnknownFault};
pub use image::{PlantPoints, plant_point};
pub use plant::{Place, Plant, PlantState};

use crate::modbus::{MAX_WORDS, Refusal};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use wattlog_model::Clock;

/// What to simulate and where.
#[derive(Debug)]
pub struct SimulatorOptions {
    /// Address of the Modbus TCP server, if it shall run; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// Address of the UDP responder, if it shall run.
    pub udp: Option<SocketAddr>,
    /// Address where the discovery packet is answered, if it shall be; dongles do so on port 48899.
    pub discovery: Option<SocketAddr>,
    /// Where the registers come from.
    pub source: Source,
    /// Faults from the start.
    pub faults: Faults,
}

/// Where registers come from.
#[derive(Debug)]
pub enum Source {
    /// Recorded answers.
    Captures(Captures),
    /// A plant at the time of a clock: its hybrid inverter at unit 0xF7, and a grid-only one on the same roof at 0x7F.
    Live {
        /// The plant.
        plant: Plant,
        /// What time it is there.
        clock: Arc<dyn Clock>,
    },
}

/// A simulator with open sockets that does not answer yet.
#[derive(Debug)]
pub struct Simulator {
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
    discovery: Option<UdpSocket>,
    registers: Arc<Registers>,
    faults: FaultSwitch,
}

impl Simulator {
    /// Opens the sockets. A live plant is walked up to the present first, so that its first answer is not late.
    ///
    /// # Errors
    /// As the operating system says when an address cannot be had.
    pub async fn bind(options: SimulatorOptions) -> io::Result<Self> {
        let tcp = match options.tcp {
            Some(address) => Some(TcpListener::bind(address).await?),
            None => None,
        };
        let udp = bind_udp(options.udp).await?;
        let discovery = bind_udp(options.discovery).await?;
        if let Source::Live { plant, clock } = &options.source {
            let (plant, now) = (plant.clone(), clock.wall());
            // A panic in there would show itself again at the first answer.
            let _ = tokio::task::spawn_blocking(move || plant.at(now)).await;
        }
        let registers = Arc::new(Registers { source: options.source });
        Ok(Self { tcp, udp, discovery, registers, faults: FaultSwitch::new(options.faults) })
    }

    /// Address of the Modbus TCP server.
    pub fn tcp_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Address of the UDP responder.
    pub fn udp_addr(&self) -> Option<SocketAddr> {
        self.udp.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// Address where the discovery packet is answered.
    pub fn discovery_addr(&self) -> Option<SocketAddr> {
        self.discovery.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// Switches faults while it runs.
    pub fn faults(&self) -> FaultSwitch {
        self.faults.clone()
    }

    /// Answers until `shutdown`.
    ///
    /// # Errors
    /// If a socket fails for good.
    pub async fn run(self, shutdown: CancellationToken) -> io::Result<()> {
        let tcp = async {
            match self.tcp {
                Some(listener) => {
                    tcp::serve(listener, Arc::clone(&self.registers), self.faults.clone(), shutdown.clone())
                        .await
                }
                None => Ok(()),
            }
        };
        let udp = async {
            match self.udp {
                Some(socket) => {
                    udp::serve(socket, Arc::clone(&self.registers), self.faults.clone(), shutdown.clone())
                        .await
                }
                None => Ok(()),
            }
        };
        let discovery = async {
            match self.discovery {
                Some(socket) => discovery::serve(socket, self.faults.clone(), shutdown.clone()).await,
                None => Ok(()),
            }
        };
        tokio::try_join!(tcp, udp, discovery).map(|_| ())
    }
}

async fn bind_udp(address: Option<SocketAddr>) -> io::Result<Option<UdpSocket>> {
    match address {
        Some(address) => UdpSocket::bind(address).await.map(Some),
        None => Ok(None),
    }
}

/// The registers behind both servers.
#[derive(Debug)]
struct Registers {
    source: Source,
}

impl Registers {
    fn has_unit(&self, unit: u8) -> bool {
        match &self.source {
            Source::Captures(captures) => captures.units().contains(&unit),
            Source::Live { .. } => image::family_at(unit).is_some(),
        }
    }

    fn read(&self, unit: u8, start: u16, count: u16, faults: &Faults) -> Result<Vec<u16>, Refusal> {
        if count == 0 || count > MAX_WORDS {
            return Err(Refusal(3));
        }
        let words = match &self.source {
            Source::Captures(captures) => captures.words(unit, start, count)?,
            Source::Live { plant, clock } => image::read(&plant.at(clock.wall()), unit, start, count)?,
        };
        Ok(if faults.sentinel_night { vec![0xFFFF; words.len()] } else { words })
    }

    fn datagram(&self, unit: u8, start: u16, count: u16) -> Option<Vec<u8>> {
        match &self.source {
            Source::Captures(captures) => captures.datagram(unit, start, count),
            Source::Live { .. } => None,
        }
    }
}
