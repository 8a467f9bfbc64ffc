//! HTTP front of wattlog: hyper serves, axum routes, one bridge leads to the engine's threads.
//!
//! Promise: a body is answered only when it is durable; no request ends the process; what a client may use is bounded
//! by limits that have a name; a refusal says what to do.
//!
//! The root makes a [`ServerState`], joins the store and the collector to it and calls [`run`]:
//!
//! ```text
//! let state = ServerState::new(options, build, clock)?;
//! let server = tokio::spawn(run(listener, state.clone(), stop));   // /ready answers 503
//! state.set_engine(Engine::open(..)?);                              // from here on all routes work
//! ```

mod activity;
mod alerting;
mod answer;
mod asked;
mod body;
mod budget;
mod devices;
mod error;
mod exposition;
mod feeds;
mod handlers;
mod held;
mod keep;
mod keepers;
mod link;
mod metrics;
mod options;
mod pace;
mod queries;
mod router;
mod run;
mod scorecard;
mod service;
mod state;
mod store;
mod tasks;
mod url;
mod validator;
mod watched;
mod wire;

pub use alerting::{AlertChannel, AlertTrouble, AlertsProvider, AlertsStatus, FiringAlert};
pub use devices::{DeviceStatus, DeviceStatusProvider};
pub use feeds::{BrokerStatus, FeedStatus, FeedStatusProvider};
pub use keep::{InvalidKeep, Keep};
pub use metrics::IngestSource;
pub use options::{InvalidOption, InvalidQuantity, Limits, ServerOptions, Size, Span};
pub use router::{Access, Idle};
pub use run::{DrainReport, run};
pub use state::{BuildInfo, ServerState};
pub use tasks::{KEPT as KEPT_TASKS, Task, TaskHandle, TaskState, Tasks};
