//! Sessions, costs and reports that the appliance's own keepers find of the simulated household, over ninety days, against what the
//! household really did.
//!
//! A poll every ten seconds, which is the collector's default. The days are 45 around each of the two changes of the clock in
//! Warsaw, with a winter of silence between them. Polls and prices arrive in blocks and in no order; the home is silent for
//! minutes and hours, within sessions and across their flanks; the appliance is stopped, and loses its power, on the way.
//!
//! Not here: shapes with formulas (`analytics/tests/session_plant.rs`); deletes, retention and tariffs (`derived/tests/books`).

mod courier;
#[path = "../../derived/tests/books/home.rs"]
mod home;
mod story;
mod truth;

use courier::{Block, Courier};
use home::{Home, PATIENCE};
use serde_json::json;
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};
use story::{KINDS, Prices, Silence, Story, TURN, ZONE, product_of, zone};
use truth::{SECOND, Sums, TICK, counted_kwh, is_next, sessions, sums};
use wattlog_collector::simulator::feeds::midnight;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_ledger::schema::{Direction, Report, Session, SessionKind, SessionStatus, Tariff};
use wattlog_ledger::{Actor, Stored};
use wattlog_model::Timestamp;

const DEVICE: &str = "roof";
const HALF_PERCENT: f64 = 0.005;
/// Where polls miss at most this share, they tell well.
const LITTLE: f64 = 0.004;
/// No price is higher.
const MOST_PLN_KWH: f64 = 1.6;

/// A session as it must be found.
#[derive(Debug, Clone, PartialEq)]
struct Planted {
    kind: SessionKind,
    start: i64,
    end: i64,
    soc_percent: [f64; 2],
    sums: Sums,
    /// Nothing of it, and nothing beside it, is missing.
    is_whole: bool,
}

impl Planted {
    fn key(&self) -> (i64, &'static str) {
        (self.start, self.kind.as_str())
    }
}

fn planted(story: &Story, prices: &Prices) -> Vec<Planted> {
    let readings = story.readings();
    let mut planted = Vec::new();
    for kind in KINDS {
        for (first, last) in sessions(&readings, kind) {
            let mine = &readings[first..=last];
            let sums = sums(mine, kind, |at| prices.at(kind, at));
            if sums.unheard_s == 0.0 {
                let counted_kwh = counted_kwh(mine, kind);
                assert!(
                    (counted_kwh - sums.energy_kwh).abs() < 1e-6,
                    "{counted_kwh} by the counter: {sums:?}"
                );
            }
            let around = &readings[first.saturating_sub(1)..(last + 2).min(readings.len())];
            let is_whole = around.len() == mine.len() + 2 && around.windows(2).all(|r| is_next(&r[0], &r[1]));
            let soc_percent = [&mine[0], &readings[last]].map(|reading| reading.tick.soc_percent.round());
            let (start, end) = (mine[0].at, readings[last].at);
            planted.push(Planted { kind, start, end, soc_percent, sums, is_whole });
        }
    }
    planted.sort_by_key(Planted::key);
    planted
}

/// Largest errors, as shares of what is true.
#[derive(Debug, Default)]
struct Worst {
    /// Of sessions that polls tell well.
    energy: f64,
    /// Of those whose grid part they tell well, and how many these are.
    money: f64,
    paid: usize,
    /// Of the others, from the roof with a meter that swings around zero by some watts.
    unpaid_pln: f64,
    /// How many have their energy within half a percent, and what share of all energy these have.
    within: usize,
    within_kwh: f64,
    /// Of all sessions together.
    all_energy: f64,
    all_money: f64,
}

