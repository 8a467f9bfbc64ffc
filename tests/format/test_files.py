"""The worked examples of format-spec.md as whole files, then changed: torn, damaged, from elsewhere."""

import pathlib
import tempfile
import unittest

import spec
from wattformat import catalog, manifest, segment_check, tombstones, wal
from wattformat.binary import Damage, TooNew, crc, u64_bytes
from wattformat.segment import Segment
from wattformat.store import Store

STORE = b"0123456789abcdef"
DEFINITIONS = [(1, 1, "home", "autogen"), (2, 1, 1, "m"), (3, 1, 1, "pv", "float"), (4, 1, 1, (("id", "a"),)),
               (4, 2, 1, (("id", "b"),))]


def record(kind, seq, durable, at, payload=b"", log=1):
    """A record as section 4 lays it out."""
    head = b"WREC" + bytes([kind, 0, 0, 0]) + len(payload).to_bytes(4, "little") + crc(payload).to_bytes(4, "little")
    head += u64_bytes(log) + u64_bytes(seq) + u64_bytes(durable) + bytes(8) + bytes(8) + bytes(4)
    return head + crc(STORE, u64_bytes(at), head).to_bytes(4, "little") + payload


def log_of(*records, first=1, log=1):
    """A log file of (kind, seq, durable, payload)."""
    data = b"WATTWAL1" + bytes([1, 0, 1, 0]) + bytes(12) + STORE + u64_bytes(log) + u64_bytes(first) + bytes(4)
    data += crc(data).to_bytes(4, "little")
    for kind, seq, durable, payload in records:
        data += record(kind, seq, durable, len(data), payload, log)
    return data


def flip(data, at, bit=0):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


