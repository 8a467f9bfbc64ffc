use super::definition::tests::sample;
use super::*;
use crate::ids::StoreId;
use crate::io::Disk;
use crate::io::sim::SimDisk;
use wattlog_model::{FieldType, Unit};

const M: MeasurementId = MeasurementId(1);

fn tags<const N: usize>(pairs: [(&str, &str); N]) -> TagSet {
    TagSet::new(pairs).unwrap()
}

fn series(id: u32, tag_set: TagSet) -> Definition {
    Definition::Series { id: SeriesId(id), measurement: M, tags: tag_set }
}

/// Four series: two sites with a device each, one with a site alone, one without any tag.
fn homes() -> Vec<Definition> {
    vec![
        series(1, tags([("site", "north"), ("device", "inv-1")])),
        series(2, tags([("site", "south"), ("device", "inv-2")])),
        series(3, tags([("site", "south")])),
        series(4, TagSet::default()),
    ]
}

fn filter(key: &str, predicate: SeriesPredicate) -> SeriesFilter {
    SeriesFilter { key: key.to_owned(), predicate }
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().map(|&value| value.to_owned()).collect()
}

#[track_caller]
fn check(catalog: &Catalog, filters: &[SeriesFilter], expected: &[u32]) {
    let found: Vec<u32> = catalog.select(M, filters).unwrap().into_iter().map(|id| id.0).collect();
    assert_eq!(found, expected, "{filters:?}");
}

#[test]
fn names_lead_to_ids_and_back() {
    let catalog = Catalog::default();
    assert_eq!(catalog.next_ids(), NextIds::default());
    let list = sample();
    // The last one gives a meaning to a field that nobody defined.
    assert_eq!(catalog.apply(&list), Applied { changed: 5, refused: 1 });
    assert_eq!(catalog.apply(&list[..5]), Applied::default());
    assert_eq!(catalog.namespace("wattlog", None), Some(NamespaceId(1)));
    assert_eq!(catalog.namespace("wattlog", Some("other")), None);
    assert_eq!(catalog.measurement(NamespaceId(1), "energy_data"), Some(M));
    let field = catalog.field(M, "pv_power").unwrap();
    assert_eq!((field.id, field.field_type, field.unit), (FieldId(1), FieldType::Float, Unit::new("W")));
    let tag_set = tags([("location", "roof"), ("device_id", "inv-1")]);
    assert_eq!(catalog.series(M, &tag_set).unwrap(), Some(SeriesId(300)));
    assert_eq!(catalog.series_tags(SeriesId(300)).unwrap(), Some((M, tag_set)));
    assert_eq!(catalog.next_ids(), NextIds { namespace: 2, measurement: 2, field: 2, series: 301 });
    let again = [
        catalog.define_namespace(NamespaceId(1)).unwrap(),
        catalog.define_measurement(M).unwrap(),
        catalog.define_field(FieldId(1)).unwrap(),
        SeriesReader::new(&catalog).definition(SeriesId(300)).unwrap().unwrap(),
    ];
    assert_eq!(again[..], list[..4]);
}

#[test]
fn a_definition_that_contradicts_another_is_refused() {
    let catalog = Catalog::default();
    catalog.apply(&sample()[..4]);
    let wrong = [
        Definition::Namespace { id: NamespaceId(1), database: "other".into(), policy: "autogen".into() },
        Definition::Measurement { id: M, namespace: NamespaceId(1), name: "other".into() },
        Definition::Field {
            id: FieldId(1),
            measurement: M,
            name: "pv_power".into(),
            field_type: FieldType::Integer,
        },
        Definition::Field {
            id: FieldId(9),
            measurement: MeasurementId(9),
            name: "pv_power".into(),
            field_type: FieldType::Float,
        },
        series(300, TagSet::default()),
    ];
    assert_eq!(catalog.apply(&wrong), Applied { changed: 0, refused: 5 });
    assert_eq!(catalog.field(M, "pv_power").unwrap().field_type, FieldType::Float);
}

