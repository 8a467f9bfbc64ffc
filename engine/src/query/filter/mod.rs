//! Conditions ready to be asked: names are ids, tags are settled, each comparison knows the type of its field.
//!
//! A filter stands between a scan and whoever takes its rows. The scan reads the fields of the answer and those of the
//! condition (the *wide* plan); what is handed on are the rows that count. See `sink`.
//!
//! Invariants
//! 1. Only a group that meets nothing else is judged by its statistics; all other rows are judged after they were merged.
//! 2. A row that cannot be judged, because a field of the condition is lost there, does not count; the answer is partial.

mod mask;
mod select;
mod sink;
mod test;

use super::condition::{Comparison, Condition, Name, Operator};
use super::error::QueryError;
use super::expression::Ready;
use super::plan::{Plan, PlannedField};
use super::request::{QueryRequest, Shape};
use crate::catalog::{Catalog, SeriesReader};
use crate::ids::{FieldId, SeriesId};
use crate::segment::FieldDef;
pub(super) use mask::Mask;
pub(super) use sink::FilterSink;
use std::collections::HashMap;
use test::Test;
pub(super) use test::Verdict;

/// What a query leaves out.
#[derive(Debug)]
pub(super) struct Filter {
    /// What is read: fields of the answer and of the condition. It has no series.
    pub(super) wide: Plan,
    /// Whether a row that does not count parts those before it from those after it.
    parts: bool,
    /// Slots of the wide plan that are computed, and from which slots.
    computed: Vec<(usize, Vec<usize>, Ready)>,
    leaves: Vec<Leaf>,
    /// Slots of the wide plan that the leaves ask, each once.
    asked: Vec<usize>,
    /// Of each series that is asked; all have the only one if there are no tags in it.
    by_series: HashMap<SeriesId, usize>,
    conditions: Vec<Node>,
}

/// A comparison of a field.
#[derive(Debug, Clone)]
struct Leaf {
    /// Of the wide plan.
    slot: usize,
    test: Test,
    /// Asked for what the test is not; then a missing value passes.
    negated: bool,
}

/// A condition without `not`: that is pushed down to the leaves.
#[derive(Debug, Clone, PartialEq)]
enum Node {
    Constant(bool),
    /// Index of a leaf.
    Leaf(usize),
    /// Index of a comparison of a tag.
    Tag(usize),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// A comparison of a tag.
#[derive(Debug)]
struct TagLeaf {
    key: String,
    operator: Operator,
    text: String,
    negated: bool,
}

impl Filter {
    /// Makes the condition of a request ready, if it has one, and takes the series out of `plan` of which no row can
    /// count.
    ///
    /// # Errors
    /// A name that is neither a field nor a tag, a value that does not fit a field's type, a condition beyond its limits.
    pub(super) fn new(
        catalog: &Catalog,
        request: &QueryRequest,
        plan: &mut Plan,
    ) -> Result<Option<Self>, QueryError> {
        if request.condition.is_none() && plan.computed.is_empty() {
            return Ok(None);
        }
        let mut compiler =
            Compiler { catalog, plan, tag_keys: None, tags: Vec::new(), leaves: Vec::new(), count: 0 };
        let root = match &request.condition {
            Some(condition) => compiler.node(condition, false, 0)?,
            None => Node::Constant(true),
        };
        let Compiler { tags, leaves, .. } = compiler;
        let wide = wide(plan, &leaves);
        let leaves: Vec<Leaf> = leaves
            .into_iter()
            .map(|(def, test, negated)| Leaf { slot: wide.slot(def.id).unwrap_or_default(), test, negated })
            .collect();
        let slot = |def: &FieldDef| wide.slot(def.id).unwrap_or_default();
        let computed: Vec<(usize, Vec<usize>, Ready)> = plan
            .computed
            .iter()
            .map(|(id, ready)| {
                let operands = ready.operands.iter().map(slot).collect();
                (wide.slot(*id).unwrap_or_default(), operands, ready.clone())
            })
            .collect();
        let mut asked: Vec<usize> = leaves.iter().map(|leaf| leaf.slot).collect();
        asked.sort_unstable();
        asked.dedup();
        // Of what is computed there are no statistics.
        asked.retain(|slot| computed.iter().all(|(own, ..)| own != slot));
        let parts = matches!(&request.shape, Shape::Aggregate(aggregate) if aggregate.margin_ns() > 0);
        let mut filter =
            Self { wide, parts, computed, leaves, asked, by_series: HashMap::new(), conditions: Vec::new() };
        filter.settle_tags(catalog, plan, &root, &tags)?;
        Ok(Some(filter))
    }

