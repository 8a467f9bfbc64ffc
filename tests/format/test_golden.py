"""Golden stores of every format version: verified, and their points as they were (tests/golden/README.md)."""

import pathlib
import unittest

from wattformat import points, store_check
from wattformat.store import Store

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden"


class Golden(unittest.TestCase):
    def test_every_golden_store_is_whole_and_holds_its_points(self):
        stores = sorted(GOLDEN.glob("*/*/store"))
        self.assertGreaterEqual(len(stores), 4)
        for folder in stores:
            with self.subTest(str(folder.relative_to(GOLDEN))):
                store = Store(folder)
                found = "".join(f"{line}\n" for line in points.lines(store.points()))
                self.assertEqual(found, (folder.parent / "points.ndjson").read_text(encoding="utf-8"))
                self.assertEqual(store.damage, [])
                self.assertEqual(store_check.check(store), [])


if __name__ == "__main__":
    unittest.main()
