//! From a message to a point: pure, by the configuration alone.
//!
//! Invariants
//! 1. Any topic and any bytes give a point or an [`Unusable`]; memory is bounded by the length of the message.
//! 2. A value that is missing, null or of another kind is no field, never 0; a message without a field is no point.
//! 3. A retained message has a point only if it tells its own time: it may be years old.

use crate::config::{
    MqttConfig, MqttFieldConfig, MqttType, TimeConfig, TimeFormat, TopicConfig, segment_number,
};
use serde_json::Value;
use std::sync::Arc;
use wattlog_model::{FieldMeaning, FieldValue, MAX_STRING_LEN_BYTES, Point, TagSet, Timestamp, Unit};

/// Reads messages as one configuration has it.
#[derive(Debug, Clone)]
pub struct Mapping {
    topics: Vec<TopicConfig>,
    max_payload_bytes: usize,
}

/// A message as it came.
#[derive(Debug, Clone, Copy)]
pub struct Message<'m> {
    /// Its topic.
    pub topic: &'m str,
    /// Its bytes.
    pub payload: &'m [u8],
    /// The broker kept it from before the subscription.
    pub is_retained: bool,
    /// When it came.
    pub arrived: Timestamp,
}

/// Why a message gives no point.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// No entry of the configuration fits its topic.
    #[error("no entry of collector.mqtt.topics fits the topic")]
    NoTopic,
    /// It was kept by the broker and does not tell its time.
    #[error("it is retained and does not tell its time")]
    Retained,
    /// It is longer than allowed.
    #[error("{len} bytes are more than collector.mqtt.max_payload_bytes")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It holds no value that was asked for.
    #[error("{0}")]
    NoValue(String),
}

impl Mapping {
    /// Takes over a configuration that has passed its check.
    pub fn new(config: &MqttConfig) -> Self {
        Self { topics: config.topics.clone(), max_payload_bytes: config.max_payload_bytes }
    }

    /// Units and kinds by measurement.
    pub fn meanings(&self) -> Vec<(&str, Vec<FieldMeaning>)> {
        let meaning = |field: &MqttFieldConfig| FieldMeaning {
            field: field.field.clone(),
            unit: field.unit.as_deref().and_then(Unit::new),
            kind: field.kind,
        };
        let of = |topic: &TopicConfig| topic.fields.iter().map(meaning).collect();
        self.topics.iter().map(|topic| (topic.measurement.as_str(), of(topic))).collect()
    }

    /// Place of the entry that counts for a topic.
    pub(crate) fn entry(&self, topic: &str) -> Option<usize> {
        self.topics.iter().position(|entry| rumqttc::matches(topic, &entry.topic))
    }

    /// The point of a message.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn point(&self, message: Message<'_>) -> Result<Point, Unusable> {
        let entry =
            self.entry(message.topic).and_then(|entry| self.topics.get(entry)).ok_or(Unusable::NoTopic)?;
        if message.is_retained && entry.time.is_none() {
            return Err(Unusable::Retained);
        }
        if message.payload.len() > self.max_payload_bytes {
            return Err(Unusable::TooLong { len: message.payload.len() });
        }
        let text = std::str::from_utf8(message.payload)
            .map_err(|_| Unusable::NoValue("the message is no UTF-8 text".to_owned()))?;
        let needs_json = entry.time.is_some() || entry.fields.iter().any(|field| field.path.is_some());
        let tree: Option<Value> = if needs_json {
            let read = serde_json::from_str(text);
            Some(read.map_err(|error| Unusable::NoValue(format!("the message is no JSON: {error}")))?)
        } else {
            None
        };
        let time = match (&entry.time, &tree) {
            (Some(time), Some(tree)) => told_time(time, tree)?,
            _ => message.arrived,
        };
        let (mut fields, mut problem) = (Vec::new(), None);
        for field in &entry.fields {
            let value = match (&field.path, &tree) {
                (Some(path), Some(tree)) => at(tree, path).cloned(),
                _ => Some(Value::String(text.trim().to_owned())),
            };
            match value.filter(|value| !value.is_null()).map(|value| read(field, &value)) {
                Some(Ok(value)) => fields.push((field.field.clone(), value)),
                Some(Err(reason)) => problem = Some(format!("{}: {reason}", field.field)),
                None => {}
            }
        }
        if fields.is_empty() {
            return Err(Unusable::NoValue(
                problem.unwrap_or_else(|| "none of the fields is in it".to_owned()),
            ));
        }
        let tags = tags(entry, message.topic)?;
        Ok(Point { measurement: entry.measurement.clone(), tags, time: Some(time), fields })
    }
}

