//! Bodies of answers in the shapes of the services, from the model alone.

use super::market::Market;
use crate::config::PseProduct;
use crate::feeds::local_day;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::collections::HashMap;
use wattlog_model::Timestamp;

/// What is published when.
#[derive(Debug, Clone, Default)]
pub(super) struct Calendar {
    /// How often a day was published anew.
    pub(super) revisions: HashMap<Date, u32>,
    /// Days that come so many hours late.
    pub(super) late_hours: HashMap<Date, i64>,
}

impl Calendar {
    pub(super) fn revision(&self, day: Date) -> u32 {
        self.revisions.get(&day).copied().unwrap_or(0)
    }

    /// On the day before at 13:10 local, or late.
    fn published(&self, day: Date, zone: &TimeZone) -> Timestamp {
        let eve = day.yesterday().unwrap_or(day).to_datetime(Time::constant(13, 10, 0, 0));
        let at = zone.to_timestamp(eve).map_or(0, |at| at.as_nanosecond() as i64);
        Timestamp(at + self.late_hours.get(&day).copied().unwrap_or(0) * HOUR_NS)
    }

    pub(super) fn is_published(&self, day: Date, zone: &TimeZone, now: Timestamp) -> bool {
        now >= self.published(day, zone)
    }
}

/// Rows of PSE for whole days; the caller pages them.
pub(super) fn pse(
    market: &Market,
    calendar: &Calendar,
    product: PseProduct,
    days: &[Date],
    now: Timestamp,
    has_old_rows: bool,
) -> Vec<Value> {
    let mut rows = Vec::new();
    let length_ns = if product == PseProduct::Pdgsz { HOUR_NS } else { QUARTER_NS };
    for day in days.iter().filter(|day| calendar.is_published(**day, market.zone(), now)) {
        let revision = calendar.revision(*day);
        let published = Timestamp(calendar.published(*day, market.zone()).0 + i64::from(revision) * HOUR_NS);
        for (place, start) in market.periods(*day, length_ns).into_iter().enumerate() {
            rows.push(pse_row(market, product, *day, start, revision, published, now));
            if has_old_rows && place % 10 == 3 {
                let earlier = Timestamp(published.0 - HOUR_NS);
                rows.push(pse_row(market, product, *day, start, revision + 50, earlier, now));
            }
        }
    }
    rows
}

fn pse_row(
    market: &Market,
    product: PseProduct,
    day: Date,
    start: Timestamp,
    revision: u32,
    published: Timestamp,
    now: Timestamp,
) -> Value {
    let seconds = if product == PseProduct::RcePln { "%Y-%m-%d %H:%M:%S" } else { "%Y-%m-%d %H:%M" };
    let utc = |at: Timestamp, form: &str| civil(at, &TimeZone::UTC).strftime(form).to_string();
    // The letter of the second pass stands where local labels do in the repeated hour; nobody is to read it.
    let local = format!("{day} 02a:15:00");
    let published = utc(published, "%Y-%m-%d %H:%M:%S.123456");
    if product == PseProduct::Pdgsz {
        return json!({
            "dtime": local, "dtime_utc": utc(start, seconds), "is_active": true,
            "usage_fcst": (market.usage(start) + i64::from(revision)) % 4, "business_date": day.to_string(),
            "publication_ts_utc": published,
        });
    }
    let end = Timestamp(start.0 + QUARTER_NS);
    let price = market.pln_per_mwh(product, start, revision);
    let mut row = json!({
        "dtime": local, "dtime_utc": utc(end, seconds), "business_date": day.to_string(),
        "publication_ts_utc": published,
    });
    match product {
        PseProduct::EnergyPrices => {
            // Settled a day and a half later.
            let is_settled = now.0 - start.0 > 36 * HOUR_NS;
            row["csdac_pln"] = json!(price);
            row["cen_cost"] = if is_settled { json!(price + 1.5) } else { Value::Null };
        }
        PseProduct::RcePln => row["rce_pln"] = json!(price),
        _ => row["csdac_pln"] = json!(price),
    }
    row
}

/// A document of ENTSO-E; points that equal the one before are left out.
pub(super) fn entsoe(market: &Market, calendar: &Calendar, days: &[Date], now: Timestamp) -> String {
    let periods: String = days
        .iter()
        .filter(|day| calendar.is_published(**day, market.zone(), now))
        .map(|day| {
            let (mut points, mut before) = (String::new(), None);
            for (place, start) in market.periods(*day, QUARTER_NS).into_iter().enumerate() {
                let price = market.eur_per_mwh(start);
                if before != Some(price) {
                    let position = place + 1;
                    points += &format!(
                        "<Point><position>{position}</position><price.amount>{price}</price.amount></Point>"
                    );
                }
                before = Some(price);
            }
            let bounds = local_day(*day, market.zone());
            let minute = |at| civil(at, &TimeZone::UTC).strftime("%Y-%m-%dT%H:%MZ").to_string();
            let (start, end) = (minute(bounds.start), minute(bounds.end));
            let hours: String = (1..=(bounds.end.0 - bounds.start.0) / HOUR_NS)
                .map(|n| format!("<Point><position>{n}</position><price.amount>1.00</price.amount></Point>"))
                .collect();
            // The hourly auction of the same day is told too and must not win.
            series(&start, &end, "PT60M", &hours) + &series(&start, &end, "PT15M", &points)
        })
        .collect();
    if periods.is_empty() {
        return "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Acknowledgement_MarketDocument xmlns=\"urn:iec62325.351:tc57wg16:451-1:acknowledgementdocument:7:0\"><mRID>1</mRID><Reason><code>999</code><text>No matching data found for Data item ENERGY_PRICES</text></Reason></Acknowledgement_MarketDocument>".to_owned();
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Publication_MarketDocument xmlns=\"urn:iec62325.351:tc57wg16:451-3:publicationdocument:7:3\"><mRID>1</mRID><type>A44</type>{periods}</Publication_MarketDocument>"
    )
}

