//! Names: which of them are there, and which of them would be there after a power cut.
//!
//! Invariants
//! 1. `current` is what calls see; `durable` changes only in `sync_dir` and `settle`.
//! 2. Operations on one name become durable in the order they were made; those on different names in any.
//! 3. A rename inside a directory is one operation. Between two directories, syncing the new one makes the new name
//!    durable while the old may come back; syncing the old one makes both durable.
//! 4. A name below a directory that is not durable itself is lost with it.

use super::content::Inode;
use super::rng::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Clone)]
pub(super) enum Entry {
    Dir,
    File(Arc<Inode>),
}

pub(super) type Tree = BTreeMap<String, Entry>;

#[derive(Debug, Clone, Default)]
pub(super) struct Names {
    pub(super) current: Tree,
    pub(super) durable: Tree,
    /// In the order they were made.
    pending: Vec<Op>,
}

#[derive(Debug, Clone)]
enum Op {
    Link { name: String, entry: Entry },
    Unlink { name: String },
    Rename { from: String, to: String },
}

impl Op {
    fn names(&self) -> impl Iterator<Item = &str> {
        let (one, two) = match self {
            Self::Link { name, .. } | Self::Unlink { name } => (name, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        std::iter::once(one.as_str()).chain(two.map(String::as_str))
    }

    fn apply(&self, tree: &mut Tree) {
        match self {
            Self::Link { name, entry } => {
                tree.insert(name.clone(), entry.clone());
            }
            Self::Unlink { name } => {
                tree.remove(name);
            }
            Self::Rename { from, to } => {
                if let Some(entry) = tree.remove(from) {
                    tree.insert(to.clone(), entry);
                }
            }
        }
    }
}

/// How much of an operation becomes durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    /// Of a rename between directories: the new name, not yet the loss of the old.
    NewName,
    Whole,
}

impl Names {
    /// Names that are all durable.
    pub(super) fn settled(tree: Tree) -> Self {
        Self { durable: tree.clone(), current: tree, pending: Vec::new() }
    }

    pub(super) fn link(&mut self, name: &str, entry: Entry) {
        self.make(Op::Link { name: name.into(), entry });
    }

    pub(super) fn unlink(&mut self, name: &str) {
        self.make(Op::Unlink { name: name.into() });
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if from != to {
            self.make(Op::Rename { from: from.into(), to: to.into() });
        }
    }

    fn make(&mut self, op: Op) {
        op.apply(&mut self.current);
        self.pending.push(op);
    }

    pub(super) fn has_dir(&self, dir: &str) -> bool {
        dir.is_empty() || matches!(self.current.get(dir), Some(Entry::Dir))
    }

    /// Names directly inside `dir`, without it.
    pub(super) fn inside<'a>(&'a self, dir: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        self.current
            .iter()
            .filter(move |(name, _)| parent(name) == dir)
            .map(|(name, entry)| (name.rsplit('/').next().unwrap_or(name), entry))
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &Arc<Inode>)> {
        self.current.iter().filter_map(|(name, entry)| match entry {
            Entry::File(inode) => Some((name.as_str(), inode)),
            Entry::Dir => None,
        })
    }

    /// Makes the operations on names inside `dir` durable.
    pub(super) fn sync_dir(&mut self, dir: &str) {
        let wanted: Vec<Part> = self
            .pending
            .iter()
            .map(|op| match op {
                Op::Rename { from, to } if parent(to) == dir && parent(from) != dir => Part::NewName,
                _ if op.names().any(|name| parent(name) == dir) => Part::Whole,
                _ => Part::None,
            })
            .collect();
        self.make_durable(wanted);
    }

    /// A directory sync that failed part way: chance decides, and the rest stays to be synced.
    pub(super) fn sync_dir_in_part(&mut self, dir: &str, rng: &mut Rng) {
        let wanted = self
            .pending
            .iter()
            .map(|op| {
                let touches = op.names().any(|name| parent(name) == dir);
                if touches && rng.chance(50) { Part::Whole } else { Part::None }
            })
            .collect();
        self.make_durable(wanted);
    }

