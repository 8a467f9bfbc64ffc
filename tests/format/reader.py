#!/usr/bin/env python3
"""Reads wattlog stores from their files and prints all points as canonical NDJSON (see wattformat/points.py).

    reader.py [--verify] [--forms] [--into FOLDER] STORE...

Needs Python 3.11 or later and nothing else. Without --into the points go to the standard output; with it those of each
store go to FOLDER/<name of the store>.ndjson. What was found goes to the standard error: `note` (torn tails, orphans: a
crash leaves them in good order), `damage` (the points are then what is left of them), `wrong` (with --verify: something
a writer must not do).
With --forms it ends with `form NAME COUNT` lines: how many blocks of each form were decoded.
Exit status: 0 whole, 1 damage or something wrong, 2 a store that cannot be read at all.
"""

import argparse
import pathlib
import sys

from wattformat import points, store_check
from wattformat.binary import Damage, TooNew
from wattformat.blocks import SEEN
from wattformat.store import Store


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--forms", action="store_true")
    parser.add_argument("--into", type=pathlib.Path)
    parser.add_argument("store", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    status = max([read(store, arguments) for store in arguments.store])
    for form, count in sorted(SEEN.items()) if arguments.forms else ():
        print(f"form {form} {count}", file=sys.stderr)
    sys.exit(status)


def read(folder, arguments):
    try:
        store = Store(folder)
        found = list(points.lines(store.points()))
        wrong = store_check.check(store) if arguments.verify else []
    except (Damage, TooNew, OSError) as error:
        print(f"{folder}: refused: {type(error).__name__}: {error}", file=sys.stderr)
        return 2
    for kind, texts in (("note", store.notes), ("damage", store.damage), ("wrong", wrong)):
        for text in texts:
            print(f"{folder}: {kind}: {text}", file=sys.stderr)
    text = "".join(f"{line}\n" for line in found)
    if arguments.into:
        (arguments.into / f"{folder.name}.ndjson").write_text(text, encoding="utf-8")
    else:
        sys.stdout.buffer.write(text.encode())
    return 1 if store.damage or wrong else 0


if __name__ == "__main__":
    main()
