//! Blocks of doubles: any bytes decode or are refused, and their sum agrees; any doubles come back bit for bit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattlog_engine::codec::{FloatHint, decode_floats, encode_floats, sum_floats};
use wattlog_fuzz::{Input, round_trip};

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::parse(data) else { return };
    if input.mode == 0 {
        let mut values = Vec::new();
        let decoded = decode_floats(input.rest, input.count, &mut values);
        assert_eq!(values.len(), if decoded.is_ok() { input.count } else { 0 });
        assert_eq!(sum_floats(input.rest, input.count).is_ok(), decoded.is_ok());
        check(&values);
    } else {
        let power = 10_f64.powi((input.mode >> 4) as i32 % 11);
        let integers = input.integers();
        // Past the ninth power: the bits as they are.
        let value = |i: &i64| if power > 1e9 { f64::from_bits(*i as u64) } else { *i as f64 / power };
        check(&integers.iter().map(value).collect::<Vec<_>>());
    }
});

fn check(values: &[f64]) {
    let encode = |values: &[f64], out: &mut Vec<u8>| {
        encode_floats(values, &mut FloatHint::default(), out);
    };
    round_trip(values, encode, decode_floats, |a, b| a.to_bits() == b.to_bits());
}
