//! `write`: line protocol or CSV from a file or standard input, in bodies, to a running server.
//!
//! Promise: a body the server says it is too busy for is sent again; lines it refuses are named and the rest goes on;
//! the exit code is 0 only if every line was stored.

mod csv;

use super::print;
use crate::cli::{InputFormat, WriteArgs};
use crate::client::{Client, Reply, block_on, target};
use crate::failure::{Failure, Kind};
use crate::files;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::time::{Duration, Instant};

/// Attempts per body while the server is busy; with its own hints between them.
const ATTEMPTS: u32 = 10;
const DEFAULT_RETRY: Duration = Duration::from_secs(1);
/// A server may ask for more patience than a person at a terminal has.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_mins(1);
/// Fewer lines say nothing of how fast they are stored.
const LEAST_PACED: u64 = 1_000;

pub(crate) fn run(arguments: &WriteArgs) -> Result<(), Failure> {
    let input = files::open_input(&arguments.file)
        .map_err(|error| Failure::io(format!("open {}", arguments.file.display()), &error))?;
    let format = arguments.format.unwrap_or_else(|| format_of(&arguments.file));
    let mut bodies: Box<dyn Iterator<Item = Result<Body, Failure>>> = match format {
        InputFormat::Lp => Box::new(Lines::new(input, u64::from(arguments.body_lines))),
        InputFormat::Csv => Box::new(csv::Rows::new(input, arguments)?),
    };
    // CSV times are read here, so only numbers of line protocol keep the user's unit.
    let precision = if format == InputFormat::Csv { "ns" } else { &arguments.precision };
    let path = target("/write", [("db", arguments.db.as_str()), ("precision", precision)]);
    let begun = Instant::now();
    block_on(async {
        let mut client = Client::new(&arguments.server.url, TIMEOUT)?;
        let (mut lines, mut without_values, mut refused) = (0_u64, 0_u64, false);
        for body in &mut bodies {
            let body = body?;
            without_values += body.without_values;
            if body.bytes.is_empty() {
                continue;
            }
            let reply = deliver(&mut client, &path, &body.bytes).await?;
            if reply.status == 400 {
                eprintln!("wattlog: lines {}-{}: {}", body.first_line, body.last_line, reply.message());
                refused = true;
            } else if !reply.is_success() {
                let hint =
                    if reply.status == 413 { "; fewer --body-lines make smaller requests" } else { "" };
                let said = reply.message();
                return Err(Failure::new(
                    reply.failure_kind(),
                    format!(
                        "lines {}-{}: {said}{hint}; {lines} lines were stored before",
                        body.first_line, body.last_line
                    ),
                ));
            }
            lines += body.lines;
        }
        if refused {
            return Err(Failure::new(
                Kind::Data,
                "some lines were refused, see above; the others are stored",
            ));
        }
        let pace = pace(lines, begun.elapsed());
        match without_values {
            0 => print(&format!("{lines} lines stored{pace}")),
            rows => print(&format!("{lines} lines stored{pace}, {rows} rows without values left out")),
        }
    })
}

/// How long that took, and how many lines a second these are; nothing for a few.
fn pace(lines: u64, took: Duration) -> String {
    if lines < LEAST_PACED {
        return String::new();
    }
    let seconds = took.as_secs_f64().max(0.001);
    format!(" in {seconds:.1} s ({:.0} a second)", lines as f64 / seconds)
}

async fn deliver(client: &mut Client, path: &str, body: &[u8]) -> Result<Reply, Failure> {
    let mut attempt = 1;
    loop {
        let reply = client.post_packed(path, body).await?;
        if !matches!(reply.status, 503 | 507) || attempt == ATTEMPTS {
            return Ok(reply);
        }
        attempt += 1;
        tokio::time::sleep(reply.retry_after.unwrap_or(DEFAULT_RETRY).min(LONGEST_RETRY)).await;
    }
}

