//! Logs: readable on a terminal, one JSON object a line elsewhere; always on standard error.
//!
//! The level can change while running ([`Reload::set_level`], on HUP).

use crate::config::{LogFormat, LogSection};
use std::io::IsTerminal as _;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// Handle to change the level later.
pub(crate) struct Reload(reload::Handle<EnvFilter, Registry>);

impl Reload {
    /// Applies a level text: `info`, or `warn,wattlog_collector=debug`.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), String> {
        let filter = EnvFilter::try_new(level).map_err(|error| error.to_string())?;
        self.0.reload(filter).map_err(|error| error.to_string())
    }
}

/// Starts logging for this process. To be called once.
pub(crate) fn start(log: &LogSection) -> Result<Reload, String> {
    let filter = EnvFilter::try_new(&log.level).map_err(|error| format!("log.level: {error}"))?;
    let (filter, handle) = reload::Layer::new(filter);
    let json = match log.format {
        LogFormat::Auto => !std::io::stderr().is_terminal(),
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let registry = tracing_subscriber::registry().with(filter);
    if json {
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false)
                    .with_writer(std::io::stderr),
            )
            .init();
    } else {
        let color =
            std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        registry
            .with(
                tracing_subscriber::fmt::layer()
                    .with_ansi(color)
                    .with_target(false)
                    .with_writer(std::io::stderr),
            )
            .init();
    }
    Ok(Reload(handle))
}
