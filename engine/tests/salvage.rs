//! Salvage of random stores: of a whole one everything comes out, of a damaged one everything but what is told to be lost;
//! nothing on the disk is changed and nothing is invented.

mod support;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use support::content::{Cell, Content, DATABASES, Exact, FIELDS, SERIES, read_everything};
use support::history::{Author, Life, START_NS, Step, options};
use support::run::{Run, open};
use support::seeds::seeds;
use wattlog_engine::OpenError;
use wattlog_engine::io::ReadMode;
use wattlog_engine::io::sim::{Rng, SimDisk};
use wattlog_engine::options::Options;
use wattlog_engine::salvage::{Lost, PointSink, Salvage, SalvageReport, SeriesName, Wanted};
use wattlog_model::{FieldValue, ManualClock, Timestamp};

/// Takes points as a store would: the last write wins for each field.
#[derive(Default)]
struct Taken {
    content: Content,
    /// Values of a database whose name is lost.
    homeless: usize,
}

impl PointSink for Taken {
    fn point(
        &mut self,
        name: &SeriesName<'_>,
        time: i64,
        fields: &[(Arc<str>, FieldValue)],
    ) -> io::Result<()> {
        assert!(!fields.is_empty());
        let Some(database) = DATABASES.iter().position(|own| *own == name.database) else {
            assert!(name.database.starts_with("namespace-"), "{}", name.database);
            self.homeless += fields.len();
            return Ok(());
        };
        let tags: Vec<(&str, &str)> = name.tags.iter().collect();
        let series = SERIES.iter().position(|own| own.0 == name.measurement && own.1 == tags);
        for (field, value) in fields {
            let field = FIELDS.iter().position(|own| *own.0 == **field).expect("a field");
            let cell = Cell { database, series: series.expect("a series"), time, field };
            self.content.insert(cell, Exact(value.clone()));
        }
        Ok(())
    }
}

/// A store, what it held, and every value each cell ever had.
struct Lived {
    disk: SimDisk,
    options: Options,
    content: Content,
    versions: BTreeMap<Cell, Vec<Exact>>,
    /// What is before it is hidden by age, by database.
    cutoffs: [i64; DATABASES.len()],
}

impl Lived {
    /// Then it may come out, if it is still on the disk.
    fn is_hidden_by_age(&self, cell: &Cell) -> bool {
        cell.time < self.cutoffs[cell.database]
    }
}

fn live(seed: u64) -> Lived {
    let mut rng = Rng::new(seed);
    let options = options(&mut rng, ReadMode::Pread);
    let mut run = Run::new(SimDisk::new(seed), options.clone());
    let history = Author::new(Rng::new(seed ^ 0x5a17)).history(Life::Old);
    run.live(&history);
    if rng.chance(50) {
        run.close();
    }
    run.end();
    assert!(run.complaints.is_empty(), "{:?}", run.complaints);
    run.disk.settle();
    let mut versions: BTreeMap<Cell, Vec<Exact>> = BTreeMap::new();
    let bodies = history.iter().flat_map(|step| match step {
        Step::Write(body) => std::slice::from_ref(body),
        Step::Burst(bodies) => bodies,
        _ => &[],
    });
    for (cell, value) in bodies.flat_map(|body| &body.cells) {
        versions.entry(*cell).or_default().push(value.clone());
    }
    let disk = run.disk.clone();
    let clock = Arc::new(ManualClock::new(Timestamp(START_NS)));
    let engine = open(&disk.fork(), &options, &clock).expect("opens");
    let (content, partial) = read_everything(&engine).expect("reads");
    assert!(!partial);
    let mut cutoffs = [i64::MIN; DATABASES.len()];
    for rule in engine.retentions() {
        let database = DATABASES.iter().position(|name| *name == rule.database).expect("one of ours");
        cutoffs[database] = rule.cutoff.map_or(i64::MIN, |cutoff| cutoff.0);
    }
    Lived { disk, options, content, versions, cutoffs }
}

fn salvage(disk: &SimDisk) -> Result<(Content, SalvageReport), OpenError> {
    salvage_all(disk).map(|(taken, report)| (taken.content, report))
}

fn salvage_all(disk: &SimDisk) -> Result<(Taken, SalvageReport), OpenError> {
    let files = |disk: &SimDisk| -> Vec<_> {
        disk.paths().into_iter().map(|(path, _)| (disk.read_file(&path), path)).collect()
    };
    let before = files(disk);
    let salvage = Salvage::look(Arc::new(disk.clone()))?;
    let mut taken = Taken::default();
    let report = salvage.run(&Wanted::default(), &mut taken).expect("the sink takes everything");
    assert!(before == files(disk), "nothing is changed");
    Ok((taken, report))
}

fn losses(report: &SalvageReport) -> impl Iterator<Item = &Lost> {
    report.files.iter().flat_map(|file| &file.lost)
}

