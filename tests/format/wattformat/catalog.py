"""Catalog files: names, series with their keys, hashes and postings (format-spec.md section 7.2).

Promise: a `Catalog` has all definitions, or making it raises `Damage`; it checks everything that the file says twice:
ids against series, hashes against keys, postings against tags.
"""

from . import roaring
from .binary import U64, Cursor, Damage, FileHeader, crc, expect, expect_zero, u64_bytes
from .definitions import SERIES, read_definitions
from .segment import read_tags

MAGIC = b"WATTCAT1"
FOOTER_MAGIC = b"WATTCATF"
ENTRY_LEN, FOOTER_LEN = 32, 64
NAMES, IDS, SERIES_BLOCK, HASHES, POSTINGS, BITMAP = range(1, 7)
POSTING_INLINE_MAX = 32


class Catalog:
    def __init__(self, data, file_id, store_id):
        self.data, self.id, self.store_id = data, file_id, store_id
        self.definitions = []  # as in `definitions.read_definitions`, series included
        FileHeader(data, MAGIC, file_id, store_id)
        self._directory()
        self._read()

    def _directory(self):
        raw = self.data[-FOOTER_LEN:]
        cursor = Cursor(raw, "catalog footer")
        expect("footer_magic", bytes(cursor.take(8)), FOOTER_MAGIC)
        expect("footer_crc", crc(raw[:60]), int.from_bytes(raw[60:], "little"))
        expect("file_id", cursor.u64(), self.id)
        begin, count, directory_crc = cursor.u64(), cursor.u32(), cursor.u32()
        self.series_count, self.definition_count = cursor.u64(), cursor.u64()
        expect_zero("catalog footer", cursor.take(12))
        end = len(self.data) - FOOTER_LEN
        expect("end of the directory", begin + ENTRY_LEN * count, end)
        expect("directory_crc", crc(self.data[begin:end]), directory_crc)
        cursor, at, self.blocks = Cursor(self.data, "directory", begin, end), FileHeader.LEN, []
        for number in range(count):
            offset, fence, length, checksum, kind = (cursor.u64(), cursor.u64(), cursor.u32(), cursor.u32(),
                                                     cursor.u8())
            expect_zero("directory entry", cursor.take(7))
            expect(f"block {number}: offset", offset, at)
            at += length
            block = self.data[offset:at]
            expect(f"block {number}: block_crc", crc(u64_bytes(self.id), number.to_bytes(4, "little"), block), checksum)
            self.blocks.append((kind, fence, block))
        expect("end of the blocks", at, begin)

    def _read(self):
        kinds = [kind for kind, _, _ in self.blocks]
        order = [min(kind, POSTINGS) for kind in kinds]  # bitmap blocks stand among the postings blocks
        if kinds[:2] != [NAMES, IDS] or order != sorted(order) or order.count(NAMES) + order.count(IDS) != 2:
            raise Damage(f"catalog blocks of kinds {kinds}")
        counts = self._names(self.blocks[0])
        ids = _bitmap(self.blocks[1])
        self.last_id = 0
        self.keys = {}  # series id -> (measurement, tags)
        for block in self._of(SERIES_BLOCK):
            self._series(*block)
        expect("ids block", ids, list(self.keys))
        expect("series_count", self.series_count, len(ids))
        found = {}
        for measurement, _ in self.keys.values():
            found[measurement] = found.get(measurement, 0) + 1
        expect("series of each measurement", counts, sorted(found.items()))
        self.definitions += [(SERIES, number, measurement, tags) for number, (measurement, tags) in self.keys.items()]
        expect("definition_count", self.definition_count, len(self.definitions))
        self._hashes()
        self._postings()

    def _of(self, wanted):
        blocks = [(number, fence, data) for number, (kind, fence, data) in enumerate(self.blocks) if kind == wanted]
        fences = [fence for _, fence, _ in blocks]
        expect(f"fences of blocks of kind {wanted}", fences, sorted(fences))
        return blocks

    def _names(self, block):
        _, fence, data = block
        expect("fence of the names", fence, 0)
        cursor = Cursor(data, "names block")
        self.definitions = read_definitions(cursor)
        if any(kind == SERIES for kind, *_ in self.definitions):
            cursor.refuse("a series among the names")
        counts = [(cursor.varint(), cursor.varint()) for _ in range(cursor.varint())]
        cursor.finish()
        return counts

    def _series(self, _, fence, data):
        cursor, number, key = Cursor(data, "series block"), None, b""
        while cursor.left():
            step = cursor.varint()
            if (step == 0) != (number is None):
                cursor.refuse(f"id less the one before: {step}")
            number = fence if number is None else number + step
            shared = cursor.varint()
            if shared > len(key):
                cursor.refuse(f"{shared} bytes shared of {len(key)}")
            key = key[:shared] + cursor.take(cursor.varint())
            if number <= self.last_id:
                cursor.refuse(f"series {number} after {self.last_id}")
            self.last_id = number
            whole = Cursor(key, "key of a series")
            self.keys[number] = whole.u32(), tuple(read_tags(whole))
            whole.finish()

    def _hashes(self):
        found = []
        for _, fence, data in self._of(HASHES):
            cursor = Cursor(data, "hashes block")
            first = len(found)
            while cursor.left():
                found.append((cursor.u64(), cursor.u32()))
            if len(found) > first:
                expect("fence of a hashes block", fence, found[first][0])
        own = sorted((siphash24(self.store_id, key_bytes(*key)), number) for number, key in self.keys.items())
        expect("hashes", found, own)

    def _postings(self):
        bitmaps = {number: _bitmap((BITMAP, fence, data)) for number, fence, data in self._of(BITMAP)}
        found = []
        for number, fence, data in self._of(POSTINGS):
            cursor, before = Cursor(data, "postings block"), None
            while cursor.left():
                same = cursor.u8()
                if same > 1 or (same and before is None):
                    cursor.refuse(f"posting begins with {same}")
                measurement, key = before if same else (cursor.varint(), cursor.text())
                if before is None:
                    expect("fence of a postings block", fence, measurement)
                before = measurement, key
                value, count = cursor.text(), cursor.varint()
                if count > POSTING_INLINE_MAX:
                    cursor.refuse(f"{count} ids")
                if count == 0:
                    place = cursor.varint()
                    if place >= number or place not in bitmaps:
                        cursor.refuse(f"a bitmap in block {place}")
                    ids = bitmaps.pop(place)
                else:
                    ids = [cursor.varint()]
                    while len(ids) < count:
                        ids.append(ids[-1] + cursor.varint())
                found.append(((measurement, key.encode(), value.encode()), ids))
        expect("bitmaps that no posting names", sorted(bitmaps), [])
        own = {}
        for number, (measurement, tags) in self.keys.items():
            names = {(measurement, b"", b"")}
            for key, value in tags:
                names |= {(measurement, key.encode(), b""), (measurement, key.encode(), value.encode())}
            for name in names:
                own.setdefault(name, []).append(number)
        expect("postings", found, sorted(own.items()))


