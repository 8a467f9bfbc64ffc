//! Reading a block from its start, and the variable-length integers in it (format-spec.md 6.2).
//!
//! Every read checks what is left and says where it failed; none panics.

use super::DecodeError;

/// A position in a block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// An error at the present position.
    pub(crate) fn error(&self, what: &'static str) -> DecodeError {
        DecodeError { offset: self.at, what }
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What has not been read yet; the cursor stays.
    pub(crate) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    #[inline]
    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        let byte = *self.bytes.get(self.at).ok_or_else(|| self.error("ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        if len > self.left() {
            return Err(self.error("ends early"));
        }
        let taken = &self.bytes[self.at..self.at + len];
        self.at += len;
        Ok(taken)
    }

    /// Seven bits a byte, low bits first, the high bit says that more follow; at most ten bytes, shortest form only.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, DecodeError> {
        let first = self.byte()?;
        if first < 0x80 {
            return Ok(u64::from(first));
        }
        let mut value = u64::from(first & 0x7f);
        for shift in (7..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(self.error("integer exceeds 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                if byte == 0 {
                    return Err(self.error("integer is not in its shortest form"));
                }
                return Ok(value);
            }
        }
        Err(self.error("integer exceeds 64 bits"))
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, DecodeError> {
        self.varint().map(unzigzag)
    }

    /// A varint that must lie in `range` (inclusive).
    pub(crate) fn varint_in(
        &mut self,
        range: std::ops::RangeInclusive<usize>,
        what: &'static str,
    ) -> Result<usize, DecodeError> {
        let value = self.varint()?;
        usize::try_from(value).ok().filter(|v| range.contains(v)).ok_or_else(|| self.error(what))
    }

    /// The block must end here.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.left() == 0 { Ok(()) } else { Err(self.error("bytes after the last value")) }
    }
}

/// Small magnitudes of either sign become small numbers: 0, -1, 1, -2 -> 0, 1, 2, 3.
#[inline(always)]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline(always)]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_zigzag(value: i64, out: &mut Vec<u8>) {
    put_varint(zigzag(value), out);
}

/// Bytes that [`put_varint`] writes.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    (bit_len(value).max(1) as usize).div_ceil(7)
}

/// Bits needed to write `value`: 0 for 0, 64 at most.
#[inline(always)]
pub(crate) fn bit_len(value: u64) -> u32 {
    64 - value.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_in_their_shortest_form() {
        for value in (0..64).flat_map(|s| [1_u64 << s, (1_u64 << s) - 1, (1_u64 << s) + 1]).chain([u64::MAX])
        {
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            assert_eq!(bytes.len(), varint_len(value), "{value}");
            let mut cursor = Cursor::new(&bytes);
            assert_eq!(cursor.varint(), Ok(value));
            cursor.end().unwrap();
            assert_eq!(unzigzag(zigzag(value as i64)), value as i64);
        }
    }

    #[test]
    fn long_and_padded_varints_are_refused() {
        assert!(Cursor::new(&[0x80, 0x00]).varint().is_err());
        assert!(Cursor::new(&[0xff; 10]).varint().is_err());
        assert!(Cursor::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint().is_err());
        assert!(Cursor::new(&[0xff; 3]).varint().is_err());
    }
}
