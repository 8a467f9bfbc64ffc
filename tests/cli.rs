//! Every command of the real binary: what it prints, which exit code it leaves with, and what it refuses.

mod support;

use serde_json::Value;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use support::{Server, lines, wait, wattlog};

const QUIET: &str = "collector: { system_metrics: { enabled: false } }";

fn run(folder: &Path, arguments: &[&str]) -> Output {
    wattlog(folder).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn run_with_input(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = wattlog(folder)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    assert!(output.status.success(), "{:?}\n{}{}", output.status, out(output), err(output));
    out(output)
}

#[track_caller]
fn fails(output: &Output, code: i32, message: &str) {
    assert_eq!(output.status.code(), Some(code), "{}{}", out(output), err(output));
    let said = out(output) + &err(output);
    assert!(said.contains(message), "{message:?} is not in {said:?}");
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
}

#[test]
fn help_version_completions_and_manual() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(succeeds(&run(folder, &["--help"])).contains("simulate"));
    assert!(succeeds(&run(folder, &["--version"])).starts_with("wattlog "));
    fails(&run(folder, &[]), 2, "Usage");
    fails(&run(folder, &["frobnicate"]), 2, "unrecognized subcommand");
    for shell in ["bash", "zsh", "fish"] {
        assert!(succeeds(&run(folder, &["completions", shell])).contains("wattlog"), "{shell}");
    }
    assert!(succeeds(&run(folder, &["man"])).contains(".TH wattlog"));
    succeeds(&run(folder, &["man", "--out", "man"]));
    assert!(fs::read_to_string(folder.join("man/wattlog-serve.1")).unwrap().contains("insecure"));
    for nested in ["wattlog-config-check.1", "wattlog-simulate-goodwe.1"] {
        assert!(folder.join("man").join(nested).is_file(), "{nested}");
    }
    for command in [&["demo"][..], &["query"], &["write"], &["check", "."]] {
        let flagged = [command, &["--config", "wattlog.yaml"]].concat();
        fails(&run(folder, &flagged), 2, "unexpected argument '--config'");
    }
}

#[test]
fn configuration_is_checked_printed_and_explained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let default = succeeds(&run(folder, &["config", "default"]));
    fs::write(folder.join("wattlog.yaml"), &default).unwrap();
    assert!(succeeds(&run(folder, &["config", "check"])).contains("ok: wattlog.yaml"));
    let printed: Value =
        serde_json::from_str(&succeeds(&run(folder, &["config", "print", "--json"]))).unwrap();
    assert_eq!(printed["server"]["listen"], "127.0.0.1:8470");

    let with_env = wattlog(folder)
        .args(["config", "print"])
        .env("WATTLOG_SERVER__LISTEN", "127.0.0.1:9")
        .env("WATTLOG_ENGINE__SEAL_AGE", "2h")
        .output()
        .unwrap();
    let text = succeeds(&with_env);
    assert!(text.contains("127.0.0.1:9") && text.contains("seal_age: 2h"), "{text}");

    for (yaml, message) in [
        ("server: { lisen: x }", "server.lisen: unknown key"),
        ("server: { limits: { query_time: 10 } }", "server.limits.query_time: \"10\" is no duration"),
        ("archive: {}", "archive: not part of this version"),
        ("server: [", "bad.yaml"),
        ("collector: { devices: [{ id: a, host: h, interval: 1ms }] }", "collector.devices[0].interval"),
    ] {
        fs::write(folder.join("bad.yaml"), yaml).unwrap();
        fails(&run(folder, &["config", "check", "--config", "bad.yaml"]), 78, message);
        let json = run(folder, &["config", "check", "--json", "--config", "bad.yaml"]);
        assert_eq!(json.status.code(), Some(78));
        assert_eq!(serde_json::from_str::<Value>(&out(&json)).unwrap()["ok"], false);
        fails(&run(folder, &["serve", "--config", "bad.yaml"]), 78, message);
    }
    fails(&run(folder, &["config", "check", "--config", "none.yaml"]), 78, "none.yaml");
}

