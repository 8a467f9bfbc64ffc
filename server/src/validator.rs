//! Entity tags of answers that are drawn again and again: grids and pictures.
//!
//! Promise: the tag of a question changes when the values of its answer do, and only then; a seal, a compaction or a
//! restart of the same build leaves it as it is.
//!
//! A table remembers, for questions asked lately, the version of the data that a tag was computed from, so that a client
//! that has the newest answer is told so without it being computed again.

use crate::wire::answer::{AnswerFormat, TimeFormat};
use axum::http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use std::hash::{DefaultHasher, Hash, Hasher};
use wattlog_engine::query::{QueryRequest, QueryResult, ResultValues};
use wattlog_model::Unit;

/// Questions remembered. One takes 32 bytes.
const PLACES: usize = 4096;

/// Tags of questions asked lately; two questions of one place displace each other.
#[derive(Debug)]
pub(crate) struct Validators {
    places: Mutex<Box<[Option<Known>]>>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    question: u64,
    version: u64,
    tag: Tag,
}

/// An entity tag: a hash of all values of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u64);

/// A question, however its parameters were written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question(u64);

impl Default for Validators {
    fn default() -> Self {
        Self { places: Mutex::new(vec![None; PLACES].into_boxed_slice()) }
    }
}

impl Validators {
    /// The tag of the answer to a question, if that was computed from data of this version.
    pub(crate) fn get(&self, question: Question, version: u64) -> Option<Tag> {
        let known = self.places.lock()[question.0 as usize % PLACES]?;
        (known.question == question.0 && known.version == version).then_some(known.tag)
    }

    /// Remembers a tag. `version` was taken before the answer was computed, which may so be newer but never older.
    pub(crate) fn put(&self, question: Question, version: u64, tag: Tag) {
        let known = Known { question: question.0, version, tag };
        self.places.lock()[question.0 as usize % PLACES] = Some(known);
    }
}

impl Question {
    pub(crate) fn new(request: &QueryRequest, format: AnswerFormat, times: &TimeFormat) -> Self {
        let mut hasher = DefaultHasher::new();
        format!("{request:?} {format:?} {times:?}").hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl Tag {
    pub(crate) fn of(question: Question, result: &QueryResult) -> Self {
        let mut hasher = DefaultHasher::new();
        question.0.hash(&mut hasher);
        for series in &result.series {
            series.tags.hash(&mut hasher);
            for column in &series.columns {
                column.name.hash(&mut hasher);
                column.unit.as_ref().map(Unit::as_str).hash(&mut hasher);
                match &column.values {
                    ResultValues::Time(v) | ResultValues::Integer(v) => v.hash(&mut hasher),
                    ResultValues::Float(v) => v.iter().for_each(|v| v.map(f64::to_bits).hash(&mut hasher)),
                    ResultValues::Unsigned(v) => v.hash(&mut hasher),
                    ResultValues::Boolean(v) => v.hash(&mut hasher),
                    ResultValues::String(v) => v.hash(&mut hasher),
                }
            }
        }
        Self(hasher.finish())
    }

    /// Weak: what an answer tells of its making (times it took, cursors) is not part of it.
    pub(crate) fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_text()).unwrap_or(HeaderValue::from_static("W/\"\""))
    }

    /// Whether `If-None-Match` names this tag (RFC 9110 section 13.1.2).
    pub(crate) fn is_known_to(self, headers: &HeaderMap) -> bool {
        let own = self.to_text();
        headers
            .get_all(header::IF_NONE_MATCH)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.split(',').map(str::trim).any(|tag| tag == "*" || strong(tag) == strong(&own)))
    }

    fn to_text(self) -> String {
        format!("W/\"{:016x}\"", self.0)
    }
}

/// A tag without the mark of a weak one.
fn strong(tag: &str) -> &str {
    tag.strip_prefix("W/").unwrap_or(tag)
}
