//! The server over real sockets, on a store that lies on a simulated disk.

mod changes;
mod completeness;
mod docs;
mod drawings;
mod energy;
mod exports;
mod keepers;
mod lifecycle;
mod limits;
mod nights;
mod prices;
mod quality;
mod reads;
mod records;
mod scorecard;
mod standing;
mod storing;
mod support;
mod surface;
mod trends;
mod writes;
