//! JSON as Python wrote it and as a full disk or a pulled plug left it: one value after the other, never more than is there.
//!
//! Promise: any bytes give a finite list of items; every value that is whole comes out, also before and after damage;
//! nothing is made up. Not here: what a value means.
//!
//! Read beyond the standard: `NaN`, `Infinity`, `-Infinity` and numbers that no double holds (they become `null` and are
//! named), a leading byte order mark, several values one after the other, with or without line breaks.
//!
//! Invariants
//! 1. A value comes out whole only if its closing bracket is there. Of an object at the outermost level that the file cuts
//!    off, what was complete comes out as [`Item::Cut`]: whole members, and whole elements of the list it ended in.
//! 2. After damage reading goes on behind the damaged value's start at the next `{"timestamp"` of its line, since a record
//!    that was appended after a torn one stands on the torn one's line; if there is none, at the next line that starts a value at the indentation of the list's records (of the
//!    damaged value outside a list), the one form in which both pretty-printed lists and JSON lines start a record. If there
//!    is none, and the damage is no mere end of the file, at the next line that starts an object at all.
//! 3. Nesting deeper than [`MAX_DEPTH`] and more than [`MAX_VALUES`] in one value are damage; so is the fault after [`MAX_FAULTS`] faults, which ends the file.

mod parser;

use parser::{Parser, Stop};
use serde_json::{Map, Value};

/// Levels of nesting read; the optimiser wrote four.
pub(crate) const MAX_DEPTH: usize = 32;
/// Values inside one outermost value; 32 bytes of memory each. The longest list inside an object held 300 records of 20.
pub(crate) const MAX_VALUES: usize = 1_000_000;
/// Damaged places of one file that are told before it is given up.
pub(crate) const MAX_FAULTS: usize = 1_000;

/// One thing found at the outermost level, or an element of a list there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Item {
    /// A whole value.
    Value { value: Value, not_finite: Vec<NotFinite>, place: Place },
    /// The beginning of an object that the file does not end; the fault tells where.
    Cut { members: Map<String, Value>, not_finite: Vec<NotFinite>, place: Place, fault: Fault },
    /// Bytes that are no value.
    Fault(Fault),
}

/// Where in the text, after the byte order mark and decompression counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub offset: usize,
    /// Counted from 1.
    pub line: u64,
}

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub place: Place,
    pub reason: String,
}

/// A number that was written and is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NotFinite {
    /// Keys and indices from the value's top, joined by `/`.
    pub path: String,
    /// As written, shortened.
    pub token: String,
}

/// The items of one file.
#[derive(Debug)]
pub(crate) struct Items<'a> {
    text: &'a [u8],
    at: usize,
    in_list: bool,
    /// What stands before a record of the list on its line; of the last whole one.
    indentation: &'a [u8],
    /// No line further on starts a value behind these spaces: not looked for again.
    exhausted: Option<&'a [u8]>,
    faults: usize,
    counted: Place,
}

/// What Python puts before the elements of a list.
const PYTHON_INDENTATION: &[u8] = b"  ";
/// How each record of a file of lines begins.
const RECORD_START: &[u8] = b"{\"timestamp\"";
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

