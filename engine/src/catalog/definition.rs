//! Definition records: which id stands for which name. The payload of a WAL record of kind Define.
//!
//! Bytes: format-spec.md, "Definitions". A list is whole or refused: a record's checksum has already said that the bytes
//! are what was written, so one that does not parse was not written by us.

use crate::bytes::{Reader, put_sized, put_varint};
use crate::ids::{FieldId, MeasurementId, NamespaceId, SeriesId};
use std::sync::Arc;
use wattlog_model::{FieldKind, FieldType, MAX_KEY_LEN_BYTES, MAX_TAGS_PER_POINT, TagSet, Unit};

/// One thing the writer gave an id to, or learnt about a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Definition {
    /// A database and one of its retention policies.
    Namespace { id: NamespaceId, database: Arc<str>, policy: Arc<str> },
    /// A measurement of a namespace.
    Measurement { id: MeasurementId, namespace: NamespaceId, name: Arc<str> },
    /// A field of a measurement, with its type.
    Field { id: FieldId, measurement: MeasurementId, name: Arc<str>, field_type: FieldType },
    /// A measurement with one tag set.
    Series { id: SeriesId, measurement: MeasurementId, tags: TagSet },
    /// What a field's numbers mean. The last one told counts.
    Meaning { field: FieldId, unit: Option<Unit>, kind: FieldKind },
}

/// Numbers of the kinds, as in format-spec.md.
pub(crate) const KIND_NAMESPACE: u8 = 1;
pub(crate) const KIND_MEASUREMENT: u8 = 2;
pub(crate) const KIND_FIELD: u8 = 3;
pub(crate) const KIND_SERIES: u8 = 4;
pub(crate) const KIND_MEANING: u8 = 5;

/// Bytes that are no list of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no definition at byte {offset} of the list")]
pub struct InvalidDefinition {
    /// Where, from the start of the list, the definition begins that does not parse.
    pub offset: usize,
}

/// Appends the list to `out`: the payload of a Define record.
pub fn encode_definitions<'a>(
    definitions: impl IntoIterator<Item = &'a Definition, IntoIter: ExactSizeIterator>,
    out: &mut Vec<u8>,
) {
    let definitions = definitions.into_iter();
    put_varint(out, definitions.len() as u64);
    for definition in definitions {
        definition.encode(out);
    }
}

/// Reads the payload of a Define record.
///
/// # Errors
/// [`InvalidDefinition`] if any part of `bytes` is not of the form, also if something follows the last definition.
pub fn decode_definitions(bytes: &[u8]) -> Result<Vec<Definition>, InvalidDefinition> {
    let mut reader = Reader::new(bytes);
    let definitions = decode_definitions_from(&mut reader)?;
    if reader.is_empty() { Ok(definitions) } else { Err(InvalidDefinition { offset: reader.offset() }) }
}

/// Reads a list that something may follow.
pub(crate) fn decode_definitions_from(reader: &mut Reader<'_>) -> Result<Vec<Definition>, InvalidDefinition> {
    let count = reader.count(MIN_DEFINITION_LEN).ok_or(InvalidDefinition { offset: 0 })?;
    let mut definitions = Vec::new();
    for _ in 0..count {
        let offset = reader.offset();
        definitions.push(Definition::decode(reader).ok_or(InvalidDefinition { offset })?);
    }
    Ok(definitions)
}

/// The shortest definition: its kind, an id, and two more bytes at least.
const MIN_DEFINITION_LEN: usize = 4;