/// Whether the report says that a value of this cell may be lost.
fn is_told(report: &SalvageReport, cell: &Cell) -> bool {
    let concerns = |lost: &Lost| {
        lost.measurement.as_deref().is_none_or(|own| own == SERIES[cell.series].0)
            && lost.field.as_deref().is_none_or(|own| own == FIELDS[cell.field].0)
            && lost.times.is_none_or(|(first, last)| (first..=last).contains(&cell.time))
    };
    losses(report).any(concerns) || report.files.iter().any(|file| file.nameless > 0 || file.lost_more > 0)
}

/// `unknown` says that something may be lost which nothing attests: the end of a log, for one.
fn check(store: &Lived, found: &Content, report: &SalvageReport, unknown: bool, what: &str) {
    for (cell, value) in &store.content {
        let same = found.get(cell) == Some(value);
        assert!(
            same || unknown || is_told(report, cell),
            "{what}: {cell} is missing without a word\n{report:#?}"
        );
    }
    for (cell, value) in found {
        let known = store.versions.get(cell).is_some_and(|values| values.contains(value));
        assert!(known, "{what}: {cell} is invented: {value:?}");
        // What was deleted shows again only where the manifest cannot be trusted or a log lost its records.
        let right = store.content.get(cell) == Some(value) || store.is_hidden_by_age(cell);
        assert!(
            right || unknown || is_told(report, cell) || !report.notes.is_empty(),
            "{what}: {cell} is {value:?}, an old value"
        );
    }
}

#[test]
fn of_a_whole_store_everything_comes_out() {
    for seed in seeds("salvage", 40) {
        let store = live(seed);
        match salvage(&store.disk) {
            Ok((mut found, report)) => {
                assert!(report.is_whole(), "WATTLOG_SEED={seed}: {report:#?}");
                found.retain(|cell, _| !store.is_hidden_by_age(cell));
                assert!(found == store.content, "WATTLOG_SEED={seed}: {report:#?}");
            }
            Err(error) => panic!("WATTLOG_SEED={seed}: {error}"),
        }
    }
}

/// Everything but what lies in damaged bytes, whatever the damage: flipped bits, cut files, lost files, pages of zeros.
#[test]
fn of_a_damaged_store_everything_else_comes_out() {
    let mut most_lost = 0;
    for seed in seeds("salvage", 40) {
        let store = live(seed);
        for round in 0..25 {
            let mut rng = Rng::new(seed * 1000 + round);
            let disk = store.disk.fork();
            let damages: Vec<String> = (0..=rng.index(4)).map(|_| damage(&disk, &mut rng)).collect();
            let what = format!("WATTLOG_SEED={seed} round {round}: {damages:?}");
            match salvage(&disk) {
                Ok((found, report)) => {
                    // Nor is a segment missed that only a lost manifest knew of.
                    let unknown = !report.notes.is_empty()
                        && damages.iter().any(|d| d.starts_with("segments/") && d.ends_with("removed"));
                    let in_log = damages.iter().any(|damage| damage.starts_with("wal/"));
                    check(&store, &found, &report, in_log || unknown, &what);
                    most_lost = most_lost.max(losses(&report).count());
                }
                // So little is left that no file says whose it is.
                Err(OpenError::Disk { .. }) => assert!(damages.len() > 1, "{what}"),
                // A flipped bit may only look like a newer version if its checksum fits, which one flip cannot do.
                Err(error) => panic!("{what}: {error}"),
            }
        }
    }
    assert!(most_lost > 3, "some of the damage hurt: {most_lost}");
}

fn damage(disk: &SimDisk, rng: &mut Rng) -> String {
    let files: Vec<(String, u64)> =
        disk.paths().into_iter().filter(|(path, len)| *len > 0 && path.contains('/')).collect();
    let Some((path, len)) = (!files.is_empty()).then(|| rng.pick(&files).clone()) else {
        return "nothing is left".into();
    };
    match rng.below(8) {
        0 => {
            disk.remove_file(&path);
            format!("{path} removed")
        }
        1 => {
            let kept = rng.below(len);
            let bytes = disk.read_file(&path).expect("listed");
            disk.write_file(&path, bytes[..kept as usize].to_vec());
            format!("{path} cut to {kept} of {len}")
        }
        2 => {
            let mut bytes = disk.read_file(&path).expect("listed");
            let start = rng.below(len) as usize & !4095;
            let end = bytes.len().min(start + 4096);
            bytes[start..end].fill(0);
            disk.write_file(&path, bytes);
            format!("{path} zeroed from {start} to {end}")
        }
        _ => {
            let (offset, bit) = (rng.below(len), rng.index(8) as u8);
            disk.flip_bit(&path, offset, bit);
            format!("{path} bit {bit} of byte {offset}")
        }
    }
}

