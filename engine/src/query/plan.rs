//! Names to ids: which fields, series and groups a request speaks of. Nothing is read but the catalog.

use super::bucket::Buckets;
use super::budget::Budget;
use super::error::QueryError;
use super::expression::{Expression, Ready};
use super::picture;
use super::request::{
    Aggregate, Function, GroupBy, QueryLimits, QueryRequest, Shape, TagFilter, TagPredicate,
};
use crate::catalog::{Catalog, DEFAULT_POLICY, SeriesFilter, SeriesPredicate, SeriesReader, compile_regex};
use crate::ids::{FieldId, MeasurementId, NamespaceId, SeriesId};
use crate::retention::Purpose;
use crate::segment::FieldDef;
use crate::snapshot::Snapshot;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use wattlog_model::FieldType;

/// A request in ids.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) namespace: NamespaceId,
    pub(super) measurement: MeasurementId,
    /// What was asked for.
    pub(super) asked: Range<i64>,
    /// What is read: neighbours beyond what was asked for too, if a function needs them; nothing before the cutoff.
    pub(super) range: Range<i64>,
    /// Columns of the answer, in its order.
    pub(super) fields: Vec<PlannedField>,
    /// Columns of the answer that are computed, with the ids that stand for them: no field has ids so high.
    pub(super) computed: Vec<(FieldId, Ready)>,
    /// Ids of the fields, rising: what is read. A field's place here is its slot.
    pub(super) ids: Vec<FieldId>,
    /// Whether the request named its fields: a named field has a column even without values.
    pub(super) named: bool,
    /// Series by group, rising within it.
    pub(super) series: Vec<SeriesId>,
    /// Groups by rising tags.
    pub(super) groups: Vec<Group>,
}

/// A field of the answer.
#[derive(Debug)]
pub(super) struct PlannedField {
    pub(super) def: FieldDef,
    /// Its place in [`Plan::ids`].
    pub(super) slot: usize,
}

/// One series of the answer.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) tags: Vec<(String, String)>,
    /// Its series, in [`Plan::series`].
    pub(super) members: Range<usize>,
}

impl Plan {
    /// Looks everything up. None if the measurement or all named fields are unknown: the answer is empty.
    pub(super) fn new(
        snapshot: &Snapshot,
        request: &QueryRequest,
        limits: &QueryLimits,
        budget: &Budget<'_>,
    ) -> Result<Option<Self>, QueryError> {
        let catalog = snapshot.catalog();
        let namespace = namespace(catalog, &request.database, request.retention_policy.as_deref())?;
        if request.start >= request.end {
            return Err(QueryError::EmptyRange);
        }
        let filters = request.tags.iter().map(compile_filter).collect::<Result<Vec<_>, _>>()?;
        let Some(measurement) = catalog.measurement(namespace, &request.measurement) else { return Ok(None) };
        let mut defs = fields(catalog, measurement, request)?;
        let computed = computed(catalog, measurement, request, &mut defs)?;
        let mut ids: Vec<FieldId> = defs.iter().map(|def| def.id).collect();
        ids.sort_unstable();
        let slot = |def: &FieldDef| ids.binary_search(&def.id).unwrap_or_default();
        let fields: Vec<PlannedField> =
            defs.into_iter().map(|def| PlannedField { slot: slot(&def), def }).collect();
        if fields.is_empty() {
            return Ok(None);
        }
        let selected = catalog.select(measurement, &filters)?;
        let (wanted, limit) = (selected.len() as u64, limits.max_series);
        if wanted > limit {
            return Err(QueryError::TooManySeries { wanted, limit });
        }
        let (series, groups) = group(catalog, selected, request, budget)?;
        let asked = request.start.0..request.end.0;
        let margin_ns = match &request.shape {
            Shape::Aggregate(aggregate) => aggregate.margin_ns(),
            Shape::Raw | Shape::Pixels(_) | Shape::Last => 0,
        };
        let end = asked.end.saturating_add(margin_ns);
        let cutoff_ns = snapshot.cutoff(namespace, measurement, Purpose::Hide);
        let range = asked.start.saturating_sub(margin_ns).max(cutoff_ns).min(end)..end;
        let named = request.fields.is_some() || !computed.is_empty();
        Ok(Some(Self { namespace, measurement, asked, range, fields, computed, ids, named, series, groups }))
    }

