"""A store's folder as a whole: which files count, what is in the logs, which value wins (format-spec.md 2, 8.3, 9).

Promise: opening changes nothing. `points()` gives what a reader must show; `damage` says what was damaged or lost (the
answer is then partial), `notes` what a crash leaves in good order: torn tails, orphans; `unapplied` values that a
compaction should have left out.

Precedence is one comparison: a value has the sequence of its record, or the `max_seq` of its segment; the higher one
wins, of equals the segment (it holds that commit too), of segments the higher id. With a whole manifest that says the
same as section 9; without one it needs no flushed sequence.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from . import blocks, wal
from .binary import Damage, FileHeader
from .catalog import Catalog
from .definitions import FIELD, MEANING, MEASUREMENT, NAMESPACE, SERIES, Names
from .manifest import read_manifest
from .segment import MAGIC as SEGMENT_MAGIC
from .segment import Segment
from .tombstones import Tombstones, read_delete

NAMES = {"manifest": r"manifest-([0-9a-f]{16})\.log", "wal": r"wal-([0-9a-f]{16})\.log",
         "catalog": r"cat-([0-9a-f]{16})\.cat", "segments": r"seg-([0-9a-f]{16})\.seg"}


@dataclass
class Lost:
    """Values of older sources are not shown here (section 9, "What is lost"). None: all of them."""

    rank: tuple
    namespace: int
    measurement: int  # or None
    series: int  # or None
    field: int  # or None
    first_time: int
    last_time: int


class Store:
    def __init__(self, folder):
        self.folder = Path(folder)
        self.damage, self.notes, self.lost, self.unapplied = [], [], [], []
        self.state = self._manifest()
        self.store_id = self.state.store_id if self.state else self._store_id()
        logs = [wal.read_log(path.read_bytes(), number, self.store_id) for number, path in self.files("wal")]
        self.logs = [log for log in logs if not self._is_unborn(log)]
        first = min((log.first_seq for log in self.logs if log.first_seq is not None), default=1)
        self.replay = wal.replay(self.logs, self.state.flushed_seq if self.state else first - 1)
        if self.state and self.replay.manifest_edit > self.state.edit_number:
            self.damage.append(f"manifest ends at edit {self.state.edit_number}, a log attests "
                               f"{self.replay.manifest_edit}")
            self.state = None
        self.damage += self.replay.damage
        self.notes += self.replay.dropped
        self.names, self.catalogs, self.segments = Names(), [], {}
        self._catalogs()
        self._log_definitions()
        self._segments()
        self.tombstones = Tombstones(self._tombstones())

    def files(self, kind):
        """(number, path) of the files of a kind, by rising number."""
        found = []
        for path in sorted((self.folder / kind).glob("*")):
            match = re.fullmatch(NAMES[kind], path.name)
            if match:
                found.append((int(match[1], 16), path))
        return found

    def _manifest(self):
        files = self.files("manifest")
        if not files:
            self.damage.append("no manifest")
            return None
        number, path = files[-1]
        try:
            state = read_manifest(path.read_bytes(), number)
        except Damage as error:
            self.damage.append(f"{path.name}: {error}")
            return None
        if state.torn:
            self.notes.append(f"{path.name}: torn edit {state.torn}")
        return state

    def _store_id(self):
        """Without a manifest: the store that the oldest log or segment with a right header names."""
        for kind, magic in (("wal", wal.MAGIC), ("segments", SEGMENT_MAGIC)):
            for number, path in self.files(kind):
                try:
                    return FileHeader(path.read_bytes()[:64], magic, number).store_id
                except Damage:
                    continue
        raise Damage(f"{self.folder}: no file says which store this is")

    def _is_unborn(self, log):
        """A log whose header was never finished: no record can be in it (8.1)."""
        if log.header_error and not log.records:
            self.notes.append(f"log {log.id}: {log.header_error}, and no record")
            return True
        return False

    def _catalogs(self):
        present = dict(self.files("catalog"))
        wanted = [entry.id for entry in self.state.catalogs] if self.state else sorted(present)
        self._orphans(set(present) - set(wanted), "catalog file")
        for number in wanted:
            try:
                if number not in present:
                    raise Damage("missing")
                catalog = Catalog(present[number].read_bytes(), number, self.store_id)
            except Damage as error:
                self.damage.append(f"catalog file {number}: {error}")
                continue
            self.catalogs.append(catalog)
            self._define(catalog.definitions, f"catalog file {number}")

    def _log_definitions(self):
        for record in self.replay.records:
            if record.kind == wal.DEFINE:
                try:
                    self._define(wal.read_define(record.payload), f"record {record.seq}")
                except Damage as error:
                    self.damage.append(f"record {record.seq}: {error}")

    def _define(self, definitions, where):
        for definition in definitions:
            try:
                self.names.add(definition)
            except Damage as error:
                self.damage.append(f"{where}: {error}")

    def _orphans(self, numbers, what):
        for number in sorted(numbers):
            self.notes.append(f"orphan {what} {number}")

    def _segments(self):
        present = dict(self.files("segments"))
        wanted = self.state.segments if self.state else dict.fromkeys(present)
        self._orphans(set(present) - set(wanted), "segment")
        for number in sorted(wanted):
            entry = wanted[number]
            try:
                if entry and entry.quarantined:
                    raise Damage("quarantined")
                if number not in present:
                    raise Damage("missing")
                data = present[number].read_bytes()
                if entry and len(data) != entry.numbers["file_bytes"]:
                    raise Damage(f"{len(data)} bytes instead of {entry.numbers['file_bytes']}")
                segment = Segment(data, number, self.store_id)
            except Damage as error:
                self.damage.append(f"segment {number}: {error}")
                if entry:
                    rank = entry.numbers["max_seq"], 1, number
                    self.lost.append(Lost(rank, entry.namespace, entry.measurement or None, None, None,
                                          entry.first_time, entry.last_time))
                continue
            self.segments[number] = segment
            self._define(list(segment_definitions(segment, self.names)), f"segment {number}")

    def _tombstones(self):
        """Those of the manifest, and of Delete records above its flushed sequence."""
        found = list(self.state.tombstones) if self.state else []
        if found:
            blocks.SEEN["tombstone in a manifest"] += len(found)
        for record in self.replay.records:
            if record.kind == wal.DELETE and self._is_unflushed(record):
                try:
                    found += read_delete(record.payload, record.seq)
                    blocks.SEEN["tombstone in a log"] += 1
                except Damage as error:
                    self.damage.append(f"record {record.seq}: {error}")
        return found

    def _is_unflushed(self, record):
        return not (self.state and record.seq <= self.state.flushed_seq)

    def points(self):
        """{(database, policy, measurement, tags): {time: {field name: (type, raw value)}}}"""
        best = {}  # (series id, time) -> {field id: (rank, raw)}
        for number, segment in self.segments.items():
            self._rows_of_segment(number, segment, best)
        for record in self.replay.records:
            if record.kind == wal.POINTS and self._is_unflushed(record):
                self._rows_of_record(record, best)
        return self._named(best)

    def _rows_of_segment(self, number, segment, best):
        rank = segment.max_seq, 1, number
        for section in segment.sections:
            for series in section.series:
                for group in series.groups:
                    self._rows_of_group(rank, segment, section, series, group, best)

    def _rows_of_group(self, rank, segment, section, series, group, best):
        def lose(field, error):
            self.damage.append(f"segment {segment.id}: {error}")
            self.lost.append(Lost(rank, segment.namespace, section.measurement, series.id, field, group.first_time,
                                  group.last_time))

        try:
            pieces = segment.pieces(group)
            times = segment.times(group, pieces)
        except Damage as error:
            lose(None, error)
            return
        over = self.tombstones.over(segment.max_seq, segment.namespace, section.measurement, series.id, times[0],
                                    times[-1])
        for place, presence, data in pieces[1:]:
            if place >= len(section.fields):
                lose(None, f"field {place} of {len(section.fields)}")
                continue
            entry = section.fields[place]
            try:
                rows, values, _, _ = segment.decode_field(entry, group.rows, presence, data)
            except Damage as error:
                lose(entry.id, error)
                continue
            for row, value in zip(rows, values):
                hiding = [tombstone for tombstone in over if tombstone.hides(entry.id, times[row])]
                if hiding:
                    self._hidden(segment, series, entry, times[row], hiding)
                else:
                    _put(best, series.id, times[row], entry.id, rank, value)

    def _hidden(self, segment, series, field, time, hiding):
        """Counts a hidden value; a segment must lack it if what hides it was applied when the segment was written."""
        blocks.SEEN["hidden value of a segment"] += 1
        applied = self.state.segments[segment.id].numbers["deletes_applied"] if self.state else 0
        self.unapplied += [f"segment {segment.id}: series {series.id}, field {field.id} at {time} is there, though "
                           f"tombstone {tombstone.seq} was applied" for tombstone in hiding if tombstone.seq <= applied]

    def _rows_of_record(self, record, best):
        try:
            namespace, entries = wal.read_points(record.payload)
        except Damage as error:
            self.damage.append(f"record {record.seq}: {error}")
            return
        rank = record.seq, 0, 0
        for entry in entries:
            over = self.tombstones.over(record.seq, namespace, entry.measurement, entry.series, min(entry.times),
                                        max(entry.times))
            for number, kind, rows, values in entry.columns:
                known = self.names.fields.get(number)
                if known is None or known.type != kind:
                    self._tell(f"record {record.seq}: field {number} of type {kind} is {known}")
                    continue
                for row, value in zip(rows, values):
                    if any(tombstone.hides(number, entry.times[row]) for tombstone in over):
                        blocks.SEEN["hidden value of a log"] += 1
                    else:
                        _put(best, entry.series, entry.times[row], number, rank, value)

    def _named(self, best):
        points = {}
        fields = {number: self.names.fields[number] for number in self.names.current_fields()}
        for (series, time), values in best.items():
            try:
                measurement, tags = self.names.series[series]
                namespace, name = self.names.measurements[measurement]
                database, policy = self.names.namespaces[namespace]
                if self._is_too_old(namespace, measurement, time):
                    continue
            except KeyError as error:
                self._tell(f"series {series}: id {error} is not defined")
                continue
            shown = {}
            for number, (rank, value) in values.items():
                field = fields.get(number)
                if field and not self._is_lost(rank, namespace, measurement, series, number, time):
                    shown[field.name] = field.type, value
            if shown:
                points.setdefault((database, policy, name, tags), {})[time] = shown
        return points

    def _is_too_old(self, namespace, measurement, time):
        cutoff = self.state.cutoff(namespace, measurement) if self.state else None
        if cutoff is None or time >= cutoff:
            return False
        blocks.SEEN["row hidden by age"] += 1
        return True

    def _tell(self, damage):
        if damage not in self.damage:
            self.damage.append(damage)

    def _is_lost(self, rank, namespace, measurement, series, number, time):
        return bool(self.lost) and any(
            rank < lost.rank and lost.namespace == namespace and lost.measurement in (None, measurement)
            and lost.series in (None, series) and lost.field in (None, number)
            and lost.first_time <= time <= lost.last_time for lost in self.lost)


def _put(best, series, time, number, rank, value):
    values = best.setdefault((series, time), {})
    if number not in values or rank >= values[number][0]:
        values[number] = rank, value


def segment_definitions(segment, names):
    """What a segment says of names; its units and kinds only for fields that nothing else defines (section 9)."""
    yield NAMESPACE, segment.namespace, segment.database, segment.policy
    for section in segment.sections:
        yield MEASUREMENT, section.measurement, segment.namespace, section.name
        for field in section.fields:
            is_new = field.id not in names.fields
            yield FIELD, field.id, section.measurement, field.name, field.type
            if is_new and (field.unit or field.kind):
                yield MEANING, field.id, field.unit, field.kind
        for series in section.series:
            yield SERIES, series.id, section.measurement, tuple(series.tags)
