//! Databases, what they hold and for how long: making, telling, listing.

use super::Engine;
use crate::error::{EngineError, WriteError};
use crate::ids::{MeasurementId, NamespaceId};
use crate::info::{DatabaseInfo, FieldInfo, MeasurementInfo};
use crate::manifest::Edit;
use crate::options::Durability;
use crate::query::{self, QueryError};
use crate::retention::{
    self, NO_CUTOFF, Purpose, Retained, RetentionClockInfo, RetentionInfo, RetentionReport, Rule,
};
use wattlog_model::{FieldMeaning, Timestamp};

impl Engine {
    /// Makes a database with its default retention policy; false if it was there.
    pub fn create_database(&self, name: &str) -> Result<bool, WriteError> {
        self.inner.ingest.create_database(&self.inner.shared, name)
    }

    /// Makes a retention policy of a database, and the database if need be; false if it was there.
    pub fn create_policy(&self, database: &str, policy: &str) -> Result<bool, WriteError> {
        self.inner.ingest.create_policy(&self.inner.shared, database, policy)
    }

    /// Sets when writers to a namespace are answered. Durable, from the next body on.
    pub fn set_durability(
        &self,
        database: &str,
        policy: Option<&str>,
        durability: Durability,
    ) -> Result<(), WriteError> {
        let shared = &self.inner.shared;
        let id = shared
            .catalog
            .namespace(database, policy)
            .ok_or_else(|| WriteError::DatabaseNotFound(database.to_owned()))?;
        let wall = shared.clock.wall().0;
        let edit = Edit::Durability(id, durability);
        if shared.durability(id) != durability {
            shared
                .manifest
                .lock()
                .append(&edit, wall)
                .map_err(|error| WriteError::Disk(error.to_string()))?;
            shared.durability.write().insert(id, durability);
        }
        Ok(())
    }

    /// Sets for how long points are kept: those of one measurement, which is made if it is not there, or of all of a
    /// namespace that have no rule of their own. Durable, in force when it returns; gives what is in force then.
    ///
    /// What is hidden once stays hidden: a longer rule brings nothing back. A wall clock that cannot be believed hides
    /// nothing; see [`Engine::retention_clock`].
    ///
    /// # Errors
    /// [`WriteError`]: nothing changed. `RetentionTooShort` for a rule below `Options::min_retention`.
    pub fn set_retention(
        &self,
        database: &str,
        policy: Option<&str>,
        measurement: Option<&str>,
        rule: Rule,
    ) -> Result<RetentionInfo, WriteError> {
        let shared = &self.inner.shared;
        let id = shared
            .catalog
            .namespace(database, policy)
            .ok_or_else(|| WriteError::DatabaseNotFound(database.to_owned()))?;
        let rule = match rule {
            Rule::Keep { ns } if ns == 0 || u128::from(ns) < shared.options.min_retention.as_nanos() => {
                return Err(WriteError::RetentionTooShort { least: shared.options.min_retention });
            }
            Rule::Inherited if measurement.is_none() => Rule::Forever,
            rule => rule,
        };
        // Before the measurement is made: a rule that is refused leaves no name behind.
        let key = match measurement {
            None => Some((id, None)),
            Some(name) => shared.catalog.measurement(id, name).map(|own| (id, Some(own))),
        };
        retention::check_room(shared, key)?;
        let own =
            measurement.map(|name| self.inner.ingest.create_measurement(shared, id, name)).transpose()?;
        let retained = retention::set(shared, (id, own), rule)?;
        Ok(self.retention_info((id, own), retained))
    }

    /// All rules, by namespace and measurement.
    pub fn retentions(&self) -> Vec<RetentionInfo> {
        let retentions = self.inner.shared.view().retentions.clone();
        retentions.entries.iter().map(|(key, entry)| self.retention_info(*key, *entry)).collect()
    }

    fn retention_info(
        &self,
        (namespace, measurement): (NamespaceId, Option<MeasurementId>),
        retained: Retained,
    ) -> RetentionInfo {
        let shared = &self.inner.shared;
        let (database, policy) = shared.catalog.namespace_name(namespace).unwrap_or_default();
        let cutoff = shared.view().retentions.cutoff(namespace, measurement, Purpose::Hide);
        RetentionInfo {
            database: database.to_string(),
            policy: policy.to_string(),
            measurement: measurement
                .map(|id| shared.catalog.measurement_name(id).unwrap_or_default().to_string()),
            rule: retained.rule,
            cutoff: (cutoff != NO_CUTOFF).then_some(Timestamp(cutoff)),
        }
    }

