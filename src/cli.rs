//! The command line, as data. What the words do is in `commands/`.

use clap::builder::FalseyValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use wattlog_collector::CollectorConfig;
use wattlog_collector::config::{DeviceConfig, Interval};
use wattlog_model::InvalidInterval;
use wattlog_server::{InvalidQuantity, Span};

/// Home-energy historian: polls the inverter, keeps every point, answers over HTTP.
#[derive(Debug, Parser)]
#[command(name = "wattlog", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A simulated plant, 30 days of history, the collector and the server, in one go
    Demo(DemoArgs),
    /// Run the appliance: store, HTTP server, collector
    Serve(ServeArgs),
    /// Send line protocol or CSV to a running server
    Write(WriteArgs),
    /// Ask a running server; a table, CSV, JSON or a plot comes back
    Query(Box<QueryArgs>),
    /// Send a test message by a channel of alerts, or by all: exit code 69 if one was not acknowledged
    Alert(AlertArgs),
    /// Be a device that is not there
    #[command(subcommand)]
    Simulate(Simulate),
    /// Verify every file of a store, or repair it; exit code 65 on damage
    Check(CheckArgs),
    /// Print one file of a store with the names of format-spec.md
    Dump(DumpArgs),
    /// Read all that is left of a damaged store, as line protocol or CSV; changes nothing, exit code 65 if something is lost
    Salvage(SalvageArgs),
    /// Take over what another program kept
    #[command(subcommand)]
    Import(Import),
    /// Check, print or explain the configuration
    Config(ConfigArgs),
    /// Probe a running server: exit code 0 if it is well, 69 if not
    Health(HealthArgs),
    /// Print the completion script of a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page, or write one per command into a folder
    Man {
        /// Folder for wattlog.1, wattlog-serve.1 ...
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// For the commands that read the configuration; the others have no use for it and refuse the flag.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// Configuration file [default: $WATTLOG_CONFIG, ./wattlog.yaml, the XDG folder, /etc/wattlog/wattlog.yaml]
    #[arg(long = "config", global = true, value_name = "FILE")]
    pub(crate) path: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct AlertArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) command: AlertCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AlertCommand {
    /// Send one message and wait for its acknowledgement; nothing is stored or tried again
    Test {
        /// Name of the channel; all if not said
        channel: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    /// Address to listen on [default: 127.0.0.1:8470]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder of the store [default: the XDG data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Allow an address that others can reach, although there is no authentication yet
    #[arg(long, env = "WATTLOG_INSECURE", value_parser = FalseyValueParser::new())]
    pub(crate) insecure: bool,
    /// error, warn, info, debug or trace
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Keep the data here instead of in a temporary folder; must be empty or a former demo
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Address to listen on; the next free port if it is taken
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8470")]
    pub(crate) listen: SocketAddr,
    /// Leave that long after the first live point was stored
    #[arg(long, value_name = "DURATION", value_parser = span)]
    pub(crate) exit_after: Option<Span>,
    /// Which plant: the same seed makes the same sun, clouds and loads
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Pretend it is this moment (RFC 3339)
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    pub(crate) now: Option<wattlog_model::Timestamp>,
    /// With --now: the clock stands still
    #[arg(long, requires = "now")]
    pub(crate) frozen: bool,
    /// Days of history
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) days: u32,
    /// Time between two polls of the plant
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = poll_interval)]
    pub(crate) interval: Interval,
}

#[derive(Debug, Args)]
pub(crate) struct ServerUrl {
    /// Where the server is
    #[arg(long, value_name = "URL", env = "WATTLOG_URL", default_value = "http://127.0.0.1:8470")]
    pub(crate) url: String,
}

