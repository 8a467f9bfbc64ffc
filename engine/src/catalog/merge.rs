//! What goes into a new catalog file: layers of memory, and the files it takes the place of, joined in order.

use super::CatalogError;
use super::build::{FileBuilder, temporary_path};
use super::definition::Definition;
use super::file::CatalogFile;
use super::key::key_hash;
use super::layer::Layer;
use crate::ids::{CatalogFileId, MeasurementId, SeriesId, StoreId};
use crate::io::Disk;
use crate::manifest::CatalogEntry;
use roaring::RoaringBitmap;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Where the series of a new file come from. Each series is in one of them.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    pub(crate) files: Vec<Arc<CatalogFile>>,
    pub(crate) layers: Vec<Arc<Layer>>,
}

type Stream<'a, T> = Box<dyn Iterator<Item = Result<T, CatalogError>> + 'a>;
type Posted = (MeasurementId, String, String, RoaringBitmap);

/// Writes the file `id`, durable under its own name on return. On an error nothing of it is left, as far as the disk allows.
pub(crate) fn write_file(
    disk: &dyn Disk,
    store: StoreId,
    id: CatalogFileId,
    names: &[Definition],
    sources: &Sources,
) -> Result<CatalogEntry, CatalogError> {
    let result = stream(disk, store, id, names, sources);
    if result.is_err() {
        // Else it is an orphan, collected when the store opens.
        let _ = disk.remove(&temporary_path(id));
    }
    result
}

fn stream(
    disk: &dyn Disk,
    store: StoreId,
    id: CatalogFileId,
    names: &[Definition],
    sources: &Sources,
) -> Result<CatalogEntry, CatalogError> {
    let failed = |source: io::Error| CatalogError::Io { file: temporary_path(id), source };
    let mut builder = FileBuilder::create(disk, store, id).map_err(failed)?;
    builder.names(names, &sources.counts(), &sources.ids()).map_err(failed)?;
    for series in sources.series() {
        let (id, key) = series?;
        builder.series(id, &key).map_err(failed)?;
    }
    builder.end_series().map_err(failed)?;
    for hash in sources.hashes(store) {
        let (hash, id) = hash?;
        builder.hash(hash, id).map_err(failed)?;
    }
    builder.end_hashes().map_err(failed)?;
    let mut open: Option<Posted> = None;
    for posted in sources.postings()? {
        let posted = posted?;
        match &mut open {
            Some(last) if place(last) == place(&posted) => last.3 |= posted.3,
            _ => {
                if let Some(last) = open.replace(posted) {
                    builder.posting(place(&last), &last.3).map_err(failed)?;
                }
            }
        }
    }
    if let Some(last) = open {
        builder.posting(place(&last), &last.3).map_err(failed)?;
    }
    builder.finish(disk).map_err(failed)
}

fn place(posted: &Posted) -> (MeasurementId, &str, &str) {
    (posted.0, &posted.1, &posted.2)
}

impl Sources {
    fn ids(&self) -> RoaringBitmap {
        let mut ids = RoaringBitmap::new();
        self.files.iter().for_each(|file| ids |= &file.ids);
        self.layers.iter().for_each(|layer| ids.extend(layer.series().map(|(id, _)| id.0)));
        ids
    }

    fn counts(&self) -> Vec<(MeasurementId, u64)> {
        let mut counts: BTreeMap<MeasurementId, u64> = BTreeMap::new();
        for (measurement, count) in self.files.iter().flat_map(|file| file.counts()) {
            *counts.entry(measurement).or_default() += count;
        }
        for (measurement, postings) in self.layers.iter().flat_map(|layer| layer.all_postings()) {
            *counts.entry(measurement).or_default() += postings.all.len();
        }
        counts.into_iter().collect()
    }

    fn series(&self) -> impl Iterator<Item = Result<(SeriesId, Vec<u8>), CatalogError>> {
        let mut streams: Vec<Stream<'_, (SeriesId, Vec<u8>)>> = Vec::new();
        self.files.iter().for_each(|file| streams.push(Box::new(file.series())));
        for layer in &self.layers {
            streams.push(Box::new(layer.series().map(|(id, key)| Ok((id, key.to_vec())))));
        }
        joined(streams, |a, b| a.0.cmp(&b.0))
    }

    fn hashes(&self, store: StoreId) -> impl Iterator<Item = Result<(u64, SeriesId), CatalogError>> {
        let mut streams: Vec<Stream<'_, (u64, SeriesId)>> = Vec::new();
        self.files.iter().for_each(|file| streams.push(Box::new(file.hashes())));
        for layer in &self.layers {
            let mut hashes: Vec<_> = layer.series().map(|(id, key)| (key_hash(store, key), id)).collect();
            hashes.sort_unstable();
            streams.push(Box::new(hashes.into_iter().map(Ok)));
        }
        joined(streams, Ord::cmp)
    }

    fn postings(&self) -> Result<impl Iterator<Item = Result<Posted, CatalogError>>, CatalogError> {
        let mut streams: Vec<Stream<'_, Posted>> = Vec::new();
        for file in &self.files {
            let postings = file.postings_from((MeasurementId(0), "", ""))?;
            streams.push(Box::new(postings.map(move |posting| {
                let posting = posting?;
                let mut ids = RoaringBitmap::new();
                file.add_ids(&posting.ids, &mut ids)?;
                Ok((posting.measurement, posting.key, posting.value, ids))
            })));
        }
        for layer in &self.layers {
            let mut measurements: Vec<_> = layer.all_postings().collect();
            measurements.sort_unstable_by_key(|(id, _)| *id);
            streams.push(Box::new(measurements.into_iter().flat_map(|(id, of_measurement)| {
                let all = (id, String::new(), String::new(), of_measurement.all.clone());
                let keys = of_measurement.keys.iter().flat_map(move |(key, of_key)| {
                    let with_key = (id, key.to_string(), String::new(), of_key.all.clone());
                    let values = of_key.values.iter().map(move |(value, posting)| {
                        (id, key.to_string(), value.to_string(), posting.to_bitmap())
                    });
                    std::iter::once(with_key).chain(values)
                });
                std::iter::once(all).chain(keys).map(Ok)
            })));
        }
        Ok(joined(streams, |a, b| place(a).cmp(&place(b))))
    }
}

/// Joins sorted streams into one. There are never more than a dozen: the least head is found by looking at each.
fn joined<'a, T: 'a>(
    mut streams: Vec<Stream<'a, T>>,
    order: impl Fn(&T, &T) -> Ordering + 'a,
) -> impl Iterator<Item = Result<T, CatalogError>> + 'a {
    let mut heads: Vec<Option<Result<T, CatalogError>>> = streams.iter_mut().map(Iterator::next).collect();
    std::iter::from_fn(move || {
        let mut least: Option<usize> = None;
        for index in 0..heads.len() {
            match (&heads[index], least.map(|at| &heads[at])) {
                (None, _) => {}
                // An error comes first, and once.
                (Some(Err(_)), _) => {
                    streams[index] = Box::new(std::iter::empty());
                    return heads[index].take();
                }
                (Some(Ok(head)), Some(Some(Ok(best)))) if order(head, best) != Ordering::Less => {}
                (Some(Ok(_)), _) => least = Some(index),
            }
        }
        let least = least?;
        std::mem::replace(&mut heads[least], streams[least].next())
    })
}
