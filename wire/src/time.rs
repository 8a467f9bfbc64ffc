//! Times and durations as texts.
//!
//! Rules (docs/api.md, "Time"): a query's time is RFC 3339 with a zone, a whole number with a unit, `now` or `-24h`;
//! only the routes of the optimiser's plan take a time without a zone, which then means the home zone.

use jiff::civil;
use jiff::tz::{AmbiguousOffset, TimeZone};
use wattlog_engine::query::{Every, Zone};
use wattlog_model::Timestamp;

/// Which of two instants a local time in the hour that comes twice means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fold {
    /// The first: for points and beginnings of ranges.
    Earlier,
    /// The second: for ends of ranges, so that the range holds both hours.
    Later,
}

/// Appends an instant as `2026-03-01T10:00:00Z`, with as many digits after the second as it needs.
pub fn write_rfc3339(out: &mut Vec<u8>, ns: i64) {
    write_clock(out, ns);
    out.push(b'Z');
}

/// Appends an instant by the clock of a zone, as `2026-03-01T11:00:00+01:00`; in UTC as [`write_rfc3339`] does.
///
/// Offsets of the nineteenth century have seconds, which RFC 3339 cannot say: they are cut to minutes, and the time is
/// given by the offset so written.
pub fn write_rfc3339_in(out: &mut Vec<u8>, ns: i64, zone: &Zone) {
    if *zone == Zone::UTC {
        return write_rfc3339(out, ns);
    }
    let minutes = zone.offset_seconds(ns) / 60;
    let Some(wall) = ns.checked_add(i64::from(minutes) * 60_000_000_000) else {
        return write_rfc3339(out, ns);
    };
    write_clock(out, wall);
    out.push(if minutes < 0 { b'-' } else { b'+' });
    push_digits(out, minutes.unsigned_abs() / 60, 2);
    out.push(b':');
    push_digits(out, minutes.unsigned_abs() % 60, 2);
}

fn write_clock(out: &mut Vec<u8>, ns: i64) {
    let seconds = ns.div_euclid(1_000_000_000);
    let mut fraction = ns.rem_euclid(1_000_000_000) as u32;
    let (year, month, day) = civil_from_days(seconds.div_euclid(86_400));
    let second = seconds.rem_euclid(86_400) as u32;
    // i64 nanoseconds span the years 1677 to 2262.
    push_digits(out, year as u32, 4);
    for (mark, n) in
        [(b'-', month), (b'-', day), (b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)]
    {
        out.push(mark);
        push_digits(out, n, 2);
    }
    if fraction > 0 {
        let mut digits = 9;
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        out.push(b'.');
        push_digits(out, fraction, digits);
    }
}

/// The same as a text of its own.
pub fn rfc3339(ns: i64) -> String {
    let mut out = Vec::with_capacity(30);
    write_rfc3339(&mut out, ns);
    out.into_iter().map(char::from).collect()
}

fn push_digits(out: &mut Vec<u8>, n: u32, digits: u32) {
    for place in (0..digits).rev() {
        out.push(b'0' + (n / 10_u32.pow(place) % 10) as u8);
    }
}

/// Date of a day count since the epoch, in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level
/// date algorithms").
fn civil_from_days(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// A time parameter of a query; `now` is the time of the request.
pub fn parse_query_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let invalid = || {
        format!(
            "{:?} is no time: write RFC 3339 with a zone (2026-03-01T10:00:00Z), a whole number with its unit \
             (1772359200s, ...ms, ...us, ...ns), now, or a span before now (-24h)",
            crate::text::shortened(text)
        )
    };
    let text = text.trim();
    if text == "now" || text == "now()" {
        return Ok(now);
    }
    let spans_back = text.strip_prefix("now").unwrap_or(text);
    if let Some(span) = spans_back.strip_prefix('-')
        && let Ok(back) = parse_span(span)
        && !is_instant_unit(span)
    {
        return bounded(i128::from(now.0) - i128::from(back));
    }
    if let Some((number, unit_ns)) = instant_parts(text) {
        return bounded(i128::from(number.map_err(|()| invalid())?) * i128::from(unit_ns));
    }
    parse_zoned(text).ok_or_else(invalid)?
}

/// `-5s` alone is "five seconds ago"; only long numbers and other units are counts since the epoch. A count before
/// 1970 is written with `ms`, `us` or `ns` and more than nine digits.
fn is_instant_unit(span: &str) -> bool {
    let digits = span.bytes().take_while(u8::is_ascii_digit).count();
    digits > 9 && matches!(&span[digits..], "s" | "ms" | "us" | "ns")
}

/// `1772359200s` and the like; none if the text is of another form.
fn instant_parts(text: &str) -> Option<(Result<i64, ()>, i64)> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let unit_ns = match &unsigned[digits..] {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ns" => 1,
        _ => return None,
    };
    (digits > 0).then(|| (text[..text.len() - unsigned.len() + digits].parse().map_err(drop), unit_ns))
}

