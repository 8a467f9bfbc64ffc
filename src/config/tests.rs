use super::*;
use serde_json::json;

fn refused(tree: Value) -> String {
    from_tree(tree).unwrap_err().to_string()
}

#[test]
fn the_printed_default_is_the_default() {
    let tree: Value = serde_saphyr::from_str(DEFAULT_YAML).unwrap();
    // Every key of the typed tree stands in the text, so a new setting cannot be forgotten there.
    let typed = serde_json::to_value(Config::default()).unwrap();
    assert_eq!(keys(&tree, ""), keys(&typed, ""));
    assert_eq!(from_tree(tree).unwrap(), Config::default());
}

fn keys(value: &Value, path: &str) -> Vec<String> {
    let Value::Object(map) = value else { return vec![path.to_owned()] };
    let mut all: Vec<String> =
        map.iter().flat_map(|(key, value)| keys(value, &tree::child(path, key))).collect();
    all.sort();
    all
}

#[test]
fn an_empty_tree_and_empty_sections_are_the_default() {
    assert_eq!(from_tree(json!({})).unwrap(), Config::default());
    assert_eq!(
        from_tree(json!({ "server": { "limits": null }, "collector": null })).unwrap(),
        Config::default()
    );
    let named = from_tree(json!({ "databases": { "home": null } })).unwrap();
    assert_eq!(named.databases["home"], DatabaseSection::default());
}

#[test]
fn what_does_not_fit_is_named_with_its_path() {
    for (tree, start) in [
        (json!({ "sever": {} }), "sever: unknown key; known here: memory, server, engine"),
        // Sections without keys were dropped before their names were looked at.
        (json!({ "colector": null }), "colector: unknown key; known here: memory, server"),
        (json!({ "server": { "lisen": 1 } }), "server.lisen: unknown key; known here: listen, path_prefix"),
        (
            json!({ "server": { "limits": { "header_time": 75 } } }),
            "server.limits.header_time: \"75\" is no duration",
        ),
        (json!({ "server": { "limits": { "body": "many" } } }), "server.limits.body: \"many\" is no size"),
        (json!({ "server": { "listen": "localhost" } }), "server.listen: "),
        (json!({ "server": { "limits": { "connections": 0 } } }), "server.limits.connections: "),
        (json!({ "server": { "path_prefix": "x/" } }), "server.path_prefix: "),
        (json!({ "server": { "home_zone": "Mars/Olympus" } }), "server.home_zone: "),
        (json!({ "memory": "63MiB" }), "memory: at least 64MiB, or null"),
        (json!({ "engine": { "max_open_maps": 0 } }), "engine.max_open_maps: at least 1"),
        (json!({ "engine": { "wal": "1KiB" } }), "engine.wal: at least 1MiB"),
        (
            json!({ "engine": { "read_mode": "mmap" } }),
            "engine.read_mode: `mmap` is not one of auto, map, pread",
        ),
        (json!({ "databases": { "a\nb": {} } }), "databases.a\nb: a database name has 1 to 255 bytes"),
        (json!({ "server": { "default_database": "" } }), "server.default_database: "),
        (json!({ "engine": { "seal_age": "0s" } }), "engine.seal_age: at least 1m"),
        (json!({ "engine": { "data": "" } }), "engine.data: a folder is expected"),
        (json!({ "server": { "limits": { "connections": "many" } } }), "server.limits.connections: "),
        (
            json!({ "engine": { "durability": "interval 10m" } }),
            "engine.durability: `interval 10m` is neither",
        ),
        (json!({ "databases": { "a": { "durabilty": "always" } } }), "databases.a.durabilty: unknown key"),
        (
            json!({ "databases": { "a": { "retention": "30" } } }),
            "databases.a.retention: \"30\" is no retention",
        ),
        (
            json!({ "databases": { "a": { "measurements": { "m": { "retention": "47h" } } } } }),
            "databases.a.measurements.m.retention: \"47h\" is too short a retention",
        ),
        (
            json!({ "engine": { "disk_reserve": "1GiB", "disk_warning": "1MiB" } }),
            "engine.disk_warning: at least engine.disk_reserve, 1GiB",
        ),
        (
            json!({ "units": { "power": { "value": { "unit": 3, "kind": "curved" } } } }),
            "units.power.value.kind: ",
        ),
        (
            json!({ "units": { "power": { "value": { "unit": "" } } } }),
            "units.power.value.unit: 1 to 64 bytes",
        ),
        (
            json!({ "collector": { "devices": [{ "id": "a", "host": "h" }, { "id": "b", "host": "h", "famly": "et" }] } }),
            "collector.devices[1].famly: unknown key",
        ),
        (
            json!({ "collector": { "devices": [{ "id": "a" }] } }),
            "collector.devices[0].host: this key is required",
        ),
        (
            json!({ "collector": { "devices": [{ "id": "a", "host": "h", "interval": "0s" }] } }),
            "collector.devices[0].interval: ",
        ),
        (json!({ "log": { "level": "chatty=loud" } }), "log.level: "),
        (json!({ "backup": { "to": "/mnt" } }), "backup: not part of this version"),
        (json!({ "archive": null }), "archive: not part of this version"),
        (
            json!({ "ledger": { "url": "mysql://a:geheim@b/c" } }),
            "ledger.url: `mysql` names no ledger: `sqlite:FILE` or `postgresql://user@host/database` is expected",
        ),
        (json!({ "ledger": { "max_connections": 0 } }), "ledger.max_connections: 1 to 100"),
        (json!({ "ledger": { "wait": "100ms" } }), "ledger.wait: 1s to 1m"),
    ] {
        let message = refused(tree.clone());
        assert!(message.starts_with(start), "{tree}: {message}");
    }
}

