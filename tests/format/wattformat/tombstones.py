"""Tombstones: what a Delete record and the manifest say is hidden (format-spec.md section 4, "Deletes", and section 9).

Promise: `Tombstones.over` gives those that can hide something of a source, none else; each then says of one value
whether it is hidden.
"""

from dataclasses import dataclass

from .binary import U64, Cursor

ID_MAX = (1 << 32) - 1


@dataclass(frozen=True)
class Tombstone:
    seq: int
    namespace: int
    measurement: int
    start: int
    end: int  # the first time behind it
    fields: frozenset  # None: all
    series: frozenset  # None: all

    def hides(self, field, time):
        """A value of a source, series and measurement for which `Tombstones.over` gave this."""
        return self.start <= time < self.end and (self.fields is None or field in self.fields)


class Tombstones:
    def __init__(self, tombstones):
        self.by_measurement = {}
        for entry in tombstones:
            self.by_measurement.setdefault((entry.namespace, entry.measurement), []).append(entry)

    def over(self, seq, namespace, measurement, series, first_time, last_time):
        """Those over rows of a series in a segment of `max_seq` or a record of sequence `seq`."""
        return [entry for entry in self.by_measurement.get((namespace, measurement), ())
                if seq < entry.seq and entry.start <= last_time and first_time < entry.end
                and (entry.series is None or series in entry.series)]


def read_tombstone(cursor, seq):
    namespace, measurement, start, end = cursor.u32(), cursor.u32(), cursor.i64(), cursor.i64()
    if start >= end or not seq or seq > U64:
        cursor.refuse(f"a tombstone of sequence {seq} from {start} to {end}")
    return Tombstone(seq, namespace, measurement, start, end, _ids(cursor), _ids(cursor))


def _ids(cursor):
    kind = cursor.u8()
    if kind > 1:
        cursor.refuse(f"a list of ids of kind {kind}")
    if kind == 0:
        return None
    ids, before = [], 0
    for _ in range(cursor.varint()):
        step = cursor.varint()
        if step == 0 or before + step > ID_MAX:
            cursor.refuse(f"id {before + step} after {before}")
        before += step
        ids.append(before)
    return frozenset(ids)


def read_delete(payload, seq):
    """The tombstones of a Delete record."""
    cursor = Cursor(payload, "Delete payload")
    found = [read_tombstone(cursor, seq) for _ in range(cursor.varint())]
    cursor.finish()
    return found
