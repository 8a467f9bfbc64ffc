//! Points with a limit: the same rows as without one, and no more read than the limit needs.

use super::scene::{Scene, asked, at, between, limited, rows};
use wattlog_engine::io::ReadMode;
use wattlog_engine::query::{Order, QueryLimits, QueryRequest, Shape};

pub(crate) const OLDEST: Order = Order::Ascending;
pub(crate) const NEWEST: Order = Order::Descending;

on_both_read_modes! {
    every_limit_gives_the_first_rows_of_the_whole_answer,
    the_first_and_the_last_row_of_a_range_are_cut_where_it_ends,
    a_limit_that_is_reached_ends_the_reading,
    rows_in_memory_are_held_once_while_a_part_of_them_is_read,
    rows_in_memory_are_held_once_while_the_newest_that_count_are_looked_for,
    two_damaged_blocks_of_a_field_are_told_as_one_stretch,
    a_page_that_cannot_be_read_is_read_around,
}

fn points(fields: &[&str]) -> QueryRequest {
    asked(Shape::Raw, fields)
}

fn every_limit_gives_the_first_rows_of_the_whole_answer(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..3000, &["power", "rare"], |i| i as f64);
    scene.seal_seconds(2500..2600, &["power"], |_| -1.0);
    scene.seal_seconds(5000..5300, &["power"], |i| i as f64);
    // A field that only old rows have, and rows in memory on either side.
    scene.write([(at(5400), "power", 1.0), (at(10) + 1, "power", 2.0), (at(2999) + 1, "rare", 3.0)]);
    scene.delete(at(2700)..at(2900), None);
    for fields in [&["power"][..], &["rare"], &["power", "rare"]] {
        let oldest = scene.rows(&points(fields), false);
        let mut newest = oldest.clone();
        newest.reverse();
        assert_eq!(scene.rows(&QueryRequest { order: NEWEST, ..points(fields) }, false), newest);
        for limit in [1, 2, 3, 99, 100, 301, 302, 1023, 1024, 1025, 2200, 3100, 3103, 10_000] {
            for (order, all) in [(OLDEST, &oldest), (NEWEST, &newest)] {
                let found = scene.rows(&limited(order, limit, points(fields)), false);
                let wanted = &all[..limit.min(all.len())];
                assert!(found == wanted, "{fields:?} {order:?} {limit}: {} rows", found.len());
                // Nothing from beyond a range that ends before other files begin.
                let range = at(5)..at(2450);
                let part = between(range.clone(), limited(order, limit, points(fields)));
                let mut wanted: Vec<_> =
                    all.iter().filter(|(time, _)| range.contains(time)).cloned().collect();
                wanted.truncate(limit);
                assert!(scene.rows(&part, false) == wanted, "{fields:?} {order:?} {limit} in part");
            }
        }
    }
}

fn the_first_and_the_last_row_of_a_range_are_cut_where_it_ends(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..2048, &["power"], |i| i as f64);
    for meets_memory in [false, true] {
        if meets_memory {
            // Now the groups are merged with rows that the ranges below do not hold.
            scene.write([(at(0) + 7, "power", 0.0), (at(2047) - 7, "power", 0.0)]);
        }
        for (range, seconds) in [
            (at(10)..at(20), 10..20),
            (at(10)..at(10) + 1, 10..11),
            (at(10) + 1..at(11), 0..0),
            (at(10) + 1..at(11) + 1, 11..12),
            (at(1023)..at(1025), 1023..1025),
            (at(1024)..at(1025), 1024..1025),
            (at(1023) + 1..at(1024), 0..0),
            (at(2040)..at(2041), 2040..2041),
        ] {
            let expected: Vec<_> = seconds.map(|i| (at(i), vec![Some(i as f64)])).collect();
            let found = scene.rows(&between(range.clone(), points(&["power"])), false);
            assert_eq!(found, expected, "{range:?}");
            for order in [OLDEST, NEWEST] {
                let one = limited(order, 1, between(range.clone(), points(&["power"])));
                let wanted = if order == OLDEST { expected.first() } else { expected.last() };
                assert_eq!(scene.rows(&one, false).first(), wanted, "{range:?} {order:?}");
            }
        }
    }
}