    /// The condition of a series; none if all of its rows count, as they are.
    fn condition_of(&self, series: SeriesId) -> Option<&Node> {
        let place = self.by_series.get(&series).copied().unwrap_or(0);
        self.conditions.get(place).filter(|node| **node != Node::Constant(true) || !self.computed.is_empty())
    }

    /// Asks the tags of every series, and keeps the series of which a row can count.
    fn settle_tags(
        &mut self,
        catalog: &Catalog,
        plan: &mut Plan,
        root: &Node,
        tags: &[TagLeaf],
    ) -> Result<(), QueryError> {
        if tags.is_empty() {
            let node = settled(root, &[]);
            if node == Node::Constant(false) {
                plan.keep_series(|_| false);
            }
            self.conditions.push(node);
            return Ok(());
        }
        let mut known: HashMap<Vec<bool>, usize> = HashMap::new();
        let mut names = SeriesReader::new(catalog);
        for id in &plan.series {
            let Some((_, own)) = names.tags(*id)? else { continue };
            let holds = |leaf: &TagLeaf| {
                let value = own.value(&leaf.key).unwrap_or("");
                leaf.operator.holds(value, leaf.text.as_str()) != leaf.negated
            };
            let truths: Vec<bool> = tags.iter().map(holds).collect();
            let place = *known.entry(truths).or_insert_with_key(|truths| {
                self.conditions.push(settled(root, truths));
                self.conditions.len() - 1
            });
            self.by_series.insert(*id, place);
        }
        let (by_series, conditions) = (&self.by_series, &self.conditions);
        plan.keep_series(|id| {
            by_series.get(&id).is_some_and(|place| conditions[*place] != Node::Constant(false))
        });
        Ok(())
    }
}

/// The plan with the fields of the condition added to those of the answer.
fn wide(plan: &Plan, leaves: &[(FieldDef, Test, bool)]) -> Plan {
    let mut defs: Vec<FieldDef> = plan.fields.iter().map(|field| field.def.clone()).collect();
    let operands = plan.computed.iter().flat_map(|(_, ready)| &ready.operands);
    for def in leaves.iter().map(|(def, ..)| def).chain(operands) {
        if !defs.iter().any(|known| known.id == def.id) {
            defs.push(def.clone());
        }
    }
    let mut ids: Vec<FieldId> = defs.iter().map(|def| def.id).collect();
    ids.sort_unstable();
    let slot = |def: &FieldDef| ids.binary_search(&def.id).unwrap_or_default();
    let fields = defs.into_iter().map(|def| PlannedField { slot: slot(&def), def }).collect();
    Plan {
        namespace: plan.namespace,
        measurement: plan.measurement,
        asked: plan.asked.clone(),
        range: plan.range.clone(),
        fields,
        computed: Vec::new(),
        ids,
        named: plan.named,
        series: Vec::new(),
        groups: Vec::new(),
    }
}

/// A node with the tags of a series put in, and what then is always so left out.
fn settled(node: &Node, tags: &[bool]) -> Node {
    match node {
        Node::Constant(_) | Node::Leaf(_) => node.clone(),
        Node::Tag(at) => Node::Constant(tags[*at]),
        Node::All(nodes) => joined(nodes, tags, false, Node::All),
        Node::Any(nodes) => joined(nodes, tags, true, Node::Any),
    }
}

/// `decides` is the constant that settles the whole; the other one adds nothing.
fn joined(nodes: &[Node], tags: &[bool], decides: bool, join: fn(Vec<Node>) -> Node) -> Node {
    let mut kept = Vec::new();
    for node in nodes {
        match settled(node, tags) {
            Node::Constant(constant) if constant == decides => return Node::Constant(decides),
            Node::Constant(_) => {}
            node => kept.push(node),
        }
    }
    match kept.len() {
        0 => Node::Constant(!decides),
        1 => kept.remove(0),
        _ => join(kept),
    }
}

struct Compiler<'a> {
    catalog: &'a Catalog,
    plan: &'a Plan,
    tag_keys: Option<Vec<String>>,
    tags: Vec<TagLeaf>,
    leaves: Vec<(FieldDef, Test, bool)>,
    count: usize,
}

