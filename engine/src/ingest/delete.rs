//! Range deletes: names to ids on the caller's thread, one record, committed by the writer.

use super::Ingest;
use super::writer::Request;
use crate::engine::Shared;
use crate::error::WriteError;
use crate::feed::Cursor;
use crate::ids::{FieldId, MeasurementId, NamespaceId, Seq, SeriesId};
use crate::query::{QueryError, TagFilter, compile_filter};
use crate::tombstone::Tombstone;
use crossbeam_channel::bounded;
use std::sync::Arc;
use wattlog_model::Timestamp;

/// What to hide: values that were committed before the delete.
#[derive(Debug, Clone, PartialEq)]
pub struct DeleteRequest {
    /// Name of the database.
    pub database: String,
    /// Retention policy; the default one if none is named.
    pub retention_policy: Option<String>,
    /// Name of the measurement; all of the database if none is named.
    pub measurement: Option<String>,
    /// Fields by name; whole points if none is named.
    pub fields: Option<Vec<String>>,
    /// Conditions on tags; a series satisfies all of them.
    pub tags: Vec<TagFilter>,
    /// First instant that is covered.
    pub start: Timestamp,
    /// First instant that is not covered any more.
    pub end: Timestamp,
}

/// What a delete covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeleteReceipt {
    /// Its place in the commit order; that of the store if it covered nothing.
    pub cursor: Cursor,
    /// Series that it covered, whether or not they had values in that time.
    pub series: u64,
}

/// Why a delete was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeleteError {
    /// It could not be understood, or names what is not there.
    #[error(transparent)]
    Request(#[from] QueryError),
    /// It could not be committed.
    #[error(transparent)]
    Commit(#[from] WriteError),
}

impl Ingest {
    pub(crate) fn delete(
        &self,
        shared: &Shared,
        request: &DeleteRequest,
    ) -> Result<DeleteReceipt, DeleteError> {
        if request.start >= request.end {
            return Err(QueryError::EmptyRange.into());
        }
        let (database, policy) = (&request.database, request.retention_policy.as_deref());
        let namespace = crate::query::namespace(&shared.catalog, database, policy)?;
        let measurements: Vec<MeasurementId> = match &request.measurement {
            Some(name) => shared.catalog.measurement(namespace, name).into_iter().collect(),
            None => shared.catalog.measurements(namespace).into_iter().map(|(id, _)| id).collect(),
        };
        let mut tombstones = Vec::new();
        let mut series = 0;
        for measurement in measurements {
            if let Some((tombstone, covered)) = resolve(shared, namespace, measurement, request)? {
                tombstones.push(tombstone);
                series += covered;
            }
        }
        if tombstones.is_empty() {
            // What a dead log holds and nobody was told of may be there after the next opening: nothing is hidden of it now.
            if let Some(reason) = shared.status.read_only() {
                return Err(WriteError::ReadOnly(reason).into());
            }
            return Ok(DeleteReceipt { cursor: shared.published(), series: 0 });
        }
        let (reply, answer) = bounded(1);
        self.send(shared, Request::Delete { tombstones, reply })?;
        let cursor = answer.recv().unwrap_or(Err(WriteError::Closed))?;
        Ok(DeleteReceipt { cursor, series })
    }
}

/// The tombstone for one measurement and the number of series it covers; none if it covers nothing.
fn resolve(
    shared: &Shared,
    namespace: NamespaceId,
    measurement: MeasurementId,
    request: &DeleteRequest,
) -> Result<Option<(Tombstone, u64)>, QueryError> {
    let catalog = &shared.catalog;
    let fields: Option<Arc<[FieldId]>> = match &request.fields {
        None => None,
        Some(names) => {
            // A field dropped and written again has two ids: both are meant.
            let all = catalog.fields(measurement);
            let mut ids: Vec<FieldId> =
                all.iter().filter(|field| names.iter().any(|n| **n == *field.name)).map(|f| f.id).collect();
            ids.sort_unstable();
            if ids.is_empty() {
                return Ok(None);
            }
            Some(ids.into())
        }
    };
    let filters = request.tags.iter().map(compile_filter).collect::<Result<Vec<_>, _>>()?;
    let mut selected: Vec<SeriesId> = catalog.select(measurement, &filters)?;
    selected.sort_unstable();
    let covered = selected.len() as u64;
    if covered == 0 {
        return Ok(None);
    }
    let series = if filters.is_empty() { None } else { Some(selected.into()) };
    let range = request.start.0..request.end.0;
    Ok(Some((Tombstone { seq: Seq(0), namespace, measurement, range, fields, series }, covered)))
}
