//! Rows of several sources at once: which of them stand in the answer where sources meet, are lost, or are deleted.

use super::scene::{Row, Scene, asked, at, between};
use std::ops::Range;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SyncName};
use wattlog_engine::query::{Function, QueryRequest, Shape};
use wattlog_model::Timestamp;

on_both_read_modes! {
    a_file_set_aside_in_the_middle_hides_what_is_older_and_not_what_is_younger,
    a_late_row_between_groups_that_meet_nothing_stands_in_its_place,
    rows_in_hand_are_handed_on_up_to_the_next_group_and_no_further,
    equal_times_at_the_edge_of_a_bucket_are_one_value_of_the_youngest,
    a_delete_of_a_field_reaches_a_group_that_meets_nothing_else,
    a_delete_of_a_field_that_nobody_asks_for_costs_nothing,
    a_delete_hides_what_is_older_and_nothing_that_is_younger,
    a_group_that_a_delete_covers_is_not_read,
    a_damaged_block_hides_its_field_in_rows_that_are_in_hand_already,
    a_damaged_block_hides_its_field_in_rows_that_come_after_it,
    rows_handed_on_before_damage_was_found_do_not_come_again,
    groups_that_share_their_border_are_one_row_there,
    a_read_that_fails_once_never_doubles_a_row,
    a_file_that_cannot_be_opened_again_is_lost_as_if_it_never_could,
    rows_at_both_ends_of_time_are_found_in_every_way,
    more_groups_than_one_batch_are_all_handed_over,
}

fn points(fields: &[&str]) -> QueryRequest {
    asked(Shape::Raw, fields)
}

/// Seconds, and the values of the row in each.
type Part<'a> = (Range<i64>, &'a dyn Fn(i64) -> Vec<Option<f64>>);

fn expected(parts: &[Part<'_>]) -> Vec<Row> {
    let rows = parts.iter().flat_map(|(seconds, values)| seconds.clone().map(move |i| (at(i), values(i))));
    rows.collect()
}

fn sum_and_count(fields: &[&str], every_s: u64) -> QueryRequest {
    let every = std::time::Duration::from_secs(every_s);
    asked(Shape::aggregate(vec![Function::Sum, Function::Count], Some(every)), fields)
}

fn a_file_set_aside_in_the_middle_hides_what_is_older_and_not_what_is_younger(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(50..150, &["power"], |_| 2.0);
    scene.seal_seconds(100..120, &["power"], |_| 3.0);
    scene.write([(at(60), "power", 4.0)]);
    scene.lose(1);
    let (one, three, four) = (|_| vec![Some(1.0)], |_| vec![Some(3.0)], |_| vec![Some(4.0)]);
    let left = expected(&[(0..50, &one), (60..61, &four), (100..120, &three), (150..200, &one)]);
    assert_eq!(scene.rows(&points(&["power"]), true), left);
    let whole = scene.rows(&asked(Shape::aggregate(vec![Function::Sum], None), &["power"]), true);
    assert_eq!(whole[0].1, [Some(100.0 + 4.0 + 60.0)]);
    // The newest value cannot be among what is lost.
    assert_eq!(scene.rows(&asked(Shape::Last, &["power"]), false), [(at(199), vec![Some(1.0)])]);
    // A range that the lost file does not touch misses nothing.
    assert_eq!(scene.rows(&between(at(150)..at(170), points(&["power"])), false).len(), 20);
    // Nor is more told to be missing than was asked for.
    let result = scene.ask(&between(at(40)..at(60), points(&["power"])));
    assert_eq!((result.partial[0].first, result.partial[0].last), (at(50), at(60) - 1));
    let result = scene.ask(&between(at(70)..at(180), points(&["power"])));
    assert_eq!((result.partial[0].first, result.partial[0].last), (at(70), at(149)));
}

fn a_late_row_between_groups_that_meet_nothing_stands_in_its_place(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // Groups of 1024 rows, and late rows between two of them and inside of the third.
    scene.seal_seconds(0..4096, &["power"], |i| i as f64);
    let late = [at(1024) - 1, at(2048) - 1, at(2500) + 1];
    scene.write(late.map(|time| (time, "power", 0.5)));
    let mut all = expected(&[(0..4096, &|i| vec![Some(i as f64)])]);
    all.extend(late.map(|time| (time, vec![Some(0.5)])));
    all.sort_by_key(|(time, _)| *time);
    assert_eq!(scene.rows(&points(&["power"]), false), all);
    // First and last of an hour are those of its ends, whatever is late.
    let ends = asked(Shape::aggregate(vec![Function::First, Function::Last], None), &["power"]);
    assert_eq!(scene.rows(&between(at(0)..at(2048), ends), false)[0].1, [Some(0.0), Some(0.5)]);
}

fn rows_in_hand_are_handed_on_up_to_the_next_group_and_no_further(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // Even seconds, and odd ones in groups that begin elsewhere: five thousand rows are in hand before the sweep ends.
    scene.write((0..6000).map(|i| (at(2 * i), "power", i as f64)));
    scene.seal();
    scene.write((300..5700).map(|i| (at(2 * i + 1), "power", -i as f64)));
    scene.seal();
    let found = scene.rows(&points(&["power"]), false);
    assert_eq!(found.len(), 11_400);
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "rows rise in time");
    let sum: f64 = found.iter().filter_map(|(_, values)| values[0]).sum();
    assert_eq!(sum, (0..6000).sum::<i64>() as f64 - (300..5700).sum::<i64>() as f64);
}

