//! Blocks of texts: any bytes decode within the limit or are refused; any texts come back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;
use wattlog_engine::codec::{decode_strings, encode_strings};
use wattlog_fuzz::{Input, round_trip};

/// What a container would allow; small, so that a frame that swells runs into it.
const MAX_BYTES: usize = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let Some(input) = Input::parse(data) else { return };
    if input.mode == 0 {
        let mut values: Vec<Arc<str>> = Vec::new();
        let decoded = decode_strings(input.rest, input.count, MAX_BYTES, &mut values);
        assert_eq!(values.len(), if decoded.is_ok() { input.count } else { 0 });
        assert!(values.iter().map(|value| value.len()).sum::<usize>() <= MAX_BYTES);
        check(&values);
    } else {
        // Lines of the rest, each some times over.
        let repeat = usize::from(input.mode % 16) + 1;
        let values: Vec<Arc<str>> = String::from_utf8_lossy(input.rest)
            .split('\n')
            .flat_map(|line| std::iter::repeat_n(Arc::from(line), repeat))
            .collect();
        check(&values);
    }
});

fn check(values: &[Arc<str>]) {
    let decode = |bytes: &[u8], count, out: &mut Vec<_>| decode_strings(bytes, count, MAX_BYTES, out);
    round_trip(values, |v, out| _ = encode_strings(v, out), decode, Arc::eq);
}
