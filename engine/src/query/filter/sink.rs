//! Between a scan and whoever takes its rows: hands on those that count.
//!
//! A group that meets nothing else is first judged by what statistics know of the fields in the condition: no row counts,
//! then it is not decoded; every row counts, then it is handed on as it is, and may still be answered from statistics. Else
//! the fields of the condition are decoded one by one until the rows are known, and the others for the rows that are left.

use super::select::select;
use super::{Filter, Leaf, Mask, Node, Verdict};
use crate::column::{Column, Presence, SeriesRows};
use crate::ids::{FieldId, SeriesId};
use crate::query::error::QueryError;
use crate::query::expression::Ready;
use crate::query::merge::{Hole, slice};
use crate::query::scan::{Block, GroupSource, Scan, Sink};
use crate::segment::{Extent, RowGroup};
use std::ops::Range;
use std::sync::atomic::Ordering;
use wattlog_model::FieldType;

/// See the module.
pub(in crate::query) struct FilterSink<'a, 's, S> {
    /// With the plan of the answer.
    narrow: Scan<'a>,
    /// With the wide plan.
    scan: Scan<'a>,
    filter: &'a Filter,
    condition: &'a Node,
    inner: &'s mut S,
    group: Decoded,
    /// What cannot be read of the series, as far as that is known.
    lost: Vec<Hole>,
}

/// The group in hand, by slot of the wide plan.
#[derive(Debug, Default)]
struct Decoded {
    block: Block,
    states: Vec<State>,
    has_times: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unread,
    Present,
    Absent,
    Lost,
}

