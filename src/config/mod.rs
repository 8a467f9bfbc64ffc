//! Configuration: one typed tree, complete and checked before the first socket or file of a store opens.
//!
//! Promise: an unknown key, a value without its unit or a section this version does not have is refused with the path
//! of the key; what `config print` shows is what runs, but for limits that the memory of the machine
//! lowers, which the log names (`crate::memory`).
//!
//! Order: defaults < file < environment (`WATTLOG_SECTION__KEY`) < flags. Defaults live here once; `default.yaml` (what
//! `config default` prints) and the table in README.md are compared with them by tests.

mod sources;
mod tree;

pub(crate) use sources::Surroundings;
pub(crate) use tree::PathError;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use wattlog_alerts::AlertsConfig;
use wattlog_collector::CollectorConfig;
use wattlog_engine::{Durability, Options};
use wattlog_ledger::{Backend, LedgerOptions};
use wattlog_model::{FieldKind, Unit};
use wattlog_server::{Keep, ServerOptions, Size, Span};

/// The whole tree.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// What the process may use; none: what the system gives. See [`crate::memory`].
    pub(crate) memory: Option<Size>,
    pub(crate) server: ServerOptions,
    pub(crate) engine: EngineSection,
    pub(crate) ledger: LedgerSection,
    /// By name of the database.
    pub(crate) databases: BTreeMap<String, DatabaseSection>,
    /// Unit and kind of pushed fields: measurement -> field -> meaning.
    pub(crate) units: BTreeMap<String, BTreeMap<String, Meaning>>,
    pub(crate) collector: CollectorConfig,
    pub(crate) alerts: AlertsConfig,
    pub(crate) log: LogSection,
}

/// How sealed files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ReadWay {
    /// As the engine finds best: by map, on 32-bit by `pread`.
    Auto,
    Map,
    Pread,
}

/// The store: where it is and what it may use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct EngineSection {
    /// None: the XDG data folder.
    pub(crate) data: Option<PathBuf>,
    pub(crate) auto_create_databases: bool,
    pub(crate) durability: DurabilityPolicy,
    pub(crate) memtable: Size,
    pub(crate) wal: Size,
    pub(crate) seal_age: Span,
    pub(crate) ballast: Size,
    /// None: by the size of the disk.
    pub(crate) disk_reserve: Option<Size>,
    /// None: by the size of the disk.
    pub(crate) disk_warning: Option<Size>,
    pub(crate) queue_len: usize,
    pub(crate) queue_wait: Span,
    pub(crate) max_series: u32,
    pub(crate) max_fields: u32,
    pub(crate) max_open_maps: usize,
    pub(crate) max_tombstones: usize,
    pub(crate) compaction_rate: Size,
    pub(crate) pco_after: PackAfter,
    /// Rows of one series that a merge gathers.
    pub(crate) compaction_memory: Size,
    pub(crate) scrub_interval: Span,
    pub(crate) scrub_rate: Size,
    pub(crate) read_mode: ReadWay,
}

impl Default for EngineSection {
    fn default() -> Self {
        let own = Options::default();
        let durability = match own.default_durability {
            Durability::Always => DurabilityPolicy::Always,
            Durability::Interval(every) => DurabilityPolicy::Interval(Span(every)),
        };
        Self {
            data: None,
            auto_create_databases: own.auto_create_databases,
            durability,
            memtable: Size(own.memtable_bytes),
            wal: Size(own.wal_bytes),
            seal_age: Span(own.seal_age),
            ballast: Size(own.ballast_bytes),
            disk_reserve: own.disk_reserve_bytes.map(Size),
            disk_warning: own.disk_warning_bytes.map(Size),
            queue_len: own.queue_len,
            queue_wait: Span(own.queue_wait),
            max_series: own.max_series,
            max_fields: own.max_fields,
            max_open_maps: own.max_open_maps,
            max_tombstones: own.max_tombstones,
            compaction_rate: Size(own.compaction_bytes_per_second),
            pco_after: PackAfter(own.pco_after.map(Span)),
            compaction_memory: Size(own.compaction_memory_bytes as u64),
            scrub_interval: Span(own.scrub_interval),
            scrub_rate: Size(own.scrub_bytes_per_second),
            read_mode: ReadWay::Auto,
        }
    }
}

