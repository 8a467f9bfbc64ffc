//! Times as the optimiser wrote them, and the instants they stand for.
//!
//! Promise: a time with `Z` or an offset is its instant. A time without one is local time of the configured zone; what the
//! clock change leaves open is settled by the order of the records, or by a rule, and then it says so.
//!
//! Invariants
//! 1. A local time that exists once gives that instant, whatever came before.
//! 2. A local time of the repeated hour is the earlier of its two instants that does not lie before what [`Order`] has
//!    seen, but for a step back of at most half an hour: that is disorder (a duplicate, rows of two writers) within the
//!    pass, which is kept. It counts as decided if the order leaves one choice, or if the last record is at most an hour
//!    older and no assumption itself; a small step back in the first pass decides nothing.
//! 3. A local time of the missing hour moves on by the length of the gap.
//!
//! Shapes read: `2025-12-02T22:40:40.130007`, a space for the `T`, no fraction, one to nine digits of it, `Z`, `+01:00`.

use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use wattlog_model::Timestamp;

/// What a text says: an instant, or a local time that needs a zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    Instant(Timestamp),
    Local(civil::DateTime),
}

/// An instant, and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub at: Timestamp,
    /// Local time at that instant.
    pub local: civil::DateTime,
    pub sureness: Sureness,
    /// True if that local time was there twice.
    pub twice: bool,
}

/// Why an instant may be another one than was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sureness {
    Sure,
    /// It exists twice and nothing tells which: the first pass was taken.
    FirstPassAssumed,
    /// It never existed: moved on by the length of the gap.
    MissingHour,
}

/// The latest instant of one sequence of records.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Order {
    latest: Option<Timestamp>,
    /// The latest is itself an assumption, so it decides nothing for its neighbours.
    assumed: bool,
}

impl Order {
    /// Takes note of an instant that is known.
    pub(crate) fn saw(&mut self, at: Timestamp) {
        self.note(at, Sureness::Sure);
    }

    fn note(&mut self, at: Timestamp, sureness: Sureness) {
        if self.latest.is_none_or(|latest| latest <= at) {
            self.latest = Some(at);
            self.assumed = sureness == Sureness::FirstPassAssumed;
        }
    }
}

/// A record at most this much older than the first pass shows that the first pass was meant.
const NEIGHBOUR_NS: i64 = 3_600_000_000_000;
/// Longest step back that is disorder and no change of the clock. A change shows as an hour less the time since the last
/// record, and decisions came every 16 minutes.
const DISORDER_NS: i64 = 1_800_000_000_000;
/// The optimiser's store stamps rows within seconds; minutes are allowed for a busy disk.
const STAMP_LATE_NS: i64 = 600_000_000_000;
/// The stamp has whole seconds.
const STAMP_EARLY_NS: i64 = 1_000_000_000;

/// Reads one time.
///
/// # Errors
/// A sentence that says what is wrong with the text.
pub(crate) fn parse(text: &str) -> Result<Written, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "{:?} is no time: expected a form like 2025-12-02T22:40:40.130007",
            crate::report::shortened(text)
        )
    };
    let bytes = text.as_bytes();
    let separator = bytes.get(10).copied().ok_or_else(wrong)?;
    if !matches!(separator, b'T' | b't' | b' ') || bytes[4] != b'-' || bytes[7] != b'-' {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| digits(bytes, from, to).ok_or_else(wrong);
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute) = (number(11, 13)?, number(14, 16)?);
    if bytes.get(13) != Some(&b':') {
        return Err(wrong());
    }
    let (second, mut at) = if bytes.get(16) == Some(&b':') { (number(17, 19)?, 19) } else { (0, 16) };
    let mut nanos = 0;
    if matches!(bytes.get(at), Some(b'.' | b',')) {
        let count = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if !(1..=9).contains(&count) {
            return Err(wrong());
        }
        nanos = number(at + 1, at + 1 + count)? * 10_i32.pow(9 - count as u32);
        at += 1 + count;
    }
    let local = civil::DateTime::new(
        year as i16,
        month as i8,
        day as i8,
        hour as i8,
        minute as i8,
        second as i8,
        nanos,
    )
    .map_err(|_| wrong())?;
    let offset_s = match &bytes[at..] {
        [] => return Ok(Written::Local(local)),
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let (hours, minutes) = match rest.len() {
                2 => (digits(rest, 0, 2), Some(0)),
                4 => (digits(rest, 0, 2), digits(rest, 2, 4)),
                5 if rest[2] == b':' => (digits(rest, 0, 2), digits(rest, 3, 5)),
                _ => (None, None),
            };
            let (Some(hours @ 0..=23), Some(minutes @ 0..=59)) = (hours, minutes) else {
                return Err(wrong());
            };
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'-' { -seconds } else { seconds }
        }
        _ => return Err(wrong()),
    };
    let utc = TimeZone::UTC.to_ambiguous_timestamp(local).compatible().map_err(|_| wrong())?;
    let at = bounded(utc.as_nanosecond() - i128::from(offset_s) * 1_000_000_000)?;
    Ok(Written::Instant(at))
}

