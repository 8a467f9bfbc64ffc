//! One JSON value out of a slice; stops at the first byte that does not fit.
//!
//! Strings and numbers are handed to `serde_json` as slices, so escapes and rounding are those of the standard. What is
//! here is the structure, since a value must be followed up to the byte where it breaks off.

use super::{MAX_DEPTH, MAX_VALUES, NotFinite};
use serde_json::{Map, Number, Value};
use std::ops::Range;

/// Why a value ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text ends inside the value.
    Cut,
    /// A byte that does not fit.
    Wrong(String),
}

impl Stop {
    pub(super) fn reason(self) -> String {
        match self {
            Self::Cut => "the file ends inside a value: it was cut off".to_owned(),
            Self::Wrong(reason) => reason,
        }
    }
}

#[derive(Debug)]
enum Step {
    Key(Range<usize>),
    Index(usize),
}

/// Reads from `at` on; after an error `at` is the place of it.
#[derive(Debug)]
pub(super) struct Parser<'a> {
    text: &'a [u8],
    pub(super) at: usize,
    pub(super) not_finite: Vec<NotFinite>,
    path: Vec<Step>,
    values: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at, not_finite: Vec::new(), path: Vec::new(), values: 0 }
    }

    /// Reads an object into `members`, which after an error holds what was whole: members, and elements of a list in which
    /// it ended.
    pub(super) fn top_object(&mut self, members: &mut Map<String, Value>) -> Result<(), Stop> {
        self.members(1, members, Level::Top)
    }

    /// Reads one value, `depth` levels below the outermost.
    pub(super) fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Stop::Wrong(format!("more than {MAX_VALUES} values in one object")));
        }
        match self.text.get(self.at).copied() {
            None => Err(Stop::Cut),
            Some(b'{') => {
                let mut members = Map::new();
                self.members(depth, &mut members, Level::Inner)?;
                Ok(Value::Object(members))
            }
            Some(b'[') => {
                let mut elements = Vec::new();
                self.elements(depth, &mut elements)?;
                Ok(Value::Array(elements))
            }
            Some(b'"') => self.string().map(Value::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word(),
            Some(byte) => Err(Stop::Wrong(format!("{} where a value should start", named(byte)))),
        }
    }

    fn members(&mut self, depth: usize, members: &mut Map<String, Value>, level: Level) -> Result<(), Stop> {
        self.enter(depth)?;
        loop {
            self.space();
            match self.peek()? {
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                b'"' => {}
                byte => return Err(Stop::Wrong(format!("{} where a key should start", named(byte)))),
            }
            let key_start = self.at + 1;
            let key = self.string()?;
            self.path.push(Step::Key(key_start..self.at - 1));
            self.space();
            if self.peek()? != b':' {
                return Err(Stop::Wrong(format!(
                    "no colon after the key {:?}",
                    crate::report::shortened(&key)
                )));
            }
            self.at += 1;
            self.space();
            if level == Level::Top && self.text.get(self.at) == Some(&b'[') {
                let mut elements = Vec::new();
                let ended = self.elements(depth + 1, &mut elements);
                members.insert(key, Value::Array(elements));
                ended?;
            } else {
                let value = self.value(depth + 1)?;
                members.insert(key, value);
            }
            self.path.pop();
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {}
                byte => return Err(Stop::Wrong(format!("{} after a member", named(byte)))),
            }
        }
    }

    fn elements(&mut self, depth: usize, elements: &mut Vec<Value>) -> Result<(), Stop> {
        self.enter(depth)?;
        loop {
            self.space();
            if self.peek()? == b']' {
                self.at += 1;
                return Ok(());
            }
            self.path.push(Step::Index(elements.len()));
            let value = self.value(depth + 1)?;
            elements.push(value);
            self.path.pop();
            self.space();
            match self.peek()? {
                b',' => self.at += 1,
                b']' => {}
                byte => return Err(Stop::Wrong(format!("{} after an element", named(byte)))),
            }
        }
    }

    fn enter(&mut self, depth: usize) -> Result<(), Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Wrong(format!("nested deeper than {MAX_DEPTH} levels")));
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<String, Stop> {
        let start = self.at;
        let mut end = start + 1;
        loop {
            match self.text.get(end) {
                None => {
                    self.at = self.text.len();
                    return Err(Stop::Cut);
                }
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(0..=0x1F) => {
                    self.at = end;
                    return Err(Stop::Wrong(
                        "a line or a control character ends a text: the line is torn".to_owned(),
                    ));
                }
                Some(_) => end += 1,
            }
        }
        match serde_json::from_slice(&self.text[start..=end]) {
            Ok(text) => {
                self.at = end + 1;
                Ok(text)
            }
            Err(_) => Err(Stop::Wrong("a text that is no UTF-8 or has an escape that is none".to_owned())),
        }
    }

    fn number(&mut self) -> Result<Value, Stop> {
        let rest = &self.text[self.at..];
        if rest.starts_with(b"-I") {
            return self.word();
        }
        let len = rest
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'))
            .count();
        if len == rest.len() {
            // More digits may have followed.
            self.at = self.text.len();
            return Err(Stop::Cut);
        }
        let token = &rest[..len];
        let value = match serde_json::from_slice::<Number>(token) {
            Ok(number) => Value::Number(number),
            Err(_) if is_number(token) => self.not_finite_here(token),
            Err(_) => {
                let text = crate::report::shortened(&String::from_utf8_lossy(token));
                return Err(Stop::Wrong(format!("{text:?} is no number")));
            }
        };
        self.at += len;
        Ok(value)
    }

    /// `true`, `false`, `null`, and what Python writes for numbers that are none.
    fn word(&mut self) -> Result<Value, Stop> {
        let rest = &self.text[self.at..];
        let len = 1 + rest[1..].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        if len == rest.len() {
            self.at = self.text.len();
            return Err(Stop::Cut);
        }
        let token = &rest[..len];
        let value = match token {
            b"true" => Value::Bool(true),
            b"false" => Value::Bool(false),
            b"null" => Value::Null,
            b"NaN" | b"Infinity" | b"-Infinity" => self.not_finite_here(token),
            _ => {
                let text = crate::report::shortened(&String::from_utf8_lossy(token));
                return Err(Stop::Wrong(format!("{text:?} is no value")));
            }
        };
        self.at += len;
        Ok(value)
    }

    fn not_finite_here(&mut self, token: &[u8]) -> Value {
        let steps: Vec<String> = self
            .path
            .iter()
            .map(|step| match step {
                Step::Key(range) => String::from_utf8_lossy(&self.text[range.clone()]).into_owned(),
                Step::Index(index) => index.to_string(),
            })
            .collect();
        let token = crate::report::shortened(&String::from_utf8_lossy(token));
        self.not_finite.push(NotFinite { path: steps.join("/"), token });
        Value::Null
    }

    fn peek(&mut self) -> Result<u8, Stop> {
        self.text.get(self.at).copied().ok_or(Stop::Cut)
    }

    fn space(&mut self) {
        self.at += self.text[self.at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
    }
}

/// Whether what was whole of a list is kept when the text breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Inner,
}

/// True for the grammar of a JSON number whose size no double holds.
fn is_number(token: &[u8]) -> bool {
    let digits = |from: usize| token[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let start = usize::from(token[0] == b'-');
    let whole = digits(start);
    if whole == 0 || (whole > 1 && token[start] == b'0') {
        return false;
    }
    let mut at = start + whole;
    if token.get(at) == Some(&b'.') {
        let fraction = digits(at + 1);
        if fraction == 0 {
            return false;
        }
        at += 1 + fraction;
    }
    if matches!(token.get(at), Some(b'e' | b'E')) {
        at += 1 + usize::from(matches!(token.get(at + 1), Some(b'+' | b'-')));
        if at >= token.len() || digits(at) == 0 {
            return false;
        }
        at += digits(at);
    }
    at == token.len()
}

fn named(byte: u8) -> String {
    if byte.is_ascii_graphic() { format!("`{}`", byte as char) } else { format!("byte {byte:#04x}") }
}