#[test]
fn serve_says_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    fails(&run(folder, &["serve", "--listen", "0.0.0.0:0", "--data", "d"]), 77, "--insecure");
    assert!(!folder.join("d").exists(), "nothing is made before the address is accepted");
    for (word, code) in [("1", 73), ("yes", 73), ("0", 77), ("", 77)] {
        // Refused later, for the folder, if the address is accepted.
        fs::write(folder.join("blocked"), "").unwrap();
        let output = wattlog(folder)
            .args(["serve", "--listen", "0.0.0.0:0", "--data", "blocked/below"])
            .env("WATTLOG_INSECURE", word)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(code), "WATTLOG_INSECURE={word}: {}", err(&output));
    }

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fails(&run(folder, &["serve", "--listen", &address, "--data", "d"]), 69, &address);

    fs::write(folder.join("file"), "").unwrap();
    fails(&run(folder, &["serve", "--listen", "127.0.0.1:0", "--data", "file/below"]), 73, "file/below");

    let server = Server::start(&folder.join("data"), QUIET);
    let second = run(folder, &["serve", "--listen", "127.0.0.1:0", "--data", "data"]);
    fails(&second, 75, &format!("{}", server.pid()));
    assert!(server.stop().success());
}

#[test]
fn write_query_and_health_talk_to_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"), QUIET);
    let (folder, url) = (folder.path(), server.url());
    let url = url.as_str();

    assert!(succeeds(&run(folder, &["health", "--url", url])).starts_with("pass"));
    assert!(succeeds(&run(folder, &["health", "--ready", "--json", "--url", url])).contains("ready"));

    let body =
        "power,phase=l1 value=230.5,on=true 1772359200\npower,phase=l2 value=0,note=\"a\nb\" 1772359200\n";
    let written = run_with_input(folder, &["write", "--precision", "s", "--url", url], body);
    assert_eq!(succeeds(&written).trim(), "2 lines stored");
    let many: String =
        (0..1_000).map(|line| format!("pace,phase=l3 value={line} {}\n", 1_772_359_300 + line)).collect();
    let written = run_with_input(folder, &["write", "--db", "pace", "--precision", "s", "--url", url], &many);
    let told = succeeds(&written);
    assert!(told.starts_with("1000 lines stored in ") && told.trim().ends_with(" a second)"), "{told}");
    let csv = "time,device_id,pv_power,mode\n2026-03-01T10:00:00Z,roof,1500.5,sun\n2026-03-01T10:00:10Z,roof,,night\n";
    fs::write(folder.join("in.csv"), csv).unwrap();
    let flags = ["write", "in.csv", "--measurement", "energy_data", "--tags", "device_id", "--url", url];
    assert_eq!(succeeds(&run(folder, &flags)).trim(), "2 lines stored");
    fs::write(folder.join("gaps.csv"), "time,pv_power\n2026-03-01T10:00:20Z,\n").unwrap();
    let gaps = ["write", "gaps.csv", "--measurement", "energy_data", "--url", url];
    assert_eq!(succeeds(&run(folder, &gaps)).trim(), "0 lines stored, 1 rows without values left out");
    let too_long = format!("m s=\"{}\" 1", "x".repeat(40 << 20));
    fails(&run_with_input(folder, &["write", "--url", url], &too_long), 65, "--body-lines");

    let refused =
        run_with_input(folder, &["write", "--url", url], "power value=\"text\" 1\nother v=1 1\nrubbish\n");
    fails(&refused, 65, "partial write");
    fails(&run(folder, &["write", "missing.lp", "--url", url]), 74, "missing.lp");

    let names = succeeds(&run(folder, &["query", "--url", url]));
    assert_eq!(names.lines().collect::<Vec<_>>(), ["energy_data", "other", "power"]);
    let names = succeeds(&run(folder, &["query", "--format", "csv", "--url", url]));
    assert_eq!(names.lines().collect::<Vec<_>>(), ["measurement", "energy_data", "other", "power"]);
    fails(&run(folder, &["query", "--format", "plot", "--url", url]), 2, "a plot needs a measurement");
    fails(&run(folder, &["query", "m", "--db", "nowhere", "--url", url]), 2, "nowhere");
    let range = ["--start", "2026-03-01T00:00:00Z", "--end", "2026-03-02T00:00:00Z", "--url", url];
    let query = |more: &[&str]| run(folder, &[&["query"], more, &range].concat());
    let table = succeeds(&query(&["energy_data"]));
    assert!(table.starts_with("energy_data device_id=roof\ntime"), "{table}");
    assert!(table.contains("2026-03-01T10:00:10Z") && table.contains("1500.5"), "{table}");
    let csv = succeeds(&query(&["energy_data", "--fields", "pv_power", "--format", "csv"]));
    assert!(csv.contains("pv_power") && csv.contains("1500.5"), "{csv}");
    let json =
        succeeds(&query(&["power", "--fields", "value", "--every", "1h", "--fn", "mean,count", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["series"][0]["columns"][1], "value_mean");
    assert_eq!(json["series"][0]["values"][1][0], 115.25);
    let tagged = succeeds(&query(&["power", "--tag", "phase=!l1", "--fields", "value"]));
    assert!(tagged.contains("phase=l2") && !tagged.contains("phase=l1"), "{tagged}");
    assert!(succeeds(&query(&["power", "--fields", "value", "--format", "plot"])).contains('\u{2800}'));
    assert!(err(&query(&["nothing_here"])).contains("no points"));
    let last = succeeds(&run(folder, &["query", "energy_data", "--last", "--url", url]));
    assert!(last.contains("night") && last.contains("1500.5"), "{last}");
    fails(&query(&["power", "--every", "soon", "--fn", "mean"]), 2, "every");

    assert!(server.stop().success());
    fails(&run(folder, &["health", "--url", url]), 69, "refused");
    fails(&run(folder, &["query", "power", "--url", url]), 69, "refused");
    fails(&run(folder, &["health", "--url", "https://box"]), 2, "only http");
}

#[test]
fn check_finds_damage_and_dump_names_the_parts() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let folder = folder.path();
    let server = Server::start(&data, QUIET);
    let body: String = (0..2000).map(|i| format!("m,t=a v={i}.5,n={i}i {}\n", 1_772_359_200 + i)).collect();
    assert_eq!(server.post("/write?db=d&precision=s", body.as_bytes()).0, 204);
    assert_eq!(server.post("/api/v1/admin/seal", b"").0, 200);
    assert_eq!(server.post("/write?db=d&precision=s", b"m,t=a v=1 1").0, 204);
    assert!(server.stop().success());

    succeeds(&run(folder, &["check", "data"]));
    let json: Value = serde_json::from_str(&succeeds(&run(folder, &["check", "data", "--json"]))).unwrap();
    assert!(json.is_object(), "{json}");
    let mut segment = None;
    for kind in ["segments", "wal", "catalog", "manifest"] {
        let file = fs::read_dir(data.join(kind)).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
        let text = succeeds(&run(folder, &["dump", file.to_str().unwrap()]));
        assert!(text.contains("magic") || text.contains("header"), "{kind}: {text}");
        let json = succeeds(&run(folder, &["dump", "--json", file.to_str().unwrap()]));
        serde_json::from_str::<Value>(&json).unwrap();
        segment = segment.or(Some(file));
    }

    // One bit in the middle of the segment.
    let segment = segment.unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&segment, &bytes).unwrap();
    let name = segment.file_name().unwrap().to_str().unwrap().to_owned();
    fails(&run(folder, &["check", "data"]), 65, &name);
    let json = run(folder, &["check", "data", "--json"]);
    assert_eq!(json.status.code(), Some(65));
    assert!(out(&json).contains(&name));

    // The whole file is gone: no other file tells of it.
    fs::remove_file(&segment).unwrap();
    fails(&run(folder, &["check", "data"]), 65, &format!("MISSING  segments/{name}"));
    let json = run(folder, &["check", "data", "--json"]);
    let json: Value = serde_json::from_str(&out(&json)).unwrap();
    assert_eq!(json["between"][0]["file"], format!("segments/{name}"));

    fs::write(folder.join("rubbish"), [7; 5000]).unwrap();
    fails(&run(folder, &["dump", "rubbish"]), 65, "rubbish");
    fails(&run(folder, &["dump", "nothing"]), 74, "nothing");
    fails(&run(folder, &["check", "nothing"]), 74, "nothing");
}

