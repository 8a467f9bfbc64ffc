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

mod build;
mod cache;
mod definition;
mod file;
mod filter;
mod key;
mod layer;
mod layout;
mod merge;
mod names;
mod reader;
mod sealed;

pub use definition::{Definition, InvalidDefinition, decode_definitions, encode_definitions};
pub use filter::{MAX_REGEX_BYTES, SeriesFilter, SeriesPredicate, compile_regex};
pub use key::series_key;
pub use layout::file_path;
pub use layout::{DIRECTORY_PARTS, FOOTER_PARTS};
pub use sealed::{MAX_FILES, OpenedCatalog, SealedCatalog};

pub(crate) use file::{CatalogFile, decode_names};
pub(crate) use key::{key_hash, parse_key};
pub(crate) use layout::{
    BlockEntry, BlockKind, DIRECTORY_ENTRY_LEN, FOOTER_LEN, HASH_ENTRY_LEN, Posting, read_postings,
    read_series,
};
pub(crate) use reader::SeriesReader;

use crate::error::Damage;
use crate::file_header::HeaderError;
use crate::ids::{CatalogFileId, FieldId, MeasurementId, NamespaceId, NextIds, SeriesId};
use crate::io::ReadMode;
use crate::segment::FieldDef;
use cache::KeyCache;
use hashbrown::DefaultHashBuilder;
use layer::Layer;
use names::{Names, Outcome};
use parking_lot::RwLock;
use roaring::RoaringBitmap;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
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
    /// It is whole, and a newer version wrote it.
    #[error("written by a newer version: {0}")]
    TooNew(Damage),
}

impl CatalogError {
    /// Whether it says nothing of the file: the process has too many files open, or too little memory.
    pub(crate) fn is_for_want_of_resources(&self) -> bool {
        let Self::Io { source, .. } = self else { return false };
        crate::io::os_code(source).is_some_and(crate::io::is_want_of_resources)
    }

    /// Whether the store must not be opened for it: nothing is wrong with the file, so nothing may take its place.
    pub(crate) fn refuses_opening(&self) -> bool {
        self.is_for_want_of_resources() || matches!(self, Self::TooNew(_))
    }
}

impl From<HeaderError> for CatalogError {
    fn from(error: HeaderError) -> Self {
        match error {
            HeaderError::Damage(damage) => Self::Damage(damage),
            HeaderError::TooNew(damage) => Self::TooNew(damage),
        }
    }
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
#[derive(Debug)]
pub struct Catalog {
    state: RwLock<State>,
    /// Keys of sealed series. Taken after `state` where both are held.
    cache: RwLock<KeyCache>,
    hasher: DefaultHashBuilder,
    mode: ReadMode,
}

#[derive(Debug, Default)]
struct State {
    names: Names,
    /// Sealed, oldest first. A shared list: questions to files are asked without the lock.
    files: Arc<Vec<Arc<CatalogFile>>>,
    /// Taken by a seal that has not published its file yet, oldest first.
    sealing: Vec<Arc<Layer>>,
    active: Layer,
    /// Files that the manifest names and that are not used any more, being damaged: the next file takes their place.
    lost: Vec<CatalogFileId>,
    next: NextIds,
}

impl Default for Catalog {
    fn default() -> Self {
        let hasher = DefaultHashBuilder::default();
        // Layers are asked with hashes that the catalog made: one hasher for all.
        let state = State { active: Layer::new(hasher.clone()), ..State::default() };
        Self { state: RwLock::new(state), cache: RwLock::default(), hasher, mode: ReadMode::default() }
    }
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

    /// Fields of a measurement by rising id, the order they were defined in; a shared list, nothing is copied.
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

