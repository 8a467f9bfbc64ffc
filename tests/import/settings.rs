//! The optimiser's settings: a configuration that wattlog accepts, and every key told.

use crate::asked::records;
use crate::{Home, made_tree, shared, support};
use serde_json::{Value, json};
use std::fs;

pub(crate) const SETTINGS: &str = r#"
system: { timezone: Europe/Warsaw }
inverter: { vendor: goodwe, ip_address: 192.0.2.10, port: 8899, timeout: 1, retries: 3, retry_delay: 2.0, family: ET, comm_addr: 0xf7 }
coordinator: { data_collection_interval_seconds: 60, data_retention_days: 30, decision_interval_minutes: 15 }
battery_management: { capacity_kwh: 20 }
logging: { level: INFO, file: /var/log/x.log }
electricity_tariff:
  tariff_type: g12
  sc_component_pln_kwh: 0.0892
  distribution_pricing:
    g12:
      type: time_based
      peak_hours: { start: 7, end: 22 }
      off_peak_windows: [{ start: 13, end: 15 }]
      prices: { peak: 0.3566, off_peak: 0.0749 }
data_storage:
  timeseries_db: { enabled: true, type: influxdb, config: { token: "a secret", retention_policy: 30d, url: "http://anna:a%20secret@influx:8086", access_key: 20252025, passwd: [20252025] } }
  archival: { enabled: true, hot_retention_days: 7, cold_retention_days: 365 }
"#;

fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                leaves(value, &path, out);
            }
        }
        _ => out.push(path.to_owned()),
    }
}

/// The configuration that a file of settings becomes, and what the binary says of it.
fn converted(home: &Home, file: &std::path::Path) -> (Value, String) {
    let output = support::wattlog(home.path())
        .args(["import", "optimiser", "--json", "--config"])
        .arg(file)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let yaml = told["configuration"]["yaml"].as_str().unwrap().to_owned();
    (told["configuration"].clone(), yaml)
}

