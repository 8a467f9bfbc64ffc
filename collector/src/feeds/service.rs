//! The services: what each is asked, how its answer is read, and where its rows go.
//!
//! Prices: measurement `prices`, tags `source`, `product`, `area`. Rates: `exchange_rates`, tags `source`, `pair`.
//! Weather: `weather_data`, tags `source`, `location`, `kind` (`forecast` or `observation`).

use super::agenda::{Ask, Rhythm};
use super::rows::{ParseError, Parsed};
use super::{day, energy_charts, entsoe, nbp, pse, weather};
use crate::config::{FeedsConfig, PseProduct};
use jiff::ToSpan;
use jiff::civil::Time;
use jiff::tz::TimeZone;
use reqwest::Url;
use std::time::Duration;
use wattlog_model::{FieldKind, FieldMeaning, TagSet, Timestamp, Unit};

/// One feed: a service and what is fetched from it.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// As in `pse/rce-pln`.
    pub(crate) name: String,
    pub(crate) measurement: &'static str,
    pub(crate) tags: TagSet,
    base: Url,
    zone: TimeZone,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Pse(PseProduct),
    Entsoe { token: String, area: String },
    EnergyCharts { area: String },
    Nbp,
    OpenMeteo { latitude: f64, longitude: f64, interval: Duration, forecast_days: u8 },
    Imgw { station: String, interval: Duration },
}

impl Service {
    /// All that are configured, rates first; the configuration has passed its check.
    pub(crate) fn all(config: &FeedsConfig) -> Vec<Self> {
        let zone = TimeZone::get(&config.zone).expect("the configuration's check refuses other zones");
        let mut all = Vec::new();
        let mut add = |name: String, measurement, tags: &[(&str, &str)], url: &str, kind| {
            let pairs = tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            if let (Ok(base), Ok(tags)) = (Url::parse(url), TagSet::new(pairs)) {
                all.push(Self { name, measurement, tags, base, zone: zone.clone(), kind });
            }
        };
        if let Some(nbp) = &config.nbp {
            let tags = [("source", "nbp"), ("pair", "EURPLN")];
            add("nbp".to_owned(), "exchange_rates", &tags, &slashed(&nbp.url), Kind::Nbp);
        }
        if let Some(pse) = &config.pse {
            for product in &pse.products {
                let tags = [("source", "pse"), ("product", product.name()), ("area", "PL")];
                let name = format!("pse/{}", product.name());
                add(name, PRICES, &tags, &slashed(&pse.url), Kind::Pse(*product));
            }
        }
        if let Some(entsoe) = &config.entsoe {
            let tags = [("source", "entsoe"), ("product", "day-ahead"), ("area", entsoe.area.as_str())];
            let (token, area) = (entsoe.token.reveal().to_owned(), entsoe.area.clone());
            add("entsoe".to_owned(), PRICES, &tags, &entsoe.url, Kind::Entsoe { token, area });
        }
        if let Some(charts) = &config.energy_charts {
            let tags =
                [("source", "energy-charts"), ("product", "day-ahead"), ("area", charts.area.as_str())];
            let area = charts.area.clone();
            add("energy-charts".to_owned(), PRICES, &tags, &charts.url, Kind::EnergyCharts { area });
        }
        if let Some(meteo) = &config.open_meteo {
            let tags =
                [("source", "open-meteo"), ("location", meteo.location.as_str()), ("kind", "forecast")];
            let kind = Kind::OpenMeteo {
                latitude: meteo.latitude,
                longitude: meteo.longitude,
                interval: meteo.interval.0,
                forecast_days: meteo.forecast_days,
            };
            add("open-meteo".to_owned(), weather::MEASUREMENT, &tags, &meteo.url, kind);
        }
        if let Some(imgw) = &config.imgw {
            let tags = [("source", "imgw"), ("location", imgw.location.as_str()), ("kind", "observation")];
            let kind = Kind::Imgw { station: imgw.station.clone(), interval: imgw.interval.0 };
            add("imgw".to_owned(), weather::MEASUREMENT, &tags, &slashed(&imgw.url), kind);
        }
        all
    }

