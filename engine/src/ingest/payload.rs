//! Payload of a Points record: one body, column by column (format-spec.md section 4, "Points payload").
//!
//! ```text
//! u8 version = 1 | u32 namespace id | varint series count | series ...
//! series = u32 series id | u32 measurement id | varint rows | varint column count | block times | column ...
//! column = u32 field id | u8 field type | varint values | [block presence, if values < rows] | block values
//! block  = varint length | bytes as the codec of the type writes them (section 6)
//! ```
//! The record's checksum covers all of it. Decoding is total: any bytes give points or `Corrupt`.

use crate::codec::{self, cursor::Cursor, cursor::put_varint};
use crate::column::{Column, Presence, Values};
use crate::ids::{FieldId, MeasurementId, NamespaceId, SeriesId};
use crate::memtable::SeriesBatch;
use wattlog_model::{FieldType, MAX_STRING_LEN_BYTES};

const VERSION: u8 = 1;

/// A payload that is no list of points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("points payload, byte {offset}: {what}")]
pub struct Corrupt {
    /// Offset in the payload.
    pub offset: usize,
    /// What was wrong there.
    pub what: &'static str,
}

/// Encodes the rows of one body.
pub(crate) fn encode(namespace: NamespaceId, batches: &[SeriesBatch]) -> Vec<u8> {
    let values: usize = batches.iter().flat_map(|b| &b.columns).map(|(_, column)| column.values.len()).sum();
    let mut out = Vec::with_capacity(64 + values * 2);
    let mut block = Vec::new();
    out.push(VERSION);
    out.extend_from_slice(&namespace.0.to_le_bytes());
    put_varint(batches.len() as u64, &mut out);
    for batch in batches {
        out.extend_from_slice(&batch.series.0.to_le_bytes());
        out.extend_from_slice(&batch.measurement.0.to_le_bytes());
        put_varint(batch.times.len() as u64, &mut out);
        put_varint(batch.columns.len() as u64, &mut out);
        debug_assert!(batch.times.len() <= MAX_ROWS, "prepare cuts longer ones");
        put_block(&mut out, &mut block, |block| {
            codec::encode_times(&batch.times, block);
        });
        for (field, column) in &batch.columns {
            put_column(&mut out, &mut block, *field, column, batch.times.len());
        }
    }
    out
}

fn put_column(out: &mut Vec<u8>, block: &mut Vec<u8>, field: FieldId, column: &Column, rows: usize) {
    out.extend_from_slice(&field.0.to_le_bytes());
    out.push(column.values.field_type() as u8);
    put_varint(column.values.len() as u64, out);
    if let Presence::Rows(present) = &column.presence {
        put_block(out, block, |block| codec::encode_positions(present, rows as u32, block));
    }
    put_block(out, block, |block| match &column.values {
        Values::Float(v) => {
            codec::encode_floats(v, &mut codec::FloatHint::default(), block);
        }
        Values::Integer(v) => {
            codec::encode_integers(v, block);
        }
        Values::Unsigned(v) => {
            codec::encode_unsigned(v, block);
        }
        Values::Boolean(v) => {
            codec::encode_booleans(v, block);
        }
        Values::String(v) => {
            codec::encode_strings(v, block);
        }
    });
}

fn put_block(out: &mut Vec<u8>, block: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    block.clear();
    fill(block);
    put_varint(block.len() as u64, out);
    out.extend_from_slice(block);
}

/// Decodes a payload written by [`encode`].
///
/// # Errors
/// [`Corrupt`]; memory is bounded by what the bytes can hold, never by a number in them alone.
pub(crate) fn decode(bytes: &[u8]) -> Result<(NamespaceId, Vec<SeriesBatch>), Corrupt> {
    let mut reader = Reader { cursor: Cursor::new(bytes), len: bytes.len() };
    if reader.byte()? != VERSION {
        return Err(reader.corrupt("unknown version"));
    }
    let namespace = NamespaceId(reader.u32()?);
    let count = reader.count("more series than bytes")?;
    let mut batches = Vec::with_capacity(count);
    for _ in 0..count {
        batches.push(reader.series()?);
    }
    if reader.cursor.left() > 0 {
        return Err(reader.corrupt("bytes after the last series"));
    }
    Ok((namespace, batches))
}

