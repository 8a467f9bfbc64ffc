//! What the collector knows of itself, for people and probes: a snapshot that others may read at any time.

use crate::config::{BlockName, DeviceConfig, Family, Transport};
use crate::goodwe::{DeviceInfo, LeftOut};
use crate::modbus::ReadError;
use parking_lot::Mutex;
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::{Point, Timestamp};

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CollectorStatus {
    /// One entry per configured device, in the order of the configuration.
    pub devices: Vec<DeviceStatus>,
    /// Points on their way to the store.
    pub buffer: BufferStatus,
    /// One entry per feed, rates first.
    pub feeds: Vec<FeedStatus>,
    /// The broker's messages, if one is configured.
    pub mqtt: Option<MqttStatus>,
}

/// Whether a device answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Not asked yet.
    Starting,
    /// The last cycle brought data.
    Online,
    /// The last cycle failed; it is tried again for ever.
    Silent,
    /// It answered the last cycle with refusals alone; it is tried again for ever.
    Refusing,
}

impl DeviceState {
    /// True if it was asked and gave nothing.
    pub fn is_failing(self) -> bool {
        matches!(self, Self::Silent | Self::Refusing)
    }
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DeviceStatus {
    /// The `device_id` of its points.
    pub id: String,
    /// The `location` of its points.
    pub location: String,
    /// The `data_source` of its points.
    pub vendor: &'static str,
    /// Register layout.
    pub family: Family,
    /// Way to it.
    pub transport: Transport,
    /// Host and port as configured.
    pub address: String,
    /// Whether it answers.
    pub state: DeviceState,
    /// Time between cycles.
    pub interval_ms: u64,
    /// When the last cycle began.
    pub last_attempt: Option<Timestamp>,
    /// Time of the last cycle in which it answered.
    pub last_success: Option<Timestamp>,
    /// Time of the last point it gave; older than `last_success` while it answers without data, as at night.
    pub last_point: Option<Timestamp>,
    /// Cycles begun.
    pub cycles: u64,
    /// Cycles in which it answered; the one that runs counts neither as such nor as failed.
    pub answered_cycles: u64,
    /// Cycles in which it gave nothing.
    pub failed_cycles: u64,
    /// Those of them since it answered last.
    pub consecutive_failures: u64,
    /// Points given to the buffer.
    pub points: u64,
    /// Those of them that were dropped because the store refused for too long.
    pub dropped: u64,
    /// Those of them that the store rejected for good.
    pub rejected: u64,
    /// How long the last cycle with an answer took.
    pub cycle_ms: Option<u64>,
    /// Failed reads by reason.
    pub errors: ErrorCounts,
    /// The last of them, for people; none after a cycle without one.
    pub last_error: Option<String>,
    /// Values left out, by reason.
    pub left_out: LeftOut,
    /// Blocks the device refused; asked for again after an hour.
    pub refused_blocks: Vec<BlockName>,
    /// Who it says it is.
    pub info: DeviceInfo,
}

impl DeviceStatus {
    fn new(config: &DeviceConfig) -> Self {
        Self {
            id: config.id.clone(),
            location: config.location.clone(),
            vendor: config.vendor.name(),
            family: config.family,
            transport: config.transport,
            address: format!("{}:{}", config.host, config.port()),
            state: DeviceState::Starting,
            interval_ms: u64::try_from(config.interval.0.as_millis()).unwrap_or(u64::MAX),
            last_attempt: None,
            last_success: None,
            last_point: None,
            cycles: 0,
            answered_cycles: 0,
            failed_cycles: 0,
            consecutive_failures: 0,
            points: 0,
            dropped: 0,
            rejected: 0,
            cycle_ms: None,
            errors: ErrorCounts::default(),
            last_error: None,
            left_out: LeftOut::default(),
            refused_blocks: Vec::new(),
            info: DeviceInfo::default(),
        }
    }

    /// True if a point came within the last three intervals before `now`.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        let limit_ns = i128::from(self.interval_ms) * 3_000_000;
        self.last_point.is_some_and(|last| i128::from(now.0) - i128::from(last.0) <= limit_ns)
    }
}

/// Failed reads by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ErrorCounts {
    /// No connection.
    pub connect: u64,
    /// The connection broke.
    pub lost: u64,
    /// No answer in time.
    pub silence: u64,
    /// The device refused.
    pub refused: u64,
    /// The answer was no valid one.
    pub malformed: u64,
}

impl ErrorCounts {
    pub(crate) fn count(&mut self, error: &ReadError) {
        let counter = match error {
            ReadError::Connect(_) => &mut self.connect,
            ReadError::Lost(_) => &mut self.lost,
            ReadError::Silence => &mut self.silence,
            ReadError::Refused(_) => &mut self.refused,
            ReadError::Malformed(_) => &mut self.malformed,
        };
        *counter += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.lost + self.silence + self.refused + self.malformed
    }
}

/// Points between devices and store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BufferStatus {
    /// Waiting now.
    pub waiting: usize,
    /// At most so many wait.
    pub capacity: usize,
    /// Stored until now.
    pub stored: u64,
    /// Dropped because the store refused for too long: oldest first, and those that were left at the stop.
    pub dropped: u64,
    /// Rejected by the store for good.
    pub rejected: u64,
    /// Calls that the store refused.
    pub refusals: u64,
}

