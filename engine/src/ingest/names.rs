//! Ids for new names, and which definitions the current log has not told yet: the writer thread's bookkeeping.
//!
//! Invariants
//! 1. An id is given once, even if the record that defines it never becomes durable.
//! 2. Before a log holds a record that uses a namespace, measurement, series or field, it holds its definition.

use super::prepare::{GivenIds, NewNames, PROVISIONAL, Prepared};
use crate::catalog::{Catalog, CatalogError, Definition, SeriesReader};
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
    /// How many of them are new, by measurement.
    field_counts: HashMap<MeasurementId, usize>,
    series: HashMap<(MeasurementId, TagSet), SeriesId>,
    /// All of them, in the order in which they were given.
    pub(super) definitions: Vec<Definition>,
}

/// How much a store may name.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    /// Series of the store.
    pub(super) series: u32,
    /// Fields of a measurement.
    pub(super) fields: u32,
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
        room: Room,
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
            given.fields.push(self.field(catalog, next, measurement, (name, *field_type), room));
        }
        let known = if new.series.is_empty() { 0 } else { catalog.series_total() };
        for (measurement, tags) in &new.series {
            let measurement = final_measurement(*measurement, &given);
            let full = known + self.series.len() as u64 >= u64::from(room.series);
            given.series.push(self.series(catalog, next, measurement, tags, full)?);
        }
        given.room = room;
        Ok(given)
    }

    /// The id of a measurement, given now if it has none.
    pub(super) fn measurement(
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
        (name, field_type): (&Arc<str>, FieldType),
        room: Room,
    ) -> Option<(FieldId, FieldType)> {
        if let Some(field) = catalog.field(measurement, name) {
            return Some((field.id, field.field_type));
        }
        let key = (measurement, name.clone());
        if let Some(field) = self.fields.get(&key) {
            return Some(*field);
        }
        let pending = self.field_counts.entry(measurement).or_default();
        if catalog.fields(measurement).len() + *pending >= room.fields as usize {
            return None;
        }
        *pending += 1;
        let id = FieldId(take(&mut next.field));
        self.definitions.push(Definition::Field { id, measurement, name: name.clone(), field_type });
        self.fields.insert(key, (id, field_type));
        Some((id, field_type))
    }

    fn series(
        &mut self,
        catalog: &Catalog,
        next: &mut NextIds,
        measurement: MeasurementId,
        tags: &TagSet,
        full: bool,
    ) -> Result<Option<SeriesId>, CatalogError> {
        if let Some(id) = catalog.series(measurement, tags)? {
            return Ok(Some(id));
        }
        let key = (measurement, tags.clone());
        if let Some(id) = self.series.get(&key) {
            return Ok(Some(*id));
        }
        if full {
            return Ok(None);
        }
        let id = SeriesId(take(&mut next.series));
        self.definitions.push(Definition::Series { id, measurement, tags: tags.clone() });
        self.series.insert(key, id);
        Ok(Some(id))
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
        &self,
        catalog: &Catalog,
        prepared: &Prepared,
    ) -> Result<Vec<Definition>, CatalogError> {
        let mut missing = Vec::new();
        // What can fail comes first: a log is noted to hold only what it is about to be given.
        let mut series = RoaringBitmap::new();
        let mut names = SeriesReader::new(catalog);
        for batch in &prepared.batches {
            if !self.series.contains(batch.series.0) && series.insert(batch.series.0) {
                let definition = names.definition(batch.series)?.ok_or_else(|| CatalogError::Io {
                    file: "catalog".to_owned(),
                    source: std::io::Error::other(format!(
                        "series {} has lost its name: send it again",
                        batch.series
                    )),
                })?;
                missing.push(definition);
            }
        }
        let series_definitions = std::mem::take(&mut missing);
        if !self.namespaces.contains(prepared.namespace.0) {
            missing.extend(catalog.define_namespace(prepared.namespace));
        }
        let (mut measurements, mut fields) = (RoaringBitmap::new(), RoaringBitmap::new());
        for batch in &prepared.batches {
            if !self.measurements.contains(batch.measurement.0) && measurements.insert(batch.measurement.0) {
                missing.extend(catalog.define_measurement(batch.measurement));
            }
            for (field, _) in &batch.columns {
                if !self.fields.contains(field.0) && fields.insert(field.0) {
                    missing.extend(catalog.define_field(*field));
                }
            }
        }
        missing.extend(series_definitions);
        Ok(missing)
    }
}

fn take(next: &mut u32) -> u32 {
    let id = *next;
    *next += 1;
    assert!(id < PROVISIONAL, "two billion names were given");
    id
}
