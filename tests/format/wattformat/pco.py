"""Blocks under PCO (format-spec.md 6.15): integers as offsets in bins, the bins coded by their frequency.

Promise: as in `blocks`: exactly `count` integers, or `Damage`; what section 6.15 does not allow is refused.
"""

from .binary import signed64

WIDTHS = {1: 4, 2: 5, 4: 6, 8: 7}  # bytes of an offset: bits that tell the bits of an offset within a bin
STATE_BITS_MAX = 14
BINS_MAX = 256
BATCH = 256


class _Bits:
    """A string of bits, low bits first."""

    def __init__(self, cursor):
        self.cursor = cursor
        data = cursor.take(cursor.left())
        self.string, self.left = int.from_bytes(data, "little"), 8 * len(data)

    def take(self, count):
        if count > self.left:
            self.cursor.refuse("the chunk ends early")
        number = self.string & (1 << count) - 1
        self.string >>= count
        self.left -= count
        return number

    def align(self):
        if self.take(self.left % 8):
            self.cursor.refuse("bits between parts of a chunk")


def read_pco(cursor, count):
    """The `count` integers of a payload, at least one, signed, modulo 2^64, and whether they were differences."""
    width = cursor.u8()
    if width not in WIDTHS:
        cursor.refuse(f"width {width}")
    base, size, bits = cursor.zigzag(), 8 * width, _Bits(cursor)
    delta, state_bits, bins = _meta(cursor, bits, size, WIDTHS[width])
    first = bits.take(size) if delta else 0
    states = [bits.take(state_bits) for _ in range(4)]
    bits.align()
    table, numbers = _table(state_bits, [weight for weight, _, _ in bins]), []
    while len(numbers) < count - delta:
        batch = []
        for index in range(min(BATCH, count - delta - len(numbers))):
            symbol, length, next_state = table[states[index % 4]]
            states[index % 4] = next_state + bits.take(length)
            batch.append(symbol)
        numbers.extend(bins[symbol][1] + bits.take(bins[symbol][2]) for symbol in batch)
    bits.align()
    if bits.left:
        cursor.refuse("bytes behind the last value")
    if delta:
        offsets = [first]
        for number in numbers:
            offsets.append(offsets[-1] + number + (1 << size - 1))
        numbers = offsets
    return [signed64(base + number % (1 << size)) for number in numbers], bool(delta)


def _meta(cursor, bits, size, offset_bits):
    """Whether there are differences, bits of a state, and (weight, lower, bits of an offset) of each bin."""
    if bits.take(4):
        cursor.refuse("mode of a chunk")
    delta = bits.take(4)
    if delta > 1 or delta and bits.take(4) != 1:
        cursor.refuse("differences of a chunk")
    state_bits, count = bits.take(4), bits.take(15)
    if state_bits > STATE_BITS_MAX or not 1 <= count <= BINS_MAX:
        cursor.refuse(f"{count} bins, {state_bits} bits of a state")
    bins = [(bits.take(state_bits) + 1, bits.take(size), bits.take(offset_bits)) for _ in range(count)]
    bits.align()
    if any(length > size for _, _, length in bins):
        cursor.refuse("an offset wider than its number")
    if sum(weight for weight, _, _ in bins) != 1 << state_bits or count == 1 and state_bits:
        cursor.refuse("weights that are not as many as the states")
    return delta, state_bits, bins


def _table(state_bits, weights):
    """For each state: its bin, bits to read, and what they are added to for the next state."""
    size = 1 << state_bits
    stride = 3 * size // 5
    stride += 1 - stride % 2
    symbols, state = [0] * size, 0
    for symbol, weight in enumerate(weights):
        for _ in range(weight):
            symbols[state] = symbol
            state = (state + stride) % size
    table, counts = [], list(weights)
    for symbol in symbols:
        length = state_bits + 1 - counts[symbol].bit_length()
        table.append((symbol, length, (counts[symbol] << length) - size))
        counts[symbol] += 1
    return table