    pub(crate) fn rhythm(&self) -> Rhythm {
        let opens = |hour, minute| Rhythm::Days { opens: Time::constant(hour, minute, 0, 0) };
        match &self.kind {
            Kind::Pse(PseProduct::RcePln) => opens(13, 30),
            Kind::Pse(PseProduct::Pdgsz) => opens(12, 0),
            Kind::Pse(_) => opens(12, 30),
            Kind::Entsoe { .. } | Kind::EnergyCharts { .. } => opens(12, 45),
            // A day of rates is known by 12:15; the span is below the service's limit of 93 days.
            Kind::Nbp => {
                let (lead, overlap) = (nbp::MAX_AGE_DAYS, nbp::MAX_AGE_DAYS);
                Rhythm::Steady { interval: Duration::from_secs(3_600), lead, overlap, span: 90 }
            }
            Kind::OpenMeteo { interval, .. } => {
                Rhythm::Steady { interval: *interval, lead: 0, overlap: 1, span: 1_000 }
            }
            Kind::Imgw { interval, .. } => {
                Rhythm::Steady { interval: *interval, lead: 0, overlap: 0, span: 1_000 }
            }
        }
    }

    /// The address of an answer about these days.
    pub(crate) fn request(&self, ask: Ask, now: Timestamp) -> Url {
        let mut url = self.base.clone();
        let join = |path: &str| self.base.join(path).unwrap_or_else(|_| self.base.clone());
        match &self.kind {
            Kind::Pse(product) => {
                url = join(product.name());
                let days = if ask.first == ask.last {
                    format!("business_date eq '{}'", ask.first)
                } else {
                    format!("business_date ge '{}' and business_date le '{}'", ask.first, ask.last)
                };
                let active = if *product == PseProduct::Pdgsz { " and is_active eq true" } else { "" };
                // Not as a form: the service wants spaces as %20.
                url.set_query(Some(&format!("$filter={days}{active}")));
            }
            Kind::Entsoe { token, area } => {
                let (start, end) = self.minutes(ask);
                url.query_pairs_mut().extend_pairs([
                    ("securityToken", token.as_str()),
                    ("documentType", "A44"),
                    ("in_Domain", area),
                    ("out_Domain", area),
                    ("periodStart", &start),
                    ("periodEnd", &end),
                ]);
            }
            Kind::EnergyCharts { area } => {
                let (first, last) = (ask.first.to_string(), ask.last.to_string());
                url.query_pairs_mut().extend_pairs([
                    ("bzn", area.as_str()),
                    ("start", &first),
                    ("end", &last),
                ]);
            }
            Kind::Nbp => {
                url = join(&format!("exchangerates/rates/a/eur/{}/{}/", ask.first, ask.last));
                url.query_pairs_mut().append_pair("format", "json");
            }
            Kind::OpenMeteo { latitude, longitude, forecast_days, .. } => {
                // Days of the service are those of GMT; one more, since local days begin earlier in the east.
                let today = day::local(now, &TimeZone::UTC).date();
                let back = today.since(ask.first).map_or(0, |span| span.get_days()) + 1;
                url.query_pairs_mut().extend_pairs([
                    ("latitude", latitude.to_string().as_str()),
                    ("longitude", &longitude.to_string()),
                    ("hourly", &weather::variables()),
                    ("wind_speed_unit", "ms"),
                    ("timeformat", "unixtime"),
                    ("timezone", "GMT"),
                    ("past_days", &back.clamp(0, 92).to_string()),
                    ("forecast_days", &forecast_days.to_string()),
                ]);
            }
            Kind::Imgw { station, .. } => url = join(&format!("id/{station}")),
        }
        url
    }

    /// Reads an answer with this HTTP status.
    pub(crate) fn parse(&self, status: u16, body: &[u8]) -> Result<Parsed, ParseError> {
        match (&self.kind, status) {
            // By this NBP says that a range has no working day, but what is asked for has several.
            (Kind::Nbp, 404) => {
                Err(ParseError("HTTP 404, no rates; check collector.feeds.nbp.url".to_owned()))
            }
            (Kind::Entsoe { .. }, _) => entsoe::parse(body),
            (_, 400..) => {
                let said = super::rows::beginning(body);
                Err(ParseError(format!(
                    "HTTP {status}, it does not understand the request; it says {said:?}"
                )))
            }
            (Kind::Pse(product), _) => pse::parse(*product, body),
            (Kind::EnergyCharts { .. }, _) => energy_charts::parse(body),
            (Kind::Nbp, _) => nbp::parse(body, &self.zone),
            (Kind::OpenMeteo { .. }, _) => weather::parse_open_meteo(body),
            (Kind::Imgw { .. }, _) => weather::parse_imgw(body),
        }
    }