fn equal_times_at_the_edge_of_a_bucket_are_one_value_of_the_youngest(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let edge = |value: f64| [at(60) - 1, at(60)].map(|time| (time, "power", value));
    scene.write(edge(1.0).into_iter().chain([(at(0), "power", 100.0)]));
    scene.seal();
    scene.write(edge(2.0).into_iter().chain([(at(119), "power", 200.0)]));
    scene.seal();
    for _ in 0..2 {
        let found = scene.rows(&sum_and_count(&["power"], 60), false);
        assert_eq!(found, [(at(0), vec![Some(102.0), Some(2.0)]), (at(60), vec![Some(202.0), Some(2.0)])]);
        // The same value once more, from memory.
        scene.write(edge(2.0));
    }
    scene.write(edge(3.0));
    let found = scene.rows(&sum_and_count(&["power"], 60), false);
    assert_eq!(found, [(at(0), vec![Some(103.0), Some(2.0)]), (at(60), vec![Some(203.0), Some(2.0)])]);
    let part = between(at(60)..at(61), sum_and_count(&["power"], 60));
    assert_eq!(scene.rows(&part, false), [(at(60), vec![Some(3.0), Some(1.0)])]);
}

fn a_delete_of_a_field_reaches_a_group_that_meets_nothing_else(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..600, &["power", "rare"], |_| 1.0);
    scene.delete(at(599)..at(700), Some(&["rare"]));
    let found = scene.rows(&sum_and_count(&["power", "rare"], 3600), false);
    assert_eq!(found, [(at(0), vec![Some(600.0), Some(600.0), Some(599.0), Some(599.0)])]);
    scene.delete(at(-5)..at(0) + 1, Some(&["power"]));
    let found = scene.rows(&sum_and_count(&["power", "rare"], 3600), false);
    assert_eq!(found, [(at(0), vec![Some(599.0), Some(599.0), Some(599.0), Some(599.0)])]);
    // Beside the group, by an instant on either side.
    scene.delete(at(599) + 1..at(700), None);
    scene.delete(at(-50)..at(0), None);
    assert_eq!(scene.rows(&sum_and_count(&["power", "rare"], 3600), false), found);
}

fn a_delete_of_a_field_that_nobody_asks_for_costs_nothing(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..600, &["power", "rare"], |_| 1.0);
    scene.delete(at(100)..at(200), Some(&["rare"]));
    let result = scene.ask(&sum_and_count(&["power"], 3600));
    assert_eq!(super::scene::rows(&result), [(at(0), vec![Some(600.0), Some(600.0)])]);
    assert_eq!(result.stats.blocks_decoded, 0);
}

