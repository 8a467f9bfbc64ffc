"""The write-ahead log: records, replay, Points payloads (format-spec.md section 4).

Promise: `replay` gives the records that count, in sequence order, and says what it dropped (a torn tail: nobody was
told that it is stored) apart from what is damaged (somebody may have been).
"""

from dataclasses import dataclass, field

from . import blocks
from .binary import FIELD_TYPES, Cursor, Damage, FileHeader, crc, expect, u64_bytes
from .definitions import read_definitions

MAGIC = b"WATTWAL1"
RECORD_MAGIC = b"WREC"
RECORD_LEN = 64
PAYLOAD_MAX = 64 << 20
POINTS, DEFINE, CLOCK, END, DELETE = range(1, 6)
TEXT_LIMIT = PAYLOAD_MAX


@dataclass
class Record:
    kind: int
    seq: int
    durable_seq: int
    wall_ns: int
    manifest_edit: int
    at: int  # offset in its log
    payload: bytes  # None: the payload is damaged
    log_id: int
    end: int  # offset behind it


@dataclass
class Log:
    id: int
    data: bytes
    first_seq: int = None
    records: list = field(default_factory=list)  # with right headers, wherever they stand
    gaps: list = field(default_factory=list)  # offsets at which no record begins
    header_error: str = None


@dataclass
class Replay:
    records: list = field(default_factory=list)
    damage: list = field(default_factory=list)  # texts
    dropped: list = field(default_factory=list)  # texts: torn tails
    durable_seq: int = 0
    manifest_edit: int = 0


def record_at(log, at, store_id):
    """The record at an offset, or why there is none."""
    head = log.data[at : at + RECORD_LEN]
    if len(head) < RECORD_LEN:
        return f"{len(head)} bytes of a record header"
    cursor = Cursor(head, "record")
    if cursor.take(4) != RECORD_MAGIC:
        return "no record magic"
    kind, flags, reserved = cursor.u8(), cursor.u8(), cursor.u16()
    length, payload_crc, log_id = cursor.u32(), cursor.u32(), cursor.u64()
    seq, durable, wall, edit, reserved2 = cursor.u64(), cursor.u64(), cursor.i64(), cursor.u64(), cursor.u32()
    if crc(store_id, u64_bytes(at), head[:60]) != cursor.u32():
        return "checksum of the record header"
    if log_id != log.id:
        return f"a record of log {log_id}"
    if flags or reserved or reserved2 or length > PAYLOAD_MAX or not 1 <= kind <= DELETE:
        return f"record kind {kind}, flags {flags}, length {length}, reserved {reserved} {reserved2}"
    end = at + RECORD_LEN + length
    payload = log.data[at + RECORD_LEN : end]
    if len(payload) < length or crc(payload) != payload_crc:
        payload = None
    return Record(kind, seq, durable, wall, edit, at, payload, log_id, end)


def read_log(data, log_id, store_id):
    """All records of a log, also those behind bytes that are none."""
    log = Log(log_id, data)
    try:
        log.first_seq = FileHeader(data, MAGIC, log_id, store_id).param
    except Damage as error:
        log.header_error = str(error)
    at = FileHeader.LEN
    while at < len(data):
        record = record_at(log, at, store_id)
        if isinstance(record, str):
            log.gaps.append((at, record))
            at = _next_record(log, at + 1, store_id)
            continue
        log.records.append(record)
        if record.kind == END and record.payload is not None:
            break
        at = record.end
    if log.first_seq is None and log.records:
        log.first_seq = log.records[0].seq
    return log


def _next_record(log, at, store_id):
    while True:
        at = log.data.find(RECORD_MAGIC, at)
        if at < 0:
            return len(log.data)
        if not isinstance(record_at(log, at, store_id), str):
            return at
        at += 1


def replay(logs, flushed_seq):
    """The rules of section 4, "Replay", over all logs by rising id."""
    logs = sorted(logs, key=lambda log: log.id)
    result = Replay()
    attested = [flushed_seq]
    for log in logs:
        if log.first_seq is not None:
            attested.append(log.first_seq - 1)
        for record in log.records:
            attested.append(record.durable_seq)
            result.manifest_edit = max(result.manifest_edit, record.manifest_edit)
    result.durable_seq = max(attested)
    following = flushed_seq + 1  # the sequence that comes next: all below it are here, sealed, or told as lost
    for index, log in enumerate(logs):
        limit = min((later.first_seq for later in logs[index + 1 :] if later.first_seq is not None), default=None)
        if log.header_error:
            result.damage.append(f"log {log.id}: {log.header_error}")
        if log.first_seq is None:
            continue
        if following < log.first_seq:
            result.damage.append(f"log {log.id}: begins at sequence {log.first_seq}, {following} expected")
        following = max(following, _replay_log(log, limit, result))
    if following <= result.durable_seq:
        result.damage.append(f"sequences {following} to {result.durable_seq} are attested durable and in no log")
    return result


