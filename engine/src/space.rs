//! The disk-space guard: writes end before the room does, so that what is in memory can still be sealed, and what is old or
//! deleted can still go.
//!
//! Promise: while less than the reserve is free, bodies are refused as on a full disk and nothing else is; when there is room
//! again, with a little to spare, they are taken again without a word from anybody. Reads, seals, deletes and retention go on.
//!
//! Invariants
//! 1. Between two looks at the disk no more is written to logs than was free above the reserve at the first, and above what
//!    the seals of all that is in memory will take.
//! 2. A disk that does not tell refuses nothing.
//!
//! Not here: the ballast, which is given up when a seal meets a disk that somebody else filled (`ballast`).

use crate::io::Disk;
use crate::status::Status;
use parking_lot::Mutex;
use std::time::Duration;

/// Room on the disk of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SpaceInfo {
    /// Bytes that can still be written, at the last look; none before the first.
    pub available_bytes: Option<u64>,
    /// Bytes of the whole disk.
    pub total_bytes: u64,
    /// Below this writes are refused.
    pub reserve_bytes: u64,
    /// Below this `/health` warns.
    pub warning_bytes: u64,
    /// True while writes are refused.
    pub full: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SpaceGuard {
    reserve_bytes: Option<u64>,
    warning_bytes: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    info: SpaceInfo,
    low: bool,
    /// When the disk was last asked.
    looked: Option<Duration>,
    /// Written to logs since then.
    spent_bytes: u64,
    told_that_it_is_mute: bool,
}

/// A disk with room is asked this often.
const LOOK: Duration = Duration::from_secs(1);
/// Without a setting: as much as seals of full memtables may take, ...
const MOST_RESERVE_BYTES: u64 = 64 << 20;
/// ... but a fiftieth of the disk at most.
const RESERVE_SHARE: u64 = 50;
/// A body up to this length that does not fit says that the disk is full; a longer one may just be long.
const ORDINARY_BYTES: u64 = 64 << 10;
/// Without a setting: a tenth of the disk, this at most, twice the reserve at least.
const MOST_WARNING_BYTES: u64 = 1 << 30;
const WARNING_SHARE: u64 = 10;

impl SpaceGuard {
    /// Limits in bytes; none: by the size of the disk.
    pub(crate) fn new(reserve_bytes: Option<u64>, warning_bytes: Option<u64>) -> Self {
        Self { reserve_bytes, warning_bytes, state: Mutex::default() }
    }

    /// Notes what was written to a log.
    pub(crate) fn spend(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.spent_bytes = state.spent_bytes.saturating_add(bytes);
    }

    /// The disk said that it is full: it is asked again before more is taken.
    pub(crate) fn met_the_end(&self) {
        self.state.lock().looked = None;
    }

    pub(crate) fn info(&self) -> SpaceInfo {
        self.state.lock().info
    }

    /// Why a body that takes `bytes` of a log is refused; none if it is not. `unsealed` bytes of logs are still to be sealed;
    /// `now` is monotonic.
    pub(crate) fn refusal(
        &self,
        disk: &dyn Disk,
        status: &Status,
        now: Duration,
        (bytes, unsealed): (u64, u64),
    ) -> Option<String> {
        let needed = with_seals(bytes, unsealed);
        let mut state = self.state.lock();
        let was_full = state.info.full;
        let fresh = state.looked.is_some_and(|looked| now.saturating_sub(looked) < LOOK);
        if !fresh || was_full || !state.has_room(needed) {
            self.look(&mut state, disk, status, now);
        }
        // A little may be left that is of no use; once full, it has to be enough for an ordinary body.
        let ordinary = if was_full { ORDINARY_BYTES } else { bytes.min(ORDINARY_BYTES) };
        state.info.full |= !state.has_room(with_seals(ordinary, unsealed));
        if state.info.full != was_full {
            tell(&state.info);
        }
        let refused = state.info.full || !state.has_room(needed);
        refused.then(|| {
            let SpaceInfo { available_bytes, reserve_bytes, .. } = state.info;
            format!(
                "{} are left and {} are kept back for what must go on: free space, writes resume by themselves",
                shown(available_bytes.unwrap_or(0)),
                shown(reserve_bytes)
            )
        })
    }

    fn look(&self, state: &mut State, disk: &dyn Disk, status: &Status, now: Duration) {
        let space = match disk.space() {
            Ok(space) => space,
            Err(error) => {
                if !std::mem::replace(&mut state.told_that_it_is_mute, true) {
                    tracing::warn!(%error, "the disk does not say how much room it has");
                }
                // Tried again a second later; until then nothing is known to be short.
                let low = state.low;
                *state = State { looked: Some(now), low, told_that_it_is_mute: true, ..State::default() };
                return;
            }
        };
        let reserve_bytes =
            self.reserve_bytes.unwrap_or_else(|| MOST_RESERVE_BYTES.min(space.total_bytes / RESERVE_SHARE));
        let warning_bytes = self.warning_bytes.unwrap_or_else(|| {
            MOST_WARNING_BYTES.min(space.total_bytes / WARNING_SHARE).max(reserve_bytes.saturating_mul(2))
        });
        let (was_full, was_low) = (state.info.full, state.low);
        let available = space.available_bytes;
        state.info = SpaceInfo {
            available_bytes: Some(available),
            total_bytes: space.total_bytes,
            reserve_bytes,
            warning_bytes,
            full: available < if was_full { with_spare(reserve_bytes) } else { reserve_bytes },
        };
        state.low = available < if was_low { with_spare(warning_bytes) } else { warning_bytes };
        (state.looked, state.spent_bytes, state.told_that_it_is_mute) = (Some(now), 0, false);
        if state.low != was_low {
            status.set_space_alarm(state.low.then(|| {
                tracing::warn!(available_bytes = available, warning_bytes, "the disk is filling up");
                format!(
                    "the disk is filling up: less than {} are left, below {} writes are refused",
                    shown(warning_bytes),
                    shown(reserve_bytes)
                )
            }));
        }
    }
}