/// Namespace of a payload, without a look at the rest.
pub(crate) fn namespace(bytes: &[u8]) -> Option<NamespaceId> {
    let mut reader = Reader { cursor: Cursor::new(bytes), len: bytes.len() };
    if reader.byte().ok()? == VERSION { reader.u32().ok().map(NamespaceId) } else { None }
}

struct Reader<'a> {
    cursor: Cursor<'a>,
    len: usize,
}

impl<'a> Reader<'a> {
    fn corrupt(&self, what: &'static str) -> Corrupt {
        Corrupt { offset: self.len - self.cursor.left(), what }
    }

    fn byte(&mut self) -> Result<u8, Corrupt> {
        self.cursor.byte().map_err(|e| self.corrupt(e.what))
    }

    fn u32(&mut self) -> Result<u32, Corrupt> {
        let bytes = self.cursor.take(4).map_err(|e| self.corrupt(e.what))?;
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn varint(&mut self) -> Result<usize, Corrupt> {
        let value = self.cursor.varint().map_err(|e| self.corrupt(e.what))?;
        usize::try_from(value).map_err(|_| self.corrupt("number too large"))
    }

    /// A count of things that take at least a byte each.
    fn count(&mut self, what: &'static str) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        if count > self.cursor.left() { Err(self.corrupt(what)) } else { Ok(count) }
    }

    /// A count of rows or values: many can share a byte (a constant block), so it is bounded by itself.
    fn values(&mut self) -> Result<usize, Corrupt> {
        let count = self.varint()?;
        if count == 0 || count > MAX_ROWS {
            Err(self.corrupt("impossible count of rows or values"))
        } else {
            Ok(count)
        }
    }

    fn block(&mut self) -> Result<&'a [u8], Corrupt> {
        let len = self.varint()?;
        self.cursor.take(len).map_err(|e| self.corrupt(e.what))
    }

    fn series(&mut self) -> Result<SeriesBatch, Corrupt> {
        let series = SeriesId(self.u32()?);
        let measurement = MeasurementId(self.u32()?);
        let rows = self.values()?;
        let column_count = self.count("more columns than bytes")?;
        let mut times = Vec::new();
        codec::decode_times(self.block()?, rows, &mut times).map_err(|e| self.corrupt(e.what))?;
        let mut columns: Vec<(FieldId, Column)> = Vec::with_capacity(column_count);
        for _ in 0..column_count {
            let (field, column) = self.column(rows)?;
            if columns.last().is_some_and(|(before, _)| *before >= field) {
                return Err(self.corrupt("field ids do not rise"));
            }
            columns.push((field, column));
        }
        Ok(SeriesBatch { series, measurement, times, columns })
    }

    fn column(&mut self, rows: usize) -> Result<(FieldId, Column), Corrupt> {
        let field = FieldId(self.u32()?);
        let number = self.byte()?;
        let field_type = FieldType::from_number(number).ok_or_else(|| self.corrupt("unknown field type"))?;
        let count = self.values()?;
        if count > rows {
            return Err(self.corrupt("more values than rows"));
        }
        let presence = if count == rows {
            Presence::All
        } else {
            let mut present = Vec::new();
            codec::decode_positions(self.block()?, rows as u32, &mut present)
                .map_err(|e| self.corrupt(e.what))?;
            if present.len() != count {
                return Err(self.corrupt("presence does not match the count of values"));
            }
            Presence::Rows(present)
        };
        let mut values = Values::new(field_type);
        let block = self.block()?;
        let decoded = match &mut values {
            Values::Float(v) => codec::decode_floats(block, count, v),
            Values::Integer(v) => codec::decode_integers(block, count, v),
            Values::Unsigned(v) => codec::decode_unsigned(block, count, v),
            Values::Boolean(v) => codec::decode_booleans(block, count, v),
            Values::String(v) => codec::decode_strings(block, count, count * MAX_STRING_LEN_BYTES, v),
        };
        decoded.map_err(|e| self.corrupt(e.what))?;
        Ok((field, Column { presence, values }))
    }
}

