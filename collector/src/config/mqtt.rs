//! What the owner may say about MQTT: one broker, and how its messages become points.
//!
//! Invariant: a [`MqttConfig`] that passed its check has valid topic filters, tags whose segments exist in them, and
//! fields with different names.

use super::{ConfigError, Interval, MINUTE, SECOND, Secret, bad, within};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use wattlog_model::{FieldKind, Unit};

/// The `collector.mqtt:` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// `mqtt://host:1883` or, with TLS, `mqtts://host:8883`. User and password stand in their own keys.
    pub url: String,
    /// Name to log in with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Its password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// Under this name the broker keeps the messages of a client that is away. One name, one client.
    #[serde(default = "client_id")]
    pub client_id: String,
    /// Time between signs of life, 5 s to 1 h.
    #[serde(default = "keep_alive")]
    pub keep_alive: Interval,
    /// Longest wait between two attempts to connect, 1 s to 1 h.
    #[serde(default = "super::default_backoff_max")]
    pub backoff_max: Interval,
    /// Longer messages are acknowledged and counted, not stored; 1 to 1048576 bytes.
    #[serde(default = "max_payload_bytes")]
    pub max_payload_bytes: usize,
    /// What is subscribed to, 1 to 256 entries. Of several that fit a topic the first one counts.
    pub topics: Vec<TopicConfig>,
}

/// Messages of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopicConfig {
    /// Filter, with `+` for one segment and `#` for the rest.
    pub topic: String,
    /// Measurement of the points.
    pub measurement: String,
    /// Tags: fixed text, or `{n}` for the n-th segment of the topic, counted from 0.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Where the message says when it was true; absent: it is the time of arrival, which for one that waited at the broker is
    /// that of its delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeConfig>,
    /// Fields, 1 to 256.
    pub fields: Vec<MqttFieldConfig>,
}

/// Time within a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeConfig {
    /// Path as in [`MqttFieldConfig::path`].
    pub path: String,
    /// How it is written.
    #[serde(default)]
    pub format: TimeFormat,
}

/// How a message writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimeFormat {
    /// `2026-03-29T01:00:00Z`, with an offset: without one it may be two instants, and the message gives no point.
    #[default]
    Rfc3339,
    /// Seconds since 1970, whole or not.
    Unix,
    /// Milliseconds since 1970.
    UnixMs,
}

/// One field of the points of a topic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttFieldConfig {
    /// Name of the field.
    pub field: String,
    /// Keys and list places within the JSON of the message, with points between: `ENERGY.Power`, `phases.0.w`.
    /// Absent: the whole message is the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// What the value is stored as.
    #[serde(default)]
    pub r#type: MqttType,
    /// A float is multiplied with it.
    #[serde(default = "one")]
    pub scale: f64,
    /// Unit of the stored value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How it behaves between two points.
    #[serde(default)]
    pub kind: FieldKind,
}

/// Type of a field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MqttType {
    /// A number, also in quotes.
    #[default]
    Float,
    /// A whole number, also in quotes.
    Integer,
    /// `true`, `on`, `yes`, `online`, `1` and their opposites, in any case.
    Boolean,
    /// Text as it is.
    Text,
}

fn client_id() -> String {
    "wattlog".to_owned()
}

fn keep_alive() -> Interval {
    Interval::from_secs(30)
}

fn max_payload_bytes() -> usize {
    64 * 1024
}

fn one() -> f64 {
    1.0
}

/// Address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BrokerAddress {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) tls: bool,
}

impl MqttConfig {
    /// Host and port; none if the URL is no broker's.
    pub(crate) fn broker(&self) -> Option<BrokerAddress> {
        let url = reqwest::Url::parse(&self.url).ok()?;
        let (tls, usual_port) = match url.scheme() {
            "mqtt" => (false, 1883),
            "mqtts" => (true, 8883),
            _ => return None,
        };
        let plain = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|_| plain)?.trim_matches(['[', ']']).to_owned();
        Some(BrokerAddress { host, port: url.port().unwrap_or(usual_port), tls })
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let at = |key: &str| format!(".mqtt.{key}");
        if self.broker().is_none() {
            // The URL is not repeated: a password may stand in it.
            let text = "write mqtt://host:port or mqtts://host:port, user and password in their own keys";
            return Err(bad(at("url"), text.into()));
        }
        if !(1..=128).contains(&self.client_id.len()) {
            return Err(bad(at("client_id"), "1 to 128 bytes".into()));
        }
        if self.password.is_some() && self.user.is_none() {
            return Err(bad(at("user"), "a password needs a user".into()));
        }
        within(at("keep_alive"), self.keep_alive, 5 * SECOND..=60 * MINUTE, "5s..1h")?;
        within(at("backoff_max"), self.backoff_max, SECOND..=60 * MINUTE, "1s..1h")?;
        if !(1..=1024 * 1024).contains(&self.max_payload_bytes) {
            return Err(bad(at("max_payload_bytes"), "1 to 1048576".into()));
        }
        if !(1..=256).contains(&self.topics.len()) {
            return Err(bad(at("topics"), "1 to 256 entries".into()));
        }
        let topics = self.topics.iter().enumerate();
        topics.into_iter().try_for_each(|(index, topic)| topic.check(&format!(".mqtt.topics[{index}]")))
    }
}

impl TopicConfig {
    fn check(&self, place: &str) -> Result<(), ConfigError> {
        let at = |key: &str| format!("{place}.{key}");
        if !rumqttc::valid_filter(&self.topic) || self.topic.contains('\0') {
            return Err(bad(
                at("topic"),
                "no valid filter: + and # stand for whole segments, # at the end".into(),
            ));
        }
        if self.measurement.trim().is_empty() {
            return Err(bad(at("measurement"), "is empty".into()));
        }
        let segments: Vec<&str> = self.topic.split('/').collect();
        for (key, value) in &self.tags {
            if key.is_empty() || value.is_empty() {
                return Err(bad(at("tags"), "a tag has a key and a value".into()));
            }
            let Some(number) = segment_number(value) else { continue };
            let open = segments.last() == Some(&"#") && number >= segments.len() - 1;
            if number >= segments.len() || open {
                let text = format!("the topic has no certain segment {number}, counted from 0");
                return Err(bad(at(&format!("tags.{key}")), text));
            }
        }
        if !(1..=256).contains(&self.fields.len()) {
            return Err(bad(at("fields"), "1 to 256 entries".into()));
        }
        let mut names = HashSet::new();
        for (index, field) in self.fields.iter().enumerate() {
            let at = |key: &str| format!("{place}.fields[{index}].{key}");
            if field.field.is_empty() || !names.insert(&field.field) {
                return Err(bad(at("field"), "is empty or stands twice".into()));
            }
            if !field.scale.is_finite() || field.scale == 0.0 {
                return Err(bad(at("scale"), "a number other than 0".into()));
            }
            if field.scale != 1.0 && field.r#type != MqttType::Float {
                return Err(bad(at("scale"), "only a float is scaled".into()));
            }
            if field.unit.as_deref().is_some_and(|unit| Unit::new(unit).is_none()) {
                return Err(bad(at("unit"), format!("1 to {} bytes of text", Unit::MAX_LEN_BYTES)));
            }
        }
        Ok(())
    }
}

/// The n of `{n}`.
pub(crate) fn segment_number(text: &str) -> Option<usize> {
    text.strip_prefix('{')?.strip_suffix('}')?.parse().ok()
}