/// Holds the ledger against what was planted: half a percent, and where the battery changes its direction between one poll and the
/// next again and again, what polls cannot tell.
fn compare(records: &[Stored<Session>], planted: &[Planted]) -> Worst {
    let key = |stored: &Stored<Session>| (stored.record.start.0, stored.record.kind.as_str());
    let seen: Vec<_> = records.iter().map(key).collect();
    let wanted: Vec<_> = planted.iter().map(Planted::key).collect();
    let missed: Vec<_> = wanted.iter().filter(|key| !seen.contains(key)).collect();
    let invented: Vec<_> = seen.iter().filter(|key| !wanted.contains(key)).collect();
    assert!(missed.is_empty() && invented.is_empty(), "missed {missed:?}, invented {invented:?}");
    assert_eq!(seen, wanted, "each once");
    let mut worst = Worst::default();
    let (mut energies, mut monies, mut within_kwh) = ([0.0; 2], [0.0; 2], 0.0);
    for (Stored { record, .. }, planted) in records.iter().zip(planted) {
        assert_eq!((record.status, record.device_id.as_deref()), (SessionStatus::Completed, Some(DEVICE)));
        assert_eq!(record.end, Some(Timestamp(planted.end)), "{planted:?}");
        let socs = [record.battery_soc_start, record.battery_soc_end];
        assert_eq!(socs, planted.soc_percent.map(Some), "{planted:?}");
        let sums = planted.sums;
        let energy_kwh = record.energy_kwh.unwrap();
        let money = if planted.kind == SessionKind::Charging { record.total_cost } else { record.revenue };
        let money_pln = money.unwrap_or_else(|| panic!("without a price: {record:?}"));
        let off = [(energy_kwh - sums.energy_kwh).abs(), (money_pln - sums.money_pln).abs()];
        // Nothing is off by more than what polls cannot tell, and a little.
        assert!(off[0] <= sums.blind_kwh + 0.001 * sums.energy_kwh, "{energy_kwh} kWh: {planted:?}");
        let blind_pln = MOST_PLN_KWH * sums.blind_grid_kwh;
        assert!(off[1] <= blind_pln + 0.001 * sums.money_pln.abs() + 2e-6, "{money_pln} PLN: {planted:?}");
        let shares = [off[0] / sums.energy_kwh, off[1] / sums.money_pln.abs()];
        if shares[0] <= HALF_PERCENT {
            (worst.within, within_kwh) = (worst.within + 1, within_kwh + sums.energy_kwh);
        }
        if sums.blind_kwh <= LITTLE * sums.energy_kwh {
            assert!(shares[0] <= HALF_PERCENT, "{energy_kwh} kWh: {planted:?}");
            worst.energy = worst.energy.max(shares[0]);
        }
        if sums.grid_kwh > 0.0 && sums.blind_grid_kwh <= LITTLE * sums.grid_kwh {
            assert!(shares[1] <= HALF_PERCENT, "{money_pln} PLN: {planted:?}");
            worst.money = worst.money.max(shares[1]);
            worst.paid += 1;
        } else {
            worst.unpaid_pln = worst.unpaid_pln.max(off[1]);
        }
        energies = [energies[0] + energy_kwh, energies[1] + sums.energy_kwh];
        monies = [monies[0] + money_pln, monies[1] + sums.money_pln];
    }
    let share = |[found, true_value]: [f64; 2]| (found - true_value).abs() / true_value;
    (worst.all_energy, worst.all_money) = (share(energies), share(monies));
    assert!(worst.all_energy < HALF_PERCENT && worst.all_money < HALF_PERCENT, "{worst:?}");
    worst.within_kwh = within_kwh / energies[1];
    assert!(worst.within_kwh > 0.95, "{worst:?}");
    worst
}

async fn tell_tariffs(home: &Home, story: &Story) {
    let market =
        |kind: SessionKind| json!({ "market": { "source": "pse", "product": product_of(kind).name() } });
    let bought = |name: &str| json!({ "builtin": name, "energy": market(SessionKind::Charging) });
    let sold = json!({ "sold": true, "energy": market(SessionKind::Selling) });
    let (begin, turn) = (Timestamp(0), midnight(TURN, &story.market));
    for (name, direction, valid_from, valid_until, definition) in [
        ("g11", Direction::Import, begin, Some(turn), bought("g11")),
        ("g12", Direction::Import, turn, None, bought("g12")),
        ("sale", Direction::Export, begin, None, sold),
    ] {
        let (name, currency, note) = (name.to_owned(), "PLN".to_owned(), String::new());
        let tariff = Tariff { name, direction, valid_from, valid_until, currency, definition, note };
        home.ledger.insert(tariff, &Actor::new("test")).await.unwrap();
    }
}

/// Polls and prices of a part, in blocks of an hour to a day.
fn blocks_of(part: &Range<usize>, rng: &mut Rng) -> Vec<Block> {
    let (mut blocks, mut from) = (Vec::new(), part.start);
    while from < part.end {
        let end = (from + 360 * (1 + rng.below(24) as usize)).min(part.end);
        blocks.extend([Block::Polls(from..end), Block::Prices(from..end)]);
        from = end;
    }
    blocks
}