def _replay_log(log, limit, result):
    """Adds what counts of one log, whose records are void from `limit` on; gives the sequence that comes next.

    Bad is what is no record, a record without its payload, and a record that does not follow the one before.
    """
    must = result.durable_seq if limit is None else min(result.durable_seq, limit - 1)
    wanted, ended, told = log.first_seq, False, False
    things = sorted([(record.at, record) for record in log.records] + log.gaps, key=lambda thing: thing[0])
    for at, thing in things:
        if isinstance(thing, str):
            why = thing
        elif thing.kind == END:
            if thing.seq + 1 > wanted and thing.seq > must:
                result.dropped.append(f"log {log.id} at byte {at}: End of sequence {thing.seq}, {wanted} expected")
                return wanted
            ended = _is_whole_end(log, thing, result)
            if ended and thing.seq + 1 > wanted and not told:
                result.damage.append(f"log {log.id} at byte {at}: sequences {wanted} to {thing.seq} are missing")
            wanted, told = max(wanted, thing.seq + 1), told or ended
            break
        elif limit is not None and thing.seq >= limit:
            break
        elif thing.seq < wanted:
            result.damage.append(f"log {log.id} at byte {at}: sequence {thing.seq} again")
            continue
        elif thing.seq > wanted and thing.seq - 1 > must:
            result.dropped.append(f"log {log.id} at byte {at}: sequence {thing.seq}, {wanted} expected")
            return wanted
        else:
            if thing.seq > wanted and not told:
                result.damage.append(f"log {log.id} at byte {at}: sequences from {wanted} on are missing")
            wanted, told = thing.seq, False
            if thing.payload is not None:
                result.records.append(thing)
                wanted += 1
                continue
            why = "payload"
        if wanted > must:
            result.dropped.append(f"log {log.id} at byte {at}: {why}; sequence {wanted} and above")
            return wanted
        result.damage.append(f"log {log.id} at byte {at}: {why}; sequence {wanted} is attested durable")
        wanted, told = (wanted, True) if isinstance(thing, str) else (wanted + 1, False)
    if wanted <= must and not ended:
        if not told:
            result.damage.append(f"log {log.id}: ends before sequence {wanted}, which is attested durable")
        wanted = must + 1
    return wanted


def _is_whole_end(log, record, result):
    """Whether an End record says what is there. One that does not ends nothing; what is missing then tells itself."""
    if record.payload is None or len(record.payload) != 16:
        result.dropped.append(f"log {log.id} at byte {record.at}: End record without its payload")
        return False
    cursor = Cursor(record.payload, "End record")
    last, count = cursor.u64(), cursor.u64()
    before = sum(other.at < record.at for other in log.records)
    if last != record.seq or (count != before and not log.gaps):
        result.damage.append(f"log {log.id}: End record says {count} records to {last}, there are {before}")
    return last == record.seq


@dataclass
class Entry:
    """Rows of one series in one body. `columns`: (field id, type, rows with a value, raw values)."""

    series: int
    measurement: int
    times: list
    columns: list


def read_points(payload):
    """(namespace, entries) of a Points payload."""
    cursor = Cursor(payload, "Points payload")
    expect("points_version", cursor.u8(), 1)
    namespace, entries = cursor.u32(), []
    for _ in range(cursor.varint()):
        series, measurement, rows, columns = cursor.u32(), cursor.u32(), cursor.varint(), cursor.varint()
        if not 1 <= rows <= blocks.COUNT_MAX:
            cursor.refuse(f"{rows} rows")
        entry = Entry(series, measurement, blocks.decode("times", cursor.take(cursor.varint()), rows), [])
        before = 0
        for _ in range(columns):
            number, type_number, count = cursor.u32(), cursor.u8(), cursor.varint()
            if number <= before or type_number not in FIELD_TYPES or not 1 <= count <= rows:
                cursor.refuse(f"field {number} of type {type_number}, {count} values in {rows} rows")
            before = number
            present = list(range(rows))
            if count < rows:
                present = blocks.presence(cursor.take(cursor.varint()), rows)
                expect("rows with a value", len(present), count)
            values = blocks.decode(FIELD_TYPES[type_number], cursor.take(cursor.varint()), count, TEXT_LIMIT)
            entry.columns.append((number, FIELD_TYPES[type_number], present, values))
        entries.append(entry)
    cursor.finish()
    return namespace, entries


def read_define(payload):
    cursor = Cursor(payload, "Define payload")
    found = read_definitions(cursor)
    cursor.finish()
    return found
