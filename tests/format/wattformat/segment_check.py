"""Verification of a whole segment: order, tiling, counts, zeros, and every statistic computed anew (5.3 to 5.16).

Promise: `check(segment)` gives all findings as texts; none means that everything the text asks of a writer holds. Where
rows are cut differs between seals and compactions: `is_sealed` says that the segment is known to be of a seal.
"""

import collections

from . import statistics
from .binary import DAY_NS, Damage, crc, utc_day
from .definitions import is_unit
from .segment import HEADER_LEN, MIDNIGHTS_MAX, TIMES
from .statistics import GROUPS_PER_CHUNK

COMPACT_BELOW = 64
DAY_RUN_FROM = 256
GROUP_TEXT_MAX = 1 << 20
UTC_MONTH_EPOCH = 719_468  # days from 0000-03-01 to 1970-01-01


def check(segment, is_sealed=False):
    return _Check(segment, is_sealed).findings


def utc_month(time_ns):
    """(year, month) of a time, by the days of the proleptic Gregorian calendar."""
    days = utc_day(time_ns) + UTC_MONTH_EPOCH
    era, of_era = divmod(days, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    month = (5 * (of_era - (365 * year + year // 4 - year // 100)) + 2) // 153
    return 400 * era + year + (month >= 10), (month + 2) % 12 + 1


class _Check:
    def __init__(self, segment, is_sealed):
        self.segment = segment
        self.is_sealed = is_sealed
        self.findings = []
        self.at = HEADER_LEN  # where the data region has been tiled to
        self.rows = self.values = self.block_count = self.time_bytes = 0
        self.times = []  # first and last of each section
        self._zeros()
        before = -1
        for section in segment.sections:
            self.same("measurement ids rise", section.measurement > before, True)
            before = section.measurement
            self._section(section)
        self.same("end of the data region", self.at, segment.data_end)
        self.same("footer.rows", segment.rows, self.rows)
        self.same("footer.values", segment.values, self.values)
        self.same("footer.block_count", segment.block_count, self.block_count)
        self.same("meta.time_bytes", segment.time_bytes, self.time_bytes)
        first = min((time for time, _ in self.times), default=0)
        last = max((time for _, time in self.times), default=0)
        self.same("meta.first_time, last_time", (segment.first_time, segment.last_time), (first, last))
        if self.times and not segment.first_day <= utc_day(first) <= utc_day(last) < segment.end_day:
            self.findings.append(f"rows from day {utc_day(first)} to {utc_day(last)} outside the window")
        self._parts()

    def same(self, what, found, wanted):
        if found != wanted:
            self.findings.append(f"{what}: {found!r}, {wanted!r} by what is there")

    def _zeros(self):
        segment = self.segment
        self.same("footer.meta_crc", segment.meta_crc, crc(segment.page_crcs))
        zeros = {
            "header.reserved": segment.header_reserved.to_bytes(4, "little"),
            "room of the midnights": segment.midnights_room[8 * len(segment.midnights) :],
            "padding before the meta region": segment.data[segment.data_end : segment.meta_offset],
            "page.reserved": segment.page_reserved,
            "meta.reserved": segment.meta_reserved,
            "rest of the last page": segment.content.data[segment.content_len :],
        }
        for section in segment.sections:
            zeros["section.reserved"] = section.numbers["reserved"]
        for name, data in zeros.items():
            if any(data):
                self.findings.append(f"{name} is not zero")
        self.same("length of midnights", len(segment.midnights) <= MIDNIGHTS_MAX, True)
        self.same("midnights rise", segment.midnights, sorted(set(segment.midnights)))
        if self.is_sealed:
            self.same("midnights of a seal", segment.midnights, [])

    def _parts(self):
        """The parts of the content do not overlap, end where the content ends, and have zeros between them."""
        parts = sorted(part for part in self.segment.content.ranges if part[0] < part[1])
        at = 0
        for start, end, name in parts:
            if start < at:
                self.findings.append(f"{name} at {start} overlaps the part that ends at {at}")
            if any(self.segment.content.data[at:start]):
                self.findings.append(f"bytes before {name} at {start} are not zero")
            at = end
        if at > self.segment.content_len or self.segment.content_len - at >= 32:
            self.findings.append(f"content_len {self.segment.content_len}, last part ends at {at}")

    def _section(self, section):
        numbers = section.numbers
        if [f.id for f in section.fields] != sorted({f.id for f in section.fields}):
            self.findings.append("field ids do not rise")
        for entry in section.fields:
            if entry.kind not in (0, 1, 2):
                self.findings.append(f"field {entry.name}: kind {entry.kind}")
            if not is_unit(entry.unit):
                self.findings.append(f"field {entry.name}: unit {entry.unit!r}")
        ids = [entry.id for entry in section.series]
        self.same("series ids rise", ids, sorted(set(ids)))
        rows = values = next_group = next_block = 0
        used = set()
        found = [{} for _ in section.fields]  # place -> index of the group -> statistics
        for entry in section.series:
            self.same(f"series {entry.id}: first_group", entry.first_group, next_group)
            self.same(f"series {entry.id}: has groups", len(entry.groups) > 0, True)
            self.same(f"series {entry.id}: rows", entry.rows, sum(group.rows for group in entry.groups))
            before, days = None, collections.Counter()
            for group in entry.groups:
                if before is not None and group.first_time <= before:
                    self.findings.append(f"series {entry.id}: row groups overlap at {group.first_time}")
                before = group.last_time
                if group.compact_len is None:
                    self.same("first_block", group.first_block, next_block)
                    next_block += len(group.blocks)
                times, count = self._group(section, next_group, group, found, used)
                days.update(map(utc_day, times))
                values += count
                next_group += 1
            self._cuts(entry, days)
            rows += entry.rows
        self.same("section.group_count", numbers["group_count"], next_group)
        self.same("section.block_count", numbers["block_count"], next_block)
        self.same("section.rows", numbers["rows"], rows)
        self.same("section.values", numbers["values"], values)
        first, last = (pick(getattr(group, name) for group in section.groups)
                       for pick, name in ((min, "first_time"), (max, "last_time")))
        self.same("section.first_time, last_time", (numbers["first_time"], numbers["last_time"]), (first, last))
        self.same("fields with a dictionary", {place for place, f in enumerate(section.fields) if f.dictionary}, used)
        self.times.append((first, last))
        self.rows += rows
        self.values += values
        self._statistics(section, found)

    def _cuts(self, entry, days):
        """Where a seal may cut the rows of a series; `days` counts its rows by UTC day."""
        compact = [group.compact_len is not None for group in entry.groups]
        if any(compact):
            self.same(f"series {entry.id}: all groups compact", all(compact), True)
            self.same(f"series {entry.id}: compact groups only below 64 rows", entry.rows < COMPACT_BELOW, True)
            months = [utc_month(group.first_time) for group in entry.groups]
            self.same(f"series {entry.id}: one compact group for each month", len(set(months)), len(months))
        if not self.is_sealed:
            return
        full = {utc_month(day * DAY_NS) for day, rows in days.items() if rows >= DAY_RUN_FROM}
        for group in entry.groups:
            month = utc_month(group.first_time)
            if month != utc_month(group.last_time):
                self.findings.append(f"series {entry.id}: a row group crosses a UTC month at {group.last_time}")
            if month in full and utc_day(group.first_time) != utc_day(group.last_time):
                self.findings.append(f"series {entry.id}: a row group crosses a UTC day at {group.last_time}")

    def _group(self, section, index, group, found, used):
        """Decodes a group; gives its times and number of values and adds its statistics to `found`."""
        segment = self.segment
        self.same(f"row group {index}: offset", group.offset, self.at)
        pieces = segment.pieces(group)
        times = segment.times(group, pieces)
        self.same(f"row group {index}: times", (times[0], times[-1]), (group.first_time, group.last_time))
        if any(a >= b for a, b in zip(times, times[1:])):
            self.findings.append(f"row group {index}: times do not rise")
        places = [place for place, _, _ in pieces[1:]]
        if places != sorted(set(places)) or (places and places[-1] >= len(section.fields)) or not places:
            raise Damage(f"row group {index}: fields {places}")
        if group.compact_len is None:
            for block in group.blocks:
                self.same(f"row group {index}: offset of field {block.place}", block.offset, self.at)
                self.at += block.len
            self.time_bytes += group.blocks[0].len
            self.same(f"row group {index}: codec of the times", group.blocks[0].codec, pieces[0][2][0])
        else:
            self.at += group.compact_len
        self.block_count += len(pieces)
        count, some, text_bytes = 0, set(), 0
        for number, (place, presence, data) in enumerate(pieces[1:], 1):
            entry = section.fields[place]
            present, values, codec, texts = segment.decode_field(entry, group.rows, presence, data)
            count += len(values)
            some.update(present)
            if entry.type == "string" and texts is None:
                text_bytes += sum(len(value.encode()) for value in values)
            if texts is not None:
                used.add(place)
            if group.compact_len is not None:
                continue
            self.same(f"row group {index}, {entry.name}: codec", group.blocks[number].codec, codec)
            if entry.type != "string" or texts is not None:
                own = [times[row] for row in present]
                found[place][index] = statistics.compute(entry.type, own, values if texts is None else texts)
        self.same(f"row group {index}: rows with a value", len(some), group.rows)
        if group.rows > 1 and text_bytes > GROUP_TEXT_MAX:
            self.findings.append(f"row group {index}: {text_bytes} bytes of text")
        return times, count

    def _statistics(self, section, found):
        numbers = section.numbers
        frames = [(group.rows, group.first_time, group.last_time) for group in section.groups]
        stored = self._entries(section, "statistics", numbers["group_count"], frames)
        for place, entry in enumerate(section.fields):
            self._compare(f"{section.name}.{entry.name}: statistics of row group", stored[place], found[place])
        frames, summaries = [], [{} for _ in section.fields]
        for number, series in enumerate(section.series):
            frames.append((0, series.groups[0].first_time, series.groups[-1].last_time))
            for place, entry in enumerate(section.fields):
                indexes = range(series.first_group, series.first_group + len(series.groups))
                parts = [stored[place][index] for index in indexes if index in stored[place]]
                if len(parts) >= 2 and len(parts) == self._groups_with(series, place):
                    summaries[place][number] = statistics.join(entry.type, parts)
        stored = self._entries(section, "summary", numbers["series_count"], frames)
        for place, entry in enumerate(section.fields):
            self._compare(f"{section.name}.{entry.name}: summary of series", stored[place], summaries[place])

    def _groups_with(self, series, place):
        count = 0
        for group in series.groups:
            if group.compact_len is not None:
                return -1
            count += any(block.place == place for block in group.blocks)
        return count

    def _entries(self, section, name, count, frames):
        """For each place of a field: index -> decoded statistics."""
        numbers, content = section.numbers, self.segment.content
        chunks = -(-count // GROUPS_PER_CHUNK)
        total = len(section.fields) * chunks + 1
        cursor = content.part(f"{name} index", numbers[f"{name}_index_offset"], 4 * total)
        index = [cursor.u32() for _ in range(total)]
        if index != sorted(index) or index[0] != 0:
            raise Damage(f"{name} index: offsets {index[:8]}...")
        data = content.part(name, numbers[f"{name}_offset"], index[-1])
        found = []
        for place, entry in enumerate(section.fields):
            entries = {}
            for chunk in range(chunks):
                at = place * chunks + chunk
                piece = data.take(index[at + 1] - index[at])
                for bit, columns in statistics.read_chunk(piece, name).items():
                    number = GROUPS_PER_CHUNK * chunk + bit
                    if number >= count:
                        raise Damage(f"{name}: an entry for {number} of {count}")
                    entries[number] = statistics.decode_entry(entry.type, columns, *frames[number], name)
            found.append(entries)
        return found

    def _compare(self, what, stored, computed):
        self.same(f"{what}: which", sorted(stored), sorted(computed))
        for number in stored.keys() & computed.keys():
            for (name, said), (_, own) in zip(stored[number].listed(), computed[number].listed()):
                self.same(f"{what} {number}: {name}", said, own)
