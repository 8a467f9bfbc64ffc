//! The one binary: reads the command line, hands over to a command, turns its outcome into an exit code.
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod alerting;
mod cli;
mod client;
mod clock;
mod commands;
mod config;
mod databases;
mod devices;
mod failure;
mod files;
mod import;
mod known;
mod logging;
mod memory;
mod notify;
mod readings;
mod serve;
mod signals;
mod sink;
mod units;
mod watchdog;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = cli::Cli::parse();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if failure.is_silent() {
                return failure.exit_code();
            }
            eprintln!("wattlog: {failure}");
            failure.exit_code()
        }
    }
}
