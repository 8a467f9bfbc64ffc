"""The vectors and worked examples of section 6 of format-spec.md."""

import unittest

import spec
from wattformat import blocks
from wattformat.binary import Cursor, Damage
from wattformat.zstd import xxh64


def decode(codec, data, count):
    if codec == "presence":
        return blocks.presence(data, count)
    return blocks.decode(spec.KINDS[codec], data, count)


class Vectors(unittest.TestCase):
    def test_every_vector_decodes_to_its_values(self):
        vectors = spec.vectors("vector")
        self.assertGreater(len(vectors), 40)
        for name, codec, count, lines in vectors:
            with self.subTest(name):
                data = bytes.fromhex(lines["bytes"])
                values = spec.values_of(codec, lines["values"])
                if codec != "presence":
                    self.assertEqual(len(values), count)
                self.assertEqual(decode(codec, data, count), values)
                for end in range(len(data)):
                    with self.assertRaises(Damage, msg=f"cut to {end} bytes"):
                        decode(codec, data[:end], count)

    def test_every_refused_block_is_refused(self):
        refused = spec.vectors("refused")
        self.assertGreater(len(refused), 20)
        for name, codec, count, lines in refused:
            with self.subTest(name), self.assertRaises(Damage):
                decode(codec, bytes.fromhex(lines["bytes"]), count)

    def test_worked_example_of_mini_blocks(self):
        cursor = Cursor(bytes.fromhex("83 06 21 50 30 03 ca 07"), "example")
        self.assertEqual(blocks.read_stream(cursor, 5), [3, 5, 4, 1000, 6])
        cursor.finish()

    def test_worked_example_of_line(self):
        times = blocks.decode("times", bytes.fromhex("06 0a 80 eb e3 a9 01 02 00 00"), 300)
        self.assertEqual(times, [1780272000000000000 + 10**10 * index for index in range(300)])


class Zstd(unittest.TestCase):
    def test_checksum_of_known_texts(self):
        # From the documentation of xxHash: XXH64 with seed 0.
        self.assertEqual(xxh64(b""), 0xEF46DB3751D8E999)
        self.assertEqual(xxh64(b"abc"), 0x44BC2CF5AD770999)


if __name__ == "__main__":
    unittest.main()
