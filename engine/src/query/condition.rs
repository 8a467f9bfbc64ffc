//! Conditions on rows: comparisons of fields and tags with values, joined by and, or and not.
//!
//! Meaning (docs/api.md, "Conditions"): a row is all fields of one series at one time, after the last write of each has
//! won. A comparison with a field that the row does not have is false, whatever the operator; `not` turns that round like
//! any other false. A tag that the series does not have is the empty text.

use std::fmt;

/// What a row must satisfy to count.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// A field or a tag compared with a value.
    Compare(Comparison),
    /// All of these; true if there is none.
    All(Vec<Condition>),
    /// At least one of these; false if there is none.
    Any(Vec<Condition>),
    /// Not this.
    Not(Box<Condition>),
}

/// `name op value`.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// What is compared.
    pub name: Name,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: Literal,
}

/// A name in a condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A field if the measurement has one of that name, else a tag.
    Any(String),
    /// A tag.
    Tag(String),
}

/// A value as it is written.
#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    /// A whole number. Compared with fields of any numeric type without rounding.
    Integer(i128),
    /// Any other number, as the nearest double; finite.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A text.
    Text(String),
}

/// How two values are compared. Texts have the order of their bytes; booleans have `=` and `!=` only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `=`; zeros of either sign are equal.
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(v) => v.fmt(f),
            Self::Float(v) => v.fmt(f),
            Self::Boolean(v) => v.fmt(f),
            Self::Text(v) => write!(f, "{v:?}"),
        }
    }
}

impl Condition {
    /// Most comparisons of one condition.
    pub const MAX_COMPARISONS: usize = 64;
    /// Deepest nesting of one condition.
    pub const MAX_DEPTH: usize = 32;

    /// `name op value` for a field, or else a tag.
    pub fn compare(name: &str, operator: Operator, value: Literal) -> Self {
        Self::Compare(Comparison { name: Name::Any(name.to_owned()), operator, value })
    }
}

impl Operator {
    /// As it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }

    /// The operator for both sides exchanged.
    #[must_use]
    pub fn turned(self) -> Self {
        match self {
            Self::Less => Self::Greater,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::Greater => Self::Less,
            Self::GreaterOrEqual => Self::LessOrEqual,
            same => same,
        }
    }

    /// True if one side may stand before the other and still satisfy it.
    pub(super) fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }

    /// What `left` and `right` say; false where they have no order.
    pub(super) fn holds<T: PartialOrd + ?Sized>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}
