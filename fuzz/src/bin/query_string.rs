//! Query parts of URLs: any text is taken or refused; what is taken means the same when its names and values are written out
//! with every byte escaped, to the pairs and to the routes that read them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::fmt::Write as _;
use std::sync::LazyLock;
use wattlog_engine::query::Zone;
use wattlog_model::Timestamp;
use wattlog_wire::params::{Route, parse, parse_delete};
use wattlog_wire::query_string::pairs;

const NOW: Timestamp = Timestamp(1_772_359_200_123_000_000);
static HOME: LazyLock<Zone> = LazyLock::new(|| Zone::named("Europe/Warsaw").expect("a zone"));

fuzz_target!(|data: &[u8]| {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let Ok(read) = pairs(query) else { return };
    let mut canonical = String::new();
    for (name, value) in &read {
        if !canonical.is_empty() {
            canonical.push('&');
        }
        escape(name, &mut canonical);
        canonical.push('=');
        escape(value, &mut canonical);
    }
    assert_eq!(pairs(&canonical).as_ref(), Ok(&read), "{canonical}");
    for route in [Route::Query, Route::Last] {
        let ask = |query: &str| parse(query, route, "home", &HOME, NOW);
        let (first, again) = (ask(query), ask(&canonical));
        assert_eq!(first, again, "{canonical}");
        if let Ok(parameters) = first {
            assert!(!parameters.request.measurement.is_empty());
        }
    }
    let ask = |query: &str| parse_delete(query, "home", NOW);
    assert_eq!(format!("{:?}", ask(query)), format!("{:?}", ask(&canonical)), "{canonical}");
});

/// Every byte but letters and digits as `%XX`.
fn escape(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(byte as char);
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02x}");
        }
    }
}
