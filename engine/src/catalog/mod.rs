mod definition;
pub use definition::{Definition, InvalidDefinition, decode_definitions, encode_definitions};
