//! What must not be seen: passwords, tokens, addresses that are keys.
//!
//! Promise: neither `{:?}`, nor serde, nor an error of a notifier shows it; [`Secret::reveal`] is called where it is sent.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// A text that is hidden wherever it is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// What stands in its place.
const HIDDEN: &str = "***";

impl Secret {
    /// Hides `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // What is no text is told without its value.
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("a text is expected"))
    }
}

/// `text` without any of `secrets`, without control characters, and not longer than a line of a log may be.
pub(crate) fn shown(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
        text = text.replace(secret, HIDDEN);
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_SHOWN_CHARS).collect()
}

/// Longest reason of a failure, in characters.
const MAX_SHOWN_CHARS: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_seen_nowhere() {
        let secret = Secret::new("hunter22");
        assert_eq!(format!("{secret:?}"), HIDDEN);
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(shown("535 bad hunter22\r\n", &["hunter22", ""]), "535 bad ***  ");
        assert_eq!(shown(&"x".repeat(1000), &[]).len(), MAX_SHOWN_CHARS);
        let wrong = serde_json::from_str::<Secret>("12345678").unwrap_err().to_string();
        assert!(!wrong.contains("1234"), "{wrong}");
    }
}
