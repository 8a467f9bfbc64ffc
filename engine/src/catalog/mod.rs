//! Catalog: names to ids and back.
//!
//! Bytes: format-spec.md, "Catalog". Files: `catalog/cat-<id>.cat`, owned by this module alone.
//! Promise: an id once given stands for the same thing for ever; a definition is seen here only after it is durable.
//!
//! Invariants
//! 1. The writer alone applies definitions, after the sync that made them durable, in commit order. Readers never wait
//!    for a sync: the lock is held while tables in memory change, never across a call of the disk.
//! 2. Namespaces, measurements and fields are held whole. Series are held in memory until a seal has put them into a
//!    catalog file; from then on they are answered from its pages, and from a bounded cache of keys in use.
//! 3. Each series is in exactly one place: a file, a layer that a running seal writes, or the active layer. So results
//!    of the places are joined without sorting out duplicates.
//! 4. Applying a definition again changes nothing: replay repeats what files hold.
//!
//! Not here: who gives ids (`ingest`), when files are published (`manifest`, `seal`).

mod files_tmp;
pub(crate) use files_tmp::*;
mod definition;
mod filter;
mod key;
mod layer;
mod names;

pub use definition::{Definition, InvalidDefinition, decode_definitions, encode_definitions};
pub use filter::{MAX_REGEX_BYTES, SeriesFilter, SeriesPredicate, compile_regex};
pub use key::series_key;

use crate::error::Damage;
use crate::ids::{FieldId, MeasurementId, NamespaceId, NextIds, SeriesId};
use crate::segment::FieldDef;
use layer::Layer;
use names::{Names, Outcome};
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use wattlog_model::TagSet;

/// Name of the retention policy of a database that was asked for without one.
pub const DEFAULT_POLICY: &str = "autogen";

/// Why a catalog file gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The disk failed.
    #[error("read {file}")]
    Io {
        /// Path within the store.
        file: String,
        /// What the disk said.
        source: io::Error,
    },
    /// The file's bytes are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
}

/// What [`Catalog::apply`] did with a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied {
    /// Definitions that were new or changed a meaning.
    pub changed: u64,
    /// Definitions that contradict what is known, or speak of something unknown. Left out; only damage leads here.
    pub refused: u64,
}

/// The catalog of one store. Shared by reference; all methods may be called from any thread.
#[derive(Debug, Default)]
pub struct Catalog {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// Taken by a seal that has not published its file yet, oldest first.
    sealing: Vec<Arc<Layer>>,
    active: Layer,
    next: NextIds,
}

impl Catalog {
    /// Learns `definitions`, which are durable, in their order. The writer (or replay) alone calls this.
    pub fn apply(&self, definitions: &[Definition]) -> Applied {
        let mut state = self.state.write();
        let mut applied = Applied::default();
        for definition in definitions {
            match state.apply(definition) {
                Outcome::Changed => applied.changed += 1,
                Outcome::Known => {}
                Outcome::Refused => {
                    applied.refused += 1;
                    tracing::warn!(?definition, "a definition contradicts the catalog and is left out");
                }
            }
        }
        applied
    }

    /// The ids to give next: above all that were ever seen here.
    pub fn next_ids(&self) -> NextIds {
        self.state.read().next
    }

    /// Keeps ids below `next` from being given, whether anything here uses them or not.
    pub fn raise_next_ids(&self, next: NextIds) {
        let mut state = self.state.write();
        state.next = state.next.max(next);
    }

    /// Id of a database's retention policy; of `autogen` if none is named.
    pub fn namespace(&self, database: &str, policy: Option<&str>) -> Option<NamespaceId> {
        self.state.read().names.namespace(database, policy.unwrap_or(DEFAULT_POLICY))
    }

    /// All namespaces by rising id: id, database, retention policy.
    pub fn namespaces(&self) -> Vec<(NamespaceId, Arc<str>, Arc<str>)> {
        let state = self.state.read();
        state.names.namespaces().map(|n| (n.id, n.database.clone(), n.policy.clone())).collect()
    }

    /// Database and retention policy of a namespace.
    pub fn namespace_name(&self, id: NamespaceId) -> Option<(Arc<str>, Arc<str>)> {
        self.state.read().names.namespace_def(id).map(|n| (n.database.clone(), n.policy.clone()))
    }

