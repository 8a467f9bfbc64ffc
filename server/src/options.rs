//! What an owner may set about the server: typed, with units and defaults, checked before a socket opens.
//!
//! Promise: options that passed [`ServerOptions::check`] can be run as they stand. Unknown keys are refused, durations
//! and sizes carry their unit in the value (`10s`, `64MiB`), every key has a default.
//! Not here: where the file lies and how environment variables override it (the root crate).

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The `server:` section.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Path under which a reverse proxy publishes the server: empty, or like `/wattlog`. Every route answers under it
    /// and, so that probes need not know it, without it.
    pub path_prefix: String,
    /// IANA zone in which a time without a zone is meant (`/api/energy-data`).
    pub home_zone: String,
    /// What `X-Influxdb-Version` says; some clients branch on a leading `1.` or `2.`.
    pub reported_version: String,
    /// Database of requests that name none.
    pub default_database: String,
    /// Time from which a query counts as slow: such are listed by `/api/v1/queries/slow`.
    pub slow_query_time: Span,
    /// How many slow queries are kept, the newest; none are with 0.
    pub slow_queries: u32,
    /// Bounds of what one client, one request and all requests together may use.
    pub limits: Limits,
}

/// Limits of the server. Reaching one is answered with a status that says so and counted in
/// `wattlog_http_limit_reached_total{limit}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Longest request body as it comes over the wire.
    pub body: Size,
    /// Longest request body after decompression.
    pub decompressed_body: Size,
    /// Most times that a body may grow by decompression.
    pub decompression_ratio: u32,
    /// Memory that the points of one body may take once they are read.
    pub batch: Size,
    /// Bytes that all bodies being received or stored may hold together.
    pub bodies_in_memory: Size,
    /// The part of it that bodies from one address may hold.
    pub bodies_per_address: Size,
    /// Longest line of line protocol.
    pub line: Size,
    /// Longest request line and headers together.
    pub header: Size,
    /// Most headers of a request.
    pub header_count: u32,
    /// Time for the headers of a request, from their first byte.
    pub header_time: Span,
    /// Longest pause inside a request body, or of a client that does not take its answer.
    pub body_idle_time: Span,
    /// Least bytes per second of a body, or of an answer that waits for its client, on average over `body_idle_time`.
    pub transfer_rate: Size,
    /// Time for a whole request, from its headers to its answer.
    pub request_time: Span,
    /// How long an idle connection is kept.
    pub keep_alive_time: Span,
    /// Connections at a time.
    pub connections: u32,
    /// Connections at a time from one address.
    pub connections_per_address: u32,
    /// Queries that run at a time.
    pub concurrent_queries: u32,
    /// Bodies that are parsed and stored at a time.
    pub concurrent_writes: u32,
    /// Exports that run at a time.
    pub concurrent_exports: u32,
    /// Requests that wait for changes at a time.
    pub waiting_changes: u32,
    /// How long a request waits for its turn before it is refused.
    pub queue_time: Span,
    /// Time for one query.
    pub query_time: Span,
    /// Memory for the rows or buckets that one query has in hand.
    pub query_bytes: Size,
    /// The same of all queries together.
    pub queries_in_memory: Size,
    /// Longest answer of a query, or of the ledger.
    pub answer: Size,
    /// Bytes that all these answers may hold together until they are sent.
    pub answers_in_memory: Size,
    /// The part of it that answers to one address may hold.
    pub answers_per_address: Size,
    /// How long requests may go on after the server was told to stop.
    pub drain_time: Span,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8470)),
            path_prefix: String::new(),
            home_zone: "UTC".to_owned(),
            reported_version: "1.8.10-wattlog".to_owned(),
            default_database: "wattlog".to_owned(),
            slow_query_time: Span::secs(1),
            slow_queries: 100,
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: Size::mib(32),
            decompressed_body: Size::mib(32),
            decompression_ratio: 200,
            batch: Size::mib(64),
            bodies_in_memory: Size::mib(128),
            bodies_per_address: Size::mib(96),
            line: Size::mib(1),
            header: Size::kib(16),
            header_count: 100,
            header_time: Span::secs(10),
            body_idle_time: Span::secs(30),
            transfer_rate: Size::kib(4),
            request_time: Span::secs(300),
            keep_alive_time: Span::secs(75),
            connections: 2048,
            connections_per_address: 1536,
            concurrent_queries: 8,
            concurrent_writes: 8,
            concurrent_exports: 2,
            waiting_changes: 64,
            queue_time: Span::secs(5),
            query_time: Span::secs(30),
            query_bytes: Size::mib(512),
            queries_in_memory: Size::mib(1024),
            answer: Size::mib(128),
            answers_in_memory: Size::mib(384),
            answers_per_address: Size::mib(256),
            drain_time: Span::secs(10),
        }
    }
}

