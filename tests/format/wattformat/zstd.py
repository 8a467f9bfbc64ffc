"""Decompression of one Zstandard frame (RFC 8878), for PLAIN_ZSTD blocks (6.8) and chunks of series keys (5.13).

Promise: gives exactly `length` bytes or raises `Damage`; whatever window or content size a frame declares, no more than
`length` bytes are ever held. No dictionaries: a frame that names one is refused. Section numbers are those of the RFC.
"""

import functools

from .binary import U64, Damage

MAGIC = 0xFD2FB528
BLOCK_MAX = 128 * 1024

# 3.1.1.3.2.1.1: base value and number of extra bits of each code.
LITERALS_LENGTH = [(n, 0) for n in range(16)] + [
    (16, 1), (18, 1), (20, 1), (22, 1), (24, 2), (28, 2), (32, 3), (40, 3), (48, 4), (64, 6), (128, 7), (256, 8),
    (512, 9), (1024, 10), (2048, 11), (4096, 12), (8192, 13), (16384, 14), (32768, 15), (65536, 16)]
MATCH_LENGTH = [(n + 3, 0) for n in range(32)] + [
    (35, 1), (37, 1), (39, 1), (41, 1), (43, 2), (47, 2), (51, 3), (59, 3), (67, 4), (83, 4), (99, 5), (131, 7),
    (259, 8), (515, 9), (1027, 10), (2051, 11), (4099, 12), (8195, 13), (16387, 14), (32771, 15), (65539, 16)]

# 3.1.1.3.2.2: default distributions and their accuracy logs.
LITERALS_LENGTH_DEFAULT = (6, [4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1,
                               1, 1, -1, -1, -1, -1])
MATCH_LENGTH_DEFAULT = (6, [1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1])
OFFSET_DEFAULT = (5, [1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1])


@functools.lru_cache(maxsize=64)  # reading and verifying decode the same blocks one after the other
def decompress(data, length):
    """The `length` bytes of the one frame in `data`."""
    frame = _Frame(bytes(data), length)
    frame.read()
    if len(frame.out) != length:
        raise Damage(f"zstd: {len(frame.out)} bytes instead of {length}")
    return bytes(frame.out)