    /// Id of a measurement by its name.
    pub fn measurement(&self, namespace: NamespaceId, name: &str) -> Option<MeasurementId> {
        self.state.read().names.measurement(namespace, name)
    }

    /// Name of a measurement.
    pub fn measurement_name(&self, id: MeasurementId) -> Option<Arc<str>> {
        self.state.read().names.measurement_name(id).map(|(_, name)| name)
    }

    /// Namespace of a measurement.
    pub fn measurement_namespace(&self, id: MeasurementId) -> Option<NamespaceId> {
        self.state.read().names.measurement_name(id).map(|(namespace, _)| namespace)
    }

    /// Measurements of a namespace, sorted by name.
    pub fn measurements(&self, namespace: NamespaceId) -> Vec<(MeasurementId, Arc<str>)> {
        self.state.read().names.measurements(namespace)
    }

    /// The field of that name; the newest, if it was dropped and written again.
    pub fn field(&self, measurement: MeasurementId, name: &str) -> Option<FieldDef> {
        self.state.read().names.field(measurement, name)
    }

    /// The field with that id, and the measurement it is of.
    pub fn field_by_id(&self, id: FieldId) -> Option<(MeasurementId, FieldDef)> {
        self.state.read().names.field_by_id(id).map(|(home, field)| (home, field.clone()))
    }

    /// Fields of a measurement in the order they were defined; a shared list, nothing is copied.
    pub fn fields(&self, measurement: MeasurementId) -> Arc<Vec<FieldDef>> {
        self.state.read().names.fields(measurement)
    }

