//! Where the configuration comes from: file, then environment, then flags; secrets from the environment and from files.
//!
//! Everything here is complete before the first socket or file of a store is opened.

use super::ConfigError;
use super::tree::{PathError, child};
use crate::files;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was found outside the program, so that tests can bring their own.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) environment: BTreeMap<String, String>,
    /// `--config`.
    pub(crate) config_flag: Option<PathBuf>,
}

impl Surroundings {
    pub(crate) fn of_process(config_flag: Option<PathBuf>) -> Self {
        // Variables that are not UTF-8 are not ours.
        let environment =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        Self { environment: environment.collect(), config_flag }
    }

    fn folder(&self, xdg: &str, below_home: &str) -> Option<PathBuf> {
        let absolute = |text: &String| Some(PathBuf::from(text)).filter(|path| path.is_absolute());
        let own = self.environment.get(xdg).and_then(absolute);
        own.or_else(|| Some(self.environment.get("HOME").and_then(absolute)?.join(below_home)))
    }

    /// `$XDG_DATA_HOME/wattlog`, `~/.local/share/wattlog`, or `wattlog-data` here if there is no home.
    pub(crate) fn data_folder(&self) -> PathBuf {
        // systemd's StateDirectory= is where a service without a home keeps its data.
        if let Some(state) = self.environment.get("STATE_DIRECTORY").filter(|text| !text.is_empty()) {
            return PathBuf::from(state.split(':').next().unwrap_or(state));
        }
        self.folder("XDG_DATA_HOME", ".local/share")
            .map_or_else(|| "wattlog-data".into(), |path| path.join("wattlog"))
    }

    /// The file to read: the flag, `WATTLOG_CONFIG`, or the first that exists of `./wattlog.yaml`, XDG, `/etc`.
    fn config_file(&self) -> Option<PathBuf> {
        let named = self.config_flag.clone();
        let named = named
            .or_else(|| self.environment.get("WATTLOG_CONFIG").filter(|t| !t.is_empty()).map(PathBuf::from));
        named.or_else(|| {
            let xdg = self.folder("XDG_CONFIG_HOME", ".config").map(|path| path.join("wattlog/wattlog.yaml"));
            let places = [Some("wattlog.yaml".into()), xdg, Some("/etc/wattlog/wattlog.yaml".into())];
            places.into_iter().flatten().find(|path: &PathBuf| path.exists())
        })
    }
}

/// The merged tree, still untyped.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) tree: Value,
    pub(super) origins: Origins,
    /// Paths whose values came from `${NAME}` or `file:`; printed as `***`.
    pub(super) secret_paths: BTreeSet<String>,
}

/// Who said what.
#[derive(Debug)]
pub(super) struct Origins {
    pub(super) file: Option<PathBuf>,
    /// Path of a value and the variable that set it.
    variables: Vec<(String, String)>,
}

