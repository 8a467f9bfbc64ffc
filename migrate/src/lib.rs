//! Reads everything the GoodWe Dynamic Price Optimiser wrote: JSON of all its eras, and its SQLite store.
//!
//! ```no_run
//! # async fn migrate() -> Result<(), wattlog_migrate::Error> {
//! use std::path::Path;
//! use wattlog_migrate::{Collected, Context, Limits, Options, Tree, find_device, read_file};
//!
//! let limits = Limits::default();
//! let tree = Tree::scan(Path::new("/opt/optimiser"), None, &limits)?;
//! let device = find_device(&tree, &limits).unwrap_or_else(|| "inverter".to_owned());
//! let options = Options::new(&device); // Europe/Warsaw, tariff G12
//! let mut context = Context::new(options);
//! for file in &tree.files {
//!     let mut out = Collected::default(); // or anything that implements `Out`
//!     read_file(file, &mut context, &mut out).await?;
//!     // Put `out.records` away by their keys; a second run gives the same keys.
//! }
//! let report = context.into_report();
//! assert!(report.kinds.values().all(|kind| kind.read == kind.kept + kind.duplicate + kind.replaced + kind.refused));
//! # Ok(())
//! # }
//! ```
//!
//! Promises: the originals are only read. What is provably wrong is repaired and carries its original; what is not provable
//! stays as written or is missing; what cannot be read is refused with file, place and reason, and counted. Any bytes end in
//! an answer, within the bounds of [`Limits`].
//!
//! Not here: where records go (engine, ledger), the configuration file of the optimiser, the command line.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod context;
mod error;
mod files;
mod json;
mod limits;
mod read;
mod record;
mod report;
mod shape;
mod store;
mod tariff;
mod time;
mod tree;

pub use context::{Collected, Context, Options, Out};
pub use error::{Error, OutError};
pub use limits::Limits;
pub use read::{find_device, read_file};
pub use record::{
    Basis, Body, ChargingWindow, DailyPlan, DailyStats, Decision, Kind, MarketPrice, Origin, PriceForecast,
    PriceSchedule, Purpose, PvForecast, Reading, Record, Session, Snapshot, SocDrop, Span, SystemState,
    Weather,
};
pub use report::{Counts, FileReport, Hole, Place, Position, Refusal, Repair, Report, Rule};
pub use tariff::{G12, Tariff};
pub use tree::{FileKind, FoundFile, Skipped, Tree};