/// Reads a calendar day, `2025-12-02`.
pub(crate) fn parse_day(text: &str) -> Result<civil::Date, String> {
    let text = text.trim();
    let wrong = || format!("{:?} is no day: expected a form like 2025-12-02", crate::report::shortened(text));
    let bytes = text.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return Err(wrong());
    }
    let part = |from, to| digits(bytes, from, to).ok_or_else(wrong);
    civil::Date::new(part(0, 4)? as i16, part(5, 7)? as i8, part(8, 10)? as i8).map_err(|_| wrong())
}

/// The instant of what was written; `order` is that of the records of one file and one kind.
///
/// # Errors
/// A sentence, if the instant lies outside what can be stored.
pub(crate) fn resolve(written: Written, zone: &TimeZone, order: &mut Order) -> Result<Resolved, String> {
    let local = match written {
        Written::Instant(at) => {
            order.saw(at);
            return Ok(Resolved { at, local: local_time(at, zone), sureness: Sureness::Sure, twice: false });
        }
        Written::Local(local) => local,
    };
    let found = candidates(local, zone)?;
    let twice = matches!(found, Candidates::Two(..));
    let (at, sureness) = match found {
        Candidates::One(at) => (at, Sureness::Sure),
        Candidates::Shifted(at) => (at, Sureness::MissingHour),
        Candidates::Two(first, second) => pass(first, second, order, zone),
    };
    order.note(at, sureness);
    let local = if sureness == Sureness::MissingHour { local_time(at, zone) } else { local };
    Ok(Resolved { at, local, sureness, twice })
}

/// Which of its two instants a time of the repeated hour stands for, after what `order` has seen.
fn pass(first: Timestamp, second: Timestamp, order: &Order, zone: &TimeZone) -> (Timestamp, Sureness) {
    let assumed = (first, Sureness::FirstPassAssumed);
    let Some(latest) = order.latest else { return assumed };
    let back_ns = |to: Timestamp| latest.0.saturating_sub(to.0);
    if latest > second {
        return if back_ns(second) <= DISORDER_NS { (second, Sureness::Sure) } else { assumed };
    }
    if latest > first {
        // Within the second pass the first lies an hour back, less the step on; only the latest's own pass tells.
        let in_second = matches!(candidates(local_time(latest, zone), zone), Ok(Candidates::Two(_, its)) if its == latest);
        let sure = in_second || back_ns(first) > DISORDER_NS;
        return if sure { (second, Sureness::Sure) } else { assumed };
    }
    let neighbour = !order.assumed && first.0.saturating_sub(latest.0) <= NEIGHBOUR_NS;
    if neighbour { (first, Sureness::Sure) } else { assumed }
}

/// Which pass a stamp in UTC proves, given when the record was put away; `None` if the stamp fits both or neither.
pub(crate) fn pass_by_stamp(written: Written, stamp: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
    let Written::Local(local) = written else { return None };
    let Ok(Candidates::Two(first, second)) = candidates(local, zone) else { return None };
    let fits = |at: Timestamp| {
        let late = stamp.0.saturating_sub(at.0);
        (-STAMP_EARLY_NS..=STAMP_LATE_NS).contains(&late)
    };
    match (fits(first), fits(second)) {
        (true, false) => Some(first),
        (false, true) => Some(second),
        _ => None,
    }
}

