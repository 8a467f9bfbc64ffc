//! The kinds of records, one file each; the tables are in `src/sql/`.
//!
//! Numbers carry their unit in the name; money is in the `currency` beside it; instants are RFC 3339 in JSON and nanoseconds in
//! the tables. `None` is unknown, never zero.

mod alert;
mod alert_keep;
mod alert_step;
mod annotation;
mod configuration;
mod decision;
mod device;
mod import_run;
mod preference;
mod report;
mod session;
mod tariff;
mod user;

pub use alert::{
    AlertDelivery, AlertEvent, AlertRule, AlertSilence, AlertState, DeliveryStatus, EventState, Severity,
};
pub use alert_keep::{AlertBacklog, AlertsForgotten};
pub use alert_step::{AlertFinding, AlertStep, AlertStepDone};
pub use annotation::Annotation;
pub use configuration::{Configuration, Difference};
pub use decision::{Decision, DecisionKind, DecisionOrigin};
pub use device::{Device, DeviceKind};
pub use import_run::{ImportRun, ImportStatus};
pub use preference::Preference;
pub use report::{Report, ReportOrigin};
pub use session::{Session, SessionKind, SessionOrigin, SessionSource, SessionStatus};
pub use tariff::{Direction, Tariff};
pub use user::{Role, Token, User};

use crate::record::Invalid;
use serde_json::Value;
use wattlog_model::Timestamp;

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn empty_list() -> Value {
    Value::Array(Vec::new())
}

/// ISO 4217 of the country that the optimiser is from.
fn usual_currency() -> String {
    "PLN".to_owned()
}

fn check_name(field: &'static str, text: &str) -> Result<(), Invalid> {
    const MAX_BYTES: usize = 255;
    if text.trim().is_empty() {
        return Err(Invalid::new(field, "a name is expected"));
    }
    if text.len() > MAX_BYTES {
        return Err(Invalid::new(field, format!("{} bytes, at most {MAX_BYTES}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::new(field, "a name has no control characters"));
    }
    Ok(())
}

/// The tag `device_id`, where there is one.
fn check_device(device_id: Option<&str>) -> Result<(), Invalid> {
    device_id.map_or(Ok(()), |device| check_name("device_id", device))
}

fn check_currency(text: &str) -> Result<(), Invalid> {
    if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        return Ok(());
    }
    Err(Invalid::new("currency", "three capital letters are expected, as in PLN (ISO 4217)"))
}

fn check_at_least_zero(fields: &[(&'static str, Option<f64>)]) -> Result<(), Invalid> {
    match fields.iter().find(|(_, value)| value.is_some_and(|value| value < 0.0)) {
        Some((field, _)) => Err(Invalid::new(field, "at least 0")),
        None => Ok(()),
    }
}

fn check_between(fields: &[(&'static str, Option<f64>)], least: f64, most: f64) -> Result<(), Invalid> {
    let outside = |value: &Option<f64>| value.is_some_and(|value| !(least..=most).contains(&value));
    match fields.iter().find(|(_, value)| outside(value)) {
        Some((field, _)) => Err(Invalid::new(field, format!("{least} to {most}"))),
        None => Ok(()),
    }
}

/// An end may be at its start, as in a moment that is marked.
fn check_end(field: &'static str, start: Timestamp, end: Option<Timestamp>) -> Result<(), Invalid> {
    if end.is_some_and(|end| end < start) {
        return Err(Invalid::new(field, "the end is before the start"));
    }
    Ok(())
}

fn check_after(field: &'static str, start: Timestamp, end: Option<Timestamp>) -> Result<(), Invalid> {
    if end.is_some_and(|end| end <= start) {
        return Err(Invalid::new(field, "the end is not after the start"));
    }
    Ok(())
}

fn check_object(field: &'static str, value: &Value) -> Result<(), Invalid> {
    if value.is_object() { Ok(()) } else { Err(Invalid::new(field, "a JSON object is expected")) }
}