fn accepted(home: &Home, yaml: &str) -> Value {
    let path = home.path().join("made.yaml");
    fs::write(&path, yaml).unwrap();
    let run = |word: &str| {
        let output = support::wattlog(home.path())
            .args(["config", word, "--json", "--config"])
            .arg(&path)
            .env("DB_USERNAME", "anna")
            .env("DB_PASSWORD", "word")
            .output()
            .unwrap();
        assert!(output.status.success(), "{yaml}\n{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    run("check");
    serde_json::from_slice(&run("print")).unwrap()
}

#[test]
fn every_key_of_real_settings_is_told_and_the_result_is_accepted() {
    let Some(folder) = shared("optimiser-config") else { return };
    for name in ["plan.yaml", "2025-09-28.yaml", "2026-01-05.yaml"] {
        let home = Home::new();
        let (told, yaml) = converted(&home, &folder.join(name));
        let mut keys: Vec<String> = told["taken"].as_object().unwrap().keys().cloned().collect();
        keys.extend(
            told["not_taken"]
                .as_object()
                .unwrap()
                .values()
                .flat_map(|list| list.as_array().unwrap().iter().map(|key| key.as_str().unwrap().to_owned())),
        );
        keys.sort();
        let mut expected = Vec::new();
        let text = fs::read_to_string(folder.join(name)).unwrap();
        leaves(&parse(&text), "", &mut expected);
        expected.sort();
        assert_eq!(keys, expected, "{name}");
        assert!(expected.len() >= 28, "{name}: {}", expected.len());
        assert!(keys.iter().all(|key| yaml.contains(key.as_str())), "{name}: the comments tell every key");
        let print = accepted(&home, &yaml);
        assert_eq!(print["databases"], json!({}), "{name}: no retention is set");
        if name == "plan.yaml" {
            assert!(print["ledger"]["url"].as_str() != Some("sqlite:ledger.db"), "{print}");
        } else {
            let device = &print["collector"]["devices"][0];
            assert_eq!((device["port"].as_u64(), device["unit"].as_u64()), (Some(8899), Some(247)), "{name}");
            assert_eq!(
                (device["transport"].as_str(), device["family"].as_str()),
                (Some("udp"), Some("et")),
                "{name}"
            );
        }
    }
}

fn parse(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn settings_make_a_tariff_and_a_device_and_keep_no_secret() {
    let (tree, _) = made_tree(1);
    let home = Home::new();
    let file = home.path().join("optimiser.yaml");
    fs::write(&file, SETTINGS).unwrap();
    let out = home.path().join("new.yaml");
    let arguments =
        ["--config", file.to_str().unwrap(), "--config-out", out.to_str().unwrap(), "--device", "roof"];
    let (_, report) = home.import(tree.path(), &arguments);
    assert_eq!(report["tariff"], "g12");
    let notes = report["notes"].to_string();
    assert!(notes.contains("tariff g12 was made"), "{notes}");
    let print = accepted(&home, &fs::read_to_string(&out).unwrap());
    assert_eq!(print["server"]["home_zone"], "Europe/Warsaw");
    assert_eq!(print["collector"]["devices"][0]["id"], "roof");
    assert_eq!(print["collector"]["devices"][0]["interval"], "1m");
    let server = home.serve();
    let tariffs = records(&server, "tariffs");
    assert_eq!(tariffs.len(), 1);
    assert_eq!(
        tariffs[0]["definition"]["tariff"]["distribution"]["clock"]["zones"],
        json!({ "peak": 0.3566, "off": 0.0749 })
    );
    let kept = server.get("/api/v1/configs/optimiser");
    let text = kept.to_string();
    assert!(text.contains("***") && text.contains("http://***@influx:8086"), "{kept}");
    assert!(["a secret", "a%20secret", "20252025"].iter().all(|secret| !text.contains(secret)), "{kept}");
    assert!(server.stop().success());
    // Again: the same tariff, the same revision.
    let again = ["--config", file.to_str().unwrap(), "--device", "roof"];
    let output = home.run(tree.path(), &again);
    assert!(
        String::from_utf8_lossy(&output.stdout).starts_with("# wattlog configuration"),
        "YAML on standard output"
    );
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("prices by g12"),
        "the report on standard error"
    );
    let server = home.serve();
    assert_eq!(records(&server, "tariffs").len(), 1);
    assert_eq!(server.get("/api/v1/configs/optimiser/revisions")["records"].as_array().unwrap().len(), 1);
    assert!(server.stop().success());
    // Without the settings all files are stored anew; what these told of the battery stays.
    home.import(tree.path(), &["--again", "--device", "roof"]);
    let server = home.serve();
    let devices = server.get("/api/v1/devices")["records"].to_string();
    assert!(devices.contains("\"battery_capacity_kwh\":20"), "{devices}");
    assert!(server.stop().success());
}

#[test]
fn settings_that_are_none_are_refused_with_their_file() {
    let home = Home::new();
    let file = home.path().join("bad.yaml");
    for (text, reason) in
        [("a: [", "bad.yaml"), ("- 1\n- 2\n", "map of sections"), ("system: { timezone: Mars/X }\n", "")]
    {
        fs::write(&file, text).unwrap();
        let output = support::wattlog(home.path())
            .args(["import", "optimiser", "--config", "bad.yaml"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if reason.is_empty() {
            // A zone that nobody knows is a key without a meaning.
            assert!(
                output.status.success()
                    && String::from_utf8_lossy(&output.stdout).contains("no zone of that name"),
                "{said}"
            );
        } else {
            assert!(output.status.code() == Some(65) && said.contains(reason), "{said}");
        }
    }
    // A name with a line break stays in its comment.
    fs::write(&file, "\"a\\nlog: { level: trace }\\nb\": 1\n").unwrap();
    let output =
        support::wattlog(home.path()).args(["import", "optimiser", "--config", "bad.yaml"]).output().unwrap();
    let yaml = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        yaml.lines().all(|line| line.is_empty() || line.starts_with('#') || line.starts_with("{}")),
        "{yaml}"
    );
}
