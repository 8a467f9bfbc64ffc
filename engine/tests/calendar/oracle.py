"""Borders of buckets around every change of every zone's clock, 1970 to 2040, from Python's zoneinfo.

Written from docs/api.md ("Buckets"), never from the Rust code: borders are searched, not computed by regimes. Needs the
PyPI package `tzdata` of the release that is built into wattlog; its folder may be given as PYTHONPATH.

Usage: oracle.py RELEASE STRIDE   (as `2026f 1`; exits with 3 if the package is absent or another release)
A stride of 3 looks at a third of the lengths around each change, in turn.
Prints one line per check: NAMES<tab>EVERY<tab>OFFSET<tab>FROM<tab>TO<tab>BORDERS. NAMES are all zones with these bytes; EVERY is a
number and one of s, d, w, mo; the others are seconds, BORDERS those in FROM < border <= TO.
"""

import sys
from datetime import date, datetime, timedelta
from importlib import resources
from multiprocessing import Pool
from struct import unpack_from
from zoneinfo import ZoneInfo

FIRST, LAST = 0, 2208988800  # 1970 to 2040
EPOCH = datetime(1970, 1, 1)
# (number, unit, offset in seconds)
SIZES = [
    (900, "s", 0), (1800, "s", 0), (3600, "s", 0), (3600, "s", 1200), (7200, "s", 0), (10800, "s", 0), (21600, "s", 0),
    (43200, "s", 0), (420, "s", 0), (1, "d", 0), (1, "d", 21600), (1, "d", -7200), (3, "d", 0), (1, "w", 0), (2, "w", 0),
    (1, "mo", 0), (3, "mo", 0), (12, "mo", 0),
]


def main():
    try:
        import tzdata
    except ImportError:
        sys.exit(3)
    if tzdata.IANA_VERSION != sys.argv[1]:
        print(f"tzdata is {tzdata.IANA_VERSION}, not {sys.argv[1]}", file=sys.stderr)
        sys.exit(3)
    groups = {}
    for name in (resources.files("tzdata") / "zones").read_text().split():
        groups.setdefault(content(name), []).append(name)
    with Pool() as pool:
        jobs = [(names, int(sys.argv[2])) for names in sorted(groups.values())]
        for lines in pool.imap_unordered(zone_lines, jobs, chunksize=4):
            sys.stdout.write(lines)


def content(name):
    return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()


def zone_lines(job):
    names, stride = job
    with resources.files("tzdata").joinpath("zoneinfo", *names[0].split("/")).open("rb") as file:
        zone = ZoneInfo.from_file(file, key=names[0])
    out = []
    # A zone that never changes is looked at once.
    for i, change in enumerate(changes(zone, content(names[0])) or [1_000_000_000]):
        for number, unit, offset in SIZES[i % stride::stride]:
            span = {"s": number, "d": number * 86400, "w": number * 604800, "mo": number * 31 * 86400}[unit]
            span = max(span, 3600)
            low, high = change - span - span // 3, change + span + span // 3
            found = borders(zone, number, unit, offset, low, change, high)
            out.append(f"{','.join(names)}\t{number}{unit}\t{offset}\t{low}\t{high}\t{' '.join(map(str, found))}\n")
    return "".join(out)


def changes(zone, data):
    """Instants at which the offset changes: those of the file, and those of its rule for later years."""
    found = set()
    # The second, 64-bit part of a TZif file begins behind the first.
    isutc, isstd, leap, times, types, chars = unpack_from(">6I", data, 20)
    second = 44 + times * 5 + types * 6 + chars + leap * 8 + isstd + isutc
    times = unpack_from(">I", data, second + 32)[0]
    for instant in unpack_from(f">{times}q", data, second + 44):
        if FIRST <= instant < LAST and shift(zone, instant - 1) != shift(zone, instant):
            found.add(instant)
    week = 7 * 86400
    for low in range(FIRST, LAST, week):
        if not any(low < instant <= low + week for instant in found) and shift(zone, low) != shift(zone, low + week):
            found.add(first_with(zone, low, low + week, lambda t: shift(zone, t) != shift(zone, low)))
    return sorted(found)


def first_with(zone, low, high, holds):
    """The first instant in low < t <= high of which it holds; it does not for low, does for high and changes once."""
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high


def shift(zone, instant):
    return datetime.fromtimestamp(instant, zone).utcoffset() // timedelta(seconds=1)


def shown(zone, instant):
    """What the local clock shows."""
    return datetime.fromtimestamp(instant, zone).replace(tzinfo=None)


def borders(zone, number, unit, offset, low, change, high):
    found = set()
    # All that the clock shows or leaves out in between; days and more may meet other changes on their way.
    seen = [shown(zone, t) for t in (low, change - 1, change, high)]
    margin = timedelta(days=0 if unit == "s" else 2)
    for wall in walls(number, unit, min(seen) - margin, max(seen) + margin, offset):
        wall += timedelta(seconds=offset)
        instants = {int(wall.replace(tzinfo=zone, fold=fold).timestamp()) for fold in (0, 1)}
        real = sorted(t for t in instants if shown(zone, t) == wall)
        if not real:
            # Left out by a clock set forward: where it goes on.
            before = min(instants) - 1
            real = [first_with(zone, before, max(instants), lambda t: shown(zone, t) >= wall)]
        # A day begins once; an hour that the clock shows twice begins twice.
        found.update(real if unit == "s" else real[:1])
    return sorted(t for t in found if low < t <= high)


def walls(number, unit, first, last, offset):
    """Local times at which buckets begin, without the offset."""
    first, last = first - timedelta(seconds=offset), last - timedelta(seconds=offset)
    if unit == "mo":
        month = (first.year - 1970) * 12 + first.month - 1
        month -= month % number
        while (wall := datetime(1970 + month // 12, month % 12 + 1, 1)) <= last:
            yield wall
            month += number
        return
    start = {"s": EPOCH, "d": EPOCH, "w": datetime.combine(date(1969, 12, 29), datetime.min.time())}[unit]
    step = timedelta(seconds=number * {"s": 1, "d": 86400, "w": 604800}[unit])
    wall = start + (first - start) // step * step
    while wall <= last:
        yield wall
        wall += step


if __name__ == "__main__":
    main()
