//! Passwords and tokens of a configuration: readable by the code that needs them, never by a log.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A text that does not show itself when it is printed for debugging, nor in the error about one that is no text. Written
/// to a configuration it is the plain text.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text itself; not for messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The usual error repeats the value.
        let read = String::deserialize(deserializer);
        read.map(Self).map_err(|_| serde::de::Error::custom("a text is expected; write digits in quotes"))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}