class Logs(unittest.TestCase):
    def replay(self, *logs, flushed=0):
        found = wal.replay([wal.read_log(data, number, STORE) for number, data in enumerate(logs, 1)], flushed)
        return [item.seq for item in found.records if item.kind != wal.END], len(found.damage), len(found.dropped)

    def test_example(self):
        data = spec.hex_example("log-example")
        log = wal.read_log(data, 1, STORE)
        found = wal.replay([log], 0)
        self.assertEqual((found.damage, found.dropped), ([], []))
        self.assertEqual([item.kind for item in found.records], [wal.DEFINE])
        self.assertEqual([item.kind for item in log.records], [wal.DEFINE, wal.END])
        self.assertEqual(wal.read_define(found.records[0].payload), DEFINITIONS)
        define = found.records[0]
        self.assertEqual(log_of((2, 1, 0, define.payload))[64:104], data[64:104])

    def test_points_example(self):
        [(_, body)] = spec.fences("points-payload")
        payload = b"".join(bytes.fromhex(line.partition("|")[0]) for line in body.splitlines())
        namespace, [entry] = wal.read_points(payload)
        self.assertEqual((namespace, entry.series, entry.measurement), (1, 7, 3))
        self.assertEqual(entry.times, [1780272000000000000, 1780272010000000000])
        (five, kind, rows, values), nine = entry.columns
        self.assertEqual((five, kind, rows), (5, "float", [0, 1]))
        self.assertEqual(values, spec.values_of("floats", "230.1 229.8"))
        self.assertEqual(nine, (9, "string", [1], ["eco"]))

    def test_delete_example(self):
        [(_, body)] = spec.fences("delete-payload")
        payload = b"".join(bytes.fromhex(line.partition("|")[0]) for line in body.splitlines())
        [entry] = tombstones.read_delete(payload, 8)
        self.assertEqual(entry, tombstones.Tombstone(8, 1, 3, 0, 1000, frozenset([5]), frozenset([7, 9])))
        for end in range(len(payload)):
            with self.assertRaises(Damage, msg=f"cut to {end} bytes"):
                tombstones.read_delete(payload[:end], 8)
        for wrong in (payload + b"\0", payload[:-1] + b"\0", payload[:9] + payload[17:25] + payload[17:]):
            with self.assertRaises(Damage, msg=wrong.hex()):
                tombstones.read_delete(wrong, 8)

    def test_a_tombstone_hides_what_it_covers_of_lower_sequences(self):
        entry = tombstones.Tombstone(8, 1, 3, 0, 1000, frozenset([5]), frozenset([7, 9]))
        known = tombstones.Tombstones([entry])
        self.assertEqual(known.over(7, 1, 3, 9, 999, 5000), [entry])
        for place in ((8, 1, 3, 9, 0, 1), (7, 2, 3, 9, 0, 1), (7, 1, 4, 9, 0, 1), (7, 1, 3, 8, 0, 1),
                      (7, 1, 3, 9, 1000, 5000), (7, 1, 3, 9, -9, -1)):
            self.assertEqual(known.over(*place), [], place)
        self.assertEqual([entry.hides(5, time) for time in (-1, 0, 999, 1000)], [False, True, True, False])
        self.assertFalse(entry.hides(6, 0))

    def test_a_delete_in_a_log_hides_what_is_before_it_and_nothing_behind_it(self):
        [(_, body)] = spec.fences("points-payload")
        points = b"".join(bytes.fromhex(line.partition("|")[0]) for line in body.splitlines())
        define = bytes.fromhex("05 0101 0164 0170 020301 016d 030503 01 0166 030903 05 0173 040703 00".replace(" ", ""))
        first, second = 1780272000000000000, 1780272010000000000
        ids = bytes.fromhex("01000000 03000000")

        def shown(*deletes_and_points):
            records = [(wal.DEFINE, define), (wal.POINTS, points), *deletes_and_points]
            data = log_of(*((kind, seq, seq - 1, payload) for seq, (kind, payload) in enumerate(records, 1)))
            with tempfile.TemporaryDirectory() as folder:
                (pathlib.Path(folder) / "wal").mkdir()
                (pathlib.Path(folder) / "wal" / f"wal-{1:016x}.log").write_bytes(data)
                store = Store(folder)
                [rows] = store.points().values() or [{}]
                self.assertEqual(store.damage, ["no manifest"])
                return {time: sorted(fields) for time, fields in rows.items()}

        def delete(start, end, fields, series="00"):
            times = b"".join(time.to_bytes(8, "little", signed=True) for time in (start, end))
            return wal.DELETE, b"\1" + ids + times + bytes.fromhex(fields) + bytes.fromhex(series)

        self.assertEqual(shown(), {first: ["f"], second: ["f", "s"]})
        self.assertEqual(shown(delete(0, second, "00")), {second: ["f", "s"]})
        self.assertEqual(shown(delete(first, second + 1, "010105")), {second: ["s"]})
        self.assertEqual(shown(delete(first, second + 1, "00", "010106")), {first: ["f"], second: ["f", "s"]})
        self.assertEqual(shown(delete(first, second + 1, "00", "010107")), {})
        self.assertEqual(shown(delete(0, second, "00"), (wal.POINTS, points)), {first: ["f"], second: ["f", "s"]})

    def test_any_flipped_bit_of_the_example_is_told(self):
        data = spec.hex_example("log-example")
        for at in range(len(data)):
            for bit in range(8):
                try:
                    log = wal.read_log(flip(data, at, bit), 1, STORE)
                except TooNew:
                    continue
                found = wal.replay([log], 1)
                self.assertTrue(found.damage or found.dropped, f"byte {at}, bit {bit}")

    def test_a_torn_tail_is_dropped_and_is_no_damage(self):
        data = log_of((3, 1, 0, bytes(16)), (3, 2, 1, bytes(16)), (3, 3, 1, bytes(16)))
        self.assertEqual(self.replay(data), ([1, 2, 3], 0, 0))
        for end in range(64 + 160 + 1, len(data)):
            self.assertEqual(self.replay(data[:end]), ([1, 2], 0, 1), f"cut to {end}")

    def test_a_bad_record_below_what_is_attested_is_damage_and_stepped_over(self):
        data = log_of((3, 1, 0, bytes(16)), (3, 2, 1, bytes(16)), (3, 3, 2, bytes(16)))
        for at in range(64 + 80, 64 + 160):  # header or payload of record 2
            self.assertEqual(self.replay(flip(data, at)), ([1, 3], 1, 0), f"byte {at}")

    def test_a_bad_record_above_what_is_attested_takes_all_behind_it_with_it(self):
        data = log_of((3, 1, 0, bytes(16)), (3, 2, 0, bytes(16)), (3, 3, 0, bytes(16)))
        for at in range(64 + 80, 64 + 160):
            self.assertEqual(self.replay(flip(data, at)), ([1], 0, 1), f"byte {at}")

    def test_what_a_later_log_begins_with_again_is_void(self):
        first = log_of((3, 1, 0, bytes(16)), (3, 2, 0, bytes(16)), (3, 3, 0, bytes(16)))
        second = log_of((3, 2, 1, bytes(16)), first=2, log=2)
        self.assertEqual(self.replay(first, second), ([1, 2], 0, 0))

    def test_the_beginning_of_a_log_attests_what_is_before_it(self):
        first = log_of((3, 1, 0, bytes(16)), (3, 2, 0, bytes(16)))
        bad = flip(first, len(first) - 1)
        self.assertEqual(self.replay(bad), ([1], 0, 1))
        self.assertEqual(self.replay(bad, log_of(first=3, log=2)), ([1], 1, 0))

    def test_bytes_of_an_earlier_use_of_a_log_file_are_no_records(self):
        old = log_of(*((3, seq, seq - 1, bytes(16)) for seq in range(1, 6)), log=9)
        new = log_of((3, 6, 5, bytes(16)), first=6)
        self.assertEqual(self.replay(new + old[len(new) :], flushed=5), ([6], 0, 1))

    def test_a_lost_header_is_damage_and_the_records_count(self):
        data = log_of((3, 1, 0, bytes(16)), (3, 2, 1, bytes(16)))
        self.assertEqual(self.replay(flip(data, 30)), ([1, 2], 1, 0))


