//! `query`: asks `/api/v1/query` or `/api/v1/last` and shows the answer as a table, CSV, JSON or a plot of characters.

mod plot;
mod table;

use super::print;
use crate::cli::{OutputFormat, QueryArgs};
use crate::client::{Client, Reply, block_on, target};
use crate::failure::{Failure, Kind};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) fn run(arguments: &QueryArgs) -> Result<(), Failure> {
    let format = if arguments.json { OutputFormat::Json } else { arguments.format };
    if format == OutputFormat::Plot && arguments.measurement.is_none() {
        return Err(Failure::new(
            Kind::Usage,
            "a plot needs a measurement; without --format plot their names are listed",
        ));
    }
    let reply = block_on(async {
        let reply = Client::new(&arguments.server.url, TIMEOUT)?.get(&request(arguments, format)).await?;
        accepted(reply)
    })?;
    match format {
        OutputFormat::Json => print(&reply.text()),
        OutputFormat::Table if arguments.measurement.is_none() => print(&names(&reply)?.join("\n")),
        OutputFormat::Csv if arguments.measurement.is_none() => print(&names_as_csv(&names(&reply)?)),
        OutputFormat::Csv => print(&reply.text()),
        OutputFormat::Table | OutputFormat::Plot => {
            let answer: Answer = serde_json::from_slice(&reply.body).map_err(|error| {
                Failure::new(Kind::Unavailable, format!("the answer is no query answer: {error}"))
            })?;
            if answer.partial {
                eprintln!(
                    "wattlog: the answer is partial: a damaged file was left out (`wattlog check` names it)"
                );
            }
            if answer.series.is_empty() {
                eprintln!("wattlog: no points");
                return Ok(());
            }
            match format {
                OutputFormat::Plot => print(&plot::plot(&answer)?),
                _ => print(&table::table(&answer)),
            }
        }
    }
}

/// An answer of status 2xx, or the failure that it tells.
fn accepted(reply: Reply) -> Result<Reply, Failure> {
    if reply.is_success() {
        return Ok(reply);
    }
    // Nothing but the flags was sent.
    let kind = match reply.failure_kind() {
        Kind::Data => Kind::Usage,
        other => other,
    };
    Err(Failure::new(kind, reply.message()))
}

fn request(arguments: &QueryArgs, format: OutputFormat) -> String {
    let Some(measurement) = &arguments.measurement else {
        return target("/api/v1/measurements", [("db", arguments.db.as_str())]);
    };
    let tag_keys: Vec<String> = arguments.tags.iter().map(|(key, _)| format!("tag.{key}")).collect();
    let price_keys: Vec<String> =
        arguments.price_tags.iter().map(|(key, _)| format!("price.tag.{key}")).collect();
    let limit = arguments.limit.map(|limit| limit.to_string());
    let mut pairs =
        vec![("db", arguments.db.as_str()), ("measurement", measurement), ("time_format", "rfc3339")];
    pairs
        .extend(tag_keys.iter().zip(&arguments.tags).map(|(key, (_, value))| (key.as_str(), value.as_str())));
    pairs.extend(arguments.fields.as_deref().map(|fields| ("fields", fields)));
    pairs.extend(arguments.expressions.iter().map(|text| ("expr", text.as_str())));
    pairs.extend(arguments.names.iter().map(|name| ("as", name.as_str())));
    pairs.extend(arguments.condition.as_deref().map(|condition| ("where", condition)));
    pairs.extend(arguments.tz.as_deref().map(|zone| ("tz", zone)));
    if format == OutputFormat::Csv {
        pairs.push(("format", "csv"));
    }
    if arguments.last {
        return target("/api/v1/last", pairs);
    }
    let price_tags = price_keys.iter().zip(&arguments.price_tags);
    pairs.extend(price_tags.map(|(key, (_, value))| (key.as_str(), value.as_str())));
    pairs.push(("start", &arguments.start));
    pairs.push(("end", &arguments.end));
    let optional = [
        ("every", arguments.every.as_deref()),
        ("offset", arguments.offset.as_deref()),
        ("fill", arguments.fill.as_deref()),
        ("gap", arguments.gap.as_deref()),
        ("unit", arguments.unit.as_deref()),
        ("fn", arguments.functions.as_deref()),
        ("price.field", arguments.price_field.as_deref()),
        ("price.measurement", arguments.price_measurement.as_deref()),
        ("then", arguments.then.as_deref()),
        ("group_by", arguments.group_by.as_deref()),
        ("order", arguments.order.as_deref()),
        ("limit", limit.as_deref()),
    ];
    pairs.extend(optional.into_iter().filter_map(|(key, value)| Some((key, value?))));
    target("/api/v1/query", pairs)
}

