//! Between memory and files: opening, sealing what is new, publishing.
//!
//! A seal takes three steps: [`Catalog::write_unsealed`] makes a file of all layers, durable but named by nothing; the
//! manifest names it; [`Catalog::adopt`] lets readers use it and drops the layers. If the seal fails before the last step
//! the layers stay, and the next seal takes them along.

use super::cache::KeyCache;
use super::file::CatalogFile;
use super::layer::Layer;
use super::layout::file_id_of;
use super::merge::{Sources, write_file};
use super::names::Outcome;
use super::{Catalog, CatalogError, Definition, series_key};
use crate::error::Damage;
use crate::ids::{CatalogFileId, FieldId, SeriesId, StoreId};
use crate::io::{Disk, ReadMode};
use crate::manifest::CatalogEntry;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Most catalog files; a seal that would make one more merges all into one.
pub const MAX_FILES: usize = 8;

/// A catalog file that is durable and waits to be named by the manifest.
#[derive(Debug)]
pub struct SealedCatalog {
    file: Arc<CatalogFile>,
    layers: Vec<Arc<Layer>>,
    replaces: Vec<CatalogFileId>,
}

impl SealedCatalog {
    /// What the manifest has to say of it.
    pub fn entry(&self) -> &CatalogEntry {
        self.file.entry()
    }

    /// Files it takes the place of.
    pub fn replaces(&self) -> &[CatalogFileId] {
        &self.replaces
    }
}

/// A catalog over the files that could be opened.
#[derive(Debug)]
pub struct OpenedCatalog {
    /// The catalog.
    pub catalog: Catalog,
    /// What was wrong with the files that are left out.
    pub damage: Vec<Damage>,
    /// The newest file that told of a field, and so of what it means.
    pub told: HashMap<FieldId, CatalogFileId>,
    /// What whole files say of names that stand in a lost one, in their order: to be applied when those are known again.
    pub pending: Vec<Definition>,
}

/// Series of files that are to be given up.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    /// The files.
    pub(crate) files: Vec<CatalogFileId>,
    /// Ids that nothing has named so far.
    pub(crate) missing: RoaringBitmap,
    /// Canonical keys of the others.
    series: BTreeMap<SeriesId, Vec<u8>>,
}

impl Salvage {
    fn take(&mut self, id: SeriesId, key: Vec<u8>) {
        if self.missing.remove(id.0) {
            self.series.insert(id, key);
        }
    }

    /// Takes the series that are still missing out of what a segment or a log tells.
    pub(crate) fn take_missing(&mut self, definitions: &[Definition]) {
        for definition in definitions {
            if let Definition::Series { id, measurement, tags } = definition
                && self.missing.contains(id.0)
            {
                let mut key = Vec::new();
                series_key(*measurement, tags, &mut key);
                self.take(*id, key);
            }
        }
    }
}

impl Catalog {
    /// A catalog over the files that the manifest names, oldest first. A file that is damaged is left out and reported:
    /// the names in it have to come from the log and from the segments.
    ///
    /// # Errors
    /// The system's, if it refuses file descriptors or memory: that says nothing of the file. `TooNew` for a file of a newer
    /// version, which only that can read.
    pub fn open(
        disk: &Arc<dyn Disk>,
        store: StoreId,
        mode: ReadMode,
        entries: &[CatalogEntry],
    ) -> Result<OpenedCatalog, CatalogError> {
        let catalog = Self { mode, ..Self::default() };
        let (mut damage, mut told, mut pending) = (Vec::new(), HashMap::new(), Vec::new());
        {
            let mut state = catalog.state.write();
            let mut files = Vec::with_capacity(entries.len());
            for entry in entries {
                match CatalogFile::open(disk, store, entry.id, mode) {
                    Ok((file, names)) => {
                        for definition in &names {
                            if state.apply(definition) == Outcome::Refused {
                                pending.push(definition.clone());
                            }
                            if let Definition::Field { id, .. } | Definition::Meaning { field: id, .. } =
                                definition
                            {
                                told.insert(*id, entry.id);
                            }
                        }
                        state.active.names.clear();
                        state.next.series =
                            state.next.series.max(file.ids.max().map_or(1, |id| id.saturating_add(1)));
                        files.push(Arc::new(file));
                    }
                    Err(error) if error.refuses_opening() => return Err(error),
                    Err(error) => {
                        state.lost.push(entry.id);
                        damage.push(damage_of(error));
                    }
                }
            }
            state.files = Arc::new(files);
        }
        Ok(OpenedCatalog { catalog, damage, told, pending })
    }