/// Lives through the story: part after part, what is late and what is not in any order, with stops and power cuts in between.
async fn live(mut home: Home, folder: &tempfile::TempDir, story: &Story, rng: &mut Rng) -> (Home, Courier) {
    let mut courier = Courier::new(DEVICE);
    let mut late: Vec<Block> = Vec::new();
    let (mut stops, mut cuts) = (0, 0);
    for (place, part) in story.parts.iter().enumerate() {
        let is_last = place + 1 == story.parts.len();
        // An hour after the last poll of all.
        let now = story.ticks[part.end - 1].start + if is_last { 3600 * SECOND } else { TICK };
        home.clock.set_wall(Timestamp(now));
        late.extend(blocks_of(part, rng));
        let (mut come, stay): (Vec<Block>, _) = late.into_iter().partition(|_| is_last || rng.chance(80));
        late = stay;
        while !come.is_empty() {
            let block = come.swap_remove(rng.index(come.len()));
            courier.bring(&home, story, &block);
            match rng.below(24) {
                0 => home.settle().await,
                1 => {
                    let disk = home.disk.clone();
                    home.stop().await;
                    home = Home::open_in(disk, folder.path(), now, ZONE);
                    stops += 1;
                }
                2 => {
                    // Somewhere in its work.
                    tokio::time::sleep(Duration::from_millis(rng.below(60))).await;
                    let disk = home.cut(rng.next_u64()).await;
                    home = Home::open_in(disk, folder.path(), now, ZONE);
                    cuts += 1;
                }
                3 => drop(home.engine.seal().unwrap()),
                _ => {}
            }
        }
    }
    assert!(stops >= 3 && cuts >= 3, "{stops} stops, {cuts} power cuts");
    eprintln!("{} points, {stops} stops, {cuts} power cuts", courier.written);
    (home, courier)
}

#[tokio::test(flavor = "multi_thread")]
async fn ninety_days_of_the_household_are_told_as_they_were() {
    let seed = std::env::var("WATTLOG_SEED").map_or(1, |seed| seed.parse().expect("WATTLOG_SEED: a number"));
    let mut rng = Rng::new(seed);
    let mut story = Story::new(seed, &mut rng);
    let prices = Prices::new(&story);
    let truth = planted(&story, &prices);
    let count = |kind| truth.iter().filter(|planted| planted.kind == kind).count();
    let silences = |silence| story.silences.iter().filter(|(kind, _)| *kind == silence).count();
    assert!(count(SessionKind::Charging) > 200 && count(SessionKind::Selling) > 40, "{:?}", KINDS.map(count));
    let silences = [Silence::Short, Silence::Long, Silence::Flank, Silence::Hours].map(silences);
    assert!(silences.iter().all(|count| *count > 5), "{silences:?}");

    let folder = tempfile::tempdir().unwrap();
    let home = Home::open_in(SimDisk::new(seed), folder.path(), story.ticks[0].start, ZONE);
    tell_tariffs(&home, &story).await;
    let (home, mut courier) = live(home, &folder, &story, &mut rng).await;
    home.settle().await;
    let worst = compare(&home.sessions().await, &truth);
    eprintln!("{:?} charging and selling, {silences:?} silences: {worst:?}", KINDS.map(count));
    // A long silence made two of one, a short one has a line drawn across.
    for (silence, gone) in [(Silence::Long, 1), (Silence::Short, 0)] {
        let (ticks, before) = (story.apart(silence), planted(&story, &prices));
        let found = home.sessions().await;
        story.fill(&ticks);
        courier.bring(&home, &story, &Block::Polls(ticks));
        home.settle().await;
        let (after, new) = (planted(&story, &prices), home.sessions().await);
        compare(&new, &after);
        assert_eq!(after.len() + gone, before.len(), "{silence:?}");
        only_the_right_are_revised((&before, &after), (&found, &new));
    }
    reports_are_right(&home, &story, &planted(&story, &prices)).await;
    home.stop().await;
}