#[derive(Debug, Args)]
pub(crate) struct WriteArgs {
    /// Line protocol, or CSV with a header line; `-` is standard input
    #[arg(default_value = "-")]
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) server: ServerUrl,
    #[arg(long, default_value = "wattlog")]
    pub(crate) db: String,
    /// Unit of bare numbers that are times
    #[arg(long, default_value = "ns", value_parser = ["ns", "us", "ms", "s"])]
    pub(crate) precision: String,
    /// What the input is; by the file's name if not said
    #[arg(long, value_enum)]
    pub(crate) format: Option<InputFormat>,
    /// CSV: the measurement the rows belong to
    #[arg(long)]
    pub(crate) measurement: Option<String>,
    /// CSV: the column with the time (RFC 3339, or a number as --precision says)
    #[arg(long, default_value = "time")]
    pub(crate) time_column: String,
    /// CSV: columns that are tags, separated by commas; the others are fields
    #[arg(long, value_delimiter = ',', value_name = "COLUMNS")]
    pub(crate) tags: Vec<String>,
    /// Lines per request
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) body_lines: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// InfluxDB line protocol
    Lp,
    /// Comma-separated values with a header line
    Csv,
}

#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// Measurement to read; without one, the measurements there are
    pub(crate) measurement: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerUrl,
    #[arg(long, default_value = "wattlog")]
    pub(crate) db: String,
    /// Comma list; all if not said
    #[arg(long)]
    pub(crate) fields: Option<String>,
    /// RFC 3339, `now`, `-24h`, or an integer with a unit (1780272000s)
    #[arg(long, default_value = "-24h", allow_hyphen_values = true)]
    pub(crate) start: String,
    /// Half-open end
    #[arg(long, default_value = "now", allow_hyphen_values = true)]
    pub(crate) end: String,
    /// KEY=VALUE, repeatable; `!VALUE` is not, `~REGEX` matches
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) tags: Vec<(String, String)>,
    /// Field of the price, for the functions cost and priced
    #[arg(long, value_name = "FIELD")]
    pub(crate) price_field: Option<String>,
    /// Measurement of the price; that of the query if not said
    #[arg(long, value_name = "MEASUREMENT")]
    pub(crate) price_measurement: Option<String>,
    /// KEY=VALUE of the price series, repeatable
    #[arg(long = "price-tag", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) price_tags: Vec<(String, String)>,
    /// Computed column, repeatable: "pv_power - consumption"
    #[arg(long = "expr", value_name = "EXPRESSION", allow_hyphen_values = true)]
    pub(crate) expressions: Vec<String>,
    /// Name of a computed column, in the order of --expr
    #[arg(long = "as", value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// Condition on rows: "battery_soc < 20 and (price > 0.8 or mode = 'boost')"
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,
    /// Length of a bucket: 10s, 15m, 1h, 1d, 1w, 1mo, 1q, 1y
    #[arg(long)]
    pub(crate) every: Option<String>,
    /// Functions over the columns, one after the other: derivative(1h), moving_average(5), top(3), histogram(10)
    #[arg(long, value_name = "STEPS")]
    pub(crate) then: Option<String>,
    /// How much later buckets begin: 6h, -15m
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) offset: Option<String>,
    /// Longest time between two points that counts as covered (integral, twa, coverage): 1h
    #[arg(long)]
    pub(crate) gap: Option<String>,
    /// What integral and rate count in: s, m, h, d, Wh, kWh, MWh
    #[arg(long)]
    pub(crate) unit: Option<String>,
    /// What stands in buckets without a value: none, null, previous, linear, or a number
    #[arg(long, allow_hyphen_values = true)]
    pub(crate) fill: Option<String>,
    /// Time zone of buckets and times, as Europe/Warsaw
    #[arg(long, value_name = "ZONE")]
    pub(crate) tz: Option<String>,
    /// Comma list of count, sum, mean, min, max, first, last, spread, stddev, median, p95, mode, distinct, integral, twa,
    /// increase, rate, coverage
    #[arg(long = "fn", value_name = "FUNCTIONS")]
    pub(crate) functions: Option<String>,
    /// Comma list of tag keys, or `*`
    #[arg(long)]
    pub(crate) group_by: Option<String>,
    #[arg(long, value_parser = ["asc", "desc"])]
    pub(crate) order: Option<String>,
    /// Rows per series
    #[arg(long)]
    pub(crate) limit: Option<u64>,
    /// The newest values only
    #[arg(long, conflicts_with_all = ["every", "offset", "fill", "gap", "unit", "functions", "group_by", "limit", "order"])]
    pub(crate) last: bool,
    #[arg(long, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) format: OutputFormat,
    /// Same as --format json
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Csv,
    Json,
    /// A plot made of characters
    Plot,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Simulate {
    /// A GoodWe inverter: Modbus TCP and UDP 8899
    Goodwe(GoodweArgs),
}

