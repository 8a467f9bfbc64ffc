//! The optimiser's settings: what wattlog can take over of them, as a configuration of its own.
//!
//! Promise: every key of the file is told as taken, with the key it became, or as not taken, with the reason. The result is
//! one that wattlog accepts. No key makes it delete anything: days of tiers and of retention are not taken as retention.

use super::tariff::KnownTariff;
use crate::config;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use wattlog_ledger::schema::Configuration;
use wattlog_ledger::{Actor, Expected, Ledger, LedgerError, Listing};

/// What was read.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `system.timezone`.
    pub(super) zone: Option<String>,
    /// The tariff in use, or why there is none.
    pub(super) tariff: Result<KnownTariff, String>,
    pub(super) battery_capacity_kwh: Option<f64>,
    /// The file, secrets masked.
    tree: Value,
    converted: Converted,
}

/// A configuration of wattlog, and what became of each key.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Converted {
    /// With comments that tell every key.
    pub(crate) yaml: String,
    taken: BTreeMap<String, String>,
    /// Keys by the reason.
    not_taken: BTreeMap<String, Vec<String>>,
}

/// Name of the settings among the configurations of the ledger.
pub(super) const NAME: &str = "optimiser";

impl Settings {
    /// Reads the text of `name`; the inverter becomes the device `device` at `location`.
    ///
    /// # Errors
    /// Text that is no YAML, or a result that wattlog would refuse.
    pub(crate) fn read(text: &str, name: &str, device: &str, location: &str) -> Result<Self, String> {
        let mut tree = config::parse_yaml(text)?;
        let zone = tree.pointer("/system/timezone").and_then(Value::as_str).map(str::to_owned);
        let tariff = match &tree["electricity_tariff"] {
            Value::Null => Err("the settings have no electricity_tariff".to_owned()),
            section => KnownTariff::of_section(section),
        };
        let capacity = tree.pointer("/battery_management/capacity_kwh").and_then(Value::as_f64);
        let mut converter = Converter::new(&tree, device, location);
        converter.convert(tariff.as_ref().err());
        let converted = converter.finish(name)?;
        config::check_text(&converted.yaml)?;
        mask(&mut tree);
        Ok(Self {
            zone,
            tariff,
            battery_capacity_kwh: capacity.filter(|capacity| *capacity > 0.0),
            tree,
            converted,
        })
    }

    pub(crate) fn converted(&self) -> &Converted {
        &self.converted
    }

    /// Keeps the file as a configuration of the ledger, unless a revision holds the same; true if it made one.
    pub(super) async fn keep_revision(&self, ledger: &Ledger, actor: &Actor) -> Result<bool, LedgerError> {
        let mut listing = Listing::all().with_text("name", NAME);
        loop {
            let page = ledger.list::<Configuration>(&listing).await?;
            if page.records.iter().any(|stored| stored.record.data == self.tree) {
                return Ok(false);
            }
            let Some(next) = page.next else { break };
            listing.after = Some(next);
        }
        let note = "the settings of the optimiser, as imported; secrets are masked".to_owned();
        let note = Some(note);
        ledger.save_configuration(NAME, None, self.tree.clone(), note, Expected::Any, actor).await?;
        Ok(true)
    }
}

struct Converter<'a> {
    tree: &'a Value,
    device: &'a str,
    location: &'a str,
    ours: Map<String, Value>,
    taken: BTreeMap<String, String>,
    not_taken: BTreeMap<String, Vec<String>>,
    left: BTreeSet<String>,
}

impl<'a> Converter<'a> {
    fn new(tree: &'a Value, device: &'a str, location: &'a str) -> Self {
        Self {
            tree,
            device,
            location,
            ours: Map::new(),
            taken: BTreeMap::new(),
            not_taken: BTreeMap::new(),
            left: BTreeSet::new(),
        }
    }

    fn convert(&mut self, no_tariff: Option<&String>) {
        self.zone();
        self.level();
        self.inverter();
        self.relational();
        if self
            .tree
            .pointer("/battery_management/capacity_kwh")
            .and_then(Value::as_f64)
            .is_some_and(|c| c > 0.0)
        {
            self.take(
                "battery_management.capacity_kwh",
                "the device's battery_capacity_kwh in the ledger, at an import",
            );
        }
        let mut leaves = Vec::new();
        leaves_of(self.tree, String::new(), &mut leaves);
        for leaf in leaves {
            if self.taken.contains_key(&leaf) || self.left.contains(&leaf) {
                continue;
            }
            let of_tariff = leaf.starts_with("electricity_tariff.");
            let in_use = self.tree.pointer("/electricity_tariff/tariff_type").and_then(Value::as_str);
            let in_use = in_use.map(|name| {
                format!("electricity_tariff.distribution_pricing.{}.", name.to_ascii_lowercase())
            });
            let other_tariff = leaf.starts_with("electricity_tariff.distribution_pricing.")
                && in_use.is_none_or(|prefix| !leaf.starts_with(&prefix));
            match no_tariff {
                _ if other_tariff => self.leave(&leaf, "a tariff that is not in use"),
                Some(reason) if of_tariff => {
                    self.leave(&leaf, &format!("no tariff could be made of it: {reason}"));
                }
                None if of_tariff => self.take(&leaf, "a tariff of the ledger, at an import"),
                _ => self.leave(&leaf, reason_of(&leaf)),
            }
        }
    }

