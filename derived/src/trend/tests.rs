//! The year before, by the clock.

use super::*;

#[test]
fn a_year_before_is_found_by_the_calendar() {
    let warsaw = Zone::named("Europe/Warsaw").unwrap();
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
    let found = |start: &str, end: &str| year_before(&(at(start)..at(end)), &warsaw);
    // March, whose clock goes forward on another day each year.
    assert_eq!(
        found("2026-02-28T23:00:00Z", "2026-03-31T22:00:00Z"),
        Some(at("2025-02-28T23:00:00Z")..at("2025-03-31T22:00:00Z"))
    );
    assert_eq!(
        found("2026-03-29T12:00:00Z", "2026-03-29T13:00:00Z"),
        Some(at("2025-03-29T13:00:00Z")..at("2025-03-29T14:00:00Z"))
    );
    // A leap day is compared with the day before it.
    assert_eq!(
        found("2024-02-28T23:00:00Z", "2024-02-29T12:00:00Z"),
        Some(at("2023-02-27T23:00:00Z")..at("2023-02-28T12:00:00Z"))
    );
    assert_eq!(year_before(&(i64::MIN..0), &warsaw), None);
    // The day before it as a whole, and a whole leap day.
    for day in ["2024-02-27T23:00:00Z", "2024-02-28T23:00:00Z"] {
        let end = at(day) + Timestamp::DAY_NS;
        let before = at("2023-02-27T23:00:00Z")..at("2023-02-28T23:00:00Z");
        assert_eq!(year_before(&(at(day)..end), &warsaw), Some(before), "{day}");
    }
}

#[test]
fn a_year_before_goes_by_what_the_clock_showed() {
    let warsaw = Zone::named("Europe/Warsaw").unwrap();
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64;
    for (start, end, before) in [
        // From two to three the clock showed nothing on 30 March 2025; what is around it counts.
        ("2026-03-30T00:00:00Z", "2026-03-30T01:00:00Z", ("2025-03-30T01:00:00Z", "2025-03-30T01:00:00Z")),
        ("2026-03-29T23:00:00Z", "2026-03-30T02:00:00Z", ("2025-03-30T00:00:00Z", "2025-03-30T02:00:00Z")),
        // From two to three comes twice on 25 October 2026, and once the year before.
        ("2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", ("2025-10-25T00:00:00Z", "2025-10-25T01:00:00Z")),
        ("2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z", ("2025-10-25T00:00:00Z", "2025-10-25T01:00:00Z")),
        // The other way round.
        ("2026-10-26T01:00:00Z", "2026-10-26T02:00:00Z", ("2025-10-26T00:00:00Z", "2025-10-26T02:00:00Z")),
        // From half past two to a quarter past, an hour later.
        ("2026-10-25T00:30:00Z", "2026-10-25T01:15:00Z", ("2025-10-25T00:30:00Z", "2025-10-25T00:15:00Z")),
    ] {
        let found = year_before(&(at(start)..at(end)), &warsaw);
        assert_eq!(found, Some(at(before.0)..at(before.1)), "{start} {end}");
    }
}

#[test]
fn what_is_lost_beside_a_range_is_none_of_it() {
    let found: Vec<Range<i64>> = within(vec![0..10, 5..15, 12..18, 19..40, 20..30], &(10..20)).collect();
    assert_eq!(found, [10..15, 12..18, 19..20]);
}
