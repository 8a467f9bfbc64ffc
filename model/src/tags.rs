//! Tag sets: the sorted key-value pairs that, with the measurement, name a series.

use crate::{MAX_KEY_LEN_BYTES, MAX_TAGS_PER_POINT};

/// Sorted, duplicate-free tags. Keys and values are not empty and at most [`MAX_KEY_LEN_BYTES`] long.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TagSet(Vec<(Box<str>, Box<str>)>);

/// Why a list of pairs is no tag set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTags {
    /// The same key stands twice.
    #[error("duplicate tags")]
    Duplicate,
    /// A key is empty.
    #[error("missing tag key")]
    EmptyKey,
    /// A value is empty.
    #[error("missing tag value")]
    EmptyValue,
    /// A key or value is longer than [`MAX_KEY_LEN_BYTES`].
    #[error("tag longer than {MAX_KEY_LEN_BYTES} bytes")]
    TooLong,
    /// More than [`MAX_TAGS_PER_POINT`] tags.
    #[error("more than {MAX_TAGS_PER_POINT} tags")]
    TooMany,
}

impl TagSet {
    /// Sorts `pairs` and checks them.
    ///
    /// # Errors
    /// See [`InvalidTags`].
    pub fn new<K: Into<Box<str>>, V: Into<Box<str>>>(
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, InvalidTags> {
        let mut tags: Vec<(Box<str>, Box<str>)> =
            pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        if tags.len() > MAX_TAGS_PER_POINT {
            return Err(InvalidTags::TooMany);
        }
        tags.sort_unstable();
        for (key, value) in &tags {
            match (key.len(), value.len()) {
                (0, _) => return Err(InvalidTags::EmptyKey),
                (_, 0) => return Err(InvalidTags::EmptyValue),
                (k, v) if k > MAX_KEY_LEN_BYTES || v > MAX_KEY_LEN_BYTES => return Err(InvalidTags::TooLong),
                _ => {}
            }
        }
        if tags.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err(InvalidTags::Duplicate);
        }
        Ok(Self(tags))
    }

    /// Value of `key`, if the set has it.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok().map(|i| &*self.0[i].1)
    }

    /// Pairs in key order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (&**k, &**v))
    }

    /// Number of tags.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there is no tag.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_writing_does_not_matter() {
        let a = TagSet::new([("b", "2"), ("a", "1")]).unwrap();
        let b = TagSet::new([("a", "1"), ("b", "2")]).unwrap();
        assert_eq!(a, b);
        assert_eq!(a.value("b"), Some("2"));
        assert_eq!(a.value("c"), None);
    }

    #[test]
    fn bad_tags_say_why() {
        assert_eq!(TagSet::new([("a", "1"), ("a", "2")]), Err(InvalidTags::Duplicate));
        assert_eq!(TagSet::new([("", "1")]), Err(InvalidTags::EmptyKey));
        assert_eq!(TagSet::new([("a", "")]), Err(InvalidTags::EmptyValue));
        assert_eq!(TagSet::new([("a", "x".repeat(MAX_KEY_LEN_BYTES + 1))]), Err(InvalidTags::TooLong));
        let many = (0..=MAX_TAGS_PER_POINT).map(|i| (i.to_string(), "v"));
        assert_eq!(TagSet::new(many), Err(InvalidTags::TooMany));
    }
}