#[derive(Debug, Args)]
pub(crate) struct GoodweArgs {
    /// Modbus TCP address; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Address of the UDP dialect
    #[arg(long, value_name = "ADDR")]
    pub(crate) udp: Option<SocketAddr>,
    /// Answer the discovery packet here, as dongles do on port 48899
    #[arg(long, value_name = "ADDR")]
    pub(crate) discovery: Option<SocketAddr>,
    /// Replay register captures from this folder
    #[arg(long, value_name = "DIR", conflicts_with = "live")]
    pub(crate) captures: Option<PathBuf>,
    /// A living plant (the default)
    #[arg(long)]
    pub(crate) live: bool,
    /// With --captures: the installation to replay, if the folder holds several
    #[arg(long, value_name = "NAME", requires = "captures")]
    pub(crate) installation: Option<String>,
    /// Which plant: the same seed makes the same sun, clouds and loads
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Where the plant stands, in degrees, north positive [default: Kraków]
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true, value_parser = latitude, conflicts_with = "captures")]
    pub(crate) latitude: Option<f64>,
    /// The same, east positive [default: Kraków]
    #[arg(long, value_name = "DEGREES", allow_negative_numbers = true, value_parser = longitude, conflicts_with = "captures")]
    pub(crate) longitude: Option<f64>,
    /// Comma list: delay=MS, silence, exception=CODE, doubled, split, sentinel-night, wrong-length, rubbish, short,
    /// asleep
    #[arg(long, value_delimiter = ',', value_name = "FAULTS")]
    pub(crate) fault: Vec<String>,
}

fn latitude(text: &str) -> Result<f64, String> {
    degrees(text, 90.0)
}

fn longitude(text: &str) -> Result<f64, String> {
    degrees(text, 180.0)
}

