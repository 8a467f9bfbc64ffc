//! Polls inverters and the machine itself, and gives points to a sink.
//!
//! ```text
//! let collector = Collector::new(config)?;              // CollectorConfig: a serde tree, checked here
//! let status = collector.status();                      // clone freely; status.snapshot() -> CollectorStatus (Serialize)
//! collector.run(sink, clock, shutdown).await;           // Arc<dyn Sink>, Arc<dyn Clock>, CancellationToken
//!
//! let plant = Plant::new(seed, Place::default()).commissioned(start);
//! for state in plant.history(start..end, Duration::from_secs(10)) {
//!     let point = plant_point("roof", "home", &state);  // registers -> decoder, as for a real device
//! }
//! let simulator = Simulator::bind(SimulatorOptions {
//!     tcp: Some(addr), udp: Some(addr), source: Source::Live { plant, clock }, faults: Faults::default(),
//! }).await?;                                            // simulator.tcp_addr(), .udp_addr(), .faults()
//! simulator.run(shutdown).await?;
//! ```

pub mod config;
pub mod simulator;
pub mod sink;

pub use config::CollectorConfig;
pub use sink::{BoxFuture, Sink, SinkError};
