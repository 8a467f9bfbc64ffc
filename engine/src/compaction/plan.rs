//! Which segments are merged next. Pure: entries, deletes and the day in, one step out.
//!
//! Every file lies in one UTC month. Files of a month stand in commit order; only neighbours in that order are merged, so
//! that comparing the last sequence of two files still decides which of two values is the younger one. Files of one seal, or
//! of one step, have the same last sequence: a step takes all of them at its young end, or none.
//!
//! Rules, the first that applies
//! 1. A file with rows that a delete hides is rewritten by itself, if deletes are to be applied now; so is one that retention
//!    wants written again.
//! 2. Files of one UTC day that is over become one.
//! 3. In a month that is over, or with many files, the newest files are merged, and with them each older one that is at
//!    most twice as large as all that are younger: a late point does not rewrite a month, and what is written again is
//!    bounded by the logarithm of what there is.
//! 4. In a month that is over, a file whose rows have all become old enough for PCO is rewritten by itself, once: what that
//!    writes is marked, whether it gained or not.
//!
//! Of more than 64 files that a rule names, 64 neighbours are merged first, those with the fewest bytes: every input is read
//! at a place of its own for each series, so what is open and what is kept of their indexes stays bounded. The price is that
//! rows are written once more.
//!
//! Files that are set aside, or that could not be merged before, part the order: nothing is merged across them.

use crate::ids::{NamespaceId, SegmentId, Seq};
use crate::seal::month_of;
use crate::segment::SegmentEntry;
use crate::tombstone::Tombstone;
use hashbrown::HashSet;
use std::collections::{BTreeMap, HashSet as Distinct};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use wattlog_model::Timestamp;

/// Segments to merge, and the window of days in which they lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) namespace: NamespaceId,
    pub(crate) days: Range<i32>,
    /// In commit order.
    pub(crate) inputs: Vec<SegmentId>,
}

/// Files that are treated apart.
#[derive(Debug, Default)]
pub(crate) struct Apart {
    /// Not merged: damaged, or refused by the disk.
    pub(crate) avoid: HashSet<SegmentId>,
    /// To be written again for what retention hides in them.
    pub(crate) aged: HashSet<SegmentId>,
    /// Rows of UTC days before this one are old enough for PCO.
    pub(crate) pack_before: Option<i32>,
}

/// The first UTC day whose rows are too young for PCO, if it is used from `after` on. None too if that is before all time.
pub(crate) fn pack_before(today: i32, after: Option<Duration>) -> Option<i32> {
    let days = i64::try_from(after?.as_secs().div_ceil(24 * 3600)).ok()?;
    let day = i64::from(today).checked_sub(days)?;
    let first = Timestamp(i64::MIN).utc_day();
    i32::try_from(day).ok().filter(|day| *day > first)
}

/// How eagerly to merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// What the rules say.
    Due {
        /// Nothing was sealed for a while: months that are over are merged although they have few files.
        quiet: bool,
        /// Files are rewritten for deletes.
        apply_deletes: bool,
    },
    /// Each month into as few files as it can have.
    Everything,
}

/// Files of a month beyond which they are merged although it is not over or not quiet.
const MANY_FILES: usize = 8;
/// Files of a month that is over, at most.
const MOST_FILES: usize = 4;
/// Most bytes of the inputs of one step.
const MAX_STEP_BYTES: u64 = 2 << 30;
/// Inputs of one step, at most, where that leaves half as many files or fewer.
const MAX_STEP_FILES: usize = 64;

