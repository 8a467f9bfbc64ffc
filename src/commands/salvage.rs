//! `salvage`: what can still be read of a damaged store, as line protocol that can be imported again, or as CSV.
//!
//! Promise: the folder is not changed; the output has every value that was found, with its type; the report on standard
//! error names what was not, file by file; the exit code is 0 only if nothing was lost.

use super::line;
use crate::cli::{SalvageArgs, SalvageFormat};
use crate::failure::{Failure, Kind};
use crate::files;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use wattlog_engine::OpenError;
use wattlog_engine::io::os::OsDisk;
use wattlog_engine::salvage::{Lost, PointSink, Salvage, SalvageReport, SeriesName, Wanted};
use wattlog_model::{FieldValue, TagSet};

/// Bytes after which a point is continued on another line: servers bound a line, and fields of one time are joined.
const LONG_LINE: usize = 512 << 10;
/// Losses of one file that the report lists.
const LISTED: usize = 20;
/// Refusals of names that the report lists.
const LISTED_NAMES: usize = 20;

pub(crate) fn run(arguments: &SalvageArgs) -> Result<(), Failure> {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        return Err(Failure::new(Kind::Usage, format!("{}: no such folder", folder.display())));
    }
    let failed = |error: &OpenError| {
        let kind = if matches!(error, OpenError::TooNew { .. }) { Kind::Data } else { Kind::Io };
        Failure::new(kind, format!("salvage {}: {}", folder.display(), crate::failure::chain(error)))
    };
    let disk = OsDisk::new(folder).map_err(|error| Failure::io("open the folder", &error))?;
    let salvage = Salvage::look(Arc::new(disk)).map_err(|error| failed(&error))?;
    let wanted = Wanted { database: arguments.db.clone(), policy: arguments.rp.clone() };
    check_choice(&salvage.namespaces(), &wanted, arguments.format)?;
    let out = output(arguments)?;
    let written = |error: io::Error| Failure::io("write the output", &error);
    let (report, refused) = match arguments.format {
        SalvageFormat::Lp => {
            let mut lines = Lines { out, line: String::new(), refused: BTreeMap::new() };
            let report = salvage.run(&wanted, &mut lines).map_err(written)?;
            lines.out.flush().map_err(written)?;
            (report, lines.refused)
        }
        SalvageFormat::Csv => {
            let mut rows = Rows { out, row: String::new() };
            rows.out.write_all(HEADER.as_bytes()).map_err(written)?;
            let report = salvage.run(&wanted, &mut rows).map_err(written)?;
            rows.out.flush().map_err(written)?;
            (report, BTreeMap::new())
        }
    };
    eprint!("{}", report_as_text(&report, &refused));
    if report.is_whole() && refused.is_empty() { Ok(()) } else { Err(Failure::silent(Kind::Data)) }
}

/// Line protocol does not say which database a point is of: a file may hold only one.
fn check_choice(there: &[(String, String)], wanted: &Wanted, format: SalvageFormat) -> Result<(), Failure> {
    let is_wanted = |(database, policy): &&(String, String)| {
        wanted.database.as_ref().is_none_or(|wanted| wanted == database)
            && wanted.policy.as_ref().is_none_or(|wanted| wanted == policy)
    };
    let chosen: Vec<String> =
        there.iter().filter(is_wanted).map(|(database, policy)| format!("{database}/{policy}")).collect();
    if chosen.is_empty() && (wanted.database.is_some() || wanted.policy.is_some()) {
        let all: Vec<&str> = there.iter().map(|(database, _)| database.as_str()).collect();
        return Err(Failure::new(
            Kind::Usage,
            format!("no such database or retention policy; there are: {}", all.join(", ")),
        ));
    }
    if chosen.len() > 1 && format == SalvageFormat::Lp {
        return Err(Failure::new(
            Kind::Usage,
            format!(
                "line protocol names no databases: choose one of {} with --db (and --rp), one file each, or use --format csv",
                chosen.join(", ")
            ),
        ));
    }
    Ok(())
}

