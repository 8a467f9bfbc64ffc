//! Ids for new names, and which definitions the current log has not told yet: the writer thread's bookkeeping.
//!
//! Invariants
//! 1. An id is given once, even if the record that defines it never becomes durable.
//! 2. Before a log holds a record that uses a namespace, measurement, series or field, it holds its definition.

use super::prepare::{GivenIds, NewNames, PROVISIONAL, Prepared};
use crate::catalog::{Catalog, CatalogError, Definition};
use crate::ids::{FieldId, MeasurementId, NamespaceId, NextIds, SeriesId};
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::sync::Arc;
use wattlog_model::{FieldType, TagSet};

/// Names that got their id in a group which is not durable yet: not in the catalog, but no longer new.
#[derive(Debug, Default)]
pub(super) struct PendingNames {
    namespaces: HashMap<(Arc<str>, Arc<str>), NamespaceId>,
    measurements: HashMap<(NamespaceId, Arc<str>), MeasurementId>,
    fields: HashMap<(MeasurementId, Arc<str>), (FieldId, FieldType)>,
    series: HashMap<(MeasurementId, TagSet), SeriesId>,
    /// All of them, in the order in which they were given.
    pub(super) definitions: Vec<Definition>,
}

/// What the current log has defined.
#[derive(Debug, Default)]
pub(super) struct DefinedInLog {
    namespaces: RoaringBitmap,
    measurements: RoaringBitmap,
    fields: RoaringBitmap,
    series: RoaringBitmap,
}

impl PendingNames {
    /// The id of a namespace, given now if it has none.
    pub(super) fn namespace(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        database: &str,
        policy: &str,
    ) -> NamespaceId {
        if let Some(id) = catalog.namespace(database, Some(policy)) {
            return id;
        }
        let key = (Arc::from(database), Arc::from(policy));
        if let Some(id) = self.namespaces.get(&key) {
            return *id;
        }
        let id = NamespaceId(take(&mut next.namespace));
        let (database, policy) = key.clone();
        self.definitions.push(Definition::Namespace { id, database, policy });
        self.namespaces.insert(key, id);
        id
    }

    /// Finds or gives the ids of everything in `new`, as of this place in the commit order.
    pub(super) fn give(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        namespace: NamespaceId,
        new: &NewNames,
    ) -> Result<GivenIds, CatalogError> {
        let mut given = GivenIds::default();
        for name in &new.measurements {
            given.measurements.push(self.measurement(catalog, next, namespace, name));
        }
        let final_measurement = |id: MeasurementId, given: &GivenIds| match id.0.checked_sub(PROVISIONAL) {
            Some(index) => given.measurements[index as usize],
            None => id,
        };
        for (measurement, name, field_type) in &new.fields {
            let measurement = final_measurement(*measurement, &given);
            given.fields.push(self.field(catalog, next, measurement, name, *field_type));
        }
        for (measurement, tags) in &new.series {
            let measurement = final_measurement(*measurement, &given);
            given.series.push(self.series(catalog, next, measurement, tags)?);
        }
        Ok(given)
    }

    fn measurement(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        namespace: NamespaceId,
        name: &Arc<str>,
    ) -> MeasurementId {
        if let Some(id) = catalog.measurement(namespace, name) {
            return id;
        }
        let definitions = &mut self.definitions;
        *self.measurements.entry((namespace, name.clone())).or_insert_with(|| {
            let id = MeasurementId(take(&mut next.measurement));
            definitions.push(Definition::Measurement { id, namespace, name: name.clone() });
            id
        })
    }

    fn field(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        measurement: MeasurementId,
        name: &Arc<str>,
        field_type: FieldType,
    ) -> (FieldId, FieldType) {
        if let Some(field) = catalog.field(measurement, name) {
            return (field.id, field.field_type);
        }
        let definitions = &mut self.definitions;
        *self.fields.entry((measurement, name.clone())).or_insert_with(|| {
            let id = FieldId(take(&mut next.field));
            definitions.push(Definition::Field { id, measurement, name: name.clone(), field_type });
            (id, field_type)
        })
    }

    fn series(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        measurement: MeasurementId,
        tags: &TagSet,
    ) -> Result<SeriesId, CatalogError> {
        if let Some(id) = catalog.series(measurement, tags)? {
            return Ok(id);
        }
        let definitions = &mut self.definitions;
        Ok(*self.series.entry((measurement, tags.clone())).or_insert_with(|| {
            let id = SeriesId(take(&mut next.series));
            definitions.push(Definition::Series { id, measurement, tags: tags.clone() });
            id
        }))
    }
}

impl DefinedInLog {
    /// Notes definitions that were just added to the log.
    pub(super) fn note(&mut self, definitions: &[Definition]) {
        for definition in definitions {
            match definition {
                Definition::Namespace { id, .. } => self.namespaces.insert(id.0),
                Definition::Measurement { id, .. } => self.measurements.insert(id.0),
                Definition::Field { id, .. } => self.fields.insert(id.0),
                Definition::Series { id, .. } => self.series.insert(id.0),
                Definition::Meaning { .. } => false,
            };
        }
    }

    /// Definitions of known names that `prepared` uses and the log does not hold yet.
    pub(super) fn missing(
        &mut self,
        catalog: &Catalog,
        prepared: &Prepared,
    ) -> Result<Vec<Definition>, CatalogError> {
        let mut missing = Vec::new();
        if self.namespaces.insert(prepared.namespace.0) {
            missing.extend(catalog.define_namespace(prepared.namespace));
        }
        for batch in &prepared.batches {
            if self.measurements.insert(batch.measurement.0) {
                missing.extend(catalog.define_measurement(batch.measurement));
            }
            if self.series.insert(batch.series.0) {
                missing.extend(catalog.define_series(batch.series)?);
            }
            for (field, _) in &batch.columns {
                if self.fields.insert(field.0) {
                    missing.extend(catalog.define_field(*field));
                }
            }
        }
        Ok(missing)
    }
}

fn take(next: &mut u32) -> u32 {
    let id = *next;
    *next += 1;
    assert!(id < PROVISIONAL, "two billion names were given");
    id
}
