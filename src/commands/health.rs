//! `health`: the probe of containers and service managers. Exit code 0 or 69, one line of text.

use super::print;
use crate::cli::HealthArgs;
use crate::client::{Client, block_on};
use crate::failure::{Failure, Kind};

pub(crate) fn run(arguments: &HealthArgs) -> Result<(), Failure> {
    let path = if arguments.ready { "/ready" } else { "/health" };
    let reply = block_on(async { Client::new(&arguments.server.url, arguments.timeout.0)?.get(path).await })?;
    let shown = if arguments.json { reply.text() } else { summary(&reply.text()) };
    print(&shown)?;
    if reply.is_success() { Ok(()) } else { Err(Failure::silent(Kind::Unavailable)) }
}

/// `pass: ready for queries and writes`.
fn summary(body: &str) -> String {
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let part = |key: &str| json.get(key).and_then(|value| value.as_str());
    match (part("status"), part("message")) {
        (Some(status), Some(message)) => format!("{status}: {message}"),
        (Some(status), None) => status.to_owned(),
        (None, _) => body.to_owned(),
    }
}