impl<'a, 's, S: Sink> FilterSink<'a, 's, S> {
    /// None if every row of the series counts.
    pub(in crate::query) fn new(
        narrow: Scan<'a>,
        filter: &'a Filter,
        series: SeriesId,
        inner: &'s mut S,
    ) -> Result<Self, &'s mut S> {
        match filter.condition_of(series) {
            None => Err(inner),
            Some(condition) => {
                let scan = narrow.wide();
                Ok(Self {
                    narrow,
                    scan,
                    filter,
                    condition,
                    inner,
                    group: Decoded::default(),
                    lost: Vec::new(),
                })
            }
        }
    }

    /// What statistics say of each group as a whole.
    pub(in crate::query) fn judge(&self, source: GroupSource<'_>) -> Result<Vec<Verdict>, QueryError> {
        let verdicts = self.verdicts(source)?;
        Ok(verdicts.iter().map(|own| self.choice(own)).collect())
    }

    /// What is done with a group: computed columns need its rows, unless none of them counts and nobody asks which fields
    /// have values in them.
    fn choice(&self, verdicts: &[Verdict]) -> Verdict {
        match judged(self.condition, verdicts) {
            Verdict::Never if self.filter.computed.is_empty() || !self.filter.parts => Verdict::Never,
            Verdict::Always if self.filter.computed.is_empty() => Verdict::Always,
            _ => Verdict::Maybe,
        }
    }

    /// Hands on the rows of `range` that are in the mask.
    fn hand_on(&mut self, rows: &SeriesRows, range: Range<usize>, mask: &Mask) -> Result<(), QueryError> {
        if !self.filter.parts {
            if mask.is_empty() {
                return Ok(());
            }
            let columns = rows.columns.iter().map(|(field, column)| (*field, column));
            let wanted = columns.filter(|(field, _)| self.narrow.plan.slot(*field).is_some());
            let selected = select(&rows.times, wanted, mask);
            return self.inner.rows(&selected, 0..selected.times.len());
        }
        for (counts, range) in mask.stretches(range) {
            if counts {
                self.inner.rows(rows, range)?;
            } else {
                self.part_rows(rows, &range)?;
            }
        }
        Ok(())
    }

    /// Tells which fields have a value in rows that do not count.
    fn part_rows(&mut self, rows: &SeriesRows, range: &Range<usize>) -> Result<(), QueryError> {
        for (field, column) in &rows.columns {
            let has_value = match &column.presence {
                Presence::All => true,
                Presence::Rows(present) => {
                    let at = present.partition_point(|row| (*row as usize) < range.start);
                    present.get(at).is_some_and(|row| (*row as usize) < range.end)
                }
            };
            if has_value {
                self.inner.part(*field)?;
            }
        }
        Ok(())
    }

    /// The same for all fields of a group that was not decoded.
    fn part_group(&mut self, source: GroupSource<'_>, group: &RowGroup) -> Result<(), QueryError> {
        let read = self.scan.read_from(source.source, source.open, |open| open.segment.fields_of(group))?;
        // Where that cannot be read, nothing covers the time across it.
        let fields = read.unwrap_or_else(|_| self.narrow.plan.ids.clone());
        fields.into_iter().try_for_each(|field| self.inner.part(field))
    }

    /// What statistics say of each group: by group, then by leaf.
    fn verdicts(&self, source: GroupSource<'_>) -> Result<Vec<Vec<Verdict>>, QueryError> {
        let leaves = &self.filter.leaves;
        let mut verdicts = vec![vec![Verdict::Maybe; leaves.len()]; source.groups.len()];
        let mut open: Vec<usize> = (0..source.groups.len()).filter(|i| !source.groups[*i].compact).collect();
        let mut groups: Vec<RowGroup> = Vec::new();
        let mut extents: Vec<Option<Extent>> = Vec::new();
        for slot in &self.filter.asked {
            if open.is_empty() {
                break;
            }
            groups.clear();
            groups.extend(open.iter().map(|i| source.groups[*i]));
            let field = self.scan.plan.ids[*slot];
            let read = self.scan.read_from(source.source, source.open, |opened| {
                extents.clear();
                opened.segment.extents_of(&groups, field, |extent| extents.push(extent))
            })?;
            if let Err(error) = read {
                // The blocks still hold all there is to know.
                self.scan.losses.report(&error);
                continue;
            }
            let in_section = source.open.section.field_place(field).is_some();
            // Of texts there are blocks without statistics.
            let told = !in_section || self.scan.plan.def(*slot).field_type != FieldType::String;
            for (i, extent) in open.iter().zip(&extents) {
                for (at, leaf) in leaves.iter().enumerate().filter(|(_, leaf)| leaf.slot == *slot) {
                    let group = &source.groups[*i];
                    let verdict = leaf.verdict(extent.as_ref(), told, group.rows);
                    let doubtful = verdict == Verdict::Always && self.is_in_doubt(leaf, group);
                    verdicts[*i][at] = if doubtful { Verdict::Maybe } else { verdict };
                }
            }
            open.retain(|i| judged(self.condition, &verdicts[*i]) == Verdict::Maybe);
        }
        Ok(verdicts)
    }

    /// Finds the rows of a group that count; none if they cannot be told.
    fn mask(
        &mut self,
        source: GroupSource<'_>,
        group: &RowGroup,
        node: &Node,
        verdicts: &[Verdict],
    ) -> Result<Option<Mask>, QueryError> {
        let rows = group.rows as usize;
        match judged(node, verdicts) {
            Verdict::Always => return Ok(Some(Mask::all(rows))),
            Verdict::Never => return Ok(Some(Mask::none(rows))),
            Verdict::Maybe => {}
        }
        let (parts, all) = match node {
            Node::Leaf(at) => {
                let leaf = &self.filter.leaves[*at];
                let state = self.load(source, group, leaf.slot)?;
                if state == State::Lost || self.is_in_doubt(leaf, group) && !self.load_times(source, group)? {
                    return Ok(None);
                }
                let Block { times, columns, .. } = &self.group.block;
                let column = (state == State::Present).then_some(&columns[leaf.slot]);
                let mut mask = leaf.mask(column, rows);
                self.doubt(leaf, column, times, &mut mask);
                return Ok(Some(mask));
            }
            Node::All(parts) => (parts, true),
            Node::Any(parts) => (parts, false),
            Node::Constant(_) | Node::Tag(_) => {
                debug_assert!(false, "tags and constants are settled before");
                return Ok(None);
            }
        };
        let mut joined = if all { Mask::all(rows) } else { Mask::none(rows) };
        for part in parts {
            let Some(mask) = self.mask(source, group, part, verdicts)? else { return Ok(None) };
            if all {
                joined.and(&mask);
            } else {
                joined.or(&mask);
            }
            if if all { joined.is_empty() } else { joined.is_full() } {
                break;
            }
        }
        Ok(Some(joined))
    }

    /// The rows of a run that count.
    fn mask_of_rows(&self, node: &Node, rows: &SeriesRows) -> Mask {
        let len = rows.times.len();
        match node {
            Node::Constant(true) => Mask::all(len),
            Node::Constant(false) | Node::Tag(_) => Mask::none(len),
            Node::Leaf(at) => {
                let leaf = &self.filter.leaves[*at];
                let field = self.scan.plan.ids[leaf.slot];
                let column = rows.columns.iter().find(|(own, _)| *own == field).map(|(_, column)| column);
                let mut mask = leaf.mask(column, len);
                self.doubt(leaf, column, &rows.times, &mut mask);
                mask
            }
            Node::All(nodes) => nodes.iter().fold(Mask::all(len), |mut mask, node| {
                mask.and(&self.mask_of_rows(node, rows));
                mask
            }),
            Node::Any(nodes) => nodes.iter().fold(Mask::none(len), |mut mask, node| {
                mask.or(&self.mask_of_rows(node, rows));
                mask
            }),
        }
    }

    /// Takes rows out that pass because they have no value, where that may only be because it is lost.
    fn doubt(&self, leaf: &Leaf, column: Option<&Column>, times: &[i64], mask: &mut Mask) {
        for hole in self.lost.iter().filter(|hole| leaf.negated && self.may_hold(hole, leaf.slot)) {
            let from = times.partition_point(|time| *time < hole.first);
            for row in from..times.partition_point(|time| *time <= hole.last) {
                if column.is_none_or(|column| column.position(row as u32).is_none()) {
                    mask.clear(row);
                }
            }
        }
    }

    /// Whether what was lost of other sources may have had values for the rows of a group.
    fn is_in_doubt(&self, leaf: &Leaf, group: &RowGroup) -> bool {
        let meets = |hole: &Hole| hole.first <= group.last_time && hole.last >= group.first_time;
        leaf.negated && self.lost.iter().any(|hole| self.may_hold(hole, leaf.slot) && meets(hole))
    }

    /// Whether values of a slot, or of what it is computed from, may be among what is lost.
    fn may_hold(&self, hole: &Hole, slot: usize) -> bool {
        let ids = &self.scan.plan.ids;
        match self.filter.computed.iter().find(|(own, ..)| *own == slot) {
            Some((_, operands, _)) => operands.iter().any(|operand| hole.may_hold(ids[*operand])),
            None => hole.may_hold(ids[slot]),
        }
    }

    /// Begins a group: a compact one is decoded at once, of another nothing is.
    fn begin(&mut self, source: GroupSource<'_>, group: &RowGroup) -> Result<(), QueryError> {
        let slots = 0..self.scan.plan.ids.len();
        let Decoded { block, states, has_times } = &mut self.group;
        states.clear();
        *has_times = group.compact;
        if !group.compact {
            states.resize(slots.len(), State::Unread);
            block.begin(self.scan.plan);
            return Ok(());
        }
        let mut lost = false;
        self.scan.decode(source.source, source.open, group, slots, block, |_| lost = true)?;
        let state = |present: &bool| match (lost, present) {
            (true, _) => State::Lost,
            (false, true) => State::Present,
            (false, false) => State::Absent,
        };
        states.extend(block.present.iter().map(state));
        self.filter.computed.iter().for_each(|(slot, ..)| self.group.states[*slot] = State::Unread);
        Ok(())
    }

    /// Decodes a column of the group in hand if that was not done yet.
    fn load(&mut self, source: GroupSource<'_>, group: &RowGroup, slot: usize) -> Result<State, QueryError> {
        if self.group.states[slot] != State::Unread {
            return Ok(self.group.states[slot]);
        }
        let filter = self.filter;
        if let Some((_, operands, ready)) = filter.computed.iter().find(|(own, ..)| *own == slot) {
            return self.compute(source, group, slot, operands, ready);
        }
        let field = self.scan.plan.ids[slot];
        let column = &mut self.group.block.columns[slot];
        let read = self
            .scan
            .read_from(source.source, source.open, |open| open.segment.read_column(group, field, column))?;
        let state = match read {
            Ok(true) => State::Present,
            Ok(false) => State::Absent,
            Err(error) => {
                let span = (group.first_time, group.last_time);
                self.scan.losses.add_error(source.source.id(), Some(field), span, &error);
                State::Lost
            }
        };
        if state == State::Present {
            self.scan.budget.blocks_decoded.fetch_add(1, Ordering::Relaxed);
            self.scan.budget.scan(0, group.rows.into())?;
        }
        self.group.block.present[slot] = state == State::Present;
        self.group.states[slot] = state;
        Ok(state)
    }

    /// Computes a column of the group in hand from those of its operands.
    fn compute(
        &mut self,
        source: GroupSource<'_>,
        group: &RowGroup,
        slot: usize,
        operands: &[usize],
        ready: &Ready,
    ) -> Result<State, QueryError> {
        let mut state = State::Present;
        for operand in operands {
            match self.load(source, group, *operand)? {
                State::Present => {}
                State::Lost => state = State::Lost,
                State::Absent | State::Unread if state == State::Present => state = State::Absent,
                State::Absent | State::Unread => {}
            }
        }
        if state == State::Present {
            let columns = &self.group.block.columns;
            let column = ready.compute(group.rows as usize, |place| columns.get(operands[place]));
            if column.values.is_empty() {
                state = State::Absent;
            }
            self.group.block.columns[slot] = column;
        }
        self.group.block.present[slot] = state == State::Present;
        self.group.states[slot] = state;
        Ok(state)
    }

    /// Decodes the times of the group in hand; false if they are lost, and with them the group.
    fn load_times(&mut self, source: GroupSource<'_>, group: &RowGroup) -> Result<bool, QueryError> {
        if self.group.has_times {
            return Ok(true);
        }
        let times = &mut self.group.block.times;
        let read =
            self.scan.read_from(source.source, source.open, |open| open.segment.read_times(group, times))?;
        if let Err(error) = read {
            let span = (group.first_time, group.last_time);
            self.scan.losses.add_error(source.source.id(), None, span, &error);
            return Ok(false);
        }
        self.group.has_times = true;
        self.scan.budget.blocks_decoded.fetch_add(1, Ordering::Relaxed);
        self.scan.budget.scan(group.rows.into(), 0)?;
        Ok(true)
    }

    /// Hands on the rows of one group that count.
    fn one(
        &mut self,
        source: GroupSource<'_>,
        group: &RowGroup,
        verdicts: &[Verdict],
        range: &Range<i64>,
    ) -> Result<(), QueryError> {
        self.scan.budget.check()?;
        self.begin(source, group)?;
        let mask = self.mask(source, group, self.condition, verdicts)?;
        let known = mask.unwrap_or_else(|| Mask::none(group.rows as usize));
        let mut mask = match (known.is_empty(), self.filter.parts) {
            (true, false) => return Ok(()),
            (true, true) if self.filter.computed.is_empty() => return self.part_group(source, group),
            _ => known,
        };
        for slot in 0..self.scan.plan.ids.len() {
            if self.narrow.plan.slot(self.scan.plan.ids[slot]).is_some() {
                self.load(source, group, slot)?;
            }
        }
        if !self.load_times(source, group)? {
            return Ok(());
        }
        let inside = self.group.block.rows_in(range);
        mask.clip(inside.clone());
        if self.filter.parts {
            let rows = std::mem::take(&mut self.group.block).into_rows(self.scan.plan);
            return self.hand_on(&rows, inside, &mask);
        }
        let Block { times, columns, present } = &self.group.block;
        let columns = self.scan.plan.ids.iter().zip(columns).zip(present);
        let wanted =
            columns.filter(|((field, _), present)| **present && self.narrow.plan.slot(**field).is_some());
        let selected = select(times, wanted.map(|((field, column), _)| (*field, column)), &mask);
        self.inner.rows(&selected, 0..selected.times.len())
    }
}