/// A store of every type, with names that have to be escaped; sealed but for one point.
fn store_of_all_types(folder: &Path) -> Vec<(&'static str, Value)> {
    let server = Server::start(&folder.join("data"), QUIET);
    let mut body = String::new();
    for i in 0..3000_i64 {
        let time = 1_772_359_200 + i;
        body += &format!(
            "m\\,\\ x,t\\=g=a\\ b f={:?},i={}i,u={}u,b={},s=\"q\\\"{i}\\\\ {}\" {time}\n",
            (i * 7919 % 5003) as f64 / 7.0,
            i - 1500,
            u64::MAX - i.unsigned_abs(),
            i % 3 == 0,
            if i % 2 == 0 { "line\nbreak" } else { "eco" },
        );
    }
    assert_eq!(server.post("/write?db=d&precision=s", body.as_bytes()).0, 204);
    assert_eq!(server.post("/api/v1/admin/seal", b"").0, 200);
    // Written once more, deleted, and only in the log.
    assert_eq!(server.post("/write?db=d&precision=s", b"m\\,\\ x,t\\=g=a\\ b f=-0.5 1772359300").0, 204);
    let day = "start=1772359250s&end=1772359260s";
    assert_eq!(server.post(&format!("/api/v1/delete?db=d&measurement=m,%20x&{day}"), b"").0, 200);
    let whole = answers(&server);
    assert!(server.stop().success());
    whole
}

