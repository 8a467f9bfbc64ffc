//! Blocks of timestamps: any bytes decode or are refused; any times in any order come back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wattlog_engine::codec::{decode_times, encode_times};
use wattlog_fuzz::{Input, round_trip};

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::parse(data) else { return };
    let times = if input.mode == 0 {
        let mut times = Vec::new();
        let decoded = decode_times(input.rest, input.count, &mut times);
        assert_eq!(times.len(), if decoded.is_ok() { input.count } else { 0 });
        times
    } else {
        // The upper half of the mode: seconds, milliseconds or nanoseconds.
        let unit = [1, 1_000_000, 1_000_000_000][usize::from(input.mode >> 4) % 3];
        input.integers().iter().map(|time| time.wrapping_mul(unit)).collect()
    };
    round_trip(&times, |v, out| _ = encode_times(v, out), decode_times, i64::eq);
});