fn degrees(text: &str, most: f64) -> Result<f64, String> {
    let degrees = text.parse::<f64>().map_err(|error| error.to_string())?;
    if degrees.abs() <= most { Ok(degrees) } else { Err(format!("not within -{most}..{most}")) }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Folder of a store
    pub(crate) folder: PathBuf,
    /// Rebuild what can be rebuilt and move what cannot to quarantine/; only while no process has the store open
    #[arg(long)]
    pub(crate) repair: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// Folder of a store that no process has open, or a copy of one
    pub(crate) folder: PathBuf,
    /// Line protocol with times in nanoseconds, for `wattlog write`; or CSV, a row for each value
    #[arg(long, value_enum, default_value = "lp")]
    pub(crate) format: SalvageFormat,
    /// File to make, outside of the store [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Only this database; needed for line protocol if there are several
    #[arg(long)]
    pub(crate) db: Option<String>,
    /// Only this retention policy
    #[arg(long)]
    pub(crate) rp: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SalvageFormat {
    Lp,
    Csv,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Import {
    /// The GoodWe price optimiser's files and store; exit code 65 if something was refused or differs (docs/migration.md)
    Optimiser(Box<OptimiserArgs>),
}

/// wattlog's own configuration is found as by `serve` without a flag: `$WATTLOG_CONFIG`, `./wattlog.yaml` and so on.
#[derive(Debug, Args)]
pub(crate) struct OptimiserArgs {
    /// Folder of the optimiser, the one that holds `out` and `data`; only read
    #[arg(value_name = "DIR", required_unless_present_any = ["config", "remove"])]
    pub(crate) folder: Option<PathBuf>,
    /// Its SQLite store, if that lies elsewhere
    #[arg(long, value_name = "FILE", requires = "folder")]
    pub(crate) db: Option<PathBuf>,
    /// The optimiser's settings (master_coordinator_config.yaml): zone and tariff of the import, and a configuration for wattlog
    /// on standard output, the report then being on standard error
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// File to make for that configuration
    #[arg(long, value_name = "FILE", requires = "config", conflicts_with = "dry_run")]
    pub(crate) config_out: Option<PathBuf>,
    /// Folder of the store [default: that of the configuration, or the XDG data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// What the inverter is called, as in collector.devices[].id [default: its serial number, if a file names it]
    #[arg(long, value_name = "ID", value_parser = tag_value)]
    pub(crate) device: Option<String>,
    /// The tag location, as in collector.devices[].location
    #[arg(long, value_name = "NAME", default_value = "home", value_parser = tag_value)]
    pub(crate) location: String,
    /// Take out again what imports stored: points, records of the ledger that nobody changed since, and what is remembered of
    /// files. With --dry-run only told
    #[arg(long, conflicts_with_all = ["folder", "db", "config", "device", "location", "again", "validate"])]
    pub(crate) remove: bool,
    /// Read everything and report, write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Store everything anew, also files that are done: after points were deleted that are wanted back
    #[arg(long, conflicts_with = "dry_run", requires = "folder")]
    pub(crate) again: bool,
    /// Read the source again afterwards and compare it with what was stored
    #[arg(long, conflicts_with = "dry_run", requires = "folder")]
    pub(crate) validate: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

fn tag_value(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 128 || text.chars().any(|c| c.is_control() || matches!(c, ',' | '=')) {
        return Err("1 to 128 bytes without control characters, commas and equal signs".to_owned());
    }
    Ok(text.to_owned())
}

#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// A log, segment, catalog or manifest file
    pub(crate) file: PathBuf,
    /// One JSON object instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say whether it would be accepted, and why not
    Check {
        #[arg(long)]
        json: bool,
    },
    /// Print what would run, secrets masked
    Print {
        #[arg(long)]
        json: bool,
    },
    /// Print the defaults, with comments
    Default,
}

#[derive(Debug, Args)]
pub(crate) struct HealthArgs {
    #[command(flatten)]
    pub(crate) server: ServerUrl,
    /// Ask /ready instead of /health
    #[arg(long)]
    pub(crate) ready: bool,
    /// Print the server's answer
    #[arg(long)]
    pub(crate) json: bool,
    /// How long to wait
    #[arg(long, default_value = "5s", value_parser = span)]
    pub(crate) timeout: Span,
}

fn span(text: &str) -> Result<Span, String> {
    text.parse().map_err(|error: InvalidQuantity| error.to_string())
}

/// As a device's in the configuration.
fn poll_interval(text: &str) -> Result<Interval, String> {
    let mut device = DeviceConfig::new("demo", "localhost");
    device.interval = text.parse().map_err(|error: InvalidInterval| error.to_string())?;
    let interval = device.interval;
    let collector = CollectorConfig { devices: vec![device], ..CollectorConfig::default() };
    collector.check().map(|()| interval).map_err(|error| error.to_string())
}

fn timestamp(text: &str) -> Result<wattlog_model::Timestamp, String> {
    let instant: jiff::Timestamp = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    i64::try_from(instant.as_nanosecond())
        .map(wattlog_model::Timestamp)
        .map_err(|_| "outside the years 1677 to 2262".to_owned())
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("KEY=VALUE is expected")?;
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
