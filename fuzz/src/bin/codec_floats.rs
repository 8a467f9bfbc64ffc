//! Blocks of doubles: any bytes decode or are refused, and fold alike; any doubles come back bit for bit.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattlog_engine::codec::{FloatHint, Wanted, decode_floats, encode_floats, fold_floats, repack_floats};
use wattlog_fuzz::{Input, round_trip};
use wattlog_model::ExactSum;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::parse(data) else { return };
    if input.mode == 0 {
        let mut values = Vec::new();
        let decoded = decode_floats(input.rest, input.count, &mut values);
        assert_eq!(values.len(), if decoded.is_ok() { input.count } else { 0 });
        if input.count > 0 {
            fold(&input, &values);
        }
        check(&values);
    } else {
        let power = 10_f64.powi((input.mode >> 4) as i32 % 11);
        let integers = input.integers();
        // Past the ninth power: the bits as they are.
        let value = |i: &i64| if power > 1e9 { f64::from_bits(*i as u64) } else { *i as f64 / power };
        check(&integers.iter().map(value).collect::<Vec<_>>());
    }
});

/// In two stretches: what is folded are the values that were decoded.
fn fold(input: &Input<'_>, values: &[f64]) {
    let (count, mut out) = (input.count as u32, Vec::new());
    let ends = [count / 2, count];
    let ends = if count == 1 { &ends[1..] } else { &ends[..] };
    match fold_floats(input.rest, input.count, ends, Wanted::Extremes, &mut out) {
        Err(_) => assert!(values.is_empty()),
        Ok(Err(_)) => {}
        Ok(Ok(exponent)) => {
            assert_eq!(out.len(), ends.len());
            let mut from = 0;
            for (stretch, end) in out.iter().zip(ends) {
                let rows = &values[from..*end as usize];
                let (mut sum, mut total) = (ExactSum::default(), ExactSum::default());
                rows.iter().for_each(|value| sum.add_float(*value));
                total.add_decimal(stretch.total, exponent);
                assert_eq!(total, sum);
                let value = |integer: i64| integer as f64 / 10_f64.powi(exponent.into());
                assert!(rows.iter().all(|v| *v >= value(stretch.min.1) && *v <= value(stretch.max.1)));
                assert_eq!(rows[stretch.min.0 as usize - from], value(stretch.min.1));
                assert_eq!(rows[stretch.max.0 as usize - from], value(stretch.max.1));
                from = *end as usize;
            }
        }
    }
}

fn check(values: &[f64]) {
    let encode = |values: &[f64], out: &mut Vec<u8>| {
        encode_floats(values, &mut FloatHint::default(), out);
    };
    let pack = |values: &[f64], out: &mut Vec<u8>| {
        let start = out.len();
        encode(values, out);
        repack_floats(out, start, values.len()).expect("what was encoded");
    };
    round_trip(values, encode, decode_floats, |a, b| a.to_bits() == b.to_bits());
    round_trip(values, pack, decode_floats, |a, b| a.to_bits() == b.to_bits());
}
