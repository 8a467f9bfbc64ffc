//! What the owner may say about devices: typed, complete, checked before the first socket opens.
//!
//! Promise: a [`CollectorConfig`] that passed [`CollectorConfig::check`] can be run as it stands. Unknown keys are
//! refused, durations carry their unit in the value (`10s`), every key but `id` and `host` has a default.
//! Not here: where the file lies and how environment variables override it (the root crate).

mod feeds;
mod mqtt;
mod secret;
#[cfg(test)]
mod tests;

pub use feeds::{
    EnergyChartsConfig, EntsoeConfig, FeedsConfig, ImgwConfig, NbpConfig, OpenMeteoConfig, PseConfig,
    PseProduct,
};
pub(crate) use mqtt::segment_number;
pub use mqtt::{MqttConfig, MqttFieldConfig, MqttType, TimeConfig, TimeFormat, TopicConfig};
pub use secret::Secret;
pub use wattlog_model::Interval;

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::time::Duration;

/// The `collector:` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CollectorConfig {
    /// Inverters to poll.
    pub devices: Vec<DeviceConfig>,
    /// The program's own measurement of itself and its machine.
    pub system_metrics: SystemMetricsConfig,
    /// Points kept in memory while the store refuses to take them; beyond it the oldest are dropped and counted.
    pub buffer_points: usize,
    /// Price, rate and weather services.
    pub feeds: FeedsConfig,
    /// Messages of a broker.
    pub mqtt: Option<MqttConfig>,
}

impl CollectorConfig {
    /// Points kept while the store refuses, unless configured: five devices at 10 s for more than half an hour.
    pub const DEFAULT_BUFFER_POINTS: usize = 1_000;
}

impl Default for CollectorConfig {
    fn default() -> Self {
        Self {
            devices: Vec::new(),
            system_metrics: SystemMetricsConfig::default(),
            buffer_points: Self::DEFAULT_BUFFER_POINTS,
            feeds: FeedsConfig::default(),
            mqtt: None,
        }
    }
}

/// One inverter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceConfig {
    /// The `device_id` tag of its points; unique.
    pub id: String,
    /// The `location` tag of its points.
    #[serde(default = "default_location")]
    pub location: String,
    /// Who made it; also the `data_source` tag.
    #[serde(default)]
    pub vendor: Vendor,
    /// Which register layout it speaks.
    #[serde(default)]
    pub family: Family,
    /// How it is reached.
    #[serde(default)]
    pub transport: Transport,
    /// Name or address of the inverter or its dongle.
    pub host: String,
    /// Port; the transport's usual one if absent ([`Transport::default_port`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Modbus unit; the family's usual one if absent ([`Family::default_unit`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<u8>,
    /// Time from one cycle to the next, 1 s to 10 min.
    #[serde(default = "default_interval")]
    pub interval: Interval,
    /// How long one answer may take, 100 ms to 1 min.
    #[serde(default = "default_timeout")]
    pub timeout: Interval,
    /// How often a read is tried again in the same cycle after silence or a damaged answer, at most 10.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// Rest between two requests, repeated ones included: fragile dongles need it. `0s` to `10s`.
    #[serde(default)]
    pub pause: Interval,
    /// Longest wait between two attempts to reach a silent device, 1 s to 1 h.
    #[serde(default = "default_backoff_max")]
    pub backoff_max: Interval,
    /// Blocks to read, at least one; all that a device of its size has if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<BlockName>>,
    /// Which of the decoded fields are stored.
    #[serde(default)]
    pub fields: FieldChoice,
    /// UDP only: send the 48899 discovery packet, which wakes V2 dongles, every 10 minutes and before each attempt to
    /// reach a device that fell silent.
    #[serde(default)]
    pub wake: bool,
}

impl DeviceConfig {
    /// A device with every default, reached at `host`.
    pub fn new(id: &str, host: &str) -> Self {
        Self {
            id: id.to_owned(),
            location: default_location(),
            vendor: Vendor::default(),
            family: Family::default(),
            transport: Transport::default(),
            host: host.to_owned(),
            port: None,
            unit: None,
            interval: default_interval(),
            timeout: default_timeout(),
            retries: default_retries(),
            pause: Interval::default(),
            backoff_max: default_backoff_max(),
            blocks: None,
            fields: FieldChoice::default(),
            wake: false,
        }
    }

    /// Port to use.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(self.transport.default_port())
    }

    /// Modbus unit to ask.
    pub fn unit(&self) -> u8 {
        self.unit.unwrap_or(self.family.default_unit())
    }

    /// Blocks to read, in the order of reading.
    pub fn blocks(&self) -> Vec<BlockName> {
        let known = self.family.blocks();
        match &self.blocks {
            None => known.to_vec(),
            Some(wanted) => known.iter().copied().filter(|block| wanted.contains(block)).collect(),
        }
    }
}

/// Maker of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// GoodWe.
    #[default]
    Goodwe,
}

impl Vendor {
    /// The `data_source` tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Goodwe => "goodwe",
        }
    }
}

/// Register layout of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Hybrid inverters with a battery: ET, EH, BT, BH.
    #[default]
    Et,
    /// Grid-only inverters: DT, MS, D-NS, XS, SDT.
    Dt,
}

impl Family {
    /// Modbus unit that devices of this family answer to from the factory.
    pub fn default_unit(self) -> u8 {
        match self {
            Self::Et => 0xF7,
            Self::Dt => 0x7F,
        }
    }

    /// Blocks the family has, in the order of reading.
    pub fn blocks(self) -> &'static [BlockName] {
        use BlockName::{Battery, Battery2, Battery2Power, Meter, Mppt, Running};
        match self {
            Self::Et => &[Running, Battery, Battery2, Battery2Power, Meter, Mppt],
            Self::Dt => &[Running, Meter],
        }
    }
}

