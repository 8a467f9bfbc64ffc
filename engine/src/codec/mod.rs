//! Codecs: a column of values becomes a self-describing block of bytes, and comes back bit for bit.
//!
//! Bytes: format-spec.md section 6. A block starts with its codec tag; the number of values and the length of the
//! slice come from the container, and so does the checksum: nothing here verifies one.
//!
//! Invariants
//! 1. What is decoded has the exact bits of what was encoded: NaN payloads, -0.0, subnormals, the limits of 64 bits.
//! 2. Decoders are total: any bytes with any count give values or a [`DecodeError`], never a panic; they allocate by
//!    the caller's count (at most [`MAX_BLOCK_LEN`]) and by what the slice can hold, never by a length field alone.
//! 3. After an error the output is as it was before the call.
//! 4. The bytes do not depend on the machine: every vector kernel has a scalar twin that gives the same bits.
//!
//! Which codec a block gets is the encoder's free choice, by exact size with a lean towards the faster decoder
//! (`numbers::choose`); a reader follows the tag. Not here: files, checksums, statistics.

mod bits;
mod bools;
pub(crate) mod cursor;
mod floats;
mod fold;
mod ints;
mod kernel;
mod line;
mod mini;
mod numbers;
mod pco;
mod presence;
mod strings;
mod times;
mod xor;

pub use bools::{decode_booleans, encode_booleans};
pub use floats::{Encoded, FloatHint, decode_floats, encode_floats};
pub use fold::{Folded, NotFolded, Stretch, Wanted, fold_floats, fold_integers, fold_unsigned};
pub use ints::{decode_integers, decode_unsigned, encode_integers, encode_unsigned};
pub use kernel::{Dispatch, dispatch};
pub use pco::{repack_floats, repack_integers};
pub use presence::{decode_positions, encode_positions};
pub use strings::{decode_string_ids, decode_strings, encode_string_ids, encode_strings};
pub(crate) use times::row_at;
pub use times::{Times, decode_times, encode_times};

use std::fmt;

/// Values of a mini-block: the unit with its own base, width and patches.
pub const MINI_BLOCK_LEN: usize = 128;

/// Most values in one block. Segments stay at or below 1024; the WAL may use more.
pub const MAX_BLOCK_LEN: usize = 65_536;

/// First byte of a block: how its values are written (format-spec.md 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum CodecTag {
    /// Eight bytes each.
    Raw64 = 0,
    /// One value for all.
    Const = 1,
    /// Runs of equal values.
    Rle = 2,
    /// At most 256 distinct values and packed codes.
    Dict = 3,
    /// Packed offsets from the base of each mini-block.
    For = 4,
    /// Packed differences of neighbours.
    Delta = 5,
    /// A straight line and packed residuals.
    Line = 6,
    /// Gorilla's XOR of neighbouring doubles.
    Xor = 7,
    /// Offsets in bins that are coded by their frequency.
    Pco = 8,
    /// Indexes into a dictionary of texts that the container owns.
    StrDict = 9,
    /// Lengths and bytes of texts.
    Plain = 10,
    /// The same, the bytes as one zstd frame.
    PlainZstd = 11,
    /// One bit each.
    Bitmap = 12,
}

impl CodecTag {
    /// Tag of a first byte, if version 1 knows it.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Raw64,
            1 => Self::Const,
            2 => Self::Rle,
            3 => Self::Dict,
            4 => Self::For,
            5 => Self::Delta,
            6 => Self::Line,
            7 => Self::Xor,
            8 => Self::Pco,
            9 => Self::StrDict,
            10 => Self::Plain,
            11 => Self::PlainZstd,
            12 => Self::Bitmap,
            _ => return None,
        })
    }

    /// Name in format-spec.md.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw64 => "RAW64",
            Self::Const => "CONST",
            Self::Rle => "RLE",
            Self::Dict => "DICT",
            Self::For => "FOR",
            Self::Delta => "DELTA",
            Self::Line => "LINE",
            Self::Xor => "XOR",
            Self::Pco => "PCO",
            Self::StrDict => "STRDICT",
            Self::Plain => "PLAIN",
            Self::PlainZstd => "PLAIN_ZSTD",
            Self::Bitmap => "BITMAP",
        }
    }
}

impl fmt::Display for CodecTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes that are no block of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset} of the block: {what}")]
pub struct DecodeError {
    /// Where in the slice, as far as it could be read.
    pub offset: usize,
    /// What does not hold.
    pub what: &'static str,
}
