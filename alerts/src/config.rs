//! The `alerts:` section: how often rules are evaluated, how long delivery is tried, and the channels by name.
//!
//! Promise: a configuration that passed [`AlertsConfig::check`] can be run as it stands. Unknown keys are refused, times carry
//! their unit, and every message begins with the path of its key. The rules themselves are records of the ledger.
//!
//! Not here: where the file lies, and how `${NAME}` and `file:PATH` become secrets (the root crate).

use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use wattlog_model::Interval;

/// The whole section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertsConfig {
    /// Whether rules are evaluated and deliveries sent.
    pub enabled: bool,
    /// Time from one evaluation to the next, 1 s to 1 h.
    pub interval: Interval,
    /// How far back values are read after a stop, 1 min to 744 h; what is older is not evaluated any more.
    pub look_back: Interval,
    /// How long events and their deliveries are kept after the end of their episode, 35d to 36500d.
    pub keep: Interval,
    /// How a delivery is tried again.
    pub retry: RetryConfig,
    /// Where prices are found.
    pub prices: PricesConfig,
    /// By the name that rules call them by; at most [`AlertsConfig::MAX_CHANNELS`].
    pub channels: BTreeMap<String, ChannelConfig>,
}

impl AlertsConfig {
    /// Most channels: each has a task of its own.
    pub const MAX_CHANNELS: usize = 32;
}

impl Default for AlertsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Interval::from_secs(10),
            look_back: Interval::from_secs(24 * 3600),
            keep: Interval::from_secs(730 * 24 * 3600),
            retry: RetryConfig::default(),
            prices: PricesConfig::default(),
            channels: BTreeMap::new(),
        }
    }
}

/// When a delivery is tried again: after `first`, then twice as long each time, at most `longest`, each a tenth more or less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Before the second attempt, 10 ms to 1 h.
    pub first: Interval,
    /// Longest wait, also of a channel that asks for one (`Retry-After`); at least `first`, at most 24 h.
    pub longest: Interval,
    /// Attempts in all, 1 to 1000; then it is given up.
    pub attempts: u32,
}

impl Default for RetryConfig {
    /// 30 attempts in some 20 hours.
    fn default() -> Self {
        Self { first: Interval::from_secs(5), longest: Interval::from_secs(3600), attempts: 30 }
    }
}

/// Fields that hold prices, in PLN/kWh, each value from its instant on, where they are not those of the tariffs and of the market.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PricesConfig {
    /// What a kWh from the grid costs.
    pub total: Option<PriceField>,
    /// The market price alone.
    pub market: Option<PriceField>,
    /// What a kWh to the grid earns.
    pub export: Option<PriceField>,
}

/// One field of one series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceField {
    /// Measurement.
    pub measurement: String,
    /// Tags that the series has.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Field.
    pub field: String,
}

/// A channel: exactly one of its kinds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChannelConfig {
    /// A request with JSON to an address.
    pub webhook: Option<WebhookConfig>,
    /// A message to a broker.
    pub mqtt: Option<MqttConfig>,
    /// A mail over SMTP.
    pub email: Option<EmailConfig>,
    /// A push message by ntfy.
    pub ntfy: Option<NtfyConfig>,
    /// How long one attempt may take, 100 ms to 1 min.
    pub timeout: Interval,
}

impl Default for ChannelConfig {
    fn default() -> Self {
        Self { webhook: None, mqtt: None, email: None, ntfy: None, timeout: Interval::from_secs(10) }
    }
}

/// `POST` with JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// `http://` or `https://`; often a key by itself.
    pub url: Secret,
    /// Further headers.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Key of the signature in `X-Wattlog-Signature` (HMAC-SHA256 of the body); none: unsigned.
    #[serde(default)]
    pub signing_key: Option<Secret>,
}

/// Publish with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MqttConfig {
    /// Name or address of the broker.
    pub host: String,
    /// Port; 1883, with TLS 8883, if absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: bool,
    /// Certificates of the authorities to trust, as PEM (`file:PATH`); none: those of the system.
    #[serde(default)]
    pub ca: Option<String>,
    /// Who connects; none: nobody in particular.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Topic of the messages, without wildcards.
    #[serde(default = "default_topic")]
    pub topic: String,
}

