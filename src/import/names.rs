//! Words that become tags: cut to a plain form, and so few of them that no file can fill the store with series.

use std::collections::BTreeSet;

/// Different words of one tag; all that come later are [`OTHER`].
const MOST: usize = 512;
/// Bytes of a word.
const LONGEST: usize = 64;
/// Stands for every word beyond the limit.
pub(super) const OTHER: &str = "other";

/// The words of one tag so far. The same words in the same order give the same answers.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeSet<String>);

impl Names {
    /// The word as a tag: lower case, digits, `_`, `-` and `/`; anything else is a `-`.
    pub(super) fn tag(&mut self, word: &str) -> String {
        let plain = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '_' | '-' | '/') => c,
            _ => '-',
        };
        let word: String = word.trim().chars().take(LONGEST).map(plain).collect();
        if word.is_empty() || (!self.0.contains(&word) && self.0.len() >= MOST) {
            return OTHER.to_owned();
        }
        self.0.insert(word.clone());
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_plain_and_few() {
        let mut names = Names::default();
        assert_eq!(names.tag(" Open-Meteo "), "open-meteo");
        assert_eq!(names.tag("IMGW\nx=y,ż"), "imgw-x-y--");
        assert_eq!(names.tag(""), OTHER);
        for number in 0..2 * MOST {
            names.tag(&number.to_string());
        }
        assert_eq!(names.tag("one more"), OTHER);
        assert_eq!(names.tag("Open-Meteo"), "open-meteo", "known words stay");
    }
}