#[test]
fn durability_is_a_word_or_a_word_and_a_duration() {
    for text in ["always", "interval 1s", "interval 10s"] {
        assert_eq!(text.parse::<DurabilityPolicy>().unwrap().to_string(), text);
    }
    for text in ["", "never", "interval", "interval 0s", "interval 500ms", "10s"] {
        assert!(text.parse::<DurabilityPolicy>().is_err(), "{text}");
    }
}

#[test]
fn packing_is_a_duration_or_never() {
    for text in ["never", "1s", "9600h"] {
        assert_eq!(text.parse::<PackAfter>().unwrap().to_string(), text);
    }
    for text in ["", "always", "400", "inf"] {
        assert!(text.parse::<PackAfter>().is_err(), "{text}");
    }
}

/// With `text` as the configuration file.
fn load_file(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattlog.yaml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(folder.path().join("zone"), "Europe/Warsaw\n").unwrap();
    let mut surroundings = Surroundings { config_flag: Some(file), ..Surroundings::default() };
    surroundings.environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    load(&surroundings).map(|loaded| loaded.config).map_err(|error| error.to_string())
}

#[test]
fn variables_and_references_are_read_as_what_their_key_wants() {
    let file = "collector: { devices: [{ id: a, host: h, port: \"${PORT}\" }], system_metrics: { enabled: \"${ON}\" } }";
    let variables = [
        ("PORT", "1502"),
        ("ON", "false"),
        ("ZONE", "Europe/Paris"),
        ("WATTLOG_SERVER__LISTEN", "[::1]:8470"),
        ("WATTLOG_SERVER__PATH_PREFIX", ""),
        ("WATTLOG_SERVER__HOME_ZONE", "${ZONE}"),
        ("WATTLOG_SERVER__LIMITS__CONNECTIONS", "7"),
        ("WATTLOG_ENGINE__AUTO_CREATE_DATABASES", "false"),
        ("WATTLOG_DATABASES__Home__DURABILITY", "interval 10s"),
    ];
    let config = load_file(file, &variables).unwrap();
    assert_eq!(config.collector.devices[0].port, Some(1502));
    assert!(!config.collector.system_metrics.enabled);
    assert_eq!(config.server.listen.to_string(), "[::1]:8470");
    assert_eq!(config.server.home_zone, "Europe/Paris");
    assert_eq!(config.server.limits.connections, 7);
    assert!(!config.engine.auto_create_databases);
    assert!(config.databases.contains_key("Home"));
    let from_file = load_file("", &[("WATTLOG_SERVER__HOME_ZONE", "file:zone")]).unwrap();
    assert_eq!(from_file.server.home_zone, "Europe/Warsaw");
}