fn default_topic() -> String {
    "wattlog/alerts".to_owned()
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// By STARTTLS; a server that does not offer it is refused.
    #[default]
    StartTls,
    /// From the first byte.
    Tls,
    /// Not at all; only for a server on this machine or in the house.
    None,
}

/// SMTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// Name of the server.
    pub host: String,
    /// Port; 587, with `tls` 465, without encryption 25, if absent.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection is encrypted.
    #[serde(default)]
    pub tls: MailTls,
    /// Who logs in; none: nobody.
    #[serde(default)]
    pub username: Option<String>,
    /// Its password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// Sender, as in `wattlog@example.org`.
    pub from: String,
    /// Recipients, 1 to 20.
    pub to: Vec<String>,
}

/// ntfy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NtfyConfig {
    /// Address of the server.
    #[serde(default = "default_ntfy")]
    pub url: String,
    /// Topic; who knows it can read it.
    pub topic: Secret,
    /// Access token, where the server wants one.
    #[serde(default)]
    pub token: Option<Secret>,
}

fn default_ntfy() -> String {
    "https://ntfy.sh".to_owned()
}

/// A setting that cannot be run; the message begins with the path of its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct InvalidConfig {
    /// As in `alerts.channels.phone.ntfy.topic`.
    pub path: String,
    /// What would be right.
    pub problem: String,
}

pub(crate) fn invalid(path: impl Into<String>, problem: impl Into<String>) -> InvalidConfig {
    InvalidConfig { path: path.into(), problem: problem.into() }
}

