//! `completions` and `man`: what a package installs beside the binary.

use super::print;
use crate::cli::Cli;
use crate::failure::{Failure, Kind};
use crate::files;
use clap::CommandFactory as _;
use clap_complete::Shell;
use std::path::Path;

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wattlog", &mut script);
    print(&String::from_utf8_lossy(&script))
}

pub(crate) fn man(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command())
            .render(&mut page)
            .map_err(|error| Failure::io("render the manual page", &error))?;
        return print(&String::from_utf8_lossy(&page));
    };
    // A page per command, also of those that stand below another: wattlog-config-check.1.
    let written =
        files::create_folder(folder).and_then(|()| clap_mangen::generate_to(Cli::command(), folder));
    written.map_err(|error| {
        Failure::new(Kind::CannotCreate, format!("write manual pages into {}: {error}", folder.display()))
    })
}