class Manifests(unittest.TestCase):
    def test_example(self):
        state = manifest.read_manifest(spec.hex_example("manifest-example"), 1)
        self.assertEqual((state.store_id, state.edit_number, state.next_ids), (STORE, 2, (1, 1, 1, 1)))
        self.assertIsNone(state.torn)

    def test_a_torn_edit_leaves_those_before_it(self):
        data = spec.hex_example("manifest-example")
        for end in range(0x8D + 1, len(data)):
            state = manifest.read_manifest(data[:end], 1)
            self.assertEqual(state.edit_number, 1)
            self.assertIsNotNone(state.torn)

    def test_a_bad_edit_before_a_whole_one_is_damage(self):
        data = spec.hex_example("manifest-example")
        for at in range(0x8D):
            with self.assertRaises((Damage, TooNew), msg=f"byte {at}"):
                manifest.read_manifest(flip(data, at), 1)


class Catalogs(unittest.TestCase):
    def test_example(self):
        self.assertEqual(catalog.Catalog(spec.hex_example("catalog-example"), 2, STORE).definitions, DEFINITIONS)

    def test_any_flipped_bit_of_the_example_is_told(self):
        data = spec.hex_example("catalog-example")
        for at in range(len(data)):
            for bit in range(8):
                with self.assertRaises((Damage, TooNew), msg=f"byte {at}, bit {bit}"):
                    catalog.Catalog(flip(data, at, bit), 2, STORE)

    def test_siphash_of_its_paper(self):
        # Aumasson and Bernstein 2012, appendix A.
        self.assertEqual(catalog.siphash24(bytes(range(16)), bytes(range(15))), 0xA129CA6149BE45E5)


class Segments(unittest.TestCase):
    def test_example(self):
        segment = Segment(spec.hex_example("segment-example"), 1, STORE)
        self.assertEqual(segment_check.check(segment, is_sealed=True), [])
        [section] = segment.sections
        [series] = section.series
        self.assertEqual((section.name, series.id, series.tags), ("m1", 2, [("device_id", "inv1")]))
        pieces = segment.pieces(series.groups[0])
        times = segment.times(series.groups[0], pieces)
        self.assertEqual(times, [1767571200000000000 + 10**10 * index for index in range(64)])
        rows, values, _, _ = segment.decode_field(section.fields[0], 64, *pieces[1][1:])
        self.assertEqual(rows, list(range(64)))
        self.assertEqual(values, [spec.blocks.float_bits(100 + index / 2) for index in range(64)])

    def test_any_flipped_byte_of_the_example_is_told(self):
        data = spec.hex_example("segment-example")
        for at in range(len(data)):
            with self.assertRaises((Damage, TooNew), msg=f"byte {at}"):
                findings = segment_check.check(Segment(flip(data, at, at % 8), 1, STORE))
                if findings:
                    raise Damage(findings[0])


if __name__ == "__main__":
    unittest.main()
