"""Integers, texts, checksums and the header of every file (format-spec.md sections 1, 3 and 6.2).

Promise: a `Cursor` never reads outside its bytes; whatever is not as the text says raises `Damage`, and what belongs to
a later version raises `TooNew`.
"""

import zlib

DAY_NS = 86_400_000_000_000
U64 = (1 << 64) - 1
FIELD_TYPES = {1: "float", 2: "integer", 3: "unsigned", 4: "boolean", 5: "string"}


class Damage(Exception):
    """Bytes that are not what a writer of this version writes. The message names the part and, if known, the place."""


class TooNew(Exception):
    """A file that asks for a reader of a later version."""


def crc(*pieces):
    """CRC-32 (IEEE 802.3) of the pieces one after another."""
    value = 0
    for piece in pieces:
        value = zlib.crc32(piece, value)
    return value


def u64_bytes(value):
    return value.to_bytes(8, "little")


def signed64(value):
    """The low 64 bits of `value` as a two's-complement number."""
    value &= U64
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


def utc_day(time_ns):
    return time_ns // DAY_NS


def expect(part, found, wanted):
    """Raises `Damage` unless `found` is `wanted`."""
    if found != wanted:
        raise Damage(f"{part}: expected {wanted!r}, found {found!r}")


def expect_zero(part, data):
    if any(data):
        raise Damage(f"{part}: reserved bytes are not zero")


class Cursor:
    """Reads forward through `data[at:end]`; `part` names the bytes in errors."""

    __slots__ = ("data", "at", "end", "part")

    def __init__(self, data, part, at=0, end=None):
        self.data = data
        self.at = at
        self.end = len(data) if end is None else end
        self.part = part
        if not 0 <= self.at <= self.end <= len(data):
            raise Damage(f"{part}: bytes {at}..{end} of {len(data)}")

    def left(self):
        return self.end - self.at

    def refuse(self, why):
        raise Damage(f"{self.part} at byte {self.at}: {why}")

    def take(self, count):
        if count > self.left():
            self.refuse(f"{count} bytes wanted, {self.left()} left")
        piece = self.data[self.at : self.at + count]
        self.at += count
        return piece

    def u8(self):
        if self.at >= self.end:
            self.refuse("one byte wanted, none left")
        value = self.data[self.at]
        self.at += 1
        return value

    def u16(self):
        return int.from_bytes(self.take(2), "little")

    def u32(self):
        return int.from_bytes(self.take(4), "little")

    def u64(self):
        return int.from_bytes(self.take(8), "little")

    def i32(self):
        return int.from_bytes(self.take(4), "little", signed=True)

    def i64(self):
        return int.from_bytes(self.take(8), "little", signed=True)

    def varint(self, bits=64):
        """Shortest form only; `bits` is 64 but for the bases of statistics columns, which have up to 128."""
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= bits:
                self.refuse("a varint that does not end")
        if value >> bits:
            self.refuse(f"a varint of more than {bits} bits")
        if byte == 0 and shift > 7:
            self.refuse("a varint not in its shortest form")
        return value

    def zigzag(self, bits=64):
        return unzigzag(self.varint(bits))

    def text(self):
        return decode_text(self.take(self.varint()), self.part)

    def finish(self):
        if self.left():
            self.refuse(f"{self.left()} bytes left over")


def decode_text(data, part):
    try:
        return bytes(data).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damage(f"{part}: not UTF-8: {error}") from None


class FileHeader:
    """The 64 bytes of section 3. `file_id` and `store_id` None: whatever the file says."""

    LEN = 64

    def __init__(self, data, magic, file_id=None, store_id=None):
        cursor = Cursor(data, "file header", 0, min(len(data), self.LEN))
        if cursor.left() < self.LEN:
            raise Damage(f"file header: {cursor.left()} bytes of {self.LEN}")
        expect("magic", bytes(cursor.take(8)), magic)
        self.format_version = cursor.u16()
        self.oldest_reader = cursor.u16()
        self.incompat_flags = cursor.u32()
        self.ro_compat_flags = cursor.u32()
        self.compat_flags = cursor.u32()
        self.store_id = bytes(cursor.take(16))
        self.file_id = cursor.u64()
        self.param = cursor.u64()
        reserved = cursor.u32()
        expect("header_crc", crc(data[:60]), cursor.u32())
        if self.oldest_reader > 1 or self.incompat_flags or self.ro_compat_flags or reserved:
            raise TooNew(f"format version {self.format_version}, oldest reader {self.oldest_reader}, "
                         f"flags {self.incompat_flags:#x} {self.ro_compat_flags:#x}, reserved {reserved:#x}")
        if store_id is not None:
            expect("store_id", self.store_id.hex(), store_id.hex())
        if file_id is not None:
            expect("file_id", self.file_id, file_id)
