//! Reading a folder in tests, the files of the project that are not public, and the generator of trees.
#![allow(dead_code, reason = "each test binary uses its part")]

pub mod generator;
pub mod truth;

use std::path::{Path, PathBuf};
use wattlog_migrate::{Collected, Context, FileReport, Kind, Options, Record, Report, Tree, read_file};
use wattlog_model::Timestamp;

pub const DEVICE: &str = "9010KETU000W0000";

/// Everything a folder gives.
pub struct Migrated {
    pub tree: Tree,
    pub out: Collected,
    pub report: Report,
}

impl Migrated {
    pub fn file(&self, name: &str) -> &FileReport {
        let found = self.report.files.iter().find(|file| file.file == name);
        found.unwrap_or_else(|| panic!("{name} was not read: {:?}", self.tree))
    }

    pub fn of_file<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Record> {
        self.out.records.iter().filter(move |record| &*record.position.file == name)
    }

    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.out.records.iter().filter(move |record| record.body.kind() == kind)
    }
}

pub fn migrate(folder: &Path, store: Option<&Path>) -> Migrated {
    migrate_with(folder, store, Options::new(DEVICE))
}

pub fn migrate_with(folder: &Path, store: Option<&Path>, options: Options) -> Migrated {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let tree = Tree::scan(folder, store, &options.limits).expect("a folder that can be read");
    let mut context = Context::new(options);
    let mut out = Collected::default();
    for file in &tree.files {
        runtime
            .block_on(read_file(file, &mut context, &mut out))
            .expect("nothing but damage, which is refused");
    }
    let report = context.into_report();
    for file in &report.files {
        for (kind, counts) in &file.kinds {
            let sum = counts.kept + counts.duplicate + counts.replaced + counts.refused;
            assert_eq!(counts.read, sum, "{} {kind:?}: every record has one fate", file.file);
        }
    }
    Migrated { tree, out, report }
}

/// The optimiser's real and made-up files, which are not part of the repository.
pub fn shared(part: &str) -> Option<PathBuf> {
    let root = std::env::var_os("WATTLOG_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let path = root.join("fixtures/optimiser-json").join(part);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: no {} (set WATTLOG_SHARED to the folder that holds fixtures/)", path.display());
    None
}

pub fn utc(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("a time");
    Timestamp(i64::try_from(instant.as_nanosecond()).expect("a time of our century"))
}