/// Rows of a few fields, sealed in one file per call, and nothing in the log.
fn sealed(bodies: &[Range<i64>]) -> Lived {
    let options = Options { read_mode: ReadMode::Pread, ballast_bytes: 0, ..Options::default() };
    let mut run = Run::new(SimDisk::new(1), options.clone());
    run.open();
    let mut versions: BTreeMap<Cell, Vec<Exact>> = BTreeMap::new();
    for (round, rows) in bodies.iter().enumerate() {
        let mut cells = Content::new();
        for (series, row) in (0..3).flat_map(|series| rows.clone().map(move |row| (series, row))) {
            let time = START_NS + row * 10_000_000_000;
            let mut put = |field: usize, value| {
                let cell = Cell { database: 0, series, time, field };
                cells.insert(cell, Exact(value));
            };
            let noise = Rng::new((row * 7 + round as i64) as u64 * 31 + series as u64).next_u64();
            put(0, FieldValue::Float((noise % 5000) as f64 / 10.0));
            put(2, FieldValue::Integer(noise as i64 >> 40));
            put(5, FieldValue::String(["eco", "normal", "off"][(row % 3) as usize].into()));
        }
        let body = support::content::Body::new(0, cells.into_iter().collect());
        let engine = run.engine().expect("open");
        engine.write(body.batch()).expect("stored");
        engine.seal().expect("sealed");
        for (cell, value) in body.cells {
            versions.entry(cell).or_default().push(value);
        }
    }
    run.close();
    run.disk.settle();
    let logs: Vec<String> =
        run.disk.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with("wal/")).collect();
    // What is sealed must come from the segments.
    logs.iter().for_each(|log| run.disk.remove_file(log));
    let content = versions.iter().map(|(cell, values)| (*cell, values.last().unwrap().clone())).collect();
    Lived { disk: run.disk.clone(), options, content, versions, cutoffs: [i64::MIN; DATABASES.len()] }
}

/// `data_end`, `meta_offset` and `meta_len` of the footer (format-spec.md section 5.15).
fn segment_ends(disk: &SimDisk, path: &str) -> (u64, u64, u64) {
    let bytes = disk.read_file(path).unwrap();
    let footer = &bytes[bytes.len() - 96..];
    let word = |at: usize| u64::from_le_bytes(footer[at..at + 8].try_into().unwrap());
    (word(56), word(40), word(48))
}

fn largest(disk: &SimDisk) -> String {
    let segments = disk.paths().into_iter().filter(|(path, _)| path.starts_with("segments/"));
    segments.max_by_key(|(_, len)| *len).expect("there is one").0
}

fn paths(disk: &SimDisk, folder: &str) -> Vec<String> {
    disk.paths().into_iter().map(|(path, _)| path).filter(|path| path.starts_with(folder)).collect()
}

#[test]
fn a_flipped_bit_in_a_block_costs_that_block() {
    let store = sealed(std::slice::from_ref(&(0..3000)));
    let segment = largest(&store.disk);
    let data_end = segment_ends(&store.disk, &segment).0;
    assert!(data_end > 20_000, "{data_end} bytes");
    for offset in (512..data_end).step_by(1511) {
        let disk = store.disk.fork();
        disk.flip_bit(&segment, offset, 5);
        let (found, report) = salvage(&disk).unwrap();
        check(&store, &found, &report, false, &format!("byte {offset}"));
        let [lost] = &losses(&report).collect::<Vec<_>>()[..] else { panic!("one block: {report:#?}") };
        let (first, last) = lost.times.expect("which times is known");
        assert!(last - first <= 1023 * 10_000_000_000 && lost.measurement.is_some(), "{lost:?}");
        let missing = store.content.keys().filter(|cell| !found.contains_key(cell)).count();
        let fields = if lost.field.is_some() { 1 } else { 3 };
        assert!(missing > 0 && missing <= 1024 * fields, "{missing} values are missing, {lost:?}");
    }
}

/// Only segments are left, and their ends, where the footer stands, are cut off; of the second the header is gone too.
#[test]
fn segments_alone_and_cut_give_what_their_meta_region_still_describes() {
    let store = sealed(&[0..40_000, 39_000..43_000]);
    for folder in ["manifest/", "catalog/", "wal/"] {
        paths(&store.disk, folder).iter().for_each(|path| store.disk.remove_file(path));
    }
    let segments = paths(&store.disk, "segments/");
    for cut in [1, 95, 96] {
        let disk = store.disk.fork();
        for path in &segments {
            let bytes = disk.read_file(path).unwrap();
            disk.write_file(path, bytes[..bytes.len() - cut].to_vec());
        }
        disk.flip_bit(segments.last().unwrap(), 3, 3);
        let (found, report) = salvage(&disk).unwrap();
        assert!(found == store.content, "only the ends are missing: {report:#?}");
        assert!(!report.is_whole(), "and that is told");
    }
}

