//! What may have changed without being a body: whose values, in which time, and why.

use crate::catalog::Catalog;
use crate::ids::{FieldId, MeasurementId, NamespaceId};
use crate::retention::{Purpose, Retentions};
use crate::tombstone::Tombstone;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Why values may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Cause {
    /// Rows were written before the horizon of the subscription.
    Late,
    /// A delete.
    Delete,
    /// A cutoff of retention moved, or the store was opened: what is hidden by age is then told once more.
    Retention,
    /// A damaged file was set aside.
    Damage,
    /// Unit or kind of a field was set: functions between points follow the kind.
    Meaning,
    /// More changed, or was finished, at once than events may tell.
    Many,
    /// What happened is no longer kept, or was lost with the end of a log or by damage.
    Missed,
}

impl Cause {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Delete => "delete",
            Self::Retention => "retention",
            Self::Damage => "damage",
            Self::Meaning => "meaning",
            Self::Many => "many",
            Self::Missed => "missed",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Times in which values may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Extent {
    /// None: every namespace.
    pub(crate) namespace: Option<NamespaceId>,
    pub(crate) scope: Scope,
    pub(crate) times: Range<i64>,
    /// None: any.
    pub(crate) fields: Option<Arc<[FieldId]>>,
    pub(crate) cause: Cause,
}

/// Which measurements of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    One(MeasurementId),
    /// All but these, by rising id.
    AllBut(Arc<[MeasurementId]>),
}

/// All times there are.
pub(crate) const ALL_TIME: Range<i64> = i64::MIN..i64::MAX;

impl Extent {
    /// Anything at all.
    pub(crate) fn everything() -> Self {
        Self { namespace: None, scope: Scope::all(), times: ALL_TIME, fields: None, cause: Cause::Missed }
    }

    /// What a delete hides; of which series is not told.
    pub(crate) fn deleted(tombstone: &Tombstone) -> Self {
        Self {
            namespace: Some(tombstone.namespace),
            scope: Scope::One(tombstone.measurement),
            times: tombstone.range.clone(),
            fields: tombstone.fields.clone(),
            cause: Cause::Delete,
        }
    }

    /// All values of fields of which something was told.
    pub(crate) fn meanings(catalog: &Catalog, fields: &[FieldId]) -> Vec<Self> {
        let of = |field: &FieldId| {
            let (measurement, _) = catalog.field_by_id(*field)?;
            Some(Self {
                namespace: Some(catalog.measurement_namespace(measurement)?),
                scope: Scope::One(measurement),
                times: ALL_TIME,
                fields: Some([*field].into()),
                cause: Cause::Meaning,
            })
        };
        fields.iter().filter_map(of).collect()
    }

    /// A file that is not read any more, with the times of its first and its last row.
    pub(crate) fn damaged(
        namespace: NamespaceId,
        measurement: Option<MeasurementId>,
        (first, last): (i64, i64),
    ) -> Self {
        Self {
            namespace: Some(namespace),
            scope: measurement.map_or_else(Scope::all, Scope::One),
            times: first..last.saturating_add(1),
            fields: None,
            cause: Cause::Damage,
        }
    }

    /// What `after` hides and `before` does not, or the other way round.
    pub(crate) fn retained(before: &Retentions, after: &Retentions) -> Vec<Self> {
        let keys = before.entries.keys().chain(after.entries.keys());
        let mut keys: Vec<_> = keys.copied().collect();
        keys.sort_unstable();
        keys.dedup();
        let moved = keys.iter().filter_map(|(namespace, measurement)| {
            let cutoff = |of: &Retentions| of.cutoff(*namespace, *measurement, Purpose::Hide);
            let (old, new) = (cutoff(before), cutoff(after));
            let scope = match measurement {
                Some(id) => Scope::One(*id),
                None => {
                    // Those with rules of their own have keys of their own.
                    let own = keys.iter().filter(|(of, _)| of == namespace).filter_map(|(_, own)| *own);
                    Scope::AllBut(own.collect())
                }
            };
            (old != new).then(|| Self {
                namespace: Some(*namespace),
                scope,
                times: old.min(new)..old.max(new),
                fields: None,
                cause: Cause::Retention,
            })
        });
        moved.collect()
    }

    /// What is hidden by age.
    pub(crate) fn hidden(retentions: &Retentions) -> Vec<Self> {
        Self::retained(&Retentions::default(), retentions)
    }

    pub(crate) fn bytes(&self) -> usize {
        let but = match &self.scope {
            Scope::One(_) => 0,
            Scope::AllBut(but) => but.len(),
        };
        size_of::<Self>() + 4 * (but + self.fields.as_ref().map_or(0, |fields| fields.len()))
    }
}

impl Scope {
    pub(crate) fn all() -> Self {
        Self::AllBut([].into())
    }

    pub(crate) fn holds(&self, measurement: MeasurementId) -> bool {
        match self {
            Self::One(own) => *own == measurement,
            Self::AllBut(but) => but.binary_search(&measurement).is_err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::{NO_CUTOFF, Retained, Rule};

    const NAMESPACE: NamespaceId = NamespaceId(1);

    fn rules(cutoffs: &[(Option<u32>, i64)]) -> Retentions {
        let entry = |(id, cutoff_ns): &(Option<u32>, i64)| {
            ((NAMESPACE, id.map(MeasurementId)), Retained { rule: Rule::Forever, cutoff_ns: *cutoff_ns })
        };
        Retentions { clock: None, entries: cutoffs.iter().map(entry).collect() }
    }

    #[test]
    fn a_cutoff_that_moves_tells_what_it_hides_and_spares_who_has_a_rule_of_its_own() {
        let before = rules(&[(None, NO_CUTOFF), (Some(7), 100)]);
        let after = rules(&[(None, 50), (Some(7), 100), (Some(8), 20)]);
        let found = Extent::retained(&before, &after);
        let told: Vec<_> = found.iter().map(|extent| (&extent.scope, extent.times.clone())).collect();
        let but = Scope::AllBut([MeasurementId(7), MeasurementId(8)].into());
        assert_eq!(told, [(&but, NO_CUTOFF..50), (&Scope::One(MeasurementId(8)), NO_CUTOFF..20)]);
        // A clock that was not proven may take its step back: what was hidden shows again.
        let back = Extent::retained(&after, &before);
        assert_eq!(back[0].times, NO_CUTOFF..50);
        assert_eq!(Extent::retained(&after, &after), []);
        assert!(but.holds(MeasurementId(9)) && !but.holds(MeasurementId(8)));
    }
}
