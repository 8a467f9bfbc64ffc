//! What is to be read next: a pure choice.

use super::position::Position;
use std::time::Duration;
use wattlog_model::Timestamp;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A new pass begins.
    Begin,
    /// Read the file of that number.
    Verify(u64),
    /// Every file was read.
    Finish,
}

/// The next step over the files `ids` (rising), or none while nothing is due. Files made since the pass began have higher
/// numbers and are read too.
pub(super) fn plan(ids: &[u64], position: &Position, now: Timestamp, interval: Duration) -> Option<Step> {
    if position.began.is_some() {
        let next = ids.get(ids.partition_point(|id| *id <= position.after));
        return Some(next.map_or(Step::Finish, |id| Step::Verify(*id)));
    }
    let due = position.finished.is_none_or(|finished| {
        let age = now.0.checked_sub(finished.0);
        // A pass that ended in the future was timed by a wrong clock: reading once more costs little.
        age.is_none_or(|age| age < 0 || Duration::from_nanos(age.unsigned_abs()) >= interval)
    });
    due.then_some(Step::Begin)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn at(days: i64) -> Timestamp {
        Timestamp(days * 86_400_000_000_000)
    }

    #[track_caller]
    fn check(ids: &[u64], (after, began, finished): (u64, Option<i64>, Option<i64>), wanted: Option<Step>) {
        let position = Position { after, began: began.map(at), finished: finished.map(at) };
        assert_eq!(plan(ids, &position, at(100), 7 * DAY), wanted);
    }

    #[test]
    fn a_pass_begins_when_the_last_is_old_enough() {
        check(&[1, 2], (0, None, None), Some(Step::Begin));
        check(&[1, 2], (0, None, Some(93)), Some(Step::Begin));
        check(&[1, 2], (0, None, Some(94)), None);
        check(&[], (0, None, Some(94)), None);
    }

    #[test]
    fn a_pass_that_ended_in_the_future_does_not_hold_up_the_next() {
        check(&[1], (0, None, Some(101)), Some(Step::Begin));
        check(&[1], (0, None, Some(30_000)), Some(Step::Begin));
    }

    #[test]
    fn files_are_read_by_number_and_those_that_went_are_passed_over() {
        check(&[3, 5, 9], (0, Some(99), None), Some(Step::Verify(3)));
        check(&[3, 5, 9], (3, Some(99), None), Some(Step::Verify(5)));
        check(&[3, 9], (4, Some(99), Some(98)), Some(Step::Verify(9)));
        check(&[3, 5, 9], (9, Some(1), None), Some(Step::Finish));
        check(&[], (0, Some(99), None), Some(Step::Finish));
    }
}
