//! The server over real sockets, on a store that lies on a simulated disk.

mod changes;
mod completeness;
mod configs;
mod docs;
mod drawings;
mod energy;
mod exports;
mod keepers;
mod kinds;
mod lifecycle;
mod limits;
mod nights;
mod plan;
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
