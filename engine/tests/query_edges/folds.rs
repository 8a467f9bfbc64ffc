//! Buckets: groups folded, decoded or told by statistics, in one part of time or in several.

use super::scene::{Scene, asked, at, between, rows};
use std::time::Duration;
use wattlog_engine::io::ReadMode;
use wattlog_engine::query::{Condition, Function, Literal, Operator, QueryControl, QueryRequest, Shape};
use wattlog_model::Timestamp;

on_both_read_modes! {
    a_field_that_only_some_groups_have_counts_where_it_is,
    a_group_at_the_border_of_range_and_bucket_is_told_by_statistics_only_if_it_lies_inside,
    a_page_that_cannot_be_read_costs_its_group_alone,
    a_damaged_block_beside_one_that_folds_costs_its_field_alone,
    parts_of_time_add_up_where_files_are_lost_and_rows_deleted,
    parts_of_time_reach_from_one_end_of_time_to_the_other,
}

pub(crate) fn above(field: &str, value: f64) -> Condition {
    Condition::compare(field, Operator::Greater, Literal::Float(value))
}

fn buckets(functions: &[Function], every_s: u64, fields: &[&str]) -> QueryRequest {
    asked(Shape::aggregate(functions.to_vec(), Some(Duration::from_secs(every_s))), fields)
}

fn a_field_that_only_some_groups_have_counts_where_it_is(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // Four groups: a field of decimals is in the first, missing in the second, not to be folded in the third, in the fourth.
    let value = |i: i64| if (2048..3072).contains(&i) { 1.0 / (i as f64) } else { i as f64 };
    let power = (0..4096).filter(|i| !(1024..2048).contains(i)).map(|i| (at(i), "power", value(i)));
    scene.write(power.chain((0..4096).map(|i| (at(i), "other", 1.0))));
    scene.seal();
    let found = scene
        .rows(&buckets(&[Function::Count, Function::Max, Function::First], 100, &["power", "other"]), false);
    let has = |i: &i64| !(1024..2048).contains(i);
    for (bucket, (time, values)) in (0..41).zip(&found) {
        let own: Vec<f64> = (bucket * 100..((bucket + 1) * 100).min(4096)).filter(has).map(value).collect();
        let (count, max) = (own.len() as f64, own.iter().copied().reduce(f64::max));
        let others = ((bucket + 1) * 100).min(4096) - bucket * 100;
        let expected = [Some(count), max, own.first().copied(), Some(others as f64), Some(1.0), Some(1.0)];
        assert_eq!((*time, &values[..]), (at(bucket * 100), &expected[..]));
    }
    assert_eq!(found.len(), 41);
}

fn a_group_at_the_border_of_range_and_bucket_is_told_by_statistics_only_if_it_lies_inside(
    read_mode: ReadMode,
) {
    let mut scene = Scene::new(read_mode);
    // One group from the first to the last second of a bucket.
    scene.seal_seconds(0..600, &["power"], |_| 1.0);
    let sum = |range: std::ops::Range<i64>, every| {
        let result = scene.ask(&between(range, buckets(&[Function::Sum], every, &["power"])));
        let sums: Vec<f64> = rows(&result).iter().map(|(_, values)| values[0].unwrap()).collect();
        (sums, result.stats.blocks_decoded)
    };
    assert_eq!(sum(at(0)..at(599) + 1, 600), (vec![600.0], 0));
    assert_eq!(sum(at(0) + 1..at(600), 600), (vec![599.0], 2));
    assert_eq!(sum(at(0)..at(599), 600), (vec![599.0], 2));
    assert_eq!(sum(at(0)..at(600), 300), (vec![300.0, 300.0], 2));
}

fn a_page_that_cannot_be_read_costs_its_group_alone(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let noise = |i: i64| ((i * i * 7919 + i * 104_729) as f64).sqrt().sin();
    scene.seal_seconds(0..4096, &["power"], noise);
    scene.disk.spoil_page(&scene.sealed[0], scene.block(0, "field_block", "power", 1) + 4096);
    for _ in 0..2 {
        // Different values cannot be counted without reading them.
        let found = scene.rows(&buckets(&[Function::Distinct], 86_400, &["power"]), true);
        assert_eq!(found, [(at(0), vec![Some(3.0 * 1024.0)])]);
        let found = scene.rows(&buckets(&[Function::Count], 100, &["power"]), true);
        assert_eq!(found.iter().filter_map(|(_, values)| values[0]).sum::<f64>(), 3.0 * 1024.0);
        // Statistics stand elsewhere.
        let found = scene.rows(&buckets(&[Function::Count], 86_400, &["power"]), false);
        assert_eq!(found, [(at(0), vec![Some(4096.0)])]);
    }
}