fn a_delete_hides_what_is_older_and_nothing_that_is_younger(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(100..300, &["power"], |_| 2.0);
    scene.delete(at(50)..at(250), None);
    scene.seal_seconds(120..130, &["power"], |_| 3.0);
    scene.write([(at(60), "power", 4.0)]);
    let row = |value: f64| move |_| vec![Some(value)];
    let left =
        expected(&[(0..50, &row(1.0)), (60..61, &row(4.0)), (120..130, &row(3.0)), (250..300, &row(2.0))]);
    assert_eq!(scene.rows(&points(&["power"]), false), left);
    // A second delete of what came after the first.
    scene.delete(at(60)..at(125), None);
    let left = expected(&[(0..50, &row(1.0)), (125..130, &row(3.0)), (250..300, &row(2.0))]);
    assert_eq!(scene.rows(&points(&["power"]), false), left);
}

fn a_group_that_a_delete_covers_is_not_read(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..2048, &["power", "rare"], |i| i as f64);
    scene.delete(at(0)..at(1023) + 1, None);
    let result = scene.ask(&points(&["power", "rare"]));
    assert_eq!(
        (result.rows(), result.stats.blocks_decoded),
        (1024, 3),
        "two fields and the times of one group"
    );
    // A delete of one field covers the other group as long, and leaves the other field.
    scene.delete(at(1024)..at(2048), Some(&["rare"]));
    let left = expected(&[(1024..2048, &|i| vec![Some(i as f64), None])]);
    assert_eq!(scene.rows(&points(&["power", "rare"]), false), left);
    // One that ends before its last row does not cover it, nor one that begins behind its first.
    scene.delete(at(1024)..at(2047), None);
    assert_eq!(scene.rows(&points(&["power"]), false), [(at(2047), vec![Some(2047.0)])]);
    scene.delete(at(1025)..at(2048), None);
    assert_eq!(scene.rows(&points(&["power"]), false), []);
    scene.seal_seconds(3000..3100, &["power"], |_| 1.0);
    scene.delete(at(3001)..at(4000), None);
    assert_eq!(scene.rows(&points(&["power"]), false), [(at(3000), vec![Some(1.0)])]);
}

fn a_damaged_block_hides_its_field_in_rows_that_are_in_hand_already(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power", "rare"], |i| i as f64);
    scene.seal_seconds(50..150, &["power"], |_| -1.0);
    scene.write([(at(70), "power", 7.0)]);
    scene.damage(1, "field_block", "power", 0);
    let both = |i: i64| vec![Some(i as f64); 2];
    let rare = |i: i64| vec![None, Some(i as f64)];
    let late = |i: i64| vec![Some(7.0), Some(i as f64)];
    let left =
        expected(&[(0..50, &both), (50..70, &rare), (70..71, &late), (71..150, &rare), (150..200, &both)]);
    assert_eq!(scene.rows(&points(&["power", "rare"]), true), left);
}

fn a_damaged_block_hides_its_field_in_rows_that_come_after_it(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(50..250, &["power", "rare"], |i| i as f64);
    scene.seal_seconds(0..100, &["power"], |_| -1.0);
    scene.damage(1, "field_block", "power", 0);
    let left =
        expected(&[(50..100, &|i| vec![None, Some(i as f64)]), (100..250, &|i| vec![Some(i as f64); 2])]);
    assert_eq!(scene.rows(&points(&["power", "rare"]), true), left);
}

fn rows_handed_on_before_damage_was_found_do_not_come_again(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // The oldest has a gap in which another file stands alone; what is damaged meets it behind that.
    let oldest = (0..200).chain(1000..1200).map(|i| (at(i), "power", i as f64));
    scene.write(oldest.chain((0..1).map(|i| (at(i), "rare", 1.0))));
    scene.seal();
    scene.seal_seconds(500..600, &["power"], |i| i as f64);
    scene.seal_seconds(1100..1300, &["power"], |_| -1.0);
    scene.damage(2, "field_block", "power", 0);
    let own = |i: i64| vec![Some(i as f64)];
    let left = expected(&[(0..200, &own), (500..600, &own), (1000..1100, &own)]);
    assert_eq!(scene.rows(&points(&["power"]), true), left);
}