#[test]
fn a_wrong_variable_is_blamed_and_not_the_file() {
    for (name, value, message) in [
        (
            "WATTLOG_SERVER__LISTEN",
            "localhost",
            "environment variable WATTLOG_SERVER__LISTEN: server.listen: ",
        ),
        (
            "WATTLOG_SERVER__LISEN",
            "x",
            "environment variable WATTLOG_SERVER__LISEN: server.lisen: unknown key",
        ),
        (
            "WATTLOG_SERVER__HOME_ZONE",
            "Mars",
            "environment variable WATTLOG_SERVER__HOME_ZONE: server.home_zone: ",
        ),
        (
            "WATTLOG_SERVER__HOME_ZONE",
            "${NO}",
            "environment variable WATTLOG_SERVER__HOME_ZONE: server.home_zone: ",
        ),
        (
            "WATTLOG_COLLECTOR__DEVICES",
            "[{id: a}]",
            "environment variable WATTLOG_COLLECTOR__DEVICES: collector.",
        ),
        ("WATTLOG_COLLECTOR__DEVICES", "[{id: a]", "environment variable WATTLOG_COLLECTOR__DEVICES: "),
    ] {
        let refused = load_file("engine: { wal: 2MiB }", &[(name, value)]).unwrap_err();
        assert!(refused.starts_with(message), "{refused}");
    }
    let refused = load_file("engine: { wal: 2 }", &[("WATTLOG_SERVER__HOME_ZONE", "UTC")]).unwrap_err();
    assert!(refused.contains("wattlog.yaml: engine.wal: "), "{refused}");
}

#[test]
fn what_print_shows_can_be_loaded_again_and_hides_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattlog.yaml");
    std::fs::write(
        &file,
        "server: { path_prefix: \"${PREFIX}\" }\ncollector: { devices: [{ id: a, host: h }] }\n",
    )
    .unwrap();
    let mut surroundings = Surroundings { config_flag: Some(file), ..Surroundings::default() };
    surroundings.environment.insert("PREFIX".into(), "/secret".into());
    let loaded = load(&surroundings).unwrap();
    assert_eq!(loaded.config.server.path_prefix, "/secret");
    let text = loaded.to_yaml().unwrap();
    assert!(text.contains("***") && !text.contains("secret"), "{text}");

    let again: Value = serde_saphyr::from_str(&text.replace("***", "/secret")).unwrap();
    assert_eq!(from_tree(again).unwrap(), loaded.config);
}

#[test]
fn secrets_that_stand_in_the_file_are_not_printed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattlog.yaml");
    let topic = "{ topic: t, measurement: m, fields: [{ field: f }] }";
    let mqtt = format!("{{ url: \"mqtt://b\", user: u, password: s3cret, topics: [{topic}] }}");
    let feeds = "{ entsoe: { token: s3cret }, nbp: { url: \"https://h/api?key=s3cret\" } }";
    std::fs::write(&file, format!("collector: {{ mqtt: {mqtt}, feeds: {feeds} }}\n")).unwrap();
    let loaded = load(&Surroundings { config_flag: Some(file), ..Surroundings::default() }).unwrap();
    let text = loaded.to_yaml().unwrap();
    assert_eq!((text.matches("***").count(), text.contains("s3cret")), (3, false), "{text}");
}