    /// The configured address.
    pub(crate) fn base(&self) -> &Url {
        &self.base
    }

    /// The text that no message may hold.
    pub(crate) fn secret(&self) -> Option<&str> {
        if let Kind::Entsoe { token, .. } = &self.kind { Some(token) } else { None }
    }

    /// Its name, and the word for what it brings.
    pub(crate) fn named(&self) -> (&str, &'static str) {
        let kind = match self.kind {
            Kind::Nbp => "rates",
            Kind::OpenMeteo { .. } | Kind::Imgw { .. } => "weather",
            Kind::Pse(_) | Kind::Entsoe { .. } | Kind::EnergyCharts { .. } => "prices",
        };
        (&self.name, kind)
    }

    pub(crate) fn is_rates(&self) -> bool {
        matches!(self.kind, Kind::Nbp)
    }

    /// True if prices come in EUR and are to be converted.
    pub(crate) fn is_in_eur(&self) -> bool {
        matches!(self.kind, Kind::Entsoe { .. } | Kind::EnergyCharts { .. })
    }

    /// The field that makes a period whole, if converted prices are wanted and if not.
    pub(crate) fn main_field(&self, is_converted: bool) -> &'static str {
        match &self.kind {
            Kind::Pse(product) => pse::main_field(*product),
            Kind::Entsoe { .. } | Kind::EnergyCharts { .. } if !is_converted => "market_price_eur",
            Kind::Entsoe { .. } | Kind::EnergyCharts { .. } => "market_price",
            Kind::Nbp => "rate",
            Kind::OpenMeteo { .. } | Kind::Imgw { .. } => "temperature",
        }
    }

    /// The field that comes last: a day that has it in the store needs no further look.
    pub(crate) fn last_field(&self, is_converted: bool) -> &'static str {
        match &self.kind {
            // Balancing prices follow a day or two after the day-ahead price.
            Kind::Pse(PseProduct::EnergyPrices) => "cen_cost",
            _ => self.main_field(is_converted),
        }
    }

    /// Length of its periods, if there is only one.
    pub(crate) fn period_ns(&self) -> Option<i64> {
        match &self.kind {
            Kind::Pse(product) => Some(pse::period_ns(*product)),
            _ => None,
        }
    }

    /// Where catching up can go back to what is missing in the store.
    pub(crate) fn fills_gaps(&self) -> bool {
        matches!(self.kind, Kind::OpenMeteo { .. })
    }

    pub(crate) fn meanings(&self) -> Vec<FieldMeaning> {
        let step = |field: &str, unit: &str| FieldMeaning {
            field: field.to_owned(),
            unit: Unit::new(unit),
            kind: FieldKind::Step,
        };
        match &self.kind {
            Kind::Pse(product) => pse::meanings(*product),
            Kind::Entsoe { .. } | Kind::EnergyCharts { .. } => vec![
                step("market_price_eur", "EUR/kWh"),
                step("market_price", "PLN/kWh"),
                step("exchange_rate", "PLN/EUR"),
            ],
            Kind::Nbp => vec![step("rate", "PLN/EUR")],
            Kind::OpenMeteo { .. } | Kind::Imgw { .. } => weather::meanings(),
        }
    }

    /// Bounds in UTC as ENTSO-E writes them.
    fn minutes(&self, ask: Ask) -> (String, String) {
        let minute = |date: jiff::civil::Date| {
            let at = self.zone.to_timestamp(date.to_datetime(Time::midnight()));
            at.map_or_else(
                |_| String::new(),
                |at| TimeZone::UTC.to_datetime(at).strftime("%Y%m%d%H%M").to_string(),
            )
        };
        (minute(ask.first), minute(ask.last.saturating_add(1.days())))
    }
}

/// A base that paths can be joined to.
fn slashed(url: &str) -> String {
    if url.ends_with('/') { url.to_owned() } else { format!("{url}/") }
}

/// Measurement of prices and Kompas codes.
const PRICES: &str = "prices";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NbpConfig;

    #[test]
    fn not_found_is_no_answer_of_a_bank() {
        // With a wrong address the feed was well for ever, and prices in EUR waited for a rate.
        let config = FeedsConfig { nbp: Some(NbpConfig::default()), ..FeedsConfig::default() };
        let nbp = Service::all(&config).remove(0);
        assert!(nbp.parse(404, b"404 NotFound").unwrap_err().to_string().contains("nbp.url"));
    }
}