impl State {
    /// Whether so much can be written without touching the reserve, as far as is known.
    fn has_room(&self, bytes: u64) -> bool {
        let Some(available) = self.info.available_bytes else { return true };
        if self.info.reserve_bytes == 0 {
            return true;
        }
        let free = available.saturating_sub(self.info.reserve_bytes);
        self.spent_bytes.saturating_add(bytes) <= free
    }
}

/// Tells that writes end, or that they go on.
fn tell(info: &SpaceInfo) {
    let SpaceInfo { available_bytes, reserve_bytes, .. } = *info;
    if info.full {
        tracing::error!(
            available_bytes,
            reserve_bytes,
            "the disk is nearly full: writes are refused until there is room"
        );
    } else {
        tracing::info!(available_bytes, "there is room again: writes are taken");
    }
}

/// What a body takes beside the reserve: itself, and once more for its seal and for those of all that came before it, which
/// no codec makes much longer than they are in the log.
fn with_seals(bytes: u64, unsealed: u64) -> u64 {
    bytes.saturating_mul(2).saturating_add(unsealed)
}

/// What must be free before a limit counts as left behind: a quarter more, so that it is not passed to and fro.
fn with_spare(bytes: u64) -> u64 {
    bytes.saturating_add(bytes / 4)
}

/// Bytes as a person reads them.
fn shown(bytes: u64) -> String {
    match bytes {
        0..0x2000 => format!("{bytes} B"),
        0x2000..0x80_0000 => format!("{} KiB", bytes >> 10),
        _ => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::sim::{CallKind, Fault, FaultError, Lasting, SimDisk};

    const MIB: u64 = 1 << 20;

    fn refuses(guard: &SpaceGuard, disk: &SimDisk, status: &Status, second: u64, bytes: u64) -> bool {
        guard.refusal(disk, status, Duration::from_secs(second), (bytes, 0)).is_some()
    }

    #[test]
    fn limits_go_by_the_size_of_the_disk_unless_they_are_told() {
        for (total, reserve, warning) in [
            (1 << 40, 64 * MIB, 1024 * MIB),
            (1 << 30, (1 << 30) / 50, (1 << 30) / 10),
            (64 * MIB, 64 * MIB / 50, 64 * MIB / 10),
        ] {
            let (guard, disk, status) = (SpaceGuard::new(None, None), SimDisk::new(1), Status::default());
            disk.set_capacity_bytes(Some(total));
            assert!(!refuses(&guard, &disk, &status, 0, 0));
            assert_eq!(
                (guard.info().reserve_bytes, guard.info().warning_bytes),
                (reserve, warning),
                "{total}"
            );
        }
        let (guard, disk, status) = (SpaceGuard::new(Some(0), Some(0)), SimDisk::new(1), Status::default());
        disk.set_capacity_bytes(Some(0));
        assert!(!refuses(&guard, &disk, &status, 0, 5), "switched off");
    }

    #[test]
    fn what_is_written_between_two_looks_counts_and_room_must_come_with_a_little_to_spare() {
        let guard = SpaceGuard::new(Some(100 * MIB), Some(300 * MIB));
        let (disk, status) = (SimDisk::new(1), Status::default());
        disk.set_capacity_bytes(Some(200 * MIB));
        assert!(!refuses(&guard, &disk, &status, 0, 50 * MIB));
        assert_eq!(status.health().alarms.len(), 1, "low");
        guard.spend(100 * MIB);
        disk.set_capacity_bytes(Some(110 * MIB));
        assert!(!refuses(&guard, &disk, &status, 0, 5 * MIB));
        assert!(refuses(&guard, &disk, &status, 0, 5 * MIB + 1), "another look finds as much");
        assert!(!guard.info().full, "it was a long one");
        let unsealed = |bytes| guard.refusal(&disk, &status, Duration::ZERO, (0, bytes)).is_some();
        assert!(!unsealed(10 * MIB) && unsealed(10 * MIB + 1), "seals are to fit");
        assert!(guard.info().full);
        // Somebody else fills the disk.
        disk.set_capacity_bytes(Some(99 * MIB));
        assert!(refuses(&guard, &disk, &status, 2, 0) && guard.info().full);
        disk.set_capacity_bytes(Some(120 * MIB));
        assert!(refuses(&guard, &disk, &status, 2, 0), "not enough to spare");
        disk.set_capacity_bytes(Some(126 * MIB));
        assert!(!refuses(&guard, &disk, &status, 2, 0), "asked each time while it is full");
        disk.set_capacity_bytes(Some(500 * MIB));
        assert!(!refuses(&guard, &disk, &status, 4, 0));
        assert!(status.health().alarms.is_empty());
    }

    #[test]
    fn a_disk_that_does_not_tell_refuses_nothing() {
        let (guard, disk, status) = (SpaceGuard::new(None, None), SimDisk::new(1), Status::default());
        disk.inject(Fault::at(1, FaultError::Eio, Lasting::ForGood).on(CallKind::AvailableBytes));
        assert!(!refuses(&guard, &disk, &status, 0, u64::MAX));
        assert_eq!(guard.info().available_bytes, None);
    }
}