/// How long numbers keep the form that is quick to read; none: always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackAfter(pub(crate) Option<Span>);

impl std::str::FromStr for PackAfter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self(None));
        }
        let span =
            text.parse().map_err(|_| format!("`{text}` is neither `never` nor a time as in `9600h`"))?;
        Ok(Self(Some(span)))
    }
}

impl std::fmt::Display for PackAfter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self(None) => f.write_str("never"),
            Self(Some(span)) => span.fmt(f),
        }
    }
}

impl Serialize for PackAfter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PackAfter {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// When a writer is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DurabilityPolicy {
    /// After the sync that covers its bytes.
    Always,
    /// At once; a sync follows at least this often.
    Interval(Span),
}

impl std::str::FromStr for DurabilityPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "always" {
            return Ok(Self::Always);
        }
        let span = text.strip_prefix("interval").map(str::trim).and_then(|rest| rest.parse::<Span>().ok());
        let span = span.filter(|span| (Span::secs(1)..=Span::secs(60)).contains(span));
        span.map(Self::Interval)
            .ok_or_else(|| format!("`{text}` is neither `always` nor `interval 1s` to `interval 60s`"))
    }
}

impl std::fmt::Display for DurabilityPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Always => f.write_str("always"),
            Self::Interval(span) => write!(f, "interval {span}"),
        }
    }
}

impl Serialize for DurabilityPolicy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DurabilityPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The relational side: sessions, configurations, tariffs and the like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LedgerSection {
    /// `sqlite:FILE`, below the data folder, or `postgresql://user@host/database`.
    pub(crate) url: String,
    /// Of PostgreSQL, if it is not in the URL.
    pub(crate) password: Option<String>,
    pub(crate) max_connections: u32,
    /// For a connection, or for another writer.
    pub(crate) wait: Span,
}

impl Default for LedgerSection {
    fn default() -> Self {
        let own = LedgerOptions::new(Backend::Sqlite("ledger.db".into()));
        Self {
            url: "sqlite:ledger.db".to_owned(),
            password: None,
            max_connections: own.max_connections,
            wait: Span(own.wait),
        }
    }
}

impl LedgerSection {
    /// What it says of a ledger beside the store in `folder`.
    pub(crate) fn options(&self, folder: &Path) -> Result<LedgerOptions, PathError> {
        let backend = Backend::from_url(&self.url, self.password.clone(), folder)
            .map_err(|error| PathError::at("ledger.url", error.to_string()))?;
        Ok(LedgerOptions { backend, max_connections: self.max_connections, wait: self.wait.0 })
    }

    fn check(&self) -> Result<(), PathError> {
        if !(1..=100).contains(&self.max_connections) {
            return Err(PathError::at("ledger.max_connections", "1 to 100"));
        }
        if !(Span::secs(1)..=Span::secs(60)).contains(&self.wait) {
            return Err(PathError::at("ledger.wait", "1s to 1m"));
        }
        self.options(Path::new("")).map(|_| ())
    }
}

/// One database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DatabaseSection {
    /// None: that of the engine.
    pub(crate) durability: Option<DurabilityPolicy>,
    /// None: as it was set over HTTP, or for ever.
    pub(crate) retention: Option<Keep>,
    /// By name of the measurement.
    pub(crate) measurements: BTreeMap<String, MeasurementSection>,
}

/// One measurement of a database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct MeasurementSection {
    /// In place of that of the database. None: as it was set over HTTP, or that of the database.
    pub(crate) retention: Option<Keep>,
}

/// What the numbers of a pushed field mean.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Meaning {
    pub(crate) unit: Option<Unit>,
    pub(crate) kind: FieldKind,
}

/// What is logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LogSection {
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