fn a_damaged_block_beside_one_that_folds_costs_its_field_alone(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..3072, &["a", "b"], |i| i as f64);
    scene.damage(0, "field_block", "\"a\"", 1);
    let found = scene.rows(&buckets(&[Function::Sum], 100, &["a", "b"]), true);
    for (bucket, (time, values)) in (0..31).zip(&found) {
        let own = || bucket * 100..((bucket + 1) * 100).min(3072);
        let left: Vec<i64> = own().filter(|i| !(1024..2048).contains(i)).collect();
        let a = (!left.is_empty()).then(|| left.iter().sum::<i64>() as f64);
        assert_eq!((*time, &values[..]), (at(bucket * 100), &[a, Some(own().sum::<i64>() as f64)][..]));
    }
    assert_eq!(found.len(), 31);
}

fn parts_of_time_add_up_where_files_are_lost_and_rows_deleted(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let rows_each = 80_000;
    for part in 0..3 {
        let rows = part * rows_each..(part + 1) * rows_each;
        scene.write(rows.map(|i| (at(i), "power", i as f64)));
        scene.seal_days();
    }
    // Rewrites what two parts have, and is lost; deletes begin and end at borders of hours and of groups.
    scene.seal_seconds(100_000..101_000, &["power"], |_| -1.0);
    scene.delete(at(36_000)..at(43_200), None);
    scene.delete(at(1024)..at(2048), None);
    scene.delete(at(200_000)..at(200_001), Some(&["power"]));
    scene.write([(at(40_000), "power", 5.0), (at(100_500), "power", 6.0)]);
    // The last instant of each hour, wherever the parts are cut.
    let late = || (1..66).map(|hour| at(hour * 3600) - 1);
    scene.write(late().map(|time| (time, "power", 0.5)));
    scene.lose(scene.sealed.len() - 1);
    let value = |i: i64| match i {
        40_000 => Some(5.0),
        100_500 => Some(6.0),
        1024..2048 | 36_000..43_200 | 100_000..101_000 | 200_000 => None,
        _ => Some(i as f64),
    };
    let functions =
        [Function::Count, Function::Sum, Function::Min, Function::Max, Function::First, Function::Last];
    for every in [3600, 1024, 50_000] {
        let request = buckets(&functions, every, &["power"]);
        let told = scene.engine().explain(&request, &QueryControl::default()).unwrap();
        assert!(told.threads > 1 || std::thread::available_parallelism().unwrap().get() == 1);
        let found = scene.rows(&request, true);
        let mut all: Vec<(i64, f64)> = (0..3 * rows_each).filter_map(|i| Some((at(i), value(i)?))).collect();
        all.extend(late().map(|time| (time, 0.5)));
        all.sort_by_key(|(time, _)| *time);
        // Buckets are counted from the epoch.
        let start = |time: i64| time - time.rem_euclid(every as i64 * super::scene::SECOND);
        let of_bucket = |own: &[(i64, f64)]| {
            let values = || own.iter().map(|(_, value)| *value);
            let ends = [own.first(), own.last()].map(|row| row.map(|(_, value)| *value));
            let (low, high) = (values().reduce(f64::min), values().reduce(f64::max));
            let row = vec![Some(own.len() as f64), Some(values().sum()), low, high, ends[0], ends[1]];
            (start(own[0].0), row)
        };
        let expected: Vec<_> = all.chunk_by(|a, b| start(a.0) == start(b.0)).map(of_bucket).collect();
        assert!(found == expected, "{every}: {} buckets of {}", found.len(), expected.len());
    }
}

fn parts_of_time_reach_from_one_end_of_time_to_the_other(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.write((0..210_000).map(|i| (at(i), "power", 1.0)));
    scene.seal_days();
    scene.write([(Timestamp::MIN.0, "power", 2.0), (Timestamp::MAX.0, "power", 3.0)]);
    let found = scene.rows(&buckets(&[Function::Sum], 86_400 * 365, &["power"]), false);
    let sums: Vec<f64> = found.iter().filter_map(|(_, values)| values[0]).collect();
    assert_eq!(sums.iter().sum::<f64>(), 210_005.0);
    assert_eq!((sums[0], sums[sums.len() - 1]), (2.0, 3.0));
    let one = asked(Shape::aggregate(vec![Function::Sum], None), &["power"]);
    assert_eq!(scene.rows(&one, false)[0].1, [Some(210_005.0)]);
}
