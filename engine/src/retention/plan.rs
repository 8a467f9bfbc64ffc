//! Which segments retention has to do with. Pure: entries and rules in, segments out.

use super::cutoffs::{Purpose, Retentions};
use crate::ids::MeasurementId;
use crate::segment::SegmentEntry;

/// Files whose every row is beyond its cutoff, set aside or not.
///
/// A file that several measurements share goes by the earliest cutoff of its namespace: what is kept of one keeps the file,
/// until a merge has left out the rest.
pub(crate) fn expired<'a>(
    entries: impl Iterator<Item = &'a SegmentEntry>,
    retentions: &Retentions,
) -> Vec<SegmentEntry> {
    if !retentions.is_proven() || retentions.is_empty() {
        return Vec::new();
    }
    let beyond = |entry: &&SegmentEntry| {
        let cutoff_ns = match entry.measurement {
            Some(own) => retentions.cutoff(entry.namespace, Some(own), Purpose::Drop),
            None => retentions.bounds(entry.namespace, Purpose::Drop).0,
        };
        entry.last_time < cutoff_ns
    };
    entries.filter(beyond).cloned().collect()
}

/// First and last time of one measurement in a file, both inclusive.
pub(crate) type Span = (MeasurementId, i64, i64);

/// How much must be beyond the cutoff for a file to be written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// All of one measurement: it happens once for each, so what is written again is bounded.
    WholeMeasurement,
    /// Any row.
    AnyRow,
}

/// Whether a merge may have anything to leave out of a file, told by its entry alone.
pub(crate) fn may_hold_hidden(entry: &SegmentEntry, retentions: &Retentions) -> bool {
    !entry.quarantined && entry.first_time < retentions.bounds(entry.namespace, Purpose::Drop).1
}

/// Whether a file is worth writing again for what it hides.
pub(crate) fn is_worth(entry: &SegmentEntry, spans: &[Span], retentions: &Retentions, worth: Worth) -> bool {
    spans.iter().any(|(measurement, first, last)| {
        let cutoff_ns = retentions.cutoff(entry.namespace, Some(*measurement), Purpose::Drop);
        match worth {
            Worth::WholeMeasurement => *last < cutoff_ns,
            Worth::AnyRow => *first < cutoff_ns,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NamespaceId;
    use crate::retention::{ClockRecord, PROVEN_NS, Retained, Rule};

    const KEPT: MeasurementId = MeasurementId(4);
    const SHORT: MeasurementId = MeasurementId(3);

    fn entry(measurement: Option<MeasurementId>, first_time: i64, last_time: i64) -> SegmentEntry {
        SegmentEntry {
            measurement,
            first_time,
            last_time,
            quarantined: false,
            packed: false,
            ..crate::manifest::edit::tests::entry(1)
        }
    }

    /// All before 100 is beyond retention, but of one measurement nothing is.
    fn retentions(steady_ns: u64) -> Retentions {
        let namespace = NamespaceId(1);
        let all = Retained { rule: Rule::Keep { ns: 5 }, cutoff_ns: 100 };
        let kept = Retained { rule: Rule::Forever, cutoff_ns: i64::MIN };
        let entries = [((namespace, None), all), ((namespace, Some(KEPT)), kept)].into();
        Retentions { clock: Some(ClockRecord { now_ns: 105, steady_ns }), entries }
    }

    fn expired_of(entry: &SegmentEntry, retentions: &Retentions) -> bool {
        !expired(std::iter::once(entry), retentions).is_empty()
    }

    #[test]
    fn a_file_goes_when_its_last_row_is_beyond_the_cutoff_and_the_clock_is_proven() {
        let rules = retentions(PROVEN_NS);
        for (measurement, last, gone) in [
            (Some(SHORT), 99, true),
            (Some(SHORT), 100, false),
            (Some(KEPT), 99, false),
            // It may hold rows that are kept for ever.
            (None, 99, false),
        ] {
            assert_eq!(expired_of(&entry(measurement, 0, last), &rules), gone, "{measurement:?} {last}");
        }
        assert!(!expired_of(&entry(Some(SHORT), 0, 99), &retentions(PROVEN_NS - 1)));
        let mut damaged = entry(Some(SHORT), 0, 99);
        damaged.quarantined = true;
        assert!(expired_of(&damaged, &rules), "what nobody may see needs no repair");
    }

    #[test]
    fn a_shared_file_is_written_again_once_a_measurement_in_it_is_gone() {
        let rules = retentions(PROVEN_NS);
        let file = entry(None, 0, 200);
        assert!(may_hold_hidden(&file, &rules) && !may_hold_hidden(&entry(None, 100, 200), &rules));
        for (spans, worth, expected) in [
            (vec![(SHORT, 0, 99), (KEPT, 0, 200)], Worth::WholeMeasurement, true),
            (vec![(SHORT, 0, 100), (KEPT, 0, 200)], Worth::WholeMeasurement, false),
            (vec![(SHORT, 0, 100), (KEPT, 0, 200)], Worth::AnyRow, true),
            (vec![(KEPT, 0, 200)], Worth::AnyRow, false),
        ] {
            assert_eq!(is_worth(&file, &spans, &rules, worth), expected, "{spans:?} {worth:?}");
        }
    }
}