fn bounded(ns: i128) -> Result<Timestamp, String> {
    i64::try_from(ns)
        .ok()
        .and_then(|ns| Timestamp::from_units(ns, 1).ok())
        .ok_or_else(|| "the time is outside the years 1677 to 2262".to_owned())
}

fn parse_zoned(text: &str) -> Option<Result<Timestamp, String>> {
    // A `+` that was not written as %2B arrives as a blank.
    let mended;
    let text = match text.rsplit_once(' ') {
        Some((time, zone)) if time.contains('T') && zone.contains(':') => {
            mended = format!("{time}+{zone}");
            &mended
        }
        _ => text,
    };
    let instant: jiff::Timestamp = text.parse().ok()?;
    Some(bounded(instant.as_nanosecond()))
}

/// A time of the optimiser's routes: with a zone, or without one and then local time of `zone`.
///
/// A local time that comes twice (autumn) is one of its two instants, by `fold`; one that never comes (spring) is moved
/// on by the length of the gap.
pub fn parse_local_time(text: &str, zone: &TimeZone, fold: Fold) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Some(zoned) = parse_zoned(text) {
        return zoned;
    }
    if let Some((Ok(number), unit_ns)) = instant_parts(text) {
        return bounded(i128::from(number) * i128::from(unit_ns));
    }
    let local: civil::DateTime = text.parse().map_err(|_| {
        format!(
            "{:?} is no time: write 2026-03-01T10:00:00Z, or 2026-03-01T10:00:00 for local time",
            crate::text::shortened(text)
        )
    })?;
    let ambiguous = zone.to_ambiguous_timestamp(local);
    let instant = match (ambiguous.offset(), fold) {
        (AmbiguousOffset::Fold { .. }, Fold::Later) => ambiguous.later(),
        _ => ambiguous.compatible(),
    };
    bounded(instant.map_err(|error| error.to_string())?.as_nanosecond())
}