fn tags(entry: &TopicConfig, topic: &str) -> Result<TagSet, Unusable> {
    let segments: Vec<&str> = topic.split('/').collect();
    let pairs = entry.tags.iter().map(|(key, value)| {
        let value =
            segment_number(value).map_or(value.as_str(), |n| segments.get(n).copied().unwrap_or_default());
        (key.as_str(), value)
    });
    TagSet::new(pairs).map_err(|error| Unusable::NoValue(format!("the topic gives no tags: {error}")))
}

/// The value at a path of keys and places in lists. A key that holds points itself is found as a whole first.
fn at<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    if let Some(value) = tree.get(path) {
        return Some(value);
    }
    path.split('.').try_fold(tree, |value, step| match value {
        Value::Array(items) => items.get(step.parse::<usize>().ok()?),
        _ => value.get(step),
    })
}

fn told_time(time: &TimeConfig, tree: &Value) -> Result<Timestamp, Unusable> {
    let wrong = || Unusable::NoValue(format!("{}: no time as configured", time.path));
    let value = at(tree, &time.path).ok_or_else(wrong)?;
    let units = |unit_ns: i64| {
        let count = || match value {
            Value::String(text) => text.trim().parse::<f64>().ok(),
            value => value.as_f64(),
        };
        match value.as_i64() {
            Some(whole) => Timestamp::from_units(whole, unit_ns).ok(),
            // Microseconds are as much as a double keeps of this century.
            None => {
                let micros = (count()? * (unit_ns as f64 / 1e3)).round();
                (micros.abs() < 9e15).then(|| Timestamp::from_units(micros as i64, 1_000).ok())?
            }
        }
    };
    let told = match time.format {
        TimeFormat::Unix => units(1_000_000_000),
        TimeFormat::UnixMs => units(1_000_000),
        TimeFormat::Rfc3339 => {
            let instant = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok());
            instant.and_then(crate::feeds::rows::timestamp)
        }
    };
    let lacks_offset = |text: &str| text.trim().parse::<jiff::civil::DateTime>().is_ok();
    told.ok_or_else(|| match value.as_str() {
        Some(text) if time.format == TimeFormat::Rfc3339 && lacks_offset(text) => Unusable::NoValue(format!(
            "{}: the time has no offset, so it is not known which instant it is; without `time` that of arrival counts",
            time.path
        )),
        _ => wrong(),
    })
}