impl Default for LogSection {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Auto }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    Human,
    Json,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("read {file}: {source}")]
    Unreadable { file: String, source: std::io::Error },
    #[error("{file}: {message}")]
    NotYaml { file: String, message: String },
    #[error("{error}")]
    Wrong { error: PathError },
    /// `place` is a file or an environment variable.
    #[error("{place}: {error}")]
    WrongIn { place: String, error: PathError },
}

/// A configuration and where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// None: defaults and environment only.
    pub(crate) file: Option<PathBuf>,
    secret_paths: BTreeSet<String>,
}

/// Longest name of a database.
const MAX_DATABASE_LEN_BYTES: usize = 255;

/// Sections that later versions will have. Naming one now is refused rather than ignored.
const LATER: [&str; 2] = ["archive", "backup"];

/// Gathers, types and checks the configuration. Flags go over it afterwards.
pub(crate) fn load(surroundings: &Surroundings) -> Result<Loaded, ConfigError> {
    let gathered = sources::gather(surroundings)?;
    let config = from_tree(gathered.tree).map_err(|error| gathered.origins.blame(error))?;
    Ok(Loaded { config, file: gathered.origins.file, secret_paths: gathered.secret_paths })
}

/// A YAML document as a tree, whoever it is of.
pub(crate) fn parse_yaml(text: &str) -> Result<Value, String> {
    sources::parse(text)
}

/// Whether a text that this program wrote would be accepted, whatever `${NAME}` and `file:` stand for.
pub(crate) fn check_text(text: &str) -> Result<(), String> {
    let mut tree = sources::parse(text)?;
    sources::fill_in(&mut tree);
    from_tree(tree).map(|_| ()).map_err(|error| error.to_string())
}

fn from_tree(tree: Value) -> Result<Config, PathError> {
    if let Some(section) = LATER.into_iter().find(|name| tree.get(name).is_some()) {
        return Err(PathError::at(section, "not part of this version"));
    }
    let config: Config = tree::read(tree, "")?;
    config.check()?;
    Ok(config)
}

impl Config {
    /// What types cannot say.
    pub(crate) fn check(&self) -> Result<(), PathError> {
        if self.memory.is_some_and(|memory| memory < crate::memory::LEAST) {
            return Err(PathError::at("memory", format!("at least {}, or null", crate::memory::LEAST)));
        }
        self.engine.check()?;
        self.ledger.check()?;
        let names = self.databases.keys().map(|name| (format!("databases.{name}"), name));
        let own = ("server.default_database".to_owned(), &self.server.default_database);
        for (path, name) in names.chain([own]) {
            // As the engine would say when the database is to be made; here nothing has been started yet.
            if name.is_empty() || name.len() > MAX_DATABASE_LEN_BYTES || name.chars().any(char::is_control) {
                let limit = format!(
                    "a database name has 1 to {MAX_DATABASE_LEN_BYTES} bytes and no control characters"
                );
                return Err(PathError::at(path, limit));
            }
        }
        for (name, database) in &self.databases {
            if database.measurements.keys().any(String::is_empty) {
                let path = format!("databases.{name}.measurements");
                return Err(PathError::at(path, "a measurement has a name"));
            }
        }
        for (measurement, fields) in &self.units {
            for (field, meaning) in fields {
                // Reading the tree does not go through `Unit::new`.
                if meaning.unit.as_ref().is_some_and(|unit| Unit::new(unit.as_str()).is_none()) {
                    let path = format!("units.{measurement}.{field}.unit");
                    return Err(PathError::at(path, format!("1 to {} bytes of text", Unit::MAX_LEN_BYTES)));
                }
            }
        }
        tracing_subscriber::EnvFilter::try_new(&self.log.level)
            .map_err(|error| PathError::at("log.level", error.to_string()))?;
        self.server.check().map_err(|error| with_path(&error))?;
        self.alerts.check().map_err(|error| with_path(&error))?;
        self.collector.check().map_err(|error| with_path(&error))
    }
}

/// Messages of the other crates begin with the path of the key.
fn with_path(error: &dyn std::error::Error) -> PathError {
    let text = error.to_string();
    match text.split_once(": ") {
        Some((path, message)) => PathError::at(path, message),
        None => PathError::at("", text),
    }
}

