//! Which contents a store may have, given what its callers were told.
//!
//! 1. A body that was told to be stored is there, wholly, under what was written over it later.
//! 2. A body that was taken may be missing only together with all that came after it: what is lost is a suffix.
//! 3. A body of which nothing is known, or that was refused while the power went, is there wholly or not at all.
//! 4. Nothing else is there.

use super::content::{Content, Exact};
use super::run::{Entry, Told};

/// `Ok` if some way the entries may have survived gives exactly `found`; else the first differences to the nearest way.
pub(crate) fn judge(entries: &[Entry], found: &Content) -> Result<(), String> {
    let entries: Vec<Entry> = entries.iter().filter(|entry| entry.told != Told::Unasked).cloned().collect();
    let entries = entries.as_slice();
    // A sync that covers a body covers all before it, so what was taken before a stored body is certain. Retention stands in
    // the manifest, which says nothing of the log.
    let in_log = |entry: &Entry| entry.told == Told::Stored && entry.body.cutoff.is_none();
    let certain = entries.iter().rposition(in_log).map_or(0, |last| last + 1);
    let open: Vec<usize> = (0..entries.len())
        .filter(|&at| match entries[at].told {
            Told::Stored | Told::Unasked => false,
            Told::Taken => at >= certain,
            Told::Unknown | Told::Refused => true,
        })
        .collect();
    let lossy: Vec<usize> = open.iter().copied().filter(|&at| entries[at].told == Told::Taken).collect();
    let doubtful: Vec<usize> = open.iter().copied().filter(|&at| entries[at].told != Told::Taken).collect();
    if doubtful.len() > MAX_DOUBTFUL {
        return Err(format!("{} bodies of unknown fate are more than can be told apart", doubtful.len()));
    }
    let mut nearest: Option<Vec<String>> = None;
    // All there first: that is the likeliest, and the best to compare with.
    for kept in (0..=lossy.len()).rev() {
        for chosen in (0..1_u32 << doubtful.len()).rev() {
            let is_there = |at: usize| match lossy.iter().position(|&taken| taken == at) {
                Some(place) => place < kept,
                None => match doubtful.iter().position(|&doubt| doubt == at) {
                    Some(place) => chosen >> place & 1 == 1,
                    None => true,
                },
            };
            if has_hole(entries, &is_there) {
                continue;
            }
            let mut content = Content::new();
            // What is too old stays so, whenever it was written.
            let (points, cutoffs): (Vec<usize>, Vec<usize>) = (0..entries.len())
                .filter(|&at| is_there(at))
                .partition(|&at| entries[at].body.cutoff.is_none());
            points.into_iter().chain(cutoffs).for_each(|at| entries[at].body.apply(&mut content));
            let differences = differences(&content, found);
            if differences.is_empty() {
                return Ok(());
            }
            if nearest.as_ref().is_none_or(|best| differences.len() < best.len()) {
                nearest = Some(differences);
            }
        }
    }
    let mut differences = nearest.unwrap_or_default();
    let count = differences.len();
    differences.truncate(SHOWN);
    Err(format!("{count} differences: {}", differences.join("; ")))
}

/// Whether a body that was taken is missing although one that came after it is there.
fn has_hole(entries: &[Entry], is_there: &impl Fn(usize) -> bool) -> bool {
    let mut lost = false;
    entries.iter().enumerate().any(|(at, entry)| match entry.told {
        Told::Taken => {
            lost |= !is_there(at);
            lost && is_there(at)
        }
        // Its place in the order is known only if nothing was written beside it, and if it stands in the log.
        Told::Unknown => lost && is_there(at) && !entry.beside && entry.body.cutoff.is_none(),
        Told::Stored | Told::Refused | Told::Unasked => false,
    })
}

fn differences(expected: &Content, found: &Content) -> Vec<String> {
    let show = |value: &Exact| format!("{:?}", value.0);
    let missing = expected.iter().filter_map(|(cell, value)| match found.get(cell) {
        None => Some(format!("{cell} is lost (was {})", show(value))),
        Some(other) if other != value => Some(format!("{cell} is {} (was {})", show(other), show(value))),
        Some(_) => None,
    });
    let invented = found.iter().filter(|(cell, _)| !expected.contains_key(cell));
    missing.chain(invented.map(|(cell, value)| format!("{cell} is invented: {}", show(value)))).collect()
}

/// More bodies than this in doubt would make too many ways to try.
const MAX_DOUBTFUL: usize = 12;
/// Differences that a message lists.
const SHOWN: usize = 4;
