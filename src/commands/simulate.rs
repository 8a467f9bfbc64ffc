//! `simulate goodwe`: an inverter that is not there, on real sockets, until INT or TERM.

use super::print;
use crate::cli::{GoodweArgs, Simulate};
use crate::clock::SystemClock;
use crate::failure::{Failure, Kind, chain};
use crate::signals;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use wattlog_collector::simulator::{Captures, Faults, Place, Plant, Simulator, SimulatorOptions, Source};

pub(crate) fn run(command: &Simulate) -> Result<(), Failure> {
    let Simulate::Goodwe(arguments) = command;
    crate::client::block_on(goodwe(arguments))
}

async fn goodwe(arguments: &GoodweArgs) -> Result<(), Failure> {
    let mut faults = Faults::default();
    for fault in &arguments.fault {
        faults.set(fault).map_err(|error| Failure::from_error(Kind::Usage, &error))?;
    }
    let source = match &arguments.captures {
        Some(folder) => {
            let captures = Captures::load(folder, arguments.installation.as_deref()).await;
            Source::Captures(captures.map_err(|error| Failure::from_error(Kind::Data, &error))?)
        }
        None => Source::Live {
            plant: Plant::new(arguments.seed, place(arguments)),
            clock: Arc::new(SystemClock::new()),
        },
    };
    // Without an address the usual Modbus port, on loopback; below 1024 only root may have it, so not 502.
    let (tcp, udp) = match (arguments.listen, arguments.udp) {
        (None, None) => (Some(SocketAddr::from(([127, 0, 0, 1], 1502))), None),
        addresses => addresses,
    };
    let options = SimulatorOptions { tcp, udp, discovery: arguments.discovery, source, faults };
    let simulator = Simulator::bind(options)
        .await
        .map_err(|error| Failure::new(Kind::Unavailable, format!("open the simulator's sockets: {error}")))?;
    // Before it says that it is there: who reads that may stop it at once.
    let mut signals = signals::Signals::new().map_err(|error| Failure::io("watch for signals", &error))?;
    for (dialect, address) in [
        ("modbus tcp", simulator.tcp_addr()),
        ("udp", simulator.udp_addr()),
        ("discovery", simulator.discovery_addr()),
    ] {
        if let Some(address) = address {
            print(&format!("{dialect} {address}"))?;
        }
    }
    let over = CancellationToken::new();
    let until = over.clone();
    tokio::spawn(async move {
        signals.stop().await;
        until.cancel();
    });
    simulator.run(over).await.map_err(|error| Failure::new(Kind::Io, format!("simulate: {}", chain(&error))))
}

fn place(arguments: &GoodweArgs) -> Place {
    let usual = Place::default();
    Place {
        latitude: arguments.latitude.unwrap_or(usual.latitude),
        longitude: arguments.longitude.unwrap_or(usual.longitude),
    }
}