fn answers(server: &Server) -> Vec<(&'static str, Value)> {
    let ask = |field: &'static str| {
        let target = format!(
            "/api/v1/query?db=d&measurement=m,%20x&start=1772359200s&end=1772369200s&time_format=ns&fields={field}"
        );
        let mut answer = server.get(&target);
        answer.as_object_mut().unwrap().retain(|key, _| key == "series" || key == "partial");
        (field, answer)
    };
    ["f", "i", "u", "b", "s"].map(ask).into()
}

#[test]
fn salvage_gives_everything_back_through_an_import() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = store_of_all_types(folder);
    let output = run(folder, &["salvage", "data", "--out", "d.lp"]);
    succeeds(&output);
    assert!(err(&output).contains("whole"), "{}", err(&output));
    fails(&run(folder, &["salvage", "data", "--out", "d.lp"]), 73, "d.lp");
    fails(&run(folder, &["salvage", "data", "--out", "data/x.lp"]), 2, "must not lie in the store");
    fails(&run(folder, &["salvage", "data", "--db", "nope"]), 2, "there are: d");
    fails(&run(folder, &["salvage", "nothing"]), 2, "no such folder");
    fs::create_dir(folder.join("empty")).unwrap();
    fails(&run(folder, &["salvage", "empty"]), 74, "no file here says that it is of a store");
    let csv = succeeds(&run(folder, &["salvage", "data", "--format", "csv"]));
    assert!(
        csv.starts_with("time,database,retention_policy,measurement,tags,field,type,value\n"),
        "{csv:.200}"
    );
    assert!(
        csv.contains("1772359200000000000,d,autogen,\"m, x\",t\\=g=a b,u,unsigned,18446744073709551615\n")
    );

    let import = |name: &str, lines: &str| {
        let server = Server::start(&folder.join(name), QUIET);
        let url = server.url();
        succeeds(&run(folder, &["write", lines, "--db", "d", "--url", &url]));
        let back = answers(&server);
        assert!(server.stop().success());
        back
    };
    assert_eq!(import("again", "d.lp"), whole);

    // One bit of a block, and the footer of the segment, the manifest and the catalog are gone.
    let data = folder.join("data");
    let segments = fs::read_dir(data.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[5000] ^= 4;
    bytes.truncate(bytes.len() - 90);
    fs::write(&segment, &bytes).unwrap();
    fs::remove_dir_all(data.join("manifest")).unwrap();
    fs::remove_dir_all(data.join("catalog")).unwrap();
    let output = run(folder, &["salvage", "data", "--out", "rest.lp"]);
    fails(&output, 65, "lost: m, x ");
    let rest = import("rest", "rest.lp");
    let same = whole.iter().zip(&rest).filter(|(a, b)| a == b).count();
    assert_eq!(same, 4, "one block is of one field");
}

