//! Energy of a period: where it came from, where it went, how much of it was one's own.
//!
//! Two ways lead here. Totals of a period (six integrals or increases of counters) give a balance and the two usual
//! shares; samples of power give the seven flows between PV, battery, grid and house by a rule of allocation ([`Flows`]).
//!
//! Invariants
//! 1. A quantity that is missing makes what depends on it `None`, never 0.
//! 2. Every flow is at least 0, and no flow is more than its source or its sink.
//! 3. Flows are linear between the kinks of a step, so the integral of a step is exact for power that moves on a line.

mod flow;
mod shares;
mod totals;

pub use flow::{EnergyError, FlowEnergy, Flows, PowerSample, Powers, integrate_flows};
pub use shares::{Choice, PeriodEnergy, PeriodSources, Quantity, Share, choose};
pub use totals::{PartialSample, TotalEnergy, integrate_totals};

pub(crate) use flow::zero_crossing;

/// Watt-seconds in a kilowatt-hour.
pub(crate) const WS_PER_KWH: f64 = 3_600_000.0;
