//! A charging session with the names of the optimiser's plan: as it is told, as it is stored, as it is shown.
//!
//! Invariants
//! 1. The optimiser's session `ID` is `charging/ID` in the ledger, told here or imported, so that it is one record.
//! 2. What is shown can be told again: nothing changes then but the origin, and nothing is lost.
//! 3. The plan's own fields are replaced as a whole; any other that is not told stays as it was.

use crate::error::ApiError;
use crate::state::ServerState;
use crate::wire::time::{Fold, parse_local_time, rfc3339};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use wattlog_ledger::Stored;
use wattlog_ledger::schema::{Session, SessionKind, SessionOrigin, SessionSource, SessionStatus};
use wattlog_model::Timestamp;

/// What an import puts before the optimiser's name of a charging session.
const CHARGING: &str = "charging/";

/// The name that a session of that name has in the ledger.
pub(super) fn stored_name(told: &str) -> String {
    if told.starts_with(CHARGING) { told.to_owned() } else { format!("{CHARGING}{told}") }
}

fn shown_name(session: &Session) -> &str {
    let name = session.session_id.as_str();
    match session.origin {
        SessionOrigin::Detected => name,
        SessionOrigin::Reported | SessionOrigin::Imported => name.strip_prefix(CHARGING).unwrap_or(name),
    }
}

/// A session as the plan writes it; what neither it nor our answer names goes to the details.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Told {
    session_id: Option<String>,
    start_time: String,
    end_time: Option<String>,
    battery_soc_start: Option<f64>,
    battery_soc_end: Option<f64>,
    energy_charged_kwh: Option<f64>,
    energy_kwh: Option<f64>,
    average_price_pln: Option<f64>,
    total_cost_pln: Option<f64>,
    status: Option<String>,
    // What our answer has beside them.
    device_id: Option<String>,
    source: Option<String>,
    currency: Option<String>,
    #[serde(default)]
    energy_grid_kwh: Optional,
    #[serde(default)]
    energy_pv_kwh: Optional,
    #[serde(default)]
    savings_pln: Optional,
    details: Option<Map<String, Value>>,
    // The record's own, given by the ledger.
    #[serde(default, rename = "id")]
    _id: IgnoredAny,
    #[serde(default, rename = "origin")]
    _origin: IgnoredAny,
    #[serde(default, rename = "created_at")]
    _created_at: IgnoredAny,
    #[serde(default, rename = "updated_at")]
    _updated_at: IgnoredAny,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A number that may be left out, which is not the same as telling that it is not known.
#[derive(Debug, Clone, Copy, Default)]
enum Optional {
    #[default]
    Absent,
    Told(Option<f64>),
}

impl<'de> Deserialize<'de> for Optional {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Told)
    }
}

impl Optional {
    fn or(self, old: Option<f64>) -> Option<f64> {
        match self {
            Self::Absent => old,
            Self::Told(number) => number,
        }
    }
}

/// What was told, with its words and times read.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) session_id: String,
    start: Timestamp,
    end: Option<Timestamp>,
    status: SessionStatus,
    source: Option<SessionSource>,
    told: Told,
}

