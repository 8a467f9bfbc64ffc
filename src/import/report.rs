//! What became of everything: for the owner as text, for programs as JSON.
//!
//! Invariant: `read` (the reader's own report) says what was found in each file and by which rule it was repaired; `stored`
//! says what became of what the reader gave out. Nothing that was read is missing in both.

use super::points::word_of;
use super::validate::Validation;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;
use wattlog_ledger::Action;
use wattlog_migrate::{FileReport, Position, Refusal, Report, Skipped};

/// Refusals and kept records that are told one by one; all are counted.
const TOLD: usize = 10_000;
/// Lines of one list in the text.
const LISTED: usize = 100;

/// The whole of an import.
#[derive(Debug, Serialize)]
pub(crate) struct ImportReport {
    /// The folder, and the store if it was named.
    pub(crate) source: String,
    /// Nothing was written.
    pub(crate) dry_run: bool,
    /// `device_id` of what the files tell of no other device.
    pub(crate) device: String,
    /// Zone of times without an offset.
    pub(crate) time_zone: String,
    /// Tariff by which stored prices were judged.
    pub(crate) tariff: String,
    /// Files that an earlier run stored and that did not change since.
    pub(crate) files_done_before: u64,
    /// What the files hold.
    pub(crate) read: Report,
    /// What became of it.
    #[serde(flatten)]
    pub(crate) tally: Tally,
    /// Files that were not read.
    pub(crate) skipped: Vec<Skipped>,
    /// What the owner should know besides.
    pub(crate) notes: Vec<String>,
    /// What a comparison with the source found, if one was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) validation: Option<Validation>,
}

/// Counts of what was stored.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// Points by measurement; a point that was written again counts again.
    points: BTreeMap<String, u64>,
    /// Records of the ledger by table.
    records: BTreeMap<&'static str, Fates>,
    /// Records of files that were done before.
    pub(super) already: u64,
    /// Refused by the reader, by the store or by the ledger.
    pub(super) refused: u64,
    refusals: Vec<Refusal>,
    /// Records that somebody changed since they were imported, and where the source has them.
    kept: Vec<String>,
    /// Files of which the store or the ledger refused something.
    #[serde(skip)]
    pub(super) unfinished: HashSet<Arc<str>>,
}

/// What became of records of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
struct Fates {
    /// Made, or changed to what the source says now.
    stored: u64,
    /// There already.
    unchanged: u64,
    /// Left as somebody else changed them.
    kept: u64,
}

impl Tally {
    pub(super) fn point(&mut self, measurement: &str) {
        if let Some(count) = self.points.get_mut(measurement) {
            *count += 1;
        } else {
            self.points.insert(measurement.to_owned(), 1);
        }
    }

    pub(super) fn entry(&mut self, table: &'static str, action: Action) {
        let fates = self.records.entry(table).or_default();
        match action {
            Action::Unchanged => fates.unchanged += 1,
            Action::Created | Action::Changed | Action::Removed => fates.stored += 1,
        }
    }

    pub(super) fn kept(&mut self, table: &'static str, by: &str, position: &Position) {
        self.records.entry(table).or_default().kept += 1;
        if self.kept.len() < TOLD {
            self.kept.push(format!("{table}, {position}: changed by {by} since"));
        }
    }

    /// The same of what may be stored another time (more room for series): its file is not done.
    pub(super) fn refuse_for_now(&mut self, position: &Position, reason: String) {
        self.unfinished.insert(position.file.clone());
        self.refuse(position, reason);
    }

    /// Counts and tells a refusal that will always be one.
    pub(super) fn refuse(&mut self, position: &Position, reason: String) {
        self.refused += 1;
        self.tell(Refusal { position: position.clone(), reason });
    }

    /// Tells a refusal that the reader counts.
    pub(super) fn tell(&mut self, refusal: Refusal) {
        if self.refusals.len() < TOLD {
            self.refusals.push(refusal);
        }
    }
}

impl ImportReport {
    /// Nothing was refused, and a comparison, if there was one, found no difference.
    pub(crate) fn is_clean(&self) -> bool {
        self.tally.refused == 0 && self.validation.as_ref().is_none_or(Validation::is_equal)
    }

    /// The sums of it, for the ledger: as long for forty thousand files as for one.
    pub(super) fn summary(&self) -> serde_json::Value {
        serde_json::json!({
            "device": self.device, "time_zone": self.time_zone, "tariff": self.tariff,
            "files": self.read.files.len(), "kinds": self.read.kinds, "repairs": self.read.repairs,
            "points": self.tally.points, "records": self.tally.records, "refused": self.tally.refused,
            "already": self.tally.already,
        })
    }

