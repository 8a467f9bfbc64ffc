//! Files that cannot be read: what is told of them, by a query and by each piece of an export.

use super::scene::{Scene, asked, at, rows};
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{CallKind, Fault, FaultError, Lasting, SyncName};
use wattlog_engine::query::{
    ExportHead, ExportSink, OnDamage, QueryControl, QueryError, QueryRequest, ResultSeries, Shape,
};
use wattlog_model::Timestamp;

on_both_read_modes! {
    every_piece_of_an_export_tells_of_a_lost_file,
    the_time_range_of_a_measurement_leaves_lost_files_out,
    a_machine_without_descriptors_loses_nothing,
    a_file_without_the_field_is_no_loss_and_hides_nothing,
}

#[derive(Default)]
struct Pieces(Vec<ResultSeries>);

impl ExportSink for Pieces {
    fn head(&mut self, _: &ExportHead) -> Result<(), QueryError> {
        Ok(())
    }

    fn piece(&mut self, piece: ResultSeries) -> Result<(), QueryError> {
        self.0.push(piece);
        Ok(())
    }
}

fn every_piece_of_an_export_tells_of_a_lost_file(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    let days = 86_400 * 20;
    scene.seal_seconds(0..70_000, &["power"], |i| i as f64);
    // Spans many pieces, the first of which have rows of the other file.
    scene.write((0..20).map(|day| (at(30_000 + day * 86_400), "power", -1.0)));
    scene.seal();
    scene.write([(at(days + 86_400), "power", 1.0)]);
    scene.lose(1);
    let request = QueryRequest { start: Timestamp(at(0)), ..asked(Shape::Raw, &["power"]) };
    let mut pieces = Pieces::default();
    let exported =
        scene.engine().export(&request, &QueryControl::default(), OnDamage::LeaveOut, &mut pieces).unwrap();
    let told: Vec<_> = exported.partial.iter().map(|range| (range.first, range.last)).collect();
    assert_eq!(told, [(at(30_000), at(30_000 + 19 * 86_400))]);
    assert!(pieces.0.len() > 2, "{} pieces", pieces.0.len());
    let exported: usize = pieces.0.iter().map(ResultSeries::rows).sum();
    assert_eq!(exported, 30_001, "what the lost file may have overwritten is left out");
    assert_eq!(scene.rows(&request, true).len(), exported);
    // By default the export ends where the loss begins.
    let mut pieces = Pieces::default();
    let ended = scene.engine().export(&request, &QueryControl::default(), OnDamage::Stop, &mut pieces);
    assert!(matches!(ended, Err(QueryError::Damaged(_))), "{ended:?}");
    assert!(pieces.0.iter().map(ResultSeries::rows).sum::<usize>() <= 30_000);
}

fn the_time_range_of_a_measurement_leaves_lost_files_out(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    for part in 0..3 {
        scene.seal_seconds(part * 100..part * 100 + 70, &["power"], |_| 1.0);
    }
    let known = |scene: &Scene| {
        let info = scene.engine().measurement("d", "m").unwrap().unwrap();
        info.first.zip(info.last).map(|(first, last)| (first.0, last.0))
    };
    assert_eq!(known(&scene), Some((at(0), at(269))));
    scene.lose(0);
    assert_eq!(known(&scene), Some((at(100), at(269))));
    scene.lose(2);
    assert_eq!(known(&scene), Some((at(100), at(169))));
    scene.delete(at(0)..at(110), None);
    assert_eq!(known(&scene), Some((at(110), at(169))));
    scene.lose(1);
    assert_eq!(known(&scene), None);
    scene.write([(at(5), "power", 1.0)]);
    assert_eq!(known(&scene), Some((at(5), at(5))));
}

fn a_machine_without_descriptors_loses_nothing(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(100..300, &["power"], |_| 2.0);
    let requests = [asked(Shape::Raw, &["power"]), asked(Shape::Last, &["power"])];
    for request in requests {
        scene.reopen();
        let fault = Fault::at(1, FaultError::NoDescriptors, Lasting::ForGood).on(CallKind::Open);
        scene.disk.inject(fault.within(SyncName::SegmentFile));
        let refused = scene.engine().query(&request, &QueryControl::default());
        assert!(matches!(refused, Err(QueryError::NoResources(_))), "{refused:?}");
        scene.disk.clear_faults();
        assert!(scene.engine().health().damage.is_empty(), "nothing is known of the files");
        assert!(!rows(&scene.ask(&request)).is_empty());
        assert!(!scene.ask(&request).is_partial());
    }
}

fn a_file_without_the_field_is_no_loss_and_hides_nothing(read_mode: ReadMode) {
    let mut scene = Scene::new(read_mode);
    scene.seal_seconds(0..200, &["power"], |_| 1.0);
    scene.seal_seconds(50..150, &["other"], |_| 2.0);
    let whole = scene.rows(&asked(Shape::Raw, &["power"]), false);
    assert_eq!(whole.len(), 200);
    // It may have had the field once nobody can look into it any more.
    scene.lose(1);
    assert_eq!(scene.rows(&asked(Shape::Raw, &["power"]), true).len(), 100);
}