fn format_of(file: &Path) -> InputFormat {
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    if is_csv { InputFormat::Csv } else { InputFormat::Lp }
}

/// What one request carries.
#[derive(Debug, PartialEq, Eq)]
struct Body {
    bytes: Vec<u8>,
    /// Of the input, from 1.
    first_line: u64,
    last_line: u64,
    /// Lines of line protocol in `bytes`.
    lines: u64,
    /// Rows of the input that gave no line: there was nothing to store.
    without_values: u64,
}

/// Line protocol cut into bodies at line ends that are no part of a quoted string.
struct Lines {
    input: BufReader<Box<dyn Read>>,
    per_body: u64,
    line: u64,
}

impl Lines {
    fn new(input: Box<dyn Read>, per_body: u64) -> Self {
        Self { input: BufReader::with_capacity(1 << 16, input), per_body, line: 0 }
    }

    fn next_body(&mut self) -> std::io::Result<Option<Body>> {
        let mut body =
            Body { bytes: Vec::new(), first_line: self.line + 1, last_line: 0, lines: 0, without_values: 0 };
        while body.lines < self.per_body {
            let start = body.bytes.len();
            let mut open = Quotes::default();
            loop {
                let from = body.bytes.len();
                if self.input.read_until(b'\n', &mut body.bytes)? == 0 {
                    break;
                }
                self.line += 1;
                open.read(&body.bytes[from..]);
                if !open.inside {
                    break;
                }
            }
            let line = body.bytes[start..].trim_ascii();
            if body.bytes.len() == start {
                break;
            }
            body.lines += u64::from(!line.is_empty() && line[0] != b'#');
        }
        body.last_line = self.line;
        Ok((!body.bytes.is_empty()).then_some(body))
    }
}

impl Iterator for Lines {
    type Item = Result<Body, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_body().map_err(|error| Failure::io("read the input", &error)).transpose()
    }
}

/// Whether a line break belongs to a string value. A quote counts only behind the field's `=`, as in the grammar.
#[derive(Default)]
struct Quotes {
    inside: bool,
    escaped: bool,
    before: u8,
    comment: Option<bool>,
}

impl Quotes {
    fn read(&mut self, part: &[u8]) {
        let comment = *self.comment.get_or_insert_with(|| part.trim_ascii_start().first() == Some(&b'#'));
        if comment {
            return;
        }
        for &byte in part {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' if self.inside => self.inside = false,
                b'"' if self.before == b'=' => self.inside = true,
                _ => {}
            }
            self.before = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(text: &'static str, per_body: u64) -> Vec<(String, u64, u64, u64)> {
        Lines::new(Box::new(text.as_bytes()), per_body)
            .map(|body| body.unwrap())
            .map(|body| (String::from_utf8(body.bytes).unwrap(), body.first_line, body.last_line, body.lines))
            .collect()
    }

    #[test]
    fn bodies_are_cut_at_line_ends_outside_strings() {
        assert_eq!(
            bodies("a v=1\nb v=2\nc v=3", 2),
            [("a v=1\nb v=2\n".into(), 1, 2, 2), ("c v=3".into(), 3, 3, 1)]
        );
        assert_eq!(
            bodies("a s=\"x\ny\",v=1\nb s=\"\\\"\n\" 5\n", 1),
            [("a s=\"x\ny\",v=1\n".into(), 1, 2, 1), ("b s=\"\\\"\n\" 5\n".into(), 3, 4, 1)]
        );
        // A quote inside a tag value or a comment opens nothing.
        assert_eq!(bodies("a,t=5\" v=1\n# say \"\n\nb v=1\n", 2).len(), 1);
        assert_eq!(bodies("", 2), []);
    }

    #[test]
    fn the_name_tells_the_format() {
        assert_eq!(format_of(Path::new("a.CSV")), InputFormat::Csv);
        assert_eq!(format_of(Path::new("-")), InputFormat::Lp);
    }
}
