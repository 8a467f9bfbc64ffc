//! Points in logs of which nothing says whose they are: the record that defined their series or field is damaged.
//!
//! Promise: they cost themselves and nothing else. Left in memory, they would make each seal fail, and no log could be
//! retired again; so they are taken out when the store is opened, told as damage, and their records are set aside.
//!
//! Definitions are repeated in each log, so one may come after the points: all logs are replayed before this is asked.

use crate::catalog::Catalog;
use crate::ids::{MeasurementId, NamespaceId, NextIds, SeriesId};
use crate::memtable::{Memtable, SeriesBatch};
use std::collections::BTreeSet;

/// Whether a memtable has rows or columns that the catalog does not know.
pub(crate) fn is_in(catalog: &Catalog, memtable: &Memtable) -> bool {
    memtable.series_days().iter().any(|item| {
        let mut fields = BTreeSet::new();
        memtable.fields_of(item.series, &mut fields);
        let is_known = |id| catalog.field_by_id(id).is_some_and(|(of, _)| of == item.measurement);
        !is_series(catalog, item.namespace, item.measurement, item.series)
            || !fields.into_iter().all(is_known)
    })
}

/// Raises `next` above every id that points use.
pub(crate) fn note_ids(next: &mut NextIds, namespace: NamespaceId, batches: &[SeriesBatch]) {
    let above = |next: &mut u32, id: u32| *next = (*next).max(id.saturating_add(1));
    above(&mut next.namespace, namespace.0);
    for batch in batches {
        above(&mut next.measurement, batch.measurement.0);
        above(&mut next.series, batch.series.0);
        // Columns rise by their ids.
        if let Some((field, _)) = batch.columns.last() {
            above(&mut next.field, field.0);
        }
    }
}

/// Takes out what the catalog does not know; false if it knows all.
pub(crate) fn take_out(catalog: &Catalog, namespace: NamespaceId, batches: &mut Vec<SeriesBatch>) -> bool {
    let parts = |batches: &[SeriesBatch]| batches.iter().map(|batch| 1 + batch.columns.len()).sum::<usize>();
    let before = parts(batches);
    batches.retain_mut(|batch| {
        let SeriesBatch { series, measurement, columns, .. } = batch;
        columns.retain(|(id, column)| {
            catalog
                .field_by_id(*id)
                .is_some_and(|(of, def)| of == *measurement && def.field_type == column.values.field_type())
        });
        !columns.is_empty() && is_series(catalog, namespace, *measurement, *series)
    });
    parts(batches) != before
}

fn is_series(
    catalog: &Catalog,
    namespace: NamespaceId,
    measurement: MeasurementId,
    series: SeriesId,
) -> bool {
    let is_of_measurement = match catalog.series_tags(series) {
        Ok(found) => found.is_some_and(|(of, _)| of == measurement),
        // A catalog file that cannot be read now says nothing about it.
        Err(_) => true,
    };
    is_of_measurement && catalog.measurement_namespace(measurement) == Some(namespace)
}
