//! What one field of a point can hold, and what its numbers mean.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Type of a field, fixed by its first write. The numbers are those of the files (format-spec.md, "Field types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FieldType {
    /// IEEE 754 binary64, finite at the door; bits are kept (-0.0 stays -0.0).
    Float = 1,
    /// Signed 64-bit.
    Integer = 2,
    /// Unsigned 64-bit.
    Unsigned = 3,
    /// True or false.
    Boolean = 4,
    /// UTF-8 text of at most [`crate::MAX_STRING_LEN_BYTES`] bytes.
    String = 5,
}

impl FieldType {
    /// All types, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Float, Self::Integer, Self::Unsigned, Self::Boolean, Self::String];

    /// The type with that number in a file, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|t| *t as u8 == number)
    }

    /// The word used by line-protocol servers for this type ("float", "integer", ...).
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Integer => "integer",
            Self::Unsigned => "unsigned",
            Self::Boolean => "boolean",
            Self::String => "string",
        }
    }
}

impl fmt::Display for FieldType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value of one field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FieldValue {
    /// See [`FieldType::Boolean`].
    Boolean(bool),
    /// See [`FieldType::Integer`].
    Integer(i64),
    /// See [`FieldType::Unsigned`].
    Unsigned(u64),
    /// See [`FieldType::Float`].
    Float(f64),
    /// See [`FieldType::String`].
    String(Arc<str>),
}

impl FieldValue {
    /// The type this value has by itself, before any widening.
    pub fn field_type(&self) -> FieldType {
        match self {
            Self::Float(_) => FieldType::Float,
            Self::Integer(_) => FieldType::Integer,
            Self::Unsigned(_) => FieldType::Unsigned,
            Self::Boolean(_) => FieldType::Boolean,
            Self::String(_) => FieldType::String,
        }
    }

    /// True if both hold the same type and the same bits (so `-0.0` differs from `0.0`).
    pub fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

/// How a field behaves between two points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum FieldKind {
    /// A quantity that moves smoothly: power, temperature.
    #[default]
    Linear = 0,
    /// A quantity that holds until it changes: price, mode, state.
    Step = 1,
    /// A total that grows and may start again: energy counters.
    Counter = 2,
}

impl FieldKind {
    /// The kind with that number in a file, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Linear, Self::Step, Self::Counter].into_iter().find(|k| *k as u8 == number)
    }
}

/// Unit of a field: `W`, `kWh`, `%`, `C`, `PLN/kWh` ... Empty text is "no unit".
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Unit(Arc<str>);

impl Unit {
    /// Longest unit, in bytes.
    pub const MAX_LEN_BYTES: usize = 64;

    /// Takes a unit's text; none if it is empty, longer than [`Unit::MAX_LEN_BYTES`] or holds a control character.
    pub fn new(text: &str) -> Option<Self> {
        let fits =
            !text.is_empty() && text.len() <= Self::MAX_LEN_BYTES && !text.chars().any(char::is_control);
        fits.then(|| Self(Arc::from(text)))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