/// Most rows of one series entry, and so values of a block. A body with more rows of a series has several entries of it,
/// which count in their order.
pub(crate) const MAX_ROWS: usize = codec::MAX_BLOCK_LEN;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn sample() -> Vec<SeriesBatch> {
        let column = |presence, values| Column { presence, values };
        let rows = Presence::Rows(vec![0, 2]);
        vec![
            SeriesBatch {
                series: SeriesId(7),
                measurement: MeasurementId(3),
                times: vec![30, 10, 20],
                columns: vec![
                    (FieldId(1), column(Presence::All, Values::Float(vec![1.5, -0.0, 5e-324]))),
                    (FieldId(2), column(rows.clone(), Values::Integer(vec![i64::MIN, i64::MAX]))),
                    (FieldId(4), column(rows.clone(), Values::Unsigned(vec![u64::MAX, 0]))),
                    (FieldId(5), column(Presence::All, Values::Boolean(vec![true, false, true]))),
                    (FieldId(9), column(rows, Values::String(vec![Arc::from("a"), Arc::from("\u{17c}")]))),
                ],
            },
            SeriesBatch {
                series: SeriesId(8),
                measurement: MeasurementId(3),
                times: (0..65_536).map(|i| i * 1_000_000_000).collect(),
                columns: vec![(
                    FieldId(1),
                    column(Presence::All, Values::Float((0..65_536).map(|i| f64::from(i) / 10.0).collect())),
                )],
            },
        ]
    }

    #[test]
    fn bodies_come_back_bit_for_bit() {
        let bytes = encode(NamespaceId(5), &sample());
        let (namespace, batches) = decode(&bytes).unwrap();
        assert_eq!((namespace, &batches), (NamespaceId(5), &sample()));
        let Values::Float(values) = &batches[0].columns[0].1.values else { panic!() };
        assert_eq!(values[1].to_bits(), (-0.0_f64).to_bits());
    }

    /// The worked example of format-spec.md section 4: the text and the code must agree byte for byte.
    #[test]
    fn the_example_of_the_specification_is_what_is_written() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../format-spec.md")).unwrap();
        let example = text.split("```points-payload").nth(1).expect("the example stands in the text");
        let hex: String =
            example.split("```").next().unwrap().lines().filter_map(|line| line.split('|').next()).collect();
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        let voltage = Column { presence: Presence::All, values: Values::Float(vec![230.1, 229.8]) };
        let mode =
            Column { presence: Presence::Rows(vec![1]), values: Values::String(vec![Arc::from("eco")]) };
        let batch = SeriesBatch {
            series: SeriesId(7),
            measurement: MeasurementId(3),
            times: vec![1_780_272_000_000_000_000, 1_780_272_010_000_000_000],
            columns: vec![(FieldId(5), voltage), (FieldId(9), mode)],
        };
        assert_eq!(encode(NamespaceId(1), std::slice::from_ref(&batch)), bytes);
        assert_eq!(decode(&bytes), Ok((NamespaceId(1), vec![batch])));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = encode(NamespaceId(5), &sample()[..1]);
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} of {} bytes passed", bytes.len());
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn flipped_bits_never_panic(at in any::<prop::sample::Index>(), bit in 0..8_u8) {
            let mut bytes = encode(NamespaceId(5), &sample()[..1]);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let _ = decode(&bytes);
        }
    }
}