/// Way to a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Modbus TCP.
    #[default]
    Tcp,
    /// Modbus RTU frames in UDP datagrams, GoodWe's own habit.
    Udp,
}

impl Transport {
    /// Port that devices use for it.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 502,
            Self::Udp => 8899,
        }
    }
}

/// A block of registers that is read with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockName {
    /// What the inverter is doing now.
    Running,
    /// The battery's own view of itself.
    Battery,
    /// The same of a second battery.
    Battery2,
    /// Voltage, current and power of a second battery.
    Battery2Power,
    /// The meter at the grid.
    Meter,
    /// The trackers of large inverters.
    Mppt,
}

impl BlockName {
    /// The word used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Battery => "battery",
            Self::Battery2 => "battery2",
            Self::Battery2Power => "battery2_power",
            Self::Meter => "meter",
            Self::Mppt => "mppt",
        }
    }
}

/// How much of what was decoded is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldChoice {
    /// Every value the device gave.
    #[default]
    All,
    /// Powers, energies, battery, string and phase values, temperatures, states: what people look at.
    Essential,
}

/// The program's own metrics.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SystemMetricsConfig {
    /// Whether they are stored.
    pub enabled: bool,
    /// Time between two points, 1 s to 10 min.
    pub interval: Interval,
}

impl Default for SystemMetricsConfig {
    fn default() -> Self {
        Self { enabled: true, interval: Interval::from_secs(60) }
    }
}

fn default_location() -> String {
    "home".to_owned()
}

fn default_interval() -> Interval {
    Interval::from_secs(10)
}

fn default_timeout() -> Interval {
    Interval::from_secs(1)
}

fn default_retries() -> u32 {
    3
}

fn default_backoff_max() -> Interval {
    Interval::from_secs(60)
}

/// A configuration that cannot be run, and which key is to be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `id`, `location`, `host` or `blocks` is empty.
    #[error("collector.devices[{index}].{key} is empty")]
    Empty {
        /// Place in the list, from 0.
        index: usize,
        /// Name of the key.
        key: &'static str,
    },
    /// Two devices have the same id.
    #[error("collector.devices: the id {id:?} stands twice")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A number or duration is outside its range.
    #[error("collector{place}: {given} is outside {range}")]
    OutOfRange {
        /// Path of the key below `collector`.
        place: String,
        /// What was given.
        given: String,
        /// What is allowed.
        range: &'static str,
    },
    /// A value that cannot be used.
    #[error("collector{place}: {message}")]
    Unusable {
        /// Path of the key below `collector`.
        place: String,
        /// What is wrong and what to write.
        message: String,
    },
    /// A block that the device's family does not have.
    #[error("collector.devices[{index}].blocks: family {family:?} has no block {block}")]
    NoSuchBlock {
        /// Place in the list, from 0.
        index: usize,
        /// The device's family.
        family: Family,
        /// The word given.
        block: &'static str,
    },
    /// `wake` with a transport that is not UDP.
    #[error("collector.devices[{index}].wake: the wake packet works over transport udp only")]
    WakeNeedsUdp {
        /// Place in the list, from 0.
        index: usize,
    },
}

impl CollectorConfig {
    /// Checks every key.
    ///
    /// # Errors
    /// The first [`ConfigError`] found, in the order of the keys.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut ids = HashSet::new();
        for (index, device) in self.devices.iter().enumerate() {
            for (key, text) in [("id", &device.id), ("location", &device.location), ("host", &device.host)] {
                if text.trim().is_empty() {
                    return Err(ConfigError::Empty { index, key });
                }
            }
            if !ids.insert(&device.id) {
                return Err(ConfigError::DuplicateId { id: device.id.clone() });
            }
            let place = |key: &str| format!(".devices[{index}].{key}");
            within(place("interval"), device.interval, SECOND..=10 * MINUTE, "1s..10m")?;
            within(place("timeout"), device.timeout, SECOND / 10..=MINUTE, "100ms..1m")?;
            within(place("pause"), device.pause, Duration::ZERO..=10 * SECOND, "0s..10s")?;
            within(place("backoff_max"), device.backoff_max, SECOND..=60 * MINUTE, "1s..1h")?;
            if device.retries > 10 {
                let given = device.retries.to_string();
                return Err(ConfigError::OutOfRange { place: place("retries"), given, range: "0..10" });
            }
            if device.blocks.as_ref().is_some_and(Vec::is_empty) {
                return Err(ConfigError::Empty { index, key: "blocks" });
            }
            let known = device.family.blocks();
            if let Some(block) = device.blocks.iter().flatten().find(|block| !known.contains(block)) {
                return Err(ConfigError::NoSuchBlock { index, family: device.family, block: block.name() });
            }
            if device.wake && device.transport != Transport::Udp {
                return Err(ConfigError::WakeNeedsUdp { index });
            }
        }
        within(
            ".system_metrics.interval".into(),
            self.system_metrics.interval,
            SECOND..=10 * MINUTE,
            "1s..10m",
        )?;
        if !(1..=10_000_000).contains(&self.buffer_points) {
            let (place, given) = (".buffer_points".to_owned(), self.buffer_points.to_string());
            return Err(ConfigError::OutOfRange { place, given, range: "1..10000000" });
        }
        self.feeds.check()?;
        self.mqtt.as_ref().map_or(Ok(()), MqttConfig::check)
    }
}

fn within(
    place: String,
    given: Interval,
    range: std::ops::RangeInclusive<Duration>,
    text: &'static str,
) -> Result<(), ConfigError> {
    if range.contains(&given.0) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { place, given: given.to_string(), range: text })
}

fn bad(place: String, message: String) -> ConfigError {
    ConfigError::Unusable { place, message }
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