impl Origins {
    /// The error with the file or the variable that is to be mended.
    pub(super) fn blame(&self, error: PathError) -> ConfigError {
        let path = error.path().unwrap_or_default();
        let sets = |set: &str| {
            path.strip_prefix(set).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let variable = self.variables.iter().find(|(set, _)| sets(set));
        match (variable, &self.file) {
            (Some((_, name)), _) => {
                ConfigError::WrongIn { place: format!("environment variable {name}"), error }
            }
            (None, Some(file)) => ConfigError::WrongIn { place: file.display().to_string(), error },
            (None, None) => ConfigError::Wrong { error },
        }
    }
}

pub(super) fn gather(surroundings: &Surroundings) -> Result<Gathered, ConfigError> {
    let file = surroundings.config_file();
    let mut tree = match &file {
        None => Value::Object(Map::new()),
        Some(path) => {
            let text = files::read_text(path)
                .map_err(|source| ConfigError::Unreadable { file: path.display().to_string(), source })?;
            parse(&text)
                .map_err(|message| ConfigError::NotYaml { file: path.display().to_string(), message })?
        }
    };
    let base = file.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let variables = overlay(&mut tree, &surroundings.environment)?;
    let origins = Origins { file, variables };
    let mut secret_paths = BTreeSet::new();
    expand(&mut tree, "", surroundings, &base, &mut secret_paths).map_err(|error| origins.blame(error))?;
    Ok(Gathered { tree, origins, secret_paths })
}

/// A YAML document as a tree; an empty one is an empty map.
pub(super) fn parse(text: &str) -> Result<Value, String> {
    match serde_saphyr::from_str::<Option<Value>>(text) {
        Ok(None | Some(Value::Null)) => Ok(Value::Object(Map::new())),
        Ok(Some(tree @ Value::Object(_))) => Ok(tree),
        Ok(Some(_)) => Err("a map of sections is expected at the top".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// Puts `WATTLOG_SECTION__KEY=value` over the tree; gives back which variable set which path.
fn overlay(
    tree: &mut Value,
    environment: &BTreeMap<String, String>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut set = Vec::new();
    for (name, text) in environment {
        let Some(keys) = name.strip_prefix("WATTLOG_").filter(|rest| rest.contains("__")) else { continue };
        let value = value_of(text).map_err(|message| ConfigError::NotYaml {
            file: format!("environment variable {name}"),
            message,
        })?;
        let (mut place, mut path) = (&mut *tree, String::new());
        for key in keys.split("__") {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            let Value::Object(map) = place else { continue };
            let key = key_of(key, map);
            path = child(&path, &key);
            place = map.entry(key).or_insert(Value::Null);
        }
        *place = value;
        set.push((path, name.clone()));
    }
    Ok(set)
}

/// The text as it stands (the key knows whether it is a number), unless it is a list or a map in YAML's short form.
fn value_of(text: &str) -> Result<Value, String> {
    let trimmed = text.trim();
    let is_short_form =
        [('[', ']'), ('{', '}')].iter().any(|(a, z)| trimmed.starts_with(*a) && trimmed.ends_with(*z));
    if is_short_form {
        return serde_saphyr::from_str(trimmed).map_err(|error| error.to_string());
    }
    Ok(Value::String(text.to_owned()))
}

/// Variables are written in capitals and our keys are not; a name that somebody gave (`Home`) stands as it is, and one in
/// capitals too if the tree has it.
fn key_of(written: &str, map: &Map<String, Value>) -> String {
    let is_capitals = !written.chars().any(char::is_lowercase);
    if is_capitals && !map.contains_key(written) { written.to_lowercase() } else { written.to_owned() }
}

/// Replaces `${NAME}` anywhere in a text, and a text that is `file:PATH` by what the file holds (without the last line break).
fn expand(
    value: &mut Value,
    path: &str,
    surroundings: &Surroundings,
    base: &Path,
    secrets: &mut BTreeSet<String>,
) -> Result<(), PathError> {
    match value {
        Value::Object(map) => map
            .iter_mut()
            .try_for_each(|(key, value)| expand(value, &child(path, key), surroundings, base, secrets)),
        Value::Array(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(i, value)| expand(value, &format!("{path}[{i}]"), surroundings, base, secrets)),
        Value::String(text) => {
            let expanded = match text.strip_prefix("file:") {
                Some(name) => Some(read_secret(name, path, surroundings, base)?),
                None if text.contains("${") => Some(substitute(text, path, &surroundings.environment)?),
                None => None,
            };
            if let Some(expanded) = expanded {
                *text = expanded;
                secrets.insert(path.to_owned());
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// Puts a word for every `${NAME}` and `file:PATH`, where only the form of the rest counts.
pub(super) fn fill_in(value: &mut Value) {
    match value {
        Value::Object(map) => map.values_mut().for_each(fill_in),
        Value::Array(items) => items.iter_mut().for_each(fill_in),
        Value::String(text) if text.starts_with("file:") => "word".clone_into(text),
        Value::String(text) => {
            while let Some(start) = text.find("${") {
                let Some(len) = text[start..].find('}') else { return };
                text.replace_range(start..=start + len, "word");
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn read_secret(
    name: &str,
    path: &str,
    surroundings: &Surroundings,
    base: &Path,
) -> Result<String, PathError> {
    // systemd hands credentials over in a folder of their own; elsewhere a relative path starts at the configuration file.
    let credentials =
        surroundings.environment.get("CREDENTIALS_DIRECTORY").map(|folder| Path::new(folder).join(name));
    let file = credentials.filter(|file| file.exists()).unwrap_or_else(|| base.join(name));
    let text = files::read_text(&file)
        .map_err(|error| PathError::at(path, format!("read secret {}: {error}", file.display())))?;
    Ok(text.strip_suffix('\n').map_or(text.as_str(), |t| t.strip_suffix('\r').unwrap_or(t)).to_owned())
}

fn substitute(text: &str, path: &str, environment: &BTreeMap<String, String>) -> Result<String, PathError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        out.push_str(&rest[..start]);
        let after = &rest[start + 2..];
        let end = after.find('}').ok_or_else(|| PathError::at(path, "`${` without its `}`"))?;
        let name = &after[..end];
        let value = environment.get(name);
        out.push_str(
            value.ok_or_else(|| PathError::at(path, format!("environment variable {name} is not set")))?,
        );
        rest = &after[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let mut tree = json!({
            "server": { "listen": "127.0.0.1:1", "limits": { "connections": 3 } },
            "databases": { "GARAGE": null },
        });
        let vars = environment(&[
            ("WATTLOG_SERVER__LISTEN", "[::1]:8470"),
            ("WATTLOG_SERVER__PATH_PREFIX", ""),
            ("WATTLOG_SERVER__LIMITS__CONNECTIONS", "7"),
            ("WATTLOG_DATABASES__Home__DURABILITY", "interval 10s"),
            ("WATTLOG_DATABASES__GARAGE__DURABILITY", "always"),
            ("WATTLOG_COLLECTOR__DEVICES", "[{id: a, host: 10.0.0.1}]"),
            ("WATTLOG_CONFIG", "ignored: it has no section"),
            ("OTHER__THING", "x"),
        ]);
        overlay(&mut tree, &vars).unwrap();
        assert_eq!(
            tree,
            json!({
                "server": { "listen": "[::1]:8470", "path_prefix": "", "limits": { "connections": "7" } },
                "databases": { "Home": { "durability": "interval 10s" }, "GARAGE": { "durability": "always" } },
                "collector": { "devices": [{ "id": "a", "host": "10.0.0.1" }] },
            })
        );
    }

    #[test]
    fn secrets_come_from_the_environment_and_from_files() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
        let surroundings =
            Surroundings { environment: environment(&[("HOST", "inverter.lan")]), config_flag: None };
        let mut tree = json!({ "a": "file:token", "b": ["http://${HOST}:502"], "c": "plain $HOST" });
        let mut secrets = BTreeSet::new();
        expand(&mut tree, "", &surroundings, folder.path(), &mut secrets).unwrap();
        assert_eq!(tree, json!({ "a": "s3cret", "b": ["http://inverter.lan:502"], "c": "plain $HOST" }));
        assert_eq!(secrets.into_iter().collect::<Vec<_>>(), ["a", "b[0]"]);

        for (bad, message) in [
            (json!({ "x": "${NOPE}" }), "x: environment variable NOPE is not set"),
            (json!({ "x": "${NOPE" }), "x: `${` without its `}`"),
        ] {
            let mut tree = bad;
            let error =
                expand(&mut tree, "", &surroundings, folder.path(), &mut BTreeSet::new()).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn the_flag_comes_before_the_variable_and_a_state_folder_before_the_home() {
        let mut surroundings = Surroundings {
            environment: environment(&[("WATTLOG_CONFIG", "/b.yaml"), ("HOME", "/home/u")]),
            config_flag: Some("/a.yaml".into()),
        };
        assert_eq!(surroundings.config_file(), Some("/a.yaml".into()));
        surroundings.config_flag = None;
        assert_eq!(surroundings.config_file(), Some("/b.yaml".into()));
        assert_eq!(surroundings.data_folder(), PathBuf::from("/home/u/.local/share/wattlog"));
        surroundings.environment.insert("XDG_DATA_HOME".into(), "/data".into());
        assert_eq!(surroundings.data_folder(), PathBuf::from("/data/wattlog"));
        surroundings.environment.insert("STATE_DIRECTORY".into(), "/var/lib/wattlog".into());
        assert_eq!(surroundings.data_folder(), PathBuf::from("/var/lib/wattlog"));
    }
}