#[test]
fn repair_is_refused_while_the_store_is_open_and_says_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let whole = store_of_all_types(folder);
    let data = folder.join("data");
    let text = succeeds(&run(folder, &["check", "data", "--repair"]));
    assert!(text.contains("nothing had to be repaired"), "{text}");
    let segment = fs::read_dir(data.join("segments")).unwrap().map(|e| e.unwrap().path()).max().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    fails(&run(folder, &["check", "data"]), 65, "DAMAGED");

    let server = Server::start(&data, QUIET);
    fails(&run(folder, &["check", "data", "--repair"]), 75, "in use");
    server.kill();

    let text = succeeds(&run(folder, &["check", "data", "--repair"]));
    assert!(text.contains("written anew") && text.contains("nothing is lost"), "{text}");
    let json = succeeds(&run(folder, &["check", "data", "--repair", "--json"]));
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["lost"], &json["done"]), (&Value::Bool(false), &Value::Array(Vec::new())));
    let server = Server::start(&data, QUIET);
    assert_eq!(answers(&server), whole);
    assert!(server.stop().success());
}

#[test]
fn check_tells_a_torn_end_from_damage() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start(&data, QUIET);
    for body in [b"m v=1 1", b"m v=2 2"] {
        assert_eq!(server.post("/write?db=d", body).0, 204);
    }
    server.kill();
    // The last byte of the last record did not reach the disk.
    let log = fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.set_len(fs::metadata(&log).unwrap().len() - 1).unwrap();
    let text = succeeds(&run(folder.path(), &["check", "data"]));
    assert!(text.contains("torn write from byte "), "{text}");
    let json: Value =
        serde_json::from_str(&succeeds(&run(folder.path(), &["check", "data", "--json"]))).unwrap();
    let torn = json["files"].as_array().unwrap().iter().filter(|file| file["torn_at"].is_u64()).count();
    assert_eq!((torn, &json["whole"]), (1, &Value::Bool(true)));
}

#[test]
fn a_reload_changes_devices_and_durability_and_refuses_nonsense() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattlog.yaml");
    let mut server = Server::start(&folder.path().join("data"), QUIET);
    assert_eq!(server.get("/api/v1/devices")["devices"].as_array().map(Vec::len), Some(0));

    fs::write(
        &file,
        "log: { level: debug }\ndatabases: { home: { durability: interval 10s } }\ncollector: { system_metrics: { enabled: \
         false }, devices: [{ id: ghost, host: 127.0.0.1, port: 1 }] }\nserver: { limits: { concurrent_queries: 3 } }\n",
    )
    .unwrap();
    server.signal("HUP");
    let line = server.wait_for("reloaded");
    assert_eq!(line["restart_needed"], "server.limits.concurrent_queries");
    server.until("the new device", |server| server.get("/api/v1/devices")["devices"][0]["id"] == "ghost");

    fs::write(&file, "collector: { devices: 7 }").unwrap();
    server.signal("HUP");
    server.wait_for("the configuration is refused, the former one stays");
    assert_eq!(server.get("/api/v1/devices")["devices"][0]["id"], "ghost");
    server.kill();
}

