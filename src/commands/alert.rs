//! `alert test`: one message by a channel of the configuration, so that its owner knows before the night that needs it.

use super::print;
use crate::cli::{AlertArgs, AlertCommand};
use crate::clock::SystemClock;
use crate::config::{self, Surroundings};
use crate::failure::{Failure, Kind};
use crate::serve;
use wattlog_alerts::{Receipt, TestError, send_test};
use wattlog_model::Clock as _;

pub(crate) fn run(arguments: &AlertArgs) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(arguments.config.path.clone());
    let loaded =
        config::load(&surroundings).map_err(|error| Failure::new(Kind::Config, error.to_string()))?;
    let alerts = &loaded.config.alerts;
    let AlertCommand::Test { channel } = &arguments.command;
    let channels: Vec<&str> = match channel {
        Some(channel) => vec![channel],
        None => alerts.channels.keys().map(String::as_str).collect(),
    };
    if channels.is_empty() {
        return Err(Failure::new(Kind::Config, "no channel is configured: name one below alerts.channels"));
    }
    let (runtime, now) = (serve::runtime()?, SystemClock::new().wall());
    let mut is_well = true;
    for channel in channels {
        match runtime.block_on(send_test(alerts, channel, now)) {
            Ok(Receipt(Some(number))) => print(&format!("{channel}: acknowledged, number {number}"))?,
            Ok(Receipt(None)) => print(&format!("{channel}: acknowledged"))?,
            Err(TestError::Send { error, .. }) => {
                is_well = false;
                print(&format!("{channel}: {error}"))?;
            }
            Err(error) => return Err(Failure::from_error(Kind::Config, &error)),
        }
    }
    if is_well { Ok(()) } else { Err(Failure::silent(Kind::Unavailable)) }
}
