//! All points of an open engine in the one text form that the second reader also writes (tests/format/wattformat/points.py).

use std::fmt::Write as _;
use wattlog_engine::Engine;
use wattlog_engine::query::{QueryControl, QueryRequest, ResultSeries, ResultValues};
use wattlog_model::Timestamp;

/// One line a point, by database, policy, measurement, tags and time.
pub fn points(engine: &Engine) -> String {
    let mut text = String::new();
    for database in sorted(engine.databases(), |info| info.name.clone()) {
        for policy in sorted(database.retention_policies, Clone::clone) {
            for measurement in sorted(engine.measurements(&database.name).unwrap(), Clone::clone) {
                let control = QueryControl::default();
                let mut request =
                    QueryRequest::raw(&database.name, &measurement, Timestamp::MIN, Timestamp(i64::MAX));
                request.retention_policy = Some(policy.clone());
                let answer = engine.query(&request, &control).unwrap();
                assert!(!answer.is_partial(), "{:?}", answer.partial);
                for series in sorted(answer.series, |series| series.tags.clone()) {
                    print(&mut text, [&database.name, &policy, &measurement], &series);
                }
            }
        }
    }
    text
}

fn sorted<T, K: Ord>(of: Vec<T>, key: impl Fn(&T) -> K) -> Vec<T> {
    let mut of = of;
    of.sort_by_key(key);
    of
}

fn print(text: &mut String, [database, policy, measurement]: [&str; 3], series: &ResultSeries) {
    let ResultValues::Time(times) = &series.columns[0].values else { panic!("the first column is time") };
    let mut columns: Vec<_> = series.columns[1..].iter().collect();
    columns.sort_by(|a, b| a.name.cmp(&b.name));
    let tags: Vec<String> =
        series.tags.iter().map(|(key, value)| format!("[{},{}]", quoted(key), quoted(value))).collect();
    for (row, time) in times.iter().enumerate() {
        let fields: Vec<String> = columns
            .iter()
            .filter_map(|column| Some(format!("{}:{}", quoted(&column.name), value(&column.values, row)?)))
            .collect();
        assert!(!fields.is_empty(), "a row without a value");
        let _ = writeln!(
            text,
            r#"{{"database":{},"policy":{},"measurement":{},"tags":[{}],"time":{},"fields":{{{}}}}}"#,
            quoted(database),
            quoted(policy),
            quoted(measurement),
            tags.join(","),
            time.expect("a row has a time"),
            fields.join(",")
        );
    }
}

fn value(values: &ResultValues, row: usize) -> Option<String> {
    Some(match values {
        ResultValues::Float(values) => format!(r#"["float","{:016x}"]"#, values[row]?.to_bits()),
        ResultValues::Integer(values) => format!(r#"["integer","{}"]"#, values[row]?),
        ResultValues::Unsigned(values) => format!(r#"["unsigned","{}"]"#, values[row]?),
        ResultValues::Boolean(values) => format!(r#"["boolean",{}]"#, values[row]?),
        ResultValues::String(values) => format!(r#"["string",{}]"#, quoted(values[row].as_ref()?)),
        ResultValues::Time(_) => panic!("a second column of times"),
    })
}

/// A JSON string that escapes what must be and nothing else (RFC 8259, section 7; short forms where there are any).
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for sign in text.chars() {
        match sign {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\0'..'\u{20}' => {
                let _ = write!(quoted, "\\u{:04x}", sign as u32);
            }
            _ => quoted.push(sign),
        }
    }
    quoted.push('"');
    quoted
}