    fn take(&mut self, key: &str, became: &str) {
        self.taken.insert(key.to_owned(), became.to_owned());
    }

    fn leave(&mut self, key: &str, reason: &str) {
        if self.left.insert(key.to_owned()) {
            self.not_taken.entry(reason.to_owned()).or_default().push(key.to_owned());
        }
    }

    fn set(&mut self, section: &str, key: &str, value: Value) {
        let section = self.ours.entry(section).or_insert_with(|| json!({}));
        section[key] = value;
    }

    fn zone(&mut self) {
        let Some(zone) = self.tree.pointer("/system/timezone").and_then(Value::as_str) else { return };
        if jiff::tz::TimeZone::get(zone).is_ok() {
            self.set("server", "home_zone", json!(zone));
            self.take("system.timezone", "server.home_zone");
        } else {
            self.leave("system.timezone", "no zone of that name is known");
        }
    }

    fn level(&mut self) {
        let Some(level) = self.tree.pointer("/logging/level").and_then(Value::as_str) else { return };
        let ours = match level.to_ascii_uppercase().as_str() {
            "DEBUG" => "debug",
            "INFO" => "info",
            "WARNING" | "WARN" => "warn",
            "ERROR" | "CRITICAL" => "error",
            _ => return self.leave("logging.level", "no level of that name is known"),
        };
        self.set("log", "level", json!(ours));
        self.take("logging.level", "log.level");
    }

    fn inverter(&mut self) {
        let inverter = &self.tree["inverter"];
        let Some(host) = inverter["ip_address"].as_str().filter(|host| !host.is_empty()) else { return };
        let family = inverter["family"].as_str().unwrap_or("ET").to_ascii_uppercase();
        let family = match family.as_str() {
            "ET" | "EH" | "BT" | "BH" => "et",
            "DT" | "MS" | "D-NS" | "XS" | "SDT" => "dt",
            _ => {
                return self.leave_all(
                    "inverter",
                    "no device was made: wattlog reads the families ET, EH, BT, BH and DT",
                );
            }
        };
        if inverter["vendor"].as_str().is_some_and(|vendor| !vendor.eq_ignore_ascii_case("goodwe")) {
            return self.leave_all("inverter", "no device was made: wattlog reads inverters of GoodWe");
        }
        let mut device = json!({ "id": self.device, "location": self.location, "vendor": "goodwe", "family": family, "host": host });
        let is = |key: &str| format!("collector.devices[0].{key}");
        for key in ["family", "vendor"] {
            if !inverter[key].is_null() {
                self.take(&format!("inverter.{key}"), &is(key));
            }
        }
        self.take("inverter.ip_address", &is("host"));
        if let Some(port) = inverter["port"].as_u64().filter(|port| (1..=65_535).contains(port)) {
            // The library that it used spoke UDP on this port alone.
            device["transport"] = json!(if port == 8899 { "udp" } else { "tcp" });
            device["port"] = json!(port);
            self.take("inverter.port", &format!("{} and .transport", is("port")));
        }
        if let Some(unit) = unit_of(&inverter["comm_addr"]) {
            device["unit"] = json!(unit);
            self.take("inverter.comm_addr", &is("unit"));
        }
        if let Some(seconds) = inverter["timeout"].as_f64().filter(|seconds| (0.1..=60.0).contains(seconds)) {
            device["timeout"] = json!(format!("{}ms", (seconds * 1000.0).round() as u64));
            self.take("inverter.timeout", &is("timeout"));
        }
        if let Some(retries) = inverter["retries"].as_u64().filter(|retries| *retries <= 10) {
            device["retries"] = json!(retries);
            self.take("inverter.retries", &is("retries"));
        }
        let every =
            self.tree.pointer("/coordinator/data_collection_interval_seconds").and_then(Value::as_u64);
        if let Some(seconds) = every.filter(|seconds| (1..=600).contains(seconds)) {
            device["interval"] = json!(format!("{seconds}s"));
            self.take("coordinator.data_collection_interval_seconds", &is("interval"));
        }
        self.set("collector", "devices", json!([device]));
    }

