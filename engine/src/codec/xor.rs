//! XOR: Gorilla's coding of doubles, for those that are no decimals (format-spec.md 6.10).
//!
//! Source: Pelkonen et al., Gorilla: a fast, scalable, in-memory time series database, VLDB 2015, section 4.1.2.
//! As there: the first value whole; then a 0 for "as before", 10 for "within the window of the last", 11 with five bits
//! of leading zeros (at most 31) and six bits of length (64 is written 0) for a new window.

use super::DecodeError;
use super::bits::{BitReader, BitWriter};

const MAX_LEADING: u32 = 31;

/// The meaningful bits of an XOR: after `leading` zeros, `len` of them (1..=64), then zeros.
#[derive(Clone, Copy)]
struct Window {
    leading: u32,
    len: u32,
}

/// Appends the stream of `values`, at least one.
pub(crate) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let mut writer = BitWriter::new(out);
    let mut previous = values[0].to_bits();
    let mut window: Option<Window> = None;
    writer.put(previous, 64);
    for value in &values[1..] {
        let bits = value.to_bits();
        let xor = bits ^ previous;
        previous = bits;
        if xor == 0 {
            writer.put(0, 1);
            continue;
        }
        let leading = xor.leading_zeros().min(MAX_LEADING);
        let trailing = xor.trailing_zeros();
        if let Some(last) = window
            && last.leading <= leading
            && 64 - last.leading - last.len <= trailing
        {
            writer.put(0b10, 2);
            writer.put(xor >> (64 - last.leading - last.len), last.len);
            continue;
        }
        let fresh = Window { leading, len: 64 - leading - trailing };
        writer.put(0b11 << 11 | u64::from(leading) << 6 | u64::from(fresh.len % 64), 13);
        writer.put(xor >> trailing, fresh.len);
        window = Some(fresh);
    }
    writer.finish();
}

/// Appends `count` values, at least one.
pub(crate) fn decode(stream: &[u8], count: usize, out: &mut Vec<f64>) -> Result<(), DecodeError> {
    // A value takes a bit at least: a short stream cannot ask for much.
    out.reserve(count.min(stream.len() * 8));
    let mut reader = BitReader::new(stream);
    let mut bits = reader.take(64)?;
    out.push(f64::from_bits(bits));
    let mut window: Option<Window> = None;
    for _ in 1..count {
        if reader.take(1)? == 1 {
            if reader.take(1)? == 1 {
                let shape = reader.take(11)? as u32;
                let (leading, len) = match (shape >> 6, shape & 63) {
                    (leading, 0) => (leading, 64),
                    window => window,
                };
                if leading + len > 64 {
                    return Err(DecodeError { offset: 0, what: "window exceeds 64 bits" });
                }
                window = Some(Window { leading, len });
            }
            let Some(Window { leading, len }) = window else {
                return Err(DecodeError { offset: 0, what: "window used before it is set" });
            };
            bits ^= reader.take(len)? << (64 - leading - len);
        }
        out.push(f64::from_bits(bits));
    }
    reader.end()
}
