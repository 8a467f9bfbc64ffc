//! What each word of the command line does. One file per command; errors leave through [`Failure`].

mod alert;
mod check;
mod config;
mod demo;
mod health;
mod import;
mod line;
mod query;
mod salvage;
mod serve;
mod shell;
mod simulate;
mod write;

use crate::cli::{Cli, Command};
use crate::failure::{Failure, Kind};
use std::io::Write as _;

pub(crate) fn run(arguments: Cli) -> Result<(), Failure> {
    match arguments.command {
        Command::Write(arguments) => write::run(&arguments),
        Command::Query(arguments) => query::run(&arguments),
        Command::Alert(arguments) => alert::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Health(arguments) => health::run(&arguments),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man { out } => shell::man(out.as_deref()),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Simulate(command) => simulate::run(&command),
        Command::Check(arguments) => check::check(&arguments),
        Command::Dump(arguments) => check::dump(&arguments),
        Command::Salvage(arguments) => salvage::run(&arguments),
        Command::Import(source) => import::run(&source),
    }
}

/// Prints to standard output. A reader that went away (`| head`) is no failure.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let done = out
        .write_all(text.as_bytes())
        .and_then(|()| if text.ends_with('\n') { Ok(()) } else { out.write_all(b"\n") });
    match done.and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::io("print", &error)),
        Ok(()) => Ok(()),
    }
}

/// Prints `value` as one JSON document.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value);
    print(&text.map_err(|error| Failure::new(Kind::General, error.to_string()))?)
}
