"""Verification of a store: what its files say of each other, and of each file all that its section asks of a writer.

Promise: `check(store)` gives all findings as texts, one that says nothing hides nothing. What `store.damage` has is not
said again.
"""

from . import blocks, segment_check, wal
from .binary import Damage
from .definitions import FIELD, MEASUREMENT, NAMESPACE, SERIES


def check(store):
    findings = []
    for number, segment in store.segments.items():
        try:
            is_sealed = bool(store.state) and store.state.segments[number].is_sealed
            findings += [f"segment {number}: {text}" for text in segment_check.check(segment, is_sealed)]
        except Damage as error:
            findings.append(f"segment {number}: {error}")
        if store.state:
            findings += _entry(store, number, segment)
    findings += store.unapplied
    findings += _catalogs(store)
    for log in store.logs:
        findings += _log(store, log)
    if store.state:
        findings += _counters(store)
        findings += _tombstones(store)
        findings += _retentions(store)
        findings += _precedence(store)
    return findings


def _entry(store, number, segment):
    """What the manifest says of a segment."""
    entry = store.state.segments[number]
    sections = segment.sections
    said = {**entry.numbers, "namespace": entry.namespace, "measurement": entry.measurement,
            "first_time": entry.first_time, "last_time": entry.last_time}
    own = {"min_seq": segment.min_seq, "max_seq": segment.max_seq, "rows": segment.rows, "values": segment.values,
           "data_bytes": segment.data_end - 512 - segment.time_bytes, "time_bytes": segment.time_bytes,
           "meta_bytes": len(segment.data) - (segment.data_end - 512),
           "file_bytes": len(segment.data), "namespace": segment.namespace,
           "measurement": sections[0].measurement if len(sections) == 1 else 0,
           "first_time": segment.first_time, "last_time": segment.last_time}
    if entry.is_sealed:
        own["deletes_applied"] = 0
    return [f"segment {number}: {name} is {own[name]}, {said[name]} in the manifest" for name in said
            if name in own and said[name] != own[name]]


def _catalogs(store):
    findings, seen = [], {}
    sizes = {entry.id: entry for entry in store.state.catalogs} if store.state else {}
    for catalog in store.catalogs:
        for number in catalog.keys:
            if number in seen:
                findings.append(f"series {number} stands in the catalog files {seen[number]} and {catalog.id}")
            seen[number] = catalog.id
        entry = sizes.get(catalog.id)
        if entry and (entry.file_bytes, entry.definitions) != (len(catalog.data), catalog.definition_count):
            findings.append(f"catalog file {catalog.id}: {len(catalog.data)} bytes, {catalog.definition_count} "
                            f"definitions; the manifest says {entry}")
    if store.state and len(store.catalogs) == len(store.state.catalogs):
        for number, segment in store.segments.items():
            ids = {series.id for section in segment.sections for series in section.series}
            if not ids <= seen.keys():
                findings.append(f"segment {number}: series {sorted(ids - seen.keys())[:9]} in no catalog file")
    return findings


def _log(store, log):
    """Each log replays alone: what its points use is defined in it before (8.1)."""
    findings, known = [], {NAMESPACE: {}, MEASUREMENT: {}, FIELD: {}, SERIES: {}}
    durable = 0
    for record in (record for record in store.replay.records if record.log_id == log.id):
        if record.durable_seq >= record.seq or record.durable_seq < durable:
            findings.append(f"log {log.id}: durable_seq {record.durable_seq} of record {record.seq} after {durable}")
        durable = record.durable_seq
        try:
            if record.payload is not None:
                findings += [f"log {log.id}, record {record.seq}: {text}" for text in _record(record, known)]
        except Damage as error:
            findings.append(f"log {log.id}, record {record.seq}: {error}")
    return findings


