//! `wattlog import optimiser` as its user drives it: the optimiser's own files, made-up trees of every era, and every way to
//! be interrupted. What was imported is asked of a running server, never of the files of the store.

#[path = "../../ledger/tests/support/cluster.rs"]
mod cluster;
#[path = "../../migrate/tests/support/mod.rs"]
mod migrate_support;
#[path = "../support/mod.rs"]
mod support;

mod asked;
mod fixtures;
mod interrupted;
mod removed;
mod repairs;
mod repeated;
mod settings;
mod ways;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

/// Nothing but the import writes points.
pub(crate) const QUIET: &str =
    "collector: { system_metrics: { enabled: false } }\nserver: { home_zone: Europe/Warsaw }\n";

/// A home of a test: `data` is the store, `wattlog.yaml` its configuration.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("wattlog.yaml"), QUIET).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    /// `import optimiser DIR --data data ...`, its exit code and its report.
    pub(crate) fn import(&self, source: &Path, more: &[&str]) -> (i32, Value) {
        let output = self.run(source, &[&["--json"], more].concat());
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), report)
    }

    pub(crate) fn run(&self, source: &Path, more: &[&str]) -> Output {
        self.command(source, more).output().unwrap()
    }

    pub(crate) fn command(&self, source: &Path, more: &[&str]) -> std::process::Command {
        let mut command = support::wattlog(self.path());
        command
            .args(["import", "optimiser"])
            .arg(source)
            .args(["--data", "data"])
            .args(more)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn serve(&self) -> support::Server {
        support::Server::start(&self.data(), QUIET)
    }
}

/// The optimiser's real and made-up files, which are not part of the repository.
pub(crate) fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WATTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let path = root.join("fixtures").join(part);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {} (set WATTLOG_SHARED to the folder that holds fixtures/)", path.display());
    None
}

/// A tree of every era and every damaged form.
pub(crate) fn made_tree(seed: u64) -> (tempfile::TempDir, migrate_support::generator::Made) {
    let folder = tempfile::tempdir().unwrap();
    let made = migrate_support::generator::make(folder.path(), seed);
    (folder, made)
}

/// One request as it stands, and the whole answer.
pub(crate) fn raw(address: &str, request: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A file of the report's list.
pub(crate) fn file<'a>(report: &'a Value, name: &str) -> &'a Value {
    let files = report["read"]["files"].as_array().unwrap();
    files.iter().find(|file| file["file"] == name).unwrap_or_else(|| panic!("{name} was not read"))
}