/// The next step; `entries` in any order, `today` in days since the epoch.
pub(crate) fn plan(
    entries: &[&SegmentEntry],
    tombstones: &[Arc<Tombstone>],
    today: i32,
    effort: Effort,
    apart: &Apart,
) -> Option<Step> {
    let mut months: BTreeMap<(NamespaceId, i32), Vec<&SegmentEntry>> = BTreeMap::new();
    for entry in entries {
        let month = month_of(Timestamp(entry.first_time).utc_day());
        months.entry((entry.namespace, month.start)).or_default().push(entry);
    }
    for ((namespace, _), mut files) in months {
        files.sort_by_key(|entry| (entry.max_seq, entry.id));
        let month = month_of(Timestamp(files[0].first_time).utc_day());
        let usable = |entry: &SegmentEntry| {
            !entry.quarantined
                && !apart.avoid.contains(&entry.id)
                && month.contains(&Timestamp(entry.last_time).utc_day())
        };
        let mut end = 0;
        for part in files.chunk_by(|a, b| usable(a) && usable(b)) {
            end += part.len();
            if !usable(part[0]) {
                continue;
            }
            let next_seq = files.get(end).map(|entry| entry.max_seq);
            let month = Month { days: month.clone(), files: part, next_seq, over: month.end < today };
            if let Some((days, inputs)) = month.next(tombstones, today, effort, apart) {
                let inputs = inputs.iter().map(|entry| entry.id).collect();
                return Some(Step { namespace, days, inputs });
            }
        }
    }
    None
}

/// Neighbours in commit order within one month.
struct Month<'a> {
    days: Range<i32>,
    files: &'a [&'a SegmentEntry],
    /// Last commit of the file that follows them, if one does.
    next_seq: Option<Seq>,
    /// It ended a day ago or more.
    over: bool,
}

impl<'a> Month<'a> {
    fn next(
        &self,
        tombstones: &[Arc<Tombstone>],
        today: i32,
        effort: Effort,
        apart: &Apart,
    ) -> Option<(Range<i32>, &'a [&'a SegmentEntry])> {
        let deleted = |entry: &SegmentEntry| tombstones.iter().any(|t| t.concerns(entry));
        let (quiet, apply_deletes) = match effort {
            Effort::Due { quiet, apply_deletes } => (quiet, apply_deletes),
            Effort::Everything => {
                let all = self.whole_commits(0..bounded(self.files));
                if !is_settled(all) {
                    return Some((self.days.clone(), self.few_enough(all)));
                }
                (true, true)
            }
        };
        let concerned =
            |entry: &&SegmentEntry| apart.aged.contains(&entry.id) || (apply_deletes && deleted(entry));
        if let Some(at) = self.files.iter().position(concerned) {
            return Some((self.days.clone(), &self.files[at..=at]));
        }
        if !self.over
            && let Some(step) = self.day_that_is_over(today)
        {
            return Some(step);
        }
        let due = if self.over { quiet || self.files.len() > MANY_FILES } else { self.loose() > MANY_FILES };
        if !due {
            return None;
        }
        let run = self.newest_run();
        if !is_settled(run) {
            return Some((self.days.clone(), self.few_enough(run)));
        }
        let packs = |entry: &&SegmentEntry| {
            let day = Timestamp(entry.last_time).utc_day();
            !entry.packed && apart.pack_before.is_some_and(|before| day < before)
        };
        let at = self.files.iter().position(packs).filter(|_| self.over && quiet)?;
        Some((self.days.clone(), &self.files[at..=at]))
    }

    /// Files of one day that is over, if nothing that lies in between in commit order has rows of that day.
    fn day_that_is_over(&self, today: i32) -> Option<(Range<i32>, &'a [&'a SegmentEntry])> {
        let mut at = 0;
        while at < self.files.len() {
            let day = single_day(self.files[at]);
            let run = self.files[at..].iter().take_while(|entry| single_day(entry) == day).count();
            // What is sealed by age comes up to a day later.
            if let Some(day) = day
                && day + 1 < today
                && run > 1
            {
                let files = self.whole_commits(at..at + bounded(&self.files[at..at + run]));
                if !is_settled(files) {
                    return Some((day..day + 1, self.few_enough(files)));
                }
            }
            at += run;
        }
        None
    }

    /// Files but those that are the only one of a single day.
    fn loose(&self) -> usize {
        let mut days = Distinct::new();
        self.files.iter().filter(|entry| single_day(entry).is_none_or(|day| !days.insert(day))).count()
    }

    fn newest_run(&self) -> &'a [&'a SegmentEntry] {
        let shared = self.files.iter().filter(|entry| entry.measurement.is_none()).count();
        let mut start = self.files.len();
        let mut bytes = 0;
        while start > 0 {
            let next = self.files[start - 1].file_bytes;
            let taken = self.files.len() - start;
            let too_many = shared > MOST_FILES && start > MOST_FILES;
            if taken > 0 && next > 2 * bytes && !too_many {
                break;
            }
            if bytes + next > MAX_STEP_BYTES {
                break;
            }
            bytes += next;
            start -= 1;
        }
        self.whole_commits(start..self.files.len())
    }

    /// Of too many files (neighbours of this month) the smallest neighbours that are worth a step of their own; otherwise all.
    fn few_enough(&self, files: &'a [&'a SegmentEntry]) -> &'a [&'a SegmentEntry] {
        if files.len() <= MAX_STEP_FILES {
            return files;
        }
        let first = self.files.iter().position(|entry| entry.id == files[0].id).unwrap_or_default();
        let starts = first..=first + files.len() - MAX_STEP_FILES;
        let parts = starts.map(|start| self.whole_commits(start..start + MAX_STEP_FILES)).filter(|part| {
            let measurements: Distinct<_> = part.iter().map(|entry| entry.measurement).collect();
            part.len() > 1 && 2 * measurements.len() <= part.len()
        });
        parts.min_by_key(|part| part.iter().map(|entry| entry.file_bytes).sum::<u64>()).unwrap_or(files)
    }

    /// The files of `range` without those at its end that have the last commit of the file behind it: what is made of them
    /// would win over that one, also with values that are older.
    fn whole_commits(&self, range: Range<usize>) -> &'a [&'a SegmentEntry] {
        let mut end = range.end;
        let next = self.files.get(end).map(|entry| entry.max_seq).or(self.next_seq);
        while end > range.start && Some(self.files[end - 1].max_seq) == next {
            end -= 1;
        }
        &self.files[range.start..end]
    }
}