#[test]
fn a_reload_names_what_needs_a_restart_until_there_is_one() {
    // The second reload compared with the first one and said that nothing was left to do.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wattlog.yaml");
    let mut server = Server::start(&folder.path().join("data"), QUIET);
    for _ in 0..2 {
        fs::write(
            &file,
            "collector: { system_metrics: { enabled: false } }\nserver: { home_zone: Europe/Warsaw }\n",
        )
        .unwrap();
        server.signal("HUP");
        assert_eq!(server.wait_for("reloaded")["restart_needed"], "server.home_zone");
    }
    fs::write(&file, QUIET).unwrap();
    server.signal("HUP");
    assert_eq!(server.wait_for("reloaded")["restart_needed"], "");
    assert!(server.stop().success());
}

#[test]
fn the_collector_writes_to_the_default_database_also_where_writing_makes_none() {
    // Its database had a fixed name that nobody made: every point was refused for good.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(
        &folder.path().join("data"),
        "server: { default_database: home }\nengine: { auto_create_databases: false }\ncollector: { system_metrics: { \
         interval: 1s } }\n",
    );
    server.until("a point of the machine's own", |server| {
        let asked = server.try_get("/api/v1/measurements?db=home");
        asked.is_some_and(|(status, body)| status == 200 && body.contains("system_metrics"))
    });
    assert_eq!(server.post("/write?db=other", b"m v=1").0, 404);
    assert!(server.stop().success());
}

#[test]
fn a_stop_is_heard_while_the_store_is_being_opened() {
    // TERM did nothing until the whole log was replayed, and the service manager killed the process.
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Server::start(&data, QUIET).stop();
    // Reading a pipe that nobody writes to never ends.
    let log = fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    fs::remove_file(&log).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&log).status().unwrap().success());
    let mut child = wattlog(folder.path())
        .args(["serve", "--listen", "127.0.0.1:0", "--log-level", "info", "--data"])
        .arg(&data)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = lines(child.stderr.take().unwrap());
    let listening = log.iter().find(|line| line.contains("listening")).expect("it listens before it opens");
    let address = serde_json::from_str::<Value>(&listening).unwrap()["address"].as_str().unwrap().to_owned();
    assert_eq!(support::request(&address, "GET", "/ready", b"").unwrap().0, 503);
    signal(&child, "TERM");
    assert!(wait(&mut child).success());
    assert!(log.iter().any(|line| line.contains("stopped before the store was open")));
}

#[test]
fn the_simulator_prints_where_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = wattlog(folder.path())
        .args(["simulate", "goodwe", "--live", "--listen", "127.0.0.1:0", "--udp", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stdout.take().unwrap());
    let line = |said: &std::sync::mpsc::Receiver<String>| said.recv_timeout(support::PATIENCE).unwrap();
    assert!(line(&said).starts_with("modbus tcp 127.0.0.1:"));
    assert!(line(&said).starts_with("udp 127.0.0.1:"));
    signal(&child, "TERM");
    assert!(wait(&mut child).success());
    fails(&run(folder.path(), &["simulate", "goodwe", "--fault", "noise"]), 2, "noise");
    fails(&run(folder.path(), &["simulate", "goodwe", "--captures", "nowhere"]), 65, "nowhere");
}

