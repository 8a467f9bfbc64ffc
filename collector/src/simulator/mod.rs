//! Inverters that are not there: a Modbus TCP server and a UDP responder over registers of our choice.

mod plant;

pub use plant::{Place, Plant, PlantState};