/// Local time at an instant.
pub(crate) fn local_time(at: Timestamp, zone: &TimeZone) -> civil::DateTime {
    let instant = jiff::Timestamp::from_nanosecond(i128::from(at.0)).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    zone.to_datetime(instant)
}

enum Candidates {
    One(Timestamp),
    Two(Timestamp, Timestamp),
    Shifted(Timestamp),
}

fn candidates(local: civil::DateTime, zone: &TimeZone) -> Result<Candidates, String> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let outside = |_| format!("{local} lies outside the times that can be stored");
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { .. } => {
            Ok(Candidates::One(bounded(ambiguous.compatible().map_err(outside)?.as_nanosecond())?))
        }
        AmbiguousOffset::Gap { .. } => {
            Ok(Candidates::Shifted(bounded(ambiguous.compatible().map_err(outside)?.as_nanosecond())?))
        }
        AmbiguousOffset::Fold { .. } => {
            let first = bounded(ambiguous.earlier().map_err(outside)?.as_nanosecond())?;
            let second = bounded(ambiguous.later().map_err(outside)?.as_nanosecond())?;
            Ok(Candidates::Two(first, second))
        }
    }
}

fn bounded(nanos: i128) -> Result<Timestamp, String> {
    let inside = i64::try_from(nanos).ok().map(Timestamp);
    inside
        .filter(|at| (Timestamp::MIN..=Timestamp::MAX).contains(at))
        .ok_or_else(|| "the time lies outside the years 1678 to 2261".to_owned())
}