/// A key whose value cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server.{key}: {reason}")]
pub struct InvalidOption {
    /// Path of the key below `server`.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub reason: String,
}

impl ServerOptions {
    /// Looks at every value that parsing alone cannot judge.
    ///
    /// # Errors
    /// The first key that cannot be used.
    pub fn check(&self) -> Result<(), InvalidOption> {
        let invalid = |key, reason: String| Err(InvalidOption { key, reason });
        let prefix = &self.path_prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
        if !prefix.is_empty()
            && (!prefix.starts_with('/')
                || prefix.ends_with('/')
                || prefix.contains("//")
                || !prefix.chars().all(plain))
        {
            return invalid("path_prefix", format!("{prefix:?} is no path: write it like /wattlog"));
        }
        if let Err(error) = jiff::tz::TimeZoneDatabase::bundled().get(&self.home_zone) {
            return invalid("home_zone", format!("{error}; write an IANA name like Europe/Warsaw"));
        }
        let version = &self.reported_version;
        if version.is_empty() || !version.bytes().all(|b| b.is_ascii_graphic()) {
            return invalid("reported_version", format!("{version:?} must be plain visible text"));
        }
        if self.default_database.is_empty() {
            return invalid("default_database", "must not be empty".to_owned());
        }
        let (span, most) = (self.slow_query_time, Span::secs(24 * 3600));
        if span > most {
            return invalid("slow_query_time", format!("{span} is beyond {most}"));
        }
        let (kept, most) = (self.slow_queries, 10_000);
        if kept > most {
            return invalid("slow_queries", format!("{kept} is beyond {most}"));
        }
        self.limits.check()
    }
}

impl Limits {
    /// Bytes that must pass within `body_idle_time` to keep up `transfer_rate`.
    pub(crate) fn least_per_window(&self) -> u64 {
        (self.transfer_rate.0 as f64 * self.body_idle_time.0.as_secs_f64()) as u64
    }

    fn check(&self) -> Result<(), InvalidOption> {
        let sizes = [
            ("limits.body", self.body, Size::kib(1)),
            ("limits.decompressed_body", self.decompressed_body, Size::kib(1)),
            ("limits.batch", self.batch, Size::kib(64)),
            // A packed body and what it unpacks to are held at the same time.
            (
                "limits.bodies_per_address",
                self.bodies_per_address,
                Size(self.body.0 + self.decompressed_body.0),
            ),
            ("limits.bodies_in_memory", self.bodies_in_memory, self.bodies_per_address),
            ("limits.transfer_rate", self.transfer_rate, Size(1)),
            ("limits.line", self.line, Size::kib(1)),
            ("limits.header", self.header, Size::kib(8)),
            ("limits.query_bytes", self.query_bytes, Size::kib(64)),
            ("limits.queries_in_memory", self.queries_in_memory, self.query_bytes),
            ("limits.answer", self.answer, Size::kib(64)),
            // A buffer that grows holds up to twice the bytes written into it.
            ("limits.answers_per_address", self.answers_per_address, Size(2 * self.answer.0)),
            ("limits.answers_in_memory", self.answers_in_memory, self.answers_per_address),
        ];
        for (key, size, least) in sizes {
            if size < least || size > Size::mib(4096) {
                return Err(InvalidOption { key, reason: format!("{size} is not within {least} and 4GiB") });
            }
        }
        let counts = [
            ("limits.decompression_ratio", self.decompression_ratio),
            ("limits.header_count", self.header_count),
            ("limits.connections", self.connections),
            ("limits.connections_per_address", self.connections_per_address),
            ("limits.concurrent_queries", self.concurrent_queries),
            ("limits.concurrent_writes", self.concurrent_writes),
            ("limits.concurrent_exports", self.concurrent_exports),
            ("limits.waiting_changes", self.waiting_changes),
        ];
        for (key, count) in counts {
            // Each that waits takes a thread for a moment, of those that all other work shares.
            let most = if key == "limits.waiting_changes" { 256 } else { 1_000_000 };
            if count == 0 || count > most {
                return Err(InvalidOption { key, reason: format!("{count} is not within 1 and {most}") });
            }
        }
        let spans = [
            ("limits.header_time", self.header_time),
            ("limits.body_idle_time", self.body_idle_time),
            ("limits.request_time", self.request_time),
            ("limits.keep_alive_time", self.keep_alive_time),
            ("limits.queue_time", self.queue_time),
            ("limits.query_time", self.query_time),
            ("limits.drain_time", self.drain_time),
        ];
        for (key, span) in spans {
            if span < Span::millis(10) || span > Span::secs(24 * 3600) {
                return Err(InvalidOption { key, reason: format!("{span} is not within 10ms and 24h") });
            }
        }
        Ok(())
    }
}