    /// For a person.
    pub(crate) fn to_text(&self) -> String {
        let mut out = String::new();
        let dry = if self.dry_run { " (dry run: nothing was written)" } else { "" };
        let _ = writeln!(out, "{}{dry}", self.source);
        let _ =
            writeln!(out, "device   {}, times of {}, prices by {}", self.device, self.time_zone, self.tariff);
        let files = self.read.files.len();
        let _ = writeln!(
            out,
            "files    {files} read, {} stored before, {} skipped",
            self.files_done_before,
            self.skipped.len()
        );
        for (kind, counts) in &self.read.kinds {
            let fates = [
                (counts.kept, "taken"),
                (counts.superseding, "of them in place of earlier ones"),
                (counts.duplicate, "duplicates"),
                (counts.replaced, "replaced within their file"),
                (counts.refused, "refused"),
            ];
            let _ = writeln!(out, "read     {:<15} {} records: {}", word_of(kind), counts.read, told(&fates));
        }
        for (rule, count) in &self.read.repairs {
            let _ = writeln!(out, "repaired {:<25} {count}", word_of(rule));
        }
        let word = if self.dry_run { "would be stored" } else { "stored" };
        for (measurement, count) in &self.tally.points {
            let _ = writeln!(out, "stored   {measurement:<15} {count} points {word}");
        }
        for (table, fates) in &self.tally.records {
            let fates = [
                (fates.stored, word),
                (fates.unchanged, "there already"),
                (fates.kept, "kept as somebody changed them"),
            ];
            let _ = writeln!(out, "stored   {table:<15} records: {}", told(&fates));
        }
        if self.tally.already > 0 {
            let _ = writeln!(out, "stored   {} records of files that were stored before", self.tally.already);
        }
        for hole in self.read.holes.iter().take(HOLES) {
            let hours = hole.to.0.saturating_sub(hole.from.0) / 3_600_000_000_000;
            let (from, to) = (super::points::rfc3339(hole.from), super::points::rfc3339(hole.to));
            let _ = writeln!(out, "hole     no {} from {from} to {to} ({hours} h)", word_of(&hole.kind));
        }
        if self.read.holes_found > HOLES as u64 {
            let _ = writeln!(out, "hole     {} in all; --json lists them", self.read.holes_found);
        }
        let repaired = self.read.files.iter().filter(|file| !file.repairs.is_empty() || file.refused() > 0);
        listed(&mut out, "file    ", repaired.map(line_of_file));
        listed(
            &mut out,
            "skipped ",
            self.skipped.iter().map(|skipped| format!("{}: {}", skipped.name, skipped.reason)),
        );
        listed(&mut out, "kept    ", self.tally.kept.iter().cloned());
        let refusals = self.tally.refusals.iter();
        listed(
            &mut out,
            "REFUSED ",
            refusals.map(|refusal| format!("{}: {}", refusal.position, refusal.reason)),
        );
        listed(&mut out, "note    ", self.notes.iter().cloned());
        if let Some(validation) = &self.validation {
            validation.tell(&mut out);
        }
        let _ = match self.tally.refused {
            0 => writeln!(out, "nothing was refused"),
            refused if self.dry_run => writeln!(out, "{refused} refused; the rest would be stored"),
            refused => writeln!(out, "{refused} refused; the rest is stored"),
        };
        out
    }
}

/// Counts with their words, those of nothing left out.
fn told(fates: &[(u64, &str)]) -> String {
    let there: Vec<String> =
        fates.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if there.is_empty() { "none".to_owned() } else { there.join(", ") }
}

fn line_of_file(file: &FileReport) -> String {
    let mut line = file.file.clone();
    for (rule, count) in &file.repairs {
        let _ = write!(line, ", {} {count}", word_of(rule));
    }
    if file.refused() > 0 {
        let _ = write!(line, ", refused {}", file.refused());
    }
    line
}

/// The first lines of a list, and how many more there are. Names come from files: no control characters reach the terminal.
pub(super) fn listed(out: &mut String, word: &str, lines: impl Iterator<Item = String>) {
    let mut more = 0_u64;
    for (number, line) in lines.enumerate() {
        if number < LISTED {
            let plain: String = line.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).collect();
            let _ = writeln!(out, "{word} {plain}");
        } else {
            more += 1;
        }
    }
    if more > 0 {
        let _ = writeln!(out, "{word} {more} more; --json lists them");
    }
}

/// Holes in the text.
const HOLES: usize = 10;
