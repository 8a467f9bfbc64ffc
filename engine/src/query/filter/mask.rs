//! One bit per row of a group or run.

use std::ops::Range;

/// A set of rows `0..rows`. Bits beyond the last row are never set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::query) struct Mask {
    words: Vec<u64>,
    rows: usize,
}

impl Mask {
    pub(in crate::query) fn none(rows: usize) -> Self {
        Self { words: vec![0; rows.div_ceil(64)], rows }
    }

    pub(in crate::query) fn all(rows: usize) -> Self {
        let mut mask = Self { words: vec![u64::MAX; rows.div_ceil(64)], rows };
        mask.cut();
        mask
    }

    /// Rows `i` for which `holds(&values[i])`.
    pub(in crate::query) fn of<T>(values: &[T], holds: impl Fn(&T) -> bool) -> Self {
        let word = |chunk: &[T]| {
            chunk.iter().enumerate().fold(0, |word, (i, value)| word | u64::from(holds(value)) << i)
        };
        Self { words: values.chunks(64).map(word).collect(), rows: values.len() }
    }

    pub(in crate::query) fn set(&mut self, row: usize) {
        debug_assert!(row < self.rows);
        self.words[row / 64] |= 1 << (row % 64);
    }

    pub(in crate::query) fn and(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
    }

    pub(in crate::query) fn or(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
    }

    pub(in crate::query) fn invert(&mut self) {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.cut();
    }

    /// Keeps the rows of a range.
    pub(in crate::query) fn clip(&mut self, range: Range<usize>) {
        for (i, word) in self.words.iter_mut().enumerate() {
            let bits = |end: usize| match end.saturating_sub(i * 64) {
                0 => 0,
                n if n >= 64 => u64::MAX,
                n => (1 << n) - 1,
            };
            *word &= bits(range.end) & !bits(range.start);
        }
    }

    /// Takes a row out.
    pub(in crate::query) fn clear(&mut self, row: usize) {
        self.words[row / 64] &= !(1 << (row % 64));
    }

    pub(in crate::query) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub(in crate::query) fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    pub(in crate::query) fn is_full(&self) -> bool {
        self.count() == self.rows
    }

    pub(in crate::query) fn contains(&self, row: usize) -> bool {
        self.words[row / 64] >> (row % 64) & 1 == 1
    }

    /// The rows, rising.
    pub(in crate::query) fn rows(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(i, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros() as usize;
                (left != 0).then(|| {
                    left &= left - 1;
                    i * 64 + bit
                })
            })
        })
    }

    /// Longest stretches of `range` that are in the set or not, in order.
    pub(in crate::query) fn stretches(&self, range: Range<usize>) -> Vec<(bool, Range<usize>)> {
        let mut out: Vec<(bool, Range<usize>)> = Vec::new();
        for row in range {
            let is_in = self.contains(row);
            match out.last_mut() {
                Some((kind, range)) if *kind == is_in => range.end = row + 1,
                _ => out.push((is_in, row..row + 1)),
            }
        }
        out
    }
}

impl Mask {
    /// Unsets what lies beyond the last row.
    fn cut(&mut self) {
        if !self.rows.is_multiple_of(64)
            && let Some(last) = self.words.last_mut()
        {
            *last &= (1 << (self.rows % 64)) - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_mask_is_a_set_of_rows(
            bits in prop::collection::vec(any::<bool>(), 0..300),
            other in prop::collection::vec(any::<bool>(), 300),
            (a, b) in (0_usize..320, 0_usize..320),
        ) {
            let rows = bits.len();
            let (range, other) = (a.min(b)..a.max(b), &other[..rows]);
            let of = |f: &dyn Fn(usize) -> bool| (0..rows).filter(|row| f(*row)).collect::<Vec<_>>();
            let mask = Mask::of(&bits, |bit| *bit);
            prop_assert_eq!(mask.rows().collect::<Vec<_>>(), of(&|row| bits[row]));
            prop_assert_eq!(mask.count(), of(&|row| bits[row]).len());
            prop_assert_eq!((mask.is_empty(), mask.is_full()), (mask.count() == 0, mask.count() == rows));
            let changed = |change: &dyn Fn(&mut Mask)| {
                let mut mask = mask.clone();
                change(&mut mask);
                mask.rows().collect::<Vec<_>>()
            };
            let with = Mask::of(other, |bit| *bit);
            prop_assert_eq!(changed(&|mask| mask.and(&with)), of(&|row| bits[row] && other[row]));
            prop_assert_eq!(changed(&|mask| mask.or(&with)), of(&|row| bits[row] || other[row]));
            prop_assert_eq!(changed(&Mask::invert), of(&|row| !bits[row]));
            prop_assert_eq!(changed(&|mask| mask.clip(range.clone())), of(&|row| bits[row] && range.contains(&row)));
            let cleared = changed(&|mask| (a.min(rows)..b.min(rows)).for_each(|row| mask.clear(row)));
            prop_assert_eq!(cleared, of(&|row| bits[row] && !(a..b).contains(&row)));
            prop_assert_eq!(Mask::all(rows).count(), rows);
            let stretches = mask.stretches(0..rows);
            let told: Vec<bool> =
                stretches.iter().flat_map(|(kind, range)| vec![*kind; range.len()]).collect();
            prop_assert_eq!(told, bits);
            prop_assert!(stretches.windows(2).all(|pair| pair[0].0 != pair[1].0));
        }
    }
}