impl Definition {
    /// Bytes that encoding takes at most.
    pub(crate) fn encoded_len_bound(&self) -> usize {
        // A kind, a type, and numbers of at most five bytes.
        const FIXED: usize = 32;
        FIXED
            + match self {
                Self::Namespace { database, policy, .. } => database.len() + policy.len(),
                Self::Measurement { name, .. } | Self::Field { name, .. } => name.len(),
                Self::Series { tags, .. } => tags.iter().map(|(k, v)| k.len() + v.len() + 10).sum(),
                Self::Meaning { unit, .. } => unit.as_ref().map_or(0, |unit| unit.as_str().len()),
            }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Namespace { id, database, policy } => {
                out.push(KIND_NAMESPACE);
                put_varint(out, u64::from(id.0));
                put_sized(out, database.as_bytes());
                put_sized(out, policy.as_bytes());
            }
            Self::Measurement { id, namespace, name } => {
                out.push(KIND_MEASUREMENT);
                put_varint(out, u64::from(id.0));
                put_varint(out, u64::from(namespace.0));
                put_sized(out, name.as_bytes());
            }
            Self::Field { id, measurement, name, field_type } => {
                out.push(KIND_FIELD);
                put_varint(out, u64::from(id.0));
                put_varint(out, u64::from(measurement.0));
                out.push(*field_type as u8);
                put_sized(out, name.as_bytes());
            }
            Self::Series { id, measurement, tags } => {
                out.push(KIND_SERIES);
                put_varint(out, u64::from(id.0));
                put_varint(out, u64::from(measurement.0));
                encode_tags(tags, out);
            }
            Self::Meaning { field, unit, kind } => {
                out.push(KIND_MEANING);
                put_varint(out, u64::from(field.0));
                out.push(*kind as u8);
                put_sized(out, unit.as_ref().map_or("", Unit::as_str).as_bytes());
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let kind = reader.u8()?;
        // Zero is never given as an id.
        let id = reader.varint32().filter(|&id| id != 0)?;
        Some(match kind {
            KIND_NAMESPACE => Self::Namespace {
                id: NamespaceId(id),
                database: name(reader)?.into(),
                policy: name(reader)?.into(),
            },
            KIND_MEASUREMENT => Self::Measurement {
                id: MeasurementId(id),
                namespace: NamespaceId(reader.varint32()?),
                name: name(reader)?.into(),
            },
            KIND_FIELD => {
                let measurement = MeasurementId(reader.varint32()?);
                let field_type = FieldType::from_number(reader.u8()?)?;
                Self::Field { id: FieldId(id), measurement, name: name(reader)?.into(), field_type }
            }
            KIND_SERIES => Self::Series {
                id: SeriesId(id),
                measurement: MeasurementId(reader.varint32()?),
                tags: decode_tags(reader)?,
            },
            KIND_MEANING => {
                let kind = FieldKind::from_number(reader.u8()?)?;
                let text = reader.text()?;
                let unit = if text.is_empty() { None } else { Some(Unit::new(text)?) };
                Self::Meaning { field: FieldId(id), unit, kind }
            }
            _ => return None,
        })
    }
}

/// A name: UTF-8, not empty, within the limit of all names.
fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a str> {
    reader.text().filter(|text| !text.is_empty() && text.len() <= MAX_KEY_LEN_BYTES)
}

/// Appends a tag set: count, then key and value of each, in key order. Equal sets are equal bytes.
pub(crate) fn encode_tags(tags: &TagSet, out: &mut Vec<u8>) {
    put_varint(out, tags.len() as u64);
    for (key, value) in tags.iter() {
        put_sized(out, key.as_bytes());
        put_sized(out, value.as_bytes());
    }
}

/// Reads a tag set; none if it is not of the form or not in order.
pub(crate) fn decode_tags(reader: &mut Reader<'_>) -> Option<TagSet> {
    let pairs = decode_pairs(reader)?;
    TagSet::new(pairs).ok()
}

/// The pairs of a tag set, borrowed; keys rise strictly, nothing is empty.
pub(crate) fn decode_pairs<'a>(reader: &mut Reader<'a>) -> Option<Vec<(&'a str, &'a str)>> {
    let count = reader.count(4).filter(|&count| count <= MAX_TAGS_PER_POINT)?;
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(count);
    for _ in 0..count {
        let pair = (name(reader)?, name(reader)?);
        if pairs.last().is_some_and(|last| last.0 >= pair.0) {
            return None;
        }
        pairs.push(pair);
    }
    Some(pairs)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Vec<Definition> {
        vec![
            Definition::Namespace {
                id: NamespaceId(1),
                database: "wattlog".into(),
                policy: "autogen".into(),
            },
            Definition::Measurement {
                id: MeasurementId(1),
                namespace: NamespaceId(1),
                name: "energy_data".into(),
            },
            Definition::Field {
                id: FieldId(1),
                measurement: MeasurementId(1),
                name: "pv_power".into(),
                field_type: FieldType::Float,
            },
            Definition::Series {
                id: SeriesId(300),
                measurement: MeasurementId(1),
                tags: TagSet::new([("location", "roof"), ("device_id", "inv-1")]).unwrap(),
            },
            Definition::Meaning { field: FieldId(1), unit: Unit::new("W"), kind: FieldKind::Linear },
            Definition::Meaning { field: FieldId(2), unit: None, kind: FieldKind::Counter },
        ]
    }

    #[test]
    fn a_list_comes_back() {
        let mut bytes = Vec::new();
        encode_definitions(&sample(), &mut bytes);
        assert_eq!(decode_definitions(&bytes), Ok(sample()));
    }

    #[test]
    fn every_truncation_is_refused() {
        let mut bytes = Vec::new();
        encode_definitions(&sample(), &mut bytes);
        for len in 0..bytes.len() {
            assert!(decode_definitions(&bytes[..len]).is_err(), "{len} bytes");
        }
        bytes.push(0);
        assert_eq!(decode_definitions(&bytes), Err(InvalidDefinition { offset: bytes.len() - 1 }));
    }

    #[test]
    fn tags_out_of_order_or_empty_are_refused() {
        for bytes in [
            &b"\x02\x01b\x01x\x01a\x01x"[..],
            b"\x02\x01a\x01x\x01a\x01y",
            b"\x01\x01a\x00",
            b"\x01\x00\x01a",
        ] {
            assert_eq!(decode_tags(&mut Reader::new(bytes)), None, "{bytes:?}");
        }
        assert!(decode_tags(&mut Reader::new(b"\x02\x01a\x01x\x01b\x01x")).is_some());
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_definitions(&bytes);
        }

        #[test]
        fn flipped_bits_never_panic(bit in 0usize..800) {
            let mut bytes = Vec::new();
            encode_definitions(&sample(), &mut bytes);
            let at = bit % (bytes.len() * 8);
            bytes[at / 8] ^= 1 << (at % 8);
            let _ = decode_definitions(&bytes);
        }
    }
}
