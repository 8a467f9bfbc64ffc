//! What the plant did, by its own counters and by sums over its ticks, and what sessions these are: from the sentences of
//! docs/ledger.md, over whole lists.

use wattlog_ledger::schema::SessionKind;

pub(crate) const SECOND: i64 = 1_000_000_000;
/// The plant is the same for as long.
pub(crate) const TICK: i64 = 10 * SECOND;
pub(crate) const QUARTER: i64 = 900 * SECOND;
const MINUTE: i64 = 60 * SECOND;
const JOULES: f64 = 3.6e6;

/// Ten seconds of the plant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tick {
    pub(crate) start: i64,
    /// + = discharge.
    pub(crate) battery_w: f64,
    /// + = export.
    pub(crate) grid_w: f64,
    pub(crate) soc_percent: f64,
    /// The plant's own counters, at its start.
    pub(crate) charge_kwh: f64,
    pub(crate) discharge_kwh: f64,
}

/// A poll that is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    pub(crate) at: i64,
    pub(crate) tick: Tick,
}

/// What flowed in a session.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Sums {
    pub(crate) energy_kwh: f64,
    /// From the grid, or into it.
    pub(crate) grid_kwh: f64,
    /// What that cost, or brought.
    pub(crate) money_pln: f64,
    /// Seconds that no poll tells of.
    pub(crate) unheard_s: f64,
    /// Energy that polls cannot tell, as they are ten seconds apart and the plant changes in a step between two of them.
    pub(crate) blind_kwh: f64,
    /// The same of the grid's part.
    pub(crate) blind_grid_kwh: f64,
}

/// Battery + = discharge, grid + = export.
fn sign_of(kind: SessionKind) -> f64 {
    if kind == SessionKind::Charging { -1.0 } else { 1.0 }
}

/// Power of the battery in the direction of the kind, and the part of it that the grid gave or took.
fn flow(kind: SessionKind, battery_w: f64, grid_w: f64) -> (f64, f64) {
    let sign = sign_of(kind);
    let power_w = (sign * battery_w).max(0.0);
    (power_w, power_w.min((sign * grid_w).max(0.0)))
}

/// What a reading shows of it: registers hold whole watts.
fn shown_w(kind: SessionKind, tick: &Tick) -> f64 {
    match kind {
        SessionKind::Charging => -tick.battery_w.round(),
        SessionKind::Selling => tick.battery_w.round().min(tick.grid_w.round()),
    }
}

/// First and last reading of each session.
pub(crate) fn sessions(readings: &[Reading], kind: SessionKind) -> Vec<(usize, usize)> {
    // "points more than 15 minutes apart are not joined"
    let is_joined =
        |at: usize| 0 < at && at < readings.len() && readings[at].at - readings[at - 1].at <= 15 * MINUTE;
    // "200 W or more, until less than 100 W"
    let mut is_on = vec![false; readings.len()];
    for at in 0..readings.len() {
        let least_w = if is_joined(at) && is_on[at - 1] { 100.0 } else { 200.0 };
        is_on[at] = shown_w(kind, &readings[at].tick) >= least_w;
    }
    let mut found: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    while at < readings.len() {
        if !is_on[at] {
            at += 1;
            continue;
        }
        let first = if is_joined(at) { at - 1 } else { at };
        while is_joined(at + 1) && is_on[at + 1] {
            at += 1;
        }
        let last = if is_joined(at + 1) { at + 1 } else { at };
        // "pauses of up to 5 minutes belong to it"
        match found.last_mut() {
            Some(before) if readings[first].at - readings[before.1].at <= 5 * MINUTE => before.1 = last,
            _ => found.push((first, last)),
        }
        at += 1;
    }
    // "shorter than 2 minutes it is none"
    found.retain(|(first, last)| readings[*last].at - readings[*first].at >= 2 * MINUTE);
    found
}

/// What flowed from the first to the last of these readings. Where polls are missing, power is on a line from one reading to the next.
pub(crate) fn sums(readings: &[Reading], kind: SessionKind, price: impl Fn(i64) -> f64) -> Sums {
    let mut sums = Sums::default();
    let mut add = |(power_w, grid_w): (f64, f64), seconds: f64, at: i64| {
        sums.energy_kwh += power_w * seconds / JOULES;
        sums.grid_kwh += grid_w * seconds / JOULES;
        sums.money_pln += grid_w * seconds / JOULES * price(at);
    };
    let mut unheard_s = 0.0;
    for pair in readings.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        if is_next(from, to) {
            // To the end of a tick, and on to the reading in the next.
            for (reading, start, end) in [(from, from.at, to.tick.start), (to, to.tick.start, to.at)] {
                let powers = flow(kind, reading.tick.battery_w, reading.tick.grid_w);
                add(powers, (end - start) as f64 / SECOND as f64, reading.tick.start);
            }
            continue;
        }
        let length = to.at - from.at;
        unheard_s += length as f64 / SECOND as f64;
        let steps = length / (SECOND / 10);
        for step in 0..steps {
            let share = (step as f64 + 0.5) / steps as f64;
            let mix = |a: f64, b: f64| a + (b - a) * share;
            let powers = flow(
                kind,
                mix(from.tick.battery_w, to.tick.battery_w),
                mix(from.tick.grid_w, to.tick.grid_w),
            );
            let at = from.at + (length as f64 * share) as i64;
            add(powers, length as f64 / SECOND as f64 / steps as f64, at);
        }
    }
    let blind_kwh = blind_kwh(readings, |tick| sign_of(kind) * tick.battery_w);
    let blind_grid_kwh = blind_kwh + self::blind_kwh(readings, |tick| sign_of(kind) * tick.grid_w);
    Sums { unheard_s, blind_kwh, blind_grid_kwh, ..sums }
}

/// Where polls begin and end, a step is up to half a tick away from the line through them; where a power turns from one direction to
/// the other, the line has less on either side than the step. `power_w` is that of a tick, + in the direction of the kind.
fn blind_kwh(readings: &[Reading], power_w: impl Fn(&Tick) -> f64) -> f64 {
    let flank_w = |reading: &Reading| power_w(&reading.tick).max(0.0);
    let half_s = (TICK / 2) as f64 / SECOND as f64;
    let ends_w: f64 = readings.first().into_iter().chain(readings.last()).map(flank_w).sum();
    let between_w = |pair: &[Reading]| {
        let [a, b] = [power_w(&pair[0].tick), power_w(&pair[1].tick)];
        if !is_next(&pair[0], &pair[1]) {
            flank_w(&pair[0]) + flank_w(&pair[1])
        } else if a * b < 0.0 {
            (a * b / (a - b)).abs()
        } else {
            0.0
        }
    };
    (ends_w + readings.windows(2).map(between_w).sum::<f64>()) * half_s / JOULES
}

/// Whether no poll is missing between the two.
pub(crate) fn is_next(a: &Reading, b: &Reading) -> bool {
    b.tick.start - a.tick.start == TICK
}

/// The same by the plant's own counters.
pub(crate) fn counted_kwh(readings: &[Reading], kind: SessionKind) -> f64 {
    let at = |reading: &Reading| {
        let tick = &reading.tick;
        let since_kwh =
            flow(kind, tick.battery_w, 0.0).0 * (reading.at - tick.start) as f64 / SECOND as f64 / JOULES;
        since_kwh + if kind == SessionKind::Charging { tick.charge_kwh } else { tick.discharge_kwh }
    };
    let ends = readings.first().zip(readings.last());
    ends.map_or(0.0, |(first, last)| at(last) - at(first))
}