fn read(field: &MqttFieldConfig, value: &Value) -> Result<FieldValue, String> {
    let text = match value {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        _ => return Err("an object or a list is no value".to_owned()),
    };
    let shown = || text.chars().take(40).collect::<String>();
    match field.r#type {
        MqttType::Float => {
            let number = text.parse::<f64>().ok().map(|number| number * field.scale);
            let number = number.filter(|number| number.is_finite());
            number.map(FieldValue::Float).ok_or_else(|| format!("{:?} is no number", shown()))
        }
        MqttType::Integer => {
            let whole = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
            let read = text.parse::<i64>().ok();
            let read = read.or_else(|| text.parse::<f64>().ok().filter(|n| whole(*n)).map(|n| n as i64));
            read.map(FieldValue::Integer).ok_or_else(|| format!("{:?} is no whole number", shown()))
        }
        MqttType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "online" | "1" => Ok(FieldValue::Boolean(true)),
            "false" | "off" | "no" | "offline" | "0" => Ok(FieldValue::Boolean(false)),
            _ => Err(format!("{:?} is neither on nor off", shown())),
        },
        MqttType::Text if text.len() > MAX_STRING_LEN_BYTES => {
            Err(format!("the text is longer than {MAX_STRING_LEN_BYTES} bytes"))
        }
        MqttType::Text => Ok(FieldValue::String(Arc::from(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(topics: &str) -> Mapping {
        let config: MqttConfig = serde_json::from_str(&format!(
            r#"{{"url":"mqtt://b","max_payload_bytes":100,"topics":[{topics}]}}"#
        ))
        .unwrap();
        Mapping::new(&config)
    }

    fn point(mapping: &Mapping, topic: &str, payload: &str, is_retained: bool) -> Result<Point, Unusable> {
        mapping.point(Message { topic, payload: payload.as_bytes(), is_retained, arrived: Timestamp(5) })
    }

    #[test]
    fn json_becomes_fields_and_segments_become_tags() {
        let mapping = mapping(
            r#"{"topic":"tele/+/SENSOR","measurement":"plugs","tags":{"device_id":"{1}","room":"hall"},
                "time":{"path":"t","format":"unix"},
                "fields":[{"field":"power","path":"E.P","scale":0.001},{"field":"on","path":"E.S","type":"boolean"},
                          {"field":"count","path":"list.1","type":"integer"},{"field":"mode","path":"m","type":"text"}]}"#,
        );
        let payload = r#"{"t":1.5,"E":{"P":"2500","S":"ON"},"list":[1,2.0],"m":null}"#;
        let told = point(&mapping, "tele/p1/SENSOR", payload, true).unwrap();
        assert_eq!((told.measurement.as_str(), told.time), ("plugs", Some(Timestamp(1_500_000_000))));
        assert_eq!(told.tags, TagSet::new([("device_id", "p1"), ("room", "hall")]).unwrap());
        let fields = [
            ("power".to_owned(), FieldValue::Float(2.5)),
            ("on".to_owned(), FieldValue::Boolean(true)),
            ("count".to_owned(), FieldValue::Integer(2)),
        ];
        assert_eq!(told.fields, fields);
        let none = |payload: &str| point(&mapping, "tele/p1/SENSOR", payload, false).unwrap_err();
        for bad in [
            "",
            "{",
            r#"{"t":"x"}"#,
            r#"{"t":1}"#,
            r#"{"t":1,"E":{"P":"NaN"}}"#,
            r#"{"t":1e300,"E":{"P":1}}"#,
        ] {
            assert!(matches!(none(bad), Unusable::NoValue(_)), "{bad}");
        }
        assert_eq!(none(&" ".repeat(101)), Unusable::TooLong { len: 101 });
        assert_eq!(point(&mapping, "tele/p1/STATE", payload, false), Err(Unusable::NoTopic));
        assert!(matches!(point(&mapping, "tele//SENSOR", payload, false), Err(Unusable::NoValue(_))));
    }

    #[test]
    fn plain_values_have_the_time_of_arrival_and_retained_ones_none() {
        let mapping = mapping(r#"{"topic":"home/#","measurement":"m","fields":[{"field":"value"}]}"#);
        let told = point(&mapping, "home/a/b", " -12.5\n", false).unwrap();
        assert_eq!((told.time, told.fields[0].1.clone()), (Some(Timestamp(5)), FieldValue::Float(-12.5)));
        assert_eq!(point(&mapping, "home/a/b", "1", true), Err(Unusable::Retained));
    }

    #[test]
    fn a_time_without_an_offset_is_refused_with_the_reason() {
        // What a Tasmota plug sends unless it is told otherwise.
        let mapping = mapping(
            r#"{"topic":"t","measurement":"m","time":{"path":"Time"},"fields":[{"field":"p","path":"P"}]}"#,
        );
        let told = |time: &str| point(&mapping, "t", &format!(r#"{{"Time":"{time}","P":1}}"#), false);
        let refused = told("2026-03-29T03:00:00").unwrap_err().to_string();
        assert!(refused.starts_with("Time: the time has no offset"), "{refused}");
        assert_eq!(
            told("2026-03-29T03:00:00+02:00").unwrap().time,
            told("2026-03-29T01:00:00Z").unwrap().time
        );
        assert!(told("soon").unwrap_err().to_string().starts_with("Time: no time"));
    }
}
