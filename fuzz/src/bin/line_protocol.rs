//! Bodies of line protocol: any bytes give points and refusals; a line means the same among others as alone, where
//! nothing is remembered of lines before it; points that are written out read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fmt::Write as _;
use wattlog_engine::WriteBatch;
use wattlog_model::{FieldValue, Point, Timestamp};
use wattlog_wire::line_protocol::{LineErrors, LineOptions, Precision, parse_into};

const OPTIONS: LineOptions = LineOptions {
    precision: Precision::Nanoseconds,
    receive_time: Timestamp(1_772_359_200_123_000_000),
    max_line_bytes: 1 << 20,
    max_batch_bytes: 64 << 20,
};

fuzz_target!(|body: &[u8]| {
    let (points, errors) = parsed(body);

    let (mut alone, mut unparsed, mut refused) = (Vec::new(), 0, 0);
    for (number, line) in lines(body).into_iter().enumerate() {
        let (mut its, errors) = parsed(line);
        assert!(
            its.len() + errors.unparsed as usize + errors.refused_points as usize <= 1,
            "{:?}",
            text(line)
        );
        its.iter_mut().for_each(|(line, _)| *line = number as u32);
        alone.append(&mut its);
        unparsed += errors.unparsed;
        refused += errors.refused_points;
    }
    assert_eq!(shown(&points), shown(&alone), "{:?}", text(body));
    assert_eq!((errors.unparsed, errors.refused_points), (unparsed, refused), "{:?}", text(body));

    let mut again = String::new();
    let writable: Vec<&(u32, Point)> = points.iter().filter(|(_, point)| can_be_written(point)).collect();
    writable.iter().for_each(|(_, point)| write_line(point, &mut again));
    let (back, errors) = parsed(again.as_bytes());
    assert!(errors.is_empty(), "{errors:?}: {again:?}");
    let before: Vec<(u32, Point)> =
        writable.iter().zip(0..).map(|((_, point), line)| (line, point.clone())).collect();
    assert_eq!(shown(&back), shown(&before), "{again:?}");
});

fn parsed(body: &[u8]) -> (Vec<(u32, Point)>, LineErrors) {
    let mut batch = WriteBatch::new("fuzz", None);
    let errors =
        parse_into(&mut batch, body, &OPTIONS).expect("4 KiB of text fit into the memory of a batch");
    let points = batch.to_points();
    assert_eq!(points.len() as u64, batch.points());
    assert_eq!(points.iter().map(|(_, point)| point.fields.len() as u64).sum::<u64>(), batch.values());
    (points, errors)
}

/// Points as text with their fields by name; -0.0 differs from 0.0 there.
fn shown(points: &[(u32, Point)]) -> Vec<String> {
    let show = |(line, point): &(u32, Point)| {
        let mut fields = point.fields.clone();
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        format!("{line} {:?} {:?} {:?} {fields:?}", point.measurement, point.tags, point.time)
    };
    points.iter().map(show).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a body, as InfluxDB 1.x cuts them (models/points.go, `scanLine`): a backslash hides the byte behind it;
/// behind the first blank a quote opens or closes a text while more `=` than `,` were seen outside of texts. The line
/// feed stays with its line, and with a last line without one comes what the body ends with.
fn lines(body: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < body.len() {
        let (mut quoted, mut fields, mut equals, mut commas) = (false, false, 0, 0);
        let mut i = start;
        while i < body.len() {
            match body[i] {
                b'\\' if i + 2 < body.len() => i += 1,
                b' ' => fields = true,
                b'=' if fields && !quoted => equals += 1,
                b',' if fields && !quoted => commas += 1,
                b'"' if fields && equals > commas => quoted = !quoted,
                b'\n' if !quoted => break,
                _ => {}
            }
            i += 1;
        }
        // A line alone must be cut like the line among others: where a backslash hides the byte before the end depends
        // on how much follows.
        lines.push(&body[start..body.len().min(i + 1)]);
        start = i + 1;
    }
    lines
}

/// A backslash before a border, a comment and a blank in front cannot be written in this protocol.
fn can_be_written(point: &Point) -> bool {
    let names = point.tags.iter().flat_map(|(key, value)| [key, value]).chain([point.measurement.as_str()]);
    let fields = point.fields.iter().map(|(name, _)| name.as_str());
    let is_plain = |name: &str| !name.contains(['\\', '\n', '\r']);
    names.chain(fields.clone()).all(is_plain)
        && !point.measurement.starts_with([' ', '\t', '\0', '#', ','])
        && fields.clone().all(|name| !name.starts_with(['\t', '\0']))
}

fn write_line(point: &Point, out: &mut String) {
    escape(&point.measurement, ", ", out);
    for (key, value) in point.tags.iter() {
        out.push(',');
        escape(key, ",= ", out);
        out.push('=');
        escape(value, ",= ", out);
    }
    for (number, (name, value)) in point.fields.iter().enumerate() {
        out.push(if number == 0 { ' ' } else { ',' });
        escape(name, ",= ", out);
        // Writing to a string cannot fail.
        let _ = match value {
            FieldValue::Float(v) => write!(out, "={v:?}"),
            FieldValue::Integer(v) => write!(out, "={v}i"),
            FieldValue::Unsigned(v) => write!(out, "={v}u"),
            FieldValue::Boolean(v) => write!(out, "={v}"),
            FieldValue::String(v) => {
                out.push_str("=\"");
                escape(v, "\"\\", out);
                out.write_str("\"")
            }
        };
    }
    let _ = writeln!(out, " {}", point.time.expect("a batch holds times").0);
}

fn escape(text: &str, specials: &str, out: &mut String) {
    for c in text.chars() {
        if specials.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
}
