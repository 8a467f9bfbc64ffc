//! What is left after the power went.

use super::content::Inode;
use super::names::{Entry, Names, Tree};
use super::rng::Rng;
use std::collections::HashMap;
use std::sync::Arc;

/// One way in which a disk may come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    pub survives: Survives,
    pub seed: u64,
}

/// Which of the things that were not synced survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    Nothing,
    Everything,
    /// Each piece of each file and each operation on a name by chance. How likely is drawn too, for the names and for each
    /// file, and so is what lies in blocks that were given to a file but never written: zeros, noise, or bytes of another file.
    Some,
}

impl Cut {
    /// One of all ways: half of the seeds let some things survive, the others nothing or everything.
    pub fn from_seed(seed: u64) -> Self {
        let survives = match Rng::new(seed).below(4) {
            0 => Survives::Nothing,
            1 => Survives::Everything,
            _ => Survives::Some,
        };
        Self { survives, seed }
    }

    /// Names and files as they come back, all of it durable.
    pub(super) fn apply(self, names: &Names, piece_bytes: usize) -> Names {
        let mut rng = Rng::new(self.seed ^ SALT);
        let chance = |rng: &mut Rng| match self.survives {
            Survives::Nothing => 0,
            Survives::Everything => 100,
            Survives::Some => *rng.pick(&CHANCES),
        };
        let name_chance = chance(&mut rng);
        let tree = names.after_cut(name_chance, &mut rng);
        let stale = if self.survives == Survives::Some { stale_bytes(&tree, &mut rng) } else { Vec::new() };
        // Two names of one file (half a rename) stay names of one file.
        let mut files: HashMap<*const Inode, Arc<Inode>> = HashMap::new();
        let mut after = |inode: &Arc<Inode>| {
            let file = files.entry(Arc::as_ptr(inode)).or_insert_with(|| {
                let file_chance = chance(&mut rng);
                Inode::new(inode.0.lock().after_cut(file_chance, piece_bytes, &stale, &mut rng))
            });
            Arc::clone(file)
        };
        let current: Tree = tree
            .into_iter()
            .map(|(name, entry)| {
                let entry = match entry {
                    Entry::Dir => Entry::Dir,
                    Entry::File(inode) => Entry::File(after(&inode)),
                };
                (name, entry)
            })
            .collect();
        Names::settled(current)
    }
}

/// What lay on the disk where a file now has blocks that were never written.
fn stale_bytes(tree: &Tree, rng: &mut Rng) -> Vec<u8> {
    let files: Vec<&Arc<Inode>> = tree
        .values()
        .filter_map(|entry| match entry {
            Entry::File(inode) => Some(inode),
            Entry::Dir => None,
        })
        .collect();
    match rng.below(4) {
        0 => (0..NOISE_WORDS).flat_map(|_| rng.next_u64().to_le_bytes()).collect(),
        1 if !files.is_empty() => rng.pick(&files).0.lock().durable().as_ref().clone(),
        _ => Vec::new(),
    }
}

/// Shares in percent: mostly lost, mostly kept, and the two ends for one file while others are mixed.
const CHANCES: [u64; 5] = [0, 20, 50, 80, 100];
/// Words of noise; blocks beyond them hold zeros.
const NOISE_WORDS: usize = 8192;
/// Keeps the draws in here apart from the one that chose what survives.
const SALT: u64 = 0x6375_7420_6f66_6620;