/// One session has another content and one version more; those that were not planted any more are gone; all others are as they were.
fn only_the_right_are_revised(
    (before, after): (&[Planted], &[Planted]),
    (found, new): (&[Stored<Session>], &[Stored<Session>]),
) {
    let mut revised = 0;
    for old in found {
        let key = (old.record.start.0, old.record.kind.as_str());
        let of = |planted: &[Planted]| planted.iter().find(|planted| planted.key() == key).cloned();
        let now = new.iter().find(|new| new.id == old.id);
        match (of(before), of(after), now) {
            (Some(before), Some(after), now) if before == after => {
                assert_eq!(now, Some(old), "not its session");
            }
            (Some(_), Some(after), Some(now)) => {
                assert_eq!((now.version, now.record.start), (old.version + 1, old.record.start));
                assert!(
                    after.is_whole && after.sums.blind_kwh <= LITTLE * after.sums.energy_kwh,
                    "{after:?}"
                );
                revised += 1;
            }
            (Some(_), None, None) => {}
            other => panic!("{old:?}: {other:?}"),
        }
    }
    assert_eq!(revised, 1);
}

/// Waits until the days and months of the story have reports whose sums of sessions are the planted ones, and holds their energies
/// against the plant's counters.
async fn reports_are_right(home: &Home, story: &Story, truth: &[Planted]) {
    // How many, what energy they have, and what polls cannot tell of it.
    let mut wanted: BTreeMap<(&str, i64, &str), (u64, f64, f64)> = BTreeMap::new();
    let zone = zone();
    let local = |at: i64| zone.to_datetime(jiff::Timestamp::from_second(at / SECOND).unwrap()).date();
    let last = local(story.ticks[story.ticks.len() - 1].start);
    let mut days: Vec<i64> = Vec::new();
    for day in Story::days() {
        days.push(midnight(day, &story.market).0);
        for kind in KINDS {
            wanted.insert(("daily", midnight(day, &story.market).0, kind.as_str()), (0, 0.0, 0.0));
        }
    }
    for planted in truth {
        let day = local(planted.start);
        let mut add = |length, start| {
            let (of, key) = (&planted.sums, (length, start, planted.kind.as_str()));
            let (count, energy_kwh, blind_kwh) = wanted.get(&key).copied().unwrap_or_default();
            wanted.insert(key, (count + 1, energy_kwh + of.energy_kwh, blind_kwh + of.blind_kwh));
        };
        add("daily", midnight(day, &story.market).0);
        if (day.year(), day.month()) != (last.year(), last.month()) {
            add("monthly", midnight(day.first_of_month(), &story.market).0);
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let reports = loop {
        home.settle().await;
        let reports: BTreeMap<(String, i64), Report> = (home.all::<Report>().await.into_iter())
            .map(|stored| ((stored.record.report_type.clone(), stored.record.start.0), stored.record))
            .collect();
        let wrong = wanted.iter().find(|((length, start, kind), (count, energy_kwh, blind_kwh))| {
            let report = reports.get(&((*length).to_owned(), *start));
            let told = report.map(|report| &report.data["sessions"][*kind]);
            !told.is_some_and(|told| {
                let off = told["energy_kwh"].as_f64().map(|told| (told - energy_kwh).abs());
                told["count"] == *count && off.is_some_and(|off| off <= blind_kwh + 0.001 * energy_kwh)
            })
        });
        match wrong {
            None => break reports,
            Some(wrong) => assert!(Instant::now() < deadline, "{wrong:?}: {:?}", home.books.status()),
        }
    };
    let (mut worst, mut count) = ([0.0_f64; 2], 0);
    for pair in days.windows(2) {
        let at = |start: i64| story.ticks.binary_search_by_key(&start, |tick| tick.start);
        // The last day of a stretch has no end that is known.
        let (Ok(first), Ok(end)) = (at(pair[0]), at(pair[1])) else { continue };
        if story.ticks[end].start - story.ticks[first].start > 26 * 3600 * SECOND
            || (first..end).any(|tick| story.is_silent(tick))
        {
            continue;
        }
        let (from, to) = (&story.ticks[first], &story.ticks[end]);
        let data = &reports[&("daily".to_owned(), pair[0])].data;
        let flows = [to.charge_kwh - from.charge_kwh, to.discharge_kwh - from.discharge_kwh];
        for (worst, (name, counted_kwh)) in
            worst.iter_mut().zip(["charge_kwh", "discharge_kwh"].iter().zip(flows))
        {
            let share = (data[*name].as_f64().unwrap() - counted_kwh).abs() / counted_kwh;
            assert!(share <= HALF_PERCENT, "{name} of {}: {} by the counter: {data}", pair[0], counted_kwh);
            *worst = worst.max(share);
        }
        count += 1;
    }
    assert!(count > 10, "{count} days without a silence");
    eprintln!("{} reports; charge and discharge of {count} whole days: {worst:?}", reports.len());
}
