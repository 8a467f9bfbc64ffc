//! The newest value: what may have been overwritten is not served, whichever file tells it first.

use super::scene::{Row, Scene, asked, at, between};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SyncName};
use wattlog_engine::query::{QueryRequest, ResultValues, Shape};
use wattlog_model::FieldValue;

on_both_read_modes! {
    a_loss_that_comes_to_light_later_takes_back_what_was_found,
    a_lost_block_hides_its_field_in_older_files_and_no_other,
    lost_times_hide_all_fields_in_older_files,
    the_youngest_of_equal_times_counts_whichever_file_is_read_first,
    values_far_back_in_memory_are_found,
    the_range_that_is_asked_for_cuts_memory_and_files,
    what_was_deleted_before_it_could_be_sealed_is_hidden,
    texts_without_statistics_are_read,
    a_group_without_the_field_is_passed_over,
    a_page_that_cannot_be_read_costs_its_group_alone,
}

fn newest(fields: &[&str]) -> QueryRequest {
    asked(Shape::Last, fields)
}

fn one(values: &[f64], seconds: i64) -> Vec<Row> {
    vec![(at(seconds), values.iter().map(|value| Some(*value)).collect())]
}

fn a_loss_that_comes_to_light_later_takes_back_what_was_found(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let rare = [(at(10), "rare", 10.0), (at(100), "rare", 100.0)];
    scene.write((0..200).map(|i| (at(i), "power", i as f64)).chain(rare));
    scene.seal();
    scene.seal_seconds(50..150, &["power", "rare"], |_| -1.0);
    assert_eq!(scene.rows(&newest(&["power", "rare"]), false), one(&[199.0, -1.0], 199));
    // The older file ends later and is looked at first: it tells 100 before anybody knows that this may be overwritten.
    scene.lose(1);
    assert_eq!(scene.rows(&newest(&["power", "rare"]), true), one(&[199.0, 10.0], 199));
}

fn a_lost_block_hides_its_field_in_older_files_and_no_other(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..1000, &["power", "rare"], |i| i as f64);
    scene.seal_seconds(500..700, &["power"], |_| -1.0);
    scene.damage(1, "field_block", "power", 0);
    // Statistics tell the last value of the block, but the range ends before it.
    let part = between(at(0)..at(600), newest(&["power", "rare"]));
    assert_eq!(scene.rows(&part, true), one(&[499.0, 599.0], 599));
    // Where they suffice nothing is read, so nothing is missed.
    let part = between(at(0)..at(700), newest(&["power", "rare"]));
    assert_eq!(scene.rows(&part, false), one(&[-1.0, 699.0], 699));
}

fn lost_times_hide_all_fields_in_older_files(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..1000, &["power", "rare"], |i| i as f64);
    scene.seal_seconds(500..700, &["power"], |_| -1.0);
    scene.damage(1, "time_block", "", 0);
    let part = between(at(0)..at(600), newest(&["power", "rare"]));
    assert_eq!(scene.rows(&part, true), one(&[499.0, 499.0], 499));
}

fn the_youngest_of_equal_times_counts_whichever_file_is_read_first(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.write([(at(10), "power", 1.0), (at(20), "rare", 1.0)]);
    scene.seal();
    // Ends earlier, so it is read after the first.
    scene.write([(at(10), "power", 2.0)]);
    scene.seal();
    assert_eq!(scene.rows(&newest(&["power"]), false), one(&[2.0], 10));
    scene.write([(at(10), "power", 3.0)]);
    assert_eq!(scene.rows(&newest(&["power"]), false), one(&[3.0], 10));
    scene.seal();
    assert_eq!(scene.rows(&newest(&["power"]), false), one(&[3.0], 10));
    // In memory before, and sealed with an end that the others have not.
    scene.write([(at(9), "power", 4.0), (at(30), "rare", 4.0)]);
    assert_eq!(scene.rows(&newest(&["power", "rare"]), false)[0].1, [Some(3.0), Some(4.0)]);
    scene.seal();
    assert_eq!(scene.rows(&newest(&["power", "rare"]), false)[0].1, [Some(3.0), Some(4.0)]);
}