class _Frame:
    def __init__(self, data, limit):
        self.data = data
        self.at = 0
        self.limit = limit
        self.out = bytearray()
        self.huffman = None
        self.tables = {}  # name -> FSE table of the block before, for Repeat_Mode
        self.repeats = [1, 4, 8]

    def number(self, size):
        if self.at + size > len(self.data):
            raise Damage("zstd: frame ends early")
        value = int.from_bytes(self.data[self.at : self.at + size], "little")
        self.at += size
        return value

    def read(self):
        if self.number(4) != MAGIC:
            raise Damage("zstd: no frame")
        has_checksum = self._header()
        last = False
        while not last:
            head = self.number(3)
            last, kind, size = head & 1, head >> 1 & 3, head >> 3
            if kind == 3 or (kind != 1 and size > BLOCK_MAX):
                raise Damage("zstd: reserved block")
            if kind == 1:
                self._emit(bytes([self.number(1)]) * min(size, self.limit + 1))
                continue
            if self.at + size > len(self.data):
                raise Damage("zstd: block ends early")
            block = self.data[self.at : self.at + size]
            self.at += size
            if kind == 0:
                self._emit(block)
            else:
                self._compressed(block)
        if has_checksum and self.number(4) != xxh64(bytes(self.out)) & 0xFFFFFFFF:
            raise Damage("zstd: checksum of the content")
        if self.at != len(self.data):
            raise Damage("zstd: bytes behind the frame")

    def _header(self):
        descriptor = self.number(1)
        if descriptor & 8:
            raise Damage("zstd: reserved bit")
        single_segment = descriptor >> 5 & 1
        if not single_segment:
            self.number(1)  # window: matches are checked against what has been given instead
        if self.number((0, 1, 2, 4)[descriptor & 3]):
            raise Damage("zstd: frame needs a dictionary")
        size_bytes = (single_segment, 2, 4, 8)[descriptor >> 6]
        if size_bytes:
            declared = self.number(size_bytes) + (256 if size_bytes == 2 else 0)
            if declared != self.limit:
                raise Damage(f"zstd: frame declares {declared} bytes, {self.limit} expected")
        return descriptor >> 2 & 1

    def _emit(self, piece):
        if len(self.out) + len(piece) > self.limit:
            raise Damage(f"zstd: more than {self.limit} bytes")
        self.out += piece

    def _compressed(self, block):
        literals, at = self._literals(block)
        count, at = _sequence_count(block, at)
        if count == 0:
            if at != len(block):
                raise Damage("zstd: bytes behind the literals")
            self._emit(literals)
            return
        modes = _byte(block, at)
        at += 1
        if modes & 3:
            raise Damage("zstd: reserved bits of the modes")
        tables = []
        for name, shift, default, largest, log in (
            ("literals", 6, LITERALS_LENGTH_DEFAULT, 35, 9),
            ("offset", 4, OFFSET_DEFAULT, 31, 8),
            ("match", 2, MATCH_LENGTH_DEFAULT, 52, 9),
        ):
            table, at = self._table(name, modes >> shift & 3, default, largest, log, block, at)
            tables.append(table)
        self._sequences(_BackBits(block[at:]), count, tables, literals)

    def _table(self, name, mode, default, largest, max_log, block, at):
        if mode == 0:
            table = _fse_table(*default)
        elif mode == 1:
            symbol = _byte(block, at)
            at += 1
            if symbol > largest:
                raise Damage(f"zstd: code {symbol} of {name}")
            table = (0, [(symbol, 0, 0)])
        elif mode == 2:
            (log, counts), at = _fse_header(block, at, max_log)
            if len(counts) > largest + 1:
                raise Damage(f"zstd: too many codes of {name}")
            table = _fse_table(log, counts)
        elif name in self.tables:
            table = self.tables[name]
        else:
            raise Damage(f"zstd: no table of {name} to repeat")
        self.tables[name] = table
        return table, at

    def _literals(self, block):
        first = _byte(block, 0)
        kind, form = first & 3, first >> 2 & 3
        if kind < 2:
            size_len = (1, 2, 1, 3)[form]
            size = int.from_bytes(block[:size_len], "little") >> (3 if size_len == 1 else 4)
            if kind == 0:
                end = size_len + size
                if end > len(block):
                    raise Damage("zstd: literals end early")
                return block[size_len:end], end
            if size > BLOCK_MAX:
                raise Damage("zstd: too many literals")
            return bytes([_byte(block, size_len)]) * size, size_len + 1
        size_len, bits = ((3, 10), (3, 10), (4, 14), (5, 18))[form]
        head = int.from_bytes(block[:size_len], "little") >> 4
        size, packed = head & ((1 << bits) - 1), head >> bits
        at, end = size_len, size_len + packed
        if size > BLOCK_MAX or end > len(block):
            raise Damage("zstd: literals end early")
        if kind == 2:
            self.huffman, at = _huffman_table(block, at, end)
        elif self.huffman is None:
            raise Damage("zstd: no Huffman tree to repeat")
        if form == 0:
            return _huffman_stream(self.huffman, block[at:end], size), end
        if end - at < 6:
            raise Damage("zstd: jump table")
        sizes = [int.from_bytes(block[at + k : at + k + 2], "little") for k in (0, 2, 4)]
        at += 6
        part = (size + 3) // 4
        out = b""
        for index in range(4):
            stop = at + sizes[index] if index < 3 else end
            want = part if index < 3 else size - 3 * part
            if stop > end or want < 0:
                raise Damage("zstd: sizes of the four streams")
            out += _huffman_stream(self.huffman, block[at:stop], want)
            at = stop
        return out, end

    def _sequences(self, bits, count, tables, literals):
        states = [bits.read(log) for log, _ in tables]
        taken = 0
        for index in range(count):
            (ll_code, *ll_next), (of_code, *of_next), (ml_code, *ml_next) = (
                table[state] for (_, table), state in zip(tables, states))
            offset_value = (1 << of_code) + bits.read(of_code)
            base, extra = MATCH_LENGTH[ml_code]
            match = base + bits.read(extra)
            base, extra = LITERALS_LENGTH[ll_code]
            run = base + bits.read(extra)
            if index + 1 < count:  # 3.1.1.3.2.1.2: literals length, match length, offset
                ll_state = ll_next[1] + bits.read(ll_next[0])
                ml_state = ml_next[1] + bits.read(ml_next[0])
                states = [ll_state, of_next[1] + bits.read(of_next[0]), ml_state]
            offset = self._offset(offset_value, run)
            if taken + run > len(literals):
                raise Damage("zstd: not enough literals")
            self._emit(literals[taken : taken + run])
            taken += run
            self._copy(offset, match)
        if bits.left != 0:
            raise Damage("zstd: bits behind the sequences")
        self._emit(literals[taken:])

    def _offset(self, value, run):
        """3.1.1.5: values 1 to 3 name one of the last three offsets."""
        if value > 3:
            self.repeats = [value - 3, *self.repeats[:2]]
            return value - 3
        index = value - 1 + (run == 0)
        offset = self.repeats[index] if index < 3 else self.repeats[0] - 1
        if offset == 0:
            raise Damage("zstd: offset 0")
        if index:
            kept = self.repeats[1] if index > 1 else self.repeats[2]
            self.repeats = [offset, self.repeats[0], kept]
        return offset

    def _copy(self, offset, length):
        start = len(self.out) - offset
        if start < 0:
            raise Damage("zstd: offset before the beginning")
        if len(self.out) + length > self.limit:
            raise Damage(f"zstd: more than {self.limit} bytes")
        if offset < length:  # the copy goes on into what it has just written
            piece = self.out[start:]
            self.out += (piece * (length // offset + 1))[:length]
        else:
            self.out += self.out[start : start + length]


class _BackBits:
    """Bits from the end of a stream to its beginning (4.1); the highest set bit of the last byte is only a mark.

    `window` holds the next `held` bits as a number, `at` says how many bytes are not in it yet.
    """

    STEP = 32

    def __init__(self, data):
        if not data or data[-1] == 0:
            raise Damage("zstd: no end mark of a bit stream")
        self.data, self.at = data, len(data) - 1
        self.held = data[-1].bit_length() - 1
        self.window = data[-1] & (1 << self.held) - 1
        self.left = self.held + 8 * self.at

    def fill(self):
        more = min(self.STEP, self.at)
        piece = int.from_bytes(self.data[self.at - more : self.at], "little")
        self.window = self.window << 8 * more | piece
        self.held += 8 * more
        self.at -= more

    def read(self, count):
        if self.left < count:
            raise Damage("zstd: bit stream ends early")
        return self.read_padded(count)

    def read_padded(self, count):
        """As `read`, with zeros behind the end: `left` then falls below zero."""
        if self.held < count:
            self.fill()
        self.left -= count
        if self.held < count:
            value = self.window << count - self.held
            self.window = self.held = 0
            return value
        self.held -= count
        value = self.window >> self.held
        self.window &= (1 << self.held) - 1
        return value


def _byte(data, at):
    if at >= len(data):
        raise Damage("zstd: block ends early")
    return data[at]


def _sequence_count(block, at):
    first = _byte(block, at)
    if first < 128:
        return first, at + 1
    if first < 255:
        return (first - 128 << 8) + _byte(block, at + 1), at + 2
    return _byte(block, at + 1) + (_byte(block, at + 2) << 8) + 0x7F00, at + 3


def _fse_header(data, at, max_log):
    """4.1.1: the distribution of a table, and where it ends."""
    value = int.from_bytes(data[at:], "little")
    limit = 8 * (len(data) - at)
    log = (value & 15) + 5
    if log > max_log:
        raise Damage(f"zstd: accuracy {log}")
    used, remaining, counts = 4, (1 << log) + 1, []
    while remaining > 1:
        width = remaining.bit_length()
        number = value >> used & ((1 << width) - 1)
        small = (1 << width) - 1 - remaining
        low = number & ((1 << width - 1) - 1)
        if low < small:
            number, used = low, used + width - 1
        else:
            used += width
            if number >= 1 << width - 1:
                number -= small
        count = number - 1
        remaining -= abs(count)
        counts.append(count)
        if count == 0:
            while True:
                repeat = value >> used & 3
                used += 2
                counts.extend([0] * repeat)
                if repeat < 3 or used > limit:
                    break
        if used > limit or remaining < 1 or len(counts) > 256:
            raise Damage("zstd: distribution of a table")
    return (log, counts), at + (used + 7) // 8


def _fse_table(log, counts):
    """4.1.1: state -> (symbol, bits to read, base of the next state)."""
    size = 1 << log
    symbols = [0] * size
    high = size - 1
    for symbol, count in enumerate(counts):
        if count == -1:
            symbols[high] = symbol
            high -= 1
    position, step, mask = 0, (size >> 1) + (size >> 3) + 3, size - 1
    for symbol, count in enumerate(counts):
        for _ in range(max(count, 0)):
            symbols[position] = symbol
            position = position + step & mask
            while position > high:
                position = position + step & mask
    following = [1 if count == -1 else count for count in counts]
    table = []
    for symbol in symbols:
        state = following[symbol]
        following[symbol] += 1
        bits = log - state.bit_length() + 1
        table.append((symbol, bits, (state << bits) - size))
    return log, table


def _huffman_table(block, at, end):
    """4.2.1: (greatest length, prefix of that many bits -> (symbol, length)), and where the tree ends."""
    head = _byte(block, at)
    at += 1
    if head >= 128:
        count = head - 127
        stop = at + (count + 1) // 2
        if stop > end:
            raise Damage("zstd: Huffman weights end early")
        weights = [block[at + k // 2] >> (0 if k & 1 else 4) & 15 for k in range(count)]
    else:
        stop = at + head
        if stop > end:
            raise Damage("zstd: Huffman weights end early")
        weights = _fse_weights(block[at:stop])
    total = sum(1 << weight - 1 for weight in weights if weight)
    if total == 0:
        raise Damage("zstd: Huffman weights")
    longest = total.bit_length()
    rest = (1 << longest) - total
    if longest > 11 or rest & rest - 1 or len(weights) > 255:
        raise Damage("zstd: Huffman weights")
    weights.append(rest.bit_length())
    table = []
    for weight in range(1, longest + 1):
        for symbol, own in enumerate(weights):
            if own == weight:
                table.extend([(symbol, longest + 1 - weight)] * (1 << weight - 1))
    if len(table) != 1 << longest:
        raise Damage("zstd: Huffman weights")
    return (longest, table), stop


def _fse_weights(data):
    (log, counts), at = _fse_header(data, 0, 6)
    log, table = _fse_table(log, counts)
    bits = _BackBits(data[at:])
    states = [bits.read(log), bits.read(log)]
    weights, turn = [], 0
    while len(weights) < 256:
        symbol, width, base = table[states[turn]]
        weights.append(symbol)
        states[turn] = base + bits.read_padded(width)
        turn ^= 1
        if bits.left < 0:
            weights.append(table[states[turn]][0])
            return weights
    raise Damage("zstd: Huffman weights")


def _huffman_stream(tree, data, count):
    longest, table = tree
    bits = _BackBits(data)
    window, held, out = bits.window, bits.held, bytearray()
    for _ in range(count):
        if held < longest:
            bits.window, bits.held = window, held
            bits.fill()
            window, held = bits.window, bits.held
        prefix = window >> held - longest if held >= longest else window << longest - held
        symbol, length = table[prefix]
        held -= length
        if held < 0:
            raise Damage("zstd: literals end early")
        window &= (1 << held) - 1
        out.append(symbol)
    if held or bits.at:
        raise Damage("zstd: bits behind the literals")
    return bytes(out)


def xxh64(data):
    """XXH64 with seed 0, whose low 32 bits are the checksum of a frame's content."""
    p1, p2, p3, p4, p5 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                          0x27D4EB2F165667C5)

    def turn(value, bits):
        return (value << bits | value >> 64 - bits) & U64

    def mix(lane, word):
        return turn((lane + word * p2) & U64, 31) * p1 & U64

    at, size = 0, len(data)
    if size >= 32:
        lanes = [(p1 + p2) & U64, p2, 0, -p1 & U64]
        while at + 32 <= size:
            for k in range(4):
                lanes[k] = mix(lanes[k], int.from_bytes(data[at + 8 * k : at + 8 * k + 8], "little"))
            at += 32
        total = sum(turn(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18))) & U64
        for lane in lanes:
            total = ((total ^ mix(0, lane)) * p1 + p4) & U64
    else:
        total = p5
    total = (total + size) & U64
    while at + 8 <= size:
        total = (turn(total ^ mix(0, int.from_bytes(data[at : at + 8], "little")), 27) * p1 + p4) & U64
        at += 8
    if at + 4 <= size:
        total = (turn(total ^ int.from_bytes(data[at : at + 4], "little") * p1 & U64, 23) * p2 + p3) & U64
        at += 4
    while at < size:
        total = turn(total ^ data[at] * p5 & U64, 11) * p1 & U64
        at += 1
    total = (total ^ total >> 33) * p2 & U64
    total = (total ^ total >> 29) * p3 & U64
    return total ^ total >> 32
