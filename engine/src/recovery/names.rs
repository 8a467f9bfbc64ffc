//! Names that segments tell: what no catalog file says any more.

use super::refusal::{damage_of, refuses_opening, segment_refused};
use super::report::RecoveryReport;
use crate::catalog::{Definition, OpenedCatalog};
use crate::error::OpenError;
use crate::segment::{SegmentError, SegmentHandle};
use hashbrown::HashSet;
use std::sync::Arc;

/// Segments hold the names of all they contain: what no catalog file tells is taken from them. Of what a field means the word
/// of the newest file counts, be it a segment or a catalog file. A damaged catalog file is not replaced if a segment cannot be
/// read either.
pub(super) fn names_from_segments<'a>(
    opened: &OpenedCatalog,
    segments: impl Iterator<Item = &'a Arc<SegmentHandle>>,
    report: &mut RecoveryReport,
) -> Result<(), OpenError> {
    let mut newest_first: Vec<_> = segments.collect();
    newest_first.sort_by_key(|handle| std::cmp::Reverse(handle.entry().id));
    let OpenedCatalog { catalog, told, pending, .. } = opened;
    let (mut heard, mut newer) = (HashSet::new(), Vec::new());
    for handle in newest_first {
        let mut definitions = Vec::new();
        match names_of(handle, &mut definitions) {
            Ok(()) => {}
            Err(error) if refuses_opening(&error) => return Err(segment_refused(error)),
            Err(error) => {
                report.damage.push(damage_of(&handle.entry().path(), &error));
                catalog.keep_lost_files();
            }
        }
        // Segments and catalog files are numbered in one row.
        let id = handle.entry().id.0;
        let (meanings, names): (Vec<_>, Vec<_>) =
            definitions.into_iter().partition(|d| matches!(d, Definition::Meaning { .. }));
        catalog.apply(&names);
        newer.extend(meanings.into_iter().filter(|definition| match definition {
            Definition::Meaning { field, .. } => {
                heard.insert(*field) && told.get(field).is_none_or(|file| file.0 < id)
            }
            _ => false,
        }));
    }
    catalog.apply(pending);
    catalog.apply(&newer);
    Ok(())
}

/// Adds what a segment says of the names of all it holds. On an error, what could be read of it.
pub(crate) fn names_of(
    handle: &Arc<SegmentHandle>,
    definitions: &mut Vec<Definition>,
) -> Result<(), SegmentError> {
    let segment = handle.open()?;
    let spec = segment.spec();
    let (database, policy) = &spec.namespace_name;
    let namespace = spec.namespace;
    let (database, policy) = (Arc::from(database.as_str()), Arc::from(policy.as_str()));
    definitions.push(Definition::Namespace { id: namespace, database, policy });
    let mut read = Ok(());
    for section in segment.sections()? {
        let measurement = section.measurement();
        definitions.push(Definition::Measurement {
            id: measurement,
            namespace,
            name: section.name().clone(),
        });
        for field in section.fields().iter() {
            let (id, name, field_type) = (field.id, field.name.clone(), field.field_type);
            definitions.push(Definition::Field { id, measurement, name, field_type });
            definitions.push(Definition::Meaning { field: id, unit: field.unit.clone(), kind: field.kind });
        }
        let series = segment.series_keys(&section, &mut |id, tags| {
            definitions.push(Definition::Series { id, measurement, tags });
        });
        read = read.and(series);
    }
    read
}
