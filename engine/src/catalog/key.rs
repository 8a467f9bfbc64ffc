//! The canonical bytes of a series' identity, and the stable hash under which catalog files sort it.

use super::definition::{decode_pairs, decode_tags, encode_tags};
use crate::bytes::Reader;
use crate::ids::{MeasurementId, StoreId};
use wattlog_model::TagSet;

/// Writes the canonical key of a series into `out`, replacing what it held: the measurement's id as four bytes, then the
/// tag set. Equal series are equal bytes.
pub fn series_key(measurement: MeasurementId, tags: &TagSet, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&measurement.0.to_le_bytes());
    encode_tags(tags, out);
}

/// Takes a canonical key apart; none if it is not one.
pub(crate) fn parse_key(key: &[u8]) -> Option<(MeasurementId, TagSet)> {
    let mut reader = Reader::new(key);
    let measurement = MeasurementId(reader.u32()?);
    let tags = decode_tags(&mut reader)?;
    reader.is_empty().then_some((measurement, tags))
}

/// The same without owning the tags.
pub(crate) fn parse_key_pairs(key: &[u8]) -> Option<(MeasurementId, Vec<(&str, &str)>)> {
    let mut reader = Reader::new(key);
    let measurement = MeasurementId(reader.u32()?);
    let pairs = decode_pairs(&mut reader)?;
    reader.is_empty().then_some((measurement, pairs))
}

/// SipHash-2-4 of `bytes` under the store's id as key: stable in files, and no sender of names can aim for collisions
/// without knowing the store.
///
/// # Source
/// Aumasson, Bernstein: SipHash, a fast short-input PRF (2012).
pub(crate) fn key_hash(store: StoreId, bytes: &[u8]) -> u64 {
    let (k0, k1) = store.0.split_at(8);
    let (k0, k1) = (word(k0), word(k1));
    let mut v =
        [k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261, k1 ^ 0x7465646279746573];
    let chunks = bytes.chunks_exact(8);
    let tail = chunks.remainder();
    for chunk in chunks {
        compress(&mut v, word(chunk));
    }
    compress(&mut v, (bytes.len() as u64) << 56 | word(tail));
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

/// Up to eight bytes as a little-endian number.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte))
}

fn compress(v: &mut [u64; 4], m: u64) {
    v[3] ^= m;
    round(v);
    round(v);
    v[0] ^= m;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_2_4() {
        // Vectors of the paper's reference code: key 00 01 .. 0f, input 00 01 .. of length 0, 1, 8, 15.
        let store = StoreId(std::array::from_fn(|i| i as u8));
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(key_hash(store, &[]), 0x726fdb47dd0e0e31);
        assert_eq!(key_hash(store, &input[..1]), 0x74f839c593dc67fd);
        assert_eq!(key_hash(store, &input[..8]), 0x93f5f5799a932462);
        assert_eq!(key_hash(store, &input), 0xa129ca6149be45e5);
    }

    #[test]
    fn a_key_comes_apart_again() {
        let tags = TagSet::new([("b", "2"), ("a", "1")]).unwrap();
        let mut key = Vec::new();
        series_key(MeasurementId(7), &tags, &mut key);
        assert_eq!(parse_key(&key), Some((MeasurementId(7), tags)));
        assert_eq!(parse_key_pairs(&key), Some((MeasurementId(7), vec![("a", "1"), ("b", "2")])));
        for len in 0..key.len() {
            assert_eq!(parse_key(&key[..len]), None);
        }
        key.push(0);
        assert_eq!(parse_key(&key), None);
    }
}
