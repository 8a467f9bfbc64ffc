//! The predicate of `POST /api/v2/delete`: `_measurement="m" AND device_id="a"`.
//!
//! Promise: total; a predicate is understood whole or refused with the place of what is not.
//!
//! Grammar: one or more comparisons joined by AND (in any case). A comparison is KEY=VALUE; a key is a bare word or a text in
//! double quotes, a value a bare word or a text in double or single quotes; a backslash in quotes keeps the character after
//! it. `_measurement` names the measurement, `_field` a field, every other key a tag. OR, != and regular expressions are not
//! in this grammar (InfluxDB 2.x refuses them too).

/// What a predicate selects.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Predicate {
    /// The measurement; none for all.
    pub measurement: Option<String>,
    /// The field; none for whole points.
    pub field: Option<String>,
    /// Tags and their values.
    pub tags: Vec<(String, String)>,
}

/// Reads a predicate; an empty one selects everything.
///
/// # Errors
/// A text for the client that says where it went wrong.
pub fn parse(text: &str) -> Result<Predicate, String> {
    let mut predicate = Predicate::default();
    let mut reader = Reader { text, at: 0 };
    reader.skip_blanks();
    if reader.is_at_end() {
        return Ok(predicate);
    }
    loop {
        let key = reader.word("a key")?;
        reader.skip_blanks();
        if !reader.take('=') {
            return Err(reader.error("expected ="));
        }
        reader.skip_blanks();
        let value = reader.word("a value")?;
        match key.as_str() {
            "_measurement" => set(&mut predicate.measurement, value, "_measurement")?,
            "_field" => set(&mut predicate.field, value, "_field")?,
            _ if predicate.tags.iter().any(|(known, _)| *known == key) => {
                return Err(format!("the tag {key:?} stands twice: no point has two values of it"));
            }
            _ => predicate.tags.push((key, value)),
        }
        reader.skip_blanks();
        if reader.is_at_end() {
            return Ok(predicate);
        }
        if !reader.take_and() {
            return Err(reader.error("expected AND"));
        }
        reader.skip_blanks();
    }
}

fn set(slot: &mut Option<String>, value: String, name: &str) -> Result<(), String> {
    if slot.replace(value).is_some() { Err(format!("{name} stands twice")) } else { Ok(()) }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn is_at_end(&self) -> bool {
        self.rest().is_empty()
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.rest().starts_with(wanted);
        self.at += if found { wanted.len_utf8() } else { 0 };
        found
    }

    fn take_and(&mut self) -> bool {
        let rest = self.rest();
        let found = rest.get(..3).is_some_and(|word| word.eq_ignore_ascii_case("and"))
            && rest[3..].starts_with(|c: char| c.is_whitespace());
        self.at += if found { 3 } else { 0 };
        found
    }

    fn word(&mut self, what: &str) -> Result<String, String> {
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\''));
        let Some(quote) = quote else {
            let bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/');
            let len = self.rest().find(|c| !bare(c)).unwrap_or(self.rest().len());
            if len == 0 {
                return Err(self.error(&format!("expected {what}")));
            }
            let word = self.rest()[..len].to_owned();
            self.at += len;
            return Ok(word);
        };
        let mut word = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped)) => word.push(escaped),
                    None => break,
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(word);
                }
                c => word.push(c),
            }
        }
        Err(self.error("the text in quotes does not end"))
    }

    fn error(&self, what: &str) -> String {
        format!("predicate, at character {}: {what}", self.text[..self.at].chars().count() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_clients_send_is_understood() {
        let found =
            parse(r#"_measurement="energy data" AND device_id='a\'b' and "odd key"=x-1 AND _field=price"#);
        let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = Predicate {
            measurement: Some("energy data".to_owned()),
            field: Some("price".to_owned()),
            tags: vec![tag("device_id", "a'b"), tag("odd key", "x-1")],
        };
        assert_eq!(found, Ok(expected));
        assert_eq!(parse("  "), Ok(Predicate::default()));
    }

    #[test]
    fn what_is_not_in_the_grammar_is_refused_with_its_place() {
        for (text, wanted) in [
            ("_measurement", "at character 13: expected ="),
            ("a=b OR c=d", "at character 5: expected AND"),
            ("a!=b", "at character 2: expected ="),
            ("a=~/x/", "at character 3: expected a value"),
            ("a=\"x", "does not end"),
            ("a=b AND", "expected AND"),
            ("a=b AND ", "expected a key"),
            ("a=b and a=c", "stands twice"),
            ("_measurement=a AND _measurement=b", "stands twice"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[ -~żß]{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn quoted_texts_come_back(value in "[^\u{0}]{0,30}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("k=\"{quoted}\"")).unwrap().tags, vec![("k".to_owned(), value)]);
        }
    }
}
