"""Blocks of values and presence (format-spec.md section 6).

Promise: `decode(type, block, count)` gives exactly `count` values or raises `Damage`. Floats are given as their bit
patterns (unsigned 64-bit numbers), so that nothing is lost; times and integers as signed, unsigned as unsigned numbers.
"""

import collections
import struct

from .binary import U64, Cursor, decode_text, signed64, unzigzag
from .pco import read_pco
from .zstd import decompress

RAW64, CONST, RLE, DICT, FOR, DELTA, LINE, XOR, PCO, STRDICT, PLAIN, PLAIN_ZSTD, BITMAP = range(13)
MINI_BLOCK = 128
COUNT_MAX = 65_536
BIT_PATTERNS = 31  # exponent of a block of floats whose integers are bit patterns
TAGS = ("RAW64", "CONST", "RLE", "DICT", "FOR", "DELTA", "LINE", "XOR", "PCO", "STRDICT", "PLAIN", "PLAIN_ZSTD",
        "BITMAP")
PRESENCE_FORMS = ("all", "bitmap", "runs", "positions")
SEEN = collections.Counter()  # forms decoded by this process: a run of tests asks whether it met them all
TEXT_LIMIT = 4 << 20  # bytes of all texts of a block; a block of a segment itself has at most so many


def decode(kind, block, count, text_limit=TEXT_LIMIT):
    """Values of a block; `kind` is `times`, `string_ids` or a field type of section 1."""
    cursor = Cursor(block, f"block of {kind}")
    if count > COUNT_MAX:
        cursor.refuse(f"{count} values")
    if kind == "string":
        values = _strings(cursor, count, text_limit)
    elif kind == "string_ids":
        if cursor.u8() != STRDICT:
            cursor.refuse("tag is not STRDICT")
        values = _numbers(cursor, count, "unsigned")
        if any(value >> 32 for value in values):
            cursor.refuse("an index of 2^32 or more")
    elif kind == "boolean":
        values = _booleans(cursor, count)
    else:
        values = _numbers(cursor, count, kind)
    cursor.finish()
    SEEN[f"{kind} {TAGS[block[0]]}"] += 1
    return values


