//! What the owner may say about price, rate and weather services. No service is asked unless its section is there.
//!
//! Invariant: a [`FeedsConfig`] that passed its check has absolute URLs without a login, a zone that exists and durations in bounds.

use super::{ConfigError, Interval, MINUTE, SECOND, Secret, bad, within};
use serde::{Deserialize, Serialize};

/// The `collector.feeds:` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedsConfig {
    /// IANA zone of the market: its local days are the days of delivery.
    pub zone: String,
    /// Days before today that are fetched if they are not stored, 0 to 365.
    pub backfill_days: u16,
    /// Days before today that are looked at again for republished values, 0 to 14.
    pub recheck_days: u16,
    /// How long one answer may take, 100 ms to 5 min.
    pub timeout: Interval,
    /// Tries in a row before a feed waits for `rest`, 1 to 10.
    pub tries: u32,
    /// Wait after so many failed tries, and before a day that is not whole yet is asked for again: 1 min to 6 h.
    pub rest: Interval,
    /// Day-ahead prices, settlement prices and Kompas codes of the Polish grid operator.
    pub pse: Option<PseConfig>,
    /// Day-ahead prices of the ENTSO-E transparency platform.
    pub entsoe: Option<EntsoeConfig>,
    /// Day-ahead prices of Energy-Charts.
    pub energy_charts: Option<EnergyChartsConfig>,
    /// Exchange rates of the Polish national bank; with them prices in EUR get a price in PLN.
    pub nbp: Option<NbpConfig>,
    /// Weather forecasts.
    pub open_meteo: Option<OpenMeteoConfig>,
    /// Weather observed at a Polish station.
    pub imgw: Option<ImgwConfig>,
}

impl Default for FeedsConfig {
    fn default() -> Self {
        Self {
            zone: "Europe/Warsaw".to_owned(),
            backfill_days: 7,
            recheck_days: 2,
            timeout: Interval::from_secs(30),
            tries: 4,
            rest: Interval::from_secs(600),
            pse: None,
            entsoe: None,
            energy_charts: None,
            nbp: None,
            open_meteo: None,
            imgw: None,
        }
    }
}

/// PSE, `api.raporty.pse.pl`; no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseConfig {
    /// Where its interface is.
    pub url: String,
    /// What is fetched, at least one.
    pub products: Vec<PseProduct>,
}

impl Default for PseConfig {
    fn default() -> Self {
        Self {
            url: "https://api.raporty.pse.pl/api/".to_owned(),
            products: vec![PseProduct::CsdacPln, PseProduct::RcePln],
        }
    }
}

/// What PSE publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PseProduct {
    /// Day-ahead coupling price.
    CsdacPln,
    /// Settlement price of what prosumers feed in.
    RcePln,
    /// Day-ahead price with the balancing prices of the same period, which come a day or two later.
    EnergyPrices,
    /// Kompas: 0 use, 1 normal, 2 save, 3 must be limited; hourly.
    Pdgsz,
}

impl PseProduct {
    /// The word of the configuration, the URL and the `product` tag.
    pub fn name(self) -> &'static str {
        match self {
            Self::CsdacPln => "csdac-pln",
            Self::RcePln => "rce-pln",
            Self::EnergyPrices => "energy-prices",
            Self::Pdgsz => "pdgsz",
        }
    }
}

/// ENTSO-E; the token is free and comes by mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EntsoeConfig {
    /// Security token; better as `${ENTSOE_TOKEN}` or `file:`.
    pub token: Secret,
    /// Code of the bidding zone.
    #[serde(default = "poland")]
    pub area: String,
    /// Where its interface is.
    #[serde(default = "entsoe_url")]
    pub url: String,
}

/// Energy-Charts; no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EnergyChartsConfig {
    /// Bidding zone as Energy-Charts names it; also the `area` tag.
    pub area: String,
    /// Where its interface is.
    pub url: String,
}

impl Default for EnergyChartsConfig {
    fn default() -> Self {
        Self { area: "PL".to_owned(), url: "https://api.energy-charts.info/price".to_owned() }
    }
}

/// NBP, table A; no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NbpConfig {
    /// Where its interface is.
    pub url: String,
}

impl Default for NbpConfig {
    fn default() -> Self {
        Self { url: "https://api.nbp.pl/api/".to_owned() }
    }
}

/// Open-Meteo; no key for private use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenMeteoConfig {
    /// Degrees north, -90 to 90.
    pub latitude: f64,
    /// Degrees east, -180 to 180.
    pub longitude: f64,
    /// The `location` tag.
    #[serde(default = "super::default_location")]
    pub location: String,
    /// Time between two looks, 10 min to 24 h.
    #[serde(default = "hourly")]
    pub interval: Interval,
    /// Days of the forecast, today included, 1 to 16.
    #[serde(default = "two_days")]
    pub forecast_days: u8,
    /// Where its interface is.
    #[serde(default = "open_meteo_url")]
    pub url: String,
}

