//! Polls inverters and the machine itself, fetches prices and weather, hears a broker, and gives points to a sink.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//! use tokio_util::sync::CancellationToken;
//! use wattlog_collector::config::FieldChoice;
//! use wattlog_collector::simulator::{Faults, Place, Plant, PlantPoints, Simulator, SimulatorOptions, Source};
//! use wattlog_collector::{Collector, CollectorConfig, Sink};
//! use wattlog_model::{Clock, Timestamp};
//!
//! async fn collect(config: CollectorConfig, sink: Arc<dyn Sink>, clock: Arc<dyn Clock>, stop: CancellationToken) {
//!     let collector = Collector::new(config).expect("a configuration that was checked");
//!     let status = collector.status(); // clone freely; `status.snapshot()` can be serialised
//!     collector.run(sink, clock, stop).await;
//!     println!("{:?}", status.snapshot().buffer);
//! }
//!
//! async fn simulate(start: Timestamp, now: Timestamp, clock: Arc<dyn Clock>, stop: CancellationToken) {
//!     let plant = Plant::new(42, Place::default()).commissioned(start);
//!     let mut points = PlantPoints::new("roof", "home", FieldChoice::All);
//!     for state in plant.history(start..now, Duration::from_secs(10)) {
//!         let _point = points.point(&state); // encoded to registers and decoded, as for a real device
//!     }
//!     let loopback = Some(([127, 0, 0, 1], 0).into());
//!     let source = Source::Live { plant, clock };
//!     let faults = Faults::default();
//!     let options = SimulatorOptions { tcp: loopback, udp: loopback, discovery: None, source, faults };
//!     let simulator = Simulator::bind(options).await.expect("loopback");
//!     println!("Modbus TCP on {:?}, UDP on {:?}", simulator.tcp_addr(), simulator.udp_addr());
//!     simulator.run(stop).await.expect("sockets that stay");
//! }
//! ```
//!
//! Promises: it never writes to a device (function 3 is the only one in the code); a point holds only values that were
//! read in its own cycle; nothing a device, a service, a broker or the store does ends a loop; what is dropped is counted.
//! Not here: the store (it is behind [`Sink`]), the configuration file, HTTP.

mod collector;
pub mod config;
mod device;
pub mod feeds;
pub mod goodwe;
mod link;
pub mod modbus;
pub mod mqtt;
mod outbox;
mod poll;
mod seed;
pub mod simulator;
pub mod sink;
pub mod status;
mod system;

pub use collector::Collector;
pub use config::CollectorConfig;
pub use device::{Probe, probe};
pub use feeds::{Feeds, Known, NothingKnown};
pub use sink::{BoxFuture, Sink, SinkError};
pub use status::{CollectorStatus, StatusHandle};
