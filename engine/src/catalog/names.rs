//! The small tables: namespaces, measurements, fields and what fields mean. Held whole in memory.
//!
//! Invariants
//! 1. An id stands for one thing for ever; a definition that says otherwise is refused.
//! 2. A name leads to the newest id given to it: a field dropped and written again has a new one.
//! 3. Applying a definition twice changes nothing the second time, so replay may repeat what files already hold.

use super::definition::Definition;
use crate::ids::{FieldId, MeasurementId, NamespaceId};
use crate::segment::FieldDef;
use hashbrown::HashMap;
use std::collections::BTreeMap;
use std::sync::Arc;
use wattlog_model::{FieldKind, Unit};

/// A database and one of its retention policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamespaceDef {
    /// Its id.
    pub id: NamespaceId,
    /// Name of the database.
    pub database: Arc<str>,
    /// Name of the retention policy.
    pub policy: Arc<str>,
}

/// The fields of one measurement, by rising id.
#[derive(Debug, Clone, Default)]
struct FieldList {
    fields: Arc<Vec<FieldDef>>,
    /// The newest field of a name.
    by_name: HashMap<Arc<str>, FieldId>,
}

impl FieldList {
    fn by_id(&self, id: FieldId) -> Option<&FieldDef> {
        self.place(id).ok().map(|at| &self.fields[at])
    }

    fn place(&self, id: FieldId) -> Result<usize, usize> {
        self.fields.binary_search_by_key(&id, |field| field.id)
    }

    /// Adds a field with a new id. Nearly always at the end; where files are damaged, names may come from elsewhere later.
    fn insert(&mut self, field: FieldDef) {
        let newest = self.by_name.entry(field.name.clone()).or_insert(field.id);
        *newest = field.id.max(*newest);
        let (Ok(at) | Err(at)) = self.place(field.id);
        Arc::make_mut(&mut self.fields).insert(at, field);
    }
}

/// What applying a definition did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is new, or changed what was known.
    Changed,
    /// It was known.
    Known,
    /// It contradicts what is known, or speaks of something unknown.
    Refused,
}

#[derive(Debug)]
struct Measurement {
    namespace: NamespaceId,
    name: Arc<str>,
    fields: FieldList,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Names {
    namespaces: BTreeMap<NamespaceId, NamespaceDef>,
    /// Measurement ids by name, per namespace.
    by_name: HashMap<NamespaceId, BTreeMap<Arc<str>, MeasurementId>>,
    measurements: HashMap<MeasurementId, Measurement>,
    /// Measurement of each field.
    homes: HashMap<FieldId, MeasurementId>,
}

impl Names {
    pub(crate) fn apply(&mut self, definition: &Definition) -> Outcome {
        match definition {
            Definition::Namespace { id, database, policy } => {
                let new = NamespaceDef { id: *id, database: database.clone(), policy: policy.clone() };
                match self.namespaces.get(id) {
                    Some(old) if *old == new => Outcome::Known,
                    Some(_) => Outcome::Refused,
                    None => {
                        self.namespaces.insert(*id, new);
                        Outcome::Changed
                    }
                }
            }
            Definition::Measurement { id, namespace, name } => match self.measurements.get(id) {
                Some(old) if old.namespace == *namespace && old.name == *name => Outcome::Known,
                Some(_) => Outcome::Refused,
                None => {
                    let new = Measurement {
                        namespace: *namespace,
                        name: name.clone(),
                        fields: FieldList::default(),
                    };
                    self.measurements.insert(*id, new);
                    let newest =
                        self.by_name.entry(*namespace).or_default().entry(name.clone()).or_insert(*id);
                    *newest = (*newest).max(*id);
                    Outcome::Changed
                }
            },
            Definition::Field { id, measurement, name, field_type } => {
                let Some(home) = self.measurements.get_mut(measurement) else { return Outcome::Refused };
                if let Some(known) = self.homes.get(id) {
                    let same = known == measurement
                        && home
                            .fields
                            .by_id(*id)
                            .is_some_and(|f| f.name == *name && f.field_type == *field_type);
                    return if same { Outcome::Known } else { Outcome::Refused };
                }
                let field = FieldDef {
                    id: *id,
                    name: name.clone(),
                    field_type: *field_type,
                    unit: None,
                    kind: FieldKind::default(),
                };
                home.fields.insert(field);
                self.homes.insert(*id, *measurement);
                Outcome::Changed
            }
            Definition::Meaning { field, unit, kind } => self.apply_meaning(*field, unit.as_ref(), *kind),
            Definition::Series { .. } => Outcome::Refused,
        }
    }

