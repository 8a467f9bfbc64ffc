"""The manifest: which files are true (format-spec.md section 7.1).

Promise: `read_manifest` gives the state after the last whole edit and says if bytes behind it are a torn edit; a bad
edit before a whole one is damage.
"""

from dataclasses import dataclass, field

from . import blocks
from .binary import Cursor, Damage, FileHeader, crc, u64_bytes
from .tombstones import read_tombstone

MAGIC = b"WATTMAN1"
EDIT_MAGIC = b"MEDT"
EDIT_HEAD = 32
SNAPSHOT, SEALED, QUARANTINED, DURABILITY, COMPACTED, RETENTION, RETENTION_SNAPSHOT = range(1, 8)
INHERITED, FOREVER, KEEP = range(3)
DAY_NS = 86_400_000_000_000
SEGMENT_NUMBERS = ("min_seq", "max_seq", "rows", "values", "data_bytes", "time_bytes", "meta_bytes", "file_bytes",
                   "deletes_applied")


@dataclass
class SegmentEntry:
    id: int
    namespace: int
    measurement: int  # 0: several
    first_time: int
    last_time: int
    numbers: dict  # SEGMENT_NUMBERS
    quarantined: int
    is_sealed: bool = False  # a Sealed edit of this file named it; False: not known


@dataclass
class CatalogEntry:
    id: int
    file_bytes: int
    definitions: int


@dataclass
class State:
    store_id: bytes
    generation: int
    edit_number: int = 0
    segments: dict = field(default_factory=dict)  # id -> SegmentEntry
    catalogs: list = field(default_factory=list)  # CatalogEntry, in the order in which they are read
    flushed_seq: int = 0
    next_file_id: int = 1
    next_ids: tuple = (1, 1, 1, 1)
    durabilities: dict = field(default_factory=dict)  # namespace -> (kind, interval)
    tombstones: list = field(default_factory=list)
    retentions: dict = field(default_factory=dict)  # (namespace, measurement or 0) -> (kind, keep_ns, cutoff)
    clock: tuple = None  # (now, steady)
    torn: str = None

    def cutoff(self, namespace, measurement):
        """The first instant of a measurement that is shown (section 9, "Retention"); None: all are."""
        everything = self.retentions.get((namespace, 0), (FOREVER, 0, -1 << 63))
        kind, _, own = self.retentions.get((namespace, measurement), (INHERITED, 0, -1 << 63))
        cutoff = max(own, everything[2]) if kind == INHERITED else own
        return None if cutoff == -1 << 63 else cutoff


def read_manifest(data, generation):
    header = FileHeader(data, MAGIC, generation)
    state = State(header.store_id, generation)
    at, first = FileHeader.LEN, True
    while at < len(data):
        edit = _edit_at(data, at, state)
        if isinstance(edit, str):
            if _valid_edit_behind(data, at + 1, state):
                raise Damage(f"manifest {generation} at byte {at}: {edit}, before a whole edit")
            state.torn = f"at byte {at}: {edit}"
            break
        number, payload, end = edit
        if not first and number != state.edit_number + 1:
            raise Damage(f"manifest {generation} at byte {at}: edit {number} after {state.edit_number}")
        _apply(state, number, Cursor(payload, f"manifest edit {number}"), first)
        state.edit_number, at, first = number, end, False
    if first:
        raise Damage(f"manifest {generation}: no snapshot")
    return state


def _edit_at(data, at, state):
    """(number, payload, end) of the edit at an offset, or why there is none."""
    head = data[at : at + EDIT_HEAD]
    if len(head) < EDIT_HEAD or head[:4] != EDIT_MAGIC:
        return "no edit header"
    cursor = Cursor(head, "edit", 4)
    length, number, _, payload_crc, header_crc = cursor.u32(), cursor.u64(), cursor.i64(), cursor.u32(), cursor.u32()
    if crc(state.store_id, u64_bytes(state.generation), u64_bytes(at), head[:28]) != header_crc:
        return "edit_header_crc"
    payload = data[at + EDIT_HEAD : at + EDIT_HEAD + length]
    if len(payload) < length or crc(payload) != payload_crc:
        return "edit_payload_crc"
    return number, payload, at + EDIT_HEAD + length


def _valid_edit_behind(data, at, state):
    while (at := data.find(EDIT_MAGIC, at)) >= 0:
        if not isinstance(_edit_at(data, at, state), str):
            return True
        at += 1
    return False