impl<'a> Items<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        let at = if has_byte_order_mark(text) { BYTE_ORDER_MARK.len() } else { 0 };
        Self {
            text,
            at,
            in_list: false,
            indentation: b"",
            exhausted: None,
            faults: 0,
            counted: Place { offset: 0, line: 1 },
        }
    }

    /// The place of an item; items are asked for in rising order.
    fn place(&mut self, offset: usize) -> Place {
        self.counted = self.place_ahead(offset);
        self.counted
    }

    /// The place of something behind the start of the last item; the next item may lie before it.
    fn place_ahead(&self, offset: usize) -> Place {
        let between = &self.text[self.counted.offset..offset];
        Place {
            offset,
            line: self.counted.line + between.iter().filter(|byte| **byte == b'\n').count() as u64,
        }
    }

    fn skip(&mut self, skipped: impl Fn(u8) -> bool) {
        self.at += self.text[self.at..].iter().take_while(|byte| skipped(**byte)).count();
    }

    /// Spaces between the start of the line and `start`; none if there is anything else. Looks back over them alone: a
    /// whole file may be one line.
    fn indentation_of(&self, start: usize) -> &'a [u8] {
        let before = &self.text[..start];
        let len = before.iter().rev().take_while(|byte| is_indentation(**byte)).count();
        let (line, spaces) = before.split_at(start - len);
        if line.last().is_none_or(|byte| *byte == b'\n') { spaces } else { b"" }
    }

    /// Moves to the next line after `start` where a value may begin (invariant 2); to the end if there is none.
    fn go_on_after(&mut self, start: usize, stop: &Stop) {
        let rest = &self.text[start + 1..];
        let line = &rest[..rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())];
        if let Some(found) = line.windows(RECORD_START.len()).position(|window| window == RECORD_START) {
            self.at = start + 1 + found;
            return;
        }
        let usual = if self.in_list { self.indentation } else { self.indentation_of(start) };
        let starts_usually = |line: &[u8]| {
            line.strip_prefix(usual)
                .filter(|rest| matches!(rest.first(), Some(b'{' | b'[')))
                .map(|_| usual.len())
        };
        let starts_at_all = |line: &[u8]| {
            let indentation = line.iter().take_while(|byte| is_indentation(**byte)).count();
            (line.get(indentation) == Some(&b'{')).then_some(indentation)
        };
        let next = if self.exhausted == Some(usual) { None } else { self.next_line(start, starts_usually) };
        if next.is_none() {
            self.exhausted = Some(usual);
        }
        let next = match (next, stop) {
            (None, Stop::Wrong(_)) => self.next_line(start, starts_at_all),
            (next, _) => next,
        };
        self.at = next.unwrap_or(self.text.len());
    }

    fn next_line(&self, start: usize, begins: impl Fn(&[u8]) -> Option<usize>) -> Option<usize> {
        let mut at = start;
        loop {
            at += self.text[at..].iter().position(|byte| *byte == b'\n')? + 1;
            if let Some(indentation) = begins(&self.text[at..]) {
                return Some(at + indentation);
            }
        }
    }

    fn fault(&mut self, offset: usize, reason: String) -> Fault {
        self.faults += 1;
        let place = self.place_ahead(offset);
        Fault { place, reason }
    }
}

fn is_indentation(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// True if the text starts with the mark that Windows tools put there.
pub(crate) fn has_byte_order_mark(text: &[u8]) -> bool {
    text.starts_with(BYTE_ORDER_MARK)
}

impl Iterator for Items<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        loop {
            self.skip(|byte| byte.is_ascii_whitespace() || byte == b',');
            let Some(byte) = self.text.get(self.at).copied() else {
                if !self.in_list {
                    return None;
                }
                self.in_list = false;
                let reason = "the list has no end: the file was cut off".to_owned();
                return Some(Item::Fault(self.fault(self.text.len(), reason)));
            };
            match byte {
                b'[' if !self.in_list => {
                    self.in_list = true;
                    self.indentation = PYTHON_INDENTATION;
                    self.at += 1;
                }
                b']' if self.in_list => {
                    self.in_list = false;
                    self.at += 1;
                }
                _ => break,
            }
        }
        if self.faults >= MAX_FAULTS {
            let offset = self.at;
            self.at = self.text.len();
            self.in_list = false;
            let reason = format!("more than {MAX_FAULTS} damaged places: the rest of the file was not read");
            return Some(Item::Fault(self.fault(offset, reason)));
        }
        let start = self.at;
        let place = self.place(start);
        let mut parser = Parser::new(self.text, start);
        if !self.in_list && self.text[start] == b'{' {
            let mut members = Map::new();
            let ended = parser.top_object(&mut members);
            let not_finite = std::mem::take(&mut parser.not_finite);
            match ended {
                Ok(()) => {
                    self.at = parser.at;
                    return Some(Item::Value { value: Value::Object(members), not_finite, place });
                }
                Err(stop) => {
                    let cut = stop == Stop::Cut;
                    self.go_on_after(start, &stop);
                    let fault = self.fault(parser.at.min(self.text.len()), stop.reason());
                    // A torn line with whole lines behind it is damage; a cut needs to be the last thing there is.
                    if cut && self.at == self.text.len() {
                        return Some(Item::Cut { members, not_finite, place, fault });
                    }
                    return Some(Item::Fault(fault));
                }
            }
        }
        match parser.value(1) {
            Ok(value) => {
                self.at = parser.at;
                if self.in_list {
                    self.indentation = self.indentation_of(start);
                }
                Some(Item::Value { value, not_finite: parser.not_finite, place })
            }
            Err(stop) => {
                let cut = stop == Stop::Cut;
                self.go_on_after(start, &stop);
                let fault = self.fault(parser.at.min(self.text.len()), stop.reason());
                if cut && self.at == self.text.len() {
                    // The list had no end either; one fault tells both.
                    self.in_list = false;
                }
                Some(Item::Fault(fault))
            }
        }
    }
}

#[cfg(test)]
mod tests;