impl Compiler<'_> {
    fn node(&mut self, condition: &Condition, negated: bool, depth: usize) -> Result<Node, QueryError> {
        if depth > Condition::MAX_DEPTH {
            return Err(QueryError::ConditionTooDeep { limit: Condition::MAX_DEPTH });
        }
        let mut all = |parts: &[Condition]| {
            parts.iter().map(|part| self.node(part, negated, depth + 1)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match (condition, negated) {
            (Condition::Not(inner), _) => return self.node(inner, !negated, depth + 1),
            (Condition::Compare(comparison), _) => return self.leaf(comparison, negated),
            (Condition::All(parts), false) | (Condition::Any(parts), true) => Node::All(all(parts)?),
            (Condition::Any(parts), false) | (Condition::All(parts), true) => Node::Any(all(parts)?),
        })
    }

    /// What stands for a computed column of that name.
    fn computed(&self, name: &str) -> Option<FieldDef> {
        let is_own = |field: &&PlannedField| {
            *field.def.name == *name && self.plan.computed.iter().any(|(id, _)| *id == field.def.id)
        };
        self.plan.fields.iter().find(is_own).map(|field| field.def.clone())
    }

    fn leaf(&mut self, comparison: &Comparison, negated: bool) -> Result<Node, QueryError> {
        self.count += 1;
        if self.count > Condition::MAX_COMPARISONS {
            return Err(QueryError::TooManyComparisons { limit: Condition::MAX_COMPARISONS });
        }
        let Comparison { name, operator, value } = comparison;
        let (Name::Any(text) | Name::Tag(text)) = name;
        let def = match name {
            Name::Any(text) => {
                self.computed(text).or_else(|| self.catalog.field(self.plan.measurement, text))
            }
            Name::Tag(_) => None,
        };
        if let Some(def) = def {
            let refused = || QueryError::NotComparable {
                name: text.clone(),
                kind: format!("{} field", def.field_type),
                comparison: format!("{} {}", operator.sign(), value),
            };
            let test = Test::new(def.field_type, *operator, value).ok_or_else(refused)?;
            self.leaves.push((def, test, negated));
            return Ok(Node::Leaf(self.leaves.len() - 1));
        }
        if self.tag_keys.is_none() {
            self.tag_keys = Some(self.catalog.tag_keys(self.plan.measurement)?);
        }
        if !self.tag_keys.iter().flatten().any(|key| key == text) {
            return Err(QueryError::UnknownName { name: text.clone() });
        }
        let super::condition::Literal::Text(wanted) = value else {
            return Err(QueryError::NotComparable {
                name: text.clone(),
                kind: "tag".to_owned(),
                comparison: format!("{} {}", operator.sign(), value),
            });
        };
        self.tags.push(TagLeaf { key: text.clone(), operator: *operator, text: wanted.clone(), negated });
        Ok(Node::Tag(self.tags.len() - 1))
    }
}