fn series(start: &str, end: &str, resolution: &str, points: &str) -> String {
    format!(
        "<TimeSeries><mRID>1</mRID><businessType>A62</businessType><currency_Unit.name>EUR</currency_Unit.name>\
         <price_Measure_Unit.name>MWH</price_Measure_Unit.name><curveType>A03</curveType><Period><timeInterval>\
         <start>{start}</start><end>{end}</end></timeInterval><resolution>{resolution}</resolution>{points}</Period></TimeSeries>"
    )
}

pub(super) fn energy_charts(market: &Market, calendar: &Calendar, days: &[Date], now: Timestamp) -> Value {
    let told = days.iter().filter(|day| calendar.is_published(**day, market.zone(), now));
    let starts: Vec<Timestamp> = told.flat_map(|day| market.periods(*day, QUARTER_NS)).collect();
    let seconds: Vec<i64> = starts.iter().map(|start| start.0 / 1_000_000_000).collect();
    let prices: Vec<f64> = starts.iter().map(|start| market.eur_per_mwh(*start)).collect();
    json!({ "license_info": "simulated", "unix_seconds": seconds, "price": prices, "unit": "EUR / MWh" })
}

/// None: no table in the range.
pub(super) fn nbp(market: &Market, days: &[Date], now: Timestamp) -> Option<Value> {
    let local = civil(now, market.zone());
    let last = if local.time() >= Time::constant(12, 0, 0, 0) {
        local.date()
    } else {
        local.date().yesterday().ok()?
    };
    let told = days.iter().filter(|day| **day <= last).filter_map(|day| Some((*day, market.rate(*day)?)));
    let rates: Vec<Value> = told
        .map(|(day, rate)| json!({ "no": "1/A/NBP", "effectiveDate": day.to_string(), "mid": rate }))
        .collect();
    (!rates.is_empty()).then(|| json!({ "table": "A", "currency": "euro", "code": "EUR", "rates": rates }))
}

pub(super) fn open_meteo(market: &Market, now: Timestamp, past_days: i64, forecast_days: i64) -> Value {
    let midnight = now.0.div_euclid(Timestamp::DAY_NS) * Timestamp::DAY_NS;
    let (start, end) =
        (midnight - past_days * Timestamp::DAY_NS, midnight + forecast_days * Timestamp::DAY_NS);
    let hours: Vec<i64> = (start..end).step_by(HOUR_NS as usize).collect();
    let sky: Vec<_> = hours.iter().map(|hour| market.weather(Timestamp(*hour))).collect();
    json!({
        "latitude": 50.1, "longitude": 19.7, "utc_offset_seconds": 0, "timezone": "GMT", "elevation": 262.0,
        "hourly_units": {
            "time": "unixtime", "temperature_2m": "°C", "relative_humidity_2m": "%", "cloud_cover": "%",
            "wind_speed_10m": "m/s", "precipitation": "mm", "shortwave_radiation": "W/m²",
        },
        "hourly": {
            "time": hours.iter().map(|hour| hour / 1_000_000_000).collect::<Vec<_>>(),
            "temperature_2m": sky.iter().map(|sky| sky.temperature_c).collect::<Vec<_>>(),
            "relative_humidity_2m": sky.iter().map(|sky| sky.humidity_pct).collect::<Vec<_>>(),
            "cloud_cover": sky.iter().map(|sky| sky.cloud_cover_pct).collect::<Vec<_>>(),
            "wind_speed_10m": sky.iter().map(|sky| sky.wind_m_s).collect::<Vec<_>>(),
            "precipitation": sky.iter().map(|sky| sky.precipitation_mm).collect::<Vec<_>>(),
            "shortwave_radiation": sky.iter().map(|sky| sky.irradiance_w_m2).collect::<Vec<_>>(),
        },
    })
}

/// The observation of the last hour that is older than 40 minutes.
pub(super) fn imgw(market: &Market, now: Timestamp) -> Value {
    let hour = Timestamp((now.0 - 40 * 60_000_000_000).div_euclid(HOUR_NS) * HOUR_NS);
    let (sky, at) = (market.weather(hour), civil(hour, &TimeZone::UTC));
    json!({
        "id_stacji": "12566", "stacja": "Kraków", "data_pomiaru": at.date().to_string(),
        "godzina_pomiaru": at.hour().to_string(), "temperatura": sky.temperature_c.to_string(),
        "predkosc_wiatru": sky.wind_m_s.to_string(), "kierunek_wiatru": "40",
        "wilgotnosc_wzgledna": sky.humidity_pct.to_string(), "suma_opadu": sky.precipitation_mm.to_string(),
        "cisnienie": null,
    })
}

fn civil(at: Timestamp, zone: &TimeZone) -> DateTime {
    jiff::Timestamp::from_nanosecond(at.0.into()).map_or(DateTime::MIN, |at| zone.to_datetime(at))
}

const QUARTER_NS: i64 = 900_000_000_000;
const HOUR_NS: i64 = 3_600_000_000_000;
