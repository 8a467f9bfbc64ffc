"""Reading of segments: header, footer, meta pages, sections and the values of row groups (format-spec.md section 5).

Promise: opening proves what 5.16 lists and reads every page; `decode` gives the times and values of one row group or
raises `Damage`. What must hold beyond that is for `segment_check`. A damaged meta page makes the whole segment
unreadable here; a reader may do better (5.17).
"""

from dataclasses import dataclass, field

from . import blocks
from .binary import FIELD_TYPES, Cursor, Damage, FileHeader, crc, expect, u64_bytes
from .zstd import decompress

MAGIC = b"wlseg\r\n\0"
META_MAGIC = b"wlmeta\r\n"
PAGE_MAGIC = b"wlmp"
FOOTER_MAGIC = b"wlsegend"
HEADER_LEN, FOOTER_LEN, PAGE_LEN, PAGE_HEAD = 512, 96, 4096, 32
FILE_MIN = 4704
TIMES = 65_535
MIDNIGHTS_MAX = 48
ROWS_MAX = 1024
BLOCK_MAX = 4 << 20
KEYS_PER_CHUNK = 1024
DICTIONARY_TEXTS, DICTIONARY_BYTES = 4096, 1 << 20


@dataclass
class Field:
    id: int
    type: str
    kind: int
    unit: str
    name: str
    dictionary: list = None  # texts, if the field has one


@dataclass
class Block:
    place: int  # in the field table; TIMES
    offset: int  # in the file
    len: int
    crc: int
    codec: int
    presence: int


@dataclass
class Group:
    first_time: int
    last_time: int
    offset: int
    rows: int
    compact_len: int = None  # None: the group has block entries
    compact_crc: int = None
    blocks: list = field(default_factory=list)
    first_block: int = None


@dataclass
class Series:
    id: int
    tags: list  # of (key, value)
    rows: int
    first_group: int
    groups: list


@dataclass
class Section:
    measurement: int
    name: str
    fields: list
    series: list
    groups: list
    numbers: dict  # the directory entry as it stands
    ranges: list  # (start, end, what) of its parts in the content


class Content:
    """The bytes of all pages of the meta region without their heads; remembers which parts were read."""

    def __init__(self, data):
        self.data = data
        self.ranges = []

    def part(self, name, offset, length):
        cursor = Cursor(self.data, name, min(offset, len(self.data)), min(offset + length, len(self.data)))
        if cursor.left() != length:
            raise Damage(f"{name}: {length} bytes at {offset} of a content of {len(self.data)}")
        if length and offset % 32:
            raise Damage(f"{name}: at {offset}, not a multiple of 32")
        self.ranges.append((offset, offset + length, name))
        return cursor