impl<S: Sink> Sink for FilterSink<'_, '_, S> {
    fn rows(&mut self, rows: &SeriesRows, range: Range<usize>) -> Result<(), QueryError> {
        if self.filter.computed.is_empty() {
            let mut mask = self.mask_of_rows(self.condition, rows);
            mask.clip(range.clone());
            return self.hand_on(rows, range, &mask);
        }
        // Only what is asked for, so that the columns below are computed for no more.
        let mut rows = slice(rows, range);
        let ids = &self.scan.plan.ids;
        for (slot, operands, ready) in &self.filter.computed {
            let operand = |place: usize| {
                let field = ids[operands[place]];
                rows.columns.iter().find(|(own, _)| *own == field).map(|(_, column)| column)
            };
            let column = ready.compute(rows.times.len(), operand);
            if !column.values.is_empty() {
                rows.columns.push((ids[*slot], column));
            }
        }
        let all = 0..rows.times.len();
        let mask = self.mask_of_rows(self.condition, &rows);
        self.hand_on(&rows, all, &mask)
    }

    fn groups(&mut self, source: GroupSource<'_>, range: &Range<i64>) -> Result<(), QueryError> {
        let verdicts = self.verdicts(source)?;
        let verdict_of: Vec<Verdict> = verdicts.iter().map(|own| self.choice(own)).collect();
        let mut at = 0;
        for alike in verdict_of.chunk_by(|a, b| a == b) {
            let groups = &source.groups[at..at + alike.len()];
            match alike[0] {
                _ if self.is_full() => return Ok(()),
                Verdict::Always => self.inner.groups(GroupSource { groups, ..source }, range)?,
                Verdict::Never => {
                    let pruned = &self.scan.budget.groups_pruned;
                    pruned.fetch_add(groups.len() as u64, Ordering::Relaxed);
                    if self.filter.parts {
                        groups.iter().try_for_each(|group| self.part_group(source, group))?;
                    }
                }
                Verdict::Maybe => {
                    for (i, group) in groups.iter().enumerate() {
                        if self.is_full() {
                            return Ok(());
                        }
                        self.one(source, group, &verdicts[at + i], range)?;
                    }
                }
            }
            at += alike.len();
        }
        Ok(())
    }