/// One feed of prices, rates or weather.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FeedStatus {
    /// As in `pse/rce-pln`.
    pub name: String,
    /// `prices`, `rates` or `weather`.
    pub kind: &'static str,
    /// When it was asked last.
    pub last_attempt: Option<Timestamp>,
    /// When it gave an answer that could be used and stored last, also one without news.
    pub last_success: Option<Timestamp>,
    /// Why the last look failed; none after one that did not. Without secrets.
    pub last_error: Option<String>,
    /// When it is asked next.
    pub next_due: Option<Timestamp>,
    /// Looks begun, each of one or more requests.
    pub looks: u64,
    /// Requests sent.
    pub requests: u64,
    /// Looks that brought nothing.
    pub failed_looks: u64,
    /// Those of them since the last success.
    pub consecutive_failures: u64,
    /// Points stored: periods, rates or hours, republished ones anew.
    pub stored: u64,
    /// Points that the store rejected for good.
    pub rejected: u64,
    /// Rows of answers that could not be used.
    pub refused_rows: u64,
    /// Values that could not be used, of rows that were stored without them.
    pub refused_values: u64,
    /// What is to be known of the values, as the age of a rate of exchange.
    pub note: Option<String>,
}

/// The messages of a broker.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MqttStatus {
    /// Host and port as configured.
    pub address: String,
    /// What is subscribed to.
    pub topics: Vec<String>,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Connections made.
    pub connections: u64,
    /// Why the last one ended or could not be made; none while there is one.
    pub last_error: Option<String>,
    /// When the last message came.
    pub last_message: Option<Timestamp>,
    /// Messages that came, repeated ones too.
    pub messages: u64,
    /// Points stored.
    pub stored: u64,
    /// Points that the store rejected for good.
    pub rejected: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages delivered again that were stored before.
    pub repeated: u64,
    /// Messages left out because the broker kept them from before and they do not tell their time.
    pub retained: u64,
    /// Messages left out because they were too long.
    pub too_long: u64,
    /// Messages that gave no value.
    pub unusable: u64,
    /// What was wrong with the last of them.
    pub last_unusable: Option<String>,
}

/// Reads the collector's status; clone freely.
#[derive(Debug, Clone)]
pub struct StatusHandle {
    devices: Arc<Vec<Mutex<DeviceStatus>>>,
    buffer: Arc<Mutex<BufferStatus>>,
    feeds: Arc<Vec<Mutex<FeedStatus>>>,
    mqtt: Option<Arc<Mutex<MqttStatus>>>,
    own_interval: Option<Duration>,
}

impl StatusHandle {
    pub(crate) fn new(devices: &[DeviceConfig], capacity: usize) -> Self {
        let devices = devices.iter().map(|device| Mutex::new(DeviceStatus::new(device))).collect();
        let buffer = BufferStatus { capacity, ..BufferStatus::default() };
        let (devices, buffer) = (Arc::new(devices), Arc::new(Mutex::new(buffer)));
        Self { devices, buffer, feeds: Arc::default(), mqtt: None, own_interval: None }
    }

    /// Name and kind of each feed.
    pub(crate) fn with_feeds<'a>(mut self, feeds: impl Iterator<Item = (&'a str, &'static str)>) -> Self {
        let feed =
            |(name, kind): (&str, _)| FeedStatus { name: name.to_owned(), kind, ..FeedStatus::default() };
        self.feeds = Arc::new(feeds.map(feed).map(Mutex::new).collect());
        self
    }

    pub(crate) fn with_mqtt(mut self, address: String, topics: Vec<String>) -> Self {
        self.mqtt = Some(Arc::new(Mutex::new(MqttStatus { address, topics, ..MqttStatus::default() })));
        self
    }

    pub(crate) fn with_own_figures(mut self, interval: Option<Duration>) -> Self {
        self.own_interval = interval;
        self
    }

    /// Time between two points of `system_metrics`; none if they are switched off.
    pub fn own_interval(&self) -> Option<Duration> {
        self.own_interval
    }

    /// The status now.
    pub fn snapshot(&self) -> CollectorStatus {
        CollectorStatus {
            devices: self.devices.iter().map(|device| device.lock().clone()).collect(),
            buffer: *self.buffer.lock(),
            feeds: self.feeds.iter().map(|feed| feed.lock().clone()).collect(),
            mqtt: self.mqtt.as_ref().map(|mqtt| mqtt.lock().clone()),
        }
    }

    /// The device that gave a point; none for the program's own.
    pub(crate) fn giver_of(&self, point: &Point) -> Option<usize> {
        let id = point.tags.value("device_id")?;
        self.devices.iter().position(|device| device.lock().id == id)
    }

    pub(crate) fn device<T>(&self, index: usize, change: impl FnOnce(&mut DeviceStatus) -> T) -> T {
        change(&mut self.devices[index].lock())
    }

    pub(crate) fn buffer<T>(&self, change: impl FnOnce(&mut BufferStatus) -> T) -> T {
        change(&mut self.buffer.lock())
    }

    pub(crate) fn feed<T>(&self, index: usize, change: impl FnOnce(&mut FeedStatus) -> T) -> T {
        change(&mut self.feeds[index].lock())
    }

    pub(crate) fn mqtt(&self, change: impl FnOnce(&mut MqttStatus)) {
        if let Some(mqtt) = &self.mqtt {
            change(&mut mqtt.lock());
        }
    }
}
