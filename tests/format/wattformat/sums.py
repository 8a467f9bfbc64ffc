"""Exact sums: whole billionths beside a double-double (format-spec.md sections 5.11 and 9, "Sums")."""

import functools
import math

from .blocks import float_bits, float_of

BILLION = 10**9


def fits(number):
    """True for what a signed number of 128 bits can hold."""
    return -(1 << 127) <= number < 1 << 127


@functools.lru_cache(maxsize=1 << 16)
def short_decimal(bits):
    """(integer, exponent) of the smallest exponent 0 to 9 that gives the double back bit for bit, or None."""
    value = float_of(bits)
    if value != value or value in (float("inf"), float("-inf")) or bits == 1 << 63:
        return None
    for exponent in range(10):
        power = 10**exponent
        integer = round(value * power)  # the product as a double; ties to even
        if abs(integer) >= 1 << 53:
            return None
        if float_bits(integer / power) == bits:
            return integer, exponent
    return None


def billionths(kind, raw):
    """The value in whole billionths, or None if it is a float that is no short decimal."""
    if kind != "float":
        return raw * BILLION
    short = short_decimal(raw)
    return None if short is None else short[0] * 10 ** (9 - short[1])


class ExactSum:
    """A sum of whole billionths and, for what is none, a double-double (`high`, `low`)."""

    __slots__ = ("whole", "high", "low")

    def __init__(self, whole=0, high=0.0, low=0.0):
        self.whole, self.high, self.low = whole, high, low

    def add_double(self, value):
        total, error = _two_sum(self.high, value)
        if not math.isfinite(total):
            self.high, self.low = total, 0.0
            return
        self.high, self.low = _quick_two_sum(total, error + self.low)

    def add_value(self, kind, raw):
        whole = billionths(kind, raw)
        if whole is None:
            self.add_double(float_of(raw))
        else:
            self.add_whole(whole)

    def add_product(self, kind, raw, duration_ns):
        whole = billionths(kind, raw)
        if whole is None:
            self.add_double(float_of(raw) * float(duration_ns))
        elif fits(whole * duration_ns):
            self.add_whole(whole * duration_ns)
        else:
            self.add_double(float(whole) / 1e9 * float(duration_ns))

    def add_whole(self, whole):
        """What does not fit any more goes over to the double-double, and the count begins anew."""
        if fits(self.whole + whole):
            self.whole += whole
        else:
            self.add_double(self.whole / BILLION)
            self.whole = whole

    def add(self, other):
        self.add_whole(other.whole)
        if other.high or other.low:
            self.add_double(other.high)
            self.add_double(other.low)

    def parts(self):
        return self.whole, float_bits(self.high), float_bits(self.low)


def _two_sum(a, b):
    total = a + b
    virtual = total - a
    return total, (a - (total - virtual)) + (b - virtual)


def _quick_two_sum(a, b):
    total = a + b
    return total, b - (total - a)
