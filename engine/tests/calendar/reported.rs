//! Cases that other engines got wrong in public, through a whole query: points in, filled buckets out. Cases that are about
//! borders alone stand beside the code of the buckets.

use super::*;
use wattlog_engine::query::Fill;

fn at(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("an instant").as_nanosecond() as i64
}

/// Buckets of points (time, value) by the clock of a zone, with `null` in empty ones: start in UTC, and sum.
fn ask_filled(
    points: &[(i64, f64)],
    every: Every,
    zone: &str,
    range: (&str, &str),
) -> Vec<(String, Option<f64>)> {
    ask_with(Fill::Null, points, every, zone, range)
}

fn ask_with(
    fill: Fill,
    points: &[(i64, f64)],
    every: Every,
    zone: &str,
    range: (&str, &str),
) -> Vec<(String, Option<f64>)> {
    let options = Options { ballast_bytes: 0, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Timestamp(0)));
    let engine = Engine::open(Arc::new(SimDisk::new(1)), options, clock, [7; 16]).unwrap();
    let mut batch = WriteBatch::new("d", None);
    let slot = batch.series("m", &TagSet::default());
    for (line, (time, value)) in points.iter().enumerate() {
        batch.row(slot, Timestamp(*time), line as u32).float("v", *value);
    }
    engine.write(batch).unwrap();
    engine.seal().unwrap();
    let functions = vec![Function::Sum];
    let zone = Zone::named(zone).unwrap();
    let asked = Aggregate { functions, every: Some(every), zone, fill, ..Aggregate::default() };
    let result = ask(&engine, asked, Timestamp(at(range.0)), Timestamp(at(range.1)));
    let series = &result.series[0];
    let (ResultValues::Time(times), ResultValues::Float(sums)) =
        (&series.columns[0].values, &series.columns[1].values)
    else {
        panic!("{result:?}")
    };
    let text = |ns: i64| jiff::Timestamp::from_nanosecond(ns.into()).unwrap().to_string();
    times.iter().zip(sums).map(|(time, sum)| (text(time.unwrap()), *sum)).collect()
}

fn check_filled(found: &[(String, Option<f64>)], expected: &[(&str, Option<f64>)]) {
    let found: Vec<(&str, Option<f64>)> = found.iter().map(|(time, sum)| (time.as_str(), *sum)).collect();
    assert_eq!(found, expected);
}

#[test]
fn questdb_6755_months_filled_with_null_keep_their_starts() {
    // Reported: rows at 22:00 and at 23:00 for one month, and values moved into the wrong one.
    let points = [(at("2025-09-30T00:00:00Z"), 100.0), (at("2025-10-30T00:00:00Z"), 100.0)];
    let range = ("2025-08-31T22:00:00Z", "2025-11-30T23:00:00Z");
    check_filled(
        &ask_filled(&points, Every::Months(1), "Europe/Berlin", range),
        &[
            ("2025-08-31T22:00:00Z", Some(100.0)),
            ("2025-09-30T22:00:00Z", Some(100.0)),
            ("2025-10-31T23:00:00Z", None),
        ],
    );
}

#[test]
fn questdb_5776_weeks_of_a_zone_begin_on_monday() {
    let points = [(at("2025-02-01T10:00:00Z"), 1.0), (at("2025-02-03T10:00:00Z"), 3.0)];
    let range = ("2025-02-01T00:00:00Z", "2025-02-12T00:00:00Z");
    check_filled(
        &ask_filled(&points, Every::Weeks(1), "Europe/Amsterdam", range),
        &[
            ("2025-01-26T23:00:00Z", Some(1.0)),
            ("2025-02-02T23:00:00Z", Some(3.0)),
            ("2025-02-09T23:00:00Z", None),
        ],
    );
}

