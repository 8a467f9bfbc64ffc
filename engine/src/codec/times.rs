//! Timestamps: nanoseconds since the Unix epoch, one block shared by all fields of a row group (format-spec.md 6.6).
//!
//! They are integers; only, a straight line with jitter is likely. Any order round-trips.

use super::numbers::Hope;
use super::{CodecTag, DecodeError, ints};

/// Appends a block of `times`; at most [`MAX_BLOCK_LEN`](super::MAX_BLOCK_LEN) of them.
pub fn encode_times(times: &[i64], out: &mut Vec<u8>) -> CodecTag {
    ints::encode(times, Hope::Line, out)
}

/// Appends the `count` times of a block to `out`, which after an error is as before.
pub fn decode_times(bytes: &[u8], count: usize, out: &mut Vec<i64>) -> Result<(), DecodeError> {
    ints::decode(bytes, count, out, |value| value)
}
