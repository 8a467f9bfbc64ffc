//! CSV with a header line, as line protocol. RFC 4180: quoted cells, doubled quotes, line breaks inside quotes.
//!
//! A column is the time, a tag (`--tags`) or a field. Cells: empty is missing, `true` and `false` are booleans, what reads as a
//! finite number is a float, everything else is a string.

use super::super::line::escaped;
use super::Body;
use crate::cli::WriteArgs;
use crate::failure::{Failure, Kind};
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};

/// Longest record, in bytes: beyond it a quote is open that nobody closes.
const MAX_RECORD_BYTES: usize = 4 << 20;

pub(super) struct Rows {
    reader: Records,
    measurement: String,
    columns: Vec<Column>,
    unit_ns: i64,
    per_body: u64,
}

enum Column {
    Time,
    Tag(String),
    Field(String),
}

impl Rows {
    pub(super) fn new(input: Box<dyn Read>, arguments: &WriteArgs) -> Result<Self, Failure> {
        let measurement = arguments.measurement.clone().filter(|name| !name.is_empty());
        let measurement = measurement.ok_or_else(|| Failure::new(Kind::Usage, "CSV needs --measurement"))?;
        let mut reader = Records { input: BufReader::with_capacity(1 << 16, input), line: 0 };
        let header =
            reader.next()?.ok_or_else(|| Failure::new(Kind::Data, "line 1: a header line is expected"))?;
        if let Some(missing) = arguments.tags.iter().find(|tag| !header.contains(tag)) {
            return Err(Failure::new(Kind::Usage, format!("--tags: there is no column {missing}")));
        }
        let columns = header.iter().map(|name| match name {
            name if *name == arguments.time_column => Ok(Column::Time),
            name if arguments.tags.contains(name) => key(name).map(Column::Tag),
            name => key(name).map(Column::Field),
        });
        let columns = columns.collect::<Result<_, String>>();
        let columns = columns.map_err(|why| Failure::new(Kind::Data, format!("line 1: {why}")))?;
        if measurement.starts_with('#') {
            let why = "--measurement: a line of line protocol that begins with # is a comment";
            return Err(Failure::new(Kind::Usage, why));
        }
        let measurement = escaped(&measurement, &[',', ' '])
            .map_err(|why| Failure::new(Kind::Usage, format!("--measurement: {why}")))?;
        let unit_ns = match arguments.precision.as_str() {
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1000,
            _ => 1,
        };
        Ok(Self { columns, measurement, reader, unit_ns, per_body: u64::from(arguments.body_lines) })
    }

    fn next_body(&mut self) -> Result<Option<Body>, Failure> {
        let mut text = String::new();
        let (first_line, mut lines, mut without_values) = (self.reader.line + 1, 0, 0);
        while lines < self.per_body {
            let Some(cells) = self.reader.next()? else { break };
            let line = self.reader.line;
            match self.append(&cells, &mut text) {
                Ok(true) => lines += 1,
                Ok(false) => without_values += 1,
                Err(why) => return Err(Failure::new(Kind::Data, format!("line {line}: {why}"))),
            }
        }
        let last_line = self.reader.line;
        let body = Body { bytes: text.into_bytes(), first_line, last_line, lines, without_values };
        Ok((lines + without_values > 0).then_some(body))
    }

    /// Appends the row as a line; false if it has no values and so says nothing.
    fn append(&self, cells: &[String], out: &mut String) -> Result<bool, String> {
        if cells.len() != self.columns.len() {
            return Err(format!("{} cells, the header has {}", cells.len(), self.columns.len()));
        }
        let (mut fields, mut time) = (String::new(), None);
        let mut tags = String::new();
        for (column, cell) in self.columns.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
            match column {
                Column::Time => time = Some(self.time(cell)?),
                Column::Tag(key) => {
                    let value = escaped(cell, &[',', '=', ' ']).map_err(|why| format!("tag {key}: {why}"))?;
                    let _ = write!(tags, ",{key}={value}");
                }
                Column::Field(key) => {
                    let separator = if fields.is_empty() { ' ' } else { ',' };
                    let _ = write!(fields, "{separator}{key}={}", value(cell));
                }
            }
        }
        if fields.is_empty() {
            return Ok(false);
        }
        let _ = write!(out, "{}{tags}{fields}", self.measurement);
        if let Some(time) = time {
            let _ = write!(out, " {time}");
        }
        out.push('\n');
        Ok(true)
    }

    fn time(&self, cell: &str) -> Result<i64, String> {
        if let Ok(count) = cell.parse::<i64>() {
            return count.checked_mul(self.unit_ns).ok_or_else(|| format!("time {cell} is out of range"));
        }
        let instant: jiff::Timestamp = cell
            .parse()
            .map_err(|_| format!("`{cell}` is neither a whole number nor an RFC 3339 time with its zone"))?;
        i64::try_from(instant.as_nanosecond()).map_err(|_| format!("time {cell} is out of range"))
    }
}

impl Iterator for Rows {
    type Item = Result<Body, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_body().transpose()
    }
}

fn value(cell: &str) -> String {
    match cell {
        "true" | "false" => cell.to_owned(),
        _ => match cell.parse::<f64>() {
            // Display of a double is exact and never has an exponent or a sign the grammar refuses.
            Ok(number) if number.is_finite() => format!("{number}"),
            _ => format!("\"{}\"", cell.replace('\\', "\\\\").replace('"', "\\\"")),
        },
    }
}