impl Told {
    /// # Errors
    /// 400: a time or a word that cannot be read.
    pub(super) fn read(self, state: &ServerState) -> Result<Read, ApiError> {
        let zone = &state.shared.home_zone;
        let time = |text: &str, fold| parse_local_time(text, zone, fold).map_err(ApiError::bad_request);
        let start = time(&self.start_time, Fold::Earlier)?;
        let end = self.end_time.as_deref().map(|text| time(text, Fold::Later)).transpose()?;
        let word = |text: &str, known: &str| ApiError::bad_request(format!("{text:?} is none of {known}"));
        let status = match self.status.as_deref() {
            None if end.is_some() => SessionStatus::Completed,
            None => SessionStatus::Active,
            Some(text) => {
                let known = SessionStatus::ALL.iter().copied().find(|status| status.as_str() == text);
                known.ok_or_else(|| word(text, "planned, active, completed, cancelled, failed"))?
            }
        };
        let source = match self.source.as_deref() {
            None => None,
            // The optimiser's word.
            Some("hybrid") => Some(SessionSource::Mixed),
            Some(text) => {
                let known = SessionSource::ALL.iter().copied().find(|source| source.as_str() == text);
                Some(known.ok_or_else(|| word(text, "grid, pv, mixed, hybrid, unknown"))?)
            }
        };
        let device = self.device_id.as_deref().unwrap_or("charging");
        let own = || format!("{device} {}", rfc3339(start.0));
        let session_id = self.session_id.clone().unwrap_or_else(own);
        // With what stands before it in the ledger it would be a name.
        if session_id.strip_prefix(CHARGING).unwrap_or(&session_id).trim().is_empty() {
            return Err(ApiError::bad_request("session_id: a name is expected; leave it out to get one"));
        }
        Ok(Read { session_id, start, end, status, source, told: self })
    }
}

impl Read {
    /// The record, in the place of `old` if there is one.
    pub(super) fn record(&self, old: Option<&Session>) -> Session {
        let Self { session_id, start, end, status, source, told } = self;
        let told = told.clone();
        let before = old.and_then(|old| old.details.as_object()).cloned().unwrap_or_default();
        let details = before.into_iter().chain(told.details.into_iter().flatten()).chain(told.others);
        Session {
            session_id: old.map_or_else(|| stored_name(session_id), |old| old.session_id.clone()),
            kind: SessionKind::Charging,
            start: *start,
            end: *end,
            source: source.or(old.map(|old| old.source)).unwrap_or(SessionSource::Unknown),
            status: *status,
            origin: SessionOrigin::Reported,
            priority: old.and_then(|old| old.priority),
            target_energy_kwh: old.and_then(|old| old.target_energy_kwh),
            target_soc: old.and_then(|old| old.target_soc),
            battery_soc_start: told.battery_soc_start,
            battery_soc_end: told.battery_soc_end,
            energy_kwh: told.energy_charged_kwh.or(told.energy_kwh),
            energy_grid_kwh: told.energy_grid_kwh.or(old.and_then(|old| old.energy_grid_kwh)),
            energy_pv_kwh: told.energy_pv_kwh.or(old.and_then(|old| old.energy_pv_kwh)),
            peak_power_w: old.and_then(|old| old.peak_power_w),
            average_price: told.average_price_pln,
            total_cost: told.total_cost_pln,
            revenue: old.and_then(|old| old.revenue),
            savings: told.savings_pln.or(old.and_then(|old| old.savings)),
            currency: told
                .currency
                .or_else(|| old.map(|old| old.currency.clone()))
                .unwrap_or_else(|| "PLN".to_owned()),
            coverage: old.and_then(|old| old.coverage),
            details: Value::Object(details.collect()),
            device_id: told.device_id.or_else(|| old.and_then(|old| old.device_id.clone())),
        }
    }
}

/// With the names of the plan, and what it did not have.
pub(super) fn shown(stored: &Stored<Session>) -> Value {
    let session = &stored.record;
    json!({
        "id": stored.id, "session_id": shown_name(session),
        "start_time": rfc3339(session.start.0), "end_time": session.end.map(|end| rfc3339(end.0)),
        "battery_soc_start": session.battery_soc_start, "battery_soc_end": session.battery_soc_end,
        "energy_charged_kwh": session.energy_kwh, "average_price_pln": session.average_price,
        "total_cost_pln": session.total_cost, "status": session.status,
        "created_at": rfc3339(stored.created.at.0), "updated_at": rfc3339(stored.updated.at.0),
        "device_id": session.device_id, "source": session.source, "origin": session.origin,
        "energy_grid_kwh": session.energy_grid_kwh, "energy_pv_kwh": session.energy_pv_kwh,
        "savings_pln": session.savings, "currency": session.currency, "details": session.details,
    })
}
