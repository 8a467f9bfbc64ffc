use super::*;
use proptest::prelude::*;
use std::time::Duration;

const H: i64 = 3_600_000_000_000;
const ALL: Range<i64> = i64::MIN + 1..i64::MAX;

fn buckets(every: Every, zone: &str, offset_ns: i64) -> Buckets {
    let zone = Zone::named(zone).unwrap();
    let asked = Aggregate { every: Some(every), zone, offset_ns, ..Aggregate::default() };
    Buckets::new(&asked, ALL).unwrap()
}

fn utc(every: Duration) -> Buckets {
    Buckets::new(&Aggregate { every: Some(every.into()), ..Aggregate::default() }, ALL).unwrap()
}

/// An instant in UTC, or by a local clock with its offset.
fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as i64
}

/// Checks the borders of all buckets that meet `borders[0]..=borders[last]`.
fn check(buckets: &Buckets, borders: &[&str]) {
    let mut time = at(borders[0]);
    for pair in borders.windows(2) {
        let found = buckets.of(time);
        let text = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).unwrap().to_string();
        assert_eq!(
            found,
            at(pair[0])..at(pair[1]),
            "{}..{} for {pair:?}",
            text(found.start),
            text(found.end)
        );
        assert_eq!(buckets.of(found.end - 1), found);
        time = found.end;
    }
}

#[test]
fn buckets_of_nanoseconds_begin_at_their_multiples_before_the_epoch_too() {
    let hour = utc(Duration::from_secs(3600));
    let check = |time: i64, start: i64| assert_eq!(hour.of(time), start..start + H, "bucket of {time}");
    check(0, 0);
    check(H - 1, 0);
    check(H, H);
    check(-1, -H);
    check(-H, -H);
    check(-H - 1, -2 * H);
}

#[test]
fn the_ends_of_time_have_buckets() {
    let day = utc(Duration::from_secs(86_400));
    assert_eq!(day.of(i64::MIN + 1).start, i64::MIN);
    assert_eq!(day.of(i64::MAX - 1).end, i64::MAX);
    let whole = Buckets::new(&Aggregate::default(), 7..9).unwrap();
    assert_eq!(whole.of(8), 7..9);
    assert_eq!(whole.stretch(&[7, 8], 1), (7, 2));
    for every in
        [Every::Nanos(0), Every::Nanos(u64::MAX), Every::Days(0), Every::Weeks(16_000), Every::Months(9999)]
    {
        assert_eq!(
            Buckets::new(&Aggregate { every: Some(every), ..Aggregate::default() }, ALL),
            None,
            "{every:?}"
        );
    }
    // Local time may lie beyond all instants.
    let shifted_hour = buckets(Every::Nanos(H as u64), "UTC", -H / 2);
    assert_eq!(
        shifted_hour.of(i64::MAX - 1).start,
        (i64::MAX / H) * H + if i64::MAX % H < H / 2 { -H / 2 } else { H / 2 }
    );
    let longest = Aggregate {
        every: Some(Every::Nanos(i64::MAX as u64)),
        offset_ns: i64::MIN + 2,
        ..Aggregate::default()
    };
    assert!(Buckets::new(&longest, ALL).unwrap().of(0).contains(&0));
    let shifted = |offset_ns| Aggregate { every: Some(Every::Nanos(10)), offset_ns, ..Aggregate::default() };
    assert_eq!(Buckets::new(&shifted(-10), ALL), None);
    assert!(Buckets::new(&shifted(-9), ALL).is_some());
}

#[test]
fn days_of_23_and_25_hours_have_so_many_hours() {
    let (hour, day) =
        (buckets(Every::Nanos(H as u64), "Europe/Warsaw", 0), buckets(Every::Days(1), "Europe/Warsaw", 0));
    let hours_of = |date: &str| {
        let day = day.of(at(date));
        let mut starts = vec![day.start];
        while hour.of(*starts.last().unwrap()).end < day.end {
            let next = hour.of(*starts.last().unwrap());
            assert_eq!(next.end - next.start, H);
            starts.push(next.end);
        }
        starts.len()
    };
    assert_eq!(hours_of("2026-03-29T12:00:00+02:00"), 23);
    assert_eq!(hours_of("2026-10-25T12:00:00+01:00"), 25);
    assert_eq!(hours_of("2026-07-01T12:00:00+02:00"), 24);
}

#[test]
fn weeks_begin_on_monday_and_months_quarters_and_years_with_their_first_day() {
    let of = |every, zone: &str, borders: &[&str]| check(&buckets(every, zone, 0), borders);
    of(Every::Weeks(1), "UTC", &["1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z", "1970-01-12T00:00:00Z"]);
    of(Every::Months(1), "UTC", &["2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"]);
    of(
        Every::Months(3),
        "Europe/Berlin",
        &["2026-01-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00", "2026-07-01T00:00:00+02:00"],
    );
    of(Every::Months(12), "UTC", &["1899-01-01T00:00:00Z", "1900-01-01T00:00:00Z", "1901-01-01T00:00:00Z"]);
}