    /// Keeps damaged files named although they are not used: what they alone may tell was not found elsewhere.
    pub(crate) fn keep_lost_files(&self) {
        self.state.write().lost.clear();
    }

    /// The catalog files that lie in the folder and are whole, oldest first: for a store whose manifest is lost.
    ///
    /// # Errors
    /// The disk's, if the folder cannot be listed or the system refuses file descriptors or memory; `TooNew`.
    pub fn list_files(
        disk: &Arc<dyn Disk>,
        store: StoreId,
        mode: ReadMode,
    ) -> Result<Vec<CatalogEntry>, CatalogError> {
        let listed =
            disk.list("catalog").map_err(|source| CatalogError::Io { file: "catalog".to_owned(), source })?;
        let mut ids: Vec<CatalogFileId> = listed.iter().filter_map(|entry| file_id_of(&entry.name)).collect();
        ids.sort_unstable();
        let mut whole: Vec<CatalogFile> = Vec::new();
        for id in ids {
            match CatalogFile::open(disk, store, id, mode) {
                Ok((file, _)) => {
                    // A merged file and those it was made of may both be there: the newer one holds all of theirs.
                    whole.retain(|older| !older.ids.is_subset(&file.ids) || older.ids.is_empty());
                    whole.push(file);
                }
                Err(error) if error.refuses_opening() => return Err(error),
                Err(error) => {
                    tracing::warn!(id = id.0, %error, "a catalog file is not whole and is left out");
                }
            }
        }
        Ok(whole.iter().map(|file| *file.entry()).collect())
    }

    /// Files in use.
    pub(crate) fn file_entries(&self) -> Vec<CatalogEntry> {
        self.state.read().files.iter().map(|file| *file.entry()).collect()
    }

    /// A file in use is not what was written, as its reader may not have noticed yet.
    pub(crate) fn distrust(&self, id: CatalogFileId) {
        let files = self.state.read().files.clone();
        files.iter().filter(|file| file.entry().id == id).for_each(|file| file.distrust());
    }

    /// Files in use of which a block could not be used.
    pub(crate) fn broken_files(&self) -> Vec<CatalogFileId> {
        let files = self.state.read().files.clone();
        files.iter().filter(|file| file.is_broken()).map(|file| file.entry().id).collect()
    }

    /// What can still be read of the files that are broken.
    pub(crate) fn salvage_broken(&self) -> Salvage {
        let files = self.state.read().files.clone();
        let mut salvage = Salvage::default();
        for file in files.iter().filter(|file| file.is_broken()) {
            salvage.files.push(file.entry().id);
            salvage.missing |= &file.ids;
            for (id, key) in file.series().flatten() {
                salvage.take(id, key);
            }
        }
        salvage
    }

    /// Gives up the files of `salvage` and keeps its series in memory, in one step. The next file that is written takes
    /// their place; other names than those of series are all in memory anyway.
    pub(crate) fn replace_files(&self, salvage: Salvage) {
        let mut layer = Layer::new(self.hasher.clone());
        for (id, key) in &salvage.series {
            // Rising by id, so nothing is moved.
            layer.insert(*id, key);
        }
        let mut state = self.state.write();
        let kept = state.files.iter().filter(|file| !salvage.files.contains(&file.entry().id)).cloned();
        state.files = Arc::new(kept.collect());
        state.lost.extend_from_slice(&salvage.files);
        state.sealing.insert(0, Arc::new(layer));
        drop(state);
        // It may know keys of series that are lost.
        *self.cache.write() = KeyCache::default();
    }

