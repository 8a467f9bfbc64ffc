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
    let command = Cli::command();
    let Some(folder) = folder else {
        return print(&String::from_utf8_lossy(&page(command)?));
    };
    files::create_folder(folder).map_err(|error| {
        Failure::new(Kind::CannotCreate, format!("make folder {}: {error}", folder.display()))
    })?;
    let mut pages = vec![("wattlog".to_owned(), command.clone())];
    for sub in command.get_subcommands() {
        let name = format!("wattlog-{}", sub.get_name());
        // clap keeps names for the life of the program; a page per command is a handful of them.
        let shown: &'static str = Box::leak(name.clone().into_boxed_str());
        pages.push((name, sub.clone().name(shown)));
    }
    for (name, command) in pages {
        let file = folder.join(format!("{name}.1"));
        files::write_text(&file, &page(command)?).map_err(|error| {
            Failure::new(Kind::CannotCreate, format!("write {}: {error}", file.display()))
        })?;
    }
    Ok(())
}

fn page(command: clap::Command) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut text)
        .map_err(|error| Failure::io("render the manual page", &error))?;
    Ok(text)
}
