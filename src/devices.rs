//! What the server tells of devices, feeds and the broker, from the collector that runs at the moment.

use parking_lot::RwLock;
use std::collections::HashMap;
use std::time::Duration;
use wattlog_collector::status::{DeviceStatus as Polled, FeedStatus as Fetched, MqttStatus, StatusHandle};
use wattlog_server::{BrokerStatus, DeviceStatus, DeviceStatusProvider, FeedStatus, FeedStatusProvider};

/// The collector's status. After a reload it is another collector's, and what the earlier ones counted goes on.
#[derive(Debug, Default)]
pub(crate) struct Devices(RwLock<Watched>);

#[derive(Debug, Default)]
struct Watched {
    running: Option<StatusHandle>,
    /// The last word of collectors that were replaced, by device.
    before: HashMap<String, Polled>,
    /// Likewise, by feed.
    feeds_before: HashMap<String, Fetched>,
    mqtt_before: Option<MqttStatus>,
}

impl Devices {
    /// Watches this one from now on; the one before has stopped.
    pub(crate) fn watch(&self, status: StatusHandle) {
        let mut watched = self.0.write();
        let Some(stopped) = watched.running.replace(status) else { return };
        let stopped = stopped.snapshot();
        for mut device in stopped.devices {
            if let Some(before) = watched.before.remove(&device.id) {
                go_on(&mut device, &before);
            }
            watched.before.insert(device.id.clone(), device);
        }
        for mut feed in stopped.feeds {
            if let Some(before) = watched.feeds_before.remove(&feed.name) {
                go_on_fetching(&mut feed, &before);
            }
            watched.feeds_before.insert(feed.name.clone(), feed);
        }
        if let Some(mut mqtt) = stopped.mqtt {
            if let Some(before) = &watched.mqtt_before {
                go_on_hearing(&mut mqtt, before);
            }
            watched.mqtt_before = Some(mqtt);
        }
    }
}

impl DeviceStatusProvider for Devices {
    fn devices(&self) -> Vec<DeviceStatus> {
        let watched = self.0.read();
        let Some(status) = &watched.running else { return Vec::new() };
        let mut devices = status.snapshot().devices;
        for device in &mut devices {
            if let Some(before) = watched.before.get(&device.id) {
                go_on(device, before);
            }
        }
        devices.into_iter().map(told).collect()
    }

    fn own_interval(&self) -> Option<Duration> {
        self.0.read().running.as_ref()?.own_interval()
    }
}

impl FeedStatusProvider for Devices {
    fn feeds(&self) -> Vec<FeedStatus> {
        let watched = self.0.read();
        let Some(status) = &watched.running else { return Vec::new() };
        let mut feeds = status.snapshot().feeds;
        for feed in &mut feeds {
            if let Some(before) = watched.feeds_before.get(&feed.name) {
                go_on_fetching(feed, before);
            }
        }
        feeds.into_iter().map(told_feed).collect()
    }

    fn broker(&self) -> Option<BrokerStatus> {
        let watched = self.0.read();
        let mut mqtt = watched.running.as_ref()?.snapshot().mqtt?;
        if let Some(before) = &watched.mqtt_before {
            go_on_hearing(&mut mqtt, before);
        }
        Some(told_broker(mqtt))
    }
}

/// Counts from where `before` ended.
fn go_on(device: &mut Polled, before: &Polled) {
    device.points += before.points;
    device.dropped += before.dropped;
    device.rejected += before.rejected;
    device.left_out.no_data += before.left_out.no_data;
    let (errors, earlier) = (&mut device.errors, &before.errors);
    errors.connect += earlier.connect;
    errors.lost += earlier.lost;
    errors.silence += earlier.silence;
    errors.refused += earlier.refused;
    errors.malformed += earlier.malformed;
    device.last_attempt = device.last_attempt.or(before.last_attempt);
    device.last_point = device.last_point.or(before.last_point);
}

/// As [`go_on`]. What failed in a row goes on until the new collector has had a success of its own.
fn go_on_fetching(feed: &mut Fetched, before: &Fetched) {
    feed.looks += before.looks;
    feed.requests += before.requests;
    feed.failed_looks += before.failed_looks;
    feed.stored += before.stored;
    feed.rejected += before.rejected;
    feed.refused_rows += before.refused_rows;
    feed.refused_values += before.refused_values;
    if feed.last_success.is_none() {
        feed.consecutive_failures += before.consecutive_failures;
        feed.last_error = feed.last_error.take().or_else(|| before.last_error.clone());
    }
    feed.last_attempt = feed.last_attempt.or(before.last_attempt);
    feed.last_success = feed.last_success.or(before.last_success);
}

/// As [`go_on`].
fn go_on_hearing(mqtt: &mut MqttStatus, before: &MqttStatus) {
    mqtt.connections += before.connections;
    mqtt.messages += before.messages;
    mqtt.stored += before.stored;
    mqtt.rejected += before.rejected;
    mqtt.acknowledged += before.acknowledged;
    mqtt.repeated += before.repeated;
    mqtt.retained += before.retained;
    mqtt.too_long += before.too_long;
    mqtt.unusable += before.unusable;
    mqtt.last_message = mqtt.last_message.or(before.last_message);
}