/// IMGW, the Polish weather service; no key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImgwConfig {
    /// Number of the station, as 12566 for Cracow.
    pub station: String,
    /// The `location` tag.
    #[serde(default = "super::default_location")]
    pub location: String,
    /// Time between two looks, 10 min to 24 h; an observation that nobody fetched in its hour is lost.
    #[serde(default = "half_hourly")]
    pub interval: Interval,
    /// Where its interface is.
    #[serde(default = "imgw_url")]
    pub url: String,
}

fn poland() -> String {
    "10YPL-AREA-----S".to_owned()
}

fn entsoe_url() -> String {
    "https://web-api.tp.entsoe.eu/api".to_owned()
}

fn open_meteo_url() -> String {
    "https://api.open-meteo.com/v1/forecast".to_owned()
}

fn imgw_url() -> String {
    "https://danepubliczne.imgw.pl/api/data/synop/".to_owned()
}

fn hourly() -> Interval {
    Interval::from_secs(3_600)
}

fn half_hourly() -> Interval {
    Interval::from_secs(1_800)
}

fn two_days() -> u8 {
    2
}

impl FeedsConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let at = |key: &str| format!(".feeds.{key}");
        if let Err(error) = jiff::tz::TimeZone::get(&self.zone) {
            return Err(bad(at("zone"), format!("{error}; write an IANA name as Europe/Warsaw")));
        }
        limit(at("backfill_days"), self.backfill_days.into(), 0..=365, "0..365")?;
        limit(at("recheck_days"), self.recheck_days.into(), 0..=14, "0..14")?;
        limit(at("tries"), self.tries.into(), 1..=10, "1..10")?;
        within(at("timeout"), self.timeout, SECOND / 10..=5 * MINUTE, "100ms..5m")?;
        within(at("rest"), self.rest, MINUTE..=360 * MINUTE, "1m..6h")?;
        if let Some(pse) = &self.pse {
            url(at("pse.url"), &pse.url)?;
            if pse.products.is_empty() {
                return Err(bad(at("pse.products"), "name at least one product".into()));
            }
            if (1..pse.products.len()).any(|i| pse.products[..i].contains(&pse.products[i])) {
                return Err(bad(at("pse.products"), "a product stands twice".into()));
            }
        }
        if let Some(entsoe) = &self.entsoe {
            url(at("entsoe.url"), &entsoe.url)?;
            word(at("entsoe.area"), &entsoe.area)?;
            word(at("entsoe.token"), entsoe.token.reveal())?;
        }
        if let Some(charts) = &self.energy_charts {
            url(at("energy_charts.url"), &charts.url)?;
            word(at("energy_charts.area"), &charts.area)?;
        }
        if let Some(nbp) = &self.nbp {
            url(at("nbp.url"), &nbp.url)?;
        }
        if let Some(meteo) = &self.open_meteo {
            url(at("open_meteo.url"), &meteo.url)?;
            filled(at("open_meteo.location"), &meteo.location)?;
            if !(-90.0..=90.0).contains(&meteo.latitude) {
                return Err(bad(at("open_meteo.latitude"), "-90 to 90".into()));
            }
            if !(-180.0..=180.0).contains(&meteo.longitude) {
                return Err(bad(at("open_meteo.longitude"), "-180 to 180".into()));
            }
            limit(at("open_meteo.forecast_days"), meteo.forecast_days.into(), 1..=16, "1..16")?;
            within(at("open_meteo.interval"), meteo.interval, 10 * MINUTE..=1_440 * MINUTE, "10m..24h")?;
        }
        if let Some(imgw) = &self.imgw {
            url(at("imgw.url"), &imgw.url)?;
            word(at("imgw.station"), &imgw.station)?;
            filled(at("imgw.location"), &imgw.location)?;
            within(at("imgw.interval"), imgw.interval, 10 * MINUTE..=1_440 * MINUTE, "10m..24h")?;
        }
        Ok(())
    }
}

fn limit(
    place: String,
    given: u64,
    range: std::ops::RangeInclusive<u64>,
    text: &'static str,
) -> Result<(), ConfigError> {
    if range.contains(&given) {
        return Ok(());
    }
    Err(ConfigError::OutOfRange { place, given: given.to_string(), range: text })
}

fn url(place: String, given: &str) -> Result<(), ConfigError> {
    let fits = |url: &reqwest::Url| {
        let is_plain = url.username().is_empty() && url.password().is_none();
        matches!(url.scheme(), "http" | "https") && url.host_str().is_some() && is_plain
    };
    if reqwest::Url::parse(given).is_ok_and(|url| fits(&url)) {
        return Ok(());
    }
    // The URL is not repeated: a password or a key may stand in it.
    Err(bad(place, "no URL that begins with https:// or http://, without user and password".into()))
}

/// Part of a URL or a tag: no spaces, no slashes.
fn word(place: String, given: &str) -> Result<(), ConfigError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=128).contains(&given.len()) && given.chars().all(fits) {
        return Ok(());
    }
    Err(bad(place, "1 to 128 letters, digits and the signs - _ .".into()))
}

fn filled(place: String, given: &str) -> Result<(), ConfigError> {
    if given.trim().is_empty() { Err(bad(place, "is empty".into())) } else { Ok(()) }
}