/// The part of an answer that is shown.
#[derive(Debug, Deserialize)]
struct Answer {
    measurement: String,
    series: Vec<Series>,
    #[serde(default)]
    partial: bool,
}

#[derive(Debug, Deserialize)]
struct Series {
    #[serde(default)]
    tags: BTreeMap<String, String>,
    columns: Vec<String>,
    #[serde(default)]
    units: Vec<Option<String>>,
    /// Column by column.
    values: Vec<Vec<Value>>,
}

impl Series {
    fn rows(&self) -> usize {
        self.values.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// `device_id=roof,location=home`, empty without tags.
    fn name(&self) -> String {
        self.tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    }

    /// `pv_power_mean (W)`.
    fn title(&self, column: usize) -> String {
        match self.units.get(column) {
            Some(Some(unit)) => format!("{} ({unit})", self.columns[column]),
            _ => self.columns[column].clone(),
        }
    }
}

/// Text of one cell; empty if nothing is there.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// One column.
fn names_as_csv(names: &[String]) -> String {
    let quoted = |name: &String| {
        if name.contains([',', '"', '\n', '\r']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.clone()
        }
    };
    std::iter::once("measurement".to_owned()).chain(names.iter().map(quoted)).collect::<Vec<_>>().join("\n")
}

/// From the list of measurements.
fn names(reply: &Reply) -> Result<Vec<String>, Failure> {
    let json: Value = serde_json::from_slice(&reply.body)
        .map_err(|error| Failure::new(Kind::Unavailable, format!("the answer is no list: {error}")))?;
    let list = json.get("measurements").unwrap_or(&json).as_array().cloned().unwrap_or_default();
    Ok(list.iter().map(|item| cell(Some(item.get("name").unwrap_or(item)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn asked(flags: &[&str]) -> String {
        let argv = ["wattlog", "query"].into_iter().chain(flags.iter().copied());
        let Command::Query(arguments) = Cli::parse_from(argv).command else { unreachable!() };
        request(&arguments, arguments.format)
    }

    #[test]
    fn flags_become_the_parameters_of_the_api() {
        assert_eq!(asked(&[]), "/api/v1/measurements?db=wattlog");
        assert_eq!(
            asked(&[
                "energy_data",
                "--every",
                "1h",
                "--fn",
                "mean,max",
                "--tag",
                "device_id=!a",
                "--where",
                "soc < 20",
                "--start",
                "-7d"
            ]),
            "/api/v1/query?db=wattlog&measurement=energy_data&time_format=rfc3339&tag.device_id=%21a&where=soc%20%3C%2020&start=-7d&end=now\
             &every=1h&fn=mean%2Cmax"
        );
        assert_eq!(
            asked(&[
                "m",
                "--every",
                "1mo",
                "--offset",
                "-6h",
                "--tz",
                "Europe/Warsaw",
                "--fn",
                "sum",
                "--fill",
                "-1"
            ]),
            "/api/v1/query?db=wattlog&measurement=m&time_format=rfc3339&tz=Europe%2FWarsaw&start=-24h&end=now&every=1mo\
             &offset=-6h&fill=-1&fn=sum"
        );
        assert_eq!(
            asked(&["m", "--last", "--format", "csv"]),
            "/api/v1/last?db=wattlog&measurement=m&time_format=rfc3339&format=csv"
        );
    }
}
