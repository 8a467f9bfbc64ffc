//! Which seeds a suite runs, and how the message of a failure names them.

use std::hash::{BuildHasher, Hasher};

/// Seeds to run: `fixed` of them the same for ever, then one eighth more that no run had before.
///
/// `WATTLOG_SEED` replaces both by seeds from that number on, `WATTLOG_POWER_CUTS` scales how many cuts are made in all.
pub(crate) fn seeds(suite: &str, fixed: u64) -> Vec<u64> {
    let fixed = fixed * wanted_cuts().max(1) / DEFAULT_CUTS;
    if let Some(first) = number("WATTLOG_SEED") {
        let count = if number("WATTLOG_POWER_CUTS").is_some() { fixed.max(1) } else { 1 };
        return (0..count).map(|i| first.wrapping_add(i)).collect();
    }
    // Kept small, so that a seed is easy to type.
    let fresh = std::collections::hash_map::RandomState::new().build_hasher().finish() >> 32;
    println!("{suite}: {fixed} fixed seeds, then from WATTLOG_SEED={fresh}");
    (1..=fixed).chain((0..fixed.div_ceil(8).max(1)).map(|i| fresh + i)).collect()
}

/// How many cuts a run of the suite should make.
pub(crate) fn wanted_cuts() -> u64 {
    number("WATTLOG_POWER_CUTS").unwrap_or(DEFAULT_CUTS)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

const DEFAULT_CUTS: u64 = 2000;