#[test]
fn timescaledb_5334_each_day_stands_once_whatever_the_zone_of_the_machine() {
    let midnights = ["2023-11-04T23:00:00Z", "2023-11-05T23:00:00Z", "2023-11-06T23:00:00Z"];
    let points = midnights.map(|time| (at(time), 2.0));
    let range = ("2023-11-04T06:00:00Z", "2023-11-08T07:00:00Z");
    check_filled(
        &ask_filled(&points, Every::Days(1), "America/Denver", range),
        &[
            ("2023-11-04T06:00:00Z", Some(2.0)),
            ("2023-11-05T06:00:00Z", Some(2.0)),
            ("2023-11-06T07:00:00Z", Some(2.0)),
            ("2023-11-07T07:00:00Z", None),
        ],
    );
}

#[test]
fn timescaledb_6344_filled_months_follow_the_clock_into_winter_and_end_with_the_range() {
    let points = [(at("2023-05-10T00:00:00Z"), 1.0), (at("2023-11-10T00:00:00Z"), 2.0)];
    let range = ("2023-05-01T05:00:00Z", "2023-11-20T05:00:00Z");
    let months = ask_filled(&points, Every::Months(1), "Europe/Berlin", range);
    let starts: Vec<&str> = months.iter().map(|(time, _)| time.as_str()).collect();
    assert_eq!(
        starts,
        [
            "2023-04-30T22:00:00Z",
            "2023-05-31T22:00:00Z",
            "2023-06-30T22:00:00Z",
            "2023-07-31T22:00:00Z",
            "2023-08-31T22:00:00Z",
            "2023-09-30T22:00:00Z",
            "2023-10-31T23:00:00Z",
        ]
    );
    assert_eq!((months[0].1, months[6].1), (Some(1.0), Some(2.0)));
    assert!(months[1..6].iter().all(|(_, sum)| sum.is_none()));
}

#[test]
fn timescaledb_6788_a_march_of_hours_has_743_and_every_value_is_in_its_own() {
    // Reported: an empty hour beside one that holds two, on the day of the change in Paris.
    let (start, end) = (at("2024-02-29T23:00:00Z"), at("2024-03-31T22:00:00Z"));
    let points: Vec<(i64, f64)> = (start..end).step_by(HOUR as usize).map(|time| (time, 10.0)).collect();
    let range = ("2024-02-29T23:00:00Z", "2024-03-31T22:00:00Z");
    let hours = ask_filled(&points, Every::Nanos(HOUR as u64), "Europe/Paris", range);
    assert_eq!(hours.len(), 31 * 24 - 1);
    assert!(hours.iter().all(|(_, sum)| *sum == Some(10.0)));
}

#[test]
fn timescaledb_toolkit_746_filled_days_follow_the_clock_into_summer() {
    let points = [(at("2022-03-24T23:00:00Z"), 1.0), (at("2022-03-29T22:00:00Z"), 1.0)];
    let range = ("2022-03-24T23:00:00Z", "2022-03-30T22:00:00Z");
    check_filled(
        &ask_filled(&points, Every::Days(1), "Europe/Brussels", range),
        &[
            ("2022-03-24T23:00:00Z", Some(1.0)),
            ("2022-03-25T23:00:00Z", None),
            ("2022-03-26T23:00:00Z", None),
            ("2022-03-27T22:00:00Z", None),
            ("2022-03-28T22:00:00Z", None),
            ("2022-03-29T22:00:00Z", Some(1.0)),
        ],
    );
}

#[test]
fn timescaledb_1645_a_bucket_begins_where_the_day_does_and_holds_the_range_alone() {
    let times =
        ["2020-01-12T09:07:14Z", "2020-01-13T23:18:01Z", "2020-01-13T23:25:00Z", "2020-01-14T00:06:21Z"];
    let points = times.map(|time| (at(time), 1.0));
    let range = ("2020-01-13T23:00:00Z", "2020-01-14T00:59:59Z");
    check_filled(
        &ask_filled(&points, Every::Days(1), "America/Los_Angeles", range),
        &[("2020-01-13T08:00:00Z", Some(3.0))],
    );
}

