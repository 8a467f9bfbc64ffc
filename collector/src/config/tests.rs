//! Configurations that are read, and those that are refused with the path of the key.

use super::*;

fn parse(json: &str) -> Result<CollectorConfig, serde_json::Error> {
    serde_json::from_str(json)
}

#[test]
fn two_keys_are_enough_and_the_rest_has_defaults() {
    let config = parse(r#"{"devices":[{"id":"roof","host":"10.0.0.9"}]}"#).unwrap();
    config.check().unwrap();
    let device = &config.devices[0];
    assert_eq!((device.port(), device.unit()), (502, 0xF7));
    assert_eq!(device.interval, Interval::from_secs(10));
    assert_eq!(device.blocks(), Family::Et.blocks());
    assert_eq!(config.buffer_points, CollectorConfig::DEFAULT_BUFFER_POINTS);
    assert_eq!(device, &DeviceConfig::new("roof", "10.0.0.9"));
}

#[test]
fn what_is_written_is_read_back_equal() {
    let mut config = CollectorConfig::default();
    let mut device = DeviceConfig::new("roof", "inverter.lan");
    device.blocks = Some(vec![BlockName::Meter, BlockName::Running]);
    device.pause = Interval::from_millis(150);
    config.devices.push(device);
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(parse(&text).unwrap(), config);
    assert_eq!(config.devices[0].blocks(), [BlockName::Running, BlockName::Meter]);
}

#[test]
fn an_error_about_a_secret_does_not_repeat_it() {
    // A password of digits without quotes stood in the message.
    for wrong in ["31415926", "-31415926", "3.1415926", "true", "[31415926]"] {
        let error = serde_json::from_str::<Secret>(wrong).unwrap_err().to_string();
        assert!(error.starts_with("a text is expected") && !error.contains("1415"), "{error}");
    }
    for url in ["https://me:s3cret@host/api/", "https://s3cret@host/", "ftp://host/?key=s3cret", "s3cret"] {
        let config = parse(&format!(r#"{{"feeds":{{"nbp":{{"url":"{url}"}}}}}}"#)).unwrap();
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains("feeds.nbp.url") && !error.contains("s3cret"), "{error}");
    }
}

#[test]
fn blocks_are_called_by_one_name() {
    for block in [Family::Et, Family::Dt].into_iter().flat_map(Family::blocks) {
        assert_eq!(serde_json::to_value(block).unwrap(), block.name());
    }
}

#[test]
fn unknown_keys_and_bad_durations_are_refused() {
    for bad in [
        r#"{"device":[]}"#,
        r#"{"devices":[{"id":"a","host":"h","intervall":"10s"}]}"#,
        r#"{"devices":[{"id":"a","host":"h","interval":"10"}]}"#,
        r#"{"devices":[{"id":"a","host":"h","interval":"ten s"}]}"#,
        r#"{"devices":[{"id":"a","host":"h","interval":"99999999999999999999h"}]}"#,
        r#"{"devices":[{"id":"a","host":"h","family":"es"}]}"#,
        r#"{"devices":[{"host":"h"}]}"#,
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_configuration_that_cannot_run_names_the_key() {
    let check = |change: &dyn Fn(&mut DeviceConfig)| {
        let mut device = DeviceConfig::new("roof", "h");
        change(&mut device);
        let config = CollectorConfig { devices: vec![device], ..CollectorConfig::default() };
        config.check().unwrap_err().to_string()
    };
    assert_eq!(check(&|d| d.host.clear()), "collector.devices[0].host is empty");
    let text = check(&|d| d.interval = Interval::from_millis(500));
    assert_eq!(text, "collector.devices[0].interval: 500ms is outside 1s..10m");
    assert_eq!(check(&|d| d.retries = 99), "collector.devices[0].retries: 99 is outside 0..10");
    // Nothing was asked, and the device was called silent for ever.
    assert_eq!(check(&|d| d.blocks = Some(vec![])), "collector.devices[0].blocks is empty");
    assert!(check(&|d| d.wake = true).contains("udp only"));
    let text = check(&|d| {
        d.family = Family::Dt;
        d.blocks = Some(vec![BlockName::Battery]);
    });
    assert_eq!(text, "collector.devices[0].blocks: family Dt has no block battery");

    let twice = vec![DeviceConfig::new("a", "h"), DeviceConfig::new("a", "i")];
    let config = CollectorConfig { devices: twice, ..CollectorConfig::default() };
    assert_eq!(config.check(), Err(ConfigError::DuplicateId { id: "a".into() }));
    let config = CollectorConfig { buffer_points: 0, ..CollectorConfig::default() };
    assert!(config.check().is_err());
}

#[test]
fn feeds_and_mqtt_are_off_until_named_and_refused_with_their_path() {
    let config = parse("{}").unwrap();
    assert_eq!((config.feeds.pse.as_ref(), config.mqtt.as_ref()), (None, None));
    let config = parse(
        r#"{"feeds":{"pse":{},"entsoe":{"token":"t-1"},"nbp":{},"open_meteo":{"latitude":50,"longitude":20}},
            "mqtt":{"url":"mqtt://b","topics":[{"topic":"z/+/s","measurement":"z","tags":{"id":"{1}"},
                     "fields":[{"field":"p","path":"E.P","unit":"W"}]}]}}"#,
    )
    .unwrap();
    config.check().unwrap();
    assert!(!format!("{config:?}").contains("t-1"));
    assert_eq!(parse(&serde_json::to_string(&config).unwrap()).unwrap(), config);

    let topic = |filter: &str, tag: &str, field: &str| {
        format!(
            r#"{{"mqtt":{{"url":"mqtt://b","topics":[{{"topic":"{filter}","measurement":"m","tags":{{"id":"{tag}"}},"fields":[{field}]}}]}}}}"#
        )
    };
    let plain = r#"{"field":"p"}"#;
    for (given, place) in [
        (r#"{"feeds":{"zone":"Mars/North"}}"#.to_owned(), "collector.feeds.zone: "),
        (r#"{"feeds":{"tries":0}}"#.to_owned(), "collector.feeds.tries: 0 is outside 1..10"),
        (r#"{"feeds":{"pse":{"products":[]}}}"#.to_owned(), "collector.feeds.pse.products: "),
        (r#"{"feeds":{"pse":{"url":"ftp://x"}}}"#.to_owned(), "collector.feeds.pse.url: "),
        (r#"{"feeds":{"entsoe":{"token":"a b"}}}"#.to_owned(), "collector.feeds.entsoe.token: "),
        (
            r#"{"feeds":{"open_meteo":{"latitude":91,"longitude":0}}}"#.to_owned(),
            "collector.feeds.open_meteo.lat",
        ),
        (r#"{"mqtt":{"url":"mqtt://u:p@b","topics":[]}}"#.to_owned(), "collector.mqtt.url: "),
        (topic("a/#/b", "x", plain), "collector.mqtt.topics[0].topic: "),
        (topic("a/+", "{2}", plain), "collector.mqtt.topics[0].tags.id: "),
        (topic("a/#", "{1}", plain), "collector.mqtt.topics[0].tags.id: "),
        (topic("a", "x", r#"{"field":"p","scale":0}"#), "collector.mqtt.topics[0].fields[0].scale: "),
        (
            topic("a", "x", r#"{"field":"p","type":"text","scale":2}"#),
            "collector.mqtt.topics[0].fields[0].scale: ",
        ),
    ] {
        let told = parse(&given).unwrap().check().unwrap_err().to_string();
        assert!(told.starts_with(place), "{told}");
    }
}