fn values_far_back_in_memory_are_found(read_mode: ReadMode) {
    let scene = Scene::new(read_mode);
    let (minute, hour, day) = (60, 3600, 86_400);
    let newest_s = 10 * day;
    // Just inside and just outside of what is read at first, and far away.
    let back = [0, 1, minute, hour, day, 9 * day].map(|back| at(newest_s - back));
    let outside = [minute, hour, day].map(|back| at(newest_s - back) - 1);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
    for (name, time) in names.iter().zip(back.iter().chain(&outside)) {
        scene.write([(*time, *name, 1.0), (at(0), *name, 0.0)]);
    }
    let result = scene.ask(&newest(&names));
    let ages = names.map(|name| match result.series[0].column(&format!("{name}_time")).map(|c| &c.values) {
        Some(ResultValues::Time(times)) => times[0].unwrap(),
        _ => at(newest_s),
    });
    assert_eq!(ages[..6], back);
    assert_eq!(ages[6..], outside);
}

fn the_range_that_is_asked_for_cuts_memory_and_files(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.write((0..100).map(|i| (at(i), "power", i as f64)));
    for _ in 0..2 {
        for (range, last) in [(0..100, 99), (0..50, 49), (49..50, 49), (99..200, 99), (-5..1, 0)] {
            let part = between(at(range.start)..at(range.end), newest(&["power"]));
            assert_eq!(scene.rows(&part, false), one(&[last as f64], last), "{range:?}");
        }
        for range in [at(-9)..at(0), at(100)..at(200), at(50) + 1..at(51)] {
            assert_eq!(scene.rows(&between(range.clone(), newest(&["power"])), false), [], "{range:?}");
        }
        if scene.sealed.is_empty() {
            scene.seal();
        }
    }
}

fn what_was_deleted_before_it_could_be_sealed_is_hidden(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..100, &["power", "rare"], |i| i as f64);
    scene.write((100..200).flat_map(|i| ["power", "rare"].map(|field| (at(i), field, i as f64))));
    // A delete freezes the rows that it hides; no seal takes them away from here on.
    let fault =
        Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::Write).within(SyncName::SegmentFile);
    scene.disk.inject(fault);
    scene.delete(at(150)..at(300), None);
    assert_eq!(scene.rows(&newest(&["power", "rare"]), false), one(&[149.0, 149.0], 149));
    scene.delete(at(90)..at(150), Some(&["rare"]));
    assert_eq!(scene.rows(&newest(&["rare"]), false), one(&[89.0], 89));
    assert_eq!(scene.rows(&newest(&["power"]), false), one(&[149.0], 149));
    // What is written now is younger than both.
    scene.write([(at(95), "rare", -1.0)]);
    assert_eq!(scene.rows(&newest(&["rare"]), false), one(&[-1.0], 95));
    let points = scene.rows(&asked(Shape::Raw, &["power", "rare"]), false);
    assert_eq!(points.len(), 150);
    let expected = |i: i64| match i {
        0..90 => Some(i as f64),
        95 => Some(-1.0),
        _ => None,
    };
    for (i, (time, values)) in (0..).zip(points) {
        assert_eq!((time, values), (at(i), vec![Some(i as f64), expected(i)]));
    }
}

fn texts_without_statistics_are_read(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let text = |i: i64| FieldValue::String(format!("{i} {}", "x".repeat(300)).into());
    scene.write_values((0..6000).map(|i| (at(i), "note", text(i))));
    scene.seal();
    let result = scene.ask(&newest(&["note"]));
    assert!(result.stats.blocks_decoded > 0, "so many different texts have no statistics");
    let ResultValues::String(notes) = &result.series[0].columns[1].values else {
        panic!("texts were asked for")
    };
    assert!(notes[0].as_ref().unwrap().starts_with("5999 "));
}

fn a_group_without_the_field_is_passed_over(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // Three groups; the field is in the first alone.
    let rare = (0..5).map(|i| (at(i), "rare", i as f64));
    scene.write((0..3000).map(|i| (at(i), "power", i as f64)).chain(rare));
    scene.seal();
    let part = between(at(1)..at(2999), newest(&["power", "rare"]));
    let result = scene.ask(&part);
    assert_eq!(super::scene::rows(&result), one(&[2998.0, 4.0], 2998));
    // The power of the last group, which the range cuts; statistics tell the rest.
    assert_eq!(result.stats.blocks_decoded, 2);
}

fn a_page_that_cannot_be_read_costs_its_group_alone(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    // Values without a pattern: two pages a group.
    let noise = |i: i64| ((i * i * 7919 + i * 104_729) as f64).sqrt().sin();
    scene.seal_seconds(0..4096, &["power"], noise);
    scene.disk.spoil_page(&scene.sealed[0], scene.block(0, "field_block", "power", 3) + 4096);
    let part = between(at(0)..at(4095), newest(&["power"]));
    for _ in 0..2 {
        let found = scene.rows(&part, true);
        assert_eq!(found, one(&[noise(3071)], 3071));
    }
}
