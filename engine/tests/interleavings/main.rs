//! Commit, snapshot and seal under orders of steps that a scheduler draws.
//!
//! The sources of the memtable and of the publication of views are compiled here a second time, with `sync` in the place of the
//! engine's: shuttle's types, whose every use is a point where another thread may go on. `scene` lives a short life on them and
//! says what is checked. Half of the orders are drawn at random, half by PCT (Burckhardt et al., ASPLOS 2010), which finds a
//! mistake that needs few changes of thread with a known chance. Then each `Mistake` has to be found: the checks are not blind.
//!
//! Not covered: orderings of atomics that are too weak (all are `SeqCst` here), the writer's failure paths and timers (power cut
//! and failing disk suites), compaction.
//!
//! The failures that it prints of those are expected. `WATTLOG_INTERLEAVINGS` says how many orders of each kind and size (3000). A failure prints its schedule, for `shuttle::replay`.
#![allow(dead_code, unused_imports, reason = "sources of the engine, of which the scene uses a part")]

#[path = "../../src/memtable/mod.rs"]
mod memtable;
#[path = "../../src/publication.rs"]
mod publication;
#[path = "../../src/rows.rs"]
mod rows;
mod scene;
mod sync;

// Where the sources above look for the rest of the engine.
use wattlog_engine::{column, feed, ids, tombstone};

use scene::{Mistake, Size};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::panic::{UnwindSafe, catch_unwind};

fn main() {
    let orders = std::env::var("WATTLOG_INTERLEAVINGS").ok().and_then(|text| text.parse().ok());
    let orders = orders.unwrap_or(DEFAULT_ORDERS);
    for size in [Size::Small, Size::Large] {
        let play = move || scene::play(Mistake::None, size);
        Runner::new(RandomScheduler::new(orders), Config::default()).run(play);
        Runner::new(PctScheduler::new(PCT_DEPTH, orders), Config::default()).run(play);
        println!("{size:?}: {orders} orders at random and {orders} by PCT: ok");
    }
    std::panic::set_hook(Box::new(|_| {}));
    for mistake in [
        Mistake::AnswerBeforeSync,
        Mistake::SyncBeforeWrite,
        Mistake::PublishBeforeApply,
        Mistake::HandOverInTwoSteps,
        Mistake::HandOverTwice,
        Mistake::SealedTooLow,
    ] {
        let at_random = || hides(RandomScheduler::new(DEFAULT_ORDERS), mistake);
        let by_pct = || hides(PctScheduler::new(PCT_DEPTH, DEFAULT_ORDERS), mistake);
        if at_random() && by_pct() {
            println!("{mistake:?} was not found in {DEFAULT_ORDERS} orders of each kind");
            std::process::exit(1);
        }
        println!("{mistake:?} is found, as it has to be: ok");
    }
}

/// Whether no order of the scheduler shows a mistake.
fn hides(scheduler: impl Scheduler + UnwindSafe + 'static, mistake: Mistake) -> bool {
    let mut config = Config::default();
    config.failure_persistence = FailurePersistence::None;
    catch_unwind(|| Runner::new(scheduler, config).run(move || scene::play(mistake, Size::Small))).is_ok()
}

const DEFAULT_ORDERS: usize = 3000;
/// Changes of thread that PCT places: the mistakes above need one or two.
const PCT_DEPTH: usize = 3;
