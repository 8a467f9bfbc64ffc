//! `config check | print | default`.

use super::{print, print_json};
use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{self, DEFAULT_YAML, Surroundings};
use crate::failure::{Failure, Kind};
use serde_json::json;

pub(crate) fn run(arguments: &ConfigArgs) -> Result<(), Failure> {
    let surroundings = Surroundings::of_process(arguments.config.path.clone());
    match &arguments.command {
        ConfigCommand::Default => print(DEFAULT_YAML),
        ConfigCommand::Check { json } => match config::load(&surroundings) {
            Ok(loaded) => {
                let file = loaded.file.as_deref().map(|file| file.display().to_string());
                if *json {
                    return print_json(&json!({ "ok": true, "file": file }));
                }
                print(&format!("ok: {}", file.as_deref().unwrap_or("no file, defaults and environment")))
            }
            Err(error) if *json => {
                print_json(&json!({ "ok": false, "error": error.to_string() }))?;
                Err(Failure::silent(Kind::Config))
            }
            Err(error) => Err(Failure::new(Kind::Config, error.to_string())),
        },
        ConfigCommand::Print { json } => {
            let loaded =
                config::load(&surroundings).map_err(|e| Failure::new(Kind::Config, e.to_string()))?;
            let failed = |message| Failure::new(Kind::General, message);
            if *json {
                print_json(&loaded.masked().map_err(failed)?)
            } else {
                print(&loaded.to_yaml().map_err(failed)?)
            }
        }
    }
}