#[test]
fn an_offset_moves_borders_by_the_local_clock() {
    let day = buckets(Every::Days(1), "Europe/Warsaw", 6 * H);
    check(&day, &["2026-03-28T06:00:00+01:00", "2026-03-29T06:00:00+02:00", "2026-03-30T06:00:00+02:00"]);
    let hour = buckets(Every::Nanos(H as u64), "Asia/Kolkata", -H / 4);
    check(&hour, &["2026-01-01T00:45:00+05:30", "2026-01-01T01:45:00+05:30"]);
}

#[test]
fn a_clock_set_by_half_an_hour_and_a_midnight_that_comes_twice_or_never() {
    let hours = |zone: &str, borders: &[&str]| check(&buckets(Every::Nanos(H as u64), zone, 0), borders);
    let days = |zone: &str, borders: &[&str]| check(&buckets(Every::Days(1), zone, 0), borders);
    // Lord Howe goes back from 02:00 to 01:30: the clock does not show 01:00 again, so that hour takes an hour and a half.
    hours(
        "Australia/Lord_Howe",
        &["2026-04-05T00:00:00+11:00", "2026-04-05T01:00:00+11:00", "2026-04-05T02:00:00+10:30"],
    );
    // And forward from 02:00 to 02:30: the hour that begins there has half an hour.
    hours(
        "Australia/Lord_Howe",
        &["2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"],
    );
    // Havana goes back from 01:00 to 00:00: two hours are called so, one day begins.
    hours(
        "America/Havana",
        &["2024-11-03T00:00:00-04:00", "2024-11-03T00:00:00-05:00", "2024-11-03T01:00:00-05:00"],
    );
    days("America/Havana", &["2024-11-03T00:00:00-04:00", "2024-11-04T00:00:00-05:00"]);
    // Sao Paulo went forward from 00:00 to 01:00: the day begins at 01:00.
    days(
        "America/Sao_Paulo",
        &["2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"],
    );
    // Samoa left out 30 December 2011.
    days(
        "Pacific/Apia",
        &["2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"],
    );
    // St. John's went back from 00:01 to 23:01: Sunday had begun, and does not begin again.
    days(
        "America/St_Johns",
        &["2010-11-06T00:00:00-02:30", "2010-11-07T00:00:00-02:30", "2010-11-08T00:00:00-03:30"],
    );
}

/// Cases that other engines got wrong in public; the names are those of the reports.
mod reported {
    use super::*;

    #[test]
    fn influxdb_8607_two_hours_at_the_change() {
        // "I expect the interval starting at 12:00 AM to go to 3:00 AM and the 2 AM interval to go from 3 AM to 4 AM."
        let two_hours = buckets(Every::Nanos(2 * H as u64), "America/Los_Angeles", 0);
        check(
            &two_hours,
            &["2017-03-12T00:00:00-08:00", "2017-03-12T03:00:00-07:00", "2017-03-12T04:00:00-07:00"],
        );
    }

    #[test]
    fn influxdb_9469_one_point_for_every_week() {
        let week = buckets(Every::Weeks(1), "Europe/Berlin", 0);
        check(
            &week,
            &["2013-03-25T00:00:00+01:00", "2013-04-01T00:00:00+02:00", "2013-04-08T00:00:00+02:00"],
        );
    }

    #[test]
    fn influxdb_25303_two_days_across_both_changes() {
        let two_days = buckets(Every::Days(2), "Europe/Copenhagen", 0);
        let mut time = at("2021-01-24T00:00:00+01:00");
        while time < at("2022-07-01T00:00:00+02:00") {
            let bucket = two_days.of(time);
            let hours = (bucket.end - bucket.start) / H;
            assert!((47..=49).contains(&hours), "{hours} hours");
            assert_eq!(two_days.of(bucket.end).start, bucket.end);
            time = bucket.end;
        }
    }

    #[test]
    fn flux_4312_zones_that_left_summer_time_for_good() {
        for zone in ["Europe/Moscow", "Asia/Kolkata", "Asia/Tokyo"] {
            let day = buckets(Every::Days(1), zone, 0).of(at("2021-12-01T12:00:00Z"));
            assert_eq!(day.end - day.start, 24 * H, "{zone}");
        }
    }

    #[test]
    fn flux_4718_and_victoriametrics_8614_days_begin_at_local_midnight() {
        check(
            &buckets(Every::Days(1), "Europe/Ljubljana", 0),
            &["2022-05-08T00:00:00+02:00", "2022-05-09T00:00:00+02:00"],
        );
    }

    #[test]
    fn questdb_2384_the_first_year_is_aligned_as_the_others() {
        let year = buckets(Every::Months(12), "Europe/Berlin", 0);
        check(
            &year,
            &["2014-12-31T23:00:00Z", "2015-12-31T23:00:00Z", "2016-12-31T23:00:00Z", "2017-12-31T23:00:00Z"],
        );
    }