#[test]
fn victoriametrics_5392_a_year_of_days_keeps_local_midnights_however_many_there_are() {
    let midday = at("2023-07-01T10:00:00Z");
    let range = ("2022-12-31T23:00:00Z", "2023-12-31T23:00:00Z");
    let days = ask_filled(&[(midday, 1.0)], Every::Days(1), "Europe/Paris", range);
    assert_eq!((days.len(), days[0].0.as_str()), (365, "2022-12-31T23:00:00Z"));
    assert_eq!(days[181], ("2023-06-30T22:00:00Z".to_owned(), Some(1.0)));
}

#[test]
fn questdb_4544_filled_days_of_a_zone_go_on_at_midnight_after_the_change() {
    // Reported: 23:00 instead of 22:00 for the days between, and no value in the first.
    let points = [(at("2024-03-30T23:00:00Z"), 1.0), (at("2024-04-02T22:00:00Z"), 3.0)];
    let range = ("2024-03-30T23:00:00Z", "2024-04-02T22:00:01Z");
    check_filled(
        &ask_filled(&points, Every::Days(1), "Europe/Brussels", range),
        &[
            ("2024-03-30T23:00:00Z", Some(1.0)),
            ("2024-03-31T22:00:00Z", None),
            ("2024-04-01T22:00:00Z", None),
            ("2024-04-02T22:00:00Z", Some(3.0)),
        ],
    );
}

#[test]
fn questdb_6858_an_hour_that_comes_twice_is_two_buckets() {
    // Reported: one row of 18 for both. And half hours, which tell 02:00, 02:30, 02:00, 02:30, 03:00 by the local clock.
    let points = [
        (at("2021-10-31T00:10:00Z"), 5.0),
        (at("2021-10-31T00:40:00Z"), 3.0),
        (at("2021-10-31T01:10:00Z"), 4.0),
        (at("2021-10-31T01:40:00Z"), 6.0),
        (at("2021-10-31T02:10:00Z"), 7.0),
    ];
    let range = ("2021-10-31T00:00:00Z", "2021-10-31T02:30:00Z");
    check_filled(
        &ask_filled(&points, Every::Nanos(HOUR as u64), "Europe/Berlin", range),
        &[
            ("2021-10-31T00:00:00Z", Some(8.0)),
            ("2021-10-31T01:00:00Z", Some(10.0)),
            ("2021-10-31T02:00:00Z", Some(7.0)),
        ],
    );
    check_filled(
        &ask_filled(&points, Every::Nanos(HOUR as u64 / 2), "Europe/Berlin", range),
        &[
            ("2021-10-31T00:00:00Z", Some(5.0)),
            ("2021-10-31T00:30:00Z", Some(3.0)),
            ("2021-10-31T01:00:00Z", Some(4.0)),
            ("2021-10-31T01:30:00Z", Some(6.0)),
            ("2021-10-31T02:00:00Z", Some(7.0)),
        ],
    );
}

#[test]
fn questdb_7439_filling_makes_no_bucket_at_the_end_of_summer_time() {
    // Reported: one more at 2013-11-04T04:00:00Z, with the value of the one before.
    let start = at("2013-11-01T04:00:00Z");
    let hours: Vec<(i64, f64)> = (0..120).map(|hour| (start + hour * HOUR, 1.0)).collect();
    let range = ("2013-11-01T04:00:00Z", "2013-11-06T04:00:00Z");
    let expected = |fourth| {
        [
            ("2013-11-01T04:00:00Z", Some(24.0)),
            ("2013-11-02T04:00:00Z", Some(24.0)),
            ("2013-11-03T04:00:00Z", Some(25.0)),
            ("2013-11-04T05:00:00Z", Some(fourth)),
            ("2013-11-05T05:00:00Z", Some(23.0)),
        ]
    };
    let ask =
        |points: &[(i64, f64)]| ask_with(Fill::Previous, points, Every::Days(1), "America/New_York", range);
    check_filled(&ask(&hours), &expected(24.0));
    let fourth = at("2013-11-04T05:00:00Z")..at("2013-11-05T05:00:00Z");
    let without: Vec<_> = hours.into_iter().filter(|(time, _)| !fourth.contains(time)).collect();
    check_filled(&ask(&without), &expected(25.0));
}

