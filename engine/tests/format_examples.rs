//! The worked examples of format-spec.md for logs, manifests and catalog files: the bytes in the text are those that the
//! code writes, and a verifier finds them whole.

use std::sync::Arc;
use wattlog_engine::catalog::{Catalog, Definition, encode_definitions};
use wattlog_engine::check;
use wattlog_engine::ids::{
    CatalogFileId, FieldId, LogId, MeasurementId, NamespaceId, SegmentId, Seq, SeriesId, StoreId,
};
use wattlog_engine::io::Disk;
use wattlog_engine::io::sim::SimDisk;
use wattlog_engine::manifest::{Edit, Manifest, State};
use wattlog_engine::wal::{LogWriter, RecordHead, RecordKind};
use wattlog_model::{FieldType, TagSet, Timestamp};

const STORE: StoreId = StoreId(*b"0123456789abcdef");
/// 2026-01-05T00:00:00Z.
const WALL: i64 = 1_767_571_200_000_000_000;

fn disk() -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new(1);
    let disk: Arc<dyn Disk> = Arc::new(sim.clone());
    for folder in ["wal", "manifest", "catalog"] {
        disk.create_dir(folder).unwrap();
    }
    (sim, disk)
}

fn names() -> Vec<Definition> {
    let measurement = MeasurementId(1);
    vec![
        Definition::Namespace { id: NamespaceId(1), database: "home".into(), policy: "autogen".into() },
        Definition::Measurement { id: measurement, namespace: NamespaceId(1), name: "m".into() },
        Definition::Field { id: FieldId(1), measurement, name: "pv".into(), field_type: FieldType::Float },
        Definition::Series { id: SeriesId(1), measurement, tags: TagSet::new([("id", "a")]).unwrap() },
        Definition::Series { id: SeriesId(2), measurement, tags: TagSet::new([("id", "b")]).unwrap() },
    ]
}

/// Bytes of a block `name` of the text, and where each line says that it stands.
fn told(name: &str) -> Vec<u8> {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../format-spec.md")).unwrap();
    let Some((_, rest)) = text.split_once(&format!("```hex {name}\n")) else { return Vec::new() };
    let mut bytes = Vec::new();
    for line in rest.split("```").next().unwrap().lines() {
        let (offset, rest) = line.split_once("  ").expect("an offset, two blanks, bytes");
        assert_eq!(usize::from_str_radix(offset, 16), Ok(bytes.len()), "{line}");
        let shown = rest.split("  ").next().unwrap().split_whitespace();
        bytes.extend(shown.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
    }
    bytes
}

fn compare(sim: &SimDisk, disk: &dyn Disk, path: &str, name: &str) {
    let written = sim.read_file(path).unwrap();
    let shown = told(name);
    if written != shown {
        for (i, chunk) in written.chunks(16).enumerate() {
            let bytes = chunk.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            println!("{:04x}  {bytes}", 16 * i);
        }
        panic!("{name}: the text shows other bytes than those written, which are above");
    }
    sim.write_file(path, shown);
    let report = check::file(disk, path).unwrap();
    assert_eq!((report.damage, report.torn_at), (Vec::new(), None), "{name}");
    let lines = check::dump(disk, path).unwrap();
    assert!(lines.iter().all(|line| line.part != "damage" && line.value != "damaged"), "{lines:?}");
}

#[test]
fn the_example_of_a_log_is_what_is_written() {
    let (sim, disk) = disk();
    let mut log = LogWriter::create(&disk, STORE, LogId(1), None, Seq(1)).unwrap();
    let head = |kind, seq: u64| RecordHead {
        kind,
        seq: Seq(seq),
        durable_seq: Seq(seq - 1),
        wall: Timestamp(WALL),
        manifest_edit: 0,
    };
    let mut payload = Vec::new();
    encode_definitions(&names(), &mut payload);
    log.append(head(RecordKind::Define, 1), &payload, crc32fast::hash(&payload));
    log.write().unwrap();
    log.sync().unwrap();
    log.end(RecordHead { durable_seq: Seq(1), ..head(RecordKind::End, 1) }).unwrap();
    compare(&sim, &*disk, "wal/wal-0000000000000001.log", "log-example");
}

#[test]
fn the_example_of_a_manifest_is_what_is_written() {
    let (sim, disk) = disk();
    let (mut manifest, _) = Manifest::open(&disk, STORE).unwrap();
    manifest.append(&Edit::Snapshot(State { next_file: 1, ..State::default() }), WALL).unwrap();
    manifest.append(&Edit::Quarantined(SegmentId(4)), WALL).unwrap();
    let path = sim.paths().into_iter().map(|(path, _)| path).find(|path| path.starts_with("manifest/"));
    compare(&sim, &*disk, &path.unwrap(), "manifest-example");
}

#[test]
fn the_example_of_a_catalog_file_is_what_is_written() {
    let (sim, disk) = disk();
    let catalog = Catalog::default();
    catalog.apply(&names());
    catalog.write_unsealed(&disk, STORE, CatalogFileId(2)).unwrap().expect("there are new names");
    compare(&sim, &*disk, "catalog/cat-0000000000000002.cat", "catalog-example");
}