/// Length of a bucket: `90s`, `15m`, `1d`, `1w`, `1mo`, `1q`, `1y`.
pub fn parse_every(text: &str) -> Result<Every, String> {
    let invalid = || {
        format!(
            "{:?} is no length of a bucket: write a whole number and a unit (ns, us, ms, s, m, h, d, w, mo, q, y), as in 15m",
            crate::text::shortened(text)
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let calendar = |factor: u32, every: fn(u32) -> Every| {
        let number = number.parse::<u32>().ok().and_then(|number| number.checked_mul(factor));
        number.filter(|number| *number > 0).map(every).ok_or_else(invalid)
    };
    match unit {
        "d" => calendar(1, Every::Days),
        "w" => calendar(1, Every::Weeks),
        "mo" => calendar(1, Every::Months),
        "q" => calendar(3, Every::Months),
        "y" => calendar(12, Every::Months),
        _ => parse_span(text).map(|ns| Every::Nanos(ns.unsigned_abs())).map_err(|_| invalid()),
    }
}

/// Nanoseconds of a span that may be negative: `6h`, `-15m`.
pub fn parse_signed_span(text: &str) -> Result<i64, String> {
    match text.strip_prefix('-') {
        Some(span) => parse_span(span).map(|ns| -ns),
        None => parse_span(text),
    }
}

/// Nanoseconds of a positive span: `10s`, `15m`, `1d`.
pub fn parse_span(text: &str) -> Result<i64, String> {
    let invalid = || {
        format!(
            "{:?} is no span: write a whole number and a unit (ns, us, ms, s, m, h, d, w), as in 15m",
            crate::text::shortened(text)
        )
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit_ns: i64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => Timestamp::DAY_NS,
        "w" => 7 * Timestamp::DAY_NS,
        _ => return Err(invalid()),
    };
    let number: i64 = number.parse().map_err(|_| invalid())?;
    number.checked_mul(unit_ns).filter(|span| *span > 0).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp(1_772_359_200_000_000_000); // 2026-03-01T10:00:00Z

    #[test]
    fn every_form_of_a_query_time() {
        let parse = |text: &str| parse_query_time(text, NOW).map(|t| t.0);
        for text in [
            "now",
            "now()",
            "2026-03-01T10:00:00Z",
            "2026-03-01T11:00:00+01:00",
            "2026-03-01T11:00:00 01:00",
            "1772359200s",
            "1772359200000ms",
            "1772359200000000us",
            "1772359200000000000ns",
        ] {
            assert_eq!(parse(text), Ok(NOW.0), "{text}");
        }
        assert_eq!(parse("-24h"), Ok(NOW.0 - Timestamp::DAY_NS));
        assert_eq!(parse("now-15m"), Ok(NOW.0 - 900_000_000_000));
        assert_eq!(parse("-5s"), Ok(NOW.0 - 5_000_000_000));
        assert_eq!(parse("-1772359200000ms"), Ok(-NOW.0));
        assert_eq!(parse("2026-03-01T10:00:00.25Z"), Ok(NOW.0 + 250_000_000));
        for text in
            ["", "2026-03-01", "2026-03-01T10:00:00", "1772359200", "yesterday", "s", "-", "1.5s", "+5m"]
        {
            assert!(parse(text).unwrap_err().contains("is no time"), "{text}");
        }
        for text in ["3000-01-01T00:00:00Z", "99999999999s"] {
            assert!(parse(text).unwrap_err().contains("outside the years"), "{text}");
        }
    }

    #[test]
    fn local_times_follow_the_zone_through_both_changes_of_the_clock() {
        let zone = TimeZone::get("Europe/Warsaw").unwrap();
        let at = |text: &str, fold| parse_local_time(text, &zone, fold).map(|t| rfc3339(t.0));
        let ok = |text: &str| Ok(text.to_owned());
        assert_eq!(at("2026-03-01T11:00:00", Fold::Earlier), ok("2026-03-01T10:00:00Z"));
        assert_eq!(at("2026-03-01 11:00:00.5", Fold::Earlier), ok("2026-03-01T10:00:00.5Z"));
        assert_eq!(at("2026-03-01", Fold::Later), ok("2026-02-28T23:00:00Z"));
        assert_eq!(at("2026-03-01T11:00:00+02:00", Fold::Earlier), ok("2026-03-01T09:00:00Z"));
        // 25 October 2026: 02:30 comes twice.
        assert_eq!(at("2026-10-25T02:30:00", Fold::Earlier), ok("2026-10-25T00:30:00Z"));
        assert_eq!(at("2026-10-25T02:30:00", Fold::Later), ok("2026-10-25T01:30:00Z"));
        // 29 March 2026: 02:30 never comes and counts as 03:30.
        assert_eq!(at("2026-03-29T02:30:00", Fold::Earlier), ok("2026-03-29T01:30:00Z"));
        assert_eq!(at("2026-03-29T02:30:00", Fold::Later), ok("2026-03-29T01:30:00Z"));
        assert!(at("soon", Fold::Earlier).is_err());
    }

    #[test]
    fn spans() {
        assert_eq!(parse_span("10s"), Ok(10_000_000_000));
        assert_eq!(parse_span("1d"), Ok(Timestamp::DAY_NS));
        for text in ["", "0s", "s", "10", "-5m", "1.5h", "10 s", "99999999w", "1y"] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn lengths_of_buckets() {
        for (text, every) in [
            ("90s", Every::Nanos(90_000_000_000)),
            ("15m", Every::Nanos(900_000_000_000)),
            ("2d", Every::Days(2)),
            ("1w", Every::Weeks(1)),
            ("1mo", Every::Months(1)),
            ("2q", Every::Months(6)),
            ("1y", Every::Months(12)),
        ] {
            assert_eq!(parse_every(text), Ok(every));
        }
        for text in ["", "1", "mo", "0d", "-1h", "1M", "9999999999y", "1.5h", "quarter"] {
            assert!(parse_every(text).unwrap_err().contains("no length of a bucket"), "{text}");
        }
        assert_eq!(
            (parse_signed_span("-15m"), parse_signed_span("6h")),
            (Ok(-900_000_000_000), Ok(21_600_000_000_000))
        );
        assert!(parse_signed_span("--1h").is_err());
    }

    #[test]
    fn local_times_carry_their_offset() {
        let in_zone = |text: &str, zone: &str| {
            let ns = parse_query_time(text, NOW).unwrap().0;
            let mut out = Vec::new();
            write_rfc3339_in(&mut out, ns, &Zone::named(zone).unwrap());
            String::from_utf8(out).unwrap()
        };
        assert_eq!(in_zone("2026-03-01T10:00:00Z", "UTC"), "2026-03-01T10:00:00Z");
        assert_eq!(in_zone("2026-07-01T10:00:00.5Z", "Europe/Warsaw"), "2026-07-01T12:00:00.5+02:00");
        assert_eq!(in_zone("2026-03-01T00:00:00Z", "America/St_Johns"), "2026-02-28T20:30:00-03:30");
        // Warsaw's own noon was 1:24:00 before Greenwich's, Amsterdam's 0:19:32.
        assert_eq!(in_zone("1900-01-01T00:00:00Z", "Europe/Warsaw"), "1900-01-01T01:24:00+01:24");
    }

    proptest! {
        #[test]
        fn local_times_read_back(ns in any::<i64>(), zone in prop::sample::select(Zone::names())) {
            let ns = ns.clamp(Timestamp::MIN.0, Timestamp::MAX.0);
            let mut out = Vec::new();
            write_rfc3339_in(&mut out, ns, &Zone::named(&zone).unwrap());
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond(), i128::from(ns), "{}", text);
        }

        #[test]
        fn written_times_read_back(ns in Timestamp::MIN.0..=Timestamp::MAX.0) {
            let text = rfc3339(ns);
            prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap().as_nanosecond(), i128::from(ns), "{}", text);
            prop_assert_eq!(parse_query_time(&text, NOW), Ok(Timestamp(ns)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_query_time(&text, NOW);
            let _ = parse_local_time(&text, &TimeZone::UTC, Fold::Earlier);
            let _ = parse_span(&text);
        }
    }
}
