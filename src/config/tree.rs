//! From a tree of plain values to a typed one, with the path of whatever does not fit: `collector.devices[1].famly`.
//!
//! Invariant: every error names the path of the value or key it is about.

use serde::de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Reads `value` as a `T`.
pub(super) fn read<'de, T: de::Deserialize<'de>>(value: Value, path: &str) -> Result<T, PathError> {
    T::deserialize(Node { value, path: path.to_owned() })
}

/// What does not fit, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathError {
    path: Option<String>,
    /// Last step of the path, known before the path is: an unknown key.
    key: Option<String>,
    message: String,
}

impl PathError {
    pub(crate) fn at(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: Some(path.into()), key: None, message: message.into() }
    }

    /// Path of the key it is about, if it is known.
    pub(crate) fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    fn within(mut self, path: &str) -> Self {
        if self.path.is_none() {
            self.path = Some(match self.key.take() {
                Some(key) => child(path, &key),
                None => path.to_owned(),
            });
        }
        self
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_deref() {
            Some(path) if !path.is_empty() => write!(f, "{path}: {}", self.message),
            _ => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for PathError {}

impl de::Error for PathError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { path: None, key: None, message: message.to_string() }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let known = expected.join(", ");
        Self { path: None, key: Some(field.to_owned()), message: format!("unknown key; known here: {known}") }
    }

    fn missing_field(field: &'static str) -> Self {
        Self { path: None, key: Some(field.to_owned()), message: "this key is required".into() }
    }
}

/// `path.key`, or `key` at the top.
pub(super) fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Node {
    value: Value,
    path: String,
}

impl Node {
    /// Text where a number or a truth value is wanted is read as one: environment variables have no types.
    fn into_scalar(self) -> Self {
        let read = match &self.value {
            Value::String(text) => serde_json::from_str(text).ok(),
            _ => None,
        };
        match read {
            Some(value @ (Value::Number(_) | Value::Bool(_))) => Self { value, path: self.path },
            _ => self,
        }
    }
}

macro_rules! scalars {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
            self.into_scalar().deserialize_any(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for Node {
    type Error = PathError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let path = self.path;
        let done = match self.value {
            Value::Object(entries) => {
                visitor.visit_map(Entries { path: &path, rest: entries.into_iter(), value: None })
            }
            Value::Array(items) => {
                visitor.visit_seq(Items { path: &path, items: items.into_iter().enumerate() })
            }
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::String(value) => visitor.visit_string(value),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
        };
        done.map_err(|error: PathError| error.within(&path))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PathError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        let path = self.path;
        let Value::String(word) = &self.value else {
            return Err(PathError::at(path, format!("one of {} is expected", variants.join(", "))));
        };
        if !variants.contains(&word.as_str()) {
            return Err(PathError::at(path, format!("`{word}` is not one of {}", variants.join(", "))));
        }
        let word = IntoDeserializer::<PathError>::into_deserializer(word.as_str());
        de::Deserializer::deserialize_enum(word, name, variants, visitor).map_err(|error| error.within(&path))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        self.deserialize_str(visitor)
    }

    /// Text is what the field wants: a number or a truth value written without quotes is taken as it was written.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let value = match self.value {
            Value::Number(number) => Value::String(number.to_string()),
            other => other,
        };
        Node { value, path: self.path }.deserialize_any(visitor)
    }

    /// A section without keys ("collector:") has its defaults.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PathError> {
        let value = match self.value {
            Value::Null => Value::Object(Map::new()),
            other => other,
        };
        Node { value, path: self.path }.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PathError> {
        self.deserialize_map(visitor)
    }

    scalars! {
        deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_u8 deserialize_u16
        deserialize_u32 deserialize_u64 deserialize_f32 deserialize_f64
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct seq tuple tuple_struct identifier ignored_any
    }
}

struct Entries<'a> {
    path: &'a str,
    rest: <Map<String, Value> as IntoIterator>::IntoIter,
    value: Option<Node>,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = PathError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, PathError> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(Node { value, path: child(self.path, &key) });
        seed.deserialize(key.into_deserializer()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, PathError> {
        let node =
            self.value.take().ok_or_else(|| PathError::at(self.path, "value asked for before its key"))?;
        let path = node.path.clone();
        seed.deserialize(node).map_err(|error| error.within(&path))
    }
}

struct Items<'a> {
    path: &'a str,
    items: std::iter::Enumerate<std::vec::IntoIter<Value>>,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = PathError;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, PathError> {
        let Some((index, value)) = self.items.next() else { return Ok(None) };
        let path = format!("{}[{index}]", self.path);
        seed.deserialize(Node { value, path: path.clone() }).map(Some).map_err(|error| error.within(&path))
    }
}