def float_bits(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def float_of(bits):
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


# 6.3 Mini-blocks


def read_stream(cursor, count):
    """The `count` integers of a stream, signed, modulo 2^64."""
    values, base = [], 0
    while len(values) < count:
        size = min(count - len(values), MINI_BLOCK)
        head = cursor.u8()
        width, patched = head & 0x7F, head >> 7
        if width > 64:
            cursor.refuse(f"width {width}")
        base = signed64(base + cursor.zigzag())
        patches = patch_len = 0
        if patched:
            shape = cursor.u8()
            patches, patch_len = shape & 31, (shape >> 5) + 1
            if patches == 0 or patches > size:
                cursor.refuse(f"{patches} patches in {size} values")
        block = [signed64(base + offset) for offset in read_packed(cursor, size, width)]
        if patched:
            SEEN["patches"] += 1
            positions = cursor.take(patches)
            before = -1
            for position in positions:
                if position <= before or position >= size:
                    cursor.refuse(f"patch at {position}")
                before = position
            for position in positions:
                block[position] = signed64(base + unzigzag(int.from_bytes(cursor.take(patch_len), "little")))
        values.extend(block)
    return values


def read_packed(cursor, size, width):
    """`size` numbers of `width` bits, in the form of a whole or of a shorter mini-block."""
    if width == 0:
        return [0] * size
    if size < MINI_BLOCK:
        string, mask = int.from_bytes(cursor.take((size * width + 7) // 8), "little"), (1 << width) - 1
        return [string >> index * width & mask for index in range(size)]
    if width <= 32:
        return _lanes(cursor.take(16 * width), width)
    SEEN["mini-block of more than 32 bits"] += 1
    low = _lanes(cursor.take(512), 32)
    high = _lanes(cursor.take(16 * (width - 32)), width - 32)
    return [b << 32 | a for a, b in zip(low, high)]


def _lanes(data, width):
    words = struct.unpack(f"<{len(data) // 4}I", data)
    mask, numbers = (1 << width) - 1, [0] * MINI_BLOCK
    for lane in range(4):
        string = 0
        for index, word in enumerate(words[lane::4]):
            string |= word << 32 * index
        for row in range(32):
            numbers[4 * row + lane] = string >> row * width & mask
    return numbers


# 6.4 to 6.6, 6.9, 6.10: numbers


def _numbers(cursor, count, kind):
    floats = kind == "float"
    tag = cursor.u8()
    if tag == RAW64:
        values = list(struct.unpack(f"<{count}Q", cursor.take(8 * count)))
        return values if floats or kind == "unsigned" else [signed64(value) for value in values]
    if tag not in (CONST, RLE, DICT, FOR, DELTA, LINE, PCO) and not (tag == XOR and floats):
        cursor.refuse(f"tag {tag}")
    if count == 0:
        cursor.refuse(f"tag {tag} for no values")
    if tag == XOR:
        return _xor(cursor, count)
    scale, exceptions = cursor.u8(), []
    exponent = scale & 31 if floats else scale
    if floats:
        if scale & 0x60 or 9 < exponent < BIT_PATTERNS or scale == 0x80 | BIT_PATTERNS:
            cursor.refuse(f"scale byte {scale:#x}")
        if scale & 0x80:
            exceptions = _exceptions(cursor, count)
            SEEN["exceptions"] += 1
    elif exponent > 18:
        cursor.refuse(f"exponent {exponent}")
    integers = _PAYLOADS[tag](cursor, count)
    if not floats:
        power = 10**exponent
        values = [signed64(integer * power) for integer in integers]
        return [value & U64 for value in values] if kind == "unsigned" else values
    if exponent == BIT_PATTERNS:
        return [integer & U64 for integer in integers]
    if any(abs(integer) >= 1 << 53 for integer in integers):
        cursor.refuse("an integer of 2^53 or more")
    power = 10**exponent
    values = [float_bits(integer / power) for integer in integers]
    for position, bits in exceptions:
        values[position] = bits
    return values


def _exceptions(cursor, count):
    number = cursor.varint()
    if not 1 <= number <= count:
        cursor.refuse(f"{number} exceptions for {count} values")
    positions, at = [], -1
    for _ in range(number):
        at += 1 + cursor.varint()
        if at >= count:
            cursor.refuse(f"exception at {at}")
        positions.append(at)
    return [(position, cursor.u64()) for position in positions]


def _const(cursor, count):
    return [cursor.zigzag()] * count


def _rle(cursor, count):
    runs = cursor.varint()
    if not 1 <= runs <= count:
        cursor.refuse(f"{runs} runs for {count} values")
    integers = read_stream(cursor, runs)
    return [value for value, length in zip(integers, _lengths(cursor, runs, count)) for _ in range(length)]


def _lengths(cursor, runs, count):
    lengths = [value + 1 for value in read_stream(cursor, runs)]
    if any(length < 1 for length in lengths) or sum(lengths) != count:
        cursor.refuse(f"lengths of runs do not add up to {count}")
    return lengths


def _dict(cursor, count):
    entries = cursor.u8() + 1
    values = [cursor.zigzag()]
    for difference in read_stream(cursor, entries - 1):
        values.append(signed64(values[-1] + difference))
    width, codes = (entries - 1).bit_length(), []
    while len(codes) < count:
        codes.extend(read_packed(cursor, min(count - len(codes), MINI_BLOCK), width))
    if any(code >= entries for code in codes):
        cursor.refuse(f"a code of {entries} or more")
    return [values[code] for code in codes]


def _delta(cursor, count):
    at, values = cursor.zigzag(), []
    for difference in read_stream(cursor, count):
        at = signed64(at + difference)
        values.append(at)
    return values


def _line(cursor, count):
    start, step, gaps = cursor.zigzag(), cursor.zigzag(), cursor.varint()
    if gaps >= count:
        cursor.refuse(f"{gaps} gaps in {count} values")
    skips, at = {}, 0
    for _ in range(gaps):
        more = cursor.varint()
        at += more
        if more == 0 or at >= count:
            cursor.refuse(f"gap at {at}")
        skips[at] = cursor.zigzag()
    residuals = cursor.u8()
    if residuals > 1:
        cursor.refuse(f"residuals {residuals}")
    rest = read_stream(cursor, count) if residuals else [0] * count
    SEEN[f"LINE {'with' if residuals else 'without'} residuals"] += 1
    values, skipped = [], 0
    for index in range(count):
        skipped += skips.get(index, 0)
        values.append(signed64(start + step * (index + skipped) + rest[index]))
    return values


def _pco(cursor, count):
    values, differences = read_pco(cursor, count)
    SEEN[f"PCO {'with' if differences else 'without'} differences"] += 1
    return values


_PAYLOADS = {CONST: _const, RLE: _rle, DICT: _dict, FOR: read_stream, DELTA: _delta, LINE: _line, PCO: _pco}


def _xor(cursor, count):
    """6.10, on one string of bits, high bits first."""
    left = 8 * cursor.left()
    string = int.from_bytes(cursor.take(cursor.left()), "big")

    def bits(number):
        nonlocal left
        left -= number
        if left < 0:
            cursor.refuse("the string of bits ends early")
        return string >> left & ((1 << number) - 1)

    value, window = bits(64), None
    values = [value]
    for _ in range(count - 1):
        if bits(1):
            if bits(1):
                leading, length = bits(5), bits(6)
                length = length or 64
                if leading + length > 64:
                    cursor.refuse(f"window of {leading} and {length}")
                window = leading, length
            elif window is None:
                cursor.refuse("a window used before it is set")
            leading, length = window
            value ^= bits(length) << 64 - leading - length
        values.append(value)
    if left >= 8 or string & ((1 << left) - 1):
        cursor.refuse("bits behind the last value")
    return values


# 6.7, 6.8, 6.12


def _booleans(cursor, count):
    tag = cursor.u8()
    if tag == BITMAP:
        return _bitmap(cursor, count)
    if tag not in (CONST, RLE) or count == 0:
        cursor.refuse(f"tag {tag} for {count} booleans")
    first = cursor.u8()
    if first > 1:
        cursor.refuse(f"boolean {first}")
    if tag == CONST:
        return [bool(first)] * count
    runs = cursor.varint()
    if not 1 <= runs <= count:
        cursor.refuse(f"{runs} runs for {count} values")
    lengths = _lengths(cursor, runs, count)
    return [bool(first ^ run & 1) for run, length in enumerate(lengths) for _ in range(length)]


def _bitmap(cursor, count):
    data = cursor.take((count + 7) // 8)
    if count % 8 and data[-1] >> count % 8:
        cursor.refuse("a bit after the last value")
    return [bool(data[index // 8] >> index % 8 & 1) for index in range(count)]


def _strings(cursor, count, text_limit):
    tag = cursor.u8()
    if tag not in (PLAIN, PLAIN_ZSTD):
        cursor.refuse(f"tag {tag}")
    lengths = decode("unsigned", cursor.take(cursor.varint()), count)
    total = sum(lengths)
    if total > text_limit:
        cursor.refuse(f"{total} bytes of text, limit {text_limit}")
    texts = cursor.take(cursor.left())
    if tag == PLAIN_ZSTD:
        texts = decompress(texts, total)
    elif len(texts) != total:
        cursor.refuse(f"{len(texts)} bytes of text instead of {total}")
    values, at = [], 0
    for length in lengths:
        values.append(decode_text(texts[at : at + length], cursor.part))
        at += length
    return values


def presence(block, row_count):
    """Rows of `row_count` that have a value, rising."""
    cursor = Cursor(block, "presence")
    form = cursor.u8()
    if form == 0:
        rows = list(range(row_count))
    elif form == 1:
        rows = [row for row, there in enumerate(_bitmap(cursor, row_count)) if there]
    elif form == 2:
        rows, at = [], 0
        for _ in range(_at_most(cursor, row_count)):
            first = at + cursor.varint()
            at = first + cursor.varint() + 1
            if at > row_count:
                cursor.refuse(f"row {at - 1} of {row_count}")
            rows.extend(range(first, at))
    elif form == 3:
        rows, at = [], -1
        for _ in range(_at_most(cursor, row_count)):
            at += 1 + cursor.varint()
            if at >= row_count:
                cursor.refuse(f"row {at} of {row_count}")
            rows.append(at)
    else:
        cursor.refuse(f"form {form}")
    cursor.finish()
    SEEN[f"presence {PRESENCE_FORMS[form]}"] += 1
    return rows


def _at_most(cursor, limit):
    number = cursor.varint()
    if number > limit:
        cursor.refuse(f"{number} of {limit}")
    return number
