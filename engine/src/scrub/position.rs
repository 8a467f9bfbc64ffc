//! How far a scrub has come, kept over restarts in the file `scrub` (format-spec.md section 7.3).
//!
//! Nothing depends on it: a file that is lost, torn or damaged costs a pass from the beginning. So it is not synced.

use crate::file_header::field;
use crate::ids::StoreId;
use crate::io::{Disk, read_all};
use std::io;
use wattlog_model::Timestamp;

const PATH: &str = "scrub";
const TEMPORARY: &str = "scrub.tmp";
const MAGIC: [u8; 8] = *b"WATTSCR1";
const LEN: usize = 56;

/// Names, offsets and lengths of the parts, as in format-spec.md.
pub(crate) const PARTS: &[(&str, usize, usize)] = &[
    ("scrub_magic", 0, 8),
    ("scrub_store", 8, 16),
    ("scrub_after", 24, 8),
    ("scrub_began_ns", 32, 8),
    ("scrub_finished_ns", 40, 8),
    ("scrub_reserved", 48, 4),
    ("scrub_crc", 52, 4),
];

/// Where a pass is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    /// Files up to this number were read in this pass.
    pub(super) after: u64,
    /// When this pass began; none between two passes.
    pub(super) began: Option<Timestamp>,
    /// When the last full pass ended.
    pub(super) finished: Option<Timestamp>,
}

impl Position {
    fn encode(&self, store: StoreId) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(&MAGIC);
        out[8..24].copy_from_slice(&store.0);
        out[24..32].copy_from_slice(&self.after.to_le_bytes());
        out[32..40].copy_from_slice(&time(self.began).to_le_bytes());
        out[40..48].copy_from_slice(&time(self.finished).to_le_bytes());
        let crc = crc32fast::hash(&out[..52]);
        out[52..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// None for anything but what [`Position::encode`] gives for that store.
    fn decode(bytes: &[u8], store: StoreId) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let time = |at| Some(Timestamp(i64::from_le_bytes(field(bytes, at)))).filter(|time| time.0 != NEVER);
        let position =
            Self { after: u64::from_le_bytes(field(bytes, 24)), began: time(32), finished: time(40) };
        (position.encode(store) == *bytes).then_some(position)
    }

    /// What was kept; the beginning if that is nothing.
    pub(super) fn load(disk: &dyn Disk, store: StoreId) -> Self {
        let kept = read_all(disk, PATH, LEN as u64).ok();
        kept.and_then(|bytes| Self::decode(&bytes, store)).unwrap_or_default()
    }

    /// Keeps it.
    pub(super) fn save(&self, disk: &dyn Disk, store: StoreId) -> io::Result<()> {
        match disk.remove(TEMPORARY) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        disk.create(TEMPORARY)?.write_at(0, &self.encode(store))?;
        disk.rename(TEMPORARY, PATH)
    }
}

/// No time of a point or a clock.
const NEVER: i64 = i64::MIN;

fn time(time: Option<Timestamp>) -> i64 {
    time.map_or(NEVER, |time| time.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::SimDisk;

    const STORE: StoreId = StoreId([7; 16]);
    const THERE: Position = Position { after: 9, began: Some(Timestamp(5)), finished: None };

    #[test]
    fn what_was_saved_is_loaded_and_anything_else_is_the_beginning() {
        let disk = SimDisk::new(1);
        assert_eq!(Position::load(&disk, STORE), Position::default());
        THERE.save(&disk, STORE).unwrap();
        THERE.save(&disk, STORE).unwrap();
        assert_eq!(Position::load(&disk, STORE), THERE);
        assert_eq!(Position::load(&disk, StoreId([8; 16])), Position::default(), "of another store");
        for offset in 0..LEN as u64 {
            disk.flip_bit(PATH, offset, 2);
            assert_eq!(Position::load(&disk, STORE), Position::default(), "byte {offset}");
            disk.flip_bit(PATH, offset, 2);
        }
        disk.write_file(PATH, vec![0; LEN - 1]);
        assert_eq!(Position::load(&disk, STORE), Position::default());
    }

    #[test]
    fn parts_cover_the_file_without_gaps() {
        let end = PARTS.iter().fold(0, |at, &(name, offset, len)| {
            assert_eq!(offset, at, "{name}");
            at + len
        });
        assert_eq!(end, LEN);
    }
}