/// Page by page of the meta region: the first one says where everything is; without another its part is lost.
#[test]
fn a_damaged_page_costs_what_it_describes() {
    let store = sealed(&[0..40_000, 39_000..43_000]);
    let clock = Arc::new(ManualClock::new(Timestamp(START_NS)));
    let engine = open(&store.disk, &store.options, &clock).expect("opens");
    engine.compact().expect("merged");
    drop(engine);
    let segment = largest(&store.disk);
    let (_, meta_offset, meta_len) = segment_ends(&store.disk, &segment);
    let pages = meta_len / 4096;
    assert!(pages > 2, "{pages} pages");
    let mut partly = 0;
    for page in 0..pages {
        let disk = store.disk.fork();
        disk.flip_bit(&segment, meta_offset + page * 4096 + 2000, 0);
        let (found, report) = salvage(&disk).unwrap();
        check(&store, &found, &report, false, &format!("page {page}"));
        let of_it = report.files.iter().find(|file| file.file == segment).expect("told");
        assert!(page > 0 || of_it.values == 0, "{of_it:?}");
        partly += u64::from(of_it.values > 0);
    }
    assert_eq!(partly, pages - 1, "all but the first cost no more than their part");
}

/// A bad record costs that record: one body, or the names that stand in it and nowhere else.
#[test]
fn a_flipped_bit_in_a_log_costs_one_record() {
    let options = Options { read_mode: ReadMode::Pread, ballast_bytes: 0, ..Options::default() };
    let mut run = Run::new(SimDisk::new(2), options);
    run.open();
    let engine = run.engine().expect("open");
    let mut content = Content::new();
    for row in 0..20 {
        let cell = Cell { database: 0, series: 0, time: START_NS + row, field: 0 };
        content.insert(cell, Exact(FieldValue::Float(row as f64 / 10.0)));
        let cells = vec![(cell, content[&cell].clone())];
        engine.write(support::content::Body::new(0, cells).batch()).expect("stored");
    }
    run.close();
    run.disk.settle();
    let log = paths(&run.disk, "wal/wal-").remove(0);
    let bytes = run.disk.read_file(&log).unwrap();
    let records: Vec<usize> = (64..bytes.len()).filter(|at| bytes[*at..].starts_with(b"WREC")).collect();
    assert!(records.len() > 20, "{} records", records.len());
    for (number, record) in records.iter().enumerate() {
        let disk = run.disk.fork();
        // The length of the payload, or the payload.
        let offset = if number % 2 == 0 { record + 8 } else { record + 70 };
        disk.flip_bit(&log, offset as u64, 1);
        let is_define = bytes[record + 4] == 2;
        let is_end = bytes[record + 4] == 4;
        let (Taken { content: found, homeless }, report) = salvage_all(&disk).unwrap();
        let missing = content.keys().filter(|cell| !found.contains_key(cell)).count();
        if is_define {
            let nameless: u64 = report.files.iter().map(|file| file.nameless).sum();
            assert_eq!((missing, homeless as u64 + nameless), (20, 20), "record {number}: {report:#?}");
        } else {
            assert_eq!(missing, usize::from(!is_end), "record {number}: {report:#?}");
        }
        assert!(is_end || !report.is_whole(), "record {number}: {report:#?}");
    }
}

/// A cell that was written twice: while the younger value can be read, the older one never comes out last.
#[test]
fn the_last_write_wins_across_files() {
    let store = sealed(&[0..500, 0..500, 100..200]);
    let (found, report) = salvage(&store.disk).unwrap();
    assert!(report.is_whole() && found == store.content, "{report:#?}");
    assert_eq!(report.points(), 3 * 1100);
}

/// What was set aside by an opening is read where it lies now.
#[test]
fn a_segment_in_quarantine_is_read_too() {
    let store = sealed(&[0..3000, 3000..6000]);
    paths(&store.disk, "manifest/").iter().for_each(|path| store.disk.remove_file(path));
    let segment = paths(&store.disk, "segments/").remove(0);
    let len = store.disk.read_file(&segment).unwrap().len() as u64;
    store.disk.flip_bit(&segment, len - 1, 0);
    let clock = Arc::new(ManualClock::new(Timestamp(START_NS)));
    drop(open(&store.disk, &store.options, &clock).expect("opens"));
    assert_eq!(paths(&store.disk, "quarantine/seg-").len(), 1);
    let (found, report) = salvage(&store.disk).unwrap();
    assert!(found == store.content, "{report:#?}");
}

#[test]
fn a_folder_without_a_store_is_told() {
    let error = Salvage::look(Arc::new(SimDisk::new(1))).map(drop).unwrap_err();
    assert!(matches!(error, OpenError::Disk { .. }), "{error}");
}