impl AlertsConfig {
    /// What types cannot say. Also makes each notifier once, so that an address or a header that cannot be used is told now.
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn check(&self) -> Result<(), InvalidConfig> {
        let between = |path: &str, span: Interval, least_ms: u64, most_s: u64, says: &str| {
            let ms = span.0.as_millis();
            let fits = (u128::from(least_ms)..=u128::from(most_s) * 1000).contains(&ms);
            if fits { Ok(()) } else { Err(invalid(path, says)) }
        };
        between("alerts.interval", self.interval, 1000, 3600, "1s to 1h")?;
        between("alerts.look_back", self.look_back, 60_000, 744 * 3600, "1m to 744h")?;
        // Longer than any look-back: a key that is forgotten must not be found again.
        between("alerts.keep", self.keep, 35 * 86_400_000, 36_500 * 86_400, "35d to 36500d")?;
        between("alerts.retry.first", self.retry.first, 10, 3600, "10ms to 1h")?;
        let longest = self.retry.longest;
        between("alerts.retry.longest", longest, 10, 24 * 3600, "at least `first`, at most 24h")?;
        if longest < self.retry.first {
            return Err(invalid("alerts.retry.longest", "at least `first`, at most 24h"));
        }
        if !(1..=1000).contains(&self.retry.attempts) {
            return Err(invalid("alerts.retry.attempts", "1 to 1000"));
        }
        let prices =
            [("total", &self.prices.total), ("market", &self.prices.market), ("export", &self.prices.export)];
        for (figure, price) in prices {
            if price.as_ref().is_some_and(|price| price.measurement.is_empty() || price.field.is_empty()) {
                return Err(invalid(
                    format!("alerts.prices.{figure}"),
                    "measurement and field must be named",
                ));
            }
        }
        if self.channels.len() > Self::MAX_CHANNELS {
            return Err(invalid("alerts.channels", format!("at most {}", Self::MAX_CHANNELS)));
        }
        for (name, channel) in &self.channels {
            let path = format!("alerts.channels.{name}");
            if name.trim().is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
                return Err(invalid(
                    "alerts.channels",
                    "a name has 1 to 255 bytes and no control characters",
                ));
            }
            let timeout = format!("{path}.timeout");
            between(&timeout, channel.timeout, 100, 60, "100ms to 1m")?;
            crate::notifier::build(&path, channel)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(tree: Value) -> Result<AlertsConfig, String> {
        let config: AlertsConfig = serde_json::from_value(tree).map_err(|error| error.to_string())?;
        config.check().map_err(|error| error.to_string()).map(|()| config)
    }

    fn channel(kind: &str, settings: Value) -> Value {
        json!({"channels": {"x": {kind: settings}}})
    }

    #[test]
    fn each_kind_is_read_and_shows_no_secret() {
        let config = read(json!({"channels": {
            "hook": {"webhook": {"url": "https://h/s3cret", "headers": {"X-Key": "s3cret"}, "signing_key": "s3cret"}, "timeout": "3s"},
            "broker": {"mqtt": {"host": "b", "username": "u", "password": "s3cret"}},
            "mail": {"email": {"host": "m", "from": "a@b.org", "to": ["c@d.org"], "username": "u", "password": "s3cret"}},
            "phone": {"ntfy": {"topic": "s3cret", "token": "s3cret"}},
        }}))
        .unwrap();
        let shown = format!("{config:?}{}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert_eq!(config.channels["hook"].timeout, Interval::from_secs(3));
        assert_eq!(config.channels["mail"].timeout, Interval::from_secs(10));
    }

    #[test]
    fn what_cannot_be_run_is_refused_with_its_path() {
        for (tree, message) in [
            (json!({"interval": "1ms"}), "alerts.interval: 1s to 1h"),
            (json!({"interval": "10"}), "is no duration"),
            (json!({"look_back": "0s"}), "alerts.look_back: 1m to 744h"),
            (json!({"keep": "34d"}), "alerts.keep: 35d to 36500d"),
            (json!({"keep": "36501d"}), "alerts.keep: 35d to 36500d"),
            (json!({"retry": {"first": "1h", "longest": "1m"}}), "alerts.retry.longest: at least `first`"),
            (json!({"retry": {"attempts": 0}}), "alerts.retry.attempts: 1 to 1000"),
            (json!({"chanels": {}}), "unknown field `chanels`"),
            (json!({"channels": {"x": {}}}), "alerts.channels.x: name one of webhook, mqtt, email, ntfy"),
            (
                json!({"channels": {"x": {"ntfy": {"topic": "t"}, "mqtt": {"host": "h"}}}}),
                "alerts.channels.x: name one of",
            ),
            (
                channel("webhook", json!({"url": "ftp://x"})),
                "alerts.channels.x.webhook.url: an address that begins",
            ),
            (channel("webhook", json!({"url": "http://"})), "alerts.channels.x.webhook.url:"),
            (
                channel("webhook", json!({"url": "http://h", "headers": {"a b": "c"}})),
                "alerts.channels.x.webhook.headers:",
            ),
            (channel("mqtt", json!({"host": "h", "topic": "a/#"})), "alerts.channels.x.mqtt.topic:"),
            (channel("mqtt", json!({"host": ""})), "alerts.channels.x.mqtt.host:"),
            (channel("mqtt", json!({"host": "h", "tls": true, "ca": "none"})), "alerts.channels.x.mqtt.ca:"),
            (
                channel("email", json!({"host": "h", "from": "nobody", "to": ["a@b.c"]})),
                "alerts.channels.x.email.from:",
            ),
            (
                channel("email", json!({"host": "h", "from": "a@b.c", "to": []})),
                "alerts.channels.x.email.to:",
            ),
            (
                channel("email", json!({"host": "h", "from": "a@b.c", "to": ["x"]})),
                "alerts.channels.x.email.to:",
            ),
            (channel("ntfy", json!({"topic": "a/b"})), "alerts.channels.x.ntfy.topic:"),
            (channel("ntfy", json!({"topic": "t", "url": "ntfy.sh"})), "alerts.channels.x.ntfy.url:"),
            (channel("ntfy", json!({"topic": "t", "token": "a\nb"})), "alerts.channels.x.ntfy.token:"),
        ] {
            let error = read(tree.clone()).unwrap_err();
            assert!(error.contains(message), "{tree}: {error}");
        }
    }
}