def _bitmap(block):
    _, fence, data = block
    expect("fence of a bitmap", fence, 0)
    cursor = Cursor(data, "bitmap block")
    ids = roaring.read_bitmap(cursor)
    cursor.finish()
    return ids


def key_bytes(measurement, tags):
    """The key of a series (7.2)."""
    key = bytearray(measurement.to_bytes(4, "little")) + _varint(len(tags))
    for text in (text.encode() for tag in tags for text in tag):
        key += _varint(len(text)) + text
    return bytes(key)


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return out


def siphash24(key, data):
    """SipHash-2-4 (Aumasson and Bernstein, 2012), as a number."""
    k0, k1 = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(count):
        v0, v1, v2, v3 = v
        for _ in range(count):
            v0 = v0 + v1 & U64
            v1 = (v1 << 13 | v1 >> 51) & U64 ^ v0
            v0 = (v0 << 32 | v0 >> 32) & U64
            v2 = v2 + v3 & U64
            v3 = (v3 << 16 | v3 >> 48) & U64 ^ v2
            v0 = v0 + v3 & U64
            v3 = (v3 << 21 | v3 >> 43) & U64 ^ v0
            v2 = v2 + v1 & U64
            v1 = (v1 << 17 | v1 >> 47) & U64 ^ v2
            v2 = (v2 << 32 | v2 >> 32) & U64
        v[:] = v0, v1, v2, v3

    whole = len(data) - len(data) % 8
    words = [int.from_bytes(data[at : at + 8], "little") for at in range(0, whole, 8)]
    words.append(int.from_bytes(data[whole:], "little") | (len(data) & 255) << 56)
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 255
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]