def _apply(state, number, cursor, first):
    kind = cursor.u8()
    if first != (kind in (SNAPSHOT, RETENTION_SNAPSHOT)):
        cursor.refuse(f"kind {kind} as {'first' if first else 'later'} edit")
    if kind in (SNAPSHOT, RETENTION_SNAPSHOT):
        if cursor.u64() != number:
            cursor.refuse("edit number of the snapshot")
        state.segments = {entry.id: entry for entry in _list(cursor, _segment)}
        state.catalogs = _list(cursor, _catalog)
        _counters(state, cursor)
        state.durabilities = dict(_list(cursor, _durability))
        state.tombstones = _list(cursor, _tombstone)
        if kind == RETENTION_SNAPSHOT:
            _retentions(state, cursor)
    elif kind == SEALED:
        for entry in _list(cursor, _segment):
            entry.is_sealed = True
            _name(state, cursor, entry)
        catalogs, replaced = _list(cursor, _catalog), _list(cursor, Cursor.u64)
        if len(catalogs) > 1 or not set(replaced) <= {entry.id for entry in state.catalogs}:
            cursor.refuse(f"{len(catalogs)} catalog files in place of {replaced}")
        state.catalogs = [entry for entry in state.catalogs if entry.id not in replaced] + catalogs
        _counters(state, cursor)
        state.tombstones += _list(cursor, _tombstone)
    elif kind == QUARANTINED:
        segment = cursor.u64()
        if segment in state.segments:
            state.segments[segment].quarantined = 1
    elif kind == DURABILITY:
        state.durabilities.update([_durability(cursor)])
    elif kind == COMPACTED:
        _compacted(state, cursor)
    elif kind == RETENTION:
        _retentions(state, cursor)
    else:
        cursor.refuse(f"edit of kind {kind}")
    cursor.finish()


def _retentions(state, cursor):
    state.clock = cursor.i64(), cursor.u64()
    if state.clock[1] > DAY_NS:
        cursor.refuse(f"steady for {state.clock[1]} ns")
    state.retentions.update(_list(cursor, _retention))
    blocks.SEEN["Retention edit"] += 1


def _retention(cursor):
    namespace, measurement, kind, keep, cutoff = cursor.u32(), cursor.u32(), cursor.u8(), cursor.u64(), cursor.i64()
    if kind > KEEP or (kind == KEEP) != (keep > 0) or (kind == INHERITED and not measurement):
        cursor.refuse(f"retention of kind {kind} that keeps {keep} ns, for measurement {measurement}")
    return (namespace, measurement), (kind, keep, cutoff)


def _compacted(state, cursor):
    new, old = _list(cursor, _segment), _list(cursor, Cursor.u64)
    state.next_file_id = cursor.u64()
    dropped = set(_list(cursor, Cursor.u64))
    for number in old:
        if state.segments.pop(number, None) is None:
            cursor.refuse(f"segment {number} is no more and never was")
    for entry in new:
        _name(state, cursor, entry)
    # One that no Sealed edit has told yet may be among them.
    state.tombstones = [entry for entry in state.tombstones if entry.seq not in dropped]
    blocks.SEEN["Compacted edit"] += 1
    if old and not new:
        blocks.SEEN["segment dropped as a whole"] += len(old)
    if dropped:
        blocks.SEEN["dropped tombstone"] += len(dropped)


def _name(state, cursor, entry):
    if entry.id in state.segments:
        cursor.refuse(f"segment {entry.id} named twice")
    state.segments[entry.id] = entry


def _counters(state, cursor):
    state.flushed_seq, state.next_file_id = cursor.u64(), cursor.u64()
    state.next_ids = tuple(cursor.u32() for _ in range(4))


def _list(cursor, read):
    return [read(cursor) for _ in range(cursor.varint())]


def _segment(cursor):
    entry = SegmentEntry(cursor.u64(), cursor.u32(), cursor.u32(), cursor.i64(), cursor.i64(),
                         {name: cursor.u64() for name in SEGMENT_NUMBERS}, cursor.u8())
    if entry.quarantined > 3:
        cursor.refuse(f"flags {entry.quarantined}")
    entry.quarantined &= 1
    return entry


def _tombstone(cursor):
    seq = cursor.u64()
    return read_tombstone(cursor, seq)


def _catalog(cursor):
    return CatalogEntry(cursor.u64(), cursor.u64(), cursor.u64())


def _durability(cursor):
    namespace, kind, interval_ns = cursor.u32(), cursor.u8(), cursor.u64()
    if kind > 1:
        cursor.refuse(f"durability of kind {kind}")
    return namespace, (kind, interval_ns)