    /// What retention believes the time to be; none before the first rule.
    pub fn retention_clock(&self) -> Option<RetentionClockInfo> {
        retention::clock(&self.inner.shared)
    }

    /// Says that the wall clock is right: what retention held counts from now on, and for good.
    ///
    /// # Errors
    /// [`WriteError`]: nothing changed.
    pub fn confirm_clock(&self) -> Result<(), WriteError> {
        retention::confirm(&self.inner.shared)
    }

    /// Moves cutoffs on and drops the files that have nothing to show any more; happens by itself once a second.
    ///
    /// # Errors
    /// If the store closes meanwhile, or the disk refuses.
    pub fn retain(&self) -> Result<RetentionReport, EngineError> {
        self.inner.compactor.retain()
    }

    /// Tells units and kinds of fields that exist; durable, nothing is written if nothing changes. Names of fields that
    /// do not exist yet are given back: tell them again once they were written.
    pub fn describe_fields(
        &self,
        database: &str,
        measurement: &str,
        fields: &[FieldMeaning],
    ) -> Result<Vec<String>, WriteError> {
        self.inner.ingest.describe_fields(&self.inner.shared, database, measurement, fields)
    }

    /// Databases by name.
    pub fn databases(&self) -> Vec<DatabaseInfo> {
        let catalog = &self.inner.shared.catalog;
        let mut out: Vec<DatabaseInfo> = Vec::new();
        for (id, database, policy) in catalog.namespaces() {
            let measurements = catalog.measurements(id);
            let series: u64 = measurements.iter().map(|(m, _)| catalog.series_count(*m)).sum();
            match out.iter_mut().find(|info| *info.name == *database) {
                Some(info) => {
                    info.retention_policies.push(policy.to_string());
                    info.measurements += measurements.len();
                    info.series += series;
                }
                None => out.push(DatabaseInfo {
                    name: database.to_string(),
                    retention_policies: vec![policy.to_string()],
                    measurements: measurements.len(),
                    series,
                }),
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        out
    }

    /// Measurements of a database (all its retention policies), by name.
    pub fn measurements(&self, database: &str) -> Result<Vec<String>, QueryError> {
        let catalog = &self.inner.shared.catalog;
        let mut names: Vec<String> = self
            .namespaces_of(database)?
            .into_iter()
            .flat_map(|id| catalog.measurements(id))
            .map(|(_, name)| name.to_string())
            .collect();
        names.sort();
        names.dedup();
        Ok(names)
    }

    /// Fields, tag keys, series and time range of a measurement; none if there is no such measurement.
    pub fn measurement(&self, database: &str, name: &str) -> Result<Option<MeasurementInfo>, QueryError> {
        let namespaces = self.namespaces_of(database)?;
        let snapshot = self.snapshot();
        let catalog = &self.inner.shared.catalog;
        let Some((namespace, id)) =
            namespaces.into_iter().find_map(|ns| Some((ns, catalog.measurement(ns, name)?)))
        else {
            return Ok(None);
        };
        let range = query::time_range(&snapshot, namespace, id)?;
        let fields = catalog.fields(id);
        Ok(Some(MeasurementInfo {
            fields: fields
                .iter()
                .map(|f| FieldInfo {
                    name: f.name.to_string(),
                    field_type: f.field_type,
                    unit: f.unit.clone(),
                    kind: f.kind,
                })
                .collect(),
            tag_keys: catalog.tag_keys(id).map_err(QueryError::from)?,
            series: catalog.series_count(id),
            first: range.map(|(first, _)| Timestamp(first)),
            last: range.map(|(_, last)| Timestamp(last)),
        }))
    }

    /// Values of a tag, by name.
    pub fn tag_values(
        &self,
        database: &str,
        measurement: &str,
        key: &str,
    ) -> Result<Vec<String>, QueryError> {
        let catalog = &self.inner.shared.catalog;
        let mut values = Vec::new();
        for namespace in self.namespaces_of(database)? {
            if let Some(id) = catalog.measurement(namespace, measurement) {
                values.extend(catalog.tag_values(id, key).map_err(QueryError::from)?);
            }
        }
        values.sort();
        values.dedup();
        Ok(values)
    }

    fn namespaces_of(&self, database: &str) -> Result<Vec<NamespaceId>, QueryError> {
        let all = self.inner.shared.catalog.namespaces();
        let ids: Vec<_> =
            all.into_iter().filter(|(_, name, _)| **name == *database).map(|(id, ..)| id).collect();
        if ids.is_empty() { Err(QueryError::DatabaseNotFound(database.to_owned())) } else { Ok(ids) }
    }
}
