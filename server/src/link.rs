//! Links to `/api/v1/query` that show where a number comes from.

use std::fmt::{self, Write as _};
use std::ops::Range;
use wattlog_engine::query::{TagFilter, TagPredicate};

/// A question about one series; its text is a relative link that answers.
#[derive(Debug, Clone)]
pub(crate) struct QueryLink {
    range: Range<i64>,
    /// All but the range, each pair begun by `&`.
    rest: String,
}

impl QueryLink {
    /// About the series of `measurement` that has `tags`; an empty value is a tag that it does not have.
    pub(crate) fn new(measurement: &str, tags: &[(String, String)], range: &Range<i64>) -> Self {
        let mut link = Self { range: range.clone(), rest: String::new() };
        link.push("measurement", measurement);
        for (key, value) in tags {
            let marked = value.starts_with(['=', '!', '~']);
            link.push(&format!("tag.{key}"), &format!("{}{value}", if marked { "=" } else { "" }));
        }
        link
    }

    /// The same with more conditions on tags, as they were asked for; those on tags that the series is told by go without.
    pub(crate) fn among(&self, tags: &[(String, String)], asked: &[TagFilter]) -> Self {
        let mut link = self.clone();
        for filter in asked.iter().filter(|filter| tags.iter().all(|(key, _)| *key != filter.key)) {
            let name = format!("tag.{}", filter.key);
            let mut push = |mark: &str, value: &str| link.push(&name, &format!("{mark}{value}"));
            match &filter.predicate {
                TagPredicate::In(values) => values.iter().for_each(|value| push("=", value)),
                TagPredicate::NotIn(values) => values.iter().for_each(|value| push("!", value)),
                TagPredicate::Matches(pattern) => push("~", pattern),
                TagPredicate::NotMatches(pattern) => push("!~", pattern),
            }
        }
        link
    }

    /// The same with one more parameter.
    pub(crate) fn with(&self, name: &str, value: &str) -> Self {
        let mut link = self.clone();
        link.push(name, value);
        link
    }

    /// The same about other times.
    pub(crate) fn over(&self, range: Range<i64>) -> Self {
        Self { range, ..self.clone() }
    }

    fn push(&mut self, name: &str, value: &str) {
        self.rest.push('&');
        escape(&mut self.rest, name);
        self.rest.push('=');
        escape(&mut self.rest, value);
    }
}

impl fmt::Display for QueryLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Range { start, end } = self.range;
        write!(f, "/api/v1/query?start={start}ns&end={end}ns{}", self.rest)
    }
}

/// As the query part of a URL has it: all but letters, digits and `-._~` by their bytes.
pub(crate) fn escape(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // A String takes all.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::params::{Route, parse};
    use wattlog_engine::query::Zone;
    use wattlog_model::Timestamp;

    #[test]
    fn what_a_link_says_is_what_is_asked() {
        let hostile = "=a&b=c d+%41\u{17c}!";
        let tags = [("device_id".to_owned(), hostile.to_owned()), ("k y".to_owned(), String::new())];
        let link = QueryLink::new("m&x", &tags, &(-5..7)).with("fields", "a,b").with("fn", "count");
        let text = link.over(-20..30).to_string();
        let query = text.strip_prefix("/api/v1/query?").unwrap();
        let asked = parse(query, Route::Query, "db", &Zone::UTC, Timestamp(0)).unwrap().request;
        assert_eq!((asked.start.0, asked.end.0, asked.measurement.as_str()), (-20, 30, "m&x"));
        let found: Vec<(&str, TagPredicate)> =
            asked.tags.iter().map(|tag| (tag.key.as_str(), tag.predicate.clone())).collect();
        let is = |value: &str| TagPredicate::In(vec![value.to_owned()]);
        assert_eq!(found, [("device_id", is(hostile)), ("k y", is(""))]);
        assert_eq!(asked.fields, Some(vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn conditions_on_tags_come_back_as_they_were_asked() {
        let query =
            "measurement=m&start=-1d&tag.a==~x&tag.a=y&tag.b=!z&tag.b=!=z&tag.c=~^k&tag.d=!~v$&tag.e=f";
        let read = |query: &str| parse(query, Route::Query, "db", &Zone::UTC, Timestamp(0)).unwrap().request;
        let asked = read(query).tags;
        assert_eq!(asked.len(), 5);
        let tags = [("e".to_owned(), "f".to_owned())];
        let text = QueryLink::new("m", &tags, &(0..1)).among(&tags, &asked).to_string();
        let mut found = read(text.strip_prefix("/api/v1/query?").unwrap()).tags;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found, asked);
    }
}
