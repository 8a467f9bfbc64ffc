//! Runs tests/format/reader.py.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the second reader said of some stores.
#[derive(Debug)]
pub struct Reading {
    pub whole: bool,
    /// Lines of its standard error: what was found, store by store.
    pub said: Vec<String>,
    /// How many blocks of each form it decoded.
    pub forms: BTreeMap<String, u64>,
}

/// The interpreter, or a printed reason why the test does not run.
pub fn interpreter() -> Option<PathBuf> {
    let python = std::env::var_os("WATTLOG_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let is_new = "import sys; sys.exit(sys.version_info < (3, 11))";
    match Command::new(&python).args(["-c", is_new]).status() {
        Ok(status) if status.success() => Some(python),
        found => {
            println!("skipped: {} is no Python 3.11 or later ({found:?})", python.display());
            None
        }
    }
}

/// Reads and verifies `stores`; the points of each stand in `into` afterwards, under its name with `.ndjson`.
pub fn read(python: &Path, into: &Path, stores: &[PathBuf]) -> Reading {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/format/reader.py");
    let output = Command::new(python)
        .arg("-B")
        .arg(reader)
        .args(["--verify", "--forms", "--into"])
        .arg(into)
        .args(stores)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("Traceback") && output.status.code().is_some_and(|code| code < 3), "{text}");
    let (forms, said): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with("form "));
    let forms = forms.iter().filter_map(|line| {
        let (form, count) = line.strip_prefix("form ")?.rsplit_once(' ')?;
        Some((form.to_owned(), count.parse().ok()?))
    });
    Reading {
        whole: output.status.success(),
        forms: forms.collect(),
        said: said.into_iter().map(str::to_owned).collect(),
    }
}