fn a_limit_that_is_reached_ends_the_reading(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..8192, &["power"], |i| i as f64);
    for order in [OLDEST, NEWEST] {
        let result = scene.ask(&limited(order, 5, points(&["power"])));
        assert_eq!((result.rows(), result.stats.blocks_decoded), (5, 2), "{order:?}: one group of eight");
    }
    // Files that meet everywhere: rows are merged, and reading still ends soon.
    scene.write((0..8192).map(|i| (at(i) + 1, "power", 0.0)));
    scene.seal();
    let all = scene.ask(&points(&["power"])).stats.blocks_decoded;
    assert_eq!(all, 32);
    let result = scene.ask(&limited(OLDEST, 5, points(&["power"])));
    assert_eq!(result.rows(), 5);
    assert!(result.stats.blocks_decoded < all / 2, "{} blocks", result.stats.blocks_decoded);
}

fn rows_in_memory_are_held_once_while_a_part_of_them_is_read(read_mode: ReadMode) {
    // Eight thousand rows of a time and a value, and a little for those of the answer: not twice as many.
    let limits = QueryLimits { max_bytes: 8192 * 16 + 40_000, ..QueryLimits::default() };
    let mut scene = Scene::with(read_mode, |options| options.query = limits);
    scene.seal_seconds(0..8192, &["power"], |i| i as f64);
    scene.write((0..8192).map(|i| (at(i) - 1, "power", 0.0)));
    let result = scene.ask(&limited(NEWEST, 5, points(&["power"])));
    assert_eq!(rows(&result)[0], (at(8191), vec![Some(8191.0)]));
}

fn rows_in_memory_are_held_once_while_the_newest_that_count_are_looked_for(read_mode: ReadMode) {
    let limits = QueryLimits { max_bytes: 8192 * 24 + 60_000, ..QueryLimits::default() };
    let mut scene = Scene::with(read_mode, |options| options.query = limits);
    // What is looked for goes on to the oldest row of a field.
    scene.write((0..8192).map(|i| (at(i), "power", i as f64)).chain([(at(3), "rare", 7.0)]));
    scene.seal();
    scene.write((0..8192).map(|i| (at(i) - 1, "power", 0.5)));
    let mut newest = asked(Shape::Last, &["power", "rare"]);
    newest.condition = Some(super::folds::above("power", 0.0));
    assert_eq!(rows(&scene.ask(&newest)), [(at(8191), vec![Some(8191.0), Some(7.0)])]);
}

fn two_damaged_blocks_of_a_field_are_told_as_one_stretch(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..3072, &["power", "rare"], |i| i as f64);
    scene.damage(0, "field_block", "power", 0);
    scene.damage(0, "field_block", "power", 2);
    for order in [OLDEST, NEWEST] {
        let result = scene.ask(&limited(order, 3000, points(&["power", "rare"])));
        let told: Vec<_> =
            result.partial.iter().map(|range| (range.field.as_deref(), range.first, range.last)).collect();
        assert_eq!(told, [(Some("power"), at(0), at(3071))], "{order:?}");
        assert_eq!(rows(&result).iter().filter(|(_, values)| values[0].is_some()).count(), 1024);
    }
}

fn a_page_that_cannot_be_read_is_read_around(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let noise = |i: i64| ((i * i * 7919 + i * 104_729) as f64).sqrt().sin();
    scene.seal_seconds(0..4096, &["power"], noise);
    scene.disk.spoil_page(&scene.sealed[0], scene.block(0, "field_block", "power", 1) + 4096);
    // Newest first comes upon it on the way.
    let result = scene.ask(&limited(NEWEST, 2100, points(&["power"])));
    assert!(result.is_partial());
    let found = rows(&result);
    let seconds = (0..1024).chain(2048..4096).rev().take(2100);
    assert_eq!(found, seconds.map(|i| (at(i), vec![Some(noise(i))])).collect::<Vec<_>>());
}
