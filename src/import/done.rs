//! Which files are stored already, remembered in the ledger beside what they became.
//!
//! A mark is a hash of a file's name, length and time of change, of the rules of this version and of what was said about the
//! home. A file that changed, other rules or another device make another mark: the file is stored anew, which changes nothing
//! that is the same. A run is one `import_runs` record, and another for each [`PER_RECORD`] marks.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::collections::HashSet;
use wattlog_ledger::schema::{ImportRun, ImportStatus};
use wattlog_ledger::{Actor, Ledger, Value as Column};
use wattlog_model::Timestamp;

/// Raised whenever the same file would become something else.
pub(super) const RULES: u32 = 3;
/// Marks of one record: 16 characters each, of the megabyte that a value may have.
const PER_RECORD: usize = 50_000;

/// The files of one source that are stored.
#[derive(Debug)]
pub(super) struct Done {
    run: ImportRun,
    known: HashSet<u64>,
    /// Marks of each record, in the order of storing.
    records: Vec<Vec<u64>>,
    /// The first record that is not in the ledger as it is here.
    unsaved: usize,
    /// Something was stored by other rules than those of this version.
    by_other_rules: bool,
}

impl Done {
    /// What the ledger remembers of `source`; a run that is new begins at `now`.
    pub(super) async fn load(ledger: &Ledger, source: &str, now: Timestamp) -> Result<Self, Failure> {
        let run_key = format!("optimiser/{:016x}", hash(&[source.as_bytes()]));
        let mut run = ImportRun {
            run_key: run_key.clone(),
            tool: TOOL.to_owned(),
            source: source.to_owned(),
            status: ImportStatus::Running,
            started: now,
            finished: None,
            progress: json!({}),
            report: json!({}),
        };
        let mut records = Vec::new();
        let mut by_other_rules = false;
        loop {
            let key = key_of(&run_key, records.len());
            let found = ledger.find::<ImportRun>(&[Column::Text(Some(key))]).await;
            let Some(found) = found.map_err(|error| super::writer::refused(&error))? else { break };
            by_other_rules |= found.record.progress["rules"].as_u64() != Some(u64::from(RULES));
            records.push(marks_of(&found.record.progress));
            if records.len() == 1 {
                run = found.record;
            }
        }
        let known = records.iter().flatten().copied().collect();
        let unsaved = records.len();
        Ok(Self { run, known, records, unsaved, by_other_rules })
    }

    /// Whether the file with this mark is stored.
    pub(super) fn has(&self, mark: u64) -> bool {
        self.known.contains(&mark)
    }

    /// Whether any file is stored.
    pub(super) fn has_any(&self) -> bool {
        !self.known.is_empty()
    }

    /// Whether an earlier run followed other rules.
    pub(super) fn is_by_other_rules(&self) -> bool {
        self.by_other_rules
    }

    /// Whether an earlier run came to its end.
    pub(super) fn is_completed(&self) -> bool {
        self.run.status == ImportStatus::Completed
    }

    /// Remembers files whose points and records are durable.
    pub(super) async fn add(&mut self, marks: &[u64], ledger: &Ledger, actor: &Actor) -> Result<(), Failure> {
        for mark in marks {
            if !self.known.insert(*mark) {
                continue;
            }
            let full = self.records.last().is_none_or(|record| record.len() >= PER_RECORD);
            if full {
                self.records.push(Vec::new());
            }
            let last = self.records.len() - 1;
            self.records[last].push(*mark);
            self.unsaved = self.unsaved.min(last);
        }
        if self.run.status != ImportStatus::Running {
            (self.run.status, self.run.finished) = (ImportStatus::Running, None);
            self.unsaved = 0;
        }
        self.save(ledger, actor).await
    }

    /// The run came to its end.
    pub(super) async fn complete(
        &mut self,
        report: Value,
        now: Timestamp,
        ledger: &Ledger,
        actor: &Actor,
    ) -> Result<(), Failure> {
        self.run.report = report;
        (self.run.status, self.run.finished) = (ImportStatus::Completed, Some(now.max(self.run.started)));
        if self.records.is_empty() {
            self.records.push(Vec::new());
        }
        self.unsaved = 0;
        self.save(ledger, actor).await
    }

    async fn save(&mut self, ledger: &Ledger, actor: &Actor) -> Result<(), Failure> {
        for at in self.unsaved..self.records.len() {
            let marks: String = self.records[at].iter().map(|mark| format!("{mark:016x}")).collect();
            let run = ImportRun {
                run_key: key_of(&self.run.run_key, at),
                progress: json!({ "rules": RULES, "files": self.records[at].len(), "done": marks }),
                report: if at == 0 { self.run.report.clone() } else { json!({}) },
                ..self.run.clone()
            };
            ledger.put(run, actor).await.map_err(|error| super::writer::refused(&error))?;
        }
        self.unsaved = self.records.len();
        Ok(())
    }
}

/// The first record has the key of the run itself.
fn key_of(run_key: &str, at: usize) -> String {
    if at == 0 { run_key.to_owned() } else { format!("{run_key}/{}", at + 1) }
}

/// Marks that are no hexadecimal number are those of nobody.
fn marks_of(progress: &Value) -> Vec<u64> {
    let text = progress["done"].as_str().unwrap_or_default();
    let of = |digits: &[u8]| u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    text.as_bytes().chunks_exact(16).filter_map(of).collect()
}

/// FNV-1a over the parts, each ended by a byte that no text has. The same in every version: marks outlive the program.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in parts.iter().flat_map(|part| part.iter().chain(&[0xFF])) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}

/// The tool of these records.
pub(super) const TOOL: &str = "optimiser";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_as_they_were() {
        let marks = [0, 1, u64::MAX, 0x0123_4567_89ab_cdef];
        let text: String = marks.iter().map(|mark| format!("{mark:016x}")).collect();
        assert_eq!(marks_of(&json!({ "done": text })), marks);
        assert!(marks_of(&json!({})).is_empty() && marks_of(&json!({ "done": "xyz" })).is_empty());
    }

    #[test]
    fn parts_of_a_hash_are_told_apart() {
        assert_eq!(hash(&[b"a"]), hash(&[b"a"]));
        assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
        assert_ne!(hash(&[b"a"]), hash(&[b"a", b""]));
    }
}