/// How many of the first files are within the limit of one step.
fn bounded(files: &[&SegmentEntry]) -> usize {
    let mut bytes = 0;
    let fitting = files.iter().take_while(|entry| {
        bytes += entry.file_bytes;
        bytes <= MAX_STEP_BYTES
    });
    fitting.count()
}

/// Whether merging them is not worth it: each has a measurement of its own, and one at most has several.
fn is_settled(files: &[&SegmentEntry]) -> bool {
    let mut seen = Distinct::new();
    files.len() < 2 || files.iter().all(|entry| seen.insert(entry.measurement))
}

/// The UTC day in which all rows of a file lie, if it is one.
fn single_day(entry: &SegmentEntry) -> Option<i32> {
    let day = Timestamp(entry.first_time).utc_day();
    (day == Timestamp(entry.last_time).utc_day()).then_some(day)
}

/// Sequences of deletes that hide nothing any more, once `entries` are all there is. `oldest_in_memory` is the sequence
/// above which all unsealed rows are.
pub(crate) fn applied(
    entries: &[&SegmentEntry],
    tombstones: &[Arc<Tombstone>],
    oldest_in_memory: Seq,
) -> Vec<Seq> {
    let live = |t: &Tombstone| t.seq > oldest_in_memory || entries.iter().any(|entry| t.concerns(entry));
    let mut seqs: Vec<Seq> = Vec::new();
    // Those of one record go together.
    for of_record in tombstones.chunk_by(|a, b| a.seq == b.seq) {
        if !of_record.iter().any(|t| live(t)) {
            seqs.push(of_record[0].seq);
        }
    }
    seqs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MeasurementId;
    use crate::tombstone::tests::tombstone;

    const DAY: i64 = Timestamp::DAY_NS;
    const DUE: Effort = Effort::Due { quiet: true, apply_deletes: true };
    /// 2 March 1970: January and February are over.
    const TODAY: i32 = 60;

    /// A file of `days` with the commits `seq..seq + 9`.
    fn file(id: u64, seq: u64, days: Range<i64>, bytes: u64) -> SegmentEntry {
        SegmentEntry {
            measurement: None,
            first_time: days.start * DAY,
            last_time: days.end * DAY - 1,
            min_seq: Seq(seq),
            max_seq: Seq(seq + 9),
            file_bytes: bytes,
            deletes_applied: Seq(0),
            quarantined: false,
            packed: false,
            ..crate::manifest::edit::tests::entry(id)
        }
    }

    fn check(
        files: &[SegmentEntry],
        tombstones: &[Arc<Tombstone>],
        effort: Effort,
        expected: Option<&[u64]>,
    ) {
        let entries: Vec<&SegmentEntry> = files.iter().rev().collect();
        let step = plan(&entries, tombstones, TODAY, effort, &Apart::default());
        let inputs = step.map(|step| step.inputs.iter().map(|id| id.0).collect::<Vec<_>>());
        assert_eq!(inputs.as_deref(), expected);
    }

    #[test]
    fn a_month_that_is_over_becomes_one_file_and_a_late_point_does_not_rewrite_it() {
        let days: Vec<_> = (0..31).map(|d| file(d + 1, d * 10, d as i64..d as i64 + 1, 1000)).collect();
        check(&days, &[], DUE, Some(&(1..=31).collect::<Vec<_>>()));
        let month = file(40, 0, 0..31, 31_000);
        check(std::slice::from_ref(&month), &[], DUE, None);
        let mut files = vec![month];
        for late in 0..3 {
            files.push(file(41 + late, 400 + 10 * late, 3..4, 10));
        }
        // The small ones are of one size, so they become one; the month stays.
        check(&files, &[], DUE, Some(&[41, 42, 43]));
    }

    #[test]
    fn a_day_that_is_over_becomes_one_file_unless_another_lies_between() {
        // 1 March is day 59, today day 60: what it gets by age may come yet. So look from the day after.
        let files = [file(1, 10, 31..32, 500), file(2, 20, 31..32, 5), file(3, 30, 32..33, 500)];
        let entries: Vec<&SegmentEntry> = files.iter().collect();
        let look = |files: &[&SegmentEntry], today| plan(files, &[], today, DUE, &Apart::default());
        assert_eq!(look(&entries, 33).unwrap().days, 31..32);
        assert_eq!(look(&entries, 33).unwrap().inputs, [SegmentId(1), SegmentId(2)]);
        assert_eq!(look(&entries, 32), None, "the day is not over for a day");
        let wide = [file(1, 10, 31..32, 500), file(2, 20, 31..40, 500), file(3, 30, 31..32, 500)];
        assert_eq!(look(&wide.iter().collect::<Vec<_>>(), 40), None);
    }

    #[test]
    fn many_files_of_an_open_month_are_merged_by_size() {
        let files: Vec<_> = (0..12).map(|i| file(i + 1, i * 10, 59..60, 100)).collect();
        check(
            &files,
            &[],
            Effort::Due { quiet: false, apply_deletes: false },
            Some(&(1..=12).collect::<Vec<_>>()),
        );
        check(&files[..8], &[], Effort::Due { quiet: false, apply_deletes: false }, None);
    }

    /// Carries out steps of `effort` until none is due; each makes one file of its inputs. Gives what is left and the bytes
    /// written.
    fn carried_out(mut files: Vec<SegmentEntry>, effort: Effort) -> (Vec<SegmentEntry>, u64) {
        let mut written = 0;
        for id in 10_000.. {
            let entries: Vec<&SegmentEntry> = files.iter().collect();
            let Some(step) = plan(&entries, &[], TODAY, effort, &Apart::default()) else { break };
            assert!(step.inputs.len() <= MAX_STEP_FILES, "{} inputs", step.inputs.len());
            let (inputs, rest): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|entry| step.inputs.contains(&entry.id));
            let merged = SegmentEntry {
                id: SegmentId(id),
                min_seq: inputs.iter().map(|entry| entry.min_seq).min().unwrap(),
                max_seq: inputs.iter().map(|entry| entry.max_seq).max().unwrap(),
                first_time: inputs.iter().map(|entry| entry.first_time).min().unwrap(),
                last_time: inputs.iter().map(|entry| entry.last_time).max().unwrap(),
                file_bytes: inputs.iter().map(|entry| entry.file_bytes).sum(),
                ..inputs[0].clone()
            };
            written += merged.file_bytes;
            files = rest;
            files.push(merged);
        }
        (files, written)
    }

    #[test]
    fn very_many_files_are_merged_64_at_a_time_and_written_twice() {
        for days in [3..4, 3..9] {
            let files: Vec<_> = (0..1000).map(|i| file(i + 1, i * 10, days.clone(), 100)).collect();
            for effort in [DUE, Effort::Everything] {
                let (left, written) = carried_out(files.clone(), effort);
                assert_eq!(left.len(), 1, "{effort:?}");
                assert!(written <= 2 * 1000 * 100, "{written} bytes written for 100 000");
            }
        }
        // Of one commit: a step never parts them from what is younger.
        let mut files: Vec<_> = (0..200).map(|i| file(i + 1, i / 80 * 1000, 3..9, 100)).collect();
        files.push(file(900, 5000, 3..9, 100));
        let entries: Vec<&SegmentEntry> = files.iter().collect();
        let step = plan(&entries, &[], TODAY, Effort::Everything, &Apart::default()).unwrap();
        let seq = |id: &SegmentId| files.iter().find(|entry| entry.id == *id).unwrap().max_seq;
        let (youngest, last) = step.inputs.iter().map(|id| (seq(id), *id)).max().unwrap();
        assert!(!files.iter().any(|entry| entry.max_seq == youngest && entry.id > last));
    }

    #[test]
    fn many_files_of_many_measurements_are_one_step_where_parts_would_gain_nothing() {
        let mut files: Vec<_> = (0..200).map(|i| file(i + 1, i * 10, 0..31, 100)).collect();
        for (place, entry) in files.iter_mut().enumerate() {
            entry.measurement = Some(MeasurementId(place as u32 % 100));
        }
        check(&files, &[], Effort::Everything, Some(&(1..=200).collect::<Vec<_>>()));
    }

    #[test]
    fn nothing_is_merged_across_a_file_that_is_set_aside() {
        let mut files: Vec<_> = (0..5).map(|i| file(i + 1, i * 10, 0..31, 100)).collect();
        files[2].quarantined = true;
        check(&files, &[], DUE, Some(&[1, 2]));
        let mut rest = files.split_off(2);
        rest.insert(0, file(9, 0, 0..31, 200));
        check(&rest, &[], DUE, Some(&[4, 5]));
    }

    #[test]
    fn a_step_does_not_end_between_files_of_one_last_commit() {
        // Day 1 and day 2 of two seals; the younger file of day 2 cannot be used.
        let mut files = vec![
            file(5, 0, 31..32, 100),
            file(6, 0, 32..33, 100),
            file(10, 10, 31..32, 100),
            file(11, 10, 32..33, 100),
        ];
        files[3].quarantined = true;
        // What was made of 5, 6 and 10 would win over 11 on day 2.
        check(&files, &[], Effort::Everything, Some(&[5, 6]));
        files[3].quarantined = false;
        check(&files, &[], Effort::Everything, Some(&[5, 6, 10, 11]));
        // Small files of one day, then one that a merge of several days made together with another.
        let day =
            [file(1, 0, 31..32, 9), file(2, 10, 31..32, 9), file(50, 20, 31..32, 9), file(51, 20, 31..33, 9)];
        let entries: Vec<&SegmentEntry> = day.iter().collect();
        let step = plan(&entries, &[], 40, DUE, &Apart::default()).unwrap();
        assert_eq!(step.inputs, [SegmentId(1), SegmentId(2)]);
    }

    #[test]
    fn files_of_different_measurements_are_left_alone() {
        let mut files = vec![file(1, 0, 0..31, 100), file(2, 0, 0..31, 100), file(3, 0, 0..31, 100)];
        files[0].measurement = Some(MeasurementId(1));
        files[1].measurement = Some(MeasurementId(2));
        check(&files, &[], DUE, None);
        check(&files, &[], Effort::Everything, None);
        files[1].measurement = Some(MeasurementId(1));
        check(&files, &[], Effort::Everything, Some(&[1, 2, 3]));
    }

    #[test]
    fn a_file_that_has_become_old_enough_is_packed_once() {
        let months = [file(1, 0, 0..31, 100), file(2, 10, 31..59, 100)];
        let look = |files: &[SegmentEntry], pack_before, effort| {
            let apart = Apart { pack_before, ..Apart::default() };
            let entries: Vec<&SegmentEntry> = files.iter().collect();
            plan(&entries, &[], TODAY, effort, &apart).map(|step| step.inputs)
        };
        assert_eq!(look(&months, None, DUE), None);
        assert_eq!(look(&months, Some(30), DUE), None, "its last day is too young");
        assert_eq!(look(&months, Some(31), DUE), Some(vec![SegmentId(1)]));
        assert_eq!(look(&months, Some(31), Effort::Everything), Some(vec![SegmentId(1)]));
        let busy = Effort::Due { quiet: false, apply_deletes: true };
        assert_eq!(look(&months, Some(31), busy), None, "there is time");
        let packed = [SegmentEntry { packed: true, ..months[0].clone() }, months[1].clone()];
        assert_eq!(look(&packed, Some(31), DUE), None);
        // Merging comes first, and packs what it writes.
        let late = [packed[0].clone(), file(3, 20, 3..4, 90), file(4, 30, 4..5, 90)];
        assert_eq!(look(&late, Some(31), DUE), Some(vec![SegmentId(1), SegmentId(3), SegmentId(4)]));
        // A month that is not over is merged once more anyway.
        let march = file(5, 40, 59..60, 100);
        assert_eq!(look(&[march], Some(60), DUE), None);
    }

    #[test]
    fn days_old_enough_are_counted_in_whole_days() {
        let days = |days: u64| Some(Duration::from_hours(24 * days));
        assert_eq!(pack_before(20_000, None), None);
        assert_eq!(pack_before(20_000, days(0)), Some(20_000));
        assert_eq!(pack_before(20_000, days(400)), Some(19_600));
        assert_eq!(pack_before(20_000, Some(Duration::from_secs(1))), Some(19_999));
        assert_eq!(pack_before(20_000, Some(Duration::MAX)), None);
        assert_eq!(pack_before(0, days(200_000)), None);
    }

    #[test]
    fn a_file_that_retention_wants_written_again_is_taken_by_itself() {
        let files: Vec<_> = (0..3).map(|i| file(i + 1, i * 10, 0..31, 100 << (10 * (2 - i)))).collect();
        let entries: Vec<&SegmentEntry> = files.iter().collect();
        let apart = Apart { aged: HashSet::from([SegmentId(2)]), ..Apart::default() };
        let effort = Effort::Due { quiet: false, apply_deletes: false };
        let step = plan(&entries, &[], TODAY, effort, &apart).unwrap();
        assert_eq!(step.inputs, [SegmentId(2)]);
        let apart = Apart { avoid: HashSet::from([SegmentId(2)]), ..apart };
        assert_eq!(plan(&entries, &[], TODAY, effort, &apart), None);
    }

    #[test]
    fn a_delete_rewrites_what_it_hides_in_once_and_then_goes() {
        let files = [file(1, 0, 0..31, 100), file(2, 100, 31..59, 100)];
        let deletes = [Arc::new(tombstone(50))];
        check(&files, &deletes, DUE, Some(&[1]));
        check(&files, &deletes, Effort::Due { quiet: true, apply_deletes: false }, None);
        let entries: Vec<&SegmentEntry> = files.iter().collect();
        assert!(applied(&entries, &deletes, Seq(200)).is_empty());
        let mut done = files.clone();
        done[0].deletes_applied = Seq(50);
        check(&done, &deletes, DUE, None);
        let entries: Vec<&SegmentEntry> = done.iter().collect();
        assert_eq!(applied(&entries, &deletes, Seq(200)), [Seq(50)]);
        assert!(applied(&entries, &deletes, Seq(49)).is_empty(), "rows in memory may be hidden by it");
    }
}