#[test]
fn the_demo_is_reproducible_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let demo = || {
        let output = wattlog(folder.path())
            .args([
                "demo",
                "--exit-after",
                "1s",
                "--days",
                "1",
                "--seed",
                "5",
                "--now",
                "2026-06-15T12:00:00.000000001Z",
            ])
            .args(["--frozen", "--listen", "127.0.0.1:0"])
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(err(&output), "", "nothing to warn of, no step of the clock");
        succeeds(&output)
    };
    let (first, second) = (demo(), demo());
    let answer = |text: &str| {
        let line =
            text.lines().find(|line| line.contains("\"series\"")).expect("an answer of the last values");
        serde_json::from_str::<Value>(line).unwrap()["series"].clone()
    };
    assert_eq!(answer(&first), answer(&second));
    assert!(answer(&first)[0]["values"][1][0].is_number(), "{first}");
    assert_eq!(first.matches("$ curl ").count(), 7, "{first}");
    assert!(first.contains("prices: 96 quarters of an hour"), "{first}");
    let told = |path: &str| {
        let mut rest = first.lines().skip_while(|line| !line.contains(path));
        rest.nth(1).unwrap_or_else(|| panic!("{path}: {first}")).to_owned()
    };
    assert!(told("/api/v1/energy").contains("\"priced_kwh\""), "{first}");
    assert!(told("/api/v1/sessions").contains("\"origin\":\"detected\""), "{first}");
    assert!(told("/api/v1/quality").contains("\"accuracy\""), "{first}");
    let alerts = told("/api/v1/alerts/events");
    assert_eq!(alerts.matches("\"state\":\"firing\"").count(), 1, "{alerts}");
    assert!(first.contains("8640 points"), "{first}");
    assert!(first.contains("1 live points answered back"), "{first}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the demo's folder is gone");
    fails(&run(folder.path(), &["demo", "--listen", "0.0.0.0:0"]), 77, "loopback");
    for interval in ["0s", "500ms", "11m"] {
        fails(&run(folder.path(), &["demo", "--interval", interval]), 2, "outside 1s..10m");
    }
    // A store of somebody's own takes no invented points.
    fs::create_dir_all(folder.path().join("store/wal")).unwrap();
    fails(&run(folder.path(), &["demo", "--data", "store"]), 2, "neither empty nor a former demo");
    assert_eq!(fs::read_dir(folder.path().join("store")).unwrap().count(), 1, "nothing was touched");
}

#[test]
fn a_demo_goes_on_in_the_folder_of_a_former_one() {
    // Tariffs of the first were in the way of the second.
    let folder = tempfile::tempdir().unwrap();
    for (now, prices) in [("2026-06-15T12:00:00Z", 96), ("2026-06-18T12:00:00Z", 4 * 96)] {
        let output = wattlog(folder.path())
            .args(["demo", "--exit-after", "1s", "--days", "1", "--seed", "5", "--now", now, "--frozen"])
            .args(["--data", "kept", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = succeeds(&output);
        assert!(said.contains(&format!("prices: {prices} quarters of an hour")), "{said}");
    }
}

#[test]
fn the_example_of_the_readme_is_what_the_demo_answers() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let example = readme.split("$ wattlog demo ").nth(1).unwrap().split("```").next().unwrap();
    let (flags, rest) = example.split_once("\n$ curl 'http://127.0.0.1:8470").unwrap();
    let (target, expected) = rest.split_once("'\n").unwrap();

    let folder = tempfile::tempdir().unwrap();
    let mut child = wattlog(folder.path())
        .args(["demo", "--listen", "127.0.0.1:0"])
        .args(flags.split(' '))
        .env("TMPDIR", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stdout.take().unwrap());
    let live = said.iter().find_map(|line| line.strip_prefix("live: http://").map(str::to_owned));
    let address = live.as_deref().and_then(|rest| rest.split_whitespace().next()).expect("an address");
    let (status, answer) = support::request(address, "GET", target, b"").unwrap();
    signal(&child, "INT");
    assert_eq!((status, answer.as_str()), (200, expected));
    // Its output is read to the end, so that it never waits for us.
    said.iter().for_each(drop);
    assert!(wait(&mut child).success());
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    // Ctrl-C during the history was swallowed, and the next one left the temporary folder.
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join("tmp");
    fs::create_dir(&temporary).unwrap();
    let mut child = wattlog(folder.path())
        .args(["demo", "--days", "3650", "--listen", "127.0.0.1:0"])
        .env("TMPDIR", &temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = lines(child.stdout.take().unwrap());
    assert!(said.iter().any(|line| line.starts_with("data: ")), "the history begins");
    signal(&child, "INT");
    assert_eq!(wait(&mut child).code(), Some(1), "no live point was shown");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "the demo's folder is gone");
}