#[test]
fn a_missing_tag_has_the_empty_value() {
    let catalog = Catalog::default();
    catalog.apply(&homes());
    let regex = |pattern| compile_regex(pattern).unwrap();
    use SeriesPredicate::{In, Matches, NotIn, NotMatches};
    check(&catalog, &[], &[1, 2, 3, 4]);
    check(&catalog, &[filter("site", In(texts(&["south"])))], &[2, 3]);
    check(&catalog, &[filter("site", In(texts(&["south", ""])))], &[2, 3, 4]);
    check(&catalog, &[filter("site", In(texts(&[""])))], &[4]);
    check(&catalog, &[filter("site", NotIn(texts(&["south"])))], &[1, 4]);
    check(&catalog, &[filter("site", NotIn(texts(&["south", ""])))], &[1]);
    check(&catalog, &[filter("site", NotIn(texts(&[""])))], &[1, 2, 3]);
    check(&catalog, &[filter("site", Matches(regex("^n")))], &[1]);
    check(&catalog, &[filter("site", Matches(regex("^$")))], &[4]);
    check(&catalog, &[filter("site", Matches(regex(".*")))], &[1, 2, 3, 4]);
    check(&catalog, &[filter("site", NotMatches(regex("^n")))], &[2, 3, 4]);
    check(&catalog, &[filter("site", NotMatches(regex("^$")))], &[1, 2, 3]);
    check(&catalog, &[filter("unheard", In(texts(&["x"])))], &[]);
    check(&catalog, &[filter("unheard", NotIn(texts(&["x"])))], &[1, 2, 3, 4]);
    let both = [filter("site", In(texts(&["south"]))), filter("device", NotIn(texts(&["inv-2"])))];
    check(&catalog, &both, &[3]);
}

#[test]
fn keys_and_values_are_listed_in_order() {
    let catalog = Catalog::default();
    catalog.apply(&homes());
    assert_eq!(catalog.tag_keys(M).unwrap(), ["device", "site"]);
    assert_eq!(catalog.tag_values(M, "site").unwrap(), ["north", "south"]);
    assert_eq!(catalog.tag_values(M, "unheard").unwrap(), [""; 0]);
    assert_eq!((catalog.series_count(M), catalog.series_total()), (4, 4));
    assert_eq!(catalog.series_count(MeasurementId(2)), 0);
}

#[test]
fn series_out_of_order_are_found_by_key_and_by_id() {
    // A catalog that is rebuilt from segments learns series in no order.
    let catalog = Catalog::default();
    let mut all = homes();
    all.reverse();
    all.swap(1, 2);
    catalog.apply(&all);
    for definition in &all {
        let Definition::Series { id, measurement, tags } = definition else { unreachable!() };
        assert_eq!(catalog.series(*measurement, tags).unwrap(), Some(*id));
        assert_eq!(catalog.series_tags(*id).unwrap(), Some((*measurement, tags.clone())));
    }
}

#[test]
fn an_expression_too_large_is_refused() {
    assert!(compile_regex("(((a{100}){100}){100})").is_err());
    assert!(compile_regex("(").is_err());
}

#[test]
fn names_in_several_files_are_read_in_any_order() {
    let sim = SimDisk::new(1);
    sim.create_dir("catalog").unwrap();
    let disk: Arc<dyn Disk> = Arc::new(sim);
    let catalog = Catalog::default();
    let tags_of =
        |id: u32| tags([("device", &*format!("device-{id:05}")), ("site", ["n", "s"][id as usize % 2])]);
    // Two files of many blocks, a layer, and ids that nobody has between them.
    for (part, ids) in [10..1500, 1600..3000, 3000..3100].into_iter().enumerate() {
        let given: Vec<Definition> = ids.map(|id| series(id, tags_of(id))).collect();
        assert_eq!(catalog.apply(&given).changed, given.len() as u64);
        if part < 2 {
            let file = CatalogFileId(part as u64 + 1);
            catalog.adopt(catalog.write_unsealed(&disk, StoreId([7; 16]), file).unwrap().unwrap());
        }
    }
    let expected = |id: u32| match id {
        0..10 | 1500..1600 | 3100.. => None,
        _ => Some((M, tags_of(id))),
    };
    let mut reader = SeriesReader::new(&catalog);
    let rising = 0..3110;
    let falling = (0..3110).rev();
    let jumping = (0..3110).map(|step| step * 389 % 3110);
    for id in rising.chain(falling).chain(jumping) {
        assert_eq!(reader.tags(SeriesId(id)).unwrap(), expected(id), "series {id}");
    }
    // What is looked for by a value, at the borders of files and blocks as elsewhere.
    for id in (10..3100).filter(|id| expected(*id).is_some()) {
        check(&catalog, &[filter("device", SeriesPredicate::In(vec![format!("device-{id:05}")]))], &[id]);
    }
    check(&catalog, &[filter("device", SeriesPredicate::In(texts(&["device-01550", "", "z"])))], &[]);
    assert_eq!(catalog.tag_keys(M).unwrap(), ["device", "site"]);
    assert_eq!(catalog.tag_values(M, "device").unwrap().len(), 1490 + 1400 + 100);
    assert_eq!(catalog.tag_values(M, "site").unwrap(), ["n", "s"]);
}