fn groups_that_share_their_border_are_one_row_there(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(199..300, &["power"], |_| 2.0);
    let (one, two, three) = (|_| vec![Some(1.0)], |_| vec![Some(2.0)], |_| vec![Some(3.0)]);
    let all = expected(&[(0..199, &one), (199..300, &two)]);
    assert_eq!(scene.rows(&points(&["power"]), false), all);
    // So is a row in memory, at the first and at the last of a group.
    scene.seal_seconds(1000..1100, &["power"], |_| 1.0);
    scene.write([at(1000), at(1099)].map(|time| (time, "power", 3.0)));
    let tail = expected(&[(1000..1001, &three), (1001..1099, &one), (1099..1100, &three)]);
    assert_eq!(scene.rows(&between(at(1000)..at(2000), points(&["power"])), false), tail);
    for (first, late) in [(8000, 8000), (9000, 9099)] {
        scene.seal_seconds(first..first + 100, &["power"], |_| 1.0);
        scene.write([(at(late), "power", 3.0)]);
        let found = scene.rows(&between(at(first)..at(first + 200), points(&["power"])), false);
        assert_eq!(found.len(), 100);
        assert!(
            found.iter().all(|(time, values)| values[0] == Some(if *time == at(late) { 3.0 } else { 1.0 }))
        );
    }
    let found = scene.rows(&between(at(0)..at(7200), sum_and_count(&["power"], 7200)), false);
    assert_eq!(found, [(at(0), vec![Some(199.0 + 202.0 + 98.0 + 6.0), Some(400.0)])]);
}

fn a_read_that_fails_once_never_doubles_a_row(read_mode: ReadMode) {
    let mut scene = Scene::with(read_mode, |options| options.max_open_maps = 1);
    scene.write((1500..1600).map(|i| (at(i * 10), "power", -1.0)));
    scene.seal();
    // Half a month, so that its groups and statistics take pages of their own; it hides what is older.
    let noise = |i: i64| ((i * i * 7919 + i * 104_729) as f64).sqrt().sin();
    scene.write((0..15 * 8640).map(|i| (at(i * 10), "power", noise(i))));
    scene.seal();
    let kind = if read_mode == ReadMode::Map { CallKind::MapCopy } else { CallKind::Read };
    let requests = [
        points(&["power"]),
        sum_and_count(&["power"], 43_200),
        between(at(0)..at(15_550), asked(Shape::Last, &["power"])),
    ];
    for request in requests {
        let whole = scene.rows(&request, false);
        let mut answers_whole = 0;
        for nth in 1..50 {
            scene.reopen();
            scene.disk.inject(
                Fault::at(nth, FaultError::Eio, Lasting::Once).on(kind).within(SyncName::SegmentFile),
            );
            let result = scene.ask(&request);
            scene.disk.clear_faults();
            let found = super::scene::rows(&result);
            if !result.is_partial() {
                answers_whole += 1;
                assert_eq!(found, whole, "read {nth}");
                continue;
            }
            let is_less = |found: &Row| match request.shape {
                Shape::Last => found.0 < whole[0].0 || *found == whole[0],
                // A bucket that counts less than before.
                Shape::Aggregate(_) => whole.iter().any(|row| row.0 == found.0 && found.1[1] <= row.1[1]),
                _ => whole.binary_search_by_key(&found.0, |row| row.0).is_ok_and(|at| whole[at] == *found),
            };
            assert!(found.len() <= whole.len() && found.iter().all(is_less), "read {nth}");
            assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "read {nth}");
        }
        assert!(answers_whole > 10, "{answers_whole} answers were whole");
    }
}

fn a_file_that_cannot_be_opened_again_is_lost_as_if_it_never_could(read_mode: ReadMode) {
    // One file at a time is open, so that each is opened once when its groups are listed and once when they are read.
    let mut scene = Scene::with(read_mode, |options| options.max_open_maps = 1);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(50..150, &["power"], |_| 2.0);
    let whole = scene.rows(&points(&["power"]), false);
    let mut lost = 0;
    for nth in 1..=8 {
        scene.reopen();
        let fault =
            Fault::at(nth, FaultError::Eio, Lasting::Once).on(CallKind::Open).within(SyncName::SegmentFile);
        scene.disk.inject(fault);
        let result = scene.ask(&points(&["power"]));
        scene.disk.clear_faults();
        let found = super::scene::rows(&result);
        if !result.is_partial() {
            assert_eq!(found, whole, "open {nth}");
            continue;
        }
        lost += 1;
        // Either file may be the one that is lost; what the other has is only served where it is certain.
        let in_the_middle = found.iter().filter(|(time, _)| (at(50)..at(150)).contains(time));
        assert!(
            in_the_middle.clone().all(|(_, values)| values[0] == Some(2.0)),
            "open {nth}: {in_the_middle:?}"
        );
    }
    assert!(lost > 2, "{lost} of the opens were struck");
}