impl EngineSection {
    fn check(&self) -> Result<(), PathError> {
        let counts = [
            ("engine.queue_len", self.queue_len),
            ("engine.max_open_maps", self.max_open_maps),
            ("engine.max_tombstones", self.max_tombstones),
            ("engine.max_series", self.max_series as usize),
            ("engine.max_fields", self.max_fields as usize),
        ];
        if let Some((key, _)) = counts.into_iter().find(|(_, count)| *count == 0) {
            return Err(PathError::at(key, "at least 1"));
        }
        if self.max_fields > Options::MAX_FIELDS {
            return Err(PathError::at("engine.max_fields", format!("at most {}", Options::MAX_FIELDS)));
        }
        let sizes = [
            ("engine.memtable", self.memtable),
            ("engine.wal", self.wal),
            ("engine.compaction_memory", self.compaction_memory),
        ];
        for (key, size) in sizes {
            if size < Size::mib(1) {
                return Err(PathError::at(key, format!("at least {}", Size::mib(1))));
            }
        }
        if let (Some(reserve), Some(warning)) = (self.disk_reserve, self.disk_warning)
            && warning < reserve
        {
            return Err(PathError::at(
                "engine.disk_warning",
                format!("at least engine.disk_reserve, {reserve}"),
            ));
        }
        if self.seal_age < Span::secs(60) {
            return Err(PathError::at("engine.seal_age", "at least 1m: every seal makes a file"));
        }
        if self.data.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
            return Err(PathError::at("engine.data", "a folder is expected, or null for the usual one"));
        }
        Ok(())
    }
}

impl Loaded {
    /// The effective configuration. What came from `${NAME}` or `file:` is shown as `***`, as are passwords and tokens
    /// that are written in it.
    pub(crate) fn masked(&self) -> Result<Value, String> {
        let mut tree = serde_json::to_value(&self.config).map_err(|error| error.to_string())?;
        let mut secrets = self.secret_paths.clone();
        // Those of alerts hide themselves.
        secrets.extend(["collector.mqtt.password", "collector.feeds.entsoe.token"].map(str::to_owned));
        // Secrets wherever they stand; a URL may hold one before its host.
        if self.config.ledger.password.is_some() {
            secrets.insert("ledger.password".to_owned());
        }
        let authority = self.config.ledger.url.split("//").nth(1).and_then(|rest| rest.rsplit_once('@'));
        if authority.is_some_and(|(user, _)| user.contains(':'))
            || self.config.ledger.url.contains("password=")
        {
            secrets.insert("ledger.url".to_owned());
        }
        if let Some(feeds) = tree.pointer("/collector/feeds").and_then(Value::as_object) {
            // A key of a service may stand in its query.
            let has_query = |feed: &Value| feed["url"].as_str().is_some_and(|url| url.contains('?'));
            let keyed = feeds.iter().filter(|(_, feed)| has_query(feed));
            secrets.extend(keyed.map(|(name, _)| format!("collector.feeds.{name}.url")));
        }
        mask(&mut tree, "", &secrets);
        Ok(tree)
    }

    /// The same as YAML.
    pub(crate) fn to_yaml(&self) -> Result<String, String> {
        serde_saphyr::to_string(&self.masked()?).map_err(|error| error.to_string())
    }
}

fn mask(value: &mut Value, path: &str, secrets: &BTreeSet<String>) {
    if secrets.contains(path) {
        *value = Value::from("***");
        return;
    }
    match value {
        Value::Object(map) => {
            map.iter_mut().for_each(|(key, value)| mask(value, &tree::child(path, key), secrets));
        }
        Value::Array(items) => {
            items.iter_mut().enumerate().for_each(|(i, value)| mask(value, &format!("{path}[{i}]"), secrets));
        }
        _ => {}
    }
}

/// The commented default configuration.
pub(crate) const DEFAULT_YAML: &str = include_str!("default.yaml");

#[cfg(test)]
mod tests;