    /// Keeps some of the series, and all groups, of which some may then have none.
    pub(super) fn keep_series(&mut self, keep: impl Fn(SeriesId) -> bool) {
        let mut kept = Vec::with_capacity(self.series.len());
        for group in &mut self.groups {
            let start = kept.len();
            kept.extend(self.series[group.members.clone()].iter().copied().filter(|id| keep(*id)));
            group.members = start..kept.len();
        }
        self.series = kept;
    }

    /// Slot of a field, if it is asked for.
    pub(super) fn slot(&self, field: FieldId) -> Option<usize> {
        self.ids.binary_search(&field).ok()
    }

    /// The definition behind a slot.
    pub(super) fn def(&self, slot: usize) -> &FieldDef {
        let field = self.fields.iter().find(|field| field.slot == slot);
        &field.expect("every slot belongs to a planned field").def
    }
}

/// The functions and buckets of an aggregate.
pub(super) fn buckets(request: &QueryRequest) -> Result<Option<(Cow<'_, Aggregate>, Buckets)>, QueryError> {
    let aggregate = match &request.shape {
        Shape::Aggregate(aggregate) => Cow::Borrowed(aggregate),
        Shape::Pixels(pixels) => Cow::Owned(picture::parts(*pixels)),
        Shape::Raw | Shape::Last => return Ok(None),
    };
    if aggregate.functions.is_empty() {
        return Err(QueryError::NoFunction);
    }
    if aggregate.max_gap_ns < 1 {
        return Err(QueryError::BadGap);
    }
    let range = request.start.0..request.end.0;
    let buckets = Buckets::new(&aggregate, range).ok_or(QueryError::BadBucket)?;
    Ok(Some((aggregate, buckets)))
}

/// Looks a namespace up by its names.
pub(crate) fn namespace(
    catalog: &Catalog,
    database: &str,
    policy: Option<&str>,
) -> Result<NamespaceId, QueryError> {
    catalog.namespace(database, policy).ok_or_else(|| {
        let known = catalog.namespaces().iter().any(|(_, name, _)| **name == *database);
        if known {
            QueryError::RetentionPolicyNotFound(policy.unwrap_or(DEFAULT_POLICY).to_owned())
        } else {
            QueryError::DatabaseNotFound(database.to_owned())
        }
    })
}

/// Fields of the answer: those named that exist, each once, or all.
fn fields(
    catalog: &Catalog,
    measurement: MeasurementId,
    request: &QueryRequest,
) -> Result<Vec<FieldDef>, QueryError> {
    let functions =
        if let Shape::Aggregate(aggregate) = &request.shape { &aggregate.functions[..] } else { &[] };
    if request.fields.is_none() && !request.computed.is_empty() {
        return Ok(Vec::new());
    }
    let Some(names) = &request.fields else {
        // A field dropped and written again has two ids; its name speaks of the newer one.
        let all = catalog.fields(measurement);
        let newest = all.iter().filter(|f| catalog.field(measurement, &f.name).is_some_and(|n| n.id == f.id));
        let defined =
            |f: &&FieldDef| functions.is_empty() || functions.iter().any(|function| is_defined(*function, f));
        return Ok(newest.filter(defined).cloned().collect());
    };
    let mut defs: Vec<FieldDef> = Vec::new();
    for def in names.iter().filter_map(|name| catalog.field(measurement, name)) {
        if let Some(function) = functions.iter().find(|function| !is_defined(**function, &def)) {
            let (field, field_type) = (def.name.to_string(), def.field_type);
            return Err(QueryError::NotDefined { function: *function, field, field_type });
        }
        if !defs.iter().any(|known| known.id == def.id) {
            defs.push(def);
        }
    }
    Ok(defs)
}