fn rows_at_both_ends_of_time_are_found_in_every_way(read_mode: ReadMode) {
    let scene = Scene::new(read_mode);
    let (first, last) = (Timestamp::MIN.0, Timestamp::MAX.0);
    let (next, before) = (first + 1, last - 1);
    scene.write([(first, "power", 1.0), (next, "power", 2.0), (before, "power", 4.0), (last, "power", 8.0)]);
    for sealed in [false, true] {
        if sealed {
            scene.engine().seal().unwrap();
        }
        let times = |rows: Vec<Row>| rows.into_iter().map(|(time, _)| time).collect::<Vec<_>>();
        assert_eq!(times(scene.rows(&points(&["power"]), false)), [first, next, before, last]);
        assert_eq!(
            times(scene.rows(&between(first..last, points(&["power"])), false)),
            [first, next, before]
        );
        assert_eq!(times(scene.rows(&between(next..before, points(&["power"])), false)), [next]);
        assert_eq!(scene.rows(&asked(Shape::Last, &["power"]), false), [(last, vec![Some(8.0)])]);
        let early = between(i64::MIN..next, asked(Shape::Last, &["power"]));
        assert_eq!(scene.rows(&early, false), [(first, vec![Some(1.0)])]);
        for order in [super::points::OLDEST, super::points::NEWEST] {
            for limit in 1..5 {
                let found =
                    times(scene.rows(&super::scene::limited(order, limit, points(&["power"])), false));
                let mut all = [first, next, before, last];
                if order == super::points::NEWEST {
                    all.reverse();
                }
                assert_eq!(found, all[..limit], "{order:?} {limit}");
            }
        }
        let whole = asked(Shape::aggregate(vec![Function::Sum, Function::Count], None), &["power"]);
        assert_eq!(scene.rows(&whole, false)[0].1, [Some(15.0), Some(4.0)]);
        let info = scene.engine().measurement("d", "m").unwrap().unwrap();
        assert_eq!((info.first, info.last), (Some(Timestamp::MIN), Some(Timestamp::MAX)));
    }
    scene.delete(i64::MIN..next, None);
    scene.delete(last..i64::MAX, None);
    let found = scene.rows(&points(&["power"]), false);
    assert_eq!(found, [(next, vec![Some(2.0)]), (before, vec![Some(4.0)])]);
    assert_eq!(scene.rows(&asked(Shape::Last, &["power"]), false), [(before, vec![Some(4.0)])]);
}

fn more_groups_than_one_batch_are_all_handed_over(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // A month of a row each ten seconds: nine groups a day, more than are handed over at once.
    let (days, rows) = (30, 8640);
    let times = (0..days * rows).map(|i| at(i * 10));
    scene.write(times.enumerate().map(|(i, time)| (time, "power", i as f64)));
    scene.seal();
    let daily = scene.ask(&sum_and_count(&["power"], 86_400));
    assert_eq!(daily.stats.blocks_from_statistics, 270);
    let found = super::scene::rows(&daily);
    assert_eq!(found.len(), days as usize);
    for (day, (time, values)) in (0..).zip(found) {
        let first = day * rows;
        let sum: i64 = (first..first + rows).sum();
        assert_eq!((time, values), (at(day * 86_400), vec![Some(sum as f64), Some(rows as f64)]));
    }
    let all = scene.rows(&points(&["power"]), false);
    assert_eq!(all.len(), (days * rows) as usize);
    assert!(all.iter().enumerate().all(|(i, (_, values))| values[0] == Some(i as f64)));
}
