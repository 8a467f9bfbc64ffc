use super::pack::{put_bits, put_column, put_zigzag};
use super::unpack::{take_bits, take_zigzag};
use super::*;
use crate::column::Values;
use crate::segment::layout::STATISTICS_CHUNK;
use crate::segment::statistics::BlockStatistics;
use proptest::prelude::*;
use wattlog_model::{FieldType, FieldValue};

fn unpack(bytes: &[u8], entries: &[(u32, Frame, BlockStatistics)], field_type: FieldType) {
    let chunk = Chunk::parse(bytes).unwrap();
    let mut expected = entries.iter();
    let mut next = expected.next();
    for place in 0..STATISTICS_CHUNK as u32 {
        let frame = next.map_or(Frame { rows: 1, first_time: 0, last_time: 0 }, |entry| entry.1);
        let found = chunk.get(place, frame, field_type, &[]).unwrap();
        let extent = chunk.extent(place, frame.rows, field_type).unwrap();
        let bits = |low: &FieldValue, high: &FieldValue| format!("{low:?} {high:?}");
        assert_eq!(
            extent.map(|e| (e.count, e.extremes.map(|(low, high)| bits(&low, &high)))),
            found
                .as_ref()
                .map(|s| (s.count, s.min.as_ref().zip(s.max.as_ref()).map(|(a, b)| bits(&a.1, &b.1)))),
        );
        match next {
            Some((at, _, statistics)) if *at == place => {
                assert!(found.unwrap().same_bits(statistics));
                next = expected.next();
            }
            _ => assert!(found.is_none()),
        }
    }
    assert!(next.is_none());
}

fn float_entries(blocks: &[Vec<(u32, f64)>], summary: bool) -> Vec<(u32, Frame, BlockStatistics)> {
    let mut entries = Vec::new();
    for (i, block) in blocks.iter().enumerate().filter(|(_, block)| !block.is_empty()) {
        let mut time = 1_000_000_000 * i as i64;
        let times: Vec<i64> = block
            .iter()
            .map(|(gap, _)| {
                time += i64::from(*gap) + 1;
                time
            })
            .collect();
        let values = Values::Float(block.iter().map(|(_, value)| *value).collect());
        let statistics = BlockStatistics::compute(&times, &values, 0..times.len()).unwrap();
        let frame = Frame {
            rows: if summary { 0 } else { times.len() as u32 + 3 },
            first_time: times[0] - 7,
            last_time: time + 9,
        };
        entries.push((i as u32, frame, statistics));
    }
    entries
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        8 => (-100_000..100_000_i32).prop_map(|v| f64::from(v) / 10.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => prop::sample::select(vec![-0.0, 0.0, f64::NAN, f64::INFINITY, 5e-324, f64::MAX, 9_007_199_254_740_991.0, 1e-9]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_packed_comes_back_bit_for_bit(
        blocks in prop::collection::vec(prop::collection::vec((any::<u32>(), any_float()), 0..20), 0..64),
        summary: bool,
    ) {
        let entries = float_entries(&blocks, summary);
        let mut bytes = Vec::new();
        pack(&entries, &|_| None, &mut bytes);
        unpack(&bytes, &entries, FieldType::Float);
    }

    #[test]
    fn any_bytes_are_a_chunk_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), place in 0_u32..64, rows: u32) {
        if let Ok(chunk) = Chunk::parse(&bytes) {
            for field_type in FieldType::ALL {
                let frame = Frame { rows, first_time: -5, last_time: i64::MAX };
                let _ = chunk.get(place, frame, field_type, &[]);
            }
        }
    }

    #[test]
    fn changed_bytes_are_a_chunk_or_an_error(seed: u64, at in 0_usize..400, byte: u8) {
        let blocks: Vec<Vec<(u32, f64)>> = (0..40)
            .map(|b| (0..9).map(|i| ((seed >> (i % 60)) as u32, (seed.rotate_left(i * b) % 5000) as f64 / 10.0)).collect())
            .collect();
        let mut bytes = Vec::new();
        pack(&float_entries(&blocks, false), &|_| None, &mut bytes);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Ok(chunk) = Chunk::parse(&bytes) {
            for place in 0..64 {
                let frame = Frame { rows: 12, first_time: i64::MIN, last_time: i64::MAX };
                let _ = chunk.get(place, frame, FieldType::Float, &[]);
            }
        }
    }

    #[test]
    fn bits_come_back_from_where_they_were_put(values in prop::collection::vec(any::<u128>(), 1..20), width in 0_u32..=128) {
        let mask = if width == 128 { u128::MAX } else { (1 << width) - 1 };
        let mut bytes = vec![0; packed_len(values.len(), width)];
        for (i, value) in values.iter().enumerate() {
            put_bits(&mut bytes, i * width as usize, width, value & mask);
        }
        for (i, value) in values.iter().enumerate() {
            prop_assert_eq!(take_bits(&bytes, i * width as usize, width), value & mask);
        }
    }

    #[test]
    fn bases_of_128_bits_come_back(value: i128) {
        let mut bytes = Vec::new();
        put_zigzag(value, &mut bytes);
        prop_assert!(bytes.len() <= 19);
        prop_assert_eq!(take_zigzag(&mut &bytes[..]), Some(value));
    }
}

#[test]
fn a_column_of_a_later_version_is_skipped() {
    let entries = float_entries(&[vec![(1, 1.5), (2, 2.5)], vec![(3, -1.5)]], false);
    let mut bytes = Vec::new();
    pack(&entries, &|_| None, &mut bytes);
    put_column(200, &[i128::MAX, 17], &mut bytes);
    unpack(&bytes, &entries, FieldType::Float);
}