/// Makes the computed columns ready, and adds to `defs` what stands for them: floats whose ids are beyond those of all
/// fields.
fn computed(
    catalog: &Catalog,
    measurement: MeasurementId,
    request: &QueryRequest,
    defs: &mut Vec<FieldDef>,
) -> Result<Vec<(FieldId, Ready)>, QueryError> {
    let bad = |reason: String| Err(QueryError::BadExpression { reason });
    let most = Expression::MAX_COLUMNS;
    if request.computed.len() > most {
        return bad(format!("at most {most} columns can be computed"));
    }
    let mut all = Vec::new();
    for (i, column) in request.computed.iter().enumerate() {
        if column.name.is_empty() || defs.iter().any(|def| *def.name == *column.name) {
            return bad(format!(
                "a computed column needs a name that no other column has, not \"{}\"",
                column.name
            ));
        }
        let ready = Ready::new(&column.expression, |name| catalog.field(measurement, name))?;
        let id = FieldId(u32::MAX - most as u32 + i as u32);
        let (unit, kind) = (ready.unit.clone(), ready.kind);
        defs.push(FieldDef {
            id,
            name: column.name.as_str().into(),
            field_type: FieldType::Float,
            unit,
            kind,
        });
        all.push((id, ready));
    }
    Ok(all)
}

/// Whether a function can be computed from the values of a field.
pub(super) fn is_defined(function: Function, field: &FieldDef) -> bool {
    use wattlog_model::FieldType::{Boolean, String};
    function.takes_any_type() || !matches!(field.field_type, Boolean | String)
}

/// A condition on a tag, ready to be asked of series.
pub(crate) fn compile_filter(filter: &TagFilter) -> Result<SeriesFilter, QueryError> {
    let regex = |pattern: &str| {
        let bad =
            |error: regex::Error| QueryError::BadRegex { key: filter.key.clone(), reason: error.to_string() };
        compile_regex(pattern).map_err(bad)
    };
    let predicate = match &filter.predicate {
        TagPredicate::In(values) => SeriesPredicate::In(values.clone()),
        TagPredicate::NotIn(values) => SeriesPredicate::NotIn(values.clone()),
        TagPredicate::Matches(pattern) => SeriesPredicate::Matches(regex(pattern)?),
        TagPredicate::NotMatches(pattern) => SeriesPredicate::NotMatches(regex(pattern)?),
    };
    Ok(SeriesFilter { key: filter.key.clone(), predicate })
}

/// Memory of a group beside its tags: its place in a map, and the list of its series.
const GROUP_BYTES: u64 = 128;

/// Memory of the tags of a group: each key and each value is a piece of its own.
pub(super) fn tags_bytes(tags: &[(String, String)]) -> u64 {
    const PAIR_BYTES: usize = size_of::<(String, String)>() + 64;
    tags.iter().map(|(key, value)| (PAIR_BYTES + key.len() + value.len()) as u64).sum()
}

/// Sorts series into groups.
fn group(
    catalog: &Catalog,
    selected: Vec<SeriesId>,
    request: &QueryRequest,
    budget: &Budget<'_>,
) -> Result<(Vec<SeriesId>, Vec<Group>), QueryError> {
    let keys = match (&request.group_by, &request.shape) {
        (GroupBy::Default, Shape::Aggregate(_)) => {
            let members = 0..selected.len();
            return Ok((selected, vec![Group { tags: Vec::new(), members }]));
        }
        (GroupBy::Keys(_), Shape::Pixels(_)) => return Err(QueryError::PictureOfGroups),
        (GroupBy::Keys(keys), _) => Some(keys),
        (GroupBy::All | GroupBy::Default, _) => None,
    };
    let mut by_tags: BTreeMap<Vec<(String, String)>, Vec<SeriesId>> = BTreeMap::new();
    let mut names = SeriesReader::new(catalog);
    for id in selected {
        let Some((_, tags)) = names.tags(id)? else { continue };
        let owned = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let tags: Vec<(String, String)> = match keys {
            None => tags.iter().map(|(key, value)| owned(key, value)).collect(),
            Some(keys) => keys.iter().map(|key| owned(key, tags.value(key).unwrap_or(""))).collect(),
        };
        budget.hold_bytes(GROUP_BYTES + tags_bytes(&tags))?;
        by_tags.entry(tags).or_default().push(id);
    }
    let mut series = Vec::new();
    let mut groups = Vec::new();
    for (tags, members) in by_tags {
        let start = series.len();
        series.extend(members);
        groups.push(Group { tags, members: start..series.len() });
    }
    Ok((series, groups))
}