fn told_feed(feed: Fetched) -> FeedStatus {
    FeedStatus {
        name: feed.name,
        kind: feed.kind,
        last_attempt: feed.last_attempt,
        last_success: feed.last_success,
        next_attempt: feed.next_due,
        looks: feed.looks,
        requests: feed.requests,
        failed_looks: feed.failed_looks,
        failures_in_a_row: feed.consecutive_failures,
        stored: feed.stored,
        rejected: feed.rejected,
        refused_rows: feed.refused_rows,
        refused_values: feed.refused_values,
        last_error: feed.last_error,
        note: feed.note,
    }
}

fn told_broker(mqtt: MqttStatus) -> BrokerStatus {
    let refused = vec![
        ("retained", mqtt.retained),
        ("too_long", mqtt.too_long),
        ("unusable", mqtt.unusable),
        ("rejected", mqtt.rejected),
        ("repeated", mqtt.repeated),
    ];
    BrokerStatus {
        address: mqtt.address,
        topics: mqtt.topics,
        is_connected: mqtt.is_connected,
        connections: mqtt.connections,
        messages: mqtt.messages,
        last_message: mqtt.last_message,
        acknowledged: mqtt.acknowledged,
        stored: mqtt.stored,
        refused,
        last_error: mqtt.last_error,
        last_unusable: mqtt.last_unusable,
    }
}

/// A success is a point, here as for the reader of the API: an inverter that answers "no data" all night has none.
fn told(device: Polled) -> DeviceStatus {
    let errors = device.errors;
    let by_kind = [
        ("connect", errors.connect),
        ("lost", errors.lost),
        ("silence", errors.silence),
        ("refused", errors.refused),
        ("malformed", errors.malformed),
        // Not the device's fault, but its points.
        ("rejected", device.rejected),
    ];
    DeviceStatus {
        id: device.id,
        vendor: device.vendor.to_owned(),
        transport: format!("{:?}", device.transport).to_lowercase(),
        address: device.address,
        interval_ms: device.interval_ms,
        rated_power_w: device.info.rated_power_w,
        last_attempt: device.last_attempt,
        last_success: device.last_point,
        last_error: device.last_error,
        polls_ok: device.points,
        errors: by_kind.into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        sentinels: device.left_out.no_data,
        dropped_points: device.dropped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wattlog_collector::config::DeviceConfig;
    use wattlog_collector::{Collector, CollectorConfig};
    use wattlog_model::Timestamp;

    fn started() -> StatusHandle {
        let config =
            CollectorConfig { devices: vec![DeviceConfig::new("roof", "h")], ..CollectorConfig::default() };
        Collector::new(config).unwrap().status()
    }

    #[test]
    fn a_reload_does_not_forget_what_was_dropped() {
        let devices = Devices::default();
        let mut stopped = started().snapshot().devices.remove(0);
        (stopped.points, stopped.dropped, stopped.errors.silence) = (5, 2, 1);
        stopped.last_point = Some(Timestamp(7));
        devices.watch(started());
        devices.0.write().before.insert("roof".into(), stopped);
        devices.watch(started());
        let told = devices.devices().remove(0);
        assert_eq!((told.polls_ok, told.dropped_points, told.last_success), (5, 2, Some(Timestamp(7))));
        assert!(told.errors.contains(&("silence".to_owned(), 1)));
        assert_eq!(devices.own_interval(), Some(Duration::from_secs(60)), "as configured by default");
    }

    #[test]
    fn a_reload_does_not_forget_what_feeds_and_broker_told() {
        let feed = |looks, failures, success: Option<i64>| Fetched {
            name: "nbp".into(),
            kind: "rates",
            looks,
            stored: looks,
            consecutive_failures: failures,
            last_error: (failures > 0).then(|| "no answer".to_owned()),
            last_success: success.map(Timestamp),
            ..Fetched::default()
        };
        let mut fresh = feed(1, 0, None);
        go_on_fetching(&mut fresh, &feed(4, 3, Some(7)));
        let fresh = told_feed(fresh);
        assert_eq!((fresh.looks, fresh.stored, fresh.failures_in_a_row), (5, 5, 3));
        assert_eq!(
            (fresh.last_success, fresh.last_error.as_deref()),
            (Some(Timestamp(7)), Some("no answer"))
        );
        let mut well = feed(1, 0, Some(9));
        go_on_fetching(&mut well, &feed(4, 3, Some(7)));
        assert_eq!(
            (well.consecutive_failures, well.last_error, well.last_success),
            (0, None, Some(Timestamp(9)))
        );

        let mut mqtt = MqttStatus { messages: 2, unusable: 1, ..MqttStatus::default() };
        go_on_hearing(&mut mqtt, &MqttStatus { messages: 5, retained: 4, ..MqttStatus::default() });
        let broker = told_broker(mqtt);
        assert_eq!(broker.messages, 7);
        assert!(broker.refused.contains(&("unusable", 1)) && broker.refused.contains(&("retained", 4)));
    }

    #[test]
    fn each_device_tells_its_own_counts_and_not_the_cycle_that_runs() {
        let mut polled = started().snapshot().devices.remove(0);
        (polled.cycles, polled.answered_cycles, polled.failed_cycles) = (9, 6, 2);
        (polled.points, polled.dropped, polled.rejected) = (5, 2, 1);
        (polled.last_attempt, polled.last_success) = (Some(Timestamp(9)), Some(Timestamp(8)));
        polled.last_point = Some(Timestamp(7));
        let told = told(polled);
        assert_eq!((told.polls_ok, told.dropped_points), (5, 2));
        assert_eq!((told.last_attempt, told.last_success), (Some(Timestamp(9)), Some(Timestamp(7))));
        assert!(told.errors.contains(&("rejected".to_owned(), 1)));
    }
}