    /// A PostgreSQL that was in use becomes the ledger's.
    fn relational(&mut self) {
        for place in ["data_storage.relational_db", "data_storage.database_storage.relational_db"] {
            let section = at(self.tree, place);
            let Some(section) = section else { continue };
            if section["enabled"] != json!(true) {
                self.leave_all(place, "it was not enabled");
                continue;
            }
            if section["type"] != json!("postgresql") {
                self.leave_all(
                    place,
                    "the ledger is an SQLite file beside the store unless ledger.url says otherwise",
                );
                continue;
            }
            let (below, inner) = match &section["config"] {
                Value::Null => (place.to_owned(), section),
                config => (format!("{place}.config"), config),
            };
            let text = |key: &str| inner[key].as_str().unwrap_or_default();
            let port = inner["port"].as_u64().unwrap_or(5432);
            let mode = Some(text("ssl_mode")).filter(|mode| !mode.is_empty()).unwrap_or("prefer");
            if ![text("host"), text("database"), text("username"), mode].into_iter().all(fits_in_url) {
                self.leave_all(
                    place,
                    "its names cannot stand in an address as they are: write ledger.url by hand",
                );
                continue;
            }
            let url = format!(
                "postgresql://{}@{}:{port}/{}?sslmode={mode}",
                text("username"),
                text("host"),
                text("database")
            );
            self.set("ledger", "url", json!(url));
            for key in ["host", "port", "database", "username", "ssl_mode"] {
                if !inner[key].is_null() {
                    self.take(&format!("{below}.{key}"), "ledger.url");
                }
            }
            for key in ["enabled", "type"] {
                self.take(&format!("{place}.{key}"), "ledger.url");
            }
            let password = text("password");
            if is_variable(password) {
                self.set("ledger", "password", json!(password));
                self.take(&format!("{below}.password"), "ledger.password");
            } else if !password.is_empty() {
                self.leave(
                    &format!("{below}.password"),
                    "a secret is not copied: put it into a file, ledger.password: file:PATH",
                );
            }
        }
    }

    fn leave_all(&mut self, section: &str, reason: &str) {
        let mut leaves = Vec::new();
        if let Some(value) = at(self.tree, section) {
            leaves_of(value, section.to_owned(), &mut leaves);
        }
        for leaf in leaves {
            self.leave(&leaf, reason);
        }
    }

    fn finish(self, name: &str) -> Result<Converted, String> {
        let mut yaml = String::new();
        let _ = writeln!(yaml, "# wattlog configuration, made of the optimiser's {}.", plain(name));
        let _ = writeln!(
            yaml,
            "# Nothing is ever deleted by it: every point is kept until databases.NAME.retention says otherwise."
        );
        if !self.taken.is_empty() {
            let _ = writeln!(yaml, "#\n# Taken over:");
        }
        for (key, became) in &self.taken {
            let _ = writeln!(yaml, "#   {} -> {became}", plain(key));
        }
        if !self.not_taken.is_empty() {
            let _ = writeln!(yaml, "#\n# Without a meaning here:");
        }
        for (reason, keys) in &self.not_taken {
            let _ = writeln!(yaml, "#   {}:", plain(reason));
            for key in keys {
                let _ = writeln!(yaml, "#     {}", plain(key));
            }
        }
        yaml.push('\n');
        let body = serde_saphyr::to_string(&Value::Object(self.ours)).map_err(|error| error.to_string())?;
        yaml.push_str(&body);
        Ok(Converted { yaml, taken: self.taken, not_taken: self.not_taken })
    }
}

/// Why a key has no meaning here: by the longest beginning, then by its last part.
fn reason_of(key: &str) -> &'static str {
    const NO_DELETION: &str = "wattlog deletes nothing by age unless its own databases.NAME.retention is set; set that if it is meant";
    const REASONS: &[(&str, &str)] = &[
        ("data_storage.timeseries_db", "wattlog is the time-series store itself"),
        ("data_storage.database_storage.timeseries_db", "wattlog is the time-series store itself"),
        (
            "data_storage.archival",
            "tiers choose where old points lie and never that they go; this version keeps them all in one place",
        ),
        (
            "data_storage.database_storage.archival",
            "tiers choose where old points lie and never that they go; this version keeps them all in one place",
        ),
        ("data_storage.backup", "backups are no part of this version: copy the folder of the stopped store"),
        (
            "data_storage.file_storage.backup",
            "backups are no part of this version: copy the folder of the stopped store",
        ),
        ("data_storage", "where the optimiser kept its files; `wattlog import optimiser` reads them"),
        ("inverter", "wattlog paces its attempts by itself (backoff_max)"),
        ("logging", "wattlog logs to standard error and leaves files to the service manager"),
        ("web_server", "server.listen has its own default, 127.0.0.1:8470; other addresses need --insecure"),
        ("electricity_tariff", "no part of the tariff in use"),
        ("notifications", "rules of alerts are records of wattlog's ledger, made there"),
        (
            "performance_monitoring",
            "wattlog measures its own process without being told (collector.system_metrics)",
        ),
        ("weather_integration", "feeds are set up by hand in wattlog's own configuration"),
        ("price_analysis", "feeds are set up by hand in wattlog's own configuration"),
        ("pse_price_forecast", "feeds are set up by hand in wattlog's own configuration"),
        ("pse_peak_hours", "feeds are set up by hand in wattlog's own configuration"),
    ];
    let last = key.rsplit('.').next().unwrap_or_default();
    if last.contains("retention")
        && !last.starts_with("hot_")
        && !last.starts_with("warm_")
        && !last.starts_with("cold_")
    {
        return NO_DELETION;
    }
    let fitting = REASONS.iter().filter(|(prefix, _)| {
        key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '_']))
    });
    let found = fitting.max_by_key(|(prefix, _)| prefix.len());
    found.map_or(
        "it steers the optimiser: wattlog records, decides nothing and never writes to an inverter",
        |(_, why)| why,
    )
}

