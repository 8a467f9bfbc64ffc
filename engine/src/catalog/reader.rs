//! Names of many series, one after the other: a block of a file is copied, checked and taken apart once for all of them.
//!
//! Asked by rising id it walks each block once; any other order costs a walk from the block's beginning.

use super::file::CatalogFile;
use super::layout::SeriesWalk;
use super::{Catalog, CatalogError, Definition, parse_key};
use crate::ids::{MeasurementId, SeriesId};
use std::sync::Arc;
use wattlog_model::TagSet;

/// See the module. It never says less than [`Catalog::series_tags`].
#[derive(Debug)]
pub(crate) struct SeriesReader<'a> {
    catalog: &'a Catalog,
    place: Option<Place>,
}

/// Where the last answer was found.
#[derive(Debug)]
struct Place {
    file: Arc<CatalogFile>,
    number: u32,
    walk: SeriesWalk<Vec<u8>>,
}

impl<'a> SeriesReader<'a> {
    pub(crate) fn new(catalog: &'a Catalog) -> Self {
        Self { catalog, place: None }
    }

    /// Measurement and tags of a series.
    pub(crate) fn tags(&mut self, id: SeriesId) -> Result<Option<(MeasurementId, TagSet)>, CatalogError> {
        // A series that a file was sealed with stays in that file, or in one that was made of it.
        if let Some(place) = &mut self.place
            && place.file.series_block(id) == Some(place.number)
        {
            return place.tags(id);
        }
        let files = {
            let state = self.catalog.state.read();
            if let Some(key) = state.layers().find_map(|layer| layer.key(id)) {
                return Ok(parse_key(key));
            }
            state.files.clone()
        };
        for file in files.iter().rev() {
            if let Some(number) = file.series_block(id) {
                let place = Place { file: file.clone(), number, walk: file.series_walk(number)? };
                return self.place.insert(place).tags(id);
            }
        }
        Ok(None)
    }

    /// The definition of a series.
    pub(crate) fn definition(&mut self, id: SeriesId) -> Result<Option<Definition>, CatalogError> {
        let found = self.tags(id)?;
        Ok(found.map(|(measurement, tags)| Definition::Series { id, measurement, tags }))
    }
}

impl Place {
    fn tags(&mut self, id: SeriesId) -> Result<Option<(MeasurementId, TagSet)>, CatalogError> {
        if self.walk.current().is_some_and(|(at, _)| at > id) {
            self.walk.rewind();
        }
        self.file.find_series(self.number, &mut self.walk, id).map(parse_key)
    }
}
