//! Blocks of integers, booleans and dictionary indexes, and presence: any bytes decode or are refused; any values come
//! back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattlog_engine::codec::{
    decode_booleans, decode_integers, decode_positions, decode_string_ids, decode_unsigned, encode_booleans,
    encode_integers, encode_positions, encode_string_ids, encode_unsigned, repack_integers,
};
use wattlog_fuzz::{Input, round_trip};

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::parse(data) else { return };
    let Input { mode, count, rest } = input;
    if mode == 0 {
        let mut signed = Vec::new();
        let mut unsigned = Vec::new();
        let mut booleans = Vec::new();
        let mut ids = Vec::new();
        let mut rows = Vec::new();
        let results = [
            (decode_integers(rest, count, &mut signed).is_ok(), signed.len()),
            (decode_unsigned(rest, count, &mut unsigned).is_ok(), unsigned.len()),
            (decode_booleans(rest, count, &mut booleans).is_ok(), booleans.len()),
            (decode_string_ids(rest, count, &mut ids).is_ok(), ids.len()),
        ];
        for (ok, len) in results {
            assert_eq!(len, if ok { count } else { 0 });
        }
        assert!(signed.iter().map(|v| *v as u64).eq(unsigned.iter().copied()));
        if decode_positions(rest, count as u32, &mut rows).is_err() {
            assert!(rows.is_empty());
        }
        check_presence(&rows, count as u32);
        return;
    }
    let integers = input.integers();
    let as_unsigned: Vec<u64> = integers.iter().map(|v| *v as u64).collect();
    let as_ids: Vec<u32> = integers.iter().map(|v| *v as u32).collect();
    let as_booleans: Vec<bool> = integers.iter().map(|v| v & 1 == 1).collect();
    round_trip(&integers, |v, out| _ = encode_integers(v, out), decode_integers, i64::eq);
    let pack = |values: &[i64], out: &mut Vec<u8>| {
        let start = out.len();
        encode_integers(values, out);
        repack_integers(out, start, values.len()).expect("what was encoded");
    };
    round_trip(&integers, pack, decode_integers, i64::eq);
    round_trip(&as_unsigned, |v, out| _ = encode_unsigned(v, out), decode_unsigned, u64::eq);
    round_trip(&as_ids, encode_string_ids, decode_string_ids, u32::eq);
    round_trip(&as_booleans, |v, out| _ = encode_booleans(v, out), decode_booleans, bool::eq);
    let rows: Vec<u32> =
        (0..).zip(&as_booleans).filter(|(_, present)| **present).map(|(row, _)| row).collect();
    check_presence(&rows, as_booleans.len() as u32);
});

fn check_presence(rows: &[u32], row_count: u32) {
    let encode = |rows: &[u32], out: &mut Vec<u8>| encode_positions(rows, row_count, out);
    round_trip(rows, encode, |bytes, _, out| decode_positions(bytes, row_count, out), u32::eq);
}