def _record(record, known):
    if record.kind == wal.DEFINE:
        for kind, number, *rest in wal.read_define(record.payload):
            known.get(kind, {})[number] = rest
    elif record.kind == wal.CLOCK and record.payload and len(record.payload) != 16:
        yield f"a Clock record of {len(record.payload)} bytes"
    elif record.kind == wal.POINTS:
        namespace, entries = wal.read_points(record.payload)
        if namespace not in known[NAMESPACE]:
            yield f"namespace {namespace} is not defined in this log"
        for entry in entries:
            if (known[MEASUREMENT].get(entry.measurement, [None])[0] != namespace
                    or known[SERIES].get(entry.series, [None])[0] != entry.measurement):
                yield f"series {entry.series} of measurement {entry.measurement} is not defined in this log"
            for number, kind, *_ in entry.columns:
                field = known[FIELD].get(number, [None, None, None])
                if (field[0], field[2]) != (entry.measurement, kind):
                    yield f"field {number} of type {kind} is not defined in this log"


def _tombstones(store):
    """What tombstones of the manifest name is there, and none is above the flushed sequence."""
    findings = []
    for entry in store.state.tombstones:
        if entry.seq > store.state.flushed_seq:
            findings.append(f"tombstone {entry.seq} above flushed_seq {store.state.flushed_seq}")
        if store.names.measurements.get(entry.measurement, [None])[0] != entry.namespace:
            findings.append(f"tombstone {entry.seq} of measurement {entry.measurement}, which is not defined")
        for field in entry.fields or ():
            known = store.names.fields.get(field)
            if known is None or known.measurement != entry.measurement:
                findings.append(f"tombstone {entry.seq} of field {field}: {known}")
        for series in entry.series or ():
            if store.names.series.get(series, [None])[0] != entry.measurement:
                findings.append(f"tombstone {entry.seq} of series {series}: {store.names.series.get(series)}")
    return findings


def _retentions(store):
    """What rules name is there, and no rule is set without a clock."""
    state, findings = store.state, []
    if state.retentions and state.clock is None:
        findings.append("retention without a clock")
    for namespace, measurement in state.retentions:
        if namespace not in store.names.namespaces:
            findings.append(f"retention of namespace {namespace}, which is not defined")
        if measurement and store.names.measurements.get(measurement, [None])[0] != namespace:
            findings.append(f"retention of measurement {measurement}, which is not defined")
    return findings


def _precedence(store):
    """Segments that overlap in a measurement and in time follow each other in commit order (section 9)."""
    findings, sections = [], {}
    for number, segment in store.segments.items():
        for section in segment.sections:
            place = segment.namespace, section.measurement
            times = section.numbers["first_time"], section.numbers["last_time"]
            for other, first, last in sections.setdefault(place, []):
                if not (times[0] <= last and first <= times[1]):
                    continue
                if (number < other.id) != (segment.max_seq < other.max_seq):
                    blocks.SEEN["younger file with a lower id"] += 1
                if segment.min_seq <= other.max_seq and other.min_seq <= segment.max_seq:
                    findings.append(f"segments {other.id} and {number} overlap in measurement {section.measurement}, "
                                    f"in time, and in commits ({other.min_seq} to {other.max_seq}, {segment.min_seq} to "
                                    f"{segment.max_seq})")
            sections[place].append((segment, *times))
    return findings


def _counters(store):
    state, findings = store.state, []
    for number, segment in store.segments.items():
        if segment.max_seq > state.flushed_seq:
            findings.append(f"segment {number}: max_seq {segment.max_seq} above flushed_seq {state.flushed_seq}")
    files = [*state.segments, *(entry.id for entry in state.catalogs)]
    if len(set(files)) != len(files) or max(files, default=0) >= state.next_file_id:
        findings.append(f"file ids {sorted(files)}, next {state.next_file_id}")
    tables = store.names.namespaces, store.names.measurements, store.names.fields, store.names.series
    in_files = {kind: [number for catalog in store.catalogs for k, number, *_ in catalog.definitions if k == kind]
                for kind in (NAMESPACE, MEASUREMENT, FIELD, SERIES)}
    for (kind, numbers), following, table in zip(in_files.items(), state.next_ids, tables):
        if max(numbers, default=0) >= following:
            findings.append(f"ids of kind {kind} up to {max(numbers)}, next {following}")
        if max(table, default=0) >> 31:
            findings.append(f"ids of kind {kind} up to {max(table)}")
    for field in store.names.fields.values():
        if field.measurement not in store.names.measurements:
            findings.append(f"field {field.id} of measurement {field.measurement}, which is not defined")
    return findings