#[test]
fn timescaledb_6844_a_year_of_hours_of_a_zone_has_each_value_in_its_own() {
    // Reported: a drawing of a year of Stockholm that was wrong from the change of the clock on.
    let (start, end) = (at("2023-12-31T23:00:00Z"), at("2024-12-31T23:00:00Z"));
    let points: Vec<(i64, f64)> =
        (start..end).step_by(HOUR as usize).enumerate().map(|(hour, time)| (time, hour as f64)).collect();
    let range = ("2023-12-31T23:00:00Z", "2024-12-31T23:00:00Z");
    let hours = ask_filled(&points, Every::Nanos(HOUR as u64), "Europe/Stockholm", range);
    assert_eq!(hours.len(), 366 * 24);
    for (hour, (time, sum)) in hours.iter().enumerate() {
        assert_eq!((at(time), *sum), (start + hour as i64 * HOUR, Some(hour as f64)));
    }
}

#[test]
fn timescaledb_9563_filled_hours_rise_and_are_those_with_values() {
    // Reported (8844): buckets out of order where the clock changes. One value lies in the range, all else is filled.
    let starts = |every_hours: i64, range: (&str, &str)| -> Vec<String> {
        let value = [(at(range.0), 1.0)];
        let every = Every::Nanos((every_hours * HOUR) as u64);
        let filled = ask_filled(&value, every, "Europe/Berlin", range);
        filled.into_iter().map(|(time, _)| time).collect()
    };
    let (spring, autumn) =
        (("2025-03-29T23:00:00Z", "2025-03-30T22:00:00Z"), ("2025-10-25T22:00:00Z", "2025-10-26T23:00:00Z"));
    for (range, hours) in [(spring, 23), (autumn, 25)] {
        let found: Vec<i64> = starts(1, range).iter().map(|time| at(time)).collect();
        let expected: Vec<i64> = (0..hours).map(|hour| at(range.0) + hour * HOUR).collect();
        assert_eq!(found, expected);
    }
    assert_eq!(
        starts(4, spring),
        [
            "2025-03-29T23:00:00Z",
            "2025-03-30T02:00:00Z",
            "2025-03-30T06:00:00Z",
            "2025-03-30T10:00:00Z",
            "2025-03-30T14:00:00Z",
            "2025-03-30T18:00:00Z",
        ]
    );
    assert_eq!(
        starts(4, autumn),
        [
            "2025-10-25T22:00:00Z",
            "2025-10-26T03:00:00Z",
            "2025-10-26T07:00:00Z",
            "2025-10-26T11:00:00Z",
            "2025-10-26T15:00:00Z",
            "2025-10-26T19:00:00Z",
        ]
    );
}

#[test]
fn victoriametrics_1306_days_four_hours_ahead_of_utc() {
    // Reported: a group of a day is always one of UTC.
    let points = [
        (at("2021-05-17T20:00:00Z"), 1.0),
        (at("2021-05-18T19:59:59Z"), 2.0),
        (at("2021-05-18T20:00:00Z"), 4.0),
    ];
    let range = ("2021-05-17T20:00:00Z", "2021-05-19T20:00:00Z");
    check_filled(
        &ask_filled(&points, Every::Days(1), "Asia/Dubai", range),
        &[("2021-05-17T20:00:00Z", Some(3.0)), ("2021-05-18T20:00:00Z", Some(4.0))],
    );
}