fn output(arguments: &SalvageArgs) -> Result<BufWriter<Box<dyn Write>>, Failure> {
    let Some(path) = &arguments.out else {
        return Ok(BufWriter::with_capacity(1 << 20, Box::new(io::stdout())));
    };
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let inside = match (parent.canonicalize(), arguments.folder.canonicalize()) {
        (Ok(parent), Ok(folder)) => parent.starts_with(folder),
        _ => false,
    };
    if inside {
        let text = format!("{}: the output must not lie in the store, which is not changed", path.display());
        return Err(Failure::new(Kind::Usage, text));
    }
    let file = files::create_new(path)
        .map_err(|error| Failure::new(Kind::CannotCreate, format!("create {}: {error}", path.display())))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

/// Writes line protocol, times in nanoseconds.
struct Lines {
    out: BufWriter<Box<dyn Write>>,
    line: String,
    /// Values that line protocol cannot carry, by the reason.
    refused: BTreeMap<String, u64>,
}

impl Lines {
    fn refuse(&mut self, why: String, values: usize) {
        let why = if self.refused.len() < LISTED_NAMES || self.refused.contains_key(&why) {
            why
        } else {
            "other names like these".to_owned()
        };
        *self.refused.entry(why).or_default() += values as u64;
    }
}

fn series(name: &SeriesName<'_>) -> Result<String, String> {
    let mut out = line::measurement(name.measurement)?;
    for (key, value) in name.tags.iter() {
        let _ = write!(out, ",{}={}", line::key(key)?, line::key(value)?);
    }
    Ok(out)
}

impl PointSink for Lines {
    fn point(
        &mut self,
        name: &SeriesName<'_>,
        time: i64,
        fields: &[(Arc<str>, FieldValue)],
    ) -> io::Result<()> {
        let series = match series(name) {
            Ok(series) => series,
            Err(why) => {
                self.refuse(why, fields.len());
                return Ok(());
            }
        };
        let mut rest = fields.iter();
        loop {
            self.line.clear();
            self.line.push_str(&series);
            let empty = self.line.len();
            for (field, value) in rest.by_ref() {
                let before = self.line.len();
                self.line.push(if before == empty { ' ' } else { ',' });
                if let Err(why) = put_field(field, value, &mut self.line) {
                    self.line.truncate(before);
                    self.refuse(why, 1);
                } else if self.line.len() > LONG_LINE {
                    break;
                }
            }
            if self.line.len() == empty {
                return Ok(());
            }
            let _ = writeln!(self.line, " {time}");
            self.out.write_all(self.line.as_bytes())?;
        }
    }
}

fn put_field(name: &str, value: &FieldValue, out: &mut String) -> Result<(), String> {
    out.push_str(&line::key(name)?);
    out.push('=');
    // Writing to a string cannot fail.
    let _ = match value {
        FieldValue::Float(v) if !v.is_finite() => {
            return Err("a float that is no number, which line protocol cannot carry".to_owned());
        }
        FieldValue::Float(v) => write!(out, "{v:?}"),
        FieldValue::Integer(v) => write!(out, "{v}i"),
        FieldValue::Unsigned(v) => write!(out, "{v}u"),
        FieldValue::Boolean(v) => write!(out, "{v}"),
        FieldValue::String(v) => {
            line::put_text(v, out);
            Ok(())
        }
    };
    Ok(())
}

const HEADER: &str = "time,database,retention_policy,measurement,tags,field,type,value\n";

/// Writes CSV, a row for each value: where a value was written twice, the last row counts.
struct Rows {
    out: BufWriter<Box<dyn Write>>,
    row: String,
}

impl PointSink for Rows {
    fn point(
        &mut self,
        name: &SeriesName<'_>,
        time: i64,
        fields: &[(Arc<str>, FieldValue)],
    ) -> io::Result<()> {
        for (field, value) in fields {
            self.row.clear();
            let _ = write!(self.row, "{time}");
            for cell in [name.database, name.policy, name.measurement, &tags(name.tags), field] {
                self.row.push(',');
                put_cell(cell, &mut self.row);
            }
            let _ = write!(self.row, ",{},", value.field_type());
            match value {
                FieldValue::Float(v) => drop(write!(self.row, "{v:?}")),
                FieldValue::Integer(v) => drop(write!(self.row, "{v}")),
                FieldValue::Unsigned(v) => drop(write!(self.row, "{v}")),
                FieldValue::Boolean(v) => drop(write!(self.row, "{v}")),
                FieldValue::String(v) => put_cell(v, &mut self.row),
            }
            self.row.push('\n');
            self.out.write_all(self.row.as_bytes())?;
        }
        Ok(())
    }
}

/// `key=value` pairs separated by commas; a backslash, a comma and `=` inside have a backslash before them.
fn tags(tags: &TagSet) -> String {
    let mut out = String::new();
    for (key, value) in tags.iter() {
        if !out.is_empty() {
            out.push(',');
        }
        for (text, end) in [(key, "="), (value, "")] {
            for c in text.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    out.push('\\');
                }
                out.push(c);
            }
            out.push_str(end);
        }
    }
    out
}

/// A cell as RFC 4180 has it. An empty text is quoted.
fn put_cell(text: &str, out: &mut String) {
    if text.is_empty() || text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

fn report_as_text(report: &SalvageReport, refused: &BTreeMap<String, u64>) -> String {
    let mut text = String::new();
    for file in &report.files {
        let state = match (file.is_whole(), file.values) {
            (true, _) => "whole",
            (false, 0) => "LOST",
            (false, _) => "PARTLY",
        };
        let _ = writeln!(text, "{state:<7} {}: {} points, {} values", file.file, file.points, file.values);
        for lost in file.lost.iter().take(LISTED) {
            let _ = writeln!(text, "        lost: {}", lost_as_text(lost));
        }
        let more = file.lost.len().saturating_sub(LISTED) as u64 + file.lost_more;
        if more > 0 {
            let _ = writeln!(text, "        and {more} parts more");
        }
        if file.nameless > 0 {
            let _ = writeln!(
                text,
                "        {} values belong to series or fields that nothing names any more",
                file.nameless
            );
        }
    }
    for note in &report.notes {
        let _ = writeln!(text, "note    {note}");
    }
    for (why, values) in refused {
        let _ = writeln!(text, "REFUSED {values} values: {why}; --format csv has them");
    }
    if !report.is_whole() {
        let _ = writeln!(
            text,
            "note    where a younger value is lost, an older one of the same time may stand in its place"
        );
    }
    let _ = writeln!(
        text,
        "{} points, {} values of {} files; {} values hidden by {} deletes left out",
        report.points(),
        report.values(),
        report.files.len(),
        report.deleted,
        report.deletes
    );
    text
}

fn lost_as_text(lost: &Lost) -> String {
    let mut what = match (&lost.measurement, &lost.field) {
        (None, _) => "anything".to_owned(),
        (Some(measurement), None) => format!("fields of {measurement}"),
        (Some(measurement), Some(field)) => format!("{measurement} {field}"),
    };
    if let Some((first, last)) = lost.times {
        let time = |ns: i64| match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
            Ok(instant) => instant.to_string(),
            Err(_) => format!("{ns} ns"),
        };
        let _ = write!(what, " from {} to {}", time(first), time(last));
    }
    let _ = write!(what, " ({})", lost.damage);
    what
}
