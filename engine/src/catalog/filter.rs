//! Which series of a measurement a query wants, by their tags. A missing tag has the empty value.

use regex::{Regex, RegexBuilder};

/// One condition on one tag.
#[derive(Debug, Clone)]
pub struct SeriesFilter {
    /// Key of the tag.
    pub key: String,
    /// What its value must be.
    pub predicate: SeriesPredicate,
}

/// What a tag's value must be. The empty text stands for "has no such tag".
#[derive(Debug, Clone)]
pub enum SeriesPredicate {
    /// One of these.
    In(Vec<String>),
    /// None of these.
    NotIn(Vec<String>),
    /// A text in which the expression is found (not anchored).
    Matches(Regex),
    /// A text in which it is not found.
    NotMatches(Regex),
}

/// Most memory a compiled expression may take, in bytes; the automaton built while matching gets as much again.
pub const MAX_REGEX_BYTES: usize = 1 << 20;

/// Compiles an expression for [`SeriesPredicate`] under [`MAX_REGEX_BYTES`].
///
/// # Errors
/// If it is no expression, or compiles to more than the limit.
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(MAX_REGEX_BYTES).dfa_size_limit(MAX_REGEX_BYTES).build()
}

impl SeriesPredicate {
    /// Whether a tag with `value` satisfies it.
    pub fn accepts(&self, value: &str) -> bool {
        match self {
            Self::In(values) => values.iter().any(|wanted| wanted == value),
            Self::NotIn(values) => !values.iter().any(|unwanted| unwanted == value),
            Self::Matches(regex) => regex.is_match(value),
            Self::NotMatches(regex) => !regex.is_match(value),
        }
    }

    /// The values it names, if it names them one by one, and whether naming means wanting.
    pub(crate) fn named(&self) -> Option<(&[String], bool)> {
        match self {
            Self::In(values) => Some((values, true)),
            Self::NotIn(values) => Some((values, false)),
            Self::Matches(_) | Self::NotMatches(_) => None,
        }
    }
}