    /// The same names over other files, one for one.
    pub(super) fn over(&self, mut other: impl FnMut(&Arc<Inode>) -> Arc<Inode>) -> Self {
        let mut entry = |entry: &Entry| match entry {
            Entry::Dir => Entry::Dir,
            Entry::File(inode) => Entry::File(other(inode)),
        };
        let mut tree = |tree: &Tree| tree.iter().map(|(name, at)| (name.clone(), entry(at))).collect();
        let (current, durable) = (tree(&self.current), tree(&self.durable));
        let pending = self
            .pending
            .iter()
            .map(|op| match op {
                Op::Link { name, entry: at } => Op::Link { name: name.clone(), entry: entry(at) },
                Op::Unlink { .. } | Op::Rename { .. } => op.clone(),
            })
            .collect();
        Self { current, durable, pending }
    }

    /// Everything is durable from here on.
    pub(super) fn settle(&mut self) {
        self.pending.clear();
        self.durable = self.current.clone();
    }

    fn make_durable(&mut self, wanted: Vec<Part>) {
        let parts = closed(&self.pending, wanted);
        let mut left = Vec::new();
        for (op, part) in self.pending.drain(..).zip(parts) {
            match part {
                Part::None => left.push(op),
                Part::Whole => op.apply(&mut self.durable),
                Part::NewName => left.extend(apply_new_name(&op, &mut self.durable)),
            }
        }
        self.pending = left;
    }

    /// The names after a power cut. `chance` is the share of unsynced operations that survive, in percent.
    pub(super) fn after_cut(&self, chance: u64, rng: &mut Rng) -> Tree {
        let wanted = self
            .pending
            .iter()
            .map(|op| match op {
                _ if !rng.chance(chance) => Part::None,
                Op::Rename { from, to } if parent(from) != parent(to) && chance < 100 && rng.chance(25) => {
                    Part::NewName
                }
                _ => Part::Whole,
            })
            .collect();
        let mut tree = self.durable.clone();
        for (op, part) in self.pending.iter().zip(closed(&self.pending, wanted)) {
            match part {
                Part::None => {}
                Part::Whole => op.apply(&mut tree),
                Part::NewName => drop(apply_new_name(op, &mut tree)),
            }
        }
        // A directory sorts before what is in it, so one pass in order finds everything that hangs in the air.
        let mut kept = Tree::new();
        for (name, entry) in tree {
            let dir = parent(&name);
            if dir.is_empty() || matches!(kept.get(dir), Some(Entry::Dir)) {
                kept.insert(name, entry);
            }
        }
        kept
    }
}

/// Adds what the wanted operations build on: every earlier one on the same names.
fn closed(ops: &[Op], mut wanted: Vec<Part>) -> Vec<Part> {
    let mut needed = BTreeSet::new();
    for (op, part) in ops.iter().zip(&mut wanted).rev() {
        match op {
            // The old name is not touched, so what was done to it before may stay open; but the entry must be found.
            Op::Rename { from, to } if *part == Part::NewName && !needed.contains(from.as_str()) => {
                needed.insert(to.as_str());
                needed.insert(from.as_str());
            }
            _ if *part != Part::None || op.names().any(|name| needed.contains(name)) => {
                *part = Part::Whole;
                needed.extend(op.names());
            }
            _ => {}
        }
    }
    wanted
}

/// Does the first half of a rename and gives the second.
fn apply_new_name(op: &Op, tree: &mut Tree) -> Option<Op> {
    let Op::Rename { from, to } = op else { return None };
    let entry = tree.get(from)?.clone();
    tree.insert(to.clone(), entry);
    Some(Op::Unlink { name: from.clone() })
}

/// The directory that holds `path`, the empty path for a name in the store's own folder.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}