    /// Id of the series with that canonical key (see [`series_key`]). In memory for new series and for those in use.
    pub fn series_by_key(&self, key: &[u8]) -> Result<Option<SeriesId>, CatalogError> {
        let hash = self.hasher.hash_one(key);
        let files = {
            let state = self.state.read();
            if let Some(id) = state.layers().find_map(|layer| layer.get(hash, key)) {
                return Ok(Some(id));
            }
            state.files.clone()
        };
        if files.is_empty() {
            return Ok(None);
        }
        if let Some(id) = self.cache.read().get(hash, key) {
            return Ok(Some(id));
        }
        for file in files.iter().rev() {
            if let Some(id) = file.series_by_key(key)? {
                self.cache.write().insert(&self.hasher, key, id);
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// Measurement and tags of a series. Who asks for many at a time takes a `SeriesReader`.
    pub fn series_tags(&self, id: SeriesId) -> Result<Option<(MeasurementId, TagSet)>, CatalogError> {
        SeriesReader::new(self).tags(id)
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
        let mut keys = BTreeSet::new();
        let files = self.each_layer(|layer| {
            let of_measurement = layer.postings(measurement).into_iter();
            keys.extend(of_measurement.flat_map(|p| p.keys.keys()).map(|key| String::from(&**key)));
        });
        for file in files.iter() {
            // One step a key, however many values it has: the next key follows `key` and a zero byte.
            let mut after = String::from("\0");
            while let Some(posting) = file.first_posting((measurement, &after, ""))? {
                if posting.measurement != measurement {
                    break;
                }
                after = format!("{}\0", posting.key);
                keys.insert(posting.key);
            }
        }
        Ok(keys.into_iter().collect())
    }

    /// Values of a tag in use, sorted.
    pub fn tag_values(&self, measurement: MeasurementId, key: &str) -> Result<Vec<String>, CatalogError> {
        let mut values = BTreeSet::new();
        let files = self.each_layer(|layer| {
            let of_key = layer.postings(measurement).and_then(|p| p.keys.get(key)).into_iter();
            values.extend(of_key.flat_map(|p| p.values.keys()).map(|value| String::from(&**value)));
        });
        for file in files.iter() {
            for posting in file.postings_from((measurement, key, "\0"))? {
                let posting = posting?;
                if posting.measurement != measurement || posting.key != key {
                    break;
                }
                values.insert(posting.value);
            }
        }
        Ok(values.into_iter().collect())
    }

    /// Number of series of a measurement.
    pub fn series_count(&self, measurement: MeasurementId) -> u64 {
        let mut count = 0;
        let files = self.each_layer(|layer| count += layer.postings(measurement).map_or(0, |p| p.all.len()));
        count + files.iter().map(|file| file.series_count(measurement)).sum::<u64>()
    }

    /// Number of series of the store.
    pub fn series_total(&self) -> u64 {
        let mut count = 0;
        let files = self.each_layer(|layer| count += layer.len() as u64);
        count + files.iter().map(|file| file.ids.len()).sum::<u64>()
    }

    /// Number of series that no file holds yet.
    pub fn unsealed_series(&self) -> u64 {
        let mut count = 0;
        self.each_layer(|layer| count += layer.len() as u64);
        count
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

    /// Shows every layer to `visit`, and gives the files as they were at that moment.
    fn each_layer(&self, visit: impl FnMut(&Layer)) -> Arc<Vec<Arc<CatalogFile>>> {
        let state = self.state.read();
        state.layers().for_each(visit);
        state.files.clone()
    }

    fn all_series(&self, measurement: MeasurementId) -> Result<RoaringBitmap, CatalogError> {
        let mut all = RoaringBitmap::new();
        let files = self.each_layer(|layer| {
            layer.postings(measurement).into_iter().for_each(|postings| all |= &postings.all);
        });
        for file in files.iter() {
            file.add_posting((measurement, "", ""), &mut all)?;
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
        let SeriesFilter { key, predicate } = filter;
        // Series with a value that is named (or accepted, for an expression), and series that have the key at all.
        let mut hit = RoaringBitmap::new();
        let mut with_key = RoaringBitmap::new();
        let files = self.each_layer(|layer| {
            let Some(postings) = layer.postings(measurement).and_then(|p| p.keys.get(&**key)) else { return };
            with_key |= &postings.all;
            match predicate.named() {
                Some((values, _)) => {
                    let named = values.iter().filter_map(|value| postings.values.get(&**value));
                    named.for_each(|posting| posting.add_to(&mut hit));
                }
                None => {
                    let accepted = postings.values.iter().filter(|(value, _)| predicate.accepts(value));
                    accepted.for_each(|(_, posting)| posting.add_to(&mut hit));
                }
            }
        });
        for file in files.iter() {
            file.add_posting((measurement, key, ""), &mut with_key)?;
            match predicate.named() {
                Some((values, _)) => {
                    for value in values.iter().filter(|value| !value.is_empty()) {
                        file.add_posting((measurement, key, value), &mut hit)?;
                    }
                }
                None => {
                    for posting in file.postings_from((measurement, key, "\0"))? {
                        let posting = posting?;
                        if posting.measurement != measurement || posting.key != *key {
                            break;
                        }
                        if predicate.accepts(&posting.value) {
                            file.add_ids(&posting.ids, &mut hit)?;
                        }
                    }
                }
            }
        }
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
        if self.files.iter().any(|file| file.ids.contains(id.0)) {
            return Outcome::Known;
        }
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