fn digits(bytes: &[u8], from: usize, to: usize) -> Option<i32> {
    let part = bytes.get(from..to)?;
    part.iter()
        .try_fold(0_i32, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i32::from(byte - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warsaw() -> TimeZone {
        TimeZone::get("Europe/Warsaw").expect("a bundled zone")
    }

    fn utc(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = text.parse().expect("a time");
        Timestamp(instant.as_nanosecond() as i64)
    }

    fn sequence(times: &[&str]) -> Vec<(String, Sureness)> {
        let mut order = Order::default();
        times
            .iter()
            .map(|text| {
                let resolved = resolve(parse(text).unwrap(), &warsaw(), &mut order).unwrap();
                let instant = jiff::Timestamp::from_nanosecond(i128::from(resolved.at.0)).unwrap();
                (instant.to_string(), resolved.sureness)
            })
            .collect()
    }

    #[test]
    fn every_form_the_optimiser_wrote_is_read() {
        for (text, expected) in [
            ("2025-12-02T22:40:40.130007", "2025-12-02T21:40:40.130007Z"),
            ("2025-12-02 22:40:40", "2025-12-02T21:40:40Z"),
            ("2025-07-02T22:40:40.5", "2025-07-02T20:40:40.5Z"),
            ("2025-12-02T22:40:40.130007Z", "2025-12-02T22:40:40.130007Z"),
            ("2025-11-26T19:28:26.051202+01:00", "2025-11-26T18:28:26.051202Z"),
            ("2025-11-26T19:28:26-0130", "2025-11-26T20:58:26Z"),
            ("2025-11-26T19:28", "2025-11-26T18:28:00Z"),
        ] {
            let resolved = resolve(parse(text).unwrap(), &warsaw(), &mut Order::default()).unwrap();
            assert_eq!((resolved.at, resolved.sureness), (utc(expected), Sureness::Sure), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_told() {
        for text in [
            "",
            "now",
            "2025-13-02T00:00:00",
            "2025-02-30T00:00:00",
            "2025-12-02T24:00:00",
            "2025-12-02T22:40:40.",
            "2025-12-02T22:40:40.1234567890",
            "2025-12-02T22:40:40+1",
            "2025-12-02T22:40:40+25:00",
            "2025-12-02X22:40:40",
            "2025-12-02T22h40",
            "żółć-12-02T22:40",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(resolve(parse("0001-01-01T00:00:00").unwrap(), &warsaw(), &mut Order::default()).is_err());
        assert!(resolve(parse("9999-12-31T23:59:59").unwrap(), &warsaw(), &mut Order::default()).is_err());
    }

    #[test]
    fn the_order_of_a_file_decides_the_pass_of_the_repeated_hour() {
        let got = sequence(&[
            "2025-10-26T01:55:00",
            "2025-10-26T02:00:00",
            "2025-10-26T02:55:00",
            "2025-10-26T02:00:00",
            "2025-10-26T02:55:00",
            "2025-10-26T03:00:00",
        ]);
        let instants: Vec<&str> = got.iter().map(|(at, _)| at.as_str()).collect();
        assert_eq!(
            instants,
            [
                "2025-10-25T23:55:00Z",
                "2025-10-26T00:00:00Z",
                "2025-10-26T00:55:00Z",
                "2025-10-26T01:00:00Z",
                "2025-10-26T01:55:00Z",
                "2025-10-26T02:00:00Z"
            ]
        );
        assert!(got.iter().all(|(_, sureness)| *sureness == Sureness::Sure));
    }

    #[test]
    fn a_small_step_back_is_no_second_pass() {
        let times = [
            "01:55", "02:30", "02:35", "02:30", "02:40", "02:50", "02:55", "02:00", "02:10", "02:05",
            "02:50", "03:05", "02:58", "03:10",
        ]
        .map(|time| format!("2025-10-26T{time}:00"));
        let got = sequence(&times.each_ref().map(String::as_str));
        let instants: Vec<&str> = got.iter().map(|(at, _)| &at[..16]).collect();
        assert_eq!(
            instants,
            [
                "2025-10-25T23:55",
                "2025-10-26T00:30",
                "2025-10-26T00:35",
                "2025-10-26T00:30",
                "2025-10-26T00:40",
                "2025-10-26T00:50",
                "2025-10-26T00:55",
                "2025-10-26T01:00",
                "2025-10-26T01:10",
                "2025-10-26T01:05",
                "2025-10-26T01:50",
                "2025-10-26T02:05",
                "2025-10-26T01:58",
                "2025-10-26T02:10",
            ]
        );
        let marked: Vec<usize> = (0..got.len()).filter(|index| got[*index].1 != Sureness::Sure).collect();
        assert_eq!(marked, [3], "a step back in the first pass may as well be a late second one");
    }

    #[test]
    fn more_than_half_an_hour_back_is_the_second_pass() {
        let second = |time: &str| {
            let time = format!("2025-10-26T{time}");
            sequence(&["2025-10-26T01:55:00", "2025-10-26T02:50:00", &time])[2].clone()
        };
        assert_eq!(second("02:20:00"), ("2025-10-26T00:20:00Z".to_owned(), Sureness::FirstPassAssumed));
        assert_eq!(second("02:19:59"), ("2025-10-26T01:19:59Z".to_owned(), Sureness::Sure));
    }

    #[test]
    fn without_a_neighbour_the_first_pass_is_taken_and_marked() {
        let assumed = ("2025-10-26T00:30:00Z".to_owned(), Sureness::FirstPassAssumed);
        assert_eq!(sequence(&["2025-10-26T02:30:00"])[0], assumed);
        assert_eq!(sequence(&["2025-10-25T20:00:00", "2025-10-26T02:30:00"])[1], assumed);
        assert_eq!(sequence(&["2025-10-27T20:00:00", "2025-10-26T02:30:00"])[1], assumed);
    }

    #[test]
    fn a_time_of_the_missing_hour_moves_on() {
        let shifted = ("2026-03-29T01:30:00Z".to_owned(), Sureness::MissingHour);
        assert_eq!(sequence(&["2026-03-29T02:30:00"]), [shifted]);
    }

    #[test]
    fn the_stamp_of_a_row_proves_its_pass() {
        let written = parse("2025-10-26T02:30:00.25").unwrap();
        let pass = |stamp: &str| pass_by_stamp(written, utc(stamp), &warsaw());
        assert_eq!(pass("2025-10-26T00:30:00Z"), Some(utc("2025-10-26T00:30:00.25Z")));
        assert_eq!(pass("2025-10-26T01:31:00Z"), Some(utc("2025-10-26T01:30:00.25Z")));
        assert_eq!(pass("2025-12-02T21:49:11Z"), None, "a row that was copied later");
        assert_eq!(
            pass_by_stamp(parse("2025-10-26T04:30:00").unwrap(), utc("2025-10-26T03:30:00Z"), &warsaw()),
            None
        );
    }
}