    #[test]
    fn questdb_4678_a_day_of_the_change_after_a_day_without_data() {
        let day = buckets(Every::Days(1), "America/New_York", 0);
        assert_eq!(
            day.of(at("2024-03-10T08:00:00Z")),
            at("2024-03-10T05:00:00Z")..at("2024-03-11T04:00:00Z")
        );
    }

    #[test]
    fn timescaledb_7287_thirty_days_in_milliseconds() {
        // 2 592 000 000 ms are 720 hours by the clock, not 30 days; both go through the change.
        let every = Every::Nanos(720 * H as u64);
        let bucket = buckets(every, "America/New_York", 0).of(at("2024-03-10T06:59:59Z"));
        assert_eq!(bucket.end - bucket.start, 719 * H);
    }

    #[test]
    fn timescaledb_8851_a_day_of_25_hours_is_one() {
        let day = buckets(Every::Days(1), "Europe/Paris", 0);
        check(&day, &["2025-10-26T00:00:00+02:00", "2025-10-27T00:00:00+01:00"]);
        let day = buckets(Every::Nanos(24 * H as u64), "Europe/Paris", 0);
        check(&day, &["2025-10-26T00:00:00+02:00", "2025-10-27T00:00:00+01:00"]);
    }

    #[test]
    fn timescaledb_8998_both_hours_of_the_end_of_summer_time() {
        let hour = buckets(Every::Nanos(H as u64), "Australia/Sydney", 0);
        check(
            &hour,
            &[
                "2024-04-07T01:00:00+11:00",
                "2024-04-07T02:00:00+11:00",
                "2024-04-07T02:00:00+10:00",
                "2024-04-07T03:00:00+10:00",
            ],
        );
    }

    #[test]
    fn greptimedb_range_by_the_offset_of_1970() {
        // London had +01:00 all through 1970; its winters have not.
        check(
            &buckets(Every::Days(1), "Europe/London", 0),
            &["2026-01-15T00:00:00Z", "2026-01-16T00:00:00Z"],
        );
    }
}

fn zones() -> impl Strategy<Value = Zone> {
    const NAMES: [&str; 6] = [
        "UTC",
        "Europe/Warsaw",
        "Australia/Lord_Howe",
        "America/Havana",
        "Pacific/Apia",
        "Africa/Casablanca",
    ];
    prop::sample::select(&NAMES[..]).prop_map(|name| Zone::named(name).unwrap())
}

fn everies() -> impl Strategy<Value = Every> {
    prop_oneof![
        (1..20_000_000_000_000_u64).prop_map(Every::Nanos),
        any::<u64>().prop_map(|ns| Every::Nanos(ns >> 1 | 1)),
        (1..400_u32).prop_map(Every::Days),
        (1..60_u32).prop_map(Every::Weeks),
        (1..40_u32).prop_map(Every::Months),
    ]
}

proptest! {
    #[test]
    fn every_instant_is_in_one_bucket(
        time in prop_oneof![any::<i64>(), 0..2_000_000_000_000_000_000_i64], every in everies(), zone in zones(), hours in -30..30_i64,
    ) {
        let time = time.clamp(i64::MIN + 1, i64::MAX - 1);
        let offset_ns = hours * H % Rule::new(Some(every), &ALL).unwrap().shortest();
        let asked = Aggregate { every: Some(every), zone, offset_ns, ..Aggregate::default() };
        let buckets = Buckets::new(&asked, ALL).unwrap();
        let bucket = buckets.of(time);
        prop_assert!(bucket.start <= time && time < bucket.end, "{:?}", bucket);
        prop_assert_eq!(buckets.of(bucket.start.max(i64::MIN + 1)), bucket.clone());
        prop_assert_eq!(buckets.of(bucket.end - 1), bucket.clone());
        if bucket.end < i64::MAX {
            prop_assert_eq!(buckets.of(bucket.end).start, bucket.end);
        }
        // What is known of a range alone is enough for it.
        let range = time..time.saturating_add(40 * Timestamp::DAY_NS);
        prop_assert_eq!(Buckets::new(&asked, range).unwrap().of(time), bucket);
    }

    #[test]
    fn a_stretch_is_all_of_one_bucket(
        mut times in prop::collection::vec(-1000_i64..1000, 1..200), every in 1_u64..300, from in 0_usize..200,
    ) {
        times.sort_unstable();
        times.dedup();
        let from = from.min(times.len() - 1);
        let (start, end) = utc(Duration::from_nanos(every)).stretch(&times, from);
        let bucket = |time: &i64| time.div_euclid(every as i64) * every as i64;
        prop_assert_eq!(start, bucket(&times[from]));
        prop_assert!(times[from..end].iter().all(|t| bucket(t) == start));
        prop_assert!(end == times.len() || bucket(&times[end]) != start);
    }

    #[test]
    fn months_are_those_of_the_calendar(day in -300_000_i64..300_000) {
        let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(day));
        let month = (i64::from(date.year()) - 1970) * 12 + i64::from(date.month()) - 1;
        prop_assert_eq!(month_of(day), month);
        prop_assert_eq!(first_day_of(month), day - i64::from(date.day()) + 1);
    }
}