class Segment:
    def __init__(self, data, segment_id, store_id):
        self.data = data
        self.id = segment_id
        self._footer(store_id)
        self._header(store_id)
        self._pages()
        self._meta(store_id)
        self.sections = self._directory()

    def _footer(self, store_id):
        if len(self.data) < FILE_MIN:
            raise Damage(f"segment of {len(self.data)} bytes")
        raw = self.data[-FOOTER_LEN:]
        cursor = Cursor(raw, "footer")
        expect("footer.magic", bytes(cursor.take(8)), FOOTER_MAGIC)
        expect("footer.footer_crc", crc(raw[:92]), int.from_bytes(raw[92:], "little"))
        expect("footer.segment", cursor.u64(), self.id)
        expect("footer.store", bytes(cursor.take(16)).hex(), store_id.hex())
        expect("footer.file_len", cursor.u64(), len(self.data))
        self.meta_offset, self.meta_len, self.data_end = cursor.u64(), cursor.u64(), cursor.u64()
        self.rows, self.values = cursor.u64(), cursor.u64()
        self.block_count, self.page_count, self.meta_crc = cursor.u32(), cursor.u32(), cursor.u32()
        if self.meta_offset % 512 or self.meta_len % PAGE_LEN or self.meta_len == 0:
            raise Damage(f"footer: meta region of {self.meta_len} bytes at {self.meta_offset}")
        expect("footer: end of the meta region", self.meta_offset + self.meta_len, len(self.data) - FOOTER_LEN)
        if not HEADER_LEN <= self.data_end <= self.meta_offset or self.meta_offset - self.data_end >= 512:
            raise Damage(f"footer: data_end {self.data_end} before a meta region at {self.meta_offset}")
        expect("footer.page_count", self.page_count, self.meta_len // PAGE_LEN)

    def _header(self, store_id):
        header = FileHeader(self.data, MAGIC, self.id, store_id)
        self.store_id, self.namespace = header.store_id, header.param
        cursor = Cursor(self.data, "segment header", 64, HEADER_LEN)
        self.min_seq, self.max_seq = cursor.u64(), cursor.u64()
        self.first_day, self.end_day = cursor.i32(), cursor.i32()
        midnight_count = cursor.u32()
        self.header_reserved = cursor.u32()
        self.midnights_room = cursor.take(412)
        expect("header.segment_header_crc", crc(self.data[:508]), cursor.u32())
        if self.min_seq > self.max_seq or self.first_day >= self.end_day or midnight_count > MIDNIGHTS_MAX:
            raise Damage(f"segment header: commits {self.min_seq} to {self.max_seq}, days {self.first_day} to "
                         f"{self.end_day}, {midnight_count} midnights")
        cursor = Cursor(self.midnights_room, "header.midnights")
        self.midnights = [cursor.i64() for _ in range(midnight_count)]

    def _pages(self):
        pieces, self.page_crcs, self.page_reserved = [], b"", b""
        for number in range(self.page_count):
            at = self.meta_offset + number * PAGE_LEN
            page = self.data[at : at + PAGE_LEN]
            cursor = Cursor(page, f"meta page {number}")
            stored = cursor.take(4)
            expect(f"page_crc of page {number}", crc(page[4:]), int.from_bytes(stored, "little"))
            expect("page.page_magic", bytes(cursor.take(4)), PAGE_MAGIC)
            expect("page.segment", cursor.u64(), self.id)
            expect("page.page_number", cursor.u32(), number)
            expect("page.page_count", cursor.u32(), self.page_count)
            self.page_reserved += cursor.take(8)
            self.page_crcs += stored
            pieces.append(page[PAGE_HEAD:])
        self.content = Content(b"".join(pieces))

    def _meta(self, store_id):
        head = self.content.part("meta", 0, 256)
        header = FileHeader(self.content.data, META_MAGIC, self.id, store_id)
        expect("meta: namespace", header.param, self.namespace)
        head.take(64)
        expect("meta.min_seq", head.u64(), self.min_seq)
        expect("meta.max_seq", head.u64(), self.max_seq)
        expect("meta.first_day", head.i32(), self.first_day)
        expect("meta.end_day", head.i32(), self.end_day)
        expect("meta.data_end", head.u64(), self.data_end)
        self.time_bytes = head.u64()
        expect("meta.rows", head.u64(), self.rows)
        expect("meta.values", head.u64(), self.values)
        self.first_time, self.last_time = head.i64(), head.i64()
        self.content_len, self.directory_offset = head.u64(), head.u64()
        names_offset, names_len = head.u64(), head.u32()
        self.section_count = head.u32()
        midnights_offset, midnight_count = head.u64(), head.u32()
        self.meta_reserved = head.take(4 + 72)
        if not 256 <= self.content_len <= len(self.content.data):
            raise Damage(f"meta.content_len {self.content_len}")
        names = self.content.part("names", names_offset, names_len)
        self.database, self.policy = names.text(), names.text()
        names.finish()
        expect("meta.midnight_count", midnight_count, len(self.midnights))
        if midnight_count:
            cursor = self.content.part("midnights", midnights_offset, 8 * midnight_count)
            expect("midnights", [cursor.i64() for _ in range(midnight_count)], self.midnights)
        else:
            expect("meta.midnights_offset", midnights_offset, 0)

    def _directory(self):
        cursor = self.content.part("section directory", self.directory_offset, 160 * self.section_count)
        sections = []
        for _ in range(self.section_count):
            numbers = {}
            for name in ("measurement", "field_count", "series_count", "group_count", "block_count", "fields_len"):
                numbers[name] = cursor.u32()
            numbers["first_time"], numbers["last_time"] = cursor.i64(), cursor.i64()
            for name in ("rows", "values", "fields_offset", "series_offset", "groups_offset", "blocks_offset",
                         "statistics_index_offset", "statistics_offset", "summary_index_offset", "summary_offset",
                         "dictionaries_offset", "key_chunks_offset"):
                numbers[name] = cursor.u64()
            numbers["dictionary_count"], numbers["key_chunk_count"] = cursor.u32(), cursor.u32()
            numbers["reserved"] = cursor.take(16)
            sections.append(self._section(numbers))
        return sections

    def _section(self, numbers):
        name, fields = self._fields(numbers)
        self._dictionaries(numbers, fields)
        entries = self._blocks(numbers)
        groups = self._groups(numbers, entries)
        tags = self._keys(numbers)
        cursor = self.content.part("series entries", numbers["series_offset"], 16 * numbers["series_count"])
        series = []
        for index in range(numbers["series_count"]):
            series_id, first, count, rows = cursor.u32(), cursor.u32(), cursor.u32(), cursor.u32()
            series.append(Series(series_id, tags[index], rows, first, groups[first : first + count]))
            expect(f"series {series_id}: row groups", len(series[-1].groups), count)
        return Section(numbers["measurement"], name, fields, series, groups, numbers, self.content.ranges)

    def _fields(self, numbers):
        cursor = self.content.part("field table", numbers["fields_offset"], numbers["fields_len"])
        name, fields = cursor.text(), []
        for _ in range(numbers["field_count"]):
            field_id, type_number, kind = cursor.varint(), cursor.u8(), cursor.u8()
            if type_number not in FIELD_TYPES:
                cursor.refuse(f"field type {type_number}")
            fields.append(Field(field_id, FIELD_TYPES[type_number], kind, cursor.text(), cursor.text()))
        cursor.finish()
        return name, fields

    def _dictionaries(self, numbers, fields):
        count = numbers["dictionary_count"]
        cursor = self.content.part("dictionary entries", numbers["dictionaries_offset"], 16 * count)
        for _ in range(count):
            offset, length, place, text_count = cursor.u64(), cursor.u32(), cursor.u16(), cursor.u16()
            if place >= len(fields) or fields[place].type != "string" or fields[place].dictionary is not None:
                cursor.refuse(f"a dictionary of field {place}")
            if not 1 <= text_count <= DICTIONARY_TEXTS or length > DICTIONARY_BYTES + 3 * text_count:
                cursor.refuse(f"{text_count} texts of {length} bytes")
            texts = self.content.part("dictionary", offset, length)
            fields[place].dictionary = [texts.text() for _ in range(text_count)]
            texts.finish()

    def _keys(self, numbers):
        count = numbers["key_chunk_count"]
        expect("key_chunk_count", count, -(-numbers["series_count"] // KEYS_PER_CHUNK))
        cursor = self.content.part("key chunk entries", numbers["key_chunks_offset"], 16 * count)
        keys = []
        for index in range(count):
            offset, stored_len, raw_len = cursor.u64(), cursor.u32(), cursor.u32()
            raw = self.content.part("chunk of keys", offset, stored_len).take(stored_len)
            if raw_len != stored_len:
                if raw_len > 256 * stored_len:
                    cursor.refuse(f"{raw_len} bytes out of {stored_len}")
                raw = decompress(raw, raw_len)
                blocks.SEEN["compressed keys"] += 1
            chunk = Cursor(raw, "chunk of keys")
            for _ in range(min(KEYS_PER_CHUNK, numbers["series_count"] - KEYS_PER_CHUNK * index)):
                keys.append(read_tags(chunk))
            chunk.finish()
        return keys

    def _blocks(self, numbers):
        cursor = self.content.part("block entries", numbers["blocks_offset"], 16 * numbers["block_count"])
        entries = []
        for _ in range(numbers["block_count"]):
            offset, length, checksum = cursor.u32(), cursor.u32(), cursor.u32()
            entries.append(Block(cursor.u16(), offset, length, checksum, cursor.u8(), cursor.u8()))
        return entries

    def _groups(self, numbers, entries):
        cursor = self.content.part("row group entries", numbers["groups_offset"], 32 * numbers["group_count"])
        groups = []
        for _ in range(numbers["group_count"]):
            first, last, packed, word, other = cursor.i64(), cursor.i64(), cursor.u64(), cursor.u32(), cursor.u32()
            group = Group(first, last, packed & (1 << 48) - 1, packed >> 48 & 0x7FFF)
            if not 1 <= group.rows <= ROWS_MAX:
                cursor.refuse(f"a row group of {group.rows} rows")
            if packed >> 63:
                group.compact_len, group.compact_crc = word, other
            else:
                group.blocks = entries[word : word + other]
                if other < 1 or len(group.blocks) != other:
                    cursor.refuse(f"block entries {word} and {other} more of {len(entries)}")
                group.blocks = [
                    Block(b.place, group.offset + b.offset, b.len, b.crc, b.codec, b.presence) for b in group.blocks]
                group.first_block = word
            groups.append(group)
        return groups

    def bound(self, part, offset, length, checksum):
        """Bytes of the data region whose checksum is right for this place in this file (5.3)."""
        if length > BLOCK_MAX or not HEADER_LEN <= offset <= offset + length <= self.data_end:
            raise Damage(f"{part}: {length} bytes at {offset}")
        data = self.data[offset : offset + length]
        expect(f"{part} at byte {offset}: checksum", crc(u64_bytes(self.id), u64_bytes(offset), data), checksum)
        return data

    def pieces(self, group):
        """(place, presence, bytes) of each block of a group, verified; the `Damage` in place of bad bytes."""
        if group.compact_len is None:
            pieces = []
            for block in group.blocks:
                try:
                    data = self.bound("block", block.offset, block.len, block.crc)
                except Damage as error:
                    data = error
                pieces.append((block.place, block.presence, data))
            return pieces
        blocks.SEEN["compact group"] += 1
        data = self.bound("compact group", group.offset, group.compact_len, group.compact_crc)
        cursor = Cursor(data, "compact group")
        pieces = []
        while cursor.left():
            place, presence = cursor.varint(), cursor.u8()
            pieces.append((place, presence, cursor.take(cursor.varint())))
        return pieces

    def times(self, group, pieces):
        if not pieces or pieces[0][:2] != (TIMES, 0):
            raise Damage(f"row group at {group.offset}: no time block")
        if isinstance(pieces[0][2], Damage):
            raise pieces[0][2]
        return blocks.decode("times", pieces[0][2], group.rows)

    def decode_field(self, field_entry, rows, presence, data):
        """(rows with a value, raw values, codec tag, numbers in the dictionary or None) of a field block."""
        if isinstance(data, Damage):
            raise data
        present = list(range(rows))
        if presence == 1:
            cursor = Cursor(data, "field block")
            present = blocks.presence(cursor.take(cursor.varint()), rows)
            if not 1 <= len(present) < rows:
                cursor.refuse(f"presence of {len(present)} in {rows} rows")
            data = cursor.take(cursor.left())
        elif presence:
            raise Damage(f"field block: presence {presence}")
        if not data:
            raise Damage("field block: empty")
        if field_entry.type == "string" and data[0] == blocks.STRDICT:
            numbers = blocks.decode("string_ids", data, len(present))
            texts = field_entry.dictionary or []
            if max(numbers) >= len(texts):
                raise Damage(f"field block: text {max(numbers)} of a dictionary of {len(texts)}")
            return present, [texts[number] for number in numbers], data[0], numbers
        return present, blocks.decode(field_entry.type, data, len(present)), data[0], None


def read_tags(cursor):
    """A key of a series: (key, value) of each tag, keys rising."""
    tags = [(cursor.text(), cursor.text()) for _ in range(cursor.varint())]
    keys = [key.encode() for key, _ in tags]
    if any(a >= b for a, b in zip(keys, keys[1:])):
        cursor.refuse("keys of tags do not rise")
    return tags
