"""Statistics of row groups and their summaries: decoded from chunks, and computed anew (format-spec.md 5.11)."""

from .binary import U64, Cursor, Damage, signed64
from .blocks import float_bits, float_of
from .sums import BILLION, ExactSum, short_decimal

GROUPS_PER_CHUNK = 64
M128 = (1 << 128) - 1
BITS = 15  # column 7: the values are bit patterns
GAP_MAX = (1 << 63) - 1

# What a comparison compares, by name.
NAMES = ("count", "first_time", "last_time", "first", "last", "min", "min_time", "max", "max_time", "sum", "step",
         "trapezoid", "longest_gap", "negative_deltas", "exceptions")


class Stats:
    """Statistics of one field over some rows. Values are raw (floats as bits); the sums are `ExactSum`."""

    def __init__(self):
        self.count = 0
        self.first_time = self.last_time = self.first = self.last = None
        self.min = self.min_time = self.max = self.max_time = None
        self.sum, self.step, self.trapezoid = ExactSum(), ExactSum(), ExactSum()
        self.longest_gap = self.negative_deltas = self.exceptions = 0

    def listed(self):
        found = []
        for name in NAMES:
            value = getattr(self, name)
            found.append((name, value.parts() if isinstance(value, ExactSum) else value))
        return found


def is_number(kind):
    return kind in ("float", "integer", "unsigned")


def _ordered(kind, raw):
    """What `<` compares, None for NaN."""
    if kind != "float":
        return raw
    value = float_of(raw)
    return None if value != value else value


def compute(kind, times, values):
    """Statistics of values (raw; texts as their numbers in the dictionary) in time order."""
    stats = Stats()
    for time, raw in zip(times, values):
        if stats.count:
            _between(stats, kind, time, raw)
        else:
            stats.first_time, stats.first = time, raw
        stats.count += 1
        stats.last_time, stats.last = time, raw
        if is_number(kind):
            stats.sum.add_value(kind, raw)
            key = _ordered(kind, raw)
            if key is not None:
                if stats.min is None or key < _ordered(kind, stats.min):
                    stats.min, stats.min_time = raw, time
                if stats.max is None or key > _ordered(kind, stats.max):
                    stats.max, stats.max_time = raw, time
            if kind == "float":
                stats.exceptions += short_decimal(raw) is None
    return stats


def _between(stats, kind, time, raw):
    """The piece between the last value of `stats` and the next one."""
    duration = time - stats.last_time
    stats.longest_gap = max(stats.longest_gap, min(duration, GAP_MAX))
    if not is_number(kind):
        return
    stats.step.add_product(kind, stats.last, duration)
    stats.trapezoid.add_product(kind, stats.last, duration)
    stats.trapezoid.add_product(kind, raw, duration)
    before, after = _ordered(kind, stats.last), _ordered(kind, raw)
    if before is not None and after is not None and after < before:
        stats.negative_deltas += 1


def join(kind, parts):
    """Statistics of consecutive groups taken together."""
    total = Stats()
    for part in parts:
        if total.count:
            _between(total, kind, part.first_time, part.first)
        else:
            total.first_time, total.first = part.first_time, part.first
        total.count += part.count
        total.last_time, total.last = part.last_time, part.last
        for name in ("sum", "step", "trapezoid"):
            getattr(total, name).add(getattr(part, name))
        total.longest_gap = max(total.longest_gap, part.longest_gap)
        total.negative_deltas += part.negative_deltas
        total.exceptions += part.exceptions
        if part.min is not None and (total.min is None or _ordered(kind, part.min) < _ordered(kind, total.min)):
            total.min, total.min_time = part.min, part.min_time
        if part.max is not None and (total.max is None or _ordered(kind, part.max) > _ordered(kind, total.max)):
            total.max, total.max_time = part.max, part.max_time
    return total


def read_chunk(data, part):
    """{index of the group in the chunk: {column id: number}} of a chunk; an empty one has no entries."""
    if not data:
        return {}
    cursor = Cursor(data, part)
    mask = cursor.u64()
    indexes = [bit for bit in range(64) if mask >> bit & 1]
    entries = {index: {} for index in indexes}
    before = -1
    while cursor.left():
        column, width = cursor.u8(), cursor.u8()
        if column <= before or width > 128:
            cursor.refuse(f"column {column} of width {width}")
        before = column
        base = cursor.zigzag(128)
        packed = int.from_bytes(cursor.take((len(indexes) * width + 7) // 8), "little")
        for place, index in enumerate(indexes):
            value = base + (packed >> place * width & (1 << width) - 1) & M128
            entries[index][column] = value - (1 << 128) if value >> 127 else value
    return entries


def decode_entry(kind, columns, rows, first_time, last_time, part):
    """The statistics that the columns of an entry say, for a frame of `rows` from `first_time` to `last_time`."""

    def column(number, least=None, most=None):
        value = columns.get(number, 0)
        if (least is not None and value < least) or (most is not None and value > most):
            raise Damage(f"{part}: column {number} is {value}")
        return value

    stats = Stats()
    stats.count = wrap(rows - column(1))
    unit = 10 ** column(6, 0, 18)
    stats.first_time = signed64(first_time + column(2) * unit)
    stats.last_time = signed64(last_time - column(3) * unit)
    stats.longest_gap = column(24) * unit
    first, last = column(8), column(9)
    if not is_number(kind):
        stats.first, stats.last = (bool(first), bool(last)) if kind == "boolean" else (first, last)
        return stats
    exponent = column(7, 0, BITS)
    if kind == "float" and 9 < exponent < BITS:
        raise Damage(f"{part}: exponent {exponent}")
    raw = _raw(kind, exponent, part)
    stats.first, stats.last = raw(first), raw(last)
    if not column(12, 0, 1):
        stats.min, stats.max = raw(wrap(min(first, last) - column(10))), raw(wrap(max(first, last) + column(11)))
        stats.min_time = signed64(first_time + column(4) * unit)
        stats.max_time = signed64(first_time + column(5) * unit)
    power = 0 if exponent == BITS else BILLION // 10**exponent
    whole = wrap(column(13) * 10 ** column(14, 0, 38))
    regular = (stats.last_time - stats.first_time) // (stats.count - 1) if stats.count > 1 else 0
    residue_unit = 10 ** column(19, 0, 38)
    step = wrap((whole - last * power) * regular + column(17) * residue_unit)
    trapezoid = wrap(2 * step + (last - first) * power * regular + column(18) * residue_unit)
    stats.sum = ExactSum(whole, _double(column(15)), _double(column(16)))
    stats.step = ExactSum(step, _double(column(20)), _double(column(21)))
    stats.trapezoid = ExactSum(trapezoid, _double(column(22)), _double(column(23)))
    stats.negative_deltas, stats.exceptions = column(25), column(26)
    return stats


def wrap(value):
    """Modulo 2^128, as a signed number."""
    value &= M128
    return value - (1 << 128) if value >> 127 else value


def _double(bits):
    return float_of(bits & U64)


def _raw(kind, exponent, part):
    def of(integer):
        if kind == "unsigned":
            return integer & U64
        if kind == "integer":
            return signed64(integer)
        if exponent == BITS:
            return integer & U64
        if abs(integer) >= 1 << 53:
            raise Damage(f"{part}: an integer of 2^53 or more")
        return float_bits(integer / 10**exponent)

    return of