fn key(name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err("a column without a name".into());
    }
    escaped(name, &[',', '=', ' ']).map_err(|why| format!("column {name:?}: {why}"))
}

/// Records of a CSV text, one at a time.
struct Records {
    input: BufReader<Box<dyn Read>>,
    line: u64,
}

impl Records {
    fn next(&mut self) -> Result<Option<Vec<String>>, Failure> {
        loop {
            let mut bytes = Vec::new();
            loop {
                let read = self.input.read_until(b'\n', &mut bytes);
                if read.map_err(|error| Failure::io("read the input", &error))? == 0 {
                    break;
                }
                self.line += 1;
                // An odd number of quotes: the record goes on in the next line.
                if bytes.split(|byte| *byte == b'"').count() % 2 == 1 {
                    break;
                }
                if bytes.len() > MAX_RECORD_BYTES {
                    return Err(Failure::new(
                        Kind::Data,
                        format!("line {}: a quote is never closed", self.line),
                    ));
                }
            }
            if bytes.is_empty() {
                return Ok(None);
            }
            let text = String::from_utf8(bytes)
                .map_err(|_| Failure::new(Kind::Data, format!("line {}: not UTF-8", self.line)))?;
            let text = text.trim_end_matches(['\n', '\r']);
            let text = text.strip_prefix('\u{feff}').unwrap_or(text);
            if !text.is_empty() {
                return Ok(Some(cells(text)));
            }
        }
    }
}

fn cells(record: &str) -> Vec<String> {
    let mut out = vec![String::new()];
    let mut quoted = false;
    let mut characters = record.chars().peekable();
    while let Some(c) = characters.next() {
        let cell = out.last_mut().expect("there is always a cell being filled");
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => out.push(String::new()),
            c => cell.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn lines(text: &'static str, flags: &[&str]) -> Result<String, String> {
        let named = flags.contains(&"--measurement");
        let argv = ["wattlog", "write"].into_iter().chain(flags.iter().copied());
        let argv = argv.chain(["--measurement", "energy data"].into_iter().filter(|_| !named));
        let Command::Write(arguments) = Cli::parse_from(argv).command else { unreachable!() };
        let rows = Rows::new(Box::new(text.as_bytes()), &arguments).map_err(|failure| failure.to_string())?;
        let mut out = String::new();
        for body in rows {
            out.push_str(std::str::from_utf8(&body.map_err(|failure| failure.to_string())?.bytes).unwrap());
        }
        Ok(out)
    }

    #[test]
    fn cells_become_tags_fields_and_times() {
        assert_eq!(
            lines(
                "time,device,pv power,on,note\r\n2026-03-01T10:00:00Z,a b,5.50,true,\"say \"\"hi\"\",\nthere\"\n,c,,false,\n",
                &["--tags", "device"]
            )
            .unwrap(),
            "energy\\ data,device=a\\ b pv\\ power=5.5,on=true,note=\"say \\\"hi\\\",\nthere\" 1772359200000000000\n\
             energy\\ data,device=c on=false\n"
        );
        assert_eq!(
            lines("time,v\n1772359200,1\n", &["--precision", "s"]).unwrap(),
            "energy\\ data v=1 1772359200000000000\n"
        );
        assert_eq!(lines("time,v\n1,nan\n", &[]).unwrap(), "energy\\ data v=\"nan\" 1\n");
        assert_eq!(lines("time,v\n1,\n", &[]).unwrap(), "");
    }

    #[test]
    fn a_row_without_values_is_not_counted_as_a_line() {
        let argv = ["wattlog", "write", "--measurement", "m"];
        let Command::Write(arguments) = Cli::parse_from(argv).command else { unreachable!() };
        let rows = Rows::new(Box::new("time,v\n1,\n2,5\n3,\n".as_bytes()), &arguments).unwrap();
        let counts: Vec<_> = rows.map(|body| body.unwrap()).map(|b| (b.lines, b.without_values)).collect();
        assert_eq!(counts, [(1, 2)]);
    }

    #[test]
    fn a_cell_cannot_smuggle_in_a_line() {
        // "a\nother v=1" as a tag value was written as it stood, and became a point of another measurement.
        let smuggled = lines("t,v\n\"a\nother x=1\",1\n", &["--tags", "t"]).unwrap_err();
        assert!(smuggled.starts_with("line 3: tag t: ") && smuggled.contains("line break"), "{smuggled}");
        assert!(lines("t,\"v\nx\"\na,1\n", &["--tags", "t"]).unwrap_err().contains("line break"));
        assert!(lines("t,v\na\\,1\n", &["--tags", "t"]).unwrap_err().contains("backslash"));
        assert!(lines("v\n1\n", &["--measurement", "#m"]).unwrap_err().contains("comment"));
        assert!(lines("v,\n1,2\n", &[]).unwrap_err().contains("without a name"));
    }

    #[test]
    fn what_is_no_csv_names_its_line() {
        assert_eq!(lines("", &[]).unwrap_err(), "line 1: a header line is expected");
        assert_eq!(lines("time,v\n1\n", &[]).unwrap_err(), "line 2: 1 cells, the header has 2");
        assert!(lines("time,v\nnoon,1\n", &[]).unwrap_err().starts_with("line 2: `noon` is neither"));
        assert_eq!(lines("v\n1\n", &["--tags", "w"]).unwrap_err(), "--tags: there is no column w");
    }
}