    /// Writes everything that no file holds yet to the file `id`, durable on return; with more than [`MAX_FILES`] files
    /// everything that they hold as well. None if there is nothing new.
    ///
    /// # Errors
    /// The disk's. Nothing changed for readers; the next call takes the same definitions and those that came since.
    pub fn write_unsealed(
        &self,
        disk: &Arc<dyn Disk>,
        store: StoreId,
        id: CatalogFileId,
    ) -> io::Result<Option<SealedCatalog>> {
        let (layers, files, all_names, lost) = {
            let mut state = self.state.write();
            if !state.active.is_empty() {
                let active = std::mem::replace(&mut state.active, Layer::new(self.hasher.clone()));
                state.sealing.push(Arc::new(active));
            }
            (state.sealing.clone(), state.files.clone(), state.names.definitions(), state.lost.clone())
        };
        if layers.is_empty() && lost.is_empty() {
            return Ok(None);
        }
        let mut replaces = lost.clone();
        let mut written = None;
        if files.len() >= MAX_FILES {
            let sources = Sources { files: files.to_vec(), layers: layers.clone() };
            match write_file(&**disk, store, id, &all_names, &sources) {
                Ok(_) => {
                    replaces.extend(files.iter().map(|file| file.entry().id));
                    written = Some(());
                }
                // Merging is for speed alone; a block that cannot be read must not stop the seal.
                Err(error) if !self.broken_files().is_empty() => {
                    tracing::error!(%error, "catalog files are not merged: one is damaged");
                }
                Err(error) => return Err(io_error(error)),
            }
        }
        if written.is_none() {
            // A file that is lost held names too.
            let names = match lost.as_slice() {
                [] => layers.iter().flat_map(|layer| layer.names.iter().cloned()).collect(),
                _ => all_names,
            };
            let sources = Sources { files: Vec::new(), layers: layers.clone() };
            write_file(&**disk, store, id, &names, &sources).map_err(io_error)?;
        }
        let (file, _) = CatalogFile::open(disk, store, id, self.mode).map_err(io_error)?;
        Ok(Some(SealedCatalog { file: Arc::new(file), layers, replaces }))
    }

    /// Lets readers use a file that the manifest names now. Series that were in memory stay known by their keys while
    /// the cache has room.
    pub fn adopt(&self, sealed: SealedCatalog) {
        let SealedCatalog { file, layers, replaces } = sealed;
        {
            let mut cache = self.cache.write();
            for (id, key) in layers.iter().flat_map(|layer| layer.series()) {
                cache.insert(&self.hasher, key, id);
            }
        }
        let mut state = self.state.write();
        let mut files = state.files.to_vec();
        files.retain(|file| !replaces.contains(&file.entry().id));
        state.lost.retain(|id| !replaces.contains(id));
        files.push(file);
        state.files = Arc::new(files);
        state.sealing.retain(|layer| !layers.iter().any(|sealed| Arc::ptr_eq(layer, sealed)));
    }
}

fn damage_of(error: CatalogError) -> Damage {
    match error {
        CatalogError::Damage(damage) | CatalogError::TooNew(damage) => damage,
        CatalogError::Io { file, source } => {
            tracing::error!(%file, error = %source, "a catalog file cannot be read");
            Damage { file, offset: 0, part: "catalog file", expected: 1, found: 0 }
        }
    }
}

fn io_error(error: CatalogError) -> io::Error {
    match error {
        CatalogError::Io { file, source } => io::Error::new(source.kind(), format!("{file}: {source}")),
        CatalogError::Damage(damage) | CatalogError::TooNew(damage) => {
            io::Error::new(io::ErrorKind::InvalidData, damage)
        }
    }
}