    fn part(&mut self, field: FieldId) -> Result<(), QueryError> {
        self.inner.part(field)
    }

    fn lost(&mut self, hole: &Hole) {
        self.lost.push(*hole);
    }

    fn is_full(&self) -> bool {
        self.inner.is_full()
    }
}

impl Leaf {
    /// What a group of `rows` rows says; without an extent, and if all groups have one that have the field (`told`), it has
    /// no value of the field.
    fn verdict(&self, extent: Option<&Extent>, told: bool, rows: u32) -> Verdict {
        let verdict = match extent {
            Some(extent) => self.test.verdict(extent, rows),
            None if told => Verdict::Never,
            None => Verdict::Maybe,
        };
        match (verdict, self.negated) {
            (Verdict::Never, true) => Verdict::Always,
            (Verdict::Always, true) => Verdict::Never,
            (verdict, _) => verdict,
        }
    }

    /// The rows that pass; without a column all values are missing.
    fn mask(&self, column: Option<&Column>, rows: usize) -> Mask {
        let mut mask = column.map_or_else(|| Mask::none(rows), |column| self.test.mask(column, rows));
        if self.negated {
            mask.invert();
        }
        mask
    }
}

/// What the verdicts of the leaves say of a condition.
fn judged(node: &Node, leaves: &[Verdict]) -> Verdict {
    let join = |nodes: &[Node], decides: Verdict, other: Verdict| {
        let mut all = other;
        for node in nodes {
            match judged(node, leaves) {
                verdict if verdict == decides => return decides,
                Verdict::Maybe => all = Verdict::Maybe,
                _ => {}
            }
        }
        all
    };
    match node {
        Node::Constant(true) => Verdict::Always,
        Node::Constant(false) => Verdict::Never,
        Node::Leaf(at) => leaves[*at],
        Node::Tag(_) => Verdict::Maybe,
        Node::All(nodes) => join(nodes, Verdict::Never, Verdict::Always),
        Node::Any(nodes) => join(nodes, Verdict::Always, Verdict::Never),
    }
}
