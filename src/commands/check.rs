//! `check` and `dump`: what the files of a store hold, proved byte by byte. Neither changes anything, but for `check --repair`.

use super::{print, print_json};
use crate::cli::{CheckArgs, DumpArgs};
use crate::clock::SystemClock;
use crate::failure::{Failure, Kind, chain};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use wattlog_engine::check::{self, CheckReport};
use wattlog_engine::error::Damage;
use wattlog_engine::io::Disk;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::repair::{self, RepairError};
use wattlog_engine::{OpenError, Options};
use wattlog_model::Clock;

pub(crate) fn check(arguments: &CheckArgs) -> Result<(), Failure> {
    let folder = &arguments.folder;
    let failed = |error: &std::io::Error| Failure::io(format!("check {}", folder.display()), error);
    let disk: Arc<dyn Disk> = Arc::new(existing(folder).map_err(|error| failed(&error))?);
    let report = check::store(&disk).map_err(|error| failed(&error))?;
    if report.files.is_empty() {
        return Err(Failure::new(Kind::Usage, format!("{}: no store is here", folder.display())));
    }
    if arguments.repair {
        return repair(arguments, &disk);
    }
    if arguments.json {
        print_json(&report_as_json(&report))?;
    } else {
        print(&report_as_text(&report))?;
    }
    if report.is_whole() { Ok(()) } else { Err(Failure::silent(Kind::Data)) }
}

/// Exit code 0 if the store is whole now and nothing is lost, 65 if something is, 75 if a process has it open.
fn repair(arguments: &CheckArgs, disk: &Arc<dyn Disk>) -> Result<(), Failure> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let repaired = repair::repair(disk, Options::default(), &clock);
    let report = repaired.map_err(|error| {
        let kind = match &error {
            RepairError::Open(OpenError::InUse(_)) => Kind::Busy,
            RepairError::Open(OpenError::TooNew { .. }) => Kind::Data,
            _ => Kind::Io,
        };
        Failure::new(kind, format!("repair {}: {}", arguments.folder.display(), chain(&error)))
    })?;
    if arguments.json {
        print_json(&json!({
            "before": report_as_json(&report.before), "done": report.done, "lost": report.lost,
            "report": report.report, "after": report_as_json(&report.after),
        }))?;
    } else {
        let mut text = report_as_text(&report.after);
        for done in &report.done {
            let _ = writeln!(text, "done     {done}");
        }
        let _ = match (&report.report, report.lost) {
            (None, false) => writeln!(text, "nothing had to be repaired"),
            (None, true) => writeln!(text, "nothing more can be repaired; some values are lost"),
            (Some(path), false) => writeln!(text, "repaired, nothing is lost; {path} says what was done"),
            (Some(path), true) => {
                writeln!(text, "repaired as far as it goes, values are lost; {path} says what was done")
            }
        };
        print(&text)?;
    }
    if report.lost { Err(Failure::silent(Kind::Data)) } else { Ok(()) }
}

pub(crate) fn dump(arguments: &DumpArgs) -> Result<(), Failure> {
    let file = &arguments.file;
    let failed = |error: &std::io::Error| match error.kind() {
        ErrorKind::InvalidInput | ErrorKind::InvalidData => Failure::new(
            Kind::Data,
            format!("dump {}: no file of a store by its name or first bytes", file.display()),
        ),
        _ => Failure::io(format!("dump {}", file.display()), error),
    };
    let name = file.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Failure::new(Kind::Usage, format!("{}: no file name", file.display())))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !file.is_file() {
        return Err(failed(&ErrorKind::NotFound.into()));
    }
    let disk = existing(folder).map_err(|error| failed(&error))?;
    let lines = check::dump(&disk, name).map_err(|error| failed(&error))?;
    if arguments.json {
        let parts = lines.iter().map(
            |line| json!({ "offset": line.offset, "len": line.len, "part": line.part, "value": line.value }),
        );
        return print_json(&json!({ "file": name, "parts": parts.collect::<Value>() }));
    }
    let mut text = String::new();
    let width = lines.iter().map(|line| line.part.len()).max().unwrap_or(0);
    for line in &lines {
        let _ = writeln!(text, "{:>10}  {:>7}  {:<width$}  {}", line.offset, line.len, line.part, line.value);
    }
    print(&text)
}

/// The disk under a folder that is there; none is made.
fn existing(folder: &Path) -> std::io::Result<OsDisk> {
    if !folder.is_dir() {
        return Err(ErrorKind::NotFound.into());
    }
    OsDisk::new(folder)
}

fn report_as_text(report: &CheckReport) -> String {
    let mut text = String::new();
    for file in &report.files {
        let state = if file.damage.is_empty() { "whole" } else { "DAMAGED" };
        let _ = writeln!(
            text,
            "{state:<8} {} ({} bytes, {} blocks, {} rows, {} values)",
            file.file, file.bytes, file.blocks, file.rows, file.values
        );
        for damage in &file.damage {
            let _ = writeln!(text, "         {damage}");
        }
        if let Some(offset) = file.torn_at {
            let _ = writeln!(
                text,
                "         torn write from byte {offset} on: normal after a power cut, nothing answered is lost"
            );
        }
    }
    for damage in &report.between {
        let _ = writeln!(text, "MISSING  {damage}");
    }
    for name in &report.unknown {
        let _ = writeln!(text, "unknown  {name}");
    }
    let damaged = report.files.iter().filter(|file| !file.damage.is_empty()).count();
    let _ =
        writeln!(text, "{} files, {damaged} damaged, {} unknown", report.files.len(), report.unknown.len());
    if !report.between.is_empty() {
        let _ = writeln!(text, "{} things missing between the files", report.between.len());
    }
    text
}

fn report_as_json(report: &CheckReport) -> Value {
    let damage = |damage: &Damage| {
        json!({
            "file": damage.file, "offset": damage.offset, "part": damage.part,
            "expected": damage.expected, "found": damage.found,
        })
    };
    let files = report.files.iter().map(|file| {
        json!({
            "file": file.file, "bytes": file.bytes, "blocks": file.blocks, "rows": file.rows,
            "values": file.values, "torn_at": file.torn_at,
            "damage": file.damage.iter().map(damage).collect::<Value>(),
        })
    });
    json!({
        "whole": report.is_whole(),
        "files": files.collect::<Value>(),
        "between": report.between.iter().map(damage).collect::<Value>(),
        "unknown": report.unknown,
    })
}
