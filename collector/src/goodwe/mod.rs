//! GoodWe inverters: registers, decoding, and the two ways to reach them.

pub mod decode;
pub mod derive;
pub mod info;
pub mod quality;
pub mod registers;

pub use derive::{Assembler, MEASUREMENT, SecondBattery, fields};
pub use info::DeviceInfo;
pub use quality::LeftOut;