    fn apply_meaning(&mut self, field: FieldId, unit: Option<&Unit>, kind: FieldKind) -> Outcome {
        let home = self.homes.get(&field).and_then(|home| self.measurements.get_mut(home));
        let Some(home) = home else { return Outcome::Refused };
        let Ok(index) = home.fields.place(field) else { return Outcome::Refused };
        let old = &home.fields.fields[index];
        if old.unit.as_ref() == unit && old.kind == kind {
            return Outcome::Known;
        }
        let entry = &mut Arc::make_mut(&mut home.fields.fields)[index];
        entry.unit = unit.cloned();
        entry.kind = kind;
        Outcome::Changed
    }

    pub(crate) fn namespaces(&self) -> impl Iterator<Item = &NamespaceDef> {
        self.namespaces.values()
    }

    pub(crate) fn namespace(&self, database: &str, policy: &str) -> Option<NamespaceId> {
        // A handful in any store: a scan beats two maps of owned pairs. The newest id of a name counts.
        self.namespaces
            .values()
            .rev()
            .find(|n| *n.database == *database && *n.policy == *policy)
            .map(|n| n.id)
    }

    pub(crate) fn namespace_def(&self, id: NamespaceId) -> Option<&NamespaceDef> {
        self.namespaces.get(&id)
    }

    pub(crate) fn measurement(&self, namespace: NamespaceId, name: &str) -> Option<MeasurementId> {
        self.by_name.get(&namespace)?.get(name).copied()
    }

    pub(crate) fn measurement_name(&self, id: MeasurementId) -> Option<(NamespaceId, Arc<str>)> {
        self.measurements.get(&id).map(|m| (m.namespace, m.name.clone()))
    }

    pub(crate) fn measurements(&self, namespace: NamespaceId) -> Vec<(MeasurementId, Arc<str>)> {
        let by_name = self.by_name.get(&namespace);
        by_name.into_iter().flatten().map(|(name, id)| (*id, name.clone())).collect()
    }

    pub(crate) fn field(&self, measurement: MeasurementId, name: &str) -> Option<FieldDef> {
        let fields = &self.measurements.get(&measurement)?.fields;
        fields.by_name.get(name).and_then(|id| fields.by_id(*id)).cloned()
    }

    pub(crate) fn fields(&self, measurement: MeasurementId) -> Arc<Vec<FieldDef>> {
        self.measurements.get(&measurement).map(|m| m.fields.fields.clone()).unwrap_or_default()
    }

    /// A field by its id, with the measurement it is of.
    pub(crate) fn field_by_id(&self, field: FieldId) -> Option<(MeasurementId, &FieldDef)> {
        let home = *self.homes.get(&field)?;
        Some((home, self.measurements.get(&home)?.fields.by_id(field)?))
    }

    /// Everything in these tables as definitions, in an order in which they can be applied.
    pub(crate) fn definitions(&self) -> Vec<Definition> {
        let mut out: Vec<Definition> = self
            .namespaces
            .values()
            .map(|n| Definition::Namespace {
                id: n.id,
                database: n.database.clone(),
                policy: n.policy.clone(),
            })
            .collect();
        let mut measurements: Vec<_> = self.measurements.iter().collect();
        measurements.sort_unstable_by_key(|(id, _)| **id);
        for (id, m) in measurements {
            out.push(Definition::Measurement { id: *id, namespace: m.namespace, name: m.name.clone() });
            for field in m.fields.fields.iter() {
                out.push(Definition::Field {
                    id: field.id,
                    measurement: *id,
                    name: field.name.clone(),
                    field_type: field.field_type,
                });
                // Also one that says nothing: an older file that is kept may hold a unit that was taken back.
                let unit = field.unit.clone();
                out.push(Definition::Meaning { field: field.id, unit, kind: field.kind });
            }
        }
        out
    }
}