    /// Id of the series with these tags.
    pub fn series(
        &self,
        measurement: MeasurementId,
        tags: &TagSet,
    ) -> Result<Option<SeriesId>, CatalogError> {
        thread_local! {
            static KEY: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        KEY.with_borrow_mut(|key| {
            series_key(measurement, tags, key);
            self.series_by_key(key)
        })
    }

    /// Id of the series with that canonical key (see [`series_key`]).
    pub fn series_by_key(&self, key: &[u8]) -> Result<Option<SeriesId>, CatalogError> {
        Ok(self.state.read().layers().find_map(|layer| layer.get(key)))
    }

    /// Measurement and tags of a series.
    pub fn series_tags(&self, id: SeriesId) -> Result<Option<(MeasurementId, TagSet)>, CatalogError> {
        Ok(self.state.read().layers().find_map(|layer| layer.key(id)).and_then(key::parse_key))
    }

    /// Series of a measurement whose tags satisfy all of `filters`, rising.
    pub fn select(
        &self,
        measurement: MeasurementId,
        filters: &[SeriesFilter],
    ) -> Result<Vec<SeriesId>, CatalogError> {
        let mut wanted = self.all_series(measurement)?;
        for filter in filters {
            if wanted.is_empty() {
                break;
            }
            self.narrow(measurement, filter, &mut wanted)?;
        }
        Ok(wanted.iter().map(SeriesId).collect())
    }

    /// Keys of the tags in use, sorted.
    pub fn tag_keys(&self, measurement: MeasurementId) -> Result<Vec<String>, CatalogError> {
        let state = self.state.read();
        let mut keys = BTreeSet::new();
        for postings in state.layers().filter_map(|layer| layer.postings(measurement)) {
            keys.extend(postings.keys.keys().map(|key| String::from(&**key)));
        }
        Ok(keys.into_iter().collect())
    }

    /// Values of a tag in use, sorted.
    pub fn tag_values(&self, measurement: MeasurementId, key: &str) -> Result<Vec<String>, CatalogError> {
        let state = self.state.read();
        let mut values = BTreeSet::new();
        for postings in state.layers().filter_map(|layer| layer.postings(measurement)?.keys.get(key)) {
            values.extend(postings.values.keys().map(|value| String::from(&**value)));
        }
        Ok(values.into_iter().collect())
    }

    /// Number of series of a measurement.
    pub fn series_count(&self, measurement: MeasurementId) -> u64 {
        let state = self.state.read();
        state.layers().filter_map(|layer| layer.postings(measurement)).map(|p| p.all.len()).sum()
    }

    /// Number of series of the store.
    pub fn series_total(&self) -> u64 {
        let state = self.state.read();
        state.layers().map(|layer| layer.len() as u64).sum()
    }

    /// The definition of a namespace, for a log that does not hold it yet.
    pub fn define_namespace(&self, id: NamespaceId) -> Option<Definition> {
        let (database, policy) = self.namespace_name(id)?;
        Some(Definition::Namespace { id, database, policy })
    }

    /// The definition of a measurement.
    pub fn define_measurement(&self, id: MeasurementId) -> Option<Definition> {
        let (namespace, name) = self.state.read().names.measurement_name(id)?;
        Some(Definition::Measurement { id, namespace, name })
    }

    /// The definition of a field, without its meaning.
    pub fn define_field(&self, id: FieldId) -> Option<Definition> {
        let (measurement, FieldDef { name, field_type, .. }) = self.field_by_id(id)?;
        Some(Definition::Field { id, measurement, name, field_type })
    }

    /// The definition of a series.
    pub fn define_series(&self, id: SeriesId) -> Result<Option<Definition>, CatalogError> {
        let found = self.series_tags(id)?;
        Ok(found.map(|(measurement, tags)| Definition::Series { id, measurement, tags }))
    }

    fn all_series(&self, measurement: MeasurementId) -> Result<RoaringBitmap, CatalogError> {
        let state = self.state.read();
        let mut all = RoaringBitmap::new();
        for postings in state.layers().filter_map(|layer| layer.postings(measurement)) {
            all |= &postings.all;
        }
        Ok(all)
    }

    /// Leaves in `wanted`, series of `measurement`, those that satisfy `filter`.
    fn narrow(
        &self,
        measurement: MeasurementId,
        filter: &SeriesFilter,
        wanted: &mut RoaringBitmap,
    ) -> Result<(), CatalogError> {
        let predicate = &filter.predicate;
        // Series with a value that is named (or accepted, for an expression), and series that have the key at all.
        let mut hit = RoaringBitmap::new();
        let mut with_key = RoaringBitmap::new();
        let state = self.state.read();
        for postings in state.layers().filter_map(|layer| layer.postings(measurement)?.keys.get(&*filter.key))
        {
            with_key |= &postings.all;
            match predicate.named() {
                Some((values, _)) => {
                    for posting in values.iter().filter_map(|value| postings.values.get(&**value)) {
                        posting.add_to(&mut hit);
                    }
                }
                None => {
                    for (_, posting) in postings.values.iter().filter(|(value, _)| predicate.accepts(value)) {
                        posting.add_to(&mut hit);
                    }
                }
            }
        }
        drop(state);
        let naming_is_wanting = predicate.named().is_none_or(|(_, wanting)| wanting);
        if !naming_is_wanting {
            // Of the series with the key, all but those with a named value.
            hit = &with_key - &hit;
        }
        if predicate.accepts("") {
            hit |= &*wanted - &with_key;
        }
        *wanted &= hit;
        Ok(())
    }
}

impl State {
    /// Newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.active).chain(self.sealing.iter().rev().map(|layer| &**layer))
    }

    fn apply(&mut self, definition: &Definition) -> Outcome {
        self.next = self.next.max(ids_after(definition));
        let Definition::Series { id, measurement, tags } = definition else {
            let outcome = self.names.apply(definition);
            if outcome == Outcome::Changed {
                self.active.names.push(definition.clone());
            }
            return outcome;
        };
        let mut key = Vec::new();
        series_key(*measurement, tags, &mut key);
        let known = self.layers().find_map(|layer| layer.key(*id)).map(|known| known == key);
        match known {
            Some(true) => Outcome::Known,
            Some(false) => Outcome::Refused,
            None if self.active.insert(*id, &key) => Outcome::Changed,
            None => Outcome::Refused,
        }
    }
}

/// The ids to give next if nothing but `definition` existed.
fn ids_after(definition: &Definition) -> NextIds {
    let mut next = NextIds::default();
    match definition {
        Definition::Namespace { id, .. } => next.namespace = id.0.saturating_add(1),
        Definition::Measurement { id, .. } => next.measurement = id.0.saturating_add(1),
        Definition::Field { id, .. } => next.field = id.0.saturating_add(1),
        Definition::Series { id, .. } => next.series = id.0.saturating_add(1),
        Definition::Meaning { .. } => {}
    }
    next
}

#[cfg(test)]
mod tests;
