//! A PostgreSQL of the test's own, started by `postgres.sh` beside this file and gone with its handle or the process.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running PostgreSQL; it ends when its standard input does.
#[derive(Debug)]
pub struct Cluster {
    child: Child,
    pub folder: String,
    pub port: u16,
}

impl Cluster {
    pub fn start(arguments: &[&str]) -> Option<Self> {
        // Of this crate, or of the workspace whose tests take this file too.
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
        let script =
            script.map(|folder| folder.join("ledger/tests/support/postgres.sh")).find(|file| file.is_file());
        let script = script.expect("the script lies in the workspace");
        let mut child = Command::new("sh")
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mut words = line.split_whitespace();
        if words.next() == Some("ready") {
            let folder = words.next().unwrap().to_owned();
            return Some(Self { child, folder, port: words.next().unwrap().parse().unwrap() });
        }
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(77), "PostgreSQL did not start: {line}");
        assert!(
            std::env::var_os("WATTLOG_NEED_POSTGRES").is_none(),
            "there is no PostgreSQL (15 or newer) here"
        );
        eprintln!("SKIPPED: there is no PostgreSQL here");
        None
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgresql://wattlog@localhost:{}/{database}?host={}", self.port, self.folder)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _status = self.child.wait();
    }
}