/// Looks along a path with dots.
fn at<'v>(tree: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(tree, |value, key| value.get(key))
}

fn leaves_of(value: &Value, path: String, leaves: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves_of(value, path, leaves);
            }
        }
        _ if path.is_empty() => {}
        _ => leaves.push(path),
    }
}

/// `247`, or `0xf7` where it stands as text.
fn unit_of(value: &Value) -> Option<u8> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|number| u8::try_from(number).ok()),
        Value::String(text) => u8::from_str_radix(text.strip_prefix("0x")?, 16).ok(),
        _ => None,
    }
    .filter(|unit| *unit > 0)
}

/// A name or `${NAME}` that needs no escapes in an address.
fn fits_in_url(text: &str) -> bool {
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).unwrap_or(text);
    !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// Secrets stay where they were: all that stands under the name of one, whatever its type (a number, a list), and what stands
/// before the `@` of an address.
fn mask(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if is_secret(key) { hide(value) } else { mask(value) }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        Value::String(text) => *text = without_login(text),
        _ => {}
    }
}

fn is_secret(key: &str) -> bool {
    const SECRET: [&str; 7] = ["password", "passwd", "token", "secret", "api_key", "apikey", "access_key"];
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET.iter().any(|word| key.contains(word))
}

/// The name of a variable tells nothing, nor does nothing.
fn hide(value: &mut Value) {
    let is_told = match value {
        Value::Null => true,
        Value::String(text) => is_variable(text),
        _ => false,
    };
    if !is_told {
        *value = json!(HIDDEN);
    }
}

/// `${NAME}` and nothing beside it.
fn is_variable(text: &str) -> bool {
    let name = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    name.is_some_and(|name| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// `scheme://user:password@host` becomes `scheme://***@host`, in every address of a text.
fn without_login(text: &str) -> String {
    let mut parts = text.split("://");
    let mut masked = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        masked.push_str("://");
        let end = part.find(|c: char| c.is_whitespace() || "/?#\"'".contains(c)).unwrap_or(part.len());
        let rest = match part[..end].rfind('@') {
            Some(at) => {
                masked.push_str(HIDDEN);
                &part[at..]
            }
            None => part,
        };
        masked.push_str(rest);
    }
    masked
}

/// Stands for a secret.
const HIDDEN: &str = "***";

/// Names come from a file: a comment stays one line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_every_type_and_in_addresses_are_masked() {
        // A password of digits, and keys in a list, stood in the ledger as they were.
        let mut tree = json!({
            "influx": { "token": "word", "url": "http://anna:word@influx:8086/?x=a@b", "org": "home" },
            "db": { "Password": 123456, "passwd": ["word"], "user": "anna", "secret": { "a": "word" } },
            "apis": [{ "apikey": true, "API-Key": "word", "access_key_id": "word" }],
            "kept": { "password": "${DB_PASSWORD}", "token": null, "mail": "anna@example.org" },
            "not_only": { "token": "${PART}word", "secret": "${A:-word}" },
            "both": "amqp://a:word@one, https://two/x http://word@three",
        });
        mask(&mut tree);
        let hidden = "***";
        assert_eq!(
            tree,
            json!({
                "influx": { "token": hidden, "url": "http://***@influx:8086/?x=a@b", "org": "home" },
                "db": { "Password": hidden, "passwd": hidden, "user": "anna", "secret": hidden },
                "apis": [{ "apikey": hidden, "API-Key": hidden, "access_key_id": hidden }],
                "kept": { "password": "${DB_PASSWORD}", "token": null, "mail": "anna@example.org" },
                "not_only": { "token": hidden, "secret": hidden },
                "both": "amqp://***@one, https://two/x http://***@three",
            })
        );
    }
}