/// A duration written with its unit: `250ms`, `10s`, `5m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

/// A count of bytes written with its unit: `512B`, `16KiB`, `32MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

/// A text that is no quantity of that kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {kind}: write a whole number and a unit ({units})")]
pub struct InvalidQuantity {
    text: String,
    kind: &'static str,
    units: &'static str,
}

impl Span {
    /// So many seconds.
    pub const fn secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl Size {
    /// So many KiB.
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }

    /// So many MiB.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// As a length in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Units from the largest to the smallest, so that the first that divides a number writes it shortest.
const SPAN_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

fn parse_quantity(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn write_quantity(f: &mut fmt::Formatter<'_>, n: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |(_, factor): &&(&str, u64)| n.is_multiple_of(*factor) && (n > 0 || *factor == 1);
    // The smallest unit divides every number.
    let (name, factor) = units.iter().find(fits).unwrap_or(&("", 1));
    write!(f, "{}{name}", n / factor)
}

impl FromStr for Span {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid =
            InvalidQuantity { text: text.to_owned(), kind: "duration", units: "ms, s, m, h, as in 10s" };
        parse_quantity(text, &SPAN_UNITS).map(Self::millis).ok_or(invalid)
    }
}

impl FromStr for Size {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid =
            InvalidQuantity { text: text.to_owned(), kind: "size", units: "B, KiB, MiB, GiB, as in 64MiB" };
        parse_quantity(text, &SIZE_UNITS).map(Self).ok_or(invalid)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &SPAN_UNITS)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_quantity(f, self.0, &SIZE_UNITS)
    }
}

macro_rules! as_text {
    ($($name:ident),*) => {$(
        impl TryFrom<String> for $name {
            type Error = InvalidQuantity;

            fn try_from(text: String) -> Result<Self, InvalidQuantity> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(quantity: $name) -> Self {
                quantity.to_string()
            }
        }
    )*};
}

as_text!(Span, Size);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_usable_and_survive_being_written() {
        let options = ServerOptions::default();
        assert_eq!(options.check(), Ok(()));
        let text = serde_json::to_string(&options).unwrap();
        assert!(text.contains(r#""body":"32MiB""#) && text.contains(r#""header_time":"10s""#), "{text}");
        assert_eq!(serde_json::from_str::<ServerOptions>(&text).unwrap(), options);
    }

    #[test]
    fn unknown_keys_and_units_are_refused() {
        let parse = |text: &str| serde_json::from_str::<ServerOptions>(text).unwrap_err().to_string();
        assert!(parse(r#"{"listne":"127.0.0.1:1"}"#).contains("unknown field `listne`"));
        assert!(parse(r#"{"limits":{"body":"32MB"}}"#).contains("whole number and a unit (B, KiB, MiB, GiB"));
        assert!(parse(r#"{"limits":{"header_time":"10"}}"#).contains("as in 10s"));
    }

    #[test]
    fn a_bad_value_is_named_by_its_path() {
        let check = |change: fn(&mut ServerOptions)| {
            let mut options = ServerOptions::default();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert!(check(|o| o.path_prefix = "wattlog/".into()).starts_with("server.path_prefix:"));
        assert!(check(|o| o.home_zone = "Europe/Atlantis".into()).starts_with("server.home_zone:"));
        assert_eq!(check(|o| o.limits.body = Size(5)), "server.limits.body: 5B is not within 1KiB and 4GiB");
        assert!(check(|o| o.slow_queries = 10_001).starts_with("server.slow_queries: 10001 is beyond"));
        assert!(check(|o| o.slow_query_time = Span::secs(90_000)).starts_with("server.slow_query_time: 25h"));
        assert!(check(|o| o.limits.connections = 0).starts_with("server.limits.connections:"));
        assert!(
            check(|o| o.limits.query_time = Span::millis(1)).starts_with("server.limits.query_time: 1ms")
        );
    }
}
